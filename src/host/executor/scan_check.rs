//! The scan of a generation before it becomes live.

use std::collections::{BTreeMap, BTreeSet};

use super::Executor;
use crate::host::scan::sources::{FolderSource, ScanSource, ScanUnit};
use crate::host::scan::{NODES, scan_units};
use crate::ids::{GenerationId, Part};
use crate::plan::model_summary::ModelFetch;
use crate::plan::step::ModelScan;
use crate::problem::{Problem, Result};
use crate::scan::acceptance;
use crate::scan::finding::{Severity, Verdict};
use crate::text::escape_text;

impl Executor<'_> {
    /// Scans the bytes that were built, not those that somebody says were.
    ///
    /// # Errors
    /// A critical finding that is not among `accepted`; a part that cannot be read.
    pub(super) fn scan_generation(
        &self,
        id: &GenerationId,
        accepted: &BTreeMap<Part, BTreeSet<String>>,
    ) -> Result<()> {
        let staged = self.paths.staged_generation(id);
        let base = match staged.symlink_metadata() {
            Ok(_) => staged,
            Err(_) => self.paths.generation_dir(id),
        };
        let nodes: Vec<String> = accepted
            .keys()
            .filter_map(|part| match part {
                Part::Comfyui => None,
                Part::Node(name) => Some(name.to_string()),
            })
            .collect();
        let unit_of = |part: &Part| ScanUnit {
            prefix: String::new(),
            source: ScanSource::Folder(FolderSource {
                path: match part {
                    Part::Comfyui => base.join("ComfyUI"),
                    Part::Node(name) => base.join("ComfyUI").join(NODES).join(name.as_str()),
                },
                left_out: match part {
                    Part::Comfyui => nodes.clone(),
                    Part::Node(_) => Vec::new(),
                },
                built: true,
            }),
        };
        let units: Vec<ScanUnit> = accepted.keys().map(unit_of).collect();
        let mut problems = Vec::new();
        for ((part, accepted), mut found) in accepted.iter().zip(scan_units(&units, self.report)?) {
            found.sort_worst_first();
            let open = acceptance::critical_findings(&found)
                .into_iter()
                .filter(|(_, print)| !accepted.contains(print));
            problems.extend(open.map(|(f, _)| acceptance::open_problem(part, f)));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problem::from_many(problems))
        }
    }

    /// Scans the models that were fetched, by their bytes.
    ///
    /// # Errors
    /// Under [`ModelScan::Block`]: one that runs code when it is loaded.
    pub(super) fn scan_models(&self, items: &[ModelFetch], scan: &ModelScan) -> Result<()> {
        if *scan == ModelScan::Off {
            return Ok(());
        }
        let staged: Vec<(&ModelFetch, ScanUnit)> = items
            .iter()
            .filter_map(|item| {
                let source = ScanSource::File(self.ready.get(&item.sha256)?.path().to_path_buf());
                let prefix = String::new();
                Some((item, ScanUnit { prefix, source }))
            })
            .collect();
        let units: Vec<ScanUnit> = staged.iter().map(|(_, unit)| unit.clone()).collect();
        let mut problems = Vec::new();
        for ((item, _), found) in staged.iter().zip(scan_units(&units, self.report)?) {
            let verdict = match (found.verdicts.first(), found.worst()) {
                (Some(v), _) => v.verdict,
                // It ended the parser, or could not be read.
                (None, Some(Severity::Critical)) => Verdict::Hostile,
                (None, Some(_)) => Verdict::Review,
                (None, None) => continue,
            };
            let why = found.findings.iter().max_by_key(|f| f.severity);
            let why = why.map_or(String::new(), |f| format!(": {}", escape_text(&f.message)));
            let said = format!("{}: the scan says {verdict}{why}", item.address);
            match scan {
                ModelScan::Block { accepted }
                    if verdict == Verdict::Hostile && !accepted.contains(&item.sha256) =>
                {
                    let path = item.address.to_string();
                    let path = path.strip_prefix("model.").unwrap_or(&path).to_string();
                    problems.push(Problem::new(said).with_hint(format!(
                        "choose a safetensors file of the same model; or in [policy] of comfy.toml \
                         `accept = [{{ node = \"models\", rule = \"hostile\", path = \"{path}\", \
                         reason = \"why it is safe\" }}]`, then `comfy lock`"
                    )));
                }
                _ if verdict != Verdict::Safe => self.report.print_line(&said),
                _ => {}
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problem::from_many(problems))
        }
    }
}
