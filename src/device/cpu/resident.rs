//! Strings in the host's own memory: the same verbs as on a GPU, and the reference for them.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::facts::facts;
use super::{Cpu, Memory};
use crate::device::{Backend, DeviceError, DeviceFacts, DeviceKind, Hashed, Job, Pages, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Extent, Layout, LayoutError};
use crate::tree::{ChainingValue, Frontier, GroupSize, Span, Tree, group_value_of};

/// Bytes in a block for uploads.
const BLOCK: usize = 4 << 20;

/// A string is cut into groups of so many chunks, 1 MiB, for the threads to share.
const SHARE: u8 = 10;

/// Jobs that are done: the CPU has no queue.
#[derive(Debug)]
pub struct Ticket(Vec<Hashed>);

impl Cpu {
    /// `len` zero bytes, or an error where the allocator would end the process.
    fn zeros(len: u64, what: &'static str) -> Result<Vec<u8>, DeviceError> {
        let none = || DeviceError::OutOfMemory { device: DeviceKind::Cpu, what, bytes: len };
        let len = usize::try_from(len).map_err(|_| none())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| none())?;
        bytes.resize(len, 0);
        Ok(bytes)
    }
}

impl Backend for Cpu {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn facts(&self) -> DeviceFacts {
        facts(self.threads())
    }

    fn staging(&self) -> Result<Self::Staging, DeviceError> {
        Self::zeros(BLOCK as u64, "a block to copy from")
    }

    fn blocks(&self) -> usize {
        4
    }

    fn alloc(&self, len: u64) -> Result<Self::Buffer, DeviceError> {
        Memory::new(len, Pages::Ordinary)
    }

    fn alloc_on(&self, len: u64, pages: Pages) -> Result<Self::Buffer, DeviceError> {
        Memory::new(len, pages)
    }

    fn on_host<'m>(&self, memory: &'m mut Memory) -> Option<&'m mut [u8]> {
        (!memory.is_lent()).then(|| memory.bytes_mut())
    }

    fn upload(&self, block: Self::Staging, len: usize, to: &mut Self::Buffer, at: u64) -> Result<(), DeviceError> {
        let outside = DeviceError::Layout(LayoutError { index: 0 });
        let Some(block) = block.get(..len) else { return Err(outside) };
        let end = at.checked_add(len as u64);
        let Some(place) = end.and_then(|end| to.bytes_mut().get_mut(at as usize..usize::try_from(end).ok()?)) else {
            return Err(outside);
        };
        place.copy_from_slice(block);
        Ok(())
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], _after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        let shapes = jobs.iter().map(Shape::of).collect::<Result<Vec<_>, _>>()?;
        let mut groups: Vec<(usize, u64)> = Vec::new();
        for (job, shape) in shapes.iter().enumerate() {
            groups.extend((0..shape.groups).map(|group| (job, group)));
        }
        let values = self.values(jobs, &shapes, &groups)?;
        let mut left = &values[..];
        let hashed = jobs.iter().zip(&shapes).map(|(job, shape)| {
            let (mine, rest) = left.split_at(shape.groups as usize);
            left = rest;
            shape.hashed(job, mine)
        });
        let hashed = hashed.collect::<Option<_>>().ok_or(DeviceError::NoResult { device: DeviceKind::Cpu })?;
        Ok(Ticket(hashed))
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        Ok(ticket.0)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = bytes.and_then(|(start, end)| from.bytes().get(start..end));
        bytes.map(<[u8]>::to_vec).ok_or(DeviceError::Layout(LayoutError { index: 0 }))
    }
}

/// How one job is cut.
struct Shape {
    first_chunk: u64,
    group: GroupSize,
    /// How many groups; none for a string of one chunk whose root is wanted.
    groups: u64,
}

