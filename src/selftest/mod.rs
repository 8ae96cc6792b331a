//! Does this device compute BLAKE3? The same cases for every device, and the `blake3` crate on the host to compare with.
//!
//! It needs nothing but the device: no file, no network, no toolkit. Cases are data ([`Case`]), made from a seed, so that
//! a failure on somebody else's machine can be run again on ours.
//!
//! ```
//! use tensorseal::device::cpu::{Cpu, Settings};
//! use tensorseal::selftest::{Kind, Options, run};
//!
//! let options = Options { kinds: vec![Kind::Vectors], ..Options::default() };
//! let report = run(&Cpu::open(Settings::default())?, &options, &mut |_| {})?;
//! assert_eq!(report.counts[0].cases, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod case;
mod kinds;

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use case::{Bytes, Case, Fill, Piece, Space, Step, Text, oracle};
pub use kinds::Kind;

use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Extent, Layout};

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// From which all cases follow.
    pub seed: u64,
    /// Which kinds.
    pub kinds: Vec<Kind>,
    /// This case alone, of each kind.
    pub only: Option<usize>,
    /// Times as many cases.
    pub rounds: NonZeroUsize,
    /// Threads that use the device at once, for [`Kind::Threads`].
    pub threads: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = NonZeroUsize::MIN.saturating_add(3);
        Self { seed: 1, kinds: Kind::ALL.to_vec(), only: None, rounds: NonZeroUsize::MIN, threads }
    }
}

/// What was run of one kind. All of it was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Of which kind.
    pub kind: Kind,
    /// Cases.
    pub cases: usize,
    /// Strings hashed.
    pub strings: usize,
    /// Bytes hashed.
    pub bytes: u64,
    /// How long they took, with making and checking them.
    pub elapsed: Duration,
}

/// What was run, all of it without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// On which device.
    pub device: DeviceKind,
    /// By which seed.
    pub seed: u64,
    /// One a kind.
    pub counts: Vec<Count>,
    /// From the beginning to the end.
    pub elapsed: Duration,
}

/// Which case it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    /// The seed.
    pub seed: u64,
    /// The kind.
    pub kind: Kind,
    /// Its number.
    pub index: usize,
}

/// What went wrong, and in which case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The device computed something else than the `blake3` crate.
    #[error(
        "{device} is wrong in case {}/{} of seed {}, step {step}, string {string}: {text}: expected {expected}, found {found}",
        which.kind, which.index, which.seed
    )]
    Wrong {
        /// Which case.
        which: Which,
        /// The device.
        device: DeviceKind,
        /// Which of its steps, from 0.
        step: usize,
        /// Which string of the step, from 0.
        string: usize,
        /// What was asked.
        text: String,
        /// What the `blake3` crate says.
        expected: String,
        /// What the device says.
        found: String,
    },
    /// A call failed that should not.
    #[error("{error} (case {}/{} of seed {})", which.kind, which.index, which.seed)]
    Device {
        /// Which case.
        which: Which,
        /// How.
        error: DeviceError,
    },
    /// The host's own BLAKE3 does not give the official vectors: nothing can be compared with it.
    #[error("the CPU computes a wrong blake3 digest of {len} bytes of the official test vectors")]
    Oracle {
        /// Of which length.
        len: u64,
    },
    /// What was asked for has no case. A test of nothing is not passed.
    #[error("there was no case to run")]
    Nothing,
    /// A thread of the test ended by a panic.
    #[error("a thread of the self-test failed; this is a defect of tensorseal, please report it")]
    Worker,
}

