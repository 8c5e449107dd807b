//! extra_model_paths.yaml of ComfyUI: folders of models elsewhere.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{is_true, parse_document};
use crate::problem::Result;

/// One section: folders for each kind of model, as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModelSection {
    pub name: String,
    /// The folder that the others are in, as written.
    pub base_path: Option<String>,
    pub is_default: bool,
    pub kinds: BTreeMap<String, Vec<String>>,
    /// Folders of nodes.
    pub nodes: Vec<String>,
}

/// Reads the file; sections without a folder are left out.
///
/// # Errors
/// It is no YAML.
pub(crate) fn read_sections(text: &str) -> Result<Vec<ModelSection>> {
    let value = parse_document(text)?;
    let sections = value.as_object().into_iter().flatten();
    let read = |(name, section): (&String, &Value)| {
        let mut out = ModelSection {
            name: name.clone(),
            base_path: None,
            is_default: is_true(section, "is_default"),
            kinds: BTreeMap::new(),
            nodes: Vec::new(),
        };
        for (key, value) in section.as_object()? {
            let folders = folders_of(value);
            match key.as_str() {
                "base_path" => out.base_path = folders.into_iter().next(),
                "is_default" => {}
                "custom_nodes" => out.nodes = folders,
                kind => {
                    let kind = current_kind(kind);
                    out.kinds.entry(kind).or_default().extend(folders);
                }
            }
        }
        out.kinds.retain(|_, folders| !folders.is_empty());
        (!out.kinds.is_empty() || !out.nodes.is_empty()).then_some(out)
    };
    Ok(sections.filter_map(read).collect())
}

/// ComfyUI's own name for a kind (folder_paths.py, `map_legacy`).
fn current_kind(kind: &str) -> String {
    match kind {
        "unet" => "diffusion_models",
        "clip" => "text_encoders",
        kind => kind,
    }
    .to_string()
}

/// One folder a line.
fn folders_of(value: &Value) -> Vec<String> {
    let lines: Vec<&str> = match value {
        Value::String(text) => text.lines().collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let lines = lines.into_iter().map(str::trim).filter(|l| !l.is_empty());
    lines.map(str::to_string).collect()
}
