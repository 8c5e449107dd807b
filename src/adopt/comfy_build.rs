//! comfy-build.yaml of comfy-cli (`schema: comfy-build/1`).

use serde_json::Value;

use super::document::{list_of, text_of};
use super::{Adopted, manager_snapshot, packages};
use crate::text::escape_text;

pub(crate) fn read_build(v: &Value, schema: &str) -> Adopted {
    let mut out = Adopted {
        format: "a comfy-build file of comfy-cli",
        ..Adopted::default()
    };
    if schema != "comfy-build/1" {
        out.lose(
            format!("the file is of the newer format {}", escape_text(schema)),
            "compare comfy.toml with it: comfy knows comfy-build/1",
        );
    }
    let d = v.get("definition").unwrap_or(v);
    manager_snapshot::read_core(&mut out, text_of(d, "baseComfyVersion"));
    for node in list_of(d, "customNodes") {
        read_node(&mut out, node);
    }
    for line in text_of(d, "pipDependencies").unwrap_or_default().lines() {
        out.add_freeze_line(line);
    }
    let environment = d.get("environment").unwrap_or(&Value::Null);
    out.python = text_of(environment, "pythonVersion").and_then(packages::minor_version);
    if let Some(image) = text_of(d, "baseImage") {
        out.lose(
            format!("base image {}", escape_text(image)),
            "nothing: comfy runs ComfyUI on the machine itself",
        );
    }
    for model in list_of(d, "models") {
        let file = text_of(model, "filename").unwrap_or("?");
        let path = match (text_of(model, "type"), text_of(model, "localPath")) {
            (Some(kind), _) => format!("{kind}/{file}"),
            (None, Some(path)) if !path.starts_with('/') => path.to_string(),
            _ => file.to_string(),
        };
        let hash = text_of(model, "sha256");
        out.add_model(&path, text_of(model, "sourceUri"), hash);
    }
    out
}

fn read_node(out: &mut Adopted, node: &Value) {
    let name = text_of(node, "name").unwrap_or("?");
    let version = text_of(node, "registryVersion");
    match (text_of(node, "repository"), text_of(node, "id")) {
        (_, id) if version.is_some() => out.add_pack(name, id.unwrap_or(name), version, true),
        (Some(repository), _) => out.add_repository(repository, text_of(node, "gitRef"), true),
        (None, Some(id)) => out.add_pack(name, id, None, true),
        (None, None) => out.lose(
            format!(
                "node {}: it names neither a repository nor a version of the registry",
                escape_text(name)
            ),
            "add it by hand; its files are with whoever made the build",
        ),
    }
}
