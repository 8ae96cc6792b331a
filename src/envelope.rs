//! DSSE: the bytes that a signature is really over (secure-systems-lab/dsse, protocol.md).

/// The only payload type of OMS.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A payload with its one signature. Nothing in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Envelope {
    /// The pre-authentication encoding of the payload, DSSE v1.
    #[must_use]
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload)
    }

    /// Whether the payload holds the name of the statement of model-signing 0.2 anywhere, as that release wrote it.
    pub(crate) fn looks_old(&self) -> bool {
        const NAME: &[u8] = b"https://model_signing/Digests/v0.1";
        self.payload.windows(NAME.len()).any(|window| window == NAME)
    }

    /// What model-signing 0.2 signed by mistake: the payload as Python prints a `bytes` object, under a wrong prefix.
    #[must_use]
    pub fn old_pae(&self) -> Vec<u8> {
        let mut out = format!("DSSEV1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), self.payload.len()).into_bytes();
        python_repr(&self.payload, &mut out);
        out
    }
}

/// The pre-authentication encoding of an OMS payload, DSSE v1: the bytes to sign.
#[must_use]
pub fn pae(payload: &[u8]) -> Vec<u8> {
    pae_of(PAYLOAD_TYPE, payload)
}

/// The same of a payload of another type. The type is part of what is signed.
pub(crate) fn pae_of(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// `repr(bytes)` of Python 3.
fn python_repr(bytes: &[u8], out: &mut Vec<u8>) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    out.extend([b'b', quote]);
    for &byte in bytes {
        match byte {
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            _ if byte == quote => out.extend([b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_dsse_document() {
        // The second is the document's own example.
        let envelope = Envelope { payload: b"hello world".to_vec(), signature: vec![] };
        assert_eq!(envelope.pae(), b"DSSEv1 28 application/vnd.in-toto+json 11 hello world");
        let example = pae_of("http://example.com/HelloWorld", b"hello world");
        assert_eq!(example, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn old_payloads_look_as_python_prints_them() {
        // Each right-hand side is what `print(repr(..))` of Python 3.11 gives.
        for (bytes, printed) in [
            (&b"plain"[..], r#"b'plain'"#),
            (b"it's", r#"b"it's""#),
            (b"it's \"so\"", r#"b'it\'s "so"'"#),
            (b"\"so\"", r#"b'"so"'"#),
            (b"a\\b\n\r\t\x00\x1f\x7f\xff ~", r"b'a\\b\n\r\t\x00\x1f\x7f\xff ~'"),
        ] {
            let envelope = Envelope { payload: bytes.to_vec(), signature: vec![] };
            let expected = format!("DSSEV1 28 application/vnd.in-toto+json {} {printed}", bytes.len());
            assert_eq!(String::from_utf8(envelope.old_pae()).unwrap(), expected);
        }
    }
}
