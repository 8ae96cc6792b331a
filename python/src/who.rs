//! Who may have signed, and who signs.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use tensorseal::Error;
use tensorseal::key::PasswordError;
use tensorseal::method::{
    CertificateTrust, IdentityTokenFrom, Secret, Secrets, SignMethod, SigningCertificateFiles, SigstoreSigning,
    SigstoreTrust, Timestamping, TokenKey, Trusted, VerifyMethod, Warning,
};
use tensorseal::sign::Signer as SignerTrait;
use tensorseal::verify::RequiredName;

use crate::error::{to_python, usage};

/// Whom the caller trusts. What it names has been read, and is not read again.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Who {
    trusted: Trusted,
    warnings: Vec<String>,
}

impl Who {
    /// For the verbs: to be used without the GIL.
    pub(crate) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    fn by(py: Python<'_>, method: &VerifyMethod) -> PyResult<Self> {
        let mut warnings = Vec::new();
        let trusted = py.detach(|| method.trusted(&mut |warning: Warning| warnings.push(warning.to_string())));
        Ok(Self { trusted: trusted.map_err(|error| to_python(py, &error))?, warnings })
    }
}

#[pymethods]
impl Who {
    #[staticmethod]
    fn key(py: Python<'_>, public_key: PathBuf) -> PyResult<Self> {
        Self::by(py, &VerifyMethod::Key { public_key })
    }

    #[staticmethod]
    #[pyo3(signature = (chain, *, identities, system_roots, any_purpose, timestamp_chain, judge_at_not_before))]
    fn certificate(
        py: Python<'_>,
        chain: Vec<PathBuf>,
        identities: Vec<String>,
        system_roots: bool,
        any_purpose: bool,
        timestamp_chain: Vec<PathBuf>,
        judge_at_not_before: bool,
    ) -> PyResult<Self> {
        let names = identities.iter().map(|name| name.parse::<RequiredName>()).collect::<Result<Vec<_>, _>>();
        let names = names.map_err(|error| usage(py, error.to_string()))?;
        if chain.is_empty() && !system_roots {
            return Err(usage(py, "no root is trusted: name a file of roots"));
        }
        let trust = CertificateTrust { chain, system_roots, names, any_purpose, timestamp_chain, judge_at_not_before };
        Self::by(py, &VerifyMethod::Certificate(trust))
    }

    #[staticmethod]
    #[pyo3(signature = (*, identity, issuer, identity_regexp, issuer_regexp, staging, trust_config))]
    fn sigstore(
        py: Python<'_>,
        identity: Option<String>,
        issuer: Option<String>,
        identity_regexp: Option<String>,
        issuer_regexp: Option<String>,
        staging: bool,
        trust_config: Option<PathBuf>,
    ) -> PyResult<Self> {
        let trust = SigstoreTrust { identity, identity_regexp, issuer, issuer_regexp, staging, trust_config };
        Self::by(py, &VerifyMethod::Sigstore(trust))
    }

    #[staticmethod]
    fn policy(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let trusted = py.detach(|| Trusted::by_policy(&path)).map_err(|error| to_python(py, &error))?;
        let warnings = match &trusted {
            Trusted::Policy(policy) => policy.warnings().iter().map(ToString::to_string).collect(),
            Trusted::Verifier(_) => Vec::new(),
        };
        Ok(Self { trusted, warnings })
    }

    /// What its user should know of the keys or the policy.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Whether it is a policy, which may ask for several signatures.
    #[getter]
    fn is_policy(&self) -> bool {
        matches!(self.trusted, Trusted::Policy(_))
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.trusted)
    }
}

/// Who signs: where the key is, and what opens it. It is opened anew for each signature, before anything is hashed.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Signer {
    method: SignMethod,
    timestamp: Timestamping,
    secret: Option<Secret>,
}

impl Signer {
    /// Opens the key. Without the GIL, and on the thread that will sign: a signer belongs to it. What its user should know
    /// is added to `warnings`.
    pub(crate) fn open(&self, warnings: &mut Vec<String>) -> Result<Box<dyn SignerTrait>, Error> {
        let mut ask = |_: tensorseal::method::Lock<'_>| match &self.secret {
            Some(secret) => Ok(secret.reveal().clone()),
            None => Err(PasswordError::NotGiven),
        };
        let mut secrets = Secrets { given: self.secret.is_some(), ask: &mut ask };
        self.method.signer(&self.timestamp, &mut secrets, &mut |warning| warnings.push(warning.to_string()))
    }
}

