//! The options of `trust`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{OUTPUT, SIGSTORE};

#[derive(Subcommand)]
pub(in crate::cli) enum TrustCommand {
    /// Fetch the current trust root of a Sigstore instance by TUF, for all later verifications
    Update(TrustUpdateArgs),
    /// Show which trust roots there are, how old they are, and what is in them; no network is used
    Show(TrustShowArgs),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tensorseal trust update\n  tensorseal trust update --url https://tuf.example.com --root root.json --out private.json"
)]
// A build without the feature takes these options only to say so.
#[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
pub(in crate::cli) struct TrustUpdateArgs {
    /// That of Sigstore's staging instance, not of the public one
    #[arg(long, conflicts_with = "root", help_heading = SIGSTORE)]
    pub(in crate::cli) staging: bool,
    /// Fetch it from this TUF repository: a mirror, or with --root somebody else's
    #[arg(long, value_name = "URL", help_heading = SIGSTORE)]
    pub(in crate::cli) url: Option<String>,
    /// The TUF root (root.json) that trust in a repository of somebody else's begins with
    #[arg(long, value_name = "FILE", requires_all = ["url", "out"], help_heading = SIGSTORE)]
    pub(in crate::cli) root: Option<PathBuf>,
    /// Where to write what was fetched: a file for --trust-config
    #[arg(long, value_name = "FILE", requires = "root", help_heading = SIGSTORE)]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  tensorseal trust show\n  tensorseal trust show private.json --json")]
pub(in crate::cli) struct TrustShowArgs {
    /// A client trust config or a trusted_root.json [default: those of the public instances]
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}
