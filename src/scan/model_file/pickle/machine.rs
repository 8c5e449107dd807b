//! Runs a pickle without its calls: stack, marks and memo as CPython's C unpickler keeps them.
//!
//! Source: CPython, `Modules/_pickle.c` and `Lib/pickletools.py`. Lax where C is lax: a FRAME's
//! length and a repeated PROTO mean nothing. What C refuses ends the run, and the run says so.

use std::collections::HashMap;

use super::super::super::content::ReadAt;
use super::super::super::rules::Rule;
use super::super::rules::{ODD_PICKLE, PICKLE_EXPANDS};
use super::super::window::{Fault, Window};
use super::value::{Heap, Kind, TooLarge, Value};

/// Opcodes of one pickle.
const MOST_OPCODES: u64 = 100_000_000;
const MOST_STACK: usize = 4 << 20;
const MOST_MEMO: usize = 2 << 20;
/// C makes room for all numbers below the highest in the memo.
const HIGHEST_MEMO: u64 = 1 << 24;
/// Python has 5; the next ones are read as if they were like it.
const PROTOCOLS_TO_COME: u8 = 8;
/// Values that are copied to read arrays in two ways.
const MOST_COPIED: u64 = 64 << 20;
/// Things told of one pickle.
const MOST_NOTES: usize = 100;

/// Something that a pickle does.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    pub rule: &'static Rule,
    pub message: String,
    /// The global that it is about, so that its call stands for its import.
    pub about: Option<u32>,
}

/// Whether the pickle goes on.
pub(super) enum Next {
    Go,
    Stop,
}

pub(super) struct Machine<'a> {
    pub(super) content: &'a dyn ReadAt,
    pub(super) input: Window<'a>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    pub(super) heap: Heap,
    pub(super) notes: Vec<Note>,
    pub(super) opcodes: u64,
    /// What opcodes are counted from: those of the pickles before it.
    first: u64,
    /// It names a global.
    pub(super) named: bool,
    /// It calls a global, by more than INST.
    pub(super) called: bool,
    /// torch's storages that it asks its loader for: key, and bytes.
    pub(super) storages: HashMap<String, u64>,
    /// Model files in bytes of it: offset and length.
    pub(super) nested: Vec<(u64, u64)>,
    /// How many pickles this one is inside of.
    pub(super) depth: u32,
    /// Values that were copied for forks.
    copied: u64,
    is_fork: bool,
    /// It begins with PROTO, so its names need not look like names.
    pub(super) headed: bool,
}

/// How a pickle ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// At its STOP; the offset behind it.
    Stopped(u64),
    /// At a fault.
    Broken(String),
}

impl From<TooLarge> for Fault {
    fn from(_: TooLarge) -> Fault {
        Fault::Broken("it holds more objects than any model".into())
    }
}

impl<'a> Machine<'a> {
    /// A machine for the pickle at `at`, behind others of so many opcodes.
    pub(super) fn new(content: &'a dyn ReadAt, at: u64, opcodes: u64, depth: u32) -> Machine<'a> {
        Machine {
            content,
            input: Window::new(content, at),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            heap: Heap::default(),
            notes: Vec::new(),
            opcodes,
            first: opcodes,
            named: false,
            called: false,
            storages: HashMap::new(),
            nested: Vec::new(),
            depth,
            copied: 0,
            is_fork: false,
            headed: false,
        }
    }

    /// A machine in the same state, whose notes are its own; None if states were copied too often.
    pub(super) fn fork(&mut self) -> Option<Machine<'a>> {
        let size = self.stack.len() + self.marks.len() + self.memo.len() + self.heap.size();
        self.copied = self.copied.saturating_add(size as u64 + 1);
        if self.is_fork || self.copied > MOST_COPIED {
            return None;
        }
        let mut other = Machine::new(self.content, self.input.offset(), self.opcodes, self.depth);
        other.is_fork = true;
        other.stack.clone_from(&self.stack);
        other.marks.clone_from(&self.marks);
        other.memo.clone_from(&self.memo);
        other.heap.clone_from(&self.heap);
        other.headed = true;
        Some(other)
    }

    /// Runs to STOP or to a fault.
    ///
    /// # Errors
    /// What the system says of a read.
    pub(super) fn run(&mut self) -> std::io::Result<Ending> {
        let ending = loop {
            match Fault::split(self.step())? {
                Ok(Next::Go) => {}
                Ok(Next::Stop) => break Ending::Stopped(self.input.offset()),
                Err(why) => break Ending::Broken(why),
            }
        };
        if self.heap.expands() {
            self.note(
                PICKLE_EXPANDS,
                "its lists hold each other so often that walking them never ends".into(),
                None,
            );
        }
        Ok(ending)
    }

