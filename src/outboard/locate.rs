//! Compares the values of a file with those that were kept of it. What is read of the file again is not trusted: each
//! range of it is what was signed, or is not, by its own value.

use std::ops::Range;
use std::path::PathBuf;

use super::kept::Kept;
use super::place::{HeaderState, Located, Map, places};
use crate::device::file::OpenFile;
use crate::error::Error;
use crate::format::{Format, Header, HeaderFault};
use crate::tree::{ChainingValue, group_value};

/// A file that is not what was signed.
pub(crate) struct Suspect<'a> {
    /// Its name in the model.
    pub(crate) name: &'a str,
    /// What it is, by the name that it has on disk.
    pub(crate) format: Option<Format>,
    pub(crate) path: PathBuf,
    pub(crate) found_len: u64,
    /// What was signed of it: all of it, in order.
    pub(crate) texts: Vec<Text<'a>>,
}

/// A signed string of a file.
pub(crate) struct Text<'a> {
    /// Where it begins in the file.
    pub(crate) at: u64,
    pub(crate) kept: &'a Kept,
    pub(crate) seen: Seen<'a>,
}

/// What the pass over the files has found of a string.
pub(crate) enum Seen<'a> {
    /// It is as signed.
    Same,
    /// It is not; the values of its groups.
    Other(&'a [ChainingValue]),
    /// Its file was not read, since it has another length.
    NotRead,
}

impl Suspect<'_> {
    /// Where it differs.
    pub(crate) fn locate(&self) -> Located {
        let mut hindrance = None;
        let mut hindered = |error: Error| {
            hindrance.get_or_insert_with(|| error.to_string());
        };
        let file = OpenFile::open(&self.path).map_err(&mut hindered).ok();
        let (mut ranges, mut compared) = (Vec::new(), 0);
        for text in &self.texts {
            let found = text.differing(file.as_ref(), self.found_len, &mut ranges);
            compared = text.at + found.compared;
            found.error.into_iter().for_each(&mut hindered);
            if found.compared < text.kept.tree().len() {
                break;
            }
        }
        let (header, map) = match (self.format, &file) {
            (None, _) => (HeaderState::None, None),
            (Some(format), Some(file)) => self.header(format, file),
            (Some(_), None) => (HeaderState::Unreadable("the file could not be read again".to_owned()), None),
        };
        Located {
            file: self.name.to_owned(),
            signed_len: self.signed_len(),
            found_len: self.found_len,
            group: self.texts.first().map_or(0, |text| text.kept.tree().group().bytes()),
            compared,
            header,
            places: places(ranges, map.as_ref()),
            hindrance,
        }
    }

    fn signed_len(&self) -> u64 {
        self.texts.last().map_or(0, |text| text.at + text.kept.tree().len())
    }

    /// The header that was signed, if the file still has it.
    fn header(&self, format: Format, file: &OpenFile) -> (HeaderState, Option<Map>) {
        let len = self.signed_len();
        // To learn how long it is. What this says is not trusted.
        let claimed = Header::read(format, len, &mut |range| {
            let size = (range.end - range.start) as usize;
            let mut bytes = read(file, range).map_err(Unread::File)?;
            // What was cut off is no worse than what was altered.
            bytes.resize(size, 0);
            Ok(bytes)
        });
        let claimed = match claimed {
            Ok(header) => header.len,
            Err(Unread::File(error)) => return (HeaderState::Unreadable(error.to_string()), None),
            Err(Unread::Header(_)) if self.header_differs(file) => return (HeaderState::Differs, None),
            Err(Unread::Header(fault)) => return (HeaderState::Unreadable(fault.to_string()), None),
        };
        let mut proven = Vec::new();
        while (proven.len() as u64) < claimed {
            match self.proven(file, proven.len() as u64) {
                Some(bytes) => proven.extend(bytes),
                None => return (HeaderState::Differs, None),
            }
        }
        proven.truncate(claimed as usize);
        match Header::of_bytes(format, &proven, len) {
            Ok(header) => (HeaderState::AsSigned, Some(Map::new(header))),
            Err(fault) => (HeaderState::Unreadable(fault.to_string()), None),
        }
    }

    /// Whether some of the bytes that held the header when it was signed are not as signed.
    fn header_differs(&self, file: &OpenFile) -> bool {
        let mut at = 0;
        loop {
            let Some(bytes) = self.proven(file, at) else { return at < self.signed_len() };
            at += bytes.len() as u64;
            let next = self.texts.iter().find(|text| text.at <= at && at < text.at + text.kept.tree().len());
            let fine = |text: &Text<'_>| text.kept.fine_groups().saturating_mul(text.kept.tree().group().bytes());
            if next.is_none_or(|text| at - text.at >= fine(text)) {
                return false;
            }
        }
    }

    /// Bytes of the file from `at` on, as far as the kept tree says something of them at once, if they are as signed.
    fn proven(&self, file: &OpenFile, at: u64) -> Option<Vec<u8>> {
        let next = self.texts.partition_point(|text| text.at <= at);
        // Between strings may be one that another statement than the trees' is about.
        let text = self
            .texts
            .get(next.checked_sub(1)?)
            .filter(|text| at <= text.at || at - text.at < text.kept.tree().len())?;
        let unit = text.kept.unit(at - text.at);
        let mut bytes = read(file, text.at + unit.start..text.at + unit.end).ok()?;
        // Units before this one were asked for before, so that it begins at `at`, or in it where a string begins.
        text.kept.is(&unit, &bytes).then(|| bytes.split_off((at - text.at - unit.start) as usize))
    }
}

