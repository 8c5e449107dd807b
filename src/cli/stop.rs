use super::Global;
use super::project::Project;
use crate::plan::desired::Paths;
use crate::problem::Result;
use crate::render;
use crate::run::{control, live};

/// End ComfyUI: gently, and after ten seconds for certain
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy stop                  a second Ctrl-C meanwhile ends it at once")]
pub struct Args {}

pub fn run(global: &Global, _: &Args) -> Result<u8> {
    let desired = Project::open(global)?.desired()?;
    render::note(if stop(&desired.paths)? { "ComfyUI has ended." } else { "ComfyUI does not run." });
    Ok(0)
}

/// Whether there was something to end.
///
/// # Errors
/// It does not listen to us.
pub fn stop(paths: &Paths) -> Result<bool> {
    if live::read(paths).is_none() {
        return Ok(false);
    }
    control::end(paths)?;
    Ok(true)
}