/// Some of the official test vectors, to hold the oracle itself against something.
const OFFICIAL: [(u64, &str); 7] = [
    (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
    (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
    (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
    (2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"),
    (31_744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"),
    (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
];

/// Runs all cases that `options` ask for, and calls `done` after each kind.
///
/// # Errors
/// [`Failure`], the first.
pub fn run<B: Backend + Sync>(backend: &B, options: &Options, done: &mut dyn FnMut(&Count)) -> Result<Report, Failure> {
    let begun = Instant::now();
    for (len, known) in OFFICIAL {
        let found = oracle(&Fill::Pattern.bytes(len), Want::Root);
        if Digest::from_hex(Algorithm::Blake3, known).map(Hashed::Root) != Some(found) {
            return Err(Failure::Oracle { len });
        }
    }
    if options.kinds.is_empty() {
        return Err(Failure::Nothing);
    }
    let mut counts = Vec::new();
    for &kind in &options.kinds {
        let begun = Instant::now();
        let indices = match options.only {
            Some(index) => index..index.saturating_add(1),
            None => 0..kind.cases().saturating_mul(options.rounds.get()),
        };
        if indices.is_empty() {
            return Err(Failure::Nothing);
        }
        let threads = if kind == Kind::Threads { options.threads.get() } else { 1 };
        let mut count = Count { kind, cases: indices.len(), strings: 0, bytes: 0, elapsed: Duration::ZERO };
        for (strings, bytes) in run_kind(backend, options.seed, kind, indices, threads)? {
            count.strings += strings;
            count.bytes += bytes;
        }
        count.elapsed = begun.elapsed();
        done(&count);
        counts.push(count);
    }
    Ok(Report { device: backend.kind(), seed: options.seed, counts, elapsed: begun.elapsed() })
}

fn run_kind<B: Backend + Sync>(
    backend: &B,
    seed: u64,
    kind: Kind,
    indices: std::ops::Range<usize>,
    threads: usize,
) -> Result<Vec<(usize, u64)>, Failure> {
    let (next, failed) = (AtomicUsize::new(indices.start), Mutex::new(None));
    let work = || {
        let mut ran = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= indices.end {
                return ran;
            }
            match run_case(backend, &kind.case(seed, index), Which { seed, kind, index }) {
                Ok(count) => ran.push(count),
                Err(failure) => {
                    next.store(indices.end, Ordering::Relaxed);
                    if let Ok(mut failed) = failed.lock() {
                        failed.get_or_insert(failure);
                    }
                }
            }
        }
    };
    let ran = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut ran = work();
        for other in others {
            ran.extend(other.join().ok()?);
        }
        Some(ran)
    });
    match (failed.into_inner(), ran) {
        (Ok(Some(failure)), _) => Err(failure),
        (Ok(None), Some(ran)) if ran.len() == indices.len() => Ok(ran),
        _ => Err(Failure::Worker),
    }
}

/// Runs one case. Returns how many strings and bytes were hashed.
///
/// # Errors
/// [`Failure`].
pub fn run_case<B: Backend>(backend: &B, case: &Case, which: Which) -> Result<(usize, u64), Failure> {
    let device = |error| Failure::Device { which, error };
    let mut bytes = case.bytes();
    let mut buffers = Vec::new();
    for space in &bytes.spaces {
        let mut buffer = backend.alloc(space.len() as u64).map_err(device)?;
        write(backend, space, &mut buffer, 0).map_err(device)?;
        buffers.push(buffer);
    }
    let (mut tickets, mut strings, mut total) = (Vec::new(), 0, 0);
    for (step, what) in case.steps.iter().enumerate() {
        match what {
            Step::Hash(texts) => {
                let gathered: Vec<Vec<u8>> = texts.iter().map(|text| bytes.text(text)).collect();
                let layouts = texts.iter().map(|text| layout::<B>(text, &buffers, &bytes.host));
                let jobs = layouts
                    .zip(texts)
                    .map(|(layout, text)| Ok(Job { layout: layout?, want: text.want }))
                    .collect::<Result<Vec<_>, DeviceError>>()
                    .map_err(device)?;
                let ticket = backend.submit(&jobs, None).map_err(device)?;
                let expected: Vec<Hashed> =
                    texts.iter().zip(&gathered).map(|(t, bytes)| oracle(bytes, t.want)).collect();
                strings += texts.len();
                total += gathered.iter().map(|text| text.len() as u64).sum::<u64>();
                tickets.push((step, texts, ticket, expected));
            }
            Step::Overwrite { space, at, with } => {
                let new = with.fill.bytes(with.len);
                write(backend, &new, &mut buffers[*space], *at).map_err(device)?;
                bytes.spaces[*space][*at as usize..][..new.len()].copy_from_slice(&new);
            }
            Step::Download { space, at, len } => {
                let found = backend.download(&buffers[*space], *at..*at + *len).map_err(device)?;
                let expected = case::part(&bytes.spaces[*space], *at, *len);
                if found != expected {
                    let first = found.iter().zip(expected).position(|(a, b)| a != b);
                    return Err(Failure::Wrong {
                        which,
                        device: backend.kind(),
                        step,
                        string: 0,
                        text: format!("bytes {at}..{} of space {space} read back", at + len),
                        expected: format!("{len} bytes as they were written"),
                        found: format!("{} bytes, the first other one at {first:?}", found.len()),
                    });
                }
            }
        }
    }
    if case.last_first {
        tickets.reverse();
    }
    for (step, texts, ticket, expected) in tickets {
        let found = backend.wait(ticket).map_err(device)?;
        let wrong = |string: usize, expected: String, found: String| Failure::Wrong {
            which,
            device: backend.kind(),
            step,
            string,
            text: texts.get(string).map(ToString::to_string).unwrap_or_default(),
            expected,
            found,
        };
        if found.len() != expected.len() {
            let (expected, found) = (expected.len(), found.len());
            return Err(wrong(0, format!("{expected} results"), format!("{found} results")));
        }
        if let Some(string) = found.iter().zip(&expected).position(|(found, expected)| found != expected) {
            let (found, expected) = (&found[string], &expected[string]);
            return Err(wrong(string, case::shown(expected, found), case::shown(found, expected)));
        }
    }
    Ok((strings, total))
}

/// Where the bytes of a string lie in these buffers.
fn layout<'a, B: Backend>(
    text: &Text,
    buffers: &'a [B::Buffer],
    host: &'a [u8],
) -> Result<Layout<'a, B::Buffer>, DeviceError> {
    let extent = |piece: &Piece| match *piece {
        Piece::Host { at, len } => Extent::Host(case::part(host, at, len)),
        Piece::Range { space, at, len } => Extent::Range { buffer: &buffers[space], at, len },
        Piece::Rows { space, at, row, stride, rows } => Extent::Rows { buffer: &buffers[space], at, row, stride, rows },
    };
    Ok(Layout::new(text.pieces.iter().map(extent).collect())?)
}

/// Copies bytes to byte `at` of device memory, through as many staging blocks as it takes.
///
/// # Errors
/// Those of [`Backend::staging`] and [`Backend::upload`].
pub fn write<B: Backend>(backend: &B, mut bytes: &[u8], to: &mut B::Buffer, mut at: u64) -> Result<(), DeviceError> {
    while !bytes.is_empty() {
        let mut block = backend.staging()?;
        let room = block.as_mut();
        let (now, rest) = bytes.split_at(bytes.len().min(room.len()));
        if now.is_empty() {
            return Err(DeviceError::NoResult { device: backend.kind() });
        }
        room[..now.len()].copy_from_slice(now);
        backend.upload(block, now.len(), to, at)?;
        at += now.len() as u64;
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
