use std::io::{BufRead, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::plan::print_plan;
use crate::apply::scope::ApplyScope;
use crate::apply::session;
use crate::plan::Plan;
use crate::problem::{Context, Problem, ProblemKind, Result};
use crate::project::MANIFEST;
use crate::render;

/// How the user approves a plan.
pub(crate) struct Approval<'a> {
    pub yes: bool,
    pub verbose: bool,
    pub quiet: bool,
    /// The plan was saved and read before.
    pub from_file: bool,
    pub what: &'static str,
    /// Runs once the plan is approved, before its first step.
    pub once_approved: Option<&'a dyn Fn() -> Result<()>>,
}

impl Approval<'_> {
    /// Shows the plan and waits for `yes`. Without a terminal and without `--yes` it refuses.
    pub(crate) fn approve(&self, plan: &Plan, scope: ApplyScope) -> Result<()> {
        if !self.quiet {
            print_plan(plan, scope.desired(), self.verbose);
        }
        session::ensure_not_blocked(plan)?;
        if !self.from_file {
            self.check_folder(plan, scope)?;
        }
        if !self.yes {
            self.ask_user()?;
        }
        self.once_approved.map_or(Ok(()), |then| then())
    }

    fn ask_user(&self) -> Result<()> {
        if !std::io::stdin().is_terminal() {
            return Err(no_terminal(self.what).with_hint("add --yes if you have read the plan"));
        }
        if confirm("\nApply this plan? Only \"yes\" is accepted: ")? {
            Ok(())
        } else {
            Err(Problem::new("declined; nothing was changed").of_kind(ProblemKind::NotApproved))
        }
    }

    /// Notices a plan that removes what another comfy.toml declares: a wrong `cd` must not take a
    /// machine down. A comfy.toml that has moved is no other one.
    fn check_folder(&self, plan: &Plan, scope: ApplyScope) -> Result<()> {
        let other = plan.applied_from.as_ref().map(|f| f.join(MANIFEST));
        let Some(other) = other.filter(|file| file.exists()) else {
            return Ok(());
        };
        let own = scope.manifest_folder().map(|f| f.join(MANIFEST));
        let own = own.unwrap_or_default();
        let message = format!(
            "this machine was last applied from {}; this plan is made from {} and removes something",
            other.display(),
            own.display()
        );
        if self.yes {
            return Err(Problem::new(message).with_hint(
                "run it again without --yes if this is what you want; else change to the other \
                 folder, or name it with -C",
            ));
        }
        render::print_warning(&message);
        Ok(())
    }
}

/// Asks on the terminal and returns whether the answer is `yes`.
///
/// # Errors
/// The user interrupted it.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let _ = write!(std::io::stderr(), "{question}");
    // Ctrl-C takes effect at once and not after the next line, as it would while reading.
    let stdin = std::io::stdin();
    let mut there = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    while matches!(
        poll(&mut there, PollTimeout::from(100u8)),
        Ok(0) | Err(nix::errno::Errno::EINTR)
    ) && !crate::host::signals::is_interrupted()
    {}
    if crate::host::signals::is_interrupted() {
        render::print_stderr("");
        return Err(Problem::interrupted());
    }
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .context("read the answer")?;
    if crate::host::signals::is_interrupted() {
        return Err(Problem::interrupted());
    }
    Ok(answer.trim_end_matches('\n') == "yes")
}

fn no_terminal(what: &str) -> Problem {
    Problem::new(format!(
        "cannot ask for approval of the {what}: stdin is not a terminal"
    ))
    .of_kind(ProblemKind::NotApproved)
}

/// Asks before something that shows no plan.
///
/// # Errors
/// The user declined it, or cannot be asked.
pub(crate) fn ask_to_go_on(what: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(no_terminal(what).with_hint("add --yes"));
    }
    if confirm("\nGo on? Only \"yes\" is accepted: ")? {
        Ok(())
    } else {
        Err(Problem::new("declined; nothing was changed").of_kind(ProblemKind::NotApproved))
    }
}
