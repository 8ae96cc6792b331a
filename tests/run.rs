//! `run` and receipts, through the command line: what the command gets, what keeps it from running, and receipts that try to
//! pass for what they are not.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Run, seal, write};
use serde_json::{Value, json};
use tensorseal::key::PrivateKey;

/// The payload type, spelled out: it is part of the format.
const TYPE: &str = "application/vnd.tensorseal.receipt.v1+json";

/// A folder with a signed model `m`, a policy for it, and keys: `team` signs models, `gate` receipts, `other` nothing.
struct Place {
    folder: tempfile::TempDir,
}

const POLICY: &str = "version = 1\n[signers.team]\nkey = \"team.pub\"\n[receipts]\nkeys = [\"gate.pub\"]\nmax_age = \"1h\"\n\
                      [[rule]]\npath = \"HERE/*\"\nany_of = [\"team\"]\n";
const RUN: &str = "run --policy policy.toml --signature m.sig m";

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (name, text) in [("m/a", "A"), ("m/b", "BBBBB"), ("m/d/c", "C")] {
            write(place.path(name), text);
        }
        for name in ["team", "gate", "other"] {
            place.seal(&format!("keygen --out {name}.pem")).expect(0, "", "keygen");
        }
        place.sign("team", "m");
        place.policy(POLICY);
        place
    }

    /// The same, with a model whose files have not changed for a while, and a signed receipt `r` of it.
    fn with_receipt() -> Self {
        let place = Self::new();
        std::thread::sleep(Duration::from_millis(3100));
        place.receipt("r", "gate");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn seal(&self, line: &str) -> Run {
        seal(self.folder.path(), line)
    }

    fn sign(&self, key: &str, model: &str) {
        let line = format!("sign key {model} --private-key {key}.pem --signature {model}.sig");
        self.seal(&line).expect(0, "Signing succeeded", &line);
    }

    fn policy(&self, text: &str) {
        write(self.path("policy.toml"), text.replace("HERE", self.path("").to_str().unwrap().trim_end_matches('/')));
    }

    /// Verifies and leaves a receipt at `name`, signed by `key`.
    fn receipt(&self, name: &str, key: &str) {
        let line = format!("verify --policy policy.toml --signature m.sig m --receipt {name} --receipt-key {key}.pem");
        self.seal(&line).expect(0, "Verification succeeded", &line);
    }

    /// Runs `touch ran` behind `run` and `options`, and says whether it ran.
    fn touch(&self, options: &str) -> (Run, bool) {
        let _ = fs::remove_file(self.path("ran"));
        let run = self.seal(&format!("{RUN} {options} -- touch ran"));
        (run, self.path("ran").exists())
    }

    /// `run` with this receipt does run the command, and hashes nothing.
    #[track_caller]
    fn accepts(&self, options: &str, words: &str) {
        let (run, ran) = self.touch(options);
        run.expect(0, "not hashed", options);
        run.expect(0, words, options);
        assert!(ran && !run.said("checked on disk"), "{run:#?}");
    }

    /// It does not run, ends with `code`, and says why.
    #[track_caller]
    fn refuses(&self, options: &str, code: i32, words: &str) {
        let (run, ran) = self.touch(options);
        run.expect(code, words, options);
        assert!(!ran, "{run:#?}");
    }

    fn payload(&self, name: &str) -> Value {
        let envelope: Value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// Writes `payload` as a receipt signed by `key`, by the library's keys and nothing else of it.
    fn forge(&self, name: &str, payload: &[u8], kind: &str, key: &str) {
        let pem = fs::read(self.path(&format!("{key}.pem"))).unwrap();
        let key = PrivateKey::from_pem(&pem, &mut || unreachable!()).unwrap();
        let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        pae.extend(payload);
        let sig = STANDARD.encode(key.sign(&pae).unwrap());
        let envelope = json!({
            "payload": STANDARD.encode(payload),
            "payloadType": kind,
            "signatures": [{"keyid": key.public_key().hint(), "sig": sig}],
        });
        write(self.path(name), envelope.to_string());
    }

    /// Runs a shell script behind `run` and gives all that came of it.
    fn shell(&self, options: &str, script: &str) -> std::process::Output {
        let mut command = self.command(&format!("{RUN} {options} --"));
        command.args(["sh", "-c", script]).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorseal"));
        command.current_dir(self.folder.path()).args(line.split_whitespace());
        command
    }
}

const BY_FILE: &str = "--accept-receipt r --trust-file-identity";

#[test]
fn the_command_is_run_in_our_place() {
    let place = Place::new();
    let out = place.shell("", "echo out; echo err >&2; exit 42");
    assert_eq!(out.status.code(), Some(42));
    assert_eq!(out.stdout, b"out\n", "nothing of ours is on standard output");
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(stderr.starts_with("Verification succeeded\n") && stderr.ends_with("err\n"), "{stderr}");
    assert!(stderr.contains("checked on disk before exec"), "{stderr}");
    assert!(!stderr.to_lowercase().contains("in memory"), "{stderr}");
    // A signal that the command dies of is what the caller sees.
    assert_eq!(place.shell("", "kill -TERM $$").status.signal(), Some(15));
    assert_eq!(place.shell("", "kill -PIPE $$").status.signal(), Some(13), "SIGPIPE is as it is by default");
    // The same process.
    let child = place
        .command(&format!("{RUN} -- sh -c"))
        .args(["echo $$"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), pid);
    // Its input, byte by byte from the first.
    let mut command = place.command(&format!("{RUN} -- cat"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"first\nsecond\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"first\nsecond\n");
}

#[test]
fn the_command_gets_its_words_and_its_surroundings_as_they_are() {
    let place = Place::new();
    let odd = OsString::from_vec(b"\xff\xfe=_".to_vec());
    let words: Vec<&OsStr> =
        ["printf", "%s|", "--", "--json", "--ignore_paths", "", "a b", "--policy"].iter().map(OsStr::new).collect();
    let mut command = place.command(&format!("{RUN} --"));
    let out = command.args(&words).arg(&odd).output().unwrap();
    // `printf` takes the first `--` for itself only where it stands before the format.
    assert_eq!(out.stdout, b"--|--json|--ignore_paths||a b|--policy|\xff\xfe=_|");
    let mut command = place.command(&format!("{RUN} --"));
    let out = command.args(["sh", "-c", "pwd; echo $0; echo $KEPT; echo ${TENSORSEAL_RECEIPT-none}"]);
    let out = out.env("KEPT", "as it was").env("TENSORSEAL_RECEIPT", "/of/somebody/else").output().unwrap();
    let here = place.path("");
    let expected = format!("{}\nsh\nas it was\nnone\n", here.to_str().unwrap().trim_end_matches('/'));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), expected);
    // As it is, also where it is in no order: what `env` prints is what it was given.
    let given = ["Z=1", "A=2", "M=3"];
    let line = format!("{} {RUN} -- env", env!("CARGO_BIN_EXE_tensorseal"));
    let out = Command::new("env")
        .current_dir(place.path(""))
        .args(["-i"])
        .args(given)
        .args(line.split(' '))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().collect::<Vec<_>>(), given);
    // No descriptor of ours, and every one of theirs.
    let script = "exec 7<policy.toml; exec \"$0\" \"$@\"";
    let list = |first: &[&str]| {
        let mut command = Command::new("sh");
        command.current_dir(place.path("")).args(["-c", script]).args(first).args(["ls", "/proc/self/fd"]);
        String::from_utf8(command.stderr(Stdio::null()).output().unwrap().stdout).unwrap()
    };
    let mut behind = vec![env!("CARGO_BIN_EXE_tensorseal")];
    behind.extend(RUN.split(' '));
    behind.push("--");
    let (plain, behind) = (list(&[]), list(&behind));
    assert!(plain.contains('7'));
    assert_eq!(behind, plain, "open files of `ls`, with and without us before it");
}

