//! Loads into the memory of a device, without a check and with one, in turns; and where the time of a verified one goes.

use std::time::{Duration, Instant};

use super::run::{Case, Ended, Run};
use super::watched::{Marks, Watched};
use crate::bench::report::{Cache, Stage, What};
use crate::bench::{Failure, machine};
use crate::device::Backend;
use crate::digest::{Algorithm, Digest};
use crate::error::Error;
use crate::layout::Buffer;
use crate::loader::{LoadOptions, load_locked, load_verified};

/// Where one verified load was when.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Parts {
    /// Until all was listed and the signature held.
    listing: f64,
    /// From there until the last byte was read and hashed.
    bytes: f64,
    /// From there until it was handed out.
    admission: f64,
}

impl Parts {
    const fn total(self) -> f64 {
        self.listing + self.bytes + self.admission
    }
}

/// What is loaded, both ways, warm and cold.
pub(super) fn loads<B: Backend>(run: &mut Run<'_>, backend: &B) -> Result<(), Failure> {
    for cache in [Cache::Warm, Cache::Cold] {
        let (plain, verified) = (run.wants(What::Load), run.wants(What::VerifiedLoad));
        let unverified = run.case(What::Load, "without a check", cache);
        let mut checked = run.case(What::VerifiedLoad, "blake3", cache);
        // Files that hold no tensors are read by a verified load, too.
        let unverified =
            Case { bytes: run.model.tensor_bytes(), strings: run.model.tensor_files().count(), ..unverified };
        checked.blake3 = true;
        if !plain && !verified {
            return Ok(());
        }
        if plain {
            run.begin(&unverified);
        }
        if verified {
            run.begin(&checked);
        }
        match turns(run, backend, cache, verified, [&unverified, &checked]) {
            Ok(turns) => {
                if plain {
                    run.line(&unverified, &turns.unverified, Vec::new())?;
                }
                if verified {
                    let stages =
                        stages(turns.parts.get(1..).unwrap_or_default(), turns.reading.get(1..).unwrap_or_default());
                    let times: Vec<_> =
                        turns.parts.iter().map(|parts| Duration::from_secs_f64(parts.total())).collect();
                    run.line(&checked, &times, stages)?;
                }
            }
            Err(Ended::Failed(failure)) => return Err(failure),
            Err(Ended::Skip(why)) => {
                if plain {
                    run.skip(&unverified, why.clone());
                }
                if verified {
                    run.skip(&checked, why);
                }
            }
        }
    }
    Ok(())
}

/// What the turns took. The first of each does not count.
#[derive(Debug, Default)]
struct Turns {
    unverified: Vec<Duration>,
    /// Of each of these the part from the first byte on, in seconds.
    reading: Vec<f64>,
    parts: Vec<Parts>,
}

