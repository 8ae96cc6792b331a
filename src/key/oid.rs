//! Object identifiers of key files (as DER content bytes), and the names by which messages call them.

pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
pub(super) const PRIME_FIELD: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 1, 1];
pub(super) const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
pub(super) const SECP384R1: &[u8] = &[0x2b, 0x81, 4, 0, 34];
pub(super) const SECP521R1: &[u8] = &[0x2b, 0x81, 4, 0, 35];

pub(super) const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
pub(super) const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
pub(super) const SCRYPT: &[u8] = &[0x2b, 6, 1, 4, 1, 0xda, 0x47, 4, 11];
pub(super) const HMAC_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7];
pub(super) const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
pub(super) const HMAC_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10];
pub(super) const HMAC_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11];
pub(super) const AES_128_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2];
pub(super) const AES_192_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22];
pub(super) const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
pub(super) const DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7];

/// What people call it, for a message; the dotted numbers if it is none that a key file is likely to hold.
pub(crate) fn name(oid: &[u8]) -> String {
    let dotted = dotted(oid);
    let name = match dotted.as_str() {
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.113549.1.3.1" | "1.2.840.10046.2.1" => "Diffie-Hellman",
        "1.3.101.110" => "X25519",
        "1.3.101.111" => "X448",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "1.3.132.1.12" => "ECDH",
        "1.2.156.10197.1.301" => "SM2",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        "1.2.840.10045.3.1.1" => "P-192 (prime192v1)",
        "1.3.132.0.10" => "secp256k1",
        "1.3.132.0.33" => "P-224 (secp224r1)",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.8" => "brainpoolP256t1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.12" => "brainpoolP384t1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        "1.3.36.3.3.2.8.1.1.14" => "brainpoolP512t1",
        "1.2.840.113549.1.5.1" => "PBES1 (MD2 and DES)",
        "1.2.840.113549.1.5.3" => "PBES1 (MD5 and DES)",
        "1.2.840.113549.1.5.4" => "PBES1 (MD2 and RC2)",
        "1.2.840.113549.1.5.6" => "PBES1 (MD5 and RC2)",
        "1.2.840.113549.1.5.10" => "PBES1 (SHA-1 and DES)",
        "1.2.840.113549.1.5.11" => "PBES1 (SHA-1 and RC2)",
        "1.2.840.113549.1.12.1.1" => "PKCS#12 encryption (RC4-128)",
        "1.2.840.113549.1.12.1.2" => "PKCS#12 encryption (RC4-40)",
        "1.2.840.113549.1.12.1.3" => "PKCS#12 encryption (triple DES)",
        "1.2.840.113549.1.12.1.4" => "PKCS#12 encryption (two-key triple DES)",
        "1.2.840.113549.1.12.1.5" => "PKCS#12 encryption (RC2-128)",
        "1.2.840.113549.1.12.1.6" => "PKCS#12 encryption (RC2-40)",
        "1.3.14.3.2.7" => "DES-CBC",
        "1.2.840.113549.3.2" => "RC2-CBC",
        "1.2.840.113549.2.8" => "HMAC-SHA224",
        "2.16.840.1.101.3.4.1.6" => "AES-128-GCM",
        "2.16.840.1.101.3.4.1.46" => "AES-256-GCM",
        "1.2.392.200011.61.1.1.1.2" => "Camellia-128-CBC",
        "1.2.392.200011.61.1.1.1.4" => "Camellia-256-CBC",
        _ => return dotted,
    };
    name.to_owned()
}

/// `1.2.840...`; bytes that are no object identifier, or one too long for a message, are said to be so.
fn dotted(oid: &[u8]) -> String {
    let broken = || "an unreadable object identifier".to_owned();
    if oid.is_empty() || oid.len() > 32 {
        return broken();
    }
    let mut text = String::new();
    let mut arc = 0_u64;
    for &byte in oid {
        if arc > u64::MAX >> 7 {
            return broken();
        }
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if text.is_empty() {
                let root = (arc / 40).min(2);
                text = format!("{root}.{}", arc - 40 * root);
            } else {
                text.push_str(&format!(".{arc}"));
            }
            arc = 0;
        }
    }
    if oid.last().is_some_and(|byte| byte & 0x80 != 0) { broken() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_in_dots() {
        assert_eq!(dotted(EC_PUBLIC_KEY), "1.2.840.10045.2.1");
        assert_eq!(dotted(AES_256_CBC), "2.16.840.1.101.3.4.1.42");
        assert_eq!(dotted(SCRYPT), "1.3.6.1.4.1.11591.4.11");
        assert_eq!(dotted(&[0x88, 0x37, 3]), "2.999.3");
        for broken in [&[][..], &[0x2a, 0x86], &[0xff; 32], &[1; 33]] {
            assert_eq!(dotted(broken), "an unreadable object identifier");
        }
        assert_eq!(name(&[0x2b, 0x65, 0x70]), "Ed25519");
        assert_eq!(name(&[0x2b, 0x65, 0x71, 1]), "1.3.101.113.1");
    }
}
