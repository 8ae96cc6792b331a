//! Where `tensorseal trust update` keeps what it fetched, and whether to believe what lies there.
//!
//! The signatures of TUF were checked when it was fetched. Later nothing protects the file but its folder: whoever may write
//! there decides whom we trust. So both must belong to this user, or to root, and nobody else may be able to write.

use std::fs::{DirBuilder, Metadata};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EMBEDDED_AT, Instance, TrustError, TrustRoot, TrustSource, open, read_limited};
use crate::error::tame;
use crate::json::{self, Object};
use crate::output::{Existing, folder_of, write_whole};
use crate::time::UnixTime;

const SCHEMA: &str = "tensorseal/trust-root/v1";

/// How far the clocks of two moments may be apart, in seconds, before a file of the future is a fault.
const SKEW: i64 = 24 * 3600;

/// What was fetched by TUF, to be kept.
#[derive(Debug, Clone)]
pub struct Fetched<'a> {
    /// Whose it is.
    pub instance: Instance,
    /// `trusted_root.json`.
    pub trusted_root: &'a str,
    /// `signing_config.v0.2.json`, where the repository has one.
    pub signing_config: Option<&'a str>,
    /// When it was fetched.
    pub at: UnixTime,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    schema: String,
    instance: String,
    fetched: i64,
    trusted_root: Box<RawValue>,
    signing_config: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Out<'a> {
    schema: &'static str,
    instance: &'static str,
    fetched: i64,
    trusted_root: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_config: Option<&'a RawValue>,
}

/// The file that the trust root of `instance` is kept in: `tensorseal/trust/NAME.json` under `$XDG_CACHE_HOME` or
/// `~/.cache`. `None` if the environment names neither; a relative path counts as none (XDG Base Directory Specification).
#[must_use]
pub fn cache_path(instance: Instance) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("tensorseal/trust").join(format!("{}.json", instance.name())))
}

/// Keeps what was fetched, after it was parsed, for [`TrustRoot::of`] to find.
///
/// # Errors
/// [`TrustError`] if it is no trust root, or cannot be written.
pub fn store(fetched: &Fetched<'_>) -> Result<PathBuf, TrustError> {
    let path = cache_path(fetched.instance).ok_or(TrustError::NoCache)?;
    TrustRoot::parse(fetched.trusted_root.as_bytes())?;
    let raw = |text: &str| {
        let why = |error: serde_json::Error| tame(&error.to_string());
        serde_json::from_str::<Box<RawValue>>(text)
            .map_err(|error| TrustError::Malformed { origin: TrustSource::Given, why: why(error) })
    };
    let (root, config) = (raw(fetched.trusted_root)?, fetched.signing_config.map(raw).transpose()?);
    let io = |source| TrustError::Io { doing: "write", path: path.clone(), source };
    let text = serde_json::to_vec(&Out {
        schema: SCHEMA,
        instance: fetched.instance.name(),
        fetched: fetched.at.0,
        trusted_root: &root,
        signing_config: config.as_deref(),
    });
    let text = text.map_err(|error| io(error.into()))?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder_of(&path)).map_err(io)?;
    write_whole(&path, 0o600, Existing::Replace, |file| file.write_all(&text)).map_err(io)?;
    Ok(path)
}

/// The cached root of `instance`, if there is one and the embedded one is not newer.
pub(super) fn load(instance: Instance) -> Result<Option<TrustRoot>, TrustError> {
    match cache_path(instance) {
        Some(path) => load_from(instance, &path, UnixTime::now()),
        None => Ok(None),
    }
}

