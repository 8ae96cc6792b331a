//! Trust roots of Sigstore: whose certificates, logs and timestamps count. No network.
//!
//! The public-good instance and its staging twin are compiled in, as they were when the crate that carries them was
//! released. What `tensorseal trust update` fetched since then lies in a cache and takes their place while it is the newer
//! of the two. A file, such as a private instance's, stands for itself alone.

mod cache;
mod contents;
#[cfg(feature = "sigstore-sign")]
mod update;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use cache::{Fetched, cache_path, store};
pub use contents::{Role, Trusted};
use serde::Deserialize;
use serde_json::value::RawValue;
use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
#[cfg(feature = "sigstore-sign")]
pub use update::{Repository, Update, UpdateError};

use crate::error::{FormatError, quoted, tame};
use crate::json::{self, Object};
use crate::time::UnixTime;

/// The crate that the embedded roots come from, and its version.
const EMBEDDED_IN: (&str, &str) = ("sigstore-trust-root", "0.15.1");

/// The day of its release (CHANGELOG.md of the crate): 2026-10-23T00:00:00Z. What a cache fetched before is older.
const EMBEDDED_AT: UnixTime = UnixTime(1_792_713_600);

/// The longest trust root or trust configuration that is read, in bytes. Those of the public instance have 7 kB.
const LONGEST: u64 = 4 << 20;

/// `mediaType` of a client trust configuration: a trusted root with the signing configuration beside it.
const CONFIG_TYPE: &str = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json";

/// `mediaType` of a bare trusted root, as protobuf-specs wrote it at first and as it does now.
const ROOT_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot+json;version=0.2",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];

/// A public Sigstore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instance {
    /// `sigstore.dev`.
    PublicGood,
    /// `sigstage.dev`, where anybody may try things out.
    Staging,
}

impl Instance {
    /// Its name in messages and in the cache: `public-good` or `staging`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublicGood => "public-good",
            Self::Staging => "staging",
        }
    }

    const fn embedded(self) -> SigstoreInstance {
        match self {
            Self::PublicGood => SigstoreInstance::PublicGood,
            Self::Staging => SigstoreInstance::Staging,
        }
    }
}

/// Where a trust root is from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustSource {
    /// Compiled in.
    Embedded {
        /// Whose it is.
        instance: Instance,
        /// The day of the release that it came with.
        of: UnixTime,
    },
    /// Fetched by `tensorseal trust update`.
    Cache {
        /// Whose it is.
        instance: Instance,
        /// The file in the cache.
        path: PathBuf,
        /// When it was fetched.
        fetched: UnixTime,
    },
    /// A file that the caller named.
    File(PathBuf),
    /// Text that the caller gave.
    Given,
}

impl fmt::Display for TrustSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: &UnixTime| at.to_string().split('T').next().unwrap_or_default().to_owned();
        match self {
            Self::Embedded { instance, of } => {
                let (name, version) = EMBEDDED_IN;
                write!(f, "the {} root embedded with {name} {version} ({})", instance.name(), day(of))
            }
            Self::Cache { instance, path, fetched } => {
                write!(f, "the {} root fetched {} ({path:?})", instance.name(), day(fetched))
            }
            Self::File(path) => write!(f, "{path:?}"),
            Self::Given => f.write_str("the given root"),
        }
    }
}

impl TrustSource {
    /// What to do if the root may be older than the signature.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Embedded { .. } | Self::Cache { .. } => {
                "if the signature is newer than that, run `tensorseal trust update`, or name a newer root with --trust-config"
            }
            Self::File(_) | Self::Given => {
                "if the signature is newer than that file, or of another Sigstore instance, get the right trust root"
            }
        }
    }
}

/// Why a trust root could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The operating system refused.
    #[error("cannot {doing} trust root {path:?}: {source}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than any trust root.
    #[error("{origin} is no trust root: it has more than {limit} bytes")]
    TooLong {
        /// Where it is from.
        origin: TrustSource,
        /// How many are read.
        limit: u64,
    },
    /// Not a trust root, or one that can be understood in two ways.
    #[error("{origin} is no trust root that can be used: {why}. Give a trusted_root.json or a client trust config")]
    Malformed {
        /// Where it is from.
        origin: TrustSource,
        /// What is wrong.
        why: String,
    },
    /// What lies in the cache must not be believed, or cannot be.
    #[error(
        "the cached trust root {path:?} cannot be used: {why}. Remove it to use the embedded root, run `tensorseal trust \
         update` to fetch it anew, or name a root with --trust-config"
    )]
    Cache {
        /// The file, or the folder that it lies in.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no folder to keep a trust root in.
    #[error("there is nowhere to keep a trust root: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    NoCache,
}

