//! Against the `openssl` of this machine: it reads what we write, we read what it writes.

use std::fs;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use zeroize::Zeroizing;

mod hostile;

use super::*;
use crate::digest::hex;

const MESSAGE: &[u8] = b"the weights in use are the weights that were signed";

/// A folder in which OpenSSL runs.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("message", MESSAGE);
        folder
    }

    fn run(&self, arguments: &str) -> bool {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        if !output.status.success() {
            println!("openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    }

    fn openssl(&self, arguments: &str) {
        assert!(self.run(arguments), "openssl {arguments}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }
}

fn openssl_name(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "prime256v1",
        Curve::P384 => "secp384r1",
        Curve::P521 => "secp521r1",
    }
}

fn hash(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "-sha256",
        Curve::P384 => "-sha384",
        Curve::P521 => "-sha512",
    }
}

/// Reads a key that needs no password.
fn plain(pem: &[u8]) -> Result<PrivateKey, KeyError> {
    PrivateKey::from_pem(pem, &mut || panic!("asked for a password"))
}

fn with(password: &str, pem: &[u8]) -> Result<PrivateKey, KeyError> {
    let mut asked = 0;
    let key = PrivateKey::from_pem(pem, &mut || {
        asked += 1;
        Ok(Zeroizing::new(password.to_owned()))
    });
    assert_eq!(asked, 1, "the password was asked for");
    key
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    pem::write(label, der).as_bytes().to_vec()
}

fn der_of(pem: &[u8]) -> Vec<u8> {
    pem::blocks(pem).unwrap()[0].decode().unwrap().to_vec()
}

/// The same key, read from `file`, if it has this hint and signs as `original` does.
fn assert_same(file: &str, key: Result<PrivateKey, KeyError>, original: &PrivateKey) {
    let key = key.unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(key.public_key().hint(), original.public_key().hint(), "{file}");
    assert_eq!(key.sign(MESSAGE), original.sign(MESSAGE), "{file}");
}

#[test]
fn plain_keys_of_every_form_are_read() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        folder.openssl(&format!("ecparam -name {} -genkey -out with-parameters", openssl_name(curve)));
        folder.openssl("ec -in with-parameters -out sec1");
        folder.openssl("ec -in sec1 -pubout -out pub");
        let original = plain(&folder.read("sec1")).unwrap();
        assert_eq!(original.curve(), curve);
        assert_eq!(original.public_key().hint(), hex(&Sha256::digest(folder.read("pub"))));
        for (form, arguments) in [
            ("with-parameters", ""),
            ("no-public", "ec -in sec1 -no_public -out"),
            ("compressed", "ec -in sec1 -conv_form compressed -out"),
            ("hybrid", "ec -in sec1 -conv_form hybrid -out"),
            ("text", "ec -in sec1 -text -out"),
            ("explicit", "ec -in sec1 -param_enc explicit -out"),
            ("explicit-compressed", "ec -in sec1 -param_enc explicit -conv_form compressed -out"),
            ("pkcs8", "pkcs8 -topk8 -nocrypt -in sec1 -out"),
            ("pkcs8-no-public", "pkcs8 -topk8 -nocrypt -in no-public -out"),
            ("pkcs8-explicit", "pkcs8 -topk8 -nocrypt -in explicit -out"),
            ("pkcs8-text", "pkey -in sec1 -text -out"),
        ] {
            if !arguments.is_empty() {
                folder.openssl(&format!("{arguments} {form}"));
            }
            let file = folder.read(form);
            assert!(!PrivateKey::is_encrypted(&file), "{form}");
            assert_same(form, plain(&file), &original);
            let windows = String::from_utf8(file).unwrap().replace('\n', "\r\n");
            assert_same(form, plain(windows.as_bytes()), &original);
        }
        // The forms are what their names say, or the loop above would prove nothing.
        assert!(folder.read("with-parameters").starts_with(b"-----BEGIN EC PARAMETERS-----"));
        assert!(folder.read("explicit").len() > folder.read("explicit-compressed").len());
        assert!(folder.read("pkcs8-explicit").len() > 2 * folder.read("pkcs8").len());
        assert!(folder.read("no-public").len() < folder.read("compressed").len());
        assert!(folder.read("compressed").len() < folder.read("sec1").len());
        assert!(folder.read("hybrid") != folder.read("sec1"));
    }
}

