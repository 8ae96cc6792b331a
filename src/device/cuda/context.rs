//! One device of the driver: its context, streams, events and modules, each given back when it is dropped.
//!
//! Every call is checked. The first that fails closes the device for good: whatever is asked of it afterwards is that
//! error, also if it came up in a drop, where nobody could be told.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{CUdevice_attribute, CUjit_option};

use super::super::{DeviceError, DeviceKind};
use super::api::{Api, Code, Handle, INVALID_DEVICE, OUT_OF_MEMORY, SUCCESS};

/// What the driver says of a device, before it is used.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) ordinal: usize,
    device: c_int,
    pub(super) name: String,
    pub(super) memory: u64,
    /// Compute capability: 90 for 9.0.
    pub(super) architecture: u32,
    /// As it reports it: 12040 for 12.4.
    pub(super) driver: u32,
    pub(super) uuid: [u8; 16],
}

impl Facts {
    /// How many devices there are.
    pub(super) fn count() -> Result<usize, DeviceError> {
        let api = api(0)?;
        let mut count = 0;
        // SAFETY: it writes one int.
        let code = unsafe { (api.cuDeviceGetCount)(&raw mut count) };
        plain(api, 0, "cuDeviceGetCount", code)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Those of the device with this ordinal.
    pub(super) fn of(ordinal: usize) -> Result<Self, DeviceError> {
        let api = api(ordinal)?;
        let none = || DeviceError::Absent {
            device: DeviceKind::Cuda(ordinal),
            why: format!(
                "this machine has no CUDA device number {ordinal}; tensorseal devices lists those that it has"
            ),
        };
        let number = c_int::try_from(ordinal).map_err(|_| none())?;
        let mut device = 0;
        // SAFETY: it writes one int.
        match unsafe { (api.cuDeviceGet)(&raw mut device, number) } {
            INVALID_DEVICE => return Err(none()),
            code => plain(api, ordinal, "cuDeviceGet", code)?,
        }
        let mut name = [0 as c_char; 256];
        // SAFETY: it writes at most so many bytes there, the last of them zero.
        let code = unsafe { (api.cuDeviceGetName)(name.as_mut_ptr(), name.len() as c_int - 1, device) };
        plain(api, ordinal, "cuDeviceGetName", code)?;
        // SAFETY: the last byte of the array was left zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let mut memory = 0;
        // SAFETY: it writes one size.
        let code = unsafe { (api.cuDeviceTotalMem_v2)(&raw mut memory, device) };
        plain(api, ordinal, "cuDeviceTotalMem", code)?;
        let mut uuid = [0; 16];
        // SAFETY: it writes 16 bytes.
        let code = unsafe { (api.cuDeviceGetUuid_v2)(&raw mut uuid, device) };
        plain(api, ordinal, "cuDeviceGetUuid", code)?;
        let mut driver = 0;
        // SAFETY: it writes one int.
        let code = unsafe { (api.cuDriverGetVersion)(&raw mut driver) };
        plain(api, ordinal, "cuDriverGetVersion", code)?;
        let attribute = |which: CUdevice_attribute| {
            let mut value = 0;
            // SAFETY: it writes one int.
            let code = unsafe { (api.cuDeviceGetAttribute)(&raw mut value, which as c_int, device) };
            plain(api, ordinal, "cuDeviceGetAttribute", code).map(|()| u32::try_from(value).unwrap_or(0))
        };
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let driver = u32::try_from(driver).unwrap_or(0);
        let architecture = major.saturating_mul(10).saturating_add(minor);
        Ok(Self { ordinal, device, name, memory: memory as u64, architecture, driver, uuid })
    }
}

#[cfg(test)]
impl Facts {
    /// Of a device that there is not.
    pub(super) fn made_up(architecture: u32) -> Self {
        let (name, uuid) = ("none".to_owned(), [architecture as u8; 16]);
        Self { ordinal: 0, device: 0, name, memory: 0, architecture, driver: 12_040, uuid }
    }
}

/// The driver, or that there is none.
fn api(ordinal: usize) -> Result<&'static Api, DeviceError> {
    Api::get().map_err(|none| DeviceError::Absent { device: DeviceKind::Cuda(ordinal), why: none.why() })
}

/// An error of a call before there is a context that could be closed.
fn plain(api: &Api, ordinal: usize, call: &'static str, code: Code) -> Result<(), DeviceError> {
    match code {
        SUCCESS => Ok(()),
        code => Err(DeviceError::Driver { device: DeviceKind::Cuda(ordinal), call, why: api.say(code) }),
    }
}

