//! Launching kernels.

use super::device::MAX_THREADS;
use super::module::Loaded;
use super::streams::Task;
use super::{Driver, Handle};
use crate::error::{Code, INVALID_HANDLE, INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES, NOT_SUPPORTED};
use crate::exec::{self, Launch};
use crate::memory::Allocation;
use std::sync::Arc;

/// Reads a number of bytes of the argument at an index; `None` if there is none. Made by `abi.rs`.
pub(crate) type Arguments<'a> = &'a dyn Fn(usize, usize) -> Option<Vec<u8>>;

/// `host_launch` of the library that `FAKECUDA_KERNELS` names: the kernel, blocks, threads, dynamic shared bytes,
/// and the bytes of each argument; returns the code of the fault, or 0. Made by `abi.rs`.
pub(crate) type HostKernels = Box<dyn Fn(&str, [u32; 3], &[Vec<u8>]) -> i32 + Send>;

/// How a kernel is launched.
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    /// Dynamic shared memory, in bytes.
    pub(crate) shared: u32,
}

/// A launch that waits for its turn.
pub(super) struct Work {
    loaded: Arc<Loaded>,
    shape: Shape,
    /// The bytes of each argument.
    arguments: Vec<Vec<u8>>,
    fate: Fate,
}

/// What the environment has planned for a launch.
#[derive(Clone, Copy)]
enum Fate {
    Run,
    Skip,
    Fault(Code),
}

impl Driver {
    /// Checks what CUDA checks at the call, and queues the rest.
    pub(crate) fn launch(
        &mut self,
        function: Handle,
        shape: Shape,
        stream: Handle,
        arguments: Arguments<'_>,
    ) -> Result<(), Code> {
        let device = self.current()?;
        let context = self.devices[device].context();
        let found = self.functions.get(&function).filter(|found| Some(found.context) == context);
        let found = found.ok_or(INVALID_HANDLE)?;
        let kernel = found.loaded.kernel();
        let limits = [[i32::MAX.unsigned_abs(), 65535, 65535], [MAX_THREADS, MAX_THREADS, 64]];
        for (sizes, most) in [shape.grid, shape.block].iter().zip(limits) {
            if sizes.iter().zip(most).any(|(size, most)| *size == 0 || *size > most) {
                return Err(INVALID_VALUE);
            }
        }
        let threads: u32 = shape.block.iter().product();
        if threads > MAX_THREADS || kernel.required_block.is_some_and(|required| required != shape.block) {
            return Err(INVALID_VALUE);
        }
        if threads > kernel.max_threads {
            return Err(LAUNCH_OUT_OF_RESOURCES);
        }
        if shape.shared > found.max_dynamic_shared {
            return Err(INVALID_VALUE);
        }
        let sizes = kernel.parameters.iter().enumerate();
        let bytes = sizes.map(|(index, parameter)| arguments(index, parameter.size).ok_or(INVALID_VALUE));
        let arguments = bytes.collect::<Result<_, _>>()?;
        let (name, loaded) = (kernel.name.clone(), found.loaded.clone());
        self.launches += 1;
        let number = self.launches;
        self.report.note(format_args!("launch={number}:{name}"));
        let fault = self.config.faults.iter().find(|(launch, _)| *launch == number);
        let fate = match fault {
            Some((_, code)) => Fate::Fault(*code),
            None if self.config.skipped.contains(&number) => Fate::Skip,
            None => Fate::Run,
        };
        self.enqueue(device, stream, Task::Launch(Box::new(Work { loaded, shape, arguments, fate })))
    }

    /// Runs a launch whose turn has come.
    pub(super) fn run_launch(&mut self, device: usize, work: &Work) {
        match work.fate {
            Fate::Skip => {}
            Fate::Fault(code) => self.devices[device].fail(code),
            Fate::Run => match &*work.loaded {
                Loaded::Program(program) => {
                    let memory: Vec<Arc<Allocation>> = self.devices[device].allocations.values().cloned().collect();
                    let launch = Launch {
                        program,
                        grid: work.shape.grid,
                        block: work.shape.block,
                        shared: work.shape.shared,
                        parameters: &parameter_buffer(program.kernel.parameter_bytes, work),
                        memory: &memory,
                        order: self.config.order,
                    };
                    if let Err(fault) = exec::run(&launch) {
                        eprintln!("[fakecuda] error {}: {}", fault.code.0, fault.message);
                        self.devices[device].fail(fault.code);
                    }
                }
                Loaded::Named(kernel) => self.run_on_host(device, &kernel.name, work),
            },
        }
    }

    /// The library's kernels are not watched while they run; the red zones tell afterwards.
    fn run_on_host(&mut self, device: usize, name: &str, work: &Work) {
        let [blocks, rows, layers] = work.shape.grid;
        let [threads, ..] = work.shape.block;
        let flat = rows == 1 && layers == 1 && work.shape.block[1..] == [1, 1];
        let Some(launch) = self.host_kernels.as_ref().filter(|_| flat) else {
            eprintln!("[fakecuda] {name}: host kernels run in one dimension only");
            return self.devices[device].fail(NOT_SUPPORTED);
        };
        let code = launch(name, [blocks, threads, work.shape.shared], &work.arguments);
        if code != 0 {
            eprintln!("[fakecuda] {name} of FAKECUDA_KERNELS returned {code}");
            self.devices[device].fail(Code(code));
        }
        let allocations: Vec<Arc<Allocation>> = self.devices[device].allocations.values().cloned().collect();
        for allocation in allocations {
            self.check_red_zones(device, &allocation);
        }
    }
}

/// The arguments at the offsets where `ld.param` looks for them.
fn parameter_buffer(bytes: usize, work: &Work) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    for (parameter, argument) in work.loaded.kernel().parameters.iter().zip(&work.arguments) {
        buffer[parameter.offset..parameter.offset + parameter.size].copy_from_slice(argument);
    }
    buffer
}
