//! One device, in its own memory: what it is, what bounds it, how fast it hashes there, how fast bytes come up to it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::bound::{self, Limits};
use super::oracle::Tile;
use super::report::{Bound, Line, OfDevice, Skipped, What};
use super::resident::{GIB, MIB, Resident, fill};
use super::sensors::Sensors;
use super::{Event, Failure};
use crate::device::{Backend, DeviceFacts, DeviceKind, Listed};
use crate::layout::Buffer;

/// How much to measure.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Bytes of the device's memory to use at most, 1 MiB at least. None: the largest power of two in a quarter of what is free, up
    /// to 16 GiB, which is all of Llama 3.1 8B; in memory of the host up to 512 MiB for each thread, so that few take no longer
    /// than many, and 4 GiB; 1 GiB where the device does not say what is
    /// free. Where the device does not give so much: half of it, and half again. The host hashes up to seven times as much
    /// once, on all its processors, to know the right digests.
    pub most: Option<u64>,
    /// Counted repeats of each measurement; one more comes before them.
    pub repeats: NonZeroUsize,
    /// Only these; none: all that are of one device in memory.
    pub only: Option<BTreeSet<What>>,
    /// What is over before is repeated for this long, up to twenty times as often. The device is warmed up as long.
    pub patience: Duration,
}

impl Default for DeviceOptions {
    /// Everything, five times, for 0.1 s each.
    fn default() -> Self {
        let repeats = NonZeroUsize::MIN.saturating_add(4);
        Self { most: None, repeats, only: None, patience: Duration::from_millis(100) }
    }
}

/// What is measured of one device in memory.
pub(super) const IN_MEMORY: [What; 7] =
    [What::Upload, What::Size, What::Alignment, What::Rows, What::Small, What::Model, What::Kernel];

impl DeviceOptions {
    pub(super) fn wants(&self, what: What) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&what))
    }
}

/// Who is told, and what was told.
pub(super) struct Told<'a> {
    lines: Vec<Line>,
    skipped: Vec<Skipped>,
    done: &'a mut dyn FnMut(Event<'_>),
}

impl Told<'_> {
    pub(super) fn begun(&mut self, what: What, name: &str) {
        (self.done)(Event::Begun { what, name });
    }

    pub(super) fn line(&mut self, line: Option<Line>) {
        if let Some(line) = line {
            (self.done)(Event::Line(&line));
            self.lines.push(line);
        }
    }

    pub(super) fn skipped(&mut self, skipped: Skipped) {
        (self.done)(Event::Skipped(&skipped));
        self.skipped.push(skipped);
    }

    fn bounds(&mut self, bounds: &[Bound]) {
        bounds.iter().for_each(|bound| (self.done)(Event::Bound(bound)));
    }
}

/// Measures a device in memory, and tells of each step. Where `options` want nothing of that, it says what the device is.
///
/// ```
/// use std::num::NonZeroUsize;
/// use tensorseal::bench::report::What;
/// use tensorseal::bench::{DeviceOptions, on_device};
/// use tensorseal::device::{Cpu, Device, DeviceKind, cpu::Settings};
///
/// let listed = Device::list().into_iter().find(|listed| listed.kind == DeviceKind::Cpu).unwrap();
/// let options = DeviceOptions {
///     most: Some(1 << 20),
///     repeats: NonZeroUsize::MIN,
///     only: Some([What::Size].into()),
///     ..DeviceOptions::default()
/// };
/// let cpu = on_device(&Cpu::open(Settings::default())?, &listed, &options, &mut |_| {})?;
/// assert_eq!((cpu.lines[0].name.as_str(), cpu.lines[0].bytes), ("1 KiB", 1024));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Failure::Wrong`] for a wrong digest, in whichever repeat; [`Failure::Device`] if the device fails.
pub fn on_device<B: Backend>(
    backend: &B,
    listed: &Listed,
    options: &DeviceOptions,
    done: &mut dyn FnMut(Event<'_>),
) -> Result<OfDevice, Failure> {
    let (facts, kernels) = (backend.facts(), backend.variants());
    let sensors = Sensors::of(&listed.kind, &facts);
    let mut limits = Limits::of(&facts, &kernels, sensors.link());
    let mut told = Told { lines: Vec::new(), skipped: Vec::new(), done };
    let (before, mut after) = (sensors.read(), None);
    if IN_MEMORY.into_iter().any(|what| options.wants(what)) {
        let tile = Tile::new();
        let most = options.most.unwrap_or_else(|| most(&listed.kind, &facts));
        let mut buffer = fill(backend, most, &tile)?;
        if let (Some(threads), Some(memory)) = (facts.threads, backend.on_host(&mut buffer)) {
            let bytes = memory.len() as u64;
            let read = bound::read_through(memory, threads).filter(|(_, sum)| *sum == tile.sum(bytes));
            let (took, _) = read.ok_or(Failure::Memory { device: backend.kind(), bytes })?;
            limits = limits.with_memory_read(bytes, bytes as f64 / took.as_secs_f64().max(1e-9), threads);
        }
        told.bounds(&limits.bounds());
        let resident = Resident { backend, options, limits: &limits, tile: &tile };
        after = resident.all(&mut buffer, &|| sensors.read(), &mut told)?;
        let most = buffer.size();
        drop(buffer);
        resident.kernels(most, &mut told)?;
    } else {
        told.bounds(&limits.bounds());
    }
    Ok(OfDevice {
        device: listed.kind.to_string(),
        name: listed.name.clone(),
        memory: listed.memory,
        driver: listed.driver.clone(),
        capability: listed.capability.clone(),
        kernel: kernels.into_iter().next(),
        bounds: limits.bounds(),
        before,
        after,
        lines: told.lines,
        skipped: told.skipped,
    })
}

/// Bytes of memory to use where nobody said how many.
fn most(kind: &DeviceKind, facts: &DeviceFacts) -> u64 {
    let threads = facts.threads.map_or(1, |threads| threads as u64);
    let cap = if *kind == DeviceKind::Cpu { (512 * MIB).saturating_mul(threads).min(4 * GIB) } else { 16 * GIB };
    let quarter = facts.free.map_or(GIB, |free| free / 4).clamp(MIB, cap);
    1 << quarter.ilog2()
}

#[cfg(test)]
mod tests;
