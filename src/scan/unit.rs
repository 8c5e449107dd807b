//! What is scanned together: one node, or one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::carrier::{self, EntryFacts};
use super::content::{self, ReadAt};
use super::finding::{FileVerdict, Finding};
use super::python::{self, PythonSource};
use super::{model_file, notebook};

/// Bytes of a source file; no one writes a longer one by hand.
const LONGEST_SOURCE: u64 = 8 << 20;

/// What was found in one file by itself.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileFindings {
    pub findings: Vec<Finding>,
    pub verdict: Option<FileVerdict>,
    /// Whether [`UnitScan::finish`] looks at it again, together with the others.
    pub kept: bool,
}

/// The scan of one unit: Python files are kept, since data is followed from one to another.
#[derive(Default)]
pub(crate) struct UnitScan {
    sources: Vec<PythonSource>,
    /// Every path, to find the sources of bytecode.
    paths: BTreeSet<String>,
    bytecode: Vec<String>,
}

impl UnitScan {
    /// Scans one file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn add_file(
        &mut self,
        facts: &EntryFacts,
        content: &dyn ReadAt,
    ) -> io::Result<FileFindings> {
        let mut found = self.examine_file(facts, content)?;
        found.findings = limit_findings(found.findings);
        Ok(found)
    }

    fn examine_file(
        &mut self,
        facts: &EntryFacts,
        content: &dyn ReadAt,
    ) -> io::Result<FileFindings> {
        let mut found = FileFindings::default();
        self.paths.insert(facts.path.clone());
        if facts.has_extension(&["pyc", "pyo"]) {
            self.bytecode.push(facts.path.clone());
            found.kept = true;
            return Ok(found);
        }
        let model = model_file::examine_model(&facts.path, content)?;
        found.findings = model.findings;
        if let Some(verdict) = model.verdict {
            let path = facts.path.clone();
            found.verdict = Some(FileVerdict { path, verdict });
            return Ok(found);
        }
        let head = content::read_start(content, 256)?;
        if is_python(&facts.path, &head) {
            if content.size() > LONGEST_SOURCE {
                found.findings.push(carrier::too_large(&facts.path));
                return Ok(found);
            }
            let bytes = content::read_start(content, LONGEST_SOURCE)?;
            found.findings.extend(carrier::examine_python_file(facts));
            self.keep(PythonSource {
                path: facts.path.clone(),
                bytes,
            });
            found.kept = true;
        } else if facts.has_extension(&["ipynb"]) && content.size() <= LONGEST_SOURCE {
            let bytes = content::read_start(content, LONGEST_SOURCE)?;
            match notebook::code_cells(&facts.path, &bytes) {
                Ok(cells) => {
                    found.kept = !cells.is_empty();
                    cells.into_iter().for_each(|cell| self.keep(cell));
                }
                Err(why) => found.findings.push(carrier::unparseable(&facts.path, &why)),
            }
        } else {
            found
                .findings
                .extend(carrier::examine_file(facts, &head, content)?);
        }
        Ok(found)
    }

    fn keep(&mut self, source: PythonSource) {
        self.sources.push(source);
    }

    /// Scans the Python files together; `begin` hears each path before it is parsed.
    pub(crate) fn finish(self, begin: &mut dyn FnMut(&str)) -> Vec<Finding> {
        let mut found: Vec<Finding> = self
            .bytecode
            .iter()
            .map(|path| {
                let source = carrier::source_of_bytecode(path);
                carrier::examine_bytecode(path, self.paths.contains(&source))
            })
            .collect();
        found.extend(python::scan_python(&self.sources, begin));
        limit_findings(found)
    }
}

/// More of one rule in one file say nothing new, and a file that is made for it has a million.
const MOST_ALIKE: usize = 100;
/// More findings than anybody reads.
const MOST: usize = 20_000;

/// Keeps so many findings of each rule in each file; the last one says how many there are.
fn limit_findings(findings: Vec<Finding>) -> Vec<Finding> {
    let mut counts: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    let mut kept: Vec<Finding> = Vec::new();
    for f in findings {
        let n = counts.entry((f.path.clone(), f.rule.id)).or_default();
        *n += 1;
        if *n <= MOST_ALIKE && kept.len() < MOST {
            kept.push(f);
        }
    }
    for ((path, rule), n) in counts {
        let more = n.saturating_sub(MOST_ALIKE);
        let last = kept
            .iter_mut()
            .rev()
            .find(|f| f.path == path && f.rule.id == rule);
        if let (1.., Some(last)) = (more, last) {
            last.message = format!("{} ({more} more like it in this file)", last.message);
        }
    }
    kept
}

/// Whether a file is Python by its name, or by its first line.
fn is_python(path: &str, head: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let by_name = [".py", ".pyw", ".pyi"].iter().any(|e| lower.ends_with(e));
    let first = head.split(|b| *b == b'\n').next().unwrap_or_default();
    by_name || first.starts_with(b"#!") && first.windows(6).any(|w| w == b"python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_million_findings_is_cut_and_says_so() {
        let text = "eval(x)\n".repeat(5000);
        let facts = EntryFacts {
            path: "a.js".into(),
            executable: false,
        };
        let found = UnitScan::default()
            .add_file(&facts, &text.as_bytes())
            .unwrap();
        assert_eq!(found.findings.len(), MOST_ALIKE);
        assert!(found.findings[MOST_ALIKE - 1].message.contains("4900 more"));
    }

    #[test]
    fn a_cell_of_a_notebook_and_a_script_without_extension_are_python() {
        assert!(is_python("a.PYW", b"") && is_python("run", b"#!/usr/bin/env python3\n"));
        assert!(!is_python("run", b"#!/bin/sh\n# python\n") && !is_python("a.txt", b"exec(1)"));
    }
}
