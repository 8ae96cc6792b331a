//! Rate against size: a panel a device, all with the same axes, so that they compare.
//!
//! Across, places are percents of the drawing's width, and down they are pixels: the drawing has the width of the page, and its text
//! the size of the page's text, on a phone and on a desk.

use super::super::report::{BoundKind, Cache, Line, OfDevice, What};
use super::markup::{Cell, Column, Html, table};
use super::number::{percent, rate, short, significant, size};
use super::{Drawn, bound_name, lines_table};

/// Of the plot, in pixels.
const HEIGHT: f64 = 300.0;

/// From one text to the next below it, in pixels.
const APART: f64 = 16.0;

/// Labels in a plot at most: what has none stands in the table.
const LABELS: usize = 14;

/// Values by their logarithms.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// From the smallest to the largest, and a little around; at least `least` from end to end, in powers of `base`.
    fn over(values: impl Iterator<Item = f64>, base: f64, least: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .map(|value| value.log(base))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let around = ((high - low) * 0.05).max((least - (high - low)) / 2.0);
        Some(Self { low: low - around, high: high + around })
    }

    /// Where on it a value lies, 0 for the low end and 1 for the high one.
    fn place(self, value: f64, base: f64) -> Option<f64> {
        let place = (value.log(base) - self.low) / (self.high - self.low);
        (value > 0.0 && place.is_finite()).then(|| place.clamp(0.0, 1.0))
    }
}

/// The axes of all panels.
pub(super) struct Axes {
    bytes: Scale,
    rates: Scale,
}

impl Axes {
    /// Axes on which all of these have room. None: there is nothing to draw.
    pub(super) fn over(devices: &[OfDevice]) -> Option<Self> {
        let lines = || devices.iter().flat_map(|device| drawn(device));
        let bounds = devices.iter().filter(|device| drawn(device).next().is_some()).flat_map(|device| &device.bounds);
        Some(Self {
            bytes: Scale::over(lines().map(|line| line.bytes as f64), 2.0, 4.0)?,
            rates: Scale::over(
                lines()
                    .flat_map(|line| [line.bytes_per_second, slowest(line), fastest(line)])
                    .chain(bounds.map(|bound| bound.bytes_per_second)),
                10.0,
                1.2,
            )?,
        })
    }

    /// Per cent from the left.
    fn x(&self, bytes: u64) -> Option<f64> {
        self.bytes.place(bytes as f64, 2.0).map(|place| place * 100.0)
    }

    /// Pixels from the top.
    fn y(&self, rate: f64) -> Option<f64> {
        self.rates.place(rate, 10.0).map(|place| (1.0 - place) * HEIGHT)
    }

    /// Sizes to name on the axis: powers of two at even distances, as many as a phone has room for.
    fn sizes(&self) -> Vec<u64> {
        let (low, high) = (self.bytes.low.max(0.0).ceil() as u32, self.bytes.high.min(63.0).floor() as u32);
        let at = |step: u32| (low..=high).filter(move |power| power % step == 0);
        let step = [1, 2, 5, 10, 20].into_iter().find(|step| at(*step).count() <= 5).unwrap_or(30);
        at(step).map(|power| 1_u64 << power).collect()
    }

    /// Rates to name on the axis.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.rates.low, self.rates.high);
        let steps: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let every = ((high - low) / 8.0).ceil().max(1.0) as i32;
        (low.floor() as i32..=high.ceil() as i32)
            .filter(|decade| decade % every == 0)
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|rate| (low..=high).contains(&rate.log10()))
            .collect()
    }
}

/// What the plot shows: strings in memory, and files where they were read from disk.
fn drawn(device: &OfDevice) -> impl Iterator<Item = &Line> {
    device
        .lines
        .iter()
        .filter(|line| matches!(line.what, What::Size | What::Digest) && line.bytes > 0 && line.bytes_per_second > 0.0)
}

fn fastest(line: &Line) -> f64 {
    line.bytes as f64 / line.times.fastest().max(1e-9)
}

fn slowest(line: &Line) -> f64 {
    line.bytes as f64 / line.times.slowest().max(1e-9)
}

