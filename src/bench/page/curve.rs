//! Rate against size: a panel a device.
//!
//! Across, places are percents of the drawing's width, and down they are pixels: the drawing has the width of the page, and its text
//! the size of the page's text, on a phone and on a desk.

use super::super::report::{Bound, Cache, Line, OfDevice, What};
use super::markup::{Cell, Column, Html, table};
use super::number::{gigabytes, percent, rate, short, significant, size, without_zeros};
use super::place::{Place, Room, Spot};
use super::scale::Scale;
use super::{Drawn, bound_name, lines_table};

/// Of the plot, in pixels.
const HEIGHT: f64 = 300.0;

/// Of the names of files, in pixels.
const FILE: f64 = 13.0;

/// The axis across, the same in all panels. None: there is nothing to draw.
pub(super) fn across(devices: &[OfDevice]) -> Option<Scale> {
    Scale::over(devices.iter().flat_map(drawn).map(|line| line.bytes as f64), 2.0, 4.0)
}

/// The axis down, of one device: a processor and a GPU on one would leave the processor a strip.
fn down(device: &OfDevice) -> Option<Scale> {
    let lines = drawn(device).flat_map(|line| [line.bytes_per_second, slowest(line), fastest(line)]);
    Scale::over(lines.chain(device.bounds.iter().map(|bound| bound.bytes_per_second)), 10.0, 1.2)
}

/// What the plot shows: strings in memory, and files where they were read from disk.
fn drawn(device: &OfDevice) -> impl Iterator<Item = &Line> {
    let shown =
        |line: &&Line| matches!(line.what, What::Size | What::Digest) && line.bytes > 0 && line.bytes_per_second > 0.0;
    device.lines.iter().filter(shown)
}

fn fastest(line: &Line) -> f64 {
    line.bytes as f64 / line.times.fastest().max(1e-9)
}

fn slowest(line: &Line) -> f64 {
    line.bytes as f64 / line.times.slowest().max(1e-9)
}

/// The panel of a device. Says whether there was anything to draw.
pub(super) fn panel(html: &mut Html, bytes: Scale, device: &OfDevice) -> Drawn {
    let Some(rates) = down(device).filter(|_| drawn(device).next().is_some()) else { return Drawn::Nothing };
    let (title, about) = (html.id(), html.id());
    let named = format!("{title} {about}");
    html.el(
        "svg",
        &[("class", &"plot"), ("role", &"img"), ("aria-labelledby", &named), ("height", &(HEIGHT + 56.0))],
        |html| {
            html.el("title", &[("id", &title)], |html| html.text(&format!("Rate against size on {}", device.name)));
            html.el("desc", &[("id", &about)], |html| html.text(&described(device)));
            let mut plot = Plot { html, bytes, rates, room: Room::new(HEIGHT) };
            plot.grid();
            device.bounds.iter().for_each(|bound| plot.bound(bound));
            let sizes = plot.curve(device);
            let files: Vec<&Line> = drawn(device).filter(|line| line.what == What::Digest).collect();
            files.iter().for_each(|line| plot.file(line));
            // Texts come when all else has its place, and the more important first.
            sizes.into_iter().for_each(|line| plot.name_curve(line));
            device.bounds.iter().for_each(|bound| plot.name_bound(bound, &device.bounds));
            plot.name_files(&files);
        },
    );
    lines_table(html, "one string in memory, by its size", device.lines.iter().filter(|line| line.what == What::Size));
    bounds_table(html, device);
    Drawn::Something
}

/// What a reader who cannot see the drawing is told of it.
fn described(device: &OfDevice) -> String {
    let sizes = || device.lines.iter().filter(|line| line.what == What::Size);
    let at = |line: &Line| format!("{} at {}", rate(line.bytes_per_second), size(line.bytes));
    match (sizes().min_by_key(|line| line.bytes), sizes().max_by_key(|line| line.bytes)) {
        (Some(first), Some(last)) if first.bytes != last.bytes => {
            format!("From {} to {}. The table below has all points.", at(first), at(last))
        }
        (Some(only), _) => format!("{}.", at(only)),
        _ => "Files alone; the table under Files has them.".to_owned(),
    }
}

