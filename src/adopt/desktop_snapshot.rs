//! Snapshots of Comfy-Desktop: an export of several, of which the last one counts, or one alone.

use serde_json::Value;

use super::document::{list_of, table_of, text_of};
use super::{Adopted, AdoptedSource, GitPin, manager_snapshot, packages};
use crate::text::escape_text;

/// The `type` of an export.
pub(crate) const TYPE: &str = "comfyui-desktop-2-snapshot";

/// Whether it is a snapshot as it lies in the installation, without the envelope of an export.
pub(crate) fn is_bare(v: &Value) -> bool {
    table_of(v, "comfyui").is_some() && v.get("customNodes").is_some_and(Value::is_array)
}

pub(crate) fn read_snapshots(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a snapshot of Comfy-Desktop",
        ..Adopted::default()
    };
    let version = v.get("version").and_then(Value::as_u64).unwrap_or(1);
    if version > 2 {
        out.lose(
            format!("the snapshot is of the newer format {version}"),
            "compare comfy.toml with it: comfy knows formats 1 and 2",
        );
    }
    let all = list_of(v, "snapshots");
    // Times in ISO 8601 sort as text.
    let newest = all
        .iter()
        .max_by_key(|s| text_of(s, "createdAt").unwrap_or_default());
    if all.len() > 1 {
        out.lose(
            format!(
                "the export holds {} snapshots; the newest was taken",
                all.len()
            ),
            "export another one alone, if it is that one you want",
        );
    }
    let s = newest.unwrap_or(v);
    let core = s.get("comfyui").unwrap_or(&Value::Null);
    let pin = ["commit", "releaseTag", "baseTag", "ref"]
        .iter()
        .find_map(|key| text_of(core, key));
    manager_snapshot::read_core(&mut out, pin);
    if let Some(core) = &mut out.core {
        let tags = ["releaseTag", "baseTag"];
        core.refs = tags
            .iter()
            .filter_map(|key| text_of(core_table(s), key))
            .map(str::to_string)
            .collect();
    }
    for node in list_of(s, "customNodes") {
        read_node(&mut out, node);
    }
    for (name, version) in table_of(s, "pipPackages").into_iter().flatten() {
        match version.as_str() {
            Some(version) if !version.contains("://") && !version.contains('/') => {
                out.add_package(name, version);
            }
            _ => out.lose_address(name, None),
        }
    }
    out.python = text_of(s, "pythonVersion").and_then(packages::minor_version);
    if s.get("torchStack").is_some_and(Value::is_object) {
        out.lose(
            "the choice of torch for one graphics card",
            "nothing on a Mac; for CUDA or ROCm, [python] indexes names where torch comes from \
             (docs/comfy-toml.md)",
        );
    }
    out
}

fn core_table(snapshot: &Value) -> &Value {
    snapshot.get("comfyui").unwrap_or(&Value::Null)
}

fn read_node(out: &mut Adopted, node: &Value) {
    let id = text_of(node, "id").unwrap_or("?");
    let folder = text_of(node, "dirName").unwrap_or(id);
    let enabled = node.get("enabled").and_then(Value::as_bool).unwrap_or(true);
    match (text_of(node, "type"), text_of(node, "url")) {
        (Some("cnr"), _) => out.add_pack(folder, id, text_of(node, "version"), enabled),
        (Some("git"), Some(url)) => {
            let what = format!("node {}", escape_text(folder));
            match GitPin::parse(&what, url, text_of(node, "commit")) {
                Ok(pin) => {
                    if pin.commit.is_none() {
                        out.lose_moving(&what, pin.git_ref.as_deref());
                    }
                    out.add_node(folder, AdoptedSource::Git(pin), enabled);
                }
                Err(loss) => out.losses.push(loss),
            }
        }
        (Some("file"), _) => manager_snapshot::lose_file(out, folder),
        _ => out.lose(
            format!("node {}: its repository is not named", escape_text(folder)),
            "add it by hand: `repo` and `ref`, or `path` for a folder of yours",
        ),
    }
}
