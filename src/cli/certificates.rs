//! Files of certificates.

use std::path::{Path, PathBuf};

use tensorseal::Error;
#[cfg(feature = "sigstore-verify")]
use tensorseal::timestamp::TimestampAuthorities;
use tensorseal::x509::Certificate;

use super::read_file;

/// Where the certificate authorities of a machine are kept: Debian, Fedora and its kin, openSUSE, Alpine and the BSDs.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// All certificates of a file, in order.
pub(super) fn read(path: &Path) -> Result<Vec<Certificate>, Error> {
    let text = read_file("read certificates", path)?;
    Certificate::all_from_pem(&text).map_err(|source| Error::Certificate { path: path.to_owned(), source })
}

/// All certificates of several files.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

/// The file of this machine's certificate authorities: the one that `SSL_CERT_FILE` names, as for OpenSSL, or the first
/// that is there.
pub(super) fn system() -> PathBuf {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let there = || SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file());
    named.or_else(there).unwrap_or_else(|| PathBuf::from(SYSTEM[0]))
}

/// Whose timestamps are trusted, if anybody's are.
#[cfg(feature = "sigstore-verify")]
pub(super) fn authorities(paths: &[PathBuf]) -> Result<Option<TimestampAuthorities>, Error> {
    let Some(first) = paths.first() else { return Ok(None) };
    let authorities = TimestampAuthorities::new(&read_all(paths)?);
    authorities.map(Some).map_err(|source| Error::TimestampRoots { path: first.clone(), source })
}
