//! Tensorseal signs and verifies machine-learning models.
// Tests may fail by panicking; the library may not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod digest;
pub mod key;
pub mod source;

pub use digest::{Algorithm, Digest};
