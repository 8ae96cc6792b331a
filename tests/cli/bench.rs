//! `bench`: what is measured is not looked at for its speed; reports that were kept are, whole.

use serde_json::{Value, json};
use tensorseal::bench::Report;

use crate::room::Room;

fn line(what: &str, name: &str, bytes: u64, seconds: &[f64]) -> Value {
    json!({"what": what, "name": name, "bytes": bytes, "strings": 1, "times": {"seconds": seconds}, "bytes_per_second": 0.0})
}

/// Seconds of eight repeats around one.
fn around(second: f64) -> Vec<f64> {
    [1.0, 1.01, 0.99, 1.02, 1.0, 0.98, 1.01, 1.0].map(|noise| noise * second).to_vec()
}

/// A report of a machine with a GPU, with something of everything.
fn report(factor: f64) -> Value {
    let mut verified = line("verified-load", "blake3", 2_000_000_000, &around(1.2));
    verified["cache"] = "cold".into();
    verified["stages"] = json!([{"name": "reading", "seconds": 1.0}, {"name": "added by hashing", "seconds": 0.2}]);
    let mut load = line("load", "without a check", 2_000_000_000, &around(1.0));
    load["cache"] = "cold".into();
    let mut large = line("size", "1 GiB", 1 << 30, &around(0.001 * factor));
    (large["bound"], large["share"]) = ("instructions".into(), 0.83.into());
    let mut kernel = line("kernel", "aligned", 1 << 28, &around(0.0003));
    kernel["kernel"] = "mad".into();
    let model = line("model", "DeepSeek-V3, 2 of 61 layers, 64 of 256 experts", 8_000_000_000, &around(0.01));
    let reading = |clock: f64, celsius: f64| json!({"clock_mhz": clock, "celsius": celsius, "watts": 350.0});
    let gpu = json!({
        "device": "cuda:0", "name": "NVIDIA H100", "memory": 85_000_000_000_u64, "driver": "570.1", "capability": "sm_90",
        "kernel": "mad",
        "bounds": [{"kind": "instructions", "bytes_per_second": 1.9e12, "basis": "132 multiprocessors, 8.58 bytes a clock, 1.755 GHz"}],
        "before": reading(1980.0, 40.0), "after": reading(1500.0, 84.0),
        "lines": [line("upload", "blocks in flight", 1 << 26, &around(0.002)), line("size", "1 KiB", 1024, &around(2e-6)), large, kernel, model, load, verified],
        "skipped": [{"what": "model", "name": "Llama 3.1 70B", "why": "its ends and one layer take 6000 MiB: give it more with --size"}],
    });
    let cpu = json!({"device": "cpu", "name": "CPU", "bounds": [], "lines": [line("size", "1 GiB", 1 << 30, &around(0.25))], "skipped": []});
    json!({
        "schema": "tensorseal/bench/v1", "tool": "tensorseal 0.1.0", "date": "2026-11-22T21:50:36Z", "seconds": 61.5,
        "machine": {
            "cpu": "A Processor, 3.2 GHz", "threads": 32, "memory": 256_000_000_000_u64, "kernel": "Linux 6.1.0", "load": 1.75,
            "virtual_machine": true, "folder": {"path": "/models/tmp", "file_system": "ext4"},
        },
        "settings": {"repeats": 8, "most": 1 << 30, "file": 2_000_000_000},
        "devices": [cpu, gpu],
        "passed_over": [{"device": "wgpu", "name": "wgpu", "why": "wgpu is not available: no adapter was found"}],
        "peers": {
            "lines": [{
                "program": "b3sum", "version": "b3sum 1.8.2", "task": "BLAKE3 of one file", "bytes": 2_000_000_000, "threads": 32,
                "theirs": {"seconds": around(0.4)}, "ours": {"seconds": around(0.38)}, "ratio": 1.0,
            }],
            "absent": [{"program": "model_signing", "why": "python3 has no module of that name: pip install model-signing"}],
        },
    })
}

