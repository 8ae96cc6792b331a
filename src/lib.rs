//! Tensorseal signs and verifies machine-learning models.
// Tests may fail by panicking; the library may not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod source;

pub mod digest;
pub mod tree;
pub mod device;
mod measure;

pub mod manifest;
mod json;
pub mod statement;
pub mod envelope;
pub mod bundle;

pub mod key;
pub mod sign;
pub mod verify;
pub mod report;

pub mod error;
mod output;

pub use bundle::Bundle;
pub use device::{Device, DeviceKind};
pub use digest::{Algorithm, Digest};
pub use error::{Error, FormatError, VerifyError};
pub use manifest::{Difference, Manifest};
pub use report::Report;
pub use sign::{SignOptions, hash, sign};
pub use verify::{Verified, VerifyOptions, verify};
