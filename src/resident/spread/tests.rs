use proptest::prelude::*;

use super::*;
use crate::device::cpu::{Cpu, Memory, Settings};
use crate::selftest::write;

/// Devices with memory that holds bytes of its own.
struct Rig {
    cpus: Vec<Cpu>,
    memories: Vec<Memory>,
    bytes: Vec<Vec<u8>>,
}

const MEMORY: usize = 3_000_000;

impl Rig {
    fn new(devices: usize) -> Self {
        let cpus: Vec<Cpu> = (0..devices).map(|_| Cpu::open(Settings::default()).unwrap()).collect();
        let bytes: Vec<Vec<u8>> = (0..devices as u32)
            .map(|device| {
                (0..MEMORY as u32).map(|i| ((i ^ device << 17).wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
            })
            .collect();
        let memories = cpus.iter().zip(&bytes).map(|(cpu, bytes)| {
            let mut memory = cpu.alloc(MEMORY as u64).unwrap();
            write(cpu, bytes, &mut memory, 0).unwrap();
            memory
        });
        let memories = memories.collect();
        Self { cpus, memories, bytes }
    }

    fn on(&self) -> Vec<OnDevice<'_, Cpu>> {
        self.cpus.iter().map(OnDevice::idle).collect()
    }

    /// Pieces of these lengths, scattered by `seed` over devices, host and places; and the string that they are.
    fn scatter<'a>(&'a self, host: &'a [u8], lens: &[usize], mut seed: u64) -> (Spread<'a, Memory>, Vec<u8>) {
        let (mut pieces, mut string) = (Vec::new(), Vec::new());
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below.max(1)
        };
        for &len in lens {
            let device = draw(self.cpus.len());
            match draw(8) {
                0 => {
                    let at = draw(host.len() - len.min(host.len()));
                    let bytes = &host[at..(at + len).min(host.len())];
                    string.extend(bytes);
                    pieces.push((None, Extent::Host(bytes)));
                }
                1 if len > 3 => {
                    let row = 1 + draw(len / 2);
                    let (rows, gap) = (len / row, draw(40));
                    let span = (rows - 1) * (row + gap) + row;
                    if span > MEMORY {
                        continue;
                    }
                    let at = draw(MEMORY - span);
                    (0..rows).for_each(|nth| string.extend(&self.bytes[device][at + nth * (row + gap)..][..row]));
                    let (at, row, stride, rows) = (at as u64, row as u64, (row + gap) as u64, rows as u64);
                    let buffer = &self.memories[device];
                    pieces.push((Some(device), Extent::Rows { buffer, at, row, stride, rows }));
                }
                _ => {
                    let at = draw(MEMORY - len);
                    string.extend(&self.bytes[device][at..at + len]);
                    let buffer = &self.memories[device];
                    pieces.push((Some(device), Extent::Range { buffer, at: at as u64, len: len as u64 }));
                }
            }
        }
        (Spread::new(pieces).unwrap(), string)
    }
}

fn expected(string: &[u8]) -> Digest {
    Digest::of32(Algorithm::Blake3, *blake3::hash(string).as_bytes())
}

#[test]
fn seams_at_every_byte_around_chunks_and_groups() {
    let rig = Rig::new(3);
    let range =
        |device: usize, at: u64, len: u64| (Some(device), Extent::Range { buffer: &rig.memories[device], at, len });
    let of = |device: usize, at: u64, len: u64| rig.bytes[device][at as usize..(at + len) as usize].to_vec();
    let group = CHUNK_LEN << GROUP;
    for seam in [1, 512, 1023, 1024, 1025, 2047, 2048, 2049, 5 * 1024, group - 1, group, group + 1, group + 1024] {
        for after in [1, 2, 1023, 1024, 1025, 3000, group] {
            for middle in [0, 1, 1022, 1024, 2050] {
                let pieces = vec![range(0, 3, seam), range(1, 7, middle), range(2, 1, after)];
                let string = [of(0, 3, seam), of(1, 7, middle), of(2, 1, after)].concat();
                let found = digests(&rig.on(), &[Spread::new(pieces).unwrap()]).unwrap();
                assert_eq!(found, [expected(&string)], "{seam} {middle} {after}");
            }
        }
    }
}

