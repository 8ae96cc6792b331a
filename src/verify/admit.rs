//! Admission of what was loaded: the only way out of [`Loaded`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::model::{Check, Prepared};
use super::policy::unsigned;
use super::{Tensors, Verified, VerifyOptions, part};
use crate::bundle::Bundle;
use crate::device::cpu::{Algorithms, Digests, Progress, Wanted};
use crate::device::{Device, DeviceKind};
use crate::digest::Algorithm;
use crate::error::{Error, VerifyError};
use crate::loader::{Found, Loaded};
use crate::manifest::{Difference, Differences, Manifest, Method, Resource, ResourceName};
use crate::measure::{Measured, Measurement, measure};
use crate::report::Report;
use crate::source::SourceFile;

impl<Buf> Loaded<Buf> {
    /// Gives out the memory, if it holds what was signed as `name`: a file, also where its shards are what was signed.
    ///
    /// Each signed digest that was taken must be the signed one, and one at least must have been taken: of the memory
    /// itself, or of what was read, where the memory is proven to hold that. Otherwise the memory is dropped.
    ///
    /// # Errors
    /// The difference.
    pub fn admit(self, signed: &Verified<Manifest>, name: &ResourceName) -> Result<Verified<Buf>, Difference> {
        let strings = strings_of(signed, name.as_str(), self.len)?;
        // Nothing signed can only be nothing found, but for bytes of which no digest was taken.
        if strings.is_empty() || strings.len() != self.found.len() {
            return Err(Difference::NotMeasured);
        }
        for ((range, resource), found) in strings.iter().zip(&self.found) {
            if *range != found.range {
                return Err(Difference::NotMeasured);
            }
            judge(resource, found).map_or(Ok(()), Err)?;
        }
        Ok(signed.vouches_for(self.buffer))
    }
}

/// What was signed of a file of `len` bytes: each string, in order, by where it lies.
fn strings_of<'m>(signed: &'m Manifest, name: &str, len: u64) -> Result<Vec<(Range<u64>, &'m Resource)>, Difference> {
    if signed.serialization().method == Method::Files {
        let resource = signed.get(name).ok_or(Difference::Unsigned)?;
        return Ok(vec![(0..len, resource)]);
    }
    // Names of a file's shards begin alike, so they stand together.
    let prefix = format!("{name}:");
    let first = signed.resources().partition_point(|resource| resource.name.as_str() < prefix.as_str());
    let shards = signed.resources()[first..].iter().take_while(|resource| resource.name.as_str().starts_with(&prefix));
    let of_file = |resource: &'m Resource| {
        let (path, range) = resource.name.shard()?;
        (path == name).then_some((range, resource))
    };
    let mut shards: Vec<_> = shards.filter_map(of_file).collect();
    shards.sort_by_key(|(range, _)| range.start);
    // They tile their file, or there would be no manifest.
    match shards.last() {
        None => Err(Difference::Unsigned),
        Some((range, _)) if range.end != len => Err(Difference::Resized { expected: range.end, found: len }),
        Some(_) => Ok(shards),
    }
}

/// What speaks against one string.
fn judge(signed: &Resource, found: &Found) -> Option<Difference> {
    let len = found.range.end - found.range.start;
    if let Some(expected) = signed.size.filter(|&size| size != len) {
        return Some(Difference::Resized { expected, found: len });
    }
    if let Some((read, arrived)) = found.miscopied() {
        return Some(Difference::Miscopied { read, arrived });
    }
    let mut compared = false;
    for algorithm in Algorithm::ALL {
        let Some((expected, digest)) = signed.digest_by(algorithm).zip(found.digest(algorithm)) else { continue };
        if expected != digest {
            let (expected_size, found_size) = (signed.size, len);
            return Some(Difference::Changed { expected, found: digest, expected_size, found_size });
        }
        compared = true;
    }
    if compared { None } else { Some(Difference::NotMeasured) }
}

/// A signed model whose files were listed and not yet read: none is missing, none is there that should not be.
pub(crate) struct Admission<'a> {
    check: Check<'a>,
    prepared: Prepared<'a>,
    /// Those of the other signatures.
    others: Vec<(Check<'a>, Prepared<'a>)>,
    algorithms: Algorithms,
    tensors: Tensors,
    files: Vec<ToRead>,
}

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct ToRead {
    /// As it is signed.
    pub(crate) name: String,
    /// As it is called on disk.
    pub(crate) title: String,
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) len: u64,
}

