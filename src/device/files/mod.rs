//! Files hashed by a device that has memory of its own.
//!
//! Bytes go from a file into a staging block, from there into a *slab* of device memory, and are hashed where they then
//! lie. Small files are packed into one slab and hashed by one submit; a long one fills slab after slab, and the values
//! of its groups are merged on the host. While the device copies and hashes one slab the next is read, and a few slabs
//! in rotation bound memory whatever the size of the model. Each byte is read once.
//!
//! The device computes BLAKE3 and nothing else. Where SHA-256 or BLAKE2b is wanted beside it, the host takes it from
//! the very staging block that is then uploaded.

mod read;
mod slabs;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::ops::Range;

use self::read::Reader;
use self::slabs::Slabs;
use super::cpu::sequential::Sequential;
use super::cpu::{Algorithms, Digests, FileJob, HashedFile, Part, Progress, Tap, Tapped, Wanted};
use super::file::OpenFile;
use super::{Backend, DeviceError, Want};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::tree::{CHUNK_LEN, Frontier, GroupSize, Tree};

/// How much device memory is used, and how work is cut. Tests make all of it small.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Bytes in a slab.
    slab: u64,
    /// Slabs in rotation: one is filled while others are copied and hashed.
    slabs: usize,
    /// Strings in one submit at most.
    jobs: usize,
    /// A string that does not fit into a slab is hashed by groups of this size, of at most a slab.
    group: GroupSize,
    /// Threads that read at once.
    readers: usize,
}

impl Sizes {
    /// Three slabs of 64 MiB, or less for files that are known to need less.
    fn of(files: &[FileJob]) -> Self {
        const MOST: u64 = 64 << 20;
        const LEAST: u64 = 1 << 20;
        let padded = FileJob::total(files).map_or(MOST, |total| total.saturating_add(ALIGN * files.len() as u64));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slab: padded.clamp(LEAST, MOST).next_power_of_two(),
            slabs: 3,
            jobs: 1 << 16,
            group: GroupSize::at_most(LEAST),
            // More do not make one file come faster from the page cache or from a disk.
            readers: cores.min(4),
        }
    }
}

/// Strings begin at multiples of this in a slab: the widest load of any kernel.
const ALIGN: u64 = 16;

/// Hashes every file once: results in the order of `files`, each with all that is `wanted`. The contract is that of
/// [`Cpu::hash_files`](super::Cpu::hash_files).
///
/// # Errors
/// The first failure ends it: [`Error::Io`], [`Error::FileChanged`], and [`Error::Device`] for whatever fails on the
/// device, or [`DeviceError::Algorithm`] if BLAKE3, which is all that a device computes, is not wanted.
pub(crate) fn hash_files<B: Backend>(
    backend: &B,
    files: &[FileJob],
    wanted: &Wanted<'_>,
    progress: &dyn Progress,
) -> Result<Vec<HashedFile>, Error> {
    hash_files_in(backend, files, wanted, progress, Sizes::of(files))
}

fn hash_files_in<B: Backend>(
    backend: &B,
    files: &[FileJob],
    wanted: &Wanted<'_>,
    progress: &dyn Progress,
    mut sizes: Sizes,
) -> Result<Vec<HashedFile>, Error> {
    wanted.check(backend.kind())?;
    let algorithms = wanted.algorithms;
    if !algorithms.has(Algorithm::Blake3) {
        let algorithm = algorithms.iter().next().unwrap_or(Algorithm::Sha256);
        return Err(DeviceError::Algorithm { device: backend.kind(), algorithm }.into());
    }
    if let Some(group) = wanted.groups {
        // Long strings are taken in groups anyway: then in these.
        sizes.group = group;
        sizes.slab = sizes.slab.max(group.bytes());
    }
    let mut work = Work {
        slabs: Slabs::new(backend, sizes, progress),
        reader: Reader { threads: sizes.readers },
        algorithms,
        groups: wanted.groups,
        tap: wanted.tap,
        sizes,
        progress,
    };
    work.slabs.results.keep_groups = wanted.groups.is_some();
    for job in files {
        work.file(job, wanted.shard)?;
    }
    work.slabs.finish()?;
    work.slabs.results.finish(files.len()).ok_or_else(|| DeviceError::NoResult { device: backend.kind() }.into())
}

/// What has come of the files so far.
#[derive(Debug, Default)]
struct Results {
    files: Vec<HashedFile>,
    /// Where each string stands among the files' parts, and its tree where it is hashed in pieces.
    strings: Vec<Text>,
    /// Whether the values of groups are wanted, and not the digest alone.
    keep_groups: bool,
}

/// One string: a file or a shard.
#[derive(Debug)]
struct Text {
    file: usize,
    part: usize,
    /// The values so far of a string that did not fit into one slab.
    frontier: Frontier,
}

