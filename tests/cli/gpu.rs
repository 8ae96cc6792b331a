//! The command line with a CUDA device: the driver of `tests/fakecuda`, which can be told to fail.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::fakecuda::driver_dir;
use crate::room::{Ran, Room};

/// Runs a line on the driver.
fn run(room: &Room, line: &str, envs: &[(&str, &str)]) -> Ran {
    let mut command = room.command();
    command.env("LD_LIBRARY_PATH", driver_dir()).env("TENSORSEAL_CUDA_POLICY", "plain");
    command.env("XDG_CACHE_HOME", "/dev/null/none").envs(envs.iter().copied());
    Ran::of(command.args(line.split_whitespace()).output().unwrap())
}

/// Kernels that rotate by a bit too few.
fn wrong_kernels(room: &Room) -> PathBuf {
    let right = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/blake3_plain.ptx");
    let right = fs::read_to_string(right).unwrap();
    let (rotation, line) = (", 25;", right.lines().find(|line| line.contains("shf.") && line.ends_with(", 25;")));
    let line = line.unwrap();
    room.write("wrong.ptx", right.replacen(line, &line.replace(rotation, ", 24;"), 1));
    room.path("wrong.ptx")
}

/// The first thing to run on a machine with a GPU must not say yes because the GPU is wrong, or does not answer.
#[test]
fn the_self_test_does_not_pass_over_a_device_that_is_there_and_does_not_work() {
    let room = Room::new();
    let kernels = wrong_kernels(&room);
    let wrong = ("FAKECUDA_PTX", kernels.to_str().unwrap());
    for line in ["selftest --case vectors/0 --json", "selftest --device cuda --case vectors/0 --json"] {
        let json = run(&room, line, &[wrong]).ended(1).json();
        assert_eq!((&json["verdict"], &json["error"]["kind"]), (&"no".into(), &"wrong-digest".into()), "{line}");
        let devices = json["devices"].as_array().unwrap();
        let device = devices.iter().find(|device| device["device"].as_str().unwrap().starts_with("cuda")).unwrap();
        assert_eq!((&device["passed"], &device["available"]), (&false.into(), &false.into()), "{line}");
        assert_eq!(device["error"]["kind"], "wrong-digest", "{line}");
    }
    let json = run(&room, "selftest --case vectors/0 --json", &[("FAKECUDA_SKIP", "1")]).ended(3).json();
    assert_eq!((&json["verdict"], &json["error"]["kind"]), (&"none".into(), &"device".into()));
    let ran = run(&room, "selftest --case vectors/0", &[wrong]).ended(1);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("Self-test failed: cuda:0 computed a wrong blake3 digest"), "{}", ran.stderr);
    // What is not there, or not for us, is no fault of it.
    for none in [("FAKECUDA_DEVICES", ""), ("FAKECUDA_DEVICES", "7.5")] {
        run(&room, "selftest --case vectors/0", &[none]).ended(0);
    }
    run(&room, "selftest --case vectors/0", &[]).ended(0);
}

/// A wrong digest outweighs every speed, also of a device that nobody named. One that fails is named with its reason.
#[test]
fn a_bench_of_a_wrong_device_is_a_no_and_of_a_broken_one_says_so() {
    let room = Room::new();
    let kernels = wrong_kernels(&room);
    let wrong = ("FAKECUDA_PTX", kernels.to_str().unwrap());
    let bench = "bench --no-files --size 1MiB --repeats 1 --only alignment --json";
    for line in [bench, &format!("{bench} --device cuda")] {
        let json = run(&room, line, &[wrong]).ended(1).json();
        assert_eq!((&json["verdict"], &json["error"]["kind"]), (&"no".into(), &"wrong-digest".into()), "{line}");
        assert!(json["error"]["message"].as_str().unwrap().contains("cuda:0"), "{line}");
    }
    let broken = ("FAKECUDA_SKIP", "1");
    let ran = run(&room, bench, &[broken]).ended(0);
    let json = ran.json();
    let passed_over = json["passed_over"].as_array().unwrap();
    let device = passed_over.iter().find(|of| of["device"] == "cuda:0").unwrap();
    assert_eq!(device["broken"], true);
    assert!(ran.stderr.contains("cuda:0 is there and was not measured"), "{}", ran.stderr);
    run(&room, &format!("{bench} --device cuda"), &[broken]).ended(3);
}

