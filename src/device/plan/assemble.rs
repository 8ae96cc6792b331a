//! From what a device returned to results. Nothing missing, nothing unwritten becomes one.

use super::super::{DeviceError, DeviceKind, Hashed, Want};
use super::{Batch, CELL, Plan, Shape, full_chunks, split};
use crate::digest::{Algorithm, Digest};
use crate::tree::{CHUNK_LEN, ChainingValue, Frontier, group_value};

/// What result buffers are filled with before a launch. That a value of BLAKE3 is just this has a probability of 2^-256.
pub(crate) const POISON: u8 = 0xB3;

/// What has come back so far.
#[derive(Debug)]
pub(crate) struct Results {
    /// By ordinal.
    values: Vec<Option<ChainingValue>>,
    /// By text.
    tails: Vec<Option<Vec<u8>>>,
}

impl Results {
    /// Nothing has.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { values: vec![None; plan.subtrees], tails: vec![None; plan.shapes.len()] }
    }

    /// Takes what came back for a batch: 32 bytes for each of its subtrees, in order, and the bytes of scratch from
    /// [`Batch::cells`] to its end.
    ///
    /// # Errors
    /// [`DeviceError::NoResult`] if anything is missing or was never written.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        values: &[u8],
        scratch: &[u8],
        device: &DeviceKind,
    ) -> Result<(), DeviceError> {
        let no_result = || DeviceError::NoResult { device: device.clone() };
        let (values, rest) = values.as_chunks::<{ size_of::<ChainingValue>() }>();
        if values.len() != batch.subtrees.len() || !rest.is_empty() {
            return Err(no_result());
        }
        if scratch.len() as u64 != batch.scratch.saturating_sub(batch.cells) {
            return Err(no_result());
        }
        if let Some(guard) = scratch.last_chunk::<{ CELL as usize }>()
            && *guard != [0; CELL as usize]
        {
            return Err(no_result());
        }
        for (subtree, value) in batch.subtrees.iter().zip(values) {
            if *value == [POISON; size_of::<ChainingValue>()] {
                return Err(no_result());
            }
            self.values[subtree.ordinal] = Some(*value);
        }
        for tail in &batch.tails {
            let start = (tail.at - batch.cells) as usize;
            let bytes = scratch.get(start..start + tail.len as usize).ok_or_else(no_result)?;
            self.tails[tail.text] = Some(bytes.to_vec());
        }
        Ok(())
    }

    /// The results, one a text, in order.
    ///
    /// # Errors
    /// [`DeviceError::NoResult`] if anything has not come back.
    pub(crate) fn finish(self, plan: &Plan, device: &DeviceKind) -> Result<Vec<Hashed>, DeviceError> {
        let texts = plan.shapes.iter().zip(&self.tails);
        let hashed = texts.map(|(shape, tail)| shape.hashed(&self.values[shape.subtrees.clone()], tail.as_deref()));
        hashed.collect::<Option<_>>().ok_or_else(|| DeviceError::NoResult { device: device.clone() })
    }
}

impl Shape {
    /// The result from the subtrees' values, in order, and the bytes behind them. `None` if one is missing.
    fn hashed(&self, values: &[Option<ChainingValue>], tail: Option<&[u8]>) -> Option<Hashed> {
        let full = full_chunks(self.want, self.len);
        let short = self.len - full * CHUNK_LEN;
        let tail = tail.unwrap_or_default();
        if tail.len() as u64 != short {
            return None;
        }
        match self.want {
            Want::Root if full == 0 => {
                Some(Hashed::Root(Digest::of32(Algorithm::Blake3, *blake3::hash(tail).as_bytes())))
            }
            Want::Root => {
                let mut frontier = Frontier::default();
                self.each(values, tail, 0, |_, level, value| frontier.push_subtree(level, value))?;
                frontier.root().map(Hashed::Root)
            }
            Want::Groups { first_chunk, group } => {
                let mut groups: Vec<Frontier> = Vec::new();
                self.each(values, tail, first_chunk, |chunk, level, value| {
                    let index = (chunk / group.chunks()) as usize;
                    groups.resize_with(index + 1, Frontier::default);
                    groups[index].push_subtree(level, value);
                })?;
                groups.iter().map(Frontier::value).collect::<Option<_>>().map(Hashed::Groups)
            }
        }
    }

    /// Calls `push` with the first chunk, level and value of each subtree and of the short chunk, in order.
    fn each(
        &self,
        values: &[Option<ChainingValue>],
        tail: &[u8],
        first_chunk: u64,
        mut push: impl FnMut(u64, u8, ChainingValue),
    ) -> Option<()> {
        let full = full_chunks(self.want, self.len);
        let mut values = values.iter();
        for (chunk, level) in split(full, self.level) {
            push(chunk, level, (*values.next()?)?);
        }
        if !tail.is_empty() {
            let at = (first_chunk + full) * CHUNK_LEN;
            push(full, 0, group_value(at, tail));
        }
        Some(())
    }
}
