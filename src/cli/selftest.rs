//! `selftest`.

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tensorseal::bench::report::{Line, What};
use tensorseal::bench::{self, DeviceOptions, Event};
use tensorseal::device::cpu::{Cpu, Settings};
use tensorseal::device::{Backend, DeviceError, DeviceKind, Listed};
use tensorseal::selftest::{self, Failure, Kind, Options};
use tensorseal::{Device, Error};

use super::args::SelftestArgs;
use super::exit::Exit;
use super::{Asked, devices, failed, json, printed, say, tell};

pub(super) fn run(args: &SelftestArgs) -> Exit {
    let asked = Asked { command: "selftest", model: None, signature: None, json: args.json };
    let (all, chosen) = match choose(args) {
        Ok(chosen) => chosen,
        Err(error) => return failed(&asked, "Self-test could not be done:", &error),
    };
    let mut exit = Exit::Yes;
    let mut reports = Vec::new();
    let threads = Cpu::open(Settings::default()).map_or(1, |cpu| cpu.threads());
    for listed in &chosen {
        say::detail("device", format_args!("{}, {}, seed {}", listed.kind, listed.name, args.seed));
        let opened = listed.usable.clone().and_then(|()| Device::open(listed.kind.clone()));
        let (ended, mut report) = match opened {
            Ok(device) => on_device(&device, listed, args),
            Err(error) => not_opened(&error),
        };
        json::insert(&mut report, devices::entry(listed, threads));
        report.insert("seed".into(), args.seed.into());
        reports.push(Value::Object(report));
        // A wrong digest outweighs a device that could not be asked.
        exit = if exit == Exit::No || ended == Exit::Yes { exit } else { ended };
    }
    let gpus = chosen.iter().filter(|listed| listed.kind != DeviceKind::Cpu && !listed.is_software()).count();
    if args.device.is_none() {
        for listed in all.iter().filter(|listed| !is_tested(listed)) {
            say::detail("not tested", format_args!("{}: {}", listed.kind, tell_why(listed)));
        }
        if gpus == 0 {
            say::warning("no GPU was tested: none can be used here");
        }
    }
    if args.json {
        let mut report = json::head(&asked, exit);
        if exit != Exit::Yes {
            let message = "at least one device is wrong, or could not be tested: see `devices`";
            let kind = if exit == Exit::No { "wrong-digest" } else { "device" };
            json::insert(&mut report, json!({"error": {"kind": kind, "message": message}}));
        }
        report.insert("gpus_tested".into(), gpus.into());
        report.insert("devices".into(), reports.into());
        return if printed(&json::text(&report)) == Exit::NoAnswer { Exit::NoAnswer } else { exit };
    }
    match exit {
        Exit::Yes => printed(&say::success("Self-test passed")),
        exit => exit,
    }
}

fn tell_why(listed: &Listed) -> String {
    let software = || "it is software, which is tested only if it is named".to_owned();
    listed.usable.as_ref().err().map_or_else(software, ToString::to_string)
}

/// Whether it is tested without being named: every device that is there, the more so if it does not work.
fn is_tested(listed: &Listed) -> bool {
    !listed.is_software() && !listed.usable.as_ref().is_err_and(DeviceError::is_absence)
}

/// All devices, and those to test: the one that was named, or every one that is there.
fn choose(args: &SelftestArgs) -> Result<(Vec<Listed>, Vec<Listed>), Error> {
    let all = Device::list();
    let Some(name) = &args.device else {
        let tested = all.iter().filter(|listed| is_tested(listed)).cloned().collect();
        return Ok((all, tested));
    };
    let kind: DeviceKind = name.parse().map_err(Error::UnknownDevice)?;
    // Opened here, so that a device that is not there is one clear answer. One that is wrong is no less clear.
    let (opened, usable) = match Device::open(kind.clone()) {
        Ok(device) => (device.kind(), Ok(())),
        Err(DeviceError::SelfTest { device, algorithm }) => {
            (device.clone(), Err(DeviceError::SelfTest { device, algorithm }))
        }
        Err(error) => return Err(error.into()),
    };
    let named = |listed: &&Listed| match (&kind, &listed.kind) {
        (DeviceKind::Wgpu(Some(part)), DeviceKind::Wgpu(_)) => {
            listed.name.to_lowercase().contains(&part.to_lowercase())
        }
        (DeviceKind::Wgpu(None), DeviceKind::Wgpu(_)) => listed.usable.is_ok(),
        (kind, listed) => kind == listed,
    };
    let found = all.iter().find(|listed| listed.kind == opened).or_else(|| all.iter().find(named));
    let Some(mut listed) = found.cloned() else {
        let why = "it opens, and is in no list".to_owned();
        return Err(DeviceError::Absent { device: kind, why }.into());
    };
    // As it can be named again.
    (listed.kind, listed.usable) = (kind, usable);
    Ok((all, vec![listed]))
}

fn on_device(device: &Device, listed: &Listed, args: &SelftestArgs) -> (Exit, Map<String, Value>) {
    match device {
        Device::Cpu(cpu) => test(cpu, listed, args),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => test(wgpu, listed, args),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => test(cuda, listed, args),
        _ => (Exit::NoAnswer, fault("device", "it is of a kind that the command line does not know")),
    }
}

