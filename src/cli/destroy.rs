use super::GlobalArgs;
use super::apply::{ApplyJob, CarriedOut};
use super::approval::Approval;
use crate::apply::session::ApplyTask;
use crate::plan::Step;
use crate::plan::select::ResourceSelection;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;

/// Remove what comfy made on this machine
///
/// Adopted accounts, models, inputs, outputs and workflows stay; shares keep their content and lose
/// only the modes and the group that comfy set. The sandbox user's state moves to a backup folder
/// next to the instance, unless you give --purge.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy destroy\n  comfy destroy --purge --yes")]
pub(crate) struct DestroyArgs {
    /// Keep no backup of the sandbox user's state and of the quarantine
    #[arg(long)]
    purge: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &DestroyArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    let ask = Approval {
        yes: args.yes,
        verbose: global.verbose,
        quiet: false,
        from_file: false,
        what: "removal",
        once_approved: None,
    };
    let job = ApplyTask::Destroy {
        purge: args.purge,
        at: chrono::Utc::now(),
    };
    let apply = ApplyJob {
        scope: (&desired).into(),
        only: ResourceSelection::default(),
        job,
        offline: true,
        saved: None,
    };
    let CarriedOut { outcome, plan, .. } = apply.run(&ask)?;
    render::print_stdout(&if plan.is_empty() {
        "Nothing to remove: comfy made nothing here.".to_string()
    } else {
        render::plan_text::outcome_line(&outcome, "Destroy")
    });
    let backup = plan.steps.iter().find_map(|p| match &p.step {
        Step::RemoveInstance { backup, .. } => backup.as_deref(),
        _ => None,
    });
    if let Some(backup) = backup.filter(|b| b.exists()) {
        render::print_stdout(&format!(
            "What the sandbox user kept and the quarantine are in {}.",
            backup.display()
        ));
    }
    Ok(0)
}
