//! Markup that is well formed by construction: elements close themselves, and whatever is written as text or as the value of an
//! attribute is escaped, whoever it comes from.

use std::fmt::{self, Display, Write};

/// A page while it is written.
#[derive(Debug, Default)]
pub(super) struct Html {
    text: String,
    ids: usize,
}

/// A name and what to write as its value.
pub(super) type Attribute<'a> = (&'static str, &'a dyn Display);

/// Characters of one text at most: names come from drivers and from other programs.
const LONGEST: usize = 1000;

impl Html {
    /// An element with what `inside` writes in it.
    pub(super) fn el(&mut self, tag: &'static str, attributes: &[Attribute<'_>], inside: impl FnOnce(&mut Self)) {
        self.void(tag, attributes);
        inside(self);
        self.push(format_args!("</{tag}>"));
    }

    /// An element that has no end: `meta`.
    pub(super) fn void(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.push(format_args!("<{tag}"));
        for (name, value) in attributes {
            self.push(format_args!(" {name}=\"{}\"", Escaped(&value.to_string())));
        }
        self.text.push('>');
    }

    /// An element of a drawing, with nothing in it.
    pub(super) fn shape(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.el(tag, attributes, |_| ());
    }

    /// An element with a text in it.
    pub(super) fn say(&mut self, tag: &'static str, class: &'static str, text: &str) {
        if class.is_empty() {
            self.el(tag, &[], |html| html.text(text));
        } else {
            self.el(tag, &[("class", &class)], |html| html.text(text));
        }
    }

    /// A text, ours or a stranger's.
    pub(super) fn text(&mut self, text: &str) {
        self.push(format_args!("{}", Escaped(text)));
    }

    /// A name that somebody else chose. It may be written from right to left: what stands beside it stays where it is.
    pub(super) fn name(&mut self, name: &str) {
        self.el("bdi", &[], |html| html.text(name));
    }

    /// A number as people read it, with the exact one for whoever copies the page's tables.
    pub(super) fn data(&mut self, exact: &dyn Display, shown: &str) {
        self.el("data", &[("value", exact)], |html| html.text(shown));
    }

    /// An `id` that nothing else on the page has.
    pub(super) fn id(&mut self) -> String {
        self.ids += 1;
        format!("n{}", self.ids)
    }

    /// What is no text: the document type, and the style sheet, both ours.
    pub(super) fn verbatim(&mut self, markup: &'static str) {
        self.text.push_str(markup);
    }

    /// Where the page ends now.
    pub(super) fn mark(&self) -> usize {
        self.text.len()
    }

    /// Takes back what was written after a mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        self.text.truncate(mark);
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, what: fmt::Arguments<'_>) {
        // A string takes whatever is written to it.
        let _ = self.text.write_fmt(what);
    }
}

/// Text as markup shows it: what is markup itself is escaped, and what would not be shown but act (control characters, overrides of
/// the writing direction, spaces of no width) is written out.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.0.chars().enumerate() {
            if at == LONGEST {
                return f.write_str(" ..");
            }
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What needs no thought, and the space between a number and its unit.
                ' '..='~' | '\u{a0}' => f.write_char(c)?,
                // Behind a letter, so that a combining accent counts as part of it.
                _ if String::from_iter(['a', c]).escape_debug().count() > 2 => write!(f, "{}", c.escape_debug())?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A cell of a table.
pub(super) enum Cell {
    /// A name or a sentence, whoever wrote it.
    Text(String),
    /// A number: the exact one, and as it is shown.
    Number(String, String),
    /// There is none.
    Nothing,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(exact: impl Display, shown: impl Into<String>) -> Self {
        Self::Number(exact.to_string(), shown.into())
    }
}

/// A heading of a column, and whether numbers stand in it.
pub(super) enum Column {
    Names(&'static str),
    Numbers(&'static str),
}

impl Column {
    fn name(&self) -> &'static str {
        match self {
            Self::Names(name) | Self::Numbers(name) => name,
        }
    }
}

/// The numbers behind a drawing, folded away under it.
pub(super) fn table(html: &mut Html, caption: &str, columns: &[Column], rows: &[Vec<Cell>]) {
    html.el("details", &[], |html| {
        html.say("summary", "", &format!("Table: {caption}"));
        let scrolls: [Attribute<'_>; 4] =
            [("class", &"scroll"), ("role", &"region"), ("tabindex", &0), ("aria-label", &caption)];
        html.el("div", &scrolls, |html| html.el("table", &[], |html| whole(html, caption, columns, rows)));
    });
}

/// A table in sight, that has no columns where the window is narrow: a row is its name then, and under that its numbers, each behind
/// the heading of its column.
pub(super) fn stacked_table(html: &mut Html, caption: &str, columns: &[Column], rows: &[Vec<Cell>]) {
    html.el("table", &[("class", &"stacked")], |html| whole(html, caption, columns, rows));
}

fn whole(html: &mut Html, caption: &str, columns: &[Column], rows: &[Vec<Cell>]) {
    html.say("caption", "", caption);
    html.el("thead", &[], |html| {
        html.el("tr", &[], |html| columns.iter().for_each(|column| head(html, column)));
    });
    html.el("tbody", &[], |html| {
        for row in rows {
            html.el("tr", &[], |html| {
                row.iter().zip(columns).enumerate().for_each(|(at, (cell, column))| one(html, at, cell, column.name()));
            });
        }
    });
}

fn head(html: &mut Html, column: &Column) {
    match column {
        Column::Names(name) => html.el("th", &[("scope", &"col")], |html| html.text(name)),
        Column::Numbers(name) => html.el("th", &[("scope", &"col"), ("class", &"number")], |html| html.text(name)),
    }
}

/// A cell, with the heading of its column, which a style sheet can show where there is no room for columns.
fn one(html: &mut Html, at: usize, cell: &Cell, of: &'static str) {
    let number: [Attribute<'_>; 2] = [("class", &"number"), ("data-of", &of)];
    match cell {
        Cell::Text(text) if at == 0 => html.el("th", &[("scope", &"row")], |html| html.name(text)),
        Cell::Text(text) => html.el("td", &[("data-of", &of)], |html| html.name(text)),
        Cell::Number(exact, shown) => html.el("td", &number, |html| html.data(exact, shown)),
        Cell::Nothing => html.el("td", &number, |html| html.text("–")),
    }
}
