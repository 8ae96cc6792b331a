//! cuFile (GPUDirect Storage): a file's bytes put into device memory by the storage itself, or by its library where that
//! cannot be.
//!
//! The library is looked for when the first file is read so; nothing of it is needed to build. Declared from cudarc's
//! bindings of it and NVIDIA's manual, and not run on a GPU: it was tried on the library of `tests/fakecuda`.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Arc, OnceLock};

use super::super::backend::{Storage, StorageError, StoragePath};
use super::super::{DeviceError, DeviceKind};
use super::api::{Code, Handle, SUCCESS};
use super::engine::Engine;
use super::memory::Buffer;

/// Its name, with the number of its interface.
const LIBRARY: &CStr = c"libcufile.so.0";

/// `CUfileError_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Status {
    /// A `CUfileOpError`, which newer libraries have more of: a number.
    cufile: c_uint,
    /// A `CUresult`, with `CUDA_DRIVER_ERROR`.
    cuda: Code,
}

/// `CUfileDescr_t`, for a descriptor of Linux.
#[repr(C)]
struct Description {
    kind: c_uint,
    file: Descriptor,
    operations: *const c_void,
}

/// The union in it.
#[repr(C)]
union Descriptor {
    fd: c_int,
    _handle: *mut c_void,
}

/// `CU_FILE_HANDLE_TYPE_OPAQUE_FD`.
const OPAQUE_FD: c_uint = 1;

/// `CUfileDrvProps_t`, of which the first part has been the same in all versions; the rest is room for any of them.
#[repr(C)]
#[derive(Default)]
struct Properties {
    /// Of nvidia-fs: zero where it is not loaded.
    major: c_uint,
    minor: c_uint,
    poll_threshold: usize,
    max_direct_io: usize,
    status: c_uint,
    control: c_uint,
    rest: [u64; 32],
}

/// Bits of `control`: reads may go through host memory, they all do, or they do when others fail.
const ALLOW_COMPAT_MODE: c_uint = 1 << 1;
const POSIX_IO_MODE: c_uint = 1 << 2;
const FALLBACK_IO_MODE: c_uint = 1 << 4;
/// A bit of `status`: disks that write to device memory without nvidia-fs.
const NVME_P2P_SUPPORTED: c_uint = 1 << 11;

const CUDA_DRIVER_ERROR: c_uint = 5011;
/// Somebody else in this process, which is as well.
const DRIVER_ALREADY_OPEN: c_uint = 5026;

/// The functions that are used, under the names of the manual.
#[allow(non_snake_case, reason = "the library's own names can be looked up")]
struct CuFile {
    cuFileHandleRegister: unsafe extern "C" fn(*mut Handle, *mut Description) -> Status,
    cuFileHandleDeregister: unsafe extern "C" fn(Handle),
    cuFileRead: unsafe extern "C" fn(Handle, *mut c_void, usize, libc::off_t, libc::off_t) -> isize,
    path: StoragePath,
}

/// A function of the library.
///
/// # Safety
/// `F` is the type of a function pointer that is right for this name.
unsafe fn find<F: Copy>(library: *mut c_void, name: &'static CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is open, and never closed; the name ends with a zero byte.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        let name = name.to_string_lossy();
        return Err(format!("{} has no {name}: install a newer GPUDirect Storage", LIBRARY.to_string_lossy()));
    }
    // SAFETY: a pointer to a function, of the type that the caller promises, and as large as any.
    Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&found) })
}

impl CuFile {
    /// The library, loaded and opened at the first call, or what is missing.
    fn get() -> Result<&'static Self, String> {
        static API: OnceLock<Result<CuFile, String>> = OnceLock::new();
        API.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        if cfg!(target_feature = "crt-static") {
            return Err("the static build of tensorseal cannot load it: use another build".to_owned());
        }
        // SAFETY: it loads the library, whose initialisers we trust as all of it. It is never closed.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(format!(
                "no {} was found: install GPUDirect Storage (the package libcufile of CUDA)",
                LIBRARY.to_string_lossy()
            ));
        }
        type Open = unsafe extern "C" fn() -> Status;
        type Ask = unsafe extern "C" fn(*mut Properties) -> Status;
        // SAFETY: the types are those of `cufile.h` for functions of these names.
        let (open, ask, mut api) = unsafe {
            (
                find::<Open>(library, c"cuFileDriverOpen")?,
                find::<Ask>(library, c"cuFileDriverGetProperties")?,
                Self {
                    cuFileHandleRegister: find(library, c"cuFileHandleRegister")?,
                    cuFileHandleDeregister: find(library, c"cuFileHandleDeregister")?,
                    cuFileRead: find(library, c"cuFileRead")?,
                    path: StoragePath::Unknown,
                },
            )
        };
        // SAFETY: the first call, as the manual wants it. It is not closed again: that would end it for the whole process.
        let opened = unsafe { open() };
        if opened.cufile != DRIVER_ALREADY_OPEN {
            opened.check().map_err(|why| format!("cuFile does not start: cuFileDriverOpen said {why}"))?;
        }
        let mut facts = Properties::default();
        // SAFETY: it writes a structure that begins so and is no longer than this one.
        unsafe { ask(&raw mut facts) }
            .check()
            .map_err(|why| format!("cuFile does not start: cuFileDriverGetProperties said {why}"))?;
        api.path = facts.path();
        Ok(api)
    }
}