/// A text beside its place.
struct Label {
    text: String,
    class: &'static str,
    /// Per cent from the left, and on which side of the place the text stands.
    x: f64,
    side: Side,
    y: f64,
    /// Pixels from the top of what it names.
    of: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// Texts that would cover each other are moved apart, in their order.
fn move_apart(labels: &mut [Label]) {
    labels.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut least = 12.0;
    for label in labels.iter_mut() {
        label.y = label.y.max(least);
        least = label.y + APART;
    }
    let mut most = HEIGHT - 4.0;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(most);
        most = label.y - APART;
    }
}

/// The panel of a device. Says whether there was anything to draw.
pub(super) fn panel(html: &mut Html, axes: &Axes, device: &OfDevice) -> Drawn {
    if drawn(device).next().is_none() {
        return Drawn::Nothing;
    }
    let (title, about) = (html.id(), html.id());
    html.el(
        "svg",
        &[
            ("class", &"plot"),
            ("role", &"img"),
            ("aria-labelledby", &format!("{title} {about}")),
            ("height", &(HEIGHT + 48.0)),
        ],
        |html| {
            html.el("title", &[("id", &title)], |html| html.text(&format!("Rate against size on {}", device.name)));
            html.el("desc", &[("id", &about)], |html| html.text(&described(device)));
            grid(html, axes);
            let mut labels = bounds(html, axes, device);
            curve(html, axes, device, &mut labels);
            marks(html, axes, device, &mut labels);
            labels.truncate(LABELS);
            move_apart(&mut labels);
            labels.iter().for_each(|label| write(html, label));
        },
    );
    lines_table(html, "one string in memory, by its size", device.lines.iter().filter(|line| line.what == What::Size));
    if !device.bounds.is_empty() {
        bounds_table(html, device);
    }
    Drawn::Something
}

/// What a reader who cannot see the drawing is told of it.
fn described(device: &OfDevice) -> String {
    let sizes = || device.lines.iter().filter(|line| line.what == What::Size);
    let (first, last) = (sizes().min_by_key(|line| line.bytes), sizes().max_by_key(|line| line.bytes));
    match (first, last) {
        (Some(first), Some(last)) if first.bytes != last.bytes => format!(
            "From {} at {} to {} at {}. The table below has all points.",
            rate(first.bytes_per_second),
            size(first.bytes),
            rate(last.bytes_per_second),
            size(last.bytes)
        ),
        (Some(only), _) => format!("{} at {}.", rate(only.bytes_per_second), size(only.bytes)),
        _ => "Files alone; the table under Files has them.".to_owned(),
    }
}

fn grid(html: &mut Html, axes: &Axes) {
    html.el("text", &[("class", &"tick"), ("x", &-8), ("y", &-10), ("text-anchor", &"end")], |html| html.text("GB/s"));
    for tick in axes.ticks() {
        let Some(y) = axes.y(tick) else { continue };
        html.shape("line", &[("class", &"grid"), ("x1", &"0%"), ("x2", &"100%"), ("y1", &Px(y)), ("y2", &Px(y))]);
        html.el("text", &[("class", &"tick"), ("x", &-8), ("y", &Px(y + 4.0)), ("text-anchor", &"end")], |html| {
            html.text(
                &significant(tick / 1e9)
                    .trim_end_matches(".00")
                    .replace("0.100", "0.1")
                    .replace("0.200", "0.2")
                    .replace("0.500", "0.5"),
            );
        });
    }
    html.shape("line", &[("class", &"axis"), ("x1", &"0%"), ("x2", &"100%"), ("y1", &Px(HEIGHT)), ("y2", &Px(HEIGHT))]);
    for bytes in axes.sizes() {
        let Some(x) = axes.x(bytes) else { continue };
        html.shape(
            "line",
            &[
                ("class", &"axis"),
                ("x1", &Percent(x)),
                ("x2", &Percent(x)),
                ("y1", &Px(HEIGHT)),
                ("y2", &Px(HEIGHT + 5.0)),
            ],
        );
        html.el(
            "text",
            &[("class", &"tick"), ("x", &Percent(x)), ("y", &Px(HEIGHT + 19.0)), ("text-anchor", &"middle")],
            |html| html.text(&size(bytes)),
        );
    }
}

