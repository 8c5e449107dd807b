//! What a pickle names and calls, and what it does with what it gets.

use super::super::rules::{HIDES_NAME, IMPORTS_CODE, PATCHES_CODE, RUNS_CODE, UNKNOWN_GLOBAL};
use super::super::window::Fault;
use super::globals::{Allowed, Check, Shape, Standing};
use super::machine::Machine;
use super::value::{Kind, Value};
use crate::text::escape_text;

/// Bytes of a name of a module or of what is in it.
const LONGEST_NAME: usize = 1024;
/// Characters of an argument that a message shows.
const SHOWN_TEXT: usize = 80;
/// Functions that are given functions, inside of each other.
const DEEPEST_CALL: u32 = 8;

impl Machine<'_> {
    /// Names, calls, states, and what the loader is asked for.
    pub(super) fn call_opcode(&mut self, opcode: u8) -> Result<bool, Fault> {
        let made = match opcode {
            b'c' => {
                let (module, name) = self.name_lines()?;
                self.name_global(&module, &name)?
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.stack_global(module, name)?
            }
            b'i' => {
                let (module, name) = self.name_lines()?;
                let arguments = self.pop_mark()?;
                let callee = self.name_global(&module, &name)?;
                let arguments = self.heap.add_object(Kind::Tuple, &arguments)?;
                // A text can look like INST, but does not name what runs code.
                let called = self.called;
                let made = self.call(callee, arguments, 0)?;
                let hostile = self.heap.global(callee).map(|g| g.standing);
                self.called = called || hostile == Some(Standing::Hostile);
                made
            }
            b'o' => {
                let mut arguments = self.pop_mark()?;
                if arguments.is_empty() {
                    return Fault::broken("it makes an object of no class");
                }
                let callee = arguments.remove(0);
                let arguments = self.heap.add_object(Kind::Tuple, &arguments)?;
                self.call(callee, arguments, 0)?
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments, 0)?
            }
            0x92 => {
                let (named, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                let mut all = match self.heap.tuple(arguments) {
                    Some(items) => items.to_vec(),
                    None => vec![Value::Opaque],
                };
                all.push(named);
                let all = self.heap.add_object(Kind::Tuple, &all)?;
                self.call(callee, all, 0)?
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                self.build(object, state)?;
                return Ok(true);
            }
            b'P' => {
                self.input.line(super::literals::LONGEST_LINE)?;
                self.persistent(Value::None)?
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?
            }
            0x82 => {
                let code = self.input.byte()?.into();
                self.extension(code)
            }
            0x83 => {
                let code = self.input.u16()?.into();
                self.extension(code)
            }
            0x84 => {
                let code = self.input.u32()?;
                self.extension(code)
            }
            0x97 => {
                let message = "loading it takes a buffer that is not in the file".to_string();
                self.note(UNKNOWN_GLOBAL, message, None);
                Value::Opaque
            }
            0x98 => self.pop()?,
            _ => return Ok(false),
        };
        self.push(made)?;
        Ok(true)
    }

    fn name_lines(&mut self) -> Result<(String, String), Fault> {
        let module = self.input.line(LONGEST_NAME)?;
        let name = self.input.line(LONGEST_NAME)?;
        match (String::from_utf8(module), String::from_utf8(name)) {
            (Ok(module), Ok(name)) => Ok((module, name)),
            _ => Fault::broken("a name in it is no text"),
        }
    }

    fn stack_global(&mut self, module: Value, name: Value) -> Result<Value, Fault> {
        let text = |value| self.heap.text(value).map(str::to_string);
        match (text(module), text(name)) {
            (Some(module), Some(name)) => self.name_global(&module, &name),
            _ => {
                let message = "it computes the name of what it loads".to_string();
                self.note(HIDES_NAME, message, None);
                self.named = true;
                Ok(Value::Opaque)
            }
        }
    }

    fn name_global(&mut self, module: &str, name: &str) -> Result<Value, Fault> {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '<' | '>');
        let is_name = |s: &str| !s.is_empty() && s.chars().all(is_word);
        let plain = is_name(module) && is_name(name);
        if !self.headed && !plain {
            return Fault::broken("a name in it is none");
        }
        self.named = true;
        let (number, new) = self.heap.add_global(module, name)?;
        let shown = self.shown_global(number);
        match self.heap.globals[number as usize].standing {
            _ if !new => {}
            Standing::Allowed(Allowed::Call(Check::Attribute)) => {
                let message = format!("loading it imports {shown}");
                self.note(UNKNOWN_GLOBAL, message, Some(number));
            }
            Standing::Allowed(_) => {}
            Standing::Hostile => {
                let message = format!("loading it imports {shown}");
                self.note(IMPORTS_CODE, message, Some(number));
            }
            Standing::Unknown => {
                let message = format!("loading it imports {shown}, which comfy does not know");
                self.note(UNKNOWN_GLOBAL, message, Some(number));
            }
        }
        Ok(Value::Global(number))
    }

    fn shown_global(&self, number: u32) -> String {
        let global = &self.heap.globals[number as usize];
        escape_text(&format!("{}.{}", global.module, global.name))
    }

    /// Calls a global with a tuple of arguments; what else is called was computed.
    pub(super) fn call(
        &mut self,
        callee: Value,
        arguments: Value,
        depth: u32,
    ) -> Result<Value, Fault> {
        let Value::Global(number) = callee else {
            if matches!(callee, Value::Opaque | Value::Object(_)) {
                let message = "loading it calls something that the file computes".to_string();
                self.note(HIDES_NAME, message, None);
                return Ok(Value::Opaque);
            }
            return Fault::broken("it calls what is no function");
        };
        self.called = true;
        let shown = self.shown_global(number);
        let items = self.heap.tuple(arguments).map(<[Value]>::to_vec);
        if let Some(found) = self.known_method(number, items.as_deref())? {
            return Ok(found);
        }
        match self.heap.globals[number as usize].standing {
            Standing::Hostile => {
                let argument = self.shown_argument(items.as_deref().unwrap_or_default());
                let message = format!("loading it calls {shown}({argument})");
                self.note(RUNS_CODE, message, Some(number));
                Ok(Value::Opaque)
            }
            Standing::Unknown => {
                let message = format!("loading it calls {shown}, which comfy does not know");
                self.note(UNKNOWN_GLOBAL, message, Some(number));
                self.instance(number, &items.unwrap_or_default())
            }
            Standing::Allowed(allowed) => {
                let Some(items) = items else {
                    let message = format!("loading it calls {shown} with computed arguments");
                    self.note(UNKNOWN_GLOBAL, message, Some(number));
                    return Ok(Value::Opaque);
                };
                let before = self.notes.len();
                let good = depth < DEEPEST_CALL && self.passes(allowed, &items, depth)?;
                if !good && self.notes.len() == before {
                    let argument = self.shown_argument(&items);
                    let message =
                        format!("loading it calls {shown}({argument}) as no library does");
                    self.note(UNKNOWN_GLOBAL, message, Some(number));
                }
                self.instance(number, &items)
            }
        }
    }

    /// `getattr(zoneinfo.ZoneInfo, "_unpickle")`, as time zones are pickled (CPython,
    /// `Lib/zoneinfo/_zoneinfo.py`).
    fn known_method(
        &mut self,
        number: u32,
        items: Option<&[Value]>,
    ) -> Result<Option<Value>, Fault> {
        let called = self.heap.globals[number as usize].standing;
        let (Standing::Allowed(Allowed::Call(Check::Attribute)), Some([class, name])) =
            (called, items)
        else {
            return Ok(None);
        };
        let zone = self
            .heap
            .global(*class)
            .is_some_and(|g| g.module == "zoneinfo" && g.name == "ZoneInfo");
        if !zone || self.heap.text(*name) != Some("_unpickle") {
            return Ok(None);
        }
        self.notes.retain(|n| n.about != Some(number));
        let (method, _) = self.heap.add_global("zoneinfo", "ZoneInfo._unpickle")?;
        Ok(Some(Value::Global(method)))
    }

    fn instance(&mut self, number: u32, items: &[Value]) -> Result<Value, Fault> {
        Ok(self.heap.add_object(Kind::Instance(number), items)?)
    }

    /// The first argument as Python would write it, as far as it is a constant.
    pub(super) fn shown_argument(&self, items: &[Value]) -> String {
        let Some(first) = items.first() else {
            return String::new();
        };
        let more = if items.len() > 1 { ", …" } else { "" };
        match first {
            Value::Text(_) => {
                let text = self.heap.start_of_text(*first).unwrap_or_default();
                let start: String = text.chars().take(SHOWN_TEXT).collect();
                let cut = if start.len() < text.len() { "…" } else { "" };
                format!("'{}{cut}'{more}", escape_text(&start))
            }
            Value::Global(number) => format!("{}{more}", self.shown_global(*number)),
            Value::Int(number) => format!("{number}{more}"),
            _ => "…".to_string(),
        }
    }

    /// Adds elements: of a list by `append` and `extend`, of a set by `add`.
    pub(super) fn append(
        &mut self,
        list: Value,
        items: &[Value],
        to_set: bool,
    ) -> Result<(), Fault> {
        let (plain, shape) = match to_set {
            true => (Kind::Set, Shape::Set),
            false => (Kind::List, Shape::List),
        };
        self.add_elements(list, items, plain, shape)
    }

    /// Puts pairs of key and value into a dictionary.
    pub(super) fn put_items(&mut self, dict: Value, items: &[Value]) -> Result<(), Fault> {
        if !items.len().is_multiple_of(2) {
            return Fault::broken("a key in it has no value");
        }
        self.add_elements(dict, items, Kind::Dict, Shape::Dict)?;
        if let Value::Object(number) = dict {
            for key in items.iter().step_by(2) {
                self.heap.note_key(number, *key);
            }
        }
        Ok(())
    }

    fn add_elements(
        &mut self,
        target: Value,
        items: &[Value],
        plain: Kind,
        shape: Shape,
    ) -> Result<(), Fault> {
        // Python raises where a tuple or a number is added to: nothing is run then.
        let number = match target {
            Value::Object(number) => number,
            Value::Global(number) => {
                let shown = self.shown_global(number);
                self.note(PATCHES_CODE, format!("loading it changes {shown}"), None);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let kind = self.heap.objects[number as usize].kind;
        match kind {
            _ if kind == plain => {}
            Kind::Instance(class) => {
                let good = match self.heap.globals[class as usize].standing {
                    Standing::Allowed(Allowed::Class(own)) => own == shape,
                    Standing::Allowed(Allowed::Call(Check::Factory)) => shape == Shape::Dict,
                    Standing::Allowed(_) => false,
                    _ => true,
                };
                if !good {
                    let shown = self.shown_global(class);
                    let message = format!("it adds elements to {shown}, which holds none");
                    self.note(PATCHES_CODE, message, None);
                }
            }
            _ => return Ok(()),
        }
        Ok(self.heap.extend(number, items)?)
    }

    /// Gives an object its state: `__setstate__`, or attributes.
    fn build(&mut self, object: Value, state: Value) -> Result<(), Fault> {
        let number = match object {
            Value::Global(number) => {
                let shown = self.shown_global(number);
                let message = format!("loading it changes {shown}");
                self.note(PATCHES_CODE, message, None);
                return Ok(());
            }
            Value::Object(number) => number,
            // What has no state has none set.
            _ => return Ok(()),
        };
        let Kind::Instance(class) = self.heap.objects[number as usize].kind else {
            return Ok(());
        };
        let odd = |v: Value| self.heap.object(v).is_some_and(|o| o.odd_key);
        let slots = self.heap.tuple(state).unwrap_or_default();
        let fixed = Standing::Allowed(Allowed::Class(Shape::Fixed));
        let held = &self.heap.globals[class as usize];
        let arrays = held.module == "joblib.numpy_pickle" && held.name == "NumpyArrayWrapper";
        if odd(state) || slots.iter().any(|v| odd(*v)) || held.standing == fixed {
            let shown = self.shown_global(class);
            let message = format!("loading it changes what Python itself uses of {shown}");
            self.note(PATCHES_CODE, message, None);
        }
        if arrays {
            self.pass_array(state)?;
        }
        // `array.array` and what joblib reads stand for themselves from here on.
        Ok(self.heap.extend(number, &[state])?)
    }

    fn extension(&mut self, code: u32) -> Value {
        let message = format!("loading it takes class {code} of a registry that the file lacks");
        self.note(UNKNOWN_GLOBAL, message, None);
        Value::Opaque
    }

    /// What the loader is asked for by an id. torch asks for storages, by a tuple of `'storage'`,
    /// type, key, device and number of elements.
    fn persistent(&mut self, id: Value) -> Result<Value, Fault> {
        let items = self.heap.tuple(id).unwrap_or_default();
        if let [word, class, key, _, Value::Int(count), ..] = items
            && self.heap.text(*word) == Some("storage")
            && let Some(Standing::Allowed(Allowed::Storage(size))) =
                self.heap.global(*class).map(|g| g.standing)
            && let Some(key) = self.heap.text(*key)
            && let Ok(count) = u64::try_from(*count)
        {
            let bytes = count.saturating_mul(size.into());
            self.storages.insert(key.to_string(), bytes);
        } else {
            let message = "loading it asks for an object by an id that comfy does not know";
            self.note(UNKNOWN_GLOBAL, message.to_string(), None);
        }
        // A tensor's storage, which nothing is called of.
        Ok(self.heap.add_object(Kind::Tuple, &[])?)
    }
}
