//! What is sealed: named memory, where it lies, and the values of its groups.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::error::{Finding, SealError};
use crate::device::{Backend, DeviceError, DeviceKind, Hashed, Job, Want};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Buffer, Extent, Layout};
use crate::resident::{OnDevice, chunk, hash_on_all};
use crate::tree::{ChainingValue, GroupSize, Tree, group_value};

/// Named memory of a device.
#[derive(Debug)]
pub struct Region<'a, B> {
    /// Its name, of which there is one.
    pub name: &'a str,
    /// The index of its device, among those of the call.
    pub device: usize,
    /// Its bytes, none of them on the host.
    pub layout: Layout<'a, B>,
}

/// Where an extent lies: the number of its memory, and the rows in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    place: u64,
    at: u64,
    row: u64,
    stride: u64,
    rows: u64,
}

/// A region as it was sealed.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) name: String,
    pub(super) device: DeviceKind,
    pieces: Vec<Piece>,
    pub(super) tree: Tree,
    /// The value of each group, which is never a root.
    pub(super) values: Vec<ChainingValue>,
    /// When each group last had that value, by the clock's ticks.
    pub(super) confirmed: Vec<Duration>,
}

impl Sealed {
    /// How many groups it has. (A [`Tree`] of one chunk says none; here it is one.)
    pub(super) fn groups(&self) -> u64 {
        groups(self.tree)
    }

    /// The bytes of some of its groups.
    pub(super) fn bytes(&self, groups: &Range<u64>) -> Range<u64> {
        let size = self.tree.group().bytes();
        groups.start * size..(groups.end * size).min(self.tree.len())
    }

    /// Compares the values of groups from `first` on with those sealed; what is equal is confirmed as of `now`. Returns
    /// the bytes that are not.
    pub(super) fn compare(&mut self, first: u64, found: &[ChainingValue], now: Duration) -> Vec<Range<u64>> {
        let mut changed: Vec<Range<u64>> = Vec::new();
        for (group, value) in (first..).zip(found) {
            let index = group as usize;
            if self.values.get(index) == Some(value) {
                self.confirmed[index] = now;
                continue;
            }
            let range = self.bytes(&(group..group + 1));
            match changed.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => changed.push(range),
            }
        }
        changed
    }
}

fn groups(tree: Tree) -> u64 {
    tree.len().div_ceil(tree.group().bytes())
}

/// Regions that can be sealed, in the order of their names.
pub(super) struct Regions<'r, 'a, B>(Vec<&'r Region<'a, B>>);