#[test]
fn many_tiny_pieces_in_one_chunk_and_strings_of_one_chunk() {
    let rig = Rig::new(2);
    for (count, len) in [(1024, 1), (1025, 1), (700, 3), (5000, 1), (10, 0), (3, 341), (1, 1024), (2, 512)] {
        let lens = vec![len; count];
        for seed in 0..3 {
            let (spread, string) = rig.scatter(b"on the host", &lens, seed);
            assert_eq!(digests(&rig.on(), &[spread]).unwrap(), [expected(&string)], "{count} {len}");
        }
    }
}

#[test]
fn little_is_downloaded_whatever_the_scattering() {
    let rig = Rig::new(3);
    let (spread, string) = rig.scatter(&[7; 5000], &[40_001; 60], 5);
    let seams = spread.segments.len() as u64 - 1;
    let plan = Plan::new(3, &[spread], None).unwrap();
    let assembled = plan.steps[0].iter().filter_map(|step| match step {
        Step::Assembled { pieces, .. } => Some(pieces.iter().map(|(_, layout)| layout.len()).sum::<u64>()),
        Step::Job { .. } => None,
    });
    let (count, bytes) = assembled.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len));
    assert!(seams > 20 && count <= seams && bytes <= seams * CHUNK_LEN, "{seams} {count} {bytes}");
    // Each byte is in one job or one assembled chunk.
    let jobs: u64 = plan.jobs.iter().flatten().map(|job| job.layout.len()).sum();
    assert_eq!(jobs + bytes, string.len() as u64);
}

/// A part of a longer string, whose chunks have numbers beyond 32 bits.
fn part_value(rig: &Rig, spread: Spread<'_, Memory>, first_chunk: u64) -> crate::tree::ChainingValue {
    let plan = Plan::new(rig.cpus.len(), &[spread], Some(first_chunk)).unwrap();
    let Some(Merged::Tree(frontier)) = plan.run(&rig.on()).unwrap().pop() else { panic!("a tree") };
    frontier.value().unwrap()
}

#[test]
fn chunk_counters_pass_32_bits() {
    let rig = Rig::new(2);
    // 4,096 chunks that begin at multiples of that: a subtree.
    let lens: Vec<usize> = (0..50).map(|nth| 40_000 + nth * 17).collect();
    for first_chunk in [0, (1 << 32) - 4096, 1 << 32, (1 << 32) + 4096, 3 << 40] {
        let (spread, string) = rig.scatter(&[3; 50_000], &lens, first_chunk ^ 9);
        assert!(string.len() < 4096 * 1024);
        assert_eq!(part_value(&rig, spread, first_chunk), group_value(first_chunk * CHUNK_LEN, &string));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn scattered_strings_have_the_crates_digests(
        devices in 1_usize..4,
        lens in prop::collection::vec(prop_oneof![0_usize..40, 0_usize..3000, 900_usize..1200, 0_usize..200_000], 0..24),
        seed: u64,
    ) {
        static RIGS: std::sync::OnceLock<Vec<Rig>> = std::sync::OnceLock::new();
        let rig = &RIGS.get_or_init(|| (1..4).map(Rig::new).collect())[devices - 1];
        let host: Vec<u8> = (0..4000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let (spread, string) = rig.scatter(&host, &lens, seed);
        prop_assert_eq!(spread.len(), string.len() as u64);
        let half = spread.part(string.len() as u64 / 3..string.len() as u64).unwrap();
        let found = digests(&rig.on(), &[spread, half]).unwrap();
        prop_assert_eq!(found, [expected(&string), expected(&string[string.len() / 3..])]);
    }
}
