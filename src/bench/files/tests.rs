//! What is measured of files, on the CPU and on devices that lie. `tests/cuda/files.rs` has a GPU's side.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::load::loads;
use super::*;
use crate::bench::report::{BoundKind, Cache};
use crate::bench::shapes::Family;
use crate::bench::system;
use crate::device::cpu::{Cpu, Memory, Settings, Ticket};
use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job};
use crate::digest::{Algorithm, Digest};

/// A small model on a disk, where this was built: `/tmp` may be memory.
fn written() -> Written {
    let exe = std::env::current_exe().unwrap();
    written_in(exe.parent().unwrap())
}

fn written_in(parent: &std::path::Path) -> Written {
    let shaped = Family::Llama31With8B.within(3 << 20).unwrap();
    Written::cut(Work::new(Some(parent), shaped.bytes()).unwrap(), &shaped, shaped.bytes() / 3).unwrap()
}

fn cpu() -> Device {
    Device::Cpu(Cpu::open(Settings { threads: NonZeroUsize::new(2), ..Settings::default() }).unwrap())
}

fn options(only: &[What]) -> FileOptions {
    let only = (!only.is_empty()).then(|| only.iter().copied().collect());
    FileOptions { only, threads: NonZeroUsize::new(2), ..FileOptions::new(NonZeroUsize::new(3).unwrap()) }
}

const ALL: [What; 5] = [What::Digest, What::Load, What::VerifiedLoad, What::Sign, What::Verify];

