//! Memory that is ours, lent to others by DLPack: the capsules, and what is in them. `dlpack.rs` reads those of others.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;

/// Memory to lend, in C order, as DLPack has it.
pub(crate) struct Lent {
    /// Of the first element.
    pub(crate) address: u64,
    /// `DLDevice`: kind and ordinal.
    pub(crate) device: (i32, i32),
    /// `DLDataType`: code, bits and lanes.
    pub(crate) dtype: (u8, u8, u16),
    pub(crate) shape: Vec<i64>,
    /// Keeps the memory, which may be read and written to as long as this is not dropped.
    pub(crate) owner: Arc<dyn Any + Send + Sync>,
}

/// `DLDevice`.
#[repr(C)]
struct Device {
    kind: i32,
    ordinal: i32,
}

/// `DLDataType`.
#[repr(C)]
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
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: Tensor,
}

/// The version whose types those here are: the floats of 8 bits came with 1.1.
const VERSION: (u32, u32) = (1, 1);

/// A structure that DLPack manages, with all that it points to. A consumer gives it back to `delete`.
struct Kept<M> {
    /// What the consumer sees. Nothing is known to move it: the box is given away as a pointer.
    managed: M,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _owner: Arc<dyn Any + Send + Sync>,
}

/// What both structures have.
trait Structure: Sized {
    const NAME: &'static CStr;
    fn new(tensor: Tensor) -> Self;
    fn tensor(&mut self) -> &mut Tensor;
    fn context(&mut self) -> &mut *mut c_void;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Structure for Managed {
    const NAME: &'static CStr = c"dltensor";

    fn new(tensor: Tensor) -> Self {
        Self { tensor, context: std::ptr::null_mut(), deleter: Some(delete::<Self>) }
    }

    fn tensor(&mut self) -> &mut Tensor {
        &mut self.tensor
    }

    fn context(&mut self) -> &mut *mut c_void {
        &mut self.context
    }

    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl Structure for Versioned {
    const NAME: &'static CStr = c"dltensor_versioned";

    fn new(tensor: Tensor) -> Self {
        let (major, minor) = VERSION;
        Self { major, minor, context: std::ptr::null_mut(), deleter: Some(delete::<Self>), flags: 0, tensor }
    }

    fn tensor(&mut self) -> &mut Tensor {
        &mut self.tensor
    }

    fn context(&mut self) -> &mut *mut c_void {
        &mut self.context
    }

    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

/// The capsule of `__dlpack__`, of the versioned structure or of the old one.
///
/// # Errors
/// Python's, if there is no memory for it.
pub(crate) fn capsule<'py>(py: Python<'py>, lent: Lent, versioned: bool) -> PyResult<Bound<'py, PyAny>> {
    if versioned { wrapped::<Versioned>(py, lent) } else { wrapped::<Managed>(py, lent) }
}

fn wrapped<'py, M: Structure>(py: Python<'py>, lent: Lent) -> PyResult<Bound<'py, PyAny>> {
    let Lent { address, device: (kind, ordinal), dtype: (code, bits, lanes), shape, owner } = lent;
    // A dimension of none has no element for a stride to lead to.
    let mut next = 1_i64;
    let mut strides = Vec::with_capacity(shape.len());
    for &size in shape.iter().rev() {
        strides.push(next);
        next = next.saturating_mul(size.max(1));
    }
    strides.reverse();
    let tensor = Tensor {
        data: std::ptr::with_exposed_provenance_mut(address as usize),
        device: Device { kind, ordinal },
        // A header has no more than 64.
        ndim: shape.len() as i32,
        dtype: DataType { code, bits, lanes },
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let mut kept = Box::new(Kept { managed: M::new(tensor), shape, strides, _owner: owner });
    let (shape, strides) = (kept.shape.as_mut_ptr(), kept.strides.as_mut_ptr());
    let tensor = kept.managed.tensor();
    (tensor.shape, tensor.strides) = (shape, strides);
    let kept = Box::into_raw(kept);
    // SAFETY: it has just been leaked, and nobody else knows of it.
    let managed = unsafe {
        *(*kept).managed.context() = kept.cast();
        &raw mut (*kept).managed
    };
    // SAFETY: the interpreter is attached; the pointer is not null, the name is a constant, and `forget` is for such capsules.
    let capsule = unsafe { ffi::PyCapsule_New(managed.cast(), M::NAME.as_ptr(), Some(forget::<M>)) };
    if capsule.is_null() {
        // SAFETY: no capsule has it, so that it is given back here, once.
        unsafe { delete::<M>(managed) };
    }
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// Ends a capsule. One that was consumed has another name, and what was in it belongs to the consumer.
unsafe extern "C" fn forget<M: Structure>(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this for a capsule of ours, with the interpreter attached. What has our name was not consumed, and is
    // given to its own deleter, which nobody else will do.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) == 0 {
            return;
        }
        let managed = NonNull::new(ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()).cast::<M>());
        if let Some(managed) = managed
            && let Some(deleter) = managed.as_ref().deleter()
        {
            deleter(managed.as_ptr());
        }
    }
}

/// Takes a structure back from whoever consumed it: in any thread, and without the interpreter.
unsafe extern "C" fn delete<M: Structure>(managed: *mut M) {
    // SAFETY: the consumer passes what it was given, once, and uses it no more: the context is the box that it is in.
    drop(unsafe { Box::from_raw((*managed).context().cast::<Kept<M>>()) });
}
