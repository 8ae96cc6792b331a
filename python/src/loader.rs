//! Models in memory: loaded and checked by the library, handed out tensor by tensor.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::exceptions::{PyAttributeError, PyBufferError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::{Map, Value, json};
use tensorseal::device::cpu::{Cpu, Memory, Settings};
use tensorseal::device::{Backend, DeviceKind};
use tensorseal::format::{Dtype, Header};
use tensorseal::loader::{LoadOptions, LoadReport, LoadedFile, ModelParts};
use tensorseal::report::json::{self as report, Head};
use tensorseal::verify::UnsignedFiles;
use tensorseal::{Error, VerifyOptions};

use crate::error::{object, raised, to_python, usage};
use crate::export::{Lent, capsule};
use crate::progress::{Watch, away};
use crate::verbs::{digests_of, git_of, symlinks_of, uncovered_of};
use crate::who::Who;

/// Memory of a file, or of a tensor that was moved.
struct Region {
    address: u64,
    device: DeviceKind,
    _memory: Box<dyn Any + Send + Sync>,
}

/// Memory that can be lent by its address.
trait Addressed: Send + Sync + 'static {
    fn address(&self) -> u64;
}

impl Addressed for Memory {
    fn address(&self) -> u64 {
        self.start().as_ptr().expose_provenance() as u64
    }
}

#[cfg(feature = "cuda")]
impl Addressed for tensorseal::device::cuda::Buffer {
    fn address(&self) -> u64 {
        Self::address(self)
    }
}

/// A file of tensors.
struct File {
    name: String,
    header: Header,
    region: Arc<Region>,
    moved: BTreeMap<usize, Arc<Region>>,
}

/// What was loaded, whatever device it is on.
struct Held {
    files: Vec<File>,
    companions: BTreeMap<String, Vec<u8>>,
    names: HashMap<String, Option<(usize, usize)>>,
    report: LoadReport,
}

impl Held {
    fn new<Buf: Addressed>(parts: ModelParts<Buf>, device: &DeviceKind) -> Self {
        let ModelParts { files, companions, names, report, .. } = parts;
        let region = |memory: Buf| {
            Arc::new(Region { address: memory.address(), device: device.clone(), _memory: Box::new(memory) })
        };
        let file = |file: LoadedFile<Buf>| {
            let LoadedFile { name, header, buffer, moved, .. } = file;
            let moved = moved.into_iter().map(|(at, memory)| (at, region(memory))).collect();
            File { name, header, region: region(buffer), moved }
        };
        Self { files: files.into_iter().map(file).collect(), companions, names, report }
    }

    fn tensor(&self, file: usize, at: usize) -> Option<Tensor> {
        let File { name, header, region, moved } = self.files.get(file)?;
        let tensor = header.tensors.get(at)?;
        let (region, start) = match moved.get(&at) {
            Some(moved) => (moved, 0),
            None => (region, tensor.range.start),
        };
        Some(Tensor {
            name: tensor.name.clone(),
            file: name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            len: tensor.bytes(),
            address: region.address + start,
            region: Arc::clone(region),
        })
    }
}

/// What is loaded, from where, to where.
struct Order<'a> {
    model: &'a Path,
    signatures: Vec<&'a Path>,
    who: &'a Who,
    options: LoadOptions,
    device: &'a str,
}

impl Order<'_> {
    fn carry_out(self, watch: &Watch) -> Result<Held, Error> {
        match self.device.parse().map_err(Error::UnknownDevice)? {
            DeviceKind::Cpu => {
                let cpu = Cpu::open(Settings { threads: self.options.threads, ..Settings::default() })?;
                self.on(&cpu, watch)
            }
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(ordinal) => self.on(&tensorseal::device::Cuda::open(ordinal)?, watch),
            other => Err(Error::UnknownDevice(format!(
                "{other} is no device to load to from Python, where nothing takes its memory; there are cpu, cuda and cuda:N"
            ))),
        }
    }

    fn on<B: Backend>(self, backend: &B, watch: &Watch) -> Result<Held, Error>
    where
        B::Buffer: Addressed,
    {
        let mut options = self.options;
        options.cancel = watch.cancel();
        let loaded = self.who.trusted().load(self.model, &self.signatures, &options, backend, watch)?;
        Ok(Held::new(loaded.into_inner().into_parts(backend)?, &backend.kind()))
    }
}

