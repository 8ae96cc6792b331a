//! The command line: thin. It turns options into the library's types, calls one verb, and tells what came of it.

mod args;
mod argv;
mod bench;
mod device;
mod devices;
mod digest;
mod exit;
mod inspect;
mod json;
mod keygen;
mod locate;
mod man;
mod password;
mod progress;
mod receipt;
mod run;
mod say;
#[cfg(feature = "sigstore-sign")]
mod secret;
mod selftest;
mod sign;
mod tell;
mod trust;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tensorseal::method::can_write;
use tensorseal::source::SymlinkPolicy;
use tensorseal::verify::GitFiles;
use tensorseal::{Error, VerifyError};

use args::{Cli, Command, ModelArgs, SignMethod, TrustCommand};
use exit::Exit;

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let args = argv::normalized(std::env::args_os());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(told_by_clap(error, &args).code()),
    };
    say::set_level(cli.log_level);
    let exit = match &cli.command {
        Command::Sign(SignMethod::Key(args)) => sign::key(args),
        Command::Sign(SignMethod::Certificate(args)) => sign::certificate(args),
        Command::Sign(SignMethod::Pkcs11Key(args)) => sign::pkcs11_key(args),
        Command::Sign(SignMethod::Pkcs11Certificate(args)) => sign::pkcs11_certificate(args),
        Command::Sign(SignMethod::Sigstore(args)) => sign::sigstore(args),
        Command::Verify(method) => verify::by("verify", method),
        Command::Locate(method) => verify::by("locate", method),
        Command::Run(args) => run::run(args),
        Command::Trust(TrustCommand::Update(args)) => trust::update(args),
        Command::Trust(TrustCommand::Show(args)) => trust::show(args),
        Command::Digest(args) => digest::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Devices(args) => devices::run(args.json),
        Command::Selftest(args) => selftest::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => man::completions(*shell),
        Command::Man => man::run(),
    };
    ExitCode::from(exit.code())
}

/// `--help` and `--version`, or what is wrong with the command line.
fn told_by_clap(error: clap::Error, args: &[OsString]) -> Exit {
    if !error.use_stderr() {
        return printed(&error.render().ansi().to_string());
    }
    // The message quotes arguments, and a file name that was expanded into one could act on the terminal.
    let tame: Vec<String> = args.iter().map(|arg| say::tame(&arg.to_string_lossy())).collect();
    let error = Cli::try_parse_from(tame).err().unwrap_or(error);
    // If standard error is gone, nobody is there to be told.
    let _ = error.print();
    Exit::Usage
}

/// Prints a result; without somewhere to print it there is no answer.
fn printed(text: &str) -> Exit {
    match say::out(text) {
        Ok(()) => Exit::Yes,
        Err(error) => no_output(&error),
    }
}

fn no_output(error: &std::io::Error) -> Exit {
    say::failure("error:", format_args!("cannot write to standard output: {error}"));
    Exit::NoAnswer
}

/// What a command was asked for: known before it begins, and part of every report.
#[derive(Clone, Copy)]
struct Asked<'a> {
    command: &'static str,
    model: Option<&'a Path>,
    signature: Option<&'a Path>,
    json: bool,
}

/// Tells why a command failed, to people and, if asked, to machines.
fn failed(asked: &Asked<'_>, what: &str, error: &Error) -> Exit {
    match error.refusal() {
        Some(VerifyError::Differs { differences, located, .. }) => {
            tell::differences(what, differences);
            locate::tell(located);
        }
        Some(VerifyError::Uncovered { names, .. }) => {
            say::failure(what, error);
            tell::uncovered(names);
        }
        _ => say::failure(what, error),
    }
    failed_with(asked, Exit::from(error), json::error(error))
}

fn failed_with(asked: &Asked<'_>, exit: Exit, fields: serde_json::Value) -> Exit {
    if asked.json {
        let mut report = json::head(asked, exit);
        json::insert(&mut report, fields);
        if asked.print(&report) == Exit::NoAnswer {
            return Exit::NoAnswer;
        }
    }
    exit
}

/// The command whose standard output is another program's.
const RUN: &str = "run";

impl Asked<'_> {
    /// Prints the report in JSON: on standard output, or, where that is not ours, in one line on standard error.
    fn print(&self, report: &serde_json::Map<String, serde_json::Value>) -> Exit {
        if self.command == RUN {
            say::report(&json::line(report));
            return Exit::Yes;
        }
        printed(&json::text(report))
    }

    /// The one line of success that scripts look for, likewise.
    fn succeeded(&self, text: &str) -> Exit {
        if self.command == RUN {
            say::done(text);
            return Exit::Yes;
        }
        printed(&say::success(text))
    }
}

impl ModelArgs {
    fn symlinks(&self) -> SymlinkPolicy {
        match (self.allow_external_symlinks, self.allow_symlinks) {
            (true, _) => SymlinkPolicy::Anywhere,
            (false, true) => SymlinkPolicy::Inside,
            (false, false) => SymlinkPolicy::Refuse,
        }
    }

    fn git_files(&self) -> GitFiles {
        match (self.ignore_git_paths, self.no_ignore_git_paths) {
            (_, true) => GitFiles::Keep,
            (true, false) => GitFiles::Ignore,
            (false, false) => GitFiles::AsSigned,
        }
    }
}

/// The folder that a path names a file in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
