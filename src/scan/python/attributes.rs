//! Names, attributes and items: what they stand for.

use std::collections::HashMap;

use ruff_python_ast::{Expr, ExprContext, ExprSubscript};
use ruff_text_size::Ranged;

use super::constants;
use super::names;
use super::reader::Reader;
use super::rules::{self, credentials, obfuscation};
use super::scope::Frame;
use super::source::{Hit, offset_of};
use super::taint::{SourceKind, Taint, cleared};
use super::values::{ClassId, Value, What};
use crate::scan::finding::Severity;

/// What `globals()` and `vars()` are.
pub(super) const NAMESPACE: &str = "?globals";
/// What `f.__globals__` and its like are: the names of a module, reached through an object.
pub(super) const INSIDES: &str = "?insides";

impl<'a> Reader<'a> {
    pub(super) fn look_up(&mut self, frame: &Frame<'a>, name: &str) -> Value {
        if let Some(value) = frame.state.variables.get(name) {
            return value.clone();
        }
        let mut function = frame
            .function
            .and_then(|f| self.program.functions[f].parent);
        while let Some(id) = function {
            if let Some(value) = self.captured.get(&id).and_then(|c| c.get(name)) {
                return value.clone();
            }
            function = self.program.functions[id].parent;
        }
        self.look_up_global(frame.module, name)
    }

    pub(super) fn look_up_global(&self, module: usize, name: &str) -> Value {
        if let Some(value) = self.globals[module].get(name) {
            return value.clone();
        }
        for library in &self.stars[module] {
            let full = names::canonical(&format!("{library}.{name}"));
            let known = rules::call_rules(&full).next().is_some()
                || rules::flow_rules(&full).next().is_some();
            if known {
                return Value::named(&full);
            }
        }
        if name == "__file__" {
            return Value::named("__file__");
        }
        names::unbound(name).map_or_else(
            || Value::named(&format!("?{name}")),
            |full| Value::named(&full),
        )
    }

    pub(super) fn attribute_of(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        base: &Value,
        attribute: &str,
    ) -> Value {
        let mut all: Option<Value> = None;
        for what in base.alternatives() {
            let one = self.attribute_of_one(frame, offset, what, base, attribute);
            all = Some(match all {
                Some(known) => known.join(&one),
                None => one,
            });
        }
        let value = all.unwrap_or(Value::UNKNOWN);
        match attribute {
            // The last part of a path leads nowhere else.
            "name" | "stem" | "suffix" => {
                let taint = base.taint.clear(cleared::PATH);
                value.with_taint(&taint)
            }
            "filename" | "_value" => value.with_taint(&base.taint),
            _ => value.with_taint(&base.taint),
        }
    }

    fn attribute_of_one(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        what: &What,
        base: &Value,
        attribute: &str,
    ) -> Value {
        match what {
            What::Name(name) => self.attribute_of_name(frame, offset, name, attribute),
            What::Module(module) => {
                if let Some(value) = self.globals[*module].get(attribute) {
                    return value.clone();
                }
                match self.program.submodule(*module, attribute) {
                    Some(inner) => Value::of(What::Module(inner)),
                    None => Value::named(&format!("?.{attribute}")),
                }
            }
            What::Class(class) | What::Object(class) => {
                let object = matches!(what, What::Object(_));
                self.attribute_of_class(*class, attribute, object, 0)
                    .unwrap_or_else(|| match attribute {
                        "__class__" => Value::of(What::Class(*class)),
                        "__dict__" => Value::named(NAMESPACE),
                        _ if object => Value::named(&format!("?self.{attribute}")),
                        _ => Value::named(&format!("?.{attribute}")),
                    })
            }
            What::Text(text, _) => match attribute {
                "parent" => {
                    let parent = text.rsplit_once('/').map_or("", |(p, _)| p);
                    Value::text(parent, true)
                }
                "name" => Value::text(text.rsplit('/').next().unwrap_or(""), true),
                _ => Value::named(&format!("?.{attribute}")),
            },
            What::Function(_) if attribute == "__globals__" => Value::named(INSIDES),
            What::Function(_) | What::Method(..) | What::Partial(..)
                if matches!(attribute, "__call__" | "__func__" | "__wrapped__") =>
            {
                Value::of(what.clone())
            }
            _ => {
                let _ = base;
                Value::named(&format!("?.{attribute}"))
            }
        }
    }

