use super::Global;
use crate::problem::Result;
use crate::project::Project;
use crate::render;

/// End ComfyUI if it runs, and start what was applied last
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy restart               after an apply that moved code")]
pub struct Args {
    /// Flags for ComfyUI, after those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    if super::stop::stop(&desired.paths)? {
        render::note("ComfyUI has ended.");
    }
    super::start::start(&project, &desired, &args.args)
}
