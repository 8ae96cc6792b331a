//! `sign pkcs11-key`, `sign pkcs11-certificate`.

use tensorseal::Error;
use tensorseal::sign::SignError;
use tensorseal::sign::pkcs11::{Pkcs11Error, Pkcs11Uri, UriPin};

use crate::cli::args::{SignPkcs11CertificateArgs, SignPkcs11KeyArgs, TokenArgs};
use crate::cli::exit::Exit;
use crate::cli::say;

#[cfg(feature = "pkcs11")]
pub(in crate::cli) fn pkcs11_key(args: &SignPkcs11KeyArgs) -> Exit {
    super::run(&args.common, || {
        let key = open(&args.token, None)?;
        super::timestamp::timestamped(tensorseal::sign::pkcs11::Pkcs11Signer::new(key), &args.timestamp)
    })
}

#[cfg(feature = "pkcs11")]
pub(in crate::cli) fn pkcs11_certificate(args: &SignPkcs11CertificateArgs) -> Exit {
    super::run(&args.common, || {
        let certificate = super::certificate::signing_certificate(&args.certificate)?;
        let key = open(&args.token, Some(certificate.public_key()))?;
        let signer = tensorseal::sign::pkcs11::Pkcs11CertificateSigner::new(key, certificate);
        super::timestamp::timestamped(signer.map_err(SignError::from)?, &args.timestamp)
    })
}

#[cfg(not(feature = "pkcs11"))]
pub(in crate::cli) fn pkcs11_key(args: &SignPkcs11KeyArgs) -> Exit {
    super::run(&args.common, || Err(without_the_feature(&args.token)))
}

#[cfg(not(feature = "pkcs11"))]
pub(in crate::cli) fn pkcs11_certificate(args: &SignPkcs11CertificateArgs) -> Exit {
    super::run(&args.common, || Err(without_the_feature(&args.token)))
}

#[cfg(not(feature = "pkcs11"))]
fn without_the_feature(args: &TokenArgs) -> Error {
    uri(args).err().unwrap_or(Error::NoFeature { what: "sign with keys in tokens", feature: "pkcs11" })
}

/// The URI, with a warning if it holds a PIN, which has happened already.
fn uri(args: &TokenArgs) -> Result<Pkcs11Uri, Error> {
    let uri: Pkcs11Uri = args.pkcs11_uri.parse().map_err(|error| SignError::from(Pkcs11Error::Uri(error)))?;
    if matches!(uri.pin, Some(UriPin::Value(_))) {
        say::warning(
            "a PIN on the command line can be seen by every user of this machine; use pin-source, --pin-file, --pin-env or the prompt",
        );
    }
    if uri.pin.is_some() && (args.pin_file.is_some() || args.pin_env.is_some()) {
        return Err(SignError::from(Pkcs11Error::TwoPins).into());
    }
    Ok(uri)
}

/// Opens the key, asking for the PIN if there is no other way to it.
#[cfg(feature = "pkcs11")]
fn open(
    args: &TokenArgs,
    certified: Option<&tensorseal::key::PublicKey>,
) -> Result<tensorseal::sign::pkcs11::Pkcs11Key, Error> {
    use crate::cli::password;

    let mut used = false;
    let key = tensorseal::sign::pkcs11::Pkcs11Key::open(&uri(args)?, &args.module_path, certified, &mut |token| {
        used = true;
        match password::named(args.pin_file.as_deref(), args.pin_env.as_deref())? {
            Some(pin) => Ok(pin),
            None => password::ask(&format!("PIN of the token {token}: ")),
        }
    })
    .map_err(SignError::from)?;
    if !used && (args.pin_file.is_some() || args.pin_env.is_some()) {
        say::warning(format_args!(
            "the token {} asks this program for no PIN; the one given was not used",
            key.token()
        ));
    }
    Ok(key)
}
