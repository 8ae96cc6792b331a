//! Reports that lie in files, perhaps made elsewhere: bounded, of our schema, and with nothing in them that follows from
//! something else and contradicts it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::compare::Key;
use super::report::{OfDevice, Report, SCHEMA};
use crate::error::quoted;
use crate::input::read_small;
use crate::{FormatError, json};

/// The longest report that is read, in bytes: a machine of eight devices has half a million.
pub const MOST_BYTES: u64 = 16 << 20;

/// As many lines as a report may have, with all that is said of them.
const MOST_LINES: usize = 5_000;

/// Why a report cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no report.
    #[error("{path:?} is no report of tensorseal bench: {source}. Make one with `tensorseal bench --json`")]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: Fault,
    },
}

/// What is wrong with a text that should be a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is not JSON, or not what a report says.
    #[error(transparent)]
    Json(FormatError),
    /// It is of another schema.
    #[error("its schema is {found}, and {SCHEMA} is wanted")]
    Schema {
        /// Which, quoted.
        found: String,
    },
    /// A device or a line is there twice, so that it is not clear which counts.
    #[error("{which} is there twice")]
    Twice {
        /// Which, quoted.
        which: String,
    },
    /// A number that is none of its kind.
    #[error("{what} is {value}, which it cannot be")]
    Number {
        /// Of what.
        what: &'static str,
        /// Which.
        value: f64,
    },
    /// There are more lines than any bench has.
    #[error("it has {found} lines, and {MOST_LINES} are the most that are read")]
    TooMany {
        /// How many.
        found: usize,
    },
}

impl Report {
    /// Reads a report that `tensorseal bench --json` printed. Rates and ratios are computed anew from the times.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = read_small(path, MOST_BYTES).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|source| ReadError::Format { path: path.to_owned(), source })
    }

    /// The same for a text.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        // First of all which form it has: what is wrong in another form is nothing to be told.
        let head: Head = json::read("report", text).map_err(Fault::Json)?;
        match head.schema {
            Some(schema) if schema == SCHEMA => {}
            Some(other) => return Err(Fault::Schema { found: quoted(&other) }),
            None => return Err(Fault::Schema { found: "not said".to_owned() }),
        }
        let mut report: Self = json::read("report", text).map_err(Fault::Json)?;
        unique(&report)?;
        possible(&report)?;
        for line in report.devices.iter_mut().flat_map(|device| &mut device.lines) {
            line.bytes_per_second = line.times.rate(line.bytes);
        }
        for beside in report.peers.iter_mut().flat_map(|peers| &mut peers.lines) {
            beside.ratio = beside.ours.median() / beside.theirs.median().max(1e-9);
        }
        Ok(report)
    }
}

fn unique(report: &Report) -> Result<(), Fault> {
    // Whatever a page or a table shows one by one.
    let of_device = |device: &OfDevice| {
        let stages = device.lines.iter().map(|line| line.stages.len()).sum::<usize>();
        device.lines.len() + stages + device.skipped.len() + device.bounds.len()
    };
    let found = report.devices.iter().map(of_device).sum::<usize>()
        + report.passed_over.len()
        + report.peers.as_ref().map_or(0, |peers| peers.lines.len() + peers.absent.len());
    if found > MOST_LINES || report.devices.len() > MOST_LINES {
        return Err(Fault::TooMany { found: found.max(report.devices.len()) });
    }
    let (mut devices, mut keys) = (HashSet::new(), HashSet::new());
    for device in &report.devices {
        if !devices.insert(&device.device) {
            return Err(Fault::Twice { which: format!("the device {}", quoted(&device.device)) });
        }
        for line in &device.lines {
            if !keys.insert(Key::of(device, line)) {
                let which = format!("the line {} of {}", quoted(&line.name), quoted(&device.device));
                return Err(Fault::Twice { which });
            }
        }
    }
    Ok(())
}

/// JSON has no infinities and nothing that is not a number; negative times, rates and shares it has.
fn possible(report: &Report) -> Result<(), Fault> {
    let at_least_0 = |what, value: f64| if value >= 0.0 { Ok(()) } else { Err(Fault::Number { what, value }) };
    at_least_0("the time of the run", report.seconds)?;
    at_least_0("the load of the machine", report.machine.load)?;
    for device in &report.devices {
        for bound in &device.bounds {
            if bound.bytes_per_second <= 0.0 {
                return Err(Fault::Number { what: "the rate of a bound", value: bound.bytes_per_second });
            }
        }
        for line in &device.lines {
            at_least_0("the share of a bound", line.share.unwrap_or_default())?;
            line.stages.iter().try_for_each(|stage| at_least_0("the time of a stage", stage.seconds))?;
        }
        for reading in [&device.before, &device.after].into_iter().flatten() {
            at_least_0("a clock", reading.clock_mhz.unwrap_or_default())?;
            at_least_0("a clock of memory", reading.memory_clock_mhz.unwrap_or_default())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
