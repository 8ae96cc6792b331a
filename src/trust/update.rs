//! Fetching trust roots by TUF (The Update Framework, 1.0.34): signed by keys that the release carries or the caller gives,
//! no older than what was seen before, not expired.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sigstore_tuf::{Error as TufError, HttpRepository, MetadataStore, Updater};

use super::{Fetched, Instance, TrustError, TrustRoot, cache_path, store};
use crate::error::{quoted, tame};
use crate::input::read_small;
use crate::net::{Net, NetError, address};
use crate::output::{Existing, write_whole};
use crate::time::UnixTime;

/// The names that every Sigstore repository gives to the two (sigstore/root-signing).
const ROOT: &str = "trusted_root.json";
const CONFIG: &str = "signing_config.v0.2.json";

const SCHEMA: &str = "tensorseal/tuf/v1";

/// The longest file of kept metadata that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// How long a server may take to answer a request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a trust root could not be fetched. What was kept before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The server did not answer, or its address is none.
    #[error("cannot fetch the trust root: {0}")]
    Net(#[from] NetError),
    /// The server answered with something else.
    #[error(
        "cannot fetch the trust root from {}: {}. Check the address and the network (a proxy is taken from HTTPS_PROXY, the certificates of a private CA from SSL_CERT_FILE)",
        quoted(url),
        tame(why)
    )]
    Server {
        /// The repository.
        url: String,
        /// What it did.
        why: String,
    },
    /// The repository has not been signed anew in time, or somebody holds newer metadata back.
    #[error(
        "the {role} metadata of {} expired at {at}: the repository is not maintained, or newer metadata is held back. Try again later or from another network, and check this machine's clock",
        quoted(url)
    )]
    Expired {
        /// The repository.
        url: String,
        /// Of which role.
        role: String,
        /// When.
        at: UnixTime,
    },
    /// Older than what was seen before.
    #[error(
        "{} offers {role} metadata of version {offered}, and version {seen} has been seen: somebody may be rolling it back. Do not trust it; ask whoever runs it",
        quoted(url)
    )]
    Rollback {
        /// The repository.
        url: String,
        /// Of which role.
        role: String,
        /// The version seen before.
        seen: u64,
        /// The version offered now.
        offered: u64,
    },
    /// Not signed by those who must.
    #[error(
        "the metadata of {} cannot be trusted: {}. If the right root of trust is in use, do not trust it; ask whoever runs it",
        quoted(url),
        tame(why)
    )]
    Untrusted {
        /// The repository.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// There is no trust root in it.
    #[error("{} holds no {target}, so it is no repository of Sigstore's", quoted(url))]
    NoTarget {
        /// The repository.
        url: String,
        /// What was looked for.
        target: &'static str,
    },
    /// A root of trust was given that is none.
    #[error(
        "{path:?} is no TUF root: {}. Get root.json from whoever runs the repository, by a way that you trust",
        tame(why)
    )]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What was kept of the last update cannot be used.
    #[error(
        "what was kept of the last update in {path:?} cannot be used: {}. Remove it; the next update then starts from the root of trust alone",
        tame(why)
    )]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What was fetched is no trust root, or cannot be kept.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It cannot be written.
    #[error("cannot write {path:?}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A TUF repository, and where trust in it begins.
#[derive(Debug, Clone)]
pub struct Repository {
    url: String,
    root: Vec<u8>,
    /// Where the metadata of the last update lies.
    kept: Option<PathBuf>,
}

impl Repository {
    /// That of a public instance, with the root that the release carries.
    #[must_use]
    pub fn of(instance: Instance) -> Self {
        let embedded = instance.embedded();
        Self {
            url: embedded.tuf_url().to_owned(),
            root: embedded.tuf_root().to_owned(),
            kept: cache_path(instance).map(|path| beside(&path)),
        }
    }

