//! The functions of the CUDA driver, found in its library when the first device is looked for.
//!
//! cudarc finds the library. The functions are declared here, not taken from its bindings, for two reasons: those
//! panic where an old driver lacks one, and they return results as an exhaustive enum, which a newer driver's codes are
//! no values of. Here a missing function is an error, and a result is a number.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys;

/// A context, stream, event, module or function of the driver.
pub(super) type Handle = *mut c_void;
/// An address in a device's memory.
pub(super) type Address = u64;
/// What a function of the driver returned.
pub(super) type Code = c_uint;

pub(super) const SUCCESS: Code = 0;
pub(super) const INVALID_VALUE: Code = 1;
pub(super) const OUT_OF_MEMORY: Code = 2;
const NO_DEVICE: Code = 100;
pub(super) const INVALID_DEVICE: Code = 101;
pub(super) const INVALID_IMAGE: Code = 200;
pub(super) const NO_BINARY_FOR_GPU: Code = 209;
pub(super) const NOT_FOUND: Code = 500;

macro_rules! functions {
    ($($name:ident($($argument:ty),*);)*) => {
        /// The functions that are used, under the names of the driver's manual.
        #[allow(non_snake_case, reason = "the driver's own names can be looked up")]
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
        }

        impl Api {
            /// Finds all of them, or names the first that is missing. The library must be there.
            fn find() -> Result<Self, &'static str> {
                // SAFETY: it loads the driver's library if that is not done; the caller has seen that it can be.
                let library = unsafe { sys::culib() };
                Ok(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        type Function = unsafe extern "C" fn($($argument),*) -> Code;
                        // SAFETY: the type is that of the driver's manual for a function of this name.
                        let found = unsafe { library.get::<Function>(name.as_bytes()) };
                        // A copy may outlive the library's handle: that is never closed.
                        *found.map_err(|_| stringify!($name))?
                    },)*
                })
            }
        }
    };
}

functions! {
    cuInit(c_uint);
    cuDriverGetVersion(*mut c_int);
    cuGetErrorName(Code, *mut *const c_char);
    cuGetErrorString(Code, *mut *const c_char);
    cuDeviceGetCount(*mut c_int);
    cuDeviceGet(*mut c_int, c_int);
    cuDeviceGetName(*mut c_char, c_int, c_int);
    cuDeviceGetUuid_v2(*mut [u8; 16], c_int);
    cuDeviceGetAttribute(*mut c_int, c_int, c_int);
    cuDeviceTotalMem_v2(*mut usize, c_int);
    cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuCtxPushCurrent_v2(Handle);
    cuCtxPopCurrent_v2(*mut Handle);
    cuCtxSynchronize();
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamWaitEvent(Handle, Handle, c_uint);
    cuEventCreate(*mut Handle, c_uint);
    cuEventDestroy_v2(Handle);
    cuEventRecord(Handle, Handle);
    cuEventSynchronize(Handle);
    cuEventElapsedTime(*mut f32, Handle, Handle);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut Address, usize);
    cuMemFree_v2(Address);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemcpyHtoDAsync_v2(Address, *const c_void, usize, Handle);
    cuMemcpyDtoHAsync_v2(*mut c_void, Address, usize, Handle);
    cuMemsetD8Async(Address, u8, usize, Handle);
    cuPointerGetAttribute(*mut c_void, c_int, Address);
    cuMemGetAddressRange_v2(*mut Address, *mut usize, Address);
    cuModuleLoadDataEx(*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
    cuModuleUnload(Handle);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuLaunchKernel(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
}

/// Why there is no CUDA on this machine.
#[derive(Debug, Clone)]
pub(super) struct NoCuda(String);

impl NoCuda {
    /// What is missing, and what to do.
    pub(super) fn why(&self) -> String {
        self.0.clone()
    }
}

impl Api {
    /// The driver, loaded and initialised at the first call.
    pub(super) fn get() -> Result<&'static Self, NoCuda> {
        static API: OnceLock<Result<Api, NoCuda>> = OnceLock::new();
        API.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, NoCuda> {
        // SAFETY: it loads the driver's library, whose initialisers we trust as all of it.
        if !unsafe { sys::is_culib_present() } {
            return Err(NoCuda(
                "no CUDA driver was found (libcuda.so.1): install NVIDIA's driver, in a container start it with \
                 --gpus all, or use --device cpu; the static build cannot load a driver"
                    .to_owned(),
            ));
        }
        let api = Self::find().map_err(|name| {
            NoCuda(format!("the CUDA driver is too old: it has no {name}; update it to one for CUDA 12 or later"))
        })?;
        // SAFETY: the first call, as the manual wants it.
        match unsafe { (api.cuInit)(0) } {
            SUCCESS => Ok(api),
            NO_DEVICE => Err(NoCuda(
                "the CUDA driver sees no device: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"
                    .to_owned(),
            )),
            code => Err(NoCuda(format!("the CUDA driver does not start: cuInit said {}", api.say(code)))),
        }
    }

    /// A result in words.
    pub(super) fn say(&self, code: Code) -> String {
        let mut texts = [String::new(), String::new()];
        for (text, function) in texts.iter_mut().zip([self.cuGetErrorName, self.cuGetErrorString]) {
            let mut pointer = std::ptr::null();
            // SAFETY: it writes one pointer, to a string that lives as long as the driver, or a null pointer.
            if unsafe { function(code, &raw mut pointer) } == SUCCESS && !pointer.is_null() {
                // SAFETY: the driver's strings end with a zero byte and are never freed.
                *text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
            }
        }
        let [name, about] = texts;
        match (name.is_empty(), about.is_empty() || about == name) {
            (true, _) => format!("error {code}, which it does not name"),
            (false, true) => format!("{name} ({code})"),
            (false, false) => format!("{name} ({code}: {about})"),
        }
    }
}
