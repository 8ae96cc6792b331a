//! From the text of a policy to a [`Policy`], or to what is wrong with it and where.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use toml::Spanned;
use toml::value::{Datetime, Offset};

use super::error::{PolicyError, PolicyFault, Position, RuleName};
use super::pattern::Pattern;
use super::signer::{Checks, Kind, Signer, Stamped};
use super::wire::{List, WireCertificate, WireDeny, WirePolicy, WireRequire, WireRule, WireSigner, WireSigstore};
use super::{Deny, Policy, PolicyWarning, Require, RequiredDevice, RequiredDigests, Rule, Signers};
use crate::digest::{Algorithm, Digest, hex};
use crate::error::quoted;
use crate::input::{open_regular, read_bounded};
use crate::key::PublicKey;
use crate::time::{UnixTime, days_from_civil};
#[cfg(feature = "sigstore-verify")]
use crate::timestamp::TimestampAuthorities;
#[cfg(feature = "sigstore-verify")]
use crate::trust::{TrustError, TrustRoot};
use crate::verify::{CertificateVerifier, EmptyName, JudgedAt, KeyVerifier, RequiredName};
#[cfg(feature = "sigstore-verify")]
use crate::verify::{NamePattern, SigstoreVerifier};
use crate::x509::{Certificate, EkuRule};

/// The longest policy, and the longest file that one names, in bytes.
const LONGEST: u64 = 1 << 20;

