//! A report as a person reads it.

use tensorseal::bench::report::{Beside, Bound, BoundKind, Cache, Line, Machine, OfDevice, Reading};
use tensorseal::bench::{self, ASSUMED, Adds, HashedAs, Loading, Report, Times, What};

use super::lines::{Edge, columns, digits, name, percent, rate, sentence, time};
use crate::cli::tell::{amount, bytes};

/// Names of lines that are longer stand alone.
const NAME: usize = 34;

/// All of it, line by line.
pub(super) fn of(report: &Report, load_seconds: Option<f64>) -> Vec<String> {
    let mut lines =
        vec![format!("{} bench, {}, took {}", name(&report.tool), name(&report.date), time(report.seconds))];
    lines.extend(machine(&report.machine));
    for device in &report.devices {
        lines.push(String::new());
        lines.extend(of_device(device));
    }
    if !report.passed_over.is_empty() {
        lines.extend([String::new(), "not measured".to_owned()]);
        for of in &report.passed_over {
            lines.extend(sentence(2, "", &format!("{}: {}", name(&of.device), name(&of.why))));
        }
    }
    let adds: Vec<_> = bench::adds(report, load_seconds);
    if adds.iter().any(|of| !of.models.is_empty() || !of.measured.is_empty()) {
        lines.extend([String::new(), "what this adds to a load".to_owned()]);
        adds.iter().for_each(|of| lines.extend(added(of)));
    }
    if let Some(peers) = &report.peers {
        lines
            .extend([String::new(), "beside other programs: whole processes, from start to exit, in turns".to_owned()]);
        lines.extend(beside(&peers.lines));
        for of in &peers.absent {
            lines.extend(sentence(2, "not run  ", &format!("{}: {}", name(&of.program), name(&of.why))));
        }
    }
    lines
}

fn machine(of: &Machine) -> Vec<String> {
    let mut facts = vec![known(&of.cpu), amount(of.threads, "thread", "threads")];
    facts.extend((of.memory > 0).then(|| format!("{} of memory", bytes(of.memory))));
    facts.push(known(&of.kernel));
    facts.extend(of.virtual_machine.filter(|&is| is).map(|_| "a virtual machine".to_owned()));
    facts.extend(of.governor.as_ref().map(|governor| format!("governor {}", name(governor))));
    let mut lines = sentence(0, "machine  ", &facts.join(", "));
    lines.push(format!("load     {:.2} in the minute before", of.load));
    if let Some(folder) = &of.folder {
        lines.push(format!("files    in {} ({})", name(&folder.path), name(&folder.file_system)));
    }
    lines
}

fn known(fact: &str) -> String {
    if fact.is_empty() { "not known".to_owned() } else { name(fact) }
}

fn of_device(of: &OfDevice) -> Vec<String> {
    let mut facts: Vec<String> = [Some(&of.name), of.driver.as_ref(), of.capability.as_ref()]
        .into_iter()
        .flatten()
        .filter(|fact| **fact != of.device && !fact.is_empty())
        .map(|fact| name(fact))
        .collect();
    facts.extend(of.memory.map(|memory| format!("{} of memory", bytes(memory))));
    facts.extend(of.kernel.as_ref().map(|kernel| format!("kernel {}", name(kernel))));
    let mut lines = sentence(0, &format!("{}  ", name(&of.device)), &facts.join(", "));
    for bound in &of.bounds {
        lines.extend(bounded(bound));
    }
    lines.extend(sensors(of));
    lines.extend(measured(&of.lines));
    for skipped in &of.skipped {
        let text = format!("{}, {}: {}", skipped.what, name(&skipped.name), name(&skipped.why));
        lines.extend(sentence(2, "skipped  ", &text));
    }
    lines
}

fn bounded(bound: &Bound) -> Vec<String> {
    let text = format!("{}: {} GB/s, {}", kind(bound.kind), rate(bound.bytes_per_second), name(&bound.basis));
    sentence(2, "bound    ", &text)
}

