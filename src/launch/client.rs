//! The owner's side of a launch: starts the launcher, sends the request, and reads the first
//! answer.

use std::io::Write;

use super::{LaunchAnswer, LaunchRequest};
use crate::desired::InstancePaths;
use crate::host::roles::spawn::RoleProcess;
use crate::host::{elevate, signals};
use crate::problem::{Context, Problem, Result};

/// A launcher that has answered: commands go to its stdin, and closing stdin stops the launch.
pub(crate) struct LaunchHandle {
    pub answer: LaunchAnswer,
    pub side: RoleProcess,
}

/// # Errors
/// The launcher's error, or that it exited without an answer.
pub(crate) fn request_launch(
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

/// Sends the request to a launcher that is already running.
///
/// # Errors
/// As [`request_launch`].
pub(crate) fn send_request(request: &LaunchRequest, mut side: RoleProcess) -> Result<LaunchHandle> {
    let text = serde_json::to_string(request).context("send the request to the launcher")?;
    // A launcher that has exited has already said why.
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
                Problem::new(format!(
                    "sudo failed, or the launcher exited without an answer ({status})"
                ))
                .with_hint("the lines above may say why")
            })
        }
    }
}
