//! Whatever fails in the driver ends in a typed error, and in no digest. Nothing hangs, and nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tensorseal::device::cuda::Cuda;
use tensorseal::device::{Backend, DeviceError, Hashed};

use super::common::Run;
use super::common::fakecuda::{child, finish, is_child, must_pass};
use super::{here, parent, pattern, root, scattered, scattered_bytes, upload, whole};

/// One line of the driver's log.
pub(crate) struct Call {
    pub(crate) name: String,
    /// What it made and took away: `+event=0x10`.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn calls(log: &Path) -> Vec<Call> {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Call { name: words.next().unwrap(), notes: words.skip(1).collect() }
    };
    fs::read_to_string(log).unwrap().lines().map(line).collect()
}

/// What was made and not taken away.
pub(crate) fn leaks(calls: &[Call]) -> Vec<String> {
    let mut alive: BTreeMap<&str, i32> = BTreeMap::new();
    for note in calls.iter().flat_map(|call| &call.notes) {
        match note.split_at(1) {
            ("+", what) => *alive.entry(what).or_default() += 1,
            ("-", what) => *alive.entry(what).or_default() -= 1,
            _ => {}
        }
    }
    alive.into_iter().filter(|(_, count)| *count != 0).map(|(what, _)| what.to_owned()).collect()
}

/// Opens the device and has it do a bit of everything.
fn work() -> (Option<Cuda>, Result<Vec<Hashed>, DeviceError>) {
    let cuda = match Cuda::open(0) {
        Ok(cuda) => cuda,
        Err(error) => return (None, Err(error)),
    };
    // Two subtrees of 256 chunks: each value that chunk_values leaves goes through merge_values.
    let bytes = pattern(512 << 10, 1);
    let run = || {
        let mut buffer = cuda.alloc(bytes.len() as u64)?;
        let mut block = cuda.staging()?;
        block.as_mut()[..bytes.len()].copy_from_slice(&bytes);
        cuda.upload(block, bytes.len(), &mut buffer, 0)?;
        assert_eq!(cuda.download(&buffer, 9..5000)?, &bytes[9..5000]);
        let mut results = cuda.hash(&[scattered(&buffer)])?;
        // The same again, over what the first left in scratch.
        results.extend(cuda.hash(&[scattered(&buffer)])?);
        let ticket = cuda.submit(&[whole(&buffer)], None)?;
        // Waits for the job before.
        cuda.upload(cuda.staging()?, 5, &mut buffer, 0)?;
        results.extend(cuda.wait(ticket)?);
        Ok(results)
    };
    let result = run();
    if let Ok(hashed) = &result {
        let scattered = scattered_bytes(&bytes);
        assert_eq!(hashed, &[root(&scattered), root(&scattered), root(&bytes)]);
    }
    (Some(cuda), result)
}

/// Does the work and says what came of it.
fn say() {
    let (cuda, result) = work();
    match &result {
        Ok(_) => println!("ANSWER"),
        Err(error) => println!("ERROR {error:?}"),
    }
    if let (Some(cuda), Err(error)) = (cuda, result)
        && !matches!(error, DeviceError::OutOfMemory { .. })
    {
        let buffer = cuda.alloc(1);
        assert!(buffer.is_err() && cuda.staging().is_err() && cuda.submit(&[], None).is_err(), "it is closed");
    }
}

/// A run of `test` with some failure: what it said, and its calls.
fn failing(test: &str, room: &Path, number: usize, failure: &str) -> (Run, Vec<Call>) {
    let log = room.join(format!("{number}.log"));
    let run = finish(child(test, &[("FAKECUDA_FAIL", failure), ("FAKECUDA_LOG", log.to_str().unwrap())]), LIMIT);
    assert!(run.code == Some(0) && run.stdout.contains("1 passed"), "{failure}: {run:#?}");
    let calls = calls(&log);
    fs::remove_file(log).unwrap();
    (run, calls)
}

const LIMIT: Duration = Duration::from_secs(60);

/// Does `each` for all numbers, on as many threads as there are processors.
pub(crate) fn for_each(numbers: impl Iterator<Item = usize>, each: impl Fn(usize) + Sync) {
    let (numbers, next): (Vec<usize>, _) = (numbers.collect(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(number);
                }
            });
        }
    });
}

