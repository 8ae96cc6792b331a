//! What is known of files beyond their bytes: which ones they are, and whether anybody could have changed them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kernel;
use super::verity::DmVerity;
use crate::device::cpu::Stamp;
use crate::digest::hex;
use crate::json::{not_null, some_object};
use crate::time::UnixTime;

/// What is asked of the system. Tests answer for it.
pub(crate) trait System {
    /// The file's fs-verity digest as the kernel, or whoever plays a file system, has it: algorithm and bytes.
    fn fs_verity(&self, file: &File) -> io::Result<Option<(u16, Vec<u8>)>>;
    /// The number of the mount that the file was opened through.
    fn mount_id(&self, file: &File) -> io::Result<u64>;
    /// The mount of this number, if this process can see it.
    fn mount(&self, id: u64) -> io::Result<Option<Mount>>;
    /// The block device of this number.
    fn block(&self, device: u64) -> io::Result<Block>;
    /// The answer of the device mapper about this device.
    fn dm_table(&self, device: u64) -> io::Result<Vec<u8>>;
    /// The first 128 bytes of the EROFS on the block device of this number: its superblock.
    fn erofs_superblock(&self, device: u64) -> io::Result<[u8; 128]>;
    /// This boot's own number.
    fn boot(&self) -> io::Result<String>;
    /// What the clock says.
    fn now(&self) -> UnixTime;
}

/// The system itself.
pub(crate) struct ThisMachine;

impl System for ThisMachine {
    fn fs_verity(&self, file: &File) -> io::Result<Option<(u16, Vec<u8>)>> {
        kernel::fs_verity(file)
    }

    fn mount_id(&self, file: &File) -> io::Result<u64> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        id.ok_or_else(|| io::Error::other("/proc/self/fdinfo does not say through which mount it was opened"))
    }

    fn mount(&self, id: u64) -> io::Result<Option<Mount>> {
        // Somebody else's mount point need not be UTF-8.
        let mounts = fs::read("/proc/self/mountinfo")?;
        Ok(String::from_utf8_lossy(&mounts).lines().find_map(|line| Mount::of_line(line, &id.to_string())))
    }

    fn block(&self, device: u64) -> io::Result<Block> {
        // The folder of a partition lies in that of its disk.
        let folder = sysfs(device)?;
        let read = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned());
        let whole = if folder.join("partition").exists() { folder.parent().unwrap_or(&folder) } else { &folder };
        Ok(Block {
            read_only: read(&folder, "ro")? == "1" && read(whole, "ro")? == "1",
            is_loop: whole.join("loop").exists(),
            // But for NVMe disks that several paths lead to.
            is_virtual: whole.starts_with("/sys/devices/virtual")
                && !whole.starts_with("/sys/devices/virtual/nvme-subsystem"),
            is_mapped: whole.join("dm").exists(),
            sequence: read(whole, "diskseq").ok().and_then(|text| text.parse().ok()),
        })
    }

    fn dm_table(&self, device: u64) -> io::Result<Vec<u8>> {
        kernel::dm_table(device)
    }

    fn erofs_superblock(&self, device: u64) -> io::Result<[u8; 128]> {
        let event = fs::read_to_string(sysfs(device)?.join("uevent"))?;
        let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        let node = Path::new("/dev").join(name.ok_or_else(|| io::Error::other("sysfs has no name for it"))?);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&node)?;
        let meta = file.metadata()?;
        if !meta.file_type().is_block_device() || meta.rdev() != device {
            return Err(io::Error::other(format!("{node:?} is another device")));
        }
        let mut superblock = [0; 128];
        file.read_exact_at(&mut superblock, EROFS_SUPERBLOCK)?;
        Ok(superblock)
    }

    fn boot(&self) -> io::Result<String> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
    }

    fn now(&self) -> UnixTime {
        UnixTime::now()
    }
}

/// Where sysfs has a block device.
fn sysfs(device: u64) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device)))
}

/// Where a superblock of EROFS begins (`EROFS_SUPER_OFFSET` of `fs/erofs/erofs_fs.h`).
const EROFS_SUPERBLOCK: u64 = 1024;

/// Whether all that an EROFS consists of lies on the device with this superblock (`struct erofs_super_block`). The
/// kernel does not say so: of a mount it shows no `device=`.
fn is_one_device(superblock: &[u8; 128]) -> Result<bool, &'static str> {
    const MAGIC: u32 = 0xE0F5_E1E2;
    /// `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`, of `feature_incompat` at byte 80.
    const DEVICE_TABLE: u32 = 8;
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| superblock[at + byte]));
    if word(0) != MAGIC {
        return Err("its device does not begin with the superblock of an EROFS");
    }
    // `extra_devices` are the 16 bits at byte 86.
    Ok(word(80) & DEVICE_TABLE == 0 && superblock[86..88] == [0, 0])
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) point: String,
    pub(crate) options: String,
    pub(crate) super_options: String,
}

