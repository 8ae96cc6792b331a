//! A CUDA driver for tests: it takes the calls that `libcuda.so.1` takes and interprets the PTX it is given.
//! `README.md` says what it models, what it does not, and how it is steered.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

// From the C callers inwards.
mod abi;
pub mod cufile;
pub mod exports;
pub mod harness;
pub mod nvml;

// The driver's objects.
mod driver;
mod error;
mod memory;

// A kernel: text, tree, program, run.
mod ptx;

mod decode;

mod exec;

#[cfg(test)]
mod tests;
