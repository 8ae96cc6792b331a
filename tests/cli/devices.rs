//! `--device`, `devices`, `selftest`. What this machine has is not known here: nothing may depend on it.

use crate::room::Room;

#[test]
fn every_kind_of_device_is_listed_and_what_cannot_be_used_says_why() {
    let room = Room::new();
    let json = room.run("devices --json").ended(0).json();
    let devices = json["devices"].as_array().unwrap();
    assert_eq!((&devices[0]["device"], &devices[0]["available"]), (&"cpu".into(), &true.into()));
    assert!(devices[0]["threads"].as_u64().unwrap() > 0);
    for kind in ["cpu", "wgpu", "cuda"] {
        let of_kind = |device: &&serde_json::Value| device["device"].as_str().unwrap().split(':').next() == Some(kind);
        assert!(devices.iter().any(|device| of_kind(&device)), "{kind}");
    }
    let text = room.run("devices").ended(0).stdout;
    for device in devices {
        let (kind, usable) = (device["device"].as_str().unwrap(), device["available"].as_bool().unwrap());
        let why = device["why"].as_str().unwrap_or_default();
        assert_eq!(why.is_empty(), usable, "{kind}");
        let said = text.lines().any(|line| line.starts_with(kind) && line.contains("cannot be used: ") != usable);
        assert!(said, "{kind}: {text}");
    }
}

#[test]
fn a_device_that_is_not_there_is_no_answer_and_never_the_cpu() {
    let room = Room::signed();
    for device in ["cuda:99", "wgpu:no such adapter"] {
        for line in [
            "sign key model --private-key key.pem --signature new.sig --device",
            "verify key model --public-key key.pub --signature model.sig --device",
            "digest model --hash blake3 --device",
            "selftest --device",
        ] {
            let words: Vec<&str> = line.split(' ').chain([device]).collect();
            let ran = room.run_words(&words).ended(3);
            assert_eq!(ran.stdout, "", "{line} {device}");
            // With the remedy: the option to build with, or what to install, or what else to use.
            assert!(ran.stderr.contains(device.split(':').next().unwrap()), "{}", ran.stderr);
        }
    }
    assert!(!room.path("new.sig").exists());
    for device in ["tpu", "cuda:x", "wgpu:", "CPU"] {
        room.run(&format!("selftest --device {device}")).ended(2);
        room.run(&format!("digest model --device {device}")).ended(2);
    }
}

#[test]
fn auto_says_what_it_chose_and_why_not_the_others() {
    let room = Room::signed();
    let verify = "verify key model --public-key key.pub --signature model.sig --device auto";
    for line in [
        "sign key model --private-key key.pem --device auto",
        "digest model --device auto",
        verify,
        &format!("{verify} --all-digests"),
    ] {
        let ran = room.run(line).ended(0);
        assert!(ran.stderr.contains("device       cpu, chosen since "), "{line}: {}", ran.stderr);
    }
    for line in ["digest model --hash blake3 --device auto", &format!("{verify} --digest blake3")] {
        let ran = room.run(line).ended(0);
        let chosen = ran.stderr.lines().find(|line| line.starts_with("  device  ")).unwrap();
        if chosen.contains("cpu, since no GPU can be used") {
            for kind in ["wgpu", "cuda"] {
                assert!(ran.stderr.contains(&format!("passed over {kind}")), "{line}: {}", ran.stderr);
            }
        } else {
            assert!(chosen.contains("the first that can be used"), "{line}: {}", ran.stderr);
        }
    }
    // Without --device nothing is chosen, and nothing is said.
    assert!(!room.run("digest model --hash blake3").ended(0).stderr.contains("device"));
}

#[test]
fn reports_say_which_digest_was_computed_where() {
    let room = Room::signed();
    let json = room.run("sign key model --private-key key.pem --json --device cpu").ended(0).json();
    let places = serde_json::json!([
        {"algorithm": "sha256", "device": "cpu"}, {"algorithm": "blake3", "device": "cpu"},
    ]);
    assert_eq!(json["computed"], places);
    let verify = "verify key model --public-key key.pub --signature model.sig --all-digests --json";
    assert_eq!(room.run(verify).ended(0).json()["checked"], places);
}

#[test]
fn the_self_test_counts_what_it_ran_and_can_run_one_case_again() {
    let room = Room::new();
    let ran = room.run("selftest --device cpu --case vectors --seed 7").ended(0);
    assert_eq!(ran.stdout, "Self-test passed\n");
    assert!(
        ran.stderr.contains("seed 7") && ran.stderr.contains("vectors      4 cases, 140 strings"),
        "{}",
        ran.stderr
    );
    let json = room.run("selftest --device cpu --case alignment/3 --json").ended(0).json();
    assert_eq!((&json["verdict"], &json["gpus_tested"]), (&"yes".into(), &0.into()));
    let device = &json["devices"][0];
    assert_eq!((&device["device"], &device["passed"], &device["seed"]), (&"cpu".into(), &true.into(), &1.into()));
    let counts = &device["counts"][0];
    assert_eq!((&counts["kind"], &counts["cases"]), (&"alignment".into(), &1.into()));
    // Which devices there are is not known, but that the CPU is tested and that missing GPUs are told is.
    let all = room.run("selftest --case vectors/0").ended(0);
    let gpu = !all.stderr.contains("no GPU was tested");
    assert!(gpu || all.stderr.contains("not tested"), "{}", all.stderr);
    for wrong in ["nothing", "vectors/x", "vectors/", "vectors/18446744073709551615"] {
        room.run(&format!("selftest --case {wrong}")).ended(2);
    }
    room.run("selftest --bench-size 1MiB").ended(2);
}

#[test]
fn a_bench_has_a_line_for_each_measurement() {
    let room = Room::new();
    let line = "selftest --device cpu --case vectors/0 --bench --bench-size 2MiB --repeats 2 --json";
    let json = room.run(line).ended(0).json();
    let lines = json["devices"][0]["bench"].as_array().unwrap();
    for what in ["upload", "size", "alignment", "rows", "small"] {
        let line = lines.iter().find(|line| line["what"] == what).unwrap();
        assert!(line["bytes_per_second"].as_f64().unwrap() > 0.0 && line["median"].as_f64().unwrap() > 0.0);
        assert!(
            line["fastest"].as_f64() <= line["median"].as_f64() && line["median"].as_f64() <= line["slowest"].as_f64()
        );
    }
}
