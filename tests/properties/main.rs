//! What must hold of any model, any options and any length, on trees and strings that nobody chose by hand.
//!
//! `PROPTEST_CASES` sets how many are tried of each.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod engine;
mod oracle;
mod trees;

use proptest::test_runner::Config;

fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    // A failing case is printed whole; nothing is written into the checkout.
    Config { cases, failure_persistence: None, max_shrink_time: 20_000, ..Config::default() }
}
