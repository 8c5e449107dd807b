//! One apply, on the side that has the rights: plan, approval, steps, check, records.

mod folders;
mod task;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::journal::{ApplyCaller, ApplyJournal};
use super::lock_file;
use super::scope::ApplyScope;
use crate::desired::Desired;
use crate::host::build::process::JobLimits;
use crate::host::executor::Executor;
use crate::host::machine::HostMachine;
use crate::host::models::{ModelHubs, apply_steps, verify};
use crate::host::net::NetEnv;
use crate::host::sandbox_state;
use crate::host::sealed::stat_cache::wait_for_grain;
use crate::plan::change::ApplyOutcome;
use crate::plan::execute::{self, StepObserver};
use crate::plan::inventory::Inventory;
use crate::plan::removal::{SealedTrees, Unwanted};
use crate::plan::select::ResourceSelection;
use crate::plan::step::PlannedStep;
use crate::plan::{Action, Plan, Step};
use crate::problem::{Problem, Result};
use crate::progress::Reporter;
use crate::records::applied_locks::AppliedDetail;
use crate::records::import_results::ImportResults;
use folders::{missing_folders, sweep_leftovers};
pub(crate) use task::ApplyTask;

pub(crate) struct ApplySession<'a> {
    pub scope: ApplyScope<'a>,
    pub only: ResourceSelection,
    pub job: ApplyTask,
    pub net: NetEnv,
    pub hubs: ModelHubs,
    pub suspects: Vec<PathBuf>,
    pub offline: bool,
    pub caller: ApplyCaller,
    pub jobs: Option<JobLimits>,
    pub report: &'a dyn Reporter,
}

/// Returns the plan of a task for the machine as it is.
pub(crate) fn plan_task(
    scope: ApplyScope,
    machine: &HostMachine,
    only: &ResourceSelection,
    job: &ApplyTask,
) -> Result<Plan> {
    match job {
        ApplyTask::Apply | ApplyTask::Try => {
            crate::kinds::plan(scope.need_desired()?, machine, only)
        }
        ApplyTask::Back { to } => {
            crate::plan::removal::rollback(scope.need_desired()?, machine, to)
        }
        ApplyTask::Gc(keep) => plan_removal(scope, machine, &Unwanted::AllButLast(*keep)),
        ApplyTask::RemoveTried { generations } => {
            plan_removal(scope, machine, &Unwanted::These(generations))
        }
        ApplyTask::Destroy { purge, at } => {
            if let Some(live) = crate::records::running::read_running(scope.paths()) {
                // It would keep running without its files, and nobody could stop it any more.
                return Err(
                    Problem::new(format!("ComfyUI is running (process {})", live.pid))
                        .with_hint("stop it with `comfy stop`; nothing was changed"),
                );
            }
            let now = at.format("%Y%m%dT%H%M%S%3f").to_string();
            crate::kinds::destroy(scope.need_desired()?, machine, *purge, &now)
        }
    }
}

fn plan_removal(scope: ApplyScope, machine: &HostMachine, unwanted: &Unwanted) -> Result<Plan> {
    let paths = scope.paths();
    let running = crate::records::running::read_running(paths).map(|l| l.generation);
    let instance = SealedTrees {
        paths,
        present: &crate::host::on_disk(paths),
        running: running.as_deref(),
        keep_unused: scope.desired().is_none(),
    };
    instance.plan_gc(scope.empty_plan(machine)?, machine, unwanted)
}

/// Refuses plans with blocked changes.
pub(crate) fn ensure_not_blocked(plan: &Plan) -> Result<()> {
    // A model that is not available does not block the rest: the apply does everything else, then
    // reports it.
    let blocked = plan.blocked_changes().filter(|c| !c.address.is_model());
    let blocked: Vec<Problem> = blocked
        .map(|c| {
            Problem::new(format!(
                "{}: {}",
                c.address,
                c.reason.clone().unwrap_or_default()
            ))
        })
        .collect();
    if blocked.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(blocked)
            .with_hint("nothing was changed; resolve this, then run `comfy apply` again"))
    }
}

