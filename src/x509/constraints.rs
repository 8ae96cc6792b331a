//! Name constraints (RFC 5280, section 4.2.1.10): which names a CA may vouch for.
//!
//! Where RFC 5280 leaves a way open, what is permitted is read narrowly and what is excluded broadly. A name that cannot be
//! compared with a constraint on names of its form is refused.

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::RelativeDistinguishedName;

use super::name::{self, DistinguishedName};
use super::{Certificate, PathError};

/// `nameConstraints` of a CA.
#[derive(Clone)]
pub(super) struct Constraints {
    permitted: Vec<GeneralName>,
    excluded: Vec<GeneralName>,
}

impl Constraints {
    pub(super) fn read(constraints: NameConstraints) -> Result<Self, &'static str> {
        let bases = |trees: Option<Vec<GeneralSubtree>>| match trees {
            None => Ok(Vec::new()),
            Some(trees) if trees.is_empty() => Err("a list of names is empty"),
            Some(trees) => trees.into_iter().map(base).collect::<Result<Vec<_>, _>>(),
        };
        let read =
            Self { permitted: bases(constraints.permitted_subtrees)?, excluded: bases(constraints.excluded_subtrees)? };
        if read.permitted.is_empty() && read.excluded.is_empty() { Err("it constrains nothing") } else { Ok(read) }
    }

    fn check(&self, name: &GeneralName) -> Result<(), &'static str> {
        for excluded in &self.excluded {
            if covers(excluded, name, Reading::Broad)? == Some(true) {
                return Err("names like it are excluded");
            }
        }
        let mut constrained = false;
        for permitted in &self.permitted {
            match covers(permitted, name, Reading::Narrow)? {
                Some(true) => return Ok(()),
                Some(false) => constrained = true,
                None => {}
            }
        }
        if constrained { Err("it is not among the permitted names") } else { Ok(()) }
    }
}

fn base(tree: GeneralSubtree) -> Result<GeneralName, &'static str> {
    if tree.minimum != 0 || tree.maximum.is_some() {
        return Err("it counts distances from a name");
    }
    if let GeneralName::IpAddress(range) = &tree.base {
        let range = range.as_bytes();
        let (_, mask) = range.split_at(range.len() / 2);
        let mut bits = mask.iter().flat_map(|byte| (0..8).map(move |bit| byte & (0x80 >> bit) != 0));
        let is_prefix = bits.by_ref().find(|bit| !bit).is_none_or(|_| bits.all(|bit| !bit));
        if ![8, 32].contains(&range.len()) || !is_prefix {
            return Err("a range of IP addresses is none");
        }
    }
    // A host that no name can have would exclude nothing, in silence.
    let fault = match &tree.base {
        GeneralName::DnsName(host) | GeneralName::UniformResourceIdentifier(host) => !is_domain(host.as_str()),
        GeneralName::Rfc822Name(address) => match address.as_str().rsplit_once('@') {
            Some((local, host)) => local.is_empty() || plain_host(host).is_none(),
            None => !is_domain(address.as_str()),
        },
        _ => false,
    };
    if fault { Err("a host in it is none") } else { Ok(tree.base) }
}

/// Checks the names of `below`, a certificate somewhere under `issuer`.
pub(super) fn check(issuer: &Certificate, below: &Certificate) -> Result<(), PathError> {
    let Some(constraints) = &issuer.extensions.constraints else { return Ok(()) };
    let check = |name: &GeneralName| {
        constraints.check(name).map_err(|why| PathError::NameConstraint {
            issuer: issuer.subject(),
            certificate: below.subject(),
            name: name::subject_name(name).map_or_else(|_| String::new(), |name| name.to_string()),
            why,
        })
    };
    if !below.subject.name.is_empty() {
        check(&GeneralName::DirectoryName(below.subject.name.clone()))?;
        for address in addresses(&below.subject) {
            check(&address)?;
        }
    }
    below.extensions.general_names.iter().try_for_each(check)
}

/// E-mail addresses in a distinguished name: the old place for them.
fn addresses(subject: &DistinguishedName) -> Vec<GeneralName> {
    let is_address = |attribute: &&AttributeTypeAndValue| attribute.oid.to_string() == "1.2.840.113549.1.9.1";
    let attributes = subject.name.0.iter().flat_map(|part| part.0.iter()).filter(is_address);
    // What is not of the type that an address has becomes one that fits no constraint.
    attributes
        .filter_map(|attribute| {
            let text = name::string(attribute).unwrap_or("?");
            let text = if text.is_ascii() { text } else { "?" };
            der::asn1::Ia5String::new(text).ok().map(GeneralName::Rfc822Name)
        })
        .collect()
}

