//! Memory of other code as the library's buffers, and the devices that read it.

#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
#[cfg(feature = "cuda")]
use tensorseal::device::cuda::Stream;
use tensorseal::device::{AnyBuffer, AnyStream, DeviceError};
use tensorseal::format::Dtype;
use tensorseal::layout::Layout;
use tensorseal::resident::{OnDevice, ResidentTensor, Strides};
use tensorseal::{Device, DeviceKind};

use crate::dlpack::Keep;
use crate::error::{no_answer, to_python, usage};

/// `UsageError` about a tensor.
pub(crate) fn raise_usage(py: Python<'_>, name: &str, why: &str) -> PyErr {
    usage(py, format!("tensor {name:?}: {why}"))
}

/// What keeps devices: each is opened once a process, since its known-answer test takes time.
static DEVICES: Mutex<Vec<(DeviceKind, Arc<Device>)>> = Mutex::new(Vec::new());

/// The device of this kind. The interpreter is not held meanwhile: opening takes a while.
///
/// # Errors
/// Those of [`Device::open`]; it is tried again the next time.
pub(crate) fn device(kind: &DeviceKind) -> Result<Arc<Device>, DeviceError> {
    let known = |open: &[(DeviceKind, Arc<Device>)]| {
        open.iter().find(|(of, _)| of == kind).map(|(_, device)| Arc::clone(device))
    };
    let lock = || DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = known(&lock()) {
        return Ok(device);
    }
    // Without the lock: a driver that takes its time keeps nobody from another device, nor does a process that is forked
    // meanwhile wait for a thread that it does not have. Whoever was first is kept.
    let device = Arc::new(Device::open(kind.clone())?);
    let mut open = lock();
    Ok(known(&open).unwrap_or_else(|| {
        open.push((kind.clone(), Arc::clone(&device)));
        device
    }))
}

/// Which CUDA device memory at this address is on, as the driver says through the first device.
///
/// # Errors
/// What is wrong with the devices, or the address.
pub(crate) fn ordinal_of(address: u64) -> Result<usize, DeviceError> {
    match &*device(&DeviceKind::Cuda(0))? {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => cuda.ordinal_of(address),
        other => Err(DeviceError::NotCompiled(other.kind())),
    }
}

/// One stored element of a tensor.
pub(crate) struct Element {
    /// Its type, as safetensors calls it; `None` if that has none of the kind.
    pub(crate) dtype: Option<Dtype>,
    /// What whoever lends it calls it.
    pub(crate) name: String,
    /// Bits in it.
    pub(crate) bits: u64,
    /// How many elements of `dtype` it is.
    pub(crate) per: u64,
}

impl Element {
    /// Of DLPack's type `code`. `None` for what is not made of bytes alone.
    pub(crate) fn of_dlpack(code: u8, bits: u8, lanes: u16, padded: bool) -> Option<Self> {
        let name = match (code, bits) {
            (0, 8) => "I8",
            (0, 16) => "I16",
            (0, 32) => "I32",
            (0, 64) => "I64",
            (1, 8) => "U8",
            (1, 16) => "U16",
            (1, 32) => "U32",
            (1, 64) => "U64",
            (2, 16) => "F16",
            (2, 32) => "F32",
            (2, 64) => "F64",
            (4, 16) => "BF16",
            (5, 64) => "C64",
            (6, 8) => "BOOL",
            (10, 8) => "F8_E4M3",
            (11, 8) => "F8_E4M3FNUZ",
            (12, 8) => "F8_E5M2",
            (13, 8) => "F8_E5M2FNUZ",
            (14, 8) => "F8_E8M0",
            (15, 6) if !padded => "F6_E2M3",
            (16, 6) if !padded => "F6_E3M2",
            (17, 4) if !padded => "F4",
            // 3 is a handle, which says nothing of what it is a handle to.
            (3, _) | (_, 0) => return None,
            _ => "",
        };
        let bits = if padded { u64::from(bits).next_multiple_of(8) } else { u64::from(bits) } * u64::from(lanes);
        let own = format!("DLPack type {code} of {bits} bits");
        (lanes > 0).then(|| Self { dtype: Dtype::from_safetensors(name), name: own, bits, per: u64::from(lanes) })
    }

