//! Programs that lie, hang, fail or are not there, as scripts. `tests/beside.rs` has real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::bench::files::Work;
use crate::bench::shapes::Family;

/// A model, programs in a folder of their own, and what ours would say.
struct Stage {
    model: Written,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let shaped = Family::Llama31With8B.within(200_000).unwrap();
        let model = Written::new(Work::new(None, 0).unwrap(), &shaped).unwrap();
        let stage = Self { model, folder: tempfile::tempdir().unwrap() };
        let (sha256, blake3) = stage.digests();
        stage.script(
            "ours",
            &format!(
                r#"case "$1" in
                verify) echo "Verification succeeded";;
                digest) case "$5" in blake3) echo "{blake3}  $2";; sha256) echo "{sha256}  $2";; esac;;
                esac"#
            ),
        );
        stage
    }

    fn digests(&self) -> (String, String) {
        let file = self.model.tensor_files().max_by_key(|file| file.len).unwrap();
        (file.sha256.to_hex(), file.blake3.to_hex())
    }

    /// A program that says its version, and otherwise does this.
    fn script(&self, name: &str, text: &str) -> &Self {
        let path = self.folder.path().join(name);
        let version = format!(r#"case "$*" in *version) echo "{name} 1.2.3"; exit;; esac"#);
        // The test harness starts programs in other threads, which would keep a file open that is written here.
        let other = path.with_extension("new");
        fs::write(&other, format!("#!/bin/sh\n{version}\n{text}\n")).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(&other, &path).unwrap();
        fs::remove_file(&other).unwrap();
        self
    }

    fn beside(&self) -> Result<Peers, Failure> {
        self.beside_for(Duration::from_secs(20))
    }

    fn beside_for(&self, limit: Duration) -> Result<Peers, Failure> {
        let path = std::env::join_paths([self.folder.path()]).unwrap();
        let options = PeerOptions { limit, path, ..PeerOptions::new(NonZeroUsize::new(2).unwrap()) };
        let options = PeerOptions { threads: NonZeroUsize::new(3), ..options };
        beside(&self.model, &self.folder.path().join("ours"), &options, &mut |_| {})
    }

    fn why(&self, peers: &Peers, program: &str) -> String {
        peers.absent.iter().find(|absent| absent.program == program).unwrap().why.clone()
    }
}

