//! Keys in tokens, with SoftHSM2: every way to name one, every way in which it is refused, and what others make of the
//! signatures.
#![cfg(feature = "pkcs11")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Run, program, python, write};
use serde_json::Value;

/// Not four digits, so that looking for it in what was printed finds nothing else.
const PIN: &str = "pin-5b8e3f;&%";
const WRONG: &str = "wrong-pin-77";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A folder with tokens of its own, a model, and a PIN in a file as an editor writes it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// `None` if SoftHSM is not there.
    fn new() -> Option<Self> {
        if !Path::new(MODULE).is_file() || Command::new("pkcs11-tool").arg("--version").output().is_err() {
            common::missing("no SoftHSM2 or no pkcs11-tool (Debian: softhsm2, opensc)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("tokens")).unwrap();
        write(at("softhsm2.conf"), format!("directories.tokendir = {}\n", at("tokens").display()));
        write(at("model/weights"), "weights");
        write(at("model/config.json"), "{}");
        write(at("pin"), format!("{PIN}\n"));
        place.token("one");
        Some(place)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, name: &str, args: &[&str]) -> Run {
        self.run_with(name, args, "")
    }

    fn run_with(&self, name: &str, args: &[&str], fault: &str) -> Run {
        let output = Command::new(name)
            .current_dir(self.path())
            .env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"))
            .env("THE_PIN", PIN)
            .env("FAULT", fault)
            .args(args)
            .output()
            .unwrap();
        Run::of(&output)
    }

    fn must(&self, name: &str, args: &[&str]) -> Run {
        let run = self.run(name, args);
        assert_eq!(run.code, Some(0), "{name} {args:?}: {run:#?}");
        run
    }

    fn token(&self, label: &str) {
        self.must("softhsm2-util", &["--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN]);
    }

    fn tool(&self, args: &[&str]) -> Run {
        self.must(
            "pkcs11-tool",
            &[&["--module", MODULE, "--token-label", "one", "--login", "--pin", PIN][..], args].concat(),
        )
    }

    /// A key pair made in the token, and its public key as OpenSSL writes it.
    fn generate(&self, label: &str, id: &str, kind: &str) {
        self.tool(&["--keypairgen", "--key-type", kind, "--label", label, "--id", id, "--usage-sign"]);
        // pkcs11-tool 0.23 writes files of public keys on P-256 alone, but prints the points of all.
        let listed = self.tool(&["--list-objects", "--type", "pubkey"]).stdout;
        let of = format!("  ID:         {id}\n");
        let object = listed.split("Public Key Object").find(|object| object.contains(&of)).unwrap();
        let point = object.lines().find_map(|line| line.trim().strip_prefix("EC_POINT:")).unwrap().trim();
        let (head, point) = match point.len() {
            134 => ("3059301306072a8648ce3d020106082a8648ce3d03010703420004", &point[6..]),
            198 => ("3076301006072a8648ce3d020106052b8104002203620004", &point[6..]),
            _ => ("30819b301006072a8648ce3d020106052b810400230381860004", &point[8..]),
        };
        let hex = format!("{head}{point}");
        let der: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        write(self.path().join("public.der"), der);
        let public = format!("{label}.pub");
        self.must("openssl", &["pkey", "-pubin", "-inform", "DER", "-in", "public.der", "-out", &public]);
    }

    fn uri(&self, path: &str) -> String {
        format!("pkcs11:{path}?module-path={MODULE}&pin-source={}/pin", self.path().display())
    }

    /// `sign pkcs11-key` with this URI and further arguments; nothing that it prints may hold a PIN.
    #[track_caller]
    fn sign(&self, uri: &str, more: &[&str]) -> Run {
        self.sign_with(uri, more, "")
    }

    #[track_caller]
    fn sign_with(&self, uri: &str, more: &[&str], fault: &str) -> Run {
        let args =
            [&["sign", "pkcs11-key", "model", "--signature", "model.sig", "--pkcs11-uri", uri][..], more].concat();
        let run = self.run_with(env!("CARGO_BIN_EXE_tensorseal"), &args, fault);
        for secret in [PIN, WRONG, "pin-5b8e3f"] {
            assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "a PIN was shown: {run:#?}");
        }
        run
    }

    fn verify(&self, public: &str) -> Run {
        let args = ["verify", "key", "model", "--signature", "model.sig", "--public-key", public];
        self.run(env!("CARGO_BIN_EXE_tensorseal"), &args)
    }
}

const CURVES: [(&str, &str, &str); 3] =
    [("p256", "01", "EC:prime256v1"), ("p384", "02", "EC:secp384r1"), ("p521", "03", "EC:secp521r1")];

#[test]
fn keys_of_every_curve_sign_and_everybody_verifies() {
    let Some(place) = Place::new() else { return };
    for (label, id, kind) in CURVES {
        place.generate(label, id, kind);
        place.sign(&place.uri(&format!("token=one;object={label}")), &[]).expect(0, "Signing succeeded", label);
        place.verify(&format!("{label}.pub")).expect(0, "Verification succeeded", label);
        let bundle: Value = serde_json::from_slice(&fs::read(place.path().join("model.sig")).unwrap()).unwrap();
        let hint = place.must("sha256sum", &[&format!("{label}.pub")]).stdout;
        assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint[..64], "as for a key in a file");
        if let Some(python) = python() {
            let public = format!("{label}.pub");
            let args =
                ["-m", "model_signing", "verify", "key", "model", "--signature", "model.sig", "--public_key", &public];
            program(place.path(), python, &args).expect(0, "Verification succeeded", label);
        }
    }
}

#[test]
fn a_key_in_a_token_signs_as_the_same_key_in_a_file() {
    let Some(place) = Place::new() else { return };
    for (label, id, kind) in CURVES {
        let curve = kind.strip_prefix("EC:").unwrap();
        let algorithm = format!("ec_paramgen_curve:{curve}");
        place.must("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", &algorithm, "-out", "key.pem"]);
        place.must("openssl", &["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
        place.must(
            "softhsm2-util",
            &["--import", "key.pem", "--token", "one", "--label", label, "--id", id, "--pin", PIN],
        );
        let read =
            |name: &str| -> Value { serde_json::from_slice(&fs::read(place.path().join(name)).unwrap()).unwrap() };
        let payload = |bundle: &Value| bundle["dsseEnvelope"]["payload"].clone();

        place.sign(&place.uri(&format!("object={label}")), &[]).expect(0, "Signing succeeded", label);
        place.verify("key.pub").expect(0, "Verification succeeded", label);
        let by_token = read("model.sig");
        let args = ["sign", "key", "model", "--signature", "model.sig", "--private-key", "key.pem"];
        place.must(env!("CARGO_BIN_EXE_tensorseal"), &args);
        let by_file = read("model.sig");
        assert_eq!(by_token["verificationMaterial"], by_file["verificationMaterial"], "{label}");
        assert_eq!(by_token["mediaType"], by_file["mediaType"]);
        assert_eq!(payload(&by_token), payload(&by_file));
    }
}

#[test]
fn every_attribute_of_the_uri_counts() {
    let Some(place) = Place::new() else { return };
    place.generate("p256", "01", CURVES[0].2);
    place.generate("p384", "02", CURVES[1].2);
    place.token("two words; and more");
    let slots = place.must("softhsm2-util", &["--show-slots"]).stdout;
    let of_one = slots.split("\nSlot ").find(|slot| slot.contains("Label:            one ")).unwrap_or_default();
    let value = |name: &str| of_one.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap().trim().to_owned();
    let slot = of_one.split_whitespace().next().unwrap();
    let (serial, description) = (value("Serial number:"), value("Description:").replace(' ', "%20"));

    for path in [
        "token=one;object=p256".to_owned(),
        "token=one;id=%01".to_owned(),
        "token=one;object=p256;id=%01;type=private".to_owned(),
        format!("slot-id={slot};object=p256"),
        format!("serial={serial};object=p256"),
        format!("slot-description={description};slot-manufacturer=SoftHSM%20project;object=p256"),
        "manufacturer=SoftHSM%20project;model=SoftHSM%20v2;token=one;object=p256".to_owned(),
        "library-manufacturer=SoftHSM;library-version=2.6;library-description=Implementation%20of%20PKCS11;token=one;id=%01"
            .to_owned(),
    ] {
        place.sign(&place.uri(&path), &[]).expect(0, "Signing succeeded", &path);
        place.verify("p256.pub").expect(0, "Verification succeeded", &path);
    }
    for (path, code, words) in [
        ("token=none;object=p256", 3, "no token fits \"pkcs11:token=none;object=p256\""),
        ("token=One;object=p256", 3, "\"two words; and more\" (serial"),
        ("object=p256", 3, "two tokens fit"),
        ("token=one;slot-id=77;object=p256", 3, "no token fits"),
        ("token=one;model=other;object=p256", 3, "no token fits"),
        ("token=one;manufacturer=;object=p256", 3, "no token fits"),
        ("token=one;slot-manufacturer=x;object=p256", 3, "no token fits"),
        ("token=one;library-version=3;object=p256", 3, "library-version \"3.0\", and the one loaded has \"2.6\""),
        ("token=one;library-manufacturer=x;object=p256", 3, "library-manufacturer \"x\""),
        ("token=one;object=p25", 3, "it has \"p256\" (id=%01), \"p384\" (id=%02)"),
        ("token=one;object=p256;id=%02", 3, "no private key of the token"),
        ("token=one;id=%00%01", 3, "no private key of the token"),
        ("token=one", 2, "names no key"),
        ("token=one;object=p256;type=public", 3, "only a private key signs"),
        ("token=one;object=p256;x-vendor=1", 2, "path attribute \"x-vendor\""),
        ("token=one;token=two;object=p256", 2, "attribute token twice"),
        ("token=one;object=p 256", 2, "a space is %20"),
        ("token=one;pin-value=x;object=p256", 2, "it belongs in the query"),
    ] {
        place.sign(&place.uri(path), &[]).expect(code, words, path);
    }
    place.generate("p256", "05", CURVES[0].2);
    place.sign(&place.uri("token=one;object=p256"), &[]).expect(3, "two private keys of the token", "one label twice");
    place.sign(&place.uri("token=one;object=p256;id=%05"), &[]).expect(0, "Signing succeeded", "the label and the id");
}

#[test]
fn pins_come_from_files_variables_and_under_protest_from_the_uri() {
    let Some(place) = Place::new() else { return };
    place.generate("key", "01", CURVES[0].2);
    let bare = format!("pkcs11:token=one;object=key?module-path={MODULE}");
    let with = |query: &str| format!("{bare}&{query}");
    let folder = place.path().display();
    place.sign(&with(&format!("pin-source=file:{folder}/pin")), &[]).expect(0, "Signing succeeded", "file:");
    place.sign(&with(&format!("pin-source=file://{folder}/pin")), &[]).expect(0, "Signing succeeded", "file://");
    place.sign(&bare, &["--pin-file", "pin"]).expect(0, "Signing succeeded", "--pin-file");
    place.sign(&bare, &["--pin-env", "THE_PIN"]).expect(0, "Signing succeeded", "--pin-env");
    let in_uri = with("pin-value=pin-5b8e3f%3B%26%25");
    place.sign(&in_uri, &[]).expect(0, "a PIN on the command line can be seen", "pin-value");
    place.sign(&in_uri, &["--json"]).expect(0, "", "pin-value");

    place.sign(&bare, &[]).expect(3, "needs a PIN, and none was given", "no terminal to ask on");
    place.sign(&bare, &["--pin-env", "NO_SUCH"]).expect(3, "NO_SUCH", "no such variable");
    place.sign(&bare, &["--pin-file", "none"]).expect(3, "No such file", "no such file");
    place.sign(&with("pin-source=none"), &[]).expect(3, "No such file", "no such file");
    place.sign(&with(&format!("pin-source={folder}/pin")), &["--pin-file", "pin"]).expect(2, "leave one", "two PINs");
    place.sign(&with("pin-source=https://vault/pin"), &[]).expect(2, "another scheme than file:", "https");
    place.sign(&with("pin-source=|cat%20pin"), &[]).expect(2, "command", "a command");
    place.sign(&with("pin-source=pin&pin-value=x"), &[]).expect(2, "both pin-value and pin-source", "both");
    // An unescaped `&`: the rest of the PIN reads as an attribute.
    place.sign(&with(&format!("pin-value={PIN}&{WRONG}=1")), &[]).expect(2, "query attribute", "half a PIN");
    place.sign(&with(&format!("pin-value={WRONG};")), &[]).expect(2, "%3B", "a PIN with a semicolon");
    place.sign(&with(&format!("pin-value={WRONG}%")), &[]).expect(2, "percent sign", "a PIN with a percent sign");

    write(place.path().join("wrong"), format!("{WRONG}\n"));
    for more in [&[][..], &["--json"]] {
        let run = place.sign(&bare, &[&["--pin-file", "wrong"][..], more].concat());
        run.expect(3, "wrong PIN for the token \"one\"", "a wrong PIN");
        run.expect(3, "CKR_PIN_INCORRECT", "a wrong PIN");
    }
    place.sign(&with(&format!("pin-value={WRONG}")), &[]).expect(3, "CKR_PIN_INCORRECT", "a wrong PIN in the URI");
    place.sign(&bare, &["--pin-file", "pin"]).expect(0, "Signing succeeded", "the right one still does it");
}

#[test]
fn what_is_no_module_is_told_by_name() {
    let Some(place) = Place::new() else { return };
    place.generate("key", "01", CURVES[0].2);
    let uri = |query: &str| format!("pkcs11:token=one;object=key?{query}");
    write(place.path().join("text.so"), "no library");
    let text = place.path().join("text.so");
    let text = text.to_str().unwrap();
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/usr/lib/libm.so.6", "/lib64/libm.so.6"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap_or("/lib/ld-linux-aarch64.so.1");
    for (query, more, code, words) in [
        ("", &[][..], 3, "nothing says which PKCS#11 module"),
        ("module-path=/no/such.so", &[], 3, "No such file"),
        ("module-path=libsofthsm2.so", &[], 2, "must be absolute"),
        ("module-path=/usr/lib/softhsm", &[], 3, "it is a folder"),
        (&format!("module-path={text}"), &[], 3, "is no PKCS#11 module"),
        (&format!("module-path={library}"), &[], 3, "it has no C_GetFunctionList"),
        ("module-name=no-such-module", &[], 3, "no PKCS#11 module \"no-such-module\" was found in"),
        ("module-name=softhsm2", &["--module-path", "tokens"], 3, "no PKCS#11 module \"softhsm2\" was found in"),
    ] {
        place.sign(&uri(query), &[&["--pin-file", "pin"][..], more].concat()).expect(code, words, query);
    }
    for (query, more) in [
        ("module-name=softhsm2", &[][..]),
        ("module-path=/usr/lib/softhsm&module-name=SoftHSM2", &[]),
        ("module-path=/elsewhere.so", &["--module-path", MODULE]),
        ("module-name=softhsm2", &["--module-path", "/usr/lib/softhsm"]),
    ] {
        let run = place.sign(&uri(query), &[&["--pin-file", "pin"][..], more].concat());
        run.expect(0, "Signing succeeded", query);
    }
}

#[test]
fn keys_that_cannot_sign_here_are_refused_by_name() {
    let Some(place) = Place::new() else { return };
    place.tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "rsa", "--id", "01", "--usage-sign"]);
    place.generate("alone", "03", CURVES[0].2);
    place.tool(&["--delete-object", "--type", "pubkey", "--id", "03"]);
    for (label, words) in [("rsa", "is of type RSA"), ("alone", "neither a public key nor a certificate")] {
        place.sign(&place.uri(&format!("token=one;object={label}")), &[]).expect(3, words, label);
    }
    assert!(!place.path().join("model.sig").exists());
}