/// Loads a model, or of it the files `only`, and gives it out if it is what was signed.
#[pyfunction]
#[pyo3(signature = (model, bundles, who, *, only, digests, strict, ignore_unsigned, ignore, allow_ignored, symlinks, git,
    keep, threads, device, progress))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn load(
    py: Python<'_>,
    model: PathBuf,
    bundles: Vec<PathBuf>,
    who: &Bound<'_, Who>,
    only: Option<Vec<String>>,
    digests: &str,
    strict: bool,
    ignore_unsigned: bool,
    ignore: Vec<PathBuf>,
    allow_ignored: Vec<PathBuf>,
    symlinks: &str,
    git: &str,
    keep: Option<u64>,
    threads: Option<usize>,
    device: &str,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<LoadedModel> {
    let mut options = LoadOptions {
        verify: VerifyOptions {
            symlinks: symlinks_of(py, symlinks)?,
            ignore_paths: ignore,
            git_files: git_of(py, git)?,
            unsigned: if ignore_unsigned { UnsignedFiles::Tolerate } else { UnsignedFiles::Refuse },
            uncovered: uncovered_of(py, strict, allow_ignored)?,
            digests: digests_of(py, digests)?,
            ..VerifyOptions::default()
        },
        only: only.map(BTreeSet::from_iter),
        ..LoadOptions::default()
    };
    if let Some(threads) = threads {
        options.threads = Some(NonZeroUsize::new(threads).ok_or_else(|| usage(py, "at least one thread reads"))?);
    }
    options.keep = keep.unwrap_or(options.keep);
    let signatures: Vec<&Path> = bundles.iter().map(PathBuf::as_path).collect();
    let first = signatures.first().copied();
    let order = Order { model: &model, signatures, who: who.get(), options, device };
    let found = away(py, progress.as_ref(), |watch| order.carry_out(watch))?;
    let head = |error: Option<&Error>| -> Map<String, Value> { Head::of("load", &model, first, error).into() };
    match found {
        Ok(held) => {
            let mut fields = head(None);
            report::insert(&mut fields, report::verified(&held.report.verified));
            let LoadReport { tensor_files, device_bytes, host_bytes, not_held, not_asked, .. } = &held.report;
            let loaded = json!({
                "tensor_files": tensor_files, "device_bytes": device_bytes, "host_bytes": host_bytes,
                "not_held": not_held, "not_asked": not_asked,
            });
            fields.insert("loaded".to_owned(), loaded);
            Ok(LoadedModel { held, fields })
        }
        Err(error) => {
            let mut fields = head(Some(&error));
            report::insert(&mut fields, report::error(&error));
            Err(raised(py, &error, &fields))
        }
    }
}

/// The model that a file belongs to, its bundle, and the file's name in it (`None` where the file is the model).
#[pyfunction]
#[pyo3(signature = (file, bundle))]
pub(crate) fn model_of(
    py: Python<'_>,
    file: PathBuf,
    bundle: Option<PathBuf>,
) -> PyResult<(PathBuf, PathBuf, Option<String>)> {
    let most = VerifyOptions::default().max_bundle.get();
    let found = py.detach(|| tensorseal::loader::model_of(&file, bundle.as_deref(), most));
    let found = found.map_err(|error| to_python(py, &error))?;
    Ok((found.model, found.signature, found.name))
}

/// A model whose files were admitted. Each file's memory lives as long as this, or a tensor of it.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct LoadedModel {
    held: Held,
    fields: Map<String, Value>,
}