const fn kind(kind: BoundKind) -> &'static str {
    match kind {
        BoundKind::Instructions => "instructions",
        BoundKind::Memory => "memory",
        BoundKind::Link => "link",
        BoundKind::Disk => "disk",
        BoundKind::PageCache => "page cache",
        _ => "other",
    }
}

/// Clocks and temperature, before and after.
fn sensors(of: &OfDevice) -> Vec<String> {
    type Value = fn(&Reading) -> Option<f64>;
    let values: [(&str, &str, Value); 4] = [
        ("clock", "MHz", |of| of.clock_mhz),
        ("memory", "MHz", |of| of.memory_clock_mhz),
        ("", "\u{b0}C", |of| of.celsius),
        ("", "W", |of| of.watts),
    ];
    let read = |reading: &Option<Reading>, value: Value| {
        reading.as_ref().and_then(value).map_or_else(|| "?".to_owned(), |value| format!("{value:.0}"))
    };
    let told = values.into_iter().filter_map(|(what, unit, value)| {
        let (before, after) = (read(&of.before, value), read(&of.after, value));
        let known = before != "?" || after != "?";
        known.then(|| format!("{what} {before} -> {after} {unit}").trim_start().to_owned())
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        Vec::new()
    } else {
        sentence(2, "sensors  ", &format!("{}, before -> after", told.join(", ")))
    }
}

/// The measurements, those of one kind under a heading.
fn measured(all: &[Line]) -> Vec<String> {
    const EDGES: [Edge; 6] = [Edge::Left, Edge::Right, Edge::Right, Edge::Right, Edge::Right, Edge::Left];
    if all.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["", "bytes", "time", "GB/s", "±", "of its bound"].map(str::to_owned)];
    // Warm and cold are measured in turns, and stand together.
    let mut all: Vec<&Line> = all.iter().collect();
    all.sort_by_key(|line| What::ALL.iter().position(|what| *what == line.what));
    let mut before = None;
    for line in all {
        if before != Some(line.what) {
            before = Some(line.what);
            let mut heading: [String; 6] = Default::default();
            heading[0] = title(line.what).to_owned();
            rows.push(heading);
        }
        rows.push(row(line));
        rows.extend(stages(line).map(|text| {
            let mut under: [String; 6] = Default::default();
            under[0] = format!("    {text}");
            under
        }));
    }
    columns(2, NAME, EDGES, &rows)
}

fn row(line: &Line) -> [String; 6] {
    let mut which = vec![name(&line.name)];
    which.extend(line.kernel.as_ref().map(|kernel| name(kernel)));
    which.extend(line.cache.map(|cache| said(cache).to_owned()));
    let share = line.share.map(|share| {
        let of = line.bound.map(|bound| format!(" of {}", kind(bound))).unwrap_or_default();
        percent(share) + &of
    });
    [
        format!("  {}", which.join(", ")),
        bytes(line.bytes),
        time(line.times.median()),
        rate(line.times.rate(line.bytes)),
        spread(&line.times),
        share.unwrap_or_default(),
    ]
}

const fn said(cache: Cache) -> &'static str {
    match cache {
        Cache::Warm => "warm",
        Cache::Cold => "cold",
    }
}

/// What half of the repeats keep within, as a part of the median.
fn spread(times: &Times) -> String {
    percent(times.spread() / times.median().max(1e-9))
}

