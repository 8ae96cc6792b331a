//! Tensors where they are: an object becomes a [`Lent`] by what protocol it has, and digests are of these.

use std::sync::Arc;

use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tensorseal::DeviceKind;
use tensorseal::format::Dtype;
use tensorseal::layout::Extent;
use tensorseal::resident::{digest_of_parts, digest_resident};

use crate::dlpack::{self, Keep};
use crate::error::usage;
use crate::memory::{self, Described, Element, Memory, Taken, Unusable, raise_usage};

/// The newest version of DLPack that is asked for.
const DLPACK: (u32, u32) = (1, 1);

/// The stream that is meant where none is: of CUDA the legacy default one, behind which all others wait.
const LEGACY: u64 = 1;

/// The memory of a tensor, for as long as this object is there.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Lent(Arc<Taken>);

impl Lent {
    pub(crate) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl Lent {
    /// What errors call it.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// `cpu`, or `cuda:N`.
    #[getter]
    fn device(&self) -> String {
        self.0.described.device.to_string()
    }

    /// Of its first element.
    #[getter]
    fn address(&self) -> u64 {
        self.0.described.address
    }

    /// Bytes of all its elements.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.described.bytes().map_err(|why| raise_usage(py, &self.0.name, &why))
    }

    /// The type's name in safetensors, if it has one there.
    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        self.0.described.dtype.map(Dtype::name)
    }

    /// The type's name where it comes from.
    #[getter]
    fn type_name(&self) -> &str {
        &self.0.described.type_name
    }

    /// In elements of `dtype`.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.described.shape)
    }

    /// In elements of `dtype`.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.described.strides)
    }

    /// The stream behind which it is what it shall be.
    #[getter]
    fn stream(&self) -> Option<u64> {
        self.0.stream
    }
}

/// The memory of an object that has DLPack, `__cuda_array_interface__` or the buffer protocol, the first of these that it
/// has. `stream` is DLPack's: `None` for the object's own order.
#[pyfunction]
#[pyo3(signature = (tensor, *, name, stream=None))]
pub(crate) fn lend(tensor: &Bound<'_, PyAny>, name: String, stream: Option<i64>) -> PyResult<Lent> {
    let py = tensor.py();
    let has = |attribute: &str| match tensor.getattr(attribute) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(None),
        Err(error) => Err(error),
    };
    if let (Some(give), Some(where_)) = (has("__dlpack__")?, has("__dlpack_device__")?) {
        return by_dlpack(tensor, &give, &where_, name, stream);
    }
    if let Some(interface) = has("__cuda_array_interface__")? {
        return by_cuda(tensor, &interface, name, stream);
    }
    if dlpack::has_buffer(tensor) {
        return by_buffer(tensor, name);
    }
    let kind = tensor.get_type().name()?;
    let why = format!(
        "{kind} objects have neither DLPack (__dlpack__ and __dlpack_device__) nor __cuda_array_interface__ nor the buffer \
         protocol"
    );
    Err(raise_usage(py, &name, &why))
}

fn by_buffer(tensor: &Bound<'_, PyAny>, name: String) -> PyResult<Lent> {
    let (described, keep) = dlpack::buffer(tensor, &name)?;
    Ok(Lent(Arc::new(Taken::new(name, described, None, keep))))
}

/// As a stream's number for the library: of -1 the caller says that nothing is to be waited for.
fn after(py: Python<'_>, name: &str, stream: Option<i64>) -> PyResult<Option<u64>> {
    match stream {
        None => Ok(Some(LEGACY)),
        Some(-1) => Ok(None),
        // CUDA's own number for it, which DLPack does not allow.
        Some(0) => Ok(Some(LEGACY)),
        Some(handle) => u64::try_from(handle).map(Some).map_err(|_| raise_usage(py, name, "no stream has that number")),
    }
}

