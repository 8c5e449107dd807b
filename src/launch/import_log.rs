//! Reads ComfyUI's output: which nodes failed to import, why, and the line of comfy.toml that
//! helps.

use std::collections::{BTreeMap, BTreeSet};

/// The number of hints that are shown; more are only counted.
pub(crate) const HINTS: usize = 20;
/// The number of characters of a reason that are kept.
const REASON: usize = 500;

/// Collects facts from ComfyUI's log, line by line. Nodes can write anything there, so what is kept
/// is bounded.
#[derive(Debug, Default)]
pub(crate) struct ImportLog {
    nodes: BTreeSet<String>,
    /// Why each node failed.
    failed: BTreeMap<String, String>,
    loaded: BTreeSet<String>,
    hints: BTreeSet<String>,
    more: u64,
}

/// Modules whose distribution has a different name.
const DISTRIBUTIONS: &[(&str, &str)] = &[
    ("cv2", "opencv-python-headless"),
    ("PIL", "pillow"),
    ("yaml", "pyyaml"),
    ("sklearn", "scikit-learn"),
    ("skimage", "scikit-image"),
    ("git", "gitpython"),
    ("bs4", "beautifulsoup4"),
    ("dotenv", "python-dotenv"),
    ("onnxruntime", "onnxruntime"),
    ("piexif", "piexif"),
];

impl ImportLog {
    /// Returns the log of a launch with these nodes; lines about other nodes are ignored.
    pub(crate) fn for_nodes(nodes: &[String]) -> ImportLog {
        ImportLog {
            nodes: nodes.iter().cloned().collect(),
            ..ImportLog::default()
        }
    }

    /// Takes one line, and returns a hint to print at once, if there is one.
    pub(crate) fn push_line(&mut self, line: &str) -> Option<String> {
        let known = |path: &str| Some(node_name(path)).filter(|n| self.nodes.contains(n));
        let mut of = None;
        if let Some((path, why)) = line
            .split_once("Cannot import ")
            .and_then(|(_, r)| r.split_once(" module for custom nodes: "))
        {
            of = known(path);
            self.failed.extend(
                of.clone()
                    .map(|n| (n, why.trim().chars().take(REASON).collect())),
            );
        } else if let Some(node) = line
            .split_once("(IMPORT FAILED): ")
            .and_then(|(_, path)| known(path))
        {
            self.failed
                .entry(node)
                .or_insert_with(|| "see the log above".into());
        } else if let Some(node) = line
            .split_once(" seconds: ")
            .filter(|(_, p)| p.contains("/custom_nodes/"))
            .and_then(|(_, path)| known(path))
        {
            self.loaded.insert(node);
        }
        let hint = self
            .denied_write(line)
            .or_else(|| missing_module(line, of.as_deref()))?;
        if self.hints.contains(&hint) {
            return None;
        }
        if self.hints.len() >= HINTS {
            self.more += 1;
            return None;
        }
        self.hints.insert(hint.clone());
        Some(hint)
    }

    /// Returns the number of hints beyond the first [`HINTS`].
    pub(crate) fn suppressed_hints(&self) -> u64 {
        self.more
    }

    /// Returns those of `nodes` that were reported neither as loaded nor as failed, because ComfyUI
    /// exited first.
    pub(crate) fn unmentioned_nodes(&self, nodes: &[String]) -> Vec<String> {
        nodes
            .iter()
            .filter(|n| !self.loaded.contains(*n) && !self.failed.contains_key(*n))
            .cloned()
            .collect()
    }

    /// Returns those of `nodes` that failed to import, and why.
    pub(crate) fn failed_nodes(&self, nodes: &[String]) -> Vec<(String, String)> {
        nodes
            .iter()
            .filter_map(|n| Some((n.clone(), self.failed.get(n)?.clone())))
            .collect()
    }
}

/// Returns the line below the hints if there are more.
pub(crate) fn more_hints_line(n: u64) -> Option<String> {
    (n > 0).then(|| format!("and {n} more in the log"))
}

fn node_name(path: &str) -> String {
    path.trim()
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_string()
}

