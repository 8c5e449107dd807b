//! What an apply can do: a closed list. A new step is a new power and needs its own review.

use std::collections::{BTreeMap, BTreeSet};
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
pub(crate) enum Step {
    /// Fetches, unpacks and seals a whole generation in staging; unchanged files are linked from
    /// `reuse`.
    BuildGeneration {
        spec: Box<GenerationSpec>,
        reuse: Vec<GenerationId>,
    },

    /// Has a parser that can do nothing else scan a generation, staged or installed: critical
    /// findings that are not among `accepted`, by part, end the apply.
    ScanGeneration {
        id: GenerationId,
        accepted: BTreeMap<Part, BTreeSet<String>>,
    },

    /// Fetches, compiles and seals an interpreter in its final place: nothing refers to it before
    /// it is complete.
    BuildPython {
        version: String,
    },

    /// Fetches, unpacks, compiles and seals a virtual environment in staging; unchanged files are
    /// linked from `reuse`.
    BuildVenv {
        spec: Box<VenvSpec>,
        reuse: Vec<VenvId>,
    },

    /// Downloads and verifies these models into staging, and has a parser that can do nothing else
    /// look into them.
    FetchModels {
        items: Vec<ModelFetch>,
        #[serde(default)]
        scan: ModelScan,
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
    /// Records for all instances which uid builds for a sandbox user; the next uid is its
    /// gateway's.
    ClaimIds {
        sandbox: u32,
        build: u32,
    },
    /// Sets primary group, home and shell of an adopted account.
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
    /// Adds the user to a deny list of cron or at.
    #[serde(rename = "deny")]
    DenyCronJobs {
        file: PathBuf,
        user: String,
    },
    /// Removes the user from the deny list.
    #[serde(rename = "permit")]
    AllowCronJobs {
        file: PathBuf,
        user: String,
    },
    RemoveMember {
        user: String,
        group: String,
    },

    /// Makes a folder with exactly this owner, group and mode; an undeclared object in its place is
    /// moved aside.
    MakeDir {
        path: PathBuf,
        uid: u32,
        gid: u32,
        mode: u32,
        /// Who else may pass through it, by one search-only ACL entry.
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
    /// Makes the share's own folder, with its missing parents.
    MakeShare {
        spec: Box<ShareSpec>,
        created: bool,
        was_gid: u32,
        was_mode: u32,
    },
    /// Repairs every entry below a share that differs, and only those.
    #[serde(rename = "mend_share")]
    RepairShare {
        spec: Box<ShareSpec>,
    },
    /// Removes comfy's group from a share.
    ReleaseShare {
        name: String,
        path: PathBuf,
        requires_mount: Option<PathBuf>,
        owner: u32,
        from_gid: u32,
        to_gid: u32,
        mode: u32,
    },
    /// Moves a fetched model into its share.
    PlaceModel {
        /// The existing file is not comfy's, and is kept next to it under another name.
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
    /// Removes a link, if it still leads to `target`.
    RemoveLink {
        path: PathBuf,
        target: PathBuf,
    },

    /// Has nftables reject what this uid sends outside a launch; `record` says in which boot.
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

    /// Records how ComfyUI is launched.
    WriteLaunch {
        spec: Box<LaunchSpec>,
    },

    /// Copies the running comfy, if it still has this size and time, to where sudo and the boot
    /// start it.
    InstallLauncher {
        path: PathBuf,
        size: u64,
        modified: i64,
    },
    RemoveLauncher {
        path: PathBuf,
    },
    /// Writes one of comfy's few files into a system folder, after the program that reads it has
    /// checked it.
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
    /// Installs the staged generation, exchanging it with a damaged one of the same name.
    Install {
        id: GenerationId,
    },
    /// Installs a staged virtual environment in the same way.
    InstallVenv {
        id: VenvId,
    },
    /// Copies the first content of a `writable` path from the sealed tree; existing files stay.
    Seed {
        id: GenerationId,
        part: Part,
        path: String,
        uid: u32,
        gid: u32,
    },
    /// Makes a generation live.
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
    /// Removes everything that comfy keeps for this instance, and the home of an account that comfy
    /// made; `backup` receives `state/user` and the quarantine.
    RemoveInstance {
        backup: Option<PathBuf>,
        home: Option<PathBuf>,
    },
}

/// What a model that runs code when it is loaded does to an apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ModelScan {
    /// Nothing is scanned.
    #[default]
    Off,
    /// It is reported.
    Warn,
    /// It ends the apply, unless somebody has accepted these bytes.
    Block { accepted: BTreeSet<Sha256Digest> },
}

/// A user who may pass through a folder, and no more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SearchingUser {
    pub name: String,
    pub uid: u32,
}

/// The identity that does a step's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAs {
    Root,
    /// The build uid fetches and unpacks; root seals afterwards.
    Build,
}

impl Step {
    pub(crate) fn run_as(&self) -> RunAs {
        match self {
            Step::BuildPython { .. }
            | Step::BuildGeneration { .. }
            | Step::BuildVenv { .. }
            | Step::FetchModels { .. } => RunAs::Build,
            _ => RunAs::Root,
        }
    }

    /// Returns whether the step belongs to prepare: slow or fallible, and changes nothing that is
    /// live.
    pub(crate) fn in_prepare(&self) -> bool {
        self.run_as() == RunAs::Build || matches!(self, Step::ScanGeneration { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PlannedStep {
    pub address: Address,
    pub step: Step,
}