    /// Of a format of the buffer protocol, or NumPy's letters.
    ///
    /// # Errors
    /// Why its bytes are not those of a file.
    pub(crate) fn of_format(format: &str, item: u64) -> Result<Self, String> {
        let code = format.trim_start_matches(['@', '=', '<', '>', '!', '|']);
        let kind = match code {
            "?" => "b",
            "b" | "h" | "i" | "l" | "q" | "n" => "i",
            "B" | "H" | "I" | "L" | "Q" | "N" | "c" => "u",
            "e" | "f" | "d" => "f",
            "Zf" | "Zd" => "c",
            _ => return Err(format!("its elements are of format {format:?}, which no file of tensors has")),
        };
        let order = if format.starts_with(['>', '!']) { '>' } else { '<' };
        Self::of_letter(order, kind, item, format)
    }

    /// Of a type string of `__cuda_array_interface__`.
    ///
    /// # Errors
    /// Why its bytes are not those of a file.
    pub(crate) fn of_typestr(typestr: &str) -> Result<Self, String> {
        let no = || format!("its elements are of type {typestr:?}, which no file of tensors has");
        let mut letters = typestr.chars();
        let (order, kind) = letters.next().zip(letters.next()).ok_or_else(no)?;
        let item: u64 = letters.as_str().parse().map_err(|_| no())?;
        if !"<>|=".contains(order) || !"biufcV".contains(kind) || item == 0 {
            return Err(no());
        }
        Self::of_letter(order, kind.encode_utf8(&mut [0; 4]), item, typestr)
    }

    fn of_letter(order: char, kind: &str, item: u64, own: &str) -> Result<Self, String> {
        let big = order == '>' || (order == '=' && cfg!(target_endian = "big"));
        if big && item > 1 {
            return Err(format!(
                "its elements are big-endian ({own:?}), and files of tensors are little-endian; give \
                 a.astype(a.dtype.newbyteorder('<'))"
            ));
        }
        let name = match (kind, item) {
            ("b", 1) => "BOOL",
            ("i", 1) => "I8",
            ("i", 2) => "I16",
            ("i", 4) => "I32",
            ("i", 8) => "I64",
            ("u", 1) => "U8",
            ("u", 2) => "U16",
            ("u", 4) => "U32",
            ("u", 8) => "U64",
            ("f", 2) => "F16",
            ("f", 4) => "F32",
            ("f", 8) => "F64",
            ("c", 8) => "C64",
            _ => "",
        };
        let bits = item.checked_mul(8).filter(|&bits| bits > 0);
        let bits =
            bits.ok_or_else(|| format!("its elements of format {own:?} have no bytes, or more than any memory"))?;
        Ok(Self { dtype: Dtype::from_safetensors(name), name: own.to_owned(), bits, per: 1 })
    }
}

/// What an object says of its memory.
pub(crate) struct Described {
    pub(crate) device: DeviceKind,
    /// Of its first element.
    pub(crate) address: u64,
    pub(crate) dtype: Option<Dtype>,
    /// What the lender calls the type.
    pub(crate) type_name: String,
    /// In elements of `dtype`.
    pub(crate) shape: Vec<u64>,
    /// In elements of `dtype`.
    pub(crate) strides: Vec<i64>,
    /// What is stored: bytes of an element, how many along each dimension, and bytes from each to the next.
    item: u64,
    units: Vec<u64>,
    steps: Vec<i64>,
}

const NO_NUMBER: &str = "its shape and strides are beyond all numbers";

