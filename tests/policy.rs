//! `verify --policy`, through the command line: what is accepted, and that each refusal names its fault.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Run, seal, write};

/// A folder with a model `m`, keys `team`, `security` and `other`, and a signature by each beside the model.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (name, text) in [("m/a", "A"), ("m/b", "BBBBB"), ("m/d/c", "C")] {
            write(place.path().join(name), text);
        }
        for name in ["team", "security", "other"] {
            seal(place.folder.path(), &format!("keygen --out {name}.pem")).expect(0, "", "keygen");
            place.sign(name, "m", &format!("{name}.sig"), "");
        }
        place
    }

    /// Without links on the way.
    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn sign(&self, key: &str, model: &str, signature: &str, flags: &str) {
        let line = format!("sign key {model} --private-key {key}.pem --signature {signature} {flags}");
        seal(self.folder.path(), &line).expect(0, "Signing succeeded", &line);
    }

    fn root(&self, model: &str) -> String {
        let run = seal(self.folder.path(), &format!("digest {model} --json"));
        run.json()["root"].as_str().unwrap().to_owned()
    }

    fn fingerprint(&self, key: &str) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(fs::read(self.path().join(format!("{key}.pub"))).unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Verifies under this policy, in which `HERE` is the folder.
    fn verify(&self, policy: &str, flags: &str) -> Run {
        let text = policy.replace("HERE", self.path().to_str().unwrap());
        write(self.path().join("policy.toml"), text);
        seal(self.folder.path(), &format!("verify --policy policy.toml {flags}"))
    }
}

/// Two signers and the given rules.
fn policy(rules: &str) -> String {
    format!("version = 1\n[signers.team]\nkey = \"team.pub\"\n[signers.security]\nkey = \"security.pub\"\n{rules}")
}

const RULE: &str = "[[rule]]\npath = \"HERE/m\"\nany_of = [\"team\", \"security\"]\n";
const BOTH: &str = "[[rule]]\npath = \"HERE/m\"\nall_of = [\"team\", \"security\"]\n";
const GOOD: &str = "Verification succeeded";

#[test]
fn a_signer_that_a_rule_names_is_accepted_and_no_other() {
    let place = Place::new();
    for signer in ["team", "security"] {
        let run = place.verify(&policy(RULE), &format!("m --signature {signer}.sig"));
        run.expect(0, GOOD, signer);
        run.expect(0, &format!("signed by key {}", place.fingerprint(signer)), signer);
        run.expect(0, &format!("signer {signer}, by {signer}.sig"), signer);
        run.expect(0, "satisfies rule 1 (line 6, ", signer);
    }
    let run = place.verify(&policy(RULE), "m --signature other.sig");
    run.expect(1, "rule 1 (line 6, ", "another key");
    run.expect(1, &format!("key \"{}\" (as it says itself)", place.fingerprint("other")), "who signed");
    run.expect(1, &format!("\"team\" (key {})", place.fingerprint("team")), "who should have");
    // One more signature that nobody asked for is a refusal, too.
    place.verify(&policy(RULE), "m --signature team.sig --signature other.sig").expect(1, "other.sig", "a stranger");
    // Named in the policy is not named in the rule.
    let only_team = RULE.replace(", \"security\"", "");
    place.verify(&policy(&only_team), "m --signature security.sig").expect(
        1,
        "is not a signature of \"team\"",
        "security",
    );
    place.verify(&policy(&only_team), "m --signature team.sig").expect(
        0,
        "no rule of the policy names the signer \"security\"",
        "",
    );
}

#[test]
fn what_no_rule_is_about_is_refused() {
    let place = Place::new();
    let run = place.verify(&policy(&RULE.replace("HERE/m", "HERE/n")), "m --signature team.sig");
    run.expect(1, "the policy has no rule for", "no rule");
    run.expect(1, &format!("there are rules for \"{}/n\"", place.path().display()), "those there are");
}

#[test]
fn every_signer_of_all_of_has_to_sign() {
    let place = Place::new();
    let both = "m --signature team.sig --signature security.sig";
    let run = place.verify(&policy(BOTH), both);
    run.expect(0, GOOD, "both");
    run.expect(0, "signer security, by security.sig", "both");
    place.verify(&policy(BOTH), "m --signature security.sig --signature team.sig").expect(
        0,
        GOOD,
        "the other way round",
    );
    for one in ["team", "security"] {
        let other = if one == "team" { "security" } else { "team" };
        let run = place.verify(&policy(BOTH), &format!("m --signature {one}.sig"));
        run.expect(1, &format!("missing is that of \"{other}\""), one);
        place
            .verify(&policy(BOTH), &format!("m --signature {one}.sig --signature {one}.sig"))
            .expect(1, other, "twice");
        // A second signature of the same signer.
        place.sign(one, "m", "again.sig", "");
        place
            .verify(&policy(BOTH), &format!("m --signature {one}.sig --signature again.sig"))
            .expect(1, other, "again");
    }
    // The model is read once, whoever signs it, and is compared with each statement.
    common::flip(place.path().join("m/b"), 2);
    place.verify(&policy(BOTH), both).expect(1, "1 changed", "a changed file");
}

