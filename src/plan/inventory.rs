//! What comfy itself made, so that it can be pruned when comfy.toml no longer declares it. It is
//! never trusted about the machine's state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::change::Attrs;
use super::step::Step;
use crate::ids::GenerationId;

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Inventory {
    pub format: u32,
    /// Created by comfy, with the id it was given. Anything else of that name is adopted and never
    /// destroyed.
    pub groups: BTreeMap<String, u32>,
    pub users: BTreeMap<String, u32>,
    /// `user:group` that comfy added.
    pub members: BTreeSet<String>,
    pub traverse: BTreeSet<PathBuf>,
    /// Links with the target they were given.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// By path, so that a share that moves is released at its old path.
    pub shares: BTreeMap<PathBuf, SharedFolder>,
    /// The uid that comfy's nftables rules apply to.
    #[serde(rename = "fence")]
    pub egress_filter: Option<u32>,
    /// The uids that build for the instance and serve its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uids: Option<(u32, u32)>,
    /// Files in system folders, with their text, since not every planner can read them.
    pub system: BTreeMap<PathBuf, String>,
    /// Deny lists of cron and at that have a line of comfy's.
    pub denied: BTreeSet<PathBuf>,
    /// The attributes that the last apply gave each resource: a difference from them is drift, not
    /// a change of comfy.toml.
    pub applied: BTreeMap<String, Attrs>,
    /// Generations in the order in which they were last live.
    pub live: Vec<GenerationId>,
    /// The folder of the comfy.toml that was applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_folder: Option<PathBuf>,
    /// Trees that the object store holds: a hint for `plan`, not a promise.
    pub fetched: BTreeSet<String>,
}

/// A share that comfy has put modes and a group on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SharedFolder {
    pub name: String,
    /// The volume that must be mounted; without it the path is another folder.
    #[serde(default)]
    pub requires_mount: Option<PathBuf>,
    pub created: bool,
    /// Group and mode of the folder before comfy.
    pub gid: u32,
    pub mode: u32,
    pub group: u32,
}

impl Inventory {
    pub(crate) fn has_traverse(&self, folder: &Path) -> bool {
        self.traverse.contains(folder)
    }

    /// Notes what `step` is about to make. It is written before the step, since comfy may be killed
    /// right after it. An entry whose object does not exist, or has another id, means nothing.
    pub(crate) fn note_before(&mut self, step: &Step) {
        self.format = 1;
        match step {
            Step::CreateGroup { name, gid } => drop(self.groups.insert(name.clone(), *gid)),
            Step::CreateUser { name, uid, .. } => drop(self.users.insert(name.clone(), *uid)),
            Step::AddMember { user, group } => drop(self.members.insert(format!("{user}:{group}"))),
            Step::GrantSearch { folder, .. } => drop(self.traverse.insert(folder.clone())),
            // One of an older uid is removed in the same plan, before.
            Step::InstallEgressFilter { uid, .. } => self.egress_filter = Some(*uid),
            Step::DenyCronJobs { file, .. } => drop(self.denied.insert(file.clone())),
            Step::WriteSystemFile { file } => {
                drop(self.system.insert(file.path.clone(), file.text.clone()))
            }
            Step::SetLink { path, target, .. } => {
                drop(self.links.insert(path.clone(), target.clone()))
            }
            Step::MakeShare {
                spec,
                created,
                was_gid,
                was_mode,
            } => {
                let first = SharedFolder {
                    name: spec.name.clone(),
                    requires_mount: spec.requires_mount.clone(),
                    created: *created,
                    gid: *was_gid,
                    mode: *was_mode,
                    group: spec.gid,
                };
                let entry = self.shares.entry(spec.path.clone()).or_insert(first);
                (entry.name, entry.group) = (spec.name.clone(), spec.gid);
            }
            // They make nothing that has to be pruned.
            Step::BuildGeneration { .. }
            | Step::BuildPython { .. }
            | Step::BuildVenv { .. }
            | Step::ScanGeneration { .. }
            | Step::FetchModels { .. }
            | Step::DeleteGroup { .. }
            | Step::ClaimIds { .. }
            | Step::ChangeUser { .. }
            | Step::DeleteUser { .. }
            | Step::AllowCronJobs { .. }
            | Step::RemoveMember { .. }
            | Step::MakeDir { .. }
            | Step::RevokeSearch { .. }
            | Step::RepairShare { .. }
            | Step::ReleaseShare { .. }
            | Step::PlaceModel { .. }
            | Step::RemoveLink { .. }
            | Step::RemoveEgressFilter { .. }
            | Step::WriteLaunch { .. }
            | Step::InstallLauncher { .. }
            | Step::RemoveLauncher { .. }
            | Step::RemoveSystemFile { .. }
            | Step::Quarantine { .. }
            | Step::Install { .. }
            | Step::InstallVenv { .. }
            | Step::Seed { .. }
            | Step::Switch { .. }
            | Step::RemoveGeneration { .. }
            | Step::RemoveVenv { .. }
            | Step::RemovePython { .. }
            | Step::RemoveInstance { .. } => {}
        }
    }

    /// Forgets what `step` has removed.
    pub(crate) fn note_after(&mut self, step: &Step) {
        match step {
            Step::DeleteGroup { name, .. } => drop(self.groups.remove(name)),
            // A deleted user stays noted: a removal that was killed and is repeated must know that
            // comfy made the home. The records are removed with it.
            Step::RemoveMember { user, group } => {
                self.members.remove(&format!("{user}:{group}"));
            }
            Step::RevokeSearch { folder, .. } => drop(self.traverse.remove(folder)),
            Step::AllowCronJobs { file, .. } => drop(self.denied.remove(file)),
            Step::RemoveSystemFile { path, .. } => drop(self.system.remove(path)),
            Step::RemoveLink { path, .. } => drop(self.links.remove(path)),
            Step::RemoveEgressFilter { uid, .. } if self.egress_filter == Some(*uid) => {
                self.egress_filter = None
            }
            Step::Switch { id } => {
                self.live.retain(|l| l != id);
                self.live.push(id.clone());
            }
            Step::RemoveGeneration { id } => self.live.retain(|l| l != id),
            Step::ReleaseShare { path, .. } => drop(self.shares.remove(path)),
            Step::BuildGeneration { spec, .. } => self
                .fetched
                .extend(spec.pins().map(|(_, p)| p.tree.to_string())),
            // Nothing to forget: what was made stays noted, and the rest never was.
            Step::BuildPython { .. }
            | Step::BuildVenv { .. }
            | Step::ScanGeneration { .. }
            | Step::FetchModels { .. }
            | Step::CreateGroup { .. }
            | Step::CreateUser { .. }
            | Step::ClaimIds { .. }
            | Step::ChangeUser { .. }
            | Step::DeleteUser { .. }
            | Step::AddMember { .. }
            | Step::DenyCronJobs { .. }
            | Step::MakeDir { .. }
            | Step::GrantSearch { .. }
            | Step::MakeShare { .. }
            | Step::RepairShare { .. }
            | Step::PlaceModel { .. }
            | Step::SetLink { .. }
            | Step::InstallEgressFilter { .. }
            | Step::RemoveEgressFilter { .. }
            | Step::WriteLaunch { .. }
            | Step::InstallLauncher { .. }
            | Step::RemoveLauncher { .. }
            | Step::WriteSystemFile { .. }
            | Step::Quarantine { .. }
            | Step::Install { .. }
            | Step::InstallVenv { .. }
            | Step::Seed { .. }
            | Step::RemoveVenv { .. }
            | Step::RemovePython { .. }
            | Step::RemoveInstance { .. } => {}
        }
    }
}
