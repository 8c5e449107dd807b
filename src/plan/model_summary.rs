//! Models as the plan holds them: what a share has, what has to be fetched, and what nobody
//! declared.

use std::path::PathBuf;

use super::observed::{FileType, ShareSpec};
use crate::ids::Address;
use crate::lock::Sha256Digest;

/// One file or link of a share that holds models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// In the share.
    pub path: String,
    pub kind: FileType,
    /// In bytes.
    pub size: u64,
    /// Seconds since 1970, when its content or its metadata last changed.
    pub changed: i64,
    /// What it was when it was last read, and nothing has changed since.
    pub known: Option<Sha256Digest>,
}

/// A model that a machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelFetch {
    /// `model.PATH`
    pub address: Address,
    pub share: Box<ShareSpec>,
    pub path: String,
    pub source: Option<String>,
    pub revision: Option<String>,
    pub size: u64,
    pub sha256: Sha256Digest,
    /// Files of the same size in the shares: one of them may be it.
    pub copies: Vec<PathBuf>,
}

/// How many files, and how much that is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct CountAndBytes {
    pub count: usize,
    pub bytes: u64,
}

/// What a look at the models told beside differences. Two looks at one machine may tell different
/// things here: it is no part of what is approved.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ModelSummary {
    pub declared: usize,
    /// Models that are there, and that comfy.toml does not name.
    pub unmanaged: usize,
    pub unmanaged_bytes: u64,
    /// Their paths, with their shares.
    pub names: Vec<String>,
    /// Declared ones that are not there or something else in a share that comfy leaves alone, or in
    /// one that could not be looked at.
    #[serde(default, rename = "left")]
    pub skipped: usize,
    /// Declared ones of the right size whose bytes nobody has compared since they last changed.
    pub unverified: usize,
    /// Files of the right size that were read, and are something else.
    #[serde(rename = "suspects")]
    pub mismatched: Vec<PathBuf>,
}

pub use crate::manifest::names::is_model;