impl Shape {
    fn of(job: &Job<'_, Memory>) -> Result<Self, DeviceError> {
        match job.want {
            Want::Root => {
                let group = GroupSize::from_chunk_log(SHARE).unwrap_or(GroupSize::MAX);
                let tree = Tree::new(job.layout.len(), group);
                Ok(Self { first_chunk: 0, group: tree.group(), groups: tree.groups() })
            }
            Want::Groups { first_chunk, group } => {
                let span = Span::new(first_chunk, job.layout.len(), group);
                let span = span.ok_or(DeviceError::Unaligned { first_chunk, chunks: group.chunks() })?;
                Ok(Self { first_chunk, group, groups: span.groups() })
            }
        }
    }

    /// The value of one group, whose bytes are taken from wherever they lie.
    fn value(&self, layout: &Layout<'_, Memory>, group: u64) -> ChainingValue {
        let start = group * self.group.bytes();
        let end = start.saturating_add(self.group.bytes()).min(layout.len());
        let at = self.first_chunk * crate::tree::CHUNK_LEN + start;
        group_value_of(at, |update| layout.each_slice(start..end, update))
    }

    fn hashed(&self, job: &Job<'_, Memory>, values: &[ChainingValue]) -> Option<Hashed> {
        match job.want {
            Want::Groups { .. } => Some(Hashed::Groups(values.to_vec())),
            Want::Root if self.groups == 0 => {
                let mut hasher = blake3::Hasher::new();
                job.layout.each_slice(0..job.layout.len(), |bytes| {
                    hasher.update(bytes);
                });
                Some(Hashed::Root(Digest::of32(Algorithm::Blake3, *hasher.finalize().as_bytes())))
            }
            Want::Root => {
                let mut frontier = Frontier::default();
                values.iter().for_each(|value| frontier.push(*value));
                frontier.root().map(Hashed::Root)
            }
        }
    }
}

impl Cpu {
    /// The values of all `groups`, in order, computed by all threads.
    fn values(
        &self,
        jobs: &[Job<'_, Memory>],
        shapes: &[Shape],
        groups: &[(usize, u64)],
    ) -> Result<Vec<ChainingValue>, DeviceError> {
        /// Groups that a thread takes at a time, so that tiny ones do not meet at the counter.
        const TAKEN: usize = 16;
        let bytes: u64 = jobs.iter().map(|job| job.layout.len()).sum();
        // Below this a thread takes longer to start than the work.
        let threads = if bytes < 128 << 10 { 1 } else { self.threads().min(groups.len().max(1)) };
        let taken = if groups.len() < threads * TAKEN * 4 { 1 } else { TAKEN };
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let work = || {
            let mut mine = Vec::new();
            loop {
                let first = next.fetch_add(taken, Ordering::Relaxed);
                if first >= groups.len() {
                    break;
                }
                let some = &groups[first..groups.len().min(first + taken)];
                let value = |&(job, group): &(usize, u64)| shapes[job].value(&jobs[job].layout, group);
                mine.push((first, some.iter().map(value).collect::<Vec<_>>()));
            }
            // A poisoned lock is a panic in another worker, which the scope reports.
            if let Ok(mut done) = done.lock() {
                done.append(&mut mine);
            }
        };
        let whole = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            work();
            others.into_iter().all(|other| other.join().is_ok())
        });
        let worker = DeviceError::Worker(DeviceKind::Cpu);
        let (true, Ok(mut done)) = (whole, done.into_inner()) else { return Err(worker) };
        done.sort_unstable_by_key(|(first, _)| *first);
        let values: Vec<_> = done.into_iter().flat_map(|(_, values)| values).collect();
        if values.len() == groups.len() { Ok(values) } else { Err(worker) }
    }
}

