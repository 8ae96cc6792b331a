//! Rates that a device cannot exceed (`docs/gpu.md`): derived from counted instructions and from what the driver says of its
//! parts, or, for the memory of the host, measured just before.

use std::time::{Duration, Instant};

use super::oracle::Spot;
use super::report::{Bound, BoundKind};
use crate::device::DeviceFacts;

/// Bytes a clock and multiprocessor, by compute capability and kernel: aligned, any, aligned with the tree, any with the tree.
/// From the table of `docs/gpu.md`, which a test compares.
const COUNTED: [(u32, &str, [f64; 4]); 12] = [
    (80, "plain", [6.95, 6.75, 6.44, 6.27]),
    (80, "mad", [8.59, 8.28, 7.94, 7.68]),
    (86, "plain", [6.95, 6.75, 6.44, 6.27]),
    (86, "mad", [8.59, 8.28, 7.94, 7.68]),
    (89, "plain", [6.95, 6.75, 6.44, 6.27]),
    (89, "mad", [8.59, 8.28, 7.94, 7.68]),
    (90, "plain", [6.95, 6.75, 6.43, 6.26]),
    (90, "mad", [8.58, 8.28, 7.94, 7.68]),
    (100, "plain", [6.95, 6.75, 6.43, 6.26]),
    (100, "mad", [8.58, 8.28, 7.94, 7.68]),
    (120, "plain", [5.85, 5.71, 5.41, 5.29]),
    (120, "mad_all", [8.61, 8.30, 7.95, 7.69]),
];

/// From so many bytes on a string has all the levels of a tree that are counted in the last two.
const WITH_TREE: u64 = 512 << 10;

/// So many times the last cache is read from memory, whoever kept what.
const CACHES: u64 = 4;
/// What is larger than any last cache, where a device does not say how large its own is.
const BEYOND_CACHES: u64 = 256 << 20;

/// The link between the host and a device, at its best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "NVML alone tells of links"))]
pub(super) struct Link {
    /// Of PCI Express.
    pub(super) generation: u32,
    pub(super) lanes: u32,
}

impl Link {
    /// Bytes a second, and what follows from what. None for a generation that is not known here.
    fn rate(self) -> Option<(f64, String)> {
        // Transfers a second and lane, and how many bits of how many are payload: 8b/10b, 128b/130b, then FLITs (PCI Express
        // Base Specification 6.0, sections 4.2.1 to 4.2.3).
        let (giga, of, all) = match self.generation {
            1 => (2.5, 8.0, 10.0),
            2 => (5.0, 8.0, 10.0),
            3 => (8.0, 128.0, 130.0),
            4 => (16.0, 128.0, 130.0),
            5 => (32.0, 128.0, 130.0),
            6 => (64.0, 242.0, 256.0),
            _ => return None,
        };
        let rate = giga * 1e9 / 8.0 * of / all * f64::from(self.lanes);
        let Self { generation, lanes } = self;
        let basis = format!(
            "PCI Express {generation}, {lanes} lanes, at best here as NVML says: {giga} GT/s a lane, {of} of {all} bits; without the heads of packets"
        );
        Some((rate, basis))
    }
}

/// What bounds one device.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// By kernel, the one in use first: bytes a second in the order of [`COUNTED`].
    kernels: Vec<(String, [f64; 4])>,
    instructions: Option<String>,
    memory: Option<(f64, String)>,
    /// Bytes from which on the memory is what bounds.
    least: u64,
    link: Option<(f64, String)>,
}

