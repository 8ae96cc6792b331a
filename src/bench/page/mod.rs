//! A report as one page that needs nothing else: no script, no network, no font or picture of its own. A browser that shows HTML and
//! draws SVG shows all of it, on a phone, on a desk, in the dark and on paper.
//!
//! Each drawing has its numbers as a table under it.

mod about;
mod added;
mod bars;
mod beside;
mod curve;
mod markup;
mod number;
mod place;
mod scale;
mod stages;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Report;
use super::report::{BoundKind, Line, OfDevice, What};
use markup::{Cell, Column, Html, table};
use number::{count, gigabytes, percent, significant, size};

/// How the page looks. It is in the page, and the page's policy names its hash: no other style is applied, and nothing else is loaded
/// or run, whatever the names in a report may try.
const STYLE: &str = include_str!("style.css");

/// Whether a device had anything for a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Something,
    Nothing,
}

/// The report as a page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut html = Html::default();
    html.verbatim("<!DOCTYPE html>\n");
    html.el("html", &[("lang", &"en")], |html| {
        html.el("head", &[], |html| head(html, report));
        html.el("body", &[], |html| {
            html.el("header", &[], |html| {
                html.say("h1", "", "How fast models are hashed, loaded and verified");
                html.el("p", &[("class", &"note")], |html| {
                    html.text("on ");
                    html.name(if report.machine.cpu.is_empty() { "an unnamed processor" } else { &report.machine.cpu });
                    html.text(&format!(", {} · ", about::moment(&report.date)));
                    html.name(&report.tool);
                });
                about::cautions(html, report);
                headline(html, report);
            });
            html.el("main", &[], |html| body(html, report));
        });
    });
    html.finish()
}

fn head(html: &mut Html, report: &Report) {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(Sha256::digest(STYLE.as_bytes()))
    );
    html.void("meta", &[("charset", &"utf-8")]);
    html.void("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy)]);
    html.void("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", &"color-scheme"), ("content", &"light dark")]);
    html.void("meta", &[("name", &"referrer"), ("content", &"no-referrer")]);
    html.say(
        "title",
        "",
        &format!("Tensorseal bench, {}, {}", number::short(&report.machine.cpu, 80), about::moment(&report.date)),
    );
    html.el("style", &[], |html| html.verbatim(STYLE));
}

/// The one number of a device that people take away.
fn headline(html: &mut Html, report: &Report) {
    if report.devices.is_empty() {
        html.say("p", "note", "No device was measured.");
    }
    html.el("div", &[("class", &"cards")], |html| {
        for device in &report.devices {
            html.el("section", &[("class", &"card")], |html| card(html, device));
        }
    });
}

fn card(html: &mut Html, device: &OfDevice) {
    html.el("h2", &[], |html| html.name(&device.name));
    html.el("p", &[("class", &"note")], |html| html.name(&identity(device)));
    let of = |what: What| device.lines.iter().filter(move |line| line.what == what);
    let main = of(What::Size)
        .max_by_key(|line| line.bytes)
        .or_else(|| of(What::Digest).max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second)));
    let Some(line) = main else {
        let why = if device.lines.is_empty() {
            "Nothing was measured with it."
        } else {
            "No rate of hashing was measured with it."
        };
        html.say("p", "", why);
        return;
    };
    html.el("p", &[("class", &"figure")], |html| {
        html.el("span", &[("class", &"big")], |html| {
            html.data(&line.bytes_per_second, &gigabytes(line.bytes_per_second));
        });
        html.text(" GB/s");
    });
    let place = if line.what == What::Size { "in its memory" } else { "from a file" };
    let share = line
        .share
        .map(|share| format!(", {} of its {}", percent(share), bound_in_words(line.bound)))
        .unwrap_or_default();
    html.say("p", "", &format!("hashing {} {place}{share}", size(line.bytes)));
}

/// `cuda:0 · 80 GiB · driver 580.1 · sm_90 · kernel wide`
fn identity(device: &OfDevice) -> String {
    let mut parts = vec![device.device.clone()];
    parts.extend(device.memory.map(size));
    parts.extend(device.driver.as_ref().map(|driver| format!("driver {driver}")));
    parts.extend(device.capability.clone());
    parts.extend(device.kernel.as_ref().map(|kernel| format!("kernel {kernel}")));
    parts.join(" · ")
}

fn body(html: &mut Html, report: &Report) {
    let devices = &report.devices;
    let across = curve::across(devices);
    section(html, "Rate against size", |html| match across {
        None => html.say("p", "note", "No size was measured."),
        Some(bytes) => {
            html.say("p", "note", "Both axes are logarithmic. Each device has its own axis of rates.");
            curve::key(html, devices);
            panels(html, devices, |html, device| curve::panel(html, bytes, device));
        }
    });
    section(html, "Models in memory", |html| {
        html.say(
            "p",
            "note",
            "The tensors of well-known models, each a string of its own, in one submit. The mark is the bound.",
        );
        panels(html, devices, |html, device| {
            bars::panel(html, device, "models in memory", |line| line.what == What::Model)
        });
        added::tables(html, report);
    });
    section(html, "Files", |html| {
        html.say("p", "note", "Copied to the device, read from disk, loaded, signed and verified. The mark is the bound, where one is known.");
        panels(html, devices, |html, device| bars::panel(html, device, "files", of_files));
    });
    section(html, "Where the time of a verified load goes", |html| {
        panels(html, devices, stages::panel);
    });
    section(html, "Beside other programs on this machine", |html| match &report.peers {
        Some(peers) => beside::section(html, peers),
        None => html.say("p", "note", "Not asked for."),
    });
    section(html, "Other layouts and kernels", |html| {
        html.say(
            "p",
            "note",
            "Strings that begin at odd places, rows at a stride, many short strings, and each kernel of the device.",
        );
        panels(html, devices, |html, device| bars::panel(html, device, "other layouts and kernels", of_layouts));
    });
    section(html, "What was not measured", |html| about::skipped(html, report));
    section(html, "Machine", |html| {
        about::machine(html, report);
        if !devices.is_empty() {
            about::devices(html, devices);
        }
    });
    section(html, "How it was measured", about::method);
}

