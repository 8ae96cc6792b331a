//! One string over several devices.
//!
//! Each device returns the values of subtrees that lie in its memory. A chunk that straddles two devices is *assembled*:
//! its bytes are downloaded, at most one chunk for each place where the device changes, and its value is the host's work.
//! All values, in order, are pushed to one [`Frontier`].

use std::ops::Range;

use super::{OnDevice, hash_on_all};
use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Buffer, Extent, Layout, LayoutError};
use crate::tree::{CHUNK_LEN, Frontier, GroupSize, group_value};

/// Where many groups lie in one device, they are of so many chunks: 1 MiB, which engines share among their threads.
const GROUP: u8 = 10;

/// Rows that span no more than this are downloaded with what lies between them, in one call.
const AT_ONCE: u64 = 64 << 10;

/// What cannot be.
const DEFECT: DeviceError = DeviceError::Worker(DeviceKind::Cpu);

/// A string, piece after piece.
pub(super) struct Spread<'a, B> {
    /// Consecutive pieces of one device, with the device's index.
    segments: Vec<(usize, Layout<'a, B>)>,
    /// Where each of them ends in the string.
    ends: Vec<u64>,
    len: u64,
}

impl<'a, B: Buffer> Spread<'a, B> {
    /// The string made of `pieces`. Those on the host have no device: they are hashed where what precedes them is, or
    /// what follows.
    ///
    /// # Errors
    /// [`LayoutError`] for an extent that leaves its buffer; its index is that of the piece.
    pub(super) fn new(pieces: Vec<(Option<usize>, Extent<'a, B>)>) -> Result<Self, LayoutError> {
        // The sum of all, and each by itself.
        let len = Layout::new(pieces.iter().map(|(_, extent)| *extent).collect())?.len();
        let mut device = pieces.iter().find_map(|(device, _)| *device).unwrap_or(0);
        let (mut segments, mut run) = (Vec::new(), Vec::new());
        for (on, extent) in pieces {
            if let Some(on) = on.filter(|on| *on != device) {
                segments.push((device, Layout::new(std::mem::take(&mut run))?));
                device = on;
            }
            run.push(extent);
        }
        segments.push((device, Layout::new(run)?));
        Ok(Self::of(segments, len))
    }

    fn of(mut segments: Vec<(usize, Layout<'a, B>)>, len: u64) -> Self {
        segments.retain(|(_, layout)| !layout.is_empty());
        let mut end = 0;
        let ends = segments.iter().map(|(_, layout)| {
            end += layout.len();
            end
        });
        Self { ends: ends.collect(), segments, len }
    }

    /// The string that is bytes `range` of this one. `None` if it has no such bytes.
    pub(super) fn part(&self, range: Range<u64>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let first = self.ends.partition_point(|&end| end <= range.start);
        let mut segments = Vec::new();
        for ((device, layout), &end) in self.segments.iter().zip(&self.ends).skip(first) {
            let start = end - layout.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from >= to {
                break;
            }
            segments.push((*device, layout.part(from - start..to - start)?));
        }
        Some(Self::of(segments, range.end - range.start))
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

/// One value of a string, or bytes that become one.
enum Step<'a, B> {
    /// What this job of that device returns: its root, or values of subtrees of so many chunks.
    Job { device: usize, job: usize, values: u64, log: u8 },
    /// A chunk that begins at this byte; without one, a string of at most a chunk.
    Assembled { at: Option<u64>, pieces: Vec<(usize, Layout<'a, B>)> },
}

/// What is asked of all devices.
struct Plan<'a, B> {
    /// The jobs of each device.
    jobs: Vec<Vec<Job<'a, B>>>,
    /// What becomes of them: one list a string.
    steps: Vec<Vec<Step<'a, B>>>,
}

/// The BLAKE3 digests of `strings`, in order.
///
/// # Errors
/// [`DeviceError`]; there is no digest then, of any string.
pub(super) fn digests<B: Backend>(
    devices: &[OnDevice<'_, B>],
    strings: &[Spread<'_, B::Buffer>],
) -> Result<Vec<Digest>, DeviceError> {
    let plan = Plan::new(devices.len(), strings, None)?;
    let results = plan.run(devices)?;
    let digest = |merged| match merged {
        Merged::Root(digest) => Ok(digest),
        // Several segments of more than one chunk are several subtrees.
        Merged::Tree(frontier) => frontier.root().ok_or(DEFECT),
    };
    results.into_iter().map(digest).collect()
}

/// What came of a string.
enum Merged {
    /// One device has all of it, or it is at most a chunk.
    Root(Digest),
    /// More than one subtree.
    Tree(Frontier),
}

impl<'a, B: Buffer> Plan<'a, B> {
    /// Plans all strings. With `first_chunk` they are parts of longer ones, of which they begin with that chunk.
    fn new(devices: usize, strings: &[Spread<'a, B>], first_chunk: Option<u64>) -> Result<Self, DeviceError> {
        let mut plan = Self { jobs: (0..devices).map(|_| Vec::new()).collect(), steps: Vec::new() };
        for string in strings {
            let steps = match (&string.segments[..], first_chunk) {
                ([(device, layout)], None) => {
                    vec![plan.ask(*device, Job { layout: layout.clone(), want: Want::Root }, 0)?]
                }
                (segments, None) if string.len <= CHUNK_LEN => {
                    vec![Step::Assembled { at: None, pieces: segments.to_vec() }]
                }
                _ => plan.spread(string, first_chunk.unwrap_or(0))?,
            };
            plan.steps.push(steps);
        }
        Ok(plan)
    }

    fn ask(&mut self, device: usize, job: Job<'a, B>, log: u8) -> Result<Step<'a, B>, DeviceError> {
        let values = match job.want {
            Want::Root => 1,
            Want::Groups { group, .. } => job.layout.len().div_ceil(group.bytes()),
        };
        let jobs = self.jobs.get_mut(device).ok_or(DEFECT)?;
        jobs.push(job);
        Ok(Step::Job { device, job: jobs.len() - 1, values, log })
    }

    /// The steps of a string of several segments, and of more than one chunk.
    fn spread(&mut self, string: &Spread<'a, B>, first_chunk: u64) -> Result<Vec<Step<'a, B>>, DeviceError> {
        let (mut steps, mut start) = (Vec::new(), 0);
        // Everything before this byte has a step. It begins a chunk, and is never before the segment.
        let mut done = 0;
        for (device, layout) in &string.segments {
            let end = start + layout.len();
            // Whole chunks of this segment alone; the string's last may be short.
            let whole = done..if end == string.len { end } else { end / CHUNK_LEN * CHUNK_LEN };
            if whole.start < whole.end {
                for (range, log) in runs(first_chunk, whole.clone()) {
                    let group = GroupSize::from_chunk_log(log).unwrap_or(GroupSize::MAX);
                    let want = Want::Groups { first_chunk: first_chunk + range.start / CHUNK_LEN, group };
                    let layout = layout.part(range.start - start..range.end - start).ok_or(DEFECT)?;
                    steps.push(self.ask(*device, Job { layout, want }, log)?);
                }
                done = whole.end;
            }
            if done < end {
                // What is left begins a chunk that ends in another segment.
                let chunk = done..(done + CHUNK_LEN).min(string.len);
                done = chunk.end;
                let at = Some(first_chunk * CHUNK_LEN + chunk.start);
                steps.push(Step::Assembled { at, pieces: string.part(chunk).ok_or(DEFECT)?.segments });
            }
            start = end;
        }
        Ok(steps)
    }
}

/// Cuts bytes `range`, which begin with a chunk, into runs of aligned subtrees: the logarithm of their chunks, and where
/// they are. All but the last are whole. Byte 0 is the first of chunk `first_chunk`.
fn runs(first_chunk: u64, range: Range<u64>) -> Vec<(Range<u64>, u8)> {
    let (mut runs, mut at) = (Vec::new(), range.start);
    while at < range.end {
        let left = (range.end - at).div_ceil(CHUNK_LEN);
        let chunk = first_chunk + at / CHUNK_LEN;
        let log = (chunk.trailing_zeros().min(left.ilog2()) as u8).min(GROUP);
        // Of the largest size there may be many.
        let chunks = if log == GROUP { left >> log << log } else { 1 << log };
        let end = (at + chunks * CHUNK_LEN).min(range.end);
        runs.push((at..end, log));
        at = end;
    }
    runs
}

impl<'a, B: Buffer> Plan<'a, B> {
    /// Has all of it done, on all devices at once, and merges what comes back.
    ///
    /// # Errors
    /// [`DeviceError`]; nothing is merged then.
    fn run<D: Backend<Buffer = B>>(mut self, devices: &[OnDevice<'_, D>]) -> Result<Vec<Merged>, DeviceError> {
        // A download is not behind the caller's stream. A job is, and downloads come after all jobs: so every device that
        // is read has one.
        for (device, pieces) in self.assembled() {
            if self.jobs[device].is_empty() {
                self.jobs[device].push(Job { layout: pieces, want: Want::Root });
            }
        }
        let hashed = hash_on_all(devices, &self.jobs)?;
        self.steps.iter().map(|steps| merge(steps, &hashed, devices)).collect()
    }

    /// For each device one of the strings that are assembled from it.
    fn assembled(&self) -> Vec<(usize, Layout<'a, B>)> {
        let mut found: Vec<(usize, Layout<'a, B>)> = Vec::new();
        for step in self.steps.iter().flatten() {
            let Step::Assembled { pieces, .. } = step else { continue };
            for (device, layout) in pieces {
                if !found.iter().any(|(known, _)| known == device) {
                    found.push((*device, layout.clone()));
                }
            }
        }
        found
    }
}

fn merge<D: Backend>(
    steps: &[Step<'_, D::Buffer>],
    hashed: &[Vec<Hashed>],
    devices: &[OnDevice<'_, D>],
) -> Result<Merged, DeviceError> {
    let mut frontier = Frontier::default();
    for step in steps {
        match step {
            Step::Job { device, job, values, log } => match hashed.get(*device).and_then(|jobs| jobs.get(*job)) {
                Some(Hashed::Root(digest)) if digest.algorithm() == Algorithm::Blake3 && steps.len() == 1 => {
                    return Ok(Merged::Root(*digest));
                }
                Some(Hashed::Groups(found)) if found.len() as u64 == *values => {
                    found.iter().for_each(|value| frontier.push_subtree(*log, *value));
                }
                _ => return Err(DeviceError::NoResult { device: devices.get(*device).ok_or(DEFECT)?.backend.kind() }),
            },
            Step::Assembled { at, pieces } => {
                let mut bytes = Vec::with_capacity(CHUNK_LEN as usize);
                for (device, layout) in pieces {
                    bytes.extend(chunk(devices.get(*device).ok_or(DEFECT)?.backend, layout)?);
                }
                match at {
                    Some(at) => frontier.push_subtree(0, group_value(*at, &bytes)),
                    None => return Ok(Merged::Root(Digest::of32(Algorithm::Blake3, *blake3::hash(&bytes).as_bytes()))),
                }
            }
        }
    }
    Ok(Merged::Tree(frontier))
}

/// The bytes of a string that is at most a chunk long.
///
/// # Errors
/// [`DeviceError`]; a short download is one: it must not become the value of a shorter chunk.
pub(crate) fn chunk<D: Backend>(backend: &D, layout: &Layout<'_, D::Buffer>) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = Vec::with_capacity(CHUNK_LEN as usize);
    for extent in layout.extents() {
        download(backend, extent, &mut bytes)?;
    }
    if bytes.len() as u64 != layout.len() {
        return Err(DeviceError::NoResult { device: backend.kind() });
    }
    Ok(bytes)
}

/// The bytes of an extent that is at most a chunk long.
fn download<D: Backend>(backend: &D, extent: &Extent<'_, D::Buffer>, to: &mut Vec<u8>) -> Result<(), DeviceError> {
    match *extent {
        Extent::Host(bytes) => to.extend_from_slice(bytes),
        Extent::Range { buffer, at, len } => to.extend(backend.download(buffer, at..at + len)?),
        Extent::Rows { buffer, at, row, stride, rows } => {
            let mut done = 0;
            while done < rows {
                let from = at + done * stride;
                // As many rows as span little memory, at least one.
                let count = (AT_ONCE.saturating_sub(row) / stride.max(1) + 1).min(rows - done);
                let span = backend.download(buffer, from..from + (count - 1) * stride + row)?;
                for nth in 0..count {
                    let at = (nth * stride) as usize;
                    to.extend(span.get(at..at + row as usize).unwrap_or_default());
                }
                done += count;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
