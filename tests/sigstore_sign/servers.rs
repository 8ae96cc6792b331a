//! Servers that do their part, and servers that do not.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::server::{Asked, Reply, Server};
use crate::common::sigstore::log::State;
use crate::common::sigstore::{Key, Rekor, Stamp, edit};
use crate::common::{Run, program, python, tensorseal_in, write};
use crate::instance::{ISSUER, Instance, Instead, NAME, Twist, token};

const WHO: [&str; 4] = ["--identity", NAME, "--identity-provider", ISSUER];

#[test]
fn what_is_signed_verifies_offline() {
    for rekor in [Rekor::V1, Rekor::V2] {
        let instance = Instance::right(rekor);
        let run = instance.sign(Some(&token(&json!({}))), &["--json"], &[]);
        assert_eq!(run.code, Some(0), "{run:#?}");
        let report = run.json();
        assert_eq!(report["method"], "sigstore");
        assert_eq!((&report["identity"]["identity"], &report["identity"]["issuer"]), (&json!(NAME), &json!(ISSUER)));
        let index = if rekor == Rekor::V1 { 1004 } else { 4 };
        assert_eq!(report["identity"]["log_entries"][0]["index"], index);
        assert!(
            report["certificate"]["not_before"].as_str().unwrap()
                < report["certificate"]["not_after"].as_str().unwrap()
        );
        instance.verify(&WHO).expect(0, "Verification succeeded", "verify");
        instance.verify(&["--identity", "other@example.com", "--identity-provider", ISSUER]).expect(
            1,
            "wrong identity",
            "another identity",
        );
        // What is told to people, and no file beside the signature.
        let run = instance.sign(Some(&token(&json!({}))), &[], &[]);
        run.expect(0, &format!("signed by \"{NAME}\""), "told");
        assert!(!format!("{run:?}").contains(&token(&json!({}))[..40]), "the token is shown");
    }
}

#[test]
fn python_verifies_what_is_signed() {
    let Some(python) = python() else { return };
    for rekor in [Rekor::V1, Rekor::V2] {
        let instance = Instance::right(rekor);
        assert_eq!(instance.sign(Some(&token(&json!({}))), &[], &[]).code, Some(0));
        let all = ["-m", "model_signing", "verify", "sigstore", "m", "--signature", "model.sig", "--identity", NAME];
        let more = ["--identity_provider", ISSUER, "--trust_config", "trust.json"];
        program(instance.path(), &python, &[&all[..], &more].concat());
    }
}

/// Signs with an instance of which a part is wrong: it must say `words`, and write nothing.
fn refused(rekor: Rekor, twist: Twist, instead: Instead, words: &str) -> Run {
    let instance = Instance::new(rekor, twist, instead);
    let run = instance.sign(Some(&token(&json!({}))), &["--json"], &[]);
    run.expect(3, words, words);
    assert!(!instance.signature().exists(), "{words}: a signature was written");
    let shown = format!("{run:?}");
    assert!(!shown.contains("YSBzZWNyZXQgc2lnbmF0dXJl"), "{words}: the token's signature is shown");
    assert_eq!(run.json()["error"]["kind"], "sign");
    run
}

fn at(asked: &Asked, path: &str, status: u16, body: &str) -> Option<Reply> {
    (asked.method == "POST" && asked.path.starts_with(path)).then(|| Reply::Send(status, body.into()))
}