#[test]
fn signatures_of_different_models_are_no_two_signatures_of_one() {
    let place = Place::new();
    let both = "m --signature team.sig --signature security.sig";
    write(place.path().join("m/new"), "new");
    place.sign("security", "m", "security.sig", "");
    place.verify(&policy(BOTH), both).expect(1, "\"new\" is in one of them only", "another file");
    write(place.path().join("m/a"), "B");
    place.sign("team", "m", "team.sig", "");
    place.verify(&policy(BOTH), both).expect(1, "the digests of \"a\" are different", "another content");
    place.sign("team", "m", "team.sig", "--shards 2B");
    place.verify(&policy(BOTH), both).expect(1, "one is over files, the other over shards", "other resources");
    place.sign("team", "m", "team.sig", "--hash blake3");
    place.verify(&policy(BOTH), both).expect(1, "one has blake3 digests, the other sha256", "other digests");
    // Files that one signer left out, the other did not sign either: but one of them knows that they were there.
    place.sign("team", "m", "team.sig", "--ignore-paths m/new");
    place.verify(&policy(BOTH), both).expect(1, "\"new\" is in one of them only", "an ignored file");
}

#[test]
fn what_one_signer_ignored_is_unsigned_for_the_other() {
    let place = Place::new();
    place.sign("team", "m", "team.sig", "--ignore-paths m/cache");
    let both = "m --signature team.sig --signature security.sig";
    place.verify(&policy(BOTH), both).expect(0, GOOD, "nothing is there");
    write(place.path().join("m/cache/x"), "x");
    place.verify(&policy(BOTH), "m --signature team.sig").expect(1, "missing", "");
    place.verify(&policy(RULE), "m --signature team.sig").expect(0, GOOD, "ignored by the only signer");
    place.verify(&policy(BOTH), both).expect(1, "1 not signed", "one signer did not ignore it");
    place.verify(&policy(BOTH), "m --signature security.sig --signature team.sig").expect(
        1,
        "1 not signed",
        "the other order",
    );
}

#[test]
fn signatures_inside_the_model_are_no_unsigned_files() {
    let place = Place::new();
    place.sign("team", "m", "m/team.sig", "");
    place.sign("security", "m", "m/security.sig", "--ignore-paths m/team.sig");
    let both = "m --signature m/team.sig --signature m/security.sig";
    place.verify(&policy(BOTH), both).expect(0, GOOD, "inside");
    let strict = format!("{BOTH}require = {{ strict = true }}\n");
    place.verify(&policy(&strict), both).expect(0, GOOD, "strict");
    // A signature that is not given is a file like any other.
    place.verify(&policy(RULE), "m --signature m/team.sig").expect(1, "1 not signed", "one of them");
}

#[test]
fn one_person_under_two_names_is_one_signer() {
    let place = Place::new();
    let twice = policy(BOTH).replace("security.pub", "team.pub");
    let run = place.verify(&twice, "m --signature team.sig");
    run.expect(3, "\"team\" and \"security\" are the same key", "one key");
    run.expect(3, "line 8, column 10", "where");
}

#[test]
fn the_path_that_counts_is_the_one_that_the_model_lies_at() {
    let place = Place::new();
    let home = place.path();
    symlink("m", home.join("link")).unwrap();
    fs::create_dir(home.join("x")).unwrap();
    let absolute = format!("{}/m", home.display());
    for way in ["m", "./m", "m/", "m/.", "x/../m", "m/d/..", &absolute] {
        place.verify(&policy(RULE), &format!("{way} --signature team.sig")).expect(0, GOOD, way);
    }
    place.verify(&policy(RULE), "link --signature team.sig --allow-symlinks").expect(0, GOOD, "a link to it");
    // A rule for the link would never apply, and a rule that is not applied is a hole.
    let rule = RULE.replace("HERE/m", "HERE/link");
    let run = place.verify(&policy(&rule), "link --signature team.sig --allow-symlinks");
    run.expect(3, "is or lies behind a symlink", "a rule for a link");
    // The same model elsewhere is not where the rule says.
    common::copy(&home.join("m"), &home.join("copy"));
    place.verify(&policy(RULE), "copy --signature team.sig").expect(1, "no rule for", "a copy");
    place.verify(&policy(RULE), "m/d --signature team.sig").expect(1, "no rule for", "a folder in it");
    let below = RULE.replace("HERE/m", "HERE/**");
    place.verify(&policy(&below), "copy --signature team.sig").expect(0, GOOD, "a pattern");
    let single = RULE.replace("HERE/m", "HERE/*/a");
    place.sign("team", "m/a", "a.sig", "");
    place.verify(&policy(&single), "m/a --signature a.sig").expect(0, GOOD, "a single file");
}

