//! Where the memory of an object lies, by the protocols of Python: DLPack, `__cuda_array_interface__`, buffers. What these
//! give in C is read here and nowhere else.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use tensorseal::DeviceKind;

use crate::memory::{Described, Element, raise_usage};

/// What keeps memory alive that an object lent. It is given back with the interpreter attached, in whichever thread.
pub(crate) struct Keep(Option<Kept>);

enum Kept {
    /// The object itself, which says nothing of when it lets go.
    Object {
        _object: Py<PyAny>,
    },
    /// What DLPack gave, to be handed to its deleter, which its own layout names.
    Managed(NonNull<Managed>),
    Versioned(NonNull<Versioned>),
    /// An export of the buffer protocol.
    Buffer(Box<PyBuffer>),
}

// SAFETY: the pointers have one owner, and are touched with the interpreter attached only, as are Python's objects.
unsafe impl Send for Keep {}
// SAFETY: through a shared reference nothing is touched.
unsafe impl Sync for Keep {}

impl Keep {
    /// Keeps an object.
    pub(crate) fn object(object: &Bound<'_, PyAny>) -> Self {
        Self(Some(Kept::Object { _object: object.clone().unbind() }))
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        let Some(mut kept) = self.0.take().map(mem::ManuallyDrop::new) else { return };
        // Where the interpreter has ended, there is nobody to give anything back to.
        let _ = Python::try_attach(|_| {
            // This may be while an exception makes its way: what is called below must find none, and leave this one.
            let mut raised = [ptr::null_mut(); 3];
            let [kind, value, trace] = &mut raised;
            // SAFETY: the interpreter is attached; what is taken here is given back below.
            unsafe { ffi::PyErr_Fetch(kind, value, trace) };
            kept.give_back();
            drop(mem::ManuallyDrop::into_inner(kept));
            let [kind, value, trace] = raised;
            // SAFETY: as above.
            unsafe { ffi::PyErr_Restore(kind, value, trace) };
        });
    }
}

impl Kept {
    /// Gives it back, but for objects, which that happens to when this is dropped.
    fn give_back(&mut self) {
        match self {
            Self::Object { .. } => {}
            Self::Managed(managed) => {
                // SAFETY: it is ours since the capsule was renamed, and given to its deleter once.
                unsafe {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
            }
            Self::Versioned(managed) => {
                // SAFETY: as above.
                unsafe {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
            }
            // SAFETY: it was filled by `PyObject_GetBuffer`, has not moved since, and is released once.
            Self::Buffer(buffer) => unsafe { PyBuffer_Release(&raw mut **buffer) },
        }
    }
}

/// `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Device {
    kind: i32,
    ordinal: i32,
}

/// `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

/// `DLTensor`.
#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// `DLManagedTensorVersioned`. Up to `flags` it is the same in all versions.
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: Tensor,
}

/// The only version of that structure that there is.
const MAJOR: u32 = 1;
/// `DLPACK_FLAG_BITMASK_IS_COPIED`.
const IS_COPIED: u64 = 1 << 1;
/// `DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED`.
const IS_PADDED: u64 = 1 << 2;

/// More dimensions than any library has.
const MOST_DIMENSIONS: usize = 64;