#[test]
fn whichever_call_fails_there_is_an_error_and_no_digest() {
    let test = here!("whichever_call_fails_there_is_an_error_and_no_digest");
    if is_child(test) {
        return say();
    }
    let room = tempfile::tempdir().unwrap();
    let (run, all) = failing(test, room.path(), 0, "");
    assert!(run.stdout.contains("ANSWER"));
    assert_eq!(leaks(&all), [] as [&str; 0]);
    // The last call that the answer rests on: the wait for the last bytes to come back.
    let down = all.iter().rposition(|call| call.name == "cuMemcpyDtoHAsync_v2").unwrap();
    let rests = down + all[down..].iter().position(|call| call.name == "cuEventSynchronize").unwrap() + 1;
    assert!(rests > 100 && rests < all.len(), "{rests} of {}", all.len());

    // An error that leaves the device working, so that what is under way goes on.
    for_each(1..all.len() + 1, |number| {
        let (run, calls) = failing(test, room.path(), number, &format!("*:{number}:1"));
        let name = &all[number - 1].name;
        assert_eq!(&calls[number - 1].name, name, "the runs are the same up to there");
        // The name of an error may be missing: here one that the engine gets around.
        if number <= rests && !name.starts_with("cuGetError") {
            assert!(run.stdout.contains("ERROR ") && !run.stdout.contains("ANSWER"), "{number} {name}: {run:#?}");
            // Also if it was not the call's own to tell, as in a drop.
            assert!(run.stdout.contains(name.trim_end_matches("_v2")), "the error names {number} {name}: {run:#?}");
        }
        // What is not given back is what this very call should have given back, or made it possible to.
        let gives_back = ["Free", "Destroy", "Unload", "Release", "PushCurrent"].iter().any(|word| name.contains(word));
        let left = leaks(&calls);
        assert!(left.len() <= usize::from(gives_back), "{number} {name} leaves {left:?}");
    });
    // One after which the device does nothing any more. Pinned memory stays then: nobody can say that it is not in use.
    let some = (1..rests + 1).step_by(4).filter(|number| !all[number - 1].name.starts_with("cuGetError"));
    for_each(some, |number| {
        let (run, calls) = failing(test, room.path(), number, &format!("*:{number}:719"));
        let name = &all[number - 1].name;
        assert!(run.stdout.contains("ERROR ") && !run.stdout.contains("ANSWER"), "{number} {name}: {run:#?}");
        let left = leaks(&calls).into_iter().filter(|what| !what.starts_with("host=")).collect::<Vec<_>>();
        assert!(left.len() <= 1, "{number} {name} leaves {left:?}");
    });
    // Memory that is short, which the engine may get around.
    let count = |name| all.iter().filter(|call| call.name == name).count();
    for name in ["cuMemAlloc_v2", "cuMemHostAlloc"] {
        for_each(1..count(name) + 1, |number| {
            let (run, calls) = failing(test, room.path(), number, &format!("{name}:{number}:2"));
            assert!(run.stdout.contains("ERROR OutOfMemory") || run.stdout.contains("ANSWER"), "{number}: {run:#?}");
            assert_eq!(leaks(&calls), [] as [&str; 0], "{number}");
        });
    }
}

/// How many launches there are in `log`, by kernel, in order.
fn launches(log: &Path) -> Vec<String> {
    let notes = calls(log).into_iter().flat_map(|call| call.notes);
    notes.filter_map(|note| Some(note.strip_prefix("launch=")?.split(':').nth(1)?.to_owned())).collect()
}

