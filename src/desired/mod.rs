//! The desired state: computed from comfy.toml and comfy.lock alone, for one owner on one host.

mod generation;
pub(crate) mod generation_layout;
pub(crate) mod launch;
mod not_enforced;
pub(crate) mod paths;
mod python_target;
mod reserved_paths;
pub(crate) mod share_spec;
pub(crate) mod system_files;
pub(crate) mod text_digest;
pub(crate) mod venv;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytestring::ByteString;

use super::lock::reviews::Acceptances;
use super::lock::{Lock, LockedPython, ModelPin};
use super::manifest::{
    Accelerator, ComfyuiSettings, IsolationMode, Manifest, NetworkSettings, PolicySettings,
    RunSettings, ShareAccess, ShareRole, Table,
};
use super::problem::{Problem, Result};
use crate::desired::text_digest::TextDigest;
use crate::manifest::node_source::NodeSource;
use crate::manifest::platforms::OperatingSystem;
use crate::manifest::source::TomlSource;

pub use crate::desired::generation::GenerationSpec;
pub(crate) use crate::desired::generation::{LAYOUT, NodeSpec};
pub(crate) use crate::desired::paths::InstancePaths;
pub(crate) use crate::desired::python_target::PythonTarget;
pub(crate) use crate::desired::reserved_paths::VIEW_HINT;
use crate::desired::reserved_paths::{PathChecks, ReservedPaths};

/// The primary user as the host knows them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PrimaryUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// What differs between platforms and does not come from comfy.toml.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct HostPlatform {
    #[serde(rename = "macos")]
    pub os: OperatingSystem,
    /// As Python's `platform.machine()` says it: `arm64`, `x86_64`.
    pub machine: String,
}

impl HostPlatform {
    /// The folder that contains people's homes.
    pub(crate) fn homes(&self) -> &'static Path {
        Path::new(self.os.homes())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DesiredShare {
    pub name: String,
    pub path: PathBuf,
    pub role: ShareRole,
    pub access: ShareAccess,
    pub requires_mount: Option<PathBuf>,
    pub manage: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DesiredModel {
    pub share: Arc<str>,
    pub pin: Arc<ModelPin>,
}

#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub host: String,
    pub isolation: IsolationMode,
    pub owner: PrimaryUser,
    pub sandbox: String,
    pub group: String,
    pub gid: Option<u32>,
    /// An existing account of somebody may become the sandbox user.
    pub adopt: bool,
    pub platform: HostPlatform,
    pub paths: InstancePaths,
    pub shares: Vec<DesiredShare>,
    pub view: Option<PathBuf>,
    /// The generation without its virtual environment, which depends on the interpreter found.
    pub code: GenerationSpec,
    pub python: LockedPython,
    /// The machine's accelerator, if comfy.toml names one.
    pub accelerator: Option<Accelerator>,
    /// The models, by the path in their share.
    pub models: Table<DesiredModel>,
    pub not_enforced: Vec<String>,
    /// SHA-256 of the two files.
    pub manifest_digest: TextDigest,
    pub lock_digest: TextDigest,
    /// The settings of comfy.toml for ComfyUI, the launch, the network, and the policy.
    pub comfyui: ComfyuiSettings,
    pub run: RunSettings,
    pub network: NetworkSettings,
    pub policy: PolicySettings,
    /// What people have accepted of the code.
    pub acceptances: Acceptances,
    /// The paths that no share may overlap.
    reserved: ReservedPaths,
    source: TomlSource,
}

/// The inputs that are not in comfy.toml and comfy.lock.
#[derive(Debug, Clone)]
pub(crate) struct MachineContext {
    pub hostname: String,
    pub owner: PrimaryUser,
    pub platform: HostPlatform,
    /// The user's data folder for comfy, the prefix under isolation "none".
    pub data_home: PathBuf,
    /// The repository that holds the manifest, else its folder.
    pub repository: PathBuf,
    pub in_repository: bool,
}

impl Desired {
    /// # Errors
    /// If paths overlap or are in a reserved place, each with its place in comfy.toml.
    pub(crate) fn new(
        m: &Manifest,
        lock: &Lock,
        lock_text: &ByteString,
        cx: &MachineContext,
    ) -> Result<Desired> {
        let mut problems = Vec::new();
        let none = m.host.isolation == IsolationMode::None;
        if !none && m.host.sandbox_user == cx.owner.name {
            problems.push(
                Problem::new(format!(
                    "{}: sandbox_user is {}, which is the primary user",
                    m.source.place_of_key(&["host", "sandbox_user"]),
                    cx.owner.name
                ))
                .with_hint("isolation needs two accounts"),
            );
        }
        let paths = instance_paths(m, cx);
        let mut checks = PathChecks::new(m, cx, &paths);
        checks.prefix(&paths.prefix);
        let shares: Vec<DesiredShare> = m
            .shares
            .iter()
            .map(|(name, s)| DesiredShare {
                name: name.clone(),
                path: checks.share(name, s),
                role: s.role.clone(),
                access: s.access,
                requires_mount: s.requires_mount.clone(),
                manage: s.manage,
            })
            .collect();
        let view = m
            .comfyui
            .view
            .as_deref()
            .map(|v| below_home(&cx.owner.home, v));
        if let Some(v) = &view {
            checks.view(v);
        }
        for (name, node) in &m.nodes {
            if let NodeSource::Folder(path) = NodeSource::of(&node.repo) {
                checks.node_folder(name, path);
            }
        }
        let reserved = checks.finish(&mut problems);
        if !problems.is_empty() {
            return Err(Problem::from_many(problems));
        }
        let python = lock.python.clone().ok_or_else(|| {
            Problem::new("comfy.lock holds no Python packages: an older comfy wrote it")
                .with_hint("run `comfy lock`")
        })?;
        Ok(Desired {
            host: cx.hostname.clone(),
            isolation: m.host.isolation,
            owner: cx.owner.clone(),
            sandbox: m.host.sandbox_user.clone(),
            group: m.host.group.clone(),
            gid: m.host.gid,
            adopt: m.host.adopt,
            platform: cx.platform.clone(),
            code: generation(m, lock, &shares, paths.state_dir(), &cx.owner.home),
            paths,
            shares,
            view,
            python,
            accelerator: m.host.accelerator.clone(),
            models: models(m, lock),
            not_enforced: not_enforced::not_enforced(m, cx.platform.os),
            manifest_digest: TextDigest::from_text(&m.source.text),
            lock_digest: TextDigest::from_text(lock_text),
            comfyui: m.comfyui.clone(),
            run: m.run.clone(),
            network: m.network.clone(),
            policy: m.policy.clone(),
            acceptances: lock.acceptances.clone(),
            reserved,
            source: m.source.clone(),
        })
    }

