//! A timestamp on whatever another signer made.

use std::time::Duration;

use aws_lc_rs::rand;
use sha2::{Digest as _, Sha256};
use sigstore_sign::reqwest::Url;

use super::{SignError, Signature, Signer};
use crate::error::quoted;
use crate::key::der;
use crate::net::Net;
use crate::timestamp::{TimestampAuthorities, TimestampError, Token};

/// How long an authority may take, in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no timestamp, and so no signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StampingError {
    /// The authority was not reached, or gave something else than a stamp of this signature.
    #[error("the timestamp authority {} gave no timestamp: {}; try again, use another one, or sign without --tsa-url", quoted(.url), quoted(.why))]
    None {
        /// Its address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The stamp is of this signature, and those who verify would refuse it.
    #[error("the timestamp of {} would be refused by those who verify: {fault}", quoted(.url))]
    Refused {
        /// The authority's address.
        url: String,
        /// Why.
        fault: TimestampError,
    },
}

/// Signs as `S` does, and has the signature stamped by an RFC 3161 timestamp authority.
///
/// The authority learns the SHA-256 of the signature, nothing of the model. Without a stamp there is no signature: a
/// verifier could not tell that there should have been one.
#[derive(Debug)]
pub struct Timestamped<S> {
    signer: S,
    url: String,
    authorities: Option<TimestampAuthorities>,
}

impl<S: Signer> Timestamped<S> {
    /// Has the signatures of `signer` stamped at `url`. If `authorities` are given, the stamp must be from one of them.
    #[must_use]
    pub const fn new(signer: S, url: String, authorities: Option<TimestampAuthorities>) -> Self {
        Self { signer, url, authorities }
    }

    /// Asks for a stamp over `signature`. That it is over these bytes, and answers this request (its nonce), is checked.
    fn stamp(&self, signature: &[u8]) -> Result<Vec<u8>, StampingError> {
        let none = |why: String| StampingError::None { url: self.url.clone(), why };
        // Not only https: what is sent is no secret, what comes is signed, and authorities in use have no other address.
        let url = Url::parse(&self.url).map_err(|error| none(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(none("its address is not http or https".to_owned()));
        }
        let imprint = Sha256::digest(signature);
        let mut nonce = [0; 8];
        rand::fill(&mut nonce).map_err(|_| none("this machine gives no random number for the request".to_owned()))?;
        // Positive, and in the one form that DER has for it.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        let net = Net::new(PATIENCE).map_err(|error| none(error.to_string()))?;
        let stamp = net.post(&url, "application/timestamp-query", request(&imprint, &nonce));
        let stamp = stamp.map_err(|error| none(error.to_string()))?;
        Token::read(&stamp).and_then(|token| token.answers(&imprint, &nonce)).map_err(none)?;
        Ok(stamp)
    }
}

/// `TimeStampReq` (RFC 3161, section 2.4.1), for a SHA-256, and for the authority's certificate in the answer.
fn request(imprint: &[u8], nonce: &[u8; 8]) -> Vec<u8> {
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    const BOOLEAN: u8 = 1;
    let algorithm = der::write(der::SEQUENCE, &[&der::write(der::OID, &[SHA256])]);
    let imprint = der::write(der::SEQUENCE, &[&algorithm, &der::write(der::OCTET_STRING, &[imprint])]);
    let (version, nonce) = (der::write(der::INTEGER, &[&[1]]), der::write(der::INTEGER, &[nonce]));
    der::write(der::SEQUENCE, &[&version, &imprint, &nonce, &der::write(BOOLEAN, &[&[0xff]])]).to_vec()
}

impl<S: Signer> Signer for Timestamped<S> {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        let mut signature = self.signer.sign(payload)?;
        let stamp = self.stamp(&signature.bytes)?;
        if let Some(authorities) = &self.authorities {
            let refused = |fault| StampingError::Refused { url: self.url.clone(), fault };
            authorities.verify(&stamp, &signature.bytes).map_err(refused)?;
        }
        signature.evidence.timestamps.push(stamp);
        Ok(signature)
    }
}

impl Signer for Box<dyn Signer> {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        (**self).sign(payload)
    }
}
