use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use super::*;

use crate::bench::report::BoundKind;
use crate::device::cpu::{Cpu, Memory, Settings, Ticket};
use crate::device::{Device, DeviceError, Hashed, Job};
use crate::digest::{Algorithm, Digest};

/// A processor that counts what is asked of it, and lies once: in the n-th answer, or by losing the n-th upload.
struct Liar {
    cpu: Cpu,
    kind: DeviceKind,
    waits: Cell<usize>,
    uploads: Cell<usize>,
    wrong: usize,
    lost: usize,
    most: u64,
    facts: DeviceFacts,
}

impl Liar {
    fn new() -> Self {
        Self {
            cpu: Cpu::open(Settings::default()).unwrap(),
            kind: DeviceKind::Wgpu(None),
            waits: Cell::new(0),
            uploads: Cell::new(0),
            wrong: usize::MAX,
            lost: usize::MAX,
            most: u64::MAX,
            facts: DeviceFacts::default(),
        }
    }
}

fn next(count: &Cell<usize>) -> usize {
    count.replace(count.get() + 1)
}

impl Backend for Liar {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        self.kind.clone()
    }

    fn facts(&self) -> DeviceFacts {
        self.facts.clone()
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.cpu.staging()
    }

    fn alloc(&self, len: u64) -> Result<Memory, DeviceError> {
        if len > self.most {
            return Err(DeviceError::OutOfMemory { device: self.kind(), what: "a test", bytes: len });
        }
        self.cpu.alloc(len)
    }

    fn upload(&self, block: Vec<u8>, len: usize, to: &mut Memory, at: u64) -> Result<(), DeviceError> {
        if next(&self.uploads) == self.lost { Ok(()) } else { self.cpu.upload(block, len, to, at) }
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        self.cpu.submit(jobs, after)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        let mut hashed = self.cpu.wait(ticket)?;
        if let (true, Some(last)) = (next(&self.waits) == self.wrong, hashed.last_mut()) {
            *last = Hashed::Root(Digest::of32(Algorithm::Blake3, [7; 32]));
        }
        Ok(hashed)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.cpu.download(from, range)
    }
}

/// The same, whose memory is the host's.
struct OnHost(Liar);

impl Backend for OnHost {
    type Staging = Vec<u8>;
    type Buffer = Memory;
    type Stream = Infallible;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        self.0.kind()
    }

    fn facts(&self) -> DeviceFacts {
        self.0.facts()
    }

    fn staging(&self) -> Result<Vec<u8>, DeviceError> {
        self.0.staging()
    }

    fn alloc(&self, len: u64) -> Result<Memory, DeviceError> {
        self.0.alloc(len)
    }

    fn on_host<'m>(&self, memory: &'m mut Memory) -> Option<&'m mut [u8]> {
        self.0.cpu.on_host(memory)
    }

    fn upload(&self, block: Vec<u8>, len: usize, to: &mut Memory, at: u64) -> Result<(), DeviceError> {
        self.0.upload(block, len, to, at)
    }

    fn submit(&self, jobs: &[Job<'_, Memory>], after: Option<&Infallible>) -> Result<Ticket, DeviceError> {
        self.0.submit(jobs, after)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        self.0.wait(ticket)
    }

    fn download(&self, from: &Memory, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.0.download(from, range)
    }
}

fn listed() -> Listed {
    Device::list().into_iter().find(|listed| listed.kind == DeviceKind::Cpu).unwrap()
}

fn options(most: u64, only: &[What]) -> DeviceOptions {
    let only = (!only.is_empty()).then(|| only.iter().copied().collect());
    let repeats = NonZeroUsize::MIN.saturating_add(2);
    DeviceOptions { most: Some(most), repeats, only, patience: Duration::ZERO }
}