/// A policy's text while it is read.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where its lines end. Each rule and signer remembers its line: counting from the top for each would be quadratic.
    ends: Vec<usize>,
    path: Option<&'a Path>,
    /// What paths of files are relative to.
    base: &'a Path,
    warnings: Vec<PolicyWarning>,
    /// Fingerprints of certificates that the policy denies.
    denied: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, path: Option<&'a Path>, base: &'a Path, warnings: Vec<PolicyWarning>) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { text, ends, path, base, warnings, denied: Vec::new() }
    }

    pub(super) fn policy(mut self) -> Result<Policy, PolicyError> {
        let wire: WirePolicy = toml::from_str(self.text).map_err(|error| {
            let fault = PolicyFault::Toml(error.message().to_owned());
            self.error_at(error.span().map(|span| span.start), fault)
        })?;
        if *wire.version.get_ref() != 1 {
            return Err(self.error(&wire.version, PolicyFault::Version(*wire.version.get_ref())));
        }
        let deny = wire.deny.map(|deny| self.deny(&deny)).transpose()?.unwrap_or_default();
        self.denied.clone_from(&deny.certificates);
        let mut signers = Vec::new();
        for (name, signer) in wire.signers {
            signers.push(self.signer(&name, signer)?);
        }
        if wire.rule.is_empty() {
            let fault = PolicyFault::Empty { what: "the list of rules", remedy: "write at least one [[rule]]" };
            return Err(self.error_at(None, fault));
        }
        let mut rules = Vec::new();
        for (number, rule) in (1..).zip(&wire.rule) {
            rules.push(self.rule(number, rule, &signers)?);
        }
        let receipts = wire.receipts.map(|receipts| self.receipts(&receipts)).transpose()?;
        let named: BTreeSet<usize> = rules.iter().flat_map(|rule: &Rule| rule.signers.list().iter().copied()).collect();
        for (_, signer) in signers.iter().enumerate().filter(|(i, _)| !named.contains(i)) {
            self.warnings.push(PolicyWarning::UnusedSigner { name: signer.name.clone(), line: signer.line });
        }
        let (path, sha256) = (self.path.map(Path::to_owned), hex(&Sha256::digest(self.text)));
        Ok(Policy { path, sha256, signers, deny, receipts, rules, warnings: self.warnings })
    }

    fn error_at(&self, at: Option<usize>, fault: PolicyFault) -> PolicyError {
        PolicyError { path: self.path.map(Path::to_owned), at: at.map(|at| self.position(at)), fault }
    }

    pub(super) fn error<T>(&self, at: &Spanned<T>, fault: PolicyFault) -> PolicyError {
        self.error_at(Some(at.span().start), fault)
    }

    /// Where a byte of the text lies.
    fn position(&self, at: usize) -> Position {
        let before = self.text.get(..at).unwrap_or(self.text);
        let lines = self.ends.partition_point(|&end| end < before.len());
        let begin = lines.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |end| end + 1);
        let column = before.get(begin..).unwrap_or_default().chars().count() + 1;
        Position { line: lines + 1, column }
    }

    fn signer(&mut self, name: &Spanned<String>, wire: WireSigner) -> Result<Signer, PolicyError> {
        let text = name.get_ref();
        if text.is_empty() {
            let fault = PolicyFault::Empty { what: "a signer's name", remedy: "give each signer a name" };
            return Err(self.error(name, fault));
        }
        let WireSigner { key, certificate, sigstore } = wire;
        let (kind, verifier) = match (key, certificate, sigstore) {
            (Some(key), None, None) => self.key(&key)?,
            (None, Some(certificate), None) => self.certificate(&certificate)?,
            (None, None, Some(sigstore)) => self.sigstore(text, &sigstore)?,
            (key, certificate, sigstore) => {
                let count =
                    [key.is_some(), certificate.is_some(), sigstore.is_some()].into_iter().filter(|is| *is).count();
                return Err(self.error(name, PolicyFault::Kinds { name: text.clone(), count }));
            }
        };
        Ok(Signer { name: text.clone(), line: self.position(name.span().start).line, kind, verifier })
    }

    fn key(&mut self, key: &Spanned<String>) -> Result<(Kind, Arc<Checks>), PolicyError> {
        let public = self.public_key(key)?;
        Ok((Kind::Key(public.clone()), Arc::new(KeyVerifier::new(public))))
    }

    /// A public key: its PEM text, or its file.
    pub(super) fn public_key(&mut self, key: &Spanned<String>) -> Result<PublicKey, PolicyError> {
        let text = key.get_ref();
        let (pem, path) = if text.contains("-----BEGIN") {
            (text.clone().into_bytes(), "in the policy".to_owned())
        } else {
            (self.file(key)?, format!("{text:?}"))
        };
        PublicKey::from_pem(&pem).map_err(|source| self.error(key, PolicyFault::Key { path, source }))
    }

    fn certificate(&mut self, wire: &Spanned<WireCertificate>) -> Result<(Kind, Arc<Checks>), PolicyError> {
        let WireCertificate { roots, identity, any_identity, allow_eku, at, tsa } = wire.get_ref();
        let trusted = self.certificates(roots, "roots")?;
        let root = trusted.iter().find(|certificate| certificate.is_self_issued());
        let under = root.map_or_else(|| trusted[0].fingerprint(), Certificate::fingerprint);
        // A denied certificate must not be a link of a chain either. The root's own name in the verdict is looked at later.
        let links = trusted.into_iter().filter(|of| of.is_self_issued() || !self.denied.contains(&of.fingerprint()));
        let mut verifier = CertificateVerifier::new(links.collect());
        let whose = match (identity, any_identity) {
            (Some(name), false) => {
                let required: RequiredName = name
                    .get_ref()
                    .parse()
                    .map_err(|error: EmptyName| self.error(name, PolicyFault::Signer(error.to_string())))?;
                let whose = quoted(&required.to_string());
                verifier = verifier.with_names(vec![required]);
                whose
            }
            (None, true) => "anybody".to_owned(),
            _ => {
                let what = "the certificate".to_owned();
                let fault = PolicyFault::OneOf { what, first: "identity", second: "any_identity = true" };
                return Err(self.error(wire, fault));
            }
        };
        if *allow_eku {
            verifier = verifier.with_eku(EkuRule::Any);
        }
        let mut stamped = false;
        match at.as_ref().map(|at| (at, at.get_ref().as_str(), tsa.is_some())) {
            None | Some((_, "now", false)) => {}
            Some((_, "timestamp", true)) => stamped = true,
            Some((_, "not-before", false)) => verifier = verifier.judged_at(JudgedAt::NotBefore),
            Some((at, "timestamp", false)) => {
                let why = "at = \"timestamp\" needs tsa, the certificates of the authorities whose timestamps count";
                return Err(self.error(at, PolicyFault::Contradiction(why)));
            }
            Some((at, "now" | "not-before", true)) => {
                let why = "with this choice of at, timestamps are not looked at: leave tsa out, or at";
                return Err(self.error(at, PolicyFault::Contradiction(why)));
            }
            Some((at, _, _)) => {
                let (found, known) = (at.get_ref().clone(), "\"now\", \"timestamp\" and \"not-before\"");
                return Err(self.error(at, PolicyFault::Unknown { what: "the time", found, known }));
            }
        }
        if let Some(tsa) = tsa {
            verifier = self.authorities(verifier, tsa)?;
        }
        let kind = Kind::Other(format!("certificate of {whose} under root {under}"));
        Ok((kind, if stamped { Arc::new(Stamped(verifier)) } else { Arc::new(verifier) }))
    }

    #[cfg(feature = "sigstore-verify")]
    fn authorities(&mut self, verifier: CertificateVerifier, tsa: &List) -> Result<CertificateVerifier, PolicyError> {
        let authorities = TimestampAuthorities::new(&self.certificates(tsa, "tsa")?);
        let authorities = authorities.map_err(|error| self.error(tsa, PolicyFault::Signer(error.to_string())))?;
        Ok(verifier.with_timestamp_authorities(authorities))
    }

    #[cfg(not(feature = "sigstore-verify"))]
    fn authorities(&mut self, _: CertificateVerifier, tsa: &List) -> Result<CertificateVerifier, PolicyError> {
        let fault = PolicyFault::NotCompiled { what: "verify timestamps", feature: "sigstore-verify" };
        Err(self.error(tsa, fault))
    }

    /// The certificates of all files of a list.
    fn certificates(&mut self, list: &List, what: &'static str) -> Result<Vec<Certificate>, PolicyError> {
        let mut all = Vec::new();
        for name in self.list(list, what)? {
            let pem = self.file(name)?;
            let read = Certificate::all_from_pem(&pem);
            let fault = |fault| PolicyFault::Signer(format!("certificates {:?}: {fault}", name.get_ref()));
            all.extend(read.map_err(|error| self.error(name, fault(error)))?);
        }
        if all.is_empty() {
            let fault = PolicyFault::Empty { what, remedy: "name a file that holds certificates" };
            return Err(self.error(list, fault));
        }
        Ok(all)
    }

    #[cfg(feature = "sigstore-verify")]
    fn sigstore(&mut self, name: &str, wire: &Spanned<WireSigstore>) -> Result<(Kind, Arc<Checks>), PolicyError> {
        let WireSigstore { identity, identity_regex, issuer, issuer_regex, trust } = wire.get_ref();
        let pattern =
            |exact: &Option<Spanned<String>>, regex: &Option<Spanned<String>>, names: [&'static str; 2]| match (
                exact, regex,
            ) {
                (Some(exact), None) if exact.get_ref().is_empty() => {
                    Err(self.error(exact, PolicyFault::Empty { what: names[0], remedy: "nobody has an empty name" }))
                }
                (Some(exact), None) => Ok((NamePattern::Exact(exact.get_ref().clone()), quoted(exact.get_ref()))),
                (None, Some(regex)) => match NamePattern::regex(regex.get_ref()) {
                    Ok(pattern) => Ok((pattern, format!("{} (regex)", quoted(regex.get_ref())))),
                    Err(error) => Err(self.error(regex, PolicyFault::Signer(error.to_string()))),
                },
                _ => {
                    let what = format!("the signer {}", quoted(name));
                    Err(self.error(wire, PolicyFault::OneOf { what, first: names[0], second: names[1] }))
                }
            };
        let (identity, who) = pattern(identity, identity_regex, ["identity", "identity_regex"])?;
        let (issuer, by) = pattern(issuer, issuer_regex, ["issuer", "issuer_regex"])?;
        let root = match trust.as_ref().map(|trust| (trust, trust.get_ref().as_str())) {
            None | Some((_, "public-good")) => TrustRoot::public_good(),
            Some((_, "staging")) => TrustRoot::staging(),
            Some((trust, file)) => {
                // For its warning, and for errors of reading like those of other files.
                self.file(trust)?;
                TrustRoot::read(&self.base.join(file))
            }
        };
        let verifier = root.and_then(|root| SigstoreVerifier::new(&root, identity, issuer));
        let fault = |error: TrustError| PolicyFault::Signer(error.to_string());
        let verifier = verifier.map_err(|error| match trust {
            Some(trust) => self.error(trust, fault(error)),
            None => self.error(wire, fault(error)),
        })?;
        let from = trust.as_ref().map_or("public-good", |trust| trust.get_ref().as_str());
        Ok((Kind::Other(format!("sigstore {who}, issuer {by}, trust {}", quoted(from))), Arc::new(verifier)))
    }

    #[cfg(not(feature = "sigstore-verify"))]
    fn sigstore(&mut self, _: &str, wire: &Spanned<WireSigstore>) -> Result<(Kind, Arc<Checks>), PolicyError> {
        let fault = PolicyFault::NotCompiled { what: "verify Sigstore signatures", feature: "sigstore-verify" };
        Err(self.error(wire, fault))
    }

    /// The bytes of a file that the policy names, relative to the policy's own folder.
    pub(super) fn file(&mut self, name: &Spanned<String>) -> Result<Vec<u8>, PolicyError> {
        if name.get_ref().is_empty() {
            return Err(self.error(name, PolicyFault::Empty { what: "a file's path", remedy: "name the file" }));
        }
        let path = self.base.join(name.get_ref());
        let read = read_file(&path, &mut self.warnings);
        read.map_err(|source| self.error(name, PolicyFault::File { path, source }))
    }

    /// The elements of a list, which must have some, each once.
    pub(super) fn list<'l>(&self, list: &'l List, what: &'static str) -> Result<&'l [Spanned<String>], PolicyError> {
        let all = list.get_ref();
        if all.is_empty() {
            return Err(
                self.error(list, PolicyFault::Empty { what, remedy: "name at least one, or leave the list out" })
            );
        }
        let mut seen = BTreeSet::new();
        for element in all {
            if !seen.insert(element.get_ref()) {
                return Err(self.error(element, PolicyFault::Twice(element.get_ref().clone())));
            }
        }
        Ok(all)
    }

    fn deny(&self, wire: &Spanned<WireDeny>) -> Result<Deny, PolicyError> {
        let WireDeny { keys, certificates, identities, roots } = wire.get_ref();
        if [keys, certificates, identities, roots].into_iter().all(Option::is_none) {
            let remedy = "deny keys, certificates, identities or roots, or leave the table out";
            return Err(self.error(wire, PolicyFault::Empty { what: "deny", remedy }));
        }
        let fingerprints = |list: &Option<List>, what, kind| -> Result<Vec<String>, PolicyError> {
            let Some(list) = list else { return Ok(Vec::new()) };
            let one = |text: &Spanned<String>| {
                let found = || PolicyFault::Digest { what: kind, found: text.get_ref().clone() };
                fingerprint(text.get_ref()).ok_or_else(|| self.error(text, found()))
            };
            self.list(list, what)?.iter().map(one).collect()
        };
        let mut denied = Vec::new();
        if let Some(list) = identities {
            for identity in self.list(list, "deny.identities")? {
                if identity.get_ref().is_empty() {
                    let fault = PolicyFault::Empty { what: "an identity", remedy: "write whom to deny" };
                    return Err(self.error(identity, fault));
                }
                denied.push(identity.get_ref().clone());
            }
        }
        Ok(Deny {
            keys: fingerprints(keys, "deny.keys", "fingerprint of a key")?,
            certificates: fingerprints(certificates, "deny.certificates", "fingerprint of a certificate")?,
            identities: denied,
            roots: roots.as_ref().map(|list| self.roots(list, "deny.roots")).transpose()?.unwrap_or_default(),
        })
    }

    fn roots(&self, list: &List, what: &'static str) -> Result<Vec<Digest>, PolicyError> {
        let one = |text: &Spanned<String>| {
            let hex = text.get_ref().strip_prefix("sha256:");
            hex.and_then(|hex| Digest::from_hex(Algorithm::Sha256, hex)).ok_or_else(|| {
                self.error(text, PolicyFault::Digest { what: "root digest", found: text.get_ref().clone() })
            })
        };
        self.list(list, what)?.iter().map(one).collect()
    }

    fn rule(&self, number: usize, wire: &Spanned<WireRule>, signers: &[Signer]) -> Result<Rule, PolicyError> {
        let WireRule { path, any_of, all_of, roots, signed_after, require } = wire.get_ref();
        let text = path.get_ref();
        let fault = |fault| self.error(path, PolicyFault::Path { path: text.clone(), fault });
        let pattern = Pattern::parse(text).map_err(fault)?;
        if let Some((link, target)) = pattern.through_link() {
            return Err(self.error(path, PolicyFault::Link { link, target }));
        }
        let signers = match (any_of, all_of) {
            (Some(list), None) => Signers::Any(self.named(list, "any_of", signers)?),
            (None, Some(list)) => {
                let named = self.named(list, "all_of", signers)?;
                self.distinct(list, &named, signers)?;
                Signers::All(named)
            }
            _ => {
                let fault = PolicyFault::OneOf { what: format!("rule {number}"), first: "any_of", second: "all_of" };
                return Err(self.error(wire, fault));
            }
        };
        let name = RuleName { number, line: self.position(wire.span().start).line, path: text.clone() };
        Ok(Rule {
            name,
            pattern,
            signers,
            roots: roots.as_ref().map(|list| self.roots(list, "roots")).transpose()?,
            signed_after: signed_after.as_ref().map(|at| self.moment(at)).transpose()?,
            require: require.as_ref().map(|require| self.require(require)).transpose()?.unwrap_or_default(),
        })
    }

    fn named(&self, list: &List, what: &'static str, signers: &[Signer]) -> Result<Vec<usize>, PolicyError> {
        let one = |name: &Spanned<String>| {
            signers.iter().position(|signer| signer.name == *name.get_ref()).ok_or_else(|| {
                let known = signers.iter().map(|signer| signer.name.clone()).collect();
                self.error(name, PolicyFault::UnknownSigner { name: name.get_ref().clone(), known })
            })
        };
        self.list(list, what)?.iter().map(one).collect()
    }

    /// One key under two names can never be two signers.
    fn distinct(&self, list: &List, named: &[usize], signers: &[Signer]) -> Result<(), PolicyError> {
        for (i, &second) in named.iter().enumerate() {
            if let Some(&first) = named[..i].iter().find(|&&first| signers[first].same_key(&signers[second])) {
                let (first, second) = (signers[first].name.clone(), signers[second].name.clone());
                return Err(self.error(list, PolicyFault::SameKey { first, second }));
            }
        }
        Ok(())
    }

    fn moment(&self, at: &Spanned<Datetime>) -> Result<UnixTime, PolicyError> {
        moment(at.get_ref()).ok_or_else(|| self.error(at, PolicyFault::Time(at.get_ref().to_string())))
    }

    fn require(&self, wire: &Spanned<WireRequire>) -> Result<Require, PolicyError> {
        let WireRequire { strict, digests, device, timestamp } = wire.get_ref();
        let unknown = |at: &Spanned<String>, what, known| {
            self.error(at, PolicyFault::Unknown { what, found: at.get_ref().clone(), known })
        };
        let mut digests = match digests {
            None => None,
            Some(text) => Some(match text.get_ref().as_str() {
                "oms" => RequiredDigests::Oms,
                "blake3" => RequiredDigests::Blake3,
                "all" => RequiredDigests::All,
                _ => return Err(unknown(text, "the choice of digests", "\"oms\", \"blake3\" and \"all\"")),
            }),
        };
        let device = match device {
            None => None,
            Some(text) => Some(match text.get_ref().as_str() {
                "cpu" => RequiredDevice::Cpu,
                "cuda" => RequiredDevice::Cuda,
                "wgpu" => RequiredDevice::Wgpu,
                _ => return Err(unknown(text, "the device", "\"cpu\", \"cuda\" and \"wgpu\"")),
            }),
        };
        if matches!(device, Some(RequiredDevice::Cuda | RequiredDevice::Wgpu)) {
            if digests == Some(RequiredDigests::Oms) {
                let why =
                    "a GPU computes BLAKE3 and no other digest, so with a device the digests are \"blake3\" or \"all\"";
                return Err(self.error(wire, PolicyFault::Contradiction(why)));
            }
            // Otherwise the device would have nothing to do, and the check would be none.
            digests = digests.or(Some(RequiredDigests::Blake3));
        }
        Ok(Require { strict: *strict, digests, device, timestamp: *timestamp })
    }
}

