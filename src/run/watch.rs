//! What ComfyUI says, read for people: which nodes failed to import, why, and the line of comfy.toml that helps.

use std::collections::{BTreeMap, BTreeSet};

/// Gathers from ComfyUI's log, line by line.
#[derive(Debug, Default)]
pub struct Log {
    /// Why each node failed.
    failed: BTreeMap<String, String>,
    loaded: BTreeSet<String>,
    hints: BTreeSet<String>,
}

/// Modules whose distribution has another name.
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

impl Log {
    /// Takes one line; what a person should be told at once, if anything.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some((path, why)) = line.split_once("Cannot import ").and_then(|(_, r)| r.split_once(" module for custom nodes: ")) {
            self.failed.insert(name(path), why.trim().to_string());
        } else if let Some((_, path)) = line.split_once("(IMPORT FAILED): ") {
            self.failed.entry(name(path)).or_insert_with(|| "see the log above".into());
        } else if let Some((_, path)) = line.split_once(" seconds: ").filter(|(_, p)| p.contains("/custom_nodes/")) {
            self.loaded.insert(name(path));
        }
        let hint = denied(line).or_else(|| lacking(line))?;
        self.hints.insert(hint.clone()).then_some(hint)
    }

    /// Which of `nodes` were named neither as loaded nor as failed: ComfyUI ended before it came to say so.
    pub fn untold(&self, nodes: &[String]) -> Vec<String> {
        nodes.iter().filter(|n| !self.loaded.contains(*n) && !self.failed.contains_key(*n)).cloned().collect()
    }

    /// Which of `nodes` failed to import, and why.
    pub fn failed(&self, nodes: &[String]) -> Vec<(String, String)> {
        nodes.iter().filter_map(|n| Some((n.clone(), self.failed.get(n)?.clone()))).collect()
    }
}

/// `9 of 9 nodes loaded`, and a line for each that did not.
pub fn summary(nodes: &[String], failed: &[(String, String)]) -> Vec<String> {
    let mut out = vec![format!("{} of {} loaded", nodes.len().saturating_sub(failed.len()), crate::text::count(nodes.len(), "node"))];
    out.extend(failed.iter().map(|(n, why)| format!("node.{} failed to import: {}", crate::text::escape(n), crate::text::escape(why))));
    out
}

fn name(path: &str) -> String {
    path.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string()
}

/// A write into a node's own sealed folder (errno 13 and 30): what makes it possible.
fn denied(line: &str) -> Option<String> {
    if !line.contains("[Errno 13]") && !line.contains("[Errno 30]") {
        return None;
    }
    let (_, rest) = line.split_once("/ComfyUI/")?;
    let path = rest.split(['\'', '"']).next().filter(|p| p.chars().all(|c| c.is_alphanumeric() || "-_./ ".contains(c)))?;
    let (who, section, inner) = match path.strip_prefix("custom_nodes/").and_then(|p| p.split_once('/')) {
        Some((node, inner)) => (format!("node.{node}"), format!("nodes.{node}"), inner),
        // The only place of ComfyUI's own where nodes put files.
        None if path == "web" || path.starts_with("web/") => ("a node".into(), "comfyui".into(), "web/extensions"),
        None => return None,
    };
    (!inner.is_empty())
        .then(|| format!("{who} wants to write {inner}: if you agree, add to comfy.toml, then `comfy apply`: [{section}] writable = [\"{inner}\"]"))
}

fn lacking(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("No module named '")?;
    // A part of a module that is there is no package that is missing.
    let module = rest.split('\'').next().filter(|m| !m.contains('.'))?;
    let plain = !module.is_empty() && module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let package = DISTRIBUTIONS.iter().find(|(m, _)| *m == module).map_or(module, |(_, d)| d);
    plain.then(|| format!("the module {module} is missing: if its package is `{package}`, add to comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = [\"{package}\"]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_import_is_told_with_what_helps() {
        let text = "Cannot import /opt/comfy/s/gen/1/ComfyUI/custom_nodes/a module for custom nodes: [Errno 13] Permission denied: '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
Cannot import /x/ComfyUI/custom_nodes/b module for custom nodes: No module named 'cv2'
Import times for custom nodes:
   0.0 seconds: /x/ComfyUI/custom_nodes/c
   0.1 seconds (IMPORT FAILED): /x/ComfyUI/custom_nodes/a
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/web'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/comfy/evil'";
        let mut log = Log::default();
        let mut said: Vec<String> = text.lines().filter_map(|l| log.line(l)).collect();
        let nodes = ["a", "b", "c"].map(String::from);
        said.extend(summary(&nodes, &log.failed(&nodes)));
        insta::assert_snapshot!(said.join("\n"), @r#"
        the module cv2 is missing: if its package is `opencv-python-headless`, add to comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["opencv-python-headless"]
        a node wants to write web/extensions: if you agree, add to comfy.toml, then `comfy apply`: [comfyui] writable = ["web/extensions"]
        1 of 3 nodes loaded
        node.a failed to import: [Errno 13] Permission denied: '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
        node.b failed to import: No module named 'cv2'
        "#);
    }
}
