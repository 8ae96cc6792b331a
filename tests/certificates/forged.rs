//! Certificates that the right authority signed, with one thing wrong in each.

use tensorseal::key::{Curve, PrivateKey};
use tensorseal::time::UnixTime;
use tensorseal::x509::{
    Certificate, CertificateFault, EkuRule, MAX_CERTIFICATE, MAX_CHECKS, MAX_OTHERS, PathError, PathOptions,
    SignatureFault, validate,
};

use crate::common::x509::{
    Authority, BASIC_CONSTRAINTS, BIT_STRING, CODE_SIGNING, INTEGER, KEY_USAGE, NAME_CONSTRAINTS, SEQUENCE, SET,
    Template, UTF8, alt_names, attributes, basic_constraints, extended_key_usage, extension, key_usage, name, oid, pem,
    time, tlv, validity,
};

/// 2026-06-01.
const THEN: UnixTime = UnixTime(1_780_272_000);

const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const ANY: &str = "2.5.29.37.0";

fn read(der: &[u8]) -> Certificate {
    Certificate::from_der(der).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A chain of three in which any certificate can be changed before it is signed.
fn chain(
    root: impl FnOnce(&mut Template),
    inter: impl FnOnce(&mut Template),
    leaf: impl FnOnce(&mut Template),
) -> [Vec<u8>; 3] {
    let root = Authority::root_with("root", Curve::P256, root);
    let inter = root.intermediate_with("inter", inter);
    let (leaf, _) = inter.leaf_with("leaf", Curve::P256, leaf);
    [leaf, inter.certificate, root.certificate]
}

fn verdict_with(chain: &[Vec<u8>; 3], options: &PathOptions) -> Result<(), PathError> {
    let [leaf, inter, root] = chain.each_ref().map(|der| read(der));
    validate(&leaf, &[inter], &[root], options).map(|_| ())
}

fn verdict(chain: &[Vec<u8>; 3]) -> Result<(), PathError> {
    verdict_with(chain, &PathOptions::at(THEN))
}

/// A change to the certificate of this place.
type Change = fn(&mut Template);

fn changed(at: &str, change: Change) -> [Vec<u8>; 3] {
    let apply = |place: &'static str| {
        move |template: &mut Template| {
            if at == place {
                change(template);
            }
        }
    };
    chain(apply("root"), apply("inter"), apply("leaf"))
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from));
    text.replacen(from, to, 1)
}

