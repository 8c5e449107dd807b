use super::GlobalArgs;
use super::apply::{ApplyJob, CarriedOut};
use super::approval::Approval;
use super::target;
use crate::apply::scope::LoadedScope;
use crate::apply::session::ApplyTask;
use crate::plan::select::ResourceSelection;
use crate::plan::{Plan, Step};
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::render;
use crate::text::count_of;

/// Remove generations that are not in use
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy gc                    keeps the live generation and the last \
        two\n  comfy gc --keep 0 --yes     keeps only the live generation"
)]
pub(crate) struct GcArgs {
    /// How many to keep besides the live one
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &GcArgs) -> Result<u8> {
    let opened = ComfyProject::open(global).and_then(|project| {
        super::announce_isolation(&project);
        Ok(LoadedScope::Desired(Box::new(super::desired_state(
            &project,
        )?)))
    });
    let scope = opened.or_else(|p| {
        let spec = target::applied_from_here(global, p)?;
        render::print_note(
            "Note: comfy.lock was not read, and may pin what has never been live: that stays.",
        );
        Ok::<_, Problem>(LoadedScope::Applied(Box::new(spec)))
    })?;
    let ask = Approval {
        yes: args.yes,
        verbose: global.verbose,
        quiet: false,
        from_file: false,
        what: "removal",
        once_approved: None,
    };
    let apply = ApplyJob {
        scope: scope.as_scope(),
        only: ResourceSelection::default(),
        job: ApplyTask::Gc(args.keep),
        offline: true,
        saved: None,
    };
    let CarriedOut { plan, .. } = apply.run(&ask)?;
    render::print_stdout(&if plan.is_empty() {
        "Nothing to remove.".to_string()
    } else {
        format!("Removed {}.", removed(&plan))
    });
    Ok(0)
}

/// What the steps of a removal take away, each kind counted on its own.
fn removed(plan: &Plan) -> String {
    let number = |of: fn(&Step) -> bool| plan.steps.iter().filter(|p| of(&p.step)).count();
    [
        (
            number(|s| matches!(s, Step::RemoveGeneration { .. })),
            "generation",
        ),
        (
            number(|s| matches!(s, Step::RemoveVenv { .. })),
            "virtual environment",
        ),
        (
            number(|s| matches!(s, Step::RemovePython { .. })),
            "Python interpreter",
        ),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| count_of(n, what))
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::plan::step::PlannedStep;

    #[test]
    fn each_kind_of_thing_is_counted_on_its_own() {
        let id = "0123456789abcdef";
        let steps = [
            Step::RemoveGeneration {
                id: id.parse().unwrap(),
            },
            Step::RemoveGeneration {
                id: id.parse().unwrap(),
            },
            Step::RemoveVenv {
                id: id.parse().unwrap(),
            },
            Step::RemovePython {
                version: "3.12.4".into(),
            },
        ];
        let plan = Plan {
            steps: steps
                .map(|step| PlannedStep {
                    address: crate::ids::Address::Generation,
                    step,
                })
                .into(),
            ..Plan::default()
        };
        assert_eq!(
            removed(&plan),
            "2 generations, 1 virtual environment, 1 Python interpreter"
        );
    }
}
