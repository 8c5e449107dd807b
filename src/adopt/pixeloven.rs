//! comfy.yaml of pixeloven/ComfyUI-Docker: models as a person wrote them down.

use serde_json::Value;

use super::document::{list_of, table_of, text_of};
use super::{Adopted, manager_snapshot};
use crate::text::{count_of, escape_text};

pub(crate) fn read_manifest(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a comfy.yaml of pixeloven/ComfyUI-Docker",
        ..Adopted::default()
    };
    manager_snapshot::read_into(&mut out, v.get("custom_nodes").unwrap_or(&Value::Null));
    for model in list_of(v, "models") {
        let name = text_of(model, "name").unwrap_or("?");
        for file in list_of(model, "files") {
            read_model(&mut out, name, file);
        }
    }
    let profiles = table_of(v, "profiles").map_or(0, serde_json::Map::len);
    if profiles > 0 {
        out.lose(
            count_of(profiles, "profile"),
            "every model is declared; remove from [models] what this machine should not have",
        );
    }
    if table_of(v, "auth").is_some_and(|a| !a.is_empty()) {
        out.lose(
            "the variables that hold tokens",
            "set HF_TOKEN and CIVITAI_API_TOKEN where you run `comfy lock` and `comfy apply`",
        );
    }
    out
}

fn read_model(out: &mut Adopted, name: &str, file: &Value) {
    let source = text_of(file, "source").unwrap_or_default();
    let inner = text_of(file, "file").unwrap_or_default();
    let named = text_of(file, "as").unwrap_or_else(|| inner.rsplit('/').next().unwrap_or(inner));
    let folder = text_of(file, "install").unwrap_or_default();
    if named.is_empty() {
        return out.lose(
            format!("model {}: a file of it has no name", escape_text(name)),
            "`comfy add model PATH --source ADDRESS` adds it",
        );
    }
    let path = format!("{}/{named}", folder.trim_end_matches('/'));
    let path = path.trim_start_matches('/');
    let hash = text_of(file, "sha256");
    let address = match source.split_once(':') {
        Some(("hf", repo)) => match text_of(file, "revision") {
            Some(revision) if revision != "main" => format!("hf://{repo}/{inner}@{revision}"),
            _ => format!("hf://{repo}/{inner}"),
        },
        Some(("gh", release)) => match release.split_once('@') {
            Some((repo, tag)) => {
                format!("https://github.com/{repo}/releases/download/{tag}/{inner}")
            }
            None => String::from("gh:"),
        },
        _ => source.to_string(),
    };
    out.add_model(path, Some(&address), hash);
}
