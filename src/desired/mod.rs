//! Desired: from manifest and lock alone, made concrete for one owner on one host.

pub mod generation_layout;
pub mod launch;
pub mod paths;
pub mod system_files;
pub mod venv;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytestring::ByteString;
use sha2::{Digest, Sha256};

use super::lock::{Lock, LockedPython, ModelPin, RepositoryPin};
use super::manifest::{
    ClientPolicy, EgressPolicy, IsolationMode, Manifest, ShareAccess, ShareRole, Table,
};
use super::problem::{Problem, Result};
pub use crate::desired::paths::InstancePaths;
use crate::desired::venv::VenvSpec;
use crate::manifest::reserved_paths::{self, systems_own};
use crate::plan::digest::TextDigest;

/// The primary user as the host knows them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PrimaryUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// What differs between the platforms and is no function of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostPlatform {
    pub macos: bool,
    /// As Python's `platform.machine()` says it: `arm64`, `x86_64`.
    pub machine: String,
}

/// A whole generation: what its folder holds, down to the last link.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GenSpec {
    pub layout: u32,
    pub comfyui: RepositoryPin,
    pub nodes: BTreeMap<String, NodeSpec>,
    /// Mount (`models`, `models/loras`, `input`, `output`) to where its link leads.
    pub mounts: BTreeMap<String, PathBuf>,
    /// Folders elsewhere that ComfyUI searches too, by share and kind of models.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, BTreeMap<String, Vec<PathBuf>>>,
    pub state: PathBuf,
    /// What nodes may write in ComfyUI's own folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// None before the interpreter is known, and in a generation of an older comfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<VenvSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeSpec {
    pub pin: RepositoryPin,
    pub writable: Vec<String>,
}

/// Raised when the folder of a generation changes its shape.
pub const LAYOUT: u32 = 1;

impl GenSpec {
    /// 16 hexadecimal digits that say what the folder holds, and where its trees came from: its
    /// description is in it.
    pub fn id(&self) -> String {
        let mut h = Sha256::new();
        let mut line = |s: String| {
            h.update(s.as_bytes());
            h.update(b"\n");
        };
        line(format!("layout {}", self.layout));
        for (name, pin) in self.all_pins() {
            line(format!(
                "{name} {} {} {} {}",
                pin.tree, pin.commit, pin.repo, pin.git_ref
            ));
            for s in &pin.submodules {
                line(format!("  {} {} {} {}", s.path, s.commit, s.tree, s.repo));
            }
        }
        for (part, w) in self.writable_paths() {
            line(format!(
                "writable {} {w}",
                part.strip_prefix("node.").unwrap_or("/")
            ));
        }
        for (mount, target) in &self.mounts {
            line(format!("mount {mount} {}", target.display()));
        }
        for (share, kind, folder) in self.external_model_dirs() {
            line(format!("models {share} {kind} {}", folder.display()));
        }
        line(format!("state {}", self.state.display()));
        if let Some(v) = &self.venv {
            line(format!("venv {}", v.id()));
        }
        base16ct::lower::encode_string(&h.finalize()[..8])
    }

    /// Share, kind of models, folder.
    pub fn external_model_dirs(&self) -> impl Iterator<Item = (&str, &str, &Path)> {
        let kinds = self.elsewhere.iter().flat_map(|(share, kinds)| {
            kinds
                .iter()
                .map(move |(kind, folders)| (share, kind, folders))
        });
        kinds.flat_map(|(share, kind, folders)| {
            folders
                .iter()
                .map(move |f| (share.as_str(), kind.as_str(), f.as_path()))
        })
    }

    /// Every part with each path that it may write.
    pub fn writable_paths(&self) -> impl Iterator<Item = (String, &String)> {
        let nodes = self
            .nodes
            .iter()
            .flat_map(|(name, n)| n.writable.iter().map(move |w| (format!("node.{name}"), w)));
        self.writable
            .iter()
            .map(|w| ("comfyui".to_string(), w))
            .chain(nodes)
    }

