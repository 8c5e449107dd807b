use std::path::PathBuf;

use super::GlobalArgs;
use super::approval::Approval;
use super::bisect_files::UnfinishedBisect;
use super::import_check::{self, ImportCheck};
use super::plan::{SavedPlan, print_plan};
use crate::apply::journal::ApplyCaller;
use crate::apply::owner_side::{self, ElevatedApply};
use crate::apply::protocol::ApplyRequest;
use crate::apply::root_side;
use crate::apply::scope::ApplyScope;
use crate::apply::session::{self, ApplySession, ApplyTask};
use crate::desired::Desired;
use crate::host::machine::HostMachine;
use crate::host::models;
use crate::host::{elevate, env};
use crate::plan::Plan;
use crate::plan::change::ApplyOutcome;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, Problem, Result};
use crate::project::ComfyProject;
use crate::records::import_results::{ImportHealth, ImportResults};
use crate::records::running;
use crate::render;
use crate::render::bars::TerminalProgress;

/// Change this machine to match comfy.toml and comfy.lock
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy apply                 shows the plan, asks, applies it (sudo \
        asks for your password)\n  comfy apply --yes           without asking\n  comfy apply \
        --only shares   repairs groups and modes\n  comfy apply \
        --rollback-on-failure\n                              goes back to the previous generation \
        if a node that loaded before fails now\n  comfy apply today.plan      applies exactly the \
        saved plan, or nothing"
)]
pub(crate) struct ApplyArgs {
    /// A plan saved by `comfy plan --out`; applied without asking again
    #[arg(value_name = "PLANFILE")]
    plan: Option<PathBuf>,
    /// Do not ask; with -q, do not show the plan either
    #[arg(short, long)]
    yes: bool,
    /// Apply only this family (user, comfyui, nodes, python, models, shares, network) or address,
    /// and what it needs; may be repeated
    #[arg(long, value_name = "SEL", add = super::completions::selections(), conflicts_with = "plan")]
    only: Vec<String>,
    /// Fetch nothing: use only what is in the store
    #[arg(long)]
    offline: bool,
    /// Make the previous generation live again if something that loaded before fails to load now
    #[arg(long)]
    rollback_on_failure: bool,
    /// Do not load everything once after the apply
    #[arg(long, conflicts_with = "rollback_on_failure")]
    no_check: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &ApplyArgs) -> Result<u8> {
    let saved = args.plan.as_ref().map(read_saved).transpose()?;
    let project = match &saved {
        Some(s) => ComfyProject::for_host(&s.dir, &s.plan.host)?,
        None => ComfyProject::open(global)?,
    };
    let only = ResourceSelection::parse(saved.as_ref().map_or(&args.only, |s| &s.plan.only))?;
    super::announce_isolation(&project);
    let ask = Approval {
        yes: args.yes || saved.is_some(),
        verbose: global.verbose,
        quiet: global.json || (global.quiet && args.yes),
        from_file: saved.is_some(),
        what: "apply",
        once_approved: None,
    };
    let desired = super::desired_state(&project)?;
    let bisect = UnfinishedBisect::find(&desired.paths, &desired.sandbox);
    if let Some(bisect) = &bisect {
        render::print_note("A bisect was interrupted; this apply goes back to comfy.lock.");
        bisect.set_aside();
    }
    let apply = ApplyJob {
        scope: (&desired).into(),
        only,
        job: ApplyTask::Apply,
        offline: args.offline,
        saved: saved.map(|s| s.plan),
    };
    let done = apply.run(&ask)?;
    if let Some(bisect) = bisect {
        super::bisect_try::remove_tried(&bisect, &desired)?;
        bisect.end();
    }
    let finish = ApplyFinish {
        verbose: global.verbose,
        check: !args.no_check,
        back: args.rollback_on_failure,
        ask: !args.yes && !global.json && import_check::is_interactive(),
    };
    if !global.json {
        return finish_apply(&project, &desired, done, &finish).map(|()| 0);
    }
    let CarriedOut {
        outcome,
        plan,
        elevated,
    } = done;
    let health = finish.load_all(&project, &desired, &plan, elevated);
    render::json_output::set_data(&serde_json::json!({
        "outcome": outcome,
        "health": health.as_ref().ok(),
        "plan": render::plan_json::plan_value(&plan, &super::plan::commits_of(&plan, &desired)),
    }));
    health.map(|_| 0)
}

