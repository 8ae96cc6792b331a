//! `bench`.

mod compare;
mod lines;
mod progress;
mod table;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tensorseal::DeviceKind;
use tensorseal::bench::{self, Failure, Files, Options, ReadError, Report};

use super::args::BenchArgs;
use super::exit::Exit;
use super::{Asked, failed_with, json, printed, say};

/// What is measured if nothing else is asked for.
const REPEATS: usize = 9;
const FILE: u64 = 512 << 20;
const PATIENCE: Duration = Duration::from_millis(100);
/// And with `--quick`.
const QUICK_REPEATS: usize = 5;
const QUICK_SIZE: u64 = 32 << 20;
const QUICK_PATIENCE: Duration = Duration::from_millis(10);

pub(super) fn run(args: &BenchArgs) -> Exit {
    let asked = Asked { command: "bench", model: None, signature: None, json: args.json };
    if let Some([before, after]) = args.compare.as_deref() {
        return compare::run(&asked, before, after, args.fail_on_slower);
    }
    // What is measured for a minute is not to be lost to a folder that is not there.
    if let Some(path) = args.html.as_deref().filter(|_| args.from.is_none())
        && let Err(error) = bench::can_write(path)
    {
        return unwritten(&asked, path, &error);
    }
    let report = match &args.from {
        Some(path) => match read(&asked, path) {
            Ok(report) => report,
            Err(exit) => return exit,
        },
        None => match measured(&asked, args) {
            Ok(report) => report,
            Err(exit) => return exit,
        },
    };
    for doubt in bench::doubts(&report) {
        say::warning(doubt);
    }
    if let Some(path) = &args.html {
        if let Err(error) = bench::write_page(&report, path) {
            return unwritten(&asked, path, &error);
        }
        say::info(format_args!("wrote {}", say::path(path)));
    }
    if args.json {
        return as_json(&asked, &report, args.load_seconds);
    }
    printed(&text(&table::of(&report, args.load_seconds)))
}

/// Lines as they are printed. Names in them are escaped already; what a terminal would act on is escaped wherever it is from.
fn text(lines: &[String]) -> String {
    lines.iter().map(|line| say::tame(line) + "\n").collect()
}

fn measured(asked: &Asked<'_>, args: &BenchArgs) -> Result<Report, Exit> {
    let options = options(asked, args)?;
    let mut shown = progress::Shown::new();
    let report = bench::run(&options, &mut |event| shown.tell(&event));
    drop(shown);
    report.map_err(|failure| failed(asked, &failure))
}

fn options(asked: &Asked<'_>, args: &BenchArgs) -> Result<Options, Exit> {
    let devices: Result<Vec<DeviceKind>, String> = args.device.iter().map(|name| name.parse()).collect();
    let devices = devices.map_err(|error| {
        say::failure("Bench:", &error);
        failed_with(asked, Exit::Usage, json!({"error": {"kind": "usage", "message": error}}))
    })?;
    let or = |given: Option<NonZeroU64>, quick: u64| given.map(NonZeroU64::get).or(args.quick.then_some(quick));
    let (repeats, patience) = if args.quick { (QUICK_REPEATS, QUICK_PATIENCE) } else { (REPEATS, PATIENCE) };
    let mut options = Options::new(args.repeats.or(NonZeroUsize::new(repeats)).unwrap_or(NonZeroUsize::MIN));
    options.devices = devices;
    options.only = (!args.only.is_empty()).then(|| args.only.iter().copied().collect());
    options.most = or(args.size, QUICK_SIZE);
    options.patience = patience;
    options.threads = args.threads;
    if !args.no_files {
        let bytes = or(args.file_size, QUICK_SIZE).unwrap_or(FILE);
        options.files = Some(Files { bytes, work: args.work.clone() });
    }
    // Others work on our files. What was asked for by name is ours alone.
    if !args.no_files && !args.no_peers && args.only.is_empty() {
        let ours = std::env::current_exe().map_err(|error| {
            let message =
                format!("this program cannot be found again to be run beside others: {error}; use --no-peers");
            cannot(asked, "Bench:", "io", &message)
        })?;
        options.ours = Some(ours);
    }
    Ok(options)
}

