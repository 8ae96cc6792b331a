//! Straight into the memory that the weights are used from, where that is the host's.
//!
//! All threads take slabs of all files, in order: read one into its place, and take its digests from there. BLAKE3 values
//! come in any order. SHA-256 and BLAKE2b need their slabs in order: whoever brings the one that is next hashes it, and
//! all that wait behind it, while the others go on reading.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::hazmat::HasherExt;

use super::locked::Found;
use super::{Item, Run, strings};
use crate::device::cpu::sequential::Sequential;
use crate::device::cpu::{Algorithms, Digests};
use crate::device::file::{OpenFile, changed};
use crate::device::{DeviceError, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::tree::{ChainingValue, GroupSize, Tree};

/// Strings up to here are read and hashed at once.
const WHOLE: u64 = 1 << 20;

/// Bytes in a slab.
const SLAB: u64 = 4 << 20;

/// The same where digests wait for one another: still in a core's cache when its turn comes.
const ORDERED_SLAB: u64 = 1 << 20;

/// Reads each file into its place, which has the file's length, and takes all of `algorithms` from there. Results are in
/// the order of `files`.
///
/// # Errors
/// The first failure stops everybody.
pub(super) fn fill(
    files: Vec<(&Item, &mut [u8])>,
    algorithms: Algorithms,
    run: &Run<'_>,
) -> Result<Vec<Vec<Found>>, Error> {
    let bytes: u64 = files.iter().map(|(item, _)| item.len).sum();
    let useful = usize::try_from(bytes >> 20).unwrap_or(usize::MAX).saturating_add(files.len() / 32).saturating_add(1);
    let threads = run.threads.min(useful);
    let work = Work::new(files, algorithms, run);
    std::thread::scope(|scope| {
        // A thread that cannot be started is one less; this one works in any case.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, || work.thread()).ok();
        let threads: Vec<_> = (1..threads).map_while(start).collect();
        work.thread();
        for thread in threads {
            if thread.join().is_err() {
                work.fail(DeviceError::Worker(DeviceKind::Cpu).into());
            }
        }
    });
    work.finish()
}

struct Work<'a, 'r> {
    queue: Mutex<Queue<'a>>,
    files: Vec<File<'a>>,
    texts: Vec<Text<'a>>,
    algorithms: Algorithms,
    run: &'r Run<'r>,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
}

/// A file, open from its first slab to its last.
struct File<'a> {
    item: &'a Item,
    open: Mutex<Option<Arc<OpenFile>>>,
    /// Bytes that have not been read.
    left: AtomicU64,
    /// Its strings.
    texts: Range<usize>,
}

/// A string.
struct Text<'a> {
    /// Where in the file it lies.
    range: Range<u64>,
    slab: u64,
    blake3: Mutex<Blake3>,
    order: Mutex<Order<'a>>,
}

#[derive(Default)]
struct Blake3 {
    /// Values of slabs, by where in the string they begin.
    values: Vec<(u64, ChainingValue)>,
    /// Of a string that is one slab.
    whole: Option<Digest>,
}

/// What must see a string's slabs in order.
#[derive(Default)]
struct Order<'a> {
    /// Where in the string the next slab begins.
    next: u64,
    /// Slabs that came too early, or while somebody hashes.
    waiting: BTreeMap<u64, &'a [u8]>,
    busy: bool,
    state: Option<Sequential>,
}

/// Slabs that nobody has taken.
struct Queue<'a> {
    /// The next file comes last.
    files: Vec<(usize, &'a mut [u8])>,
    /// The file that is being cut: the string that is, how far the file was, and what is left of it.
    current: Option<(usize, usize, u64, &'a mut [u8])>,
}

struct Slab<'a> {
    file: usize,
    /// None for an empty file under shards.
    text: Option<usize>,
    /// Where in the file it begins.
    at: u64,
    to: &'a mut [u8],
}

impl<'a> Queue<'a> {
    fn next(&mut self, files: &[File<'a>], texts: &[Text<'a>]) -> Option<Slab<'a>> {
        let (file, text, at, left) = match self.current.take() {
            Some(current) => current,
            None => {
                let (file, to) = self.files.pop()?;
                (file, files[file].texts.start, 0, to)
            }
        };
        if !files[file].texts.contains(&text) {
            return Some(Slab { file, text: None, at, to: left });
        }
        let range = &texts[text].range;
        let len = (range.end - at).min(texts[text].slab).min(left.len() as u64);
        let (to, left) = left.split_at_mut(len as usize);
        let end = at + len;
        if !left.is_empty() {
            self.current = Some((file, text + usize::from(end == range.end), end, left));
        }
        Some(Slab { file, text: Some(text), at, to })
    }
}

