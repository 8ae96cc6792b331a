//! A model in the memory of a device, after it was admitted.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use super::{Held, LoadOptions, ReadMode};
use crate::device::cpu::Memory;
use crate::device::{Backend, DeviceError, Job, Pages, StoragePath, Want};
use crate::error::Error;
use crate::format::{Dtype, Format, Header, HeaderFault, Index, IndexFault, Tensor, check_parts};
use crate::layout::{Buffer, Extent, Layout, LayoutError};
use crate::manifest::{Manifest, ResourceName};
use crate::report::Report;
use crate::tensors::{FILE_NAME, FileHeader, SourceFile};
use crate::verify::{Tensors, Verified};

/// What was loaded, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadReport {
    /// What was verified, and what was not.
    pub verified: Report,
    /// Files of tensors, each in a buffer of its own.
    pub tensor_files: usize,
    /// Bytes of them.
    pub device_bytes: u64,
    /// Bytes of other files, kept in memory of the host.
    pub host_bytes: u64,
    /// Names of files that were verified on disk and not kept, so that nothing is known of what they are by now.
    pub not_held: Vec<String>,
    /// Names of signed files that were not asked for ([`LoadOptions::only`]): they are there, and no byte of them was read.
    pub not_asked: Vec<String>,
    /// How files were read.
    pub read: ReadMode,
    /// Which way bytes took that the device read by itself, with [`ReadMode::CuFile`].
    pub storage: Option<StoragePath>,
    /// What memory was asked for.
    pub pages: Pages,
}

/// A model whose files were admitted: tensors in the memory of a device, small files on the host.
pub struct LoadedModel<B: Backend> {
    tensor_files: Vec<TensorFile<B::Buffer>>,
    companions: BTreeMap<String, Vec<u8>>,
    /// Where a tensor is: the file, and its place in the header. `None` for a name that says nothing.
    names: HashMap<String, Option<(usize, usize)>>,
    report: LoadReport,
}

struct TensorFile<Buf> {
    name: String,
    buffer: Buf,
    header: Header,
    /// What a tensor manifest would say of it.
    source: SourceFile,
}

// Neither weights nor files are to be printed.
impl<B: Backend> fmt::Debug for LoadedModel<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel").field("report", &self.report).finish_non_exhaustive()
    }
}

/// A tensor in the memory of a device.
pub struct View<'a, Buf> {
    file: &'a str,
    tensor: &'a Tensor,
    buffer: &'a Buf,
}

// Derived, these would ask the same of the buffer, of which only a reference is held.
impl<Buf> Clone for View<'_, Buf> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Buf> Copy for View<'_, Buf> {}

impl<Buf> fmt::Debug for View<'_, Buf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("file", &self.file).field("tensor", &self.tensor).finish_non_exhaustive()
    }
}

impl<'a, Buf> View<'a, Buf> {
    pub(super) const fn new(file: &'a str, tensor: &'a Tensor, buffer: &'a Buf) -> Self {
        Self { file, tensor, buffer }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.tensor.name
    }

    /// The type of its elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    /// Its dimensions, the slowest first; a scalar has none.
    #[must_use]
    pub fn shape(&self) -> &'a [u64] {
        &self.tensor.shape
    }

    /// The file that it is from.
    #[must_use]
    pub const fn file(&self) -> &'a str {
        self.file
    }

    /// The memory that it is in: all of the file.
    #[must_use]
    pub const fn buffer(&self) -> &'a Buf {
        self.buffer
    }

    /// Its bytes in the buffer, which are those in the file. Elements are in C order, little-endian.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.tensor.range.clone()
    }

    /// The largest power of two, up to 4,096, of which its place in the buffer is a multiple. Buffers of the CPU device
    /// begin with a page. In safetensors files tensors lie at multiples of 8 if their maker took care, in GGUF files of 32.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        1 << self.tensor.range.start.trailing_zeros().min(12)
    }
}

impl<'a, Buf: Buffer> View<'a, Buf> {
    /// Its bytes as a string, to be hashed where they lie.
    ///
    /// # Errors
    /// None: the tensor lies in its buffer.
    pub fn layout(&self) -> Result<Layout<'a, Buf>, LayoutError> {
        let Range { start, end } = self.tensor.range;
        Layout::new(vec![Extent::Range { buffer: self.buffer, at: start, len: end - start }])
    }
}

impl<'a> View<'a, Memory> {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        // Headers are checked against the length of their file, which is the buffer's.
        self.buffer.bytes().get(self.tensor.range.start as usize..self.tensor.range.end as usize).unwrap_or_default()
    }
}

/// Files with their headers and memory, companions, names, and the report.
pub(super) type TakenApart<Buf> =
    (Vec<(String, Header, Buf)>, BTreeMap<String, Vec<u8>>, HashMap<String, Option<(usize, usize)>>, LoadReport);

