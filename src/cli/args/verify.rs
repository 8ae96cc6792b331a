//! The options of `verify`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CHECKED, EngineArgs, ModelArgs, VerifyCertificateArgs, size};

#[derive(Subcommand)]
pub(in crate::cli) enum VerifyMethod {
    /// Verify with the signer's public key
    Key(VerifyKeyArgs),
    /// Verify with the certificate in the signature, under roots that you trust
    Certificate(VerifyCertificateArgs),
}

/// What every method takes.
#[derive(Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The signature
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) signature: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
    #[command(flatten)]
    pub(in crate::cli) check: CheckArgs,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal verify key ./model --public-key key.pub --signature ./model/model.sig --strict"
)]
pub(in crate::cli) struct VerifyKeyArgs {
    /// The signer's public key, in PEM
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) public_key: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) common: VerifyArgs,
}

#[derive(Args)]
pub(in crate::cli) struct CheckArgs {
    /// Tolerate files that are not signed; they are listed
    #[arg(long, overrides_with = "no_ignore_unsigned_files", conflicts_with = "strict", help_heading = CHECKED)]
    pub(in crate::cli) ignore_unsigned_files: bool,
    /// Refuse files that are not signed [default]
    #[arg(long, help_heading = CHECKED)]
    pub(in crate::cli) no_ignore_unsigned_files: bool,
    /// Refuse files under ignored paths too, but for the signature and --allow-ignored
    #[arg(long, help_heading = CHECKED)]
    pub(in crate::cli) strict: bool,
    /// With --strict, let this path stay unsigned; repeat for more
    #[arg(long, value_name = "PATH", requires = "strict", help_heading = CHECKED)]
    pub(in crate::cli) allow_ignored: Vec<PathBuf>,
    /// Which signed digest to check: that of OMS, or the BLAKE3 one beside it, which is several times faster
    #[arg(long, value_enum, default_value = "oms", value_name = "DIGEST", conflicts_with = "all_digests", help_heading = CHECKED)]
    pub(in crate::cli) digest: DigestArg,
    /// Check every signed digest; if they disagree, the signer is at fault and the answer is no
    #[arg(long, help_heading = CHECKED)]
    pub(in crate::cli) all_digests: bool,
    /// The longest bundle to accept
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB", help_heading = CHECKED)]
    pub(in crate::cli) max_bundle_size: NonZeroU64,
}

#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum DigestArg {
    Oms,
    Blake3,
}
