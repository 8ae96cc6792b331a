//! One warp: which lanes run next, and where they go.
//!
//! Each lane has its own place in the code. Those at the lowest place run, together, until they reach the next lane
//! or part: so lanes that diverged meet again where their paths join. In the serial order one lane runs alone until
//! it waits for others or ends.

use super::copies::Copies;
use super::registers::{LANES, Mask, Registers, lanes};
use super::{Fault, Launch, Order, Room, broken};
use crate::decode::Step;
use crate::decode::op::Op;
use crate::error::{Code, LAUNCH_TIMEOUT};
use crate::ptx::Special;

/// Steps of a warp without an end after which a kernel is taken to hang.
const STEPS: u64 = 1 << 32;

pub(super) struct Warp {
    number: u32,
    pub(super) registers: Registers,
    /// Where each lane is.
    place: [u32; LANES],
    /// The lanes that have not ended.
    pub(super) alive: Mask,
    /// Of them, those that wait at the barrier or meeting where they are.
    waiting: Mask,
    pub(super) copies: Copies,
    steps: u64,
}

/// What an instruction does to where its lanes are.
pub(super) enum Flow {
    Next,
    Jump(u32),
    End,
    /// Stay until the others come.
    Wait,
    /// What the lanes did together is done; in the serial order they part again here.
    Met,
}

impl Warp {
    pub(super) fn new(number: u32, launch: &Launch<'_>) -> Self {
        Self {
            number,
            registers: Registers::new(&launch.program.files),
            place: [0; LANES],
            alive: 0,
            waiting: 0,
            copies: Copies::new(launch.order == Order::Adverse),
            steps: 0,
        }
    }

    /// Back to the first instruction, as a warp of the block at `block`.
    pub(super) fn start(&mut self, launch: &Launch<'_>, block: [u32; 3]) {
        let threads: u32 = launch.block.iter().product();
        let mine = (threads - self.number * 32).min(32);
        self.alive = Mask::MAX >> (32 - mine);
        (self.waiting, self.place, self.steps) = (0, [0; LANES], 0);
        self.copies.clear();
        let files = &launch.program.files;
        self.registers.reset(files);
        let ([columns, rows, _], number) = (launch.block, self.number);
        for &(slot, special) in &files.specials {
            self.registers.fill32(slot, |lane| {
                let thread = number * 32 + lane as u32;
                match special {
                    Special::Thread(0) => thread % columns,
                    Special::Thread(1) => thread / columns % rows,
                    Special::Thread(_) => thread / columns / rows,
                    Special::BlockSize(axis) => launch.block[usize::from(axis)],
                    Special::Block(axis) => block[usize::from(axis)],
                    Special::GridSize(axis) => launch.grid[usize::from(axis)],
                    Special::Lane => lane as u32,
                    Special::Warp => number,
                }
            });
        }
    }

    /// Runs until every lane has ended or stands at the barrier of the block.
    pub(super) fn run(&mut self, room: &mut Room<'_>) -> Result<(), Fault> {
        let serial = room.launch.order == Order::Serial;
        loop {
            let ready = self.alive & !self.waiting;
            if ready == 0 {
                if self.release(room)? {
                    continue;
                }
                return Ok(());
            }
            let first = if serial { ready.trailing_zeros() as usize } else { self.lowest(ready) };
            let at = self.place[first];
            let together = if serial { 1 << first } else { self.lanes_at(ready, at) };
            // Where the next lanes wait to be joined.
            let rest = if serial { 0 } else { ready & !together };
            let limit = lanes(rest).map(|lane| self.place[lane]).min().unwrap_or(u32::MAX);
            self.advance(room, together, at, limit)?;
        }
    }

