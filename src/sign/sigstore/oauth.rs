//! Logging in: OAuth 2.0 for native apps (RFC 8252) with PKCE (RFC 7636) and the nonce of OpenID Connect.
//!
//! Ours and not `sigstore-oidc`'s, because that one takes no client secret and no nonce, guesses the issuer's addresses, gives
//! up at the first connection that is not the browser's answer, and talks on standard output.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sigstore_sign::reqwest::Url;
use zeroize::Zeroizing;

use super::token::{IdentityToken, TokenError};
use crate::error::{quoted, tame};
use crate::net::{Net, NetError, address, shown};

/// Asks an issuer to show the code for the user to copy. No RFC has it; Dex and others do.
const OUT_OF_BAND: &str = "urn:ietf:wg:oauth:2.0:oob";

/// How long the user may take.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a connection may take for its request: one without any must not keep the one with the answer waiting for long.
const REQUEST: Duration = Duration::from_secs(2);

/// The longest request of a browser that is read, in bytes.
const LONGEST: usize = 16 << 10;

/// Why nobody logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// This instance names no issuer.
    #[error("the signing config names no OpenID Connect issuer to log in at; give a token with --identity-token-file")]
    NoIssuer,
    /// The issuer's own description cannot be used.
    #[error("the OpenID Connect issuer {} cannot be used: {why}", quoted(issuer))]
    Issuer {
        /// Which.
        issuer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The issuer did not answer.
    #[error("cannot log in: {0}")]
    Service(#[from] NetError),
    /// The issuer, or the user there, said no.
    #[error("the login was refused: {}{}", quoted(error), crate::net::said(description))]
    Refused {
        /// The code of RFC 6749, section 4.1.2.1 or 5.2, such as `access_denied`.
        error: String,
        /// What the issuer says of it.
        description: String,
    },
    /// An answer to a question that was not ours.
    #[error(
        "the answer of the browser does not belong to this login (wrong state): somebody else made it, or it is of an older login. Nothing was signed; log in again"
    )]
    State,
    /// A token that was not made for this login.
    #[error("the token does not belong to this login (wrong nonce): the issuer is at fault, or somebody is in between")]
    Nonce,
    /// The token is no good.
    #[error("the token that came of the login cannot be used: {0}")]
    Token(#[from] TokenError),
    /// The user did not come back.
    #[error("nobody logged in within {} s; run it again", .0.as_secs())]
    TimedOut(Duration),
    /// There is nobody to ask.
    #[error(
        "cannot log in: there is no terminal and no browser here. Give a token with --identity-token-file or --identity-token-env, or use --use-ambient-credentials on a CI system"
    )]
    Nobody,
    /// The user copied nothing.
    #[error("no code was given; run it again, and paste the code that the browser shows")]
    NoCode,
    /// This machine got in the way.
    #[error("cannot log in: {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The user's side of a login.
pub trait Prompt {
    /// Whether somebody can log in at all, now and later; `out_of_band` if they will copy a code.
    ///
    /// # Errors
    /// [`LoginError::Nobody`].
    fn ready(&self, out_of_band: bool) -> Result<(), LoginError>;

    /// Sends the user to `url`. With `answers_here` the browser must run on this machine, since it will be sent back to it.
    ///
    /// # Errors
    /// [`LoginError`] if nobody can be reached.
    fn visit(&self, url: &str, answers_here: bool) -> Result<(), LoginError>;

    /// The code that the issuer showed to the user.
    ///
    /// # Errors
    /// [`LoginError`] if there is none.
    fn code(&self) -> Result<Zeroizing<String>, LoginError>;

    /// Whether a browser on this machine can be sent somewhere; if not, the user must copy a code.
    fn has_browser(&self) -> bool;
}

