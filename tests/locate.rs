//! `sign --outboard`, `verify --outboard` and `locate`, through the command line: what differs is named, narrowly, and
//! nothing else is; an outboard that does not prove itself says nothing.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Run, flip, python, seal, write};
use serde_json::{Value, json};

/// A tensor as this test laid it out.
#[derive(Clone)]
struct Planned {
    file: String,
    name: String,
    rows: u64,
    /// Its first byte in the file, and how many it has.
    at: u64,
    len: u64,
}

impl Planned {
    const fn row(&self) -> u64 {
        self.len / self.rows
    }
}

/// A folder with a model `m` and a key.
struct Place {
    folder: tempfile::TempDir,
    tensors: Vec<Planned>,
}

const GROUP: u64 = 64 << 10;

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), tensors: Vec::new() };
        seal(place.path(), "keygen --out key.pem").expect(0, "", "keygen");
        write(place.path().join("m/config.json"), r#"{"hidden_size": 512}"#);
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join("m").join(name)
    }

    /// Adds a safetensors file with these tensors: name, shape. Elements are BF16.
    fn tensors(&mut self, file: &str, tensors: &[(String, Vec<u64>)]) {
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        let mut planned = Vec::new();
        for (name, shape) in tensors {
            let len = shape.iter().product::<u64>() * 2;
            let place = [end, end + len];
            header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": place}));
            let rows = shape.first().copied().unwrap_or(1);
            planned.push(Planned { file: file.to_owned(), name: name.clone(), rows, at: end, len });
            end += len;
        }
        let mut text = serde_json::to_string(&header).unwrap();
        while text.len() % 8 > 0 {
            text.push(' ');
        }
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        let data = bytes.len() as u64;
        bytes.extend((0..end).map(|i| ((i * 7) ^ (i >> 8) ^ (i >> 17)) as u8));
        write(self.file(file), bytes);
        self.tensors.extend(planned.into_iter().map(|tensor| Planned { at: tensor.at + data, ..tensor }));
    }

    fn sign(&self, flags: &str) -> Run {
        seal(self.path(), &format!("sign key m --private-key key.pem --signature m.sig {flags}"))
    }

    fn signed(&self, flags: &str) {
        self.sign(&format!("--outboard m.trees {flags}")).expect(0, "Signing succeeded", flags);
    }

    fn locate(&self, flags: &str) -> Run {
        let line = format!("locate key m --public-key key.pub --signature m.sig --outboard m.trees {flags}");
        seal(self.path(), &line)
    }

    /// What is located in each file, by its name.
    fn located(&self, flags: &str) -> Vec<Value> {
        let json = self.locate(&format!("--json {flags}"));
        assert_eq!(json.code, Some(1), "{json:#?}");
        let json = json.json();
        assert_eq!((&json["command"], &json["error"]["kind"]), (&json!("locate"), &json!("differs")));
        json["located"].as_array().cloned().unwrap_or_default()
    }

    /// The one file in which something is located.
    fn one(&self, flags: &str) -> Value {
        let located = self.located(flags);
        assert_eq!(located.len(), 1, "{located:#?}");
        located[0].clone()
    }

    /// The outboard refused, with a reason; nothing is said of the model.
    fn refused(&self, words: &str) {
        let run = self.locate("--json");
        run.expect(3, words, "an outboard that cannot be used");
        let json = run.json();
        assert_eq!((&json["verdict"], &json["error"]["kind"]), (&json!("none"), &json!("outboard")));
        assert_eq!((&json["located"], &json["differences"]), (&Value::Null, &Value::Null));
    }

    fn outboard(&self) -> Vec<u8> {
        fs::read(self.path().join("m.trees")).unwrap()
    }
}

/// 300 tensors in three files, each of some groups.
fn large() -> Place {
    let mut place = Place::new();
    for file in 0..3 {
        let tensors: Vec<_> =
            (0..100).map(|i| (format!("layers.{}.weight", file * 100 + i), vec![90 + i % 7 * 10, 512])).collect();
        place.tensors(&format!("model-{file}.safetensors"), &tensors);
    }
    place
}

fn places(located: &Value) -> Vec<(u64, u64)> {
    let places = located["places"].as_array().unwrap().iter();
    places.map(|place| (place["start"].as_u64().unwrap(), place["end"].as_u64().unwrap())).collect()
}

fn names(located: &Value) -> Vec<&str> {
    located["tensors"].as_array().unwrap().iter().map(|tensor| tensor["name"].as_str().unwrap()).collect()
}

