//! A part of a model: the files that somebody asked for. The model is listed as a whole all the same, so that what is
//! missing, has another length or was not signed speaks against it; but of the others not a byte is read.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::admit::ToRead;
use super::model::Prepared;
use crate::error::Error;
use crate::manifest::{Difference, Differences, ResourceName};

/// The files of `only` that are none of the files to read, as differences: they are there and not signed.
///
/// # Errors
/// [`Error::NothingAsked`] where that would be a check of nothing, and [`Error::Io`] for a file that is not there at all.
pub(super) fn not_signed(model: &Path, only: &BTreeSet<String>, files: &[ToRead]) -> Result<Differences, Error> {
    if only.is_empty() {
        return Err(Error::NothingAsked { path: model.to_owned() });
    }
    let signed: BTreeSet<&str> = files.iter().flat_map(|file| [file.title.as_str(), file.name.as_str()]).collect();
    let mut differences = Vec::new();
    for name in only.iter().filter(|name| !signed.contains(name.as_str())) {
        let path = model.join(name);
        if let Err(error) = std::fs::symlink_metadata(&path) {
            // Below a single file there is nothing, either.
            let none = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            let error = if none { io::ErrorKind::NotFound.into() } else { error };
            return Err(Error::io("find", path)(error));
        }
        differences.push((ResourceName::of_file(name, None), Difference::Unsigned));
    }
    Ok(Differences(differences))
}

/// Leaves of the files to read those of `only`. The others are known not to be read, so that none of them is missed.
pub(super) fn narrow(only: &BTreeSet<String>, files: &mut Vec<ToRead>, all: &mut [&mut Prepared<'_>]) {
    let asked = |file: &ToRead| only.contains(&file.title) || only.contains(&file.name);
    let titles: BTreeSet<String> = files.iter().filter(|file| asked(file)).map(|file| file.title.clone()).collect();
    let not_asked: BTreeSet<String> = files.iter().filter(|file| !asked(file)).map(|file| file.name.clone()).collect();
    files.retain(asked);
    for prepared in all {
        prepared.listed.scan.files.retain(|file| titles.contains(file.name()));
        prepared.listed.not_asked.clone_from(&not_asked);
    }
}