#[test]
fn one_wrong_property_refuses_the_path() {
    assert_eq!(verdict(&chain(|_| {}, |_| {}, |_| {})), Ok(()));
    type Is = fn(&PathError) -> bool;
    let cases: &[(&str, &str, Change, Is)] = &[
        (
            "root inter leaf",
            "expired",
            |t| t.validity = validity("200101000000Z", "260531235959Z"),
            |e| matches!(e, PathError::Expired { .. }),
        ),
        (
            "root inter leaf",
            "not yet valid",
            |t| t.validity = validity("260602000000Z", "400101000000Z"),
            |e| matches!(e, PathError::NotYetValid { .. }),
        ),
        (
            "root inter leaf",
            "valid at no time",
            |t| t.validity = validity("400101000000Z", "200101000000Z"),
            |e| matches!(e, PathError::NotYetValid { .. }),
        ),
        (
            "root inter leaf",
            "unknown critical",
            |t| t.extensions.push(extension("1.2.3.4", true, &[5, 0])),
            |e| matches!(e, PathError::CriticalExtension { extension, .. } if extension == "1.2.3.4"),
        ),
        (
            "root inter leaf",
            "critical policies",
            |t| t.extensions.push(extension("2.5.29.32", true, &[0x30, 0])),
            |e| matches!(e, PathError::CriticalExtension { .. }),
        ),
        (
            "root inter leaf",
            "policy constraints",
            |t| t.extensions.push(extension("2.5.29.36", true, &[0x30, 0])),
            |e| matches!(e, PathError::CriticalExtension { .. }),
        ),
        (
            "root inter leaf",
            "inhibit any policy",
            |t| t.extensions.push(extension("2.5.29.54", true, &[2, 1, 0])),
            |e| matches!(e, PathError::CriticalExtension { .. }),
        ),
        (
            "leaf",
            "poison",
            |t| t.extensions.push(extension("1.3.6.1.4.1.11129.2.4.3", true, &[5, 0])),
            |e| matches!(e, PathError::CriticalExtension { .. }),
        ),
        ("root inter", "no CA", |t| t.set(basic_constraints(false, None)), |e| matches!(e, PathError::NotACa { .. })),
        (
            "root inter",
            "no basicConstraints",
            |t| t.remove(BASIC_CONSTRAINTS),
            |e| matches!(e, PathError::NotACa { .. }),
        ),
        (
            "root inter",
            "no keyCertSign",
            |t| t.set(key_usage(&[0, 6])),
            |e| matches!(e, PathError::NoKeyCertSign { .. }),
        ),
        (
            "root",
            "path length",
            |t| t.set(basic_constraints(true, Some(0))),
            |e| matches!(e, PathError::PathLength { limit: 0, found: 1, .. }),
        ),
        (
            "root inter",
            "for servers",
            |t| t.set(extended_key_usage(&[SERVER_AUTH])),
            |e| matches!(e, PathError::CaPurpose { .. }),
        ),
        (
            "leaf",
            "for servers",
            |t| t.set(extended_key_usage(&[SERVER_AUTH])),
            |e| matches!(e, PathError::LeafPurpose { .. }),
        ),
        (
            "leaf",
            "for anything, not for this",
            |t| t.set(extended_key_usage(&[ANY])),
            |e| matches!(e, PathError::LeafPurpose { .. }),
        ),
        ("leaf", "no usage", |t| t.remove(KEY_USAGE), |e| matches!(e, PathError::LeafUsage { .. })),
        ("leaf", "other usage", |t| t.set(key_usage(&[1, 2, 3, 4])), |e| matches!(e, PathError::LeafUsage { .. })),
        (
            "root inter leaf",
            "version 1",
            |t| {
                t.version.clear();
                t.extensions.clear();
            },
            |e| matches!(e, PathError::Version { version: 1, .. }),
        ),
        (
            "root inter leaf",
            "version 2",
            |t| {
                t.version = vec![0xa0, 3, 2, 1, 1];
                t.extensions.clear();
            },
            |e| matches!(e, PathError::Version { version: 2, .. }),
        ),
        ("inter leaf", "other issuer", |t| t.issuer = name("other"), |e| matches!(e, PathError::NoIssuer { .. })),
        (
            "inter",
            "another's key",
            |t| t.spki = Authority::root("x").key.public_key().to_spki_der(),
            |e| matches!(e, PathError::Signature { fault: SignatureFault::Invalid, .. }),
        ),
        (
            "root",
            "another's key",
            |t| t.spki = Authority::root("x").key.public_key().to_spki_der(),
            |e| matches!(e, PathError::Signature { fault: SignatureFault::Invalid, .. }),
        ),
        (
            "inter leaf",
            "its issuer in capitals",
            |t| t.issuer = t.issuer.to_ascii_uppercase(),
            |e| matches!(e, PathError::NoIssuer { .. }),
        ),
        ("root", "no root", |t| t.issuer = name("above"), |e| matches!(e, PathError::NotARoot { .. })),
        (
            "leaf",
            "Ed25519 key",
            |t| t.spki = tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&oid("1.3.101.112")]), &tlv(BIT_STRING, &[&[0; 33]])]),
            |e| e.to_string().contains("Ed25519 keys are not supported"),
        ),
        (
            "leaf",
            "hybrid point",
            |t| {
                let at = t.spki.len() - 65;
                t.spki[at] = 6 | (t.spki[t.spki.len() - 1] & 1);
            },
            |e| matches!(e, PathError::LeafKey { .. }),
        ),
        (
            "leaf",
            "point off the curve",
            |t| *t.spki.last_mut().unwrap() ^= 1,
            |e| matches!(e, PathError::LeafKey { .. }),
        ),
        (
            "inter leaf",
            "SHA-1",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.10045.4.1")]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| e.to_string().contains("ECDSA with SHA-1 is no longer safe"),
        ),
        (
            "inter leaf",
            "MD5",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.113549.1.1.4"), &[5, 0]]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| e.to_string().contains("RSA with MD5 is no longer safe"),
        ),
        (
            "root inter leaf",
            "another hash",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.10045.4.3.3")]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| matches!(e, PathError::Signature { fault: SignatureFault::Invalid, .. }),
        ),
        (
            "root inter leaf",
            "an algorithm of another key",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.113549.1.1.11"), &[5, 0]]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| matches!(e, PathError::Signature { fault: SignatureFault::OtherKey { .. }, .. }),
        ),
        (
            "root inter leaf",
            "parameters",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.10045.4.3.2"), &[5, 0]]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| matches!(e, PathError::Signature { fault: SignatureFault::Parameters { .. }, .. }),
        ),
        (
            "root inter leaf",
            "Ed25519 signature",
            |t| {
                t.algorithm = tlv(SEQUENCE, &[&oid("1.3.101.112")]);
                t.outer_algorithm = t.algorithm.clone();
            },
            |e| matches!(e, PathError::Signature { fault: SignatureFault::Unsupported { .. }, .. }),
        ),
    ];
    for (places, what, change, is) in cases {
        for place in places.split(' ') {
            match verdict(&changed(place, *change)) {
                Ok(()) => panic!("{place}: {what}: accepted"),
                Err(why) => {
                    assert!(is(&why), "{place}: {what}: {why:?}");
                    assert!(why.to_string().len() < 500 && !why.to_string().contains('\n'), "{why}");
                }
            }
        }
    }
}

