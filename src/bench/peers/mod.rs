//! Beside other programs on this machine: whole processes from start to exit, on the same files, in turns.
//!
//! Each run's digest or verdict is compared with what was written, outside of the time; ours and theirs may not disagree.

mod process;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::Written;
use super::report::{Absent, Beside, Peers};
use super::{Event, Failure, Times, told};
use process::{Ran, args, digest, find, quoted, run};

/// How to run others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerOptions {
    /// Counted runs of each program at each task; one more comes before.
    pub repeats: NonZeroUsize,
    /// Threads, for ours and for those that can be told; as many as this process may use, if `None`.
    pub threads: Option<NonZeroUsize>,
    /// A program that takes longer for one run is ended, and absent.
    pub limit: Duration,
    /// Where programs are looked for, as `PATH` has it.
    pub path: OsString,
}

impl PeerOptions {
    /// As often, with two minutes for each run, on this process's `PATH`.
    #[must_use]
    pub fn new(repeats: NonZeroUsize) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { repeats, threads: None, limit: Duration::from_secs(120), path }
    }
}

/// A program that was found, and how it is run.
#[derive(Debug, Clone)]
struct Program {
    name: &'static str,
    path: PathBuf,
    /// What comes before all other arguments.
    first: Vec<OsString>,
    version: String,
}

/// What a run said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// This digest; or yes.
    Right,
    /// Another; or no. In its words.
    Wrong(String),
    /// Neither, and how.
    Nothing(String),
}

/// Something that several programs do.
struct Task<'a> {
    name: &'static str,
    bytes: u64,
    threads: Option<usize>,
    /// What ours is asked.
    ours: Vec<OsString>,
    /// And the others.
    theirs: Vec<(&'a Program, Vec<OsString>)>,
    /// The digest that there has to be; a verdict, if none.
    expected: Option<String>,
}

/// Measures each program that is found beside ours, the `tensorseal` at `ours`: BLAKE3 and SHA-256 of the longest file, and
/// verifying the model. All files are in the page cache, as far as that keeps them.
///
/// # Errors
/// [`Failure::Disagrees`] if a program does not say of the same files what ours says, [`Failure::Ours`] if ours does not
/// run. A program that is not found, fails or takes too long is in [`Peers::absent`].
pub fn beside(
    model: &Written,
    ours: &Path,
    options: &PeerOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<Peers, Failure> {
    let mut turns = Turns { ours, options, done, peers: Peers::default() };
    let Some(file) = model.tensor_files().max_by_key(|file| file.len) else { return Ok(turns.peers) };
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let given = OsString::from(threads.to_string());
    let ours = |hash: &str| args([&"digest", &file.path, &"--files", &"--hash", &hash, &"--threads", &given]);

    if let Some(b3sum) = turns.find("b3sum", &["--version"]) {
        turns.take(&Task {
            name: "BLAKE3 of one file",
            bytes: file.len,
            threads: Some(threads),
            ours: ours("blake3"),
            theirs: vec![(&b3sum, args([&"--num-threads", &given, &file.path]))],
            expected: Some(file.blake3.to_hex()),
        })?;
    }
    let (sha256sum, openssl) = (turns.find("sha256sum", &["--version"]), turns.find("openssl", &["version"]));
    let theirs = [
        sha256sum.as_ref().map(|program| (program, args([&file.path]))),
        openssl.as_ref().map(|program| (program, args([&"dgst", &"-sha256", &"-r", &file.path]))),
    ];
    turns.take(&Task {
        name: "SHA-256 of one file",
        bytes: file.len,
        threads: None,
        ours: ours("sha256"),
        theirs: theirs.into_iter().flatten().collect(),
        expected: Some(file.sha256.to_hex()),
    })?;
    if let Some(python) = turns.model_signing() {
        let (folder, signature, key) = (model.model(), model.signature(), model.public_key());
        turns.take(&Task {
            name: "verifying a model, SHA-256",
            bytes: model.bytes(),
            threads: None,
            ours: args([
                &"verify",
                &"key",
                &folder,
                &"--signature",
                &signature,
                &"--public-key",
                &key,
                &"--threads",
                &given,
            ]),
            // Underscores, which every version takes; hyphens are for those after 1.1.1.
            theirs: vec![(
                &python,
                args([&"verify", &"key", &folder, &"--signature", &signature, &"--public_key", &key]),
            )],
            expected: None,
        })?;
    }
    Ok(turns.peers)
}

struct Turns<'a, 'd> {
    ours: &'a Path,
    options: &'a PeerOptions,
    done: &'d mut dyn FnMut(Event<'_>),
    peers: Peers,
}

impl Turns<'_, '_> {
    fn absent(&mut self, program: &str, why: String) {
        let absent = Absent { program: program.to_owned(), why };
        (self.done)(Event::Absent(&absent));
        self.peers.absent.push(absent);
    }

    /// A program that says what its version is.
    fn find(&mut self, name: &'static str, version: &[&str]) -> Option<Program> {
        let Some(path) = find(name, &self.options.path) else {
            self.absent(name, "it is not in the folders of PATH".to_owned());
            return None;
        };
        match self.program(name, path, &[], version) {
            Ok(program) => Some(program),
            Err(why) => {
                self.absent(name, why);
                None
            }
        }
    }

    fn program(&self, name: &'static str, path: PathBuf, first: &[&str], version: &[&str]) -> Result<Program, String> {
        let first: Vec<OsString> = first.iter().map(OsString::from).collect();
        let all: Vec<OsString> = first.iter().cloned().chain(version.iter().map(OsString::from)).collect();
        let ran = run(path.as_os_str(), &all, self.options.limit)?;
        let line = ran.out.lines().find(|line| !line.trim().is_empty());
        match line {
            Some(line) if ran.status.success() => Ok(Program { name, path, first, version: told(line) }),
            _ => Err(ran.failure()),
        }
    }

