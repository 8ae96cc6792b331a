//! The three curves of OMS: their names, their object identifiers and their domain parameters.

use std::fmt;
use std::str::FromStr;

use super::der::{self, Reader};
use super::{KeyError, oid};

/// An elliptic curve that OMS signs with (OMS v1.0 requires these three), each with the hash of its own size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Curve {
    /// NIST P-256 (`secp256r1`, `prime256v1`), signed with SHA-256.
    P256,
    /// NIST P-384 (`secp384r1`), signed with SHA-384.
    P384,
    /// NIST P-521 (`secp521r1`), signed with SHA-512.
    P521,
}

impl Curve {
    /// Every curve, smallest first.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The name as NIST writes it: `P-256`, `P-384` or `P-521`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The hash that signatures of this curve are made over: `SHA-256`, `SHA-384` or `SHA-512`.
    #[must_use]
    pub const fn hash_name(self) -> &'static str {
        match self {
            Self::P256 => "SHA-256",
            Self::P384 => "SHA-384",
            Self::P521 => "SHA-512",
        }
    }

    /// The hash of `message` that a signature of this curve is made over, for signers that are only given hashes.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn hash(self, message: &[u8]) -> Vec<u8> {
        use sha2::Digest as _;
        match self {
            Self::P256 => sha2::Sha256::digest(message).to_vec(),
            Self::P384 => sha2::Sha384::digest(message).to_vec(),
            Self::P521 => sha2::Sha512::digest(message).to_vec(),
        }
    }

    /// Bytes of one coordinate, and of the secret scalar.
    pub(super) const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Content bytes of the object identifier that names the curve (RFC 5480, section 2.1.1.1).
    pub(super) const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => oid::PRIME256V1,
            Self::P384 => oid::SECP384R1,
            Self::P521 => oid::SECP521R1,
        }
    }

    /// Reads ECParameters (RFC 3279, section 2.3.5): a name, or the numbers of one of the three curves spelled out.
    ///
    /// Spelled-out numbers are where CVE-2020-0601 came in: a forger picks his own base point. So nothing is computed
    /// with them; they must all be the known curve's, and the named curve takes their place.
    pub(super) fn from_parameters(tag: u8, content: &[u8]) -> Result<Self, KeyError> {
        match tag {
            der::OID => Self::ALL
                .into_iter()
                .find(|curve| curve.oid() == content)
                .ok_or_else(|| KeyError::UnsupportedCurve { found: oid::name(content) }),
            der::SEQUENCE => {
                let numbers = Numbers::read(Reader::new(content))?.ok_or(KeyError::UnknownParameters)?;
                Self::ALL.into_iter().find(|&curve| numbers.are(curve)).ok_or(KeyError::UnknownParameters)
            }
            _ => Err(KeyError::MissingCurve),
        }
    }

    pub(super) fn domain(self) -> DomainRef {
        match self {
            Self::P256 => P256.borrow(),
            Self::P384 => P384.borrow(),
            Self::P521 => P521.borrow(),
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads any of the names in use, in any case: `P-256`, `p256`, `secp256r1`, `prime256v1`, `nistp256`, ...
impl FromStr for Curve {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.to_ascii_lowercase().as_str() {
            "p-256" | "p256" | "secp256r1" | "prime256v1" | "nistp256" | "nist-p256" => Ok(Self::P256),
            "p-384" | "p384" | "secp384r1" | "nistp384" | "nist-p384" => Ok(Self::P384),
            "p-521" | "p521" | "secp521r1" | "nistp521" | "nist-p521" => Ok(Self::P521),
            _ => Err(KeyError::UnsupportedCurve { found: text.chars().take(40).collect() }),
        }
    }
}

/// The numbers of a file's SpecifiedECDomain, big-endian without leading zeros, not yet believed.
struct Numbers<'a> {
    p: &'a [u8],
    a: &'a [u8],
    b: &'a [u8],
    base: &'a [u8],
    n: &'a [u8],
    cofactor: Option<&'a [u8]>,
}

