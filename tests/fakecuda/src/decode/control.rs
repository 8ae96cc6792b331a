//! Branches, barriers, and what the lanes of a warp do together.

use super::op::{Meeting, Op, Reduction, Shuffle, Together, Vote};
use super::{Decoder, Refused, not_modelled, operands};
use crate::ptx::Operand;

impl Decoder {
    pub(super) fn control(&mut self, name: &str, list: &[Operand]) -> Result<Op, Refused> {
        Ok(match (name, list) {
            ("bra" | "bra.uni", [Operand::Label(to)]) => Op::Branch(*to),
            ("ret" | "ret.uni" | "exit", []) => Op::Exit,
            ("trap", []) => Op::Trap,
            // Barrier 0 of the whole block: the only one that __syncthreads() makes.
            ("bar.sync" | "barrier.sync.aligned", [Operand::Immediate(0)]) => Op::BlockBarrier,
            ("bar.warp.sync", [members]) => self.meet(members, Together::Barrier)?,
            ("shfl.sync.idx.b32", _) => self.shuffle(Shuffle::Index, list)?,
            ("shfl.sync.up.b32", _) => self.shuffle(Shuffle::Up, list)?,
            ("shfl.sync.down.b32", _) => self.shuffle(Shuffle::Down, list)?,
            ("shfl.sync.bfly.b32", _) => self.shuffle(Shuffle::Butterfly, list)?,
            ("redux.sync.add.u32" | "redux.sync.add.s32", _) => self.reduce(Reduction::Add, list)?,
            ("redux.sync.min.u32", _) => self.reduce(Reduction::MinUnsigned, list)?,
            ("redux.sync.min.s32", _) => self.reduce(Reduction::MinSigned, list)?,
            ("redux.sync.max.u32", _) => self.reduce(Reduction::MaxUnsigned, list)?,
            ("redux.sync.max.s32", _) => self.reduce(Reduction::MaxSigned, list)?,
            ("redux.sync.and.b32", _) => self.reduce(Reduction::And, list)?,
            ("redux.sync.or.b32", _) => self.reduce(Reduction::Or, list)?,
            ("redux.sync.xor.b32", _) => self.reduce(Reduction::Xor, list)?,
            ("vote.sync.all.pred", [to, from, members]) => {
                let how = Vote::All(self.p(to)?);
                self.vote(how, from, members)?
            }
            ("vote.sync.any.pred", [to, from, members]) => {
                let how = Vote::Any(self.p(to)?);
                self.vote(how, from, members)?
            }
            ("vote.sync.uni.pred", [to, from, members]) => {
                let how = Vote::Uniform(self.p(to)?);
                self.vote(how, from, members)?
            }
            ("vote.sync.ballot.b32", [to, from, members]) => {
                let how = Vote::Ballot(self.n(to)?);
                self.vote(how, from, members)?
            }
            ("match.any.sync.b32", [to, from, members]) => {
                let what = Together::MatchAny { to: self.n(to)?, from: self.n(from)? };
                self.meet(members, what)?
            }
            ("activemask.b32", [to]) => Op::ActiveMask(self.n(to)?),
            _ => return Err(not_modelled()),
        })
    }

    fn meet(&mut self, members: &Operand, what: Together) -> Result<Op, Refused> {
        Ok(Op::Meet(Meeting { members: self.n(members)?, what }))
    }

    /// `to{|valid}, from, lane, clamp, members`.
    fn shuffle(&mut self, how: Shuffle, list: &[Operand]) -> Result<Op, Refused> {
        let [to, from, lane, clamp, members] = list else { return Err(operands()) };
        let (to, valid) = match to {
            Operand::Pair(to, valid) => (self.n(&Operand::Register(*to))?, Some(self.p(&Operand::Register(*valid))?)),
            _ => (self.n(to)?, None),
        };
        let (from, lane, clamp) = (self.n(from)?, self.n(lane)?, self.n(clamp)?);
        self.meet(members, Together::Shuffle { how, to, valid, from, lane, clamp })
    }

    fn reduce(&mut self, how: Reduction, list: &[Operand]) -> Result<Op, Refused> {
        let [to, from, members] = list else { return Err(operands()) };
        let what = Together::Reduce { how, to: self.n(to)?, from: self.n(from)? };
        self.meet(members, what)
    }

    fn vote(&mut self, how: Vote, from: &Operand, members: &Operand) -> Result<Op, Refused> {
        let (from, negated) = match from {
            Operand::Not(register) => (self.p(&Operand::Register(*register))?, true),
            _ => (self.p(from)?, false),
        };
        self.meet(members, Together::Vote { how, from, negated })
    }
}
