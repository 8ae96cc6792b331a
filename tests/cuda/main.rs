//! The CUDA engine on a driver that interprets the kernels (`tests/fakecuda`): devices, memory, order, failures.
//!
//! Digests of all kinds of strings are the business of the equivalence tests; here it is what surrounds them.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod choice;
mod cufile;
mod devices;
mod failures;
mod files;
mod load;
mod memory;
mod order;
mod resident;

use common::fakecuda::{is_child, must_pass};
use tensorseal::Digest;
use tensorseal::device::cuda::{Buffer, Cuda};
use tensorseal::device::{Backend, Hashed, Job, Want};
use tensorseal::digest::Algorithm;
use tensorseal::layout::{Extent, Layout};

/// The path of a test in this executable.
macro_rules! here {
    ($name:literal) => {
        concat!(module_path!(), "::", $name).split_once("::").unwrap().1
    };
}
pub(crate) use here;

/// Streams that do nothing before somebody waits, and those that do all at once.
const STREAMS: [&[(&str, &str)]; 2] = [&[("FAKECUDA_STREAMS", "lazy")], &[("FAKECUDA_STREAMS", "eager")]];

/// Whether this process is not the child that does what `test` is about. Then it has run those children, one for each
/// of `envs`, and they passed.
#[track_caller]
fn parent(test: &str, envs: &[&[(&str, &str)]]) -> bool {
    if is_child(test) {
        return false;
    }
    for env in envs {
        must_pass(test, env);
    }
    true
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| ((i ^ seed).wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
}

fn root(bytes: &[u8]) -> Hashed {
    Hashed::Root(Digest::new(Algorithm::Blake3, blake3::hash(bytes).as_bytes()).unwrap())
}

/// Queues an upload of all these bytes.
fn write(cuda: &Cuda, bytes: &[u8], to: &mut Buffer, at: u64) {
    let mut done = 0;
    while done < bytes.len() {
        let mut block = cuda.staging().unwrap();
        let len = block.as_mut().len().min(bytes.len() - done);
        block.as_mut()[..len].copy_from_slice(&bytes[done..done + len]);
        cuda.upload(block, len, to, at + done as u64).unwrap();
        done += len;
    }
}

/// A buffer with these bytes in it.
fn upload(cuda: &Cuda, bytes: &[u8]) -> Buffer {
    let mut buffer = cuda.alloc(bytes.len() as u64).unwrap();
    write(cuda, bytes, &mut buffer, 0);
    buffer
}

fn whole(buffer: &Buffer) -> Job<'_, Buffer> {
    Job { layout: Layout::whole(buffer).unwrap(), want: Want::Root }
}

fn part(buffer: &Buffer, at: u64, len: u64) -> Job<'_, Buffer> {
    Job { layout: Layout::new(vec![Extent::Range { buffer, at, len }]).unwrap(), want: Want::Root }
}

/// A string whose chunks are gathered: most of it straddles two ranges, or lies in rows of odd length.
fn scattered(buffer: &Buffer) -> Job<'_, Buffer> {
    let extents = vec![
        Extent::Range { buffer, at: 1, len: 1500 },
        Extent::Host(b"on the host"),
        Extent::Rows { buffer, at: 7, row: 333, stride: 400, rows: 20 },
    ];
    Job { layout: Layout::new(extents).unwrap(), want: Want::Root }
}

fn scattered_bytes(bytes: &[u8]) -> Vec<u8> {
    let rows = (0..20).flat_map(|nth| &bytes[7 + nth * 400..7 + nth * 400 + 333]);
    bytes[1..1501].iter().chain(b"on the host").chain(rows).copied().collect()
}