impl ApplySession<'_> {
    /// Runs the task. `approve` is called with the plan that this side has made.
    ///
    /// # Errors
    /// The plan is declined, stale or blocked, a step fails, or the machine differs afterwards.
    pub(crate) fn run_session(
        self,
        approve: &mut dyn FnMut(&Plan) -> Result<()>,
    ) -> Result<ApplyOutcome> {
        let (scope, paths) = (self.scope, self.scope.paths());
        let started = Instant::now();
        let _exclusive = lock_file::acquire_instance(scope, "apply")?;
        sweep_leftovers(paths)?;
        let machine = HostMachine::new(paths, scope.sandbox());
        self.reread_suspects(&machine);
        let (plan, _numbers) = lock_file::plan_with_reserved_ids(
            scope,
            self.report,
            || self.plan_with_models(&machine),
            new_numbers,
        )?;
        ensure_not_blocked(&plan)?;
        approve(&plan)?;
        sandbox_state::sweep_trash(paths, plan.ids.sandbox);
        let owner = nix::unistd::geteuid()
            .is_root()
            .then_some((plan.ids.seal, plan.ids.records_gid));
        if plan.is_empty() {
            // Files that were read again because something touched them without changing them need
            // not be read next time.
            machine.write_caches(paths, owner)?;
            return Ok(outcome_of(&plan, scope, started));
        }
        let digest = plan.plan_digest();
        let journal = ApplyJournal {
            paths,
            caller: self.caller.clone(),
            plan: digest[..16].into(),
            owner,
        };
        let mut inventory =
            crate::plan::look::Look::read_inventory(&machine, paths).map_err(Problem::from)?;
        let first = missing_folders(paths);
        let mut hands = self.executor(&machine, &plan);
        let destroyed = matches!(self.job, ApplyTask::Destroy { .. });
        if destroyed {
            hands.make_room(&inventory);
        }
        let mut watch = JournalObserver {
            journal: &journal,
            report: self.report,
            scope,
            in_commit: false,
            machine: None,
        };
        let result = execute::execute_steps(&plan, &mut hands, &mut inventory, &mut watch);
        drop(watch.machine.take());
        if let Err(p) = result {
            if !watch.in_commit {
                hands.clear_failed_prepare(&first)?;
            }
            if watch.in_commit && !destroyed {
                journal.append_event("failed", &serde_json::json!(p.message));
            }
            return Err(p);
        }
        if self.job == ApplyTask::Apply
            && plan.moves_code()
            && let Some(live) = crate::records::running::current_generation(paths)
            && let Some(d) = scope.desired()
        {
            ImportResults::mark_pending(paths, &d.owner, &live);
        }
        let outcome = outcome_of(&plan, scope, started);
        if !destroyed {
            self.finish(&plan, hands, &mut inventory, &journal)?;
        }
        Ok(outcome)
    }

    /// Checks the machine after the last step, and records the result.
    fn finish(
        &self,
        plan: &Plan,
        mut hands: Executor,
        inventory: &mut Inventory,
        journal: &ApplyJournal,
    ) -> Result<()> {
        let (paths, machine) = (self.scope.paths(), hands.machine);
        if let Some(d) = self.scope.desired() {
            self.empty_caches(d, plan);
        }
        // A file that was just sealed counts as verified once its ctime is older than the timestamp
        // granularity.
        if plan.steps.iter().any(|p| {
            matches!(
                p.step,
                Step::Install { .. } | Step::InstallVenv { .. } | Step::PlaceModel { .. }
            )
        }) {
            wait_for_grain();
        }
        let clean = self.look_again(machine, plan);
        if clean.is_ok() {
            execute::remember_attributes(plan, inventory);
            if self.job.reconciles() {
                inventory.manifest_folder = self.scope.manifest_folder().map(Path::to_path_buf);
            }
            crate::plan::look::Act::write_inventory(&mut hands, inventory)?;
        }
        // Written whatever the check finds: the steps were done.
        apply_steps::mark_placed(&hands.placed, &machine.hashes);
        machine.write_caches(paths, journal.owner)?;
        let said = if clean.is_ok() {
            "applied"
        } else {
            "applied, but the machine is not clean"
        };
        let detail = AppliedDetail {
            changes: plan.changes.len(),
            steps: plan.steps.len(),
            lock: self.scope.lock_digest().to_string(),
            task: self.job.word().into(),
            generation: crate::records::running::current_generation(paths).map(|id| id.to_string()),
        };
        journal.append_event(said, &serde_json::json!(detail));
        journal.write_receipt(plan, said)?;
        clean
    }

    /// Returns the plan, with the models read that nobody has compared since they changed. What was read
    /// is written down with the other records, after the approval.
    fn plan_with_models(&self, machine: &HostMachine) -> Result<Plan> {
        let make = || plan_task(self.scope, machine, &self.only, &self.job);
        let plan = make()?;
        if self.job != ApplyTask::Apply || plan.library.unverified == 0 {
            return Ok(plan);
        }
        let d = self.scope.need_desired()?;
        verify::read_models(d, machine, &plan.ids, self.report, false)?;
        make()
    }

    /// Reads again what differed for the caller, so that the plan includes it.
    fn reread_suspects(&self, machine: &HostMachine) {
        let Some(d) = self.scope.desired().filter(|_| !self.suspects.is_empty()) else {
            return;
        };
        let sandbox = crate::plan::look::Look::find_user(machine, &d.sandbox)
            .ok()
            .flatten()
            .map_or(d.owner.uid, |u| u.uid);
        apply_steps::reread_files(
            &self.suspects,
            d.owner.uid,
            sandbox,
            &machine.hashes,
            self.report,
        );
    }

    fn executor<'m>(&'m self, machine: &'m HostMachine, plan: &Plan) -> Executor<'m> {
        Executor {
            machine,
            paths: self.scope.paths().clone(),
            ids: plan.ids,
            net: self.net.clone(),
            hubs: self.hubs.clone(),
            ready: Default::default(),
            placed: Vec::new(),
            offline: self.offline,
            report: self.report,
            jobs: self.jobs,
            git: crate::host::env::git_program(self.scope.is_isolated()),
        }
    }

    /// Empties the caches of code that was replaced: at once if nothing is running, else before the
    /// next launch.
    fn empty_caches(&self, d: &Desired, plan: &Plan) {
        let ids = plan.ids;
        let account = self.scope.is_isolated();
        let folders = d.state_children();
        let who = sandbox_state::StateOwner {
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            passer: account.then_some(ids.owner),
            records: nix::unistd::geteuid()
                .is_root()
                .then_some((ids.seal, ids.records_gid)),
        };
        sandbox_state::strip_set_ids(folders.iter().chain(&d.paths.home), &d.paths, &who);
        let Some(live) = crate::records::running::current_generation(&d.paths)
            .filter(|live| !sandbox_state::cache_is_of(&d.paths, live))
        else {
            return;
        };
        if crate::records::running::read_running(&d.paths).is_some() {
            return;
        }
        if let Err(p) = sandbox_state::renew_caches(&d.paths, &live, &who) {
            self.report
                .print_line(&format!("{}: the next launch tries again", p.message));
        }
    }

    fn look_again(&self, machine: &HostMachine, plan: &Plan) -> Result<()> {
        if !self.job.reconciles() {
            return Ok(());
        }
        let again = crate::kinds::plan(self.scope.need_desired()?, machine, &self.only)?;
        let problems: Vec<Problem> = again
            .changes
            .iter()
            .filter(|c| c.is_difference())
            .map(|c| {
                let why = c.reason.clone().unwrap_or_else(|| difference_text(c));
                let what = if c.action == Action::Unknown {
                    "could not be read"
                } else {
                    "still differs"
                };
                Problem::new(format!("{} {what}: {why}", c.address))
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problem::from_many(problems).with_hint(format!(
                "the other {} were applied; `comfy plan` shows what is left",
                crate::text::count_of(plan.changes.len(), "resource")
            )))
        }
    }
}

