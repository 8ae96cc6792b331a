//! BLAKE3 of many short strings at once.
//!
//! BLAKE3 is fast because it hashes many chunks side by side, and a short string has few: of one with four chunks a
//! processor with room for sixteen uses a quarter. So chunks of several strings are hashed side by side, those with the
//! same place in their strings.
//!
//! The `blake3` crate does this for the chunks of one string; what it uses for that, `hash_many`, is public and not
//! promised to stay, hence its version is pinned. A fallback needs nothing of it: `blake3::hash`, string by string.

use blake3::IncrementCounter;
use blake3::hazmat::HasherExt;
use blake3::platform::Platform;

use super::{CHUNK_LEN, ChainingValue, root_over};
use crate::digest::{Algorithm, Digest};

/// Strings of up to so many bytes gain by company: a longer one has chunks enough of its own.
pub(crate) const SHORT: usize = LANES * CHUNK;

/// Strings that are hashed side by side.
pub(crate) const LANES: usize = 16;

/// With fewer strings, or chunks in one place, company is not worth its bookkeeping.
const FEW: usize = 4;

const CHUNK: usize = CHUNK_LEN as usize;

/// Bytes of a value.
const VALUE: usize = 32;

/// The key of unkeyed BLAKE3, and flags of a compression (BLAKE3 paper, table 2 and section 2.1).
const KEY: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;

/// The digests of strings, in their order.
pub(crate) fn digests_of(strings: &[&[u8]]) -> Vec<Digest> {
    let platform = Platform::detect();
    let mut digests = Vec::with_capacity(strings.len());
    for some in strings.chunks(LANES) {
        if some.len() < FEW {
            digests.extend(some.iter().map(|string| alone(string)));
        } else {
            let mut some_digests = [None; LANES];
            whole_chunk_strings(platform, some, &mut some_digests);
            longer_strings(platform, some, &mut some_digests);
            digests.extend(some.iter().zip(some_digests).map(|(string, done)| done.unwrap_or_else(|| alone(string))));
        }
    }
    digests
}

fn alone(string: &[u8]) -> Digest {
    Digest::of32(Algorithm::Blake3, *blake3::hash(string).as_bytes())
}

/// Inputs of one length that are hashed side by side, and whose they are.
struct Lanes<'a, const N: usize> {
    inputs: [&'a [u8; N]; LANES],
    whose: [usize; LANES],
    count: usize,
}

impl<'a, const N: usize> Lanes<'a, N> {
    const fn new() -> Self {
        Self { inputs: [&[0; N]; LANES], whose: [0; LANES], count: 0 }
    }

    /// There must be room: nobody adds more than one input a string, or flushes before.
    fn push(&mut self, whose: usize, input: &'a [u8; N]) {
        self.inputs[self.count] = input;
        self.whose[self.count] = whose;
        self.count += 1;
    }

    const fn is_full(&self) -> bool {
        self.count == LANES
    }

    /// Hashes them, each at `counter` of its string, and gives each value with whose it is.
    fn hash(
        &mut self,
        platform: Platform,
        counter: u64,
        [flags, start, end]: [u8; 3],
        mut give: impl FnMut(usize, &[u8; VALUE]),
    ) {
        let mut values = [0; LANES * VALUE];
        let inputs = &self.inputs[..self.count];
        platform.hash_many(
            inputs,
            &KEY,
            counter,
            IncrementCounter::No,
            flags,
            start,
            end,
            &mut values[..self.count * VALUE],
        );
        for (whose, value) in self.whose[..self.count].iter().zip(values.as_chunks().0) {
            give(*whose, value);
        }
        self.count = 0;
    }
}

/// Strings that are one whole chunk, which is the root.
fn whole_chunk_strings(platform: Platform, strings: &[&[u8]], digests: &mut [Option<Digest>; LANES]) {
    let mut lanes = Lanes::<CHUNK>::new();
    for (index, string) in strings.iter().enumerate() {
        if let Ok(chunk) = (*string).try_into() {
            lanes.push(index, chunk);
        }
    }
    if lanes.count >= 2 {
        lanes.hash(platform, 0, [0, CHUNK_START, CHUNK_END | ROOT], |index, root| {
            digests[index] = Some(Digest::of32(Algorithm::Blake3, *root));
        });
    }
}

