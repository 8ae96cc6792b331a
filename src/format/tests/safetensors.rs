use super::build::{json as of, safetensors as file};
use super::*;
use HeaderFault as Fault;

fn header(text: &str, data: usize) -> Result<Header, Fault> {
    read(Format::Safetensors, &file(text, data))
}

#[test]
fn tensors_come_in_the_order_of_their_bytes() {
    let text = of(&[
        ("b", "F32", "2,3", 4, 28),
        ("a", "F16", "", 2, 4),
        ("c", "BF16", "1", 0, 2),
        ("z", "U8", "0,5", 28, 28),
        ("y", "I64", "0", 4, 4),
    ]);
    let header =
        header(&format!("{{\"__metadata__\":{{\"format\":\"pt\",\"\\u00fc\":\"\"}},{}   ", &text[1..]), 28).unwrap();
    let len = text.len() as u64 + 8 + 3 + 43;
    assert_eq!(header.len, len);
    let names: Vec<_> = header.tensors.iter().map(|tensor| (&*tensor.name, tensor.range.clone())).collect();
    assert_eq!(
        names,
        [
            ("c", len..len + 2),
            ("a", len + 2..len + 4),
            ("y", len + 4..len + 4),
            ("b", len + 4..len + 28),
            ("z", len + 28..len + 28)
        ]
    );
    let b = header.tensor("b").unwrap();
    assert_eq!((b.dtype.name(), &b.shape[..], b.elements(), b.bytes()), ("F32", &[2, 3][..], 6, 24));
    assert_eq!(header.tensor("a").unwrap().elements(), 1, "a scalar");
    assert_eq!(header.metadata, BTreeMap::from([("format".into(), "pt".into()), ("ü".into(), String::new())]));
}

#[test]
fn a_file_may_hold_no_tensors() {
    for text in ["{}", "{}  \n", r#"{"__metadata__":{}}"#] {
        assert!(header(text, 0).unwrap().tensors.is_empty());
        assert!(matches!(header(text, 1), Err(Fault::Trailing { .. })), "{text}");
    }
}

#[test]
fn types_of_less_than_a_byte_take_whole_bytes() {
    for (dtype, elements, bytes) in [("F4", 2, 1), ("F4", 6, 3), ("F6_E2M3", 4, 3), ("F6_E3M2", 12, 9)] {
        let text = of(&[("t", dtype, &format!("1,{elements}"), 0, bytes)]);
        assert_eq!(header(&text, bytes as usize).unwrap().tensors[0].bytes(), bytes);
    }
    // As the reference: the tensor must be whole bytes, its rows need not.
    assert!(header(&of(&[("t", "F4", "2,3", 0, 3)]), 3).is_ok());
    for (dtype, shape, bytes) in [("F4", "1", 1), ("F4", "3", 2), ("F6_E2M3", "2", 2), ("F6_E3M2", "5", 4)] {
        let fault = header(&of(&[("t", dtype, shape, 0, bytes)]), bytes as usize).unwrap_err();
        assert!(matches!(fault, Fault::Blocks { .. }), "{dtype} {shape}: {fault}");
    }
}

