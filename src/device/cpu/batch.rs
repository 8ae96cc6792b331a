//! Small files: read one after the other, their BLAKE3 digests taken together.

use std::ops::Range;

use super::sequential::Sequential;
use super::{Algorithms, Digests, HashedFile, Part, Stamp};
use crate::device::file::OpenFile;
use crate::error::Error;
use crate::tree::{LANES, SHORT, digests_of};

/// Files that were read and found unchanged, and wait for their BLAKE3 digests.
#[derive(Default)]
pub(super) struct Batch {
    /// The bytes of all, one after the other; as long as it was ever needed.
    bytes: Vec<u8>,
    files: Vec<Waiting>,
}

struct Waiting {
    /// Its place in the list.
    index: usize,
    stamp: Stamp,
    /// Where its bytes lie.
    range: Range<usize>,
    /// Those that are taken in order.
    digests: Digests,
}

impl Batch {
    /// Whether a file of this length gains by being hashed with others.
    pub(super) const fn takes(len: u64) -> bool {
        len <= SHORT as u64
    }

    /// Reads a file that it takes to the end. Gives its bytes, once it was found to be as long and as old as before.
    pub(super) fn read(&mut self, index: usize, file: &OpenFile<impl AsRef<std::path::Path>>) -> Result<&[u8], Error> {
        let begin = self.used();
        let end = begin + file.len() as usize;
        if self.bytes.len() <= end {
            self.bytes.resize(end + 1, 0);
        }
        file.read_to_end(&mut self.bytes[begin..=end])?;
        file.check_unchanged()?;
        self.files.push(Waiting { index, stamp: file.stamp(), range: begin..end, digests: Digests::default() });
        Ok(&self.bytes[begin..end])
    }

    /// Bytes of the files that wait.
    pub(super) fn used(&self) -> usize {
        self.files.last().map_or(0, |file| file.range.end)
    }

    /// How many files wait.
    pub(super) const fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.files.len() == LANES
    }

    /// Hashes what waits, and nothing waits any more.
    pub(super) fn finish(&mut self, algorithms: Algorithms, hashed: &mut Vec<(usize, HashedFile)>) {
        let bytes = &self.bytes;
        if algorithms.sequential() {
            for file in &mut self.files {
                let mut sequential = Sequential::new(algorithms);
                sequential.update(&bytes[file.range.clone()]);
                sequential.finish(&mut file.digests);
            }
        }
        let strings: Vec<&[u8]> = self.files.iter().map(|file| &bytes[file.range.clone()]).collect();
        let blake3 = digests_of(&strings);
        for (Waiting { index, stamp, mut digests, .. }, blake3) in self.files.drain(..).zip(blake3) {
            digests.set(blake3);
            let part = Part { start: 0, end: stamp.len, digests, groups: Vec::new() };
            hashed.push((index, HashedFile { len: stamp.len, stamp, parts: vec![part] }));
        }
    }
}
