use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;

use super::kept::Kept;
use super::place::{Map, places};
use super::*;
use crate::digest::{Algorithm, Digest};
use crate::format::{Dtype, Format, Header, Tensor};
use crate::manifest::{Manifest, Method, Resource, ResourceName, Serialization, ShardNaming};
use crate::tree::{Tree, group_value};

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// The tree of a string, by the `blake3` crate.
fn kept(name: &str, bytes: &[u8], group: GroupSize, fine: u64) -> Kept {
    let tree = Tree::new(bytes.len() as u64, group);
    let mut values = Vec::new();
    for index in 0..tree.groups() {
        let range = tree.range(index);
        let part = &bytes[range.start as usize..range.end as usize];
        if index < fine {
            values.extend(
                part.chunks(1024).enumerate().map(|(i, chunk)| group_value(range.start + i as u64 * 1024, chunk)),
            );
        } else {
            values.push(group_value(range.start, part));
        }
    }
    let root = Digest::of32(Algorithm::Blake3, *blake3::hash(bytes).as_bytes());
    Kept::new(ResourceName::parse(name).unwrap(), root, tree, fine, values).unwrap()
}

fn sample() -> OutboardFile {
    let group = GroupSize::at_most(4096);
    let (a, b, c) = (text(3), text(5000), text(20_001));
    OutboardFile::new(group, vec![kept("a", &a, group, 0), kept("b", &b, group, 0), kept("c/d", &c, group, 2)])
}

/// The test vector of docs/locate.md.
#[test]
fn the_encoding_is_that_of_the_page() {
    let bytes = sample().to_bytes();
    assert_eq!(bytes.len(), 32 + (4 + 1 + 48) + (4 + 1 + 48 + 2 * 32) + (4 + 3 + 48 + (8 + 3) * 32));
    let page = include_str!("../../docs/locate.md");
    let (_, vector) = page.split_once("```text\n").unwrap();
    let hex: String = vector.split_once("```").unwrap().0.chars().filter(char::is_ascii_hexdigit).collect();
    let ours: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, ours);
    assert_eq!(OutboardFile::parse(&bytes), Ok(sample()));
}

#[test]
fn there_is_one_encoding_and_no_byte_of_it_is_without_a_check() {
    let good = sample().to_bytes();
    for end in 0..good.len() {
        assert!(OutboardFile::parse(&good[..end]).is_err(), "cut at {end}");
    }
    for at in 0..good.len() {
        for bit in [1, 128] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            // A name may be another, and a string with no values has another length or root: the signature tells.
            if let Ok(read) = OutboardFile::parse(&bad) {
                assert_ne!(read, sample(), "byte {at}");
                assert_eq!(read.to_bytes(), bad, "byte {at}");
                assert!(read.check(&signed(Method::Files)).is_err(), "byte {at}");
            }
        }
    }
    assert!(matches!(OutboardFile::parse(&[&good[..], &[0]].concat()), Err(OutboardFault::Trailing { left: 1, .. })));
}

/// A signature over what the sample is of.
fn signed(method: Method) -> Manifest {
    let serialization = Serialization {
        method,
        hash: Algorithm::Blake3,
        shard_naming: ShardNaming::Spec,
        allow_symlinks: false,
        ignore_paths: None,
    };
    let resource = |(name, len): (&str, usize)| {
        let digest = Digest::of32(Algorithm::Blake3, *blake3::hash(&text(len)).as_bytes());
        Resource {
            name: ResourceName::parse(name).unwrap(),
            digest,
            blake3: Some(digest),
            size: Some(len as u64),
            tensors: None,
        }
    };
    let resources = [("a", 3), ("b", 5000), ("c/d", 20_001)].map(resource).to_vec();
    Manifest::new("m".into(), serialization, resources).unwrap()
}

