//! Compares signed tensor manifests with the files that they list: in the pass that hashes these, or when they were loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::model::{Check, Prepared};
use super::{DigestChoice, Verified};
use crate::device::cpu::{Algorithms, Silent, Tap, Wanted};
use crate::error::{Error, VerifyError};
use crate::format::{Format, HeaderFault, Pickles};
use crate::manifest::{Manifest, ResourceName};
use crate::measure::Measurement;
use crate::outboard::Trees;
use crate::report::{CheckedTensors, Note, Report};
use crate::source::SourceFile;
use crate::tensors::{
    FILE_NAME, FileHeader, FileTiles, MAX_LEN, ManifestFault, Stale, StaleTensors, TensorManifest, TensorRefusal,
    TilesFault,
};

/// So many bytes of a file of tensors are kept at least, so that a header that is longer than listed can be compared, too.
const LEAST_HEAD: u64 = 64 << 10;

/// No header that anybody loads is longer: that of safetensors may have 100 MB.
const LONGEST_HEAD: u64 = 256 << 20;

const NO_HEADER: &str = "has a header that cannot be used";
const UNLISTED: &str = "is there and not listed";

/// A signed tensor manifest, or why it cannot be used.
struct Given {
    name: String,
    detached: bool,
    manifest: Result<Verified<TensorManifest>, TensorRefusal>,
}

impl Given {
    /// The one that is a file of the model: its bytes, or how many they are where that is too many.
    fn own(bytes: Result<&[u8], u64>, signed: &Verified<Manifest>) -> Self {
        let name = FILE_NAME.to_owned();
        let manifest = bytes
            .map_err(|found| {
                let source = ManifestFault::TooMany { what: "bytes", found, limit: MAX_LEN };
                TensorRefusal::Malformed { name: name.clone(), source }
            })
            .and_then(|bytes| signed.tensor_manifest(&ResourceName::of_file(FILE_NAME, None), bytes));
        Self { name, detached: false, manifest }
    }
}

/// What was seen of tensor manifests and of the files that they list. It counts when the files are known to be as signed.
#[derive(Default)]
pub(crate) struct Tensors {
    given: Vec<Given>,
    /// Files that say by their names that they hold tensors.
    of_tensors: Vec<ResourceName>,
    seen: Vec<Seen>,
    notes: Vec<Note>,
    /// Files of the model that nobody asked for: nothing is said of them.
    not_asked: BTreeSet<String>,
}

/// Hashes the files to give what `algorithms` asks for, and looks at tensor manifests on the way: at the given one outside
/// of the model before, since it need not be read with the others, and at the one in the model first of all files, since
/// it tells how long the others' headers are.
pub(super) fn measure(
    check: &Check<'_>,
    others: &[Check<'_>],
    of: &Prepared<'_>,
    algorithms: Algorithms,
    trees: Option<&Trees>,
) -> Result<(Measurement, Tensors), Error> {
    let shard = check.signed.serialization().method.shard_size();
    let wanted = Wanted { algorithms, shard, groups: trees.map(Trees::group), tap: None, look: None };
    let mut tensors = Tensors::begin(check, others)?;
    let own = |file: &SourceFile| of.single().is_none() && file.name() == FILE_NAME;
    if shard.is_some() {
        tensors.notes.extend(of.files().iter().any(own).then_some(Note::TensorsInShards));
        return Ok((measure_looking(check, of, of.files(), &wanted)?, tensors));
    }
    let (manifest, files): (Vec<_>, Vec<_>) = of.files().iter().cloned().partition(own);
    let mut found = Measurement::default();
    if !manifest.is_empty() {
        let kept = Keep::default();
        found = check.measure(of, &manifest, &Wanted { tap: Some(&kept), ..wanted }, &Silent)?;
        tensors.given.extend(kept.given(check));
    }
    let heads = Heads::new(&tensors.given, of, &files, check.options.digests == DigestChoice::All);
    let tap = heads.slots.iter().any(Option::is_some).then_some(&heads as &dyn Tap);
    let found = found.and(measure_looking(check, of, &files, &Wanted { tap, ..wanted })?);
    tensors.of_tensors = heads.of_tensors;
    tensors.seen = heads
        .slots
        .into_iter()
        .flatten()
        .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    Ok((found, tensors))
}

/// Hashes the files, and tells the pickled ones by the way.
fn measure_looking(
    check: &Check<'_>,
    of: &Prepared<'_>,
    files: &[SourceFile],
    wanted: &Wanted<'_>,
) -> Result<Measurement, Error> {
    let pickles = Pickles::of(files);
    let see = |file: usize, bytes: &[u8]| pickles.see(file, bytes);
    let mut found = check.measure(of, files, &Wanted { look: Some(&see), ..*wanted }, check.progress)?;
    found.pickled = pickles.names(files);
    Ok(found)
}

/// The manifest that lies outside of the model. Every signature must name it.
fn detached(check: &Check<'_>, others: &[Check<'_>], path: &Path) -> Result<Given, Error> {
    let name = path.to_string_lossy().into_owned();
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes));
    file.map_err(Error::io("read tensor manifest", path))?;
    let read = |check: &Check<'_>| check.signed.detached_tensor_manifest(&name, &bytes).map_err(VerifyError::Tensors);
    let manifest = read(check)?;
    for other in others {
        read(other)?;
    }
    Ok(Given { name, detached: true, manifest: Ok(manifest) })
}

