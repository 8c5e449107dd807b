//! Functions and modules of others that a node replaces by its own.

use super::imports::PY_IMPORT_HOOK;
use crate::scan::python::source::Hit;
use crate::scan::python::values::{Value, What};

/// Modules whose functions see what all of ComfyUI reads, loads, sends or names.
const WATCHED: &[&str] = &[
    "json",
    "os",
    "os.path",
    "socket",
    "ssl",
    "subprocess",
    "pickle",
    "importlib",
    "urllib.request",
    "http.client",
    "hashlib",
    "shutil",
    "requests",
    "requests.Session",
    "requests.sessions.Session",
    "httpx",
    "aiohttp.ClientSession",
    "huggingface_hub",
    "safetensors",
    "safetensors.torch",
    "folder_paths",
    "server.PromptServer",
    "server.PromptServer.instance",
    "execution.PromptExecutor",
    "socket.socket",
];

/// Single functions of larger libraries.
const WATCHED_FUNCTIONS: &[&str] = &[
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.serialization.load",
    "numpy.load",
    "io.open",
    "builtins.open",
    "yaml.safe_load",
    "comfy.utils.load_torch_file",
    "nodes.load_custom_node",
];

/// Modules that an entry of `sys.modules` must not stand for.
const IMPERSONATED: &[&str] = &[
    "os",
    "sys",
    "io",
    "re",
    "ast",
    "json",
    "time",
    "socket",
    "ssl",
    "subprocess",
    "builtins",
    "pickle",
    "hashlib",
    "hmac",
    "secrets",
    "random",
    "logging",
    "shutil",
    "importlib",
    "urllib",
    "urllib.request",
    "http.client",
    "requests",
    "urllib3",
    "httpx",
    "aiohttp",
    "torch",
    "numpy",
    "yaml",
    "PIL",
    "PIL.Image",
    "safetensors",
    "safetensors.torch",
    "huggingface_hub",
    "transformers",
    "folder_paths",
    "server",
    "execution",
    "nodes",
    "comfy.utils",
    "comfy.sd",
];

/// What it shows that `of.name` becomes a function of the node.
pub(in crate::scan::python) fn replaced_function(
    of: &str,
    name: &str,
    value: &Value,
) -> Option<Hit> {
    let own = value.alternatives().iter().any(|what| {
        matches!(
            what,
            What::Function(_) | What::Method(..) | What::Class(_) | What::Partial(..)
        )
    });
    if !own {
        return None;
    }
    let full = format!("{of}.{name}");
    let watched = WATCHED.contains(&of) || WATCHED_FUNCTIONS.contains(&full.as_str());
    watched.then(|| {
        Hit::of(
            &PY_IMPORT_HOOK,
            format!("{full} of every module is replaced by a function of the node."),
        )
    })
}

/// What `sys.modules[module] = …` shows.
pub(in crate::scan::python) fn replaced_module(module: &str) -> Option<Hit> {
    IMPERSONATED.contains(&module).then(|| {
        Hit::of(
            &PY_IMPORT_HOOK,
            format!("Every import of {module} gives another module from here on."),
        )
    })
}
