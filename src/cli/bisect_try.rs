use std::process::Command;

use super::GlobalArgs;
use super::apply::{ApplyJob, CarriedOut};
use super::approval::Approval;
use super::bisect_files::UnfinishedBisect;
use super::import_check::ImportCheck;
use crate::apply::owner_side::ElevatedApply;
use crate::apply::session::ApplyTask;
use crate::bisect::Verdict;
use crate::bisect::mixture::LockState;
use crate::desired::{Desired, InstancePaths};
use crate::host::machine::HostMachine;
use crate::host::signals;
use crate::ids::GenerationId;
use crate::lock;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, Problem, Result};
use crate::project::{ComfyProject, MANIFEST};
use crate::records::import_results::{ImportHealth, ImportResults};
use crate::records::running;
use crate::render;

/// Who says whether a try is good.
pub(crate) enum Judge {
    /// Everything is loaded once.
    Loading,
    /// A command of the user's.
    Command(Vec<String>),
}

/// Applies tries, has them judged, and goes back.
pub(crate) struct TryRunner<'a> {
    global: &'a GlobalArgs,
    project: &'a ComfyProject,
    desired: &'a Desired,
    judge: Judge,
    bisect: UnfinishedBisect,
    /// The generations that were here before.
    present: Vec<GenerationId>,
    /// What loads at the two ends of the row.
    bad: Option<ImportHealth>,
    good: Option<ImportHealth>,
    pub starts: usize,
    pub tries: Vec<JudgedTry>,
}

/// One try, as `--json` tells it.
#[derive(serde::Serialize)]
pub(crate) struct JudgedTry {
    what: String,
    verdict: Verdict,
}

/// What a try changes: code and packages, and nothing that is the owner's.
const CODE: [&str; 3] = ["comfyui", "nodes", "python"];

impl<'a> TryRunner<'a> {
    /// # Errors
    /// The folder for the files of a try cannot be made.
    pub(crate) fn new(
        global: &'a GlobalArgs,
        project: &'a ComfyProject,
        desired: &'a Desired,
        judge: Judge,
    ) -> Result<TryRunner<'a>> {
        Ok(TryRunner {
            bisect: UnfinishedBisect::begin(&desired.sandbox)?,
            present: crate::host::on_disk(&desired.paths).generations,
            global,
            project,
            desired,
            judge,
            bad: None,
            good: None,
            starts: 0,
            tries: Vec::new(),
        })
    }

    /// Refuses where a bisect could not go back to, or would take something away.
    ///
    /// # Errors
    /// The machine does not match comfy.lock, or ComfyUI is running.
    pub(crate) fn ensure_ready(&self) -> Result<()> {
        if let Some(live) = running::read_running(&self.desired.paths) {
            return Err(
                Problem::new(format!("ComfyUI is running (process {})", live.pid))
                    .with_hint("stop it with `comfy stop`"),
            );
        }
        let machine = HostMachine::new(&self.desired.paths, &self.desired.sandbox);
        let plan = crate::kinds::plan(self.desired, &machine, &code_only()?)?;
        if plan.changes.iter().any(crate::plan::Change::is_difference) {
            return Err(Problem::new("this machine does not match comfy.lock")
                .with_hint("run `comfy apply`, then bisect what it made"));
        }
        Ok(())
    }

    /// Judges what is live.
    ///
    /// # Errors
    /// It could not be judged at all, or the user interrupted it.
    pub(crate) fn try_live(&mut self) -> Result<Verdict> {
        let (project, desired) = (self.project, self.desired);
        let verdict = self.judge_live(project, desired, None)?;
        self.report("what is live now", verdict);
        Ok(verdict)
    }

    /// Applies a state and judges it.
    ///
    /// # Errors
    /// It could not be applied, or the user interrupted it.
    pub(crate) fn try_state(&mut self, state: &LockState, what: &str) -> Result<Verdict> {
        self.bisect.write(MANIFEST, &state.manifest)?;
        self.bisect.write(lock::FILE, &state.lock.render())?;
        let project = ComfyProject::for_host(self.bisect.folder(), &self.project.hostname)?;
        let (desired, _) = project.desired_state()?;
        let elevated = self.apply(&desired, ApplyTask::Try)?;
        let verdict = self.judge_live(&project, &desired, elevated)?;
        self.report(what, verdict);
        Ok(verdict)
    }

    fn report(&mut self, what: &str, verdict: Verdict) {
        self.tries.push(JudgedTry {
            what: what.into(),
            verdict,
        });
        let word = match verdict {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
            Verdict::Skip => "not judged",
        };
        render::print_note(&format!("{:2}. {what}: {word}", self.starts));
    }

    fn apply(&self, desired: &Desired, job: ApplyTask) -> Result<Option<ElevatedApply>> {
        let job = ApplyJob {
            scope: desired.into(),
            only: code_only()?,
            job,
            offline: false,
            saved: None,
        };
        let CarriedOut { elevated, .. } = job.run(&APPROVED)?;
        if let Some(live) = running::current_generation(&desired.paths)
            && self.present.iter().all(|id| **id != *live)
        {
            self.bisect.note_tried(&live)?;
        }
        Ok(elevated)
    }

    fn judge_live(
        &mut self,
        project: &ComfyProject,
        desired: &Desired,
        elevated: Option<ElevatedApply>,
    ) -> Result<Verdict> {
        ImportResults::clear_pending(&desired.paths);
        self.starts += 1;
        let check = ImportCheck {
            project,
            desired,
            back: false,
            ask: false,
        };
        match &self.judge {
            Judge::Command(command) => judge_by_command(command),
            Judge::Loading => {
                let health = check.load_live(elevated)?;
                for (node, why) in &health.failed {
                    render::print_note(&format!(
                        "    node.{} failed to import: {}",
                        crate::text::escape_text(node),
                        crate::text::escape_text(why)
                    ));
                }
                let worse =
                    |than: &Option<ImportHealth>| !health.worse_than(than.as_ref()).is_empty();
                // The bad end comes first, the good end second; what fails at both is not what is
                // searched.
                let is_bad = match self.starts {
                    1 => !health.is_good(),
                    2 => self
                        .bad
                        .as_ref()
                        .is_some_and(|bad| bad.worse_than(Some(&health)).is_empty()),
                    _ => worse(&self.good),
                };
                match self.starts {
                    1 => self.bad = Some(health),
                    2 => self.good = Some(health),
                    _ => {}
                }
                let verdict = match is_bad {
                    true => Verdict::Bad,
                    false => Verdict::Good,
                };
                Ok(verdict)
            }
        }
    }

    /// Makes comfy.lock live again, and removes what only the tries needed.
    ///
    /// # Errors
    /// The machine stays where the last try left it, with what to do.
    pub(crate) fn go_back(&self) -> Result<()> {
        // A Ctrl-C has ended the search, and must not end the way back.
        signals::forget_interrupt();
        let back = || -> Result<()> {
            let project = ComfyProject::open(self.global)?;
            let (desired, _) = project.desired_state()?;
            self.apply(&desired, ApplyTask::Apply)?;
            ImportResults::clear_pending(&desired.paths);
            remove_tried(&self.bisect, &desired)
        };
        let live = live_name(&self.desired.paths);
        back().map_err(|p| {
            // What git and uv say of a Ctrl-C is of no interest; the way to go on is.
            let p = match signals::is_interrupted() {
                true => Problem::interrupted(),
                false => p,
            };
            p.with_prefix("could not go back to comfy.lock: ").with_hint(format!(
                "this machine has what the bisect tried last ({live}): `comfy bisect --reset` or \
                 `comfy apply` goes back"
            ))
        })?;
        self.bisect.end();
        Ok(())
    }
}

