//! The real machine, as [`Act`] changes it: one step, one short function, each by descriptor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::UnlinkatFlags;

use super::build::Builder;
use super::fs::parent;
use super::git::NetEnv;
use super::machine::Machine;
use super::models::Hubs;
use super::shares;
use crate::desired::Paths;
use crate::host::build::process::Jobs;
use crate::host::fs::edit;
use crate::host::fs::remove::{Foreign, remove_of};
use crate::host::models::apply_steps;
use crate::plan::ids::Ids;
use crate::plan::inventory::Inventory;
use crate::plan::look::Act;
use crate::plan::observed::{Kind, ShareSpec};
use crate::plan::step::Step;
use crate::problem::{Doing, Problem, Result};
use crate::progress::Reporter;

pub struct Hands<'a> {
    pub machine: &'a Machine,
    pub paths: Paths,
    pub ids: Ids,
    pub net: NetEnv,
    pub hubs: Hubs,
    /// Models whose bytes are here, and those that are in their share now.
    pub ready: BTreeMap<crate::lock::Sha, apply_steps::Ready>,
    pub placed: apply_steps::Placed,
    pub offline: bool,
    pub report: &'a dyn Reporter,
    pub jobs: Option<Jobs>,
    /// The git program that a build may use.
    pub git: Option<std::path::PathBuf>,
}

