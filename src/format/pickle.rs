//! Pickled weights, told from their first and last bytes. Nothing is unpickled here, ever.
//!
//! Unpickling calls whatever the file names, so who loads it runs its maker's code. Sources: Python's `pickletools`, the
//! zip archives of `torch.save`, and numpy's format of arrays of objects.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::device::file::OpenFile;
use crate::source::SourceFile;

/// What loaders unpickle whatever is in it.
const ALWAYS: [&str; 5] = ["pkl", "pickle", "joblib", "dill", "cloudpickle"];
/// What may be pickled or not. Other files are not opened: a model may have many.
const MAYBE: [&str; 16] = [
    "bin", "pt", "pth", "pt2", "ptl", "ckpt", "chk", "th", "torch", "model", "mdl", "npy", "dat", "data", "weights",
    "sav",
];
/// So much of the beginning and of the end is looked at. A zip archive lists its members at the end.
const HEAD: u64 = 4 << 10;
const TAIL: u64 = 64 << 10;

/// Which files of a list are pickled. A pass over them may show their bytes while it has them; those that it did not show are
/// opened, so that the answer is the same, but a model of many small files is not opened twice.
#[derive(Debug)]
pub(crate) struct Pickles(Vec<AtomicU8>);

/// It is none.
const NO: u8 = 0;
/// It is one.
const YES: u8 = 1;
/// Its bytes tell, and nobody has seen them yet.
const UNSEEN: u8 = 2;

impl Pickles {
    /// Of these files, as far as their names tell.
    pub(crate) fn of(files: &[SourceFile]) -> Self {
        let by_name = |file: &SourceFile| {
            let extension = file.name().rsplit_once('.').map_or("", |(_, extension)| extension);
            let is_in = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(extension));
            match () {
                () if is_in(&ALWAYS) => YES,
                () if is_in(&MAYBE) => UNSEEN,
                () => NO,
            }
        };
        Self(files.iter().map(|file| AtomicU8::new(by_name(file))).collect())
    }

    /// Shows all the bytes of the file at this place in the list.
    pub(crate) fn see(&self, file: usize, bytes: &[u8]) {
        let Some(known) = self.0.get(file).filter(|known| known.load(Ordering::Relaxed) == UNSEEN) else { return };
        let head = &bytes[..bytes.len().min(HEAD as usize)];
        let tail = &bytes[bytes.len().saturating_sub(TAIL as usize)..];
        let pickle = holds_pickle(head, || lists_pickle(tail));
        known.store(if pickle { YES } else { NO }, Ordering::Relaxed);
    }

    /// The names of those that are, of the same list. A file that cannot be read is not named: whoever reads it will say so.
    pub(crate) fn names(&self, files: &[SourceFile]) -> Vec<String> {
        let is = |(file, known): &(&SourceFile, &AtomicU8)| match known.load(Ordering::Relaxed) {
            UNSEEN => file_holds_pickle(&file.path()),
            known => known == YES,
        };
        files.iter().zip(&self.0).filter(is).map(|(file, _)| file.name().to_owned()).collect()
    }
}

/// The names of those files that are pickled, where no pass over them shows their bytes.
pub(crate) fn pickled(files: &[SourceFile]) -> Vec<String> {
    Pickles::of(files).names(files)
}

fn file_holds_pickle(path: &Path) -> bool {
    let Ok(file) = OpenFile::open(path) else { return false };
    let part = |begin: u64, len: u64| {
        // At most HEAD or TAIL, so it fits.
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, begin).map(|()| bytes).unwrap_or_default()
    };
    let (head, tail) = (HEAD.min(file.len()), TAIL.min(file.len()));
    holds_pickle(&part(0, head), || lists_pickle(&part(file.len() - tail, tail)))
}

/// By the beginning of a file, and by its end where that is asked for.
fn holds_pickle(head: &[u8], listed_at_end: impl FnOnce() -> bool) -> bool {
    is_pickle(head) || is_zip(head) && (lists_pickle(head) || listed_at_end())
}

/// By the first opcodes of a pickle of protocol 2 or later, as `torch.save` of old, too, begins with; or an array of
/// objects, which numpy pickles. The protocols before have no mark.
fn is_pickle(head: &[u8]) -> bool {
    /// What can follow the opcode of the protocol: frames, constants, containers, globals.
    const OPCODES: &[u8] = b"\x95\x8a\x8b\x8c\x8d\x8e\x93\x88\x89()]}cBCFGIJKLMNSTUVX";
    match head {
        [0x80, 2..=5, opcode, ..] => OPCODES.contains(opcode),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            let described = &head[..head.len().min(128)];
            described.windows(3).any(|part| part == b"'|O" || part == b"'O'")
        }
        _ => false,
    }
}

fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

fn lists_pickle(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|part| part == b"data.pkl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{IgnoreSet, Model, SymlinkPolicy};
    use std::fs;

    #[test]
    fn pickles_are_told_by_their_bytes_and_other_weights_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let zip = |member: &str, gap: usize| {
            let begin = [b"PK\x03\x04 archive/version", &vec![0; gap][..]].concat();
            [&begin[..], b"PK\x01\x02 archive/", member.as_bytes(), b"PK\x05\x06", &[0; 18]].concat()
        };
        let npy =
            |dtype: &str| [&b"\x93NUMPY\x01\x00v\x00{'descr': "[..], dtype.as_bytes(), b", 'shape': (1,), }"].concat();
        let safetensors = [&0x280_u64.to_le_bytes()[..], b"{}", &[b' '; 0x27e]].concat();
        let protocol = |n: u8, rest: &[u8]| [&[0x80, n], rest].concat();
        for (name, bytes, expected) in [
            ("torch.pt", zip("data.pkl", 0), true),
            ("large.PTH", zip("data.pkl", 200_000), true),
            ("pytorch_model.bin", protocol(2, b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), true),
            ("two.ckpt", protocol(2, b"}q\0."), true),
            ("five.bin", protocol(5, b"\x95\0\0\0\0\0\0\0\0}."), true),
            ("objects.npy", npy("'|O'"), true),
            ("text.pkl", b"(dp0\n.".to_vec(), true),
            ("sub/a.joblib", b"x\x9c".to_vec(), true),
            ("numbers.npy", npy("'<f4'"), false),
            ("other.pt", zip("weights", 200_000), false),
            ("raw.bin", vec![0x80, 2, 0, 0], false),
            ("later.bin", protocol(9, b"}q\0."), false),
            ("length.bin", safetensors, false),
            ("empty.bin", vec![], false),
            ("short.bin", vec![0x80, 2], false),
            ("tokenizer.model", b"\n\x0e\n\x05<unk>".to_vec(), false),
            ("config.json", protocol(2, b"}q\0."), false),
            ("pkl", b"x".to_vec(), false),
        ] {
            fs::create_dir_all(folder.path().join("sub")).unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
            let model = Model::open(folder.path(), SymlinkPolicy::Refuse).unwrap();
            let files = model.scan(&IgnoreSet::new(), SymlinkPolicy::Refuse, false).unwrap().files;
            assert_eq!(pickled(&files) == [name], expected, "{name}");
            let shown = Pickles::of(&files);
            shown.see(0, &fs::read(folder.path().join(name)).unwrap());
            fs::remove_file(folder.path().join(name)).unwrap();
            assert_eq!(
                shown.names(&files) == [name],
                expected,
                "{name}, which is not opened once its bytes were shown"
            );
            shown.see(1, b"of no file of the list");
        }
    }
}
