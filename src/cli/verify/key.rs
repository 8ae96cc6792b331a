//! `verify key`.

use tensorseal::method::VerifyMethod;

use crate::cli::args::VerifyKeyArgs;
use crate::cli::exit::Exit;
use crate::cli::say;

pub(super) fn key(command: &'static str, args: &VerifyKeyArgs) -> Exit {
    let method = VerifyMethod::Key { public_key: args.public_key.clone() };
    super::run(command, &args.common, &say::path(&args.public_key), || Ok(method.verifier(&mut say::of_method)?))
}
