//! What came of a command, as a person reads it.

use std::time::Duration;

use tensorseal::key::{KeyError, PasswordError};
use tensorseal::manifest::Differences;
use tensorseal::receipt::Unhashed;
use tensorseal::report::Report;
use tensorseal::sign::Hashed;
use tensorseal::source::FollowedLink;
use tensorseal::verify::{CertificateError, Identity, SignatureError, SigningTime, SigstoreIdentity};
use tensorseal::x509::PathError;
use tensorseal::{Algorithm, DeviceKind, Difference, Error, VerifyError};

use super::say::{self, detail, reason};

/// At most this many names of a list are shown; `--json` has all.
pub(super) const SHOWN: usize = 20;

/// What came of a signature by Sigstore, after it was verified.
#[cfg(feature = "sigstore-sign")]
pub(super) fn receipt(receipt: &tensorseal::sign::sigstore::Receipt) {
    detail("signed by", &receipt.identity);
    if let Identity::Sigstore(of) = &receipt.identity {
        sigstore(of);
    }
    detail("certificate", format_args!("from {} to {}", receipt.not_before, receipt.not_after));
}

/// The report of a verification, whether it ended in a yes or in differences.
pub(super) fn report(report: &Report) {
    match &report.policy {
        None => identity(&report.identity),
        Some(policy) => {
            for of in &policy.signatures {
                identity(&of.identity);
                let signers: Vec<String> = of.signers.iter().map(|name| say::name(name)).collect();
                detail("signer", format_args!("{}, by {}", signers.join(", "), say::path(&of.signature)));
            }
            policy.rules.iter().for_each(|of| detail("satisfies", &of.rule));
        }
    }
    let count = |n: usize| amount(n, "file", "files");
    let files = match report.serialization.method.shard_size() {
        Some(_) => format!("{} in {}", count(report.files), amount(report.resources, "signed shard", "signed shards")),
        None if report.files == report.resources => count(report.files),
        None => format!("{} of {}", report.files, amount(report.resources, "signed file", "signed files")),
    };
    match &report.unhashed {
        None if report.checked.is_empty() => detail("not hashed", "no file: their names differ already"),
        None => detail("checked", work(&files, report.bytes, &report.checked, &report.device, report.elapsed)),
        Some(of) => unhashed(of, &files, report.bytes),
    }
    detail("signed root", report.root);
    if !report.not_checked.is_empty() && report.unhashed.is_none() {
        detail(
            "not checked",
            format_args!("{}, signed as well (--all-digests checks all)", listed(&report.not_checked)),
        );
    }
    for of in &report.tensor_manifests {
        let tiles = if of.recomputed { "all recomputed" } else { "not recomputed (--all-digests does)" };
        let (tensors, all) = (amount(of.tensors, "tensor", "tensors"), amount(of.tiles, "tile", "tiles"));
        detail("tensors", format_args!("{tensors} as in {}; {all}, {tiles}", say::name(&of.name)));
    }
    let ignored = report.ignored.iter().map(|file| (&*file.name, format!("  (under {})", say::name(&file.under))));
    names("ignored", ignored, "not signed: nothing is known of them; --strict refuses them");
    empty(&report.empty, "; --strict refuses them");
    let unsigned = report.unsigned.iter().map(|name| (name.as_str(), String::new()));
    names("not signed", unsigned, "tolerated as you asked (--ignore-unsigned-files)");
    followed(&report.followed);
}

/// Why no file was hashed, and what that rests on.
fn unhashed(of: &Unhashed, files: &str, count: u64) {
    detail("not hashed", format_args!("{files}, {}: a receipt says that they were, at {}", bytes(count), of.hashed_at));
    detail("", format_args!("by {}, and it is good until {}", listed(&of.checked), of.until));
    detail("unchanged", of.basis());
    detail("by receipt", format_args!("{}, signed by key {}", say::path(&of.receipt), of.key));
}

