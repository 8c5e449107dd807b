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
pub(crate) trait Look: Sync {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>>;
    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>>;
    /// Returns whether any account or group has this number.
    fn id_taken(&self, id: u32) -> Seen<bool>;
    /// Returns whether a user has this number; groups do not count.
    fn uid_taken(&self, id: u32) -> Seen<bool>;
    /// Returns the recorded build uid of each sandbox user, where it was recorded.
    fn id_pairs(&self, paths: &InstancePaths) -> Seen<BTreeMap<u32, u32>>;
    fn is_member(&self, user: &str, group: &str) -> Seen<bool>;
    /// Returns the groups that name `user`, whether or not there is such an account.
    fn groups_naming(&self, user: &str) -> Seen<Vec<String>>;
    /// Returns the users whose primary group this is, as far as the database lists users.
    fn primary_users(&self, gid: u32) -> Seen<Vec<String>>;
    /// Returns how many processes of a user run.
    fn process_count(&self, uid: u32) -> Seen<usize>;
    /// Returns the name of a group number, or the number itself.
    fn group_name(&self, gid: u32) -> String;
    fn user_name(&self, uid: u32) -> String;
    fn read_entry(&self, path: &Path) -> Seen<Option<FsEntry>>;
    /// Resolves the owner's links in a path.
    fn real_path(&self, path: &Path, owner: u32) -> Seen<std::path::PathBuf>;
    /// Returns why somebody other than root and the owner could replace the folder `path`, and what
    /// to do about it.
    fn why_exposed(&self, path: &Path, owner: u32) -> Seen<Option<String>>;
    /// Returns the volume that holds `path` if it ignores who owns files.
    fn unowned_volume(&self, path: &Path) -> Seen<Option<std::path::PathBuf>>;
    /// Returns the nearest existing folder above `path` if whoever runs comfy may not create
    /// anything in it.
    fn why_uncreatable(&self, path: &Path) -> Seen<Option<std::path::PathBuf>>;
    /// Returns whether `user`, who has that uid and those groups, can pass through a folder.
    fn search_permission(
        &self,
        folder: &Path,
        user: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>>;
    /// Compares a share with `spec`; with `models`, every file is listed too.
    fn check_share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<ShareState>>;
    /// Returns the description of generation `id`, if it exists and matches its name.
    fn generation_spec(&self, paths: &InstancePaths, id: &str) -> Seen<Option<GenerationSpec>>;
    fn check_generation(
        &self,
        paths: &InstancePaths,
        spec: &GenerationSpec,
        ids: &AccountIds,
    ) -> Seen<Option<GenerationCheck>>;
    /// Finds a Python of this minor version that the sandbox user can run; `Ok(Err)` says why there
    /// is none.
    fn find_interpreter(
        &self,
        d: &Desired,
        ids: &AccountIds,
    ) -> Seen<Result<PythonInterpreter, String>>;
    /// Returns the interpreter of this version that comfy has installed, or would install.
    fn managed_interpreter(&self, paths: &InstancePaths, version: &str) -> PythonInterpreter;
    /// Returns its differences; `None` if it does not exist.
    fn managed_check(
        &self,
        paths: &InstancePaths,
        version: &str,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>>;
    /// Returns the differences of a virtual environment; `None` if it does not exist.
    fn check_venv(
        &self,
        paths: &InstancePaths,
        spec: &VenvSpec,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>>;
    /// Returns the launch that the last apply wrote; `None` if there is none that can be read.
    fn applied_launch(&self, paths: &InstancePaths) -> Seen<Option<LaunchSpec>>;
    /// Returns the egress filter, the backstop of `network.egress`, for the sandbox's uid.
    fn egress_filter(&self, paths: &InstancePaths, uid: u32) -> Seen<EgressFilter>;
    /// Returns the copy of comfy at `path`, or the running program if there is no path.
    fn comfy_program(&self, path: Option<&Path>) -> Seen<Option<ComfyProgram>>;
    /// Returns the text of a small file in a system folder.
    fn system_text(&self, path: &Path) -> Seen<Option<String>>;
    /// Returns whether this machine has records of other instances.
    fn has_neighbours(&self, paths: &InstancePaths) -> Seen<bool>;
    fn read_inventory(&self, paths: &InstancePaths) -> Seen<Inventory>;
}

/// Changes the machine, one step at a time. Every step may be repeated.
pub(crate) trait Act {
    /// # Errors
    /// What failed, with the path; the machine is then between two steps.
    fn perform_step(&mut self, step: &Step) -> Result<()>;
    /// Writes the inventory durably.
    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()>;
}
