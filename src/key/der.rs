//! Strict DER (X.690): just what key files need. One way to write each value, and no byte left over.

use zeroize::Zeroizing;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
pub(crate) const CONTEXT_1: u8 = 0xa1;
/// `[2]`, constructed.
pub(crate) const CONTEXT_2: u8 = 0xa2;
/// `[1] IMPLICIT` of a primitive type.
pub(crate) const CONTEXT_1_PRIMITIVE: u8 = 0x81;

/// What is wrong with a piece of DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DerFault {
    /// A value is announced that the data do not hold.
    #[error("it ends too early")]
    Truncated,
    /// Bytes follow the value.
    #[error("there is data after its end")]
    TrailingData,
    /// A length of indefinite form, not in its shortest form, or of more than 4 bytes.
    #[error("a length is not written as DER requires")]
    Length,
    /// A value of another type.
    #[error("expected a value with tag {expected:#04x}, found {found:#04x}")]
    Tag {
        /// The identifier octet that belongs here.
        expected: u8,
        /// The one that is here.
        found: u8,
    },
    /// An INTEGER that is empty, negative, or not in its shortest form.
    #[error("an integer is negative or not written as DER requires")]
    Integer,
    /// A BIT STRING that is not a whole number of bytes.
    #[error("a bit string is not a whole number of bytes")]
    BitString,
    /// A version number of no format known here.
    #[error("its version is unknown")]
    Version,
}

/// Reads one DER value after another from a slice.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(der: &'a [u8]) -> Self {
        Self { rest: der }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn next_is(self, tag: u8) -> bool {
        self.rest.first() == Some(&tag)
    }

    /// Tag and content of the next value.
    pub(crate) fn any(&mut self) -> Result<(u8, &'a [u8]), DerFault> {
        let &[tag, first, ref after @ ..] = self.rest else { return Err(DerFault::Truncated) };
        let (len, after) = if first < 0x80 {
            (usize::from(first), after)
        } else {
            let count = usize::from(first & 0x7f);
            // 0 would be the indefinite form. 4 bytes of length are far more than any key has.
            if count == 0 || count > 4 {
                return Err(DerFault::Length);
            }
            let (digits, after) = after.split_at_checked(count).ok_or(DerFault::Truncated)?;
            let len = digits.iter().fold(0_u32, |len, &digit| len << 8 | u32::from(digit));
            if len < 0x80 || digits.first() == Some(&0) {
                return Err(DerFault::Length);
            }
            (usize::try_from(len).map_err(|_| DerFault::Length)?, after)
        };
        let (content, rest) = after.split_at_checked(len).ok_or(DerFault::Truncated)?;
        self.rest = rest;
        Ok((tag, content))
    }

    /// Content of the next value, which must have this tag.
    pub(crate) fn value(&mut self, expected: u8) -> Result<&'a [u8], DerFault> {
        match self.any()? {
            (found, content) if found == expected => Ok(content),
            (found, _) => Err(DerFault::Tag { expected, found }),
        }
    }

    /// Content of the next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerFault> {
        if self.next_is(tag) { self.value(tag).map(Some) } else { Ok(None) }
    }

    pub(crate) fn sequence(&mut self) -> Result<Self, DerFault> {
        self.value(SEQUENCE).map(Self::new)
    }

    /// A non-negative INTEGER, big-endian without leading zeros: zero is empty.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], DerFault> {
        match self.value(INTEGER)? {
            [0] => Ok(&[]),
            [0, rest @ ..] if rest.first().is_some_and(|&byte| byte >= 0x80) => Ok(rest),
            digits if digits.first().is_some_and(|&byte| (1..0x80).contains(&byte)) => Ok(digits),
            _ => Err(DerFault::Integer),
        }
    }

    /// A non-negative INTEGER; what no `u64` can hold reads as the largest one, which every cap refuses.
    pub(crate) fn number(&mut self) -> Result<u64, DerFault> {
        let digits = self.unsigned()?;
        if digits.len() > 8 {
            return Ok(u64::MAX);
        }
        Ok(digits.iter().fold(0, |number, &digit| number << 8 | u64::from(digit)))
    }

    /// What has not been read yet.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), DerFault> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerFault::TrailingData) }
    }
}

