//! Patterns of model paths.
//!
//! A pattern is an absolute path. In a component `*` stands for any characters, also none, and `?` for exactly one; a
//! component that is `**` stands for any number of components, also none. `\` before one of `* ? [ ] { } \` takes its
//! meaning away. Brackets and braces mean something in other grammars and nothing in this one, so they are refused
//! unless they are escaped: a pattern that silently matches nothing is a rule that is silently not applied.

use std::path::{Path, PathBuf};

/// The longest pattern: as long as Linux lets a path be.
const LONGEST: usize = 4096;

/// A pattern of absolute paths without links, `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Folders,
    One(Vec<Token>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Is(char),
    /// `?`
    Any,
    /// `*`
    Run,
}

/// Why a text is no pattern, or one that no resolved path matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternFault {
    /// No text at all.
    #[error("it is empty")]
    Empty,
    /// Not from `/` on.
    #[error("it is relative; write it from / on, since the model's resolved path is compared with it")]
    Relative,
    /// `//`, or `/` at the end.
    #[error("no resolved path has an empty component; write it without // and without / at the end")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("no resolved path has the component . or ..; write where it leads")]
    Dots,
    /// `**` beside something else.
    #[error("** stands for whole components only; write /**/, or * for a part of a component")]
    DoubleStar,
    /// A character that other grammars give a meaning to.
    #[error(
        "{0:?} has no meaning in patterns; write \\{0} for the character itself, and one rule for each alternative"
    )]
    Reserved(char),
    /// A backslash before a character that needs none.
    #[error("\\ stands only before * ? [ ] {{ }} and \\")]
    Escape,
    /// NUL, which no path holds.
    #[error("no path holds a NUL character")]
    Nul,
    /// Longer than any path.
    #[error("it is longer than {LONGEST} bytes, which no path is")]
    Long,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternFault> {
        if text.is_empty() {
            return Err(PatternFault::Empty);
        }
        if text.len() > LONGEST {
            return Err(PatternFault::Long);
        }
        let below = text.strip_prefix('/').ok_or(PatternFault::Relative)?;
        let parts = below.split('/').map(part).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), parts })
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is the pattern of this absolute, resolved path.
    pub(super) fn matches(&self, path: &str) -> bool {
        let Some(below) = path.strip_prefix('/') else { return false };
        let names: Vec<&str> = below.split('/').filter(|name| !name.is_empty()).collect();
        runs(
            &self.parts,
            &names,
            |part| *part == Part::Folders,
            |part, name| match part {
                Part::Folders => false,
                Part::One(tokens) => {
                    let chars: Vec<char> = name.chars().collect();
                    runs(
                        tokens,
                        &chars,
                        |token| *token == Token::Run,
                        |token, c| match token {
                            Token::Is(wanted) => wanted == c,
                            Token::Any => true,
                            Token::Run => false,
                        },
                    )
                }
            },
        )
    }

    /// The path of its first components, up to the first that could be several.
    pub(super) fn fixed(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        for part in &self.parts {
            let Part::One(tokens) = part else { break };
            let name: Option<String> =
                tokens.iter().map(|token| if let Token::Is(c) = token { Some(*c) } else { None }).collect();
            let Some(name) = name else { break };
            path.push(name);
        }
        path
    }

    /// Where its first components lead, if a link is among them: no resolved path begins with them then.
    pub(super) fn through_link(&self) -> Option<(PathBuf, PathBuf)> {
        let fixed = self.fixed();
        let there = |path: &Path| std::fs::canonicalize(path).ok().map(|found| (path.to_owned(), found));
        let (path, found) = fixed.ancestors().find_map(there)?;
        (path != found).then_some((path, found))
    }
}

fn part(text: &str) -> Result<Part, PatternFault> {
    match text {
        "" => return Err(PatternFault::EmptyComponent),
        "." | ".." => return Err(PatternFault::Dots),
        "**" => return Ok(Part::Folders),
        _ => {}
    }
    let mut tokens = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if tokens.last() == Some(&Token::Run) => return Err(PatternFault::DoubleStar),
            '*' => Token::Run,
            '?' => Token::Any,
            '[' | ']' | '{' | '}' => return Err(PatternFault::Reserved(c)),
            '\0' => return Err(PatternFault::Nul),
            '\\' => match chars.next() {
                Some(c @ ('*' | '?' | '[' | ']' | '{' | '}' | '\\')) => Token::Is(c),
                _ => return Err(PatternFault::Escape),
            },
            _ => Token::Is(c),
        });
    }
    Ok(Part::One(tokens))
}

