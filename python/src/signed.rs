//! What a signature says, and memory compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorseal::device::AnyBuffer;
use tensorseal::format::{Dtype, Format};
use tensorseal::manifest::{ResourceName, SINGLE_FILE};
use tensorseal::resident::{self, Head, ResidentFile, ResidentTensor, Strides};
use tensorseal::tensors::{self, Coverage, MeasuredSlice, Piece, Place, SliceError, expect};
use tensorseal::{Error, Manifest, Verified, VerifyOptions};

use crate::error::{to_python, usage};
use crate::memory::{Memory, Taken, Unusable, raise_usage};
use crate::seal::seconds;
use crate::tensors::Lent;
use crate::who::Who;

/// Ranges of elements, one for each dimension.
type Ranges = Vec<(u64, u64)>;

fn ranges_of(ranges: &[(u64, u64)]) -> Vec<Range<u64>> {
    ranges.iter().map(|&(start, end)| start..end).collect()
}

fn pairs(ranges: &[Range<u64>]) -> Ranges {
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

/// What signatures over a model say, each of which was accepted. No file of the model was looked at.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Signed {
    model: PathBuf,
    /// The first signature's, and what the others of a policy say.
    first: Verified<Manifest>,
    others: Vec<Verified<Manifest>>,
}

impl Signed {
    fn all(&self) -> impl Iterator<Item = &Verified<Manifest>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

#[pymethods]
impl Signed {
    /// Checks the signatures.
    #[staticmethod]
    #[pyo3(signature = (model, bundles, who))]
    fn read(py: Python<'_>, model: PathBuf, bundles: Vec<PathBuf>, who: &Bound<'_, Who>) -> PyResult<Self> {
        let signatures: Vec<&Path> = bundles.iter().map(PathBuf::as_path).collect();
        let trusted = who.get().trusted();
        let signed = py.detach(|| trusted.signed(&model, &signatures, &VerifyOptions::default()));
        let mut signed = signed.map_err(|error| to_python(py, &error))?.into_iter();
        let first = signed.next().ok_or_else(|| usage(py, "there is no signature"))?;
        Ok(Self { model, first, others: signed.collect() })
    }

    /// Who signed, for people: one entry a signature.
    #[getter]
    fn identities(&self) -> Vec<String> {
        self.all().map(|signed| signed.identity().to_string()).collect()
    }

    /// The signed root digest.
    #[getter]
    fn root(&self) -> String {
        self.first.root().to_string()
    }

    /// The signed files, by name: of shards, those that they are of.
    #[getter]
    fn files(&self) -> BTreeSet<&str> {
        fn file(name: &ResourceName, sharded: bool) -> &str {
            match name.shard() {
                Some((file, _)) if sharded => file,
                _ => name.as_str(),
            }
        }
        let sharded = self.first.serialization().method.shard_size().is_some();
        self.first.resources().iter().map(|resource| file(&resource.name, sharded)).collect()
    }

    /// Of each signed resource its digests by algorithm and, if it was signed, its size.
    #[getter]
    fn resources<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for resource in self.first.resources() {
            let one = PyDict::new(py);
            one.set_item(resource.digest.algorithm().name(), resource.digest.to_hex())?;
            if let Some(blake3) = resource.blake3 {
                one.set_item(blake3.algorithm().name(), blake3.to_hex())?;
            }
            if let Some(size) = resource.size {
                one.set_item("size", size)?;
            }
            all.set_item(resource.name.as_str(), one)?;
        }
        Ok(all)
    }

    /// The tensor manifest, read from the model or from `path` and checked against every signature; `None` if none was
    /// signed.
    #[pyo3(signature = (path))]
    fn tensor_manifest(&self, py: Python<'_>, path: Option<PathBuf>) -> PyResult<Option<TensorManifest>> {
        let found = py.detach(|| tensorseal::verify::tensor_manifest(&self.model, self.all(), path.as_deref()));
        Ok(found.map_err(|error| to_python(py, &error))?.map(|manifest| TensorManifest(Arc::new(manifest))))
    }

