//! Checks after an apply that what it made live loads.

use std::io::IsTerminal;

use super::apply::ApplyJob;
use super::approval::{Approval, confirm};
use super::target::LaunchTarget;
use crate::apply::owner_side::ElevatedApply;
use crate::apply::session::ApplyTask;
use crate::desired::Desired;
use crate::host::elevate;
use crate::host::machine::HostMachine;
use crate::host::roles::spawn::RoleProcess;
use crate::ids::GenerationId;
use crate::launch::LaunchMode;
use crate::launch::import_check_run;
use crate::plan::Plan;
use crate::plan::look::Look;
use crate::plan::select::ResourceSelection;
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::records::import_results::{ImportHealth, ImportResults};
use crate::records::running;
use crate::render;

/// The options for the check after an apply.
pub(crate) struct ImportCheck<'a> {
    pub project: &'a ComfyProject,
    pub desired: &'a Desired,
    /// Go back to the previous generation if more fails than before.
    pub back: bool,
    /// Whether a user is present who can be asked.
    pub ask: bool,
}

impl ImportCheck<'_> {
    /// Loads everything once if `plan` made something live that was not loaded before. Returns
    /// `None` if there was no need.
    ///
    /// # Errors
    /// More fails than in the previous generation, which was made live again.
    pub(crate) fn run_check(
        &self,
        plan: &Plan,
        elevated: Option<ElevatedApply>,
    ) -> Result<Option<ImportHealth>> {
        let paths = &self.desired.paths;
        let (moved, live) = (plan.moves_code(), running::current_generation(paths));
        let mut book = ImportResults::read(paths);
        // A rollback that the user asked for covers what is live already, too.
        let known_bad = |id: &String| self.back && book.health_of(id).is_some_and(|h| !h.is_good());
        // Not after an apply that changed something else.
        let owed =
            |id: &String| !moved && plan.only.is_empty() && ImportResults::is_pending(paths, id);
        let Some(live) = live.filter(|id| moved || known_bad(id) || owed(id)) else {
            return Ok(None);
        };
        // Its results are known: going back to it takes only the switch.
        if let Some(known) = book
            .health_of(&live)
            .filter(|h| h.is_good() || (h.stopped.is_none() && !self.back && !owed(&live)))
        {
            known
                .summary_lines(None)
                .1
                .iter()
                .for_each(|l| render::print_warning(l));
            ImportResults::clear_pending(paths);
            return Ok(None);
        }
        if owed(&live) {
            render::print_note("The last apply has not been loaded yet.");
        }
        let now = match self.load(None, elevated, &mut book) {
            Ok(now) => now,
            Err(p) if self.back || p.is_interrupted() => return Err(p),
            // The machine matches the manifest all the same.
            Err(p) => {
                render::print_warning(&format!("the import check could not run: {p}"));
                ImportResults::clear_pending(paths);
                return Ok(None);
            }
        };
        let before = self.before(&live);
        // Only failures are compared, so the previous generation matters only now.
        if let Some(id) = before
            .as_ref()
            .filter(|id| !now.is_good() && book.health_of(id).is_none())
        {
            match self.load(Some(id.to_string()), None, &mut book) {
                Err(p) if p.is_interrupted() => return Err(p),
                Err(p) => render::print_warning(&format!(
                    "generation {id} could not be loaded for comparison: {p}"
                )),
                Ok(_) => {}
            }
        }
        ImportResults::clear_pending(paths);
        let known = before.as_ref().and_then(|id| book.health_of(id));
        let (first, rest) = now.summary_lines(known);
        if now.stopped.is_some() {
            render::print_stderr(
                &now.tail
                    .iter()
                    .map(|l| crate::text::escape_text(&crate::text::without_colors(l)) + "\n")
                    .collect::<String>(),
            );
        }
        if !first.is_empty() {
            render::print_note(&first);
        }
        rest.iter().for_each(|l| render::print_warning(l));
        now.hints
            .iter()
            .for_each(|h| render::print_note(&format!("hint: {}", crate::text::escape_text(h))));
        let worse = now.worse_than(known);
        if !worse.is_empty() {
            self.back(&worse, before.as_ref())?;
        }
        Ok(Some(now))
    }

    /// Loads what is live, whatever is known of it.
    ///
    /// # Errors
    /// Nothing could be started, or the user interrupted it.
    pub(crate) fn load_live(&self, elevated: Option<ElevatedApply>) -> Result<ImportHealth> {
        self.load(
            None,
            elevated,
            &mut ImportResults::read(&self.desired.paths),
        )
    }

    fn load(
        &self,
        generation: Option<String>,
        elevated: Option<ElevatedApply>,
        book: &mut ImportResults,
    ) -> Result<ImportHealth> {
        render::print_note(&match &generation {
            None => "Loading everything once…".to_string(),
            Some(id) => format!("Loading generation {id} for comparison…"),
        });
        let side: RoleProcess = match elevated {
            Some(e) => e.into_launcher()?,
            None => elevate::launch_side(
                &self.desired.sandbox,
                &self.desired.paths,
                self.project.is_isolated(),
                render::print_note,
            )?,
        };
        let health = import_check_run::load_all(
            &LaunchTarget::for_project(self.project, self.desired)
                .request(&[], LaunchMode::Loaded(generation)),
            side,
        )?;
        book.record_health(&health, &self.desired.paths, &self.desired.owner)?;
        Ok(health)
    }

    /// Returns the generation that was live before, if it still exists.
    fn before(&self, live: &str) -> Option<GenerationId> {
        let inventory = HostMachine::new(&self.desired.paths, &self.desired.sandbox)
            .read_inventory(&self.desired.paths)
            .ok()?;
        inventory
            .live
            .into_iter()
            .rev()
            .find(|id| **id != *live && self.desired.paths.generation_dir(id).exists())
    }

    fn back(&self, worse: &[String], before: Option<&GenerationId>) -> Result<()> {
        let what = worse.join(", ");
        let Some(id) = before else {
            let p = Problem::new(format!(
                "{what}: failed to load, and there is no previous generation to go back to"
            ));
            return if self.back {
                Err(p.with_hint("the lines above say why"))
            } else {
                Ok(())
            };
        };
        let question =
            format!("\nMake the previous generation ({id}) live again? Only \"yes\" is accepted: ");
        let agreed = self.back || (self.ask && confirm(&question)?);
        if !agreed {
            render::print_note(
                "  hint: to go back, run `comfy rollback`; `comfy apply --rollback-on-failure` goes back \
                 automatically",
            );
            return Ok(());
        }
        let apply = ApplyJob {
            scope: self.desired.into(),
            only: ResourceSelection::default(),
            job: ApplyTask::Back { to: id.clone() },
            offline: true,
            saved: None,
        };
        apply.run(&Approval {
            yes: true,
            verbose: false,
            quiet: true,
            from_file: false,
            what: "apply",
            once_approved: None,
        })?;
        Err(Problem::new(format!(
            "{what}: loaded before and fails now, so generation {id} is live again"
        ))
        .with_hint(
            "comfy.lock still pins the failed code: `comfy rollback` goes back there too; or fix it, \
             then run `comfy apply`",
        ))
    }
}

/// Returns whether there is a user to ask.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
