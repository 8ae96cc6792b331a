//! Private keys under a password: PKCS#8 with PBES2 (RFC 8018), and the `Proc-Type: 4,ENCRYPTED` form of old OpenSSL.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use md5::{Digest as _, Md5};
use pbkdf2::pbkdf2_hmac;
use zeroize::Zeroizing;

use super::der::{self, Reader};
use super::{KeyError, PasswordError, oid, pem};

/// What a key written here costs to try a password on: the count that the OWASP Password Storage Cheat Sheet (2023)
/// gives for PBKDF2-HMAC-SHA256.
const ITERATIONS: u32 = 600_000;

/// The most PBKDF2 iterations that a file may ask for: some seconds of work, and 16 times what [`ITERATIONS`] asks.
const MAX_ITERATIONS: u64 = 10_000_000;

/// The most memory that scrypt may take (128 N r), 16 times what OpenSSL's own default takes. Its time grows with this
/// and with p, hence the cap on the product.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;
const MAX_SCRYPT_R: u64 = 64;
const MAX_SCRYPT_P: u64 = 16;
const MAX_SCRYPT_WORK: u64 = 1 << 30;

type Ask<'a> = dyn FnMut() -> Result<Zeroizing<String>, PasswordError> + 'a;

/// The block ciphers that open a key here, all in CBC mode.
#[derive(Clone, Copy)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl Cipher {
    fn from_oid(found: &[u8]) -> Result<Self, KeyError> {
        match found {
            oid::AES_128_CBC => Ok(Self::Aes128),
            oid::AES_192_CBC => Ok(Self::Aes192),
            oid::AES_256_CBC => Ok(Self::Aes256),
            oid::DES_EDE3_CBC => Ok(Self::TripleDes),
            _ => Err(KeyError::UnsupportedEncryption { found: oid::name(found) }),
        }
    }

    /// By the name in a `DEK-Info` header.
    fn from_name(found: &str) -> Result<Self, KeyError> {
        match found {
            "AES-128-CBC" => Ok(Self::Aes128),
            "AES-192-CBC" => Ok(Self::Aes192),
            "AES-256-CBC" => Ok(Self::Aes256),
            "DES-EDE3-CBC" => Ok(Self::TripleDes),
            _ => Err(KeyError::UnsupportedEncryption { found: found.chars().take(40).collect() }),
        }
    }

    const fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    const fn iv_len(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            Self::TripleDes => 8,
        }
    }

    /// Decrypts in place and takes the padding off. Padding that makes no sense means a wrong key.
    fn decrypt(self, key: &[u8], iv: &[u8], data: &mut Zeroizing<Vec<u8>>) -> Result<(), KeyError> {
        fn run<D: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<usize> {
            let plain = D::new_from_slices(key, iv).ok()?.decrypt_padded::<Pkcs7>(data).ok()?;
            Some(plain.len())
        }
        let len = match self {
            Self::Aes128 => run::<cbc::Decryptor<aes::Aes128>>(key, iv, data),
            Self::Aes192 => run::<cbc::Decryptor<aes::Aes192>>(key, iv, data),
            Self::Aes256 => run::<cbc::Decryptor<aes::Aes256>>(key, iv, data),
            Self::TripleDes => run::<cbc::Decryptor<des::TdesEde3>>(key, iv, data),
        };
        data.truncate(len.ok_or(KeyError::WrongPassword)?);
        Ok(())
    }
}

