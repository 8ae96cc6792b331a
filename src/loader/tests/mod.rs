//! A device that fails where it is told to, and what is asked of the loader with it.

mod engine;
mod signed;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::device::cpu::{Memory, Ticket};
use crate::device::{Hashed, Job};
use crate::layout::{Buffer, Extent, Layout};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Staging,
    Alloc,
    Upload,
    Submit,
    Wait,
    Download,
}

const VERBS: [Verb; 6] = [Verb::Staging, Verb::Alloc, Verb::Upload, Verb::Submit, Verb::Wait, Verb::Download];

/// The CPU in the part of a device with memory of its own: small blocks full of rubbish, a call that fails, a copy that
/// reports success and changes one bit.
struct Planted {
    cpu: Cpu,
    block: usize,
    blocks: usize,
    fail: Option<(Verb, usize)>,
    /// The upload that changes a bit.
    flip: Option<usize>,
    counts: RefCell<[usize; 6]>,
    /// Buffers that exist.
    alive: Rc<Cell<usize>>,
    uploaded: Cell<u64>,
}

/// Memory that is counted.
struct Counted(Memory, Rc<Cell<usize>>);

impl Buffer for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn place(&self) -> u64 {
        self.0.place()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

impl Planted {
    fn new(block: usize) -> Self {
        Self {
            cpu: cpu(),
            block,
            blocks: 3,
            fail: None,
            flip: None,
            counts: RefCell::default(),
            alive: Rc::default(),
            uploaded: Cell::new(0),
        }
    }

    fn called(&self, verb: Verb) -> Result<(), DeviceError> {
        let count = &mut self.counts.borrow_mut()[verb as usize];
        *count += 1;
        if self.fail == Some((verb, *count)) { Err(planted()) } else { Ok(()) }
    }

    fn count(&self, verb: Verb) -> usize {
        self.counts.borrow()[verb as usize]
    }
}

fn planted() -> DeviceError {
    DeviceError::Driver { device: DeviceKind::Cuda(7), call: "planted", why: "planted".to_owned() }
}

impl Backend for Planted {
    type Staging = Vec<u8>;
    type Buffer = Counted;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(7)
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.called(Verb::Staging)?;
        Ok(vec![0xAA; self.block])
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn alloc(&self, len: u64) -> Result<Counted, DeviceError> {
        self.called(Verb::Alloc)?;
        self.alive.set(self.alive.get() + 1);
        Ok(Counted(self.cpu.alloc(len)?, Rc::clone(&self.alive)))
    }

    fn upload(&self, mut block: Vec<u8>, len: usize, to: &mut Counted, at: u64) -> Result<(), DeviceError> {
        self.called(Verb::Upload)?;
        self.uploaded.set(self.uploaded.get() + len as u64);
        if self.flip == Some(self.count(Verb::Upload)) {
            block[len / 2] ^= 1;
        }
        self.cpu.upload(block, len, &mut to.0, at)
    }

    fn submit(&self, jobs: &[Job<'_, Counted>], _after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        self.called(Verb::Submit)?;
        let mut plain = Vec::new();
        for job in jobs {
            let [Extent::Range { buffer, at, len }] = *job.layout.extents() else { panic!("one range") };
            let layout = Layout::new(vec![Extent::Range { buffer: &buffer.0, at, len }]).unwrap();
            plain.push(Job { layout, want: job.want });
        }
        self.cpu.submit(&plain, None)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        self.called(Verb::Wait)?;
        self.cpu.wait(ticket)
    }

    fn download(&self, from: &Counted, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.called(Verb::Download)?;
        self.cpu.download(&from.0, range)
    }
}

fn cpu() -> Cpu {
    Cpu::open(Settings { threads: NonZeroUsize::new(3), io: Io::Auto }).unwrap()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) ^ (i >> 9) ^ (seed * 7 + len)) as u8).collect()
}

#[derive(Default)]
struct Count(AtomicU64, AtomicU64);

impl Progress for Count {
    fn advance(&self, bytes: u64, files: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        self.1.fetch_add(files as u64, Ordering::Relaxed);
    }
}

fn run<'a>(shard: Option<u64>, threads: usize, cancel: &'a Cancel, progress: &'a dyn Progress) -> Run<'a> {
    let shard = shard.and_then(NonZeroU64::new);
    Run { model: Path::new("m"), shard, threads, read: ReadMode::Buffered, cancel, progress, storage: OnceLock::new() }
}