/// Must show 3.
#[test]
fn of_300_tensors_the_5_with_a_flipped_bit_are_named_with_their_rows_and_nothing_else() {
    for flags in ["", "--shards 3MiB", "--hash blake3", "--outboard-group 4KiB"] {
        let place = large();
        assert_eq!(place.tensors.len(), 300);
        place.signed(flags);
        place.locate("").expect(0, "Verification succeeded", flags);
        let group = if flags.contains("4KiB") { 4096 } else { GROUP };
        let shard = if flags.contains("shards") { 3 << 20 } else { u64::MAX };
        // The first tensor, right behind the header; the last byte of a file; others where a group lies in them alone.
        let mut flips = Vec::new();
        for (index, of) in [(0, 1030), (57, 0), (199, u64::MAX), (210, 0), (283, 0)] {
            let tensor = &place.tensors[index];
            let at = match of {
                u64::MAX => tensor.at + tensor.len - 1,
                0 => {
                    let begin = (tensor.at..).find(|at| at % shard % group == 0).unwrap();
                    assert!(begin + group <= tensor.at + tensor.len);
                    begin + group / 3 + index as u64
                }
                of => tensor.at + of,
            };
            flip(place.file(&tensor.file), at as usize);
            flips.push((tensor.clone(), at));
        }
        let located = place.located("");
        let found: Vec<&Value> = located.iter().flat_map(|file| file["tensors"].as_array().unwrap()).collect();
        assert_eq!(found.len(), 5, "{flags}: {found:#?}");
        for ((tensor, at), found) in flips.iter().zip(&found) {
            assert_eq!((&found["name"], &found["certain"]), (&json!(tensor.name), &json!(true)), "{flags}");
            let [part] = &found["parts"].as_array().unwrap()[..] else { panic!("{found:#?}") };
            let number = |value: &Value| value.as_u64().unwrap();
            let (start, end) = (number(&part["start"]), number(&part["end"]));
            let rows = number(&part["rows"][0])..number(&part["rows"][1]);
            let byte = at - tensor.at;
            assert!(start <= byte && byte < end && end - start <= group, "{flags}: {found:#?}");
            assert!(rows.contains(&(byte / tensor.row())), "{flags}: {found:#?}");
            // As many rows as these bytes touch, and no more.
            assert_eq!(rows, start / tensor.row()..end.div_ceil(tensor.row()), "{flags}");
            assert!(rows.end - rows.start <= group / tensor.row() + 2, "{flags}");
        }
        // The text says the same.
        let text = place.locate("");
        for (tensor, _) in &flips {
            text.expect(1, &tensor.name, flags);
        }
        assert_eq!(text.stderr.matches("layers.").count(), 5, "{flags}: {}", text.stderr);
    }
}

#[test]
fn a_group_over_two_tensors_names_both_and_says_that_it_is_one_of_them() {
    let place = large();
    place.signed("");
    let at = place.tensors[130].at;
    assert!(!at.is_multiple_of(GROUP));
    flip(place.file("model-1.safetensors"), at as usize);
    let file = place.one("");
    assert_eq!(names(&file), ["layers.129.weight", "layers.130.weight"]);
    assert_eq!((&file["tensors"][0]["certain"], &file["tensors"][1]["certain"]), (&json!(false), &json!(false)));
    assert_eq!(file["places"][0]["touches"].as_array().unwrap().len(), 2);
    place.locate("").expect(1, "one of layers.129.weight", "");
    // Narrower groups tell them apart.
    let other = large();
    other.signed("--outboard-group 1KiB");
    assert!(!at.is_multiple_of(1024), "the chunk over both holds the end of the one before");
    flip(other.file("model-1.safetensors"), at as usize + 1024);
    assert_eq!(names(&other.one("")), ["layers.130.weight"]);
}

#[test]
fn a_changed_header_is_said_to_differ_and_names_no_tensors() {
    let place = large();
    place.signed("");
    let path = place.file("model-0.safetensors");
    let good = fs::read(&path).unwrap();
    // A digit of a shape: the header stays well-formed, and would name other tensors.
    let text = String::from_utf8_lossy(&good[..9000]).into_owned();
    let at = text.find("[90,512]").unwrap() + 1;
    flip(&path, at);
    flip(&path, 2_000_000);
    for flags in ["", "--digest blake3", "--all-digests"] {
        let file = place.one(flags);
        assert_eq!((&file["header"], names(&file).len()), (&json!("differs"), 0), "{file:#?}");
        let chunk = at as u64 / 1024 * 1024;
        assert_eq!(places(&file), [(chunk, chunk + 1024), (1_966_080, 2_031_616)], "the header to a chunk");
    }
    place.locate("").expect(1, "the header is not as signed", "");
    // The length of the header; a header that is no header any more.
    for (at, byte) in [(0, 1), (7, 0xFF), (8, b'x')] {
        let mut bad = good.clone();
        bad[at] ^= byte;
        write(&path, &bad);
        let file = place.one("");
        assert_eq!((&file["header"], places(&file)), (&json!("differs"), vec![(0, 1024)]), "byte {at}");
    }
    // A file that never was what its name says.
    write(&path, vec![7; 200_000]);
    place.signed("");
    flip(&path, 150_000);
    let file = place.one("");
    assert_eq!((&file["header"], places(&file)), (&json!("unreadable"), vec![(131_072, 196_608)]));
}

