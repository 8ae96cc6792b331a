//! Vectors of the Python implementation, and random tensors against an oracle that looks at one byte at a time.

mod cover;
mod vectors;

use proptest::prelude::*;

use super::*;
use crate::device::cpu::{Cpu, Settings};
use crate::device::{Backend, DeviceKind};
use crate::error::Error;
use crate::format::HeaderFault;
use crate::selftest;

/// Types with blocks of every kind.
const TYPES: [&str; 5] = ["U8", "BF16", "F64", "F4", "F6_E2M3"];

fn dtype(name: &str) -> Dtype {
    Dtype::from_safetensors(name).unwrap()
}

fn name(text: &str) -> ResourceName {
    ResourceName::parse(text).unwrap()
}

fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A file of these tensors, one after the other.
fn safetensors(tensors: &[(&str, Dtype, Vec<u64>)], seed: u64) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let end = at + bytes_of(*dtype, shape).unwrap();
        let entry = serde_json::json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [at, end]});
        assert!(header.insert((*name).to_owned(), entry).is_none());
        at = end;
    }
    let text = serde_json::Value::Object(header).to_string();
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &noise(at, seed)].concat()
}

fn tiles_in_pieces(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> Result<FileTensors, TilesFault> {
    let mut tiles = FileTiles::new(name("m.safetensors"), Format::Safetensors, bytes.len() as u64);
    let mut left = bytes;
    for piece in pieces {
        let (now, rest) = left.split_at(piece.min(left.len()));
        tiles.update(now)?;
        left = rest;
    }
    tiles.update(left)?;
    tiles.finish()
}

/// The bytes of a slice of a tensor, by asking of each block whether it is in it.
fn bytes_in(dtype: Dtype, shape: &[u64], ranges: &[Range<u64>], data: &[u8]) -> Vec<u8> {
    let (elements, size) = (dtype.block_elements(), dtype.block_bytes() as usize);
    let inside = |block: usize| {
        let mut element = block as u64 * elements;
        let mut inside = true;
        for (size, range) in shape.iter().zip(ranges).rev() {
            inside &= range.contains(&(element % size));
            element /= size;
        }
        inside
    };
    let blocks = data.chunks(size).enumerate().filter(|(block, _)| inside(*block));
    blocks.flat_map(|(_, bytes)| bytes).copied().collect()
}

/// The digests of all tiles, by asking of each block in which one it is.
fn expected_tiles(record: &TensorRecord, data: &[u8]) -> Vec<TileDigest> {
    let (elements, size) = (record.dtype().block_elements(), record.dtype().block_bytes() as usize);
    let mut tiles = vec![Vec::new(); record.tiles().len()];
    for (block, bytes) in data.chunks(size).enumerate() {
        let mut element = block as u64 * elements;
        let (mut tile, mut scale) = (0, 1);
        for ((size, step), parts) in record.shape().iter().zip(record.grid().steps()).zip(record.grid().parts()).rev() {
            tile += (element % size / step) as usize * scale;
            scale *= usize::from(*parts);
            element /= size;
        }
        tiles[if record.tiles().len() == 1 { 0 } else { tile }].extend_from_slice(bytes);
    }
    tiles.iter().map(|bytes| *blake3::hash(bytes).as_bytes()).collect()
}

fn any_tensor() -> impl Strategy<Value = (Dtype, Vec<u64>)> {
    let size = prop_oneof![4 => 1_u64..=9, 4 => (1_u64..=8).prop_map(|n| n * 8), 1 => Just(0)];
    (0..TYPES.len(), prop::collection::vec(size, 0..=4))
        .prop_map(|(index, shape)| (dtype(TYPES[index]), shape))
        .prop_filter("whole bytes, not too many", |(dtype, shape)| {
            bytes_of(*dtype, shape).is_some_and(|bytes| bytes <= 10_000)
        })
}

/// Shapes as large as those of real models, and larger.
fn any_shape() -> impl Strategy<Value = (Dtype, Vec<u64>)> {
    let size = prop_oneof![1_u64..=9, (1_u64..=20_000).prop_map(|n| n * 8), 1_u64..=200_000];
    (0..TYPES.len(), prop::collection::vec(size, 0..=5)).prop_map(|(index, shape)| (dtype(TYPES[index]), shape))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn digests_of_tiles_are_little_beside_a_large_tensor((dtype, shape) in any_shape()) {
        let Some(bytes) = bytes_of(dtype, &shape) else { return Ok(()) };
        let grid = Grid::of(dtype, &shape).unwrap();
        let mut tiles = 1;
        for (index, ((&parts, &step), &size)) in grid.parts().iter().zip(grid.steps()).zip(&shape).enumerate() {
            prop_assert!([1, 2, 4, 8].contains(&parts));
            prop_assert_eq!(u64::from(parts) * step, size);
            prop_assert!(index + 1 < shape.len() || parts == 1 || step % dtype.block_elements() == 0, "a block is cut");
            tiles *= u64::from(parts);
        }
        prop_assert_eq!(tiles, grid.tiles() as u64);
        prop_assert!(tiles <= MAX_TILES);
        prop_assert!(bytes <= 16 << 20 || tiles * 32 * 2000 <= bytes, "{tiles} tiles of {bytes} bytes");
        // Whatever is cut in eight along one dimension or two is so for a matrix of any size.
        if shape.len() == 2 && shape[1] % dtype.block_elements() == 0 {
            let units = [shape[0], shape[1] / dtype.block_elements()];
            for (parts, units) in grid.parts().iter().zip(units) {
                prop_assert_eq!(u64::from(*parts), 1 << units.trailing_zeros().min(3));
            }
        }
    }

    /// Three and more dimensions, each of which could have eight parts, in tensors that have just become large.
    #[test]
    fn no_large_tensor_has_more_tiles_than_its_bytes_allow(
        outer in prop::collection::vec(prop_oneof![Just(8_u64), Just(16), Just(24), Just(32)], 2..=4),
        bytes in (15_u64 << 20)..(40 << 20),
    ) {
        let row = bytes / outer.iter().product::<u64>() / 8 * 8;
        let shape = [&outer[..], &[row]].concat();
        let bytes = bytes_of(dtype("U8"), &shape).unwrap();
        let tiles = Grid::of(dtype("U8"), &shape).unwrap().tiles() as u64;
        prop_assert!((256..=MAX_TILES).contains(&tiles), "{tiles} tiles of {bytes} bytes");
        prop_assert!(bytes <= 16 << 20 || tiles * 32 * 2000 <= bytes, "{tiles} tiles of {bytes} bytes");
    }

    #[test]
    fn tiles_of_a_file_are_those_of_the_oracle(
        tensors in prop::collection::vec(any_tensor(), 1..6),
        pieces in prop::collection::vec(1_usize..70_000, 0..40),
        seed: u64,
    ) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let named = NAMES.iter().zip(tensors).map(|(name, (dtype, shape))| (*name, dtype, shape));
        let file = safetensors(&named.collect::<Vec<_>>(), seed);
        let found = tiles_in_pieces(&file, pieces.into_iter()).unwrap();
        for record in found.tensors() {
            let data = &file[record.range().start as usize..record.range().end as usize];
            prop_assert_eq!(record.tiles(), expected_tiles(record, data), "{:?}", record.shape());
            prop_assert_eq!(Some(record.root()), tensor_root(record.name(), record.dtype(), record.shape(), record.tiles()));
            // Where a tile is said to lie in the file, it lies, from end to end.
            for tile in [0, record.tiles().len() / 3, record.tiles().len() - 1] {
                let inside = bytes_in(record.dtype(), record.shape(), &record.grid().ranges(tile), data);
                let hull = record.tile_range(tile);
                let said = &file[hull.start as usize..hull.end as usize];
                if record.tiles().len() > 1 {
                    let size = record.dtype().block_bytes() as usize;
                    prop_assert_eq!(&said[..size], &inside[..size]);
                    prop_assert_eq!(&said[said.len() - size..], &inside[inside.len() - size..]);
                }
            }
        }
        let manifest = TensorManifest::new(vec![found]).unwrap();
        let bytes = manifest.to_bytes();
        prop_assert_eq!(TensorManifest::parse(&bytes).unwrap(), manifest);
    }

    #[test]
    fn tiles_in_memory_are_those_of_the_oracle(
        (dtype, shape) in any_tensor(),
        cut in prop::collection::vec((0_u64..8, 0_u64..8), 4),
        gaps in prop::collection::vec(0_u64..40, 4),
        at in 0_u64..40,
        seed: u64,
    ) {
        let data = noise(bytes_of(dtype, &shape).unwrap(), seed);
        let grid = Grid::of(dtype, &shape).unwrap();
        let ranges: Vec<_> = grid.parts().iter().zip(grid.steps()).zip(&cut).map(|((&parts, &step), &(a, b))| {
            let (a, b) = (a % u64::from(parts), b % u64::from(parts));
            a.min(b) * step..(a.max(b) + 1) * step
        }).collect();
        let whole = grid.tiles() == 1;
        let slice = if whole { data.clone() } else { bytes_in(dtype, &shape, &ranges, &data) };
        // The slice as a part of something larger: rows with gaps between them, and so on outwards.
        let rows = shape.last().is_none_or(|last| last % dtype.block_elements() == 0) && !data.is_empty();
        let (mut image, mut strides) = (slice.clone(), Vec::new());
        if rows {
            let mut stride = ranges.last().map_or(0, |row| bytes_of(dtype, &[row.end - row.start]).unwrap());
            let mut chunk = stride as usize;
            for (range, gap) in ranges.iter().rev().skip(1).zip(&gaps) {
                // A stride larger than what lies within it.
                let wide = stride + gap;
                image = image.chunks(chunk.max(1)).flat_map(|row| {
                    let mut row = row.to_vec();
                    row.resize(wide as usize, 0xEE);
                    row
                }).collect();
                strides.push(wide);
                stride = wide * (range.end - range.start);
                chunk = stride as usize;
            }
            strides.reverse();
        }
        let device = Cpu::open(Settings::default()).unwrap();
        let mut buffer = device.alloc(at + image.len() as u64).unwrap();
        selftest::write(&device, &image, &mut buffer, at).unwrap();
        let place = if rows { Place::strided(&buffer, at, strides) } else { Place::dense(&buffer, at) };
        let strided = Piece { dtype, shape: &shape, ranges: ranges.clone(), place };
        let mut dense = device.alloc(slice.len() as u64).unwrap();
        selftest::write(&device, &slice, &mut dense, 0).unwrap();
        let dense = Piece { dtype, shape: &shape, ranges: ranges.clone(), place: Place::dense(&dense, 0) };
        let expected: Vec<_> = (0..grid.tiles()).filter_map(|tile| {
            let of = grid.ranges(tile);
            let inside = |(of, all): (&Range<u64>, &Range<u64>)| all.start <= of.start && of.end <= all.end;
            of.iter().zip(&ranges).all(inside).then(|| {
                let bytes = if whole { data.clone() } else { bytes_in(dtype, &shape, &of, &data) };
                (tile, *blake3::hash(&bytes).as_bytes())
            })
        }).collect();
        prop_assert_eq!(tile_digests(&device, &[strided, dense], None).unwrap(), [expected.clone(), expected]);
    }
}