/// As `--json` prints it: through the library's own types.
fn kept(room: &Room, name: &str, report: Value) {
    let report: Report = serde_json::from_value(report).unwrap();
    room.write(name, serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn kept_reports_are_shown_and_compared_whole() {
    let room = Room::new();
    kept(&room, "before.json", report(1.0));
    let mut after = report(1.25);
    after["devices"][1]["lines"][1] = line("size", "1 KiB", 1024, &around(1e-6));
    after["devices"][1]["lines"][3]["times"]["seconds"] = json!([0.1, 0.2, 0.3]);
    after["devices"][1]["lines"][4]["bytes"] = 9.into();
    after["devices"][1]["lines"][5]["name"] = "another".into();
    after["devices"][1]["driver"] = "575.0".into();
    after["machine"]["load"] = 0.0.into();
    kept(&room, "after.json", after);
    let transcript = room.transcript(&[
        "bench --from before.json",
        "bench --from before.json --load-seconds 30 --log-level ERROR",
        "bench --compare before.json after.json",
        "bench --compare before.json after.json --fail-on-slower --log-level ERROR",
        "bench --compare before.json before.json --fail-on-slower --log-level ERROR",
        "bench --from nothing.json",
        "bench --from model/config.json",
    ]);
    let long = transcript.lines().filter(|line| !line.starts_with(['$', '|'])).find(|line| line.chars().count() > 100);
    assert_eq!(long, None);
    room.assert_snapshot("bench", transcript);
}

#[test]
fn a_comparison_for_machines_says_what_moved_and_fails_only_if_asked() {
    let room = Room::new();
    kept(&room, "a.json", report(1.0));
    kept(&room, "b.json", report(1.2));
    let of = |line: &str, code: i32| room.run(line).ended(code).json();
    let json = of("bench --compare a.json b.json --json", 0);
    assert_eq!((&json["schema"], &json["verdict"]), (&"tensorseal/bench-comparison/v1".into(), &"yes".into()));
    let moved: Vec<_> =
        json["lines"].as_array().unwrap().iter().filter(|line| line["verdict"] != "within-noise").collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(
        (&moved[0]["verdict"], &moved[0]["name"], &moved[0]["device"]),
        (&"slower".into(), &"1 GiB".into(), &"cuda:0".into())
    );
    let json = of("bench --compare a.json b.json --json --fail-on-slower", 1);
    assert_eq!(
        (&json["verdict"], &json["exit_code"], &json["error"]["kind"]),
        (&"no".into(), &1.into(), &"slower".into())
    );
    // The other way round it got faster.
    of("bench --compare b.json a.json --json --fail-on-slower", 0);
    // Where nothing can be compared, nothing is known: no yes for a pipeline.
    let mut none = report(1.0);
    none["devices"] = json!([]);
    kept(&room, "none.json", none);
    of("bench --compare a.json none.json --json", 0);
    let json = of("bench --compare a.json none.json --json --fail-on-slower", 3);
    assert_eq!((&json["schema"], &json["error"]["kind"]), (&"tensorseal/report/v1".into(), &"report".into()));
}

#[test]
fn reports_of_strangers_are_refused_or_shown_without_power_over_the_terminal() {
    let room = Room::new();
    let deep = "[".repeat(100_000);
    let other = report(1.0).to_string().replace("tensorseal/bench/v1", "tensorseal/bench/v2");
    for (name, text) in [("empty", ""), ("deep", &deep), ("other", &other), ("half", &report(1.0).to_string()[..999])] {
        room.write(name, text);
        for line in [format!("bench --from {name} --json"), format!("bench --compare {name} {name} --json")] {
            let json = room.run(&line).ended(3).json();
            assert_eq!((&json["verdict"], &json["error"]["kind"]), (&"none".into(), &"report".into()), "{line}");
            assert!(json["error"]["message"].as_str().unwrap().contains(name), "{line}");
        }
    }
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[31m<script>alert(1)</script>\n\u{202e}";
    let mut report = report(1.0);
    fn everywhere(value: &mut Value, evil: &str) {
        match value {
            Value::Object(of) => {
                for (key, value) in of {
                    let free = ["name", "cpu", "kernel", "path", "file_system", "why", "basis", "driver", "capability"];
                    let more = ["program", "version", "task", "tool", "date"];
                    if value.is_string() && free.iter().chain(&more).any(|name| name == key) {
                        *value = format!("{}{evil}", value.as_str().unwrap()).into();
                    } else {
                        everywhere(value, evil);
                    }
                }
            }
            Value::Array(of) => of.iter_mut().for_each(|value| everywhere(value, evil)),
            _ => {}
        }
    }
    everywhere(&mut report, evil);
    report["devices"][0]["device"] = format!("cpu{evil}").into();
    kept(&room, "evil.json", report);
    let mut other = serde_json::from_str::<Value>(&room.read("evil.json")).unwrap();
    other["machine"]["cpu"] = format!("B{evil}").into();
    other["devices"][1]["lines"][0]["name"] = format!("x{evil}").into();
    kept(&room, "worse.json", other);
    for line in [
        "bench --from evil.json",
        "bench --from evil.json --json",
        "bench --from evil.json --html evil.html",
        "bench --compare evil.json worse.json",
        "bench --compare evil.json worse.json --json",
    ] {
        let ran = room.run(line).ended(0);
        for text in [&ran.stdout, &ran.stderr] {
            let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert_eq!(text.find(acts), None, "{line}: {text:?}");
        }
    }
    let page = room.read("evil.html");
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && page.contains("&lt;script"), "HTML is escaped");
}

#[test]
fn what_is_measured_can_be_read_again_shown_drawn_and_compared() {
    let room = Room::new();
    let measure = "bench --device cpu --size 1MiB --file-size 1MiB --repeats 1 --threads 2 --work . --no-peers";
    let before = room.listing();
    let ran = room.run(&format!("{measure} --json --html page.html")).ended(0);
    let json = ran.json();
    assert_eq!(
        (&json["schema"], &json["command"], &json["verdict"], &json["exit_code"]),
        (&"tensorseal/bench/v1".into(), &"bench".into(), &"yes".into(), &0.into())
    );
    assert_eq!(json["devices"].as_array().unwrap().len(), 1);
    let lines = json["devices"][0]["lines"].as_array().unwrap();
    for what in ["size", "alignment", "rows", "small", "digest", "load", "verified-load", "sign", "verify"] {
        let line = lines.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("no {what}"));
        assert!(line["bytes_per_second"].as_f64().unwrap() > 0.0 && line["bytes"].as_u64().unwrap() > 0, "{line}");
    }
    assert_eq!((&json["settings"]["repeats"], &json["settings"]["threads"]), (&1.into(), &2.into()));
    assert!(room.read("page.html").starts_with("<!DOCTYPE html>"));
    room.write("kept.json", &ran.stdout);
    std::fs::remove_file(room.path("page.html")).unwrap();
    let mut after = before;
    after.push("kept.json".to_owned());
    after.sort();
    assert_eq!(room.listing(), after, "the model that was written is gone");

    // The same for who reads it again, but for times of now.
    let again = room.run("bench --from kept.json --json").ended(0).json();
    assert_eq!(again["devices"], json["devices"]);
    assert_eq!((&again["date"], &again["machine"], &again["adds"]), (&json["date"], &json["machine"], &json["adds"]));
    assert!(room.run("bench --from kept.json").ended(0).stdout.contains("one string in memory"));
    let told = room.run("bench --compare kept.json kept.json").ended(0).stdout;
    // What is quick was repeated more often.
    assert!(told.contains("0 slower, 0 faster, ") && told.contains("too few repeats, 1 and 1"), "{told}");
}

#[test]
fn only_what_was_asked_for_is_measured() {
    let room = Room::new();
    let json = room.run("bench --device cpu --only size --size 1MiB --repeats 1 --json").ended(0).json();
    let lines = json["devices"][0]["lines"].as_array().unwrap();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["what"] == "size"), "{json}");
    assert_eq!((&json["settings"]["file"], &json["peers"]), (&Value::Null, &Value::Null));
    // What others are, and that the CPU alone was named.
    let table = room.run("bench --device cpu --device cpu --no-files --only alignment --quick").ended(0).stdout;
    assert!(table.contains("from byte 16") && table.matches("\ncpu  ").count() == 1, "{table}");
}