/// Names of files that are not in memory.
pub(super) struct Rest {
    pub(super) not_held: Vec<String>,
    pub(super) not_asked: Vec<String>,
}

/// Why a header could not be read back from admitted memory.
enum Unread {
    Header(HeaderFault),
    Device(DeviceError),
}

impl From<HeaderFault> for Unread {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(fault)
    }
}

impl<B: Backend> LoadedModel<B> {
    /// Of what was admitted: headers are read from there, and nowhere else. Files go by their names on disk, and as they
    /// were signed.
    pub(super) fn new(
        backend: &B,
        model: &Path,
        names: Vec<(String, ResourceName)>,
        held: Vec<Held<B>>,
        verified: Report,
        rest: Rest,
        options: &LoadOptions,
    ) -> Result<Self, Error> {
        let (mut tensor_files, mut companions) = (Vec::new(), BTreeMap::new());
        let (mut device_bytes, mut host_bytes) = (0, 0);
        for ((name, signed), held) in names.into_iter().zip(held) {
            match held {
                Held::Host(bytes) => {
                    host_bytes += bytes.len() as u64;
                    companions.insert(name, bytes);
                }
                Held::Device(buffer) => {
                    device_bytes += buffer.size();
                    let (header, source) = header(backend, model, &name, signed, &buffer)?;
                    tensor_files.push(TensorFile { name, buffer, header, source });
                }
            }
        }
        let Rest { not_held, not_asked } = rest;
        let indexed = check_indices(model, &companions, &tensor_files, &not_asked)?;
        let names = by_name(&tensor_files, &indexed);
        let report = LoadReport {
            verified,
            tensor_files: tensor_files.len(),
            device_bytes,
            host_bytes,
            not_held,
            not_asked,
            read: options.read,
            storage: None,
            pages: options.pages,
        };
        Ok(Self { tensor_files, companions, names, report })
    }

    /// Files that are parts of one model, by their names and headers, must be all of them.
    pub(super) fn check_parts(&self) -> Result<(), Error> {
        let headers = self.tensor_files.iter().map(|file| (file.name.as_str(), &file.header)).collect();
        // How many parts there are is no question where not all were asked for.
        let whole = self.report.not_asked.iter().all(|name| Format::of_name(name).is_none());
        let faults = check_parts(&headers).into_iter();
        let mut faults = faults.filter(|fault| whole || !matches!(fault, IndexFault::Parts { .. }));
        faults.next().map_or(Ok(()), |fault| Err(Error::Parts(fault)))
    }

    /// Tensor manifests must be about these files: the one outside of the model that was `asked` about, and the one in the
    /// model, if that has one, of so many bytes.
    pub(super) fn check_tensors(
        &mut self,
        asked: Tensors,
        signed: &Verified<Manifest>,
        manifest: Option<u64>,
    ) -> Result<(), Error> {
        let own = manifest.map(|len| self.companions.get(FILE_NAME).map(Vec::as_slice).ok_or(len));
        let header =
            |file: &TensorFile<_>| FileHeader { file: file.source.clone(), tensors: file.header.tensors.clone() };
        let headers = self.tensor_files.iter().map(header).collect();
        Ok(asked.conclude_loaded(signed, own, headers, &mut self.report.verified)?)
    }

    /// The same, with the way said that bytes took to the device.
    pub(super) const fn read_by(mut self, storage: Option<StoragePath>) -> Self {
        self.report.storage = storage;
        self
    }

    /// All tensors, file by file, in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = View<'_, B::Buffer>> {
        self.tensor_files.iter().flat_map(|file| {
            let view = |tensor| View { file: file.name.as_str(), tensor, buffer: &file.buffer };
            file.header.tensors.iter().map(view)
        })
    }

    /// The tensor of this name. Where several files have one, it is that of the file that an index of the model gives, and
    /// without such an index none: [`LoadedModel::tensor_of`] tells them apart.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<View<'_, B::Buffer>> {
        let (file, tensor) = (*self.names.get(name)?)?;
        let TensorFile { name, buffer, header, .. } = self.tensor_files.get(file)?;
        Some(View { file: name, tensor: header.tensors.get(tensor)?, buffer })
    }

    /// The tensor of this name in this file.
    #[must_use]
    pub fn tensor_of(&self, file: &str, name: &str) -> Option<View<'_, B::Buffer>> {
        let TensorFile { name: file, buffer, header, .. } =
            self.tensor_files.iter().find(|other| other.name == file)?;
        Some(View { file, tensor: header.tensor(name)?, buffer })
    }

    /// The bytes of a small file, such as `config.json`, by its path in the model. Files of tensors are not among them, nor
    /// is what [`LoadReport::not_held`] lists.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.companions.get(name).map(Vec::as_slice)
    }

    /// For [`LoadedModel::into_parts`].
    pub(super) fn taken_apart(self) -> TakenApart<B::Buffer> {
        let files = self.tensor_files.into_iter().map(|file| (file.name, file.header, file.buffer));
        (files.collect::<Vec<_>>(), self.companions, self.names, self.report)
    }

    /// The files of tensors: their names, headers and memory.
    pub fn tensor_files(&self) -> impl Iterator<Item = (&str, &Header, &B::Buffer)> {
        self.tensor_files.iter().map(|file| (file.name.as_str(), &file.header, &file.buffer))
    }

    /// What was loaded, and what was not.
    #[must_use]
    pub const fn report(&self) -> &LoadReport {
        &self.report
    }
}