fn turns<B: Backend>(
    run: &mut Run<'_>,
    backend: &B,
    cache: Cache,
    verified: bool,
    [unverified, checked]: [&Case<'_>; 2],
) -> Result<Turns, Ended> {
    // The system would end whoever asks for more, and perhaps others.
    if let Some(free) = machine::room().filter(|&free| on_host(backend) && free < run.model.bytes()) {
        return Err(Ended::Skip(format!(
            "{free} bytes of memory can be had, and the model has {}: ask for less with --file-size",
            run.model.bytes()
        )));
    }
    let (model, signature) = (run.model.model(), run.model.signature());
    let options = LoadOptions { threads: run.options.threads, ..LoadOptions::default() };
    let marks = Marks::default();
    let watched = Watched { backend, marks: &marks };
    let mut turns = Turns::default();
    let unmarked = || Failure::Nothing("a part of a load");
    for _ in 0..=run.options.repeats.get() {
        run.prepare(cache)?;
        let _ = marks.take();
        let begun = Instant::now();
        let loaded = load_locked(&model, None, &options, &watched, &marks);
        let ended = Instant::now();
        let loaded = loaded.map_err(|error| run.ended(unverified, error))?;
        let listed = marks.take().listed.ok_or_else(unmarked)?;
        turns.unverified.push(ended - begun);
        turns.reading.push((ended - listed).as_secs_f64());
        let files: Vec<_> = loaded.iter().map(|(name, loaded)| (name.as_str(), &loaded.buffer)).collect();
        check(run, backend, &files)?.map_err(|how| run.wrong(unverified, how))?;
        drop(loaded);
        if !verified {
            continue;
        }
        run.prepare(cache)?;
        let _ = marks.take();
        let begun = Instant::now();
        let loaded = load_verified(&model, &signature, &run.model.trusted, &options, &watched, &marks);
        let ended = Instant::now();
        let loaded = loaded.map_err(|error| run.ended(checked, error))?;
        let moments = marks.take();
        let (Some(listed), Some(hashed)) = (moments.listed, moments.hashed) else { return Err(unmarked().into()) };
        turns.parts.push(Parts {
            listing: (listed - begun).as_secs_f64(),
            bytes: (hashed - listed).as_secs_f64(),
            admission: (ended - hashed).as_secs_f64(),
        });
        if !loaded.report().verified.checked.contains(&Algorithm::Blake3) {
            return Err(run.wrong(checked, "a yes for which BLAKE3 was not compared".to_owned()).into());
        }
        let files: Vec<_> = loaded.tensor_files().map(|(name, _, buffer)| (name, buffer)).collect();
        check(run, backend, &files)?.map_err(|how| run.wrong(checked, how))?;
    }
    Ok(turns)
}

fn on_host<B: Backend>(backend: &B) -> bool {
    backend.alloc(1).is_ok_and(|mut memory| backend.on_host(&mut memory).is_some())
}

/// Whether memory holds the files of tensors, all and no more: it is read back, and hashed by the `blake3` crate.
fn check<B: Backend>(run: &Run<'_>, backend: &B, loaded: &[(&str, &B::Buffer)]) -> Result<Result<(), String>, Error> {
    const PIECE: u64 = 64 << 20;
    let count = run.model.tensor_files().count();
    if loaded.len() != count {
        return Ok(Err(format!("{} files in memory, where there are {count}", loaded.len())));
    }
    for (name, buffer) in loaded {
        let Some(file) = run.model.files.get(*name) else { return Ok(Err(format!("{name} is no file of the model"))) };
        if buffer.size() < file.len {
            return Ok(Err(format!("{name} has {} bytes in memory, and {} on disk", buffer.size(), file.len)));
        }
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        while at < file.len {
            let end = file.len.min(at + PIECE);
            hasher.update(&backend.download(buffer, at..end)?);
            at = end;
        }
        let found = Digest::of32(Algorithm::Blake3, *hasher.finalize().as_bytes());
        if found != file.blake3 {
            return Ok(Err(format!(
                "{name} has BLAKE3 {} in memory, and {} was written",
                found.to_hex(),
                file.blake3.to_hex()
            )));
        }
    }
    Ok(Ok(()))
}

/// Where the time of the load in the middle went: of the one of which the median is, or the mean of the two. So the stages add
/// up to the median.
///
/// Hashing overlaps reading, so there is no time of its own for it: what a load without a check took for its bytes is
/// *reading*, and what a verified one took longer for them is *added by hashing*. Where it took no longer, hashing was hidden
/// behind reading.
fn stages(parts: &[Parts], reading: &[f64]) -> Vec<Stage> {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by(|a, b| a.total().total_cmp(&b.total()));
    let middle = match sorted.len() {
        0 => return Vec::new(),
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => {
            let (a, b) = (sorted[even / 2 - 1], sorted[even / 2]);
            Parts {
                listing: f64::midpoint(a.listing, b.listing),
                bytes: f64::midpoint(a.bytes, b.bytes),
                admission: f64::midpoint(a.admission, b.admission),
            }
        }
    };
    let reading = crate::bench::Times::new(reading.to_vec()).map_or(middle.bytes, |times| times.median());
    let reading = reading.min(middle.bytes);
    [
        ("signature and listing", middle.listing),
        ("reading", reading),
        ("added by hashing", middle.bytes - reading),
        ("comparing and admission", middle.admission),
    ]
    .map(|(name, seconds)| Stage { name: name.to_owned(), seconds })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_median_whatever_noise_does() {
        let part = |listing, bytes, admission| Parts { listing, bytes, admission };
        let parts = [part(0.5, 9.0, 0.5), part(0.25, 2.0, 0.25), part(1.0, 1.0, 2.0), part(0.0, 3.0, 0.5)];
        for count in 1..=parts.len() {
            for reading in [vec![0.5], vec![1.0, 2.0, 9.0], vec![100.0], vec![]] {
                let stages = stages(&parts[..count], &reading);
                let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
                let median =
                    crate::bench::Times::new(parts[..count].iter().map(|parts| parts.total()).collect()).unwrap();
                assert!((total - median.median()).abs() < 1e-12, "{stages:?}");
                assert!(stages.iter().all(|stage| stage.seconds >= 0.0), "{stages:?}");
            }
        }
        let found = stages(&parts[..3], &[1.5, 1.5, 7.0]);
        let found: Vec<_> = found.iter().map(|stage| (stage.name.as_str(), stage.seconds)).collect();
        let expected = [("signature and listing", 1.0), ("reading", 1.0), ("added by hashing", 0.0)];
        assert_eq!(found[..3], expected, "the one in the middle took 4 s, and 1 s for its bytes");
        assert_eq!(stages(&[], &[1.0]), []);
    }
}
