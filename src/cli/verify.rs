use super::GlobalArgs;
use crate::host::machine::HostMachine;
use crate::host::models;
use crate::ids::Address;
use crate::kinds;
use crate::plan::select::ResourceSelection;
use crate::problem::{EXIT_FINDINGS, Result};
use crate::project::ComfyProject;
use crate::render::bars::TerminalProgress;
use crate::render::plan_text::PlanDetail;
use crate::render::{self, verify_text};

/// Compare code, the virtual environment and models with comfy.lock, file by file; changes nothing
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy verify                reads what changed since the last \
        verification\n  comfy verify --full         reads every byte\n\nExits with 2 if anything \
        differs from comfy.lock."
)]
pub(crate) struct VerifyArgs {
    /// Read everything again, whatever an earlier run verified
    #[arg(long)]
    full: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &VerifyArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    let machine = if args.full {
        HostMachine::without_memory(&desired.paths, &desired.sandbox)
    } else {
        HostMachine::new(&desired.paths, &desired.sandbox)
    };
    let all = ResourceSelection::parse(
        &["comfyui", "nodes", "python", "models", "shares"].map(String::from),
    )?;
    let mut plan = kinds::plan(&desired, &machine, &all)?;
    // The files' bytes are not known, so they are read and then compared.
    if plan.library.unverified > 0 {
        models::verify::read_models(
            &desired,
            &machine,
            &plan.ids,
            &TerminalProgress::default(),
            true,
        )?;
        plan = kinds::plan(&desired, &machine, &all)?;
    }
    let verdicts = verify_text::verdicts_of(&plan);
    for c in plan
        .unknown_changes()
        .filter(|c| matches!(c.address, Address::Share(_)))
    {
        render::print_warning(&format!(
            "{}: {}",
            c.address,
            c.reason.as_deref().unwrap_or("could not be read")
        ));
    }
    plan.warnings
        .iter()
        .filter(|w| w.starts_with("model."))
        .for_each(|w| render::print_warning(w));
    render::print_stdout(
        verify_text::verdicts_text(
            &verdicts,
            &PlanDetail {
                verbose: global.verbose,
                commits: &std::collections::BTreeMap::new(),
                capabilities: &|_| Vec::new(),
                diff: &|a, p| {
                    Some(super::plan::file_texts(&desired, a, p)?.unified_diff_to_machine())
                },
            },
        )
        .trim_end(),
    );
    // A model that differs has its own line, and is also counted in the library's line.
    let (all, good) = verdicts
        .iter()
        .filter(|v| !v.address.is_model())
        .fold((0, 0), |(all, good), v| {
            (all + 1, good + usize::from(v.good))
        });
    render::print_stdout(&format!(
        "{good} of {} match comfy.lock.",
        crate::text::count_of(all, "part")
    ));
    // The process exits now: freeing a large library of models takes longer than reading it.
    std::mem::forget((plan, desired, project));
    Ok(if good == all { 0 } else { EXIT_FINDINGS })
}