#[test]
fn flips_at_edges_are_found_where_they_are() {
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512]), ("b".to_owned(), vec![7])]);
    write(place.file("plain.bin"), vec![1; 3 * GROUP as usize + 100]);
    write(place.file("chunk"), vec![2; 1024]);
    write(place.file("two"), vec![3; 1025]);
    place.signed("");
    let end = 3 * GROUP;
    for (file, bytes, expected) in [
        // First and last byte; the short last group.
        ("plain.bin", vec![0], vec![(0, GROUP)]),
        ("plain.bin", vec![end as usize + 99], vec![(end, end + 100)]),
        // Two in one group, neighbours, and groups with one between them.
        ("plain.bin", vec![5, 60_000], vec![(0, GROUP)]),
        ("plain.bin", vec![65_535, 65_536], vec![(0, 2 * GROUP)]),
        ("plain.bin", vec![1, 140_000], vec![(0, GROUP), (2 * GROUP, end)]),
        // A chunk is known as a whole only; of one byte more, the first chunk apart.
        ("chunk", vec![1000], vec![(0, 1024)]),
        ("config.json", vec![2], vec![(0, 20)]),
        ("two", vec![0], vec![(0, 1024)]),
        ("two", vec![1024], vec![(1024, 1025)]),
    ] {
        let good = fs::read(place.file(file)).unwrap();
        bytes.iter().for_each(|at| flip(place.file(file), *at));
        let located = place.one("");
        assert_eq!((&located["file"], places(&located)), (&json!(file), expected), "{file} {bytes:?}");
        assert_eq!((&located["header"], &located["compared"]), (&json!("none"), &located["signed_size"]));
        write(place.file(file), good);
    }
    // The last tensor has no group of its own.
    let last = place.tensors[1].clone();
    flip(place.file("w.safetensors"), (last.at + 3) as usize);
    let located = place.one("");
    assert_eq!(names(&located), ["a", "b"]);
    assert_eq!(located["tensors"][1]["parts"], json!([{"start": 0, "end": 14, "rows": [0, 7]}]));
}

#[test]
fn of_a_file_of_another_length_the_beginning_is_compared() {
    for flags in ["", "--shards 128KiB"] {
        let mut place = Place::new();
        place.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512]), ("b".to_owned(), vec![100, 512])]);
        place.signed(flags);
        let path = place.file("w.safetensors");
        let good = fs::read(&path).unwrap();
        let len = good.len() as u64;
        // Longer: all that was signed is there.
        write(&path, [&good[..], b"more"].concat());
        let file = place.one("");
        assert_eq!((places(&file), &file["compared"], &file["found_size"]), (vec![], &json!(len), &json!(len + 4)));
        place.locate("").expect(1, &format!("bytes {len}..{} follow what was signed", len + 4), flags);
        // Shorter, and other before that: the group in which it ends is not compared.
        let cut = 300_000;
        write(&path, &good[..cut]);
        flip(&path, 200_000);
        let file = place.one("");
        assert_eq!(file["compared"], json!(4 * GROUP), "{flags}");
        assert_eq!((places(&file), names(&file)), (vec![(3 * GROUP, 4 * GROUP)], vec!["a"]), "{flags}");
        assert_eq!(file["header"], "as-signed");
        place.locate("").expect(1, "could not be compared: the file ends at 300000", flags);
        // Bytes put in at the front: nothing is where it was.
        write(&path, [b"8 bytes!", &good[..]].concat());
        let file = place.one("");
        assert_eq!((&file["header"], names(&file).len()), (&json!("differs"), 0));
        write(&path, "");
        let file = place.one("");
        assert_eq!((&file["compared"], places(&file)), (&json!(0), vec![]), "{flags}");
    }
}

