use super::GlobalArgs;
use super::apply::{Ask, Carried, Carry};
use crate::apply::session::ApplyTask;
use crate::plan::select::ResourceSelection;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;
use crate::text::count_of;

/// Remove generations that are not in use
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy gc                    keeps the live one and the last two\n  \
        comfy gc --keep 0 --yes     keeps the live one alone"
)]
pub struct GcArgs {
    /// How many to keep beside the live one
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(global: &GlobalArgs, args: &GcArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    project.announce_isolation();
    let desired = project.desired_state()?;
    let ask = Ask {
        yes: args.yes,
        verbose: global.verbose,
        quiet: false,
        what: "removal",
    };
    let carry = Carry {
        project: &project,
        desired: &desired,
        only: ResourceSelection::default(),
        job: ApplyTask::Gc(args.keep),
        offline: true,
        saved: None,
    };
    let Carried { outcome, plan, .. } = carry.run(&ask)?;
    render::print_stdout(&if plan.is_empty() {
        "Nothing to remove.".to_string()
    } else {
        format!("Removed {}.", count_of(outcome.destroyed, "generation"))
    });
    Ok(0)
}
