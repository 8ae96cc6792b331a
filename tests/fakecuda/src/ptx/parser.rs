//! PTX text into a [`Module`]. What is not understood is an error: nothing is skipped that could change a result.

use super::lexer::{self, Placed, Token};
use super::names::{Meaning, Names, special};
use super::{Base, Class, Guard, Instruction, Kernel, Module, Operand, Parameter, SHARED_START};
use std::collections::HashMap;

/// Parses a whole PTX text.
///
/// # Errors
///
/// What is wrong or not modelled, with its line.
pub(crate) fn parse(text: &str) -> Result<Module, String> {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    parser.module().map_err(|error| format!("line {}: {error}", parser.line()))
}

struct Parser<'a> {
    tokens: &'a [Placed<'a>],
    at: usize,
}

/// `.shared` variables of known size, from the start of shared memory on.
#[derive(Clone, Default)]
struct Shared {
    names: HashMap<String, Meaning>,
    end: u32,
}

impl<'a> Parser<'a> {
    fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |(_, line)| *line)
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| *token)
    }

    fn next(&mut self) -> Result<Token<'a>, String> {
        let token = self.peek().ok_or("the text ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn word(&mut self) -> Result<&'a str, String> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(format!("expected a word, found {other:?}")),
        }
    }

    fn is(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(Token::Punctuation(wanted));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.is(wanted) { Ok(()) } else { Err(format!("expected {wanted:?}, found {:?}", self.peek())) }
    }

    /// A number with its sign.
    fn number(&mut self) -> Result<i128, String> {
        let negative = self.is('-');
        let Token::Number(text) = self.next()? else { return Err("expected a number".to_owned()) };
        let digits = text.strip_suffix('U').unwrap_or(text);
        let value = match digits.get(..2) {
            Some("0x" | "0X") => i128::from_str_radix(&digits[2..], 16),
            Some("0b" | "0B") => i128::from_str_radix(&digits[2..], 2),
            Some(octal) if octal.starts_with('0') => i128::from_str_radix(&digits[1..], 8),
            _ => digits.parse(),
        };
        let value = value.map_err(|_| format!("{text} is no integer"))?;
        Ok(if negative { -value } else { value })
    }

    fn small(&mut self) -> Result<u32, String> {
        u32::try_from(self.number()?).map_err(|_| "the number is too large".to_owned())
    }

    fn module(&mut self) -> Result<Module, String> {
        let mut module = Module { version: (0, 0), target: 0, exact: false, kernels: Vec::new() };
        let mut shared = Shared { end: SHARED_START, ..Shared::default() };
        while self.peek().is_some() {
            match self.word()? {
                ".version" => {
                    let Token::Number(text) = self.next()? else { return Err("expected a version".to_owned()) };
                    let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                    module.version = parts.ok_or_else(|| format!("{text} is no version"))?;
                }
                ".target" => {
                    let name = self.word()?;
                    let number = name.strip_prefix("sm_").unwrap_or_default();
                    module.exact = number.ends_with('a');
                    let number = number.trim_end_matches('a').parse().ok();
                    module.target = number.ok_or_else(|| format!("the target {name}"))?;
                    while self.is(',') {
                        self.word()?; // `debug` and the like
                    }
                }
                ".address_size" => {
                    if self.small()? != 64 {
                        return Err("addresses are not 64 bits".to_owned());
                    }
                }
                ".visible" | ".weak" => {}
                ".extern" => {
                    if self.word()? != ".shared" {
                        return Err("`.extern` of anything but `.shared`".to_owned());
                    }
                    self.shared_variable(&mut shared)?;
                }
                ".shared" => self.shared_variable(&mut shared)?,
                ".entry" => {
                    let kernel = self.kernel(&shared)?;
                    module.kernels.push(kernel);
                }
                other => return Err(format!("{other} is not modelled")),
            }
        }
        if module.version == (0, 0) || module.target == 0 {
            return Err("no `.version` or no `.target`".to_owned());
        }
        Ok(module)
    }

    /// `.align 16 .b8 name[1024];` after `.shared`.
    fn shared_variable(&mut self, shared: &mut Shared) -> Result<(), String> {
        let (alignment, width) = self.type_and_alignment()?;
        let name = self.word()?;
        let meaning = if self.is('[') {
            if self.is(']') {
                Meaning::DynamicShared
            } else {
                let bytes = self.small()?.checked_mul(width).ok_or("the variable is too large")?;
                self.expect(']')?;
                shared.place(alignment, bytes)?
            }
        } else {
            shared.place(alignment, width)?
        };
        if shared.names.insert(name.to_owned(), meaning).is_some() {
            return Err(format!("{name} is declared twice"));
        }
        self.expect(';')
    }

    /// `.align 16 .b8`, `.u64 .ptr .global .align 1`: the alignment and the bytes of one element.
    fn type_and_alignment(&mut self) -> Result<(u32, u32), String> {
        let (mut alignment, mut width) = (None, None);
        while let Some(Token::Word(word)) = self.peek() {
            let Some(name) = word.strip_prefix('.') else { break };
            self.at += 1;
            match name {
                "align" if width.is_none() => alignment = Some(self.small()?),
                "align" => drop(self.small()?), // of what a `.ptr` points to
                "ptr" | "global" => {}
                _ => width = Some(bytes_of(name).ok_or_else(|| format!("the type {word}"))?),
            }
        }
        let width = width.ok_or("expected a type")?;
        let alignment = alignment.unwrap_or(width);
        if alignment.is_power_of_two() { Ok((alignment, width)) } else { Err("the alignment".to_owned()) }
    }

    fn kernel(&mut self, outer: &Shared) -> Result<Kernel, String> {
        let name = self.word()?.to_owned();
        let (mut parameters, mut known, mut end) = (Vec::new(), outer.names.clone(), 0_u32);
        if self.is('(') && !self.is(')') {
            loop {
                if self.word()? != ".param" {
                    return Err("expected `.param`".to_owned());
                }
                let (alignment, width) = self.type_and_alignment()?;
                let parameter = self.word()?;
                let size = if self.is('[') {
                    let count = self.small()?;
                    self.expect(']')?;
                    count.checked_mul(width).ok_or("the parameter is too large")?
                } else {
                    width
                };
                let offset = end.next_multiple_of(alignment);
                known.insert(parameter.to_owned(), Meaning::Parameter(offset));
                parameters.push(Parameter { offset: offset as usize, size: size as usize });
                end =
                    offset.checked_add(size).filter(|end| *end <= 4096).ok_or("more than 4096 bytes of parameters")?;
                if self.is(')') {
                    break;
                }
                self.expect(',')?;
            }
        }
        let (mut max_threads, mut required_block) = (1024, None);
        while !self.is('{') {
            match self.word()? {
                ".maxntid" => max_threads = self.up_to_three()?.iter().product(),
                ".reqntid" => required_block = Some(self.up_to_three()?),
                ".minnctapersm" | ".maxnreg" => drop(self.small()?),
                other => return Err(format!("{other} is not modelled")),
            }
        }
        let mut body = Body {
            names: Names::new(known),
            shared: Shared { names: HashMap::new(), end: outer.end },
            instructions: Vec::new(),
            branches: Vec::new(),
            dynamic_used: false,
        };
        while self.statement(&mut body)? {}
        let line = self.line();
        body.instructions.push(Instruction { guard: None, mnemonic: "ret".to_owned(), operands: Vec::new(), line });
        for (at, label, scope) in std::mem::take(&mut body.branches) {
            body.instructions[at].operands = vec![Operand::Label(body.names.label(&label, scope)?)];
        }
        Ok(Kernel {
            name,
            parameters,
            parameter_bytes: end as usize,
            instructions: body.instructions,
            registers: body.names.registers,
            static_shared: body.shared.end - SHARED_START,
            max_threads,
            required_block,
        })
    }

    /// `128, 1, 1`; what is missing is 1.
    fn up_to_three(&mut self) -> Result<[u32; 3], String> {
        let mut sizes = [self.small()?, 1, 1];
        for size in &mut sizes[1..] {
            if self.is(',') {
                *size = self.small()?;
            }
        }
        Ok(sizes)
    }

    /// One statement of a body; false after the `}` that closes the kernel.
    fn statement(&mut self, body: &mut Body) -> Result<bool, String> {
        let line = self.line();
        match self.next()? {
            Token::Punctuation('{') => body.names.enter(),
            Token::Punctuation('}') => return Ok(body.names.leave()),
            Token::Punctuation(';') => {}
            Token::Punctuation('@') => {
                let negated = self.is('!');
                let name = self.word()?;
                let Meaning::Register(register) = body.names.meaning(name)? else {
                    return Err(format!("{name} guards, but is no register"));
                };
                let mnemonic = self.word()?;
                self.instruction(body, Some(Guard { register, negated }), mnemonic, line)?;
            }
            Token::Word(".reg") => self.registers(&mut body.names)?,
            Token::Word(".shared") => {
                if body.dynamic_used {
                    return Err("a sized `.shared` variable after dynamic shared memory was used".to_owned());
                }
                let before = body.shared.names.len();
                self.shared_variable(&mut body.shared)?;
                debug_assert_eq!(before + 1, body.shared.names.len());
                for (name, meaning) in std::mem::take(&mut body.shared.names) {
                    body.names.declare(&name, meaning)?;
                }
            }
            Token::Word(".pragma") => {
                while !self.is(';') {
                    self.next()?; // hints to the optimiser
                }
            }
            Token::Word(word) if word.starts_with('.') => return Err(format!("{word} is not modelled")),
            Token::Word(word) if self.is(':') => {
                let here = u32::try_from(body.instructions.len()).map_err(|_| "too much code")?;
                body.names.declare_label(word, here)?;
            }
            Token::Word(mnemonic) => self.instruction(body, None, mnemonic, line)?,
            other => return Err(format!("{other:?} where a statement starts")),
        }
        Ok(true)
    }

    /// `.b32 %r<100>, %x;` after `.reg`.
    fn registers(&mut self, names: &mut Names) -> Result<(), String> {
        let class = match self.word()? {
            ".pred" => Class::Predicate,
            ".b16" | ".u16" | ".s16" => Class::Bits16,
            ".b32" | ".u32" | ".s32" => Class::Bits32,
            ".b64" | ".u64" | ".s64" => Class::Bits64,
            other => return Err(format!("registers of type {other} are not modelled")),
        };
        loop {
            let name = self.word()?;
            let count = if self.is('<') {
                let count = self.small()?;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            names.declare_registers(name, count, class)?;
            if self.is(';') {
                return Ok(());
            }
            self.expect(',')?;
        }
    }

    fn instruction(&mut self, body: &mut Body, guard: Option<Guard>, mnemonic: &str, line: u32) -> Result<(), String> {
        let mut operands = Vec::new();
        if mnemonic.split('.').next() == Some("bra") {
            let label = self.word()?.to_owned();
            body.branches.push((body.instructions.len(), label, body.names.here()));
            self.expect(';')?;
        } else if !self.is(';') {
            loop {
                operands.push(self.operand(body)?);
                if self.is(';') {
                    break;
                }
                self.expect(',')?;
            }
        }
        body.instructions.push(Instruction { guard, mnemonic: mnemonic.to_owned(), operands, line });
        Ok(())
    }

    fn operand(&mut self, body: &mut Body) -> Result<Operand, String> {
        if self.is('{') {
            let mut parts = vec![self.operand(body)?];
            while self.is(',') {
                parts.push(self.operand(body)?);
            }
            self.expect('}')?;
            return Ok(Operand::Vector(parts));
        }
        if self.is('[') {
            let base = match self.peek() {
                Some(Token::Word(name)) => {
                    self.at += 1;
                    body.base(name)?
                }
                _ => {
                    let address = self.number()?;
                    Base::Absolute(u64::try_from(address).map_err(|_| "a negative address")?)
                }
            };
            let offset = if self.is('+') || self.peek() == Some(Token::Punctuation('-')) { self.number()? } else { 0 };
            self.expect(']')?;
            return Ok(Operand::Address(base, i64::try_from(offset).map_err(|_| "the offset is too large")?));
        }
        if self.is('!') {
            let name = self.word()?;
            let Meaning::Register(register) = body.names.meaning(name)? else { return Err(format!("!{name}")) };
            return Ok(Operand::Not(register));
        }
        let Some(Token::Word(name)) = self.peek() else { return Ok(Operand::Immediate(self.number()?)) };
        self.at += 1;
        if name == "_" {
            return Ok(Operand::Nothing);
        }
        if let Some(special) = special(name) {
            return Ok(Operand::Special(special));
        }
        match body.names.meaning(name)? {
            Meaning::Register(first) if self.is('|') => {
                let second = self.word()?;
                match body.names.meaning(second)? {
                    Meaning::Register(second) => Ok(Operand::Pair(first, second)),
                    _ => Err(format!("{second} is no register")),
                }
            }
            Meaning::Register(register) => Ok(Operand::Register(register)),
            Meaning::Shared(address) => Ok(Operand::Immediate(i128::from(address))),
            Meaning::DynamicShared => Ok(Operand::Immediate(i128::from(body.dynamic_shared()))),
            Meaning::Parameter(_) => Err(format!("the address of the parameter {name}")),
        }
    }
}