fn by_dlpack(
    tensor: &Bound<'_, PyAny>,
    give: &Bound<'_, PyAny>,
    where_: &Bound<'_, PyAny>,
    name: String,
    stream: Option<i64>,
) -> PyResult<Lent> {
    let py = tensor.py();
    let (kind, ordinal): (i32, i32) = where_.call0()?.extract()?;
    let device = dlpack::device_kind(kind, ordinal).map_err(|why| raise_usage(py, &name, &why))?;
    let after = if matches!(device, DeviceKind::Cuda(_)) { after(py, &name, stream)? } else { None };
    let asked = match (&device, after) {
        (DeviceKind::Cuda(_), None) => Some(-1),
        (_, handle) => handle.and_then(|handle| i64::try_from(handle).ok()),
    };
    let arguments = |version: bool, copy: bool| {
        let named = PyDict::new(py);
        if let Some(stream) = asked {
            named.set_item("stream", stream)?;
        }
        if version {
            named.set_item("max_version", DLPACK)?;
        }
        if copy {
            named.set_item("copy", false)?;
        }
        Ok::<_, PyErr>(named)
    };
    // What was added to the protocol later, an object need not know.
    let mut given = give.call((), Some(&arguments(true, true)?));
    for version in [true, false] {
        if given.as_ref().is_err_and(|error| error.is_instance_of::<PyTypeError>(py)) {
            given = give.call((), Some(&arguments(version, false)?));
        }
    }
    let capsule = match given {
        Ok(capsule) => capsule,
        // Types that DLPack has no code for, and memory that old versions of it cannot call read-only.
        // A buffer is of the host: of what says that it is elsewhere, it would be something else.
        Err(error)
            if device == DeviceKind::Cpu && error.is_instance_of::<PyBufferError>(py) && dlpack::has_buffer(tensor) =>
        {
            return by_buffer(tensor, name);
        }
        Err(error) => return Err(raise_usage(py, &name, &format!("it does not give its memory: {error}"))),
    };
    let (described, keep) = dlpack::take(&capsule, &name)?;
    if described.device != device {
        let why = format!("it says that it is on {device}, and gives memory of {}", described.device);
        return Err(raise_usage(py, &name, &why));
    }
    Ok(Lent(Arc::new(Taken::new(name, described, after, keep))))
}

fn by_cuda(
    tensor: &Bound<'_, PyAny>,
    interface: &Bound<'_, PyAny>,
    name: String,
    stream: Option<i64>,
) -> PyResult<Lent> {
    let py = tensor.py();
    let wrong = |why: &str| raise_usage(py, &name, why);
    let of = interface.cast::<PyDict>().map_err(|_| wrong("its __cuda_array_interface__ is no dict"))?;
    let get = |key: &str| Ok::<_, PyErr>(of.get_item(key)?.filter(|value| !value.is_none()));
    let must = |key: &str| get(key)?.ok_or_else(|| wrong(&format!("its __cuda_array_interface__ has no {key:?}")));
    let odd =
        |key: &'static str| move |error: PyErr| wrong(&format!("the {key:?} of its __cuda_array_interface__: {error}"));
    let version: u32 = must("version")?.extract().map_err(odd("version"))?;
    if !(2..=3).contains(&version) {
        return Err(wrong(&format!("its __cuda_array_interface__ is of version {version}; 2 and 3 are understood")));
    }
    if get("mask")?.is_some() {
        return Err(wrong("it has a mask, of which its bytes say nothing; give the data without it"));
    }
    let (address, _): (u64, bool) = must("data")?.extract().map_err(odd("data"))?;
    let typestr: String = must("typestr")?.extract().map_err(odd("typestr"))?;
    let shape: Vec<u64> = must("shape")?.extract().map_err(odd("shape"))?;
    let strides: Option<Vec<i64>> =
        get("strides")?.map(|strides| strides.extract()).transpose().map_err(odd("strides"))?;
    let own: Option<i64> = get("stream")?.map(|stream| stream.extract()).transpose().map_err(odd("stream"))?;
    if own == Some(0) {
        return Err(wrong("its __cuda_array_interface__ names stream 0, which may mean two streams: 1 or 2 say which"));
    }
    let after = match (stream, own, version) {
        (Some(_), ..) => after(py, &name, stream)?,
        // Nothing needs to be waited for, says version 3. Version 2 does not say.
        (None, None, 3..) => None,
        (None, own, _) => after(py, &name, own)?,
    };
    let element = Element::of_typestr(&typestr).map_err(|why| wrong(&why))?;
    // The interface does not say which device. The driver does, for whatever has an address.
    let ordinal = if address == 0 { Ok(0) } else { py.detach(|| memory::ordinal_of(address)) };
    let device = DeviceKind::Cuda(ordinal.map_err(|error| Unusable::Tensor(name.clone(), error).to_python(py))?);
    let described = Described::in_bytes(device, address, element, shape, strides).map_err(|why| wrong(&why))?;
    Ok(Lent(Arc::new(Taken::new(name, described, after, Keep::object(tensor)))))
}

