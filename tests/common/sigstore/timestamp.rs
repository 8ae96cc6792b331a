//! A private timestamp authority: RFC 3161 responses.

use super::certificate::{EXTENDED_KEY_USAGE, TIME_STAMPING, Template, extended_key_usage};
use super::der::{boolean, context, integer, name, null, octets, oid, sequence, set, time, tlv};
use super::{Key, sha256};

const ID_SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const ID_TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";

/// An authority with its signing certificate and its root.
pub(crate) struct Authority {
    pub(crate) key: Key,
    pub(crate) template: Template,
    pub(crate) certificate: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(of: &str, validity: [i64; 2], edit: &dyn Fn(&mut Template)) -> Self {
        let (root_key, key) = (Key::p384(&format!("{of} tsa root")), Key::p256(&format!("{of} tsa")));
        let (root_name, leaf_name) = (format!("{of} tsa root"), format!("{of} tsa"));
        let root = Template::new(&root_name, &root_name, validity, &root_key).authority(&root_key, &root_key);
        let mut template = Template::new(&root_name, &leaf_name, validity, &key);
        template.put("2.5.29.15", true, super::certificate::key_usage(super::certificate::DIGITAL_SIGNATURE));
        template.put(EXTENDED_KEY_USAGE, true, extended_key_usage(&[TIME_STAMPING]));
        template.identifiers(&key, &root_key);
        edit(&mut template);
        let certificate = template.sign(&root_key);
        Self { root: root.sign(&root_key), key, template, certificate }
    }
}

/// What a timestamp says, before it is signed.
pub(crate) struct Stamp {
    pub(crate) time: i64,
    pub(crate) hash: &'static str,
    pub(crate) imprint: Vec<u8>,
    /// The digest of the TSTInfo that is signed, if not the right one.
    pub(crate) message_digest: Option<Vec<u8>>,
    pub(crate) content_type: &'static str,
    /// Of the certificate that the signed attributes name.
    pub(crate) certificate_hash: Vec<u8>,
    pub(crate) status: u64,
    pub(crate) signers: usize,
    /// In the list of digest algorithms, beside the right one, in this order.
    pub(crate) algorithms: Vec<Vec<u8>>,
    /// The INTEGER of the request, if it had one.
    pub(crate) nonce: Vec<u8>,
}

impl Stamp {
    pub(crate) fn new(time: i64, signature: &[u8], authority: &Authority) -> Self {
        Self {
            time,
            hash: SHA256,
            imprint: sha256(signature).to_vec(),
            message_digest: None,
            content_type: ID_TST_INFO,
            certificate_hash: sha256(&authority.certificate).to_vec(),
            status: 0,
            signers: 1,
            algorithms: Vec::new(),
            nonce: Vec::new(),
        }
    }

    /// The TimeStampResp of `authority`, signed with `key`.
    pub(crate) fn sign(&self, authority: &Authority, key: &Key) -> Vec<u8> {
        let algorithm = |id: &str| sequence(&[oid(id), null()]);
        let info = sequence(&[
            integer(1),
            oid("1.3.6.1.4.1.57264.2"),
            sequence(&[algorithm(self.hash), octets(&self.imprint)]),
            integer(77),
            time(self.time),
            sequence(&[integer(1)]),
            boolean(true),
            self.nonce.clone(),
        ]);
        let attribute = |id: &str, value: Vec<u8>| sequence(&[oid(id), set(vec![value])]);
        let digest = self.message_digest.clone().unwrap_or_else(|| sha256(&info).to_vec());
        let signing_certificate = sequence(&[sequence(&[sequence(&[octets(&self.certificate_hash)])])]);
        let attributes = set(vec![
            attribute("1.2.840.113549.1.9.3", oid(self.content_type)),
            attribute("1.2.840.113549.1.9.4", octets(&digest)),
            attribute("1.2.840.113549.1.9.5", super::der::certificate_time(self.time)),
            attribute("1.2.840.113549.1.9.16.2.47", signing_certificate),
        ]);
        // The signature is over the attributes as a SET; what is sent has an implicit [0] (RFC 5652, 5.4).
        let signature = key.sign(&attributes);
        let mut implicit = attributes;
        implicit[0] = 0xa0;
        let signer = sequence(&[
            integer(1),
            sequence(&[name(&authority.template.issuer), integer(authority.template.serial)]),
            algorithm(SHA256),
            implicit,
            key.algorithm(),
            octets(&signature),
        ]);
        let signed_data = sequence(&[
            integer(3),
            tlv(0x31, &[self.algorithms.concat(), algorithm(SHA256)].concat()),
            sequence(&[oid(ID_TST_INFO), context(0, &octets(&info))]),
            context(0, &authority.certificate),
            set(vec![signer; self.signers]),
        ]);
        let token = sequence(&[oid(ID_SIGNED_DATA), context(0, &signed_data)]);
        sequence(&[sequence(&[integer(self.status)]), token])
    }
}
