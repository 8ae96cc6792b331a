//! Whoever sees the bytes of files while they are hashed.

use crate::error::Error;

/// Sees the first bytes of files, or all of them, while they are hashed: those very bytes, once, so that nothing is read
/// twice. Of files that are hashed in shards there is none: a shard is read while others are.
pub(crate) trait Tap: Sync {
    /// The file with this index was opened and has `len` bytes: how many of them are wanted, from its first on. Called
    /// once for each file that is read, before its bytes come.
    ///
    /// # Errors
    /// What ends the whole run.
    fn begin(&self, file: usize, len: u64) -> Result<u64, Error>;

    /// The next of the bytes that are wanted of a file, from byte `at` on; they come in order and without a gap, each
    /// once. Different files may come from different threads.
    ///
    /// # Errors
    /// What ends the whole run.
    fn take(&self, file: usize, at: u64, bytes: &[u8]) -> Result<(), Error>;
}

/// A file of which a tap wants bytes.
#[derive(Clone, Copy)]
pub(in crate::device) struct Tapped<'a> {
    tap: &'a dyn Tap,
    file: usize,
    /// How many bytes it wants, at least one and no more than the file has.
    first: u64,
}

impl<'a> Tapped<'a> {
    /// Tells `tap` of a file of `len` bytes. `None` if nothing of it is wanted.
    pub(in crate::device) fn of(tap: Option<&'a dyn Tap>, file: usize, len: u64) -> Result<Option<Self>, Error> {
        let Some(tap) = tap else { return Ok(None) };
        let first = tap.begin(file, len)?.min(len);
        Ok((first > 0).then_some(Self { tap, file, first }))
    }

    pub(in crate::device) const fn first(&self) -> u64 {
        self.first
    }

    /// Passes on what is wanted of bytes that begin at byte `at`.
    pub(in crate::device) fn take(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let wanted = self.first.saturating_sub(at);
        let wanted = usize::try_from(wanted).map_or(bytes, |wanted| &bytes[..wanted.min(bytes.len())]);
        if wanted.is_empty() { Ok(()) } else { self.tap.take(self.file, at, wanted) }
    }
}
