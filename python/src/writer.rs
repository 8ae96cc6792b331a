//! Files that are hashed while they are written, and the signature over them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::Map;
use tensorseal::device::cpu::Digests;
use tensorseal::device::{AnyBuffer, Backend, DeviceError};
use tensorseal::digest::Algorithm;
use tensorseal::format::Dtype;
use tensorseal::report::json::{self, Head};
use tensorseal::sign::{self, MeantTensor, Tensors};
use tensorseal::tensors::{FileTensors, Piece, TileDigest};
use tensorseal::{Digest, Error, SignOptions};

use crate::error::{object, raised, to_python, usage};
use crate::memory::{Memory, Unusable, raise_usage};
use crate::progress::{away, away_or_raise};
use crate::signed::{dtype_of, place};
use crate::tensors::{Lent, taken};
use crate::verbs::{device_of, hash_of, symlinks_of};
use crate::who::Signer;

/// Type, shape, and the digests of tiles by number.
type Meant = (String, Vec<u64>, BTreeMap<usize, String>);

/// Bytes that are copied from a device at a time.
const DOWN: usize = 32 << 20;

/// What is there until it is used up.
struct Once<T>(Mutex<Option<T>>);

impl<T: Send> Once<T> {
    const fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with it, without the GIL.
    fn with<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut T) -> Result<R, Error> + Send) -> PyResult<R> {
        let done = py.detach(|| self.lock().as_mut().map(work));
        done.ok_or_else(|| used_up(py))?.map_err(|error| to_python(py, &error))
    }

    /// Uses it up, without the GIL.
    fn end<R: Send>(&self, py: Python<'_>, work: impl FnOnce(T) -> Result<R, Error> + Send) -> PyResult<R> {
        // Taken first: the lock is not held meanwhile.
        let done = py.detach(|| {
            let taken = self.lock().take();
            taken.map(work)
        });
        done.ok_or_else(|| used_up(py))?.map_err(|error| to_python(py, &error))
    }
}

fn used_up(py: Python<'_>) -> PyErr {
    usage(py, "this file was finished, published or discarded before")
}

/// A file of a model that is hashed while it is written, under a temporary name.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Writer(Once<sign::HashingWriter>);

#[pymethods]
impl Writer {
    /// Begins the file `name` of the model in the folder `model`, of `size` bytes.
    #[new]
    #[pyo3(signature = (model, name, size, *, tensors=false))]
    fn new(py: Python<'_>, model: PathBuf, name: &str, size: u64, tensors: bool) -> PyResult<Self> {
        let made = py.detach(|| sign::HashingWriter::create(&model, name, size, tensors));
        made.map(|writer| Self(Once::new(writer))).map_err(|error| to_python(py, &error))
    }

    /// Takes the next bytes: memory in C order, of the host, or of a device, from which it is copied some at a time. What is
    /// queued on a device's stream has to be done, as it is when a digest was taken behind it.
    fn write(&self, py: Python<'_>, bytes: &Bound<'_, Lent>) -> PyResult<()> {
        let lent = bytes.get().taken();
        let len = lent.described.bytes().map_err(|why| raise_usage(py, &lent.name, &why))?;
        if !matches!(lent.described.outer_steps(), Ok(None)) {
            return Err(raise_usage(py, &lent.name, "it does not lie in one piece: give a contiguous copy"));
        }
        let work = || -> Result<Option<()>, Unusable> {
            let memory = Memory::new(std::slice::from_ref(&lent))?;
            let mut writer = self.0.lock();
            let Some(writer) = writer.as_mut() else { return Ok(None) };
            let none = || DeviceError::NoResult { device: lent.described.device.clone() };
            let devices = memory.devices();
            let (Some(device), Some((_, _, buffer))) = (devices.first(), memory.tensors.first()) else {
                return Err(none().into());
            };
            if let AnyBuffer::Cpu(memory) = buffer {
                let bytes = usize::try_from(len).ok().and_then(|len| memory.bytes().get(..len));
                writer.write(bytes.ok_or_else(none)?)?;
                return Ok(Some(()));
            }
            for at in (0..len).step_by(DOWN) {
                let range = at..len.min(at.saturating_add(DOWN as u64));
                writer.write(&device.backend.download(buffer, range)?)?;
            }
            Ok(Some(()))
        };
        // Also devices are opened, and asked about memory, without the interpreter.
        py.detach(work).map_err(|error| error.to_python(py))?.ok_or_else(|| used_up(py))
    }

    /// When all bytes were taken: has them written to the disk.
    fn finish(&self, py: Python<'_>) -> PyResult<Finished> {
        Ok(Finished(Once::new(self.0.end(py, sign::HashingWriter::finish)?)))
    }

