//! What is planned to go wrong does, and nothing else.

use super::*;

#[test]
fn planned_faults_and_launches_that_do_nothing() {
    let mut driver = driver(&[("FAKECUDA_SKIP", "2"), ("FAKECUDA_FAULT", "4:716")]);
    let kernel = function(&mut driver);
    let memory = driver.allocate(4).unwrap();
    driver.fill(memory, &[0], 4, None).unwrap();
    for expected in [1, 1, 2] {
        launch(&mut driver, kernel, memory, 0, 0).unwrap();
        assert_eq!(word(&mut driver, memory), Ok(expected));
    }
    launch(&mut driver, kernel, memory, 0, 0).unwrap();
    assert_eq!(word(&mut driver, memory), Err(MISALIGNED_ADDRESS));
}

#[test]
fn planned_copies_that_do_nothing() {
    let mut driver = driver(&[("FAKECUDA_LOSE", "2")]);
    let memory = driver.allocate(4).unwrap();
    driver.fill(memory, &[7], 4, None).unwrap();
    // `word` copies to memory that holds zeros.
    for expected in [0x0707_0707, 0, 0x0707_0707] {
        assert_eq!(word(&mut driver, memory), Ok(expected));
    }
}

#[test]
fn planned_copies_to_the_device_that_do_nothing_or_change_a_bit() {
    for (streams, pinned) in [("lazy", false), ("eager", false), ("lazy", true)] {
        let variables = [("FAKECUDA_STREAMS", streams), ("FAKECUDA_LOSE_IN", "2"), ("FAKECUDA_FLIP", "1;3:31;4:33")];
        let mut driver = driver(&variables);
        if pinned {
            driver.add_host(0x1000, 4, Kind::Registered).unwrap();
        }
        let memory = driver.allocate(4).unwrap();
        driver.fill(memory, &[7], 4, None).unwrap();
        let stream = driver.create_stream(1).unwrap();
        // A first bit, nothing, a last bit, one past the end, and none.
        for (count, expected) in [0x0101_0100, 0x0101_0100, 0x8101_0101, 0x0101_0103, 0x0101_0101].iter().enumerate() {
            driver.copy_in(memory, Buffer::new(0x1000, &[1; 4]).range(), (count > 1).then_some(stream)).unwrap();
            driver.synchronize_stream(stream).unwrap();
            assert_eq!(word(&mut driver, memory), Ok(*expected), "{streams} {count}");
        }
        // Copies of nothing do not count: this would be the sixth, or the first.
        driver.copy_in(memory, Buffer::new(0x1000, &[]).range(), None).unwrap();
    }
}

#[test]
fn a_device_that_is_lost_midway_gives_things_back_and_no_more() {
    let variables = [("FAKECUDA_DEVICES", "9.0,8.0"), ("FAKECUDA_GONE", "4")];
    let mut driver = Driver::new(configured(&variables), None).unwrap();
    driver.init().unwrap();
    let (first, second) = (driver.retain(0).unwrap(), driver.retain(1).unwrap());
    driver.set_current(first).unwrap();
    let mut memory = 0;
    let call = |driver: &mut Driver, work: &mut dyn FnMut(&mut Driver) -> Result<(), Code>| driver.call("f", work);
    assert_eq!(call(&mut driver, &mut |d| d.allocate(64).map(|found| memory = found)), 0);
    assert_eq!(call(&mut driver, &mut |d| d.create_stream(0).map(drop)), 0);
    assert_eq!(call(&mut driver, &mut |d| d.push_current(first)), 0);
    // The fourth.
    assert_eq!(call(&mut driver, &mut |d| d.allocate(64).map(drop)), 46);
    assert_eq!(call(&mut driver, &mut Driver::synchronize_context), 46);
    assert_eq!(call(&mut driver, &mut |d| d.copy_in(memory, Buffer::new(16, &[1]).range(), None)), 46);
    assert_eq!(call(&mut driver, &mut |d| d.pop_current().map(drop)), 0);
    // Freed all the same: it is not there to be freed again.
    assert_eq!(call(&mut driver, &mut |d| d.free(memory)), 46);
    assert_eq!(call(&mut driver, &mut |d| d.free(memory)), 1);
    // The other device goes on.
    driver.set_current(second).unwrap();
    assert_eq!(call(&mut driver, &mut |d| d.allocate(64).map(drop)), 0);
}

