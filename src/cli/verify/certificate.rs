//! `verify certificate`.

use sha2::{Digest as _, Sha256};
use tensorseal::Error;
use tensorseal::bundle::VerificationMaterial;
use tensorseal::verify::{CertificateVerifier, Claim, Encoding, Identity, JudgedAt, SignatureError, Verifier};
use tensorseal::x509::EkuRule;

use crate::cli::args::VerifyCertificateArgs;
use crate::cli::exit::Exit;
use crate::cli::{certificates, say};

pub(super) fn certificate(command: &'static str, args: &VerifyCertificateArgs) -> Exit {
    let system = args.system_roots.then(certificates::system);
    let files: Vec<String> = args.certificate_chain.iter().chain(&system).map(|path| say::path(path)).collect();
    super::run(command, &args.common, &files.join(", "), || {
        let mut trusted = certificates::read_all(&args.certificate_chain)?;
        if let Some(path) = &system {
            trusted.extend(certificates::read_system(path)?);
        }
        if args.log_fingerprints {
            trusted.iter().for_each(|certificate| fingerprint("  init  ", certificate.der()));
        }
        let verifier = CertificateVerifier::new(trusted)
            .with_names(args.identity.clone())
            .with_eku(if args.allow_eku { EkuRule::Any } else { EkuRule::CodeSigningIfPresent })
            .judged_at(if args.judge_at_not_before { JudgedAt::NotBefore } else { JudgedAt::Signing });
        let verifier = with_authorities(verifier, args)?;
        Ok(if args.log_fingerprints { Box::new(Logged(verifier)) } else { Box::new(verifier) })
    })
}

#[cfg(feature = "sigstore-verify")]
fn with_authorities(verifier: CertificateVerifier, args: &VerifyCertificateArgs) -> Result<CertificateVerifier, Error> {
    let authorities = certificates::authorities(&args.tsa_certificate_chain)?;
    Ok(match authorities {
        Some(authorities) => verifier.with_timestamp_authorities(authorities),
        None => verifier,
    })
}

#[cfg(not(feature = "sigstore-verify"))]
fn with_authorities(verifier: CertificateVerifier, args: &VerifyCertificateArgs) -> Result<CertificateVerifier, Error> {
    if args.tsa_certificate_chain.is_empty() {
        Ok(verifier)
    } else {
        Err(Error::NoFeature { what: "verify timestamps", feature: "sigstore-verify" })
    }
}

/// Prints the fingerprint of every certificate in the signature before it looks at them.
struct Logged(CertificateVerifier);

impl Verifier for Logged {
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        // An old signature is asked about twice.
        if let (VerificationMaterial::CertificateChain(chain), Encoding::Dsse) = (claim.material(), claim.encoding()) {
            chain.iter().for_each(|der| fingerprint(" verify ", der));
        }
        self.0.verify(claim)
    }
}

/// The line that `model_signing` logs, brackets and all.
fn fingerprint(place: &str, der: &[u8]) {
    let bytes: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    say::info(format_args!("[{place}] sha256 Fingerprint: {}", bytes.join(":")));
}
