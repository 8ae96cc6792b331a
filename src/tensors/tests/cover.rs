//! Slices that are refused, and places; what of files is not as listed.

use super::*;

fn records(tensors: &[(&str, Dtype, Vec<u64>)], seed: u64) -> (Vec<u8>, TensorManifest) {
    let file = safetensors(tensors, seed);
    let found = tiles_in_pieces(&file, std::iter::empty()).unwrap();
    (file, TensorManifest::new(vec![found]).unwrap())
}

fn refused(shape: &[u64], ranges: &[Range<u64>], at: u64, strides: Option<Vec<u64>>) -> SliceError {
    let device = Cpu::open(Settings::default()).unwrap();
    let buffer = device.alloc(1000).unwrap();
    let place = match strides {
        Some(strides) => Place::strided(&buffer, at, strides),
        None => Place::dense(&buffer, at),
    };
    let piece = Piece { dtype: dtype("BF16"), shape, ranges: ranges.to_vec(), place };
    tile_digests(&device, &[piece], None).unwrap_err()
}

#[test]
fn slices_that_are_no_whole_tiles_are_refused_with_what_would_do() {
    let not_tiles = |shape: &[u64], ranges: &[Range<u64>]| match refused(shape, ranges, 0, None) {
        SliceError::NotTiles { dimension, step, nearest, parts, .. } => (dimension, step, nearest, parts),
        other => panic!("{other}"),
    };
    // A third of 24 rows in eight parts of 3; a sixteenth; one row of 8 parts of 2.
    assert_eq!(not_tiles(&[24, 16], &[8..16, 0..16]), (0, 3, 6..18, 3));
    assert_eq!(not_tiles(&[32, 16], &[2..4, 0..16]), (0, 4, 0..4, 16));
    assert_eq!(not_tiles(&[8, 16], &[0..8, 3..16]), (1, 2, 2..16, 16));
    assert_eq!(not_tiles(&[7, 8], &[1..7, 0..8]), (0, 7, 0..7, 7));
    let message = refused(&[32, 16], &[2..4, 0..16], 0, None).to_string();
    assert!(message.contains("0..4 can be checked") && message.contains("a grid of 16 parts"), "{message}");
    for ranges in [&[0..8][..], &[0..8, 0..16, 0..1], &[]] {
        let found = refused(&[8, 16], ranges, 0, None);
        assert!(matches!(found, SliceError::Dimensions { expected: 2, .. }), "{found}");
    }
    for (rows, columns) in [(0..9, 0..16), (0..8, 0..0), (8..8, 0..16), (0..8, 8..17), (1..u64::MAX, 0..16)] {
        let found = refused(&[8, 16], &[rows, columns], 0, None);
        assert!(matches!(found, SliceError::Range { .. }), "{found}");
    }
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = refused(&[8, 16], &[4..2, 0..16], 0, None);
    assert!(matches!(backwards, SliceError::Range { dimension: 0, .. }), "{backwards}");
}

