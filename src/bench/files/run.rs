//! Digests, signatures and verdicts, and what all measurements of files have in common.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::{FileOptions, OnFiles, Written, bound, cache};
use crate::bench::report::{Bound, BoundKind, Cache, Line, Skipped, Stage, What};
use crate::bench::{Event, Failure, Times};
use crate::bundle::{Bundle, DEFAULT_MAX_BUNDLE};
use crate::device::cpu::Silent;
use crate::device::{Device, DeviceError, DeviceKind};
use crate::digest::Algorithm;
use crate::error::Error;
use crate::sign::{Annotations, SignOptions, hash, sign};
use crate::verify::{DigestChoice, VerifyOptions, verify};

/// Where one run stands.
pub(super) struct Run<'a> {
    device: &'a Device,
    pub(super) model: &'a Written,
    pub(super) options: &'a FileOptions,
    done: &'a mut dyn FnMut(Event<'_>),
    lines: Vec<Line>,
    skipped: Vec<Skipped>,
    bounds: Vec<Bound>,
    /// What files cannot be, and why.
    refused: BTreeMap<bool, String>,
}

/// What is about to be measured.
#[derive(Debug, Clone)]
pub(super) struct Case<'n> {
    pub(super) what: What,
    pub(super) name: &'n str,
    pub(super) cache: Cache,
    pub(super) bytes: u64,
    pub(super) strings: usize,
    /// Whether BLAKE3 alone is computed.
    pub(super) blake3: bool,
}

/// How one attempt ended that gave nothing to time.
pub(super) enum Ended {
    /// It cannot be had here, and why.
    Skip(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The names of lines, and the digests.
const SHA256: &str = "sha256";
const BLAKE3: &str = "blake3";
const BOTH: &str = "sha256 + blake3";

impl<'a> Run<'a> {
    pub(super) fn new(
        device: &'a Device,
        model: &'a Written,
        options: &'a FileOptions,
        done: &'a mut dyn FnMut(Event<'_>),
    ) -> Self {
        let (lines, skipped, bounds) = (Vec::new(), Vec::new(), Vec::new());
        Self { device, model, options, done, lines, skipped, bounds, refused: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> OnFiles {
        (self.lines, self.skipped, self.bounds)
    }

    pub(super) fn wants(&self, what: What) -> bool {
        self.options.only.as_ref().is_none_or(|only| only.contains(&what))
    }

    /// A case that reads all of the model.
    pub(super) fn case<'n>(&self, what: What, name: &'n str, cache: Cache) -> Case<'n> {
        let (bytes, strings) = (self.model.bytes(), self.model.files.len());
        Case { what, name, cache, bytes, strings, blake3: name == BLAKE3 }
    }

    pub(super) fn begin(&mut self, case: &Case<'_>) {
        (self.done)(Event::Begun { what: case.what, name: case.name });
    }

    pub(super) fn skip(&mut self, case: &Case<'_>, why: String) {
        let temperature = if case.cache == Cache::Cold { "cold" } else { "warm" };
        let skipped = Skipped { what: case.what, name: format!("{}, {temperature}", case.name), why };
        (self.done)(Event::Skipped(&skipped));
        self.skipped.push(skipped);
    }

    /// Sees to it that files are where they are to be read from.
    pub(super) fn prepare(&mut self, cache: Cache) -> Result<(), Ended> {
        let cold = cache == Cache::Cold;
        if let Some(why) = self.refused.get(&cold) {
            return Err(Ended::Skip(why.clone()));
        }
        cache::prepare(self.model, cache)?.map_err(|why| {
            self.refused.insert(cold, why.clone());
            Ended::Skip(why)
        })
    }

    /// How fast files can be read, where files are read at all.
    pub(super) fn bounds(&mut self) -> Result<(), Failure> {
        let files: Vec<_> = self.model.tensor_files().collect();
        let threads = self.options.threads.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZeroUsize::get);
        let reads = [What::Digest, What::Load, What::VerifiedLoad, What::Sign, What::Verify];
        if !reads.into_iter().any(|what| self.wants(what)) {
            return Ok(());
        }
        for cache in [Cache::Warm, Cache::Cold] {
            match self.prepare(cache) {
                Ok(()) => {}
                // Each line that needs it says so.
                Err(Ended::Skip(_)) => continue,
                Err(Ended::Failed(failure)) => return Err(failure),
            }
            let found = bound::measure(&files, cache, threads, self.options.repeats.get());
            if let Some(bound) = found.map_err(Failure::io("read the model in", self.model.folder()))? {
                (self.done)(Event::Bound(&bound));
                self.bounds.push(bound);
            }
        }
        Ok(())
    }