impl<'a, 'r> Work<'a, 'r> {
    fn new(places: Vec<(&'a Item, &'a mut [u8])>, algorithms: Algorithms, run: &'r Run<'r>) -> Self {
        let (mut files, mut texts, mut queue) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (item, to)) in places.into_iter().enumerate() {
            let first = texts.len();
            texts.extend(strings(item.len, run.shard).map(|range| Text::new(range, algorithms)));
            let left = AtomicU64::new(item.len);
            files.push(File { item, open: Mutex::default(), left, texts: first..texts.len() });
            queue.push((index, to));
        }
        // The largest first: no long string is begun when the others are done.
        queue.sort_by_key(|(index, to)| (to.len(), std::cmp::Reverse(*index)));
        let queue = Mutex::new(Queue { files: queue, current: None });
        Self { queue, files, texts, algorithms, run, stop: AtomicBool::new(false), error: Mutex::default() }
    }

    fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn thread(&self) {
        match catch_unwind(AssertUnwindSafe(|| self.slabs())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(_) => self.fail(DeviceError::Worker(DeviceKind::Cpu).into()),
        }
    }

    fn slabs(&self) -> Result<(), Error> {
        let mut reader = self.run.read.reader()?;
        while !self.stop.load(Ordering::Relaxed) {
            self.run.check()?;
            let slab = lock(&self.queue).next(&self.files, &self.texts);
            let Some(Slab { file: index, text, at, to }) = slab else { break };
            let (file, len) = (self.open(index)?, to.len() as u64);
            let text = text.map(|text| &self.texts[text]);
            let hashed = text.filter(|_| self.algorithms.has(Algorithm::Blake3));
            let mut hasher = hashed.map(|text| text.hasher(at, len));
            reader.read(&file, at, to, &mut |piece| {
                hasher.iter_mut().for_each(|hasher| _ = hasher.update(piece));
            })?;
            hashed.zip(hasher).into_iter().for_each(|(text, hasher)| text.take(at, len, &hasher));
            let left = self.files[index].left.fetch_sub(len, Ordering::AcqRel) - len;
            if left == 0 {
                file.check_end()?;
                file.check_unchanged()?;
                // Others may still hold it for a moment; nobody will ask for it again.
                lock(&self.files[index].open).take();
            }
            if let Some(text) = text.filter(|_| self.algorithms.sequential()) {
                self.in_order(text, at, to)?;
            }
            self.run.progress.advance(len, usize::from(left == 0));
        }
        Ok(())
    }

    /// The file, opened by whoever comes first.
    fn open(&self, index: usize) -> Result<Arc<OpenFile>, Error> {
        let file = &self.files[index];
        let mut open = lock(&file.open);
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(OpenFile::open(&file.item.path)?);
        if opened.len() != file.item.len {
            let how = format!("it had {} bytes when listed, and {} when opened", file.item.len, opened.len());
            return Err(changed(&file.item.path, &how));
        }
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Hashes a slab and those that wait behind it, if it is its turn and nobody else is at it; or leaves it there.
    fn in_order(&self, text: &Text<'a>, at: u64, bytes: &'a [u8]) -> Result<(), Error> {
        let mut order = lock(&text.order);
        order.waiting.insert(at - text.range.start, bytes);
        if order.busy {
            return Ok(());
        }
        while let Some(bytes) = {
            let next = order.next;
            order.waiting.remove(&next)
        } {
            let Some(mut state) = order.state.take() else { break };
            order.busy = true;
            drop(order);
            state.update(bytes);
            self.run.check()?;
            order = lock(&text.order);
            order.state = Some(state);
            order.next += bytes.len() as u64;
            order.busy = false;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Vec<Found>>, Error> {
        if let Some(error) = self.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let none = || DeviceError::NoResult { device: DeviceKind::Cpu };
        if self.files.iter().any(|file| file.left.load(Ordering::Acquire) > 0) {
            return Err(none().into());
        }
        let mut texts = self.texts.into_iter();
        let mut found = Vec::new();
        for file in &self.files {
            let of_file = texts.by_ref().take(file.texts.len());
            let of_file = of_file.map(|text| text.finish(self.algorithms)).collect::<Option<_>>();
            found.push(of_file.ok_or_else(none)?);
        }
        Ok(found)
    }
}

impl Text<'_> {
    fn new(range: Range<u64>, algorithms: Algorithms) -> Self {
        let len = range.end - range.start;
        let most = GroupSize::at_most(if algorithms.sequential() { ORDERED_SLAB } else { SLAB });
        let slab = if len <= WHOLE { len } else { Tree::new(len, most).group().bytes() };
        let state = algorithms.sequential().then(|| Sequential::new(algorithms));
        let order = Mutex::new(Order { state, ..Order::default() });
        Self { range, slab, blake3: Mutex::default(), order }
    }

    const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// For the slab at byte `at` of the file.
    fn hasher(&self, at: u64, len: u64) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        if len < self.len() {
            hasher.set_input_offset(at - self.range.start);
        }
        hasher
    }

    fn take(&self, at: u64, len: u64, hasher: &blake3::Hasher) {
        if len < self.len() {
            let value = hasher.finalize_non_root();
            lock(&self.blake3).values.push((at - self.range.start, value));
        } else {
            let digest = Digest::of32(Algorithm::Blake3, *hasher.finalize().as_bytes());
            lock(&self.blake3).whole = Some(digest);
        }
    }

    /// `None` if a digest is missing: never a result then.
    fn finish(self, algorithms: Algorithms) -> Option<Found> {
        let len = self.len();
        let mut memory = Digests::default();
        if algorithms.has(Algorithm::Blake3) {
            let mut of = self.blake3.into_inner().unwrap_or_else(PoisonError::into_inner);
            of.values.sort_unstable_by_key(|(at, _)| *at);
            let values: Vec<ChainingValue> = of.values.iter().map(|(_, value)| *value).collect();
            let root = || Tree::new(len, GroupSize::at_most(self.slab)).root(&values);
            memory.set(of.whole.or_else(root)?);
        }
        if algorithms.sequential() {
            let order = self.order.into_inner().unwrap_or_else(PoisonError::into_inner);
            order.state.filter(|_| order.next == len)?.finish(&mut memory);
        }
        Some(Found { range: self.range, memory, read: Digests::default() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
