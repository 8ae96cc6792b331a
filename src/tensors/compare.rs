//! Is a manifest about the files that are there? Each way in which it is not.

use std::collections::HashMap;
use std::fmt;

use super::slice::TileDifference;
use super::stream::FileHeader;
use super::{SourceFile, TensorManifest, TensorRecord};
use crate::error::quoted;
use crate::format::Tensor;

/// One way in which files are not those that a manifest is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stale {
    /// A file.
    File {
        /// Its name.
        name: String,
        /// What is different of it.
        how: &'static str,
    },
    /// A tensor, whatever its tiles are.
    Tensor {
        /// Its name.
        name: String,
        /// What is different of it.
        how: &'static str,
    },
    /// A tile.
    Tile(Box<TileDifference>),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, how } => write!(f, "the file {} {how}", quoted(name)),
            Self::Tensor { name, how } => write!(f, "the tensor {} {how}", quoted(name)),
            Self::Tile(tile) => write!(f, "{tile} is not as listed"),
        }
    }
}

/// So many tiles are told of at most: of a large model that was trained on, millions are not as listed.
pub(super) const MOST_TILES: usize = 1000;

/// The ways in which files are not those that a manifest is about, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleTensors(pub Vec<Stale>);

impl fmt::Display for StaleTensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is no place for 200,000 tensors.
        const NAMED: usize = 5;
        let named: Vec<String> = self.0.iter().take(NAMED).map(ToString::to_string).collect();
        write!(f, "{}{}", named.join("; "), if self.0.len() > NAMED { "; .." } else { "" })
    }
}

const MISSING: &str = "is listed and not there";
const UNLISTED: &str = "is there and not listed";

impl TensorManifest {
    /// How the headers of files are not those that this manifest is about: of every file that it lists, and no other. No
    /// tile is looked at, so that nothing needs to be read but headers.
    #[must_use]
    pub fn stale_headers(&self, found: &[FileHeader]) -> Vec<Stale> {
        let mut stale = Vec::new();
        let headers: HashMap<&str, &FileHeader> = found.iter().map(|one| (one.file.name.as_str(), one)).collect();
        let mut listed: HashMap<&str, (&SourceFile, HashMap<&str, &TensorRecord>)> =
            self.files.iter().map(|file| (file.name.as_str(), (file, HashMap::new()))).collect();
        for tensor in &self.tensors {
            if let Some((_, tensors)) = listed.get_mut(self.files[tensor.file as usize].name.as_str()) {
                tensors.insert(&tensor.name, tensor);
            }
        }
        let other_file = |name: &str, how| Stale::File { name: name.to_owned(), how };
        for file in &self.files {
            let name = file.name.as_str();
            if !headers.contains_key(name) {
                stale.push(other_file(name, MISSING));
            }
        }
        for header in found {
            let name = header.file.name.as_str();
            let Some((file, tensors)) = listed.get_mut(name) else {
                stale.push(other_file(name, UNLISTED));
                continue;
            };
            let how = match &header.file {
                now if now.len != file.len => Some("has another length than is listed"),
                now if now.format != file.format => Some("has another format than is listed"),
                now if (now.header_len, now.header) != (file.header_len, file.header) => {
                    Some("has another header than is listed")
                }
                _ => None,
            };
            stale.extend(how.map(|how| other_file(name, how)));
            for tensor in &header.tensors {
                let how = match tensors.remove(&*tensor.name) {
                    None => Some(UNLISTED),
                    Some(listed) => difference(listed, tensor),
                };
                stale.extend(how.map(|how| Stale::Tensor { name: tensor.name.clone(), how }));
            }
            let mut rest: Vec<_> = tensors.keys().map(|name| (*name).to_owned()).collect();
            rest.sort_unstable();
            stale.extend(rest.into_iter().map(|name| Stale::Tensor { name, how: MISSING }));
        }
        stale
    }

    /// How the files that `found` was made of are not those that this manifest is about, down to their tiles: the first
    /// thousand of these.
    #[must_use]
    pub fn stale_tensors(&self, found: &Self) -> Vec<Stale> {
        let header = |file: &SourceFile| FileHeader { file: file.clone(), tensors: Vec::new() };
        let mut headers: Vec<_> = found.files.iter().map(header).collect();
        for of in &found.tensors {
            let (name, shape) = (of.name.to_string(), of.shape.to_vec());
            let tensor = Tensor { name, dtype: of.dtype, shape, range: of.range.clone() };
            headers[of.file as usize].tensors.push(tensor);
        }
        let mut stale = self.stale_headers(&headers);
        let most = stale.len() + MOST_TILES;
        for (index, tensor) in self.tensors.iter().enumerate() {
            // Of another type or shape, tiles have nothing to do with each other.
            let same =
                found.tensor(&tensor.name).filter(|found| found.grid == tensor.grid && found.dtype == tensor.dtype);
            for (tile, digest) in same.map(|found| &found.tiles[..]).unwrap_or_default().iter().enumerate() {
                if stale.len() == most {
                    return stale;
                }
                let difference = TileDifference::new(self, index, tile, digest);
                stale.extend(difference.map(|tile| Stale::Tile(Box::new(tile))));
            }
        }
        stale
    }
}

/// What is different of a tensor, if anything is.
fn difference(listed: &TensorRecord, found: &Tensor) -> Option<&'static str> {
    if listed.dtype != found.dtype {
        Some("has another type than is listed")
    } else if *listed.shape != *found.shape {
        Some("has another shape than is listed")
    } else if listed.range != found.range {
        Some("lies elsewhere in its file than is listed")
    } else {
        None
    }
}
