//! The rules about Python, a file for each family: what is found, by which names, and why.
//!
//! A family has `RULES`; `CALLS` says what a call alone shows, `FLOWS` which arguments must not
//! hold data that somebody else decides.

pub(in crate::scan) mod addresses;
pub(in crate::scan) mod carriers;
pub(in crate::scan) mod cmd_exec;
pub(in crate::scan) mod code_exec;
pub(in crate::scan) mod command_lines;
pub(in crate::scan) mod credentials;
pub(in crate::scan) mod deser;
pub(in crate::scan) mod files;
pub(in crate::scan) mod imports;
pub(in crate::scan) mod intent;
pub(in crate::scan) mod listen;
pub(in crate::scan) mod network;
pub(in crate::scan) mod obfuscation;
pub(in crate::scan) mod owner_files;
pub(in crate::scan) mod persistence;
pub(in crate::scan) mod pkg_install;
pub(in crate::scan) mod replaced;
pub(in crate::scan) mod verdicts;
pub(in crate::scan) mod web_route;

use std::rc::Rc;
use std::sync::LazyLock;

use rustc_hash::FxHashMap as HashMap;

use super::call_facts::CallFacts;
pub(in crate::scan::python) use super::names::last_segment;
use super::source::Hit;
use super::values::Value;
use crate::scan::rules::Rule;

/// A call of something that has a name.
#[derive(Debug)]
pub(in crate::scan::python) struct CallSite<'c> {
    pub name: &'c str,
    pub facts: &'c CallFacts,
    /// What the method is called on.
    pub receiver: Option<&'c Value>,
    pub positional: &'c [Value],
    pub named: &'c [(Rc<str>, Value)],
    /// There are `*arguments` or `**arguments`.
    pub spread: bool,
    /// It is handed to something else that calls it.
    pub passed: bool,
}

impl CallSite<'_> {
    /// The argument at a place or of a name.
    pub(in crate::scan::python) fn argument(&self, at: usize, name: &str) -> Option<&Value> {
        self.keyword(name).or_else(|| self.positional.get(at))
    }

    pub(in crate::scan::python) fn keyword(&self, name: &str) -> Option<&Value> {
        self.named
            .iter()
            .find(|(k, _)| &**k == name)
            .map(|(_, v)| v)
    }

    pub(in crate::scan::python) fn text(&self, at: usize, name: &str) -> Option<Rc<str>> {
        self.argument(at, name)?.as_text()
    }

    pub(in crate::scan::python) fn is_on(&self, name: &str) -> bool {
        self.keyword(name).is_some_and(Value::is_true)
    }

    /// Every argument.
    pub(in crate::scan::python) fn all(&self) -> impl Iterator<Item = &Value> {
        self.positional
            .iter()
            .chain(self.named.iter().map(|(_, v)| v))
    }

    /// `os.system`, or `system` of something unknown.
    pub(in crate::scan::python) fn shown(&self) -> String {
        shown_name(self.name)
    }
}

/// The name as a reader knows it.
pub(in crate::scan::python) fn shown_name(name: &str) -> String {
    let name = name.strip_prefix("builtins.").unwrap_or(name);
    let name = name.trim_start_matches('?').trim_start_matches('.');
    name.to_string()
}

/// What a call of these names shows.
#[derive(Debug)]
pub(in crate::scan::python) struct CallRule {
    /// Whole names, or ends of names with a dot before them.
    pub names: &'static [&'static str],
    pub judge: fn(&CallSite<'_>) -> Option<Hit>,
}

