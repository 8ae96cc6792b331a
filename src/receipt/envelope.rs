//! A receipt's outer form: a DSSE envelope of its own payload type, or, unsigned, the payload alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::error::ReceiptFault;
use super::wire::SCHEMA;
use crate::bundle::Bundle;
use crate::envelope::pae_of;
use crate::json::{self, Few, Object};
use crate::key::{KeyError, PrivateKey, PublicKey};

/// The type of a receipt's payload. It is part of what is signed, so that no signature over anything else, by the same
/// key, is one over a receipt.
pub const PAYLOAD_TYPE: &str = "application/vnd.tensorseal.receipt.v1+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadEnvelope {
    payload: String,
    payload_type: String,
    signatures: Few<Object<WireSignature>>,
}

/// A signed receipt of which nothing was checked.
pub(super) struct Sealed {
    payload: Vec<u8>,
    key_id: String,
    signature: Vec<u8>,
}

/// The signed form of `payload`.
pub(super) fn seal(payload: &[u8], key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign(&pae_of(PAYLOAD_TYPE, payload))?;
    let wire = WireEnvelope {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![WireSignature { keyid: key.public_key().hint(), sig: STANDARD.encode(signature) }],
    };
    // Strings into memory: there is nothing that could fail.
    let mut text = serde_json::to_vec(&wire).unwrap_or_default();
    text.push(b'\n');
    Ok(text)
}

/// Whether a file that holds this is a receipt, signed or not, well-formed or not.
pub(super) fn looks_like_one(text: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&text[..text.len().min(4096)]);
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]);
    head.starts_with('{') && (is_plain(&head) || tail.contains(PAYLOAD_TYPE))
}

/// Whether a text that begins so is an unsigned receipt. Its schema is its first field.
fn is_plain(head: &str) -> bool {
    head.trim_start_matches(['{', ' ', '\n']).starts_with(&format!("\"schema\": \"{SCHEMA}\""))
}

impl Sealed {
    /// Reads the signed form.
    pub(super) fn read(text: &[u8]) -> Result<Self, ReceiptFault> {
        let head = String::from_utf8_lossy(&text[..text.len().min(4096)]);
        if is_plain(&head) {
            return Err(ReceiptFault::Unsigned);
        }
        if Bundle::looks_like_one(&text[..text.len().min(4096)]) {
            return Err(ReceiptFault::Bundle);
        }
        let malformed = |error: String| ReceiptFault::Malformed(error);
        let read: Result<Object<ReadEnvelope>, _> = json::read("receipt", text);
        let Object(wire) = read.map_err(|error| malformed(error.to_string()))?;
        if wire.payload_type != PAYLOAD_TYPE {
            return Err(ReceiptFault::PayloadType(wire.payload_type));
        }
        let [Object(signature)] = &wire.signatures.kept[..] else {
            return Err(ReceiptFault::Signatures(wire.signatures.count));
        };
        let base64 = |field: &str, text: &str| {
            STANDARD.decode(text).map_err(|_| malformed(format!("its {field} is not padded, canonical base64")))
        };
        Ok(Self {
            payload: base64("payload", &wire.payload)?,
            key_id: signature.keyid.clone(),
            signature: base64("signature", &signature.sig)?,
        })
    }

    /// The payload, if one of these keys signed it, and which one.
    pub(super) fn opened<'k>(&self, keys: &'k [PublicKey]) -> Result<(&[u8], &'k PublicKey), ReceiptFault> {
        let signed = pae_of(PAYLOAD_TYPE, &self.payload);
        let made = |key: &&PublicKey| key.verify(&signed, &self.signature).is_ok();
        let key = keys.iter().find(made).ok_or_else(|| ReceiptFault::Signature { named: self.key_id.clone() })?;
        Ok((&self.payload, key))
    }
}
