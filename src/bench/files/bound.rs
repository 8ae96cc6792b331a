//! How fast bytes come out of files if nobody hashes them: measured, out of the page cache and past it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::model::WrittenFile;
use crate::bench::report::{Bound, BoundKind, Cache};

/// Bytes of one read: into memory that stays in a core's cache, or in one request of a disk.
const WARM: usize = 256 << 10;
const COLD: usize = 2 << 20;

/// Where reads past the cache have to land, and how long they have to be. No disk has larger blocks.
const ALIGN: usize = 4096;

/// Reads that a disk is given at once: one at a time is not all that it can do.
const AT_ONCE: usize = 8;

/// The fastest of so many readings, as a bound of what reads *and* hashes. `None` where the file system reads nothing past the
/// cache.
pub(super) fn measure(files: &[&WrittenFile], cache: Cache, threads: usize, times: usize) -> io::Result<Option<Bound>> {
    let threads = match cache {
        Cache::Warm => threads.max(1),
        Cache::Cold => threads.max(AT_ONCE),
    };
    let total: u64 = files.iter().map(|file| file.len).sum();
    let mut fastest = Duration::MAX;
    // The first finds caches cold.
    for _ in 0..=times {
        let begun = Instant::now();
        let read = match read(files, cache, threads) {
            Err(error) if cache == Cache::Cold && error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
            read => read?,
        };
        let took = begun.elapsed();
        if read != total {
            return Err(io::Error::other(format!("{read} bytes were read of {total}")));
        }
        fastest = fastest.min(took);
    }
    let gib = total as f64 / f64::from(1 << 30);
    let (kind, how) = match cache {
        Cache::Warm => (BoundKind::PageCache, format!("copied out of the page cache by {threads} threads")),
        Cache::Cold => (BoundKind::Disk, format!("read past the page cache (O_DIRECT) by {threads} threads")),
    };
    let seconds = fastest.as_secs_f64().max(1e-9);
    let basis = format!(
        "measured: {gib:.2} GiB in {} files {how}, {} KiB at a time, without hashing; the fastest of {times} times",
        files.len(),
        if cache == Cache::Warm { WARM >> 10 } else { COLD >> 10 },
    );
    Ok(Some(Bound { kind, bytes_per_second: total as f64 / seconds, basis }))
}

/// Reads all of them by so many threads, which take pieces in turn; how many bytes that were.
fn read(files: &[&WrittenFile], cache: Cache, threads: usize) -> io::Result<u64> {
    let flags = if cache == Cache::Cold { libc::O_DIRECT } else { 0 };
    let open = |file: &&WrittenFile| OpenOptions::new().read(true).custom_flags(flags).open(&file.path);
    let open = files.iter().map(open).collect::<io::Result<Vec<File>>>()?;
    let size = if cache == Cache::Cold { COLD } else { WARM };
    let pieces = |(file, written): (usize, &&WrittenFile)| {
        (0..written.len.div_ceil(size as u64)).map(move |piece| (file, piece * size as u64))
    };
    let pieces: Vec<(usize, u64)> = files.iter().enumerate().flat_map(pieces).collect();
    let next = AtomicU64::new(0);
    let thread = || -> io::Result<u64> {
        let mut memory = vec![0; size + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        let block = &mut memory[start..start + size];
        let mut count = 0;
        while let Some(&(file, at)) = pieces.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            // Fewer come only where the file ends, or a signal came: then the total is not what it has to be.
            count += open[file].read_at(block, at)? as u64;
        }
        Ok(count)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, thread).ok()).collect();
        let mut count = thread()?;
        for other in others {
            count += other.join().map_err(|_| io::Error::other("a thread that reads has failed"))??;
        }
        Ok(count)
    })
}
