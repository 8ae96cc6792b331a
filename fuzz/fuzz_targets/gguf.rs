//! Any bytes as a GGUF file.
#![no_main]

use invariants::tensors;
use libfuzzer_sys::fuzz_target;
use tensorseal::format::{Dtype, Format, Header};

// One for the program: `tests/seeds.rs` has its own.
#[cfg(not(test))]
#[global_allocator]
static COUNTING: invariants::counting::Counting = invariants::counting::Counting;

fuzz_target!(|data: &[u8]| {
    let Some((header, len)) = tensors::read(Format::Gguf, data) else { return };
    let alignment = header.metadata.get("general.alignment").map_or(32, |of| of.parse().expect("a number"));
    for tensor in &header.tensors {
        assert!(tensor.range.start % alignment == 0, "aligned");
    }
    // Written again, without arrays: the same tensors at the same places behind another header.
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((header.tensors.len() as u64).to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    text(&mut file, "general.alignment");
    file.extend(4_u32.to_le_bytes());
    file.extend((alignment as u32).to_le_bytes());
    for tensor in &header.tensors {
        text(&mut file, &tensor.name);
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|dimension| file.extend(dimension.to_le_bytes()));
        let number = (0..100).find(|&number| Dtype::from_gguf(number) == Some(tensor.dtype)).expect("its number");
        file.extend(number.to_le_bytes());
        file.extend((tensor.range.start - header.len).to_le_bytes());
    }
    if header.tensors.is_empty() {
        return;
    }
    let begin = (file.len() as u64).next_multiple_of(alignment);
    let Some(new_len) = begin.checked_add(len - header.len) else { return };
    let again = Header::of_bytes(Format::Gguf, &file, new_len).expect("what is written is read");
    assert_eq!(again.len, begin);
    assert_eq!(again.tensors.len(), header.tensors.len());
    for (a, b) in again.tensors.iter().zip(&header.tensors) {
        assert_eq!((&a.name, a.dtype, &a.shape, a.bytes()), (&b.name, b.dtype, &b.shape, b.bytes()));
        assert_eq!(a.range.start - again.len, b.range.start - header.len);
    }
});

fn text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}
