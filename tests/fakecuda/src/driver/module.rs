//! Modules and their functions.

use super::device::DEFAULT_SHARED;
use super::{Driver, Handle, Kind};
use crate::decode::{Program, decode};
use crate::error::{
    Code, INVALID_HANDLE, INVALID_IMAGE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, NOT_SUPPORTED,
    UNSUPPORTED_PTX_VERSION,
};
use crate::ptx::{self, Kernel};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Module {
    pub(super) context: Handle,
    kernels: BTreeMap<String, Arc<Loaded>>,
    /// The capability that its PTX is for, as 80.
    target: u32,
}

/// A kernel, ready to be interpreted or to be asked of the host library by its name.
pub(super) enum Loaded {
    Program(Program),
    Named(Kernel),
}

impl Loaded {
    pub(super) fn kernel(&self) -> &Kernel {
        match self {
            Self::Program(program) => &program.kernel,
            Self::Named(kernel) => kernel,
        }
    }

    /// Registers of a thread, as the interpreter packs them: no promise about what `ptxas` would need.
    fn registers(&self) -> u32 {
        let Self::Program(program) = self else { return 32 };
        let narrow = program.files.narrow as usize - program.files.constants32.len() - program.files.specials.len();
        let wide = program.files.wide as usize - program.files.constants64.len();
        u32::try_from(narrow + 2 * wide).unwrap_or(255).clamp(16, 255)
    }
}

pub(super) struct Function {
    pub(super) context: Handle,
    module: Handle,
    pub(super) loaded: Arc<Loaded>,
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    pub(super) max_dynamic_shared: u32,
}

/// What an image starts with, if it is not PTX.
const BINARIES: [&[u8]; 2] = [b"\x7fELF", &0xBA55_ED50_u32.to_le_bytes()];

impl Driver {
    /// Is this the start of a cubin or a fat binary? There is none for a GPU that does not exist.
    pub(crate) fn is_binary(start: &[u8; 4]) -> bool {
        BINARIES.iter().any(|magic| magic == start)
    }

    pub(crate) fn refuse_binary(&mut self) -> Result<Handle, Code> {
        self.current()?;
        Err(NO_BINARY_FOR_GPU)
    }

    /// Loads PTX.
    pub(crate) fn load_module(&mut self, text: &[u8]) -> Result<Handle, Code> {
        let device = self.current()?;
        let text = std::str::from_utf8(text).map_err(|_| INVALID_IMAGE)?;
        let other = self.config.ptx.as_ref().map(std::fs::read_to_string).transpose();
        let other = other.map_err(|error| {
            eprintln!("[fakecuda] FAKECUDA_PTX: {error}");
            INVALID_IMAGE
        })?;
        let text = other.as_deref().unwrap_or(text);
        let invalid = |error: String| {
            eprintln!("[fakecuda] PTX refused: {error}");
            INVALID_PTX
        };
        let module = ptx::parse(text).map_err(invalid)?;
        if module.version > newest_ptx(self.config.driver_version) {
            let (major, minor) = module.version;
            eprintln!("[fakecuda] PTX {major}.{minor} is newer than driver {}", self.config.driver_version);
            return Err(UNSUPPORTED_PTX_VERSION);
        }
        let (major, minor) = self.devices[device].kind.capability;
        let capability = 10 * major + minor;
        if module.target > capability || (module.exact && module.target != capability) {
            return Err(NO_BINARY_FOR_GPU);
        }
        let mut kernels = BTreeMap::new();
        for kernel in module.kernels {
            let name = kernel.name.clone();
            let named_only = self.host_kernels.is_some();
            let loaded =
                if named_only { Loaded::Named(kernel) } else { Loaded::Program(decode(kernel).map_err(invalid)?) };
            if loaded.kernel().static_shared > DEFAULT_SHARED {
                return Err(invalid(format!("{name}: more than 48 KiB of static shared memory")));
            }
            if kernels.insert(name.clone(), Arc::new(loaded)).is_some() {
                return Err(invalid(format!("two kernels {name}")));
            }
        }
        let context = self.devices[device].context().ok_or(INVALID_HANDLE)?;
        let handle = self.new_handle();
        self.modules.insert(handle, Module { context, kernels, target: module.target });
        self.report.created(Kind::Module, handle);
        Ok(handle)
    }

