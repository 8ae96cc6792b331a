use super::*;

#[test]
fn a_bundle_cannot_fill_a_screen_or_write_a_line() {
    for length in [SHOWN, SHOWN + 1, 5_000_000] {
        let long = format!("\n{}", "x".repeat(length - 1));
        let errors = [
            FormatError::MediaType(long.clone()).to_string(),
            FormatError::PayloadType(long.clone()).to_string(),
            FormatError::StatementType(long.clone()).to_string(),
            FormatError::PredicateType(long.clone()).to_string(),
            FormatError::Method(long.clone()).to_string(),
            FormatError::HashType(long.clone()).to_string(),
            SignatureError::OtherKey { named: long.clone(), given: String::new() }.to_string(),
            FormatError::Json { what: "bundle", source: serde::de::Error::custom(&long) }.to_string(),
        ];
        for text in errors {
            assert!(text.len() < SHOWN + 140 && !text.contains('\n'), "{text}");
            assert_eq!(
                text.contains("x .. ") || text.contains("x\" ..") || text.ends_with(" .."),
                length > SHOWN,
                "{text}"
            );
        }
    }
}
