//! The real machine, as [`Look`] reads it.

pub(crate) mod identity;
pub(crate) mod report_facts;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::accounts::{self, AccountDatabase};
use super::python::InterpreterCache;
use super::{build, fs, shares};
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::ComfyProgram;
use crate::desired::venv::{PythonInterpreter, VenvSpec};
use crate::desired::{Desired, GenerationSpec, InstancePaths};
use crate::host::build::{interpreter, venv};
use crate::host::models::verified_hashes::{self, Hashes};
use crate::host::sealed::fingerprint;
use crate::host::sealed::generation_check::GenerationChecker;
use crate::host::sealed::stat_cache::StatCache;
use crate::host::sealed::verification::VerificationCache;
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::Look;
use crate::plan::observed::{
    EgressFilter, FsEntry, GenerationCheck, GroupAccount, SearchPermission, Seen, ShareSpec,
    ShareState, TreeDifference, UnknownState, UserAccount,
};
use crate::problem::{Context, Result};
pub(crate) use identity::{host_platform, operating_system, primary_owner, short_hostname};

pub(crate) struct HostMachine {
    pub accounts: Box<dyn AccountDatabase>,
    pub cache: StatCache,
    pub readings: VerificationCache,
    pub interpreters: InterpreterCache,
    /// The hashes of models when they were last read.
    pub hashes: Hashes,
    /// The sandbox user's name, for ACL entries.
    pub sandbox: String,
    names: Mutex<HashMap<(bool, u32), String>>,
}

impl HostMachine {
    pub(crate) fn new(paths: &InstancePaths, sandbox: &str) -> Self {
        HostMachine {
            hashes: Hashes::load(&verified_hashes::believed(paths)),
            accounts: accounts::of_this_machine(),
            cache: StatCache::load(&paths.stat_cache()),
            readings: VerificationCache::new(fingerprint::load_fingerprints(
                &paths.fingerprints_file(),
            )),
            interpreters: InterpreterCache::load(&paths.interpreter_cache()),
            sandbox: sandbox.into(),
            names: Mutex::default(),
        }
    }

    /// Writes down what was read, for the next run to believe; what changed shows another stamp.
    /// Root's to do, or the owner's under isolation "none"; `owner` is that of the records.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn write_caches(
        &self,
        paths: &InstancePaths,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        self.readings.refresh_linked();
        let footprints = self
            .readings
            .changed_fingerprints()
            .map(|f| serde_json::to_vec(&f))
            .transpose()
            .context("write the footprints")?;
        let interpreters = self
            .interpreters
            .changed_answers()
            .map(|a| serde_json::to_vec(&a))
            .transpose()
            .context("write the interpreters")?;
        for (path, bytes) in [
            (paths.stat_cache(), self.readings.stat_cache()),
            (paths.fingerprints_file(), footprints),
            (paths.interpreter_cache(), interpreters),
        ] {
            if let Some(bytes) = bytes {
                fs::edit::write_file(&path, &bytes, 0o640, owner)
                    .with_context(|| format!("write {}", path.display()))?;
            }
        }
        if self.hashes.has_news() {
            self.hashes.save(&paths.model_hashes(), owner)
        } else {
            Ok(())
        }
    }

    /// Returns a machine that reads every byte, whatever earlier runs have read.
    pub(crate) fn without_memory(paths: &InstancePaths, sandbox: &str) -> Self {
        HostMachine {
            cache: StatCache::default(),
            readings: VerificationCache::default(),
            hashes: Hashes::default(),
            ..HostMachine::new(paths, sandbox)
        }
    }
}

impl HostMachine {
    /// The name of an id, asked once while it has one: the database is a file that is read from its
    /// start each time.
    fn name_of(&self, key: (bool, u32), ask: impl FnOnce() -> Option<String>) -> String {
        if let Some(known) = self.names.lock().ok().and_then(|n| n.get(&key).cloned()) {
            return known;
        }
        let Some(name) = ask() else {
            return key.1.to_string();
        };
        if let Ok(mut names) = self.names.lock() {
            names.insert(key, name.clone());
        }
        name
    }
}

