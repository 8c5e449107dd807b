//! What a pickle makes, as far as it matters for what it calls.
//!
//! Everything lies in one heap and is named by its number: values are shared as in Python, nothing
//! is copied, and freeing the heap does not descend into what it holds.

use std::collections::BTreeMap;

use super::globals::{self, Standing};

/// Elements of one object that are kept to look at; the others are only counted.
pub(super) const KEPT_ITEMS: usize = 64;
/// Bytes of a text that are kept.
const KEPT_TEXT: usize = 2048;
/// Bytes of all texts of one pickle.
const MOST_TEXT: usize = 64 << 20;
const MOST_OBJECTS: usize = 2 << 20;
const MOST_EDGES: usize = 8 << 20;
/// Elements that are kept of all objects.
const MOST_ITEMS: usize = 16 << 20;
/// How many things a pickle may stand for, written out, for each that is in it.
const MOST_EXPANSION: f64 = 1e9;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A float, or an integer that no `i64` holds.
    Number,
    Text(u32),
    Bytes(u32),
    Global(u32),
    Object(u32),
    /// What nobody knows without running code.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tuple,
    List,
    Dict,
    Set,
    /// Made by the global of this number, out of the items.
    Instance(u32),
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub kind: Kind,
    /// At most [`KEPT_ITEMS`]; of a dictionary, key and value in turn.
    pub items: Vec<Value>,
    /// How many there are.
    pub count: u64,
    /// It has a key that begins with two underscores, or that only code could name.
    pub odd_key: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Global {
    pub module: String,
    pub name: String,
    pub standing: Standing,
}

/// A text, up to a length.
#[derive(Debug, Clone)]
struct Text {
    start: Box<str>,
    whole: bool,
}

/// A heap is full.
#[derive(Debug)]
pub(super) struct TooLarge;

#[derive(Debug, Default, Clone)]
pub(super) struct Heap {
    texts: Vec<Text>,
    text_bytes: usize,
    /// Where bytes are in the file: offset and length.
    pub spans: Vec<(u64, u64)>,
    pub globals: Vec<Global>,
    global_numbers: BTreeMap<(String, String), u32>,
    pub objects: Vec<Object>,
    items: usize,
    /// Which object holds which.
    edges: Vec<(u32, u32)>,
}

impl Heap {
    /// About how much there is in it.
    pub(super) fn size(&self) -> usize {
        self.objects.len() + self.items + self.texts.len() + self.edges.len() + self.globals.len()
    }

