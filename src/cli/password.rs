//! Where passwords come from: a file, the environment, a prompt; from the command line only under protest.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use tensorseal::key::PasswordError;
use tensorseal::method::Lock;
use zeroize::Zeroizing;

use super::args::PasswordArgs;
use super::say;

/// No password is longer; a file that is was given by mistake.
const LONGEST: u64 = 64 << 10;

/// Warns of what has happened already if there is a password on the command line.
pub(super) fn protest(args: &PasswordArgs) {
    if args.password.is_some() {
        say::warning(
            "a password on the command line can be seen by every user of this machine; use --password-file, --password-env or the prompt",
        );
    }
}

/// The password that the options name, if they name any.
pub(super) fn given(args: &PasswordArgs) -> Result<Option<Zeroizing<String>>, PasswordError> {
    if let Some(password) = &args.password {
        return Ok(Some(Zeroizing::new(password.clone())));
    }
    named(args.password_file.as_deref(), args.password_env.as_deref())
}

/// The first line of a file, or what an environment variable holds.
pub(super) fn named(file: Option<&Path>, variable: Option<&str>) -> Result<Option<Zeroizing<String>>, PasswordError> {
    if let Some(path) = file {
        let cannot = |why: String| PasswordError::Unreadable(format!("{}: {why}", say::path(path)));
        // Room for all at once: a buffer that grows leaves copies of the password behind.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
        let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| cannot(error.to_string()))?;
        if text.len() as u64 > LONGEST {
            return Err(cannot("it is too long to be one".to_owned()));
        }
        return Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())));
    }
    if let Some(name) = variable {
        // Whoever wrote the secret itself in place of a name must not see it in a log.
        let plain = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) && name.len() <= 64;
        let shown = if plain { name } else { "the name that was given" };
        let password = std::env::var(name).map_err(|error| PasswordError::Unreadable(format!("${shown}: {error}")))?;
        return Ok(Some(Zeroizing::new(password)));
    }
    Ok(None)
}

/// The password for a key that turned out to be encrypted: as given, or asked for.
pub(super) fn from(args: &PasswordArgs) -> impl FnMut(Lock<'_>) -> Result<Zeroizing<String>, PasswordError> {
    |lock| match given(args)? {
        Some(password) => Ok(password),
        None => ask(&format!("{lock}: ")),
    }
}

/// A new password, asked for twice.
pub(super) fn new() -> Result<Zeroizing<String>, PasswordError> {
    let first = ask("Password for the new key: ")?;
    if *first == *ask("The same again: ")? {
        Ok(first)
    } else {
        Err(PasswordError::Unreadable("the two were not the same".to_owned()))
    }
}

/// Asks on the terminal, if there is one.
pub(super) fn ask(prompt: &str) -> Result<Zeroizing<String>, PasswordError> {
    if !std::io::stdin().is_terminal() {
        return Err(PasswordError::NotGiven);
    }
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| PasswordError::Unreadable(error.to_string()))
}
