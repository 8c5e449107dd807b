use rayon::prelude::*;

use super::GlobalArgs;
use crate::lock::resolve::RepositoryResolver;
use crate::problem::{EXIT_FINDINGS, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::text::short_commit;

/// List pins for which there is something newer
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy outdated\n  comfy outdated --exit-code || comfy update")]
pub(crate) struct OutdatedArgs {
    /// Exit 2 if anything is outdated
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &OutdatedArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let (lock, _) = project.locked()?;
    let git = project::git_store(&project, false)?;
    let pins: Vec<_> = lock.repository_pins().collect();
    let asked: Vec<_> = pins
        .par_iter()
        .map(|(address, pin)| (address, pin, git.resolve_ref(&pin.repo, &pin.git_ref)))
        .collect();
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (address, pin, newest) in asked {
        match newest {
            Ok(n) if n.commit != pin.commit => rows.push((
                address.trim_start_matches("node.").to_string(),
                pin.git_ref.clone(),
                pin.short_name(),
                n.archive.map_or(n.commit.to_string(), |a| a.version),
            )),
            Ok(_) => {}
            Err(p) => problems.push(p),
        }
    }
    for (path, newer) in super::lock::model_resolver(&project, git.net.clone(), false)?
        .newer_models(lock.models.iter().map(|(path, pin)| (&**path, &**pin)))?
    {
        match newer {
            Ok(Some(n)) => {
                let pin = lock.models.get(path);
                let source = pin.and_then(|p| p.source.clone()).unwrap_or_default();
                rows.push((
                    crate::text::escape_text(path),
                    source,
                    pin.map_or(String::new(), |p| p.sha256.to_string()),
                    n,
                ));
            }
            Ok(None) => {}
            Err(p) => {
                problems.push(p.with_prefix(&format!("model.{}: ", crate::text::escape_text(path))))
            }
        }
    }
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    for (name, git_ref, old, new) in &rows {
        render::print_stdout(&format!(
            "{name:width$}  {} -> {}  ({})",
            short_commit(old),
            short_commit(new),
            crate::text::escape_text(git_ref)
        ));
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    if rows.is_empty() {
        render::print_note("Everything is up to date.");
    }
    Ok(if args.exit_code && !rows.is_empty() {
        EXIT_FINDINGS
    } else {
        0
    })
}