impl<'a> Numbers<'a> {
    /// `None` for a field that is not a prime field, which none of the three curves has.
    fn read(mut parameters: Reader<'a>) -> Result<Option<Self>, der::DerFault> {
        // SEC 1 has versions 1 to 3, which differ in what the seed promises. The numbers speak for themselves here.
        parameters.unsigned()?;
        let mut field = parameters.sequence()?;
        if field.value(der::OID)? != oid::PRIME_FIELD {
            return Ok(None);
        }
        let p = field.unsigned()?;
        field.finish()?;
        let mut equation = parameters.sequence()?;
        // FieldElement is an OCTET STRING of the field's length; old OpenSSL left the leading zeros out.
        let a = without_zeros(equation.value(der::OCTET_STRING)?);
        let b = without_zeros(equation.value(der::OCTET_STRING)?);
        equation.optional(der::BIT_STRING)?;
        equation.finish()?;
        let base = parameters.value(der::OCTET_STRING)?;
        let n = parameters.unsigned()?;
        let cofactor = if parameters.is_empty() { None } else { Some(parameters.unsigned()?) };
        parameters.finish()?;
        Ok(Some(Self { p, a, b, base, n, cofactor }))
    }

    fn are(&self, curve: Curve) -> bool {
        let known = curve.domain();
        let odd = known.y.last().is_some_and(|byte| byte & 1 == 1);
        let base = match self.base.split_first() {
            Some((2 | 3, _)) => self.base == [&[2 + u8::from(odd)], known.x].concat(),
            Some((4, _)) => self.base == [&[4], known.x, known.y].concat(),
            Some((6 | 7, _)) => self.base == [&[6 + u8::from(odd)], known.x, known.y].concat(),
            _ => false,
        };
        base && self.p == without_zeros(known.p)
            && self.a == without_zeros(known.a)
            && self.b == without_zeros(known.b)
            && self.n == without_zeros(known.n)
            && self.cofactor.is_none_or(|h| h == [1])
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros..]
}

/// y^2 = x^3 + ax + b over the integers modulo `p`; the base point `(x, y)` has order `n` and cofactor 1.
struct Domain<const N: usize> {
    p: [u8; N],
    a: [u8; N],
    b: [u8; N],
    x: [u8; N],
    y: [u8; N],
    n: [u8; N],
}

pub(super) struct DomainRef {
    pub(super) p: &'static [u8],
    pub(super) a: &'static [u8],
    pub(super) b: &'static [u8],
    pub(super) x: &'static [u8],
    pub(super) y: &'static [u8],
    pub(super) n: &'static [u8],
}

impl<const N: usize> Domain<N> {
    fn borrow(&'static self) -> DomainRef {
        DomainRef { p: &self.p, a: &self.a, b: &self.b, x: &self.x, y: &self.y, n: &self.n }
    }
}

// NIST SP 800-186, section 3.2.1.
static P256: Domain<32> = Domain {
    p: unhex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"),
    a: unhex("ffffffff00000001000000000000000000000000fffffffffffffffffffffffc"),
    b: unhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b"),
    x: unhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
    y: unhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    n: unhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
};

static P384: Domain<48> = Domain {
    p: unhex("fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff"),
    a: unhex("fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc"),
    b: unhex("b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef"),
    x: unhex("aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"),
    y: unhex("3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"),
    n: unhex("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973"),
};

static P521: Domain<66> = Domain {
    p: unhex(concat!(
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    )),
    a: unhex(concat!(
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc"
    )),
    b: unhex(concat!(
        "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109",
        "e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00"
    )),
    x: unhex(concat!(
        "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3d",
        "baa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66"
    )),
    y: unhex(concat!(
        "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e66",
        "2c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650"
    )),
    n: unhex(concat!(
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
    )),
};

/// Bytes from hexadecimal, at compile time, where a wrong length is an error of the compiler.
const fn unhex<const N: usize>(text: &str) -> [u8; N] {
    const fn nibble(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    let text = text.as_bytes();
    assert!(text.len() == 2 * N);
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_use_is_read_and_others_are_refused() {
        for (curve, names) in [
            (Curve::P256, ["p256", "P-256", "prime256v1", "SECP256R1"]),
            (Curve::P384, ["p384", "P-384", "secp384r1", "nistP384"]),
            (Curve::P521, ["p521", "P-521", "secp521r1", "NIST-P521"]),
        ] {
            for name in names {
                assert_eq!(name.parse(), Ok(curve), "{name}");
            }
            assert_eq!(curve.to_string().parse(), Ok(curve));
        }
        for name in ["", "p-512", "secp256k1", "256", "P-256 "] {
            assert_eq!(name.parse::<Curve>(), Err(KeyError::UnsupportedCurve { found: name.to_owned() }));
        }
    }
}
