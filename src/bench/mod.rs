//! How fast this machine hashes, loads, signs and verifies: measured, with the digest asserted each time, beside what the
//! device could do at most and beside the other programs on the machine.
//!
//! What was measured is a [`Report`], the same for people, for machines (`docs/bench.md` has its schema) and as a page.

mod failure;
pub mod files;
pub mod machine;
pub mod peers;
pub mod report;
mod times;

pub use failure::Failure;
pub use report::Report;
pub use times::{NoTimes, Times};

use report::{Absent, Beside, Bound, Line, Skipped};

/// What has just been found, for whoever wants to see it before all is done.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A measurement.
    Line(&'a Line),
    /// Something that could not be measured.
    Skipped(&'a Skipped),
    /// A rate that cannot be exceeded.
    Bound(&'a Bound),
    /// Another program, beside ours.
    Beside(&'a Beside),
    /// A program that could not be measured.
    Absent(&'a Absent),
}
