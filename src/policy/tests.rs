//! What is a policy, what is none, and where the fault is.

use std::path::Path;

use super::*;
use crate::error::Error;
use crate::key::{Curve, PrivateKey};
use crate::verify::VerifyOptions;

const KEYS: [&str; 2] = [
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPMS2U+ZqLmcGwRnlI1gD2AucFSyJ\nvqJj6ppqEyx0cMICQ30wWpOSy3LcCz4yMhOx30giaW1NZWEMWI0zqZrkQQ==\n-----END PUBLIC KEY-----\n",
    "",
];

/// Two signers, one of each list, and every key of a rule.
fn whole() -> String {
    let second = PrivateKey::generate(Curve::P384).unwrap().public_key().to_pem();
    let zeros = "0".repeat(64);
    format!(
        "version = 1
[signers.a]
key = '''{}'''
[signers.b]
key = '''{second}'''
[deny]
keys = ['{zeros}']
certificates = ['sha256:{zeros}']
identities = ['mallory@example.com']
roots = ['sha256:{zeros}']
[[rule]]
path = '/models/*'
any_of = ['a', 'b']
roots = ['sha256:{zeros}']
signed_after = 2026-01-01T00:00:00Z
require = {{ strict = true, digests = 'all', device = 'cpu', timestamp = true }}
[[rule]]
path = '/models/**'
all_of = ['a', 'b']
",
        KEYS[0]
    )
}

fn read(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text, Path::new("/nowhere"))
}

#[track_caller]
fn fails(from: &str, to: &str, words: &str) {
    let (text, before) = (whole().replacen(from, to, 1), whole());
    assert!(before.contains(from), "{from} is not in the text");
    let error = read(&text).expect_err(to);
    let said = error.to_string();
    assert!(said.contains(words), "{from:?} -> {to:?}: {said}");
    assert!(error.at.is_some() || words.contains("rule"), "{from:?} -> {to:?}: no place: {said}");
}

#[test]
fn what_is_read_is_what_was_written() {
    let text = whole();
    let policy = read(&text).unwrap();
    assert_eq!(policy, read(&text).unwrap());
    assert!(policy.warnings().is_empty());
    let [first, second] = &policy.rules[..] else { panic!("two rules") };
    assert_eq!((first.name.number, first.name.path.as_str()), (1, "/models/*"));
    assert_eq!(text.lines().nth(first.name.line - 1), Some("[[rule]]"));
    assert_eq!(text.lines().nth(second.name.line - 1), Some("[[rule]]"));
    assert_ne!(first.name.line, second.name.line);
    // `date -u -d 2026-01-01 +%s`
    assert_eq!(first.signed_after, Some(UnixTime(1_767_225_600)));
    assert_eq!(first.signers, Signers::Any(vec![0, 1]));
    assert_eq!(second.signers, Signers::All(vec![0, 1]));
    assert_eq!(second.require, Require::default());
    assert_eq!(
        first.require,
        Require {
            strict: true,
            digests: Some(RequiredDigests::All),
            device: Some(RequiredDevice::Cpu),
            timestamp: true
        }
    );
}

#[test]
fn unknown_keys_are_errors_at_every_level() {
    for (table, words) in [
        ("version = 1\n", "unknown field `extra`"),
        ("[signers.a]\n", "unknown field `extra`"),
        ("[deny]\n", "unknown field `extra`"),
        ("[[rule]]\n", "unknown field `extra`"),
    ] {
        fails(table, &format!("{table}extra = 1\n"), words);
    }
    fails("{ strict = true", "{ extra = 1, strict = true", "unknown field `extra`");
    for signer in ["certificate = { roots = ['r'], extra = 1 }", "sigstore = { identity = 'i', extra = 1 }"] {
        let error = read(&format!("version = 1\n[signers.s]\n{signer}\n")).unwrap_err();
        assert!(error.to_string().contains("line 3") && error.to_string().contains("unknown field `extra`"), "{error}");
    }
    fails("[signers.a]", "[signer.a]", "unknown field `signer`");
    fails("[[rule]]", "[[rules]]", "unknown field `rules`");
}

#[test]
fn values_of_other_types_are_errors() {
    for (from, to) in [
        ("version = 1", "version = '1'"),
        ("version = 1", "version = 1.0"),
        ("version = 1", "version = true"),
        ("[signers.a]\nkey = '''", "[signers.a]\nkey = 1 # '''"),
        ("keys = ['", "keys = '"),
        ("['mallory@example.com']", "'mallory@example.com'"),
        ("['mallory@example.com']", "[1]"),
        ("path = '/models/*'", "path = ['/models/*']"),
        ("any_of = ['a', 'b']", "any_of = 'a'"),
        ("any_of = ['a', 'b']", "any_of = [['a']]"),
        ("signed_after = 2026-01-01T00:00:00Z", "signed_after = '2026-01-01T00:00:00Z'"),
        ("signed_after = 2026-01-01T00:00:00Z", "signed_after = 1767225600"),
        ("strict = true", "strict = 'yes'"),
        ("strict = true", "strict = 1"),
        ("timestamp = true", "timestamp = 2026-01-01"),
        ("digests = 'all'", "digests = ['all']"),
        ("device = 'cpu'", "device = 0"),
    ] {
        let text = whole().replacen(from, to, 1);
        assert_ne!(text, whole(), "{from}");
        let error = read(&text).expect_err(to);
        assert!(matches!(error.fault, PolicyFault::Toml(_)) && error.at.is_some(), "{to}: {error}");
    }
}

