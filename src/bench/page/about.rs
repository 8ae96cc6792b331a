//! What the numbers rest on: the machine, the devices, how it was measured, and what was not.

use super::super::report::{OfDevice, Reading, Skipped};
use super::super::{Report, doubts};
use super::markup::{Cell, Column, Html, stacked_table};
use super::number::{count, minutes, significant, size};
use super::what_name;

/// What a reader should know before the first number: each is a reason to believe one less.
pub(super) fn cautions(html: &mut Html, report: &Report) {
    let doubts = doubts(report);
    if !doubts.is_empty() {
        html.el("ul", &[("class", &"cautions")], |html| doubts.iter().for_each(|doubt| html.say("li", "", doubt)));
    }
}

/// Lines of devices that were measured, and devices that were not.
pub(super) fn skipped(html: &mut Html, report: &Report) {
    let row = |what: String, device: &str, why: &str| vec![Cell::text(what), Cell::text(device), Cell::text(why)];
    let mut rows = Vec::new();
    for device in &report.devices {
        let of = |skipped: &Skipped| format!("{}: {}", what_name(skipped.what), skipped.name);
        rows.extend(device.skipped.iter().map(|skipped| row(of(skipped), &device.device, &skipped.why)));
    }
    rows.extend(report.passed_over.iter().map(|over| row(format!("all of {}", over.name), &over.device, &over.why)));
    if rows.is_empty() {
        html.say("p", "note", "Nothing that was asked for was left out.");
    } else {
        let columns = [Column::Names("What"), Column::Names("Device"), Column::Names("Why")];
        stacked_table(html, "Not measured, and why", &columns, &rows);
    }
}

/// A term and what is known of it.
fn fact(html: &mut Html, term: &str, known: &str) {
    html.say("dt", "", term);
    html.el("dd", &[], |html| html.name(known));
}

pub(super) fn machine(html: &mut Html, report: &Report) {
    let (machine, asked) = (&report.machine, &report.settings);
    html.el("dl", &[("class", &"facts")], |html| {
        fact(html, "Program", &report.tool);
        fact(html, "Begun", &moment(&report.date));
        fact(html, "Took", &minutes(report.seconds));
        fact(html, "Processor", &machine.cpu);
        fact(html, "Logical processors", &count(machine.threads));
        fact(html, "Memory", &size(machine.memory));
        fact(html, "System", &machine.kernel);
        if let Some(guest) = machine.virtual_machine {
            fact(
                html,
                "Virtual machine",
                if guest { "yes: its host decides how much of a processor it gets" } else { "no" },
            );
        }
        if let Some(governor) = &machine.governor {
            fact(html, "Governor of clocks", governor);
        }
        fact(html, "Load average before", &significant(machine.load));
        if let Some(folder) = &machine.folder {
            fact(html, "Files in", &format!("{} ({})", folder.path, folder.file_system));
        }
        fact(html, "Counted repeats", &count(asked.repeats));
        fact(
            html,
            "Device memory used",
            &asked.most.map_or_else(|| "as much as fits".to_owned(), |most| format!("at most {}", size(most))),
        );
        fact(html, "Model on disk", &asked.file.map_or_else(|| "none: no files were measured".to_owned(), size));
        fact(html, "Threads", &asked.threads.map_or_else(|| "as many as there are".to_owned(), count));
    });
}

pub(super) fn devices(html: &mut Html, devices: &[OfDevice]) {
    let text = |text: &Option<String>| text.clone().map_or(Cell::Nothing, Cell::Text);
    let rows: Vec<_> = devices
        .iter()
        .map(|device| {
            let mut row = vec![
                Cell::text(device.device.clone()),
                Cell::text(device.name.clone()),
                device.memory.map_or(Cell::Nothing, |memory| Cell::number(memory, size(memory))),
                text(&device.driver),
                text(&device.capability),
                text(&device.kernel),
            ];
            for value in [clock, memory_clock, celsius, watts] {
                row.push(before_and_after(device, value));
            }
            row
        })
        .collect();
    let columns = [
        Column::Names("Device"),
        Column::Names("Name"),
        Column::Numbers("Memory"),
        Column::Names("Driver"),
        Column::Names("Can do"),
        Column::Names("Kernel"),
        Column::Names("Clock, MHz"),
        Column::Names("Memory clock, MHz"),
        Column::Names("°C"),
        Column::Names("W"),
    ];
    stacked_table(html, "Devices; clocks, temperature and power before → after", &columns, &rows);
}

fn clock(reading: &Reading) -> Option<f64> {
    reading.clock_mhz
}

fn memory_clock(reading: &Reading) -> Option<f64> {
    reading.memory_clock_mhz
}

fn celsius(reading: &Reading) -> Option<f64> {
    reading.celsius
}

fn watts(reading: &Reading) -> Option<f64> {
    reading.watts
}

fn before_and_after(device: &OfDevice, value: fn(&Reading) -> Option<f64>) -> Cell {
    let read = |reading: &Option<Reading>| reading.as_ref().and_then(value);
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), whole);
    match (read(&device.before), read(&device.after)) {
        (None, None) => Cell::text("not told"),
        (before, after) => Cell::text(format!("{} → {}", shown(before), shown(after))),
    }
}

/// Clocks are told in whole MHz: three digits of them would be fewer than the driver says.
fn whole(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 { format!("{value:.0}") } else { significant(value) }
}

/// `2026-11-22T21:50:36Z` as people write it, and whatever else as it is.
pub(super) fn moment(date: &str) -> String {
    match date.split_once('T') {
        Some((day, time)) if time.ends_with('Z') && time.len() >= 6 && time.is_ascii() => {
            format!("{day} {} UTC", &time[..5])
        }
        _ => date.to_owned(),
    }
}

pub(super) fn method(html: &mut Html) {
    for text in [
        "Each measurement is made once to warm up and then as often as asked for. The rate is that of the median time; ± is the median of the distances from it (MAD), which one slow run does not move. Each digest and each verdict is compared with what it must be, outside of the time that counts: a wrong one ends the run.",
        "A bound is derived, not measured, unless its basis says so: it is a rate that the device, its memory or the link to it cannot exceed. A share beyond 100 % means that a bound was measured too low, or counted at a clock that was exceeded.",
        "Warm: the file lies in the page cache. Cold: it was put out of it before each run, and comes from the disk. GB are 10^9 bytes; KiB, MiB and GiB are powers of 1024.",
        "What stands here was measured in this one run on this one machine. What could not be measured is listed with its reason, and has no number.",
    ] {
        html.say("p", "", text);
    }
}
