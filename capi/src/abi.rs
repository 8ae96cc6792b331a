//! The functions of `include/tensorseal.h`, in its order: pointers become references and back, and nothing else happens
//! here. With `lent.rs` the only place of pointers. What each function does and asks of its caller is said in the header.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use serde_json::Value;
use tensorseal::{Device, Error};

use crate::call::{About, Fault, Status, Told, call, message, verb};
use crate::lent::{self, Callback, Progress, Text};
use crate::model::{Model, Tensor, load};
use crate::options::Options;
use crate::verbs::{digest, sign_model, verify};

/// `TENSORSEAL_ABI`.
pub(crate) const ABI: i32 = 1;
/// `TENSORSEAL_DIGEST_LEN`.
pub(crate) const DIGEST_LEN: usize = 32;

/// With the NUL that C wants.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// What several threads may use at once has to stand that; pointers do not ask.
const fn shareable<T: Send + Sync>() {}
const _: () = {
    shareable::<Options>();
    shareable::<Device>();
    shareable::<Model>();
};

fn null(what: &str) -> Fault {
    Fault::Usage(format!("{what} is NULL"))
}

/// # Safety
/// `pointer` is NULL or leads to text that ends with a NUL and stays as it is.
unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a CStr, Fault> {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// # Safety
/// `pointer` is NULL or leads to a value that nobody changes meanwhile.
unsafe fn shared<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Fault> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(what))
}

/// # Safety
/// `pointer` is NULL or leads to room for a value.
unsafe fn put<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: as the caller promises.
        unsafe { pointer.write(value) };
    }
}

/// # Safety
/// `handle` is NULL, or was made by `Box::into_raw`, and nobody uses it any more.
unsafe fn release<T>(handle: *mut T) {
    let drop_it = || {
        if !handle.is_null() {
            // SAFETY: as the caller promises.
            drop(unsafe { Box::from_raw(handle) });
        }
        Ok::<_, Fault>(())
    };
    // Its message is for calls that return a status: here only a panic is kept in.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(drop_it));
}

/// A verb that has a report.
///
/// # Safety
/// As the header says of `model`, `options` and `report`.
unsafe fn reported<T>(
    command: &str,
    model: *const c_char,
    options: Option<&Options>,
    report: *mut *mut c_char,
    run: impl FnOnce(&Path, &Options, &mut About) -> Result<(T, Value), Fault>,
) -> (Status, Option<T>) {
    // SAFETY: as the caller promises.
    unsafe { put(report, ptr::null_mut()) };
    let Told { status, value, report: told } = verb(command, |about| {
        // SAFETY: as the caller promises.
        let model = Path::new(OsStr::from_bytes(unsafe { text(model, "model") }?.to_bytes()));
        if model.as_os_str().is_empty() {
            return Err(Fault::usage("model is an empty path"));
        }
        about.model = Some(model.to_owned());
        run(model, options.ok_or_else(|| null("options"))?, about)
    });
    if !report.is_null() {
        // SAFETY: as the caller promises.
        unsafe { put(report, told.map_or(ptr::null_mut(), CString::into_raw)) };
    }
    (status, value)
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn tensorseal_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// The interface's number.
#[unsafe(no_mangle)]
pub extern "C" fn tensorseal_abi() -> i32 {
    ABI
}

/// Why the last call failed.
#[unsafe(no_mangle)]
pub extern "C" fn tensorseal_message() -> *const c_char {
    message()
}

/// Releases a report.
///
/// # Safety
/// It is NULL or a report of this library, and released once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_free(report: *mut c_char) {
    if !report.is_null() {
        // SAFETY: reports come from `CString::into_raw`, and the caller promises that this is one.
        drop(unsafe { CString::from_raw(report) });
    }
}

/// New options.
#[unsafe(no_mangle)]
pub extern "C" fn tensorseal_options_new() -> *mut Options {
    let (_, options) = call(|| Ok(Box::new(Options::default())));
    options.map_or(ptr::null_mut(), Box::into_raw)
}

/// Sets one.
///
/// # Safety
/// The pointers are NULL or lead to options and text; no other thread uses the options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_options_set(
    options: *mut Options,
    key: *const c_char,
    value: *const c_char,
) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises.
        let options = unsafe { options.as_mut() }.ok_or_else(|| null("options"))?;
        // SAFETY: as the caller promises, for both.
        let (key, value) = unsafe { (text(key, "key")?, text(value, "value")?) };
        options.set(key, value)
    });
    status as i32
}