#[test]
fn encrypted_keys_of_every_form_are_read() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        folder.openssl(&format!("ecparam -name {} -genkey -noout -out sec1", openssl_name(curve)));
        let original = plain(&folder.read("sec1")).unwrap();
        let mut forms: Vec<String> =
            ["-aes128", "-aes192", "-aes256", "-des3"].map(|cipher| format!("ec -in sec1 {cipher}")).into();
        for cipher in ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des3"] {
            for prf in ["hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"] {
                forms.push(format!("pkcs8 -topk8 -in sec1 -v2 {cipher} -v2prf {prf}"));
            }
            forms.push(format!("pkcs8 -topk8 -in sec1 -v2 {cipher} -scrypt"));
        }
        for form in forms {
            folder.openssl(&format!("{form} -passout pass:secret -out encrypted"));
            let file = folder.read("encrypted");
            assert!(PrivateKey::is_encrypted(&file), "{form}");
            assert_same(&form, with("secret", &file), &original);
            assert_eq!(with("Secret", &file).err(), Some(KeyError::WrongPassword), "{form}");
            let windows = String::from_utf8(file).unwrap().replace('\n', "\r\n");
            assert_same(&form, with("secret", windows.as_bytes()), &original);
            let refusal = PrivateKey::from_pem(windows.as_bytes(), &mut || Err(PasswordError::NotGiven));
            assert_eq!(refusal.err(), Some(KeyError::Password(PasswordError::NotGiven)));
        }
    }
}

#[test]
fn a_wrong_password_is_told_even_when_the_padding_fits_by_chance() {
    let folder = Folder::new();
    folder.openssl("ecparam -name prime256v1 -genkey -noout -out sec1");
    folder.openssl("ec -in sec1 -aes128 -passout pass:secret -out legacy");
    folder.openssl("pkcs8 -topk8 -in sec1 -v2 aes-256-cbc -iter 1 -passout pass:secret -out pkcs8");
    for name in ["legacy", "pkcs8"] {
        let file = folder.read(name);
        // About eight of these have padding that fits.
        for guess in 0..2048 {
            assert_eq!(with(&format!("{guess}"), &file).err(), Some(KeyError::WrongPassword));
        }
    }
}

#[test]
fn public_keys_of_every_form_have_one_hint() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        folder.openssl(&format!("ecparam -name {} -genkey -noout -out key", openssl_name(curve)));
        folder.openssl("ec -in key -pubout -out pub");
        let original = folder.read("pub");
        let mut seen = vec![];
        for parameters in ["named_curve", "explicit"] {
            for point in ["uncompressed", "compressed", "hybrid"] {
                folder.openssl(&format!("ec -in key -pubout -param_enc {parameters} -conv_form {point} -out form"));
                let form = folder.read("form");
                let key = PublicKey::from_pem(&form).unwrap_or_else(|error| panic!("{parameters} {point}: {error}"));
                assert_eq!(key.curve(), curve);
                assert_eq!(key.to_pem().as_bytes(), original, "{parameters} {point}");
                assert_eq!(key.hint(), hex(&Sha256::digest(&original)));
                assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()), Ok(key));
                assert!(!seen.contains(&form), "{parameters} {point} is a form of its own");
                seen.push(form);
            }
        }
    }
}

