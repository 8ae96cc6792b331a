use super::build::{Gguf, array, text};
use super::*;
use HeaderFault as Fault;

fn header(of: &Gguf) -> Result<Header, Fault> {
    read(Format::Gguf, &of.bytes())
}

const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q4_K: u32 = 12;
const I8: u32 = 24;

#[test]
fn tensors_come_in_the_order_of_their_bytes_and_the_slowest_dimension_first() {
    for version in [2, 3] {
        let mut of = Gguf::default()
            .string("general.architecture", "llama")
            .tensor("b", &[256, 3], Q4_K, 32)
            .tensor("a", &[7], F32, 0)
            .tensor("scalar", &[], F32, 480)
            .tensor("none", &[5, 0], I8, 480)
            .data(484);
        of.version = version;
        let header = header(&of).unwrap();
        let at = header.len;
        assert_eq!(at, (of.header().len() as u64).next_multiple_of(32));
        let found: Vec<_> = header.tensors.iter().map(|of| (&*of.name, &of.shape[..], of.range.clone())).collect();
        assert_eq!(
            found,
            [
                ("a", &[7][..], at..at + 28),
                ("b", &[3, 256], at + 32..at + 32 + 3 * 144),
                ("none", &[0, 5], at + 480..at + 480),
                ("scalar", &[], at + 480..at + 484),
            ]
        );
        assert_eq!(header.tensors[1].dtype.name(), "Q4_K");
    }
}

