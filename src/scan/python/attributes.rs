//! Names, attributes and items: what they stand for.

use rustc_hash::FxHashMap as HashMap;

use super::dependencies::Fact;
use super::names;
use super::reader::Reader;
use super::rules::{self, obfuscation};
use super::scope::Frame;
use super::source::Hit;
use super::taint::{SourceKind, cleared};
use super::values::{ClassId, Value, What};

/// What `globals()` and `vars()` are.
pub(super) const NAMESPACE: &str = "?globals";
/// What `f.__globals__` and its like are: the names of a module, reached through an object.
pub(super) const INSIDES: &str = "?insides";

impl<'a> Reader<'a> {
    pub(super) fn look_up(&mut self, frame: &Frame<'a>, name: &str) -> Value {
        if let Some(value) = frame.state.variables().get(name) {
            return value.clone();
        }
        let mut function = frame
            .function
            .and_then(|f| self.program.functions[f].parent);
        while let Some(id) = function {
            self.noted.look_at(Fact::Captured(id));
            if let Some(value) = self.captured.get(&id).and_then(|c| c.get(name)) {
                return value.clone();
            }
            function = self.program.functions[id].parent;
        }
        self.look_up_global(frame.module, name)
    }

    pub(super) fn look_up_global(&self, module: usize, name: &str) -> Value {
        self.noted.look_at(Fact::Globals(module));
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
        self.names.unbound(name)
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
                self.noted.look_at(Fact::Globals(*module));
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
                        _ if object && self.inherited(*class, attribute, 0).is_some() => {
                            let full = self.inherited(*class, attribute, 0);
                            full.map_or(Value::UNKNOWN, |n| Value::named(&n))
                        }
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
            "__self__" if name.starts_with("builtins.") => {
                let hit = Hit::of(
                    &obfuscation::PY_OBJECT_ESCAPE,
                    "All functions of Python are reached through one of them.",
                );
                self.tell(frame.module, offset, hit, Vec::new());
                return Value::named("builtins");
            }
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
        let value = self.names.attribute(name, attribute);
        Self::named_source(frame, offset, value)
    }

    /// What a library has at a name, with where its data comes from.
    pub(super) fn named_source(frame: &Frame<'a>, offset: u32, value: Value) -> Value {
        let (kind, message) = match value.name().unwrap_or_default() {
            "os.environ" | "os.environb" => (SourceKind::Credential, "the environment is read"),
            "sys.argv" => (SourceKind::Argument, "arguments of the command line"),
            "flask.request" | "bottle.request" => (SourceKind::Request, "a request comes in"),
            _ => return value,
        };
        value.with_taint(&Self::source(frame, offset, kind, message))
    }

    /// An attribute of a class of the node, or of one that it is made of.
    pub(super) fn attribute_of_class(
        &self,
        class: ClassId,
        attribute: &str,
        object: bool,
        depth: u8,
    ) -> Option<Value> {
        self.noted.look_at(Fact::Class(class));
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

    /// A method that an object has of a library's class, if rules speak of it.
    fn inherited(&self, class: ClassId, attribute: &str, depth: u8) -> Option<String> {
        // Whoever says which classes a pickle may name has thought of it.
        let restricted = self.program.classes[class]
            .methods
            .contains_key("find_class");
        if restricted || depth > 8 {
            return None;
        }
        self.bases[class].iter().find_map(|base| match &base.what {
            What::Class(above) if *above != class => self.inherited(*above, attribute, depth + 1),
            What::Name(name) if !name.starts_with('?') => {
                let full = format!("{name}().{attribute}");
                let known = rules::call_rules(&full).next().is_some()
                    || rules::flow_rules(&full).next().is_some();
                known.then_some(full)
            }
            _ => None,
        })
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
                    self.noted.change(Fact::Class(class));
                }
            }
            None => {
                attributes.insert(name, value);
                self.noted.change(Fact::Class(class));
            }
        }
    }
}
