//! What ends a run before its end.

use super::*;

#[test]
fn who_stops_it_gets_no_result() {
    struct Stops;
    impl Progress for Stops {
        fn advance(&self, _bytes: u64, _files: usize) {}

        fn stopped(&self) -> bool {
            true
        }
    }
    let files = Files::new([10, 1 << 20]);
    let stopped = hash_files_in(&Planted::new(16 << 10), &files.jobs, &wanted(all()), &Stops, SMALL);
    assert!(matches!(stopped, Err(Error::Stopped)));
}

#[test]
fn a_tap_that_fails_ends_the_run() {
    struct Fails;
    impl Tap for Fails {
        fn begin(&self, _file: usize, len: u64) -> Result<u64, Error> {
            Ok(len)
        }

        fn take(&self, _file: usize, at: u64, _bytes: &[u8]) -> Result<(), Error> {
            if at < 10_000 { Ok(()) } else { Err(Error::UnknownDevice("planted".to_owned())) }
        }
    }
    for (readers, len) in [(1, 1 << 20), (3, 6 << 20)] {
        let files = Files::new([len, 10]);
        let wanted = Wanted { tap: Some(&Fails), ..wanted(all()) };
        let sizes = Sizes { readers, ..SMALL };
        let run = |wanted: &Wanted<'_>| hash_files_in(&Planted::new(3 << 20), &files.jobs, wanted, &Silent, sizes);
        assert!(matches!(run(&wanted), Err(Error::UnknownDevice(_))));
        let sharded = Wanted { shard: NonZeroU64::new(10), ..wanted };
        assert!(matches!(run(&sharded), Err(Error::Device(DeviceError::Refused { .. }))));
    }
}

/// Wants it to end at once.
struct Enough;

impl Progress for Enough {
    fn advance(&self, _bytes: u64, _files: usize) {}

    fn stopped(&self) -> bool {
        true
    }
}

#[test]
fn a_caller_who_has_enough_waits_for_no_more() {
    for (lengths, shard) in [(vec![100; 50], None), (vec![100_000], None), (vec![100_000], NonZeroU64::new(1000))] {
        let (files, device) = (Files::new(lengths), Planted::new(8192));
        let wanted = Wanted { shard, ..wanted(all()) };
        let error = hash_files_in(&device, &files.jobs, &wanted, &Enough, SMALL).unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error}");
    }
}
