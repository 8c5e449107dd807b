//! What a call does: of a library's function, of one of the node, or of one that is handed on.

use std::rc::Rc;

use ruff_python_ast::{Expr, ExprCall};
use ruff_text_size::Ranged;

use super::expressions::element_of;
use super::module::Binding;
use super::reader::Reader;
use super::rules::{CallSite, files, imports, network};
use super::scope::Frame;
use super::source::{Hit, offset_of};
use super::summary::effects;
use super::values::{FunctionId, Value, What};
use crate::scan::finding::Severity;

/// The arguments of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Value>,
    pub named: Vec<(Rc<str>, Value)>,
    /// There are `*arguments` or `**arguments`.
    pub spread: bool,
}

impl Arguments {
    pub(super) fn of(positional: Vec<Value>) -> Arguments {
        Arguments {
            positional,
            ..Arguments::default()
        }
    }

    pub(super) fn keyword(&self, name: &str) -> Option<&Value> {
        self.named
            .iter()
            .find(|(k, _)| &**k == name)
            .map(|(_, v)| v)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Value> {
        self.positional
            .iter()
            .chain(self.named.iter().map(|(_, v)| v))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn call(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall) -> Value {
        let offset = offset_of(call.range().start());
        let (callee, receiver) = match &*call.func {
            Expr::Attribute(attribute) => {
                let receiver = self.value_of(frame, &attribute.value);
                let callee = self.attribute_of(frame, offset, &receiver, attribute.attr.as_str());
                (callee, Some(receiver))
            }
            other => (self.value_of(frame, other), None),
        };
        let arguments = self.arguments_of(frame, call);
        self.note_opened(frame, call, &callee, &arguments);
        let value = self.invoke(frame, offset, &callee, receiver.as_ref(), &arguments, false);
        let value = match &*call.func {
            Expr::Attribute(method) => self
                .pass_queue(frame, method, receiver.as_ref(), &arguments)
                .unwrap_or(value),
            _ => value,
        };
        self.note_route_call(frame, offset, &callee, &arguments);
        // A list that is added to holds what is added.
        if let Expr::Attribute(attribute) = &*call.func {
            self.note_added(frame, attribute, receiver.as_ref(), &arguments);
        }
        value
    }

    fn arguments_of(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall) -> Arguments {
        let mut arguments = Arguments::default();
        for argument in &call.arguments.args {
            let value = self.value_of(frame, argument);
            if !argument.is_starred_expr() {
                arguments.positional.push(value);
                continue;
            }
            arguments.spread = true;
            match value.items() {
                Some(items) => arguments.positional.extend(items.iter().cloned()),
                None => arguments.positional.push(element_of(&value)),
            }
        }
        for keyword in &call.arguments.keywords {
            let value = self.value_of(frame, &keyword.value);
            match (&keyword.arg, &value.what) {
                (Some(name), _) => arguments.named.push((Rc::from(name.as_str()), value)),
                (None, What::Dict(items, _)) => {
                    arguments.spread = true;
                    for (key, value) in items.iter() {
                        if let Some(name) = key.as_whole_text() {
                            arguments.named.push((name, value.clone()));
                        }
                    }
                }
                (None, _) => {
                    arguments.spread = true;
                    arguments.named.push((Rc::from("**"), value));
                }
            }
        }
        arguments
    }

    /// Calls what `callee` is with `arguments`; `passed` if something else does it.
    pub(super) fn invoke(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        callee: &Value,
        receiver: Option<&Value>,
        arguments: &Arguments,
        passed: bool,
    ) -> Value {
        let mut all: Option<Value> = None;
        for what in callee.alternatives() {
            let one = match what {
                What::Name(name) => {
                    self.call_library(frame, offset, name, callee, receiver, arguments, passed)
                }
                What::Function(id) => self.call_function(frame, offset, *id, None, arguments),
                What::Method(id, class) => {
                    let binding = self.program.functions[*id].binding;
                    let own = match (binding, receiver.map(|r| &r.what)) {
                        (Binding::Class, _) => What::Class(*class),
                        _ => What::Object(*class),
                    };
                    self.call_function(frame, offset, *id, Some(Value::of(own)), arguments)
                }
                What::Class(class) => {
                    if let Some(init) = self.attribute_of_class(*class, "__init__", true, 0) {
                        self.invoke(frame, offset, &init, None, arguments, passed);
                    }
                    Value::of(What::Object(*class))
                }
                What::Object(class) => match self.attribute_of_class(*class, "__call__", true, 0) {
                    Some(call) => self.invoke(frame, offset, &call, None, arguments, passed),
                    None => Value::UNKNOWN,
                },
                What::Partial(held, _) => {
                    let mut given = Arguments::of(held.1.clone());
                    given
                        .positional
                        .extend(arguments.positional.iter().cloned());
                    given.named.clone_from(&arguments.named);
                    self.invoke(frame, offset, &held.0, None, &given, passed)
                }
                _ => Value::UNKNOWN,
            };
            all = Some(match all {
                Some(known) => known.join(&one),
                None => one,
            });
        }
        let quiet = callee
            .name()
            .is_some_and(|n| self.names.facts(n).looks_only);
        if !passed && !quiet {
            self.call_handed_on(frame, offset, callee, arguments);
        }
        all.unwrap_or(Value::UNKNOWN)
    }

    fn call_function(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        id: FunctionId,
        own: Option<Value>,
        arguments: &Arguments,
    ) -> Value {
        let bound = self.bind_arguments(id, own, arguments);
        self.apply_summary(frame, offset, id, &bound)
    }

    /// The arguments in the order of the function's parameters.
    pub(super) fn bind_arguments(
        &self,
        id: FunctionId,
        own: Option<Value>,
        arguments: &Arguments,
    ) -> Vec<Value> {
        let info = &self.program.functions[id];
        let mut bound = vec![Value::UNKNOWN; info.parameters.len()];
        let positional = own.into_iter().chain(arguments.positional.iter().cloned());
        for (at, value) in positional.enumerate() {
            let place = if at < info.positional {
                Some(at)
            } else {
                info.star
            };
            if let Some(slot) = place.and_then(|p| bound.get_mut(p)) {
                *slot = if at < info.positional {
                    value
                } else {
                    slot.clone().with_taint(&value.taint)
                };
            }
        }
        for (name, value) in &arguments.named {
            let place = info.index_of(name).or(info.double_star);
            if let Some(slot) = place.and_then(|p| bound.get_mut(p)) {
                *slot = slot.join(value);
            }
        }
        bound
    }

    /// Functions among the arguments are called by whoever gets them.
    fn call_handed_on(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        callee: &Value,
        arguments: &Arguments,
    ) {
        if applies_to_elements(callee) {
            let items = arguments.positional.iter();
            let items: Vec<Value> = items
                .flat_map(|v| v.items().unwrap_or_default())
                .cloned()
                .collect();
            for item in &items {
                self.tell_reference(frame, offset, item);
            }
        }
        let positional = arguments.positional.iter().enumerate();
        let positional = positional.map(|(at, value)| (at + 1, value));
        let named = arguments.named.iter().map(|(_, v)| (usize::MAX, v));
        let callable = positional.chain(named).filter(|(_, v)| self.is_callable(v));
        let callable: Vec<(usize, Value)> = callable.map(|(at, v)| (at, v.clone())).collect();
        for (after, value) in &callable {
            let given = handed_on(callee, arguments, *after);
            self.invoke(frame, offset, value, None, &given, true);
        }
    }

    fn is_callable(&self, value: &Value) -> bool {
        value.alternatives().iter().any(|what| match what {
            What::Function(_) | What::Method(..) | What::Partial(..) => true,
            What::Name(name) => self.names.facts(name).is_dangerous,
            _ => false,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "a call has these parts")]
    fn call_library(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        callee: &Value,
        receiver: Option<&Value>,
        arguments: &Arguments,
        passed: bool,
    ) -> Value {
        let facts = self.names.facts(name);
        let site = CallSite {
            name,
            facts: &facts,
            receiver,
            positional: &arguments.positional,
            named: &arguments.named,
            spread: arguments.spread,
            passed,
        };
        let hits: Vec<Hit> = facts
            .calls
            .iter()
            .filter_map(|r| (r.judge)(&site))
            .collect();
        // Who reads that packages are installed need not read that a program is started.
        let special = hits.iter().any(|h| {
            matches!(
                h.rule.id,
                "py-pip-install" | "py-git-clone" | "py-autostart-command"
            )
        });
        for hit in hits {
            self.note_effect(frame, &hit);
            let general = matches!(hit.rule.id, "py-subprocess" | "py-shell")
                && hit.severity <= Severity::Medium;
            if !(special && general && hit.intent.is_none()) {
                self.tell(frame.module, offset, hit, Vec::new());
            }
        }
        if let Some(hit) =
            imports::trusts_remote_code(&site).or_else(|| network::turns_tls_off(&site))
        {
            self.tell(frame.module, offset, hit, Vec::new());
        }
        for rule in facts.flows.iter().copied() {
            self.follow_into(frame, offset, &site, rule);
        }
        self.judge_texts(frame, offset, &site);
        self.note_run_text(frame, offset, &site);
        if name == "builtins.open" && !passed {
            let mode = site
                .argument(1, "mode")
                .map_or_else(String::new, Value::as_part);
            let written = mode.contains(['w', 'a', 'x', '+']);
            let rule = if written {
                &files::OPEN_WRITE
            } else {
                &files::OPEN_READ
            };
            self.follow_into(frame, offset, &site, rule);
        }
        self.note_downloads(frame, offset, &site);
        if facts.restarts {
            frame.summary.effects |= effects::RESTARTS;
        }
        self.result_of(frame, offset, name, callee, &site)
    }
}

/// Whether it calls a function with each element of what it gets.
fn applies_to_elements(callee: &Value) -> bool {
    callee.name().is_some_and(|n| {
        matches!(
            n,
            "builtins.map"
                | "builtins.filter"
                | "functools.reduce"
                | "builtins.reduce"
                | "itertools.starmap"
        ) || n.ends_with(".map")
            || n.ends_with(".imap")
            || n.ends_with(".apply")
    })
}

/// What `callee` gives to a function among its arguments: those from `after` on, or their elements.
fn handed_on(callee: &Value, arguments: &Arguments, after: usize) -> Arguments {
    let over = applies_to_elements(callee);
    let list = arguments
        .keyword("args")
        .or_else(|| arguments.keyword("argument"));
    if let Some(list) = list {
        return Arguments::of(
            list.items()
                .map_or_else(|| vec![element_of(list)], <[Value]>::to_vec),
        );
    }
    let rest = arguments.positional.iter().skip(after);
    Arguments::of(if over {
        rest.map(element_of).collect()
    } else {
        rest.cloned().collect()
    })
}
