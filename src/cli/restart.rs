use super::GlobalArgs;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;

/// Stop ComfyUI if it is running, and start what was applied last
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy restart               after an apply that changed code")]
pub(crate) struct RestartArgs {
    /// Flags for ComfyUI, added to those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &RestartArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    if super::stop::stop_instance(&desired.paths)? {
        render::print_note("ComfyUI has stopped.");
    }
    super::start::start_and_wait(&project, &desired, &args.args)
}
