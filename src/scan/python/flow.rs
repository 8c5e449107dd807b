//! Data that reaches a place where somebody else must not decide what it is.

use std::rc::Rc;

use super::dependencies::{Fact, Reading};
use super::reader::Reader;
use super::rules::{Argument, CallSite, FlowRule, Sink, cmd_exec, command_lines, verdicts};
use super::scope::Frame;
use super::summary::{ParameterSink, Summary, effects};
use super::taint::{Origin, OriginId, Place, SourceKind, Step, Taint};
use super::values::{FunctionId, Value, What};

/// A way through more calls than this is not followed.
const MOST_CALLS: usize = 8;

impl<'a> Reader<'a> {
    pub(super) fn place(frame: &Frame<'_>, offset: u32) -> Place {
        Place {
            module: u32::try_from(frame.module).unwrap_or(0),
            offset,
        }
    }

    /// Data that begins here.
    pub(super) fn source(frame: &Frame<'_>, offset: u32, kind: SourceKind, message: &str) -> Taint {
        let place = Self::place(frame, offset);
        Taint::from(Origin {
            id: OriginId::Place {
                module: place.module,
                offset,
            },
            kind,
            cleared: 0,
            steps: Some(Step::first(place, message)),
        })
    }

    /// Looks at the arguments of a call that a rule speaks of.
    pub(super) fn follow_into(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        call: &CallSite<'_>,
        rule: &'static FlowRule,
    ) {
        frame.summary.effects |= effect_of(rule.sink);
        for argument in rule.arguments {
            match *argument {
                Argument::At(at, name) => {
                    if let Some(value) = call.argument(at, name) {
                        self.arrive(frame, offset, call.name, rule, value);
                    }
                }
                Argument::Named(name) => {
                    if let Some(value) = call.keyword(name) {
                        self.arrive(frame, offset, call.name, rule, value);
                    }
                }
                Argument::Any => {
                    for value in call.positional {
                        self.arrive(frame, offset, call.name, rule, value);
                    }
                    for (name, value) in call.named {
                        // A key belongs into headers.
                        let header = matches!(&**name, "headers" | "auth" | "cookies" | "env");
                        if header {
                            let rest = value.taint.without(SourceKind::Secret);
                            let value = Value {
                                what: value.what.clone(),
                                taint: rest,
                            };
                            self.arrive(frame, offset, call.name, rule, &value);
                        } else {
                            self.arrive(frame, offset, call.name, rule, value);
                        }
                    }
                }
                Argument::Receiver => {
                    if let Some(value) = call.receiver {
                        self.arrive(frame, offset, call.name, rule, value);
                    }
                }
            }
        }
    }

    fn arrive(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        rule: &'static FlowRule,
        value: &Value,
    ) {
        // A constant start of an address says whom it reaches.
        if rule.sink == Sink::Url && has_fixed_host(value) {
            return;
        }
        let bit = verdicts::bit_of(rule.sink);
        let place = Self::place(frame, offset);
        for origin in value.taint.origins() {
            let cleared = origin.cleared | frame.state.marks_of(origin.id);
            if bit != 0 && cleared & bit == bit {
                continue;
            }
            let rule = told_only(rule, value, origin);
            let sink = |parameter| ParameterSink {
                parameter,
                rule,
                name: Rc::from(name),
                place,
                cleared,
                through: Vec::new(),
            };
            match origin.id {
                OriginId::Parameter(parameter) => {
                    frame.summary.add_sink(sink(parameter));
                    continue;
                }
                OriginId::Outer {
                    function,
                    parameter,
                } => {
                    self.add_closure_sink(frame, function, sink(parameter));
                    continue;
                }
                OriginId::Place { .. } => {}
            }
            let at_import = frame.function.is_none();
            let hit = verdicts::judge_flow(rule, name, origin.kind)
                .or_else(|| verdicts::judge_at_import(rule, origin.kind).filter(|_| at_import));
            let Some(hit) = hit else {
                continue;
            };
            let mut steps = told_steps(origin);
            steps.push((
                place,
                format!("reaches {}()", super::rules::shown_name(name)),
            ));
            self.tell(frame.module, offset, hit, steps);
        }
    }