/// Takes what a capsule of DLPack holds, and keeps it. `name` is the tensor's, for errors.
///
/// # Errors
/// `UsageError` for memory that cannot be read where it is; `TypeError` for what is no capsule of DLPack.
pub(crate) fn take(capsule: &Bound<'_, PyAny>, name: &str) -> PyResult<(Described, Keep)> {
    const NEW: [&CStr; 2] = [c"dltensor_versioned", c"used_dltensor_versioned"];
    const OLD: [&CStr; 2] = [c"dltensor", c"used_dltensor"];
    let py = capsule.py();
    let pointer = |[name, used]: [&CStr; 2]| -> PyResult<Option<NonNull<c_void>>> {
        let object = capsule.as_ptr();
        // SAFETY: any object may be asked, and names are constants. Renamed, the capsule no longer deletes what we take.
        unsafe {
            if ffi::PyCapsule_IsValid(object, name.as_ptr()) == 0 {
                return Ok(None);
            }
            let pointer = NonNull::new(ffi::PyCapsule_GetPointer(object, name.as_ptr()));
            if pointer.is_none() || ffi::PyCapsule_SetName(object, used.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(pointer)
        }
    };
    if let Some(managed) = pointer(NEW)? {
        let managed: NonNull<Versioned> = managed.cast();
        let keep = Keep(Some(Kept::Versioned(managed)));
        // SAFETY: a capsule of this name holds one, which lives as long as `keep`; of another version no more is read than
        // is the same in all.
        let (major, minor, flags) = unsafe { (managed.as_ref().major, managed.as_ref().minor, managed.as_ref().flags) };
        if major != MAJOR {
            let why = format!("it gives DLPack {major}.{minor}, and version {MAJOR} is understood");
            return Err(raise_usage(py, name, &why));
        }
        if flags & IS_COPIED != 0 {
            let why = "what it gives is a copy of its memory: pass the tensor that the memory belongs to";
            return Err(raise_usage(py, name, why));
        }
        // SAFETY: as above, and of this version the rest is there.
        let described = unsafe { described(py, &managed.as_ref().tensor, flags & IS_PADDED != 0, name) }?;
        return Ok((described, keep));
    }
    let Some(managed) = pointer(OLD)? else {
        return Err(PyTypeError::new_err(format!("{name}: __dlpack__() did not give an unused capsule of DLPack")));
    };
    let managed: NonNull<Managed> = managed.cast();
    let keep = Keep(Some(Kept::Managed(managed)));
    // SAFETY: a capsule of this name holds one, which lives as long as `keep`.
    let described = unsafe { described(py, &managed.as_ref().tensor, false, name) }?;
    Ok((described, keep))
}

/// What a tensor of DLPack says.
///
/// # Safety
/// Its shape and strides are as long as it says.
unsafe fn described(py: Python<'_>, tensor: &Tensor, padded: bool, name: &str) -> PyResult<Described> {
    let wrong = |why: &str| raise_usage(py, name, why);
    let device = device_kind(tensor.device.kind, tensor.device.ordinal).map_err(|why| wrong(&why))?;
    let ndim = usize::try_from(tensor.ndim).ok().filter(|&ndim| ndim <= MOST_DIMENSIONS);
    let ndim = ndim.ok_or_else(|| wrong(&format!("it has {} dimensions", tensor.ndim)))?;
    let list = |start: *const i64| {
        if ndim == 0 || start.is_null() {
            return Vec::new();
        }
        // SAFETY: so many are there, as the caller promises.
        unsafe { slice::from_raw_parts(start, ndim) }.to_vec()
    };
    if ndim > 0 && tensor.shape.is_null() {
        return Err(wrong("it has no shape"));
    }
    let shape = list(tensor.shape).into_iter().map(u64::try_from).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| wrong("it has a dimension of less than 0"))?;
    let strides = (ndim > 0 && !tensor.strides.is_null()).then(|| list(tensor.strides));
    let element = Element::of_dlpack(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes, padded);
    let element = element.ok_or_else(|| {
        let DataType { code, bits, lanes } = tensor.dtype;
        wrong(&format!("its elements are of no type that bytes are (DLPack type {code}, {bits} bits, {lanes} lanes)"))
    })?;
    let address = (tensor.data.expose_provenance() as u64).checked_add(tensor.byte_offset);
    let address = address.ok_or_else(|| wrong("its offset leads beyond all addresses"))?;
    Described::in_elements(device, address, element, shape, strides).map_err(|why| wrong(&why))
}

/// The device that DLPack numbers so.
///
/// # Errors
/// What to do about one that is none of ours.
pub(crate) fn device_kind(kind: i32, ordinal: i32) -> Result<DeviceKind, String> {
    let other = match kind {
        // Of the host, also where it is pinned for a device.
        1 | 3 | 11 => return Ok(DeviceKind::Cpu),
        // CUDA, also managed.
        2 | 13 => {
            return usize::try_from(ordinal)
                .map(DeviceKind::Cuda)
                .map_err(|_| format!("it is on CUDA device {ordinal}"));
        }
        4 => "OpenCL",
        7 => "Vulkan",
        8 => "Metal",
        9 => "VPI",
        10 => "ROCm",
        12 => "an extension of its library",
        14 => "oneAPI (XPU)",
        15 => "WebGPU",
        16 => "Hexagon",
        17 => "MAIA",
        18 => "Trainium",
        other => {
            return Err(format!(
                "it is on a device of kind {other}; memory of the host and of CUDA devices is read. Copy it to the CPU"
            ));
        }
    };
    Err(format!("it is on {other}; memory of the host and of CUDA devices is read. Copy it to the CPU"))
}

