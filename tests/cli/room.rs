//! A folder to run the program in, and transcripts of what it says there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use snapbox::{Assert, Data, IntoData};

use crate::build;

pub const BIN: &str = env!("CARGO_BIN_EXE_tensorseal");

/// What one run said.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself, not by a signal"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }

    /// The run itself, if it ended with `code`; else a panic that shows what it said.
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

/// A safetensors file with one tensor of these bytes.
pub fn weights(bytes: &str) -> Vec<u8> {
    let len = bytes.len();
    let header = build::json(&[("weight", "U8", &len.to_string(), 0, len as u64)]);
    [&build::safetensors(&header, 0), bytes.as_bytes()].concat()
}

/// A new folder with a small model in it. Commands run in it, so that all their paths are relative.
pub struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    pub fn new() -> Self {
        let room = Self { dir: tempfile::tempdir().unwrap() };
        room.write("model/config.json", "{\"layers\": 2}\n");
        room.write("model/layers/it's 0.safetensors", weights("weights of layer 0"));
        room.write("model/layers/ünï 1.safetensors", weights("weights of layer 1"));
        room
    }

    /// With a key pair and a signature of the model, `model.sig`.
    pub fn signed() -> Self {
        let room = Self::new();
        room.run("keygen --out key.pem").ended(0);
        room.run("sign key model --private-key key.pem").ended(0);
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every file and folder, sorted, folders with a slash.
    pub fn listing(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, all: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                if path.is_dir() && !path.is_symlink() {
                    all.push(name + "/");
                    walk(root, &path, all);
                } else {
                    all.push(name);
                }
            }
        }
        let mut all = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut all);
        all.sort();
        all
    }

    /// The program, in this folder, with an environment that says nothing and nobody at the keyboard.
    pub fn command(&self) -> Command {
        self.command_of(BIN)
    }

    pub fn command_of(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Without it Mesa, where WebGPU finds it, writes to the standard error that is looked at here.
        command.env("XDG_RUNTIME_DIR", self.dir.path());
        command
    }

    /// Runs a line: words between blanks.
    pub fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub fn run_words(&self, words: &[&str]) -> Ran {
        Ran::of(self.command().args(words).output().unwrap())
    }

    /// What a person would see: each line, what came on standard output, on standard error (`| `), and the exit code.
    pub fn transcript(&self, lines: &[&str]) -> String {
        lines.iter().map(|line| self.entry(line, &self.run(line))).collect()
    }

    pub fn entry(&self, line: &str, ran: &Ran) -> String {
        let stderr: String = ran.stderr.lines().map(|line| format!("| {line}").trim_end().to_owned() + "\n").collect();
        let text = format!("$ tensorseal {line}\n{}{stderr}[{}]\n\n", ran.stdout, ran.code);
        self.redacted(&text)
    }

    /// Without what differs from run to run: the key, times, the folder, the processors.
    pub fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let canonical = self.dir.path().canonicalize().unwrap();
        for folder in [&*canonical, self.dir.path()] {
            text = text.replace(&*folder.to_string_lossy(), "[ROOM]");
        }
        for (key, name) in [("key.pub", "[KEY]"), ("other.pub", "[OTHER KEY]"), ("enc.pub", "[ENCRYPTED KEY]")] {
            if self.path(key).exists() {
                text = text.replace(&fingerprint(&fs::read(self.path(key)).unwrap()), name);
            }
        }
        text = replace_number(&text, " in ", &[" ms", " s"], "[TIME]");
        text = replace_number(&text, "\"seconds\": ", &[""], "[TIME]");
        text = replace_number(&text, "cpu     ", &[" threads", " thread"], "[N]");
        text = replace_number(&text, "\"threads\": ", &[""], "[N]");
        text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    }

    /// Compares a transcript with `snapshots/NAME.txt`; `SNAPSHOTS=overwrite` writes it.
    pub fn assert_snapshot(&self, name: &str, transcript: String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/snapshots/{name}.txt"));
        Assert::new().action_env("SNAPSHOTS").eq(transcript.into_data().raw(), Data::read_from(&path, None).raw());
    }
}

fn fingerprint(public_key: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(public_key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts `by` in the place of numbers that stand between `before` and one of `after`.
fn replace_number(text: &str, before: &str, after: &[&str], by: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        let end = tail.find(|c: char| !c.is_ascii_digit() && !".e-".contains(c)).unwrap_or(tail.len());
        out += head;
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        let whole = |after: &&&str| end > 0 && tail[end..].strip_prefix(**after).is_some_and(ends);
        match after.iter().find(whole) {
            Some(after) => {
                out += by;
                rest = &tail[end + after.len()..];
            }
            None => rest = tail,
        }
    }
    out + rest
}

/// Where a program is, if it is anywhere on the `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
