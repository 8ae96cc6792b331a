//! The engine on a real adapter, software if there is no other; and with limits so small that every edge is near.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::device::Want;
use crate::layout::{Extent, Layout};
use crate::tree::GroupSize;

/// An open device with some memory on it, and what is in that.
struct Rig {
    wgpu: Wgpu,
    memories: Vec<DeviceMemory>,
    bytes: Vec<Vec<u8>>,
}

/// The sizes of a rig's memories.
const SIZES: [usize; 3] = [200_003, 70_001, 4096];

pub(super) fn open(limits: impl Fn(&wgpu::Limits) -> Limits) -> Option<Wgpu> {
    let adapters = adapter::all();
    if let Some((adapter, info)) = adapters.first() {
        return Some(Wgpu::of(adapter, info, limits).unwrap());
    }
    let required = std::env::var_os("TENSORSEAL_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "there is no Vulkan adapter, and it is required: install mesa-vulkan-drivers");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: there is no Vulkan adapter\n");
    None
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(seed) >> 11) as u8 ^ (i >> 3) as u8).collect()
}

fn load(wgpu: &Wgpu, bytes: &[u8]) -> DeviceMemory {
    let mut memory = wgpu.alloc(bytes.len() as u64).unwrap();
    let mut at = 0;
    for part in bytes.chunks(wgpu.limits.block as usize) {
        upload(wgpu, &mut memory, at, part);
        at += part.len() as u64;
    }
    memory
}

fn upload(wgpu: &Wgpu, memory: &mut DeviceMemory, at: u64, bytes: &[u8]) {
    let mut block = wgpu.staging().unwrap();
    block.as_mut()[..bytes.len()].copy_from_slice(bytes);
    wgpu.upload(block, bytes.len(), memory, at).unwrap();
}

impl Rig {
    fn new(limits: impl Fn(&wgpu::Limits) -> Limits) -> Option<Self> {
        let wgpu = open(limits)?;
        let bytes: Vec<Vec<u8>> =
            SIZES.iter().zip(0x9E37_79B9..).map(|(&len, seed)| pattern(len, seed * seed)).collect();
        let memories = bytes.iter().map(|bytes| load(&wgpu, bytes)).collect();
        Some(Self { wgpu, memories, bytes })
    }

    /// What an adapter allows.
    fn whole() -> Option<&'static Self> {
        static RIG: OnceLock<Option<Rig>> = OnceLock::new();
        RIG.get_or_init(|| Self::new(Limits::of)).as_ref()
    }

    /// Windows of 64 KiB, dispatches of 16 by 16 workgroups, memory in parts of 96,000 bytes.
    fn small() -> Option<&'static Self> {
        static RIG: OnceLock<Option<Rig>> = OnceLock::new();
        RIG.get_or_init(|| Self::new(|_| Limits::new(64 << 10, 256, 16, 96_000, 5000))).as_ref()
    }

    /// Windows of 4 KiB, parts that are no multiple of a chunk.
    fn tiny() -> Option<&'static Self> {
        static RIG: OnceLock<Option<Rig>> = OnceLock::new();
        RIG.get_or_init(|| Self::new(|_| Limits::new(4 << 10, 32, 8, 7200, 3000))).as_ref()
    }

    fn all() -> impl Iterator<Item = &'static Self> {
        [Self::whole(), Self::small(), Self::tiny()].into_iter().flatten()
    }

    fn extents<'a>(&'a self, pieces: &'a [Piece]) -> Vec<Extent<'a, DeviceMemory>> {
        let extent = |piece: &'a Piece| match *piece {
            Piece::Host(ref bytes) => Extent::Host(bytes),
            Piece::Range(buffer, at, len) => Extent::Range { buffer: &self.memories[buffer], at, len },
            Piece::Rows(buffer, at, row, stride, rows) => {
                Extent::Rows { buffer: &self.memories[buffer], at, row, stride, rows }
            }
        };
        pieces.iter().map(extent).collect()
    }

    fn text(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in pieces {
            let (buffer, at, row, stride, rows) = match *piece {
                Piece::Host(ref bytes) => {
                    text.extend_from_slice(bytes);
                    continue;
                }
                Piece::Range(buffer, at, len) => (buffer, at, len, 0, 1),
                Piece::Rows(buffer, at, row, stride, rows) => (buffer, at, row, stride, rows),
            };
            for start in (0..rows).map(|index| (at + index * stride) as usize) {
                text.extend_from_slice(&self.bytes[buffer][start..start + row as usize]);
            }
        }
        text
    }

    fn jobs<'a>(&'a self, strings: &'a [(Vec<Piece>, Want)]) -> Vec<Job<'a, DeviceMemory>> {
        let job = |(pieces, want): &'a (Vec<Piece>, Want)| Job {
            layout: Layout::new(self.extents(pieces)).unwrap(),
            want: *want,
        };
        strings.iter().map(job).collect()
    }

    fn check(&self, strings: &[(Vec<Piece>, Want)]) {
        let hashed = self.wgpu.hash(&self.jobs(strings)).unwrap();
        assert_eq!(hashed.len(), strings.len());
        for ((pieces, want), hashed) in strings.iter().zip(hashed) {
            assert_eq!(hashed, want.of(&self.text(pieces)), "{pieces:?} {want:?} {:?}", self.wgpu.limits);
        }
    }
}

