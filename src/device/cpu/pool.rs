//! Who hashes what: workers take files in turn, share the units of large files, and help each other at the end.

use std::num::NonZeroU64;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::Batch;
use super::groups::{Taken, algorithms_for, take_blake3};
use super::map::LeasedMap;
use super::ordered::Ordered;
use super::parallel::Parallel;
use super::sequential::Sequential;
use super::stream::{Monitor, READ, Source, Stream};
use super::{
    Algorithms, Cpu, DeviceError, DeviceKind, FileJob, HashedFile, Io, Look, Part, Progress, Tap, Tapped, Wanted,
};
use crate::device::file::OpenFile;
use crate::digest::Algorithm;
use crate::error::Error;
use crate::tree::GroupSize;

/// Below this, setting up a map costs more than copying.
const MAP_FROM: u64 = 4 << 20;

pub(super) struct Pool<'a> {
    files: &'a [FileJob],
    /// Indices into `files`, largest first where the sizes are known.
    order: Vec<usize>,
    algorithms: Algorithms,
    shard: Option<NonZeroU64>,
    groups: Option<GroupSize>,
    tap: Option<&'a dyn Tap>,
    look: Option<&'a Look<'a>>,
    cpu: Cpu,
    progress: &'a dyn Progress,
    stop: AtomicBool,
    /// Whether a unit of a large file waits for a worker; read without the lock by those who assist.
    units_wait: AtomicBool,
}

/// What the workers share. It borrows from the pool, hence a thing of its own.
type Board<'a> = Monitor<Shared<'a>>;

#[derive(Default)]
struct Shared<'a> {
    next_file: usize,
    /// Workers that have taken files or a unit and not yet told the others what of it they can help with.
    taking: usize,
    /// Files that a worker took and gave back.
    returned: Vec<Range<usize>>,
    /// Large files with units that nobody has taken.
    large: Vec<Arc<LargeFile<'a>>>,
    /// Strings in the works that can use help.
    streams: Vec<Arc<dyn Stream + 'a>>,
    error: Option<Error>,
}

/// A file too large for one gulp. Its units are its shards, or runs of small shards, or the whole of it.
struct LargeFile<'a> {
    index: usize,
    source: Arc<Source>,
    tapped: Option<Tapped<'a>>,
    shard: u64,
    /// Bytes a unit covers: one long shard, or as many short ones as one buffer holds.
    unit: u64,
    next_unit: Mutex<u64>,
    done: Mutex<Done>,
}

struct Done {
    parts: Vec<Part>,
    units_left: u64,
}

