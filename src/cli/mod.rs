//! The command line: thin. It turns options into the library's types, calls one verb, and tells what came of it.

mod args;
mod argv;
mod exit;
mod inspect;
mod json;
mod keygen;
mod password;
mod progress;
mod say;
mod sign;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tensorseal::device::DeviceKind;
use tensorseal::device::cpu::{Cpu, Io, Settings};
use tensorseal::source::SymlinkPolicy;
use tensorseal::verify::GitFiles;
use tensorseal::{Device, Error};

use args::{Cli, Command, EngineArgs, IoArg, ModelArgs, OtherMethod, SignMethod, VerifyMethod};
use exit::Exit;

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse_from(argv::normalize(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` arrive here too; clap knows which stream and which code.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Yes.code() });
        }
    };
    say::set_level(cli.log_level);
    let exit = match cli.command {
        Command::Sign(SignMethod::Key(args)) => sign::key(&args),
        Command::Verify(VerifyMethod::Key(args)) => verify::key(&args),
        Command::Sign(SignMethod::Other(method)) | Command::Verify(VerifyMethod::Other(method)) => not_yet(&method),
        Command::Digest(args) => sign::digest(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Devices(args) => devices(args.json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tensorseal", &mut script);
            printed(&String::from_utf8_lossy(&script))
        }
        Command::Man => man(),
    };
    ExitCode::from(exit.code())
}

fn not_yet(method: &OtherMethod) -> Exit {
    let name = match method {
        OtherMethod::Certificate(_) => "certificate",
        OtherMethod::Sigstore(_) => "sigstore",
        OtherMethod::Pkcs11Key(_) => "pkcs11-key",
        OtherMethod::Pkcs11Certificate(_) => "pkcs11-certificate",
    };
    let why = format!(
        "this version of tensorseal has no {name} method, only `key`; for other signatures use Python's model_signing for now"
    );
    say::failure("error:", why);
    Exit::NoAnswer
}

fn devices(as_json: bool) -> Exit {
    let cpu = match Cpu::open(Settings::default()) {
        Ok(cpu) => cpu,
        Err(error) => return failed("error:", "devices", &error.into(), as_json),
    };
    let absent = [DeviceKind::Wgpu, DeviceKind::Cuda(0)];
    if as_json {
        let mut report = json::head("devices", Exit::Yes);
        let mut list = vec![serde_json::json!({
            "device": "cpu", "available": true, "threads": cpu.threads(), "algorithms": ["sha256", "blake2b", "blake3"],
        })];
        for kind in absent {
            let why = Device::open(kind).err().map(|error| error.to_string());
            list.push(serde_json::json!({"device": kind.to_string(), "available": false, "why": why}));
        }
        report.insert("devices".into(), list.into());
        return printed(&json::text(&report));
    }
    let mut text = format!("cpu     {} threads; sha256, blake2b, blake3; known-answer test passed\n", cpu.threads());
    for kind in absent {
        text.push_str(&format!("{:<8}not in this build\n", kind.to_string()));
    }
    printed(&text)
}

fn man() -> Exit {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    if let Err(error) = render_man(&command, &mut page) {
        say::failure("error:", error);
        return Exit::NoAnswer;
    }
    printed(&String::from_utf8_lossy(&page))
}

/// One page: the command, then each subcommand's options under a heading of its own.
fn render_man(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    for (name, command) in visible(command, "") {
        let man = clap_mangen::Man::new(command.clone());
        page.extend(format!(".SH \"{}\"\n", name.to_uppercase()).into_bytes());
        man.render_description_section(&mut Heading(page))?;
        man.render_options_section(&mut Heading(page))?;
    }
    man.render_extra_section(page)
}

/// Turns sections into subsections on their way into the page.
struct Heading<'a>(&'a mut Vec<u8>);

impl std::io::Write for Heading<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).replace(".SH ", ".SS ");
        self.0.extend(text.as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn visible<'c>(command: &'c clap::Command, prefix: &str) -> Vec<(String, &'c clap::Command)> {
    let mut all = Vec::new();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("{prefix}{}", sub.get_name());
        all.push((name.clone(), sub));
        all.extend(visible(sub, &format!("{name} ")));
    }
    all
}

/// Prints a result; without somewhere to print it there is no answer.
fn printed(text: &str) -> Exit {
    match say::out(text) {
        Ok(()) => Exit::Yes,
        Err(error) => {
            say::failure("error:", format_args!("cannot write to standard output: {error}"));
            Exit::NoAnswer
        }
    }
}

/// Tells why a command failed, to people and, if asked, to machines.
fn failed(what: &str, command: &str, error: &Error, as_json: bool) -> Exit {
    let exit = Exit::from(error);
    say::failure(what, error);
    if as_json {
        let mut report = json::head(command, exit);
        json::insert(&mut report, json::error(error));
        if printed(&json::text(&report)) == Exit::NoAnswer {
            return Exit::NoAnswer;
        }
    }
    exit
}

/// The device for files on disk. Copying them to a GPU only to hash them loses, so `auto` is the CPU.
fn open_device(args: &EngineArgs) -> Result<Device, Error> {
    let kind =
        if args.device == "auto" { DeviceKind::Cpu } else { args.device.parse().map_err(Error::UnknownDevice)? };
    if kind != DeviceKind::Cpu {
        return Ok(Device::open(kind)?);
    }
    let io = match args.io {
        IoArg::Auto => Io::Auto,
        IoArg::Read => Io::Read,
    };
    Ok(Device::Cpu(Cpu::open(Settings { threads: args.threads, io })?))
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

/// Reads a key file, which is small.
fn read_key(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
    use std::io::Read;
    /// Ten times the longest certificate chain anybody keeps with a key.
    const LONGEST: u64 = 1 << 20;
    let io = |source| Error::Io { doing: "read key", path: path.to_owned(), source };
    let mut pem = zeroize::Zeroizing::new(Vec::new());
    std::fs::File::open(path).map_err(io)?.take(LONGEST + 1).read_to_end(&mut pem).map_err(io)?;
    if pem.len() as u64 > LONGEST {
        return Err(io(std::io::Error::other("it is too long to be a key")));
    }
    Ok(pem)
}
