//! What moved between two reports, beyond their noise.
//!
//! A line moved if its medians differ by [`FLOOR`] or more *and* the test of `noise.rs` says so. As many lines are tested at
//! once, the chance of a false alarm is kept for all of them together ([`ALARM`]), by Holm's procedure (S. Holm, "A simple
//! sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979): with fifty lines, each has to
//! be fifty times surer, or comparing a report with its own repetition would cry wolf far too often.
//!
//! The floor is there because repeats in one process see only a part of the noise: where memory came to lie, how warm the
//! machine was and who else ran changes from run to run and not within one (T. Kalibera, R. Jones, "Rigorous benchmarking in
//! reasonable time", ISMM 2013). Nothing in one report tells how large that part is; a twentieth is what runs of these
//! measurements one after another stay within on a machine that does nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::Times;
use super::noise::{self, FEWEST};
use super::report::{Cache, Line, OfDevice, Report, What};

/// The name of the form in which a comparison is printed as JSON.
pub const SCHEMA: &str = "tensorseal/bench-comparison/v1";

/// Medians that differ by less are not told apart, however steady the repeats: a part of the earlier one.
pub const FLOOR: f64 = 0.05;

/// The chance that any line of a comparison of equals is said to have moved, if noise is what the repeats show.
pub const ALARM: f64 = 0.01;

/// Which measurement: what lines of two reports are matched by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Key {
    /// As `--device` takes it.
    pub device: String,
    /// What was measured.
    pub what: What,
    /// Which of that kind.
    pub name: String,
    /// Where a file came from.
    pub cache: Option<Cache>,
    /// The kernel, for those that are measured one by one.
    pub kernel: Option<String>,
    /// The first byte's place in its allocation.
    pub at: u64,
}

impl Key {
    /// That of a line.
    #[must_use]
    pub fn of(device: &OfDevice, line: &Line) -> Self {
        Self {
            device: device.device.clone(),
            what: line.what,
            name: line.name.clone(),
            cache: line.cache,
            kernel: line.kernel.clone(),
            at: line.at,
        }
    }
}

/// What came of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// It takes less time than before.
    Faster,
    /// It takes more.
    Slower,
    /// What differs may be noise.
    WithinNoise,
    /// These two cannot be compared: see [`Compared::why`].
    CannotBeTold,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "SLOWER",
            Self::WithinNoise => "within noise",
            Self::CannotBeTold => "cannot be told",
        })
    }
}

/// One line in both reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compared {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// Bytes a second before, by the median.
    pub before: f64,
    /// And after.
    pub after: f64,
    /// By which part the rate rose (0.1) or fell (-0.1).
    pub change: f64,
    /// What that means.
    pub verdict: Verdict,
    /// How probable so large a difference is among equals, for this line alone. None where it was not asked.
    pub p: Option<f64>,
    /// The smallest change of the time, as a part of it, that these repeats could have told. None where it was not asked.
    pub least: Option<f64>,
    /// Why it cannot be told.
    pub why: Option<String>,
}

/// Something else than speed that the two reports do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Apart {
    /// What: `processor`, `driver of cuda:0`.
    pub what: String,
    /// In the earlier report.
    pub before: String,
    /// In the later one.
    pub after: String,
}

/// Two reports, side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// What else differs. Where machines do, the rates say nothing of the program.
    pub apart: Vec<Apart>,
    /// Lines of both, in the order of the later report.
    pub lines: Vec<Compared>,
    /// Lines that only the earlier one has.
    pub only_before: Vec<Key>,
    /// Lines that only the later one has.
    pub only_after: Vec<Key>,
}

impl Comparison {
    /// How many lines had this come of them.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }
}

/// Says what moved from one report to the other.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let mut earlier: BTreeMap<Key, &Line> = lines(before).collect();
    let (mut pairs, mut only_after) = (Vec::new(), Vec::new());
    for (key, line) in lines(after) {
        match earlier.remove(&key) {
            Some(old) => pairs.push((key, old, line)),
            None => only_after.push(key),
        }
    }
    let only_before = lines(before).map(|(key, _)| key).filter(|key| earlier.contains_key(key)).collect();
    Comparison { apart: apart(before, after), lines: judged(pairs), only_before, only_after }
}

fn lines(report: &Report) -> impl Iterator<Item = (Key, &Line)> {
    report.devices.iter().flat_map(|device| device.lines.iter().map(|line| (Key::of(device, line), line)))
}

/// A line of both reports.
type Pair<'a> = (Key, &'a Line, &'a Line);

