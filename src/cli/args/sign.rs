//! The options of `sign`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    EngineArgs, HashArg, ModelArgs, PasswordArgs, SIGNED, SignCertificateArgs, SignPkcs11CertificateArgs,
    SignPkcs11KeyArgs, TimestampArgs, size,
};

#[derive(Subcommand)]
pub(in crate::cli) enum SignMethod {
    /// Sign with a private key (EC P-256, P-384 or P-521)
    Key(SignKeyArgs),
    /// Sign with a private key and its X.509 certificate
    Certificate(SignCertificateArgs),
    /// Sign with a private key in a token (PKCS#11: smart cards, HSMs); verified as `key` is
    Pkcs11Key(SignPkcs11KeyArgs),
    /// The same, and send the key's X.509 certificate along; verified as `certificate` is
    Pkcs11Certificate(SignPkcs11CertificateArgs),
}

/// What every method takes.
#[derive(Args)]
pub(in crate::cli) struct SignArgs {
    /// Where to write the signature
    #[arg(long, value_name = "PATH", default_value = "model.sig")]
    pub(in crate::cli) signature: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
    /// The OMS digest; only sha256 is verified by every implementation
    #[arg(long, value_enum, default_value = "sha256", value_name = "HASH", help_heading = SIGNED)]
    pub(in crate::cli) hash: HashArg,
    /// Sign ranges of SIZE bytes (such as 64MiB or 1GB) instead of whole files
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = SIGNED)]
    pub(in crate::cli) shards: Option<NonZeroU64>,
    /// Name the algorithm of shards as the Python and Go implementations need it, against the specification
    #[arg(long, requires = "shards", help_heading = SIGNED)]
    pub(in crate::cli) shards_compat: bool,
    /// Do not sign BLAKE3 digests and sizes beside the OMS digests; a GPU can then not verify in place
    #[arg(long, help_heading = SIGNED)]
    pub(in crate::cli) no_annotations: bool,
    /// How to name the file of a single-file model: "." is verified by all, the basename is the specification's form
    #[arg(long, value_enum, default_value = "dot", value_name = "FORM", help_heading = SIGNED)]
    pub(in crate::cli) single_file_name: SingleFileArg,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum SingleFileArg {
    Dot,
    Basename,
}

#[derive(Args)]
#[command(after_help = "Example: tensorseal sign key ./model --private-key key.pem --signature ./model/model.sig")]
pub(in crate::cli) struct SignKeyArgs {
    /// The private key, in PEM
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) private_key: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) password: PasswordArgs,
    #[command(flatten)]
    pub(in crate::cli) common: SignArgs,
    #[command(flatten)]
    pub(in crate::cli) timestamp: TimestampArgs,
}