    fn attribute_of_name(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        attribute: &str,
    ) -> Value {
        match attribute {
            "__globals__" | "f_globals" | "f_builtins" | "f_locals" => {
                return Value::named(INSIDES);
            }
            "__builtins__" => return Value::named("builtins"),
            "__subclasses__"
                if [
                    "__base__",
                    "__bases__",
                    "__mro__",
                    "builtins.object",
                    "mro()",
                ]
                .iter()
                .any(|b| name.contains(b)) =>
            {
                let hit = Hit::of(
                    &obfuscation::PY_OBJECT_ESCAPE,
                    "All classes are reached through the insides of an object.",
                );
                self.tell(frame.module, offset, hit, Vec::new());
            }
            _ => {}
        }
        let full = names::attribute_name(name, attribute);
        let value = Value::named(&full);
        match full.as_str() {
            "os.environ" | "os.environb" => value.with_taint(&Self::source(
                frame,
                offset,
                SourceKind::Credential,
                "the environment is read",
            )),
            "sys.argv" => value.with_taint(&Self::source(
                frame,
                offset,
                SourceKind::Argument,
                "arguments of the command line",
            )),
            "flask.request" | "bottle.request" => value.with_taint(&Self::source(
                frame,
                offset,
                SourceKind::Request,
                "a request comes in",
            )),
            _ => value,
        }
    }

    /// An attribute of a class of the node, or of one that it is made of.
    pub(super) fn attribute_of_class(
        &self,
        class: ClassId,
        attribute: &str,
        object: bool,
        depth: u8,
    ) -> Option<Value> {
        let known = self.attributes[class].get(attribute);
        let method = self.program.classes[class].methods.get(attribute);
        let method = method.map(|id| {
            let binding = self.program.functions[*id].binding;
            let bound = match binding {
                super::module::Binding::Nothing => false,
                super::module::Binding::Object => object,
                super::module::Binding::Class => true,
            };
            Value::of(if bound {
                What::Method(*id, class)
            } else {
                What::Function(*id)
            })
        });
        match (method, known) {
            (Some(method), Some(known)) if !matches!(known.what, What::Function(_)) => {
                return Some(method.join(known));
            }
            (Some(method), _) => return Some(method),
            (None, Some(known)) => return Some(known.clone()),
            (None, None) => {}
        }
        if depth > 8 {
            return None;
        }
        self.bases[class].iter().find_map(|base| match base.what {
            What::Class(above) if above != class => {
                self.attribute_of_class(above, attribute, object, depth + 1)
            }
            _ => None,
        })
    }

    pub(super) fn item(&mut self, frame: &mut Frame<'a>, subscript: &'a ExprSubscript) -> Value {
        let base = self.value_of(frame, &subscript.value);
        if let Expr::Slice(slice) = &*subscript.slice {
            let mut bounds = [None; 3];
            let parts = [&slice.lower, &slice.upper, &slice.step];
            for (bound, part) in bounds.iter_mut().zip(parts) {
                if let Some(part) = part {
                    let value = self.value_of(frame, part);
                    let Some(n) = value.as_int() else {
                        return Value::unknown_with(base.taint);
                    };
                    *bound = Some(n);
                }
            }
            let [lower, upper, step] = bounds;
            return constants::slice_of(&base, lower, upper, step).with_taint(&base.taint);
        }
        let key = self.value_of(frame, &subscript.slice);
        if subscript.ctx != ExprContext::Load {
            return Value::UNKNOWN;
        }
        let offset = offset_of(subscript.range().start());
        self.item_of(frame, offset, &base, &key)
    }

    /// `base[key]`
    pub(super) fn item_of(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        base: &Value,
        key: &Value,
    ) -> Value {
        let text = key.as_whole_text();
        let mut all: Option<Value> = None;
        let mut exact = false;
        for what in base.alternatives() {
            let one = match what {
                What::Dict(items, _) => match find_item(items, key) {
                    Some(value) => {
                        exact = true;
                        value
                    }
                    None => join_values(items.iter().map(|(_, v)| v)),
                },
                What::List(items, _) => {
                    match key.as_int().and_then(|n| constants::item_of(base, n)) {
                        Some(value) => {
                            exact = true;
                            value
                        }
                        None => join_values(items.iter()),
                    }
                }
                What::Text(..) | What::Bytes(..) => key
                    .as_int()
                    .and_then(|n| constants::item_of(base, n))
                    .unwrap_or(Value::UNKNOWN),
                What::Name(name) if matches!(&**name, NAMESPACE | INSIDES) => {
                    self.namespace_item(frame, offset, key, &**name == INSIDES)
                }
                What::Name(name) => self.item_of_name(frame, offset, name, text.as_deref(), key),
                _ => Value::UNKNOWN,
            };
            all = Some(match all {
                Some(known) => known.join(&one),
                None => one,
            });
        }
        let value = all.unwrap_or(Value::UNKNOWN);
        if exact || base.name() == Some("os.environ") {
            return value;
        }
        match text {
            Some(field) => value.with_taint(&base.taint.field(&field)),
            None => value.with_taint(&base.taint),
        }
    }

