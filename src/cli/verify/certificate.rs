//! `verify certificate`.

use sha2::{Digest as _, Sha256};
use tensorseal::bundle::VerificationMaterial;
use tensorseal::method::{CertificateTrust, system_roots};
use tensorseal::verify::{CertificateVerifier, Claim, Encoding, Identity, SignatureError, Verifier};

use crate::cli::args::VerifyCertificateArgs;
use crate::cli::exit::Exit;
use crate::cli::say;

pub(super) fn certificate(command: &'static str, args: &VerifyCertificateArgs) -> Exit {
    let system = args.system_roots.then(system_roots);
    let files: Vec<String> = args.certificate_chain.iter().chain(&system).map(|path| say::path(path)).collect();
    let trust = CertificateTrust {
        chain: args.certificate_chain.clone(),
        system_roots: args.system_roots,
        names: args.identity.clone(),
        any_purpose: args.allow_eku,
        timestamp_chain: args.tsa_certificate_chain.clone(),
        judge_at_not_before: args.judge_at_not_before,
    };
    super::run(command, &args.common, &files.join(", "), || {
        let roots = trust.roots(&mut say::of_method)?;
        if args.log_fingerprints {
            roots.iter().for_each(|certificate| fingerprint("  init  ", certificate.der()));
        }
        let verifier = trust.verifier(roots)?;
        Ok(if args.log_fingerprints { Box::new(Logged(verifier)) } else { Box::new(verifier) })
    })
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
