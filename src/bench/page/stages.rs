//! Where the time of a verified load goes, and what the check adds to a load.

use super::super::report::{Cache, Line, OfDevice, What};
use super::bars::{bar, cache_name};
use super::curve::Percent;
use super::markup::{Cell, Column, Html, table};
use super::number::{percent, rate, seconds, significant, size};
use super::{Drawn, lines_table};

/// Colours of parts. With more parts than these they come round again: numbers tell parts apart, not colours.
const COLOURS: usize = 7;

/// Below this width a part has no room for its number.
const ROOM: f64 = 0.08;

pub(super) fn panel(html: &mut Html, device: &OfDevice) -> Drawn {
    let loads: Vec<&Line> = device.lines.iter().filter(|line| line.what == What::VerifiedLoad).collect();
    if loads.is_empty() {
        return Drawn::Nothing;
    }
    // One name, one colour, in all loads of the device.
    let mut names: Vec<&str> = Vec::new();
    for stage in loads.iter().flat_map(|line| &line.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    for line in &loads {
        one(html, line, &names);
    }
    added(html, device, &loads);
    let rows: Vec<_> = loads
        .iter()
        .flat_map(|line| line.stages.iter().map(|stage| stage_row(line, &stage.name, stage.seconds)))
        .collect();
    if !rows.is_empty() {
        let columns = [
            Column::Names("Load"),
            Column::Names("From"),
            Column::Names("Part"),
            Column::Numbers("Seconds"),
            Column::Numbers("Share"),
        ];
        table(html, "parts of verified loads", &columns, &rows);
    }
    let of_loads = device.lines.iter().filter(|line| matches!(line.what, What::Load | What::VerifiedLoad));
    lines_table(html, "loads, without a check and verified", of_loads);
    Drawn::Something
}

fn stage_row(line: &Line, name: &str, time: f64) -> Vec<Cell> {
    vec![
        Cell::text(line.name.clone()),
        Cell::text(line.cache.map_or("–", cache_name)),
        Cell::text(name),
        Cell::number(time, significant(time)),
        Cell::number(time / total(line), percent(time / total(line))),
    ]
}

/// Of all parts; 1 where there is no time at all, since it is divided by.
fn total(line: &Line) -> f64 {
    let sum: f64 = line.stages.iter().map(|stage| stage.seconds.max(0.0)).filter(|time| time.is_finite()).sum();
    if sum > 0.0 { sum } else { 1.0 }
}

fn one(html: &mut Html, line: &Line, names: &[&str]) {
    html.el("div", &[("class", &"load")], |html| {
        html.el("p", &[("class", &"of")], |html| {
            html.say("b", "", &seconds(line.times.median()));
            html.text(": ");
            html.name(&line.name);
            let from = line.cache.map(from).unwrap_or_default();
            html.text(&format!("{from}, {}, {}", size(line.bytes), rate(line.bytes_per_second)));
        });
        if line.stages.is_empty() {
            html.say("p", "note", "Its parts were not measured.");
            return;
        }
        drawing(html, line, names);
        html.el("ol", &[("class", &"parts")], |html| {
            for stage in &line.stages {
                let number = names.iter().position(|name| *name == stage.name).unwrap_or(0);
                html.el("li", &[], |html| {
                    html.el(
                        "svg",
                        &[("class", &"swatch"), ("width", &22), ("height", &18), ("aria-hidden", &"true")],
                        |html| {
                            html.shape(
                                "rect",
                                &[("class", &colour(number)), ("x", &0), ("y", &0), ("width", &22), ("height", &18)],
                            );
                            numbered(html, number, &"50%", 13);
                        },
                    );
                    html.el("span", &[("class", &"part")], |html| html.name(&stage.name));
                    html.say("span", "time", &seconds(stage.seconds));
                    html.say("span", "share", &percent(stage.seconds / total(line)));
                });
            }
        });
        let (sum, whole) = (total(line), line.times.median());
        if (sum - whole).abs() > 0.05 * whole {
            html.say("p", "note", &format!("Medians of parts: together {}, not {}.", seconds(sum), seconds(whole)));
        }
    });
}

/// Where a model came from, behind its name.
fn from(cache: Cache) -> &'static str {
    match cache {
        Cache::Warm => " from the page cache (warm)",
        Cache::Cold => " from the disk (cold)",
    }
}

