//! Functions that reach others by name: `getattr`, `__import__`, `operator`, `partial`.

use super::attributes::{INSIDES, NAMESPACE};
use super::calls::Arguments;
use super::names;
use super::reader::Reader;
use super::rules::{CallSite, obfuscation};
use super::scope::Frame;
use super::source::Hit;
use super::taint::{SourceKind, Taint};
use super::values::{Value, What};
use crate::scan::finding::Severity;

impl<'a> Reader<'a> {
    /// Functions that reach others by name.
    pub(super) fn reflected(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let first = call.positional.first();
        match name {
            "builtins.getattr" | "inspect.getattr_static" | "builtins.object.__getattribute__" => {
                let base = first?;
                let key = call.positional.get(1)?;
                let fallback = call.positional.get(2).cloned();
                let value = self.attribute_by_text(frame, offset, base, key)?;
                Some(fallback.map_or(value.clone(), |f| value.join(&f)))
            }
            // Pairs of names and members: a dict of them is the module's.
            "inspect.getmembers" => first?
                .name()
                .map(|n| Value::named(&format!("{n}.__dict__"))),
            "builtins.dict" => first?
                .name()
                .filter(|n| n.ends_with(".__dict__"))
                .map(Value::named),
            "builtins.globals" | "builtins.locals" => Some(Value::named(NAMESPACE)),
            "builtins.vars" => match first {
                None => Some(Value::named(NAMESPACE)),
                Some(of) => of.name().map(|n| Value::named(&format!("{n}.__dict__"))),
            },
            "builtins.__import__" | "importlib.import_module" | "importlib.reload" => {
                let key = first?;
                if let Some(module) = key.name() {
                    return Some(Value::named(module));
                }
                self.imported_by_text(frame, offset, name, key)
            }
            "importlib.util.find_spec" => {
                let key = first.filter(|_| call.positional.len() == 1)?;
                self.imported_by_text(frame, offset, name, key)
            }
            "importlib.util.module_from_spec" => Some(Value::named(first?.name()?)),
            "pkgutil.resolve_name"
            | "pydoc.locate"
            | "django.utils.module_loading.import_string"
            | "werkzeug.utils.import_string" => {
                let text = first?.as_whole_text()?;
                let full = names::canonical(&text.replace(':', "."));
                self.tell_hidden(frame, offset, &full, first?);
                Some(Value::named(&full))
            }
            "functools.partial" | "functools.partialmethod" => Some(Value::partial(
                first?.clone(),
                call.positional[1..].to_vec(),
            )),
            "operator.attrgetter" | "operator.itemgetter" | "operator.methodcaller" => Some(
                Value::partial(Value::named(&format!("{name}()")), call.positional.to_vec()),
            ),
            "operator.attrgetter()" | "operator.itemgetter()" => {
                let [key, base] = call.positional else {
                    return None;
                };
                self.attribute_by_text(frame, offset, base, key)
            }
            "operator.methodcaller()" => {
                let (base, rest) = call.positional.split_last()?;
                let method = self.attribute_by_text(frame, offset, base, rest.first()?)?;
                let arguments = Arguments::of(rest[1..].to_vec());
                Some(self.invoke(frame, offset, &method, None, &arguments, true))
            }
            "operator.call" => {
                let arguments = Arguments::of(call.positional[1..].to_vec());
                Some(self.invoke(frame, offset, first?, None, &arguments, true))
            }
            _ => self.reflected_by_method(frame, offset, name, call),
        }
    }

    /// `x.__dict__.get(key)`, `x.__getattribute__(key)`, `loader.load_module(key)`.
    fn reflected_by_method(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let key = call.positional.first()?;
        let (of, method) = name.rsplit_once('.')?;
        match method {
            "__getattribute__" | "__getattr__" => {
                let base = call.receiver.cloned().unwrap_or_else(|| Value::named(of));
                self.attribute_by_text(frame, offset, &base, key)
            }
            "get" | "__getitem__" | "pop" | "setdefault" => {
                if matches!(of, "os.environ" | "os.environb") {
                    let text = key.as_whole_text();
                    return Some(self.variable_of_environment(frame, offset, text.as_deref()));
                }
                let keeps = of.ends_with(".__dict__")
                    || matches!(of, NAMESPACE | INSIDES)
                    || of == "sys.modules"
                    || of == "builtins";
                if keeps {
                    return Some(self.item_of(frame, offset, &Value::named(of), key));
                }
                let base = call.receiver?;
                let holds = matches!(base.what, What::Dict(..) | What::List(..));
                let field = key.as_whole_text().filter(|_| {
                    let map = !holds && !name.starts_with("aiohttp.");
                    map && base.taint.has(SourceKind::Request)
                });
                if let Some(field) = field {
                    let default = call.positional.get(1).map_or(&Taint::NONE, |d| &d.taint);
                    let taint = base.taint.field(&field).join(default);
                    return Some(Value::named("?field").with_taint(&taint));
                }
                (holds && method != "pop").then(|| {
                    let value = self.item_of(frame, offset, base, key);
                    let other = call.positional.get(1).map_or(&Taint::NONE, |d| &d.taint);
                    value.with_taint(other)
                })
            }
            "load_module" | "import_module" if key.as_whole_text().is_some() => {
                self.imported_by_text(frame, offset, name, key)
            }
            "__call__" if of.starts_with('?') => None,
            _ => None,
        }
    }

    fn attribute_by_text(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        base: &Value,
        key: &Value,
    ) -> Option<Value> {
        let Some(text) = key.as_whole_text() else {
            let module = base.name().is_some_and(|n| {
                matches!(n, "os" | "subprocess" | "builtins" | "ctypes" | "posix")
            });
            if module {
                let hit = Hit::of(
                    &obfuscation::PY_HIDDEN_NAME,
                    "A function of a dangerous module is reached by a name that is made at run time.",
                );
                self.tell(frame.module, offset, hit.at(Severity::Medium), Vec::new());
            }
            return None;
        };
        let value = self.attribute_of(frame, offset, base, &text);
        for name in value.alternatives().iter().filter_map(|w| match w {
            What::Name(name) => Some(name.clone()),
            _ => None,
        }) {
            self.tell_hidden(frame, offset, &name, key);
        }
        Some(value)
    }

    fn imported_by_text(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        function: &str,
        key: &Value,
    ) -> Option<Value> {
        let text = key.as_whole_text()?;
        let full = names::canonical(&text);
        self.tell_hidden(frame, offset, &full, key);
        let plain = function == "builtins.__import__";
        let shown = if plain {
            full.split('.').next().unwrap_or(&full)
        } else {
            &full
        };
        Some(Value::named(shown))
    }
}