/// Which argument of a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::scan::python) enum Argument {
    At(usize, &'static str),
    /// One that has a name alone.
    Named(&'static str),
    Any,
    /// What the method is called on.
    Receiver,
}

/// What data does at the end of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scan::python) enum Sink {
    /// Runs as Python.
    Code,
    /// Is worked out by a library that lets formulas reach Python.
    Formula,
    /// Runs as a program or a shell's line.
    Command,
    /// Is told to a program that is constant.
    Word,
    /// Names what is imported.
    Import,
    /// Is unpickled.
    Deser,
    /// Names a file that is read.
    ReadPath,
    /// Names a file that is written or made.
    WritePath,
    /// Names a file that is removed or moved.
    RemovePath,
    /// Names a file that goes to the browser.
    ServePath,
    /// Names whom to connect to.
    Url,
    /// Leaves the machine.
    Send,
}

/// Data that somebody else decides must not reach this argument.
#[derive(Debug)]
pub(in crate::scan::python) struct FlowRule {
    pub names: &'static [&'static str],
    pub arguments: &'static [Argument],
    pub sink: Sink,
    pub rule: &'static Rule,
}

const CALLS: &[&[CallRule]] = &[
    code_exec::CALLS,
    imports::CALLS,
    listen::CALLS,
    deser::CALLS,
    cmd_exec::CALLS,
    pkg_install::CALLS,
    network::CALLS,
    files::CALLS,
    owner_files::CALLS,
    credentials::CALLS,
    obfuscation::CALLS,
    persistence::CALLS,
    intent::CALLS,
];

const FLOWS: &[&[FlowRule]] = &[
    code_exec::FLOWS,
    imports::FLOWS,
    deser::FLOWS,
    cmd_exec::FLOWS,
    network::FLOWS,
    files::FLOWS,
    pkg_install::FLOWS,
];

/// The rules of a table by the last part of the names they speak of.
type ByName<T> = HashMap<&'static str, Vec<(&'static str, &'static T)>>;

static CALLS_BY_NAME: LazyLock<ByName<CallRule>> = LazyLock::new(|| {
    let mut by_name: ByName<CallRule> = HashMap::default();
    for rule in CALLS.iter().copied().flatten() {
        for name in rule.names {
            by_name.entry(key(name)).or_default().push((name, rule));
        }
    }
    by_name
});

static FLOWS_BY_NAME: LazyLock<ByName<FlowRule>> = LazyLock::new(|| {
    let mut by_name: ByName<FlowRule> = HashMap::default();
    for rule in FLOWS.iter().copied().flatten() {
        for name in rule.names {
            by_name.entry(key(name)).or_default().push((name, rule));
        }
    }
    by_name
});

fn key(name: &str) -> &str {
    last_segment(name).trim_start_matches('.')
}

/// Whether a pattern speaks of `name`: ends of names are for things whose origin is not known.
fn speaks_of(pattern: &str, name: &str) -> bool {
    if !pattern.starts_with('.') {
        return pattern == name;
    }
    let origin_unknown = name.starts_with('?') || name.contains(['(', '[']);
    name.ends_with(pattern) && (origin_unknown || pattern.starts_with(".__"))
}

pub(in crate::scan::python) fn call_rules(name: &str) -> impl Iterator<Item = &'static CallRule> {
    let rules = CALLS_BY_NAME.get(key(name)).map_or(&[][..], |r| r);
    rules
        .iter()
        .filter(move |(pattern, _)| speaks_of(pattern, name))
        .map(|(_, rule)| *rule)
}

pub(in crate::scan::python) fn flow_rules(name: &str) -> impl Iterator<Item = &'static FlowRule> {
    let rules = FLOWS_BY_NAME.get(key(name)).map_or(&[][..], |r| r);
    rules
        .iter()
        .filter(move |(pattern, _)| speaks_of(pattern, name))
        .map(|(_, rule)| *rule)
}

/// Whether handing it to something else is worth a finding.
pub(in crate::scan::python) fn is_dangerous(name: &str) -> bool {
    const ALWAYS: &[&str] = &[
        "builtins.exec",
        "builtins.eval",
        "builtins.compile",
        "builtins.__import__",
    ];
    ALWAYS.contains(&name)
        || flow_rules(name).any(|r| matches!(r.sink, Sink::Code | Sink::Command | Sink::Deser))
}