fn test<B: Backend + Sync>(backend: &B, listed: &Listed, args: &SelftestArgs) -> (Exit, Map<String, Value>) {
    let mut options = Options { seed: args.seed, rounds: args.rounds, ..Options::default() };
    if let Some((kind, index)) = args.case {
        options = Options { kinds: vec![kind], only: index, ..options };
    }
    let count = |count: &selftest::Count| {
        let (cases, strings) = (tell::amount(count.cases, "case", "cases"), count.strings);
        let took = count.elapsed.as_secs_f64();
        say::detail(
            count.kind.name(),
            format_args!("{cases}, {strings} strings, {} in {took:.2} s", tell::bytes(count.bytes)),
        );
    };
    let mut report = match selftest::run(backend, &options, &mut { count }) {
        Ok(report) => {
            let mut fields = Map::new();
            let counts: Vec<Value> = report.counts.iter().map(counted).collect();
            json::insert(
                &mut fields,
                json!({"passed": true, "counts": counts, "seconds": report.elapsed.as_secs_f64()}),
            );
            fields
        }
        Err(failure) => return failed_case(&failure, listed, args),
    };
    if args.bench {
        match measure(backend, listed, args) {
            Ok(lines) => drop(report.insert("bench".into(), lines)),
            Err(failure) => {
                say::failure("Measuring failed:", &failure);
                let (exit, kind) = match failure {
                    bench::Failure::Wrong { .. } | bench::Failure::Memory { .. } => (Exit::No, "wrong-digest"),
                    _ => (Exit::NoAnswer, "device"),
                };
                json::insert(&mut report, fault(kind, &failure.to_string()).into());
                return (exit, report);
            }
        }
    }
    (Exit::Yes, report)
}

/// What a device that does not open says of itself: that it is wrong, which is an answer, or nothing.
fn not_opened(error: &DeviceError) -> (Exit, Map<String, Value>) {
    let (what, exit, kind) = match error {
        DeviceError::SelfTest { .. } => ("Self-test failed:", Exit::No, "wrong-digest"),
        _ => ("Self-test could not be done:", Exit::NoAnswer, "device"),
    };
    say::failure(what, error);
    (exit, fault(kind, &error.to_string()))
}

fn failed_case(failure: &Failure, listed: &Listed, args: &SelftestArgs) -> (Exit, Map<String, Value>) {
    let (exit, kind) = match failure {
        Failure::Wrong { .. } | Failure::Oracle { .. } => (Exit::No, "wrong-digest"),
        _ => (Exit::NoAnswer, "device"),
    };
    say::failure("Self-test failed:", failure);
    let mut report = fault(kind, &failure.to_string());
    if let Failure::Wrong { which, .. } | Failure::Device { which, .. } = failure {
        let again = format!(
            "tensorseal selftest --device '{}' --seed {} --case {}/{}",
            listed.kind, args.seed, which.kind, which.index
        );
        say::reason("again", &again);
        report.insert("again".into(), again.into());
    }
    (exit, report)
}

fn fault(kind: &str, message: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    json::insert(&mut fields, json!({"passed": false, "error": {"kind": kind, "message": message}}));
    fields
}

fn counted(count: &selftest::Count) -> Value {
    json!({
        "kind": count.kind.name(),
        "cases": count.cases,
        "strings": count.strings,
        "bytes": count.bytes,
        "seconds": count.elapsed.as_secs_f64(),
    })
}

fn measure<B: Backend>(backend: &B, listed: &Listed, args: &SelftestArgs) -> Result<Value, bench::Failure> {
    let options = DeviceOptions {
        most: args.bench_size.map(NonZeroU64::get),
        repeats: args.repeats,
        only: Some([What::Upload, What::Size, What::Alignment, What::Rows, What::Small, What::Kernel].into()),
        // Exactly as many repeats as were asked for.
        patience: Duration::ZERO,
    };
    let tell = |event: Event<'_>| {
        let Event::Line(line) = event else { return };
        let rate = tell::bytes(line.bytes_per_second as u64);
        let kernel = line.kernel.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        let place = if line.at > 0 { format!(" from byte {}", line.at) } else { String::new() };
        let (strings, times) = (tell::amount(line.strings, "string", "strings"), &line.times);
        say::detail(
            what(line),
            format_args!(
                "{}{kernel} in {strings}{place}: {rate}/s, median {}, {} to {}",
                tell::bytes(line.bytes),
                seconds(times.median()),
                seconds(times.fastest()),
                seconds(times.slowest())
            ),
        );
    };
    let measured = bench::on_device(backend, listed, &options, &mut { tell })?;
    let line = |line: &Line| {
        json!({
            "what": what(line),
            "variant": line.kernel,
            "strings": line.strings,
            "bytes": line.bytes,
            "at": line.at,
            "repeats": line.times.seconds().len(),
            "median": line.times.median(),
            "fastest": line.times.fastest(),
            "slowest": line.times.slowest(),
            "bytes_per_second": line.bytes_per_second,
        })
    };
    Ok(measured.lines.iter().map(line).collect())
}

/// What was measured, by the names of this command's report.
const fn what(line: &Line) -> &'static str {
    match line.what {
        What::Upload => "upload",
        What::Alignment => "alignment",
        What::Rows => "rows",
        What::Small => "small",
        What::Kernel => "variant",
        _ => "size",
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.1} us", seconds * 1e6),
        ..1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// `layouts`, or `layouts/17`.
pub(super) fn case(text: &str) -> Result<(Kind, Option<usize>), String> {
    match text.split_once('/') {
        None => Ok((text.parse()?, None)),
        Some((kind, index)) => {
            // A case is made from 32 bits of its number: others would be the same cases again.
            let number: u32 = index.parse().map_err(|_| format!("{index:?} is not the number of a case"))?;
            Ok((kind.parse()?, Some(number as usize)))
        }
    }
}
