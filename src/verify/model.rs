//! Compares the model on disk with a verified manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{DigestChoice, GitFiles, UncoveredFiles, UnsignedFiles, Verified, VerifyOptions};
use crate::bundle::{Bundle, VerificationMaterial};
use crate::device::Device;
use crate::device::cpu::{Algorithms, Progress};
use crate::digest::Algorithm;
use crate::error::{Error, FormatError, VerifyError};
use crate::manifest::{Difference, Differences, Manifest, Method, Resource, ResourceName, SINGLE_FILE};
use crate::measure::{Measured, Measurement, measure};
use crate::report::{Note, Report};
use crate::source::{IgnoreSet, Model, ModelKind, Relative, Scan, SourceError, SourceFile, SymlinkPolicy};

/// Everything that one verification needs.
pub(super) struct Check<'a> {
    pub(super) model: &'a Path,
    pub(super) signature: &'a Path,
    pub(super) bundle: &'a Bundle,
    pub(super) signed: &'a Verified<Manifest>,
    pub(super) options: &'a VerifyOptions,
    pub(super) device: &'a Device,
    pub(super) progress: &'a dyn Progress,
    pub(super) begun: Instant,
}

impl Check<'_> {
    pub(super) fn run(&self) -> Result<Report, Error> {
        let mut notes = self.notes();
        let links = self.links(&mut notes);
        let model = Model::open(self.model, links).map_err(seen)?;
        let signed_paths = self.signed_paths();
        let ignore = self.ignore(&model, &signed_paths, &mut notes)?;
        let (scan, unsigned) = self.list(&model, &ignore, links, &signed_paths, &mut notes)?;

        let single = (model.kind() == ModelKind::File).then(|| self.single_name(&model));
        let algorithms = self.algorithms()?;
        notes.extend(self.partly_signed(&algorithms));
        let mut chosen = Algorithms::default();
        algorithms.iter().for_each(|&algorithm| chosen = chosen.with(algorithm));
        let method = self.signed.serialization().method;
        let found = measure(self.device, &scan.files, single, method, chosen, self.progress)?;
        let differences = self.differences(&found, &unsigned, &algorithms)?;
        let report = self.report(scan, unsigned, &found, algorithms, notes);
        if !differences.0.is_empty() {
            return Err(VerifyError::Differs { differences, report: Box::new(report) }.into());
        }
        self.strict(&model, &report)?;
        Ok(report)
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if let VerificationMaterial::PublicKey { hint, old } = self.bundle.material() {
            if *old {
                notes.push(Note::OldKeyMaterial);
            } else if hint.is_none() {
                notes.push(Note::NoKeyHint);
            }
            let (entries, timestamps) = self.bundle.log_entries_and_timestamps();
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

    /// The path of every file that is signed, whole or in shards.
    fn signed_paths(&self) -> BTreeSet<&str> {
        let resources = self.signed.resources().iter();
        match self.signed.serialization().method {
            Method::Files => resources.map(|resource| resource.name.as_str()).collect(),
            Method::Shards { .. } => resources.filter_map(|resource| Some(resource.name.shard()?.0)).collect(),
        }
    }

    fn ignore(&self, model: &Model, signed: &BTreeSet<&str>, notes: &mut Vec<Note>) -> Result<IgnoreSet, Error> {
        let mut ignore = IgnoreSet::new();
        let recorded = self.signed.serialization().ignore_paths.as_deref();
        for path in recorded.unwrap_or_default() {
            let fault = |error: SourceError| FormatError::IgnorePath { path: path.clone(), why: error.to_string() };
            ignore.insert(path).map_err(fault).map_err(VerifyError::Format)?;
        }
        for name in signed {
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
        ignore_more(&mut ignore, model, git, &self.options.ignore_paths, Some(self.signature), notes)?;
        Ok(ignore)
    }

    /// The files to hash, what lies beside them, and the names of files that are not signed.
    fn list(
        &self,
        model: &Model,
        ignore: &IgnoreSet,
        links: SymlinkPolicy,
        signed: &BTreeSet<&str>,
        notes: &mut Vec<Note>,
    ) -> Result<(Scan, Vec<String>), Error> {
        if model.kind() == ModelKind::File {
            return Ok((model.scan(ignore, links, true).map_err(seen)?, Vec::new()));
        }
        let mut scan = if self.options.unsigned == UnsignedFiles::Refuse {
            model.scan(ignore, links, true).map_err(seen)?
        } else {
            // Only the signed files count: whatever lies beside them, links and sockets too, is not even looked at
            // closely. Where the listing works it is used to name the rest.
            let mut scan = match model.scan(ignore, SymlinkPolicy::Refuse, true) {
                Ok(scan) => scan,
                Err(why) => {
                    notes.push(Note::NotListed(why.to_string()));
                    Scan::default()
                }
            };
            scan.files.retain(|file| !signed.contains(file.name()));
            for name in signed.iter().filter(|name| **name != SINGLE_FILE) {
                scan.files.extend(model.find(name, links).map_err(seen)?);
            }
            scan
        };
        let (files, others) = scan.files.into_iter().partition(|file| signed.contains(file.name()));
        scan.files = files;
        Ok((scan, others.iter().map(|file: &SourceFile| file.name().to_owned()).collect()))
    }

    /// A single file is signed as `.` by Python and under its own name by the specification: whichever the statement has.
    fn single_name<'m>(&self, model: &'m Model) -> &'m str {
        if self.signed_paths().contains(SINGLE_FILE) { SINGLE_FILE } else { model.name() }
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>, Error> {
        let oms = self.signed.serialization().hash;
        match self.options.digests {
            DigestChoice::Oms => Ok(vec![oms]),
            DigestChoice::Blake3 => {
                let without = |resource: &&Resource| resource.digest_by(Algorithm::Blake3).is_none();
                if let Some(resource) = self.signed.resources().iter().find(without) {
                    let (name, algorithm) = (resource.name.to_string(), Algorithm::Blake3);
                    return Err(VerifyError::NoSuchDigest { name, algorithm }.into());
                }
                Ok(vec![Algorithm::Blake3])
            }
            DigestChoice::All => {
                let signed = |algorithm| self.signed.resources().iter().any(|r| r.digest_by(algorithm).is_some());
                Ok(Algorithm::ALL.into_iter().filter(|&algorithm| signed(algorithm)).collect())
            }
        }
    }

    /// Algorithms that were asked for, and by which some resources have no signed digest.
    fn partly_signed<'c>(&'c self, algorithms: &'c [Algorithm]) -> impl Iterator<Item = Note> + 'c {
        algorithms.iter().filter_map(|&algorithm| {
            let without = self.signed.resources().iter().filter(|r| r.digest_by(algorithm).is_none()).count();
            (without > 0).then_some(Note::PartlySigned { algorithm, without })
        })
    }

    fn differences(
        &self,
        found: &Measurement,
        unsigned: &[String],
        algorithms: &[Algorithm],
    ) -> Result<Differences, VerifyError> {
        let mut differences = BTreeMap::new();
        let measured: BTreeMap<&str, &Measured> = found.resources.iter().map(|m| (m.name.as_str(), m)).collect();
        for resource in self.signed.resources() {
            let difference = match measured.get(resource.name.as_str()) {
                Some(measured) => compare(resource, measured, algorithms)?,
                None => Some(Difference::Missing),
            };
            differences.extend(difference.map(|difference| (resource.name.clone(), difference)));
        }
        let not_signed = |name: &&str| self.signed.get(name).is_none();
        for name in measured.into_keys().filter(not_signed) {
            differences.insert(ResourceName::of_file(name, None), Difference::Unsigned);
        }
        if self.options.unsigned == UnsignedFiles::Refuse {
            for name in unsigned.iter().filter(|name| !self.covers_nothing_of(name)) {
                differences.insert(ResourceName::of_file(name, None), Difference::Unsigned);
            }
        }
        Ok(Differences(differences))
    }

    /// An empty file gives no shard, so that a statement of shards cannot tell whether it was there.
    fn covers_nothing_of(&self, name: &str) -> bool {
        let shards = self.signed.serialization().method != Method::Files;
        shards && fs::symlink_metadata(self.model.join(name)).is_ok_and(|meta| meta.is_file() && meta.len() == 0)
    }

    fn report(
        &self,
        scan: Scan,
        unsigned: Vec<String>,
        found: &Measurement,
        checked: Vec<Algorithm>,
        notes: Vec<Note>,
    ) -> Report {
        let (mut empty, unsigned): (Vec<_>, Vec<_>) =
            unsigned.into_iter().partition(|name| self.covers_nothing_of(name));
        empty.extend(found.empty.iter().cloned());
        // Where they are not tolerated they are differences.
        let unsigned = if self.options.unsigned == UnsignedFiles::Tolerate { unsigned } else { Vec::new() };
        let signed = |algorithm: &Algorithm| self.signed.resources().iter().any(|r| r.digest_by(*algorithm).is_some());
        let not_checked = Algorithm::ALL.into_iter().filter(|a| signed(a) && !checked.contains(a)).collect();
        Report {
            identity: self.signed.identity().clone(),
            method: self.bundle.material().method(),
            statement: self.signed.version(),
            model: self.model.to_owned(),
            root: self.signed.root(),
            serialization: self.signed.serialization().clone(),
            device: self.device.kind(),
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
            notes,
        }
    }

    /// Whether this ignored file is the bundle being verified.
    fn is_signature(&self, name: &str) -> bool {
        let same = |a: &Path, b: &Path| fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b));
        let path = self.model.join(name);
        path.file_name() == self.signature.file_name() && same(&path, self.signature)
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

/// `None` if every algorithm agrees. A digest of ours that the signer left out is not compared.
fn compare(signed: &Resource, found: &Measured, algorithms: &[Algorithm]) -> Result<Option<Difference>, VerifyError> {
    let (mut agrees, mut differs) = (None, None);
    for &algorithm in algorithms {
        let Some(expected) = signed.digest_by(algorithm) else { continue };
        let Some(found) = found.digests.get(algorithm) else { continue };
        if expected == found {
            agrees = Some(algorithm);
        } else {
            differs = Some((expected, found));
        }
    }
    match (agrees, differs) {
        (Some(agrees), Some((expected, _))) => Err(VerifyError::SignerInconsistent {
            name: signed.name.to_string(),
            agrees,
            disagrees: expected.algorithm(),
        }),
        (None, Some((expected, digest))) => Ok(Some(Difference::Changed {
            expected,
            found: digest,
            expected_size: signed.size,
            found_size: found.size,
        })),
        (Some(_), None) if signed.size.is_some_and(|size| size != found.size) => {
            let why = format!("its size does not belong to its digest: the file has {} bytes", found.size);
            Err(FormatError::Annotation { name: signed.name.to_string(), why }.into())
        }
        (Some(_), None) => Ok(None),
        // Nothing was compared: never a yes.
        (None, None) => {
            let algorithm = algorithms.first().copied().unwrap_or(Algorithm::Sha256);
            Err(VerifyError::NoSuchDigest { name: signed.name.to_string(), algorithm })
        }
    }
}

/// Adds the files of git, the caller's paths and the signature itself.
pub(crate) fn ignore_more(
    ignore: &mut IgnoreSet,
    model: &Model,
    git: bool,
    paths: &[std::path::PathBuf],
    signature: Option<&Path>,
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
    if let Some(Relative::Inside(name)) = signature.map(|path| model.relative(path)).transpose()? {
        ignore.insert(&name)?;
    }
    Ok(())
}

/// What was seen of the model speaks against it; what could not be seen gives no answer.
fn seen(error: SourceError) -> Error {
    if error.is_io() { error.into() } else { VerifyError::Model(error).into() }
}
