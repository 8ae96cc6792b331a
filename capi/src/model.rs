//! Models in memory, of which nothing is handed out before it was found to be what was signed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tensorseal::Device;
use tensorseal::device::Backend;
use tensorseal::format::Tensor as FormatTensor;
#[cfg(feature = "cuda")]
use tensorseal::layout::Buffer as _;
use tensorseal::loader::{LoadOptions, LoadReport, LoadedFile, ModelParts, load_verified, load_with_policy};
use tensorseal::method::Trusted;
use tensorseal::report::json as report;
use tensorseal::verify::DigestChoice;

use crate::asked;
use crate::call::{About, Fault};
use crate::options::{Options, Taken};
use crate::progress::Telling;
use crate::verbs::{signatures, trusted, warn};

/// A loaded model: `tensorseal_model`. Whose memory its tensors are in, it need not know any more.
pub(crate) struct Model {
    /// What `tensors` lead to.
    _memory: Vec<Box<dyn Any + Send + Sync>>,
    tensors: Vec<Tensor>,
    /// Where in these a name leads.
    names: HashMap<CString, usize>,
    companions: BTreeMap<String, Vec<u8>>,
}

/// A tensor, as C reads it.
pub(crate) struct Tensor {
    pub(crate) name: CString,
    pub(crate) file: CString,
    pub(crate) dtype: CString,
    pub(crate) shape: Vec<u64>,
    /// Of the host or of the device. It stays as long as the model.
    pub(crate) address: usize,
    pub(crate) len: u64,
}

impl Tensor {
    fn of(file: &str, tensor: &FormatTensor, address: usize) -> Result<Self, Fault> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| {
                let why = format!(
                    "the name {text:?} in {file:?} holds a NUL byte, where text in C ends: it cannot be handed out. Get the model under other names"
                );
                Fault::NoAnswer("name", why)
            })
        };
        Ok(Self {
            name: text(&tensor.name)?,
            file: text(file)?,
            dtype: text(tensor.dtype.name())?,
            shape: tensor.shape.clone(),
            address,
            len: tensor.bytes(),
        })
    }
}

impl Model {
    /// `start` is the address of a buffer.
    fn of<Buf: Send + Sync + 'static>(parts: ModelParts<Buf>, start: impl Fn(&Buf) -> usize) -> Result<Self, Fault> {
        let ModelParts { files, companions, names: places, .. } = parts;
        let (mut memory, mut tensors): (Vec<Box<dyn Any + Send + Sync>>, _) = (Vec::new(), Vec::new());
        let mut names = HashMap::new();
        for (file, LoadedFile { name, header, buffer, mut moved, .. }) in files.into_iter().enumerate() {
            for (at, tensor) in header.tensors.iter().enumerate() {
                let address = match moved.remove(&at) {
                    None => start(&buffer).wrapping_add(tensor.range.start as usize),
                    Some(own) => {
                        let address = start(&own);
                        memory.push(Box::new(own));
                        address
                    }
                };
                let tensor = Tensor::of(&name, tensor, address)?;
                if places.get(&header.tensors[at].name) == Some(&Some((file, at))) {
                    names.insert(tensor.name.clone(), tensors.len());
                }
                tensors.push(tensor);
            }
            // The box has a place of its own; what the buffer leads to stays where it is.
            memory.push(Box::new(buffer));
        }
        Ok(Self { _memory: memory, tensors, names, companions })
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    pub(crate) fn find(&self, name: &CStr) -> Option<&Tensor> {
        self.tensors.get(*self.names.get(name)?)
    }

    pub(crate) fn file(&self, name: &CStr) -> Option<&[u8]> {
        self.companions.get(name.to_str().ok()?).map(Vec::as_slice)
    }
}

pub(crate) fn load(model: &Path, options: &Options, about: &mut About) -> Result<(Model, Value), Fault> {
    let taken = Taken::new(options);
    let signatures = signatures(model, &taken, about);
    let trust = asked::trust(&taken)?;
    let only: BTreeSet<String> = taken.texts("only").into_iter().map(str::to_owned).collect();
    let unset = LoadOptions::default();
    let how = LoadOptions {
        verify: asked::verify_options(&taken, DigestChoice::Fastest)?,
        threads: asked::threads(&taken)?,
        keep: taken.number("keep").unwrap_or(unset.keep),
        only: (!only.is_empty()).then_some(only),
        ..unset
    };
    let kind = asked::device_kind(&taken)?;
    taken.nothing_left("load")?;

    let mut warnings = Vec::new();
    let load = Load {
        model,
        signatures: signatures.iter().map(PathBuf::as_path).collect(),
        trusted: trusted(trust, &mut warnings)?,
        how,
        telling: Telling::new(options.progress),
    };
    // Threads here read, whatever the device is.
    let (model, mut fields) = match asked::device(kind, None)? {
        Device::Cpu(cpu) => load.on(&cpu, |buffer| buffer.start().as_ptr().expose_provenance())?,
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => load.on(&cuda, |buffer| buffer.place() as usize)?,
        other => {
            let why =
                format!("memory of {} has no address that could be handed out; load to cpu or cuda", other.kind());
            return Err(Fault::Usage(why));
        }
    };
    warn(&mut fields, &warnings);
    Ok((model, fields))
}

struct Load<'a> {
    model: &'a Path,
    signatures: Vec<&'a Path>,
    trusted: Trusted,
    how: LoadOptions,
    telling: Telling,
}

impl Load<'_> {
    fn on<B: Backend>(&self, backend: &B, start: impl Fn(&B::Buffer) -> usize) -> Result<(Model, Value), Fault>
    where
        B::Buffer: Send + Sync + 'static,
    {
        let Self { model, signatures, trusted, how, telling } = self;
        let loaded = match trusted {
            Trusted::Verifier(verifier) => {
                load_verified(model, Trusted::one(signatures)?, &**verifier, how, backend, telling)?
            }
            Trusted::Policy(policy) => load_with_policy(model, signatures, policy, how, backend, telling)?,
        };
        let fields = fields(loaded.report());
        Ok((Model::of(loaded.into_inner().into_parts(backend)?, start)?, fields))
    }
}

fn fields(loaded: &LoadReport) -> Value {
    let mut fields = report::verified(&loaded.verified);
    fields["tensor_files"] = json!(loaded.tensor_files);
    fields["device_bytes"] = json!(loaded.device_bytes);
    fields["host_bytes"] = json!(loaded.host_bytes);
    fields["not_held"] = json!(loaded.not_held);
    fields["not_asked"] = json!(loaded.not_asked);
    fields
}
