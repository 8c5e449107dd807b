//! The format of comfy.lock on disk: TOML, sorted, one table per entry, so that merges stay
//! readable.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub(crate) use crate::lock::wire::read::parse_lock;
pub(crate) use crate::lock::wire::write::render_lock;

/// The newest format: 2 has nodes of the registry and of folders, reviews, publishers of packages,
/// and the BLAKE3 of models.
const VERSION: i64 = 2;
const OLDEST_VERSION: i64 = 1;
const AGAIN: &str = "restore it from git (after a merge conflict, take one side completely), then \
    run `comfy lock`; deleting it would move every pin";
const HEADER: &str =
    "# Made by `comfy lock`. Commit it beside comfy.toml; comfy alone writes it.\n";

#[derive(Deserialize)]
struct VersionOnly {
    version: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLock {
    version: i64,
    comfyui: WirePin,
    #[serde(default)]
    nodes: BTreeMap<String, WirePin>,
    python: Option<WirePython>,
    #[serde(default)]
    models: BTreeMap<String, WireModel>,
    #[serde(default)]
    reviews: BTreeMap<String, WireReview>,
    #[serde(default)]
    accepted: Vec<WireAccepted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReview {
    kind: String,
    commit: String,
    tree: String,
    content: String,
    by: String,
    at: String,
    #[serde(default)]
    capabilities: BTreeMap<String, u64>,
    #[serde(default)]
    critical: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAccepted {
    node: String,
    rule: String,
    path: String,
    reason: String,
    #[serde(default)]
    findings: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireModel {
    source: Option<String>,
    revision: Option<String>,
    etag: Option<String>,
    size: u64,
    sha256: String,
    blake3: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePython {
    version: String,
    managed: Option<String>,
    #[serde(default)]
    requirements: Vec<String>,
    #[serde(default)]
    overrides: Vec<String>,
    platforms: Option<Vec<String>>,
    #[serde(default)]
    indexes: Vec<WireIndex>,
    #[serde(default)]
    wheels: Vec<String>,
    #[serde(default)]
    allow_pth: Vec<String>,
    #[serde(default)]
    packages: Vec<WirePackage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIndex {
    name: String,
    url: String,
    packages: Vec<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    accelerators: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePackage {
    name: String,
    version: String,
    index: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    accelerators: Vec<String>,
    marker: Option<String>,
    by: Vec<String>,
    publisher: Option<String>,
    wheels: Vec<WireWheel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireWheel {
    file: String,
    sha256: String,
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePin {
    repo: String,
    #[serde(rename = "ref")]
    git_ref: String,
    commit: String,
    tree: String,
    registry_version: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    status: Option<String>,
    #[serde(default)]
    requirements: Vec<String>,
    #[serde(default)]
    ignore_requirements: Vec<String>,
    requirements_files: Option<Vec<String>>,
    #[serde(default)]
    excluded: Vec<WireExcluded>,
    #[serde(default)]
    submodules: Vec<WireSubmodule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireExcluded {
    path: String,
    mode: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSubmodule {
    path: String,
    repo: String,
    commit: String,
    tree: String,
}
