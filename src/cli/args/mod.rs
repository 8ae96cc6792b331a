//! The command line, as clap is told of it.

mod bench;
mod certificate;
mod pkcs11;
mod receipt;
mod sign;
mod trust;
mod verify;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tensorseal::outboard::MAX_GROUP;
use tensorseal::selftest::Kind;
use tensorseal::tree::GroupSize;

pub(super) use bench::BenchArgs;
pub(super) use certificate::{SignCertificateArgs, SigningCertificateArgs, TimestampArgs, VerifyCertificateArgs};
pub(super) use pkcs11::{SignPkcs11CertificateArgs, SignPkcs11KeyArgs, TokenArgs};
pub(super) use receipt::{ReceiptArgs, RunArgs};
pub(super) use sign::{SignArgs, SignKeyArgs, SignMethod, SignSigstoreArgs, SingleFileArg};
pub(super) use trust::{TrustCommand, TrustShowArgs, TrustUpdateArgs};
pub(super) use verify::{
    CheckArgs, DigestArg, VerifyArgs, VerifyByPolicyArgs, VerifyKeyArgs, VerifyMethod, VerifyPolicyArgs,
    VerifySigstoreArgs,
};

use crate::EXIT_CODES;

// Headings of `--help`, in the order in which they are shown.
const FILES: &str = "Which files";
const IDENTITY: &str = "Who signs";
const SIGSTORE: &str = "Which Sigstore";
const SIGNED: &str = "What is signed";
const TRUSTED: &str = "Who is trusted";
const CHECKED: &str = "What is checked";
const ENGINE: &str = "How digests are computed";
const RECEIPT: &str = "Receipt";
const OUTPUT: &str = "Output";

#[derive(Parser)]
#[command(
    name = "tensorseal",
    version,
    about = "Sign and verify machine-learning models (OpenSSF Model Signing)",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    // As in Python's: where an option is repeated, the last one counts.
    args_override_self = true,
    subcommand_required = true
)]
pub(in crate::cli) struct Cli {
    /// How much to say on standard error: CRITICAL, ERROR, WARNING, INFO or DEBUG
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        default_value = "INFO",
        value_name = "LEVEL",
        global = true,
        hide_possible_values = true,
        help_heading = OUTPUT
    )]
    pub(in crate::cli) log_level: LogLevel,
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

// The names are Python's. No text for each: that would make `--help` long and unlike `-h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(in crate::cli) enum LogLevel {
    Critical,
    Error,
    Warning,
    Info,
    Debug,
}

#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Sign a model
    #[command(
        subcommand,
        after_help = "Example: tensorseal sign key ./model --private-key key.pem --signature model.sig"
    )]
    Sign(SignMethod),
    /// Verify that a model is what its signer signed
    #[command(
        subcommand,
        after_help = "Example: tensorseal verify key ./model --public-key key.pub --signature model.sig"
    )]
    Verify(VerifyMethod),
    /// Say where a model differs from what its signer signed: files, tensors, rows, bytes
    #[command(
        subcommand,
        after_help = "This is verify with an outboard, the trees that sign --outboard has kept, and takes its options.\n\nExample: tensorseal locate key ./model --public-key key.pub --signature model.sig --outboard model.trees",
        mut_subcommands(|method| method
            .mut_arg("outboard", |outboard| outboard.required(true))
            .after_help("Example: tensorseal locate key ./model --public-key key.pub --signature model.sig --outboard model.trees"))
    )]
    Locate(VerifyMethod),
    /// Verify a model by a policy, then become a command; or do not run it
    Run(RunArgs),
    /// Fetch and show the trust roots of Sigstore
    #[command(subcommand, after_help = "Example: tensorseal trust update")]
    Trust(TrustCommand),
    /// Print the digest of a model, or of each of its files
    Digest(DigestArgs),
    /// Show what a bundle says, or what of a model would be signed and which tensors it holds; verifies nothing
    Inspect(InspectArgs),
    /// Make a key pair
    Keygen(KeygenArgs),
    /// List the devices that can compute digests, and those that cannot, with the reason
    Devices(DevicesArgs),
    /// Find out whether a device computes BLAKE3, and how fast: run this first on a machine with a GPU
    Selftest(SelftestArgs),
    /// Measure how fast this machine hashes, loads, signs and verifies, beside what it could do and what others do
    Bench(BenchArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example: tensorseal completions bash > /usr/share/bash-completion/completions/tensorseal")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    #[command(after_help = "Example: tensorseal man | man -l -")]
    Man,
}

