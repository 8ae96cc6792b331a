//! Into memory that a device fills by itself, from storage that it can reach: nothing passes through a staging block, so
//! digests are taken on the device alone, of what arrived.

use super::behind::{Behind, Sizes};
use super::direct::Uncached;
use super::locked::Found;
use super::staged::Text;
use super::{Item, ReadMode, Run};
use crate::device::cpu::{Algorithms, Digests};
use crate::device::file::{OpenFile, changed};
use crate::device::{Backend, DeviceKind, Storage, StorageError};
use crate::digest::Algorithm;
use crate::error::Error;

/// Bytes of one read: what came is hashed while the next ones come.
const PIECE: u64 = 64 << 20;

/// Refuses digests that a device cannot take of its memory: the host has nothing to take them of.
pub(super) fn refuse(algorithms: Algorithms) -> Result<(), Error> {
    let Some(algorithm) = algorithms.iter().find(|algorithm| *algorithm != Algorithm::Blake3) else { return Ok(()) };
    let why = format!(
        "{algorithm} digests are to be compared, which are taken of bytes in host memory, and none come there; a \
         signature with BLAKE3 digests, and no other that is asked for, can be checked"
    );
    Err(Error::NoReadMode { mode: ReadMode::CuFile, why })
}

/// Reads each file into its buffer, which has the file's length, and has the device take the digests that are wanted.
/// Results are in the order of `items`.
///
/// # Errors
/// The first failure ends it.
pub(super) fn fill<B: Backend>(
    backend: &B,
    items: &[&Item],
    buffers: &mut [B::Buffer],
    algorithms: Algorithms,
    run: &Run<'_>,
    sizes: Sizes,
) -> Result<Vec<Vec<Found>>, Error> {
    refuse(algorithms)?;
    let texts: Vec<Text> = items.iter().enumerate().flat_map(|(file, item)| Text::all(file, item, run)).collect();
    // Nothing is hashed if nothing is wanted.
    let mut behind = (algorithms != Algorithms::default()).then(|| Behind::new(backend, &texts, sizes));
    let mut next = 0;
    for (file, item) in items.iter().enumerate() {
        let open = OpenFile::open(&item.path)?;
        if open.len() != item.len {
            let how = format!("it had {} bytes when listed, and {} when opened", item.len, open.len());
            return Err(changed(&item.path, &how));
        }
        // A file without a byte has nothing that a device could read.
        let storage = if item.len > 0 { Some(storage(backend, &open, run)?) } else { None };
        while let Some(text) = texts.get(next).filter(|text| text.file == file) {
            let mut at = text.range.start;
            while at < text.range.end {
                run.check()?;
                let len = (text.range.end - at).min(PIECE);
                if let Some(storage) = &storage {
                    let count = storage.read(at, len, &mut buffers[file], at)?;
                    if count != len {
                        let how = format!(
                            "it ends at byte {}, before byte {}, but had {} bytes when opened",
                            at + count,
                            at + len,
                            item.len
                        );
                        return Err(changed(&item.path, &how));
                    }
                }
                if let Some(behind) = &mut behind {
                    behind.arrived(buffers, next, at - text.range.start, len)?;
                }
                run.progress.advance(len, 0);
                at += len;
            }
            if let (Some(behind), true) = (&mut behind, text.range.is_empty()) {
                behind.arrived(buffers, next, 0, 0)?;
            }
            next += 1;
        }
        open.check_end()?;
        open.check_unchanged()?;
        run.progress.advance(0, 1);
    }
    let values = match behind {
        Some(behind) => behind.finish(buffers)?,
        None => vec![Digests::default(); texts.len()],
    };
    let mut found: Vec<Vec<Found>> = items.iter().map(|_| Vec::new()).collect();
    for (text, memory) in texts.into_iter().zip(values) {
        found[text.file].push(Found { range: text.range, memory, read: Digests::default() });
    }
    Ok(found)
}

/// The file as the device reads it.
fn storage<'b, B: Backend>(
    backend: &'b B,
    file: &OpenFile,
    run: &Run<'_>,
) -> Result<Box<dyn Storage<B::Buffer> + 'b>, Error> {
    let uncached = Uncached::of(file, ReadMode::CuFile)?;
    let storage = backend.storage(uncached.file).map_err(|error| match error {
        StorageError::Missing(why) => Error::ReadMode { path: file.path.clone(), mode: ReadMode::CuFile, why },
        StorageError::Device(error) => error.into(),
    })?;
    // The same for each file.
    let _ = run.storage.set(storage.path());
    Ok(storage)
}

/// Refuses memory that is the host's own.
pub(super) fn refuse_host(kind: &DeviceKind) -> Error {
    let why = format!("{kind} has no memory of its own");
    Error::NoReadMode { mode: ReadMode::CuFile, why }
}
