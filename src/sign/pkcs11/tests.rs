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
