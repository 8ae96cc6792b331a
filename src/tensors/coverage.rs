//! Was everything checked? What is not checked is either said not to be here, with a reason, or refused.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::memory::whole_tiles;
use super::slice::{MeasuredSlice, SliceError, refused};
use super::{TensorManifest, TensorRecord, TensorRefusal};
use crate::error::{Error, quoted};
use crate::verify::Verified;

/// Adds up the slices that one rank has checked. Every tensor of the manifest has to be checked, whole or as much of it as
/// the rank holds by its own word, or said not to be held.
#[derive(Debug)]
pub struct Coverage<'m> {
    manifest: &'m Verified<TensorManifest>,
    tensors: BTreeMap<usize, Held>,
}

/// What a rank has said and checked of one tensor.
#[derive(Debug, Default)]
struct Held {
    /// Which tiles were checked.
    checked: Vec<bool>,
    /// Which the rank says it holds; all, if it says nothing.
    declared: Option<Vec<bool>>,
    /// Why it holds none.
    absent: Option<String>,
}

/// What a rank has checked, when nothing was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoverageReport {
    /// Tensors of which all was checked.
    pub whole: usize,
    /// Tensors of which all was checked that the rank holds by its own word.
    pub in_part: usize,
    /// Tensors that the rank does not hold, with the reason that it gave.
    pub not_held: Vec<(String, String)>,
    /// Bytes of the model that were checked, each counted once, though it may lie in memory more than once.
    pub bytes: u64,
}

/// What a rank neither checked nor said not to hold, or said both of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Tensors of which nothing was checked.
    pub unchecked: Vec<String>,
    /// Tensors of which a part was not checked, with the first tile of it.
    pub in_part: Vec<(String, usize)>,
    /// Tensors that were said not to be held, and checked.
    pub contradicted: Vec<String>,
    /// That no byte at all was checked: tensors that are empty show nothing.
    pub nothing: bool,
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is no place for 200,000 tensors.
        const NAMED: usize = 5;
        let list = |names: &mut dyn Iterator<Item = String>, count: usize| {
            let named: Vec<_> = names.take(NAMED).collect();
            format!("{count} ({}{})", named.join(", "), if count > NAMED { ", .." } else { "" })
        };
        let mut parts = Vec::new();
        let names = |of: &[String]| list(&mut of.iter().map(|name| quoted(name)), of.len());
        if !self.unchecked.is_empty() {
            parts.push(format!("not checked: {}", names(&self.unchecked)));
        }
        if !self.in_part.is_empty() {
            let mut first = self.in_part.iter().map(|(name, tile)| format!("{} from tile {tile} on", quoted(name)));
            parts.push(format!("checked in part: {}", list(&mut first, self.in_part.len())));
        }
        if !self.contradicted.is_empty() {
            parts.push(format!("said not to be held, and checked: {}", names(&self.contradicted)));
        }
        if self.nothing {
            parts.push("no byte was checked".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

impl<'m> Coverage<'m> {
    /// Nothing yet.
    #[must_use]
    pub const fn new(manifest: &'m Verified<TensorManifest>) -> Self {
        Self { manifest, tensors: BTreeMap::new() }
    }

    fn held(&mut self, index: usize) -> &mut Held {
        let tiles = self.manifest.tensors[index].tiles.len();
        self.tensors.entry(index).or_insert_with(|| Held { checked: vec![false; tiles], ..Held::default() })
    }

    fn named(&self, tensor: &str) -> Result<(usize, &'m TensorRecord), Error> {
        let unsigned = || refused(TensorRefusal::UnsignedTensor { tensor: tensor.to_owned() });
        let index = self.manifest.index(tensor).ok_or_else(unsigned)?;
        Ok((index, &self.manifest.tensors[index]))
    }

    /// Counts slices that were checked.
    ///
    /// # Errors
    /// [`SliceError::OtherManifest`] for a slice that was checked against another manifest; none counts then.
    pub fn add(&mut self, slices: &[MeasuredSlice]) -> Result<(), Error> {
        if let Some(other) = slices.iter().find(|slice| slice.manifest != self.manifest.digest) {
            return Err(SliceError::OtherManifest { tensor: other.name.clone() }.into());
        }
        for slice in slices {
            let held = self.held(slice.tensor);
            slice.tiles.iter().for_each(|&tile| held.checked[tile] = true);
        }
        Ok(())
    }

    /// Says that this rank holds these elements of a tensor; said again, those too. What is not said of a tensor is held
    /// elsewhere, and is not asked for here.
    ///
    /// # Errors
    /// [`TensorRefusal::UnsignedTensor`], or [`Error::Slice`] for a slice that is no whole tiles.
    pub fn holds(&mut self, tensor: &str, ranges: &[Range<u64>]) -> Result<(), Error> {
        let (index, record) = self.named(tensor)?;
        let tiles = whole_tiles(tensor, &record.shape, &record.grid, ranges)?;
        let declared = self.held(index).declared.get_or_insert_with(|| vec![false; record.tiles.len()]);
        tiles.into_iter().for_each(|tile| declared[tile] = true);
        Ok(())
    }

    /// Says that this rank holds nothing of a tensor, and why.
    ///
    /// # Errors
    /// [`TensorRefusal::UnsignedTensor`].
    pub fn not_held(&mut self, tensor: &str, why: &str) -> Result<(), Error> {
        let (index, _) = self.named(tensor)?;
        self.held(index).absent = Some(why.to_owned());
        Ok(())
    }

    /// What was checked, if that is all there is.
    ///
    /// # Errors
    /// [`TensorRefusal::NotCovered`] names what was not checked.
    pub fn finish(self) -> Result<CoverageReport, Error> {
        let (mut gaps, mut not_held) = (Gaps::default(), Vec::new());
        let (mut whole, mut in_part, mut bytes) = (0, 0, 0);
        let nothing = Held::default();
        for (index, tensor) in self.manifest.tensors.iter().enumerate() {
            let held = self.tensors.get(&index).unwrap_or(&nothing);
            let name = || tensor.name.to_string();
            let checked = held.checked.iter().filter(|&&checked| checked).count();
            bytes += (tensor.range.end - tensor.range.start) / tensor.tiles.len() as u64 * checked as u64;
            if let Some(why) = &held.absent {
                if checked > 0 || held.declared.is_some() {
                    gaps.contradicted.push(name());
                }
                not_held.push((name(), why.clone()));
                continue;
            }
            let asked = |tile: &usize| held.declared.as_ref().is_none_or(|declared| declared[*tile]);
            let missing = (0..tensor.tiles.len()).filter(asked).find(|&tile| held.checked.get(tile) != Some(&true));
            match missing {
                Some(_) if checked == 0 => gaps.unchecked.push(name()),
                Some(tile) => gaps.in_part.push((name(), tile)),
                None if checked == tensor.tiles.len() => whole += 1,
                None => in_part += 1,
            }
        }
        gaps.nothing = bytes == 0;
        if gaps == Gaps::default() {
            Ok(CoverageReport { whole, in_part, not_held, bytes })
        } else {
            Err(refused(TensorRefusal::NotCovered(Box::new(gaps))))
        }
    }
}
