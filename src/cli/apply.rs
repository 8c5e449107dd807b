use std::io::{BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Global;
use super::gate::{self, Gate};
use super::plan::{Saved, show};
use crate::apply::journal::Caller;
use crate::apply::owner_side::{self, Elevated};
use crate::apply::protocol::Request;
use crate::apply::root_side;
use crate::apply::session::{self, Job, Outcome, Session};
use crate::desired::Desired;
use crate::host::env;
use crate::host::machine::Machine;
use crate::launch::import_check_run::Book;
use crate::plan::Plan;
use crate::plan::select::Selection;
use crate::problem::{Doing, Problem, Result};
use crate::project::Project;
use crate::render;
use crate::render::bars::Bars;

/// Bring this machine to what comfy.toml and comfy.lock say
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy apply                 shows the plan, asks, does it (sudo \
        asks for your password)\n  comfy apply --yes           without the question\n  comfy apply \
        --only shares   the old fix-permissions\n  comfy apply \
        --rollback-on-failure\n                              back to what ran before, if a node \
        that loaded fails now\n  comfy apply today.plan      exactly the saved plan, or nothing"
)]
pub struct Args {
    /// A plan saved by `comfy plan --out`; it was looked at then, so nothing is asked now
    #[arg(value_name = "PLANFILE")]
    plan: Option<PathBuf>,
    /// Do not ask; with -q the plan is not shown either
    #[arg(short, long)]
    yes: bool,
    /// Only this family (user, comfyui, nodes, python, models, shares, network) or address, and
    /// what it needs; may be repeated
    #[arg(long, value_name = "SEL", conflicts_with = "plan")]
    only: Vec<String>,
    /// Fetch nothing: what the store has must do
    #[arg(long)]
    offline: bool,
    /// Where something fails to load that loaded before, make the generation before live again
    #[arg(long)]
    rollback_on_failure: bool,
    /// Do not load everything once afterwards
    #[arg(long, conflicts_with = "rollback_on_failure")]
    no_check: bool,
    /// The outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let saved = args.plan.as_ref().map(read_saved).transpose()?;
    let project = match &saved {
        Some(s) => Project::of(&s.dir, &s.plan.host)?,
        None => Project::open(global)?,
    };
    let only = Selection::parse(saved.as_ref().map_or(&args.only, |s| &s.plan.only))?;
    project.announce();
    let ask = Ask {
        yes: args.yes || saved.is_some(),
        verbose: global.verbose,
        quiet: args.json || (global.quiet && args.yes),
        what: "apply",
    };
    let desired = project.desired()?;
    let job = Carry {
        project: &project,
        desired: &desired,
        only,
        job: Job::Apply,
        offline: args.offline,
        saved: saved.map(|s| s.plan),
    };
    let Carried {
        outcome,
        plan,
        elevated,
    } = job.run(&ask)?;
    if !args.json && plan.is_empty() {
        show(&plan, &desired, global.verbose);
    } else if !args.json {
        render::stdout(&render::plan_text::outcome(&outcome, "Apply"));
        outcome
            .notes
            .iter()
            .for_each(|n| render::note(&format!("Note: {n}")));
    }
    let gate = Gate {
        project: &project,
        desired: &desired,
        back: args.rollback_on_failure,
        ask: !args.yes && !args.json && gate::somebody(),
    };
    let health = if args.no_check {
        Book::settle(&desired.paths);
        Ok(None)
    } else {
        gate.pass(&plan, elevated)
    };
    if args.json {
        let plan = serde_json::from_str::<serde_json::Value>(&render::plan_json::plan(&plan))
            .unwrap_or_default();
        render::stdout(&render::plan_json::text(
            &serde_json::json!({ "format_version": 1, "outcome": outcome, "health": health.as_ref().ok(), "plan": plan }),
        ));
    }
    health?;
    Ok(0)
}

fn read_saved(file: &PathBuf) -> Result<Saved> {
    let text = std::fs::read_to_string(file).doing(|| format!("read {}", file.display()))?;
    let saved: Saved = serde_json::from_str(&text).map_err(|e| {
        Problem::new(format!("{}: no plan of comfy's: {e}", file.display()))
            .caused_by(&e)
            .hint("make one with `comfy plan --out FILE`")
    })?;
    if saved.comfy_plan != 1 || saved.plan.format_version != 1 {
        return Err(Problem::new(format!(
            "{}: a plan of another version of comfy",
            file.display()
        ))
        .hint("make it again with `comfy plan --out FILE`"));
    }
    Ok(saved)
}

/// How a plan is approved.
pub struct Ask {
    pub yes: bool,
    pub verbose: bool,
    pub quiet: bool,
    pub what: &'static str,
}

