//! What Python's safetensors and gguf write is read here alike, and where their readers and ours differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tensorseal::format::{Format, Header, HeaderFault, survey};

use crate::build::{Gguf, array, json as header_of, safetensors, text};
use crate::common::{Random, program, python, workplace, write};
use crate::read;

/// The tensors of a header as tests/python/formats.py tells them.
fn told(header: &Header, file: &[u8]) -> Value {
    let one = |of: &tensorseal::format::Tensor| {
        let bytes = &file[of.range.start as usize..of.range.end as usize];
        (of.name.clone(), json!([of.dtype.name(), of.shape, blake3::hash(bytes).to_hex().as_str()]))
    };
    header.tensors.iter().map(one).collect::<serde_json::Map<_, _>>().into()
}

fn ask(python: &Path, folder: &Path, args: [&str; 2]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/formats.py");
    let run = program(folder, python, &[script, args[0], args[1]]);
    assert_eq!(run.stderr, "");
    run.json()
}

/// What Python says of each file: its tensors, or a string.
fn python_reads(python: &Path, files: &[(Format, Vec<u8>)]) -> Vec<Value> {
    let folder = workplace();
    let mut records = Vec::new();
    for (format, file) in files {
        records.push(if *format == Format::Gguf { b'g' } else { b's' });
        records.extend((file.len() as u64).to_le_bytes());
        records.extend(file);
    }
    write(folder.path().join("records"), records);
    let told = ask(python, folder.path(), ["read", "records"]);
    assert_eq!(told.as_array().unwrap().len(), files.len());
    told.as_array().unwrap().clone()
}

#[test]
fn what_pythons_writers_write_is_read_alike() {
    let Some(python) = python() else { return };
    let folder = workplace();
    let described = ask(&python, folder.path(), ["write", "."]);
    let described = described.as_object().unwrap();
    let mut kinds = std::collections::HashSet::new();
    for (name, tensors) in described {
        let file = fs::read(folder.path().join(name)).unwrap();
        let header = read(Format::of_name(name).unwrap(), &file).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(&told(&header, &file), tensors, "{name}");
        kinds.extend(header.tensors.iter().map(|tensor| (header.format, tensor.dtype.name())));
        match header.format {
            Format::Safetensors => assert_eq!(header.metadata["ü\n"], "\"\\"),
            _ if name.contains("00003-of") => assert_eq!(header.metadata["split.no"], "2"),
            _ if name.contains("00002-of") => assert_eq!(header.metadata["split.no"], "1"),
            _ => assert_eq!((&*header.metadata["general.name"], &*header.metadata["of.BOOL"]), ("ünï", "true")),
        }
    }
    let of = |format| kinds.iter().filter(|(of, _)| *of == format).count();
    assert_eq!(of(Format::Gguf), 34, "all types of GGUF");
    assert_eq!(of(Format::Safetensors), 20, "all that safetensors writes from Python: it has no F6");
    assert_eq!(described.len(), 6, "three of them parts of one model");
    let found = survey(described.keys().map(|name| (name.as_str(), folder.path().canonicalize().unwrap().join(name))));
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    assert!(found.headers.values().all(Result::is_ok));
}