#[test]
fn every_field_has_to_make_sense() {
    let zeros = "0".repeat(64);
    for (from, to, words) in [
        ("version = 1", "version = 2", "version 2 of policies is not known"),
        ("version = 1", "version = -1", "version -1"),
        ("version = 1\n", "", "missing field `version`"),
        ("path = '/models/*'\n", "", "missing field `path`"),
        ("any_of = ['a', 'b']\n", "", "rule 1 must have exactly one of any_of and all_of"),
        ("any_of = ['a', 'b']\n", "any_of = ['a']\nall_of = ['b']\n", "exactly one of any_of and all_of"),
        ("any_of = ['a', 'b']", "any_of = []", "any_of is empty"),
        ("all_of = ['a', 'b']", "all_of = []", "all_of is empty"),
        ("any_of = ['a', 'b']", "any_of = ['a', 'a']", "\"a\" stands twice in one list"),
        ("any_of = ['a', 'b']", "any_of = ['a', 'c']", "there is no signer \"c\"; there are \"a\", \"b\""),
        ("any_of = ['a', 'b']", "any_of = ['A']", "there is no signer \"A\""),
        ("'/models/*'", "'models/*'", "it is relative"),
        ("'/models/*'", "'/models/'", "empty component"),
        ("'/models/*'", "'/models/../x'", ". or .."),
        ("'/models/*'", "'/models/[ab]'", "'[' has no meaning in patterns"),
        ("'/models/*'", "''", "it is empty"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "is no moment"),
        ("2026-01-01T00:00:00Z", "2026-01-01", "is no moment"),
        ("2026-01-01T00:00:00Z", "00:00:00", "is no moment"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "is no moment"),
        ("2026-01-01T00:00:00Z", "2026-02-30T00:00:00Z", ""),
        ("digests = 'all'", "digests = 'sha256'", "the choice of digests \"sha256\" is not known"),
        ("device = 'cpu'", "device = 'gpu'", "the device \"gpu\" is not known"),
        (
            "digests = 'all', device = 'cpu'",
            "digests = 'oms', device = 'cuda'",
            "a GPU computes BLAKE3 and no other digest",
        ),
        ("keys = [", "keys = [] # [", "deny.keys is empty"),
        ("certificates = [", "certificates = [] # [", "deny.certificates is empty"),
        ("['mallory@example.com']", "[]", "deny.identities is empty"),
        ("['mallory@example.com']", "['']", "an identity is empty"),
        ("keys = ['0", "keys = ['", "is no fingerprint of a key"),
        ("keys = ['0", "keys = ['g", "is no fingerprint of a key"),
        ("certificates = ['sha256:0", "certificates = ['sha512:0", "is no fingerprint of a certificate"),
        ("[signers.a]", "[signers.'']", "a signer's name is empty"),
        ("[signers.a]", "[signers.c]", "there is no signer \"a\""),
        ("[signers.b]", "[signers.a]", ""),
        ("key = '''-----BEGIN PUBLIC", "key = '''-----BEGIN PRIVATE", ""),
        ("MFkwEwYHKo", "MFkwEwYHKp", ""),
    ] {
        fails(from, to, words);
    }
    fails(
        &format!("roots = ['sha256:{zeros}']\n[[rule]]"),
        &format!("roots = ['{zeros}']\n[[rule]]"),
        "is no root digest",
    );
    fails(&format!("roots = ['sha256:{zeros}']\n[[rule]]"), "roots = []\n[[rule]]", "deny.roots is empty");
    let rules_gone = whole().split("[[rule]]").next().unwrap().to_owned();
    assert!(read(&rules_gone).unwrap_err().to_string().contains("the list of rules is empty"));
    let nothing_denied =
        whole().split("[deny]").next().unwrap().to_owned() + "[deny]\n[[rule]]\npath = '/m'\nany_of = ['a']\n";
    assert!(read(&nothing_denied).unwrap_err().to_string().contains("deny is empty"));
    assert!(matches!(read(&"#".repeat((1 << 20) + 1)).unwrap_err().fault, PolicyFault::Long { .. }));
    assert!(read(&format!("a = {}", "[".repeat(100_000))).is_err(), "depth");
}