/// A self-signed certificate of a key that is made here and put into the token as `label`.
fn certified(place: &Place, label: &str, id: &str, public: bool) -> PathBuf {
    place.must(
        "openssl",
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "ca.pem"],
    );
    place.must(
        "openssl",
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "key.pem"],
    );
    let request = ["req", "-new", "-key", "key.pem", "-subj", "/CN=signer", "-out", "request.pem"];
    place.must("openssl", &request);
    let root = ["req", "-x509", "-new", "-key", "ca.pem", "-subj", "/CN=root", "-days", "30", "-out", "root.pem"];
    place.must("openssl", &[&root[..], &["-addext", "keyUsage=critical,keyCertSign"]].concat());
    write(
        place.path().join("leaf.cnf"),
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n",
    );
    let issue = ["x509", "-req", "-in", "request.pem", "-CA", "root.pem", "-CAkey", "ca.pem", "-CAcreateserial"];
    let leaf = format!("{label}.crt");
    place.must("openssl", &[&issue[..], &["-days", "20", "-extfile", "leaf.cnf", "-out", &leaf]].concat());
    let import = ["--import", "key.pem", "--token", "one", "--label", label, "--id", id, "--pin", PIN];
    let more: &[&str] = if public { &[] } else { &["--no-public-key"] };
    place.must("softhsm2-util", &[&import[..], more].concat());
    place.path().join(leaf)
}

