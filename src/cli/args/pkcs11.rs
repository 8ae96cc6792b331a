//! The options of the methods with a key in a token.

use std::path::PathBuf;

use clap::Args;

use super::{SignArgs, SigningCertificateArgs, TimestampArgs};

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal sign pkcs11-key ./model --pkcs11-uri 'pkcs11:token=HSM;object=model-key?module-name=softhsm2&pin-source=/run/secrets/pin' --signature ./model/model.sig"
)]
pub(in crate::cli) struct SignPkcs11KeyArgs {
    #[command(flatten)]
    pub(in crate::cli) token: TokenArgs,
    #[command(flatten)]
    pub(in crate::cli) timestamp: TimestampArgs,
    #[command(flatten)]
    pub(in crate::cli) common: SignArgs,
}

#[derive(Args)]
#[command(
    after_help = "Example: tensorseal sign pkcs11-certificate ./model --pkcs11-uri 'pkcs11:token=HSM;object=model-key?module-name=softhsm2&pin-source=/run/secrets/pin' --signing-certificate cert.pem --certificate-chain intermediate.pem --signature ./model/model.sig"
)]
pub(in crate::cli) struct SignPkcs11CertificateArgs {
    #[command(flatten)]
    pub(in crate::cli) token: TokenArgs,
    #[command(flatten)]
    pub(in crate::cli) certificate: SigningCertificateArgs,
    #[command(flatten)]
    pub(in crate::cli) timestamp: TimestampArgs,
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
