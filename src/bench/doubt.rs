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