/// `Py_buffer`. CPython has had it so since 3.3; it belongs to the stable interface since 3.11, and to what 3.10 exports.
#[repr(C)]
struct PyBuffer {
    buf: *mut c_void,
    obj: *mut ffi::PyObject,
    len: ffi::Py_ssize_t,
    itemsize: ffi::Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut ffi::Py_ssize_t,
    strides: *mut ffi::Py_ssize_t,
    suboffsets: *mut ffi::Py_ssize_t,
    internal: *mut c_void,
}

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut ffi::PyObject, view: *mut PyBuffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut PyBuffer);
    fn PyObject_CheckBuffer(object: *mut ffi::PyObject) -> c_int;
}

/// `PyBUF_FULL_RO`: shape, strides, suboffsets and format, of memory that need not be writable.
const FULL_READ_ONLY: c_int = 0x0100 | 0x0010 | 0x0008 | 0x0004;

/// Whether an object has the buffer protocol.
pub(crate) fn has_buffer(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: any object may be asked.
    unsafe { PyObject_CheckBuffer(object.as_ptr()) == 1 }
}

/// Takes the memory of an object with the buffer protocol.
///
/// # Errors
/// `UsageError` for memory that cannot be read where it is, and what the object says.
pub(crate) fn buffer(object: &Bound<'_, PyAny>, name: &str) -> PyResult<(Described, Keep)> {
    let py = object.py();
    let wrong = |why: &str| raise_usage(py, name, why);
    let mut view = Box::new(PyBuffer {
        buf: ptr::null_mut(),
        obj: ptr::null_mut(),
        len: 0,
        itemsize: 0,
        readonly: 0,
        ndim: 0,
        format: ptr::null_mut(),
        shape: ptr::null_mut(),
        strides: ptr::null_mut(),
        suboffsets: ptr::null_mut(),
        internal: ptr::null_mut(),
    });
    // SAFETY: it fills the view, which stays where it is until it is released.
    if unsafe { PyObject_GetBuffer(object.as_ptr(), &raw mut *view, FULL_READ_ONLY) } != 0 {
        let error = PyErr::take(py).unwrap_or_else(|| PyBufferError::new_err("no reason was given"));
        return Err(wrong(&format!("it does not give its memory: {error}")));
    }
    let (start, item) = (view.buf.expose_provenance() as u64, view.itemsize);
    let (shape, strides, suboffsets, format) = (view.shape, view.strides, view.suboffsets, view.format);
    let (ndim, len) = (view.ndim, view.len);
    let keep = Keep(Some(Kept::Buffer(view)));
    let ndim = usize::try_from(ndim).ok().filter(|&ndim| ndim <= MOST_DIMENSIONS);
    let ndim = ndim.ok_or_else(|| wrong("it has too many dimensions"))?;
    let list = |start: *mut ffi::Py_ssize_t| {
        // SAFETY: so many are there, as the protocol has it, as long as the view is not released.
        if ndim == 0 || start.is_null() { Vec::new() } else { unsafe { slice::from_raw_parts(start, ndim) }.to_vec() }
    };
    if list(suboffsets).iter().any(|&offset| offset >= 0) {
        return Err(wrong("its rows are found through pointers; give a contiguous copy"));
    }
    let item = u64::try_from(item).unwrap_or_default();
    let format = if format.is_null() {
        "B".to_owned()
    } else {
        // SAFETY: a format is a string that ends in 0, and lives as long as the view.
        unsafe { CStr::from_ptr(format) }.to_string_lossy().into_owned()
    };
    let element = Element::of_format(&format, item).map_err(|why| wrong(&why))?;
    let shape = if shape.is_null() && ndim == 1 {
        vec![u64::try_from(len).unwrap_or_default().checked_div(item).unwrap_or_default()]
    } else {
        list(shape).into_iter().map(|size| u64::try_from(size).unwrap_or_default()).collect()
    };
    let strides = (!strides.is_null()).then(|| list(strides).into_iter().map(|stride| stride as i64).collect());
    let described = Described::in_bytes(DeviceKind::Cpu, start, element, shape, strides).map_err(|why| wrong(&why))?;
    Ok((described, keep))
}
