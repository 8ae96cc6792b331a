//! Into memory that takes uploads: threads read into staging blocks, the thread that called uploads them, and the device
//! hashes behind the uploads, where the bytes will be used.
//!
//! The device's ring of blocks is what holds readers back. Each byte is read once. Digests that a device cannot take are
//! taken from the blocks, and BLAKE3 beside them, to be compared with what the device found.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::behind::{Behind, Sizes};
use super::locked::Found;
use super::turns::Turns;
use super::{Item, Run, strings};
use crate::device::cpu::{Algorithms, Digests};
use crate::device::file::{OpenFile, changed};
use crate::device::{Backend, DeviceError, DeviceKind};
use crate::error::Error;

/// Strings of which blocks are read in turn, where the host's digests of each have to wait for one another.
const LANES: usize = 4;

/// One block's worth of a file on its way.
struct Load<S> {
    block: S,
    len: usize,
    file: usize,
    text: usize,
    /// Where in the file it begins.
    at: u64,
    open: Arc<OpenFile>,
}

/// Reads each file into its buffer, which has the file's length, and takes the digests that are wanted. Results are in
/// the order of `items`.
///
/// # Errors
/// The first failure ends it.
pub(super) fn fill<B: Backend>(
    backend: &B,
    items: &[&Item],
    buffers: &mut [B::Buffer],
    algorithms: Algorithms,
    run: &Run<'_>,
    sizes: Sizes,
) -> Result<Vec<Vec<Found>>, Error> {
    let texts: Vec<Text> = items.iter().enumerate().flat_map(|(file, item)| Text::all(file, item, run)).collect();
    let host = algorithms.sequential();
    let turns = Turns::new(&texts.iter().map(|text| text.range.clone()).collect::<Vec<_>>(), algorithms, host);
    let blocks = backend.blocks().max(1);
    let threads = run.threads.min(blocks).max(1);
    let (orders, taken) = mpsc::channel();
    let (done, filled) = mpsc::channel();
    let (taken, kind) = (Mutex::new(taken), backend.kind());
    let values = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, reader) = (done.clone(), Reader { run, turns: &turns, taken: &taken, kind: &kind });
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || reader.thread(&done));
            // The first is not to be done without.
            thread.map_err(|_| DeviceError::Worker(kind.clone()))?;
        }
        drop(done);
        let behind = (algorithms != Algorithms::default()).then(|| Behind::new(backend, &texts, sizes));
        let mut uploads = Uploads { backend, items, buffers, run, behind, left: Vec::new(), lanes: VecDeque::new() };
        let values = uploads.all(&texts, if host { LANES } else { 1 }, blocks, orders, &filled);
        if values.is_err() {
            turns.stop();
        }
        values
    })?;
    let host = turns.finish().ok_or_else(|| DeviceError::NoResult { device: kind.clone() })?;
    let mut found: Vec<Vec<Found>> = items.iter().map(|_| Vec::new()).collect();
    for ((text, memory), read) in texts.into_iter().zip(values).zip(host) {
        found[text.file].push(Found { range: text.range, memory, read });
    }
    Ok(found)
}

/// A string.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) file: usize,
    /// Where in the file it lies.
    pub(super) range: std::ops::Range<u64>,
}

impl Text {
    pub(super) fn all(file: usize, item: &Item, run: &Run<'_>) -> impl Iterator<Item = Self> {
        strings(item.len, run.shard).map(move |range| Self { file, range })
    }
}

/// What a thread that reads shares with the others.
struct Reader<'a, S> {
    run: &'a Run<'a>,
    turns: &'a Turns,
    taken: &'a Mutex<Receiver<Load<S>>>,
    kind: &'a DeviceKind,
}

impl<S: AsMut<[u8]>> Reader<'_, S> {
    fn thread(&self, done: &Sender<Result<Load<S>, Error>>) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.loads(done)));
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => DeviceError::Worker(self.kind.clone()).into(),
        };
        self.turns.stop();
        // Nobody listens any more if another failure came first.
        let _ = done.send(Err(error));
    }

    fn loads(&self, done: &Sender<Result<Load<S>, Error>>) -> Result<(), Error> {
        let mut reader = self.run.read.reader()?;
        loop {
            let next = self.taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut load) = next else { return Ok(()) };
            self.run.check()?;
            let len = load.len;
            let to = load.block.as_mut().get_mut(..len).ok_or_else(|| DeviceError::Worker(self.kind.clone()))?;
            reader.read(&load.open, load.at, to, &mut |_| {})?;
            self.turns.take(load.text, load.at, to);
            self.run.progress.advance(len as u64, 0);
            if done.send(Ok(load)).is_err() {
                return Ok(());
            }
        }
    }
}

