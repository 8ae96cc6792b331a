//! What the interpreter runs: opcodes as an enum, operands as slots of the register files.

/// A slot of the file of predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct P(pub(crate) u16);
/// A slot of the narrow file: 32 bits a lane; 16-bit registers stand in it, zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct N(pub(crate) u16);
/// A slot of the wide file: 64 bits a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct W(pub(crate) u16);

/// A slot of either integer file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// 16 bits: what is written is cut to that.
    Half(N),
    Narrow(N),
    Wide(W),
    /// `_` as a destination.
    Nowhere,
}

/// One integer operand to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Negate,
    ReverseBits,
}

/// Bits to a count, which is 32 bits wide whatever it counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Ones,
    LeadingZeros,
}

/// Two integers of one width to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Subtract,
    MultiplyLow,
    MultiplyHighUnsigned,
    MultiplyHighSigned,
    DivideUnsigned,
    RemainderUnsigned,
    MinUnsigned,
    MinSigned,
    MaxUnsigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

/// Two predicates to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// `shl`, `shr` of unsigned or untyped, `shr` of signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    Left,
    Right,
    RightSigned,
}

/// How far: one immediate for all lanes is what nearly all kernels write, and much faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Same(u32),
    PerLane(N),
}

/// `shf`: which half of the shifted pair is kept, and what becomes of amounts over 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Funnel {
    pub(crate) left: bool,
    pub(crate) clamp: bool,
}

/// `setp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// `setp`: what a comparison does to its predicates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compare {
    pub(crate) comparison: Comparison,
    pub(crate) signed: bool,
    pub(crate) to: P,
    /// `p|q`: `q` becomes the opposite comparison.
    pub(crate) opposite: Option<P>,
    pub(crate) combine: Option<Combine>,
}

/// `setp.eq.and`: with a predicate, or its opposite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Combine {
    pub(crate) logic: Logic,
    pub(crate) with: P,
    pub(crate) negated: bool,
}

/// An integer type of PTX, as memory and conversions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer {
    /// 1, 2, 4 or 8.
    pub(crate) bytes: u8,
    pub(crate) signed: bool,
}

/// Where an address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Global,
    Shared,
    /// Shared memory shows as a window of the address space; the rest is global.
    Generic,
}

/// `[base + offset]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) base: Slot,
    pub(crate) offset: i64,
}

/// `ld` and `st`: one to four registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) element: Integer,
    pub(crate) count: u8,
    pub(crate) registers: [Slot; 4],
    pub(crate) address: Address,
}

/// `shfl.sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Index,
    Up,
    Down,
    Butterfly,
}

/// `redux.sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Add,
    And,
    Or,
    Xor,
    MinUnsigned,
    MinSigned,
    MaxUnsigned,
    MaxSigned,
}

/// `vote.sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All(P),
    Any(P),
    Uniform(P),
    Ballot(N),
}

/// What the lanes of a warp do together; `members` says which lanes that are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting {
    pub(crate) members: N,
    pub(crate) what: Together,
}

/// See [`Meeting`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Together {
    Barrier,
    Shuffle { how: Shuffle, to: N, valid: Option<P>, from: N, lane: N, clamp: N },
    Reduce { how: Reduction, to: N, from: N },
    Vote { how: Vote, from: P, negated: bool },
    MatchAny { to: N, from: N },
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    MovePredicate(P, P),
    Move32(N, N),
    Move64(W, W),
    /// `mov.b64 d, {low, high}`.
    Pack(W, N, N),
    /// `mov.b64 {low, high}, a`.
    Unpack(Slot, Slot, W),
    Unary32(Unary, N, N),
    Unary64(Unary, W, W),
    Count32(Count, N, N),
    Count64(Count, N, W),
    /// 32-bit arithmetic, of whose result 16 bits are kept.
    Binary16(Binary, N, N, N),
    Binary32(Binary, N, N, N),
    Binary64(Binary, W, W, W),
    MultiplyWide16(N, N, N),
    MultiplyWide {
        signed: bool,
        to: W,
        a: N,
        b: N,
    },
    MultiplyAdd32(N, N, N, N),
    MultiplyAdd64(W, W, W, W),
    MultiplyAddHigh(N, N, N, N),
    MultiplyAddWide {
        signed: bool,
        to: W,
        a: N,
        b: N,
        c: W,
    },
    Shift32(Shift, N, N, Amount),
    Shift64(Shift, W, W, Amount),
    Funnel {
        how: Funnel,
        to: N,
        low: N,
        high: N,
        by: Amount,
    },
    Permute {
        to: N,
        a: N,
        b: N,
        selector: N,
    },
    Lop3 {
        table: u8,
        to: N,
        a: N,
        b: N,
        c: N,
    },
    Insert32 {
        to: N,
        field: N,
        into: N,
        position: N,
        length: N,
    },
    Insert64 {
        to: W,
        field: W,
        into: W,
        position: N,
        length: N,
    },
    Extract32 {
        signed: bool,
        to: N,
        from: N,
        position: N,
        length: N,
    },
    Extract64 {
        signed: bool,
        to: W,
        from: W,
        position: N,
        length: N,
    },
    Compare32(Compare, N, N),
    Compare64(Compare, W, W),
    Select32 {
        to: N,
        yes: N,
        no: N,
        by: P,
    },
    Select64 {
        to: W,
        yes: W,
        no: W,
        by: P,
    },
    Logic(Logic, P, P, P),
    NotPredicate(P, P),
    Convert {
        to: Slot,
        target: Integer,
        from: Slot,
        source: Integer,
    },
    /// `cvta.to.shared` and `cvta.shared`.
    GenericToShared(W, W),
    SharedToGeneric(W, W),
    Load(Access),
    Store(Access),
    LoadParameter {
        to: [Slot; 4],
        count: u8,
        element: Integer,
        offset: u32,
    },
    Branch(u32),
    Exit,
    Trap,
    BlockBarrier,
    Meet(Meeting),
    ActiveMask(N),
    /// `bytes` to shared memory; of them `read` from global memory (fewer: the rest becomes 0).
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u8,
        read: Option<N>,
    },
    CopyCommit,
    /// Until at most so many of the latest groups are pending.
    CopyWait(u32),
    CopyWaitAll,
}
