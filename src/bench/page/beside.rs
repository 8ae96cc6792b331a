//! Ratio to the other programs on the machine.

use std::fmt::Display;

use super::super::Times;
use super::super::report::{Beside, Peers};
use super::curve::Percent;
use super::markup::{Cell, Column, Html, stacked_table, table};
use super::number::{count, counted, percent, seconds, significant, size};

/// How many times faster ours is. None: one of both took no time that could be told.
fn factor(line: &Beside) -> Option<f64> {
    let factor = 1.0 / line.ratio;
    (factor.is_finite() && factor > 0.0).then_some(factor)
}

/// The least and the most that the runs allow: their fastest by our slowest, and the other way round.
fn range(line: &Beside) -> (f64, f64) {
    let by = |theirs: f64, ours: f64| theirs.max(1e-9) / ours.max(1e-9);
    (by(line.theirs.fastest(), line.ours.slowest()), by(line.theirs.slowest(), line.ours.fastest()))
}

/// On the axis 1 has its place, twice as fast lies as far to the right of it as half as fast to the left.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(lines: &[Beside]) -> Self {
        let (low, high) = lines
            .iter()
            .filter_map(factor)
            .fold((1.0_f64, 1.0_f64), |(low, high), factor| (low.min(factor), high.max(factor)));
        // Something to the left of 1 always, so that it is seen where that side is.
        Self { low: (low / 1.15).min(0.75).log10(), high: (high * 1.15).max(1.5).log10() }
    }

    fn x(&self, factor: f64) -> f64 {
        ((factor.log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

pub(super) fn section(html: &mut Html, peers: &Peers) {
    if peers.lines.is_empty() {
        html.say("p", "note", "No other program could be measured here.");
    } else {
        html.say("p", "note", "How many times faster ours is: whole processes from start to exit, on the same files, in turns. The axis is logarithmic, the line is 1: as fast. The thin line goes from their fastest run by our slowest to their slowest by our fastest.");
        let axis = Axis::over(&peers.lines);
        let mut tasks: Vec<(&str, u64)> = Vec::new();
        for line in &peers.lines {
            if !tasks.contains(&(line.task.as_str(), line.bytes)) {
                tasks.push((&line.task, line.bytes));
            }
        }
        for (task, bytes) in tasks {
            html.el("figure", &[], |html| {
                html.el("figcaption", &[], |html| {
                    html.name(task);
                    html.text(&format!(", {}", size(bytes)));
                });
                html.el("ul", &[("class", &"bars")], |html| {
                    for line in peers.lines.iter().filter(|line| (line.task.as_str(), line.bytes) == (task, bytes)) {
                        html.el("li", &[], |html| row(html, &axis, line));
                    }
                });
            });
        }
        all(html, peers);
    }
    if !peers.absent.is_empty() {
        let rows: Vec<_> = peers
            .absent
            .iter()
            .map(|absent| vec![Cell::text(absent.program.clone()), Cell::text(absent.why.clone())])
            .collect();
        stacked_table(
            html,
            "Programs that were not measured",
            &[Column::Names("Program"), Column::Names("Why")],
            &rows,
        );
    }
}

fn row(html: &mut Html, axis: &Axis, line: &Beside) {
    html.el("div", &[("class", &"what")], |html| {
        html.el("b", &[], |html| html.name(&line.program));
        let threads = line.threads.map(|threads| format!(" · {} each", counted(threads, "thread"))).unwrap_or_default();
        html.el("small", &[], |html| {
            html.name(&line.version);
            html.text(&threads);
        });
    });
    bar(html, axis, line);
    html.el("div", &[("class", &"value")], |html| {
        html.say("b", "", &said(line));
        html.say(
            "small",
            "",
            &format!("ours {}, theirs {}", seconds(line.ours.median()), seconds(line.theirs.median())),
        );
    });
}

/// `2.31× as fast`: what was divided by what, in words.
fn said(line: &Beside) -> String {
    match factor(line) {
        None => "no ratio".to_owned(),
        Some(factor) if (0.995..1.005).contains(&factor) => "as fast".to_owned(),
        Some(factor) if factor > 1.0 => format!("{}× faster", significant(factor)),
        Some(factor) => format!("{}× slower", significant(1.0 / factor)),
    }
}

fn bar(html: &mut Html, axis: &Axis, line: &Beside) {
    html.el("svg", &[("class", &"bar"), ("width", &"100%"), ("height", &16), ("aria-hidden", &"true")], |html| {
        html.shape("rect", &[("class", &"track"), ("x", &"0%"), ("y", &2), ("width", &"100%"), ("height", &12)]);
        let one = axis.x(1.0);
        if let Some(factor) = factor(line) {
            let at = axis.x(factor);
            let class = if factor < 1.0 { "slower" } else { "warm" };
            html.shape(
                "rect",
                &[
                    ("class", &class),
                    ("x", &Percent::of(one.min(at))),
                    ("y", &2),
                    ("width", &Percent::of((at - one).abs())),
                    ("height", &12),
                ],
            );
            let (low, high) = range(line);
            html.shape(
                "line",
                &[
                    ("class", &"whisker"),
                    ("x1", &Percent::of(axis.x(low))),
                    ("x2", &Percent::of(axis.x(high))),
                    ("y1", &8),
                    ("y2", &8),
                ],
            );
        }
        html.shape(
            "line",
            &[("class", &"limit"), ("x1", &Percent::of(one)), ("x2", &Percent::of(one)), ("y1", &0), ("y2", &16)],
        );
    });
}

fn all(html: &mut Html, peers: &Peers) {
    let number = |value: &dyn Display, shown: String| Cell::number(value, shown);
    let spread = |times: &Times| if times.median() > 0.0 { times.spread() / times.median() } else { 0.0 };
    let rows: Vec<_> = peers
        .lines
        .iter()
        .map(|line| {
            vec![
                Cell::text(line.program.clone()),
                Cell::text(line.version.clone()),
                Cell::text(line.task.clone()),
                number(&line.bytes, size(line.bytes)),
                line.threads.map_or(Cell::Nothing, |threads| number(&threads, count(threads))),
                number(&line.theirs.median(), significant(line.theirs.median())),
                number(&spread(&line.theirs), percent(spread(&line.theirs))),
                number(&line.ours.median(), significant(line.ours.median())),
                number(&spread(&line.ours), percent(spread(&line.ours))),
                number(&line.ratio, significant(line.ratio)),
            ]
        })
        .collect();
    let columns = [
        Column::Names("Program"),
        Column::Names("Version"),
        Column::Names("Task"),
        Column::Numbers("Size"),
        Column::Numbers("Threads"),
        Column::Numbers("Theirs, s"),
        Column::Numbers("±"),
        Column::Numbers("Ours, s"),
        Column::Numbers("±"),
        Column::Numbers("Ours by theirs"),
    ];
    table(html, "beside other programs", &columns, &rows);
}
