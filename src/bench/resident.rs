//! Strings that lie in a device's memory: how long from submit to digest. And how they came there.

use std::time::{Duration, Instant};

use super::bound::Limits;
use super::device::{DeviceOptions, Told};
use super::oracle::{Spot, Tile};
use super::report::{BoundKind, Line, Reading, Skipped, What};
use super::shapes::Family;
use super::{Failure, Times};
use crate::device::{Backend, DeviceError, Hashed, Job, Want};
use crate::layout::{Buffer, Extent, Layout, LayoutError};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Uploads of memory that is full of one thing, and then of another: the tile, from here on. So what is there from before is seen.
const SHIFTS: [u64; 2] = [0, 4099];

/// A repeat of what is quick may come so many times as often as was asked.
const MORE: usize = 20;

/// As much memory as there is, up to `most` bytes, full of the tile again and again.
pub(super) fn fill<B: Backend>(backend: &B, most: u64, tile: &Tile) -> Result<B::Buffer, DeviceError> {
    let mut size = most.max(MIB);
    let mut buffer = loop {
        match backend.alloc(size) {
            Err(DeviceError::OutOfMemory { .. } | DeviceError::Refused { .. }) if size > MIB => size /= 2,
            buffer => break buffer?,
        }
    };
    put(backend, tile, 0, size, &mut buffer)?;
    // The queue is in order: when this byte is here, all are there.
    backend.download(&buffer, size - 1..size)?;
    Ok(buffer)
}

/// Queues uploads of `len` bytes of the tile, from `shift` on, as many blocks as it takes.
fn put<B: Backend>(backend: &B, tile: &Tile, shift: u64, len: u64, to: &mut B::Buffer) -> Result<(), DeviceError> {
    let mut at = 0;
    while at < len {
        let mut block = backend.staging()?;
        let room = room(block.as_mut(), len - at, backend)?;
        tile.copy(at + shift, room);
        let now = room.len();
        backend.upload(block, now, to, at)?;
        at += now as u64;
    }
    Ok(())
}

/// The part of a block that is used. One without room would never end.
fn room<'b, B: Backend>(block: &'b mut [u8], len: u64, backend: &B) -> Result<&'b mut [u8], DeviceError> {
    let now = usize::try_from(len).unwrap_or(usize::MAX).min(block.len());
    if now == 0 { Err(DeviceError::NoResult { device: backend.kind() }) } else { Ok(&mut block[..now]) }
}

/// Whether another repeat is wanted: those that were asked for, and more of what is quick. The first does not count.
fn again(times: &[Duration], options: &DeviceOptions) -> bool {
    let (counted, asked) = (times.len().saturating_sub(1), options.repeats.get());
    times.is_empty()
        || counted < asked
        || (counted < asked.saturating_mul(MORE) && times[1..].iter().sum::<Duration>() < options.patience)
}

/// One measurement.
struct Case {
    what: What,
    name: String,
    kernel: Option<String>,
    bytes: u64,
    strings: usize,
    at: u64,
}

impl Case {
    fn of(what: What, name: String, strings: &[Spot]) -> Self {
        let bytes = strings.iter().map(|string| string.len()).sum();
        let at = strings.first().map_or(0, |string| string.at());
        Self { what, name, kernel: None, bytes, strings: strings.len(), at }
    }

    /// What was measured, without the first time. `None` if there is no other.
    fn line(self, times: &[Duration], bound: Option<(BoundKind, f64)>) -> Option<Line> {
        let times = Times::of(times.get(1..)?).ok()?;
        let bytes_per_second = times.rate(self.bytes);
        Some(Line {
            what: self.what,
            name: self.name,
            bytes: self.bytes,
            strings: self.strings,
            at: self.at,
            kernel: self.kernel,
            cache: None,
            times,
            bytes_per_second,
            bound: bound.map(|(kind, _)| kind),
            share: bound.map(|(_, rate)| bytes_per_second / rate),
            stages: Vec::new(),
        })
    }

    fn wrong<B: Backend>(&self, backend: &B, times: &[Duration]) -> Failure {
        Failure::Wrong {
            device: backend.kind(),
            what: self.what,
            name: self.name.clone(),
            bytes: self.bytes,
            at: self.at,
            repeat: times.len().saturating_sub(1),
        }
    }
}

/// A size in words, the same for the same size: `64 MiB`, `1000 bytes`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes > 0 && bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ if bytes > 0 && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes > 0 && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

/// What is measured with.
pub(super) struct Resident<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) options: &'a DeviceOptions,
    pub(super) limits: &'a Limits,
    pub(super) tile: &'a Tile,
}