    /// What a call of a function of the node does with the arguments it is given.
    pub(super) fn apply_summary(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        function: FunctionId,
        arguments: &[Value],
    ) -> Value {
        let place = Self::place(frame, offset);
        let name = self.program.functions[function].name();
        self.read_function_once(function);
        self.noted.look_at(Fact::Summary(function));
        let summary = self.summaries[function].clone();
        frame.summary.effects |= summary.effects;
        for sink in &summary.sinks {
            let Some(value) = arguments.get(usize::from(sink.parameter)) else {
                continue;
            };
            if sink.rule.sink == Sink::Url && has_fixed_host(value) {
                continue;
            }
            for origin in value.taint.origins() {
                let rule = told_only(sink.rule, value, origin);
                let sink = ParameterSink {
                    rule,
                    ..sink.clone()
                };
                self.pass_on(frame, place, name, &sink, origin);
            }
        }
        let message = format!("comes back from {name}()");
        let returned = substitute(&summary.returns, arguments, place, &message, 0);
        let own = frame.function.and_then(|f| u32::try_from(f).ok());
        let returned = match own {
            Some(own) => returned.map_taints(&|taint| taint.as_own(own)),
            None => returned,
        };
        let lower = name.to_ascii_lowercase();
        if lower.contains("sanitize") || lower.contains("safe_filename") {
            let taint = returned.taint.clear(super::taint::cleared::PATH);
            return Value {
                what: returned.what,
                taint,
            };
        }
        returned
    }

    /// A function that stands in `function` hands its parameter to a sink.
    fn add_closure_sink(&mut self, frame: &Frame<'a>, function: u32, sink: ParameterSink) {
        let function = function as FunctionId;
        let mut around = frame.function;
        while let Some(id) = around.filter(|id| *id != function) {
            around = self.program.functions[id].parent;
        }
        // What came back from there to elsewhere is no longer its parameter.
        if around.is_none() {
            return;
        }
        let known = self
            .closure_sinks
            .entry(function)
            .or_insert(Summary::NOTHING);
        let before = known.sinks.len();
        known.add_sink(sink);
        if known.sinks.len() != before {
            self.noted.read_again(Reading::Function(function));
        }
    }

    fn pass_on(
        &mut self,
        frame: &mut Frame<'a>,
        place: Place,
        name: &str,
        sink: &ParameterSink,
        origin: &Origin,
    ) {
        let bit = verdicts::bit_of(sink.rule.sink);
        let cleared = origin.cleared | frame.state.marks_of(origin.id) | sink.cleared;
        if bit != 0 && cleared & bit == bit || sink.through.len() >= MOST_CALLS {
            return;
        }
        let step: Rc<str> = Rc::from(format!("is given to {name}()"));
        let passed = |parameter| {
            let mut through = vec![(place, step.clone())];
            through.extend(sink.through.iter().cloned());
            ParameterSink {
                parameter,
                through,
                cleared,
                ..sink.clone()
            }
        };
        match origin.id {
            OriginId::Parameter(parameter) => {
                frame.summary.add_sink(passed(parameter));
                return;
            }
            OriginId::Outer {
                function,
                parameter,
            } => {
                self.add_closure_sink(frame, function, passed(parameter));
                return;
            }
            OriginId::Place { .. } => {}
        }
        let Some(hit) = verdicts::judge_flow(sink.rule, &sink.name, origin.kind) else {
            return;
        };
        let mut steps = told_steps(origin);
        steps.push((place, step.to_string()));
        steps.extend(sink.through.iter().map(|(p, m)| (*p, m.to_string())));
        let end = format!("reaches {}()", super::rules::shown_name(&sink.name));
        steps.push((sink.place, end));
        self.tell(sink.place.module as usize, sink.place.offset, hit, steps);
    }
}