#[test]
fn a_refusal_never_runs_the_command() {
    let place = Place::new();
    place.accepts_plainly();
    for (options, code, words) in [
        ("--strict --ignore-unsigned-files", 2, "cannot be used with"),
        ("--signature other.sig", 3, "cannot read signature"),
        ("--device cuda:99", 3, ""),
        ("--max-bundle-size 10", 1, "the limit is 10"),
        ("--trust-file-identity", 2, "--accept-receipt"),
        ("--receipt-key gate.pem", 2, "--receipt"),
        ("--password-file gate.pem", 2, "--receipt-key"),
        ("--receipt m/r", 3, "would lie in the model"),
        ("--receipt team.pem", 3, "is not a receipt, so it is not replaced"),
        ("--receipt no/such/folder/r", 3, "no/such/folder"),
        ("--receipt r --receipt-expires 5w", 2, "write a number and s, m, h or d"),
        ("--accept-receipt none", 3, "cannot be read"),
    ] {
        place.refuses(options, code, words);
    }
    assert!(fs::read_to_string(place.path("team.pem")).unwrap().contains("PRIVATE KEY"), "nothing was replaced");
    common::flip(place.path("m/b"), 2);
    place.refuses("", 1, "1 changed");
    place.refuses("--receipt r", 1, "1 changed");
    assert!(!place.path("r").exists(), "no receipt of a no");
    common::flip(place.path("m/b"), 2);
    write(place.path("m/new"), "new");
    place.refuses("", 1, "not signed new");
    fs::remove_file(place.path("m/new")).unwrap();
    place.policy(&POLICY.replace("HERE/*", "HERE/n"));
    place.refuses("", 1, "has no rule for");
    place.policy("version = 2");
    place.refuses("", 3, "version 2");
    for line in ["run m -- touch ran", "run --policy policy.toml m -- touch ran", RUN, &format!("{RUN} --")] {
        place.seal(line).expect(2, "", line);
    }
    place.seal(&format!("{RUN} touch ran")).expect(2, "unexpected argument", "a command without --");
    assert!(!place.path("ran").exists());
}