#[test]
fn a_certificate_goes_along_if_it_is_of_the_tokens_key() {
    let Some(place) = Place::new() else { return };
    certified(&place, "held", "01", true);
    fs::rename(place.path().join("root.pem"), place.path().join("other-root.pem")).unwrap();
    // No public key in the token: the certificate has it.
    certified(&place, "bare", "02", false);
    let uri = place.uri("token=one;object=bare");
    let sign = |uri: &str, leaf: &str| {
        let args = ["sign", "pkcs11-certificate", "model", "--signature", "model.sig", "--pkcs11-uri", uri];
        let chain = ["--signing-certificate", leaf, "--certificate-chain", "root.pem"];
        place.run(env!("CARGO_BIN_EXE_tensorseal"), &[&args[..], &chain].concat())
    };
    sign(&uri, "bare.crt").expect(0, "Signing succeeded", "the certificate's key is the token's");
    let verify = ["verify", "certificate", "model", "--signature", "model.sig", "--certificate-chain", "root.pem"];
    place.run(env!("CARGO_BIN_EXE_tensorseal"), &verify).expect(0, "Verification succeeded", "ours");
    if let Some(python) = python() {
        let verify = ["-m", "model_signing", "verify", "certificate", "model", "--signature", "model.sig"];
        let chain = ["--certificate_chain", "root.pem"];
        program(place.path(), python, &[&verify[..], &chain].concat()).expect(0, "Verification succeeded", "Python's");
    }
    fs::remove_file(place.path().join("model.sig")).unwrap();
    sign(&place.uri("token=one;object=held"), "bare.crt").expect(3, "is not of the private key", "another key's");
    // Nothing in the token tells that this certificate is another key's; its signature does.
    sign(&uri, "held.crt").expect(3, "does not verify with the public key", "another key's");
    assert!(!place.path().join("model.sig").exists());

    // A certificate in the token is as good as a public key.
    place.sign(&uri, &[]).expect(3, "neither a public key nor a certificate", "nothing");
    place.must("openssl", &["x509", "-in", "bare.crt", "-outform", "DER", "-out", "bare.der"]);
    place.tool(&["--write-object", "bare.der", "--type", "cert", "--id", "02", "--label", "bare"]);
    place.sign(&uri, &[]).expect(0, "Signing succeeded", "the certificate in the token");
    // The same certificate beside another key.
    place.tool(&["--write-object", "bare.der", "--type", "cert", "--id", "01", "--label", "held"]);
    let held = place.uri("token=one;object=held");
    place.sign(&held, &[]).expect(3, "holds different public keys for the private key", "two public halves");
}