/// What follows the steps of an apply.
pub(crate) struct ApplyFinish {
    pub verbose: bool,
    /// Load everything once.
    pub check: bool,
    /// Go back to the previous generation if more fails than before.
    pub back: bool,
    /// A user is there who can be asked.
    pub ask: bool,
}

impl ApplyFinish {
    fn load_all(
        &self,
        project: &ComfyProject,
        desired: &Desired,
        plan: &Plan,
        elevated: Option<ElevatedApply>,
    ) -> Result<Option<ImportHealth>> {
        if !self.check {
            ImportResults::clear_pending(&desired.paths);
            return Ok(None);
        }
        let check = ImportCheck {
            project,
            desired,
            back: self.back,
            ask: self.ask,
        };
        check.run_check(plan, elevated)
    }
}

/// Tells people what an apply did, and loads everything once.
///
/// # Errors
/// As [`ImportCheck::run_check`].
pub(crate) fn finish_apply(
    project: &ComfyProject,
    desired: &Desired,
    done: CarriedOut,
    finish: &ApplyFinish,
) -> Result<()> {
    let CarriedOut {
        outcome,
        plan,
        elevated,
    } = done;
    if plan.is_empty() {
        print_plan(&plan, Some(desired), finish.verbose);
    } else {
        render::print_stdout(&render::plan_text::outcome_line(&outcome, "Apply"));
        outcome
            .notes
            .iter()
            .for_each(|n| render::print_note(&format!("Note: {n}")));
    }
    finish.load_all(project, desired, &plan, elevated)?;
    if !plan.is_empty() {
        print_next_step(&plan, desired);
    }
    Ok(())
}

/// Says what to do after an apply: restart what runs, or start ComfyUI for the first time.
fn print_next_step(plan: &Plan, desired: &Desired) {
    let live = running::read_running(&desired.paths);
    if live.is_some_and(|l| super::status::restart_due(&desired.paths, &l)) {
        render::print_note(
            "ComfyUI still runs what was applied before; to run this, use: comfy restart",
        );
    } else if plan.creates_comfyui() {
        render::print_note("To start ComfyUI, run: comfy run");
    }
}

fn read_saved(file: &PathBuf) -> Result<SavedPlan> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let saved: SavedPlan = serde_json::from_str(&text).map_err(|e| {
        Problem::new(format!(
            "{}: not a plan saved by comfy: {e}",
            file.display()
        ))
        .caused_by(&e)
        .with_hint("save one with `comfy plan --out FILE`")
    })?;
    if saved.comfy_plan != 1 || saved.plan.format_version != crate::plan::change::FORMAT_VERSION {
        return Err(Problem::new(format!(
            "{}: saved by another version of comfy",
            file.display()
        ))
        .with_hint("save it again with `comfy plan --out FILE`"));
    }
    Ok(saved)
}

/// A plan to carry out, on the side that has the rights for it.
pub(crate) struct ApplyJob<'a> {
    pub scope: ApplyScope<'a>,
    pub only: ResourceSelection,
    pub job: ApplyTask,
    pub offline: bool,
    pub saved: Option<Plan>,
}

/// The result of carrying out a plan.
pub(crate) struct CarriedOut {
    pub outcome: ApplyOutcome,
    pub plan: Plan,
    /// The root side, if there is one, for later requests.
    pub elevated: Option<ElevatedApply>,
}