impl Limits {
    /// From what the driver says. `kernels` are the device's, the one in use first.
    pub(super) fn of(facts: &DeviceFacts, kernels: &[String], link: Option<Link>) -> Self {
        let mut limits =
            Self { least: facts.cache.map_or(BEYOND_CACHES, |cache| cache.saturating_mul(CACHES)), ..Self::default() };
        if let (Some(architecture), Some(processors), Some(clock)) = (facts.architecture, facts.processors, facts.clock)
        {
            let counted = |name: &String| {
                let (.., counts) =
                    COUNTED.iter().find(|(of, kernel, _)| (*of, *kernel) == (architecture, name.as_str()))?;
                Some((name.clone(), counts.map(|count| count * f64::from(processors) * clock as f64)))
            };
            // The first is the one in use: without its count there is no bound of the device.
            limits.instructions = kernels.first().and_then(counted).map(|(name, [.., rate, _])| {
                let each = rate / f64::from(processors) / clock as f64;
                format!(
                    "{each:.2} bytes a clock and multiprocessor (counted: sm_{architecture}, {name}, aligned, with the tree) x {processors} multiprocessors x {:.3} GHz, the highest clock that the driver names",
                    clock as f64 / 1e9
                )
            });
            limits.kernels = kernels.iter().filter_map(counted).collect();
        }
        if let (Some(clock), Some(wires)) = (facts.memory_clock, facts.memory_bus) {
            let basis =
                format!("{wires} bits x {:.3} GHz x 2, as the driver says, every byte read once", clock as f64 / 1e9);
            limits.memory = Some((f64::from(wires) / 8.0 * clock as f64 * 2.0, basis));
        }
        limits.link = link.and_then(Link::rate);
        limits
    }

    /// And the memory of the host, which was read through at this rate by so many threads. What fits into caches says nothing
    /// of it.
    pub(super) fn with_memory_read(mut self, bytes: u64, rate: f64, threads: usize) -> Self {
        if bytes >= self.least {
            let basis = format!(
                "measured just now: {bytes} bytes read through by {threads} threads, the fastest of {READS} times"
            );
            self.memory = Some((rate, basis));
        }
        self
    }

    /// As a report has them: the instructions of long strings that are aligned, with the kernel in use.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        let bound = |kind, bytes_per_second, basis: &String| Bound { kind, bytes_per_second, basis: basis.clone() };
        let mut bounds = Vec::new();
        if let (Some((_, [.., rate, _])), Some(basis)) = (self.kernels.first(), &self.instructions) {
            bounds.push(bound(BoundKind::Instructions, *rate, basis));
        }
        bounds.extend(self.memory.as_ref().map(|(rate, basis)| bound(BoundKind::Memory, *rate, basis)));
        bounds.extend(self.link.as_ref().map(|(rate, basis)| bound(BoundKind::Link, *rate, basis)));
        bounds
    }

    /// The lowest bound of hashing these strings with the kernel in use, or with another.
    pub(super) fn hashing(&self, kernel: Option<&str>, strings: &[Spot]) -> Option<(BoundKind, f64)> {
        let counts = match kernel {
            Some(name) => self.kernels.iter().find(|(of, _)| of == name),
            None => self.kernels.first().filter(|_| self.instructions.is_some()),
        };
        let bytes: u64 = strings.iter().map(|string| string.len()).sum();
        let instructions = counts.map(|(_, rates)| {
            let seconds = |string: &Spot| {
                let way = usize::from(string.at() % 4 != 0) + 2 * usize::from(string.len() >= WITH_TREE);
                string.len() as f64 / rates[way]
            };
            (BoundKind::Instructions, bytes as f64 / strings.iter().map(seconds).sum::<f64>())
        });
        let memory = self.memory.as_ref().filter(|_| bytes >= self.least).map(|(rate, _)| (BoundKind::Memory, *rate));
        instructions.into_iter().chain(memory).min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// The bound of uploads.
    pub(super) fn upload(&self) -> Option<(BoundKind, f64)> {
        self.link.as_ref().map(|(rate, _)| (BoundKind::Link, *rate))
    }
}

/// How often memory is read through. The first time, too, counts: it is the fastest that is wanted.
const READS: usize = 5;

/// Reads memory of the host through by so many threads. The fastest time, and the sum of all words, the same each time; none if
/// it was not.
pub(super) fn read_through(memory: &[u8], threads: usize) -> Option<(Duration, u64)> {
    // Whole words for each thread, and pages, so that none reads another's.
    let share = memory.len().div_ceil(threads.max(1)).next_multiple_of(4096).max(4096);
    let once = || {
        let begun = Instant::now();
        let sum = std::thread::scope(|scope| {
            let mut shares = memory.chunks(share);
            let mine = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|bytes| scope.spawn(move || sum(bytes))).collect();
            let mine = sum(mine);
            others.into_iter().try_fold(mine, |all, other| Some(all.wrapping_add(other.join().ok()?)))
        })?;
        Some((begun.elapsed(), sum))
    };
    let times = (0..READS).map(|_| once()).collect::<Option<Vec<_>>>()?;
    let (_, first) = *times.first()?;
    times.iter().all(|(_, sum)| *sum == first).then(|| times.iter().min().copied())?
}

