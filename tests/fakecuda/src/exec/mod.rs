//! Runs kernels: blocks on the threads of this machine, warps of a block one after the other up to each barrier,
//! the 32 lanes of a warp together or, if asked for, one by one.

mod arithmetic;
mod bits;
mod control;
mod copies;
mod memory;
mod registers;
mod warp;

use crate::decode::Program;
use crate::error::{Code, LAUNCH_FAILED};
use crate::memory::Allocation;
use crate::ptx::SHARED_START;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use warp::Warp;

/// Which of the orders that CUDA allows is taken. Code that is right gives the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The lanes of a warp together, warps first to last, asynchronous copies landing at their wait.
    Lockstep,
    /// One lane at a time from one warp barrier to the next: finds a missing `__syncwarp`.
    Serial,
    /// Warps last to first, asynchronous copies landing when they are issued: finds a missing `__syncthreads`, and
    /// a copy into a tile that is still read.
    Adverse,
}

/// A launch: everything that the blocks share.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Program,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    /// Dynamic shared memory, in bytes.
    pub(crate) shared: u32,
    pub(crate) parameters: &'a [u8],
    /// What may be read and written, by address.
    pub(crate) memory: &'a [Arc<Allocation>],
    pub(crate) order: Order,
}

/// Why a kernel stopped: the error that the next synchronising call returns, and what a person should know.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Runs a kernel to its end.
///
/// # Errors
///
/// The first fault that a block met.
pub(crate) fn run(launch: &Launch<'_>) -> Result<(), Fault> {
    let blocks: u64 = launch.grid.iter().map(|size| u64::from(*size)).product();
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let fault = Mutex::new(None);
    let work = || {
        let mut runner = Block::new(launch);
        while !stopped.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= blocks {
                return;
            }
            if let Err(found) = runner.run(number) {
                stopped.store(true, Ordering::Relaxed);
                fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(blocks);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// One block at a time, with the memory for it, which the next block reuses.
struct Block<'a> {
    launch: &'a Launch<'a>,
    warps: Vec<Warp>,
    room: Room<'a>,
}

/// What the warps of a block share.
struct Room<'a> {
    launch: &'a Launch<'a>,
    /// Shared memory from [`SHARED_START`] on.
    shared: Vec<u8>,
    /// The allocation that the last access fell into: mostly also that of the next.
    recent: usize,
}

impl<'a> Block<'a> {
    fn new(launch: &'a Launch<'a>) -> Self {
        let threads: u32 = launch.block.iter().product();
        let warps = (0..threads.div_ceil(32)).map(|number| Warp::new(number, launch)).collect();
        let bytes = launch.program.kernel.static_shared + launch.shared;
        let room = Room { launch, shared: vec![0; bytes as usize], recent: 0 };
        Self { launch, warps, room }
    }

    fn run(&mut self, number: u64) -> Result<(), Fault> {
        let [x, y, _] = self.launch.grid.map(u64::from);
        let place = [number % x, number / x % y, number / x / y].map(|axis| axis as u32);
        self.room.shared.fill(0xAA);
        self.warps.iter_mut().for_each(|warp| warp.start(self.launch, place));
        loop {
            let last_first = self.launch.order == Order::Adverse;
            for at in 0..self.warps.len() {
                let at = if last_first { self.warps.len() - 1 - at } else { at };
                let warp = &mut self.warps[at];
                warp.run(&mut self.room).map_err(|fault| {
                    let Fault { code, message } = fault;
                    Fault { code, message: format!("block {place:?}, {message}") }
                })?;
            }
            // Every warp has ended or stands at the barrier of the block.
            let mut waiting = false;
            for warp in &mut self.warps {
                waiting |= warp.pass_block_barrier();
            }
            if !waiting {
                return Ok(());
            }
        }
    }
}

impl Room<'_> {
    /// Where the shared address `address` lies in `shared`, if all of `bytes` are inside.
    fn in_shared(&self, address: u64, bytes: u64) -> Option<usize> {
        let at = address.checked_sub(u64::from(SHARED_START))?;
        let end = at.checked_add(bytes)?;
        (end <= self.shared.len() as u64).then_some(at as usize)
    }

    /// Which of the launch's allocations holds all of `bytes` bytes from `address`.
    #[inline]
    fn allocation(&mut self, address: u64, bytes: u64) -> Option<usize> {
        let all = self.launch.memory;
        if !all.get(self.recent).is_some_and(|recent| recent.holds(address, bytes)) {
            let after = all.partition_point(|allocation| allocation.start() <= address);
            self.recent = after.checked_sub(1).filter(|&at| all[at].holds(address, bytes))?;
        }
        Some(self.recent)
    }
}

/// A warp that meets a rule of CUDA that it breaks.
fn broken(message: impl Into<String>) -> Fault {
    Fault::new(LAUNCH_FAILED, message)
}