    pub(crate) fn unload_module(&mut self, module: Handle) -> Result<(), Code> {
        let device = self.current_even_if_broken()?;
        let context = self.devices[device].context();
        self.modules.get(&module).filter(|found| Some(found.context) == context).ok_or(INVALID_HANDLE)?;
        // What was launched still runs, as on a GPU, where unloading waits.
        self.drain(device);
        self.modules.remove(&module);
        self.functions.retain(|_, function| function.module != module);
        self.report.destroyed(Kind::Module, module);
        self.settled(device)
    }

    /// The same function each time it is asked for.
    pub(crate) fn function(&mut self, module: Handle, name: &str) -> Result<Handle, Code> {
        let device = self.current()?;
        let found = self.modules.get(&module).ok_or(INVALID_HANDLE)?;
        if Some(found.context) != self.devices[device].context() {
            return Err(INVALID_HANDLE);
        }
        let loaded = found.kernels.get(name).ok_or(NOT_FOUND)?.clone();
        let known =
            self.functions.iter().find(|(_, known)| known.module == module && Arc::ptr_eq(&known.loaded, &loaded));
        if let Some((handle, _)) = known {
            return Ok(*handle);
        }
        let max_dynamic_shared = DEFAULT_SHARED - loaded.kernel().static_shared;
        let context = found.context;
        let handle = self.new_handle();
        self.functions.insert(handle, Function { context, module, loaded, max_dynamic_shared });
        Ok(handle)
    }

    /// By the attribute's number in `cuda.h`.
    pub(crate) fn function_attribute(&self, function: Handle, attribute: i32) -> Result<i32, Code> {
        self.initialised()?;
        let found = self.functions.get(&function).ok_or(INVALID_HANDLE)?;
        let device = self.device_of(found.context)?;
        let (major, minor) = self.devices[device].kind.capability;
        let value = match attribute {
            0 => found.loaded.kernel().max_threads,
            1 => found.loaded.kernel().static_shared,
            2 | 3 | 7 => 0, // constant and local memory, cache mode
            4 => found.loaded.registers(),
            5 => self.modules.get(&found.module).map_or(0, |module| module.target),
            6 => 10 * major + minor,
            8 => found.max_dynamic_shared,
            9 => return Ok(-1), // carve-out: the driver's choice
            _ => return Err(INVALID_VALUE),
        };
        i32::try_from(value).map_err(|_| INVALID_VALUE)
    }

    pub(crate) fn set_function_attribute(&mut self, function: Handle, attribute: i32, value: i32) -> Result<(), Code> {
        let device = self.current()?;
        let most = self.devices[device].max_shared();
        let found = self.functions.get_mut(&function).ok_or(INVALID_HANDLE)?;
        match attribute {
            8 => {
                let value = u32::try_from(value).map_err(|_| INVALID_VALUE)?;
                if value + found.loaded.kernel().static_shared > most {
                    return Err(INVALID_VALUE);
                }
                found.max_dynamic_shared = value;
                Ok(())
            }
            9 if (-1..=100).contains(&value) => Ok(()), // a hint
            9 => Err(INVALID_VALUE),
            _ => Err(NOT_SUPPORTED),
        }
    }

    /// Blocks of `threads` threads that one multiprocessor holds at a time.
    pub(crate) fn occupancy(&self, function: Handle, threads: i32, dynamic_shared: u64) -> Result<i32, Code> {
        let device = self.current()?;
        let found = self.functions.get(&function).ok_or(INVALID_HANDLE)?;
        let threads =
            u32::try_from(threads).ok().filter(|threads| (1..=1024).contains(threads)).ok_or(INVALID_VALUE)?;
        let dynamic_shared = u32::try_from(dynamic_shared).map_err(|_| INVALID_VALUE)?;
        let shared = dynamic_shared.saturating_add(found.loaded.kernel().static_shared);
        if shared > self.devices[device].max_shared() {
            return Ok(0);
        }
        let blocks = self.devices[device].occupancy(threads, found.loaded.registers(), shared);
        i32::try_from(blocks).map_err(|_| INVALID_VALUE)
    }
}

/// The newest PTX that a driver reads: 12.4 reads 8.4. From 12.6 to 12.9 the numbers slipped by one.
fn newest_ptx(driver: i32) -> (u32, u32) {
    let (major, minor) = (driver.unsigned_abs() / 1000, driver.unsigned_abs() % 1000 / 10);
    match (major, minor) {
        (12, 6..) => (8, minor - 1),
        _ => (major.saturating_sub(4), minor),
    }
}
