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

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::digest::{Algorithm, Digest};

    fn append(path: &Path) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
    }

    #[test]
    fn a_file_that_changes_between_opening_and_the_end_is_refused_and_the_others_keep_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        type Act = fn(&Path);
        let acts: [(&str, Act); 4] = [
            ("growth", append),
            ("shrinkage", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap()),
            ("emptying", |path| fs::write(path, b"").unwrap()),
            ("rewriting", |path| fs::write(path, vec![8; 4096]).unwrap()),
        ];
        for (name, act) in acts {
            let mut batch = Batch::default();
            let path = dir.path().join("w");
            let texts: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 1500 * usize::from(i)]).collect();
            for (index, text) in texts.iter().enumerate() {
                fs::write(&path, text).unwrap();
                assert_eq!(batch.read(index, &OpenFile::open(&path).unwrap()).unwrap(), text);
                fs::write(&path, vec![7; 4096]).unwrap();
                let file = OpenFile::open(&path).unwrap();
                // Time stamps move in steps of the kernel's tick.
                std::thread::sleep(std::time::Duration::from_millis(20));
                act(&path);
                assert!(matches!(batch.read(99, &file), Err(Error::FileChanged { .. })), "{name}");
            }
            assert_eq!(batch.len(), texts.len());
            let mut hashed = Vec::new();
            batch.finish(Algorithms::only(Algorithm::Blake3), &mut hashed);
            assert_eq!((batch.len(), batch.used(), hashed.len()), (0, 0, texts.len()));
            for ((index, file), text) in hashed.iter().zip(&texts) {
                let digest = Digest::of32(Algorithm::Blake3, *blake3::hash(text).as_bytes());
                assert_eq!(file.parts[0].digests.get(Algorithm::Blake3), Some(digest), "{index}");
                assert_eq!((file.len, file.parts[0].end), (text.len() as u64, text.len() as u64));
            }
        }
    }
}
