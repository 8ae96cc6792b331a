//! What `bench` measures of files, on a CUDA device: what it computes is asserted, what is no work for it is said, and a copy
//! that changes a bit is found whatever it was for.

use std::num::NonZeroUsize;

use tensorseal::Device;
use tensorseal::bench::files::{FileOptions, Work, Written, on_files};
use tensorseal::bench::report::{Cache, What};
use tensorseal::bench::shapes::Family;
use tensorseal::device::DeviceKind;

use super::common::fakecuda::{is_child, must_pass};
use super::failures::calls;
use super::here;

/// The measurements, on a small model on a disk, where this was built.
fn measure() {
    let exe = std::env::current_exe().unwrap();
    let shaped = Family::Llama31With8B.within(1 << 20).unwrap();
    let model = Written::new(Work::new(exe.parent(), shaped.bytes()).unwrap(), &shaped).unwrap();
    let device = Device::open(DeviceKind::Cuda(0)).unwrap();
    let folder = model.folder().to_owned();
    let mut options = FileOptions::new(NonZeroUsize::MIN);
    options.only = std::env::var("TENSORSEAL_TEST_ONLY").ok().map(|_| [What::VerifiedLoad].into());
    let measured = on_files(&device, &model, &options, &mut |_| {});
    drop(model);
    assert!(!folder.exists());
    if std::env::var_os("FAKECUDA_FLIP").is_some() {
        let failure = measured.unwrap_err();
        assert!(failure.is_wrong(), "{failure}");
        return;
    }
    let (lines, skipped, _) = measured.unwrap();
    if options.only.is_some() {
        return;
    }
    let count = |what, cache| lines.iter().filter(|line| line.what == what && line.cache == Some(cache)).count();
    for (what, warm, cold) in
        [(What::Digest, 2, 1), (What::Load, 1, 1), (What::VerifiedLoad, 1, 1), (What::Sign, 2, 0), (What::Verify, 2, 1)]
    {
        assert_eq!((count(what, Cache::Warm), count(what, Cache::Cold)), (warm, cold), "{what:?}");
    }
    // SHA-256 alone: digests and verdicts, warm and cold.
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    assert!(skipped.iter().all(|skipped| skipped.name.starts_with("sha256, ") && skipped.why.contains("--device cpu")));
}

#[test]
fn files_are_measured_and_a_changed_bit_is_a_wrong_answer() {
    let test = here!("files_are_measured_and_a_changed_bit_is_a_wrong_answer");
    if is_child(test) {
        return measure();
    }
    must_pass(test, &[]);
    // The copies that carry most are those of weights: of a load without a check first, then of a verified one.
    let log = tempfile::NamedTempFile::new().unwrap();
    let only = ("TENSORSEAL_TEST_ONLY", "1");
    must_pass(test, &[only, ("FAKECUDA_LOG", log.path().to_str().unwrap())]);
    let copies = |note: &String| {
        let (number, bytes) = note.strip_prefix("in=")?.split_once(':')?;
        Some((number.parse::<usize>().unwrap(), bytes.parse::<usize>().unwrap()))
    };
    let all: Vec<_> =
        calls(log.path()).iter().flat_map(|call| call.notes.iter().filter_map(copies).collect::<Vec<_>>()).collect();
    // But for the known answers, at the opening.
    let weights: Vec<_> =
        all.iter().filter(|(_, bytes)| (50_000..500_000).contains(bytes)).map(|(number, _)| number).collect();
    assert_eq!(weights.len(), 8 * 4, "two ways, warm and cold, twice each, four files: {all:?}");
    for number in [weights[0], weights[4], weights[30]] {
        must_pass(test, &[only, ("FAKECUDA_FLIP", &format!("{number}:400003"))]);
    }
}
