mod model;
mod node;
mod share;

use super::GlobalArgs;
use crate::problem::Result;

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
        output ~/ai/output --access write"
)]
pub(crate) struct AddArgs {
    #[command(subcommand)]
    what: AddTarget,
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
        AddTarget::Node(a) => node::run(global, a),
        AddTarget::Model(a) => model::run(global, a),
        AddTarget::Share(a) => share::run(global, a),
    }
}
