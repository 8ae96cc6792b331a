//! Streams: what is done when, as a host that waits too little finds out.

use super::driver::{Buffer, driver, function, launch, word};
use crate::driver::{Driver, Kind};
use crate::error::{INVALID_HANDLE, NOT_READY};

const LAZY: [(&str, &str); 1] = [("FAKECUDA_STREAMS", "lazy")];
const EAGER: [(&str, &str); 1] = [("FAKECUDA_STREAMS", "eager")];

/// 4 bytes of the device, 0.
fn cell(driver: &mut Driver) -> u64 {
    let memory = driver.allocate(4).unwrap();
    driver.fill(memory, &[0], 4, None).unwrap();
    memory
}

/// Page-locked memory of a test.
fn pinned(driver: &mut Driver, address: u64, bytes: &[u8]) -> Buffer {
    driver.add_host(address, bytes.len() as u64, Kind::Registered).unwrap();
    Buffer::new(address, bytes)
}

#[test]
fn a_pinned_block_that_is_reused_too_early_is_copied_as_it_is_then() {
    for (variables, expected) in [(LAZY, 2), (EAGER, 1)] {
        let mut driver = driver(&variables);
        let (memory, stream) = (cell(&mut driver), driver.create_stream(1).unwrap());
        let block = pinned(&mut driver, 0x4000, &[1, 0, 0, 0]);
        driver.copy_in(memory, block.range(), Some(stream)).unwrap();
        block.bytes.lock().unwrap()[0] = 2;
        driver.synchronize_stream(stream).unwrap();
        assert_eq!(word(&mut driver, memory), Ok(expected));
        // Pageable memory was copied at the call.
        let block = Buffer::new(0x8000, &[3, 0, 0, 0]);
        driver.copy_in(memory, block.range(), Some(stream)).unwrap();
        block.bytes.lock().unwrap()[0] = 4;
        driver.synchronize_stream(stream).unwrap();
        assert_eq!(word(&mut driver, memory), Ok(3));
    }
}

#[test]
fn a_result_that_is_read_too_early_is_not_there() {
    let mut driver = driver(&LAZY);
    let (memory, stream) = (cell(&mut driver), driver.create_stream(1).unwrap());
    let kernel = function(&mut driver);
    let block = pinned(&mut driver, 0x4000, &[9; 4]);
    launch(&mut driver, kernel, memory, 0, stream).unwrap();
    driver.copy_out(block.range(), memory, Some(stream)).unwrap();
    assert_eq!(block.get(), [9; 4]);
    driver.synchronize_stream(stream).unwrap();
    assert_eq!(block.get(), [1, 0, 0, 0]);
    // Into pageable memory the call waits.
    launch(&mut driver, kernel, memory, 0, stream).unwrap();
    let pageable = Buffer::new(0x8000, &[9; 4]);
    driver.copy_out(pageable.range(), memory, Some(stream)).unwrap();
    assert_eq!(pageable.get(), [2, 0, 0, 0]);
}

#[test]
fn two_streams_without_an_event_run_in_the_worst_order() {
    let mut driver = driver(&LAZY);
    let memory = cell(&mut driver);
    let (first, second) = (driver.create_stream(1).unwrap(), driver.create_stream(1).unwrap());
    let in_order = |driver: &mut Driver, event: Option<u64>| {
        driver.fill(memory, &[1], 4, Some(first)).unwrap();
        if let Some(event) = event {
            driver.record_event(event, first).unwrap();
            driver.wait_event(second, event).unwrap();
        }
        driver.fill(memory, &[2], 4, Some(second)).unwrap();
        driver.synchronize_context().unwrap();
        word(driver, memory).unwrap()
    };
    assert_eq!(in_order(&mut driver, None), 0x0101_0101);
    let event = driver.create_event(0).unwrap();
    assert_eq!(in_order(&mut driver, Some(event)), 0x0202_0202);
}

#[test]
fn an_event_is_what_it_was_when_it_was_waited_for() {
    let mut driver = driver(&LAZY);
    let memory = cell(&mut driver);
    let kernel = function(&mut driver);
    let (first, second) = (driver.create_stream(1).unwrap(), driver.create_stream(1).unwrap());
    let event = driver.create_event(0).unwrap();
    // Never recorded: nothing to wait for.
    driver.wait_event(second, event).unwrap();
    driver.synchronize_event(event).unwrap();
    launch(&mut driver, kernel, memory, 0, first).unwrap();
    driver.record_event(event, first).unwrap();
    launch(&mut driver, kernel, memory, 0, first).unwrap();
    // Up to the event, no further.
    let block = pinned(&mut driver, 0x4000, &[9; 4]);
    driver.wait_event(second, event).unwrap();
    driver.copy_out(block.range(), memory, Some(second)).unwrap();
    driver.record_event(event, first).unwrap();
    driver.synchronize_stream(second).unwrap();
    assert_eq!(block.get(), [1, 0, 0, 0]);
    driver.synchronize_event(event).unwrap();
    driver.destroy_event(event).unwrap();
    assert_eq!(driver.wait_event(second, event), Err(INVALID_HANDLE));
    assert_eq!(word(&mut driver, memory), Ok(2));
}