#[test]
fn only_what_was_signed_is_proven_and_only_with_its_length() {
    let good = signed(Method::Files);
    assert_eq!(sample().check(&good), Ok(()));
    let with = |act: &dyn Fn(&mut Vec<Resource>)| {
        let mut resources = good.resources().to_vec();
        act(&mut resources);
        let manifest = Manifest::new("m".into(), good.serialization().clone(), resources).unwrap();
        sample().check(&manifest).unwrap_err()
    };
    assert!(matches!(with(&|all| all[1].size = None), OutboardFault::Unprovable { name } if name == "b"));
    assert!(matches!(with(&|all| all[1].size = Some(5001)), OutboardFault::OtherLength { signed: 5001, .. }));
    assert!(matches!(with(&|all| all[1].digest = all[0].digest), OutboardFault::OtherRoot { name, .. } if name == "b"));
    assert!(matches!(with(&|all| drop(all.remove(1))), OutboardFault::NotSigned { name } if name == "b"));
    assert!(matches!(with(&|all| drop(all.pop())), OutboardFault::NotSigned { name } if name == "c/d"));
    let more = |name: &str| {
        let more = Resource { name: ResourceName::parse(name).unwrap(), ..good.resources()[0].clone() };
        with(&|all| all.push(more.clone()))
    };
    assert!(matches!(more("aa"), OutboardFault::Lacks { name } if name == "aa"));
    assert!(matches!(more("z"), OutboardFault::Lacks { name } if name == "z"));
}

/// Half as many values, each of twice the bytes, make the same root: the signed length tells that they are not groups.
#[test]
fn values_of_another_level_are_no_proof() {
    let group = GroupSize::at_most(1024);
    let bytes = text(8192);
    let upper: Vec<_> = bytes.chunks(2048).enumerate().map(|(i, part)| group_value(i as u64 * 2048, part)).collect();
    let name = ResourceName::parse("b").unwrap();
    let root = Digest::of32(Algorithm::Blake3, *blake3::hash(&bytes).as_bytes());
    let lie = Kept::new(name, root, Tree::new(4096, group), 0, upper).expect("they make the root");
    let resource =
        Resource { name: lie.name().clone(), digest: root, blake3: Some(root), size: Some(8192), tensors: None };
    let manifest = Manifest::new("m".into(), signed(Method::Files).serialization().clone(), vec![resource]).unwrap();
    let fault = OutboardFile::new(group, vec![lie]).check(&manifest).unwrap_err();
    assert!(matches!(fault, OutboardFault::OtherLength { signed: 8192, found: 4096, .. }));
}

#[test]
fn of_shards_the_name_is_the_length() {
    let shard = Method::Shards { size: NonZeroU64::new(4096).unwrap() };
    let group = GroupSize::at_most(1024);
    let bytes = text(5000);
    let (one, two) = (&bytes[..4096], &bytes[4096..]);
    let strings = [("w:0:4096", one), ("w:4096:5000", two)];
    let trees = strings.map(|(name, bytes)| kept(name, bytes, group, 0));
    let resources = trees.iter().map(|tree| Resource {
        name: tree.name().clone(),
        digest: tree.root(),
        blake3: None,
        size: None,
        tensors: None,
    });
    let serialization = Serialization { method: shard, ..signed(Method::Files).serialization().clone() };
    let manifest = Manifest::new("m".into(), serialization, resources.collect()).unwrap();
    assert_eq!(OutboardFile::new(group, trees.to_vec()).check(&manifest), Ok(()));
}