/// Reads the header of a file from the memory that it was admitted in.
fn header<B: Backend>(
    backend: &B,
    model: &Path,
    name: &str,
    signed: ResourceName,
    buffer: &B::Buffer,
) -> Result<(Header, SourceFile), Error> {
    // Only such files were sorted to tensors.
    let format = Format::of_name(name).unwrap_or(Format::Safetensors);
    // It is asked for each byte once, in order.
    let mut head = Vec::new();
    let mut read = |range: Range<u64>| {
        let bytes = read_back(backend, buffer, range).map_err(Unread::Device)?;
        head.extend_from_slice(&bytes);
        Ok(bytes)
    };
    let header = Header::read(format, buffer.size(), &mut read).map_err(|unread| match unread {
        Unread::Header(source) => Error::Header { path: path_of(model, name), source },
        Unread::Device(error) => error.into(),
    })?;
    let source = SourceFile::of_header(signed, &header, &head, buffer.size())
        .map_err(|source| Error::Header { path: path_of(model, name), source })?;
    Ok((header, source))
}

/// Bytes of admitted memory. The copy back can go wrong as any other, and a header that is not the signed one would put
/// tensors elsewhere: the device's own digest of these bytes, where they lie, has to be that of the copy.
fn read_back<B: Backend>(backend: &B, buffer: &B::Buffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
    let bytes = backend.download(buffer, range.clone())?;
    let extent = Extent::Range { buffer, at: range.start, len: range.end - range.start };
    let found = backend.hash(&[Job { layout: Layout::new(vec![extent])?, want: Want::Root }])?;
    if found == [Want::Root.of(&bytes)] { Ok(bytes) } else { Err(DeviceError::NoResult { device: backend.kind() }) }
}

/// Where a file of the model is on disk, for messages.
fn path_of(model: &Path, name: &str) -> std::path::PathBuf {
    if model.file_name().is_some_and(|file| file == name) && model.is_file() {
        model.to_owned()
    } else {
        model.join(name)
    }
}

/// Compares every index with the headers of the files in its folder. Returns where tensors are to be found by them.
fn check_indices<Buf>(
    model: &Path,
    companions: &BTreeMap<String, Vec<u8>>,
    files: &[TensorFile<Buf>],
    not_asked: &[String],
) -> Result<HashMap<String, Vec<String>>, Error> {
    let mut indexed: HashMap<String, Vec<String>> = HashMap::new();
    for (name, text) in companions.iter().filter(|(name, _)| Index::is_name(name)) {
        let fault = |source| Error::Index { path: path_of(model, name), source };
        let index = Index::parse(text).map_err(fault)?;
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = |file: &'_ str| -> Option<usize> {
            // How much of a name is that of the folder.
            if folder.is_empty() {
                Some(0)
            } else {
                file.strip_prefix(folder)?.starts_with('/').then_some(folder.len() + 1)
            }
        };
        let headers: BTreeMap<&str, &Header> =
            files.iter().filter_map(|file| Some((&file.name[beside(&file.name)?..], &file.header))).collect();
        let in_folder = |file: &str| if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
        let passed_over =
            |fault: &IndexFault| matches!(fault, IndexFault::NoFile { file } if not_asked.contains(&in_folder(file)));
        if let Some(first) = index.check(&headers).into_iter().find(|fault| !passed_over(fault)) {
            return Err(fault(first));
        }
        for (tensor, file) in index.weight_map() {
            indexed.entry(tensor.clone()).or_default().push(in_folder(file));
        }
    }
    Ok(indexed)
}

/// Where each name leads: to the only tensor of that name, or to the one that an index means.
fn by_name<Buf>(
    files: &[TensorFile<Buf>],
    indexed: &HashMap<String, Vec<String>>,
) -> HashMap<String, Option<(usize, usize)>> {
    let mut names: HashMap<String, Option<(usize, usize)>> = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        for (place, tensor) in file.header.tensors.iter().enumerate() {
            let meant = match indexed.get(&tensor.name).map(Vec::as_slice) {
                Some([only]) if *only != file.name => continue,
                Some([_]) => true,
                _ => !names.contains_key(&tensor.name),
            };
            names.insert(tensor.name.clone(), meant.then_some((at, place)));
        }
    }
    names
}