#[test]
fn an_outboard_that_does_not_prove_itself_says_nothing() {
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512])]);
    place.signed("");
    let good = place.outboard();
    flip(place.file("w.safetensors"), 300_000);
    assert_eq!(names(&place.one("")), ["a"]);
    let put = |bytes: &[u8]| write(place.path().join("m.trees"), bytes);
    // A value of a group, of a chunk of the header; the root with it; the length.
    let entry = 32 + 4 + "config.json".len() + 48 + 4 + "w.safetensors".len();
    let (len, root, values) = (entry, entry + 8, entry + 48);
    for (at, words) in [
        (good.len() - 1, "do not make the root"),
        (values, "do not make the root"),
        (root, "do not make the root"),
        (len, "and signed were"),
        (len + 3, "it ends at byte"),
        (0, "it is no outboard"),
        (16, "it is of version"),
        (21, "the groups are too large"),
        (24, "it ends at byte"),
    ] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        put(&bad);
        place.refused(words);
    }
    put(&good[..good.len() - 32]);
    place.refused("it ends at byte");
    put(&[&good[..], b"x"].concat());
    place.refused("1 bytes follow");
    put(b"");
    place.refused("it is no outboard");
    // Another model's: other bytes under the same names, other names, one file less, one more.
    for (act, words) in [
        ("other", "it is about other bytes than were signed as \"w.safetensors\""),
        ("rename", "which is not signed"),
        ("less", "it lacks \"w.safetensors\", which is signed"),
        ("more", "it is about \"a-new\", which is not signed"),
    ] {
        let mut other = Place::new();
        match act {
            "less" => {}
            "rename" => other.tensors("v.safetensors", &[("a".to_owned(), vec![400, 512])]),
            _ => other.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512])]),
        }
        match act {
            "other" => flip(other.file("w.safetensors"), 300_000),
            "more" => write(other.file("a-new"), "new"),
            _ => {}
        }
        other.signed("");
        put(&other.outboard());
        place.refused(words);
    }
    // It changes no verdict: the good model is refused with the bad outboard, too, and found good without.
    flip(place.file("w.safetensors"), 300_000);
    place.refused("which is not signed");
    seal(place.path(), "verify key m --public-key key.pub --signature m.sig").expect(0, "Verification succeeded", "");
    fs::remove_file(place.path().join("m.trees")).unwrap();
    let run = place.locate("--json");
    run.expect(3, "cannot read outboard", "");
}

#[test]
fn an_outboard_is_written_where_it_does_no_harm_or_not_at_all() {
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512])]);
    let before = || fs::read_dir(place.path()).unwrap().count();
    let count = before();
    place.sign("--outboard m/m.trees").expect(3, "would be a file of the model", "inside");
    place.sign("--outboard key.pub").expect(3, "is not an outboard, so it is not replaced", "another file");
    place.sign("--outboard m.trees --no-annotations").expect(2, "cannot be used with", "nothing to prove it");
    place.sign("--outboard m.trees --outboard-group 96KiB").expect(2, "power of two", "");
    place.sign("--outboard-group 64KiB").expect(2, "--outboard", "");
    place.sign("--outboard none/m.trees").expect(3, "there is no folder", "");
    // In place of the signature, or of the tensor manifest, however their paths are spelled.
    for flags in ["--outboard m.sig", "--outboard m/../m.sig", "--outboard t --tensors-out m/../t"] {
        place.sign(flags).expect(3, "goes, too: give the outboard another path", flags);
    }
    assert_eq!(before(), count, "nothing was written");
    // An older one is replaced, and so is one in the model under an ignored path.
    place.signed("--outboard-group 1MiB");
    place.signed("");
    place.locate("").expect(0, "Verification succeeded", "");
    write(place.path().join("m/kept/x"), "");
    place.sign("--outboard m/kept/m.trees --ignore-paths m/kept").expect(0, "in groups of 64 KiB", "");
    let json = place.sign("--outboard m.trees --json").json();
    assert_eq!(json["outboard"], json!({"file": "m.trees", "group_size": 65536}));
    // A signature without what proves a tree.
    fs::remove_dir_all(place.path().join("m/kept")).unwrap();
    place.sign("--no-annotations").expect(0, "", "");
    place.refused("no BLAKE3 digest and length");
    place.sign("--hash blake3").expect(0, "", "");
    place.refused("no BLAKE3 digest and length");
}

