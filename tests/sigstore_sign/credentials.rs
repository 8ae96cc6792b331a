//! Where tokens come from, and which are used.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::common::server::{Reply, Server};
use crate::common::sigstore::Rekor;
use crate::common::{Run, write};
use crate::instance::{Instance, NAME, now, token};

const AMBIENT: [&str; 1] = ["--use-ambient-credentials"];

fn instance() -> Instance {
    Instance::right(Rekor::V2)
}

/// Nothing was sent to any server.
fn silent(instance: &Instance) {
    assert!(instance.server.asked().is_empty(), "{:?}", instance.server.asked());
}

#[test]
fn a_token_that_is_no_good_is_refused_before_anything_else() {
    for (more, words) in [
        (json!({"aud": "other"}), "it is for \"other\", not for \"sigstore\""),
        (json!({"exp": now() - 1}), "it expired at"),
        (json!({"nbf": now() + 3600}), "it is valid from"),
        (json!({"email_verified": false}), "has not verified the e-mail address"),
        (json!({"exp": "soon"}), "its claims"),
    ] {
        let instance = instance();
        // Not even the model is looked at.
        std::fs::remove_dir_all(instance.path().join("m")).unwrap();
        instance.sign(Some(&token(&more)), &[], &[]).expect(3, words, words);
        silent(&instance);
    }
    instance().sign(Some(&token(&json!({"aud": "mine"}))), &["--client-id", "mine"], &[]).expect(
        0,
        NAME,
        "another audience",
    );
    instance().sign(Some("no token"), &[], &[]).expect(3, "it is no identity token", "no token");
}

#[test]
fn a_token_comes_from_a_file_the_environment_or_under_protest_the_command_line() {
    let text = token(&json!({}));
    let hidden = |run: &Run| assert!(!format!("{run:?}").contains("YSBzZWNyZXQ"), "{run:?}");
    let instance = instance();
    let run = instance.sign(None, &["--identity-token", &text], &[]);
    run.expect(0, "the identity token on the command line can be seen by every user", "command line");
    hidden(&run);
    let run = instance.sign(None, &["--identity-token-env", "MY_TOKEN"], &[("MY_TOKEN", &text)]);
    run.expect(0, "Signing succeeded", "environment");
    assert!(!run.stderr.contains("can be seen"));
    instance.sign(None, &["--identity-token-env", "MY_TOKEN"], &[]).expect(
        3,
        "$MY_TOKEN: there is no such variable",
        "unset",
    );
    // Whoever mistakes one option for another must not find the token in a log.
    let run = instance.sign(None, &["--identity-token-env", &text], &[]);
    run.expect(3, "$the name that was given", "the token for its name");
    hidden(&run);
    instance.sign(None, &["--identity-token-file", "none"], &[]).expect(3, "\"none\": No such file", "no file");
    let run = instance.sign(Some(&text), &["--identity-token-env", "MY_TOKEN"], &[("MY_TOKEN", &text)]);
    assert_eq!(run.code, Some(2), "two tokens: {run:#?}");
    let run = instance.sign(Some(&text), &["--use-staging"], &[]);
    assert_eq!(run.code, Some(2), "two instances: {run:#?}");
}

#[test]
fn a_token_in_a_pipe_is_read_once() {
    let instance = instance();
    let pipe = instance.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn(move || std::fs::write(pipe, token(&json!({}))).unwrap());
    instance.sign(None, &["--identity-token-file", "pipe"], &[]).expect(0, NAME, "pipe");
    writer.join().unwrap();
}

#[test]
fn a_given_token_goes_before_the_one_of_the_machine() {
    let instance = instance();
    // Asking would fail: there is no such job.
    let job = [("GITHUB_ACTIONS", "true")];
    instance.sign(Some(&token(&json!({}))), &AMBIENT, &job).expect(0, NAME, "given");
    instance.sign(None, &AMBIENT, &job).expect(3, "Add `id-token: write`", "of the machine");
}