/// Why there are no numbers, or numbers that mean nothing.
fn failed(asked: &Asked<'_>, failure: &Failure) -> Exit {
    let message = failure.to_string();
    if !failure.is_wrong() {
        return match failure {
            Failure::Library(error) => super::failed(asked, "Bench:", error),
            Failure::Io { .. } | Failure::Room { .. } => cannot(asked, "Bench:", "io", &message),
            Failure::Device(_) => cannot(asked, "Bench:", "device", &message),
            Failure::TooSmall { .. } => {
                say::failure("Bench:", &message);
                failed_with(asked, Exit::Usage, json!({"error": {"kind": "usage", "message": message}}))
            }
            _ => cannot(asked, "Bench:", "other", &message),
        };
    }
    say::failure("Bench failed:", &message);
    let mut error = json!({"kind": "wrong-digest", "message": message});
    // Which measurement it was, for machines.
    if let (Failure::Wrong { device, what, name, .. } | Failure::WrongOfFiles { device, what, name, .. }, Some(error)) =
        (failure, error.as_object_mut())
    {
        json::insert(error, json!({"device": device.to_string(), "what": what, "name": name}));
    }
    failed_with(asked, Exit::No, json!({ "error": error }))
}

fn cannot(asked: &Asked<'_>, what: &str, kind: &str, message: &str) -> Exit {
    say::failure(what, message);
    failed_with(asked, Exit::NoAnswer, json!({"error": {"kind": kind, "message": message}}))
}

fn unwritten(asked: &Asked<'_>, path: &Path, error: &std::io::Error) -> Exit {
    cannot(asked, "Bench:", "io", &format!("cannot write the page {path:?}: {error}"))
}

/// A report that was kept.
fn read(asked: &Asked<'_>, path: &Path) -> Result<Report, Exit> {
    Report::read(path).map_err(|error| {
        let kind = if matches!(error, ReadError::Io { .. }) { "io" } else { "report" };
        cannot(asked, "Bench:", kind, &error.to_string())
    })
}

/// The report as it can be read again, under the head that every report of a command has.
fn as_json(asked: &Asked<'_>, report: &Report, load_seconds: Option<f64>) -> Exit {
    let mut whole = json::head(asked, Exit::Yes);
    json::insert(&mut whole, json!(report));
    whole.insert("adds".into(), bench::adds(report, load_seconds).iter().map(adds).collect());
    whole.insert("doubts".into(), json!(bench::doubts(report)));
    printed(&json::text(&whole))
}

fn adds(of: &bench::Adds<'_>) -> Value {
    let models = of.models.iter().map(|model| {
        json!({
            "model": model.family.name(),
            "bytes": model.bytes,
            "hashed_as": if model.measured == bench::HashedAs::Tensors { "tensors" } else { "one-string" },
            "hashing_seconds": model.hashing,
            "load_seconds": model.loading,
        })
    });
    let measured = of.measured.iter().map(|of| {
        json!({"name": of.verified.name, "cache": of.verified.cache, "bytes": of.verified.bytes, "ratio": of.ratio()})
    });
    let by = match of.by {
        bench::Loading::Given { .. } => "given",
        bench::Loading::Measured { .. } => "measured",
        _ => "assumed",
    };
    let mut fields = Map::new();
    let cache = if let bench::Loading::Measured { cache, .. } = of.by { cache } else { None };
    json::insert(&mut fields, json!({"device": of.device.device, "load": by, "cache": cache}));
    fields.insert("models".into(), models.collect());
    fields.insert("verified_loads".into(), measured.collect());
    fields.into()
}