    /// Compares tensors with the signed digests of their files, whose headers are read from the model: the fields of
    /// what came of it.
    fn verify_resident<'py>(
        &self,
        py: Python<'py>,
        files: Vec<String>,
        tensors: Vec<(Option<String>, Bound<'py, Lent>)>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let files_of: Vec<Option<String>> = tensors.iter().map(|(file, _)| file.clone()).collect();
        let lent: Vec<Arc<Taken>> = tensors.iter().map(|(_, tensor)| tensor.get().taken()).collect();
        let dtypes = lent.iter().map(|tensor| dtype_of(py, tensor)).collect::<PyResult<Vec<_>>>()?;
        let heads = files.iter().map(|name| {
            let path = if name == SINGLE_FILE { self.model.clone() } else { self.model.join(name) };
            let format = Format::of_name(&path.to_string_lossy());
            let format =
                format.ok_or_else(|| usage(py, format!("{name:?} is no file of tensors: it has no such name")))?;
            Ok((name, path, format))
        });
        let heads = heads.collect::<PyResult<Vec<_>>>()?;
        let work = || -> Result<_, Unusable> {
            let memory = Memory::new(&lent)?;
            let mut tensors = Vec::with_capacity(lent.len());
            for (((taken, device, buffer), file), dtype) in memory.tensors.iter().zip(&files_of).zip(&dtypes) {
                let of = &taken.described;
                tensors.push(ResidentTensor {
                    name: &taken.name,
                    file: file.as_deref(),
                    device: *device,
                    buffer,
                    at: 0,
                    dtype: *dtype,
                    shape: of.shape.clone(),
                    strides: Strides::Elements(of.strides.clone()),
                });
            }
            let mut files = Vec::with_capacity(heads.len());
            for (name, path, format) in &heads {
                files.push(ResidentFile { name, head: Head::File { format: *format, path } });
            }
            let devices = memory.devices();
            let first = resident::verify_resident(&devices, &files, &tensors, &self.first)?;
            for other in &self.others {
                resident::verify_resident(&devices, &files, &tensors, other)?;
            }
            Ok(first)
        };
        let measured = py.detach(work).map_err(|error| error.to_python(py))?;
        let fields = PyDict::new(py);
        fields.set_item("at", seconds(measured.at))?;
        fields.set_item("identity", measured.identity.to_string())?;
        fields.set_item("root", measured.root.to_string())?;
        fields.set_item("text", measured.to_string())?;
        let files: Vec<_> = measured
            .files
            .iter()
            .map(|file| {
                let devices: Vec<_> = file.devices.iter().map(ToString::to_string).collect();
                (file.name.as_str(), file.tensors, file.len, file.on_host, devices)
            })
            .collect();
        fields.set_item("files", files)?;
        let rest: Vec<_> = measured.not_measured.iter().map(ResourceName::as_str).collect();
        fields.set_item("not_measured", rest)?;
        Ok(fields)
    }
}

/// The type as files have it.
pub(crate) fn dtype_of(py: Python<'_>, tensor: &Taken) -> PyResult<Dtype> {
    tensor.described.dtype.ok_or_else(|| {
        let why = format!("its type {} is none that files of tensors have", tensor.described.type_name);
        raise_usage(py, &tensor.name, &why)
    })
}

/// The signed digests of a model's tensors, and of tiles of them.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct TensorManifest(Arc<Verified<tensors::TensorManifest>>);

/// One tensor of it.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct TensorRecord {
    manifest: Arc<Verified<tensors::TensorManifest>>,
    index: usize,
}

impl TensorRecord {
    fn get(&self) -> Option<&tensors::TensorRecord> {
        self.manifest.tensors().get(self.index)
    }
}

#[pymethods]
impl TensorRecord {
    #[getter]
    fn name(&self) -> Option<&str> {
        self.get().map(tensors::TensorRecord::name)
    }

    /// Its type, as safetensors or GGUF spell it.
    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        self.get().map(|tensor| tensor.dtype().name())
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, self.get().map(tensors::TensorRecord::shape).unwrap_or_default())
    }

    /// The file that it lies in.
    #[getter]
    fn file(&self) -> Option<&str> {
        Some(self.manifest.file_of(self.get()?)?.name.as_str())
    }

    /// Its first byte in that file, and one past its last.
    #[getter]
    fn range(&self) -> Option<(u64, u64)> {
        self.get().map(|tensor| (tensor.range().start, tensor.range().end))
    }

    /// Into how many parts it is cut along each dimension.
    #[getter]
    fn parts(&self) -> Vec<u32> {
        self.get().map(|tensor| tensor.grid().parts().iter().map(|&parts| parts.into()).collect()).unwrap_or_default()
    }

    /// Digests of its tiles, in order.
    #[getter]
    fn tiles(&self) -> Vec<String> {
        self.get().map(|tensor| tensor.tiles().iter().map(hex).collect()).unwrap_or_default()
    }

    /// The digest of all of it.
    #[getter]
    fn root(&self) -> Option<String> {
        self.get().map(|tensor| tensor.root().to_hex())
    }

    fn __repr__(&self) -> String {
        let describe = |tensor: &tensors::TensorRecord| {
            format!("TensorRecord({:?}, {:?}, {:?})", tensor.name(), tensor.dtype().name(), tensor.shape())
        };
        self.get().map(describe).unwrap_or_default()
    }
}

