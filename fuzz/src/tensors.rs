//! What must hold of headers of tensor files, stated again here, apart from the code that ensures it.

use std::collections::HashSet;

use tensorseal::format::{Format, Header, HeaderFault};

use crate::counting::most;

/// So many bytes of memory for each of the header, and so many for any.
const FACTOR: u64 = 16;
const BASE: u64 = 4096;

/// Reads the header of a file that begins with `head` and goes on as far as its tensors do; with the length of the file.
#[must_use]
pub fn read(format: Format, head: &[u8]) -> Option<(Header, u64)> {
    let len = head.len() as u64;
    let (first, taken) = most(|| Header::of_bytes(format, head, len));
    assert!(taken <= FACTOR * len + BASE, "{taken} bytes of memory for a header of {len}");
    let (header, len) = match first {
        Ok(header) => (header, len),
        Err(HeaderFault::Short { needed }) => panic!("{needed} bytes are needed, and the file has {len}"),
        // A mutation seldom brings as much data as it announces.
        Err(HeaderFault::DataCut { expected, found }) => {
            assert!(found == len && expected > len);
            (Header::of_bytes(format, head, expected).expect("a file that is as long as it should be"), expected)
        }
        Err(fault) => {
            let text = fault.to_string();
            assert!(text.len() < 2000 && !text.contains(['\n', '\x1b']), "{text}");
            longer(format, head);
            return None;
        }
    };
    check(&header, len);
    in_parts(format, head, len, &header);
    Some((header, len))
}

/// Everything that readers of tensors rely on.
pub fn check(header: &Header, len: u64) {
    assert!(header.len <= len);
    let (mut end, mut names) = (header.len, HashSet::new());
    for tensor in &header.tensors {
        assert!(names.insert(&tensor.name), "{:?} stands twice", tensor.name);
        let range = &tensor.range;
        assert!(end <= range.start && range.start <= range.end && range.end <= len, "{tensor:?} of {len}");
        // Nothing of anything is nothing, in whichever order it is multiplied.
        let none = tensor.shape.contains(&0);
        let elements = if none { 0 } else { tensor.shape.iter().map(|&of| u128::from(of)).product::<u128>() };
        let bytes = elements / u128::from(tensor.dtype.block_elements()) * u128::from(tensor.dtype.block_bytes());
        assert!(elements.is_multiple_of(tensor.dtype.block_elements().into()));
        assert_eq!(bytes, u128::from(range.end - range.start), "{tensor:?}");
        end = range.end;
    }
}

/// The same bytes as the beginning of a longer file may ask for more, and for no more than there is.
fn longer(format: Format, head: &[u8]) {
    for len in [head.len() as u64 + 100, 1 << 40, u64::MAX] {
        let (read, taken) = most(|| Header::of_bytes(format, head, len));
        assert!(taken <= FACTOR * head.len() as u64 + BASE, "{taken} bytes of memory");
        match read {
            Ok(header) => check(&header, len),
            Err(HeaderFault::Short { needed }) => assert!(head.len() as u64 <= needed && needed <= len),
            Err(_) => {}
        }
    }
}

/// Come with in parts, it is the same header.
fn in_parts(format: Format, head: &[u8], len: u64, header: &Header) {
    let mut given = 0;
    let again = Header::read(format, len, &mut |range| {
        assert!(range.start == given && range.start < range.end && range.end <= len);
        given = range.end;
        assert!(range.end - range.start < 1 << 28);
        let part = |at: u64| head.len().min(usize::try_from(at).unwrap_or(usize::MAX));
        let mut bytes = head[part(range.start)..part(range.end)].to_vec();
        bytes.resize((range.end - range.start) as usize, 0);
        Ok::<_, HeaderFault>(bytes)
    });
    assert_eq!(again.as_ref(), Ok(header));
}
