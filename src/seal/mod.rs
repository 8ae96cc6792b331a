//! Memory that is measured when it is taken into use, and compared with itself later.
//!
#![doc = include_str!("../../docs/seal.md")]

mod budget;
mod clock;
mod error;
mod metrics;
mod region;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use budget::Budget;
pub use clock::{Clock, SystemClock};
pub use error::{Broken, Finding, SealError};
pub use metrics::exposition;
pub use region::Region;

use self::budget::Account;
use self::metrics::{Counters, Outcome};
use self::region::{Regions, Sealed};
use crate::device::{Backend, DeviceKind};
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, VerifyError, quoted};
use crate::manifest::{Difference, Differences, Manifest, ResourceName};
use crate::resident::{Mismatch, OnDevice};
use crate::time::UnixTime;
use crate::tree::GroupSize;
use crate::verify::{Identity, Verified};

/// How memory is sealed.
#[derive(Debug, Clone)]
pub struct SealOptions {
    /// The seal's name, in reports and metrics.
    pub name: String,
    /// What a change is narrowed down to, and the least that is measured at a time. Each takes 48 bytes of the host's
    /// memory.
    pub group: GroupSize,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for SealOptions {
    /// Groups of 1 MiB, the system's clock.
    fn default() -> Self {
        let clock = Arc::new(SystemClock::default());
        Self { name: "weights".to_owned(), group: GroupSize::at_most(1 << 20), clock }
    }
}

/// What was known of memory when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// Nothing but its bytes.
    Measured,
    /// The bytes of each region were those of the signed resource of that name.
    Signed {
        /// Who signed.
        identity: Identity,
        /// The signed root digest of the model.
        root: Digest,
    },
}

/// Named device memory, and what was in it. It holds no memory: whoever asks whether it is unchanged, shows it again.
#[derive(Debug)]
pub struct Seal {
    options: SealOptions,
    admission: Admission,
    since: SystemTime,
    /// In the order of their names.
    regions: Vec<Sealed>,
    /// The region, and the group in it, with which the next call begins.
    cursor: (usize, u64),
    account: Account,
    broken: Option<Broken>,
    counters: Counters,
}

/// What is measured in one step.
struct Turn {
    /// Regions by their index, and groups of them.
    wanted: Vec<(usize, Range<u64>)>,
    /// The region, and the group in it, with which the next step begins.
    next: (usize, u64),
    bytes: u64,
}

/// What was measured again is what was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unchanged {
    /// The seal's name.
    pub seal: String,
    /// When the memory was sealed.
    pub since: SystemTime,
    /// When this call ended.
    pub at: SystemTime,
    /// Bytes that were measured again, never none.
    pub bytes: u64,
    /// Bytes sealed.
    pub total: u64,
    /// How long it is that some byte was last found unchanged.
    pub oldest: Duration,
    /// What was known when it was sealed.
    pub admission: Admission,
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: unchanged since {}: {} of {} bytes measured again at {}, no byte confirmed longer than {:.1} s ago; when sealed, ",
            quoted(&self.seal),
            UnixTime::from(self.since),
            self.bytes,
            self.total,
            UnixTime::from(self.at),
            self.oldest.as_secs_f64(),
        )?;
        match &self.admission {
            Admission::Measured => f.write_str("they were measured and compared with nothing"),
            Admission::Signed { identity, root } => {
                write!(f, "they were verified: those of model {root}, signed by {identity}")
            }
        }
    }
}

/// When some bytes were last found to be what was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed {
    /// The region.
    pub name: String,
    /// Its bytes.
    pub range: Range<u64>,
    /// How long ago their measuring began.
    pub age: Duration,
}

