//! Models in several files: which tensor lies in which, and whether it does.
//!
//! For safetensors that is `model.safetensors.index.json`, as transformers and huggingface_hub write it: the member
//! `weight_map` maps each tensor to its file, beside the index.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Header;
use super::parts::part_of;
use crate::error::{quoted, tame};
use crate::json::{Object, Texts};

/// An index of tensors in several safetensors files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    weight_map: BTreeMap<String, String>,
}

/// What is wrong with an index, or with the files that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFault {
    /// Longer than any index.
    #[error("it has {len} bytes; at most {limit} are accepted")]
    TooLong {
        /// Bytes of the index.
        len: u64,
        /// Bytes accepted.
        limit: u64,
    },
    /// Not JSON, or not that of an index.
    #[error("it is malformed: {why}")]
    Json {
        /// What the parser said, fit to be shown.
        why: String,
    },
    /// A file that could lie elsewhere than beside the index.
    #[error(
        "it places the tensor {} into {}, which is no plain name of a file beside it",
        quoted(tensor),
        quoted(file)
    )]
    FileName {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
    },
    /// A file that is named and not there, or could not be read.
    #[error("it names the file {}, which is not there or cannot be read", quoted(file))]
    NoFile {
        /// The file.
        file: String,
    },
    /// A tensor that is in none of the files.
    #[error("the tensor {} is not in {}, where it should be, nor in any other file", quoted(tensor), quoted(file))]
    NoTensor {
        /// The tensor.
        tensor: String,
        /// Where it should be.
        file: String,
    },
    /// A tensor that is in another file.
    #[error("the tensor {} should be in {} and is in {}", quoted(tensor), quoted(expected), quoted(found))]
    OtherFile {
        /// The tensor.
        tensor: String,
        /// Where the index has it.
        expected: String,
        /// Where it is.
        found: String,
    },
    /// A tensor that the index does not place into the file that holds it.
    #[error("the file {} holds the tensor {}, which is not listed there", quoted(file), quoted(tensor))]
    Unlisted {
        /// The tensor.
        tensor: String,
        /// Where it is.
        file: String,
    },
    /// A part of the same set that the index does not name.
    #[error("the file {} looks like a part of this model and is not named", quoted(file))]
    ExtraFile {
        /// The file.
        file: String,
    },
    /// Not all parts of a model are there.
    #[error("{} is one of {count} parts, of which {found} are here", quoted(file))]
    Parts {
        /// The first of those that are there.
        file: String,
        /// How many there should be.
        count: u32,
        /// How many there are.
        found: u32,
    },
    /// A part whose name says another number than its header.
    #[error("the file {} is, by its header, {says}", quoted(file))]
    Numbered {
        /// The file.
        file: String,
        /// What the header says.
        says: String,
    },
    /// Parts that hold another number of tensors than they say.
    #[error("{} and its other parts hold {found} tensors, and its header says {}", quoted(file), quoted(says))]
    TensorCount {
        /// The part.
        file: String,
        /// What its header says.
        says: String,
        /// How many there are.
        found: u64,
    },
    /// A tensor in two parts.
    #[error("the tensor {} is in {} and in {}", quoted(tensor), quoted(file), quoted(other))]
    TwoPlaces {
        /// The tensor.
        tensor: String,
        /// A part that holds it.
        file: String,
        /// Another one.
        other: String,
    },
}

#[derive(Deserialize)]
struct Wire {
    weight_map: Texts,
}

impl Index {
    /// The longest index that is accepted: that of a model of a million tensors.
    pub const MAX_BYTES: u64 = 100_000_000;

    /// Whether a file's name is that of an index: it ends in `.safetensors.index.json`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        name.ends_with(".safetensors.index.json")
    }

    /// Reads an index. Members beside `weight_map` are not looked at.
    ///
    /// # Errors
    /// [`IndexFault`] if it is not JSON of an index, names a tensor twice, or a file by a path that could leave its folder.
    pub fn parse(text: &[u8]) -> Result<Self, IndexFault> {
        if text.len() as u64 > Self::MAX_BYTES {
            return Err(IndexFault::TooLong { len: text.len() as u64, limit: Self::MAX_BYTES });
        }
        let Object(Wire { weight_map: Texts(weight_map) }) =
            serde_json::from_slice(text).map_err(|error| IndexFault::Json { why: tame(&error.to_string()) })?;
        let plain =
            |file: &str| !file.contains(['\0', '\\']) && file.split('/').all(|part| !["", ".", ".."].contains(&part));
        if let Some((tensor, file)) = weight_map.iter().find(|(_, file)| !plain(file)) {
            return Err(IndexFault::FileName { tensor: tensor.clone(), file: file.clone() });
        }
        Ok(Self { weight_map })
    }

    /// Where each tensor lies: a path relative to the folder of the index.
    #[must_use]
    pub const fn weight_map(&self) -> &BTreeMap<String, String> {
        &self.weight_map
    }

    /// The files that it names, relative to its folder.
    #[must_use]
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Compares the index with the headers of files, by their paths relative to its folder. Of files that it does not
    /// name, those are looked at that are numbered as its own are; another set of weights may lie beside it.
    #[must_use]
    pub fn check(&self, headers: &BTreeMap<&str, &Header>) -> Vec<IndexFault> {
        let mut faults = Vec::new();
        let named = self.files();
        let missing = named.iter().filter(|file| !headers.contains_key(*file));
        faults.extend(missing.map(|&file| IndexFault::NoFile { file: file.to_owned() }));
        let sets: BTreeSet<_> = named.iter().filter_map(|file| part_of(file)).map(|part| part.set()).collect();
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (&file, header) in headers {
            if named.contains(file) {
                for tensor in &header.tensors {
                    found.entry(&tensor.name).or_default().push(file);
                }
            } else if part_of(file).is_some_and(|part| sets.contains(&part.set())) {
                faults.push(IndexFault::ExtraFile { file: file.to_owned() });
            }
        }
        for (tensor, file) in &self.weight_map {
            let here = found.remove(tensor.as_str()).unwrap_or_default();
            // A file that is missing has been named already.
            let there = !headers.contains_key(file.as_str()) || here.contains(&file.as_str());
            let mut others = here.into_iter().filter(|other| other != file);
            if !there {
                let (tensor, file) = (tensor.clone(), file.clone());
                faults.push(match others.next() {
                    Some(found) => IndexFault::OtherFile { tensor, expected: file, found: found.to_owned() },
                    None => IndexFault::NoTensor { tensor, file },
                });
            }
            faults.extend(others.map(|other| IndexFault::Unlisted { tensor: tensor.clone(), file: other.to_owned() }));
        }
        for (tensor, files) in found {
            let unlisted = |file: &str| IndexFault::Unlisted { tensor: tensor.to_owned(), file: file.to_owned() };
            faults.extend(files.into_iter().map(unlisted));
        }
        faults
    }
}
