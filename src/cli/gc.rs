use super::Global;
use super::apply::{Ask, Carried, Carry};
use crate::apply::session::Job;
use crate::plan::select::Selection;
use crate::problem::Result;
use crate::project::Project;
use crate::render;
use crate::text::count;

/// Remove generations that are not in use
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy gc                    keeps the live one and the last two\n  \
        comfy gc --keep 0 --yes     keeps the live one alone"
)]
pub struct Args {
    /// How many to keep beside the live one
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let ask = Ask {
        yes: args.yes,
        verbose: global.verbose,
        quiet: false,
        what: "removal",
    };
    let carry = Carry {
        project: &project,
        desired: &desired,
        only: Selection::default(),
        job: Job::Gc(args.keep),
        offline: true,
        saved: None,
    };
    let Carried { outcome, plan, .. } = carry.run(&ask)?;
    render::stdout(&if plan.is_empty() {
        "Nothing to remove.".to_string()
    } else {
        format!("Removed {}.", count(outcome.destroyed, "generation"))
    });
    Ok(0)
}
