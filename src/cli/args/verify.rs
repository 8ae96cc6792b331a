//! The options of `verify`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::{CHECKED, EngineArgs, ModelArgs, ReceiptArgs, TRUSTED, VerifyCertificateArgs, size};

#[derive(Subcommand)]
pub(in crate::cli) enum VerifyMethod {
    /// Verify with the signer's public key
    Key(VerifyKeyArgs),
    /// Verify with the certificate in the signature, under roots that you trust
    Certificate(VerifyCertificateArgs),
    /// Verify that somebody signed who was logged in under a name (Sigstore); no network is used
    Sigstore(VerifySigstoreArgs),
    /// Verify that a policy file accepts the model: who may have signed which model (`verify MODEL --policy FILE`)
    Policy(VerifyPolicyArgs),
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
    pub(in crate::cli) receipt: ReceiptArgs,
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
#[command(
    after_help = "Example: tensorseal verify sigstore ./model --signature ./model/model.sig --identity signer@example.com --identity-provider https://accounts.google.com",
    group(ArgGroup::new("who").required(true).args(["identity", "identity_regexp"])),
    group(ArgGroup::new("by-whom").required(true).args(["identity_provider", "identity_provider_regexp"]))
)]
pub(in crate::cli) struct VerifySigstoreArgs {
    /// Who must have signed: an e-mail address, or a URI such as that of a workflow
    #[arg(long, value_name = "NAME", help_heading = TRUSTED)]
    pub(in crate::cli) identity: Option<String>,
    /// The same as a regular expression, which the whole name must match
    #[arg(long, value_name = "REGEX", help_heading = TRUSTED)]
    pub(in crate::cli) identity_regexp: Option<String>,
    /// Who must have vouched for that name: the URL of an OpenID Connect issuer
    #[arg(long, value_name = "URL", help_heading = TRUSTED)]
    pub(in crate::cli) identity_provider: Option<String>,
    /// The same as a regular expression, which the whole URL must match
    #[arg(long, value_name = "REGEX", help_heading = TRUSTED)]
    pub(in crate::cli) identity_provider_regexp: Option<String>,
    /// Trust Sigstore's staging instance, where anybody may try things out, and not the public one
    #[arg(long, conflicts_with = "trust_config", help_heading = TRUSTED)]
    pub(in crate::cli) use_staging: bool,
    /// Trust the Sigstore instance that this file describes: a client trust config or a trusted_root.json
    #[arg(long, value_name = "FILE", help_heading = TRUSTED)]
    pub(in crate::cli) trust_config: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) common: VerifyArgs,
}

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal verify ./model --policy policy.toml --signature ./model/model.sig --signature security.sig"
)]
pub(in crate::cli) struct VerifyPolicyArgs {
    #[command(flatten)]
    pub(in crate::cli) common: VerifyByPolicyArgs,
}

/// What verification by a policy takes.
#[derive(Args)]
pub(in crate::cli) struct VerifyByPolicyArgs {
    /// The policy, in TOML: docs/policy.md describes it
    #[arg(long, value_name = "FILE", help_heading = TRUSTED)]
    pub(in crate::cli) policy: PathBuf,
    /// The signature; repeat for those of several signers. The policy must accept each of them
    #[arg(long, value_name = "PATH", required = true)]
    pub(in crate::cli) signature: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
    #[command(flatten)]
    pub(in crate::cli) check: CheckArgs,
    #[command(flatten)]
    pub(in crate::cli) receipt: ReceiptArgs,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
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
    /// The tensor manifest outside of the model that the signature names (sign --tensors-out): check it, too
    #[arg(long, value_name = "PATH", help_heading = CHECKED)]
    pub(in crate::cli) tensors: Option<PathBuf>,
    /// The trees that sign --outboard has kept: where a file differs, say which tensors, rows and bytes
    #[arg(long, value_name = "PATH", help_heading = CHECKED)]
    pub(in crate::cli) outboard: Option<PathBuf>,
    /// The longest bundle to accept
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB", help_heading = CHECKED)]
    pub(in crate::cli) max_bundle_size: NonZeroU64,
}

#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum DigestArg {
    Oms,
    Blake3,
}