    /// The pin of `comfyui` or of a `node.NAME`.
    pub fn pin_of(&self, part: &str) -> Option<&RepositoryPin> {
        match part.strip_prefix("node.") {
            None => Some(&self.comfyui),
            Some(name) => self.nodes.get(name).map(|n| &n.pin),
        }
    }

    /// `comfyui` and every `node.NAME`.
    pub fn all_pins(&self) -> impl Iterator<Item = (String, &RepositoryPin)> {
        std::iter::once(("comfyui".to_string(), &self.comfyui)).chain(
            self.nodes
                .iter()
                .map(|(n, s)| (format!("node.{n}"), &s.pin)),
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareWish {
    pub name: String,
    pub path: PathBuf,
    pub role: ShareRole,
    pub access: ShareAccess,
    pub requires_mount: Option<PathBuf>,
    pub manage: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelWish {
    pub share: Arc<str>,
    pub pin: Arc<ModelPin>,
}

#[derive(Debug, Clone)]
pub struct Desired {
    pub host: String,
    pub isolation: IsolationMode,
    pub owner: PrimaryUser,
    pub sandbox: String,
    pub group: String,
    pub gid: Option<u32>,
    /// An account that is somebody's may become the sandbox user.
    pub adopt: bool,
    pub platform: HostPlatform,
    pub paths: InstancePaths,
    pub shares: Vec<ShareWish>,
    pub view: Option<PathBuf>,
    /// Without its virtual environment, which depends on the interpreter that is found.
    pub code: GenSpec,
    pub python: LockedPython,
    /// By the path in their share.
    pub models: Table<ModelWish>,
    pub not_enforced: Vec<String>,
    /// sha256 of the two files.
    pub manifest_digest: TextDigest,
    pub lock_digest: TextDigest,
    /// What no share may overlap, with its name.
    fence: Vec<(String, PathBuf)>,
    /// Without its models.
    manifest: Manifest,
}

/// What is not in manifest and lock.
#[derive(Debug, Clone)]
pub struct MachineContext {
    pub hostname: String,
    pub owner: PrimaryUser,
    pub platform: HostPlatform,
    /// The user's data folder for comfy, the prefix under isolation "none".
    pub data_home: PathBuf,
    /// The repository that holds the manifest.
    pub repository: PathBuf,
}

impl Desired {
    /// # Errors
    /// Paths that overlap or lie where none may, each with its place in comfy.toml.
    pub fn new(
        m: &Manifest,
        lock: &Lock,
        lock_text: &ByteString,
        cx: &MachineContext,
    ) -> Result<Desired> {
        let none = m.host.isolation == IsolationMode::None;
        let home = |p: &str| match p.strip_prefix("~/") {
            Some(rest) => cx.owner.home.join(rest),
            None => PathBuf::from(p),
        };
        let mut problems = Vec::new();
        if !none && m.host.sandbox_user == cx.owner.name {
            problems.push(
                Problem::new(format!(
                    "{}: sandbox_user is {}, who is the primary user",
                    m.source.place_of_key(&["host", "sandbox_user"]),
                    cx.owner.name
                ))
                .with_hint("isolation needs two accounts"),
            );
        }
        let prefix = m
            .host
            .prefix
            .clone()
            .map(|p| home(&p.to_string_lossy()))
            .unwrap_or_else(|| {
                if none {
                    cx.data_home.clone()
                } else {
                    PathBuf::from("/opt/comfy")
                }
            });
        if systems_own(&prefix)
            || prefix == cx.owner.home
            || prefix.parent()
                == Some(Path::new(if cx.platform.macos {
                    "/Users"
                } else {
                    "/home"
                }))
        {
            let why = format!(
                "{}: prefix {} belongs to the system, or is a home",
                m.source.place_of_key(&["host", "prefix"]),
                super::text::escape_text(&prefix.to_string_lossy())
            );
            problems.push(
                Problem::new(why)
                    .with_hint("leave it out for /opt/comfy, or name a folder of its own"),
            );
        }
        if prefix.starts_with(&cx.repository) || cx.repository.starts_with(&prefix) {
            let why = format!(
                "{}: prefix {} overlaps the repository of comfy.toml ({})",
                m.source.place_of_key(&["host", "prefix"]),
                super::text::escape_text(&prefix.to_string_lossy()),
                cx.repository.display()
            );
            problems.push(
                Problem::new(why).with_hint("neither may lie in the other; move one of them"),
            );
        }
        let base = prefix.join(&m.host.sandbox_user);
        let records = if none {
            base.join("records")
        } else {
            InstancePaths::records_of(&m.host.sandbox_user, cx.platform.macos)
        };
        let homes = Path::new(if cx.platform.macos { "/Users" } else { "/home" });
        let paths = InstancePaths {
            prefix: prefix.clone(),
            base,
            records,
            home: (!none).then(|| homes.join(&m.host.sandbox_user)),
        };

        let mut shares: Vec<ShareWish> = Vec::new();
        let mut fence: Vec<(String, PathBuf)> = vec![
            ("comfy's own folder".into(), prefix.clone()),
            ("comfy's records".into(), paths.records.clone()),
            ("the repository of comfy.toml".into(), cx.repository.clone()),
        ];
        if none {
            // The records lie inside the prefix.
            fence.remove(1);
        }
        if let Some(h) = &paths.home {
            fence.push((format!("the home of {}", m.host.sandbox_user), h.clone()));
        }
        for (name, s) in &m.shares {
            let path = home(&s.path);
            let mut wrong = |message: String, hint: &str| {
                problems.push(
                    Problem::new(format!(
                        "{}: {message}",
                        m.source.place_of_key(&["shares", name, "path"])
                    ))
                    .with_hint(hint),
                )
            };
            let shown = super::text::escape_text(&s.path);
            if path == cx.owner.home
                || path.parent() == Some(homes)
                || path.parent().is_none()
                || cx.owner.home.starts_with(&path)
            {
                wrong(
                    format!("share {name}: {shown} is a home, or holds one"),
                    "share a folder of its own, not a home",
                );
            }
            if let Some(why) = reserved_paths::why_reserved(&cx.owner.home, &path) {
                wrong(
                    format!("share {name}: {shown} {why}"),
                    "share a folder of its own",
                );
            }
            for (what, other) in &fence {
                if path.starts_with(other) || other.starts_with(&path) {
                    wrong(
                        format!(
                            "share {name}: {shown} overlaps {what} ({})",
                            other.display()
                        ),
                        "neither may lie in the other; move one of them",
                    );
                }
            }
            fence.push((format!("share {name}"), path.clone()));
            shares.push(ShareWish {
                name: name.clone(),
                path,
                role: s.role.clone(),
                access: s.access,
                requires_mount: s.requires_mount.clone(),
                manage: s.manage,
            });
        }
        let view = m.comfyui.view.as_deref().map(home);
        if let Some(v) = &view {
            if let Some(why) = reserved_paths::why_reserved(&cx.owner.home, v) {
                let shown = super::text::escape_text(&v.to_string_lossy());
                problems.push(
                    Problem::new(format!(
                        "{}: view {shown} {why}",
                        m.source.place_of_key(&["comfyui", "view"])
                    ))
                    .with_hint(VIEW_HINT),
                );
            }
            for (what, other) in &fence {
                if view_overlaps(v, what, other) {
                    problems.push(
                        Problem::new(format!(
                            "{}: view {} overlaps {what} ({})",
                            m.source.place_of_key(&["comfyui", "view"]),
                            v.display(),
                            other.display()
                        ))
                        .with_hint("put the link where nothing else lies"),
                    );
                }
            }
        }
        if !problems.is_empty() {
            return Err(Problem::from_many(problems));
        }
        let nodes = m
            .nodes
            .iter()
            .filter(|(_, n)| n.enabled)
            .filter_map(|(name, n)| {
                Some((
                    name.clone(),
                    NodeSpec {
                        pin: lock.nodes.get(name)?.clone(),
                        writable: n.writable.clone(),
                    },
                ))
            })
            .collect();
        let mounts = shares
            .iter()
            .filter_map(|s| {
                Some((
                    s.role
                        .mount_path()
                        .filter(|m| !m.starts_with("user/"))?
                        .to_string(),
                    s.path.clone(),
                ))
            })
            .collect();
        let code = GenSpec {
            layout: LAYOUT,
            comfyui: lock.comfyui.clone(),
            nodes,
            mounts,
            elsewhere: external_model_dirs(&shares),
            state: paths.state_dir(),
            writable: m.comfyui.writable.clone(),
            venv: None,
        };
        let python = lock.python.clone().ok_or_else(|| {
            Problem::new("comfy.lock holds no Python packages: an older comfy wrote it")
                .with_hint("run `comfy lock`")
        })?;
        let mut pins = lock.models.iter().peekable();
        let wish = |(path, m): (&ByteString, &super::manifest::ModelSettings)| {
            while pins.next_if(|(p, _)| *p < path).is_some() {}
            let (_, pin) = pins.next_if(|(p, _)| *p == path)?;
            Some((
                path.clone(),
                ModelWish {
                    share: Arc::clone(&m.share),
                    pin: Arc::clone(pin),
                },
            ))
        };
        let models = m.models.iter().filter_map(wish).collect();
        Ok(Desired {
            host: cx.hostname.clone(),
            isolation: m.host.isolation,
            owner: cx.owner.clone(),
            sandbox: m.host.sandbox_user.clone(),
            group: m.host.group.clone(),
            gid: m.host.gid,
            adopt: m.host.adopt,
            platform: cx.platform.clone(),
            paths,
            shares,
            view,
            code,
            python,
            models,
            not_enforced: not_enforced(m, cx.platform.macos),
            manifest_digest: TextDigest::from_text(&m.source.text),
            lock_digest: TextDigest::from_text(lock_text),
            fence,
            manifest: m.without_models(),
        })
    }

    /// What a share's real path, with the owner's links followed, runs into: they were checked as
    /// they are written. `home` is the real one.
    pub fn runs_into(&self, share: &str, home: &Path, real: &Path) -> Option<String> {
        let own = format!("share {share}");
        let wide = |p: &Path| real.starts_with(p) || p.starts_with(real);
        let met = self
            .fence
            .iter()
            .find(|(what, path)| *what != own && wide(path))
            .map(|(what, path)| format!("{what} ({})", path.display()));
        met.or_else(|| {
            (home.starts_with(real) || systems_own(real))
                .then(|| "a home or a folder of the system".into())
        })
        .or_else(|| {
            reserved_paths::why_reserved(home, real)
                .map(|_| "a folder for programs, keys or settings".into())
        })
    }

    /// Why the view may not be at `real`, where the links above it lead; it was checked as it is
    /// written.
    pub fn view_runs_into(&self, home: &Path, real: &Path) -> Option<String> {
        let closed = reserved_paths::why_reserved(home, real)
            .or_else(|| reserved_paths::why_reserved(&self.owner.home, real))
            .map(str::to_string);
        let met = || {
            self.fence
                .iter()
                .find(|(what, path)| view_overlaps(real, what, path))
        };
        closed.or_else(|| met().map(|(what, path)| format!("overlaps {what} ({})", path.display())))
    }

    /// What comfy.toml says of launching; its models are [`Desired::models`].
    pub fn launch_settings(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the files of a share matter, beside their modes.
    pub fn has_models(&self, share: &str) -> bool {
        self.shares
            .iter()
            .any(|s| s.name == share && s.role.holds_models())
            || self.models.values().any(|m| *m.share == *share)
    }

    /// Where a key stands in comfy.toml.
    pub fn place_of_key(&self, path: &[&str]) -> String {
        self.manifest.source.place_of_key(path)
    }

    /// The folders in `state/`, each the sandbox user's own.
    pub fn state_children(&self) -> Vec<PathBuf> {
        // Where no share takes what is put in and what comes out.
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
    pub fn state_folders(&self) -> Vec<PathBuf> {
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
        for (part, _) in self.code.writable_paths() {
            let folder = InstancePaths::written_by(&state, &part);
            if !out.contains(&folder) && folder.parent() != Some(&state) {
                out.push(folder);
            }
        }
        out
    }
}

/// A view lies beside the manifest's repository or in it, and never around anything of comfy's.
fn view_overlaps(view: &Path, what: &str, other: &Path) -> bool {
    other.starts_with(view) || (view.starts_with(other) && !what.starts_with("the repository"))
}

pub const VIEW_HINT: &str =
    "put the link below your home, such as ~/ComfyUI, where nothing is run from";

/// Where the shares that hold models elsewhere have them.
fn external_model_dirs(shares: &[ShareWish]) -> BTreeMap<String, BTreeMap<String, Vec<PathBuf>>> {
    let at = |s: &ShareWish, folder: &String| {
        if folder == "." {
            s.path.clone()
        } else {
            s.path.join(folder)
        }
    };
    let one = |s: &ShareWish| match &s.role {
        ShareRole::Models(kinds) => Some((
            s.name.clone(),
            kinds
                .iter()
                .map(|(k, all)| (k.clone(), all.iter().map(|f| at(s, f)).collect()))
                .collect(),
        )),
        ShareRole::Mount(_) => None,
    };
    shares.iter().filter_map(one).collect()
}

/// What the manifest promises, by a default or in words, and this version does not enforce on this
/// platform.
fn not_enforced(m: &Manifest, macos: bool) -> Vec<String> {
    let mut out = Vec::new();
    let none = m.host.isolation == IsolationMode::None;
    let egress = match &m.network.egress {
        EgressPolicy::Allow => None,
        EgressPolicy::Deny => Some("network.egress = \"deny\"".to_string()),
        EgressPolicy::Only(list) => Some(format!("network.egress = a list of {}", list.len())),
    };
    // A namespace of its own keeps the network, and the front the port.
    if let Some(egress) = egress.filter(|_| none) {
        let how = if macos {
            "by port alone, not by host"
        } else {
            "for TCP and by port alone, as far as the kernel's Landlock knows ports; a node can \
             still listen on a port that the system chooses"
        };
        out.push(format!("{egress}: under isolation \"none\" it holds {how}"));
    }
    if m.network.clients != ClientPolicy::Any && none {
        out.push(
            "network.clients: under isolation \"none\" every user of this machine reaches ComfyUI"
                .into(),
        );
    } else if m.network.clients != ClientPolicy::Any && macos {
        out.push(
            "network.clients: not enforced for ComfyUI's own port, which other users of this \
            machine reach beside the front's"
                .into(),
        );
    }
    if none && !macos && m.run.memory_reserve > 0 {
        out.push(
            "run.memory_reserve: under isolation \"none\" nothing is kept for the system".into(),
        );
    }
    if macos {
        out.push(format!(
            "policy.confinement = \"{}\": a Seatbelt profile is applied that nobody \
            has tried on a Mac yet",
            m.policy.confinement
        ));
    }
    out.extend(
        not_yet(m)
            .into_iter()
            .map(|s| format!("{s}: read and checked, not enforced by this version")),
    );
    out
}

fn not_yet(m: &Manifest) -> Vec<String> {
    let mut out = Vec::new();
    if m.policy.scan != "off" {
        out.push(format!("policy.scan = \"{}\"", m.policy.scan));
    }
    if m.policy.review != "off" {
        out.push(format!("policy.review = \"{}\"", m.policy.review));
    }
    if m.comfyui.allow_remote && m.host.isolation == IsolationMode::None {
        out.push("comfyui.allow_remote: whoever reaches the port may use ComfyUI".into());
    }
    out
}
