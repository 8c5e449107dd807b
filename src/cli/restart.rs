use super::GlobalArgs;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::render;

/// End ComfyUI if it runs, and start what was applied last
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy restart               after an apply that moved code")]
pub struct RestartArgs {
    /// Flags for ComfyUI, after those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(global: &GlobalArgs, args: &RestartArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    if super::stop::stop_instance(&desired.paths)? {
        render::print_note("ComfyUI has ended.");
    }
    super::start::start_and_wait(&project, &desired, &args.args)
}
