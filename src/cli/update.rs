use super::lock::{resolve_project, write_lock};
use super::rollback::{announce_commit, open_for_commit};
use super::{GlobalArgs, audit_pins, scan_pins};
use crate::lock::resolve::UpdatePolicy;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;
use crate::text::short_commit;

/// Update pins to the newest commit of their refs
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy update                updates everything\n  comfy update \
        impact-pack    updates one node\n  comfy update numpy          updates one Python \
        package\n  comfy update comfyui --dry-run\n  comfy update --commit       commits comfy.lock, with a summary as the message"
)]
pub(crate) struct UpdateArgs {
    /// A node, `comfyui`, `python` for all packages, a package, or a model's path [default:
    /// everything]
    #[arg(value_name = "NAME", add = super::completions::pin_names())]
    names: Vec<String>,
    /// Show what would change; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Commit comfy.lock, with what moved as the message
    #[arg(long, conflicts_with = "dry_run")]
    commit: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &UpdateArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let repository = match args.commit {
        true => Some(open_for_commit(&project)?),
        false => None,
    };
    let mut resolved = resolve_project(&project, &UpdatePolicy::Move(&args.names), false)?;
    let scan = scan_pins::scan_resolved(&project, &mut resolved, false)?;
    audit_pins::record_publishers(&project, &mut resolved, false)?;
    let advisories = audit_pins::audit_resolved(&project, &resolved, false)?;
    // Printed only once it is true.
    let wrote = !args.dry_run && write_lock(&project, &resolved)?;
    super::lock::warn_foreign_commits(&project, &resolved, false)?;
    super::lock::set_json_data(&resolved, &scan, &advisories, wrote);
    scan_pins::print_moved(&resolved.moved, &scan, true, args.dry_run);
    if resolved.moved.is_empty() {
        render::print_note(&match &args.names[..] {
            [] => "Everything is up to date.".to_string(),
            names => format!(
                "Nothing newer for {}.",
                crate::text::escape_text(&names.join(", "))
            ),
        });
    }
    match &repository {
        _ if !wrote => {}
        None => {
            render::print_note("Wrote comfy.lock. Review it with `comfy plan`, then commit it.")
        }
        Some(repository) => {
            let (subject, message) = resolved.moved.commit_message();
            let text = resolved.lock.render();
            let files = [(&repository.lock, text.as_bytes())];
            let id = repository.commit_files(&files, &message)?.to_string();
            announce_commit(repository, short_commit(&id), &subject);
        }
    }
    Ok(0)
}
