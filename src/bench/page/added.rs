//! What hashing adds to a load of a model of its real size: a derived number, and called one.

use super::super::{Added, Adds, HashedAs, Loading, Report, adds};
use super::bars::cache_name;
use super::markup::{Cell, Column, Html, stacked_table};
use super::number::{percent, rate, seconds, size};

/// One table a device for which a rate of a model was measured.
pub(super) fn tables(html: &mut Html, report: &Report) {
    let adds = adds(report, None);
    let adds: Vec<&Adds<'_>> = adds.iter().filter(|adds| !adds.models.is_empty()).collect();
    if adds.is_empty() {
        return;
    }
    html.say("h3", "", "What hashing adds to a load, at most");
    html.say(
        "p",
        "note",
        "Derived from the rates above, for models of their real size: all of the model hashed where it lies, after a load that hashes nothing. A verified load hashes what is there while the rest is read, and adds less.",
    );
    for adds in adds {
        table(html, adds);
    }
}

fn table(html: &mut Html, adds: &Adds<'_>) {
    let rows: Vec<_> = adds.models.iter().map(row).collect();
    let columns = [
        Column::Names("Model"),
        Column::Numbers("Size"),
        Column::Numbers("Load"),
        Column::Numbers("Hashing"),
        Column::Numbers("Adds at most"),
    ];
    let by = match adds.by {
        Loading::Given { seconds: given } => format!("a load of {}", seconds(given)),
        Loading::Measured { bytes_per_second, cache } => {
            let from = cache.map(|cache| format!(", {}", cache_name(cache))).unwrap_or_default();
            format!("loads at {}, as measured here{from}", rate(bytes_per_second))
        }
        Loading::Assumed => "no load was measured: one at 3 GB/s, about what a good disk gives".to_owned(),
    };
    stacked_table(html, &format!("{}: {by}", adds.device.device), &columns, &rows);
    if adds.models.iter().any(|model| model.measured == HashedAs::OneString) {
        html.say(
            "p",
            "note",
            "* At the rate of one long string: not even a layer of it fitted into the memory that was used.",
        );
    }
}

fn row(added: &Added) -> Vec<Cell> {
    let star = if added.measured == HashedAs::OneString { " *" } else { "" };
    let share = added.hashing / added.loading.max(1e-9);
    vec![
        Cell::text(format!("{}{star}", added.family.name())),
        Cell::number(added.bytes, size(added.bytes)),
        Cell::number(added.loading, seconds(added.loading)),
        Cell::number(added.hashing, seconds(added.hashing)),
        Cell::number(share, percent(share)),
    ]
}
