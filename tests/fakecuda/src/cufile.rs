//! The functions of `cufile.h` (`libcufile.so.0`) that put bytes of files into device memory. They are in the same library:
//! whoever wants them to be found makes a link of that name to it.

use crate::abi::{Out, cufile, set_errno};
use crate::driver::{Driver, Files};
use crate::error::Code;
use std::ffi::{c_int, c_uint};

/// What `cufile.h` returns in place of a `CUresult`.
pub(crate) trait Returned {
    /// From the code of the call, 0 for none, and its value.
    fn of(code: c_int, value: i64) -> Self;
}

/// `CUfileError_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A `CUfileOpError`.
    pub cufile: c_int,
    /// A `CUresult`, with 5011.
    pub cuda: c_int,
}

/// Codes of CUDA become 5011 with that code.
const CUDA_DRIVER_ERROR: c_int = 5011;
const FIRST_CODE: c_int = 5000;

impl Returned for Status {
    fn of(code: c_int, _value: i64) -> Self {
        match code {
            0 | FIRST_CODE.. => Self { cufile: code, cuda: 0 },
            cuda => Self { cufile: CUDA_DRIVER_ERROR, cuda },
        }
    }
}

impl Returned for () {
    fn of(_code: c_int, _value: i64) {}
}

/// Bytes read; or -1 with an error number; or a code of cuFile, negative. `FAKECUDA_FAIL` gives either.
impl Returned for isize {
    fn of(code: c_int, value: i64) -> Self {
        match code {
            0 => value as Self,
            FIRST_CODE.. => -(code as Self),
            errno => {
                set_errno(errno);
                -1
            }
        }
    }
}

/// An int in the place of a pointer.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Descriptor(pub c_int);

/// `CUfileDescr_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// 1 for a descriptor of Linux.
    pub kind: c_uint,
    /// The descriptor.
    pub fd: Descriptor,
    /// Null.
    pub operations: usize,
}

/// The part `nvfs` of `CUfileDrvProps_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The version of nvidia-fs: 0.0 where it is not loaded.
    pub version: [c_uint; 2],
    /// Sizes in KiB.
    pub sizes: [usize; 2],
    /// Bit by bit, what file systems there are.
    pub status: c_uint,
    /// Bit 1: whether the compatibility mode is allowed.
    pub control: c_uint,
}

cufile! {
    fn cuFileDriverOpen() -> Status = |d: &mut Driver| d.open_files();
    fn cuFileDriverGetProperties(properties: Out<Properties>) -> Status = |d: &mut Driver| {
        let control = c_uint::from(d.config.files != Files::Strict) << 1;
        let version = if d.config.files == Files::Compatible { [0, 0] } else { [2, 20] };
        properties.put(Properties { version, sizes: [4, 16384], status: 1 << 4, control }).map(|()| 0)
    };
    fn cuFileHandleRegister(handle: Out<u64>, description: Out<Description>) -> Status = |d: &mut Driver| {
        let Description { kind, fd: Descriptor(fd), operations } = description.get()?;
        if kind != 1 || operations != 0 {
            return Err(Code(5018));
        }
        handle.put(d.register_file(fd)?).map(|()| 0)
    };
    fn cuFileHandleDeregister(handle: u64) -> () = |d: &mut Driver| d.deregister_file(handle);
    fn cuFileRead(handle: u64, base: u64, size: usize, at: i64, offset: i64) -> isize =
        |d: &mut Driver| d.read_file(handle, base.wrapping_add(offset.cast_unsigned()), size, at);
}
