//! `devices`.

use serde_json::json;
use tensorseal::Device;
use tensorseal::device::cpu::{Cpu, Settings};
use tensorseal::device::{DeviceKind, Listed};

use super::exit::Exit;
use super::{Asked, failed, json, printed, say, tell};

pub(super) fn run(as_json: bool) -> Exit {
    let asked = Asked { command: "devices", model: None, signature: None, json: as_json };
    let threads = match Cpu::open(Settings::default()) {
        Ok(cpu) => cpu.threads(),
        Err(error) => return failed(&asked, "error:", &error.into()),
    };
    let list = Device::list();
    if as_json {
        let mut report = json::head(&asked, Exit::Yes);
        report.insert("static".into(), cfg!(target_feature = "crt-static").into());
        report.insert("devices".into(), list.iter().map(|listed| entry(listed, threads)).collect());
        return printed(&json::text(&report));
    }
    let mut text = String::new();
    if cfg!(target_feature = "crt-static") {
        text.push_str("static build of tensorseal (for init containers)\n");
    }
    list.iter().for_each(|listed| text += &line(listed, threads));
    printed(&text)
}

/// One device for machines.
pub(super) fn entry(listed: &Listed, threads: usize) -> serde_json::Value {
    let cpu = listed.kind == DeviceKind::Cpu;
    let algorithms = if cpu { vec!["sha256", "blake2b", "blake3"] } else { vec!["blake3"] };
    let mut entry = json!({
        "device": listed.kind.to_string(),
        "name": listed.name,
        "memory": listed.memory,
        "capability": listed.capability,
        "driver": listed.driver,
        "available": listed.usable.is_ok(),
    });
    let fields = match &listed.usable {
        Ok(()) if cpu => json!({"threads": threads, "algorithms": algorithms}),
        Ok(()) => json!({"algorithms": algorithms}),
        Err(why) => json!({"why": why.to_string()}),
    };
    if let (serde_json::Value::Object(entry), serde_json::Value::Object(fields)) = (&mut entry, fields) {
        entry.extend(fields);
    }
    entry
}

/// One device for people.
fn line(listed: &Listed, threads: usize) -> String {
    let mut facts = Vec::new();
    if listed.kind == DeviceKind::Cpu {
        facts.push(tell::amount(threads, "thread", "threads"));
    } else if listed.name != listed.kind.to_string() {
        facts.push(say::name(&listed.name));
    }
    facts.extend(listed.memory.map(tell::bytes));
    facts.extend([&listed.capability, &listed.driver].into_iter().flatten().map(|fact| say::name(fact)));
    let verdict = match &listed.usable {
        Ok(()) if listed.kind == DeviceKind::Cpu => "sha256, blake2b, blake3; known-answer test passed".to_owned(),
        Ok(()) => "blake3".to_owned(),
        Err(why) => format!("cannot be used: {}", say::tame(&why.to_string())),
    };
    let facts = if facts.is_empty() { verdict } else { format!("{}; {verdict}", facts.join(", ")) };
    // A kind that holds an adapter's name may be longer than the column.
    format!("{:<7} {facts}\n", say::name(&listed.kind.to_string()))
}
