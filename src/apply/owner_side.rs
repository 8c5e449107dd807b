//! The owner's side of the protocol: starts the root side, shows its messages, and answers its
//! questions.

use std::io::Write;

use super::protocol::{ApplyRequest, GO, LAUNCH, RootMessage};
use crate::host::elevate;
use crate::host::roles::Role;
use crate::host::roles::spawn::RoleProcess;
use crate::host::roles::wire::{Event, EventRelay};
use crate::plan::Plan;
use crate::plan::change::ApplyOutcome;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;

/// A root side that has carried out its request; it exits when this is dropped.
pub(crate) struct ElevatedApply(Option<RoleProcess>);

/// Has the root side carry out `request`. `approve` is called if the root side sends its own plan.
///
/// # Errors
/// The root side's error, or that it exited without an answer.
pub(crate) fn run_elevated(
    request: &ApplyRequest,
    report: &dyn Reporter,
    approve: &mut dyn FnMut(&Plan) -> Result<()>,
) -> Result<(ApplyOutcome, ElevatedApply)> {
    let mut side = elevate::start_role(Role::Root, true)?;
    let failed = match exchange_messages(&mut side, request, report, approve) {
        Ok(outcome) => return Ok((outcome, ElevatedApply(Some(side)))),
        Err(failed) => failed,
    };
    // With its stdin closed, it gives up if it was still waiting for an answer.
    drop(side.stdin);
    let status = side.child.wait().context("wait for the root side")?;
    Err(match failed {
        None if crate::host::signals::is_interrupted() => Problem::interrupted(),
        None => Problem::new(format!(
            "sudo failed, or the root side exited without an answer ({status})"
        ))
        .with_hint("if sudo did not refuse, `comfy plan` shows the state of this machine"),
        Some(p) => p,
    })
}

fn exchange_messages(
    side: &mut RoleProcess,
    request: &ApplyRequest,
    report: &dyn Reporter,
    approve: &mut dyn FnMut(&Plan) -> Result<()>,
) -> Result<ApplyOutcome, Option<Problem>> {
    let text = serde_json::to_string(request).map_err(|e| Some(Problem::new(e.to_string())))?;
    writeln!(side.stdin, "{text}").map_err(|_| None)?;
    let mut events = EventRelay::new(report);
    while let Some(message) = side.recv() {
        match message {
            RootMessage::Approve(plan) => {
                approve(&plan).map_err(Some)?;
                writeln!(side.stdin, "{GO}").map_err(|_| None)?;
            }
            RootMessage::Progress(p) => events.pass_on(Event::Progress(p)),
            RootMessage::Say(line) => events.pass_on(Event::Say(line)),
            RootMessage::Step(address) => events.pass_on(Event::Step(address)),
            RootMessage::Done(outcome) => return Ok(outcome),
            RootMessage::Failed(p) => return Err(Some(p)),
            RootMessage::Launching => {}
        }
    }
    Err(None)
}

impl ElevatedApply {
    /// Turns the same process, which is root already, into the launcher.
    ///
    /// # Errors
    /// The process exited instead.
    pub(crate) fn into_launcher(mut self) -> Result<RoleProcess> {
        let ended = || Problem::new("the root side exited without becoming the launcher");
        let mut side = self.0.take().ok_or_else(ended)?;
        writeln!(side.stdin, "{LAUNCH}").context("ask for the launcher")?;
        match side.recv() {
            Some(RootMessage::Launching) => Ok(side),
            Some(RootMessage::Failed(p)) => Err(p),
            _ => Err(ended()),
        }
    }
}

impl Drop for ElevatedApply {
    fn drop(&mut self) {
        if let Some(RoleProcess {
            mut child,
            stdin,
            reader,
        }) = self.0.take()
        {
            drop((stdin, reader));
            let _ = child.wait();
        }
    }
}