/// What is known of the kernel whose body is read.
struct Body {
    names: Names,
    shared: Shared,
    instructions: Vec<Instruction>,
    /// The branches, by their instruction, label and scope: a label may stand after its branch.
    branches: Vec<(usize, String, usize)>,
    dynamic_used: bool,
}

impl Body {
    fn base(&mut self, name: &str) -> Result<Base, String> {
        Ok(match self.names.meaning(name)? {
            Meaning::Register(register) => Base::Register(register),
            Meaning::Shared(address) => Base::Shared(address),
            Meaning::DynamicShared => Base::Shared(self.dynamic_shared()),
            Meaning::Parameter(offset) => Base::Parameter(offset),
        })
    }

    /// Dynamic shared memory starts where the sized variables end, aligned as for anything.
    fn dynamic_shared(&mut self) -> u32 {
        self.dynamic_used = true;
        self.shared.end = self.shared.end.next_multiple_of(128);
        self.shared.end
    }
}

impl Shared {
    fn place(&mut self, alignment: u32, bytes: u32) -> Result<Meaning, String> {
        let start = self.end.next_multiple_of(alignment);
        self.end = start.checked_add(bytes).filter(|end| *end < 1 << 20).ok_or("too much shared memory")?;
        Ok(Meaning::Shared(start))
    }
}

/// The bytes of `u32`, `b64` and so on.
fn bytes_of(type_name: &str) -> Option<u32> {
    match type_name {
        "b8" | "u8" | "s8" => Some(1),
        "b16" | "u16" | "s16" => Some(2),
        "b32" | "u32" | "s32" | "f32" => Some(4),
        "b64" | "u64" | "s64" | "f64" => Some(8),
        _ => None,
    }
}