#[test]
fn hostile_numbers_take_no_memory() {
    let head = |log: u32, count: u64| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(log.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes
    };
    let entry = |len: u64, fine: u64, values: usize| {
        let mut bytes = head(6, 1);
        bytes.extend(1_u32.to_le_bytes());
        bytes.push(b'a');
        bytes.extend(len.to_le_bytes());
        bytes.extend([7; 32]);
        bytes.extend(fine.to_le_bytes());
        bytes.extend(vec![0; 32 * values]);
        bytes
    };
    let field = |bytes: &[u8]| assert!(matches!(OutboardFile::parse(bytes), Err(OutboardFault::Field { .. })));
    field(&head(11, 1));
    field(&head(u32::MAX, 1));
    field(&head(6, 0));
    field(&head(6, u64::MAX));
    for len in [u64::MAX, 1 << 54, 1 << 40] {
        let fault = OutboardFile::parse(&entry(len, 0, 1)).unwrap_err();
        assert!(matches!(fault, OutboardFault::Short { what: "values", .. }), "{fault}");
    }
    for (len, fine) in [(1 << 20, 17), (1 << 20, u64::MAX), (1024, 1), (0, 1), (1500, 1)] {
        field(&entry(len, fine, 1));
    }
    assert!(matches!(OutboardFile::parse(&entry(2048, 0, 2)), Err(OutboardFault::Values { .. })));
    // Fine groups of a file of chunks would be a second way to say the same.
    field(&entry(2048, 1, 2));
}

#[test]
fn units_are_chunks_where_chunks_were_kept() {
    let group = GroupSize::at_most(4096);
    let bytes = text(20_001);
    let kept = kept("w", &bytes, group, 2);
    let units: Vec<Range<u64>> = kept.units(&(0..20_001)).collect();
    let expected: Vec<Range<u64>> =
        (0..8).map(|i| i * 1024..(i + 1) * 1024).chain([8192..12_288, 12_288..16_384, 16_384..20_001]).collect();
    assert_eq!(units, expected);
    for unit in units {
        let of = |bytes: &[u8]| kept.is(&unit, &bytes[unit.start as usize..unit.end as usize]);
        assert!(of(&bytes));
        for at in [unit.start, unit.end - 1] {
            let mut bad = bytes.clone();
            bad[at as usize] ^= 1;
            assert!(!of(&bad), "{unit:?}");
        }
        assert!(!kept.is(&unit, &bytes[unit.start as usize..unit.end as usize - 1]), "{unit:?}, cut");
    }
}

fn header(tensors: &[(&str, &str, &[u64], Range<u64>)]) -> Header {
    let tensors = tensors.iter().map(|(name, dtype, shape, range)| Tensor {
        name: (*name).to_owned(),
        dtype: Dtype::from_safetensors(dtype).unwrap(),
        shape: shape.to_vec(),
        range: range.clone(),
    });
    Header { format: Format::Gguf, len: 100, tensors: tensors.collect(), metadata: BTreeMap::new() }
}

/// What is said of a range, in short.
fn said(places: &[Place]) -> Vec<String> {
    let touched = |touched: &Touched| match touched {
        Touched::Tensor(of) => format!("{}{:?}{:?}", of.tensor.name, of.bytes, of.rows),
        other => format!("{other:?}"),
    };
    let place = |place: &Place| {
        let touches: Vec<String> = place.touches.iter().map(touched).collect();
        format!("{:?}: {}", place.range, touches.join(" | "))
    };
    places.iter().map(place).collect()
}

