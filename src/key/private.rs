//! Private keys.

use std::fmt;

use p256::ecdsa::signature::Signer as _;
use zeroize::Zeroizing;

use super::der::{self, DerFault, Reader};
use super::public::{algorithm, curve_of_algorithm};
use super::{Curve, KeyError, PasswordError, PublicKey, encrypted, pem};

/// A key to sign with. Its secret is wiped from memory when it is dropped, and no message or debug output shows it.
pub struct PrivateKey(Secret);

// Each of these wipes itself on drop.
enum Secret {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl PrivateKey {
    /// Reads a private key in any form that OpenSSL writes as PEM: SEC1 or PKCS#8, plain or encrypted, with the curve
    /// named or spelled out. `password` is called, once, only if the key is encrypted in a way that can be decrypted.
    ///
    /// # Errors
    /// If the file holds something else, several private keys, a key that is not on one of the three curves, one that is
    /// malformed or contradicts itself, or one that the password does not open.
    pub fn from_pem(
        pem: &[u8],
        password: &mut dyn FnMut() -> Result<Zeroizing<String>, PasswordError>,
    ) -> Result<Self, KeyError> {
        let blocks = pem::blocks(pem)?;
        let key = private_block(&blocks)?;
        // `openssl ecparam -genkey` puts the curve into a block of its own, before the key.
        let curve = match blocks.iter().find(|block| block.is("EC PARAMETERS")) {
            Some(block) => Some(curve_of_parameters(&block.decode()?)?),
            None => None,
        };
        if key.is("ENCRYPTED PRIVATE KEY") {
            let der = encrypted::open_pkcs8(&key.decode()?, password)?;
            return Self::from_pkcs8_der(&der, curve).map_err(wrong_password);
        }
        let parse = if key.is("PRIVATE KEY") { Self::from_pkcs8_der } else { Self::from_sec1_der };
        if is_encrypted(key) {
            let der = encrypted::open_legacy(key, password)?;
            return parse(&der, curve).map_err(wrong_password);
        }
        parse(&key.decode()?, curve)
    }

    /// Whether the file holds a private key that needs a password. What is no private key at all needs none.
    #[must_use]
    pub fn is_encrypted(pem: &[u8]) -> bool {
        pem::blocks(pem).is_ok_and(|blocks| private_block(&blocks).is_ok_and(is_encrypted))
    }

    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// If the operating system has no randomness to give.
    pub fn generate(curve: Curve) -> Result<Self, KeyError> {
        // A draw fails if it is zero or not below the order: for P-256, the worst, once in 2^32 draws.
        const DRAWS: usize = 8;
        let mut scalar = Zeroizing::new(vec![0; curve.field_len()]);
        for _ in 0..DRAWS {
            getrandom::fill(&mut scalar).map_err(|error| KeyError::Randomness(error.to_string()))?;
            if curve == Curve::P521 {
                // 521 bits are 65 bytes and one bit.
                scalar[0] &= 1;
            }
            if let Ok(key) = Self::from_scalar(curve, &scalar) {
                return Ok(key);
            }
        }
        Err(KeyError::Randomness(format!("{DRAWS} draws in a row were out of range")))
    }

    /// Reads ECPrivateKey (RFC 5915). `outer` is the curve if the text around it names one.
    fn from_sec1_der(sec1: &[u8], outer: Option<Curve>) -> Result<Self, KeyError> {
        let mut key = der::whole_sequence(sec1)?;
        if key.number()? != 1 {
            return Err(DerFault::Version.into());
        }
        let scalar = key.value(der::OCTET_STRING)?;
        let inner = match key.optional(der::CONTEXT_0)? {
            Some(parameters) => Some(curve_of_parameters(parameters)?),
            None => None,
        };
        let public = match key.optional(der::CONTEXT_1)? {
            Some(tagged) => {
                let mut tagged = Reader::new(tagged);
                let public = der::bits(tagged.value(der::BIT_STRING)?)?;
                tagged.finish()?;
                Some(public)
            }
            None => None,
        };
        key.finish()?;
        let curve = agreed(outer, inner)?.ok_or(KeyError::MissingCurve)?;
        let key = Self::from_scalar(curve, scalar)?;
        key.must_match(public)?;
        Ok(key)
    }

