//! The real machine, as [`Look`] reads it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::accounts::{self, Accounts};
use super::python::Interpreters;
use super::{build, fs, shares};
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::Program;
use crate::desired::venv::{Interpreter, VenvSpec};
use crate::desired::{Desired, GenSpec, Owner, Paths, Platform};
use crate::host::build::{interpreter, venv};
use crate::host::models::verified_hashes::{self, Hashes};
use crate::host::sealed::fingerprint;
use crate::host::sealed::generation_check::Checker;
use crate::host::sealed::stat_cache::StatCache;
use crate::host::sealed::verification::Readings;
use crate::plan::ids::Ids;
use crate::plan::inventory::Inventory;
use crate::plan::look::Look;
use crate::plan::observed::{
    Fence, Finding, GenCheck, Group, Node, Search, Seen, Share, ShareSpec, Unknown, User,
};
use crate::problem::{Doing, Problem, Result};

pub struct Machine {
    pub accounts: Box<dyn Accounts>,
    pub cache: StatCache,
    pub readings: Readings,
    pub interpreters: Interpreters,
    /// What models were when they were last read.
    pub hashes: Hashes,
    /// The sandbox user's name, for ACL entries.
    pub sandbox: String,
    names: Mutex<HashMap<(bool, u32), String>>,
}

impl Machine {
    pub fn new(paths: &Paths, sandbox: &str) -> Self {
        Machine {
            hashes: Hashes::load(&verified_hashes::believed(paths)),
            accounts: accounts::of_this_machine(),
            cache: StatCache::load(&paths.stat_cache()),
            readings: Readings::new(fingerprint::load(&paths.footprints())),
            interpreters: Interpreters::load(&paths.interpreters()),
            sandbox: sandbox.into(),
            names: Mutex::default(),
        }
    }

    /// Writes down what was read, for the next run to believe; what changed shows another stamp.
    /// Root's to do, or the owner's under isolation "none"; `owner` is that of the records.
    ///
    /// # Errors
    /// The disk.
    pub fn remember(&self, paths: &Paths, owner: Option<(u32, u32)>) -> Result<()> {
        self.readings.settle();
        let footprints = self
            .readings
            .footprints()
            .map(|f| serde_json::to_vec(&f))
            .transpose()
            .doing(|| "write the footprints".into())?;
        let interpreters = self
            .interpreters
            .news()
            .map(|a| serde_json::to_vec(&a))
            .transpose()
            .doing(|| "write the interpreters".into())?;
        for (path, bytes) in [
            (paths.stat_cache(), self.readings.stat_cache()),
            (paths.footprints(), footprints),
            (paths.interpreters(), interpreters),
        ] {
            if let Some(bytes) = bytes {
                fs::edit::write_file(&path, &bytes, 0o640, owner)
                    .doing(|| format!("write {}", path.display()))?;
            }
        }
        if self.hashes.has_news() {
            self.hashes.save(&paths.model_hashes(), owner)
        } else {
            Ok(())
        }
    }

    /// One that reads every byte, whatever earlier runs have read.
    pub fn without_memory(paths: &Paths, sandbox: &str) -> Self {
        Machine {
            cache: StatCache::default(),
            readings: Readings::default(),
            hashes: Hashes::default(),
            ..Machine::new(paths, sandbox)
        }
    }
}

impl Machine {
    /// The name of an id, asked once while it has one: the database is a file that is read from its
    /// start each time.
    fn name(&self, key: (bool, u32), ask: impl FnOnce() -> Option<String>) -> String {
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

pub fn platform() -> Platform {
    let (macos, machine) = (cfg!(target_os = "macos"), std::env::consts::ARCH);
    Platform {
        macos,
        machine: if macos && machine == "aarch64" {
            "arm64".into()
        } else {
            machine.into()
        },
    }
}

/// The short host name, as `hostname -s` prints it.
pub fn hostname() -> String {
    let full = nix::unistd::gethostname()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".into());
    full.split('.').next().unwrap_or(&full).to_string()
}

/// The table of who builds for whom; empty where nobody wrote one.
///
/// # Errors
/// It cannot be read, or is none.
pub fn id_pairs(path: &Path) -> Seen<BTreeMap<u32, u32>> {
    let unknown = |why: String| Unknown::new(format!("{}: {why}", path.display()), false);
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| unknown(e.to_string())),
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(BTreeMap::new())
        }
        Err(e) => Err(unknown(e.to_string())),
    }
}