/// A fingerprint in any of the forms that `sha256sum`, this program and `openssl x509 -fingerprint` print.
fn fingerprint(text: &str) -> Option<String> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    let plain = if text.len() == 95 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':') {
        text.replace(':', "")
    } else {
        text.to_owned()
    };
    Digest::from_hex(Algorithm::Sha256, &plain).map(|digest| digest.to_hex())
}

/// TOML's parser has checked that the day exists.
fn moment(at: &Datetime) -> Option<UnixTime> {
    let (date, time, offset) = (at.date?, at.time?, at.offset?);
    let second = time.second.unwrap_or(0);
    // A fraction, or a leap second, is nothing that a trusted time could be compared with.
    if time.nanosecond.unwrap_or(0) != 0 || second > 59 {
        return None;
    }
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(second);
    Some(UnixTime(days * 86_400 + of_day - minutes * 60))
}

/// Reads a file that decides whom to trust, and warns if others may write to it.
pub(super) fn read_file(path: &Path, warnings: &mut Vec<PolicyWarning>) -> std::io::Result<Vec<u8>> {
    let (file, meta) = open_regular(path)?;
    let others_write = |mode: u32| mode & 0o002 != 0;
    const STICKY: u32 = 0o1000;
    let folder = fs::canonicalize(path).ok().and_then(|path| path.parent().map(PathBuf::from));
    // Who may write to the folder may put another file in this one's place, unless it is like /tmp.
    let replaceable = folder
        .and_then(|folder| fs::metadata(folder).ok())
        .is_some_and(|folder| others_write(folder.mode()) && folder.mode() & STICKY == 0);
    if others_write(meta.mode()) || replaceable {
        let warning = PolicyWarning::Writable(path.to_owned());
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    read_bounded(file, &meta, LONGEST)
}
