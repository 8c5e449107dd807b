//! comfy.yaml of comfy-cli (`schema: project/1`): a folder of workflows and assets, without pins.

use serde_json::Value;

use super::document::{table_of, text_of};
use super::{Adopted, manager_snapshot};
use crate::text::{count_of, escape_text};

pub(crate) fn read_project(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a project of comfy-cli",
        ..Adopted::default()
    };
    manager_snapshot::read_core(&mut out, None);
    let defaults = v.get("defaults").unwrap_or(&Value::Null);
    if let Some(place) = text_of(defaults, "where") {
        out.lose(
            format!("where it runs by default: {}", escape_text(place)),
            "nothing: comfy runs ComfyUI on this machine",
        );
    }
    let vars = table_of(v, "vars").map_or(0, serde_json::Map::len);
    if vars > 0 {
        out.lose(
            count_of(vars, "variable of its blueprints"),
            "keep comfy.yaml beside comfy.toml: comfy-cli goes on reading it",
        );
    }
    out.lose(
        "its nodes and models: the format names none",
        "`comfy init --from` the ComfyUI folder that it is used with, or a snapshot of it",
    );
    out
}
