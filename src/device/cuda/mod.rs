//! BLAKE3 in the memory of CUDA devices: strings are hashed where they lie, by kernels that this program carries.
//!
//! The driver is looked for when the first device is; nothing of CUDA is needed to build, or to run without a device.
//! Not run on a GPU yet: what is said here about real devices follows NVIDIA's documents, and was tried on a driver
//! that interprets the kernels (`tests/fakecuda`).

mod api;
mod context;
mod cufile;
mod describe;
mod engine;
mod facts;
mod images;
mod known;
mod launch;
mod lent;
mod memory;
mod staging;
mod tune;

use std::env;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Backend, DeviceError, DeviceFacts, DeviceKind, Hashed, Job, Listed, Storage, StorageError};
use context::{Context, Facts};
use cufile::Stored;
use describe::rules;
use engine::Engine;
pub use engine::Ticket;
pub use images::Policy;
use launch::Kernels;
pub use lent::Stream;
pub use memory::Buffer;
use memory::Memory;
pub use staging::Staging;
use tune::Memo;

/// How a device is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The way of adding, instead of the fastest. Digests do not depend on it.
    pub policy: Option<Policy>,
    /// Where the fastest is remembered. Without a folder it is measured each time.
    pub cache: Option<PathBuf>,
    /// Bytes in a block of pinned host memory.
    pub block: usize,
    /// Blocks at most. Whoever asks for one while all are lent waits until another thread drops one.
    pub blocks: usize,
    /// Bytes hashed in one batch at most. A batch takes about a hundredth of that of device memory, and more where
    /// many values are wanted.
    pub batch: u64,
    /// Bytes copied to device memory of our own in one batch at most: host bytes aside, those that cannot be read where
    /// they lie.
    pub scratch: u64,
}

impl Default for Settings {
    /// Four blocks of 16 MiB, batches of 8 GiB with 64 MiB gathered; the fastest way is measured and remembered in the
    /// user's cache folder.
    fn default() -> Self {
        let (batch, scratch) = (8 << 30, 64 << 20);
        Self { policy: None, cache: tune::cache_folder(), block: 16 << 20, blocks: 4, batch, scratch }
    }
}

/// Names the way of adding for every device that is opened without saying it.
const POLICY: &str = "TENSORSEAL_CUDA_POLICY";

/// The oldest devices that are used: older ones lack the asynchronous copies that the kernels are made of.
const OLDEST: u32 = 80;

/// An open device. It may be used by several threads at once; their jobs run one after the other.
#[derive(Debug)]
pub struct Cuda {
    engine: Arc<Engine>,
    policy: Policy,
    kernels: Arc<Kernels>,
}

impl Cuda {
    /// Opens the device with this ordinal, with [`Settings::default`]. The environment variable
    /// `TENSORSEAL_CUDA_POLICY` may name a [`Policy`].
    ///
    /// # Errors
    /// Those of [`Cuda::open_with`].
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        let mut settings = Settings::default();
        if let Some(name) = env::var_os(POLICY).filter(|name| !name.is_empty()) {
            let named = name.to_string_lossy().parse();
            let refuse =
                |why| DeviceError::Refused { device: DeviceKind::Cuda(ordinal), why: format!("{POLICY}: {why}") };
            settings.policy = Some(named.map_err(refuse)?);
        }
        Self::open_with(ordinal, &settings)
    }

    /// Opens the device with this ordinal. Its primary context is used, as by torch and the CUDA runtime; no thread's
    /// current context changes.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] without a driver or that device, [`DeviceError::Refused`] for one that is too old,
    /// [`DeviceError::SelfTest`] for one that computes wrong digests, [`DeviceError::OutOfMemory`], or
    /// [`DeviceError::Driver`] if a call fails.
    pub fn open_with(ordinal: usize, settings: &Settings) -> Result<Self, DeviceError> {
        let facts = Facts::of(ordinal)?;
        modern(&facts)?;
        let choice = Policy::of(facts.architecture);
        if let Some(policy) = settings.policy.filter(|policy| !choice.contains(policy)) {
            let [first, second] = choice;
            let why = format!("{} adds in the ways {first} and {second}, not {policy}", capability(&facts));
            return Err(DeviceError::Refused { device: DeviceKind::Cuda(ordinal), why });
        }
        let memo = settings.cache.as_deref().map(|folder| Memo::new(folder, &facts));
        let known = settings.policy.or_else(|| memo.as_ref()?.recall());

        let context = Context::open(facts)?;
        let engine = Engine::new(&context, rules(settings.batch, settings.scratch), settings.block, settings.blocks)?;
        // Each variant that may be chosen, whether by measuring or by what is remembered, is tested first.
        let policies = known.map_or_else(|| choice.to_vec(), |policy| vec![policy]);
        let load = |policy: Policy| policy.load(&context).map(|kernels| (policy, Arc::new(kernels)));
        let mut variants = policies.into_iter().map(load).collect::<Result<Vec<_>, _>>()?;
        known::test(&engine, variants.iter().map(|(_, kernels)| kernels))?;
        let fastest = tune::measure(&engine, &variants)?;
        let (policy, kernels) = variants.swap_remove(fastest);
        if let (None, Some(memo)) = (known, memo) {
            memo.keep(policy);
        }
        context.healthy()?;
        Ok(Self { engine, policy, kernels })
    }

    /// Every device that the driver names, each with the reason if it cannot be used; at least one entry.
    ///
    /// A device that is said to be usable passed its known-answer test just now, but for the ways of adding that only
    /// measuring would choose.
    #[must_use]
    pub fn list() -> Vec<Listed> {
        let count = match Facts::count() {
            Ok(0) => {
                let why = "the CUDA driver sees no device: check nvidia-smi and CUDA_VISIBLE_DEVICES".to_owned();
                let device = DeviceKind::Cuda(0);
                return vec![Listed::absent(device.clone(), DeviceError::Absent { device, why })];
            }
            Ok(count) => count,
            Err(error) => return vec![Listed::absent(DeviceKind::Cuda(0), error)],
        };
        (0..count).map(Self::listed).collect()
    }

    fn listed(ordinal: usize) -> Listed {
        let kind = DeviceKind::Cuda(ordinal);
        let facts = match Facts::of(ordinal) {
            Ok(facts) => facts,
            Err(error) => return Listed::absent(kind, error),
        };
        let plain = Settings { policy: Some(Policy::Plain), cache: None, ..Settings::default() };
        Listed {
            kind,
            memory: Some(facts.memory),
            capability: Some(capability(&facts)),
            driver: Some(format!("CUDA {}.{}", facts.driver / 1000, facts.driver % 1000 / 10)),
            usable: Self::open_with(ordinal, &plain).map(drop),
            name: facts.name,
        }
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.engine.context.kind()
    }

    /// The way of adding that was chosen.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// What its maker calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.engine.context.facts.name
    }
}

