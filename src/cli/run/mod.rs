//! `run`: verifies a model on disk, then becomes a command, or does not.

mod exec;

use std::path::{Path, PathBuf};

use tensorseal::receipt::{Acceptance, Purpose};

use self::exec::{Fault, Inherited};
use super::args::RunArgs;
use super::exit::Exit;
use super::{Asked, failed_with, say, verify};

/// Where the command finds the path of the receipt, if one was written.
const RECEIPT_VARIABLE: &str = "TENSORSEAL_RECEIPT";

pub(super) fn run(args: &RunArgs) -> Exit {
    let common = &args.verify;
    let asked = Asked {
        command: super::RUN,
        model: Some(&common.model.model),
        signature: common.signature.first().map(|path| &**path),
        json: common.engine.json,
    };
    // Before anything is opened, and long before hours of hashing.
    let inherited = match Inherited::now() {
        Ok(inherited) => inherited,
        Err(error) => {
            return cannot(&asked, Exit::NoAnswer, &format!("cannot list open files in /proc/self/fd: {error}"));
        }
    };
    let name = args.command.first().map_or_else(Default::default, Clone::clone);
    let shown = say::path(Path::new(&name));
    let file = match exec::find(&name, std::env::var_os("PATH")) {
        Ok(file) => file,
        Err(Fault::NotFound) => {
            let why = format!("there is no command {shown}; install it, or give its path");
            return cannot(&asked, Exit::NotFound, &why);
        }
        Err(Fault::NotExecutable(file)) => {
            let why = format!("{} cannot be run; it is no program, or not one that you may run", say::path(&file));
            return cannot(&asked, Exit::NotExecutable, &why);
        }
    };
    let accept = args
        .accept_receipt
        .as_ref()
        .map(|path| Acceptance { path: path.clone(), trust_file_identity: args.trust_file_identity });
    if let (Some(accepted), Some(written)) = (&args.accept_receipt, &common.receipt.receipt)
        && leads_to_one(accepted, written)
    {
        let why = "--receipt would replace the receipt of --accept-receipt by one that rests on it, and that no run accepts; write it to another path";
        return cannot(&asked, Exit::Usage, why);
    }
    // With a receipt to accept, nothing was hashed, or there is no yes.
    let what = if accept.is_some() { "not hashed" } else { "checked on disk" };
    let exit = verify::by_policy(&asked, common, Purpose::Exec, accept);
    if exit != Exit::Yes {
        return exit;
    }
    if !common.engine.json {
        say::detail("", format_args!("{what} before exec: what the command reads from now on was not looked at"));
    }
    let receipt = common.receipt.receipt.as_deref().map(absolute);
    let error = exec::become_command(&file, &args.command, receipt.as_deref(), &inherited);
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::NotExecutable,
    };
    cannot(&asked, exit, &format!("cannot run {}: {error}", say::path(&file)))
}

/// The command may change its folder before it looks.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn leads_to_one(one: &Path, other: &Path) -> bool {
    one == other
        || std::fs::canonicalize(one).is_ok_and(|one| std::fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn cannot(asked: &Asked<'_>, exit: Exit, why: &str) -> Exit {
    say::failure("error:", why);
    let kind = if exit == Exit::Usage { "usage" } else { "command" };
    failed_with(asked, exit, serde_json::json!({"error": {"kind": kind, "message": why}}))
}
