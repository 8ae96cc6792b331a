//! The options of `sign`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tensorseal::tree::GroupSize;

use super::{
    EngineArgs, HashArg, IDENTITY, ModelArgs, PasswordArgs, SIGNED, SIGSTORE, SignCertificateArgs,
    SignPkcs11CertificateArgs, SignPkcs11KeyArgs, TimestampArgs, group, size,
};

#[derive(Subcommand)]
pub(in crate::cli) enum SignMethod {
    /// Sign with a private key (EC P-256, P-384 or P-521)
    Key(SignKeyArgs),
    /// Sign with a private key and its X.509 certificate
    Certificate(SignCertificateArgs),
    /// Sign as whoever is logged in (Sigstore): no key to keep, a public log entry of each signature
    Sigstore(SignSigstoreArgs),
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
    /// Sign digests of tensors and of tiles of them, too: a new file tensorseal.tensors of the model, with which whoever
    /// holds a slice of a tensor can check it
    #[arg(long, conflicts_with_all = ["tensors_out", "shards", "no_annotations"], help_heading = SIGNED)]
    pub(in crate::cli) tensors: bool,
    /// The same for a model that nothing can be added to: write them to PATH, outside of the model
    #[arg(long, value_name = "PATH", conflicts_with_all = ["shards", "no_annotations"], help_heading = SIGNED)]
    pub(in crate::cli) tensors_out: Option<PathBuf>,
    /// Write the BLAKE3 trees of the files to PATH, beside the model: verify and locate then say where a file differs
    #[arg(long, value_name = "PATH", conflicts_with = "no_annotations", help_heading = SIGNED)]
    pub(in crate::cli) outboard: Option<PathBuf>,
    /// How narrowly: the size of groups, a power of two from 1KiB to 1MiB
    #[arg(long, value_name = "SIZE", value_parser = group, default_value = "64KiB", requires = "outboard", help_heading = SIGNED)]
    pub(in crate::cli) outboard_group: GroupSize,
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

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tensorseal sign sigstore ./model --signature ./model/model.sig\n  tensorseal sign sigstore ./model --use-ambient-credentials\n  tensorseal sign sigstore ./model --identity-token-file token --trust-config private.json"
)]
// A build without the feature takes these options only to say so.
#[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
pub(in crate::cli) struct SignSigstoreArgs {
    #[command(flatten)]
    pub(in crate::cli) token: TokenArgs,
    /// Sign as the job or machine that this runs on: GitHub Actions, GitLab CI, Buildkite, CircleCI, Google Cloud
    #[arg(long, help_heading = IDENTITY)]
    pub(in crate::cli) use_ambient_credentials: bool,
    /// Do not open a browser to log in; show an address and ask for the code that is found there
    #[arg(long, help_heading = IDENTITY)]
    pub(in crate::cli) oauth_force_oob: bool,
    /// For whom tokens are made out: their audience, and the OAuth client that logs in
    #[arg(long, value_name = "ID", default_value = "sigstore", help_heading = IDENTITY)]
    pub(in crate::cli) client_id: String,
    #[command(flatten)]
    pub(in crate::cli) secret: ClientSecretArgs,
    /// The identity that the certificate must have, where it does not follow from the token
    #[arg(long, value_name = "NAME", help_heading = IDENTITY)]
    pub(in crate::cli) expect_identity: Option<String>,
    /// Sign with Sigstore's staging instance, where anybody may try things out, and not the public one
    #[arg(long, conflicts_with = "trust_config", help_heading = SIGSTORE)]
    pub(in crate::cli) use_staging: bool,
    /// Sign with the Sigstore instance that this file describes: a client trust config with a signing config
    #[arg(long, value_name = "FILE", help_heading = SIGSTORE)]
    pub(in crate::cli) trust_config: Option<PathBuf>,
    /// How long a server may take to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = super::seconds, help_heading = SIGSTORE)]
    pub(in crate::cli) service_timeout: NonZeroU64,
    #[command(flatten)]
    pub(in crate::cli) common: SignArgs,
}

#[derive(Args)]
// A build without the feature takes these options only to say so.
#[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
pub(in crate::cli) struct TokenArgs {
    /// The identity token; others can see it in the process list: prefer the options below
    #[arg(long, value_name = "TOKEN", group = "token", help_heading = IDENTITY)]
    pub(in crate::cli) identity_token: Option<String>,
    /// File with the identity token; read again after hashing, since it may have been renewed
    #[arg(long, value_name = "FILE", group = "token", help_heading = IDENTITY)]
    pub(in crate::cli) identity_token_file: Option<PathBuf>,
    /// Environment variable that holds the identity token
    #[arg(long, value_name = "NAME", group = "token", help_heading = IDENTITY)]
    pub(in crate::cli) identity_token_env: Option<String>,
}

#[derive(Args)]
// A build without the feature takes these options only to say so.
#[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
pub(in crate::cli) struct ClientSecretArgs {
    /// The OAuth client's secret; others can see it in the process list: prefer the options below
    #[arg(long, value_name = "SECRET", group = "client-secret-given", help_heading = IDENTITY)]
    pub(in crate::cli) client_secret: Option<String>,
    /// File with the OAuth client's secret
    #[arg(long, value_name = "FILE", group = "client-secret-given", help_heading = IDENTITY)]
    pub(in crate::cli) client_secret_file: Option<PathBuf>,
    /// Environment variable that holds the OAuth client's secret
    #[arg(long, value_name = "NAME", group = "client-secret-given", help_heading = IDENTITY)]
    pub(in crate::cli) client_secret_env: Option<String>,
}

#[cfg(feature = "sigstore-sign")]
mod sources {
    use super::{ClientSecretArgs, TokenArgs};
    use crate::cli::secret::Source;

    impl TokenArgs {
        pub(in crate::cli) fn source(&self) -> Source<'_> {
            Source {
                option: "identity-token",
                text: self.identity_token.as_deref(),
                file: self.identity_token_file.as_deref(),
                variable: self.identity_token_env.as_deref(),
            }
        }
    }

    impl ClientSecretArgs {
        pub(in crate::cli) fn source(&self) -> Source<'_> {
            Source {
                option: "client-secret",
                text: self.client_secret.as_deref(),
                file: self.client_secret_file.as_deref(),
                variable: self.client_secret_env.as_deref(),
            }
        }
    }
}
