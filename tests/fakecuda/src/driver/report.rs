//! Every call passes here: it is counted, made to fail if the environment says so, and written to the log.

use super::Driver;
use crate::error::Code;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;

/// What calls have left behind so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    log: Option<File>,
    calls: u64,
    by_name: HashMap<&'static str, u64>,
    /// What the call that runs has created and destroyed, for its line.
    notes: String,
}

/// What is created and destroyed, as the log calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Allocation,
    Host,
    Registered,
    Stream,
    Event,
    Module,
    Context,
    File,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Allocation => "allocation",
            Self::Host => "host",
            Self::Registered => "registered",
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Module => "module",
            Self::Context => "context",
            Self::File => "file",
        })
    }
}

impl Report {
    pub(crate) fn new(log: Option<File>) -> Self {
        Self { log, ..Self::default() }
    }

    /// Notes that the call made one of `kind`.
    pub(crate) fn created(&mut self, kind: Kind, handle: u64) {
        self.note(format_args!("+{kind}={handle:#x}"));
    }

    /// Notes that the call took one away, or for a context one of its references.
    pub(crate) fn destroyed(&mut self, kind: Kind, handle: u64) {
        self.note(format_args!("-{kind}={handle:#x}"));
    }

    /// Adds a word to the line of the call that runs.
    pub(crate) fn note(&mut self, word: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = write!(self.notes, " {word}");
    }
}

impl Driver {
    /// One call of the C interface: `work` is what it does.
    pub(crate) fn call(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<(), Code>) -> i32 {
        self.report.calls += 1;
        let of_this_name = self.report.by_name.entry(name).or_default();
        *of_this_name += 1;
        let (total, of_this_name) = (self.report.calls, *of_this_name);
        self.lose_device(total);
        let injected = self.config.failures.iter().find(|failure| match &failure.function {
            Some(function) => function == name && failure.call == of_this_name,
            None => failure.call == total,
        });
        let result = match injected.map(|failure| failure.code) {
            Some(code) => {
                self.break_current(code);
                self.report.note(format_args!("injected"));
                Err(code)
            }
            None => work(self),
        };
        let code = result.map_or_else(|code| code.0, |()| 0);
        let line = format!("{total} {name} {code}{}\n", std::mem::take(&mut self.report.notes));
        if let Some(log) = &mut self.report.log {
            // One write a line, nothing buffered: a process that crashes has its last call in the file.
            if let Err(error) = log.write_all(line.as_bytes()) {
                eprintln!("[fakecuda] the log: {error}");
            }
        }
        code
    }
}