#[test]
fn places_that_are_none_are_refused() {
    let fault = |shape: &[u64], at: u64, strides: Option<Vec<u64>>| {
        let ranges: Vec<_> = shape.iter().map(|&size| 0..size).collect();
        match refused(shape, &ranges, at, strides) {
            SliceError::Place { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    // 16 x 16 elements of 2 bytes in a buffer of 1000.
    assert_eq!(fault(&[16, 16], 489, None), PlaceFault::Outside);
    assert_eq!(fault(&[16, 16], u64::MAX, None), PlaceFault::Outside);
    assert_eq!(fault(&[16, 16], 0, Some(vec![65])), PlaceFault::Outside);
    assert_eq!(fault(&[16, 16], u64::MAX, Some(vec![64])), PlaceFault::Outside);
    assert_eq!(fault(&[16, 16], u64::MAX - 100, Some(vec![64])), PlaceFault::Outside);
    assert_eq!(fault(&[16, 16], 0, Some(vec![u64::MAX])), PlaceFault::Count);
    assert_eq!(fault(&[16, 16], 0, Some(vec![1 << 63])), PlaceFault::Count);
    for stride in [0, 1, 3] {
        assert_eq!(fault(&[16, 16], 0, Some(vec![stride])), PlaceFault::Overlap, "{stride}");
    }
    assert_eq!(fault(&[4, 4, 8], 0, Some(vec![48, 16])), PlaceFault::Overlap);
    for strides in [vec![], vec![32, 2]] {
        let found = strides.len();
        assert_eq!(fault(&[16, 16], 0, Some(strides.clone())), PlaceFault::Strides { expected: 1, found });
    }
}

#[test]
fn outer_dimensions_may_lie_in_any_order() {
    // Elements of the first dimension lie closer together than those of the second.
    let (file, manifest) = records(&[("t", dtype("U8"), vec![4, 8, 16])], 3);
    let record = manifest.tensor("t").unwrap();
    let data = &file[record.range().start as usize..];
    let device = Cpu::open(Settings::default()).unwrap();
    let mut buffer = device.alloc(512).unwrap();
    for (row, bytes) in data.chunks(16).enumerate() {
        let (first, second) = (row / 8, row % 8);
        selftest::write(&device, bytes, &mut buffer, (second * 64 + first * 16) as u64).unwrap();
    }
    let place = Place::strided(&buffer, 0, vec![16, 64]);
    let piece = Piece { dtype: dtype("U8"), shape: record.shape(), ranges: vec![0..4, 0..8, 0..16], place };
    let found = tile_digests(&device, &[piece], None).unwrap();
    let found: Vec<_> = found[0].iter().map(|(_, digest)| *digest).collect();
    assert_eq!(found, record.tiles());
    assert_eq!(device.kind(), DeviceKind::Cpu);
}

#[test]
fn what_is_not_as_listed_is_named() {
    let of =
        |shape: Vec<u64>, other: &str, seed| records(&[("t", dtype("U8"), shape), (other, dtype("U8"), vec![8])], seed);
    let (file, listed) = of(vec![8, 16], "u", 1);
    let text = |found: &TensorManifest| StaleTensors(listed.stale_tensors(found)).to_string();
    assert_eq!(text(&listed), "");
    // Other bytes of one tile.
    let mut flipped = file;
    let at = listed.tensor("t").unwrap().range().start as usize + 3 * 16 + 5;
    flipped[at] ^= 1;
    let found = TensorManifest::new(vec![tiles_in_pieces(&flipped, std::iter::empty()).unwrap()]).unwrap();
    let stale = text(&found);
    assert!(stale.starts_with("\"t\" rows 3..4, columns 4..6 (tile 26 of 64, within bytes"), "{stale}");
    let Stale::Tile(tile) = &listed.stale_tensors(&found)[0] else { panic!("{stale}") };
    assert_eq!(tile.bytes, at as u64 - 1..at as u64 + 1);
    // Another shape, another tensor: the header is another, too.
    let (_, reshaped) = of(vec![16, 8], "u", 1);
    assert_eq!(text(&reshaped).matches("has another shape").count(), 1);
    let (_, renamed) = of(vec![8, 16], "v", 1);
    let stale = text(&renamed);
    for part in
        ["\"m.safetensors\" has another header", "\"v\" is there and not listed", "\"u\" is listed and not there"]
    {
        assert!(stale.contains(part), "{stale}");
    }
    // A file that is gone, and one that is new.
    assert!(matches!(&listed.stale_headers(&[])[..], [Stale::File { how: "is listed and not there", .. }]));
    let bytes = safetensors(&[("w", dtype("U8"), vec![8])], 1);
    let header = FileHeader::of_bytes(name("n.safetensors"), Format::Safetensors, &bytes, bytes.len() as u64).unwrap();
    assert_eq!(listed.stale_headers(&[header]).len(), 2);
}

/// Of a tensor without bytes the other dimensions may be of any size, and nothing keeps a manifest from giving its tile
/// a digest that no bytes have.
#[test]
fn a_tile_of_nothing_has_a_place_whatever_the_shape() {
    let (_, found) = records(&[("t", dtype("U8"), vec![0, 1 << 63, 1 << 63]), ("u", dtype("U8"), vec![8])], 1);
    let mut listed = found.clone();
    listed.tensors[0].tiles[0][0] ^= 1;
    let [Stale::Tile(tile)] = &listed.stale_tensors(&found)[..] else { panic!("one tile") };
    assert_eq!((&*tile.tensor, tile.bytes.clone()), ("t", listed.tensors[0].range.clone()));
    assert!(tile.bytes.is_empty());
}

#[test]
fn a_model_of_other_bytes_is_told_by_its_first_tiles() {
    let names: Vec<String> = (10..30).map(|i| format!("t{i}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| (&**name, dtype("U8"), vec![8, 8])).collect();
    let ((_, listed), (_, found)) = (records(&tensors, 1), records(&tensors, 2));
    let stale = listed.stale_tensors(&found);
    assert_eq!(stale.len(), 1000, "of 1280");
    assert!(matches!(&stale[999], Stale::Tile(tile) if tile.tensor == "t25"));
}

#[test]
fn a_refusal_is_an_answer_and_a_slice_that_cuts_tiles_is_none() {
    let refusal: Error = slice::refused(TensorRefusal::UnsignedTensor { tensor: "x\n".into() });
    assert!(refusal.refusal().is_some() && !refusal.to_string().contains('\n'));
    assert!(Error::from(SliceError::Nothing).refusal().is_none());
}