/// Sets whom to tell.
///
/// # Safety
/// `options` is NULL or options that no other thread uses. `progress` can be called with `user` as long as verbs are called
/// with these options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_options_progress(
    options: *mut Options,
    progress: Option<Progress>,
    user: *mut c_void,
) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises.
        let options = unsafe { options.as_mut() }.ok_or_else(|| null("options"))?;
        options.progress = progress.map(|function| Callback::new(function, user));
        Ok(())
    });
    status as i32
}

/// Releases options.
///
/// # Safety
/// It is NULL or options of this library that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_options_free(options: *mut Options) {
    // SAFETY: as the caller promises.
    unsafe { release(options) };
}

/// Verifies a model.
///
/// # Safety
/// The pointers are NULL or lead to what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_verify(
    model: *const c_char,
    options: *const Options,
    report: *mut *mut c_char,
) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { reported("verify", model, options.as_ref(), report, verify) }.0 as i32
}

/// Signs a model.
///
/// # Safety
/// The pointers are NULL or lead to what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_sign(
    model: *const c_char,
    options: *const Options,
    report: *mut *mut c_char,
) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { reported("sign", model, options.as_ref(), report, sign_model) }.0 as i32
}

/// Takes digests of a model's files.
///
/// # Safety
/// The pointers are NULL or lead to what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_digest(
    model: *const c_char,
    options: *const Options,
    report: *mut *mut c_char,
) -> i32 {
    let unset = Options::default();
    // SAFETY: as the caller promises.
    unsafe { reported("digest", model, options.as_ref().or(Some(&unset)), report, digest) }.0 as i32
}

/// Opens a device.
///
/// # Safety
/// The pointers are NULL or lead to text, and to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_device_open(name: *const c_char, device: *mut *mut Device) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { put(device, ptr::null_mut()) };
    let (status, opened) = call(|| {
        if device.is_null() {
            return Err(null("device"));
        }
        // SAFETY: as the caller promises.
        let name = unsafe { text(name, "name") }?.to_string_lossy();
        let kind = name.parse().map_err(Error::UnknownDevice)?;
        if matches!(kind, tensorseal::DeviceKind::Wgpu(_)) {
            return Err(Fault::usage("memory of wgpu devices has no address that can be given; open cpu or cuda"));
        }
        Ok(Box::new(Device::open(kind)?))
    });
    if let Some(opened) = opened {
        // SAFETY: as the caller promises.
        unsafe { put(device, Box::into_raw(opened)) };
    }
    status as i32
}

/// Releases a device.
///
/// # Safety
/// It is NULL or a device of this library that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_device_free(device: *mut Device) {
    // SAFETY: as the caller promises.
    unsafe { release(device) };
}

/// Takes digests of memory.
///
/// # Safety
/// What the header says of it: bytes and stream are there, and nobody writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_digest_memory(
    device: *const Device,
    strings: *const Text,
    count: usize,
    stream: *mut c_void,
    digests: *mut u8,
) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises.
        let device = unsafe { shared(device, "device") }?;
        if digests.is_null() {
            return Err(null("digests"));
        }
        // SAFETY: as the caller promises.
        let found = unsafe { lent::digests(device, strings, count, stream) }?;
        for (at, digest) in found.iter().enumerate() {
            // SAFETY: the caller promises room for `count` digests, and there are so many.
            let to = unsafe { digests.add(at * DIGEST_LEN) };
            // SAFETY: as above; a BLAKE3 digest has this length, and `min` keeps to it.
            unsafe {
                ptr::copy_nonoverlapping(digest.as_bytes().as_ptr(), to, digest.as_bytes().len().min(DIGEST_LEN));
            };
        }
        Ok(())
    });
    status as i32
}

/// Loads a model.
///
/// # Safety
/// The pointers are NULL or lead to what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_load(
    model: *const c_char,
    options: *const Options,
    loaded: *mut *mut Model,
    report: *mut *mut c_char,
) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { put(loaded, ptr::null_mut()) };
    let run = |path: &Path, options: &Options, about: &mut About| {
        if loaded.is_null() {
            return Err(null("loaded"));
        }
        let (model, fields) = load(path, options, about)?;
        Ok((Box::new(model), fields))
    };
    // SAFETY: as the caller promises.
    let (status, model) = unsafe { reported("load", model, options.as_ref(), report, run) };
    if let Some(model) = model {
        // SAFETY: as the caller promises.
        unsafe { put(loaded, Box::into_raw(model)) };
    }
    status as i32
}