/// The rule for words of a constant program, if the data is only that.
fn told_only(rule: &'static FlowRule, value: &Value, origin: &Origin) -> &'static FlowRule {
    if rule.sink != Sink::Command {
        return rule;
    }
    let carries = |word: &Value| word.taint.origins().iter().any(|o| o.id == origin.id);
    if command_lines::is_told_only(value, carries) {
        &cmd_exec::WORDS
    } else {
        rule
    }
}

fn told_steps(origin: &Origin) -> Vec<(Place, String)> {
    Step::in_order(origin.steps.as_ref())
        .iter()
        .map(|s| (s.place, s.message.to_string()))
        .collect()
}

/// Puts what a caller gives in the place of parameters.
fn substitute(value: &Value, arguments: &[Value], place: Place, message: &str, depth: u8) -> Value {
    let mut taint = Taint::NONE;
    for origin in value.taint.origins() {
        match origin.id {
            OriginId::Parameter(parameter) => {
                if let Some(argument) = arguments.get(usize::from(parameter)) {
                    let passed = argument.taint.clear(origin.cleared);
                    taint = taint.join(&passed.passed(place, message));
                }
            }
            OriginId::Place { .. } | OriginId::Outer { .. } => {
                let own = Taint::from(origin.clone());
                taint = taint.join(&own.passed(place, message));
            }
        }
    }
    // A parameter that is a part of a list is what it was given: `["pip"] + words`.
    let given = |v: &Value| match (&v.what, v.taint.origins()) {
        (What::Name(name), [origin]) if name.starts_with('?') => match origin.id {
            OriginId::Parameter(p) => arguments.get(usize::from(p)).cloned(),
            OriginId::Place { .. } | OriginId::Outer { .. } => None,
        },
        _ => None,
    };
    let items = |all: &[Value]| -> Vec<Value> {
        let mut out = Vec::new();
        for v in all {
            match given(v) {
                Some(argument) => match argument.items() {
                    Some(inner) => out.extend(inner.iter().cloned()),
                    None => out.push(argument),
                },
                None => out.push(substitute(v, arguments, place, message, depth + 1)),
            }
        }
        out
    };
    match &value.what {
        What::List(all, _) if depth < 3 && !value.taint.is_none() => {
            Value::list(items(all)).with_taint(&taint)
        }
        What::Dict(all, _) if depth < 3 && !value.taint.is_none() => {
            let pairs = all.iter().map(|(k, v)| {
                (
                    k.clone(),
                    substitute(v, arguments, place, message, depth + 1),
                )
            });
            Value::dict(pairs.collect()).with_taint(&taint)
        }
        What::Name(name) if name.starts_with('?') && !name.contains('.') => {
            Value::unknown_with(taint)
        }
        what => Value {
            what: what.clone(),
            taint,
        },
    }
}

fn effect_of(sink: Sink) -> u8 {
    match sink {
        Sink::WritePath => effects::WRITES,
        Sink::RemovePath => effects::REMOVES,
        Sink::Command | Sink::Code => effects::RUNS,
        Sink::Url => effects::CONNECTS,
        Sink::ReadPath | Sink::ServePath => effects::READS,
        Sink::Import | Sink::Deser | Sink::Formula | Sink::Send | Sink::Word => 0,
    }
}

/// Whether an address begins with a constant host, whatever it is: `f"https://host/{name}"`.
fn has_fixed_host(value: &Value) -> bool {
    value.alternatives().iter().all(|what| match what {
        What::Text(text, _) => text.split_once("://").is_some_and(|(_, rest)| {
            let host_end = rest.find(['/', '?', '#']);
            host_end
                .is_some_and(|end| !rest[..end].contains(super::values::UNKNOWN_PART) && end > 0)
        }),
        _ => false,
    })
}
