//! cuFile: bytes of files put into device memory, at once and beside all streams, as a disk does that writes there.

use super::{Driver, Handle, Kind};
use crate::error::{Code, INVALID_CONTEXT};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const DRIVER_NOT_INITIALIZED: Code = Code(5001);
const POINTER_INVALID: Code = Code(5012);
const INVALID_OPEN_FLAG: Code = Code(5019);
const INVALID_VALUE: Code = Code(5022);
const ALREADY_OPEN: Code = Code(5026);
const NOT_REGISTERED: Code = Code(5027);
const ALREADY_REGISTERED: Code = Code(5028);

/// How the machine is set up for cuFile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Files {
    /// nvidia-fs is loaded, and where it cannot help the library may go through host memory.
    #[default]
    Either,
    /// nvidia-fs is loaded, and nothing goes through host memory.
    Strict,
    /// nvidia-fs is not loaded: everything goes through host memory.
    Compatible,
}

/// A registered file.
pub(super) struct Registered {
    fd: i32,
    /// The same file, without the flag that wants alignment: cuFile sees to that itself.
    file: File,
}

impl Driver {
    pub(crate) fn open_files(&mut self) -> Result<i64, Code> {
        if std::mem::replace(&mut self.files_open, true) { Err(ALREADY_OPEN) } else { Ok(0) }
    }

    pub(crate) fn register_file(&mut self, fd: i32) -> Result<Handle, Code> {
        if !self.files_open {
            return Err(DRIVER_NOT_INITIALIZED);
        }
        if self.files.values().any(|known| known.fd == fd) {
            return Err(ALREADY_REGISTERED);
        }
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).map_err(|_| INVALID_VALUE)?;
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
        if flags & O_DIRECT == 0 {
            return Err(INVALID_OPEN_FLAG);
        }
        let file = File::open(format!("/proc/self/fd/{fd}")).map_err(|_| INVALID_VALUE)?;
        let handle = self.new_handle();
        self.files.insert(handle, Registered { fd, file });
        self.report.created(Kind::File, handle);
        Ok(handle)
    }

    pub(crate) fn deregister_file(&mut self, handle: Handle) -> Result<i64, Code> {
        self.files.remove(&handle).ok_or(NOT_REGISTERED)?;
        self.report.destroyed(Kind::File, handle);
        Ok(0)
    }

    /// Returns how many bytes came. They count among the copies to the device, and the faults of those are theirs.
    pub(crate) fn read_file(&mut self, handle: Handle, to: u64, size: usize, at: i64) -> Result<i64, Code> {
        let registered = self.files.get(&handle).ok_or(NOT_REGISTERED)?;
        let device = self.current().map_err(|code| if code == INVALID_CONTEXT { POINTER_INVALID } else { code })?;
        self.file_reads += 1;
        let most = self.config.short.iter().find(|(read, _)| *read == self.file_reads).map(|(_, bytes)| *bytes);
        let size = most.map_or(size, |most| size.min(usize::try_from(most).unwrap_or(size)));
        let allocation = self.holding(device, to, size as u64).map_err(|_| POINTER_INVALID)?;
        let mut bytes = vec![0; size];
        let mut filled = 0;
        let at = u64::try_from(at).map_err(|_| INVALID_VALUE)?;
        while filled < size {
            match registered.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return Err(Code(error.raw_os_error().unwrap_or(5))),
            }
        }
        bytes.truncate(filled);
        if filled > 0 {
            let (lost, flip) = self.fate_of_copy(filled as u64);
            super::streams::flip(&mut bytes, flip);
            if !lost {
                allocation.write(to, &bytes);
            }
        }
        i64::try_from(filled).map_err(|_| INVALID_VALUE)
    }
}

/// As in Linux's `fcntl.h`, which is not the same for every processor.
const O_DIRECT: u32 = if cfg!(any(target_arch = "aarch64", target_arch = "arm")) { 0o200_000 } else { 0o40_000 };
