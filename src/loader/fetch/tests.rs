use super::*;
use std::fs;
use std::path::Path;

use crate::loader::direct::{Door, Uncached};

const ALL: [ReadMode; 4] = [ReadMode::Buffered, ReadMode::Direct, ReadMode::Uring, ReadMode::DirectUring];

/// A folder on a disk: beside this executable, since `/tmp` may be memory.
fn disk() -> tempfile::TempDir {
    let exe = std::env::current_exe().unwrap();
    tempfile::tempdir_in(exe.parent().unwrap()).unwrap()
}

/// Whether files there can be read past the page cache. Where they cannot, that is an error, and nothing else to test.
fn direct(folder: &Path) -> bool {
    let path = folder.join("probe");
    fs::write(&path, b"w").unwrap();
    let file = OpenFile::open(&path).unwrap();
    match Uncached::of(&file, ReadMode::Direct) {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error, Error::ReadMode { .. }), "{error}");
            false
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
}

/// Reads `len` bytes from `at` into memory that is `aside` bytes from a page, and sees that they, and what was handed
/// on, have the digest that the `blake3` crate gives for the file's bytes.
fn check(reader: &mut dyn Fetch, mode: ReadMode, file: &OpenFile, bytes: &[u8], at: usize, len: usize, aside: usize) {
    let mut memory = vec![0xEE; len + aside + 4096 + 1];
    let start = memory.as_ptr().align_offset(4096) + aside;
    let mut hasher = blake3::Hasher::new();
    reader
        .read(file, at as u64, &mut memory[start..start + len], &mut |bytes| {
            assert!(!bytes.is_empty() && bytes.len() <= CACHED, "{mode}");
            hasher.update(bytes);
        })
        .unwrap();
    let expected = blake3::hash(&bytes[at..at + len]);
    assert_eq!(blake3::hash(&memory[start..start + len]), expected, "{mode}: {len} bytes at {at}, {aside} aside");
    assert_eq!(hasher.finalize(), expected, "{mode}: handed on of {len} bytes at {at}, {aside} aside");
    let around = memory[..start].iter().chain(&memory[start + len..]);
    assert!(around.into_iter().all(|byte| *byte == 0xEE), "{mode} wrote around {len} bytes at {at}, {aside} aside");
}

const MIB: usize = 1 << 20;

fn every_way_reads_these_bytes(folder: &Path, modes: &[ReadMode]) {
    let lengths = [0, 1, 511, 512, 513, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 5 * MIB + 777];
    for length in lengths {
        let (path, bytes) = (folder.join("w"), pattern(length));
        fs::write(&path, &bytes).unwrap();
        let file = OpenFile::open(&path).unwrap();
        for &mode in modes {
            let mut reader = mode.reader().unwrap();
            for aside in [0, 8, 512, 1000] {
                check(&mut *reader, mode, &file, &bytes, 0, length, aside);
            }
            // Parts of it, in step with memory and not.
            for at in [1, 100, 511, 512, 4096, 4100, MIB].into_iter().filter(|at| *at < length) {
                for len in [1, 512, 5000, length - at] {
                    let len = len.min(length - at);
                    for aside in [0, at % 4096] {
                        check(&mut *reader, mode, &file, &bytes, at, len, aside);
                    }
                }
            }
        }
    }
}

#[test]
fn every_way_reads_the_same_bytes_from_a_disk() {
    let folder = disk();
    let modes = ALL.into_iter().filter(|mode| !mode.is_direct() || direct(folder.path())).collect::<Vec<_>>();
    every_way_reads_these_bytes(folder.path(), &modes);
}

#[test]
fn in_memory_there_is_nothing_to_read_past_and_that_is_said() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    if !mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq(["/dev/shm", "tmpfs"])) {
        return;
    }
    every_way_reads_these_bytes(folder.path(), &[ReadMode::Buffered, ReadMode::Uring]);
    let file = OpenFile::open(&folder.path().join("w")).unwrap();
    for mode in [ReadMode::Direct, ReadMode::DirectUring] {
        let error = mode.reader().unwrap().read(&file, 0, &mut [0; 512], &mut |_| panic!("handed on")).unwrap_err();
        let Error::ReadMode { mode: found, why, .. } = &error else { panic!("{error}") };
        assert!(*found == mode && why.contains("tmpfs"), "{error}");
        assert!(error.to_string().contains("ReadMode::Buffered"), "{error}");
    }
}

#[test]
fn a_file_that_shrinks_has_changed_whenever_it_does() {
    let folder = disk();
    let (path, bytes) = (folder.path().join("w"), pattern(12 * MIB));
    for mode in ALL.into_iter().filter(|mode| !mode.is_direct() || direct(folder.path())) {
        let mut reader = mode.reader().unwrap();
        let mut to = vec![0; bytes.len()];
        // Before the first read, to lengths that are and are not whole blocks.
        for shrunk in [0, 1, 4096, 5000, 4 * MIB, 12 * MIB - 1, 12 * MIB - 4096] {
            fs::write(&path, &bytes).unwrap();
            let file = OpenFile::open(&path).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(shrunk as u64).unwrap();
            let error = reader.read(&file, 0, &mut to, &mut |_| ()).unwrap_err();
            assert!(matches!(error, Error::FileChanged { .. }), "{mode} {shrunk}: {error}");
        }
        // Between two.
        fs::write(&path, &bytes).unwrap();
        let file = OpenFile::open(&path).unwrap();
        let mut handed = 0;
        let error = reader.read(&file, 0, &mut to, &mut |piece| {
            fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
            assert_eq!(piece, &bytes[handed..handed + piece.len()], "{mode} handed on what was not in the file");
            handed += piece.len();
        });
        assert!(matches!(error, Err(Error::FileChanged { .. })), "{mode}: {error:?}");
        assert!(handed < bytes.len());
    }
}

#[test]
fn it_is_the_file_that_was_opened_and_not_the_one_that_its_path_names_now() {
    let folder = disk();
    if !direct(folder.path()) {
        return;
    }
    let (path, other) = (folder.path().join("w"), folder.path().join("v"));
    let (first, second) = (pattern(10_000), vec![7; 10_000]);
    fs::write(&path, &first).unwrap();
    fs::write(&other, &second).unwrap();
    let file = OpenFile::open(&path).unwrap();
    fs::rename(&other, &path).unwrap();
    let theirs = OpenFile::open(&path).unwrap();
    for mode in [ReadMode::Direct, ReadMode::DirectUring] {
        let mut reader = mode.reader().unwrap();
        // In turn: the reader keeps the last file open.
        for _ in 0..2 {
            check(&mut *reader, mode, &file, &first, 0, 10_000, 0);
            check(&mut *reader, mode, &theirs, &second, 0, 10_000, 0);
        }
    }
    let mut door = Door::new(ReadMode::Direct);
    let kept = |door: &mut Door, file| {
        use std::os::fd::AsRawFd;
        door.open(file).unwrap().file.as_raw_fd()
    };
    assert_eq!(kept(&mut door, &file), kept(&mut door, &file), "not opened again for each read");
}
