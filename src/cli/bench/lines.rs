//! Lines that people read: columns, sentences, numbers.

use crate::cli::say;

/// No line is longer, in characters, where it can be helped.
pub(super) const WIDTH: usize = 100;

/// Which edge the cells of a column stand at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Left,
    Right,
}

/// Rows in columns two blanks apart, `indent` blanks in. The first cell of a row that is longer than `first` has a line of its own.
pub(super) fn columns<const N: usize>(
    indent: usize,
    first: usize,
    edges: [Edge; N],
    rows: &[[String; N]],
) -> Vec<String> {
    let length = |cell: &String| cell.chars().count();
    let fits = |column: usize, cell: &String| column > 0 || length(cell) <= first;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).filter(|cell| fits(column, cell));
        cells.map(length).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut lines = Vec::new();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (column, cell) in row.iter().enumerate() {
            if !fits(column, cell) {
                let text = cell.trim_start();
                lines.extend(sentence(indent + length(cell) - text.chars().count(), "", text));
            }
            let cell = if fits(column, cell) { cell.as_str() } else { "" };
            let width = widths[column];
            if width > 0 {
                line += &match edges[column] {
                    Edge::Left => format!("{cell:<width$}  "),
                    Edge::Right => format!("{cell:>width$}  "),
                };
            }
        }
        // Nothing is left of a row that was one long cell.
        if !line.trim_end().is_empty() {
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// A label and a text behind it, broken at blanks, with later lines under the first.
pub(super) fn sentence(indent: usize, label: &str, text: &str) -> Vec<String> {
    let begin = format!("{:indent$}{label}", "");
    let under = begin.chars().count();
    let mut lines = vec![begin];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let length = line.chars().count();
        if length > under && length + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{:under$}{word}", ""));
        } else {
            *line += if length > under { " " } else { "" };
            *line += word;
        }
    }
    lines
}

/// A name from a report, which may have come from anywhere: on one line, and not without end.
pub(super) fn name(text: &str) -> String {
    const LONGEST: usize = 400;
    let shown: String = text.chars().take(LONGEST).collect();
    let cut = if shown.len() < text.len() { " .." } else { "" };
    say::name(&shown) + cut
}

/// Three digits that count, or four: `0.0123`, `0.1000`, `1.23`, `12.3`, `1230`.
pub(super) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.01.. => 4,
        _ => return if value == 0.0 { "0".to_owned() } else { format!("{value:.2e}") },
    };
    format!("{value:.decimals$}")
}

/// Bytes a second in GB/s, without the unit.
pub(super) fn rate(bytes_per_second: f64) -> String {
    digits(bytes_per_second / 1e9)
}

/// `1.23 s`, `45.6 ms`, `7.89 us`.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{} us", digits(seconds * 1e6)),
        ..1.0 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} s", digits(seconds)),
    }
}

/// A part of one as a percentage: `0.3 %`, `12 %`.
pub(super) fn percent(part: f64) -> String {
    if part < 0.0995 { format!("{:.1} %", part * 100.0) } else { format!("{:.0} %", part * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let shown = [0.0, 0.000_123, 0.0123, 0.123, 1.234, 12.34, 123.4, 1234.5].map(digits);
        assert_eq!(shown, ["0", "1.23e-4", "0.0123", "0.123", "1.23", "12.3", "123", "1234"]);
        assert_eq!([1e-7, 0.0123, 3.21, 100.0].map(time), ["0.1000 us", "12.3 ms", "3.21 s", "100 s"]);
        assert_eq!([0.0, 0.003, 0.0994, 0.0996, 1.2].map(percent), ["0.0 %", "0.3 %", "9.9 %", "10 %", "120 %"]);
        assert_eq!(rate(2.5e9), "2.50");
    }

    #[test]
    fn columns_line_up_and_what_is_too_long_stands_alone() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let rows = [row("a", "1"), row("much too long", "22"), row(" a heading", ""), row("ccc", "3")];
        assert_eq!(
            columns(2, 5, [Edge::Left, Edge::Right], &rows),
            ["  a     1", "  much too long", "       22", "   a heading", "  ccc   3"]
        );
    }

    #[test]
    fn sentences_break_at_blanks_and_stay_under_their_beginning() {
        let lines = sentence(2, "why  ", &"word ".repeat(40));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:?}");
        assert!(lines[0].starts_with("  why  word") && lines[1].starts_with("       word"));
        assert_eq!(sentence(0, "", &"x".repeat(200)).len(), 1, "a word is not broken");
    }
}
