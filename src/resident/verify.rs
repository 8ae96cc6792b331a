//! Are the tensors that lie in device memory those of the signed files? Their files are put together where the tensors
//! are: the header from the host, each tensor's bytes from its device, and the digest of all that is compared.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use super::OnDevice;
use super::place::{PlacementError, ResidentTensor};
use super::spread::{self, Spread};
use super::verdict::{MeasuredAsSigned, MeasuredFile, Mismatch};
use crate::device::Backend;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, VerifyError};
use crate::format::{Format, Header, HeaderFault, Tensor};
use crate::input::open_regular;
use crate::layout::{Buffer, Extent};
use crate::manifest::{Difference, Differences, Manifest, Resource, ResourceName};
use crate::verify::Verified;

/// Padding of a file at most, in bytes.
const MOST_GAPS: u64 = 64 << 20;

/// Extents of all tensors together at most.
const MOST_EXTENTS: usize = 1 << 20;

/// Where the bytes of a file that are no tensor's come from: its header, and in GGUF the padding.
#[derive(Debug, Clone, Copy)]
pub enum Head<'a> {
    /// The beginning of the file, at least its header. Padding is zero bytes, as every writer of GGUF makes it; in a file
    /// with other padding this finds a difference, and [`Head::File`] does not. (Safetensors has no padding.)
    Bytes {
        /// Which format.
        format: Format,
        /// At least the header.
        bytes: &'a [u8],
        /// Bytes of the whole file.
        file_len: u64,
    },
    /// The file on disk, of which header and padding are read, and no byte of a tensor.
    File {
        /// Which format.
        format: Format,
        /// The file.
        path: &'a Path,
    },
}

/// A signed file whose tensors are in device memory.
#[derive(Debug, Clone, Copy)]
pub struct ResidentFile<'a> {
    /// Its signed name: the path in the model, or [`SINGLE_FILE`](crate::manifest::SINGLE_FILE).
    pub name: &'a str,
    /// Its header.
    pub head: Head<'a>,
}