fn hex(digest: &tensors::TileDigest) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where a slice lies: dense, or at the distances that the tensor says.
///
/// # Errors
/// Elements that do not follow each other along the last dimension, or backwards.
pub(crate) fn place<'a>(taken: &Taken, buffer: &'a AnyBuffer) -> Result<Place<'a, AnyBuffer>, Unusable> {
    match taken.described.outer_steps().map_err(|why| Unusable::Usage(taken.name.clone(), why))? {
        None => Ok(Place::dense(buffer, 0)),
        Some(steps) => Ok(Place::strided(buffer, 0, steps)),
    }
}

#[pymethods]
impl TensorManifest {
    /// Its tensors, by name.
    #[getter]
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (index, tensor) in self.0.tensors().iter().enumerate() {
            let record = TensorRecord { manifest: Arc::clone(&self.0), index };
            all.set_item(tensor.name(), Bound::new(py, record)?)?;
        }
        Ok(all)
    }

    /// Its files.
    #[getter]
    fn files(&self) -> Vec<&str> {
        self.0.files().iter().map(|file| file.name.as_str()).collect()
    }

    /// Who signed it.
    #[getter]
    fn identity(&self) -> String {
        self.0.identity().to_string()
    }

    /// One digest of all tensors, whichever files they lie in.
    #[getter]
    fn root(&self) -> String {
        self.0.root().to_hex()
    }

    /// As it is written.
    fn to_bytes(&self, py: Python<'_>) -> Vec<u8> {
        py.detach(|| self.0.to_bytes())
    }

    /// Checks slices: all elements of a tensor, or those in ranges of whole tiles. One result each, if all are as signed.
    fn verify_slices(
        &self,
        py: Python<'_>,
        slices: Vec<(String, Option<Ranges>, Bound<'_, Lent>)>,
    ) -> PyResult<Vec<Measured>> {
        let lent: Vec<Arc<Taken>> = slices.iter().map(|(_, _, tensor)| tensor.get().taken()).collect();
        let asked: Vec<(String, Option<Ranges>)> = slices.into_iter().map(|(name, ranges, _)| (name, ranges)).collect();
        let dtypes = lent.iter().map(|tensor| dtype_of(py, tensor)).collect::<PyResult<Vec<_>>>()?;
        let work = || -> Result<Vec<Option<MeasuredSlice>>, Unusable> {
            if asked.is_empty() {
                return Err(SliceError::Nothing.into());
            }
            let mut wanted = Vec::with_capacity(asked.len());
            for (((name, ranges), tensor), dtype) in asked.iter().zip(&lent).zip(&dtypes) {
                let whole = || self.0.tensor(name).map(|of| of.shape().iter().map(|&size| 0..size).collect::<Vec<_>>());
                let ranges = ranges.as_deref().map(ranges_of).or_else(whole).unwrap_or_default();
                expect(&self.0, name, &ranges, *dtype, &tensor.described.shape)?;
                wanted.push(ranges);
            }
            let memory = Memory::new(&lent)?;
            let mut results: Vec<Option<MeasuredSlice>> = vec![None; asked.len()];
            for (index, device) in memory.devices().iter().enumerate() {
                let own: Vec<usize> = memory.on(index).collect();
                let slice = |&index: &usize| {
                    let (taken, _, buffer) = &memory.tensors[index];
                    let (tensor, ranges) = (&*asked[index].0, wanted[index].clone());
                    Ok(tensors::Slice { tensor, ranges, place: place(taken, buffer)? })
                };
                let slices = own.iter().map(slice).collect::<Result<Vec<_>, Unusable>>()?;
                let measured = tensors::verify_slices(device.backend, &self.0, &slices, device.after)?;
                for (index, measured) in own.into_iter().zip(measured) {
                    results[index] = Some(measured);
                }
            }
            Ok(results)
        };
        let measured = py.detach(work).map_err(|error| error.to_python(py))?;
        Ok(measured.into_iter().flatten().map(Measured).collect())
    }

    /// Digests of the tiles of a slice, by their numbers among those of the whole tensor.
    #[staticmethod]
    fn tile_digests(
        py: Python<'_>,
        dtype: &str,
        shape: Vec<u64>,
        ranges: Ranges,
        tensor: &Bound<'_, Lent>,
    ) -> PyResult<BTreeMap<usize, String>> {
        let lent = tensor.get().taken();
        let own = dtype_of(py, &lent)?;
        let found = Dtype::from_safetensors(dtype).filter(|dtype| *dtype == own);
        let dtype =
            found.ok_or_else(|| raise_usage(py, &lent.name, &format!("it is of type {}, not {dtype}", own.name())))?;
        let ranges = ranges_of(&ranges);
        let sizes: Vec<u64> = ranges.iter().map(|range| range.end.saturating_sub(range.start)).collect();
        if sizes != lent.described.shape {
            let why = format!("its shape is {:?}, and that of the slice is {sizes:?}", lent.described.shape);
            return Err(raise_usage(py, &lent.name, &why));
        }
        let work = || -> Result<Vec<(usize, String)>, Unusable> {
            let memory = Memory::new(std::slice::from_ref(&lent))?;
            let (Some(device), Some((taken, _, buffer))) = (memory.devices().pop(), memory.tensors.first()) else {
                return Err(SliceError::Nothing.into());
            };
            let pieces = [Piece { dtype, shape: &shape, ranges: ranges.clone(), place: place(taken, buffer)? }];
            let found = tensors::tile_digests(device.backend, &pieces, device.after)?;
            Ok(found.into_iter().flatten().map(|(tile, digest)| (tile, hex(&digest))).collect())
        };
        let found = py.detach(work).map_err(|error| error.to_python(py))?;
        Ok(found.into_iter().collect())
    }
}