#[test]
fn who_polls_gets_on() {
    let mut driver = driver(&LAZY);
    let memory = cell(&mut driver);
    let (stream, start, end) =
        (driver.create_stream(1).unwrap(), driver.create_event(0).unwrap(), driver.create_event(0).unwrap());
    assert_eq!(driver.query_stream(stream), Ok(()));
    driver.record_event(start, stream).unwrap();
    driver.fill(memory, &[1], 4, Some(stream)).unwrap();
    driver.record_event(end, stream).unwrap();
    assert_eq!(driver.elapsed(start, end), Err(NOT_READY));
    assert_eq!(driver.query_event(end), Err(NOT_READY));
    assert_eq!(driver.query_event(end), Ok(()));
    assert!(driver.elapsed(start, end).unwrap() > 0.0);
    driver.fill(memory, &[2], 4, Some(stream)).unwrap();
    assert_eq!(driver.query_stream(stream), Err(NOT_READY));
    assert_eq!(driver.query_stream(stream), Ok(()));
    let untimed = driver.create_event(2).unwrap();
    assert_eq!(driver.elapsed(untimed, end), Err(INVALID_HANDLE));
}

#[test]
fn the_default_stream_and_those_that_wait_for_it() {
    let mut driver = driver(&LAZY);
    let memory = cell(&mut driver);
    let (blocking, free) = (driver.create_stream(0).unwrap(), driver.create_stream(1).unwrap());
    driver.fill(memory, &[1], 4, Some(blocking)).unwrap();
    driver.fill(memory, &[2], 4, Some(0)).unwrap();
    driver.fill(memory, &[3], 4, Some(blocking)).unwrap();
    driver.synchronize_stream(blocking).unwrap();
    assert_eq!(word(&mut driver, memory), Ok(0x0303_0303));
    // One that does not wait for it is overtaken by a copy that waits.
    driver.fill(memory, &[4], 4, Some(free)).unwrap();
    assert_eq!(word(&mut driver, memory), Ok(0x0303_0303));
    driver.synchronize_stream(free).unwrap();
    assert_eq!(word(&mut driver, memory), Ok(0x0404_0404));
    // The other names of the default stream.
    for name in [1, 2] {
        driver.fill(memory, &[name as u8], 4, Some(name)).unwrap();
        driver.synchronize_stream(0).unwrap();
    }
    assert_eq!(word(&mut driver, memory), Ok(0x0202_0202));
}

#[test]
fn freeing_waits() {
    let mut driver = driver(&[("FAKECUDA_DEVICES", "9.0:1KiB")]);
    let (memory, other) = (cell(&mut driver), cell(&mut driver));
    let kernel = function(&mut driver);
    let stream = driver.create_stream(1).unwrap();
    launch(&mut driver, kernel, memory, other, stream).unwrap();
    driver.free(memory).unwrap();
    assert_eq!(word(&mut driver, other), Ok(9));
    // In its turn: the launch before still finds it, the memory counts as used until then.
    let memory = cell(&mut driver);
    let (before, _) = driver.memory_info().unwrap();
    launch(&mut driver, kernel, memory, 0, stream).unwrap();
    driver.free_async(memory, stream).unwrap();
    assert_eq!(driver.memory_info().unwrap().0, before);
    driver.synchronize_stream(stream).unwrap();
    assert_eq!(driver.memory_info().unwrap().0, before + 4);
    // Memory that is only waiting to be freed is found when it is needed.
    driver.free_async(other, stream).unwrap();
    let other = driver.allocate(before + 8).unwrap();
    driver.fill(other, &[0], 4, None).unwrap();
    // A block of pinned memory that goes takes its copies with it first.
    let block = pinned(&mut driver, 0x4000, &[7, 0, 0, 0]);
    driver.copy_in(other, block.range(), Some(stream)).unwrap();
    driver.remove_host(0x4000, Kind::Registered).unwrap();
    block.bytes.lock().unwrap()[0] = 8;
    assert_eq!(word(&mut driver, other), Ok(7));
}

#[test]
fn host_kernels_run_instead() {
    // What the library would be: it is given the name, the shape and the arguments.
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = asked.clone();
    let kernels = Box::new(move |name: &str, shape: [u32; 3], arguments: &[Vec<u8>]| {
        told.lock().unwrap().push((name.to_owned(), shape, arguments.to_vec()));
        if arguments[1] == [0; 8] { 0 } else { 700 }
    });
    let mut driver = Driver::new(super::driver::configured(&LAZY), Some(kernels)).unwrap();
    driver.init().unwrap();
    let context = driver.retain(0).unwrap();
    driver.set_current(context).unwrap();
    let kernel = function(&mut driver);
    launch(&mut driver, kernel, 5, 0, 0).unwrap();
    assert!(asked.lock().unwrap().is_empty());
    driver.synchronize_context().unwrap();
    let expected = ("add_one".to_owned(), [1, 1, 0], vec![5_u64.to_le_bytes().to_vec(), vec![0; 8]]);
    assert_eq!(*asked.lock().unwrap(), [expected]);
    launch(&mut driver, kernel, 5, 1, 0).unwrap();
    assert_eq!(driver.synchronize_context(), Err(crate::error::ILLEGAL_ADDRESS));
}
