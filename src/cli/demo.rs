use std::path::PathBuf;

use crate::demo::{self, DemoOptions};
use crate::problem::Result;

/// Show the whole cycle on an embedded example, without root and network
///
/// Creates a folder with a miniature ComfyUI, two nodes and a dotfiles repository, and runs the
/// real comfy on them: init, lock, plan, apply, drift, update and rollback. Nothing outside the
/// folder is changed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy demo                  in a temporary folder, deleted at the \
        end\n  comfy demo --keep           keeps the folder, so that you can look around\n  comfy \
        demo --dir ~/demo     in this folder, which is kept"
)]
pub(crate) struct DemoArgs {
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
    /// Use this folder, which must be empty or absent, and keep it
    // Not called `dir`, because clap would confuse it with the global -C.
    #[arg(long = "dir", value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: &DemoArgs) -> Result<u8> {
    demo::run(&DemoOptions {
        keep: args.keep,
        dir: args.folder.clone(),
    })?;
    Ok(0)
}
