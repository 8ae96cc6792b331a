//! Compares the model on disk with a verified manifest.

mod compare;
mod unhashed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use self::compare::compare;
use super::locate::trees;
use super::witness::{Listing, Witness};
use super::{DigestChoice, GitFiles, UncoveredFiles, UnsignedFiles, Verified, VerifyOptions, tiles};
use crate::bundle::{Bundle, VerificationMaterial};
use crate::device::cpu::{Progress, Wanted};
use crate::device::{Device, DeviceKind};
use crate::digest::Algorithm;
use crate::error::{Error, FormatError, VerifyError};
use crate::format::pickled;
use crate::manifest::{Difference, Differences, Manifest, Method, Resource, ResourceName, SINGLE_FILE};
use crate::measure::{Measured, Measurement, measure};
use crate::outboard::Trees;
use crate::report::{Note, Report};
use crate::source::{IgnoreSet, Model, ModelKind, Relative, Scan, SourceError, SourceFile, SymlinkPolicy};

/// Everything that the verification of one signature needs.
pub(super) struct Check<'a> {
    pub(super) model: &'a Path,
    /// Where the model's path has to lead, if that was found out before.
    pub(super) resolved: Option<&'a Path>,
    /// The files of all signatures that are verified together.
    pub(super) signatures: &'a [&'a Path],
    pub(super) bundle: &'a Bundle,
    pub(super) signed: &'a Verified<Manifest>,
    pub(super) options: &'a VerifyOptions,
    pub(super) device: &'a Device,
    /// Where the digests are computed that count.
    pub(super) kind: DeviceKind,
    pub(super) progress: &'a dyn Progress,
    pub(super) begun: Instant,
}

/// Path and, where the statement tells it, length of each signed file.
pub(super) type SignedPaths<'a> = BTreeMap<&'a str, Option<u64>>;

/// What is in the model.
#[derive(Default)]
pub(super) struct Listed {
    /// Signed files that are there, what lies under ignored paths, links.
    pub(super) scan: Scan,
    /// Empty files that the statement does not name and could not name.
    empty: Vec<String>,
    /// Files that it does not name and could.
    unsigned: Vec<String>,
    /// Signed files that are there and that nobody asked for.
    pub(super) not_asked: BTreeSet<String>,
}

/// What there is to compare: no file has been hashed yet.
pub(super) struct Prepared<'a> {
    pub(super) notes: Vec<Note>,
    pub(super) model: Model,
    pub(super) signed_paths: SignedPaths<'a>,
    pub(super) listed: Listed,
    pub(super) algorithms: Vec<Algorithm>,
}

impl Prepared<'_> {
    /// The files to read.
    pub(super) fn files(&self) -> &[SourceFile] {
        &self.listed.scan.files
    }

    /// Tells the pickled files by opening them, where no pass over the files will.
    pub(super) fn look_for_pickles(&mut self) {
        self.notes.extend(Note::pickled(pickled(self.files())));
    }

    /// The name that the only file of a single-file model is signed under: `.` by Python, its own by the specification.
    pub(super) fn single(&self) -> Option<&str> {
        let name = if self.signed_paths.contains_key(SINGLE_FILE) { SINGLE_FILE } else { self.model.name() };
        (self.model.kind() == ModelKind::File).then_some(name)
    }

    /// How long a signed file is, where the statement tells it.
    pub(super) fn signed_len(&self, name: &str) -> Option<u64> {
        self.signed_paths.get(name).copied().flatten()
    }
}