impl ImportLog {
    /// Returns how to allow a write that failed in a node's own sealed folder (errno 13 and 30).
    fn denied_write(&self, line: &str) -> Option<String> {
        if !line.contains("[Errno 13]") && !line.contains("[Errno 30]") {
            return None;
        }
        let (_, rest) = line.rsplit_once("/ComfyUI/")?;
        let path = rest.split(['\'', '"']).next().filter(|p| {
            p.chars()
                .all(|c| c.is_alphanumeric() || "-_./ ".contains(c))
        })?;
        let (who, section, inner) = match path
            .strip_prefix("custom_nodes/")
            .and_then(|p| p.split_once('/'))
        {
            Some((node, inner)) => (
                format!("node.{node}"),
                format!("nodes.{}", self.nodes.get(node)?),
                inner,
            ),
            // The only folder of ComfyUI's own into which nodes put files.
            None if path == "web" || path.starts_with("web/") => {
                ("a node".into(), "comfyui".into(), "web/extensions")
            }
            None => return None,
        };
        (!inner.is_empty()).then(|| {
            format!(
                "ComfyUI reports that {who} tried to write {inner}: if you agree, add to \
                 comfy.toml, then `comfy apply`: [{section}] writable = [\"{inner}\"]"
            )
        })
    }
}

/// Returns a hint for a missing module. A node can write any name, so the hint names a package only
/// if comfy itself knows it.
fn missing_module(line: &str, of: Option<&str>) -> Option<String> {
    let (_, rest) = line.split_once("No module named '")?;
    // A missing part of an existing module is not a missing package.
    let module = rest.split('\'').next().filter(|m| !m.contains('.'))?;
    if module.is_empty()
        || module.len() > 100
        || !module
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return None;
    }
    let said = of.map_or(String::new(), |n| format!(" (reported for node.{n})"));
    let help = match DISTRIBUTIONS.iter().find(|(m, _)| *m == module) {
        Some((_, package)) => format!(
            "it is part of the package `{package}`; to install it, add to comfy.toml, then `comfy \
             lock` and `comfy apply`: [python] requirements = [\"{package}\"]"
        ),
        None => "find out which package it comes from, and whether you trust that package, before \
            you add it to `requirements` in [python] of comfy.toml"
            .into(),
    };
    Some(format!(
        "ComfyUI reports that the module {module} is missing{said}: {help}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::import_results::nodes_summary;

    #[test]
    fn a_failed_import_is_told_with_what_helps() {
        let text = "Cannot import /opt/comfy/s/gen/1/ComfyUI/custom_nodes/a module for custom \
            nodes: [Errno 13] Permission denied: \
            '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
Cannot import /x/ComfyUI/custom_nodes/b module for custom nodes: No module named 'cv2'
ModuleNotFoundError: No module named 'typosquat'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/custom_nodes/unknown/x'
Import times for custom nodes:
   0.0 seconds: /x/ComfyUI/custom_nodes/c
   0.1 seconds (IMPORT FAILED): /x/ComfyUI/custom_nodes/a
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/web'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/comfy/evil'";
        let nodes = ["a", "b", "c"].map(String::from);
        let mut log = ImportLog::for_nodes(&nodes);
        let mut said: Vec<String> = text.lines().filter_map(|l| log.push_line(l)).collect();
        said.extend(nodes_summary(&nodes, &log.failed_nodes(&nodes)));
        insta::assert_snapshot!(said.join("\n"), @r#"
        ComfyUI reports that node.a tried to write pysssss.json: if you agree, add to comfy.toml, then `comfy apply`: [nodes.a] writable = ["pysssss.json"]
        ComfyUI reports that the module cv2 is missing (reported for node.b): it is part of the package `opencv-python-headless`; to install it, add to comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["opencv-python-headless"]
        ComfyUI reports that the module typosquat is missing: find out which package it comes from, and whether you trust that package, before you add it to `requirements` in [python] of comfy.toml
        ComfyUI reports that a node tried to write web/extensions: if you agree, add to comfy.toml, then `comfy apply`: [comfyui] writable = ["web/extensions"]
        1 of 3 nodes loaded
        node.a failed to import: [Errno 13] Permission denied: '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
        node.b failed to import: No module named 'cv2'
        "#);
    }

    #[test]
    fn whatever_a_node_says_little_is_kept() {
        let mut log = ImportLog::for_nodes(&["a".to_string()]);
        let said = (0..100_000)
            .flat_map(|n| {
                [
                    format!("No module named 'm{n}'"),
                    format!(
                        "Cannot import /x/custom_nodes/n{n} module for custom nodes: {}",
                        "y".repeat(100)
                    ),
                    format!("   0.0 seconds: /x/custom_nodes/l{n}"),
                ]
            })
            .filter_map(|line| log.push_line(&line))
            .count();
        log.push_line(&format!(
            "Cannot import /x/custom_nodes/a module for custom nodes: {}",
            "z".repeat(16_000)
        ));
        assert_eq!(
            (said, more_hints_line(log.suppressed_hints())),
            (HINTS, Some("and 99980 more in the log".into()))
        );
        assert_eq!(
            (
                log.hints.len(),
                log.failed.len(),
                log.failed["a"].len(),
                log.loaded.len()
            ),
            (HINTS, 1, REASON, 0)
        );
    }
}
