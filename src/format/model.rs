//! The files of tensors of a model, opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Format, Header, HeaderFault, Index, IndexFault, check_parts};
use crate::device::file::OpenFile;
use crate::error::Error;

impl Header {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Header`] if it cannot be used, [`Error::Io`] and [`Error::FileChanged`] if it cannot be read.
    pub fn open(path: &Path, format: Format) -> Result<Self, Error> {
        let file = OpenFile::open(path)?;
        let fault = |source| Error::Header { path: path.to_owned(), source };
        let header = Self::read::<Fault>(format, file.len(), &mut |range| {
            // No header is longer than fits.
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_at(&mut bytes, range.start).map_err(Fault::Read)?;
            Ok(bytes)
        });
        match header {
            Ok(header) => file.check_unchanged().map(|()| header),
            Err(Fault::Header(source)) => Err(fault(source)),
            Err(Fault::Read(error)) => Err(error),
        }
    }
}

/// Why a header was not read: the reading itself knows nothing of paths.
enum Fault {
    Header(HeaderFault),
    Read(Error),
}

impl From<HeaderFault> for Fault {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(fault)
    }
}

impl Index {
    /// Reads the index at `path`.
    ///
    /// # Errors
    /// [`Error::Index`] if it cannot be used, [`Error::Io`] and [`Error::FileChanged`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Index { path: path.to_owned(), source };
        let file = OpenFile::open(path)?;
        if file.len() > Self::MAX_BYTES {
            return Err(fault(IndexFault::TooLong { len: file.len(), limit: Self::MAX_BYTES }));
        }
        let mut text = Vec::new();
        Self::parse(file.read_whole(&mut text)?).map_err(fault)
    }
}

/// What the files of a model say of their tensors.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// The header of each file of tensors by its name in the model, or why there is none.
    pub headers: BTreeMap<String, Result<Header, Error>>,
    /// What is wrong beside that: indexes that cannot be used, tensors that are not where they should be.
    pub faults: Vec<Error>,
}

/// Reads the headers of all files of tensors among `files`, each a name in the model and the path to open, and compares
/// them with the indexes among these, and parts with each other. No byte of a tensor is read.
#[must_use]
pub fn survey<'a>(files: impl IntoIterator<Item = (&'a str, PathBuf)>) -> Survey {
    let (mut survey, mut indexes) = (Survey::default(), Vec::new());
    for (name, path) in files {
        if let Some(format) = Format::of_name(name) {
            survey.headers.insert(name.to_owned(), Header::open(&path, format));
        } else if Index::is_name(name) {
            indexes.push((name, path));
        }
    }
    let all = survey.headers.iter().filter_map(|(name, header)| Some((name.as_str(), header.as_ref().ok()?)));
    let headers: BTreeMap<&str, &Header> = all.collect();
    for (name, path) in indexes {
        let fault = |source| Error::Index { path: path.clone(), source };
        let folder = name.rfind('/').map_or("", |slash| &name[..=slash]);
        let beside = headers.iter().filter_map(|(name, header)| Some((name.strip_prefix(folder)?, *header)));
        match Index::open(&path) {
            Ok(index) => survey.faults.extend(index.check(&beside.collect()).into_iter().map(fault)),
            Err(error) => survey.faults.push(error),
        }
    }
    survey.faults.extend(check_parts(&headers).into_iter().map(Error::Parts));
    survey
}