#[test]
fn a_certificate_authority_that_fails_is_named() {
    let cases: [(Instead, &str); 7] = [
        (
            |asked| at(asked, "/fulcio", 401, asked.text().rsplit('.').next().unwrap()),
            "HTTP status 401: failed to create signing certificate: [..]",
        ),
        (
            |asked| at(asked, "/fulcio", 400, "There was an error processing the identity token"),
            "It did not take the token",
        ),
        (|asked| at(asked, "/fulcio", 503, "\u{1b}[2J"), "Try again later"),
        (|asked| at(asked, "/fulcio", 200, "{}"), "contains no certificate"),
        (|asked| at(asked, "/fulcio", 200, "garbage"), "certificate authority (Fulcio): the answer of"),
        (
            |asked| at(asked, "/fulcio", 200, r#"{"signedCertificateEmbeddedSct":{"chain":{"certificates":["x"]}}}"#),
            "invalid certificate PEM",
        ),
        (
            |asked| {
                asked.path.starts_with("/fulcio/api").then(|| Reply::Elsewhere("https://elsewhere.example".to_owned()))
            },
            "HTTP status 307",
        ),
    ];
    for (instead, words) in cases {
        refused(Rekor::V2, |_| {}, instead, words).expect(3, "/fulcio", "its address");
    }
}

#[test]
fn a_certificate_that_nobody_would_accept_is_not_used() {
    let cases: [(Twist, &str); 5] = [
        // For another key: that of the kit, not that of the request.
        (|request| request.leaf = edit(|_| {}), "does not verify"),
        (|request| request.ca_key = Some(Key::p384("another")), "from no trusted authority"),
        (|request| request.ct_key = Some(Key::p256("another")), "SCT"),
        (|request| request.stamp = edit(|stamp: &mut Stamp| stamp.time += 86_400), "does not verify"),
        (|request| request.scts = edit(Vec::clear), "does not verify"),
    ];
    for (twist, words) in cases {
        refused(Rekor::V2, twist, |_| None, words);
    }
}

#[test]
fn a_certificate_for_somebody_else_is_not_used() {
    for (name, issuer, words) in [
        ("other@example.com", ISSUER, "Fulcio certified \"other@example.com\""),
        (NAME, "https://other.example.com", "Fulcio certified that \"https://other.example.com\""),
    ] {
        let instance = Instance::certifying(Rekor::V2, name, issuer, |_| {}, |_| None);
        instance.sign(Some(&token(&json!({}))), &[], &[]).expect(3, words, words);
        assert!(!instance.signature().exists());
    }
    let name = "https://ci.example.com/job";
    let instance = Instance::certifying(Rekor::V2, name, ISSUER, |_| {}, |_| None);
    instance.sign(Some(&token(&json!({}))), &[], &[]).expect(3, "--expect-identity", "an identity of a template");
    instance.sign(Some(&token(&json!({}))), &["--expect-identity", name], &[]).expect(0, name, "the expected identity");
    instance.sign(Some(&token(&json!({}))), &["--expect-identity", NAME], &[]).expect(
        3,
        &format!("the token is for \"{NAME}\""),
        "another than was expected",
    );
}

#[test]
fn a_log_that_fails_is_named() {
    let cases: [(Instead, &str); 4] = [
        (|asked| at(asked, "/rekor", 409, "an equivalent entry already exists"), "sign again"),
        (|asked| at(asked, "/rekor", 500, ""), "HTTP status 500"),
        (|asked| at(asked, "/rekor", 201, "garbage"), "the transparency log (Rekor): the answer of"),
        (|asked| at(asked, "/rekor", 201, "{}"), "the transparency log (Rekor): the answer of"),
    ];
    for rekor in [Rekor::V1, Rekor::V2] {
        for (instead, words) in cases {
            refused(rekor, |_| {}, instead, words).expect(3, "/rekor", "its address");
        }
    }
}

#[test]
fn a_log_entry_that_nobody_would_accept_is_not_used() {
    let wrong: [(Twist, &str); 5] = [
        (|request| request.body = edit(|_| {}), ""),
        (|request| request.log_key = Some(Key::p256("another")), "does not verify"),
        (|request| request.promise_key = Some(Key::p256("another")), "does not verify"),
        (|request| request.promise = false, ""),
        (|request| request.state = edit(|state: &mut State| state.root = [0; 32]), "does not verify"),
    ];
    for (twist, words) in wrong {
        refused(Rekor::V1, twist, |_| None, words);
    }
    refused(Rekor::V2, |request| request.body = edit(|_| {}), |_| None, "does not match the submitted entry");
    refused(Rekor::V2, |request| request.log_key = Some(Key::ed25519("another")), |_| None, "does not verify");
}

#[test]
fn a_timestamp_authority_that_fails_is_named() {
    let cases: [(Twist, Instead, &str); 5] = [
        (|_| {}, |asked| at(asked, "/tsa", 503, ""), "HTTP status 503. Try again later"),
        (|_| {}, |asked| at(asked, "/tsa", 200, "garbage"), "the timestamp authority: the answer of"),
        (|request| request.stamp = edit(|stamp: &mut Stamp| stamp.imprint[0] ^= 1), |_| None, "imprint mismatch"),
        (|request| request.stamp = edit(|stamp: &mut Stamp| stamp.nonce[2] ^= 1), |_| None, "nonce mismatch"),
        (|request| request.tsa_key = Some(Key::p256("another")), |_| None, "does not verify"),
    ];
    for (twist, instead, words) in cases {
        refused(Rekor::V2, twist, instead, words);
    }
}

#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let begun = Instant::now();
    let hang: [Instead; 3] = [
        |asked| (asked.path == "/fulcio/api/v2/signingCert").then_some(Reply::Never),
        |asked| (asked.path == "/rekor/api/v2/log/entries").then_some(Reply::Never),
        |asked| (asked.path == "/tsa" && asked.method == "POST").then_some(Reply::Never),
    ];
    for (instead, name) in hang.into_iter().zip(["Fulcio", "Rekor", "timestamp authority"]) {
        refused(Rekor::V2, |_| {}, instead, "did not answer within 3 s").expect(3, name, "which");
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_server_out_of_reach_is_found_before_the_model_is_read() {
    let instance = Instance::right(Rekor::V2);
    let text = std::fs::read_to_string(instance.path().join("trust.json")).unwrap();
    // Nobody may be sent a token in the clear, and nobody listens on port 1.
    for (part, wrong, words) in [
        (
            "/rekor/",
            "http://127.0.0.1:1/",
            "the transparency log (Rekor): cannot reach \"http://127.0.0.1:1/\": Connection refused",
        ),
        ("/fulcio", "http://fulcio.example", "is not https"),
    ] {
        write(instance.path().join("trust.json"), text.replace(&format!("{}{part}", instance.server.url), wrong));
        std::fs::remove_dir_all(instance.path().join("m")).ok();
        instance.sign(Some(&token(&json!({}))), &[], &[]).expect(3, words, part);
        assert!(instance.server.asked().iter().all(|asked| asked.method == "GET"), "something was sent");
    }
}

#[test]
fn the_public_instance_out_of_reach_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("m/weights"), b"weights");
    write(folder.path().join("token"), token(&json!({})));
    // A proxy that nobody runs stands for a machine without a network, whatever network this one has.
    let nowhere = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    let begun = Instant::now();
    for more in [&[][..], &["--use-staging"]] {
        let all = [&["sign", "sigstore", "m", "--identity-token-file", "token"], more].concat();
        let run = tensorseal_in(folder.path(), &all, &nowhere);
        run.expect(3, "cannot fetch the trust root", "without a network");
        run.expect(3, if more.is_empty() { "sigstore.dev" } else { "sigstage.dev" }, "which");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!folder.path().join("model.sig").exists());
}

#[test]
fn a_redirect_never_carries_the_token_away() {
    let other = Server::start(|_| Reply::ok("{}"));
    let url = other.url.clone();
    let front = Server::start(move |_| Reply::Elsewhere(url.clone()));
    let instance = Instance::right(Rekor::V2);
    let text = std::fs::read_to_string(instance.path().join("trust.json")).unwrap();
    write(instance.path().join("trust.json"), text.replace(&format!("{}/fulcio", instance.server.url), &front.url));
    instance.sign(Some(&token(&json!({}))), &[], &[]).expect(3, "HTTP status 307", "redirected");
    assert!(other.asked().is_empty());
}

#[test]
fn what_is_on_this_machine_is_not_asked_through_a_proxy() {
    let proxy = Server::start(|_| Reply::Send(502, b"a proxy".to_vec()));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let instance = Instance::right(Rekor::V2);
        instance.sign(Some(&token(&json!({}))), &[], &[(name, &proxy.url)]).expect(0, "Signing succeeded", name);
    }
    assert!(proxy.asked().is_empty(), "the token crossed a network in the clear");
}