#[test]
fn what_cannot_be_meant_is_usage_and_what_cannot_be_had_is_no_answer() {
    let room = Room::new();
    kept(&room, "a.json", report(1.0));
    for line in [
        "bench --device gpu",
        "bench --only everything",
        "bench --repeats 0",
        "bench --size 0",
        "bench --file-size 64 --device cpu --size 1MiB --repeats 1",
        "bench --load-seconds 0",
        "bench --load-seconds NaN",
        "bench --from a.json --device cpu",
        "bench --from a.json --quick",
        "bench --from a.json --compare a.json a.json",
        "bench --compare a.json",
        "bench --compare a.json a.json --html x.html",
        "bench --compare a.json a.json --no-files",
        "bench --from a.json --fail-on-slower",
    ] {
        let ran = room.run(line).ended(2);
        assert_eq!(ran.stdout, "", "{line}");
    }
    for line in [
        "bench --device cuda:99 --no-files --json",
        "bench --device cpu --only sign --work nowhere --json",
        "bench --from a.json --html nowhere/page.html --json",
        "bench --from nowhere.json --json",
    ] {
        let json = room.run(line).ended(3).json();
        assert_eq!((&json["verdict"], &json["command"]), (&"none".into(), &"bench".into()), "{line}");
    }
    assert!(!room.path("x.html").exists());
    // Before it measures, not a minute later: the model would not fit anywhere.
    for page in ["nowhere/page.html", "."] {
        let ran = room.run(&format!("bench --device cpu --file-size 9000000GiB --html {page}")).ended(3);
        assert!(ran.stderr.contains("cannot write the page"), "{}", ran.stderr);
    }
}
