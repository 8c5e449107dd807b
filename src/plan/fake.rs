//! A machine in memory, and the property that everything rests on:
//! random manifest × random machine × a failure after step k → apply again → an empty plan.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use proptest::prelude::*;

use super::execute::{self, StepObserver};
use super::ids::AccountIds;
use super::inventory::Inventory;
use super::look::{Act, Look};
use super::model_summary::ModelFile;
use super::observed::{
    DifferenceKind, EgressFilter, FileType, FsEntry, GenCheck, GroupAccount, SearchPermission,
    Seen, ShareSpec, ShareState, TreeDifference, UserAccount,
};
use super::select::ResourceSelection;
use super::step::{PlannedStep, Step};
use super::{Action, Desired, Plan, share_rules};
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::ComfyProgram;
use crate::desired::venv::{PythonInterpreter, VenvSpec};
use crate::desired::{GenSpec, HostPlatform, InstancePaths, MachineContext, PrimaryUser};
use crate::lock::{Lock, ModelPin, RepositoryPin, Sha256Digest};
use crate::manifest::Manifest;
use crate::problem::{Problem, Result};
use crate::tree::blob_id;

#[derive(Debug, Clone, Default)]
struct State {
    groups: BTreeMap<String, (u32, BTreeSet<String>)>,
    users: BTreeMap<String, UserAccount>,
    nodes: BTreeMap<PathBuf, FsEntry>,
    /// Folders with a search-only entry for that uid.
    entries: BTreeSet<(PathBuf, u32)>,
    gens: BTreeMap<String, (GenSpec, GenCheck)>,
    staged: BTreeMap<String, GenSpec>,
    venvs: BTreeMap<String, Vec<TreeDifference>>,
    staged_venvs: BTreeSet<String>,
    /// False: the system has none that fits.
    system_python: bool,
    pythons: BTreeMap<String, Vec<TreeDifference>>,
    launch: Option<LaunchSpec>,
    fences: BTreeSet<u32>,
    /// Content of files in shares.
    models: BTreeMap<PathBuf, (u64, Sha256Digest)>,
    fetched: BTreeSet<Sha256Digest>,
    launcher: Option<ComfyProgram>,
    system: BTreeMap<PathBuf, String>,
    pairs: BTreeMap<u32, u32>,
    inventory: Inventory,
}

/// Look and Act share it; a mutex, since `Look` may be asked from several threads.
struct Machine(Mutex<State>);

impl Machine {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }
}

fn dir(uid: u32, gid: u32, mode: u32) -> FsEntry {
    FsEntry {
        kind: FileType::Dir,
        uid,
        gid,
        mode,
        target: None,
    }
}

impl State {
    /// A node is only there if every folder above it is one.
    fn node(&self, path: &Path) -> Option<FsEntry> {
        let reachable = path.ancestors().skip(1).all(|a| {
            a == Path::new("/") || self.nodes.get(a).is_some_and(|n| n.kind == FileType::Dir)
        });
        if reachable {
            self.nodes.get(path).cloned()
        } else {
            None
        }
    }

    fn remove(&mut self, path: &Path) {
        self.models.retain(|p, _| !p.starts_with(path));
        self.nodes.retain(|p, _| !p.starts_with(path));
    }

    fn parents(&mut self, path: &Path, uid: u32, gid: u32) {
        let above: Vec<PathBuf> = path.ancestors().skip(1).map(PathBuf::from).collect();
        for a in above.into_iter().rev().filter(|a| a != Path::new("/")) {
            self.nodes.entry(a).or_insert_with(|| dir(uid, gid, 0o755));
        }
    }
}

