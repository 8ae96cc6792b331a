//! Tokens that a machine of a CI system or a cloud gets for itself: GitHub, Google Cloud, GitLab, Buildkite, CircleCI.
//!
//! Ours and not `ambient-id`'s, because that one knows no Google Cloud, takes no audience but `sigstore` through
//! `sigstore-oidc`, and waits for a hung agent for ever.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::token::{IdentityToken, TokenError};
use crate::error::{quoted, tame};
use crate::net::{Net, NetError, address};

/// The longest output of a program that prints a token.
const LONGEST: u64 = 64 << 10;

/// Why there is no ambient token. Each message names the system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmbientError {
    /// No system that we know.
    #[error(
        "no ambient credentials: this is not GitHub Actions (GITHUB_ACTIONS), Google Cloud, GitLab CI (GITLAB_CI), Buildkite (BUILDKITE) or CircleCI (CIRCLECI). Leave out --use-ambient-credentials to log in, or give a token with --identity-token-file"
    )]
    NoneFound,
    /// The job may not have one.
    #[error("{system} gives this job no identity token: {variable} is not set. {remedy}")]
    NotAllowed {
        /// Which system.
        system: &'static str,
        /// What is missing.
        variable: String,
        /// What to change.
        remedy: &'static str,
    },
    /// The service that hands out tokens did not.
    #[error("{system} gave no identity token: {source}")]
    Service {
        /// Which system.
        system: &'static str,
        /// Why.
        source: NetError,
    },
    /// The program that hands out tokens did not.
    #[error("{system} gave no identity token: {} {}", quoted(program), tame(why))]
    Program {
        /// Which system.
        system: &'static str,
        /// What was run.
        program: &'static str,
        /// What came of it.
        why: String,
    },
    /// What was handed out is no token for us.
    #[error("the identity token of {system} cannot be used: {source}")]
    Token {
        /// Which system.
        system: &'static str,
        /// Why.
        source: TokenError,
    },
}

/// Where to look for what.
pub(super) struct Ambient<'a> {
    /// The environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// For whom the token shall be.
    pub(super) audience: &'a str,
    pub(super) net: &'a Net,
}

