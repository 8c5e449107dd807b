//! A machine in memory, for tests: [`MemoryHost`] answers as [`Look`], [`MemoryExecutor`] changes
//! it as [`Act`].
#![allow(clippy::unwrap_used, reason = "a test")]

mod executor;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::desired::{
    Desired, GenerationSpec, HostPlatform, InstancePaths, MachineContext, PrimaryUser,
};
use super::ids::{GenerationId, VenvId};
use super::lock::{Lock, ModelPin, RepositoryPin, Sha256Digest};
use super::manifest::Manifest;
use super::tree::blob_id;
use crate::desired::launch::LaunchSpec;
use crate::desired::system_files::ComfyProgram;
use crate::desired::venv::{PythonInterpreter, VenvSpec};
use crate::manifest::platforms::OperatingSystem;
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::{Act, Look};
use crate::plan::model_summary::ModelFile;
use crate::plan::observed::{
    EgressFilter, FileType, FsEntry, GenerationCheck, GroupAccount, SearchPermission, Seen,
    ShareSpec, ShareState, TreeDifference, UserAccount,
};
use crate::plan::select::ResourceSelection;
use crate::plan::{execute, share_rules};

pub(crate) use crate::testing::executor::{MemoryExecutor, SilentObserver};

/// What there is on the machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct MachineState {
    pub groups: BTreeMap<String, (u32, BTreeSet<String>)>,
    pub users: BTreeMap<String, UserAccount>,
    pub nodes: BTreeMap<PathBuf, FsEntry>,
    /// Another instance has records.
    pub neighbours: bool,
    /// Volumes that ignore owners.
    pub unowned: Vec<PathBuf>,
    /// Folders with a search-only entry for that uid.
    pub entries: BTreeSet<(PathBuf, u32)>,
    pub gens: BTreeMap<GenerationId, (GenerationSpec, GenerationCheck)>,
    pub staged: BTreeMap<GenerationId, GenerationSpec>,
    pub venvs: BTreeMap<VenvId, Vec<TreeDifference>>,
    pub staged_venvs: BTreeSet<VenvId>,
    /// False: the system has none that fits.
    pub system_python: bool,
    pub pythons: BTreeMap<String, Vec<TreeDifference>>,
    pub launch: Option<LaunchSpec>,
    pub fences: BTreeSet<u32>,
    /// Content of files in shares.
    pub models: BTreeMap<PathBuf, (u64, Sha256Digest)>,
    pub fetched: BTreeSet<Sha256Digest>,
    pub launcher: Option<ComfyProgram>,
    pub system: BTreeMap<PathBuf, String>,
    pub pairs: BTreeMap<u32, u32>,
    pub inventory: Inventory,
}

/// Look and Act share it; a mutex, since `Look` may be asked from several threads.
pub(crate) struct MemoryHost(pub Mutex<MachineState>);

impl MemoryHost {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut MachineState) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    /// A machine with one account, alice, where comfy never was.
    pub(crate) fn fresh() -> MemoryHost {
        let mut s = MachineState {
            system_python: true,
            ..MachineState::default()
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
            s.parents(Path::new(path), 0, 0);
            s.nodes.insert(path.into(), dir(0, 0, 0o755));
        }
        MemoryHost(Mutex::new(s))
    }

    /// Applies all of `d`, which must not be blocked.
    pub(crate) fn apply(&self, d: &Desired) {
        let plan = crate::kinds::plan(d, self, &ResourceSelection::default()).unwrap();
        assert_eq!(plan.blocked_changes().count(), 0, "{:?}", plan.changes);
        let mut inventory = self.read_inventory(&d.paths).unwrap();
        let mut act = MemoryExecutor {
            machine: self,
            paths: d.paths.clone(),
        };
        execute::execute_steps(
            &plan,
            &mut act,
            &mut inventory,
            &mut SilentObserver::default(),
        )
        .unwrap();
        execute::remember_attributes(&plan, &mut inventory);
        act.write_inventory(&inventory).unwrap();
    }

    /// What the plan would do to resources with that prefix: a line for each that differs, with the
    /// names of its steps.
    pub(crate) fn differences(&self, d: &Desired, prefix: &str) -> Vec<String> {
        let plan = crate::kinds::plan(d, self, &ResourceSelection::default()).unwrap();
        lines(&plan, prefix)
    }

    /// The same of `destroy`.
    pub(crate) fn removals(&self, d: &Desired, prefix: &str) -> Vec<String> {
        lines(
            &crate::kinds::destroy(d, self, true, "now").unwrap(),
            prefix,
        )
    }
}