#[test]
fn a_lie_in_any_repeat_of_anything_is_the_answer() {
    let sound = Liar::new();
    let options = options(2 << 20, &[]);
    let device = on_device(&sound, &listed(), &options, &mut |_| {}).unwrap();
    let asked = sound.waits.get();
    // Warming up, what is read while it works, and each line once more than it counts.
    assert_eq!(asked, 2 + 4 * device.lines.len());
    // Steps of 7 meet each of the four repeats.
    for wrong in (0..asked).step_by(7).chain([8, asked - 1]) {
        let liar = Liar { wrong, ..Liar::new() };
        let mut told = 0;
        let tell = &mut |event: Event<'_>| told += usize::from(matches!(event, Event::Line(_)));
        let failure = on_device(&liar, &listed(), &options, tell).unwrap_err();
        let Failure::Wrong { what, name, repeat, .. } = &failure else { panic!("{failure}") };
        // Uploads come first, then it is warmed up.
        let (line, of) = match wrong {
            0..8 => (wrong / 4, wrong % 4),
            8 => (2, 0),
            wrong => ((wrong - 9) / 4 + 2, (wrong - 9) % 4),
        };
        assert_eq!(told, line, "{failure}");
        if let (Some(line), true) = (device.lines.get(line), wrong != 8) {
            assert_eq!((what, name.as_str(), *repeat), (&line.what, line.name.as_str(), of));
        }
        assert!(failure.to_string().contains("wrong digest"), "{failure}");
    }
}

#[test]
fn an_upload_that_did_not_arrive_is_seen_though_the_one_before_did() {
    let sound = Liar::new();
    let options = options(8 << 20, &[What::Upload]);
    let device = on_device(&sound, &listed(), &options, &mut |_| {}).unwrap();
    assert_eq!(device.lines.len(), 2);
    // Two blocks hold all of it: once to fill it, then four times a line and once more to put back what was there.
    assert_eq!(sound.uploads.get(), 2 + 2 * (4 * 2 + 2));
    // What fills it first is written again before anybody looks; what is put back is what the last repeat wrote. The second
    // half of each upload is like the first.
    for (lost, seen) in [(1, false), (2, true), (3, true), (5, true), (9, true), (10, false), (12, true), (19, true)] {
        let failure = on_device(&Liar { lost, ..Liar::new() }, &listed(), &options, &mut |_| {});
        assert_eq!(failure.is_err(), seen, "{lost}");
    }
}

#[test]
fn every_measurement_has_its_line_or_says_why_not() {
    let mut begun = Vec::new();
    let mut told = Vec::new();
    let tell = &mut |event: Event<'_>| match event {
        Event::Begun { what, name } => begun.push((what, name.to_owned())),
        Event::Line(line) => told.push((line.what, line.name.clone())),
        _ => {}
    };
    // Room for an adapter, and for no model.
    let most = 170 << 20;
    let device = on_device(&Liar::new(), &listed(), &options(most, &[]), tell).unwrap();
    let lines = &device.lines;
    assert_eq!(begun, told);
    assert_eq!(told, lines.iter().map(|line| (line.what, line.name.clone())).collect::<Vec<_>>());
    let mut unique = told.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), lines.len());

    let of = |what| lines.iter().filter(move |line| line.what == what);
    let sizes: Vec<_> = of(What::Size).map(|line| line.name.as_str()).collect();
    assert_eq!(
        sizes,
        ["1 KiB", "4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB", "4 MiB", "16 MiB", "64 MiB", "170 MiB"]
    );
    assert_eq!(of(What::Alignment).map(|line| line.at).collect::<Vec<_>>(), [16, 8, 4, 1]);
    assert_eq!(of(What::Small).map(|line| line.strings).collect::<Vec<_>>(), [4096, 4096, 680]);
    assert_eq!(of(What::Rows).map(|line| line.bytes).collect::<Vec<_>>(), [21_760 * 4096, 118_838 * 1000]);
    let model = of(What::Model).next().unwrap();
    assert_eq!(
        (model.name.as_str(), model.strings, model.bytes),
        ("LoRA of rank 16 for Llama 3.1 8B", 448, 167_772_160)
    );
    assert!(model.at > 8 && model.at % 8 == 0);
    let skipped: Vec<_> = device.skipped.iter().map(|skipped| (skipped.what, skipped.name.as_str())).collect();
    assert_eq!(skipped, ["Qwen2.5 7B", "Llama 3.1 8B", "Llama 3.1 70B", "DeepSeek-V3"].map(|name| (What::Model, name)));
    for skipped in &device.skipped {
        assert!(skipped.why.contains("170 MiB") && skipped.why.contains("--size"), "{}", skipped.why);
    }
    for line in lines {
        assert_eq!(line.times.seconds().len(), 3, "{}", line.name);
        assert!((line.bytes_per_second - line.times.rate(line.bytes)).abs() < 1.0);
        assert_eq!((line.bound, line.share), (None, None), "nobody knows what bounds this one");
    }
}

