//! What an expression is, as far as it can be told without running it.

use std::rc::Rc;

use super::taint::Taint;

/// Stands in a text for a part that is not known.
pub(super) const UNKNOWN_PART: char = '\u{f8ff}';
/// Stands in a text for the folder that Python imports packages from.
pub(super) const SITE_PART: char = '\u{f8fe}';

/// A text or a list that is longer is not kept.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;
const MOST_ITEMS: usize = 512;
const MOST_ALTERNATIVES: usize = 6;
/// A dotted name that is longer is not kept.
const LONGEST_NAME: usize = 160;

pub(super) type FunctionId = usize;
pub(super) type ClassId = usize;
pub(super) type ModuleId = usize;

/// What something is. With `Eq`, what is shared is known to be equal without a look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Unknown,
    /// What a library has at this dotted name; `()` follows for what a call of it returns, `[]` for
    /// an item of it, and `?` starts the name of a thing whose origin is not known.
    Name(Rc<str>),
    /// Text with [`UNKNOWN_PART`] for what is not known; `true` if it was put together out of parts.
    Text(Rc<str>, bool),
    Bytes(Rc<[u8]>, bool),
    Int(i64),
    /// A constant that is neither text nor a whole number.
    Constant(&'static str),
    /// With its [`weight`], as for all that hold values.
    List(Rc<Vec<Value>>, u32),
    Dict(Rc<Vec<(Value, Value)>>, u32),
    Function(FunctionId),
    /// A method with the class of the object that it was taken from.
    Method(FunctionId, ClassId),
    Class(ClassId),
    Object(ClassId),
    Module(ModuleId),
    /// `functools.partial` and what it was given.
    Partial(Rc<(Value, Vec<Value>)>, u32),
    Either(Rc<Vec<What>>, u32),
}

/// A value that holds more than this is taken for unknown: values share what they hold, and to
/// compare two of them must stay cheap.
const HEAVIEST: u32 = 3000;

impl What {
    /// How many values it holds, itself counted.
    fn weight(&self) -> u32 {
        match self {
            What::List(_, weight)
            | What::Dict(_, weight)
            | What::Partial(_, weight)
            | What::Either(_, weight) => *weight,
            _ => 1,
        }
    }
}

/// Whether every part of a text is known. Both marks begin with the same byte, which most texts do
/// not have.
fn is_whole(text: &str) -> bool {
    memchr::memchr(0xef, text.as_bytes()).is_none() || !text.contains([UNKNOWN_PART, SITE_PART])
}

fn sum(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(1, u32::saturating_add)
}

/// A value: what it is, and where its data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub what: What,
    pub taint: Taint,
}

impl Value {
    pub(super) const UNKNOWN: Value = Value {
        what: What::Unknown,
        taint: Taint::NONE,
    };

    pub(super) fn of(what: What) -> Value {
        Value {
            what,
            taint: Taint::NONE,
        }
    }

    pub(super) fn unknown_with(taint: Taint) -> Value {
        Value {
            what: What::Unknown,
            taint,
        }
    }

    pub(super) fn named(name: &str) -> Value {
        if name.len() > LONGEST_NAME {
            return Value::UNKNOWN;
        }
        Value::of(What::Name(Rc::from(name)))
    }

    pub(super) fn literal(text: &str) -> Value {
        Value::text(text, false)
    }

    /// A text; `built` if it is not a literal.
    pub(super) fn text(text: &str, built: bool) -> Value {
        if text.len() > LONGEST_TEXT {
            return Value::UNKNOWN;
        }
        Value::of(What::Text(Rc::from(text), built))
    }

    pub(super) fn bytes(bytes: &[u8], built: bool) -> Value {
        if bytes.len() > LONGEST_TEXT {
            return Value::UNKNOWN;
        }
        Value::of(What::Bytes(Rc::from(bytes), built))
    }

    pub(super) fn list(mut items: Vec<Value>) -> Value {
        let taint = Taint::join_all(items.iter().map(|v| &v.taint));
        items.truncate(MOST_ITEMS);
        let weight = sum(items.iter().map(|v| v.what.weight()));
        if weight > HEAVIEST {
            return Value::unknown_with(taint);
        }
        Value {
            what: What::List(Rc::new(items), weight),
            taint,
        }
    }

    pub(super) fn dict(mut items: Vec<(Value, Value)>) -> Value {
        let taint = Taint::join_all(items.iter().flat_map(|(k, v)| [&k.taint, &v.taint]));
        items.truncate(MOST_ITEMS * 4);
        let weight = sum(items
            .iter()
            .flat_map(|(k, v)| [k.what.weight(), v.what.weight()]));
        if weight > HEAVIEST {
            return Value::unknown_with(taint);
        }
        Value {
            what: What::Dict(Rc::new(items), weight),
            taint,
        }
    }