    /// Runs the lanes of `together` from `at` until they part, wait, end, or come to `limit`.
    fn advance(&mut self, room: &mut Room<'_>, together: Mask, mut at: u32, limit: u32) -> Result<(), Fault> {
        let launch = room.launch;
        let code = &launch.program.code;
        loop {
            self.steps += 1;
            let step = &code[at as usize];
            let active = self.guarded(step, together);
            let flow = if active == 0 { Ok(Flow::Next) } else { self.execute(room, &step.op, active, at) };
            let flow = flow.map_err(|fault| self.describe(launch, step, active, fault))?;
            if self.steps > STEPS {
                return Err(self.describe(launch, step, active, Fault::new(LAUNCH_TIMEOUT, "it does not end")));
            }
            at = match flow {
                Flow::Next => at + 1,
                Flow::Met if launch.order != Order::Serial => at + 1,
                Flow::Jump(to) if active == together => to,
                parting => {
                    self.put(together & !active, at + 1);
                    match parting {
                        Flow::Jump(to) => self.put(active, to),
                        Flow::End => self.alive &= !active,
                        Flow::Wait => {
                            self.put(active, at);
                            self.waiting |= active;
                        }
                        Flow::Met | Flow::Next => self.put(active, at + 1),
                    }
                    return Ok(());
                }
            };
            if at >= limit {
                self.put(together, at);
                return Ok(());
            }
        }
    }

    fn guarded(&self, step: &Step, together: Mask) -> Mask {
        match step.guard {
            None => together,
            Some((predicate, false)) => together & self.registers.predicate(predicate),
            Some((predicate, true)) => together & !self.registers.predicate(predicate),
        }
    }

    #[inline(always)]
    fn execute(&mut self, room: &mut Room<'_>, op: &Op, active: Mask, at: u32) -> Result<Flow, Fault> {
        let registers = &mut self.registers;
        match *op {
            Op::Binary32(what, to, a, b) => registers.binary32(active, what, to, a, b),
            Op::Funnel { how, to, low, high, by } => registers.funnel(active, how, to, [low, high], by),
            Op::MultiplyAdd32(to, a, b, c) => registers.multiply_add32(active, to, a, b, c),
            Op::Shift32(what, to, a, by) => registers.shift32(active, what, to, a, by),
            Op::Move32(to, from) => registers.move32(active, to, from),
            Op::Move64(to, from) => registers.move64(active, to, from),
            Op::MovePredicate(to, from) => registers.set_predicate(to, active, registers.predicate(from)),
            Op::Pack(to, low, high) => registers.pack(active, to, low, high),
            Op::Unpack(low, high, from) => registers.unpack(active, low, high, from),
            Op::Unary32(what, to, a) => registers.unary32(active, what, to, a),
            Op::Unary64(what, to, a) => registers.unary64(active, what, to, a),
            Op::Count32(what, to, a) => registers.count32(active, what, to, a),
            Op::Count64(what, to, a) => registers.count64(active, what, to, a),
            Op::Binary16(what, to, a, b) => registers.binary16(active, what, to, a, b),
            Op::Binary64(what, to, a, b) => registers.binary64(active, what, to, a, b),
            // The factors are zero-extended: their product is whole in 32 bits.
            Op::MultiplyWide16(to, a, b) => {
                registers.binary32(active, crate::decode::op::Binary::MultiplyLow, to, a, b);
            }
            Op::MultiplyWide { signed, to, a, b } => registers.multiply_wide(active, signed, to, a, b),
            Op::MultiplyAdd64(to, a, b, c) => registers.multiply_add64(active, to, a, b, c),
            Op::MultiplyAddHigh(to, a, b, c) => registers.multiply_add_high(active, to, a, b, c),
            Op::MultiplyAddWide { signed, to, a, b, c } => {
                registers.multiply_add_wide(active, signed, to, [a, b], c);
            }
            Op::Shift64(what, to, a, by) => registers.shift64(active, what, to, a, by),
            Op::Permute { to, a, b, selector } => registers.permute(active, to, a, b, selector),
            Op::Lop3 { table, to, a, b, c } => registers.lop3(active, table, to, [a, b, c]),
            Op::Insert32 { to, field, into, position, length } => {
                registers.insert32(active, to, [field, into, position, length]);
            }
            Op::Insert64 { to, field, into, position, length } => {
                registers.insert64(active, to, [field, into], [position, length]);
            }
            Op::Extract32 { signed, to, from, position, length } => {
                registers.extract32(active, signed, to, [from, position, length]);
            }
            Op::Extract64 { signed, to, from, position, length } => {
                registers.extract64(active, signed, to, from, [position, length]);
            }
            Op::Compare32(compare, a, b) => registers.compare32(active, compare, a, b),
            Op::Compare64(compare, a, b) => registers.compare64(active, compare, a, b),
            Op::Select32 { to, yes, no, by } => registers.select32(active, to, yes, no, by),
            Op::Select64 { to, yes, no, by } => registers.select64(active, to, yes, no, by),
            Op::Logic(what, to, a, b) => registers.logic(active, what, to, a, b),
            Op::NotPredicate(to, from) => registers.set_predicate(to, active, !registers.predicate(from)),
            Op::Convert { to, target, from, source } => registers.convert(active, to, target, from, source),
            Op::GenericToShared(to, from) => registers.generic_to_shared(active, to, from),
            Op::SharedToGeneric(to, from) => registers.shared_to_generic(active, to, from),
            Op::Load(access) => registers.load(active, room, &access)?,
            Op::Store(access) => registers.store(active, room, &access)?,
            Op::LoadParameter { to, count, element, offset } => {
                registers.load_parameter(active, room.launch.parameters, &to[..count.into()], element, offset)?;
            }
            Op::ActiveMask(to) => registers.fill32_active(active, to, active),
            Op::CopyAsync { to, from, bytes, read } => self.copy_async(room, active, [to, from], bytes, read)?,
            Op::CopyCommit => self.copies.commit(active),
            Op::CopyWait(groups) => self.copies.wait(active, Some(groups), room)?,
            Op::CopyWaitAll => self.copies.wait(active, None, room)?,
            Op::Branch(to) => return Ok(Flow::Jump(to)),
            Op::Exit => return Ok(Flow::End),
            Op::Trap => return Err(broken("trap")),
            Op::BlockBarrier => return Ok(Flow::Wait),
            Op::Meet(meeting) => return self.arrive(&meeting, active, at),
        }
        Ok(Flow::Next)
    }