impl Results {
    /// A device's answer for string `index`, or `len` bytes of it. `None` if it is not what was asked for.
    fn take(&mut self, index: usize, len: u64, want: Want, hashed: super::Hashed) -> Option<()> {
        let text = self.strings.get_mut(index)?;
        match (want, hashed) {
            (Want::Root, super::Hashed::Root(digest)) if digest.algorithm() == Algorithm::Blake3 => {
                self.set(index, digest)
            }
            (Want::Groups { group, .. }, super::Hashed::Groups(values))
                if values.len() as u64 == len.div_ceil(group.bytes()) =>
            {
                values.iter().for_each(|value| text.frontier.push(*value));
                if self.keep_groups {
                    self.files.get_mut(text.file)?.parts.get_mut(text.part)?.groups.extend(values);
                }
                Some(())
            }
            _ => None,
        }
    }

    fn set(&mut self, index: usize, digest: Digest) -> Option<()> {
        let text = self.strings.get(index)?;
        self.files.get_mut(text.file)?.parts.get_mut(text.part)?.digests.set(digest);
        Some(())
    }

    /// All files, if there are so many and every string has its BLAKE3 digest.
    fn finish(mut self, files: usize) -> Option<Vec<HashedFile>> {
        for index in 0..self.strings.len() {
            if self.strings[index].frontier.groups() > 0 {
                let root = self.strings[index].frontier.root()?;
                self.set(index, root)?;
            }
        }
        let whole = |file: &HashedFile| file.parts.iter().all(|part| part.digests.get(Algorithm::Blake3).is_some());
        (self.files.len() == files && self.files.iter().all(whole)).then_some(self.files)
    }
}

/// One run over the files.
struct Work<'a, B: Backend> {
    slabs: Slabs<'a, B>,
    reader: Reader,
    algorithms: Algorithms,
    /// The groups whose values are wanted.
    groups: Option<GroupSize>,
    tap: Option<&'a dyn Tap>,
    sizes: Sizes,
    progress: &'a dyn Progress,
}

