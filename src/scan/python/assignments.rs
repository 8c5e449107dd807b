//! What an assignment changes: variables, attributes, items.

use ruff_python_ast::{Expr, Pattern};
use ruff_text_size::Ranged;

use super::dependencies::Fact;
use super::expressions::element_of;
use super::reader::Reader;
use super::rules::{code_exec, imports, network, obfuscation, replaced};
use super::scope::Frame;
use super::source::{Hit, offset_of};
use super::values::{Value, What};
use crate::scan::finding::Severity;

impl<'a> Reader<'a> {
    pub(super) fn bind_name(&mut self, frame: &mut Frame<'a>, name: &'a str, value: Value) {
        if frame.function.is_some() && frame.globals.contains(&name) {
            let value = Value {
                what: value.what.clone(),
                taint: value.taint.without_parameters(),
            };
            self.set_by_functions[frame.module].insert(name);
            let globals = &mut self.globals[frame.module];
            let joined = globals
                .get(name)
                .map_or_else(|| value.clone(), |k| k.join(&value));
            if globals.get(name) != Some(&joined) {
                globals.insert(name, joined);
                self.noted.change(Fact::Globals(frame.module));
            }
        }
        frame.bind(name, value);
    }

    pub(super) fn assign(&mut self, frame: &mut Frame<'a>, target: &'a Expr, value: &Value) {
        match target {
            Expr::Name(name) => {
                let dunder = name.id.starts_with("__") && name.id.ends_with("__");
                if dunder {
                    self.tell_reference(frame, offset_of(target.start()), value);
                }
                self.bind_name(frame, name.id.as_str(), value.clone());
            }
            Expr::Tuple(tuple) => self.destructure(frame, &tuple.elts, value),
            Expr::List(list) => self.destructure(frame, &list.elts, value),
            Expr::Starred(starred) => {
                let all = Value::unknown_with(value.taint.clone());
                self.assign(frame, &starred.value, &all);
            }
            Expr::Attribute(attribute) => {
                let base = self.value_of(frame, &attribute.value);
                let name = attribute.attr.as_str();
                let offset = offset_of(target.start());
                if name == "__code__" {
                    let message = "The code of a function is replaced.";
                    let hit = Hit::of(&code_exec::PY_CODE_OBJECT, message);
                    self.tell(frame.module, offset, hit, Vec::new());
                }
                for what in base.alternatives() {
                    match what {
                        What::Object(class) | What::Class(class) => {
                            self.set_attribute(*class, name, value);
                        }
                        What::Name(of) => {
                            self.set_library_attribute(frame, offset, of, name, value)
                        }
                        _ => {}
                    }
                }
            }
            Expr::Subscript(subscript) => {
                let key = self.value_of(frame, &subscript.slice);
                let base = self.value_of(frame, &subscript.value);
                let variable = key
                    .as_whole_text()
                    .filter(|_| base.name() == Some("os.environ"));
                if let Some(variable) =
                    variable.filter(|v| imports::RUNNING_VARIABLES.contains(&&**v))
                {
                    let hit = imports::running_variable(&variable);
                    self.tell(frame.module, offset_of(target.start()), hit, Vec::new());
                }
                let module = key
                    .as_whole_text()
                    .filter(|_| base.name() == Some("sys.modules"));
                if let Some(hit) = module.and_then(|m| replaced::replaced_module(&m)) {
                    self.tell(frame.module, offset_of(target.start()), hit, Vec::new());
                }
                let after = with_item(&base, &key, value);
                if matches!(&*subscript.value, Expr::Name(_) | Expr::Attribute(_)) {
                    self.assign(frame, &subscript.value, &after);
                }
            }
            _ => {}
        }
    }

    fn destructure(&mut self, frame: &mut Frame<'a>, targets: &'a [Expr], value: &Value) {
        let starred = targets.iter().any(Expr::is_starred_expr);
        let lists = value.alternatives().iter().filter_map(|what| match what {
            What::List(items, _) if items.len() == targets.len() && !starred => Some(items),
            _ => None,
        });
        let together = lists.fold(None::<Vec<Value>>, |all, items| {
            Some(match all {
                Some(all) => all
                    .iter()
                    .zip(items.iter())
                    .map(|(a, b)| a.join(b))
                    .collect(),
                None => items.to_vec(),
            })
        });
        if let Some(items) = together {
            for (target, item) in targets.iter().zip(&items) {
                self.assign(frame, target, item);
            }
            return;
        }
        let element = element_of(value);
        for target in targets {
            self.assign(frame, target, &element);
        }
    }

