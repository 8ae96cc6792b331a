//! `sign` and `digest`.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tensorseal::key::PrivateKey;
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::sign::{Annotations, KeySigner, SignOptions, Signed, SingleFileName, who_cannot_verify};
use tensorseal::verify::GitFiles;
use tensorseal::{Algorithm, Error, hash, sign};

use super::args::{DigestArgs, HashArg, SignKeyArgs, SingleFileArg};
use super::exit::Exit;
use super::progress::Bar;
use super::{failed, json, open_device, password, printed, read_key, say};

pub(super) fn key(args: &SignKeyArgs) -> Exit {
    let options = options(args);
    match sign_key(args, &options) {
        Ok(signed) => {
            let compatibility = who_cannot_verify(&options, args.model.model.is_file());
            compatibility.iter().for_each(say::warning);
            if args.engine.json {
                let mut report = json::head("sign", Exit::Yes);
                report.insert("model".into(), args.model.model.display().to_string().into());
                report.insert("signature".into(), args.signature.display().to_string().into());
                json::insert(&mut report, json::hashed(&signed.hashed));
                report.insert("cannot_be_verified_by".into(), compatibility.into());
                return printed(&json::text(&report));
            }
            let exit = match say::success("Signing succeeded") {
                Ok(()) => Exit::Yes,
                Err(_) => Exit::NoAnswer,
            };
            say::hashed(&signed.hashed);
            say::detail("signature", args.signature.display());
            exit
        }
        Err(error) => failed("Signing failed with error:", "sign", &error, args.engine.json),
    }
}

fn sign_key(args: &SignKeyArgs, options: &SignOptions) -> Result<Signed, Error> {
    let device = open_device(&args.engine)?;
    let path = &args.private_key;
    let pem = read_key(path)?;
    warn_if_others_can_read(path);
    let key = PrivateKey::from_pem(&pem, &mut || password::for_key(&args.password))
        .map_err(|source| Error::Key { path: path.clone(), source })?;
    let bar = Bar::new(!args.engine.json);
    let signed = sign(&args.model.model, &args.signature, &KeySigner::new(key), options, &device, &bar)?;
    signed.bundle.write(&args.signature)?;
    Ok(signed)
}

fn warn_if_others_can_read(path: &Path) {
    const OTHERS_READ: u32 = 0o044;
    if std::fs::metadata(path).is_ok_and(|meta| meta.mode() & OTHERS_READ != 0) {
        say::warning(format_args!(
            "other users can read the private key {}; make it yours alone with `chmod 600`",
            path.display()
        ));
    }
}

fn options(args: &SignKeyArgs) -> SignOptions {
    SignOptions {
        method: args.shards.map_or(Method::Files, |size| Method::Shards { size }),
        hash: args.hash.into(),
        shard_naming: if args.shards_compat { ShardNaming::Compat } else { ShardNaming::Spec },
        annotations: if args.no_annotations { Annotations::None } else { Annotations::Blake3 },
        symlinks: args.model.symlinks(),
        ignore_paths: args.model.ignore_paths.clone(),
        git_files: args.model.git_files(),
        single_file_name: match args.single_file_name {
            SingleFileArg::Dot => SingleFileName::Dot,
            SingleFileArg::Basename => SingleFileName::Basename,
        },
    }
}

impl From<HashArg> for Algorithm {
    fn from(hash: HashArg) -> Self {
        match hash {
            HashArg::Sha256 => Self::Sha256,
            HashArg::Blake2b => Self::Blake2b,
            HashArg::Blake3 => Self::Blake3,
        }
    }
}

pub(super) fn digest(args: &DigestArgs) -> Exit {
    match digests(args) {
        Ok(text) => printed(&text),
        Err(error) => failed("Computing digest failed:", "digest", &error, args.engine.json),
    }
}

fn digests(args: &DigestArgs) -> Result<String, Error> {
    let device = open_device(&args.engine)?;
    let options = SignOptions {
        hash: args.hash.into(),
        annotations: Annotations::None,
        symlinks: args.model.symlinks(),
        ignore_paths: args.model.ignore_paths.clone(),
        git_files: match args.model.git_files() {
            GitFiles::Keep => GitFiles::Keep,
            GitFiles::AsSigned | GitFiles::Ignore => GitFiles::Ignore,
        },
        ..SignOptions::default()
    };
    let bar = Bar::new(!args.engine.json);
    let hashed = hash(&args.model.model, None, &options, &device, &bar)?;
    hashed.notes.iter().for_each(say::note);
    if args.engine.json {
        let mut report = json::head("digest", Exit::Yes);
        report.insert("model".into(), args.model.model.display().to_string().into());
        json::insert(&mut report, json::hashed(&hashed));
        let of_file = |r: &tensorseal::manifest::Resource| serde_json::json!({"name": r.name.as_str(), "digest": r.digest.to_string()});
        report.insert("digests".into(), hashed.manifest.resources().iter().map(of_file).collect());
        return Ok(json::text(&report));
    }
    if !args.files {
        return Ok(format!("{}\n", hashed.manifest.root()));
    }
    let mut text = String::new();
    for resource in hashed.manifest.resources() {
        let name = resource.name.as_str();
        // Lines name files as they are reached from the current folder, which is where `--check` will look.
        let path = if name == "." { args.model.model.clone() } else { args.model.model.join(name) };
        let path = path.to_str().unwrap_or(name);
        let (mark, path) = escaped(path);
        let _ = writeln!(text, "{mark}{}  {path}", resource.digest.to_hex());
    }
    Ok(text)
}

/// Backslashes and line ends in names, as coreutils and b3sum write and read them: escaped, with a mark before the line.
fn escaped(path: &str) -> (&'static str, String) {
    if path.contains(['\\', '\n']) {
        ("\\", path.replace('\\', "\\\\").replace('\n', "\\n"))
    } else {
        ("", path.to_owned())
    }
}
