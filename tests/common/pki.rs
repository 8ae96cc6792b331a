//! Certificate authorities and certificates of our own, as files in a folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber, SignatureAlgorithm,
};

use super::write;

/// What a key is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    P256,
    P384,
    P521,
    Rsa,
}

impl Key {
    fn make(self) -> KeyPair {
        let of = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
        match self {
            Self::P256 => of(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => of(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => of(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        }
    }
}

/// One entity: its certificate and its key.
pub(crate) struct Entity {
    pub(crate) name: String,
    pub(crate) certificate: Certificate,
    params: CertificateParams,
    key: KeyPair,
}

/// What a certificate is to say.
pub(crate) struct Wanted {
    pub(crate) params: CertificateParams,
    key: Key,
    name: String,
}

/// Seconds from now, before it where negative.
pub(crate) type FromNow = i64;

/// A certificate to be made, valid from yesterday for a year.
pub(crate) fn wanted(name: &str, key: Key) -> Wanted {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    Wanted { params, key, name: name.to_owned() }.valid(-86_400, 365 * 86_400)
}

impl Wanted {
    pub(crate) fn ca(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self
    }

    /// As a signer of models has it.
    pub(crate) fn signer(mut self, names: &[&str]) -> Self {
        self.params.is_ca = IsCa::ExplicitNoCa;
        self.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let name = |text: &&str| {
            let (kind, value) = text.split_once(':').unwrap();
            match kind {
                "email" => SanType::Rfc822Name(value.try_into().unwrap()),
                "dns" => SanType::DnsName(value.try_into().unwrap()),
                "uri" => SanType::URI(value.try_into().unwrap()),
                _ => SanType::IpAddress(value.parse().unwrap()),
            }
        };
        self.params.subject_alt_names = names.iter().map(name).collect();
        self
    }

    pub(crate) fn eku(mut self, purpose: ExtendedKeyUsagePurpose) -> Self {
        self.params.extended_key_usages = vec![purpose];
        self
    }

    /// As a timestamp authority has it (RFC 3161, section 2.3: critical). OpenSSL signs with no other.
    pub(crate) fn tsa(mut self) -> Self {
        self = self.signer(&[]);
        const TIME_STAMPING: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 8];
        let mut purpose = CustomExtension::from_oid_content(&[2, 5, 29, 37], TIME_STAMPING.to_vec());
        purpose.set_criticality(true);
        self.params.custom_extensions = vec![purpose];
        self
    }

    pub(crate) fn valid(mut self, from: FromNow, to: FromNow) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let at = |shift: FromNow| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.checked_add_signed(shift).unwrap())
        };
        (self.params.not_before, self.params.not_after) = (at(from), at(to));
        self
    }

    pub(crate) fn serial(mut self, number: u64) -> Self {
        self.params.serial_number = Some(SerialNumber::from(number));
        self
    }

    /// Has it made, and writes `NAME.pem` and `NAME.key`.
    pub(crate) fn by(self, folder: &Path, issuer: Option<&Entity>) -> Entity {
        let key = self.key.make();
        self.of_key(folder, issuer, key)
    }

    /// The same for a key that is there.
    pub(crate) fn for_key_of(self, folder: &Path, issuer: Option<&Entity>, other: &Entity) -> Entity {
        self.of_key(folder, issuer, KeyPair::from_pem(&other.key.serialize_pem()).unwrap())
    }

    fn of_key(self, folder: &Path, issuer: Option<&Entity>, key: KeyPair) -> Entity {
        let Self { params, name, .. } = self;
        let certificate = match issuer {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        };
        write(folder.join(format!("{name}.pem")), certificate.pem());
        write(folder.join(format!("{name}.key")), key.serialize_pem());
        Entity { name, certificate, params, key }
    }
}

impl Entity {
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}

/// A timestamp authority: OpenSSL, with a certificate of ours.
pub(crate) struct Tsa {
    folder: PathBuf,
    config: PathBuf,
}

impl Tsa {
    /// That of `signer`, whose files lie in `folder`.
    pub(crate) fn new(folder: &Path, signer: &Entity) -> Self {
        let name = &signer.name;
        let config = folder.join(format!("{name}.cnf"));
        let text = format!(
            "[tsa]\ndefault_tsa=t\n[t]\nserial=./{name}.serial\ncrypto_device=builtin\nsigner_cert=./{name}.pem\n\
             signer_key=./{name}.key\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256,sha384,sha512\n\
             accuracy=secs:1\nordering=no\ntsa_name=yes\ness_cert_id_chain=no\n"
        );
        write(&config, text);
        write(folder.join(format!("{name}.serial")), "01");
        Self { folder: folder.to_owned(), config }
    }

    /// The answer to a request in DER.
    pub(crate) fn answer(&self, request: &[u8]) -> Vec<u8> {
        let (query, reply) = (self.folder.join("tsa.query"), self.folder.join("tsa.reply"));
        write(&query, request);
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&self.folder).args(["ts", "-reply", "-config"]).arg(&self.config);
        let output = openssl.arg("-queryfile").arg(&query).arg("-out").arg(&reply).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::read(reply).unwrap()
    }

    /// A stamp over `bytes`, with the authority's certificate in it or without.
    pub(crate) fn stamp(&self, bytes: &[u8], with_certificate: bool) -> Vec<u8> {
        let (data, query) = (self.folder.join("tsa.data"), self.folder.join("tsa.made"));
        write(&data, bytes);
        let mut openssl = Command::new("openssl");
        openssl.args(["ts", "-query", "-sha256", "-data"]).arg(&data).arg("-out").arg(&query);
        if with_certificate {
            openssl.arg("-cert");
        }
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.answer(&std::fs::read(query).unwrap())
    }
}
