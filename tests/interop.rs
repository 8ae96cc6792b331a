//! Both directions with the Python implementation, model-signing 1.1.1, live: what one signs the other verifies, and
//! after a change neither does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Random, Run, copy, flip, program, python, seal, tensorseal, write};
use serde_json::{Value, json};

/// Names that some program somewhere gets wrong.
const NAMES: [&str; 30] = [
    "a",
    "a-b",
    "a.b",
    "a b",
    "b",
    "B",
    "é",
    "e\u{301}",
    "模型",
    "😀.bin",
    " lead",
    "trail ",
    "quo\"te",
    "it's",
    "back\\slash",
    "new\nline",
    "tab\t",
    "\r",
    ".dot",
    "..dots",
    ".git",
    ".github",
    ".gitignore",
    ".gitmodules",
    "-rf",
    "$(x)`y`",
    "%41",
    "\u{202e}txt",
    "x:0:4",
    "\u{7f}",
];

/// A tree of files with such names, up to four levels deep; some files are empty, some folders too.
fn tree(root: &Path, random: &mut Random) {
    write(root.join("weights.bin"), random.bytes(70_000)); // the file to tamper with
    write(root.join("a/b"), "order: a-b, a.b, a/b");
    write(root.join("a-b"), "1");
    write(root.join("a.b"), "2");
    write(root.join(".git/HEAD"), "not signed");
    write(root.join("nested/.git/HEAD"), "signed");
    write(root.join("skip me/x"), "left out by some signatures");
    for name in NAMES {
        write(root.join("names").join(name), name);
    }
    for _ in 0..25 {
        let mut path = root.to_owned();
        for _ in 0..=random.below(4) {
            path.push(NAMES[random.below(NAMES.len())]);
        }
        let free = path.ancestors().take_while(|p| *p != root).all(|p| !p.exists() || p.is_dir()) && !path.exists();
        match random.below(6) {
            _ if !free => {}
            0 => fs::create_dir_all(path).unwrap(),
            1 => write(path, ""),
            _ => {
                let len = random.below(3000);
                write(path, random.bytes(len));
            }
        }
    }
}

/// A key pair `NAME.pem` and `NAME.pub`, made by us or by OpenSSL.
fn keys(folder: &Path, name: &str, curve: &str, ours: bool) {
    let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
    if ours {
        seal(folder, &format!("keygen --curve {curve} --out {private}")).expect(0, "", curve);
    } else {
        let group = match curve {
            "P-256" => "prime256v1",
            "P-384" => "secp384r1",
            _ => "secp521r1",
        };
        program(folder, "openssl", &["ecparam", "-name", group, "-genkey", "-noout", "-out", &private]);
        program(folder, "openssl", &["ec", "-in", &private, "-pubout", "-out", &public]);
    }
}

/// What Python says to each job.
fn peer(folder: &Path, python: &PathBuf, jobs: &[Value]) -> Vec<(i64, String)> {
    write(folder.join("jobs.json"), Value::from(jobs).to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peer.py");
    let run = program(folder, python, &[script.as_path(), Path::new("jobs.json")]);
    let answers: Vec<(i64, String)> = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(answers.len(), jobs.len());
    answers
}

fn cli(args: &[&str]) -> Value {
    json!({"cli": args})
}

/// One signature: of which model, where, by which key, with which ignored path.
struct Case {
    model: String,
    signature: String,
    key: String,
    ignored: Option<String>,
}

impl Case {
    fn arguments(&self, verb: &str) -> Vec<String> {
        let (flag, key) = if verb == "sign" { ("--private_key", "pem") } else { ("--public_key", "pub") };
        let key = format!("{}.{key}", self.key);
        // Underscores: 1.1.1 knows no other spelling, and we know both.
        let mut args = vec![verb, "key", &self.model, "--signature", &self.signature, flag, &key];
        if let (Some(path), "sign") = (&self.ignored, verb) {
            args.extend(["--ignore-paths", path]); // recorded in the signature, so not needed to verify
        }
        args.into_iter().map(str::to_owned).collect()
    }

    fn ours(&self, folder: &Path, verb: &str) -> Run {
        tensorseal(folder, &self.arguments(verb))
    }

    fn job(&self, verb: &str) -> Value {
        json!({"cli": self.arguments(verb)})
    }

    fn about(&self) -> String {
        format!("{} of {}", self.signature, self.model)
    }
}

#[test]
fn what_one_signs_the_other_verifies() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut cases: [Vec<Case>; 2] = [vec![], vec![]]; // signed by us, signed by Python
    let makers =
        [("P-256", true), ("P-256", false), ("P-384", true), ("P-384", false), ("P-521", true), ("P-521", false)];
    for (i, (curve, ours)) in makers.into_iter().enumerate() {
        let key = format!("key{i}");
        keys(folder, &key, curve, ours);
        let tree_name = format!("tree {i}");
        tree(&folder.join(&tree_name), &mut Random(1000 + i as u64));
        for (by, cases) in ["us", "py"].into_iter().zip(&mut cases) {
            // A signature inside of the model is a file more for the others, so each has a copy of the tree.
            let inside = format!("inside {by} {i}");
            copy(&folder.join(&tree_name), &folder.join(&inside));
            let mut case = |model: &str, signature: String, ignored: Option<String>| {
                cases.push(Case { model: model.to_owned(), signature, key: key.clone(), ignored });
            };
            case(&tree_name, format!("outside-{by}-{i}.sig"), None);
            case(&tree_name, format!("ignoring-{by}-{i}.sig"), Some(format!("{tree_name}/skip me")));
            case(&inside, format!("{inside}/model.sig"), None);
            case(&format!("{tree_name}/weights.bin"), format!("single-{by}-{i}.sig"), None);
        }
    }
    let [by_us, by_python] = &cases;

    for case in by_us {
        case.ours(folder, "sign").expect(0, "Signing succeeded", &case.about());
    }
    let mut jobs: Vec<Value> = by_python.iter().map(|case| case.job("sign")).collect();
    jobs.extend(by_us.iter().map(|case| case.job("verify")));
    for (case, (code, said)) in by_python.iter().chain(by_us).zip(peer(folder, &python, &jobs)) {
        assert_eq!(code, 0, "Python, {}: {said}", case.about());
    }
    for case in by_python.iter().chain(by_us) {
        case.ours(folder, "verify").expect(0, "Verification succeeded", &case.about());
    }

    // The program itself too, not only its parts in one process.
    let args = [vec!["-m".to_owned(), "model_signing".to_owned()], by_us[2].arguments("verify")].concat();
    program(folder, &python, &args).expect(0, "Verification succeeded", "python -m model_signing");

    // One byte of one file, and every verdict turns, on both sides.
    let trees: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert_eq!(trees.len(), 3 * makers.len());
    trees.iter().for_each(|tree| flip(tree.join("weights.bin"), 69_999));
    let jobs: Vec<Value> = by_us.iter().chain(by_python).map(|case| case.job("verify")).collect();
    for (case, (code, said)) in by_us.iter().chain(by_python).zip(peer(folder, &python, &jobs)) {
        assert!(code == 1 && said.contains("Hash mismatch"), "Python, {}: {code} {said}", case.about());
    }
    for case in by_us.iter().chain(by_python) {
        case.ours(folder, "verify").expect(1, "1 changed", &case.about());
    }
}

