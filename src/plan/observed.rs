//! What was seen on the machine. What could not be read is unknown, never absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::ShareAccess;
use crate::problem::{Cause, Problem, ProblemKind};

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnknownState {
    pub reason: String,
    /// Root could read it: `apply` then elevates first and asks about root's plan.
    pub root_can: bool,
    /// What the system said, for code that decides by it.
    #[serde(skip)]
    pub kind: ProblemKind,
}

impl UnknownState {
    pub fn new(reason: impl Into<String>, root_can: bool) -> UnknownState {
        UnknownState {
            reason: reason.into(),
            root_can,
            kind: ProblemKind::User,
        }
    }

    /// Something at `path` that the system did not show, to root neither.
    pub fn io(path: &Path, e: &(impl Cause + ?Sized)) -> UnknownState {
        UnknownState::new(format!("{}: {e}", path.display()), false).caused_by(e)
    }

    /// The same, which `cause` led to.
    pub fn caused_by(mut self, cause: &(impl Cause + ?Sized)) -> UnknownState {
        self.kind = cause.kind();
        self
    }
}

impl From<UnknownState> for Problem {
    fn from(u: UnknownState) -> Problem {
        Problem::new(u.reason).of_kind(u.kind)
    }
}

/// What the sandbox user's shell must be one of; created ones get the first.
pub const NO_LOGIN: &[&str] = &[
    "/usr/sbin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/bin/false",
];

/// Groups that distributions give them to (systemd's udev rules); no other group is joined for a
/// device.
pub const GPU_GROUPS: &[&str] = &["render", "video"];

pub type Seen<T> = Result<T, UnknownState>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAccount {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAccount {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
    /// Names of groups it is in beside its primary one.
    pub groups: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FileType {
    Dir,
    File,
    Link,
    Other,
}

/// One entry of a file system, not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsEntry {
    pub kind: FileType,
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
    pub access: ShareAccess,
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
            ShareAccess::Read => 0o2755,
            ShareAccess::Write => 0o2775,
            ShareAccess::Add => 0o3775,
        }
    }
}

/// What a share is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShareState {
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
pub struct SearchPermission {
    pub passes: bool,
    /// There is an entry of its own for the sandbox user.
    pub entry: bool,
}

/// What nftables keeps for the sandbox's uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressFilter {
    /// There is no nft on this machine, or none that works.
    Unusable,
    Absent,
    There,
}

/// One thing in a sealed tree that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeDifference {
    pub path: String,
    pub what: DifferenceKind,
    pub detail: String,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum DifferenceKind {
    Edited,
    Missing,
    Added,
    EmptyFolder,
    Mode,
    Owner,
    Replaced,
    Link,
}

impl DifferenceKind {
    pub fn word(self) -> &'static str {
        match self {
            DifferenceKind::Edited => "edited",
            DifferenceKind::Missing => "missing",
            DifferenceKind::Added => "added",
            DifferenceKind::EmptyFolder => "empty folder added",
            DifferenceKind::Mode => "mode changed",
            DifferenceKind::Owner => "owner changed",
            DifferenceKind::Replaced => "replaced",
            DifferenceKind::Link => "link changed",
        }
    }
}

/// A generation on the disk, part by part (`comfyui`, `node.NAME`): nothing listed means intact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GenerationCheck {
    pub findings: BTreeMap<String, Vec<TreeDifference>>,
    /// Entries of custom_nodes/ that the lock does not name.
    pub foreign: Vec<String>,
}

impl GenerationCheck {
    pub fn is_intact(&self) -> bool {
        self.findings.values().all(Vec::is_empty) && self.foreign.is_empty()
    }
}