impl<'r, 'a, B: Buffer> Regions<'r, 'a, B> {
    /// # Errors
    /// [`SealError`] for what cannot be sealed.
    pub(super) fn new(regions: &'r [Region<'a, B>], devices: usize) -> Result<Self, SealError> {
        let mut sorted: Vec<_> = regions.iter().collect();
        sorted.sort_by_key(|region| region.name);
        let name = |region: &Region<'_, B>| region.name.to_owned();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SealError::Twice { name: name(pair[0]) });
        }
        for region in &sorted {
            if region.device >= devices {
                return Err(SealError::NoDevice { name: name(region), index: region.device, devices });
            }
            if region.layout.extents().iter().any(|extent| matches!(extent, Extent::Host(_))) {
                return Err(SealError::OnHost { name: name(region) });
            }
        }
        Ok(Self(sorted))
    }

    fn pieces(region: &Region<'_, B>) -> Vec<Piece> {
        let piece = |extent: &Extent<'_, B>| match *extent {
            Extent::Host(bytes) => Piece { place: 0, at: 0, row: bytes.len() as u64, stride: 0, rows: 1 },
            Extent::Range { buffer, at, len } => Piece { place: buffer.place(), at, row: len, stride: 0, rows: 1 },
            Extent::Rows { buffer, at, row, stride, rows } => Piece { place: buffer.place(), at, row, stride, rows },
        };
        region.layout.extents().iter().map(piece).collect()
    }

    /// The same regions, as they are to be sealed: not measured yet.
    ///
    /// # Errors
    /// [`SealError::Nothing`], and [`SealError::Empty`] for a region without a byte.
    pub(super) fn blank<D: Backend<Buffer = B>>(
        &self,
        devices: &[OnDevice<'_, D>],
        group: GroupSize,
    ) -> Result<Vec<Sealed>, SealError> {
        if self.0.is_empty() {
            return Err(SealError::Nothing);
        }
        let blank = |region: &&Region<'a, B>| {
            if region.layout.is_empty() {
                return Err(SealError::Empty { name: region.name.to_owned() });
            }
            let tree = Tree::new(region.layout.len(), group);
            let device = devices.get(region.device).map_or(DeviceKind::Cpu, |device| device.backend.kind());
            let (values, confirmed) = (Vec::new(), Vec::new());
            let (name, pieces) = (region.name.to_owned(), Self::pieces(region));
            Ok(Sealed { name, device, pieces, tree, values, confirmed })
        };
        self.0.iter().map(blank).collect()
    }

    /// How these differ from what was sealed, before any byte is looked at.
    pub(super) fn findings<D: Backend<Buffer = B>>(
        &self,
        sealed: &[Sealed],
        devices: &[OnDevice<'_, D>],
    ) -> Vec<Finding> {
        let mut here: BTreeMap<&str, &Region<'a, B>> = self.0.iter().map(|region| (region.name, *region)).collect();
        let mut findings = Vec::new();
        for sealed in sealed {
            let name = sealed.name.clone();
            let Some(region) = here.remove(sealed.name.as_str()) else {
                findings.push(Finding::Vanished { name });
                continue;
            };
            let what =
                if devices.get(region.device).map(|device| device.backend.kind()).as_ref() != Some(&sealed.device) {
                    "device"
                } else if region.layout.len() != sealed.tree.len() {
                    "length"
                } else if Self::pieces(region) != sealed.pieces {
                    "place"
                } else {
                    continue;
                };
            findings.push(Finding::Moved { name, what });
        }
        findings.extend(here.into_keys().map(|name| Finding::Added { name: name.to_owned() }));
        findings.sort_by(|a, b| a.name().cmp(b.name()));
        findings
    }

    /// The values of some groups of some regions, by their index, all devices at once. Regions are as sealed.
    ///
    /// # Errors
    /// [`DeviceError`]; there is no value then, of any group.
    pub(super) fn measure<D: Backend<Buffer = B>>(
        &self,
        devices: &[OnDevice<'_, D>],
        sealed: &[Sealed],
        wanted: &[(usize, Range<u64>)],
    ) -> Result<Vec<Vec<ChainingValue>>, DeviceError> {
        let mut jobs: Vec<Vec<Job<'a, B>>> = devices.iter().map(|_| Vec::new()).collect();
        let mut places = Vec::new();
        for (index, groups) in wanted {
            let (region, sealed) = (self.0.get(*index).ok_or(DEFECT)?, sealed.get(*index).ok_or(DEFECT)?);
            let layout = region.layout.part(sealed.bytes(groups)).ok_or(DEFECT)?;
            let group = sealed.tree.group();
            let want = Want::Groups { first_chunk: groups.start * group.chunks(), group };
            let jobs = jobs.get_mut(region.device).ok_or(DEFECT)?;
            places.push((region.device, jobs.len(), groups.end - groups.start));
            jobs.push(Job { layout, want });
        }
        let mut hashed = hash_on_all(devices, &jobs)?;
        let value = |(device, job, count): (usize, usize, u64)| {
            let none = || devices.get(device).map_or(DEFECT, |on| DeviceError::NoResult { device: on.backend.kind() });
            match hashed.get_mut(device).and_then(|jobs| jobs.get_mut(job)) {
                Some(Hashed::Groups(values)) if values.len() as u64 == count => Ok(std::mem::take(values)),
                _ => Err(none()),
            }
        };
        places.into_iter().map(value).collect()
    }

    /// The BLAKE3 digest of each region, whose values are known. That of a single chunk does not follow from its value:
    /// its bytes are fetched, and both are of these.
    ///
    /// # Errors
    /// [`DeviceError`]; there is no digest then.
    pub(super) fn digests<D: Backend<Buffer = B>>(
        &self,
        devices: &[OnDevice<'_, D>],
        sealed: &mut [Sealed],
    ) -> Result<Vec<Digest>, DeviceError> {
        let digest = |(region, sealed): (&&Region<'a, B>, &mut Sealed)| {
            if let Some(root) = sealed.tree.root(&sealed.values) {
                return Ok(root);
            }
            let backend = devices.get(region.device).ok_or(DEFECT)?.backend;
            if !sealed.tree.is_single_chunk() {
                return Err(DeviceError::NoResult { device: backend.kind() });
            }
            // Behind the caller's stream, since the values are.
            let bytes = chunk(backend, &region.layout)?;
            sealed.values = vec![group_value(0, &bytes)];
            Ok(Digest::of32(Algorithm::Blake3, *blake3::hash(&bytes).as_bytes()))
        };
        self.0.iter().zip(sealed).map(digest).collect()
    }
}

/// What cannot be.
const DEFECT: DeviceError = DeviceError::Worker(DeviceKind::Cpu);
