//! Files of tensors as a writer makes them, and as nobody should. Used by unit tests, by `tests/formats/` and by the
//! seeds of the fuzzer.
#![allow(dead_code, unreachable_pub)]

/// A safetensors file of this JSON text and so many bytes of data.
pub fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..data).map(|i| i as u8));
    file
}

/// The JSON text of a header, each tensor as its name, type, shape and place.
pub fn json(tensors: &[(&str, &str, &str, u64, u64)]) -> String {
    let one = |&(name, dtype, shape, begin, end): &(&str, &str, &str, u64, u64)| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#)
    };
    format!("{{{}}}", tensors.iter().map(one).collect::<Vec<_>>().join(","))
}

/// A GGUF file, piece by piece.
#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
    /// Key, type, and the bytes of the value.
    pub pairs: Vec<(Vec<u8>, u32, Vec<u8>)>,
    /// Name, dimensions (the fastest first), type and offset.
    pub tensors: Vec<(Vec<u8>, Vec<u64>, u32, u64)>,
    pub alignment: usize,
    pub data: usize,
}

impl Default for Gguf {
    fn default() -> Self {
        Self {
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        }
    }
}

/// Bytes behind their length.
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// An array's value.
pub fn array(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
}

impl Gguf {
    pub fn pair(mut self, key: impl AsRef<[u8]>, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push((key.as_ref().to_vec(), kind, value.as_ref().to_vec()));
        self
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, text(value))
    }

    pub fn tensor(mut self, name: impl AsRef<[u8]>, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.push((name.as_ref().to_vec(), dimensions.to_vec(), kind, offset));
        self
    }

    pub fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    /// The bytes before the padding.
    pub fn header(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.pairs {
            file.extend(text(key));
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        for (name, dimensions, kind, offset) in &self.tensors {
            file.extend(text(name));
            file.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|dimension| file.extend(dimension.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend((0..self.data).map(|i| i as u8));
        file
    }
}
