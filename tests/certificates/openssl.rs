//! Chains made by the `openssl` command: every pairing of key, padding and hash, which webpki and rcgen do not all have.

use std::fs;
use std::path::Path;

use tensorseal::time::UnixTime;
use tensorseal::x509::{
    Certificate, PathError, PathOptions, SignatureFault, SignatureHash, validate, verify_signature,
};

use crate::common::program;

fn openssl(folder: &Path, arguments: &str) {
    program(folder, "openssl", &arguments.split_whitespace().collect::<Vec<_>>());
}

fn one(path: impl AsRef<Path>) -> Certificate {
    Certificate::all_from_pem(&fs::read(path).unwrap()).unwrap().remove(0)
}

/// A root with a key made by `genkey`, and a leaf that it signed with these options.
fn made(folder: &Path, genkey: &str, signing: &str) -> (Certificate, Certificate) {
    openssl(folder, &format!("{genkey} -out ca.key"));
    let extensions = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign";
    openssl(
        folder,
        &format!(
            "req -x509 -new -key ca.key -config ca.cnf -subj /CN=ca -days 9000 {extensions} {signing} -out ca.pem"
        ),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 9000 -extfile leaf.cnf {signing} -out leaf.pem"
        ),
    );
    (one(folder.join("leaf.pem")), one(folder.join("ca.pem")))
}

#[test]
fn signature_algorithms_of_cas() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("ca.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    fs::write(folder.join("leaf.cnf"), "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
        .unwrap();
    openssl(folder, "ecparam -name secp384r1 -genkey -noout -out leaf.key");
    openssl(folder, "req -new -key leaf.key -config ca.cnf -subj /CN=leaf -out leaf.csr");
    let verdict = |genkey: &str, signing: &str| {
        let (leaf, root) = made(folder, genkey, signing);
        let roots = [root];
        validate(&leaf, &[], &roots, &PathOptions::at(UnixTime::now())).map(|_| ())
    };
    let ec = |curve: &str| format!("ecparam -name {curve} -genkey -noout");
    let rsa = |bits: u32| format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        for hash in ["sha256", "sha384", "sha512"] {
            assert_eq!(verdict(&ec(curve), &format!("-{hash}")), Ok(()), "{curve} {hash}");
        }
    }
    let pss = |hash: &str, more: &str| format!("-{hash} -sigopt rsa_padding_mode:pss {more}");
    for hash in ["sha256", "sha384", "sha512"] {
        assert_eq!(verdict(&rsa(2048), &format!("-{hash}")), Ok(()), "{hash}");
        assert_eq!(verdict(&rsa(2049), &pss(hash, "-sigopt rsa_pss_saltlen:digest")), Ok(()), "{hash}");
    }
    assert_eq!(verdict(&rsa(4096), "-sha512"), Ok(()));
    // A key with a compressed point may issue, one with its curve spelled out may not.
    let form = |more: &str| format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt {more}");
    assert_eq!(verdict(&form("point-format:compressed"), "-sha256"), Ok(()));
    type Is = fn(&SignatureFault) -> bool;
    for (genkey, signing, is) in [
        (ec("prime256v1"), "-sha1".to_owned(), (|why| matches!(why, SignatureFault::Weak { .. })) as Is),
        (rsa(2048), "-sha1".to_owned(), |why| matches!(why, SignatureFault::Weak { .. })),
        (rsa(2048), "-md5".to_owned(), |why| matches!(why, SignatureFault::Weak { .. })),
        (ec("prime256v1"), "-sha224".to_owned(), |why| matches!(why, SignatureFault::Unsupported { .. })),
        (rsa(2048), "-sha224".to_owned(), |why| matches!(why, SignatureFault::Unsupported { .. })),
        ("genpkey -algorithm ED25519".to_owned(), String::new(), |why| {
            matches!(why, SignatureFault::Unsupported { .. })
        }),
        (rsa(2048), pss("sha256", "-sigopt rsa_pss_saltlen:20"), |why| {
            matches!(why, SignatureFault::Parameters { .. })
        }),
        (rsa(2048), pss("sha1", "-sigopt rsa_pss_saltlen:20"), |why| matches!(why, SignatureFault::Parameters { .. })),
        (rsa(2048), pss("sha256", "-sigopt rsa_pss_saltlen:digest -sigopt rsa_mgf1_md:sha1"), |why| {
            matches!(why, SignatureFault::Parameters { .. })
        }),
        (
            "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048".to_owned(),
            pss("sha256", "-sigopt rsa_pss_saltlen:digest"),
            |why| matches!(why, SignatureFault::OtherKey { .. }),
        ),
        (rsa(1024), "-sha256".to_owned(), |why| matches!(why, SignatureFault::RsaLength { bits: 1024 })),
        (rsa(2047), "-sha256".to_owned(), |why| matches!(why, SignatureFault::RsaLength { bits: 2047 })),
        (ec("secp256k1"), "-sha256".to_owned(), |why| matches!(why, SignatureFault::Key(_))),
        (form("ec_param_enc:explicit"), "-sha256".to_owned(), |why| matches!(why, SignatureFault::Key(_))),
    ] {
        match verdict(&genkey, &signing) {
            Err(PathError::Signature { fault, .. }) => assert!(is(&fault), "{genkey} {signing}: {fault:?}"),
            other => panic!("{genkey} {signing}: {other:?}"),
        }
    }
}

