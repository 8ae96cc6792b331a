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
        let (_, place, taken) = places
            .enumerate()
            .filter_map(|(order, place)| {
                let taken = self.free(text, size, &place)?;
                Some((self.covers(&taken) * 10 + order, place, taken))
            })
            .min_by_key(|(cost, ..)| *cost)?;
        self.taken.push(taken);
        Some(place)
    }

    /// Places for the texts of marks, which come from the top down: beside the marks, in the order of the marks, all on one side. They
    /// are then taken. None: there is no room for all.
    pub(super) fn take_stack(&mut self, marks: &[(&str, Spot)], size: f64) -> Option<Vec<Place>> {
        let mut best: Option<(f64, Vec<(Place, Box)>)> = None;
        for (order, (ends, aside)) in
            [(true, -11.0), (false, 11.0), (true, -24.0), (false, 24.0)].into_iter().enumerate()
        {
            for step in 0..=16_i32 {
                // Nearest first: 0, 6, -6, 12, ..
                let shift = f64::from((step + 1) / 2 * 6) * if step % 2 == 0 { -1.0 } else { 1.0 };
                let wanted: Vec<f64> = marks.iter().map(|(_, spot)| spot.y + 4.0 + shift).collect();
                let ys = apart(&wanted, size * 1.35, size, self.height - size * 0.3)?;
                let at = |((text, spot), y): (&(&str, Spot), f64)| {
                    let place = Place { x: spot.x, aside, ends, y };
                    self.free(text, size, &place).map(|taken| (place, taken))
                };
                let Some(all) = marks.iter().zip(ys).map(at).collect::<Option<Vec<_>>>() else { continue };
                let covered: usize = all.iter().map(|(_, taken)| self.covers(taken)).sum();
                let far: f64 =
                    all.iter().zip(marks).map(|((place, _), (_, spot))| (place.y - 4.0 - spot.y).abs()).sum();
                let cost = covered as f64 * 10.0 + far / 2.0 + order as f64 * 3.0;
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, all));
                }
            }
        }
        let (_, all) = best?;
        self.taken.extend(all.iter().map(|(_, taken)| *taken));
        Some(all.into_iter().map(|(place, _)| place).collect())
    }

    /// What a text takes there. None: it would leave the plot, or cover another.
    fn free(&self, text: &str, size: f64, place: &Place) -> Option<Box> {
        let (edge, width) = (place.x * NARROW + place.aside, width(text, size));
        let (left, right) = if place.ends { (edge - width, edge) } else { (edge, edge + width) };
        let taken = Box { left, right, top: place.y - size, bottom: place.y + size * 0.3 };
        let outside = left < 0.0 || right > NARROW || taken.top < 0.0 || taken.bottom > self.height;
        (!outside && !self.taken.iter().any(|other| other.meets(&taken))).then_some(taken)
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

/// Numbers as near to these as can be, which rise, that are no less than `gap` apart and lie between the two last. None: they do not
/// fit in between.
fn apart(wanted: &[f64], gap: f64, least: f64, most: f64) -> Option<Vec<f64>> {
    let room = most - least - gap * wanted.len().saturating_sub(1) as f64;
    if room < 0.0 {
        return None;
    }
    // Without the gaps they may be equal and must not fall: neighbours that do are pooled at their mean.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        pools.push((wanted - gap * at as f64, 1));
        while let [.., (before, a), (after, b)] = pools[..]
            && before > after
        {
            pools.truncate(pools.len() - 2);
            pools.push(((before * a as f64 + after * b as f64) / (a + b) as f64, a + b));
        }
    }
    let level = pools.iter().flat_map(|&(mean, count)| std::iter::repeat_n(mean.clamp(least, least + room), count));
    Some(level.enumerate().map(|(at, y)| y + gap * at as f64).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_marks_keep_the_order_of_the_marks() {
        assert_eq!(apart(&[10.0, 50.0], 17.0, 0.0, 100.0), Some(vec![10.0, 50.0]));
        assert_eq!(apart(&[50.0, 50.0, 50.0], 10.0, 0.0, 100.0), Some(vec![40.0, 50.0, 60.0]));
        assert_eq!(apart(&[98.0, 99.0], 10.0, 0.0, 100.0), Some(vec![90.0, 100.0]));
        assert_eq!(apart(&[0.0; 3], 10.0, 0.0, 19.0), None);
        let mut room = Room::new(300.0);
        room.line(150.0);
        let marks = [140.0, 150.0, 151.0, 152.0].map(|y| ("blake3 cold", Spot { x: 0.5, y }));
        let places = room.take_stack(&marks, 13.0).unwrap();
        assert!(places.windows(2).all(|two| two[1].y - two[0].y > 16.9 && two[0].aside == two[1].aside), "{places:?}");
        // Where they stand now, nothing else does.
        let again = room.take_stack(&marks, 13.0).unwrap();
        assert!(
            again.iter().all(|a| places.iter().all(|b| a.aside * b.aside < 0.0 || (a.y - b.y).abs() > 16.8)),
            "{again:?}"
        );
        assert_eq!(room.take_stack(&[marks[0]; 18], 13.0), None);
    }
}
