//! `verify`, `sign` and `digest` of files on disk. Each gives the report that the program prints with `--json`.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::method::sign_to;
use tensorseal::outboard::OutboardOptions;
use tensorseal::report::json::{self, Head};
use tensorseal::sign::{Annotations, Tensors};
use tensorseal::source::SymlinkPolicy;
use tensorseal::verify::{DigestChoice, GitFiles, UncoveredFiles, UnsignedFiles};
use tensorseal::{Algorithm, Device, Error, SignOptions, VerifyOptions};

use crate::error::{object, raised, usage};
use crate::progress::away;
use crate::who::{Signer, Who};

/// What a word of Python's means.
pub(crate) fn one_of<T: Copy>(py: Python<'_>, what: &str, word: &str, all: &[(&str, T)]) -> PyResult<T> {
    let found = all.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|(name, _)| format!("{name:?}")).collect();
        usage(py, format!("{what} is one of {}, not {word:?}", names.join(", ")))
    })
}

/// Which links are followed.
pub(crate) fn symlinks_of(py: Python<'_>, word: &str) -> PyResult<SymlinkPolicy> {
    let all =
        [("refuse", SymlinkPolicy::Refuse), ("inside", SymlinkPolicy::Inside), ("anywhere", SymlinkPolicy::Anywhere)];
    one_of(py, "symlinks", word, &all)
}

/// Which files of git are left out.
pub(crate) fn git_of(py: Python<'_>, word: &str) -> PyResult<GitFiles> {
    one_of(py, "git", word, &[("signed", GitFiles::AsSigned), ("ignore", GitFiles::Ignore), ("keep", GitFiles::Keep)])
}

/// Which signed digests are compared.
pub(crate) fn digests_of(py: Python<'_>, word: &str) -> PyResult<DigestChoice> {
    let all = [
        ("oms", DigestChoice::Oms),
        ("blake3", DigestChoice::Blake3),
        ("all", DigestChoice::All),
        ("fastest", DigestChoice::Fastest),
    ];
    one_of(py, "digests", word, &all)
}

/// What is done about files of which nothing was signed. An exception to what is not asked for would be one that its user
/// counts on: that the rest is refused.
pub(crate) fn uncovered_of(py: Python<'_>, strict: bool, allow_ignored: Vec<PathBuf>) -> PyResult<UncoveredFiles> {
    match (strict, allow_ignored.is_empty()) {
        (true, _) => Ok(UncoveredFiles::Refuse { except: allow_ignored }),
        (false, true) => Ok(UncoveredFiles::List),
        (false, false) => Err(usage(py, "allow_ignored is an exception to strict: give strict=True, too")),
    }
}

/// The OMS digest.
pub(crate) fn hash_of(py: Python<'_>, word: &str) -> PyResult<Algorithm> {
    one_of(
        py,
        "hash",
        word,
        &[("sha256", Algorithm::Sha256), ("blake2b", Algorithm::Blake2b), ("blake3", Algorithm::Blake3)],
    )
}

/// Opens the device of this name.
pub(crate) fn device_of(name: &str) -> Result<Device, Error> {
    Ok(Device::open(name.parse().map_err(Error::UnknownDevice)?)?)
}

/// The report of a call, or the exception for why there is none.
fn told<'py>(
    py: Python<'py>,
    head: impl Fn(Option<&Error>) -> Map<String, Value>,
    found: Result<Value, Error>,
) -> PyResult<Bound<'py, PyDict>> {
    match found {
        Ok(fields) => {
            let mut report = head(None);
            json::insert(&mut report, fields);
            object(py, &report)
        }
        Err(error) => {
            let mut report = head(Some(&error));
            json::insert(&mut report, json::error(&error));
            Err(raised(py, &error, &report))
        }
    }
}