/// The table of who builds for whom; empty where nobody wrote one.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn id_pairs(path: &Path) -> Seen<BTreeMap<u32, u32>> {
    let unknown = |why: String| UnknownState::new(format!("{}: {why}", path.display()), false);
    match fs::absent_as_none(std::fs::read(path)).map_err(|e| unknown(e.to_string()))? {
        Some(text) => serde_json::from_slice(&text).map_err(|e| unknown(e.to_string())),
        None => Ok(BTreeMap::new()),
    }
}

impl Look for HostMachine {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>> {
        self.accounts.find_group(name)
    }

    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>> {
        self.accounts.find_user(name)
    }

    fn id_taken(&self, id: u32) -> Seen<bool> {
        let unknown =
            |e: nix::errno::Errno| UnknownState::new(format!("id {id}: {e}"), false).caused_by(&e);
        let known = self.uid_taken(id)?
            || nix::unistd::Group::from_gid(id.into())
                .map_err(unknown)?
                .is_some();
        Ok(known || super::reserved_ids::by_another(&self.sandbox, id))
    }

    fn uid_taken(&self, id: u32) -> Seen<bool> {
        let user = nix::unistd::User::from_uid(id.into())
            .map_err(|e| UnknownState::new(format!("id {id}: {e}"), false).caused_by(&e))?;
        Ok(user.is_some() || super::reserved_ids::by_another(&self.sandbox, id))
    }

    fn id_pairs(&self, paths: &InstancePaths) -> Seen<BTreeMap<u32, u32>> {
        id_pairs(&paths.id_pairs())
    }

    fn is_member(&self, user: &str, group: &str) -> Seen<bool> {
        self.accounts.is_member(user, group)
    }

    fn groups_naming(&self, user: &str) -> Seen<Vec<String>> {
        self.accounts.groups_naming(user)
    }

    fn primary_users(&self, gid: u32) -> Seen<Vec<String>> {
        Ok(accounts::primary_of(gid)
            .into_iter()
            .map(|uid| self.user_name(uid))
            .collect())
    }

    fn process_count(&self, uid: u32) -> Seen<usize> {
        super::process::count_of(uid).ok_or_else(|| {
            UnknownState::new(
                format!("processes of uid {uid}: the system does not show them"),
                true,
            )
        })
    }

    fn group_name(&self, gid: u32) -> String {
        self.name_of((false, gid), || {
            nix::unistd::Group::from_gid(gid.into())
                .ok()
                .flatten()
                .map(|g| g.name)
        })
    }

    fn user_name(&self, uid: u32) -> String {
        self.name_of((true, uid), || {
            nix::unistd::User::from_uid(uid.into())
                .ok()
                .flatten()
                .map(|u| u.name)
        })
    }

    fn read_entry(&self, path: &Path) -> Seen<Option<FsEntry>> {
        fs::read_entry(path)
    }

    fn real_path(&self, path: &Path, owner: u32) -> Seen<PathBuf> {
        fs::real_path(path, owner)
    }

    fn why_uncreatable(&self, path: &Path) -> Seen<Option<PathBuf>> {
        let above = path.ancestors().skip(1);
        let nearest = above.into_iter().find(|p| p.symlink_metadata().is_ok());
        let writable = |p: &&Path| nix::unistd::access(*p, nix::unistd::AccessFlags::W_OK).is_ok();
        Ok(nearest.filter(|p| !writable(p)).map(Path::to_path_buf))
    }

    fn unowned_volume(&self, path: &Path) -> Seen<Option<PathBuf>> {
        fs::mounts::unowned_volume(path).map_err(|e| fs::unread(path, &e))
    }

    fn why_exposed(&self, path: &Path, owner: u32) -> Seen<Option<String>> {
        fs::trusted::why_exposed(path, &[owner])
    }