/// How doubtful cases are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Narrow,
    Broad,
}

/// Whether `name` lies under `constraint`; `None` if they are of different forms.
fn covers(constraint: &GeneralName, name: &GeneralName, reading: Reading) -> Result<Option<bool>, &'static str> {
    Ok(Some(match (constraint, name) {
        (GeneralName::DnsName(constraint), GeneralName::DnsName(name)) => {
            let host = plain_host(name.as_str()).ok_or("it is no plain host name, and host names are constrained")?;
            let constraint = constraint.as_str().to_ascii_lowercase();
            match constraint.strip_prefix('.') {
                Some(domain) if reading == Reading::Narrow => is_below(&host, domain),
                domain => {
                    let domain = domain.unwrap_or(&constraint);
                    domain.is_empty() || host == domain || is_below(&host, domain)
                }
            }
        }
        (GeneralName::Rfc822Name(constraint), GeneralName::Rfc822Name(name)) => {
            let doubtful = "it is no plain address, and addresses are constrained";
            let (local, host) = name.as_str().split_once('@').ok_or(doubtful)?;
            let host = plain_host(host).ok_or(doubtful)?;
            match constraint.as_str().rsplit_once('@') {
                None => host_is(&host, constraint.as_str(), reading),
                Some((wanted, domain)) => {
                    let same = match reading {
                        Reading::Narrow => wanted == local,
                        Reading::Broad => wanted.eq_ignore_ascii_case(local),
                    };
                    same && domain.eq_ignore_ascii_case(&host)
                }
            }
        }
        (GeneralName::UniformResourceIdentifier(constraint), GeneralName::UniformResourceIdentifier(name)) => {
            let host = host_of(name.as_str()).ok_or("it is no URI with a host name, and URIs are constrained")?;
            host_is(&host, constraint.as_str(), reading)
        }
        (GeneralName::IpAddress(range), GeneralName::IpAddress(address)) => {
            let (base, mask) = range.as_bytes().split_at(range.as_bytes().len() / 2);
            let address = address.as_bytes();
            let masked = |(address, (base, mask)): (&u8, (&u8, &u8))| address & mask == base & mask;
            address.len() == base.len() && address.iter().zip(base.iter().zip(mask)).all(masked)
        }
        (GeneralName::DirectoryName(constraint), GeneralName::DirectoryName(name)) => {
            constraint.0.len() <= name.0.len()
                && constraint.0.iter().zip(&name.0).all(|(wanted, part)| same_part(wanted, part, reading))
        }
        // A constraint of a form that is not processed: a name of that form cannot be judged.
        (GeneralName::OtherName(_), GeneralName::OtherName(_))
        | (GeneralName::EdiPartyName(_), GeneralName::EdiPartyName(_))
        | (GeneralName::RegisteredId(_), GeneralName::RegisteredId(_)) => {
            return Err("constraints on names of its form are not processed here");
        }
        _ => return Ok(None),
    }))
}

