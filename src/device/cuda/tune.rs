//! Which way of adding is the fastest on a device: measured once, and remembered in the user's cache.
//!
//! All ways give the same digests, and each passed the known-answer test before it is measured, so nothing that a cache
//! holds can make a digest wrong: it names one of the ways that this device may choose, or is measured again.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::DeviceError;
use super::context::Facts;
use super::engine::Engine;
use super::images::Policy;
use super::launch::Kernels;
use super::memory::Memory;
use crate::output::{Existing, write_whole};

/// As much is hashed to measure at most: enough to fill every device. Larger caches may hold it, which is no harm: where
/// memory is the limit, all ways are equally fast.
const MOST: u64 = 64 << 20;
/// Where measuring begins. A device that needs long for so little (an interpreter does) is measured with no more.
const LEAST: u64 = 256 << 10;
/// Milliseconds that are long enough to be measured.
const LONG: f32 = 2.0;
/// Launches of each way; the one in the middle counts.
const ROUNDS: usize = 7;
/// A way other than the first must be so much faster to be chosen, so that noise chooses nothing.
const CLEARLY: f32 = 0.98;

/// The way that is measured to be the fastest: an index of `variants`.
///
/// # Errors
/// [`DeviceError`] if the device fails. That memory is short is no error: the first way is chosen then.
pub(super) fn measure(engine: &Arc<Engine>, variants: &[(Policy, Arc<Kernels>)]) -> Result<usize, DeviceError> {
    if variants.len() < 2 {
        return Ok(0);
    }
    let free = engine.context.enter()?.free_memory()?;
    let mut len = LEAST;
    // A quarter, so that values and whatever else runs here have room.
    let most = MOST.min(free / 4).max(LEAST);
    let memory = match Memory::new(&engine.context, most, "measuring") {
        Err(DeviceError::OutOfMemory { .. }) => return Ok(0),
        memory => memory?,
    };
    let time = |kernels: &Kernels, len, times: &mut [f32]| match engine.time(kernels, &memory, len, times) {
        Err(DeviceError::OutOfMemory { .. }) => Ok(false),
        timed => timed.map(|()| true),
    };
    // Doubling also gives the clocks time to rise.
    loop {
        let mut once = [0.0];
        if !time(&variants[0].1, len, &mut once)? {
            return Ok(0);
        }
        if once[0] >= LONG || len * 2 > most {
            break;
        }
        len *= 2;
    }
    let mut medians = Vec::with_capacity(variants.len());
    for (_, kernels) in variants {
        // The first launches of a way load its code.
        let mut times = [0.0; 1 + ROUNDS];
        if !time(kernels, len, &mut times)? {
            return Ok(0);
        }
        medians.push(median(&mut times[1..]));
    }
    Ok(choose(&medians))
}

fn median(times: &mut [f32]) -> f32 {
    times.sort_by(f32::total_cmp);
    times[times.len() / 2]
}

/// The fastest, if it is clearly faster than the first.
fn choose(medians: &[f32]) -> usize {
    let times = medians.iter().enumerate().filter(|(_, time)| time.is_finite() && **time > 0.0);
    let fastest = times.min_by(|a, b| a.1.total_cmp(b.1));
    fastest.filter(|(_, time)| **time < medians[0] * CLEARLY).map_or(0, |(index, _)| index)
}

/// What is remembered of a device. Whatever it depends on is in the name of the file and in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    device: String,
    driver: u32,
    images: String,
    policy: String,
}

const VERSION: u32 = 1;
/// No entry is longer.
const LONGEST: u64 = 4096;

/// Where the choice for one device is remembered.
#[derive(Debug)]
pub(super) struct Memo {
    path: PathBuf,
    entry: Entry,
    architecture: u32,
}

