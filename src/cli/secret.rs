//! Where tokens and client secrets come from: a file, the environment; from the command line only under protest.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::say;

/// No token is longer; a file that is was given by mistake.
const LONGEST: u64 = 64 << 10;

/// What the options name.
pub(super) struct Source<'a> {
    /// The option's name, without `--`; those of the other two follow from it.
    pub(super) option: &'static str,
    pub(super) text: Option<&'a str>,
    pub(super) file: Option<&'a Path>,
    pub(super) variable: Option<&'a str>,
}

/// Why a secret could not be had, without the secret.
pub(super) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret that the options name, if they name any. `what` it is, for messages.
pub(super) fn given(source: &Source<'_>, what: &str) -> Result<Option<Zeroizing<String>>, Unreadable> {
    let option = source.option;
    if let Some(text) = source.text {
        say::warning(format_args!(
            "{what} on the command line can be seen by every user of this machine; use --{option}-file or --{option}-env"
        ));
        return Ok(Some(Zeroizing::new(text.to_owned())));
    }
    if let Some(path) = source.file {
        let cannot = |why: &dyn fmt::Display| Unreadable(format!("cannot read {what} in {path:?}: {why}"));
        // Room for all at once: a buffer that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
        let file = File::open(path).map_err(|error| cannot(&error))?;
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
        if text.len() as u64 > LONGEST {
            return Err(cannot(&"it is too long"));
        }
        return Ok(Some(Zeroizing::new(text.trim().to_owned())));
    }
    if let Some(name) = source.variable {
        // Whoever wrote the secret itself in place of a name must not see it in a log.
        let plain = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) && name.len() <= 64;
        let shown = if plain { name } else { "the name that was given" };
        let text = std::env::var(name).map_err(|error| {
            Unreadable(format!(
                "cannot read {what} in ${shown}: {}",
                match error {
                    std::env::VarError::NotPresent => "there is no such variable",
                    std::env::VarError::NotUnicode(_) => "it is not text",
                }
            ))
        })?;
        return Ok(Some(Zeroizing::new(text.trim().to_owned())));
    }
    Ok(None)
}