#[derive(Args)]
pub(in crate::cli) struct ModelArgs {
    /// The model: a folder, or a single file
    #[arg(value_name = "MODEL_PATH")]
    pub(in crate::cli) model: PathBuf,
    /// Leave out this file or folder (relative to the current folder); repeat for more
    #[arg(long, value_name = "PATH", help_heading = FILES)]
    pub(in crate::cli) ignore_paths: Vec<PathBuf>,
    /// Leave out .git, .gitattributes, .github and .gitignore at the model's root [default when signing]
    #[arg(long, overrides_with = "no_ignore_git_paths", help_heading = FILES)]
    pub(in crate::cli) ignore_git_paths: bool,
    /// Count those as part of the model
    #[arg(long, help_heading = FILES)]
    pub(in crate::cli) no_ignore_git_paths: bool,
    /// Follow symlinks to files and folders inside the model
    #[arg(long, help_heading = FILES)]
    pub(in crate::cli) allow_symlinks: bool,
    /// Follow symlinks that leave the model too, as in a Hugging Face cache (implies --allow-symlinks)
    #[arg(long, help_heading = FILES)]
    pub(in crate::cli) allow_external_symlinks: bool,
}

#[derive(Args)]
pub(in crate::cli) struct EngineArgs {
    /// Where to compute BLAKE3: cpu, wgpu, wgpu:NAME, cuda, cuda:N, or auto, which says what it chose. Other digests take
    /// the CPU, and files that are on disk anyway are hashed faster there
    #[arg(long, default_value = "cpu", value_name = "DEVICE", help_heading = ENGINE)]
    pub(in crate::cli) device: String,
    /// Worker threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = ENGINE)]
    pub(in crate::cli) threads: Option<NonZeroUsize>,
    /// How to fetch bytes: auto maps large files under a read lease where it can, read only reads
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW", help_heading = ENGINE)]
    pub(in crate::cli) io: IoArg,
    /// Print a report in JSON on standard output instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum IoArg {
    Auto,
    Read,
}

#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum HashArg {
    Sha256,
    Blake2b,
    Blake3,
}

#[derive(Args)]
pub(in crate::cli) struct PasswordArgs {
    /// Password of the key; others can see it in the process list: prefer the options below, or the prompt
    #[arg(long, value_name = "PASSWORD", group = "secret")]
    pub(in crate::cli) password: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", group = "secret")]
    pub(in crate::cli) password_file: Option<PathBuf>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "NAME", group = "secret")]
    pub(in crate::cli) password_env: Option<String>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tensorseal digest ./model\n  tensorseal digest ./model --files --hash blake3 | b3sum --check"
)]
pub(in crate::cli) struct DigestArgs {
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
    /// Digest of each file; the root digest over all of them is SHA-256 whatever this is
    #[arg(long, value_enum, default_value = "sha256", value_name = "HASH")]
    pub(in crate::cli) hash: HashArg,
    /// Print a line for each file, for `sha256sum --check`, `b2sum --check` or `b3sum --check`
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) files: bool,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  tensorseal inspect model.sig\n  tensorseal inspect ./model\n  tensorseal inspect ./model --tensors",
    mut_arg("model", |path| path.value_name("PATH").help("A bundle; or a model: a folder, or a single file"))
)]
pub(in crate::cli) struct InspectArgs {
    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,
    /// List each tensor of a model with its place in its file; without this, those that are alike share a line
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) tensors: bool,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
    /// The longest bundle to accept
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    pub(in crate::cli) max_bundle_size: NonZeroU64,
}

