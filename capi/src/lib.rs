//! Tensorseal for programs in C: see `include/tensorseal.h`.
//!
//! The order is that of a call: `abi.rs` has the functions of the header, `call.rs` what each of them begins and ends
//! with, `options.rs` what is asked for, `asked.rs` what that is in the library's types, `verbs.rs`, `lent.rs` and
//! `model.rs` the work, which is the library's.
// Tests may fail by panicking; the library may not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod abi;
mod asked;
mod call;
mod lent;
mod model;
mod options;
mod progress;
mod verbs;
