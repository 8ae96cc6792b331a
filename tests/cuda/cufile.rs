//! Files that the device reads by itself, on the library of `tests/fakecuda` that stands in for libcufile.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tensorseal::device::cuda::{Buffer, Cuda};
use tensorseal::device::{Backend, DeviceError, StorageError, StoragePath};

use super::common::fakecuda::{cufile_dir, is_child, must_pass};
use super::failures::{calls, leaks};
use super::{here, pattern, root, upload, whole};

/// A file past the page cache. The folder is beside this executable: `/tmp` may be memory.
fn file(bytes: &[u8]) -> (File, PathBuf) {
    let path = std::env::current_exe().unwrap().with_extension(format!("read-{}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    (file, path)
}

/// Runs `test` with a libcufile to be found and each of `envs`; nothing may be left registered or allocated.
#[track_caller]
fn parent(test: &str, envs: &[&[(&str, &str)]]) -> bool {
    if is_child(test) {
        return false;
    }
    let room = tempfile::tempdir().unwrap();
    for env in envs {
        let (log, dir) = (room.path().join("log"), cufile_dir());
        let mut all = vec![("LD_LIBRARY_PATH", dir.to_str().unwrap()), ("FAKECUDA_LOG", log.to_str().unwrap())];
        all.extend_from_slice(env);
        must_pass(test, &all);
        let calls = calls(&log);
        assert!(calls.iter().any(|call| call.name == "cuFileDriverOpen"), "{env:?}: the library was used");
        assert_eq!(leaks(&calls), [] as [&str; 0], "{env:?}");
        fs::remove_file(log).unwrap();
    }
    true
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn read(cuda: &Cuda, file: File, at: u64, len: u64, to: &mut Buffer, to_at: u64) -> Result<u64, StorageError> {
    Ok(cuda.storage(file)?.read(at, len, to, to_at)?)
}

#[test]
fn any_bytes_of_a_file_go_anywhere_in_device_memory() {
    // The kernels see what came however many reads it took, and in whatever order streams run.
    let envs: [&[_]; 3] = [
        &[],
        &[("FAKECUDA_STREAMS", "eager"), ("FAKECUDA_SHORT", "1:1;2:100;3:4096;5:9;6:65536")],
        &[("FAKECUDA_SHORT", "1:99999;4:1")],
    ];
    if parent(here!("any_bytes_of_a_file_go_anywhere_in_device_memory"), &envs) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(100_003, 5);
    let storage = cuda.storage(file(&bytes).0).unwrap();
    for (at, len, to_at) in [(0, 100_003, 0), (0, 1, 7), (1, 4097, 3), (100_002, 1, 0), (512, 512, 512), (9, 0, 50)] {
        let before = pattern(100_100, 6);
        let mut buffer = upload(&cuda, &before);
        assert_eq!(storage.read(at, len, &mut buffer, to_at).unwrap(), len);
        let (at, len, to_at) = (at as usize, len as usize, to_at as usize);
        let mut expected = before;
        expected[to_at..to_at + len].copy_from_slice(&bytes[at..at + len]);
        assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&expected)]);
    }
    // Where the file ends there is no more, and no error; what does not fit is one.
    let mut buffer = cuda.alloc(100_010).unwrap();
    assert_eq!(storage.read(0, 100_010, &mut buffer, 0).unwrap(), 100_003);
    assert_eq!(storage.read(200_000, 5, &mut buffer, 0).unwrap(), 0);
    for (at, len, to_at) in [(0, 11, 100_000), (0, 1, u64::MAX), (u64::MAX, 5, 0), (i64::MAX as u64, 5, 0)] {
        assert!(storage.read(at, len, &mut buffer, to_at).is_err(), "{at} {len} {to_at}");
    }
}

#[test]
fn a_read_waits_for_what_is_queued_where_it_goes() {
    let envs: [&[_]; 2] = [&[("FAKECUDA_STREAMS", "lazy")], &[("FAKECUDA_STREAMS", "eager")]];
    if parent(here!("a_read_waits_for_what_is_queued_where_it_goes"), &envs) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let (before, bytes) = (pattern(50_000, 1), pattern(50_000, 2));
    let storage = cuda.storage(file(&bytes).0).unwrap();
    // An upload that has not run yet must not come after the read.
    let mut buffer = upload(&cuda, &before);
    storage.read(0, 25_000, &mut buffer, 0).unwrap();
    let mixed = [&bytes[..25_000], &before[25_000..]].concat();
    // A job that has not run yet must not see it.
    let ticket = cuda.submit(&[whole(&buffer)], None).unwrap();
    storage.read(0, 50_000, &mut buffer, 0).unwrap();
    let later = cuda.submit(&[whole(&buffer)], None).unwrap();
    assert_eq!(cuda.wait(ticket).unwrap(), [root(&mixed)]);
    assert_eq!(cuda.wait(later).unwrap(), [root(&bytes)]);
    drop(storage);
}

