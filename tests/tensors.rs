//! Tensor manifests through the command line: made, signed, verified by us and by others, and each way in which one can
//! be wrong under a good signature.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use common::forge::{Forge, fix_root, resources};
use common::{Random, Run, copy, program, python, seal, write};
use serde_json::{Value, json};
use sha2::Digest as _;
use tensorseal::device::cpu::{Cpu, Settings, Silent};
use tensorseal::format::Format;
use tensorseal::loader::{LoadOptions, LoadedModel, load_verified};
use tensorseal::manifest::ResourceName;
use tensorseal::report::Note;
use tensorseal::tensors::{FileTensors, FileTiles, TensorManifest};
use tensorseal::verify::{KeyVerifier, Verified};
use tensorseal::{Error, VerifyError};

const OURS: &str = "tensorseal.tensors";
const GOOD: &str = "Verification succeeded";

/// Name, type and shape of a tensor.
type Of<'a> = (&'a str, &'a str, &'a [u64]);

const ONE: &[Of<'_>] = &[("a.weight", "F16", &[64, 48]), ("a.bias", "F32", &[48]), ("norm", "BF16", &[])];
const TWO: &[Of<'_>] = &[("b.weight", "F16", &[512, 1024]), ("b.scale", "F8_E4M3", &[8])];

/// A file of these tensors, as the specification of safetensors has it, with `more` in its header.
fn safetensors(tensors: &[Of<'_>], seed: u64, more: &str) -> Vec<u8> {
    let size = |dtype| match dtype {
        "F32" => 4,
        "F16" | "BF16" | "I16" => 2,
        _ => 1,
    };
    let (mut header, mut at) = (String::new(), 0);
    for (name, dtype, shape) in tensors {
        let end = at + shape.iter().product::<u64>() * size(*dtype);
        let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
        header +=
            &format!(r#","{name}":{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{at},{end}]}}"#, shape.join(","));
        at = end;
    }
    let header = format!(r#"{{"__metadata__":{{"format":"pt{more}"}}{header}}}"#);
    let padding = " ".repeat(header.len().next_multiple_of(8) - header.len());
    let padded = header + &padding;
    let mut bytes = (padded.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(padded.as_bytes());
    bytes.extend(Random(seed).bytes(at as usize));
    bytes
}

/// A manifest of files, made by the library: name and bytes of each.
fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let file = |(name, bytes): &(&str, &[u8])| -> FileTensors {
        let name = ResourceName::parse(name).unwrap();
        let mut tiles = FileTiles::new(name, Format::Safetensors, bytes.len() as u64);
        tiles.update(bytes).unwrap();
        tiles.finish().unwrap()
    };
    TensorManifest::new(files.iter().map(file).collect()).unwrap().to_bytes()
}

/// A model `m` of two files of tensors and others, and a key.
fn place() -> Forge {
    let forge = Forge::new();
    write(forge.path().join("m/one.safetensors"), safetensors(ONE, 1, ""));
    write(forge.path().join("m/d/two.safetensors"), safetensors(TWO, 2, ""));
    forge
}

fn sign(forge: &Forge, flags: &str) -> Run {
    seal(forge.path(), &format!("sign key m --private-key key.pem --signature s.sig {flags}"))
}

fn verify(forge: &Forge, flags: &str) -> Run {
    seal(forge.path(), &format!("verify key m --public-key key.pub --signature s.sig {flags}"))
}

/// Loads the model by a signature, with the tensor manifest outside of it if one is given. Nothing is kept that need not be.
fn load(forge: &Forge, signature: &str, tensors: Option<&str>) -> Result<Verified<LoadedModel<Cpu>>, Error> {
    let trusted = KeyVerifier::new(forge.key.public_key());
    let mut options = LoadOptions { keep: 0, ..LoadOptions::default() };
    options.verify.tensors = tensors.map(|name| forge.path().join(name));
    let (model, signature) = (forge.path().join("m"), forge.path().join(signature));
    load_verified(&model, &signature, &trusted, &options, &Cpu::open(Settings::default()).unwrap(), &Silent)
}

/// The answer is no, for these reasons.
#[track_caller]
fn not_loaded(error: &Error, words: &[&str], about: &str) {
    assert!(matches!(error.refusal(), Some(VerifyError::Tensors(_))), "{about}: {error}");
    assert!(words.iter().all(|words| error.to_string().contains(words)), "{about}: {error}");
}

/// Signs what lies in the model now, whatever it is: the statement's resources get the digests and sizes of the files,
/// resources of files that are gone go, and `new` names others.
fn resigned(forge: &Forge, mut statement: Value, new: &[&str], flags: &str) -> Run {
    let model = forge.path().join("m");
    let template = resources(&mut statement)[0].clone();
    for name in new {
        let mut resource = template.clone();
        resource["name"] = (*name).into();
        resources(&mut statement).push(resource);
    }
    resources(&mut statement).retain(|resource| model.join(resource["name"].as_str().unwrap()).exists());
    resources(&mut statement).sort_by_key(|resource| resource["name"].as_str().unwrap().to_owned());
    for resource in resources(&mut statement) {
        let bytes = fs::read(model.join(resource["name"].as_str().unwrap())).unwrap();
        let hex: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        resource["digest"] = hex.into();
        let ours = &mut resource["annotations"]["tensorseal/v1"];
        ours["blake3"] = blake3::hash(&bytes).to_hex().as_str().into();
        ours["size"] = bytes.len().into();
    }
    fix_root(&mut statement);
    forge.verify_payload(&statement.to_string(), flags)
}

#[test]
fn a_manifest_is_a_file_of_the_model_that_every_check_goes_through() {
    let forge = place();
    let model = forge.path().join("m");
    let signed = sign(&forge, "--tensors");
    signed.expect(0, "tensors 5 tensors, 145 tiles in m/tensorseal.tensors", "sign");
    let (one, two) =
        (fs::read(model.join("one.safetensors")).unwrap(), fs::read(model.join("d/two.safetensors")).unwrap());
    let files: [(&str, &[u8]); 2] = [("d/two.safetensors", &two), ("one.safetensors", &one)];
    assert_eq!(fs::read(model.join(OURS)).unwrap(), manifest(&files), "as the library makes it of the files");
    verify(&forge, "").expect(0, GOOD, "verify");
    verify(&forge, "").expect(
        0,
        "tensors 5 tensors as in tensorseal.tensors; 145 tiles, not recomputed (--all-digests does)",
        "",
    );
    verify(&forge, "--all-digests").expect(0, "145 tiles, all recomputed", "all digests");
    let loaded = load(&forge, "s.sig", None).unwrap();
    let [checked] = &loaded.report().verified.tensor_manifests[..] else { panic!("{:?}", loaded.report()) };
    assert_eq!((checked.name.as_str(), checked.files, checked.tensors, checked.tiles), (OURS, 2, 5, 145));
    assert!(!checked.detached && !checked.recomputed);
    assert_eq!(loaded.file(OURS), Some(&manifest(&files)[..]), "held, to check slices by");
    let report = verify(&forge, "--all-digests --json").json();
    let expected = json!([{
        "name": OURS, "detached": false, "files": 2, "tensors": 5, "tiles": 145, "tiles_recomputed": true
    }]);
    assert_eq!(report["tensor_manifests"], expected);
    for flags in
        ["--digest blake3", "--threads 1", "--io read", "--digest blake3 --threads 2", "--all-digests --threads 2"]
    {
        verify(&forge, &format!("{flags} --strict --allow-ignored m/.git")).expect(0, "145 tiles", flags);
    }
    // Again, with another signature inside the model: the same manifest.
    let before = fs::read(model.join(OURS)).unwrap();
    let again = seal(forge.path(), "sign key m --private-key key.pem --signature m/model.sig --tensors --json");
    again.expect(0, "", "again");
    let told = &again.json()["tensor_manifest"];
    assert_eq!((&told["made"], &told["tensors"], &told["tiles"]), (&json!(true), &json!(5), &json!(145)));
    assert_eq!(told["digest"], format!("blake3:{}", blake3::hash(&before).to_hex()));
    assert_eq!(fs::read(model.join(OURS)).unwrap(), before);
    seal(forge.path(), "verify key m --public-key key.pub --signature m/model.sig").expect(0, "5 tensors", "inside");
    // One that fits stays as it is without being asked for.
    seal(forge.path(), "sign key m --private-key key.pem --signature m/model.sig").expect(0, "as they were in", "kept");
    // By the other digests, too, and by a policy.
    for hash in ["blake3", "blake2b", "blake3 --no-annotations"] {
        let flags = format!("--hash {hash} --ignore-paths m/model.sig");
        let tensors = if hash.contains("no-") { "" } else { "--tensors" };
        sign(&forge, &format!("{flags} {tensors}")).expect(0, "145 tiles", hash);
        verify(&forge, "--all-digests").expect(0, "145 tiles, all recomputed", hash);
    }
    let path = model.canonicalize().unwrap();
    let policy = format!(
        "version = 1\n[signers.team]\nkey = \"key.pub\"\n[[rule]]\npath = {path:?}\nany_of = [\"team\"]\nrequire = {{ digests = \"all\" }}\n"
    );
    write(forge.path().join("policy.toml"), policy);
    sign(&forge, "--ignore-paths m/model.sig --tensors").expect(0, "", "for the policy");
    let run = seal(forge.path(), "verify m --policy policy.toml --signature s.sig");
    run.expect(0, "145 tiles, all recomputed", "a policy that wants all digests");
    // What is not asked for, and not there, is not told.
    fs::remove_file(model.join(OURS)).unwrap();
    sign(&forge, "").expect(0, "", "without");
    let run = verify(&forge, "--json");
    assert_eq!(run.json()["tensor_manifests"], json!([]));
}

#[test]
fn python_verifies_what_holds_a_manifest() {
    let Some(python) = python() else { return };
    let forge = place();
    sign(&forge, "--tensors").expect(0, "", "sign");
    let args = ["-m", "model_signing", "verify", "key", "m", "--signature", "s.sig", "--public_key", "key.pub"];
    program(forge.path(), &python, &args).expect(0, GOOD, "Python");
    common::flip(forge.path().join("m").join(OURS), 40);
    let run = std::process::Command::new(&python).current_dir(forge.path()).args(args).output().unwrap();
    Run::of(&run).expect(1, "Hash mismatch", "Python sees it as a file of the model");
    verify(&forge, "").expect(1, "1 changed", "and so do we");
}

/// Signs a model with a manifest, changes files, signs again what is there, and expects a no with these words.
fn refused(about: &str, change: impl Fn(&Path), new: &[&str], flags: &str, words: &[&str]) {
    let forge = place();
    let statement = forge.statement("--tensors");
    resigned(&forge, statement.clone(), &[], "--all-digests").expect(0, GOOD, "the test's own signature");
    change(&forge.path().join("m"));
    for flags in [flags.to_owned(), format!("{flags} --all-digests"), format!("{flags} --threads 1")] {
        let run = resigned(&forge, statement.clone(), new, &flags);
        for words in words {
            run.expect(1, words, &format!("{about} {flags}"));
        }
    }
    let run = resigned(&forge, statement, new, &format!("{flags} --json"));
    assert_eq!(run.json()["error"]["kind"], "tensors", "{about}");
    match load(&forge, "f.sig", None) {
        // Headers come first there.
        Err(Error::Header { path, .. }) if about.starts_with("no safetensors") => {
            assert!(path.ends_with("one.safetensors"));
        }
        Err(error) => not_loaded(&error, words, about),
        Ok(_) => panic!("{about}: loaded"),
    }
}

/// Puts other tensors, or another header, into `one.safetensors`.
fn one(tensors: &[Of<'_>], more: &str) -> impl Fn(&Path) {
    let bytes = safetensors(tensors, 1, more);
    move |model| write(model.join("one.safetensors"), &bytes)
}

#[test]
fn what_is_not_about_these_files_is_refused_by_name_though_it_is_signed() {
    let stale = "the tensor manifest \"tensorseal.tensors\" is not about this model";
    refused(
        "the manifest of another model",
        |model| {
            let other = safetensors(&[("x", "F16", &[4, 4])], 9, "");
            write(model.join(OURS), manifest(&[("other.safetensors", &other)]));
        },
        &[],
        "",
        &[stale, "the file \"other.safetensors\" is listed and not signed"],
    );
    let renamed = [("a.Weight", "F16", &[64, 48][..]), ONE[1], ONE[2]];
    refused(
        "a tensor renamed",
        one(&renamed, ""),
        &[],
        "",
        &[
            stale,
            "the file \"one.safetensors\" has another header",
            "the tensor \"a.Weight\" is there and not listed",
            "the tensor \"a.weight\" is listed and not there",
        ],
    );
    let retyped = [("a.weight", "I16", &[64, 48][..]), ONE[1], ONE[2]];
    refused(
        "another type, the same bytes",
        one(&retyped, ""),
        &[],
        "",
        &[stale, "the tensor \"a.weight\" has another type than is listed"],
    );
    let reshaped = [("a.weight", "F16", &[48, 64][..]), ONE[1], ONE[2]];
    refused(
        "another shape, the same bytes",
        one(&reshaped, ""),
        &[],
        "",
        &[stale, "the tensor \"a.weight\" has another shape than is listed"],
    );
    refused(
        "another header about the same tensors",
        one(ONE, "!"),
        &[],
        "",
        &[stale, "the file \"one.safetensors\" has another header than is listed"],
    );
    let more = "x".repeat(4096);
    refused("a longer header", one(ONE, &more), &[], "", &[stale, "the file \"one.safetensors\""]);
    let long = "x".repeat(200_000);
    refused(
        "a header of which the end is not seen",
        one(ONE, &long),
        &[],
        "",
        &[stale, "the file \"one.safetensors\""],
    );
    refused(
        "a file of tensors more",
        |model| write(model.join("three.safetensors"), safetensors(&[("c", "F16", &[2, 2])], 3, "")),
        &["three.safetensors"],
        "",
        &[stale, "the file \"three.safetensors\" is there and not listed"],
    );
    refused(
        "a manifest without one of the files",
        |model| {
            let one = fs::read(model.join("one.safetensors")).unwrap();
            write(model.join(OURS), manifest(&[("one.safetensors", &one)]));
        },
        &[],
        "",
        &[stale, "the file \"d/two.safetensors\" is there and not listed"],
    );
    refused(
        "a file less",
        |model| fs::remove_file(model.join("d/two.safetensors")).unwrap(),
        &[],
        "",
        &[stale, "the file \"d/two.safetensors\" is listed and not signed"],
    );
    refused(
        "two files swapped",
        |model| {
            let (one, two) = (model.join("one.safetensors"), model.join("d/two.safetensors"));
            let bytes = fs::read(&one).unwrap();
            fs::copy(&two, &one).unwrap();
            write(two, bytes);
        },
        &[],
        "",
        &[stale, "the file \"one.safetensors\""],
    );
    refused(
        "no safetensors any more",
        |model| write(model.join("one.safetensors"), vec![0xff; 9999]),
        &[],
        "",
        &[stale, "the file \"one.safetensors\""],
    );
    refused(
        "no manifest",
        |model| write(model.join(OURS), "notes of mine"),
        &[],
        "",
        &["the tensor manifest \"tensorseal.tensors\" cannot be used", "does not begin like a tensor manifest"],
    );
    refused(
        "a manifest with a byte more",
        |model| {
            let mut bytes = fs::read(model.join(OURS)).unwrap();
            bytes.push(0);
            write(model.join(OURS), bytes);
        },
        &[],
        "",
        &["cannot be used: it ends at byte"],
    );
}

#[test]
fn a_file_that_is_not_as_signed_is_told_before_any_manifest() {
    let forge = place();
    sign(&forge, "--tensors").expect(0, "", "sign");
    let whole = forge.path().join("whole");
    copy(&forge.path().join("m"), &whole);
    for (name, at) in [("m/one.safetensors", 60), ("m/d/two.safetensors", 1_000_000), ("m/tensorseal.tensors", 100)] {
        for flags in ["", "--all-digests", "--digest blake3"] {
            common::flip(forge.path().join(name), at);
            let run = verify(&forge, &format!("{flags} --json"));
            assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (Some(1), Some("differs")), "{name} {flags}");
            common::flip(forge.path().join(name), at);
        }
    }
    verify(&forge, "--all-digests").expect(0, GOOD, "whole again");
}

#[test]
fn other_tiles_under_a_good_signature_are_the_signers_fault() {
    let forge = place();
    let statement = forge.statement("--tensors");
    let model = forge.path().join("m");
    let one = fs::read(model.join("one.safetensors")).unwrap();
    let mut two = fs::read(model.join("d/two.safetensors")).unwrap();
    let last = two.len() - 9;
    two[last] ^= 1;
    write(model.join(OURS), manifest(&[("one.safetensors", &one), ("d/two.safetensors", &two)]));
    // The headers are those that are listed: nothing less than hashing the tiles can tell.
    resigned(&forge, statement.clone(), &[], "").expect(0, "not recomputed", "without a look at tiles");
    let run = resigned(&forge, statement, &[], "--all-digests");
    run.expect(1, "signer inconsistent", "with one");
    run.expect(1, "\"b.weight\" rows 448..512, columns 896..1024 (tile 63 of 64", "which tile");
}

#[test]
fn outside_of_the_model_it_is_named_in_the_annotation_of_each_file_that_it_lists() {
    let forge = place();
    sign(&forge, "--tensors-out t.bin").expect(0, "5 tensors, 145 tiles in t.bin", "sign");
    assert!(!forge.path().join("m").join(OURS).exists());
    let mut statement = forge.statement("--tensors-out t.bin");
    let digest = blake3::hash(&fs::read(forge.path().join("t.bin")).unwrap()).to_hex().to_string();
    for resource in resources(&mut statement) {
        let listed = resource["name"].as_str().unwrap().ends_with(".safetensors");
        let named = resource["annotations"]["tensorseal/v1"].get("tensors");
        assert_eq!(named, listed.then(|| Value::from(digest.clone())).as_ref(), "{resource}");
    }
    verify(&forge, "").expect(0, "was not looked at (--tensors PATH checks it)", "not given");
    verify(&forge, "--tensors t.bin").expect(0, "5 tensors as in t.bin; 145 tiles, not recomputed", "given");
    verify(&forge, "--tensors t.bin --all-digests").expect(0, "145 tiles, all recomputed", "given");
    let told = verify(&forge, "--tensors t.bin --json").json();
    assert_eq!(told["tensor_manifests"][0]["detached"], true);
    let loaded = load(&forge, "s.sig", Some("t.bin")).unwrap();
    assert!(loaded.report().verified.tensor_manifests[0].detached, "{:?}", loaded.report());
    let loaded = load(&forge, "s.sig", None).unwrap();
    assert!(loaded.report().verified.notes.contains(&Note::TensorsNotGiven), "{:?}", loaded.report());
    // Another one, one with a bit flipped, none.
    let other = manifest(&[("one.safetensors", &safetensors(ONE, 1, ""))]);
    write(forge.path().join("other.bin"), other);
    verify(&forge, "--tensors other.bin").expect(
        1,
        "the tensor manifest \"other.bin\" has the digest blake3:",
        "another",
    );
    verify(&forge, "--tensors none.bin").expect(3, "cannot read tensor manifest", "none");
    not_loaded(&load(&forge, "s.sig", Some("other.bin")).unwrap_err(), &["has the digest blake3:"], "another");
    assert!(matches!(load(&forge, "s.sig", Some("none.bin")), Err(Error::Io { .. })));
    // A name left out, one too many, two of them, one that is none.
    let change = |statement: &mut Value, name: &str, value: Option<Value>| {
        let resource = resources(statement).iter_mut().find(|resource| resource["name"] == name).unwrap();
        let ours = resource["annotations"]["tensorseal/v1"].as_object_mut().unwrap();
        match value {
            Some(value) => ours.insert("tensors".to_owned(), value),
            None => ours.remove("tensors"),
        };
    };
    let flags = "--tensors t.bin";
    resigned(&forge, statement.clone(), &[], flags).expect(0, GOOD, "the test's own signature");
    for (name, value, words) in [
        ("one.safetensors", None, "the file \"one.safetensors\" is listed and signed without naming it"),
        ("a", Some(digest.as_str().into()), "the file \"a\" names it and is not listed"),
        ("a", Some("00".repeat(32).into()), "names the tensor manifest"),
        ("a", Some("00".into()), "malformed"),
        ("a", Some(7.into()), "malformed"),
        ("a", Some(Value::Null), "malformed"),
    ] {
        let mut statement = statement.clone();
        change(&mut statement, name, value);
        resigned(&forge, statement, &[], flags).expect(1, words, name);
        let error = load(&forge, "f.sig", Some("t.bin")).unwrap_err();
        assert!(error.refusal().is_some() && error.to_string().contains(words), "{name}: {error}");
    }
    // A signature that names none.
    sign(&forge, "").expect(0, "", "sign");
    verify(&forge, flags).expect(1, "\"t.bin\" is not signed", "a signature without");
    // Under BLAKE3 as the OMS digest the annotation is there for this alone, and says the same.
    sign(&forge, "--hash blake3 --tensors-out t.bin").expect(0, "", "blake3");
    verify(&forge, "--tensors t.bin --all-digests").expect(0, "145 tiles, all recomputed", "blake3");
    // Every signature must name it.
    let path = forge.path().join("m").canonicalize().unwrap();
    let policy =
        format!("version = 1\n[signers.team]\nkey = \"key.pub\"\n[[rule]]\npath = {path:?}\nany_of = [\"team\"]\n");
    write(forge.path().join("policy.toml"), policy);
    sign(&forge, "--tensors-out t.bin").expect(0, "", "sign");
    seal(forge.path(), "verify m --policy policy.toml --signature s.sig --tensors t.bin").expect(
        0,
        "145 tiles",
        "policy",
    );
    seal(forge.path(), "sign key m --private-key key.pem --signature plain.sig").expect(0, "", "plain");
    let both = "verify m --policy policy.toml --signature s.sig --signature plain.sig --tensors t.bin";
    seal(forge.path(), both).expect(1, "is not signed", "one of two");
}

#[test]
fn a_single_file_has_its_manifest_elsewhere() {
    let forge = place();
    let run = |line: &str| seal(forge.path(), line);
    for form in ["dot", "basename"] {
        let sign =
            format!("sign key m/one.safetensors --private-key key.pem --signature 1.sig --single-file-name {form}");
        run(&format!("{sign} --tensors")).expect(2, "--tensors-out PATH writes the tensor manifest elsewhere", form);
        run(&format!("{sign} --tensors-out 1.bin")).expect(0, "3 tensors", form);
        let verify = "verify key m/one.safetensors --public-key key.pub --signature 1.sig --tensors 1.bin";
        for flags in ["", "--all-digests", "--digest blake3"] {
            run(&format!("{verify} {flags}")).expect(0, "3 tensors as in 1.bin", form);
        }
        run(&verify.replace("1.bin", "1.sig")).expect(1, "has the digest", "something else");
    }
}

#[test]
fn a_stale_manifest_is_not_signed_and_nothing_else_is_replaced() {
    let forge = place();
    let model = forge.path().join("m");
    sign(&forge, "--tensors").expect(0, "", "sign");
    let (manifest, signature) = (fs::read(model.join(OURS)).unwrap(), fs::read(forge.path().join("s.sig")).unwrap());
    // Other weights under the same header, another header, a file more, a file less.
    let two = fs::read(model.join("d/two.safetensors")).unwrap();
    let changes: [(&str, &dyn Fn()); 4] = [
        ("tile 63 of 64", &|| common::flip(model.join("d/two.safetensors"), two.len() - 9)),
        ("has another header than is listed", &|| one(ONE, "!")(&model)),
        ("\"three.safetensors\" is there and not listed", &|| {
            write(model.join("three.safetensors"), safetensors(&[("c", "F16", &[2, 2])], 3, ""));
        }),
        ("\"d/two.safetensors\" is listed and not there", &|| {
            fs::remove_file(model.join("d/two.safetensors")).unwrap();
        }),
    ];
    for (words, change) in changes {
        change();
        let run = sign(&forge, "");
        run.expect(3, "m/tensorseal.tensors\" is stale", words);
        run.expect(3, words, "how");
        run.expect(3, "--tensors makes it anew, or remove it", "the remedy");
        assert_eq!(run_kind(&sign(&forge, "--json")), "tensor-manifest");
        assert_eq!(
            (fs::read(model.join(OURS)).unwrap(), fs::read(forge.path().join("s.sig")).unwrap()),
            (manifest.clone(), signature.clone())
        );
        seal(forge.path(), "digest m").expect(0, "", "a digest is a digest");
        sign(&forge, "--ignore-paths m/tensorseal.tensors").expect(0, "", "ignored, it is no file of the model");
        write(model.join("d/two.safetensors"), &two);
        one(ONE, "")(&model);
        let _ = fs::remove_file(model.join("three.safetensors"));
        write(forge.path().join("s.sig"), &signature);
    }
    // Made anew for other weights.
    common::flip(model.join("d/two.safetensors"), two.len() - 9);
    sign(&forge, "--tensors").expect(0, "145 tiles", "anew");
    assert_ne!(fs::read(model.join(OURS)).unwrap(), manifest);
    verify(&forge, "--all-digests").expect(0, "all recomputed", "anew");
    // A file of that name that is none.
    write(model.join(OURS), "notes of mine");
    sign(&forge, "").expect(3, "has the name of tensor manifests and is none", "without");
    sign(&forge, "--tensors").expect(3, "is there and is no tensor manifest, so it is not replaced", "with");
    assert_eq!(fs::read(model.join(OURS)).unwrap(), b"notes of mine");
    write(forge.path().join("t.bin"), "notes of mine");
    fs::remove_file(model.join(OURS)).unwrap();
    sign(&forge, "--tensors-out t.bin").expect(3, "is not replaced", "outside");
    std::os::unix::fs::symlink("a", model.join(OURS)).unwrap();
    sign(&forge, "--tensors --allow-symlinks").expect(3, "is not replaced", "a link");
}

fn run_kind(run: &Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_is_said_before_any_file_is_read() {
    let forge = place();
    for (flags, words) in [
        ("--tensors --shards 64KiB", "cannot be used with"),
        ("--tensors --no-annotations", "cannot be used with"),
        ("--tensors --tensors-out t.bin", "cannot be used with"),
        ("--tensors-out m/t.bin", "lies in the model"),
        ("--tensors-out s.sig", "is where the signature goes"),
        ("--tensors-out m/../s.sig", "is where the signature goes"),
        ("--tensors --ignore-paths m/tensorseal.tensors", "lies under the ignored path"),
    ] {
        sign(&forge, flags).expect(2, words, flags);
        assert!(!forge.path().join("s.sig").exists() && !forge.path().join("m").join(OURS).exists(), "{flags}");
    }
    sign(&forge, "--tensors").expect(0, "", "sign");
    sign(&forge, "--shards 64KiB").expect(3, "cannot be checked in a model that is signed in shards", "shards");
    for name in ["one.safetensors", "d/two.safetensors"] {
        fs::remove_file(forge.path().join("m").join(name)).unwrap();
    }
    sign(&forge, "--tensors").expect(3, "holds no file of tensors", "nothing to list");
    sign(&forge, "").expect(3, "is stale", "nothing to list");
    let bad = safetensors(&[("x", "F99", &[2])], 1, "");
    write(forge.path().join("m/one.safetensors"), bad);
    sign(&forge, "--tensors").expect(3, "the tensors of", "a header that cannot be read");
    // Twice the name of a tensor in one model: nobody could say which.
    for name in ["one.safetensors", "two.safetensors"] {
        write(forge.path().join("m").join(name), safetensors(ONE, 1, ""));
    }
    sign(&forge, "--tensors").expect(3, "is there twice", "two files of one content");
}

#[test]
fn an_outboard_has_the_new_manifest_too() {
    let forge = place();
    sign(&forge, "--tensors --outboard o.trees --outboard-group 1KiB").expect(0, "145 tiles", "sign");
    let line = "verify key m --public-key key.pub --signature s.sig --outboard o.trees";
    seal(forge.path(), line).expect(0, "145 tiles", "verify");
    common::flip(forge.path().join("m").join(OURS), 3000);
    let run = seal(forge.path(), &format!("{line} --json"));
    let places = &run.json()["located"][0]["places"];
    assert_eq!((run.code, &places[0]["start"], &places[0]["end"]), (Some(1), &json!(2048), &json!(3072)), "{places}");
}

#[test]
fn in_shards_it_is_a_file_like_others() {
    let forge = place();
    let bytes =
        manifest(&[("one.safetensors", &safetensors(ONE, 1, "")), ("d/two.safetensors", &safetensors(TWO, 2, ""))]);
    // As another program would: it is put in place by its other name.
    write(forge.path().join("m/plain"), bytes);
    let statement = forge.statement("--shards 64KiB");
    fs::rename(forge.path().join("m/plain"), forge.path().join("m").join(OURS)).unwrap();
    let text = statement.to_string().replace("\"plain:", "\"tensorseal.tensors:");
    let mut statement: Value = serde_json::from_str(&text).unwrap();
    fix_root(&mut statement);
    let run = forge.verify_payload(&statement.to_string(), "");
    run.expect(0, "which was not compared with the files", "verified as bytes alone");
    let first = &mut resources(&mut statement)[0]["annotations"]["tensorseal/v1"];
    first["tensors"] = "00".repeat(32).into();
    forge.verify_payload(&statement.to_string(), "").expect(1, "beside a shard", "an annotation of a shard");
}

/// Of a stale manifest that was signed all the same, what is said of a part of the model is about the files of that part.
#[test]
fn of_a_part_of_a_model_the_files_that_were_asked_for_are_compared() {
    let forge = place();
    let statement = forge.statement("--tensors");
    one(&[("a.weight", "I16", &[64, 48]), ONE[1], ONE[2]], "")(&forge.path().join("m"));
    resigned(&forge, statement, &[], "").expect(1, "one.safetensors", "all of it");
    let trusted = KeyVerifier::new(forge.key.public_key());
    let part = |names: &[&str]| {
        let only = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let options = LoadOptions { only, ..LoadOptions::default() };
        let (model, signature) = (forge.path().join("m"), forge.path().join("f.sig"));
        load_verified(&model, &signature, &trusted, &options, &Cpu::open(Settings::default()).unwrap(), &Silent)
    };
    assert_eq!(part(&["d/two.safetensors", OURS]).unwrap().report().verified.tensor_manifests.len(), 1);
    not_loaded(&part(&["one.safetensors", OURS]).unwrap_err(), &["one.safetensors"], "a stale one");
    assert_eq!(part(&["one.safetensors"]).unwrap().tensors().count(), ONE.len());
}