    /// Does it again and again: `act` is timed, `check` says what is wrong with what came of it.
    fn time<T>(
        &mut self,
        case: &Case<'_>,
        mut act: impl FnMut(&Self) -> Result<T, Error>,
        mut check: impl FnMut(&Self, T) -> Result<(), String>,
    ) -> Result<(), Failure> {
        self.begin(case);
        let mut times = Vec::new();
        for _ in 0..=self.options.repeats.get() {
            match self.prepare(case.cache) {
                Ok(()) => {}
                Err(Ended::Skip(why)) => {
                    self.skip(case, why);
                    return Ok(());
                }
                Err(Ended::Failed(failure)) => return Err(failure),
            }
            let begun = Instant::now();
            let came = act(self);
            times.push(begun.elapsed());
            match came.map_err(|error| self.ended(case, error)) {
                Ok(came) => check(self, came).map_err(|how| self.wrong(case, how))?,
                Err(Ended::Skip(why)) => {
                    self.skip(case, why);
                    return Ok(());
                }
                Err(Ended::Failed(failure)) => return Err(failure),
            }
        }
        self.line(case, &times, Vec::new()).map(drop)
    }

    /// What an error of the library means: a no to what was signed by us is a wrong answer.
    pub(super) fn ended(&self, case: &Case<'_>, error: Error) -> Ended {
        match error {
            Error::Device(DeviceError::OutOfMemory { device, bytes, .. }) => Ended::Skip(format!(
                "{device} has not the memory for it ({bytes} bytes more were asked for): ask for less with --file-size"
            )),
            no @ Error::Verify(_) => Ended::Failed(self.wrong(case, no.to_string())),
            error => Ended::Failed(error.into()),
        }
    }

    pub(super) fn wrong(&self, case: &Case<'_>, how: String) -> Failure {
        Failure::WrongOfFiles { device: self.device.kind(), what: case.what, name: case.name.to_owned(), how }
    }

    /// Takes the line down. The first of `times` does not count.
    pub(super) fn line(&mut self, case: &Case<'_>, times: &[Duration], stages: Vec<Stage>) -> Result<(), Failure> {
        let counted = times.get(1..).unwrap_or_default();
        let times = Times::of(counted).map_err(|_| Failure::Nothing("a measurement of files"))?;
        let rate = times.rate(case.bytes);
        // What was faster than a bound was not bound by it.
        let bound = self.bound(case).filter(|(_, most)| rate <= *most);
        let line = Line {
            what: case.what,
            name: case.name.to_owned(),
            bytes: case.bytes,
            strings: case.strings,
            at: 0,
            kernel: None,
            cache: Some(case.cache),
            times,
            bytes_per_second: rate,
            bound: bound.map(|(kind, _)| kind),
            share: bound.map(|(_, most)| rate / most),
            stages,
        };
        (self.done)(Event::Line(&line));
        self.lines.push(line);
        Ok(())
    }