/// The user has approved all tries together; their files are comfy's own.
const APPROVED: Approval<'static> = Approval {
    yes: true,
    verbose: false,
    quiet: true,
    from_file: true,
    what: "bisect",
    once_approved: None,
};

/// Removes the generations that only the tries of a bisect needed.
///
/// # Errors
/// As [`ApplyJob::run`].
pub(crate) fn remove_tried(bisect: &UnfinishedBisect, desired: &Desired) -> Result<()> {
    let generations = bisect.tried();
    if generations.is_empty() {
        return Ok(());
    }
    let job = ApplyJob {
        scope: desired.into(),
        only: ResourceSelection::default(),
        job: ApplyTask::RemoveTried { generations },
        offline: true,
        saved: None,
    };
    job.run(&APPROVED).map(drop)
}

fn live_name(paths: &InstancePaths) -> String {
    match running::current_generation(paths) {
        Some(id) => format!("generation {id}"),
        None => "no generation".into(),
    }
}

fn code_only() -> Result<ResourceSelection> {
    ResourceSelection::parse(&CODE.map(String::from))
}

/// As `git bisect run` takes exit codes.
fn judge_by_command(command: &[String]) -> Result<Verdict> {
    let [program, args @ ..] = command else {
        return Ok(Verdict::Skip);
    };
    let shown = crate::text::escape_text(program);
    #[expect(
        clippy::disallowed_methods,
        reason = "the user's own command, as the user, with the user's environment"
    )]
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("start {shown}"))?;
    if signals::is_interrupted() {
        return Err(Problem::interrupted());
    }
    match status.code() {
        Some(0) => Ok(Verdict::Good),
        Some(125) => Ok(Verdict::Skip),
        Some(code @ (126 | 127)) => Err(Problem::new(format!(
            "{shown} exited with {code}: the shell could not start a program"
        ))
        .with_hint("try the command by itself first")),
        Some(1..=127) => Ok(Verdict::Bad),
        _ => Err(Problem::new(format!(
            "{shown} was ended by a signal, or exited with more than 127"
        ))),
    }
}