#[test]
fn what_does_not_tile_the_data_is_refused() {
    let f32 = |name, begin, end| (name, "U8", if end - begin == 4 { "4" } else { "8" }, begin, end);
    for (tensors, data) in [(vec![f32("a", 0, 4), f32("b", 4, 12)], 12), (vec![f32("b", 4, 12), f32("a", 0, 4)], 12)] {
        assert!(header(&of(&tensors), data).is_ok());
    }
    let fault = |tensors: &[_], data| header(&of(tensors), data).unwrap_err();
    assert!(matches!(fault(&[f32("a", 0, 4), f32("b", 5, 9)], 9), Fault::Hole { tensor, .. } if tensor == "b"));
    assert!(matches!(fault(&[f32("a", 1, 5)], 5), Fault::Hole { tensor, .. } if tensor == "a"));
    assert!(matches!(fault(&[("a", "U8", "0", 1, 1)], 1), Fault::Hole { .. }));
    assert!(
        matches!(fault(&[f32("a", 0, 4), f32("b", 3, 7)], 7), Fault::Overlap { tensor, other, .. } if tensor == "b" && other == "a")
    );
    assert!(matches!(fault(&[f32("a", 0, 4), f32("b", 0, 4)], 4), Fault::Overlap { .. }), "the same bytes twice");
    assert!(matches!(fault(&[f32("a", 0, 8), ("z", "U8", "0", 4, 4)], 8), Fault::Overlap { .. }), "inside another");
    assert!(matches!(fault(&[f32("a", 0, 4)], 3), Fault::DataCut { .. }));
    assert!(matches!(fault(&[f32("a", 0, 4)], 5), Fault::Trailing { .. }));
    assert!(matches!(fault(&[("a", "U8", "4", 0, 3)], 3), Fault::Size { expected: 4, found: 3, .. }));
    assert!(matches!(fault(&[("a", "F32", "4", 0, 4)], 4), Fault::Size { expected: 16, .. }));
    assert!(matches!(fault(&[("a", "U8", "4", 4, 0)], 4), Fault::Backwards { .. }));
    let (most, half) = (u64::MAX, 1_u64 << 63);
    assert!(matches!(fault(&[("a", "U8", "4", most - 4, most)], 4), Fault::Overflow { .. }));
    let (square, zero) = (format!("{half},2"), format!("{half},2,0"));
    assert!(matches!(fault(&[("a", "U8", &square, 0, 0)], 0), Fault::Overflow { .. }));
    assert!(matches!(fault(&[("a", "U8", &zero, 0, 0)], 0), Fault::Overflow { .. }));
    let most = half.to_string();
    assert!(matches!(fault(&[("a", "C64", &most, 0, 0)], 0), Fault::Overflow { .. }));
    assert!(matches!(fault(&[("a", "F16", &most, 0, 0)], 0), Fault::Overflow { .. }));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let a = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    assert!(header(&format!(r#"{{"a":{a}}}"#), 1).is_ok());
    assert!(matches!(header(&format!(r#"{{"a":{a},"a":{a}}}"#), 1), Err(Fault::DoubleName { name }) if name == "a"));
    assert!(matches!(header(&format!(r#"{{"a":{a},"\u0061":{a}}}"#), 1), Err(Fault::DoubleName { .. })));
    for bad in [
        format!(r#"{{"a":{a}}}{{}}"#),
        format!(r#"{{"a":{a}}},"#),
        format!(r#"{{"a":{a},}}"#),
        format!(r#"{{"a":{a},"__metadata__":{{}},"__metadata__":{{}}}}"#),
        format!(r#"{{"a":{a},"__metadata__":{{"k":"1","k":"2"}}}}"#),
        format!(r#"{{"a":{a},"__metadata__":{{"k":1}}}}"#),
        format!(r#"{{"a":{a},"__metadata__":{{"k":null}}}}"#),
        format!(r#"{{"a":{a},"__metadata__":null}}"#),
        format!(r#"{{"a":{a},"__metadata__":[]}}"#),
        r#"{"a":["U8",[1],[0,1]]}"#.into(),
        r#"{"a":null}"#.into(),
        r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}}"#.into(),
        r#"{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","shape":[1]}}"#.into(),
        r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#.into(),
        r#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#.into(),
        r#"{"\ud800":1}"#.into(),
        "{".into(),
        format!("{{{}", "\"a\":{".repeat(100_000)),
        format!("{{\"a\":{{\"shape\":{}", "[".repeat(100_000)),
        format!("{{\"__metadata__\":{}", "[".repeat(100_000)),
    ] {
        let fault = header(&bad, 1).unwrap_err();
        assert!(matches!(fault, Fault::Json { .. }), "{bad}: {fault}");
    }
    for bad in ["[]", "\"a\"", "1", " {}", "\n{}", "\u{feff}{}", "null", ""] {
        assert_eq!(header(bad, 0), Err(Fault::NoObject), "{bad:?}");
    }
    for bad in ["f32", "F32 ", "", "BF8", "Q4_K", "F8", "F4_E2M1"] {
        let fault = header(&of(&[("a", bad, "1", 0, 1)]), 1).unwrap_err();
        assert!(matches!(fault, Fault::Dtype { .. }), "{bad}: {fault}");
    }
    let mut bytes = file(r#"{"a":1}"#, 0);
    bytes[10] = 0xff;
    assert_eq!(read(Format::Safetensors, &bytes), Err(Fault::NotUtf8 { what: "header", at: 8 }));
}

#[test]
fn a_length_is_believed_only_within_the_file() {
    for (len, size, fault) in [
        (0_u64, 0, Fault::BeyondFile { needed: 8, file_len: 0 }),
        (0, 7, Fault::BeyondFile { needed: 8, file_len: 7 }),
        (0, 8, Fault::NoObject),
        (3, 10, Fault::BeyondFile { needed: 11, file_len: 10 }),
        (100_000_000, 10, Fault::BeyondFile { needed: 100_000_008, file_len: 10 }),
        (100_000_001, 10, Fault::TooLong { len: 100_000_001, limit: 100_000_000 }),
        (u64::MAX, 10, Fault::TooLong { len: u64::MAX, limit: 100_000_000 }),
    ] {
        let mut file = len.to_le_bytes().to_vec();
        file.extend(b"{}");
        file.truncate(size);
        assert_eq!(read(Format::Safetensors, &file), Err(fault));
    }
    assert_eq!(
        Header::of_bytes(Format::Safetensors, &100_000_000_u64.to_le_bytes(), 1 << 40),
        Err(Fault::Short { needed: 100_000_008 }),
        "no more is asked for than the reference reads"
    );
}

#[test]
fn a_long_header_is_read_in_two_parts() {
    let tensors: Vec<String> = (0..3000).map(|i| format!("model.layers.{i}.weight")).collect();
    let tensors: Vec<_> =
        tensors.iter().enumerate().map(|(i, name)| (&**name, "U8", "1", i as u64, i as u64 + 1)).collect();
    let text = of(&tensors);
    assert!(text.len() as u64 > FIRST_READ);
    assert_eq!(header(&text, 3000).unwrap().tensors.len(), 3000);
}

#[test]
fn dimensions_are_limited() {
    let shape = |count: usize| vec!["1"; count].join(",");
    assert_eq!(header(&of(&[("a", "U8", &shape(64), 0, 1)]), 1).unwrap().tensors[0].shape.len(), 64);
    let fault = header(&of(&[("a", "U8", &shape(65), 0, 1)]), 1).unwrap_err().to_string();
    assert!(fault.contains("at most 64 dimensions"), "{fault}");
}

#[test]
fn a_header_cannot_fill_a_screen_or_write_a_line() {
    let long = "\\n\\u001b[2J".to_owned() + &"x".repeat(100_000);
    let a = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    for text in [
        of(&[(&long, "U8", "2", 0, 1)]),
        of(&[("a", &long, "2", 0, 1)]),
        of(&[(&long, "U8", "1", 0, 1), ("b", "U8", "1", 0, 1)]),
        format!(r#"{{"{long}":{a},"{long}":{a}}}"#),
        format!(r#"{{"a":{{"{long}":1}}}}"#),
        format!(r#"{{"__metadata__":{{"{long}":"","{long}":""}}}}"#),
    ] {
        let fault = header(&text, 1).unwrap_err().to_string();
        assert!(fault.len() < 600 && !fault.contains(['\n', '\x1b']), "{fault}");
    }
}