/// What an [`Admission`] is about.
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a Path,
    /// Where the model's path has to lead, if that was found out before.
    pub(crate) resolved: Option<&'a Path>,
    pub(crate) signatures: &'a [&'a Path],
    /// What each of them signs.
    pub(crate) claims: Vec<(&'a Bundle, &'a Verified<Manifest>)>,
    pub(crate) options: &'a VerifyOptions,
    /// The files to look at, if not all.
    pub(crate) only: Option<&'a BTreeSet<String>>,
    /// Reads what is not loaded.
    pub(crate) host: &'a Device,
    /// Where digests are taken of what is loaded.
    pub(crate) kind: DeviceKind,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) begun: Instant,
}

impl<'a> Admission<'a> {
    /// Lists the model's files.
    ///
    /// # Errors
    /// [`VerifyError::Differs`] for files that are missing, have another length, or are not signed; those of listing, and
    /// those of a tensor manifest outside of the model.
    pub(crate) fn new(asked: Asked<'a>) -> Result<Self, Error> {
        let Asked { model, resolved, signatures, claims, options, only, host: device, kind, progress, begun } = asked;
        if let Some(path) = &options.outboard {
            return Err(Error::OutboardUnused { path: path.clone() });
        }
        let check = |(bundle, signed)| {
            let kind = kind.clone();
            Check { model, resolved, signatures, bundle, signed, options, device, kind, progress, begun }
        };
        let checks: Vec<Check<'a>> = claims.into_iter().map(check).collect();
        let Some((first, others)) = checks.split_first() else { return Err(unsigned()) };
        let mut tensors = Tensors::begin(first, others)?;
        let prepared = |check: Check<'a>| {
            let mut prepared = check.prepare()?;
            prepared.look_for_pickles();
            Ok((check, prepared))
        };
        let mut all = checks.into_iter().map(prepared).collect::<Result<Vec<_>, Error>>()?;
        let algorithms = all.iter().flat_map(|(_, of)| of.algorithms.iter().copied()).collect();
        let Some((_, prepared)) = all.first() else { return Err(unsigned()) };
        let to_read = |file: &SourceFile| {
            let path = file.path();
            let len = std::fs::symlink_metadata(&path).map_err(Error::io("examine", path.as_path()))?.len();
            let name = prepared.single().unwrap_or_else(|| file.name()).to_owned();
            Ok(ToRead { name, title: file.name().to_owned(), path, len })
        };
        let mut files = prepared.files().iter().map(to_read).collect::<Result<Vec<_>, Error>>()?;
        let lengths = files.iter().map(|file| (file.name.as_str(), file.len)).collect();
        for at in 0..all.len() {
            let (check, prepared) = &all[at];
            let differences = check.differences_of_list(prepared, &lengths);
            if !differences.0.is_empty() {
                let (check, prepared) = all.swap_remove(at);
                return Err(check.refuse(prepared, &Measurement::default(), differences));
            }
        }
        if let Some(only) = only {
            let differences = part::not_signed(model, only, &files)?;
            if !differences.0.is_empty() {
                let (check, prepared) = all.swap_remove(0);
                return Err(check.refuse(prepared, &Measurement::default(), differences));
            }
            let mut prepared: Vec<_> = all.iter_mut().map(|(_, prepared)| prepared).collect();
            part::narrow(only, &mut files, &mut prepared);
            tensors.leave_out(prepared.first().map(|first| first.listed.not_asked.clone()).unwrap_or_default());
        }
        let others = all.split_off(1);
        let Some((check, prepared)) = all.pop() else { return Err(unsigned()) };
        Ok(Self { check, prepared, others, algorithms, tensors, files })
    }

    /// Whether it is a model of one file, which no folder holds.
    pub(crate) fn is_single(&self) -> bool {
        self.prepared.single().is_some()
    }

    /// The files that were asked for, in the order of their names.
    pub(crate) fn files(&self) -> &[ToRead] {
        &self.files
    }

    /// Names of signed files that nobody asked for.
    pub(crate) const fn not_asked(&self) -> &BTreeSet<String> {
        &self.prepared.listed.not_asked
    }

    /// Which digests are compared.
    pub(crate) const fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// The digests of these files, which are read and not held.
    pub(crate) fn measure(&self, wanted: impl Fn(&ToRead) -> bool) -> Result<Measurement, Error> {
        let files = self.files.iter().zip(self.prepared.files()).filter(|(file, _)| wanted(file));
        let files: Vec<SourceFile> = files.map(|(_, file)| file.clone()).collect();
        let shard = self.check.signed.serialization().method.shard_size();
        let wanted = Wanted { algorithms: self.algorithms(), shard, groups: None, tap: None, look: None };
        let expected = |name: &str| self.prepared.signed_len(name);
        measure(self.check.device, &files, self.prepared.single(), &wanted, &expected, self.check.progress)
    }

    /// Admits what was loaded, all of it or nothing: with `others`, which were read alone, it is the model as it was
    /// signed. Buffers come out in their order, and with them what is still to be asked about tensor manifests.
    ///
    /// # Errors
    /// The answer no. Every buffer is dropped then.
    pub(crate) fn admit<Buf>(
        self,
        loaded: Vec<(ResourceName, Loaded<Buf>)>,
        not_held: Measurement,
    ) -> Result<Verified<(Report, Vec<Buf>, Tensors)>, Error> {
        let Self { check, prepared, others, tensors, .. } = self;
        let found = with_loaded(not_held, &loaded);
        // A bad copy would look like a bad file below.
        let miscopied = loaded.iter().filter_map(|(name, loaded)| {
            let (read, arrived) = loaded.found.iter().find_map(Found::miscopied)?;
            Some((name.clone(), Difference::Miscopied { read, arrived }))
        });
        let miscopied = Differences(miscopied.collect());
        if !miscopied.0.is_empty() {
            return Err(check.refuse(prepared, &found, miscopied));
        }
        let mut report = check.conclude(prepared, &found, None)?;
        for (check, prepared) in others {
            report = report.and(check.conclude(prepared, &found, None)?);
        }
        let mut buffers = Vec::with_capacity(loaded.len());
        for (name, loaded) in loaded {
            match loaded.admit(check.signed, &name) {
                Ok(admitted) => buffers.push(admitted.into_inner()),
                Err(difference) => {
                    let (differences, report) = (Differences(vec![(name, difference)]), Box::new(report));
                    return Err(VerifyError::Differs { differences, located: Vec::new(), report }.into());
                }
            }
        }
        Ok(check.signed.vouches_for((report, buffers, tensors)))
    }
}

