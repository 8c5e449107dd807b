use std::path::PathBuf;

use super::GlobalArgs;
use crate::desired::InstancePaths;
use crate::launch::control;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::records::{self, running};
use crate::render;

/// Stop ComfyUI; kill it if it has not exited after ten seconds
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy stop                  a second Ctrl-C kills it at once")]
pub(crate) struct StopArgs {}

pub(crate) fn run(global: &GlobalArgs, _: &StopArgs) -> Result<u8> {
    let paths = match ComfyProject::open(global).and_then(|p| super::desired_state(&p)) {
        Ok(desired) => desired.paths,
        // A mistake in comfy.toml must not prevent a stop: the records show what the caller may
        // stop.
        Err(p) => match &running_instances()[..] {
            [one] => {
                render::print_problem(&p);
                one.clone()
            }
            _ => return Err(p),
        },
    };
    render::print_note(if stop_instance(&paths)? {
        "ComfyUI has stopped."
    } else {
        "ComfyUI is not running."
    });
    Ok(0)
}

/// Stops the instance and returns whether it was running.
///
/// # Errors
/// The launcher does not take the command.
pub(crate) fn stop_instance(paths: &InstancePaths) -> Result<bool> {
    if running::read_running(paths).is_none() {
        return Ok(false);
    }
    control::send_stop(paths)?;
    Ok(true)
}

/// Returns the running instances with separate accounts on this machine, as far as the caller may
/// read the records.
fn running_instances() -> Vec<InstancePaths> {
    let of = |records: PathBuf| InstancePaths {
        prefix: PathBuf::new(),
        base: PathBuf::new(),
        records,
        home: None,
    };
    records::record_folders()
        .map(of)
        .filter(|paths| running::read_running(paths).is_some())
        .collect()
}
