//! The options of `sign`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{EngineArgs, HashArg, ModelArgs, PasswordArgs, SIGNED, size};

#[derive(Subcommand)]
pub(in crate::cli) enum SignMethod {
    /// Sign with a private key (EC P-256, P-384 or P-521)
    Key(SignKeyArgs),
    /// Sign with a private key in a token (PKCS#11: smart cards, HSMs); verified as `key` is
    Pkcs11Key(SignPkcs11KeyArgs),
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
}

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal sign pkcs11-key ./model --pkcs11-uri 'pkcs11:token=HSM;object=model-key?module-name=softhsm2&pin-source=/run/secrets/pin' --signature ./model/model.sig"
)]
pub(in crate::cli) struct SignPkcs11KeyArgs {
    #[command(flatten)]
    pub(in crate::cli) token: TokenArgs,
    #[command(flatten)]
    pub(in crate::cli) common: SignArgs,
}

/// Which key of which token, and how to be let in.
#[derive(Args)]
pub(in crate::cli) struct TokenArgs {
    /// The key, as an RFC 7512 URI: pkcs11:token=..;object=..?module-path=..&pin-source=.. A pin-value in it can be seen by
    /// others in the process list: prefer pin-source, the options below, or the prompt
    // Read by the library, whose messages show no PIN; those of the parser of options would quote it.
    #[arg(long, value_name = "URI")]
    pub(in crate::cli) pkcs11_uri: String,
    /// The PKCS#11 module, or a folder to look for the URI's module-name in; in place of the URI's module-path. Repeat for
    /// more folders
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) module_path: Vec<PathBuf>,
    /// File whose first line is the token's PIN
    #[arg(long, value_name = "FILE", group = "pin")]
    pub(in crate::cli) pin_file: Option<PathBuf>,
    /// Environment variable that holds the token's PIN
    #[arg(long, value_name = "NAME", group = "pin")]
    pub(in crate::cli) pin_env: Option<String>,
}
