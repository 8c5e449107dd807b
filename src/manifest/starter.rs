//! The commented comfy.toml that `comfy init` writes.

use super::IsolationMode;
use super::node_advice::KNOWN;

/// What a starter says of its machine.
pub(crate) struct StarterChoices<'a> {
    /// `None`: the reader has to write who it is.
    pub primary_user: Option<&'a str>,
    pub isolation: IsolationMode,
    /// The folder of the shares. With accounts of its own it is outside the home, where no parent
    /// folder needs an ACL entry.
    pub shared_root: &'a str,
}

/// Returns a starter for a machine.
pub(crate) fn starter_text(choices: &StarterChoices) -> String {
    let shared_root = choices.shared_root;
    let primary_user = match choices.primary_user {
        Some(name) => format!("{:<34}#", format!("primary_user = \"{name}\"")),
        None => format!("{:<34}#", "# primary_user = \"…\""),
    };
    let isolation = match choices.isolation {
        IsolationMode::None => {
            "isolation    = \"none\"            # no second account; nothing is protected"
        }
        IsolationMode::Account => {
            "# isolation  = \"none\"            # no second account, no root; nothing is protected"
        }
    };
    let commented = |text: String| {
        text.lines()
            .map(|l| format!("# {}\n", l.trim_start_matches("# ")))
            .collect::<String>()
    };
    let known = KNOWN
        .iter()
        .map(|k| commented(k.manifest_section()))
        .collect::<Vec<_>>()
        .join("\n");
    format!(
        r#"#:schema ./comfy.schema.json
# The setup you want. `comfy lock` pins it; `comfy plan` shows what would change on this machine; `comfy apply` changes it.
version = 1

[host]
{primary_user} whose files are protected, and who owns the shares
sandbox_user = "comfyui_sandbox"  # the account that ComfyUI runs as
group        = "comfyshared"      # the group that both accounts share
{isolation}

[comfyui]
repo = "https://github.com/Comfy-Org/ComfyUI"
ref  = "v0.3.64"                  # a tag, a branch, or a commit of 40 digits
# writable = ["web/extensions"]   # for nodes that put files there, such as Custom-Scripts
# view = "~/ComfyUI"              # a link to the live code, for reading and scanning

# [python]
# version = "3.12"                # `comfy lock` pins the rest; comfy installs an interpreter if the system has none that fits

# One section for each node; the name is its folder under custom_nodes/.
# [nodes.comfyui-kjnodes]
# repo = "https://github.com/kijai/ComfyUI-KJNodes"
# ref  = "main"
#
# These nodes need more than that; `comfy run` reports what others need:
#
{known}
# Folders that both accounts use. Outside your home, so that nothing in it needs to be opened.
[shares.models]
path   = "{shared_root}/models"
mount  = "models"
access = "read"                   # the sandbox cannot change a model

# For models stored elsewhere, such as on a NAS or in another program's folder, say which folder holds which kind of model.
# [shares.a1111]
# path   = "/srv/stable-diffusion-webui"
# models = {{ checkpoints = "models/Stable-diffusion", loras = ["models/Lora", "models/LyCORIS"], embeddings = "embeddings" }}
# manage = false                  # read it as it is: comfy does not set groups and modes in it
# requires_mount = "/mnt/nas"     # if it is on a volume that may be absent

[shares.input]
path   = "{shared_root}/input"
mount  = "input"
access = "write"

[shares.output]
path   = "{shared_root}/output"
mount  = "output"
access = "write"

[shares.workflows]
path   = "{shared_root}/workflows"
mount  = "user/default/workflows"
access = "write"

# [run]
# memory_reserve = "4 GiB"        # kept for the system
# passwordless   = true           # sudo starts ComfyUI without your password, through one rule for one program that root owns
# boot           = true           # systemd or launchd starts ComfyUI at boot
"#
    )
}