fn drawing(html: &mut Html, line: &Line, names: &[&str]) {
    let (title, about) = (html.id(), html.id());
    html.el(
        "svg",
        &[
            ("class", &"stack"),
            ("role", &"img"),
            ("aria-labelledby", &format!("{title} {about}")),
            ("width", &"100%"),
            ("height", &30),
        ],
        |html| {
            html.el("title", &[("id", &title)], |html| {
                html.text(&format!("Parts of the time of {}{}", line.name, line.cache.map(from).unwrap_or_default()));
            });
            let all: Vec<_> = line
                .stages
                .iter()
                .map(|stage| format!("{} {}", stage.name, percent(stage.seconds / total(line))))
                .collect();
            html.el("desc", &[("id", &about)], |html| html.text(&all.join(", ")));
            let mut at = 0.0;
            for stage in &line.stages {
                let part = (stage.seconds.max(0.0) / total(line)).min(1.0);
                let number = names.iter().position(|name| *name == stage.name).unwrap_or(0);
                let (x, width) = (Percent::of(at), Percent::of(part));
                html.el(
                    "rect",
                    &[("class", &colour(number)), ("x", &x), ("y", &0), ("width", &width), ("height", &30)],
                    |html| {
                        html.say(
                            "title",
                            "",
                            &format!("{}: {}, {}", stage.name, seconds(stage.seconds), percent(part)),
                        );
                    },
                );
                if part >= ROOM {
                    numbered(html, number, &Percent::of(at + part / 2.0), 20);
                }
                at += part;
            }
        },
    );
}

fn numbered(html: &mut Html, number: usize, x: &dyn std::fmt::Display, y: u32) {
    let class = format!("on{}", number % COLOURS);
    html.el("text", &[("class", &class), ("x", x), ("y", &y), ("text-anchor", &"middle")], |html| {
        html.text(&(number + 1).to_string());
    });
}

fn colour(number: usize) -> String {
    format!("s{}", number % COLOURS)
}

/// The same model from the same place, loaded without a check and with it.
fn added(html: &mut Html, device: &OfDevice, loads: &[&Line]) {
    let plain = |verified: &Line| {
        let same =
            |line: &&Line| line.what == What::Load && line.cache == verified.cache && line.bytes == verified.bytes;
        device.lines.iter().find(same)
    };
    let pairs: Vec<(&Line, &Line)> = loads.iter().filter_map(|verified| Some((plain(verified)?, *verified))).collect();
    let most =
        pairs.iter().flat_map(|(plain, verified)| [plain.times.median(), verified.times.median()]).fold(0.0, f64::max);
    if pairs.is_empty() || most <= 0.0 {
        return;
    }
    html.say("h4", "", "What the check adds to a load");
    html.el("ul", &[("class", &"bars")], |html| {
        for (plain, verified) in pairs {
            let (without, with) = (plain.times.median(), verified.times.median());
            for (time, word, class) in [(without, "without a check", "plain"), (with, "verified", "warm")] {
                html.el("li", &[], |html| {
                    html.el("div", &[("class", &"what")], |html| {
                        html.say("b", "", word);
                        let from = verified.cache.map(|cache| format!("{}, ", cache_name(cache))).unwrap_or_default();
                        html.say("small", "", &format!("{from}{}", size(verified.bytes)));
                    });
                    bar(html, time / most, None, class);
                    html.el("div", &[("class", &"value")], |html| {
                        html.say("b", "", &seconds(time));
                        if word == "verified" {
                            html.say("small", "", &difference(without, with));
                        }
                    });
                });
            }
        }
    });
}

/// `+45.0 ms (+3.2 %)`
fn difference(without: f64, with: f64) -> String {
    let sign = if with < without { "−" } else { "+" };
    let share =
        if without > 0.0 { format!(" ({sign}{})", percent((with - without).abs() / without)) } else { String::new() };
    format!("{sign}{}{share}", seconds((with - without).abs()))
}