/// Whether all of `items` are matched by all of `pattern`, where a pattern's element is a run of any items, or one.
///
/// After a mismatch only the last run has to take one more: whatever an earlier run could take instead, the last one can
/// take too. So the time is at most the product of the lengths.
fn runs<P, I>(pattern: &[P], items: &[I], is_run: impl Fn(&P) -> bool, one: impl Fn(&P, &I) -> bool) -> bool {
    let (mut p, mut i) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), items.get(i)) {
            (Some(run), _) if is_run(run) => {
                p += 1;
                again = Some((p, i));
            }
            (Some(part), Some(item)) if one(part, item) => {
                p += 1;
                i += 1;
            }
            (None, None) => return true,
            _ => match &mut again {
                Some((after, from)) if *from < items.len() => {
                    *from += 1;
                    (p, i) = (*after, *from);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn patterns_match_as_the_page_says() {
        for (pattern, yes, no) in [
            ("/m/a", &["/m/a"][..], &["/m", "/m/a/b", "/m/aa", "/m/A", "/", "m/a", ""][..]),
            ("/m/*", &["/m/a", "/m/.a", "/m/ü b"], &["/m", "/m/a/b", "/n/a"]),
            ("/m/llama-*", &["/m/llama-", "/m/llama-3"], &["/m/llama", "/m/llama-3/x", "/m/xllama-3"]),
            ("/m/*-*-z", &["/m/a-b-z", "/m/--z", "/m/a-z-z", "/m/a-b-z-z"], &["/m/a-z", "/m/a-b-z-", "/m/-z"]),
            ("/m/?", &["/m/a", "/m/模"], &["/m/", "/m/ab", "/m"]),
            ("/m/**", &["/m", "/m/a", "/m/a/b/c"], &["/", "/mm", "/n/m"]),
            ("/**", &["/", "/a", "/a/b"], &["a"]),
            ("/**/x", &["/x", "/a/x", "/a/b/x", "/x/x"], &["/", "/x/a", "/ax"]),
            ("/a/**/b/**/c", &["/a/b/c", "/a/1/b/2/3/c", "/a/b/b/c/c"], &["/a/c", "/a/c/b", "/a/b/c/d"]),
            ("/m/\\*\\[\\]\\{\\}\\?\\\\", &["/m/*[]{}?\\"], &["/m/a[]{}?\\"]),
            ("/m/ ", &["/m/ "], &["/m/"]),
        ] {
            for path in yes {
                assert!(matches(pattern, path), "{pattern} does not match {path}");
            }
            for path in no {
                assert!(!matches(pattern, path), "{pattern} matches {path}");
            }
        }
    }

    #[test]
    fn what_could_match_nothing_is_no_pattern() {
        use PatternFault as Fault;
        for (text, fault) in [
            ("", Fault::Empty),
            ("m/a", Fault::Relative),
            ("**/a", Fault::Relative),
            ("~/m", Fault::Relative),
            ("/", Fault::EmptyComponent),
            ("/m/", Fault::EmptyComponent),
            ("//m", Fault::EmptyComponent),
            ("/m/../n", Fault::Dots),
            ("/m/.", Fault::Dots),
            ("/m/a**", Fault::DoubleStar),
            ("/m/***", Fault::DoubleStar),
            ("/m/[ab]", Fault::Reserved('[')),
            ("/m/{a,b}", Fault::Reserved('{')),
            ("/m/a]", Fault::Reserved(']')),
            ("/m/a}", Fault::Reserved('}')),
            ("/m/a\\", Fault::Escape),
            ("/m/\\a", Fault::Escape),
            ("/m\\/a", Fault::Escape),
            ("/m/\0", Fault::Nul),
            (&format!("/{}", "a".repeat(LONGEST)), Fault::Long),
        ] {
            assert_eq!(Pattern::parse(text), Err(fault), "{text:?}");
        }
    }

    /// The definition, word for word, without thought for time.
    fn slow(pattern: &[Token], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([Token::Run, rest @ ..], _) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
            ([Token::Any, rest @ ..], [_, names @ ..]) => slow(rest, names),
            ([Token::Is(c), rest @ ..], [found, names @ ..]) => c == found && slow(rest, names),
            _ => false,
        }
    }

    #[test]
    fn matching_is_the_definition() {
        let all = |letters: &str, longest: usize| {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let to = all.len();
                for i in from..to {
                    all.extend(letters.chars().map(|c| format!("{}{c}", all[i])).collect::<Vec<_>>());
                }
                from = to;
            }
            all
        };
        let mut compared = 0;
        for pattern in all("ab*?", 4).into_iter().filter(|text| !text.is_empty() && !text.contains("**")) {
            let parsed = Pattern::parse(&format!("/{pattern}")).unwrap();
            let Part::One(tokens) = &parsed.parts[0] else { panic!("one component") };
            for name in all("ab", 5).into_iter().filter(|name| !name.is_empty()) {
                let chars: Vec<char> = name.chars().collect();
                assert_eq!(parsed.matches(&format!("/{name}")), slow(tokens, &chars), "{pattern} {name}");
                compared += 1;
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn a_pattern_made_to_take_long_does_not() {
        let pattern = format!("/{}b", "a*".repeat(1000));
        assert!(!matches(&pattern, &format!("/{}", "a".repeat(3000))));
        let pattern = format!("{}/b", "/**/a".repeat(500));
        assert!(!matches(&pattern, &"/a".repeat(1500)));
    }

    #[test]
    fn the_fixed_part_ends_before_the_first_that_varies() {
        for (pattern, fixed) in
            [("/a/b", "/a/b"), ("/a/b*/c", "/a"), ("/a/**/c", "/a"), ("/**", "/"), ("/a\\*/b?", "/a*")]
        {
            assert_eq!(Pattern::parse(pattern).unwrap().fixed(), Path::new(fixed), "{pattern}");
        }
    }

    #[test]
    fn links_among_the_fixed_components_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("real")).unwrap();
        std::os::unix::fs::symlink("real", home.join("link")).unwrap();
        let through = |below: &str| Pattern::parse(&format!("{}/{below}", home.display())).unwrap().through_link();
        for below in ["link", "link/*", "link/not/there", "link/**/x"] {
            assert_eq!(through(below), Some((home.join("link"), home.join("real"))), "{below}");
        }
        for below in ["real", "real/x", "*/link", "nothing/link", "**"] {
            assert_eq!(through(below), None, "{below}");
        }
    }
}
