use serde_json::{Value, json};

use super::*;

/// A report with one line of one device.
fn sound() -> Value {
    let line = json!({
        "what": "size", "name": "1 KiB", "bytes": 1000, "strings": 1, "times": {"seconds": [1.0, 2.0, 4.0], "median": 9.0},
        "bytes_per_second": 7e9,
    });
    let beside = json!({
        "program": "b3sum", "version": "1", "task": "t", "bytes": 1, "theirs": {"seconds": [4.0]},
        "ours": {"seconds": [2.0]}, "ratio": 0.001,
    });
    json!({
        "schema": SCHEMA, "tool": "t", "date": "d", "seconds": 1.0,
        "machine": {"cpu": "A", "threads": 2, "memory": 1, "kernel": "Linux", "load": 0.0},
        "settings": {"repeats": 3},
        "devices": [{"device": "cpu", "name": "A", "bounds": [], "lines": [line], "skipped": []}],
        "peers": {"lines": [beside], "absent": []},
        "not known here": {"a": [1, 2]},
    })
}

fn parsed(report: &Value) -> Result<Report, Fault> {
    Report::parse(report.to_string().as_bytes())
}

/// The sound one with something else in a place of it.
fn with(pointer: &str, value: Value) -> Value {
    let mut report = sound();
    *report.pointer_mut(pointer).unwrap() = value;
    report
}

#[test]
fn what_follows_from_times_is_computed_and_not_believed() {
    let report = parsed(&sound()).unwrap();
    assert_eq!(report.devices[0].lines[0].bytes_per_second, 500.0);
    assert_eq!(report.peers.as_ref().unwrap().lines[0].ratio, 0.5);
    let again = parsed(&serde_json::to_value(&report).unwrap()).unwrap();
    assert_eq!(again, report);
}

#[test]
fn another_schema_is_named_before_anything_else_is_wrong() {
    for (schema, named) in [(json!("tensorseal/report/v1"), "\"tensorseal/report/v1\""), (Value::Null, "not said")] {
        let mut report = json!({"schema": schema, "devices": 7});
        let fault = parsed(&report).unwrap_err();
        assert!(matches!(&fault, Fault::Schema { found } if found == named), "{fault}");
        report["schema"] = "\u{1b}[31m".into();
        assert!(!parsed(&report).unwrap_err().to_string().contains('\u{1b}'));
    }
    assert!(matches!(parsed(&json!({"schema": 7})), Err(Fault::Json(_))));
}

#[test]
fn what_is_no_report_is_refused_whatever_it_is() {
    let text = sound().to_string();
    let nan = text.replacen("[1.0,", "[NaN,", 1);
    let endless = text.replacen("[1.0,", "[1e999,", 1);
    let twice = text.replacen("\"tool\"", "\"schema\":\"x\",\"tool\"", 1);
    let deep = format!("{{\"schema\":\"{SCHEMA}\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for wrong in ["", "7", "[]", "{", &nan, &endless, &twice, &deep, &format!("{text} x"), "\u{0}\u{1}"] {
        assert!(matches!(Report::parse(wrong.as_bytes()), Err(Fault::Json(_))), "{wrong:.60}");
    }
    for (place, value) in [
        ("/devices/0/lines/0/times/seconds", json!([])),
        ("/devices/0/lines/0/times/seconds", json!([-1.0])),
        ("/devices/0/lines/0/what", json!("dance")),
        ("/devices/0/lines/0/bytes", json!(-1)),
        ("/devices/0/lines/0/bytes", json!(1e30)),
        ("/machine/threads", json!("2")),
    ] {
        assert!(matches!(parsed(&with(place, value.clone())), Err(Fault::Json(_))), "{place} {value}");
    }
    assert!(matches!(parsed(&with("/seconds", json!(-1.0))), Err(Fault::Number { .. })));
    let bound = json!([{"kind": "disk", "bytes_per_second": 0.0, "basis": "b"}]);
    assert!(matches!(parsed(&with("/devices/0/bounds", bound)), Err(Fault::Number { .. })));
    let share = || with("/devices/0/lines/0/bytes", json!(5));
    let mut negative = share();
    negative["devices"][0]["lines"][0]["share"] = json!(-0.5);
    assert!(matches!(parsed(&negative), Err(Fault::Number { .. })));
}

#[test]
fn nothing_counts_twice_and_nobody_measures_millions() {
    let (device, line) = (sound()["devices"][0].clone(), sound()["devices"][0]["lines"][0].clone());
    assert!(matches!(parsed(&with("/devices", json!([device, device]))), Err(Fault::Twice { .. })));
    assert!(matches!(parsed(&with("/devices/0/lines", json!([line, line]))), Err(Fault::Twice { .. })));
    let mut warm = line.clone();
    warm["cache"] = "warm".into();
    assert!(parsed(&with("/devices/0/lines", json!([line, warm]))).is_ok());
    let many: Vec<Value> = (0..=MOST_LINES).map(|_| line.clone()).collect();
    assert!(matches!(parsed(&with("/devices/0/lines", json!(many))), Err(Fault::TooMany { .. })));
    // A page compares each with each when it looks for room, so that what belongs to lines and devices counts as well.
    let bounds = vec![json!({"kind": "disk", "bytes_per_second": 1.0, "basis": ""}); MOST_LINES];
    assert!(matches!(parsed(&with("/devices/0/bounds", json!(bounds))), Err(Fault::TooMany { .. })));
    let mut staged = line;
    staged["stages"] = json!(vec![json!({"name": "", "seconds": 1.0}); MOST_LINES]);
    assert!(matches!(parsed(&with("/devices/0/lines", json!([staged]))), Err(Fault::TooMany { .. })));
    let mut passed_over = sound();
    passed_over["passed_over"] = json!(vec![json!({"device": "", "name": "", "why": ""}); MOST_LINES]);
    assert!(matches!(parsed(&passed_over), Err(Fault::TooMany { .. })));
}

#[test]
fn a_file_is_read_up_to_a_bound_and_named_in_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.json");
    std::fs::write(&path, sound().to_string()).unwrap();
    assert!(Report::read(&path).is_ok());
    std::fs::write(&path, vec![b' '; MOST_BYTES as usize + 1]).unwrap();
    let error = Report::read(&path).unwrap_err();
    assert!(matches!(&error, ReadError::Io { .. }) && error.to_string().contains("r.json"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    let error = Report::read(&path).unwrap_err().to_string();
    assert!(error.contains("r.json") && error.contains("its schema is not said"), "{error}");
    assert!(matches!(Report::read(dir.path()), Err(ReadError::Io { .. })));
}
