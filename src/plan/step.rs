//! What an apply does: a closed list. A new step is a new power and deserves its own review.

use std::path::PathBuf;

use super::model_summary::ModelFetch;
use super::observed::ShareSpec;
use crate::desired::GenerationSpec;
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::{FileKind, SystemFile};
use crate::desired::venv::VenvSpec;
use crate::ids::{Address, GenerationId, Part, VenvId};
use crate::lock::Sha256Digest;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Fetch, unpack and seal a whole generation in staging; unchanged files are linked from
    /// `reuse`.
    BuildGeneration {
        spec: Box<GenerationSpec>,
        reuse: Vec<GenerationId>,
    },

    /// Fetch, compile and seal an interpreter, at its place: nothing refers to it before there is a
    /// whole one.
    BuildPython {
        version: String,
    },

    /// Fetch, unpack, compile and seal a virtual environment in staging; what is unchanged is
    /// linked from `reuse`.
    BuildVenv {
        spec: Box<VenvSpec>,
        reuse: Vec<VenvId>,
    },

    /// Have the bytes of these models on this machine, verified.
    FetchModels {
        items: Vec<ModelFetch>,
    },

    CreateGroup {
        name: String,
        gid: u32,
    },
    DeleteGroup {
        name: String,
        gid: u32,
    },
    CreateUser {
        name: String,
        uid: u32,
        gid: u32,
        home: PathBuf,
    },
    /// Notes for all instances which uid builds for a sandbox user; the next one is its gateway's.
    ClaimIds {
        sandbox: u32,
        build: u32,
    },
    /// Primary group, home and shell of an adopted account.
    ChangeUser {
        name: String,
        gid: u32,
        home: PathBuf,
    },
    DeleteUser {
        name: String,
        uid: u32,
    },
    AddMember {
        user: String,
        group: String,
    },
    /// One more line in a list of who may have no jobs.
    #[serde(rename = "deny")]
    DenyCronJobs {
        file: PathBuf,
        user: String,
    },
    /// Takes it out again.
    #[serde(rename = "permit")]
    AllowCronJobs {
        file: PathBuf,
        user: String,
    },
    RemoveMember {
        user: String,
        group: String,
    },

    /// A folder with exactly this owner, group and mode; what is in the way of it and belongs to
    /// nobody is moved aside.
    MakeDir {
        path: PathBuf,
        uid: u32,
        gid: u32,
        mode: u32,
        /// Who else may pass through it, by one search-only entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passer: Option<SearchingUser>,
    },
    GrantSearch {
        folder: PathBuf,
        user: String,
        uid: u32,
    },
    RevokeSearch {
        folder: PathBuf,
        user: String,
        uid: u32,
    },
    /// The share's own folder, its missing parents included.
    MakeShare {
        spec: Box<ShareSpec>,
        created: bool,
        was_gid: u32,
        was_mode: u32,
    },
    /// Every entry below a share that is off, and only those.
    #[serde(rename = "mend_share")]
    RepairShare {
        spec: Box<ShareSpec>,
    },
    /// Takes comfy's group off again.
    ReleaseShare {
        name: String,
        path: PathBuf,
        requires_mount: Option<PathBuf>,
        owner: u32,
        from_gid: u32,
        to_gid: u32,
        mode: u32,
    },
    /// Puts a fetched model into its share.
    PlaceModel {
        /// What is there is not comfy's own, and stays beside it under another name.
        #[serde(default)]
        keep: bool,
        share: Box<ShareSpec>,
        path: String,
        size: u64,
        sha256: Sha256Digest,
    },
    SetLink {
        path: PathBuf,
        target: PathBuf,
        uid: u32,
        gid: u32,
    },
    /// Only if it still leads to `target`.
    RemoveLink {
        path: PathBuf,
        target: PathBuf,
    },

    /// Has nftables refuse what this uid sends outside of a launch; `record` says in which boot.
    #[serde(rename = "set_fence")]
    InstallEgressFilter {
        uid: u32,
        record: PathBuf,
    },
    #[serde(rename = "remove_fence")]
    RemoveEgressFilter {
        uid: u32,
        record: PathBuf,
    },

    /// Notes how ComfyUI is launched.
    WriteLaunch {
        spec: Box<LaunchSpec>,
    },

    /// Copies the comfy that runs, if it is still of this size and age, to where sudo and the boot
    /// start it.
    InstallLauncher {
        path: PathBuf,
        size: u64,
        modified: i64,
    },
    RemoveLauncher {
        path: PathBuf,
    },
    /// Puts one of comfy's few files into a folder of the system, checked by the program that reads
    /// it.
    WriteSystemFile {
        file: SystemFile,
    },
    RemoveSystemFile {
        kind: FileKind,
        path: PathBuf,
    },

    /// Moves entries that nobody declared out of a generation's custom_nodes/.
    Quarantine {
        id: GenerationId,
        names: Vec<String>,
    },
    /// Puts the staged generation at its place, exchanging it with a damaged one of the same name.
    Install {
        id: GenerationId,
    },
    /// The same for a staged virtual environment.
    InstallVenv {
        id: VenvId,
    },
    /// The first content of a `writable` path, from the sealed tree; what is there already stays.
    Seed {
        id: GenerationId,
        part: Part,
        path: String,
        uid: u32,
        gid: u32,
    },
    /// Makes it live.
    Switch {
        id: GenerationId,
    },

    /// Removes a generation that is not live.
    RemoveGeneration {
        id: GenerationId,
    },
    /// Removes a virtual environment that no generation needs.
    RemoveVenv {
        id: VenvId,
    },
    /// Removes an interpreter that no virtual environment needs.
    RemovePython {
        version: String,
    },
    /// Everything comfy keeps for this instance, and the home of an account that comfy made;
    /// `backup` receives `state/user` and the quarantine.
    RemoveInstance {
        backup: Option<PathBuf>,
        home: Option<PathBuf>,
    },
}

/// A user who may pass through a folder, and no more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SearchingUser {
    pub name: String,
    pub uid: u32,
}

/// As whom a step's work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAs {
    Root,
    /// Fetching and unpacking; the sealing afterwards is root's.
    Build,
}

impl Step {
    pub fn run_as(&self) -> RunAs {
        match self {
            Step::BuildPython { .. }
            | Step::BuildGeneration { .. }
            | Step::BuildVenv { .. }
            | Step::FetchModels { .. } => RunAs::Build,
            _ => RunAs::Root,
        }
    }

    /// Slow or fallible, and changes nothing that is live.
    pub fn in_prepare(&self) -> bool {
        self.run_as() == RunAs::Build
    }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlannedStep {
    pub address: Address,
    pub step: Step,
}
