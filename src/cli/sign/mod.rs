//! `sign`.

mod certificate;
mod key;
#[cfg(feature = "sigstore-sign")]
mod login;
mod pkcs11;
#[cfg(feature = "sigstore-sign")]
mod sigstore;
mod timestamp;

use serde_json::{Map, Value};
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::sign::{Annotations, SignOptions, Signed, Signer, SingleFileName, who_cannot_verify};
use tensorseal::{Algorithm, Error, sign};

pub(super) use certificate::certificate;
pub(super) use key::{key, private_key};
pub(super) use pkcs11::{pkcs11_certificate, pkcs11_key};
#[cfg(feature = "sigstore-sign")]
pub(super) use sigstore::sigstore;

use super::args::{HashArg, SignArgs, SingleFileArg};
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::{Asked, can_write, failed, json, printed, say, tell};

/// `sign sigstore`, in a build that cannot.
#[cfg(not(feature = "sigstore-sign"))]
pub(super) fn sigstore(args: &super::args::SignSigstoreArgs) -> Exit {
    run(&args.common, || Err(Error::NoFeature { what: "sign with Sigstore", feature: "sigstore-sign" }))
}

/// Signs with what `signer` makes of the method's own options, and tells what came of it.
fn run(args: &SignArgs, signer: impl FnOnce() -> Result<Box<dyn Signer>, Error>) -> Exit {
    run_and_tell(args, signer, |_| {})
}

/// The same; `more` adds to the report in JSON, or, without one, tells what the method has to tell.
fn run_and_tell(
    args: &SignArgs,
    signer: impl FnOnce() -> Result<Box<dyn Signer>, Error>,
    more: impl FnOnce(Option<&mut Map<String, Value>>),
) -> Exit {
    let asked = Asked {
        command: "sign",
        model: Some(&args.model.model),
        signature: Some(&args.signature),
        json: args.engine.json,
    };
    let options = options(args);
    let signed = match signed(args, &options, signer) {
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
        more(Some(&mut report));
        printed(&json::text(&report))
    } else {
        let exit = printed(&say::success("Signing succeeded"));
        tell::hashed(&signed.hashed);
        more(None);
        say::detail("signature", say::path(&args.signature));
        exit
    };
    signed.hashed.notes.iter().for_each(say::warning);
    compatibility.iter().for_each(say::warning);
    exit
}

fn signed(
    args: &SignArgs,
    options: &SignOptions,
    signer: impl FnOnce() -> Result<Box<dyn Signer>, Error>,
) -> Result<Signed, Error> {
    let device = device::open(&args.engine, Work::of([options.hash]))?;
    let signer = signer()?;
    can_write("write signature", &args.signature)?;
    let bar = Bar::new(!args.engine.json);
    let signed = sign(&args.model.model, &args.signature, &*signer, options, &device, &bar)?;
    drop(bar);
    signed.write(&args.signature)?;
    Ok(signed)
}

fn options(args: &SignArgs) -> SignOptions {
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
