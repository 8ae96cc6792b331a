//! From a model's files to digests of its resources.

use std::fs;
use std::sync::Arc;

use crate::device::Device;
use crate::device::cpu::{Digests, FileJob, Progress, Stamp, Wanted};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::device::files::hash_files;
use crate::error::Error;
use crate::manifest::ResourceName;
use crate::source::SourceFile;
use crate::tree::ChainingValue;

/// One resource as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) name: ResourceName,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) digests: Digests,
    /// The values of its groups, if they were asked for.
    pub(crate) groups: Vec<ChainingValue>,
}

/// What measuring gave.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    /// Sorted by name.
    pub(crate) resources: Vec<Measured>,
    /// Files read.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Names of files that gave no resource: empty ones, under shards.
    pub(crate) empty: Vec<String>,
    /// Which file each of them was, by its name.
    pub(crate) stamps: Vec<(Arc<str>, Stamp)>,
    /// Files that were not read because they have another length than expected: name, length expected, length found.
    pub(crate) resized: Vec<(String, u64, u64)>,
    /// Names, in the model, of files that are pickled, where whoever measures looked for such.
    pub(crate) pickled: Vec<String>,
}

impl Measurement {
    /// And files that were measured before, of one resource each.
    pub(crate) fn with(self, files: Vec<Measured>) -> Self {
        let bytes = files.iter().map(|file| file.size).sum();
        self.and(Self { files: files.len(), bytes, resources: files, ..Self::default() })
    }

    /// What measuring other files of the same model gave, too.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.resources.extend(other.resources);
        self.resources.sort_by(|a, b| a.name.cmp(&b.name));
        self.files += other.files;
        self.bytes += other.bytes;
        self.empty.extend(other.empty);
        self.stamps.extend(other.stamps);
        self.resized.extend(other.resized);
        self.pickled.extend(other.pickled);
        self
    }
}

/// Up to so many files are looked at before they are read, to begin with the largest.
const ORDERED_UP_TO: usize = 1024;

/// Hashes every file once, to give what is `wanted`; a tap knows files by their places in `files`. `single` is the name to give to the only file of a single-file model. `expected` gives the
/// length that a file must have, where that is known: files of another length are not read.
pub(crate) fn measure(
    device: &Device,
    files: &[SourceFile],
    single: Option<&str>,
    wanted: &Wanted<'_>,
    expected: &dyn Fn(&str) -> Option<u64>,
    progress: &dyn Progress,
) -> Result<Measurement, Error> {
    let look = files.len() <= ORDERED_UP_TO || progress.wants_total();
    let job = |file: &SourceFile| {
        let path = file.path();
        // A file that has vanished meets its error when it is opened.
        let size_hint = if look { fs::symlink_metadata(&path).ok().map(|meta| meta.len()) } else { None };
        FileJob { path, size_hint, expected_len: expected(single.unwrap_or_else(|| file.name())) }
    };
    let jobs: Vec<FileJob> = files.iter().map(job).collect();
    progress.begin(jobs.len(), FileJob::total(&jobs));
    let hashed = match device {
        Device::Cpu(cpu) => cpu.hash_files_for(&jobs, wanted, progress)?,
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => hash_files(wgpu, &jobs, wanted, progress)?,
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => hash_files(cuda, &jobs, wanted, progress)?,
    };

    let mut measurement = Measurement { files: files.len(), ..Measurement::default() };
    measurement.resources.reserve(files.len());
    measurement.stamps.reserve(files.len());
    for ((file, job), hashed) in files.iter().zip(&jobs).zip(hashed) {
        let name = single.map_or_else(|| file.shared_name(), Arc::from);
        measurement.stamps.push((Arc::clone(&name), hashed.stamp));
        if let Some(expected) = job.expected_len.filter(|&expected| expected != hashed.len) {
            measurement.resized.push((name.to_string(), expected, hashed.len));
            measurement.files -= 1;
            continue;
        }
        measurement.bytes += hashed.len;
        if hashed.parts.is_empty() {
            measurement.empty.push(name.to_string());
        }
        for part in hashed.parts {
            let shard = wanted.shard.map(|_| part.start..part.end);
            let name = ResourceName::of_shared(&name, shard);
            measurement.resources.push(Measured {
                name,
                size: part.end - part.start,
                digests: part.digests,
                groups: part.groups,
            });
        }
    }
    if !measurement.resources.is_sorted_by(|a, b| a.name <= b.name) {
        measurement.resources.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(measurement)
}