    /// Reads PrivateKeyInfo (RFC 5208) and OneAsymmetricKey (RFC 5958). `outer` as above.
    fn from_pkcs8_der(pkcs8: &[u8], outer: Option<Curve>) -> Result<Self, KeyError> {
        const ATTRIBUTES: u8 = der::CONTEXT_0;
        let mut key = der::whole_sequence(pkcs8)?;
        if key.number()? > 1 {
            return Err(DerFault::Version.into());
        }
        let curve = curve_of_algorithm(key.sequence()?)?;
        let sec1 = key.value(der::OCTET_STRING)?;
        key.optional(ATTRIBUTES)?;
        let public = key.optional(der::CONTEXT_1_PRIMITIVE)?.map(der::bits).transpose()?;
        key.finish()?;
        let key = Self::from_sec1_der(sec1, agreed(outer, Some(curve))?)?;
        key.must_match(public)?;
        Ok(key)
    }

    fn from_scalar(curve: Curve, scalar: &[u8]) -> Result<Self, KeyError> {
        let invalid = KeyError::InvalidScalar { curve };
        // RFC 5915 fixes the length, but some writers leave leading zeros out.
        let Some(zeros) = curve.field_len().checked_sub(scalar.len()) else { return Err(invalid) };
        let mut padded = Zeroizing::new(vec![0; curve.field_len()]);
        padded[zeros..].copy_from_slice(scalar);
        let secret = match curve {
            Curve::P256 => p256::ecdsa::SigningKey::from_slice(&padded).map(Secret::P256),
            Curve::P384 => p384::ecdsa::SigningKey::from_slice(&padded).map(Secret::P384),
            Curve::P521 => p521::ecdsa::SigningKey::from_slice(&padded).map(Secret::P521),
        };
        secret.map(Self).map_err(|_| invalid)
    }

    /// The file may carry the public key along. If it is another's, someone mixed up or tampered with the file.
    fn must_match(&self, point: Option<&[u8]>) -> Result<(), KeyError> {
        match point {
            Some(point) if PublicKey::from_point(self.curve(), point)? != self.public_key() => {
                Err(KeyError::PublicKeyMismatch)
            }
            _ => Ok(()),
        }
    }

    /// The curve that the key is on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.0 {
            Secret::P256(_) => Curve::P256,
            Secret::P384(_) => Curve::P384,
            Secret::P521(_) => Curve::P521,
        }
    }

    /// The public half, which the others verify with.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::P256(key) => PublicKey::of256(*key.verifying_key()),
            Secret::P384(key) => PublicKey::of384(*key.verifying_key()),
            Secret::P521(key) => PublicKey::of521(*key.verifying_key()),
        }
    }

    /// DER ECDSA signature over the curve's own hash of `message`. The same message gives the same signature (RFC 6979),
    /// so that no weak randomness can give the key away.
    ///
    /// # Errors
    /// If the arithmetic fails, which no valid key and message are known to bring about.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let der = match &self.0 {
            Secret::P256(key) => key.try_sign(message).map(|s: p256::ecdsa::Signature| s.to_der().as_bytes().to_vec()),
            Secret::P384(key) => key.try_sign(message).map(|s: p384::ecdsa::Signature| s.to_der().as_bytes().to_vec()),
            Secret::P521(key) => key.try_sign(message).map(|s: p521::ecdsa::Signature| s.to_der().as_bytes().to_vec()),
        };
        der.map_err(|_| KeyError::Signing)
    }

    /// Writes PKCS#8 as OpenSSL does: `BEGIN PRIVATE KEY`, or with a password `BEGIN ENCRYPTED PRIVATE KEY`
    /// (PBES2: PBKDF2-HMAC-SHA256 with 600,000 iterations, AES-256-CBC).
    ///
    /// # Errors
    /// If the password is empty, or the operating system has no randomness for the salt.
    pub fn to_pem(&self, password: Option<&str>) -> Result<Zeroizing<String>, KeyError> {
        let der = self.to_pkcs8_der();
        match password {
            None => Ok(pem::write("PRIVATE KEY", &der)),
            Some("") => Err(KeyError::EmptyPassword),
            Some(password) => Ok(pem::write("ENCRYPTED PRIVATE KEY", &encrypted::seal(&der, password)?)),
        }
    }

    fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let scalar = match &self.0 {
            Secret::P256(key) => der::write(der::OCTET_STRING, &[&Zeroizing::new(key.to_bytes())[..]]),
            Secret::P384(key) => der::write(der::OCTET_STRING, &[&Zeroizing::new(key.to_bytes())[..]]),
            Secret::P521(key) => der::write(der::OCTET_STRING, &[&Zeroizing::new(key.to_bytes())[..]]),
        };
        let public = der::write(der::BIT_STRING, &[&[0], &self.public_key().to_point()]);
        let public = der::write(der::CONTEXT_1, &[&public]);
        let sec1 = der::write(der::SEQUENCE, &[&[der::INTEGER, 1, 1], &scalar, &public]);
        let sec1 = der::write(der::OCTET_STRING, &[&sec1]);
        der::write(der::SEQUENCE, &[&[der::INTEGER, 1, 0], &algorithm(self.curve()), &sec1])
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(secret of {:?})", self.public_key())
    }
}