/// What was found of one slice, which was as signed.
#[pyclass(frozen, module = "tensorseal._native")]
#[derive(Clone)]
pub(crate) struct Measured(MeasuredSlice);

#[pymethods]
impl Measured {
    /// Of which tensor.
    #[getter]
    fn tensor(&self) -> &str {
        self.0.tensor()
    }

    /// Which elements, by dimension: the first, and one past the last.
    #[getter]
    fn ranges(&self) -> Ranges {
        pairs(self.0.ranges())
    }

    /// Which of the tensor's tiles.
    #[getter]
    fn tiles(&self) -> Vec<usize> {
        self.0.tiles().to_vec()
    }

    /// Bytes that were read.
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// When.
    #[getter]
    fn at(&self) -> f64 {
        seconds(self.0.at())
    }

    /// Where.
    #[getter]
    fn device(&self) -> String {
        self.0.device().to_string()
    }
}

/// Was everything of the manifest checked that is here, when a rank has said what is not? The slices checked and all that was said,
/// each of which was found to be about this manifest.
#[pyfunction]
pub(crate) fn cover<'py>(
    py: Python<'py>,
    manifest: &Bound<'py, TensorManifest>,
    checked: Vec<Bound<'py, Measured>>,
    holds: Vec<(String, Ranges)>,
    not_held: Vec<(String, String)>,
) -> PyResult<Bound<'py, PyDict>> {
    let manifest = Arc::clone(&manifest.get().0);
    let checked: Vec<MeasuredSlice> = checked.iter().map(|slice| slice.get().0.clone()).collect();
    let work = || -> Result<_, Error> {
        let mut coverage = Coverage::new(&manifest);
        coverage.add(&checked)?;
        for (tensor, ranges) in &holds {
            coverage.holds(tensor, &ranges_of(ranges))?;
        }
        for (tensor, why) in &not_held {
            coverage.not_held(tensor, why)?;
        }
        coverage.finish()
    };
    let report = py.detach(work).map_err(|error| to_python(py, &error))?;
    let fields = PyDict::new(py);
    fields.set_item("whole", report.whole)?;
    fields.set_item("in_part", report.in_part)?;
    fields.set_item("not_held", report.not_held)?;
    fields.set_item("bytes", report.bytes)?;
    Ok(fields)
}
