//! Plans carried out by a plain machine in a few lines, against the crate; and what plans must never do.

use proptest::prelude::*;

use super::*;
use crate::device::DeviceKind;
use crate::tree::{ChainingValue, GroupSize, group_value};
use blake3::hazmat::{Mode, merge_subtrees_non_root};

const CUDA: Rules = Rules { segment: 128, cell: 16, pitch: 16, levels: 9, slots: 1 << 12, scratch: 1 << 20 };
const SMALL: Rules = Rules { segment: 64, cell: 4, pitch: 1, levels: 3, slots: 64, scratch: 4096 };

/// The memory of the machine: some spaces of bytes, with addresses that begin at `BASE`.
struct Machine {
    spaces: Vec<Vec<u8>>,
}

const BASE: u64 = 0x7000_0000_0000;

impl Machine {
    fn byte(&self, space: u32, at: u64) -> u8 {
        self.spaces[space as usize][(at - BASE) as usize]
    }

    /// What a region says that the string is.
    fn text(&self, region: &Region) -> Vec<u8> {
        let at = |i: u64| match region.rows {
            None => region.at + i,
            Some(Rows { row, pitch }) => region.at + i / row * pitch + i % row,
        };
        (0..region.len).map(|i| self.byte(region.space, at(i))).collect()
    }

    /// Carries out a batch as a device would, a chunk and a level at a time, and checks what it relies on.
    fn run(&self, batch: &Batch, rules: &Rules, readable: &[Range<u64>], steps: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut scratch = vec![POISON; batch.scratch as usize];
        let mut filled = vec![0_u8; batch.scratch as usize];
        assert!(batch.pieces.is_sorted_by_key(|piece| piece.to));
        for piece in &batch.pieces {
            for i in 0..u64::from(piece.len) {
                let at = match piece.rows {
                    None => piece.from + i,
                    Some((Rows { row, pitch }, column)) => {
                        let y = u64::from(column) + i;
                        piece.from - u64::from(column) + y / row * pitch + y % row
                    }
                };
                scratch[(u64::from(piece.to) + i) as usize] = self.byte(piece.space, at);
                filled[(u64::from(piece.to) + i) as usize] += 1;
            }
        }
        if let Some(guard) = scratch.len().checked_sub(CELL as usize) {
            assert!(filled[..batch.cells as usize].iter().all(|&n| n == 1), "every gathered byte once");
            assert!(filled[guard..].iter().all(|&n| n == 0), "no piece in the guard");
            scratch[guard..].fill(0);
        }
        // Chunks, read in whole cells.
        let mut values = Vec::new();
        for run in &batch.runs {
            assert_eq!(run.slot as usize, values.len(), "no gap between runs");
            for chunk in 0..u64::from(run.chunks) {
                let bytes: Vec<u8> = (chunk * 1024..(chunk + 1) * 1024)
                    .map(|i| match run.source {
                        Source::Scratch { at } => scratch[(at + i) as usize],
                        Source::Plain { space, at } => {
                            let cell = (at + i) & !(rules.cell - 1);
                            let may = &readable[space as usize];
                            assert!(may.start <= cell && cell + rules.cell <= may.end, "a load out of readable memory");
                            self.byte(space, at + i)
                        }
                        Source::Rows { space, at, column, rows } => {
                            let y = column + i;
                            let at = at + y / rows.row * rows.pitch + y % rows.row;
                            let cell = at & !(rules.cell - 1);
                            let may = &readable[space as usize];
                            assert!(may.start <= cell && cell + rules.cell <= may.end, "a load out of readable memory");
                            assert!(y.is_multiple_of(rules.segment) || !(y % rows.row).is_multiple_of(rows.row));
                            self.byte(space, at)
                        }
                    })
                    .collect();
                values.push(group_value((run.counter + chunk) * 1024, &bytes));
            }
        }
        assert_eq!(values.len(), batch.slots as usize);
        // Levels, a block at a time.
        let mut done = 0;
        for &step in steps {
            let (blocks, outputs) = blocks(batch.subtrees.iter().map(|subtree| subtree.level), done, step);
            let mut out: Vec<Option<ChainingValue>> = vec![None; outputs as usize];
            let mut next = 0;
            for block in &blocks {
                assert_eq!(block.first, next, "blocks are dense");
                assert!(
                    block.used <= SLOTS && (block.first + block.used == values.len() as u32 || block.used == SLOTS)
                );
                next += block.used;
                let starts = |slot: u32| block.starts[(slot / 32) as usize] >> (slot % 32) & 1 == 1;
                let mut nodes = values[block.first as usize..next as usize].to_vec();
                for level in 0..u32::from(block.levels) {
                    for a in (0..block.used).step_by(2 << level) {
                        let b = a + (1 << level);
                        if b < block.used && !starts(b) {
                            nodes[a as usize] =
                                merge_subtrees_non_root(&nodes[a as usize], &nodes[b as usize], Mode::Hash);
                        }
                    }
                }
                for (rank, slot) in (0..block.used).filter(|&slot| starts(slot)).enumerate() {
                    let place = &mut out[block.out as usize + rank];
                    assert!(place.is_none(), "each result is written once");
                    *place = Some(nodes[slot as usize]);
                }
            }
            values = out.into_iter().map(|value| value.expect("each result is written")).collect();
            done += step;
        }
        (values.concat(), scratch[batch.cells as usize..].to_vec())
    }
}