#[test]
fn github_is_asked_with_the_secret_of_the_job() {
    let issuer = Server::start(|_| Reply::ok(json!({"count": 1, "value": token(&json!({}))}).to_string()));
    let url = format!("{}/token?api-version=2.0", issuer.url);
    let job = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &*url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "s3cret"),
    ];
    instance().sign(None, &AMBIENT, &job).expect(0, NAME, "github");
    let asked = issuer.asked();
    assert_eq!(asked.len(), 2, "before hashing, and after it");
    assert_eq!(
        (&*asked[0].path, asked[0].header("authorization")),
        ("/token?api-version=2.0&audience=sigstore", "Bearer s3cret")
    );
    for (url, words) in [
        ("http://127.0.0.1:1/", "GitHub Actions gave no identity token: cannot reach"),
        ("http://token.example/", "is not https"),
    ] {
        let mut job = job;
        job[1].1 = url;
        let run = instance().sign(None, &AMBIENT, &job);
        run.expect(3, words, url);
        assert!(!format!("{run:?}").contains("s3cret"));
    }
    for (answer, words) in
        [("{}", "no token in it"), ("garbage", "no token in it"), (r#"{"value":"a.b"}"#, "it has 2 parts")]
    {
        let issuer = Server::start(move |_| Reply::ok(answer));
        let mut job = job;
        job[1].1 = &issuer.url;
        instance().sign(None, &AMBIENT, &job).expect(3, words, answer);
    }
    let issuer = Server::start(|_| Reply::Send(403, b"no".to_vec()));
    let mut job = job;
    job[1].1 = &issuer.url;
    instance().sign(None, &AMBIENT, &job).expect(3, "HTTP status 403: no", "forbidden");
}

#[test]
fn a_service_that_quotes_the_secret_of_the_job_does_not_get_it_into_a_log() {
    let echo = Server::start(|asked| Reply::Send(403, format!("no: {}", asked.header("authorization")).into()));
    let job = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &*echo.url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "s3cret"),
    ];
    let run = instance().sign(None, &AMBIENT, &job);
    run.expect(3, "HTTP status 403: no: Bearer [..]", "quoted");
    assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
}

#[test]
fn gitlab_puts_it_into_a_variable_named_after_the_audience() {
    let text = token(&json!({}));
    let job = [("GITLAB_CI", "true"), ("SIGSTORE_ID_TOKEN", &*text)];
    instance().sign(None, &AMBIENT, &job).expect(0, NAME, "gitlab");
    instance().sign(None, &AMBIENT, &job[..1]).expect(3, "SIGSTORE_ID_TOKEN is not set. Declare it", "not declared");
    let text = token(&json!({"aud": "my-client"}));
    let job = [("GITLAB_CI", "true"), ("MY_CLIENT_ID_TOKEN", &*text)];
    let args = ["--use-ambient-credentials", "--client-id", "my-client"];
    instance().sign(None, &args, &job).expect(0, NAME, "another audience");
}

#[test]
fn agents_are_run_and_not_waited_for_without_end() {
    for (variable, program, asked) in [
        ("BUILDKITE", "buildkite-agent", "oidc request-token --audience sigstore"),
        ("CIRCLECI", "circleci", r#"run oidc get --root-issuer --claims {"aud":"sigstore"}"#),
    ] {
        let instance = instance();
        let bin = instance.path().join("bin");
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let script = |text: &str| {
            write(bin.join(program), format!("#!/bin/sh\n{text}\n"));
            std::fs::set_permissions(bin.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let job = [(variable, "true"), ("PATH", &*path)];
        instance.sign(None, &AMBIENT, &job).expect(3, "cannot be run: No such file", "no agent");
        script(&format!("echo \"$*\" > asked; echo '{}'", token(&json!({}))));
        instance.sign(None, &AMBIENT, &job).expect(0, NAME, program);
        assert_eq!(std::fs::read_to_string(instance.path().join("asked")).unwrap().trim(), asked);
        script("echo 'not today' >&2; exit 3");
        instance.sign(None, &AMBIENT, &job).expect(3, "exit status: 3: not today", "it fails");
        script("exec sleep 100");
        instance.sign(None, &AMBIENT, &job).expect(3, "did not end within 3 s", "it hangs");
        script(&format!("echo '{}'; sleep 20 & exit 0", token(&json!({}))));
        let begun = std::time::Instant::now();
        instance.sign(None, &AMBIENT, &job).expect(3, "did not close its output", "it leaves a program behind");
        assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
        script("yes | head -c 1000000");
        instance.sign(None, &AMBIENT, &job).expect(3, "gave no identity token", "it prints much");
    }
}

#[test]
fn google_is_asked_for_the_full_token_of_the_machine() {
    let issuer = Server::start(|_| Reply::ok(token(&json!({}))));
    let host = issuer.url.trim_start_matches("http://").to_owned();
    let machine = [("GCE_METADATA_HOST", &*host)];
    instance().sign(None, &AMBIENT, &machine).expect(0, NAME, "google");
    let asked = &issuer.asked()[0];
    assert_eq!(asked.header("metadata-flavor"), "Google");
    assert_eq!(
        asked.path,
        "/computeMetadata/v1/instance/service-accounts/default/identity?audience=sigstore&format=full"
    );
    instance().sign(None, &AMBIENT, &[("GCE_METADATA_HOST", "127.0.0.1:1")]).expect(
        3,
        "Google Cloud gave no identity token: cannot reach",
        "no metadata server",
    );
}

#[test]
fn a_machine_without_a_token_of_its_own_says_so() {
    let instance = instance();
    instance.sign(None, &AMBIENT, &[]).expect(3, "no ambient credentials", "no system");
    silent(&instance);
    instance.sign(None, &AMBIENT, &[("GITHUB_ACTIONS", "false")]).expect(3, "no ambient credentials", "not true");
}
