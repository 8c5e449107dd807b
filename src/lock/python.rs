//! Python packages in the lock: who asks for what ([`crate::lock::requirements`]), the question put
//! to uv ([`crate::lock::uv::request`]), its answer ([`crate::lock::uv::response`]), and which of a
//! release's wheels a machine takes ([`crate::lock::wheel_tags`]).
//!
//! One universal resolution serves every machine: macOS on arm64 and Linux on x86_64, wheels only,
//! all hashes.

pub(crate) use super::requirements::{PartRequirements, RequirementLine};
use super::uv::UvError;
use crate::lock::uv::request;
use crate::manifest::PackageIndex;
use crate::problem::Result;
use crate::progress::Progress;

/// The packages of one lock, and what they were resolved for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockedPython {
    /// The requested minor version: `3.12`.
    pub version: String,
    /// The full version of the interpreter that comfy installs if the system has none of that minor
    /// version; `None` if uv was not asked, or knows none.
    pub managed: Option<String>,
    pub requirements: Vec<String>,
    pub overrides: Vec<String>,
    pub indexes: Vec<PackageIndex>,
    /// Sorted by name, then version.
    pub packages: Vec<LockedPackage>,
}

impl LockedPython {
    /// Returns the settings of comfy.toml, without any package yet.
    pub(crate) fn from_manifest(m: &crate::manifest::PythonSettings) -> LockedPython {
        LockedPython {
            version: m.version.clone(),
            managed: None,
            requirements: m.requirements.clone(),
            overrides: m.overrides.clone(),
            indexes: m.indexes.clone(),
            packages: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockedPackage {
    /// Normalised (PEP 503).
    pub name: String,
    pub version: String,
    /// The `indexes` entry that it comes from; none: the default index.
    pub index: Option<String>,
    /// The marker that says where it is installed (PEP 508); `None`: on every platform.
    pub marker: Option<String>,
    /// Who asked: `comfyui`, `node.NAME`, `comfy.toml`, or other packages.
    pub by: Vec<String>,
    pub wheels: Vec<LockedWheel>,
}

/// One file that may be installed. No address: it is the same file on every mirror, as its hash
/// proves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LockedWheel {
    pub file: String,
    pub sha256: String,
    /// Bytes; indexes need not tell.
    pub size: Option<u64>,
}

/// Something that resolves a workspace: the real one is [`crate::host::uv::UvRunner`].
pub(crate) trait PackageResolver: Sync {
    /// # Errors
    /// If there is no uv, no network, or no solution, with uv's own message.
    fn solve_workspace(
        &self,
        workspace: &request::UvWorkspace,
        progress: &dyn Progress,
    ) -> Result<UvSolution, UvError>;
    /// Returns the newest CPython of this minor version that can be installed: `3.12.4`.
    ///
    /// # Errors
    /// No uv.
    fn newest_release(&self, minor: &str) -> Result<Option<String>>;
}

/// What uv wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct UvSolution {
    /// The text of uv.lock.
    pub lock: String,
    /// `name==version ; marker` a line.
    pub export: String,
}

/// A package name as indexes compare them (PEP 503).
pub(crate) fn normalize_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}
