//! The certificate method: what is signed with a certificate is verified under its root, by us and by Python, and
//! nothing else is. The authorities are our own; OpenSSL is the timestamp authority.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::pki::{Entity, Key, wanted};
use common::{Run, flip, program, python, seal, workplace, write};
use rcgen::ExtendedKeyUsagePurpose as Purpose;
use serde_json::{Value, json};

/// A folder with a model `m`, a root, an intermediate and a signer under it, each with a key on P-256.
struct House {
    folder: tempfile::TempDir,
    root: Entity,
    inter: Entity,
    signer: Entity,
}

const NAMES: [&str; 4] =
    ["email:release@example.com", "dns:signer.example.com", "uri:https://example.com/ci", "ip:192.0.2.1"];

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at.join("m/a"), "A");
        write(at.join("m/d/b"), "BBB");
        let root = wanted("root", Key::P256).ca().by(at, None);
        let inter = wanted("inter", Key::P256).ca().by(at, Some(&root));
        let signer = wanted("signer", Key::P256).signer(&NAMES).by(at, Some(&inter));
        Self { folder, root, inter, signer }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `sign certificate` with what is given, into `s.sig`.
    fn try_sign(&self, signer: &str, flags: &str) -> Run {
        seal(
            self.path(),
            &format!(
                "sign certificate m --private-key {signer}.key --signing-certificate {signer}.pem --signature s.sig {flags}"
            ),
        )
    }

    fn sign(&self, signer: &str, flags: &str) -> Value {
        self.try_sign(signer, flags).expect(0, "Signing succeeded", signer);
        bundle(&self.path().join("s.sig"))
    }

    fn verify(&self, bundle: &Value, flags: &str) -> Run {
        write(self.path().join("v.sig"), bundle.to_string());
        seal(self.path(), &format!("verify certificate m --signature v.sig {flags}"))
    }
}

fn bundle(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The certificates of a bundle.
fn chain(bundle: &mut Value) -> &mut Vec<Value> {
    bundle["verificationMaterial"]["x509CertificateChain"]["certificates"].as_array_mut().unwrap()
}

fn certificate(of: &Entity) -> Value {
    json!({"rawBytes": STANDARD.encode(of.der())})
}

#[cfg(feature = "sigstore-verify")]
fn signature(bundle: &Value) -> Vec<u8> {
    STANDARD.decode(bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap()).unwrap()
}

/// What Python's command line says to each line of arguments.
fn peer(folder: &Path, lines: &[String]) -> Option<Vec<(i64, String)>> {
    let python = python()?;
    let jobs: Vec<Value> = lines.iter().map(|line| json!({"cli": line.split(' ').collect::<Vec<_>>()})).collect();
    write(folder.join("jobs.json"), Value::from(jobs).to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peer.py");
    let run = program(folder, python, &[script.as_path(), Path::new("jobs.json")]);
    Some(serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap())
}

#[test]
fn what_one_signs_with_a_certificate_the_other_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at.join("m/weights"), "weights");
    // Keys of the leaf and of its authorities, from its issuer up to the root.
    let shapes: [(&str, Key, &[Key]); 6] = [
        ("p256", Key::P256, &[Key::P256]),
        ("p384", Key::P384, &[Key::P256, Key::P384]),
        ("p521", Key::P521, &[Key::P384, Key::P521, Key::P521]),
        ("rsa", Key::P256, &[Key::Rsa]),
        ("rsa2", Key::P384, &[Key::Rsa, Key::P256]),
        ("rsa3", Key::P521, &[Key::P521, Key::Rsa, Key::Rsa]),
    ];
    let (mut by_python, mut by_us) = (Vec::new(), Vec::new());
    for (name, leaf, authorities) in shapes {
        let mut issuer: Option<Entity> = None;
        let mut between = Vec::new();
        for (i, key) in authorities.iter().enumerate().rev() {
            let authority = wanted(&format!("{name}-ca{i}"), *key).ca().by(at, issuer.as_ref());
            if issuer.is_some() {
                between.insert(0, authority.name.clone());
            }
            issuer = Some(authority);
        }
        wanted(name, leaf).signer(&["email:a@b.c"]).by(at, issuer.as_ref());
        let root = format!("{name}-ca{}", authorities.len() - 1);
        // One file with all between, and the root in a file of its own: Python 1.1.1 needs at least one.
        let text: String = between.iter().map(|ca| fs::read_to_string(at.join(format!("{ca}.pem"))).unwrap()).collect();
        write(at.join(format!("{name}-between.pem")), &text);
        let chain = if text.is_empty() { String::new() } else { format!(" --certificate_chain {name}-between.pem") };
        let sign = |signature: &str, chain: &str| {
            format!(
                "sign certificate m --signature {signature} --private_key {name}.key --signing_certificate {name}.pem{chain}"
            )
        };
        let verify = |signature: &str, root: &str| {
            format!("verify certificate m --signature {signature} --certificate_chain {root}.pem")
        };
        by_us.push((sign(&format!("{name}-us.sig"), &chain), verify(&format!("{name}-us.sig"), &root)));
        let with_root = format!("{chain} --certificate_chain {root}.pem");
        by_us.push((sign(&format!("{name}-us-root.sig"), &with_root), verify(&format!("{name}-us-root.sig"), &root)));
        by_python.push((sign(&format!("{name}-py.sig"), &with_root), verify(&format!("{name}-py.sig"), &root)));
    }
    by_us.iter().for_each(|(sign, _)| seal(at, sign).expect(0, "Signing succeeded", sign));
    by_us.iter().for_each(|(_, verify)| seal(at, verify).expect(0, "Verification succeeded", verify));

    let jobs: Vec<String> =
        by_python.iter().map(|(sign, _)| sign.clone()).chain(by_us.iter().map(|(_, verify)| verify.clone())).collect();
    let Some(answers) = peer(at, &jobs) else { return };
    for (job, (code, said)) in jobs.iter().zip(answers) {
        assert_eq!(code, 0, "Python, {job}: {said}");
    }
    by_python.iter().for_each(|(_, verify)| seal(at, verify).expect(0, "Verification succeeded", verify));

    // Of the same inputs, both write the same certificates in the same order.
    for (name, ..) in shapes {
        let [ours, theirs] =
            ["us-root", "py"].map(|by| chain(&mut bundle(&at.join(format!("{name}-{by}.sig")))).clone());
        assert_eq!(ours, theirs, "{name}");
    }

    flip(at.join("m/weights"), 0);
    for (_, verify) in by_us.iter().chain(&by_python) {
        seal(at, verify).expect(1, "1 changed", verify);
    }
}

