//! Key files: written whole or not at all, private ones readable by their owner alone.

use std::io::Write;
use std::path::Path;

use super::{PrivateKey, PublicKey};
use crate::error::Error;
use crate::output::{Existing, write_whole};

impl PrivateKey {
    /// Writes the key to `path` in PEM, encrypted if there is a password, with mode 0600.
    ///
    /// # Errors
    /// [`Error::Key`] if it cannot be encrypted, [`Error::Io`] if it cannot be written, or a file is there that shall stay.
    pub fn write(&self, path: &Path, password: Option<&str>, existing: Existing) -> Result<(), Error> {
        let pem = self.to_pem(password).map_err(|source| Error::Key { path: path.to_owned(), source })?;
        write_whole(path, 0o600, existing, |file| file.write_all(pem.as_bytes())).map_err(Error::io("write key", path))
    }
}

impl PublicKey {
    /// Writes the key to `path` in PEM.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, or a file is there that shall stay.
    pub fn write(&self, path: &Path, existing: Existing) -> Result<(), Error> {
        write_whole(path, 0o666, existing, |file| file.write_all(self.to_pem().as_bytes()))
            .map_err(Error::io("write key", path))
    }
}