impl<B: Backend> Work<'_, B> {
    /// Reads one file into slabs.
    fn file(&mut self, job: &FileJob, shard: Option<NonZeroU64>) -> Result<(), Error> {
        let file = OpenFile::open(&job.path)?;
        let len = file.len();
        if job.expected_len.is_some_and(|expected| expected != len) {
            self.slabs.results.files.push(HashedFile { len, stamp: file.stamp(), parts: Vec::new() });
            self.progress.tell(job.size_hint.unwrap_or(0), 1)?;
            return Ok(());
        }
        let index = self.slabs.results.files.len();
        self.slabs.results.files.push(HashedFile { len, stamp: file.stamp(), parts: Vec::new() });
        let tapped = Tapped::of(self.tap, index, len)?;
        let shard = shard.map(NonZeroU64::get);
        let mut at = 0;
        // An empty file is one empty string, and no shard.
        while at < len || (len == 0 && shard.is_none() && self.slabs.results.files[index].parts.is_empty()) {
            let string = at..shard.map_or(len, |shard| at.saturating_add(shard).min(len));
            if string.end - string.start > self.sizes.slab {
                self.long(&file, index, string.clone(), tapped)?;
                at = string.end;
            } else {
                at = self.short(&file, index, at, shard.unwrap_or(len.max(1)), tapped)?;
            }
        }
        file.check_end()?;
        file.check_unchanged()?;
        self.slabs.file_done();
        Ok(())
    }

    /// A string that needs more than one slab: spans of whole groups, each in what is left of a slab.
    fn long(
        &mut self,
        file: &OpenFile,
        index: usize,
        string: Range<u64>,
        tapped: Option<Tapped<'_>>,
    ) -> Result<(), Error> {
        let group = self.sizes.group;
        let text = self.add(index, string.clone());
        let mut host = self.in_order(string.end - string.start, tapped);
        let mut at = string.start;
        while at < string.end {
            let left = string.end - at;
            let room = self.slabs.room() / group.bytes() * group.bytes();
            let len = if left <= self.slabs.room() { left } else { room };
            if len == 0 || self.slabs.room_for_jobs() == 0 {
                self.slabs.submit()?;
                continue;
            }
            let offset = self.append(file, at, len, &mut host)?;
            let first_chunk = (at - string.start) / CHUNK_LEN;
            self.slabs.add(text, offset, len, Want::Groups { first_chunk, group });
            at += len;
        }
        self.finish([text], host.digests);
        Ok(())
    }

    /// One string that fits into a slab, or a run of shards that do together: they are read at once and lie one after
    /// the other. Returns where the run ends.
    fn short(
        &mut self,
        file: &OpenFile,
        index: usize,
        at: u64,
        shard: u64,
        tapped: Option<Tapped<'_>>,
    ) -> Result<u64, Error> {
        let first = shard.min(file.len() - at);
        if self.slabs.room() < first || self.slabs.room_for_jobs() == 0 {
            self.slabs.submit()?;
        }
        let most = (self.slabs.room() / shard).clamp(1, self.slabs.room_for_jobs().max(1) as u64);
        let end = at.saturating_add(most.saturating_mul(shard)).min(file.len());
        let mut host = self.in_order(shard, tapped);
        let offset = self.append(file, at, end - at, &mut host)?;
        let (mut start, mut texts) = (at, Vec::new());
        loop {
            let string = start..start.saturating_add(shard).min(end);
            let text = self.add(index, string.clone());
            self.slabs.add(
                text,
                offset + (string.start - at),
                string.end - string.start,
                self.want(string.end - string.start),
            );
            texts.push(text);
            start = string.end;
            if start == end {
                break;
            }
        }
        self.finish(texts, host.digests);
        Ok(end)
    }

    /// What is wanted of a string that fits into a slab.
    fn want(&self, len: u64) -> Want {
        match self.groups.map(|group| Tree::new(len, group)) {
            Some(tree) if !tree.is_single_chunk() => Want::Groups { first_chunk: 0, group: tree.group() },
            _ => Want::Root,
        }
    }

    /// A new string of file `index`.
    fn add(&mut self, index: usize, string: Range<u64>) -> usize {
        let parts = &mut self.slabs.results.files[index].parts;
        parts.push(Part { start: string.start, end: string.end, digests: Digests::default(), groups: Vec::new() });
        let part = parts.len() - 1;
        self.slabs.results.strings.push(Text { file: index, part, frontier: Frontier::default() });
        self.slabs.results.strings.len() - 1
    }

    /// Reads bytes of a file to the end of what is in the slab; the host takes its digests on the way. Returns where in
    /// the slab they begin.
    fn append(&mut self, file: &OpenFile, at: u64, len: u64, host: &mut Host<'_>) -> Result<u64, Error> {
        let take = &mut |at, bytes: &[u8]| host.take(at, bytes);
        let offset = self.slabs.begin();
        let mut done = 0;
        while done < len {
            let kind = self.slabs.kind();
            let block = self.slabs.block(len - done)?;
            let count = block.len() as u64;
            self.reader.read(file, at + done, block, take, &kind)?;
            self.slabs.filled(count)?;
            done += count;
            // How far it is, the slabs tell when they come back.
            self.progress.tell(0, 0)?;
        }
        Ok(offset)
    }

    /// What the host does with the bytes of strings of so many bytes.
    fn in_order<'t>(&self, each: u64, tapped: Option<Tapped<'t>>) -> Host<'t> {
        let digests = self.algorithms.sequential().then(|| InOrder::new(Sequential::new(self.algorithms), each));
        Host { digests, tapped }
    }

    fn finish(&mut self, texts: impl IntoIterator<Item = usize>, in_order: Option<InOrder>) {
        let Some(in_order) = in_order else { return };
        for (text, taken) in texts.into_iter().zip(in_order.finish()) {
            let Text { file, part, .. } = self.slabs.results.strings[text];
            self.slabs.results.files[file].parts[part].digests = taken;
        }
    }
}

/// What the host does with bytes on their way to the device: its own digests, if any are wanted, and a tap.
struct Host<'a> {
    digests: Option<InOrder>,
    tapped: Option<Tapped<'a>>,
}

impl Host<'_> {
    /// Bytes that begin at byte `at` of the file.
    fn take(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.digests.iter_mut().for_each(|digests| digests.update(bytes));
        self.tapped.map_or(Ok(()), |tapped| tapped.take(at, bytes))
    }
}

/// The digests that must see the bytes in order, of equally long strings that come one after the other; the last may be
/// short.
struct InOrder {
    fresh: Sequential,
    current: Sequential,
    each: u64,
    /// Bytes until the current string ends.
    left: u64,
    done: Vec<Digests>,
}

impl InOrder {
    fn new(fresh: Sequential, each: u64) -> Self {
        Self { current: fresh.clone(), fresh, each, left: each, done: Vec::new() }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, rest) = bytes.split_at(count);
            self.current.update(now);
            self.left -= count as u64;
            if self.left == 0 {
                self.close();
            }
            bytes = rest;
        }
    }

    fn close(&mut self) {
        let mut digests = Digests::default();
        std::mem::replace(&mut self.current, self.fresh.clone()).finish(&mut digests);
        self.done.push(digests);
        self.left = self.each;
    }

    fn finish(mut self) -> Vec<Digests> {
        // A short last string, or the only one, without a byte.
        if self.left < self.each || self.done.is_empty() {
            self.close();
        }
        self.done
    }
}
