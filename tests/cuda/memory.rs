//! Memory: lent, short, small blocks, and what does not fit.
#![allow(unsafe_code)]

use std::any::Any;
use std::sync::Arc;

use tensorseal::device::cuda::{Cuda, Settings};
use tensorseal::device::{Backend, DeviceError, Job, Want};
use tensorseal::layout::{Extent, Layout};

use super::{STREAMS, here, parent, part, pattern, root, scattered, scattered_bytes, upload, whole, write};

#[test]
fn what_goes_up_comes_down_and_has_its_digest() {
    if parent(here!("what_goes_up_comes_down_and_has_its_digest"), &STREAMS) {
        return;
    }
    // Blocks that are much smaller than the strings, so that each is used again and again.
    let mut settings = Settings::default();
    (settings.block, settings.blocks) = (5000, 2);
    for cuda in [Cuda::open(0).unwrap(), Cuda::open_with(0, &settings).unwrap()] {
        for len in [0, 1, 1024, 1025, 20_000, 300_001] {
            let bytes = pattern(len, 1);
            let buffer = upload(&cuda, &bytes);
            assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)], "{len}");
            let (from, to) = (len as u64 / 3, len as u64);
            assert_eq!(cuda.download(&buffer, from..to).unwrap(), &bytes[len / 3..], "{len}");
        }
    }
}

#[test]
fn bytes_of_the_host_may_be_many() {
    if parent(here!("bytes_of_the_host_may_be_many"), &[STREAMS[0]]) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    // More than goes up in one piece (8 MiB), on both sides of a range of the device.
    let (large, small) = (pattern((9 << 20) + 5, 1), pattern(5000, 2));
    let buffer = upload(&cuda, &small);
    let extents = vec![
        Extent::Host(&large[..7]),
        Extent::Host(&[]),
        Extent::Range { buffer: &buffer, at: 3, len: 4001 },
        Extent::Host(&large),
    ];
    let string = [&large[..7], &small[3..4004], &large].concat();
    let host_only = Layout::new(vec![Extent::Host(&small)]).unwrap();
    let jobs = [
        Job { layout: Layout::new(extents).unwrap(), want: Want::Root },
        Job { layout: host_only, want: Want::Root },
        Job { layout: Layout::new(vec![]).unwrap(), want: Want::Root },
    ];
    assert_eq!(cuda.hash(&jobs).unwrap(), [root(&string), root(&small), root(b"")]);
}

