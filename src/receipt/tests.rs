//! What shows that a file has not changed, on systems that answer as each test has them answer. What people meet is tested
//! in `tests/run.rs`.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;

use super::facts::{Block, Mount, System};
use super::verity::tests::{answer, line};
use super::*;
use crate::device::cpu::{Cpu, Settings, Silent};
use crate::key::Curve;
use crate::policy::Policy;
use crate::report::Report;
use crate::sign::{KeySigner, SignOptions};
use crate::verify::{VerifyOptions, by_policy};
use crate::{Device, VerifyError};

const NOW: i64 = 1_800_000_000;

/// What the system answers.
struct Fake {
    kind: RefCell<&'static str>,
    super_options: RefCell<&'static str>,
    fs_verity: RefCell<Option<(u16, Vec<u8>)>>,
    block: Cell<Block>,
    table: RefCell<Option<Vec<u8>>>,
    /// `None`: it cannot be read.
    superblock: Cell<Option<[u8; 128]>>,
    boot: RefCell<&'static str>,
    now: Cell<i64>,
    /// What somebody does to the files while they are looked at.
    meanwhile: RefCell<Option<Box<dyn FnMut()>>>,
}

impl System for Fake {
    fn fs_verity(&self, _: &File) -> io::Result<Option<(u16, Vec<u8>)>> {
        if let Some(act) = &mut *self.meanwhile.borrow_mut() {
            act();
        }
        Ok(self.fs_verity.borrow().clone())
    }

    fn mount_id(&self, _: &File) -> io::Result<u64> {
        Ok(1)
    }

    fn mount(&self, _: u64) -> io::Result<Option<Mount>> {
        Ok(Some(Mount {
            kind: (*self.kind.borrow()).to_owned(),
            source: "/dev/x".to_owned(),
            point: "/models".to_owned(),
            options: "ro".to_owned(),
            super_options: (*self.super_options.borrow()).to_owned(),
        }))
    }

    fn block(&self, _: u64) -> io::Result<Block> {
        Ok(self.block.get())
    }

    fn dm_table(&self, _: u64) -> io::Result<Vec<u8>> {
        self.table.borrow().clone().ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    fn erofs_superblock(&self, _: u64) -> io::Result<[u8; 128]> {
        self.superblock.get().ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    fn boot(&self) -> io::Result<String> {
        Ok((*self.boot.borrow()).to_owned())
    }

    fn now(&self) -> UnixTime {
        UnixTime(self.now.get())
    }
}

/// The beginning of an EROFS, with these features and so many devices besides the first.
fn superblock(features: u32, devices: u8) -> [u8; 128] {
    let mut bytes = [0; 128];
    bytes[..4].copy_from_slice(&[0xE2, 0xE1, 0xF5, 0xE0]);
    bytes[80..84].copy_from_slice(&features.to_le_bytes());
    bytes[86] = devices;
    bytes
}

/// A signed model of two files, its policy, and a key for receipts.
struct Place {
    dir: tempfile::TempDir,
    gate: PrivateKey,
    policy: Policy,
    system: Fake,
}

/// A disk that refuses writes.
const DISK: Block = Block { read_only: true, is_loop: false, is_virtual: false, is_mapped: false, sequence: Some(7) };
const SECTORS: u64 = 262_144 * 8;

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("m")).unwrap();
        fs::write(path("m/a"), "weights of a").unwrap();
        fs::write(path("m/b"), "weights of b").unwrap();
        let [team, gate] = [(); 2].map(|()| PrivateKey::generate(Curve::P256).unwrap());
        team.public_key().write(&path("team.pub"), Existing::Keep).unwrap();
        gate.public_key().write(&path("gate.pub"), Existing::Keep).unwrap();
        let device = Device::Cpu(Cpu::open(Settings::default()).unwrap());
        let options = SignOptions::default();
        let signed =
            crate::sign(&path("m"), &path("m.sig"), &KeySigner::new(team), &options, &device, &Silent).unwrap();
        signed.write(&path("m.sig")).unwrap();
        let root = dir.path().canonicalize().unwrap();
        let text = format!(
            "version = 1\n[signers.team]\nkey = \"team.pub\"\n[receipts]\nkeys = [\"gate.pub\"]\nmax_age = \"1h\"\n\
             [[rule]]\npath = \"{}/*\"\nany_of = [\"team\"]\n",
            root.display()
        );
        let policy = Policy::parse(&text, dir.path()).unwrap();
        let system = Fake {
            kind: RefCell::new("ext4"),
            super_options: RefCell::new("ro"),
            fs_verity: RefCell::new(None),
            block: Cell::new(Block { read_only: false, ..DISK }),
            table: RefCell::new(None),
            superblock: Cell::new(Some(superblock(0, 0))),
            boot: RefCell::new("this one"),
            now: Cell::new(NOW),
            meanwhile: RefCell::new(None),
        };
        Self { dir, gate, policy, system }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn check(&self, accept: Option<Acceptance>) -> Result<(Report, Receipt), Error> {
        let record = RecordOptions { lifetime: NonZeroU64::new(1800).unwrap(), purpose: Purpose::Exec, accept };
        let device = Device::Cpu(Cpu::open(Settings::default()).unwrap());
        let mut recorder = Recorder::new(&record, &self.system);
        let (options, signature) = (VerifyOptions::default(), self.path("m.sig"));
        let report =
            by_policy(&self.path("m"), &[&signature], &self.policy, &options, &device, &Silent, &mut recorder)?;
        let receipt = recorder.receipt(&report);
        Ok((report.into_inner(), receipt))
    }

