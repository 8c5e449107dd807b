//! Reads all functions of a node until nothing new is learned, then tells what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap as HashMap;

use super::dependencies::{Fact, Noted, Reading};
use super::module::{Binding, Definition, Program};
use super::name_cache::NameCache;
use super::nested::RunTexts;
use super::routes::Route;
use super::scope::{Frame, Variables};
use super::source::Hit;
use super::summary::Summary;
use super::taint::{Origin, OriginId, Place, SourceKind, Step, Taint};
use super::values::{FunctionId, ModuleId, Value, What};
use crate::scan::finding::{Finding, FlowStep};

/// A function is read so many times: data goes through so many calls between modules.
const MOST_READINGS: u8 = 8;
/// So many functions are read for one another.
const MOST_NESTED: u8 = 40;
/// Expressions that are read, for each byte of source, before the rest is left.
const WORK_PER_BYTE: u64 = 60;
const LEAST_WORK: u64 = 2_000_000;

/// Who calls a function from outside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// A route of the browser; its parameters from this one on are the request.
    Route,
    /// A node's function: parameters of these names hold text of the workflow; None: which do is
    /// not known.
    Node(Option<Vec<String>>),
}

/// Module, offset and rule.
type Key = (ModuleId, u32, &'static str);
type Found = BTreeMap<Key, Told>;

/// What was found at one place.
#[derive(Debug, Clone)]
pub(super) struct Told {
    hit: Hit,
    steps: Vec<(Place, String)>,
}

pub(super) struct Reader<'a> {
    pub program: &'a Program<'a>,
    pub globals: Vec<Variables<'a>>,
    /// Names of modules that functions set with `global`.
    pub set_by_functions: Vec<BTreeSet<&'a str>>,
    /// Libraries of which a module has all names.
    pub stars: Vec<Vec<String>>,
    /// The variables of functions that others stand in.
    pub captured: HashMap<FunctionId, Variables<'a>>,
    /// Attributes of classes and their objects.
    pub attributes: Vec<HashMap<&'a str, Value>>,
    pub bases: Vec<Vec<Value>>,
    pub summaries: Vec<Summary>,
    pub entries: HashMap<FunctionId, Entry>,
    pub routes: BTreeMap<(ModuleId, u32), Route>,
    pub run_texts: RunTexts,
    /// The first text beyond those that are kept.
    pub first_unread_text: Option<(ModuleId, u32)>,
    /// What queues hold, by module and name.
    pub queues: HashMap<(ModuleId, &'a str), Value>,
    /// Sinks that functions reach with parameters of the function that they stand in.
    pub closure_sinks: HashMap<FunctionId, Summary>,
    pub noted: Noted,
    pub names: NameCache,
    /// What each reading found, which the next one replaces.
    found: HashMap<Reading, Found>,
    readings: HashMap<Reading, u8>,
    /// How many functions are being read for one another; None: not all modules were read.
    nested: Option<u8>,
    work: u64,
    most_work: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(program: &'a Program<'a>) -> Reader<'a> {
        let bytes: usize = program.modules.iter().map(|m| m.source.text.len()).sum();
        let modules = program.modules.len();
        Reader {
            program,
            globals: vec![Variables::default(); modules],
            set_by_functions: vec![BTreeSet::new(); modules],
            stars: vec![Vec::new(); modules],
            captured: HashMap::default(),
            attributes: vec![HashMap::default(); program.classes.len()],
            bases: vec![Vec::new(); program.classes.len()],
            summaries: vec![Summary::NOTHING; program.functions.len()],
            entries: HashMap::default(),
            routes: BTreeMap::new(),
            run_texts: RunTexts::new(),
            first_unread_text: None,
            queues: HashMap::default(),
            closure_sinks: HashMap::default(),
            noted: Noted::default(),
            names: NameCache::default(),
            found: HashMap::default(),
            readings: HashMap::default(),
            nested: None,
            work: 0,
            most_work: LEAST_WORK + bytes as u64 * WORK_PER_BYTE,
        }
    }

    /// Reads everything, and again what has to be; `begin` hears the path of each module before it
    /// is read, and again before its functions are.
    pub(super) fn read(&mut self, begin: &mut dyn FnMut(&str)) {
        let program = self.program;
        for (module, read) in program.modules.iter().enumerate() {
            begin(&read.source.path);
            self.read_module_once(module);
        }
        self.nested = Some(0);
        let mut last = None;
        for (function, info) in program.functions.iter().enumerate() {
            if last.replace(info.module) != Some(info.module) {
                begin(&program.modules[info.module].source.path);
            }
            self.read_function_once(function);
        }
        loop {
            self.note_node_classes();
            let mut read = false;
            for reading in self.noted.take_stale() {
                read |= self.read_again(reading);
            }
            if !read {
                break;
            }
        }
        self.tell_routes();
    }

    /// False if it was read often enough.
    fn read_again(&mut self, reading: Reading) -> bool {
        let times = self.readings.entry(reading).or_insert(0);
        if *times >= MOST_READINGS {
            return false;
        }
        *times += 1;
        self.found.remove(&reading);
        self.noted.begin(reading);
        match reading {
            Reading::Module(module) => self.read_module(module),
            Reading::Function(function) => self.read_function(function),
        }
        self.noted.end();
        true
    }

    /// Reads a module that an import asks for, if it was not read before.
    pub(super) fn read_module_once(&mut self, module: ModuleId) {
        let reading = Reading::Module(module);
        if !self.readings.contains_key(&reading) {
            self.read_again(reading);
        }
    }

    /// Reads a function before what it gives back is asked for the first time: its caller would be
    /// read again otherwise.
    pub(super) fn read_function_once(&mut self, function: FunctionId) {
        let reading = Reading::Function(function);
        let outer = self.program.functions[function].parent;
        let outer_read = outer.is_none_or(|o| self.captured.contains_key(&o));
        let nested = self.nested.filter(|n| *n < MOST_NESTED);
        let (Some(nested), true) = (nested, outer_read || nested == Some(0)) else {
            return;
        };
        if !self.readings.contains_key(&reading) {
            self.nested = Some(nested + 1);
            self.read_again(reading);
            self.nested = Some(nested);
        }
    }

    /// Whether an expression may still be read.
    pub(super) fn spend(&mut self) -> bool {
        self.work += 1;
        self.work <= self.most_work
    }

    /// Pays for a copy of what is known at a point.
    pub(super) fn spend_on_copy(&mut self, frame: &Frame<'a>) {
        self.work += frame.state.variables().len() as u64 * 2;
    }

    /// Whether some of it was left unread since it is too much.
    pub(super) fn is_exhausted(&self) -> bool {
        self.work > self.most_work
    }

    fn read_module(&mut self, module: ModuleId) {
        let program = self.program;
        let mut frame = Frame::new(module);
        self.read_body(&mut frame, &program.modules[module].body);
        let mut variables = frame.state.into_variables();
        for value in variables.values_mut() {
            value.taint = value.taint.without_parameters();
        }
        // What functions have set with `global` stays.
        for name in &self.set_by_functions[module] {
            if let Some(value) = self.globals[module].get(name) {
                let own = variables.get(name).unwrap_or(&Value::UNKNOWN);
                variables.insert(name, value.join(own));
            }
        }
        if self.globals[module] != variables {
            self.globals[module] = variables;
            self.noted.change(Fact::Globals(module));
        }
    }

    fn read_function(&mut self, id: FunctionId) {
        let program = self.program;
        let info = &program.functions[id];
        let mut frame = Frame::new(info.module);
        frame.function = Some(id);
        frame.class = info.class;
        self.bind_parameters(&mut frame, id);
        match info.definition {
            Definition::Function(def) => {
                self.read_body(&mut frame, &def.body);
            }
            Definition::Lambda(lambda) => {
                let value = self.value_of(&mut frame, &lambda.body);
                frame.add_returned(&value);
            }
        }
        let returned = frame.returned.take().unwrap_or(Value::UNKNOWN);
        let own = u32::try_from(id).unwrap_or(u32::MAX);
        frame.summary.returns = returned.map_taints(&|taint| taint.as_own(own));
        if let Some(inner) = self.closure_sinks.get(&id) {
            for sink in &inner.sinks {
                frame.summary.add_sink(sink.clone());
            }
        }
        // A summary only grows, so that functions that call each other come to an end.
        frame.summary.returns = self.summaries[id].returns.join(&frame.summary.returns);
        if frame.summary.differs(&self.summaries[id]) {
            self.noted.change(Fact::Summary(id));
        }
        self.summaries[id] = frame.summary;
        if !info.has_inner {
            return;
        }
        let mut variables = frame.state.into_variables();
        let outer = u32::try_from(id).unwrap_or(u32::MAX);
        for value in variables.values_mut() {
            *value = value.map_taints(&|taint| taint.as_outer(outer));
        }
        if self.captured.get(&id) != Some(&variables) {
            self.captured.insert(id, variables);
            self.noted.change(Fact::Captured(id));
        }
    }

    fn bind_parameters(&mut self, frame: &mut Frame<'a>, id: FunctionId) {
        let program = self.program;
        let info = &program.functions[id];
        let entry = self.entries.get(&id).cloned();
        for (at, name) in info.parameters.iter().enumerate() {
            let own = at == 0 && info.class.is_some();
            let what = match (own, info.binding, info.class) {
                (true, Binding::Object, Some(class)) => What::Object(class),
                (true, Binding::Class, Some(class)) => What::Class(class),
                _ => What::Name(Rc::from(format!("?{name}"))),
            };
            let bound = own && info.binding != Binding::Nothing;
            let place = self.parameter_place(id, at);
            let taint = if bound {
                Taint::NONE
            } else {
                self.parameter_taint(at, name, entry.as_ref(), place)
            };
            let mut value = Value { what, taint };
            if let Some(default) = self.default_of(frame, id, at) {
                value = value.join(&default);
            }
            frame.bind(name, value);
        }
    }

    fn parameter_taint(&self, at: usize, name: &str, entry: Option<&Entry>, place: Place) -> Taint {
        let source = |kind: SourceKind, message: &str| {
            Taint::from(Origin {
                id: OriginId::Place {
                    module: place.module,
                    offset: place.offset,
                },
                kind,
                cleared: 0,
                steps: Some(Step::first(place, message)),
            })
        };
        match entry {
            Some(Entry::Route) => source(SourceKind::Request, "a request comes in"),
            Some(Entry::Node(names))
                if names.as_ref().is_none_or(|n| n.iter().any(|n| n == name)) =>
            {
                source(
                    SourceKind::NodeInput,
                    &format!("`{name}` is an input of the node"),
                )
            }
            Some(Entry::Node(_)) => Taint::NONE,
            None => Taint::from(Origin {
                id: OriginId::Parameter(u16::try_from(at).unwrap_or(u16::MAX)),
                kind: SourceKind::Parameter,
                cleared: 0,
                steps: None,
            }),
        }
    }

    fn parameter_place(&self, id: FunctionId, at: usize) -> Place {
        let info = &self.program.functions[id];
        let name = info.parameters[at];
        let offset = info.signature().and_then(|s| {
            s.iter()
                .find(|p| p.name().as_str() == name)
                .map(|p| ruff_text_size::Ranged::range(&p).start().to_u32())
        });
        Place {
            module: u32::try_from(info.module).unwrap_or(0),
            offset: offset.unwrap_or(0),
        }
    }

    /// What the parameter is when nobody gives it; constants say nothing about it.
    fn default_of(&mut self, frame: &mut Frame<'a>, id: FunctionId, at: usize) -> Option<Value> {
        let program = self.program;
        let info = &program.functions[id];
        let parameter = info.signature()?.find(info.parameters[at])?;
        let value = self.value_of(frame, parameter.default.as_deref()?);
        let callable = value.alternatives().iter().any(|w| {
            matches!(w, What::Function(_) | What::Class(_) | What::Partial(..))
                || matches!(w, What::Name(n) if super::rules::is_dangerous(n))
        });
        callable.then_some(value)
    }

    /// Keeps a finding for a place, the worst one of each rule.
    pub(super) fn tell(
        &mut self,
        module: ModuleId,
        offset: u32,
        hit: Hit,
        steps: Vec<(Place, String)>,
    ) {
        let reading = self.noted.current().unwrap_or(Reading::Module(module));
        let found = self.found.entry(reading).or_default();
        add_told(found, (module, offset, hit.rule.id), Told { hit, steps });
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found = Found::new();
        let mut readings: Vec<_> = self.found.keys().copied().collect();
        readings.sort();
        for (key, told) in readings.iter().flat_map(|r| &self.found[r]) {
            add_told(&mut found, *key, told.clone());
        }
        let position = |place: &Place| {
            let source = &self.program.modules[place.module as usize].source;
            let (line, column) = source.position(place.offset);
            (source.path.clone(), line, column)
        };
        let all = found.iter().map(|((module, offset, _), told)| {
            let source = &self.program.modules[*module].source;
            let mut finding = source.finding(told.hit.rule, *offset, told.hit.message.clone());
            finding.severity = told.hit.severity;
            finding.intent = told.hit.intent;
            finding.steps = told
                .steps
                .iter()
                .map(|(place, message)| {
                    let (path, line, column) = position(place);
                    FlowStep {
                        path,
                        line,
                        column,
                        message: message.clone(),
                    }
                })
                .collect();
            finding
        });
        all.collect()
    }
}

/// Keeps the worst of what is told of a place.
fn add_told(found: &mut Found, key: Key, told: Told) {
    match found.get_mut(&key) {
        Some(known)
            if (known.hit.severity, !known.steps.is_empty())
                >= (told.hit.severity, !told.steps.is_empty()) =>
        {
            if known.hit.intent.is_none() {
                known.hit.intent = told.hit.intent;
            }
        }
        Some(known) => {
            let intent = known.hit.intent;
            *known = told;
            known.hit.intent = known.hit.intent.or(intent);
        }
        None => {
            found.insert(key, told);
        }
    }
}