/// The sum of 64-bit words; what is over counts as one.
fn sum(bytes: &[u8]) -> u64 {
    // As many sums at once as wide registers hold in a few of them: one chain of additions would wait for itself.
    const LANES: usize = 32;
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let mut lanes = [0_u64; LANES];
    let mut blocks = bytes.chunks_exact(8 * LANES);
    for block in &mut blocks {
        for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = lane.wrapping_add(word(bytes));
        }
    }
    let rest = blocks.remainder().chunks(8).map(word);
    lanes.into_iter().chain(rest).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::oracle::Tile;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// What the driver of an H100 with NVLink says.
    fn h100() -> DeviceFacts {
        DeviceFacts {
            architecture: Some(90),
            processors: Some(132),
            clock: Some(1_980_000_000),
            memory_clock: Some(2_619_000_000),
            memory_bus: Some(5120),
            cache: Some(50 << 20),
            ..DeviceFacts::default()
        }
    }

    fn near(found: Option<(BoundKind, f64)>, kind: BoundKind, rate: f64) {
        let (of, found) = found.unwrap();
        assert_eq!(of, kind);
        assert!((found / rate - 1.0).abs() < 1e-9, "{found} {rate}");
    }

    #[test]
    fn bounds_of_a_known_device_are_those_by_hand() {
        let link = Link { generation: 5, lanes: 16 };
        let limits = Limits::of(&h100(), &names(&["mad", "plain"]), Some(link));
        let found: Vec<_> = limits.bounds().iter().map(|bound| (bound.kind, bound.bytes_per_second.round())).collect();
        // 7.94 x 132 x 1.98e9; 640 x 2.619e9 x 2; 16 x 32e9 / 8 x 128 / 130.
        assert_eq!(
            found,
            [
                (BoundKind::Instructions, 2_075_198_400_000.0),
                (BoundKind::Memory, 3_352_320_000_000.0),
                (BoundKind::Link, 63_015_384_615.0),
            ]
        );
        let one = |at, len| [Spot::Range { at, len }];
        let clocks = 132.0 * 1.98e9;
        near(limits.hashing(None, &one(0, 1 << 30)), BoundKind::Instructions, 7.94 * clocks);
        near(limits.hashing(None, &one(4, 1 << 30)), BoundKind::Instructions, 7.94 * clocks);
        near(limits.hashing(None, &one(1, 1 << 30)), BoundKind::Instructions, 7.68 * clocks);
        near(limits.hashing(None, &one(0, 1024)), BoundKind::Instructions, 8.58 * clocks);
        near(limits.hashing(Some("plain"), &one(3, 1 << 20)), BoundKind::Instructions, 6.26 * clocks);
        // Half of the bytes in each way: the harmonic mean.
        let two = [Spot::Range { at: 0, len: 1 << 20 }, Spot::Range { at: 1 << 20 | 1, len: 1 << 20 }];
        near(limits.hashing(None, &two), BoundKind::Instructions, 2.0 / (1.0 / 7.94 + 1.0 / 7.68) * clocks);
        near(limits.upload(), BoundKind::Link, 16.0 * 4e9 * 128.0 / 130.0);
        assert_eq!(limits.hashing(Some("mad_all"), &one(0, 1024)), None);
    }

    #[test]
    fn a_device_with_more_instructions_than_memory_is_bound_by_memory_beyond_its_caches_alone() {
        // An RTX 4090: 128 x 2.52 GHz, 384 bits at 10.501 GHz.
        let mut facts =
            DeviceFacts { architecture: Some(89), processors: Some(128), clock: Some(2_520_000_000), ..h100() };
        (facts.memory_clock, facts.memory_bus, facts.cache) = (Some(10_501_000_000), Some(384), Some(72 << 20));
        let limits = Limits::of(&facts, &names(&["mad"]), None);
        let one = |len| [Spot::Range { at: 0, len }];
        near(limits.hashing(None, &one(1 << 30)), BoundKind::Memory, 1_008_096_000_000.0);
        near(limits.hashing(None, &one(64 << 20)), BoundKind::Instructions, 7.94 * 128.0 * 2.52e9);
        assert_eq!(limits.upload(), None);
    }

    #[test]
    fn what_is_not_known_bounds_nothing() {
        let one = [Spot::Range { at: 0, len: 1 << 20 }];
        // Its PTX is compiled by the driver: nobody counted that.
        let facts = DeviceFacts { architecture: Some(103), memory_bus: None, ..h100() };
        let limits = Limits::of(&facts, &names(&["mad", "plain"]), Some(Link { generation: 9, lanes: 16 }));
        assert_eq!((limits.bounds(), limits.hashing(None, &one), limits.upload()), (vec![], None, None));
        let limits = Limits::of(&DeviceFacts::default(), &[], None);
        assert_eq!((limits.bounds(), limits.hashing(None, &one)), (vec![], None));
        // Memory of the host that fits into caches was not measured by reading it.
        assert_eq!(limits.clone().with_memory_read(1 << 20, 1e12, 2).bounds(), vec![]);
        let limits = limits.with_memory_read(1 << 30, 2e10, 2);
        near(limits.hashing(None, &[Spot::Range { at: 0, len: 1 << 30 }]), BoundKind::Memory, 2e10);
        assert_eq!(limits.hashing(None, &one), None);
    }

    #[test]
    fn lanes_have_the_rates_of_the_specification() {
        for (generation, rate) in [(1, 0.25), (2, 0.5), (3, 0.984_615), (4, 1.969_231), (5, 3.938_462), (6, 7.5625)] {
            let (found, _) = Link { generation, lanes: 1 }.rate().unwrap();
            assert!((found / 1e9 - rate).abs() < 1e-6, "{generation}: {found}");
        }
    }

    #[test]
    fn counts_are_those_of_the_page() {
        let page = include_str!("../../docs/gpu.md");
        let mut rows = Vec::new();
        for line in page.lines().filter(|line| line.starts_with("| sm_")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let number = |cell: usize| cells[cells.len() - 1 - cell].parse::<f64>().unwrap();
            let architecture = cells[1].strip_prefix("sm_").unwrap().parse().unwrap();
            rows.push((architecture, cells[2], [number(4), number(3), number(2), number(1)]));
        }
        assert_eq!(rows, COUNTED);
    }

    #[test]
    fn bounds_of_well_known_devices_on_the_page_follow_from_its_own_numbers() {
        let page = include_str!("../../docs/gpu.md").split("## Bounds of a device as a whole").nth(1).unwrap();
        let number = |text: &str| text.replace(',', "").parse::<f64>().unwrap();
        let mut rows = 0;
        for line in page.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.contains(" x ")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, sm, clocks, memory, instructions, lowest, _] = cells[..] else { continue };
            let (processors, clock) = clocks.split_once(" x ").unwrap();
            let Ok(sm) = sm.parse::<u32>() else { continue };
            let best = COUNTED
                .iter()
                .filter(|(of, ..)| *of == sm)
                .map(|(.., [_, _, rate, _])| *rate)
                .reduce(f64::max)
                .unwrap();
            let found = best * number(processors) * number(clock);
            assert!((found - number(instructions)).abs() <= 0.5, "{name}: {found}");
            assert_eq!(lowest, if found < number(memory) { "instructions" } else { "memory" }, "{name}");
            rows += 1;
        }
        assert_eq!(rows, 9);
    }

    #[test]
    fn memory_is_read_to_the_last_byte() {
        let tile = Tile::new();
        for (len, threads) in [(0, 2), (5, 1), (100_003, 3), (4096 * 8, 8), ((1 << 20) + 4097, 2)] {
            let mut memory = vec![0; len];
            tile.copy(0, &mut memory);
            let (_, sum) = read_through(&memory, threads).unwrap();
            assert_eq!(sum, tile.sum(len as u64), "{len} {threads}");
            if let Some(last) = memory.last_mut() {
                *last ^= 1;
                assert_ne!(read_through(&memory, threads).unwrap().1, sum);
            }
        }
    }
}