#[derive(Args)]
#[command(after_help = "Example: tensorseal keygen --out key.pem   (writes key.pem and key.pub)")]
pub(in crate::cli) struct KeygenArgs {
    /// P-256, P-384 or P-521
    #[arg(long, default_value = "P-256", value_name = "CURVE")]
    pub(in crate::cli) curve: String,
    /// Where to write the private key, readable by its owner alone
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) out: PathBuf,
    /// Where to write the public key [default: the private key's path with .pub]
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) public: Option<PathBuf>,
    /// Encrypt the private key with a password that is asked for
    #[arg(long, group = "secret")]
    pub(in crate::cli) encrypt: bool,
    #[command(flatten)]
    pub(in crate::cli) password: PasswordArgs,
    /// Replace files that exist
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

#[derive(Args)]
#[command(after_help = "Example: tensorseal devices --json")]
pub(in crate::cli) struct DevicesArgs {
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  tensorseal selftest\n  tensorseal selftest --device cuda:1 --bench --json")]
pub(in crate::cli) struct SelftestArgs {
    /// The device: cpu, wgpu, wgpu:NAME (also a software adapter), cuda or cuda:N [default: all that are there, but software]
    #[arg(long, value_name = "DEVICE")]
    pub(in crate::cli) device: Option<String>,
    /// The number from which all cases follow
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) seed: u64,
    /// Run so many times as many cases
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) rounds: NonZeroUsize,
    /// Run one kind of case alone (such as layouts), or one case of it (such as layouts/17)
    #[arg(long, value_name = "KIND[/N]", value_parser = super::selftest::case)]
    pub(in crate::cli) case: Option<(Kind, Option<usize>)>,
    /// Then measure how fast it hashes what lies in its memory; each digest is checked
    #[arg(long)]
    pub(in crate::cli) bench: bool,
    /// Memory to measure in at most [default: a quarter of what is free, up to 16GiB; for the CPU up to 512MiB a thread and
    /// 4GiB; 1GiB if not known]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "bench")]
    pub(in crate::cli) bench_size: Option<NonZeroU64>,
    /// Measure so often each
    #[arg(long, value_name = "N", default_value = "5", requires = "bench")]
    pub(in crate::cli) repeats: NonZeroUsize,
    /// Print a report in JSON instead
    #[arg(long, help_heading = OUTPUT)]
    pub(in crate::cli) json: bool,
}

impl PasswordArgs {
    /// Whether a password was given in any way.
    pub(in crate::cli) fn any(&self) -> bool {
        self.password.is_some() || self.password_file.is_some() || self.password_env.is_some()
    }
}

fn seconds(text: &str) -> Result<NonZeroU64, &'static str> {
    let wrong = "write a number of seconds from 1 to 3600";
    text.parse().ok().filter(|seconds: &NonZeroU64| seconds.get() <= 3600).ok_or(wrong)
}

fn threads(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "write a whole number, 1 or more")
}

/// `4096`, `64MiB`, `1GB`: binary prefixes with an i, decimal ones without. A bare `64M` could be either.
fn size(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number of bytes, such as 64MiB".to_owned())?;
    number
        .checked_mul(factor)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "it must be positive and fit in 64 bits".to_owned())
}

/// The size of groups of an outboard.
fn group(text: &str) -> Result<GroupSize, String> {
    let bytes = size(text)?.get();
    let group = GroupSize::at_most(bytes);
    let wrong = "it must be a power of two, from 1KiB to 1MiB";
    (group.bytes() == bytes && group <= MAX_GROUP).then_some(group).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_powers_of_two_of_some_kibibytes() {
        for (text, log) in [("1KiB", 0), ("64KiB", 6), ("65536", 6), ("1MiB", 10)] {
            assert_eq!(group(text).map(GroupSize::chunk_log), Ok(log), "{text}");
        }
        for text in ["1", "1023", "1025", "96KiB", "64kB", "2MiB", "0"] {
            assert!(group(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_one_meaning() {
        for (text, bytes) in [("1", 1), ("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("7 KiB", 7168), ("5B", 5)] {
            assert_eq!(size(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for text in ["", "0", "64M", "-1", "1.5GB", "MiB", "18446744073709551616", "18446744073709551615KiB", "1e9"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
