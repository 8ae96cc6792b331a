//! What the lanes of a warp do together: barriers, shuffles, reductions, votes.

use super::registers::{LANES, Mask, Registers, lanes};
use super::warp::{Flow, Warp};
use super::{Fault, broken};
use crate::decode::op::{Meeting, N, Reduction, Shuffle, Together, Vote};

/// What a shuffle gives from a lane that does not take part: CUDA leaves it undefined.
const FROM_NOBODY: u32 = 0xDEAD_5F1E;

impl Warp {
    /// Lanes come to a meeting. If none is missing they do it at once, else they wait.
    pub(super) fn arrive(&mut self, meeting: &Meeting, active: Mask, _at: u32) -> Result<Flow, Fault> {
        // The usual case first: all that live are here and mean each other.
        let wanted = self.registers.n(meeting.members);
        let same = lanes(active).all(|lane| wanted[lane] & self.alive == active);
        if same {
            self.hold(meeting, active)?;
            return Ok(Flow::Met);
        }
        Ok(Flow::Wait)
    }

    /// Of the lanes `here`, which wait at one meeting, does it for each set that is complete. Returns who took part.
    pub(super) fn meet_complete(&mut self, meeting: &Meeting, here: Mask) -> Result<Mask, Fault> {
        let (mut gone, mut rest) = (0, here);
        while rest != 0 {
            let members = self.registers.n(meeting.members)[rest.trailing_zeros() as usize];
            let wanted = self.registers.n(meeting.members);
            let set = lanes(rest).filter(|&lane| wanted[lane] == members).fold(0, |mask, lane| mask | 1 << lane);
            rest &= !set;
            if members & set != set {
                return Err(broken(format!("lanes outside their own mask {members:#010x}")));
            }
            if members & self.alive == set {
                self.hold(meeting, set)?;
                gone |= set;
            }
        }
        Ok(gone)
    }

    fn hold(&mut self, meeting: &Meeting, set: Mask) -> Result<(), Fault> {
        let registers = &mut self.registers;
        match meeting.what {
            Together::Barrier => {}
            Together::Shuffle { how, to, valid, from, lane, clamp } => {
                let (values, by, clamps) = (*registers.n(from), *registers.n(lane), *registers.n(clamp));
                let (mut results, mut inside) = ([0; LANES], 0);
                for one in lanes(set) {
                    let (source, found) = source_lane(how, one as u32, by[one], clamps[one]);
                    inside |= Mask::from(found) << one;
                    let present = set >> source & 1 == 1;
                    results[one] = if present { values[source as usize] } else { FROM_NOBODY };
                }
                lanes(set).for_each(|one| registers.narrow[usize::from(to.0)][one] = results[one]);
                if let Some(valid) = valid {
                    registers.set_predicate(valid, set, inside);
                }
            }
            Together::Reduce { how, to, from } => {
                let values = *registers.n(from);
                let Some(result) = lanes(set).map(|lane| values[lane]).reduce(|a, b| reduced(how, a, b)) else {
                    return Err(broken("a reduction of no lane"));
                };
                registers.fill32_active(set, to, result);
            }
            Together::Vote { how, from, negated } => {
                let votes = (registers.predicate(from) ^ if negated { Mask::MAX } else { 0 }) & set;
                let whole = |yes: bool| if yes { Mask::MAX } else { 0 };
                match how {
                    Vote::All(to) => registers.set_predicate(to, set, whole(votes == set)),
                    Vote::Any(to) => registers.set_predicate(to, set, whole(votes != 0)),
                    Vote::Uniform(to) => registers.set_predicate(to, set, whole(votes == set || votes == 0)),
                    Vote::Ballot(to) => registers.fill32_active(set, to, votes),
                }
            }
            Together::MatchAny { to, from } => {
                let values = *registers.n(from);
                for lane in lanes(set) {
                    let same = lanes(set).filter(|&other| values[other] == values[lane]);
                    registers.narrow[usize::from(to.0)][lane] = same.fold(0, |mask, other| mask | 1 << other);
                }
            }
        }
        Ok(())
    }
}

/// `shfl`: the lane that is read, and whether it was in range; if not, a lane reads itself. `clamp` holds the last
/// lane of a segment in its low five bits, and from bit 8 on which bits of a lane's number name its segment.
fn source_lane(how: Shuffle, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let (by, end, segment) = (by & 31, clamp & 31, clamp >> 8 & 31);
    let first = lane & segment;
    let last = first | end & !segment;
    let (source, inside) = match how {
        Shuffle::Up => {
            let source = i64::from(lane) - i64::from(by);
            (source, source >= i64::from(last))
        }
        Shuffle::Down => (i64::from(lane + by), lane + by <= last),
        Shuffle::Butterfly => (i64::from(lane ^ by), lane ^ by <= last),
        Shuffle::Index => {
            let source = first | by & !segment;
            (i64::from(source), source <= last)
        }
    };
    if inside { (source as u32, true) } else { (lane, false) }
}

fn reduced(how: Reduction, a: u32, b: u32) -> u32 {
    match how {
        Reduction::Add => a.wrapping_add(b),
        Reduction::And => a & b,
        Reduction::Or => a | b,
        Reduction::Xor => a ^ b,
        Reduction::MinUnsigned => a.min(b),
        Reduction::MaxUnsigned => a.max(b),
        Reduction::MinSigned => a.cast_signed().min(b.cast_signed()).cast_unsigned(),
        Reduction::MaxSigned => a.cast_signed().max(b.cast_signed()).cast_unsigned(),
    }
}

impl Registers {
    /// The same value in all lanes of `active`.
    pub(super) fn fill32_active(&mut self, active: Mask, to: N, value: u32) {
        lanes(active).for_each(|lane| self.narrow[usize::from(to.0)][lane] = value);
    }
}