#[test]
fn short_memory_is_halved_and_nothing_is_measured_that_nobody_wants() {
    let small = Liar { most: 5 << 20, ..Liar::new() };
    let device = on_device(&small, &listed(), &options(16 << 20, &[What::Size]), &mut |_| {}).unwrap();
    assert_eq!(device.lines.last().map(|line| line.bytes), Some(4 << 20));
    assert!(device.lines.iter().all(|line| line.what == What::Size));
    let idle = Liar::new();
    let device = on_device(&idle, &listed(), &options(16 << 20, &[What::Verify]), &mut |_| {}).unwrap();
    assert_eq!((device.lines.len(), idle.waits.get(), device.device.as_str()), (0, 0, "cpu"));
    // One that gives nothing at all is an error.
    let none = Liar { most: 0, ..Liar::new() };
    let failure = on_device(&none, &listed(), &options(1 << 20, &[]), &mut |_| {}).unwrap_err();
    assert!(matches!(failure, Failure::Device(DeviceError::OutOfMemory { .. })), "{failure}");
}

#[test]
fn what_is_quick_is_repeated_up_to_twenty_times_as_often() {
    let patient = DeviceOptions { patience: Duration::from_mins(1), ..options(1 << 20, &[What::Alignment]) };
    let options = DeviceOptions { repeats: NonZeroUsize::MIN, ..patient };
    // It would warm up for a minute.
    let resident = |patience| {
        let (backend, options) = (Liar::new(), DeviceOptions { patience, ..options.clone() });
        let mut times = Vec::new();
        let mut told = Told { lines: Vec::new(), skipped: Vec::new(), done: &mut |_| {} };
        let tile = Tile::new();
        let buffer = fill(&backend, MIB, &tile).unwrap();
        let resident = Resident { backend: &backend, options: &options, limits: &Limits::default(), tile: &tile };
        let strings = [crate::bench::oracle::Spot::Range { at: 0, len: 1024 }];
        resident.strings(&buffer, What::Size, "1 KiB".into(), &strings, &mut told).unwrap();
        times.extend(told.lines.iter().map(|line| line.times.seconds().len()));
        times
    };
    assert_eq!((resident(options.patience), resident(Duration::ZERO)), (vec![20], vec![1]));
}

#[test]
fn the_processor_is_bound_by_its_memory_where_that_was_read() {
    let cpu = Cpu::open(Settings::default()).unwrap();
    let device = on_device(&cpu, &listed(), &options(2 << 20, &[What::Size]), &mut |_| {}).unwrap();
    // All of it fits into the caches of any machine: that would be no bound of memory.
    assert!(cpu.facts().cache.is_some_and(|cache| cache > 1 << 20) && device.bounds.is_empty());
    let small =
        Liar { facts: DeviceFacts { threads: Some(2), cache: Some(4096), ..DeviceFacts::default() }, ..Liar::new() };
    let mut bounds = 0;
    let tell = &mut |event: Event<'_>| bounds += usize::from(matches!(event, Event::Bound(_)));
    let device = on_device(&OnHost(small), &listed(), &options(2 << 20, &[What::Size]), tell).unwrap();
    let [bound] = &device.bounds[..] else { panic!("{:?}", device.bounds) };
    assert!(bounds == 1 && bound.kind == BoundKind::Memory && bound.basis.contains("measured just now"));
    for line in &device.lines {
        let share = (line.bytes >= 16384).then(|| line.bytes_per_second / bound.bytes_per_second);
        assert_eq!((line.share, line.bound), (share, share.map(|_| BoundKind::Memory)), "{}", line.name);
    }
}

#[test]
fn what_is_measured_in_if_nobody_says_how_much_is_what_the_help_says() {
    let of = |kind, threads, free| most(&kind, &DeviceFacts { threads, free, ..DeviceFacts::default() });
    let cpu = |threads, free| of(DeviceKind::Cpu, Some(threads), Some(free));
    assert_eq!([1, 2, 3, 8, 96].map(|threads| cpu(threads, 1 << 40) / MIB), [512, 1024, 1024, 4096, 4096]);
    assert_eq!((cpu(96, 5 * GIB), cpu(2, 0)), (GIB, MIB));
    assert_eq!(
        (of(DeviceKind::Cuda(0), None, Some(80 * GIB)), of(DeviceKind::Wgpu(None), None, None)),
        (16 * GIB, GIB)
    );
}
