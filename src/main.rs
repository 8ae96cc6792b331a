//! The command line of Tensorseal.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod cli;

/// Shown at the end of `--help` and in the manual.
const EXIT_CODES: &str = "\
Exit codes:
  0  yes, or done
  1  the answer is no: bundle malformed, forged or too large, wrong signer, model differs
  2  the command line is wrong
  3  no answer could be had: input missing or unreadable, device missing, file changed while read

Example:
  tensorseal keygen --out key.pem
  tensorseal sign key ./model --private-key key.pem --signature model.sig
  tensorseal verify key ./model --public-key key.pub --signature model.sig";

fn main() -> std::process::ExitCode {
    cli::run()
}
