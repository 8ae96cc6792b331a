//! Where a model differs, as a person reads it.

use std::fmt::Write;

use tensorseal::outboard::{HeaderState, Located, Place, Touched};

use super::say::{self, reason};
use super::tell::{SHOWN, amount};

/// A table for each file.
pub(super) fn tell(all: &[Located]) {
    for located in all.iter().take(SHOWN) {
        reason("where", format_args!("{}, in groups of {}", say::name(&located.file), size(located.group)));
        table(&located.places).iter().for_each(|line| reason("", format_args!("  {line}")));
        remarks(located).iter().for_each(|line| reason("", format_args!("  {line}")));
    }
    if all.len() > SHOWN {
        reason("", format_args!("and {} (--json has all)", amount(all.len() - SHOWN, "more file", "more files")));
    }
}

/// What the table does not say.
fn remarks(of: &Located) -> Vec<String> {
    let mut lines = Vec::new();
    match &of.header {
        HeaderState::Differs => {
            lines.push(
                "the header is not as signed, or what lies in one piece with it: tensors are not known".to_owned(),
            );
        }
        HeaderState::Unreadable(why) => lines.push(format!("tensors are not known: {why}")),
        _ => {}
    }
    if of.compared < of.signed_len {
        let rest = format!("bytes {}..{} could not be compared", of.compared, of.signed_len);
        lines.push(if of.found_len < of.signed_len {
            format!("{rest}: the file ends at {}", of.found_len)
        } else {
            rest
        });
    }
    if of.found_len > of.signed_len {
        lines.push(format!("bytes {}..{} follow what was signed", of.signed_len, of.found_len));
    }
    if of.places.is_empty() && of.compared > 0 {
        lines.push(format!("the first {} are as signed", amount(of.compared as usize, "byte", "bytes")));
    }
    lines.extend(of.hindrance.clone());
    lines
}

/// One line for each thing that a place touches, below a line that says what is in the columns.
fn table(places: &[Place]) -> Vec<String> {
    if places.is_empty() {
        return Vec::new();
    }
    let known = places.iter().any(|place| !place.touches.is_empty());
    let titles = if known { ["what", "rows", "bytes of it"] } else { [""; 3] };
    let [what, rows, bytes] = titles.map(str::to_owned);
    let mut lines = vec![[what, rows, bytes, "bytes of the file".to_owned()]];
    let mut hidden = 0;
    for place in places {
        if lines.len() > SHOWN {
            hidden += 1;
            continue;
        }
        let file = format!("{}..{}", place.range.start, place.range.end);
        if place.touches.is_empty() {
            lines.push([String::new(), String::new(), String::new(), file]);
            continue;
        }
        let several = place.touches.len() > 1;
        for (i, touched) in place.touches.iter().take(SHOWN).enumerate() {
            let before = match (several, i) {
                (false, _) => "",
                (true, 0) => "one of ",
                (true, _) => "    or ",
            };
            let (what, rows, bytes) = match touched {
                Touched::Tensor(of) => {
                    let all = of.tensor.shape.first().copied().unwrap_or_default();
                    let rows = of.rows.as_ref().map(|rows| format!("{}..{} of {all}", rows.start, rows.end));
                    let bytes = format!("{}..{}", of.bytes.start, of.bytes.end);
                    (say::name(&of.tensor.name), rows.unwrap_or_default(), bytes)
                }
                Touched::Header => ("the header".to_owned(), String::new(), String::new()),
                _ => ("padding".to_owned(), String::new(), String::new()),
            };
            lines.push([format!("{before}{what}"), rows, bytes, if i == 0 { file.clone() } else { String::new() }]);
        }
        if place.touches.len() > SHOWN {
            let more = format!("    or {} more (--json has all)", place.touches.len() - SHOWN);
            lines.push([more, String::new(), String::new(), String::new()]);
        }
    }
    let mut text = aligned(&lines);
    if hidden > 0 {
        text.push(format!("and {} (--json has all)", amount(hidden, "more place", "more places")));
    }
    text
}

fn aligned(lines: &[[String; 4]]) -> Vec<String> {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |line: &[String; 4]| {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths).filter(|(_, width)| *width > 0) {
            // Into memory: nothing can fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text + &line[3]
    };
    lines.iter().map(line).collect()
}

/// `64 KiB`: groups are powers of two.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
