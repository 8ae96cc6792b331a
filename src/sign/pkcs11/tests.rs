//! URIs: what is read, what is refused, what is shown.

use std::path::PathBuf;

use super::*;

fn parse(text: &str) -> Result<Pkcs11Uri, UriError> {
    text.parse()
}

#[track_caller]
fn refused(text: &str, words: &str) {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.contains(words), "{text}: {error}");
}

#[test]
fn every_attribute_of_the_rfc_is_read() {
    let text = "PKCS11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;serial=;model=1.0;\
                library-manufacturer=a;library-description=b%3b;library-version=3;slot-id=327;slot-manufacturer=c;\
                slot-description=d&e=f;object=my-key;id=%69%95%3E%5C%F4%BD%00a;type=private\
                ?module-path=/lib/m%C3%B6.so&module-name=p11?|&pin-source=file:/etc/token%2520pin";
    let uri = parse(text).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let expected = Pkcs11Uri {
        token: text("The Software PKCS#11 Softtoken"),
        manufacturer: text("Snake Oil, Inc."),
        serial: text(""),
        model: text("1.0"),
        library_manufacturer: text("a"),
        library_description: text("b;"),
        library_version: Some((3, 0)),
        slot_id: Some(327),
        slot_manufacturer: text("c"),
        slot_description: text("d&e=f"),
        object: text("my-key"),
        id: Some(b"\x69\x95\x3e\x5c\xf4\xbd\0a".to_vec()),
        kind: Some(ObjectKind::PrivateKey),
        module_path: Some(PathBuf::from("/lib/mö.so")),
        module_name: text("p11?|"),
        pin: Some(UriPin::Source(PathBuf::from("/etc/token pin"))),
    };
    assert_eq!(uri, expected);
}

#[test]
fn what_was_read_is_written_and_read_the_same() {
    for text in [
        "pkcs11:",
        "pkcs11:?",
        "pkcs11:id=%00%FF;object=a%20b%3B%3D",
        "pkcs11:token=;slot-id=007;library-version=2.40?pin-value=%26%20x&module-name=p11",
        "PkCs11:type=cert?pin-source=file://localhost/a%2520b",
        "pkcs11:?pin-source=a/b&module-path=/x/%3F",
    ] {
        let uri = parse(text).unwrap();
        assert_eq!(parse(&uri.to_uri()), Ok(uri.clone()), "{text}");
        let shown = Pkcs11Uri { pin: uri.pin.clone().filter(|pin| matches!(pin, UriPin::Source(_))), ..uri.clone() };
        assert_eq!(parse(&uri.to_string()), Ok(shown), "{text}");
    }
}

#[test]
fn a_pin_is_never_shown() {
    let uri = parse("pkcs11:object=k?pin-value=s3cr3t").unwrap();
    assert!(uri.to_uri().ends_with("pin-value=s3cr3t"));
    for shown in [format!("{uri}"), format!("{uri:?}"), format!("{uri:#?}"), format!("{:?}", uri.pin)] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    for text in [
        "pkcs11:s3cr3t",
        "pkcs11:pin-value=s3cr3t",
        "pkcs11:?s3cr3t",
        "pkcs11:?pin-value:s3cr3t",
        "pkcs11:?pin-value=x&s3cr3t=y",
        "pkcs11:?pin-value=s3cr3t;",
        "pkcs11:?pin-value=s3cr3t%",
        "pkcs11:?pin-value=s3cr3t%FF",
        "pkcs11:?pin-value=s3cr3t&pin-value=s3cr3t",
        "pkcs11:?pin-value=s3cr3t&pin-source=x",
        "s3cr3t",
    ] {
        let error = parse(text).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{text}: {error:?}");
    }
}

#[test]
fn what_has_no_single_meaning_is_refused() {
    for (text, words) in [
        ("", "does not begin with `pkcs11:`"),
        ("pkcs11", "does not begin with `pkcs11:`"),
        ("pkcs12:object=a", "does not begin with `pkcs11:`"),
        ("\u{e9}\u{e9}\u{e9}\u{e9}:", "does not begin with `pkcs11:`"),
        ("pkcs11:object", "path attribute number 1 is not NAME=VALUE"),
        ("pkcs11:token=a;;object=b", "path attribute number 2"),
        ("pkcs11:token=a;", "path attribute number 2"),
        ("pkcs11:=a", "path attribute number 1"),
        ("pkcs11:object=a?module-name=b&", "query attribute number 2"),
        ("pkcs11:object=a;object=a", "attribute object twice"),
        ("pkcs11:object=a?module-name=a&module-name=b", "attribute module-name twice"),
        ("pkcs11:Object=a", "path attribute \"Object\""),
        ("pkcs11:x-y=a", "path attribute \"x-y\""),
        ("pkcs11:object=a?pin-sorce=/x", "query attribute \"pin-sorce\""),
        ("pkcs11:module-name=a", "it belongs in the query"),
        ("pkcs11:?object=a", "it belongs in the path"),
        ("pkcs11:object=a b", "object holds a character at byte 1"),
        ("pkcs11:object=a/b", "object holds a character at byte 1"),
        ("pkcs11:object=\u{e9}", "object holds a character at byte 0"),
        ("pkcs11:object=%", "object has a percent sign at byte 0"),
        ("pkcs11:object=%4", "object has a percent sign"),
        ("pkcs11:object=%+4", "object has a percent sign"),
        ("pkcs11:object=%FF", "object is not UTF-8"),
        ("pkcs11:slot-id=", "slot-id is \"\""),
        ("pkcs11:slot-id=+1", "slot-id is \"+1\""),
        ("pkcs11:slot-id=0x1", "slot-id is \"0x1\""),
        ("pkcs11:slot-id=18446744073709551616", "slot-id is"),
        ("pkcs11:library-version=256.1", "write it as MAJOR.MINOR"),
        ("pkcs11:library-version=1.", "write it as MAJOR.MINOR"),
        ("pkcs11:library-version=1.2.3", "write it as MAJOR.MINOR"),
        ("pkcs11:type=key", "it can be private"),
        ("pkcs11:?module-path=lib.so", "must be absolute"),
        ("pkcs11:?module-path=", "must be absolute"),
        ("pkcs11:?module-name=a/b", "without its folder"),
        ("pkcs11:?module-name=", "without its folder"),
        ("pkcs11:?pin-value=", "pin-value is empty"),
        ("pkcs11:?pin-source=", "path of no characters"),
        ("pkcs11:?pin-source=%7Ccat", "command"),
        ("pkcs11:?pin-source=file:pin", "without an absolute path"),
        ("pkcs11:?pin-source=file://host/pin", "another machine"),
        ("pkcs11:?pin-source=file:/a%20b", "pin-source holds a character"),
        ("pkcs11:?pin-source=vault:pin", "another scheme"),
        ("pkcs11:?pin-source=a&pin-value=b", "both pin-value and pin-source"),
    ] {
        refused(text, words);
    }
    refused(&format!("pkcs11:object={}", "a".repeat(20_000)), "at most 16384 are accepted");
    let long = parse(&format!("pkcs11:slot-id={}", "x".repeat(10_000))).unwrap_err().to_string();
    assert!(long.len() < 400, "{long}");
}
