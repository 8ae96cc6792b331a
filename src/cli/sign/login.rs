//! Logging in at a terminal, with a browser or without.

use std::io::{BufRead, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use tensorseal::sign::sigstore::{LOGIN_TIMEOUT, LoginError, Prompt};
use zeroize::Zeroizing;

use crate::cli::say;

/// Whoever sits at this terminal.
pub(super) struct Person;

impl Person {
    fn at_terminal() -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// The command that opens a browser, if there is a screen to open it on. `BROWSER` is what other programs look at.
    fn browser() -> Option<Vec<String>> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if let Some(browser) = set("BROWSER") {
            return browser.split(':').map(words).find(|words| !words.is_empty());
        }
        let screen = set("DISPLAY").or_else(|| set("WAYLAND_DISPLAY")).is_some();
        let there = std::env::var_os("PATH")
            .is_some_and(|all| std::env::split_paths(&all).any(|dir| dir.join("xdg-open").is_file()));
        (screen && there).then(|| vec!["xdg-open".to_owned()])
    }
}

impl Prompt for Person {
    fn ready(&self, out_of_band: bool) -> Result<(), LoginError> {
        // Whoever asks for a code to copy may have a program that pastes it.
        if out_of_band || self.has_browser() || Self::at_terminal() { Ok(()) } else { Err(LoginError::Nobody) }
    }

    fn has_browser(&self) -> bool {
        Self::browser().is_some()
    }

    fn visit(&self, url: &str, answers_here: bool) -> Result<(), LoginError> {
        if let Some(mut words) = Self::browser().filter(|_| answers_here) {
            let program = words.remove(0);
            if !words.iter().any(|word| word.contains("%s")) {
                words.push("%s".to_owned());
            }
            let args = words.iter().map(|word| word.replace("%s", url));
            let mut command = Command::new(&program);
            let started = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            if let Err(error) = started {
                say::warning(format_args!("the browser {} cannot be opened: {error}", say::name(&program)));
            }
            say::request("Log in with the browser on this machine. If it does not open by itself, visit:");
        } else {
            say::request("Log in at this address, in a browser anywhere, and copy the code that it shows:");
        }
        say::request(url);
        Ok(())
    }

    fn code(&self) -> Result<Zeroizing<String>, LoginError> {
        say::request("The code:");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = Zeroizing::new(String::with_capacity(4096));
            let read = std::io::stdin().lock().read_line(&mut line);
            // Nobody waits any more if that took too long.
            let _ = send.send(read.map(|_| Zeroizing::new(line.trim().to_owned())));
        });
        match receive.recv_timeout(LOGIN_TIMEOUT) {
            Ok(Ok(code)) if !code.is_empty() => Ok(code),
            Ok(Ok(_)) => Err(LoginError::NoCode),
            Ok(Err(source)) => Err(LoginError::Io { doing: "read the code", source }),
            Err(_) => Err(LoginError::TimedOut(LOGIN_TIMEOUT)),
        }
    }
}
