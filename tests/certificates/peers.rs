//! Random chains, made by rcgen, judged by us, by webpki and by OpenSSL. Wherever a verdict differs the reason must stand in
//! [`DIFFERENCES`], and every line of that list must have been needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, RsaKeySize, SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use tensorseal::time::UnixTime;
use tensorseal::x509::{Certificate, PathError, PathOptions, validate};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::common::Random;
use crate::common::x509::pem;

/// 2026-06-01.
const THEN: i64 = 1_780_272_000;

/// How many chains: each kind of fault at each place comes often enough that every line of the list is needed.
const CHAINS: usize = 600;

/// What is wrong, or unusual, with one certificate of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Twist {
    Expired,
    Future,
    Ca,
    NoCa,
    PathLen(u8),
    NoKeyCertSign,
    NoKeyUsage,
    OtherUsage,
    ForServers,
    ForAnything,
    ForCode,
    UnknownCritical,
    Unknown,
    /// Issued by another CA of that name.
    Impostor,
    BadSignature,
    Missing,
    OnlyExampleCom,
    NotExampleCom,
    RsaKey,
}

const TWISTS: &[Twist] = &[
    Twist::Expired,
    Twist::Future,
    Twist::Ca,
    Twist::NoCa,
    Twist::PathLen(0),
    Twist::PathLen(1),
    Twist::NoKeyCertSign,
    Twist::NoKeyUsage,
    Twist::OtherUsage,
    Twist::ForServers,
    Twist::ForAnything,
    Twist::ForCode,
    Twist::UnknownCritical,
    Twist::Unknown,
    Twist::Impostor,
    Twist::BadSignature,
    Twist::Missing,
    Twist::OnlyExampleCom,
    Twist::NotExampleCom,
    Twist::RsaKey,
];

/// A chain as it was asked for: level 0 is the root, the last level the leaf.
#[derive(Debug)]
struct Spec {
    last: usize,
    twists: Vec<(Twist, usize)>,
    host: Option<&'static str>,
    cross_signed: bool,
    reversed: bool,
    copies: bool,
    stranger: bool,
}

impl Spec {
    fn random(random: &mut Random) -> Self {
        let last = 1 + random.below(4);
        let twists = (0..random.below(3)).map(|_| {
            let twist = TWISTS[random.below(TWISTS.len())];
            let level = match twist {
                Twist::RsaKey | Twist::OtherUsage | Twist::Ca => last,
                Twist::Missing if last > 1 => 1 + random.below(last - 1),
                _ => random.below(last + 1),
            };
            (level, twist)
        });
        // One to a certificate.
        let twists: BTreeMap<usize, Twist> = twists.collect();
        Self {
            last,
            twists: twists.into_iter().map(|(level, twist)| (twist, level)).collect(),
            host: [None, Some("a.example.com"), Some("a.example.org")][random.below(3)],
            cross_signed: random.below(4) == 0,
            reversed: random.below(2) == 0,
            copies: random.below(3) == 0,
            stranger: random.below(3) == 0,
        }
    }

    fn has(&self, twist: Twist, level: usize) -> bool {
        self.twists.contains(&(twist, level))
    }

    fn at(&self, twist: Twist, levels: impl IntoIterator<Item = usize>) -> bool {
        levels.into_iter().any(|level| self.has(twist, level))
    }

    fn root(&self, twist: Twist) -> bool {
        self.has(twist, 0)
    }

    fn leaf(&self, twist: Twist) -> bool {
        self.has(twist, self.last)
    }

    fn some_ca(&self, twist: Twist) -> bool {
        self.at(twist, 0..self.last)
    }
}

/// Why a peer may say something else: who, whether we accept, when, and the reason.
type Difference = (&'static str, bool, fn(&Spec) -> bool, &'static str);

