//! Where C meets Rust: the only file with `unsafe`. It turns what callers pass (pointers to write to, pointers to
//! read from, the pointers of kernel arguments) into types that the rest uses safely, under the promise that every
//! caller of a C interface makes: a pointer that it passes is null or points to what the function's declaration says,
//! and stays valid as long as CUDA says that it must.
#![allow(unsafe_code)]

use crate::driver::config::Config;
use crate::driver::{Driver, HostKernels, HostRange};
use crate::error::{Code, INVALID_VALUE, UNKNOWN};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Declares C functions: each counts, logs and locks the driver, then does what the expression says with it.
macro_rules! api {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) = $work:expr;)*) => {
        $(
            #[allow(unsafe_code, missing_docs, non_snake_case, clippy::too_many_arguments, reason = "as cuda.h has it")]
            // SAFETY: no other function of this library or of the crates below it has this name.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($argument: $kind),*) -> std::ffi::c_int {
                $crate::abi::call(stringify!($name), $work)
            }
        )*
    };
}
pub(crate) use api;

/// The same for the functions of `cufile.h`, which return no codes but what `$result` makes of one.
macro_rules! cufile {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $result:ty = $work:expr;)*) => {
        $(
            #[allow(unsafe_code, missing_docs, non_snake_case, reason = "as cufile.h has it")]
            // SAFETY: no other function of this library or of the crates below it has this name.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($argument: $kind),*) -> $result {
                let mut value = 0;
                let code = $crate::abi::call(stringify!($name), |driver| {
                    value = $work(driver)?;
                    Ok(())
                });
                <$result as $crate::cufile::Returned>::of(code, value)
            }
        )*
    };
}
pub(crate) use cufile;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Sets the error number of this thread, as functions do that return -1.
pub(crate) fn set_errno(code: c_int) {
    // SAFETY: the place of this thread's number, which nobody else writes.
    unsafe { *__errno_location() = code };
}

thread_local! {
    /// The contexts of each thread, the current one last.
    static CONTEXTS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn driver() -> Result<&'static Mutex<Driver>, Code> {
    static DRIVER: OnceLock<Result<Mutex<Driver>, String>> = OnceLock::new();
    let made = DRIVER.get_or_init(|| {
        let config = Config::read(|name| std::env::var(name).ok())?;
        let kernels = config.kernels.as_deref().map(host_kernels).transpose()?;
        Ok(Mutex::new(Driver::new(config, kernels)?))
    });
    made.as_ref().map_err(|error| {
        eprintln!("[fakecuda] {error}");
        UNKNOWN
    })
}

/// Runs one call of the interface with the driver and the contexts of this thread.
pub(crate) fn call(name: &'static str, work: impl FnOnce(&mut Driver) -> Result<(), Code>) -> c_int {
    let driver = match driver() {
        Ok(driver) => driver,
        Err(code) => return code.0,
    };
    let mut driver = driver.lock().unwrap_or_else(PoisonError::into_inner);
    // A thread that ends has no stack any more, but destructors may still call: they have no context.
    driver.stack = CONTEXTS.try_with(RefCell::take).unwrap_or_default();
    let result = driver.call(name, work);
    let stack = std::mem::take(&mut driver.stack);
    let _ = CONTEXTS.try_with(|contexts| contexts.replace(stack));
    result
}

/// Where a function puts a result.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// A place that the caller names by its address, in an array of such.
    pub(crate) fn to(place: *mut T) -> Self {
        Self(place)
    }

    /// Writes the result.
    pub(crate) fn put(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: not null, so by the promise at the top of this file it points to room for a `T`.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes the result if the caller wants it.
    pub(crate) fn put_if_wanted(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() { Ok(()) } else { self.put(value) }
    }

    /// The same place, for another type: some functions say in a number what the place is for.
    pub(crate) fn as_kind<U>(&self) -> Out<U> {
        Out(self.0.cast())
    }
}

impl<T: Copy> Out<T> {
    /// Reads from, or writes to, the place `index` places further on, of an array.
    pub(crate) fn at(&self, index: usize) -> Out<T> {
        Out(self.0.wrapping_add(index))
    }

    /// What stands there, in an array that the caller has filled.
    pub(crate) fn get(&self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: not null, so by the promise at the top of this file it points to a `T`.
        Ok(unsafe { self.0.read() })
    }
}

impl Out<c_char> {
    /// Writes a string of at most `room` bytes with its zero, cut if need be.
    pub(crate) fn put_text(&self, text: &str, room: c_int) -> Result<(), Code> {
        let room = usize::try_from(room).ok().filter(|room| *room > 0).ok_or(INVALID_VALUE)?;
        let kept = text.len().min(room - 1);
        for (index, byte) in text.as_bytes()[..kept].iter().chain(&[0]).enumerate() {
            self.at(index).put(byte.cast_signed() as c_char)?;
        }
        Ok(())
    }
}

