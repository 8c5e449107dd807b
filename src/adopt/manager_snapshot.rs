//! A snapshot of ComfyUI-Manager, and the same as other tools embed it.

use serde_json::Value;

use super::document::{is_true, list_of, table_of, text_of};
use super::{Adopted, GitPin};
use crate::text::escape_text;

/// The one node of custom_nodes/ that is ComfyUI's.
pub(crate) const OWN_FILE: &str = "websocket_image_save.py";

pub(crate) fn is_snapshot(v: &Value) -> bool {
    table_of(v, "git_custom_nodes").is_some()
        || table_of(v, "cnr_custom_nodes").is_some()
        || (v.get("comfyui").is_some() && v.get("file_custom_nodes").is_some())
}

pub(crate) fn read_snapshot(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a snapshot of ComfyUI-Manager",
        ..Adopted::default()
    };
    read_into(&mut out, v);
    out
}

/// Reads ComfyUI, nodes and packages.
pub(crate) fn read_into(out: &mut Adopted, v: &Value) {
    read_core(out, text_of(v, "comfyui"));
    for (address, entry) in table_of(v, "git_custom_nodes").into_iter().flatten() {
        let pin = text_of(entry, "hash").or_else(|| entry.as_str());
        out.add_repository(address, pin, !is_true(entry, "disabled"));
    }
    for (id, version) in table_of(v, "cnr_custom_nodes").into_iter().flatten() {
        let version = version.as_str().or_else(|| text_of(version, "version"));
        out.add_pack(id, id, version, true);
    }
    for file in list_of(v, "file_custom_nodes") {
        let name = text_of(file, "filename").or_else(|| file.as_str());
        lose_file(out, name.unwrap_or("?"));
    }
    match v.get("pips") {
        Some(Value::Object(all)) => {
            for (line, address) in all {
                match address.as_str().filter(|a| !a.is_empty()) {
                    // Some programs write the version there.
                    Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                        out.add_package(line, version);
                    }
                    Some(address) => {
                        let name = line.split(['=', '@', ' ']).next().unwrap_or(line);
                        out.lose_address(name, Some(address));
                    }
                    None => out.add_freeze_line(line),
                }
            }
        }
        Some(Value::Array(all)) => {
            for line in all.iter().filter_map(Value::as_str) {
                out.add_freeze_line(line);
            }
        }
        _ => {}
    }
}

/// Reads what names ComfyUI's version.
pub(crate) fn read_core(out: &mut Adopted, pin: Option<&str>) {
    match GitPin::of_core(pin) {
        Ok(core) => {
            if core.commit.is_none() && core.git_ref.is_none() {
                out.lose(
                    "comfyui: no version is named, so that it is pinned to the newest commit",
                    "nothing, or write a tag as `ref` in [comfyui] and run `comfy lock`",
                );
            }
            out.core = Some(core);
        }
        Err(loss) => {
            out.losses.push(loss);
            out.core = GitPin::of_core(None).ok();
        }
    }
}

/// A node that is one file and of which only the name is known.
pub(crate) fn lose_file(out: &mut Adopted, name: &str) {
    // ComfyUI's own tree has it.
    if name == OWN_FILE {
        return;
    }
    out.lose(
        format!(
            "node {}: it is a single file, and only its name is there",
            escape_text(name)
        ),
        "put the file into a folder of its own, as __init__.py, and add that folder",
    );
}
