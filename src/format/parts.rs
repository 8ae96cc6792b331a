//! Models in several files that are numbered by their names: `model-00002-of-00005.gguf`.
//!
//! Parts of GGUF say in their metadata, too, which they are (`split.no`, from 0), of how many (`split.count`), and how many
//! tensors all of them hold (`split.tensors.count`), as `llama-gguf-split` and Python's gguf write it.

use std::collections::BTreeMap;

use super::{Format, Header, IndexFault};
use crate::error::tame;

/// The name of a file that is one of several, `model-00002-of-00005.safetensors`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// What stands before the numbers, folders included.
    stem: &'a str,
    /// Which one it is, counted from 1.
    number: u32,
    /// How many there are.
    count: u32,
    /// What stands behind.
    extension: &'a str,
}

impl<'a> Part<'a> {
    /// What all files of one set have in common.
    pub(super) const fn set(self) -> (&'a str, u32, &'a str) {
        (self.stem, self.count, self.extension)
    }
}

/// Numbers of five digits, as transformers and llama.cpp write them.
pub(super) fn part_of(name: &str) -> Option<Part<'_>> {
    let (rest, extension) = name.rsplit_once('.')?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| -> Option<u32> {
        (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    Some(Part { stem, number: digits(number)?, count: digits(count)?, extension })
}

/// Compares GGUF files that are parts of a model with each other; the files are given by their paths. Files of other
/// formats, and GGUF files that are whole models, are passed over.
#[must_use]
pub fn check_parts(headers: &BTreeMap<&str, &Header>) -> Vec<IndexFault> {
    let mut faults = Vec::new();
    let mut sets: BTreeMap<_, Vec<(&str, &Header)>> = BTreeMap::new();
    for (&file, &header) in headers.iter().filter(|(_, header)| header.format == Format::Gguf) {
        let says = |key: &str| header.metadata.get(key).map(String::as_str);
        let (number, count) = (says("split.no"), says("split.count"));
        let part = part_of(file);
        if matches!(count, None | Some("0" | "1")) && part.is_none_or(|part| part.count == 1) {
            continue;
        }
        let as_named = part.is_some_and(|Part { number: named, count: of, .. }| {
            let from_0 = named.checked_sub(1).map(|number| number.to_string());
            named <= of && number.is_some() && number == from_0.as_deref() && count == Some(&of.to_string())
        });
        if !as_named {
            let text = |of: Option<&str>| of.map_or_else(|| "none".to_owned(), tame);
            let says = format!("number {} (from 0) of {}", text(number), text(count));
            faults.push(IndexFault::Numbered { file: file.to_owned(), says });
        } else if let Some(part) = part {
            sets.entry(part.set()).or_default().push((file, header));
        }
    }
    for ((_, count, _), parts) in sets {
        check_set(count, &parts, &mut faults);
    }
    faults
}

/// Compares parts whose names and numbers agree.
fn check_set(count: u32, parts: &[(&str, &Header)], faults: &mut Vec<IndexFault>) {
    let (first, _) = parts[0];
    if parts.len() as u64 != u64::from(count) {
        let found = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        faults.push(IndexFault::Parts { file: first.to_owned(), count, found });
        return;
    }
    let found: u64 = parts.iter().map(|(_, header)| header.tensors.len() as u64).sum();
    let mut places = BTreeMap::new();
    for (file, header) in parts {
        let says = header.metadata.get("split.tensors.count").map_or("none", String::as_str);
        if says != found.to_string() {
            faults.push(IndexFault::TensorCount { file: (*file).to_owned(), says: says.to_owned(), found });
        }
        for tensor in &header.tensors {
            if let Some(other) = places.insert(&*tensor.name, *file) {
                let (tensor, file, other) = (tensor.name.clone(), (*file).to_owned(), other.to_owned());
                faults.push(IndexFault::TwoPlaces { tensor, file, other });
            }
        }
    }
}
