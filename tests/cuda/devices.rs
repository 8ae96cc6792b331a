//! Which devices there are, and why some are not used.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tensorseal::device::cuda::Cuda;
use tensorseal::device::{Backend, Device, DeviceError, DeviceKind};

use super::common::fakecuda::{child, driver_dir, finish, is_child, must_pass};
use super::{here, parent, pattern, root, upload, whole};

/// Runs `test` with whatever lies in `folder` as the driver.
#[track_caller]
fn with_driver_in(folder: &Path, test: &str) {
    let mut command = child(test, &[]);
    command.env("LD_LIBRARY_PATH", folder);
    let run = finish(command, Duration::from_secs(60));
    assert!(run.code == Some(0) && run.stdout.contains("1 passed"), "{run:#?}");
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
}

#[track_caller]
fn absent(words: &str) {
    let absent = |error: &DeviceError| match error {
        DeviceError::Absent { why, .. } => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    };
    for ordinal in [0, 3, usize::MAX] {
        absent(&Cuda::open(ordinal).unwrap_err());
    }
    let list = Cuda::list();
    assert_eq!(list.len(), 1);
    absent(list[0].usable.as_ref().unwrap_err());
    assert!(Device::list().iter().any(|listed| listed.kind == DeviceKind::Cuda(0)));
    assert!(matches!(Device::open(DeviceKind::Cuda(0)), Err(DeviceError::Absent { .. })));
}

#[test]
fn without_a_driver_there_is_no_device() {
    let test = here!("without_a_driver_there_is_no_device");
    if !is_child(test) {
        let room = tempfile::tempdir().unwrap();
        with_driver_in(room.path(), test);
        fs::write(room.path().join("libcuda.so.1"), "not a library").unwrap();
        return with_driver_in(room.path(), test);
    }
    absent("no CUDA driver was found");
}

#[test]
fn a_driver_without_a_function_is_too_old() {
    let test = here!("a_driver_without_a_function_is_too_old");
    if !is_child(test) {
        let room = tempfile::tempdir().unwrap();
        let source = room.path().join("old.c");
        fs::write(
            &source,
            "int cuInit(unsigned f) { return 0; }\nint cuDriverGetVersion(int *v) { *v = 8000; return 0; }",
        )
        .unwrap();
        let library = room.path().join("libcuda.so.1");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
        assert!(made.success());
        return with_driver_in(room.path(), test);
    }
    absent("too old: it has no cuGetErrorName");
}

#[test]
fn a_driver_without_devices_says_so() {
    if !parent(here!("a_driver_without_devices_says_so"), &[&[("FAKECUDA_DEVICES", "")]]) {
        absent("sees no device");
    }
}

#[test]
fn a_driver_that_does_not_start_says_why() {
    if !parent(here!("a_driver_that_does_not_start_says_why"), &[&[("FAKECUDA_FAIL", "cuInit:1:999")]]) {
        absent("cuInit said CUDA_ERROR_UNKNOWN (999");
    }
}

#[test]
fn codes_that_nobody_has_heard_of_are_errors() {
    let test = here!("codes_that_nobody_has_heard_of_are_errors");
    if parent(test, &[&[("FAKECUDA_FAIL", "cuStreamCreate:1:4711")]]) {
        return;
    }
    let Err(DeviceError::Driver { call: "cuStreamCreate", why, .. }) = Cuda::open(0) else { panic!("it opened") };
    assert!(why.contains("4711"), "{why}");
}

#[test]
fn each_device_is_listed_with_the_reason_if_it_is_not_used() {
    let devices = &[("FAKECUDA_DEVICES", "9.0,7.5:4GiB,8.0:2GiB,8.6:512KiB")];
    if parent(here!("each_device_is_listed_with_the_reason_if_it_is_not_used"), &[devices]) {
        return;
    }
    let list = Cuda::list();
    let kinds: Vec<_> = list.iter().map(|listed| listed.kind.clone()).collect();
    assert_eq!(kinds, [0, 1, 2, 3].map(DeviceKind::Cuda));
    let capabilities: Vec<_> = list.iter().map(|listed| listed.capability.as_deref().unwrap()).collect();
    assert_eq!(capabilities, ["sm_90", "sm_75", "sm_80", "sm_86"]);
    assert_eq!(list[2].memory, Some(2 << 30));
    assert_eq!(list[2].driver.as_deref(), Some("CUDA 12.4"));
    assert!(list[0].usable.is_ok() && list[2].usable.is_ok(), "{list:?}");
    let Err(DeviceError::Refused { device: DeviceKind::Cuda(1), why }) = &list[1].usable else { panic!("{list:?}") };
    for words in [list[1].name.as_str(), "sm_75", "--device wgpu"] {
        assert!(why.contains(words), "{why}");
    }
    assert!(matches!(list[3].usable, Err(DeviceError::OutOfMemory { .. })), "{list:?}");
    assert!(matches!(Cuda::open(1), Err(DeviceError::Refused { .. })));
    let Err(DeviceError::Absent { device: DeviceKind::Cuda(4), why }) = Cuda::open(4) else { panic!("it opened") };
    assert!(why.contains("no CUDA device number 4"), "{why}");
}

