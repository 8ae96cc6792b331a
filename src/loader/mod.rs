//! From files into the memory of a device, where they stay locked until they are found to be what was signed.

mod fetch;

pub use fetch::ReadMode;