/// A SEQUENCE that is all of `der`.
pub(crate) fn whole_sequence(der: &[u8]) -> Result<Reader<'_>, DerFault> {
    let mut outer = Reader::new(der);
    let sequence = outer.sequence()?;
    outer.finish()?;
    Ok(sequence)
}

/// The bytes in a BIT STRING's content.
pub(crate) fn bits(content: &[u8]) -> Result<&[u8], DerFault> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(DerFault::BitString),
    }
}

/// Writes one value whose content is `parts`, one after another. The buffer has its final size from the start, so
/// that no copy of a secret stays behind where it grew.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Zeroizing::new(Vec::with_capacity(len + 2 + size_of::<usize>()));
    der.push(tag);
    let digits = len.to_be_bytes();
    if len < 0x80 {
        der.push(digits[digits.len() - 1]);
    } else {
        let digits = &digits[digits.iter().take_while(|&&digit| digit == 0).count()..];
        // At most 8 digits, as a `usize` has.
        der.push(0x80 | digits.len() as u8);
        der.extend_from_slice(digits);
    }
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form_each() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; len];
            let der = write(OCTET_STRING, &[&content[..len / 2], &content[len / 2..]]);
            let mut reader = Reader::new(&der);
            assert_eq!(reader.value(OCTET_STRING), Ok(&content[..]));
            assert_eq!(reader.finish(), Ok(()));
            assert_eq!(Reader::new(&der[..der.len() - 1]).any(), Err(DerFault::Truncated));
        }
        let refused: [(&[u8], DerFault); 8] = [
            (&[], DerFault::Truncated),
            (&[4], DerFault::Truncated),
            (&[4, 0x80, 0, 0], DerFault::Length),
            (&[4, 0x81, 1, 9], DerFault::Length),
            (&[4, 0x81, 0x7f, 9], DerFault::Length),
            (&[4, 0x82, 0, 0x80, 9], DerFault::Length),
            (&[4, 0x85, 1, 0, 0, 0, 0], DerFault::Length),
            (&[4, 0x84, 0xff, 0xff, 0xff, 0xff, 9], DerFault::Truncated),
        ];
        for (der, fault) in refused {
            assert_eq!(Reader::new(der).any(), Err(fault), "{der:x?}");
        }
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        let read: [(&[u8], &[u8]); 4] =
            [(&[2, 1, 0], &[]), (&[2, 1, 0x7f], &[0x7f]), (&[2, 2, 0, 0x80], &[0x80]), (&[2, 2, 1, 0], &[1, 0])];
        for (der, digits) in read {
            assert_eq!(Reader::new(der).unsigned(), Ok(digits));
        }
        let refused: [&[u8]; 4] = [&[2, 0], &[2, 1, 0x80], &[2, 2, 0, 0x7f], &[2, 2, 0xff, 0x80]];
        for der in refused {
            assert_eq!(Reader::new(der).unsigned(), Err(DerFault::Integer), "{der:x?}");
        }
        assert_eq!(Reader::new(&[2, 2, 1, 0]).number(), Ok(256));
        assert_eq!(Reader::new(&[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]).number(), Ok(u64::MAX));
        assert_eq!(Reader::new(&[4, 1, 0]).unsigned(), Err(DerFault::Tag { expected: 2, found: 4 }));
    }

    #[test]
    fn nothing_may_follow() {
        assert_eq!(whole_sequence(&[0x30, 0, 0]).map(|_| ()), Err(DerFault::TrailingData));
        assert_eq!(whole_sequence(&[0x30, 0]).map(|reader| reader.is_empty()), Ok(true));
        assert_eq!(bits(&[0, 9]), Ok(&[9][..]));
        assert_eq!(bits(&[1, 8]), Err(DerFault::BitString));
        assert_eq!(bits(&[]), Err(DerFault::BitString));
    }
}