/// An extent, before there is a device.
#[derive(Debug, Clone)]
enum Piece {
    Host(Vec<u8>),
    Range(usize, u64, u64),
    Rows(usize, u64, u64, u64, u64),
}

fn piece() -> impl Strategy<Value = Piece> {
    let place = (0..SIZES.len(), any::<prop::sample::Index>(), prop_oneof![Just(1_u64), Just(4), Just(16)]);
    let row = prop_oneof![Just(64_u64), Just(128), Just(192), Just(1024), 1..1500_u64];
    let gap = prop_oneof![Just(0_u64), Just(64), 0..300_u64, 2000..9000_u64];
    let rows = (place, row, gap, 1..60_u64).prop_map(|((buffer, at, align), row, gap, rows)| {
        let size = SIZES[buffer] as u64;
        let row = row.min(size);
        let at = at.index((size - row + 1) as usize) as u64 / align * align;
        Piece::Rows(buffer, at, row, row + gap, rows.min((size - at - row) / (row + gap) + 1))
    });
    let place = (0..SIZES.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3_u8);
    let range = place.prop_map(|(buffer, at, len, kind)| {
        let at = at.index(SIZES[buffer]) / [1, 16, 1][kind as usize] * [1, 16, 1][kind as usize];
        let most = if kind == 2 { 3000 } else { usize::MAX };
        Piece::Range(buffer, at as u64, len.index((SIZES[buffer] - at).min(most)) as u64)
    });
    let host = (0..5000_usize, any::<u64>()).prop_map(|(len, seed)| Piece::Host(pattern(len, seed)));
    prop_oneof![3 => range, 3 => rows, 1 => host]
}

fn want() -> impl Strategy<Value = Want> {
    let first = prop_oneof![Just(0_u64), Just((1 << 32) - 64), Just(1 << 32), Just((1 << 40) + 128)];
    let groups = (first, 0..7_u8).prop_map(|(first_chunk, log)| groups(first_chunk, log));
    prop_oneof![2 => Just(Want::Root), 1 => groups]
}

