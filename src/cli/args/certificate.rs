//! The options of the certificate method, and of timestamps.

use std::path::PathBuf;

use clap::Args;
use tensorseal::verify::RequiredName;

use super::{OUTPUT, PasswordArgs, SIGNED, SignArgs, TRUSTED, VerifyArgs};

/// Whose certificate goes into the signature.
#[derive(Args)]
pub(in crate::cli) struct SigningCertificateArgs {
    /// The signer's certificate, in PEM; others in the same file go along as its chain
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) signing_certificate: PathBuf,
    /// Certificates between the signer's and the root, in PEM, any number in a file; repeat for more files
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) certificate_chain: Vec<PathBuf>,
    /// Sign with a certificate whose extended key usage is for other things than signing code; who verifies will need
    /// --allow-eku, too
    #[arg(long)]
    pub(in crate::cli) allow_eku: bool,
}

/// A timestamp on the signature.
#[derive(Args)]
pub(in crate::cli) struct TimestampArgs {
    /// Have the signature stamped by the RFC 3161 timestamp authority at this address
    #[arg(long, value_name = "URL", help_heading = SIGNED)]
    pub(in crate::cli) tsa_url: Option<String>,
    /// With --tsa-url, do not sign unless the stamp is from an authority under a root in this file; repeat for more
    #[arg(long, value_name = "PATH", requires = "tsa_url", help_heading = SIGNED)]
    pub(in crate::cli) tsa_certificate_chain: Vec<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal sign certificate ./model --private-key key.pem --signing-certificate cert.pem \
                  --certificate-chain intermediate.pem --signature ./model/model.sig"
)]
pub(in crate::cli) struct SignCertificateArgs {
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) private_key: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) password: PasswordArgs,
    #[command(flatten)]
    pub(in crate::cli) certificate: SigningCertificateArgs,
    #[command(flatten)]
    pub(in crate::cli) common: SignArgs,
    #[command(flatten)]
    pub(in crate::cli) timestamp: TimestampArgs,
}

#[derive(Args)]
#[command(after_help = "Example: tensorseal verify certificate ./model --certificate-chain root.pem --identity \
                  email:release@example.com --signature ./model/model.sig")]
pub(in crate::cli) struct VerifyCertificateArgs {
    /// Roots to trust, in PEM, any number in a file; certificates in it that are not self-signed only help to find a
    /// way. Repeat for more files
    #[arg(long, value_name = "PATH", required_unless_present = "system_roots", help_heading = TRUSTED)]
    pub(in crate::cli) certificate_chain: Vec<PathBuf>,
    /// Trust this machine's certificate authorities, those of the web; only with --identity
    #[arg(long, requires = "identity", help_heading = TRUSTED)]
    pub(in crate::cli) system_roots: bool,
    /// An alternative name that the certificate must have, exactly, such as release@example.com, or with its kind:
    /// email:, dns:, uri:. Repeat for others that will do as well
    #[arg(long, value_name = "NAME", help_heading = TRUSTED)]
    pub(in crate::cli) identity: Vec<RequiredName>,
    /// Accept a certificate whose extended key usage is for other things than signing code
    #[arg(long, help_heading = TRUSTED)]
    pub(in crate::cli) allow_eku: bool,
    /// Roots to trust for timestamps, in PEM: the certificates are then judged at the time of a stamp, not now. Repeat
    /// for more files
    #[arg(long, value_name = "PATH", conflicts_with = "judge_at_not_before", help_heading = TRUSTED)]
    pub(in crate::cli) tsa_certificate_chain: Vec<PathBuf>,
    /// Judge the certificates at the beginning of the signer's, as model_signing does: an expired one is then as good as
    /// any, and so is one that is not valid yet
    #[arg(long, help_heading = TRUSTED)]
    pub(in crate::cli) judge_at_not_before: bool,
    #[command(flatten)]
    pub(in crate::cli) common: VerifyArgs,
    /// Print the SHA-256 of every certificate that is trusted and of every one in the signature
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) log_fingerprints: bool,
}