#[pymethods]
impl LoadedModel {
    /// The report of `tensorseal verify --json`, and what was loaded.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        object(py, &self.fields)
    }

    /// Names of the files of tensors.
    #[getter]
    fn tensor_files(&self) -> Vec<&str> {
        self.held.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// Names of the small files that are held.
    #[getter]
    fn files(&self) -> Vec<&str> {
        self.held.companions.keys().map(String::as_str).collect()
    }

    /// The bytes of a small file.
    fn file<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyBytes>> {
        self.held.companions.get(name).map(|bytes| PyBytes::new(py, bytes))
    }

    /// What the header of a file of tensors says beside them; `None` if there is no such file.
    fn metadata(&self, file: &str) -> Option<BTreeMap<String, String>> {
        self.held.files.iter().find(|of| of.name == file).map(|of| of.header.metadata.clone())
    }

    /// The tensors of a file, or of all, in the order of their bytes.
    #[pyo3(signature = (file = None))]
    fn tensors(&self, file: Option<&str>) -> Vec<Tensor> {
        let files = self.held.files.iter().enumerate().filter(|(_, of)| file.is_none_or(|file| of.name == file));
        let tensors = files.flat_map(|(at, of)| (0..of.header.tensors.len()).map(move |tensor| (at, tensor)));
        tensors.filter_map(|(file, at)| self.held.tensor(file, at)).collect()
    }

    /// The tensor of this name; `None` if there is none, or if it cannot be told which of several is meant.
    fn tensor(&self, name: &str) -> Option<Tensor> {
        let (file, at) = (*self.held.names.get(name)?)?;
        self.held.tensor(file, at)
    }
}

/// A tensor in memory that was checked. It may be written to: what it is then was signed by nobody.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Tensor {
    name: String,
    file: String,
    dtype: Dtype,
    shape: Vec<u64>,
    len: u64,
    address: u64,
    region: Arc<Region>,
}

impl Tensor {
    /// As DLPack counts elements: type, and shape. Two elements of four bits go together, as in torch.
    fn described(&self) -> Option<((u8, u8, u16), Vec<i64>)> {
        let mut shape = self.shape.iter().map(|&size| i64::try_from(size).ok()).collect::<Option<Vec<_>>>()?;
        let dtype = match self.dtype.name() {
            "I8" => (0, 8, 1),
            "I16" => (0, 16, 1),
            "I32" => (0, 32, 1),
            "I64" => (0, 64, 1),
            "U8" => (1, 8, 1),
            "U16" => (1, 16, 1),
            "U32" => (1, 32, 1),
            "U64" => (1, 64, 1),
            "F16" => (2, 16, 1),
            "F32" => (2, 32, 1),
            "F64" => (2, 64, 1),
            "BF16" => (4, 16, 1),
            "C64" => (5, 64, 1),
            "BOOL" => (6, 8, 1),
            "F8_E4M3" => (10, 8, 1),
            "F8_E4M3FNUZ" => (11, 8, 1),
            "F8_E5M2" => (12, 8, 1),
            "F8_E5M2FNUZ" => (13, 8, 1),
            "F8_E8M0" => (14, 8, 1),
            "F4" => {
                let last = shape.last_mut().filter(|last| **last % 2 == 0)?;
                *last /= 2;
                (17, 4, 2)
            }
            _ => return None,
        };
        Some((dtype, shape))
    }

