mod ends;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::device::cpu::tap::tests::Keeps;
use crate::device::cpu::{Cpu, Memory, Settings, Silent, Ticket};
use crate::device::{DeviceKind, Hashed, Job};
use crate::layout::Extent;

/// Calls that a device gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Staging,
    Alloc,
    Upload,
    Submit,
    Wait,
}

const VERBS: [Verb; 5] = [Verb::Staging, Verb::Alloc, Verb::Upload, Verb::Submit, Verb::Wait];

/// The CPU in the part of a device, with small blocks full of rubbish and a call that fails.
struct Planted {
    cpu: Cpu,
    block: usize,
    fail: Option<(Verb, usize)>,
    /// What the failing call says.
    error: DeviceError,
    counts: RefCell<[usize; 5]>,
    /// What the last wait of all leaves out: the last result, or the last value in it.
    forgets: Option<Forgets>,
    /// How often the device will be waited for.
    waits: usize,
    /// Bytes uploaded, and submits.
    uploaded: Cell<u64>,
    in_flight: Cell<usize>,
    most_in_flight: Cell<usize>,
    most_jobs: Cell<usize>,
    /// Whether every string began at a multiple of 16.
    aligned: Cell<bool>,
}

fn wanted(algorithms: Algorithms) -> Wanted<'static> {
    Wanted { algorithms, shard: None, groups: None, tap: None, look: None }
}

#[derive(Debug, Clone, Copy)]
enum Forgets {
    Result,
    Value,
}

impl Planted {
    fn new(block: usize) -> Self {
        let error = DeviceError::Driver { device: DeviceKind::Cuda(7), call: "planted", why: "planted".to_owned() };
        Self {
            cpu: Cpu::open(Settings::default()).unwrap(),
            block,
            fail: None,
            error,
            counts: RefCell::default(),
            forgets: None,
            waits: 0,
            uploaded: Cell::new(0),
            in_flight: Cell::new(0),
            most_in_flight: Cell::new(0),
            most_jobs: Cell::new(0),
            aligned: Cell::new(true),
        }
    }

    fn called(&self, verb: Verb) -> Result<(), DeviceError> {
        let count = &mut self.counts.borrow_mut()[verb as usize];
        *count += 1;
        if self.fail == Some((verb, *count)) { Err(self.error.clone()) } else { Ok(()) }
    }

    fn count(&self, verb: Verb) -> usize {
        self.counts.borrow()[verb as usize]
    }
}

impl Backend for Planted {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(7)
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.called(Verb::Staging)?;
        Ok(vec![0xAA; self.block])
    }

    fn alloc(&self, len: u64) -> Result<Memory, DeviceError> {
        self.called(Verb::Alloc)?;
        self.cpu.alloc(len)
    }

    fn upload(&self, block: Vec<u8>, len: usize, to: &mut Memory, at: u64) -> Result<(), DeviceError> {
        self.called(Verb::Upload)?;
        self.uploaded.set(self.uploaded.get() + len as u64);
        self.cpu.upload(block, len, to, at)
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        self.called(Verb::Submit)?;
        self.most_jobs.set(self.most_jobs.get().max(jobs.len()));
        for job in jobs {
            let [Extent::Range { at, .. }] = job.layout.extents() else { panic!("one range") };
            self.aligned.set(self.aligned.get() && at.is_multiple_of(16));
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.most_in_flight.set(self.most_in_flight.get().max(self.in_flight.get()));
        self.cpu.submit(jobs, after)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        self.called(Verb::Wait)?;
        self.in_flight.set(self.in_flight.get() - 1);
        let mut hashed = self.cpu.wait(ticket)?;
        let last = self.count(Verb::Wait) == self.waits;
        match (self.forgets, hashed.last_mut()) {
            (Some(Forgets::Result), _) if last => drop(hashed.pop()),
            (Some(Forgets::Value), Some(Hashed::Groups(values))) if last => drop(values.pop()),
            _ => {}
        }
        Ok(hashed)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.cpu.download(from, range)
    }
}