enum Task<'a> {
    Files(Range<usize>),
    Unit(Arc<LargeFile<'a>>, u64),
    Assist(Arc<dyn Stream + 'a>),
    Nothing,
}

impl<'a> LargeFile<'a> {
    fn new(index: usize, source: Arc<Source>, shard: Option<NonZeroU64>, tapped: Option<Tapped<'a>>) -> Self {
        let len = source.file.len();
        let shard = shard.map_or(len, NonZeroU64::get);
        let unit = if shard > READ as u64 { shard } else { READ as u64 / shard * shard };
        let done = Done { parts: Vec::new(), units_left: len.div_ceil(unit) };
        Self { index, source, tapped, shard, unit, next_unit: Mutex::new(0), done: Mutex::new(done) }
    }

    /// A unit that nobody has taken, and whether more are left after it.
    fn take_unit(&self) -> Option<(u64, bool)> {
        let units = self.source.file.len().div_ceil(self.unit);
        let mut next = lock(&self.next_unit);
        if *next == units {
            return None;
        }
        *next += 1;
        Some((*next - 1, *next < units))
    }
}

impl<'a> Pool<'a> {
    pub(super) fn new(files: &'a [FileJob], wanted: &Wanted<'a>, cpu: Cpu, progress: &'a dyn Progress) -> Self {
        let Wanted { shard, groups, tap, look, .. } = *wanted;
        let algorithms = algorithms_for(wanted.algorithms, groups);
        let mut order: Vec<usize> = (0..files.len()).collect();
        // Largest first, so that no long file is begun when the others are done. Stable: equals stay in name order.
        order.sort_by_key(|&i| std::cmp::Reverse(files[i].size_hint.unwrap_or(0)));
        let (stop, units_wait) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { files, order, algorithms, shard, groups, tap, look, cpu, progress, stop, units_wait }
    }

    pub(super) fn run(&self) -> Result<Vec<HashedFile>, Error> {
        let board = Board::default();
        let helpers = self.workers() - 1;
        let hashed: Vec<Vec<(usize, HashedFile)>> = std::thread::scope(|scope| {
            // A thread that cannot be started is one helper less; this thread works in any case.
            let threads: Vec<_> = (0..helpers)
                .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, || self.work(&board)).ok())
                .collect();
            let own = self.work(&board);
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).chain([own]).collect()
        });
        if let Some(error) = board.lock().error.take() {
            return Err(error);
        }
        let mut results: Vec<Option<HashedFile>> = self.files.iter().map(|_| None).collect();
        for (index, file) in hashed.into_iter().flatten() {
            results[index] = Some(file);
        }
        // A file without a result and without an error would be a defect of the pool; it must not pass as hashed.
        results.into_iter().collect::<Option<_>>().ok_or_else(|| DeviceError::Worker(DeviceKind::Cpu).into())
    }

    /// As many workers as there is work for: starting a thread costs as much as hashing some hundred kilobytes.
    fn workers(&self) -> usize {
        let useful = FileJob::total(self.files).map_or(usize::MAX, |bytes| {
            usize::try_from(bytes >> 20).unwrap_or(usize::MAX).saturating_add(self.files.len() / 32).saturating_add(1)
        });
        self.cpu.threads.min(useful).max(1)
    }

    /// One worker's life. What fails stops everybody.
    fn work<'s>(&'s self, board: &Board<'s>) -> Vec<(usize, HashedFile)> {
        // What grows is copied, and memory that is new costs a fault a page.
        let mut hashed = Vec::with_capacity(self.files.len() / self.workers());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let (mut buffer, mut batch) = (Vec::new(), Batch::default());
            loop {
                match self.next(board) {
                    Task::Files(range) => self.files(board, range, &mut buffer, &mut batch, &mut hashed)?,
                    Task::Unit(file, unit) => self.unit(board, &file, unit, &mut buffer, &mut hashed)?,
                    Task::Assist(stream) => {
                        stream.assist(&|| self.units_wait.load(Ordering::Relaxed))?;
                        // There is room for another helper.
                        board.notify();
                    }
                    Task::Nothing => return Ok(()),
                }
            }
        }));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(board, error),
            Err(_) => self.fail(board, DeviceError::Worker(DeviceKind::Cpu).into()),
        }
        hashed
    }

    fn next<'s>(&'s self, board: &Board<'s>) -> Task<'s> {
        let mut shared = board.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Task::Nothing;
            }
            if let Some(file) = shared.large.last().cloned() {
                match file.take_unit() {
                    Some((unit, true)) => {
                        shared.taking += 1;
                        return Task::Unit(file, unit);
                    }
                    last => {
                        shared.large.pop();
                        self.units_wait.store(!shared.large.is_empty(), Ordering::Relaxed);
                        if let Some((unit, _)) = last {
                            shared.taking += 1;
                            return Task::Unit(file, unit);
                        }
                        continue;
                    }
                }
            }
            if let Some(range) = shared.returned.pop() {
                shared.taking += 1;
                return Task::Files(range);
            }
            if shared.next_file < self.files.len() {
                // Many small files: take a few at once, but never so many that the others run dry at the end.
                let left = self.files.len() - shared.next_file;
                let hint = self.files[self.order[shared.next_file]].size_hint;
                let several = if hint.is_some_and(|len| len > READ as u64) { 1 } else { 32 };
                let take = (left / self.cpu.threads / 8).clamp(1, several);
                let begin = shared.next_file;
                shared.next_file += take;
                shared.taking += 1;
                return Task::Files(begin..begin + take);
            }
            if let Some(stream) = shared.streams.iter().find(|stream| stream.has_work()) {
                return Task::Assist(Arc::clone(stream));
            }
            if shared.taking == 0 && shared.streams.is_empty() {
                return Task::Nothing;
            }
            shared = board.wait(shared);
        }
    }

    /// Hashes the small files among `range` and tells the others of the large ones.
    fn files<'s>(
        &'s self,
        board: &Board<'s>,
        range: Range<usize>,
        buffer: &mut Vec<u8>,
        batch: &mut Batch,
        hashed: &mut Vec<(usize, HashedFile)>,
    ) -> Result<(), Error> {
        let together = self.algorithms.has(Algorithm::Blake3) && self.groups.is_none() && self.shard.is_none();
        for position in range.clone() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let index = self.order[position];
            let job = &self.files[index];
            let file = OpenFile::of(&job.path)?;
            let len = file.len();
            if job.expected_len.is_some_and(|expected| expected != len) {
                hashed.push((index, HashedFile { len, stamp: file.stamp(), parts: Vec::new() }));
                self.progress.tell(job.size_hint.unwrap_or(0), 1)?;
                continue;
            }
            let tapped = Tapped::of(self.tap, index, len)?;
            if len <= READ as u64 {
                let waits = together && Batch::takes(len);
                let bytes = if waits {
                    batch.read(index, &file)?
                } else {
                    let bytes = file.read_whole(buffer)?;
                    file.check_unchanged()?;
                    bytes
                };
                if let Some(tapped) = tapped {
                    tapped.take(0, bytes)?;
                }
                if let Some(look) = self.look {
                    look(index, bytes);
                }
                if waits {
                    if batch.is_full() {
                        self.finish(batch, hashed)?;
                    }
                    continue;
                }
                let mut parts = Vec::with_capacity(1);
                self.parts_of(bytes, 0, self.shard.map_or(len, NonZeroU64::get), &mut parts);
                hashed.push((index, HashedFile { len, stamp: file.stamp(), parts }));
                self.progress.tell(len, 1)?;
                continue;
            }
            // Only BLAKE3 alone goes through a map; a lease for anything else would keep writers out for nothing.
            let parallel = !self.algorithms.sequential() && self.shard.is_none_or(|shard| shard.get() >= MAP_FROM);
            let mapped = self.cpu.io == Io::Auto && parallel && len >= MAP_FROM;
            let map = if mapped { LeasedMap::new(&file.file, len) } else { None };
            let large =
                Arc::new(LargeFile::new(index, Arc::new(Source { map, file: file.owned() }), self.shard, tapped));
            let mut shared = board.lock();
            shared.large.push(large);
            self.units_wait.store(true, Ordering::Relaxed);
            // One large file at a time, so that few are open at once.
            if position + 1 < range.end {
                shared.returned.push(position + 1..range.end);
            }
            break;
        }
        self.finish(batch, hashed)?;
        board.lock().taking -= 1;
        board.notify();
        Ok(())
    }

    fn finish(&self, batch: &mut Batch, hashed: &mut Vec<(usize, HashedFile)>) -> Result<(), Error> {
        let (bytes, files) = (batch.used() as u64, batch.len());
        batch.finish(self.algorithms, hashed);
        if files > 0 { self.progress.tell(bytes, files) } else { Ok(()) }
    }

    /// Hashes one unit of a large file, and hands in the file if it was the last.
    fn unit<'s>(
        &'s self,
        board: &Board<'s>,
        file: &Arc<LargeFile<'s>>,
        unit: u64,
        buffer: &mut Vec<u8>,
        hashed: &mut Vec<(usize, HashedFile)>,
    ) -> Result<(), Error> {
        let len = file.source.file.len();
        let range = unit * file.unit..(unit + 1).saturating_mul(file.unit).min(len);
        let mut parts = Vec::new();
        if range.end - range.start <= READ as u64 {
            buffer.resize(READ, 0);
            let bytes = &mut buffer[..(range.end - range.start) as usize];
            file.source.file.read_at(bytes, range.start)?;
            self.parts_of(bytes, range.start, file.shard, &mut parts);
            self.progress.tell(range.end - range.start, 0)?;
            board.lock().taking -= 1;
            board.notify();
        } else {
            let Taken { digests, groups } = self.stream(board, file, range.clone())?;
            parts.push(Part { start: range.start, end: range.end, digests, groups });
        }
        let mut done = lock(&file.done);
        done.parts.append(&mut parts);
        done.units_left -= 1;
        if done.units_left == 0 && !self.stop.load(Ordering::Relaxed) {
            file.source.file.check_end()?;
            file.source.file.check_unchanged()?;
            let mut parts = std::mem::take(&mut done.parts);
            parts.sort_unstable_by_key(|part| part.start);
            hashed.push((file.index, HashedFile { len, stamp: file.source.file.stamp(), parts }));
            self.progress.tell(0, 1)?;
        }
        Ok(())
    }

    /// Hashes one long string with the help of whoever is idle.
    fn stream<'s>(&'s self, board: &Board<'s>, file: &Arc<LargeFile<'s>>, range: Range<u64>) -> Result<Taken, Error> {
        let (source, progress) = (Arc::clone(&file.source), self.progress);
        let all_in_order = file.tapped.is_some_and(|tapped| tapped.first() == source.file.len());
        let stream: Arc<dyn Stream + 's> = if self.algorithms.sequential() || all_in_order {
            Arc::new(Ordered::new(source, range, self.algorithms, self.groups, file.tapped, progress, &self.stop))
        } else {
            let parallel = Parallel::new(source, range, self.groups, self.cpu.threads, progress, &self.stop);
            if let Some(tapped) = file.tapped {
                parallel.begin(&tapped)?;
            }
            Arc::new(parallel)
        };
        {
            let mut shared = board.lock();
            shared.streams.push(Arc::clone(&stream));
            shared.taking -= 1;
        }
        board.notify();
        // A failed string stays on the board: whoever waits in it is woken when the failure is told.
        let taken = stream.own()?;
        board.lock().streams.retain(|other| !Arc::ptr_eq(other, &stream));
        board.notify();
        Ok(taken)
    }

    /// Digests of every shard of `bytes`, which begin at byte `at` of their file.
    fn parts_of(&self, bytes: &[u8], at: u64, shard: u64, parts: &mut Vec<Part>) {
        let whole_file = self.shard.is_none();
        let shards =
            if whole_file { vec![bytes] } else { bytes.chunks(usize::try_from(shard).unwrap_or(usize::MAX)).collect() };
        let mut start = at;
        for shard in shards {
            let end = start + shard.len() as u64;
            let Taken { digests, groups } = taken_of(self.algorithms, self.groups, shard);
            parts.push(Part { start, end, digests, groups });
            start = end;
        }
    }

    fn fail(&self, board: &Board<'_>, error: Error) {
        let mut shared = board.lock();
        shared.error.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        for stream in &shared.streams {
            stream.wake();
        }
        drop(shared);
        board.notify();
    }
}

