//! Another program, from start to exit: without a shell, for so long, and with no more of what it says than is of use.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::bench::{system, told};

/// What is kept of what a program says. It may say more.
const KEPT: u64 = 64 << 10;

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    /// From before its start until its exit was seen.
    pub(super) took: Duration,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    /// How it failed, in a line, for people.
    pub(super) fn failure(&self) -> String {
        let said =
            [&self.err, &self.out].into_iter().find_map(|text| text.lines().rfind(|line| !line.trim().is_empty()));
        let said = said.map_or_else(|| "it said nothing".to_owned(), |line| format!("it said {}", quoted(line)));
        match self.status.code() {
            Some(code) => format!("it ended with exit code {code}: {said}"),
            None => format!("it was ended ({}): {said}", self.status),
        }
    }
}

/// Text of another program's in a sentence.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", told(text))
}

/// Runs it. Why there is no result, otherwise.
pub(super) fn run(program: &OsStr, args: &[OsString], limit: Duration) -> Result<Ran, String> {
    let begun = Instant::now();
    let child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // So that it can be ended with whatever it starts.
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| format!("it cannot be started: {error}"))?;
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    let left = || limit.saturating_sub(begun.elapsed());
    // They end when the program does, and all that it started.
    let said = [out.recv_timeout(left()), err.recv_timeout(left())];
    // Whoever still has them open is in the group, which keeps its number as long as nobody waited for its first: also where
    // that one has ended and left others behind.
    let ended = if said.iter().all(Result::is_ok) { wait(&mut child, begun + limit) } else { None };
    let took = begun.elapsed();
    let (Some(status), [Ok(out), Ok(err)]) = (ended, said) else {
        if ended.is_none() {
            system::end_group(child.id());
            let _ = child.wait();
        }
        return Err(format!("it had not ended after {} s, and was stopped", limit.as_secs_f64()));
    };
    Ok(Ran { status, took, out, err })
}

/// Waits, though not for ever. Most have ended by now: they closed what they write to.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Reads to the end in a thread of its own, and keeps the beginning.
fn read(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (done, said) = mpsc::channel();
    if let Some(mut from) = from {
        let thread = move || {
            let mut bytes = Vec::new();
            let _ = from.by_ref().take(KEPT).read_to_end(&mut bytes);
            // A pipe that nobody reads would stop whoever writes to it.
            let _ = std::io::copy(&mut from, &mut std::io::sink());
            let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
        };
        // Without a thread nothing is ever received, which ends as a program that does not end.
        let _ = std::thread::Builder::new().spawn(thread);
    }
    said
}

/// The first program of this name in the folders of `path`. Folders that depend on where we are do not count.
pub(super) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let runs =
        |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(runs)
}

/// The first 64 hexadecimal digits of what a program says, if that is what it begins with. coreutils and b3sum mark lines with
/// escaped names by a backslash.
pub(super) fn digest(out: &str) -> Option<&str> {
    let line = out.strip_prefix('\\').unwrap_or(out);
    let hex = line.get(..64).filter(|hex| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))?;
    line[64..].starts_with([' ', '\n']).then_some(hex)
}

/// Arguments.
pub(super) fn args<const N: usize>(given: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    given.map(|arg| arg.as_ref().to_owned()).into()
}