#[test]
fn what_is_unusual_and_allowed() {
    let cases: &[(&str, &str, Change)] = &[
        ("root inter leaf", "unknown, not critical", |t| t.extensions.push(extension("1.2.3.4", false, &[5, 0]))),
        ("root inter leaf", "the first second", |t| t.validity = validity("260601000000Z", "260601000000Z")),
        ("root inter leaf", "GeneralizedTime", |t| t.validity = validity("20200101000000Z", "99991231235959Z")),
        ("root inter leaf", "for this among others", |t| t.set(extended_key_usage(&[SERVER_AUTH, CODE_SIGNING]))),
        ("root inter", "for anything", |t| t.set(extended_key_usage(&[ANY]))),
        ("root inter", "no keyUsage", |t| t.remove(KEY_USAGE)),
        ("leaf", "no keyUsage, but for signing code", |t| {
            t.remove(KEY_USAGE);
            t.set(extended_key_usage(&[CODE_SIGNING]));
        }),
        ("root", "path length", |t| t.set(basic_constraints(true, Some(1)))),
        ("inter", "path length", |t| t.set(basic_constraints(true, Some(0)))),
        ("leaf", "a CA", |t| t.set(basic_constraints(true, None))),
        ("leaf", "its issuer's name", |t| t.subject = name("inter")),
        ("leaf", "no basicConstraints", |t| t.remove(BASIC_CONSTRAINTS)),
        ("leaf", "no name but a critical other one", |t| {
            t.subject = name("");
            t.set(alt_names(true, &[(1, b"me@example.com")]));
        }),
        // As public roots have it.
        ("root inter leaf", "zeros behind the last bit of keyUsage", |t| {
            t.set(extension(KEY_USAGE, true, &[3, 3, 7, 0x84, 0]));
        }),
        ("root inter leaf", "serial 0", |t| t.serial = tlv(INTEGER, &[&[0]])),
        ("root inter leaf", "serial of 20 bytes", |t| t.serial = tlv(INTEGER, &[&[0], &[0xff; 20]])),
        ("root", "an old self-signature", |t| {
            t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.10045.4.1")]);
            t.outer_algorithm = t.algorithm.clone();
        }),
    ];
    for (places, what, change) in cases {
        for place in places.split(' ') {
            assert_eq!(verdict(&changed(place, *change)), Ok(()), "{place}: {what}");
        }
    }
    // Only if it is asked for.
    let any = PathOptions { eku: EkuRule::Any, ..PathOptions::at(THEN) };
    for place in ["root", "inter", "leaf"] {
        let chain = changed(place, |t| t.set(extended_key_usage(&[SERVER_AUTH])));
        let [leaf, inter, root] = chain.each_ref().map(|der| read(der));
        assert!(validate(&leaf, &[inter], &[root], &any).unwrap().eku_waived, "{place}");
    }
    let [leaf, inter, root] = changed("leaf", |_| {}).map(|der| read(&der));
    let (inter, root) = ([inter], [root]);
    let path = validate(&leaf, &inter, &root, &any).unwrap();
    assert!(!path.eku_waived && !path.leaf_is_ca && !path.leaf_looks_self_signed);
}