/// Strings of several chunks, up to [`SHORT`].
fn longer_strings(platform: Platform, strings: &[&[u8]], digests: &mut [Option<Digest>; LANES]) {
    let several = |string: &[u8]| string.len() > CHUNK && string.len() <= SHORT;
    // One row a string: the values of its chunks, then of what these merge to, level by level in the same place.
    let mut rows = [[[0; VALUE]; LANES]; LANES];
    let mut counts = [0; LANES];
    for (index, string) in strings.iter().enumerate().filter(|(_, string)| several(string)) {
        counts[index] = string.len().div_ceil(CHUNK);
    }
    #[allow(clippy::needless_range_loop, reason = "a place in each of the rows, not in their list")]
    for place in 0..counts.iter().copied().max().unwrap_or(0) {
        let mut lanes = Lanes::<CHUNK>::new();
        for (index, string) in strings.iter().enumerate().filter(|(index, _)| place < counts[*index]) {
            let begin = place * CHUNK;
            match string[begin..].first_chunk() {
                Some(chunk) => lanes.push(index, chunk),
                None => rows[index][place] = part_of_chunk(begin, &string[begin..]),
            }
        }
        lanes.hash(platform, place as u64, [0, CHUNK_START, CHUNK_END], |index, value| rows[index][place] = *value);
    }
    // Neighbours merge, and an odd one goes up as it is, which is BLAKE3's tree. The last merge of each is the root's.
    let mut merged = [[[0; VALUE]; LANES]; LANES];
    while counts.iter().any(|count| *count > 2) {
        let pairs = |count: usize| if count > 2 { count / 2 } else { 0 };
        let mut lanes = Lanes::<{ 2 * VALUE }>::new();
        let mut places = [0; LANES];
        let mut flush = |lanes: &mut Lanes<'_, { 2 * VALUE }>| {
            lanes.hash(platform, 0, [PARENT, 0, 0], |index, value| {
                merged[index][places[index]] = *value;
                places[index] += 1;
            });
        };
        for index in 0..LANES {
            let pair = rows[index].as_flattened().as_chunks().0;
            for pair in &pair[..pairs(counts[index])] {
                lanes.push(index, pair);
                if lanes.is_full() {
                    flush(&mut lanes);
                }
            }
        }
        flush(&mut lanes);
        for index in 0..LANES {
            let (count, pairs) = (counts[index], pairs(counts[index]));
            if pairs > 0 {
                let odd = count % 2 == 1;
                if odd {
                    merged[index][pairs] = rows[index][count - 1];
                }
                counts[index] = pairs + usize::from(odd);
                rows[index][..counts[index]].copy_from_slice(&merged[index][..counts[index]]);
            }
        }
    }
    for index in (0..LANES).filter(|index| counts[*index] == 2) {
        digests[index] = Some(root_over(&rows[index][0], &rows[index][1]));
    }
}

/// The value of a last chunk that is no whole one.
fn part_of_chunk(begin: usize, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(begin as u64);
    hasher.update(bytes).finalize_non_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| ((i * 31) ^ (i >> 8) ^ (seed * 97)) as u8).collect()
    }

    #[track_caller]
    fn agree(lens: &[usize]) {
        let texts: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, &len)| pattern(len, i)).collect();
        let strings: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let expected: Vec<Digest> = strings.iter().map(|string| alone(string)).collect();
        assert_eq!(digests_of(&strings), expected, "{lens:?}");
    }

    #[test]
    fn strings_of_every_edge_have_the_crates_digests_in_any_company() {
        const EDGES: [usize; 19] = [
            0, 1, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4095, 4096, 4097, 16_383, 16_384, 16_385,
            65_536,
        ];
        agree(&[]);
        agree(&EDGES);
        for len in EDGES {
            for count in [1, 2, 3, 4, 5, 8, 15, 16, 17, 33] {
                agree(&vec![len; count]);
            }
            agree(&[len, 1024, 4096, len, 5000, 1]);
        }
        let by_chunks: Vec<usize> = (1..=17).map(|chunks| chunks * 1024).collect();
        agree(&by_chunks);
        agree(&by_chunks.iter().map(|len| len - 7).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn random_lengths_agree(lens in prop::collection::vec(0_usize..20_000, 0..40)) {
            agree(&lens);
        }
    }
}