/// Compares tensors, where they lie in device memory, with what was signed: the BLAKE3 digest of each file, whose
/// header comes from the host and whose every tensor must be given exactly once, as the header describes it.
///
/// Tensors of one file may lie on several devices; each computes what lies in its memory whole, and of what straddles
/// two of them at most 1 KiB is downloaded each time the device changes. Nothing else is copied.
///
/// # Errors
/// [`VerifyError::Resident`] and [`VerifyError::NoSuchDigest`] (a file has no signed BLAKE3 digest) in [`Error::Verify`]:
/// the answer is no. [`Error::Placement`], [`Error::Header`], [`Error::Io`] and [`Error::Device`]: there is no answer.
pub fn verify_resident<B: Backend>(
    devices: &[OnDevice<'_, B>],
    files: &[ResidentFile<'_>],
    tensors: &[ResidentTensor<'_, B::Buffer>],
    signed: &Verified<Manifest>,
) -> Result<MeasuredAsSigned, Error> {
    for (what, none) in [("device", devices.is_empty()), ("file", files.is_empty())] {
        if none {
            return Err(PlacementError::Nothing { what }.into());
        }
    }
    let hosts = files.iter().map(Host::read).collect::<Result<Vec<_>, _>>()?;
    if let Some(lost) = tensors.iter().find(|tensor| tensor.device >= devices.len()) {
        let (tensor, index, devices) = (lost.name.to_owned(), lost.device, devices.len());
        return Err(PlacementError::NoDevice { tensor, index, devices }.into());
    }
    let assigned = assign(&hosts, tensors)?;

    let (mut strings, mut expected) = (Vec::new(), Vec::new());
    let (mut measured, mut differences, mut extents) = (Vec::new(), Vec::new(), 0);
    for (host, assigned) in hosts.iter().zip(&assigned) {
        let (whole, file) = host.string(assigned, devices)?;
        extents += assigned.iter().map(|(_, tensor)| tensor.pieces()).sum::<usize>();
        if extents > MOST_EXTENTS {
            let (tensor, most) = (host.name.to_owned(), MOST_EXTENTS as u64);
            return Err(PlacementError::Scattered { tensor, extents: extents as u64, most }.into());
        }
        match host.resources(signed)? {
            As::Signed(resources) => {
                for (resource, digest, range) in resources {
                    strings.push(whole.part(range).ok_or_else(|| host.outside())?);
                    expected.push((measured.len(), resource, digest));
                }
            }
            As::Other(name, difference) => differences.push((name, difference)),
        }
        measured.push(file);
    }
    if measured.iter().all(|file| file.len == file.on_host) {
        return Err(PlacementError::Nothing { what: "byte in device memory" }.into());
    }

    let found = spread::digests(devices, &strings)?;
    let at = SystemTime::now();
    for (((file, resource, expected), found), string) in expected.iter().zip(found).zip(&strings) {
        if *expected != found {
            let (expected_size, found_size) = (resource.size, string.len());
            let (expected, name) = (*expected, resource.name.clone());
            differences.push((name, Difference::Changed { expected, found, expected_size, found_size }));
        }
        measured[*file].digests.push((resource.name.clone(), found));
    }
    if !differences.is_empty() {
        differences.sort_by(|a, b| a.0.cmp(&b.0));
        let devices = devices.iter().map(|device| device.backend.kind()).collect();
        return Err(Mismatch::Differs { differences: Differences(differences), at, devices }.into());
    }
    let covered: BTreeSet<&ResourceName> = expected.iter().map(|(_, resource, _)| &resource.name).collect();
    let names = signed.resources().iter().map(|resource| &resource.name);
    let not_measured = names.filter(|name| !covered.contains(name)).cloned().collect();
    let (identity, root) = (signed.identity().clone(), signed.root());
    Ok(MeasuredAsSigned { at, identity, root, files: measured, not_measured })
}

/// What of a file is on the host.
struct Host<'a> {
    name: &'a str,
    header: Header,
    len: u64,
    /// The header's bytes.
    head: Cow<'a, [u8]>,
    /// Padding, where it is not zero by definition: the bytes behind the header, and behind each tensor.
    gaps: Option<Vec<Vec<u8>>>,
}

/// A tensor of a header, and what it is in memory.
type Assigned<'h, 'a, B> = (&'h Tensor, Placed<'h, 'a, B>);

/// A tensor whose extents are known.
struct Placed<'h, 'a, B> {
    tensor: &'h ResidentTensor<'a, B>,
    extents: Vec<Extent<'a, B>>,
}

impl<B> Placed<'_, '_, B> {
    fn pieces(&self) -> usize {
        self.extents.len()
    }
}

impl<'a> Host<'a> {
    fn read(file: &ResidentFile<'a>) -> Result<Self, Error> {
        let name = file.name;
        let fault = |source| Error::Header { path: name.into(), source };
        match file.head {
            Head::Bytes { format, bytes, file_len } => {
                let header = Header::of_bytes(format, bytes, file_len).map_err(fault)?;
                let head = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
                let head = head.ok_or_else(|| fault(HeaderFault::Short { needed: header.len }))?;
                Self { name, len: file_len, head: Cow::Borrowed(head), gaps: None, header }.checked()
            }
            Head::File { format, path } => {
                let (open, meta) = open_regular(path).map_err(Error::io("open", path))?;
                let len = meta.len();
                let read = |range: Range<u64>| {
                    let mut bytes = vec![0; (range.end - range.start) as usize];
                    open.read_exact_at(&mut bytes, range.start).map_err(Error::io("read", path))?;
                    Ok::<_, Error>(bytes)
                };
                let mut head = Vec::new();
                // The bytes that are parsed are those that are hashed.
                let header = Header::read(format, len, &mut |range| {
                    let bytes = read(range).map_err(Fault::Other)?;
                    head.extend_from_slice(&bytes);
                    Ok(bytes)
                });
                let header = header.map_err(|error| match error {
                    Fault::Header(source) => Error::Header { path: path.into(), source },
                    Fault::Other(error) => error,
                })?;
                head.truncate(header.len as usize);
                let mut host = Self { name, len, head: Cow::Owned(head), gaps: None, header }.checked()?;
                host.gaps = Some(host.padding().map(read).collect::<Result<_, _>>()?);
                Ok(host)
            }
        }
    }

    /// What lies behind the header and behind each tensor, and is neither.
    fn padding(&self) -> impl Iterator<Item = Range<u64>> {
        let tensors = &self.header.tensors;
        let ends = std::iter::once(self.header.len).chain(tensors.iter().map(|tensor| tensor.range.end));
        let starts = tensors.iter().map(|tensor| tensor.range.start).chain(std::iter::once(self.len));
        ends.zip(starts).map(|(end, start)| end..start.max(end))
    }

    /// Refuses to take more than padding from the host.
    fn checked(self) -> Result<Self, Error> {
        let gaps = self.padding().fold(0_u64, |sum, gap| sum.saturating_add(gap.end - gap.start));
        if gaps > MOST_GAPS {
            return Err(PlacementError::Gaps { file: self.name.to_owned(), gaps, most: MOST_GAPS }.into());
        }
        Ok(self)
    }

    fn outside(&self) -> Error {
        Error::Header {
            path: self.name.into(),
            source: HeaderFault::BeyondFile { needed: self.len, file_len: self.len },
        }
    }

    /// The whole file as a string, and what there is to be said of it.
    fn string<'s, B: Backend>(
        &'s self,
        assigned: &[Assigned<'_, 's, B::Buffer>],
        devices: &[OnDevice<'_, B>],
    ) -> Result<(Spread<'s, B::Buffer>, MeasuredFile), Error> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let mut pieces: Vec<(Option<usize>, Extent<'s, B::Buffer>)> = vec![(None, Extent::Host(&self.head))];
        let (mut used, mut on_host) = (BTreeSet::new(), self.head.len() as u64);
        for (index, gap) in self.padding().enumerate() {
            on_host += gap.end - gap.start;
            match self.gaps.as_ref().map(|gaps| gaps.get(index)) {
                Some(bytes) => pieces.push((None, Extent::Host(bytes.map_or(&[], Vec::as_slice)))),
                None => {
                    let mut left = (gap.end - gap.start) as usize;
                    while left > 0 {
                        pieces.push((None, Extent::Host(&ZEROS[..left.min(ZEROS.len())])));
                        left -= left.min(ZEROS.len());
                    }
                }
            }
            let Some((tensor, placed)) = assigned.get(index) else { continue };
            if tensor.bytes() > 0 {
                used.insert(placed.tensor.device);
            }
            pieces.extend(placed.extents.iter().map(|extent| (Some(placed.tensor.device), *extent)));
        }
        let whole = Spread::new(pieces).map_err(crate::device::DeviceError::from)?;
        // What the header says of lengths and what the extents have is the same, or nothing is measured.
        if whole.len() != self.len {
            return Err(self.outside());
        }
        let file = MeasuredFile {
            name: ResourceName::of_file(self.name, None),
            digests: Vec::new(),
            tensors: assigned.len(),
            len: self.len,
            on_host,
            devices: used.into_iter().filter_map(|index| Some(devices.get(index)?.backend.kind())).collect(),
        };
        Ok((whole, file))
    }

    /// What was signed of this file.
    fn resources<'m>(&self, signed: &'m Manifest) -> Result<As<'m>, Error> {
        let of_file: Vec<(&Resource, Range<u64>)> = if signed.serialization().method.shard_size().is_some() {
            let shard = |resource: &'m Resource| {
                resource.name.shard().filter(|(path, _)| *path == self.name).map(|(_, range)| (resource, range))
            };
            signed.resources().iter().filter_map(shard).collect()
        } else {
            let whole = |resource: &'m Resource| (resource, 0..resource.size.unwrap_or(self.len));
            signed.get(self.name).map(whole).into_iter().collect()
        };
        let Some((last, range)) = of_file.iter().max_by_key(|(_, range)| range.end) else {
            return Ok(As::Other(ResourceName::of_file(self.name, None), Difference::Unsigned));
        };
        // A manifest's shards tile their file from byte 0 on.
        if range.end != self.len {
            let difference = Difference::Resized { expected: range.end, found: self.len };
            return Ok(As::Other(last.name.clone(), difference));
        }
        let with_digest = |(resource, range): (&'m Resource, Range<u64>)| {
            let name = || resource.name.to_string();
            let none = || VerifyError::NoSuchDigest { name: name(), algorithm: Algorithm::Blake3 };
            Ok((resource, resource.digest_by(Algorithm::Blake3).ok_or_else(none)?, range))
        };
        of_file.into_iter().map(with_digest).collect::<Result<_, Error>>().map(As::Signed)
    }
}

