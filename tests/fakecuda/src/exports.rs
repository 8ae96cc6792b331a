//! The functions of `cuda.h` that are there, in its order. What is not here is not modelled: a program that calls it
//! finds no such symbol.

use crate::abi::{Out, Text, allocate_pages, api, argument, free_pages, host_range};
use crate::driver::{Attribute, Driver, Kind, PointerFact, Shape};
use crate::error::{INVALID_VALUE, NOT_SUPPORTED, describe};
use std::ffi::{c_char, c_int, c_uint, c_void};

type Handle = u64;
type DevicePointer = u64;
type Size = usize;

api! {
    fn cuInit(flags: c_uint) = |d| if flags == 0 { d.init() } else { Err(INVALID_VALUE) };
    fn cuDriverGetVersion(version: Out<c_int>) = |d| version.put(d.config.driver_version);
    fn cuGetErrorName(code: c_int, name: Out<*const c_char>) = |_| match describe(code) {
        Some((text, _)) => name.put(text.as_ptr()),
        None => Err(INVALID_VALUE),
    };
    fn cuGetErrorString(code: c_int, text: Out<*const c_char>) = |_| match describe(code) {
        Some((_, found)) => text.put(found.as_ptr()),
        None => Err(INVALID_VALUE),
    };

    // ---- devices ---------------------------------------------------------------------------------------------
    fn cuDeviceGetCount(count: Out<c_int>) = |d| count.put(d.device_count()?);
    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) = |d| {
        d.device(ordinal)?;
        device.put(ordinal)
    };
    fn cuDeviceGetName(name: Out<c_char>, room: c_int, device: c_int) =
        |d| name.put_text(&d.device(device)?.name(), room);
    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: c_int) = |d| uuid.put(d.device(device)?.uuid());
    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) = |d| uuid.put(d.device(device)?.uuid());
    fn cuDeviceGetPCIBusId(id: Out<c_char>, room: c_int, device: c_int) =
        |d| id.put_text(&d.device(device)?.bus_id(), room);
    fn cuDeviceTotalMem_v2(bytes: Out<Size>, device: c_int) = |d| bytes.put(d.device(device)?.memory() as Size);
    fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, device: c_int) =
        |d| value.put(d.device(device)?.attribute(Attribute(attribute)));

    // ---- contexts --------------------------------------------------------------------------------------------
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: c_int) = |d| context.put(d.retain(device)?);
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) = |d| d.release(device);
    fn cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) = |d| {
        flags.put_if_wanted(0)?;
        active.put_if_wanted(d.device(device)?.is_active().into())
    };
    fn cuCtxSetCurrent(context: Handle) = |d| d.set_current(context);
    fn cuCtxGetCurrent(context: Out<Handle>) = |d| context.put(d.get_current()?);
    fn cuCtxPushCurrent_v2(context: Handle) = |d| d.push_current(context);
    fn cuCtxPopCurrent_v2(context: Out<Handle>) = |d| {
        let popped = d.pop_current()?;
        context.put_if_wanted(popped)
    };
    fn cuCtxGetDevice(device: Out<c_int>) = |d| device.put(d.current_ordinal()?);
    fn cuCtxSynchronize() = Driver::synchronize_context;
    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) = |d| {
        d.current_ordinal()?;
        least.put_if_wanted(0)?;
        greatest.put_if_wanted(0)
    };

    // ---- modules and functions -------------------------------------------------------------------------------
    fn cuModuleLoadData(module: Out<Handle>, image: Text) = |d| module.put(load(d, &image)?);
    fn cuModuleLoadDataEx(
        module: Out<Handle>,
        image: Text,
        _options: c_uint,
        _names: *mut c_int,
        _values: *mut *mut c_void,
    ) = |d| module.put(load(d, &image)?);
    fn cuModuleUnload(module: Handle) = |d| d.unload_module(module);
    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Text) = |d| {
        let name = std::str::from_utf8(name.bytes()?).map_err(|_| INVALID_VALUE)?;
        function.put(d.function(module, name)?)
    };
    fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_int, function: Handle) =
        |d| value.put(d.function_attribute(function, attribute)?);
    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) =
        |d| d.set_function_attribute(function, attribute, value);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<c_int>, function: Handle, threads: c_int, shared: Size) =
        |d| blocks.put(d.occupancy(function, threads, shared as u64)?);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<c_int>,
        function: Handle,
        threads: c_int,
        shared: Size,
        _flags: c_uint,
    ) = |d| blocks.put(d.occupancy(function, threads, shared as u64)?);
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        arguments: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) = |d| {
        if !extra.is_null() {
            return Err(NOT_SUPPORTED);
        }
        let shape = Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        d.launch(function, shape, stream, &|index, size| argument(arguments, index, size))
    };

    // ---- memory ----------------------------------------------------------------------------------------------
    fn cuMemGetInfo_v2(free: Out<Size>, total: Out<Size>) = |d| {
        let (left, all) = d.memory_info()?;
        free.put(left as Size)?;
        total.put(all as Size)
    };
    fn cuMemAlloc_v2(pointer: Out<DevicePointer>, bytes: Size) = |d| pointer.put(d.allocate(bytes as u64)?);
    fn cuMemFree_v2(pointer: DevicePointer) = |d| if pointer == 0 { Ok(()) } else { d.free(pointer) };
    fn cuMemAllocAsync(pointer: Out<DevicePointer>, bytes: Size, stream: Handle) =
        |d| pointer.put(d.allocate_async(bytes as u64, stream)?);
    fn cuMemFreeAsync(pointer: DevicePointer, stream: Handle) = |d| d.free_async(pointer, stream);
    fn cuMemGetAddressRange_v2(start: Out<DevicePointer>, bytes: Out<Size>, pointer: DevicePointer) = |d| {
        let (found, length) = d.range_of(pointer)?;
        start.put_if_wanted(found)?;
        bytes.put_if_wanted(length as Size)
    };
    fn cuMemHostAlloc(pointer: Out<*mut c_void>, bytes: Size, _flags: c_uint) = |d| pin(d, &pointer, bytes);
    fn cuMemAllocHost_v2(pointer: Out<*mut c_void>, bytes: Size) = |d| pin(d, &pointer, bytes);
    fn cuMemFreeHost(pointer: *mut c_void) = |d| {
        let length = d.remove_host(pointer.addr() as u64, Kind::Host)?;
        free_pages(pointer, length as Size);
        Ok(())
    };
    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: Size, _flags: c_uint) =
        |d| d.add_host(pointer.expose_provenance() as u64, bytes as u64, Kind::Registered);
    fn cuMemHostUnregister(pointer: *mut c_void) =
        |d| d.remove_host(pointer.addr() as u64, Kind::Registered).map(drop);

    fn cuMemcpyHtoD_v2(to: DevicePointer, from: *const c_void, bytes: Size) =
        |d| d.copy_in(to, host_range(from, bytes)?, None);
    fn cuMemcpyHtoDAsync_v2(to: DevicePointer, from: *const c_void, bytes: Size, stream: Handle) =
        |d| d.copy_in(to, host_range(from, bytes)?, Some(stream));
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: DevicePointer, bytes: Size) =
        |d| d.copy_out(host_range(to, bytes)?, from, None);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: DevicePointer, bytes: Size, stream: Handle) =
        |d| d.copy_out(host_range(to, bytes)?, from, Some(stream));
    fn cuMemcpyDtoD_v2(to: DevicePointer, from: DevicePointer, bytes: Size) =
        |d| d.copy_within(to, from, bytes as u64, None);
    fn cuMemcpyDtoDAsync_v2(to: DevicePointer, from: DevicePointer, bytes: Size, stream: Handle) =
        |d| d.copy_within(to, from, bytes as u64, Some(stream));
    fn cuMemsetD8_v2(to: DevicePointer, value: u8, count: Size) = |d| d.fill(to, &[value], count as u64, None);
    fn cuMemsetD8Async(to: DevicePointer, value: u8, count: Size, stream: Handle) =
        |d| d.fill(to, &[value], count as u64, Some(stream));
    fn cuMemsetD32_v2(to: DevicePointer, value: c_uint, count: Size) =
        |d| d.fill(to, &value.to_le_bytes(), count as u64, None);
    fn cuMemsetD32Async(to: DevicePointer, value: c_uint, count: Size, stream: Handle) =
        |d| d.fill(to, &value.to_le_bytes(), count as u64, Some(stream));

    fn cuPointerGetAttribute(value: Out<c_void>, attribute: c_int, pointer: DevicePointer) =
        |d| put_fact(&value, &d.pointer_fact(attribute, pointer)?);
    fn cuPointerGetAttributes(
        count: c_uint,
        attributes: Out<c_int>,
        values: Out<*mut c_void>,
        pointer: DevicePointer,
    ) = |d| {
        for index in 0..count as usize {
            let attribute = attributes.at(index).get()?;
            let fact = d.pointer_fact(attribute, pointer).unwrap_or_else(|_| nothing_known(attribute));
            put_fact(&Out::to(values.at(index).get()?), &fact)?;
        }
        Ok(())
    };

    // ---- streams and events ----------------------------------------------------------------------------------
    fn cuStreamCreate(stream: Out<Handle>, flags: c_uint) = |d| stream.put(d.create_stream(flags)?);
    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: c_uint, _priority: c_int) =
        |d| stream.put(d.create_stream(flags)?);
    fn cuStreamDestroy_v2(stream: Handle) = |d| d.destroy_stream(stream);
    fn cuStreamSynchronize(stream: Handle) = |d| d.synchronize_stream(stream);
    fn cuStreamQuery(stream: Handle) = |d| d.query_stream(stream);
    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) = |d| context.put(d.context_of_stream(stream)?);
    fn cuStreamIsCapturing(_stream: Handle, status: Out<c_int>) = |_| status.put(0);
    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) = |d| d.wait_event(stream, event);
    fn cuEventCreate(event: Out<Handle>, flags: c_uint) = |d| event.put(d.create_event(flags)?);
    fn cuEventRecord(event: Handle, stream: Handle) = |d| d.record_event(event, stream);
    fn cuEventQuery(event: Handle) = |d| d.query_event(event);
    fn cuEventSynchronize(event: Handle) = |d| d.synchronize_event(event);
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) =
        |d| milliseconds.put(d.elapsed(start, end)?);
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) =
        |d| milliseconds.put(d.elapsed(start, end)?);
    fn cuEventDestroy_v2(event: Handle) = |d| d.destroy_event(event);
}