/// `auto` may take the CPU where there is no GPU. Where there is a broken one somebody has to hear of it.
#[test]
fn auto_warns_of_a_device_that_is_there_and_does_not_work() {
    let room = Room::new();
    let kernels = wrong_kernels(&room);
    let line = "digest model --hash blake3 --device auto --log-level WARNING";
    for env in [("FAKECUDA_PTX", kernels.to_str().unwrap()), ("FAKECUDA_SKIP", "1"), ("FAKECUDA_FAULT", "1:700")] {
        let ran = run(&room, line, &[env]).ended(0);
        assert!(ran.stderr.contains("warning: passed over cuda:0: cuda:0"), "{env:?}: {}", ran.stderr);
    }
    for none in [("FAKECUDA_DEVICES", ""), ("FAKECUDA_DEVICES", "7.5")] {
        let ran = run(&room, line, &[none]).ended(0);
        assert!(!ran.stderr.contains("warning"), "{none:?}: {}", ran.stderr);
    }
}

/// Which digests a bundle has is not known when the device is chosen, so nothing is said of them.
#[test]
fn auto_does_not_claim_digests_that_were_not_signed() {
    let room = Room::new();
    room.run("keygen --out key.pem").ended(0);
    room.run("sign key model --private-key key.pem --hash blake3").ended(0);
    let verify = "verify key model --public-key key.pub --signature model.sig --device";
    for digests in ["", "--all-digests"] {
        let ran = run(&room, &format!("{verify} auto {digests}"), &[]).ended(0);
        assert!(ran.stderr.contains("device       cpu, chosen since "), "{}", ran.stderr);
        assert!(!ran.stderr.contains("sha256 digest"), "{}", ran.stderr);
        let ran = run(&room, &format!("{verify} cuda {digests}"), &[]).ended(0);
        assert!(ran.stderr.contains("by blake3 on cuda:0"), "{}", ran.stderr);
    }
}

/// Who asked for all digests is not told to ask for them.
#[test]
fn without_a_blake3_digest_the_remedy_is_the_cpu() {
    let room = Room::new();
    room.run("keygen --out key.pem").ended(0);
    room.run("sign key model --private-key key.pem --no-annotations").ended(0);
    let verify = "verify key model --public-key key.pub --signature model.sig --device cuda";
    let ran = run(&room, &format!("{verify} --all-digests"), &[]).ended(3);
    let remedy = "no BLAKE3 digest was signed; check sha256 with --device cpu";
    assert!(ran.stderr.contains(remedy) && !ran.stderr.contains("--all-digests"), "{}", ran.stderr);
    assert!(run(&room, verify, &[]).ended(3).stderr.contains("--all-digests"));
}

/// Whatever fails on the device, a model that is as signed is never a no, one that is not never a yes, and nothing
/// is signed.
#[test]
fn a_device_that_fails_gives_no_answer() {
    let room = Room::signed();
    room.write("model/long", vec![7; 300_000]);
    room.run("sign key model --private-key key.pem").ended(0);
    let verify = "verify key model --public-key key.pub --signature model.sig --device cuda";
    let ran = run(&room, &format!("{verify} --all-digests"), &[]).ended(0);
    assert!(ran.stderr.contains("by sha256 on cpu and blake3 on cuda:0"), "{}", ran.stderr);
    let lines = [
        format!("{verify} --all-digests"),
        format!("{verify} --digest blake3"),
        "digest model --hash blake3 --device cuda".to_owned(),
        "sign key model --private-key key.pem --signature new.sig --device cuda".to_owned(),
    ];
    // The last are of the work itself, not of the test at opening, and none comes after the last value.
    let failures = [
        ("FAKECUDA_SKIP", "1"),
        ("FAKECUDA_SKIP", "8"),
        ("FAKECUDA_FAULT", "8:700"),
        ("FAKECUDA_FAIL", "cuMemcpyHtoDAsync_v2:5:719"),
        ("FAKECUDA_FAIL", "cuMemcpyDtoHAsync_v2:11:719"),
    ];
    for same in [true, false] {
        if !same {
            room.write("model/long", vec![8; 300_000]);
        }
        for line in &lines {
            for failure in failures {
                let ran = run(&room, line, &[failure]).ended(3);
                assert_eq!(ran.stdout, "", "{line} {failure:?}");
                assert!(ran.stderr.contains("cuda:0"), "{line} {failure:?}: {}", ran.stderr);
            }
        }
    }
    assert!(!room.path("new.sig").exists());
    let ran = run(&room, &lines[1], &[]).ended(1);
    assert!(ran.stderr.contains("changed      long  (300.00 kB, as when signed)"), "{}", ran.stderr);
}