/// Digests of bytes that lie in memory, and their groups.
fn taken_of(algorithms: Algorithms, groups: Option<GroupSize>, bytes: &[u8]) -> Taken {
    let mut taken = Taken::default();
    if algorithms.sequential() {
        let mut sequential = Sequential::new(algorithms);
        sequential.update(bytes);
        sequential.finish(&mut taken.digests);
    }
    if algorithms.has(Algorithm::Blake3) {
        take_blake3(bytes, groups, &mut taken);
    }
    taken
}

/// What a pass gives of a whole file, of bytes that are in memory instead.
pub(crate) fn part_of(bytes: &[u8], wanted: &Wanted<'_>) -> Part {
    let Taken { digests, groups } = taken_of(algorithms_for(wanted.algorithms, wanted.groups), wanted.groups, bytes);
    Part { start: 0, end: bytes.len() as u64, digests, groups }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Silent;
    use super::*;

    /// A string whose owner meets an error while a helper waits for room in the ring.
    #[test]
    fn a_helper_that_waits_is_woken_when_the_owner_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let len = 8 << 20;
        std::fs::write(&path, vec![7; len as usize]).unwrap();
        let jobs = [FileJob { path: path.clone(), size_hint: None, expected_len: None }];
        let cpu = Cpu { threads: 2, io: Io::Read };
        let algorithms = Algorithms::only(Algorithm::Sha256);
        let wanted = Wanted { algorithms, shard: None, groups: None, tap: None, look: None };
        let pool = Pool::new(&jobs, &wanted, cpu, &Silent);
        let board = Board::default();
        board.lock().taking = 1;
        let source = Arc::new(Source { map: None, file: OpenFile::open(&path).unwrap() });
        let large = Arc::new(LargeFile::new(0, Arc::clone(&source), None, None));
        // Past the end: the owner's first read fails.
        assert!(pool.stream(&board, &large, len..2 * len).is_err());
        assert_eq!(board.lock().streams.len(), 1, "the failed string stays where the failure finds it");

        let ring = Ordered::new(source, 0..len, pool.algorithms, None, None, &Silent, &pool.stop);
        let ring: Arc<dyn Stream + '_> = Arc::new(ring);
        board.lock().streams.push(Arc::clone(&ring));
        std::thread::scope(|scope| {
            // Nobody owns the string: the helper fills the ring and waits.
            let helper = scope.spawn(|| ring.assist(&|| false));
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!helper.is_finished());
            pool.fail(&board, DeviceError::Worker(DeviceKind::Cpu).into());
            helper.join().unwrap().unwrap();
        });
    }
}
