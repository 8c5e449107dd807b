//! What a workflow of ComfyUI's names: nodes, by class and by the pack that the editor noted, and
//! models. Nothing is guessed: what the file does not say stays open.

mod picture;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::manifest::{names, node_source};
use crate::problem::{Problem, Result};

/// What the editor writes for ComfyUI's own nodes (`properties.cnr_id`).
const CORE: &str = "comfy-core";

/// Nodes of the editor itself, which no Python has.
const OF_EDITOR: &[&str] = &["Note", "MarkdownNote", "Reroute", "PrimitiveNode"];

/// Nodes that the page's scripts of packs make, which no Python has either (ComfyUI-KJNodes
/// web/js/setgetnodes.js, rgthree-comfy web/comfyui/). Where the editor noted their pack, it counts.
const OF_PAGES: &[&str] = &[
    "GetNode",
    "SetNode",
    "Bookmark (rgthree)",
    "Fast Actions Button (rgthree)",
    "Fast Bypasser (rgthree)",
    "Fast Groups Bypasser (rgthree)",
    "Fast Groups Muter (rgthree)",
    "Fast Muter (rgthree)",
    "Label (rgthree)",
    "Mute / Bypass Relay (rgthree)",
    "Mute / Bypass Repeater (rgthree)",
    "Node Collector (rgthree)",
    "Random Unmuter (rgthree)",
    "Reroute (rgthree)",
];

/// What a workflow names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Workflow {
    pub packs: BTreeMap<PackName, NamedPack>,
    /// Classes of nodes of which the file does not say where they come from.
    pub classes: BTreeSet<String>,
    /// By file name, as the nodes name it.
    pub models: BTreeMap<String, NamedModel>,
}

/// How a workflow names a pack of nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PackName {
    /// `cnr_id`: the id in the registry.
    Registry(String),
    /// `aux_id`: `OWNER/NAME` on GitHub.
    GitHub(String),
}

/// A pack of nodes, as its nodes note it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedPack {
    /// `ver`: versions of the registry, or commits.
    pub versions: BTreeSet<String>,
    pub classes: BTreeSet<String>,
}

/// A model, as the nodes that load it note it (`properties.models`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedModel {
    pub urls: BTreeSet<String>,
    /// The folder of its kind, such as `checkpoints`.
    pub directories: BTreeSet<String>,
    pub sha256: BTreeSet<String>,
    pub blake3: BTreeSet<String>,
}

