//! What the program asks of the system, counted by `strace`. Without that, nothing is counted, and a line says so.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::room::{BIN, Room};

/// Calls of one run of the program in `room`, by name. `None` without `strace`, or where nobody may be traced.
fn calls(room: &Room, args: &[&str]) -> Option<BTreeMap<String, u64>> {
    let count = room.path("calls");
    let traced = Command::new("strace")
        .args(["-f", "-c", "-S", "name", "-U", "calls,name", "-o"])
        .arg(&count)
        .arg(BIN)
        .args(args)
        .current_dir(room.path("."))
        .output();
    let Some(output) = traced.ok().filter(|output| output.status.success()) else {
        eprintln!("not counted: there is no strace, or it may not trace");
        return None;
    };
    drop(output);
    let text = fs::read_to_string(count).unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let calls = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), calls))
    };
    Some(text.lines().filter_map(line).collect())
}

#[test]
fn a_small_file_is_opened_once_and_takes_five_calls() {
    const FILES: u64 = 2000;
    let room = Room::new();
    for i in 0..FILES {
        // Of an ending that may be pickled weights, so that the bytes are looked at, too.
        room.write(&format!("many/{}/{i}.bin", i % 7), format!("file {i}"));
    }
    room.run("keygen --out key.pem").ended(0);
    let sign = ["sign", "key", "many", "--private-key", "key.pem", "--signature", "many.sig", "--threads", "2"];
    let verify = ["verify", "key", "many", "--public-key", "key.pub", "--signature", "many.sig", "--threads", "2"];
    let digest = ["digest", "many", "--files", "--hash", "blake3", "--threads", "1"];
    for args in [&sign[..], &verify, &digest] {
        let Some(calls) = calls(&room, args) else { return };
        // What a start takes, or a folder.
        const SLACK: u64 = 150;
        for (name, most) in [("openat", 1), ("statx", 2), ("pread64", 1), ("close", 1)] {
            let found = calls.get(name).copied().unwrap_or_default();
            // An architecture may have others.
            assert!(found <= most * FILES + SLACK, "{args:?}: {found} calls of {name} for {FILES} files");
        }
        // Unoptimised, the standard library asks before it closes a file whether it is open.
        let counted = |name: &str| name != "total" && !(cfg!(debug_assertions) && name == "fcntl");
        let all: u64 = calls.iter().filter(|(name, _)| counted(name)).map(|(_, calls)| calls).sum();
        assert!((FILES..=5 * FILES + 1000).contains(&all), "{args:?}: {all} calls for {FILES} files: {calls:?}");
    }
}