#[test]
fn what_has_no_certain_meaning_is_not_read() {
    fn twice(t: &mut Template) {
        t.extensions.push(t.extensions[0].clone());
    }
    type Is = fn(&CertificateFault) -> bool;
    let malformed: Is = |fault| matches!(fault, CertificateFault::Malformed { .. });
    let not_canonical: Is = |fault| matches!(fault, CertificateFault::NotCanonical { .. });
    let forbidden: Is = |fault| matches!(fault, CertificateFault::Forbidden { .. });
    let in_extension: Is = |fault| matches!(fault, CertificateFault::Extension { .. });
    let cases: &[(&str, Change, Is)] = &[
        (
            "two algorithms",
            |t| t.algorithm = tlv(SEQUENCE, &[&oid("1.2.840.10045.4.3.3")]),
            |fault| matches!(fault, CertificateFault::TwoAlgorithms { .. }),
        ),
        ("an extension twice", twice, forbidden),
        ("issuer's unique identifier", |t| t.unique_ids = vec![0x81, 2, 0, 1], forbidden),
        ("subject's unique identifier", |t| t.unique_ids = vec![0x82, 2, 0, 1], forbidden),
        ("negative serial", |t| t.serial = tlv(INTEGER, &[&[0x80]]), forbidden),
        ("serial of 21 bytes", |t| t.serial = tlv(INTEGER, &[&[1; 21]]), forbidden),
        ("serial of 22 bytes", |t| t.serial = tlv(INTEGER, &[&[1; 22]]), malformed),
        ("serial not minimal", |t| t.serial = tlv(INTEGER, &[&[0, 1]]), malformed),
        ("serial of no bytes", |t| t.serial = tlv(INTEGER, &[]), malformed),
        (
            "version 1 written out",
            |t| {
                t.version = vec![0xa0, 3, 2, 1, 0];
                t.extensions.clear();
            },
            not_canonical,
        ),
        ("version 4", |t| t.version = vec![0xa0, 3, 2, 1, 3], malformed),
        ("version 1 with extensions", |t| t.version.clear(), forbidden),
        ("no extension in the list", |t| t.extensions = vec![vec![]], forbidden),
        ("nameless issuer", |t| t.issuer = name(""), forbidden),
        ("nameless subject", |t| t.subject = name(""), forbidden),
        (
            "nameless subject, other name not critical",
            |t| {
                t.subject = name("");
                t.set(alt_names(false, &[(1, b"me@example.com")]));
            },
            forbidden,
        ),
        ("NUL in the subject", |t| t.subject = name("good\0evil"), forbidden),
        ("an empty part of a name", |t| t.subject = tlv(SEQUENCE, &[&tlv(SET, &[])]), forbidden),
        (
            "UTCTime without seconds",
            |t| t.validity = tlv(SEQUENCE, &[&tlv(0x17, &[b"2001010000Z"]), &time("400101000000Z")]),
            malformed,
        ),
        (
            "UTCTime with an offset",
            |t| t.validity = tlv(SEQUENCE, &[&tlv(0x17, &[b"200101000000+0100"]), &time("400101000000Z")]),
            malformed,
        ),
        (
            "GeneralizedTime with a fraction",
            |t| t.validity = tlv(SEQUENCE, &[&tlv(0x18, &[b"20200101000000.5Z"]), &time("400101000000Z")]),
            malformed,
        ),
        ("the 31st of June", |t| t.validity = validity("200631000000Z", "400101000000Z"), malformed),
        ("25 o'clock", |t| t.validity = validity("200101250000Z", "400101000000Z"), malformed),
        (
            "FALSE written out",
            |t| {
                let value = tlv(0x04, &[&[5, 0]]);
                t.extensions.push(tlv(SEQUENCE, &[&oid("1.2.3.4"), &[1, 1, 0], &value]));
            },
            not_canonical,
        ),
        (
            "TRUE that is not 0xff",
            |t| {
                let value = tlv(0x04, &[&[5, 0]]);
                t.extensions.push(tlv(SEQUENCE, &[&oid("1.2.3.4"), &[1, 1, 1], &value]));
            },
            malformed,
        ),
        (
            "parts of a set out of order",
            |t| {
                let part = |kind, text: &str| tlv(SEQUENCE, &[&oid(kind), &tlv(UTF8, &[text.as_bytes()])]);
                t.subject = tlv(SEQUENCE, &[&tlv(SET, &[&part("2.5.4.10", "b"), &part("2.5.4.3", "a")])]);
            },
            not_canonical,
        ),
        (
            "basicConstraints: FALSE written out",
            |t| t.set(extension(BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 0])),
            in_extension,
        ),
        ("basicConstraints: more behind", |t| t.set(extension(BASIC_CONSTRAINTS, true, &[0x30, 0, 0])), in_extension),
        (
            "basicConstraints: negative length",
            |t| t.set(extension(BASIC_CONSTRAINTS, true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff])),
            in_extension,
        ),
        ("basicConstraints: length of no CA", |t| t.set(basic_constraints(false, Some(0))), in_extension),
        ("keyUsage: nothing", |t| t.set(extension(KEY_USAGE, true, &[3, 1, 0])), in_extension),
        ("keyUsage: zeros", |t| t.set(extension(KEY_USAGE, true, &[3, 2, 0, 0])), in_extension),
        ("keyUsage: set bits that are unused", |t| t.set(extension(KEY_USAGE, true, &[3, 2, 7, 0xff])), in_extension),
        ("keyUsage: 8 unused bits", |t| t.set(extension(KEY_USAGE, true, &[3, 2, 8, 0x80])), in_extension),
        ("extendedKeyUsage: nothing", |t| t.set(extended_key_usage(&[])), in_extension),
        ("subjectAltName: nothing", |t| t.set(alt_names(false, &[])), in_extension),
        ("subjectAltName: NUL", |t| t.set(alt_names(false, &[(2, b"good.com\0.evil.com")])), in_extension),
        ("subjectAltName: a line of its own", |t| t.set(alt_names(false, &[(1, b"a@b\nINFO verified")])), in_extension),
        ("subjectAltName: not ASCII", |t| t.set(alt_names(false, &[(1, "ä@b".as_bytes())])), in_extension),
        ("subjectAltName: empty name", |t| t.set(alt_names(false, &[(6, b"")])), in_extension),
        ("subjectAltName: address of 5 bytes", |t| t.set(alt_names(false, &[(7, &[1; 5])])), in_extension),
        ("nameConstraints: nothing", |t| t.set(extension(NAME_CONSTRAINTS, true, &[0x30, 0])), in_extension),
        (
            "nameConstraints: a minimum",
            |t| {
                let tree = tlv(SEQUENCE, &[&tlv(0x82, &[b"a.b"]), &[0x80, 1, 1]]);
                t.set(extension(NAME_CONSTRAINTS, true, &tlv(SEQUENCE, &[&tlv(0xa0, &[&tree])])));
            },
            in_extension,
        ),
        (
            "nameConstraints: a mask with a hole",
            |t| {
                let tree = tlv(SEQUENCE, &[&tlv(0x87, &[&[10, 0, 0, 0, 255, 0, 255, 0]])]);
                t.set(extension(NAME_CONSTRAINTS, true, &tlv(SEQUENCE, &[&tlv(0xa0, &[&tree])])));
            },
            in_extension,
        ),
    ];
    for (what, change, is) in cases {
        let [leaf, ..] = changed("leaf", *change);
        match Certificate::from_der(&leaf) {
            Ok(_) => panic!("{what}: read"),
            Err(fault) => {
                assert!(is(&fault), "{what}: {fault:?}");
                assert!(fault.to_string().len() < 500 && !fault.to_string().contains('\n'), "{fault}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_one_certificate() {
    let [leaf, ..] = chain(|_| {}, |_| {}, |_| {});
    read(&leaf);
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let template = Authority::root("r").template("l", &key);
    let (tbs, signature) = (template.tbs(), key.sign(b"x").unwrap());
    let bits =
        |unused: u8| tlv(SEQUENCE, &[&tbs, &template.outer_algorithm, &tlv(BIT_STRING, &[&[unused], &signature])]);
    let mut indefinite = vec![0x30, 0x80];
    indefinite.extend_from_slice(&leaf[4..]);
    indefinite.extend([0, 0]);
    let mut long_form = vec![0x30, 0x83, 0];
    long_form.extend_from_slice(&leaf[2..]);
    let mut huge = vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff];
    huge.extend_from_slice(&leaf[4..]);
    let nested: Vec<u8> = (0..MAX_CERTIFICATE / 2).flat_map(|_| [0x30, 0x80]).collect();
    let deep = (0..5000).fold(vec![5, 0], |inner, _| tlv(SEQUENCE, &[&inner]));
    for (what, bytes) in [
        ("nothing", vec![]),
        ("a byte behind", [&leaf[..], &[0]].concat()),
        ("twice", [&leaf[..], &leaf].concat()),
        ("a byte less", leaf[..leaf.len() - 1].to_vec()),
        ("unused bits in the signature", bits(1)),
        ("indefinite length", indefinite),
        ("a long form of the length", long_form),
        ("a length of gigabytes", huge),
        ("deep, indefinite", nested),
        ("deep", deep),
        ("too long", vec![0x30; MAX_CERTIFICATE + 1]),
        ("PEM", pem(&[&leaf]).into_bytes()),
    ] {
        assert!(Certificate::from_der(&bytes).is_err(), "{what}");
    }
    read(&bits(0));
    // Many of everything.
    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|_| (2_u8, &b"a.example.com"[..])).collect();
        let [leaf, ..] = chain(|_| {}, |_| {}, |t| t.set(alt_names(false, &names)));
        leaf
    };
    assert_eq!(read(&many(4000)).names().len(), 4000);
    assert!(matches!(Certificate::from_der(&many(5000)), Err(CertificateFault::TooLong { .. })));
}