impl Workflow {
    /// Reads a workflow: JSON as the editor saves it, as its API takes it, or a picture that carries
    /// one of them.
    ///
    /// # Errors
    /// It is none of these.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Workflow> {
        let text = if picture::is_png(bytes) {
            picture::workflow_text(bytes)?
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        };
        let text = text.trim_start_matches('\u{feff}');
        // Python writes NaN, which JSON does not have.
        let value: Value = serde_json::from_str(text)
            .or_else(|e| serde_json::from_str(&without_nan(text)).map_err(|_| e))
            .map_err(|e| {
                Problem::new(format!("is not a workflow: {e}"))
                    .with_hint("save it in ComfyUI by Workflow > Save or Export, or give a picture that ComfyUI saved")
            })?;
        let mut out = Workflow::default();
        if !out.read_document(&value) {
            return Err(
                Problem::new("is JSON, and no workflow of ComfyUI's").with_hint(
                    "a workflow has `nodes`, or nodes with `class_type`; save it in ComfyUI by \
                 Workflow > Save or Export",
                ),
            );
        }
        Ok(out)
    }

    /// Returns whether it is one.
    fn read_document(&mut self, value: &Value) -> bool {
        if let Some(nodes) = value.get("nodes").and_then(Value::as_array) {
            let subgraphs = value
                .pointer("/definitions/subgraphs")
                .and_then(Value::as_array);
            let subgraphs: Vec<&Value> = subgraphs.into_iter().flatten().collect();
            let own: BTreeSet<&str> = subgraphs.iter().filter_map(|s| s["id"].as_str()).collect();
            let inner = subgraphs
                .iter()
                .filter_map(|s| s["nodes"].as_array())
                .flatten();
            for node in nodes.iter().chain(inner) {
                self.read_editor_node(node, &own);
            }
            self.read_models(value);
            return true;
        }
        // The API's form; the editor's own may stand beside it.
        let api = value.get("prompt").unwrap_or(value);
        let Some(nodes) = api.as_object() else {
            return false;
        };
        let mut is_one = false;
        for node in nodes.values() {
            if let Some(class) = node.get("class_type").and_then(Value::as_str) {
                is_one = true;
                self.classes.insert(class.into());
                self.read_names(&node["inputs"]);
            }
        }
        is_one
    }

    fn read_editor_node(&mut self, node: &Value, subgraphs: &BTreeSet<&str>) {
        let Some(class) = node["type"].as_str() else {
            return;
        };
        self.read_models(&node["properties"]);
        if OF_EDITOR.contains(&class) || subgraphs.contains(class) || class.starts_with("workflow>")
        {
            return;
        }
        self.read_names(&node["widgets_values"]);
        let text = |key: &str| node["properties"][key].as_str().map(str::trim);
        let name = match (text("cnr_id"), text("aux_id")) {
            (Some(CORE), _) => return,
            (Some(id), _) if node_source::check_registry_id(id).is_ok() => {
                PackName::Registry(id.to_lowercase())
            }
            (_, Some(aux)) if is_github_name(aux) => PackName::GitHub(aux.to_string()),
            _ if OF_PAGES.contains(&class) => return,
            _ => {
                self.classes.insert(class.into());
                return;
            }
        };
        let pack = self.packs.entry(name).or_default();
        pack.classes.insert(class.into());
        pack.versions.extend(
            text("ver")
                .filter(|v| node_source::check_version(v).is_ok())
                .map(str::to_string),
        );
    }

    /// `models` of a node's properties or of the whole file.
    fn read_models(&mut self, holder: &Value) {
        for m in holder["models"].as_array().into_iter().flatten() {
            let Some(name) = m["name"].as_str().filter(|n| !n.is_empty()) else {
                continue;
            };
            let found = self.models.entry(name.to_string()).or_default();
            let text = |key: &str| m[key].as_str().map(str::to_string);
            found.urls.extend(text("url"));
            found.directories.extend(text("directory"));
            let hash = text("hash").unwrap_or_default().to_lowercase();
            // ComfyUI's assets write `blake3:` before the digits.
            let (kind, digits) = match hash.split_once(':') {
                Some((kind, digits)) => (kind.to_string(), digits),
                None => (
                    text("hash_type").map_or("sha256".into(), |t| t.to_lowercase()),
                    hash.as_str(),
                ),
            };
            // Both have 64 digits.
            if !names::is_sha256(digits) {
                continue;
            }
            match kind.as_str() {
                "sha256" => drop(found.sha256.insert(digits.into())),
                "blake3" => drop(found.blake3.insert(digits.into())),
                _ => {}
            }
        }
    }

    /// File names of models among a node's values.
    fn read_names(&mut self, values: &Value) {
        match values {
            Value::String(text) => {
                // Windows' ComfyUI writes `\`.
                let name = text.replace('\\', "/");
                let is_name = names::is_model(&name)
                    && name.len() < 500
                    && !name.contains(char::is_control)
                    && !name.contains("://");
                if is_name {
                    self.models.entry(name).or_default();
                }
            }
            Value::Array(all) => all.iter().for_each(|v| self.read_names(v)),
            Value::Object(all) => all.values().for_each(|v| self.read_names(v)),
            _ => {}
        }
    }
}

/// `OWNER/NAME`, as GitHub allows them.
fn is_github_name(text: &str) -> bool {
    let fits = |s: &str| {
        !s.is_empty()
            && !s.starts_with(['.', '-'])
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| fits(owner) && fits(name))
}