/// Plans, runs and checks.
fn check(machine: &Machine, texts: &[Text], rules: &Rules, steps: &[u8]) {
    let readable: Vec<Range<u64>> = machine.spaces.iter().map(|space| BASE..BASE + space.len() as u64).collect();
    let plan = Plan::new(texts, rules).unwrap();
    let mut results = Results::new(&plan);
    for batch in &plan.batches {
        assert!(u64::from(batch.slots) <= rules.slots);
        // One subtree may be larger than the limit, and the last tail begins below it.
        assert!(batch.scratch <= rules.scratch.max(CHUNK_LEN << rules.levels) + CHUNK_LEN + CELL);
        let (values, scratch) = machine.run(batch, rules, &readable, steps);
        results.take(batch, &values, &scratch, &DeviceKind::Cpu).unwrap();
    }
    let hashed = results.finish(&plan, &DeviceKind::Cpu).unwrap();
    assert_eq!(hashed.len(), texts.len());
    for (text, hashed) in texts.iter().zip(hashed) {
        let bytes: Vec<u8> = text.regions.iter().flat_map(|region| machine.text(region)).collect();
        assert_eq!(hashed, text.want.of(&bytes), "{text:?}");
    }
}

fn machine() -> Machine {
    let space = |len: u64, seed: u64| (0..len).map(|i| (i.wrapping_mul(seed) >> 5) as u8 ^ i as u8).collect();
    Machine { spaces: vec![space(70_001, 0x9E37_79B9), space(31_337, 0xC2B2_AE35)] }
}

fn plain(space: u32, at: u64, len: u64) -> Region {
    Region { space, at: BASE + at, len, rows: None, readable: BASE..BASE + [70_001, 31_337][space as usize] }
}

fn region() -> impl Strategy<Value = Region> {
    let any = (0..2_u32, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u32, any::<bool>());
    let rows = (prop_oneof![Just(64_u64), Just(128), Just(1024), Just(1920), 1..700_u64], 0..300_u64, 1..40_u64);
    (any, rows).prop_map(|((space, at, len, kind, tight), (row, gap, rows))| {
        let size = [70_001_u64, 31_337][space as usize];
        let align = [1_u64, 16, 8, 4][kind as usize];
        let at = at.index(size as usize) as u64 / align * align;
        let mut region = plain(space, at, len.index((size - at) as usize) as u64);
        if kind > 1 {
            let pitch = row + if kind == 2 { gap } else { gap / 16 * 16 };
            let rows = rows.min((size - at).saturating_sub(row) / pitch + 1);
            if (rows - 1) * pitch + row <= size - at {
                region.rows = Some(Rows { row, pitch });
                region.len = rows * row;
            }
        }
        if tight && region.rows.is_none() {
            region.readable = region.at..region.at + region.len;
        }
        region
    })
}

