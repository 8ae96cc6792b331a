use super::*;

#[test]
fn the_embedded_roots_are_of_the_pinned_crate() {
    let manifest = include_str!("../../Cargo.toml");
    let (name, version) = EMBEDDED_IN;
    assert!(
        manifest.contains(&format!("{name} = {{ version = \"={version}\"")),
        "{name} {version}: change EMBEDDED_AT too"
    );
    for instance in [Instance::PublicGood, Instance::Staging] {
        let root = TrustRoot::embedded(instance).unwrap();
        assert!(root.signing_config().is_none());
        assert_eq!(root.source(), &TrustSource::Embedded { instance, of: EMBEDDED_AT });
        let all = &root.root;
        assert!(!all.tlogs.is_empty() && !all.ctlogs.is_empty() && !all.certificate_authorities.is_empty());
        assert!(root.source().to_string().ends_with("sigstore-trust-root 0.15.1 (2026-10-23)"), "{}", root.source());
    }
}

fn config(root: &str) -> String {
    format!(r#"{{"mediaType":"{CONFIG_TYPE}","trustedRoot":{root},"signingConfig":{{"mediaType":"x"}}}}"#)
}

#[test]
fn a_root_is_read_bare_or_inside_a_configuration() {
    let bare = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    let root = TrustRoot::parse(bare.as_bytes()).unwrap();
    assert_eq!((root.source(), root.signing_config()), (&TrustSource::Given, None));
    assert!(TrustRoot::parse(format!("\u{feff}{bare}").as_bytes()).is_ok(), "as some editors save it");
    let inside = TrustRoot::parse(config(bare).as_bytes()).unwrap();
    assert_eq!(inside.signing_config(), Some(r#"{"mediaType":"x"}"#));
    assert_eq!(inside.root.tlogs.len(), root.root.tlogs.len());
}

#[test]
fn whatever_else_is_refused() {
    let bare = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    let twice = bare.replacen('{', r#"{"tlogs":[],"#, 1);
    let long = " ".repeat(usize::try_from(LONGEST).unwrap() + 1);
    for (text, words) in [
        ("", "malformed"),
        ("[]", "malformed"),
        ("{}", "mediaType"),
        (&*twice, "twice"),
        (&*bare.replace("trustedroot", "trustedroof"), "its mediaType is"),
        (&*config(&bare.replace("trustedroot", "trustedroof")), "its trustedRoot has the mediaType"),
        (&*config("{}"), "missing field"),
        (&*config("null"), "holds no trustedRoot"),
        (&*bare.replacen("mediaType", "trustedRoot\":{},\"mediaType", 1), "its mediaType is"),
        (&*bare.replacen("rawBytes\": \"M", "rawBytes\": \"!", 1), "trust root"),
        (&*format!("{bare}{bare}"), "malformed"),
        (&*long, "more than"),
    ] {
        let error = TrustRoot::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_file_is_named_and_has_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.json");
    std::fs::write(&path, sigstore_trust_root::SIGSTORE_STAGING_TRUSTED_ROOT).unwrap();
    assert_eq!(TrustRoot::read(&path).unwrap().source(), &TrustSource::File(path.clone()));
    std::fs::write(&path, "{}").unwrap();
    assert!(TrustRoot::read(&path).unwrap_err().to_string().contains("root.json"));
    assert!(matches!(TrustRoot::read(folder.path()), Err(TrustError::Io { .. })));
    assert!(matches!(TrustRoot::read(&folder.path().join("none")), Err(TrustError::Io { .. })));
}