#[test]
fn no_byte_of_a_chain_can_be_changed() {
    let good = chain(|_| {}, |_| {}, |_| {});
    let [leaf, inter, root] = good.each_ref().map(|der| read(der));
    let options = PathOptions::at(THEN);
    let (others, roots) = ([inter], [root]);
    validate(&leaf, &others, &roots, &options).unwrap();
    let mut refused = [0; 2];
    for (at, der) in good.iter().enumerate().take(2) {
        for byte in 0..der.len() {
            for bit in [1_u8, 0x80] {
                let mut der = der.clone();
                der[byte] ^= bit;
                let Ok(changed) = Certificate::from_der(&der) else { continue };
                let found = if at == 0 {
                    validate(&changed, &others, &roots, &options).map(|_| ())
                } else {
                    validate(&leaf, &[changed], &roots, &options).map(|_| ())
                };
                assert!(found.is_err(), "byte {byte} of certificate {at}");
                refused[at] += 1;
            }
        }
    }
    // Not all of them fail already at reading.
    assert!(refused.iter().all(|count| *count > 200), "{refused:?}");
}

#[test]
fn order_copies_and_strangers_do_not_matter() {
    let root = Authority::root("root");
    let (mut cas, mut certificates) = (vec![root], vec![]);
    for depth in 0..4 {
        let next = cas[depth].intermediate(&format!("inter {depth}"));
        certificates.push(read(&next.certificate));
        cas.push(next);
    }
    let (leaf, _) = cas[4].leaf("leaf");
    let (leaf, root) = (read(&leaf), read(&cas[0].certificate));
    let options = PathOptions::at(THEN);
    let mut others = certificates.clone();
    others.reverse();
    others.extend(certificates.iter().cloned());
    others.push(leaf.clone());
    others.push(root.clone());
    others.push(read(&Authority::root("inter 3").certificate));
    others.push(read(&Authority::root("root").certificate));
    let roots = [read(&Authority::root("root").certificate), root.clone()];
    let path = validate(&leaf, &others, &roots, &options).unwrap();
    assert_eq!(path.root, &root);
    certificates.reverse();
    assert_eq!(path.intermediates, certificates.iter().collect::<Vec<_>>());
    assert_eq!(path.certificates().count(), 6);
    // One missing anywhere; given among the roots it serves all the same, and is no root.
    for missing in 0..4 {
        let others: Vec<_> = certificates.iter().filter(|one| **one != certificates[missing]).cloned().collect();
        let why = validate(&leaf, &others, &roots[1..], &options).unwrap_err();
        assert!(matches!(why, PathError::NoIssuer { .. }), "{why}");
        let both = [root.clone(), certificates[missing].clone()];
        assert!(validate(&leaf, &others, &both, &options).is_ok());
        let why = validate(&leaf, &others, &both[1..], &options).unwrap_err();
        assert!(matches!(why, PathError::NotARoot { .. } | PathError::NoIssuer { .. }), "{why}");
    }
}