    /// The same from another server, such as a mirror.
    #[must_use]
    pub fn at(self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self }
    }

    /// One of somebody else's, whose root of trust is the TUF root in the file `root`. What an update fetches will be
    /// written to `out`.
    ///
    /// # Errors
    /// [`UpdateError::Root`] if it cannot be read.
    pub fn private(url: &str, root: &Path, out: &Path) -> Result<Self, UpdateError> {
        let fault = |why: String| UpdateError::Root { path: root.to_owned(), why };
        let text = read_small(root, LONGEST).map_err(|error| fault(error.to_string()))?;
        let repository = Self { url: url.to_owned(), root: text, kept: Some(beside(out)) };
        Updater::new(Silent, &repository.root).map_err(|error| fault(told(&error)))?;
        Ok(repository)
    }

    /// Fetches the current trust root, and the signing configuration if there is one. Nothing is written.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn fetch(&self) -> Result<Update, UpdateError> {
        let now = UnixTime::now();
        let kept = Arc::new(Kept::read(self.kept.as_deref())?);
        let net = Net::following(TIMEOUT)?;
        let url = address(&self.url)?;
        let fault = |error: TufError| self.explain(&error);
        let repository = HttpRepository::new(url.as_str()).map_err(fault)?.with_http_client(net.client().clone());
        let mut updater = Updater::new(repository, &self.root).map_err(fault)?.with_store(Arc::clone(&kept));
        let at = jiff::Timestamp::from_second(now.0).map_err(|error| TrustError::Io {
            doing: "date",
            path: self.kept.clone().unwrap_or_default(),
            source: io::Error::other(error.to_string()),
        })?;
        let (root, config) = net
            .wait(|| async {
                updater.refresh(at).await?;
                let root = updater.get_target(ROOT, at).await?;
                let config = match updater.get_target(CONFIG, at).await {
                    Ok(config) => Some(config),
                    Err(TufError::TargetNotFound(_)) => None,
                    Err(error) => return Err(error),
                };
                Ok((root, config))
            })?
            .map_err(|error| match error {
                TufError::TargetNotFound(_) => UpdateError::NoTarget { url: self.url.clone(), target: ROOT },
                error => fault(error),
            })?;
        let text = |bytes: Vec<u8>| {
            let why = "a file in it is not UTF-8".to_owned();
            String::from_utf8(bytes).map_err(|_| UpdateError::Untrusted { url: self.url.clone(), why })
        };
        let (trusted_root, signing_config) = (text(root)?, config.map(text).transpose()?);
        // What cannot be read must not take the place of what can.
        TrustRoot::parse(trusted_root.as_bytes())?;
        Ok(Update {
            url: self.url.clone(),
            trusted_root,
            signing_config,
            at: now,
            metadata: kept.take(),
            kept: self.kept.clone(),
        })
    }

    fn explain(&self, error: &TufError) -> UpdateError {
        let url = self.url.clone();
        match error {
            TufError::Expired { role, expires } => {
                UpdateError::Expired { url, role: role.clone(), at: UnixTime(expires.as_second()) }
            }
            TufError::Rollback { role, trusted, new } => {
                UpdateError::Rollback { url, role: role.clone(), seen: *trusted, offered: *new }
            }
            TufError::Transport { .. } => UpdateError::Server { url, why: told(error) },
            _ => UpdateError::Untrusted { url, why: told(error) },
        }
    }
}

/// What was fetched and verified.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Update {
    /// From where.
    pub url: String,
    /// `trusted_root.json`.
    pub trusted_root: String,
    /// `signing_config.v0.2.json`, where the repository has one.
    pub signing_config: Option<String>,
    /// When.
    pub at: UnixTime,
    metadata: BTreeMap<String, Vec<u8>>,
    kept: Option<PathBuf>,
}