impl Look for Machine {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>> {
        Ok(self.with(|s| {
            s.groups.get(name).map(|(gid, m)| GroupAccount {
                name: name.into(),
                gid: *gid,
                members: m.iter().cloned().collect(),
            })
        }))
    }
    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>> {
        Ok(self.with(|s| s.users.get(name).cloned()))
    }
    fn id_taken(&self, id: u32) -> Seen<bool> {
        Ok(self.with(|s| {
            s.users.values().any(|u| u.uid == id) || s.groups.values().any(|(g, _)| *g == id)
        }))
    }
    fn uid_taken(&self, id: u32) -> Seen<bool> {
        Ok(self.with(|s| s.users.values().any(|u| u.uid == id)))
    }
    fn id_pairs(&self, _: &InstancePaths) -> Seen<BTreeMap<u32, u32>> {
        Ok(self.with(|s| s.pairs.clone()))
    }
    fn is_member(&self, user: &str, group: &str) -> Seen<bool> {
        Ok(self.with(|s| s.groups.get(group).is_some_and(|(_, m)| m.contains(user))))
    }
    fn primary_users(&self, gid: u32) -> Seen<Vec<String>> {
        Ok(self.with(|s| {
            s.users
                .values()
                .filter(|u| u.gid == gid)
                .map(|u| u.name.clone())
                .collect()
        }))
    }
    fn process_count(&self, _: u32) -> Seen<usize> {
        Ok(0)
    }
    fn group_name(&self, gid: u32) -> String {
        gid.to_string()
    }
    fn user_name(&self, uid: u32) -> String {
        uid.to_string()
    }
    fn read_entry(&self, path: &Path) -> Seen<Option<FsEntry>> {
        Ok(self.with(|s| s.node(path)))
    }
    fn real_path(&self, path: &Path, _: u32) -> Seen<PathBuf> {
        Ok(path.to_path_buf())
    }
    fn why_exposed(&self, _: &Path, _: u32) -> Seen<Option<String>> {
        Ok(None)
    }
    fn search_permission(
        &self,
        folder: &Path,
        _: &str,
        uid: u32,
        _: &[u32],
    ) -> Seen<Option<SearchPermission>> {
        Ok(self.with(|s| {
            s.node(folder).map(|n| {
                let entry = s.entries.contains(&(folder.to_path_buf(), uid));
                SearchPermission {
                    passes: entry || n.mode & 0o001 != 0 || (n.uid == uid && n.mode & 0o100 != 0),
                    entry,
                }
            })
        }))
    }
    fn check_share(&self, spec: &ShareSpec, models: bool) -> Seen<Option<ShareState>> {
        Ok(self.with(|s| {
            let root = s.node(&spec.path)?;
            let mut share = ShareState {
                real: spec.path.clone(),
                uid: root.uid,
                gid: root.gid,
                mode: root.mode,
                ..ShareState::default()
            };
            for (path, n) in s
                .nodes
                .range(spec.path.join("")..)
                .take_while(|(p, _)| p.starts_with(&spec.path))
                .filter(|(p, _)| **p != spec.path)
            {
                share.entries += 1;
                if spec.modes && share_rules::evaluate_entry(spec, &entry(n)).0.is_some() {
                    *share.off.entry("entries are off".into()).or_default() += 1;
                    share.examples.push(path.display().to_string());
                }
            }
            for (path, (size, sha256)) in s
                .models
                .iter()
                .filter(|(p, _)| models && p.starts_with(&spec.path))
            {
                let path = path.strip_prefix(&spec.path).unwrap().display().to_string();
                share.files.push(vec![ModelFile {
                    path,
                    kind: FileType::File,
                    size: *size,
                    changed: 0,
                    known: Some(*sha256),
                }]);
            }
            Some(share)
        }))
    }
    fn generation_spec(&self, _: &InstancePaths, id: &str) -> Seen<Option<GenSpec>> {
        Ok(self.with(|s| s.gens.get(id).map(|(g, _)| g.clone())))
    }
    fn check_generation(
        &self,
        _: &InstancePaths,
        spec: &GenSpec,
        _: &AccountIds,
    ) -> Seen<Option<GenCheck>> {
        Ok(self.with(|s| s.gens.get(&spec.id()).map(|(_, c)| c.clone())))
    }
    fn find_interpreter(
        &self,
        _: &Desired,
        _: &AccountIds,
    ) -> Seen<std::result::Result<PythonInterpreter, String>> {
        let system = PythonInterpreter {
            path: "/usr/bin/python3.12".into(),
            version: "3.12.1".into(),
        };
        Ok(if self.with(|s| s.system_python) {
            Ok(system)
        } else {
            Err("there is none".into())
        })
    }
    fn managed_interpreter(&self, paths: &InstancePaths, version: &str) -> PythonInterpreter {
        PythonInterpreter {
            path: paths.interpreter_dir(version).join("bin/python3.12"),
            version: version.into(),
        }
    }
    fn managed_check(
        &self,
        _: &InstancePaths,
        version: &str,
        _: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>> {
        Ok(self.with(|s| s.pythons.get(version).cloned()))
    }
    fn check_venv(
        &self,
        _: &InstancePaths,
        spec: &VenvSpec,
        _: &AccountIds,
    ) -> Seen<Option<Vec<TreeDifference>>> {
        Ok(self.with(|s| s.venvs.get(&spec.id()).cloned()))
    }
    fn applied_launch(&self, _: &InstancePaths) -> Seen<Option<LaunchSpec>> {
        Ok(self.with(|s| s.launch.clone()))
    }
    fn egress_filter(&self, _: &InstancePaths, uid: u32) -> Seen<EgressFilter> {
        Ok(self.with(|s| {
            if s.fences.contains(&uid) {
                EgressFilter::There
            } else {
                EgressFilter::Absent
            }
        }))
    }
    fn comfy_program(&self, path: Option<&Path>) -> Seen<Option<ComfyProgram>> {
        let own = ComfyProgram {
            uid: 1000,
            mode: 0o755,
            size: 7,
            modified: 7,
        };
        Ok(if path.is_some() {
            self.with(|s| s.launcher.clone())
        } else {
            Some(own)
        })
    }
    fn system_text(&self, path: &Path) -> Seen<Option<String>> {
        Ok(self.with(|s| s.system.get(path).cloned()))
    }
    fn read_inventory(&self, _: &InstancePaths) -> Seen<Inventory> {
        Ok(self.with(|s| s.inventory.clone()))
    }
}

fn entry(n: &FsEntry) -> share_rules::ShareEntry {
    share_rules::ShareEntry {
        kind: n.kind,
        uid: n.uid,
        gid: n.gid,
        mode: n.mode,
        links: 1,
    }
}

struct Hands<'a> {
    machine: &'a Machine,
    paths: InstancePaths,
}