    pub(super) fn note(&mut self, rule: &'static Rule, message: String, about: Option<u32>) {
        let note = Note {
            rule,
            message,
            about,
        };
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn step(&mut self) -> Result<Next, Fault> {
        if self.opcodes >= MOST_OPCODES {
            return Fault::broken("it has more opcodes than any model");
        }
        let opcode = self.input.byte()?;
        match opcode {
            0x80 => {
                let protocol = self.input.byte()?;
                if protocol > PROTOCOLS_TO_COME {
                    return Fault::broken(format!("its protocol is {protocol}"));
                }
                self.headed |= self.opcodes == self.first;
                if protocol > 5 {
                    // Today's Python stops here; a later one may not.
                    self.note_broken(&format!("its protocol is {protocol}"));
                }
                return Ok(Next::Go);
            }
            0x95 => {
                self.input.u64()?;
                return Ok(Next::Go);
            }
            b'.' => {
                self.pop()?;
                self.opcodes += 1;
                return Ok(Next::Stop);
            }
            _ => {}
        }
        if let Some(value) = self.literal(opcode)? {
            self.push(value)?;
        } else if !(self.shuffle(opcode)? || self.collect(opcode)? || self.call_opcode(opcode)?) {
            return Fault::broken(format!("byte 0x{opcode:02x} is no opcode"));
        }
        self.opcodes += 1;
        Ok(Next::Go)
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), Fault> {
        if self.stack.len() >= MOST_STACK {
            return Err(TooLarge.into());
        }
        self.stack.push(value);
        Ok(())
    }

    /// The bottom that the last mark sets.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Value, Fault> {
        match self.stack.pop() {
            Some(value) if self.stack.len() >= self.fence() => Ok(value),
            _ => Fault::broken("it takes from an empty stack"),
        }
    }

    pub(super) fn top(&self) -> Result<Value, Fault> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.fence() => Ok(*value),
            _ => Fault::broken("it takes from an empty stack"),
        }
    }

    /// Takes what lies above the last mark, and the mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value>, Fault> {
        match self.marks.pop() {
            Some(at) if at <= self.stack.len() => Ok(self.stack.split_off(at)),
            _ => Fault::broken("it has no mark"),
        }
    }

    /// Stack and memo.
    fn shuffle(&mut self, opcode: u8) -> Result<bool, Fault> {
        match opcode {
            b'(' => {
                if self.marks.len() >= MOST_STACK {
                    return Err(TooLarge.into());
                }
                self.marks.push(self.stack.len());
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'p' => {
                let number = self.number_line()?;
                self.remember(number)?;
            }
            b'q' => {
                let number = self.input.byte()?.into();
                self.remember(number)?;
            }
            b'r' => {
                let number = self.input.u32()?.into();
                self.remember(number)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let number = self.number_line()?;
                self.recall(number)?;
            }
            b'h' => {
                let number = self.input.byte()?.into();
                self.recall(number)?;
            }
            b'j' => {
                let number = self.input.u32()?.into();
                self.recall(number)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn remember(&mut self, number: u64) -> Result<(), Fault> {
        let top = self.top()?;
        if number > HIGHEST_MEMO {
            let message = format!("its memo has a place {number}, for which memory is taken");
            self.note(PICKLE_EXPANDS, message, None);
        }
        if self.memo.len() >= MOST_MEMO {
            return Err(TooLarge.into());
        }
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Result<(), Fault> {
        match self.memo.get(&number) {
            Some(value) => self.push(*value),
            None => Fault::broken(format!("its memo has no place {number}")),
        }
    }

    /// Tuples, lists, dictionaries and sets.
    fn collect(&mut self, opcode: u8) -> Result<bool, Fault> {
        let made = match opcode {
            b')' => self.heap.add_object(Kind::Tuple, &[])?,
            b']' => self.heap.add_object(Kind::List, &[])?,
            b'}' => self.heap.add_object(Kind::Dict, &[])?,
            0x8f => self.heap.add_object(Kind::Set, &[])?,
            0x85..=0x87 => {
                let mut items = [Value::None; 3];
                let count = usize::from(opcode - 0x84);
                for item in items[..count].iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.heap.add_object(Kind::Tuple, &items[..count])?
            }
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                let kind = match opcode {
                    b't' => Kind::Tuple,
                    b'l' => Kind::List,
                    _ => Kind::Set,
                };
                self.heap.add_object(kind, &items)?
            }
            b'd' => {
                let items = self.pop_mark()?;
                let dict = self.heap.add_object(Kind::Dict, &[])?;
                self.put_items(dict, &items)?;
                dict
            }
            b'a' => {
                let value = self.pop()?;
                let list = self.top()?;
                self.append(list, &[value], false)?;
                return Ok(true);
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                let list = self.top()?;
                self.append(list, &items, opcode == 0x90)?;
                return Ok(true);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                let dict = self.top()?;
                self.put_items(dict, &[key, value])?;
                return Ok(true);
            }
            b'u' => {
                let items = self.pop_mark()?;
                let dict = self.top()?;
                self.put_items(dict, &items)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.push(made)?;
        Ok(true)
    }

    /// What a broken run is told as.
    pub(super) fn note_broken(&mut self, why: &str) {
        let message = format!("the pickle cannot be read to its end: {why}");
        self.note(ODD_PICKLE, message, None);
    }
}
