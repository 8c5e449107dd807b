//! A project of comfygit: `.cec/pyproject.toml`.

use serde_json::Value;

use super::document::{list_of, table_of, text_of};
use super::{Adopted, AdoptedSource, GitPin, manager_snapshot, packages};
use crate::text::escape_text;

pub(crate) fn read_project(v: &Value) -> Adopted {
    let mut out = Adopted {
        format: "a comfygit project",
        ..Adopted::default()
    };
    let c = v
        .get("tool")
        .and_then(|t| t.get("comfygit"))
        .unwrap_or(&Value::Null);
    let pin = text_of(c, "comfyui_commit_sha").or_else(|| text_of(c, "comfyui_version"));
    match text_of(c, "comfyui_repository") {
        Some(repo) => match GitPin::parse("comfyui", repo, pin) {
            Ok(core) => out.core = Some(core),
            Err(loss) => out.losses.push(loss),
        },
        None => manager_snapshot::read_core(&mut out, pin),
    }
    if let (Some(core), Some(version)) = (&mut out.core, text_of(c, "comfyui_version")) {
        core.refs.push(version.to_string());
    }
    let python = text_of(c, "python_version");
    let project = v.get("project").unwrap_or(&Value::Null);
    let python = python.or_else(|| text_of(project, "requires-python"));
    out.python = python.and_then(packages::minor_version);
    for (id, node) in table_of(c, "nodes").into_iter().flatten() {
        read_node(&mut out, id, node);
    }
    for (hash, model) in table_of(c, "models").into_iter().flatten() {
        read_model(&mut out, hash, model);
    }
    read_requirements(&mut out, v);
    out
}

fn read_node(out: &mut Adopted, id: &str, node: &Value) {
    let folder = text_of(node, "name").unwrap_or(id);
    let version = text_of(node, "version");
    let repository = text_of(node, "repository");
    let pinned = text_of(node, "pinned_commit");
    let source = text_of(node, "source").unwrap_or_default();
    if source == "registry" || (repository.is_none() && text_of(node, "registry_id").is_some()) {
        let id = text_of(node, "registry_id").unwrap_or(id);
        return out.add_pack(folder, id, version, true);
    }
    let Some(repository) = repository else {
        return out.lose(
            format!(
                "node {}: it is a folder in development, and its repository is not named",
                escape_text(folder)
            ),
            format!(
                "add it by hand: path = \"FOLDER\" in [nodes.{}]",
                escape_text(id)
            ),
        );
    };
    let branch = text_of(node, "branch");
    let pin = pinned.or(version.filter(|v| *v != "dev")).or(branch);
    let what = format!("node {}", escape_text(folder));
    match GitPin::parse(&what, repository, pin) {
        Ok(mut pin) => {
            pin.refs.extend(branch.map(str::to_string));
            if pin.commit.is_none() {
                out.lose_moving(&what, pin.git_ref.as_deref());
            }
            out.add_node(folder, AdoptedSource::Git(pin), true);
        }
        Err(loss) => out.losses.push(loss),
    }
}

fn read_model(out: &mut Adopted, hash: &str, model: &Value) {
    let Some(path) = text_of(model, "relative_path").or_else(|| text_of(model, "filename")) else {
        return out.lose(
            format!("model {}: it has no path", escape_text(hash)),
            "`comfy add model PATH` adds it",
        );
    };
    let sources = list_of(model, "sources").iter().filter_map(Value::as_str);
    let source = sources.into_iter().next();
    // The key is a hash of samples of the file: a hint, never a pin.
    out.add_model(path, source, None);
}

/// What the project asks for beside its nodes is no version that is installed.
fn read_requirements(out: &mut Adopted, v: &Value) {
    let project = v.get("project").unwrap_or(&Value::Null);
    let groups = table_of(v, "dependency-groups").into_iter().flatten();
    let lines = groups
        .flat_map(|(_, list)| list.as_array().map_or(&[][..], Vec::as_slice))
        .chain(list_of(project, "dependencies"));
    let mut open = 0;
    for line in lines.filter_map(Value::as_str) {
        if line.contains("==") && !line.contains('*') {
            out.add_freeze_line(line);
        } else {
            open += 1;
        }
    }
    if open > 0 {
        out.lose(
            format!(
                "{} without a version: uv.lock of the project, which comfy does not read, has the \
                 versions",
                crate::text::count_of(open, "Python requirement")
            ),
            "nothing, if what ComfyUI and the nodes ask for is enough; else name versions in [python] \
             requirements",
        );
    }
}