#[test]
fn two_rules_that_match_both_count() {
    let place = Place::new();
    let rules =
        format!("{}{}", RULE.replace("HERE/m", "HERE/*"), RULE.replace("[\"team\", \"security\"]", "[\"security\"]"));
    let run = place.verify(&policy(&rules), "m --signature team.sig");
    run.expect(1, "rule 2 (line 9, ", "the second");
    run.expect(1, "asks for a signature of \"security\"", "whom it asks for");
    place.verify(&policy(&rules), "m --signature security.sig").expect(0, "satisfies rule 2", "both");
    let devices = format!("{RULE}require = {{ device = \"cpu\" }}\n{RULE}require = {{ device = \"cuda\" }}\n");
    let run = place.verify(&policy(&devices), "m --signature team.sig");
    run.expect(1, "no device is both cpu and cuda", "contradicting rules");
}

#[test]
fn a_good_signature_of_another_or_an_older_model_does_not_pass() {
    let place = Place::new();
    let first = place.root("m");
    write(place.path().join("m/a"), "A, better");
    place.sign("team", "m", "new.sig", "");
    let second = place.root("m");
    assert_ne!(first, second);
    let pinned = |root: &str| policy(&format!("{RULE}roots = [\"{root}\"]\n"));
    place.verify(&pinned(&second), "m --signature new.sig").expect(0, GOOD, "the pinned one");
    // The old model with its own good signature.
    write(place.path().join("m/a"), "A");
    place.verify(&policy(RULE), "m --signature team.sig").expect(0, GOOD, "without a pin");
    let run = place.verify(&pinned(&second), "m --signature team.sig");
    run.expect(1, &format!("the signed root is {first}"), "a rollback");
    run.expect(1, "rule 1 (line 6", "which rule");
    // A key says nothing of time.
    let after = policy(&format!("{RULE}signed_after = 2020-01-01T00:00:00Z\n"));
    place.verify(&after, "m --signature team.sig").expect(1, "has no trusted time", "no time");
    let stamped = policy(&format!("{RULE}require = {{ timestamp = true }}\n"));
    place.verify(&stamped, "m --signature team.sig").expect(1, "has no trusted time", "no timestamp");
}

#[test]
fn what_is_denied_is_refused_whatever_the_rules_say() {
    let place = Place::new();
    let key = place.fingerprint("team");
    let root = place.root("m");
    let deny = |what: &str| policy(&format!("[deny]\n{what}\n{RULE}"));
    for denied in [format!("keys = [\"{key}\"]"), format!("keys = [\"sha256:{}\"]", key.to_uppercase())] {
        let run = place.verify(&deny(&denied), "m --signature team.sig");
        run.expect(1, &format!("the key {key} is denied by the policy"), &denied);
        place.verify(&deny(&denied), "m --signature security.sig").expect(0, GOOD, "another key");
        place.verify(&deny(&denied), "m --signature security.sig --signature team.sig").expect(
            1,
            "is denied",
            "beside a good one",
        );
    }
    let run = place.verify(&deny(&format!("roots = [\"{root}\"]")), "m --signature team.sig");
    run.expect(1, &format!("the signed root {root} is denied"), "a root");
    let others = format!("keys = [\"{}\"]\nroots = [\"sha256:{}\"]", "0".repeat(64), "0".repeat(64));
    place.verify(&deny(&others), "m --signature team.sig").expect(0, GOOD, "others");
}