/// The hash under PBKDF2's HMAC.
#[derive(Clone, Copy)]
enum Prf {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// How the file says to turn a password into a key. Its costs are within the caps.
enum Kdf<'a> {
    Pbkdf2 { prf: Prf, salt: &'a [u8], iterations: u32 },
    Scrypt { params: scrypt::Params, salt: &'a [u8] },
}

impl<'a> Kdf<'a> {
    fn read(mut function: Reader<'a>, key_len: usize) -> Result<Self, KeyError> {
        let found = function.value(der::OID)?;
        if found != oid::PBKDF2 && found != oid::SCRYPT {
            return Err(KeyError::UnsupportedEncryption { found: oid::name(found) });
        }
        let mut parameters = function.sequence()?;
        function.finish()?;
        let salt = parameters.value(der::OCTET_STRING)?;
        let kdf = if found == oid::PBKDF2 {
            let iterations = capped("PBKDF2 iterations", parameters.number()?, MAX_ITERATIONS)?;
            must_be(key_len, &mut parameters)?;
            Self::Pbkdf2 { prf: prf(&mut parameters)?, salt, iterations }
        } else {
            let (n, r, p) = (parameters.number()?, parameters.number()?, parameters.number()?);
            must_be(key_len, &mut parameters)?;
            Self::Scrypt { params: scrypt_params(n, r, p)?, salt }
        };
        parameters.finish()?;
        Ok(kdf)
    }

    fn derive(&self, password: &str, key: &mut [u8]) -> Result<(), KeyError> {
        let password = password.as_bytes();
        match *self {
            Self::Pbkdf2 { prf, salt, iterations } => match prf {
                Prf::Sha1 => pbkdf2_hmac::<sha1::Sha1>(password, salt, iterations, key),
                Prf::Sha256 => pbkdf2_hmac::<sha2::Sha256>(password, salt, iterations, key),
                Prf::Sha384 => pbkdf2_hmac::<sha2::Sha384>(password, salt, iterations, key),
                Prf::Sha512 => pbkdf2_hmac::<sha2::Sha512>(password, salt, iterations, key),
            },
            Self::Scrypt { ref params, salt } => {
                scrypt::scrypt(password, salt, params, key).map_err(|_| unsupported("scrypt"))?;
            }
        }
        Ok(())
    }
}

/// Opens EncryptedPrivateKeyInfo. The password is asked for only once all else is known to be supported.
pub(super) fn open_pkcs8(der: &[u8], password: &mut Ask<'_>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut outer = der::whole_sequence(der)?;
    let mut scheme = outer.sequence()?;
    let mut data = Zeroizing::new(outer.value(der::OCTET_STRING)?.to_vec());
    outer.finish()?;

    let found = scheme.value(der::OID)?;
    if found != oid::PBES2 {
        return Err(KeyError::UnsupportedEncryption { found: oid::name(found) });
    }
    let mut parameters = scheme.sequence()?;
    scheme.finish()?;
    let function = parameters.sequence()?;
    let mut encryption = parameters.sequence()?;
    parameters.finish()?;
    let cipher = Cipher::from_oid(encryption.value(der::OID)?)?;
    let iv = encryption.value(der::OCTET_STRING)?;
    encryption.finish()?;
    if iv.len() != cipher.iv_len() {
        return Err(unsupported("an initialization vector of the wrong length"));
    }
    let kdf = Kdf::read(function, cipher.key_len())?;

    let mut key = Zeroizing::new(vec![0; cipher.key_len()]);
    kdf.derive(&password()?, &mut key)?;
    cipher.decrypt(&key, iv, &mut data)?;
    Ok(data)
}

/// Opens a block with `Proc-Type: 4,ENCRYPTED` and `DEK-Info: cipher,iv` headers (`openssl ec -aes256`).
pub(super) fn open_legacy(block: &pem::Block<'_>, password: &mut Ask<'_>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (cipher, iv) = block.header("DEK-Info").unwrap_or_default().split_once(',').unwrap_or_default();
    if cipher.is_empty() {
        return Err(unsupported("no cipher named (DEK-Info)"));
    }
    let cipher = Cipher::from_name(cipher.trim())?;
    let iv = unhex(iv.trim()).filter(|iv| iv.len() == cipher.iv_len());
    let iv = iv.ok_or_else(|| unsupported("an initialization vector of the wrong length"))?;
    let mut data = block.decode()?;

    // EVP_BytesToKey: MD5 of the last digest, the password and the salt, until there are enough bytes. The salt is the
    // first half of an AES initialization vector, the whole of a DES one.
    let password = password()?;
    let mut key = Zeroizing::new(Vec::with_capacity(48));
    let mut digest = Zeroizing::new([0; 16]);
    while key.len() < cipher.key_len() {
        let mut md5 = Md5::new();
        if !key.is_empty() {
            md5.update(*digest);
        }
        md5.update(password.as_bytes());
        md5.update(&iv[..8]);
        *digest = md5.finalize().into();
        key.extend_from_slice(&*digest);
    }
    cipher.decrypt(&key[..cipher.key_len()], &iv, &mut data)?;
    Ok(data)
}

/// Makes EncryptedPrivateKeyInfo, laid out as OpenSSL does.
pub(super) fn seal(plain: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| KeyError::Randomness(error.to_string()))?;
    let (salt, iv) = random.split_at(16);
    let mut key = Zeroizing::new([0; 32]);
    Kdf::Pbkdf2 { prf: Prf::Sha256, salt, iterations: ITERATIONS }.derive(password, &mut *key)?;

    // Room for the padding. Neither length can be wrong.
    let mut data = Zeroizing::new(vec![0; plain.len() + 16]);
    data[..plain.len()].copy_from_slice(plain);
    let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(&*key, iv).map_err(|_| unsupported("AES-256-CBC"))?;
    let encrypted = cipher.encrypt_padded::<Pkcs7>(&mut data, plain.len()).map_err(|_| unsupported("AES-256-CBC"))?;

    // Three digits, the first below 0x80: an INTEGER in its shortest form.
    const _: () = assert!(ITERATIONS >> 16 > 0 && ITERATIONS >> 23 == 0);
    let iterations = der::write(der::INTEGER, &[&ITERATIONS.to_be_bytes()[1..]]);
    let prf = der::write(der::SEQUENCE, &[&der::write(der::OID, &[oid::HMAC_SHA256]), &[der::NULL, 0]]);
    let parameters = der::write(der::SEQUENCE, &[&der::write(der::OCTET_STRING, &[salt]), &iterations, &prf]);
    let function = der::write(der::SEQUENCE, &[&der::write(der::OID, &[oid::PBKDF2]), &parameters]);
    let encryption = der::write(der::OID, &[oid::AES_256_CBC]);
    let encryption = der::write(der::SEQUENCE, &[&encryption, &der::write(der::OCTET_STRING, &[iv])]);
    let parameters = der::write(der::SEQUENCE, &[&function, &encryption]);
    let scheme = der::write(der::SEQUENCE, &[&der::write(der::OID, &[oid::PBES2]), &parameters]);
    Ok(der::write(der::SEQUENCE, &[&scheme, &der::write(der::OCTET_STRING, &[encrypted])]))
}

fn unsupported(found: &str) -> KeyError {
    KeyError::UnsupportedEncryption { found: found.to_owned() }
}

/// A count of at least one and at most `cap`.
fn capped(what: &'static str, found: u64, cap: u64) -> Result<u32, KeyError> {
    match u32::try_from(found) {
        Ok(0) => Err(KeyError::UnsupportedEncryption { found: format!("0 {what}") }),
        Ok(count) if found <= cap => Ok(count),
        _ => Err(KeyError::TooCostly { what, found, cap }),
    }
}

/// The optional keyLength, which can only repeat what the cipher needs.
fn must_be(key_len: usize, parameters: &mut Reader<'_>) -> Result<(), KeyError> {
    if parameters.next_is(der::INTEGER) && parameters.number()? != key_len as u64 {
        return Err(unsupported("a key length that is not its cipher's"));
    }
    Ok(())
}

/// The optional prf; HMAC-SHA1 if there is none (RFC 8018, appendix A.2).
fn prf(parameters: &mut Reader<'_>) -> Result<Prf, KeyError> {
    if parameters.is_empty() {
        return Ok(Prf::Sha1);
    }
    let mut algorithm = parameters.sequence()?;
    let prf = match algorithm.value(der::OID)? {
        oid::HMAC_SHA1 => Prf::Sha1,
        oid::HMAC_SHA256 => Prf::Sha256,
        oid::HMAC_SHA384 => Prf::Sha384,
        oid::HMAC_SHA512 => Prf::Sha512,
        other => return Err(KeyError::UnsupportedEncryption { found: oid::name(other) }),
    };
    if algorithm.optional(der::NULL)?.is_some_and(|content| !content.is_empty()) {
        return Err(der::DerFault::Length.into());
    }
    algorithm.finish()?;
    Ok(prf)
}

fn scrypt_params(n: u64, r: u64, p: u64) -> Result<scrypt::Params, KeyError> {
    let r = capped("scrypt block size r", r, MAX_SCRYPT_R)?;
    let p = capped("scrypt parallelization p", p, MAX_SCRYPT_P)?;
    let bytes = n.saturating_mul(128 * u64::from(r));
    if bytes > MAX_SCRYPT_BYTES {
        return Err(KeyError::TooCostly { what: "scrypt memory in bytes", found: bytes, cap: MAX_SCRYPT_BYTES });
    }
    let work = bytes * u64::from(p);
    if work > MAX_SCRYPT_WORK {
        return Err(KeyError::TooCostly { what: "scrypt work in bytes", found: work, cap: MAX_SCRYPT_WORK });
    }
    if !n.is_power_of_two() || n == 1 {
        return Err(KeyError::UnsupportedEncryption { found: format!("scrypt cost {n}") });
    }
    // A power of two below 2^32 has less than 32 trailing zeros.
    scrypt::Params::new(n.trailing_zeros() as u8, r, p).map_err(|_| unsupported("scrypt parameters out of range"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    // Each digit is below 16.
    Some(pairs.iter().map(|&[high, low]| (high << 4 | low) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(value: u64) -> Vec<u8> {
        let digits = value.to_be_bytes();
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count().min(7);
        let sign: &[u8] = if digits[zeros] >= 0x80 { &[0] } else { &[] };
        der::write(der::INTEGER, &[sign, &digits[zeros..]]).to_vec()
    }

    fn function(name: &[u8], numbers: &[u64], rest: &[u8]) -> Vec<u8> {
        let numbers: Vec<u8> = numbers.iter().flat_map(|&number| integer(number)).collect();
        let parameters = der::write(der::SEQUENCE, &[&[der::OCTET_STRING, 2, 1, 2], &numbers, rest]);
        der::write(der::SEQUENCE, &[&der::write(der::OID, &[name]), &parameters]).to_vec()
    }

    fn read(name: &[u8], numbers: &[u64]) -> Option<KeyError> {
        Kdf::read(der::whole_sequence(&function(name, numbers, &[])).unwrap(), 32).err()
    }

    fn too_costly(what: &'static str, found: u64, cap: u64) -> Option<KeyError> {
        Some(KeyError::TooCostly { what, found, cap })
    }

    #[test]
    fn iterations_are_capped() {
        for allowed in [1, 2048, 600_000, 10_000_000] {
            assert_eq!(read(oid::PBKDF2, &[allowed]), None);
            assert_eq!(read(oid::PBKDF2, &[allowed, 32]), None);
        }
        for refused in [10_000_001, 1 << 32, u64::MAX] {
            assert_eq!(read(oid::PBKDF2, &[refused]), too_costly("PBKDF2 iterations", refused, 10_000_000));
        }
        assert!(matches!(read(oid::PBKDF2, &[0]), Some(KeyError::UnsupportedEncryption { .. })));
        assert!(matches!(read(oid::PBKDF2, &[1, 16]), Some(KeyError::UnsupportedEncryption { .. })));
        assert_eq!(read(oid::PBKDF2, &[]), Some(KeyError::Malformed(der::DerFault::Truncated)));
    }

    #[test]
    fn scrypt_is_capped_in_memory_and_time() {
        const MEMORY: &str = "scrypt memory in bytes";
        for allowed in [[2, 1, 1], [16_384, 8, 1], [1 << 18, 8, 1], [1 << 18, 8, 4], [1 << 15, 64, 4], [1 << 17, 1, 16]]
        {
            assert_eq!(read(oid::SCRYPT, &allowed), None, "{allowed:?}");
        }
        assert_eq!(read(oid::SCRYPT, &[16_384, 8, 1, 32]), None);
        assert_eq!(read(oid::SCRYPT, &[1 << 19, 8, 1]), too_costly(MEMORY, 512 << 20, 256 << 20));
        assert_eq!(read(oid::SCRYPT, &[1 << 63, 8, 1]), too_costly(MEMORY, u64::MAX, 256 << 20));
        assert_eq!(read(oid::SCRYPT, &[1 << 18, 8, 5]), too_costly("scrypt work in bytes", 5 << 28, 1 << 30));
        assert_eq!(read(oid::SCRYPT, &[2, 65, 1]), too_costly("scrypt block size r", 65, 64));
        assert_eq!(read(oid::SCRYPT, &[2, u64::MAX, 1]), too_costly("scrypt block size r", u64::MAX, 64));
        assert_eq!(read(oid::SCRYPT, &[2, 1, 17]), too_costly("scrypt parallelization p", 17, 16));
        for senseless in [[0, 8, 1], [1, 8, 1], [3, 8, 1], [2, 0, 1], [2, 8, 0]] {
            assert!(matches!(read(oid::SCRYPT, &senseless), Some(KeyError::UnsupportedEncryption { .. })));
        }
        assert!(matches!(read(oid::SCRYPT, &[2, 8, 1, 16]), Some(KeyError::UnsupportedEncryption { .. })));
    }

    #[test]
    fn a_pseudorandom_function_is_read_to_its_end() {
        let read = |null: &[u8]| {
            let prf = der::write(der::SEQUENCE, &[&der::write(der::OID, &[oid::HMAC_SHA512]), null]);
            Kdf::read(der::whole_sequence(&function(oid::PBKDF2, &[1], &prf)).unwrap(), 32).err()
        };
        assert_eq!(read(&[der::NULL, 0]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[der::NULL, 1, 0]), Some(KeyError::Malformed(der::DerFault::Length)));
        assert_eq!(read(&[der::NULL, 0, 0]), Some(KeyError::Malformed(der::DerFault::TrailingData)));
    }

    #[test]
    fn hexadecimal_is_whole_bytes() {
        assert_eq!(unhex("00fF10"), Some(vec![0, 0xff, 0x10]));
        assert_eq!(unhex(""), Some(vec![]));
        for broken in ["0", "0g", "+1", "0 1"] {
            assert_eq!(unhex(broken), None);
        }
    }
}