#[test]
fn values_are_text_and_arrays_are_passed_over() {
    let nested =
        array(9, &[array(8, &[text("a"), text([0xff])]), array(9, &[array(7, &[vec![1], vec![0]])]), array(0, &[])]);
    let of = Gguf::default()
        .pair("u8", 0, [200])
        .pair("i8", 1, [200])
        .pair("u16", 2, 60_000_u16.to_le_bytes())
        .pair("i16", 3, (-2_i16).to_le_bytes())
        .pair("u32", 4, u32::MAX.to_le_bytes())
        .pair("i32", 5, i32::MIN.to_le_bytes())
        .pair("f32", 6, 0.5_f32.to_le_bytes())
        .pair("bool", 7, [1])
        .string("string", "")
        .pair("array", 9, nested)
        .pair("tokens", 9, array(8, &vec![text("token"); 300]))
        .pair("scores", 9, array(12, &vec![vec![0; 8]; 300]))
        .pair("u64", 10, u64::MAX.to_le_bytes())
        .pair("i64", 11, i64::MIN.to_le_bytes())
        .pair("f64", 12, f64::MAX.to_le_bytes());
    let header = header(&of).unwrap();
    let expected = [
        ("bool", "true"),
        ("f32", "0.5"),
        ("f64", "1.7976931348623157e308"),
        ("i16", "-2"),
        ("i32", "-2147483648"),
        ("i64", "-9223372036854775808"),
        ("i8", "-56"),
        ("string", ""),
        ("u16", "60000"),
        ("u32", "4294967295"),
        ("u64", "18446744073709551615"),
        ("u8", "200"),
    ];
    assert_eq!(header.metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn every_type_has_its_number_and_its_block() {
    let mut known = 0;
    for number in 0..1000 {
        let Some(dtype) = Dtype::from_gguf(number) else {
            let fault = header(&Gguf::default().tensor("t", &[256], number, 0)).unwrap_err();
            assert_eq!(fault, Fault::Dtype { tensor: "t".into(), dtype: number.to_string() });
            continue;
        };
        known += 1;
        let (block, bytes) = (dtype.block_elements(), dtype.block_bytes());
        let two = Gguf::default().tensor("t", &[block, 2], number, 0).data(2 * bytes as usize);
        assert_eq!(header(&two).unwrap().tensors[0].bytes(), 2 * bytes);
        if block > 1 {
            let half = Gguf::default().tensor("t", &[block / 2, 2], number, 0).data(bytes as usize);
            let fault = Fault::Blocks { tensor: "t".into(), elements: block / 2, block };
            assert_eq!(header(&half), Err(fault), "a row is whole blocks");
        }
    }
    assert_eq!(known, 34);
}

#[test]
fn the_alignment_is_the_files_own() {
    let aligned = |alignment: u32, second| {
        let mut of = Gguf::default().pair("general.alignment", 4, alignment.to_le_bytes());
        of.alignment = alignment as usize;
        header(&of.tensor("a", &[3], I8, 0).tensor("b", &[3], I8, second).data(second as usize + 3))
    };
    for (alignment, second) in [(1, 3), (8, 8), (64, 64), (4096, 4096)] {
        let header = aligned(alignment, second).unwrap();
        assert!(header.len.is_multiple_of(alignment.into()));
        assert_eq!(header.metadata["general.alignment"], alignment.to_string());
    }
    assert_eq!(aligned(8, 4), Err(Fault::Unaligned { tensor: "b".into(), offset: 4, alignment: 8 }));
    assert!(matches!(aligned(8, 16), Err(Fault::Hole { .. })), "a gap beyond the alignment");
    assert!(matches!(aligned(8, 0), Err(Fault::Overlap { .. })));
    for (kind, value) in
        [(4, vec![0, 0, 0, 0]), (4, vec![24, 0, 0, 0]), (0, vec![32]), (10, vec![32, 0, 0, 0, 0, 0, 0, 0])]
    {
        let fault = header(&Gguf::default().pair("general.alignment", kind, value)).unwrap_err();
        assert!(matches!(fault, Fault::Key { .. }), "{fault}");
    }
}

#[test]
fn the_file_ends_with_its_last_tensor_or_the_padding_behind_it() {
    let with = |data| header(&Gguf::default().tensor("a", &[33], I8, 0).data(data));
    for data in [33, 34, 64] {
        assert!(with(data).is_ok(), "{data}");
    }
    assert!(matches!(with(32), Err(Fault::DataCut { .. })));
    assert!(matches!(with(65), Err(Fault::Trailing { .. })));
    let none = Gguf::default().string("k", "v");
    let (bare, padded) = (none.header(), none.bytes());
    assert!(bare.len() < padded.len());
    for file in [&bare, &padded, &[&bare[..], &[0]].concat()] {
        assert_eq!(read(Format::Gguf, file).unwrap().tensors, []);
    }
    assert!(matches!(read(Format::Gguf, &[&padded[..], &[0]].concat()), Err(Fault::Trailing { .. })));
}

#[test]
fn what_is_not_gguf_or_not_for_this_machine_is_said_to_be() {
    let good = Gguf::default().tensor("a", &[1], I8, 0).data(1);
    let versioned = |version| header(&Gguf { version, ..good.clone() });
    for version in [0, 1, 4, 0x0001_0000] {
        let fault = versioned(version).unwrap_err();
        assert!(matches!(fault, Fault::Version { .. } | Fault::BigEndian), "{fault}");
    }
    assert_eq!(versioned(1), Err(Fault::Version { version: 1 }));
    for version in [2_u32, 3] {
        assert_eq!(versioned(version.swap_bytes()), Err(Fault::BigEndian));
    }
    let mut bytes = good.bytes();
    bytes[3] = b'f';
    assert_eq!(read(Format::Gguf, &bytes), Err(Fault::NoGguf));
    for len in 0..24 {
        assert!(matches!(read(Format::Gguf, &good.bytes()[..len]), Err(Fault::BeyondFile { .. })), "{len}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let base = || Gguf::default().string("k", "v");
    let fault = |of: Gguf| header(&of).unwrap_err();
    assert!(matches!(fault(base().pair("k", 0, [1])), Fault::Key { why: "stands twice", .. }));
    assert!(matches!(fault(base().pair("k", 9, array(0, &[]))), Fault::Key { why: "stands twice", .. }));
    assert!(matches!(fault(base().pair("", 0, [1])), Fault::Key { why: "is empty", .. }));
    assert!(matches!(fault(base().pair("x".repeat(65_536), 0, [1])), Fault::Key { .. }));
    assert!(header(&base().pair("x".repeat(65_535), 0, [1])).is_ok());
    assert!(matches!(fault(base().pair([0xff], 0, [1])), Fault::NotUtf8 { what: "key", .. }));
    assert!(matches!(fault(base().pair("s", 8, text([0xff]))), Fault::NotUtf8 { what: "value", .. }));
    assert!(matches!(fault(base().tensor([0xff], &[1], I8, 0)), Fault::NotUtf8 { what: "tensor's name", .. }));
    for kind in [13, 255, u32::MAX] {
        assert!(matches!(fault(base().pair("a", kind, [0; 8])), Fault::ValueType { .. }), "{kind}");
        assert!(matches!(fault(base().pair("a", 9, array(kind, &[vec![0; 8]]))), Fault::ValueType { .. }), "{kind}");
    }
    assert!(matches!(fault(base().pair("b", 7, [2])), Fault::Key { .. }));
    assert!(matches!(fault(base().pair("b", 9, array(7, &[vec![0], vec![2]]))), Fault::Key { .. }));
    assert!(matches!(fault(base().pair("a\0", 0, [1])), Fault::Key { .. }));
    assert_eq!(fault(base().tensor("a\0", &[1], I8, 0).data(1)), Fault::Nul { tensor: "a\0".into() });
    let twice = base().tensor("a", &[1], I8, 0).tensor("a", &[1], I8, 32).data(33);
    assert_eq!(fault(twice), Fault::DoubleName { name: "a".into() });
    assert!(matches!(fault(base().tensor("a", &[1; 5], I8, 0)), Fault::Dimensions { found: 5, limit: 4, .. }));
    for shape in [&[1 << 32, 1 << 32, 0][..], &[1 << 63, 0], &[0, 1 << 63], &[1 << 62, 8]] {
        assert!(matches!(fault(base().tensor("a", shape, F32, 0)), Fault::Overflow { .. }), "{shape:?}");
    }
    assert!(matches!(fault(base().tensor("a", &[32], Q4_0, u64::MAX - 31)), Fault::Overflow { .. }));
    let overlap = base().tensor("a", &[64], I8, 0).tensor("b", &[1], I8, 32).data(64);
    assert!(matches!(fault(overlap), Fault::Overlap { .. }));
    assert!(matches!(fault(base().tensor("a", &[1], I8, 32).data(33)), Fault::Hole { .. }));
}

#[test]
fn counts_and_lengths_are_believed_only_within_the_file() {
    let nested = |deep: u32| (1..deep).fold(array(0, &[vec![1]]), |inner, _| array(9, &[inner]));
    assert!(header(&Gguf::default().pair("a", 9, nested(4))).is_ok());
    assert!(matches!(header(&Gguf::default().pair("a", 9, nested(5))), Err(Fault::Key { .. })));
    assert!(matches!(header(&Gguf::default().pair("a", 9, nested(2_000))), Err(Fault::Key { .. })));
    for huge in [1000, 1 << 32, 1 << 62, u64::MAX] {
        let number = huge.to_le_bytes();
        let array_of = |kind: u32| [&kind.to_le_bytes()[..], &number].concat();
        let mut many_dimensions = Gguf::default().header();
        many_dimensions[8] = 1;
        many_dimensions.extend(text("a"));
        many_dimensions.extend((huge as u32).to_le_bytes());
        many_dimensions.resize(200, 0);
        for (what, file) in [
            ("tensors", Gguf { tensor_count: Some(huge), ..Gguf::default() }.bytes()),
            ("pairs", Gguf { pair_count: Some(huge), ..Gguf::default() }.bytes()),
            ("key", [&Gguf { pair_count: Some(1), ..Gguf::default() }.header()[..], &number, &[0; 64]].concat()),
            ("string", Gguf::default().pair("a", 8, number).bytes()),
            ("bytes", Gguf::default().pair("a", 9, array_of(0)).bytes()),
            ("doubles", Gguf::default().pair("a", 9, array_of(12)).bytes()),
            ("truths", Gguf::default().pair("a", 9, array_of(7)).bytes()),
            ("strings", Gguf::default().pair("a", 9, array_of(8)).bytes()),
            ("arrays", Gguf::default().pair("a", 9, array_of(9)).bytes()),
            ("name", [&Gguf { tensor_count: Some(1), ..Gguf::default() }.header()[..], &number, &[0; 64]].concat()),
            ("dimensions", many_dimensions),
        ] {
            let fault = read(Format::Gguf, &file).unwrap_err();
            let right = matches!(fault, Fault::BeyondFile { .. } | Fault::Dimensions { .. });
            assert!(right || what == "dimensions" && huge as u32 == 0, "{what} {huge}: {fault}");
        }
    }
}

#[test]
fn a_header_of_any_length_is_asked_for_in_few_parts_and_a_longer_one_is_refused() {
    let of = Gguf::default().pair("tokens", 9, array(8, &vec![text("token"); 60_000])).tensor("a", &[1], I8, 0).data(1);
    let (file, mut reads) = (of.bytes(), 0);
    let header = Header::read(Format::Gguf, file.len() as u64, &mut |range| {
        reads += 1;
        Ok::<_, Fault>(file[range.start as usize..range.end as usize].to_vec())
    });
    assert_eq!(header.unwrap().tensors.len(), 1);
    assert!(reads < 7, "{reads}");
    let long = Gguf::default().pair("a", 9, [&0_u32.to_le_bytes()[..], &(1_u64 << 40).to_le_bytes()].concat()).bytes();
    let fault = Header::of_bytes(Format::Gguf, &long, 1 << 50).unwrap_err();
    assert!(matches!(fault, Fault::TooLong { .. }), "{fault}");
}

#[test]
fn parts_know_their_number_and_hold_all_tensors_once() {
    let part = |number: u16, count: u16, total: i32, names: &[&str]| {
        let mut of = Gguf::default()
            .pair("split.no", 2, number.to_le_bytes())
            .pair("split.count", 2, count.to_le_bytes())
            .pair("split.tensors.count", 5, total.to_le_bytes());
        for (i, name) in names.iter().enumerate() {
            of = of.tensor(name, &[32], I8, 32 * i as u64);
        }
        header(&of.data(32 * names.len())).unwrap()
    };
    let check = |parts: &[(&str, &Header)]| check_parts(&parts.iter().copied().collect());
    const ONE: &str = "m-00001-of-00002.gguf";
    const TWO: &str = "m-00002-of-00002.gguf";
    let (one, two) = (part(0, 2, 3, &["a"]), part(1, 2, 3, &["b", "c"]));
    let whole = header(&Gguf::default()).unwrap();
    assert_eq!(check(&[(ONE, &one), (TWO, &two), ("whole.gguf", &whole), ("w-00001-of-00001.gguf", &whole)]), []);
    assert_eq!(check(&[(TWO, &two)]), [IndexFault::Parts { file: TWO.into(), count: 2, found: 1 }]);
    let numbered = |file: &str, says: &str| IndexFault::Numbered { file: file.into(), says: says.into() };
    assert_eq!(
        check(&[(ONE, &two), (TWO, &one)]),
        [numbered(ONE, "number 1 (from 0) of 2"), numbered(TWO, "number 0 (from 0) of 2")],
        "two parts swapped"
    );
    assert_eq!(check(&[(ONE, &one), (TWO, &whole)])[0], numbered(TWO, "number none (from 0) of none"));
    assert_eq!(check(&[("m.gguf", &one)]), [numbered("m.gguf", "number 0 (from 0) of 2")]);
    assert_eq!(check(&[("m-00000-of-00002.gguf", &whole)]).len(), 1);
    assert_eq!(check(&[("m-00003-of-00002.gguf", &part(2, 2, 3, &[]))]).len(), 1, "beyond the last");
    let twice = part(1, 2, 3, &["a", "c"]);
    assert_eq!(
        check(&[(ONE, &one), (TWO, &twice)]),
        [IndexFault::TwoPlaces { tensor: "a".into(), file: TWO.into(), other: ONE.into() }]
    );
    let fewer = part(1, 2, 3, &["c"]);
    assert_eq!(check(&[(ONE, &one), (TWO, &fewer)]).len(), 2, "both say 3, and there are 2");
}