/// The side of the device.
struct Uploads<'a, B: Backend> {
    backend: &'a B,
    items: &'a [&'a Item],
    buffers: &'a mut [B::Buffer],
    run: &'a Run<'a>,
    /// Nothing is hashed if nothing is wanted.
    behind: Option<Behind<'a, B>>,
    /// Of each file that has been opened, the bytes to come.
    left: Vec<Option<(u64, Arc<OpenFile>)>>,
    /// Strings of which blocks are being read: which, and how far.
    lanes: VecDeque<(usize, u64)>,
}

impl<B: Backend> Uploads<'_, B> {
    #[allow(clippy::needless_pass_by_value, reason = "readers end when it is dropped")]
    fn all(
        &mut self,
        texts: &[Text],
        lanes: usize,
        blocks: usize,
        orders: Sender<Load<B::Staging>>,
        filled: &Receiver<Result<Load<B::Staging>, Error>>,
    ) -> Result<Vec<Digests>, Error> {
        self.left = self.items.iter().map(|_| None).collect();
        // Files without a byte are opened, too: they have to be there, and empty.
        for (index, _) in self.items.iter().enumerate().filter(|(_, item)| item.len == 0) {
            self.open(index)?;
            self.read(index, 0)?;
        }
        let worker = || Error::from(DeviceError::Worker(self.backend.kind()));
        let (worker, mut next, mut out) = (worker(), 0, 0);
        loop {
            self.run.check()?;
            while out < blocks {
                while self.lanes.len() < lanes && next < texts.len() {
                    if texts[next].range.is_empty() {
                        self.arrived(next, 0, 0)?;
                    } else {
                        self.lanes.push_back((next, texts[next].range.start));
                    }
                    next += 1;
                }
                let Some((text, at)) = self.lanes.pop_front() else { break };
                let Text { file, range } = &texts[text];
                let open = self.open(*file)?;
                // Whoever waits for a block holds none: others who load to this device may wait, too.
                let block = if out == 0 { Some(self.backend.staging()?) } else { self.backend.try_staging()? };
                let Some(mut block) = block else {
                    self.lanes.push_front((text, at));
                    break;
                };
                let len = (block.as_mut().len() as u64).min(range.end - at);
                if at + len < range.end {
                    self.lanes.push_back((text, at + len));
                }
                let load = Load { block, len: len as usize, file: *file, text, at, open };
                if len == 0 || orders.send(load).is_err() {
                    return Err(worker);
                }
                out += 1;
            }
            if out == 0 {
                break;
            }
            let Ok(load) = filled.recv() else { return Err(worker) };
            let Load { block, len, file, text, at, open } = load?;
            out -= 1;
            drop(open);
            self.backend.upload(block, len, &mut self.buffers[file], at)?;
            self.read(file, len as u64)?;
            self.arrived(text, at - texts[text].range.start, len as u64)?;
        }
        match self.behind.take() {
            Some(behind) => Ok(behind.finish(self.buffers)?),
            None => self.settle().map(|()| vec![Digests::default(); texts.len()]),
        }
    }

    /// Waits for the copies, where nothing else does.
    fn settle(&self) -> Result<(), Error> {
        for (buffer, item) in self.buffers.iter().zip(self.items).filter(|(_, item)| item.len > 0) {
            self.backend.download(buffer, item.len - 1..item.len)?;
        }
        Ok(())
    }

    fn arrived(&mut self, text: usize, at: u64, len: u64) -> Result<(), Error> {
        match &mut self.behind {
            Some(behind) => Ok(behind.arrived(self.buffers, text, at, len)?),
            None => Ok(()),
        }
    }

    fn open(&mut self, file: usize) -> Result<Arc<OpenFile>, Error> {
        if let Some((_, open)) = &self.left[file] {
            return Ok(Arc::clone(open));
        }
        let item = self.items[file];
        let open = Arc::new(OpenFile::open(&item.path)?);
        if open.len() != item.len {
            let how = format!("it had {} bytes when listed, and {} when opened", item.len, open.len());
            return Err(changed(&item.path, &how));
        }
        self.left[file] = Some((item.len, Arc::clone(&open)));
        Ok(open)
    }

    /// So many bytes more of a file have been read; after the last it must be as it was.
    fn read(&mut self, file: usize, len: u64) -> Result<(), Error> {
        let Some((left, open)) = &mut self.left[file] else { return Ok(()) };
        *left -= len;
        if *left == 0 {
            open.check_end()?;
            open.check_unchanged()?;
            // Closed, as nobody reads it any more.
            self.left[file] = None;
            self.run.progress.advance(0, 1);
        }
        Ok(())
    }
}
