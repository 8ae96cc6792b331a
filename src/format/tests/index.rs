use super::*;
use IndexFault as Fault;

fn index(pairs: &[(&str, &str)]) -> Index {
    let pairs: Vec<String> = pairs.iter().map(|(tensor, file)| format!("{tensor:?}:{file:?}")).collect();
    Index::parse(format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{{}}}}}"#, pairs.join(",")).as_bytes())
        .unwrap()
}

fn header(names: &[&str]) -> Header {
    let tensor = |(i, name): (usize, &&str)| Tensor {
        name: (*name).to_owned(),
        dtype: Dtype::from_safetensors("U8").unwrap(),
        shape: vec![1],
        range: i as u64..i as u64 + 1,
    };
    let tensors = names.iter().enumerate().map(tensor).collect();
    Header { format: Format::Safetensors, len: 0, tensors, metadata: BTreeMap::new() }
}

#[test]
fn each_tensor_is_where_the_index_has_it() {
    const ONE: &str = "m-00001-of-00002.safetensors";
    const TWO: &str = "m-00002-of-00002.safetensors";
    let index = index(&[("a", ONE), ("b", ONE), ("c", TWO)]);
    assert_eq!(index.files().into_iter().collect::<Vec<_>>(), [ONE, TWO]);
    let check = |files: &[(&'static str, &[&str])]| {
        let headers: Vec<_> = files.iter().map(|(file, names)| (*file, header(names))).collect();
        index.check(&headers.iter().map(|(file, header)| (*file, header)).collect())
    };
    assert_eq!(check(&[(ONE, &["b", "a"]), (TWO, &["c"])]), []);
    assert_eq!(check(&[(ONE, &["a", "b"])]), [Fault::NoFile { file: TWO.into() }]);
    assert_eq!(check(&[(ONE, &["a"]), (TWO, &["c"])]), [Fault::NoTensor { tensor: "b".into(), file: ONE.into() }]);
    assert_eq!(
        check(&[(ONE, &["a"]), (TWO, &["b", "c"])]),
        [Fault::OtherFile { tensor: "b".into(), expected: ONE.into(), found: TWO.into() }]
    );
    assert_eq!(
        check(&[(ONE, &["a", "b", "d"]), (TWO, &["c", "a"])]),
        [
            Fault::Unlisted { tensor: "a".into(), file: TWO.into() },
            Fault::Unlisted { tensor: "d".into(), file: ONE.into() }
        ]
    );
    // Files of the same set are extra; those of another are none of this index's business.
    let extra = "m-00003-of-00002.safetensors";
    assert_eq!(check(&[(ONE, &["a", "b"]), (TWO, &["c"]), (extra, &[])]), [Fault::ExtraFile { file: extra.into() }]);
    assert_eq!(check(&[(ONE, &["a", "b"]), (TWO, &["c"]), ("consolidated.safetensors", &["a"])]), []);
}

#[test]
fn an_index_has_one_reading_and_names_files_beside_it() {
    assert!(Index::parse(br#" {"weight_map":{"a":"sub/m.safetensors"},"extra":[{}]} "#).is_ok());
    for bad in [
        "",
        "[]",
        "[{}]",
        "{}",
        r#"{"weight_map":null}"#,
        r#"{"weight_map":{"a":1}}"#,
        r#"{"weight_map":{"a":"x","a":"x"}}"#,
        r#"{"weight_map":{},"weight_map":{}}"#,
        r#"{"weight_map":{}}{}"#,
    ] {
        assert!(matches!(Index::parse(bad.as_bytes()), Err(Fault::Json { .. })), "{bad}");
    }
    for file in ["", "/m", "../m", "a/../m", "./m", "a//m", "a/", "..", "a\\\\m", "a\\u0000"] {
        let text = format!(r#"{{"weight_map":{{"t":"{file}"}}}}"#);
        assert!(matches!(Index::parse(text.as_bytes()), Err(Fault::FileName { .. })), "{file}");
    }
}
