//! Where a model begins, of which a caller names one file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::error::{Error, VerifyError};
use crate::manifest::SINGLE_FILE;

/// The signature of a folder that is looked for beside a file.
const OF_FOLDER: &str = "model.sig";

/// The model that a file belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOf {
    /// The model: a folder, or the file itself.
    pub model: PathBuf,
    /// The signature to verify it by.
    pub signature: PathBuf,
    /// The name of the file in the model; `None` if the file is the model.
    pub name: Option<String>,
}

/// Finds the model that `file` belongs to: the one that the bundle at `signature` is about. Without, that is `FILE.sig`
/// beside the file, or else `model.sig` in its folder.
///
/// The bundle's list is read before anybody vouched for it, and only to tell a signed file from a signed folder: nothing of
/// it is believed. Whoever loads the model has the signature checked, and the model compared with it as a whole; a list that
/// leads elsewhere only leads to a model that is refused.
///
/// # Errors
/// [`Error::NoSignature`] if there is none to be found; those of reading a bundle of at most `max_bundle` bytes.
pub fn model_of(file: &Path, signature: Option<&Path>, max_bundle: u64) -> Result<ModelOf, Error> {
    let here = std::path::absolute(file).map_err(Error::io("find", file))?;
    let mut beside = here.clone().into_os_string();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    let signature = match signature {
        Some(given) => given.to_owned(),
        None => {
            let of_folder = here.with_file_name(OF_FOLDER);
            let found = [&beside, &of_folder].into_iter().find(|path| path.exists());
            found.cloned().ok_or_else(|| Error::NoSignature { file: file.to_owned(), beside, of_folder })?
        }
    };
    let bundle = Bundle::read(&signature, max_bundle)?;
    let manifest = bundle.unverified_manifest().map_err(VerifyError::Format)?;
    let resources = manifest.resources().iter().map(|resource| match resource.name.shard() {
        Some((path, _)) if manifest.serialization().method.shard_size().is_some() => path,
        _ => resource.name.as_str(),
    });
    let signed: BTreeSet<&str> = resources.collect();
    let single = ModelOf { model: file.to_owned(), signature: signature.clone(), name: None };
    if signed.contains(SINGLE_FILE) {
        return Ok(single);
    }
    // By the specification the only file of a model has its own name, which a folder with one file would have signed, too.
    let own = here.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if signed.len() == 1 && signed.contains(own) && signature.file_name() == Some(format!("{own}.sig").as_ref()) {
        return Ok(single);
    }
    // The nearest folder in which a file of this name is signed. If none is, its own, in which it is then found not to be.
    let mut parts: Vec<&str> = Vec::new();
    let mut folder = here.as_path();
    while let (Some(name), Some(parent)) = (folder.file_name(), folder.parent()) {
        let Some(name) = name.to_str() else { break };
        parts.insert(0, name);
        let name = parts.join("/");
        if signed.contains(name.as_str()) {
            return Ok(ModelOf { model: parent.to_owned(), signature, name: Some(name) });
        }
        folder = parent;
    }
    let folder = here.parent().unwrap_or(&here).to_owned();
    Ok(ModelOf { model: folder, signature, name: Some(own.to_owned()) })
}