#[test]
fn work_is_bounded() {
    let options = PathOptions::at(THEN);
    // Every one could have issued every other.
    let root = Authority::root("same");
    let mut last = Authority::root("same");
    let mut others = vec![];
    let sharing = PrivateKey::generate(Curve::P256).unwrap();
    let mut template = last.template("same", &sharing);
    template.extensions = vec![basic_constraints(true, None), key_usage(&[5])];
    for serial in 0..MAX_OTHERS {
        template.serial = tlv(INTEGER, &[&[1, serial as u8]]);
        others.push(read(&template.signed(&sharing)));
    }
    last.key = sharing;
    let leaf = read(&last.leaf("leaf").0);
    let roots = [read(&root.certificate)];
    let why = validate(&leaf, &others, &roots, &options).unwrap_err();
    assert_eq!(why, PathError::TooMuchWork { limit: MAX_CHECKS });
    others.push(others[0].clone());
    let why = validate(&leaf, &others, &roots, &options).unwrap_err();
    assert_eq!(why, PathError::TooMany { found: MAX_OTHERS + 1, limit: MAX_OTHERS });
    // As long as a path may be, and longer.
    for (length, good) in [(8, true), (9, false)] {
        let mut cas = vec![Authority::root("root")];
        let mut others = vec![];
        for depth in 0..length {
            cas.push(cas[depth].intermediate(&format!("inter {depth}")));
            others.push(read(&cas[depth + 1].certificate));
        }
        let leaf = read(&cas[length].leaf("leaf").0);
        let found = validate(&leaf, &others, &[read(&cas[0].certificate)], &options).map(|_| ());
        match found {
            Ok(()) => assert!(good),
            Err(why) => assert!(!good && matches!(why, PathError::TooLong { .. }), "{why}"),
        }
    }
}