/// What was signed of a file.
enum As<'m> {
    /// The file itself, or its shards, each with its BLAKE3 digest and its bytes of the file.
    Signed(Vec<(&'m Resource, Digest, Range<u64>)>),
    /// A difference that shows before anything is hashed.
    Other(ResourceName, Difference),
}

/// Why a header could not be read.
enum Fault {
    Header(HeaderFault),
    Other(Error),
}

impl From<HeaderFault> for Fault {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(fault)
    }
}

/// For each file its header's tensors, each with the one that was given.
fn assign<'h, 'a, B: Buffer>(
    hosts: &'h [Host<'_>],
    tensors: &'h [ResidentTensor<'a, B>],
) -> Result<Vec<Vec<Assigned<'h, 'a, B>>>, Error> {
    let mut by_name: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    let mut files = BTreeSet::new();
    for (file, host) in hosts.iter().enumerate() {
        if !files.insert(host.name) {
            return Err(Mismatch::FileTwice { file: host.name.to_owned() }.into());
        }
        for (index, tensor) in host.header.tensors.iter().enumerate() {
            by_name.entry(&tensor.name).or_default().push((file, index));
        }
    }
    let mut given: HashMap<(usize, usize), &ResidentTensor<'_, B>> = HashMap::new();
    let mut extra = Vec::new();
    for tensor in tensors {
        let places = by_name.get(tensor.name).map_or(&[][..], Vec::as_slice);
        let of_file = |(file, _): &&(usize, usize)| tensor.file.is_none_or(|name| name == hosts[*file].name);
        let mut found = places.iter().filter(of_file);
        match (found.next(), found.next()) {
            (None, _) => extra.push(tensor.name.to_owned()),
            (Some((one, _)), Some((other, _))) => {
                let files = [hosts[*one].name.to_owned(), hosts[*other].name.to_owned()];
                return Err(Mismatch::Ambiguous { tensor: tensor.name.to_owned(), files }.into());
            }
            (Some(place), None) => {
                if given.insert(*place, tensor).is_some() {
                    return Err(Mismatch::TensorTwice { tensor: tensor.name.to_owned() }.into());
                }
            }
        }
    }
    if !extra.is_empty() {
        return Err(Mismatch::Extra { tensors: extra }.into());
    }
    let of_file = |(file, host): (usize, &'h Host<'_>)| {
        let missing = |index: &usize| !given.contains_key(&(file, *index));
        let missing: Vec<String> = (0..host.header.tensors.len())
            .filter(missing)
            .map(|index| host.header.tensors[index].name.clone())
            .collect();
        if !missing.is_empty() {
            return Err(Mismatch::Missing { file: host.name.to_owned(), tensors: missing }.into());
        }
        let described = host.header.tensors.iter().enumerate();
        described.filter_map(|(index, tensor)| Some((tensor, *given.get(&(file, index))?))).map(place).collect()
    };
    hosts.iter().enumerate().map(of_file).collect()
}

/// Type and shape, as people read them.
fn described(dtype: &str, shape: &[u64]) -> String {
    // A header can name thousands of dimensions.
    const SHOWN: usize = 8;
    let shown = shape.iter().take(SHOWN).map(u64::to_string).collect::<Vec<_>>().join(", ");
    format!("{dtype} [{shown}{}]", if shape.len() > SHOWN { ", .." } else { "" })
}

fn place<'h, 'a, B: Buffer>(
    (tensor, given): (&'h Tensor, &'h ResidentTensor<'a, B>),
) -> Result<Assigned<'h, 'a, B>, Error> {
    if given.dtype != tensor.dtype || given.shape != tensor.shape {
        let expected = described(tensor.dtype.name(), &tensor.shape);
        let found = described(given.dtype.name(), &given.shape);
        return Err(Mismatch::Other { tensor: tensor.name.clone(), expected, found }.into());
    }
    Ok((tensor, Placed { extents: given.extents(tensor)?, tensor: given }))
}

#[cfg(test)]
mod tests;
