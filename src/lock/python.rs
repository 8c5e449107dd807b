//! Python packages in the lock: who asks for what ([`crate::lock::requirements`]), the question put
//! to uv ([`crate::lock::uv::request`]), its answer ([`crate::lock::uv::response`]), and which of a
//! release's wheels a machine takes ([`crate::lock::wheel_tags`]).
//!
//! One lock serves every machine: a universal resolution for the platforms of comfy.toml, and a
//! small one for each accelerator that `indexes` name, in which everything else is pinned. Wheels
//! only, all hashes.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use super::requirements::{PartRequirements, RequirementLine};
use super::uv::UvError;
use crate::lock::uv::request;
pub(crate) use crate::manifest::names::normalize_name;
use crate::manifest::{LockPlatform, PackageIndex, WheelSource};
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
    /// The platforms that it serves, sorted.
    pub platforms: Vec<LockPlatform>,
    pub indexes: Vec<PackageIndex>,
    pub wheels: Vec<WheelSource>,
    /// Normalised.
    pub allow_pth: Vec<String>,
    /// Sorted by name, version and index.
    pub packages: Vec<LockedPackage>,
}

/// A version without its local label: of `2.11.0+cu128`, `2.11.0`.
pub(crate) fn public_version(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

impl LockedPython {
    /// Returns the index that a package is locked from; `None`: the default one.
    pub(crate) fn index_of(&self, package: &LockedPackage) -> Option<&PackageIndex> {
        let name = package.index.as_ref()?;
        self.indexes.iter().find(|x| x.name == *name)
    }

    /// Returns the settings of comfy.toml, without any package yet.
    pub(crate) fn from_manifest(m: &crate::manifest::PythonSettings) -> LockedPython {
        LockedPython {
            version: m.version.clone(),
            managed: None,
            requirements: m.requirements.clone(),
            overrides: m.overrides.clone(),
            platforms: m.platforms.clone(),
            indexes: m.indexes.clone(),
            wheels: m.wheels.clone(),
            allow_pth: m.allow_pth.clone(),
            packages: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockedPackage {
    /// Normalised (PEP 503).
    pub name: String,
    pub version: String,
    /// The `indexes` entry that it comes from, [`WHEELS_INDEX`] for `wheels`; none: the default index.
    ///
    /// [`WHEELS_INDEX`]: crate::manifest::wheel_sources::WHEELS_INDEX
    pub index: Option<String>,
    /// The platforms on which it is installed, sorted; none: all.
    pub platforms: Vec<LockPlatform>,
    /// The accelerators with which it is installed, [`DEFAULT_VARIANT`] for none, sorted; none: all.
    pub accelerators: Vec<String>,
    /// A marker that must be true too (PEP 508): where platforms do not tell, and in a lock of an
    /// older comfy.
    pub marker: Option<String>,
    /// Who asked: `comfyui`, `node.NAME`, `comfy.toml`, or other packages.
    pub by: Vec<String>,
    /// Who published its files, where the index told it (PEP 740): `github.com/OWNER/REPO
    /// release.yml`.
    pub publisher: Option<String>,
    pub wheels: Vec<LockedWheel>,
}

impl LockedPackage {
    /// Whether it is installed on this platform with this accelerator, markers aside.
    pub(crate) fn serves_machine(&self, platform: LockPlatform, variant: &str) -> bool {
        (self.platforms.is_empty() || self.platforms.contains(&platform))
            && self.serves_variant(variant)
    }

    pub(crate) fn serves_variant(&self, variant: &str) -> bool {
        self.accelerators.is_empty() || self.accelerators.iter().any(|a| a == variant)
    }

    /// Whether some machine may install both.
    pub(crate) fn shares_a_machine(&self, other: &LockedPackage) -> bool {
        fn overlap<T: PartialEq>(a: &[T], b: &[T]) -> bool {
            a.is_empty() || b.is_empty() || a.iter().any(|x| b.contains(x))
        }
        overlap(&self.platforms, &other.platforms)
            && overlap(&self.accelerators, &other.accelerators)
    }
}

/// What the lock calls a machine without an accelerator of its own.
pub(crate) const DEFAULT_VARIANT: &str = "default";

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
    /// Fetches a file whose index gives no hash, and returns its sha256 and its size in bytes.
    ///
    /// # Errors
    /// If it cannot be fetched.
    fn hash_wheel(&self, wheel: &UnhashedWheel, progress: &dyn Progress) -> Result<(String, u64)>;
    /// Finds the wheels of `wheels`, fetching what is an address. `pinned`: file name to sha256,
    /// where that must not change.
    ///
    /// # Errors
    /// A folder that cannot be read, an address that gives nothing or another file.
    fn gather_wheels(
        &self,
        sources: &[WheelSource],
        pinned: &BTreeMap<String, String>,
        progress: &dyn Progress,
    ) -> Result<Vec<GatheredWheel>>;
    /// Returns the newest CPython of this minor version that can be installed: `3.12.4`.
    ///
    /// # Errors
    /// No uv.
    fn newest_release(&self, minor: &str) -> Result<Option<String>>;
}

/// A wheel of `wheels`, on this disk.
#[derive(Debug, Clone)]
pub(crate) struct GatheredWheel {
    pub file: String,
    pub path: PathBuf,
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// A file whose index gives no hash.
#[derive(Debug, Clone)]
pub(crate) struct UnhashedWheel {
    pub address: String,
    /// The index's address; `None`: the default one.
    pub index: Option<String>,
}

/// What uv wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct UvSolution {
    /// The text of uv.lock.
    pub lock: String,
    /// `name==version ; marker` a line.
    pub export: String,
    /// `name vVERSION (latest: vVERSION)` a line, where something newer is known.
    pub newest: String,
}
