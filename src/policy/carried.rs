//! What a bundle carries of its signer, in names that a policy can deny.

use der::asn1::{AnyRef, BitString};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, Tagged as _};
use x509_cert::Certificate;

use crate::bundle::{Bundle, VerificationMaterial};
use crate::digest::hex;
use crate::key::PublicKey;

/// Certificates and keys of a bundle, whatever they are worth.
pub(super) struct Carried {
    /// Fingerprints, each certificate's in every form that it can be given.
    pub(super) certificates: Vec<String>,
    /// Of the first certificate, if it is of a kind that has a fingerprint here.
    pub(super) key: Option<String>,
}

impl Carried {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let certificates: &[Vec<u8>] = match bundle.material() {
            VerificationMaterial::PublicKey { .. } => &[],
            VerificationMaterial::CertificateChain(chain) => chain,
            VerificationMaterial::Certificate(one) => std::slice::from_ref(one),
        };
        let spki =
            |der: &Vec<u8>| Certificate::from_der(der).ok()?.tbs_certificate.subject_public_key_info.to_der().ok();
        let key = certificates.first().and_then(spki).and_then(|spki| PublicKey::from_spki_der(&spki).ok());
        let fingerprint = |der: Vec<u8>| hex(&<sha2::Sha256 as sha2::Digest>::digest(der));
        let forms = certificates.iter().flat_map(|der| twins(der).into_iter().chain([der.clone()]));
        Self { certificates: forms.map(fingerprint).collect(), key: key.map(|key| key.hint()) }
    }
}

/// The same certificate with the other signature of its issuer. Of an ECDSA signature (r, s) anybody can make (r, n - s),
/// which is as good: a certificate whose fingerprint is denied would come back under another one. Which curve's n it is
/// only the issuer's key tells, so all are tried.
fn twins(certificate: &[u8]) -> Vec<Vec<u8>> {
    macro_rules! flipped {
        ($signature:ty, $der:expr) => {
            <$signature>::from_der($der)
                .and_then(|of| <$signature>::from_scalars(of.r(), -of.s()))
                .map(|of| of.to_der().as_bytes().to_vec())
        };
    }
    let Ok(signature) = Certificate::from_der(certificate).map(|of| of.signature) else { return Vec::new() };
    let Some(signature) = signature.as_bytes() else { return Vec::new() };
    let others = [
        flipped!(p256::ecdsa::Signature, signature),
        flipped!(p384::ecdsa::Signature, signature),
        flipped!(p521::ecdsa::Signature, signature),
    ];
    others.into_iter().flatten().filter_map(|other| with_signature(certificate, &other).ok()).collect()
}

/// A certificate with another signature (RFC 5280, section 4.1), the signed part byte for byte as it was.
fn with_signature(certificate: &[u8], signature: &[u8]) -> der::Result<Vec<u8>> {
    let whole = AnyRef::from_der(certificate)?;
    Tag::Sequence.assert_eq(whole.tag())?;
    let mut parts = SliceReader::new(whole.value())?;
    let mut content = parts.tlv_bytes()?.to_vec();
    content.extend_from_slice(parts.tlv_bytes()?);
    content.extend(BitString::from_bytes(signature)?.to_der()?);
    AnyRef::new(Tag::Sequence, &content)?.to_der()
}