struct Plot<'a> {
    html: &'a mut Html,
    bytes: Scale,
    rates: Scale,
    room: Room,
}

impl Plot<'_> {
    /// Where a rate at a size lies.
    fn spot(&self, bytes: u64, rate: f64) -> Option<Spot> {
        Some(Spot { x: self.bytes.place(bytes as f64)?, y: self.y(rate)? })
    }

    fn y(&self, rate: f64) -> Option<f64> {
        self.rates.place(rate).map(|place| (1.0 - place) * HEIGHT)
    }

    fn line(&mut self, class: &'static str, from: Spot, to: Spot) {
        let (x1, x2) = (Percent::of(from.x), Percent::of(to.x));
        self.html.shape("line", &[("class", &class), ("x1", &x1), ("x2", &x2), ("y1", &Px(from.y)), ("y2", &Px(to.y))]);
    }

    fn grid(&mut self) {
        self.html.el("text", &[("class", &"tick"), ("x", &-8), ("y", &-12), ("text-anchor", &"end")], |html| {
            html.text("GB/s");
        });
        for tick in self.rates.decades() {
            let Some(y) = self.y(tick) else { continue };
            self.line("grid", Spot { x: 0.0, y }, Spot { x: 1.0, y });
            self.html.el(
                "text",
                &[("class", &"tick"), ("x", &-8), ("y", &Px(y + 4.0)), ("text-anchor", &"end")],
                |html| {
                    html.text(&without_zeros(&significant(tick / 1e9)));
                },
            );
        }
        self.line("axis", Spot { x: 0.0, y: HEIGHT }, Spot { x: 1.0, y: HEIGHT });
        for bytes in self.bytes.sizes() {
            let Some(x) = self.bytes.place(bytes as f64) else { continue };
            self.line("axis", Spot { x, y: HEIGHT }, Spot { x, y: HEIGHT + 5.0 });
            let middle: [(&'static str, &dyn std::fmt::Display); 4] =
                [("class", &"tick"), ("x", &Percent::of(x)), ("y", &Px(HEIGHT + 19.0)), ("text-anchor", &"middle")];
            self.html.el("text", &middle, |html| html.text(&size(bytes)));
        }
    }

    fn bound(&mut self, bound: &Bound) {
        let Some(y) = self.y(bound.bytes_per_second) else { return };
        self.room.line(y);
        self.html.el(
            "line",
            &[("class", &"bound"), ("x1", &"0%"), ("x2", &"100%"), ("y1", &Px(y)), ("y2", &Px(y))],
            |html| {
                html.say(
                    "title",
                    "",
                    &format!("{} {}. {}", bound_name(bound.kind), rate(bound.bytes_per_second), bound.basis),
                );
            },
        );
    }

    fn name_bound(&mut self, bound: &Bound, all: &[Bound]) {
        let Some(y) = self.y(bound.bytes_per_second) else { return };
        // Where lines lie so close that no text fits between them, it stands above them all, or below.
        let mut others: Vec<f64> = all.iter().filter_map(|bound| self.y(bound.bytes_per_second)).collect();
        others.sort_by(f64::total_cmp);
        let near = |from: f64, other: f64| if (from - other).abs() < 17.0 { other } else { from };
        let low = others.iter().fold(y, |low, other| low.max(near(low, *other)));
        let high = others.iter().rev().fold(y, |high, other| high.min(near(high, *other)));
        let beside = |y: f64| [(y, 0.0), (y, 1.0)];
        let places = [y - 5.0, y + 14.0, high - 5.0, low + 14.0, high - 21.0, low + 30.0].map(beside);
        let middle = [(y - 5.0, 0.5), (y + 14.0, 0.5)];
        let places = places.iter().flatten().chain(&middle).map(|&(y, x)| {
            let ends = x == 1.0;
            Place { x, aside: if ends { -2.0 } else { 2.0 }, ends, y }
        });
        let places: Vec<Place> = places.collect();
        let text = format!("{} {}", bound_name(bound.kind), gigabytes(bound.bytes_per_second));
        self.text("of-bound", &text, 12.0, &places);
    }

    /// The lines of the curve: the last of it, the rate of the largest string, is to be named.
    fn curve<'d>(&mut self, device: &'d OfDevice) -> Option<&'d Line> {
        let mut lines: Vec<&Line> = drawn(device).filter(|line| line.what == What::Size).collect();
        lines.sort_by_key(|line| line.bytes);
        let spots: Vec<Spot> = lines.iter().filter_map(|line| self.spot(line.bytes, line.bytes_per_second)).collect();
        self.room.curve(&spots);
        for pair in spots.windows(2) {
            self.line("curve", pair[0], pair[1]);
        }
        for line in &lines {
            let Some(Spot { x, y }) = self.spot(line.bytes, line.bytes_per_second) else { continue };
            self.whisker(line);
            let attributes: [(&'static str, &dyn std::fmt::Display); 4] =
                [("class", &"point"), ("cx", &Percent::of(x)), ("cy", &Px(y)), ("r", &4)];
            self.html.el("circle", &attributes, |html| html.say("title", "", &told(line)));
        }
        lines.last().copied()
    }

    fn name_curve(&mut self, line: &Line) {
        let Some(Spot { x, y }) = self.spot(line.bytes, line.bytes_per_second) else { return };
        let places = [y + 22.0, y - 11.0, y + 40.0].map(|y| {
            [
                Place { x, aside: 6.0, ends: true, y },
                Place { x, aside: -6.0, ends: false, y },
                Place { x, aside: -30.0, ends: false, y },
            ]
        });
        self.text("of-curve", &rate(line.bytes_per_second), 14.0, places.as_flattened());
    }

    fn file(&mut self, line: &Line) {
        let Some(spot) = self.spot(line.bytes, line.bytes_per_second) else { return };
        self.whisker(line);
        self.room.curve(&[spot]);
        let class = if line.cache == Some(Cache::Cold) { "cold" } else { "warm" };
        self.at(spot, |html| {
            html.el("path", &[("class", &class), ("d", &"M-6 0L0 -6L6 0L0 6Z")], |html| {
                html.say("title", "", &told(line));
            });
        });
    }

    /// Names of files beside their marks: of those of one size, which lie above one another, in the order of their rates.
    fn name_files(&mut self, files: &[&Line]) {
        let mut files: Vec<(&Line, Spot)> =
            files.iter().filter_map(|&line| Some((line, self.spot(line.bytes, line.bytes_per_second)?))).collect();
        files.sort_by(|(a, at), (b, other)| a.bytes.cmp(&b.bytes).then(at.y.total_cmp(&other.y)));
        for of_size in files.chunk_by(|(a, _), (b, _)| a.bytes == b.bytes) {
            let texts: Vec<String> = of_size.iter().map(|(line, _)| file_name(line)).collect();
            let mut marks: Vec<(&str, Spot)> =
                texts.iter().zip(of_size).map(|(text, (_, spot))| (text.as_str(), *spot)).collect();
            // No more than fit above one another.
            marks.truncate((HEIGHT / FILE) as usize);
            while !marks.is_empty() {
                if let Some(places) = self.room.take_stack(&marks, FILE) {
                    marks.iter().zip(places).for_each(|(mark, place)| self.name_file(mark, &place));
                    break;
                }
                // The table has it.
                marks.pop();
            }
        }
    }

    fn name_file(&mut self, (text, spot): &(&str, Spot), place: &Place) {
        self.write("of-file", text, place);
        let down = place.y - 4.0 - spot.y;
        if down.abs() > 6.0 || place.aside.abs() > 20.0 {
            // From the mark to a text that stands apart from it.
            let x = place.aside.signum() * (place.aside.abs() - 2.0);
            self.at(*spot, |html| {
                html.shape("line", &[("class", &"leader"), ("x1", &0), ("x2", &Px(x)), ("y1", &0), ("y2", &Px(down))]);
            });
        }
    }

    /// A drawing of its own, so that its corners lie pixels from a place in per cent.
    fn at(&mut self, spot: Spot, draw: impl FnOnce(&mut Html)) {
        let (x, y) = (Percent::of(spot.x), Px(spot.y));
        self.html.el("svg", &[("x", &x), ("y", &y), ("width", &1), ("height", &1), ("overflow", &"visible")], draw);
    }

    /// From the slowest run to the fastest.
    fn whisker(&mut self, line: &Line) {
        if let Some((low, high)) = self.spot(line.bytes, slowest(line)).zip(self.spot(line.bytes, fastest(line))) {
            self.line("whisker", low, high);
        }
    }

    /// A text in the best of these places. Where it would cover another in all of them, it is not written: the table has it.
    fn text(&mut self, class: &'static str, text: &str, size: f64, places: &[Place]) {
        if let Some(place) = self.room.take(text, size, places.iter().copied()) {
            self.write(class, text, &place);
        }
    }

    fn write(&mut self, class: &'static str, text: &str, place: &Place) {
        let anchor = if place.ends { "end" } else { "start" };
        let (x, dx, y) = (Percent::of(place.x), Px(place.aside), Px(place.y));
        self.html.el(
            "text",
            &[("class", &class), ("x", &x), ("dx", &dx), ("y", &y), ("text-anchor", &anchor)],
            |html| html.text(text),
        );
    }
}

/// `blake3 warm`
fn file_name(line: &Line) -> String {
    let word = match line.cache {
        Some(Cache::Cold) => " cold",
        Some(Cache::Warm) => " warm",
        None => "",
    };
    format!("{}{word}", short(&line.name, 16))
}

fn told(line: &Line) -> String {
    let of = line.share.map(|share| format!(", {} of its bound", percent(share))).unwrap_or_default();
    format!("{}: {}{of}; {} to {}", line.name, rate(line.bytes_per_second), rate(slowest(line)), rate(fastest(line)))
}

fn bounds_table(html: &mut Html, device: &OfDevice) {
    if device.bounds.is_empty() {
        return;
    }
    let of = |bound: &Bound| Cell::number(bound.bytes_per_second, gigabytes(bound.bytes_per_second));
    let rows: Vec<_> = device
        .bounds
        .iter()
        .map(|bound| vec![Cell::text(bound_name(bound.kind)), of(bound), Cell::text(bound.basis.clone())])
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
    let has = |what: What, cold: bool| {
        devices.iter().flat_map(drawn).any(|line| line.what == what && cold == (line.cache == Some(Cache::Cold)))
    };
    html.el("ul", &[("class", &"key")], |html| {
        if has(What::Size, false) {
            sample(html, "one string in the device’s memory", |html| {
                html.shape("line", &[("class", &"curve"), ("x1", &0), ("x2", &28), ("y1", &7), ("y2", &7)]);
                html.shape("circle", &[("class", &"point"), ("cx", &14), ("cy", &7), ("r", &4)]);
            });
        }
        for (class, text, cold) in
            [("warm", "a file from the page cache (warm)", false), ("cold", "a file from the disk (cold)", true)]
        {
            if has(What::Digest, cold) {
                sample(html, text, |html| html.shape("path", &[("class", &class), ("d", &"M8 7L14 1L20 7L14 13Z")]));
            }
        }
        if devices.iter().any(|device| !device.bounds.is_empty()) {
            sample(html, "bound of what passes through that part", |html| {
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

/// Per cent of a drawing's width.
pub(super) struct Percent(f64);

impl Percent {
    /// Of a part, 1.0 for all. What is no part is drawn as none, what is more than all as all.
    pub(super) fn of(part: f64) -> Self {
        Self(if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) * 100.0 })
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}%", self.0)
    }
}

/// Pixels.
struct Px(f64);

impl std::fmt::Display for Px {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}
