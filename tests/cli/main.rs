//! The command line as its users meet it: whole outputs, exit codes, streams, files left behind.
//!
//! `snapshots/` holds transcripts: a command, what it wrote to standard output, what it wrote to standard error (behind
//! `| `), its exit code. After a change that is meant, `SNAPSHOTS=overwrite cargo test --test cli` writes them anew.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

#[path = "../../src/format/tests/build.rs"]
mod build;

mod bench;
mod calls;
mod checksums;
mod devices;
mod failures;
mod flags;
#[cfg(feature = "cuda")]
mod gpu;
mod inspect;
mod json;
mod passwords;
mod room;
mod snapshots;
mod streams;
