//! PEM as OpenSSL reads and writes it (RFC 7468, with the headers of RFC 1421 that its old encryption needs).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyError;

/// What is wrong with a PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemFault {
    /// The file ends, or another block begins, before this one's END line.
    #[error("its END line is missing")]
    NoEnd,
    /// The END line says something else than the BEGIN line.
    #[error("its END line does not match its BEGIN line")]
    OtherEnd,
    /// The text is not base64, or not padded as base64 must be.
    #[error("it is not valid base64")]
    Base64,
}

/// A block's label and the lines between its BEGIN and END, not decoded yet.
pub(crate) struct Block<'a> {
    label: &'a [u8],
    body: &'a [u8],
}

impl<'a> Block<'a> {
    pub(crate) fn is(&self, label: &str) -> bool {
        self.label == label.as_bytes()
    }

    pub(crate) fn ends_with(&self, label: &str) -> bool {
        self.label.ends_with(label.as_bytes())
    }

    /// The label for a message: a hostile one is cut short.
    pub(crate) fn label(&self) -> String {
        String::from_utf8_lossy(&self.label[..self.label.len().min(40)]).into_owned()
    }

    /// The value of the header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.lines().map_while(header).find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        for line in self.lines().skip_while(|line| header(line).is_some()) {
            text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
        let mut bytes = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
        let len = STANDARD.decode_slice(&text[..], &mut bytes[..]).map_err(|_| self.broken(PemFault::Base64))?;
        bytes.truncate(len);
        Ok(bytes)
    }

    fn broken(&self, fault: PemFault) -> KeyError {
        KeyError::BrokenPem { label: self.label(), fault }
    }

    fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.body.split(is_line_end).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    }
}

/// Every block of a file, in order. Text around them is no concern of ours: OpenSSL and GnuTLS write some.
pub(crate) fn blocks(file: &[u8]) -> Result<Vec<Block<'_>>, KeyError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let mut rest = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let label;
        (label, rest) = boundary(b"-----BEGIN ", rest);
        let Some(label) = label else { continue };
        let start = rest;
        loop {
            let block = Block { label, body: &start[..start.len() - rest.len()] };
            if rest.is_empty() || boundary(b"-----BEGIN ", rest).0.is_some() {
                return Err(block.broken(PemFault::NoEnd));
            }
            let end;
            (end, rest) = boundary(b"-----END ", rest);
            match end {
                None => {}
                Some(end) if end == label => {
                    blocks.push(block);
                    break;
                }
                Some(_) => return Err(block.broken(PemFault::OtherEnd)),
            }
        }
    }
    if blocks.is_empty() { Err(KeyError::NotPem) } else { Ok(blocks) }
}

/// Writes a block: 64 columns, Unix line ends, a newline at the end.
pub(crate) fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(der.len().div_ceil(48) * 65 + 2 * label.len() + 40));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut line = Zeroizing::new(String::with_capacity(64));
    for bytes in der.chunks(48) {
        line.clear();
        STANDARD.encode_string(bytes, &mut line);
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

const fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The label if the next line is a boundary of this kind, and what follows that line.
fn boundary<'a>(prefix: &[u8], text: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let len = text.iter().position(is_line_end).unwrap_or(text.len());
    let (line, rest) = text.split_at(len);
    let label = line.trim_ascii_end().strip_prefix(prefix).and_then(|line| line.strip_suffix(b"-----"));
    (label, rest.get(1..).unwrap_or_default())
}

/// `Name: value`. No line of base64 has a colon.
fn header(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    Some((name.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_whatever_surrounds_them() {
        let der: Vec<u8> = (0..=255).collect();
        let plain = write("A KEY", &der);
        assert!(plain.lines().all(|line| line.len() <= 64) && plain.ends_with("-----END A KEY-----\n"));
        for text in [
            plain.to_string(),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\r"),
            plain.replace('\n', "  \n"),
            plain.trim_end().to_owned(),
            format!("\u{feff}{}", *plain),
            format!("before\n\n{}after -----END A KEY-----\n", *plain),
            plain.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\n", 1),
        ] {
            let blocks = blocks(text.as_bytes()).unwrap();
            assert_eq!(blocks.len(), 1, "{text}");
            assert!(blocks[0].is("A KEY") && blocks[0].ends_with("KEY") && !blocks[0].is("KEY"));
            assert_eq!(*blocks[0].decode().unwrap(), der);
            assert_eq!(blocks[0].header("DEK-Info"), text.contains("DEK").then_some("X,00"));
        }
        let two = format!("{}{}", *plain, *write("OTHER", &[]));
        assert_eq!(blocks(two.as_bytes()).unwrap().iter().map(Block::label).collect::<Vec<_>>(), ["A KEY", "OTHER"]);
    }

    #[test]
    fn broken_blocks_are_refused() {
        let fault = |text: &str| match blocks(text.as_bytes()).and_then(|blocks| blocks[0].decode()) {
            Err(KeyError::BrokenPem { label, fault }) => (label, fault),
            other => panic!("{other:?}"),
        };
        let is = |fault| ("K".to_owned(), fault);
        assert_eq!(fault("-----BEGIN K-----\nAAAA\n"), is(PemFault::NoEnd));
        assert_eq!(fault("-----BEGIN K-----\n-----BEGIN K-----\n-----END K-----\n"), is(PemFault::NoEnd));
        assert_eq!(fault("-----BEGIN K-----\nAAAA\n-----END L-----\n"), is(PemFault::OtherEnd));
        for body in ["A", "AAA", "AA-_", "AAAA=", "AAAB=A==", "AB==", "AAAA\nName: value\n"] {
            assert_eq!(fault(&format!("-----BEGIN K-----\n{body}\n-----END K-----\n")), is(PemFault::Base64), "{body}");
        }
        for none in ["", "AAAA", "---- BEGIN K ----", "x-----BEGIN K-----\n-----END K-----"] {
            assert!(matches!(blocks(none.as_bytes()).map(|_| ()), Err(KeyError::NotPem)));
        }
    }
}
