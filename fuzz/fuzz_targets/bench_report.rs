//! Any bytes as a report of `bench`: what is written of it is read again, and a page of it has no script.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorseal::bench::{Report, adds, compare, doubts, page};

fuzz_target!(|data: &[u8]| {
    let report = match Report::parse(data) {
        Ok(report) => report,
        Err(fault) => {
            let said = fault.to_string();
            assert!(!said.contains('\n') && said.len() < 100_000, "{said}");
            return;
        }
    };
    let written = serde_json::to_vec(&report).expect("a report is JSON");
    let again = Report::parse(&written).expect("what was written is read");
    // All that is made of it ends, and the page has nothing that acts.
    let _ = (adds(&report, None), adds(&report, Some(30.0)), doubts(&report), compare(&report, &again));
    assert!(!page(&report).to_lowercase().contains("<script"), "a script");
});
