//! Headers of files of tensors: beside the readers of others, with each byte altered, and how much memory they take.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../../src/format/tests/build.rs"]
mod build;
#[path = "../common/mod.rs"]
mod common;
// The one exception of this program: an allocator is unsafe to write.
#[allow(unsafe_code)]
#[path = "../../fuzz/src/counting.rs"]
mod counting;

mod memory;
mod mutations;
mod peers;

use tensorseal::format::{Format, Header, HeaderFault};

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Reads the header of a whole file.
fn read(format: Format, file: &[u8]) -> Result<Header, HeaderFault> {
    let header = Header::of_bytes(format, file, file.len() as u64);
    assert!(!matches!(header, Err(HeaderFault::Short { .. })), "there is no more");
    header
}
