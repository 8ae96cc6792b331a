//! Which kernels a device runs: pinned, measured, remembered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tensorseal::device::cuda::{Cuda, Policy, Settings};
use tensorseal::device::{Backend, DeviceError};

use super::common::fakecuda::{is_child, must_pass};
use super::{here, parent, pattern, root, scattered, scattered_bytes, upload, whole};

fn check(cuda: &Cuda) {
    let bytes = pattern(300_000, 1);
    let buffer = upload(cuda, &bytes);
    let expected = [root(&bytes), root(&scattered_bytes(&bytes))];
    assert_eq!(cuda.hash(&[whole(&buffer), scattered(&buffer)]).unwrap(), expected);
}

#[test]
fn every_policy_gives_the_same_digests() {
    let test = here!("every_policy_gives_the_same_digests");
    if parent(test, &[&[("FAKECUDA_DEVICES", "8.0,9.0,12.0,13.5"), ("TENSORSEAL_CUDA_POLICY", "")]]) {
        return;
    }
    for (ordinal, policies) in [
        (0, [Policy::Plain, Policy::Mad]),
        (1, [Policy::Plain, Policy::Mad]),
        (2, [Policy::Plain, Policy::MadAll]),
        (3, [Policy::Plain, Policy::MadAll]),
    ] {
        for policy in policies {
            let mut settings = Settings::default();
            settings.policy = Some(policy);
            let cuda = Cuda::open_with(ordinal, &settings).unwrap();
            assert_eq!(cuda.policy(), policy);
            check(&cuda);
        }
        let other = [Policy::Plain, Policy::Mad, Policy::MadAll].into_iter().find(|policy| !policies.contains(policy));
        let mut settings = Settings::default();
        settings.policy = other;
        assert!(matches!(Cuda::open_with(ordinal, &settings), Err(DeviceError::Refused { .. })));
    }
}

#[test]
fn a_driver_that_does_not_take_machine_code_gets_ptx() {
    let test = here!("a_driver_that_does_not_take_machine_code_gets_ptx");
    // What drivers say that are older than the compiler, and what they say to code for another device.
    let envs: [&[_]; 3] = [
        &[("FAKECUDA_FAIL", "cuModuleLoadDataEx:1:200")],
        &[("FAKECUDA_FAIL", "cuModuleLoadDataEx:1:209")],
        &[("FAKECUDA_FAIL", "cuModuleLoadDataEx:1:200;cuModuleLoadDataEx:2:222")],
    ];
    if parent(test, &envs) {
        return;
    }
    if !std::env::var("FAKECUDA_FAIL").unwrap().contains(":2:") {
        return check(&Cuda::open(0).unwrap());
    }
    let Err(DeviceError::Driver { call: "cuModuleLoadDataEx", why, .. }) = Cuda::open(0) else { panic!("it opened") };
    assert!(why.starts_with("PTX of kernels plain: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"), "{why}");
}

#[test]
fn the_environment_pins_a_policy() {
    let test = here!("the_environment_pins_a_policy");
    let envs: [&[_]; 4] = ["plain", "mad", "mad_all", "fastest"].map(|name| match name {
        "plain" => &[("TENSORSEAL_CUDA_POLICY", "plain")],
        "mad" => &[("TENSORSEAL_CUDA_POLICY", "mad")],
        "mad_all" => &[("TENSORSEAL_CUDA_POLICY", "mad_all")],
        _ => &[("TENSORSEAL_CUDA_POLICY", "fastest")] as &[_],
    });
    if parent(test, &envs) {
        return;
    }
    match std::env::var("TENSORSEAL_CUDA_POLICY").unwrap().as_str() {
        "plain" => assert_eq!(Cuda::open(0).unwrap().policy(), Policy::Plain),
        "mad" => assert_eq!(Cuda::open(0).unwrap().policy(), Policy::Mad),
        // One for other devices, and none at all.
        _ => assert!(matches!(Cuda::open(0), Err(DeviceError::Refused { .. }))),
    }
}

/// The only file in a folder.
fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn what_was_measured_is_remembered_and_never_trusted() {
    let test = here!("what_was_measured_is_remembered_and_never_trusted");
    if is_child(test) {
        let cuda = Cuda::open(0).unwrap();
        check(&cuda);
        println!("policy {}", cuda.policy());
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let (cache, log) = (room.path().join("cache"), room.path().join("log"));
    // Whether it measured, and what it chose.
    let open = || {
        let envs = [("TENSORSEAL_CUDA_POLICY", ""), ("XDG_CACHE_HOME", cache.to_str().unwrap())];
        let run = must_pass(test, &[envs[0], envs[1], ("FAKECUDA_LOG", log.to_str().unwrap())]);
        let measured = fs::read_to_string(&log).unwrap().contains("cuEventElapsedTime");
        fs::remove_file(&log).unwrap();
        let policy = run.stdout.split("policy ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        (measured, policy)
    };
    let (measured, policy) = open();
    assert!(measured);
    let file = only_file(&cache.join("tensorseal"));
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("cuda-"), "{file:?}");
    assert_eq!(open(), (false, policy.clone()), "remembered");
    let text = fs::read_to_string(&file).unwrap();
    let other = if policy == "plain" { "mad" } else { "plain" };
    fs::write(&file, text.replace(&format!("\"{policy}\""), &format!("\"{other}\""))).unwrap();
    assert_eq!(open(), (false, other.to_owned()), "the other is as right");
    for hostile in ["", "{}", "null", &text.replace(&policy, "mad_all"), &text.replace(&policy, "/bin/sh"), &text[1..]]
    {
        fs::write(&file, hostile).unwrap();
        assert!(open().0, "{hostile:?}");
        assert!(!open().0, "it was measured and written again");
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(open().0 && open().0, "no place to remember it");
    fs::remove_dir(&file).unwrap();
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o500)).unwrap();
    open();
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn short_memory_is_no_reason_not_to_open() {
    let test = here!("short_memory_is_no_reason_not_to_open");
    let envs: &[_] = &[("FAKECUDA_DEVICES", "9.0:4MiB"), ("TENSORSEAL_CUDA_POLICY", "")];
    if !parent(test, &[envs]) {
        check(&Cuda::open(0).unwrap());
    }
}