/// Where the time of a line went.
fn stages(line: &Line) -> Option<String> {
    let part = |stage: &bench::report::Stage| format!("{} {}", name(&stage.name), time(stage.seconds));
    let parts: Vec<String> = line.stages.iter().map(part).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

const fn title(what: What) -> &'static str {
    match what {
        What::Size => "one string in memory",
        What::Alignment => "one string that begins at an odd place",
        What::Rows => "rows at a stride",
        What::Small => "many strings of one length, in one submit",
        What::Kernel => "by kernel",
        What::Model => "the tensors of a model, in one submit",
        What::Upload => "host to device, not hashed",
        What::Digest => "digests of files",
        What::Load => "loads without a check",
        What::VerifiedLoad => "verified loads",
        What::Sign => "signing a model on disk",
        What::Verify => "verifying a model on disk",
        _ => "other",
    }
}

fn added(of: &Adds<'_>) -> Vec<String> {
    const EDGES: [Edge; 5] = [Edge::Left, Edge::Right, Edge::Right, Edge::Right, Edge::Right];
    let device = name(&of.device.device);
    let mut lines = Vec::new();
    if !of.models.is_empty() {
        let how = match of.by {
            Loading::Given { .. } => "a load that takes as long as you said".to_owned(),
            Loading::Measured { bytes_per_second, cache } => {
                let from = cache.map(|cache| format!(", {}", said(cache))).unwrap_or_default();
                format!("a load at {} GB/s, as measured{from}", rate(bytes_per_second))
            }
            _ => format!("a load at {} GB/s, which is assumed (--load-seconds says better)", digits(ASSUMED / 1e9)),
        };
        lines.extend(sentence(
            2,
            &format!("{device}  "),
            &format!("all of it hashed where it lies, after {how}; a verified load hashes meanwhile and adds less"),
        ));
        let mut rows = vec![["", "bytes", "hashing", "load of", "adds at most"].map(str::to_owned)];
        rows.extend(of.models.iter().map(|model| {
            let star = if model.measured == HashedAs::Tensors { "" } else { " *" };
            [
                format!("{}{star}", model.family.name()),
                bytes(model.bytes),
                time(model.hashing),
                time(model.loading),
                percent(model.hashing / model.loading.max(1e-9)),
            ]
        }));
        lines.extend(columns(4, NAME, EDGES, &rows));
        if of.models.iter().any(|model| model.measured == HashedAs::OneString) {
            lines.push("    * at the rate of one long string: not even a layer fits into --size".to_owned());
        }
    }
    for checked in &of.measured {
        let cache = checked.verified.cache.map(|cache| format!(", {}", said(cache))).unwrap_or_default();
        let text = format!(
            "measured: a verified load of {}{cache} took {} of the same load without a check ({} and {})",
            bytes(checked.verified.bytes),
            percent(checked.ratio()),
            time(checked.verified.times.median()),
            time(checked.plain.times.median())
        );
        lines.extend(sentence(2, &format!("{device}  "), &text));
    }
    lines
}

fn beside(all: &[Beside]) -> Vec<String> {
    const EDGES: [Edge; 5] = [Edge::Left, Edge::Right, Edge::Right, Edge::Right, Edge::Right];
    let mut lines = Vec::new();
    let mut tasks: Vec<(&str, u64)> = Vec::new();
    for of in all {
        let task = (of.task.as_str(), of.bytes);
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    for (task, size) in tasks {
        lines.push(format!("  {}, {}", name(task), bytes(size)));
        let mut rows = vec![["", "threads", "theirs", "ours", "ours by theirs"].map(str::to_owned)];
        let of_task = all.iter().filter(|of| (of.task.as_str(), of.bytes) == (task, size));
        rows.extend(of_task.map(|of| {
            let both = |times: &Times| format!("{} ± {}", time(times.median()), spread(times));
            [
                if of.version.contains(&of.program) {
                    name(&of.version)
                } else {
                    format!("{} {}", name(&of.program), name(&of.version))
                },
                of.threads.map_or_else(|| "own".to_owned(), |threads| threads.to_string()),
                both(&of.theirs),
                both(&of.ours),
                format!("{}x", digits(of.ratio)),
            ]
        }));
        lines.extend(columns(4, NAME, EDGES, &rows));
    }
    lines
}