#[test]
fn signatures_verify_both_ways_and_nothing_else_does() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        let verify = format!("dgst {} -verify pub -signature signature message", hash(curve));
        folder.openssl(&format!("ecparam -name {} -genkey -noout -out key", openssl_name(curve)));
        folder.openssl("ec -in key -pubout -out pub");
        let key = plain(&folder.read("key")).unwrap();
        let public = PublicKey::from_pem(&folder.read("pub")).unwrap();

        let mut signature = key.sign(MESSAGE).unwrap();
        folder.write("signature", &signature);
        folder.openssl(&verify);
        assert_eq!(public.verify(MESSAGE, &signature), Ok(()));
        // OpenSSL draws at random: of 16 signatures, some have a high s and some a low one.
        for _ in 0..16 {
            folder.openssl(&format!("dgst {} -sign key -out theirs message", hash(curve)));
            assert_eq!(public.verify(MESSAGE, &folder.read("theirs")), Ok(()));
        }

        assert_eq!(public.verify(b"another message", &signature), Err(BadSignature));
        assert_eq!(PrivateKey::generate(curve).unwrap().public_key().verify(MESSAGE, &signature), Err(BadSignature));
        for other in Curve::ALL.into_iter().filter(|other| *other != curve) {
            let other = PrivateKey::generate(other).unwrap().public_key();
            assert_eq!(other.verify(MESSAGE, &signature), Err(BadSignature));
        }
        for at in 0..signature.len() {
            signature[at] ^= 1;
            assert_eq!(public.verify(MESSAGE, &signature), Err(BadSignature), "byte {at}");
            signature[at] ^= 1;
            assert_eq!(public.verify(MESSAGE, &signature[..at]), Err(BadSignature), "cut at {at}");
        }
        assert_eq!(public.verify(MESSAGE, &signature), Ok(()));
        signature.push(0);
        assert_eq!(public.verify(MESSAGE, &signature), Err(BadSignature));
        for zero in [&[0x30, 6, 2, 1, 0, 2, 1, 0][..], &[0x30, 6, 2, 1, 1, 2, 1, 0], &[0x30, 0]] {
            assert_eq!(public.verify(MESSAGE, zero), Err(BadSignature));
        }
    }
}

#[test]
fn generated_keys_are_read_by_openssl() {
    for curve in Curve::ALL {
        let folder = Folder::new();
        let key = PrivateKey::generate(curve).unwrap();
        assert_ne!(key.public_key(), PrivateKey::generate(curve).unwrap().public_key());
        let plain_pem = key.to_pem(None).unwrap();
        let encrypted = key.to_pem(Some("secret pässword")).unwrap();
        folder.write("plain", plain_pem.as_bytes());
        folder.write("encrypted", encrypted.as_bytes());
        folder.write("password", "secret pässword\n".as_bytes());

        folder.openssl("pkey -in plain -check -pubout -out pub1");
        folder.openssl("pkey -in encrypted -passin file:password -check -pubout -out pub2");
        for name in ["pub1", "pub2"] {
            let written = String::from_utf8(folder.read(name)).unwrap();
            assert!(written.ends_with(&key.public_key().to_pem()), "{written}");
        }
        folder.openssl("pkey -in plain -out again");
        assert_eq!(folder.read("again"), plain_pem.as_bytes(), "byte for byte what OpenSSL writes");

        assert_same("plain", plain(plain_pem.as_bytes()), &key);
        assert_same("encrypted", with("secret pässword", encrypted.as_bytes()), &key);
        assert_eq!(key.to_pem(Some("")), Err(KeyError::EmptyPassword));
        // Half a second each where nothing is optimized, and no different for the other curves.
        if curve == Curve::P256 {
            assert_ne!(encrypted, key.to_pem(Some("secret pässword")).unwrap(), "salted");
            assert_eq!(with("secret", encrypted.as_bytes()).err(), Some(KeyError::WrongPassword));
        }
    }
}

#[test]
fn no_secret_is_shown() {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let shown = format!("{key:?} {key:#?}");
    assert!(shown.contains(&key.public_key().hint()));
    // PKCS#8 of P-256 holds the scalar in bytes 36 to 67; that it signs alike proves the place.
    let scalar = &der_of(key.to_pem(None).unwrap().as_bytes())[36..68];
    assert_eq!(
        plain(&pem("EC PRIVATE KEY", &hostile::sec1(Curve::P256, scalar, None))).unwrap().sign(b"x"),
        key.sign(b"x")
    );
    for form in [hex(scalar), hex(scalar).to_uppercase(), format!("{scalar:?}"), format!("{scalar:#?}")] {
        assert!(!shown.contains(&form));
    }
}