#[test]
fn a_signature_carries_the_leaf_then_every_chain_file_in_order_each_certificate_once() {
    let house = House::new();
    let both = [&house.root, &house.inter].map(|of| of.certificate.pem()).concat();
    write(house.path().join("both.pem"), both);
    let ders = |flags| chain(&mut house.sign("signer", flags)).clone();
    let of = |entities: &[&Entity]| entities.iter().map(|of| certificate(of)).collect::<Vec<_>>();
    let House { root, inter, signer, .. } = &house;
    assert_eq!(ders(""), of(&[signer]));
    assert_eq!(ders("--certificate-chain inter.pem"), of(&[signer, inter]));
    assert_eq!(ders("--certificate-chain both.pem"), of(&[signer, root, inter]), "as it is given, not sorted");
    assert_eq!(
        ders("--certificate-chain signer.pem --certificate-chain inter.pem --certificate-chain both.pem"),
        of(&[signer, inter, root]),
        "nothing twice"
    );
    // A file with the whole chain in it, as web servers have them.
    write(house.path().join("full.pem"), [signer, inter].map(|of| of.certificate.pem()).concat());
    let run = seal(
        house.path(),
        "sign certificate m --private-key signer.key --signing-certificate full.pem --signature f.sig",
    );
    run.expect(0, "Signing succeeded", "full");
    assert_eq!(*chain(&mut bundle(&house.path().join("f.sig"))), of(&[signer, inter]));
}

#[test]
fn a_certificate_that_nobody_would_accept_does_not_sign() {
    let house = House::new();
    let at = house.path();
    let make = |name: &str, edit: &dyn Fn(common::pki::Wanted) -> common::pki::Wanted| {
        edit(wanted(name, Key::P256).signer(&[])).by(at, Some(&house.inter));
    };
    make("expired", &|of| of.valid(-7200, -3600));
    make("future", &|of| of.valid(3600, 7200));
    make("web", &|of| of.eku(Purpose::ServerAuth));
    make("agree", &|mut of| {
        of.params.key_usages = vec![rcgen::KeyUsagePurpose::KeyAgreement];
        of
    });
    wanted("rsa", Key::Rsa).signer(&[]).by(at, Some(&house.inter));
    house.try_sign("expired", "").expect(3, "\"CN=expired\" expired at", "expired");
    house.try_sign("future", "").expect(3, "\"CN=future\" is not valid before", "future");
    house.try_sign("web", "").expect(3, "\"CN=web\" is only for serverAuth, not for codeSigning", "web");
    house.try_sign("agree", "").expect(3, "\"CN=agree\" is not for signing", "agree");
    house.try_sign("rsa", "").expect(3, "the key of \"CN=rsa\" cannot sign models", "rsa");
    let web = house.sign("web", "--allow-eku --certificate-chain inter.pem");
    house.verify(&web, "--certificate-chain root.pem").expect(1, "is only for serverAuth", "web");
    house.verify(&web, "--certificate-chain root.pem --allow-eku").expect(0, "which you let pass", "web");

    // Another key, and nothing was hashed or written.
    fs::remove_file(at.join("s.sig")).unwrap();
    let run = seal(at, "sign certificate m --private-key web.key --signing-certificate signer.pem --signature s.sig");
    run.expect(3, "the certificate of \"CN=signer\" is not of the private key", "another key");
    let run = seal(at, "sign certificate gone --private-key web.key --signing-certificate signer.pem");
    run.expect(3, "is not of the private key", "before the model is looked at");
    assert!(!at.join("s.sig").exists());
    for (file, text, words) in [
        ("none.pem", "no PEM", "there is no certificate in PEM form here"),
        ("key.pem", &*fs::read_to_string(at.join("signer.key")).unwrap(), "expected only certificates"),
    ] {
        write(at.join(file), text);
        house.try_sign("signer", &format!("--certificate-chain {file}")).expect(3, words, file);
        house.verify(&web, &format!("--certificate-chain {file}")).expect(3, words, file);
    }
    house.try_sign("signer", "--certificate-chain gone.pem").expect(3, "cannot read certificates \"gone.pem\"", "gone");
}