#[test]
fn long_tiles_are_hashed_as_the_crate_hashes_them() {
    // Rows of several blocks of a tile, of less than one, and of one and a bit; a band of three dimensions.
    let shapes = [vec![2, 264_200], vec![900, 40], vec![5, 80_008], vec![1, 300_000], vec![2, 16, 9000]];
    let names = ["a", "b", "c", "d", "e"];
    let tensors: Vec<_> = names.iter().zip(shapes).map(|(name, shape)| (*name, dtype("U8"), shape)).collect();
    let file = safetensors(&tensors, 5);
    let whole = tiles_in_pieces(&file, std::iter::empty()).unwrap();
    assert_eq!(whole.tensors().len(), 5);
    for record in whole.tensors() {
        let data = &file[record.range().start as usize..record.range().end as usize];
        assert_eq!(record.tiles(), expected_tiles(record, data), "{}", record.name());
    }
    for piece in [1 << 20, 65_537, 4096, 333] {
        let found = tiles_in_pieces(&file, std::iter::repeat_n(piece, file.len() / piece)).unwrap();
        assert!(found == whole, "in pieces of {piece}");
    }
}

#[test]
fn bytes_that_are_no_whole_file_give_nothing() {
    let file = safetensors(&[("a", dtype("U8"), vec![8]), ("empty", dtype("F32"), vec![0])], 1);
    let len = file.len() as u64;
    assert!(tiles_in_pieces(&file, std::iter::repeat_n(1, file.len())).is_ok());
    let of = |len: u64, bytes: &[u8]| {
        let mut tiles = FileTiles::new(name("m.safetensors"), Format::Safetensors, len);
        tiles.update(bytes)?;
        tiles.finish()
    };
    for cut in [0, 7, 8, 20, file.len() - 1] {
        let found = of(len, &file[..cut]).unwrap_err();
        assert_eq!(found, TilesFault::Length { expected: len, found: cut as u64 }, "{cut}");
    }
    assert_eq!(of(len - 1, &file), Err(TilesFault::Length { expected: len - 1, found: len }));
    for short in [0, 7, 8, 20] {
        assert!(matches!(of(short, &file[..short as usize]), Err(TilesFault::Header(_))), "{short}");
    }
    assert!(matches!(
        of(len, &vec![0xFF; file.len()]),
        Err(TilesFault::Header(HeaderFault::TooLong { .. } | HeaderFault::BeyondFile { .. }))
    ));
}

