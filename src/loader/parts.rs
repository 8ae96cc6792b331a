//! A model taken apart: for whoever hands its memory on tensor by tensor, and keeps each file as long as one of them is in use.

use std::collections::{BTreeMap, HashMap};

use super::{LoadReport, LoadedModel, View};
use crate::device::{Backend, DeviceError, Job, Want};
use crate::format::{Dtype, Header};
use crate::layout::{Buffer, Extent, Layout};

/// A file of tensors that was admitted.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadedFile<Buf> {
    /// Its name in the model.
    pub name: String,
    /// What is in it.
    pub header: Header,
    /// Its memory: all of the file.
    pub buffer: Buf,
    /// Tensors whose place in the file is no place for elements of their type, by their numbers in the header: each of
    /// them in memory of its own, which begins with it.
    pub moved: BTreeMap<usize, Buf>,
}

/// What a [`LoadedModel`] consists of.
#[derive(Debug)]
#[non_exhaustive]
pub struct ModelParts<Buf> {
    /// The files of tensors.
    pub files: Vec<LoadedFile<Buf>>,
    /// Small files, by their names in the model.
    pub companions: BTreeMap<String, Vec<u8>>,
    /// Where a tensor is: the number of its file, and its number there. `None` for a name that several files have.
    pub names: HashMap<String, Option<(usize, usize)>>,
    /// What was loaded.
    pub report: LoadReport,
}

/// What an address of such elements has to be a multiple of. What is packed is bytes.
const fn alignment(dtype: Dtype) -> u64 {
    if dtype.block_elements() == 1 { dtype.block_bytes() } else { 1 }
}

impl<B: Backend> LoadedModel<B> {
    /// Takes it apart. A reader of an element takes its address to be a multiple of its size, and the place of a tensor in
    /// its file is not always one: such tensors are copied within the device that they were loaded to.
    ///
    /// # Errors
    /// [`DeviceError`] if there is no memory for them, or a copy is not what it is a copy of.
    pub fn into_parts(self, backend: &B) -> Result<ModelParts<B::Buffer>, DeviceError> {
        let mut all: Vec<BTreeMap<usize, B::Buffer>> = Vec::new();
        for (name, header, buffer) in self.tensor_files() {
            let mut moved = BTreeMap::new();
            for (at, tensor) in header.tensors.iter().enumerate() {
                let place = buffer.place().wrapping_add(tensor.range.start);
                if !place.is_multiple_of(alignment(tensor.dtype)) && !tensor.range.is_empty() {
                    moved.insert(at, copy(backend, &View::new(name, tensor, buffer))?);
                }
            }
            all.push(moved);
        }
        let (files, companions, names, report) = self.taken_apart();
        let with = |((name, header, buffer), moved)| LoadedFile { name, header, buffer, moved };
        Ok(ModelParts { files: files.into_iter().zip(all).map(with).collect(), companions, names, report })
    }
}

/// The bytes of a tensor in memory of their own, on the same device.
fn copy<B: Backend>(backend: &B, view: &View<'_, B::Buffer>) -> Result<B::Buffer, DeviceError> {
    let range = view.range();
    let len = range.end - range.start;
    let mut to = backend.alloc(len)?;
    let mut at = range.start;
    while at < range.end {
        let mut block = backend.staging()?;
        let part = (block.as_mut().len() as u64).min(range.end - at);
        let bytes = backend.download(view.buffer(), at..at + part)?;
        let room = block.as_mut().get_mut(..bytes.len());
        room.ok_or_else(|| DeviceError::NoResult { device: backend.kind() })?.copy_from_slice(&bytes);
        backend.upload(block, bytes.len(), &mut to, at - range.start)?;
        at += part;
    }
    // Bytes went out of the device and in again: what lies there now has to be what was admitted.
    let root = |buffer, at| -> Result<Job<'_, B::Buffer>, DeviceError> {
        Ok(Job { layout: Layout::new(vec![Extent::Range { buffer, at, len }])?, want: Want::Root })
    };
    let jobs = [root(view.buffer(), range.start)?, root(&to, 0)?];
    match backend.hash(&jobs)?.as_slice() {
        [there, here] if there == here => {}
        _ => return Err(DeviceError::NoResult { device: backend.kind() }),
    }
    drop(jobs);
    Ok(to)
}
