//! What of a model would be signed, and what tensors it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};
use tensorseal::Error;
use tensorseal::format::{Header, Survey, Tensor, part_of, survey};
use tensorseal::report::Note;
use tensorseal::sign::{Listing, SignOptions, list};

use super::fold::fold;
use crate::cli::args::InspectArgs;
use crate::cli::exit::Exit;
use crate::cli::{Asked, failed, json, printed, say, tell};

/// So many rows of a table are shown; `--tensors` shows each tensor.
const MOST_ROWS: usize = 60;
/// So much of a name or of a value is shown in a table.
const WIDEST: usize = 72;

pub(super) fn run(args: &InspectArgs) -> Exit {
    let asked = Asked { command: "inspect", model: Some(&args.model.model), signature: None, json: args.json };
    let options = SignOptions {
        symlinks: args.model.symlinks(),
        ignore_paths: args.model.ignore_paths.clone(),
        git_files: args.model.git_files(),
        ..SignOptions::default()
    };
    let listing = match list(&args.model.model, &options) {
        Ok(listing) => listing,
        Err(error) => return failed(&asked, super::FAILED, &error),
    };
    let survey = survey(listing.files.iter().map(|file| (file.name.as_str(), file.path.clone())));
    listing.notes.iter().for_each(say::warning);
    let faults: Vec<&Error> =
        survey.headers.values().filter_map(|of| of.as_ref().err()).chain(&survey.faults).collect();
    let exit = faults.first().map_or(Exit::Yes, |error| Exit::from(*error));
    let text = if args.json { report(&asked, exit, &listing, &survey, &faults) } else { text(args, &listing, &survey) };
    let shown = printed(&text);
    faults.iter().take(tell::SHOWN).for_each(|error| say::failure(super::FAILED, error));
    if faults.len() > tell::SHOWN {
        say::failure(super::FAILED, format_args!("and {} more faults (--json lists all)", faults.len() - tell::SHOWN));
    }
    if shown == Exit::Yes { exit } else { shown }
}

/// Sums over tensors.
#[derive(Clone, Copy, Default)]
struct Sum {
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(tensor.elements());
        self.bytes = self.bytes.saturating_add(tensor.bytes());
    }

    fn of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let mut sum = Self::default();
        tensors.into_iter().for_each(|tensor| sum.add(tensor));
        sum
    }

    /// `291 tensors, 8.03 B parameters, 16.06 GB`.
    fn text(self) -> String {
        let tensors = if self.tensors == 1 { "tensor" } else { "tensors" };
        let bytes = tell::bytes(self.bytes);
        format!("{} {tensors}, {}, {bytes}", self.tensors, parameters(self.parameters))
    }

    fn json(self) -> Value {
        json!({"tensors": self.tensors, "parameters": self.parameters, "bytes": self.bytes})
    }
}

