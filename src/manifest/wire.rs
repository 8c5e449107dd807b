//! The form of comfy.toml on disk. Everything is optional here; [`crate::manifest::validate`] knows
//! defaults and rules.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlManifest {
    pub version: Option<i64>,
    #[serde(default)]
    pub host: TomlHost,
    pub comfyui: Option<TomlComfyui>,
    #[serde(default)]
    pub python: TomlPython,
    #[serde(default)]
    pub nodes: BTreeMap<String, TomlNode>,
    #[serde(default)]
    pub models: BTreeMap<String, TomlModel>,
    #[serde(default)]
    pub shares: BTreeMap<String, TomlShare>,
    #[serde(default)]
    pub run: TomlRun,
    #[serde(default)]
    pub network: TomlNetwork,
    #[serde(default)]
    pub policy: TomlPolicy,
    #[serde(default)]
    pub hosts: BTreeMap<String, TomlOverlay>,
}

/// What `[hosts.NAME]` may contain: nothing that would need another lock.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[expect(
    dead_code,
    reason = "parsed for its errors; the values are merged as TOML"
)]
pub(crate) struct TomlOverlay {
    host: Option<TomlHost>,
    comfyui: Option<OverlayComfyui>,
    shares: Option<BTreeMap<String, TomlShare>>,
    run: Option<TomlRun>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[expect(
    dead_code,
    reason = "parsed for its errors; the values are merged as TOML"
)]
pub(crate) struct OverlayComfyui {
    view: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlHost {
    pub primary_user: Option<String>,
    pub sandbox_user: Option<String>,
    pub group: Option<String>,
    pub gid: Option<i64>,
    pub adopt: Option<bool>,
    pub isolation: Option<String>,
    pub prefix: Option<String>,
    pub accelerator: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlComfyui {
    pub repo: Option<String>,
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    pub view: Option<String>,
    pub listen: Option<String>,
    pub allow_remote: Option<bool>,
    pub port: Option<i64>,
    pub args: Option<Vec<String>>,
    pub writable: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlPython {
    pub version: Option<String>,
    pub requirements: Option<Vec<String>>,
    pub overrides: Option<Vec<String>>,
    pub minimum_age: Option<String>,
    pub platforms: Option<Vec<String>>,
    pub indexes: Option<Vec<TomlIndex>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlIndex {
    pub name: String,
    pub url: String,
    pub packages: Vec<String>,
    pub platforms: Option<Vec<String>>,
    pub accelerators: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlNode {
    pub repo: Option<String>,
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    pub enabled: Option<bool>,
    pub note: Option<String>,
    pub writable: Option<Vec<String>>,
    pub ignore_requirements: Option<Vec<String>>,
    pub exclude: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlModel {
    pub share: Option<String>,
    pub source: Option<String>,
    pub sha256: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlShare {
    pub path: Option<String>,
    pub mount: Option<String>,
    pub models: Option<BTreeMap<String, OneOrMany>>,
    pub access: Option<String>,
    pub requires_mount: Option<String>,
    pub manage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a folder, or a list of folders")]
pub(crate) enum OneOrMany {
    One(String),
    Some(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlRun {
    pub open_files: Option<i64>,
    pub memory_reserve: Option<String>,
    pub passwordless: Option<bool>,
    pub boot: Option<bool>,
    pub env: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlNetwork {
    pub egress: Option<toml::Value>,
    pub clients: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlPolicy {
    pub scan: Option<String>,
    pub review: Option<String>,
    pub confinement: Option<String>,
    pub accept: Option<Vec<TomlAccept>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TomlAccept {
    pub node: String,
    pub rule: String,
    pub path: String,
    pub reason: String,
}
