//! `sign key`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tensorseal::Error;
use tensorseal::key::PrivateKey;
use tensorseal::sign::KeySigner;

use super::timestamp::timestamped;
use crate::cli::args::{PasswordArgs, SignKeyArgs};
use crate::cli::exit::Exit;
use crate::cli::{password, read_key, say};

pub(in crate::cli) fn key(args: &SignKeyArgs) -> Exit {
    super::run(&args.common, || {
        let key = private_key(&args.private_key, &args.password)?;
        timestamped(KeySigner::new(key), &args.timestamp)
    })
}

/// Reads a private key, asking for its password if it has one.
pub(in crate::cli) fn private_key(path: &Path, given: &PasswordArgs) -> Result<PrivateKey, Error> {
    let pem = read_key(path)?;
    password::protest(given);
    let mut password_used = false;
    let key = PrivateKey::from_pem(&pem, &mut || {
        password_used = true;
        password::for_key(path, given)
    })
    .map_err(|source| Error::Key { path: path.to_owned(), source })?;
    warn_if_others_can_read(path);
    if !password_used && given.any() {
        say::warning(format_args!("the key {} is not encrypted; the password was not used", say::path(path)));
    }
    Ok(key)
}

fn warn_if_others_can_read(path: &Path) {
    const OTHERS_READ: u32 = 0o044;
    if std::fs::metadata(path).is_ok_and(|meta| meta.mode() & OTHERS_READ != 0) {
        say::warning(format_args!(
            "other users can read the private key {}; make it yours alone with `chmod 600`",
            say::path(path)
        ));
    }
}
