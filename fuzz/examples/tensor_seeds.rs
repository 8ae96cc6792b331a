//! Makes the seeds of `safetensors` and `gguf` anew: `cargo run --manifest-path fuzz/Cargo.toml --example tensor_seeds`,
//! from the repository's root. It stops if one whose name begins with `no-` is read, or another is not.

#[path = "../../src/format/tests/build.rs"]
mod build;

use std::fs;
use std::path::Path;

use build::{Gguf, array, json, safetensors, text};
use tensorseal::format::{Format, Header};

fn write(format: Format, name: &str, file: &[u8]) -> std::io::Result<()> {
    let read = Header::of_bytes(format, file, file.len() as u64);
    assert_eq!(read.is_ok(), !name.starts_with("no-"), "{name}: {read:?}");
    let folder = Path::new("fuzz/seeds").join(format.name());
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), file)
}

fn main() -> std::io::Result<()> {
    let write_text = |name: &str, header: &str, data| write(Format::Safetensors, name, &safetensors(header, data));
    let two = json(&[("a.0.weight", "BF16", "2,3", 0, 12), ("b", "F32", "", 12, 16)]);
    write_text("two", &two, 16)?;
    write_text("metadata", &two.replacen('{', r#"{"__metadata__":{"format":"pt","x\n":"\u00fc"},"#, 1), 16)?;
    write_text("blanks", &format!("{two}   "), 16)?;
    write_text("none", "{}", 0)?;
    write_text(
        "less-than-bytes",
        &json(&[("a", "F4", "3,2", 0, 3), ("b", "F6_E2M3", "4", 3, 6), ("c", "F6_E3M2", "8", 6, 12)]),
        12,
    )?;
    write_text("nothing", &json(&[("z", "I64", "0,5", 0, 0), ("a", "U8", "1", 0, 1), ("y", "C64", "0", 1, 1)]), 1)?;
    write_text("not-in-order", &json(&[("b", "F8_E4M3", "4", 4, 8), ("a", "F8_E8M0", "4", 0, 4)]), 8)?;
    write_text("no-hole", &json(&[("a", "U8", "1", 0, 1), ("b", "U8", "1", 2, 3)]), 3)?;
    write_text("no-overlap", &json(&[("a", "U8", "2", 0, 2), ("b", "U8", "2", 1, 3)]), 3)?;
    write_text("no-double-name", &json(&[("a", "U8", "1", 0, 1), ("\\u0061", "U8", "1", 1, 2)]), 2)?;
    write_text("no-unknown-type", &json(&[("a", "Q4_K", "1", 0, 1)]), 1)?;
    write_text("no-half-a-byte", &json(&[("a", "F4", "3", 0, 2)]), 2)?;
    write_text("no-overflow", &json(&[("a", "F64", "4294967296,4294967296", 0, 0)]), 0)?;
    write_text("no-more-data", &two, 17)?;
    write(Format::Safetensors, "no-length", &u64::MAX.to_le_bytes())?;

    let file = |name: &str, of: &Gguf| write(Format::Gguf, name, &of.bytes());
    let base = || Gguf::default().string("general.architecture", "llama");
    let tensors = |of: Gguf| of.tensor("blk.0.w", &[256, 2], 12, 0).tensor("b", &[3], 0, 288).data(300);
    file("tensors", &tensors(base()))?;
    file("version-2", &Gguf { version: 2, ..tensors(base()) })?;
    file("none", &base())?;
    let values = base()
        .pair("u8", 0, [1])
        .pair("i16", 3, [1, 0])
        .pair("f32", 6, 1.5_f32.to_le_bytes())
        .pair("bool", 7, [1])
        .pair("f64", 12, 1e300_f64.to_le_bytes())
        .pair("tokens", 9, array(8, &[text("a"), text([0xff]), text("")]))
        .pair("deep", 9, array(9, &[array(9, &[array(7, &[vec![1], vec![0]])])]));
    file("values", &tensors(values))?;
    let aligned =
        base().pair("general.alignment", 4, 8_u32.to_le_bytes()).tensor("a", &[3], 24, 0).tensor("b", &[0, 3], 24, 8);
    file("aligned", &Gguf { alignment: 8, ..aligned.data(8) })?;
    let part =
        base().pair("split.no", 2, [0, 0]).pair("split.count", 2, [2, 0]).pair("split.tensors.count", 5, [4, 0, 0, 0]);
    file("part", &tensors(part))?;
    file("no-version-1", &Gguf { version: 1, ..tensors(base()) })?;
    file("no-big-endian", &Gguf { version: 3_u32.swap_bytes(), ..tensors(base()) })?;
    file("no-tensors-there", &Gguf { tensor_count: Some(u64::MAX), ..base() })?;
    file("no-double-key", &base().pair("general.architecture", 0, [1]))?;
    file("no-huge-array", &base().pair("a", 9, [&8_u32.to_le_bytes()[..], &(1_u64 << 60).to_le_bytes()].concat()))?;
    let deep = (0..6).fold(array(0, &[]), |inner, _| array(9, &[inner]));
    file("no-such-depth", &base().pair("a", 9, deep))?;
    file("no-overlap", &base().tensor("a", &[64], 24, 0).tensor("b", &[64], 24, 32).data(96))?;
    file("no-hole", &base().tensor("a", &[1], 24, 0).tensor("b", &[1], 24, 64).data(65))?;
    file("no-blocks", &base().tensor("a", &[255], 12, 0).data(144))
}
