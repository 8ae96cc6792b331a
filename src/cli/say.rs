//! The two streams that people read: standard error for the story, standard output for the result.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use tensorseal::method::Warning;

use super::args::LogLevel;

const YES: Style = AnsiColor::Green.on_default().bold();
const NO: Style = AnsiColor::Red.on_default().bold();
const CARE: Style = AnsiColor::Yellow.on_default().bold();

static LEVEL: OnceLock<LogLevel> = OnceLock::new();

pub(super) fn set_level(level: LogLevel) {
    LEVEL.get_or_init(|| level);
}

/// A line of the story. If standard error is gone, nobody is there to be told.
fn line(level: LogLevel, text: impl fmt::Display) {
    if *LEVEL.get().unwrap_or(&LogLevel::Info) >= level {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

pub(super) fn warning(text: impl fmt::Display) {
    line(LogLevel::Warning, format_args!("{CARE}warning:{CARE:#} {}", tame(&text.to_string())));
}

/// What the library has to say of keys and certificates.
pub(super) fn of_method(about: Warning) {
    match about {
        Warning::CertificatesLeftOut { .. } => info(about),
        _ => warning(about),
    }
}

/// A line for those who follow what happens.
pub(super) fn info(text: impl fmt::Display) {
    line(LogLevel::Info, tame(&text.to_string()));
}

pub(super) fn failure(what: &str, text: impl fmt::Display) {
    line(LogLevel::Critical, format_args!("{NO}{what}{NO:#} {}", tame(&text.to_string())));
}

/// A line that belongs to a failure and is shown whenever the failure is.
pub(super) fn reason(label: &str, text: impl fmt::Display) {
    line(LogLevel::Critical, format_args!("  {label:<13}{}", tame(&text.to_string())));
}

pub(super) fn detail(label: &str, text: impl fmt::Display) {
    line(LogLevel::Info, format_args!("  {label:<13}{}", tame(&text.to_string())));
}

/// What a person must read to go on, alone on its line so that it can be copied.
#[cfg(feature = "sigstore-sign")]
pub(super) fn request(text: &str) {
    line(LogLevel::Critical, tame(text));
}

/// Writes to standard output. A reader that has closed the pipe has what it wanted (`| head`).
pub(super) fn out(text: &str) -> io::Result<()> {
    written(anstream::stdout().lock(), text)
}

/// The same for what may be long and holds no colour: where no terminal would act on it, it is not searched for such.
pub(super) fn listing(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() { out(text) } else { written(io::stdout().lock(), text) }
}

fn written(mut stdout: impl Write, text: &str) -> io::Result<()> {
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The one line of success that scripts look for, in a colour where there are any.
pub(super) fn success(text: &str) -> String {
    format!("{YES}{text}{YES:#}\n")
}

/// The same in the story, where standard output is another program's.
pub(super) fn done(text: &str) {
    line(LogLevel::Info, format_args!("{YES}{text}{YES:#}"));
}

/// A report for machines on standard error, whatever the level: it was asked for.
pub(super) fn report(line_of_json: &str) {
    line(LogLevel::Critical, line_of_json);
}

/// A name that somebody else chose, on one line and without power over the terminal. Only what must be escaped is:
/// `it's` stays as it is, a backslash is doubled so that an escape cannot be feigned.
pub(super) fn name(name: &str) -> String {
    name.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// The same for a path.
pub(super) fn path(path: &Path) -> String {
    name(&path.to_string_lossy())
}

/// A message with whatever a terminal would act on, or not show, escaped. Backslashes stay: names in it are escaped
/// already.
pub(super) fn tame(message: &str) -> String {
    message.chars().map(|c| if acts(c) { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

/// Whether a terminal would do something else with this character than show it: control characters, line ends,
/// overrides of the writing direction, spaces of no width.
pub(super) fn acts(c: char) -> bool {
    // Behind a letter, so that a combining accent counts as part of it.
    !matches!(c, '\'' | '"' | '\\') && String::from_iter(['a', c]).escape_debug().count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_act_on_the_terminal_and_stay_readable() {
        for (given, shown) in [
            ("it's \"new\"", "it's \"new\""),
            ("back\\slash", "back\\\\slash"),
            ("\\'", "\\\\'"),
            ("two\nlines", "two\\nlines"),
            ("red\x1b[31m\u{9b}", "red\\u{1b}[31m\\u{9b}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("ünï-模型-e\u{301}", "ünï-模型-e\u{301}"),
        ] {
            assert_eq!(name(given), shown);
            assert_eq!(tame(&name(given)), shown, "a name inside a message is escaped once");
        }
        assert_eq!(tame("unknown field `a\x1b[2J\r`, \"b\\n\""), "unknown field `a\\u{1b}[2J\\r`, \"b\\n\"");
    }
}