/// Why there is no header.
enum Unread {
    File(Error),
    Header(HeaderFault),
}

impl From<HeaderFault> for Unread {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(fault)
    }
}

fn read(file: &OpenFile, range: Range<u64>) -> Result<Vec<u8>, Error> {
    // What a file does not have is not asked for memory.
    let end = range.end.min(file.len());
    let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
    file.read_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// How far a string could be compared.
struct Compared {
    compared: u64,
    error: Option<Error>,
}

impl Text<'_> {
    /// Adds the ranges of the file that differ, in order.
    fn differing(&self, file: Option<&OpenFile>, found_len: u64, ranges: &mut Vec<Range<u64>>) -> Compared {
        let len = self.kept.tree().len();
        let found = match self.seen {
            Seen::Same => return Compared { compared: len, error: None },
            Seen::Other(found) => found,
            Seen::NotRead => return self.compare_beginning(file, found_len, ranges),
        };
        if self.kept.group_values().len() != found.len() || found.is_empty() {
            // At most a chunk: nothing is known but that it differs.
            ranges.push(self.at..self.at + len);
            return Compared { compared: len, error: None };
        }
        let mut error = None;
        for (index, (kept, found)) in self.kept.group_values().iter().zip(found).enumerate() {
            if kept == found {
                continue;
            }
            let group = self.kept.tree().range(index as u64);
            match self.narrow(file, &group, found) {
                Ok(units) => ranges.extend(units),
                Err(why) => {
                    error = error.or(why);
                    ranges.push(self.in_file(&group));
                }
            }
        }
        Compared { compared: len, error }
    }

    const fn in_file(&self, range: &Range<u64>) -> Range<u64> {
        self.at + range.start..self.at + range.end
    }

    /// The chunks of a group that differ, where chunks were kept.
    fn narrow(
        &self,
        file: Option<&OpenFile>,
        group: &Range<u64>,
        found: &ChainingValue,
    ) -> Result<Vec<Range<u64>>, Option<Error>> {
        if self.kept.unit(group.start) == *group {
            return Ok(vec![self.in_file(group)]);
        }
        let bytes = read(file.ok_or(None)?, self.in_file(group)).map_err(Some)?;
        if bytes.len() as u64 != group.end - group.start || group_value(group.start, &bytes) != *found {
            let how = "another file was found where a difference was to be looked at".to_owned();
            let path = file.map(|file| file.path.clone()).unwrap_or_default();
            return Err(Some(Error::FileChanged { path, how }));
        }
        let of = |unit: &Range<u64>| &bytes[(unit.start - group.start) as usize..(unit.end - group.start) as usize];
        let units = self.kept.units(group).filter(|unit| !self.kept.is(unit, of(unit)));
        Ok(units.map(|unit| self.in_file(&unit)).collect())
    }

    /// Of a file of another length the beginning is compared, group by group.
    fn compare_beginning(&self, file: Option<&OpenFile>, found_len: u64, ranges: &mut Vec<Range<u64>>) -> Compared {
        let tree = self.kept.tree();
        let mut at = 0;
        let Some(file) = file else { return Compared { compared: 0, error: None } };
        while at < tree.len() {
            let unit = self.kept.unit(at);
            let place = self.in_file(&unit);
            if place.end > found_len {
                break;
            }
            match read(file, place.clone()) {
                Ok(bytes) if self.kept.is(&unit, &bytes) => {}
                Ok(_) => ranges.push(place),
                Err(error) => return Compared { compared: at, error: Some(error) },
            }
            at = unit.end;
        }
        Compared { compared: at, error: None }
    }
}