#[test]
fn a_fault_is_said_with_its_place() {
    let error = read(&whole().replacen("any_of = ['a', 'b']", "any_of = ['a', 'ü', 'c']", 1)).unwrap_err();
    let at = error.at.unwrap();
    let line = whole().lines().position(|line| line.starts_with("any_of")).unwrap() + 1;
    assert_eq!((at.line, at.column), (line, 16));
    // Columns are characters.
    let error = read("version = 1\n'ü' = 1").unwrap_err();
    assert_eq!(error.at.unwrap().line, 2);
    let long = read(&format!("version = 1\n'{}\\n' = 1", "x".repeat(10_000))).unwrap_err().to_string();
    assert!(long.len() < 600 && !long.contains('\n'), "{long}");
}

#[test]
fn moments_are_those_of_the_calendar() {
    // As `date -u -d TEXT +%s` prints them.
    for (text, seconds) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", -1),
        ("2000-02-29T12:00:00Z", 951_825_600),
        ("2024-03-01T00:00:00+02:30", 1_709_242_200),
        ("2026-12-31 23:59:59-08:00", 1_798_790_399),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
    ] {
        let policy = read(&whole().replacen("2026-01-01T00:00:00Z", text, 1)).unwrap();
        assert_eq!(policy.rules[0].signed_after, Some(UnixTime(seconds)), "{text}");
    }
}

#[test]
fn fingerprints_are_read_as_they_are_printed() {
    let plain = "0123456789abcdef".repeat(4);
    let colons: Vec<String> =
        plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    let with =
        |text: &str| whole().replacen(&format!("keys = ['{}']", "0".repeat(64)), &format!("keys = ['{text}']"), 1);
    for text in [plain.clone(), plain.to_uppercase(), format!("sha256:{plain}"), colons.join(":")] {
        assert_eq!(read(&with(&text)).unwrap().deny.keys, [plain.as_str()], "{text}");
    }
    for text in [colons.join(" "), format!("SHA256:{plain}"), format!("{plain}:"), plain[1..].to_owned(), String::new()]
    {
        assert!(read(&with(&text)).is_err(), "{text}");
    }
}

#[test]
fn a_key_file_is_looked_for_beside_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    fs::write(folder.path().join("keys/a.pub"), KEYS[0]).unwrap();
    let text = "version = 1\n[signers.a]\nkey = 'keys/a.pub'\n[[rule]]\npath = '/m'\nany_of = ['a']\n";
    assert!(Policy::parse(text, folder.path()).is_ok());
    fs::write(folder.path().join("p.toml"), text).unwrap();
    assert_eq!(Policy::read(&folder.path().join("p.toml")).unwrap().path(), Some(&*folder.path().join("p.toml")));
    let error = Policy::parse(text, &folder.path().join("keys")).unwrap_err();
    assert!(matches!(error.fault, PolicyFault::File { .. }) && error.at.unwrap().line == 3, "{error}");
    assert!(matches!(Policy::read(folder.path()), Err(Error::Policy(_))));
}

#[test]
fn checks_of_rules_and_callers_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().canonicalize().unwrap();
    let rule = |require: &str| format!("[[rule]]\npath = '/**'\nany_of = ['a']\nrequire = {{ {require} }}\n");
    let policy = |rules: &[&str]| {
        let rules: String = rules.iter().map(|require| rule(require)).collect();
        read(&format!("version = 1\n[signers.a]\nkey = '''{}'''\n{rules}", KEYS[0])).unwrap()
    };
    for (rules, digests, strict) in [
        (&["strict = false"][..], None, false),
        (&["digests = 'oms'", "strict = true"], Some(RequiredDigests::Oms), true),
        (&["digests = 'oms'", "digests = 'blake3'"], Some(RequiredDigests::All), false),
        (&["digests = 'blake3'", "digests = 'blake3'"], Some(RequiredDigests::Blake3), false),
        (&["digests = 'all'", "digests = 'blake3'"], Some(RequiredDigests::All), false),
        (&["device = 'cuda'"], Some(RequiredDigests::Blake3), false),
        (&["device = 'wgpu', digests = 'all'"], Some(RequiredDigests::All), false),
    ] {
        let policy = policy(rules);
        let requirements = policy.for_model(&model).unwrap();
        assert_eq!((requirements.digests(), requirements.strict()), (digests, strict), "{rules:?}");
    }
    let cuda = policy(&["device = 'cuda'"]);
    let requirements = cuda.for_model(&model).unwrap();
    let options = VerifyOptions::default();
    assert!(requirements.tighten(&options, &DeviceKind::Cuda(3)).is_ok());
    for device in [DeviceKind::Cpu, DeviceKind::Wgpu(None)] {
        assert!(matches!(requirements.tighten(&options, &device), Err(Refusal::Laxer { .. })), "{device}");
    }
}