    /// Returns what a share's real path overlaps after the owner's links are followed; the written
    /// path was checked before. `home` is the real one.
    pub(crate) fn overlap_of_share(&self, share: &str, home: &Path, real: &Path) -> Option<String> {
        self.reserved.overlap_of_share(share, home, real)
    }

    /// Returns why the view cannot be at `real`, the path after links are followed; the written
    /// path was checked before.
    pub(crate) fn overlap_of_view(&self, home: &Path, real: &Path) -> Option<String> {
        self.reserved.overlap_of_view(&self.owner.home, home, real)
    }

    /// Returns whether the files of a share matter, and not only their modes.
    pub(crate) fn has_models(&self, share: &str) -> bool {
        self.shares
            .iter()
            .any(|s| s.name == share && s.role.holds_models())
            || self.models.values().any(|m| *m.share == *share)
    }

    /// Returns the group that comfy makes for its records. A Mac gives every account the primary
    /// group `staff`, so the owner has none of their own there; `None` elsewhere.
    pub(crate) fn records_group(&self) -> Option<String> {
        let needed = self.isolation == IsolationMode::Account && self.platform.os.is_macos();
        needed.then(|| format!("comfy-{}", self.owner.name))
    }

    /// Returns the place of a key in comfy.toml.
    pub(crate) fn place_of_key(&self, path: &[&str]) -> String {
        self.source.place_of_key(path)
    }

    /// Returns the folder of comfy.toml.
    pub(crate) fn manifest_folder(&self) -> Option<&Path> {
        self.source.folder()
    }

