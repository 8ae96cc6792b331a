//! Order: uploads, jobs, the caller's streams, tickets.
//!
//! The driver's lazy streams do what is queued in them only when somebody waits, each on its own, so that whatever is
//! not ordered by an event shows.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use tensorseal::device::cuda::{Buffer, Cuda, Settings, Stream};
use tensorseal::device::{Backend, DeviceError};

use super::{STREAMS, here, parent, part, pattern, root, scattered, scattered_bytes, upload, whole, write};

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A function of the driver, as other code in the process would call it.
fn driver<F: Copy>(name: &CStr) -> F {
    // SAFETY: the driver is loaded already, under this name; the callers name a function of it and its type.
    unsafe {
        let function = dlsym(dlopen(c"libcuda.so.1".as_ptr(), 2), name.as_ptr());
        assert!(!function.is_null() && size_of::<F>() == size_of_val(&function));
        std::mem::transmute_copy(&function)
    }
}

/// Other code that uses the device, with a stream and memory of its own.
pub(super) struct Other {
    stream: u64,
    context: u64,
}

impl Other {
    pub(super) fn new() -> Self {
        let (mut context, mut stream) = (0, 0);
        let retain: unsafe extern "C" fn(*mut u64, c_int) -> c_int = driver(c"cuDevicePrimaryCtxRetain");
        let set: unsafe extern "C" fn(u64) -> c_int = driver(c"cuCtxSetCurrent");
        let create: unsafe extern "C" fn(*mut u64, u32) -> c_int = driver(c"cuStreamCreate");
        // SAFETY: as the driver's manual has it.
        assert_eq!(unsafe { (retain(&raw mut context, 0), set(context), create(&raw mut stream, 1)) }, (0, 0, 0));
        Self { stream, context }
    }

    /// Queues a copy of the host's bytes, which stay where they are.
    pub(super) fn copy(&self, bytes: &[u8], to: u64) {
        type Copy = unsafe extern "C" fn(u64, *const c_void, usize, u64) -> c_int;
        let copy: Copy = driver(c"cuMemcpyHtoDAsync_v2");
        // SAFETY: the memory is that long.
        assert_eq!(unsafe { copy(to, bytes.as_ptr().cast(), bytes.len(), self.stream) }, 0);
    }

    pub(super) fn synchronize(&self) {
        let synchronize: unsafe extern "C" fn(u64) -> c_int = driver(c"cuStreamSynchronize");
        // SAFETY: the stream is alive.
        assert_eq!(unsafe { synchronize(self.stream) }, 0);
    }

    fn current(&self) -> u64 {
        let current: unsafe extern "C" fn(*mut u64) -> c_int = driver(c"cuCtxGetCurrent");
        let mut context = 0;
        // SAFETY: it writes one pointer.
        assert_eq!(unsafe { current(&raw mut context) }, 0);
        context
    }

    pub(super) fn as_stream(&self) -> Stream {
        // SAFETY: the stream lives as long as the process.
        unsafe { Stream::from_raw(0, self.stream) }
    }
}

#[test]
fn an_upload_waits_for_the_jobs_that_read_there() {
    if parent(here!("an_upload_waits_for_the_jobs_that_read_there"), &STREAMS) {
        return;
    }
    // One block only: getting it again waits for the copy out of it, and for no job by itself.
    let mut settings = Settings::default();
    settings.blocks = 1;
    let cuda = Cuda::open_with(0, &settings).unwrap();
    let (old, new) = (pattern(60_000, 1), pattern(60_000, 2));
    let mut buffer = upload(&cuda, &old);
    let first = cuda.submit(&[whole(&buffer), scattered(&buffer)], None).unwrap();
    let second = cuda.submit(&[part(&buffer, 100, 2000)], None).unwrap();
    write(&cuda, &new, &mut buffer, 0);
    drop(cuda.staging().unwrap());
    let third = cuda.submit(&[whole(&buffer)], None).unwrap();
    // Part of what the third reads, and nothing of what the others did not have read before.
    write(&cuda, &old[..1], &mut buffer, 59_999);
    let mut last = new.clone();
    last[59_999] = old[0];
    assert_eq!(cuda.download(&buffer, 0..60_000).unwrap(), last);
    assert_eq!(cuda.wait(third).unwrap(), [root(&new)]);
    assert_eq!(cuda.wait(second).unwrap(), [root(&old[100..2100])]);
    assert_eq!(cuda.wait(first).unwrap(), [root(&old), root(&scattered_bytes(&old))]);
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&last)]);
    // Of two jobs one is done, and the other is not.
    let first = cuda.submit(&[whole(&buffer)], None).unwrap();
    let second = cuda.submit(&[part(&buffer, 0, 9999)], None).unwrap();
    assert_eq!(cuda.wait(first).unwrap(), [root(&last)]);
    write(&cuda, &old, &mut buffer, 0);
    drop(cuda.staging().unwrap());
    assert_eq!(cuda.wait(second).unwrap(), [root(&last[..9999])]);
}

#[test]
fn slabs_are_hashed_while_the_next_ones_go_up() {
    if parent(here!("slabs_are_hashed_while_the_next_ones_go_up"), &STREAMS) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(16 * 8192, 1);
    let mut buffer = cuda.alloc(bytes.len() as u64).unwrap();
    let mut tickets = Vec::new();
    for (nth, slab) in bytes.chunks(8192).enumerate() {
        write(&cuda, slab, &mut buffer, nth as u64 * 8192);
        tickets.push(cuda.submit(&[part(&buffer, nth as u64 * 8192, 8192)], None).unwrap());
    }
    for (ticket, slab) in tickets.into_iter().zip(bytes.chunks(8192)) {
        assert_eq!(cuda.wait(ticket).unwrap(), [root(slab)]);
    }
}

