//! The one place that opens connections: bounded in time, to `https:` or to this machine alone; bounded in bytes where we
//! read the answer, which the Sigstore crates do of Fulcio, Rekor and the timestamp authority without a bound.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use sigstore_sign::reqwest::{Client, ClientBuilder, NoProxy, Proxy, RequestBuilder, Url, redirect};

use crate::error::{quoted, tame};

/// How long a service may take to answer a request, unless the caller says otherwise. Rekor v2 answers only when the entry
/// is in the tree, which takes seconds by itself.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// This machine, and what answers for it alone: the metadata service of a cloud. A proxy would see their tokens in the clear,
/// or answer with its own machine's.
const NEAR: &str = "localhost,127.0.0.0/8,::1,169.254.169.254,metadata.google.internal";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest answer that is read where we read it ourselves, in bytes.
const LONGEST: usize = 1 << 20;

/// Why a server gave no answer that could be used. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Not an address.
    #[error("{} is not a URL: {why}", quoted(url))]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A token or a key would cross a network in the clear.
    #[error(
        "{} is not https: tokens would cross the network in the clear. Give an https URL; http is accepted for this machine alone",
        quoted(url)
    )]
    Insecure {
        /// The address.
        url: String,
    },
    /// This machine cannot make connections at all.
    #[error(
        "cannot set up HTTP: {}. If it lacks CA certificates, install the package ca-certificates or name a file of them in SSL_CERT_FILE",
        tame(why)
    )]
    Client {
        /// What the HTTP library said.
        why: String,
    },
    /// No connection, or it broke.
    #[error(
        "cannot reach {}: {}. Check the address and the network (a proxy is taken from HTTPS_PROXY, the certificates of a private CA from SSL_CERT_FILE)",
        quoted(url),
        tame(why)
    )]
    Unreachable {
        /// The address.
        url: String,
        /// What the system or TLS said.
        why: String,
    },
    /// A connection, and nothing came in time.
    #[error("{} did not answer within {seconds} s; try again later", quoted(url))]
    TimedOut {
        /// The address.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Another status than success.
    #[error("{} answered with HTTP status {status}{}", quoted(url), said(text))]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What came with it.
        text: String,
    },
    /// More than any such answer has.
    #[error("the answer of {} is longer than {limit} bytes, which no such answer is", quoted(url))]
    TooLong {
        /// The address.
        url: String,
        /// Bytes accepted.
        limit: usize,
    },
    /// An answer that makes no sense.
    #[error("the answer of {} cannot be used: {}", quoted(url), tame(why))]
    Garbled {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What a server said with a refusal, if it said anything.
pub(crate) fn said(text: &str) -> String {
    if text.trim().is_empty() { String::new() } else { format!(": {}", tame(text.trim())) }
}

/// A text of a server's without the secret that was sent there: some quote what they refuse.
pub(crate) fn without(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "[..]") }
}

/// An HTTP client of our own settings. Redirects are not followed: they would carry a token to another server.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    client: Client,
    timeout: Duration,
}

impl Net {
    /// A client whose requests may take `timeout`.
    pub(crate) fn new(timeout: Duration) -> Result<Self, NetError> {
        Self::with_redirects(timeout, redirect::Policy::none())
    }

    /// The same for what is public and checked by signatures of its own: TUF metadata may lie behind a redirect.
    pub(crate) fn following(timeout: Duration) -> Result<Self, NetError> {
        Self::with_redirects(timeout, redirect::Policy::limited(3))
    }