    /// Lists the folders in `state/`, each owned by the sandbox user.
    pub(crate) fn state_children(&self) -> Vec<PathBuf> {
        // For input and output, if no share is mounted there.
        let unshared = ["input", "output"].into_iter().filter(|name| {
            !self
                .shares
                .iter()
                .any(|s| s.role.mount_path() == Some(name))
        });
        let home = (self.isolation == IsolationMode::None).then_some(InstancePaths::STATE_HOME);
        InstancePaths::STATE
            .into_iter()
            .chain(unshared)
            .chain(home)
            .map(|name| self.paths.state_of(name))
            .collect()
    }

    /// Folders further below, outermost first: down to each mount below `user/`, and what comfy
    /// lays out itself.
    pub(crate) fn state_folders(&self) -> Vec<PathBuf> {
        let state = self.paths.state_dir();
        let mut out: Vec<PathBuf> = ["torch", "torch/checkpoints"]
            .map(|p| self.paths.state_of("downloads").join(p))
            .into();
        for mount in self
            .shares
            .iter()
            .filter_map(|s| s.role.mount_path())
            .filter(|m| m.starts_with("user/"))
        {
            let mut at = state.clone();
            let parts: Vec<&str> = mount.split('/').collect();
            for part in &parts[..parts.len() - 1] {
                at = at.join(part);
                if !out.contains(&at) && at.parent() != Some(&state) {
                    out.push(at.clone());
                }
            }
        }
        for (part, _) in self.code.writable() {
            let folder = InstancePaths::written_by(&state, &part);
            if !out.contains(&folder) && folder.parent() != Some(&state) {
                out.push(folder);
            }
        }
        out
    }
}

/// Replaces `~` in a path of comfy.toml with the owner's home.
pub(crate) fn below_home(home: &Path, path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(path),
    }
}

/// Returns the paths of the instance.
pub(crate) fn instance_paths(m: &Manifest, cx: &MachineContext) -> InstancePaths {
    let none = m.host.isolation == IsolationMode::None;
    let prefix = match &m.host.prefix {
        Some(p) => below_home(&cx.owner.home, &p.to_string_lossy()),
        None => InstancePaths::default_prefix(none, cx.owner.uid, &cx.data_home),
    };
    let base = prefix.join(&m.host.sandbox_user);
    let records = if none {
        base.join("records")
    } else {
        InstancePaths::records_of(&m.host.sandbox_user, cx.platform.os)
    };
    let homes = cx.platform.homes();
    InstancePaths {
        prefix,
        base,
        records,
        home: (!none).then(|| homes.join(&m.host.sandbox_user)),
    }
}

/// Builds the generation that the lock pins, without the virtual environment.
fn generation(
    m: &Manifest,
    lock: &Lock,
    shares: &[DesiredShare],
    state: PathBuf,
    home: &Path,
) -> GenerationSpec {
    let enabled = m.nodes.iter().filter(|(_, n)| n.enabled);
    let nodes = enabled.filter_map(|(name, n)| {
        let pin = lock.nodes.get(name)?.clone();
        let writable = n.writable.clone();
        let folder = match pin.source() {
            NodeSource::Folder(path) => Some(below_home(home, path)),
            _ => None,
        };
        let spec = NodeSpec {
            pin,
            folder,
            writable,
        };
        Some((name.clone(), spec))
    });
    let mounts = shares.iter().filter_map(|s| {
        let mount = s.role.mount_path().filter(|m| !m.starts_with("user/"))?;
        Some((mount.to_string(), s.path.clone()))
    });
    GenerationSpec {
        layout: LAYOUT,
        comfyui: lock.comfyui.clone(),
        nodes: nodes.collect(),
        mounts: mounts.collect(),
        external_model_dirs: generation::external_model_dirs(shares),
        state,
        writable: m.comfyui.writable.clone(),
        venv: None,
    }
}

/// Joins the models that both files declare; both are sorted by path.
fn models(m: &Manifest, lock: &Lock) -> Table<DesiredModel> {
    let mut pins = lock.models.iter().peekable();
    let wish = |(path, m): (&ByteString, &crate::manifest::ModelSettings)| {
        while pins.next_if(|(p, _)| *p < path).is_some() {}
        let (_, pin) = pins.next_if(|(p, _)| *p == path)?;
        Some((
            path.clone(),
            DesiredModel {
                share: Arc::clone(&m.share),
                pin: Arc::clone(pin),
            },
        ))
    };
    m.models.iter().filter_map(wish).collect()
}