    pub(super) fn add_text(&mut self, text: &str) -> Result<Value, TooLarge> {
        let mut end = text.len().min(KEPT_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text_bytes += end + size_of::<Text>();
        if self.text_bytes > MOST_TEXT {
            return Err(TooLarge);
        }
        self.texts.push(Text {
            start: text[..end].into(),
            whole: end == text.len(),
        });
        Ok(Value::Text(self.texts.len() as u32 - 1))
    }

    /// Returns a text, if all of it was kept.
    pub(super) fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(n) => self
                .texts
                .get(n as usize)
                .filter(|t| t.whole)
                .map(|t| &*t.start),
            _ => None,
        }
    }

    /// Returns the begin of a text.
    pub(super) fn start_of_text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(n) => self.texts.get(n as usize).map(|t| &*t.start),
            _ => None,
        }
    }

    pub(super) fn add_bytes(&mut self, at: u64, length: u64) -> Result<Value, TooLarge> {
        if self.spans.len() >= MOST_OBJECTS {
            return Err(TooLarge);
        }
        self.spans.push((at, length));
        Ok(Value::Bytes(self.spans.len() as u32 - 1))
    }

    pub(super) fn span(&self, value: Value) -> Option<(u64, u64)> {
        match value {
            Value::Bytes(n) => self.spans.get(n as usize).copied(),
            _ => None,
        }
    }

    /// Returns the global of this name, and whether it is new.
    pub(super) fn add_global(&mut self, module: &str, name: &str) -> Result<(u32, bool), TooLarge> {
        let key = (module.to_string(), name.to_string());
        if let Some(n) = self.global_numbers.get(&key) {
            return Ok((*n, false));
        }
        self.text_bytes += 2 * (module.len() + name.len()) + size_of::<Global>();
        if self.text_bytes > MOST_TEXT {
            return Err(TooLarge);
        }
        self.globals.push(Global {
            module: module.to_string(),
            name: name.to_string(),
            standing: globals::standing(module, name),
        });
        let n = self.globals.len() as u32 - 1;
        self.global_numbers.insert(key, n);
        Ok((n, true))
    }

    pub(super) fn global(&self, value: Value) -> Option<&Global> {
        match value {
            Value::Global(n) => self.globals.get(n as usize),
            _ => None,
        }
    }

    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(n) => self.objects.get(n as usize),
            _ => None,
        }
    }

    /// The elements of a tuple, if all were kept.
    pub(super) fn tuple(&self, value: Value) -> Option<&[Value]> {
        self.object(value)
            .filter(|o| o.kind == Kind::Tuple && o.count == o.items.len() as u64)
            .map(|o| &*o.items)
    }

    /// The global that made an instance.
    pub(super) fn class_of(&self, value: Value) -> Option<&Global> {
        match self.object(value)?.kind {
            Kind::Instance(n) => self.globals.get(n as usize),
            _ => None,
        }
    }

    pub(super) fn add_object(&mut self, kind: Kind, items: &[Value]) -> Result<Value, TooLarge> {
        if self.objects.len() >= MOST_OBJECTS {
            return Err(TooLarge);
        }
        let number = self.objects.len() as u32;
        self.objects.push(Object {
            kind,
            items: Vec::new(),
            count: 0,
            odd_key: false,
        });
        self.extend(number, items)?;
        Ok(Value::Object(number))
    }

    /// Adds elements to an object; of a dictionary, keys and values in turn.
    pub(super) fn extend(&mut self, number: u32, items: &[Value]) -> Result<(), TooLarge> {
        for item in items {
            if let Value::Object(inner) = item {
                if self.edges.len() >= MOST_EDGES {
                    return Err(TooLarge);
                }
                self.edges.push((number, *inner));
            }
        }
        let Some(object) = self.objects.get_mut(number as usize) else {
            return Err(TooLarge);
        };
        object.count += items.len() as u64;
        let room = KEPT_ITEMS.saturating_sub(object.items.len());
        let kept = &items[..room.min(items.len())];
        self.items += kept.len();
        if self.items > MOST_ITEMS {
            return Err(TooLarge);
        }
        object.items.extend(kept);
        Ok(())
    }

    /// Notes the key that an object is given an attribute or element by.
    pub(super) fn note_key(&mut self, number: u32, key: Value) {
        let odd = match key {
            Value::Text(n) => self
                .texts
                .get(n as usize)
                .is_none_or(|t| !t.whole || t.start.starts_with("__")),
            Value::Object(n) => !matches!(
                self.objects.get(n as usize).map(|o| o.kind),
                Some(Kind::Tuple | Kind::Set)
            ),
            Value::Opaque => true,
            _ => false,
        };
        if let Some(object) = self.objects.get_mut(number as usize) {
            object.odd_key |= odd;
        }
    }

    /// Returns whether walking all objects, without noticing those that come again, would never
    /// end.
    pub(super) fn expands(&self) -> bool {
        let count = self.objects.len();
        let mut first = vec![0_u32; count + 1];
        for (parent, _) in &self.edges {
            first[*parent as usize + 1] += 1;
        }
        for n in 0..count {
            first[n + 1] += first[n];
        }
        let mut next = first.clone();
        let mut children = vec![0_u32; self.edges.len()];
        for (parent, child) in &self.edges {
            let at = &mut next[*parent as usize];
            children[*at as usize] = *child;
            *at += 1;
        }
        // 0: not seen; below: on the way; above: done. What holds itself is not followed again.
        let mut sizes = vec![0.0_f64; count];
        let mut at = first.clone();
        let mut way: Vec<u32> = Vec::new();
        for root in 0..count as u32 {
            if sizes[root as usize] != 0.0 {
                continue;
            }
            way.push(root);
            sizes[root as usize] = -1.0;
            while let Some(&n) = way.last() {
                let n = n as usize;
                if at[n] == first[n + 1] {
                    let inner = &children[first[n] as usize..first[n + 1] as usize];
                    let below: f64 = inner.iter().map(|c| sizes[*c as usize].max(0.0)).sum();
                    sizes[n] = 1.0 + below;
                    way.pop();
                    continue;
                }
                let child = children[at[n] as usize];
                at[n] += 1;
                if sizes[child as usize] == 0.0 {
                    sizes[child as usize] = -1.0;
                    way.push(child);
                }
            }
        }
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        largest > MOST_EXPANSION
    }
}