/// Whose certificates, logs and timestamps count.
#[derive(Debug, Clone)]
pub struct TrustRoot {
    root: TrustedRoot,
    source: TrustSource,
    signing_config: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHead {
    media_type: String,
    trusted_root: Option<Box<RawValue>>,
    signing_config: Option<Box<RawValue>>,
}

impl TrustRoot {
    /// That of the public-good instance: the newer of the embedded one and the one that `tensorseal trust update` fetched.
    ///
    /// # Errors
    /// [`TrustError::Cache`] if there is a cached one and it is not to be believed: never the other in its place.
    pub fn public_good() -> Result<Self, TrustError> {
        Self::of(Instance::PublicGood)
    }

    /// The same of the staging instance.
    ///
    /// # Errors
    /// As [`TrustRoot::public_good`].
    pub fn staging() -> Result<Self, TrustError> {
        Self::of(Instance::Staging)
    }

    /// The same of any.
    ///
    /// # Errors
    /// As [`TrustRoot::public_good`].
    pub fn of(instance: Instance) -> Result<Self, TrustError> {
        match cache::load(instance)? {
            Some(cached) => Ok(cached),
            None => Self::embedded(instance),
        }
    }

    /// The one that is compiled in, whatever the cache holds.
    ///
    /// # Errors
    /// [`TrustError::Malformed`], which a test rules out.
    pub fn embedded(instance: Instance) -> Result<Self, TrustError> {
        let source = TrustSource::Embedded { instance, of: EMBEDDED_AT };
        Self::from_text(instance.embedded().embedded_trusted_root_json().as_bytes(), source)
    }

    /// Reads a trusted root, or the one inside a client trust configuration, from a file.
    ///
    /// # Errors
    /// [`TrustError`] if it cannot be read, or is neither.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let source = TrustSource::File(path.to_owned());
        let text = read_limited(open(path)?, path, &source)?;
        Self::from_text(&text, source)
    }

    /// The same from JSON.
    ///
    /// # Errors
    /// [`TrustError`] if it is neither.
    pub fn parse(text: &[u8]) -> Result<Self, TrustError> {
        Self::from_text(text, TrustSource::Given)
    }

    fn from_text(text: &[u8], source: TrustSource) -> Result<Self, TrustError> {
        if text.len() as u64 > LONGEST {
            return Err(TrustError::TooLong { origin: source, limit: LONGEST });
        }
        match Self::understand(text) {
            Ok((root, signing_config)) => Ok(Self { root, source, signing_config }),
            Err(why) => Err(TrustError::Malformed { origin: source, why }),
        }
    }

    fn understand(text: &[u8]) -> Result<(TrustedRoot, Option<String>), String> {
        let said = |error: FormatError| error.to_string();
        let Object(head): Object<WireHead> = json::read("trust root", text).map_err(said)?;
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let (root, signing_config) = match (&*head.media_type, &head.trusted_root) {
            (CONFIG_TYPE, Some(root)) => (root.get(), head.signing_config.as_ref().map(|raw| raw.get().to_owned())),
            (CONFIG_TYPE, None) => return Err("the trust configuration holds no trustedRoot".to_owned()),
            (media_type, None) if ROOT_TYPES.contains(&media_type) => (text.trim_start_matches('\u{feff}'), None),
            (media_type, _) => return Err(format!("its mediaType is {}", quoted(media_type))),
        };
        let root = TrustedRoot::from_json(root).map_err(|error| tame(&error.to_string()))?;
        if !ROOT_TYPES.contains(&&*root.media_type) {
            return Err(format!("its trustedRoot has the mediaType {}", quoted(&root.media_type)));
        }
        Ok((root, signing_config))
    }

    /// Where it is from.
    #[must_use]
    pub const fn source(&self) -> &TrustSource {
        &self.source
    }

    /// The signing configuration (JSON) that came with it, unread: servers to sign with.
    #[must_use]
    pub fn signing_config(&self) -> Option<&str> {
        self.signing_config.as_deref()
    }

    /// What the Sigstore crates take.
    #[must_use]
    pub(crate) const fn trusted_root(&self) -> &TrustedRoot {
        &self.root
    }
}

fn open(path: &Path) -> Result<File, TrustError> {
    // A FIFO must not make us wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    file.map_err(|source| TrustError::Io { doing: "read", path: path.to_owned(), source })
}

/// The whole of a regular file that is no longer than a trust root may be.
fn read_limited(file: File, path: &Path, source: &TrustSource) -> Result<Vec<u8>, TrustError> {
    let io = |error| TrustError::Io { doing: "read", path: path.to_owned(), source: error };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > LONGEST {
        return Err(TrustError::TooLong { origin: source.clone(), limit: LONGEST });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
