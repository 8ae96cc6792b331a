//! `sign key`.

use std::path::Path;

use tensorseal::Error;
use tensorseal::key::PrivateKey;
use tensorseal::method::{Secrets, SignMethod};

use crate::cli::args::{PasswordArgs, SignKeyArgs};
use crate::cli::exit::Exit;
use crate::cli::{password, say};

pub(in crate::cli) fn key(args: &SignKeyArgs) -> Exit {
    let method = SignMethod::Key { private_key: args.private_key.clone() };
    super::run(&args.common, || {
        password::protest(&args.password);
        let mut ask = password::from(&args.password);
        let mut secrets = Secrets { given: args.password.any(), ask: &mut ask };
        method.signer(&args.timestamp.wanted(), &mut secrets, &mut say::of_method)
    })
}

/// Reads a private key, asking for its password if it has one.
pub(in crate::cli) fn private_key(path: &Path, given: &PasswordArgs) -> Result<PrivateKey, Error> {
    password::protest(given);
    let mut ask = password::from(given);
    let mut secrets = Secrets { given: given.any(), ask: &mut ask };
    tensorseal::method::private_key(path, &mut secrets, &mut say::of_method)
}
