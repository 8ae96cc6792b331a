//! What a caller lends: memory to take digests of, a stream, a function to call. With `abi.rs` the only place of pointers.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::slice;

use tensorseal::device::{AnyBuffer, AnyStream};
use tensorseal::layout::{Extent, Layout};
use tensorseal::{Device, Digest, digest_resident};

use crate::call::Fault;

/// A function of the caller that is told of progress: `tensorseal_progress`.
pub(crate) type Progress = unsafe extern "C" fn(user: *mut c_void, done: u64, total: u64) -> i32;

/// The same, with what it is called with.
#[derive(Clone, Copy)]
pub(crate) struct Callback {
    function: Progress,
    user: *mut c_void,
}

// SAFETY: the header says that it is called by threads of the library, and that `user` has to stand that.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    pub(crate) const fn new(function: Progress, user: *mut c_void) -> Self {
        Self { function, user }
    }

    /// Returns whether the caller wants it to end.
    pub(crate) fn call(&self, done: u64, total: u64) -> bool {
        // SAFETY: whoever set it promised that it can be called so, with this, for as long as verbs run.
        unsafe { (self.function)(self.user, done, total) != 0 }
    }
}

/// `tensorseal_part`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Part {
    data: *const c_void,
    len: u64,
    place: i32,
    reserved: u32,
    rows: u64,
    stride: u64,
}

/// `tensorseal_string`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Text {
    parts: *const Part,
    count: usize,
}

/// The two values of `place`.
pub(crate) const HOST: i32 = 0;
pub(crate) const DEVICE: i32 = 1;

/// A part that makes sense, with bytes in it.
struct Piece {
    host: bool,
    address: usize,
    row: u64,
    rows: u64,
    stride: u64,
    /// From the first byte to the last.
    span: usize,
}

impl Piece {
    /// `None` for a part without a byte.
    fn of(part: &Part, on_host: bool) -> Result<Option<Self>, String> {
        let rows = part.rows.max(1);
        let stride = if rows == 1 { part.len } else { part.stride };
        if part.reserved != 0 {
            return Err("its field reserved is not 0: was it set to zero before it was filled?".to_owned());
        }
        let host = match part.place {
            HOST => true,
            DEVICE if on_host => return Err("it lies in device memory, and the CPU takes the digests".to_owned()),
            DEVICE => false,
            other => return Err(format!("its place is {other}, which is neither host nor device")),
        };
        if part.len == 0 {
            return Ok(None);
        }
        let address = part.data.expose_provenance();
        if address == 0 {
            return Err(format!("it has {} bytes at NULL", part.len));
        }
        if stride < part.len {
            return Err(format!("its rows of {} bytes overlap: they are {stride} bytes apart", part.len));
        }
        if host && rows > 1 && !on_host {
            let why = "rows of host memory are for the CPU: give each row as a part, or copy them together";
            return Err(why.to_owned());
        }
        let span = stride.checked_mul(rows - 1).and_then(|span| span.checked_add(part.len));
        let span = span.and_then(|span| usize::try_from(span).ok()).filter(|&span| isize::try_from(span).is_ok());
        match span.filter(|&span| address.checked_add(span).is_some()) {
            Some(span) => Ok(Some(Self { host, address, row: part.len, rows, stride, span })),
            None => Err(format!("no memory has {} bytes from address {address:#x} on", part.len)),
        }
    }
}

/// Where the bytes of a piece are found.
enum Found<'a> {
    Bytes(&'a [u8]),
    Buffer(AnyBuffer, Piece),
}

impl Found<'_> {
    const fn extent(&self) -> Extent<'_, AnyBuffer> {
        match self {
            &Self::Bytes(bytes) => Extent::Host(bytes),
            Self::Buffer(buffer, Piece { row, rows: 1, .. }) => Extent::Range { buffer, at: 0, len: *row },
            Self::Buffer(buffer, Piece { row, rows, stride, .. }) => {
                Extent::Rows { buffer, at: 0, row: *row, stride: *stride, rows: *rows }
            }
        }
    }
}

