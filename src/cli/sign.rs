//! `sign`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tensorseal::key::PrivateKey;
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::sign::{Annotations, KeySigner, SignOptions, Signed, SingleFileName, who_cannot_verify};
use tensorseal::{Algorithm, Error, sign};

use super::args::{HashArg, SignKeyArgs, SingleFileArg};
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::{Asked, can_write, failed, json, password, printed, read_key, say, tell};

pub(super) fn key(args: &SignKeyArgs) -> Exit {
    let asked = Asked {
        command: "sign",
        model: Some(&args.model.model),
        signature: Some(&args.signature),
        json: args.engine.json,
    };
    let options = options(args);
    let signed = match sign_key(args, &options) {
        Ok(signed) => signed,
        Err(error) => {
            let exit = failed(&asked, "Signing failed with error:", &error);
            tell::next(&error, None);
            device::next(&error, None);
            return exit;
        }
    };
    let compatibility = who_cannot_verify(&options, args.model.model.is_file());
    let exit = if args.engine.json {
        let mut report = json::head(&asked, Exit::Yes);
        json::insert(&mut report, json::hashed(&signed.hashed));
        report.insert("cannot_be_verified_by".into(), compatibility.clone().into());
        printed(&json::text(&report))
    } else {
        let exit = printed(&say::success("Signing succeeded"));
        tell::hashed(&signed.hashed);
        say::detail("signature", say::path(&args.signature));
        exit
    };
    signed.hashed.notes.iter().for_each(say::warning);
    compatibility.iter().for_each(say::warning);
    exit
}

fn sign_key(args: &SignKeyArgs, options: &SignOptions) -> Result<Signed, Error> {
    let device = device::open(&args.engine, Work::of([options.hash]))?;
    let path = &args.private_key;
    let pem = read_key(path)?;
    password::protest(&args.password);
    let mut password_used = false;
    let key = PrivateKey::from_pem(&pem, &mut || {
        password_used = true;
        password::for_key(path, &args.password)
    })
    .map_err(|source| Error::Key { path: path.clone(), source })?;
    warn_if_others_can_read(path);
    if !password_used && args.password.any() {
        say::warning(format_args!("the key {} is not encrypted; the password was not used", say::path(path)));
    }
    can_write("write signature", &args.signature)?;
    let bar = Bar::new(!args.engine.json);
    let signed = sign(&args.model.model, &args.signature, &KeySigner::new(key), options, &device, &bar)?;
    drop(bar);
    signed.write(&args.signature)?;
    Ok(signed)
}

fn warn_if_others_can_read(path: &Path) {
    const OTHERS_READ: u32 = 0o044;
    if std::fs::metadata(path).is_ok_and(|meta| meta.mode() & OTHERS_READ != 0) {
        say::warning(format_args!(
            "other users can read the private key {}; make it yours alone with `chmod 600`",
            say::path(path)
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