    /// Hashes the model and leaves a signed receipt.
    fn record(&self) -> Receipt {
        let (report, receipt) = self.check(None).unwrap();
        assert_eq!((report.unhashed, report.checked.len()), (None, 1));
        receipt.write(&self.path("r"), Some(&self.gate)).unwrap();
        receipt
    }

    fn accept(&self, trust_file_identity: bool) -> Result<Unhashed, Error> {
        let (report, receipt) = self.check(Some(Acceptance { path: self.path("r"), trust_file_identity }))?;
        assert!(report.checked.is_empty() && !receipt.0.hashed);
        Ok(*report.unhashed.unwrap())
    }

    #[track_caller]
    fn refuses(&self, words: &str) {
        let error = self.accept(false).unwrap_err();
        assert!(matches!(error, Error::Receipt(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_digest_by_fs_verity_is_enough_and_no_other_will_do() {
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    let receipt = place.record();
    assert_eq!(receipt.0.files[0].fs_verity, Some(format!("sha256:{}", "07".repeat(32))));
    let unhashed = place.accept(false).unwrap();
    assert_eq!((unhashed.fs_verity, unhashed.file_identity, unhashed.bytes), (2, 0, 24));
    assert_eq!(unhashed.basis(), "2 by fs-verity");
    assert_eq!(unhashed.until, UnixTime(NOW + 1800));
    // The digest is the bytes': another file with it, elsewhere and of another time, is as good.
    fs::rename(place.path("m/b"), place.path("old")).unwrap();
    fs::copy(place.path("old"), place.path("m/b")).unwrap();
    assert_eq!(place.accept(false).unwrap().fs_verity, 2);
    *place.system.fs_verity.borrow_mut() = Some((1, vec![8; 32]));
    place.refuses("its fs-verity digest was sha256:0707");
    *place.system.fs_verity.borrow_mut() = Some((2, vec![7; 64]));
    place.refuses("its fs-verity digest was sha256:0707");
    *place.system.fs_verity.borrow_mut() = None;
    place.refuses("and is none");
    // Not even if inode and times are trusted.
    assert!(place.accept(true).unwrap_err().to_string().contains("and is none"));
    *place.system.fs_verity.borrow_mut() = Some((9, vec![7; 32]));
    assert!(matches!(place.accept(false), Err(Error::Io { .. })), "an algorithm that is not known");
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 31]));
    assert!(matches!(place.accept(false), Err(Error::Io { .. })), "an impossible length");
}

#[test]
fn a_program_that_plays_a_file_system_has_no_digests_that_count() {
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    for kind in ["fuse.evil", "fuse", "overlay", "nfs4", "xfs", "unknown"] {
        *place.system.kind.borrow_mut() = kind;
        let receipt = place.record();
        assert_eq!(receipt.0.files[0].fs_verity, None, "{kind}");
        place.refuses("nothing shows that the file \"a\" is as it was");
    }
    // A receipt with a digest does not help where nobody checks it.
    *place.system.kind.borrow_mut() = "btrfs";
    place.record();
    *place.system.kind.borrow_mut() = "fuse.btrfs";
    place.refuses("and is none");
}

#[test]
fn dm_verity_is_enough_if_every_block_of_the_device_is_checked() {
    let place = Place::new();
    let system = &place.system;
    system.block.set(Block { is_mapped: true, ..DISK });
    *system.table.borrow_mut() = Some(answer("verity", &line(""), SECTORS));
    for kind in ["ext4", "squashfs", "erofs"] {
        *system.kind.borrow_mut() = kind;
        place.record();
        assert_eq!(place.accept(false).unwrap().basis(), "2 by dm-verity", "{kind}");
    }
    let root = line("").replacen("4392", "4393", 1);
    *system.table.borrow_mut() = Some(answer("verity", &root, SECTORS));
    place.refuses("its dm-verity root was 4392");
    *system.table.borrow_mut() = Some(answer("verity", &line(" 1 ignore_corruption"), SECTORS));
    place.refuses("ignore_corruption");
    *system.table.borrow_mut() = Some(answer("linear", "254:1 0", SECTORS));
    place.refuses("\"linear\", not verity");
    *system.table.borrow_mut() = None;
    place.refuses("which takes CAP_SYS_ADMIN");
    *system.table.borrow_mut() = Some(answer("verity", &line(""), SECTORS));
    place.accept(false).unwrap();
    system.block.set(Block { is_mapped: true, read_only: false, ..DISK });
    place.refuses("its block device can be written to");
    system.block.set(Block { is_mapped: true, ..DISK });
    for (options, words) in
        [("ro,device=/dev/y", "device=/dev/y"), ("ro,fsoffset=4096", "fsoffset=4096"), ("sb=8193,ro", "sb=8193")]
    {
        *system.super_options.borrow_mut() = options;
        place.refuses(words);
    }
    *system.super_options.borrow_mut() = "ro";
    // The kernel does not show where the rest of an EROFS lies: only its superblock tells that there is more.
    for (found, words) in [
        (Some(superblock(8, 1)), "the erofs lies on more devices than one"),
        (Some(superblock(8, 0)), "the erofs lies on more devices than one"),
        (Some(superblock(0, 1)), "the erofs lies on more devices than one"),
        (Some([0; 128]), "does not begin with the superblock of an EROFS"),
        (None, "the superblock on its block device cannot be read"),
    ] {
        system.superblock.set(found);
        place.refuses(words);
    }
    system.superblock.set(Some(superblock(1, 0)));
    place.accept(false).unwrap();
    // The same image as another file system has other inodes.
    *system.kind.borrow_mut() = "squashfs";
    place.refuses("its type of file system was erofs and is squashfs");
    for kind in ["xfs", "overlay", "fuse"] {
        *system.kind.borrow_mut() = kind;
        place.refuses("not erofs, squashfs or ext4");
    }
    *system.kind.borrow_mut() = "erofs";
    // Another file under the same name: another inode of the same image.
    fs::rename(place.path("m/b"), place.path("old")).unwrap();
    fs::copy(place.path("old"), place.path("m/b")).unwrap();
    place.refuses("the file \"b\" is not the one that was hashed: its inode was");
}

#[test]
fn an_erofs_is_enough_on_one_read_only_disk_in_one_boot() {
    let place = Place::new();
    let system = &place.system;
    *system.kind.borrow_mut() = "erofs";
    system.block.set(DISK);
    place.record();
    assert_eq!(place.accept(false).unwrap().basis(), "2 by a read-only EROFS");
    *system.boot.borrow_mut() = "another";
    place.refuses("its disk was 7 of boot this one and is 7 of boot another");
    *system.boot.borrow_mut() = "this one";
    system.block.set(Block { sequence: Some(8), ..DISK });
    place.refuses("its disk was 7 of boot this one and is 8");
    for (block, words) in [
        (Block { sequence: None, ..DISK }, "does not number disks"),
        (Block { read_only: false, ..DISK }, "can be written to"),
        (Block { is_loop: true, ..DISK }, "whoever may write to the file behind it"),
        (Block { is_virtual: true, ..DISK }, "its device is no disk"),
    ] {
        system.block.set(block);
        place.refuses(words);
        // And none is recorded as one.
        assert!(place.check(None).unwrap().1.0.file_systems[0].erofs.is_none());
    }
    system.block.set(DISK);
    *system.kind.borrow_mut() = "ext4";
    place.refuses("ext4 on a device without dm-verity");
}

#[test]
fn a_file_that_is_swapped_between_the_look_and_the_hashing_gives_no_receipt() {
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    // The file that was looked at makes room for one with the signed bytes.
    let (b, kept) = (place.path("m/b"), place.path("kept"));
    fs::write(&kept, "weights of b").unwrap();
    let swap = move || {
        if kept.exists() {
            fs::rename(&kept, &b).unwrap();
        }
    };
    *place.system.meanwhile.borrow_mut() = Some(Box::new(swap));
    // `a` is looked at first: then `b` is swapped before its own look, and all is well.
    place.check(None).unwrap();
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    let (a, kept) = (place.path("m/a"), place.path("kept"));
    fs::write(&kept, "weights of a").unwrap();
    let swap = move || {
        if kept.exists() {
            fs::rename(&kept, &a).unwrap();
        }
    };
    *place.system.meanwhile.borrow_mut() = Some(Box::new(swap));
    let error = place.check(None).unwrap_err();
    assert!(matches!(&error, Error::FileChanged { path, .. } if path.ends_with("m/a")), "{error}");
}

#[test]
fn time_is_the_receipts_and_the_policys() {
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    place.record();
    for (later, words) in [(0, ""), (1799, ""), (1800, "it expired at"), (-1, "by this machine's clock")] {
        place.system.now.set(NOW + later);
        if words.is_empty() {
            place.accept(false).unwrap();
        } else {
            place.refuses(words);
        }
    }
    let mut receipt = place.record();
    receipt.0.time = wire::Moment(UnixTime(NOW));
    receipt.0.expires = wire::Moment(UnixTime(NOW + 100_000));
    receipt.write(&place.path("r"), Some(&place.gate)).unwrap();
    for (later, words) in [(3600, ""), (3601, "the policy's max_age")] {
        place.system.now.set(NOW + later);
        if words.is_empty() {
            assert_eq!(place.accept(false).unwrap().until, UnixTime(NOW + 3600));
        } else {
            place.refuses(words);
        }
    }
    receipt.0.time = wire::Moment(UnixTime(NOW + 3601));
    receipt.0.expires = wire::Moment(UnixTime(253_402_300_799));
    receipt.write(&place.path("r"), Some(&place.gate)).unwrap();
    place.accept(false).unwrap();
}

#[test]
fn names_are_compared_with_the_signature_before_the_receipt() {
    let place = Place::new();
    *place.system.fs_verity.borrow_mut() = Some((1, vec![7; 32]));
    place.record();
    let differs = || {
        let error = place.accept(false).unwrap_err();
        assert!(matches!(error.refusal(), Some(VerifyError::Differs { .. })), "{error}");
    };
    fs::write(place.path("m/new"), "x").unwrap();
    differs();
    fs::remove_file(place.path("m/new")).unwrap();
    place.accept(false).unwrap();
    fs::remove_file(place.path("m/a")).unwrap();
    differs();
}
