//! What is scanned together: one node, or one folder.

use std::collections::BTreeSet;
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
        found
    }
}

/// Whether a file is Python by its name, or by its first line.
fn is_python(path: &str, head: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let by_name = [".py", ".pyw", ".pyi"].iter().any(|e| lower.ends_with(e));
    let first = head.split(|b| *b == b'\n').next().unwrap_or_default();
    by_name || first.starts_with(b"#!") && first.windows(6).any(|w| w == b"python")
}