#[test]
fn a_read_that_fails_says_why_and_leaves_nothing_registered() {
    let envs: Vec<[(&str, &str); 1]> =
        ["1:5", "2:5", "1:5008", "2:5036", "1:5011", "1:5999"].map(|fault| [("FAKECUDA_FAIL", fault)]).into();
    let named: Vec<String> = envs.iter().map(|[(_, fault)]| format!("cuFileRead:{fault}")).collect();
    let envs: Vec<Vec<(&str, &str)>> =
        named.iter().map(|fault| vec![("FAKECUDA_FAIL", fault.as_str()), ("FAKECUDA_SHORT", "1:1000")]).collect();
    if parent(
        here!("a_read_that_fails_says_why_and_leaves_nothing_registered"),
        &envs.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    ) {
        return;
    }
    let fault = env("FAKECUDA_FAIL");
    let words = match fault.rsplit(':').next().unwrap() {
        "5" => "Input/output error",
        "5008" => "CU_FILE_IO_NOT_SUPPORTED (5008",
        "5036" => "CU_FILE_GPU_MEMORY_PINNING_FAILED (5036",
        "5011" => "CU_FILE_CUDA_DRIVER_ERROR",
        _ => "error 5999 of cuFile",
    };
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(50_000, 1);
    let mut buffer = cuda.alloc(50_000).unwrap();
    match read(&cuda, file(&bytes).0, 0, 50_000, &mut buffer, 0) {
        Err(StorageError::Device(DeviceError::Driver { call: "cuFileRead", why, .. })) => {
            assert!(why.contains(words), "{fault}: {why}");
        }
        other => panic!("{fault}: {other:?}"),
    }
    // Only what failed in CUDA ends the use of the device.
    assert_eq!(cuda.alloc(1).is_ok(), !fault.ends_with(":5011"), "{fault}");
}

#[test]
fn a_bit_that_changed_on_the_way_shows_in_the_digest_and_so_do_bytes_that_never_came() {
    // The known-answer test at opening has copies of its own: those of the reads come last.
    let test = here!("a_bit_that_changed_on_the_way_shows_in_the_digest_and_so_do_bytes_that_never_came");
    if !is_child(test) {
        let (room, dir) = (tempfile::tempdir().unwrap(), cufile_dir());
        let log = room.path().join("log");
        let always = [("LD_LIBRARY_PATH", dir.to_str().unwrap()), ("FAKECUDA_LOG", log.to_str().unwrap())];
        must_pass(test, &always);
        let copies = calls(&log);
        let reads = copies.iter().filter(|call| call.name == "cuFileRead");
        let [first, second] = reads.map(|call| call.notes[0].clone()).collect::<Vec<_>>().try_into().unwrap();
        let number = |note: &str| note.strip_prefix("in=").unwrap().split(':').next().unwrap().to_owned();
        for read in [number(&first), number(&second)] {
            for fault in [
                ("FAKECUDA_FLIP", read.clone()),
                ("FAKECUDA_FLIP", format!("{read}:{}", 8 * 20_000 - 1)),
                ("FAKECUDA_LOSE_IN", read),
            ] {
                must_pass(test, &[always[0], always[1], (fault.0, &fault.1)]);
            }
        }
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(40_000, 3);
    let mut buffer = cuda.alloc(40_000).unwrap();
    let storage = cuda.storage(file(&bytes).0).unwrap();
    // It says that all went well.
    assert_eq!(storage.read(0, 20_000, &mut buffer, 0).unwrap(), 20_000);
    assert_eq!(storage.read(20_000, 20_000, &mut buffer, 20_000).unwrap(), 20_000);
    let sound = env("FAKECUDA_FLIP").is_empty() && env("FAKECUDA_LOSE_IN").is_empty();
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap() == [root(&bytes)], sound);
}

#[test]
fn the_way_that_bytes_take_is_said() {
    let envs: [&[_]; 3] =
        [&[("FAKECUDA_CUFILE", "either")], &[("FAKECUDA_CUFILE", "strict")], &[("FAKECUDA_CUFILE", "compatible")]];
    if parent(here!("the_way_that_bytes_take_is_said"), &envs) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let expected = match env("FAKECUDA_CUFILE").as_str() {
        "either" => StoragePath::Unknown,
        "strict" => StoragePath::Device,
        _ => StoragePath::Host,
    };
    assert_eq!(cuda.storage(file(b"w").0).unwrap().path(), expected);
}

fn missing(cuda: &Cuda, file: File) -> String {
    match cuda.storage(file) {
        Err(StorageError::Missing(why)) => why,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it reads files"),
    }
}

#[test]
fn what_is_missing_is_named() {
    let envs: [&[_]; 3] = [
        &[("FAKECUDA_FAIL", "cuFileDriverOpen:1:5010")],
        &[("FAKECUDA_FAIL", "cuFileDriverGetProperties:1:3")],
        &[("FAKECUDA_FAIL", "cuFileHandleRegister:1:5008")],
    ];
    if parent(here!("what_is_missing_is_named"), &envs) {
        return;
    }
    let words = match env("FAKECUDA_FAIL").split(':').next().unwrap() {
        "cuFileDriverOpen" => "cuFileDriverOpen said CU_FILE_NVFS_DRIVER_ERROR (5010: nvidia-fs is not loaded",
        "cuFileDriverGetProperties" => "cuFileDriverGetProperties said CU_FILE_CUDA_DRIVER_ERROR, from CUDA's error 3",
        _ => "cuFileHandleRegister said CU_FILE_IO_NOT_SUPPORTED (5008",
    };
    let cuda = Cuda::open(0).unwrap();
    let why = missing(&cuda, file(b"w").0);
    assert!(why.contains(words), "{why}");
    assert!(cuda.alloc(1).is_ok(), "the device goes on");
}

#[test]
fn without_the_library_there_is_a_reason() {
    let test = here!("without_the_library_there_is_a_reason");
    if !is_child(test) {
        must_pass(test, &[]);
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let why = missing(&cuda, file(b"w").0);
    assert!(why.contains("libcufile.so.0") && why.contains("install"), "{why}");
}

#[test]
fn a_file_that_is_not_open_past_the_cache_is_the_librarys_to_refuse() {
    if parent(here!("a_file_that_is_not_open_past_the_cache_is_the_librarys_to_refuse"), &[&[]]) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let plain = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let why = missing(&cuda, plain);
    assert!(why.contains("CU_FILE_INVALID_FILE_OPEN_FLAG (5019)"), "{why}");
}