/// An issuer's addresses (OpenID Connect Discovery 1.0).
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    name: String,
    authorization: Url,
    token: Url,
    /// Whether the client's secret goes into the form, because the issuer takes it no other way.
    secret_in_form: bool,
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Issuer {
    /// Asks the issuer where what is.
    pub(super) fn discover(issuer: &str, net: &Net) -> Result<Self, LoginError> {
        let url = address(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        let body = net.get(&url, &[])?;
        let wrong = |why: String| LoginError::Issuer { issuer: issuer.to_owned(), why };
        let found: Description = serde_json::from_slice(&body).map_err(|error| {
            wrong(format!("what {} says is no description of an issuer: {}", shown(&url), tame(&error.to_string())))
        })?;
        // Discovery 1.0, section 4.3: otherwise one issuer could speak for another.
        if found.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(wrong(format!("it calls itself {}", quoted(&found.issuer))));
        }
        let methods = found.token_endpoint_auth_methods_supported.unwrap_or_default();
        let has = |method: &str| methods.iter().any(|of| of == method);
        Ok(Self {
            name: found.issuer,
            authorization: address(&found.authorization_endpoint)?,
            token: address(&found.token_endpoint)?,
            secret_in_form: has("client_secret_post") && !has("client_secret_basic"),
        })
    }
}

/// A client that an issuer knows.
#[derive(Clone)]
pub struct Client {
    /// Its name, which is the audience of its tokens too.
    pub id: String,
    /// Its secret. That of a program which users have is none, but some issuers want one.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self { id: "sigstore".to_owned(), secret: Zeroizing::default() }
    }
}

/// One login.
pub(super) struct Login<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) client: &'a Client,
    pub(super) prompt: &'a dyn Prompt,
    pub(super) net: &'a Net,
    /// Whether the user copies a code even if there is a browser.
    pub(super) out_of_band: bool,
    /// How long the user may take.
    pub(super) patience: Duration,
}