fn want() -> impl Strategy<Value = Want> {
    let first = prop_oneof![Just(0_u64), Just(1 << 20), Just((1 << 32) - 64), Just(1 << 32), Just((1 << 40) + 128)];
    let groups = (first, 0..7_u8).prop_map(|(first_chunk, log)| Want::Groups {
        first_chunk: first_chunk / 64 * 64,
        group: GroupSize::from_chunk_log(log).unwrap(),
    });
    prop_oneof![2 => Just(Want::Root), 1 => groups]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn plans_carried_out_give_the_crates_digests(
        texts in prop::collection::vec((prop::collection::vec(region(), 0..6), want()), 1..7),
    ) {
        let texts: Vec<Text> = texts.into_iter().map(|(regions, want)| Text { regions, want }).collect();
        let machine = machine();
        check(&machine, &texts, &CUDA, &[2, 7]);
        check(&machine, &texts, &SMALL, &[0, 3]);
        check(&machine, &texts, &SMALL, &[3]);
    }

    #[test]
    fn steps_of_any_size_merge_the_same(mut levels in prop::collection::vec(0..10_u8, 1..60)) {
        levels.sort_by_key(|level| Reverse(*level));
        for steps in [&[2_u8, 7][..], &[7, 2], &[0, 7, 2], &[1, 1, 7], &[3, 3, 3], &[6, 3], &[5, 4], &[4, 5]] {
            let mut inputs: u32 = levels.iter().map(|level| 1 << level).sum();
            let mut done = 0;
            for &step in steps {
                let (blocks, outputs) = blocks(levels.iter().copied(), done, step);
                prop_assert_eq!(blocks.iter().map(|block| block.used).sum::<u32>(), inputs);
                let starts = |block: &Block| block.starts.iter().map(|word| word.count_ones()).sum::<u32>();
                prop_assert_eq!(blocks.iter().map(starts).sum::<u32>(), outputs);
                for (block, next) in blocks.iter().zip(&blocks[1..]) {
                    prop_assert_eq!(block.used, SLOTS);
                    prop_assert_eq!(block.out + starts(block), next.out);
                }
                (inputs, done) = (outputs, done + step);
            }
            prop_assert_eq!(inputs as usize, levels.len());
        }
    }
}

#[test]
fn lengths_around_every_edge_are_exact() {
    let machine = machine();
    for edge in [0, 64, 1024, 2048, 3072, 4096, 8192, 16_384, 65_536] {
        for len in edge - i64::from(edge > 0)..=edge + 1 {
            for at in [0, 8, 3] {
                let text = |want| Text { regions: vec![plain(0, at, len as u64)], want };
                let group = GroupSize::from_chunk_log(2).unwrap();
                let texts = [text(Want::Root), text(Want::Groups { first_chunk: (1 << 32) - 4, group })];
                check(&machine, &texts, &CUDA, &[2, 7]);
                check(&machine, &texts, &SMALL, &[3]);
            }
        }
    }
}

#[test]
fn strings_side_by_side_in_memory_have_their_own_counters() {
    let machine = machine();
    let text = |at, want| Text { regions: vec![plain(0, at, 8192)], want };
    let part = |first_chunk| Want::Groups { first_chunk, group: GroupSize::from_chunk_log(1).unwrap() };
    let roots = [text(0, Want::Root), text(8192, Want::Root), text(16_384, Want::Root)];
    check(&machine, &roots, &CUDA, &[2, 7]);
    check(&machine, &[text(0, part(8)), text(8192, part(0)), text(16_384, part(1 << 32))], &CUDA, &[2, 7]);
    let plan = Plan::new(&[text(0, part(8)), text(8192, part(16))], &CUDA).unwrap();
    assert_eq!(plan.batches[0].runs.len(), 1, "but where counters go on, one run does");
}

