//! Reports for machines, as they are printed. What stands in them is the library's: `src/report/json.rs`.

use serde_json::{Map, Value};
use tensorseal::report::json::Head;
#[cfg(feature = "sigstore-sign")]
pub(super) use tensorseal::report::json::identity;
pub(super) use tensorseal::report::json::{digests, error, insert, serialization, signing, verified as checked};

use super::Asked;
use super::exit::Exit;
use super::say::acts;

/// The head of every report.
pub(super) fn head(asked: &Asked<'_>, exit: Exit) -> Map<String, Value> {
    Head {
        command: asked.command,
        verdict: exit.verdict(),
        exit_code: exit.code(),
        model: asked.model,
        signature: asked.signature,
    }
    .into()
}

/// A report as it is printed.
pub(super) fn text(report: &Map<String, Value>) -> String {
    // A map of strings and numbers into a string: nothing can fail.
    tamed(&serde_json::to_string_pretty(report).unwrap_or_default()) + "\n"
}

/// The same in one line, without its end.
pub(super) fn line(report: &Map<String, Value>) -> String {
    tamed(&serde_json::to_string(report).unwrap_or_default())
}

/// JSON in which what a terminal would act on is escaped beyond what JSON asks for.
fn tamed(text: &str) -> String {
    let mut tame = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c != '\n' && acts(c) {
            // Such a character can only stand in a string.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| tame.push_str(&format!("\\u{unit:04x}")));
        } else {
            tame.push(c);
        }
    }
    tame
}
