//! After an apply: is what it made live any good?

use std::io::IsTerminal;

use super::apply::{Carry, yes};
use super::run::request;
use crate::apply::owner_side::Elevated;
use crate::apply::session::Job;
use crate::desired::Desired;
use crate::host::elevate;
use crate::host::machine::Machine;
use crate::host::roles::spawn::RoleProcess;
use crate::launch::How;
use crate::launch::import_check_run::{self, Book, Health};
use crate::plan::Plan;
use crate::plan::look::Look;
use crate::plan::select::Selection;
use crate::problem::{Problem, Result};
use crate::project::Project;
use crate::records::running;
use crate::render;

/// How a person wants it.
pub struct Gate<'a> {
    pub project: &'a Project,
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
    pub fn pass(&self, plan: &Plan, elevated: Option<Elevated>) -> Result<Option<Health>> {
        let paths = &self.desired.paths;
        let (moved, live) = (plan.moves_code(), running::generation(paths));
        let mut book = Book::read(paths);
        // Who asks for the way back means what is live now, too.
        let known_bad = |id: &String| self.back && book.of(id).is_some_and(|h| !h.is_good());
        // Not after an apply that was about something else.
        let owed = |id: &String| !moved && plan.only.is_empty() && Book::owes(paths, id);
        let Some(live) = live.filter(|id| moved || known_bad(id) || owed(id)) else {
            return Ok(None);
        };
        // What it can do is known: going back to it takes no longer than the switch.
        if let Some(known) = book
            .of(&live)
            .filter(|h| h.is_good() || (h.stopped.is_none() && !self.back && !owed(&live)))
        {
            known.lines(None).1.iter().for_each(|l| render::warning(l));
            Book::settle(paths);
            return Ok(None);
        }
        if owed(&live) {
            render::note("What was applied last has not been loaded yet.");
        }
        let now = match self.load(None, elevated, &mut book) {
            Ok(now) => now,
            Err(p) if self.back || p.is_interrupted() => return Err(p),
            // The machine is what was asked for, all the same.
            Err(p) => {
                render::warning(&format!("nothing could be loaded to try it: {p}"));
                Book::settle(paths);
                return Ok(None);
            }
        };
        let before = self.before(&live);
        // Only what fails is compared, so only then the one before has to be known.
        if let Some(id) = before
            .as_ref()
            .filter(|id| !now.is_good() && book.of(id).is_none())
        {
            match self.load(Some(id.clone()), None, &mut book) {
                Err(p) if p.is_interrupted() => return Err(p),
                Err(p) => render::warning(&format!(
                    "generation {id} could not be loaded, so nothing is compared: {p}"
                )),
                Ok(_) => {}
            }
        }
        Book::settle(paths);
        let known = before.as_ref().and_then(|id| book.of(id));
        let (first, rest) = now.lines(known);
        if now.stopped.is_some() {
            render::stderr(
                &now.tail
                    .iter()
                    .map(|l| crate::text::escape(&crate::text::without_colors(l)) + "\n")
                    .collect::<String>(),
            );
        }
        if !first.is_empty() {
            render::note(&first);
        }
        rest.iter().for_each(|l| render::warning(l));
        now.hints
            .iter()
            .for_each(|h| render::note(&format!("hint: {}", crate::text::escape(h))));
        let worse = now.worse_than(known);
        if !worse.is_empty() {
            self.back(&worse, before.as_deref())?;
        }
        Ok(Some(now))
    }

    fn load(
        &self,
        generation: Option<String>,
        elevated: Option<Elevated>,
        book: &mut Book,
    ) -> Result<Health> {
        render::note(&match &generation {
            None => "Loading everything once…".to_string(),
            Some(id) => format!("Loading generation {id}, to compare…"),
        });
        let side: RoleProcess = match elevated {
            Some(e) => e.launcher()?,
            None => elevate::launch_side(
                &self.desired.sandbox,
                &self.desired.paths,
                self.project.isolated(),
            )?,
        };
        let health = import_check_run::load(
            &request(self.project, self.desired, &[], How::Loaded(generation)),
            side,
        )?;
        book.note(&health, &self.desired.paths, &self.desired.owner)?;
        Ok(health)
    }

    /// The generation that was live before, if it is still there.
    fn before(&self, live: &str) -> Option<String> {
        let inventory = Machine::new(&self.desired.paths, &self.desired.sandbox)
            .inventory(&self.desired.paths)
            .ok()?;
        inventory
            .live
            .into_iter()
            .rev()
            .find(|id| id != live && self.desired.paths.generation(id).exists())
    }

    fn back(&self, worse: &[String], before: Option<&str>) -> Result<()> {
        let what = worse.join(", ");
        let Some(id) = before else {
            let p = Problem::new(format!(
                "{what}: could not be loaded, and there is no generation before to go back to"
            ));
            return if self.back {
                Err(p.hint("the lines above say why"))
            } else {
                Ok(())
            };
        };
        let question =
            format!("\nMake the generation before ({id}) live again? Only \"yes\" is accepted: ");
        let agreed = self.back || (self.ask && yes(&question)?);
        if !agreed {
            render::note(
                "hint: to go back: `git revert` what moved comfy.lock, then `comfy apply`; `comfy \
                 apply --rollback-on-failure` does it by itself",
            );
            return Ok(());
        }
        let carry = Carry {
            project: self.project,
            desired: self.desired,
            only: Selection::default(),
            job: Job::Back { to: id.into() },
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
        .hint(
            "comfy.lock still asks for the other one: `git revert` what moved it, or mend \
                it, then `comfy apply`",
        ))
    }
}

/// Whether there is somebody to ask.
pub fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