impl Properties {
    /// What can be said of the way that bytes take.
    const fn path(&self) -> StoragePath {
        let without = self.major == 0 && self.minor == 0 && self.status & NVME_P2P_SUPPORTED == 0;
        match self.control & (ALLOW_COMPAT_MODE | POSIX_IO_MODE | FALLBACK_IO_MODE) {
            0 => StoragePath::Device,
            modes if without || modes & POSIX_IO_MODE != 0 => StoragePath::Host,
            _ => StoragePath::Unknown,
        }
    }
}

impl Status {
    fn check(self) -> Result<(), String> {
        match self.cufile {
            SUCCESS => Ok(()),
            CUDA_DRIVER_ERROR => Err(format!("CU_FILE_CUDA_DRIVER_ERROR, from CUDA's error {}", self.cuda)),
            code => Err(say(code)),
        }
    }
}

/// A code in words: those that a machine's set-up can be the reason of.
fn say(code: c_uint) -> String {
    let (name, about) = match code {
        5001 => ("CU_FILE_DRIVER_NOT_INITIALIZED", ""),
        5003 => ("CU_FILE_DRIVER_UNSUPPORTED_LIMIT", ""),
        5004 => ("CU_FILE_DRIVER_VERSION_MISMATCH", ": the library and nvidia-fs do not go together"),
        5005 => ("CU_FILE_DRIVER_VERSION_READ_ERROR", ""),
        5006 => ("CU_FILE_DRIVER_CLOSING", ""),
        5007 => ("CU_FILE_PLATFORM_NOT_SUPPORTED", ""),
        5008 => ("CU_FILE_IO_NOT_SUPPORTED", ": not for this file system or device, and its compatibility mode is off"),
        5009 => ("CU_FILE_DEVICE_NOT_SUPPORTED", ": not with this GPU"),
        5010 => ("CU_FILE_NVFS_DRIVER_ERROR", ": nvidia-fs is not loaded, or does not work"),
        5011 => ("CU_FILE_CUDA_DRIVER_ERROR", ""),
        5012 => ("CU_FILE_CUDA_POINTER_INVALID", ""),
        5013 => ("CU_FILE_CUDA_MEMORY_TYPE_INVALID", ""),
        5015 => ("CU_FILE_CUDA_CONTEXT_MISMATCH", ""),
        5018 => ("CU_FILE_INVALID_FILE_TYPE", ": not for this file system"),
        5019 => ("CU_FILE_INVALID_FILE_OPEN_FLAG", ""),
        5020 => ("CU_FILE_DIO_NOT_SET", ""),
        5022 => ("CU_FILE_INVALID_VALUE", ""),
        5025 => ("CU_FILE_PERMISSION_DENIED", ""),
        5027 => ("CU_FILE_HANDLE_NOT_REGISTERED", ""),
        5028 => ("CU_FILE_HANDLE_ALREADY_REGISTERED", ""),
        5029 => ("CU_FILE_DEVICE_NOT_FOUND", ""),
        5030 => ("CU_FILE_INTERNAL_ERROR", ""),
        5033 => ("CU_FILE_NVFS_SETUP_ERROR", ""),
        5034 => ("CU_FILE_IO_DISABLED", ""),
        5036 => ("CU_FILE_GPU_MEMORY_PINNING_FAILED", ": the GPU has too little BAR1 memory free"),
        code => return format!("error {code} of cuFile"),
    };
    format!("{name} ({code}{about})")
}

/// A file that cuFile knows.
pub(super) struct Stored {
    engine: Arc<Engine>,
    api: &'static CuFile,
    handle: Handle,
    /// Open as long as it is known.
    _file: File,
}

