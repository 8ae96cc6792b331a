//! The page read back, by a reader that takes no more than the page may have: no tag without its end, no attribute without quotes,
//! nothing that is not escaped.

/// An element, or the document.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) tag: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    /// All text in it, that of its children included.
    pub(super) text: String,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// It and everything in it.
    pub(super) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Self::all));
        all
    }

    pub(super) fn tagged(&self, tag: &str) -> Vec<&Self> {
        self.all().into_iter().filter(|element| element.tag == tag).collect()
    }
}

/// What ends at its own tag, since HTML gives it no end.
const VOID: [&str; 1] = ["meta"];

/// Reads a page, or says what is wrong with it.
pub(super) fn read(page: &str) -> Result<Element, String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").ok_or("no document type")?;
    let mut open = vec![Element::default()];
    while !rest.is_empty() {
        let Some(markup) = rest.strip_prefix('<') else {
            let end = rest.find('<').unwrap_or(rest.len());
            let text = if open.last().is_some_and(|element| element.tag == "style") {
                rest[..end].to_owned()
            } else {
                plain(&rest[..end])?
            };
            open.iter_mut().for_each(|element| element.text.push_str(&text));
            rest = &rest[end..];
            continue;
        };
        let (tag, after) = markup.split_once('>').ok_or("a tag without an end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let closed = open
                .pop()
                .filter(|element| element.tag == name)
                .ok_or_else(|| format!("{name} ends where it does not"))?;
            open.last_mut().ok_or("too many ends")?.children.push(closed);
            continue;
        }
        let element = element(tag)?;
        if VOID.contains(&element.tag.as_str()) {
            open.last_mut().ok_or("no document")?.children.push(element);
        } else {
            open.push(element);
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(document), true) => Ok(document),
        (left, _) => Err(format!("{:?} has no end", left.map(|element| element.tag))),
    }
}

fn element(tag: &str) -> Result<Element, String> {
    let (name, mut rest) = tag.split_once(' ').map_or((tag, ""), |(name, rest)| (name, rest));
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) || name.is_empty() {
        return Err(format!("the name of a tag: {name}"));
    }
    let mut element = Element { tag: name.to_owned(), ..Element::default() };
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").ok_or_else(|| format!("an attribute without quotes: {rest}"))?;
        let (value, after) = after.split_once('"').ok_or_else(|| format!("a value without an end: {after}"))?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || element.attribute(name).is_some() {
            return Err(format!("the name of an attribute: {name}"));
        }
        element.attributes.push((name.to_owned(), plain(value)?));
        rest = after.strip_prefix(' ').unwrap_or(after);
        if !after.is_empty() && rest.len() == after.len() {
            return Err(format!("something behind a value: {after}"));
        }
    }
    Ok(element)
}

/// Text without its escapes; an error for what should have been escaped.
fn plain(text: &str) -> Result<String, String> {
    if let Some(c) = text.chars().find(|c| matches!(c, '<' | '>' | '"' | '\'') || acts(*c)) {
        return Err(format!("{c:?} in a text: {text}"));
    }
    let mut out = String::new();
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or_else(|| format!("& in a text: {text}"))?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => return Err(format!("an escape that is none: {name}")),
        });
        out.push_str(rest);
    }
    Ok(out)
}

/// Whether a browser would do something else with it than show it. Listed here one by one: the page asks the standard library.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}' | '\u{61c}')
}

#[test]
fn the_reader_takes_what_is_well_formed_and_nothing_else() {
    let good = read("<!DOCTYPE html>\n<p id=\"a\" class=\"b c\">x &lt; <b>y</b></p><meta charset=\"utf-8\">").unwrap();
    assert_eq!((good.children.len(), good.text.as_str()), (2, "x < y"));
    assert_eq!(good.children[0].attribute("class"), Some("b c"));
    for bad in [
        "<p>",
        "</p>",
        "<p><b></p></b>",
        "<p id=a></p>",
        "<p id=\"a\" id=\"b\"></p>",
        "<p id=\"a\"b></p>",
        "a & b",
        "a > b",
        "\u{202e}",
        "\u{7}",
        "&nbsp;",
        "<P></P>",
    ] {
        assert!(read(&format!("<!DOCTYPE html>\n{bad}")).is_err(), "{bad}");
    }
}
