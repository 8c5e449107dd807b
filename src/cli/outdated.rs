use rayon::prelude::*;

use super::GlobalArgs;
use super::outdated_pins::{OutdatedPin, PinInspector};
use crate::problem::{EXIT_FINDINGS, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::text::{escape_text, short_commit};

/// List pins for which there is something newer, and what it would bring
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy outdated\n  comfy outdated --exit-code || comfy update")]
pub(crate) struct OutdatedArgs {
    /// Exit 2 if anything is outdated
    #[arg(long)]
    exit_code: bool,
}

/// A model whose source has something newer.
#[derive(serde::Serialize)]
struct OutdatedModel {
    path: String,
    source: String,
    from: String,
    to: String,
}

pub(crate) fn run(global: &GlobalArgs, args: &OutdatedArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let (lock, _) = project.locked()?;
    let git = project::git_store(&project, false)?;
    let inspector = PinInspector::new(&project, lock, &git);
    let pins: Vec<_> = lock.repository_pins().collect();
    let asked: Vec<_> = pins
        .par_iter()
        .map(|(address, pin)| inspector.look_at(address, pin))
        .collect();
    let (mut rows, mut models, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for answer in asked {
        match answer {
            Ok(row) => rows.extend(row),
            Err(p) => problems.push(p),
        }
    }
    for (path, newer) in super::lock::model_resolver(&project, git.net.clone(), false)?
        .newer_models(lock.models.iter().map(|(path, pin)| (&**path, &**pin)))?
    {
        match newer {
            Ok(Some(to)) => {
                let pin = lock.models.get(path);
                models.push(OutdatedModel {
                    path: path.to_string(),
                    source: pin.and_then(|p| p.source.clone()).unwrap_or_default(),
                    from: pin.map_or(String::new(), |p| p.sha256.to_string()),
                    to,
                });
            }
            Ok(None) => {}
            Err(p) => problems.push(p.with_prefix(&format!("model.{}: ", escape_text(path)))),
        }
    }
    render::json_output::set_data(&serde_json::json!({ "pins": rows, "models": models }));
    print_rows(&rows, &models);
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    let is_finding = |row: &OutdatedPin| row.to.is_some() || row.is_withdrawn();
    let found = !models.is_empty() || rows.iter().any(is_finding);
    if !found {
        render::print_note("Everything is up to date.");
    }
    Ok(if args.exit_code && found {
        EXIT_FINDINGS
    } else {
        0
    })
}

fn print_rows(rows: &[OutdatedPin], models: &[OutdatedModel]) {
    let newer = || rows.iter().filter_map(|r| Some((r, r.to.as_deref()?)));
    let names = newer().map(|(r, _)| r.name.len());
    let names = names.chain(models.iter().map(|m| escape_text(&m.path).len()));
    let width = names.max().unwrap_or(0);
    let print = |name: &str, from: &str, to: &str, asked: &str| {
        render::print_stdout(&format!(
            "{name:width$}  {} -> {}  ({})",
            short_commit(from),
            short_commit(to),
            escape_text(asked)
        ));
    };
    for (row, to) in newer() {
        print(&row.name, &row.from, to, &row.git_ref);
        for line in row.details() {
            render::print_stdout(&format!("    {line}"));
        }
    }
    for m in models {
        print(&escape_text(&m.path), &m.from, &m.to, &m.source);
    }
    for warning in rows.iter().flat_map(OutdatedPin::warnings) {
        render::print_warning(&warning);
    }
}