struct Files {
    folder: tempfile::TempDir,
    jobs: Vec<FileJob>,
    texts: Vec<Vec<u8>>,
}

impl Files {
    fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut files = Self { folder: tempfile::tempdir().unwrap(), jobs: Vec::new(), texts: Vec::new() };
        for len in lengths {
            let text: Vec<u8> = (0..len).map(|i| ((i * 31) ^ (i >> 9) ^ len ^ (files.jobs.len() * 7)) as u8).collect();
            let path = files.path(files.jobs.len());
            fs::write(&path, &text).unwrap();
            files.jobs.push(FileJob { path, size_hint: None, expected_len: None });
            files.texts.push(text);
        }
        files
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.path().join(index.to_string())
    }

    /// All digests are those of the crates' one-shot functions.
    fn check(&self, hashed: &[HashedFile], algorithms: Algorithms, shard: Option<u64>, about: &str) {
        use sha2::Digest as _;
        assert_eq!(hashed.len(), self.texts.len(), "{about}");
        for (hashed, text) in hashed.iter().zip(&self.texts) {
            assert_eq!(hashed.len, text.len() as u64);
            let strings: Vec<&[u8]> = match shard {
                None => vec![text],
                Some(shard) => text.chunks(shard as usize).collect(),
            };
            assert_eq!(hashed.parts.len(), strings.len(), "{about}");
            let mut start = 0;
            for (part, bytes) in hashed.parts.iter().zip(strings) {
                let about = format!("{about}: {start} of {}", text.len());
                assert_eq!((part.start, part.end), (start, start + bytes.len() as u64), "{about}");
                start = part.end;
                for algorithm in Algorithm::ALL {
                    let expected = match algorithm {
                        Algorithm::Sha256 => Digest::new(algorithm, &sha2::Sha256::digest(bytes)),
                        Algorithm::Blake2b => Digest::new(algorithm, &blake2::Blake2b512::digest(bytes)),
                        Algorithm::Blake3 => Digest::new(algorithm, blake3::hash(bytes).as_bytes()),
                    };
                    let expected = expected.filter(|_| algorithms.has(algorithm));
                    assert_eq!(part.digests.get(algorithm), expected, "{about}");
                }
            }
        }
    }
}

impl Files {
    /// Values of groups are the `blake3` crate's, where they were asked for.
    fn check_groups(&self, hashed: &[HashedFile], log: Option<u8>, about: &str) {
        for (hashed, text) in hashed.iter().zip(&self.texts) {
            for part in &hashed.parts {
                let bytes = &text[part.start as usize..part.end as usize];
                let Some(mut log) = log.filter(|_| bytes.len() > 1024) else {
                    assert_eq!(part.groups, [[0; 32]; 0], "{about}");
                    continue;
                };
                while log > 0 && 1024 << log >= bytes.len() {
                    log -= 1;
                }
                let want = Want::Groups { first_chunk: 0, group: GroupSize::from_chunk_log(log).unwrap() };
                assert_eq!(Hashed::Groups(part.groups.clone()), want.of(bytes), "{about}: {} bytes", bytes.len());
            }
        }
    }
}

const SMALL: Sizes = Sizes { slab: 8192, slabs: 3, jobs: 1 << 16, group: GroupSize::at_most(2048), readers: 1 };

fn all() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

fn blake3_alone() -> Algorithms {
    Algorithms::only(Algorithm::Blake3)
}

#[derive(Default)]
struct Count(AtomicU64, AtomicUsize);

impl Progress for Count {
    fn advance(&self, bytes: u64, files: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        self.1.fetch_add(files, Ordering::Relaxed);
    }
}