/// The primary user: the one of the manifest, or whoever runs comfy, through sudo too.
///
/// # Errors
/// No such account, or it would be root where that makes no sense.
pub fn owner(named: Option<&str>, isolated: bool) -> Result<Owner> {
    let lookup = |name: &str| nix::unistd::User::from_name(name).ok().flatten();
    let me = nix::unistd::geteuid();
    let sudo = super::env::var("SUDO_USER").filter(|_| me.is_root());
    let user = match named.map(str::to_string).or(sudo) {
        Some(name) => lookup(&name).ok_or_else(|| {
            Problem::new(format!(
                "host.primary_user: there is no account {}",
                crate::text::escape(&name)
            ))
            .hint("name the account of the person who uses ComfyUI")
        })?,
        None => match nix::unistd::User::from_uid(me).ok().flatten() {
            Some(user) => user,
            // A container's made-up uid: enough where one account does everything.
            None if !isolated => {
                let home = super::env::home().ok_or_else(|| {
                    Problem::new(format!("uid {me} has no account and HOME is not set"))
                        .hint("set HOME")
                })?;
                return Ok(Owner {
                    name: me.to_string(),
                    uid: me.as_raw(),
                    gid: nix::unistd::getegid().as_raw(),
                    home,
                });
            }
            None => {
                return Err(Problem::new(format!("uid {me} has no account"))
                    .hint("set host.primary_user in comfy.toml"));
            }
        },
    };
    if !isolated && me.is_root() && !user.uid.is_root() {
        return Err(Problem::new(format!(
            "isolation \"none\" does everything as {}, and this is root",
            user.name
        ))
        .hint(format!("run it as {}, without sudo", user.name)));
    }
    if isolated && user.uid.is_root() {
        return Err(Problem::new(
            "the primary user would be root, whose files no second account can be kept from",
        )
        .hint("set host.primary_user in comfy.toml, or run comfy as that user"));
    }
    if !isolated && !me.is_root() && user.uid != me {
        return Err(Problem::new(format!(
            "host.primary_user is {}, and isolation \"none\" does everything as you",
            user.name
        ))
        .hint(format!("run comfy as {}", user.name)));
    }
    // What this process makes has its own group, whatever the account database says.
    let gid = if !isolated && user.uid == me {
        nix::unistd::getegid()
    } else {
        user.gid
    };
    Ok(Owner {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
        home: user.dir,
    })
}

impl Look for Machine {
    fn group(&self, name: &str) -> Seen<Option<Group>> {
        self.accounts.group(name)
    }

    fn user(&self, name: &str) -> Seen<Option<User>> {
        self.accounts.user(name)
    }

    fn id_taken(&self, id: u32) -> Seen<bool> {
        let unknown =
            |e: nix::errno::Errno| Unknown::new(format!("id {id}: {e}"), false).caused_by(&e);
        let known = self.uid_taken(id)?
            || nix::unistd::Group::from_gid(id.into())
                .map_err(unknown)?
                .is_some();
        Ok(known || super::reserved_ids::by_another(&self.sandbox, id))
    }

    fn uid_taken(&self, id: u32) -> Seen<bool> {
        let user = nix::unistd::User::from_uid(id.into())
            .map_err(|e| Unknown::new(format!("id {id}: {e}"), false).caused_by(&e))?;
        Ok(user.is_some() || super::reserved_ids::by_another(&self.sandbox, id))
    }

    fn id_pairs(&self, paths: &Paths) -> Seen<BTreeMap<u32, u32>> {
        id_pairs(&paths.id_pairs())
    }

    fn is_member(&self, user: &str, group: &str) -> Seen<bool> {
        self.accounts.is_member(user, group)
    }

    fn primary_users(&self, gid: u32) -> Seen<Vec<String>> {
        Ok(accounts::primary_of(gid)
            .into_iter()
            .map(|uid| self.user_name(uid))
            .collect())
    }

