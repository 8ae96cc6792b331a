//! `sign pkcs11-key`.

use tensorseal::Error;
use tensorseal::sign::SignError;
use tensorseal::sign::pkcs11::{Pkcs11Error, Pkcs11Uri, UriPin};

use crate::cli::args::{SignPkcs11KeyArgs, TokenArgs};
use crate::cli::exit::Exit;
use crate::cli::say;

pub(in crate::cli) fn pkcs11_key(args: &SignPkcs11KeyArgs) -> Exit {
    super::run(&args.common, || {
        let uri = uri(&args.token)?;
        signer(&uri, &args.token)
    })
}

/// The URI, with a warning if it holds a PIN, which has happened already.
fn uri(args: &TokenArgs) -> Result<Pkcs11Uri, Error> {
    let uri: Pkcs11Uri = args.pkcs11_uri.parse().map_err(|error| refused(Pkcs11Error::Uri(error)))?;
    if matches!(uri.pin, Some(UriPin::Value(_))) {
        say::warning(
            "a PIN on the command line can be seen by every user of this machine; use pin-source, --pin-file, --pin-env or the prompt",
        );
    }
    if uri.pin.is_some() && (args.pin_file.is_some() || args.pin_env.is_some()) {
        return Err(refused(Pkcs11Error::TwoPins));
    }
    Ok(uri)
}

fn refused(error: Pkcs11Error) -> Error {
    SignError::from(error).into()
}

#[cfg(feature = "pkcs11")]
fn signer(uri: &Pkcs11Uri, args: &TokenArgs) -> Result<Box<dyn tensorseal::sign::Signer>, Error> {
    Ok(Box::new(tensorseal::sign::pkcs11::Pkcs11Signer::new(open(uri, args, None)?)))
}

#[cfg(not(feature = "pkcs11"))]
fn signer(_: &Pkcs11Uri, _: &TokenArgs) -> Result<Box<dyn tensorseal::sign::Signer>, Error> {
    Err(refused(Pkcs11Error::NotCompiled))
}

/// Opens the key, asking for the PIN if there is no other way to it.
#[cfg(feature = "pkcs11")]
fn open(
    uri: &Pkcs11Uri,
    args: &TokenArgs,
    certified: Option<&tensorseal::key::PublicKey>,
) -> Result<tensorseal::sign::pkcs11::Pkcs11Key, Error> {
    use crate::cli::password;

    let mut used = false;
    let key = tensorseal::sign::pkcs11::Pkcs11Key::open(uri, &args.module_path, certified, &mut |token| {
        used = true;
        match password::named(args.pin_file.as_deref(), args.pin_env.as_deref())? {
            Some(pin) => Ok(pin),
            None => password::ask(&format!("PIN of the token {token}: ")),
        }
    })
    .map_err(refused)?;
    if !used && (args.pin_file.is_some() || args.pin_env.is_some()) {
        say::warning(format_args!(
            "the token {} asks this program for no PIN; the one given was not used",
            key.token()
        ));
    }
    Ok(key)
}
