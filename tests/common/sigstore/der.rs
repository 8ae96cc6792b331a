//! DER, written by hand: what a forger needs and no library would write.

use std::fmt::Write as _;

use tensorseal::time::UnixTime;

pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match value.len() {
        len @ 0..0x80 => der.push(len as u8),
        len @ 0x80..0x100 => der.extend([0x81, len as u8]),
        len => der.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    der.extend(value);
    der
}

pub(crate) fn sequence<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    tlv(0x30, &joined(parts))
}

/// SET OF: its elements in ascending order of their encodings (X.690, 11.6).
pub(crate) fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(0x31, &joined(&parts))
}

pub(crate) fn joined<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    parts.iter().flat_map(AsRef::as_ref).copied().collect()
}

/// `[n]`, constructed.
pub(crate) fn context(n: u8, value: &[u8]) -> Vec<u8> {
    tlv(0xa0 | n, value)
}

pub(crate) fn octets(value: &[u8]) -> Vec<u8> {
    tlv(0x04, value)
}

/// BIT STRING of whole bytes.
pub(crate) fn bits(value: &[u8]) -> Vec<u8> {
    tlv(0x03, &joined(&[&[0], value]))
}

pub(crate) fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take(7).take_while(|&&byte| byte == 0).count();
    let sign: &[u8] = if bytes[zeros] >= 0x80 { &[0] } else { &[] };
    tlv(0x02, &joined(&[sign, &bytes[zeros..]]))
}

pub(crate) fn null() -> Vec<u8> {
    vec![0x05, 0]
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    vec![0x01, 1, if value { 0xff } else { 0 }]
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u32> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut value = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for &arc in &arcs[2..] {
        let groups: Vec<u8> = (0..5).map(|i| (arc >> (7 * i) & 0x7f) as u8).collect();
        let last = groups.iter().rposition(|&group| group > 0).unwrap_or(0);
        value.extend((0..=last).rev().map(|i| groups[i] | if i > 0 { 0x80 } else { 0 }));
    }
    tlv(0x06, &value)
}

/// GeneralizedTime.
pub(crate) fn time(seconds: i64) -> Vec<u8> {
    tlv(0x18, UnixTime(seconds).to_string().replace(['-', ':', 'T'], "").as_bytes())
}

/// Time as certificates write it: UTCTime before 2050 (RFC 5280, 4.1.2.5).
pub(crate) fn certificate_time(seconds: i64) -> Vec<u8> {
    let text = UnixTime(seconds).to_string().replace(['-', ':', 'T'], "");
    if &text[..4] < "2050" { tlv(0x17, &text.as_bytes()[2..]) } else { tlv(0x18, text.as_bytes()) }
}

/// A distinguished name of one common name.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    sequence(&[set(vec![sequence(&[oid("2.5.4.3"), utf8(common_name)])])])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