    fn search_permission(
        &self,
        folder: &Path,
        user: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>> {
        self.accounts.search_permission(folder, user, uid, gids)
    }

    fn check_share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<ShareState>> {
        shares::check_share(spec, models.then_some(&self.hashes), &|gid| {
            self.group_name(gid)
        })
    }

    fn generation_spec(&self, paths: &InstancePaths, id: &str) -> Seen<Option<GenerationSpec>> {
        let folder = paths.generation_dir(id);
        build::read_spec(&folder, id).map_err(|e| fs::unread(&folder, &e))
    }

    fn check_generation(
        &self,
        paths: &InstancePaths,
        spec: &GenerationSpec,
        ids: &AccountIds,
    ) -> Seen<Option<GenerationCheck>> {
        let trees = paths.tree_listings_dir();
        GenerationChecker {
            cache: &self.cache,
            readings: &self.readings,
            trees: &trees,
            uid: ids.seal,
            gid: ids.seal_gid,
        }
        .check_generation(&paths.generation_dir(&spec.id()), spec)
    }

    fn find_interpreter(
        &self,
        d: &Desired,
        ids: &AccountIds,
    ) -> Seen<Result<PythonInterpreter, String>> {
        Ok(self.interpreters.find_interpreter(d, ids))
    }

    fn managed_interpreter(&self, paths: &InstancePaths, version: &str) -> PythonInterpreter {
        interpreter::managed_interpreter(paths, version)
    }

    fn managed_check(
        &self,
        paths: &InstancePaths,
        version: &str,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>> {
        interpreter::check_interpreter(paths, version, ids, &self.readings)
    }

    fn check_venv(
        &self,
        paths: &InstancePaths,
        spec: &VenvSpec,
        ids: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>> {
        venv::check_venv(paths, spec, ids, &self.readings)
    }

    fn applied_launch(&self, paths: &InstancePaths) -> Seen<Option<LaunchSpec>> {
        let path = paths.launch_record();
        let text = fs::absent_as_none(std::fs::read(&path)).map_err(|e| fs::unread(&path, &e))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn egress_filter(&self, paths: &InstancePaths, uid: u32) -> Seen<EgressFilter> {
        Ok(super::egress_filter::read_state(
            uid,
            &paths.egress_filter_record(),
            &super::process::SystemRunner,
        ))
    }

    fn comfy_program(&self, path: Option<&Path>) -> Seen<Option<ComfyProgram>> {
        super::elevate::program_of(path).map_err(|e| {
            UnknownState::new(format!("comfy's own program: {e}"), false).caused_by(&e)
        })
    }

    fn system_text(&self, path: &Path) -> Seen<Option<String>> {
        fs::absent_as_none(std::fs::read_to_string(path)).map_err(|e| fs::unread(path, &e))
    }

    fn has_neighbours(&self, paths: &InstancePaths) -> Seen<bool> {
        let Some(all) = paths.records.parent() else {
            return Ok(false);
        };
        let entries =
            fs::absent_as_none(std::fs::read_dir(all)).map_err(|e| fs::unread(all, &e))?;
        let other = |e: std::fs::DirEntry| e.path() != paths.records && e.path().is_dir();
        Ok(entries.into_iter().flatten().flatten().any(other))
    }

    fn read_inventory(&self, paths: &InstancePaths) -> Seen<Inventory> {
        let path = paths.inventory_file();
        match fs::absent_as_none(std::fs::read(&path)).map_err(|e| fs::unread(&path, &e))? {
            Some(text) => serde_json::from_slice(&text).map_err(|e| {
                UnknownState::new(
                    format!(
                        "{}: {e}; restore it, or move it away: comfy then adopts what exists",
                        path.display()
                    ),
                    false,
                )
                .caused_by(&e)
            }),
            None => Ok(Inventory::default()),
        }
    }
}
