#![doc = include_str!("../README.md")]
// Tests may fail by panicking; the library may not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::single_range_in_vec_init))]

#[cfg(not(target_os = "linux"))]
compile_error!("tensorseal runs on Linux only so far: its engine relies on read leases and MADV_POPULATE_READ");

pub mod source;

pub mod format;

pub mod device;
pub mod digest;
pub mod layout;
mod measure;
pub mod tree;

pub mod outboard;

pub mod bundle;
pub mod envelope;
mod json;
pub mod manifest;
pub mod statement;
pub mod tensors;

pub mod time;

#[cfg(feature = "sigstore-sign")]
pub mod net;

pub mod key;
pub mod x509;

#[cfg(feature = "sigstore-verify")]
pub mod timestamp;
#[cfg(feature = "sigstore-verify")]
pub mod trust;

pub mod report;
pub mod resident;
pub mod seal;
pub mod sign;

pub mod loader;
pub mod verify;

pub mod policy;
pub mod receipt;

pub mod method;

pub mod selftest;

pub mod bench;

pub mod error;
mod input;
mod output;

pub use bundle::Bundle;
pub use device::{Device, DeviceKind};
pub use digest::{Algorithm, Digest};
pub use error::{Error, FormatError, VerifyError};
pub use manifest::{Difference, Manifest};
pub use policy::{Policy, verify_with_policy};
pub use report::Report;
pub use resident::{Measured, digest_resident, sign_resident, verify_resident};
pub use sign::{SignOptions, hash, sign};
pub use verify::{Verified, VerifyOptions, verify};