#[test]
fn strings_around_every_edge_of_slabs_blocks_groups_and_shards() {
    let mut lengths = vec![0, 1, 15, 16, 17, 0, 100];
    for edge in [1024, 2048, 4096, 8192, 16384, 24576, 50_000] {
        lengths.extend([edge - 17, edge - 16, edge - 1, edge, edge + 1, edge + 16]);
    }
    lengths.extend([8176, 15, 8176, 16, 8176, 17, 3, 8192, 8192, 1, 6000, 2192, 0]);
    let files = Files::new(lengths);
    let total: u64 = files.texts.iter().map(|text| text.len() as u64).sum();
    for block in [16, 1000, 8192, 1 << 20] {
        for shard in [None, Some(48), Some(1000), Some(8191), Some(8192), Some(8193), Some(20_000)] {
            for (algorithms, log) in
                [(blake3_alone(), None), (all(), None), (blake3_alone(), Some(0)), (all(), Some(2))]
            {
                for sizes in [SMALL, Sizes { slabs: 1, jobs: 3, group: GroupSize::at_most(8192), ..SMALL }] {
                    let about = format!("block {block}, shard {shard:?}, {sizes:?}, groups 2^{log:?}");
                    let groups = log.and_then(GroupSize::from_chunk_log);
                    let (device, count) = (Planted::new(block), Count::default());
                    let size = shard.and_then(NonZeroU64::new);
                    let hashed = hash_files_in(
                        &device,
                        &files.jobs,
                        &Wanted { shard: size, groups, ..wanted(algorithms) },
                        &count,
                        sizes,
                    )
                    .unwrap();
                    files.check(&hashed, algorithms, shard, &about);
                    files.check_groups(&hashed, log, &about);
                    assert_eq!((count.0.into_inner(), count.1.into_inner()), (total, files.jobs.len()), "{about}");
                    assert_eq!(device.count(Verb::Submit), device.count(Verb::Wait), "{about}");
                    assert!(device.count(Verb::Alloc) <= sizes.slabs, "memory is bounded: {about}");
                    assert!(device.most_in_flight.get() <= sizes.slabs, "{about}");
                    assert!(device.most_jobs.get() <= sizes.jobs, "{about}");
                    assert!(device.aligned.get() || shard.is_some_and(|shard| shard % 16 > 0), "{about}");
                    // Read once and copied once, but for the gaps between strings.
                    assert!(device.uploaded.get() <= total + 16 * 16 * (files.jobs.len() as u64 + 1), "{about}");
                }
            }
        }
    }
}

#[test]
fn thousands_of_files_go_in_few_submits() {
    let files = Files::new((0..3000).map(|i| i * 7 % 400));
    let device = Planted::new(1 << 16);
    let sizes = Sizes { slab: 1 << 18, ..SMALL };
    let hashed = hash_files_in(&device, &files.jobs, &wanted(all()), &Silent, sizes).unwrap();
    files.check(&hashed, all(), None, "many");
    assert!(device.count(Verb::Submit) <= 3, "{}", device.count(Verb::Submit));
    assert!(device.most_in_flight.get() > 1, "one slab is filled while another is hashed");
}

#[test]
fn no_submit_has_more_jobs_than_it_may() {
    // Three that fill the submit, and a long one that would still find room in the slab.
    let files = Files::new([5, 5, 5, 20_000, 5, 5, 20_000]);
    let device = Planted::new(1000);
    let sizes = Sizes { jobs: 3, ..SMALL };
    let hashed = hash_files_in(&device, &files.jobs, &wanted(all()), &Silent, sizes).unwrap();
    files.check(&hashed, all(), None, "few jobs");
    assert_eq!(device.most_jobs.get(), 3);
}