impl Seal {
    /// Measures all regions, whatever is in them, and keeps what was found.
    ///
    /// # Errors
    /// [`Error::Seal`] for what cannot be sealed, [`Error::Device`] if a device fails.
    pub fn take<B: Backend>(
        devices: &[OnDevice<'_, B>],
        regions: &[Region<'_, B::Buffer>],
        options: SealOptions,
    ) -> Result<Self, Error> {
        let admitted = admit(devices, regions, &options, None)?;
        Ok(Self::new(admitted, Admission::Measured, options))
    }

    /// The same of memory that holds signed files whole, each region named as its resource. What was measured is
    /// compared with what was signed, so that there is no moment between the check and the seal.
    ///
    /// # Errors
    /// [`VerifyError::Resident`] and [`VerifyError::NoSuchDigest`] in [`Error::Verify`] if a region is not what was signed
    /// by that name; others as for [`Seal::take`].
    pub fn take_signed<B: Backend>(
        devices: &[OnDevice<'_, B>],
        regions: &[Region<'_, B::Buffer>],
        signed: &Verified<Manifest>,
        options: SealOptions,
    ) -> Result<Self, Error> {
        let admitted = admit(devices, regions, &options, Some(signed))?;
        let admission = Admission::Signed { identity: signed.identity().clone(), root: signed.root() };
        Ok(Self::new(admitted, admission, options))
    }

    fn new(admitted: Admitted, admission: Admission, options: SealOptions) -> Self {
        let Admitted { regions, since, at } = admitted;
        let (account, counters) = (Account::new(at), Counters::default());
        Self { options, admission, since, regions, cursor: (0, 0), account, broken: None, counters }
    }

    /// Measures the memory again, or as much of it as the budget allows, going on where the last call ended. All regions
    /// must be shown, those whose turn it is not, too: each must be the same memory as when it was sealed.
    ///
    /// # Errors
    /// [`VerifyError::Seal`] in [`Error::Verify`] if bytes have changed, a region has vanished, is new, or is other memory;
    /// from then on always, until [`Seal::reseal`]. [`Error::Seal`] and [`Error::Device`]: there is no answer, and nothing
    /// counts as confirmed that was not found unchanged.
    pub fn reverify<B: Backend>(
        &mut self,
        devices: &[OnDevice<'_, B>],
        regions: &[Region<'_, B::Buffer>],
        budget: Budget,
    ) -> Result<Unchanged, Error> {
        let result = self.measure_again(devices, regions, budget);
        let outcome = match &result {
            Ok(_) => Outcome::Unchanged,
            Err(error) if error.refusal().is_some() => Outcome::Broken,
            Err(_) => Outcome::NoAnswer,
        };
        self.counters.ran(outcome);
        result
    }

    fn measure_again<B: Backend>(
        &mut self,
        devices: &[OnDevice<'_, B>],
        regions: &[Region<'_, B::Buffer>],
        budget: Budget,
    ) -> Result<Unchanged, Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone().into());
        }
        let budget = budget.check()?;
        let regions = Regions::new(regions, devices.len())?;
        self.hold(regions.findings(&self.regions, devices))?;

        let total = self.total();
        let mut bytes = 0;
        self.account.open(budget, self.options.clock.ticks());
        while bytes < total {
            let most = self.account.next(budget, self.options.group.bytes()).min(total - bytes);
            let Turn { wanted, next, bytes: count } = self.next_groups(most, bytes == 0);
            if wanted.is_empty() {
                break;
            }
            let begun = self.options.clock.ticks();
            let found = regions.measure(devices, &self.regions, &wanted)?;
            let mut findings: Vec<Finding> = Vec::new();
            for ((index, groups), values) in wanted.iter().zip(&found) {
                let Some(region) = self.regions.get_mut(*index) else { continue };
                let at = region.compare(groups.start, values, begun);
                if !at.is_empty() {
                    findings.push(Finding::Changed { name: region.name.clone(), at });
                }
            }
            self.counters.bytes = self.counters.bytes.wrapping_add(count);
            self.hold(findings)?;
            self.account.spend(count, self.options.clock.ticks().saturating_sub(begun));
            self.cursor = next;
            bytes += count;
        }
        self.account.close(budget, bytes >= total);
        let (seal, at) = (self.options.name.clone(), self.options.clock.wall());
        let (since, oldest, admission) = (self.since, self.oldest(), self.admission.clone());
        Ok(Unchanged { seal, since, at, bytes, total, oldest, admission })
    }

    /// Breaks, if anything was found.
    fn hold(&mut self, findings: Vec<Finding>) -> Result<(), Error> {
        if findings.is_empty() {
            return Ok(());
        }
        let (seal, at) = (self.options.name.clone(), self.options.clock.wall());
        let broken = Broken { seal, since: self.since, at, findings };
        self.broken = Some(broken.clone());
        Err(broken.into())
    }

    /// Groups from the cursor on, of at most `most` bytes, or `some` of more if no less will do.
    fn next_groups(&self, most: u64, some: bool) -> Turn {
        let (mut wanted, mut count): (Vec<(usize, Range<u64>)>, u64) = (Vec::new(), 0);
        let (mut index, mut first) = self.cursor;
        while let Some(region) = self.regions.get(index) {
            let left = most.saturating_sub(count);
            let rest = region.bytes(&(first..region.groups()));
            // The last group of a region may be short.
            let whole = rest.end - rest.start <= left;
            let mut end = if whole { region.groups() } else { first + left / region.tree.group().bytes() };
            if end == first && count == 0 && some {
                end += 1;
            }
            if end == first {
                break;
            }
            let bytes = region.bytes(&(first..end));
            count += bytes.end - bytes.start;
            wanted.push((index, first..end));
            first = end;
            if first == region.groups() {
                (index, first) = ((index + 1) % self.regions.len(), 0);
            }
            if count >= most {
                break;
            }
        }
        Turn { wanted, next: (index, first), bytes: count }
    }

    /// Takes the seal anew, over whatever is in these regions now: what was known of them before counts no more. For
    /// whoever has changed weights on purpose, or has looked into a broken seal. Counters go on.
    ///
    /// # Errors
    /// Those of [`Seal::take`]; the seal is then what it was.
    pub fn reseal<B: Backend>(
        &mut self,
        devices: &[OnDevice<'_, B>],
        regions: &[Region<'_, B::Buffer>],
    ) -> Result<(), Error> {
        let Admitted { regions, since, at } = admit(devices, regions, &self.options, None)?;
        (self.regions, self.since, self.account) = (regions, since, Account::new(at));
        (self.cursor, self.broken, self.admission) = ((0, 0), None, Admission::Measured);
        Ok(())
    }

    /// When the memory was sealed, or sealed anew.
    #[must_use]
    pub const fn since(&self) -> SystemTime {
        self.since
    }

    /// What was known of it then.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What was found, if the seal is broken.
    #[must_use]
    pub const fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Bytes sealed.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.regions.iter().map(|region| region.tree.len()).sum()
    }

    /// How long it is that some byte was last found to be what was sealed. It grows while the seal is broken.
    #[must_use]
    pub fn oldest(&self) -> Duration {
        let now = self.options.clock.ticks();
        let oldest = self.regions.iter().flat_map(|region| &region.confirmed).min();
        oldest.map_or(Duration::ZERO, |oldest| now.saturating_sub(*oldest))
    }

    /// For all bytes, when they were last found to be what was sealed: regions by name, neighbours of one age joined.
    #[must_use]
    pub fn coverage(&self) -> Vec<Confirmed> {
        let now = self.options.clock.ticks();
        let mut coverage: Vec<Confirmed> = Vec::new();
        for region in &self.regions {
            for (group, confirmed) in (0..).zip(&region.confirmed) {
                let (range, age) = (region.bytes(&(group..group + 1)), now.saturating_sub(*confirmed));
                match coverage.last_mut() {
                    Some(last) if last.age == age && last.name == region.name => last.range.end = range.end,
                    _ => coverage.push(Confirmed { name: region.name.clone(), range, age }),
                }
            }
        }
        coverage
    }

    /// Bytes sealed on each device.
    fn by_device(&self) -> Vec<(DeviceKind, u64)> {
        let mut devices: Vec<(DeviceKind, u64)> = Vec::new();
        for region in &self.regions {
            match devices.iter_mut().find(|(device, _)| *device == region.device) {
                Some((_, bytes)) => *bytes += region.tree.len(),
                None => devices.push((region.device.clone(), region.tree.len())),
            }
        }
        devices
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        VerifyError::Seal(Box::new(broken)).into()
    }
}

/// Regions that were measured, and when: for people, and by the clock's ticks.
struct Admitted {
    regions: Vec<Sealed>,
    since: SystemTime,
    at: Duration,
}

/// Measures regions for the first time, and compares them with what was signed if that is given.
fn admit<B: Backend>(
    devices: &[OnDevice<'_, B>],
    regions: &[Region<'_, B::Buffer>],
    options: &SealOptions,
    signed: Option<&Verified<Manifest>>,
) -> Result<Admitted, Error> {
    let regions = Regions::new(regions, devices.len())?;
    let mut sealed = regions.blank(devices, options.group)?;
    let at = options.clock.ticks();
    let all: Vec<_> = sealed.iter().enumerate().map(|(index, region)| (index, 0..region.groups())).collect();
    let values = regions.measure(devices, &sealed, &all)?;
    for (region, values) in sealed.iter_mut().zip(values) {
        region.confirmed = vec![at; values.len()];
        region.values = values;
    }
    if let Some(signed) = signed {
        let digests = regions.digests(devices, &mut sealed)?;
        let mut differences = Vec::new();
        for (region, found) in sealed.iter().zip(digests) {
            let name = || ResourceName::of_file(&region.name, None);
            let Some(resource) = signed.get(&region.name) else {
                differences.push((name(), Difference::Unsigned));
                continue;
            };
            let algorithm = Algorithm::Blake3;
            let none = || VerifyError::NoSuchDigest { name: region.name.clone(), algorithm };
            let expected = resource.digest_by(algorithm).ok_or_else(none)?;
            if expected != found {
                let (expected_size, found_size) = (resource.size, region.tree.len());
                differences.push((name(), Difference::Changed { expected, found, expected_size, found_size }));
            }
        }
        if !differences.is_empty() {
            let devices = devices.iter().map(|device| device.backend.kind()).collect();
            let at = options.clock.wall();
            return Err(Mismatch::Differs { differences: Differences(differences), at, devices }.into());
        }
    }
    Ok(Admitted { regions: sealed, since: options.clock.wall(), at })
}
