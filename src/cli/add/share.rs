//! `comfy add share`.

use crate::cli::GlobalArgs;
use crate::manifest::edit::{SectionLines, add_sections};
use crate::problem::Result;
use crate::project;
use crate::render;
use crate::text::escape_text;

#[derive(clap::Args)]
pub(super) struct ShareArgs {
    /// The share's name
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder on this machine
    #[arg(value_name = "PATH")]
    path: String,
    /// The folder of ComfyUI's that it replaces: models, models/loras, input, output or user/…
    /// [default: the share's name]
    #[arg(long, value_name = "FOLDER")]
    mount: Option<String>,
    /// What the sandbox user may do there
    #[arg(long, value_name = "ACCESS", value_parser = ["read", "write", "add"], default_value = "read")]
    access: String,
    /// Check its modes and groups, and never change them
    #[arg(long)]
    unmanaged: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &ShareArgs) -> Result<u8> {
    let home = super::owner_home(global)?;
    let path = super::manifest_path(&args.path, home.as_deref())?;
    let mount = args.mount.as_ref().unwrap_or(&args.name);
    let mut lines: SectionLines = vec![
        ("path", path.into()),
        ("mount", mount.as_str().into()),
        ("access", args.access.as_str().into()),
    ];
    if args.unmanaged {
        lines.push(("manage", false.into()));
    }
    project::edit_manifest(global, |text| {
        add_sections(text, "shares", [(args.name.as_str(), lines.clone())])
    })?;
    render::print_stdout(&format!(
        "Added share {} to comfy.toml.",
        escape_text(&args.name)
    ));
    render::print_note("`comfy plan` shows what would change on this machine.");
    Ok(0)
}
