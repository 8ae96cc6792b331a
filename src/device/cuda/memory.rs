//! Memory: of the device, pinned on the host, and of somebody else.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute, CUpointer_attribute};

use super::super::DeviceError;
use super::super::plan::CELL;
use super::api::{Address, INVALID_VALUE, NOT_FOUND, OUT_OF_MEMORY};
use super::context::{Context, Current, Event};
use crate::layout;

/// Memory of the device that is ours.
#[derive(Debug)]
pub(super) struct Allocation {
    context: Arc<Context>,
    address: Address,
    len: u64,
}

impl Allocation {
    /// `len` bytes for `what`. None need no memory.
    pub(super) fn new(context: &Arc<Context>, len: u64, what: &'static str) -> Result<Self, DeviceError> {
        let current = context.enter()?;
        let mut address = 0;
        // What the driver answers to sizes that no device has is not documented, and another error closes the device.
        if len > context.facts.memory {
            return Err(context.out_of_memory(what, len));
        }
        if len > 0 {
            let size = usize::try_from(len).map_err(|_| context.out_of_memory(what, len))?;
            // SAFETY: it writes one address.
            match unsafe { (current.context.api.cuMemAlloc_v2)(&raw mut address, size) } {
                OUT_OF_MEMORY => return Err(context.out_of_memory(what, len)),
                code => context.check("cuMemAlloc", code)?,
            }
        }
        Ok(Self { context: Arc::clone(context), address, len })
    }

    pub(super) const fn address(&self) -> Address {
        self.address
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let Ok(current) = self.context.enter_to_free() else { return };
        // SAFETY: allocated in `new`, freed once. Whoever queued work on it has waited for that, or the driver does.
        let code = unsafe { (current.context.api.cuMemFree_v2)(self.address) };
        let _ = self.context.check("cuMemFree", code);
    }
}

/// Host memory that the device reads and writes without a bounce.
#[derive(Debug)]
pub(super) struct Pinned {
    context: Arc<Context>,
    start: NonNull<u8>,
    len: usize,
    /// Nobody can say whether a copy still uses it.
    left_alone: bool,
}