impl Mount {
    /// The line, if it is that of the mount `id` (proc_pid_mountinfo(5)): `ID PARENT MAJ:MIN ROOT POINT OPTIONS ..
    /// - TYPE SOURCE SUPER`, with blanks in paths as `\040`.
    fn of_line(line: &str, id: &str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let place: Vec<&str> = place.split(' ').collect();
        if *place.first()? != id {
            return None;
        }
        let mut system = system.splitn(3, ' ');
        Some(Self {
            kind: system.next()?.to_owned(),
            source: system.next()?.to_owned(),
            point: (*place.get(4)?).to_owned(),
            options: (*place.get(5)?).to_owned(),
            super_options: system.next().unwrap_or_default().to_owned(),
        })
    }

    /// An option by which the file system is not the one that its device begins with, or not that alone.
    fn elsewhere(&self) -> Option<&str> {
        const ELSEWHERE: [&str; 5] = ["device=", "fsoffset=", "offset=", "sb=", "fsid="];
        self.super_options.split(',').find(|option| ELSEWHERE.iter().any(|name| option.starts_with(name)))
    }
}

/// What sysfs says of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The device, and the disk that it is a partition of, refuse writes.
    pub(crate) read_only: bool,
    /// A file plays the device.
    pub(crate) is_loop: bool,
    /// It is no disk: this machine makes it of other devices, of files, of a network, or of a program's answers.
    pub(crate) is_virtual: bool,
    /// It is the device mapper's.
    pub(crate) is_mapped: bool,
    /// Counts each time that a disk is attached: no number comes twice in a boot.
    pub(crate) sequence: Option<u64>,
}

/// A file system that files of the model lie on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSystem {
    /// `major:minor`, as `st_dev` has them.
    pub(crate) device: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) mount_point: String,
    pub(crate) mount_options: String,
    pub(crate) super_options: String,
    /// The dm-verity device that it lies on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub(crate) dm_verity: Option<DmVerity>,
    /// The read-only disk that an EROFS lies on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub(crate) erofs: Option<Erofs>,
    /// Why it is none of the two.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub(crate) changeable: Option<String>,
}

/// A disk with an EROFS on it: the same one for as long as it is attached, and not beyond this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erofs {
    pub(crate) boot: String,
    pub(crate) disk_sequence: u64,
}

/// Everything that is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) stamp: Stamp,
    /// `sha256:` or `sha512:` and hexadecimal, only from file systems that check it at every read.
    pub(crate) fs_verity: Option<String>,
    /// Its place in the list of file systems.
    pub(crate) file_system: usize,
}

/// Looks at files, and remembers their file systems.
pub(crate) struct Observer<'s> {
    system: &'s dyn System,
    /// By device and mount: a layered file system may give its files the device of another one.
    known: BTreeMap<(u64, u64), usize>,
    pub(crate) file_systems: Vec<FileSystem>,
}

impl<'s> Observer<'s> {
    pub(crate) const fn new(system: &'s dyn System) -> Self {
        Self { system, known: BTreeMap::new(), file_systems: Vec::new() }
    }

    /// Looks at the file at `path`, which is opened as it is for hashing: no link in the last component, no waiting.
    pub(crate) fn look(&mut self, path: &Path) -> io::Result<Facts> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let stamp = Stamp::of(&meta);
        let place = (stamp.device, self.system.mount_id(&file)?);
        let file_system = match self.known.get(&place) {
            Some(&at) => at,
            None => {
                self.file_systems.push(self.file_system(place.1, stamp.device)?);
                self.known.insert(place, self.file_systems.len() - 1);
                self.file_systems.len() - 1
            }
        };
        let fs_verity = if checks_fs_verity(&self.file_systems[file_system].kind) {
            self.system.fs_verity(&file)?.map(|(algorithm, digest)| named(algorithm, &digest)).transpose()?
        } else {
            None
        };
        Ok(Facts { stamp, fs_verity, file_system })
    }

    fn file_system(&self, mount: u64, device: u64) -> io::Result<FileSystem> {
        let name = format!("{}:{}", libc::major(device), libc::minor(device));
        let unknown = || Mount {
            kind: "unknown".to_owned(),
            source: String::new(),
            point: String::new(),
            options: String::new(),
            super_options: String::new(),
        };
        let mount = self.system.mount(mount)?.unwrap_or_else(unknown);
        let mut system = FileSystem {
            device: name,
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            mount_point: mount.point.clone(),
            mount_options: mount.options.clone(),
            super_options: mount.super_options.clone(),
            dm_verity: None,
            erofs: None,
            changeable: None,
        };
        match self.fixed(&mount, device) {
            Ok(Fixed::DmVerity(of)) => system.dm_verity = Some(of),
            Ok(Fixed::Erofs(of)) => system.erofs = Some(of),
            Err(why) => system.changeable = Some(why),
        }
        Ok(system)
    }

    /// What keeps the whole file system from being changed, or why nothing does. All of it has to be known: what cannot be
    /// found out counts as changeable.
    fn fixed(&self, mount: &Mount, device: u64) -> Result<Fixed, String> {
        let kind = mount.kind.as_str();
        // Of these, all that a file consists of comes from the one device that `st_dev` names.
        if !matches!(kind, "ext4" | "squashfs" | "erofs") {
            return Err(format!(
                "the file system is {kind}, not erofs, squashfs or ext4 on a device that cannot change"
            ));
        }
        if let Some(option) = mount.elsewhere() {
            return Err(format!(
                "its mount option {option:?} takes the {kind} from another place than the beginning of one device"
            ));
        }
        let block = self.system.block(device).map_err(|error| format!("its block device is not known: {error}"))?;
        if !block.read_only {
            return Err("its block device can be written to".to_owned());
        }
        if kind == "erofs" {
            let unread = |error| format!("the superblock on its block device cannot be read: {error}");
            let superblock = self.system.erofs_superblock(device).map_err(unread)?;
            if !is_one_device(&superblock)? {
                return Err("the erofs lies on more devices than one".to_owned());
            }
        }
        if block.is_mapped {
            let table = self.system.dm_table(device).map_err(|error| {
                format!("the table of its device-mapper device cannot be read, which takes CAP_SYS_ADMIN: {error}")
            })?;
            return DmVerity::of_answer(&table).map(Fixed::DmVerity).map_err(|fault| fault.to_string());
        }
        if kind != "erofs" {
            return Err(format!("{kind} on a device without dm-verity"));
        }
        if block.is_loop {
            return Err("its device is a loop device: whoever may write to the file behind it changes it".to_owned());
        }
        if block.is_virtual {
            return Err("its device is no disk, but made of other devices, files or a network".to_owned());
        }
        let disk_sequence = block.sequence.ok_or("the kernel does not number disks (diskseq, Linux 5.15)")?;
        let boot = self.system.boot().map_err(|error| format!("this boot has no number: {error}"))?;
        Ok(Fixed::Erofs(Erofs { boot, disk_sequence }))
    }
}