/// Text of names, fingerprints and serial numbers as `openssl x509` prints them.
#[test]
fn names_are_told_as_openssl_tells_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("ca.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    openssl(folder, "ecparam -name prime256v1 -genkey -noout -out k");
    for subject in [
        "/C=US/ST=A state/L=Town/O=One, Inc./OU=a+b/CN=x",
        "/CN=#hash <a> \"q\"; s",
        "/DC=org/DC=example/UID=u1/CN= blanks ",
        "/CN=Zürich 模型/O=\u{7f}x",
        "/emailAddress=me@example.com/CN=m/serialNumber=7",
    ] {
        let new =
            ["req", "-x509", "-new", "-key", "k", "-config", "ca.cnf", "-utf8", "-subj", subject, "-out", "c.pem"];
        program(folder, "openssl", &new);
        let print = [
            "x509",
            "-in",
            "c.pem",
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253,-esc_msb,utf8,sep_comma_plus",
            "-fingerprint",
            "-sha256",
            "-serial",
        ];
        let said = program(folder, "openssl", &print).stdout;
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let read = one(folder.join("c.pem"));
        assert_eq!(read.subject(), field("subject="), "{subject}");
        assert_eq!(read.issuer(), read.subject());
        assert_eq!(read.fingerprint(), field("sha256 Fingerprint=").replace(':', "").to_lowercase());
        assert_eq!(read.serial(), field("serial=").to_lowercase());
    }
}

#[test]
fn what_a_leaf_signed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("ca.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    fs::write(folder.join("m"), "weights").unwrap();
    for (curve, own) in [("prime256v1", "sha256"), ("secp384r1", "sha384"), ("secp521r1", "sha512")] {
        openssl(folder, &format!("ecparam -name {curve} -genkey -noout -out k"));
        openssl(folder, "req -x509 -new -key k -config ca.cnf -subj /CN=x -out c.pem");
        let leaf = one(folder.join("c.pem"));
        for hash in ["sha256", "sha384", "sha512"] {
            openssl(folder, &format!("dgst -{hash} -sign k -out s m"));
            let signature = fs::read(folder.join("s")).unwrap();
            let good = |message: &[u8], how| verify_signature(&leaf, message, &signature, how).is_ok();
            assert_eq!(good(b"weights", SignatureHash::OfCurve), hash == own, "{curve} {hash}");
            assert_eq!(good(b"weights", SignatureHash::Sha256), hash == "sha256", "{curve} {hash}");
            assert!(!good(b"Weights", SignatureHash::OfCurve) && !good(b"Weights", SignatureHash::Sha256));
            let longer = [&signature[..], &[0]].concat();
            assert!(verify_signature(&leaf, b"weights", &longer, SignatureHash::OfCurve).is_err());
            assert!(verify_signature(&leaf, b"weights", &longer, SignatureHash::Sha256).is_err());
        }
    }
}