#[test]
fn names_are_pinned_exactly() {
    let house = House::new();
    let bundle = house.sign("signer", "--certificate-chain inter.pem");
    let verify = |flags: &str| house.verify(&bundle, &format!("--certificate-chain root.pem {flags}"));
    let unpinned = "whoever holds any certificate under \"CN=root\" could have made this signature";
    verify("").expect(0, unpinned, "no name");
    for name in NAMES {
        for given in [name, name.split_once(':').unwrap().1] {
            let run = verify(&format!("--identity {given}"));
            run.expect(0, "Verification succeeded", given);
            assert!(!run.stderr.contains(unpinned), "{given}: {run:?}");
        }
    }
    verify("--identity dns:other --identity release@example.com").expect(0, "", "one of several");
    for given in [
        "release@example.co",
        "Release@example.com",
        "elease@example.com",
        "email:signer.example.com",
        "dns:release@example.com",
        "uri:signer.example.com",
        "example.com",
        "*.example.com",
        "https://example.com/ci/",
        "192.0.2.2",
        "CN=signer",
        "signer",
    ] {
        let run = verify(&format!("--identity {given}"));
        run.expect(
            1,
            "signed by somebody else: the certificate of \"CN=signer\" is for \"email:release@example.com\" or",
            given,
        );
    }
    verify("--identity email:").expect(2, "must not be empty", "an empty name");
    // The report says who, in lines and in JSON.
    verify("").expect(0, "signed by CN=signer names email:release@example.com dns:signer.example.com", "lines");
    let identity = &verify("--json").json()["identity"];
    assert_eq!(identity["names"], json!(NAMES));
    assert_eq!(identity["judged_at"]["by"], "now");
    let fingerprint =
        program(house.path(), "openssl", &["x509", "-in", "root.pem", "-noout", "-fingerprint", "-sha256"]);
    let expected = fingerprint.stdout.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(identity["root_fingerprint"], expected.as_str());
}

#[test]
fn the_machines_authorities_are_trusted_only_for_a_name() {
    let house = House::new();
    let bundle = house.sign("signer", "--certificate-chain inter.pem");
    house.verify(&bundle, "").expect(2, "--certificate-chain", "nothing trusted");
    house.verify(&bundle, "--system-roots").expect(2, "--identity", "no name");
    let verify = |store: &str, flags: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tensorseal"));
        command.current_dir(house.path()).env("SSL_CERT_FILE", store);
        command.args(format!("verify certificate m --signature v.sig --system-roots {flags}").split_whitespace());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = verify("root.pem", "--identity release@example.com");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = verify("root.pem", "--identity other@example.com");
    assert!(code == Some(1) && said.contains("signed by somebody else"), "{said}");
    let (code, said) = verify("inter.pem", "--identity release@example.com");
    assert!(code == Some(1) && said.contains("not self-signed"), "{said}");
    let (code, said) = verify("gone.pem", "--identity release@example.com");
    assert!(code == Some(3) && said.contains("gone.pem"), "{said}");
    // What cannot be read is left out, and the rest still serves.
    let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write(house.path().join("odd.pem"), format!("{odd}{}", house.root.certificate.pem()));
    let (code, said) = verify("odd.pem", "--identity release@example.com");
    assert!(code == Some(0) && said.contains("1 of the certificates"), "{said}");
    write(house.path().join("odd.pem"), odd);
    assert_eq!(verify("odd.pem", "--identity release@example.com").0, Some(3));
    // This machine's own store reads, and does not vouch for us.
    let (code, said) = verify("", "--identity release@example.com");
    if Path::new("/etc/ssl/certs/ca-certificates.crt").is_file() {
        assert!(code == Some(1) && said.contains("neither in the bundle nor among the trusted roots"), "{said}");
    }
}

#[test]
fn fingerprints_are_logged_as_the_reference_logs_them() {
    let house = House::new();
    let bundle = house.sign("signer", "--certificate-chain inter.pem");
    let run = house.verify(&bundle, "--certificate-chain root.pem --log-fingerprints");
    let of = |file: &str| {
        let run = program(house.path(), "openssl", &["x509", "-in", file, "-noout", "-fingerprint", "-sha256"]);
        run.stdout.trim().replace('=', ": ")
    };
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("Fingerprint")).collect();
    let expected = [("  init  ", "root.pem"), (" verify ", "signer.pem"), (" verify ", "inter.pem")];
    assert_eq!(lines, expected.map(|(place, file)| format!("[{place}] {}", of(file))));
    let quiet = house.verify(&bundle, "--certificate-chain root.pem --log-fingerprints --log-level WARNING");
    assert!(!quiet.stderr.contains("Fingerprint"), "{quiet:?}");
}