    fn item_of_name(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        text: Option<&str>,
        key: &Value,
    ) -> Value {
        if matches!(name, "os.environ" | "os.environb") {
            return self.variable_of_environment(frame, offset, text);
        }
        let full = names::item_name(name, text);
        if full != format!("{name}[]") {
            self.tell_hidden(frame, offset, &full, key);
        }
        Value::named(&full)
    }

    /// A variable of the environment: an argument, or a secret.
    pub(super) fn variable_of_environment(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: Option<&str>,
    ) -> Value {
        let secret = name.and_then(credentials::secret_variable);
        let kind = if secret.is_some() {
            SourceKind::Secret
        } else {
            SourceKind::Argument
        };
        if let Some(hit) = secret {
            self.tell(frame.module, offset, hit, Vec::new());
        }
        let taint = Self::source(frame, offset, kind, "a variable of the environment is read");
        Value::named("os.environ[]").with_taint(&taint)
    }

    /// `globals()[key]`
    fn namespace_item(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        key: &Value,
        insides: bool,
    ) -> Value {
        let Some(text) = key.as_whole_text() else {
            return Value::UNKNOWN;
        };
        if insides
            && matches!(
                &*text,
                "__builtins__" | "os" | "sys" | "subprocess" | "__import__"
            )
        {
            let message = format!("{text} is reached through the insides of an object.");
            let hit = Hit::of(&obfuscation::PY_OBJECT_ESCAPE, message);
            self.tell(frame.module, offset, hit, Vec::new());
        }
        let value = self.look_up(frame, &text);
        if let Some(name) = value.name().map(str::to_string) {
            self.tell_hidden(frame, offset, &name, key);
        }
        value
    }

    /// Tells if something dangerous is reached by a text.
    pub(super) fn tell_hidden(&mut self, frame: &Frame<'a>, offset: u32, full: &str, key: &Value) {
        let dangerous = rules::is_dangerous(full);
        let module = matches!(
            full,
            "os" | "subprocess" | "ctypes" | "pty" | "pickle" | "marshal" | "builtins" | "socket"
        );
        let built = key.is_built() || key.taint.has(SourceKind::Decoded);
        if !(dangerous || module && built) {
            return;
        }
        let shown = rules::shown_name(full);
        let message = if built {
            format!("{shown} is reached by a name that is put together.")
        } else {
            format!("{shown} is reached by a text, which hides it.")
        };
        let severity = if built {
            Severity::Critical
        } else {
            Severity::High
        };
        let hit = Hit::of(&obfuscation::PY_HIDDEN_NAME, message).at(severity);
        self.tell(frame.module, offset, hit, Vec::new());
    }

    /// Adds to what an attribute of a class may be.
    pub(super) fn set_attribute(&mut self, class: ClassId, name: &'a str, value: &Value) {
        let value = Value {
            what: value.what.clone(),
            taint: value.taint.without_parameters(),
        };
        let attributes: &mut HashMap<&'a str, Value> = &mut self.attributes[class];
        match attributes.get_mut(name) {
            Some(known) => {
                let joined = known.join(&value);
                if joined != *known {
                    *known = joined;
                    self.changed = true;
                }
            }
            None => {
                attributes.insert(name, value);
                self.changed = true;
            }
        }
    }
}

fn find_item(items: &[(Value, Value)], key: &Value) -> Option<Value> {
    let text = key.as_whole_text();
    let number = key.as_int();
    let same = |k: &Value| {
        text.is_some() && k.as_whole_text() == text || number.is_some() && k.as_int() == number
    };
    items
        .iter()
        .rev()
        .find(|(k, _)| same(k))
        .map(|(_, v)| v.clone())
}

fn join_values<'v>(values: impl Iterator<Item = &'v Value>) -> Value {
    let mut values = values.take(8);
    let first = values.next().cloned().unwrap_or(Value::UNKNOWN);
    let joined = values.fold(first, |known, v| known.join(v));
    Value {
        what: joined.what,
        taint: Taint::NONE.join(&joined.taint),
    }
}
