//! The signature file: a Sigstore bundle v0.3 around one DSSE envelope, current or as old releases wrote it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use crate::envelope::{Envelope, PAYLOAD_TYPE};
use crate::error::{Error, FormatError, VerifyError};
use crate::json::{self, Few, Object};
use crate::output::folder_of;

/// The media type of every OMS bundle since 0.2.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The longest bundle that is read unless the caller says otherwise, in bytes: room for 200,000 resources with
/// annotations and long names, and a bound on the memory that a hostile one can take.
pub const DEFAULT_MAX_BUNDLE: u64 = 256 << 20;

/// What the bundle offers to verify its signature with. It is not signed: nothing here is trusted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerificationMaterial {
    /// A key that the verifier must already have.
    PublicKey {
        /// Which key: lower-case hexadecimal SHA-256 of its PEM text. `None` where an old or terse signer left it out.
        hint: Option<String>,
        /// Whether it is the form of releases before 1.1, which carried the key itself (and is not looked at).
        old: bool,
    },
    /// X.509 certificates in DER, the signer's first.
    CertificateChain(Vec<Vec<u8>>),
    /// The one certificate of a Sigstore signature, in DER.
    Certificate(Vec<u8>),
}

impl VerificationMaterial {
    /// The signing method as the command line names it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::PublicKey { .. } => "key",
            Self::CertificateChain(_) => "certificate",
            Self::Certificate(_) => "sigstore",
        }
    }
}

/// One of a Sigstore bundle's `tlogEntries`: a JSON object, kept as it was written.
#[derive(Debug, Clone)]
pub struct LogEntry(Box<RawValue>);

impl LogEntry {
    /// Its text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for LogEntry {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for LogEntry {}

impl TryFrom<Box<RawValue>> for LogEntry {
    type Error = FormatError;

    fn try_from(entry: Box<RawValue>) -> Result<Self, FormatError> {
        if entry.get().starts_with('{') { Ok(Self(entry)) } else { Err(FormatError::LogEntry) }
    }
}

/// What third parties say of a signature. Nothing in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Transparency log entries.
    pub log_entries: Vec<LogEntry>,
    /// RFC 3161 timestamps of the signature, in DER.
    pub timestamps: Vec<Vec<u8>>,
}

/// A parsed bundle, of which nothing has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    material: VerificationMaterial,
    envelope: Envelope,
    evidence: Evidence,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireBundle {
    media_type: String,
    verification_material: Object<WireMaterial>,
    dsse_envelope: Object<WireEnvelope>,
}

/// Fields that Sigstore may add are left alone (the OMS schema leaves this object open).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMaterial {
    public_key: Option<Object<WireKey>>,
    certificate: Option<Object<WireCertificate>>,
    x509_certificate_chain: Option<Object<WireChain>>,
    tlog_entries: Option<Few<Box<RawValue>>>,
    timestamp_verification_data: Option<Object<WireTimestamps>>,
    // What readers of protocol buffers take for the fields above.
    #[serde(default, rename = "public_key", deserialize_with = "other_spelling")]
    _public_key: (),
    #[serde(default, rename = "x509_certificate_chain", deserialize_with = "other_spelling")]
    _x509_certificate_chain: (),
    #[serde(default, rename = "tlog_entries", deserialize_with = "other_spelling")]
    _tlog_entries: (),
    #[serde(default, rename = "timestamp_verification_data", deserialize_with = "other_spelling")]
    _timestamp_verification_data: (),
}