/// What keeps a file system from being changed.
enum Fixed {
    DmVerity(DmVerity),
    Erofs(Erofs),
}

/// Whether the kernel itself checks every block of a file with an fs-verity digest when it reads it there. Others pass the
/// question on: a FUSE program answers what it likes.
fn checks_fs_verity(kind: &str) -> bool {
    matches!(kind, "ext4" | "f2fs" | "btrfs")
}

/// An fs-verity digest in words: `FS_VERITY_HASH_ALG_SHA256` is 1, `FS_VERITY_HASH_ALG_SHA512` 2.
fn named(algorithm: u16, digest: &[u8]) -> io::Result<String> {
    match (algorithm, digest.len()) {
        (1, 32) => Ok(format!("sha256:{}", hex(digest))),
        (2, 64) => Ok(format!("sha512:{}", hex(digest))),
        (_, len) => {
            Err(io::Error::other(format!("its fs-verity digest is by algorithm {algorithm}, with {len} bytes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        // From proc_pid_mountinfo(5), and one with a blank in a path.
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::of_line(line, "36").unwrap();
        assert_eq!(
            [&*mount.kind, &*mount.source, &*mount.point, &*mount.options, &*mount.super_options],
            ["ext3", "/dev/root", "/mnt2", "rw,noatime", "rw,errors=continue"]
        );
        assert_eq!(Mount::of_line(line, "3"), None, "another mount");
        assert_eq!(Mount::of_line(line, "360"), None, "another mount");
        let line = "7 1 0:5 / /a\\040b ro - erofs /dev/x ro,device=/dev/y";
        let mount = Mount::of_line(line, "7").unwrap();
        assert_eq!(mount.point, "/a\\040b");
        assert_eq!(mount.elsewhere(), Some("device=/dev/y"));
        for (options, elsewhere) in
            [("ro", None), ("ro,fsoffset=4096", Some("fsoffset=4096")), ("sb=8193,ro", Some("sb=8193"))]
        {
            let mount = Mount { super_options: options.to_owned(), ..mount.clone() };
            assert_eq!(mount.elsewhere(), elsewhere);
        }
        for bad in ["", "7", "7 1 0:5 / /a ro", "7 1 0:5 / - erofs x ro", "7 - "] {
            assert_eq!(Mount::of_line(bad, "7"), None, "{bad:?}");
        }
    }

    #[test]
    fn this_machine_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        fs::write(&path, "weights").unwrap();
        let mut observer = Observer::new(&ThisMachine);
        let facts = observer.look(&path).unwrap();
        assert_eq!(facts.stamp, Stamp::of(&fs::metadata(&path).unwrap()));
        assert_eq!(observer.look(&path).unwrap(), facts);
        assert_eq!(observer.file_systems.len(), 1);
        assert_ne!(observer.file_systems[0].kind, "unknown");
        assert!(observer.file_systems[0].changeable.is_some(), "a folder for temporary files can be written to");
        std::os::unix::fs::symlink("w", dir.path().join("link")).unwrap();
        assert!(observer.look(&dir.path().join("link")).is_err());
        assert!(observer.look(dir.path()).is_err());
        assert!(!ThisMachine.boot().unwrap().is_empty());
    }
}
