use rayon::prelude::*;

use super::Global;
use crate::lock::resolve::Repositories;
use crate::problem::{EXIT_FINDINGS, Problem, Result};
use crate::project::{self, Project};
use crate::render;
use crate::text::short;

/// List pins that have something newer
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy outdated\n  comfy outdated --exit-code || comfy update")]
pub struct Args {
    /// Exit 2 if anything is outdated
    #[arg(long)]
    exit_code: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    let Some((lock, _)) = &project.lock else {
        return Err(Problem::new("there is no comfy.lock").hint("run `comfy lock`"));
    };
    let git = project::git(&project, false)?;
    let pins: Vec<_> = lock.pins().collect();
    let asked: Vec<_> = pins
        .par_iter()
        .map(|(address, pin)| (address, pin, git.resolve(&pin.repo, &pin.git_ref)))
        .collect();
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (address, pin, newest) in asked {
        match newest {
            Ok(n) if n != pin.commit => rows.push((
                address.trim_start_matches("node.").to_string(),
                pin.git_ref.clone(),
                pin.commit.to_string(),
                n.to_string(),
            )),
            Ok(_) => {}
            Err(p) => problems.push(p),
        }
    }
    for (path, newer) in super::lock::disk(&project, git.net.clone(), false)?
        .newer(lock.models.iter().map(|(path, pin)| (&**path, &**pin)))?
    {
        match newer {
            Ok(Some(n)) => {
                let pin = lock.models.get(path);
                let source = pin.and_then(|p| p.source.clone()).unwrap_or_default();
                rows.push((
                    crate::text::escape(path),
                    source,
                    pin.map_or(String::new(), |p| p.sha256.to_string()),
                    n,
                ));
            }
            Ok(None) => {}
            Err(p) => problems.push(p.prefixed(&format!("model.{}: ", crate::text::escape(path)))),
        }
    }
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    for (name, git_ref, old, new) in &rows {
        render::stdout(&format!(
            "{name:width$}  {} -> {}  ({})",
            short(old),
            short(new),
            crate::text::escape(git_ref)
        ));
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    if rows.is_empty() {
        render::note("Every pin is where its ref is.");
    }
    Ok(if args.exit_code && !rows.is_empty() {
        EXIT_FINDINGS
    } else {
        0
    })
}