impl Login<'_> {
    /// Has the user log in. What comes of it is checked but for audience and time.
    pub(super) fn token(&self) -> Result<IdentityToken, LoginError> {
        let (verifier, state, nonce) = (random()?, random()?, random()?);
        let (code, redirect) = if self.out_of_band || !self.prompt.has_browser() {
            self.prompt.visit(self.question(OUT_OF_BAND, &verifier, &state, &nonce).as_str(), false)?;
            (self.prompt.code()?, OUT_OF_BAND.to_owned())
        } else {
            let io = |doing| move |source| LoginError::Io { doing, source };
            // RFC 8252, sections 7.3 and 8.3: the address, not `localhost`, and any port.
            let listener = TcpListener::bind("127.0.0.1:0").map_err(io("listen for the browser"))?;
            let port = listener.local_addr().map_err(io("listen for the browser"))?.port();
            let redirect = format!("http://127.0.0.1:{port}/callback");
            self.prompt.visit(self.question(&redirect, &verifier, &state, &nonce).as_str(), true)?;
            (wait(&listener, &state, self.patience)?, redirect)
        };
        let token = self.exchange(&code, &verifier, &redirect)?;
        if token.nonce() != Some(nonce.as_str()) {
            return Err(LoginError::Nonce);
        }
        if token.issuer() != self.issuer.name {
            let why = format!("its token is of {}", quoted(token.issuer()));
            return Err(LoginError::Issuer { issuer: self.issuer.name.clone(), why });
        }
        Ok(token)
    }

    /// The address that asks the user.
    fn question(&self, redirect: &str, verifier: &str, state: &str, nonce: &str) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let mut url = self.issuer.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client.id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", "openid email")
            .append_pair("state", state)
            .append_pair("nonce", nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        url
    }

    /// The token for a code (RFC 6749, section 4.1.3).
    fn exchange(&self, code: &str, verifier: &str, redirect: &str) -> Result<IdentityToken, LoginError> {
        #[derive(Deserialize)]
        struct Answer {
            id_token: String,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
            #[serde(default)]
            error_description: String,
        }
        let (id, secret) = (self.client.id.as_str(), self.client.secret.as_str());
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
            ("client_id", id),
        ];
        let basic = (!secret.is_empty() && !self.issuer.secret_in_form).then_some((id, secret));
        if !secret.is_empty() && basic.is_none() {
            form.push(("client_secret", secret));
        }
        let body = match self.net.post_form(&self.issuer.token, basic, &form) {
            Ok(body) => Zeroizing::new(body),
            Err(NetError::Status { text, status, url }) => {
                let text = crate::net::without(&text, secret);
                return Err(match serde_json::from_str::<Refusal>(&text) {
                    Ok(Refusal { error, error_description }) => {
                        LoginError::Refused { error, description: error_description }
                    }
                    Err(_) => NetError::Status { text, status, url }.into(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| NetError::Garbled {
            url: shown(&self.issuer.token),
            // Only where it broke: the rest may be a token.
            why: format!("no id_token in it ({:?} error, column {})", error.classify(), error.column()),
        })?;
        let token = Zeroizing::new(answer.id_token);
        Ok(IdentityToken::parse(&token)?)
    }
}

/// 256 bits that nobody can guess.
fn random() -> Result<Zeroizing<String>, LoginError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| LoginError::Io { doing: "get random numbers", source: io::Error::other(error.to_string()) })?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// Waits until the browser comes back, and gives the code that it brings.
fn wait(listener: &TcpListener, state: &str, patience: Duration) -> Result<Zeroizing<String>, LoginError> {
    let io = |source| LoginError::Io { doing: "wait for the browser", source };
    listener.set_nonblocking(true).map_err(io)?;
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match listener.accept() {
            // A browser opens connections that it does not use, and asks for an icon: what is not the answer is passed over.
            Ok((stream, _)) => {
                if let Some(answer) = answer(stream, state) {
                    return answer;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(io(error)),
        }
    }
    Err(LoginError::TimedOut(patience))
}

/// What one connection brings: nothing, a code, or a no.
fn answer(mut stream: TcpStream, state: &str) -> Option<Result<Zeroizing<String>, LoginError>> {
    let limits = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(REQUEST)));
    limits.and_then(|()| stream.set_write_timeout(Some(REQUEST))).ok()?;
    let path = Zeroizing::new(request(&mut stream)?);
    let Some(query) = path.strip_prefix("/callback?") else {
        reply(&mut stream, "404 Not Found", "Nothing is here.");
        return None;
    };
    let url = Url::parse(&format!("http://127.0.0.1/?{query}")).ok()?;
    let one = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let answer = if one("state").as_deref() != Some(state) {
        Err(LoginError::State)
    } else if let Some(error) = one("error") {
        Err(LoginError::Refused { error, description: one("error_description").unwrap_or_default() })
    } else {
        one("code").map(Zeroizing::new).ok_or(LoginError::State)
    };
    match &answer {
        Ok(_) => reply(&mut stream, "200 OK", "You are logged in. Go back to the terminal; this page can be closed."),
        Err(_) => reply(&mut stream, "400 Bad Request", "The login failed. The terminal says why."),
    }
    Some(answer)
}

/// The path of a GET request.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut part = Zeroizing::new([0; 2048]);
    // The limit of a read begins anew with each byte.
    let until = Instant::now() + REQUEST;
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut *part).ok()?;
        if read == 0 || head.len() + read > LONGEST || Instant::now() > until {
            return None;
        }
        head.extend_from_slice(&part[..read]);
    }
    let line = std::str::from_utf8(head.split(|&byte| byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("GET"), Some(path), Some("HTTP/1.1" | "HTTP/1.0"), None) => Some(path.to_owned()),
        _ => None,
    }
}

/// Shows a line in the browser. If it has gone, nobody is there to read it.
fn reply(stream: &mut TcpStream, status: &str, text: &str) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_drips_does_not_outlast_the_patience() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dripping = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            for _ in 0..40 {
                if stream.write_all(b"G").is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(250));
            }
        });
        let begun = Instant::now();
        let error = wait(&listener, "state", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, LoginError::TimedOut(_)) && begun.elapsed() < Duration::from_secs(6), "{error}");
        drop(listener);
        dripping.join().unwrap();
    }
}