/// After decryption with a wrong key, chance makes valid padding once in 256 times, but not valid DER.
fn wrong_password(error: KeyError) -> KeyError {
    if matches!(error, KeyError::Malformed(_)) { KeyError::WrongPassword } else { error }
}

fn is_encrypted(block: &pem::Block<'_>) -> bool {
    block.is("ENCRYPTED PRIVATE KEY")
        || block.header("Proc-Type").is_some_and(|value| value.split(',').any(|part| part.trim() == "ENCRYPTED"))
}

fn agreed(first: Option<Curve>, second: Option<Curve>) -> Result<Option<Curve>, KeyError> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(KeyError::ContradictoryCurves { first, second }),
        _ => Ok(first.or(second)),
    }
}

fn curve_of_parameters(der: &[u8]) -> Result<Curve, KeyError> {
    let mut parameters = Reader::new(der);
    let (tag, content) = parameters.any()?;
    parameters.finish()?;
    Curve::from_parameters(tag, content)
}

/// The one block of a file that is a private key of a kind that can be read.
fn private_block<'a, 'b>(blocks: &'b [pem::Block<'a>]) -> Result<&'b pem::Block<'a>, KeyError> {
    let mut keys = blocks.iter().filter(|block| block.ends_with("PRIVATE KEY"));
    let Some(key) = keys.next() else { return Err(not_a_private_key(blocks)) };
    match keys.count() {
        0 => {}
        others => return Err(KeyError::SeveralKeys { count: others + 1 }),
    }
    if ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY"].iter().any(|label| key.is(label)) {
        return Ok(key);
    }
    for algorithm in ["RSA", "DSA"] {
        if key.is(&format!("{algorithm} PRIVATE KEY")) {
            return Err(KeyError::UnsupportedAlgorithm { found: algorithm.to_owned() });
        }
    }
    let remedy = if key.is("OPENSSH PRIVATE KEY") {
        "convert a copy of it with `ssh-keygen -p -m PKCS8 -f COPY`"
    } else {
        "convert it with `openssl pkey -in OLD.pem -out NEW.pem`"
    };
    Err(KeyError::NotAPrivateKey { found: key.label(), remedy })
}

fn not_a_private_key(blocks: &[pem::Block<'_>]) -> KeyError {
    let found = |end| blocks.iter().find(|block| block.ends_with(end)).map(pem::Block::label);
    let remedy = "pass the private key that belongs to it, which is in another file";
    if let Some(found) = found("PUBLIC KEY").or_else(|| found("CERTIFICATE")) {
        return KeyError::NotAPrivateKey { found, remedy };
    }
    let found = blocks.first().map(pem::Block::label).unwrap_or_default();
    KeyError::NotAPrivateKey {
        found,
        remedy: "pass the file that `openssl genpkey` or `openssl ecparam -genkey` wrote",
    }
}