fn other_spelling<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(de::Error::custom("a field of verificationMaterial is spelled with an underscore: it may be read as another"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireKey {
    hint: Option<String>,
    raw_bytes: Option<String>,
    #[serde(default, rename = "raw_bytes", deserialize_with = "other_spelling")]
    _raw_bytes: (),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCertificate {
    raw_bytes: String,
    #[serde(default, rename = "raw_bytes", deserialize_with = "other_spelling")]
    _raw_bytes: (),
}

#[derive(Deserialize)]
struct WireChain {
    certificates: Few<Object<WireCertificate>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTimestamps {
    rfc3161_timestamps: Option<Few<Object<WireTimestamp>>>,
    #[serde(default, rename = "rfc3161_timestamps", deserialize_with = "other_spelling")]
    _rfc3161_timestamps: (),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTimestamp {
    signed_timestamp: String,
    #[serde(default, rename = "signed_timestamp", deserialize_with = "other_spelling")]
    _signed_timestamp: (),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireEnvelope {
    payload: String,
    payload_type: String,
    signatures: Few<Object<WireSignature>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    sig: String,
    /// Absent, null or any text: OMS gives it no meaning.
    #[serde(default, rename = "keyid")]
    _key_id: Option<String>,
}

impl Bundle {
    /// A bundle ready to be written.
    pub(crate) const fn new(material: VerificationMaterial, envelope: Envelope, evidence: Evidence) -> Self {
        Self { material, envelope, evidence }
    }

    /// Reads a bundle file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if it is no regular file or cannot be read, [`VerifyError::BundleTooLarge`], and what
    /// [`Bundle::parse`] says.
    pub fn read(path: &Path, limit: u64) -> Result<Self, Error> {
        Ok(Self::parse(&Self::read_bytes(path, limit)?).map_err(VerifyError::Format)?)
    }

    /// The bytes of a bundle file, of which nothing was looked at.
    pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
        // A FIFO in an untrusted model must not make us wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(Error::io("read signature", path))?;
        let meta = file.metadata().map_err(Error::io("examine signature", path))?;
        if !meta.is_file() {
            return Err(Error::io("read signature", path)(std::io::Error::other("it is not a regular file")));
        }
        let len = meta.len();
        // Enough for most at once; a length that is not true must not be believed.
        let mut text = Vec::with_capacity(len.min(limit).min(1 << 20) as usize);
        // One byte more than allowed tells a file that has grown from one that ends.
        file.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(Error::io("read signature", path))?;
        if text.len() as u64 > limit {
            return Err(VerifyError::BundleTooLarge { len: len.max(text.len() as u64), limit }.into());
        }
        Ok(text)
    }

    /// Reads a bundle from its JSON text.
    ///
    /// # Errors
    /// [`FormatError`] for everything that is not exactly one bundle with one envelope, one payload, one signature and
    /// one kind of verification material.
    pub fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let Object(wire): Object<WireBundle> = json::read("bundle", text)?;
        if wire.media_type != MEDIA_TYPE {
            return Err(FormatError::MediaType(wire.media_type));
        }
        let Object(envelope) = wire.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(FormatError::PayloadType(envelope.payload_type));
        }
        let [Object(signature)] = &envelope.signatures.kept[..] else {
            return Err(FormatError::Signatures(envelope.signatures.count));
        };
        let envelope = Envelope {
            payload: base64("dsseEnvelope.payload", &envelope.payload)?,
            signature: base64("dsseEnvelope.signatures[0].sig", &signature.sig)?,
        };
        let Object(material) = wire.verification_material;
        let evidence = Evidence::read(material.tlog_entries, material.timestamp_verification_data)?;
        let material = material_of(material.public_key, material.certificate, material.x509_certificate_chain)?;
        Ok(Self { material, envelope, evidence })
    }

    /// What the bundle offers to verify with.
    #[must_use]
    pub const fn material(&self) -> &VerificationMaterial {
        &self.material
    }

    /// The payload and its signature.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Its transparency log entries and RFC 3161 timestamps.
    #[must_use]
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The bundle as compact JSON, without a line end, as the Python implementation writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Out<'a> {
            media_type: &'static str,
            verification_material: OutMaterial<'a>,
            dsse_envelope: OutEnvelope<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct OutEnvelope<'a> {
            payload: String,
            payload_type: &'static str,
            signatures: [OutSignature<'a>; 1],
        }
        #[derive(Serialize)]
        struct OutSignature<'a> {
            sig: String,
            keyid: &'a str,
        }
        let out = Out {
            media_type: MEDIA_TYPE,
            verification_material: OutMaterial::new(&self.material, &self.evidence),
            dsse_envelope: OutEnvelope {
                payload: STANDARD.encode(&self.envelope.payload),
                payload_type: PAYLOAD_TYPE,
                signatures: [OutSignature { sig: STANDARD.encode(&self.envelope.signature), keyid: "" }],
            },
        };
        // Strings into memory: there is nothing that could fail.
        serde_json::to_vec(&out).unwrap_or_default()
    }

    /// Whether a signature may be written to `path`: its folder is there, and what stands there, if anything, is an
    /// older signature. To be asked before hours of hashing.
    ///
    /// # Errors
    /// [`Error::NotASignature`] if another file stands there, which a slip of the hand would cost; [`Error::Io`] if
    /// there is no such folder, or what stands there cannot be read.
    pub fn check_target(path: &Path) -> Result<(), Error> {
        let folder = folder_of(path);
        let there = std::fs::metadata(folder).map_err(Error::io("write signature into", folder))?;
        if !there.is_dir() {
            return Err(Error::io("write signature into", folder)(std::io::ErrorKind::NotADirectory.into()));
        }
        let mut head = Vec::new();
        match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(file) if !file.metadata().is_ok_and(|meta| meta.is_file()) => {
                return Err(Error::NotASignature { path: path.to_owned() });
            }
            Ok(file) => file.take(4096).read_to_end(&mut head).map_err(Error::io("look at", path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("look at", path)(error)),
        };
        if head.is_empty() || Self::looks_like_one(&head) {
            Ok(())
        } else {
            Err(Error::NotASignature { path: path.to_owned() })
        }
    }

    /// Whether a file that begins so is a bundle, well-formed or not: a JSON object with a key, or the media
    /// type, that only bundles have.
    #[must_use]
    pub fn looks_like_one(head: &[u8]) -> bool {
        let head = String::from_utf8_lossy(head);
        let keys = ["application/vnd.dev.sigstore.bundle", "\"verificationMaterial\"", "\"dsseEnvelope\""];
        head.trim_start_matches('\u{feff}').trim_start().starts_with('{') && keys.iter().any(|key| head.contains(key))
    }
}

impl Evidence {
    fn read(entries: Option<Few<Box<RawValue>>>, stamps: Option<Object<WireTimestamps>>) -> Result<Self, FormatError> {
        let too_many = |what, count, limit| FormatError::MuchEvidence { what, count, limit };
        let mut evidence = Self::default();
        if let Some(entries) = entries {
            if entries.count > entries.kept.len() {
                return Err(too_many("log entries", entries.count, entries.kept.len()));
            }
            evidence.log_entries = entries.kept.into_iter().map(LogEntry::try_from).collect::<Result<_, _>>()?;
        }
        if let Some(stamps) = stamps.and_then(|data| data.0.rfc3161_timestamps) {
            if stamps.count > stamps.kept.len() {
                return Err(too_many("timestamps", stamps.count, stamps.kept.len()));
            }
            let der = |stamp: &Object<WireTimestamp>| base64("signedTimestamp", &stamp.0.signed_timestamp);
            evidence.timestamps = stamps.kept.iter().map(der).collect::<Result<_, _>>()?;
        }
        Ok(evidence)
    }
}

/// The one kind of material that there may be.
fn material_of(
    key: Option<Object<WireKey>>,
    certificate: Option<Object<WireCertificate>>,
    chain: Option<Object<WireChain>>,
) -> Result<VerificationMaterial, FormatError> {
    const RAW_BYTES: &str = "certificate.rawBytes";
    match (key, certificate, chain) {
        (Some(Object(key)), None, None) => {
            let hint = key.hint.filter(|hint| !hint.is_empty());
            Ok(VerificationMaterial::PublicKey { old: hint.is_none() && key.raw_bytes.is_some(), hint })
        }
        (None, Some(Object(certificate)), None) => {
            Ok(VerificationMaterial::Certificate(base64(RAW_BYTES, &certificate.raw_bytes)?))
        }
        (None, None, Some(Object(chain))) if chain.certificates.count > 0 => {
            let chain = chain.certificates;
            if chain.kept.len() < chain.count {
                return Err(FormatError::LongChain { found: chain.count, limit: chain.kept.len() });
            }
            let certificates = chain.kept.iter().map(|certificate| base64(RAW_BYTES, &certificate.0.raw_bytes));
            Ok(VerificationMaterial::CertificateChain(certificates.collect::<Result<_, _>>()?))
        }
        (key, certificate, chain) => {
            // An empty chain beside nothing else is no material at all; beside a key it is one kind too many.
            let chain =
                chain.is_some_and(|chain| chain.0.certificates.count > 0 || key.is_some() || certificate.is_some());
            let kinds = [key.is_some(), certificate.is_some(), chain];
            Err(FormatError::Material(kinds.into_iter().filter(|&kind| kind).count()))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutMaterial<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<OutKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509_certificate_chain: Option<OutChain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<OutCertificate>,
    tlog_entries: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<OutTimestamps>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutTimestamps {
    rfc3161_timestamps: Vec<OutTimestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutTimestamp {
    signed_timestamp: String,
}

#[derive(Serialize)]
struct OutKey {
    hint: String,
}

#[derive(Serialize)]
struct OutChain {
    certificates: Vec<OutCertificate>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutCertificate {
    raw_bytes: String,
}

impl<'a> OutMaterial<'a> {
    fn new(material: &VerificationMaterial, evidence: &'a Evidence) -> Self {
        let stamp = |der: &Vec<u8>| OutTimestamp { signed_timestamp: STANDARD.encode(der) };
        let stamps: Vec<_> = evidence.timestamps.iter().map(stamp).collect();
        let mut out = Self {
            public_key: None,
            x509_certificate_chain: None,
            certificate: None,
            tlog_entries: evidence.log_entries.iter().map(|entry| &*entry.0).collect(),
            timestamp_verification_data: (!stamps.is_empty()).then_some(OutTimestamps { rfc3161_timestamps: stamps }),
        };
        let certificate = |der: &Vec<u8>| OutCertificate { raw_bytes: STANDARD.encode(der) };
        match material {
            VerificationMaterial::PublicKey { hint, .. } => {
                out.public_key = Some(OutKey { hint: hint.clone().unwrap_or_default() });
            }
            VerificationMaterial::CertificateChain(chain) => {
                out.x509_certificate_chain = Some(OutChain { certificates: chain.iter().map(certificate).collect() });
            }
            VerificationMaterial::Certificate(der) => out.certificate = Some(certificate(der)),
        }
        out
    }
}

/// Padded base64 in the standard or the URL-safe alphabet (DSSE allows both), with no stray bits at the end.
fn base64(field: &'static str, text: &str) -> Result<Vec<u8>, FormatError> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| FormatError::Base64 { field })
}