type Outcome<T> = Result<T, crate::error::Code>;

fn load(driver: &mut Driver, image: &Text) -> Outcome<Handle> {
    if Driver::is_binary(&image.start()?) { driver.refuse_binary() } else { driver.load_module(image.bytes()?) }
}

fn pin(driver: &mut Driver, pointer: &Out<*mut c_void>, bytes: Size) -> Outcome<()> {
    let start = allocate_pages(bytes)?;
    if let Err(code) = driver.add_host(start.expose_provenance() as u64, bytes as u64, Kind::Host) {
        free_pages(start, bytes);
        return Err(code);
    }
    pointer.put(start)
}

fn put_fact(place: &Out<c_void>, fact: &PointerFact) -> Outcome<()> {
    match *fact {
        PointerFact::MemoryType(value) => place.as_kind().put(value),
        PointerFact::Address(value) => place.as_kind().put(value),
        PointerFact::Ordinal(value) => place.as_kind().put(value),
        PointerFact::Flag(value) => place.as_kind().put(c_uint::from(value)),
        PointerFact::Size(value) => place.as_kind().put(value),
    }
}

/// What `cuPointerGetAttributes` gives for memory that CUDA does not know: zeros of the right width.
fn nothing_known(attribute: c_int) -> PointerFact {
    match attribute {
        2 => PointerFact::MemoryType(0),
        8 | 13 => PointerFact::Flag(false),
        9 => PointerFact::Ordinal(-2), // CU_DEVICE_INVALID
        12 => PointerFact::Size(0),
        _ => PointerFact::Address(0),
    }
}