/// `tensorseal_tensor`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct View {
    size: usize,
    name: *const c_char,
    file: *const c_char,
    dtype: *const c_char,
    shape: *const u64,
    rank: usize,
    data: *const c_void,
    len: u64,
}

/// Fills what the caller knows of a tensor.
///
/// # Safety
/// `to` is NULL or leads to as many bytes as its first field says.
unsafe fn fill(tensor: &Tensor, to: *mut View) -> Result<(), Fault> {
    if to.is_null() {
        return Err(null("tensor"));
    }
    // SAFETY: the caller promises that the first field is there and set.
    let size = unsafe { ptr::addr_of!((*to).size).read() };
    let view = View {
        size,
        name: tensor.name.as_ptr(),
        file: tensor.file.as_ptr(),
        dtype: tensor.dtype.as_ptr(),
        shape: if tensor.shape.is_empty() { ptr::null() } else { tensor.shape.as_ptr() },
        rank: tensor.shape.len(),
        data: ptr::with_exposed_provenance(tensor.address),
        len: tensor.len,
    };
    // There is one version so far: whoever knows less of it than that has set something else.
    if size < size_of::<View>() {
        let why =
            format!("tensor's size is {size}: set it to sizeof(tensorseal_tensor), which is {}", size_of::<View>());
        return Err(Fault::Usage(why));
    }
    // SAFETY: as the caller promises, and there is room for all of it.
    unsafe { to.write(view) };
    Ok(())
}

/// How many tensors there are.
///
/// # Safety
/// It is NULL or a model of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_model_tensors(model: *const Model) -> usize {
    // SAFETY: as the caller promises.
    unsafe { model.as_ref() }.map_or(0, |model| model.tensors().len())
}

/// One tensor.
///
/// # Safety
/// The pointers are NULL or lead to a model, and to room for a tensor whose size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_model_tensor(model: *const Model, index: usize, tensor: *mut View) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises.
        let tensors = unsafe { shared(model, "model") }?.tensors();
        let none = || Fault::Usage(format!("there is no tensor {index}: the model has {}", tensors.len()));
        // SAFETY: as the caller promises.
        unsafe { fill(tensors.get(index).ok_or_else(none)?, tensor) }
    });
    status as i32
}

/// The tensor of a name.
///
/// # Safety
/// The pointers are NULL or lead to a model, text, and room for a tensor whose size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_model_find(model: *const Model, name: *const c_char, tensor: *mut View) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises, for both.
        let (model, name) = unsafe { (shared(model, "model")?, text(name, "name")?) };
        let none = || Fault::Usage(format!("the model has no one tensor of the name {:?}", name.to_string_lossy()));
        // SAFETY: as the caller promises.
        unsafe { fill(model.find(name).ok_or_else(none)?, tensor) }
    });
    status as i32
}

/// A small file of the model.
///
/// # Safety
/// The pointers are NULL or lead to a model, text, and room for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_model_file(
    model: *const Model,
    name: *const c_char,
    data: *mut *const u8,
    len: *mut u64,
) -> i32 {
    let (status, _) = call(|| {
        // SAFETY: as the caller promises, for both.
        let (model, name) = unsafe { (shared(model, "model")?, text(name, "name")?) };
        if data.is_null() || len.is_null() {
            return Err(null("data or len"));
        }
        let none = || {
            let name = name.to_string_lossy();
            Fault::Usage(format!("{name:?} is no file that was kept: tensors are not, nor what not_held lists"))
        };
        let bytes = model.file(name).ok_or_else(none)?;
        // SAFETY: as the caller promises.
        unsafe { put(data, bytes.as_ptr()) };
        // SAFETY: as above.
        unsafe { put(len, bytes.len() as u64) };
        Ok(())
    });
    status as i32
}

/// Releases a model.
///
/// # Safety
/// It is NULL or a model of this library that nobody uses any more, nor anything of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorseal_model_free(model: *mut Model) {
    // SAFETY: as the caller promises.
    unsafe { release(model) };
}
