//! Which names are accepted: one, or those that a regular expression matches from end to end.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

use crate::error::{quoted, tame};

/// The longest expression, in bytes.
const LONGEST: usize = 4096;

/// Bytes that a compiled expression may take: `.{1000}` has room, `(.{1000}){1000}` has not.
const COMPILED: usize = 1 << 20;

/// A name, or the whole-string regular expression of names, that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This name, byte for byte.
    Exact(String),
    /// Names that match as a whole.
    Regex(NameRegex),
}

/// A regular expression that matches whole names. Its syntax is that of the crate `regex-lite`: Perl's, without look-around
/// and back references; `\d`, `\w` and the like are ASCII.
#[derive(Debug, Clone)]
pub struct NameRegex {
    text: String,
    whole: Regex,
}

/// Why a regular expression is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// An empty one would match the empty name alone, and was hardly meant to.
    #[error("the regular expression is empty; to accept any name write `.*`")]
    Empty,
    /// Longer than any that a person writes.
    #[error("the regular expression has {len} bytes; at most {limit} are accepted")]
    TooLong {
        /// How many.
        len: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Not a regular expression, or one that takes too much memory.
    #[error("{} is not a regular expression that can be used: {why}", quoted(.text))]
    Syntax {
        /// The expression.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// A comment (`(?x)`) that would go on beyond the end of the expression.
    #[error("{} ends within a comment; leave comments (`(?x)`, `#`) out", quoted(.0))]
    Comment(String),
}

impl NameRegex {
    /// Compiles `text`, to be matched from end to end: neither an alternative at its top level nor a `$` before the end
    /// of a line makes it match a part.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > LONGEST {
            return Err(PatternError::TooLong { len: text.len(), limit: LONGEST });
        }
        let compile = |text: &str| RegexBuilder::new(text).size_limit(COMPILED).build();
        // Alone first: `a)|(b` is no expression, but would be one between the parentheses below.
        compile(text).map_err(|error| PatternError::Syntax { text: text.to_owned(), why: tame(&error.to_string()) })?;
        // `\A` and `\z` mean the ends whatever flags the expression sets for itself, and those end with the group.
        let whole = compile(&format!(r"\A(?:{text})\z")).map_err(|_| PatternError::Comment(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), whole })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for NameRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NameRegex {}

impl NamePattern {
    /// The names that `text` matches as a whole.
    ///
    /// # Errors
    /// [`PatternError`] if it is no regular expression, or too large a one.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        NameRegex::new(text).map(Self::Regex)
    }

    /// Whether `name` is accepted.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Regex(regex) => regex.whole.is_match(name),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(&quoted(name)),
            Self::Regex(regex) => write!(f, "one that matches {} as a whole", quoted(&regex.text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        NamePattern::regex(pattern).unwrap().matches(name)
    }

    #[test]
    fn an_expression_matches_whole_names_or_not_at_all() {
        for (pattern, name) in [
            ("a@example.com", "a@example.com"),
            ("a|b", "b"),
            ("a|ab", "ab"), // the first alternative that matches is not the only one tried
            ("a*?", "aaa"),
            ("^a$", "a"),
            (".*@example\\.com", "someone@example.com"),
            ("https://github\\.com/o/r/\\.github/workflows/.+@refs/tags/v[0-9.]+", GITHUB),
            ("(?i)A", "a"),
            ("(?x) a # comment\n", "a"),
            ("(?s).*", "two\nlines"),
            (".*", ""),
        ] {
            assert!(matches(pattern, name), "{pattern:?} {name:?}");
        }
        for (pattern, name) in [
            ("example.com", "a@example.com"),
            ("a@example.com", "a@example.com.evil.org"),
            ("a|b", "ab"),
            ("a|b", "xb"),
            ("a|b", "ax"),
            ("^a|b$", "ax"),
            ("^a|b$", "xb"),
            ("a$", "a\n"),
            ("(?m)a$", "a\nb"),
            ("(?m)^a$", "b\na"),
            (".*", "two\nlines"),
            ("a", "a\0"),
            ("a", "A"),
            ("a", "aa"),
            ("\\w+", "\u{e9}t\u{e9}"),
        ] {
            assert!(!matches(pattern, name), "{pattern:?} {name:?}");
        }
    }

    const GITHUB: &str = "https://github.com/o/r/.github/workflows/sign.yml@refs/tags/v1.2.3";

    #[test]
    fn an_expression_cannot_leave_its_parentheses() {
        for pattern in ["a)|(b", "a)|(?:.*", ")", "(", "a\\", "[a", "(?x)a#", "(?x)a#)|.*(?:", "(?x:a#", "(?x)a # .*"] {
            let error = NamePattern::regex(pattern).unwrap_err();
            assert!(matches!(error, PatternError::Syntax { .. } | PatternError::Comment(_)), "{pattern:?} {error}");
        }
        assert_eq!(NamePattern::regex(""), Err(PatternError::Empty));
    }

    #[test]
    fn an_expression_takes_little_memory_and_time() {
        for pattern in ["(.{1000}){1000}", "((a{100}){100}){100}", &"(".repeat(2000), &"(?:a".repeat(1000)] {
            assert!(matches!(NamePattern::regex(pattern), Err(PatternError::Syntax { .. })), "{pattern:.20}");
        }
        let long = "a".repeat(LONGEST + 1);
        assert_eq!(NamePattern::regex(&long), Err(PatternError::TooLong { len: LONGEST + 1, limit: LONGEST }));
        assert!(NamePattern::regex(&long[1..]).is_ok());
        // Exponential where an engine goes back.
        let begun = std::time::Instant::now();
        assert!(!matches("(a*)*b", &"a".repeat(2000)));
        assert!(begun.elapsed().as_secs() < 10);
    }

    #[test]
    fn an_exact_name_is_no_expression() {
        assert!(NamePattern::Exact("a.c".to_owned()).matches("a.c"));
        for name in ["abc", "a.c ", "A.c", "a.c\n", ""] {
            assert!(!NamePattern::Exact("a.c".to_owned()).matches(name), "{name:?}");
        }
    }
}
