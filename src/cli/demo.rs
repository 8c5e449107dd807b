use std::path::PathBuf;

use crate::demo::{self, DemoOptions};
use crate::problem::Result;

/// Show the whole loop on an embedded example: no root, no network
///
/// Makes a folder with a miniature ComfyUI, two nodes and a dotfiles repository, and runs the real
/// comfy on them: init, lock, plan, apply, a change behind its back, an update, and the way back.
/// Nothing outside of the folder is touched.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy demo                  in a temporary folder, deleted at the \
        end\n  comfy demo --keep           leaves it, to look around in\n  comfy demo --dir \
        ~/demo     in this folder, which stays"
)]
pub struct DemoArgs {
    /// Leave the temporary folder there
    #[arg(long)]
    keep: bool,
    /// Work in this folder, which must be empty or not there yet, and leave it there
    // Not called `dir`: the global -C is, and clap would take the two for one.
    #[arg(long = "dir", value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub fn run(args: &DemoArgs) -> Result<u8> {
    demo::run(&DemoOptions {
        keep: args.keep,
        dir: args.folder.clone(),
    })?;
    Ok(0)
}