#[test]
fn files_that_a_disk_writes_to_the_device() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let path = std::env::current_exe().unwrap().with_extension(format!("cufile-{}", std::process::id()));
    std::fs::write(&path, (1..=100).collect::<Vec<u8>>()).unwrap();
    let direct = std::fs::File::options().read(true).custom_flags(0o40_000).open(&path);
    let plain = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut driver = driver(&[("FAKECUDA_SHORT", "2:10"), ("FAKECUDA_FLIP", "3"), ("FAKECUDA_LOSE_IN", "4")]);
    let memory = driver.allocate(100).unwrap();
    assert_eq!(driver.register_file(plain.as_raw_fd()), Err(Code(5001)));
    assert_eq!((driver.open_files(), driver.open_files()), (Ok(0), Err(Code(5026))));
    assert_eq!(driver.register_file(plain.as_raw_fd()), Err(Code(5019)));
    // x86 alone has the flag that is written above, and not every file system takes it.
    let (Ok(direct), "x86_64") = (direct, std::env::consts::ARCH) else { return };
    let file = driver.register_file(direct.as_raw_fd()).unwrap();
    assert_eq!(driver.register_file(direct.as_raw_fd()), Err(Code(5028)));
    // At once, before what is queued.
    let stream = driver.create_stream(1).unwrap();
    driver.fill(memory, &[7], 4, Some(stream)).unwrap();
    assert_eq!(driver.read_file(file, memory, 100, 1), Ok(99));
    assert_eq!(word(&mut driver, memory), Ok(0x0504_0302));
    driver.synchronize_stream(stream).unwrap();
    assert_eq!(word(&mut driver, memory), Ok(0x0707_0707));
    for (count, expected) in [(10, 0x0403_0201), (100, 0x0403_0200), (100, 0x0403_0200), (0, 0x0403_0200)] {
        let at = if count == 0 { 100 } else { 0 };
        assert_eq!(driver.read_file(file, memory, 100, at), Ok(count));
        assert_eq!(word(&mut driver, memory), Ok(expected));
    }
    assert_eq!(driver.read_file(file, memory + 1, 100, 0), Err(Code(5012)));
    assert_eq!((driver.deregister_file(file), driver.deregister_file(file)), (Ok(0), Err(Code(5027))));
    assert_eq!(driver.read_file(file, memory, 100, 0), Err(Code(5027)));
}

#[test]
fn calls_that_fail_as_planned_and_the_log() {
    let folder = std::env::temp_dir().join(format!("fakecuda-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("log");
    let variables = [("FAKECUDA_FAIL", "cuMemAlloc_v2:2:2;*:6:700"), ("FAKECUDA_LOG", path.to_str().unwrap())];
    let mut driver = Driver::new(configured(&variables), None).unwrap();
    let call = |driver: &mut Driver, name, work: &dyn Fn(&mut Driver) -> Result<(), Code>| driver.call(name, work);
    assert_eq!(call(&mut driver, "cuInit", &|d| d.init()), 0);
    let retain = |d: &mut Driver| {
        let context = d.retain(0)?;
        d.set_current(context)
    };
    assert_eq!(call(&mut driver, "cuDevicePrimaryCtxRetain", &retain), 0);
    for expected in [0, 2, 0] {
        assert_eq!(call(&mut driver, "cuMemAlloc_v2", &|d| d.allocate(64).map(drop)), expected);
    }
    assert_eq!(call(&mut driver, "cuStreamCreate", &|d| d.create_stream(0).map(drop)), 700);
    assert_eq!(call(&mut driver, "cuStreamCreate", &|d| d.create_stream(0).map(drop)), 700); // 700 is of the kind that stays
    assert_eq!(call(&mut driver, "cuDevicePrimaryCtxRelease_v2", &|d| d.release(0)), 0);
    let log = Log::read(&path).unwrap();
    assert_eq!((log.calls.len(), log.count("cuMemAlloc_v2"), log.calls[3].result), (8, 3, 2));
    assert_eq!(log.calls[3].notes, ["injected"]);
    let leaks = log.leaks();
    assert_eq!(leaks.len(), 2);
    assert!(leaks.iter().all(|leak| leak.starts_with("allocation=0x")));
    std::fs::remove_dir_all(folder).unwrap();
}