impl Ambient<'_> {
    /// The token of the first system that this machine belongs to.
    pub(super) fn token(&self) -> Result<IdentityToken, AmbientError> {
        let is = |name: &str| (self.variable)(name).is_some_and(|value| value == "true");
        let (system, text) = if is("GITHUB_ACTIONS") {
            ("GitHub Actions", self.github("GitHub Actions")?)
        } else if is("GITLAB_CI") {
            ("GitLab CI", self.gitlab("GitLab CI")?)
        } else if is("BUILDKITE") {
            let args = ["oidc", "request-token", "--audience", self.audience];
            ("Buildkite", self.program("Buildkite", "buildkite-agent", &args)?)
        } else if is("CIRCLECI") {
            let claims = serde_json::json!({"aud": self.audience}).to_string();
            let args = ["run", "oidc", "get", "--root-issuer", "--claims", &claims];
            ("CircleCI", self.program("CircleCI", "circleci", &args)?)
        } else if let Some(host) = self.google_host() {
            ("Google Cloud", self.google("Google Cloud", &host)?)
        } else {
            return Err(AmbientError::NoneFound);
        };
        IdentityToken::parse(&text).map_err(|source| AmbientError::Token { system, source })
    }

    fn needed(
        &self,
        system: &'static str,
        name: String,
        remedy: &'static str,
    ) -> Result<Zeroizing<String>, AmbientError> {
        match (self.variable)(&name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Zeroizing::new(value)),
            None => Err(AmbientError::NotAllowed { system, variable: name, remedy }),
        }
    }

    /// <https://docs.github.com/actions/reference/security/oidc>: a URL and a secret to ask it with.
    fn github(&self, system: &'static str) -> Result<Zeroizing<String>, AmbientError> {
        const REMEDY: &str = "Add `id-token: write` to the `permissions` of the job";
        #[derive(Deserialize)]
        struct Answer {
            value: String,
        }
        let url = self.needed(system, "ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), REMEDY)?;
        let secret = self.needed(system, "ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), REMEDY)?;
        let service = |source| AmbientError::Service { system, source };
        let mut url = address(&url).map_err(service)?;
        url.query_pairs_mut().append_pair("audience", self.audience);
        let bearer = Zeroizing::new(format!("Bearer {}", *secret));
        let hidden = |error| match error {
            NetError::Status { url, status, text } => {
                NetError::Status { url, status, text: crate::net::without(&text, &secret) }
            }
            other => other,
        };
        let answer = self.net.get(&url, &[("Authorization", &bearer)]).map_err(hidden);
        let body = Zeroizing::new(answer.map_err(service)?);
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            service(NetError::Garbled {
                url: crate::net::shown(&url),
                why: format!("no token in it, {:?}", error.classify()),
            })
        })?;
        Ok(Zeroizing::new(answer.value))
    }

    /// <https://docs.gitlab.com/ci/secrets/id_token_authentication/>: a variable that the job's `id_tokens` names.
    fn gitlab(&self, system: &'static str) -> Result<Zeroizing<String>, AmbientError> {
        let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name = format!("{}_ID_TOKEN", self.audience.chars().map(upper).collect::<String>());
        self.needed(system, name, "Declare it under `id_tokens` of the job, with `aud` as here")
    }

    /// The metadata server's address on a machine of Google's. `GCE_METADATA_HOST` is what Google's own libraries look at.
    fn google_host(&self) -> Option<String> {
        if let Some(host) = (self.variable)("GCE_METADATA_HOST").filter(|host| !host.is_empty()) {
            return Some(host);
        }
        let product = std::fs::read_to_string("/sys/class/dmi/id/product_name").unwrap_or_default();
        ["Google", "Google Compute Engine"].contains(&product.trim()).then(|| "metadata.google.internal".to_owned())
    }

    /// <https://cloud.google.com/compute/docs/instances/verifying-instance-identity>. The server is reached without TLS, over
    /// a link-local address that the hypervisor answers.
    fn google(&self, system: &'static str, host: &str) -> Result<Zeroizing<String>, AmbientError> {
        let service = |source| AmbientError::Service { system, source };
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/identity");
        let mut url = sigstore_sign::reqwest::Url::parse(&url)
            .map_err(|error| service(NetError::Url { url, why: error.to_string() }))?;
        url.query_pairs_mut().append_pair("audience", self.audience).append_pair("format", "full");
        let body = Zeroizing::new(self.net.get(&url, &[("Metadata-Flavor", "Google")]).map_err(service)?);
        match std::str::from_utf8(&body) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => {
                Err(service(NetError::Garbled { url: crate::net::shown(&url), why: "it is not text".to_owned() }))
            }
        }
    }

    /// The standard output of a program, which has as long as a request.
    fn program(
        &self,
        system: &'static str,
        program: &'static str,
        args: &[&str],
    ) -> Result<Zeroizing<String>, AmbientError> {
        let failed = |why: String| AmbientError::Program { system, program, why };
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            // Room for all at once: a buffer that grows leaves copies of the token behind.
            let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
            let (send, receive) = mpsc::channel();
            std::thread::spawn(move || {
                // What could not be read is missed when the token is read.
                let _ = pipe.map(|pipe| pipe.take(LONGEST).read_to_end(&mut text));
                // Nobody waits any more if that took too long.
                let _ = send.send(text);
            });
            receive
        };
        let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        let until = Instant::now() + self.net.timeout();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                ended => {
                    // It may have ended just now; then there is nothing to kill.
                    let _ = child.kill();
                    let _ = child.wait();
                    let seconds = self.net.timeout().as_secs();
                    return Err(failed(ended.map_or_else(
                        |error| format!("cannot be waited for: {error}"),
                        |_| format!("did not end within {seconds} s"),
                    )));
                }
            }
        };
        // A program that it left behind may hold the other end of the pipe.
        let text = |reader: mpsc::Receiver<Zeroizing<Vec<u8>>>| {
            reader.recv_timeout(until.saturating_duration_since(Instant::now()))
        };
        if !status.success() {
            return Err(failed(format!(
                "ended with {status}{}",
                crate::net::said(&String::from_utf8_lossy(&text(stderr).unwrap_or_default()))
            )));
        }
        let stdout = text(stdout).map_err(|_| failed("did not close its output".to_owned()))?;
        match std::str::from_utf8(&stdout) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err(failed("did not print text".to_owned())),
        }
    }
}