#[test]
fn as_it_is_set_up_for_real_with_several_readers() {
    let files = Files::new([(9 << 20) + 77, 3, (4 << 20) - 1, 0]);
    let cpu = Cpu::open(Settings::default()).unwrap();
    for algorithms in [blake3_alone(), all()] {
        let hashed = hash_files(&cpu, &files.jobs, &wanted(algorithms), &Silent).unwrap();
        files.check(&hashed, algorithms, None, "real");
        let sizes = Sizes { slab: 4 << 20, group: GroupSize::at_most(1 << 20), readers: 3, ..SMALL };
        let hashed = hash_files_in(&Planted::new(3 << 20), &files.jobs, &wanted(algorithms), &Silent, sizes).unwrap();
        files.check(&hashed, algorithms, None, "several readers");
    }
    assert_eq!(Sizes::of(&files.jobs).slab, 64 << 20, "unknown sizes");
    let hint = |len| FileJob { path: PathBuf::new(), size_hint: Some(len), expected_len: None };
    assert_eq!(Sizes::of(&[hint(5 << 20), hint(3)]).slab, 8 << 20);
    assert_eq!(Sizes::of(&[hint(u64::MAX), hint(u64::MAX)]).slab, 64 << 20);
}

#[test]
fn every_call_of_the_device_may_fail_and_nothing_comes_out() {
    let files = Files::new([100, 20_000, 0, 8192, 5, 30_000, 40_000]);
    let run = |device: &Planted| hash_files_in(device, &files.jobs, &wanted(all()), &Silent, SMALL);
    let sound = Planted::new(1000);
    files.check(&run(&sound).unwrap(), all(), None, "sound");
    for verb in VERBS {
        let calls = sound.count(verb);
        assert!(calls >= 3, "{verb:?} is called {calls} times");
        for nth in 1..=calls {
            let device = Planted { fail: Some((verb, nth)), ..Planted::new(1000) };
            let error = run(&device).unwrap_err();
            assert!(matches!(error, Error::Device(ref e) if *e == device.error), "{verb:?} {nth}: {error}");
            assert_eq!(device.count(verb), nth, "nothing more was asked of it");
        }
    }
}

#[test]
fn results_that_are_missing_are_no_digest() {
    for (len, forgets) in [(100, Forgets::Result), (50_000, Forgets::Result), (50_000, Forgets::Value)] {
        let files = Files::new([20_000, len]);
        let run = |device: &Planted| hash_files_in(device, &files.jobs, &wanted(all()), &Silent, SMALL);
        let sound = Planted::new(1000);
        run(&sound).unwrap();
        let device = Planted { forgets: Some(forgets), waits: sound.count(Verb::Wait), ..Planted::new(1000) };
        let error = run(&device).unwrap_err();
        let none = DeviceError::NoResult { device: DeviceKind::Cuda(7) };
        assert!(matches!(error, Error::Device(ref e) if *e == none), "{len} {forgets:?}: {error}");
    }
}

#[test]
fn with_memory_for_one_slab_it_goes_on_with_one() {
    let files = Files::new([50_000, 3, 20_000]);
    let short = DeviceError::OutOfMemory { device: DeviceKind::Cuda(7), what: "a slab", bytes: 8192 };
    for (nth, answers) in [(1, false), (2, true), (3, true)] {
        let device = Planted { fail: Some((Verb::Alloc, nth)), error: short.clone(), ..Planted::new(4096) };
        let hashed = hash_files_in(&device, &files.jobs, &wanted(all()), &Silent, SMALL);
        assert_eq!(hashed.is_ok(), answers);
        match hashed {
            Ok(hashed) => files.check(&hashed, all(), None, "short of memory"),
            Err(error) => assert!(matches!(error, Error::Device(ref e) if *e == short), "{error}"),
        }
        assert_eq!(device.count(Verb::Alloc), nth, "it does not ask again and again");
    }
}

#[test]
fn without_blake3_there_is_no_work_for_a_device() {
    let files = Files::new([10]);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake2b] {
        let device = Planted::new(1000);
        let error = hash_files(&device, &files.jobs, &wanted(Algorithms::only(algorithm)), &Silent).unwrap_err();
        let expected = DeviceError::Algorithm { device: DeviceKind::Cuda(7), algorithm };
        assert!(matches!(error, Error::Device(ref e) if *e == expected), "{error}");
        assert_eq!(*device.counts.borrow(), [0; 5]);
    }
}