/// The text with `null` for NaN and Infinity outside of strings.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        if !inside
            && let Some(word) = ["-Infinity", "Infinity", "NaN"]
                .iter()
                .find(|w| rest.starts_with(**w))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let taken = match c {
            '\\' if inside => c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        inside ^= c == '"';
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_s_workflow_names_packs_classes_and_models() {
        let text = r#"{ "nodes": [
            { "type": "KSampler", "properties": { "cnr_id": "comfy-core", "ver": "0.3.40" }, "widgets_values": [1, NaN] },
            { "type": "ImageResizeKJ", "properties": { "cnr_id": "ComfyUI-KJNodes", "ver": "1.0.5" } },
            { "type": "INTConstant", "properties": { "cnr_id": "comfyui-kjnodes", "ver": "1.0.7" } },
            { "type": "Seed (rgthree)", "properties": { "aux_id": "rgthree/rgthree-comfy", "ver": "5f2d8a1559121c0b6f4ff7b2a4a1e8ab8e1d0001" } },
            { "type": "Odd", "properties": { "aux_id": "../x" } },
            { "type": "Note", "widgets_values": ["see x.safetensors"] },
            { "type": "GetNode", "widgets_values": ["image"] }, { "type": "Label (rgthree)" },
            { "type": "b2f1", "properties": {} },
            { "type": "LoraLoader", "widgets_values": ["style\\a.safetensors", "http://x/y.safetensors"],
              "properties": { "models": [ { "name": "a.safetensors", "url": "https://huggingface.co/o/r/resolve/main/a.safetensors", "directory": "loras",
                "hash": "ABCD", "hash_type": "SHA256" } ] } } ],
          "definitions": { "subgraphs": [ { "id": "b2f1", "nodes": [ { "type": "Inner" } ] } ] } }"#;
        let found = Workflow::parse(text.as_bytes()).unwrap();
        insta::assert_debug_snapshot!(found, @r#"
        Workflow {
            packs: {
                Registry(
                    "comfyui-kjnodes",
                ): NamedPack {
                    versions: {
                        "1.0.5",
                        "1.0.7",
                    },
                    classes: {
                        "INTConstant",
                        "ImageResizeKJ",
                    },
                },
                GitHub(
                    "rgthree/rgthree-comfy",
                ): NamedPack {
                    versions: {
                        "5f2d8a1559121c0b6f4ff7b2a4a1e8ab8e1d0001",
                    },
                    classes: {
                        "Seed (rgthree)",
                    },
                },
            },
            classes: {
                "Inner",
                "LoraLoader",
                "Odd",
            },
            models: {
                "a.safetensors": NamedModel {
                    urls: {
                        "https://huggingface.co/o/r/resolve/main/a.safetensors",
                    },
                    directories: {
                        "loras",
                    },
                    sha256: {},
                    blake3: {},
                },
                "style/a.safetensors": NamedModel {
                    urls: {},
                    directories: {},
                    sha256: {},
                    blake3: {},
                },
            },
        }
        "#);
    }

    #[test]
    fn an_api_s_workflow_names_classes() {
        let text = r#"{ "3": { "class_type": "CheckpointLoaderSimple", "inputs": { "ckpt_name": "sd15.ckpt", "x": ["1", 0] } } }"#;
        let found = Workflow::parse(text.as_bytes()).unwrap();
        assert_eq!(
            found.classes,
            BTreeSet::from(["CheckpointLoaderSimple".into()])
        );
        assert!(found.models.contains_key("sd15.ckpt"));
        for (text, why) in [
            ("[1]", "no workflow"),
            ("{}", "no workflow"),
            ("x", "not a workflow"),
        ] {
            assert!(
                Workflow::parse(text.as_bytes())
                    .unwrap_err()
                    .message
                    .contains(why)
            );
        }
    }

    #[test]
    fn a_picture_carries_its_workflow() {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 1, 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder
            .add_text_chunk(
                "prompt".into(),
                r#"{"1":{"class_type":"A","inputs":{}}}"#.into(),
            )
            .unwrap();
        encoder
            .add_ztxt_chunk("workflow".into(), r#"{"nodes":[{"type":"B"}]}"#.into())
            .unwrap();
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&[0])
            .unwrap();
        let found = Workflow::parse(&png).unwrap();
        assert_eq!(found.classes, BTreeSet::from(["B".into()]));
        for n in 0..png.len() {
            // Cut anywhere, it is refused or read, and nothing panics.
            let _ = Workflow::parse(&png[..n]);
        }
    }
}
