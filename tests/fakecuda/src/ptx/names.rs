//! What the names of a kernel's body mean: nested scopes of registers, `.shared` variables and labels.

use super::{Class, Special};
use std::collections::HashMap;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Register(u32),
    /// A `.shared` variable, by its address.
    Shared(u32),
    /// An `extern .shared` array: it starts where the sized variables end.
    DynamicShared,
    /// A kernel parameter, by its offset.
    Parameter(u32),
}

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    names: HashMap<String, Meaning>,
    /// `.reg .b32 %r<100>`: the prefix, the count, and the number of `%r0`.
    families: Vec<(String, u32, u32)>,
    labels: HashMap<String, u32>,
}

/// All scopes of one kernel. They stay when they close, because a branch may be ahead of its label.
pub(crate) struct Names {
    scopes: Vec<Scope>,
    open: usize,
    /// What each register is, by its number.
    pub(crate) registers: Vec<Class>,
}

impl Names {
    /// The scope of a kernel, with what is known before its body.
    pub(crate) fn new(known: HashMap<String, Meaning>) -> Self {
        Self { scopes: vec![Scope { names: known, ..Scope::default() }], open: 0, registers: Vec::new() }
    }

    pub(crate) fn enter(&mut self) {
        self.scopes.push(Scope { parent: Some(self.open), ..Scope::default() });
        self.open = self.scopes.len() - 1;
    }

    /// False if this closes the kernel itself.
    pub(crate) fn leave(&mut self) -> bool {
        let parent = self.scopes[self.open].parent;
        self.open = parent.unwrap_or(0);
        parent.is_some()
    }

    /// The scope that is open, to look labels up in later.
    pub(crate) fn here(&self) -> usize {
        self.open
    }

    /// Declares one register, or `%r0` to `%r(count - 1)`.
    pub(crate) fn declare_registers(&mut self, name: &str, count: Option<u32>, class: Class) -> Result<(), String> {
        let first = u32::try_from(self.registers.len()).map_err(|_| "too many registers")?;
        let total = count.unwrap_or(1);
        if first + total > 1 << 16 {
            return Err(format!("more than {} registers", 1 << 16));
        }
        self.registers.resize((first + total) as usize, class);
        match count {
            None => self.declare(name, Meaning::Register(first)),
            Some(count) => {
                self.scopes[self.open].families.push((name.to_owned(), count, first));
                Ok(())
            }
        }
    }

    pub(crate) fn declare(&mut self, name: &str, meaning: Meaning) -> Result<(), String> {
        match self.scopes[self.open].names.insert(name.to_owned(), meaning) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is declared twice")),
        }
    }

    pub(crate) fn declare_label(&mut self, name: &str, at: u32) -> Result<(), String> {
        match self.scopes[self.open].labels.insert(name.to_owned(), at) {
            None => Ok(()),
            Some(_) => Err(format!("the label {name} stands twice")),
        }
    }

    /// What `name` means here: the innermost scope that knows it decides.
    pub(crate) fn meaning(&self, name: &str) -> Result<Meaning, String> {
        self.search(self.open, |scope| scope.names.get(name).copied().or_else(|| scope.member(name)))
            .ok_or_else(|| format!("{name} is not declared"))
    }

    /// Where the label `name` stands, seen from `scope`.
    pub(crate) fn label(&self, name: &str, scope: usize) -> Result<u32, String> {
        self.search(scope, |scope| scope.labels.get(name).copied()).ok_or_else(|| format!("there is no label {name}"))
    }

    fn search<T>(&self, from: usize, find: impl Fn(&Scope) -> Option<T>) -> Option<T> {
        let mut at = Some(from);
        while let Some(scope) = at.map(|index| &self.scopes[index]) {
            if let Some(found) = find(scope) {
                return Some(found);
            }
            at = scope.parent;
        }
        None
    }
}

impl Scope {
    /// `%r17`, if `%r<18>` or more was declared.
    fn member(&self, name: &str) -> Option<Meaning> {
        let (prefix, number) = name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        let number: u32 = number.parse().ok()?;
        let (.., first) = self.families.iter().find(|(family, count, _)| family == prefix && number < *count)?;
        Some(Meaning::Register(first + number))
    }
}

/// `%tid.x` and its like; `None` if `name` is no special register that is modelled.
pub(crate) fn special(name: &str) -> Option<Special> {
    let axis = match name.rsplit_once('.').map(|(_, axis)| axis) {
        Some("x") => Some(0),
        Some("y") => Some(1),
        Some("z") => Some(2),
        _ => None,
    };
    match (name.split('.').next()?, axis) {
        ("%tid", Some(axis)) => Some(Special::Thread(axis)),
        ("%ntid", Some(axis)) => Some(Special::BlockSize(axis)),
        ("%ctaid", Some(axis)) => Some(Special::Block(axis)),
        ("%nctaid", Some(axis)) => Some(Special::GridSize(axis)),
        ("%laneid", None) => Some(Special::Lane),
        ("%warpid", None) => Some(Special::Warp),
        _ => None,
    }
}
