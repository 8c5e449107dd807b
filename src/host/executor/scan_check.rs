//! The scan of a generation before it becomes live.

use std::collections::{BTreeMap, BTreeSet};

use super::Executor;
use crate::desired::InstancePaths;
use crate::host::scan::sources::{FolderSource, ScanSource, ScanUnit};
use crate::host::scan::{NODES, scan_units};
use crate::ids::{GenerationId, Part};
use crate::problem::{Problem, Result};
use crate::scan::acceptance;

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
        let unit_of = |part: &Part| ScanUnit {
            prefix: String::new(),
            source: ScanSource::Folder(FolderSource {
                path: base.join(InstancePaths::tracked(part)),
                left_out: matches!(part, Part::Comfyui).then_some(NODES),
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
}