    fn put(&mut self, mask: Mask, at: u32) {
        lanes(mask).for_each(|lane| self.place[lane] = at);
    }

    fn lowest(&self, ready: Mask) -> usize {
        lanes(ready).min_by_key(|&lane| self.place[lane]).unwrap_or(0)
    }

    fn lanes_at(&self, of: Mask, at: u32) -> Mask {
        lanes(of).filter(|&lane| self.place[lane] == at).fold(0, |mask, lane| mask | 1 << lane)
    }

    /// No lane can go on. Lets those go whose meeting is complete; false if all are at the barrier of the block, or
    /// have ended.
    fn release(&mut self, room: &Room<'_>) -> Result<bool, Fault> {
        let launch = room.launch;
        let (mut rest, mut places, mut met) = (self.waiting, 0, false);
        while rest != 0 {
            let at = self.place[rest.trailing_zeros() as usize];
            let here = self.lanes_at(self.waiting, at);
            rest &= !here;
            let step = &launch.program.code[at as usize];
            match step.op {
                Op::Meet(meeting) => {
                    let gone = self.meet_complete(&meeting, here);
                    let gone = gone.map_err(|fault| self.describe(launch, step, here, fault))?;
                    self.waiting &= !gone;
                    self.put(gone, at + 1);
                    met |= gone != 0;
                }
                _ => places += 1,
            }
        }
        if met || self.alive == 0 {
            return Ok(met);
        }
        // All that wait are at block barriers, or nobody can ever go on.
        let at = self.place[self.waiting.trailing_zeros() as usize];
        let step = &launch.program.code[at as usize];
        let all_at_barriers = lanes(self.waiting)
            .all(|lane| matches!(launch.program.code[self.place[lane] as usize].op, Op::BlockBarrier));
        match (all_at_barriers, places) {
            (true, 1) => Ok(false),
            (true, _) => {
                let fault = broken("the lanes of a warp are at different barriers of the block");
                Err(self.describe(launch, step, self.waiting, fault))
            }
            (false, _) => {
                let fault = broken("deadlock: lanes wait for lanes that never come");
                Err(self.describe(launch, step, self.waiting, fault))
            }
        }
    }

    /// The barrier of the block is complete: on to the next instruction. False if no lane was there.
    pub(super) fn pass_block_barrier(&mut self) -> bool {
        let passing = std::mem::take(&mut self.waiting);
        lanes(passing).for_each(|lane| self.place[lane] += 1);
        passing != 0
    }

    fn describe(&self, launch: &Launch<'_>, step: &Step, active: Mask, fault: Fault) -> Fault {
        let Fault { code: Code(code), message } = fault;
        let (name, line, number) = (&launch.program.kernel.name, step.line, self.number);
        let message = format!("warp {number}, lanes {active:#010x}, {name}, PTX line {line}: {message}");
        Fault { code: Code(code), message }
    }
}
