//! A header takes memory in proportion to its length, whatever it says.

use tensorseal::format::{Format, Header, Index};
use tensorseal::manifest::ResourceName;
use tensorseal::tensors::FileTiles;

use crate::build::{Gguf, array, json, safetensors, text};
use crate::counting::most;

/// So many bytes for each byte of the header, and so many for any.
const FACTOR: u64 = 16;
const BASE: u64 = 4096;

#[track_caller]
fn bounded(what: &str, len: usize, taken: u64) {
    assert!(
        taken <= FACTOR * len as u64 + BASE,
        "{what}: {taken} bytes for {len} ({:.1} for one)",
        taken as f64 / len as f64
    );
}

#[test]
fn the_counter_counts() {
    let (vec, taken) = most(|| vec![1_u8; 1 << 20]);
    assert_eq!((vec.len(), taken), (1 << 20, 1 << 20));
    let (_, taken) = most(|| (0..1000).map(|i| vec![0_u8; i]).map(|vec| vec.len()).max());
    assert!((999..10_000).contains(&taken), "what was given back is not held: {taken}");
}

#[test]
fn the_shortest_ways_to_say_the_most_take_a_small_multiple() {
    const MANY: usize = 50_000;
    let join = |one: &dyn Fn(usize) -> String, end: &str| (0..MANY).map(one).collect::<Vec<_>>().join(",") + end;
    let tiny = |i: usize| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let flat = |i: usize| {
        let shape = ["0"; 64].join(",");
        format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}")
    };
    let escaped = |i: usize| tiny(i).replacen('"', "\"\\n", 1);
    let texts = join(&|i| format!("\"{i:x}\":\"\""), "}");
    let files = [
        ("tensors", format!("{{{}", join(&tiny, "}"))),
        ("tensors with dimensions", format!("{{{}", join(&flat, "}"))),
        ("tensors with escaped names", format!("{{{}", join(&escaped, "}"))),
        ("metadata", format!("{{\"__metadata__\":{{{texts}}}")),
        ("metadata that ends badly", format!("{{\"__metadata__\":{{{texts}")),
        ("one tensor twice", format!("{{{},{}", tiny(0), join(&tiny, "}"))),
        ("a long name", json(&[(&"x".repeat(1 << 20), "U8", "", 0, 1)])),
        ("a long type", json(&[("x", &"x".repeat(1 << 20), "", 0, 1)])),
        ("a long shape", json(&[("x", "U8", &["1"; 1 << 19].join(","), 0, 1)])),
        ("an unknown member", format!("{{\"a\":{{\"{}\":1}}}}", "x".repeat(1 << 20))),
        ("blanks", format!("{{}}{}", " ".repeat(1 << 20))),
    ];
    for (what, header) in files {
        let file = safetensors(&header, 0);
        let (_, taken) = most(|| Header::of_bytes(Format::Safetensors, &file, file.len() as u64));
        bounded(what, file.len(), taken);
    }

    let (mut pairs, mut strings, mut tensors) = (Gguf::default(), Gguf::default(), Gguf::default());
    for i in 0..MANY {
        let name = format!("{i:x}");
        pairs = pairs.pair(&name, 6, 1e-30_f32.to_le_bytes());
        strings = strings.pair(&name, 8, text(""));
        tensors = tensors.tensor(&name, &[0; 4], 24, 0);
    }
    let mut bare = tensors.clone();
    bare.tensors.iter_mut().for_each(|(_, dimensions, ..)| dimensions.clear());
    let huge =
        |kind: u32| Gguf::default().pair("a", 9, [&kind.to_le_bytes()[..], &(1_u64 << 61).to_le_bytes()].concat());
    let nothing = vec![array(9, &[]); MANY];
    for (what, of) in [
        ("pairs", pairs),
        ("strings", strings),
        ("tensors of four dimensions", tensors),
        ("tensors without dimensions", bare),
        ("arrays", Gguf::default().pair("a", 9, array(9, &nothing))),
        ("a huge count of tensors", Gguf { tensor_count: Some(u64::MAX), ..Gguf::default() }),
        ("a huge count of pairs", Gguf { pair_count: Some(u64::MAX / 20), ..Gguf::default() }),
        ("a huge array", huge(0)),
        ("an array beyond all files", huge(12)),
        ("a huge array of strings", huge(8)),
        ("a huge array of arrays", huge(9)),
        ("a huge string", Gguf::default().pair("a", 8, (1_u64 << 40).to_le_bytes())),
    ] {
        // Of a file that could be as long as it says.
        for len in [of.header().len() as u64, u64::MAX] {
            let head = of.header();
            let (_, taken) = most(|| Header::of_bytes(Format::Gguf, &head, len));
            bounded(what, head.len(), taken);
        }
    }

    for (what, text) in [
        ("an index", format!("{{\"weight_map\":{{{}}}", join(&|i| format!("\"{i:x}\":\"a\""), "}"))),
        ("an index of other things", format!("{{\"weight_map\":{{}},\"x\":[{}", join(&|_| "{}".into(), "]}"))),
    ] {
        let (index, taken) = most(|| Index::parse(text.as_bytes()));
        assert!(index.is_ok(), "{what}");
        bounded(what, text.len(), taken);
    }
}

/// Reading in parts asks for no more than a few times the header.
#[test]
fn what_is_read_is_in_proportion_too() {
    let of = Gguf::default().pair("a", 9, array(8, &vec![text("token"); 100_000])).tensor("t", &[1 << 20], 24, 0);
    let header = of.header();
    let mut read = 0;
    let (found, taken) = most(|| {
        Header::read(Format::Gguf, (header.len() as u64).next_multiple_of(32) + (1 << 20), &mut |range| {
            read += range.end - range.start;
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let there = &header[header.len().min(range.start as usize)..header.len().min(range.end as usize)];
            bytes[..there.len()].copy_from_slice(there);
            Ok::<_, tensorseal::format::HeaderFault>(bytes)
        })
    });
    assert_eq!(found.unwrap().tensors.len(), 1);
    assert!(read <= 2 * header.len() as u64 + (128 << 10), "{read} of {}", header.len());
    bounded("in parts", header.len(), taken);
}

/// A signer keeps what came of every file until the last one is read: of a tensor that is done, digests are left.
#[test]
fn tiles_that_are_done_take_the_memory_of_their_digests() {
    const FILES: usize = 20;
    let file = safetensors(&json(&[("experts", "U8", "3,8,8,8", 0, 1536)]), 1536);
    let (tiles, taken) = most(|| {
        let name = |i: usize| ResourceName::parse(&format!("{i}.safetensors")).unwrap();
        let mut all: Vec<_> =
            (0..FILES).map(|i| FileTiles::new(name(i), Format::Safetensors, file.len() as u64)).collect();
        all.iter_mut().for_each(|tiles| tiles.update(&file).unwrap());
        all
    });
    // 512 tiles are open at once in each, one file after the other.
    assert!(taken < (FILES as u64 + 1) * 512 * 64 + (2 << 20), "{taken}");
    for tiles in tiles {
        assert_eq!(tiles.finish().unwrap().tensors()[0].tiles().len(), 512);
    }
}