impl Place {
    #[track_caller]
    fn accepts_plainly(&self) {
        let (run, ran) = self.touch("");
        run.expect(0, "Verification succeeded", "run");
        assert!(ran && !run.said("not hashed"), "{run:#?}");
    }
}

#[test]
fn a_command_that_cannot_be_run_is_found_out_before_anything_is_read() {
    let place = Place::new();
    fs::remove_file(place.path("policy.toml")).unwrap();
    place.seal(&format!("{RUN} -- no-such-command-here")).expect(127, "there is no command", "none");
    place.seal(&format!("{RUN} -- ./none")).expect(127, "there is no command ./none", "none here");
    place.seal(&format!("{RUN} -- ./team.pem")).expect(126, "team.pem cannot be run", "no program");
    place.seal(&format!("{RUN} -- ./m")).expect(126, "m cannot be run", "a folder");
    // Its interpreter is missing, which only the kernel finds out.
    place.policy(POLICY);
    write(place.path("script"), "#!/no/such/interpreter\n");
    fs::set_permissions(place.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    place.seal(&format!("{RUN} -- ./script")).expect(127, "cannot run ./script", "no interpreter");
}

#[test]
fn a_report_for_machines_stays_off_the_commands_output() {
    let place = Place::new();
    let out = place.shell("--json --receipt r", "echo out; echo err >&2");
    assert_eq!(out.stdout, b"out\n");
    let stderr = String::from_utf8(out.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with('{')).collect();
    let report: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert_eq!(
        (&report["command"], &report["verdict"], &report["hashed"]),
        (&json!("run"), &json!("yes"), &json!(true))
    );
    assert_eq!(report["receipt"], "r");
    assert!(!stderr.contains("before exec"), "the text of success is left out: {stderr}");
    for (line, code, kind) in [
        (format!("{RUN} --json -- ./none"), 127, "command"),
        (format!("{RUN} --json --signature none -- true"), 3, "io"),
        (format!("{RUN} --json --accept-receipt r -- true"), 3, "receipt"),
    ] {
        let run = place.seal(&line);
        assert_eq!((run.code, &*run.stdout), (Some(code), ""), "{line}");
        let report = run.stderr.lines().find(|line| line.starts_with('{')).unwrap();
        let report: Value = serde_json::from_str(report).unwrap();
        assert_eq!((&report["error"]["kind"], &report["exit_code"]), (&json!(kind), &json!(code)), "{line}");
        assert_eq!(report["verdict"], "none", "{line}");
    }
}

#[test]
fn a_receipt_says_what_was_checked_and_the_command_finds_it() {
    let place = Place::new();
    let out = place.shell("--receipt sub.json", "cd /; cat \"$TENSORSEAL_RECEIPT\"");
    let receipt: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(receipt["schema"], "tensorseal/receipt/v1");
    assert_eq!(receipt["hashed"], true);
    assert!(receipt["verdict"].as_str().unwrap().starts_with("checked on disk before exec"), "{receipt}");
    let sum = |name: &str| {
        let run = common::program(&place.path(""), "sha256sum", &[name]);
        run.stdout.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(receipt["bundles"][0]["sha256"], sum("m.sig"));
    assert_eq!(receipt["bundles"][0]["path"], "m.sig");
    assert!(receipt["bundles"][0]["identity"].as_str().unwrap().contains(&sum("team.pub")));
    assert_eq!(receipt["policy"]["sha256"], sum("policy.toml"));
    assert_eq!(receipt["policy"]["rules"], json!([1]));
    assert_eq!((&receipt["checked"], &receipt["not_checked"]), (&json!(["sha256"]), &json!(["blake3"])));
    assert_eq!(receipt["model"]["resolved"], place.path("m").to_str().unwrap());
    let names: Vec<&str> = receipt["files"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "d/c"]);
    // As stat(1) has it.
    let stat = common::program(&place.path(""), "stat", &["-c", "%i %s %Z %Y", "m/b"]);
    let file = &receipt["files"][1];
    let ours = format!("{} {} {} {}", file["inode"], file["size"], file["ctime"][0], file["mtime"][0]);
    assert_eq!(stat.stdout.trim(), ours);
    assert!(receipt["file_systems"][0]["type"].is_string() && receipt["file_systems"][0]["changeable"].is_string());
    // Every method leaves one.
    place.seal("verify key m --public-key team.pub --signature m.sig --receipt k").expect(
        0,
        "not signed: a log",
        "key",
    );
    let of_key: Value = serde_json::from_slice(&fs::read(place.path("k")).unwrap()).unwrap();
    assert!(
        of_key["policy"].is_null() && of_key["verdict"].as_str().unwrap().starts_with("checked on disk: "),
        "{of_key}"
    );
    // An older receipt is replaced, signed or not.
    place.receipt("k", "gate");
    place.receipt("k", "gate");
    assert_eq!(place.payload("k")["files"], receipt["files"]);
}

#[test]
fn a_signed_receipt_spares_the_hashing_if_file_identity_is_trusted_in_so_many_words() {
    let place = Place::with_receipt();
    place.refuses("--accept-receipt r", 3, "nothing shows that the file \"a\" is as it was");
    place.accepts(BY_FILE, "3 by inode and times alone, as you asked (--trust-file-identity)");
    let (run, _) = place.touch(&format!("{BY_FILE} --json"));
    let report = run.stderr.lines().find(|line| line.starts_with('{')).unwrap();
    let report: Value = serde_json::from_str(report).unwrap();
    assert_eq!((&report["hashed"], &report["checked"]), (&json!(false), &json!([])));
    assert_eq!(report["unhashed"]["file_identity"], 3);
    assert_eq!(report["bytes"], 7);
    // What is read is not opened for reading at all: the bytes on disk do not matter, which is what the words say.
    let before = fs::metadata(place.path("m/b")).unwrap().modified().unwrap();
    place.accepts(&format!("{BY_FILE} --receipt s --receipt-key gate.pem"), "not hashed");
    assert_eq!(fs::metadata(place.path("m/b")).unwrap().modified().unwrap(), before);
    place.refuses(&format!("{BY_FILE} --receipt ./r"), 2, "would replace the receipt");
    place.refuses(&format!("{BY_FILE} --outboard none"), 3, "an outboard needs the bytes of the files");
    // A receipt that rests on a receipt says so, and is none to rest on.
    let second = place.payload("s");
    assert_eq!((&second["hashed"], &second["accepted"]["file_identity"]), (&json!(false), &json!(3)));
    assert!(second["verdict"].as_str().unwrap().starts_with("not hashed"), "{second}");
    place.refuses("--accept-receipt s --trust-file-identity", 3, "rests on another receipt");
}

#[test]
fn a_receipt_holds_only_for_what_it_is_of() {
    let place = Place::with_receipt();
    place.accepts(BY_FILE, "not hashed");
    // Other digests than those that were checked.
    place.refuses(&format!("{BY_FILE} --all-digests"), 3, "the blake3 digests have to be checked");
    place.refuses(&format!("{BY_FILE} --digest blake3"), 3, "the blake3 digests have to be checked");
    // Another signature, of the same model by the same signer.
    fs::rename(place.path("m.sig"), place.path("first.sig")).unwrap();
    let line = "sign key m --private-key team.pem --signature m.sig --no-annotations";
    place.seal(line).expect(0, "Signing succeeded", line);
    place.refuses(BY_FILE, 3, "signatures' SHA-256");
    place.refuses(&format!("{BY_FILE} --signature first.sig"), 3, "signatures' SHA-256");
    fs::rename(place.path("first.sig"), place.path("m.sig")).unwrap();
    place.accepts(BY_FILE, "not hashed");
    // Another model, with a good signature of its own and the same bytes.
    common::copy(&place.path("m"), &place.path("n"));
    place.sign("team", "n");
    let other = format!("run --policy policy.toml --signature n.sig n {BY_FILE} -- touch ran");
    place.seal(&other).expect(3, "signatures' SHA-256", "another model");
    let copied = format!("run --policy policy.toml --signature m.sig n {BY_FILE} -- touch ran");
    place.seal(&copied).expect(3, "inode", "a copy under the same signature");
    // Another policy; even one comment more.
    place.policy(&format!("{POLICY}# more\n"));
    place.refuses(BY_FILE, 3, "policy's SHA-256");
    place.policy(&POLICY.replace("[receipts]\nkeys = [\"gate.pub\"]\nmax_age = \"1h\"\n", ""));
    place.refuses(BY_FILE, 3, "the policy has no [receipts]");
    place.policy(POLICY);
    // A signature that a rule does not accept is refused before any receipt is looked at.
    place.sign("other", "m");
    place.refuses(BY_FILE, 1, "is not a signature of \"team\"");
}

#[test]
fn other_rules_of_the_same_policy_are_another_check() {
    let place = Place::new();
    let two = "[[rule]]\npath = \"HERE/o\"\nany_of = [\"team\"]\nrequire = { strict = true }\n";
    place.policy(&format!("{POLICY}{two}"));
    std::thread::sleep(Duration::from_millis(3100));
    place.receipt("r", "gate");
    place.accepts(BY_FILE, "not hashed");
    fs::rename(place.path("m"), place.path("o")).unwrap();
    let line = format!("run --policy policy.toml --signature m.sig o {BY_FILE} -- touch ran");
    place.seal(&line).expect(3, "list of rules", "moved to where another rule applies");
}

#[test]
fn files_that_are_not_those_of_the_receipt_are_refused() {
    let place = Place::with_receipt();
    let b = place.path("m/b");
    let again = |about: &str| {
        // As it was, with the times that anybody can set.
        place.accepts(BY_FILE, "not hashed");
        about.to_owned()
    };
    again("untouched");
    // Added, and gone: names are compared with the signature, which is a no.
    write(place.path("m/new"), "x");
    place.refuses(BY_FILE, 1, "not signed new");
    fs::remove_file(place.path("m/new")).unwrap();
    again("new is gone");
    fs::rename(&b, place.path("kept")).unwrap();
    place.refuses(BY_FILE, 1, "missing b");
    // Replaced by a file with the same length and times, and other bytes.
    write(&b, "XXXXX");
    common::program(&place.path(""), "touch", &["-r", "kept", "m/b"]);
    place.refuses(BY_FILE, 3, "its inode was");
    fs::remove_file(&b).unwrap();
    symlink("../kept", &b).unwrap();
    place.refuses(BY_FILE, 1, "symlink");
    fs::remove_file(&b).unwrap();
    // The very file, renamed forth and back: its change time tells, where the file system keeps one for that.
    fs::rename(place.path("kept"), &b).unwrap();
    place.refuses(BY_FILE, 3, "its change time was");
    // Written in place, with the modification time put back.
    let place = Place::with_receipt();
    let b = place.path("m/b");
    fs::copy(&b, place.path("like")).unwrap();
    common::program(&place.path(""), "touch", &["-r", "m/b", "like"]);
    common::flip(&b, 1);
    place.refuses(BY_FILE, 3, "its modification time was");
    common::program(&place.path(""), "touch", &["-r", "like", "m/b"]);
    place.refuses(BY_FILE, 3, "its change time was");
    write(&b, "BBBBBB");
    place.refuses(BY_FILE, 3, "its length was");
    // Without the receipt the model is hashed, and the answer is no.
    place.refuses("", 1, "changed b");
}

#[test]
fn a_file_that_changed_just_before_it_was_hashed_cannot_be_told_by_its_times() {
    let place = Place::new();
    common::flip(place.path("m/b"), 1);
    common::flip(place.path("m/b"), 1);
    place.receipt("r", "gate");
    place.refuses(BY_FILE, 3, "was changed within two seconds before it was hashed");
}

#[test]
fn only_a_key_that_the_policy_names_makes_a_receipt_that_counts() {
    let place = Place::with_receipt();
    place.receipt("o", "other");
    place.refuses("--accept-receipt o --trust-file-identity", 3, "of no key that the policy names");
    // The signer of the model is no signer of receipts.
    place.receipt("t", "team");
    place.refuses("--accept-receipt t --trust-file-identity", 3, "of no key that the policy names");
    // Unsigned: a log.
    place.seal("verify --policy policy.toml --signature m.sig m --receipt u").expect(
        0,
        "not signed: a log",
        "unsigned",
    );
    place.refuses("--accept-receipt u --trust-file-identity", 3, "an unsigned receipt is a log");
    // The payload alone, in an envelope without a signature, or with somebody else's under the name of the key.
    let payload = place.payload("r").to_string();
    let mut envelope: Value = serde_json::from_slice(&fs::read(place.path("r")).unwrap()).unwrap();
    let good = envelope.clone();
    envelope["signatures"] = json!([]);
    write(place.path("f"), envelope.to_string());
    place.refuses("--accept-receipt f --trust-file-identity", 3, "exactly one signature and holds 0");
    envelope["signatures"] = json!([good["signatures"][0], good["signatures"][0]]);
    write(place.path("f"), envelope.to_string());
    place.refuses("--accept-receipt f --trust-file-identity", 3, "exactly one signature and holds 2");
    place.forge("f", payload.as_bytes(), TYPE, "other");
    let mut forged: Value = serde_json::from_slice(&fs::read(place.path("f")).unwrap()).unwrap();
    forged["signatures"][0]["keyid"] = good["signatures"][0]["keyid"].clone();
    write(place.path("f"), forged.to_string());
    place.refuses("--accept-receipt f --trust-file-identity", 3, "or it was altered");
    // A denied key is none, whatever [receipts] says.
    let denied = common::program(&place.path(""), "sha256sum", &["gate.pub"]).stdout[..64].to_owned();
    place.policy(&POLICY.replace("[receipts]", &format!("[deny]\nkeys = [\"{denied}\"]\n[receipts]")));
    place.refuses(BY_FILE, 3, "is denied by the policy");
    place.policy(POLICY);
    place.accepts(BY_FILE, "not hashed");
}

#[test]
fn what_a_receipt_says_is_signed_and_read_in_one_way() {
    let place = Place::with_receipt();
    let option = "--accept-receipt f --trust-file-identity";
    let payload = place.payload("r");
    // The forger's tool makes receipts that count, if the key is right: so each refusal below is for its own reason.
    place.forge("f", payload.to_string().as_bytes(), TYPE, "gate");
    place.accepts(option, "not hashed");
    let with = |field: &str, value: Value| {
        let mut changed = payload.clone();
        *changed.pointer_mut(field).unwrap() = value;
        changed.to_string().into_bytes()
    };
    let seconds = |shift: i64| {
        let out = common::program(Path::new("/"), "date", &["-u", "-d", &format!("{shift} seconds"), "+%FT%TZ"]);
        json!(out.stdout.trim())
    };
    for (field, value, words) in [
        ("/time", seconds(60), "by this machine's clock it is"),
        ("/time", seconds(-3700), "longer ago than the policy's max_age of 3600 s"),
        ("/expires", seconds(-1), "it expired at"),
        ("/expires", json!("2099-01-01"), "a time is not written as"),
        ("/hashed", json!(false), "rests on another receipt"),
        ("/schema", json!("tensorseal/receipt/v2"), "which this version of tensorseal does not know"),
        ("/root", json!("sha256:00"), "signed root"),
        ("/checked", json!([]), "the sha256 digests have to be checked"),
        ("/policy", Value::Null, "invalid type: null"),
        ("/policy/rules", json!([2]), "list of rules"),
        ("/files/1/name", json!("a"), "a file stands in it twice"),
        ("/files/1/name", json!("z"), "it says nothing of the file \"b\""),
        ("/files/1/size", json!(6), "its length was 6 and is 5"),
        ("/files/1/file_system", json!(9), "lies in no file system that it names"),
        ("/files/1/fs_verity", json!("sha256:00"), ""),
    ] {
        if field == "/files/1/fs_verity" {
            let mut changed = payload.clone();
            changed["files"][1]["fs_verity"] = value;
            place.forge("f", changed.to_string().as_bytes(), TYPE, "gate");
            place.refuses(option, 3, "its fs-verity digest was sha256:00 and is none");
            continue;
        }
        place.forge("f", &with(field, value.clone()), TYPE, "gate");
        place.refuses(option, 3, words);
        // The same by a key that the policy does not name says only that.
        place.forge("f", &with(field, value), TYPE, "other");
        place.refuses(option, 3, "of no key that the policy names");
    }
    let mut more = payload.clone();
    more["more"] = json!(1);
    place.forge("f", more.to_string().as_bytes(), TYPE, "gate");
    place.refuses(option, 3, "unknown field");
    more = payload.clone();
    let file = more["files"][0].clone();
    more["files"].as_array_mut().unwrap().push({
        let mut file = file;
        file["name"] = json!("more");
        file
    });
    place.forge("f", more.to_string().as_bytes(), TYPE, "gate");
    place.refuses(option, 3, "it names the file \"more\"");
    // An array or null in the place of an object or of nothing: other readers see something else.
    for (field, value, words) in [
        ("/model", json!(["m", "m"]), "expected an object"),
        ("/bundles/0", json!(["m.sig", "00", "key"]), "expected an object"),
        ("/file_systems/0/changeable", Value::Null, "invalid type: null"),
    ] {
        place.forge("f", &with(field, value), TYPE, "gate");
        place.refuses(option, 3, words);
    }
    let mut null = payload.clone();
    null["file_systems"][0]["erofs"] = Value::Null;
    place.forge("f", null.to_string().as_bytes(), TYPE, "gate");
    place.refuses(option, 3, "invalid type: null");
    // A key twice, in what is signed and around it.
    let twice = payload.to_string().replacen("\"hashed\":true", "\"hashed\":false,\"hashed\":true", 1);
    assert!(twice.contains("false"));
    place.forge("f", twice.as_bytes(), TYPE, "gate");
    place.refuses(option, 3, "stands twice in one object");
    let outer = fs::read_to_string(place.path("r")).unwrap();
    write(place.path("f"), outer.replacen('{', "{\"payloadType\":\"x\",", 1));
    place.refuses(option, 3, "stands twice in one object");
    write(place.path("f"), outer.replace(TYPE, "application/json"));
    place.refuses(option, 3, "its payloadType is \"application/json\"");
    write(place.path("f"), format!("{outer}{outer}"));
    place.refuses(option, 3, "malformed");
    for text in ["", "[]", "{}", "null", "\0"] {
        write(place.path("f"), text);
        place.refuses(option, 3, "malformed");
    }
    // A byte of the payload, by whoever has no key.
    let mut envelope: Value = serde_json::from_str(&outer).unwrap();
    envelope["payload"] = json!(STANDARD.encode(with("/expires", json!("2099-01-01T00:00:00Z"))));
    write(place.path("f"), envelope.to_string());
    place.refuses(option, 3, "or it was altered");
}

#[test]
fn a_signature_of_a_model_is_no_receipt_and_a_receipt_is_no_signature() {
    let place = Place::with_receipt();
    place.refuses("--accept-receipt m.sig --trust-file-identity", 3, "it is a signature of a model");
    place.refuses("--signature r", 1, "");
    place.seal("verify key m --public-key gate.pub --signature r").expect(1, "malformed", "a receipt as a bundle");
    // One key for both: what it signed as a model is none of its receipts, nor the other way round.
    place.policy(&POLICY.replace("gate.pub", "team.pub"));
    let bundle: Value = serde_json::from_slice(&fs::read(place.path("m.sig")).unwrap()).unwrap();
    let mut envelope = bundle["dsseEnvelope"].clone();
    write(place.path("f"), envelope.to_string());
    place.refuses("--accept-receipt f --trust-file-identity", 3, "its payloadType is \"application/vnd.in-toto+json\"");
    envelope["payloadType"] = json!(TYPE);
    write(place.path("f"), envelope.to_string());
    place.refuses("--accept-receipt f --trust-file-identity", 3, "or it was altered");
    place.receipt("t", "team");
    place.accepts("--accept-receipt t --trust-file-identity", "not hashed");
    let mut disguised = bundle;
    disguised["dsseEnvelope"] = serde_json::from_slice(&fs::read(place.path("t")).unwrap()).unwrap();
    disguised["dsseEnvelope"]["payloadType"] = json!("application/vnd.in-toto+json");
    write(place.path("d.sig"), disguised.to_string());
    let run = place.seal("verify key m --public-key team.pub --signature d.sig");
    run.expect(1, "invalid signature", "a receipt in a bundle");
    // A file of the policy's keys, a pipe and a folder are no receipts.
    place.refuses("--accept-receipt gate.pub --trust-file-identity", 3, "malformed");
    place.refuses("--accept-receipt m --trust-file-identity", 3, "it is not a regular file");
}

#[test]
fn a_receipt_ends_when_it_says() {
    let place = Place::new();
    std::thread::sleep(Duration::from_millis(2100));
    let line =
        "verify --policy policy.toml --signature m.sig m --receipt r --receipt-key gate.pem --receipt-expires 2s";
    place.seal(line).expect(0, "", line);
    std::thread::sleep(Duration::from_millis(2100));
    place.refuses(BY_FILE, 3, "it expired at");
}

#[test]
fn a_policys_receipts_are_closed_as_the_rest_of_it_is() {
    let place = Place::new();
    for (from, to, words) in [
        ("max_age = \"1h\"\n", "", "missing field `max_age`"),
        ("keys = [\"gate.pub\"]\n", "", "missing field `keys`"),
        ("[\"gate.pub\"]", "[]", "receipts.keys is empty"),
        ("[\"gate.pub\"]", "[\"gate.pub\", \"gate.pub\"]", "stands twice"),
        ("[\"gate.pub\"]", "[\"none.pub\"]", "none.pub"),
        ("[\"gate.pub\"]", "[\"gate.pem\"]", "expected a public key"),
        ("\"1h\"", "\"1 hour\"", "is no span of time"),
        ("\"1h\"", "3600", "invalid type"),
        ("max_age", "max_Age", "unknown field"),
        ("[receipts]\n", "[receipts]\nmore = 1\n", "unknown field `more`"),
    ] {
        let changed = POLICY.replace(from, to);
        assert_ne!(changed, POLICY);
        place.policy(&changed);
        place.refuses("", 3, words);
    }
}

/// With a password, as keys of signers have one.
#[test]
fn a_receipts_key_may_have_a_password() {
    let place = Place::new();
    write(place.path("secret"), "open sesame\n");
    place.seal("keygen --out locked.pem --password-file secret").expect(0, "", "keygen");
    let line = "verify --policy policy.toml --signature m.sig m --receipt r --receipt-key locked.pem";
    place.seal(&format!("{line} --password-file secret")).expect(0, "Verification succeeded", "with it");
    assert_eq!(place.payload("r")["hashed"], true);
    fs::remove_file(place.path("r")).unwrap();
    place.seal(&format!("{line} --password-file policy.toml")).expect(3, "wrong password", "with another");
    assert!(!place.path("r").exists());
}