/// Who signed. What a certificate says stands in lines of its own: it is long.
fn identity(identity: &Identity) {
    let of = match identity {
        Identity::Certificate(of) => of,
        Identity::Sigstore(of) => {
            detail("signed by", identity);
            return sigstore(of);
        }
        _ => return detail("signed by", identity),
    };
    detail("signed by", quoted_or(&of.subject, "a certificate without a subject"));
    for (i, name) in of.names.iter().take(SHOWN).enumerate() {
        detail(if i == 0 { "names" } else { "" }, say::name(name));
    }
    more(of.names.len(), detail);
    detail("certificate", format_args!("sha256 {}", of.fingerprint));
    detail("root", quoted_or(&of.root, "a certificate without a subject"));
    detail("", format_args!("sha256 {}", of.root_fingerprint));
    detail("judged at", of.judged_at);
}

fn quoted_or(name: &str, none: &str) -> String {
    if name.is_empty() { none.to_owned() } else { say::name(name) }
}

/// What Sigstore adds to a name.
fn sigstore(of: &SigstoreIdentity) {
    detail("signed at", of.signed_at);
    if let Some(build) = &of.build {
        let parts = [
            ("", &build.repository),
            (" at ", &build.reference),
            (", commit ", &build.commit),
            (", on ", &build.trigger),
            (", runner ", &build.runner),
        ];
        let said = parts
            .iter()
            .filter_map(|(before, part)| part.as_deref().map(|part| format!("{before}{}", say::name(part))));
        detail("built in", said.collect::<String>());
    }
    for entry in &of.log_entries {
        detail("logged", format_args!("entry {} of {} ({})", entry.index, say::name(&entry.log), entry.kind));
    }
    detail("judged by", &of.trust_root);
}

/// What was hashed for a signature.
pub(super) fn hashed(hashed: &Hashed) {
    let mut files = amount(hashed.files, "file", "files");
    if hashed.manifest.serialization().method.shard_size().is_some() {
        files += &format!(" in {}", amount(hashed.manifest.resources().len(), "shard", "shards"));
    }
    detail("hashed", work(&files, hashed.bytes, &hashed.algorithms, &hashed.device, hashed.elapsed));
    detail("root", hashed.manifest.root());
    empty(&hashed.empty, "");
    if let Some(of) = &hashed.tensors {
        let (tensors, tiles) = (of.manifest.tensors().len(), of.tiles());
        let (tensors, tiles) = (amount(tensors, "tensor", "tensors"), amount(tiles, "tile", "tiles"));
        let how = if of.made { "in" } else { "as they were in" };
        detail("tensors", format_args!("{tensors}, {tiles} {how} {}", say::path(&of.path)));
    }
    followed(&hashed.followed);
}

/// The differences of a model from what was signed: what changed, what is gone, what is new, each by name.
pub(super) fn differences(what: &str, differences: &Differences) {
    say::failure(what, format_args!("the model differs from what was signed: {}", differences.counts()));
    type Kind = fn(&Difference) -> bool;
    let of = |wanted: Kind| differences.0.iter().filter(move |(_, difference)| wanted(difference));
    let changed: Kind = is_changed;
    let missing: Kind = |difference| matches!(difference, Difference::Missing);
    let unsigned: Kind = |difference| matches!(difference, Difference::Unsigned);
    for (label, wanted) in [("changed", changed), ("missing", missing), ("not signed", unsigned)] {
        for (name, difference) in of(wanted).take(SHOWN) {
            let name = say::name(name.as_str());
            match difference {
                Difference::Changed { expected, found, expected_size, found_size } => {
                    reason(label, format_args!("{name}  ({})", sizes(*expected_size, *found_size)));
                    reason("", format_args!("  signed {expected}"));
                    reason("", format_args!("  found  {found}"));
                }
                Difference::Resized { expected, found } => {
                    reason(label, format_args!("{name}  ({})", sizes(Some(*expected), *found)));
                }
                _ => reason(label, name),
            }
        }
        more(of(wanted).count(), reason);
    }
}

/// Files that lie in the model and outside of the signature.
pub(super) fn uncovered(files: &[String]) {
    for name in files.iter().take(SHOWN) {
        reason("not covered", say::name(name));
    }
    more(files.len(), reason);
}