#[test]
fn the_model_is_one_that_others_read_with_the_digests_that_others_find() {
    let model = written();
    let sums = Command::new("sha256sum").arg("--").args(model.files.values().map(|file| &file.path)).output().unwrap();
    let sums = String::from_utf8(sums.stdout).unwrap();
    let (mut tensors, mut bytes) = (BTreeSet::new(), 0);
    for file in model.files.values() {
        assert!(sums.contains(&format!("{}  {}\n", file.sha256.to_hex(), file.path.display())), "{sums}");
        let found = fs::read(&file.path).unwrap();
        assert_eq!((found.len() as u64, blake3::hash(&found).to_hex().as_str()), (file.len, &*file.blake3.to_hex()));
    }
    for file in model.tensor_files() {
        let found = fs::read(&file.path).unwrap();
        let len = u64::from_le_bytes(found[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&found[8..8 + len]).unwrap();
        let end = header.as_object().unwrap().values().filter_map(|entry| entry["data_offsets"][1].as_u64()).max();
        assert_eq!(end, Some((found.len() - 8 - len) as u64), "nothing behind the last tensor");
        bytes += end.unwrap();
        tensors.extend(header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned());
        // Bytes that do not compress: each value about as often as any other.
        let mut counts = [0_usize; 256];
        found[8 + len..].iter().for_each(|&byte| counts[byte as usize] += 1);
        let even = (found.len() - 8 - len) / 256;
        assert!(counts.iter().all(|count| count.abs_diff(even) < even / 2), "{counts:?}");
    }
    let index = fs::read(model.model().join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"].as_u64(), Some(bytes));
    let named: BTreeSet<_> = index["weight_map"].as_object().unwrap().keys().cloned().collect();
    assert_eq!((named.len(), named), (291, tensors));
    assert!(model.tensor_files().count() > 1 && model.bytes() > model.tensor_bytes());
    // The same bytes each time, and another key.
    let again = written();
    for (name, file) in &model.files {
        assert_eq!(again.files[name].blake3, file.blake3);
    }
    assert_ne!(fs::read(model.public_key()).unwrap(), fs::read(again.public_key()).unwrap());
    let one = Family::Llama31With8B.within(1 << 20).unwrap();
    let one = Written::cut(Work::new(None, 0).unwrap(), &one, u64::MAX).unwrap();
    assert_eq!(one.files.keys().collect::<Vec<_>>(), ["config.json", "model.safetensors"]);
}

#[test]
fn everything_is_measured_on_the_cpu_and_nothing_stays() {
    let (device, model) = (cpu(), written());
    let folder = model.folder().to_owned();
    let mut told = Vec::new();
    let (lines, skipped, bounds) = on_files(&device, &model, &options(&[]), &mut |event| match event {
        Event::Begun { what, name } => told.push(format!("begin {what:?} {name}")),
        Event::Line(line) => told.push(format!("end {:?} {}", line.what, line.name)),
        Event::Skipped(skipped) => told.push(format!("end {:?} {}", skipped.what, skipped.name)),
        _ => {}
    })
    .unwrap();
    assert_eq!(skipped, [], "this folder is on a disk");
    let found: Vec<_> = lines.iter().map(|line| (line.what, line.name.as_str(), line.cache.unwrap())).collect();
    use Cache::{Cold, Warm};
    let expected = [
        (What::Digest, "blake3", Warm),
        (What::Digest, "sha256", Warm),
        (What::Digest, "sha256 + blake3", Warm),
        (What::Digest, "blake3", Cold),
        (What::Digest, "sha256", Cold),
        (What::Load, "without a check", Warm),
        (What::VerifiedLoad, "blake3", Warm),
        (What::Load, "without a check", Cold),
        (What::VerifiedLoad, "blake3", Cold),
        (What::Sign, "sha256 + blake3", Warm),
        (What::Sign, "blake3", Warm),
        (What::Verify, "sha256", Warm),
        (What::Verify, "blake3", Warm),
        (What::Verify, "sha256 + blake3", Warm),
        (What::Verify, "sha256", Cold),
        (What::Verify, "blake3", Cold),
    ];
    assert_eq!(found, expected);
    let kinds: Vec<_> = bounds.iter().map(|bound| bound.kind).collect();
    assert_eq!(kinds, [BoundKind::PageCache, BoundKind::Disk]);
    for line in &lines {
        assert_eq!(line.times.seconds().len(), 3, "each that counts, and the first does not");
        let bytes = if line.what == What::Load { model.tensor_bytes() } else { model.bytes() };
        assert_eq!(line.bytes, bytes);
        assert!((line.bytes_per_second - line.times.rate(bytes)).abs() < 1.0);
        assert!(line.share.is_none_or(|share| share > 0.0 && share <= 1.0), "{line:?}");
        assert_eq!(line.stages.is_empty(), line.what != What::VerifiedLoad);
        if let [first, .., last] = &line.stages[..] {
            let names: Vec<_> = line.stages.iter().map(|stage| stage.name.as_str()).collect();
            assert_eq!(names, ["signature and listing", "reading", "added by hashing", "comparing and admission"]);
            let total: f64 = line.stages.iter().map(|stage| stage.seconds).sum();
            assert!((total - line.times.median()).abs() < 1e-6, "{line:?}");
            assert!(first.seconds > 0.0 && last.seconds > 0.0 && line.stages[1].seconds > 0.0, "{line:?}");
        }
    }
    assert_eq!(told.iter().filter(|told| told.starts_with("begin")).count(), lines.len());
    assert_eq!(told.iter().filter(|told| told.starts_with("end")).count(), lines.len());
    assert!(folder.join("model.sig").is_file());
    drop(model);
    assert!(!folder.exists());
}

#[test]
fn what_was_not_asked_for_is_not_measured() {
    let (device, model) = (cpu(), written());
    for what in ALL {
        let (lines, skipped, _) = on_files(&device, &model, &options(&[what]), &mut |_| {}).unwrap();
        assert!(!lines.is_empty() && skipped.is_empty() && lines.iter().all(|line| line.what == what), "{what:?}");
    }
    let none = on_files(&device, &model, &options(&[What::Upload]), &mut |_| {}).unwrap();
    assert_eq!(none, (Vec::new(), Vec::new(), Vec::new()), "not even how fast the disk is");
}

#[test]
fn a_digest_that_is_not_the_one_that_was_written_ends_it_as_wrong() {
    let device = cpu();
    let mut model = written();
    let name = model.tensor_files().next().unwrap().path.file_name().unwrap().to_str().unwrap().to_owned();
    let file = model.files.get_mut(&name).unwrap();
    (file.blake3, file.sha256) = (Digest::of32(Algorithm::Blake3, [7; 32]), Digest::of32(Algorithm::Sha256, [7; 32]));
    // A verdict rests on what was signed, which is right here.
    for what in [What::Digest, What::Load, What::VerifiedLoad, What::Sign] {
        let folder = model.folder().to_owned();
        let failure = on_files(&device, &model, &options(&[what]), &mut |_| {}).unwrap_err();
        assert!(failure.is_wrong(), "{failure}");
        let Failure::WrongOfFiles { what: of, how, .. } = &failure else { panic!("{failure}") };
        // Before a verified load there is one without a check, for the stages.
        assert_eq!(*of, if what == What::VerifiedLoad { What::Load } else { what });
        assert!(how.contains(&name), "{how}");
        assert!(failure.to_string().contains("selftest --device 'cpu'"), "{failure}");
        assert!(folder.exists(), "it is the model's");
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_ends_it_as_wrong() {
    let (device, model) = (cpu(), written());
    let path = &model.tensor_files().nth(1).unwrap().path;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200_000).unwrap();
    for what in ALL {
        let failure = on_files(&device, &model, &options(&[what]), &mut |_| {}).unwrap_err();
        assert!(failure.is_wrong() && matches!(failure, Failure::WrongOfFiles { .. }), "{what:?}: {failure}");
    }
    // Nobody's fault, and no answer: it is not there.
    fs::remove_file(path).unwrap();
    let failure = on_files(&device, &model, &options(&[What::Digest]), &mut |_| {}).unwrap_err();
    assert!(!failure.is_wrong(), "{failure}");
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// A bit of an upload is another.
    Upload,
    /// Memory holds something else than was uploaded.
    Memory,
    /// The same, and only where digests were asked for, which are those of what was meant.
    Digests,
    /// There is too little memory.
    Full,
}

/// The last tells whether anything was to be hashed.
struct Liar(Cpu, Lie, Cell<bool>);

impl Backend for Liar {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(3)
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.0.staging()
    }

    fn alloc(&self, len: u64) -> Result<Memory, DeviceError> {
        if self.1 == Lie::Full {
            return Err(DeviceError::OutOfMemory { device: self.kind(), what: "weights", bytes: len });
        }
        self.0.alloc(len)
    }

    fn upload(&self, mut block: Vec<u8>, len: usize, to: &mut Memory, at: u64) -> Result<(), DeviceError> {
        if self.1 == Lie::Upload && at == 0 {
            block[len / 2] ^= 8;
        }
        self.0.upload(block, len, to, at)
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        self.2.set(true);
        self.0.submit(jobs, after)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        self.0.wait(ticket)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        let end = range.end;
        let mut bytes = self.0.download(from, range)?;
        let lies = self.1 == Lie::Memory || (self.1 == Lie::Digests && self.2.get());
        // Behind all headers.
        if lies && end > 100_000 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        Ok(bytes)
    }
}

#[test]
fn a_device_that_lies_about_a_load_is_found_out() {
    let (device, model) = (cpu(), written());
    let loaded = |lie, only: &[What]| {
        let (options, mut ignore) = (options(only), |_: Event<'_>| {});
        let mut run = Run::new(&device, &model, &options, &mut ignore);
        loads(&mut run, &Liar(Cpu::open(Settings::default()).unwrap(), lie, Cell::new(false))).map(|()| run.finish())
    };
    let (lines, skipped, _) = loaded(Lie::None, &[]).unwrap();
    assert_eq!((lines.len(), skipped.len()), (4, 0), "both, warm and cold");
    for only in [&[What::Load][..], &[What::VerifiedLoad], &[]] {
        for lie in [Lie::Upload, Lie::Memory] {
            let failure = loaded(lie, only).unwrap_err();
            assert!(failure.is_wrong(), "{lie:?}: {failure}");
        }
    }
    let failure = loaded(Lie::Digests, &[]).unwrap_err();
    let is_that = matches!(failure, Failure::WrongOfFiles { what: What::VerifiedLoad, .. });
    assert!(is_that && failure.is_wrong(), "a verdict that memory does not bear out: {failure}");
    let (lines, skipped, _) = loaded(Lie::Full, &[]).unwrap();
    assert_eq!((lines.len(), skipped.len()), (0, 4));
    assert!(skipped.iter().all(|skipped| skipped.why.contains("--file-size") && skipped.why.contains("cuda:3")));
}

#[test]
fn files_that_are_said_to_be_cold_or_warm_are() {
    let model = written();
    let resident = || {
        let of = |file: &model::WrittenFile| system::resident(&fs::File::open(&file.path).unwrap(), file.len).unwrap();
        model.files.values().map(of).sum::<u64>()
    };
    for _ in 0..3 {
        cache::prepare(&model, Cache::Cold).unwrap().unwrap();
        assert!(resident() <= model.bytes() / 100);
        // The kernel may take pages back in between (DAMON does): not every time.
        let warm = (0..20).any(|_| {
            cache::prepare(&model, Cache::Warm).unwrap().unwrap();
            resident() >= model.bytes() / 100 * 99
        });
        assert!(warm);
    }
}

#[test]
fn what_cannot_be_cold_is_skipped_and_says_why() {
    let memory = std::path::Path::new("/dev/shm");
    if !crate::bench::report::Folder::of(memory).in_memory() {
        // Nothing to try it on.
        return;
    }
    let model = written_in(memory);
    let (lines, skipped, bounds) = on_files(&cpu(), &model, &options(&[]), &mut |_| {}).unwrap();
    assert!(lines.iter().all(|line| line.cache == Some(Cache::Warm)) && lines.len() == 10, "{lines:?}");
    assert_eq!((skipped.len(), bounds.len()), (6, 1), "and the disk has no bound");
    assert!(
        skipped.iter().all(|skipped| skipped.why.contains("tmpfs") && skipped.why.contains("--work")),
        "{skipped:?}"
    );
}