impl Act for Hands<'_> {
    fn perform_step(&mut self, step: &Step) -> Result<()> {
        let paths = self.paths.clone();
        self.machine.with(|s| match step {
            Step::BuildGeneration { spec, .. } => {
                drop(s.staged.insert(spec.id(), (**spec).clone()))
            }
            Step::BuildPython { version } => drop(s.pythons.insert(version.clone(), Vec::new())),
            Step::RemovePython { version } => drop(s.pythons.remove(version)),
            Step::BuildVenv { spec, .. } => drop(s.staged_venvs.insert(spec.id())),
            Step::FetchModels { items } => s.fetched.extend(items.iter().map(|i| i.sha256)),
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
            Step::MendShare { spec } => {
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
            Step::SetFence { uid, .. } => drop(s.fences.insert(*uid)),
            Step::RemoveFence { uid, .. } => drop(s.fences.remove(uid)),
            Step::Deny { .. } | Step::Permit { .. } => {}
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
                    s.gens.insert(id.clone(), (spec, GenCheck::default()));
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
                    .unwrap_or_default();
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
                        target: Some(Path::new("gen").join(id)),
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
                assert!(s.system.is_empty(), "a rule for a program that goes");
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

/// Fails at one step: before it, or after it and before anything is noted.
struct Failing<'a> {
    hands: Hands<'a>,
    left: Cell<usize>,
    after: bool,
}

impl Act for Failing<'_> {
    fn perform_step(&mut self, step: &Step) -> Result<()> {
        let last = self.left.get() == 0;
        self.left.set(self.left.get().saturating_sub(1));
        if last && !self.after {
            return Err(Problem::new("failed before the step"));
        }
        self.hands.perform_step(step)?;
        if last {
            Err(Problem::new("failed after the step"))
        } else {
            Ok(())
        }
    }

    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()> {
        self.hands.write_inventory(inventory)
    }
}

struct Nobody(RefCell<Vec<String>>);

impl StepObserver for Nobody {
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

fn pin(name: &str, version: u32) -> RepositoryPin {
    let id = |s: String| blob_id(s.as_bytes()).unwrap();
    RepositoryPin {
        repo: format!("https://github.com/x/{name}"),
        git_ref: "main".into(),
        commit: id(format!("c {name} {version}")),
        tree: id(format!("t {name} {version}")),
        submodules: Vec::new(),
    }
}

/// A manifest and a lock from a few bits.
fn wish(bits: u32) -> Desired {
    let on = |n: u32| bits >> n & 1 == 1;
    let mut text = String::from(
        "version = 1\n[comfyui]\nrepo = \"https://github.com/x/core\"\nref = \"main\"\n",
    );
    if on(0) {
        text += "view = \"~/view\"\n";
    }
    if on(1) {
        text += "[host]\ngid = 777\n";
    }
    let mut nodes = BTreeMap::new();
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        if on(2 + i as u32) {
            text += &format!(
                "[nodes.{name}]\nrepo = \"https://github.com/x/{name}\"\nref = \"main\"\nenabled = \
                 {}\n",
                !on(5) || i > 0
            );
            nodes.insert(name.to_string(), pin(name, bits >> 6 & 1));
        }
    }
    let home = if on(7) { "~" } else { "/srv" };
    for (i, (name, mount)) in [
        ("models", "models"),
        ("out", "output"),
        ("wf", "user/default/wf"),
    ]
    .into_iter()
    .enumerate()
    {
        if on(8 + i as u32) {
            let access = ["read", "write", "add"][(bits >> (11 + i)) as usize % 3];
            text += &format!(
                "[shares.{name}]\npath = \"{home}/ai/{name}\"\nmount = \"{mount}\"\naccess = \
                 \"{access}\"\n"
            );
        }
    }
    let mut models = crate::manifest::Table::new_vec();
    if on(8) && on(17) {
        let source = "https://x.test/m";
        text += &format!("[models.\"m.safetensors\"]\nsource = \"{source}\"\n");
        let sha256 = Sha256Digest([(bits >> 18 & 1) as u8; 32]);
        models.insert(
            "m.safetensors".into(),
            ModelPin {
                source: Some(source.into()),
                revision: None,
                etag: None,
                size: 7,
                sha256,
            }
            .into(),
        );
    }
    text += &format!("[run]\npasswordless = {}\nboot = {}\n", on(19), on(20));
    let manifest =
        Manifest::parse(Path::new("/repo/comfy.toml"), &text.clone().into(), "host").unwrap();
    let mut python = crate::lock::LockedPython::from_manifest(&manifest.python);
    python.managed = Some("3.12.1".into());
    let lock = Lock {
        comfyui: pin("core", bits >> 15 & 1),
        nodes,
        asks: BTreeMap::new(),
        python: Some(python),
        models,
    };
    let owner = PrimaryUser {
        name: "alice".into(),
        uid: 1000,
        gid: 1000,
        home: "/home/alice".into(),
    };
    let cx = MachineContext {
        hostname: "host".into(),
        owner,
        platform: HostPlatform {
            macos: bits >> 16 & 1 == 1,
            machine: "x86_64".into(),
        },
        data_home: "/home/alice/data".into(),
        repository: "/repo".into(),
    };
    Desired::new(&manifest, &lock, &lock.render().into(), &cx).unwrap()
}

fn fresh() -> Machine {
    let mut s = State {
        system_python: true,
        ..State::default()
    };
    s.users.insert(
        "alice".into(),
        UserAccount {
            name: "alice".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/alice".into(),
            shell: "/bin/sh".into(),
            groups: Vec::new(),
        },
    );
    s.groups.insert("alice".into(), (1000, BTreeSet::new()));
    for (path, uid, mode) in [
        ("/home", 0, 0o755),
        ("/home/alice", 1000, 0o700),
        ("/srv", 0, 0o755),
        ("/opt", 0, 0o755),
        ("/Users", 0, 0o755),
        ("/Library", 0, 0o755),
    ] {
        s.nodes.insert(path.into(), dir(uid, uid, mode));
    }
    for path in [
        "/etc/sudoers.d",
        "/private/etc/sudoers.d",
        "/etc/systemd/system",
        "/Library/LaunchDaemons",
    ] {
        s.nodes.insert(path.into(), dir(0, 0, 0o755));
    }
    Machine(Mutex::new(s))
}

/// Something that happens to a machine.
fn happen(s: &mut State, paths: &InstancePaths, what: u8, which: u8) {
    let pick = |n: usize| which as usize % n.max(1);
    match what % 15 {
        0 => drop(s.users.remove("comfyui_sandbox")),
        1 => {
            if let Some((_, m)) = s.groups.get_mut("comfyshared") {
                let name = m.iter().nth(pick(m.len())).cloned();
                name.map(|n| m.remove(&n));
            }
        }
        2 => {
            let names: Vec<String> = ["comfyshared", "comfyui_sandbox"].map(String::from).into();
            s.groups.remove(&names[pick(2)]);
        }
        3 => {
            let all: Vec<PathBuf> = s
                .nodes
                .iter()
                .filter(|(p, n)| {
                    n.kind == FileType::Dir
                        && (p.starts_with(&paths.base) || p.starts_with("/srv/ai"))
                })
                .map(|(p, _)| p.clone())
                .collect();
            if let Some(p) = all.get(pick(all.len())) {
                s.nodes.get_mut(p).unwrap().mode = 0o700 + u32::from(which % 64);
            }
        }
        4 => {
            let all: Vec<PathBuf> = s
                .nodes
                .keys()
                .filter(|p| p.starts_with(&paths.base) && **p != paths.base)
                .cloned()
                .collect();
            if let Some(p) = all.get(pick(all.len())).cloned() {
                s.remove(&p);
            }
        }
        5 => {
            let all: Vec<PathBuf> = s
                .nodes
                .iter()
                .filter(|(_, n)| n.kind == FileType::Link)
                .map(|(p, _)| p.clone())
                .collect();
            if let Some(p) = all.get(pick(all.len())) {
                s.nodes.get_mut(p).unwrap().target = Some("/tmp/elsewhere".into());
            }
        }
        6 if which & 1 == 1 => {
            let all: Vec<String> = s.venvs.keys().cloned().collect();
            let finding = TreeDifference {
                path: "bin/python".into(),
                what: DifferenceKind::Link,
                detail: String::new(),
            };
            if let Some(id) = all.get(pick(all.len())) {
                if which & 2 == 0 {
                    drop(s.venvs.remove(id))
                } else {
                    s.venvs.entry(id.clone()).or_default().push(finding)
                }
            }
        }
        6 => {
            let all: Vec<String> = s.gens.keys().cloned().collect();
            if let Some(id) = all.get(pick(all.len())) {
                s.gens.remove(id);
            }
        }
        7 | 8 => {
            if let Some((spec, c)) = s.gens.values_mut().next() {
                let part = spec
                    .all_pins()
                    .map(|(n, _)| n)
                    .nth(pick(4))
                    .unwrap_or("comfyui".into());
                if what % 15 == 7 {
                    c.findings.entry(part).or_default().push(TreeDifference {
                        path: "x.py".into(),
                        what: DifferenceKind::Edited,
                        detail: String::new(),
                    });
                } else {
                    c.foreign.push(format!("evil{which}"));
                }
            }
        }
        9 | 10 => {
            for share in ["/srv/ai/models", "/srv/ai/out", "/home/alice/ai/wf"] {
                if s.node(Path::new(share)).is_some() {
                    let kind = if which & 1 == 0 {
                        FileType::File
                    } else {
                        FileType::Dir
                    };
                    let uid = if which & 2 == 0 { 1000 } else { 402 };
                    s.nodes.insert(
                        Path::new(share).join(format!("e{which}")),
                        FsEntry {
                            kind,
                            uid,
                            gid: 1000,
                            mode: 0o600 + u32::from(which % 128),
                            target: None,
                        },
                    );
                }
            }
        }
        11 if which & 1 == 0 => s.system_python = !s.system_python,
        11 => {
            let finding = TreeDifference {
                path: "bin/python3.12".into(),
                what: DifferenceKind::Edited,
                detail: String::new(),
            };
            if which & 2 == 0 {
                s.pythons.clear()
            } else {
                s.pythons.values_mut().for_each(|f| f.push(finding.clone()))
            }
        }
        12 => {
            for (size, sha256) in s.models.values_mut() {
                (*size, *sha256) = (7 + u64::from(which & 1), Sha256Digest([which; 32]));
            }
        }
        13 => {
            s.launcher = s
                .launcher
                .clone()
                .filter(|_| which & 1 == 1)
                .map(|p| ComfyProgram { uid: 1000, ..p });
            s.system.values_mut().for_each(|t| t.push('x'));
        }
        _ => s.entries.clear(),
    }
}

fn differences(p: &Plan) -> Vec<String> {
    p.changes
        .iter()
        .filter(|c| c.is_difference())
        .map(|c| {
            format!(
                "{} {:?} {:?} -> {:?} {:?}",
                c.address, c.action, c.before, c.after, c.reason
            )
        })
        .chain(p.steps.iter().map(|s| format!("{:?}", s.step)))
        .collect()
}

/// Plans and applies; `None` where the plan is blocked.
fn apply(machine: &Machine, d: &Desired, fail: Option<(usize, bool)>) -> Option<Result<()>> {
    let plan = super::build::build_plan(d, machine, &ResourceSelection::default()).unwrap();
    if plan.changes.iter().any(|c| c.action == Action::Blocked) {
        return None;
    }
    let mut inventory = machine.read_inventory(&d.paths).unwrap();
    let hands = Hands {
        machine,
        paths: d.paths.clone(),
    };
    let (left, after) = fail.unwrap_or((usize::MAX, false));
    let mut act = Failing {
        hands,
        left: Cell::new(left),
        after,
    };
    // A killed process leaves no staged generation that the next one would use.
    machine.with(|s| {
        s.staged.clear();
        s.staged_venvs.clear();
        s.fetched.clear();
    });
    let result = execute::execute_steps(
        &plan,
        &mut act,
        &mut inventory,
        &mut Nobody(RefCell::default()),
    );
    if result.is_ok() {
        execute::remember_attributes(&plan, &mut inventory);
        act.write_inventory(&inventory).unwrap();
    }
    Some(result)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_there_and_wherever_it_failed_one_more_apply_ends_clean(
        before in any::<u32>(), asked in any::<u32>(), events in prop::collection::vec((any::<u8>(), any::<u8>()), 0..10), step in 0usize..50, after in any::<bool>(),
    ) {
        let machine = fresh();
        let (first, second) = (wish(before & !(1 << 16) | asked & (1 << 16)), wish(asked));
        // Some earlier wish, applied or half applied; then things happen; then another wish that
        // fails half way.
        let _ = apply(&machine, &first, (before & 1 << 24 != 0).then_some((step, !after)));
        machine.with(|s| events.iter().for_each(|(what, which)| happen(s, &second.paths, *what, *which)));
        if let Err(e) = super::build::build_plan(&second, &machine, &ResourceSelection::default()) {
            // The one contradiction that these wishes can hold: another gid than the group has.
            prop_assert!(e.message.contains("host.gid asks for"), "{e}");
            return Ok(());
        }
        let Some(_) = apply(&machine, &second, Some((step, after))) else { return Ok(()) };
        let done = apply(&machine, &second, None).unwrap();
        prop_assert!(done.is_ok(), "{done:?}");
        let plan = super::build::build_plan(&second, &machine, &ResourceSelection::default()).unwrap();
        prop_assert!(plan.is_empty(), "{:#?}", differences(&plan));
        // And destroy takes all of it away, but for a link that somebody led elsewhere.
        let gone = super::removal::plan_destroy(&second, &machine, true, "now").unwrap();
        let mut inventory = machine.read_inventory(&second.paths).unwrap();
        let mut hands = Hands { machine: &machine, paths: second.paths.clone() };
        execute::execute_steps(&gone, &mut hands, &mut inventory, &mut Nobody(RefCell::default())).unwrap();
        let left: Vec<PathBuf> = machine.with(|s| s.nodes.iter().filter(|(p, n)| p.starts_with(&second.paths.base) || n.gid == 401 || (n.kind == FileType::Link && n.target.as_deref() != Some(Path::new("/tmp/elsewhere")))).map(|(p, _)| p.clone()).collect());
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(machine.with(|s| s.groups.keys().cloned().collect::<Vec<_>>()) == ["alice"]);
    }
}