    /// Python's, wherever it is installed.
    fn model_signing(&mut self) -> Option<Program> {
        const NAME: &str = "model_signing";
        let mut why = Vec::new();
        for (file, first) in [(NAME, &[][..]), ("python3", &["-m", NAME]), ("python", &["-m", NAME])] {
            let Some(path) = find(file, &self.options.path) else { continue };
            match self.program(NAME, path, first, &["--version"]) {
                Ok(program) => return Some(program),
                Err(failure) => why.push(format!("{file}: {failure}")),
            }
        }
        if why.is_empty() {
            why.push("neither it nor python3 is in the folders of PATH".to_owned());
        }
        why.push("`pip install model-signing` installs it".to_owned());
        self.absent(NAME, why.join("; "));
        None
    }

    /// All programs of a task in turns, each round beginning with the next.
    fn take(&mut self, task: &Task<'_>) -> Result<(), Failure> {
        if task.theirs.is_empty() {
            return Ok(());
        }
        for (program, _) in &task.theirs {
            (self.done)(Event::Running { program: program.name, task: task.name });
        }
        let count = task.theirs.len();
        let mut ours = Vec::new();
        let mut theirs: Vec<Result<Vec<Duration>, String>> = vec![Ok(Vec::new()); count];
        for round in 0..=self.options.repeats.get() {
            for place in 0..=count {
                let index = (place + round) % (count + 1);
                if index == count {
                    ours.push(self.our_run(task)?);
                } else if let (Some((program, args)), Some(Ok(times))) = (task.theirs.get(index), theirs.get_mut(index))
                {
                    match self.their_run(task, program, args)? {
                        Ok(took) => times.push(took),
                        Err(why) => theirs[index] = Err(why),
                    }
                }
            }
        }
        let ours = counted(&ours)?;
        for ((program, _), times) in task.theirs.iter().zip(theirs) {
            match times {
                Ok(times) => self.beside(task, program, &times, &ours)?,
                Err(why) => self.absent(program.name, format!("{}: {why}", task.name)),
            }
        }
        Ok(())
    }

    fn beside(&mut self, task: &Task<'_>, program: &Program, theirs: &[Duration], ours: &Times) -> Result<(), Failure> {
        let theirs = counted(theirs)?;
        let ratio = ours.median() / theirs.median().max(1e-9);
        let beside = Beside {
            program: program.name.to_owned(),
            version: program.version.clone(),
            task: task.name.to_owned(),
            bytes: task.bytes,
            threads: task.threads,
            theirs,
            ours: ours.clone(),
            ratio,
        };
        (self.done)(Event::Beside(&beside));
        self.peers.lines.push(beside);
        Ok(())
    }

    fn our_run(&self, task: &Task<'_>) -> Result<Duration, Failure> {
        let failed = |why| Failure::Ours { program: self.ours.to_owned(), why };
        let ran = run(self.ours.as_os_str(), &task.ours, self.options.limit).map_err(failed)?;
        match task.said(&ran) {
            Said::Right => Ok(ran.took),
            Said::Nothing(why) => Err(failed(why)),
            Said::Wrong(what) => {
                let how = format!(
                    "tensorseal says {what}, and {} was expected of the files as they were written",
                    task.expected()
                );
                Err(Failure::Disagrees { program: "what was written", task: task.name.to_owned(), how })
            }
        }
    }

    /// How long it took, or why that is not known.
    fn their_run(
        &self,
        task: &Task<'_>,
        program: &Program,
        args: &[OsString],
    ) -> Result<Result<Duration, String>, Failure> {
        let all: Vec<OsString> = program.first.iter().chain(args).cloned().collect();
        let ran = match run(program.path.as_os_str(), &all, self.options.limit) {
            Ok(ran) => ran,
            Err(why) => return Ok(Err(why)),
        };
        match task.said(&ran) {
            Said::Right => Ok(Ok(ran.took)),
            Said::Nothing(why) => Ok(Err(why)),
            Said::Wrong(what) => {
                let how = format!("{} says {what}, and tensorseal {}", program.name, task.expected());
                Err(Failure::Disagrees { program: program.name, task: task.name.to_owned(), how })
            }
        }
    }
}

impl Task<'_> {
    /// What it has to be, in words.
    fn expected(&self) -> &str {
        self.expected.as_deref().unwrap_or("yes")
    }

    fn said(&self, ran: &Ran) -> Said {
        match &self.expected {
            Some(expected) => match digest(&ran.out) {
                Some(found) if ran.status.success() && found == expected => Said::Right,
                Some(found) if ran.status.success() => Said::Wrong(quoted(found)),
                None if ran.status.success() => Said::Nothing(format!(
                    "it gave no digest, but {}",
                    quoted(ran.out.lines().next().unwrap_or_default())
                )),
                _ => Said::Nothing(ran.failure()),
            },
            // In the words of both: Python's exit code is 1 for a no as for a fault.
            None => {
                let says = |words| ran.out.contains(words) || ran.err.contains(words);
                match (ran.status.success(), says("Verification succeeded"), says("Verification failed")) {
                    (true, true, false) => Said::Right,
                    (false, false, true) => Said::Wrong(format!("no: {}", ran.failure())),
                    (true, ..) => Said::Nothing(format!("it gave no verdict, but {}", quoted(&ran.out))),
                    _ => Said::Nothing(ran.failure()),
                }
            }
        }
    }
}

/// All but the first.
fn counted(times: &[Duration]) -> Result<Times, Failure> {
    Times::of(times.get(1..).unwrap_or_default()).map_err(|_| Failure::Nothing("a program"))
}
