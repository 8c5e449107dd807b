use std::path::PathBuf;

use super::GlobalArgs;
use crate::desired::InstancePaths;
use crate::launch::control;
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::records::running;
use crate::render;

/// End ComfyUI: gently, and after ten seconds for certain
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy stop                  a second Ctrl-C meanwhile ends it at \
        once"
)]
pub struct StopArgs {}

pub fn run(global: &GlobalArgs, _: &StopArgs) -> Result<u8> {
    let paths = match ComfyProject::open(global).and_then(|p| super::desired_state(&p)) {
        Ok(desired) => desired.paths,
        // A mistake in comfy.toml is no reason to let it run: what the caller may end is found by
        // its records.
        Err(p) => match &running_instances()[..] {
            [one] => {
                render::print_problem(&p);
                one.clone()
            }
            _ => return Err(p),
        },
    };
    render::print_note(if stop_instance(&paths)? {
        "ComfyUI has ended."
    } else {
        "ComfyUI does not run."
    });
    Ok(0)
}

/// Whether there was something to end.
///
/// # Errors
/// It does not listen to us.
pub fn stop_instance(paths: &InstancePaths) -> Result<bool> {
    if running::read_running(paths).is_none() {
        return Ok(false);
    }
    control::send_stop(paths)?;
    Ok(true)
}

/// What runs on this machine under accounts of its own, as far as the caller may see the records.
fn running_instances() -> Vec<InstancePaths> {
    let all = InstancePaths::records_of("", cfg!(target_os = "macos"));
    let of = |records: PathBuf| InstancePaths {
        prefix: PathBuf::new(),
        base: PathBuf::new(),
        records,
        home: None,
    };
    let there = std::fs::read_dir(all).into_iter().flatten().flatten();
    there
        .map(|e| of(e.path()))
        .filter(|paths| running::read_running(paths).is_some())
        .collect()
}
