//! From files into the memory of a device, where they stay locked until they are found to be what was signed.

mod alignment;
mod direct;
mod fetch;
#[cfg(feature = "io-uring")]
mod uring;

pub use fetch::ReadMode;