/// In e-mail addresses and URIs a host stands for itself, and with a dot before it for all below it.
fn host_is(host: &str, constraint: &str, reading: Reading) -> bool {
    let constraint = constraint.to_ascii_lowercase();
    match constraint.strip_prefix('.') {
        Some(domain) => is_below(host, domain) || reading == Reading::Broad && host == domain,
        None => host == constraint || reading == Reading::Broad && constraint.is_empty(),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    domain.is_empty() || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// A host, a dot and a host, or nothing, which stands for all.
fn is_domain(constraint: &str) -> bool {
    let host = constraint.strip_prefix('.').unwrap_or(constraint);
    host.is_empty() || plain_host(host).is_some()
}

/// In lower case, if it has no wildcard, no empty label and nothing else that hosts do not have.
fn plain_host(host: &str) -> Option<String> {
    let plain = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let labels = |label: &str| !label.is_empty() && label.chars().all(plain);
    host.split('.').all(labels).then(|| host.to_ascii_lowercase())
}

/// The host of `scheme://user@host:port/..`. An address in its place is none (RFC 5280 wants it refused).
fn host_of(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.split_once(':') {
        Some((host, port)) if port.chars().all(|char| char.is_ascii_digit()) => host,
        Some(_) => return None,
        None => host,
    };
    let numeric = host.rsplit('.').next().is_some_and(|label| label.starts_with(|char: char| char.is_ascii_digit()));
    if numeric { None } else { plain_host(host) }
}

fn same_part(wanted: &RelativeDistinguishedName, part: &RelativeDistinguishedName, reading: Reading) -> bool {
    match reading {
        Reading::Narrow => wanted == part,
        Reading::Broad => {
            // Every attribute that is excluded is there.
            wanted.0.iter().all(|wanted| part.0.iter().any(|attribute| same_attribute(wanted, attribute)))
        }
    }
}

/// Without regard to case, kind of string and runs of spaces (RFC 5280, section 7.1).
fn same_attribute(one: &AttributeTypeAndValue, other: &AttributeTypeAndValue) -> bool {
    let folded = |attribute| {
        name::string(attribute).map(|text| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    one.oid == other.oid
        && match (folded(one), folded(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one.value == other.value,
        }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use der::asn1::{Ia5String, OctetString};
    use x509_cert::name::Name;

    use super::*;

    fn text(form: &str, text: &str) -> GeneralName {
        let ia5 = || Ia5String::new(text).unwrap();
        match form {
            "dns" => GeneralName::DnsName(ia5()),
            "email" => GeneralName::Rfc822Name(ia5()),
            "uri" => GeneralName::UniformResourceIdentifier(ia5()),
            "ip" => GeneralName::IpAddress(
                OctetString::new(text.split('.').map(|n| n.parse().unwrap()).collect::<Vec<u8>>()).unwrap(),
            ),
            _ => GeneralName::DirectoryName(Name::from_str(text).unwrap()),
        }
    }

    #[test]
    fn names_lie_under_constraints_or_not() {
        // Form, constraint, name; whether it is permitted by it, whether excluded by it. `x`: cannot be compared.
        for line in "
            dns   example.com         example.com            1 1
            dns   example.com         EXAMPLE.com            1 1
            dns   example.com         a.example.com          1 1
            dns   example.com         anexample.com          0 0
            dns   .example.com        example.com            0 1
            dns   .example.com        a.b.example.com        1 1
            dns   example.com         *.example.com          x x
            dns   example.com         example.com.           x x
            dns   example.com         a..example.com         x x
            email example.com         a@example.com          1 1
            email example.com         a@b.example.com        0 0
            email .example.com        a@b.example.com        1 1
            email .example.com        a@example.com          0 1
            email me@example.com      me@EXAMPLE.com         1 1
            email me@example.com      Me@example.com         0 1
            email me@example.com      you@example.com        0 0
            email example.com         example.com            x x
            email example.com         a@b@example.com        x x
            uri   example.com         https://example.com/x  1 1
            uri   example.com         https://u:p@example.com:1/ 1 1
            uri   example.com         https://a.example.com  0 0
            uri   .example.com        https://a.example.com? 1 1
            uri   example.com         https://evil/@example.com 0 0
            uri   example.com         https://evil\\@example.com 0 0
            uri   example.com         https://10.0.0.1/      x x
            uri   example.com         https://[::1]/         x x
            uri   example.com         urn:example.com        x x
            ip    10.0.0.0.255.0.0.0  10.1.2.3               1 1
            ip    10.0.0.0.255.0.0.0  11.1.2.3               0 0
            dir   C=US                CN=a,C=US              1 1
            dir   O=One,C=US          CN=a,O=One,C=US        1 1
            dir   O=One,C=US          CN=a,O=ONE,C=US        0 1
            dir   O=One,C=US          C=US                   0 0
            dir   O=One               CN=a,O=One+OU=b        0 1
            dns   example.com         10.0.0.1|ip            - -
        "
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        {
            let [form, constraint, name, permitted, excluded]: [&str; 5] =
                line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let (name, name_form) = name.split_once('|').unwrap_or((name, form));
            for (reading, wanted) in [(Reading::Narrow, permitted), (Reading::Broad, excluded)] {
                let found = match covers(&text(form, constraint), &text(name_form, name), reading) {
                    Err(_) => "x",
                    Ok(None) => "-",
                    Ok(Some(true)) => "1",
                    Ok(Some(false)) => "0",
                };
                assert_eq!(found, wanted, "{line}");
            }
        }
    }
}