/// Each fault of a chain has an answer that names it; what changes nothing is listed, with the reason.
#[test]
fn a_bundle_with_other_certificates_is_refused_or_means_the_same() {
    let house = House::new();
    let at = house.path();
    let other = wanted("other", Key::P256).signer(&[]).by(at, Some(&house.inter));
    let foreign = wanted("foreign", Key::P256).ca().by(at, None);
    let again = wanted("again", Key::P256).signer(&[]).for_key_of(at, Some(&house.inter), &house.signer);
    let twin = wanted("inter", Key::P256).ca().by(&at.join("twin"), Some(&foreign));
    let rsa = wanted("rsa", Key::Rsa).signer(&[]).by(at, Some(&house.inter));
    let good = house.sign("signer", "--certificate-chain inter.pem --certificate-chain root.pem");
    let (leaf, inter, root) = (certificate(&house.signer), certificate(&house.inter), certificate(&house.root));
    let many = |count: usize| [vec![leaf.clone(), inter.clone()], vec![certificate(&foreign); count - 2]].concat();
    let mut cut = house.signer.der();
    cut.pop();
    let raw = |der: &[u8]| json!({"rawBytes": STANDARD.encode(der)});
    let mut altered = house.signer.der();
    let at_name = altered.windows(6).rposition(|window| window == b"signer").unwrap();
    altered[at_name] ^= 1;
    let cases: Vec<(&str, Vec<Value>, i32, &str)> = vec![
        ("as it is", vec![leaf.clone(), inter.clone(), root.clone()], 0, ""),
        ("without the root: it is trusted from elsewhere", vec![leaf.clone(), inter.clone()], 0, ""),
        ("the order behind the leaf means nothing", vec![leaf.clone(), root.clone(), inter.clone()], 0, ""),
        ("the leaf twice is one certificate more", vec![leaf.clone(), leaf.clone(), inter.clone()], 0, ""),
        ("foreign ones are looked at and not needed", vec![leaf.clone(), certificate(&foreign), inter.clone()], 0, ""),
        ("one of the issuer's name, from elsewhere", vec![leaf.clone(), certificate(&twin), inter.clone()], 0, ""),
        ("32 certificates", many(32), 0, ""),
        // Certificates are the signer's word of who they are; the key is what signs. Whoever has two for one key is both.
        ("another certificate of the same key", vec![certificate(&again), inter.clone()], 0, "signed by CN=again"),
        ("33 certificates", many(33), 1, "has 33 certificates; at most 32 are accepted"),
        ("none", vec![], 1, "exactly one of publicKey, certificate and x509CertificateChain, and holds 0"),
        (
            "no intermediate",
            vec![leaf.clone()],
            1,
            "the issuer of \"CN=signer\", \"CN=inter\", is neither in the bundle",
        ),
        (
            "its namesake alone",
            vec![leaf.clone(), certificate(&twin)],
            1,
            "\"CN=signer\" is not validly signed by \"CN=inter\"",
        ),
        ("the intermediate first", vec![inter.clone(), leaf.clone()], 1, "\"CN=inter\" is not for signing"),
        ("the root first", vec![root, leaf.clone(), inter.clone()], 1, "\"CN=root\" is not for signing"),
        ("another leaf of the same root", vec![certificate(&other), inter.clone()], 1, "invalid signature"),
        ("that one first, ours behind", vec![certificate(&other), leaf.clone(), inter.clone()], 1, "invalid signature"),
        ("an RSA leaf", vec![certificate(&rsa), inter.clone()], 1, "the key of \"CN=rsa\" cannot sign models"),
        (
            "a leaf cut short",
            vec![raw(&cut), inter.clone()],
            1,
            "certificate 1 of the bundle: it is no X.509 certificate",
        ),
        ("a name altered", vec![raw(&altered), inter.clone()], 1, "is not validly signed by \"CN=inter\""),
        ("no certificate behind the leaf", vec![leaf.clone(), raw(b"x")], 1, "certificate 2 of the bundle"),
        ("an empty one", vec![leaf.clone(), raw(b"")], 1, "certificate 2 of the bundle"),
    ];
    for (what, certificates, code, words) in cases {
        let mut bundle = good.clone();
        *chain(&mut bundle) = certificates;
        house.verify(&bundle, "--certificate-chain root.pem").expect(code, words, what);
        if code == 0 {
            // Every yes rests on the root that was given.
            house.verify(&bundle, "--certificate-chain foreign.pem").expect(1, "", what);
        }
    }

    // Signature, payload, encoding: the key method's forgeries apply; here the words.
    let flipped = |pointer: &str, at: usize| {
        let mut bundle = good.clone();
        let text = bundle.pointer(pointer).unwrap().as_str().unwrap();
        let mut bytes = STANDARD.decode(text).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        *bundle.pointer_mut(pointer).unwrap() = STANDARD.encode(bytes).into();
        bundle
    };
    for at in [0, 5, 20, 60] {
        let bundle = flipped("/dsseEnvelope/signatures/0/sig", at);
        house.verify(&bundle, "--certificate-chain root.pem").expect(1, "invalid signature", "signature");
        let bundle = flipped("/dsseEnvelope/payload", at);
        house.verify(&bundle, "--certificate-chain root.pem").expect(1, "invalid signature", "payload");
    }
    let mut bundle = good.clone();
    bundle["dsseEnvelope"]["payloadType"] = "text/plain".into();
    house.verify(&bundle, "--certificate-chain root.pem").expect(1, "payloadType", "payload type");

    // Each method refuses the other's bundles by name.
    let run = seal(at, "verify key m --signature s.sig --public-key key.pub");
    run.expect(3, "key.pub", "no key yet");
    seal(at, "keygen --out key.pem").expect(0, "", "keygen");
    let run = seal(at, "verify key m --signature s.sig --public-key key.pub");
    run.expect(1, "signed with the certificate method, and the key method was asked for", "key");
    seal(at, "sign key m --private-key key.pem --signature k.sig").expect(0, "", "key");
    let run = seal(at, "verify certificate m --signature k.sig --certificate-chain root.pem");
    run.expect(1, "signed with the key method, and the certificate method was asked for", "certificate");
    let mut both = good.clone();
    both["verificationMaterial"]["publicKey"] = json!({"hint": "x"});
    house.verify(&both, "--certificate-chain root.pem").expect(1, "exactly one of", "both");

    // The bundle's own root is trusted by nobody, and neither is an intermediate.
    house.verify(&good, "--certificate-chain foreign.pem").expect(1, "the path ends in \"CN=root\"", "its own root");
    let bare = house.sign("signer", "--certificate-chain inter.pem");
    house.verify(&bare, "--certificate-chain inter.pem").expect(1, "not self-signed", "an intermediate");
    house.verify(&bare, "--certificate-chain signer.pem").expect(1, "not self-signed", "the leaf");
}

