//! What was seen on the machine. What could not be read is unknown, never absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::Access;
use crate::problem::{Cause, Problem, ProblemKind};

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unknown {
    pub reason: String,
    /// Root could read it: `apply` then elevates first and asks about root's plan.
    pub root_can: bool,
    /// What the system said, for code that decides by it.
    #[serde(skip)]
    pub kind: ProblemKind,
}

impl Unknown {
    pub fn new(reason: impl Into<String>, root_can: bool) -> Unknown {
        Unknown {
            reason: reason.into(),
            root_can,
            kind: ProblemKind::User,
        }
    }

    /// Something at `path` that the system did not show, to root neither.
    pub fn io(path: &Path, e: &(impl Cause + ?Sized)) -> Unknown {
        Unknown::new(format!("{}: {e}", path.display()), false).caused_by(e)
    }

    /// The same, which `cause` led to.
    pub fn caused_by(mut self, cause: &(impl Cause + ?Sized)) -> Unknown {
        self.kind = cause.kind();
        self
    }
}

impl From<Unknown> for Problem {
    fn from(u: Unknown) -> Problem {
        Problem::new(u.reason).of_kind(u.kind)
    }
}

pub type Seen<T> = Result<T, Unknown>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
    /// Names of groups it is in beside its primary one.
    pub groups: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Dir,
    File,
    Link,
    Other,
}

/// One entry of a file system, not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub uid: u32,
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    pub target: Option<PathBuf>,
}

/// What a share should be; data enough to check and to mend it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ShareSpec {
    pub name: String,
    pub path: PathBuf,
    pub access: Access,
    pub requires_mount: Option<PathBuf>,
    pub owner: u32,
    pub owner_gid: u32,
    pub sandbox: u32,
    pub gid: u32,
    /// Setgid on subfolders counts; macOS inherits the group without it.
    pub setgid: bool,
    /// Under isolation "none" nothing is shared: the folder is all that matters.
    pub modes: bool,
    pub manage: bool,
}

impl ShareSpec {
    /// The exact mode of the share's own folder.
    pub fn root_mode(&self) -> u32 {
        match self.access {
            Access::Read => 0o2755,
            Access::Write => 0o2775,
            Access::Add => 0o3775,
        }
    }
}

/// What a share is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// Where the path leads when the owner's links are followed.
    pub real: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    /// Everything below the folder.
    pub entries: usize,
    /// What is off, in words, and how many entries: "files have group staff" → 37.
    pub off: BTreeMap<String, usize>,
    /// A few of those entries, for `-v`.
    pub examples: Vec<String>,
    /// What is reported and never touched.
    pub warnings: Vec<String>,
    /// Every file and link, where it holds models.
    pub files: Vec<Vec<super::model_summary::ModelFile>>,
}

/// Whether the sandbox user can pass through a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    pub passes: bool,
    /// There is an entry of its own for the sandbox user.
    pub entry: bool,
}

/// What nftables keeps for the sandbox's uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// There is no nft on this machine, or none that works.
    Unusable,
    Absent,
    There,
}

/// One thing in a sealed tree that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    pub path: String,
    pub what: What,
    pub detail: String,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum What {
    Edited,
    Missing,
    Added,
    EmptyFolder,
    Mode,
    Owner,
    Replaced,
    Link,
}

impl What {
    pub fn word(self) -> &'static str {
        match self {
            What::Edited => "edited",
            What::Missing => "missing",
            What::Added => "added",
            What::EmptyFolder => "empty folder added",
            What::Mode => "mode changed",
            What::Owner => "owner changed",
            What::Replaced => "replaced",
            What::Link => "link changed",
        }
    }
}

/// A generation on the disk, part by part (`comfyui`, `node.NAME`): nothing listed means intact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GenCheck {
    pub findings: BTreeMap<String, Vec<Finding>>,
    /// Entries of custom_nodes/ that the lock does not name.
    pub foreign: Vec<String>,
}

impl GenCheck {
    pub fn intact(&self) -> bool {
        self.findings.values().all(Vec::is_empty) && self.foreign.is_empty()
    }
}
