//! The owner's side of the protocol: starts the root side, shows what it says, answers what it
//! asks.

use std::io::Write;

use super::protocol::{GO, LAUNCH, Message, Request};
use super::session::Outcome;
use crate::host::elevate;
use crate::host::roles::Role;
use crate::host::roles::spawn::RoleProcess;
use crate::host::roles::wire::{Event, EventRelay};
use crate::plan::Plan;
use crate::problem::{Doing, Problem, Result};
use crate::progress::Reporter;

/// A root side that has done what it was asked; it ends with this.
pub struct Elevated(Option<RoleProcess>);

/// Has the root side do `request`. `approve` is asked when it sends a plan of its own.
///
/// # Errors
/// What the root side says, or that it ended without a word.
pub fn run(
    request: &Request,
    report: &dyn Reporter,
    approve: &mut dyn FnMut(&Plan) -> Result<()>,
) -> Result<(Outcome, Elevated)> {
    let mut side = elevate::side(Role::Root, true)?;
    let failed = match converse(&mut side, request, report, approve) {
        Ok(outcome) => return Ok((outcome, Elevated(Some(side)))),
        Err(failed) => failed,
    };
    // With its stdin closed it gives up where it was still waiting for an answer.
    drop(side.stdin);
    let status = side
        .child
        .wait()
        .doing(|| "wait for the root side".into())?;
    Err(match failed {
        None if crate::host::signals::interrupted() => Problem::interrupted(),
        None => Problem::new(format!("the root side ended without an answer ({status})"))
            .hint("did sudo refuse? otherwise `comfy plan` shows where the machine stands"),
        Some(p) => p,
    })
}

fn converse(
    side: &mut RoleProcess,
    request: &Request,
    report: &dyn Reporter,
    approve: &mut dyn FnMut(&Plan) -> Result<()>,
) -> Result<Outcome, Option<Problem>> {
    let text = serde_json::to_string(request).map_err(|e| Some(Problem::new(e.to_string())))?;
    writeln!(side.stdin, "{text}").map_err(|_| None)?;
    let mut events = EventRelay::new(report);
    while let Some(message) = side.recv() {
        match message {
            Message::Approve(plan) => {
                approve(&plan).map_err(Some)?;
                writeln!(side.stdin, "{GO}").map_err(|_| None)?;
            }
            Message::Progress {
                job,
                unit,
                at,
                total,
            } => events.pass_on(Event::Progress {
                job,
                unit,
                at,
                total,
            }),
            Message::Say(line) => events.pass_on(Event::Say(line)),
            Message::Step(address) => events.pass_on(Event::Step(address)),
            Message::Done(outcome) => return Ok(outcome),
            Message::Failed(p) => return Err(Some(p)),
            Message::Launching => {}
        }
    }
    Err(None)
}

impl Elevated {
    /// The same process, root already, as the side that launches.
    ///
    /// # Errors
    /// It ended instead.
    pub fn launcher(mut self) -> Result<RoleProcess> {
        let ended = || Problem::new("the root side ended without becoming the launcher");
        let mut side = self.0.take().ok_or_else(ended)?;
        writeln!(side.stdin, "{LAUNCH}").doing(|| "ask for the launcher".into())?;
        match side.recv() {
            Some(Message::Launching) => Ok(side),
            Some(Message::Failed(p)) => Err(p),
            _ => Err(ended()),
        }
    }
}

impl Drop for Elevated {
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
