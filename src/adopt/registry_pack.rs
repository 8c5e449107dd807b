//! A node that was unpacked from the registry: `.tracking` beside pyproject.toml.

use crate::manifest::{names, node_source};

/// The file that names what was unpacked, one path a line.
pub(crate) const TRACKING: &str = ".tracking";

/// The id and the version of a pack, as its pyproject.toml says; ids count without their case.
pub(crate) fn read_identity(pyproject: &str) -> Option<(String, Option<String>)> {
    let table: toml::Table = pyproject.parse().ok()?;
    let project = table.get("project")?;
    let text = |key: &str| Some(project.get(key)?.as_str()?.trim().to_string());
    let id = text("name")?.to_ascii_lowercase();
    node_source::check_registry_id(&id).ok()?;
    Some((id, text("version").filter(|v| !v.is_empty())))
}

/// The paths of `.tracking` that are inside the pack.
pub(crate) fn read_tracking(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|l| names::check_relative(l).is_ok()).collect()
}
