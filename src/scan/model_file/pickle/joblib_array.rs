//! Arrays that joblib writes between the opcodes of a pickle.
//!
//! Source: joblib, `numpy_pickle.py`: behind the state of a `NumpyArrayWrapper` follow a byte that
//! counts padding (if the wrapper knows of alignment), the padding, and the array's bytes; of an
//! array of objects, a pickle of its own.

use super::super::rules::RUNS_CODE;
use super::super::window::{Fault, Window};
use super::globals;
use super::literals::LONGEST_LINE;
use super::machine::{Ending, Machine};
use super::value::Value;

/// Pickles inside of arrays inside of pickles.
const DEEPEST: u32 = 8;
/// Opcodes that are passed over to find a call.
const MOST_SCOUTED: u32 = 10_000;

impl Machine<'_> {
    /// Passes over the array that follows the state of a wrapper.
    pub(super) fn pass_array(&mut self, state: Value) -> Result<(), Fault> {
        let Some(dict) = self.heap.object(state) else {
            return Fault::broken("an array of joblib's has no state");
        };
        let find = |name: &str| {
            dict.items
                .chunks_exact(2)
                .find(|pair| self.heap.text(pair[0]) == Some(name))
                .map(|pair| pair[1])
        };
        let aligned = find("numpy_array_alignment_bytes").is_some_and(|v| v != Value::None);
        let element = find("dtype").and_then(|dtype| self.element_size(dtype));
        let shape = find("shape")
            .and_then(|v| self.heap.tuple(v))
            .map(<[Value]>::to_vec);
        let (Some(element), Some(shape)) = (element, shape) else {
            return Fault::broken("an array of joblib's has no size");
        };
        self.read_as_opcodes()?;
        let Element::Bytes(element) = element else {
            return self.pass_objects();
        };
        let mut bytes = element;
        for side in shape {
            let Some(next) = as_count(side).and_then(|n| bytes.checked_mul(n)) else {
                return Fault::broken("an array of joblib's has no size");
            };
            bytes = next;
        }
        if aligned {
            let padding = self.input.byte()?;
            self.input.skip(padding.into())?;
        }
        self.input.skip(bytes)
    }

    /// Tells what the array's bytes do when `pickle.load` reads the file, which takes them for
    /// opcodes.
    fn read_as_opcodes(&mut self) -> Result<(), Fault> {
        if !self.calls_something()? {
            return Ok(());
        }
        let Some(mut other) = self.fork() else {
            return Fault::broken("it has more arrays than any model");
        };
        // Numbers are no opcodes for long; what they call by accident is not told.
        other.run()?;
        self.opcodes = other.opcodes;
        for note in other.notes {
            if note.rule == RUNS_CODE {
                self.note(note.rule, note.message, None);
            }
        }
        Ok(())
    }

    /// Says whether opcodes from here on call something, before a byte that is none. What they find
    /// on the stack is not looked at, so that nothing has to be copied for it.
    fn calls_something(&self) -> Result<bool, Fault> {
        let at = self.input.offset();
        let mut scout = Machine::new(self.content, at, 0, 0);
        for _ in 0..MOST_SCOUTED {
            match Fault::split(scout.pass_opcode())? {
                Ok(Some(calls)) if calls => return Ok(true),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(false),
            }
        }
        // So many opcodes are no numbers.
        Ok(true)
    }

    /// Passes over an opcode: whether it calls something, or None if it is none.
    fn pass_opcode(&mut self) -> Result<Option<bool>, Fault> {
        let opcode = self.input.byte()?;
        if self.literal(opcode)?.is_some() {
            return Ok(Some(false));
        }
        match opcode {
            b'R' | b'o' | b'i' | 0x81 | 0x92 => return Ok(Some(true)),
            b'c' => {
                self.input.line(LONGEST_LINE)?;
                self.input.line(LONGEST_LINE)?;
            }
            b'p' | b'g' | b'P' => {
                self.input.line(LONGEST_LINE)?;
            }
            b'q' | b'h' | 0x80 | 0x82 => self.input.skip(1)?,
            0x83 => self.input.skip(2)?,
            b'r' | b'j' | 0x84 => self.input.skip(4)?,
            0x95 => self.input.skip(8)?,
            b'(' | b'0' | b'1' | b'2' | b'a' | b'b' | b'd' | b'e' | b'l' | b's' | b't' | b'u' => {}
            b')' | b']' | b'}' | b'Q' | 0x85..=0x87 | 0x8f..=0x91 | 0x93 | 0x94 | 0x97 | 0x98 => {}
            _ => return Ok(None),
        }
        Ok(Some(false))
    }

    fn pass_objects(&mut self) -> Result<(), Fault> {
        if self.depth >= DEEPEST {
            return Fault::broken("it holds pickles inside of pickles");
        }
        let at = self.input.offset();
        let mut inner = Machine::new(self.content, at, self.opcodes, self.depth + 1);
        let ending = inner.run()?;
        self.opcodes = inner.opcodes;
        self.named |= inner.named;
        self.called |= inner.called;
        for note in inner.notes {
            self.note(note.rule, note.message, None);
        }
        self.nested.append(&mut inner.nested);
        match ending {
            Ending::Stopped(end) => {
                self.input = Window::new(self.content, end);
                Ok(())
            }
            Ending::Broken(why) => Err(Fault::Broken(why)),
        }
    }

    /// The size of an element of an instance of `numpy.dtype`.
    fn element_size(&self, dtype: Value) -> Option<Element> {
        let class = self.heap.class_of(dtype)?;
        if globals::present_module(&class.module) != "numpy" || class.name != "dtype" {
            return None;
        }
        let first = *self.heap.object(dtype)?.items.first()?;
        let text = self.heap.text(first)?;
        let text = text.trim_start_matches(['<', '>', '|', '=']);
        if text.starts_with('V') {
            return self.structured_size(dtype);
        }
        let digits = text.get(1..)?;
        let size: u64 = digits.split('[').next()?.parse().ok()?;
        match text.as_bytes().first()? {
            b'O' => Some(Element::Objects),
            b'U' => size.checked_mul(4).map(Element::Bytes),
            b'b' | b'i' | b'u' | b'f' | b'c' | b'S' | b'M' | b'm' => Some(Element::Bytes(size)),
            _ => None,
        }
    }
}

impl Machine<'_> {
    /// The size that the state of a structured type says (numpy, `arraydescr_reduce`: version,
    /// order, subtype, names, fields, size, alignment, flags), or that it holds objects.
    fn structured_size(&self, dtype: Value) -> Option<Element> {
        const HOLDS_OBJECTS: i64 = 1;
        let state = *self.heap.object(dtype)?.items.last()?;
        let [_, _, _, _, _, size, _, Value::Int(flags), ..] = self.heap.tuple(state)? else {
            return None;
        };
        if flags & HOLDS_OBJECTS != 0 {
            return Some(Element::Objects);
        }
        as_count(*size).map(Element::Bytes)
    }
}

enum Element {
    Bytes(u64),
    Objects,
}

fn as_count(value: Value) -> Option<u64> {
    match value {
        Value::Int(n) => u64::try_from(n).ok(),
        _ => None,
    }
}
