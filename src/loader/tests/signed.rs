//! Signed models, and what goes wrong while they are loaded.

use std::fs;

use super::engine::SMALL;
use super::*;
use crate::device::cpu::Silent;
use crate::error::VerifyError;
use crate::key::{Curve, PrivateKey};
use crate::manifest::Difference;
use crate::sign::{Annotations, KeySigner};
use crate::tensors::TensorRefusal;
use crate::verify::{KeyVerifier, Tensors};
use crate::{SignOptions, sign};

/// A folder with a signed model: two shards of tensors, an index, a configuration.
struct Signed {
    folder: tempfile::TempDir,
    trusted: KeyVerifier,
}

/// A file of safetensors with these tensors of bytes.
fn safetensors(tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, bytes) in tensors {
        let range = (data.len(), data.len() + bytes.len());
        entries.push(format!(
            r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}"#,
            bytes.len(),
            range.0,
            range.1
        ));
        data.extend_from_slice(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

impl Signed {
    fn new(options: &SignOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        fs::create_dir_all(model.join("sub")).unwrap();
        let (a, b, c) = (pattern(5000, 1), pattern(7000, 2), pattern(30_000, 3));
        fs::write(model.join("w-00001-of-00002.safetensors"), safetensors(&[("a", &a), ("b", &b)])).unwrap();
        fs::write(model.join("w-00002-of-00002.safetensors"), safetensors(&[("c", &c)])).unwrap();
        let index = r#"{"metadata":{},"weight_map":{"a":"w-00001-of-00002.safetensors","b":"w-00001-of-00002.safetensors","c":"w-00002-of-00002.safetensors"}}"#;
        fs::write(model.join("w.safetensors.index.json"), index).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(model.join("sub/long.bin"), pattern(3000, 9)).unwrap();
        let key = PrivateKey::generate(Curve::P256).unwrap();
        let trusted = KeyVerifier::new(key.public_key());
        let device = Device::Cpu(cpu());
        let signature = folder.path().join("s.sig");
        sign(&model, &signature, &KeySigner::new(key), options, &device, &Silent).unwrap().write(&signature).unwrap();
        Self { folder, trusted }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("m")
    }

    fn load<B: Backend>(&self, backend: &B, options: &LoadOptions) -> Result<Verified<LoadedModel<B>>, Error> {
        load_verified(&self.model(), &self.folder.path().join("s.sig"), &self.trusted, options, backend, &Silent)
    }
}

/// Ways to sign: with BLAKE3 beside SHA-256, with SHA-256 alone, in shards.
fn ways() -> [SignOptions; 4] {
    let plain = SignOptions::default();
    let shards = crate::manifest::Method::Shards { size: NonZeroU64::new(4096).unwrap() };
    [
        plain.clone(),
        SignOptions { annotations: Annotations::None, ..plain.clone() },
        SignOptions { method: shards, ..plain.clone() },
        SignOptions { method: shards, annotations: Annotations::None, ..plain },
    ]
}

#[test]
fn a_signed_model_is_handed_out_with_its_tensors_and_companions() {
    for sign in ways() {
        let signed = Signed::new(&sign);
        for digests in [DigestChoice::Fastest, DigestChoice::All, DigestChoice::Oms] {
            let verify = VerifyOptions { digests, ..VerifyOptions::default() };
            let options = LoadOptions { verify, keep: 1000, threads: NonZeroUsize::new(3), ..LoadOptions::default() };
            let device = Planted::new(1000);
            let loaded = signed.load(&device, &options).unwrap();
            assert_eq!(loaded.tensors().map(|view| view.name()).collect::<Vec<_>>(), ["a", "b", "c"]);
            let view = loaded.tensor("b").unwrap();
            assert_eq!(
                (view.shape(), view.dtype().name(), view.range().end - view.range().start),
                (&[7000][..], "U8", 7000)
            );
            let bytes = &view.buffer().0.bytes()[view.range().start as usize..view.range().end as usize];
            assert_eq!(bytes, pattern(7000, 2));
            assert_eq!(loaded.file("config.json"), Some(&b"{}"[..]));
            assert_eq!(
                (loaded.file("sub/long.bin"), &loaded.report().not_held[..]),
                (None, &["sub/long.bin".to_owned()][..])
            );
            let blake3 = sign.annotations != Annotations::None && digests != DigestChoice::Oms;
            assert_eq!(loaded.report().verified.checked.contains(&Algorithm::Blake3), blake3);
            let sha = sign.annotations == Annotations::None || digests != DigestChoice::Fastest;
            assert_eq!(loaded.report().verified.not_checked.contains(&Algorithm::Sha256), !sha);
            assert_eq!(loaded.report().verified.device, DeviceKind::Cuda(7));
            assert_eq!((loaded.report().verified.files, device.alive.get()), (5, 2));
            drop(loaded);
            assert_eq!(device.alive.get(), 0);

            let loaded = signed.load(&cpu(), &options).unwrap();
            assert_eq!(loaded.tensor("c").unwrap().bytes(), pattern(30_000, 3));
            assert_eq!(loaded.tensor_of("w-00001-of-00002.safetensors", "c").map(|view| view.name()), None);
        }
    }
}

#[test]
fn whatever_the_device_fails_at_nothing_is_handed_out_and_every_buffer_is_dropped() {
    for sign in ways() {
        let signed = Signed::new(&sign);
        let options = LoadOptions::default();
        let sound = Planted::new(1000);
        drop(signed.load(&sound, &options).unwrap());
        for verb in VERBS {
            let calls = sound.count(verb);
            assert!(calls > 0, "{verb:?}");
            for nth in [1, calls / 2 + 1, calls] {
                let device = Planted { fail: Some((verb, nth)), ..Planted::new(1000) };
                // How often blocks are asked for depends on who is how fast.
                let Err(error) = signed.load(&device, &options) else {
                    assert!(device.count(verb) < nth, "{verb:?} {nth}");
                    continue;
                };
                assert!(matches!(&error, Error::Device(e) if *e == planted()), "{verb:?} {nth}: {error}");
                assert_eq!(device.alive.get(), 0, "{verb:?} {nth}");
            }
        }
    }
}

#[test]
fn a_copy_that_changes_one_bit_is_refused_and_named() {
    for sign in ways() {
        let signed = Signed::new(&sign);
        for digests in [DigestChoice::Fastest, DigestChoice::All] {
            let verify = VerifyOptions { digests, ..VerifyOptions::default() };
            let options = LoadOptions { verify, ..LoadOptions::default() };
            let sound = Planted::new(1000);
            drop(signed.load(&sound, &options).unwrap());
            for nth in [1, 7, sound.count(Verb::Upload)] {
                let device = Planted { flip: Some(nth), ..Planted::new(1000) };
                let error = signed.load(&device, &options).unwrap_err();
                let Some(VerifyError::Differs { differences, .. }) = error.refusal() else { panic!("{error}") };
                let [(name, difference)] = &differences.0[..] else { panic!("{differences:?}") };
                assert!(name.as_str().starts_with("w-0000"), "{name}");
                // Where the host has read the bytes, too, it is known that the copy is at fault and not the file.
                let copy = sign.annotations == Annotations::None || digests == DigestChoice::All;
                assert_eq!(matches!(difference, Difference::Miscopied { .. }), copy, "{difference:?}");
                assert_eq!(device.alive.get(), 0);
            }
        }
    }
}

#[test]
fn what_the_list_of_files_shows_is_refused_before_any_memory_is_asked_for() {
    let acts: [fn(&Path); 4] = [
        |m| fs::remove_file(m.join("config.json")).unwrap(),
        |m| fs::remove_file(m.join("w-00001-of-00002.safetensors")).unwrap(),
        |m| fs::write(m.join("more.safetensors"), safetensors(&[("x", b"x")])).unwrap(),
        |m| fs::write(m.join("config.json"), "{ }").unwrap(),
    ];
    for act in acts {
        let signed = Signed::new(&SignOptions::default());
        act(&signed.model());
        let (device, count) = (Planted::new(1000), Count::default());
        let signature = signed.folder.path().join("s.sig");
        let options = LoadOptions::default();
        let error = load_verified(&signed.model(), &signature, &signed.trusted, &options, &device, &count).unwrap_err();
        assert!(matches!(error.refusal(), Some(VerifyError::Differs { .. })), "{error}");
        assert_eq!((*device.counts.borrow(), count.0.into_inner()), ([0; 6], 0));
    }
}

/// Does something when so many bytes are through.
struct At<F: Fn() + Sync>(AtomicU64, u64, F);

impl<F: Fn() + Sync> Progress for At<F> {
    fn advance(&self, bytes: u64, _files: usize) {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before < self.1 && before + bytes >= self.1 {
            (self.2)();
        }
    }
}

type Loading<'a> = (&'static str, Box<dyn Fn(&dyn Progress, &LoadOptions) -> Option<Error> + 'a>);

/// The two ways: staged, and in place.
fn both(signed: &Signed) -> [Loading<'_>; 2] {
    let sig = signed.folder.path().join("s.sig");
    let (model, sig2) = (signed.model(), sig.clone());
    [
        (
            "staged",
            Box::new(move |progress, options| {
                let device = Planted::new(1000);
                let error = load_verified(&model, &sig, &signed.trusted, options, &device, progress).err();
                assert!(error.is_none() || device.alive.get() == 0);
                error
            }),
        ),
        (
            "in place",
            Box::new(move |progress, options| {
                load_verified(&signed.model(), &sig2, &signed.trusted, options, &cpu(), progress).err()
            }),
        ),
    ]
}

/// Wants it to stop from the beginning.
struct Stops;

impl Progress for Stops {
    fn advance(&self, _bytes: u64, _files: usize) {}

    fn stopped(&self) -> bool {
        true
    }
}

#[test]
fn cancelled_or_with_a_worker_that_panics_nothing_is_handed_out() {
    for sign in ways() {
        let signed = Signed::new(&sign);
        for (way, load) in both(&signed) {
            let options = LoadOptions::default();
            options.cancel.cancel();
            assert!(matches!(load(&Silent, &options), Some(Error::Cancelled { .. })), "{way}");
            let options = LoadOptions::default();
            let cancel = At(AtomicU64::new(0), 1, || options.cancel.cancel());
            assert!(matches!(load(&cancel, &options), Some(Error::Cancelled { .. })), "{way}");
            assert!(matches!(load(&Stops, &LoadOptions::default()), Some(Error::Stopped)), "{way}");
            let panics = At(AtomicU64::new(0), 20_000, || panic!("planted"));
            let error = load(&panics, &LoadOptions::default());
            assert!(matches!(error, Some(Error::Device(DeviceError::Worker(_)))), "{way}: {error:?}");
        }
    }
}

#[test]
fn a_file_that_changes_between_open_and_the_last_read_gives_no_answer() {
    type Act = fn(&Path);
    let acts: [(&str, Act); 4] = [
        ("truncated", |path| fs::File::options().write(true).open(path).unwrap().set_len(20_000).unwrap()),
        ("grown", |path| {
            use std::io::Write;
            fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("replaced", |path| {
            let other = path.with_extension("other");
            fs::write(&other, vec![1; 30_000]).unwrap();
            fs::rename(&other, path).unwrap();
        }),
        ("rewritten", |path| {
            // As it is: but nobody can know what was read meanwhile.
            let bytes = fs::read(path).unwrap();
            fs::write(path, bytes).unwrap();
        }),
    ];
    for sign in ways() {
        for (name, act) in acts {
            let signed = Signed::new(&sign);
            let path = signed.model().join("w-00002-of-00002.safetensors");
            let len = fs::metadata(&path).unwrap().len();
            let item = Item { name: ResourceName::of_file("w", None), path: path.clone(), len };
            for wanted in [Algorithms::only(Algorithm::Blake3), Algorithms::only(Algorithm::Sha256)] {
                let cancel = Cancel::default();
                // After the first block has been read.
                let change = At(AtomicU64::new(0), 1, || {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    act(&path);
                });
                let run = run(Some(4096), 2, &cancel, &change);
                let device = Planted::new(1000);
                let mut buffers = [device.alloc(len).unwrap()];
                let error = staged::fill(&device, &[&item], &mut buffers, wanted, &run, SMALL).unwrap_err();
                assert!(matches!(error, Error::FileChanged { .. }), "{name}: {error}");
                fs::write(&path, safetensors(&[("c", &pattern(30_000, 3))])).unwrap();
                let change = At(AtomicU64::new(0), 1, || {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    act(&path);
                });
                let run = self::run(Some(4096), 2, &cancel, &change);
                let mut memory = cpu().alloc(len).unwrap();
                let error = place::fill(vec![(&item, memory.bytes_mut())], wanted, &run).unwrap_err();
                assert!(matches!(error, Error::FileChanged { .. }), "{name}: {error}");
                fs::write(&path, safetensors(&[("c", &pattern(30_000, 3))])).unwrap();
            }
        }
    }
}

#[test]
fn what_was_loaded_without_a_digest_is_never_admitted() {
    let signed = Signed::new(&SignOptions::default());
    let bundle = Bundle::read(&signed.folder.path().join("s.sig"), 1 << 20).unwrap();
    let manifest = bundle.verify(&signed.trusted).unwrap();
    let name = |text: &str| ResourceName::of_file(text, None);
    let load = |measure| load_locked(&signed.model(), measure, &LoadOptions::default(), &cpu(), &Silent).unwrap();
    for (of, loaded) in load(None) {
        assert!(!loaded.is_measured());
        assert_eq!(loaded.admit(&manifest, &of).err(), Some(Difference::NotMeasured));
    }
    // BLAKE2b was not signed.
    for (of, loaded) in load(Some(Algorithm::Blake2b)) {
        assert_eq!(loaded.admit(&manifest, &of).err(), Some(Difference::NotMeasured));
    }
    for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
        for (of, loaded) in load(Some(algorithm)) {
            let bytes = fs::read(signed.model().join(of.as_str())).unwrap();
            assert!(loaded.is_measured());
            assert_eq!(loaded.admit(&manifest, &of).unwrap().bytes(), bytes);
        }
        let mut swapped = load(Some(algorithm));
        let (_, loaded) = swapped.remove(0);
        assert_eq!(loaded.admit(&manifest, &name("no such")).err(), Some(Difference::Unsigned));
        let (_, loaded) = swapped.remove(0);
        let error = loaded.admit(&manifest, &name("w-00001-of-00002.safetensors")).err().unwrap();
        assert!(matches!(error, Difference::Changed { .. } | Difference::Resized { .. }), "{error:?}");
    }
}

#[test]
fn a_tensor_manifest_is_kept_whatever_else_is_and_one_that_is_too_long_is_refused() {
    let file = |name: &str, len| ToRead { name: name.into(), title: name.into(), path: name.into(), len };
    let titles = |files: &[&ToRead]| files.iter().map(|file| file.title.clone()).collect::<Vec<_>>();
    let files = [file("config.json", 7), file(FILE_NAME, MAX_LEN), file("w.safetensors", 9)];
    let sorted = Sorted::new(&files, false, 0).unwrap();
    assert_eq!((titles(&sorted.companions), sorted.manifest), (vec![FILE_NAME.to_owned()], Some(MAX_LEN)));
    assert_eq!(sorted.others, ["config.json"]);
    let files = [file(FILE_NAME, MAX_LEN + 1)];
    let sorted = Sorted::new(&files, false, 0).unwrap();
    assert_eq!((titles(&sorted.companions).len(), sorted.manifest), (0, Some(MAX_LEN + 1)));
    // A single file of that name is a model.
    let sorted = Sorted::new(&files, true, 0).unwrap();
    assert_eq!((&sorted.others[..], sorted.manifest), (&[FILE_NAME.to_owned()][..], None));

    let signed = Signed::new(&SignOptions::default());
    let manifest = Bundle::read(&signed.folder.path().join("s.sig"), 1 << 20).unwrap().verify(&signed.trusted).unwrap();
    let mut loaded = signed.load(&cpu(), &LoadOptions::default()).unwrap().into_inner();
    loaded.check_tensors(Tensors::default(), &manifest, None).unwrap();
    let error = loaded.check_tensors(Tensors::default(), &manifest, Some(MAX_LEN + 1)).unwrap_err();
    let Some(VerifyError::Tensors(TensorRefusal::Malformed { .. })) = error.refusal() else { panic!("{error}") };
}

/// Panics where a file is done: in the thread that called, where files are uploaded.
struct Done;

impl Progress for Done {
    fn advance(&self, _bytes: u64, files: usize) {
        assert!(files == 0, "planted");
    }
}

#[test]
fn however_few_blocks_and_many_threads_a_failure_ends_it_and_leaves_nothing() {
    for sign in ways() {
        let signed = Signed::new(&sign);
        let signature = signed.folder.path().join("s.sig");
        for (blocks, threads) in [(1, 8), (2, 3), (7, 16)] {
            let options = LoadOptions { threads: NonZeroUsize::new(threads), keep: 0, ..LoadOptions::default() };
            let device = Planted { blocks, ..Planted::new(512) };
            drop(signed.load(&device, &options).unwrap());
            for nth in [1, 2, 30] {
                let device = Planted { blocks, fail: Some((Verb::Upload, nth)), ..Planted::new(512) };
                assert!(signed.load(&device, &options).is_err());
                assert_eq!(device.alive.get(), 0);
            }
            let device = Planted { blocks, ..Planted::new(512) };
            let sizes: u64 = 512 * 40;
            let panics = At(AtomicU64::new(0), sizes, || panic!("planted"));
            let error = load_verified(&signed.model(), &signature, &signed.trusted, &options, &device, &panics).err();
            assert!(error.is_some() && device.alive.get() == 0);
            let load = || load_verified(&signed.model(), &signature, &signed.trusted, &options, &device, &Done);
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
            assert!(ended.is_err() || ended.is_ok_and(|loaded| loaded.is_err()));
            assert_eq!(device.alive.get(), 0);
        }
    }
}

#[test]
fn files_without_a_byte_are_refused_where_tensors_are_wanted_and_kept_where_not() {
    for sign in ways() {
        let shards = sign.method != crate::manifest::Method::Files;
        let signed = Signed::new(&sign);
        fs::write(signed.model().join("empty.json"), "").unwrap();
        fs::write(signed.model().join("empty.safetensors"), "").unwrap();
        // Nobody signed them. Under shards nobody could.
        for staged in [false, true] {
            let load = || match staged {
                true => signed.load(&Planted::new(512), &LoadOptions::default()).map(|of| of.report().clone()),
                false => signed.load(&cpu(), &LoadOptions::default()).map(|of| of.report().clone()),
            };
            match load() {
                Ok(report) => {
                    assert!(shards, "unsigned files were let in");
                    assert_eq!(report.verified.empty, ["empty.json", "empty.safetensors"]);
                    assert_eq!(report.tensor_files, 2);
                }
                Err(error) => {
                    assert!(!shards && matches!(error.refusal(), Some(VerifyError::Differs { .. })), "{error}");
                }
            }
        }
    }
}
