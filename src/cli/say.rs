//! What people read: standard error for the story, standard output for the result.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use tensorseal::report::{Note, Report};
use tensorseal::sign::Hashed;

use super::args::LogLevel;

const YES: Style = AnsiColor::Green.on_default().bold();
const NO: Style = AnsiColor::Red.on_default().bold();
const CARE: Style = AnsiColor::Yellow.on_default().bold();

static LEVEL: OnceLock<LogLevel> = OnceLock::new();

pub(super) fn set_level(level: LogLevel) {
    LEVEL.get_or_init(|| level);
}

/// A line of the story. If standard error is gone, nobody is there to be told.
fn line(level: LogLevel, text: impl fmt::Display) {
    if *LEVEL.get().unwrap_or(&LogLevel::Info) >= level {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

pub(super) fn warning(text: impl fmt::Display) {
    line(LogLevel::Warning, format_args!("{CARE}warning:{CARE:#} {text}"));
}

pub(super) fn failure(what: &str, text: impl fmt::Display) {
    line(LogLevel::Critical, format_args!("{NO}{what}{NO:#} {text}"));
}

pub(super) fn detail(label: &str, text: impl fmt::Display) {
    line(LogLevel::Info, format_args!("  {label:<12}{text}"));
}

pub(super) fn note(note: &Note) {
    warning(note);
}

/// Writes to standard output. A reader that has closed the pipe has what it wanted (`| head`).
pub(super) fn out(text: &str) -> std::io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The one line of success that scripts look for.
pub(super) fn success(text: &str) -> std::io::Result<()> {
    out(&format!("{YES}{text}{YES:#}\n"))
}

/// At most this many names of a list are shown.
const SHOWN: usize = 10;

/// A list of names, cut when it is long. Names are escaped so that they cannot forge lines.
fn names<'a>(label: &str, all: impl ExactSizeIterator<Item = (&'a str, String)>, more: &str) {
    let count = all.len();
    for (i, (name, comment)) in all.take(SHOWN).enumerate() {
        detail(if i == 0 { label } else { "" }, format_args!("{}{comment}", name.escape_debug()));
    }
    if count > SHOWN {
        detail("", format_args!("and {} more", count - SHOWN));
    }
    if count > 0 && !more.is_empty() {
        detail("", more);
    }
}

/// The report of a verification, whether it ended in a yes or in differences.
pub(super) fn report(report: &Report) {
    detail("signed by", &report.identity);
    let checked: Vec<&str> = report.checked.iter().map(|algorithm| algorithm.name()).collect();
    detail(
        "checked",
        format_args!(
            "{} of {} files, {}, by {} on {} in {}",
            bytes(report.bytes),
            report.files,
            what(report),
            checked.join(" and "),
            report.device,
            time(report.elapsed, report.bytes)
        ),
    );
    let not: Vec<&str> = report.not_checked.iter().map(|algorithm| algorithm.name()).collect();
    if !not.is_empty() {
        detail(
            "not checked",
            format_args!("the {} digests, signed as well (--all-digests checks all)", not.join(" and ")),
        );
    }
    let ignored =
        report.ignored.iter().map(|file| (file.name.as_str(), format!("  (under {})", file.under.escape_debug())));
    names("ignored", ignored, "nothing is known of these; --strict refuses them");
    let empty = report.empty.iter().map(|name| (name.as_str(), "  (empty)".to_owned()));
    names("not covered", empty, "shards do not cover empty files; --strict refuses them");
    names(
        "not signed",
        report.unsigned.iter().map(|name| (name.as_str(), String::new())),
        "tolerated because you asked for it",
    );
    followed(&report.followed);
    report.notes.iter().for_each(note);
}

fn what(report: &Report) -> String {
    let root = report.root;
    format!("{} resources with root {root}", report.resources)
}

/// What was hashed for a signature or a digest.
pub(super) fn hashed(hashed: &Hashed) {
    detail(
        "hashed",
        format_args!(
            "{} of {} files, {} resources, by {} on {} in {}",
            bytes(hashed.bytes),
            hashed.files,
            hashed.manifest.resources().len(),
            hashed.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(" and "),
            hashed.device,
            time(hashed.elapsed, hashed.bytes)
        ),
    );
    detail("root", hashed.manifest.root());
    let empty = hashed.empty.iter().map(|name| (name.as_str(), "  (empty)".to_owned()));
    names("not covered", empty, "shards do not cover empty files");
    followed(&hashed.followed);
    hashed.notes.iter().for_each(note);
}

fn followed(links: &[tensorseal::source::FollowedLink]) {
    let outside = links.iter().filter(|link| link.leaves_root).count();
    let rest = if outside > 0 { format!("{outside} of these lead out of the model") } else { String::new() };
    let links = links.iter().map(|link| {
        let target = link.target.display().to_string();
        (link.name.as_str(), format!(" -> {}", target.escape_debug()))
    });
    names("followed", links, &rest);
}

/// `1.50 GB`, in decimal units.
pub(super) fn bytes(count: u64) -> String {
    for (unit, size) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if count as f64 >= size {
            return format!("{:.2} {unit}", count as f64 / size);
        }
    }
    format!("{count} bytes")
}

/// `1.27 s (1.69 GB/s)`; no rate where the time is mostly that of starting.
fn time(elapsed: std::time::Duration, count: u64) -> String {
    let seconds = elapsed.as_secs_f64();
    let shown = if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") };
    if seconds < 0.02 { shown } else { format!("{shown} ({}/s)", bytes((count as f64 / seconds) as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(2_147_483_648)],
            ["0 bytes", "999 bytes", "1.00 kB", "2.15 GB"]
        );
        assert_eq!(time(std::time::Duration::from_millis(1500), 3_000_000_000), "1.50 s (2.00 GB/s)");
        assert_eq!(time(std::time::Duration::from_micros(1500), 3_000), "1.5 ms");
    }
}
