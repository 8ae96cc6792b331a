//! A timestamp on whatever another signer made.

use std::time::Duration;

use sigstore_tsa::TimestampClient;
use sigstore_types::SignatureBytes;

use super::{SignError, Signature, Signer};
use crate::error::quoted;
use crate::timestamp::{TimestampAuthorities, TimestampError};

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

    /// Asks for a stamp over `signature`. That it is over these bytes, and answers this request (its nonce), is checked
    /// by `sigstore-tsa`.
    fn stamp(&self, signature: &[u8]) -> Result<Vec<u8>, StampingError> {
        let none = |why: String| StampingError::None { url: self.url.clone(), why };
        let client = TimestampClient::new(self.url.clone()).map_err(|error| none(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| none(error.to_string()))?;
        let signature = SignatureBytes::new(signature.to_vec());
        let answer =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, client.timestamp_signature(&signature)).await });
        let late = |_| none(format!("no answer within {} s", PATIENCE.as_secs()));
        let token = answer.map_err(late)?.map_err(|error| none(error.to_string()))?;
        Ok(token.as_bytes().to_vec())
    }
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