impl Described {
    /// Memory with strides that count stored elements; without, it is in C order.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn in_elements(
        device: DeviceKind,
        address: u64,
        element: Element,
        shape: Vec<u64>,
        strides: Option<Vec<i64>>,
    ) -> Result<Self, String> {
        let dense = c_order(&shape).ok_or(NO_NUMBER)?;
        let strides = strides.unwrap_or_else(|| dense.clone());
        if strides.len() != shape.len() {
            return Err(format!("it has {} dimensions and {} strides", shape.len(), strides.len()));
        }
        let Element { dtype, name: type_name, bits, per } = element;
        let (item, units, steps) = if bits.is_multiple_of(8) {
            let item = bits / 8;
            let step = |stride: &i64| i64::try_from(item).ok().and_then(|item| stride.checked_mul(item));
            let steps = strides.iter().map(step).collect::<Option<Vec<_>>>().ok_or(NO_NUMBER)?;
            (item, shape.clone(), steps)
        } else {
            // Several elements in a byte, which only counts as a whole.
            if shape.iter().zip(&strides).zip(&dense).any(|((&size, stride), dense)| size > 1 && stride != dense) {
                return Err(
                    "its elements are less than a byte, and do not lie one after the other; give a contiguous \
                            copy: `.contiguous()`"
                        .to_owned(),
                );
            }
            let all = shape.iter().try_fold(bits, |all, &size| all.checked_mul(size)).ok_or(NO_NUMBER)?;
            if !all.is_multiple_of(8) {
                return Err("its last element ends within a byte".to_owned());
            }
            (1, vec![all / 8], vec![1])
        };
        let (mut shape, mut strides) = (shape, strides);
        if per > 1 {
            let factor = i64::try_from(per).map_err(|_| NO_NUMBER)?;
            for stride in &mut strides {
                *stride = stride.checked_mul(factor).ok_or(NO_NUMBER)?;
            }
            match (shape.last_mut(), strides.last_mut()) {
                (Some(size), Some(stride)) => {
                    // Those in one stored element lie one after the other; to the next of one nothing steps.
                    if *stride == factor || *size == 1 {
                        *stride = 1;
                    }
                    *size = size.checked_mul(per).ok_or(NO_NUMBER)?;
                }
                _ => (shape, strides) = (vec![per], vec![1]),
            }
        }
        Ok(Self { device, address, dtype, type_name, shape, strides, item, units, steps })
    }

    /// The same with strides in bytes.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn in_bytes(
        device: DeviceKind,
        address: u64,
        element: Element,
        shape: Vec<u64>,
        strides: Option<Vec<i64>>,
    ) -> Result<Self, String> {
        let Some(steps) = strides else { return Self::in_elements(device, address, element, shape, None) };
        if steps.len() != shape.len() {
            return Err(format!("it has {} dimensions and {} strides", shape.len(), steps.len()));
        }
        let item = i64::try_from(element.bits / 8).map_err(|_| NO_NUMBER)?;
        let apart = shape.iter().zip(&steps).any(|(&size, step)| size > 1 && step.checked_rem(item) != Some(0));
        // Of fields of a structure: elements have no strides then, and only bytes do.
        let element = if apart { Element { dtype: None, ..element } } else { element };
        let strides = steps.iter().map(|step| step.checked_div(item)).collect::<Option<Vec<_>>>().ok_or(NO_NUMBER)?;
        let described = Self::in_elements(device, address, element, shape, Some(strides))?;
        Ok(Self { steps, ..described })
    }

    /// Bytes of all elements.
    pub(crate) fn bytes(&self) -> Result<u64, String> {
        let bytes = self.units.iter().try_fold(self.item, |bytes, &count| bytes.checked_mul(count));
        if self.units.contains(&0) { Ok(0) } else { bytes.ok_or_else(|| NO_NUMBER.to_owned()) }
    }

    /// Bytes from one index to the next along each dimension but the last, along which elements must follow each other;
    /// `None` if it is all in C order.
    ///
    /// # Errors
    /// What is wrong with its strides.
    pub(crate) fn outer_steps(&self) -> Result<Option<Vec<u64>>, String> {
        let dense = c_order(&self.units).ok_or(NO_NUMBER)?;
        let item = i64::try_from(self.item).map_err(|_| NO_NUMBER)?;
        let apart = |((&count, step), dense): ((&u64, &i64), &i64)| count > 1 && Some(*step) != dense.checked_mul(item);
        if self.units.contains(&0) || !self.units.iter().zip(&self.steps).zip(&dense).any(apart) {
            return Ok(None);
        }
        let contiguous = "give a contiguous copy: `.contiguous()`";
        let (Some((&last, units)), Some((&step, steps))) = (self.units.split_last(), self.steps.split_last()) else {
            return Ok(None);
        };
        if last > 1 && step != item {
            return Err(format!("elements of its last dimension do not follow each other; {contiguous}"));
        }
        let outer = units.iter().zip(steps).map(|(&count, &step)| match u64::try_from(step) {
            // Never stepped along.
            _ if count == 1 => Ok(0),
            Ok(step) => Ok(step),
            Err(_) => Err(format!("it runs backwards; {contiguous}")),
        });
        outer.collect::<Result<_, _>>().map(Some)
    }

    /// From its first byte to the one behind its last, as far as strides lead forward.
    fn span(&self) -> Option<u64> {
        if self.units.contains(&0) {
            return Some(0);
        }
        self.units.iter().zip(&self.steps).try_fold(self.item, |span, (&count, &step)| {
            u64::try_from(step).unwrap_or(0).checked_mul(count - 1)?.checked_add(span)
        })
    }
}

