//! Any bytes as a safetensors file.
#![no_main]

use invariants::tensors;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tensorseal::format::{Format, Header};

// One for the program: `tests/seeds.rs` has its own.
#[cfg(not(test))]
#[global_allocator]
static COUNTING: invariants::counting::Counting = invariants::counting::Counting;

fuzz_target!(|data: &[u8]| {
    // What a mutation loses first is the length: a second reading takes the bytes for the text alone.
    let text = [&(data.len() as u64).to_le_bytes(), data].concat();
    for file in [data, &text] {
        let Some((header, len)) = tensors::read(Format::Safetensors, file) else { continue };
        again(&header, &file[8..header.len as usize], len);
    }
});

/// The same text, read by a reader that knows nothing of tensors; and the header, written again.
fn again(header: &Header, text: &[u8], len: u64) {
    let value: Value = serde_json::from_slice(text).expect("what was read is JSON");
    let members = value.as_object().expect("an object");
    let metadata = members.get("__metadata__").map_or(0, |of| of.as_object().expect("an object").len());
    assert_eq!(header.metadata.len(), metadata);
    assert_eq!(header.tensors.len() + usize::from(members.contains_key("__metadata__")), members.len());
    for tensor in &header.tensors {
        let of = &members[&tensor.name];
        assert_eq!(of["dtype"], tensor.dtype.name());
        assert_eq!(of["shape"], serde_json::json!(tensor.shape));
        let place = [tensor.range.start - header.len, tensor.range.end - header.len];
        assert_eq!(of["data_offsets"], serde_json::json!(place));
        assert_eq!(of.as_object().expect("an object").len(), 3);
    }
    let mut written = serde_json::Map::new();
    for (name, of) in members {
        written.insert(name.clone(), of.clone());
    }
    let text = serde_json::to_vec(&written).expect("a map of strings");
    let file = [&(text.len() as u64).to_le_bytes(), &text[..]].concat();
    let new_len = len - header.len + file.len() as u64;
    let again = Header::of_bytes(Format::Safetensors, &file, new_len).expect("what is written is read");
    assert_eq!(again.metadata, header.metadata);
    let moved = |of: &Header| {
        let place = |range: &std::ops::Range<u64>| (range.start - of.len, range.end - of.len);
        of.tensors.iter().map(|of| (of.name.clone(), of.dtype, of.shape.clone(), place(&of.range))).collect::<Vec<_>>()
    };
    assert_eq!(moved(&again), moved(header));
}
