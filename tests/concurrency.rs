//! Files that others cut, open or write while they are read, and memory while large ones are: through the command
//! line, so that a crash is seen as one and memory is that of a whole process.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::Digest as _;
use tensorseal::bundle::Bundle;
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::{Algorithm, Manifest};

const MIB: u64 = 1 << 20;

/// One test at a time: each is about what happens while a file is read, and they would make each other late.
static ALONE: Mutex<()> = Mutex::new(());

struct Scene {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Which digests a child takes, by which command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    /// `digest`: BLAKE3 alone, the only work for which files are mapped.
    Blake3,
    Sha256,
    /// `sign`: SHA-256 and BLAKE3 in one pass.
    Both,
    /// `sign`, both, of ranges of so many bytes.
    Shards(u64),
}

impl Scene {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate(Curve::P256).unwrap();
        fs::write(folder.path().join("key"), key.to_pem(None).unwrap().as_bytes()).unwrap();
        Self { folder, _alone: alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of zeros that takes no space.
    fn zeros(&self, len: u64) -> PathBuf {
        let path = self.path("weights");
        File::create(&path).unwrap().set_len(len).unwrap();
        // Time stamps move in steps of the kernel's tick: what follows must be a later one.
        sleep(Duration::from_millis(20));
        path
    }

    fn start(&self, work: Work, io: &str) -> Child {
        self.command(work, io).spawn().unwrap()
    }

    fn command(&self, work: Work, io: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorseal"));
        match work {
            Work::Blake3 => command.args(["digest", "--json", "--hash", "blake3"]),
            Work::Sha256 => command.args(["digest", "--json", "--hash", "sha256"]),
            Work::Both | Work::Shards(_) => {
                let command = command.args(["sign", "key"]);
                command.arg("--private-key").arg(self.path("key")).arg("--signature").arg(self.path("sig"))
            }
        };
        if let Work::Shards(size) = work {
            command.args(["--shards", &size.to_string()]);
        }
        command.args(["--io", io]).arg(self.path("weights"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The digests of a child that ended well, in hexadecimal.
    fn digests(&self, work: Work, output: &Output) -> Vec<String> {
        if matches!(work, Work::Blake3 | Work::Sha256) {
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let digest = report["digests"][0]["digest"].as_str().unwrap();
            return vec![digest.split_once(':').unwrap().1.to_owned()];
        }
        let manifest = self.manifest();
        let resource = &manifest.resources()[0];
        [Algorithm::Sha256, Algorithm::Blake3].map(|by| resource.digest_by(by).unwrap().to_hex()).to_vec()
    }

    fn manifest(&self) -> Manifest {
        Bundle::parse(&fs::read(self.path("sig")).unwrap()).unwrap().unverified_manifest().unwrap()
    }
}

/// What `work` gives for these bytes.
fn expected(work: Work, path: &Path) -> Vec<String> {
    let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; MIB as usize]);
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        if work != Work::Blake3 {
            sha256.update(&buffer[..len]);
        }
        if work != Work::Sha256 {
            blake3.update(&buffer[..len]);
        }
    }
    let sha256: String = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let blake3 = blake3.finalize().to_hex().to_string();
    match work {
        Work::Blake3 => vec![blake3],
        Work::Sha256 => vec![sha256],
        Work::Both | Work::Shards(_) => vec![sha256, blake3],
    }
}

/// Waits until the child has opened the file; `false` if it has ended before that was seen.
fn opened(child: &mut Child, path: &Path) -> bool {
    let folder = format!("/proc/{}/fd", child.id());
    loop {
        if let Ok(mut entries) = fs::read_dir(&folder)
            && entries.any(|entry| entry.is_ok_and(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == path)))
        {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
    }
}

/// What a child says until its end, which must come.
fn outcome(mut child: Child, work: Work) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{work:?} hangs");
        }
        sleep(Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// How a child ended: without an answer, for a reason that names the file, or with these digests.
fn ending(scene: &Scene, work: Work, child: Child) -> Option<Vec<String>> {
    let output = outcome(child, work);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), None, "{work:?} crashed: {said}");
    match output.status.code() {
        Some(0) => Some(scene.digests(work, &output)),
        Some(3) => {
            assert!(said.contains("weights"), "{work:?}: the error does not name the file: {said}");
            assert!(said.contains("changed while it was read"), "{work:?}: {said}");
            assert!(!scene.path("sig").exists(), "no signature without an answer");
            None
        }
        code => panic!("{work:?} ended with {code:?}: {said}"),
    }
}

