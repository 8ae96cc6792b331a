mod build;
mod gguf;
mod index;
mod safetensors;

use super::*;

/// Reads a whole file that is in memory, and holds that to come with less first gives the same.
fn read(format: Format, file: &[u8]) -> Result<Header, HeaderFault> {
    let len = file.len() as u64;
    let whole = Header::of_bytes(format, file, len);
    let mut given = 0;
    let by_parts = Header::read(format, len, &mut |range| {
        assert!(range.start == given && range.start < range.end && range.end <= len, "{range:?} of {len}");
        given = range.end;
        Ok::<_, HeaderFault>(file[range.start as usize..range.end as usize].to_vec())
    });
    assert_eq!(whole, by_parts);
    if let Ok(header) = &whole {
        check(header, len);
        // Every shorter beginning asks for more, and for no more than there is.
        for cut in (0..header.len.min(200)).chain([header.len.saturating_sub(1)]) {
            match Header::of_bytes(format, &file[..cut as usize], len) {
                Err(HeaderFault::Short { needed }) => assert!(cut < needed && needed <= len, "{cut} {needed}"),
                Ok(short) => assert_eq!(&short, header, "padding was not needed"),
                other => panic!("{cut}: {other:?}"),
            }
        }
    }
    whole
}

/// What holds of every header, stated without regard to how it is ensured.
fn check(header: &Header, len: u64) {
    let mut names = std::collections::HashSet::new();
    let mut end = header.len;
    assert!(end <= len);
    for tensor in &header.tensors {
        assert!(names.insert(&tensor.name));
        assert!(tensor.range.start >= end && tensor.range.end >= tensor.range.start && tensor.range.end <= len);
        assert_eq!(tensor.dtype.bytes_of(tensor.elements()), Some(tensor.bytes()));
        end = tensor.range.end;
    }
}

#[test]
fn the_name_says_which_format_a_file_has() {
    for (name, format) in [
        ("model.safetensors", Some(Format::Safetensors)),
        ("a/b.c/model-00001-of-00002.safetensors", Some(Format::Safetensors)),
        ("m.gguf", Some(Format::Gguf)),
        ("m.safetensors.index.json", None),
        ("safetensors", None),
        (".safetensors", None),
        ("a/.gguf", None),
        ("a.gguf/b", None),
        ("m.GGUF", None),
        ("m.safetensors ", None),
        ("", None),
    ] {
        assert_eq!(Format::of_name(name), format, "{name}");
    }
}

#[test]
fn a_file_that_gives_less_than_it_has_is_no_answer() {
    let mut read = |_| Ok::<_, HeaderFault>(vec![0; 3]);
    let fault = Header::read(Format::Safetensors, 100, &mut read).unwrap_err();
    assert_eq!(fault, HeaderFault::Cut { expected: 100, found: 3 });
}
