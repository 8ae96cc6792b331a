//! Algorithms and digests: what OMS calls them, how long they are, how they are written.

use std::fmt;

/// A hash algorithm of the OMS registry (OMS v1.0, section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4), 32 bytes. The only one that every OMS verifier knows.
    Sha256,
    /// BLAKE2b (RFC 7693) with 64 bytes of output, unkeyed.
    Blake2b,
    /// BLAKE3, default mode, 32 bytes. The only one that a GPU can take.
    Blake3,
}

impl Algorithm {
    /// Every algorithm, in the order in which reports list them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Blake2b, Self::Blake3];

    /// The name as OMS writes it: `sha256`, `blake2b` or `blake3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
            Self::Blake3 => "blake3",
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Blake2b => 64,
        }
    }

    /// The algorithm with this exact OMS name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest that knows which algorithm made it. Two digests are equal only if both agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    // Bytes past `algorithm.digest_len()` are zero, so that derived equality is equality of digests.
    bytes: [u8; 64],
}

impl Digest {
    /// A digest from its bytes; `None` if their number is not the algorithm's.
    #[must_use]
    pub fn new(algorithm: Algorithm, digest: &[u8]) -> Option<Self> {
        if digest.len() != algorithm.digest_len() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Some(Self { algorithm, bytes })
    }

    /// A SHA-256 or BLAKE3 digest, whose length the type already proves.
    pub(crate) fn of32(algorithm: Algorithm, digest: [u8; 32]) -> Self {
        debug_assert_eq!(algorithm.digest_len(), 32);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&digest);
        Self { algorithm, bytes }
    }

    /// A BLAKE2b digest.
    pub(crate) fn of64(bytes: [u8; 64]) -> Self {
        Self { algorithm: Algorithm::Blake2b, bytes }
    }

    /// Which algorithm made it.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes, `algorithm().digest_len()` of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// Lower-case hexadecimal, two digits a byte.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(self.as_bytes())
    }

    /// Reads exactly `2 * algorithm.digest_len()` hexadecimal digits of either case.
    #[must_use]
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * algorithm.digest_len() {
            return None;
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self { algorithm, bytes })
    }
}

/// `sha256:<hex>`, the form the command line prints.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Lower-case hexadecimal of any bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = vec![0; 2 * bytes.len()];
    for (pair, &byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    // Digits are ASCII, so nothing is ever replaced.
    String::from_utf8(text).unwrap_or_default()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_in_either_case_and_nothing_else_is_read() {
        let bytes: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(5)).collect();
        for algorithm in Algorithm::ALL {
            let digest = Digest::new(algorithm, &bytes[..algorithm.digest_len()]).unwrap();
            let text = digest.to_hex();
            assert_eq!(Digest::from_hex(algorithm, &text), Some(digest));
            assert_eq!(Digest::from_hex(algorithm, &text.to_uppercase()), Some(digest));
            assert_eq!(Digest::from_hex(algorithm, &text[2..]), None);
            assert_eq!(Digest::from_hex(algorithm, &format!("{text}00")), None);
            assert_eq!(Digest::from_hex(algorithm, &format!("g{}", &text[1..])), None);
            assert_eq!(Digest::from_hex(algorithm, &format!("+{}", &text[1..])), None);
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("SHA256"), None);
        assert_eq!(Algorithm::from_name("sha512"), None);
    }

    #[test]
    fn equality_includes_the_algorithm() {
        let sha = Digest::new(Algorithm::Sha256, &[7; 32]).unwrap();
        let blake = Digest::new(Algorithm::Blake3, &[7; 32]).unwrap();
        assert_ne!(sha, blake);
        assert!(Digest::new(Algorithm::Blake2b, &[7; 32]).is_none());
    }
}
