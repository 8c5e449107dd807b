//! Python, by syntax tree: what names mean, what data reaches, and what that can do.
//!
//! | question | answer |
//! |---|---|
//! | which calls are found, and why they matter | [`rules`]: a file for each family; [`calls`] and [`named`] ask them |
//! | what it means that data of one kind reaches another place | `rules::verdicts` |
//! | how bytes become text, and what is odd about them | [`decode`], [`tokens`] |
//! | which file an import means | [`module`] |
//! | what an expression is | [`expressions`], [`attributes`], [`items`], [`constants`] |
//! | what is done with texts that are run as Python | [`nested`]; how constants are unpacked, [`unpacking`] |
//! | what a call gives back | [`library`], [`texts`]; what it reaches by name, [`reflection`] |
//! | what statements change | [`statements`], [`assignments`], [`imports`] |
//! | where data comes from, and what a check rules out | [`beginnings`], [`checks`] and [`check_words`], [`taint`] |
//! | how data passes calls | [`summary`], [`flow`]; queues, [`queues`] |
//! | who calls a node's functions from outside | [`routes`], [`node_classes`] |
//!
//! A function is read again whenever something that it looked at has changed ([`dependencies`]),
//! until nothing does; [`reader`] keeps what each reading found.

mod assignments;
mod attributes;
mod beginnings;
mod call_facts;
mod calls;
mod check_words;
mod checks;
mod constants;
mod decode;
mod dependencies;
mod downloads;
mod expressions;
mod flow;
mod imports;
mod items;
mod library;
mod module;
mod name_cache;
mod named;
mod names;
mod nested;
mod node_classes;
mod queues;
mod reader;
mod reflection;
mod routes;
pub(in crate::scan) mod rules;
mod scope;
mod source;
mod statements;
mod summary;
mod taint;
mod texts;
mod tokens;
mod unpacking;
mod values;

#[cfg(test)]
mod tests;

use ruff_python_ast::PySourceType;
use ruff_python_parser::parse_unchecked_source;

use super::finding::Finding;
use decode::decode_source;
use module::{Module, Program};
use reader::Reader;
use rules::carriers;
use source::{SourceText, offset_of};

/// One Python file of a node.
#[derive(Debug)]
pub(crate) struct PythonSource {
    /// Relative to what is scanned, with `/`.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// A Python file as far as it is understood by itself.
#[derive(Debug)]
pub(crate) struct ParsedSource {
    path: String,
    /// None if it is nested too deeply.
    module: Option<Module>,
    /// What is odd about its bytes and its tokens.
    odd: Vec<Finding>,
}

/// Parses one Python file.
///
/// A source that is nested as deeply as Python itself allows takes about a kilobyte of stack for
/// each level: callers give it a thread with a large one.
pub(crate) fn parse_source(file: &PythonSource) -> ParsedSource {
    let mut odd = Vec::new();
    ParsedSource {
        path: file.path.clone(),
        module: parse_file(file, &mut odd),
        odd,
    }
}

/// Scans the Python files of one node together; `begin` hears whose code is read next. The same is
/// true of the stack as for [`parse_source`].
pub(crate) fn scan_sources(
    sources: Vec<ParsedSource>,
    begin: &mut dyn FnMut(&str),
) -> Vec<Finding> {
    scan_with_texts(sources, begin, &mut { nested::MOST_TEXTS })
}

/// The same; `texts_left` is how many texts that are run may still be read.
fn scan_with_texts(
    sources: Vec<ParsedSource>,
    begin: &mut dyn FnMut(&str),
    texts_left: &mut usize,
) -> Vec<Finding> {
    let first = sources.first().map(|s| s.path.clone());
    let (mut findings, mut modules) = (Vec::new(), Vec::with_capacity(sources.len()));
    for source in sources {
        findings.extend(source.odd);
        modules.extend(source.module);
    }
    let program = Program::index(&modules);
    let mut reader = Reader::new(&program);
    reader.read(begin);
    if reader.is_exhausted()
        && let Some(first) = first
    {
        let message = "The code is too much to be followed: what data reaches is not known.";
        findings.push(Finding::about_file(
            &carriers::PY_TOO_DEEP,
            &first,
            message.to_string(),
        ));
    }
    findings.extend(reader.findings());
    findings.extend(nested::scan_run_texts(
        &program,
        (&reader.run_texts, reader.first_unread_text),
        texts_left,
    ));
    // A process that scans a node ends soon: to free all of it takes longer than to read a small one.
    // Texts in files, of which there may be many, are freed.
    if modules.len() > 1 && !cfg!(test) {
        std::mem::forget(reader);
        std::mem::forget(program);
        std::mem::forget(modules);
    }
    findings
}

/// Parses a file as far as it can be parsed; what is odd about it goes into `findings`.
fn parse_file(file: &PythonSource, findings: &mut Vec<Finding>) -> Option<Module> {
    let decoded = decode_source(&file.bytes);
    let source = SourceText::new(&file.path, decoded.text);
    let mut tell = |source: &SourceText, offset: u32, hit: source::Hit| {
        let mut finding = source.finding(hit.rule, offset, hit.message);
        finding.severity = hit.severity;
        finding.intent = hit.intent;
        findings.push(finding);
    };
    for (offset, hit) in decoded.odd {
        tell(&source, offset, hit);
    }
    if tokens::is_too_deep(&source.text) {
        let message = "The source is nested too deeply to be read.";
        tell(&source, 0, source::Hit::of(&carriers::PY_TOO_DEEP, message));
        return None;
    }
    let parsed = parse_unchecked_source(&source.text, PySourceType::Python);
    if let Some(error) = parsed.errors().first() {
        let message = format!("The file cannot be parsed as Python: {}.", error.error);
        let hit = source::Hit::of(&carriers::PY_UNPARSEABLE, message);
        tell(&source, offset_of(error.location.start()), hit);
    }
    for (offset, hit) in tokens::judge_tokens(&source.text, parsed.tokens()) {
        tell(&source, offset, hit);
    }
    let body = parsed.into_suite();
    Some(Module::new(source, body))
}