    /// The lowest of the bounds that hold for it.
    fn bound(&self, case: &Case<'_>) -> Option<(BoundKind, f64)> {
        let holds = |kind: BoundKind| match kind {
            BoundKind::PageCache => case.cache == Cache::Warm,
            BoundKind::Disk => case.cache == Cache::Cold,
            BoundKind::Link => self.device.kind() != DeviceKind::Cpu,
            // Derived for BLAKE3.
            BoundKind::Instructions => case.blake3,
            BoundKind::Memory => false,
        };
        let all = self.bounds.iter().chain(&self.options.known).filter(|bound| holds(bound.kind));
        all.map(|bound| (bound.kind, bound.bytes_per_second)).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Digests of all files.
    pub(super) fn digests(&mut self) -> Result<(), Failure> {
        use Algorithm::{Blake3, Sha256};
        if !self.wants(What::Digest) {
            return Ok(());
        }
        for (name, algorithms, cache) in [
            (BLAKE3, &[Blake3][..], Cache::Warm),
            (SHA256, &[Sha256], Cache::Warm),
            (BOTH, &[Sha256, Blake3], Cache::Warm),
            (BLAKE3, &[Blake3], Cache::Cold),
            (SHA256, &[Sha256], Cache::Cold),
        ] {
            let case = self.case(What::Digest, name, cache);
            if name == SHA256 && self.device.kind() != DeviceKind::Cpu {
                self.only_on_cpu(&case);
                continue;
            }
            let annotations = if name == BOTH { Annotations::Blake3 } else { Annotations::None };
            let options = SignOptions { hash: algorithms[0], annotations, ..SignOptions::default() };
            let model = self.model.model();
            self.time(
                &case,
                |run| hash(&model, None, &options, run.device, &Silent),
                |run, hashed| run.model.check(&hashed.manifest, algorithms),
            )?;
        }
        Ok(())
    }

    fn only_on_cpu(&mut self, case: &Case<'_>) {
        self.begin(case);
        let why = "SHA-256 must see the bytes in order, which is no work for a GPU: see --device cpu";
        self.skip(case, why.to_owned());
    }

    /// Signing all files, up to the signature on the disk.
    pub(super) fn signatures(&mut self) -> Result<(), Failure> {
        if !self.wants(What::Sign) {
            return Ok(());
        }
        let (model, path) = (self.model.model(), self.model.folder().join("measured.sig"));
        for (name, hash) in [(BOTH, Algorithm::Sha256), (BLAKE3, Algorithm::Blake3)] {
            let case = self.case(What::Sign, name, Cache::Warm);
            let options = SignOptions { hash, ..SignOptions::default() };
            let algorithms: &[_] =
                if name == BOTH { &[Algorithm::Sha256, Algorithm::Blake3] } else { &[Algorithm::Blake3] };
            self.time(
                &case,
                |run| sign(&model, &path, &run.model.signer, &options, run.device, &Silent)?.write(&path),
                |run, ()| {
                    // As whoever gets it would: from the file.
                    let bundle = Bundle::read(&path, DEFAULT_MAX_BUNDLE).map_err(|error| error.to_string())?;
                    let signed = bundle.verify(&run.model.trusted).map_err(|error| error.to_string())?;
                    run.model.check(&signed, algorithms)
                },
            )?;
        }
        Ok(())
    }

    /// Verifying all files.
    pub(super) fn verdicts(&mut self) -> Result<(), Failure> {
        if !self.wants(What::Verify) {
            return Ok(());
        }
        let (model, signature) = (self.model.model(), self.model.signature());
        for (name, digests, cache) in [
            (SHA256, DigestChoice::Oms, Cache::Warm),
            (BLAKE3, DigestChoice::Blake3, Cache::Warm),
            (BOTH, DigestChoice::All, Cache::Warm),
            (SHA256, DigestChoice::Oms, Cache::Cold),
            (BLAKE3, DigestChoice::Blake3, Cache::Cold),
        ] {
            let case = self.case(What::Verify, name, cache);
            if name == SHA256 && self.device.kind() != DeviceKind::Cpu {
                self.only_on_cpu(&case);
                continue;
            }
            let options = VerifyOptions { digests, ..VerifyOptions::default() };
            self.time(
                &case,
                |run| verify(&model, &signature, &run.model.trusted, &options, run.device, &Silent),
                |run, report| {
                    let wanted = match name {
                        SHA256 => vec![Algorithm::Sha256],
                        BLAKE3 => vec![Algorithm::Blake3],
                        _ => vec![Algorithm::Sha256, Algorithm::Blake3],
                    };
                    let (files, bytes) = (run.model.files.len(), run.model.bytes());
                    let all = wanted.iter().all(|algorithm| report.checked.contains(algorithm));
                    if !all || (report.files, report.bytes) != (files, bytes) {
                        return Err(format!(
                            "a yes to {} files of {} bytes by {:?}, where there are {files} of {bytes} and {name} was asked for",
                            report.files, report.bytes, report.checked
                        ));
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}
