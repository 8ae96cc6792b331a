//! Where a model differs, from the trees that were kept of it.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Check;
use crate::digest::Algorithm;
use crate::error::Error;
use crate::format::Format;
use crate::manifest::{Difference, Differences, Method, ResourceName};
use crate::measure::{Measured, Measurement};
use crate::outboard::{Kept, Located, OutboardFile, Seen, Suspect, Text, Trees};
use crate::source::{Model, ModelKind, SourceFile};

/// The trees that were asked for, proven by the first statement that can prove them.
pub(super) fn trees(check: &Check<'_>, others: &[Check<'_>]) -> Result<Option<Trees>, Error> {
    let Some(path) = &check.options.outboard else { return Ok(None) };
    let has_all = |check: &&Check<'_>| {
        check.signed.resources().iter().all(|resource| resource.digest_by(Algorithm::Blake3).is_some())
    };
    let by = [check].into_iter().chain(others).find(has_all).unwrap_or(check);
    let trees = OutboardFile::read(path)?.of(by.signed);
    trees.map(Some).map_err(|source| Error::Outboard { path: path.clone(), source })
}

impl Check<'_> {
    /// Where each file differs of which there are trees.
    pub(super) fn locate(
        &self,
        trees: &Trees,
        differences: &Differences,
        found: &Measurement,
        model: &Model,
        files: &[SourceFile],
    ) -> Vec<Located> {
        let shards = self.signed.serialization().method != Method::Files;
        let file_of = |name: &'_ ResourceName| match name.shard() {
            Some((path, range)) if shards => (path.to_owned(), range.start),
            _ => (name.to_string(), 0),
        };
        let mut changed: BTreeSet<String> = BTreeSet::new();
        for (name, difference) in &differences.0 {
            match difference {
                Difference::Changed { .. } => changed.insert(file_of(name).0),
                Difference::Resized { .. } => changed.insert(name.to_string()),
                // The others are of files that are not there, or of memory.
                _ => false,
            };
        }
        if changed.is_empty() {
            return Vec::new();
        }
        let mut kept: BTreeMap<String, Vec<(u64, &Kept)>> = BTreeMap::new();
        for tree in trees.kept() {
            let (file, at) = file_of(tree.name());
            // A statement with other digests is about other trees.
            let same = self.signed.get(tree.name().as_str()).and_then(|of| of.digest_by(Algorithm::Blake3));
            if changed.contains(&file) && same == Some(tree.root()) {
                kept.entry(file).or_default().push((at, tree));
            }
        }
        let measured: BTreeMap<&str, &Measured> = found.resources.iter().map(|m| (m.name.as_str(), m)).collect();
        let single = model.kind() == ModelKind::File;
        let files: BTreeMap<&str, &SourceFile> = files.iter().map(|file| (file.name(), file)).collect();
        let mut located = Vec::new();
        for (name, mut texts) in kept {
            let file = if single { files.first_key_value().map(|(_, file)| file) } else { files.get(&*name) };
            let Some(file) = file else { continue };
            texts.sort_by_key(|(at, _)| *at);
            let found_len = found.resized.iter().find(|(resized, ..)| *resized == name).map(|(_, _, found)| *found);
            let seen = |kept: &Kept| match measured.get(kept.name().as_str()) {
                Some(of) if of.digests.get(Algorithm::Blake3) == Some(kept.root()) => Seen::Same,
                Some(of) => Seen::Other(&of.groups),
                None => Seen::NotRead,
            };
            let end = texts.iter().map(|(at, kept)| at + kept.tree().len()).max().unwrap_or(0);
            let suspect = Suspect {
                name: &name,
                // A single file is signed under a name that says nothing of it, and a link may lead to any name.
                format: Format::of_name(file.name()),
                path: file.path(),
                found_len: found_len.unwrap_or(end),
                texts: texts.iter().map(|&(at, kept)| Text { at, kept, seen: seen(kept) }).collect(),
            };
            located.push(suspect.locate());
        }
        located
    }
}
