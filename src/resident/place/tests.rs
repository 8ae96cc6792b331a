use super::*;

struct Memory(u64);

impl Buffer for Memory {
    fn size(&self) -> u64 {
        self.0
    }

    fn place(&self) -> u64 {
        0
    }
}

fn dtype(name: &str) -> Dtype {
    Dtype::from_safetensors(name).unwrap()
}

/// The bytes of memory that a tensor's extents name, in order.
fn bytes(dtype: Dtype, shape: &[u64], strides: Strides, at: u64, size: u64) -> Result<Vec<u64>, PlacementError> {
    let (memory, elements) = (Memory(size), shape.iter().product());
    let len = dtype.bytes_of(elements).unwrap();
    let signed = Tensor { name: "t".to_owned(), dtype, shape: shape.to_vec(), range: 100..100 + len };
    let tensor =
        ResidentTensor { name: "t", file: None, device: 0, buffer: &memory, at, dtype, shape: shape.to_vec(), strides };
    let mut places = Vec::new();
    for extent in tensor.extents(&signed)? {
        match extent {
            Extent::Host(_) => panic!("a tensor is not on the host"),
            Extent::Range { at, len, .. } => places.extend(at..at + len),
            Extent::Rows { at, row, stride, rows, .. } => {
                (0..rows).for_each(|nth| places.extend(at + nth * stride..at + nth * stride + row));
            }
        }
    }
    Ok(places)
}

/// The same by indices: each element's place, computed for itself.
fn by_index(unit: u64, shape: &[u64], strides: &[u64], at: u64) -> Vec<u64> {
    let count: u64 = shape.iter().product();
    let place = |index: u64| {
        let mut rest = index;
        shape.iter().zip(strides).rev().fold(at, |at, (count, stride)| {
            let step = rest % count;
            rest /= count;
            at + step * stride
        })
    };
    (0..count).flat_map(|index| place(index)..place(index) + unit).collect()
}

#[test]
fn elements_come_in_the_order_of_the_file() {
    let cases: [(&[u64], &[u64]); 12] = [
        (&[], &[]),
        (&[7], &[1]),
        (&[7], &[3]),
        (&[3, 5], &[5, 1]),
        (&[3, 5], &[8, 1]),
        (&[3, 5], &[1, 3]),
        (&[3, 5], &[2, 9]),
        (&[2, 3, 4], &[12, 4, 1]),
        (&[2, 3, 4], &[40, 4, 1]),
        (&[2, 3, 4], &[1, 2, 6]),
        (&[2, 1, 3, 4], &[100, 0, 24, 6]),
        (&[4, 3, 2, 5], &[60, 20, 10, 2]),
    ];
    for (name, unit) in [("U8", 1), ("BF16", 2), ("F64", 8)] {
        for (shape, strides) in cases {
            let given = || strides.iter().map(|&stride| stride as i64).collect::<Vec<_>>();
            let in_bytes = strides.iter().map(|stride| stride * unit).collect::<Vec<_>>();
            let expected = by_index(unit, shape, &in_bytes, 13);
            let size = expected.iter().max().unwrap() + 1;
            for strides in
                [Strides::Elements(given()), Strides::Bytes(in_bytes.iter().map(|&stride| stride as i64).collect())]
            {
                let found = bytes(dtype(name), shape, strides.clone(), 13, size);
                assert_eq!(found.as_ref(), Ok(&expected), "{name} {shape:?} {strides:?}");
                let short = bytes(dtype(name), shape, strides, 13, size - 1);
                assert!(matches!(short, Err(PlacementError::Outside { .. })), "{short:?}");
            }
        }
    }
    let of_none = bytes(dtype("F32"), &[3, 0, 5], Strides::Elements(vec![0, 0, 0]), 8, 8).unwrap();
    assert_eq!(of_none, [0; 0]);
    assert_eq!(bytes(dtype("F32"), &[2, 3], Strides::Contiguous, 1, 25), Ok((1..25).collect()));
    assert!(matches!(bytes(dtype("F32"), &[2, 3], Strides::Contiguous, 2, 25), Err(PlacementError::Outside { .. })));
    assert!(matches!(bytes(dtype("F32"), &[0], Strides::Contiguous, 26, 25), Err(PlacementError::Outside { .. })));
}