#[test]
fn a_launch_that_did_nothing_gives_no_digest() {
    let test = here!("a_launch_that_did_nothing_gives_no_digest");
    if is_child(test) {
        let (cuda, result) = work();
        if std::env::var_os("TENSORSEAL_TEST_SKIPS").is_none() {
            assert!(result.is_ok());
            return;
        }
        let error = result.unwrap_err();
        assert!(matches!(error, DeviceError::NoResult { .. }), "{error:?}");
        assert!(cuda.is_none_or(|cuda| cuda.alloc(1).is_err()), "and the device is closed");
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let log = room.path().join("log");
    must_pass(test, &[("FAKECUDA_LOG", log.to_str().unwrap())]);
    let launches = launches(&log);
    // In the known-answer test: both orders of steps, each with all kernels; then the work.
    for kernel in ["gather", "chunk_values", "merge_values"] {
        assert!(launches.iter().filter(|launch| *launch == kernel).count() >= 3, "{launches:?}");
    }
    for number in 1..=launches.len() {
        must_pass(test, &[("FAKECUDA_SKIP", &number.to_string()), ("TENSORSEAL_TEST_SKIPS", "1")]);
    }
}

#[test]
fn a_copy_that_did_nothing_gives_no_digest() {
    let test = here!("a_copy_that_did_nothing_gives_no_digest");
    if is_child(test) {
        // Twice the same job with other bytes: what the first left on the host must not become the second's digest.
        let hash = || {
            let cuda = Cuda::open(0)?;
            for seed in [1, 2] {
                let bytes = pattern(512 << 10, seed);
                let mut buffer = cuda.alloc(bytes.len() as u64)?;
                super::write(&cuda, &bytes, &mut buffer, 0);
                let found = cuda.hash(&[whole(&buffer), scattered(&buffer)])?;
                assert_eq!(found, [root(&bytes), root(&scattered_bytes(&bytes))], "a digest of other bytes");
            }
            Ok::<_, DeviceError>(())
        };
        match (hash(), std::env::var_os("FAKECUDA_LOSE")) {
            (Ok(()), None) | (Err(DeviceError::NoResult { .. }), Some(_)) => {}
            (other, _) => panic!("{other:?}"),
        }
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let log = room.path().join("log");
    must_pass(test, &[("FAKECUDA_LOG", log.to_str().unwrap())]);
    let copies = calls(&log).iter().filter(|call| call.name == "cuMemcpyDtoHAsync_v2").count();
    // Each job brings back values, two that merge_values read, and the end of scratch.
    assert!(copies > 8, "{copies}");
    for number in 1..=copies {
        must_pass(test, &[("FAKECUDA_LOSE", &number.to_string())]);
    }
}

#[test]
fn a_fault_in_a_kernel_closes_the_device() {
    let test = here!("a_fault_in_a_kernel_closes_the_device");
    let faults: Vec<String> = [1, 4, 7].map(|launch| format!("{launch}:700")).into();
    let envs: Vec<Vec<(&str, &str)>> = faults.iter().map(|fault| vec![("FAKECUDA_FAULT", fault.as_str())]).collect();
    if parent(test, &envs.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
        return;
    }
    let (cuda, result) = work();
    let Err(DeviceError::Driver { why, .. }) = result else { panic!("{result:?}") };
    assert!(why.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{why}");
    if let Some(cuda) = cuda {
        assert!(matches!(cuda.alloc(1), Err(DeviceError::Driver { .. })));
    }
}

#[test]
fn an_error_in_a_drop_is_told_by_the_next_call() {
    let test = here!("an_error_in_a_drop_is_told_by_the_next_call");
    if !is_child(test) {
        let room = tempfile::tempdir().unwrap();
        let log = room.path().join("log");
        must_pass(test, &[("FAKECUDA_LOG", log.to_str().unwrap()), ("TENSORSEAL_TEST_COUNT", "1")]);
        let frees = calls(&log).iter().filter(|call| call.name == "cuMemFree_v2").count();
        must_pass(test, &[("FAKECUDA_FAIL", &format!("cuMemFree_v2:{}:1", frees + 1))]);
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let bytes = pattern(1000, 1);
    let (buffer, other) = (upload(&cuda, &bytes), upload(&cuda, &bytes));
    assert_eq!(cuda.hash(&[whole(&buffer)]).unwrap(), [root(&bytes)]);
    if std::env::var_os("TENSORSEAL_TEST_COUNT").is_some() {
        std::process::exit(say_passed());
    }
    drop(other);
    let Err(DeviceError::Driver { call: "cuMemFree", .. }) = cuda.hash(&[whole(&buffer)]) else { panic!("it is lost") };
}

/// What the parent looks for, from a child that ends before its test does.
fn say_passed() -> i32 {
    println!("1 passed");
    0
}