/// Lets `act` loose on the file `delay` after a child has opened it, for each delay, and for each way to read and each
/// kind of work; whatever comes out must be no answer, or right for the file as it was or as it is.
fn meanwhile(len: u64, delays: &[u64], act: impl Fn(&Path)) {
    let (mut unanswered, mut runs) = (0, 0);
    for work in [Work::Blake3, Work::Both] {
        let scene = Scene::new();
        let before = expected(work, &scene.zeros(len));
        for io in ["auto", "read"] {
            for &delay in delays {
                let path = scene.zeros(len);
                let _ = fs::remove_file(scene.path("sig"));
                let mut child = scene.start(work, io);
                opened(&mut child, &path);
                sleep(Duration::from_millis(delay));
                let began = Instant::now();
                act(&path);
                let waited = began.elapsed();
                runs += 1;
                let found = ending(&scene, work, child);
                // Whoever opens a file under a lease waits for its holder: until its next look, not until it is done.
                assert!(waited < Duration::from_secs(5), "{work:?}, {io}: a writer waited {waited:?}");
                match found {
                    None => unanswered += 1,
                    Some(found) if found == before => {}
                    Some(found) => assert_eq!(found, expected(work, &path), "{work:?}, {io}, {delay} ms"),
                }
            }
        }
    }
    // Should this fail, the machine reads faster than it wakes: then the file must be longer.
    assert!(unanswered > 0, "nothing happened while a file was read, in {runs} runs");
}

#[test]
fn a_file_cut_short_meanwhile_is_an_error_that_names_it() {
    meanwhile(512 * MIB, &[0, 2, 4, 6, 8, 10, 12, 15, 18, 20], |path| {
        OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    });
}

#[test]
fn a_file_cut_short_by_who_had_it_open_is_an_error_that_names_it() {
    // No lease is to be had on a file that someone has open for writing.
    let scene = Scene::new();
    let mut unanswered = 0;
    for work in [Work::Blake3, Work::Both] {
        let path = scene.zeros(512 * MIB);
        let before = expected(work, &path);
        for delay in [0, 5, 10, 20] {
            let writer = OpenOptions::new().write(true).open(&path).unwrap();
            writer.set_len(512 * MIB).unwrap();
            sleep(Duration::from_millis(20));
            let _ = fs::remove_file(scene.path("sig"));
            let mut child = scene.start(work, "auto");
            opened(&mut child, &path);
            sleep(Duration::from_millis(delay));
            writer.set_len(1000).unwrap();
            match ending(&scene, work, child) {
                None => unanswered += 1,
                Some(found) => assert!(found == before || found == expected(work, &path)),
            }
        }
    }
    assert!(unanswered > 0, "nothing was cut while it was read");
}

#[test]
fn bytes_written_meanwhile_never_give_a_digest_of_before_and_after() {
    // The beginning is read before it is written and the end after, so that only a look at the time stamps can tell.
    const LEN: u64 = 320 * MIB;
    meanwhile(LEN, &[0, 5, 15, 30], |path| {
        let writer = OpenOptions::new().write(true).open(path).unwrap();
        writer.write_all_at(b"x", 10).unwrap();
        writer.write_all_at(b"x", LEN - 10).unwrap();
    });
}