impl Hands<'_> {
    fn sealed(&self) -> Option<(u32, u32)> {
        nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.seal_gid))
    }

    fn records(&self) -> Option<(u32, u32)> {
        nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.records_gid()))
    }

    /// Writes down for all instances of this machine who builds for a sandbox user.
    fn claim_ids(&self, sandbox: u32, build: u32) -> Result<()> {
        let mut all = self.id_pairs()?;
        if let Some((other, _)) = all
            .iter()
            .find(|(other, b)| **b == build && **other != sandbox)
        {
            return Err(Problem::new(format!(
                "uid {build} builds for the sandbox user with uid {other} by now"
            ))
            .hint("run `comfy apply` again: it takes another one"));
        }
        all.insert(sandbox, build);
        self.write_id_pairs(&all)
    }

    /// Takes it back.
    fn release_ids(&self) -> Result<()> {
        let mut all = self.id_pairs()?;
        if all.remove(&self.ids.sandbox).is_none() {
            return Ok(());
        }
        self.write_id_pairs(&all)
    }

    fn id_pairs(&self) -> Result<BTreeMap<u32, u32>> {
        super::machine::id_pairs(&self.paths.id_pairs()).map_err(Problem::from)
    }

    /// Without a pair there is no file.
    fn write_id_pairs(&self, all: &BTreeMap<u32, u32>) -> Result<()> {
        let path = self.paths.id_pairs();
        if all.is_empty() {
            return edit::remove_path(&path).doing(|| format!("remove {}", path.display()));
        }
        let doing = || format!("write {}", path.display());
        let text = serde_json::to_vec(all).doing(doing)?;
        edit::make_parents(&path, self.ids.seal.into(), self.ids.seal_gid.into()).doing(doing)?;
        edit::write_file(&path, &text, 0o644, self.sealed()).doing(doing)
    }

    fn share(&self, spec: &ShareSpec) -> Result<()> {
        let n = shares::mend(spec)?;
        self.report.say(&format!(
            "share {}: {} mended",
            spec.name,
            crate::text::count(n, "entry")
        ));
        Ok(())
    }

    fn set_link(&self, path: &Path, target: &Path, uid: u32, gid: u32) -> Result<()> {
        let what = || format!("link {} to {}", path.display(), target.display());
        if uid == self.ids.owner {
            let own = (
                nix::unistd::Uid::from_raw(uid),
                nix::unistd::Gid::from_raw(gid),
            );
            edit::make_parents(path, own.0, own.1).doing(what)?;
            if nix::unistd::geteuid().is_root() {
                return crate::host::fs::trusted::set_link(path, target, uid, gid)
                    .map_err(|p| p.prefixed(&format!("could not {}: ", what())));
            }
        }
        // In a folder of the sandbox user a chown by name could be raced to another file: the link
        // stays root's there.
        edit::set_link(path, target, None).doing(what)
    }

    fn builder(&mut self) -> Builder<'_> {
        Builder {
            paths: &self.paths,
            ids: self.ids,
            net: self.net.clone(),
            git: self.git.clone(),
            offline: self.offline,
            cache: &self.machine.cache,
            readings: &self.machine.readings,
            report: self.report,
            jobs: self.jobs,
        }
    }

    /// Clears what a failed prepare has left: a first apply then leaves nothing behind, not even
    /// empty folders.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn abandon(&self, first: &[PathBuf]) -> Result<()> {
        let staged = std::fs::read_dir(self.paths.staging())
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path());
        let names = |p: &PathBuf| {
            p.file_name().is_some_and(|n| {
                ["gen-", "venv-", "job-"]
                    .iter()
                    .any(|s| n.to_string_lossy().starts_with(s))
            })
        };
        // What was fetched of models, packages and repositories stays: the next run goes on from
        // there.
        let some =
            |folder: PathBuf| std::fs::read_dir(folder).is_ok_and(|mut d| d.next().is_some());
        let store = self.paths.store();
        let repositories = std::fs::read_dir(self.paths.git_store())
            .into_iter()
            .flatten()
            .flatten()
            .any(|e| some(e.path().join("objects/pack")));
        let fetched = [
            (self.paths.downloads(), some(self.paths.downloads())),
            (
                store.clone(),
                repositories || some(crate::host::build::venv::wheels(&self.paths)),
            ),
        ];
        let kept: Vec<PathBuf> = fetched
            .into_iter()
            .filter_map(|(folder, any)| any.then_some(folder))
            .collect();
        if !kept.contains(&self.paths.downloads()) {
            // Empty, and no harm where it stays.
            let _ = edit::remove_path(&self.paths.downloads());
        }
        for path in staged.filter(names).chain(first.iter().cloned()) {
            clear_but(&path, &kept).doing(|| format!("clear {}", path.display()))?;
        }
        Ok(())
    }

    /// A removal writes down what it does before it frees anything: where the disk is too full for
    /// that, what was fetched goes first.
    pub fn make_room(&self, inventory: &Inventory) {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = |e: std::io::Error| matches!(e.kind(), StorageFull | QuotaExceeded);
        if self.note(inventory).is_err_and(full) {
            // Whether that was enough is told by what comes next.
            let _ = edit::remove_path(&self.paths.store());
        }
    }

    fn note(&self, inventory: &Inventory) -> std::io::Result<()> {
        let (path, text) = (
            self.paths.inventory(),
            serde_json::to_vec_pretty(inventory)?,
        );
        let own = nix::unistd::Uid::from_raw(self.ids.seal);
        edit::make_parents(&path, own, nix::unistd::Gid::from_raw(self.ids.seal_gid))?;
        edit::write_file(&path, &text, 0o640, self.records())
    }

    fn install(&self, what: &str, id: &str, staged: &Path, at: &Path) -> Result<()> {
        let what = || format!("put {what} {id} in place");
        if staged.symlink_metadata().is_err() {
            // A repeated step: it is there already, and is looked at again after the apply.
            return Ok(());
        }
        if at.symlink_metadata().is_err() {
            return edit::move_to(staged, at).doing(what);
        }
        edit::exchange(staged, at).doing(what)?;
        self.discard(staged)
    }

    /// Out of the way first, then away: a half-removed folder is never where a whole one is
    /// expected.
    fn discard(&self, path: &Path) -> Result<()> {
        // What a killed run left there goes too.
        for old in std::fs::read_dir(self.paths.trash())
            .into_iter()
            .flatten()
            .flatten()
        {
            edit::remove_path(&old.path()).doing(|| "empty the trash".into())?;
        }
        let trash = self
            .paths
            .trash()
            .join(path.file_name().unwrap_or_default());
        edit::move_to(path, &trash).doing(|| format!("move {} to the trash", path.display()))?;
        edit::remove_path(&trash).doing(|| "empty the trash".into())
    }

    fn quarantine(&self, id: &str, names: &[String]) -> Result<()> {
        for name in names {
            crate::manifest::names::relative(name).map_err(|why| {
                Problem::new(format!(
                    "quarantine: \"{}\" {why}",
                    crate::text::escape(name)
                ))
            })?;
            let from = self
                .paths
                .generation(id)
                .join("ComfyUI/custom_nodes")
                .join(name);
            if from.symlink_metadata().is_err() {
                continue;
            }
            let to = self.paths.quarantine().join(format!(
                "{}-{}-{name}",
                chrono::Utc::now().format("%Y%m%dT%H%M%S"),
                std::process::id()
            ));
            edit::make_dir(
                &self.paths.quarantine(),
                self.ids.seal,
                self.ids.seal_gid,
                0o700,
            )
            .doing(|| "make the quarantine".into())?;
            edit::move_to(&from, &to).doing(|| format!("move {} to quarantine", from.display()))?;
            self.report.say(&format!(
                "{name}: nobody declared it; moved to {}",
                to.display()
            ));
        }
        Ok(())
    }

    /// A folder of somebody else's, which the sandbox user moved there when `state/` was its own,
    /// goes out of the way unharmed.
    fn clear_way(&self, path: &Path, uid: u32) -> std::io::Result<()> {
        let (dir, name) = parent(path)?;
        match super::fs::lstat_at(&dir, &name) {
            // What a killed step has made is root's, and closed.
            Ok(st)
                if st.st_uid != uid
                    && !(st.st_uid == self.ids.seal && super::fs::bits(&st) & 0o077 == 0) =>
            {
                edit::move_aside(&dir, &name)
            }
            _ => Ok(()),
        }
    }

    /// Says what else lies in `state/`: a launch does not see it, and comfy leaves it alone.
    fn name_unknown(&self) {
        let all = std::fs::read_dir(self.paths.state())
            .into_iter()
            .flatten()
            .flatten();
        let mut unknown: Vec<String> = all
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| !Paths::is_state(n))
            .collect();
        unknown.sort();
        if !unknown.is_empty() {
            let names: Vec<String> = unknown
                .iter()
                .take(5)
                .map(|n| crate::text::escape(n))
                .collect();
            let more = if unknown.len() > names.len() {
                format!(" and {} more", unknown.len() - names.len())
            } else {
                String::new()
            };
            self.report.say(&format!(
                "{}: {}{more}: comfy does not know it; it is left alone, and ComfyUI does not see \
                 it",
                self.paths.state().display(),
                names.join(", ")
            ));
        }
    }

    /// A folder where the sandbox user can put things, others' among them.
    fn remove_sandboxs(&self, path: &Path) -> Result<()> {
        let away = |e: &std::io::Error| {
            let foreign = e.get_ref()?.downcast_ref::<Foreign>()?;
            Some(format!(
                "move it out of there, with the rights that it has, then run this again: sudo mv \
                 '{}' /somewhere/else/",
                path.join(&foreign.path).display()
            ))
        };
        remove_of(path, self.ids.sandbox).map_err(|e| {
            let p = Problem::new(format!("could not remove {}: {e}", path.display())).caused_by(&e);
            away(&e).into_iter().fold(p, Problem::hint)
        })
    }

    /// `state/` is taken back first: what is removed cannot be renamed meanwhile.
    fn remove_state(&self) -> Result<()> {
        let state = self.paths.state();
        if !matches!(super::fs::node(&state), Ok(Some(n)) if n.kind == Kind::Dir) {
            return edit::remove_path(&state).doing(|| format!("remove {}", state.display()));
        }
        let what = || format!("take back {}", state.display());
        edit::make_dir(&state, self.ids.seal, self.ids.seal_gid, 0o700).doing(what)?;
        let mut problems = Vec::new();
        for entry in std::fs::read_dir(&state).doing(what)? {
            problems.extend(self.remove_sandboxs(&entry.doing(what)?.path()).err());
        }
        if !problems.is_empty() {
            return Err(Problem::all(problems));
        }
        edit::remove_path(&state).doing(|| format!("remove {}", state.display()))
    }

    fn remove_instance(&self, backup: Option<&Path>, home: Option<&Path>) -> Result<()> {
        if let Some(to) = backup {
            let folder = |p: &Path| edit::make_dir(p, self.ids.seal, self.ids.seal_gid, 0o700);
            for (from, name) in [
                (self.paths.state().join("user"), "user"),
                (self.paths.quarantine(), "quarantine"),
                (self.paths.state().join("nodes"), "nodes"),
                (self.paths.state().join("core"), "core"),
            ] {
                if from.symlink_metadata().is_ok() && !to.join(name).exists() {
                    folder(to)
                        .and_then(|()| edit::move_to(&from, &to.join(name)))
                        .doing(|| format!("move {} to {}", from.display(), to.display()))?;
                }
            }
        }
        // Only what is the sandbox user's own: its home may have been made by somebody else in the
        // meantime.
        if let Some(home) = home
            && matches!(super::fs::node(home), Ok(Some(n)) if n.kind == Kind::Dir && n.uid == self.ids.sandbox)
        {
            self.remove_sandboxs(home)?;
        }
        self.remove_state()?;
        self.release_ids()?;
        // An instance of an older comfy may go on with what was fetched there.
        let old = self.paths.shared_downloads();
        let alone = |e: std::io::Result<std::fs::DirEntry>| {
            e.is_ok_and(|e| e.path() == self.paths.base || e.path() == old)
        };
        if std::fs::read_dir(&self.paths.prefix).is_ok_and(|mut d| d.all(alone)) {
            edit::remove_path(&old).doing(|| "clear the downloads".into())?;
        }
        for path in [self.paths.base.clone(), self.paths.records.clone()] {
            edit::remove_path(&path).doing(|| format!("remove {}", path.display()))?;
            // The folder above, where nothing else is in it.
            if let Ok((dir, name)) = path.parent().map_or(Err(std::io::Error::other("")), parent) {
                let _ = nix::unistd::unlinkat(&dir, name.as_c_str(), UnlinkatFlags::RemoveDir);
            }
        }
        Ok(())
    }
}

