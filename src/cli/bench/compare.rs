//! `bench --compare`.

use std::path::Path;

use serde_json::json;
use tensorseal::bench::report::Cache;
use tensorseal::bench::{ALARM, COMPARISON_SCHEMA, Compared, Comparison, FLOOR, Key, Verdict, compare, doubts};

use super::lines::{Edge, columns, name, percent, rate, sentence};
use crate::cli::exit::Exit;
use crate::cli::{Asked, json, printed, say, tell};

pub(super) fn run(asked: &Asked<'_>, before: &Path, after: &Path, fail_on_slower: bool) -> Exit {
    let both = super::read(asked, before).and_then(|old| Ok((old, super::read(asked, after)?)));
    let (old, new) = match both {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    for (report, path) in [(&old, before), (&new, after)] {
        for doubt in doubts(report) {
            say::warning(format_args!("{}: {doubt}", say::path(path)));
        }
    }
    let found = compare(&old, &new);
    for of in &found.apart {
        let (before, after) = (name(&of.before), name(&of.after));
        say::warning(format_args!("not the same {}: {before}, then {after}", name(&of.what)));
    }
    let told = found.lines.len() - found.count(Verdict::CannotBeTold);
    if told == 0 {
        let message = "no line of the two can be compared: nothing is known of what moved";
        say::warning(message);
        if fail_on_slower {
            return super::cannot(asked, "Bench:", "report", message);
        }
    }
    let slower = found.count(Verdict::Slower);
    let exit = if fail_on_slower && slower > 0 { Exit::No } else { Exit::Yes };
    if exit == Exit::No {
        let lines = tell::amount(slower, "measurement is", "measurements are");
        say::failure("Slower:", format_args!("{lines} slower beyond noise"));
    }
    let shown = if asked.json {
        let mut report = json::head(asked, exit);
        json::insert(&mut report, json!(found));
        json::insert(
            &mut report,
            json!({
                "schema": COMPARISON_SCHEMA,
                "before": {"path": before.to_string_lossy(), "date": old.date, "tool": old.tool},
                "after": {"path": after.to_string_lossy(), "date": new.date, "tool": new.tool},
                "floor": FLOOR,
                "alarm": ALARM,
            }),
        );
        if exit == Exit::No {
            let message = format!("{slower} measurements are slower beyond noise: see `lines`");
            json::insert(&mut report, json!({"error": {"kind": "slower", "message": message}}));
        }
        printed(&json::text(&report))
    } else {
        printed(&super::text(&table(&found)))
    };
    if shown == Exit::NoAnswer { shown } else { exit }
}

fn table(found: &Comparison) -> Vec<String> {
    const EDGES: [Edge; 6] = [Edge::Left, Edge::Right, Edge::Right, Edge::Right, Edge::Left, Edge::Right];
    let mut lines = Vec::new();
    let mut devices: Vec<&str> = found.lines.iter().map(|line| line.key.device.as_str()).collect();
    devices.dedup();
    for device in devices {
        lines.push(name(device));
        let mut rows = vec![["", "GB/s", "then", "change", "", "told from"].map(str::to_owned)];
        let of_device = || found.lines.iter().filter(|line| line.key.device == device);
        rows.extend(of_device().map(row));
        lines.extend(columns(2, 42, EDGES, &rows));
        for line in of_device() {
            let told = |why: &String| sentence(4, "", &format!("{}: {}", which(&line.key), name(why)));
            lines.extend(line.why.iter().flat_map(told));
        }
        lines.push(String::new());
    }
    for (when, keys) in [("before", &found.only_before), ("after", &found.only_after)] {
        for key in keys {
            lines.push(format!("only {when}: {}, {}", name(&key.device), which(key)));
        }
    }
    let count = |verdict| found.count(verdict);
    lines.push(format!(
        "{} slower, {} faster, {} within noise, {} that cannot be told",
        count(Verdict::Slower),
        count(Verdict::Faster),
        count(Verdict::WithinNoise),
        count(Verdict::CannotBeTold)
    ));
    lines
}

fn row(line: &Compared) -> [String; 6] {
    let sign = if line.change < 0.0 { "-" } else { "+" };
    [
        which(&line.key),
        rate(line.before),
        rate(line.after),
        format!("{sign}{}", percent(line.change.abs())),
        line.verdict.to_string(),
        line.least.map(percent).unwrap_or_default(),
    ]
}

/// A line within its device.
fn which(key: &Key) -> String {
    let mut which = format!("{} {}", key.what, name(&key.name));
    for part in [key.kernel.as_deref(), key.cache.map(|cache| if cache == Cache::Warm { "warm" } else { "cold" })] {
        which += &part.map(|part| format!(", {}", name(part))).unwrap_or_default();
    }
    which
}
