//! Names and their values while a function or a module is read.

use std::rc::Rc;

use rustc_hash::FxHashMap as HashMap;

use super::summary::Summary;
use super::taint::{OriginId, Taint, cleared};
use super::values::{ClassId, FunctionId, ModuleId, Value};

pub(super) type Variables<'a> = HashMap<&'a str, Value>;

/// What is known at one point of a function.
#[derive(Debug, Clone, Default)]
pub(super) struct State<'a> {
    /// Shared between the points that know the same; most ways through a function change little.
    variables: Rc<Variables<'a>>,
    /// Origins that were checked up to here, and for what.
    pub marks: Vec<(OriginId, u8)>,
}

impl<'a> State<'a> {
    pub(super) fn variables(&self) -> &Variables<'a> {
        &self.variables
    }

    /// Copies them if another point knows the same.
    pub(super) fn variables_mut(&mut self) -> &mut Variables<'a> {
        Rc::make_mut(&mut self.variables)
    }

    pub(super) fn into_variables(self) -> Variables<'a> {
        Rc::unwrap_or_clone(self.variables)
    }

    /// Whether both are one, so that there is nothing to compare; false says nothing.
    pub(super) fn shares_variables(&self, other: &State<'a>) -> bool {
        Rc::ptr_eq(&self.variables, &other.variables)
    }

    pub(super) fn mark(&mut self, origin: OriginId, bits: u8) {
        match self.marks.iter_mut().find(|(o, _)| *o == origin) {
            Some(known) => known.1 = cleared::complete(known.1 | bits),
            None => self.marks.push((origin, cleared::complete(bits))),
        }
    }

    pub(super) fn marks_of(&self, origin: OriginId) -> u8 {
        self.marks
            .iter()
            .find(|(o, _)| *o == origin)
            .map_or(0, |(_, bits)| *bits)
    }

    /// Writes checks that the other way has not made into the values that passed them.
    fn keep_marks_apart(&mut self, other: &[(OriginId, u8)]) {
        let own: Vec<(OriginId, u8)> = self
            .marks
            .iter()
            .filter(|mark| !other.contains(mark))
            .copied()
            .collect();
        if own.is_empty() {
            return;
        }
        for value in self.variables_mut().values_mut() {
            value.taint = value.taint.clear_of(&own);
        }
    }

    /// Becomes what is true after one of two ways.
    pub(super) fn join(&mut self, mut other: State<'a>) {
        self.keep_marks_apart(&other.marks.clone());
        other.keep_marks_apart(&self.marks);
        self.marks = self
            .marks
            .iter()
            .map(|(o, bits)| (*o, bits & other.marks_of(*o)))
            .filter(|(_, bits)| *bits != 0)
            .collect();
        if self.shares_variables(&other) {
            return;
        }
        for (name, value) in other.variables() {
            let joined = match self.variables.get(name) {
                Some(known) if known == value => continue,
                Some(known) => known.join(value),
                None => value.clone(),
            };
            self.variables_mut().insert(name, joined);
        }
    }
}

/// One function or module that is read.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub module: ModuleId,
    pub function: Option<FunctionId>,
    /// The class whose body or method it is.
    pub class: Option<ClassId>,
    /// Whether it is the body of the class.
    pub class_body: bool,
    pub state: State<'a>,
    pub summary: Summary,
    pub returned: Option<Value>,
    pub globals: Vec<&'a str>,
    pub loops: u32,
    /// Texts and expressions that name files which hold what was downloaded.
    pub downloaded: Vec<String>,
    /// Names of files that are open to be written, by the handle.
    pub handles: Vec<(String, String)>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(module: ModuleId) -> Frame<'a> {
        Frame {
            module,
            function: None,
            class: None,
            class_body: false,
            state: State::default(),
            summary: Summary::NOTHING,
            returned: None,
            globals: Vec::new(),
            loops: 0,
            downloaded: Vec::new(),
            handles: Vec::new(),
        }
    }

    pub(super) fn bind(&mut self, name: &'a str, value: Value) {
        self.state.variables_mut().insert(name, value);
    }

    /// The value that is one of those returned.
    pub(super) fn add_returned(&mut self, value: &Value) {
        self.returned = Some(match &self.returned {
            Some(known) => known.join(value),
            None => value.clone(),
        });
    }

    /// Marks what the value comes from as checked.
    pub(super) fn mark_checked(&mut self, taint: &Taint, bits: u8) {
        for origin in taint.origins() {
            self.state.mark(origin.id, bits);
            if let OriginId::Parameter(p) = origin.id {
                self.summary.add_check(p, cleared::complete(bits));
            }
        }
    }
}
