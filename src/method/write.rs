//! Signing with everything written: what the program does, and the bindings.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::shown;
use crate::device::Device;
use crate::device::cpu::Progress;
use crate::error::Error;
use crate::output::folder_of;
use crate::sign::{SignOptions, Signed, Signer, Tensors, sign};
use crate::tensors::FILE_NAME;

/// Signs the model at `model`, as [`sign`], and writes the bundle to `signature`, with the tensor manifest and the outboard
/// if there are new ones. What cannot be written is found out before anything is hashed, as far as it can be.
///
/// # Errors
/// As [`sign`], [`Signed::write`] and [`OutboardFile::write`](crate::outboard::OutboardFile::write).
pub fn sign_to(
    model: &Path,
    signature: &Path,
    signer: &dyn Signer,
    options: &SignOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Signed, Error> {
    can_write("write signature", signature)?;
    match &options.tensors {
        Tensors::AsFound => {}
        Tensors::InModel if model.is_dir() => can_write("write tensor manifest", &model.join(FILE_NAME))?,
        // The model is no folder: signing says so.
        Tensors::InModel => {}
        Tensors::Detached(path) => can_write("write tensor manifest", path)?,
    }
    let outboard = options.outboard.as_ref().map(|asked| asked.path());
    if let Some(path) = outboard {
        can_write("write outboard", path)?;
    }
    let signed = sign(model, signature, signer, options, device, progress)?;
    // First, so that nobody finds a signature whose trees are those of an earlier one.
    if let (Some(kept), Some(path)) = (&signed.hashed.outboard, outboard) {
        kept.write(path)?;
    }
    signed.write(signature)?;
    Ok(signed)
}

/// Finds out before hours of hashing what would fail after them. The write itself still has the last word.
///
/// # Errors
/// [`Error::Io`], with what was to be done (`doing`, as a verb).
pub fn can_write(doing: &'static str, target: &Path) -> Result<(), Error> {
    let cannot =
        |kind, why: String| Err(Error::Io { doing, path: target.to_owned(), source: io::Error::new(kind, why) });
    if target.is_dir() {
        return cannot(io::ErrorKind::IsADirectory, "it is a folder; give the path of a file in it".to_owned());
    }
    let folder = folder_of(target);
    if !folder.is_dir() {
        let why = format!("there is no folder {}; make it first", shown(folder));
        return cannot(io::ErrorKind::NotFound, why);
    }
    // A file without a name: nothing to see, nothing to remove. Where a file system has no such thing, this learns nothing.
    if let Err(error) = std::fs::File::options().write(true).custom_flags(libc::O_TMPFILE).open(folder)
        && [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem].contains(&error.kind())
    {
        return cannot(error.kind(), format!("no file can be made in its folder: {error}"));
    }
    Ok(())
}
