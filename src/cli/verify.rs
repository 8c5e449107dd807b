use super::Global;
use crate::host::machine::Machine;
use crate::host::models;
use crate::host::sealed::stat_cache::wait_for_grain;
use crate::plan::build;
use crate::plan::select::Selection;
use crate::problem::{EXIT_FINDINGS, Result};
use crate::project::Project;
use crate::render::bars::Bars;
use crate::render::plan_text::Detail;
use crate::render::{self, verify_text};

/// Compare code, virtual environment and models with comfy.lock, file by file; changes nothing
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy verify                reads what changed since it was last \
        known to be whole\n  comfy verify --full         reads every byte, whatever was \
        known\n\nExit code 2 if anything is not as comfy.lock pins it."
)]
pub struct Args {
    /// Believe nothing that an earlier run has read
    #[arg(long)]
    full: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let machine = if args.full {
        Machine::without_memory(&desired.paths, &desired.sandbox)
    } else {
        Machine::new(&desired.paths, &desired.sandbox)
    };
    let all =
        Selection::parse(&["comfyui", "nodes", "python", "models", "shares"].map(String::from))?;
    let mut plan = build::plan(&desired, &machine, &all)?;
    // A look at the files told that their bytes are not known: they are read, and then compared.
    if plan.library.unverified > 0 {
        // A file written this moment could change once more and look the same.
        wait_for_grain();
        models::verify::read(&desired, &machine, &plan.ids, &Bars::default())?;
        plan = build::plan(&desired, &machine, &all)?;
    }
    let verdicts = verify_text::of(&plan);
    for c in plan.unknown().filter(|c| c.address.starts_with("share.")) {
        render::warning(&format!(
            "{}: {}",
            c.address,
            c.reason.as_deref().unwrap_or("could not be read")
        ));
    }
    plan.warnings
        .iter()
        .filter(|w| w.starts_with("model."))
        .for_each(|w| render::warning(w));
    render::stdout(
        verify_text::text(
            &verdicts,
            &Detail {
                verbose: global.verbose,
                diff: &|a, p| super::plan::diff(&desired, a, p),
            },
        )
        .trim_end(),
    );
    // A model that differs has a line of its own, and is a part of the library's.
    let (all, good) = verdicts
        .iter()
        .filter(|v| !v.address.starts_with("model."))
        .fold((0, 0), |(all, good), v| {
            (all + 1, good + usize::from(v.good))
        });
    render::note(&format!(
        "{good} of {} as comfy.lock pins them.",
        crate::text::count(all, "part")
    ));
    // The process ends: to free a library of models piece by piece takes longer than to look at it.
    std::mem::forget((plan, desired, project));
    Ok(if good == all { 0 } else { EXIT_FINDINGS })
}
