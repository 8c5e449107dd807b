//! Files of other programs in which commands stand: package.json, tasks of editors, Makefiles,
//! and workflows whose nodes hold code.

use serde_json::Value;

use super::shell::runs_download;
use super::{EntryFacts, at_line, rules};
use crate::scan::finding::{Finding, Severity};
use crate::scan::lines::LineTable;
use crate::scan::python::{PythonSource, parse_source, scan_sources};

/// Bytes of a JSON file whose texts are looked at.
pub(super) const LONGEST_JSON: u64 = 4 << 20;
/// Bytes of one text in it.
const LONGEST_VALUE: usize = 64 << 10;
/// So many texts of one file are parsed as Python, and so many are told.
const MOST_PARSED: usize = 50;

/// Who obeys a file of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandFile {
    /// Somebody who works in the folder: make, npm, an editor.
    Developer,
    /// A container or a server, which is not this machine.
    Elsewhere,
    /// Whoever loads it: a workflow, or a file of the node's.
    Data,
}

/// Which kind of such a file it is, by its path.
pub(super) fn kind_of(facts: &EntryFacts) -> Option<CommandFile> {
    let path = facts.path.to_ascii_lowercase();
    let name = facts.file_name();
    let developer = matches!(
        &*name,
        "makefile" | "gnumakefile" | "justfile" | "package.json" | "tox.ini" | "devcontainer.json"
    ) || path.ends_with(".vscode/tasks.json");
    let elsewhere = name.starts_with("dockerfile")
        || name.ends_with(".dockerfile")
        || path.contains(".github/workflows/")
        || name == ".gitlab-ci.yml";
    if developer {
        Some(CommandFile::Developer)
    } else if elsewhere {
        Some(CommandFile::Elsewhere)
    } else if facts.has_extension(&["json"]) {
        Some(CommandFile::Data)
    } else {
        None
    }
}

/// Examines the commands of such a file.
pub(super) fn examine_commands(facts: &EntryFacts, kind: CommandFile, text: &str) -> Vec<Finding> {
    let json = facts
        .has_extension(&["json"])
        .then(|| serde_json::from_str::<Value>(text).ok())
        .flatten();
    let mut found = Vec::new();
    let Some(json) = json else {
        for (number, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with(['#', '/']);
            if kind != CommandFile::Data && !is_comment && is_command(line) {
                found.push(command(facts, kind, (number, line)));
            }
        }
        return found;
    };
    let mut texts = Vec::new();
    collect_texts(&json, &mut texts);
    let lines = LineTable::of_text(text);
    let mut parsed = 0;
    for value in texts {
        if found.len() >= MOST_PARSED {
            break;
        }
        if value.lines().any(is_command) {
            found.push(command(facts, kind, place_of(text, &lines, value)));
        } else if parsed < MOST_PARSED && looks_like_code(value) {
            parsed += 1;
            let place = || place_of(text, &lines, value);
            found.extend(code(facts, value, &place));
        }
    }
    found
}

/// Whether a line fetches something by its address and runs it.
fn is_command(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains("http") && runs_download(&lower)
}

fn command(facts: &EntryFacts, kind: CommandFile, place: (usize, &str)) -> Finding {
    let (severity, who) = match kind {
        CommandFile::Developer => (Severity::Medium, "whoever works in this folder runs it"),
        CommandFile::Elsewhere => (Severity::Low, "a container or a server runs it"),
        CommandFile::Data => (Severity::Medium, "whoever is given this text runs it"),
    };
    let message = format!("what it downloads is run at once; {who}");
    Finding {
        severity,
        ..at_line(&rules::SHELL_DOWNLOAD_RUN, facts, place, message)
    }
}

/// Whether a text is worth being parsed as Python.
fn looks_like_code(text: &str) -> bool {
    let words = [
        "__import__",
        "import os",
        "import subprocess",
        "exec(",
        "os.system(",
    ];
    text.len() <= LONGEST_VALUE && words.iter().any(|w| text.contains(w))
}

/// What a text is that is Python and does what a scan finds.
fn code<'t>(
    facts: &EntryFacts,
    text: &str,
    place: &dyn Fn() -> (usize, &'t str),
) -> Option<Finding> {
    let source = PythonSource {
        path: facts.path.clone(),
        bytes: text.as_bytes().to_vec(),
    };
    let inner = scan_sources(vec![parse_source(&source)], &mut |_| {});
    let unread = |f: &Finding| f.rule.id.starts_with("py-unparseable");
    if inner.iter().any(unread) {
        return None;
    }
    let worst = inner.iter().max_by_key(|f| f.severity)?;
    let message = format!("it holds Python code: {}", worst.message);
    (worst.severity >= Severity::Medium)
        .then(|| at_line(&rules::CODE_IN_DATA, facts, place(), message))
}

fn collect_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|v| collect_texts(v, texts)),
        Value::Object(fields) => fields.values().for_each(|v| collect_texts(v, texts)),
        _ => {}
    }
}

/// The line of the file that a text of it stands in.
fn place_of<'t>(whole: &'t str, lines: &LineTable, text: &str) -> (usize, &'t str) {
    let start: String = text
        .chars()
        .take_while(|c| !matches!(c, '"' | '\\' | '\n' | '\t' | '\r'))
        .take(40)
        .collect();
    let offset = memchr::memmem::find(whole.as_bytes(), start.as_bytes()).unwrap_or(0);
    let line = lines.line_of(offset);
    let range = lines.range_of(line);
    (line, whole[range].lines().next().unwrap_or_default())
}