fn c_order(shape: &[u64]) -> Option<Vec<i64>> {
    let mut next = 1_i64;
    let mut strides = Vec::with_capacity(shape.len());
    for &size in shape.iter().rev() {
        strides.push(next);
        next = next.checked_mul(i64::try_from(size.max(1)).ok()?)?;
    }
    strides.reverse();
    Some(strides)
}

/// Memory that an object lends, until whoever reads it is done.
pub(crate) struct Taken {
    /// What errors call it.
    pub(crate) name: String,
    pub(crate) described: Described,
    /// The queue of its device behind which it is what it shall be.
    pub(crate) stream: Option<u64>,
    _keep: Keep,
}

/// A tensor that cannot be used, and why.
pub(crate) enum Unusable {
    /// The library's reason, of this tensor.
    Tensor(String, DeviceError),
    /// A reason of the bindings' own, of this tensor.
    Usage(String, String),
    /// The library's reason.
    Library(tensorseal::Error),
}

impl Unusable {
    /// As an exception: a tensor that no device can read where it is was not one to pass.
    pub(crate) fn to_python(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Tensor(name, error @ DeviceError::Refused { .. }) => raise_usage(py, name, &error.to_string()),
            Self::Tensor(name, error) => no_answer(py, "device", format!("tensor {name:?}: {error}")),
            Self::Usage(name, why) => raise_usage(py, name, why),
            Self::Library(error) => to_python(py, error),
        }
    }
}

impl<E: Into<tensorseal::Error>> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self::Library(error.into())
    }
}

impl Taken {
    pub(crate) const fn new(name: String, described: Described, stream: Option<u64>, keep: Keep) -> Self {
        Self { name, described, stream, _keep: keep }
    }

    /// Its memory as a buffer of its device, which keeps it.
    fn lend(self: &Arc<Self>, device: &Device) -> Result<AnyBuffer, Unusable> {
        let of = &self.described;
        let outside =
            || tensorseal::resident::PlacementError::Outside { tensor: self.name.clone(), end: u64::MAX, size: 0 };
        let len = of.span().ok_or_else(outside)?;
        let owner = Box::new(Arc::clone(self));
        let lent = match device {
            // SAFETY: whoever lent the memory says that it is there, and is kept until the buffer is dropped. That nobody
            // writes to it meanwhile is what every result says it rests on.
            Device::Cpu(cpu) => unsafe { cpu.foreign(of.address as usize, len, owner) }.map(AnyBuffer::Cpu),
            #[cfg(feature = "cuda")]
            // SAFETY: as above, and the driver is asked about it.
            Device::Cuda(cuda) => unsafe { cuda.foreign(of.address, len, owner) }.map(AnyBuffer::Cuda),
            other => Err(DeviceError::NotCompiled(other.kind())),
        };
        lent.map_err(|error| Unusable::Tensor(self.name.clone(), error))
    }
}