impl Ask {
    /// Shows the plan and waits for `yes`. Without a terminal and without `--yes` it refuses.
    pub fn approve(&self, plan: &Plan, desired: &Desired) -> Result<()> {
        if !self.quiet {
            show(plan, desired, self.verbose);
        }
        session::admit(plan)?;
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Problem::new(format!(
                "nobody is there to approve the {}: stdin is no terminal",
                self.what
            ))
            .hint("add --yes if you have seen the plan"));
        }
        if yes("\nDo this? Only \"yes\" is accepted: ")? {
            Ok(())
        } else {
            Err(Problem::new("declined; nothing was changed"))
        }
    }
}

/// Asks on the terminal.
///
/// # Errors
/// Interrupted.
pub fn yes(question: &str) -> Result<bool> {
    let _ = write!(std::io::stderr(), "{question}");
    // Ctrl-C ends it at once, and not after the next line: reading alone would go on.
    let stdin = std::io::stdin();
    let mut there = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    while matches!(
        poll(&mut there, PollTimeout::from(100u8)),
        Ok(0) | Err(nix::errno::Errno::EINTR)
    ) && !crate::host::signals::interrupted()
    {}
    if crate::host::signals::interrupted() {
        render::stderr("");
        return Err(Problem::interrupted());
    }
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .doing(|| "read the answer".into())?;
    if crate::host::signals::interrupted() {
        return Err(Problem::interrupted());
    }
    Ok(answer.trim_end_matches('\n') == "yes")
}

/// A job on the side that has the rights for it.
pub struct Carry<'a> {
    pub project: &'a Project,
    pub desired: &'a Desired,
    pub only: Selection,
    pub job: Job,
    pub offline: bool,
    pub saved: Option<Plan>,
}

/// What came of it.
pub struct Carried {
    pub outcome: Outcome,
    pub plan: Plan,
    /// The root side, where there is one, for what comes after.
    pub elevated: Option<Elevated>,
}

impl Carry<'_> {
    /// The plan as whoever calls sees it.
    fn own_plan(&self) -> Result<Plan> {
        let machine = Machine::new(&self.desired.paths, &self.desired.sandbox);
        let plan = session::plan(self.desired, &machine, &self.only, &self.job)?;
        if self
            .saved
            .as_ref()
            .is_some_and(|saved| saved.digest() != plan.digest())
        {
            return Err(root_side::stale(true));
        }
        // What had to be read again, since something touched it without changing it, need not be
        // read the next time.
        if plan.is_empty() && !self.project.isolated() {
            machine.remember(&self.desired.paths, None)?;
        }
        Ok(plan)
    }

    pub fn run(self, ask: &Ask) -> Result<Carried> {
        // Root has nothing to ask itself first: the root side's plan is the one to approve.
        // Models are looked at here, so that the root side reads again what seems to have changed.
        let models = !self.desired.models.is_empty();
        let root = self.project.isolated()
            && nix::unistd::geteuid().is_root()
            && self.saved.is_none()
            && !models;
        let own = if root { None } else { Some(self.own_plan()?) };
        // What root alone can read is asked of root, too.
        let root_first = own.as_ref().is_none_or(|p| {
            self.project.isolated()
                && (p.believed || p.root_could_see_more())
                && self.saved.is_none()
        });
        if let Some(plan) = own.as_ref() {
            if plan.is_empty() {
                return Ok(Carried {
                    outcome: Outcome::default(),
                    plan: plan.clone(),
                    elevated: None,
                });
            }
            if !root_first {
                ask.approve(plan, self.desired)?;
            }
        }
        let report = Bars::default();
        let suspects = own
            .as_ref()
            .map(|p| p.library.suspects.clone())
            .unwrap_or_default();
        if !self.project.isolated() {
            let plan = own.ok_or_else(|| Problem::new("no plan was made"))?;
            let digest = plan.digest();
            let session = Session {
                desired: self.desired,
                only: self.only,
                job: self.job,
                net: env::net()?,
                hubs: env::hubs()?,
                suspects,
                offline: self.offline,
                caller: Caller::now(),
                jobs: None,
                report: &report,
            };
            let outcome = session.run(&mut |again: &Plan| {
                if again.digest() == digest {
                    Ok(())
                } else {
                    Err(root_side::stale(self.saved.is_some()))
                }
            })?;
            return Ok(Carried {
                outcome,
                plan,
                elevated: None,
            });
        }
        let request = Request {
            dir: self.project.dir.clone(),
            host: self.project.hostname.clone(),
            only: self.only.words().to_vec(),
            job: self.job,
            offline: self.offline,
            net: env::net()?,
            hubs: env::hubs()?,
            suspects,
            approved: own.as_ref().filter(|_| !root_first).map(Plan::digest),
            saved: self.saved.is_some(),
        };
        let mut approved = own.unwrap_or_default();
        let (outcome, elevated) = owner_side::run(&request, &report, &mut |theirs: &Plan| {
            approved = theirs.clone();
            if theirs.is_empty() {
                Ok(())
            } else {
                ask.approve(theirs, self.desired)
            }
        })?;
        Ok(Carried {
            outcome,
            plan: approved,
            elevated: Some(elevated),
        })
    }
}
