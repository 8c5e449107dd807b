//! A `.cpack.zip` of comfy-pack: an archive with snapshot.json and requirements.txt.

use std::io::{Cursor, Read};

use serde_json::Value;

use super::document::{self, is_true, list_of, parse_document, text_of};
use super::{Adopted, AdoptedSource, GitPin, manager_snapshot, packages};
use crate::problem::{Problem, Result};
use crate::text::{count_of, escape_text};

/// The most files of an archive that is looked at.
const MAX_FILES: usize = 10_000;

/// Reads the archive; nothing is unpacked but two texts, in memory.
///
/// # Errors
/// It is no archive, or none of comfy-pack's.
pub(crate) fn read_archive(bytes: &[u8]) -> Result<Adopted> {
    let broken = |e: zip::result::ZipError| {
        Problem::new(format!(
            "it is no zip archive that can be read: {}",
            escape_text(&e.to_string())
        ))
    };
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > MAX_FILES {
        return Err(Problem::new("the archive has too many files"));
    }
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|n| Some(n.ok()?.into_owned()))
        .collect();
    let others = names
        .iter()
        .filter(|n| n.starts_with("input/") && !n.ends_with('/'))
        .count();
    let text = text_in(&mut archive, "snapshot.json")?.ok_or_else(|| {
        Problem::new("the archive has no snapshot.json, so it is no .cpack.zip of comfy-pack")
    })?;
    let value = parse_document(&text).map_err(|p| p.with_prefix("snapshot.json: "))?;
    let mut out = read_snapshot(&value);
    if value.get("pips").is_none() {
        let freeze = text_in(&mut archive, "requirements.txt")?.unwrap_or_default();
        for line in freeze.lines().filter(|l| !l.starts_with("--")) {
            out.add_freeze_line(line);
        }
    }
    if others > 0 {
        out.lose(
            format!("{} in the archive's input/", count_of(others, "file")),
            "unzip them into the folder of [shares.input]",
        );
    }
    if names.iter().any(|n| n == "workflow.json") {
        out.lose(
            "workflow.json in the archive",
            "unzip it into the folder of [shares.workflows]",
        );
    }
    Ok(out)
}

fn text_in(archive: &mut zip::ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Option<String>> {
    let Ok(file) = archive.by_name(name) else {
        return Ok(None);
    };
    let mut text = String::new();
    // What the archive says of the size is not believed.
    let limit = document::MAX_BYTES as u64 + 1;
    file.take(limit)
        .read_to_string(&mut text)
        .map_err(|e| Problem::new(format!("{name} in the archive cannot be read: {e}")))?;
    if text.len() as u64 >= limit {
        return Err(Problem::new(format!("{name} in the archive is too large")));
    }
    Ok(Some(text))
}

pub(crate) fn is_snapshot(v: &Value) -> bool {
    let node = |n: &Value| n.get("url").is_some() && n.get("commit_hash").is_some();
    let model = |m: &Value| m.get("filename").is_some() && m.get("sha256").is_some();
    (v.get("custom_nodes").is_some_and(Value::is_array)
        && (list_of(v, "custom_nodes").iter().any(node) || v.get("comfyui").is_some()))
        || (v.get("comfyui").is_some() && list_of(v, "models").iter().any(model))
}

pub(crate) fn read_snapshot(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a package of comfy-pack",
        ..Adopted::default()
    };
    manager_snapshot::read_core(&mut out, text_of(v, "comfyui"));
    for node in list_of(v, "custom_nodes") {
        let Some(url) = text_of(node, "url") else {
            out.lose("a node without an address", "add it by hand");
            continue;
        };
        out.add_repository(
            url,
            text_of(node, "commit_hash"),
            !is_true(node, "disabled"),
        );
    }
    // Newer ones have ComfyUI-Manager's own form as well.
    let more = Value::Object(
        v.as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| k.ends_with("_custom_nodes") || *k == "pips")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    );
    merge_manager(&mut out, &more);
    out.python = text_of(v, "python").and_then(packages::minor_version);
    for model in list_of(v, "models") {
        let path = text_of(model, "filename").or_else(|| text_of(model, "path"));
        let Some(path) = path else {
            out.lose("a model without a path", "`comfy add model PATH` adds it");
            continue;
        };
        let source = model.get("source").unwrap_or(&Value::Null);
        let url = source_address(source);
        let hash = text_of(model, "sha256");
        out.add_model(path, url.as_deref(), hash);
    }
    out
}

/// Where comfy-pack found the model: on Hugging Face at a commit, or at an address.
fn source_address(source: &Value) -> Option<String> {
    let hub = || {
        let path = text_of(source, "path").filter(|p| !p.contains("://"))?;
        let (repo, commit) = (text_of(source, "repo")?, text_of(source, "commit")?);
        Some(format!("hf://{repo}/{path}@{commit}"))
    };
    let address = text_of(source, "download_url").or_else(|| text_of(source, "url"));
    let address = address.or_else(|| source.as_str());
    let address = address.filter(|a| a.contains("://")).map(str::to_string);
    address.or_else(hub)
}

/// Adds what the list of comfy-pack does not have.
fn merge_manager(out: &mut Adopted, more: &Value) {
    let mut other = Adopted::default();
    manager_snapshot::read_into(&mut other, more);
    let key = |n: &super::AdoptedNode| match &n.source {
        AdoptedSource::Git(GitPin { repo, .. }) => Some(crate::manifest::names::repo_key(repo)),
        _ => None,
    };
    let known: Vec<_> = out.nodes.iter().filter_map(key).collect();
    for node in other.nodes {
        if key(&node).is_none_or(|k| !known.contains(&k)) {
            out.add_node(&node.name, node.source, node.enabled);
        }
    }
    out.packages.extend(other.packages);
    let about_core = |l: &super::Loss| l.what.starts_with("comfyui:");
    let losses = other.losses.into_iter().filter(|l| !about_core(l));
    out.losses.extend(losses);
}