/// BLAKE3 digests of strings, in order.
///
/// # Safety
/// `strings` are `count` strings, with their parts, as the header says: their bytes are there, and are not written to, until
/// this returns; so is the stream.
pub(crate) unsafe fn digests(
    device: &Device,
    strings: *const Text,
    count: usize,
    stream: *mut c_void,
) -> Result<Vec<Digest>, Fault> {
    if count == 0 || strings.is_null() {
        return Err(Fault::usage("there is no string to take a digest of: strings is NULL, or count is 0"));
    }
    let on_host = matches!(device, Device::Cpu(_));
    // SAFETY: as the caller promises.
    let strings = unsafe { items(strings, count) }.map_err(|why| Fault::Usage(format!("strings: {why}")))?;
    let mut found: Vec<Vec<Found<'_>>> = Vec::new();
    for (number, string) in strings.iter().enumerate() {
        // SAFETY: as the caller promises.
        let parts = unsafe { items(string.parts, string.count) };
        let parts = parts.map_err(|why| Fault::Usage(format!("the parts of string {number}: {why}")))?;
        let mut places = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            let piece = Piece::of(part, on_host);
            let piece = piece.map_err(|why| Fault::Usage(format!("part {at} of string {number}: {why}")))?;
            let Some(piece) = piece else { continue };
            // SAFETY: as above, and they were found to be bytes that memory can have.
            places.push(unsafe { lend(device, piece) }?);
        }
        found.push(places);
    }
    let layouts = found
        .iter()
        .map(|places| Layout::new(places.iter().map(Found::extent).collect()))
        .collect::<Result<Vec<_>, _>>();
    let layouts = layouts.map_err(|error| Fault::Failed(tensorseal::device::DeviceError::from(error).into()))?;
    // SAFETY: as the caller promises.
    let after = unsafe { stream_of(device, stream) }?;
    let measured = digest_resident(device, &layouts, after.as_ref())?;
    Ok(measured.into_iter().map(|measured| measured.digest).collect())
}

/// A list of the caller's.
///
/// # Safety
/// `first` is NULL, or leads to `count` values that nobody changes meanwhile.
unsafe fn items<'a, T>(first: *const T, count: usize) -> Result<&'a [T], String> {
    if count == 0 {
        return Ok(&[]);
    }
    // What a negative number becomes, and what no list can be.
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(format!("no memory has {count} of them"));
    }
    if first.is_null() {
        return Err(format!("they are NULL, and there are {count} of them"));
    }
    if !first.is_aligned() {
        return Err("they lie at an address that is no multiple of 8, as no such list does".to_owned());
    }
    // SAFETY: the caller promises that there are so many, and it is an address and a length that a slice can have.
    Ok(unsafe { slice::from_raw_parts(first, count) })
}

/// # Safety
/// The bytes of the piece are there for as long as the result is used, and are not written to.
unsafe fn lend<'a>(device: &Device, piece: Piece) -> Result<Found<'a>, Fault> {
    let owner = Box::new(());
    if piece.host && piece.rows == 1 {
        // SAFETY: as the caller promises; `Piece::of` looked at address and length.
        return Ok(Found::Bytes(unsafe {
            slice::from_raw_parts(std::ptr::with_exposed_provenance(piece.address), piece.span)
        }));
    }
    let buffer = match device {
        // SAFETY: as the caller promises.
        Device::Cpu(cpu) => AnyBuffer::Cpu(unsafe { cpu.foreign(piece.address, piece.span as u64, owner) }?),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            // SAFETY: as the caller promises; the digest is waited for before they may be freed.
            AnyBuffer::Cuda(unsafe { cuda.foreign(piece.address as u64, piece.span as u64, owner) }?)
        }
        _ => return Err(Fault::Usage(format!("memory of {} has no address that can be given", device.kind()))),
    };
    Ok(Found::Buffer(buffer, piece))
}

/// # Safety
/// The stream is one of the device, and stays until what is put behind it is done.
unsafe fn stream_of(device: &Device, stream: *mut c_void) -> Result<Option<AnyStream>, Fault> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => {
            let tensorseal::DeviceKind::Cuda(ordinal) = device.kind() else { return Ok(None) };
            let handle = stream.expose_provenance() as u64;
            // SAFETY: as the caller promises; NULL is the legacy default stream.
            let stream = unsafe { tensorseal::device::cuda::Stream::from_raw(ordinal, handle) };
            Ok(Some(AnyStream::Cuda(stream)))
        }
        _ if stream.is_null() => Ok(None),
        _ => Err(Fault::Usage(format!("{} has no streams: stream has to be NULL", device.kind()))),
    }
}
