//! comfy-lock.yaml, which was never finished: read leniently.

use serde_json::Value;

use super::document::{list_of, text_of};
use super::{Adopted, manager_snapshot, packages};
use crate::manifest::names;
use crate::text::escape_text;

pub(crate) fn is_lock(v: &Value) -> bool {
    let nodes = v
        .get("custom_nodes")
        .is_some_and(manager_snapshot::is_snapshot);
    let model = |m: &Value| m.get("model").is_some() || m.get("paths").is_some();
    let basics = v.get("basic").or_else(|| v.get("basics"));
    nodes || list_of(v, "models").iter().any(model) || basics.is_some_and(Value::is_object)
}

pub(crate) fn read_lock(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a comfy-lock.yaml",
        ..Adopted::default()
    };
    let nodes = v.get("custom_nodes").unwrap_or(&Value::Null);
    manager_snapshot::read_into(&mut out, nodes);
    let basic = v.get("basic").or_else(|| v.get("basics"));
    let python = basic.and_then(|b| text_of(b, "python").or_else(|| text_of(b, "python_version")));
    out.python = python.and_then(packages::minor_version);
    for model in list_of(v, "models") {
        let name = text_of(model, "model").unwrap_or("?");
        let mut paths = list_of(model, "paths")
            .iter()
            .filter_map(|p| text_of(p, "path").or_else(|| p.as_str()));
        let Some(path) = paths.next() else {
            out.lose(
                format!("model {}: it has no path", escape_text(name)),
                "`comfy add model PATH --source ADDRESS` adds it",
            );
            continue;
        };
        let (hash, url) = (sha256_of(model), text_of(model, "url"));
        for path in std::iter::once(path).chain(paths) {
            out.add_model(&file_in(path, url), url, hash);
        }
    }
    out
}

/// The path of the file, where only its folder is written.
fn file_in(path: &str, url: Option<&str>) -> String {
    let name = url.and_then(|u| u.split(['?', '#']).next()?.rsplit('/').next());
    match name.filter(|n| names::is_model(n) && !names::is_model(path)) {
        Some(name) => format!("{}/{name}", path.trim_end_matches('/')),
        None => path.into(),
    }
}

/// Of all the kinds of hashes there, only SHA-256 pins.
fn sha256_of(model: &Value) -> Option<&str> {
    let is_sha = |h: &&Value| text_of(h, "type").is_some_and(|t| t.eq_ignore_ascii_case("sha256"));
    let hash = list_of(model, "hashes").iter().find(is_sha);
    hash.and_then(|h| text_of(h, "hash"))
        .or_else(|| text_of(model, "sha256"))
}