#[test]
fn several_devices_work_side_by_side() {
    let test = here!("several_devices_work_side_by_side");
    if parent(test, &[&[("FAKECUDA_DEVICES", "9.0,8.0")], &[("FAKECUDA_DEVICES", "12.0,8.9")]]) {
        return;
    }
    let cudas = [Cuda::open(0).unwrap(), Cuda::open(1).unwrap()];
    std::thread::scope(|scope| {
        for (seed, cuda) in cudas.iter().enumerate() {
            scope.spawn(move || {
                let bytes = pattern(20_000, seed as u32);
                let buffer = upload(cuda, &bytes);
                assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
            });
        }
    });
    // Memory of one is none of the other, even if it is the same device opened again.
    let bytes = pattern(3000, 7);
    let buffer = upload(&cudas[0], &bytes);
    let again = Cuda::open(0).unwrap();
    for other in [&cudas[1], &again] {
        assert!(matches!(other.hash(&[whole(&buffer)]), Err(DeviceError::Refused { .. })));
        assert!(matches!(other.download(&buffer, 0..1), Err(DeviceError::Refused { .. })));
    }
    assert_eq!(again.hash(&[]).unwrap(), [], "it is as good as before");
    assert_eq!(cudas[0].hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
}

#[test]
fn one_device_serves_several_threads() {
    if parent(here!("one_device_serves_several_threads"), &super::STREAMS) {
        return;
    }
    let cuda = &Cuda::open(0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..5 {
                    let bytes = pattern(9000 + thread * 1111, (thread * 10 + round) as u32);
                    let buffer = upload(cuda, &bytes);
                    let job = super::scattered(&buffer);
                    let expected = [root(&bytes), root(&super::scattered_bytes(&bytes))];
                    assert_eq!(cuda.hash(&[whole(&buffer), job]).unwrap(), expected);
                    assert_eq!(cuda.download(&buffer, 17..8000).unwrap(), &bytes[17..8000]);
                }
            });
        }
    });
}

#[test]
fn kernels_that_compute_something_else_are_found_at_opening() {
    let test = here!("kernels_that_compute_something_else_are_found_at_opening");
    if !is_child(test) {
        // Kernels that write values, but not those of BLAKE3.
        let code = r#"
            #include <string.h>
            int host_launch(const char *kernel, unsigned blocks, unsigned threads, unsigned shared, void **arguments) {
                if (!strcmp(kernel, "gather")) {
                    memset(*(char **)arguments[3], 0, *(unsigned *)arguments[2] * 16ul);
                    return 0;
                }
                for (unsigned block = 0; block < blocks; block++) {
                    const unsigned *group = *(const unsigned **)arguments[0] + block * 8;
                    int values = 0;
                    for (int word = 4; word < 8; word++) values += __builtin_popcount(group[word]);
                    memset(*(char **)arguments[2] + group[2] * 32ul, 0x11, values * 32ul);
                }
                return 0;
            }"#;
        let room = tempfile::tempdir().unwrap();
        let (source, library) = (room.path().join("wrong.c"), room.path().join("wrong.so"));
        fs::write(&source, code).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
        assert!(made.success());
        must_pass(test, &[("FAKECUDA_KERNELS", library.to_str().unwrap())]);
        return;
    }
    let error = Cuda::open(0).unwrap_err();
    assert!(matches!(error, DeviceError::SelfTest { device: DeviceKind::Cuda(0), .. }), "{error:?}");
    assert!(matches!(Cuda::list()[0].usable, Err(DeviceError::SelfTest { .. })));
}

#[test]
fn a_self_test_does_not_pass_over_a_device_that_computed_something_wrong_when_it_was_opened() {
    let room = tempfile::tempdir().unwrap();
    let ptx = room.path().join("wrong.ptx");
    let kernels = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/blake3_plain.ptx")).unwrap();
    // The first word of BLAKE3's initial value.
    let wrong = kernels.replace("1779033703", "1779033702");
    assert_ne!(wrong, kernels);
    fs::write(&ptx, wrong).unwrap();
    for named in [None, Some("cuda")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorseal"));
        command.args(["selftest", "--case", "vectors/0", "--json"]).args(named.map(|name| format!("--device={name}")));
        command.env("LD_LIBRARY_PATH", driver_dir()).env("FAKECUDA_PTX", &ptx).env("TENSORSEAL_CUDA_POLICY", "plain");
        command.env("XDG_CACHE_HOME", room.path());
        let run = finish(command, Duration::from_secs(120));
        assert_eq!(run.code, Some(1), "{named:?}: {run:#?}");
        let json = run.json();
        assert_eq!(json["verdict"], "no", "{json}");
        let wrong = |device: &&serde_json::Value| device["error"]["kind"] == "wrong-digest";
        let device = json["devices"].as_array().unwrap().iter().find(wrong).unwrap();
        assert!(device["device"].as_str().unwrap().starts_with("cuda") && device["passed"] == false, "{device}");
    }
}
