//! The network as comfy itself uses it: HTTP, mirrors, and where a server may send it.

pub mod http;
pub(crate) mod interfaces;
pub(crate) mod mirrors;
pub(crate) mod nearness;
pub(crate) mod redirect;

use std::collections::BTreeMap;

use mirrors::MirrorRules;

/// What a fetch may know about the caller's environment: mirrors, proxies and certificates, nothing
/// else.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct NetEnv {
    pub mirrors: MirrorRules,
    /// Allow-listed variables, see [`crate::host::env::net_env`].
    pub vars: BTreeMap<String, String>,
}

impl NetEnv {
    /// The index that is asked where a package names none, as uv takes it.
    pub(crate) fn default_index(&self) -> &str {
        ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]
            .iter()
            .find_map(|n| self.vars.get(*n))
            .map_or("https://pypi.org/simple", String::as_str)
    }

    /// The seconds without a byte after which comfy gives up on a server.
    pub(crate) fn stall_timeout(&self) -> u64 {
        self.vars
            .get("COMFY_STALL_SECONDS")
            .and_then(|s| s.parse().ok())
            .filter(|s| (1..=3600).contains(s))
            .unwrap_or(30)
    }
}