fn bounds(html: &mut Html, axes: &Axes, device: &OfDevice) -> Vec<Label> {
    let mut labels = Vec::new();
    for bound in &device.bounds {
        let Some(y) = axes.y(bound.bytes_per_second) else { continue };
        html.el(
            "line",
            &[("class", &"bound"), ("x1", &"0%"), ("x2", &"100%"), ("y1", &Px(y)), ("y2", &Px(y))],
            |html| {
                html.say(
                    "title",
                    "",
                    &format!("{}: {}. {}", bound_name(bound.kind), rate(bound.bytes_per_second), bound.basis),
                );
            },
        );
        labels.push(Label {
            text: format!("{} {}", bound_name(bound.kind), rate(bound.bytes_per_second)),
            class: "of-bound",
            x: 0.0,
            side: Side::Right,
            y: y - 5.0,
            of: y,
        });
    }
    labels
}

fn curve(html: &mut Html, axes: &Axes, device: &OfDevice, labels: &mut Vec<Label>) {
    let mut lines: Vec<&Line> = drawn(device).filter(|line| line.what == What::Size).collect();
    lines.sort_by_key(|line| line.bytes);
    let places: Vec<(f64, f64)> =
        lines.iter().filter_map(|line| Some((axes.x(line.bytes)?, axes.y(line.bytes_per_second)?))).collect();
    for pair in places.windows(2) {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        html.shape(
            "line",
            &[("class", &"curve"), ("x1", &Percent(x1)), ("x2", &Percent(x2)), ("y1", &Px(y1)), ("y2", &Px(y2))],
        );
    }
    for line in &lines {
        let Some((x, y)) = axes.x(line.bytes).zip(axes.y(line.bytes_per_second)) else { continue };
        whisker(html, axes, line, x);
        html.el("circle", &[("class", &"point"), ("cx", &Percent(x)), ("cy", &Px(y)), ("r", &4)], |html| {
            html.say("title", "", &told(line))
        });
    }
    if let Some(last) = lines.last()
        && let Some((x, y)) = axes.x(last.bytes).zip(axes.y(last.bytes_per_second))
    {
        labels.push(Label {
            text: rate(last.bytes_per_second),
            class: "of-curve",
            x,
            side: side(x),
            y: y + 20.0,
            of: y,
        });
    }
}

fn marks(html: &mut Html, axes: &Axes, device: &OfDevice, labels: &mut Vec<Label>) {
    for line in drawn(device).filter(|line| line.what == What::Digest) {
        let Some((x, y)) = axes.x(line.bytes).zip(axes.y(line.bytes_per_second)) else { continue };
        whisker(html, axes, line, x);
        let (class, word) = match line.cache {
            Some(Cache::Cold) => ("cold", "cold"),
            Some(Cache::Warm) => ("warm", "warm"),
            None => ("warm", "file"),
        };
        // A drawing of its own, so that its corners lie pixels from a place in per cent.
        html.el(
            "svg",
            &[
                ("class", &"mark"),
                ("x", &Percent(x)),
                ("y", &Px(y)),
                ("width", &1),
                ("height", &1),
                ("overflow", &"visible"),
            ],
            |html| {
                html.el("path", &[("class", &class), ("d", &"M-6 0L0 -6L6 0L0 6Z")], |html| {
                    html.say("title", "", &told(line))
                });
            },
        );
        labels.push(Label {
            text: format!("{} {word}", short(&line.name, 16)),
            class: "of-file",
            x,
            side: side(x),
            y: y + 4.0,
            of: y,
        });
    }
}

/// From the slowest run to the fastest.
fn whisker(html: &mut Html, axes: &Axes, line: &Line, x: f64) {
    if let Some((low, high)) = axes.y(slowest(line)).zip(axes.y(fastest(line))) {
        html.shape(
            "line",
            &[("class", &"whisker"), ("x1", &Percent(x)), ("x2", &Percent(x)), ("y1", &Px(low)), ("y2", &Px(high))],
        );
    }
}

/// The side with more room.
fn side(x: f64) -> Side {
    if x < 50.0 { Side::Right } else { Side::Left }
}