/// Removes `path`, but for what leads to `kept`.
fn clear_but(path: &Path, kept: &[PathBuf]) -> std::io::Result<()> {
    if kept.iter().any(|k| k == path) {
        return Ok(());
    }
    if !kept.iter().any(|k| k.starts_with(path)) {
        return edit::remove_path(path);
    }
    for entry in std::fs::read_dir(path)? {
        clear_but(&entry?.path(), kept)?;
    }
    Ok(())
}

impl Act for Hands<'_> {
    fn perform(&mut self, step: &Step) -> Result<()> {
        let accounts = &self.machine.accounts;
        match step {
            Step::BuildGeneration { spec, reuse } => self.builder().build(spec, reuse),
            Step::BuildPython { version } => {
                crate::host::build::interpreter::build(&mut self.builder(), version)
            }
            Step::BuildVenv { spec, reuse } => {
                crate::host::build::venv::build(&mut self.builder(), spec, reuse)
            }
            Step::FetchModels { items } => {
                let hubs = self.hubs.clone();
                let ready = apply_steps::fetch(&mut self.builder(), &hubs, items)?;
                self.ready.extend(ready);
                Ok(())
            }
            Step::PlaceModel {
                share,
                path,
                sha256,
                keep,
                ..
            } => {
                let kept = keep
                    .then(|| format!("replaced-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%3f")));
                let kept = apply_steps::put(
                    &mut self.ready,
                    share,
                    path,
                    *sha256,
                    kept.as_deref(),
                    &mut self.placed,
                )?;
                if let Some(kept) = kept {
                    self.report.say(&format!(
                        "model.{path}: another file was there; it is kept as {}",
                        kept.display()
                    ));
                }
                Ok(())
            }
            Step::CreateGroup { name, gid } => accounts.create_group(name, *gid),
            Step::DeleteGroup { name, .. } => accounts.delete_group(name),
            Step::ClaimIds { sandbox, build } => self.claim_ids(*sandbox, *build),
            Step::CreateUser {
                name,
                uid,
                gid,
                home,
            } => accounts.create_user(name, *uid, *gid, home),
            Step::ChangeUser { name, gid, home } => accounts.change_user(name, *gid, home),
            Step::DeleteUser { name, .. } => accounts.delete_user(name),
            Step::AddMember { user, group } => accounts.add_member(user, group),
            Step::RemoveMember { user, group } => accounts.remove_member(user, group),
            Step::MakeDir {
                path,
                uid,
                gid,
                mode,
                passer,
            } => {
                if *uid == self.ids.seal {
                    let own = (
                        nix::unistd::Uid::from_raw(self.ids.seal),
                        nix::unistd::Gid::from_raw(self.ids.seal_gid),
                    );
                    edit::make_parents(path, own.0, own.1)
                        .doing(|| format!("make {}", path.display()))?;
                }
                if path.parent() == Some(&self.paths.state()) {
                    self.clear_way(path, *uid)
                        .doing(|| format!("make {}", path.display()))?;
                }
                edit::make_dir(path, *uid, *gid, *mode)
                    .doing(|| format!("make {}", path.display()))?;
                if let Some(p) = passer {
                    // Nobody but root can rename it: it lies in a folder of root's.
                    accounts.grant_search(path, &p.name, p.uid)?;
                }
                if *path == self.paths.state() {
                    self.name_unknown();
                }
                Ok(())
            }
            Step::GrantSearch { folder, user, uid } => accounts.grant_search(folder, user, *uid),
            Step::RevokeSearch { folder, user, uid } => accounts.revoke_search(folder, user, *uid),
            Step::MakeShare { spec, .. } => shares::make_root(spec),
            Step::MendShare { spec } => self.share(spec),
            Step::ReleaseShare {
                name,
                path,
                requires_mount,
                from_gid,
                to_gid,
                mode,
                ..
            } => {
                shares::mounted(requires_mount.as_deref()).map_err(|u| {
                    Problem::new(format!("share {name}: {}", u.reason))
                        .of_kind(u.kind)
                        .hint("mount it, so that comfy can take its group off there")
                })?;
                shares::release(path, *from_gid, *to_gid, *mode)
            }
            Step::SetLink {
                path,
                target,
                uid,
                gid,
            } => self.set_link(path, target, *uid, *gid),
            Step::RemoveLink { path, target } => edit::remove_link(path, target)
                .doing(|| format!("remove the link {}", path.display())),
            Step::WriteLaunch { spec } => {
                let text = serde_json::to_vec_pretty(spec)
                    .doing(|| "write how ComfyUI is launched".into())?;
                let path = self.paths.launch();
                edit::write_file(&path, &text, 0o640, self.records())
                    .doing(|| format!("write {}", path.display()))
            }
            Step::SetFence { uid, record } => {
                super::egress_filter::set(*uid, record, &super::process::System)
            }
            Step::RemoveFence { uid, record } => {
                super::egress_filter::remove(*uid, record, &super::process::System)
            }
            Step::Deny { file, user } => super::system_files::list(file, user, true),
            Step::Permit { file, user } => super::system_files::list(file, user, false),
            Step::InstallLauncher {
                path,
                size,
                modified,
            } => super::system_files::install_launcher(path, *size, *modified),
            Step::RemoveLauncher { path } => {
                edit::remove_path(path).doing(|| format!("remove {}", path.display()))
            }
            Step::WriteSystemFile { file } => {
                super::system_files::write(file, &self.paths, &super::process::System)
            }
            Step::RemoveSystemFile { kind, path } => {
                super::system_files::remove(*kind, path, &super::process::System)
            }
            Step::Quarantine { id, names } => self.quarantine(id, names),
            Step::Install { id } => self.install(
                "generation",
                id,
                &self.paths.staged(id),
                &self.paths.generation(id),
            ),
            Step::InstallVenv { id } => self.install(
                "virtual environment",
                id,
                &self.paths.staged_venv(id),
                &self.paths.venv(id),
            ),
            Step::Seed {
                id,
                part,
                path,
                uid,
                gid,
            } => {
                let from = self
                    .paths
                    .generation(id)
                    .join(Paths::tracked(part))
                    .join(path);
                let base = Paths::written_by(&self.paths.state(), part);
                crate::host::shares::first_content::copy(&from, &base, Path::new(path), *uid, *gid)
                    .doing(|| format!("give {part}: {path} its first content"))
            }
            Step::Switch { id } => edit::set_link(
                &self.paths.current(),
                &Path::new("gen").join(id),
                self.sealed(),
            )
            .doing(|| format!("make generation {id} live")),
            Step::RemoveGeneration { id } => {
                self.discard(&self.paths.generation(id))?;
                edit::remove_path(&self.paths.bytecode(id))
                    .doing(|| format!("remove the list of generation {id}'s bytecode"))
            }
            Step::RemoveVenv { id } => {
                self.discard(&self.paths.venv(id))?;
                edit::remove_path(&self.paths.venv_list(id))
                    .doing(|| format!("remove the list of virtual environment {id}"))
            }
            Step::RemovePython { version } => {
                self.discard(&self.paths.python(version))?;
                edit::remove_path(&self.paths.python_list(version))
                    .doing(|| format!("remove the list of interpreter {version}"))
            }
            Step::RemoveInstance { backup, home } => {
                self.remove_instance(backup.as_deref(), home.as_deref())
            }
        }
    }

    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()> {
        self.note(inventory)
            .doing(|| format!("write {}", self.paths.inventory().display()))
    }
}
