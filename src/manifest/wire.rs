//! The form of comfy.toml on disk. Everything is optional here; [`crate::manifest::validate`] knows
//! defaults and rules.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlManifest {
    /// The version of this format: 1.
    #[schemars(extend("enum" = [1]))]
    pub version: Option<i64>,
    /// This machine: who uses ComfyUI, and as whom it runs.
    #[serde(default)]
    pub host: TomlHost,
    /// ComfyUI itself.
    pub comfyui: Option<TomlComfyui>,
    /// The Python version and the packages.
    #[serde(default)]
    pub python: TomlPython,
    /// Custom nodes. The name is the folder under custom_nodes/.
    #[serde(default)]
    pub nodes: BTreeMap<String, TomlNode>,
    /// Models that comfy fetches and checks. The name is the path in the share.
    #[serde(default)]
    pub models: BTreeMap<String, TomlModel>,
    /// Folders that both accounts use.
    #[serde(default)]
    pub shares: BTreeMap<String, TomlShare>,
    /// How ComfyUI is started.
    #[serde(default)]
    pub run: TomlRun,
    /// Who reaches ComfyUI, and what it reaches.
    #[serde(default)]
    pub network: TomlNetwork,
    /// What happens if a rule is not met.
    #[serde(default)]
    pub policy: TomlPolicy,
    /// Settings for the machine of that name only; they replace those above.
    #[serde(default)]
    pub hosts: BTreeMap<String, TomlOverlay>,
}