/// Memory that the package's Python knows the place of: a torch tensor's, a NumPy array's. `owner` keeps it. A stored element has
/// `item` bytes, and is `per` elements of `dtype`; `strides` are in bytes.
#[pyfunction]
#[pyo3(signature = (owner, *, name, device, address, dtype, type_name, item, per, shape, strides, stream))]
#[allow(clippy::too_many_arguments, reason = "they are Python's, where each has its name")]
pub(crate) fn lend_at(
    owner: &Bound<'_, PyAny>,
    name: String,
    device: &str,
    address: u64,
    dtype: Option<&str>,
    type_name: String,
    item: u64,
    per: u64,
    shape: Vec<u64>,
    strides: Vec<i64>,
    stream: Option<i64>,
) -> PyResult<Lent> {
    let py = owner.py();
    let wrong = |why: &str| raise_usage(py, &name, why);
    let device: DeviceKind = device.parse().map_err(|why: String| wrong(&why))?;
    let known = |dtype: &str| Dtype::from_safetensors(dtype).ok_or_else(|| wrong(&format!("no type is {dtype:?}")));
    let dtype = dtype.map(known).transpose()?;
    let after = if matches!(device, DeviceKind::Cuda(_)) { after(py, &name, stream)? } else { None };
    let bits = item.checked_mul(8).filter(|&bits| bits > 0).ok_or_else(|| wrong("its elements have no size"))?;
    let element = Element { dtype, name: type_name, bits, per };
    let described = Described::in_bytes(device, address, element, shape, Some(strides)).map_err(|why| wrong(&why))?;
    Ok(Lent(Arc::new(Taken::new(name, described, after, Keep::object(owner)))))
}

/// What was passed, to be used without the interpreter.
pub(crate) fn taken(tensors: &[Bound<'_, Lent>]) -> Vec<Arc<Taken>> {
    tensors.iter().map(|tensor| tensor.get().taken()).collect()
}

/// BLAKE3 digests, in hexadecimal, of the bytes of tensors in C order: one submit for each device and stream.
#[pyfunction]
pub(crate) fn digests(py: Python<'_>, tensors: Vec<Bound<'_, Lent>>) -> PyResult<Vec<String>> {
    let tensors = taken(&tensors);
    let work = || -> Result<Vec<String>, Unusable> {
        let memory = Memory::new(&tensors)?;
        let mut digests = vec![String::new(); tensors.len()];
        for (index, device) in memory.devices().iter().enumerate() {
            let own: Vec<usize> = memory.on(index).collect();
            let layouts = own.iter().map(|&tensor| memory.layout(tensor)).collect::<Result<Vec<_>, _>>()?;
            let measured = digest_resident(device.backend, &layouts, device.after)?;
            for (tensor, measured) in own.into_iter().zip(measured) {
                digests[tensor] = measured.digest.to_hex();
            }
        }
        Ok(digests)
    };
    py.detach(work).map_err(|error| error.to_python(py))
}

/// The BLAKE3 digest, in hexadecimal, of the bytes of all parts, one after the other, wherever each lies.
#[pyfunction]
pub(crate) fn digest_parts(py: Python<'_>, parts: Vec<Bound<'_, Lent>>) -> PyResult<String> {
    let parts = taken(&parts);
    if parts.is_empty() {
        return Err(usage(py, "there is no part, so there is nothing to take a digest of"));
    }
    let work = || -> Result<String, Unusable> {
        let memory = Memory::new(&parts)?;
        let mut pieces = Vec::new();
        for (index, (_, device, _)) in memory.tensors.iter().enumerate() {
            let layout = memory.layout(index)?;
            pieces.extend(layout.extents().iter().map(|extent: &Extent<'_, _>| (Some(*device), *extent)));
        }
        Ok(digest_of_parts(&memory.devices(), pieces)?.to_hex())
    };
    py.detach(work).map_err(|error| error.to_python(py))
}