/// `8.03 B parameters`, as models are named by.
fn parameters(count: u64) -> String {
    for (unit, size) in [("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)] {
        if count as f64 >= size {
            return format!("{:.2} {unit} parameters", count as f64 / size);
        }
    }
    format!("{count} {}", if count == 1 { "parameter" } else { "parameters" })
}

/// The headers that could be read.
fn headers(survey: &Survey) -> impl Iterator<Item = (&str, &Header)> {
    survey.headers.iter().filter_map(|(name, header)| Some((name.as_str(), header.as_ref().ok()?)))
}

/// Sums by type, the one with the most bytes first.
fn by_dtype(survey: &Survey) -> Vec<(&'static str, Sum)> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for tensor in headers(survey).flat_map(|(_, header)| &header.tensors) {
        sums.entry(tensor.dtype.name()).or_default().add(tensor);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    sums
}

fn report(asked: &Asked<'_>, exit: Exit, listing: &Listing, survey: &Survey, faults: &[&Error]) -> String {
    let mut report = json::head(asked, exit);
    let file = |file: &tensorseal::sign::ListedFile| {
        let mut of = json!({"name": file.name, "size": file.size});
        match survey.headers.get(&file.name) {
            Some(Ok(header)) => {
                of["format"] = header.format.name().into();
                of["header_bytes"] = header.len.into();
                of["metadata"] = json!(header.metadata);
                of["total"] = Sum::of(&header.tensors).json();
                of["tensors"] = header.tensors.iter().map(tensor_json).collect();
            }
            Some(Err(error)) => of["error"] = error.to_string().into(),
            None => {}
        }
        of
    };
    let total = Sum::of(headers(survey).flat_map(|(_, header)| &header.tensors));
    let dtypes: Vec<Value> = by_dtype(survey)
        .into_iter()
        .map(|(dtype, sum)| {
            let mut of = sum.json();
            of["dtype"] = dtype.into();
            of
        })
        .collect();
    let pickled = listing.notes.iter().find_map(|note| match note {
        Note::Pickled { files } => Some(files.as_slice()),
        _ => None,
    });
    json::insert(
        &mut report,
        json!({
            "verdict": "none",
            "verified": false,
            "files": listing.files.iter().map(file).collect::<Vec<_>>(),
            "bytes": bytes(listing),
            "ignored": listing.ignored.iter().map(|file| &file.name).collect::<Vec<_>>(),
            "followed": listing.followed.iter().map(|link| &link.name).collect::<Vec<_>>(),
            "total": total.json(),
            "dtypes": dtypes,
            "pickled": pickled.unwrap_or_default(),
            "notes": listing.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    );
    if let Some(first) = faults.first() {
        json::insert(&mut report, json::error(first));
        report.insert("faults".into(), faults.iter().map(ToString::to_string).collect());
    }
    json::text(&report)
}

fn tensor_json(of: &Tensor) -> Value {
    json!({
        "name": of.name,
        "dtype": of.dtype.name(),
        "shape": of.shape,
        "offset": of.range.start,
        "bytes": of.bytes(),
    })
}

fn bytes(listing: &Listing) -> u64 {
    listing.files.iter().fold(0_u64, |total, file| total.saturating_add(file.size))
}

fn text(args: &InspectArgs, listing: &Listing, survey: &Survey) -> String {
    let files = tell::amount(listing.files.len(), "file", "files");
    let mut text = format!("would be signed: {files}, {}\n\n", tell::bytes(bytes(listing)));
    for file in &listing.files {
        let more = match survey.headers.get(&file.name) {
            Some(Ok(header)) => {
                let tensors = tell::amount(header.tensors.len(), "tensor", "tensors");
                let kinds: BTreeSet<_> = header.tensors.iter().map(|of| of.dtype.name()).collect();
                match kinds.len() {
                    0 => format!("  ({tensors})"),
                    1..=4 => format!("  ({tensors}: {})", kinds.into_iter().collect::<Vec<_>>().join(", ")),
                    count => format!("  ({tensors} of {count} types)"),
                }
            }
            Some(Err(_)) => "  (its tensors cannot be read)".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(text, "{:>12}  {}{more}", tell::bytes(file.size), say::name(&file.name));
    }
    for file in &listing.ignored {
        let _ = writeln!(text, "{:>12}  {}", "ignored", say::name(&file.name));
    }
    if headers(survey).next().is_none() {
        return text;
    }
    let total = Sum::of(headers(survey).flat_map(|(_, header)| &header.tensors));
    let _ = writeln!(text, "\nin all: {}", total.text());
    let dtypes = by_dtype(survey);
    for (dtype, sum) in &dtypes {
        let _ = writeln!(text, "{:>12}  {}", dtype, sum.text());
    }
    for (name, files) in sets(survey) {
        set(&mut text, &name, &files, args.tensors);
    }
    text
}

/// Files that belong together, under a name for all of them: numbered ones do.
fn sets(survey: &Survey) -> Vec<(String, Vec<(&str, &Header)>)> {
    let mut sets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, header) in headers(survey) {
        let key = part_of(name).map_or((name, 0, ""), |part| part.set());
        sets.entry(key).or_default().push((name, header));
    }
    let name = |(stem, count, extension)| match count {
        0 => String::from(stem),
        _ => format!("{stem}-*-of-{count:05}.{extension}"),
    };
    sets.into_iter().map(|(key, files)| (name(key), files)).collect()
}

fn set(text: &mut String, name: &str, files: &[(&str, &Header)], all: bool) {
    let sum = Sum::of(files.iter().flat_map(|(_, header)| &header.tensors));
    let _ = writeln!(text, "\n{}: {}", say::name(name), sum.text());
    metadata(text, files);
    if all {
        for (file, header) in files {
            if files.len() > 1 {
                let _ = writeln!(text, "  {}", say::name(file));
            }
            table(
                text,
                "offset",
                header.tensors.iter().map(|of| Line {
                    name: say::name(&of.name),
                    dtype: of.dtype.name(),
                    shape: shape(&of.shape),
                    bytes: tell::bytes(of.bytes()),
                    more: of.range.start.to_string(),
                }),
            );
        }
        return;
    }
    let rows = fold(files.iter().flat_map(|(_, header)| &header.tensors));
    table(
        text,
        "tensors",
        rows.iter().take(MOST_ROWS).map(|row| Line {
            name: cut(&row.name),
            dtype: row.dtype.name(),
            shape: shape(&row.shape),
            bytes: tell::bytes(row.bytes),
            more: row.count.to_string(),
        }),
    );
    if rows.len() > MOST_ROWS {
        let _ = writeln!(text, "  and {} more (--tensors lists each tensor)", rows.len() - MOST_ROWS);
    }
}

/// What the header of the first file says beside its tensors: the short things.
fn metadata(text: &mut String, files: &[(&str, &Header)]) {
    let Some((_, header)) = files.first() else { return };
    let short = header.metadata.iter().filter(|(_, value)| value.chars().count() <= WIDEST);
    let general =
        short.filter(|(key, _)| header.format != tensorseal::format::Format::Gguf || key.starts_with("general."));
    for (key, value) in general.take(tell::SHOWN) {
        let _ = writeln!(text, "  {}: {}", cut(key), cut(value));
    }
}

/// A line of a table.
struct Line {
    name: String,
    dtype: &'static str,
    shape: String,
    bytes: String,
    more: String,
}

fn table(text: &mut String, more: &str, lines: impl Iterator<Item = Line>) {
    let (shape, bytes, more) = ("shape".to_owned(), "bytes".to_owned(), more.to_owned());
    let mut all = vec![Line { name: "tensor".to_owned(), dtype: "type", shape, bytes, more }];
    all.extend(lines);
    if all.len() == 1 {
        return;
    }
    let width = |of: fn(&Line) -> &str| all.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
    let (name, dtype) = (width(|line| &line.name).min(WIDEST), width(|line| line.dtype));
    let (shape, bytes, more) = (width(|line| &line.shape), width(|line| &line.bytes), width(|line| &line.more));
    for line in &all {
        let _ = writeln!(
            text,
            "  {:name$}  {:dtype$}  {:shape$}  {:>bytes$}  {:>more$}",
            line.name, line.dtype, line.shape, line.bytes, line.more
        );
    }
}

/// `[128256, 4096]`, as torch and numpy write it.
fn shape(shape: &[u64]) -> String {
    format!("{shape:?}")
}

/// A name that fits into a table.
fn cut(name: &str) -> String {
    let shown: String = name.chars().take(WIDEST).collect();
    if shown.len() == name.len() { say::name(name) } else { format!("{} ..", say::name(&shown)) }
}