#[test]
fn neighbours_are_joined() {
    let count = |shape: &[u64], strides: &[i64]| {
        let memory = Memory(1 << 40);
        let elements: u64 = shape.iter().product();
        let dtype = dtype("BF16");
        let range = 0..elements * 2;
        let signed = Tensor { name: "t".to_owned(), dtype, shape: shape.to_vec(), range };
        let (shape, strides) = (shape.to_vec(), Strides::Elements(strides.to_vec()));
        let (buffer, device) = (&memory, 0);
        let tensor = ResidentTensor { name: "t", file: None, device, buffer, at: 0, dtype, shape, strides };
        tensor.extents(&signed).map(|extents| extents.len())
    };
    assert_eq!(count(&[64, 128, 32], &[128 * 32, 32, 1]), Ok(1));
    assert_eq!(count(&[64, 128, 32], &[128 * 40, 40, 1]), Ok(1), "all rows at one distance");
    assert_eq!(count(&[64, 128, 32], &[6000, 40, 1]), Ok(64));
    assert_eq!(count(&[4096, 1000], &[1, 4096]), Ok(4096), "transposed");
    assert_eq!(count(&[1 << 18, 8], &[1, 1 << 18]), Ok(1 << 18));
    let error = count(&[1 << 19, 8], &[1, 1 << 19]).unwrap_err();
    assert!(matches!(error, PlacementError::Scattered { extents: 524_288, most: 262_144, .. }), "{error}");
    assert!(error.to_string().contains("before it was transposed"));
}

#[test]
fn what_overlaps_or_runs_backwards_is_refused() {
    for (shape, strides, dimension) in [
        (&[3, 5][..], &[0, 1][..], 0),
        (&[3, 5], &[1, 1], 1),
        (&[3, 5], &[4, 1], 0),
        (&[3, 5], &[-5, 1], 0),
        (&[3, 5], &[5, -1], 1),
        (&[5], &[0], 0),
        (&[2, 2], &[i64::MAX, 1], 0),
        (&[3, 5], &[i64::MIN, 1], 0),
        (&[3, 3, 3], &[9, 2, 1], 1),
    ] {
        let found = bytes(dtype("F32"), shape, Strides::Elements(strides.to_vec()), 0, u64::MAX);
        match found {
            Err(PlacementError::Overlap { dimension: at, .. }) => assert_eq!(at, dimension, "{shape:?} {strides:?}"),
            Err(PlacementError::Outside { .. }) if strides[0] == i64::MAX => {}
            other => panic!("{shape:?} {strides:?}: {other:?}"),
        }
    }
    // In bytes: elements of 4 at a distance of 3.
    let found = bytes(dtype("F32"), &[5], Strides::Bytes(vec![3]), 0, 100);
    assert!(matches!(found, Err(PlacementError::Overlap { stride: 3, .. })));
    let far = bytes(dtype("U8"), &[3, 3], Strides::Bytes(vec![i64::MAX, 1]), 0, u64::MAX);
    assert!(matches!(far, Err(PlacementError::Outside { end: u64::MAX, .. })), "{far:?}");
    let found = bytes(dtype("F32"), &[5, 1], Strides::Elements(vec![1]), 0, 100);
    assert!(matches!(found, Err(PlacementError::Rank { dimensions: 2, strides: 1, .. })));
}

#[test]
fn elements_of_less_than_a_byte_come_in_whole_blocks() {
    let half = dtype("F4");
    assert_eq!((half.block_elements(), half.block_bytes()), (2, 1), "two in a byte");
    let rows = |strides| bytes(half, &[3, 6], strides, 5, 100);
    let packed: Vec<u64> = (5..14).collect();
    assert_eq!(rows(Strides::Contiguous).as_ref(), Ok(&packed));
    assert_eq!(rows(Strides::Elements(vec![6, 1])).as_ref(), Ok(&packed));
    assert_eq!(rows(Strides::Bytes(vec![3, 1])).as_ref(), Ok(&packed));
    let apart = vec![5, 6, 7, 13, 14, 15, 21, 22, 23];
    assert_eq!(rows(Strides::Elements(vec![16, 1])).as_ref(), Ok(&apart));
    assert_eq!(rows(Strides::Bytes(vec![8, 1])).as_ref(), Ok(&apart));
    // A row that ends within a byte, an element of its own, a distance of half bytes.
    let refused = |shape: &[u64], strides| {
        let found = bytes(half, shape, strides, 5, 100);
        assert!(matches!(found, Err(PlacementError::Blocks { block: 2, .. })), "{found:?}");
    };
    refused(&[3, 6], Strides::Elements(vec![7, 1]));
    refused(&[3, 6], Strides::Elements(vec![12, 2]));
    refused(&[2, 3], Strides::Elements(vec![4, 1]));
    refused(&[2, 3], Strides::Bytes(vec![2, 1]));
    assert_eq!(bytes(half, &[2, 3], Strides::Elements(vec![3, 1]), 5, 100), Ok(vec![5, 6, 7]));
    assert_eq!(bytes(half, &[2, 3], Strides::Contiguous, 5, 100), Ok(vec![5, 6, 7]));
}
