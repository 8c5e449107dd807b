//! The owner's side of a launch: starts the launcher, asks, hears its first answer.

use std::io::Write;

use super::{Answer, Request};
use crate::desired::Paths;
use crate::host::elevate;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::problem::{Doing, Problem, Result};

/// A launcher that answered: words go to its stdin, whose end means to stop.
pub struct Asked {
    pub answer: Answer,
    pub side: RoleProcess,
}

/// # Errors
/// What the launcher says, or that it ended without a word.
pub fn ask(request: &Request, paths: &Paths, isolated: bool) -> Result<Asked> {
    put(
        request,
        elevate::launch_side(&request.instance, paths, isolated)?,
    )
}

/// Asks a launcher that was started already.
///
/// # Errors
/// As [`ask`].
pub fn put(request: &Request, mut side: RoleProcess) -> Result<Asked> {
    let text = serde_json::to_string(request).doing(|| "ask the launcher".into())?;
    // One that ended already says why on its own.
    let _ = writeln!(side.stdin, "{text}");
    match side.recv() {
        Some(Answer::Failed(p)) => {
            let _ = side.child.wait();
            Err(p)
        }
        Some(answer) => Ok(Asked { answer, side }),
        None => {
            drop(side.stdin);
            let status = side.child.wait().doing(|| "wait for the launcher".into())?;
            Err(if signals::interrupted() {
                Problem::interrupted()
            } else {
                Problem::new(format!("the launcher ended without an answer ({status})"))
                    .hint("did sudo refuse?")
            })
        }
    }
}