#[test]
fn programs_that_say_the_same_are_compared_and_those_that_are_not_there_are_named() {
    let stage = Stage::new();
    let (sha256, blake3) = stage.digests();
    stage.script("b3sum", &format!(r#"[ "$1 $2" = "--num-threads 3" ] && echo "{blake3}  $3""#));
    stage.script("openssl", &format!(r#"[ "$*" = "dgst -sha256 -r $4" ] && echo "{sha256} *$4""#));
    stage.script("python3", r#"[ "$1 $2 $3" = "-m model_signing verify" ] && echo "Verification succeeded""#);
    let mut told = Vec::new();
    let path = std::env::join_paths([stage.folder.path()]).unwrap();
    let options = PeerOptions { path, threads: NonZeroUsize::new(3), ..PeerOptions::new(NonZeroUsize::MIN) };
    let peers = beside(&stage.model, &stage.folder.path().join("ours"), &options, &mut |event| match event {
        Event::Running { program, task } => told.push(format!("{program}: {task}")),
        Event::Beside(beside) => told.push(format!("{}, measured", beside.program)),
        Event::Absent(absent) => told.push(format!("{}, absent", absent.program)),
        _ => {}
    })
    .unwrap();
    let found: Vec<_> =
        peers.lines.iter().map(|line| (line.program.as_str(), line.task.as_str(), line.threads)).collect();
    let expected = [
        ("b3sum", "BLAKE3 of one file", Some(3)),
        ("openssl", "SHA-256 of one file", None),
        ("model_signing", "verifying a model, SHA-256", None),
    ];
    assert_eq!(found, expected);
    for line in &peers.lines {
        assert_eq!((line.theirs.seconds().len(), line.ours.seconds().len()), (1, 1));
        assert!(
            (line.ratio - line.ours.median() / line.theirs.median()).abs() < 1e-9 && line.version.ends_with("1.2.3")
        );
    }
    assert_eq!(stage.why(&peers, "sha256sum"), "it is not in the folders of PATH");
    assert_eq!(peers.absent.len(), 1);
    let expected = [
        "b3sum: BLAKE3 of one file",
        "b3sum, measured",
        "sha256sum, absent",
        "openssl: SHA-256 of one file",
        "openssl, measured",
        "model_signing: verifying a model, SHA-256",
        "model_signing, measured",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_program_that_says_something_else_ends_it_as_a_disagreement() {
    for (program, text) in [
        ("b3sum", format!(r#"echo "{}  $3""#, "ab".repeat(32))),
        ("sha256sum", format!(r#"echo "{}  $1""#, "cd".repeat(32))),
        ("model_signing", r#"echo "Verification failed with error: Hash mismatch"; exit 1"#.to_owned()),
    ] {
        let stage = Stage::new();
        stage.script(program, &text);
        let failure = stage.beside().unwrap_err();
        let is_that = matches!(&failure, Failure::Disagrees { program: named, .. } if *named == program);
        assert!(is_that && failure.is_wrong(), "{failure}");
    }
    // Right at first, and wrong the second time.
    let stage = Stage::new();
    let (_, blake3) = stage.digests();
    let once = stage.folder.path().join("once");
    let text = format!(
        r#"if [ -e {0} ]; then echo "{1}  f"; else : > {0}; echo "{blake3}  f"; fi"#,
        once.display(),
        "ab".repeat(32)
    );
    stage.script("b3sum", &text);
    assert!(matches!(stage.beside(), Err(Failure::Disagrees { .. })));
}

#[test]
fn ours_that_says_something_else_or_nothing_ends_it() {
    let stage = Stage::new();
    let (sha256, blake3) = stage.digests();
    stage.script("b3sum", &format!(r#"echo "{blake3}  $3""#)).script("sha256sum", &format!(r#"echo "{sha256}  $1""#));
    for (text, wrong) in [
        (format!(r#"echo "{}  f""#, "ab".repeat(32)), true),
        (format!(r#"echo "{blake3}  f"; exit 3"#), false),
        ("exit 0".to_owned(), false),
        (r#"echo "Verification succeeded""#.to_owned(), false),
    ] {
        fs::remove_file(stage.folder.path().join("ours")).unwrap();
        stage.script("ours", &text);
        let failure = stage.beside().unwrap_err();
        assert_eq!(failure.is_wrong(), wrong, "{failure}");
        assert!(wrong || matches!(failure, Failure::Ours { .. }), "{failure}");
    }
    let gone = beside(
        &stage.model,
        &stage.folder.path().join("gone"),
        &PeerOptions {
            path: std::env::join_paths([stage.folder.path()]).unwrap(),
            ..PeerOptions::new(NonZeroUsize::MIN)
        },
        &mut |_| {},
    );
    assert!(matches!(gone, Err(Failure::Ours { .. })), "{gone:?}");
}

#[test]
fn programs_that_fail_hang_or_babble_are_absent_and_say_nothing_that_acts() {
    let stage = Stage::new();
    let (sha256, _) = stage.digests();
    stage.script("b3sum", r#"printf 'first\n\033[31mno\007 such thing\n' >&2; exit 7"#);
    // What it starts would keep its output open.
    let number = stage.folder.path().join("number");
    stage.script("sha256sum", &format!("sleep 300 & echo $! > {}; wait", number.display()));
    // A right digest, and then no end.
    stage.script("openssl", &format!("echo '{sha256} *f'; while :; do echo babble; done"));
    stage.script("model_signing", "kill -9 $$");
    let begun = Instant::now();
    let peers = stage.beside_for(Duration::from_secs(2)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(peers.lines, []);
    let why = stage.why(&peers, "b3sum");
    assert!(why.contains("exit code 7") && why.contains("no\\u{7} such thing") && !why.contains('\u{1b}'), "{why:?}");
    for program in ["sha256sum", "openssl"] {
        assert!(stage.why(&peers, program).contains("had not ended after 2 s"), "{}", stage.why(&peers, program));
    }
    assert!(stage.why(&peers, "model_signing").contains("signal"), "{}", stage.why(&peers, "model_signing"));
    assert_gone(&number);
}

#[test]
fn what_a_program_leaves_behind_is_ended_with_it() {
    let stage = Stage::new();
    let (_, blake3) = stage.digests();
    let number = stage.folder.path().join("number");
    // It has ended long before its time is over, and what it started has not, and keeps its output open.
    stage.script("b3sum", &format!("sleep 300 & echo $! > {}; echo '{blake3}  f'", number.display()));
    let peers = stage.beside_for(Duration::from_secs(2)).unwrap();
    assert!(stage.why(&peers, "b3sum").contains("had not ended after 2 s"), "{peers:?}");
    assert_gone(&number);
}

/// Nothing goes on behind our back: nobody of this number is left, or a body that init has not buried yet.
fn assert_gone(number: &Path) {
    let number = fs::read_to_string(number).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", number.trim())).ok();
    let gone = (0..200).any(|_| {
        let gone = state().is_none_or(|stat| stat.contains(") Z "));
        std::thread::sleep(Duration::from_millis(if gone { 0 } else { 10 }));
        gone
    });
    assert!(gone, "{:?}", state());
}

#[test]
fn only_programs_in_folders_that_do_not_depend_on_where_we_are_are_found() {
    let stage = Stage::new();
    stage.script("tool", "");
    fs::write(stage.folder.path().join("text"), "no program").unwrap();
    fs::create_dir(stage.folder.path().join("folder")).unwrap();
    let path =
        std::env::join_paths([Path::new("/no/such"), Path::new("."), Path::new(""), stage.folder.path()]).unwrap();
    assert_eq!(find("tool", &path), Some(stage.folder.path().join("tool")));
    for none in ["text", "folder", "none"] {
        assert_eq!(find(none, &path), None);
    }
    // Tests run where the package lies, in which this is a program.
    assert!(Path::new("./test").metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0));
    for path in [".", ":", "src/..", ".:"] {
        assert_eq!(find("test", std::ffi::OsStr::new(path)), None);
    }
}

#[test]
fn a_digest_is_64_digits_and_the_end_of_a_word() {
    let hex = "0123456789abcdef".repeat(4);
    for right in [format!("{hex}  f\n"), format!("\\{hex}  f\\n\n"), format!("{hex} *f\n"), format!("{hex}\n")] {
        assert_eq!(digest(&right), Some(&*hex), "{right}");
    }
    let (upper, short) = (hex.to_uppercase(), &hex[1..]);
    for none in [
        String::new(),
        hex.clone(),
        format!("{hex}0  f"),
        format!("{short}  f"),
        upper + "  f",
        format!("ü{hex} f"),
        " ".repeat(80),
    ] {
        assert_eq!(digest(&none), None, "{none}");
    }
}
