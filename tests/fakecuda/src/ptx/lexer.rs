//! PTX text into tokens, each with the line it stands on.

/// One token. Numbers stay text: what they may be depends on where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A directive (`.reg`), a mnemonic (`ld.global.nc.L1::no_allocate.u32`), a register (`%r1`), a name.
    Word(&'a str),
    /// A number as written: `16`, `0x10`, `8.4`.
    Number(&'a str),
    /// A string without its quotes.
    Text(&'a str),
    /// One of `{ } ( ) [ ] < > , ; : + - | @ ! =`.
    Punctuation(char),
}

/// A token and the line, from 1, that it stands on.
pub(crate) type Placed<'a> = (Token<'a>, u32);

/// Splits `text`. Comments and the line information of `.loc` and `.file` (the only directives without a `;`) go.
///
/// # Errors
///
/// A character that PTX does not have, a comment or a string without its end.
pub(crate) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, String> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\n' => {
                line += 1;
                1
            }
            _ if first.is_ascii_whitespace() => 1,
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => {
                let end = rest.find("*/").ok_or_else(|| format!("line {line}: a comment without an end"))? + 2;
                line += lines_in(&rest[..end]);
                end
            }
            '"' => {
                let end = rest[1..].find('"').ok_or_else(|| format!("line {line}: a string without an end"))?;
                found.push((Token::Text(&rest[1..=end]), line));
                end + 2
            }
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
                found.push((Token::Number(&rest[..end]), line));
                end
            }
            _ if in_word(first) => {
                let end = end_of_word(rest);
                let word = &rest[..end];
                if matches!(word, ".loc" | ".file") {
                    rest.find('\n').unwrap_or(rest.len())
                } else {
                    found.push((Token::Word(word), line));
                    end
                }
            }
            _ if "{}()[]<>,;:+-|@!=".contains(first) => {
                found.push((Token::Punctuation(first), line));
                1
            }
            _ => return Err(format!("line {line}: the character {first:?}")),
        };
        rest = &rest[length..];
    }
    Ok(found)
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.' | '%')
}

/// A word may hold `::` (as in `shared::cta`), but a `:` alone ends a label.
fn end_of_word(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if in_word(char::from(byte)) {
            at += 1;
        } else if text[at..].starts_with("::") && bytes.get(at + 2).is_some_and(u8::is_ascii_alphanumeric) {
            at += 2;
        } else {
            break;
        }
    }
    at
}

fn lines_in(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}
