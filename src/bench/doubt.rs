//! Signs in a report that its numbers are not those of the machine when it has nothing else to do.

use super::report::{OfDevice, Report};

/// Load averages above which something else was running.
const BUSY: f64 = 0.5;

/// A clock that fell by more than this part while it measured was held back.
const FELL: f64 = 0.05;

/// A spread, as a part of the median, beyond which a line tells little.
const WIDE: f64 = 0.1;

/// Why the numbers of this report should be trusted less, in sentences; none is no proof that they can be.
#[must_use]
pub fn doubts(report: &Report) -> Vec<String> {
    let mut all = Vec::new();
    let load = report.machine.load;
    if load > BUSY {
        all.push(format!(
            "the load average was {load:.2} when this began: something else was running; measure again when it is not"
        ));
    }
    for of in report.passed_over.iter().filter(|of| of.broken) {
        all.push(format!("{} is there and was not measured: {}", of.device, of.why));
    }
    report.devices.iter().for_each(|device| of_device(device, &mut all));
    all
}

fn of_device(of: &OfDevice, all: &mut Vec<String>) {
    let device = &of.device;
    if let (Some(before), Some(after)) = (&of.before, &of.after) {
        let clocks = [
            ("clock", before.clock_mhz, after.clock_mhz),
            ("memory clock", before.memory_clock_mhz, after.memory_clock_mhz),
        ];
        for (which, before, after) in clocks {
            if let (Some(before), Some(after)) = (before, after)
                && after < before * (1.0 - FELL)
            {
                all.push(format!(
                    "{device}: its {which} fell from {before:.0} to {after:.0} MHz while this ran: what was measured last was measured on a slower device"
                ));
            }
        }
    }
    let reasons = [&of.before, &of.after].into_iter().flatten().flat_map(|reading| &reading.slowed_by);
    let mut reasons: Vec<&str> = reasons.map(String::as_str).collect();
    reasons.sort_unstable();
    reasons.dedup();
    if !reasons.is_empty() {
        all.push(format!("{device}: its driver says that it was held back: {}", reasons.join(", ")));
    }
    let wide = of.lines.iter().filter(|line| line.times.spread() > WIDE * line.times.median()).count();
    if wide > 0 {
        let lines = of.lines.len();
        all.push(format!(
            "{device}: half the repeats of {wide} of {lines} lines are more than {:.0} % from their median",
            WIDE * 100.0
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "a literal at each call")]
    fn report(load: f64, device: serde_json::Value) -> Report {
        let machine = json!({"cpu": "A", "threads": 2, "memory": 1, "kernel": "Linux", "load": load});
        serde_json::from_value(json!({
            "schema": "s", "tool": "t", "date": "d", "seconds": 1.0, "machine": machine,
            "settings": {"repeats": 7}, "devices": [device],
        }))
        .unwrap()
    }

    fn device(before: f64, after: f64, slowed: &[&str], seconds: &[f64]) -> serde_json::Value {
        let line = json!({
            "what": "size", "name": "n", "bytes": 1, "strings": 1, "times": {"seconds": seconds}, "bytes_per_second": 0.0,
        });
        json!({
            "device": "cuda:0", "name": "A", "bounds": [], "lines": [line], "skipped": [],
            "before": {"clock_mhz": before}, "after": {"clock_mhz": after, "slowed_by": slowed},
        })
    }

    #[test]
    fn a_quiet_machine_at_full_clock_raises_no_doubt_and_each_other_does() {
        let steady = [1.0, 1.01, 0.99];
        assert_eq!(doubts(&report(0.5, device(2000.0, 1950.0, &[], &steady))), Vec::<String>::new());
        // Clocks that rise were idle before.
        assert_eq!(doubts(&report(0.0, device(300.0, 1950.0, &[], &steady))), Vec::<String>::new());
        for (load, device, said) in [
            (0.6, device(2000.0, 2000.0, &[], &steady), "load average was 0.60"),
            (0.0, device(2000.0, 1500.0, &[], &steady), "cuda:0: its clock fell from 2000 to 1500 MHz"),
            (0.0, device(2000.0, 2000.0, &["heat", "heat"], &steady), "held back: heat"),
            (0.0, device(2000.0, 2000.0, &[], &[1.0, 2.0, 3.0]), "half the repeats of 1 of 1 lines"),
        ] {
            let found = doubts(&report(load, device));
            assert!(found.len() == 1 && found[0].contains(said), "{found:?}");
        }
    }
}