/// `tests/pkcs11/faulty.c`: SoftHSM with one fault.
fn faulty(place: &Place) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pkcs11/faulty.c");
    place.must("cc", &["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", "faulty.so", source, "-ldl"]);
    place.path().join("faulty.so").to_str().unwrap().to_owned()
}

#[test]
fn a_faulty_token_signs_nothing_and_is_left_in_order() {
    let Some(place) = Place::new() else { return };
    for (label, id, kind) in CURVES {
        place.generate(label, id, kind);
    }
    let module = faulty(&place);
    let uri = |label: &str| place.uri(&format!("token=one;object={label}")).replace(MODULE, &module);
    let ended = |fault: &str| {
        // Every session that was opened is closed, every login ended, and the module finalised, whatever happened.
        let log = fs::read_to_string(place.path().join("calls")).unwrap();
        fs::remove_file(place.path().join("calls")).unwrap();
        let count = |call: &str| log.lines().filter(|line| *line == call).count();
        assert_eq!(count("OpenSession"), count("CloseSession"), "{fault}: {log}");
        assert_eq!(count("Login"), count("Logout"), "{fault}: {log}");
        assert_eq!((count("Initialize"), count("Finalize")), (1, 1), "{fault}: {log}");
        assert!(log.ends_with("Finalize\n"), "{fault}: {log}");
    };
    for (label, ..) in CURVES {
        // Tokens that give the point as it is, and halves without leading zeros.
        for fault in ["", "raw-point"] {
            place.sign_with(&uri(label), &[], fault).expect(0, "Signing succeeded", fault);
            place.verify(&format!("{label}.pub")).expect(0, "Verification succeeded", fault);
            ended(fault);
        }
    }
    // The PIN once for the token and once for the signature.
    place.sign_with(&uri("p256"), &[], "each-time").expect(0, "Signing succeeded", "each-time");
    place.verify("p256.pub").expect(0, "Verification succeeded", "each-time");
    assert!(fs::read_to_string(place.path().join("calls")).unwrap().contains("LoginAgain\n"));
    ended("each-time");
    fs::remove_file(place.path().join("model.sig")).unwrap();
    for (fault, words) in [
        ("flip-signature", "does not verify with the public key"),
        ("zero-signature", "does not verify with the public key"),
        ("short-signature", "does not verify with the public key"),
        ("empty-signature", "does not verify with the public key"),
        ("sign 0x32", "C_Sign said CKR_DEVICE_REMOVED; the token is not there any more"),
        ("sign 0x68", "CKR_KEY_FUNCTION_NOT_PERMITTED; the key may not sign"),
        ("sign-init 0x70", "CKR_MECHANISM_INVALID; the token does not sign by CKM_ECDSA"),
        ("sign-init 0xb3", "CKR_SESSION_HANDLE_INVALID; the token ended the session"),
        ("sign-init 0x80000007", "CKR_VENDOR_DEFINED 0x"),
        ("find 0x30", "cannot look for objects: C_FindObjectsInit said CKR_DEVICE_ERROR"),
        ("open 0xb1", "CKR_SESSION_COUNT; the token has no session left"),
        ("login 0xa4", "the PIN of the token \"one\""),
        ("login 0x102", "CKR_USER_PIN_NOT_INITIALIZED; the token has no user PIN yet"),
        ("login 0xe0", "CKR_TOKEN_NOT_PRESENT"),
        ("no-sign", "may not sign: its CKA_SIGN is false"),
        ("foreign-point", "is no point of the curve"),
        ("each-time, whole", "wants its PIN again for each signature (CKA_ALWAYS_AUTHENTICATE)"),
    ] {
        place.sign_with(&uri("p256"), &[], fault).expect(3, words, fault);
        assert!(!place.path().join("model.sig").exists(), "{fault}");
        ended(fault);
    }
    place.sign_with(&uri("p256"), &[], "initialize 0x5").expect(3, "cannot start: C_Initialize said", "no start");
}

#[test]
fn the_commands_of_the_page_work() {
    let Some(place) = Place::new() else { return };
    let page = include_str!("../docs/pkcs11.md");
    let script = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    fs::remove_dir_all(place.path().join("tokens")).unwrap();
    fs::remove_file(place.path().join("pin")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tensorseal")).parent().unwrap();
    let path = format!("PATH={}:{}\n", program.display(), std::env::var("PATH").unwrap());
    place.must("sh", &["-euc", &format!("{path}{script}")]).expect(0, "Verification succeeded", "the page");
}
