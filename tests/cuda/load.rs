//! Whatever goes wrong between a file and the memory of a device: the model is refused or no answer is had, the fault is
//! named, nothing is handed out, and nothing is left on the device.
//!
//! A child loads one small model; its parent plants faults by the number of a call, launch or copy, all of which the
//! driver's log numbers. One thread reads, so that runs are alike.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tensorseal::device::cpu::{self, Silent};
use tensorseal::device::cuda::{Cuda, Policy, Settings};
use tensorseal::device::{Backend, Cpu, Device, StoragePath};
use tensorseal::key::{Curve, PrivateKey, PublicKey};
use tensorseal::loader::{LoadOptions, ReadMode, load_verified};
use tensorseal::manifest::Method;
use tensorseal::sign::{Annotations, KeySigner};
use tensorseal::verify::KeyVerifier;
use tensorseal::{Error, SignOptions, sign};

use super::common::Run;
use super::common::fakecuda::{child, cufile_dir, finish, is_child};
use super::failures::{Call, calls, for_each, leaks};
use super::{here, pattern};

/// Bytes of a staging block, which files are no multiples of.
const BLOCK: usize = 16 << 10;
/// Bytes of a shard, in the bundle that has them.
const SHARD: usize = 10_000;
const FILES: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// A file of safetensors with these tensors of bytes.
fn safetensors(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        let shape = bytes.len();
        entries.push(format!(r#""{name}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[{start},{end}]}}"#));
        data.extend_from_slice(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// A model of two shards and what belongs to it, signed in three ways, on a disk: `/tmp` may be memory.
struct Signed {
    folder: tempfile::TempDir,
}

/// With BLAKE3 beside SHA-256, with SHA-256 alone, and so in shards.
const BUNDLES: [&str; 3] = ["blake3", "sha256", "shards"];

impl Signed {
    fn new() -> Self {
        let exe = std::env::current_exe().unwrap();
        let signed = Self { folder: tempfile::tempdir_in(exe.parent().unwrap()).unwrap() };
        let model = signed.model();
        fs::create_dir(&model).unwrap();
        let first = [("a.weight", pattern(9001, 1)), ("b.weight", pattern(25_000, 2))];
        let second = [("c.weight", pattern(20_003, 3)), ("c.bias", pattern(40, 4))];
        fs::write(model.join(FILES[0]), safetensors(&first)).unwrap();
        fs::write(model.join(FILES[1]), safetensors(&second)).unwrap();
        let [one, two] = FILES;
        let map = format!(r#""a.weight":"{one}","b.weight":"{one}","c.weight":"{two}","c.bias":"{two}""#);
        let index = format!(r#"{{"metadata":{{}},"weight_map":{{{map}}}}}"#);
        fs::write(model.join("model.safetensors.index.json"), index).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        let key = PrivateKey::generate(Curve::P256).unwrap();
        fs::write(signed.path("key"), key.public_key().to_pem()).unwrap();
        let signer = KeySigner::new(key);
        let device = Device::Cpu(Cpu::open(cpu::Settings::default()).unwrap());
        for bundle in BUNDLES {
            let mut options = SignOptions::default();
            if bundle != "blake3" {
                options.annotations = Annotations::None;
            }
            if bundle == "shards" {
                options.method = Method::Shards { size: (SHARD as u64).try_into().unwrap() };
            }
            let path = signed.path(bundle);
            sign(&model, &path, &signer, &options, &device, &Silent).unwrap().write(&path).unwrap();
        }
        signed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("m")
    }

    /// Changes a bit of a file. It stays as long as it was.
    fn flip(&self, file: &str, at: u64) {
        let file = fs::File::options().read(true).write(true).open(self.model().join(file)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    /// The copies to the device that each file takes, in order: their bytes. Shards are loaded one by one.
    fn copies(&self, bundle: &str) -> [Vec<usize>; 2] {
        let unit = if bundle == "shards" { SHARD.min(BLOCK) } else { BLOCK };
        FILES.map(|file| {
            let len = fs::metadata(self.model().join(file)).unwrap().len() as usize;
            (0..len).step_by(unit).map(|at| unit.min(len - at)).collect()
        })
    }

    /// A run of `test` that loads it, and the driver's calls.
    fn run(&self, test: &str, bundle: &str, envs: &[(&str, &str)]) -> Ran {
        let log = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        let (room, path) = (self.folder.path().to_str().unwrap(), log.path().to_str().unwrap());
        let mut all = vec![("FAKECUDA_LOG", path), ("TENSORSEAL_TEST_ROOM", room), ("TENSORSEAL_TEST_BUNDLE", bundle)];
        all.extend_from_slice(envs);
        let run = finish(child(test, &all), Duration::from_secs(120));
        assert!(run.code == Some(0) && run.stdout.contains("1 passed"), "{bundle} {envs:?}: {run:#?}");
        let line = |word: &str| run.stdout.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned);
        let outcome = if let Some(way) = line("ADMITTED ") {
            Outcome::Admitted(way)
        } else if let Some(why) = line("REFUSED ") {
            Outcome::Refused(why)
        } else {
            Outcome::Failed(line("FAILED ").unwrap_or_else(|| panic!("{bundle} {envs:?} says nothing: {run:#?}")))
        };
        let opened = line("OPENED ").expect("the device opens").trim().parse().unwrap();
        Ran { outcome, opened, calls: calls(log.path()), run }
    }
}

#[derive(Debug)]
enum Outcome {
    /// Handed out, right to the last byte, as the child has seen; and which way it came.
    Admitted(String),
    /// The answer is no.
    Refused(String),
    /// There is no answer.
    Failed(String),
}

struct Ran {
    outcome: Outcome,
    /// Calls before the load began.
    opened: usize,
    calls: Vec<Call>,
    run: Run,
}

impl Ran {
    /// Numbers, counted from the beginning of the process, of what the load itself did: `note` is what the log writes of
    /// it before the number. With the words that follow.
    fn numbered(&self, note: &str) -> Vec<(usize, String)> {
        let notes = self.calls[self.opened..].iter().flat_map(|call| &call.notes);
        let parts = notes.filter_map(|text| text.strip_prefix(note)?.split_once(':'));
        parts.map(|(number, rest)| (number.parse().unwrap(), rest.to_owned())).collect()
    }

    /// Copies to the device that carried bytes of files: their numbers, and how many bytes.
    fn uploads(&self, signed: &Signed, bundle: &str) -> Vec<(usize, usize)> {
        let wanted = signed.copies(bundle).concat();
        let all = self.numbered("in=").into_iter().map(|(number, bytes)| (number, bytes.parse().unwrap()));
        let found: Vec<(usize, usize)> = all.filter(|(_, bytes)| wanted.contains(bytes)).collect();
        let sorted = |mut lens: Vec<usize>| {
            lens.sort_unstable();
            lens
        };
        let lens = sorted(found.iter().map(|(_, bytes)| *bytes).collect());
        assert!(lens.is_empty() || lens == sorted(wanted), "{bundle}: each byte goes up once: {lens:?}");
        found
    }

    /// Everything that was said of the outcome.
    fn said(&self) -> &str {
        match &self.outcome {
            Outcome::Admitted(said) | Outcome::Refused(said) | Outcome::Failed(said) => said,
        }
    }

    #[track_caller]
    fn admitted(&self) -> &str {
        match &self.outcome {
            Outcome::Admitted(way) => way,
            other => panic!("{other:?}\n{:#?}", self.run),
        }
    }

    /// The answer is no, and these words are in it.
    #[track_caller]
    fn refused(&self, words: &[&str], about: &str) {
        let Outcome::Refused(why) = &self.outcome else { panic!("{about}: {:?}", self.outcome) };
        assert!(words.iter().all(|word| why.contains(word)), "{about}: {words:?} in {why}");
    }

    /// There is no answer, and these words say why.
    #[track_caller]
    fn failed(&self, words: &[&str], about: &str) {
        let Outcome::Failed(why) = &self.outcome else { panic!("{about}: {:?}", self.outcome) };
        assert!(words.iter().all(|word| why.contains(word)), "{about}: {words:?} in {why}");
    }

    /// Nothing is left on the device.
    #[track_caller]
    fn clean(&self, about: &str) {
        assert_eq!(leaks(&self.calls), [] as [&str; 0], "{about}");
    }

    /// Nothing is left on the device. Pinned memory can be: nobody can say that a lost device does not use it.
    #[track_caller]
    fn clean_but_for_pinned(&self, about: &str) {
        let left: Vec<_> = leaks(&self.calls).into_iter().filter(|what| !what.starts_with("host=")).collect();
        assert_eq!(left, [] as [&str; 0], "{about}");
    }
}

/// In the child: loads the model as the environment wants it, and says what came of it.
fn load() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let room = PathBuf::from(env("TENSORSEAL_TEST_ROOM"));
    let mut settings = Settings::default();
    (settings.policy, settings.cache, settings.block) = (Some(Policy::Plain), None, BLOCK);
    let cuda = Cuda::open_with(0, &settings).unwrap();
    // Behind the name of the test, which stands there without an end.
    println!("\nOPENED {}", fs::read_to_string(env("FAKECUDA_LOG")).unwrap().lines().count());
    let mut options = LoadOptions { threads: NonZeroUsize::new(1), ..LoadOptions::default() };
    options.read = match env("TENSORSEAL_TEST_READ").as_str() {
        "" => ReadMode::Buffered,
        "direct" => ReadMode::Direct,
        "uring" => ReadMode::Uring,
        "direct-uring" => ReadMode::DirectUring,
        "cufile" => ReadMode::CuFile,
        other => panic!("{other}"),
    };
    let key = PublicKey::from_pem(&fs::read(room.join("key")).unwrap()).unwrap();
    let (model, bundle) = (room.join("m"), room.join(env("TENSORSEAL_TEST_BUNDLE")));
    match load_verified(&model, &bundle, &KeyVerifier::new(key), &options, &cuda, &Silent) {
        Ok(loaded) => {
            // What was handed out is what was signed: the files, as no test that gets here has changed them.
            for file in FILES {
                let view = loaded.tensors().find(|view| view.file() == file).unwrap();
                let len = fs::metadata(model.join(file)).unwrap().len();
                let bytes = cuda.download(view.buffer(), 0..len).unwrap();
                assert!(bytes == fs::read(model.join(file)).unwrap(), "other bytes were handed out");
            }
            assert_eq!((loaded.tensors().count(), loaded.file("config.json")), (4, Some(&b"{}"[..])));
            let report = loaded.report();
            println!("ADMITTED {:?} {:?}", report.read, report.storage);
        }
        Err(Error::Verify(no)) => println!("REFUSED {}", one_line(&format!("{no} {no:?}"))),
        Err(error) => println!("FAILED {}", one_line(&format!("{error} {error:?}"))),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}

/// The number of calls among which faults are planted, some of them: all would take minutes.
fn some(numbers: impl Iterator<Item = usize>, most: usize) -> Vec<usize> {
    let all: Vec<usize> = numbers.collect();
    let step = all.len().div_ceil(most).max(1);
    // The last is always one of them.
    all.iter().rev().copied().step_by(step).collect()
}

#[test]
fn sound_models_are_handed_out_whatever_the_bundle_and_the_way_of_reading() {
    let test = here!("sound_models_are_handed_out_whatever_the_bundle_and_the_way_of_reading");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    for bundle in BUNDLES {
        for read in ["", "direct", "uring", "direct-uring"] {
            let ran = signed.run(test, bundle, &[("TENSORSEAL_TEST_READ", read)]);
            if let (Outcome::Failed(why), false) = (&ran.outcome, read.is_empty()) {
                // A file system or a container without it: said, and nothing else read in its place.
                assert!(why.contains("ReadMode::Buffered"), "{why}");
                continue;
            }
            ran.admitted();
            ran.clean(bundle);
            assert!(!ran.uploads(&signed, bundle).is_empty());
        }
    }
}

#[test]
fn a_copy_that_reports_success_and_changed_one_bit_is_refused_and_named() {
    let test = here!("a_copy_that_reports_success_and_changed_one_bit_is_refused_and_named");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    for bundle in BUNDLES {
        let ran = signed.run(test, bundle, &[]);
        ran.admitted();
        let uploads = ran.uploads(&signed, bundle);
        let of_file = signed.copies(bundle);
        // With SHA-256 alone the file is sound, and the copy is named; with BLAKE3 the memory is not what was signed.
        let words: &[&str] = if bundle == "blake3" { &["Changed"] } else { &["Miscopied", "not copied as read"] };
        let named = [AtomicUsize::new(0), AtomicUsize::new(0)];
        for_each(0..uploads.len(), |index| {
            let (number, bytes) = uploads[index];
            let bit = [0, 8 * bytes / 2 + 3, 8 * bytes - 1][index % 3];
            for fault in [("FAKECUDA_FLIP", format!("{number}:{bit}")), ("FAKECUDA_LOSE_IN", number.to_string())] {
                let about = format!("{bundle} {fault:?}");
                let ran = signed.run(test, bundle, &[(fault.0, &fault.1)]);
                ran.refused(words, &about);
                let files = [0, 1].map(|file| ran.said().contains(FILES[file]));
                // One, and one of those that have a copy of this length.
                assert!(files[0] != files[1], "{about}: {}", ran.said());
                let file = usize::from(files[1]);
                assert!(of_file[file].contains(&bytes), "{about}: {}", ran.said());
                named[file].fetch_add(1, Ordering::Relaxed);
                ran.clean(&about);
            }
        });
        assert_eq!(named.map(AtomicUsize::into_inner), of_file.map(|copies| 2 * copies.len()), "{bundle}");
        // Copies that tell the kernels what to do: a digest of something else, or a fault.
        let others: Vec<usize> = ran.numbered("in=").iter().map(|(number, _)| *number).collect();
        let others: Vec<usize> =
            others.into_iter().filter(|number| uploads.iter().all(|(mine, _)| mine != number)).collect();
        assert!(!others.is_empty());
        for number in some(others.into_iter(), 3) {
            let ran = signed.run(test, bundle, &[("FAKECUDA_LOSE_IN", &number.to_string())]);
            assert!(!matches!(ran.outcome, Outcome::Admitted(_)), "{bundle} {number}: {:?}", ran.outcome);
        }
    }
}

#[test]
fn staging_uploads_and_launches_that_fail_are_named_and_leave_nothing() {
    let test = here!("staging_uploads_and_launches_that_fail_are_named_and_leave_nothing");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    for bundle in ["blake3", "sha256"] {
        let ran = signed.run(test, bundle, &[]);
        ran.admitted();
        // What comes after the last launch are the child's own copies, but for the wait for it.
        let end = ran.calls.iter().rposition(|call| call.name == "cuLaunchKernel").unwrap() + 1;
        let counted = |name: &str| {
            let before = ran.calls[..ran.opened].iter().filter(|call| call.name == name).count();
            let within = ran.calls[ran.opened..end].iter().filter(|call| call.name == name).count();
            before + 1..before + within + 1
        };
        for name in [
            "cuMemAlloc_v2",
            "cuMemHostAlloc",
            "cuMemcpyHtoDAsync_v2",
            "cuMemsetD8Async",
            "cuLaunchKernel",
            "cuEventCreate",
            "cuEventRecord",
            "cuStreamWaitEvent",
            "cuEventSynchronize",
            "cuCtxPushCurrent_v2",
        ] {
            let numbers = some(counted(name), 4);
            let lasting = matches!(name, "cuMemcpyHtoDAsync_v2" | "cuLaunchKernel");
            // Pinned memory can have been there before.
            assert!(!numbers.is_empty() || name == "cuMemHostAlloc", "{bundle} calls {name}");
            for_each(numbers.into_iter(), |number| {
                for code in if lasting { &[1, 719][..] } else { &[1] } {
                    let about = format!("{bundle} {name}:{number}:{code}");
                    let ran = signed.run(test, bundle, &[("FAKECUDA_FAIL", &format!("{name}:{number}:{code}"))]);
                    ran.failed(&["Driver {", name.trim_end_matches("_v2")], &about);
                    match (*code, name) {
                        // The one thing that was to be given back then.
                        (_, "cuCtxPushCurrent_v2") => assert!(leaks(&ran.calls).len() <= 1, "{about}"),
                        (1, _) => ran.clean(&about),
                        _ => ran.clean_but_for_pinned(&about),
                    }
                }
            });
        }
        // Short memory is said as such, or gone around.
        for name in ["cuMemAlloc_v2", "cuMemHostAlloc"] {
            for number in some(counted(name), 4) {
                let about = format!("{bundle} {name}:{number}:2");
                let ran = signed.run(test, bundle, &[("FAKECUDA_FAIL", &format!("{name}:{number}:2"))]);
                if !matches!(ran.outcome, Outcome::Admitted(_)) {
                    ran.failed(&["OutOfMemory"], &about);
                }
                ran.clean(&about);
            }
        }
    }
}

#[test]
fn launches_and_copies_back_that_do_nothing_or_fault_give_no_answer() {
    let test = here!("launches_and_copies_back_that_do_nothing_or_fault_give_no_answer");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    for bundle in ["blake3", "sha256"] {
        let ran = signed.run(test, bundle, &[]);
        ran.admitted();
        let launches = ran.numbered("launch=");
        assert!(launches.len() >= 2, "{launches:?}");
        for_each(some(launches.iter().map(|(number, _)| *number), 6).into_iter(), |number| {
            let about = format!("{bundle}: launch {number}");
            let ran = signed.run(test, bundle, &[("FAKECUDA_SKIP", &number.to_string())]);
            ran.failed(&["did not write its results"], &about);
            ran.clean(&about);
            let ran = signed.run(test, bundle, &[("FAKECUDA_FAULT", &format!("{number}:700"))]);
            ran.failed(&["CUDA_ERROR_ILLEGAL_ADDRESS"], &about);
            ran.clean_but_for_pinned(&about);
        });
        // But for the child's own, of which there is one a file.
        let mut copies: Vec<usize> = ran.numbered("out=").iter().map(|(number, _)| *number).collect();
        copies.truncate(copies.len() - FILES.len());
        for_each(some(copies.into_iter(), 4).into_iter(), |number| {
            let about = format!("{bundle}: copy back {number}");
            let ran = signed.run(test, bundle, &[("FAKECUDA_LOSE", &number.to_string())]);
            ran.failed(&["did not write its results"], &about);
            ran.clean(&about);
        });
    }
}

#[test]
fn a_device_that_is_lost_midway_gives_no_answer() {
    let test = here!("a_device_that_is_lost_midway_gives_no_answer");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    for (bundle, code, words) in
        [("blake3", "46", "CUDA_ERROR_DEVICE_UNAVAILABLE"), ("sha256", "719", "CUDA_ERROR_LAUNCH_FAILED")]
    {
        let ran = signed.run(test, bundle, &[]);
        ran.admitted();
        let rests = ran.calls.iter().rposition(|call| call.name == "cuLaunchKernel").unwrap();
        for_each(some(ran.opened + 1..rests, 12).into_iter(), |number| {
            let about = format!("{bundle}: gone at call {number}, {}", ran.calls[number - 1].name);
            let ran = signed.run(test, bundle, &[("FAKECUDA_GONE", &format!("{number}:{code}"))]);
            ran.failed(&[words], &about);
            ran.clean_but_for_pinned(&about);
        });
    }
}

#[test]
fn a_file_that_is_not_what_was_signed_is_refused_and_named() {
    let test = here!("a_file_that_is_not_what_was_signed_is_refused_and_named");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    let lens = FILES.map(|file| fs::metadata(signed.model().join(file)).unwrap().len());
    // The length of the header, the header, the first tensor, the middle, the last byte.
    for (file, at) in [(0, 0), (0, 20), (0, 400), (0, lens[0] / 2), (1, lens[1] / 2), (1, lens[1] - 1)] {
        let file = FILES[file];
        signed.flip(file, at);
        for bundle in BUNDLES {
            let about = format!("{bundle}: byte {at} of {file}");
            let ran = signed.run(test, bundle, &[]);
            ran.refused(&["Changed", file], &about);
            ran.clean(&about);
        }
        signed.flip(file, at);
    }
    // Found before anything is uploaded, or even allocated.
    fs::rename(signed.model().join(FILES[1]), signed.path("aside")).unwrap();
    fs::write(signed.model().join("extra.safetensors"), "").unwrap();
    let ran = signed.run(test, "blake3", &[]);
    ran.refused(&["Missing", FILES[1], "Unsigned", "extra.safetensors"], "a file missing, and one extra");
    assert_eq!(ran.calls[ran.opened..].iter().filter(|call| call.name == "cuMemAlloc_v2").count(), 0);
    ran.clean("missing");
}

#[test]
fn by_cufile_digests_are_of_device_memory_and_every_fault_is_found_there() {
    let test = here!("by_cufile_digests_are_of_device_memory_and_every_fault_is_found_there");
    if is_child(test) {
        return load();
    }
    let signed = Signed::new();
    if let Err(error) = direct(&signed.model().join(FILES[0])) {
        eprintln!("no direct reads beside {:?}: {error}", std::env::current_exe());
        return;
    }
    let dir = cufile_dir();
    let always = [("LD_LIBRARY_PATH", dir.to_str().unwrap()), ("TENSORSEAL_TEST_READ", "cufile")];
    let run = |bundle: &str, envs: &[(&str, &str)]| signed.run(test, bundle, &[&always[..], envs].concat());

    let ran = run("blake3", &[]);
    assert_eq!(ran.admitted(), format!("CuFile {:?}", Some(StoragePath::Unknown)));
    ran.clean("cufile");
    let reads = ran.calls.iter().filter(|call| call.name == "cuFileRead").count();
    let uploads = ran.calls[ran.opened..].iter().filter(|call| call.name == "cuMemcpyHtoDAsync_v2");
    let lens = signed.copies("blake3").concat();
    let of_files =
        uploads.flat_map(|call| &call.notes).filter(|note| lens.iter().any(|len| note.ends_with(&format!(":{len}"))));
    assert_eq!((reads, of_files.count()), (FILES.len(), 0), "nothing went through host memory");
    let copies: Vec<String> = ran
        .calls
        .iter()
        .filter(|call| call.name == "cuFileRead")
        .map(|call| call.notes[0].strip_prefix("in=").unwrap().split(':').next().unwrap().to_owned())
        .collect();

    let ran = run("blake3", &[("FAKECUDA_SHORT", "1:1;2:100;3:20000;4:7"), ("FAKECUDA_CUFILE", "compatible")]);
    assert_eq!(ran.admitted(), format!("CuFile {:?}", Some(StoragePath::Host)), "short reads are continued");
    ran.clean("short");

    for (copy, file) in copies.iter().zip(FILES) {
        for fault in [("FAKECUDA_FLIP", format!("{copy}:100001")), ("FAKECUDA_LOSE_IN", copy.clone())] {
            let ran = run("blake3", &[(fault.0, &fault.1)]);
            ran.refused(&["Changed", file], &format!("{fault:?}"));
            ran.clean(fault.0);
        }
    }
    for (fault, words) in [
        ("cuFileRead:2:5", "Input/output error"),
        ("cuFileRead:1:5008", "CU_FILE_IO_NOT_SUPPORTED"),
        ("cuFileHandleRegister:2:5018", "CU_FILE_INVALID_FILE_TYPE"),
        ("cuFileDriverOpen:1:5010", "nvidia-fs"),
    ] {
        let ran = run("blake3", &[("FAKECUDA_FAIL", fault)]);
        ran.failed(&[words], fault);
        ran.clean(fault);
    }
    // Before anything is allocated: SHA-256 is taken of bytes in host memory, and none come there.
    for bundle in ["sha256", "shards"] {
        let ran = run(bundle, &[]);
        ran.failed(&["sha256", "cuFile", "ReadMode::Buffered"], bundle);
        assert_eq!(ran.calls[ran.opened..].iter().filter(|call| call.name == "cuMemAlloc_v2").count(), 0);
    }
    // Without the library: what is missing, and what loads without it.
    let ran = signed.run(test, "blake3", &[("TENSORSEAL_TEST_READ", "cufile")]);
    ran.failed(&["libcufile.so.0", "ReadMode::Buffered"], "no library");
    ran.clean("no library");
    // The tampered file.
    signed.flip(FILES[1], 10_000);
    run("blake3", &[]).refused(&["Changed", FILES[1]], "a file that changed");
}

fn direct(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}
