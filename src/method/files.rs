//! Files of keys and certificates.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Warning;
use crate::error::Error;
#[cfg(feature = "sigstore-verify")]
use crate::timestamp::TimestampAuthorities;
use crate::x509::{Certificate, CertificateFault};

/// Where the certificate authorities of a machine are kept: Debian, Fedora and its kin, openSUSE, Alpine and the BSDs.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads a key file. It may be a pipe, such as a shell's `<(command)`.
pub(super) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read("read key", path)
}

fn read(doing: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    /// Ten times the longest certificate chain anybody keeps with a key, and several times all roots of the web.
    const LONGEST: u64 = 1 << 20;
    let cannot = |source| Error::Io { doing, path: path.to_owned(), source };
    // Room for all at once: a buffer that grows leaves copies of the key behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    File::open(path).map_err(cannot)?.take(LONGEST + 1).read_to_end(&mut pem).map_err(cannot)?;
    if pem.len() as u64 > LONGEST {
        return Err(cannot(io::Error::other("it is too long for keys or certificates")));
    }
    Ok(pem)
}

/// All certificates of several files, in order.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::Certificate`] for one that holds something else.
pub fn read_certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    let read = |path: &PathBuf| {
        let text = read("read certificates", path)?;
        Certificate::all_from_pem(&text).map_err(|source| Error::Certificate { path: path.to_owned(), source })
    };
    paths.iter().map(read).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

/// The file of this machine's certificate authorities: the one that `SSL_CERT_FILE` names, as for OpenSSL, or the first
/// that is there.
#[must_use]
pub fn system_roots() -> PathBuf {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let there = || SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file());
    named.or_else(there).unwrap_or_else(|| PathBuf::from(SYSTEM[0]))
}

/// This machine's certificate authorities. What cannot be read is left out: it is then not trusted.
pub(super) fn read_system(path: &Path, warn: &mut dyn FnMut(Warning)) -> Result<Vec<Certificate>, Error> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let text = read("read certificates", path)?;
    let starts: Vec<usize> = (0..text.len()).filter(|&at| text[at..].starts_with(BEGIN)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let blocks = starts.iter().zip(ends).map(|(&start, end)| &text[start..end]);
    let read: Vec<_> = blocks.filter_map(|block| Certificate::all_from_pem(block).ok()).flatten().collect();
    if read.is_empty() {
        return Err(Error::Certificate { path: path.to_owned(), source: CertificateFault::NotPem });
    }
    let count = starts.len() - read.len();
    if count > 0 {
        warn(Warning::CertificatesLeftOut { path: path.to_owned(), count });
    }
    Ok(read)
}

/// Whose timestamps are trusted, if anybody's are.
#[cfg(feature = "sigstore-verify")]
pub(super) fn authorities(paths: &[PathBuf]) -> Result<Option<TimestampAuthorities>, Error> {
    let Some(first) = paths.first() else { return Ok(None) };
    let authorities = TimestampAuthorities::new(&read_certificates(paths)?);
    authorities.map(Some).map_err(|source| Error::TimestampRoots { path: first.clone(), source })
}