#[test]
fn names_that_a_ca_may_not_vouch_for() {
    let constraint = |permitted: bool, tag: u8, content: &[u8]| {
        let tree = tlv(SEQUENCE, &[&tlv(tag, &[content])]);
        extension(NAME_CONSTRAINTS, true, &tlv(SEQUENCE, &[&tlv(if permitted { 0xa0 } else { 0xa1 }, &[&tree])]))
    };
    let dn = attributes(&[("2.5.4.10", "One")]);
    let subject = |organisation: &str| attributes(&[("2.5.4.10", organisation), ("2.5.4.3", "leaf")]);
    let email = |who: &str| alt_names(false, &[(1, who.as_bytes())]);
    let run = |place: &str, constraint: Vec<u8>, change: &dyn Fn(&mut Template)| {
        let set = |at: &'static str| {
            let constraint = constraint.clone();
            move |template: &mut Template| {
                if at == place {
                    template.set(constraint);
                }
            }
        };
        verdict(&chain(
            set("root"),
            |t| {
                t.subject = subject("One");
                set("inter")(t);
            },
            change,
        ))
    };
    for place in ["root", "inter"] {
        for (what, constraint, change, good) in [
            (
                "permitted address",
                constraint(true, 0x81, b"example.com"),
                &(|t: &mut Template| t.set(email("a@example.com"))) as &dyn Fn(&mut Template),
                true,
            ),
            ("other address", constraint(true, 0x81, b"example.com"), &|t| t.set(email("a@evil.com")), false),
            ("no address", constraint(true, 0x81, b"example.com"), &|_| {}, true),
            (
                "address in the subject",
                constraint(true, 0x81, b"example.com"),
                &|t| t.subject = attributes(&[("1.2.840.113549.1.9.1", "a@evil.com")]),
                false,
            ),
            ("excluded address", constraint(false, 0x81, b"evil.com"), &|t| t.set(email("a@EVIL.com")), false),
            ("not excluded", constraint(false, 0x81, b"evil.com"), &|t| t.set(email("a@example.com")), true),
            ("a wildcard", constraint(false, 0x82, b"evil.com"), &|t| t.set(alt_names(false, &[(2, b"*.com")])), false),
            ("permitted organisation", constraint(true, 0xa4, &dn), &|t| t.subject = subject("One"), true),
            ("other organisation", constraint(true, 0xa4, &dn), &|t| t.subject = subject("Two"), false),
            (
                "excluded organisation",
                constraint(false, 0xa4, &attributes(&[("2.5.4.10", "Evil")])),
                &|t| t.subject = subject("EVIL"),
                false,
            ),
        ] {
            match run(place, constraint, change) {
                Ok(()) => assert!(good, "{place}: {what}"),
                Err(why) => {
                    assert!(!good && matches!(why, PathError::NameConstraint { .. }), "{place}: {what}: {why}");
                }
            }
        }
    }
}

/// A host that no name can have would exclude nothing, in silence.
#[test]
fn constraints_on_hosts_that_cannot_be() {
    const MAIL: u8 = 0x81;
    const DNS: u8 = 0x82;
    const URI: u8 = 0x86;
    for (tag, host, good) in [
        (DNS, "evil.com", true),
        (DNS, ".evil.com", true),
        (DNS, "", true),
        (DNS, "*.evil.com", false),
        (DNS, "evil.com.", false),
        (DNS, "evil..com", false),
        (DNS, "evil.com/", false),
        (URI, "evil.com", true),
        (URI, "https://evil.com", false),
        (MAIL, "evil.com", true),
        (MAIL, ".evil.com", true),
        (MAIL, "a@evil.com", true),
        (MAIL, "a@", false),
        (MAIL, "@evil.com", false),
        (MAIL, "a@.evil.com", false),
        (MAIL, "*@*", false),
    ] {
        let trees = tlv(0xa1, &[&tlv(SEQUENCE, &[&tlv(tag, &[host.as_bytes()])])]);
        let constraints = extension(NAME_CONSTRAINTS, true, &tlv(SEQUENCE, &[&trees]));
        let [_, inter, _] = chain(|_| {}, |template| template.set(constraints), |_| {});
        let found = Certificate::from_der(&inter).map_err(|fault| fault.to_string());
        match found {
            Ok(_) => assert!(good, "{tag:x} {host}"),
            Err(why) => assert!(!good && why.contains("a host in it is none"), "{tag:x} {host}: {why}"),
        }
    }
}