    /// Removes what was written. After `finish`, or again, it does nothing.
    fn discard(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

/// A file whose bytes are all on the disk, under a temporary name.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Finished(Once<sign::Finished>);

#[pymethods]
impl Finished {
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.with(py, |file| Ok(file.size()))
    }

    #[getter]
    fn sha256(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.0.with(py, |file| Ok(hex_of(file.digests(), Algorithm::Sha256)))
    }

    #[getter]
    fn blake3(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.0.with(py, |file| Ok(hex_of(file.digests(), Algorithm::Blake3)))
    }

    /// Its tensors: type, shape and the digests of their tiles. `None` if they were not wanted.
    #[getter]
    fn tensors(&self, py: Python<'_>) -> PyResult<Option<BTreeMap<String, Meant>>> {
        self.0.with(py, |file| Ok(file.tensors().map(tensors_of)))
    }

    /// Raises `VerifyError` unless the file has this BLAKE3 digest and these tensors the digests of these tiles.
    fn compare(&self, py: Python<'_>, blake3: &str, tensors: BTreeMap<String, Meant>) -> PyResult<()> {
        let digest = Digest::from_hex(Algorithm::Blake3, blake3);
        let digest = digest.ok_or_else(|| usage(py, format!("{blake3:?} is no BLAKE3 digest in hexadecimal")))?;
        let tensors = meant_of(py, tensors)?;
        self.0.with(py, |file| file.compare(&digest, &tensors))
    }

    /// Gives the file its name.
    fn publish(&self, py: Python<'_>) -> PyResult<Written> {
        self.0.end(py, sign::Finished::publish).map(Written)
    }

    /// Removes it. After `publish`, or again, it does nothing.
    fn discard(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

/// A file that was hashed while it was written, or as somebody else left it; to be signed without another reading.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Written(sign::Written);

#[pymethods]
impl Written {
    /// A file that others wrote, as it is now.
    #[staticmethod]
    #[pyo3(signature = (model, name, *, tensors=false, progress=None))]
    fn of_file(
        py: Python<'_>,
        model: PathBuf,
        name: &str,
        tensors: bool,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        away_or_raise(py, progress.as_ref(), |watch| sign::Written::of_file(&model, name, tensors, watch)).map(Self)
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    #[getter]
    fn sha256(&self) -> Option<String> {
        hex_of(self.0.digests(), Algorithm::Sha256)
    }

    #[getter]
    fn blake3(&self) -> Option<String> {
        hex_of(self.0.digests(), Algorithm::Blake3)
    }

    #[getter]
    fn tensors(&self) -> Option<BTreeMap<String, Meant>> {
        self.0.tensors().map(tensors_of)
    }

    /// Whether it was written on this machine since it was started.
    #[getter]
    fn is_local(&self) -> bool {
        self.0.is_local()
    }

    /// Raises `VerifyError` unless these tensors of the file have the digests of these tiles.
    fn compare(&self, py: Python<'_>, tensors: BTreeMap<String, Meant>) -> PyResult<()> {
        let tensors = meant_of(py, tensors)?;
        self.0.compare(&tensors).map_err(|error| to_python(py, &error))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        sign::Written::from_bytes(data).map(Self).map_err(|error| to_python(py, &error))
    }
}

fn hex_of(digests: &Digests, algorithm: Algorithm) -> Option<String> {
    digests.get(algorithm).map(|digest| digest.to_hex())
}

fn hex(digest: &TileDigest) -> Option<String> {
    Digest::new(Algorithm::Blake3, digest).map(|digest| digest.to_hex())
}

fn tensors_of(tensors: &FileTensors) -> BTreeMap<String, Meant> {
    let tiles =
        |tiles: &[TileDigest]| tiles.iter().enumerate().filter_map(|(at, tile)| Some((at, hex(tile)?))).collect();
    let all = tensors.tensors().iter();
    all.map(|of| (of.name().to_owned(), (of.dtype().name().to_owned(), of.shape().to_vec(), tiles(of.tiles()))))
        .collect()
}

fn meant_of(py: Python<'_>, tensors: BTreeMap<String, Meant>) -> PyResult<BTreeMap<String, MeantTensor>> {
    let tile = |(at, hex): (usize, String)| {
        let digest = Digest::from_hex(Algorithm::Blake3, &hex).and_then(|digest| digest.as_bytes().try_into().ok());
        let digest: Option<TileDigest> = digest;
        Ok((at, digest.ok_or_else(|| usage(py, format!("{hex:?} is no BLAKE3 digest in hexadecimal")))?))
    };
    let tensor = |(name, (dtype, shape, tiles)): (String, Meant)| {
        let known = Dtype::from_safetensors(&dtype);
        let dtype = known.ok_or_else(|| usage(py, format!("tensor {name:?}: no type is {dtype:?}")))?;
        let tiles = tiles.into_iter().map(tile).collect::<PyResult<_>>()?;
        Ok((name, MeantTensor { dtype, shape, tiles }))
    };
    tensors.into_iter().map(tensor).collect()
}

/// The digests of all tiles of whole tensors, where they lie: type, shape and digests of each. One submit a device.
#[pyfunction]
pub(crate) fn tiles(py: Python<'_>, tensors: Vec<Bound<'_, Lent>>) -> PyResult<Vec<Meant>> {
    let tensors = taken(&tensors);
    let types = tensors.iter().map(|tensor| dtype_of(py, tensor)).collect::<PyResult<Vec<_>>>()?;
    let work = || -> Result<Vec<Meant>, Unusable> {
        let memory = Memory::new(&tensors)?;
        let mut found: Vec<Meant> = Vec::with_capacity(tensors.len());
        for (tensor, dtype) in tensors.iter().zip(&types) {
            found.push((dtype.name().to_owned(), tensor.described.shape.clone(), BTreeMap::new()));
        }
        for (index, device) in memory.devices().iter().enumerate() {
            let own: Vec<usize> = memory.on(index).collect();
            let mut pieces = Vec::with_capacity(own.len());
            for &tensor in &own {
                let (taken, _, buffer) = &memory.tensors[tensor];
                let shape = &taken.described.shape;
                let ranges = shape.iter().map(|&size| 0..size).collect();
                pieces.push(Piece { dtype: types[tensor], shape, ranges, place: place(taken, buffer)? });
            }
            let digests = tensorseal::tensors::tile_digests(device.backend, &pieces, device.after)?;
            for (tensor, digests) in own.into_iter().zip(digests) {
                found[tensor].2 = digests.iter().filter_map(|(tile, digest)| Some((*tile, hex(digest)?))).collect();
            }
        }
        Ok(found)
    };
    py.detach(work).map_err(|error| error.to_python(py))
}

/// Signs the model, of which the files in `written` are not read again, and writes the bundle. The report of
/// `tensorseal sign --json`, as a `dict`.
#[pyfunction]
#[pyo3(signature = (model, bundle, signer, written, *, hash, tensors, ignore, symlinks, device, progress))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn sign_written<'py>(
    py: Python<'py>,
    model: PathBuf,
    bundle: PathBuf,
    signer: &Bound<'py, Signer>,
    written: Vec<Bound<'py, Written>>,
    hash: &str,
    tensors: bool,
    ignore: Vec<PathBuf>,
    symlinks: &str,
    device: &str,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = SignOptions {
        hash: hash_of(py, hash)?,
        symlinks: symlinks_of(py, symlinks)?,
        ignore_paths: ignore,
        tensors: if tensors { Tensors::InModel } else { Tensors::AsFound },
        ..SignOptions::default()
    };
    let written: Vec<sign::Written> = written.iter().map(|written| written.get().0.clone()).collect();
    let signer = signer.get();
    let mut warnings = Vec::new();
    let said = &mut warnings;
    let found = away(py, progress.as_ref(), |watch| {
        let device = device_of(device)?;
        let signer = signer.open(said)?;
        let signed = sign::sign_written(&model, &bundle, &*signer, &options, written, &device, watch)?;
        signed.write(&bundle)?;
        Ok(json::signing(&signed.hashed, &options, model.is_file()))
    })?;
    let mut report: Map<_, _> = Head::of("sign", &model, Some(&bundle), found.as_ref().err()).into();
    match found {
        Ok(fields) => json::insert(&mut report, fields),
        Err(error) => {
            json::insert(&mut report, json::error(&error));
            return Err(raised(py, &error, &report));
        }
    }
    let report = object(py, &report)?;
    report.set_item("warnings", warnings)?;
    Ok(report)
}

/// Removes an older signature of the model, and its tensor manifest.
#[pyfunction]
pub(crate) fn withdraw(py: Python<'_>, model: PathBuf, bundle: PathBuf) -> PyResult<()> {
    py.detach(|| sign::withdraw(&model, &bundle)).map_err(|error| to_python(py, &error))
}

/// Removes what writers of files of tensors left when they were killed.
#[pyfunction]
pub(crate) fn sweep(py: Python<'_>, model: PathBuf) -> PyResult<()> {
    py.detach(|| sign::sweep_leftovers(&model)).map_err(|error| to_python(py, &error))
}