#[test]
fn what_passes_the_limits_of_a_batch_is_done_in_several() {
    if parent(here!("what_passes_the_limits_of_a_batch_is_done_in_several"), &STREAMS) {
        return;
    }
    let mut settings = Settings::default();
    (settings.batch, settings.scratch) = (0, 0);
    let cuda = Cuda::open_with(0, &settings).unwrap();
    let bytes = pattern((1 << 20) + 77, 1);
    let buffer = upload(&cuda, &bytes);
    let mut jobs = vec![whole(&buffer), scattered(&buffer), part(&buffer, 3, 700_000), part(&buffer, 5, 100)];
    let mut texts = vec![&bytes[..], &[], &bytes[3..700_003], &bytes[5..105]];
    let rows = scattered_bytes(&bytes);
    texts[1] = &rows;
    for nth in 0..50 {
        jobs.push(part(&buffer, nth * 1009, 900 + nth));
        texts.push(&bytes[nth as usize * 1009..][..900 + nth as usize]);
    }
    let expected: Vec<_> = texts.into_iter().map(root).collect();
    // Several under way, each with several batches.
    let tickets = [0, 1, 2].map(|_| cuda.submit(&jobs, None).unwrap());
    for ticket in tickets {
        assert_eq!(cuda.wait(ticket).unwrap(), expected);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_harms_nothing() {
    if parent(here!("what_does_not_fit_is_refused_and_harms_nothing"), &[STREAMS[0]]) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(2000, 1);
    let mut buffer = upload(&cuda, &bytes);
    for (len, at) in [(1, 2000), (2000, 1), (2001, 0), (0, 2001), (1, u64::MAX), (usize::MAX, 0)] {
        let block = cuda.staging().unwrap();
        assert!(matches!(cuda.upload(block, len, &mut buffer, at), Err(DeviceError::Layout(_))), "{len} {at}");
    }
    cuda.upload(cuda.staging().unwrap(), 0, &mut buffer, 2000).unwrap();
    #[allow(clippy::reversed_empty_ranges)]
    for range in [1999..2001, 2001..2001, 5..4, 0..u64::MAX] {
        assert!(matches!(cuda.download(&buffer, range), Err(DeviceError::Layout(_))));
    }
    let group = tensorseal::tree::GroupSize::at_most(4096);
    let want = Want::Groups { first_chunk: 2, group };
    let unaligned = Job { layout: Layout::whole(&buffer).unwrap(), want };
    assert!(matches!(cuda.hash(&[unaligned]), Err(DeviceError::Unaligned { .. })));
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
}

#[test]
fn short_memory_is_an_error_and_the_device_goes_on() {
    let small = &[("FAKECUDA_DEVICES", "9.0:24MiB")];
    if parent(here!("short_memory_is_an_error_and_the_device_goes_on"), &[small]) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(100_000, 1);
    let buffer = upload(&cuda, &bytes);
    let Err(DeviceError::OutOfMemory { bytes: 1_073_741_824, what, .. }) = cuda.alloc(1 << 30) else {
        panic!("it has no such memory")
    };
    assert_eq!(what, "a buffer");
    assert!(matches!(cuda.alloc(u64::MAX), Err(DeviceError::OutOfMemory { .. })));
    // All that is left, so that a job finds no memory for its bytes of the host.
    let mut left = Vec::new();
    for size in (10..24).rev() {
        while let Ok(more) = cuda.alloc(1 << size) {
            left.push(more);
        }
    }
    let host = pattern(3 << 20, 2);
    let job = || Job { layout: Layout::new(vec![Extent::Host(&host)]).unwrap(), want: Want::Root };
    let error = cuda.hash(&[job()]).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { bytes: 3_145_728, .. }), "{error:?}");
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)], "what needs none still works");
    // Memory for gathered bytes: more than there is, and than there was before.
    let wide = Extent::Rows { buffer: &buffer, at: 1, row: 33, stride: 33, rows: 3000 };
    let rows = Extent::Rows { buffer: &buffer, at: 1, row: 33, stride: 34, rows: 2900 };
    let many = || Job { layout: Layout::new([[wide, rows]; 11].concat()).unwrap(), want: Want::Root };
    let error = cuda.hash(&[many()]).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { what: "gathered bytes", .. }), "{error:?}");
    drop(left);
    let one: Vec<u8> = (0..2900).flat_map(|nth| &bytes[1 + nth * 34..34 + nth * 34]).copied().collect();
    let string = [&bytes[1..99_001], &one].concat().repeat(11);
    assert_eq!(cuda.hash(&[many(), job()]).unwrap(), [root(&string), root(&host)]);
}

#[test]
fn short_pinned_memory_is_an_error_and_the_device_goes_on() {
    let test = here!("short_pinned_memory_is_an_error_and_the_device_goes_on");
    // The first is for the known-answer test's block.
    if parent(test, &[&[("FAKECUDA_FAIL", "cuMemHostAlloc:5:2")]]) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(10_000, 1);
    let buffer = upload(&cuda, &bytes);
    let blocks: Vec<_> = std::iter::from_fn(|| cuda.staging().ok()).take(3).collect();
    assert!(blocks.len() < 3, "one of them was refused");
    assert!(cuda.staging().is_ok(), "and the next one is there");
    drop(blocks);
    assert_eq!(cuda.hash(&[whole(&buffer), scattered(&buffer)]).unwrap()[0], root(&bytes));
}

/// Counts in its drop that nobody needs the memory any more.
fn owner() -> (Box<dyn Any + Send + Sync>, Arc<()>) {
    let count = Arc::new(());
    (Box::new(Arc::clone(&count)), count)
}

#[test]
fn lent_memory_is_hashed_where_it_is() {
    if parent(here!("lent_memory_is_hashed_where_it_is"), &STREAMS) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    // Somebody else's: the same device opened again has the same context, as torch has.
    let lender = Cuda::open(0).unwrap();
    let bytes = pattern(50_000, 1);
    let theirs = upload(&lender, &bytes);
    assert_eq!(lender.hash(&[whole(&theirs)]).unwrap(), [root(&bytes)], "the upload is done");
    for (at, len) in [(0, 50_000), (5, 40_000), (16, 1024), (49_999, 1), (50_000, 0), (0, 0)] {
        let (owner, count) = owner();
        // SAFETY: `theirs` lives longer.
        let lent = unsafe { cuda.foreign(theirs.address() + at, len, owner) }.unwrap();
        let string = &bytes[at as usize..(at + len) as usize];
        assert_eq!(cuda.hash(&[whole(&lent)]).unwrap(), [root(string)], "{at} {len}");
        let ticket = cuda.submit(&[whole(&lent)], None).unwrap();
        drop(lent);
        // Only jobs that read anything need it.
        assert_eq!(Arc::strong_count(&count), if len > 0 { 2 } else { 1 });
        assert_eq!(cuda.wait(ticket).unwrap(), [root(string)]);
        assert_eq!(Arc::strong_count(&count), 1, "nobody needs it any more");
    }
    let (owner, _) = owner();
    // SAFETY: as above.
    let lent = unsafe { cuda.foreign(theirs.address() + 8, 20_000, owner) }.unwrap();
    assert_eq!(cuda.hash(&[scattered(&lent)]).unwrap(), [root(&scattered_bytes(&bytes[8..]))]);
}

