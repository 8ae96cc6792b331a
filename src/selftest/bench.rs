//! How fast a device hashes what lies in its memory. Each digest is compared with the `blake3` crate's, each time.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::case::Fill;
use super::write;
use crate::device::{Backend, DeviceError, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Extent, Layout};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of device memory to use at most.
    pub most: u64,
    /// How often each measurement is made.
    pub repeats: NonZeroUsize,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Line {
    /// `upload`, or what was hashed: `size`, `alignment`, `rows`, `small`, `variant`.
    pub what: &'static str,
    /// The kernel, for `variant`.
    pub variant: Option<String>,
    /// Strings in one submit.
    pub strings: usize,
    /// Bytes in all strings.
    pub bytes: u64,
    /// The first byte's place in its allocation.
    pub at: u64,
    /// How often it was measured.
    pub repeats: usize,
    /// The time from submit to digest, as a median.
    pub median: Duration,
    /// The shortest.
    pub fastest: Duration,
    /// The longest.
    pub slowest: Duration,
}

impl Line {
    /// Bytes a second, by the median.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.median.as_secs_f64().max(1e-9)
    }
}

/// Why there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A digest was wrong.
    #[error(
        "a wrong digest of {bytes} bytes ({what}, from byte {at} on): its speed means nothing. Run `tensorseal selftest`"
    )]
    Wrong {
        /// In which measurement.
        what: &'static str,
        /// Bytes hashed.
        bytes: u64,
        /// The first byte's place.
        at: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What is in memory repeats after so many bytes. A prime, so that no address that a kernel gets wrong by a power of two
/// has the same bytes.
const PERIOD: u64 = 16_777_213;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Measures, and calls `done` after each line.
///
/// # Errors
/// [`Failure`].
pub fn run<B: Backend>(backend: &B, options: &Options, done: &mut dyn FnMut(&Line)) -> Result<Vec<Line>, Failure> {
    let tile = Fill::Random(0x7E45).bytes(PERIOD);
    let (buffer, upload) = fill(backend, options.most, &tile)?;
    done(&upload);
    let size = upload.bytes;
    let mut bench = Bench { backend, options, tile: &tile, buffer: &buffer, lines: vec![upload], done };

    let sizes = [KIB, 16 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, KIB * MIB, 4 * KIB * MIB];
    for len in sizes.into_iter().filter(|&len| len < size).chain([size]) {
        bench.ranges("size", &[(0, len)])?;
    }
    let len = (size - 64).min(256 * MIB);
    for at in [16, 8, 4, 1] {
        bench.ranges("alignment", &[(at, len)])?;
    }
    for (row, stride) in [(4096, 8192), (1000, 1500)] {
        bench.rows(row, stride, (size.min(512 * MIB) - row) / stride + 1)?;
    }
    for each in [KIB - 24, 16 * KIB + 8, 256 * KIB] {
        let count = (size / each).min(4096);
        let strings: Vec<_> = (0..count).map(|index| (index * each, each)).collect();
        bench.ranges("small", &strings)?;
    }
    let (lines, done) = (bench.lines, bench.done);
    let lines = variants(backend, options, &tile, lines, done)?;
    Ok(lines)
}

/// The same with each of the device's kernels, in memory that it allocated itself.
fn variants<B: Backend>(
    backend: &B,
    options: &Options,
    tile: &[u8],
    mut lines: Vec<Line>,
    done: &mut dyn FnMut(&Line),
) -> Result<Vec<Line>, Failure> {
    for name in backend.variants() {
        let backend = &backend.with_variant(&name)?;
        let (buffer, upload) = fill(backend, options.most.min(256 * MIB), tile)?;
        let mut tell = |line: &Line| done(&Line { variant: Some(name.clone()), ..line.clone() });
        let mut bench = Bench { backend, options, tile, buffer: &buffer, lines: Vec::new(), done: &mut tell };
        for at in [0, 1] {
            bench.ranges("variant", &[(at, upload.bytes - 1)])?;
        }
        lines.extend(bench.lines.into_iter().map(|line| Line { variant: Some(name.clone()), ..line }));
    }
    Ok(lines)
}

/// As much memory as there is, up to `most` bytes, full of the tile again and again, and how long that took.
fn fill<B: Backend>(backend: &B, most: u64, tile: &[u8]) -> Result<(B::Buffer, Line), DeviceError> {
    let mut size = most.max(MIB);
    let mut buffer = loop {
        match backend.alloc(size) {
            Err(DeviceError::OutOfMemory { .. } | DeviceError::Refused { .. }) if size > MIB => size /= 2,
            buffer => break buffer?,
        }
    };
    let begun = Instant::now();
    let mut at = 0;
    while at < size {
        let len = (size - at).min(PERIOD);
        write(backend, &tile[..len as usize], &mut buffer, at)?;
        at += len;
    }
    // The queue is in order: when this byte is here, all are there.
    backend.download(&buffer, size - 1..size)?;
    let took = begun.elapsed();
    let line = Line {
        what: "upload",
        variant: None,
        strings: 1,
        bytes: size,
        at: 0,
        repeats: 1,
        median: took,
        fastest: took,
        slowest: took,
    };
    Ok((buffer, line))
}

struct Bench<'a, B: Backend> {
    backend: &'a B,
    options: &'a Options,
    tile: &'a [u8],
    buffer: &'a B::Buffer,
    lines: Vec<Line>,
    done: &'a mut dyn FnMut(&Line),
}