/// Verifies signatures over the same resources with one reading of the files, which is compared with each statement
/// apart. What any of them leaves open is in the report. The witness may know of a reason to read none.
pub(super) fn run(check: &Check<'_>, others: &[Check<'_>], witness: &mut dyn Witness) -> Result<Report, Error> {
    let mut first = check.prepare()?;
    let mut rest = others.iter().map(Check::prepare).collect::<Result<Vec<_>, _>>()?;
    let trees = trees(check, others)?;
    let trees = trees.as_ref();
    let algorithms = rest.iter().chain([&first]).flat_map(|of| of.algorithms.iter().copied()).collect();
    let files = first.files().to_vec();
    let single = first.single().map(str::to_owned);
    let listing = Listing { files: &files, single: single.as_deref(), algorithms, root: check.signed.root() };
    let skips = witness.skips();
    if skips {
        rest.iter_mut().chain([&mut first]).for_each(Prepared::look_for_pickles);
        // Names first: what is missing or new differs from what was signed, whatever a receipt says.
        let names: BTreeSet<String> = files.iter().map(|file| listing.name_of(file).to_owned()).collect();
        for (check, prepared) in others.iter().zip(&rest).chain([(check, &first)]) {
            check.compare_names(prepared, &names)?;
        }
    }
    if let Some(unhashed) = witness.listed(&listing)? {
        if !skips {
            rest.iter_mut().chain([&mut first]).for_each(Prepared::look_for_pickles);
        }
        let found = Measurement { files: files.len(), bytes: unhashed.bytes, ..Measurement::default() };
        let mut report = check.conclude_unhashed(first, &found, &unhashed)?;
        for (check, prepared) in others.iter().zip(rest) {
            report = report.and(check.conclude_unhashed(prepared, &found, &unhashed)?);
        }
        return Ok(report);
    }
    let (found, tensors) = tiles::measure(check, others, &first, algorithms, trees)?;
    if !skips {
        first.notes.extend(Note::pickled(found.pickled.clone()));
        for prepared in &mut rest {
            // Signatures over the same resources may ignore other paths.
            let same = prepared.files() == files;
            let pickled = if same { found.pickled.clone() } else { pickled(prepared.files()) };
            prepared.notes.extend(Note::pickled(pickled));
        }
    }
    let mut report = check.conclude(first, &found, trees)?;
    for (check, prepared) in others.iter().zip(rest) {
        report = report.and(check.conclude(prepared, &found, trees)?);
    }
    // Headers and tiles count only now that the files that they are from are known to be the signed ones.
    tensors.conclude(&mut report)?;
    witness.hashed(&listing, &found.stamps)?;
    Ok(report)
}