impl Update {
    /// Keeps it for all later verifications by the trust root of `instance`. Gives the file.
    ///
    /// # Errors
    /// [`UpdateError`] if it cannot be written.
    pub fn keep(&self, instance: Instance) -> Result<PathBuf, UpdateError> {
        let fetched = Fetched {
            instance,
            trusted_root: &self.trusted_root,
            signing_config: self.signing_config.as_deref(),
            at: self.at,
        };
        let path = store(&fetched)?;
        self.keep_metadata()?;
        Ok(path)
    }

    /// Writes it to `path`: a client trust configuration, or the bare root where there is no signing configuration. Either
    /// is what `--trust-config` takes.
    ///
    /// # Errors
    /// [`UpdateError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), UpdateError> {
        let text = match &self.signing_config {
            // Both were parsed as JSON, and stay as they are.
            Some(config) => format!(
                r#"{{"mediaType":"application/vnd.dev.sigstore.clienttrustconfig.v0.1+json","trustedRoot":{},"signingConfig":{}}}"#,
                self.trusted_root.trim(),
                config.trim()
            ),
            None => self.trusted_root.clone(),
        };
        TrustRoot::parse(text.as_bytes())?;
        write(path, 0o666, text.as_bytes())?;
        self.keep_metadata()
    }

    /// Keeps what the next update must not fall behind.
    fn keep_metadata(&self) -> Result<(), UpdateError> {
        let Some(path) = &self.kept else { return Ok(()) };
        let files = self.metadata.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect();
        let wire = Wire { schema: SCHEMA.to_owned(), files };
        let text = serde_json::to_vec(&wire)
            .map_err(|error| UpdateError::Write { path: path.clone(), source: error.into() })?;
        write(path, 0o600, &text)
    }
}

fn write(path: &Path, mode: u32, text: &[u8]) -> Result<(), UpdateError> {
    write_whole(path, mode, Existing::Replace, |file| file.write_all(text))
        .map_err(|source| UpdateError::Write { path: path.to_owned(), source })
}

/// Where the metadata is kept that led to `path`: `public-good.json.tuf` beside `public-good.json`. Another extension in place
/// of the old one could be that of `path` itself.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tuf");
    name.into()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    schema: String,
    files: BTreeMap<String, String>,
}

/// Verified metadata, in memory while an update runs: nothing is written before all of it is good.
struct Kept(Mutex<BTreeMap<String, Vec<u8>>>);

impl Kept {
    /// That of the last update. It is verified again before it is used: somebody who changes it can at most make an update
    /// fail, or have it forget what it has seen.
    fn read(path: Option<&Path>) -> Result<Self, UpdateError> {
        let Some(path) = path else { return Ok(Self(Mutex::default())) };
        let fault = |why: String| UpdateError::Kept { path: path.to_owned(), why };
        let text = match read_small(path, LONGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(Mutex::default())),
            Err(error) => return Err(fault(error.to_string())),
        };
        let wire: Wire = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        if wire.schema != SCHEMA {
            return Err(fault(format!("its schema is {}", quoted(&wire.schema))));
        }
        let mut files = BTreeMap::new();
        for (name, text) in wire.files {
            let bytes = STANDARD.decode(text).map_err(|error| fault(error.to_string()))?;
            files.insert(name, bytes);
        }
        Ok(Self(Mutex::new(files)))
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything but the targets, which have places of their own.
    fn take(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = std::mem::take(&mut *self.files());
        files.retain(|name, _| !name.starts_with("targets/"));
        files
    }
}

impl MetadataStore for Kept {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.files().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        self.files().insert(name.to_owned(), bytes.to_owned());
        Ok(())
    }
}

/// A repository that is never asked: only a root is looked at.
struct Silent;

impl sigstore_tuf::Repository for Silent {
    fn fetch_metadata<'a>(&'a self, _: &'a str, _: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> sigstore_tuf::transport::FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// An error and what is at the bottom of it; what lies between says the same in other words.
fn told(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    let (first, last) = (error.to_string(), deepest.to_string());
    let first = first.trim_start_matches("transport error: ");
    if first == last { last } else { format!("{last} ({first})") }
}