fn capability(facts: &Facts) -> String {
    format!("sm_{}", facts.architecture)
}

/// Refuses devices that are older than the kernels.
fn modern(facts: &Facts) -> Result<(), DeviceError> {
    if facts.architecture >= OLDEST {
        return Ok(());
    }
    let why = format!(
        "{} is of compute capability {}, and the kernels need sm_{OLDEST} or later; use --device wgpu",
        facts.name,
        capability(facts)
    );
    Err(DeviceError::Refused { device: DeviceKind::Cuda(facts.ordinal), why })
}

impl Backend for Cuda {
    type Staging = Staging;
    type Buffer = Buffer;
    type Stream = Stream;
    type Ticket = Ticket;

    fn kind(&self) -> DeviceKind {
        self.engine.context.kind()
    }

    fn facts(&self) -> DeviceFacts {
        facts::of(&self.engine.context)
    }

    fn variants(&self) -> Vec<String> {
        let mut policies = Policy::of(self.engine.context.facts.architecture);
        policies.sort_by_key(|&policy| policy != self.policy);
        policies.iter().map(ToString::to_string).collect()
    }

    fn with_variant(&self, name: &str) -> Result<Self, DeviceError> {
        let refuse = |why| DeviceError::Refused { device: self.kind(), why };
        let policy: Policy = name.parse().map_err(refuse)?;
        if !Policy::of(self.engine.context.facts.architecture).contains(&policy) {
            return Err(refuse(format!("it does not add in the way {policy}")));
        }
        let kernels = Arc::new(policy.load(&self.engine.context)?);
        known::test(&self.engine, std::iter::once(&kernels))?;
        Ok(Self { engine: Arc::clone(&self.engine), policy, kernels })
    }

    fn staging(&self) -> Result<Staging, DeviceError> {
        self.engine.ring.take()
    }

    fn try_staging(&self) -> Result<Option<Staging>, DeviceError> {
        self.engine.ring.take_if_any()
    }

    fn blocks(&self) -> usize {
        self.engine.ring.most()
    }

    fn alloc(&self, len: u64) -> Result<Buffer, DeviceError> {
        Memory::new(&self.engine.context, len, "a buffer").map(|memory| Buffer { memory })
    }

    fn upload(&self, block: Staging, len: usize, to: &mut Buffer, at: u64) -> Result<(), DeviceError> {
        self.engine.upload(block, len, &to.memory, at)
    }

    fn submit(&self, jobs: &[Job<'_, Buffer>], after: Option<&Stream>) -> Result<Ticket, DeviceError> {
        self.engine.submit(&self.kernels, jobs, after, None)
    }

    fn wait(&self, ticket: Ticket) -> Result<Vec<Hashed>, DeviceError> {
        ticket.wait()
    }

    fn download(&self, from: &Buffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        self.engine.download(&from.memory, range)
    }

    fn storage(&self, file: File) -> Result<Box<dyn Storage<Buffer> + '_>, StorageError> {
        Ok(Box::new(Stored::open(&self.engine, file)?))
    }
}
