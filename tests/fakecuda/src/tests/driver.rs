//! The driver's objects and rules: handles, contexts, limits, failures, the log.

mod planned;

use super::HEADER;
use crate::abi::Out;
use crate::driver::config::{Config, DeviceKind, Failure};
use crate::driver::{Driver, Files, HostBytes, HostRange, Kind, PointerFact, Shape};
use crate::error::*;
use crate::exports::*;
use crate::harness::Log;
use std::sync::{Arc, Mutex};

/// Host memory of a test, at an address of its own choice.
#[derive(Clone)]
pub(super) struct Buffer {
    pub(super) address: u64,
    pub(super) bytes: Arc<Mutex<Vec<u8>>>,
}

impl Buffer {
    pub(super) fn new(address: u64, bytes: &[u8]) -> Self {
        Self { address, bytes: Arc::new(Mutex::new(bytes.to_vec())) }
    }

    pub(super) fn range(&self) -> HostRange {
        Box::new(self.clone())
    }

    pub(super) fn get(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl HostBytes for Buffer {
    fn address(&self) -> u64 {
        self.address
    }

    fn length(&self) -> usize {
        self.bytes.lock().unwrap().len()
    }

    fn read(&self) -> Vec<u8> {
        self.get()
    }

    fn write(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap().copy_from_slice(bytes);
    }
}

/// Adds 1 to a u32 at `to`, and stores 9 at `other`, if that is not 0.
pub(super) const KERNEL: &str = "
    .visible .entry add_one(.param .u64 to, .param .u64 other) .maxntid 64 {
    .reg .pred %p<2>; .reg .b32 %r<3>; .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [to]; ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, 1; st.global.u32 [%rd1], %r1;
    ld.param.u64 %rd2, [other]; setp.eq.u64 %p1, %rd2, 0; @%p1 ret; st.global.u32 [%rd2], 9; ret; }";

pub(super) fn configured(variables: &[(&str, &str)]) -> Config {
    let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::read(get).unwrap()
}

/// A driver with its first device current.
pub(super) fn driver(variables: &[(&str, &str)]) -> Driver {
    let mut driver = Driver::new(configured(variables), None).unwrap();
    driver.init().unwrap();
    let context = driver.retain(0).unwrap();
    driver.set_current(context).unwrap();
    driver
}

pub(super) fn function(driver: &mut Driver) -> u64 {
    let module = driver.load_module(format!("{HEADER}{KERNEL}").as_bytes()).unwrap();
    driver.function(module, "add_one").unwrap()
}

/// Launches `add_one` with one thread.
pub(super) fn launch(driver: &mut Driver, function: u64, to: u64, other: u64, stream: u64) -> Result<(), Code> {
    shaped(driver, function, [1, 1, 1], [1, 1, 1], 0, [to, other], stream)
}

fn shaped(
    driver: &mut Driver,
    function: u64,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    arguments: [u64; 2],
    stream: u64,
) -> Result<(), Code> {
    let arguments = |index: usize, size: usize| Some(arguments.get(index)?.to_le_bytes()[..size].to_vec());
    driver.launch(function, Shape { grid, block, shared }, stream, &arguments)
}

pub(super) fn word(driver: &mut Driver, address: u64) -> Result<u32, Code> {
    let buffer = Buffer::new(16, &[0; 4]);
    driver.copy_out(buffer.range(), address, None)?;
    Ok(u32::from_le_bytes(buffer.get().try_into().unwrap()))
}

#[test]
fn the_environment() {
    let config = configured(&[
        ("FAKECUDA_DEVICES", "9.0, 8.0:2GiB,12.0:512MiB"),
        ("FAKECUDA_FAIL", "cuInit:3:719;*:17:2"),
        ("FAKECUDA_FAULT", "2:700"),
        ("FAKECUDA_SKIP", "4;5"),
        ("FAKECUDA_LOSE", "6"),
        ("FAKECUDA_LOSE_IN", "7;8"),
        ("FAKECUDA_FLIP", "9;10:4097"),
        ("FAKECUDA_GONE", "40:719"),
        ("FAKECUDA_SHORT", "2:100"),
        ("FAKECUDA_CUFILE", "strict"),
    ]);
    let device = |capability, memory| DeviceKind { capability, memory };
    assert_eq!(config.devices, [device((9, 0), 8 << 30), device((8, 0), 2 << 30), device((12, 0), 512 << 20)]);
    let failure =
        |function: Option<&str>, call, code| Failure { function: function.map(str::to_owned), call, code: Code(code) };
    assert_eq!(config.failures, [failure(Some("cuInit"), 3, 719), failure(None, 17, 2)]);
    assert_eq!((config.faults, config.skipped, config.eager), (vec![(2, Code(700))], vec![4, 5], false));
    assert_eq!((config.lost, config.lost_in), (vec![6], vec![7, 8]));
    assert_eq!((config.flips, config.gone), (vec![(9, 0), (10, 4097)], Some((40, Code(719)))));
    assert_eq!((config.short, config.files), (vec![(2, 100)], Files::Strict));
    let wrong = [
        ("FAKECUDA_DEVICES", "9"),
        ("FAKECUDA_DEVICES", "9.0:2TB"),
        ("FAKECUDA_ORDER", "random"),
        ("FAKECUDA_STREAMS", "yes"),
        ("FAKECUDA_FAIL", "cuInit:3"),
        ("FAKECUDA_FAIL", "cuInit:3:1:1"),
        ("FAKECUDA_FAULT", "x:700"),
        ("FAKECUDA_SKIP", "-1"),
        ("FAKECUDA_LOSE", "last"),
        ("FAKECUDA_LOSE_IN", "first"),
        ("FAKECUDA_FLIP", "1:x"),
        ("FAKECUDA_SHORT", "2"),
        ("FAKECUDA_CUFILE", "no"),
        ("FAKECUDA_GONE", "40:"),
        ("FAKECUDA_GONE", "40;41"),
        ("FAKECUDA_DRIVER", "new"),
    ];
    for (name, value) in wrong {
        assert!(Config::read(|asked| (asked == name).then(|| value.to_owned())).is_err(), "{name}={value}");
    }
    assert_eq!(Driver::new(configured(&[("FAKECUDA_DEVICES", "")]), None).unwrap().init(), Err(NO_DEVICE));
}

#[test]
fn contexts() {
    let mut driver = Driver::new(configured(&[("FAKECUDA_DEVICES", "9.0,8.0")]), None).unwrap();
    assert_eq!(driver.device_count(), Err(NOT_INITIALIZED));
    driver.init().unwrap();
    assert_eq!(driver.device_count(), Ok(2));
    assert_eq!(driver.device(2).err(), Some(INVALID_DEVICE));
    assert_eq!(driver.allocate(16), Err(INVALID_CONTEXT));
    assert_eq!(driver.release(0), Err(INVALID_CONTEXT));
    let first = driver.retain(0).unwrap();
    assert_eq!(driver.retain(0), Ok(first));
    let second = driver.retain(1).unwrap();
    driver.set_current(first).unwrap();
    driver.push_current(second).unwrap();
    assert_eq!(driver.current_ordinal(), Ok(1));
    assert_eq!(driver.pop_current(), Ok(second));
    assert_eq!(driver.get_current(), Ok(first));
    // Objects of one context are none of the other's.
    let here = driver.allocate(16).unwrap();
    let (stream, event) = (driver.create_stream(0).unwrap(), driver.create_event(0).unwrap());
    let kernel = function(&mut driver);
    driver.set_current(second).unwrap();
    assert_eq!(driver.free(here), Err(INVALID_VALUE));
    assert_eq!(driver.copy_out(Buffer::new(16, &[0; 4]).range(), here, None), Err(INVALID_VALUE));
    assert_eq!(driver.synchronize_stream(stream), Err(INVALID_HANDLE));
    assert_eq!(driver.record_event(event, 0), Err(INVALID_HANDLE));
    assert_eq!(launch(&mut driver, kernel, here, 0, 0), Err(INVALID_HANDLE));
    // A kernel that is given memory of the other device meets nothing there.
    let other = function(&mut driver);
    launch(&mut driver, other, here, 0, 0).unwrap();
    assert_eq!(driver.synchronize_context(), Err(ILLEGAL_ADDRESS));
    // The last reference takes all with it.
    driver.set_current(first).unwrap();
    driver.release(0).unwrap();
    assert!(driver.synchronize_stream(stream).is_ok());
    driver.release(0).unwrap();
    assert_eq!(driver.synchronize_stream(stream), Err(CONTEXT_IS_DESTROYED));
    assert_eq!(driver.set_current(first), Err(INVALID_CONTEXT));
}

#[test]
fn handles_that_are_gone() {
    let mut driver = driver(&[]);
    let module = driver.load_module(format!("{HEADER}{KERNEL}").as_bytes()).unwrap();
    let kernel = driver.function(module, "add_one").unwrap();
    assert_eq!(driver.function(module, "add_one"), Ok(kernel));
    assert_eq!(driver.function(module, "add_two"), Err(NOT_FOUND));
    let (stream, event) = (driver.create_stream(1).unwrap(), driver.create_event(0).unwrap());
    let memory = driver.allocate(100).unwrap();
    driver.unload_module(module).unwrap();
    driver.destroy_stream(stream).unwrap();
    driver.destroy_event(event).unwrap();
    driver.free(memory).unwrap();
    assert_eq!(driver.unload_module(module), Err(INVALID_HANDLE));
    assert_eq!(launch(&mut driver, kernel, 0, 0, 0), Err(INVALID_HANDLE));
    assert_eq!(driver.destroy_stream(stream), Err(INVALID_HANDLE));
    assert_eq!(driver.destroy_event(event), Err(INVALID_HANDLE));
    assert_eq!(driver.record_event(event, 0), Err(INVALID_HANDLE));
    assert_eq!(driver.free(memory), Err(INVALID_VALUE));
    assert_eq!(driver.fill(memory, &[0], 1, None), Err(INVALID_VALUE));
    let memory = driver.allocate(100).unwrap();
    driver.free_async(memory, 0).unwrap();
    assert_eq!(driver.free_async(memory, 0), Err(INVALID_VALUE));
    assert_eq!(driver.fill(memory, &[0], 1, None), Err(INVALID_VALUE));
}

#[test]
fn memory_and_its_limits() {
    let mut driver = driver(&[("FAKECUDA_DEVICES", "8.0:1MiB")]);
    assert_eq!(driver.allocate(0), Err(INVALID_VALUE));
    assert_eq!(driver.allocate((1 << 20) + 1), Err(OUT_OF_MEMORY));
    let first = driver.allocate(1 << 19).unwrap();
    assert_eq!(driver.allocate((1 << 19) + 1), Err(OUT_OF_MEMORY));
    assert_eq!(driver.memory_info(), Ok((1 << 19, 1 << 20)));
    assert_eq!(word(&mut driver, first), Ok(0xCDCD_CDCD));
    assert_eq!(driver.range_of(first + 77), Ok((first, 1 << 19)));
    assert_eq!(driver.range_of(first + (1 << 19)), Err(INVALID_VALUE));
    driver.fill(first, &7_u32.to_le_bytes(), 3, None).unwrap();
    driver.fill(first + 12, &[9], 2, None).unwrap();
    let second = driver.allocate(64).unwrap();
    driver.copy_within(second, first + 4, 10, None).unwrap();
    let out = Buffer::new(16, &[0; 12]);
    driver.copy_out(out.range(), second, None).unwrap();
    assert_eq!(out.get(), [7, 0, 0, 0, 7, 0, 0, 0, 9, 9, 0xCD, 0xCD]);
    driver.copy_in(second + 1, Buffer::new(16, &[1, 2, 3]).range(), None).unwrap();
    assert_eq!(word(&mut driver, second), Ok(0x0302_0107));
    assert_eq!(driver.copy_in(second + 62, Buffer::new(16, &[1, 2, 3]).range(), None), Err(INVALID_VALUE));
    assert_eq!(driver.fill(first + 2, &[0; 4], 1, None), Err(INVALID_VALUE));
    // What pointers are.
    let fact = |driver: &Driver, attribute, address| driver.pointer_fact(attribute, address);
    assert!(matches!(fact(&driver, 2, first + 5), Ok(PointerFact::MemoryType(2))));
    assert!(matches!(fact(&driver, 9, first), Ok(PointerFact::Ordinal(0))));
    assert!(matches!(fact(&driver, 11, first + 5), Ok(PointerFact::Address(start)) if start == first));
    assert!(fact(&driver, 2, 16).is_err());
    driver.add_host(0x10000, 100, Kind::Registered).unwrap();
    assert_eq!(driver.add_host(0x10010, 10, Kind::Registered), Err(HOST_MEMORY_ALREADY_REGISTERED));
    assert!(matches!(fact(&driver, 2, 0x10050), Ok(PointerFact::MemoryType(1))));
    assert_eq!(driver.remove_host(0x10010, Kind::Registered), Err(HOST_MEMORY_NOT_REGISTERED));
    assert_eq!(driver.remove_host(0x10000, Kind::Host), Err(INVALID_VALUE));
    assert_eq!(driver.remove_host(0x10000, Kind::Registered), Ok(100));
}

#[test]
fn what_a_launch_may_ask_for() {
    let mut driver = driver(&[("FAKECUDA_DEVICES", "8.0,8.6,9.0,12.0")]);
    let kernel = function(&mut driver);
    let memory = driver.allocate(4).unwrap();
    let mut with = |grid, block, shared| shaped(&mut driver, kernel, grid, block, shared, [memory, 0], 0);
    assert_eq!(with([1, 1, 1], [64, 1, 1], 48 << 10), Ok(()));
    assert_eq!(with([1, 1, 1], [8, 9, 1], 0), Err(LAUNCH_OUT_OF_RESOURCES)); // .maxntid 64
    assert_eq!(with([0, 1, 1], [1, 1, 1], 0), Err(INVALID_VALUE));
    assert_eq!(with([1, 65536, 1], [1, 1, 1], 0), Err(INVALID_VALUE));
    assert_eq!(with([1, 1, 1], [1, 1, 65], 0), Err(INVALID_VALUE));
    assert_eq!(with([1, 1, 1], [1025, 1, 1], 0), Err(INVALID_VALUE));
    assert_eq!(with([1, 1, 1], [1, 1, 1], (48 << 10) + 1), Err(INVALID_VALUE));
    // More shared memory only after asking, and only what the device has.
    for (ordinal, most) in [(0, 163), (1, 99), (2, 227), (3, 99)] {
        let context = driver.retain(ordinal).unwrap();
        driver.set_current(context).unwrap();
        let (kernel, memory) = (function(&mut driver), driver.allocate(4).unwrap());
        assert_eq!(driver.device(ordinal).unwrap().attribute(crate::driver::Attribute(97)), most << 10);
        assert_eq!(driver.set_function_attribute(kernel, 8, (most << 10) + 1), Err(INVALID_VALUE));
        assert_eq!(driver.set_function_attribute(kernel, 8, most << 10), Ok(()));
        assert_eq!(driver.function_attribute(kernel, 8), Ok(most << 10));
        let shared = (most as u32) << 10;
        assert_eq!(shaped(&mut driver, kernel, [1, 1, 1], [1, 1, 1], shared, [memory, 0], 0), Ok(()));
        assert_eq!(shaped(&mut driver, kernel, [1, 1, 1], [1, 1, 1], shared + 1, [memory, 0], 0), Err(INVALID_VALUE));
        assert_eq!(driver.occupancy(kernel, 64, u64::from(shared)), Ok(1));
        assert_eq!(driver.occupancy(kernel, 64, u64::from(shared) + 1), Ok(0));
        assert_eq!(driver.synchronize_context(), Ok(()));
    }
    assert_eq!(driver.function_attribute(kernel, 0), Ok(64));
    assert_eq!(driver.function_attribute(kernel, 5), Ok(80));
}

#[test]
fn images_that_are_refused() {
    let mut driver = driver(&[("FAKECUDA_DEVICES", "8.0")]);
    let with =
        |version: &str, target: &str| format!(".version {version}\n.target {target}\n.address_size 64\n{KERNEL}");
    let mut load = |text: &str| driver.load_module(text.as_bytes()).map(drop);
    assert_eq!(load(&with("8.4", "sm_80")), Ok(()));
    assert_eq!(load(&with("8.5", "sm_80")), Err(UNSUPPORTED_PTX_VERSION));
    assert_eq!(load(&with("8.4", "sm_86")), Err(NO_BINARY_FOR_GPU));
    assert_eq!(load(&with("8.4", "sm_75")), Ok(()));
    assert_eq!(load(&with("8.4", "sm_75a")), Err(NO_BINARY_FOR_GPU));
    assert_eq!(load("no PTX"), Err(INVALID_PTX));
    assert_eq!(driver.load_module(&[0xFF, 0xFE]), Err(INVALID_IMAGE));
    assert!(
        Driver::is_binary(b"\x7fELF") && Driver::is_binary(&[0x50, 0xED, 0x55, 0xBA]) && !Driver::is_binary(b".ver")
    );
    assert_eq!(driver.refuse_binary(), Err(NO_BINARY_FOR_GPU));
    for (version, newest) in
        [("11080", "7.8"), ("12000", "8.0"), ("12060", "8.5"), ("12080", "8.7"), ("12090", "8.8"), ("13000", "9.0")]
    {
        let mut driver = self::driver(&[("FAKECUDA_DRIVER", version)]);
        assert!(driver.load_module(with(newest, "sm_80").as_bytes()).is_ok(), "{version}");
    }
}

#[test]
fn a_fault_stays() {
    for streams in ["lazy", "eager"] {
        let mut driver = driver(&[("FAKECUDA_STREAMS", streams)]);
        let kernel = function(&mut driver);
        let memory = driver.allocate(8).unwrap();
        // The call itself says nothing, whatever the order of things.
        assert_eq!(launch(&mut driver, kernel, memory + 8, 0, 0), Ok(()));
        assert_eq!(launch(&mut driver, kernel, memory, 0, 0), Ok(()));
        assert_eq!(driver.synchronize_context(), Err(ILLEGAL_ADDRESS));
        assert_eq!(driver.synchronize_context(), Err(ILLEGAL_ADDRESS));
        assert_eq!(driver.allocate(8), Err(ILLEGAL_ADDRESS));
        assert_eq!(launch(&mut driver, kernel, memory, 0, 0), Err(ILLEGAL_ADDRESS));
        assert_eq!(word(&mut driver, memory), Err(ILLEGAL_ADDRESS));
        assert_eq!(driver.free(memory), Err(ILLEGAL_ADDRESS));
        // Freed all the same, and a new context does not heal the device.
        assert_eq!(driver.range_of(memory), Err(ILLEGAL_ADDRESS));
        driver.release(0).unwrap();
        let context = driver.retain(0).unwrap();
        driver.set_current(context).unwrap();
        assert_eq!(driver.allocate(8), Err(ILLEGAL_ADDRESS));
    }
}

/// The exported functions themselves, as a C program calls them, on the driver of this process.
#[test]
fn the_c_interface() {
    let (mut version, mut count, mut context, mut memory, mut stream) = (0, 0, 0, 0, 0);
    assert_eq!(cuDriverGetVersion(Out::to(&mut version)), 0);
    assert_eq!(cuInit(1), 1);
    assert_eq!(cuInit(0), 0);
    assert_eq!(cuDeviceGetCount(Out::to(&mut count)), 0);
    // The driver of the process reads the environment of whoever runs this.
    assert!(version >= 11000 && count >= 1);
    let mut name = [1; 40];
    assert_eq!(cuDeviceGetName(Out::to(name.as_mut_ptr()), 40, 0), 0);
    assert!(
        name.iter()
            .map(|c| *c as u8)
            .eq(*b"Fake GPU 0 (PTX interpreter)\0\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01")
    );
    assert_eq!(cuMemAlloc_v2(Out::to(&mut memory), 64), 201);
    assert_eq!(cuDevicePrimaryCtxRetain(Out::to(&mut context), 0), 0);
    assert_eq!(cuCtxSetCurrent(context), 0);
    // The other threads of the process have their own current context, which is none.
    assert_eq!(std::thread::spawn(|| cuCtxSynchronize()).join().unwrap(), 201);
    assert_eq!(cuMemAlloc_v2(Out::to(std::ptr::null_mut()), 64), 1);
    assert_eq!(cuMemAlloc_v2(Out::to(&mut memory), 64), 0);
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 1), 0);
    let mut pinned = std::ptr::null_mut();
    assert_eq!(cuMemHostAlloc(Out::to(&mut pinned), 64, 0), 0);
    assert_eq!(cuMemsetD32Async(memory, 41, 16, stream), 0);
    let text = std::ffi::CString::new(format!("{HEADER}{KERNEL}")).unwrap();
    let (mut module, mut kernel) = (0, 0);
    assert_eq!(cuModuleLoadData(Out::to(&mut module), text_of(&text)), 0);
    assert_eq!(cuModuleGetFunction(Out::to(&mut kernel), module, text_of(c"add_one")), 0);
    let (mut first, mut second) = (memory + 4, 0_u64);
    let mut arguments = [(&raw mut first).cast(), (&raw mut second).cast()];
    let null = std::ptr::null_mut();
    assert_eq!(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, arguments.as_mut_ptr(), null), 0);
    let mut words = [0_u32; 3];
    assert_eq!(cuMemcpyDtoHAsync_v2(words.as_mut_ptr().cast(), memory, 12, stream), 0);
    assert_eq!(words, [41, 42, 41]);
    let (mut attributes, mut kinds, mut ordinal) = ([2, 9], 0_u32, 0_i32);
    let mut places: [*mut std::ffi::c_void; 2] = [(&raw mut kinds).cast(), (&raw mut ordinal).cast()];
    let places = places.as_mut_ptr();
    assert_eq!(cuPointerGetAttributes(2, Out::to(attributes.as_mut_ptr()), Out::to(places), 16), 0);
    assert_eq!((kinds, ordinal), (0, -2));
    assert_eq!(cuPointerGetAttribute(Out::to(&raw mut kinds).as_kind(), 2, memory), 0);
    assert_eq!(kinds, 2);
    let mut described = std::ptr::null();
    assert_eq!(cuGetErrorName(700, Out::to(&mut described)), 0);
    assert_eq!(text_of_pointer(described).bytes().unwrap(), b"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(cuGetErrorString(123, Out::to(&mut described)), 1);
    assert_eq!(cuMemFreeHost(pinned), 0);
    assert_eq!(cuMemFreeHost(pinned), 1);
    assert_eq!(cuMemFree_v2(memory), 0);
    assert_eq!(cuModuleUnload(module), 0);
    assert_eq!(cuStreamDestroy_v2(stream), 0);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), 0);
}

fn text_of(text: &std::ffi::CStr) -> crate::abi::Text {
    text_of_pointer(text.as_ptr())
}

fn text_of_pointer(text: *const std::ffi::c_char) -> crate::abi::Text {
    crate::abi::Text::at(text)
}