#[test]
fn certificates_among_the_trusted_ones_fill_gaps_and_are_no_roots() {
    let house = House::new();
    let bundle = house.sign("signer", "");
    house.verify(&bundle, "--certificate-chain root.pem").expect(1, "\"CN=inter\", is neither in", "a gap");
    let run = house.verify(&bundle, "--certificate-chain root.pem --certificate-chain inter.pem");
    run.expect(0, "root CN=root", "filled");
    write(house.path().join("both.pem"), [&house.inter, &house.root].map(|of| of.certificate.pem()).concat());
    house.verify(&bundle, "--certificate-chain both.pem").expect(0, "root CN=root", "one file");
}

#[test]
fn an_expired_certificate_is_refused_with_what_to_do_about_it() {
    let house = House::new();
    let at = house.path();
    wanted("brief", Key::P256).signer(&[]).valid(-60, 3).by(at, Some(&house.root));
    let bundle = house.sign("brief", "");
    house.verify(&bundle, "--certificate-chain root.pem").expect(0, "the time of this check", "in time");
    std::thread::sleep(std::time::Duration::from_secs(5));
    let run = house.verify(&bundle, "--certificate-chain root.pem");
    run.expect(1, "\"CN=brief\" expired at 20", "expired");
    run.expect(1, "--tsa-url", "a remedy");
    run.expect(1, "--judge-at-not-before", "another");
    let run = house.verify(&bundle, "--certificate-chain root.pem --judge-at-not-before");
    run.expect(0, "the beginning of the certificate", "as model_signing judges");
    run.expect(0, "it may have expired before it signed", "and what that means");
}

#[cfg(feature = "sigstore-verify")]
mod stamps {
    use super::*;
    use crate::common::pki::Tsa;

    /// A house with a timestamp authority, under a root of its own.
    struct Stamped {
        house: House,
        authority: Entity,
        tsa: Tsa,
    }

    impl Stamped {
        fn new() -> Self {
            let house = House::new();
            let root = wanted("tsa-root", Key::P384).ca().by(house.path(), None);
            let authority = wanted("tsa", Key::P256).tsa().by(house.path(), Some(&root));
            let tsa = Tsa::new(house.path(), &authority);
            Self { house, authority, tsa }
        }

        fn verify(&self, bundle: &Value, flags: &str) -> Run {
            self.house.verify(bundle, &format!("--certificate-chain root.pem {flags}"))
        }
    }

