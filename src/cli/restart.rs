use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::problem::Result;
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
    let target = LaunchTarget::open(global)?;
    if super::stop::stop_instance(&target.paths)? {
        render::print_note("ComfyUI has stopped.");
    }
    super::start::start_and_wait(&target, &args.args)
}