    /// `library.name = value`
    fn set_library_attribute(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        of: &str,
        name: &str,
        value: &Value,
    ) {
        let off = name == "_create_default_https_context"
            && value
                .name()
                .is_some_and(|n| n.contains("_create_unverified_context"))
            || name == "verify_mode" && value.name() == Some("ssl.CERT_NONE")
            || name == "check_hostname" && value.is_false()
            || name == "verify" && value.is_false() && of.contains("ession()");
        if off {
            let hit = Hit::of(
                &network::PY_TLS_OFF,
                "Certificates are not checked from here on.",
            );
            self.tell(frame.module, offset, hit, Vec::new());
        }
        if of == "builtins" {
            let message = format!("{name} of every module is replaced.");
            let hit = Hit::of(&imports::PY_IMPORT_HOOK, message);
            self.tell(frame.module, offset, hit, Vec::new());
        }
        if let Some(hit) = replaced::replaced_function(of, name, value) {
            self.tell(frame.module, offset, hit, Vec::new());
        }
        self.tell_reference(frame, offset, value);
    }

    /// Tells of a function that is kept where a call of it is not seen.
    pub(super) fn tell_reference(&mut self, frame: &Frame<'a>, offset: u32, value: &Value) {
        let Some(name) = value.name() else {
            return;
        };
        let rule = match name {
            "builtins.exec" => &code_exec::PY_EXEC,
            "builtins.eval" => &code_exec::PY_EVAL,
            "builtins.compile" => &code_exec::PY_COMPILE,
            _ if self.names.facts(name).is_dangerous => &obfuscation::PY_HIDDEN_NAME,
            _ => return,
        };
        let shown = super::rules::shown_name(name);
        let message = format!("{shown} is kept under another name.");
        let hit = Hit::of(rule, message);
        let hit = if rule.id == obfuscation::PY_HIDDEN_NAME.id {
            hit.at(Severity::Medium)
        } else {
            hit
        };
        self.tell(frame.module, offset, hit, Vec::new());
    }
}

/// `base[key] = value`
fn with_item(base: &Value, key: &Value, value: &Value) -> Value {
    if let What::Dict(items, _) = &base.what
        && key.as_whole_text().is_some()
    {
        let mut items = items.to_vec();
        items.retain(|(k, _)| k.as_whole_text() != key.as_whole_text());
        items.push((key.clone(), value.clone()));
        return Value::dict(items).with_taint(&base.taint);
    }
    base.clone().with_taint(&value.taint)
}

impl<'a> Reader<'a> {
    /// Binds the names of a `case`.
    pub(super) fn bind_pattern(
        &mut self,
        frame: &mut Frame<'a>,
        pattern: &'a Pattern,
        subject: &Value,
    ) {
        let inner = Value::unknown_with(subject.taint.clone());
        match pattern {
            Pattern::MatchAs(as_name) => {
                if let Some(name) = &as_name.name {
                    frame.bind(name.as_str(), subject.clone());
                }
                if let Some(pattern) = &as_name.pattern {
                    self.bind_pattern(frame, pattern, subject);
                }
            }
            Pattern::MatchSequence(all) => {
                for pattern in &all.patterns {
                    self.bind_pattern(frame, pattern, &inner);
                }
            }
            Pattern::MatchMapping(all) => {
                for pattern in &all.patterns {
                    self.bind_pattern(frame, pattern, &inner);
                }
                if let Some(rest) = &all.rest {
                    frame.bind(rest.as_str(), inner);
                }
            }
            Pattern::MatchClass(all) => {
                for pattern in &all.arguments.patterns {
                    self.bind_pattern(frame, pattern, &inner);
                }
                for keyword in &all.arguments.keywords {
                    let offset = offset_of(keyword.start());
                    let value = self.attribute_of(frame, offset, subject, keyword.attr.as_str());
                    self.bind_pattern(frame, &keyword.pattern, &value);
                }
            }
            Pattern::MatchOr(all) => {
                for pattern in &all.patterns {
                    self.bind_pattern(frame, pattern, subject);
                }
            }
            Pattern::MatchStar(star) => {
                if let Some(name) = &star.name {
                    frame.bind(name.as_str(), inner);
                }
            }
            Pattern::MatchValue(_) | Pattern::MatchSingleton(_) => {}
        }
    }
}
