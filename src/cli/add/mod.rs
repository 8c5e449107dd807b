mod model;
mod node;
mod share;
mod workflow;
mod workflow_models;

use std::path::{Path, PathBuf};

use super::GlobalArgs;
use crate::problem::{Context, Result};
use crate::project::ComfyProject;

/// Add a node, a model or a share to comfy.toml, keeping its comments
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy add node https://github.com/ltdrdata/ComfyUI-Impact-Pack\n  \
        comfy add node ltdrdata/ComfyUI-Impact-Pack --ref 8.28 --name impact-pack\n  comfy add node \
        comfyui-kjnodes@1.0.5         from the registry of nodes\n  comfy add node \
        ~/src/my-node                 a folder of your own\n  comfy add \
        model checkpoints/sd15.safetensors --source hf://org/repo/sd15.safetensors\n  comfy add \
        model loras/mine.safetensors       adopts an existing file\n  comfy add model \
        --all                        adopts every model in the model shares\n  comfy add share \
        output ~/ai/output --access write\n  comfy add --workflow picture.png             what a workflow names"
)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct AddArgs {
    #[command(subcommand)]
    what: Option<AddTarget>,
    #[command(flatten)]
    workflow: workflow::WorkflowArgs,
}

#[derive(clap::Subcommand)]
enum AddTarget {
    /// Add one node
    Node(node::NodeArgs),
    /// Add one model, or every model found in the shares
    Model(model::ModelArgs),
    /// Add one shared folder
    Share(share::ShareArgs),
}

pub(crate) fn run(global: &GlobalArgs, args: &AddArgs) -> Result<u8> {
    match &args.what {
        Some(AddTarget::Node(a)) => node::run(global, a),
        Some(AddTarget::Model(a)) => model::run(global, a),
        Some(AddTarget::Share(a)) => share::run(global, a),
        None => workflow::run(global, &args.workflow),
    }
}

/// Returns the home of the owner that comfy.toml names, if there is such an account.
fn owner_home(global: &GlobalArgs) -> Result<Option<PathBuf>> {
    Ok(ComfyProject::open(global)?.owner().ok().map(|o| o.home))
}

/// A path of the command line as comfy.toml names it: whole, and below the owner's home by `~`, so
/// that other machines find it too.
fn manifest_path(given: &str, home: Option<&Path>) -> Result<String> {
    if given.starts_with("~/") {
        return Ok(given.to_string());
    }
    let here = std::env::current_dir().context("find the current folder")?;
    let whole = here.join(given);
    // What does not exist yet is taken as it is written.
    let whole = whole
        .canonicalize()
        .unwrap_or_else(|_| crate::host::fs::clean_path(&whole));
    let real_home = home.and_then(|h| h.canonicalize().ok());
    let below = real_home.and_then(|h| Some(whole.strip_prefix(&h).ok()?.to_path_buf()));
    Ok(match below {
        Some(below) => format!("~/{}", below.display()),
        None => whole.display().to_string(),
    })
}