const DIFFERENCES: &[Difference] = &[
    ("webpki", true, |s| s.leaf(Twist::Ca), "a leaf that is a CA: the reference signs with one"),
    ("webpki", true, |s| s.some_ca(Twist::ForAnything), "anyExtendedKeyUsage restricts a CA to nothing"),
    (
        "webpki",
        false,
        |s| s.leaf(Twist::NoKeyUsage) || s.leaf(Twist::OtherUsage),
        "webpki does not read keyUsage: leaf",
    ),
    ("webpki", false, |s| s.some_ca(Twist::NoKeyCertSign), "webpki does not read keyUsage: CA"),
    (
        "webpki",
        false,
        |s| s.root(Twist::Expired) || s.root(Twist::Future),
        "webpki takes only name and key of a root: time",
    ),
    ("webpki", false, |s| s.root(Twist::ForServers), "webpki takes only name and key of a root: purpose"),
    ("webpki", false, |s| s.root(Twist::NoCa), "webpki takes only name and key of a root: not a CA"),
    (
        "webpki",
        false,
        |s| s.root(Twist::PathLen(0)) || s.root(Twist::PathLen(1)),
        "webpki takes only name and key of a root: path length",
    ),
    ("webpki", false, |s| s.root(Twist::BadSignature), "webpki takes only name and key of a root: self-signature"),
    (
        "webpki",
        false,
        |s| s.root(Twist::UnknownCritical),
        "webpki takes only name and key of a root: critical extension",
    ),
    ("webpki", false, |s| s.leaf(Twist::RsaKey), "models are signed with elliptic curves only"),
    (
        "openssl",
        true,
        |s| s.some_ca(Twist::NoKeyUsage),
        "strict: a CA must have keyUsage; RFC 5280, 6.1.4 (n): if it has",
    ),
    (
        "openssl",
        false,
        |s| s.leaf(Twist::NoKeyUsage) || s.leaf(Twist::OtherUsage),
        "no purpose was asked of OpenSSL: usage",
    ),
    ("openssl", false, |s| s.at(Twist::ForServers, 0..=s.last), "no purpose was asked of OpenSSL: server"),
    ("openssl", false, |s| s.leaf(Twist::ForAnything), "no purpose was asked of OpenSSL: anything"),
    ("openssl", false, |s| s.root(Twist::BadSignature), "OpenSSL does not check a root's self-signature"),
    ("openssl", false, |s| s.leaf(Twist::RsaKey), "models are signed with elliptic curves only"),
];

struct Keys {
    ec: Vec<KeyPair>,
    rsa: Vec<KeyPair>,
}

impl Keys {
    fn new() -> Self {
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512];
        let ec = kinds.iter().cycle().take(12).map(|kind| KeyPair::generate_for(kind).unwrap()).collect();
        let kinds = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512];
        let rsa = kinds.iter().map(|kind| KeyPair::generate_rsa_for(kind, RsaKeySize::_2048).unwrap()).collect();
        Self { ec, rsa }
    }

    /// A key for this level, never that of another level.
    fn pick(&self, random: &mut Random, spec: &Spec, level: usize) -> &KeyPair {
        if level == spec.last {
            return if spec.leaf(Twist::RsaKey) { &self.rsa[0] } else { &self.ec[9 + random.below(3)] };
        }
        if level > 0 && level < 3 && random.below(3) == 0 {
            &self.rsa[level]
        } else {
            &self.ec[level + 4 * random.below(2)]
        }
    }
}

fn params(spec: &Spec, level: usize) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = if level == spec.last { "leaf".to_owned() } else { format!("CA {level}") };
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    let year = |twist| if spec.has(twist, level) { 2027 } else { 2020 };
    params.not_before = date_time_ymd(year(Twist::Future), 1, 1);
    params.not_after = date_time_ymd(if spec.has(Twist::Expired, level) { 2021 } else { 2040 }, 1, 1);
    if level < spec.last {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = spec.host.iter().map(|host| SanType::DnsName((*host).try_into().unwrap())).collect();
    }
    let constrain = |permitted: bool| {
        let tree = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        let (permitted_subtrees, excluded_subtrees) = if permitted { (tree, vec![]) } else { (vec![], tree) };
        Some(NameConstraints { permitted_subtrees, excluded_subtrees })
    };
    for (twist, _) in spec.twists.iter().filter(|(_, at)| *at == level) {
        match twist {
            Twist::Ca => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Twist::NoCa => params.is_ca = IsCa::ExplicitNoCa,
            Twist::PathLen(len) if level < spec.last => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(*len)),
            Twist::NoKeyCertSign => {
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
            }
            Twist::NoKeyUsage => params.key_usages = vec![],
            Twist::OtherUsage => params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            Twist::ForServers => params.extended_key_usages = vec![Eku::ServerAuth],
            Twist::ForAnything => params.extended_key_usages = vec![Eku::Any],
            Twist::ForCode => params.extended_key_usages = vec![Eku::CodeSigning, Eku::ServerAuth],
            Twist::UnknownCritical | Twist::Unknown => {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                unknown.set_criticality(*twist == Twist::UnknownCritical);
                params.custom_extensions.push(unknown);
            }
            Twist::OnlyExampleCom if level < spec.last => params.name_constraints = constrain(true),
            Twist::NotExampleCom if level < spec.last => params.name_constraints = constrain(false),
            _ => {}
        }
    }
    params
}

