//! Texts that are run as Python and are known: they are scanned like files.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::PythonSource;
use super::module::Program;
use super::reader::Reader;
use super::rules::{CallSite, carriers};
use super::scope::Frame;
use super::values::{ModuleId, SITE_PART, UNKNOWN_PART, Value};
use crate::scan::finding::Finding;

/// So many texts of one node are read, those in texts included.
pub(super) const MOST_TEXTS: usize = 100;

/// The texts that are run, by module and offset of what runs them.
pub(super) type RunTexts = BTreeMap<(ModuleId, u32), Rc<str>>;

/// Functions whose first argument is run.
const RUN_FIRST: &[&str] = &[
    "builtins.exec",
    "builtins.eval",
    "builtins.compile",
    "ctypes.pythonapi.PyRun_SimpleString",
    "code.InteractiveConsole().push",
    "code.InteractiveInterpreter().runsource",
    "timeit.timeit",
    "timeit.repeat",
    "cProfile.run",
    "profile.run",
    "pdb.run",
    "pdb.runeval",
];

impl<'a> Reader<'a> {
    /// Keeps a text that the call runs as Python.
    pub(super) fn note_run_text(&mut self, frame: &Frame<'a>, offset: u32, call: &CallSite<'_>) {
        let text = if RUN_FIRST.contains(&call.name) {
            let setup = call.keyword("setup").and_then(Value::as_text);
            let first = call.positional.first().and_then(Value::as_text);
            match (first, setup) {
                (Some(text), Some(setup)) => Some(Rc::from(format!("{setup}\n{text}"))),
                (first, setup) => first.or(setup),
            }
        } else {
            call.positional.first().and_then(text_of_command)
        };
        let Some(text) = text.filter(|t| !t.trim().is_empty()) else {
            return;
        };
        let place = (frame.module, offset);
        if self.run_texts.len() < MOST_TEXTS || self.run_texts.contains_key(&place) {
            self.run_texts.insert(place, text);
        } else {
            self.first_unread_text.get_or_insert(place);
        }
    }
}

/// `["python", "-c", text]`
fn text_of_command(words: &Value) -> Option<Rc<str>> {
    let words = words.items()?;
    let program = words.first()?.as_part();
    let name = program.rsplit('/').next().unwrap_or("");
    let at = words
        .iter()
        .position(|w| w.as_text().is_some_and(|t| &*t == "-c"))?;
    name.starts_with("python")
        .then(|| words.get(at + 1)?.as_text())
        .flatten()
}

/// Scans the texts; what is found in one stands where it is run.
/// `left` is how many texts may still be read.
pub(super) fn scan_run_texts(
    program: &Program<'_>,
    (texts, unread): (&RunTexts, Option<(ModuleId, u32)>),
    left: &mut usize,
) -> Vec<Finding> {
    let mut unread = unread;
    let mut found: BTreeMap<(ModuleId, u32, &'static str), Finding> = BTreeMap::new();
    for ((module, offset), text) in texts {
        let Some(rest) = left.checked_sub(1) else {
            unread.get_or_insert((*module, *offset));
            break;
        };
        *left = rest;
        let source = &program.modules[*module].source;
        let whole = text.replace([UNKNOWN_PART, SITE_PART], "_");
        let file = PythonSource {
            path: source.path.clone(),
            bytes: whole.trim_start().as_bytes().to_vec(),
        };
        let sources = vec![super::parse_source(&file)];
        for inner in super::scan_with_texts(sources, &mut |_| {}, left) {
            // That a text is run is told already.
            if matches!(inner.rule.id, "py-unparseable" | "py-encoded-blob") {
                continue;
            }
            let message = format!("In the text that is run here: {}", inner.message);
            let mut finding = source.finding(inner.rule, *offset, message);
            finding.severity = inner.severity;
            finding.intent = inner.intent;
            let key = (*module, *offset, inner.rule.id);
            let worse = found
                .get(&key)
                .is_none_or(|known| known.severity < finding.severity);
            if worse {
                found.insert(key, finding);
            }
        }
    }
    let unread = unread.map(|(module, offset)| {
        let message = "So many texts are run as code that this one and others were not read.";
        let source = &program.modules[module].source;
        source.finding(&carriers::PY_TOO_DEEP, offset, message.to_string())
    });
    found.into_values().chain(unread).collect()
}
