//! What to try on this machine, gathered as the owner, who knows where private files are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::{EgressPolicy, ShareAccess};
use crate::plan::Desired;

/// Paths and numbers for probe.py; it contains no secrets except where things are.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProbeContext {
    /// Paths that must not be readable, by the last part of the probe's id.
    pub read: BTreeMap<String, Vec<PathBuf>>,
    /// Paths that must not be writable.
    pub write: BTreeMap<String, Vec<PathBuf>>,
    /// Shares that the sandbox may write.
    pub shared: Vec<PathBuf>,
    pub manifest: PathBuf,
    /// A folder that belongs to the sandbox user.
    pub own: PathBuf,
    /// Folders from which programs are started at a login.
    pub persist: Vec<PathBuf>,
    /// A process of the owner's, with this mark in its environment.
    pub owner_pid: u32,
    pub mark: String,
    /// Groups that are as good as root, by name.
    pub powerful: BTreeMap<String, u32>,
    pub sockets: Vec<PathBuf>,
    /// A service on loopback that the owner keeps open meanwhile, and an abstract one.
    pub service: u16,
    #[serde(rename = "abstract")]
    pub abstract_name: Option<String>,
    pub resolvers: Vec<String>,
    /// Whether some outgoing connections are allowed.
    pub egress: bool,
    /// The port of the running ComfyUI; 0 if it is not running.
    pub port: u16,
    /// Whether facts of this machine are asked for, and nothing is tried that must not be possible.
    pub facts: bool,
    /// The owner's uid, whose session is asked for.
    pub owner: u32,
    /// As whom to try; the launcher sets it.
    #[serde(rename = "as")]
    pub by: Option<super::ProbeAs>,
}

const KEYS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker/config.json",
    ".netrc",
    ".git-credentials",
    ".config/gh",
    ".config/gcloud",
    ".config/op",
    ".cache/huggingface/token",
    ".password-store",
    ".npmrc",
    ".pypirc",
];
const BROWSERS: &[&str] = &[
    ".mozilla",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    "Library/Application Support/Google/Chrome",
    "Library/Application Support/Firefox",
    "Library/Safari",
    "Library/Cookies",
];
const MAIL: &[&str] = &[
    ".thunderbird",
    "Mail",
    "Maildir",
    ".mail",
    "Library/Mail",
    "Library/Messages",
];
const DOCUMENTS: &[&str] = &["Documents", "Desktop", "Downloads", "Pictures"];
const HISTORY: &[&str] = &[
    ".bash_history",
    ".zsh_history",
    ".local/share/fish/fish_history",
    ".python_history",
];
const PERSIST: &[&str] = &[
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".zshrc",
    ".zprofile",
    ".config/autostart",
    ".config/systemd/user",
    ".config/fish/config.fish",
    "Library/LaunchAgents",
];
/// The systems' own groups whose members can become root, or read the disk.
const POWERFUL: &[&str] = &[
    "root", "sudo", "wheel", "admin", "docker", "lxd", "libvirt", "disk", "shadow", "adm", "kvm",
    "staff",
];
const SOCKETS: &[&str] = &[
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd/socket",
    "/run/cups/cups.sock",
    "/var/run/mDNSResponder",
];