fn sizes(signed: Option<u64>, found: u64) -> String {
    match signed {
        None => bytes(found),
        Some(signed) if signed == found => format!("{}, as when signed", bytes(found)),
        Some(signed) => format!("{found} {}, {signed} when signed", if found == 1 { "byte" } else { "bytes" }),
    }
}

/// What to do about a failure, where its message does not say.
pub(super) fn next(error: &Error, trusted: Option<&str>) {
    let key = || trusted.unwrap_or("the key");
    let advice = match error {
        Error::Key { source: KeyError::Password(PasswordError::NotGiven), .. } => {
            "pass --password-file or --password-env, or run it in a terminal to be asked".to_owned()
        }
        Error::Verify(no) => match &**no {
            VerifyError::Format(_) => {
                "get the signature anew from whoever signed the model; if it is as they made it, do not use the model"
                    .to_owned()
            }
            VerifyError::Signature(SignatureError::OtherKey { .. }) => {
                format!("ask the signer for their public key; if {} is theirs, do not use the model", key())
            }
            VerifyError::Signature(SignatureError::Invalid) => {
                format!("get the signature anew; if {} is the signer's and it stays so, do not use the model", key())
            }
            VerifyError::Signature(SignatureError::Certificate(error)) => match of_certificate(error) {
                Some(advice) => advice,
                None => return,
            },
            VerifyError::Differs { differences, .. } => {
                let unsigned = |difference: &Difference| matches!(difference, Difference::Unsigned);
                if differences.0.iter().all(|(_, difference)| unsigned(difference)) {
                    "remove what is not signed, or tolerate it with --ignore-unsigned-files".to_owned()
                } else {
                    "do not use the model; get these files anew from whoever signed them".to_owned()
                }
            }
            _ => return,
        },
        _ => return,
    };
    reason("next", advice);
    if let Some(VerifyError::Differs { differences, located, .. }) = error.refusal()
        && located.is_empty()
        && differences.0.iter().any(|(_, difference)| is_changed(difference))
    {
        reason("", "where in these files they differ, --outboard says, if the signer kept one (sign --outboard)");
    }
}

const fn is_changed(difference: &Difference) -> bool {
    matches!(difference, Difference::Changed { .. } | Difference::Resized { .. })
}

/// What to do about a certificate that was not accepted.
fn of_certificate(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::Path { fault: PathError::Expired { .. }, judged_at: SigningTime::Now(_), timestamps } => {
            let stamped = if *timestamps > 0 {
                "the signature has a timestamp: --tsa-certificate-chain ROOT has the certificates judged for its time"
            } else {
                "ask for a signature with a timestamp (sign --tsa-url)"
            };
            Some(format!(
                "{stamped}; --judge-at-not-before accepts certificates that have expired, whenever they signed"
            ))
        }
        CertificateError::Path { fault: PathError::NotYetValid { .. }, judged_at: SigningTime::Now(_), .. } => {
            Some("set the clock of this machine right; if it is, the certificate was not valid when it signed".to_owned())
        }
        CertificateError::OtherIdentity { .. } => {
            Some("do not use the model, unless you know this signer: then name them with --identity".to_owned())
        }
        CertificateError::Malformed { .. } => {
            Some("get the signature anew from whoever signed the model".to_owned())
        }
        #[cfg(feature = "sigstore-verify")]
        CertificateError::Timestamp { fault, .. } if fault.is_of_another_authority() => {
            Some("pass the root of the authority that made it with --tsa-certificate-chain, or none, to judge the certificates for now".to_owned())
        }
        #[cfg(feature = "sigstore-verify")]
        CertificateError::Timestamp { .. } => {
            Some("get the signature anew: nobody honest puts such a timestamp into it".to_owned())
        }
        _ => None,
    }
}

/// `3 files, 3.00 kB, by sha256 and blake3 on cpu in 1.27 s (1.69 GB/s)`.
fn work(files: &str, count: u64, algorithms: &[Algorithm], device: &DeviceKind, elapsed: Duration) -> String {
    format!("{files}, {}, by {} in {}", bytes(count), places(algorithms, device), time(elapsed, count))
}