    fn with_stamps(bundle: &Value, stamps: &[Vec<u8>]) -> Value {
        let mut bundle = bundle.clone();
        let all: Vec<_> = stamps.iter().map(|der| json!({"signedTimestamp": STANDARD.encode(der)})).collect();
        bundle["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": all});
        bundle
    }

    #[test]
    fn an_expired_certificate_is_judged_for_the_time_of_a_good_stamp() {
        let stamped = Stamped::new();
        let at = stamped.house.path();
        wanted("brief", Key::P384).signer(&[]).valid(-60, 5).by(at, Some(&stamped.house.root));
        let plain = stamped.house.sign("brief", "");
        let bundle = with_stamps(&plain, &[stamped.tsa.stamp(&signature(&plain), true)]);
        std::thread::sleep(std::time::Duration::from_secs(7));
        let late = with_stamps(&plain, &[stamped.tsa.stamp(&signature(&plain), true)]);

        let run = stamped.verify(&bundle, "--tsa-certificate-chain tsa-root.pem");
        run.expect(0, "by a timestamp authority", "a good stamp");
        assert!(!run.stderr.contains("not looked at"), "{run:?}");
        stamped.verify(&bundle, "").expect(
            1,
            "the signature has a timestamp: --tsa-certificate-chain",
            "not looked at",
        );
        stamped.verify(&late, "--tsa-certificate-chain tsa-root.pem").expect(
            1,
            "\"CN=brief\" expired at",
            "stamped too late",
        );
        stamped.verify(&plain, "--tsa-certificate-chain tsa-root.pem").expect(
            1,
            "\"CN=brief\" expired at",
            "none: now",
        );
        let both = with_stamps(
            &plain,
            &[stamped.tsa.stamp(&signature(&plain), true), stamped.tsa.stamp(&signature(&plain), true)],
        );
        stamped.verify(&both, "--tsa-certificate-chain tsa-root.pem").expect(1, "expired at", "two late ones");
        let mixed: Vec<Vec<u8>> = [&late, &bundle].map(stamp_of).to_vec();
        let run = stamped.verify(&with_stamps(&plain, &mixed), "--tsa-certificate-chain tsa-root.pem");
        run.expect(0, "by a timestamp authority", "the earliest counts");
        let run = stamped.verify(&bundle, "--tsa-certificate-chain tsa-root.pem --judge-at-not-before");
        run.expect(2, "cannot be used with", "one time at once");
    }

    fn stamp_of(bundle: &Value) -> Vec<u8> {
        let text =
            bundle.pointer("/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp");
        STANDARD.decode(text.unwrap().as_str().unwrap()).unwrap()
    }

    /// Where stamps are looked at, one that proves nothing is never taken for none.
    #[test]
    fn a_stamp_that_proves_nothing_is_refused_with_the_reason() {
        let stamped = Stamped::new();
        let at = stamped.house.path();
        let plain = stamped.house.sign("signer", "--certificate-chain inter.pem");
        let good = stamped.tsa.stamp(&signature(&plain), true);
        let flipped = |at: usize| {
            let mut stamp = good.clone();
            stamp[at] ^= 1;
            stamp
        };
        let find = |bytes: &[u8]| good.windows(bytes.len()).rposition(|window| window == bytes).unwrap();
        // `messageDigest` of the signed attributes, and the signature at the very end.
        let digest_at = find(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4]) + 9 + 6;

        // A second authority with the same root, whose certificate is not for timestamps: OpenSSL would not sign with
        // it, so the stamp is made with a twin that is, of the same key, issuer and number.
        let tsa_root = wanted("tsa-root2", Key::P256).ca().by(at, None);
        let twin = wanted("twin", Key::P256).tsa().serial(77).by(at, Some(&tsa_root));
        let unfit = wanted("unfit", Key::P256).signer(&[]).serial(77).for_key_of(at, Some(&tsa_root), &twin);
        let by_twin = Tsa::new(at, &twin).stamp(&signature(&plain), false);
        assert_eq!(unfit.name, "unfit");
        let rsa = wanted("tsa-rsa", Key::Rsa).tsa().by(at, Some(&tsa_root));
        let by_rsa = Tsa::new(at, &rsa).stamp(&signature(&plain), true);
        let gone = wanted("tsa-gone", Key::P256).tsa().valid(-7200, -3600).by(at, Some(&tsa_root));
        let by_gone = Tsa::new(at, &gone).stamp(&signature(&plain), true);

        let own = "--tsa-certificate-chain tsa-root.pem";
        let second = "--tsa-certificate-chain tsa-root2.pem";
        let not_in = "neither in it nor among the given ones";
        let bare = stamped.tsa.stamp(&signature(&plain), false);
        /// What it is, the stamps, flags, exit code, words.
        type Case<'a> = (&'a str, Vec<Vec<u8>>, String, i32, &'a str);
        let cases: Vec<Case<'_>> = vec![
            ("good", vec![good.clone()], own.to_owned(), 0, "by a timestamp authority"),
            (
                "bare, certificate given",
                vec![bare.clone()],
                format!("{own} --tsa-certificate-chain tsa.pem"),
                0,
                "by a timestamp authority",
            ),
            ("bare, certificate nowhere", vec![bare], own.to_owned(), 1, not_in),
            (
                "over another signature",
                vec![stamped.tsa.stamp(b"another signature", true)],
                own.to_owned(),
                1,
                "it is not over this signature",
            ),
            ("over nothing", vec![stamped.tsa.stamp(b"", true)], own.to_owned(), 1, "it is not over this signature"),
            (
                "over the payload",
                vec![
                    stamped
                        .tsa
                        .stamp(&STANDARD.decode(plain["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap(), true),
                ],
                own.to_owned(),
                1,
                "it is not over this signature",
            ),
            ("another root", vec![good.clone()], second.to_owned(), 1, "no way leads from its certificate to a root"),
            (
                "the signer's root",
                vec![good.clone()],
                "--tsa-certificate-chain root.pem".to_owned(),
                1,
                "no way leads from its certificate to a root",
            ),
            (
                "not for timestamps",
                vec![by_twin.clone()],
                format!("{second} --tsa-certificate-chain unfit.pem"),
                1,
                "is not for timestamping",
            ),
            (
                "its twin is",
                vec![by_twin],
                format!("{second} --tsa-certificate-chain twin.pem"),
                0,
                "by a timestamp authority",
            ),
            ("an RSA authority", vec![by_rsa], second.to_owned(), 1, "not on P-256 or P-384"),
            (
                "an authority that had expired",
                vec![by_gone],
                second.to_owned(),
                1,
                "had expired by the time in the stamp",
            ),
            ("garbage", vec![b"garbage".to_vec()], own.to_owned(), 1, "timestamp 1 of the bundle: it is malformed"),
            ("empty", vec![vec![]], own.to_owned(), 1, "it is malformed"),
            ("cut short", vec![good[..good.len() - 1].to_vec()], own.to_owned(), 1, "it is malformed"),
            ("longer", vec![[&good[..], b"x"].concat()], own.to_owned(), 1, "it is malformed"),
            ("signature altered", vec![flipped(good.len() - 1)], own.to_owned(), 1, "its own signature is wrong"),
            ("digest altered", vec![flipped(digest_at)], own.to_owned(), 1, "it is not over this signature"),
            ("a certificate in its place", vec![stamped.authority.der()], own.to_owned(), 1, "it is malformed"),
            (
                "garbage beside a good one",
                vec![good.clone(), b"x".to_vec()],
                own.to_owned(),
                1,
                "timestamp 2 of the bundle: it is malformed",
            ),
            (
                "one of another signature beside it",
                vec![stamped.tsa.stamp(b"x", true), good.clone()],
                own.to_owned(),
                1,
                "timestamp 1 of the bundle",
            ),
            (
                "an unknown authority's beside it",
                vec![Tsa::new(at, &twin).stamp(&signature(&plain), true), good.clone()],
                own.to_owned(),
                0,
                "timestamps of authorities that you did not name were not counted (1)",
            ),
            ("33 of them", vec![good.clone(); 33], own.to_owned(), 1, "33 timestamps; at most 32"),
        ];
        for (what, stamps, flags, code, words) in cases {
            let bundle = with_stamps(&plain, &stamps);
            stamped.verify(&bundle, &flags).expect(code, words, what);
            // Without anybody to trust for stamps none is looked at, and the report says so.
            if stamps.len() < 33 {
                let run = stamped.verify(&bundle, "");
                run.expect(
                    0,
                    &format!("the bundle carries timestamps ({}), which were not looked at", stamps.len()),
                    what,
                );
            }
        }
        let run = stamped.verify(&plain, "--tsa-certificate-chain tsa.pem");
        run.expect(3, "no certificate here is self-signed", "an authority is no root");
    }

    /// Every byte of a stamp, changed: what is accepted says the same time, and is none that anything rests on (version
    /// numbers, the unsigned list of digest algorithms, the status that the answer came with).
    #[test]
    fn no_byte_that_matters_can_be_changed_in_a_stamp() {
        use tensorseal::timestamp::TimestampAuthorities;
        use tensorseal::x509::Certificate;
        let stamped = Stamped::new();
        let root = fs::read(stamped.house.path().join("tsa-root.pem")).unwrap();
        let authorities = TimestampAuthorities::new(&Certificate::all_from_pem(&root).unwrap()).unwrap();
        let good = stamped.tsa.stamp(b"signature", true);
        let time = authorities.verify(&good, b"signature").unwrap();
        let mut accepted = Vec::new();
        for at in 0..good.len() {
            for bit in [0x01, 0x80] {
                let mut stamp = good.clone();
                stamp[at] ^= bit;
                if let Ok(found) = authorities.verify(&stamp, b"signature") {
                    assert_eq!(found, time, "byte {at}");
                    accepted.push(at);
                }
            }
            assert!(authorities.verify(&good[..at], b"signature").is_err(), "cut at {at}");
        }
        accepted.dedup();
        assert!(accepted.len() < 40, "{} of {} bytes: {accepted:?}", accepted.len(), good.len());
    }

    /// What OpenSSL does not write, an authority or a thief of its key may.
    #[test]
    fn a_stamp_is_signed_once_as_a_stamp_with_the_certificate_it_names_and_not_tomorrow() {
        use crate::common::sigstore::timestamp::{Authority, Stamp};
        use tensorseal::time::UnixTime;
        use tensorseal::timestamp::TimestampAuthorities;
        use tensorseal::x509::Certificate;
        let now = UnixTime::now().0;
        let authority = Authority::new("ours", [now - 86_400, now + 86_400], &|_| {});
        let root = Certificate::from_der(&authority.root).unwrap();
        let authorities = TimestampAuthorities::new(&[root]).unwrap();
        let answer = |edit: &dyn Fn(&mut Stamp)| {
            let mut stamp = Stamp::new(now, b"signature", &authority);
            edit(&mut stamp);
            let stamp = stamp.sign(&authority, &authority.key);
            authorities.verify(&stamp, b"signature").map_err(|why| why.to_string())
        };
        assert_eq!(answer(&|_| {}), Ok(UnixTime(now)));
        assert_eq!(answer(&|stamp| stamp.time = now + 200), Ok(UnixTime(now + 200)), "clocks differ a little");
        // 8,000 algorithms in the order in which sorting them takes longest: 57 kB.
        let many = |count: u16| {
            let oid = |n: u16| vec![0x30, 5, 6, 3, 0x2a, 0x80 | (n >> 7) as u8, (n & 0x7f) as u8];
            (128..128 + count).rev().map(oid).collect::<Vec<_>>()
        };
        type Edit<'a> = &'a dyn Fn(&mut Stamp);
        let cases: [(&str, Edit<'_>); 6] = [
            ("over a text of another kind", &|stamp| stamp.content_type = "1.2.840.113549.1.7.1"),
            ("it names another certificate than the authority's", &|stamp| stamp.certificate_hash[0] ^= 1),
            ("this machine's clock says", &|stamp| stamp.time = now + 3600),
            ("it is malformed", &|stamp| stamp.signers = 2),
            ("more members than anybody needs", &|stamp| stamp.algorithms = many(8000)),
            ("no timestamp has more than 65536", &|stamp| stamp.nonce = vec![0; 65_000]),
        ];
        for (words, edit) in cases {
            let begun = std::time::Instant::now();
            let why = answer(edit).unwrap_err();
            assert!(why.contains(words), "{words:?}: {why}");
            assert!(begun.elapsed().as_millis() < 500, "{words:?} took {:?}", begun.elapsed());
        }
    }

    #[test]
    fn python_does_not_mind_stamps() {
        let stamped = Stamped::new();
        let plain = stamped.house.sign("signer", "--certificate-chain inter.pem");
        let bundle = with_stamps(&plain, &[stamped.tsa.stamp(&signature(&plain), true)]);
        write(stamped.house.path().join("stamped.sig"), bundle.to_string());
        let line = "verify certificate m --signature stamped.sig --certificate_chain root.pem".to_owned();
        if let Some(answers) = peer(stamped.house.path(), &[line]) {
            assert_eq!(answers[0].0, 0, "{answers:?}");
        }
    }

    /// Status and body of the answer to a request.
    #[cfg(feature = "sigstore-sign")]
    type Answer = fn(&Tsa, &[u8]) -> (u16, Vec<u8>);

    /// An authority on loopback, whose answers can be spoilt.
    #[cfg(feature = "sigstore-sign")]
    fn serve(tsa: Tsa, spoil: Answer, requests: usize) -> String {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for _ in 0..requests {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut request = vec![0; length];
                reader.read_exact(&mut request).unwrap();
                let (status, body) = spoil(&tsa, &request);
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let stream = reader.get_mut();
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap();
            }
        });
        url
    }

    #[cfg(feature = "sigstore-sign")]
    #[test]
    fn signatures_are_stamped_or_not_made() {
        let stamped = Stamped::new();
        let at = stamped.house.path();
        seal(at, "keygen --out key.pem").expect(0, "", "keygen");
        let tsa = || Tsa::new(at, &stamped.authority);
        let url = serve(tsa(), |tsa, request| (200, tsa.answer(request)), 4);
        let chain = "--certificate-chain inter.pem";
        let bundle =
            stamped.house.sign("signer", &format!("{chain} --tsa-url {url} --tsa-certificate-chain tsa-root.pem"));
        stamped.verify(&bundle, "--tsa-certificate-chain tsa-root.pem").expect(
            0,
            "by a timestamp authority",
            "stamped",
        );
        stamped.house.sign("signer", &format!("{chain} --tsa-url {url}"));
        // The key method, too. Its verifier does not look at stamps, and says so.
        let run = seal(at, &format!("sign key m --private-key key.pem --signature k.sig --tsa-url {url}"));
        run.expect(0, "Signing succeeded", "key");
        seal(at, "verify key m --public-key key.pub --signature k.sig").expect(0, "1 timestamps", "key");
        assert_eq!(stamp_of(&super::bundle(&at.join("k.sig")))[0], 0x30);
        if let Some(answers) = peer(at, &["verify key m --public_key key.pub --signature k.sig".to_owned()]) {
            assert_eq!(answers[0].0, 0, "{answers:?}");
        }
        fs::remove_file(at.join("s.sig")).unwrap();
        let sign =
            |url: &str, flags: &str| stamped.house.try_sign("signer", &format!("{chain} --tsa-url {url} {flags}"));
        let untrusted = sign(&url, "--tsa-certificate-chain root.pem");
        untrusted.expect(3, "would be refused by those who verify", "another authority");
        let spoilt: [(&str, Answer, &str); 5] = [
            ("over other bytes", |tsa, _| (200, tsa.stamp(b"other", true)), "over other bytes than was asked for"),
            (
                "an older answer",
                |tsa, request| {
                    // The same request but for its nonce, which stands at the end, before `certReq`.
                    let mut request = request.to_vec();
                    let at = request.len() - 4;
                    request[at] ^= 1;
                    (200, tsa.answer(&request))
                },
                "it answers another request",
            ),
            ("garbage", |_, _| (200, b"garbage".to_vec()), "gave no timestamp"),
            ("nothing", |_, _| (200, vec![]), "gave no timestamp"),
            ("an error", |_, _| (500, vec![]), "500"),
        ];
        for (what, spoil, words) in spoilt {
            sign(&serve(tsa(), spoil, 1), "").expect(3, words, what);
        }
        sign("http://127.0.0.1:1/", "").expect(3, "gave no timestamp", "nobody there");
        sign("no-address", "").expect(3, "gave no timestamp", "no address");
        assert!(!at.join("s.sig").exists(), "no stamp, no signature");
        let run = stamped.house.try_sign("signer", "--tsa-certificate-chain tsa-root.pem");
        run.expect(2, "--tsa-url", "roots without an authority");
    }
}