#[pymethods]
impl Signer {
    #[staticmethod]
    #[pyo3(signature = (private_key, *, password, timestamp_url, timestamp_chain))]
    fn key(
        private_key: PathBuf,
        password: Option<String>,
        timestamp_url: Option<String>,
        timestamp_chain: Vec<PathBuf>,
    ) -> Self {
        Self {
            method: SignMethod::Key { private_key },
            timestamp: Timestamping { url: timestamp_url, chain: timestamp_chain },
            secret: password.map(Into::into),
        }
    }

    #[staticmethod]
    #[pyo3(signature = (private_key, certificate, *, chain, password, any_purpose, timestamp_url, timestamp_chain))]
    #[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
    fn certificate(
        private_key: PathBuf,
        certificate: PathBuf,
        chain: Vec<PathBuf>,
        password: Option<String>,
        any_purpose: bool,
        timestamp_url: Option<String>,
        timestamp_chain: Vec<PathBuf>,
    ) -> Self {
        let certificate = SigningCertificateFiles { certificate, chain, any_purpose };
        Self {
            method: SignMethod::Certificate { private_key, certificate },
            timestamp: Timestamping { url: timestamp_url, chain: timestamp_chain },
            secret: password.map(Into::into),
        }
    }

    #[staticmethod]
    #[pyo3(signature = (uri, *, modules, pin, certificate, chain, any_purpose, timestamp_url, timestamp_chain))]
    #[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
    fn pkcs11(
        uri: String,
        modules: Vec<PathBuf>,
        pin: Option<String>,
        certificate: Option<PathBuf>,
        chain: Vec<PathBuf>,
        any_purpose: bool,
        timestamp_url: Option<String>,
        timestamp_chain: Vec<PathBuf>,
    ) -> Self {
        let key = TokenKey { uri: uri.into(), modules };
        let method = match certificate {
            None => SignMethod::Pkcs11Key { key },
            Some(certificate) => SignMethod::Pkcs11Certificate {
                key,
                certificate: SigningCertificateFiles { certificate, chain, any_purpose },
            },
        };
        let timestamp = Timestamping { url: timestamp_url, chain: timestamp_chain };
        Self { method, timestamp, secret: pin.map(Into::into) }
    }

    #[staticmethod]
    #[pyo3(signature = (*, token, token_file, client_id, client_secret, identity, staging, trust_config, timeout))]
    #[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
    fn sigstore(
        py: Python<'_>,
        token: Option<String>,
        token_file: Option<PathBuf>,
        client_id: Option<String>,
        client_secret: Option<String>,
        identity: Option<String>,
        staging: bool,
        trust_config: Option<PathBuf>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let token = match (token, token_file) {
            (Some(_), Some(_)) => return Err(usage(py, "give a token or a file of one, not both")),
            (Some(token), None) => IdentityTokenFrom::Text(token.into()),
            (None, Some(path)) => IdentityTokenFrom::File(path),
            (None, None) => IdentityTokenFrom::Ambient,
        };
        let timeout = timeout.map(|seconds| Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()));
        let timeout = timeout.map(|time| time.ok_or_else(|| usage(py, "a timeout is a number of seconds above 0")));
        let sigstore = SigstoreSigning {
            client_id,
            client_secret: client_secret.map(Into::into),
            identity,
            staging,
            trust_config,
            timeout: timeout.transpose()?,
        };
        let method = SignMethod::Sigstore { token, sigstore };
        Ok(Self { method, timestamp: Timestamping::default(), secret: None })
    }

    fn __repr__(&self) -> &'static str {
        match self.method {
            SignMethod::Key { .. } => "Signer(key)",
            SignMethod::Certificate { .. } => "Signer(certificate)",
            SignMethod::Pkcs11Key { .. } | SignMethod::Pkcs11Certificate { .. } => "Signer(pkcs11)",
            SignMethod::Sigstore { .. } => "Signer(sigstore)",
        }
    }
}