// SAFETY: it is plain memory with one owner; the driver frees it in any thread.
unsafe impl Send for Pinned {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Pinned {}

/// Pinned for all contexts. Not write-combined: we read it.
const HOST_PORTABLE: u32 = 1;

impl Pinned {
    /// `len` bytes, all zero; at least one.
    pub(super) fn new(context: &Arc<Context>, len: usize, what: &'static str) -> Result<Self, DeviceError> {
        let current = context.enter()?;
        let mut start: *mut c_void = ptr::null_mut();
        // SAFETY: it writes one pointer.
        match unsafe { (current.context.api.cuMemHostAlloc)(&raw mut start, len, HOST_PORTABLE) } {
            OUT_OF_MEMORY => return Err(context.out_of_memory(what, len as u64)),
            code => context.check("cuMemHostAlloc", code)?,
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| context.out_of_memory(what, len as u64))?;
        // SAFETY: `len` bytes, just allocated and nobody else's. What was in them before is nobody's business either.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Ok(Self { context: Arc::clone(context), start, len, left_alone: false })
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where it is, for copies that outlive the call.
    pub(super) const fn pointer(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its bytes. The caller has waited for every copy into it: as a copy may only be queued by unsafe code, that is
    /// that code's promise.
    pub(super) const fn bytes(&self) -> &[u8] {
        // SAFETY: all of it was initialised in `new`, and lives until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The same, to write to. The caller has waited for every copy out of it too.
    pub(super) const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Pinned {
    /// Frees it when `copied` has come to pass, or everything queued. If the driver cannot even say when that is, it is
    /// left alone for good: a copy may still write to it.
    pub(super) fn free_after(mut self, copied: Option<&Event>) {
        self.left_alone = !self.context.settled(copied);
    }

    /// Never frees it.
    pub(super) fn leave_alone(mut self) {
        self.left_alone = true;
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.left_alone {
            return;
        }
        let Ok(current) = self.context.enter_to_free() else { return };
        // SAFETY: allocated in `new`, freed once, with no copy under way.
        let code = unsafe { (current.context.api.cuMemFreeHost)(self.start.as_ptr().cast()) };
        let _ = self.context.check("cuMemFreeHost", code);
    }
}

/// What a [`Buffer`] stands for. Jobs under way hold it too.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) context: Arc<Context>,
    pub(super) address: Address,
    len: u64,
    /// What kernels may read around it.
    pub(super) readable: Range<Address>,
    /// Behind the last upload into it.
    uploaded: Mutex<Option<Arc<Event>>>,
    /// What ends with it: ours, or whatever keeps somebody else's alive. Dropped last.
    _owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Ours { _memory: Allocation },
    Foreign { _keep: Keep },
}

struct Keep {
    _owner: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Memory {
    /// New memory.
    pub(super) fn new(context: &Arc<Context>, len: u64, what: &'static str) -> Result<Arc<Self>, DeviceError> {
        // Whole cells, so that no chunk is gathered only because the memory ends within one.
        let allocation = Allocation::new(context, len.checked_next_multiple_of(CELL).unwrap_or(len), what)?;
        let address = allocation.address();
        Ok(Arc::new(Self {
            context: Arc::clone(context),
            address,
            len,
            readable: address..address + allocation.len(),
            uploaded: Mutex::new(None),
            _owner: Owner::Ours { _memory: allocation },
        }))
    }

    /// The addresses of these of its bytes, if it has them.
    pub(super) fn addresses(&self, at: u64, len: u64) -> Option<Range<Address>> {
        let end = at.checked_add(len).filter(|&end| end <= self.len)?;
        Some(self.address + at..self.address + end)
    }

    /// Behind the last upload into it.
    pub(super) fn uploaded(&self) -> Option<Arc<Event>> {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an upload into it, until whose end it is not freed.
    pub(super) fn note_upload(&self, event: &Arc<Event>) {
        *self.uploaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(event));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(event) = self.uploaded.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // If even waiting fails the device is closed, and the driver refuses to free memory, too.
        self.context.settled(Some(&event));
    }
}

/// Memory of a CUDA device: our own, or lent ([`Cuda::foreign`](super::Cuda::foreign)).
#[derive(Debug)]
pub struct Buffer {
    pub(super) memory: Arc<Memory>,
}

impl Buffer {
    /// Its address on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.memory.address
    }
}

impl layout::Buffer for Buffer {
    fn size(&self) -> u64 {
        self.memory.len
    }

    fn place(&self) -> u64 {
        self.memory.address
    }
}

const MEMORY_OF_DEVICE: c_int = 2;
/// Managed memory, which is asked about further.
const MEMORY_OF_BOTH: c_int = 4;

impl Memory {
    /// Memory of somebody else, if the driver agrees that it is this device's, allocated, and as long as that.
    ///
    /// # Safety
    /// The range is readable by this device's kernels, and stays so, until the last holder of this and of `owner` drops
    /// it. (The driver sees wrong addresses, but not memory that is freed later.)
    pub(super) unsafe fn foreign(
        context: &Arc<Context>,
        address: Address,
        len: u64,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Arc<Self>, DeviceError> {
        let current = context.enter()?;
        let refuse = |why: String| DeviceError::Refused { device: context.kind(), why };
        let Some(end) = address.checked_add(len).filter(|_| address != 0 || len == 0) else {
            return Err(refuse(format!("no memory has {len} bytes from address {address:#x} on")));
        };
        let mut readable = address..end;
        if len > 0 {
            let about = |which| attribute(&current, which, address);
            match about(CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE)? {
                Some(MEMORY_OF_DEVICE | MEMORY_OF_BOTH) => {}
                None => {
                    let why = "is none that CUDA knows: it is host memory, or was freed; pass memory of the device";
                    return Err(refuse(format!("address {address:#x} {why}")));
                }
                Some(_) => {
                    let why = "is in host memory (pinned or registered): hash it on the CPU, or copy it to the device";
                    return Err(refuse(format!("address {address:#x} {why}")));
                }
            }
            if about(CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED)?.unwrap_or(0) != 0 {
                if context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY)? == 0 {
                    let why = "is managed memory, which this device cannot read: copy it to the device";
                    return Err(refuse(format!("address {address:#x} {why}")));
                }
            } else {
                match about(CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)? {
                    Some(ordinal) if ordinal == context.facts.ordinal as c_int => {}
                    Some(other) => {
                        let why = format!("address {address:#x} is on cuda:{other}: open that device to hash it");
                        return Err(refuse(why));
                    }
                    None => {
                        let why = "is on a device that the driver does not say: copy it to memory of this device";
                        return Err(refuse(format!("address {address:#x} {why}")));
                    }
                }
            }
            readable = hull(&current, address..end)?.map_err(|known| {
                refuse(format!("of the {len} bytes from address {address:#x} on, only {known} are allocated"))
            })?;
        }
        Ok(Arc::new(Self {
            context: Arc::clone(context),
            address,
            len,
            readable,
            uploaded: Mutex::new(None),
            _owner: Owner::Foreign { _keep: Keep { _owner: owner } },
        }))
    }
}

/// On which device memory at this address is, if the driver says.
pub(super) fn ordinal_of(context: &Arc<Context>, address: Address) -> Result<Option<c_int>, DeviceError> {
    attribute(&context.enter()?, CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)
}

/// What the driver says of a pointer; nothing for one that it does not know.
fn attribute(
    current: &Current<'_>,
    which: CUpointer_attribute,
    address: Address,
) -> Result<Option<c_int>, DeviceError> {
    let mut value: c_int = 0;
    // SAFETY: the attributes that are asked for here are ints (one is a bool: a byte), and it is written to one.
    match unsafe { (current.context.api.cuPointerGetAttribute)((&raw mut value).cast(), which as c_int, address) } {
        INVALID_VALUE => Ok(None),
        code => current.context.check("cuPointerGetAttribute", code).map(|()| Some(value)),
    }
}

/// Everything that is allocated around a range: at least that, or how many of its bytes are. A range may lie in several
/// allocations that are mapped side by side, as those of torch's expandable segments.
fn hull(current: &Current<'_>, range: Range<Address>) -> Result<Result<Range<Address>, u64>, DeviceError> {
    let mut known = range.start..range.start;
    while known.end < range.end {
        let (mut start, mut len) = (0, 0);
        // SAFETY: it writes an address and a size.
        let code = unsafe { (current.context.api.cuMemGetAddressRange_v2)(&raw mut start, &raw mut len, known.end) };
        if matches!(code, INVALID_VALUE | NOT_FOUND) {
            // For the first address: the driver knows the memory, as we asked before, but not its bounds.
            return Ok(if known.is_empty() { Ok(range) } else { Err(known.end - range.start) });
        }
        current.context.check("cuMemGetAddressRange", code)?;
        let end = start.saturating_add(len as u64);
        if end <= known.end {
            return Ok(Err(known.end - range.start));
        }
        known = start.min(known.start)..end;
    }
    Ok(Ok(known))
}
