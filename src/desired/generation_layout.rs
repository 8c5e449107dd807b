//! The layout of a generation, in both directions: from a tree's path to the disk, and back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{GenerationSpec, InstancePaths};
use crate::ids::Part;
use crate::manifest::names::is_within;

/// The file in a generation that describes it; the generation's id is its hash.
pub(crate) const SPEC: &str = "generation.json";
/// The file that gives `models/configs` to ComfyUI if `models` is a mount.
pub(crate) const MODEL_PATHS: &str = "extra_model_paths.yaml";
/// The link to the virtual environment.
pub(crate) const VENV: &str = "venv";
/// Tracked content that a mount or a writable path shadows.
pub(crate) const TRACKED: &str = "tracked";

/// Where a path of a generation belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreePlace {
    /// A part and the path in its tree.
    Tree(Part, String),
    /// A link that comfy makes.
    Link(PathBuf),
    /// A file that comfy writes.
    Made(&'static str),
    /// A folder that only contains others.
    Frame,
}

/// The layout of a generation, in both directions.
pub(crate) struct GenerationLayout<'a> {
    spec: &'a GenerationSpec,
}

impl<'a> GenerationLayout<'a> {
    pub(crate) fn new(spec: &'a GenerationSpec) -> Self {
        GenerationLayout { spec }
    }

    /// Links that comfy makes, by their path in the generation.
    pub(crate) fn comfy_links(&self) -> BTreeMap<String, PathBuf> {
        let mut out = BTreeMap::new();
        out.insert("ComfyUI/user".to_string(), self.spec.state.join("user"));
        if let Some(v) = &self.spec.venv {
            out.insert(
                VENV.to_string(),
                PathBuf::from("../..").join(v.id().relative_path()),
            );
        }
        for (mount, target) in &self.spec.mounts {
            out.insert(format!("ComfyUI/{mount}"), target.clone());
        }
        for (part, w) in self.spec.writable() {
            let at = match &part {
                Part::Node(name) => format!("ComfyUI/custom_nodes/{name}/{w}"),
                Part::Comfyui => format!("ComfyUI/{w}"),
            };
            out.insert(
                at,
                InstancePaths::written_by(&self.spec.state, &part).join(w),
            );
        }
        out
    }

    /// Returns whether a mount or a writable path shadows the entry `path` of `part`, which is then
    /// in `tracked/`.
    pub(crate) fn is_shadowed(&self, part: &Part, path: &str) -> bool {
        match part {
            Part::Node(name) => self
                .spec
                .nodes
                .get(name)
                .is_some_and(|n| n.writable.iter().any(|w| is_within(path, w))),
            Part::Comfyui => {
                is_within(path, "user")
                    || self
                        .spec
                        .mounts
                        .keys()
                        .chain(&self.spec.writable)
                        .any(|m| is_within(path, m))
            }
        }
    }

    /// Returns the path in the generation of the entry `path` of `part`.
    pub(crate) fn disk_path(&self, part: &Part, path: &str) -> String {
        let top = if self.is_shadowed(part, path) {
            TRACKED
        } else {
            "ComfyUI"
        };
        match part {
            Part::Node(name) => format!("{top}/custom_nodes/{name}/{path}"),
            Part::Comfyui => format!("{top}/{path}"),
        }
    }

    pub(crate) fn classify(&self, path: &str, links: &BTreeMap<String, PathBuf>) -> TreePlace {
        if let Some(target) = links.get(path) {
            return TreePlace::Link(target.clone());
        }
        match path {
            SPEC => return TreePlace::Made(SPEC),
            MODEL_PATHS => return TreePlace::Made(MODEL_PATHS),
            TRACKED | "ComfyUI" | "ComfyUI/custom_nodes" => return TreePlace::Frame,
            _ => {}
        }
        let inner = path
            .strip_prefix("ComfyUI/")
            .or_else(|| path.strip_prefix(TRACKED).and_then(|p| p.strip_prefix('/')))
            .unwrap_or(path);
        if let Some(rest) = inner.strip_prefix("custom_nodes/") {
            let (name, inside) = rest.split_once('/').unwrap_or((rest, ""));
            if self.spec.nodes.contains_key(name) {
                return if inside.is_empty() {
                    TreePlace::Frame
                } else {
                    TreePlace::Tree(Part::Node(name.to_string()), inside.to_string())
                };
            }
        }
        TreePlace::Tree(Part::Comfyui, inner.to_string())
    }
}

/// Returns the bytes of the file that describes a generation.
pub(crate) fn spec_text(spec: &GenerationSpec) -> String {
    serde_json::to_string_pretty(spec).unwrap_or_default() + "\n"
}

/// Returns the bytes of comfy's extra_model_paths.yaml: relative to the file itself, as ComfyUI
/// resolves it (utils/extra_config.py).
pub(crate) fn model_paths_text(spec: &GenerationSpec) -> String {
    let moved = spec.mounts.contains_key("models");
    let base = if moved { TRACKED } else { "ComfyUI" };
    format!(
        "# Made by comfy.\ncomfy:\n  base_path: {base}\n  configs: models/configs\n{}",
        extra_model_paths_text(&spec.external_model_dirs)
    )
}

fn extra_model_paths_text(shares: &BTreeMap<String, BTreeMap<String, Vec<PathBuf>>>) -> String {
    let mut out = String::new();
    for (share, kinds) in shares {
        // No base_path, since ComfyUI would expand `$` in it. The prefix keeps the section's name
        // apart from ComfyUI's own.
        out += &format!("{}:\n", yaml_string(&format!("share.{share}")));
        for (kind, folders) in kinds {
            let all: Vec<_> = folders.iter().map(|f| f.to_string_lossy()).collect();
            // ComfyUI takes a text of several lines as several folders.
            out += &format!(
                "  {}: {}\n",
                yaml_string(kind),
                yaml_string(&all.join("\n"))
            );
        }
    }
    out
}

/// A YAML string that no reader can take for anything else (YAML 1.1, 5.6, "escape sequences").
fn yaml_string(text: &str) -> String {
    let one = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".into(),
        ' '..='~' => c.to_string(),
        c => format!("\\U{:08X}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_folder_steers_the_file_of_model_paths() {
        let folders = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let kinds = BTreeMap::from([
            (
                "loras".to_string(),
                folders(&["/a/$HOME \"x\": [", "/a/ü\u{2028}\\n"]),
            ),
            ("vae".to_string(), folders(&["/a"])),
        ]);
        insta::assert_snapshot!(extra_model_paths_text(&BTreeMap::from([("on".to_string(), kinds)])), @r#"
        "share.on":
          "loras": "/a/$HOME \"x\": [\n/a/\U000000FC\U00002028\\n"
          "vae": "/a"
        "#);
    }
}
