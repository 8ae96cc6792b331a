//! A signed model whose tensors lie scattered over memory of any devices: at odd places, in rows, transposed.

use std::fs;
use std::path::PathBuf;

use tensorseal::device::cpu::{Cpu, Settings, Silent};
use tensorseal::device::{Backend, Device};
use tensorseal::format::{Dtype, Format};
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::resident::{Head, MeasuredAsSigned, OnDevice, ResidentFile, ResidentTensor, Strides};
use tensorseal::sign::{KeySigner, SignOptions};
use tensorseal::verify::KeyVerifier;
use tensorseal::{Bundle, Error, Manifest, Verified, selftest, sign, verify_resident};

use super::Random;

/// A model of one file.
pub(crate) struct Model {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) signed: Verified<Manifest>,
    /// The file, and how much of it is its header.
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: usize,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
    /// Its first byte in the file.
    at: usize,
}

/// Elements have two bytes.
const DTYPE: &str = "BF16";
const ELEMENT: usize = 2;

impl Model {
    /// Tensors of random sizes up to `most` elements, many of them tiny, signed with a key made on the spot.
    pub(crate) fn new(count: usize, most: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let (mut tensors, mut json, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let size = if index % 3 == 0 { 9 } else { most.isqrt() };
            let shape = match index % 5 {
                0 => vec![random.below(size * 2) as u64],
                1 => vec![],
                _ => vec![1 + random.below(size) as u64, 1 + random.below(size) as u64],
            };
            let bytes = random.bytes(shape.iter().product::<u64>() as usize * ELEMENT);
            let (at, end) = (data.len(), data.len() + bytes.len());
            let name = format!("layer.{index}.weight");
            json.push(format!("{name:?}:{{\"dtype\":{DTYPE:?},\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"));
            data.extend(bytes);
            tensors.push(Tensor { name, shape, at });
        }
        let json = format!("{{{}}}", json.join(","));
        let head = [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
        tensors.iter_mut().for_each(|tensor| tensor.at += head.len());

        let folder = tempfile::tempdir().unwrap();
        let (model, signature) = (folder.path().join("m"), folder.path().join("m.sig"));
        fs::create_dir(&model).unwrap();
        let path = model.join("model.safetensors");
        fs::write(&path, [&*head, &*data].concat()).unwrap();
        let key = PrivateKey::generate(Curve::P256).unwrap();
        let trusted = KeyVerifier::new(key.public_key());
        let device = Device::Cpu(Cpu::open(Settings::default()).unwrap());
        let made = sign(&model, &signature, &KeySigner::new(key), &SignOptions::default(), &device, &Silent).unwrap();
        made.write(&signature).unwrap();
        let signed = Bundle::read(&signature, 1 << 20).unwrap().verify(&trusted).unwrap();
        let bytes = [&*head, &*data].concat();
        Self { _folder: folder, path, signed, head: head.len(), bytes, tensors }
    }
}

/// How one tensor lies.
struct Place {
    device: usize,
    buffer: usize,
    at: usize,
    /// In elements.
    strides: Vec<i64>,
}

/// The model in memory of several devices, two buffers each.
pub(crate) struct Scattered<'m, B: Backend> {
    model: &'m Model,
    pub(crate) backends: Vec<B>,
    pub(crate) buffers: Vec<B::Buffer>,
    places: Vec<Place>,
}

