use super::GlobalArgs;
use super::list::write_table;
use super::target;
use crate::problem::Result;
use crate::project::{ComfyProject, MANIFEST};
use crate::render;
use crate::text::escape_text;

/// One instance of the caller's on this machine.
#[derive(serde::Serialize)]
struct InstanceRow {
    /// The sandbox user, who names it.
    instance: String,
    isolated: bool,
    folder: std::path::PathBuf,
    /// The folder of the comfy.toml that was applied last.
    manifest: Option<std::path::PathBuf>,
    generation: Option<String>,
    /// The address of a running ComfyUI.
    running: Option<String>,
}

/// Lists what was applied here for the caller.
pub(crate) fn list_instances(global: &GlobalArgs) -> Result<u8> {
    let mut found = target::applied_instances();
    // One with a prefix of its own is known by its comfy.toml alone.
    let own = ComfyProject::open(global).and_then(|p| target::applied_at(&p.instance_paths()?));
    found.extend(
        own.ok()
            .filter(|own| found.iter().all(|f| f.paths.base != own.paths.base)),
    );
    let rows: Vec<InstanceRow> = found
        .into_iter()
        .map(|spec| InstanceRow {
            manifest: target::manifest_folder_of(&spec),
            generation: crate::records::running::current_generation(&spec.paths)
                .map(|id| id.to_string()),
            running: crate::records::running::read_running(&spec.paths).map(|r| r.address),
            isolated: spec.account,
            folder: spec.paths.base,
            instance: spec.user,
        })
        .collect();
    render::json_output::set_data(&serde_json::json!({ "instances": rows }));
    if rows.is_empty() {
        render::print_note("Nothing of yours was applied on this machine.");
    }
    let table = rows.iter().map(|r| {
        let manifest = r.manifest.as_deref().map(|m| m.join(MANIFEST));
        [
            escape_text(&r.instance),
            r.generation.clone().unwrap_or_default(),
            r.running
                .as_deref()
                .map_or("not running".into(), escape_text),
            escape_text(&r.folder.display().to_string()),
            manifest.map_or(String::new(), |m| {
                format!("from {}", escape_text(&m.display().to_string()))
            }),
        ]
    });
    let mut out = String::new();
    write_table(&mut out, "Instances", table.collect());
    render::print_stdout(out.trim_end());
    Ok(0)
}