#[test]
fn chunks_are_gathered_only_where_they_must_be() {
    let gathered = |region: Region| {
        let plan = Plan::new(&[Text { regions: vec![region], want: Want::Root }], &CUDA).unwrap();
        plan.batches.iter().map(|batch| batch.cells / 1024).sum::<u64>()
    };
    assert_eq!(gathered(plain(0, 0, 65_536)), 0);
    assert_eq!(gathered(plain(0, 3, 65_536)), 0, "an odd start inside readable memory");
    let tight = |at, len| {
        let region = plain(0, at, len);
        Region { readable: region.at..region.at + region.len, ..region }
    };
    assert_eq!(gathered(tight(16, 65_536)), 0);
    assert_eq!(gathered(tight(3, 65_536)), 2, "the first and the last, whose cells reach out");
    assert_eq!(gathered(tight(3, 65_536 + 512)), 1, "the tail is behind the last chunk");
    let rows = |row, pitch| Region { rows: Some(Rows { row, pitch }), len: row * 16, ..plain(0, 0, 0) };
    assert_eq!(gathered(rows(1024, 2048)), 0);
    assert_eq!(gathered(rows(128, 144)), 0);
    assert_eq!(gathered(rows(1024, 2056)), 16, "a pitch that cells do not follow");
    assert_eq!(gathered(rows(1032, 2064)), 16, "rows of parts of segments");
}

#[test]
fn what_did_not_come_back_is_never_a_result() {
    let machine = machine();
    let texts = [
        Text { regions: vec![plain(0, 0, 5000)], want: Want::Root },
        Text { regions: vec![plain(1, 0, 700)], want: Want::Root },
    ];
    let plan = Plan::new(&texts, &CUDA).unwrap();
    let [batch] = &plan.batches[..] else { panic!("one batch") };
    let (values, scratch) = machine.run(batch, &CUDA, &[BASE..BASE + 70_001, BASE..BASE + 31_337], &[2, 7]);
    let take = |values: &[u8], scratch: &[u8]| {
        let mut results = Results::new(&plan);
        results.take(batch, values, scratch, &DeviceKind::Cpu)?;
        results.finish(&plan, &DeviceKind::Cpu)
    };
    let no_result = Err(DeviceError::NoResult { device: DeviceKind::Cpu });
    assert!(take(&values, &scratch).is_ok());
    assert_eq!(take(&values[32..], &scratch), no_result, "a value too few");
    assert_eq!(take(&values[1..], &scratch), no_result, "a byte too few");
    assert_eq!(take(&values, &scratch[16..]), no_result, "scratch too short");
    assert_eq!(take(&values, &[]), no_result, "no scratch");
    let mut poisoned = values.clone();
    poisoned[..32].fill(POISON);
    assert_eq!(take(&poisoned, &scratch), no_result, "a value never written");
    let mut poisoned = scratch.clone();
    poisoned[scratch.len() - 1] = POISON;
    assert_eq!(take(&values, &poisoned), no_result, "a gather that never ran");
    assert_eq!(Results::new(&plan).finish(&plan, &DeviceKind::Cpu), no_result, "nothing taken");
}

#[test]
fn parts_of_strings_begin_where_groups_begin_and_end_where_counters_do() {
    let part = |first_chunk, log| {
        let want = Want::Groups { first_chunk, group: GroupSize::from_chunk_log(log).unwrap() };
        Plan::new(&[Text { regions: vec![plain(0, 0, 4096)], want }], &CUDA).err()
    };
    assert_eq!(part(8, 3), None);
    assert_eq!(part(4, 3), Some(DeviceError::Unaligned { first_chunk: 4, chunks: 8 }));
    assert_eq!(part((1 << 54) - 4, 2), None);
    assert!(part(1 << 54, 2).is_some());
    assert!(part(u64::MAX - 7, 3).is_some());
}