#[test]
fn an_encrypted_key_signs_with_its_password() {
    let house = House::new();
    let at = house.path();
    program(at, "openssl", &["pkcs8", "-topk8", "-in", "signer.key", "-out", "enc.key", "-passout", "pass:secret"]);
    write(at.join("password"), "secret\n");
    let line = "sign certificate m --private-key enc.key --signing-certificate signer.pem --signature s.sig";
    seal(at, &format!("{line} --password-file password")).expect(0, "Signing succeeded", "encrypted");
    seal(at, line).expect(3, "the private key is encrypted", "no password");
}

/// No step of a verification opens a connection: there is no network to open one in.
#[test]
fn verifying_needs_no_network() {
    let house = House::new();
    house.sign("signer", "--certificate-chain inter.pem");
    let args = ["-rn", env!("CARGO_BIN_EXE_tensorseal"), "verify", "certificate", "m", "--signature", "s.sig"];
    let run = program(house.path(), "unshare", &[&args[..], &["--certificate-chain", "root.pem"]].concat());
    assert_eq!(run.stdout, "Verification succeeded\n");
}

#[test]
fn a_certificate_that_is_trusted_itself_is_one_signer() {
    let house = House::new();
    let at = house.path();
    wanted("self", Key::P256).signer(&[]).by(at, None);
    let bundle = house.sign("self", "");
    let run = house.verify(&bundle, "--certificate-chain self.pem");
    run.expect(0, "root CN=self", "self-signed");
    assert!(!run.stderr.contains("warning"), "{run:?}");
    house.verify(&bundle, "--certificate-chain root.pem").expect(1, "not among the trusted roots", "not trusted");
}

#[test]
fn inspect_shows_certificates_and_vouches_for_none() {
    let house = House::new();
    house.sign("signer", "--certificate-chain inter.pem");
    let run = seal(house.path(), "inspect s.sig");
    run.expect(0, "NOT VERIFIED", "inspect");
    run.expect(0, "certificate 1 CN=signer issued by CN=inter valid 20", "leaf");
    run.expect(0, "name email:release@example.com", "names");
    run.expect(0, "certificate 2 CN=inter issued by CN=root", "issuer");
    let report = seal(house.path(), "inspect s.sig --json").json();
    assert_eq!(report["certificates"][0]["names"], json!(NAMES));
    assert_eq!(report["certificates"][1]["number"], 2);
    let workplace = workplace();
    write(workplace.path().join("m/a"), "x");
    seal(workplace.path(), "sign key m --private-key key.pem --signature k.sig").expect(0, "", "key");
    assert_eq!(seal(workplace.path(), "inspect k.sig --json").json()["certificates"], json!([]));
}
