//! Where in a plot a text can stand without covering another text, and covering as little else as can be.
//!
//! A plot is as wide as the page, which is not known here. Places are tried at the least width that it can have: a text is a part of
//! the width that only shrinks when the plot grows, so that what is free there is free at any width.

/// Of a plot on a phone, in pixels.
const NARROW: f64 = 250.0;

/// What lies in a plot: across from 0 to 1, down in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A place for a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// Where it is fixed, across.
    pub(super) x: f64,
    /// From there, in pixels.
    pub(super) aside: f64,
    /// Whether it ends there: else it begins there.
    pub(super) ends: bool,
    /// Its base line.
    pub(super) y: f64,
}

#[derive(Debug, Clone, Copy)]
struct Box {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Box {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// A plot that is being filled.
#[derive(Debug)]
pub(super) struct Room {
    height: f64,
    taken: Vec<Box>,
    spots: Vec<Spot>,
    lines: Vec<f64>,
}

impl Room {
    pub(super) fn new(height: f64) -> Self {
        Self { height, taken: Vec::new(), spots: Vec::new(), lines: Vec::new() }
    }

    /// A line from one side to the other. Text should not stand on it.
    pub(super) fn line(&mut self, y: f64) {
        self.lines.push(y);
    }

    /// A point. Text should not cover it, nor what joins it with the one before.
    pub(super) fn curve(&mut self, points: &[Spot]) {
        for pair in points.windows(2) {
            for step in 0..=8 {
                let part = f64::from(step) / 8.0;
                self.spots.push(Spot {
                    x: pair[0].x + (pair[1].x - pair[0].x) * part,
                    y: pair[0].y + (pair[1].y - pair[0].y) * part,
                });
            }
        }
        self.spots.extend(points);
    }

    /// The best of these places for a text of this size, which is then taken. None: it would cover another text in all of them.
    pub(super) fn take(&mut self, text: &str, size: f64, places: impl Iterator<Item = Place>) -> Option<Place> {
        let width = width(text, size);
        let (_, place, taken) = places
            .enumerate()
            .filter_map(|(order, place)| {
                let edge = place.x * NARROW + place.aside;
                let (left, right) = if place.ends { (edge - width, edge) } else { (edge, edge + width) };
                let taken = Box { left, right, top: place.y - size, bottom: place.y + size * 0.3 };
                let outside = left < 0.0 || right > NARROW || taken.top < 0.0 || taken.bottom > self.height;
                (!outside && !self.taken.iter().any(|other| other.meets(&taken)))
                    .then(|| (self.covers(&taken) * 10 + order, place, taken))
            })
            .min_by_key(|(cost, ..)| *cost)?;
        self.taken.push(taken);
        Some(place)
    }

    fn covers(&self, taken: &Box) -> usize {
        let spots = self.spots.iter().filter(|spot| {
            let (x, y) = (spot.x * NARROW, spot.y);
            (taken.left - 4.0..=taken.right + 4.0).contains(&x) && (taken.top - 2.0..=taken.bottom + 2.0).contains(&y)
        });
        let lines = self.lines.iter().filter(|y| (taken.top + 2.0..=taken.bottom).contains(*y));
        spots.count() + 2 * lines.count()
    }
}

/// Of a text in the widest of the usual fonts, and a little more.
fn width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'W' | 'M' | 'm' | 'w' | '%' | '@' | '…' => 1.0,
        'i' | 'l' | 'I' | 'j' | '.' | ',' | ' ' | '\u{a0}' | '-' => 0.42,
        'A'..='Z' => 0.76,
        _ if c.is_ascii() => 0.65,
        // Written out, at worst: `\u{202e}`.
        _ if String::from_iter(['a', c]).escape_debug().count() > 2 => 5.5,
        _ => 1.1,
    };
    (text.chars().map(em).sum::<f64>() + 0.3) * size
}