fn of_files(line: &Line) -> bool {
    matches!(line.what, What::Upload | What::Digest | What::Load | What::VerifiedLoad | What::Sign | What::Verify)
}

/// Whatever no other section shows: nothing is left out in silence.
fn of_layouts(line: &Line) -> bool {
    !matches!(line.what, What::Size | What::Model) && !of_files(line)
}

fn section(html: &mut Html, title: &str, inside: impl FnOnce(&mut Html)) {
    html.el("section", &[], |html| {
        html.say("h2", "", title);
        inside(html);
    });
}

/// A panel a device, and a sentence on those that have nothing to show.
fn panels(html: &mut Html, devices: &[OfDevice], draw: impl Fn(&mut Html, &OfDevice) -> Drawn) {
    let mut without = Vec::new();
    html.el("div", &[("class", &"panels")], |html| {
        for device in devices {
            // Drawn before it is known whether there is anything: the heading comes with it.
            let mark = html.mark();
            let mut drawn = Drawn::Nothing;
            html.el("figure", &[], |html| {
                html.el("figcaption", &[], |html| {
                    html.name(number::short(&device.name, 80).as_str());
                    html.el("small", &[], |html| html.name(&device.device));
                });
                drawn = draw(html, device);
            });
            if drawn == Drawn::Nothing {
                html.back_to(mark);
                without.push(device.device.as_str());
            }
        }
    });
    if devices.is_empty() || !without.is_empty() {
        let of = if without.is_empty() { String::new() } else { format!(" with {}", without.join(", ")) };
        html.say("p", "note", &format!("Nothing of this was measured{of}."));
    }
}

/// Lines as a table: all of what was measured.
fn lines_table<'a>(html: &mut Html, caption: &str, lines: impl Iterator<Item = &'a Line>) {
    let rows: Vec<_> = lines.map(line_row).collect();
    if rows.is_empty() {
        return;
    }
    let columns = [
        Column::Names("What"),
        Column::Names("Which"),
        Column::Names("From"),
        Column::Numbers("Size"),
        Column::Numbers("Strings"),
        Column::Numbers("GB/s"),
        Column::Numbers("Of bound"),
        Column::Names("Bound"),
        Column::Numbers("Median, s"),
        Column::Numbers("±"),
        Column::Numbers("Fastest, s"),
        Column::Numbers("Slowest, s"),
        Column::Numbers("Runs"),
    ];
    table(html, caption, &columns, &rows);
}

fn line_row(line: &Line) -> Vec<Cell> {
    let times = &line.times;
    let spread = if times.median() > 0.0 { times.spread() / times.median() } else { 0.0 };
    let which = line.kernel.as_ref().map_or_else(|| line.name.clone(), |kernel| format!("{}, {kernel}", line.name));
    vec![
        Cell::text(what_name(line.what)),
        Cell::text(if line.at > 0 { format!("{which}, from byte {}", line.at) } else { which }),
        Cell::text(line.cache.map_or("–", bars::cache_name)),
        Cell::number(line.bytes, size(line.bytes)),
        Cell::number(line.strings, count(line.strings)),
        Cell::number(line.bytes_per_second, gigabytes(line.bytes_per_second)),
        line.share.map_or(Cell::Nothing, |share| Cell::number(share, percent(share))),
        Cell::text(line.bound.map_or("–", bound_name)),
        Cell::number(times.median(), significant(times.median())),
        Cell::number(spread, percent(spread)),
        Cell::number(times.fastest(), significant(times.fastest())),
        Cell::number(times.slowest(), significant(times.slowest())),
        Cell::number(times.seconds().len(), count(times.seconds().len())),
    ]
}

fn bound_name(kind: BoundKind) -> &'static str {
    match kind {
        BoundKind::Instructions => "instructions",
        BoundKind::Memory => "memory",
        BoundKind::Link => "link",
        BoundKind::Disk => "disk",
        BoundKind::PageCache => "page cache",
    }
}

/// Behind a share: `87 % of instruction bound`.
fn bound_in_words(kind: Option<BoundKind>) -> &'static str {
    match kind {
        None => "bound",
        Some(BoundKind::Instructions) => "instruction bound",
        Some(BoundKind::Memory) => "memory bound",
        Some(BoundKind::Link) => "link",
        Some(BoundKind::Disk) => "disk",
        Some(BoundKind::PageCache) => "page cache",
    }
}

fn what_name(what: What) -> &'static str {
    match what {
        What::Size => "One string",
        What::Alignment => "One string, shifted",
        What::Rows => "Rows",
        What::Small => "Short strings",
        What::Kernel => "Kernel",
        What::Model => "Model",
        What::Upload => "To the device",
        What::Digest => "Digest of a file",
        What::Load => "Load, no check",
        What::VerifiedLoad => "Verified load",
        What::Sign => "Sign",
        What::Verify => "Verify",
    }
}