/// A string of the caller.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// A string of this process, for tests.
    #[cfg(test)]
    pub(crate) fn at(text: *const c_char) -> Self {
        Self(text)
    }

    /// Its bytes, without the zero.
    pub(crate) fn bytes(&self) -> Result<&[u8], Code> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: not null, so by the promise at the top of this file it points to a string that ends with a zero.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// The first four bytes of an image, which may be no string at all.
    pub(crate) fn start(&self) -> Result<[u8; 4], Code> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        let mut start = [0; 4];
        for (index, byte) in start.iter_mut().enumerate() {
            // SAFETY: an image is a string or a binary of more than four bytes; a string that is shorter ends the loop.
            *byte = unsafe { self.0.cast::<u8>().add(index).read() };
            if *byte == 0 {
                break;
            }
        }
        Ok(start)
    }
}

/// Host memory of the caller.
struct Bytes {
    start: *mut u8,
    length: usize,
}

// SAFETY: a plain address; CUDA lets a copy run on whatever thread, and the caller keeps the memory until it has.
unsafe impl Send for Bytes {}

impl crate::driver::HostBytes for Bytes {
    fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    fn length(&self) -> usize {
        self.length
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        // SAFETY: the caller promises `length` bytes at `start` until the copy has run.
        unsafe { self.start.copy_to_nonoverlapping(bytes.as_mut_ptr(), self.length) };
        bytes
    }

    fn write(&self, bytes: &[u8]) {
        let length = self.length.min(bytes.len());
        // SAFETY: as in `read`.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), length) };
    }
}

/// `length` bytes of the caller's memory at `start`.
pub(crate) fn host_range(start: *const c_void, length: usize) -> Result<HostRange, Code> {
    if start.is_null() && length > 0 {
        return Err(INVALID_VALUE);
    }
    Ok(Box::new(Bytes { start: start.cast_mut().cast(), length }))
}

/// What page-locked memory is aligned to.
const PAGE: usize = 4096;

/// Room for `length` bytes, full of 0xDD: nothing is zero that was not made so.
pub(crate) fn allocate_pages(length: usize) -> Result<*mut c_void, Code> {
    let layout = std::alloc::Layout::from_size_align(length, PAGE).map_err(|_| INVALID_VALUE)?;
    if length == 0 {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the layout is not empty.
    let start = unsafe { std::alloc::alloc(layout) };
    if start.is_null() {
        return Err(crate::error::OUT_OF_MEMORY);
    }
    // SAFETY: just allocated with this length.
    unsafe { start.write_bytes(0xDD, length) };
    Ok(start.cast())
}

/// Gives back what `allocate_pages` gave, as the driver's own list of it says.
pub(crate) fn free_pages(start: *mut c_void, length: usize) {
    if let Ok(layout) = std::alloc::Layout::from_size_align(length, PAGE) {
        // SAFETY: the driver has this block in its list with this length, and takes it out before it calls this.
        unsafe { std::alloc::dealloc(start.cast(), layout) };
    }
}

/// The argument at `index` of the array that `cuLaunchKernel` takes.
pub(crate) fn argument(all: *mut *mut c_void, index: usize, size: usize) -> Option<Vec<u8>> {
    if all.is_null() {
        return None;
    }
    // SAFETY: CUDA's rule: the array has one pointer for each parameter of the kernel; `index` is below their count.
    let one = unsafe { all.add(index).read() };
    // SAFETY: the same rule: it points to as many bytes as the parameter has.
    (!one.is_null()).then(|| unsafe { std::slice::from_raw_parts(one.cast::<u8>(), size) }.to_vec())
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `int host_launch(const char *kernel, unsigned grid_x, unsigned block_x, unsigned shared_bytes, void **args)`.
type HostLaunch = unsafe extern "C" fn(*const c_char, c_uint, c_uint, c_uint, *mut *mut c_void) -> c_int;

/// Loads the library of `FAKECUDA_KERNELS`. It stays for the life of the process.
fn host_kernels(path: &Path) -> Result<HostKernels, String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a string; 2 is RTLD_NOW. The library's initialisers are the business of the test that names it.
    let library = unsafe { dlopen(name.as_ptr(), 2) };
    if library.is_null() {
        return Err(format!("FAKECUDA_KERNELS: {} cannot be loaded", path.display()));
    }
    // SAFETY: the handle is the one that dlopen gave.
    let symbol = unsafe { dlsym(library, c"host_launch".as_ptr()) };
    if symbol.is_null() {
        return Err(format!("FAKECUDA_KERNELS: {} has no host_launch", path.display()));
    }
    // SAFETY: README.md says what `host_launch` must be; null was looked at.
    let launch: HostLaunch = unsafe { std::mem::transmute::<*mut c_void, HostLaunch>(symbol) };
    Ok(Box::new(move |kernel, [blocks, threads, shared], arguments| {
        let Ok(kernel) = CString::new(kernel) else { return UNKNOWN.0 };
        // In words of 16 bytes, which is as aligned as any argument needs to be.
        let mut values: Vec<Vec<u128>> = arguments.iter().map(|bytes| aligned(bytes)).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        // SAFETY: as README.md says; the pointers live until it returns.
        unsafe { launch(kernel.as_ptr(), blocks, threads, shared, pointers.as_mut_ptr()) }
    }))
}

fn aligned(bytes: &[u8]) -> Vec<u128> {
    let words = bytes.chunks(16).map(|chunk| {
        let mut word = [0; 16];
        word[..chunk.len()].copy_from_slice(chunk);
        u128::from_ne_bytes(word)
    });
    words.collect()
}
