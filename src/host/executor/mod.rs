//! The real machine, as [`Act`] changes it: one step, one short function, each by descriptor.

mod folders;
mod id_claims;
mod removal;
mod scan_check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::build::GenerationBuilder;
use super::machine::HostMachine;
use super::models::ModelHubs;
use super::net::NetEnv;
use super::shares;
use crate::desired::InstancePaths;
use crate::host::build::process::JobLimits;
use crate::host::fs::edit;
use crate::host::models::apply_steps;
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::Act;
use crate::plan::model_summary::ModelFetch;
use crate::plan::observed::ShareSpec;
use crate::plan::step::Step;
use crate::problem::{Context, Result};
use crate::progress::Reporter;

pub(crate) struct Executor<'a> {
    pub machine: &'a HostMachine,
    pub paths: InstancePaths,
    pub ids: AccountIds,
    pub net: NetEnv,
    pub hubs: ModelHubs,
    /// Models whose bytes are here, and those that are in their share now.
    pub ready: BTreeMap<crate::lock::Sha256Digest, apply_steps::StagedModel>,
    pub placed: apply_steps::Placed,
    pub offline: bool,
    pub report: &'a dyn Reporter,
    pub jobs: Option<JobLimits>,
    /// The git program that a build may use.
    pub git: Option<std::path::PathBuf>,
}