/// Tensors in memory, by device: what the library's verbs take. Each device is there once for each queue of the tensors on
/// it.
pub(crate) struct Memory {
    places: Vec<(Arc<Device>, Option<AnyStream>)>,
    /// Each tensor, its place, and its buffer.
    pub(crate) tensors: Vec<(Arc<Taken>, usize, AnyBuffer)>,
}

impl Memory {
    /// # Errors
    /// A device that cannot be opened, or memory that is not its own.
    pub(crate) fn new(tensors: &[Arc<Taken>]) -> Result<Self, Unusable> {
        let mut keys: Vec<(&DeviceKind, Option<u64>)> = Vec::new();
        let (mut places, mut lent) = (Vec::new(), Vec::with_capacity(tensors.len()));
        for tensor in tensors {
            let key = (&tensor.described.device, tensor.stream);
            let index = match keys.iter().position(|known| *known == key) {
                Some(index) => index,
                None => {
                    let device = device(key.0).map_err(|error| Unusable::Tensor(tensor.name.clone(), error))?;
                    places.push((device, stream(key.0, key.1)));
                    keys.push(key);
                    keys.len() - 1
                }
            };
            let (device, _): &(Arc<Device>, _) = &places[index];
            lent.push((Arc::clone(tensor), index, tensor.lend(device)?));
        }
        Ok(Self { places, tensors: lent })
    }

    /// The devices, each with its queue.
    pub(crate) fn devices(&self) -> Vec<OnDevice<'_, Device>> {
        self.places.iter().map(|(backend, after)| OnDevice { backend: &**backend, after: after.as_ref() }).collect()
    }

    /// The tensors on device number `device`, by their numbers.
    pub(crate) fn on(&self, device: usize) -> impl Iterator<Item = usize> {
        self.tensors.iter().enumerate().filter(move |(_, (_, on, _))| *on == device).map(|(index, _)| index)
    }

    /// The bytes of tensor number `index`, in C order.
    ///
    /// # Errors
    /// Strides that cannot be read in place.
    pub(crate) fn layout(&self, index: usize) -> Result<Layout<'_, AnyBuffer>, Unusable> {
        let (taken, device, buffer) = &self.tensors[index];
        let of = &taken.described;
        // Elements of any type are bytes along one dimension more.
        let dtype = Dtype::from_safetensors("U8").ok_or_else(|| DeviceError::Worker(of.device.clone()))?;
        let tensor = ResidentTensor {
            name: &taken.name,
            file: None,
            device: *device,
            buffer,
            at: 0,
            dtype,
            shape: of.units.iter().copied().chain([of.item]).collect(),
            strides: Strides::Bytes(of.steps.iter().copied().chain([1]).collect()),
        };
        Ok(tensor.layout()?)
    }
}

/// The queue with this handle.
fn stream(device: &DeviceKind, handle: Option<u64>) -> Option<AnyStream> {
    match (device, handle) {
        #[cfg(feature = "cuda")]
        (DeviceKind::Cuda(ordinal), Some(handle)) => {
            // SAFETY: whoever gave the handle says that it is one of this device's primary context, and keeps it: torch never
            // destroys its streams, and others are alive as long as the caller holds them, who waits for us.
            Some(AnyStream::Cuda(unsafe { Stream::from_raw(*ordinal, handle) }))
        }
        _ => None,
    }
}