#[test]
fn flags_may_ask_for_more_and_not_for_less() {
    let place = Place::new();
    let with = |require: &str| policy(&format!("{RULE}require = {{ {require} }}\n"));
    let verify = |require: &str, flags: &str| place.verify(&with(require), &format!("m --signature team.sig {flags}"));
    fs::create_dir(place.path().join("m/.git")).unwrap();
    write(place.path().join("m/.git/x"), "not signed");
    verify("strict = false", "").expect(0, GOOD, "not strict");
    verify("strict = false", "--strict").expect(1, "not covered", "more than asked");
    verify("strict = true", "").expect(1, "not covered", "strict");
    verify("strict = true", "--ignore-unsigned-files").expect(1, "verify without --ignore-unsigned-files", "less");
    let run = verify("strict = true", "--strict --allow-ignored m/.git");
    run.expect(1, "rule 1 (line 6, ", "less");
    run.expect(1, "asks for a strict check, and some files were to stay unsigned", "less");
    fs::remove_dir_all(place.path().join("m/.git")).unwrap();
    verify("strict = true", "").expect(0, GOOD, "strict");

    let checked = |require: &str, flags: &str| {
        let run = verify(require, &format!("{flags} --json"));
        assert_eq!(run.code, Some(0), "{run:?}");
        let checked = run.json()["checked"].as_array().unwrap().clone();
        checked.iter().map(|one| one["algorithm"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    for (require, flags, wanted) in [
        ("strict = true", "", "sha256"),
        ("strict = true", "--digest blake3", "blake3"),
        ("digests = \"oms\"", "", "sha256"),
        ("digests = \"oms\"", "--digest blake3", "sha256 blake3"),
        ("digests = \"oms\"", "--all-digests", "sha256 blake3"),
        ("digests = \"blake3\"", "", "blake3"),
        ("digests = \"blake3\"", "--digest blake3", "blake3"),
        ("digests = \"blake3\"", "--all-digests", "sha256 blake3"),
        ("digests = \"all\"", "", "sha256 blake3"),
        ("digests = \"all\"", "--digest blake3", "sha256 blake3"),
        ("device = \"cpu\"", "", "sha256"),
    ] {
        assert_eq!(checked(require, flags), wanted, "{require} {flags}");
    }
    let run = verify("device = \"cuda\"", "");
    run.expect(1, "asks for the device cuda, and the device is cpu; verify with --device cuda", "another device");
    // Nothing of ours was signed, so nothing of it can be checked.
    place.sign("team", "m", "team.sig", "--no-annotations");
    verify("digests = \"blake3\"", "").expect(1, "has no signed blake3 digest", "no such digest");
}

#[test]
fn reports_say_which_rule_was_satisfied_by_whom() {
    let place = Place::new();
    symlink("m", place.path().join("link")).unwrap();
    let run = place.verify(&policy(BOTH), "link --allow-symlinks --signature team.sig --signature security.sig --json");
    let report = run.json();
    let resolved = format!("{}/m", place.path().display());
    assert_eq!(report["policy"]["file"], "policy.toml");
    assert_eq!(report["policy"]["resolved"], *resolved);
    let rule = &report["policy"]["rules"][0];
    assert_eq!((&rule["rule"], &rule["line"], &rule["path"]), (&1.into(), &6.into(), &(*resolved).into()));
    assert_eq!(rule["signers"], serde_json::json!(["team", "security"]));
    let [first, second] = &report["policy"]["signatures"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&first["signature"], &first["signers"][0]), (&"team.sig".into(), &"team".into()));
    assert_eq!(second["identity"]["fingerprint"], *place.fingerprint("security"));
    let refused = place.verify(&policy(BOTH), "m --signature team.sig --json");
    assert_eq!((refused.json()["error"]["kind"].as_str(), refused.code), (Some("policy"), Some(1)));
    let broken = place.verify("version = 2", "m --signature team.sig --json");
    assert_eq!((broken.json()["error"]["kind"].as_str(), broken.code), (Some("policy"), Some(3)));
}

#[test]
fn a_policy_that_anybody_may_write_is_warned_of() {
    let place = Place::new();
    let line = "m --signature team.sig";
    place.verify(&policy(RULE), line).expect(0, GOOD, "");
    let warned =
        |run: &Run, name: &str| run.stderr.contains("can be written to by every user") && run.stderr.contains(name);
    for name in ["policy.toml", "team.pub"] {
        let path = place.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let run = place.verify(&policy(RULE), line);
        assert!(warned(&run, name) && run.code == Some(0), "{run:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!warned(&place.verify(&policy(RULE), line), name));
    }
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(warned(&place.verify(&policy(RULE), line), "policy.toml"), "a folder that anybody may write to");
}

#[test]
fn a_file_that_is_no_policy_gives_no_answer_and_its_place() {
    let place = Place::new();
    let line = "m --signature team.sig";
    for (text, at, words) in [
        ("version = 1\nsigners = 3\n", "line 2, column 11", "invalid type: integer `3`"),
        ("version = 1\n\u{1b}[2J = 3\n", "line 2, column", ""),
        (&policy(&RULE.replace("any_of", "anyof")), "line 8, column 1", "unknown field `anyof`"),
        (&policy(&RULE.replace("\"security\"]", "\"nobody\"]")), "line 8, column 19", "there is no signer \"nobody\""),
        (&policy(RULE).replace("team.pub", "none.pub"), "line 3, column 7", "none.pub"),
        (&policy(RULE).replace("team.pub", "team.pem"), "line 3, column 7", "never hand out a private key"),
        (&policy(RULE).replace("team.pub", "m"), "line 3, column 7", "it is not a regular file"),
    ] {
        let run = place.verify(text, line);
        run.expect(3, at, text);
        run.expect(3, words, text);
        assert!(!run.stderr.contains('\u{1b}'), "{run:?}");
    }
    seal(&place.path(), &format!("verify --policy nothing.toml {line}")).expect(
        3,
        "cannot read \"nothing.toml\"",
        "no file",
    );
    write(place.path().join("bytes.toml"), b"version = 1 # \xff");
    seal(&place.path(), &format!("verify --policy bytes.toml {line}")).expect(3, "it is not UTF-8", "no text");
    place.verify(&policy(RULE), "m").expect(2, "--signature", "no signature");
    seal(&place.path(), "verify key m --public-key team.pub --signature team.sig --policy policy.toml").expect(
        2,
        "",
        "a method and a policy",
    );
    let long = Path::new("policy.toml");
    write(place.path().join(long), format!("{}#{}", policy(RULE), "x".repeat(1 << 20)));
    seal(&place.path(), &format!("verify --policy policy.toml {line}")).expect(
        3,
        "more than 1048576 bytes",
        "a long one",
    );
}

/// The policy of docs/policy.md, of which each part is satisfied and not.
#[test]
fn the_example_of_the_page_does_what_the_page_says() {
    const PAGE: &str = include_str!("../docs/policy.md");
    let example = PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let place = Place::new();
    let home = place.path();
    let model = "models/production/llama-3";
    common::copy(&home.join("m"), &home.join(model));
    // The private half of the key on the page; that of `keys/team.pub` is ours.
    let security = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg41ZxM/r0X9jLudNQ\n\
        ftxHHQHeroNcRwRllWwH9KQo8oChRANCAAQ8xLZT5mouZwbBGeUjWAPYC5wVLIm+\n\
        omPqmmoTLHRwwgJDfTBak5LLctwLPjIyE7HfSCJpbU1lYQxYjTOpmuRB\n-----END PRIVATE KEY-----\n";
    write(home.join("security.pem"), security);
    common::copy(&home.join("team.pub"), &home.join("keys/team.pub"));
    place.sign("team", model, "team.sig", "");
    place.sign("security", model, "security.sig", "");
    let pinned = "sha256:2a8c504a15a7d76d2c55bd890e3a20e31ec99361327a10d38f24d663d27f524d";
    assert!(example.contains(pinned));
    let here = example.replace("\"/models", "\"HERE/models").replace(pinned, &place.root(model));
    let both = "--signature team.sig --signature security.sig";
    let run = place.verify(&here, &format!("{model} {both}"));
    run.expect(0, GOOD, "the example");
    run.expect(0, "satisfies rule 1", "the example");
    run.expect(0, "satisfies rule 2", "the example");
    run.expect(0, "by blake3 on cpu", "the example");
    place.verify(&here, &format!("{model} --signature team.sig")).expect(
        1,
        "missing is that of \"security\"",
        "one of two",
    );
    place.verify(&here, &format!("{model} {both} --ignore-unsigned-files")).expect(
        1,
        "asks for a strict check",
        "strict",
    );
    let other_root = example.replace("\"/models", "\"HERE/models");
    place.verify(&other_root, &format!("{model} {both}")).expect(
        1,
        "another model, or another version",
        "another version",
    );
    let denied =
        here.replace("7944bfd9adc1316d150b0e3365088e799f06326f951785354ac3fc4bdc34b3c5", &place.fingerprint("team"));
    place.verify(&denied, &format!("{model} {both}")).expect(1, "is denied by the policy", "denied");
    common::copy(&home.join("m"), &home.join("models/other"));
    place.sign("security", "models/other", "security.sig", "");
    place.verify(&here, "models/other --signature security.sig").expect(1, "is not a signature of", "security alone");
}

fn identity_rule(signer: &str, more: &str) -> String {
    format!("version = 1\n[signers.s]\n{signer}\n[[rule]]\npath = \"HERE/**\"\nany_of = [\"s\"]\n{more}")
}

#[test]
#[cfg(feature = "sigstore-verify")]
fn sigstore_identities_are_signers() {
    const WHO: &str = "stefanb@us.ibm.com";
    const ISSUER: &str = "https://sigstore.verify.ibm.com/oauth2";
    let Some(vectors) = common::vectors() else { return };
    let place = Place::new();
    common::copy(&vectors.join("historical/v1.1.0-sigstore"), &place.path().join("s"));
    fs::remove_file(place.path().join("s/ignore-me")).unwrap_or_default();
    let root = vectors.join("trust/sigstore.dev.trusted_root.json");
    let signer =
        format!("sigstore = {{ identity = \"{WHO}\", issuer = \"{ISSUER}\", trust = \"{}\" }}", root.display());
    let line = "s --signature s/model.sig";
    let verify = |signer: &str, more: &str| place.verify(&identity_rule(signer, more), line);
    let run = verify(&signer, "");
    run.expect(0, &format!("signed by \"{WHO}\" (issuer \"{ISSUER}\")"), "an identity");
    run.expect(0, "signer s, by s/model.sig", "whose");
    let at = verify(&signer, "")
        .code
        .map(|_| place.verify(&identity_rule(&signer, ""), &format!("{line} --json")).json())
        .unwrap();
    let at = at["identity"]["signed_at"]["time"].as_str().unwrap().to_owned();

    // By regular expressions, and by what does not match as a whole.
    let regex = signer
        .replace("identity = \"stefanb@us.ibm.com\"", "identity_regex = '.*@us\\.ibm\\.com'")
        .replace(&format!("issuer = \"{ISSUER}\""), "issuer_regex = 'https://sigstore\\..*'");
    verify(&regex, "").expect(0, GOOD, &regex);
    verify(&regex.replace(".*@us", "@us"), "").expect(1, "s: ", "a part of the name");
    for (from, to) in [(WHO, "stefanb@us.ibm.con"), (ISSUER, "https://accounts.google.com")] {
        let run = verify(&signer.replace(from, to), "");
        run.expect(1, "rule 1 (line 4, ", to);
        run.expect(1, "is not a signature of \"s\" (sigstore ", to);
        run.expect(1, from, "who signed");
    }
    verify(&signer.replace("sigstore.dev", "sigstage.dev"), "").expect(1, "is not a signature of", "another instance");
    verify(&signer.replace(&root.display().to_string(), "public-good"), "").expect(0, GOOD, "the embedded root");
    verify(&signer.replace(&root.display().to_string(), "staging"), "").expect(1, "is not a signature of", "staging");

    // Its time is trusted: to the second, and later than the moment, not at it.
    let second_before = {
        let (head, seconds) = at.trim_end_matches('Z').rsplit_once(':').unwrap();
        let seconds: u8 = seconds.parse().unwrap();
        assert!(seconds > 0, "the test has to be written otherwise");
        format!("{head}:{:02}Z", seconds - 1)
    };
    verify(&signer, &format!("signed_after = {second_before}\n")).expect(0, GOOD, "after");
    let run = verify(&signer, &format!("signed_after = {at}\n"));
    run.expect(1, &format!("had to be made after {at}, and was made at {at}"), "at that moment");
    verify(&signer, "require = { timestamp = true }\n").expect(0, GOOD, "a trusted time");
    let denied = |what: &str| verify(&signer, &format!("[deny]\n{what}\n"));
    denied("identities = [\"StefanB@us.ibm.com\"]").expect(
        1,
        "the identity \"StefanB@us.ibm.com\" is denied",
        "an identity",
    );
    denied("identities = [\"email:stefanb@us.ibm.com\"]").expect(1, "is denied", "as a certificate would have it");
    // The key method is not this method.
    place.verify(&identity_rule(&signer, ""), "m --signature team.sig").expect(1, "it is of the key method", "a key");
    for (text, words) in [
        (signer.replace("issuer = ", "issuers = "), "unknown field `issuers`"),
        (signer.replace("issuer = ", "issuer_regex = '(' , issuer = "), "exactly one of issuer and issuer_regex"),
        (signer.replace(&format!("issuer = \"{ISSUER}\""), "issuer_regex = '('"), "is not a regular expression"),
        (signer.replace(&format!("issuer = \"{ISSUER}\", "), ""), "exactly one of issuer and issuer_regex"),
        (signer.replace(&format!("\"{WHO}\""), "\"\""), "identity is empty"),
        (signer.replace("trusted_root", "none"), "cannot read"),
        (signer.replace(&root.display().to_string(), "team.pub"), "line 3, column"),
        (format!("{signer}\nkey = \"team.pub\""), "exactly one of key, certificate and sigstore, and has 2"),
    ] {
        verify(&text, "").expect(3, words, &text);
    }
}

#[test]
fn holders_of_certificates_are_signers() {
    use common::pki::{Key, wanted};
    let place = Place::new();
    let home = place.path();
    let root = wanted("root", Key::P256).ca().by(&home, None);
    let inter = wanted("inter", Key::P256).ca().by(&home, Some(&root));
    let names = ["email:release@example.com", "dns:signer.example.com"];
    wanted("signer", Key::P256).signer(&names).by(&home, Some(&inter));
    wanted("stranger", Key::P256).ca().by(&home, None);
    let sign = "sign certificate m --private-key signer.key --signing-certificate signer.pem --signature c.sig";
    seal(&home, &format!("{sign} --certificate-chain inter.pem")).expect(0, "Signing succeeded", "");
    let signer = "certificate = { roots = [\"root.pem\"], identity = \"email:release@example.com\" }";
    let verify = |signer: &str, more: &str| place.verify(&identity_rule(signer, more), "m --signature c.sig");
    verify(signer, "").expect(0, GOOD, "a certificate");
    let report = place.verify(&identity_rule(signer, ""), "m --signature c.sig --json").json();
    for (from, to, words) in [
        ("email:release@", "email:released@", "release@example.com"),
        ("email:", "dns:", "release@example.com"),
        ("root.pem", "stranger.pem", "is not a signature of \"s\" (certificate of"),
    ] {
        let run = verify(&signer.replace(from, to), "");
        run.expect(1, "rule 1 (line 4, ", to);
        run.expect(1, words, to);
    }
    verify(&signer.replace("identity = \"email:release@example.com\"", "any_identity = true"), "")
        .expect(0, GOOD, "any");
    // No time that is trusted, so none of this is known.
    for more in ["signed_after = 2020-01-01T00:00:00Z\n", "require = { timestamp = true }\n"] {
        verify(signer, more).expect(1, "has no trusted time", more);
    }
    verify(&signer.replace(" }", ", at = \"not-before\" }"), "signed_after = 2020-01-01T00:00:00Z\n").expect(
        1,
        "has no trusted time",
        "the certificate's own word",
    );
    #[cfg(feature = "sigstore-verify")]
    verify(&signer.replace(" }", ", at = \"timestamp\", tsa = [\"root.pem\"] }"), "").expect(
        1,
        "carries no timestamp",
        "none",
    );
    for (text, words) in [
        (
            signer.replace("identity = \"email:release@example.com\"", "allow_eku = true"),
            "exactly one of identity and any_identity",
        ),
        (signer.replace(" }", ", any_identity = true }"), "exactly one of identity and any_identity"),
        (signer.replace(" }", ", at = \"timestamp\" }"), "needs tsa"),
        (signer.replace(" }", ", at = \"yesterday\" }"), "the time \"yesterday\" is not known"),
        (signer.replace(" }", ", at = \"now\", tsa = [\"root.pem\"] }"), "leave tsa out"),
        (signer.replace("\"root.pem\"", ""), "roots is empty"),
        (signer.replace("root.pem", "team.pub"), "certificates \"team.pub\""),
        (signer.replace("email:release@example.com", "email:"), "must not be empty"),
    ] {
        verify(&text, "").expect(3, words, &text);
    }
    // Denied by any certificate on the way, its key, and any of its names.
    let denied = |what: &str| verify(signer, &format!("[deny]\n{what}\n"));
    let mut fingerprints = vec![
        report["identity"]["fingerprint"].as_str().unwrap().to_owned(),
        report["identity"]["root_fingerprint"].as_str().unwrap().to_owned(),
    ];
    let openssl = common::program(&home, "openssl", &["x509", "-in", "inter.pem", "-noout", "-fingerprint", "-sha256"]);
    fingerprints.push(openssl.stdout.trim().rsplit('=').next().unwrap().to_owned());
    for fingerprint in &fingerprints {
        denied(&format!("certificates = [\"{fingerprint}\"]")).expect(1, "the certificate", fingerprint);
    }
    common::program(&home, "openssl", &["pkey", "-in", "signer.key", "-pubout", "-out", "signer.pub"]);
    denied(&format!("keys = [\"{}\"]", place.fingerprint("signer"))).expect(1, "the key", "its key");
    for name in ["release@example.com", "email:RELEASE@example.com", "signer.example.com"] {
        denied(&format!("identities = [\"{name}\"]")).expect(1, "is denied", name);
    }
    denied("identities = [\"example.com\"]").expect(0, GOOD, "a part of a name");
    // A link that only the policy's own files have.
    seal(&home, sign).expect(0, "Signing succeeded", "");
    let with_link = signer.replace("[\"root.pem\"]", "[\"root.pem\", \"inter.pem\"]");
    verify(&with_link, "").expect(0, GOOD, "a link");
    let run = verify(&with_link, &format!("[deny]\ncertificates = [\"{}\"]\n", fingerprints[2]));
    run.expect(1, "is not a signature of", "a denied link");
    // One key, once as itself and once in a certificate: one signer.
    seal(&home, "sign key m --private-key signer.key --signature k.sig").expect(0, "Signing succeeded", "");
    let two = format!(
        "version = 1\n[signers.c]\n{with_link}\n[signers.k]\nkey = \"signer.pub\"\n[[rule]]\npath = \"HERE/m\"\nall_of = [\"c\", \"k\"]\n"
    );
    place.verify(&two, "m --signature c.sig --signature k.sig").expect(1, "one signer counts once", "one key twice");
}

/// The certificate at this place of the bundle, with the other signature that is as good: (r, n - s) for (r, s).
fn flip_certificate(bundle: &Path, at: usize, by: common::pki::Key) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use common::pki::Key;
    use der::{Decode as _, Encode as _};
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
    let place = format!("/verificationMaterial/x509CertificateChain/certificates/{at}/rawBytes");
    let text = json.pointer_mut(&place).unwrap();
    let der = STANDARD.decode(text.as_str().unwrap()).unwrap();
    let mut certificate = x509_cert::Certificate::from_der(&der).unwrap();
    let signature = certificate.signature.as_bytes().unwrap();
    macro_rules! flipped {
        ($curve:ident) => {{
            let of = $curve::ecdsa::Signature::from_der(signature).unwrap();
            $curve::ecdsa::Signature::from_scalars(of.r(), -of.s()).unwrap().to_der().as_bytes().to_vec()
        }};
    }
    let other = match by {
        Key::P256 => flipped!(p256),
        Key::P384 => flipped!(p384),
        _ => flipped!(p521),
    };
    certificate.signature = der::asn1::BitString::from_bytes(&other).unwrap();
    *text = STANDARD.encode(certificate.to_der().unwrap()).into();
    write(bundle, json.to_string());
}

#[test]
fn a_denied_certificate_does_not_come_back_with_the_other_signature_of_its_issuer() {
    use common::pki::{Key, wanted};
    let place = Place::new();
    let home = place.path();
    for key in [Key::P256, Key::P384, Key::P521] {
        let root = wanted("root", key).ca().by(&home, None);
        let inter = wanted("inter", key).ca().by(&home, Some(&root));
        wanted("signer", Key::P256).signer(&["email:a@example.com"]).by(&home, Some(&inter));
        let sign = "sign certificate m --private-key signer.key --signing-certificate signer.pem --signature c.sig";
        let signer = "certificate = { roots = [\"root.pem\"], any_identity = true }";
        for (at, name) in [(0, "signer"), (1, "inter")] {
            seal(&home, &format!("{sign} --certificate-chain inter.pem")).expect(0, "Signing succeeded", "");
            let args = ["x509", "-in", &format!("{name}.pem"), "-noout", "-fingerprint", "-sha256"];
            let printed = common::program(&home, "openssl", &args).stdout;
            let fingerprint = printed.trim().rsplit('=').next().unwrap();
            let deny = format!("[deny]\ncertificates = [\"{fingerprint}\"]\n");
            let verify = |more: &str| place.verify(&identity_rule(signer, more), "m --signature c.sig");
            verify(&deny).expect(1, "the certificate", name);
            let before = fs::read(home.join("c.sig")).unwrap();
            flip_certificate(&home.join("c.sig"), at, key);
            assert_ne!(before, fs::read(home.join("c.sig")).unwrap());
            verify("").expect(0, GOOD, "the other signature is as good");
            verify(&deny).expect(1, "is denied by the policy", name);
        }
    }
}

#[test]
#[cfg(feature = "sigstore-verify")]
fn a_timestamp_of_a_named_authority_is_trusted_time() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use common::pki::{Key, Tsa, wanted};
    let place = Place::new();
    let home = place.path();
    let root = wanted("root", Key::P256).ca().by(&home, None);
    wanted("signer", Key::P256).signer(&["email:a@example.com"]).by(&home, Some(&root));
    let tsa_root = wanted("tsa-root", Key::P384).ca().by(&home, None);
    let authority = wanted("tsa", Key::P256).tsa().by(&home, Some(&tsa_root));
    let tsa = Tsa::new(&home, &authority);
    let sign = "sign certificate m --private-key signer.key --signing-certificate signer.pem --signature c.sig";
    seal(&home, sign).expect(0, "Signing succeeded", "");
    let mut bundle: serde_json::Value = serde_json::from_slice(&fs::read(home.join("c.sig")).unwrap()).unwrap();
    let signature = bundle.pointer("/dsseEnvelope/signatures/0/sig").unwrap().as_str().unwrap();
    let stamp = STANDARD.encode(tsa.stamp(&STANDARD.decode(signature).unwrap(), true));
    let stamps = serde_json::json!({"rfc3161Timestamps": [{"signedTimestamp": stamp}]});
    bundle["verificationMaterial"]["timestampVerificationData"] = stamps;
    write(home.join("s.sig"), bundle.to_string());

    let signer = "certificate = { roots = [\"root.pem\"], any_identity = true, tsa = [\"tsa-root.pem\"] }";
    let must = signer.replace(" }", ", at = \"timestamp\" }");
    let verify = |signer: &str, more: &str, sig: &str| {
        place.verify(&identity_rule(signer, more), &format!("m --signature {sig} --json"))
    };
    let time = verify(signer, "", "s.sig").json()["identity"]["judged_at"].clone();
    assert_eq!(time["by"], "timestamp-authority");
    let at = time["time"].as_str().unwrap().to_owned();
    let after = |moment: &str| format!("signed_after = {moment}\n");
    for signer in [signer, &must] {
        verify(signer, "", "s.sig").expect(0, "", "stamped");
        verify(signer, "require = { timestamp = true }\n", "s.sig").expect(0, "", "a trusted time");
        let run = verify(signer, &after("2020-01-01T00:00:00Z"), "s.sig");
        run.expect(0, "", "after");
        let notes = run.json()["notes"].to_string();
        assert!(notes.contains("an old one can be stamped anew"), "{notes}");
        let run = verify(signer, &after(&at), "s.sig");
        run.expect(1, &format!("had to be made after {at}, and was made at {at}"), "at that moment");
    }
    // Without the stamp, with one that nobody is trusted for, and where stamps are not looked at.
    verify(&must, "", "c.sig").expect(1, "it carries no timestamp", "none");
    verify(signer, "", "c.sig").expect(0, "", "none is needed");
    verify(signer, "require = { timestamp = true }\n", "c.sig").expect(1, "has no trusted time", "none");
    let unnamed = signer.replace(", tsa = [\"tsa-root.pem\"]", "");
    for at in ["", ", at = \"now\"", ", at = \"not-before\""] {
        let signer = unnamed.replace(" }", &format!("{at} }}"));
        verify(&signer, &after("2020-01-01T00:00:00Z"), "s.sig").expect(1, "has no trusted time", at);
    }
    let other = signer.replace("tsa-root.pem", "root.pem");
    verify(&other, "", "s.sig").expect(1, "is not a signature of \\\"s\\\"", "another authority");
    // Of two signers one has a stamp, and the rule wants two.
    let both = format!(
        "version = 1\n[signers.c]\n{signer}\n[signers.team]\nkey = \"team.pub\"\n[[rule]]\npath = \"HERE/m\"\nall_of = [\"c\", \"team\"]\n"
    );
    let line = "m --signature s.sig --signature team.sig";
    place.verify(&both, line).expect(0, GOOD, "both");
    place.verify(&format!("{both}{}", after("2020-01-01T00:00:00Z")), line).expect(
        1,
        "\"team.sig\"",
        "a key has no time",
    );
}