#[test]
fn pointers_to_other_memory_are_refused() {
    let devices = &[("FAKECUDA_DEVICES", "9.0,9.0")];
    if parent(here!("pointers_to_other_memory_are_refused"), &[devices]) {
        return;
    }
    let (cuda, other) = (Cuda::open(0).unwrap(), Cuda::open(1).unwrap());
    let (mine, theirs) = (cuda.alloc(1000).unwrap(), other.alloc(1000).unwrap());
    let freed = cuda.alloc(1000).unwrap().address();
    let mut pinned = cuda.staging().unwrap();
    let plain = vec![0_u8; 1000];
    let (host, pinned) = (plain.as_ptr() as u64, pinned.as_mut().as_ptr() as u64);
    let end = mine.address() + 1000;
    for (address, len, words) in [
        (0, 1000, "no memory has"),
        (u64::MAX - 5, 1000, "no memory has"),
        (host, 1000, "none that CUDA knows"),
        (freed, 1000, "none that CUDA knows"),
        (pinned, 1000, "in host memory"),
        (theirs.address(), 1000, "is on cuda:1"),
        (mine.address(), 2000, "allocated"),
        (end - 1, 1000, "allocated"),
    ] {
        // SAFETY: it is refused.
        match unsafe { cuda.foreign(address, len, Box::new(())) } {
            Err(DeviceError::Refused { why, .. }) => assert!(why.contains(words), "{why}"),
            other => panic!("{address:#x} {len}: {other:?}"),
        }
    }
    let bytes = pattern(1000, 1);
    let buffer = upload(&cuda, &bytes);
    assert_eq!(cuda.hash(&[whole(&buffer), part(&buffer, 3, 5)]).unwrap(), [root(&bytes), root(&bytes[3..8])]);
}

#[test]
fn memory_whose_device_the_driver_does_not_tell_is_refused() {
    // The questions are what kind of memory it is, whether it is managed, and where it is.
    let envs: [&[_]; 2] = [&[("FAKECUDA_FAIL", "")], &[("FAKECUDA_FAIL", "cuPointerGetAttribute:3:1")]];
    if parent(here!("memory_whose_device_the_driver_does_not_tell_is_refused"), &envs) {
        return;
    }
    let (cuda, lender) = (Cuda::open(0).unwrap(), Cuda::open(0).unwrap());
    let theirs = lender.alloc(1000).unwrap();
    // SAFETY: `theirs` lives longer.
    match unsafe { cuda.foreign(theirs.address(), 1000, Box::new(())) } {
        Ok(_) => assert_eq!(std::env::var("FAKECUDA_FAIL").unwrap(), ""),
        Err(DeviceError::Refused { why, .. }) => {
            assert!(why.contains("does not say") && std::env::var("FAKECUDA_FAIL").unwrap() != "", "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(cuda.alloc(1).is_ok(), "the device goes on");
}

#[test]
fn buffers_outlive_the_device_that_made_them_and_uploads_their_buffers() {
    if parent(here!("buffers_outlive_the_device_that_made_them_and_uploads_their_buffers"), &STREAMS) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(100_000, 1);
    let buffer = upload(&cuda, &bytes);
    let ticket = cuda.submit(&[whole(&buffer)], None).unwrap();
    let mut gone = cuda.alloc(100_000).unwrap();
    write(&cuda, &bytes, &mut gone, 0);
    drop(gone);
    let block = cuda.staging().unwrap();
    let again = Cuda::open(0).unwrap();
    drop(cuda);
    drop(block);
    drop(buffer);
    assert_eq!(again.wait(ticket).unwrap(), [root(&bytes)]);
}