/// Keeps the manifest that is a file of the model.
#[derive(Default)]
struct Keep(Mutex<Option<Result<Vec<u8>, u64>>>);

impl Keep {
    /// What is to be made of it. `None` if it was not read, since it is not as long as was signed.
    fn given(self, check: &Check<'_>) -> Option<Given> {
        let kept = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        Some(Given::own(kept.as_deref().map_err(|len| *len), check.signed))
    }
}

impl Tap for Keep {
    fn begin(&self, _file: usize, len: u64) -> Result<u64, Error> {
        let fits = len <= MAX_LEN;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(if fits { Ok(Vec::new()) } else { Err(len) });
        Ok(if fits { len } else { 0 })
    }

    fn take(&self, _file: usize, _at: u64, bytes: &[u8]) -> Result<(), Error> {
        if let Some(Ok(kept)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// What is seen of a file of tensors.
struct Seen {
    name: ResourceName,
    format: Format,
    len: u64,
    work: Work,
}

enum Work {
    /// Its first bytes, of which so many are wanted.
    Head(Vec<u8>, u64),
    /// All of its tiles.
    Tiles(Result<FileTiles, TilesFault>),
}

/// Looks at the headers of files, or at all of their tiles.
struct Heads {
    of_tensors: Vec<ResourceName>,
    slots: Vec<Option<Mutex<Seen>>>,
}

impl Heads {
    fn new(given: &[Given], of: &Prepared<'_>, files: &[SourceFile], recompute: bool) -> Self {
        // How long the longest header is that is listed of each file.
        let mut listed: BTreeMap<&str, (Format, u64)> = BTreeMap::new();
        for file in given.iter().filter_map(|given| given.manifest.as_ref().ok()).flat_map(|of| of.files()) {
            let entry = listed.entry(file.name.as_str()).or_insert((file.format, 0));
            entry.1 = entry.1.max(file.header_len);
        }
        let mut of_tensors = Vec::new();
        let slot = |file: &SourceFile| {
            let name = of.single().unwrap_or_else(|| file.name());
            let format = Format::of_name(file.name());
            if format.is_some() {
                of_tensors.push(ResourceName::of_file(name, None));
            }
            let there = listed.get(name).copied();
            let (format, header) = there.or_else(|| Some((format.filter(|_| recompute && !listed.is_empty())?, 0)))?;
            let name = ResourceName::of_file(name, None);
            let work = if recompute {
                Work::Tiles(Ok(FileTiles::new(name.clone(), format, 0)))
            } else {
                Work::Head(Vec::new(), header.clamp(LEAST_HEAD, LONGEST_HEAD))
            };
            Some(Mutex::new(Seen { name, format, len: 0, work }))
        };
        let slots = files.iter().map(slot).collect();
        Self { of_tensors, slots }
    }
}

impl Tap for Heads {
    fn begin(&self, file: usize, len: u64) -> Result<u64, Error> {
        let Some(Some(slot)) = self.slots.get(file) else { return Ok(0) };
        let mut seen = slot.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len = len;
        let (name, format) = (seen.name.clone(), seen.format);
        Ok(match &mut seen.work {
            Work::Head(_, wanted) => *wanted,
            Work::Tiles(tiles) => {
                *tiles = Ok(FileTiles::new(name, format, len));
                len
            }
        })
    }

    fn take(&self, file: usize, _at: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(Some(slot)) = self.slots.get(file) else { return Ok(()) };
        match &mut slot.lock().unwrap_or_else(PoisonError::into_inner).work {
            Work::Head(head, _) => head.extend_from_slice(bytes),
            // A file that cannot be used is a difference of the manifest's, and first of all one that may not be as signed.
            Work::Tiles(tiles) => {
                if let Some(fault) = tiles.as_mut().ok().and_then(|tiles| tiles.update(bytes).err()) {
                    *tiles = Err(fault);
                }
            }
        }
        Ok(())
    }
}

/// How the files are, which are as signed.
#[derive(Default)]
struct Found {
    headers: Vec<FileHeader>,
    /// Made of all tiles, where these were hashed.
    tiles: Option<Result<TensorManifest, ManifestFault>>,
    /// Files of which neither is to be had, and why.
    unusable: BTreeSet<(String, &'static str)>,
}

impl Tensors {
    /// What there is before any file was read: the manifest that lies outside of the model, if it is to be looked at.
    pub(super) fn begin(check: &Check<'_>, others: &[Check<'_>]) -> Result<Self, Error> {
        let mut tensors = Self::default();
        if let Some(path) = &check.options.tensors {
            tensors.given.push(detached(check, others, path)?);
        } else if check.signed.detached_tensors().is_some() {
            tensors.notes.push(Note::TensorsNotGiven);
        }
        Ok(tensors)
    }

    /// Says nothing of these files of the model.
    pub(super) fn leave_out(&mut self, not_asked: BTreeSet<String>) {
        self.not_asked = not_asked;
    }

    /// Says of files that were loaded and admitted whether they are those that the manifests are about: by their headers,
    /// as they lie in memory. `own` is the manifest that is a file of the model, or how long it is where that is too
    /// long.
    pub(crate) fn conclude_loaded(
        mut self,
        signed: &Verified<Manifest>,
        own: Option<Result<&[u8], u64>>,
        headers: Vec<FileHeader>,
        report: &mut Report,
    ) -> Result<(), VerifyError> {
        self.given.extend(own.map(|bytes| Given::own(bytes, signed)));
        self.of_tensors = headers.iter().map(|header| header.file.name.clone()).collect();
        self.judge(Found { headers, ..Found::default() }, report)
    }

    /// Says of the files, which are as signed, whether they are those that the manifests are about.
    pub(super) fn conclude(mut self, report: &mut Report) -> Result<(), VerifyError> {
        let (mut headers, mut tiles, mut unusable) = (Vec::new(), Vec::new(), BTreeSet::new());
        let recomputed = self.seen.iter().any(|seen| matches!(seen.work, Work::Tiles(_)));
        for Seen { name, format, len, work } in std::mem::take(&mut self.seen) {
            match work {
                Work::Head(head, _) => match FileHeader::of_bytes(name.clone(), format, &head, len) {
                    Ok(header) => headers.push(header),
                    Err(fault) => {
                        let longer = matches!(fault, HeaderFault::Short { .. });
                        let how = if longer { "has a longer header than is listed" } else { NO_HEADER };
                        unusable.insert((name.to_string(), how));
                    }
                },
                Work::Tiles(of) => match of.and_then(FileTiles::finish) {
                    Ok(file) => tiles.push(file),
                    Err(_) => {
                        unusable.insert((name.to_string(), NO_HEADER));
                    }
                },
            }
        }
        let tiles = if recomputed && unusable.is_empty() { Some(TensorManifest::new(tiles)) } else { None };
        self.judge(Found { headers, tiles, unusable }, report)
    }

    fn judge(self, found: Found, report: &mut Report) -> Result<(), VerifyError> {
        let Self { given, of_tensors, notes, not_asked, .. } = self;
        let Found { headers, tiles, unusable } = found;
        report.notes.extend(notes);
        for Given { name, detached, manifest } in given {
            let manifest = manifest?;
            let listed = |name: &ResourceName| manifest.files().binary_search_by(|file| file.name.cmp(name)).is_ok();
            let file = |(name, how): (String, &'static str)| Stale::File { name, how };
            let mut stale: Vec<Stale> = unusable.iter().cloned().map(file).collect();
            if stale.is_empty() {
                match &tiles {
                    Some(Ok(tiles)) => stale = manifest.stale_tensors(tiles),
                    Some(Err(fault)) => {
                        let source = fault.clone();
                        return Err(TensorRefusal::Malformed { name, source }.into());
                    }
                    None => {
                        let own: Vec<_> = headers.iter().filter(|header| listed(&header.file.name)).cloned().collect();
                        stale = manifest.stale_headers(&own);
                        // They are there, as long as they were signed to be.
                        stale.retain(|stale| !matches!(stale, Stale::File { name, .. } if not_asked.contains(name)));
                        let others = of_tensors.iter().filter(|name| !listed(name));
                        stale.extend(others.map(|name| file((name.to_string(), UNLISTED))));
                    }
                }
            }
            if !stale.is_empty() {
                let tiles_alone = stale.iter().all(|stale| matches!(stale, Stale::Tile(_)));
                let stale = StaleTensors(stale);
                return Err(if tiles_alone {
                    TensorRefusal::Inconsistent { name, stale }
                } else {
                    TensorRefusal::Stale { name, stale }
                }
                .into());
            }
            report.tensor_manifests.push(CheckedTensors {
                name,
                detached,
                files: manifest.files().len(),
                tensors: manifest.tensors().len(),
                tiles: manifest.tensors().iter().map(|tensor| tensor.tiles().len()).sum(),
                recomputed: tiles.is_some(),
            });
        }
        Ok(())
    }
}
