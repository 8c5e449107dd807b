use std::path::PathBuf;

use super::Global;
use crate::desired::Paths;
use crate::launch::control;
use crate::problem::Result;
use crate::project::Project;
use crate::records::running;
use crate::render;

/// End ComfyUI: gently, and after ten seconds for certain
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy stop                  a second Ctrl-C meanwhile ends it at \
        once"
)]
pub struct Args {}

pub fn run(global: &Global, _: &Args) -> Result<u8> {
    let paths = match Project::open(global).and_then(|p| p.desired()) {
        Ok(desired) => desired.paths,
        // A mistake in comfy.toml is no reason to let it run: what the caller may end is found by
        // its records.
        Err(p) => match &running()[..] {
            [one] => {
                render::problem(&p);
                one.clone()
            }
            _ => return Err(p),
        },
    };
    render::note(if stop(&paths)? {
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
pub fn stop(paths: &Paths) -> Result<bool> {
    if running::read(paths).is_none() {
        return Ok(false);
    }
    control::end(paths)?;
    Ok(true)
}

/// What runs on this machine under accounts of its own, as far as the caller may see the records.
fn running() -> Vec<Paths> {
    let all = Paths::records_of("", cfg!(target_os = "macos"));
    let of = |records: PathBuf| Paths {
        prefix: PathBuf::new(),
        base: PathBuf::new(),
        records,
        home: None,
    };
    let there = std::fs::read_dir(all).into_iter().flatten().flatten();
    there
        .map(|e| of(e.path()))
        .filter(|paths| running::read(paths).is_some())
        .collect()
}
