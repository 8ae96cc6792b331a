//! Trees of a model that is being signed.

use super::file::OutboardFile;
use super::kept::Kept;
use crate::device::DeviceError;
use crate::device::DeviceKind;
use crate::device::file::{OpenFile, changed};
use crate::digest::Algorithm;
use crate::error::Error;
use crate::format::{Format, Header, HeaderFault};
use crate::measure::Measured;
use crate::source::SourceFile;
use crate::tree::{CHUNK_LEN, ChainingValue, GroupSize, Tree, group_value};

/// Keeps the trees of what was measured, sorted by name. `file` tells where a resource's bytes lie, and from which byte
/// of that file on.
///
/// In files of tensors the groups of the header are kept by chunks, so that a difference behind a header's end leaves the
/// header known.
pub(crate) fn keep<'f>(
    measured: &[Measured],
    group: GroupSize,
    device: &DeviceKind,
    file: &dyn Fn(&Measured) -> Option<(&'f SourceFile, u64)>,
) -> Result<OutboardFile, Error> {
    let mut kept = Vec::with_capacity(measured.len());
    // Shards of one file come one after the other: its header is read once.
    let mut last: Option<(&SourceFile, u64)> = None;
    for of in measured {
        let defect = || DeviceError::NoResult { device: device.clone() };
        let root = of.digests.get(Algorithm::Blake3).ok_or_else(defect)?;
        let tree = Tree::new(of.size, group);
        let place = file(of);
        let header = match (place, last) {
            // What is written only with the signature has no header.
            (None, _) => 0,
            (Some((file, _)), Some((same, header))) if same == file => header,
            (Some((file, _)), _) => header_len(file)?,
        };
        last = place.map(|(file, _)| (file, header));
        let fine = match header.saturating_sub(place.map_or(0, |(_, at)| at)).min(of.size) {
            _ if tree.is_single_chunk() || tree.group().chunk_log() == 0 => 0,
            bytes => bytes.div_ceil(tree.group().bytes()),
        };
        let mut values = match place {
            Some((file, at)) if fine > 0 => chunks(file, at, tree, fine)?,
            _ => Vec::new(),
        };
        values.extend(of.groups.iter().skip(fine as usize));
        // The groups are those of the digest; the chunks were read again.
        let tree = Kept::new(of.name.clone(), root, tree, fine, values);
        let path = || place.map_or_else(|| of.name.as_str().into(), |(file, _)| file.path());
        kept.push(tree.ok_or_else(|| changed(&path(), "its beginning was read twice, and was not the same"))?);
    }
    Ok(OutboardFile::new(group, kept))
}

/// How long a file's header is; 0 of one that is no file of tensors, or no good one.
fn header_len(file: &SourceFile) -> Result<u64, Error> {
    enum Not {
        Read(Error),
        Good,
    }
    impl From<HeaderFault> for Not {
        fn from(_: HeaderFault) -> Self {
            Self::Good
        }
    }
    // The name in the model tells: what a link leads to may have any.
    let Some(format) = Format::of_name(file.name()) else { return Ok(0) };
    let file = OpenFile::open(&file.path())?;
    let header = Header::read(format, file.len(), &mut |range| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_at(&mut bytes, range.start).map(|()| bytes).map_err(Not::Read)
    });
    match header {
        Ok(header) => Ok(header.len),
        Err(Not::Good) => Ok(0),
        Err(Not::Read(error)) => Err(error),
    }
}

/// The values of the chunks of the first `fine` groups of the string at byte `at` of a file.
fn chunks(file: &SourceFile, at: u64, tree: Tree, fine: u64) -> Result<Vec<ChainingValue>, Error> {
    let file = OpenFile::open(&file.path())?;
    let mut values = Vec::new();
    for group in 0..fine {
        let range = tree.range(group);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_at(&mut bytes, at + range.start)?;
        let chunk = |(index, chunk): (usize, &[u8])| group_value(range.start + index as u64 * CHUNK_LEN, chunk);
        values.extend(bytes.chunks(CHUNK_LEN as usize).enumerate().map(chunk));
    }
    Ok(values)
}