/// Leaf, others and roots.
type Chain = (Vec<u8>, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn make(spec: &Spec, keys: &Keys, random: &mut Random) -> Chain {
    let picked: Vec<&KeyPair> = (0..=spec.last).map(|level| keys.pick(random, spec, level)).collect();
    let mut made: Vec<Vec<u8>> = Vec::new();
    for level in 0..=spec.last {
        let own = params(spec, level);
        let mut der = if level == 0 {
            own.self_signed(picked[0]).unwrap()
        } else {
            // rcgen takes name and key identifier of the issuer from its parameters.
            let key = if spec.has(Twist::Impostor, level) { &keys.ec[8] } else { picked[level - 1] };
            let mut above = params(spec, level - 1);
            above.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            own.signed_by(picked[level], &Issuer::from_params(&above, key)).unwrap()
        }
        .der()
        .to_vec();
        if spec.has(Twist::BadSignature, level) {
            *der.last_mut().unwrap() ^= 1;
        }
        made.push(der);
    }
    let mut others: Vec<Vec<u8>> =
        (1..spec.last).filter(|level| !spec.has(Twist::Missing, *level)).map(|level| made[level].clone()).collect();
    let mut roots = vec![made[0].clone()];
    if spec.cross_signed {
        // Another root vouches for the first one's name and key, and only that other root is trusted.
        let mut params = params(&Spec { twists: vec![], ..Spec::random(&mut Random(1)) }, 0);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "another root");
        let key = &keys.ec[8];
        let issuer = Issuer::from_params(&params, key);
        let cross = self::params(spec, 0).signed_by(picked[0], &issuer).unwrap();
        let mut cross = cross.der().to_vec();
        if spec.root(Twist::BadSignature) {
            *cross.last_mut().unwrap() ^= 1;
        }
        others.push(cross);
        roots = vec![params.self_signed(key).unwrap().der().to_vec()];
    }
    if spec.copies {
        others.extend(others.clone());
    }
    if spec.stranger {
        let stranger = params(spec, 0).self_signed(&keys.ec[3]).unwrap();
        others.push(stranger.der().to_vec());
    }
    if spec.reversed {
        others.reverse();
    }
    (made.pop().unwrap(), others, roots)
}

fn ours((leaf, others, roots): &Chain) -> Result<(), PathError> {
    let read = |der: &Vec<u8>| Certificate::from_der(der).unwrap();
    let (others, roots): (Vec<_>, Vec<_>) = (others.iter().map(read).collect(), roots.iter().map(read).collect());
    validate(&read(leaf), &others, &roots, &PathOptions::at(UnixTime(THEN))).map(|_| ())
}

fn webpkis((leaf, others, roots): &Chain) -> Result<(), String> {
    const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
    let der = |der: &Vec<u8>| CertificateDer::from(der.clone());
    let (leaf, roots) = (der(leaf), roots.iter().map(der).collect::<Vec<_>>());
    let others: Vec<_> = others.iter().map(der).collect();
    let anchors = roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
    let anchors = anchors.map_err(|error| format!("{error:?}"))?;
    let leaf = EndEntityCert::try_from(&leaf).map_err(|error| format!("{error:?}"))?;
    let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(THEN as u64));
    let usage = KeyUsage::required_if_present(CODE_SIGNING);
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &others, at, usage, None, None)
        .map(|_| ())
        .map_err(|error| format!("{error:?}"))
}

fn openssls((leaf, others, roots): &Chain, folder: &std::path::Path) -> Result<(), String> {
    let all = |list: &[Vec<u8>]| pem(&list.iter().map(Vec::as_slice).collect::<Vec<_>>());
    fs::write(folder.join("leaf.pem"), pem(&[leaf])).unwrap();
    fs::write(folder.join("others.pem"), all(others)).unwrap();
    fs::write(folder.join("roots.pem"), all(roots)).unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(folder).args([
        "verify",
        "-x509_strict",
        "-no-CApath",
        "-no-CAstore",
        "-attime",
        &THEN.to_string(),
    ]);
    if !others.is_empty() {
        command.args(["-untrusted", "others.pem"]);
    }
    let output = command.args(["-CAfile", "roots.pem", "leaf.pem"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn verdicts_differ_from_others_only_where_the_list_says() {
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let mut random = Random(20_261_122);
    let (mut counts, mut needed) = (BTreeMap::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    for _ in 0..CHAINS {
        let spec = Spec::random(&mut random);
        let chain = make(&spec, &keys, &mut random);
        let ours = ours(&chain);
        for (peer, theirs) in [("webpki", webpkis(&chain)), ("openssl", openssls(&chain, folder.path()))] {
            *counts.entry((peer, ours.is_ok(), theirs.is_ok())).or_insert(0) += 1;
            if ours.is_ok() == theirs.is_ok() {
                continue;
            }
            let explained: Vec<_> = DIFFERENCES
                .iter()
                .filter(|(who, accepts, when, _)| *who == peer && *accepts == ours.is_ok() && when(&spec))
                .collect();
            if explained.is_empty() {
                wrong.push(format!("{peer}: {theirs:?}\n  ours: {ours:?}\n  {spec:?}"));
            }
            if let [only] = explained[..] {
                needed.insert(only.3);
            }
        }
    }
    eprintln!("(peer, we accept, it accepts): {counts:#?}");
    assert!(wrong.is_empty(), "{} differences that nothing explains:\n{}", wrong.len(), wrong.join("\n"));
    let idle: Vec<_> = DIFFERENCES.iter().map(|difference| difference.3).filter(|why| !needed.contains(why)).collect();
    assert!(idle.is_empty(), "never needed: {idle:#?}");
    let accepted = counts[&("webpki", true, true)];
    assert!(accepted > CHAINS / 5, "too few good chains to mean anything: {accepted}");
}
