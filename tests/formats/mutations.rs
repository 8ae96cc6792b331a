//! A file with one byte altered, cut or lengthened is refused, or it says something else; it is never a panic.

use std::collections::HashSet;

use proptest::prelude::*;
use tensorseal::format::{Format, Header};

use crate::build::{Gguf, array, json, safetensors, text};
use crate::read;

/// What must hold of whatever is read, stated apart from the code that ensures it.
pub(crate) fn check(header: &Header, len: u64) {
    assert!(header.len <= len);
    let (mut end, mut names) = (header.len, HashSet::new());
    for tensor in &header.tensors {
        assert!(names.insert(&tensor.name), "a name stands twice");
        assert!(end <= tensor.range.start && tensor.range.start <= tensor.range.end && tensor.range.end <= len);
        assert_eq!(tensor.dtype.bytes_of(tensor.elements()), Some(tensor.bytes()));
        end = tensor.range.end;
    }
}

/// Alters each byte of `file` before `data` in each way, and wants a refusal or another header, but at `free` places.
fn alter_each(format: Format, file: &[u8], data: usize, free: impl Fn(usize) -> bool) {
    let len = file.len() as u64;
    let original = read(format, file).unwrap();
    let (mut refused, mut other) = (0, 0);
    for at in 0..data {
        for value in 0..=255 {
            if file[at] == value {
                continue;
            }
            let mut altered = file.to_vec();
            altered[at] = value;
            match read(format, &altered) {
                Ok(header) => {
                    check(&header, len);
                    assert!(header != original || free(at), "byte {at} as {value:#x} changes nothing");
                    other += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10 * other / 9 && other > 0, "{refused} refused, {other} other headers");
    for cut in 0..file.len() {
        assert!(read(format, &file[..cut]).is_err(), "cut to {cut} bytes");
    }
    assert!(read(format, &[file, &[0; 100]].concat()).is_err());
}

#[test]
fn every_byte_of_a_safetensors_header_counts() {
    let header = json(&[("a.0", "BF16", "3,2", 0, 12), ("b", "F4", "2", 12, 13), ("c\\u0041", "U8", "", 13, 14)]);
    let header = header.replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1);
    let file = safetensors(&header, 14);
    alter_each(Format::Safetensors, &file, 8 + header.len(), |_| false);
}

#[test]
fn every_byte_of_a_gguf_header_counts_but_the_version_arrays_and_padding() {
    let tokens = array(8, &[text("ab"), text("c")]);
    let of = Gguf::default()
        .pair("tokens", 9, &tokens)
        .string("name", "x")
        .pair("general.alignment", 4, 16_u32.to_le_bytes())
        .pair("truth", 7, [1])
        .tensor("a", &[32, 2], 2, 0)
        .tensor("b", &[3], 0, 48)
        .data(60);
    let file = Gguf { alignment: 16, ..of.clone() }.bytes();
    // An array is left out with its key.
    let array_at = file.windows(6).position(|part| part == b"tokens").unwrap();
    let padding = of.header().len()..file.len() - 60;
    alter_each(Format::Gguf, &file, file.len() - 60, |at| {
        // Version 2 reads as 3.
        at == 4 || padding.contains(&at) || (array_at..array_at + 6 + 4 + tokens.len()).contains(&at)
    });
}

/// Types and the bytes of a block of 16 elements.
const TYPES: [(&str, u64); 8] =
    [("BOOL", 16), ("F4", 8), ("F6_E2M3", 12), ("F8_E4M3", 16), ("BF16", 32), ("F32", 64), ("C64", 128), ("U64", 128)];

fn dimensions() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..4, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever tensors there are, in whatever order they are listed, they are found where they are.
    #[test]
    fn what_is_written_is_read(
        tensors in prop::collection::btree_map("[a-z0-9._/ü\u{202e}]{0,12}", (0..TYPES.len(), dimensions()), 0..12),
        order in any::<u64>(),
        padding in 0_usize..9,
        metadata in prop::collection::btree_map("[a-z\"\\\\\n]{0,5}", ".{0,5}", 0..4),
    ) {
        let (mut at, mut listed) = (0, Vec::new());
        for (name, (dtype, dimensions)) in &tensors {
            let (dtype, sixteen) = TYPES[*dtype];
            let shape = [&dimensions[..], &[16]].concat();
            let bytes = dimensions.iter().product::<u64>() * sixteen;
            listed.push((name.clone(), dtype, shape, at, at + bytes));
            at += bytes;
        }
        let expected = listed.clone();
        // Any order, the same for the same number.
        listed.sort_by_key(|(name, ..)| blake3::hash(format!("{order}{name}").as_bytes()).to_hex().to_string());
        let one = |(name, dtype, shape, begin, end): &(String, &str, Vec<u64>, u64, u64)| {
            let name = serde_json::to_string(name).unwrap();
            format!(r#"{name} : {{"data_offsets":[{begin},{end}], "shape":{shape:?},"dtype":"{dtype}"}}"#)
        };
        let mut members: Vec<String> = listed.iter().map(one).collect();
        members.push(format!("\"__metadata__\":{}", serde_json::to_string(&metadata).unwrap()));
        let text = format!("{{{}}}{}", members.join(","), " ".repeat(padding));
        let file = safetensors(&text, at as usize);
        let header = read(Format::Safetensors, &file).unwrap();
        check(&header, file.len() as u64);
        prop_assert_eq!(&header.metadata, &metadata);
        prop_assert_eq!(header.len, 8 + text.len() as u64);
        prop_assert_eq!(header.tensors.len(), expected.len());
        for (name, dtype, shape, begin, end) in expected {
            let tensor = header.tensor(&name).unwrap();
            prop_assert_eq!((tensor.dtype.name(), &tensor.shape), (dtype, &shape));
            prop_assert_eq!(&tensor.range, &(header.len + begin..header.len + end));
        }
    }

    /// The same of GGUF.
    #[test]
    fn what_is_written_as_gguf_is_read(
        tensors in prop::collection::btree_map("[a-z0-9._ü]{0,12}", (0_u32..42, dimensions()), 0..12),
        alignment in 0_u32..8,
        gone in any::<bool>(),
    ) {
        let alignment = 1_u64 << alignment;
        let mut of = Gguf { alignment: alignment as usize, ..Gguf::default() }
            .pair("general.alignment", 4, (alignment as u32).to_le_bytes());
        let (mut at, mut expected, mut end) = (0, Vec::new(), 0);
        for (name, (number, dimensions)) in &tensors {
            let Some(dtype) = tensorseal::format::Dtype::from_gguf(*number) else { continue };
            let fastest = [&[dtype.block_elements()], &dimensions[..]].concat();
            let bytes = dimensions.iter().product::<u64>() * dtype.block_bytes();
            of = of.tensor(name, &fastest, *number, at);
            expected.push((name, dtype, fastest.into_iter().rev().collect::<Vec<_>>(), at..at + bytes));
            end = at + bytes;
            at = end.next_multiple_of(alignment);
        }
        let file = of.data(if gone { end } else { at } as usize).bytes();
        let header = read(Format::Gguf, &file).unwrap();
        check(&header, file.len() as u64);
        prop_assert_eq!(header.tensors.len(), expected.len());
        for (name, dtype, shape, range) in expected {
            let tensor = header.tensor(name).unwrap();
            prop_assert_eq!((tensor.dtype, &tensor.shape), (dtype, &shape));
            prop_assert_eq!(&tensor.range, &(header.len + range.start..header.len + range.end));
        }
    }

    /// Any bytes behind any length that a reader would believe.
    #[test]
    fn any_bytes_are_a_header_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..300), more in any::<u32>()) {
        for format in [Format::Safetensors, Format::Gguf] {
            for head in [bytes.clone(), [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat(), [b"GGUF\x03\0\0\0", &bytes[..]].concat()] {
                for len in [head.len() as u64, head.len() as u64 + u64::from(more), u64::MAX] {
                    if let Ok(header) = Header::of_bytes(format, &head, len) {
                        check(&header, len);
                    }
                }
            }
        }
    }
}
