//! How fast this machine hashes, loads, signs and verifies: measured, with the digest asserted each time, beside what the
//! device could do at most and beside the other programs on the machine.
//!
//! What was measured is a [`Report`], the same for people, for machines (`docs/bench.md` has its schema) and as a page.

#[doc(hidden)]
pub mod inside;
pub mod report;
mod times;

pub use report::Report;
pub use times::{NoTimes, Times};
