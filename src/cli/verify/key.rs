//! `verify key`.

use tensorseal::Error;
use tensorseal::key::PublicKey;
use tensorseal::verify::KeyVerifier;

use crate::cli::args::VerifyKeyArgs;
use crate::cli::exit::Exit;
use crate::cli::{read_key, say};

pub(super) fn key(command: &'static str, args: &VerifyKeyArgs) -> Exit {
    super::run(command, &args.common, &say::path(&args.public_key), || {
        let pem = read_key(&args.public_key)?;
        let key = PublicKey::from_pem(&pem).map_err(|source| Error::Key { path: args.public_key.clone(), source })?;
        Ok(Box::new(KeyVerifier::new(key)))
    })
}
