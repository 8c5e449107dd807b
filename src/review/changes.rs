//! What changed between two pins, as a diff with the findings beside its lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::listing::PinFiles;
use crate::scan::finding::{Finding, Severity};
use crate::text::escape_text;

/// Bytes of a file that is shown.
const LONGEST: u64 = 512 << 10;
/// Lines around a change.
const CONTEXT: usize = 3;

/// A remark beside a line: a finding, or what an external reviewer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineNote {
    /// Counted from 1; 0 for the whole file.
    pub line: u32,
    pub text: String,
}

/// The remarks of each file.
pub(crate) type FileNotes = BTreeMap<String, Vec<LineNote>>;

/// The findings as remarks; those of low severity would hide the others.
pub(crate) fn notes_of_findings(findings: &[Finding], files: &PinFiles) -> FileNotes {
    let mut notes = FileNotes::new();
    for f in findings.iter().filter(|f| f.severity > Severity::Low) {
        let text = format!("{}: {} ({})", f.severity, escape_text(f.said()), f.rule.id);
        let line = f.line;
        // A member of an archive is a part of its file: the longest part that is one.
        let mut file = f.path.as_str();
        while files.identity_of(file).is_none()
            && let Some((shorter, _)) = file.rsplit_once('!')
        {
            file = shorter;
        }
        let file = file.to_string();
        notes.entry(file).or_default().push(LineNote { line, text });
    }
    notes
}

/// The paths that differ, sorted.
pub(crate) fn changed_paths(old: &PinFiles, new: &PinFiles) -> Vec<String> {
    let all: BTreeSet<&String> = old.paths().chain(new.paths()).collect();
    all.into_iter()
        .filter(|path| old.identity_of(path) != new.identity_of(path))
        .cloned()
        .collect()
}

/// The unified diff of every file that differs.
pub(crate) fn unified_text(old: &PinFiles, new: &PinFiles, notes: &FileNotes) -> String {
    let mut out = String::new();
    let mut placed = BTreeSet::new();
    for path in changed_paths(old, new) {
        let shown = escape_text(&path);
        let side = |files: &PinFiles, letter: char| match files.identity_of(&path) {
            Some(_) => format!("{letter}/{shown}"),
            None => "/dev/null".to_string(),
        };
        let _ = writeln!(out, "--- {}\n+++ {}", side(old, 'a'), side(new, 'b'));
        let own = notes.get(&path).map_or(&[][..], |n| &n[..]);
        placed.insert(path.clone());
        let text = |files: &PinFiles| match files.identity_of(&path) {
            None => Some(String::new()),
            Some(_) => {
                let bytes = files.bytes_of(&path, LONGEST)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Some(text).filter(|t| !t.contains('\0'))
            }
        };
        let shown_lines = match (text(old), text(new)) {
            (Some(old), Some(new)) => write_hunks(&mut out, &old, &new, own),
            _ => {
                out.push_str("(it is not text, or is too long to show)\n");
                BTreeSet::new()
            }
        };
        for note in own.iter().filter(|n| !shown_lines.contains(&n.line)) {
            let at = match note.line {
                0 => String::new(),
                line => format!("line {line}: "),
            };
            let _ = writeln!(out, "    ^ {at}{}", note.text);
        }
    }
    // Of what did not change since, and what names no file.
    for (path, own) in notes.iter().filter(|(path, _)| !placed.contains(*path)) {
        for note in own {
            let shown = escape_text(path);
            let _ = writeln!(out, "{shown}:{}: {}", note.line, note.text);
        }
    }
    out
}

/// Returns the lines whose remarks were written.
fn write_hunks(out: &mut String, old: &str, new: &str, notes: &[LineNote]) -> BTreeSet<u32> {
    let mut written = BTreeSet::new();
    let diff = similar::TextDiff::from_lines(old, new);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        let _ = writeln!(out, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches(['\n', '\r']);
            let _ = writeln!(out, "{}{}", change.tag(), escape_text(line));
            let Some(number) = change.new_index() else {
                continue;
            };
            for note in notes.iter().filter(|n| n.line as usize == number + 1) {
                let _ = writeln!(out, "    ^ {}", note.text);
                written.insert(note.line);
            }
        }
    }
    written
}