fn judged(pairs: Vec<Pair<'_>>) -> Vec<Compared> {
    let why: Vec<Option<String>> = pairs.iter().map(|(_, old, new)| not_comparable(old, new)).collect();
    let times = pairs.iter().zip(&why).map(|((_, old, new), why)| why.is_none().then_some((&old.times, &new.times)));
    let moved = moved(&times.collect::<Vec<_>>());
    let family = moved.iter().flatten().count().max(1) as f64;
    let judge = |(((key, old, new), why), moved): ((Pair<'_>, _), Option<Moved>)| {
        let (was, is) = (old.times.rate(old.bytes), new.times.rate(new.bytes));
        let least = |of: &noise::Difference| (noise::quantile(ALARM / family, of.freedom) * of.error).exp_m1();
        Compared {
            key,
            before: was,
            after: is,
            change: if was > 0.0 { is / was - 1.0 } else { 0.0 },
            verdict: moved.as_ref().map_or(Verdict::CannotBeTold, |(_, verdict)| *verdict),
            p: moved.as_ref().map(|(test, _)| test.p),
            least: moved.as_ref().map(|(test, _)| least(test).max(FLOOR)),
            why,
        }
    };
    pairs.into_iter().zip(why).zip(moved).map(judge).collect()
}

/// The test of one line, and what came of it beside all others.
type Moved = (noise::Difference, Verdict);

/// Which of these times moved, all of them judged together. None of those that are none, or too few.
fn moved(all: &[Option<(&Times, &Times)>]) -> Vec<Option<Moved>> {
    let test = |times: &Option<(&Times, &Times)>| {
        times.and_then(|(before, after)| noise::difference(before.seconds(), after.seconds()))
    };
    let tests: Vec<Option<noise::Difference>> = all.iter().map(test).collect();
    let sure = beyond_chance(&tests.iter().map(|test| test.map(|test| test.p)).collect::<Vec<_>>());
    let judge = |((times, test), sure): ((&Option<(&Times, &Times)>, _), bool)| {
        let ((before, after), test) = (times.as_ref()?, test?);
        let factor = after.median().max(1e-9) / before.median().max(1e-9);
        // As likely up as down: what takes 5 % longer is as far away as what took 5 % longer before.
        let verdict = match factor {
            _ if !sure || factor.ln().abs() < FLOOR.ln_1p() => Verdict::WithinNoise,
            1.0.. => Verdict::Slower,
            _ => Verdict::Faster,
        };
        Some((test, verdict))
    };
    all.iter().zip(tests).zip(sure).map(judge).collect()
}

/// Why two lines are not about the same thing, or tell too little.
fn not_comparable(old: &Line, new: &Line) -> Option<String> {
    let repeats = (old.times.seconds().len(), new.times.seconds().len());
    if (old.bytes, old.strings) != (new.bytes, new.strings) {
        return Some(format!(
            "not the same work: {} bytes in {} strings, then {} in {}; measure again with the same --size and --file-size",
            old.bytes, old.strings, new.bytes, new.strings
        ));
    }
    (repeats.0.min(repeats.1) < FEWEST).then(|| {
        format!(
            "too few repeats, {} and {}: it takes {FEWEST} of each; measure again with more --repeats",
            repeats.0, repeats.1
        )
    })
}

/// Which of these probabilities are too small for chance, all of them together (Holm): the smallest against a fraction of
/// the [`ALARM`] by their number, the next by one less, until one is not.
fn beyond_chance(all: &[Option<f64>]) -> Vec<bool> {
    let mut order: Vec<(usize, f64)> = all.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i, p))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut sure = vec![false; all.len()];
    let count = order.len();
    for (rank, (index, p)) in order.into_iter().enumerate() {
        if p * (count - rank) as f64 > ALARM {
            break;
        }
        if let Some(sure) = sure.get_mut(index) {
            *sure = true;
        }
    }
    sure
}

/// What the reports do not have in common beside times.
fn apart(before: &Report, after: &Report) -> Vec<Apart> {
    let mut all = Vec::new();
    let mut of = |what: String, before: String, after: String| {
        if before != after {
            all.push(Apart { what, before, after });
        }
    };
    let said = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "not known".to_owned());
    let some = |fact: Option<u64>| fact.map_or_else(|| "none".to_owned(), |fact| fact.to_string());
    let (a, b) = (&before.machine, &after.machine);
    of("processor".into(), a.cpu.clone(), b.cpu.clone());
    of("threads that may be used".into(), a.threads.to_string(), b.threads.to_string());
    of("bytes of memory".into(), a.memory.to_string(), b.memory.to_string());
    of("system".into(), a.kernel.clone(), b.kernel.clone());
    of("virtual machine".into(), yes_or_no(a.virtual_machine), yes_or_no(b.virtual_machine));
    of("governor".into(), said(&a.governor), said(&b.governor));
    let file_system = |folder: &Option<super::report::Folder>| folder.as_ref().map(|of| of.file_system.clone());
    of("file system".into(), said(&file_system(&a.folder)), said(&file_system(&b.folder)));
    of("program".into(), before.tool.clone(), after.tool.clone());
    let (a, b) = (&before.settings, &after.settings);
    of("repeats".into(), a.repeats.to_string(), b.repeats.to_string());
    of("bytes of device memory at most (--size)".into(), some(a.most), some(b.most));
    of("bytes of the model on disk (--file-size)".into(), some(a.file), some(b.file));
    let threads = |of: Option<usize>| of.map_or_else(|| "all".to_owned(), |of| of.to_string());
    of("threads (--threads)".into(), threads(a.threads), threads(b.threads));
    let earlier: HashMap<&str, &OfDevice> =
        before.devices.iter().map(|device| (device.device.as_str(), device)).collect();
    for b in &after.devices {
        let Some(a) = earlier.get(b.device.as_str()) else { continue };
        let device = &b.device;
        of(format!("name of {device}"), a.name.clone(), b.name.clone());
        of(format!("bytes of memory of {device}"), some(a.memory), some(b.memory));
        of(format!("driver of {device}"), said(&a.driver), said(&b.driver));
        of(format!("capability of {device}"), said(&a.capability), said(&b.capability));
        of(format!("kernel of {device}"), said(&a.kernel), said(&b.kernel));
    }
    all
}

fn yes_or_no(fact: Option<bool>) -> String {
    fact.map_or("not known", |fact| if fact { "yes" } else { "no" }).to_owned()
}

#[cfg(test)]
mod tests;
