//! Files of certificates.

use std::path::{Path, PathBuf};

use tensorseal::Error;
#[cfg(feature = "sigstore-verify")]
use tensorseal::timestamp::TimestampAuthorities;
use tensorseal::x509::{Certificate, CertificateFault};

use super::{read_file, say};

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

/// This machine's certificate authorities. What cannot be read is left out: it is then not trusted.
pub(super) fn read_system(path: &Path) -> Result<Vec<Certificate>, Error> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let text = read_file("read certificates", path)?;
    let starts: Vec<usize> = (0..text.len()).filter(|&at| text[at..].starts_with(BEGIN)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let blocks = starts.iter().zip(ends).map(|(&start, end)| &text[start..end]);
    let read: Vec<_> = blocks.filter_map(|block| Certificate::all_from_pem(block).ok()).flatten().collect();
    if read.is_empty() {
        let source = CertificateFault::NotPem;
        return Err(Error::Certificate { path: path.to_owned(), source });
    }
    let left_out = starts.len() - read.len();
    if left_out > 0 {
        say::info(format_args!(
            "{left_out} of the certificates in {} cannot be read and are not trusted",
            say::path(path)
        ));
    }
    Ok(read)
}

/// Whose timestamps are trusted, if anybody's are.
#[cfg(feature = "sigstore-verify")]
pub(super) fn authorities(paths: &[PathBuf]) -> Result<Option<TimestampAuthorities>, Error> {
    let Some(first) = paths.first() else { return Ok(None) };
    let authorities = TimestampAuthorities::new(&read_all(paths)?);
    authorities.map(Some).map_err(|source| Error::TimestampRoots { path: first.clone(), source })
}