fn groups(first_chunk: u64, log: u8) -> Want {
    Want::Groups { first_chunk, group: GroupSize::from_chunk_log(log).unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn strings_of_any_layout_have_the_crates_digests(
        strings in prop::collection::vec((prop::collection::vec(piece(), 0..8), want()), 1..6),
    ) {
        Rig::all().for_each(|rig| rig.check(&strings));
    }

    #[test]
    fn uploads_change_exactly_their_bytes(
        uploads in prop::collection::vec((0..30_000_u64, 0..3000_usize, any::<u64>()), 1..12),
        range in (0..33_000_u64, 0..33_000_u64),
    ) {
        for rig in Rig::all() {
            let mut bytes = pattern(33_000, 77);
            let mut memory = load(&rig.wgpu, &bytes);
            for &(at, len, seed) in &uploads {
                let new = pattern(len, seed);
                bytes[at as usize..at as usize + len].copy_from_slice(&new);
                upload(&rig.wgpu, &mut memory, at, &new);
            }
            prop_assert_eq!(&rig.wgpu.download(&memory, 0..33_000).unwrap(), &bytes);
            let (start, end) = (range.0.min(range.1), range.0.max(range.1));
            let part = rig.wgpu.download(&memory, start..end).unwrap();
            prop_assert_eq!(part, &bytes[start as usize..end as usize]);
        }
    }
}

#[test]
fn lengths_around_every_edge_are_exact() {
    for rig in Rig::all() {
        let mut strings = Vec::new();
        // Blocks, chunks, subtrees, windows, parts of memory.
        for edge in [0, 64, 1024, 2048, 4096, 7200, 8192, 65_536, 96_000, 131_072] {
            for len in edge - u64::from(edge > 0)..=edge + 1 {
                for at in [0, 8, 3, 1021] {
                    strings.push((vec![Piece::Range(0, at, len)], Want::Root));
                    strings.push((vec![Piece::Range(0, at, len)], groups((1 << 32) - 4, 2)));
                    // To the last byte of the memory.
                    strings.push((vec![Piece::Range(0, SIZES[0] as u64 - len, len)], Want::Root));
                }
            }
        }
        rig.check(&strings);
    }
}

#[test]
fn launches_with_two_rows_of_workgroups_are_whole() {
    let Some(rig) = Rig::new(|_| Limits::new(64 << 10, 256, 4, 1 << 20, 4000)) else { return };
    // Five blocks of the tree, where four are a row.
    rig.check(&[([0, 16, 32].map(|at| Piece::Range(0, at, 195 << 10)).to_vec(), Want::Root)]);
}

#[test]
fn counters_pass_every_edge() {
    for rig in Rig::all() {
        let firsts = [0, (1 << 32) - 128, (1_u64 << 32) - 1, 1 << 32, (1 << 32) + 1, (1 << 40) - 5, 1 << 53];
        let strings = firsts.map(|first| (vec![Piece::Range(0, 5, 150_000)], groups(first, 0)));
        rig.check(&strings);
        rig.check(&[(vec![Piece::Rows(0, 0, 64, 192, 1000)], groups((1 << 32) - 32, 4))]);
    }
}

#[test]
fn thousands_of_jobs_go_in_one_submission_and_in_bounded_memory() {
    for rig in Rig::all() {
        let string = |i: u64| match i % 4 {
            0 => vec![Piece::Range((i % 3) as usize, i % 1000, i % 3000)],
            1 => vec![Piece::Host(pattern((i % 700) as usize, i)), Piece::Range(1, i, i % 5000)],
            2 => vec![Piece::Rows(0, i, 1 + i % 90, 100, 1 + i % 50)],
            _ => vec![Piece::Range(0, i / 16 * 16, 2048 + i % 4096)],
        };
        let strings: Vec<_> = (0..4000).map(|i| (string(i), Want::Root)).collect();
        rig.check(&strings);
        assert!(rig.wgpu.workspace.held() <= rig.wgpu.limits.workspace(), "{}", rig.wgpu.workspace.held());
    }
}

#[test]
fn large_strings_take_several_batches_and_all_levels() {
    let Some(rig) = Rig::whole() else { return };
    let bytes = pattern((300 << 20) + 12_345, 0x5851_F42D_4C95_7F2D);
    let memory = load(&rig.wgpu, &bytes);
    for at in [0, 7] {
        let extent = Extent::Range { buffer: &memory, at, len: bytes.len() as u64 - at };
        let job = Job { layout: Layout::new(vec![extent]).unwrap(), want: Want::Root };
        assert_eq!(rig.wgpu.hash(&[job]).unwrap(), [Want::Root.of(&bytes[at as usize..])]);
    }
}

#[test]
fn several_threads_hash_at_once() {
    for rig in Rig::all() {
        std::thread::scope(|scope| {
            for thread in 0..6_u64 {
                scope.spawn(move || {
                    for i in 0..15 {
                        let pieces = vec![
                            Piece::Range(0, thread * 17 + i, 50_000 + i),
                            Piece::Host(pattern(1000, thread)),
                            Piece::Rows(1, i, 64, 128, 100),
                        ];
                        rig.check(&[(pieces, Want::Root), (vec![Piece::Range(2, i, 900)], Want::Root)]);
                        let new = pattern(2500, i + thread);
                        let memory = load(&rig.wgpu, &new);
                        assert_eq!(rig.wgpu.download(&memory, 0..2500).unwrap(), new);
                    }
                });
            }
        });
    }
}

#[test]
fn jobs_see_the_uploads_before_them_and_tickets_wait_in_any_order() {
    for rig in Rig::all() {
        let wgpu = &rig.wgpu;
        let mut memory = load(wgpu, &pattern(20_000, 1));
        let mut tickets = Vec::new();
        for i in 0..8_u64 {
            upload(wgpu, &mut memory, 1 + i * 100, &pattern(2000, i));
            let job = Job { layout: Layout::whole(&memory).unwrap(), want: Want::Root };
            tickets.push((wgpu.submit(&[job], None).unwrap(), i));
        }
        let mut bytes = pattern(20_000, 1);
        let texts: Vec<Vec<u8>> = (0..8_usize)
            .map(|i| {
                bytes[1 + i * 100..2001 + i * 100].copy_from_slice(&pattern(2000, i as u64));
                bytes.clone()
            })
            .collect();
        drop(tickets.remove(3));
        for (ticket, i) in tickets.into_iter().rev() {
            assert_eq!(wgpu.wait(ticket).unwrap(), [Want::Root.of(&texts[i as usize])], "{i}");
        }
    }
}

#[test]
fn a_launch_that_does_nothing_is_never_a_result() {
    // Devices of their own: other tests must not lose launches.
    for limits in [Limits::of, |_: &wgpu::Limits| Limits::new(64 << 10, 256, 16, 96_000, 5000)] {
        let Some(rig) = Rig::new(limits) else { return };
        let strings = [
            // All three kinds of chunks, gathers from two buffers, and a tail.
            (vec![Piece::Range(0, 0, 100_000), Piece::Range(1, 3, 50_000)], Want::Root),
            (vec![Piece::Rows(0, 1, 64, 100, 1000), Piece::Range(2, 0, 77)], Want::Root),
            (vec![Piece::Range(1, 1, 100)], Want::Root),
        ];
        // Results of a batch like these are now in the memory that the next ones use.
        rig.check(&strings);
        let no_result = Err(DeviceError::NoResult { device: rig.wgpu.kind() });
        let mut launches = 0;
        loop {
            rig.wgpu.skip.store(launches, Ordering::Relaxed);
            let hashed = rig.wgpu.hash(&rig.jobs(&strings));
            if hashed.is_ok() {
                break;
            }
            assert_eq!(hashed, no_result, "without launch {launches}");
            launches += 1;
        }
        assert!(launches >= 7, "{launches}");
        rig.check(&strings);
    }
}

#[test]
fn results_that_a_launch_left_out_are_never_results() {
    let Some(rig) = Rig::new(Limits::of) else { return };
    let no_result = Err(DeviceError::NoResult { device: rig.wgpu.kind() });
    // Values straight from chunks, and from one step of merging. What ran before left its own in the same memory.
    for (log, last) in [(0, 0), (4, 1)] {
        let strings = [(vec![Piece::Range(0, 0, 128 << 10)], groups(0, log))];
        rig.check(&strings);
        rig.wgpu.idle.store(last, Ordering::Relaxed);
        assert_eq!(rig.wgpu.hash(&rig.jobs(&strings)), no_result, "{log}");
        rig.wgpu.idle.store(usize::MAX, Ordering::Relaxed);
    }
}

#[test]
fn a_lost_device_gives_errors_and_nothing_else() {
    let Some(rig) = Rig::new(Limits::of) else { return };
    let strings = [(vec![Piece::Range(0, 0, 100_000)], Want::Root)];
    let ticket = rig.wgpu.submit(&rig.jobs(&strings), None).unwrap();
    let block = rig.wgpu.staging().unwrap();
    let mut memory = rig.wgpu.alloc(1000).unwrap();
    rig.wgpu.gpu.device.destroy();
    let errors = [
        rig.wgpu.hash(&rig.jobs(&strings)).unwrap_err(),
        rig.wgpu.wait(ticket).unwrap_err(),
        rig.wgpu.upload(block, 1000, &mut memory, 0).unwrap_err(),
        rig.wgpu.alloc(1000).unwrap_err(),
        rig.wgpu.staging().unwrap_err(),
        rig.wgpu.download(&memory, 0..10).unwrap_err(),
        rig.wgpu.hash(&[]).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, DeviceError::Driver { .. }), "{error:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_does_no_harm() {
    let (Some(rig), Some(other)) = (Rig::small(), Rig::tiny()) else { return };
    let wgpu = &rig.wgpu;
    let mut memory = wgpu.alloc(1000).unwrap();
    let driver = |error| assert!(matches!(error, Some(DeviceError::Driver { .. })), "{error:?}");
    driver(wgpu.upload(wgpu.staging().unwrap(), 10, &mut memory, 991).err());
    driver(wgpu.upload(wgpu.staging().unwrap(), 10, &mut memory, u64::MAX).err());
    driver(wgpu.upload(wgpu.staging().unwrap(), 5001, &mut memory, 0).err());
    driver(wgpu.download(&memory, 990..1001).err());
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused")]
    driver(wgpu.download(&memory, 10..9).err());
    driver(other.wgpu.upload(other.wgpu.staging().unwrap(), 10, &mut memory, 0).err());
    driver(other.wgpu.download(&memory, 0..10).err());
    driver(wgpu.upload(other.wgpu.staging().unwrap(), 10, &mut memory, 0).err());
    let foreign = || vec![Job { layout: Layout::whole(&memory).unwrap(), want: Want::Root }];
    driver(other.wgpu.hash(&foreign()).err());
    driver(other.wgpu.wait(wgpu.submit(&foreign(), None).unwrap()).err());
    let unaligned = Job { layout: Layout::whole(&memory).unwrap(), want: groups(4, 3) };
    assert!(matches!(wgpu.hash(&[unaligned]), Err(DeviceError::Unaligned { .. })));
    for huge in [1 << 50, u64::MAX - 20, u64::MAX] {
        assert!(matches!(wgpu.alloc(huge), Err(DeviceError::OutOfMemory { .. })), "{huge}");
    }
    assert_eq!(wgpu.alloc(0).map(|memory| crate::layout::Buffer::size(&memory)), Ok(0));
    assert_eq!(wgpu.hash(&[]), Ok(Vec::new()));
    rig.check(&[(vec![Piece::Range(0, 0, 9999)], Want::Root)]);
}

#[test]
fn blocks_are_a_few_and_come_back() {
    let Some(wgpu) = open(|limits| Limits { block: 4096, ..Limits::of(limits) }) else { return };
    let mut memory = wgpu.alloc(1 << 20).unwrap();
    let bytes = pattern(4096, 3);
    for i in 0..256 {
        upload(&wgpu, &mut memory, i * 4096, &bytes);
    }
    assert!(wgpu.ring.total() <= 4, "{}", wgpu.ring.total());
    let held: Vec<Staging> = std::iter::from_fn(|| wgpu.staging().ok()).collect();
    assert_eq!(held.len(), 64);
    assert!(matches!(wgpu.staging(), Err(DeviceError::OutOfMemory { .. })));
    drop(held);
    assert!(wgpu.staging().is_ok());
}

#[test]
fn every_adapter_is_listed_by_a_name_that_opens_it() {
    for listed in Wgpu::list() {
        let DeviceKind::Wgpu(Some(name)) = &listed.kind else { continue };
        assert_eq!(listed.usable, Ok(()));
        assert_eq!(Wgpu::open(Some(name)).unwrap().kind(), listed.kind);
        let lower = name.to_uppercase();
        assert_eq!(Wgpu::open(Some(&lower)).unwrap().kind(), listed.kind);
    }
}

/// The one test that another process ran.
fn passed(output: &std::process::Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn without_a_driver_there_is_a_reason() {
    const MARK: &str = "TENSORSEAL_TEST_WITHOUT_DRIVER";
    if std::env::var_os(MARK).is_some() {
        for name in [None, Some("llvmpipe")] {
            assert!(matches!(Wgpu::open(name), Err(DeviceError::Absent { .. })), "{name:?}");
        }
        let [listed] = &Wgpu::list()[..] else { panic!("one entry") };
        assert!(matches!(listed.usable, Err(DeviceError::Absent { .. })));
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "device::wgpu::tests::without_a_driver_there_is_a_reason"])
        .env(MARK, "1")
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .output()
        .unwrap();
    passed(&output);
}

#[test]
fn having_no_memory_is_an_error_of_one_call() {
    const MARK: &str = "TENSORSEAL_TEST_LITTLE_MEMORY";
    if std::env::var_os(MARK).is_none() {
        // A process that may have 8 GiB of addresses: a software adapter's memory is that of the process.
        let this = std::env::current_exe().unwrap();
        let test = "device::wgpu::tests::having_no_memory_is_an_error_of_one_call";
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 8388608 && exec \"$0\" --exact \"$1\" --test-threads 1"])
            .args([this.as_os_str(), test.as_ref()])
            .env(MARK, "1")
            .output()
            .unwrap();
        passed(&output);
        return;
    }
    let Some(rig) = Rig::whole() else { return };
    let mut all = Vec::new();
    let error = loop {
        match rig.wgpu.alloc(1 << 30) {
            // Hardware has memory that no limit of the process touches.
            Ok(_) if all.len() > 8 => return,
            Ok(memory) => all.push(memory),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DeviceError::OutOfMemory { bytes: 0x4000_0000, .. }), "{error:?}");
    assert!(!all.is_empty());
    drop(all);
    rig.check(&[(vec![Piece::Range(0, 3, 100_000)], Want::Root)]);
    assert!(rig.wgpu.alloc(1 << 30).is_ok(), "what was dropped is free again");
}