    /// A function and arguments that are given to it later.
    pub(super) fn partial(function: Value, arguments: Vec<Value>) -> Value {
        let weights = arguments.iter().map(|v| v.what.weight());
        let weight = sum(weights.chain([function.what.weight()]));
        if weight > HEAVIEST {
            return Value::UNKNOWN;
        }
        Value::of(What::Partial(Rc::new((function, arguments)), weight))
    }

    pub(super) fn with_taint(mut self, taint: &Taint) -> Value {
        self.taint = self.taint.join(taint);
        self
    }

    /// Returns it with the taint of each part changed.
    pub(super) fn map_taints(&self, change: &dyn Fn(&Taint) -> Taint) -> Value {
        let what = match &self.what {
            What::List(items, weight) if !self.taint.is_none() => {
                let items = items.iter().map(|v| v.map_taints(change));
                What::List(Rc::new(items.collect()), *weight)
            }
            What::Dict(items, weight) if !self.taint.is_none() => {
                let pair = |(k, v): &(Value, Value)| (k.clone(), v.map_taints(change));
                What::Dict(Rc::new(items.iter().map(pair).collect()), *weight)
            }
            what => what.clone(),
        };
        Value {
            what,
            taint: change(&self.taint),
        }
    }

    /// What it is in one way or another.
    pub(super) fn alternatives(&self) -> &[What] {
        match &self.what {
            What::Either(all, _) => all,
            one => std::slice::from_ref(one),
        }
    }

    /// Returns the value that is one or the other.
    pub(super) fn join(&self, other: &Value) -> Value {
        let taint = self.taint.join(&other.taint);
        let what = if self.what == other.what || matches!(other.what, What::Unknown) {
            self.what.clone()
        } else if matches!(self.what, What::Unknown) {
            other.what.clone()
        } else {
            let mut all = self.alternatives().to_vec();
            for what in other.alternatives() {
                if !all.contains(what) && all.len() < MOST_ALTERNATIVES {
                    all.push(what.clone());
                }
            }
            let weight = sum(all.iter().map(What::weight));
            if weight > HEAVIEST {
                What::Unknown
            } else {
                What::Either(Rc::new(all), weight)
            }
        };
        Value { what, taint }
    }

    /// The text in the one way that is a text; bytes count as text.
    pub(super) fn as_text(&self) -> Option<Rc<str>> {
        self.alternatives().iter().find_map(|what| match what {
            What::Text(text, _) => Some(text.clone()),
            What::Bytes(bytes, _) => std::str::from_utf8(bytes).ok().map(Rc::from),
            _ => None,
        })
    }

    /// The text if every part of it is known.
    pub(super) fn as_whole_text(&self) -> Option<Rc<str>> {
        self.as_text().filter(|text| is_whole(text))
    }

    /// Whether its text is known and no literal of the source.
    pub(super) fn is_built(&self) -> bool {
        self.alternatives()
            .iter()
            .any(|w| matches!(w, What::Text(_, true) | What::Bytes(_, true)))
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match &self.what {
            What::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The items, in the first way that is a list.
    pub(super) fn items(&self) -> Option<&[Value]> {
        self.alternatives().iter().find_map(|what| match what {
            What::List(items, _) => Some(&***items),
            _ => None,
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.alternatives().iter().find_map(|what| match what {
            What::Name(name) => Some(&**name),
            _ => None,
        })
    }

    /// Whether the whole of it is written in the source.
    pub(super) fn is_constant(&self) -> bool {
        match &self.what {
            What::Text(text, _) => is_whole(text),
            What::Bytes(..) | What::Int(_) | What::Constant(_) => true,
            What::List(items, _) => items.iter().all(Value::is_constant),
            What::Name(name) => &**name == "sys.executable",
            _ => false,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self.what, What::Constant("True")) || matches!(self.what, What::Int(n) if n != 0)
    }

    pub(super) fn is_false(&self) -> bool {
        matches!(self.what, What::Constant("False" | "None")) || matches!(self.what, What::Int(0))
    }

    /// What it becomes as a part of a text.
    pub(super) fn as_part(&self) -> String {
        if let Some(text) = self.as_text() {
            return text.to_string();
        }
        match &self.what {
            What::Int(n) => n.to_string(),
            What::Name(name) if super::names::is_site_folder(name) => SITE_PART.to_string(),
            What::Name(name) if &**name == "sys.executable" => "python".to_string(),
            _ => UNKNOWN_PART.to_string(),
        }
    }

    /// A command line: the text, or the words of a list with blanks between.
    pub(super) fn as_command_line(&self) -> String {
        for what in self.alternatives() {
            match what {
                What::List(items, _) => {
                    let words: Vec<String> = items.iter().map(Value::as_part).collect();
                    return words.join(" ");
                }
                What::Text(..) | What::Bytes(..) => return self.as_part(),
                _ => {}
            }
        }
        self.as_part()
    }
}