    fn with_redirects(timeout: Duration, redirects: redirect::Policy) -> Result<Self, NetError> {
        let failed = |error| NetError::Client { why: causes(&error) };
        let client = proxied(Client::builder())
            .map_err(failed)?
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            .redirect(redirects)
            .user_agent(concat!("tensorseal/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { client: client.map_err(failed)?, timeout })
    }

    /// The client itself, for libraries that make requests.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// How long a request may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for what `work` makes, on a thread of its own: the caller may be inside a runtime, where waiting is not allowed.
    pub(crate) fn wait<T, F>(&self, work: impl FnOnce() -> F + Send) -> Result<T, NetError>
    where
        T: Send,
        F: Future<Output = T>,
    {
        let failed = |why: &str| NetError::Client { why: why.to_owned() };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map(|runtime| runtime.block_on(work())).map_err(|error| failed(&error.to_string()))
            });
            waiting.join().unwrap_or_else(|_| Err(failed("the HTTP library failed")))
        })
    }

    /// The body of a successful answer to a GET.
    pub(crate) fn get(&self, url: &Url, headers: &[(&str, &str)]) -> Result<Vec<u8>, NetError> {
        let mut request = self.client.get(url.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(url, request)
    }

    /// The body of a successful answer to a form.
    pub(crate) fn post_form(
        &self,
        url: &Url,
        basic: Option<(&str, &str)>,
        fields: &[(&str, &str)],
    ) -> Result<Vec<u8>, NetError> {
        let mut request = self.client.post(url.clone()).form(fields);
        if let Some((name, secret)) = basic {
            request = request.basic_auth(name, Some(secret));
        }
        self.send(url, request)
    }

    /// The body of a successful answer to `body`, which is of the kind `content`.
    pub(crate) fn post(&self, url: &Url, content: &str, body: Vec<u8>) -> Result<Vec<u8>, NetError> {
        self.send(url, self.client.post(url.clone()).header("Content-Type", content).body(body))
    }

    /// Whether there is an HTTP server at all, whatever it answers.
    pub(crate) fn reach(&self, url: &Url) -> Result<(), NetError> {
        match self.send(url, self.client.get(url.clone()).timeout(self.timeout.min(CONNECT))) {
            Ok(_) | Err(NetError::Status { .. } | NetError::TooLong { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn send(&self, url: &Url, request: RequestBuilder) -> Result<Vec<u8>, NetError> {
        let shown = shown(url);
        let failed = |error: sigstore_sign::reqwest::Error| {
            if error.is_timeout() {
                NetError::TimedOut { url: shown.clone(), seconds: self.timeout.as_secs() }
            } else {
                NetError::Unreachable { url: shown.clone(), why: causes(&error.without_url()) }
            }
        };
        self.wait(|| async {
            let mut response = request.send().await.map_err(failed)?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(failed)? {
                if body.len() + chunk.len() > LONGEST {
                    return Err(NetError::TooLong { url: shown.clone(), limit: LONGEST });
                }
                body.extend_from_slice(&chunk);
            }
            if status.is_success() {
                return Ok(body);
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            Err(NetError::Status { url: shown.clone(), status: status.as_u16(), text })
        })?
    }
}

/// The proxies that the environment names, but never for what is [`NEAR`], which the HTTP library by itself would send there.
fn proxied(builder: ClientBuilder) -> Result<ClientBuilder, sigstore_sign::reqwest::Error> {
    let set = |names: [&str; 2]| {
        names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    };
    let but = NoProxy::from_string(&format!("{NEAR},{}", set(["no_proxy", "NO_PROXY"]).unwrap_or_default()));
    // Whoever sends a request to a CGI program chooses its HTTP_PROXY.
    let http = if std::env::var_os("REQUEST_METHOD").is_some() { "http_proxy" } else { "HTTP_PROXY" };
    let all = || set(["all_proxy", "ALL_PROXY"]);
    let mut builder = builder.no_proxy();
    if let Some(proxy) = set(["https_proxy", "HTTPS_PROXY"]).or_else(all) {
        builder = builder.proxy(Proxy::https(proxy)?.no_proxy(but.clone()));
    }
    if let Some(proxy) = set(["http_proxy", http]).or_else(all) {
        builder = builder.proxy(Proxy::http(proxy)?.no_proxy(but));
    }
    Ok(builder)
}

/// An address that secrets may be sent to: `https:`, or `http:` on this machine.
pub(crate) fn address(text: &str) -> Result<Url, NetError> {
    let url = Url::parse(text).map_err(|error| NetError::Url { url: text.to_owned(), why: error.to_string() })?;
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(NetError::Insecure { url: text.to_owned() }),
        _ => Err(NetError::Url { url: text.to_owned(), why: "it is not http or https".to_owned() }),
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address as messages show it: what follows `?` may be long, or a secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails where there is a host, and without one there is neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// What is at the bottom of an error of the HTTP library: what lies above it only says that a request failed.
fn causes(error: &sigstore_sign::reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_https_or_nowhere_but_here() {
        for url in ["https://fulcio.example", "http://localhost:8080/a", "http://127.0.0.1:1", "http://[::1]:9/x"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in ["http://fulcio.example", "http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"]
        {
            assert!(matches!(address(url), Err(NetError::Insecure { .. })), "{url}");
        }
        for url in ["", "fulcio.example", "ftp://fulcio.example", "file:///etc/passwd", "https://"] {
            assert!(matches!(address(url), Err(NetError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn messages_show_no_query_and_no_password() {
        let url = Url::parse("https://user:word@example.com/a?code=1#b").unwrap();
        assert_eq!(shown(&url), "https://example.com/a");
    }

    #[test]
    fn one_may_wait_inside_a_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let net = Net::new(Duration::from_secs(1)).unwrap();
        assert_eq!(runtime.block_on(async { net.wait(|| async { 7 }).unwrap() }), 7);
    }

    #[test]
    fn nobody_listening_is_told_with_its_cause() {
        let url = address("http://127.0.0.1:1/x").unwrap();
        let error = Net::new(Duration::from_secs(5)).unwrap().get(&url, &[]).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1/x") && error.contains("refused"), "{error}");
    }
}
