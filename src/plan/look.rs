//! The boundary to the machine: [`Look`] reads, [`Act`] changes. `comfy plan` only ever holds a
//! `&dyn Look`.

use std::collections::BTreeMap;
use std::path::Path;

use super::ids::Ids;
use super::inventory::Inventory;
use super::observed::{
    Fence, Finding, GenCheck, Group, Node, Search, Seen, Share, ShareSpec, User,
};
use super::step::Step;
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::Program;
use crate::desired::venv::{Interpreter, VenvSpec};
use crate::desired::{Desired, GenSpec, Paths};
use crate::problem::Result;

/// Reads the machine. No method may change anything.
pub trait Look: Sync {
    fn group(&self, name: &str) -> Seen<Option<Group>>;
    fn user(&self, name: &str) -> Seen<Option<User>>;
    /// Whether any account or group has this number.
    fn id_taken(&self, id: u32) -> Seen<bool>;
    /// Whether a user has this number, whatever groups there are.
    fn uid_taken(&self, id: u32) -> Seen<bool>;
    /// Which uid builds for which sandbox user, where that was written down.
    fn id_pairs(&self, paths: &Paths) -> Seen<BTreeMap<u32, u32>>;
    fn is_member(&self, user: &str, group: &str) -> Seen<bool>;
    /// Who has this group as the primary one, as far as the database lists users.
    fn primary_users(&self, gid: u32) -> Seen<Vec<String>>;
    /// How many processes of a user run.
    fn processes(&self, uid: u32) -> Seen<usize>;
    /// The name of a group number, or the number itself.
    fn group_name(&self, gid: u32) -> String;
    fn user_name(&self, uid: u32) -> String;
    fn node(&self, path: &Path) -> Seen<Option<Node>>;
    /// The path behind the owner's links.
    fn real(&self, path: &Path, owner: u32) -> Seen<std::path::PathBuf>;
    /// Why somebody else than root and the owner could put another folder in the place of `path`,
    /// and what to do about it.
    fn exposed(&self, path: &Path, owner: u32) -> Seen<Option<String>>;
    /// Whether `user`, who has that uid and those groups, passes through a folder.
    fn search(&self, folder: &Path, user: &str, uid: u32, gids: &[u32]) -> Seen<Option<Search>>;
    /// `models`: every file is told too.
    fn share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<Share>>;
    /// The description of the generation at `id`, if it is there and is what its name says.
    fn generation_spec(&self, paths: &Paths, id: &str) -> Seen<Option<GenSpec>>;
    fn generation(&self, paths: &Paths, spec: &GenSpec, ids: &Ids) -> Seen<Option<GenCheck>>;
    /// A Python of this minor version that the sandbox user can reach; `Ok(Err)` says why there is
    /// none.
    fn interpreter(&self, d: &Desired, ids: &Ids) -> Seen<Result<Interpreter, String>>;
    /// The interpreter that comfy has of its own, or would have, in this version.
    fn managed(&self, paths: &Paths, version: &str) -> Interpreter;
    /// What is off with it; `None` if it is not there.
    fn managed_check(&self, paths: &Paths, version: &str, ids: &Ids) -> Seen<Option<Vec<Finding>>>;
    /// What is off in a virtual environment; `None` if there is none of that name.
    fn venv(&self, paths: &Paths, spec: &VenvSpec, ids: &Ids) -> Seen<Option<Vec<Finding>>>;
    /// How the last apply had it launched; `None` where there is nothing that can be read as that.
    fn launch(&self, paths: &Paths) -> Seen<Option<LaunchSpec>>;
    /// The backstop of `network.egress` for the sandbox's uid.
    fn fence(&self, paths: &Paths, uid: u32) -> Seen<Fence>;
    /// A copy of comfy at `path`, or the program that runs now.
    fn program(&self, path: Option<&Path>) -> Seen<Option<Program>>;
    /// The text of a small file in a folder of the system.
    fn system_text(&self, path: &Path) -> Seen<Option<String>>;
    fn inventory(&self, paths: &Paths) -> Seen<Inventory>;
}

/// Changes the machine, one step at a time. Every step may be repeated.
pub trait Act {
    /// # Errors
    /// What went wrong and with which path; the machine is then between two steps.
    fn perform(&mut self, step: &Step) -> Result<()>;
    /// Writes the inventory durably.
    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()>;
}
