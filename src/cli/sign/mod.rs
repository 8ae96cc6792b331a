//! `sign`.

mod certificate;
mod key;
#[cfg(feature = "sigstore-sign")]
mod login;
mod pkcs11;
#[cfg(feature = "sigstore-sign")]
mod sigstore;

use serde_json::{Map, Value};
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::method::sign_to;
use tensorseal::outboard::OutboardOptions;
use tensorseal::sign::{Annotations, SignOptions, Signed, Signer, SingleFileName, Tensors, who_cannot_verify};
use tensorseal::{Algorithm, Error};

pub(super) use certificate::certificate;
pub(super) use key::{key, private_key};
pub(super) use pkcs11::{pkcs11_certificate, pkcs11_key};
#[cfg(feature = "sigstore-sign")]
pub(super) use sigstore::sigstore;

use super::args::{HashArg, SignArgs, SingleFileArg};
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::{Asked, failed, json, locate, printed, say, tell};

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
        json::insert(&mut report, json::signing(&signed.hashed, &options, args.model.model.is_file()));
        more(Some(&mut report));
        printed(&json::text(&report))
    } else {
        let exit = printed(&say::success("Signing succeeded"));
        tell::hashed(&signed.hashed);
        more(None);
        say::detail("signature", say::path(&args.signature));
        if let (Some(outboard), Some(path)) = (&signed.hashed.outboard, &args.outboard) {
            let group = locate::size(outboard.group().bytes());
            say::detail("outboard", format_args!("{}, in groups of {group}", say::path(path)));
        }
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
    let bar = Bar::new(!args.engine.json);
    sign_to(&args.model.model, &args.signature, &*signer, options, &device, &bar)
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
        tensors: match (&args.tensors_out, args.tensors) {
            (Some(path), _) => Tensors::Detached(path.clone()),
            (None, true) => Tensors::InModel,
            (None, false) => Tensors::AsFound,
        },
        // The option's parser has let through no other group than these.
        outboard: args.outboard.clone().and_then(|path| OutboardOptions::new(path).with_group(args.outboard_group)),
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
