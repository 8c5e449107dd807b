//! Models as the plan holds them: what a share has, what has to be fetched, and what nobody
//! declared.

use std::path::PathBuf;

use super::observed::{FileType, ShareSpec};
use crate::ids::Address;
use crate::lock::Sha256Digest;

/// One file or link in a share that holds models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFile {
    /// In the share.
    pub path: String,
    pub kind: FileType,
    /// In bytes.
    pub size: u64,
    /// Seconds since 1970, when its content or its metadata last changed.
    pub changed: i64,
    /// Its hash when it was last read, if it has not changed since.
    pub known: Option<Sha256Digest>,
}

/// A model that a machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelFetch {
    /// `model.PATH`
    pub address: Address,
    pub share: Box<ShareSpec>,
    pub path: String,
    pub source: Option<String>,
    pub revision: Option<String>,
    pub size: u64,
    pub sha256: Sha256Digest,
    /// Files of the same size in the shares, one of which may have the content.
    pub copies: Vec<PathBuf>,
}

/// A number of files and their total size.
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
pub(crate) struct CountAndBytes {
    pub count: usize,
    pub bytes: u64,
}

/// What a plan knows about the models beside their differences. Two observations of one machine may
/// differ here, so it is not part of what is approved.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelSummary {
    pub declared: usize,
    /// Models that exist, and that comfy.toml does not declare.
    pub unmanaged: usize,
    pub unmanaged_bytes: u64,
    /// Their paths, with their shares.
    pub names: Vec<String>,
    /// Declared models that are missing or different in a share that comfy does not change, or
    /// whose share could not be read.
    #[serde(default, rename = "left")]
    pub skipped: usize,
    /// Declared models of the right size that were not compared since they last changed.
    pub unverified: usize,
    /// Files of the right size that were read and have other content.
    #[serde(rename = "suspects")]
    pub mismatched: Vec<PathBuf>,
}

pub(crate) use crate::manifest::names::is_model;
