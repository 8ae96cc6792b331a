//! Percent-encoding (RFC 3986, section 2.1), in the forms that RFC 7512 uses.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::UriError;

/// Decodes a value. As itself stands only what the grammar lets: letters, digits, `-._~`, and what is in `reserved`.
/// The buffer has its final size from the start: the value may be a PIN.
pub(super) fn decode(name: &'static str, text: &str, reserved: &[u8]) -> Result<Zeroizing<Vec<u8>>, UriError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let at = text.len() - rest.len();
        rest = after;
        if byte == b'%' {
            let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(UriError::Percent { name, at }) };
            // Two digits of 16.
            bytes.push((high << 4 | low) as u8);
            rest = &after[2..];
        } else if unreserved(byte) || reserved.contains(&byte) {
            bytes.push(byte);
        } else {
            return Err(UriError::Character { name, at });
        }
    }
    Ok(bytes)
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Encodes all that another reader of URIs might take for something else.
pub(super) fn encode_path(value: &[u8]) -> String {
    let mut text = String::with_capacity(3 * value.len());
    encode(&mut text, value, b"");
    text
}

/// The same for the query, where paths stay readable. `text` must have room for three times as many bytes if the value
/// is secret.
pub(super) fn encode_query(text: &mut String, value: &[u8]) {
    encode(text, value, b"/");
}

/// Encodes every byte, as section 2.3 of RFC 7512 asks for `id`.
pub(super) fn encode_all(value: &[u8]) -> String {
    value.iter().fold(String::with_capacity(3 * value.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

fn encode(text: &mut String, value: &[u8], plain: &[u8]) {
    for &byte in value {
        if unreserved(byte) || plain.contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}