fn lines(plan: &crate::plan::Plan, prefix: &str) -> Vec<String> {
    let name = |step: &crate::plan::Step| {
        let step = serde_json::to_value(step).unwrap();
        step.as_object().unwrap().keys().next().unwrap().clone()
    };
    let steps = |c: &crate::plan::Change| {
        let own = plan.steps.iter().filter(|p| p.address == c.address);
        own.map(|p| name(&p.step)).collect::<Vec<_>>().join(", ")
    };
    let word = |a| {
        serde_json::to_value(a)
            .unwrap()
            .as_str()
            .unwrap()
            .to_string()
    };
    let changes = plan.changes.iter().filter(|c| c.is_difference());
    changes
        .filter(|c| c.address.prefix() == prefix)
        .map(|c| format!("{} {}: {}", word(c.action), c.address, steps(c)))
        .collect()
}

pub(crate) fn dir(uid: u32, gid: u32, mode: u32) -> FsEntry {
    FsEntry {
        kind: FileType::Dir,
        uid,
        gid,
        mode,
        target: None,
    }
}

impl MachineState {
    /// A node is only there if every folder above it is one.
    pub(crate) fn node(&self, path: &Path) -> Option<FsEntry> {
        let reachable = path.ancestors().skip(1).all(|a| {
            a == Path::new("/") || self.nodes.get(a).is_some_and(|n| n.kind == FileType::Dir)
        });
        if reachable {
            self.nodes.get(path).cloned()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        self.models.retain(|p, _| !p.starts_with(path));
        self.nodes.retain(|p, _| !p.starts_with(path));
    }

    pub(crate) fn parents(&mut self, path: &Path, uid: u32, gid: u32) {
        let above: Vec<PathBuf> = path.ancestors().skip(1).map(PathBuf::from).collect();
        for a in above.into_iter().rev().filter(|a| a != Path::new("/")) {
            self.nodes.entry(a).or_insert_with(|| dir(uid, gid, 0o755));
        }
    }
}

impl Look for MemoryHost {
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
    fn groups_naming(&self, user: &str) -> Seen<Vec<String>> {
        Ok(self.with(|s| {
            let named = s.groups.iter().filter(|(_, (_, m))| m.contains(user));
            named.map(|(name, _)| name.clone()).collect()
        }))
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
    fn why_uncreatable(&self, _: &Path) -> Seen<Option<PathBuf>> {
        Ok(None)
    }
    fn unowned_volume(&self, path: &Path) -> Seen<Option<PathBuf>> {
        let found = self.with(|s| s.unowned.iter().find(|v| path.starts_with(v)).cloned());
        Ok(found)
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
    fn generation_spec(&self, _: &InstancePaths, id: &str) -> Seen<Option<GenerationSpec>> {
        Ok(self.with(|s| s.gens.get(id).map(|(g, _)| g.clone())))
    }
    fn check_generation(
        &self,
        _: &InstancePaths,
        spec: &GenerationSpec,
        _: &AccountIds,
    ) -> Seen<Option<GenerationCheck>> {
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
    fn has_neighbours(&self, _: &InstancePaths) -> Seen<bool> {
        Ok(self.with(|s| s.neighbours))
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
        flags: 0,
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
        excluded: Vec::new(),
        archive: None,
    }
}

/// What the lock of [`desired`] says.
#[derive(Default)]
pub(crate) struct Locked {
    /// Versions of ComfyUI and of every node pack: another one is another pin.
    pub comfyui: u32,
    pub nodes: u32,
    /// Every byte of every model's hash.
    pub model: u8,
    pub os: OperatingSystem,
}

/// The desired state of a manifest, given without its first two tables, and a lock of all of it.
pub(crate) fn desired(tables: &str, locked: &Locked) -> Desired {
    let text = format!(
        "version = 1\n[comfyui]\nrepo = \"https://github.com/x/core\"\nref = \"main\"\n{tables}"
    );
    let manifest = Manifest::parse(Path::new("/repo/comfy.toml"), &text.into(), "host").unwrap();
    let mut python = crate::lock::LockedPython::from_manifest(&manifest.python);
    python.managed = Some("3.12.1".into());
    let nodes = manifest.nodes.keys();
    let mut models = crate::manifest::Table::new_vec();
    for (path, model) in manifest.models.iter() {
        let pin = ModelPin {
            source: model
                .source
                .as_ref()
                .map(|_| "https://x.test/m".to_string()),
            revision: None,
            etag: None,
            size: 7,
            sha256: Sha256Digest([locked.model; 32]),
            blake3: None,
        };
        models.insert(path.clone(), pin.into());
    }
    let lock = Lock {
        comfyui: pin("core", locked.comfyui),
        nodes: nodes.map(|n| (n.clone(), pin(n, locked.nodes))).collect(),
        asks: BTreeMap::new(),
        python: Some(python),
        models,
        acceptances: crate::lock::reviews::Acceptances::default(),
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
            os: locked.os,
            machine: if locked.os.is_macos() {
                "arm64"
            } else {
                "x86_64"
            }
            .into(),
        },
        data_home: "/home/alice/data".into(),
        repository: "/repo".into(),
        in_repository: true,
    };
    Desired::new(&manifest, &lock, &lock.render().into(), &cx).unwrap()
}
