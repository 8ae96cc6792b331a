//! The device and its queue, every call of which is checked. The first failure stays: nothing is computed after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wgpu::{BufferUsages, ErrorFilter, PollType, SubmissionIndex};

use super::super::{DeviceError, DeviceKind};

/// How long the callback of a map may take after the device has said that the work before it is done: another thread
/// may be about to call it.
const CALLBACK: Duration = Duration::from_millis(100);
const PATIENCE: u32 = 600;

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) kind: DeviceKind,
    failure: Arc<OnceLock<DeviceError>>,
}

/// A buffer that is being mapped for reading.
#[derive(Debug)]
pub(super) struct Reading {
    buffer: wgpu::Buffer,
    after: SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Gpu {
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue, kind: DeviceKind) -> Self {
        let failure = Arc::new(OnceLock::new());
        let (lost, uncaptured) = (Arc::clone(&failure), Arc::clone(&failure));
        let (this, that) = (kind.clone(), kind.clone());
        device.set_device_lost_callback(move |reason, message| {
            let why = format!("{reason:?}: {message}");
            let _ = lost.set(DeviceError::Driver { device: this.clone(), call: "the device", why });
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let why = error.to_string();
            let _ = uncaptured.set(DeviceError::Driver { device: that.clone(), call: "a call", why });
        }));
        Self { device, queue, kind, failure }
    }

    /// # Errors
    /// The first failure, if there was one.
    pub(super) fn usable(&self) -> Result<(), DeviceError> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Notes a failure. What is returned is the first one, of which this may be a consequence.
    pub(super) fn fail(&self, call: &'static str, why: &dyn std::fmt::Display) -> DeviceError {
        let error = DeviceError::Driver { device: self.kind.clone(), call, why: why.to_string() };
        self.failure.get_or_init(|| error).clone()
    }

    /// Makes calls, in which nothing may go wrong.
    ///
    /// # Errors
    /// Whatever went wrong, then or before.
    pub(super) fn checked<T>(&self, call: &'static str, calls: impl FnOnce() -> T) -> Result<T, DeviceError> {
        match self.attempt(call, calls)? {
            Ok(value) => Ok(value),
            Err(error) => Err(self.fail(call, &error)),
        }
    }

    /// Makes calls that may find no memory, which is no failure of the device.
    fn attempt<T>(&self, call: &'static str, calls: impl FnOnce() -> T) -> Result<Result<T, wgpu::Error>, DeviceError> {
        self.usable()?;
        let scopes = [ErrorFilter::Validation, ErrorFilter::Internal, ErrorFilter::OutOfMemory]
            .map(|filter| self.device.push_error_scope(filter));
        // wgpu panics where a driver fails in a call that has no error to return, as when a wait finds the device gone.
        let value = catch_unwind(AssertUnwindSafe(calls));
        let mut memory = None;
        for (index, scope) in scopes.into_iter().rev().enumerate() {
            match pollster::block_on(scope.pop()) {
                Some(error) if index == 0 => memory = Some(error),
                Some(error) => return Err(self.fail(call, &error)),
                None => {}
            }
        }
        match (value, memory) {
            (Ok(_), Some(error)) => Ok(Err(error)),
            (Ok(value), None) => Ok(Ok(value)),
            (Err(panic), _) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(self.fail(call, &text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")))
            }
        }
    }

    /// A new buffer of `len` bytes and as many as make that a multiple of 16.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or the failure of the device.
    pub(super) fn buffer(
        &self,
        what: &'static str,
        len: u64,
        usage: BufferUsages,
    ) -> Result<wgpu::Buffer, DeviceError> {
        self.create(what, len, usage, false)
    }

    /// A new buffer that is mapped for writing.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or the failure of the device.
    pub(super) fn mapped(
        &self,
        what: &'static str,
        len: u64,
        usage: BufferUsages,
    ) -> Result<wgpu::Buffer, DeviceError> {
        self.create(what, len, usage, true)
    }

    /// A new buffer that is written by the host first.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or the failure of the device.
    pub(super) fn written(
        &self,
        what: &'static str,
        len: u64,
        usage: BufferUsages,
        write: impl FnOnce(&mut wgpu::BufferViewMut),
    ) -> Result<wgpu::Buffer, DeviceError> {
        let buffer = self.mapped(what, len, usage)?;
        let written =
            self.checked("writing a new buffer", || buffer.get_mapped_range_mut(..).map(|mut view| write(&mut view)))?;
        written.map_err(|error| self.fail("writing a new buffer", &error))?;
        self.checked("handing over a new buffer", || buffer.unmap())?;
        Ok(buffer)
    }

    fn create(
        &self,
        what: &'static str,
        len: u64,
        usage: BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, DeviceError> {
        let out_of_memory = || DeviceError::OutOfMemory { device: self.kind.clone(), what, bytes: len };
        let size = len.max(1).checked_next_multiple_of(16).ok_or_else(out_of_memory)?;
        if size > self.device.limits().max_buffer_size {
            return Err(out_of_memory());
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
        self.attempt("creating a buffer", || self.device.create_buffer(&descriptor))?.map_err(|_| out_of_memory())
    }

    /// Queues commands.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<SubmissionIndex, DeviceError> {
        self.checked("submitting work", || self.queue.submit([encoder.finish()]))
    }

    /// Blocks until what was submitted as `index`, and all before it, is done.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn wait(&self, index: &SubmissionIndex) -> Result<(), DeviceError> {
        let wait = PollType::Wait { submission_index: Some(index.clone()), timeout: None };
        self.checked("waiting for the device", || self.device.poll(wait))?
            .map_err(|error| self.fail("waiting for the device", &error))?;
        self.usable()
    }

    /// Begins to read `buffer`, which the submission `after` writes.
    ///
    /// # Errors
    /// The failure of the device.
    pub(super) fn read(&self, buffer: wgpu::Buffer, after: SubmissionIndex) -> Result<Reading, DeviceError> {
        let (sender, mapped) = channel();
        self.checked("mapping a buffer", || {
            // Whoever waits may be gone: a ticket can be dropped.
            buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
        })?;
        Ok(Reading { buffer, after, mapped })
    }

    /// Waits until the buffer can be read, and hands its bytes to `take`.
    ///
    /// # Errors
    /// The failure of the device, or that of `take`.
    pub(super) fn finish<T>(
        &self,
        reading: &Reading,
        take: impl FnOnce(&[u8]) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        for _ in 0..PATIENCE {
            self.wait(&reading.after)?;
            match reading.mapped.recv_timeout(CALLBACK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(error) => return Err(self.fail("mapping a buffer", &error)),
                Ok(Err(error)) => return Err(self.fail("mapping a buffer", &error)),
                Ok(Ok(())) => {
                    let view = self
                        .checked("reading a buffer", || reading.buffer.get_mapped_range(..))?
                        .map_err(|error| self.fail("reading a buffer", &error))?;
                    let taken = take(&view)?;
                    // Lost while these bytes came back: they are not used.
                    self.usable()?;
                    return Ok(taken);
                }
            }
        }
        Err(self.fail("mapping a buffer", &"the device is done, and the buffer is not mapped"))
    }
}