impl Stored {
    /// Makes it known. It was opened past the page cache.
    pub(super) fn open(engine: &Arc<Engine>, file: File) -> Result<Self, StorageError> {
        let current = engine.context.enter()?;
        let api = CuFile::get().map_err(StorageError::Missing)?;
        let mut description =
            Description { kind: OPAQUE_FD, file: Descriptor { fd: file.as_raw_fd() }, operations: ptr::null() };
        let mut handle = ptr::null_mut();
        // SAFETY: it reads the one and writes the other; the descriptor is open, and stays so.
        let registered = unsafe { (api.cuFileHandleRegister)(&raw mut handle, &raw mut description) };
        drop(current);
        registered.check().map_err(|why| StorageError::Missing(format!("cuFileHandleRegister said {why}")))?;
        Ok(Self { engine: Arc::clone(engine), api, handle, _file: file })
    }

    fn failed(&self, why: String) -> DeviceError {
        DeviceError::Driver { device: self.kind(), call: "cuFileRead", why }
    }

    fn kind(&self) -> DeviceKind {
        self.engine.context.kind()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // It needs no context, but has one where there is one to have.
        let _current = self.engine.context.enter_to_free();
        // SAFETY: registered in `open`, given back once, with no read under way: they end before they return.
        unsafe { (self.api.cuFileHandleDeregister)(self.handle) };
    }
}

impl Storage<Buffer> for Stored {
    fn read(&self, at: u64, len: u64, to: &mut Buffer, to_at: u64) -> Result<u64, DeviceError> {
        let addresses = self.engine.settle(&to.memory, to_at, len)?;
        let current = self.engine.context.enter()?;
        let mut filled = 0;
        while filled < len {
            let too_far = || self.failed(format!("no file has bytes at {at} and {len} behind it"));
            let place = at.checked_add(filled).and_then(|at| libc::off_t::try_from(at).ok()).ok_or_else(too_far)?;
            let left = usize::try_from(len - filled).map_err(|_| too_far())?;
            let base = ptr::with_exposed_provenance_mut((addresses.start + filled) as usize);
            // SAFETY: so many bytes of the device's memory, which is alive and reached through this reference alone; what
            // was queued that reads or writes there is done. The handle is registered.
            let count = unsafe { (self.api.cuFileRead)(self.handle, base, left, place, 0) };
            match u64::try_from(count) {
                Ok(0) => break,
                Ok(count) if count <= len - filled => filled += count,
                // It wrote where it should not have.
                Ok(count) => {
                    let error = self.failed(format!("it was asked for {left} bytes and says that it read {count}"));
                    return Err(self.engine.context.close(error));
                }
                Err(_) if count == -1 => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(self.failed(error.to_string()));
                    }
                }
                Err(_) => {
                    let code = u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
                    let error = self.failed(say(code));
                    // What failed in CUDA itself ends all use of the device.
                    return Err(if code == CUDA_DRIVER_ERROR { self.engine.context.close(error) } else { error });
                }
            }
        }
        drop(current);
        self.engine.context.healthy()?;
        Ok(filled)
    }

    fn path(&self) -> StoragePath {
        self.api.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_that_bytes_take_is_said_only_where_it_is_known() {
        let with = |version: c_uint, status, control| {
            Properties { major: version, minor: version, status, control, ..Properties::default() }.path()
        };
        assert_eq!(with(2, 0, 0), StoragePath::Device);
        // Nothing may go through host memory: what cannot go directly fails.
        assert_eq!(with(0, 0, 0), StoragePath::Device);
        assert_eq!(with(2, 0, ALLOW_COMPAT_MODE), StoragePath::Unknown);
        assert_eq!(with(0, 0, ALLOW_COMPAT_MODE), StoragePath::Host);
        assert_eq!(with(0, NVME_P2P_SUPPORTED, ALLOW_COMPAT_MODE), StoragePath::Unknown);
        assert_eq!(with(2, 0, POSIX_IO_MODE), StoragePath::Host);
        assert_eq!(with(2, 0, FALLBACK_IO_MODE), StoragePath::Unknown);
        assert_eq!(with(2, 0, 1), StoragePath::Device, "polling is no matter of it");
    }

    #[test]
    fn structures_are_as_long_as_the_library_has_them() {
        assert_eq!((size_of::<Status>(), size_of::<Description>()), (8, 24));
        assert_eq!(std::mem::offset_of!(Properties, control), 28);
        // Six more ints, in the longest version.
        assert!(size_of::<Properties>() >= 32 + 6 * 4);
    }
}