/// Returns the ids that the plan gives to new accounts and groups.
fn new_numbers(plan: &Plan) -> Vec<u32> {
    let number = |p: &PlannedStep| match &p.step {
        Step::CreateGroup { gid, .. } => Some(*gid),
        Step::CreateUser { uid, .. } => Some(*uid),
        Step::ClaimIds { build, .. } => Some(*build),
        _ => None,
    };
    plan.steps.iter().filter_map(number).collect()
}

fn difference_text(c: &crate::plan::Change) -> String {
    let (before, after) = (
        c.before.clone().unwrap_or_default(),
        c.after.clone().unwrap_or_default(),
    );
    after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .map(|(k, v)| {
            format!(
                "{k} is {}, not {v}",
                before.get(k).map_or("absent", String::as_str)
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}

fn outcome_of(plan: &Plan, scope: ApplyScope, started: Instant) -> ApplyOutcome {
    let (added, changed, destroyed) = plan.action_counts();
    let mut notes = Vec::new();
    let joined = |d: &Desired| {
        let mut steps = plan.steps.iter();
        steps.any(|p| matches!(&p.step, Step::AddMember { user, .. } if *user == d.owner.name))
    };
    if let Some(d) = scope
        .desired()
        .filter(|d| !d.platform.os.is_macos() && joined(d))
    {
        notes.push(format!(
            "{} is now in group {}; your shells are affected after the next login (ComfyUI does \
             not need that)",
            d.owner.name, d.group
        ));
    }
    ApplyOutcome {
        added,
        changed,
        destroyed,
        notes,
        seconds: started.elapsed().as_secs_f64(),
    }
}

struct JournalObserver<'a> {
    journal: &'a ApplyJournal<'a>,
    report: &'a dyn Reporter,
    scope: ApplyScope<'a>,
    in_commit: bool,
    /// The machine's lock, held during the commit.
    machine: Option<lock_file::ApplyLock>,
}

impl StepObserver for JournalObserver<'_> {
    fn step_started(&mut self, number: usize, planned: &PlannedStep) -> Result<()> {
        if !planned.step.in_prepare() && !self.in_commit {
            // From here on, accounts, groups and folders of the machine change.
            self.machine = lock_file::of_machine(self.scope, self.report)?;
            self.in_commit = true;
        }
        crate::host::faults::fault_point(number, &planned.step);
        Ok(())
    }

    fn step_ended(&mut self, number: usize, planned: &PlannedStep, result: &Result<()>) {
        // Before the records' folder exists, and while it is removed, lines cannot be written.
        if self.in_commit
            && self.journal.paths.records.is_dir()
            && !matches!(planned.step, Step::RemoveInstance { .. })
        {
            let said = result
                .as_ref()
                .map_or_else(|p| p.message.clone(), |()| "done".into());
            self.journal.append_event("step", &serde_json::json!({ "number": number, "address": planned.address, "step": planned.step, "result": said }));
        }
        if result.is_ok() {
            self.report.step_done(&planned.address.to_string());
        }
    }

    fn is_interrupted(&self) -> bool {
        crate::host::signals::is_interrupted()
    }
}
