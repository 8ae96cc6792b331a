//! How much is measured again at a time.

use std::time::Duration;

use super::error::SealError;

/// Bytes that are asked of the devices in one go: a part of a second, so that a budget of time is kept.
const STEP: u64 = 256 << 20;

/// The first of these under a budget of time, when nothing is known of how fast they are.
const FIRST: u64 = 16 << 20;

/// How much a call of [`Seal::reverify`](super::Seal::reverify) measures, from where the one before it ended. It is at
/// least one group and at most everything once, whatever the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Everything.
    All,
    /// At most so many bytes.
    Bytes(u64),
    /// What fits into so much time, as far as the speed of what was measured before tells.
    Time(Duration),
    /// So many for each second since the last call. What one call takes too much, because a group is a group, the next
    /// ones take less.
    BytesPerSecond(u64),
    /// This share of the time since the last call, above 0 and up to 1: the device is busy with measuring for no more of
    /// it.
    Share(f64),
}

impl Budget {
    /// # Errors
    /// [`SealError::NoBudget`].
    pub(super) fn check(self) -> Result<Self, SealError> {
        let some = match self {
            Self::All => true,
            Self::Time(time) => !time.is_zero(),
            Self::Bytes(bytes) | Self::BytesPerSecond(bytes) => bytes > 0,
            Self::Share(share) => share > 0.0 && share <= 1.0,
        };
        if some { Ok(self) } else { Err(SealError::NoBudget) }
    }
}

/// What is left of budgets from call to call, also if that is less than nothing.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Up to here time was turned into credit.
    at: Duration,
    bytes: i128,
    nanos: i128,
    /// What the last step took: bytes, nanoseconds.
    last: Option<(u64, u64)>,
}

impl Account {
    pub(super) fn new(at: Duration) -> Self {
        Self { at, ..Self::default() }
    }

    /// A call begins.
    pub(super) fn open(&mut self, budget: Budget, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_nanos() as i128;
        self.at = now;
        match budget {
            Budget::All => {}
            // Nothing is left over from call to call.
            Budget::Bytes(bytes) => self.bytes = bytes.into(),
            Budget::Time(time) => self.nanos = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX),
            Budget::BytesPerSecond(rate) => {
                self.bytes = self.bytes.saturating_add(i128::from(rate).saturating_mul(elapsed) / 1_000_000_000);
            }
            Budget::Share(share) => {
                self.nanos = self.nanos.saturating_add((elapsed as f64 * share) as i128);
            }
        }
    }

    /// How many bytes come next; 0 if there is no credit. A step has room for one group of `group` bytes, however long.
    pub(super) fn next(&self, budget: Budget, group: u64) -> u64 {
        let credit = |credit: i128| u64::try_from(credit.max(0)).unwrap_or(u64::MAX);
        let step = STEP.max(group);
        match budget {
            Budget::All => step,
            Budget::Bytes(_) | Budget::BytesPerSecond(_) => credit(self.bytes).min(step),
            Budget::Time(_) | Budget::Share(_) if self.nanos <= 0 => 0,
            Budget::Time(_) | Budget::Share(_) => self.last.map_or(FIRST, |(bytes, nanos)| {
                let fits = u128::from(bytes) * u128::from(credit(self.nanos)) / u128::from(nanos.max(1));
                u64::try_from(fits).unwrap_or(u64::MAX).clamp(1, step)
            }),
        }
    }

    /// A step is done.
    pub(super) fn spend(&mut self, bytes: u64, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_sub(bytes.into());
        self.nanos = self.nanos.saturating_sub(nanos.into());
        self.last = Some((bytes, nanos));
    }

    /// A call ends. Credit that a whole round has left is not kept: nobody wants it all at once later. Debt is.
    pub(super) fn close(&mut self, budget: Budget, whole: bool) {
        match budget {
            // Such a call says for itself how much it may take.
            Budget::All | Budget::Bytes(_) | Budget::Time(_) => (self.bytes, self.nanos) = (0, 0),
            Budget::BytesPerSecond(_) | Budget::Share(_) if whole => {
                (self.bytes, self.nanos) = (self.bytes.min(0), self.nanos.min(0));
            }
            Budget::BytesPerSecond(_) => self.nanos = 0,
            Budget::Share(_) => self.bytes = 0,
        }
    }
}
