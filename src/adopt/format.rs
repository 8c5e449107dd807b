//! Which format a file has: its content says so, never its name.

use serde_json::Value;

use super::document::{parse_document, text_of};
use super::{
    Adopted, comfy_build, comfy_lock, comfy_pack, comfygit, desktop_snapshot, manager_snapshot,
    pixeloven, project_one,
};
use crate::problem::{Problem, Result};

/// What can be read, for people.
const KNOWN: &str = "comfy reads a ComfyUI folder, a snapshot of ComfyUI-Manager (JSON or YAML) or of \
    Comfy-Desktop, comfy-lock.yaml, comfy-build.yaml, comfy.yaml of comfy-cli or of \
    pixeloven/ComfyUI-Docker, a comfygit project (pyproject.toml), and a .cpack.zip";

/// Reads a file of another tool's.
///
/// # Errors
/// It is of no known format, or broken.
pub(crate) fn read_file(bytes: &[u8]) -> Result<Adopted> {
    if bytes.starts_with(b"PK\x03\x04") {
        return comfy_pack::read_archive(bytes);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Problem::new("it is no text in UTF-8").with_hint(KNOWN))?;
    if is_environment_marker(text) {
        return Err(Problem::new(
            ".comfy_environment names the program that installed ComfyUI, and no pins",
        )
        .with_hint("give the folder that it is in: comfy init --from FOLDER"));
    }
    let value = parse_document(text).map_err(|p| p.with_hint(KNOWN))?;
    read_value(&value).ok_or_else(|| Problem::new("its format is not known").with_hint(KNOWN))
}

fn read_value(v: &Value) -> Option<Adopted> {
    let schema = text_of(v, "schema").unwrap_or_default();
    let custom_nodes = v.get("custom_nodes");
    if text_of(v, "type") == Some(desktop_snapshot::TYPE) || desktop_snapshot::is_bare(v) {
        return Some(desktop_snapshot::read_snapshots(v));
    }
    if schema.starts_with("comfy-build/") {
        return Some(comfy_build::read_build(v, schema));
    }
    if schema.starts_with("project/") {
        return Some(project_one::read_project(v));
    }
    if v.get("tool").and_then(|t| t.get("comfygit")).is_some() {
        return Some(comfygit::read_project(v));
    }
    if comfy_pack::is_snapshot(v) {
        return Some(comfy_pack::read_snapshot(v));
    }
    if manager_snapshot::is_snapshot(v) {
        return Some(manager_snapshot::read_snapshot(v));
    }
    let nested = custom_nodes.is_some_and(manager_snapshot::is_snapshot);
    let models = v.get("models").and_then(Value::as_array);
    if nested && models.is_none() && v.get("basic").or_else(|| v.get("basics")).is_none() {
        return custom_nodes.map(manager_snapshot::read_snapshot);
    }
    if comfy_lock::is_lock(v) {
        return Some(comfy_lock::read_lock(v));
    }
    if models.is_some_and(|m| m.iter().any(has_files)) {
        return Some(pixeloven::read_manifest(v));
    }
    None
}

fn has_files(model: &Value) -> bool {
    model.get("files").is_some_and(Value::is_array)
}

/// One word, such as `local-git`.
fn is_environment_marker(text: &str) -> bool {
    let word = text.trim();
    !word.is_empty()
        && word.len() <= 64
        && word.starts_with("local-")
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