/// Text of files and tensors that two files have in common is refused, whichever was there first.
#[test]
fn a_name_stands_for_one_tensor() {
    let of = |file: &str, tensor: &str| {
        let bytes = safetensors(&[(tensor, dtype("U8"), vec![8])], 1);
        let mut tiles = FileTiles::new(name(file), Format::Safetensors, bytes.len() as u64);
        tiles.update(&bytes).unwrap();
        tiles.finish().unwrap()
    };
    let double = |what, name: &str| Err(ManifestFault::Double { what, name: name.to_owned() });
    assert_eq!(TensorManifest::new(vec![of("b", "t"), of("a", "t")]), double("tensor", "t"));
    assert_eq!(TensorManifest::new(vec![of("a", "t"), of("a", "u")]), double("file", "a"));
    assert_eq!(TensorManifest::new(vec![]), Err(ManifestFault::NoTensors));
    let sorted = TensorManifest::new(vec![of("b", "t"), of("a", "u")]).unwrap();
    let files: Vec<_> = sorted.tensors().iter().map(|tensor| sorted.file_of(tensor).unwrap().name.as_str()).collect();
    assert_eq!(files, ["b", "a"]);
    let long = "n".repeat(4097);
    let found = TensorManifest::new(vec![of("a", &long)]);
    assert_eq!(found, Err(ManifestFault::LongName { what: "tensor", name: long, len: 4097, limit: 4096 }));
}