impl Memo {
    /// For a device whose driver says this, in `folder`.
    pub(super) fn new(folder: &Path, facts: &Facts) -> Self {
        let device = facts.uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let images = Policy::images(facts.architecture).to_hex().to_string();
        let path = folder.join(format!("cuda-{device}-{}-{}.json", facts.driver, &images[..16]));
        let entry = Entry { version: VERSION, device, driver: facts.driver, images, policy: String::new() };
        Self { path, entry, architecture: facts.architecture }
    }

    /// What is remembered, if that is a way which this device may choose.
    pub(super) fn recall(&self) -> Option<Policy> {
        // Not to wait for a pipe that somebody put there.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut text).ok()?;
        if text.len() as u64 > LONGEST {
            return None;
        }
        let found: Entry = serde_json::from_slice(&text).ok()?;
        let policy = found.policy.parse().ok()?;
        let same = Entry { policy: found.policy.clone(), ..self.entry.clone() } == found;
        (same && Policy::of(self.architecture).contains(&policy)).then_some(policy)
    }

    /// Remembers a choice, if that is possible. It costs a little time if it is not.
    pub(super) fn keep(&self, policy: Policy) {
        let entry = Entry { policy: policy.to_string(), ..self.entry.clone() };
        let (Some(folder), Ok(text)) = (self.path.parent(), serde_json::to_vec(&entry)) else { return };
        if fs::create_dir_all(folder).is_ok() {
            let _ = write_whole(&self.path, 0o600, Existing::Replace, |file| file.write_all(&text));
        }
    }
}

/// `$XDG_CACHE_HOME/tensorseal`, else `~/.cache/tensorseal`, as the XDG specification has it.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("tensorseal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_chooses_nothing() {
        assert_eq!(choose(&[1.0, 0.99]), 0);
        assert_eq!(choose(&[1.0, 0.9]), 1);
        assert_eq!(choose(&[1.0, 1.5]), 0);
        assert_eq!(choose(&[1.0, f32::NAN]), 0);
        assert_eq!(choose(&[0.0, 0.0]), 0);
        assert_eq!(choose(&[1.0, -1.0]), 0);
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn what_is_remembered_is_one_of_the_ways_of_this_device_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let facts = Facts::made_up(90);
        let memo = Memo::new(dir.path(), &facts);
        assert_eq!(memo.recall(), None);
        memo.keep(Policy::Mad);
        assert_eq!(memo.recall(), Some(Policy::Mad));
        memo.keep(Policy::Plain);
        assert_eq!(memo.recall(), Some(Policy::Plain));
        assert_eq!(Memo::new(dir.path(), &Facts::made_up(120)).recall(), None, "another device");

        let good = fs::read_to_string(&memo.path).unwrap();
        let long = format!("{}{good}", " ".repeat(5000));
        let doubled = good.replace("\"policy\"", "\"policy\":\"plain\",\"policy\"");
        let hostile = [
            String::new(),
            "[]".to_owned(),
            good.replace("plain", "mad_all"),
            good.replace("plain", "../../plain"),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace(&memo.entry.images, &"0".repeat(64)),
            good.replace(&memo.entry.device, &"0".repeat(32)),
            format!("{good}{good}"),
            good[..good.len() - 1].to_owned(),
            doubled,
            long,
        ];
        for text in hostile {
            fs::write(&memo.path, &text).unwrap();
            assert_eq!(memo.recall(), None, "{text:?}");
        }
        fs::write(&memo.path, [0xFF; 10]).unwrap();
        assert_eq!(memo.recall(), None);
        fs::remove_file(&memo.path).unwrap();
        fs::create_dir(&memo.path).unwrap();
        assert_eq!(memo.recall(), None, "a folder");
        memo.keep(Policy::Mad);
        assert_eq!(memo.recall(), None, "which stays");
        fs::remove_dir(&memo.path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&memo.path).status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(memo.recall(), None, "a pipe that nobody writes to");
        }
        let nowhere = Memo::new(Path::new("/proc/no/such/folder"), &facts);
        nowhere.keep(Policy::Mad);
        assert_eq!(nowhere.recall(), None);
    }
}
