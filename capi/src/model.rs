//! Models in memory, of which nothing is handed out before it was found to be what was signed.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tensorseal::device::Backend;
use tensorseal::device::Cpu;
#[cfg(feature = "cuda")]
use tensorseal::device::Cuda;
use tensorseal::layout::Buffer as _;
use tensorseal::loader::{LoadOptions, LoadReport, LoadedModel, View, load_verified, load_with_policy};
use tensorseal::method::Trusted;
use tensorseal::report::json as report;
use tensorseal::verify::DigestChoice;
use tensorseal::{Device, Error, Verified};

use crate::asked;
use crate::call::{About, Fault};
use crate::options::{Options, Taken};
use crate::progress::Telling;
use crate::verbs::{signatures, trusted, warn};

/// A loaded model: `tensorseal_model`.
pub(crate) struct Model {
    memory: Memory,
    tensors: Vec<Tensor>,
    /// Where in these a name leads.
    names: HashMap<CString, usize>,
}

enum Memory {
    Cpu(Verified<LoadedModel<Cpu>>),
    #[cfg(feature = "cuda")]
    Cuda(Verified<LoadedModel<Cuda>>),
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
    fn of<Buf>(view: &View<'_, Buf>, address: usize) -> Result<Self, Fault> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| {
                let why = format!(
                    "the name {text:?} in {:?} holds a NUL byte, where text in C ends: it cannot be handed out. Get the model under other names",
                    view.file()
                );
                Fault::NoAnswer("name", why)
            })
        };
        let range = view.range();
        Ok(Self {
            name: text(view.name())?,
            file: text(view.file())?,
            dtype: text(view.dtype().name())?,
            shape: view.shape().to_vec(),
            address,
            len: range.end - range.start,
        })
    }
}

struct Tensors {
    tensors: Vec<Tensor>,
    names: HashMap<CString, usize>,
}

impl Tensors {
    fn of<B: Backend>(model: &LoadedModel<B>, address: impl Fn(&View<'_, B::Buffer>) -> usize) -> Result<Self, Fault> {
        let (mut tensors, mut names) = (Vec::new(), HashMap::new());
        for (at, view) in model.tensors().enumerate() {
            let tensor = Tensor::of(&view, address(&view))?;
            if model.tensor(view.name()).is_some_and(|meant| meant.file() == view.file()) {
                names.insert(tensor.name.clone(), at);
            }
            tensors.push(tensor);
        }
        Ok(Self { tensors, names })
    }
}

impl Model {
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    pub(crate) fn find(&self, name: &CStr) -> Option<&Tensor> {
        self.tensors.get(*self.names.get(name)?)
    }

    pub(crate) fn file(&self, name: &CStr) -> Option<&[u8]> {
        let name = name.to_str().ok()?;
        match &self.memory {
            Memory::Cpu(model) => model.file(name),
            #[cfg(feature = "cuda")]
            Memory::Cuda(model) => model.file(name),
        }
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
    let (memory, Tensors { tensors, names }, mut fields) = match asked::device(kind, None)? {
        Device::Cpu(cpu) => {
            let loaded = load.on(&cpu)?;
            let tensors = Tensors::of(&loaded, |view| view.bytes().as_ptr().expose_provenance())?;
            let fields = fields(loaded.report());
            (Memory::Cpu(loaded), tensors, fields)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let loaded = load.on(&cuda)?;
            let address = |view: &View<'_, tensorseal::device::cuda::Buffer>| {
                view.buffer().place().saturating_add(view.range().start) as usize
            };
            let tensors = Tensors::of(&loaded, address)?;
            let fields = fields(loaded.report());
            (Memory::Cuda(loaded), tensors, fields)
        }
        other => {
            let why =
                format!("memory of {} has no address that could be handed out; load to cpu or cuda", other.kind());
            return Err(Fault::Usage(why));
        }
    };
    warn(&mut fields, &warnings);
    Ok((Model { memory, tensors, names }, fields))
}

struct Load<'a> {
    model: &'a Path,
    signatures: Vec<&'a Path>,
    trusted: Trusted,
    how: LoadOptions,
    telling: Telling,
}

impl Load<'_> {
    fn on<B: Backend>(&self, backend: &B) -> Result<Verified<LoadedModel<B>>, Error> {
        let Self { model, signatures, trusted, how, telling } = self;
        match trusted {
            Trusted::Verifier(verifier) => {
                load_verified(model, Trusted::one(signatures)?, &**verifier, how, backend, telling)
            }
            Trusted::Policy(policy) => load_with_policy(model, signatures, policy, how, backend, telling),
        }
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