impl Executor<'_> {
    fn sealed_owner(&self) -> Option<(u32, u32)> {
        nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.seal_gid))
    }

    fn records_owner(&self) -> Option<(u32, u32)> {
        nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.records_gid))
    }

    fn builder(&mut self) -> GenerationBuilder<'_> {
        GenerationBuilder {
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
    pub(crate) fn clear_failed_prepare(&self, first: &[PathBuf]) -> Result<()> {
        let staged = std::fs::read_dir(self.paths.staging_dir())
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path());
        let names = |p: &PathBuf| p.file_name().is_some_and(InstancePaths::is_staged);
        // What was fetched of models, packages and repositories stays: the next run goes on from
        // there.
        let some =
            |folder: PathBuf| std::fs::read_dir(folder).is_ok_and(|mut d| d.next().is_some());
        let store = self.paths.store_dir();
        let repositories = std::fs::read_dir(self.paths.git_store())
            .into_iter()
            .flatten()
            .flatten()
            .any(|e| some(e.path().join("objects/pack")));
        let fetched = [
            (self.paths.downloads_dir(), some(self.paths.downloads_dir())),
            (
                store.clone(),
                repositories || some(crate::host::build::venv::wheel_store(&self.paths)),
            ),
        ];
        let kept: Vec<PathBuf> = fetched
            .into_iter()
            .filter_map(|(folder, any)| any.then_some(folder))
            .collect();
        if !kept.contains(&self.paths.downloads_dir()) {
            // Empty, and no harm where it stays.
            let _ = edit::remove_path(&self.paths.downloads_dir());
        }
        for path in staged.filter(names).chain(first.iter().cloned()) {
            clear_but(&path, &kept).with_context(|| format!("clear {}", path.display()))?;
        }
        Ok(())
    }

    /// A removal writes down what it does before it frees anything: where the disk is too full for
    /// that, what was fetched goes first.
    pub(crate) fn make_room(&self, inventory: &Inventory) {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = |e: std::io::Error| matches!(e.kind(), StorageFull | QuotaExceeded);
        if self.write_records(inventory).is_err_and(full) {
            // Whether that was enough is told by what comes next.
            let _ = edit::remove_path(&self.paths.store_dir());
        }
    }

    fn write_records(&self, inventory: &Inventory) -> std::io::Result<()> {
        let (path, text) = (
            self.paths.inventory_file(),
            serde_json::to_vec_pretty(inventory)?,
        );
        let own = nix::unistd::Uid::from_raw(self.ids.seal);
        edit::make_parents(&path, own, nix::unistd::Gid::from_raw(self.ids.seal_gid))?;
        edit::write_file(&path, &text, 0o640, self.records_owner())
    }

    fn install_staged(&self, what: &str, id: &str, staged: &Path, at: &Path) -> Result<()> {
        let what = || format!("put {what} {id} in place");
        if staged.symlink_metadata().is_err() {
            // A repeated step: it is there already, and is looked at again after the apply.
            return Ok(());
        }
        if at.symlink_metadata().is_err() {
            return edit::move_to(staged, at).with_context(what);
        }
        edit::exchange_entries(staged, at).with_context(what)?;
        self.discard_path(staged)
    }

    fn fetch_models(&mut self, items: &[ModelFetch]) -> Result<()> {
        let hubs = self.hubs.clone();
        let ready = apply_steps::fetch_models(&mut self.builder(), &hubs, items)?;
        self.ready.extend(ready);
        Ok(())
    }

    fn place_model(
        &mut self,
        share: &ShareSpec,
        path: &str,
        sha256: crate::lock::Sha256Digest,
        keep: bool,
    ) -> Result<()> {
        let kept =
            keep.then(|| format!("replaced-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%3f")));
        let kept = apply_steps::put_model(
            &mut self.ready,
            share,
            path,
            sha256,
            kept.as_deref(),
            &mut self.placed,
        )?;
        if let Some(kept) = kept {
            self.report.print_line(&format!(
                "model.{path}: another file was there; it is kept as {}",
                kept.display()
            ));
        }
        Ok(())
    }

    fn write_launch(&self, spec: &crate::desired::launch::LaunchSpec) -> Result<()> {
        let text = serde_json::to_vec_pretty(spec).context("write how ComfyUI is launched")?;
        let path = self.paths.launch_record();
        edit::write_file(&path, &text, 0o640, self.records_owner())
            .with_context(|| format!("write {}", path.display()))
    }

    fn switch_to(&self, id: &crate::ids::GenerationId) -> Result<()> {
        edit::set_link(
            &self.paths.current_link(),
            Path::new(&id.relative_path()),
            self.sealed_owner(),
        )
        .and_then(|()| edit::sync_folder(&self.paths.base))
        .with_context(|| format!("make generation {id} live"))
    }

    /// Removes what is sealed by a list, then the list.
    fn remove_listed(&self, path: &Path, list: &Path, what: &str) -> Result<()> {
        self.discard_path(path)?;
        edit::remove_path(list).with_context(|| format!("remove the list of {what}"))
    }

    /// Out of the way first, then away: a half-removed folder is never where a whole one is
    /// expected.
    fn discard_path(&self, path: &Path) -> Result<()> {
        // What a killed run left there goes too.
        for old in std::fs::read_dir(self.paths.trash_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            edit::remove_path(&old.path()).context("empty the trash")?;
        }
        let trash = self
            .paths
            .trash_dir()
            .join(path.file_name().unwrap_or_default());
        edit::move_to(path, &trash)
            .with_context(|| format!("move {} to the trash", path.display()))?;
        edit::remove_path(&trash).context("empty the trash")
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

impl Act for Executor<'_> {
    fn perform_step(&mut self, step: &Step) -> Result<()> {
        let accounts = &self.machine.accounts;
        match step {
            Step::BuildGeneration { spec, reuse } => self.builder().build_generation(spec, reuse),
            Step::BuildPython { version } => {
                crate::host::build::interpreter::build_interpreter(&mut self.builder(), version)
            }
            Step::BuildVenv { spec, reuse } => {
                crate::host::build::venv::build_venv(&mut self.builder(), spec, reuse)
            }
            Step::ScanGeneration { id, accepted } => self.scan_generation(id, accepted),
            Step::FetchModels { items, scan } => {
                self.fetch_models(items)?;
                self.scan_models(items, scan)
            }
            Step::PlaceModel {
                share,
                path,
                sha256,
                keep,
                ..
            } => self.place_model(share, path, *sha256, *keep),
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
            Step::DeleteUser { name, uid } => {
                self.remove_darwin_folders(*uid)?;
                accounts.delete_user(name)
            }
            Step::AddMember { user, group } => accounts.add_member(user, group),
            Step::RemoveMember { user, group } => accounts.remove_member(user, group),
            Step::MakeDir {
                path,
                uid,
                gid,
                mode,
                passer,
            } => self.make_dir(path, (*uid, *gid), *mode, passer.as_ref()),
            Step::GrantSearch { folder, user, uid } => accounts.grant_search(folder, user, *uid),
            Step::RevokeSearch { folder, user, uid } => accounts.revoke_search(folder, user, *uid),
            Step::MakeShare { spec, .. } => shares::make_root(spec),
            Step::RepairShare { spec } => self.make_share(spec),
            Step::ReleaseShare {
                name,
                path,
                requires_mount,
                from_gid,
                to_gid,
                mode,
                ..
            } => self.release_share(
                name,
                path,
                requires_mount.as_deref(),
                (*from_gid, *to_gid),
                *mode,
            ),
            Step::SetLink {
                path,
                target,
                uid,
                gid,
            } => self.set_link(path, target, *uid, *gid),
            Step::RemoveLink { path, target } => edit::remove_link(path, target)
                .with_context(|| format!("remove the link {}", path.display())),
            Step::WriteLaunch { spec } => self.write_launch(spec),
            Step::InstallEgressFilter { uid, record } => {
                super::egress_filter::install_rules(*uid, record, &super::process::SystemRunner)
            }
            Step::RemoveEgressFilter { uid, record } => {
                super::egress_filter::remove_rules(*uid, record, &super::process::SystemRunner)
            }
            Step::DenyCronJobs { file, user } => super::system_files::edit_list(file, user, true),
            Step::AllowCronJobs { file, user } => super::system_files::edit_list(file, user, false),
            Step::InstallLauncher {
                path,
                size,
                modified,
            } => super::system_files::install_launcher(path, *size, *modified),
            Step::RemoveLauncher { path } => {
                edit::remove_path(path).with_context(|| format!("remove {}", path.display()))
            }
            Step::WriteSystemFile { file } => {
                super::system_files::write_file(file, &self.paths, &super::process::SystemRunner)
            }
            Step::RemoveSystemFile { kind, path } => {
                super::system_files::remove_file(*kind, path, &super::process::SystemRunner)
            }
            Step::Quarantine { id, names } => self.quarantine_parts(id, names),
            Step::Install { id } => self.install_staged(
                "generation",
                id,
                &self.paths.staged_generation(id),
                &self.paths.generation_dir(id),
            ),
            Step::InstallVenv { id } => self.install_staged(
                "virtual environment",
                id,
                &self.paths.staged_venv(id),
                &self.paths.venv_dir(id),
            ),
            Step::Seed {
                id,
                part,
                path,
                uid,
                gid,
            } => self.give_first_content(id, part, path, (*uid, *gid)),
            Step::Switch { id } => self.switch_to(id),
            Step::RemoveGeneration { id } => self.remove_listed(
                &self.paths.generation_dir(id),
                &self.paths.bytecode_list(id),
                &format!("generation {id}'s bytecode"),
            ),
            Step::RemoveVenv { id } => self.remove_listed(
                &self.paths.venv_dir(id),
                &self.paths.venv_list(id),
                &format!("virtual environment {id}"),
            ),
            Step::RemovePython { version } => self.remove_listed(
                &self.paths.interpreter_dir(version),
                &self.paths.python_list(version),
                &format!("interpreter {version}"),
            ),
            Step::RemoveInstance { backup, home } => {
                self.remove_instance(backup.as_deref(), home.as_deref())
            }
        }
    }

    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()> {
        self.write_records(inventory)
            .with_context(|| format!("write {}", self.paths.inventory_file().display()))
    }
}
