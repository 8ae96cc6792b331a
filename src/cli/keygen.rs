//! `keygen`.

use std::path::{Path, PathBuf};

use tensorseal::Error;
use tensorseal::key::{Curve, KeyError, PrivateKey};

use super::args::KeygenArgs;
use super::exit::Exit;
use super::{failed, password, printed, say};

pub(super) fn run(args: &KeygenArgs) -> Exit {
    let curve: Curve = match args.curve.parse() {
        Ok(curve) => curve,
        Err(error) => {
            say::failure("error:", error);
            return Exit::Usage;
        }
    };
    match make(args, curve) {
        Ok((public, hint)) => {
            say::detail("private key", args.out.display());
            say::detail("public key", public.display());
            printed(&format!("{hint}\n"))
        }
        Err(error) => failed("Making a key failed:", "keygen", &error, false),
    }
}

fn make(args: &KeygenArgs, curve: Curve) -> Result<(PathBuf, String), Error> {
    let public = args.public.clone().unwrap_or_else(|| args.out.with_extension("pub"));
    if !args.force {
        for path in [&args.out, &public] {
            if path.symlink_metadata().is_ok() {
                return Err(exists(path));
            }
        }
    }
    let of_key = |source| Error::Key { path: args.out.clone(), source };
    let of_password = |error| of_key(KeyError::Password(error));
    let password = match password::given(&args.password).map_err(of_password)? {
        None if args.encrypt => Some(password::new().map_err(of_password)?),
        given => given,
    };
    let key = PrivateKey::generate(curve).map_err(of_key)?;
    key.write(&args.out, password.as_deref().map(String::as_str))?;
    key.public_key().write(&public)?;
    Ok((public, key.public_key().hint()))
}

fn exists(path: &Path) -> Error {
    let source = std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "it exists; choose another path, or --force to replace it",
    );
    Error::Io { doing: "write key", path: path.to_owned(), source }
}