impl<B: Backend> Resident<'_, B> {
    /// All that is wanted, in `buffer`, which is full of the tile. What `read` says while the device works comes back.
    pub(super) fn all(
        &self,
        buffer: &mut B::Buffer,
        read: &dyn Fn() -> Option<Reading>,
        told: &mut Told<'_>,
    ) -> Result<Option<Reading>, Failure> {
        let size = buffer.size();
        if self.options.wants(What::Upload) {
            self.uploads(buffer, told)?;
        }
        let buffer = &*buffer;
        let whole = [Spot::Range { at: 0, len: size }];
        let jobs = jobs(buffer, &whole)?;
        let expected = self.tile.digests(&whole);
        self.warm(&jobs, &expected)?;
        if self.options.wants(What::Size) {
            self.sizes(buffer, &expected, told)?;
        }
        if self.options.wants(What::Alignment) {
            let len = (size - 64).min(256 * MIB);
            for at in [16, 8, 4, 1] {
                self.strings(buffer, What::Alignment, format!("from byte {at}"), &[Spot::Range { at, len }], told)?;
            }
        }
        if self.options.wants(What::Rows) {
            for (row, stride) in [(4096, 8192), (1000, 1500)] {
                let rows = (size.min(512 * MIB) - row) / stride + 1;
                self.strings(
                    buffer,
                    What::Rows,
                    format!("{row} of {stride} bytes"),
                    &[Spot::Rows { row, stride, rows }],
                    told,
                )?;
            }
        }
        if self.options.wants(What::Small) {
            for each in [KIB - 24, 16 * KIB + 8, 256 * KIB] {
                let count = (size / each).min(4096);
                let strings: Vec<_> = (0..count).map(|index| Spot::Range { at: index * each, len: each }).collect();
                self.strings(buffer, What::Small, format!("{count} of {each} bytes"), &strings, told)?;
            }
        }
        if self.options.wants(What::Model) {
            self.models(buffer, told)?;
        }
        // What the device says of itself is asked while it works.
        let ticket = self.backend.submit(&jobs, None)?;
        let reading = read();
        self.assert(&Case::of(What::Size, self::size(size), &whole), &self.backend.wait(ticket)?, &expected, &[])?;
        Ok(reading)
    }

    /// Finds its clocks, and all of the memory, warm.
    fn warm(&self, jobs: &[Job<'_, B::Buffer>], expected: &[Hashed]) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let whole = [Spot::Range { at: 0, len: jobs.first().map_or(0, |job| job.layout.len()) }];
            self.assert(&Case::of(What::Size, "warming up".into(), &whole), &self.backend.hash(jobs)?, expected, &[])?;
            if begun.elapsed() >= self.options.patience {
                return Ok(());
            }
        }
    }

    fn assert(&self, case: &Case, found: &[Hashed], expected: &[Hashed], times: &[Duration]) -> Result<(), Failure> {
        if found == expected { Ok(()) } else { Err(case.wrong(self.backend, times)) }
    }

    fn sizes(&self, buffer: &B::Buffer, whole: &[Hashed], told: &mut Told<'_>) -> Result<(), Failure> {
        let mut len = KIB;
        while len < buffer.size() {
            self.strings(buffer, What::Size, size(len), &[Spot::Range { at: 0, len }], told)?;
            len *= 4;
        }
        let strings = [Spot::Range { at: 0, len: buffer.size() }];
        self.measured(buffer, Case::of(What::Size, size(buffer.size()), &strings), &strings, whole, told)
    }

    /// The tensors of models, each a string of its own, where they lie in a file of theirs.
    fn models(&self, buffer: &B::Buffer, told: &mut Told<'_>) -> Result<(), Failure> {
        for family in Family::ALL {
            let Some(shaped) = family.scaled(buffer.size()) else {
                let least = family.least().file_bytes().div_ceil(MIB);
                let why = format!(
                    "its ends and one layer take {least} MiB, and {} MiB of memory were used: give it more with --size",
                    buffer.size() / MIB
                );
                told.skipped(Skipped { what: What::Model, name: family.name().to_owned(), why });
                continue;
            };
            let tensors: Vec<Spot> = shaped.places().map(|(at, len)| Spot::Range { at, len }).collect();
            self.strings(buffer, What::Model, shaped.name(), &tensors, told)?;
        }
        Ok(())
    }

    /// The same with each of the device's kernels, in memory that it allocated itself.
    pub(super) fn kernels(&self, most: u64, told: &mut Told<'_>) -> Result<(), Failure> {
        if !self.options.wants(What::Kernel) {
            return Ok(());
        }
        for name in self.backend.variants() {
            let backend = &self.backend.with_variant(&name)?;
            let buffer = fill(backend, most.min(256 * MIB), self.tile)?;
            let one = Resident { backend, ..*self };
            for (at, place) in [(0, "aligned"), (1, "from byte 1")] {
                let strings = [Spot::Range { at, len: buffer.size() - 1 }];
                let case = Case { kernel: Some(name.clone()), ..Case::of(What::Kernel, place.into(), &strings) };
                one.measured(&buffer, case, &strings, &self.tile.digests(&strings), told)?;
            }
        }
        Ok(())
    }

    pub(super) fn strings(
        &self,
        buffer: &B::Buffer,
        what: What,
        name: String,
        strings: &[Spot],
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        self.measured(buffer, Case::of(what, name, strings), strings, &self.tile.digests(strings), told)
    }

    /// Strings in one submit, again and again.
    fn measured(
        &self,
        buffer: &B::Buffer,
        case: Case,
        strings: &[Spot],
        expected: &[Hashed],
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        told.begun(case.what, &case.name);
        let jobs = jobs(buffer, strings)?;
        let mut times = Vec::new();
        while again(&times, self.options) {
            let begun = Instant::now();
            let found = self.backend.hash(&jobs)?;
            times.push(begun.elapsed());
            self.assert(&case, &found, expected, &times)?;
        }
        let bound = self.limits.hashing(case.kernel.as_deref(), strings);
        told.line(case.line(&times, bound));
        Ok(())
    }

    /// From the host to the device: as many blocks as a loader has in flight, full before the clock starts; and all of it
    /// block by block, each filled on the way by one thread.
    fn uploads(&self, buffer: &mut B::Buffer, told: &mut Told<'_>) -> Result<(), Failure> {
        let mut len = 0;
        let blocks = |shift: u64, to: &mut B::Buffer| {
            let mut held = Vec::new();
            let mut at = 0;
            while held.len() < self.backend.blocks().max(1) && at < to.size() {
                // Nobody else gives one back: whoever holds some must not wait.
                let block = if held.is_empty() { Some(self.backend.staging()?) } else { self.backend.try_staging()? };
                let Some(mut block) = block else { break };
                let room = room(block.as_mut(), to.size() - at, self.backend)?;
                self.tile.copy(at + shift, room);
                let now = room.len();
                held.push((block, now, at));
                at += now as u64;
            }
            len = at;
            let begun = Instant::now();
            for (block, now, at) in held {
                self.backend.upload(block, now, to, at)?;
            }
            self.landed(to, len, begun)
        };
        self.uploaded(buffer, "blocks in flight", blocks, told)?;
        let most = buffer.size().min(GIB);
        let filled = |shift: u64, to: &mut B::Buffer| {
            let begun = Instant::now();
            put(self.backend, self.tile, shift, most, to)?;
            self.landed(to, most, begun)
        };
        self.uploaded(buffer, "blocks filled by one thread", filled, told)
    }

    /// How many bytes came, and how long that took: the last is there only behind all others.
    fn landed(&self, to: &B::Buffer, len: u64, begun: Instant) -> Result<(u64, Duration), DeviceError> {
        self.backend.download(to, len - 1..len)?;
        Ok((len, begun.elapsed()))
    }

    fn uploaded(
        &self,
        buffer: &mut B::Buffer,
        name: &str,
        mut upload: impl FnMut(u64, &mut B::Buffer) -> Result<(u64, Duration), DeviceError>,
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        told.begun(What::Upload, name);
        let mut case = Case::of(What::Upload, name.to_owned(), &[]);
        let (mut expected, mut times) = (Vec::new(), Vec::new());
        while again(&times, self.options) {
            let shift = SHIFTS[(times.len() + 1) % SHIFTS.len()];
            let (bytes, took) = upload(shift, buffer)?;
            times.push(took);
            if case.bytes != bytes || expected.is_empty() {
                (case.bytes, case.strings) = (bytes, 1);
                expected = SHIFTS.iter().map(|&at| self.tile.digests(&[Spot::Range { at, len: bytes }])).collect();
            }
            let found = self.backend.hash(&jobs(buffer, &[Spot::Range { at: 0, len: bytes }])?)?;
            self.assert(&case, &found, &expected[times.len() % SHIFTS.len()], &times)?;
        }
        // As it was before, for what is hashed next.
        put(self.backend, self.tile, 0, case.bytes, buffer)?;
        told.line(case.line(&times, self.limits.upload()));
        Ok(())
    }
}

fn jobs<'b, B: Buffer>(buffer: &'b B, strings: &[Spot]) -> Result<Vec<Job<'b, B>>, DeviceError> {
    let job = |string: &Spot| {
        let extent = match *string {
            Spot::Range { at, len } => Extent::Range { buffer, at, len },
            Spot::Rows { row, stride, rows } => Extent::Rows { buffer, at: 0, row, stride, rows },
        };
        Ok(Job { layout: Layout::new(vec![extent])?, want: Want::Root })
    };
    strings.iter().map(job).collect::<Result<_, LayoutError>>().map_err(DeviceError::from)
}