/// What was found of all files.
fn with_loaded<Buf>(mut found: Measurement, loaded: &[(ResourceName, Loaded<Buf>)]) -> Measurement {
    for (name, loaded) in loaded {
        found.files += 1;
        found.bytes += loaded.len;
        if loaded.found.is_empty() {
            found.empty.push(name.to_string());
        }
        for of in &loaded.found {
            // Shards are strings that are named by where they lie; the whole of a file has its name.
            let shard = loaded.shards.then(|| of.range.clone());
            let mut digests = Digests::default();
            Algorithm::ALL
                .into_iter()
                .filter_map(|algorithm| of.digest(algorithm))
                .for_each(|digest| digests.set(digest));
            let (name, size) = (ResourceName::of_file(name.as_str(), shard), of.range.end - of.range.start);
            found.resources.push(Measured { name, size, digests, groups: Vec::new() });
        }
    }
    found
}

impl Check<'_> {
    /// The differences that show before any file is read, where the files to read have these lengths.
    fn differences_of_list(&self, of: &Prepared<'_>, lengths: &BTreeMap<&str, u64>) -> Differences {
        let mut differences = Vec::new();
        for (name, &found) in lengths {
            if let Some(expected) = of.signed_len(name).filter(|&expected| expected != found) {
                differences.push((ResourceName::of_file(name, None), Difference::Resized { expected, found }));
            }
            if !of.signed_paths.contains_key(name) {
                differences.push((ResourceName::of_file(name, None), Difference::Unsigned));
            }
        }
        for resource in self.signed.resources() {
            if !lengths.contains_key(self.file_of(&resource.name)) {
                differences.push((resource.name.clone(), Difference::Missing));
            }
        }
        differences.extend(self.unsigned(&of.listed));
        differences.sort_by(|(a, _), (b, _)| a.cmp(b));
        Differences(differences)
    }

    /// The answer no, for differences that were found before any digest was compared, or by other means.
    fn refuse(&self, prepared: Prepared<'_>, found: &Measurement, differences: Differences) -> Error {
        let Prepared { notes, listed, .. } = prepared;
        let report = Box::new(self.report(listed, found, Vec::new(), notes));
        VerifyError::Differs { differences, located: Vec::new(), report }.into()
    }
}