fn told(line: &Line) -> String {
    let of = line.share.map(|share| format!(", {} of its bound", percent(share))).unwrap_or_default();
    format!("{}: {}{of}; {} to {}", line.name, rate(line.bytes_per_second), rate(slowest(line)), rate(fastest(line)))
}

fn write(html: &mut Html, label: &Label) {
    let (anchor, aside) = match label.side {
        Side::Left => ("end", -10),
        Side::Right => ("start", if label.x == 0.0 { 4 } else { 10 }),
    };
    // What was moved far from what it names is led back to it.
    if label.class != "of-bound" && (label.y - 4.0 - label.of).abs() > 24.0 {
        html.shape(
            "line",
            &[
                ("class", &"leader"),
                ("x1", &Percent(label.x)),
                ("x2", &Percent(label.x)),
                ("y1", &Px(label.of)),
                ("y2", &Px(label.y - 4.0)),
            ],
        );
    }
    let attributes: [(&'static str, &dyn std::fmt::Display); 5] = [
        ("class", &label.class),
        ("x", &Percent(label.x)),
        ("dx", &aside),
        ("y", &Px(label.y)),
        ("text-anchor", &anchor),
    ];
    html.el("text", &attributes, |html| html.text(&label.text));
}

fn bounds_table(html: &mut Html, device: &OfDevice) {
    let rows: Vec<_> = device
        .bounds
        .iter()
        .map(|bound| {
            vec![
                Cell::text(bound_name(bound.kind)),
                Cell::number(bound.bytes_per_second, super::number::gigabytes(bound.bytes_per_second)),
                Cell::text(bound.basis.clone()),
            ]
        })
        .collect();
    table(
        html,
        "bounds, and where they come from",
        &[Column::Names("Bound"), Column::Numbers("GB/s"), Column::Names("Basis")],
        &rows,
    );
}

/// What the drawings mean, once for all panels.
pub(super) fn key(html: &mut Html, devices: &[OfDevice]) {
    let has = |wanted: fn(&Line) -> bool| devices.iter().any(|device| drawn(device).any(wanted));
    html.el("ul", &[("class", &"key")], |html| {
        if has(|line| line.what == What::Size) {
            sample(html, "one string in the device’s memory", |html| {
                html.shape("line", &[("class", &"curve"), ("x1", &0), ("x2", &28), ("y1", &7), ("y2", &7)]);
                html.shape("circle", &[("class", &"point"), ("cx", &14), ("cy", &7), ("r", &4)]);
            });
        }
        for (class, text, wanted) in [
            (
                "warm",
                "a file from the page cache (warm)",
                (|line| line.what == What::Digest && line.cache != Some(Cache::Cold)) as fn(&Line) -> bool,
            ),
            ("cold", "a file from the disk (cold)", |line| {
                line.what == What::Digest && line.cache == Some(Cache::Cold)
            }),
        ] {
            if has(wanted) {
                sample(html, text, |html| html.shape("path", &[("class", &class), ("d", &"M8 7L14 1L20 7L14 13Z")]));
            }
        }
        if devices.iter().any(|device| !device.bounds.is_empty()) {
            sample(html, "bound: no rate can exceed it", |html| {
                html.shape("line", &[("class", &"bound"), ("x1", &0), ("x2", &28), ("y1", &7), ("y2", &7)]);
            });
        }
        sample(html, "slowest to fastest run", |html| {
            html.shape("line", &[("class", &"whisker"), ("x1", &14), ("x2", &14), ("y1", &0), ("y2", &14)]);
        });
    });
}

fn sample(html: &mut Html, text: &str, draw: impl FnOnce(&mut Html)) {
    html.el("li", &[], |html| {
        html.el("svg", &[("width", &28), ("height", &14), ("aria-hidden", &"true")], draw);
        html.text(text);
    });
}

/// A bound's rate.
pub(super) fn of(device: &OfDevice, kind: Option<BoundKind>) -> Option<f64> {
    device.bounds.iter().find(|bound| Some(bound.kind) == kind).map(|bound| bound.bytes_per_second)
}

/// Per cent of a drawing's width.
pub(super) struct Percent(pub(super) f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}%", if self.0.is_finite() { self.0.clamp(0.0, 100.0) } else { 0.0 })
    }
}

/// Pixels.
struct Px(f64);

impl std::fmt::Display for Px {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}