/// The primary context of a device, which is the one that torch and the CUDA runtime use.
pub(super) struct Context {
    pub(super) api: &'static Api,
    pub(super) facts: Facts,
    raw: Handle,
    /// The first error. Nothing is asked of the device after it but to free memory.
    failed: OnceLock<DeviceError>,
}

// SAFETY: contexts of the driver may be used by any thread in which they are current, and are made current for each use.
unsafe impl Send for Context {}
// SAFETY: as above; the driver's functions may be called by several threads at once.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("facts", &self.facts).field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Context {
    /// Retains it.
    pub(super) fn open(facts: Facts) -> Result<Arc<Self>, DeviceError> {
        let api = api(facts.ordinal)?;
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one handle; the device is one that the driver named.
        let code = unsafe { (api.cuDevicePrimaryCtxRetain)(&raw mut raw, facts.device) };
        if code == OUT_OF_MEMORY {
            let device = DeviceKind::Cuda(facts.ordinal);
            return Err(DeviceError::OutOfMemory { device, what: "its context", bytes: 0 });
        }
        plain(api, facts.ordinal, "cuDevicePrimaryCtxRetain", code)?;
        Ok(Arc::new(Self { api, facts, raw, failed: OnceLock::new() }))
    }

    pub(super) const fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(self.facts.ordinal)
    }

    /// An attribute of the device.
    pub(super) fn attribute(&self, which: CUdevice_attribute) -> Result<c_int, DeviceError> {
        let mut value = 0;
        // SAFETY: it writes one int.
        let code = unsafe { (self.api.cuDeviceGetAttribute)(&raw mut value, which as c_int, self.facts.device) };
        self.check("cuDeviceGetAttribute", code).map(|()| value)
    }

    /// The same where it does not matter if the driver cannot say: that closes nothing.
    pub(super) fn ask(&self, which: CUdevice_attribute) -> Option<c_int> {
        let mut value = 0;
        // SAFETY: it writes one int.
        let code = unsafe { (self.api.cuDeviceGetAttribute)(&raw mut value, which as c_int, self.facts.device) };
        (code == SUCCESS).then_some(value)
    }

    /// Nothing, or the error that closed the device.
    pub(super) fn healthy(&self) -> Result<(), DeviceError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Closes the device if a call failed.
    pub(super) fn check(&self, call: &'static str, code: Code) -> Result<(), DeviceError> {
        if code == SUCCESS {
            return Ok(());
        }
        let error = DeviceError::Driver { device: self.kind(), call, why: self.api.say(code) };
        // The first error is the cause; what fails after it is told where it fails.
        let _ = self.failed.set(error.clone());
        Err(error)
    }

    /// Closes the device for another reason than a failed call.
    pub(super) fn close(&self, error: DeviceError) -> DeviceError {
        let _ = self.failed.set(error.clone());
        error
    }

    /// An error for what did not fit, which leaves the device usable.
    pub(super) const fn out_of_memory(&self, what: &'static str, bytes: u64) -> DeviceError {
        DeviceError::OutOfMemory { device: self.kind(), what, bytes }
    }

    /// Makes it this thread's current context until what is returned is dropped.
    pub(super) fn enter(&self) -> Result<Current<'_>, DeviceError> {
        self.healthy()?;
        self.enter_to_free()
    }

    /// The same on a device that may have failed: only to wait and to free.
    pub(super) fn enter_to_free(&self) -> Result<Current<'_>, DeviceError> {
        // SAFETY: the context is retained.
        let code = unsafe { (self.api.cuCtxPushCurrent_v2)(self.raw) };
        self.check("cuCtxPushCurrent", code)?;
        Ok(Current { context: self, here: PhantomData })
    }

    /// Waits for `event`, or if there is none or that fails for everything queued. Whether that is known to be done.
    pub(super) fn settled(&self, event: Option<&Event>) -> bool {
        let Ok(current) = self.enter_to_free() else { return false };
        event.is_some_and(|event| event.synchronize(&current).is_ok()) || current.synchronize().is_ok()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`, and everything that was made in it is gone: it all holds the context.
        let code = unsafe { (self.api.cuDevicePrimaryCtxRelease_v2)(self.facts.device) };
        // Nobody is left to be told.
        let _ = self.check("cuDevicePrimaryCtxRelease", code);
    }
}

/// The time in which a context is the current one of this thread. Afterwards the one before is current again.
pub(super) struct Current<'a> {
    pub(super) context: &'a Context,
    here: PhantomData<*const ()>,
}

impl Current<'_> {
    /// Waits for everything that was ever queued in the context.
    pub(super) fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is current.
        let code = unsafe { (self.context.api.cuCtxSynchronize)() };
        self.context.check("cuCtxSynchronize", code)
    }

    /// Bytes of the device's memory that are free.
    pub(super) fn free_memory(&self) -> Result<u64, DeviceError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: it writes two sizes.
        let code = unsafe { (self.context.api.cuMemGetInfo_v2)(&raw mut free, &raw mut total) };
        self.context.check("cuMemGetInfo", code).map(|()| free as u64)
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: pushed in `enter_to_free`, in this thread, which this type cannot leave.
        let code = unsafe { (self.context.api.cuCtxPopCurrent_v2)(&raw mut popped) };
        // An error closes the device, so that the next call tells it.
        let _ = self.context.check("cuCtxPopCurrent", code);
    }
}

/// A stream of our own.
#[derive(Debug)]
pub(super) struct Queue {
    context: Arc<Context>,
    raw: Handle,
}

// SAFETY: a stream's handle may be used by any thread in which its context is current.
unsafe impl Send for Queue {}
// SAFETY: as above; the driver serialises what several threads queue.
unsafe impl Sync for Queue {}

/// Does not wait for the legacy default stream.
const STREAM_NON_BLOCKING: c_uint = 1;

impl Queue {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let current = context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one handle.
        let code = unsafe { (current.context.api.cuStreamCreate)(&raw mut raw, STREAM_NON_BLOCKING) };
        context.check("cuStreamCreate", code)?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    pub(super) const fn raw(&self) -> Handle {
        self.raw
    }

    /// What is queued here later waits for `event`.
    pub(super) fn wait_for(&self, current: &Current<'_>, event: &Event) -> Result<(), DeviceError> {
        // SAFETY: both are alive and of this context or of one that the driver can wait across.
        let code = unsafe { (current.context.api.cuStreamWaitEvent)(self.raw, event.raw, 0) };
        current.context.check("cuStreamWaitEvent", code)
    }

    /// A new event behind everything queued here.
    pub(super) fn mark(&self, current: &Current<'_>) -> Result<Arc<Event>, DeviceError> {
        let event = Event::new(&self.context, current, EVENT_NO_TIMING)?;
        // SAFETY: the stream is alive.
        unsafe { event.record(current, self.raw) }?;
        Ok(Arc::new(event))
    }

    /// Waits for everything queued here.
    pub(super) fn synchronize(&self, current: &Current<'_>) -> Result<(), DeviceError> {
        // SAFETY: the stream is alive.
        let code = unsafe { (current.context.api.cuStreamSynchronize)(self.raw) };
        current.context.check("cuStreamSynchronize", code)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let Ok(current) = self.context.enter_to_free() else { return };
        // SAFETY: made in `new`, and given back once. The driver lets what is queued run to its end.
        let code = unsafe { (current.context.api.cuStreamDestroy_v2)(self.raw) };
        let _ = self.context.check("cuStreamDestroy", code);
    }
}

/// A point in a stream.
#[derive(Debug)]
pub(super) struct Event {
    context: Arc<Context>,
    raw: Handle,
}

// SAFETY: an event's handle may be used by any thread in which its context is current.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

const EVENT_WITH_TIMING: c_uint = 0;
const EVENT_NO_TIMING: c_uint = 2;

impl Event {
    fn new(context: &Arc<Context>, current: &Current<'_>, flags: c_uint) -> Result<Self, DeviceError> {
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one handle.
        let code = unsafe { (current.context.api.cuEventCreate)(&raw mut raw, flags) };
        current.context.check("cuEventCreate", code)?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// One that `elapsed` can be asked of, behind everything queued in `queue`.
    pub(super) fn timed(queue: &Queue, current: &Current<'_>) -> Result<Self, DeviceError> {
        let event = Self::new(&queue.context, current, EVENT_WITH_TIMING)?;
        // SAFETY: the stream is alive.
        unsafe { event.record(current, queue.raw) }?;
        Ok(event)
    }

    /// One behind everything in a stream of somebody else.
    ///
    /// # Safety
    /// `stream` is a live stream of this context, or stands for one of its default streams.
    pub(super) unsafe fn behind(
        stream: Handle,
        context: &Arc<Context>,
        current: &Current<'_>,
    ) -> Result<Self, DeviceError> {
        let event = Self::new(context, current, EVENT_NO_TIMING)?;
        // SAFETY: as the caller promises.
        unsafe { event.record(current, stream) }?;
        Ok(event)
    }

    /// # Safety
    /// `stream` is a live stream of this context, or stands for one of its default streams.
    unsafe fn record(&self, current: &Current<'_>, stream: Handle) -> Result<(), DeviceError> {
        // SAFETY: the event is alive, and the stream as the caller promises.
        let code = unsafe { (current.context.api.cuEventRecord)(self.raw, stream) };
        current.context.check("cuEventRecord", code)
    }

    /// Has a stream of somebody else wait for it.
    ///
    /// # Safety
    /// `stream` is a live stream of this context, or stands for one of its default streams.
    pub(super) unsafe fn hold_back(&self, stream: Handle, current: &Current<'_>) -> Result<(), DeviceError> {
        // SAFETY: the event is alive, and the stream as the caller promises.
        let code = unsafe { (current.context.api.cuStreamWaitEvent)(stream, self.raw, 0) };
        current.context.check("cuStreamWaitEvent", code)
    }

    /// Waits until it has come to pass.
    pub(super) fn synchronize(&self, current: &Current<'_>) -> Result<(), DeviceError> {
        // SAFETY: the event is alive.
        let code = unsafe { (current.context.api.cuEventSynchronize)(self.raw) };
        current.context.check("cuEventSynchronize", code)
    }

    /// Milliseconds from `start` to this. Both have come to pass.
    pub(super) fn since(&self, start: &Self, current: &Current<'_>) -> Result<f32, DeviceError> {
        let mut time = 0.0;
        // SAFETY: it writes one float; both events are alive.
        let code = unsafe { (current.context.api.cuEventElapsedTime)(&raw mut time, start.raw, self.raw) };
        current.context.check("cuEventElapsedTime", code).map(|()| time)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(current) = self.context.enter_to_free() else { return };
        // SAFETY: made in `new`, and given back once. The driver keeps what still waits for it.
        let code = unsafe { (current.context.api.cuEventDestroy_v2)(self.raw) };
        let _ = self.context.check("cuEventDestroy", code);
    }
}

/// Loaded code.
#[derive(Debug)]
pub(super) struct Module {
    context: Arc<Context>,
    raw: Handle,
}

// SAFETY: a module's handle may be used by any thread in which its context is current.
unsafe impl Send for Module {}
// SAFETY: as above; loading and unloading are one thread's.
unsafe impl Sync for Module {}

/// A kernel in a module, which must outlive it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function(pub(super) Handle);

// SAFETY: a function's handle may be used by any thread in which its context is current.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Module {
    /// Loads an image: a cubin, or PTX text with a zero byte at its end. What the driver says against it is returned,
    /// its code first: that closes nothing, another image may do.
    ///
    /// # Safety
    /// `image` is a whole cubin, or ends with a zero byte, and its kernels are ours.
    pub(super) unsafe fn load(
        context: &Arc<Context>,
        image: &[u8],
    ) -> Result<Result<Self, (Code, String)>, DeviceError> {
        let current = context.enter()?;
        let mut log = [0_u8; 4096];
        let mut options =
            [CUjit_option::CU_JIT_ERROR_LOG_BUFFER as c_int, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as c_int];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), (log.len() - 1) as *mut c_void];
        let mut raw = ptr::null_mut();
        // SAFETY: the options say where the log is and how long; the image is as the caller promises.
        let code = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            (current.context.api.cuModuleLoadDataEx)(&raw mut raw, image.as_ptr().cast(), 2, options, values)
        };
        if code == SUCCESS {
            return Ok(Ok(Self { context: Arc::clone(context), raw }));
        }
        let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
        let said = context.api.say(code);
        Ok(Err((code, if log.trim().is_empty() { said } else { format!("{said}: {}", log.trim()) })))
    }

    pub(super) fn function(&self, name: &'static CStr) -> Result<Function, DeviceError> {
        let current = self.context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one handle; the module is alive, and the name ends with a zero byte.
        let code = unsafe { (current.context.api.cuModuleGetFunction)(&raw mut raw, self.raw, name.as_ptr()) };
        self.context.check("cuModuleGetFunction", code).map(|()| Function(raw))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let Ok(current) = self.context.enter_to_free() else { return };
        // SAFETY: loaded in `load`, and given back once; no kernel of it runs, as whoever launched one has waited.
        let code = unsafe { (current.context.api.cuModuleUnload)(self.raw) };
        let _ = self.context.check("cuModuleUnload", code);
    }
}