impl ApplyJob<'_> {
    /// Returns the plan as the caller sees the machine.
    fn own_plan(&self, report: &TerminalProgress) -> Result<Plan> {
        let (paths, isolated) = (self.scope.paths(), self.scope.is_isolated());
        let machine = HostMachine::new(paths, self.scope.sandbox());
        let records = isolated && nix::unistd::geteuid().is_root();
        let make = || session::plan_task(self.scope, &machine, &self.only, &self.job);
        let mut plan = make()?;
        // Nobody is told that a model is as locked while its bytes are unknown. Where root has something
        // to do, it reads them itself.
        let here = plan.is_empty() || !isolated;
        if self.job == ApplyTask::Apply
            && plan.library.unverified > 0
            && here
            && let Some(desired) = self.scope.desired()
        {
            // Before the plan is approved, root writes nothing.
            let keep = !records;
            models::verify::read_models(desired, &machine, &plan.ids, report, keep)?;
            plan = make()?;
        }
        if self
            .saved
            .as_ref()
            .is_some_and(|saved| saved.plan_digest() != plan.plan_digest())
        {
            return Err(root_side::stale_plan(true));
        }
        // Files that were read again because something touched them without changing them need not be
        // read next time.
        if plan.is_empty() && (records || !isolated) {
            let owner = records.then_some((plan.ids.seal, plan.ids.records_gid));
            machine.write_caches(paths, owner)?;
        }
        Ok(plan)
    }

    pub(crate) fn run(self, ask: &Approval) -> Result<CarriedOut> {
        // Root need not plan twice: the root side's plan is the one to approve.
        // Models are checked here, so that the root side reads again what seems to have changed.
        let models = self.scope.desired().is_some_and(|d| !d.models.is_empty());
        let isolated = self.scope.is_isolated();
        let root = isolated && nix::unistd::geteuid().is_root() && self.saved.is_none() && !models;
        let report = TerminalProgress::default();
        let own = if root {
            None
        } else {
            Some(self.own_plan(&report)?)
        };
        // What only root can read, the root side reads too.
        let root_first = own.as_ref().is_none_or(|p| {
            isolated
                && (p.assumed || p.root_could_see_more() || p.library.unverified > 0)
                && self.saved.is_none()
        });
        if let Some(plan) = own.as_ref() {
            if plan.is_empty() {
                return Ok(CarriedOut {
                    outcome: ApplyOutcome::default(),
                    plan: plan.clone(),
                    elevated: None,
                });
            }
            if isolated {
                elevate::ensure_possible()?;
            }
            if !root_first {
                ask.approve(plan, self.scope)?;
            }
        }
        let suspects = own
            .as_ref()
            .map(|p| p.library.mismatched.clone())
            .unwrap_or_default();
        if !isolated {
            let plan = own.ok_or_else(|| Problem::new("no plan was made"))?;
            let digest = plan.plan_digest();
            let session = ApplySession {
                scope: self.scope,
                only: self.only,
                job: self.job,
                net: env::net_env()?,
                hubs: env::model_hubs()?,
                suspects,
                offline: self.offline,
                caller: ApplyCaller::current_caller(),
                jobs: None,
                report: &report,
            };
            let outcome = session.run_session(&mut |again: &Plan| {
                if again.plan_digest() == digest {
                    Ok(())
                } else {
                    Err(root_side::stale_plan(self.saved.is_some()))
                }
            })?;
            return Ok(CarriedOut {
                outcome,
                plan,
                elevated: None,
            });
        }
        let request = ApplyRequest {
            scope: self.scope.as_request(),
            only: self.only.words().to_vec(),
            job: self.job,
            offline: self.offline,
            net: env::net_env()?,
            hubs: env::model_hubs()?,
            suspects,
            approved: own.as_ref().filter(|_| !root_first).map(Plan::plan_digest),
            saved: self.saved.is_some(),
        };
        // What the caller has compared, root's records may not know yet.
        let unverified = own.as_ref().map(|p| p.library.unverified);
        let mut approved = own.unwrap_or_default();
        let (outcome, elevated) =
            owner_side::run_elevated(&request, &report, &mut |theirs: &Plan| {
                approved = theirs.clone();
                let known = &mut approved.library.unverified;
                *known = unverified.map_or(*known, |own| own.min(*known));
                if theirs.is_empty() {
                    Ok(())
                } else {
                    ask.approve(&approved, self.scope)
                }
            })?;
        Ok(CarriedOut {
            outcome,
            plan: approved,
            elevated: Some(elevated),
        })
    }
}
