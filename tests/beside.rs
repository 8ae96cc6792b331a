//! The program beside those that are really there: they say the same of the same files, and are measured.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::num::NonZeroUsize;
use std::path::Path;

use tensorseal::bench::files::{Work, Written};
use tensorseal::bench::shapes::Family;
use tensorseal::bench::{PeerOptions, beside};

#[test]
fn programs_that_people_use_agree_and_are_measured() {
    let Some(python) = common::python() else { return };
    let shaped = Family::Llama31With8B.within(1 << 20).unwrap();
    let model = Written::new(Work::new(None, shaped.bytes()).unwrap(), &shaped).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = python.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    let mut options = PeerOptions::new(NonZeroUsize::MIN);
    options.path = std::env::join_paths(folders).unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_tensorseal"));
    let peers = beside(&model, ours, &options, &mut |_| {}).unwrap();
    let mut found: Vec<_> = peers.lines.iter().map(|line| line.program.as_str()).collect();
    found.extend(peers.absent.iter().map(|absent| absent.program.as_str()));
    found.sort_unstable();
    assert_eq!(found, ["b3sum", "model_signing", "openssl", "sha256sum"]);
    for absent in &peers.absent {
        common::missing(&format!("{}: {}", absent.program, absent.why));
    }
    for line in &peers.lines {
        assert!(line.version.contains(char::is_numeric) && line.ratio > 0.0, "{line:?}");
    }
}
