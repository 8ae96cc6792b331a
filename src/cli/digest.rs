//! `digest`.

use tensorseal::manifest::SINGLE_FILE;
use tensorseal::sign::{Annotations, Hashed, SignOptions};
use tensorseal::source::SourceError;
use tensorseal::verify::GitFiles;
use tensorseal::{Error, hash};

use super::args::DigestArgs;
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::{Asked, failed, json, printed, say};

pub(super) fn run(args: &DigestArgs) -> Exit {
    let model = &args.model.model;
    let asked = Asked { command: "digest", model: Some(model), signature: None, json: args.engine.json };
    let hashed = match digests(args) {
        Ok(hashed) => hashed,
        Err(error) => {
            let exit = failed(&asked, "Computing digest failed:", &error);
            device::next(&error, None);
            return exit;
        }
    };
    hashed.notes.iter().for_each(say::warning);
    if args.engine.json {
        let mut report = json::head(&asked, Exit::Yes);
        json::insert(&mut report, json::digests(&hashed));
        return printed(&json::text(&report));
    }
    if !args.files {
        return printed(&format!("{}\n", hashed.manifest.root()));
    }
    let resources = hashed.manifest.resources();
    // Lines name files as they are reached from the current folder, which is where `--check` will look.
    let below = model.join("");
    let Some((single, below)) = model.to_str().zip(below.to_str()) else {
        // A name shown with a substitute would be another name to whoever reads the line.
        let path = resources.first().map_or(below, |resource| model.join(resource.name.as_str()));
        return failed(&asked, "Computing digest failed:", &SourceError::NonUtf8Name { path }.into());
    };
    let mut text = String::with_capacity(resources.len() * (LINE + below.len()));
    let mut path = String::new();
    for resource in resources {
        path.clear();
        match resource.name.as_str() {
            SINGLE_FILE => path.push_str(single),
            name => path.extend([below, name]),
        }
        push_check_line(&mut text, &resource.digest.to_hex(), &path);
    }
    let exit = match say::listing(&text) {
        Ok(()) => Exit::Yes,
        Err(error) => super::no_output(&error),
    };
    // The process ends now, and gives everything back at once.
    std::mem::forget(hashed);
    exit
}

/// About how long a line is without the model's path: enough that the text grows seldom, or not at all.
const LINE: usize = 100;

fn digests(args: &DigestArgs) -> Result<Hashed, Error> {
    let device = device::open(&args.engine, Work::of([args.hash.into()]))?;
    let options = SignOptions {
        hash: args.hash.into(),
        annotations: Annotations::None,
        symlinks: args.model.symlinks(),
        ignore_paths: args.model.ignore_paths.clone(),
        git_files: match args.model.git_files() {
            GitFiles::Keep => GitFiles::Keep,
            GitFiles::AsSigned | GitFiles::Ignore => GitFiles::Ignore,
        },
        ..SignOptions::default()
    };
    let bar = Bar::new(!args.engine.json);
    hash(&args.model.model, None, &options, &device, &bar)
}

/// A line for `sha256sum --check`. Backslashes and line ends in names as coreutils and b3sum write and read them:
/// escaped, with a mark before the line. Nothing else is, or they would not find the file.
pub(super) fn check_line(digest: &str, path: &str) -> String {
    let mut line = String::new();
    push_check_line(&mut line, digest, path);
    line
}

fn push_check_line(text: &mut String, digest: &str, path: &str) {
    if path.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        let path = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        text.extend(["\\", digest, "  ", &path, "\n"]);
    } else {
        text.extend([digest, "  ", path, "\n"]);
    }
}
