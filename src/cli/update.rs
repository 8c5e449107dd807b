use super::GlobalArgs;
use super::lock::{change_lines, resolve_project, write_lock};
use crate::lock::resolve::UpdatePolicy;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;

/// Update pins to the newest commit of their refs
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy update                updates everything\n  comfy update \
        impact-pack    updates one node\n  comfy update numpy          updates one Python \
        package\n  comfy update comfyui --dry-run"
)]
pub(crate) struct UpdateArgs {
    /// A node, `comfyui`, `python` for all packages, a package, or a model's path [default:
    /// everything]
    #[arg(value_name = "NAME", add = super::completions::pin_names())]
    names: Vec<String>,
    /// Show what would change; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &UpdateArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let resolved = resolve_project(&project, &UpdatePolicy::Move(&args.names), false)?;
    // Printed only once it is true.
    let wrote = !args.dry_run && write_lock(&project, &resolved)?;
    for text in change_lines(&resolved) {
        render::print_stdout(&if args.dry_run {
            text.replacen("Updated", "Would update", 1)
                .replacen("Added", "Would add", 1)
                .replacen("Removed", "Would remove", 1)
        } else {
            text
        });
    }
    if resolved.moved.is_empty() && resolved.packages.is_empty() && resolved.models.is_empty() {
        render::print_note(&match &args.names[..] {
            [] => "Everything is up to date.".to_string(),
            names => format!(
                "Nothing newer for {}.",
                crate::text::escape_text(&names.join(", "))
            ),
        });
    }
    if wrote {
        render::print_note("Wrote comfy.lock. Review it with `comfy plan`, then commit it.");
    }
    Ok(0)
}
