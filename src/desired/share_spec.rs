//! A share as it should be, with the numbers of this machine.

use std::path::PathBuf;

use crate::manifest::ShareAccess;

/// The desired state of a share, with all that is needed to check and repair it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ShareSpec {
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
    /// False under isolation "none": nothing is shared, and only the folder matters.
    pub modes: bool,
    pub manage: bool,
}

impl ShareSpec {
    /// The exact mode of the share's own folder.
    pub(crate) fn root_mode(&self) -> u32 {
        match self.access {
            ShareAccess::Read => 0o2755,
            ShareAccess::Write => 0o2775,
            ShareAccess::Add => 0o3775,
        }
    }
}