impl<B: Backend> Bench<'_, B> {
    /// Strings that lie at these places, with these lengths, in one submit.
    fn ranges(&mut self, what: &'static str, strings: &[(u64, u64)]) -> Result<(), Failure> {
        let extent = |&(at, len)| Extent::Range { buffer: self.buffer, at, len };
        let jobs = strings.iter().map(|string| job(extent(string))).collect::<Result<Vec<_>, _>>()?;
        let digest = |&(at, len): &(u64, u64)| {
            let mut hasher = blake3::Hasher::new();
            self.feed(&mut hasher, at, len);
            digest(&hasher)
        };
        let expected: Vec<Hashed> = strings.iter().map(digest).collect();
        let bytes = strings.iter().map(|(_, len)| len).sum();
        self.measure(what, &jobs, &expected, bytes, strings.first().map_or(0, |(at, _)| *at))
    }

    fn rows(&mut self, row: u64, stride: u64, rows: u64) -> Result<(), Failure> {
        let jobs = [job(Extent::Rows { buffer: self.buffer, at: 0, row, stride, rows })?];
        let mut hasher = blake3::Hasher::new();
        (0..rows).for_each(|index| self.feed(&mut hasher, index * stride, row));
        self.measure("rows", &jobs, &[digest(&hasher)], row * rows, 0)
    }

    /// Bytes of the buffer, as the host knows them.
    fn feed(&self, hasher: &mut blake3::Hasher, mut at: u64, len: u64) {
        let end = at + len;
        while at < end {
            let from = at % PERIOD;
            let count = (PERIOD - from).min(end - at);
            hasher.update(&self.tile[from as usize..(from + count) as usize]);
            at += count;
        }
    }

    fn measure(
        &mut self,
        what: &'static str,
        jobs: &[Job<'_, B::Buffer>],
        expected: &[Hashed],
        bytes: u64,
        at: u64,
    ) -> Result<(), Failure> {
        let mut times = Vec::new();
        // Once more than counts: the first run finds caches and clocks cold.
        for _ in 0..=self.options.repeats.get() {
            let begun = Instant::now();
            let found = self.backend.hash(jobs)?;
            times.push(begun.elapsed());
            if found != expected {
                return Err(Failure::Wrong { what, bytes, at });
            }
        }
        times.remove(0);
        times.sort_unstable();
        let line = Line {
            what,
            variant: None,
            strings: jobs.len(),
            bytes,
            at,
            repeats: times.len(),
            median: times[times.len() / 2],
            fastest: times[0],
            slowest: times[times.len() - 1],
        };
        (self.done)(&line);
        self.lines.push(line);
        Ok(())
    }
}

fn job<B: crate::layout::Buffer>(extent: Extent<'_, B>) -> Result<Job<'_, B>, DeviceError> {
    Ok(Job { layout: Layout::new(vec![extent])?, want: Want::Root })
}

fn digest(hasher: &blake3::Hasher) -> Hashed {
    Hashed::Root(Digest::of32(Algorithm::Blake3, *hasher.finalize().as_bytes()))
}
