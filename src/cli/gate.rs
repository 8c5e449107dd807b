//! After an apply: is what it made live any good?

use std::io::IsTerminal;

use super::apply::{Carry, yes};
use super::run::launch_request;
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

/// How a person wants it.
pub struct Gate<'a> {
    pub project: &'a ComfyProject,
    pub desired: &'a Desired,
    /// Go back where it is worse than before.
    pub back: bool,
    /// Somebody is there who may be asked.
    pub ask: bool,
}

impl Gate<'_> {
    /// Loads everything once where `plan` has made something live that was not loaded before.
    /// `None`: there was no need.
    ///
    /// # Errors
    /// It is worse than the generation before, which was made live again.
    pub fn pass(
        &self,
        plan: &Plan,
        elevated: Option<ElevatedApply>,
    ) -> Result<Option<ImportHealth>> {
        let paths = &self.desired.paths;
        let (moved, live) = (plan.moves_code(), running::current_generation(paths));
        let mut book = ImportResults::read(paths);
        // Who asks for the way back means what is live now, too.
        let known_bad = |id: &String| self.back && book.health_of(id).is_some_and(|h| !h.is_good());
        // Not after an apply that was about something else.
        let owed =
            |id: &String| !moved && plan.only.is_empty() && ImportResults::is_pending(paths, id);
        let Some(live) = live.filter(|id| moved || known_bad(id) || owed(id)) else {
            return Ok(None);
        };
        // What it can do is known: going back to it takes no longer than the switch.
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
            render::print_note("What was applied last has not been loaded yet.");
        }
        let now = match self.load(None, elevated, &mut book) {
            Ok(now) => now,
            Err(p) if self.back || p.is_interrupted() => return Err(p),
            // The machine is what was asked for, all the same.
            Err(p) => {
                render::print_warning(&format!("nothing could be loaded to try it: {p}"));
                ImportResults::clear_pending(paths);
                return Ok(None);
            }
        };
        let before = self.before(&live);
        // Only what fails is compared, so only then the one before has to be known.
        if let Some(id) = before
            .as_ref()
            .filter(|id| !now.is_good() && book.health_of(id).is_none())
        {
            match self.load(Some(id.to_string()), None, &mut book) {
                Err(p) if p.is_interrupted() => return Err(p),
                Err(p) => render::print_warning(&format!(
                    "generation {id} could not be loaded, so nothing is compared: {p}"
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

    fn load(
        &self,
        generation: Option<String>,
        elevated: Option<ElevatedApply>,
        book: &mut ImportResults,
    ) -> Result<ImportHealth> {
        render::print_note(&match &generation {
            None => "Loading everything once…".to_string(),
            Some(id) => format!("Loading generation {id}, to compare…"),
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
            &launch_request(
                self.project,
                self.desired,
                &[],
                LaunchMode::Loaded(generation),
            ),
            side,
        )?;
        book.record_health(&health, &self.desired.paths, &self.desired.owner)?;
        Ok(health)
    }

    /// The generation that was live before, if it is still there.
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
                "{what}: could not be loaded, and there is no generation before to go back to"
            ));
            return if self.back {
                Err(p.with_hint("the lines above say why"))
            } else {
                Ok(())
            };
        };
        let question =
            format!("\nMake the generation before ({id}) live again? Only \"yes\" is accepted: ");
        let agreed = self.back || (self.ask && yes(&question)?);
        if !agreed {
            render::print_note(
                "hint: to go back: `git revert` what moved comfy.lock, then `comfy apply`; `comfy \
                 apply --rollback-on-failure` does it by itself",
            );
            return Ok(());
        }
        let carry = Carry {
            project: self.project,
            desired: self.desired,
            only: ResourceSelection::default(),
            job: ApplyTask::Back { to: id.clone() },
            offline: true,
            saved: None,
        };
        carry.run(&super::apply::Ask {
            yes: true,
            verbose: false,
            quiet: true,
            what: "apply",
        })?;
        Err(Problem::new(format!(
            "{what}: could be loaded before and not now, so generation {id} \
            is live again"
        ))
        .with_hint(
            "comfy.lock still asks for the other one: `git revert` what moved it, or mend \
                it, then `comfy apply`",
        ))
    }
}

/// Whether there is somebody to ask.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
