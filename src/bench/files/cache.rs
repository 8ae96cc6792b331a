//! Out of the page cache, or into it: and whether that is where files are now. A measurement is never called cold, or warm,
//! because somebody asked for that.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::model::{Written, WrittenFile};
use crate::bench::report::Cache;
use crate::bench::{Failure, system};

/// Of a model, so much may be in the cache that is called cold, and has to be in one that is called warm.
const COLD: f64 = 0.01;
const WARM: f64 = 0.99;

/// How often the kernel is asked to let go: it keeps what somebody else happens to look at.
const TRIES: u32 = 5;

/// Sees to it that all files of a model are there. Why that cannot be, and what would help, otherwise.
pub(super) fn prepare(model: &Written, cache: Cache) -> Result<Result<(), String>, Failure> {
    if cache == Cache::Cold && model.on.in_memory() {
        let kind = &model.on.file_system;
        return Ok(Err(format!(
            "{:?} is in memory ({kind}), where no file is cold: name a folder on a disk with --work",
            model.on.path
        )));
    }
    let mut there = 0.0;
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(20 << attempt));
        }
        for file in model.files.values() {
            let open = open(file)?;
            match cache {
                Cache::Warm => {
                    if share(&[file])? < WARM {
                        read(open, file)?;
                    }
                }
                // What the kernel says of it is not asked: what came of it is.
                Cache::Cold => drop(system::forget(&open)),
            }
        }
        there = share(&model.files.values().collect::<Vec<_>>())?;
        match cache {
            Cache::Warm if there >= WARM => return Ok(Ok(())),
            Cache::Cold if there <= COLD => return Ok(Ok(())),
            _ => {}
        }
    }
    let percent = there * 100.0;
    Ok(Err(match cache {
        Cache::Warm => format!(
            "only {percent:.0} % of the model stay in the page cache: ask for less with --file-size, or free memory"
        ),
        Cache::Cold => format!(
            "{percent:.0} % of the model stay in the page cache although the kernel was asked to drop them, as on some file \
             systems ({}): name a folder on another disk with --work",
            if model.on.file_system.is_empty() { "of unknown type" } else { &model.on.file_system }
        ),
    }))
}

fn open(file: &WrittenFile) -> Result<File, Failure> {
    File::open(&file.path).map_err(Failure::io("open", file.path.as_path()))
}

/// Which part of these files is in the cache.
fn share(files: &[&WrittenFile]) -> Result<f64, Failure> {
    let (mut there, mut total) = (0, 0);
    for file in files {
        there += system::resident(&open(file)?, file.len).map_err(Failure::io("ask for the cache of", &*file.path))?;
        total += file.len;
    }
    Ok(there as f64 / (total as f64).max(1.0))
}

/// Reads it all, which puts it into the cache.
fn read(mut open: File, file: &WrittenFile) -> Result<(), Failure> {
    let mut block = vec![0; 1 << 20];
    loop {
        match open.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io("read", &*file.path)(error)),
        }
    }
}