impl<'c> Check<'c> {
    pub(super) fn prepare(&self) -> Result<Prepared<'c>, Error> {
        let mut notes = self.notes();
        let links = self.links(&mut notes);
        let model = Model::open(self.model, links).map_err(seen)?;
        if let Some(resolved) = self.resolved.filter(|resolved| *resolved != model.root()) {
            let how = format!("it led to {resolved:?} when the policy was asked, and leads to {:?} now", model.root());
            return Err(Error::FileChanged { path: self.model.to_owned(), how });
        }
        let signed_paths = self.signed_paths();
        let ignore = self.ignore(&model, &signed_paths, &mut notes)?;
        let listed = self.list(&model, &ignore, links, &signed_paths, &mut notes)?;
        let algorithms = self.algorithms()?;
        notes.extend(self.partly_signed(&algorithms));
        Ok(Prepared { notes, model, signed_paths, listed, algorithms })
    }

    /// Hashes files of the model.
    pub(super) fn measure(
        &self,
        of: &Prepared<'_>,
        files: &[SourceFile],
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Measurement, Error> {
        measure(self.device, files, of.single(), wanted, &|name| of.signed_len(name), progress)
    }

    pub(super) fn conclude(
        &self,
        prepared: Prepared<'_>,
        found: &Measurement,
        trees: Option<&Trees>,
    ) -> Result<Report, Error> {
        let Prepared { notes, model, listed, algorithms, .. } = prepared;
        let differences = self.differences(found, &listed, &algorithms)?;
        let located = trees.map(|trees| self.locate(trees, &differences, found, &model, &listed.scan.files));
        let report = self.report(listed, found, algorithms, notes);
        if !differences.0.is_empty() {
            let located = located.unwrap_or_default();
            return Err(VerifyError::Differs { differences, located, report: Box::new(report) }.into());
        }
        self.strict(&model, &report)?;
        Ok(report)
    }

    /// The file that a resource is, or is a shard of.
    pub(super) fn file_of<'r>(&self, resource: &'r ResourceName) -> &'r str {
        match resource.shard() {
            Some((path, _)) if self.signed.serialization().method != Method::Files => path,
            _ => resource.as_str(),
        }
    }

    /// Files that are not signed, where that is a difference.
    pub(super) fn unsigned<'l>(&self, listed: &'l Listed) -> impl Iterator<Item = (ResourceName, Difference)> + 'l {
        let refused = self.options.unsigned == UnsignedFiles::Refuse;
        let names = listed.unsigned.iter().filter(move |_| refused);
        names.map(|name| (ResourceName::of_file(name, None), Difference::Unsigned))
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes = self.signed.identity().notes().to_vec();
        if let VerificationMaterial::PublicKey { hint, old } = self.bundle.material() {
            if *old {
                notes.push(Note::OldKeyMaterial);
            } else if hint.is_none() {
                notes.push(Note::NoKeyHint);
            }
            let evidence = self.bundle.evidence();
            let (entries, timestamps) = (evidence.log_entries.len(), evidence.timestamps.len());
            if entries + timestamps > 0 {
                notes.push(Note::LogNotChecked { entries, timestamps });
            }
        }
        if self.signed.serialization().ignore_paths.is_none() {
            notes.push(Note::IgnorePathsNotRecorded);
        }
        notes
    }

    /// The statement says whether links inside the model are followed; only the caller can let them leave it.
    fn links(&self, notes: &mut Vec<Note>) -> SymlinkPolicy {
        match (self.signed.serialization().allow_symlinks, self.options.symlinks) {
            (true, SymlinkPolicy::Refuse) => SymlinkPolicy::Inside,
            (false, asked @ (SymlinkPolicy::Inside | SymlinkPolicy::Anywhere)) => {
                notes.push(Note::LinksBeyondSignature);
                asked
            }
            (_, asked) => asked,
        }
    }

    /// The path of every file that is signed, whole or in shards, and its length, where the statement tells it.
    fn signed_paths(&self) -> SignedPaths<'c> {
        let resources = self.signed.resources().iter();
        match self.signed.serialization().method {
            Method::Files => resources.map(|resource| (resource.name.as_str(), resource.size)).collect(),
            Method::Shards { .. } => {
                let mut lengths = BTreeMap::new();
                for (path, range) in resources.filter_map(|resource| resource.name.shard()) {
                    // Shards tile their file: the largest end is the file's.
                    let len: &mut Option<u64> = lengths.entry(path).or_default();
                    *len = (*len).max(Some(range.end));
                }
                lengths
            }
        }
    }

    fn ignore(&self, model: &Model, signed: &SignedPaths<'_>, notes: &mut Vec<Note>) -> Result<IgnoreSet, Error> {
        let mut ignore = IgnoreSet::new();
        let recorded = self.signed.serialization().ignore_paths.as_deref();
        for path in recorded.unwrap_or_default() {
            let fault = |error: SourceError| FormatError::IgnorePath { path: path.clone(), why: error.to_string() };
            ignore.insert(path).map_err(fault).map_err(VerifyError::Format)?;
        }
        for name in signed.keys() {
            if let Some(path) = ignore.covering(name) {
                let (name, path) = ((*name).to_owned(), path.to_owned());
                return Err(VerifyError::Format(FormatError::SignedAndIgnored { name, path }).into());
            }
        }
        let git = match self.options.git_files {
            GitFiles::AsSigned => recorded.is_none(),
            GitFiles::Ignore => true,
            GitFiles::Keep => false,
        };
        ignore_more(&mut ignore, model, git, &self.options.ignore_paths, self.signatures, notes)?;
        Ok(ignore)
    }

    /// The files to hash, and what lies beside them.
    fn list(
        &self,
        model: &Model,
        ignore: &IgnoreSet,
        links: SymlinkPolicy,
        signed: &SignedPaths<'_>,
        notes: &mut Vec<Note>,
    ) -> Result<Listed, Error> {
        let mut scan = match model.scan(ignore, links, true) {
            Ok(scan) => scan,
            // Only the signed files count, whatever lies beside them; but a strict answer needs the whole list.
            Err(why)
                if self.options.unsigned == UnsignedFiles::Tolerate
                    && self.options.uncovered == UncoveredFiles::List =>
            {
                notes.push(Note::NotListed(why.to_string()));
                let mut scan = Scan::default();
                for name in signed.keys().filter(|name| **name != SINGLE_FILE) {
                    if let Some((file, link)) = model.find(name, links).map_err(seen)? {
                        scan.files.push(file);
                        scan.followed.extend(link);
                    }
                }
                scan
            }
            Err(why) => return Err(seen(why)),
        };
        let mut listed = Listed::default();
        if model.kind() == ModelKind::Directory {
            // An empty file gives no shard, so that a statement of shards cannot tell whether it was there. This is the
            // only look at its length: a file is in exactly one of the lists.
            let shards = self.signed.serialization().method != Method::Files;
            let is_empty = |file: &SourceFile| fs::symlink_metadata(file.path()).is_ok_and(|meta| meta.len() == 0);
            let (files, others) = scan.files.into_iter().partition(|file| signed.contains_key(file.name()));
            scan.files = files;
            let (empty, unsigned): (Vec<_>, Vec<_>) = others.into_iter().partition(|file| shards && is_empty(file));
            listed.empty = empty.iter().map(|file| file.name().to_owned()).collect();
            listed.unsigned = unsigned.iter().map(|file| file.name().to_owned()).collect();
        }
        Ok(Listed { scan, ..listed })
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>, Error> {
        let oms = self.signed.serialization().hash;
        match self.options.digests {
            // Trees are of BLAKE3.
            DigestChoice::Oms if self.options.outboard.is_some() && oms != Algorithm::Blake3 => {
                Ok(vec![oms, Algorithm::Blake3])
            }
            DigestChoice::Oms => Ok(vec![oms]),
            DigestChoice::Fastest => {
                let all =
                    self.signed.resources().iter().all(|resource| resource.digest_by(Algorithm::Blake3).is_some());
                Ok(vec![if all { Algorithm::Blake3 } else { oms }])
            }
            DigestChoice::Blake3 => {
                let without = |resource: &&Resource| resource.digest_by(Algorithm::Blake3).is_none();
                if let Some(resource) = self.signed.resources().iter().find(without) {
                    let (name, algorithm) = (resource.name.to_string(), Algorithm::Blake3);
                    return Err(VerifyError::NoSuchDigest { name, algorithm }.into());
                }
                Ok(vec![Algorithm::Blake3])
            }
            DigestChoice::All => Ok(self.signed_algorithms().collect()),
        }
    }

    /// Algorithms by which some resource has a signed digest.
    fn signed_algorithms(&self) -> impl Iterator<Item = Algorithm> {
        let signed = |algorithm: &Algorithm| self.signed.resources().iter().any(|r| r.digest_by(*algorithm).is_some());
        Algorithm::ALL.into_iter().filter(signed)
    }

    /// Algorithms that were asked for, and by which some resources have no signed digest.
    fn partly_signed<'a>(&'a self, algorithms: &'a [Algorithm]) -> impl Iterator<Item = Note> + 'a {
        algorithms.iter().filter_map(|&algorithm| {
            let without = self.signed.resources().iter().filter(|r| r.digest_by(algorithm).is_none()).count();
            (without > 0).then_some(Note::PartlySigned { algorithm, without })
        })
    }

    fn differences(
        &self,
        found: &Measurement,
        listed: &Listed,
        algorithms: &[Algorithm],
    ) -> Result<Differences, VerifyError> {
        let mut differences = Vec::new();
        let mut not_read = BTreeSet::new();
        for (name, expected, found) in &found.resized {
            let difference = Difference::Resized { expected: *expected, found: *found };
            differences.push((ResourceName::of_file(name, None), difference));
            not_read.insert(name.as_str());
        }
        let measured: BTreeMap<&str, &Measured> = found.resources.iter().map(|m| (m.name.as_str(), m)).collect();
        for resource in self.signed.resources() {
            let difference = match measured.get(resource.name.as_str()) {
                Some(measured) => compare(resource, measured, algorithms)?,
                None if not_read.contains(self.file_of(&resource.name)) => None,
                None if listed.not_asked.contains(self.file_of(&resource.name)) => None,
                None => Some(Difference::Missing),
            };
            differences.extend(difference.map(|difference| (resource.name.clone(), difference)));
        }
        let not_signed = |name: &&str| self.signed.get(name).is_none();
        for name in measured.into_keys().filter(not_signed) {
            differences.push((ResourceName::of_file(name, None), Difference::Unsigned));
        }
        differences.extend(self.unsigned(listed));
        differences.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Differences(differences))
    }

    pub(super) fn report(
        &self,
        listed: Listed,
        found: &Measurement,
        checked: Vec<Algorithm>,
        mut notes: Vec<Note>,
    ) -> Report {
        let Listed { scan, mut empty, unsigned, not_asked } = listed;
        notes.extend(Note::not_asked(not_asked));
        empty.extend(found.empty.iter().cloned());
        // Where they are not tolerated they are differences.
        let unsigned = if self.options.unsigned == UnsignedFiles::Tolerate { unsigned } else { Vec::new() };
        let not_checked = self.signed_algorithms().filter(|algorithm| !checked.contains(algorithm)).collect();
        Report {
            identity: self.signed.identity().clone(),
            method: self.bundle.material().method(),
            statement: self.signed.version(),
            model: self.model.to_owned(),
            root: self.signed.root(),
            serialization: self.signed.serialization().clone(),
            device: self.kind.clone(),
            checked,
            not_checked,
            resources: self.signed.resources().len(),
            files: found.files,
            bytes: found.bytes,
            elapsed: self.begun.elapsed(),
            ignored: scan.ignored.into_iter().filter(|file| !self.is_signature(&file.name)).collect(),
            empty,
            unsigned,
            followed: scan.followed,
            tensor_manifests: Vec::new(),
            policy: None,
            unhashed: None,
            notes,
        }
    }

    /// Whether this ignored file is a bundle being verified.
    fn is_signature(&self, name: &str) -> bool {
        let same = |a: &Path, b: &Path| fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b));
        let path = self.model.join(name);
        self.signatures.iter().any(|signature| path.file_name() == signature.file_name() && same(&path, signature))
    }

    /// The strict reading: nothing may lie in the model that the signature says nothing about.
    fn strict(&self, model: &Model, report: &Report) -> Result<(), Error> {
        let UncoveredFiles::Refuse { except } = &self.options.uncovered else { return Ok(()) };
        let mut allowed = IgnoreSet::new();
        for path in except {
            if let Relative::Inside(name) = model.relative(path)? {
                allowed.insert(&name)?;
            }
        }
        let ignored = report.ignored.iter().map(|file| file.name.as_str());
        let others = report.empty.iter().chain(&report.unsigned).map(String::as_str);
        let names: Vec<String> =
            ignored.chain(others).filter(|name| !allowed.covers(name)).map(str::to_owned).collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(VerifyError::Uncovered { names, report: Box::new(report.clone()) }.into())
        }
    }
}

/// Adds the files of git, the caller's paths and the signatures themselves.
pub(crate) fn ignore_more(
    ignore: &mut IgnoreSet,
    model: &Model,
    git: bool,
    paths: &[std::path::PathBuf],
    signatures: &[&Path],
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    if git {
        for name in IgnoreSet::GIT {
            ignore.insert(name)?;
        }
    }
    for path in paths {
        match model.relative(path)? {
            Relative::Inside(name) => ignore.insert(&name)?,
            Relative::Root => return Err(Error::IgnoresEverything { path: path.clone() }),
            Relative::Outside => notes.push(Note::IgnoredOutside(path.clone())),
        }
    }
    for signature in signatures {
        if let Relative::Inside(name) = model.relative(signature)? {
            ignore.insert(&name)?;
        }
    }
    Ok(())
}

/// What was seen of the model speaks against it; what could not be seen gives no answer.
fn seen(error: SourceError) -> Error {
    if error.is_io() { error.into() } else { VerifyError::Model(error).into() }
}
