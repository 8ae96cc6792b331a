//! The options of receipts, and of `run`.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Arg, Args};

use super::{PasswordArgs, RECEIPT, VerifyByPolicyArgs};

#[derive(Args)]
#[command(
    mut_arg("password", |arg| of_receipt(arg).help(PASSWORD)),
    mut_arg("password_file", of_receipt),
    mut_arg("password_env", of_receipt)
)]
pub(in crate::cli) struct ReceiptArgs {
    /// Where to write a receipt of what was checked, in JSON, if the answer is yes
    #[arg(long, value_name = "PATH", help_heading = RECEIPT)]
    pub(in crate::cli) receipt: Option<PathBuf>,
    /// Sign the receipt with this private key, in PEM; an unsigned one is a log
    #[arg(long, value_name = "PATH", requires = "receipt", help_heading = RECEIPT)]
    pub(in crate::cli) receipt_key: Option<PathBuf>,
    /// For how long the receipt is good: a number and s, m, h or d
    #[arg(long, value_name = "SPAN", value_parser = span, default_value = "24h", requires = "receipt", help_heading = RECEIPT)]
    pub(in crate::cli) receipt_expires: NonZeroU64,
    #[command(flatten)]
    pub(in crate::cli) password: PasswordArgs,
}

#[derive(Args)]
#[command(
    after_help = "\
The model is checked on disk before the command begins; what the command reads later is not.
docs/run.md says what that proves and what helps. What tensorseal says goes to standard error.

Exit codes: those of the command; and without having run it
  1         the answer is no
  2         the command line is wrong
  3         no answer could be had, or a receipt does not hold
  126, 127  the command cannot be run, or is not there (found out before the check)

Example:
  tensorseal run --policy policy.toml --signature ./model/model.sig ./model -- python serve.py",
    mut_arg("json", |arg| arg.help("Print a report in JSON on standard error, in one line, in place of the text of success"))
)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) verify: VerifyByPolicyArgs,
    /// Do not hash the model if this receipt holds: it is signed by a key that the policy names, and each file shows that
    /// it cannot have changed since. If it does not hold, that is an error
    #[arg(long, value_name = "PATH", help_heading = RECEIPT)]
    pub(in crate::cli) accept_receipt: Option<PathBuf>,
    /// With --accept-receipt, trust that a file is unchanged whose device, inode, length and times are. Whoever can write
    /// to the disk can get around that
    #[arg(long, requires = "accept_receipt", help_heading = RECEIPT)]
    pub(in crate::cli) trust_file_identity: bool,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(in crate::cli) command: Vec<OsString>,
}

const PASSWORD: &str =
    "Password of that key; others can see it in the process list: prefer the options below, or the prompt";

fn of_receipt(arg: Arg) -> Arg {
    arg.requires("receipt_key").help_heading(RECEIPT)
}

fn span(text: &str) -> Result<NonZeroU64, &'static str> {
    tensorseal::time::parse_span(text).ok_or("write a number and s, m, h or d, such as 24h, up to 366d")
}