#[test]
fn ranges_name_all_that_they_touch_and_nothing_else() {
    let map = Map::new(header(&[
        ("a", "BF16", &[4, 10], 100..180),
        ("none", "BF16", &[0, 10], 192..192),
        ("scalar", "F32", &[], 192..196),
        ("flat", "U8", &[60], 196..256),
        ("half", "F4", &[3, 3, 2], 256..265),
    ]));
    let of = |range: Range<u64>| said(&places(vec![range], Some(&map))).join(";");
    assert_eq!(of(0..100), "0..100: Header");
    assert_eq!(of(99..101), "99..101: Header | a0..1Some(0..1)");
    assert_eq!(of(119..120), "119..120: a19..20Some(0..1)");
    assert_eq!(of(119..121), "119..121: a19..21Some(0..2)");
    assert_eq!(of(179..192), "179..192: a79..80Some(3..4) | Padding");
    assert_eq!(of(180..192), "180..192: Padding");
    assert_eq!(of(190..197), "190..197: Padding | scalar0..4None | flat0..1Some(0..1)");
    assert_eq!(of(255..300), "255..300: flat59..60Some(59..60) | half0..9Some(0..3) | Padding");
    // Rows of six elements of half a byte: the third byte has the last of one row.
    assert_eq!(of(258..259), "258..259: half2..3Some(0..1)");
    assert_eq!(of(259..260), "259..260: half3..4Some(1..2)");
    assert_eq!(of(1000..1001), "1000..1001: Padding");
    // Neighbours are told as one where that hides nothing.
    let ranges = vec![0..50, 50..100, 100..110, 110..120, 130..140, 140..200, 200..210];
    assert_eq!(
        said(&places(ranges.clone(), Some(&map))),
        [
            "0..100: Header",
            "100..120: a0..20Some(0..1)",
            "130..140: a30..40Some(1..2)",
            "140..200: a40..80Some(2..4) | Padding | scalar0..4None | flat0..4Some(0..4)",
            "200..210: flat4..14Some(4..14)",
        ]
    );
    assert_eq!(said(&places(ranges, None)), ["0..120: ", "130..210: "]);
}

#[test]
fn rows_that_share_a_byte_or_a_block_are_named_together() {
    // Three rows of three elements of half a byte: the second byte has the last of row 0 and the first of row 1.
    let map = Map::new(header(&[("t", "F4", &[4, 3], 100..106)]));
    let of = |at: u64| said(&places(vec![at..at + 1], Some(&map))).join(";");
    assert_eq!(of(100), "100..101: t0..1Some(0..1)");
    assert_eq!(of(101), "101..102: t1..2Some(0..2)");
    let block = Dtype::from_gguf(2).unwrap();
    assert_eq!((block.name(), block.block_elements(), block.block_bytes()), ("Q4_0", 32, 18));
    let tensor = Tensor { name: "q".into(), dtype: block, shape: vec![3, 64], range: 100..208 };
    let flat = Tensor { name: "f".into(), dtype: block, shape: vec![64], range: 208..244 };
    let map = Map::new(Header { tensors: vec![tensor, flat], ..header(&[]) });
    let of = |range: Range<u64>| said(&places(vec![range], Some(&map))).join(";");
    assert_eq!(of(135..136), "135..136: q35..36Some(0..1)");
    assert_eq!(of(136..137), "136..137: q36..37Some(1..2)");
    assert_eq!(of(225..226), "225..226: f17..18Some(0..32)");
    assert_eq!(of(226..227), "226..227: f18..19Some(32..64)");
}

/// With signatures over different shards of one file, trees may be about some of them only: a header that goes on in
/// another one is not known.
#[test]
fn a_header_that_leaves_the_strings_that_are_known_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m");
    let json = format!("{:3492}", r#"{"t":{"dtype":"U8","shape":[500],"data_offsets":[0,500]}}"#);
    let bytes = [&3492_u64.to_le_bytes()[..], json.as_bytes(), &text(500)].concat();
    std::fs::write(&path, &bytes).unwrap();
    let group = GroupSize::at_most(4096);
    for (first, last) in [(0..1000, 3000..4000), (0..1024, 3072..4000), (0..2000, 3000..4000), (0..2048, 3072..4000)] {
        let of = |range: &Range<u64>| kept("m", &bytes[range.start as usize..range.end as usize], group, 0);
        let (kept, other) = (of(&first), of(&last));
        let wrong = vec![[0; 32]; other.group_values().len()];
        let texts = vec![
            Text { at: first.start, kept: &kept, seen: Seen::Same },
            Text { at: last.start, kept: &other, seen: Seen::Other(&wrong) },
        ];
        let path = path.clone();
        let located = Suspect { name: "m", format: Some(Format::Safetensors), path, found_len: 4000, texts }.locate();
        assert_eq!(located.header, HeaderState::Differs, "{first:?}");
        assert_eq!(located.places.len(), 1);
    }
}
