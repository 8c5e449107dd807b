//! The owner's side of a launch: starts the launcher, asks, hears its first answer.

use std::io::Write;

use super::{LaunchAnswer, LaunchRequest};
use crate::desired::InstancePaths;
use crate::host::roles::spawn::RoleProcess;
use crate::host::{elevate, signals};
use crate::problem::{Context, Problem, Result};

/// A launcher that answered: words go to its stdin, whose end means to stop.
pub struct LaunchHandle {
    pub answer: LaunchAnswer,
    pub side: RoleProcess,
}

/// # Errors
/// What the launcher says, or that it ended without a word.
pub fn request_launch(
    request: &LaunchRequest,
    paths: &InstancePaths,
    isolated: bool,
) -> Result<LaunchHandle> {
    send_request(
        request,
        elevate::launch_side(
            &request.instance,
            paths,
            isolated,
            crate::render::print_note,
        )?,
    )
}

/// Asks a launcher that was started already.
///
/// # Errors
/// As [`request_launch`].
pub fn send_request(request: &LaunchRequest, mut side: RoleProcess) -> Result<LaunchHandle> {
    let text = serde_json::to_string(request).context("ask the launcher")?;
    // One that ended already says why on its own.
    let _ = writeln!(side.stdin, "{text}");
    match side.recv() {
        Some(LaunchAnswer::Failed(p)) => {
            let _ = side.child.wait();
            Err(p)
        }
        Some(answer) => Ok(LaunchHandle { answer, side }),
        None => {
            drop(side.stdin);
            let status = side.child.wait().context("wait for the launcher")?;
            Err(if signals::is_interrupted() {
                Problem::interrupted()
            } else {
                Problem::new(format!("the launcher ended without an answer ({status})"))
                    .with_hint("did sudo refuse?")
            })
        }
    }
}