/// Each with whether we read it and whether Python's reader does; docs/formats.md lists those where that differs.
#[test]
fn where_the_readers_differ() {
    let Some(python) = python() else { return };
    let a = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let tensor = |name: &str, dtype: &str, shape: &str, begin, end| header_of(&[(name, dtype, shape, begin, end)]);
    let deep = |inner: &str| format!(r#"{{"a":{a},"b":{inner}}}"#);
    let f6 =
        |kind: &str, count: u64| (tensor("a", kind, &count.to_string(), 0, count / 4 * 3), (count / 4 * 3) as usize);
    let (six, seven) = (f6("F6_E2M3", 4), f6("F6_E3M2", 8));
    let all: Vec<(&str, String, usize, bool, bool)> = vec![
        ("plain", format!(r#"{{"a":{a}}}"#), 1, true, true),
        ("no tensors", "{}".into(), 0, true, true),
        ("blanks behind", format!("{{\"a\":{a}}} \n\t "), 1, true, true),
        ("F6_E2M3", six.0, six.1, true, true),
        ("F6_E3M2", seven.0, seven.1, true, true),
        ("F4 of an odd last dimension", tensor("a", "F4", "2,3", 0, 3), 3, true, true),
        ("F4 that ends in half a byte", tensor("a", "F4", "3", 0, 2), 2, false, false),
        ("an empty name", tensor("", "U8", "1", 0, 1), 1, true, true),
        ("a tensor of nothing", tensor("a", "U8", "3,0", 0, 0), 0, true, true),
        ("64 dimensions", tensor("a", "U8", &["1"; 64].join(","), 0, 1), 1, true, true),
        ("a hole", tensor("a", "U8", "1", 1, 2), 2, false, false),
        ("too long", format!(r#"{{"a":{a}}}"#), 2, false, false),
        ("too short", format!(r#"{{"a":{a}}}"#), 0, false, false),
        ("an overlap", header_of(&[("a", "U8", "2", 0, 2), ("b", "U8", "2", 1, 3)]), 3, false, false),
        ("an unknown type", tensor("a", "U7", "1", 0, 1), 1, false, false),
        ("an overflow before a 0", tensor("a", "U8", "9223372036854775808,2,0", 0, 0), 0, false, false),
        ("metadata of numbers", format!(r#"{{"a":{a},"__metadata__":{{"k":1}}}}"#), 1, false, false),
        ("metadata twice", format!(r#"{{"a":{a},"__metadata__":{{}},"__metadata__":{{}}}}"#), 1, false, false),
        (
            "a member twice",
            r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.into(),
            1,
            false,
            false,
        ),
        ("an array", "[]".into(), 0, false, false),
        ("deep nesting", deep(&"[".repeat(200)), 1, false, false),
        // Python's reader takes these.
        ("blanks before", format!(" {{\"a\":{a}}}"), 1, false, true),
        ("a tensor twice", format!(r#"{{"a":{a},"a":{a}}}"#), 1, false, true),
        ("metadata with a key twice", format!(r#"{{"a":{a},"__metadata__":{{"k":"1","k":"2"}}}}"#), 1, false, true),
        ("metadata that is null", format!(r#"{{"a":{a},"__metadata__":null}}"#), 1, false, true),
        ("an unknown member", r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{}}}"#.into(), 1, false, true),
        ("a tensor as an array", r#"{"a":["U8",[1],[0,1]]}"#.into(), 1, false, true),
        (
            "a type as an object",
            r#"{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}"#.into(),
            1,
            false,
            true,
        ),
        ("65 dimensions", tensor("a", "U8", &["1"; 65].join(","), 0, 1), 1, false, true),
    ];
    let files: Vec<_> = all.iter().map(|(_, text, data, ..)| (Format::Safetensors, safetensors(text, *data))).collect();
    for ((what, .., ours, theirs), (said, (format, file))) in
        all.iter().zip(python_reads(&python, &files).iter().zip(&files))
    {
        let header = read(*format, file);
        assert_eq!((header.is_ok(), said.is_object()), (*ours, *theirs), "{what}: {header:?}, {said}");
        if let Ok(header) = header {
            assert_eq!(&told(&header, file), said, "{what}");
        }
    }

    let plain = || Gguf::default().string("k", "v");
    let i8 = 24;
    let all: Vec<(&str, Vec<u8>, bool, bool)> = vec![
        ("plain", plain().tensor("a", &[3, 2], i8, 0).data(6).bytes(), true, true),
        (
            "no padding behind the last",
            plain().tensor("a", &[3], i8, 0).tensor("b", &[3], i8, 32).data(35).bytes(),
            true,
            true,
        ),
        ("not in order", plain().tensor("b", &[3], i8, 32).tensor("a", &[3], i8, 0).data(35).bytes(), true, true),
        (
            "arrays within arrays",
            plain().pair("a", 9, array(9, &[array(8, &[text("x")])])).tensor("a", &[1], i8, 0).data(1).bytes(),
            true,
            true,
        ),
        (
            "tokens that are not UTF-8",
            plain().pair("a", 9, array(8, &[text([0xff])])).tensor("a", &[1], i8, 0).data(1).bytes(),
            true,
            true,
        ),
        ("version 1", Gguf { version: 1, ..plain() }.bytes(), false, false),
        ("a key twice", plain().string("k", "v").bytes(), false, false),
        ("a tensor twice", plain().tensor("a", &[1], i8, 0).tensor("a", &[1], i8, 32).data(33).bytes(), false, false),
        ("a type given up", plain().tensor("a", &[32], 4, 0).data(20).bytes(), false, false),
        ("beyond the end", plain().tensor("a", &[64], i8, 0).data(33).bytes(), false, false),
        // Python's reader takes these; ggml's takes none of them.
        ("an overlap", plain().tensor("a", &[64], i8, 0).tensor("b", &[64], i8, 32).data(96).bytes(), false, true),
        ("a hole", plain().tensor("a", &[1], i8, 0).tensor("b", &[1], i8, 64).data(65).bytes(), false, true),
        ("not aligned", plain().tensor("a", &[4], i8, 0).tensor("b", &[1], i8, 4).data(5).bytes(), false, true),
        ("five dimensions", plain().tensor("a", &[1; 5], i8, 0).data(1).bytes(), false, true),
        // ggml's reader takes these, too.
        ("a name with a byte 0", plain().tensor("a\0", &[1], i8, 0).data(1).bytes(), false, true),
        ("a truth of 2", plain().pair("b", 7, [2]).tensor("a", &[1], i8, 0).data(1).bytes(), false, true),
        ("something behind", plain().tensor("a", &[1], i8, 0).data(100).bytes(), false, true),
    ];
    let files: Vec<_> = all.iter().map(|(_, file, ..)| (Format::Gguf, file.clone())).collect();
    for ((what, file, ours, theirs), said) in all.iter().zip(python_reads(&python, &files)) {
        let header = read(Format::Gguf, file);
        assert_eq!((header.is_ok(), said.is_object()), (*ours, *theirs), "{what}: {header:?}, {said}");
        if let Ok(header) = header {
            assert_eq!(told(&header, file), said, "{what}");
        }
    }
}

/// Whatever we read, they read alike; whatever they read and we do not has one of the reasons above.
#[test]
fn altered_files_are_read_alike_or_refused_for_a_known_reason() {
    let Some(python) = python() else { return };
    let mut random = Random(31);
    let header = header_of(&[("a.0", "BF16", "3,2", 0, 12), ("b", "F4", "2", 12, 13), ("c\\u0041", "U8", "", 13, 14)]);
    let safe = safetensors(&header.replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1), 14);
    let gguf = Gguf::default()
        .pair("tokens", 9, array(8, &[text("ab"), text("c")]))
        .pair("truth", 7, [1])
        .tensor("a", &[32, 2], 2, 0)
        .tensor("b", &[3], 0, 64)
        .data(76)
        .bytes();
    let mut files = Vec::new();
    for (format, file, rounds) in [(Format::Safetensors, &safe, 12), (Format::Gguf, &gguf, 4)] {
        for at in 0..file.len() {
            for round in 0..rounds {
                let mut altered = file.clone();
                // A bit, a likely character, any value, a byte more or less.
                match round % 4 {
                    0 => altered[at] ^= 1 << random.below(8),
                    1 => altered[at] = b"0123456789,:\"{}[] \\"[random.below(19)],
                    2 => altered[at] = random.below(256) as u8,
                    _ => {
                        altered.remove(at);
                        if format == Format::Safetensors && random.below(2) == 0 && at >= 8 {
                            altered[0] = altered[0].wrapping_sub(1);
                        }
                    }
                }
                files.push((format, altered));
            }
        }
    }
    let (mut both, mut reasons) = (0, BTreeMap::<_, usize>::new());
    for ((format, file), said) in files.iter().zip(python_reads(&python, &files)) {
        match read(*format, file) {
            Ok(header) => {
                assert_eq!(told(&header, file), said, "{format:?} {}", String::from_utf8_lossy(file));
                both += 1;
            }
            Err(fault) if said.is_object() => {
                let known = match (format, &fault) {
                    (Format::Safetensors, HeaderFault::Json { why }) => [
                        "unknown field",
                        "stands twice",
                        "expected a map",
                        "expected an object",
                        "expected an array of at most",
                    ]
                    .iter()
                    .any(|words| why.contains(words)),
                    (Format::Safetensors, fault) => {
                        matches!(fault, HeaderFault::NoObject | HeaderFault::DoubleName { .. })
                    }
                    // Python's reader checks little of GGUF.
                    _ => true,
                };
                assert!(known, "{format:?}: {fault}, and Python reads {said} of {}", String::from_utf8_lossy(file));
                *reasons.entry(format!("{format:?}")).or_default() += 1;
            }
            Err(_) => {}
        }
    }
    assert!(both > 100, "{both} read by both, read by them alone: {reasons:?}");
}