#[test]
fn tickets_are_waited_for_in_any_order_or_never() {
    if parent(here!("tickets_are_waited_for_in_any_order_or_never"), &STREAMS) {
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let texts: Vec<Vec<u8>> = (0..8).map(|nth| pattern(3000 + nth * 999, nth as u32)).collect();
    let buffers: Vec<Buffer> = texts.iter().map(|text| upload(&cuda, text)).collect();
    let submit = |buffer: &Buffer| cuda.submit(&[whole(buffer)], None).unwrap();
    let mut tickets: Vec<_> = buffers.iter().map(submit).enumerate().collect();
    for at in [7, 0, 3] {
        drop(tickets.swap_remove(at));
    }
    // In another thread than that which submitted.
    let (cuda, tickets) = std::thread::spawn(move || {
        let (nth, ticket) = tickets.pop().unwrap();
        assert_eq!(cuda.wait(ticket).unwrap(), [root(&texts[nth])]);
        for (nth, ticket) in tickets.drain(1..).rev() {
            assert_eq!(cuda.wait(ticket).unwrap(), [root(&texts[nth])]);
        }
        (cuda, tickets)
    })
    .join()
    .unwrap();
    // The buffers go first, then the device, then what is under way.
    drop(buffers);
    drop(cuda);
    drop(tickets);
}

#[test]
fn jobs_come_behind_the_callers_stream() {
    if parent(here!("jobs_come_behind_the_callers_stream"), &STREAMS) {
        return;
    }
    let (cuda, lender) = (Cuda::open(0).unwrap(), Cuda::open(0).unwrap());
    let other = Other::new();
    let texts = [1, 2, 3].map(|seed| pattern(5000, seed));
    let theirs = upload(&lender, &texts[0]);
    lender.download(&theirs, 0..1).unwrap();
    // SAFETY: `theirs` lives longer, and the stream's copies are ordered below.
    let lent = unsafe { cuda.foreign(theirs.address(), 5000, Box::new(())) }.unwrap();
    let stream = other.as_stream();

    let pinned = |text: &[u8]| {
        let mut block = lender.staging().unwrap();
        block.as_mut()[..5000].copy_from_slice(text);
        block
    };
    let (mut second, mut third) = (pinned(&texts[1]), pinned(&texts[2]));
    other.copy(&second.as_mut()[..5000], theirs.address());
    let ticket = cuda.submit(&[whole(&lent)], Some(&stream)).unwrap();
    assert_eq!(cuda.wait(ticket).unwrap(), [root(&texts[1])], "behind the first copy");
    let ticket = cuda.submit(&[whole(&lent)], None).unwrap();
    ticket.hold_back(&stream).unwrap();
    other.copy(&third.as_mut()[..5000], theirs.address());
    other.synchronize();
    assert_eq!(cuda.wait(ticket).unwrap(), [root(&texts[1])], "before the second");
    assert_eq!(cuda.hash(&[whole(&lent)]).unwrap(), [root(&texts[2])]);

    // That the test can see: without the stream, a lazy one has not copied yet.
    if std::env::var("FAKECUDA_STREAMS").is_ok_and(|streams| streams == "lazy") {
        other.copy(&second.as_mut()[..5000], theirs.address());
        assert_eq!(cuda.hash(&[whole(&lent)]).unwrap(), [root(&texts[2])]);
        let ticket = cuda.submit(&[whole(&lent)], None).unwrap();
        other.synchronize();
        assert_eq!(cuda.wait(ticket).unwrap(), [root(&texts[1])]);
    }
    // SAFETY: it is refused.
    let elsewhere = unsafe { Stream::from_raw(1, other.stream) };
    assert!(matches!(cuda.submit(&[whole(&lent)], Some(&elsewhere)), Err(DeviceError::Refused { .. })));
    // SAFETY: the default stream is always there.
    let default = unsafe { Stream::from_raw(0, 0) };
    let ticket = cuda.submit(&[whole(&lent)], Some(&default)).unwrap();
    let now = cuda.download(&lent, 0..5000).unwrap();
    assert_eq!(cuda.wait(ticket).unwrap(), [root(&now)]);
}

#[test]
fn the_current_context_of_a_thread_stays_what_it_was() {
    if parent(here!("the_current_context_of_a_thread_stays_what_it_was"), &[STREAMS[0]]) {
        return;
    }
    let work = |cuda: &Cuda| {
        let bytes = pattern(3000, 1);
        let buffer = upload(cuda, &bytes);
        drop(cuda.submit(&[whole(&buffer)], None).unwrap());
        assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
        assert!(cuda.alloc(1 << 60).is_err());
    };
    let cuda = Cuda::open(0).unwrap();
    work(&cuda);
    let other = Other::new();
    assert_eq!(other.current(), other.context);
    work(&cuda);
    drop(cuda);
    work(&Cuda::open(0).unwrap());
    assert_eq!(other.current(), other.context);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(other.current(), 0);
            work(&Cuda::open(0).unwrap());
            assert_eq!(other.current(), 0);
        });
    });
}