/// Alters a file once so many bytes are through.
struct Alter<F: Fn()>(AtomicU64, F);

impl<F: Fn() + Sync> Progress for Alter<F> {
    fn advance(&self, bytes: u64, _files: usize) {
        if bytes > 0 && self.0.fetch_add(bytes, Ordering::Relaxed) == 0 {
            (self.1)();
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_no_answer() {
    type Act = fn(&std::path::Path);
    let acts: [(&str, Act); 4] = [
        ("shrunk", |path| fs::File::options().write(true).open(path).unwrap().set_len(30_000).unwrap()),
        ("grown", |path| {
            use std::io::Write;
            fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("rewritten", |path| fs::write(path, vec![9; 100_000]).unwrap()),
        ("touched", |path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap()),
    ];
    for (name, act) in acts {
        let files = Files::new([100_000]);
        // Time stamps move in steps of the kernel's tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let path = files.path(0);
        let alter = Alter(AtomicU64::new(0), || act(&path));
        let error = hash_files_in(&Planted::new(4096), &files.jobs, &wanted(all()), &alter, SMALL).unwrap_err();
        assert!(matches!(error, Error::FileChanged { path: ref p, .. } if *p == path), "{name}: {error}");
    }
}

#[test]
fn links_missing_files_hidden_lengths_and_other_lengths() {
    let files = Files::new([50, 60]);
    let run = |path: PathBuf, expected_len| {
        let mut jobs = files.jobs.clone();
        jobs.insert(1, FileJob { path, size_hint: Some(9), expected_len });
        hash_files_in(
            &Planted::new(4096),
            &jobs,
            &Wanted { shard: NonZeroU64::new(4096), ..wanted(all()) },
            &Silent,
            SMALL,
        )
    };
    let link = files.path(99);
    std::os::unix::fs::symlink(files.path(0), &link).unwrap();
    assert!(matches!(run(link.clone(), None), Err(Error::FileChanged { path, .. }) if path == link));
    assert!(matches!(run(files.path(98), None), Err(Error::Io { doing: "open", .. })));
    assert!(matches!(run(PathBuf::from("/proc/version"), None), Err(Error::FileChanged { .. })));
    let huge = files.path(97);
    fs::File::create(&huge).unwrap().set_len(1 << 42).unwrap();
    let hashed = run(huge, Some(3)).unwrap();
    assert_eq!((hashed[1].len, hashed[1].parts.len()), (1 << 42, 0), "it was not read");
    assert_eq!(hashed[2].parts.len(), 1);
}

#[test]
fn a_tap_sees_the_bytes_of_the_staging_blocks_in_order_and_once() {
    let files = Files::new([0, 1, 1023, 8191, 8192, 8193, 50_000, 3 << 20, (4 << 20) + 77]);
    let texts: Vec<&[u8]> = files.texts.iter().map(Vec::as_slice).collect();
    for (block, readers) in [(16 << 10, 1), (1 << 20, 1), (3 << 20, 3)] {
        for algorithms in [blake3_alone(), all()] {
            for first in [u64::MAX, 0, 1, 8192, 1_100_000] {
                let sizes = Sizes { readers, ..SMALL };
                let tap = Keeps::new(files.jobs.len(), |_, _| first);
                let wanted = Wanted { tap: Some(&tap), ..wanted(algorithms) };
                let hashed = hash_files_in(&Planted::new(block), &files.jobs, &wanted, &Silent, sizes).unwrap();
                let about = format!("first {first}, blocks of {block}");
                files.check(&hashed, algorithms, None, &about);
                tap.check(&texts, &about);
            }
        }
    }
}
