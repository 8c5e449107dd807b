use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::desired::InstancePaths;
use crate::launch::control;
use crate::problem::Result;
use crate::records::running;
use crate::render;

/// Stop ComfyUI; kill it if it has not exited after ten seconds
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy stop                  a second Ctrl-C kills it at once")]
pub(crate) struct StopArgs {}

pub(crate) fn run(global: &GlobalArgs, _: &StopArgs) -> Result<u8> {
    let target = LaunchTarget::open_applied(global)?;
    render::print_note(if stop_instance(&target.paths)? {
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