    fn processes(&self, uid: u32) -> Seen<usize> {
        super::process::count_of(uid).ok_or_else(|| {
            Unknown::new(
                format!("processes of uid {uid}: the system does not show them"),
                true,
            )
        })
    }

    fn group_name(&self, gid: u32) -> String {
        self.name((false, gid), || {
            nix::unistd::Group::from_gid(gid.into())
                .ok()
                .flatten()
                .map(|g| g.name)
        })
    }

    fn user_name(&self, uid: u32) -> String {
        self.name((true, uid), || {
            nix::unistd::User::from_uid(uid.into())
                .ok()
                .flatten()
                .map(|u| u.name)
        })
    }

    fn node(&self, path: &Path) -> Seen<Option<Node>> {
        fs::node(path)
    }

    fn real(&self, path: &Path, owner: u32) -> Seen<PathBuf> {
        fs::real(path, owner)
    }

    fn exposed(&self, path: &Path, owner: u32) -> Seen<Option<String>> {
        fs::trusted::exposed(path, &[owner])
    }

    fn search(&self, folder: &Path, user: &str, uid: u32, gids: &[u32]) -> Seen<Option<Search>> {
        self.accounts.search(folder, user, uid, gids)
    }

    fn share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<Share>> {
        shares::check(spec, models.then_some(&self.hashes), &|gid| {
            self.group_name(gid)
        })
    }

    fn generation_spec(&self, paths: &Paths, id: &str) -> Seen<Option<GenSpec>> {
        Ok(build::read_spec(&paths.generation(id), id))
    }

    fn generation(&self, paths: &Paths, spec: &GenSpec, ids: &Ids) -> Seen<Option<GenCheck>> {
        let trees = paths.trees();
        Checker {
            cache: &self.cache,
            readings: &self.readings,
            trees: &trees,
            uid: ids.seal,
            gid: ids.seal_gid,
        }
        .check(&paths.generation(&spec.id()), spec)
    }

    fn interpreter(&self, d: &Desired, ids: &Ids) -> Seen<Result<Interpreter, String>> {
        Ok(self.interpreters.find(d, ids))
    }

    fn managed(&self, paths: &Paths, version: &str) -> Interpreter {
        interpreter::interpreter(paths, version)
    }

    fn managed_check(&self, paths: &Paths, version: &str, ids: &Ids) -> Seen<Option<Vec<Finding>>> {
        interpreter::check(paths, version, ids, &self.readings)
    }

    fn venv(&self, paths: &Paths, spec: &VenvSpec, ids: &Ids) -> Seen<Option<Vec<Finding>>> {
        venv::check(paths, spec, ids, &self.readings)
    }

    fn launch(&self, paths: &Paths) -> Seen<Option<LaunchSpec>> {
        let path = paths.launch();
        match std::fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(Unknown::new(
                format!("{}: {e}", path.display()),
                e.kind() == std::io::ErrorKind::PermissionDenied,
            )
            .caused_by(&e)),
        }
    }

    fn fence(&self, paths: &Paths, uid: u32) -> Seen<Fence> {
        Ok(super::egress_filter::look(
            uid,
            &paths.fence(),
            &super::process::System,
        ))
    }

    fn program(&self, path: Option<&Path>) -> Seen<Option<Program>> {
        super::elevate::program(path)
            .map_err(|e| Unknown::new(format!("comfy's own program: {e}"), false).caused_by(&e))
    }

    fn system_text(&self, path: &Path) -> Seen<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(Unknown::new(
                format!("{}: {e}", path.display()),
                e.kind() == std::io::ErrorKind::PermissionDenied,
            )
            .caused_by(&e)),
        }
    }

    fn inventory(&self, paths: &Paths) -> Seen<Inventory> {
        let path = paths.inventory();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| {
                Unknown::new(
                    format!(
                        "{}: {e}; restore it, or move it away: comfy then adopts what is there",
                        path.display()
                    ),
                    false,
                )
                .caused_by(&e)
            }),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(Inventory::default())
            }
            Err(e) => Err(Unknown::new(
                format!("{}: {e}", path.display()),
                e.kind() == std::io::ErrorKind::PermissionDenied,
            )
            .caused_by(&e)),
        }
    }
}
