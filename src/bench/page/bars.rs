//! Rates as bars: models in memory, files, and the other ways in which strings can lie. A bar ends where the rate is, a mark stands
//! where the bound is.

use super::super::report::{Cache, Line, OfDevice, What};
use super::curve::Percent;
use super::markup::Html;
use super::number::{counted, percent, rate, seconds, size};
use super::{Drawn, bound_in_words, lines_table, what_name};

/// The lines of a device that `wanted` picks, as bars on one scale.
pub(super) fn panel(html: &mut Html, device: &OfDevice, caption: &str, wanted: fn(&Line) -> bool) -> Drawn {
    let lines: Vec<&Line> = device.lines.iter().filter(|line| wanted(line)).collect();
    if lines.is_empty() {
        return Drawn::Nothing;
    }
    let bound = |line: &Line| {
        device.bounds.iter().find(|bound| Some(bound.kind) == line.bound).map(|bound| bound.bytes_per_second)
    };
    let most = lines
        .iter()
        .flat_map(|line| [Some(line.bytes_per_second), bound(line)])
        .flatten()
        .filter(|rate| rate.is_finite())
        .fold(0.0, f64::max);
    let mixed = lines.iter().any(|line| line.what != lines[0].what);
    html.el("ul", &[("class", &"bars")], |html| {
        for line in &lines {
            html.el("li", &[], |html| row(html, line, bound(line), most, mixed));
        }
    });
    lines_table(html, caption, lines.iter().copied());
    Drawn::Something
}

fn row(html: &mut Html, line: &Line, bound: Option<f64>, most: f64, mixed: bool) {
    html.el("div", &[("class", &"what")], |html| {
        if mixed {
            html.text(&format!("{}: ", what_name(line.what)));
        }
        html.el("b", &[], |html| html.name(&line.name));
        html.say("small", "", &about(line));
    });
    bar(
        html,
        line.bytes_per_second / most,
        bound.map(|bound| bound / most),
        if line.cache == Some(Cache::Cold) { "cold" } else { "warm" },
    );
    html.el("div", &[("class", &"value")], |html| {
        html.say("b", "", &rate(line.bytes_per_second));
        let of = line.share.map(|share| format!("{} of {}", percent(share), bound_in_words(line.bound)));
        html.say("small", "", &of.unwrap_or_else(|| seconds(line.times.median())));
    });
}

/// What was hashed, in a few words.
fn about(line: &Line) -> String {
    let mut parts = Vec::new();
    parts.extend(line.cache.map(|cache| cache_name(cache).to_owned()));
    parts.extend(line.kernel.clone());
    if line.strings > 1 {
        parts.push(counted(line.strings, if line.what == What::Model { "tensor" } else { "string" }));
    }
    parts.push(size(line.bytes));
    if line.share.is_some() {
        parts.push(seconds(line.times.median()));
    }
    parts.join(" · ")
}

pub(super) fn cache_name(cache: Cache) -> &'static str {
    match cache {
        Cache::Warm => "warm",
        Cache::Cold => "cold",
    }
}

/// A bar beside its text, which says the same in words.
pub(super) fn bar(html: &mut Html, length: f64, bound: Option<f64>, class: &'static str) {
    html.el("svg", &[("class", &"bar"), ("width", &"100%"), ("height", &16), ("aria-hidden", &"true")], |html| {
        html.shape("rect", &[("class", &"track"), ("x", &"0%"), ("y", &2), ("width", &"100%"), ("height", &12)]);
        html.shape(
            "rect",
            &[("class", &class), ("x", &"0%"), ("y", &2), ("width", &Percent::of(length)), ("height", &12)],
        );
        if let Some(bound) = bound {
            let at = Percent::of(bound);
            html.shape("line", &[("class", &"limit"), ("x1", &at), ("x2", &at), ("y1", &0), ("y2", &16)]);
        }
    });
}
