//! What Python's `model_signing` accepts on its command line and clap would not: `--allow_symlinks` for
//! `--allow-symlinks` (1.1.1 knows only the first, its successor both), and `sign DIR` for `sign sigstore DIR`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Methods that may follow `sign`, `verify` or `locate`.
const METHODS: [&str; 6] = ["key", "certificate", "sigstore", "pkcs11-key", "pkcs11-certificate", POLICY];

/// What to verify by where no method is named and this option is: `verify MODEL --policy FILE`.
const POLICY: &str = "policy";
const POLICY_OPTION: &str = "--policy";

/// The method where none is named.
const DEFAULT: &str = "sigstore";

/// The one option that may stand before a command and takes a value.
const GLOBAL_WITH_VALUE: &str = "--log-level";

/// A command line in the one spelling that clap is told.
pub(super) fn normalized(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut options_end = false;
    for arg in args {
        options_end |= arg == "--";
        all.push(if options_end { arg } else { hyphens(arg) });
    }
    insert_method(&mut all);
    all
}

/// Underscores in the name of a long option, not in a value after `=`.
fn hyphens(arg: OsString) -> OsString {
    if !arg.as_bytes().starts_with(b"--") {
        return arg;
    }
    let mut bytes = arg.into_vec();
    let name = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    for byte in &mut bytes[..name] {
        if *byte == b'_' {
            *byte = b'-';
        }
    }
    OsString::from_vec(bytes)
}

/// Where the next word stands that is not the option of every command.
fn next_word(args: &[OsString], mut at: usize) -> usize {
    while let Some(arg) = args.get(at).filter(|arg| arg.as_bytes().starts_with(GLOBAL_WITH_VALUE.as_bytes())) {
        at += if arg == GLOBAL_WITH_VALUE { 2 } else { 1 };
    }
    at
}

/// Whether a command takes the methods of `verify`.
fn verifies(command: &OsString) -> bool {
    command == "verify" || command == "locate"
}

fn insert_method(args: &mut Vec<OsString>) {
    let group = next_word(args, 1);
    let at = next_word(args, group + 1);
    let of_group = args.get(group).is_some_and(|command| command == "sign" || verifies(command));
    let known = |next: &OsString| METHODS.iter().any(|method| next == method) || next == "-h" || next == "--help";
    if of_group && args.get(at).is_some_and(|next| !known(next)) {
        let before_values = args.iter().take_while(|arg| *arg != "--");
        let is_policy = |arg: &OsString| {
            arg.as_bytes().strip_prefix(POLICY_OPTION.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
        };
        let by_policy = verifies(&args[group]) && before_values.skip(at).any(is_policy);
        args.insert(at, if by_policy { POLICY } else { DEFAULT }.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let args = ["tensorseal"].into_iter().chain(text.split(' ')).map(OsString::from);
        let args: Vec<String> = normalized(args).into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn options_may_have_underscores_and_values_keep_theirs() {
        for (given, meant) in [
            ("verify key my_model --public_key my_key.pub", "verify key my_model --public-key my_key.pub"),
            ("sign key m --private_key=a_b --ignore_paths x_y", "sign key m --private-key=a_b --ignore-paths x_y"),
            ("sign key m -- --odd_name", "sign key m -- --odd_name"),
        ] {
            assert_eq!(line(given), meant);
        }
    }

    #[test]
    fn sigstore_is_the_method_unless_one_is_named() {
        for (given, meant) in [
            ("sign model", "sign sigstore model"),
            ("verify --signature s model", "verify sigstore --signature s model"),
            ("--log-level DEBUG verify model", "--log-level DEBUG verify sigstore model"),
            ("--log_level=INFO sign model", "--log-level=INFO sign sigstore model"),
            ("sign --log-level INFO key model", "sign --log-level INFO key model"),
            ("sign key model", "sign key model"),
            ("verify certificate model", "verify certificate model"),
            ("sign --help", "sign --help"),
            ("sign", "sign"),
            ("digest sign", "digest sign"),
            ("--version sign model", "--version sign model"),
            ("verify model --policy p.toml", "verify policy model --policy p.toml"),
            ("verify --policy=p.toml model", "verify policy --policy=p.toml model"),
            ("verify policy model --policy p.toml", "verify policy model --policy p.toml"),
            ("verify model -- --policy", "verify sigstore model -- --policy"),
            ("verify model --policyfile p", "verify sigstore model --policyfile p"),
            ("verify key model --policy p.toml", "verify key model --policy p.toml"),
            ("locate model --outboard t", "locate sigstore model --outboard t"),
            ("locate --policy p.toml model", "locate policy --policy p.toml model"),
            ("locate key model", "locate key model"),
            ("sign model --policy p.toml", "sign sigstore model --policy p.toml"),
        ] {
            assert_eq!(line(given), meant);
        }
    }
}
