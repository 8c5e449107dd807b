//! What an item of something is: `x[key]`, and names that hide behind one.

use ruff_python_ast::{Expr, ExprContext, ExprSubscript};
use ruff_text_size::Ranged;

use super::attributes::{INSIDES, NAMESPACE};
use super::constants;
use super::names;
use super::reader::Reader;
use super::rules::{self, credentials, obfuscation};
use super::scope::Frame;
use super::source::{Hit, offset_of};
use super::taint::{SourceKind, Taint};
use super::values::{Value, What};
use crate::scan::finding::Severity;

impl<'a> Reader<'a> {
    pub(super) fn item(&mut self, frame: &mut Frame<'a>, subscript: &'a ExprSubscript) -> Value {
        let base = self.value_of(frame, &subscript.value);
        if let Expr::Slice(slice) = &*subscript.slice {
            let mut bounds = [None; 3];
            let parts = [&slice.lower, &slice.upper, &slice.step];
            let mut known = true;
            for (bound, part) in bounds.iter_mut().zip(parts) {
                if let Some(part) = part {
                    *bound = self.value_of(frame, part).as_int();
                    known &= bound.is_some();
                }
            }
            if !known {
                return Value::unknown_with(base.taint);
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
        if matches!(name, Some("HOME" | "USERPROFILE")) {
            return Value::text("~", true).with_taint(&taint);
        }
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