#[test]
fn all_that_verify_takes_locate_takes() {
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![400, 512])]);
    place.signed("");
    let here = place.path().canonicalize().unwrap();
    let rule = format!("[[rule]]\npath = \"{}\"\nany_of = [\"team\"]\n", here.join("m").display());
    write(place.path().join("policy.toml"), format!("version = 1\n[signers.team]\nkey = \"key.pub\"\n{rule}"));
    let by_policy = "locate m --policy policy.toml --signature m.sig --outboard m.trees";
    seal(place.path(), by_policy).expect(0, "Verification succeeded", "a policy");
    seal(place.path(), "locate key m --public-key key.pub --signature m.sig").expect(2, "--outboard", "");
    flip(place.file("w.safetensors"), 300_000);
    for command in ["locate key", "verify key"] {
        let line = format!("{command} m --public-key key.pub --signature m.sig --outboard m.trees");
        seal(place.path(), &line).expect(1, "a 255..320 of 400", command);
    }
    seal(place.path(), by_policy).expect(1, "a 255..320 of 400", "a policy");
    seal(place.path(), "verify key m --public-key key.pub --signature m.sig").expect(1, "--outboard says", "a hint");
    // A model of one file has a name that says nothing; a link leads to a file without one.
    let one = place.path().join("one.safetensors");
    fs::copy(place.file("w.safetensors"), &one).unwrap();
    seal(place.path(), "sign key one.safetensors --private-key key.pem --signature 1.sig --outboard 1.trees")
        .expect(0, "", "");
    flip(&one, 300_000);
    seal(place.path(), "locate key one.safetensors --public-key key.pub --signature 1.sig --outboard 1.trees").expect(
        1,
        "a 255..320 of 400",
        "",
    );
    fs::rename(place.file("w.safetensors"), place.path().join("blob")).unwrap();
    std::os::unix::fs::symlink("../blob", place.file("w.safetensors")).unwrap();
    place.signed("--allow-external-symlinks");
    flip(place.path().join("blob"), 300_000);
    place.locate("--allow-external-symlinks").expect(1, "a 255..320 of 400", "");
}

/// The driver of `tests/fakecuda` in the place of a GPU: the same groups, from the device.
#[cfg(feature = "cuda")]
#[test]
fn a_device_finds_the_same_places() {
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![9, 512]), ("b".to_owned(), vec![8, 512])]);
    let driver = common::fakecuda::driver_dir();
    let envs = [
        ("LD_LIBRARY_PATH", driver.to_str().unwrap()),
        ("TENSORSEAL_CUDA_POLICY", "plain"),
        ("XDG_CACHE_HOME", "/dev/null/none"),
    ];
    let run = |line: &str| common::tensorseal_in(place.path(), &line.split_whitespace().collect::<Vec<_>>(), &envs);
    let signed = "sign key m --private-key key.pem --signature m.sig --outboard m.trees --outboard-group 2KiB";
    run(&format!("{signed} --device cuda")).expect(0, "on cuda:0", "sign");
    let by_device = place.outboard();
    place.signed("--outboard-group 2KiB");
    assert_eq!(by_device, place.outboard());
    flip(place.file("w.safetensors"), 15_000);
    let locate = "locate key m --public-key key.pub --signature m.sig --outboard m.trees --json";
    let there = run(&format!("{locate} --device cuda --digest blake3"));
    there.expect(1, "", "locate");
    assert_eq!(there.json()["located"], json!([place.one("")]));
    assert_eq!(there.json()["checked"], json!([{"algorithm": "blake3", "device": "cuda:0"}]));
}

#[test]
fn another_program_reads_an_outboard_and_finds_its_values() {
    let Some(python) = python() else { return };
    let mut place = Place::new();
    place.tensors("w.safetensors", &[("a".to_owned(), vec![150, 512])]);
    for len in [0, 1, 1024, 1025, 65_536, 65_537, 150_001] {
        write(place.file(&format!("f{len}")), vec![9; len]);
    }
    for (flags, expected) in [
        ("", "f150001 3 0\nf65536 2 0\nf65537 2 0\nw.safetensors 3 1"),
        ("--outboard-group 4KiB", "f150001 37 0\nf65536 16 0\nf65537 17 0\nw.safetensors 38 1"),
        ("--outboard-group 1KiB", "f150001 147 0\nf65536 64 0\nf65537 65 0\nw.safetensors 151 0"),
    ] {
        place.signed(flags);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/outboard.py");
        let run = common::program(place.path(), &python, &[script.as_os_str(), "m.trees".as_ref(), "m".as_ref()]);
        let long: Vec<&str> = run.stdout.lines().filter(|line| line.len() > 9).collect();
        assert_eq!(long.join("\n"), format!("config.json 0 0\n{expected}"), "{flags}");
    }
}