#[test]
fn pem_files() {
    let [leaf, inter, _] = chain(|_| {}, |_| {}, |_| {});
    let text = pem(&[&leaf, &inter]);
    let both = vec![read(&leaf), read(&inter)];
    let messy = format!(
        "subject=leaf\r\n{}\n# the end",
        replaced(&text, "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\nissuer=\n")
    );
    for text in [text.clone(), text.replace('\n', "\r\n"), messy] {
        assert_eq!(Certificate::all_from_pem(text.as_bytes()).unwrap(), both);
    }
    let key = PrivateKey::generate(Curve::P256).unwrap().to_pem(None).unwrap().to_string();
    for (what, text) in [
        ("PRIVATE KEY", format!("{text}{key}")),
        (
            "TRUSTED CERTIFICATE",
            text.replace("CERTIFICATE--", "TRUSTED CERTIFICATE--").replace("BEGIN CERT", "BEGIN TRUSTED CERT"),
        ),
        ("X509 CRL", text.replace("CERTIFICATE--", "X509 CRL--")),
    ] {
        let fault = Certificate::all_from_pem(text.as_bytes()).unwrap_err();
        assert!(matches!(&fault, CertificateFault::NotACertificate { found, .. } if found == what), "{what}: {fault}");
    }
    assert_eq!(Certificate::all_from_pem(&leaf).unwrap_err(), CertificateFault::NotPem);
    let broken = [&leaf[..leaf.len() - 1], &[]].concat();
    let fault = Certificate::all_from_pem(pem(&[&inter, &broken]).as_bytes()).unwrap_err();
    assert!(matches!(fault, CertificateFault::InFile { number: 2, .. }), "{fault}");
    let fault = Certificate::all_from_pem(pem(&[&[0x30, 0][..]; 1025]).as_bytes()).unwrap_err();
    assert!(matches!(fault, CertificateFault::TooMany { found: 1025, .. }), "{fault}");
}

/// The parser sorts the members of a SET by insertion: thousands of them, in falling order, would take it seconds.
#[test]
fn one_part_of_a_name_cannot_keep_the_parser_busy() {
    let part = |count: u16| {
        let one = |n: u16| tlv(SEQUENCE, &[&oid("2.5.4.3"), &tlv(UTF8, &[format!("{n:04x}").as_bytes()])]);
        let members: Vec<_> = (0..count).rev().map(one).collect();
        tlv(SEQUENCE, &[&tlv(SET, &[&members.concat()])])
    };
    let read = |change: &dyn Fn(&mut Template)| {
        let [leaf, ..] = chain(|_| {}, |_| {}, change);
        let started = std::time::Instant::now();
        let fault = Certificate::from_der(&leaf).unwrap_err();
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
        fault.to_string()
    };
    let directory = |count| alt_names(true, &[(0x24, &part(count))]);
    assert!(read(&|t| t.subject = part(3500)).contains("more members than anybody needs"));
    assert!(read(&|t| t.set(directory(3500))).contains("more members than anybody needs"));
    assert!(read(&|t| t.subject = part(33)).contains("more members than anybody needs"));
    // Few enough, and not in order.
    assert!(read(&|t| t.subject = part(32)).contains("not written as DER requires"));
}

#[test]
fn the_failure_that_led_furthest_is_told() {
    let options = PathOptions::at(THEN);
    let root = Authority::root("root");
    let stranger = Authority::root("root").intermediate("inter");
    let expired = root.intermediate_with("inter", |t| t.validity = validity("200101000000Z", "210101000000Z"));
    let (leaf, _) = expired.leaf("leaf");
    let (leaf, stranger, expired) = (read(&leaf), read(&stranger.certificate), read(&expired.certificate));
    let roots = [read(&root.certificate)];
    let told = |others: &[Certificate]| validate(&leaf, others, &roots, &options).unwrap_err();
    assert!(matches!(told(&[]), PathError::NoIssuer { .. }));
    assert!(matches!(told(std::slice::from_ref(&stranger)), PathError::Signature { .. }));
    // The one that did issue the leaf is at fault, whichever comes first.
    assert!(matches!(told(&[stranger.clone(), expired.clone()]), PathError::Expired { .. }));
    assert!(matches!(told(&[expired, stranger]), PathError::Expired { .. }));
}