impl<'m, B: Backend> Scattered<'m, B> {
    pub(crate) fn new(model: &'m Model, backends: Vec<B>, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut images: Vec<Vec<u8>> = vec![Vec::new(); backends.len() * 2];
        let mut places = Vec::new();
        for tensor in &model.tensors {
            let buffer = random.below(images.len());
            let image = &mut images[buffer];
            // Noise between any two, of an odd or an even length.
            let gap = random.below(40);
            image.extend(random.bytes(gap));
            let at = image.len();
            let strides = match tensor.shape[..] {
                [] => vec![],
                [_] => vec![1],
                // In C order, in rows apart, transposed.
                [_, columns] if random.below(2) == 0 => vec![columns as i64, 1],
                [_, columns] if random.below(2) == 0 => vec![columns as i64 + random.below(9) as i64, 1],
                [rows, _] => vec![1, rows as i64 + random.below(3) as i64],
                _ => unreachable!("no such shape is made"),
            };
            let count = tensor.shape.iter().product::<u64>() as usize;
            let columns = tensor.shape.last().copied().unwrap_or(1) as usize;
            for element in 0..count {
                let index = match strides[..] {
                    [row, column] => (element / columns) * row as usize + element % columns * column as usize,
                    _ => element,
                };
                let (to, from) = (at + index * ELEMENT, tensor.at + element * ELEMENT);
                if image.len() < to + ELEMENT {
                    image.resize(to + ELEMENT, 0xEE);
                }
                image[to..to + ELEMENT].copy_from_slice(&model.bytes[from..from + ELEMENT]);
            }
            places.push(Place { device: buffer / 2, buffer, at, strides });
        }
        let upload = |(index, image): (usize, &Vec<u8>)| {
            let backend = &backends[index / 2];
            let mut buffer = backend.alloc(image.len() as u64).unwrap();
            selftest::write(backend, image, &mut buffer, 0).unwrap();
            buffer
        };
        let buffers = images.iter().enumerate().map(upload).collect();
        Self { model, backends, buffers, places }
    }

    pub(crate) fn tensors(&self) -> Vec<ResidentTensor<'_, B::Buffer>> {
        let tensor = |(tensor, place): (&'m Tensor, &Place)| ResidentTensor {
            name: &tensor.name,
            file: None,
            device: place.device,
            buffer: &self.buffers[place.buffer],
            at: place.at as u64,
            dtype: Dtype::from_safetensors(DTYPE).unwrap(),
            shape: tensor.shape.clone(),
            strides: Strides::Elements(place.strides.clone()),
        };
        self.model.tensors.iter().zip(&self.places).map(tensor).collect()
    }

    pub(crate) fn verify(&self, after: &[Option<&B::Stream>]) -> Result<MeasuredAsSigned, Error> {
        let stream = |index: usize| after.get(index).copied().flatten();
        let on = |(index, backend)| OnDevice { backend, after: stream(index) };
        let devices: Vec<_> = self.backends.iter().enumerate().map(on).collect();
        let (format, bytes) = (Format::Safetensors, &self.model.bytes[..self.model.head]);
        let head = Head::Bytes { format, bytes, file_len: self.model.bytes.len() as u64 };
        let file = ResidentFile { name: "model.safetensors", head };
        verify_resident(&devices, &[file], &self.tensors(), &self.model.signed)
    }

    /// Where the first byte of tensor `index` lies, if it has one: device, buffer, place.
    pub(crate) fn first_byte(&self, index: usize) -> Option<(usize, usize, u64)> {
        let place = &self.places[index];
        let empty = self.model.tensors[index].shape.contains(&0);
        (!empty).then_some((place.device, place.buffer, place.at as u64))
    }

    pub(crate) fn flip(&mut self, (device, buffer, at): (usize, usize, u64)) {
        let backend = &self.backends[device];
        let byte = backend.download(&self.buffers[buffer], at..at + 1).unwrap()[0] ^ 4;
        selftest::write(backend, &[byte], &mut self.buffers[buffer], at).unwrap();
    }

    /// A yes with the digest of the `blake3` crate, and a no, with the file's name, for a flip in any of some tensors.
    pub(crate) fn prove(&mut self) {
        let measured = self.verify(&[]).unwrap();
        assert_eq!(measured.files.len(), 1);
        let oracle = blake3::hash(&fs::read(&self.model.path).unwrap());
        assert_eq!(measured.files[0].digests[0].1.as_bytes(), oracle.as_bytes());
        assert_eq!(measured.devices().len(), self.backends.len());
        let mut flipped = vec![false; self.buffers.len()];
        for index in 0..self.model.tensors.len() {
            let Some(place) = self.first_byte(index).filter(|(_, buffer, _)| !flipped[*buffer]) else { continue };
            flipped[place.1] = true;
            self.flip(place);
            let error = self.verify(&[]).unwrap_err();
            assert!(error.refusal().is_some() && error.to_string().contains("model.safetensors"), "{error}");
            self.flip(place);
        }
        assert!(flipped.iter().all(|flipped| *flipped), "a flip in each buffer");
        self.verify(&[]).unwrap();
    }
}