#[test]
fn the_other_hashes_and_shards_are_read_by_the_python_library_where_we_say_so() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keys(folder, "key", "P-256", true);
    let mut random = Random(77);
    for name in ["weights.bin", "sub/é", "sub/e\u{301}", "a-b", "a.b", "a/b", "z"] {
        let len = 1 + random.below(5000);
        write(folder.join("m").join(name), random.bytes(len));
    }
    write(folder.join("m/empty"), "");
    // Our flags, Python's explicit configuration, and who says yes: its command line, its library by a guess, its library
    // when told (OMS.md, a.8). What our command line warns of must say the same.
    let table = [
        ("", ("sha256", None), [true, true, true], ""),
        ("--no-annotations", ("sha256", None), [true, true, true], ""),
        ("--hash blake3", ("blake3", None), [false, true, true], "the Python command line and the Go"),
        ("--hash blake2b", ("blake2", None), [false, false, true], "only if it is told"),
        ("--shards 1000", ("sha256", Some(1000)), [false, false, false], "neither the Python nor the Go"),
        (
            "--shards 1000 --shards-compat",
            ("sha256", Some(1000)),
            [false, true, true],
            "the Python command line cannot",
        ),
        ("--shards 7 --shards-compat --hash blake2b", ("blake2", Some(7)), [false, false, true], "only if it is told"),
        (
            "--shards 7 --shards-compat --hash blake3",
            ("blake3", Some(7)),
            [false, false, false],
            "neither the Python nor",
        ),
        ("--single-file-name basename", ("sha256", None), [false, false, false], "the Python implementation cannot"),
    ];
    let mut jobs = Vec::new();
    for (i, (flags, (hash, shards), _, warning)) in table.iter().enumerate() {
        let model = if flags.contains("basename") { "m/weights.bin" } else { "m" };
        let signature = format!("{i}.sig");
        let run = seal(folder, &format!("sign key {model} --private-key key.pem --signature {signature} {flags}"));
        run.expect(0, warning, flags);
        assert_eq!(
            run.stderr.contains("cannot verify") || run.stderr.contains("neither"),
            !warning.is_empty(),
            "{run:?}"
        );
        jobs.push(cli(&["verify", "key", model, "--signature", &signature, "--public_key", "key.pub"]));
        for (hash, shards) in [(None, None), (Some(hash), *shards)] {
            jobs.push(
                json!({"verify": model, "signature": signature, "key": "key.pub", "hash": hash, "shards": shards}),
            );
        }
    }
    let answers = peer(folder, &python, &jobs);
    for ((flags, _, expected, _), answers) in table.iter().zip(answers.chunks(3)) {
        let yes: Vec<bool> = answers.iter().map(|(code, _)| *code == 0).collect();
        assert_eq!(yes, expected, "{flags}: {answers:?}");
    }

    // The other way round we verify everything that its library can make.
    let made = [
        ("sha256", None),
        ("blake2", None),
        ("blake3", None),
        ("sha256", Some(1000)),
        ("blake2", Some(64)),
        ("blake3", Some(64)),
    ];
    let job = |(i, (hash, shards)): (usize, &(&str, Option<u64>))| json!({"sign": "m", "signature": format!("py{i}.sig"), "key": "key.pem", "hash": hash, "shards": shards});
    for (answer, how) in peer(folder, &python, &made.iter().enumerate().map(job).collect::<Vec<_>>()).iter().zip(made) {
        assert_eq!(answer.0, 0, "{how:?}: {}", answer.1);
    }
    let verify = |i: usize| seal(folder, &format!("verify key m --signature py{i}.sig --public-key key.pub"));
    made.iter().enumerate().for_each(|(i, how)| verify(i).expect(0, "Verification succeeded", &format!("{how:?}")));
    flip(folder.join("m/weights.bin"), 0);
    made.iter().enumerate().for_each(|(i, how)| verify(i).expect(1, "1 changed", &format!("{how:?}")));
}
