//! What was observed on the machine. What could not be read is unknown, never absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use crate::desired::share_spec::ShareSpec;
use crate::ids::Part;
use crate::problem::{Cause, Problem, ProblemKind};

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct UnknownState {
    pub reason: String,
    /// True if root could read it: `apply` then elevates first, and asks for approval of root's
    /// plan.
    pub root_can: bool,
    /// The system's error, for code that decides by it.
    #[serde(skip)]
    pub kind: ProblemKind,
}

impl UnknownState {
    pub(crate) fn new(reason: impl Into<String>, root_can: bool) -> UnknownState {
        UnknownState {
            reason: reason.into(),
            root_can,
            kind: ProblemKind::User,
        }
    }

    /// An object at `path` that the system does not show, not even to root.
    pub(crate) fn io(path: &Path, e: &(impl Cause + ?Sized)) -> UnknownState {
        UnknownState::new(format!("{}: {e}", path.display()), false).caused_by(e)
    }

    /// The same, caused by `cause`.
    pub(crate) fn caused_by(mut self, cause: &(impl Cause + ?Sized)) -> UnknownState {
        self.kind = cause.kind();
        self
    }
}

impl From<UnknownState> for Problem {
    fn from(u: UnknownState) -> Problem {
        Problem::new(u.reason).of_kind(u.kind)
    }
}

/// The shells that a sandbox user may have; a created one gets the first.
pub(crate) const NO_LOGIN: &[&str] = &[
    "/usr/sbin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/bin/false",
];

/// The groups that own graphics devices on the distributions (systemd's udev rules); comfy adds the
/// sandbox user to no other group for a device.
pub(crate) const GPU_GROUPS: &[&str] = &["render", "video"];

pub(crate) type Seen<T> = Result<T, UnknownState>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupAccount {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserAccount {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
    /// The groups it is in besides its primary one.
    pub groups: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum FileType {
    Dir,
    File,
    Link,
    Other,
}

/// One entry of a file system; a link is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FsEntry {
    pub kind: FileType,
    pub uid: u32,
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    pub target: Option<PathBuf>,
}

/// The observed state of a share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShareState {
    /// The path after the owner's links are followed.
    pub real: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    /// The number of entries below the folder.
    pub entries: usize,
    /// Each difference as text, with the number of entries: "files have group staff" → 37.
    pub off: BTreeMap<String, usize>,
    /// A few of those entries, for `-v`.
    pub examples: Vec<String>,
    /// Entries that are reported and never changed.
    pub warnings: Vec<String>,
    /// Every file and link, if the share holds models.
    pub files: Vec<Vec<super::model_summary::ModelFile>>,
}

/// Whether and how the sandbox user can pass through a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchPermission {
    pub passes: bool,
    /// The folder has an ACL entry for the sandbox user.
    pub entry: bool,
}

/// The rules that nftables has for the sandbox's uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EgressFilter {
    /// nft is not installed on this machine, or does not work.
    Unusable,
    Absent,
    There,
}

/// The kind of a difference in a sealed tree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct TreeDifference {
    pub path: String,
    pub what: DifferenceKind,
    pub detail: String,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum DifferenceKind {
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
    pub(crate) fn word(self) -> &'static str {
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

/// The differences of a generation on the disk, by part; a part without an entry is intact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GenerationCheck {
    pub findings: BTreeMap<Part, Vec<TreeDifference>>,
    /// Entries of custom_nodes/ that the lock does not pin.
    pub foreign: Vec<String>,
}

impl GenerationCheck {
    pub(crate) fn is_intact(&self) -> bool {
        self.findings.values().all(Vec::is_empty) && self.foreign.is_empty()
    }
}