#[test]
fn who_only_opens_the_file_for_writing_is_let_in_soon() {
    let scene = Scene::new();
    let path = scene.zeros(512 * MIB);
    let before = expected(Work::Blake3, &path);
    for (io, delay) in [("auto", 0), ("auto", 5), ("auto", 15), ("read", 5)] {
        let mut child = scene.start(Work::Blake3, io);
        opened(&mut child, &path);
        sleep(Duration::from_millis(delay));
        let began = Instant::now();
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        let waited = began.elapsed();
        let found = ending(&scene, Work::Blake3, child);
        drop(writer);
        assert!(waited < Duration::from_secs(5), "{io}: a writer waited {waited:?}");
        // Nothing was written, so a reader may be content.
        assert!(found.is_none_or(|found| found == before));
    }
}

// ---- a failing disk -------------------------------------------------------------------------------------------------

/// A C library's reading, with a disk that takes its time over the first block and then cannot read it.
const BAD_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>
typedef ssize_t reading(int, void *, size_t, off64_t);
ssize_t pread64(int fd, void *buffer, size_t len, off64_t at) {
    if (at == 0 && len > 4096) { usleep(300000); errno = EIO; return -1; }
    return ((reading *)dlsym(RTLD_NEXT, "pread64"))(fd, buffer, len, at);
}
"#;

#[test]
fn a_disk_that_fails_while_others_have_read_ahead_is_an_error_that_names_the_file() {
    let scene = Scene::new();
    scene.zeros(64 * MIB);
    let (code, library) = (scene.path("bad-disk.c"), scene.path("bad-disk.so"));
    fs::write(&code, BAD_DISK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &code]).arg("-ldl").status();
    assert!(built.is_ok_and(|status| status.success()), "no C compiler: the crate itself needs one");
    for (work, io) in [(Work::Both, "auto"), (Work::Blake3, "read"), (Work::Shards(8 * MIB), "read")] {
        for threads in ["1", "2", "8"] {
            let mut command = scene.command(work, io);
            let child = command.env("LD_PRELOAD", &library).args(["--threads", threads]).spawn().unwrap();
            let output = outcome(child, work);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{work:?}, {threads} threads: {said}");
            assert!(said.contains("weights") && said.contains("Input/output error"), "{said}");
        }
    }
}

// ---- memory ---------------------------------------------------------------------------------------------------------

/// The most memory that the child ever had, in bytes, as last seen before its end. It only grows, and the work of these
/// tests takes hundreds of looks.
fn peak(mut child: Child) -> (u64, Output) {
    let (mut peak, mut looks) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
            looks += 1;
        }
        sleep(Duration::from_millis(2));
    }
    assert!(looks > 10, "the child ended before its memory was seen");
    (peak, child.wait_with_output().unwrap())
}

fn check_peak(scene: &Scene, work: Work, io: &str, most: u64) {
    let (peak, output) = peak(scene.start(work, io));
    assert!(output.status.success(), "{work:?}, {io}: {}", String::from_utf8_lossy(&output.stderr));
    println!("{work:?}, {io}: {} MiB", peak / MIB);
    assert!(peak <= most, "{work:?}, {io}: {} MiB of memory", peak / MIB);
}

#[test]
#[ignore = "4 GiB files: for release mode, `./test --all`"]
fn memory_is_bounded_whatever_the_length() {
    let scene = Scene::new();
    scene.zeros(4096 * MIB);
    for work in [Work::Blake3, Work::Sha256, Work::Both, Work::Shards(64 * MIB), Work::Shards(MIB + 1)] {
        for io in ["auto", "read"] {
            check_peak(&scene, work, io, 64 * MIB);
        }
    }
}

#[test]
#[ignore = "65,536 shards: for release mode, `./test --all`"]
fn memory_grows_with_the_number_of_shards_alone() {
    let scene = Scene::new();
    scene.zeros(256 * MIB);
    let shards = 65_536;
    // Each is in the manifest, in the statement, in the encoding that is signed and in the bundle, in base64.
    check_peak(&scene, Work::Shards(4096), "auto", 64 * MIB + shards * 1024);
    assert_eq!(scene.manifest().resources().len() as u64, shards);
}