    /// NumPy's letters for the type of the elements.
    fn typestr(&self) -> Option<&'static str> {
        Some(match self.dtype.name() {
            "BOOL" => "|b1",
            "I8" => "|i1",
            "U8" => "|u1",
            "I16" => "<i2",
            "U16" => "<u2",
            "F16" => "<f2",
            "I32" => "<i4",
            "U32" => "<u4",
            "F32" => "<f4",
            "I64" => "<i8",
            "U64" => "<u8",
            "F64" => "<f8",
            "C64" => "<c8",
            _ => return None,
        })
    }

    /// What `__array_interface__` and `__cuda_array_interface__` have in common.
    fn interface<'py>(&self, py: Python<'py>, attribute: &str) -> PyResult<Bound<'py, PyDict>> {
        let none = || {
            let (name, dtype) = (&self.name, self.dtype.name());
            PyAttributeError::new_err(format!(
                "{name:?} has no {attribute}: it has no type like {dtype}; see as_bytes()"
            ))
        };
        let dict = PyDict::new(py);
        dict.set_item("shape", pyo3::types::PyTuple::new(py, &self.shape)?)?;
        dict.set_item("typestr", self.typestr().ok_or_else(none)?)?;
        // Nobody else has it: it may be written to.
        dict.set_item("data", (self.address, false))?;
        dict.set_item("strides", py.None())?;
        dict.set_item("version", 3)?;
        Ok(dict)
    }
}

#[pymethods]
impl Tensor {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The file that it is from.
    #[getter]
    fn file(&self) -> &str {
        &self.file
    }

    /// The type of its elements, as safetensors or GGUF spell it.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype.name()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, &self.shape)
    }

    #[getter]
    fn nbytes(&self) -> u64 {
        self.len
    }

    #[getter]
    fn address(&self) -> u64 {
        self.address
    }

    #[getter]
    fn device(&self) -> String {
        self.region.device.to_string()
    }

    /// The same memory as a row of bytes.
    fn as_bytes(&self, py: Python<'_>) -> PyResult<Self> {
        let dtype = Dtype::from_safetensors("U8").ok_or_else(|| usage(py, "there are no bytes"))?;
        let Self { name, file, len, address, region, .. } = self;
        let (name, file, shape) = (name.clone(), file.clone(), vec![*len]);
        Ok(Self { name, file, dtype, shape, len: *len, address: *address, region: Arc::clone(region) })
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        match self.region.device {
            // An ordinal is one that the driver counted.
            DeviceKind::Cuda(ordinal) => (2, ordinal as i32),
            _ => (1, 0),
        }
    }

    /// All that was queued for this memory is done, so that no stream need wait for it.
    #[pyo3(signature = (stream = None, *, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = stream;
        let device = self.__dlpack_device__();
        if copy == Some(true) || dl_device.is_some_and(|asked| asked != device) {
            return Err(PyBufferError::new_err("it is lent where it is, and not copied: take it, then copy it"));
        }
        let (dtype, shape) = self.described().ok_or_else(|| {
            let (name, dtype) = (&self.name, self.dtype.name());
            PyBufferError::new_err(format!("{name:?}: DLPack has no type like {dtype}; see as_bytes()"))
        })?;
        let owner = Arc::clone(&self.region);
        let lent = Lent { address: self.address, device, dtype, shape, owner };
        capsule(py, lent, max_version.is_some_and(|(major, _)| major >= 1))
    }

    /// For NumPy: memory of the host.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if self.region.device != DeviceKind::Cpu {
            return Err(PyAttributeError::new_err(format!("{:?} is not in memory of the host", self.name)));
        }
        self.interface(py, "__array_interface__")
    }

    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if !matches!(self.region.device, DeviceKind::Cuda(_)) {
            return Err(PyAttributeError::new_err(format!("{:?} is not in memory of a CUDA device", self.name)));
        }
        let dict = self.interface(py, "__cuda_array_interface__")?;
        if self.len == 0 {
            dict.set_item("data", (0, false))?;
        }
        // Nothing is queued for it.
        dict.set_item("stream", py.None())?;
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        let Self { name, dtype, shape, region, .. } = self;
        format!("Tensor({name:?}, {}, {shape:?}, {})", dtype.name(), region.device)
    }
}