fn load_from(instance: Instance, path: &Path, now: UnixTime) -> Result<Option<TrustRoot>, TrustError> {
    let fault = |path: &Path, why: String| TrustError::Cache { path: path.to_owned(), why };
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(path, error.to_string())),
    };
    if !meta.is_file() {
        return Err(fault(path, "it is not a regular file".to_owned()));
    }
    let folder = folder_of(path);
    let of_folder = folder.metadata().map_err(|error| fault(folder, error.to_string()))?;
    for (path, meta) in [(path, &meta), (folder, &of_folder)] {
        own(meta).map_err(|why| fault(path, why))?;
    }
    let file = open(path)?;
    // The folder may have been exchanged since, by somebody who owns one above it.
    let opened = file.metadata().map_err(|error| fault(path, error.to_string()))?;
    own(&opened).map_err(|why| fault(path, why))?;
    let text = read_limited(file, path, &TrustSource::File(path.to_owned()))?;
    let Object(wire): Object<Wire> = json::read("file", &text).map_err(|error| fault(path, error.to_string()))?;
    if wire.schema != SCHEMA || wire.instance != instance.name() {
        return Err(fault(path, format!("it is not what this version keeps for {}", instance.name())));
    }
    let fetched = UnixTime(wire.fetched);
    if fetched.0 > now.0.saturating_add(SKEW) {
        return Err(fault(path, format!("it says that it was fetched {fetched}, and now is {now}")));
    }
    if fetched <= EMBEDDED_AT {
        return Ok(None);
    }
    let source = TrustSource::Cache { instance, path: path.to_owned(), fetched };
    let mut root = TrustRoot::from_text(wire.trusted_root.get().as_bytes(), source).map_err(|error| match error {
        TrustError::Malformed { why, .. } => fault(path, why),
        other => other,
    })?;
    root.signing_config = wire.signing_config.map(|raw| raw.get().to_owned());
    Ok(Some(root))
}

/// Whether nobody but this user and root can have written what `meta` is of.
fn own(meta: &Metadata) -> Result<(), String> {
    // The owner of a process's folder is who it acts as.
    let us = Path::new("/proc/self").metadata().map_err(|error| format!("/proc/self cannot be read: {error}"))?.uid();
    if meta.uid() != us && meta.uid() != 0 {
        return Err(format!("it belongs to user {}, and this is user {us}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others may write it (mode {:o})", meta.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NOW: UnixTime = UnixTime(EMBEDDED_AT.0 + 30 * 86_400);

    fn kept(folder: &Path, instance: &str, fetched: i64, root: &str) -> PathBuf {
        let path = folder.join("public-good.json");
        let text = format!(
            r#"{{"schema":"{SCHEMA}","instance":"{instance}","fetched":{fetched},"trustedRoot":{root},"signingConfig":{{"a":1}}}}"#
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn load(path: &Path) -> Result<Option<TrustRoot>, TrustError> {
        load_from(Instance::PublicGood, path, NOW)
    }

    #[test]
    fn the_newer_of_cache_and_embedded_root_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
        assert!(load(&folder.path().join("public-good.json")).unwrap().is_none(), "there is none");
        let path = kept(folder.path(), "public-good", EMBEDDED_AT.0 + 1, root);
        let cached = load(&path).unwrap().unwrap();
        let fetched = UnixTime(EMBEDDED_AT.0 + 1);
        let source = TrustSource::Cache { instance: Instance::PublicGood, path: path.clone(), fetched };
        assert_eq!((cached.source(), cached.signing_config()), (&source, Some(r#"{"a":1}"#)));
        kept(folder.path(), "public-good", EMBEDDED_AT.0, root);
        assert!(load(&path).unwrap().is_none(), "one that is older than the embedded root");
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let root = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
        let (at, late) = (EMBEDDED_AT.0 + 1, NOW.0 + SKEW + 1);
        for (instance, fetched, root, word) in [
            ("staging", at, root, "what this version keeps"),
            ("public-good", late, root, "fetched 2026"),
            ("public-good", at, "{}", "mediaType"),
            ("public-good", at, r#"{"mediaType":"x","mediaType":"x"}"#, "twice"),
        ] {
            let path = kept(folder.path(), instance, fetched, root);
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("trust update"), "{error}");
        }
        let path = kept(folder.path(), "public-good", at, root);
        for (of, mode) in [(&*path, 0o620), (&*path, 0o602), (folder.path(), 0o770), (folder.path(), 0o703)] {
            kept(folder.path(), "public-good", at, root);
            fs::set_permissions(of, fs::Permissions::from_mode(mode)).unwrap();
            assert!(load(&path).unwrap_err().to_string().contains("others may write"), "{of:?} {mode:o}");
        }
        kept(folder.path(), "public-good", at, root);
        fs::copy(&path, folder.path().join("other")).unwrap();
        fs::remove_file(&path).unwrap();
        symlink("other", &path).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("not a regular file"));
        let other = Path::new("/proc/1").metadata().unwrap();
        assert!(own(&other).is_err() || other.uid() == 0);
    }
}