/// What `[hosts.NAME]` may contain: nothing that would need another lock.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[expect(
    dead_code,
    reason = "parsed for its errors; the values are merged as TOML"
)]
pub(crate) struct TomlOverlay {
    /// As [host].
    host: Option<TomlHost>,
    /// `view` and `port` of [comfyui].
    comfyui: Option<OverlayComfyui>,
    /// As [shares.NAME]; only what is written replaces.
    shares: Option<BTreeMap<String, TomlShare>>,
    /// As [run].
    run: Option<TomlRun>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[expect(
    dead_code,
    reason = "parsed for its errors; the values are merged as TOML"
)]
pub(crate) struct OverlayComfyui {
    /// A link to the live code on that machine.
    view: Option<String>,
    /// The port on that machine.
    port: Option<i64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlHost {
    /// The account of the person who uses ComfyUI, whose files are protected and who owns the
    /// shares. Default: whoever runs comfy, through sudo too.
    #[schemars(extend("examples" = ["alice"]))]
    pub primary_user: Option<String>,
    /// The account that ComfyUI runs as, which comfy creates. It names the instance.
    #[schemars(extend("default" = "comfyui_sandbox"))]
    pub sandbox_user: Option<String>,
    /// The group that both accounts share.
    #[schemars(extend("default" = "comfyshared"))]
    pub group: Option<String>,
    /// The number of the group. Default: that of an existing group, else a free one.
    #[schemars(extend("examples" = [504]))]
    pub gid: Option<i64>,
    /// Whether an existing account of that name may become the sandbox user.
    #[schemars(extend("default" = false))]
    pub adopt: Option<bool>,
    /// "account": a separate account. "none": no second account and no root, and nothing is
    /// protected.
    #[schemars(extend("enum" = ["account", "none"]))]
    #[schemars(extend("default" = "account"))]
    pub isolation: Option<String>,
    /// The folder of code and packages. Default: /opt/comfy; under isolation "none" your data
    /// folder, or /opt/comfy for root.
    #[schemars(extend("examples" = ["/opt/comfy"]))]
    pub prefix: Option<String>,
    /// What the machine computes with: "cpu", "mps", "cuda-X.Y", "rocm-X.Y" or "xpu"; one that
    /// `indexes` name. Default: mps on a Mac, else the indexes without accelerators.
    #[schemars(extend("examples" = ["cuda-12.8"]))]
    pub accelerator: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlComfyui {
    /// The repository.
    #[schemars(extend("examples" = ["https://github.com/Comfy-Org/ComfyUI"]))]
    pub repo: Option<String>,
    /// A tag, a branch, or a commit. Default: the default branch.
    #[serde(rename = "ref")]
    #[schemars(extend("examples" = ["v0.3.64"]))]
    pub git_ref: Option<String>,
    /// A link to the live code, for reading. Default: none.
    #[schemars(extend("examples" = ["~/ComfyUI"]))]
    pub view: Option<String>,
    /// The address to listen on. Not loopback: an error without allow_remote.
    #[schemars(extend("default" = "127.0.0.1"))]
    pub listen: Option<String>,
    /// Whether other machines may connect.
    #[schemars(extend("default" = false))]
    pub allow_remote: Option<bool>,
    /// The port.
    #[schemars(extend("default" = 8188))]
    pub port: Option<i64>,
    /// More flags for ComfyUI; those that comfy sets are refused.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["--lowvram"]]))]
    pub args: Option<Vec<String>>,
    /// Folders of ComfyUI in which nodes may write; kept across updates.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["web/extensions"]]))]
    pub writable: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlPython {
    /// The minor version.
    #[schemars(extend("default" = "3.12"))]
    #[schemars(extend("examples" = ["3.12"]))]
    pub version: Option<String>,
    /// Packages beside those that ComfyUI and the nodes ask for.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["kiui"]]))]
    pub requirements: Option<Vec<String>>,
    /// Requirements that replace all others for the same package; they settle a conflict.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["numpy<2"]]))]
    pub overrides: Option<Vec<String>>,
    /// No release younger than this is locked.
    #[schemars(extend("default" = "3 days"))]
    #[schemars(extend("examples" = ["3 days", "0"]))]
    pub minimum_age: Option<String>,
    /// The machines that the lock serves: "macos-arm64", "linux-x86_64", "linux-aarch64".
    #[schemars(extend("default" = ["macos-arm64", "linux-x86_64"]))]
    pub platforms: Option<Vec<String>>,
    /// Other package indexes, for the packages that they name.
    #[schemars(extend("default" = []))]
    pub indexes: Option<Vec<TomlIndex>>,
    /// Wheels that no index has: folders of yours, and addresses of single wheels, which may end in
    /// `#sha256=…`. On the platforms that its files serve, a package in them comes from nowhere else.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = ["~/wheels"]))]
    pub wheels: Option<OneOrMany>,
    /// Packages that may have code run at every start of Python, by a `.pth` file.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["coverage"]]))]
    pub allow_pth: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlIndex {
    /// A name for messages and for comfy.lock.
    #[schemars(extend("examples" = ["cu128"]))]
    pub name: String,
    /// The address of the index (PEP 503 or 691).
    #[schemars(extend("examples" = ["https://download.pytorch.org/whl/cu128"]))]
    pub url: String,
    /// The packages that come from it.
    #[schemars(extend("examples" = [["torch", "torchvision", "torchaudio"]]))]
    pub packages: Vec<String>,
    /// The platforms that it serves. Default: all; with `accelerators`, those with Linux.
    #[schemars(extend("examples" = [["linux-x86_64"]]))]
    pub platforms: Option<Vec<String>>,
    /// The accelerators of the machines that it serves. Default: machines without one.
    #[schemars(extend("examples" = [["cuda-12.8"]]))]
    pub accelerators: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlNode {
    /// The repository. A node has this, `registry` or `path`.
    #[schemars(extend("examples" = ["https://github.com/kijai/ComfyUI-KJNodes"]))]
    pub repo: Option<String>,
    /// A tag, a branch, or a commit. Default: the default branch.
    #[serde(rename = "ref")]
    #[schemars(extend("examples" = ["main"]))]
    pub git_ref: Option<String>,
    /// The id of a node in the registry of ComfyUI's nodes.
    #[schemars(extend("examples" = ["comfyui-kjnodes"]))]
    pub registry: Option<String>,
    /// Which version of the registry's. Default: the latest.
    #[schemars(extend("examples" = ["1.0.5"]))]
    pub version: Option<String>,
    /// A folder of your own; `~` is the home of the primary user.
    #[schemars(extend("examples" = ["~/src/my-node"]))]
    pub path: Option<String>,
    /// false: locked, and not on the machine.
    #[schemars(extend("default" = true))]
    pub enabled: Option<bool>,
    /// For yourself.
    #[schemars(extend("examples" = ["reviewed in May"]))]
    pub note: Option<String>,
    /// Files or folders of it that it may write; seeded once from the tree and kept across updates;
    /// nothing that holds code.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["wildcards"]]))]
    pub writable: Option<Vec<String>>,
    /// Requirements of it that are left out, by name or as they are written.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["onnxruntime-gpu"]]))]
    pub ignore_requirements: Option<Vec<String>>,
    /// Files of its tree whose requirements are installed; without it requirements.txt.
    #[schemars(extend("default" = ["requirements.txt"]))]
    #[schemars(extend("examples" = [["requirements-no-cupy.txt"]]))]
    pub requirements_files: Option<Vec<String>>,
    /// Files, folders and submodules of its tree that are not installed.
    #[schemars(extend("default" = []))]
    #[schemars(extend("examples" = [["example_workflows"]]))]
    pub exclude: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlModel {
    /// The share that it belongs to.
    #[schemars(extend("default" = "models"))]
    pub share: Option<String>,
    /// Where it comes from: hf://, https://, civitai:, s3://, gs://, az:// or file:. Default: the
    /// file that is there is adopted.
    #[schemars(extend("examples" = ["hf://org/repo/file.safetensors"]))]
    pub source: Option<String>,
    /// The hash that it must have; in comfy.lock anyway.
    pub sha256: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlShare {
    /// The folder, which you own.
    #[schemars(extend("examples" = ["/srv/comfy/models"]))]
    pub path: Option<String>,
    /// Its place in ComfyUI: models, input, output, or user/...
    #[schemars(extend("examples" = ["models"]))]
    pub mount: Option<String>,
    /// Instead of `mount`: which folder in it holds which kind of model.
    #[schemars(extend("examples" = [{"checkpoints": "models/Stable-diffusion"}]))]
    pub models: Option<BTreeMap<String, OneOrMany>>,
    /// What the sandbox user may do: "read", "write", or "add" new files beside yours.
    #[schemars(extend("enum" = ["read", "write", "add"]))]
    #[schemars(extend("default" = "read"))]
    pub access: Option<String>,
    /// A volume that must be mounted; without it nothing is created or started.
    #[schemars(extend("examples" = ["/mnt/nas"]))]
    pub requires_mount: Option<String>,
    /// false: comfy only checks it, and sets no groups and modes.
    #[schemars(extend("default" = true))]
    pub manage: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a string, or a list of strings")]
pub(crate) enum OneOrMany {
    One(String),
    Some(Vec<String>),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlRun {
    /// The limit of open files.
    #[schemars(extend("default" = 20480))]
    pub open_files: Option<i64>,
    /// Memory kept for the system (Linux).
    #[schemars(extend("default" = "4 GiB"))]
    #[schemars(extend("examples" = ["4 GiB"]))]
    pub memory_reserve: Option<String>,
    /// Whether sudo starts ComfyUI without your password.
    #[schemars(extend("default" = false))]
    pub passwordless: Option<bool>,
    /// Whether the system starts ComfyUI at boot.
    #[schemars(extend("default" = false))]
    pub boot: Option<bool>,
    /// The login session on a Mac: "own", or "caller", your own, where Metal computes only there.
    #[schemars(extend("default" = "own"))]
    #[schemars(extend("examples" = ["caller"]))]
    pub session: Option<String>,
    /// Environment variables; none that loads code, no secrets.
    #[schemars(extend("default" = serde_json::json!({})))]
    #[schemars(extend("examples" = [{"PYTORCH_ENABLE_MPS_FALLBACK": "1"}]))]
    pub env: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlNetwork {
    /// What ComfyUI may reach: "deny", "allow", or a list of HOST:PORT.
    #[schemars(extend("default" = "deny"))]
    #[schemars(extend("examples" = [["huggingface.co:443"]]))]
    #[schemars(with = "Option<OneOrMany>")]
    pub egress: Option<toml::Value>,
    /// Who may use ComfyUI: "primary", "any", or with allow_remote a list of addresses.
    #[schemars(extend("default" = "primary"))]
    #[schemars(extend("examples" = [["192.168.1.20"]]))]
    #[schemars(with = "Option<OneOrMany>")]
    pub clients: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlPolicy {
    /// What a finding of the scan does.
    #[schemars(extend("enum" = ["block", "warn", "off"]))]
    #[schemars(extend("default" = "warn"))]
    pub scan: Option<String>,
    /// Whether new code must have been reviewed.
    #[schemars(extend("enum" = ["required", "off"]))]
    #[schemars(extend("default" = "off"))]
    pub review: Option<String>,
    /// Whether ComfyUI starts if the kernel cannot enforce all of the confinement.
    #[schemars(extend("enum" = ["required", "warn"]))]
    #[schemars(extend("default" = "required"))]
    pub confinement: Option<String>,
    /// A program that reads the diff of `comfy review` on stdin and prints findings as JSON; it runs
    /// confined.
    #[schemars(extend("default" = []))]
    pub reviewer: Option<Vec<String>>,
    /// Findings of the scan that are accepted.
    #[schemars(extend("default" = []))]
    pub accept: Option<Vec<TomlAccept>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlAccept {
    /// The node.
    pub node: String,
    /// The rule of the scan.
    pub rule: String,
    /// The file.
    pub path: String,
    /// Why it is accepted.
    pub reason: String,
}
