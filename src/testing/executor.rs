//! Performs steps on a [`MemoryHost`].

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::{MemoryHost, dir, entry};
use crate::desired::InstancePaths;
use crate::desired::system_files::ComfyProgram;
use crate::desired::venv::VenvSpec;
use crate::plan::execute::StepObserver;
use crate::plan::inventory::Inventory;
use crate::plan::look::Act;
use crate::plan::observed::{FileType, FsEntry, GenerationCheck, UserAccount};
use crate::plan::share_rules;
use crate::plan::step::{PlannedStep, Step};
use crate::problem::Result;

/// Changes the machine, and refuses what no apply may do.
pub(crate) struct MemoryExecutor<'a> {
    pub machine: &'a MemoryHost,
    pub paths: InstancePaths,
}

impl Act for MemoryExecutor<'_> {
    fn perform_step(&mut self, step: &Step) -> Result<()> {
        let paths = self.paths.clone();
        self.machine.with(|s| match step {
            Step::BuildGeneration { spec, .. } => {
                drop(s.staged.insert(spec.id(), (**spec).clone()))
            }
            Step::BuildPython { version } => drop(s.pythons.insert(version.clone(), Vec::new())),
            Step::RemovePython { version } => drop(s.pythons.remove(version)),
            Step::BuildVenv { spec, .. } => drop(s.staged_venvs.insert(spec.id())),
            Step::ScanGeneration { .. } => {}
            Step::FetchModels { items, .. } => s.fetched.extend(items.iter().map(|i| i.sha256)),
            Step::PlaceModel {
                share,
                path,
                size,
                sha256,
                ..
            } => {
                assert!(s.fetched.contains(sha256), "a model without its bytes");
                let mode = if share.access == crate::manifest::ShareAccess::Write {
                    0o664
                } else {
                    0o644
                };
                let node = FsEntry {
                    kind: FileType::File,
                    uid: share.owner,
                    gid: share.gid,
                    mode,
                    target: None,
                };
                s.nodes.insert(share.path.join(path), node);
                s.models.insert(share.path.join(path), (*size, *sha256));
            }
            Step::InstallVenv { id } => {
                if s.staged_venvs.remove(id) {
                    s.venvs.insert(id.clone(), Vec::new());
                }
            }
            Step::RemoveVenv { id } => drop(s.venvs.remove(id)),
            Step::WriteLaunch { spec } => s.launch = Some((**spec).clone()),
            Step::CreateGroup { name, gid } => {
                drop(s.groups.insert(name.clone(), (*gid, BTreeSet::new())))
            }
            Step::DeleteGroup { name, .. } => drop(s.groups.remove(name)),
            Step::CreateUser {
                name,
                uid,
                gid,
                home,
            } => {
                let user = UserAccount {
                    name: name.clone(),
                    uid: *uid,
                    gid: *gid,
                    home: home.clone(),
                    shell: "/usr/sbin/nologin".into(),
                    groups: Vec::new(),
                };
                s.users.insert(name.clone(), user);
            }
            Step::ClaimIds { sandbox, build } => drop(s.pairs.insert(*sandbox, *build)),
            Step::ChangeUser { name, gid, home } => {
                let u = s.users.get_mut(name).unwrap();
                (u.gid, u.home, u.shell) = (*gid, home.clone(), "/usr/sbin/nologin".into());
            }
            Step::DeleteUser { name, .. } => drop(s.users.remove(name)),
            Step::AddMember { user, group } => {
                s.groups.get_mut(group).unwrap().1.insert(user.clone());
            }
            Step::RemoveMember { user, group } => {
                if let Some(g) = s.groups.get_mut(group) {
                    g.1.remove(user);
                }
            }
            Step::MakeDir {
                path,
                uid,
                gid,
                mode,
                passer,
            } => {
                if s.nodes.get(path).is_some_and(|n| n.kind != FileType::Dir) {
                    s.remove(path);
                }
                s.parents(path, 0, 0);
                s.nodes.insert(path.clone(), dir(*uid, *gid, *mode));
                s.entries
                    .extend(passer.iter().map(|p| (path.clone(), p.uid)));
            }
            Step::GrantSearch { folder, uid, .. } => drop(s.entries.insert((folder.clone(), *uid))),
            Step::RevokeSearch { folder, uid, .. } => {
                s.entries.remove(&(folder.clone(), *uid));
            }
            Step::MakeShare { spec, .. } => {
                s.parents(&spec.path, spec.owner, spec.owner_gid);
                s.nodes.insert(
                    spec.path.clone(),
                    dir(spec.owner, spec.gid, spec.root_mode()),
                );
            }
            Step::RepairShare { spec } => {
                for (_, n) in s
                    .nodes
                    .iter_mut()
                    .filter(|(p, _)| p.starts_with(&spec.path) && **p != spec.path)
                {
                    if let Some(f) = share_rules::evaluate_entry(spec, &entry(n)).0 {
                        n.gid = spec.gid;
                        n.mode = f.mode.unwrap_or(n.mode);
                        n.uid = if f.owner { spec.owner } else { n.uid };
                    }
                }
            }
            Step::ReleaseShare {
                path,
                from_gid,
                to_gid,
                mode,
                ..
            } => {
                for (p, n) in s.nodes.iter_mut().filter(|(p, _)| p.starts_with(path)) {
                    n.gid = if n.gid == *from_gid { *to_gid } else { n.gid };
                    n.mode = if p == path { *mode } else { n.mode };
                }
            }
            Step::SetLink {
                path,
                target,
                uid,
                gid,
            } => {
                s.parents(path, *uid, *gid);
                s.nodes.insert(
                    path.clone(),
                    FsEntry {
                        kind: FileType::Link,
                        uid: *uid,
                        gid: *gid,
                        mode: 0o777,
                        target: Some(target.clone()),
                    },
                );
            }
            Step::RemoveLink { path, .. } => s.remove(path),
            Step::InstallEgressFilter { uid, .. } => drop(s.fences.insert(*uid)),
            Step::RemoveEgressFilter { uid, .. } => drop(s.fences.remove(uid)),
            Step::DenyCronJobs { file, user } => {
                let text = s.system.entry(file.clone()).or_default();
                *text += &format!("{user}\n");
            }
            Step::AllowCronJobs { file, user } => {
                let lines = s.system.remove(file).unwrap_or_default();
                let kept: Vec<_> = lines.lines().filter(|l| l != user).collect();
                if !kept.is_empty() {
                    s.system.insert(file.clone(), kept.join("\n") + "\n");
                }
            }
            Step::InstallLauncher { size, modified, .. } => {
                s.launcher = Some(ComfyProgram {
                    uid: 0,
                    mode: 0o755,
                    size: *size,
                    modified: *modified,
                })
            }
            Step::RemoveLauncher { .. } => s.launcher = None,
            Step::WriteSystemFile { file } => {
                assert!(
                    s.launcher.is_some(),
                    "a rule for a program that is not there"
                );
                s.system.insert(file.path.clone(), file.text.clone());
            }
            Step::RemoveSystemFile { path, .. } => drop(s.system.remove(path)),
            Step::Quarantine { id, .. } => {
                if let Some((_, c)) = s.gens.get_mut(id) {
                    c.foreign.clear();
                }
            }
            Step::Install { id } => {
                if let Some(spec) = s.staged.remove(id) {
                    s.gens
                        .insert(id.clone(), (spec, GenerationCheck::default()));
                }
            }
            Step::Seed { .. } => {}
            Step::Switch { id } => {
                assert!(
                    s.gens.get(id).is_some_and(|(_, c)| c.is_intact()),
                    "a half tree behind current"
                );
                let venv = s
                    .gens
                    .get(id)
                    .and_then(|(g, _)| g.venv.as_ref())
                    .map(VenvSpec::id)
                    .unwrap();
                assert!(
                    s.venvs.get(&venv).is_some_and(Vec::is_empty),
                    "a half virtual environment behind current"
                );
                let own = s
                    .gens
                    .get(id)
                    .and_then(|(g, _)| g.venv.as_ref())
                    .map(|v| &v.interpreter)
                    .filter(|i| i.path.starts_with(paths.interpreters_dir()));
                assert!(
                    own.is_none_or(|i| s.pythons.get(&i.version).is_some_and(Vec::is_empty)),
                    "a half interpreter behind current"
                );
                s.nodes.insert(
                    paths.current_link(),
                    FsEntry {
                        kind: FileType::Link,
                        uid: 0,
                        gid: 0,
                        mode: 0o777,
                        target: Some(id.relative_path().into()),
                    },
                );
            }
            Step::RemoveGeneration { id } => drop(s.gens.remove(id)),
            Step::RemoveInstance { .. } => {
                for p in [Some(&paths.base), Some(&paths.records), paths.home.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    s.remove(p);
                }
                s.gens.clear();
                s.venvs.clear();
                s.pythons.clear();
                s.launch = None;
                let rule = s
                    .system
                    .keys()
                    .find(|p| p.extension() != Some("deny".as_ref()));
                assert!(rule.is_none(), "a rule for a program that goes: {rule:?}");
                s.launcher = None;
                s.inventory = Inventory::default();
            }
        });
        Ok(())
    }

    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()> {
        self.machine.with(|s| s.inventory = inventory.clone());
        Ok(())
    }
}

/// Keeps what was begun, and tells nobody.
#[derive(Default)]
pub(crate) struct SilentObserver(pub RefCell<Vec<String>>);

impl StepObserver for SilentObserver {
    fn step_started(&mut self, _: usize, p: &PlannedStep) -> Result<()> {
        self.0
            .borrow_mut()
            .push(format!("{}: {:?}", p.address, p.step));
        Ok(())
    }
    fn step_ended(&mut self, _: usize, _: &PlannedStep, _: &Result<()>) {}
    fn is_interrupted(&self) -> bool {
        false
    }
}