impl ProbeContext {
    /// Returns the context of this machine, without paths that do not exist.
    pub(crate) fn for_machine(d: &Desired, dir: &Path, port: u16) -> ProbeContext {
        let home = &d.owner.home;
        let there = |base: &Path, list: &[&str]| -> Vec<PathBuf> {
            list.iter()
                .map(|p| base.join(p))
                .filter(|p| p.symlink_metadata().is_ok())
                .collect()
        };
        let mut q = ProbeContext {
            manifest: dir.join("comfy.toml"),
            own: d.paths.state_dir().join("temp"),
            port,
            owner: d.owner.uid,
            egress: d.network.egress != EgressPolicy::Deny,
            ..ProbeContext::default()
        };
        for (name, list) in [
            ("keys", KEYS),
            ("browsers", BROWSERS),
            ("mail", MAIL),
            ("documents", DOCUMENTS),
            ("history", HISTORY),
        ] {
            q.read.insert(name.into(), there(home, list));
        }
        q.read
            .insert("keychains".into(), there(home, &["Library/Keychains"]));
        q.read.insert("homes".into(), other_homes(d));
        let shares = |access: &[ShareAccess]| {
            d.shares
                .iter()
                .filter(|s| access.contains(&s.access) && s.path.is_dir())
                .map(|s| s.path.clone())
                .collect::<Vec<_>>()
        };
        let mut models = shares(&[ShareAccess::Read]);
        let some: Vec<PathBuf> = shares(&[ShareAccess::Read, ShareAccess::Add])
            .iter()
            .filter_map(|s| first_file(s, 3))
            .collect();
        models.extend(some);
        q.write.insert("models".into(), models);
        q.write.extend(comfys_own(d, dir));
        q.write.insert("home".into(), vec![home.clone()]);
        q.shared = shares(&[ShareAccess::Write]);
        q.persist = there(home, PERSIST);
        q.persist.extend(
            [
                "/etc/cron.d",
                "/etc/profile.d",
                "/etc/systemd/system",
                "/Library/LaunchAgents",
                "/Library/LaunchDaemons",
            ]
            .map(PathBuf::from)
            .into_iter()
            .filter(|p| p.is_dir()),
        );
        q.powerful = POWERFUL
            .iter()
            .filter_map(|n| {
                Some((
                    (*n).to_string(),
                    nix::unistd::Group::from_name(n)
                        .ok()
                        .flatten()?
                        .gid
                        .as_raw(),
                ))
            })
            .collect();
        q.sockets = SOCKETS
            .iter()
            .map(PathBuf::from)
            .filter(|p| p.exists())
            .collect();
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        q.resolvers = text
            .lines()
            .filter_map(|l| l.strip_prefix("nameserver"))
            .map(|a| a.trim().to_string())
            .filter(|a| a.parse::<std::net::IpAddr>().is_ok())
            .collect();
        q
    }
}

/// What is comfy's own, and must not be writable for the sandbox.
fn comfys_own(d: &Desired, dir: &Path) -> [(String, Vec<PathBuf>); 4] {
    let live = d.paths.current_link();
    let manifest = dir.join("comfy.toml");
    [
        (
            "code".into(),
            vec![
                live.join("ComfyUI/main.py"),
                live.join("ComfyUI/custom_nodes"),
                live.clone(),
                d.paths.generations_dir(),
                d.paths.base.clone(),
            ],
        ),
        (
            "python".into(),
            vec![
                live.join("venv"),
                live.join("venv/bin"),
                live.join("venv/bin/python"),
                d.paths.venvs_dir(),
            ],
        ),
        (
            "manifest".into(),
            vec![manifest, dir.join("comfy.lock"), dir.to_path_buf()],
        ),
        (
            "records".into(),
            vec![
                d.paths.records.clone(),
                d.paths.inventory_file(),
                d.paths.launch_record(),
            ],
        ),
    ]
}

/// Returns homes that are neither the owner's nor the sandbox user's.
fn other_homes(d: &Desired) -> Vec<PathBuf> {
    let root = d.platform.homes();
    let own = [
        Some(d.owner.home.clone()),
        d.paths.home.clone(),
        Some(root.join("Shared")),
    ];
    let mut all: Vec<PathBuf> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir() && !own.contains(&Some(p.clone())))
        .collect();
    all.push(PathBuf::from(if d.platform.os.is_macos() {
        "/var/root"
    } else {
        "/root"
    }));
    all
}

/// Returns some file of a tree, not too deep.
fn first_file(folder: &Path, depth: usize) -> Option<PathBuf> {
    let all: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    let is = |p: &&PathBuf, dir: bool| {
        p.symlink_metadata()
            .is_ok_and(|m| if dir { m.is_dir() } else { m.is_file() })
    };
    all.iter().find(|p| is(p, false)).cloned().or_else(|| {
        if depth == 0 {
            None
        } else {
            all.iter()
                .filter(|p| is(p, true))
                .find_map(|p| first_file(p, depth - 1))
        }
    })
}
