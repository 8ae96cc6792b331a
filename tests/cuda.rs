//! The CUDA engine on a driver that interprets the kernels (`tests/fakecuda`): devices, memory, order, failures.
//!
//! Digests of all kinds of strings are the business of the equivalence tests; here it is what surrounds them.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::fakecuda::{is_child, must_pass};
use tensorseal::Digest;
use tensorseal::device::cuda::{Buffer, Cuda, Settings};
use tensorseal::device::{Backend, Hashed, Job, Want};
use tensorseal::digest::Algorithm;
use tensorseal::layout::{Extent, Layout};

/// Runs the body of `$name` in children, once for each of `$envs`.
macro_rules! on_the_driver {
    ($name:expr, $($envs:expr),+) => {
        if !is_child($name) {
            $(must_pass($name, &$envs);)+
            return;
        }
    };
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| ((i ^ seed).wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
}

fn root(bytes: &[u8]) -> Hashed {
    Hashed::Root(Digest::new(Algorithm::Blake3, blake3::hash(bytes).as_bytes()).unwrap())
}

/// A buffer with these bytes in it.
fn upload(cuda: &Cuda, bytes: &[u8]) -> Buffer {
    let mut buffer = cuda.alloc(bytes.len() as u64).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        let mut block = cuda.staging().unwrap();
        let len = block.as_mut().len().min(bytes.len() - at);
        block.as_mut()[..len].copy_from_slice(&bytes[at..at + len]);
        cuda.upload(block, len, &mut buffer, at as u64).unwrap();
        at += len;
    }
    buffer
}

fn whole(buffer: &Buffer) -> Job<'_, Buffer> {
    Job { layout: Layout::whole(buffer).unwrap(), want: Want::Root }
}

#[test]
fn a_string_on_the_device_has_its_digest() {
    on_the_driver!("a_string_on_the_device_has_its_digest", [], [("FAKECUDA_STREAMS", "eager")]);
    let start = std::time::Instant::now();
    let cuda = Cuda::open(0).unwrap();
    eprintln!("open {:?}", start.elapsed());
    let bytes = pattern(300_000, 1);
    let buffer = upload(&cuda, &bytes);
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
    assert_eq!(cuda.download(&buffer, 5..100_005).unwrap(), &bytes[5..100_005]);
}