/// Is the model what was signed? The report of `tensorseal verify --json`, as a `dict`.
#[pyfunction]
#[pyo3(signature = (model, bundles, who, *, digests, strict, ignore_unsigned, ignore, allow_ignored, symlinks, git,
    tensors, outboard, max_bundle, device, progress))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    model: PathBuf,
    bundles: Vec<PathBuf>,
    who: &Bound<'py, Who>,
    digests: &str,
    strict: bool,
    ignore_unsigned: bool,
    ignore: Vec<PathBuf>,
    allow_ignored: Vec<PathBuf>,
    symlinks: &str,
    git: &str,
    tensors: Option<PathBuf>,
    outboard: Option<PathBuf>,
    max_bundle: Option<u64>,
    device: &str,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut options = VerifyOptions {
        symlinks: symlinks_of(py, symlinks)?,
        ignore_paths: ignore,
        git_files: git_of(py, git)?,
        unsigned: if ignore_unsigned { UnsignedFiles::Tolerate } else { UnsignedFiles::Refuse },
        uncovered: uncovered_of(py, strict, allow_ignored)?,
        digests: digests_of(py, digests)?,
        tensors,
        outboard,
        ..VerifyOptions::default()
    };
    if let Some(bytes) = max_bundle {
        options.max_bundle = NonZeroU64::new(bytes).ok_or_else(|| usage(py, "a bundle has at least one byte"))?;
    }
    let signatures: Vec<&Path> = bundles.iter().map(PathBuf::as_path).collect();
    let trusted = who.get().trusted();
    let found =
        away(py, progress.as_ref(), |watch| trusted.verify(&model, &signatures, &options, &device_of(device)?, watch))?;
    let head = |error: Option<&Error>| Head::of("verify", &model, signatures.first().copied(), error).into();
    told(py, head, found.map(|report| json::verified(&report)))
}

/// Signs the model, and writes the bundle. The report of `tensorseal sign --json`, as a `dict`.
#[pyfunction]
#[pyo3(signature = (model, bundle, signer, *, hash, shards, shards_compat, annotations, tensors, tensors_out, outboard,
    ignore, symlinks, git, device, progress))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn sign<'py>(
    py: Python<'py>,
    model: PathBuf,
    bundle: PathBuf,
    signer: &Bound<'py, Signer>,
    hash: &str,
    shards: Option<u64>,
    shards_compat: bool,
    annotations: bool,
    tensors: bool,
    tensors_out: Option<PathBuf>,
    outboard: Option<PathBuf>,
    ignore: Vec<PathBuf>,
    symlinks: &str,
    git: &str,
    device: &str,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    if shards_compat && shards.is_none() {
        return Err(usage(py, "shards_compat says how shards are named, and there are none: give shards, too"));
    }
    let options = SignOptions {
        hash: hash_of(py, hash)?,
        method: method_of(py, shards)?,
        shard_naming: if shards_compat { ShardNaming::Compat } else { ShardNaming::Spec },
        annotations: if annotations { Annotations::Blake3 } else { Annotations::None },
        symlinks: symlinks_of(py, symlinks)?,
        ignore_paths: ignore,
        git_files: git_of(py, git)?,
        tensors: match (tensors_out, tensors) {
            (Some(path), _) => Tensors::Detached(path),
            (None, true) => Tensors::InModel,
            (None, false) => Tensors::AsFound,
        },
        outboard: outboard.map(OutboardOptions::new),
        ..SignOptions::default()
    };
    let signer = signer.get();
    let mut warnings = Vec::new();
    let said = &mut warnings;
    let found = away(py, progress.as_ref(), |watch| {
        let device = device_of(device)?;
        let signer = signer.open(said)?;
        let signed = sign_to(&model, &bundle, &*signer, &options, &device, watch)?;
        Ok(json::signing(&signed.hashed, &options, model.is_file()))
    })?;
    let head = |error: Option<&Error>| Head::of("sign", &model, Some(&bundle), error).into();
    let report = told(py, head, found)?;
    report.set_item("warnings", warnings)?;
    Ok(report)
}

/// Digests of the model's files. The report of `tensorseal digest --json`, as a `dict`.
#[pyfunction]
#[pyo3(signature = (model, *, hash, shards, ignore, symlinks, git, device, progress))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn digest<'py>(
    py: Python<'py>,
    model: PathBuf,
    hash: &str,
    shards: Option<u64>,
    ignore: Vec<PathBuf>,
    symlinks: &str,
    git: &str,
    device: &str,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = SignOptions {
        hash: hash_of(py, hash)?,
        method: method_of(py, shards)?,
        annotations: Annotations::None,
        symlinks: symlinks_of(py, symlinks)?,
        ignore_paths: ignore,
        git_files: git_of(py, git)?,
        ..SignOptions::default()
    };
    let found = away(py, progress.as_ref(), |watch| {
        tensorseal::hash(&model, None, &options, &device_of(device)?, watch).map(|hashed| json::digests(&hashed))
    })?;
    told(py, |error| Head::of("digest", &model, None, error).into(), found)
}

fn method_of(py: Python<'_>, shards: Option<u64>) -> PyResult<Method> {
    shards.map_or(Ok(Method::Files), |bytes| {
        let size = NonZeroU64::new(bytes).ok_or_else(|| usage(py, "a shard has at least one byte"))?;
        Ok(Method::Shards { size })
    })
}
