//! comfy.lock: what is pinned. [`wire`] is the file, [`coverage`] compares it with the manifest,
//! [`resolve`] fills it; [`python`] is what uv is asked and answers; [`resolve::models`] asks hubs
//! and disks for sizes and hashes.

pub(crate) mod coverage;
mod describe;
pub(crate) mod difference;
pub(crate) mod markers;
pub(crate) mod model_pin;
pub(crate) mod newer;
pub(crate) mod publishers;
pub(crate) mod python;
pub(crate) mod requirements;
pub(crate) mod resolve;
pub(crate) mod reviews;
mod sections;
pub(crate) mod tree_facts;
pub(crate) mod uv;
pub(crate) mod wheel_tags;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytestring::ByteString;

use super::manifest::node_source::NodeSource;
use super::manifest::{Table, names};
use super::problem::{ProblemKind, Result};
use super::tree::{ExcludedEntry, ObjectId, TreeExclusions};
pub(crate) use crate::lock::model_pin::{
    Blake3Digest, FileDigests, ModelOrigin, ModelPin, Sha256Digest,
};
pub(crate) use crate::lock::python::{LockedPython, PartRequirements};

/// The name of the file, beside comfy.toml.
pub(crate) const FILE: &str = "comfy.lock";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    pub comfyui: RepositoryPin,
    pub nodes: BTreeMap<String, RepositoryPin>,
    /// What each part asks of Python, by address; those that ask for nothing are not in it.
    pub asks: BTreeMap<String, PartRequirements>,
    /// None in a lock that an older comfy wrote.
    pub python: Option<LockedPython>,
    /// By the path in their share.
    pub models: Table<Arc<ModelPin>>,
    /// What people have accepted of the code.
    pub acceptances: reviews::Acceptances,
}

/// One repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RepositoryPin {
    pub repo: String,
    /// The ref that was asked for.
    pub git_ref: String,
    pub commit: ObjectId,
    pub tree: ObjectId,
    /// Sorted by path; a nested one's path starts at the root of the outermost repository.
    pub submodules: Vec<SubmodulePin>,
    /// What `exclude` leaves out, sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<ExcludedEntry>,
    /// Of a node of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchivePin>,
}

/// One version of a node in the registry. Its commit is one that comfy makes of the archive's tree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArchivePin {
    pub version: String,
    pub url: String,
    pub sha256: String,
    /// What the registry said of the version when it was locked: `active`, `pending`, `flagged`.
    pub status: String,
}

impl RepositoryPin {
    /// Returns whether this path of its tree is left out.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        self.excluded
            .iter()
            .any(|x| names::is_within(path, &x.path))
    }

    /// Identifies everything of it that is installed: its tree, those of its submodules, and what is
    /// left out.
    pub(crate) fn content_id(&self) -> String {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(self.tree.0);
        for s in &self.submodules {
            hash.update((s.path.len() as u64).to_be_bytes());
            hash.update(&s.path);
            hash.update(s.tree.0);
        }
        for x in &self.excluded {
            hash.update((x.path.len() as u64).to_be_bytes());
            hash.update(&x.path);
            hash.update(x.oid.0);
        }
        base16ct::lower::encode_string(&hash.finalize()[..16])
    }

    /// Its version in the registry, else the first digits of its commit.
    pub(crate) fn short_name(&self) -> String {
        match &self.archive {
            Some(a) => a.version.clone(),
            None => crate::text::short_commit(&self.commit.to_string()).to_string(),
        }
    }

    pub(crate) fn source(&self) -> NodeSource<'_> {
        NodeSource::of(&self.repo)
    }

    /// What is left out, as seen from its own repository.
    pub(crate) fn exclusions(&self) -> TreeExclusions {
        TreeExclusions::new(self.excluded.iter().map(|x| x.path.clone()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubmodulePin {
    pub path: String,
    pub repo: String,
    pub commit: ObjectId,
    pub tree: ObjectId,
}

/// Returns the address of `comfyui` or of the node of this name.
pub(crate) fn part_address(name: &str) -> String {
    match name {
        "comfyui" => name.to_string(),
        node => format!("node.{node}"),
    }
}

impl Lock {
    /// # Errors
    /// What is wrong with the file, with its place; a newer format says so.
    pub(crate) fn parse(path: &Path, text: &ByteString) -> Result<Lock> {
        wire::parse_lock(path, text).map_err(|p| p.about(ProblemKind::Lock))
    }

    /// The file's text; the same lock always gives the same bytes.
    pub(crate) fn render(&self) -> String {
        wire::render_lock(self)
    }

    /// Every pin with its address: `comfyui`, `node.NAME`.
    pub(crate) fn repository_pins(&self) -> impl Iterator<Item = (String, &RepositoryPin)> {
        std::iter::once(("comfyui".to_string(), &self.comfyui))
            .chain(self.nodes.iter().map(|(n, p)| (format!("node.{n}"), p)))
    }
}
