//! The results of loading each generation, in a file of the owner's.

use std::collections::BTreeMap;

use crate::desired::{InstancePaths, PrimaryUser};
use crate::host::fs::edit;
use crate::problem::{Context, Result};

/// The result of loading one generation.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ImportHealth {
    pub generation: String,
    pub nodes: Vec<String>,
    /// Nodes that failed to import, and why.
    pub failed: Vec<(String, String)>,
    /// Nodes that loaded and printed an exception all the same, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<(String, String)>,
    /// Why ComfyUI itself did not finish.
    pub stopped: Option<String>,
    pub seconds: f64,
    /// RFC 3339.
    pub when: String,
    /// Hints that would help.
    #[serde(skip)]
    pub hints: Vec<String>,
    /// The last lines of its output.
    #[serde(skip)]
    pub tail: Vec<String>,
}

impl ImportHealth {
    pub(crate) fn is_good(&self) -> bool {
        self.stopped.is_none() && self.failed.is_empty()
    }

    /// Returns the addresses that fail now and did not fail in `before`; without `before`, all that
    /// fail.
    pub(crate) fn worse_than(&self, before: Option<&ImportHealth>) -> Vec<String> {
        if self.stopped.is_some() {
            return if before.is_some_and(|b| b.stopped.is_some()) {
                Vec::new()
            } else {
                vec!["comfyui".into()]
            };
        }
        // Whatever fails now, it is better than one that did not start.
        if before.is_some_and(|b| b.stopped.is_some()) {
            return Vec::new();
        }
        let failed = |n: &str| before.is_some_and(|b| b.failed.iter().any(|(f, _)| f == n));
        self.failed
            .iter()
            .filter(|(n, _)| !failed(n))
            .map(|(n, _)| format!("node.{n}"))
            .collect()
    }

    /// Returns a summary line, and a line for each failure.
    pub(crate) fn summary_lines(&self, before: Option<&ImportHealth>) -> (String, Vec<String>) {
        if let Some(why) = &self.stopped {
            let tail = if self.worse_than(before).is_empty() {
                "; the previous generation failed too"
            } else {
                ""
            };
            return (
                String::new(),
                vec![format!("ComfyUI could not load everything: {why}{tail}")],
            );
        }
        let mut all = nodes_summary(&self.nodes, &self.failed, &[]).into_iter();
        let first = format!(
            "Everything was loaded once: {}, in {:.1} s.",
            all.next().unwrap_or_default(),
            self.seconds
        );
        let than = |line: String, node: &str| match before {
            // Perhaps for another reason.
            Some(b) if b.failed.iter().any(|(f, _)| f == node) => {
                format!("{line} (the previous generation did not load it either)")
            }
            Some(b) if b.stopped.is_none() && b.nodes.iter().any(|n| n == node) => {
                format!("{line} (the previous generation loaded it)")
            }
            _ => line,
        };
        let failed = all
            .zip(&self.failed)
            .map(|(line, (node, _))| than(line, node));
        (first, failed.chain(partial_lines(&self.partial)).collect())
    }
}

/// The results of generations, in a file of the owner's.
#[derive(Debug, Default)]
pub(crate) struct ImportResults(BTreeMap<String, ImportHealth>);

impl ImportResults {
    pub(crate) fn read(paths: &InstancePaths) -> ImportResults {
        ImportResults(
            std::fs::read(paths.import_results())
                .ok()
                .and_then(|b| serde_json::from_slice(&b).ok())
                .unwrap_or_default(),
        )
    }

    pub(crate) fn health_of(&self, generation: &str) -> Option<&ImportHealth> {
        self.0.get(generation)
    }

    /// Returns whether the generation was made live and its check did not finish, because of
    /// Ctrl-C, a crash or a power failure.
    pub(crate) fn is_pending(paths: &InstancePaths, generation: &str) -> bool {
        std::fs::read_to_string(paths.pending_import_check()).is_ok_and(|g| g == generation)
    }

    /// Records that the generation was made live and is not checked yet. This is best effort, so a
    /// full disk is not an error.
    pub(crate) fn mark_pending(paths: &InstancePaths, owner: &PrimaryUser, generation: &str) {
        let _ = edit::make_dir(&paths.logs_dir(), owner.uid, owner.gid, 0o700).and_then(|()| {
            edit::write_file(
                &paths.pending_import_check(),
                generation.as_bytes(),
                0o600,
                record_owner(owner),
            )
        });
    }

    /// Removes that record: the check finished, could not run, or is not wanted.
    pub(crate) fn clear_pending(paths: &InstancePaths) {
        let _ = edit::remove_path(&paths.pending_import_check());
    }

    /// Records a result, and removes those of generations that no longer exist.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn record_health(
        &mut self,
        health: &ImportHealth,
        paths: &InstancePaths,
        owner: &PrimaryUser,
    ) -> Result<()> {
        self.0.retain(|id, _| paths.generation_dir(id).exists());
        self.0.insert(health.generation.clone(), health.clone());
        let text = serde_json::to_vec(&self.0).context("record what could be loaded")?;
        let path = paths.import_results();
        edit::write_file(&path, &text, 0o600, record_owner(owner))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Returns whom the file belongs to if root writes it.
fn record_owner(owner: &PrimaryUser) -> Option<(u32, u32)> {
    nix::unistd::geteuid()
        .is_root()
        .then_some((owner.uid, owner.gid))
}

fn partial_lines(partial: &[(String, String)]) -> impl Iterator<Item = String> {
    partial.iter().map(|(n, what)| {
        format!(
            "node.{} loaded, but a part of it reported: {}",
            crate::text::escape_text(n),
            crate::text::escape_text(what)
        )
    })
}

/// Returns `9 of 9 nodes loaded`, and a line for each node that failed, wholly or in part.
pub(crate) fn nodes_summary(
    nodes: &[String],
    failed: &[(String, String)],
    partial: &[(String, String)],
) -> Vec<String> {
    let mut out = vec![format!(
        "{} of {} loaded",
        nodes.len().saturating_sub(failed.len()),
        crate::text::count_of(nodes.len(), "node")
    )];
    out.extend(failed.iter().map(|(n, why)| {
        format!(
            "node.{} failed to import: {}",
            crate::text::escape_text(n),
            crate::text::escape_text(why)
        )
    }));
    out.extend(partial_lines(partial));
    out
}