#[test]
fn what_is_no_elliptic_curve_key_is_refused_by_name() {
    let folder = Folder::new();
    for (name, arguments) in [
        ("RSA", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key"),
        ("Ed25519", "genpkey -algorithm ED25519 -out key"),
        ("Ed448", "genpkey -algorithm ED448 -out key"),
        ("X25519", "genpkey -algorithm X25519 -out key"),
    ] {
        folder.openssl(arguments);
        folder.openssl("pkey -in key -pubout -out pub");
        let refusal = Some(KeyError::UnsupportedAlgorithm { found: name.to_owned() });
        assert_eq!(plain(&folder.read("key")).err(), refusal);
        assert_eq!(PublicKey::from_pem(&folder.read("pub")).err(), refusal);
        folder.openssl("pkcs8 -topk8 -in key -passout pass:secret -out encrypted");
        assert_eq!(with("secret", &folder.read("encrypted")).err(), refusal);
    }
    folder.openssl("genrsa -traditional -out key 1024");
    folder.openssl("rsa -in key -RSAPublicKey_out -out pub");
    let refusal = Some(KeyError::UnsupportedAlgorithm { found: "RSA".to_owned() });
    assert_eq!(plain(&folder.read("key")).err(), refusal);
    assert_eq!(PublicKey::from_pem(&folder.read("pub")).err(), refusal);

    for curve in ["secp256k1", "brainpoolP256r1", "brainpoolP384r1", "secp224r1"] {
        folder.openssl(&format!("ecparam -name {curve} -genkey -noout -out key"));
        folder.openssl("pkey -in key -pubout -out pub");
        folder.openssl("ec -in key -param_enc explicit -out explicit");
        let Err(KeyError::UnsupportedCurve { found }) = plain(&folder.read("key")) else { panic!("{curve}") };
        assert!(found.contains(curve), "{found}");
        let refusal = Some(KeyError::UnsupportedCurve { found });
        assert_eq!(PublicKey::from_pem(&folder.read("pub")).err(), refusal);
        assert_eq!(plain(&folder.read("explicit")).err(), Some(KeyError::UnknownParameters));
    }
}

#[test]
fn old_ciphers_are_refused_by_name_before_a_password_is_asked_for() {
    let folder = Folder::new();
    folder.openssl("ecparam -name prime256v1 -genkey -noout -out sec1");
    for (name, arguments) in [
        ("PKCS#12 encryption (triple DES)", "pkcs8 -topk8 -in sec1 -v1 PBE-SHA1-3DES"),
        ("Camellia-256-CBC", "pkcs8 -topk8 -in sec1 -v2 camellia-256-cbc"),
        ("HMAC-SHA224", "pkcs8 -topk8 -in sec1 -v2 aes-256-cbc -v2prf hmacWithSHA224"),
        ("CAMELLIA-256-CBC", "ec -in sec1 -camellia256"),
    ] {
        folder.openssl(&format!("{arguments} -passout pass:secret -out encrypted"));
        let refusal = plain(&folder.read("encrypted"));
        assert_eq!(refusal.err(), Some(KeyError::UnsupportedEncryption { found: name.to_owned() }));
    }
    folder.openssl("ec -in sec1 -aes128 -passout pass:secret -out encrypted");
    let text = String::from_utf8(folder.read("encrypted")).unwrap();
    for broken in [
        text.replace("AES-128-CBC,", "DES-CBC,"),
        text.replace("AES-128-CBC,", "AES-128-CBC,0"),
        text.replace("AES-128-CBC,", "AES-128-CBC"),
        text.replace("AES-128-CBC,", "AES-128-CBC,+"),
        text.replace("DEK-Info", "DEC-Info"),
    ] {
        let refusal = plain(broken.as_bytes());
        assert!(matches!(refusal, Err(KeyError::UnsupportedEncryption { .. })), "{broken}");
    }
}

#[test]
fn other_files_are_told_by_name_with_a_remedy_that_works() {
    let folder = Folder::new();
    folder.openssl("ecparam -name prime256v1 -genkey -out key");
    folder.openssl("req -new -x509 -key key -subj /CN=test -out cert");
    folder.openssl("pkey -in key -pubout -out pub");
    let [key, cert, public] = ["key", "cert", "pub"].map(|name| folder.read(name));

    let found = |file: &[u8]| match PublicKey::from_pem(file) {
        Err(KeyError::NotAPublicKey { found, remedy }) => (found, remedy),
        other => panic!("{other:?}"),
    };
    let (label, remedy) = found(&key);
    assert!(label == "EC PRIVATE KEY" && remedy.contains("-pubout"));
    let (label, remedy) = found(&cert);
    assert!(label == "CERTIFICATE" && remedy.contains("openssl x509"));
    folder.openssl("x509 -in cert -noout -pubkey -out extracted");
    assert_eq!(folder.read("extracted"), public);
    assert_eq!(found(&pem("X", &[])).0, "X");

    let found = |file: &[u8]| match plain(file) {
        Err(KeyError::NotAPrivateKey { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&public), "PUBLIC KEY");
    assert_eq!(found(&cert), "CERTIFICATE");
    assert_eq!(found(&pem("OPENSSH PRIVATE KEY", &[])), "OPENSSH PRIVATE KEY");
    assert_eq!(found(&pem("EC PARAMETERS", &[])), "EC PARAMETERS");

    // A certificate beside the key is no obstacle; a second key is.
    assert!(plain(&[cert.clone(), key.clone()].concat()).is_ok());
    assert!(PublicKey::from_pem(&[cert, public.clone()].concat()).is_ok());
    assert_eq!(plain(&[key.clone(), key].concat()).err(), Some(KeyError::SeveralKeys { count: 2 }));
    assert_eq!(PublicKey::from_pem(&public.repeat(3)).err(), Some(KeyError::SeveralKeys { count: 3 }));
    assert_eq!(plain(&der_of(&public)).err(), Some(KeyError::NotPem));
}

#[test]
fn keys_made_by_others_are_read() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors");
    let root = std::env::var_os("TENSORSEAL_VECTORS").map_or_else(|| beside.into(), std::path::PathBuf::from);
    if !root.join("python-1.1.1/keys").is_dir() {
        let required = std::env::var_os("TENSORSEAL_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "no vectors at {}, and they are required", root.display());
        println!("skipped: no vectors at {}", root.display());
        return;
    }
    let read = |name: &str| fs::read(root.join(name)).unwrap();
    for name in ["prime256v1", "secp384r1", "secp521r1"] {
        let key = plain(&read(&format!("python-1.1.1/keys/{name}.pem"))).unwrap();
        let public = read(&format!("python-1.1.1/keys/{name}.pub"));
        assert_eq!(key.curve(), name.parse().unwrap());
        assert_eq!(key.public_key().to_pem().as_bytes(), public);
    }
    let p256 = plain(&read("python-1.1.1/keys/prime256v1.pem")).unwrap();
    assert_same("p256-8.pem", plain(&read("python-1.1.1/keys/p256-8.pem")), &p256);
    for name in ["p256-enc.pem", "p256-enc8.pem"] {
        assert_same(name, with("secret", &read(&format!("python-1.1.1/keys/{name}"))), &p256);
    }
    // GnuTLS writes pages of text before the key.
    let key = plain(&read("historical/keys/certificate/signing-key.pem")).unwrap();
    let public = PublicKey::from_pem(&read("historical/keys/certificate/signing-key-pub.pem")).unwrap();
    assert_eq!(key.public_key(), public);
    for (name, refused) in [("ed25519", "Ed25519"), ("secp256k1", "secp256k1"), ("rsa", "RSA")] {
        let error = plain(&read(&format!("python-1.1.1/keys/{name}.pem"))).unwrap_err();
        assert!(error.to_string().contains(refused), "{error}");
    }
}
