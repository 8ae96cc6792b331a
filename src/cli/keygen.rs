//! `keygen`.

use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::json;
use tensorseal::Error;
use tensorseal::key::{Curve, Existing, KeyError, PrivateKey};

use super::args::KeygenArgs;
use super::digest::check_line;
use super::exit::Exit;
use super::{Asked, can_write, failed, failed_with, folder_of, json, password, printed, say, tell};

/// What was made.
struct Made {
    hint: String,
    encrypted: bool,
}

pub(super) fn run(args: &KeygenArgs) -> Exit {
    let asked = Asked { command: "keygen", model: None, signature: None, json: args.json };
    let usage = |why: String| {
        say::failure("error:", &why);
        failed_with(&asked, Exit::Usage, json!({"error": {"kind": "usage", "message": why}}))
    };
    let curve: Curve = match args.curve.parse() {
        Ok(curve) => curve,
        Err(error) => return usage(format!("{error}")),
    };
    let public = args.public.clone().unwrap_or_else(|| args.out.with_extension("pub"));
    if place(&public) == place(&args.out) {
        let path = say::path(&public);
        return usage(format!("both keys would be written to {path}; name another file with --out or --public"));
    }
    let made = match make(args, &public, curve) {
        Ok(made) => made,
        Err(error) => {
            let exit = failed(&asked, "Making a key failed:", &error);
            tell::next(&error, None);
            return exit;
        }
    };
    if args.json {
        let mut report = json::head(&asked, Exit::Yes);
        json::insert(
            &mut report,
            json!({
                "private_key": args.out.to_string_lossy(),
                "encrypted": made.encrypted,
                "public_key": public.to_string_lossy(),
                "curve": curve.name(),
                "fingerprint": made.hint,
            }),
        );
        return printed(&json::text(&report));
    }
    let secret = if made.encrypted { "encrypted" } else { "not encrypted" };
    say::detail("private key", format_args!("{}  ({curve}, {secret}; keep it to yourself)", say::path(&args.out)));
    say::detail("public key", format_args!("{}  (for whoever verifies)", say::path(&public)));
    // The fingerprint by which signatures name this key, as `sha256sum` would print it.
    printed(&check_line(&made.hint, &public.to_string_lossy()))
}

fn make(args: &KeygenArgs, public: &Path, curve: Curve) -> Result<Made, Error> {
    if !args.force {
        for path in [&*args.out, public] {
            if path.symlink_metadata().is_ok() {
                return Err(exists(path));
            }
        }
    }
    let of_key = |source| Error::Key { path: args.out.clone(), source };
    password::protest(&args.password);
    let of_password = |error| of_key(KeyError::Password(error));
    let password = match password::given(&args.password).map_err(of_password)? {
        None if args.encrypt => Some(password::new().map_err(of_password)?),
        given => given,
    };
    can_write("write key", &args.out)?;
    can_write("write key", public)?;
    let key = PrivateKey::generate(curve).map_err(of_key)?;
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let replaces = public.symlink_metadata().is_ok();
    let hint = key.public_key().hint();
    // The public key goes first: it can be had again from the private one, never the other way round.
    key.public_key().write(public, existing)?;
    if let Err(error) = key.write(&args.out, password.as_deref().map(String::as_str), existing) {
        // Half a pair is of no use, and would be in the way of the next attempt.
        if !replaces {
            let _ = std::fs::remove_file(public);
        }
        return Err(error);
    }
    Ok(Made { hint, encrypted: password.is_some() })
}

/// Where writing to this path would write, however it is spelled, through links too.
fn place(path: &Path) -> PathBuf {
    let plain = || Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(plain).unwrap_or_else(|| path.to_owned())
}

fn exists(path: &Path) -> Error {
    let why = "it exists; choose another path, or --force to replace it";
    Error::Io { doing: "write key", path: PathBuf::from(path), source: IoError::new(ErrorKind::AlreadyExists, why) }
}