/// `sha256 and blake3 on cpu`, or `sha256 on cpu and blake3 on cuda:0`.
fn places(algorithms: &[Algorithm], device: &DeviceKind) -> String {
    let (on_cpu, there): (Vec<_>, Vec<_>) =
        algorithms.iter().partition(|&&algorithm| device.place_of(algorithm) == DeviceKind::Cpu);
    let all = [(on_cpu, &DeviceKind::Cpu), (there, device)];
    let some = all.iter().filter(|(algorithms, _)| !algorithms.is_empty());
    some.map(|(algorithms, device)| format!("{} on {device}", listed(algorithms))).collect::<Vec<_>>().join(" and ")
}

fn listed(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(" and ")
}

/// A list of names, cut when it is long, and what to think of it.
fn names<'a>(label: &str, all: impl ExactSizeIterator<Item = (&'a str, String)>, remark: &str) {
    let count = all.len();
    for (i, (name, comment)) in all.take(SHOWN).enumerate() {
        detail(if i == 0 { label } else { "" }, format_args!("{}{comment}", say::name(name)));
    }
    more(count, detail);
    if count > 0 && !remark.is_empty() {
        detail("", remark);
    }
}

fn more(count: usize, tell: fn(&str, String)) {
    if count > SHOWN {
        tell("", format!("and {} more (--json lists all)", count - SHOWN));
    }
}

fn empty(empty: &[String], remedy: &str) {
    let names_of = empty.iter().map(|name| (&**name, "  (empty)".to_owned()));
    names("not covered", names_of, &format!("shards do not cover empty files{remedy}"));
}

fn followed(links: &[FollowedLink]) {
    let outside = links.iter().filter(|link| link.leaves_root).count();
    let remark = if outside > 0 {
        format!("{} out of the model", amount(outside, "of these leads", "of these lead"))
    } else {
        String::new()
    };
    let links = links.iter().map(|link| (&*link.name, format!(" -> {}", say::path(&link.target))));
    names("followed", links, &remark);
}

pub(super) fn amount(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `1.50 GB`, in decimal units.
pub(super) fn bytes(count: u64) -> String {
    for (unit, size) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if count as f64 >= size {
            return format!("{:.2} {unit}", count as f64 / size);
        }
    }
    format!("{count} {}", if count == 1 { "byte" } else { "bytes" })
}

/// `1.27 s (1.69 GB/s)`; no rate where the time is mostly that of starting and of finding files.
fn time(elapsed: Duration, count: u64) -> String {
    let seconds = elapsed.as_secs_f64();
    let shown = if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") };
    if seconds < 0.02 || count < 1_000_000 {
        shown
    } else {
        format!("{shown} ({}/s)", bytes((count as f64 / seconds) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(
            [bytes(0), bytes(1), bytes(999), bytes(1000), bytes(2_147_483_648)],
            ["0 bytes", "1 byte", "999 bytes", "1.00 kB", "2.15 GB"]
        );
        assert_eq!([amount(1, "file", "files"), amount(2, "file", "files")], ["1 file", "2 files"]);
        assert_eq!(time(Duration::from_millis(1500), 3_000_000_000), "1.50 s (2.00 GB/s)");
        assert_eq!(time(Duration::from_micros(1500), 3_000), "1.5 ms");
        assert_eq!(sizes(Some(1_000_000_001), 1_000_000_000), "1000000000 bytes, 1000000001 when signed");
        let both = [Algorithm::Sha256, Algorithm::Blake3];
        assert_eq!(places(&both, &DeviceKind::Cpu), "sha256 and blake3 on cpu");
        assert_eq!(places(&both, &DeviceKind::Cuda(1)), "sha256 on cpu and blake3 on cuda:1");
        assert_eq!(places(&both[1..], &DeviceKind::Cuda(1)), "blake3 on cuda:1");
        assert_eq!(sizes(Some(5), 5), "5 bytes, as when signed");
    }
}
