//! The boundary to the machine: [`Look`] reads, [`Act`] changes. `comfy plan` only ever holds a
//! `&dyn Look`.

use std::collections::BTreeMap;
use std::path::Path;

use super::ids::AccountIds;
use super::inventory::Inventory;
use super::observed::{
    EgressFilter, FsEntry, GenerationCheck, GroupAccount, SearchPermission, Seen, ShareSpec,
    ShareState, TreeDifference, UserAccount,
};
use super::step::Step;
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::ComfyProgram;
use crate::desired::venv::{PythonInterpreter, VenvSpec};
use crate::desired::{Desired, GenerationSpec, InstancePaths};
use crate::problem::Result;

/// Reads the machine. No method may change anything.
pub trait Look: Sync {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>>;
    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>>;
    /// Whether any account or group has this number.
    fn id_taken(&self, id: u32) -> Seen<bool>;
    /// Whether a user has this number, whatever groups there are.
    fn uid_taken(&self, id: u32) -> Seen<bool>;
    /// Which uid builds for which sandbox user, where that was written down.
    fn id_pairs(&self, paths: &InstancePaths) -> Seen<BTreeMap<u32, u32>>;
    fn is_member(&self, user: &str, group: &str) -> Seen<bool>;
    /// Who has this group as the primary one, as far as the database lists users.
    fn primary_users(&self, gid: u32) -> Seen<Vec<String>>;
    /// How many processes of a user run.
    fn process_count(&self, uid: u32) -> Seen<usize>;
    /// The name of a group number, or the number itself.
    fn group_name(&self, gid: u32) -> String;
    fn user_name(&self, uid: u32) -> String;
    fn read_entry(&self, path: &Path) -> Seen<Option<FsEntry>>;
    /// The path behind the owner's links.
    fn real_path(&self, path: &Path, owner: u32) -> Seen<std::path::PathBuf>;
    /// Why somebody else than root and the owner could put another folder in the place of `path`,
    /// and what to do about it.
    fn why_exposed(&self, path: &Path, owner: u32) -> Seen<Option<String>>;
    /// Whether `user`, who has that uid and those groups, passes through a folder.
    fn search_permission(
        &self,
        folder: &Path,
        user: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>>;
    /// `models`: every file is told too.
    fn check_share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<ShareState>>;
    /// The description of the generation at `id`, if it is there and is what its name says.
    fn generation_spec(&self, paths: &InstancePaths, id: &str) -> Seen<Option<GenerationSpec>>;
    fn check_generation(
        &self,
        paths: &InstancePaths,
        spec: &GenerationSpec,
        ids: &AccountIds,
    ) -> Seen<Option<GenerationCheck>>;
    /// A Python of this minor version that the sandbox user can reach; `Ok(Err)` says why there is
    /// none.
    fn find_interpreter(
        &self,
        d: &Desired,
        ids: &AccountIds,
    ) -> Seen<Result<PythonInterpreter, String>>;
    /// The interpreter that comfy has of its own, or would have, in this version.
    fn managed_interpreter(&self, paths: &InstancePaths, version: &str) -> PythonInterpreter;
    /// What is off with it; `None` if it is not there.
    fn managed_check(
        &self,
        paths: &InstancePaths,
        version: &str,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>>;
    /// What is off in a virtual environment; `None` if there is none of that name.
    fn check_venv(
        &self,
        paths: &InstancePaths,
        spec: &VenvSpec,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>>;
    /// How the last apply had it launched; `None` where there is nothing that can be read as that.
    fn applied_launch(&self, paths: &InstancePaths) -> Seen<Option<LaunchSpec>>;
    /// The backstop of `network.egress` for the sandbox's uid.
    fn egress_filter(&self, paths: &InstancePaths, uid: u32) -> Seen<EgressFilter>;
    /// A copy of comfy at `path`, or the program that runs now.
    fn comfy_program(&self, path: Option<&Path>) -> Seen<Option<ComfyProgram>>;
    /// The text of a small file in a folder of the system.
    fn system_text(&self, path: &Path) -> Seen<Option<String>>;
    fn read_inventory(&self, paths: &InstancePaths) -> Seen<Inventory>;
}

/// Changes the machine, one step at a time. Every step may be repeated.
pub trait Act {
    /// # Errors
    /// What went wrong and with which path; the machine is then between two steps.
    fn perform_step(&mut self, step: &Step) -> Result<()>;
    /// Writes the inventory durably.
    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()>;
}