impl Layout<'_, Memory> {
    /// Calls `take` with the bytes of `range`, slice after slice.
    fn each_slice(&self, range: Range<u64>, mut take: impl FnMut(&[u8])) {
        let mut start = 0;
        for extent in self.extents() {
            // Extents were checked against their buffers, which are in memory: everything below is an index.
            let (from, to) = (range.start.max(start) - start, range.end.saturating_sub(start));
            match *extent {
                Extent::Host(bytes) => {
                    let to = to.min(bytes.len() as u64);
                    if from < to {
                        take(&bytes[from as usize..to as usize]);
                    }
                    start += bytes.len() as u64;
                }
                Extent::Range { buffer, at, len } => {
                    let to = to.min(len);
                    if from < to {
                        take(&buffer.bytes()[(at + from) as usize..(at + to) as usize]);
                    }
                    start += len;
                }
                Extent::Rows { buffer, at, row, stride, rows } => {
                    let (to, mut from) = (to.min(row * rows), from);
                    while from < to {
                        let (index, column) = (from / row, from % row);
                        let len = (row - column).min(to - from);
                        let first = at + index * stride + column;
                        take(&buffer.bytes()[first as usize..(first + len) as usize]);
                        from += len;
                    }
                    start += row * rows;
                }
            }
            if start >= range.end {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::Settings;
    use crate::tree::group_value;

    fn cpu() -> Cpu {
        Cpu::open(Settings::default()).unwrap()
    }

    fn memory(device: &Cpu, bytes: &[u8]) -> Memory {
        let mut memory = device.alloc(bytes.len() as u64).unwrap();
        for (index, part) in bytes.chunks(BLOCK).enumerate() {
            let mut block = device.staging().unwrap();
            block[..part.len()].copy_from_slice(part);
            device.upload(block, part.len(), &mut memory, (index * BLOCK) as u64).unwrap();
        }
        memory
    }

    #[test]
    fn scattered_strings_have_the_crates_digests() {
        let device = cpu();
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        let buffer = &memory(&device, &bytes);
        let layouts = [
            (vec![Extent::Range { buffer, at: 7, len: 8_999_994 }], bytes[7..].to_vec()),
            (vec![Extent::Host(&bytes[..5]), Extent::Range { buffer, at: 1, len: 1019 }], {
                [&bytes[..5], &bytes[1..1020]].concat()
            }),
            (vec![Extent::Rows { buffer, at: 3, row: 700, stride: 1001, rows: 3000 }, Extent::Host(b"end")], {
                let rows = (0..3000).flat_map(|row| &bytes[3 + row * 1001..][..700]);
                rows.chain(b"end").copied().collect()
            }),
            (vec![], vec![]),
        ];
        let group = GroupSize::from_chunk_log(3).unwrap();
        for (extents, text) in layouts {
            let layout = || Layout::new(extents.clone()).unwrap();
            let first_chunk = (1 << 32) - 8;
            let jobs = [
                Job { layout: layout(), want: Want::Root },
                Job { layout: layout(), want: Want::Groups { first_chunk, group } },
            ];
            let root = Digest::of32(Algorithm::Blake3, *blake3::hash(&text).as_bytes());
            let at = |index| (first_chunk + 8 * index as u64) * 1024;
            let groups = text.chunks(8192).enumerate().map(|(index, bytes)| group_value(at(index), bytes)).collect();
            assert_eq!(device.hash(&jobs).unwrap(), [Hashed::Root(root), Hashed::Groups(groups)]);
        }
        let unaligned = Job { layout: Layout::whole(buffer).unwrap(), want: Want::Groups { first_chunk: 4, group } };
        assert_eq!(device.hash(&[unaligned]), Err(DeviceError::Unaligned { first_chunk: 4, chunks: 8 }));
    }

    #[test]
    fn copies_that_do_not_fit_are_refused() {
        let device = cpu();
        let mut memory = device.alloc(10).unwrap();
        for (len, at) in [(11, 0), (10, 1), (1, u64::MAX), (BLOCK + 1, 0)] {
            let block = device.staging().unwrap();
            assert!(matches!(device.upload(block, len, &mut memory, at), Err(DeviceError::Layout(_))), "{len} {at}");
        }
        for range in [0..11, 11..12, 5..u64::MAX] {
            assert!(matches!(device.download(&memory, range), Err(DeviceError::Layout(_))));
        }
        assert_eq!(device.download(&memory, 3..10).unwrap(), [0; 7]);
        assert!(matches!(device.alloc(u64::MAX), Err(DeviceError::OutOfMemory { .. })));
    }
}
