//! The owner's side of the protocol: starts the root side, shows what it says, answers what it asks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};

use super::protocol::{GO, Message, Request};
use super::session::Outcome;
use crate::host::progress::{Progress, Reporter};
use crate::plan::Plan;
use crate::problem::{Doing, Problem, Result};

/// Has the root side do `request`. `approve` is asked when it sends a plan of its own.
///
/// # Errors
/// What the root side says, or that it ended without a word.
pub fn run(request: &Request, report: &dyn Reporter, approve: &mut dyn FnMut(&Plan) -> Result<()>) -> Result<Outcome> {
    let mut child = crate::host::elevate::root_side()?;
    let result = converse(&mut child, request, report, approve);
    // With its stdin closed it gives up where it was still waiting for an answer.
    drop(child.stdin.take());
    let status = child.wait().doing(|| "wait for the root side".into())?;
    match result {
        Err(None) if crate::host::signals::interrupted() => Err(Problem::interrupted()),
        Err(None) => Err(Problem::new(format!("the root side ended without an answer ({status})"))
            .hint("did sudo refuse? otherwise `comfy plan` shows where the machine stands")),
        Err(Some(p)) => Err(p),
        Ok(o) => Ok(o),
    }
}

fn converse(
    child: &mut std::process::Child,
    request: &Request,
    report: &dyn Reporter,
    approve: &mut dyn FnMut(&Plan) -> Result<()>,
) -> Result<Outcome, Option<Problem>> {
    let mut stdin = child.stdin.take().ok_or(None)?;
    let stdout = child.stdout.take().ok_or(None)?;
    let text = serde_json::to_string(request).map_err(|e| Some(Problem::new(e.to_string())))?;
    writeln!(stdin, "{text}").map_err(|_| None)?;
    let mut jobs: BTreeMap<String, Box<dyn Progress>> = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|_| None)?;
        // Whatever sudo or PAM prints on stdout is not ours.
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        match message {
            Message::Approve(plan) => {
                approve(&plan).map_err(Some)?;
                writeln!(stdin, "{GO}").map_err(|_| None)?;
            }
            Message::Progress { job, unit, at, total } => jobs.entry(job.clone()).or_insert_with(|| report.work(&job, unit)).at(at, total),
            Message::Say(line) => report.say(&line),
            Message::Step(address) => report.step(&address),
            Message::Done(outcome) => return Ok(outcome),
            Message::Failed(p) => return Err(Some(p)),
        }
    }
    Err(None)
}
