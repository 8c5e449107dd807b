//! What a launched ComfyUI may touch, as data: derived only from what was applied.
//!
//! Two back ends render it: [`crate::host::confine`] builds private rooms and asks Landlock
//! (Linux), [`seatbelt`] writes a profile (macOS). What is not listed here does not exist for
//! ComfyUI, or is refused.

pub(crate) mod explain;
pub(crate) mod places;
pub(crate) mod seatbelt;

use std::path::PathBuf;

use super::desired::GenerationSpec;
use super::manifest::{EgressPolicy, ShareAccess};
use crate::desired::launch::{InnerPorts, LaunchSpec};

/// The access allowed below a path. Account and modes still apply: this restricts, it never grants.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum PathAccess {
    Read,
    /// Read, and start programs.
    Run,
    /// Read, write, create and remove, but not start programs.
    Write,
    /// Read, write, create, remove, and start programs: a build job's own folder, where it runs
    /// what it has unpacked.
    Make,
    /// Read and write a device, and use its ioctls.
    Device,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PathRule {
    pub path: PathBuf,
    pub may: PathAccess,
    pub whose: PathOwner,
    pub why: String,
}

/// Who is responsible for a path, which decides what is checked before a launch uses it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum PathOwner {
    /// The system's: only root can change what it leads to. It may be missing.
    System,
    /// An interpreter of the system's or the owner's; parts of it may be missing.
    Interpreter,
    /// Sealed by comfy.
    Sealed,
    /// The sandbox user's own folder.
    Own,
    /// The folder of a share.
    Share,
    /// Made for the launch.
    Room,
}

/// A file system that only ComfyUI sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum PrivateMount {
    /// `state/temp`, under another name too.
    Temp,
    /// Empty, in memory, removed with the last process.
    Memory,
    /// Only the processes of the launch.
    Processes,
    /// Hardware as the private network namespace sees it, read-only.
    Hardware,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Confinement {
    /// Sorted by path, so that a parent comes first.
    pub rules: Vec<PathRule>,
    /// Mounted before the rules apply; only if the launch has a mount namespace.
    pub rooms: Vec<(PathBuf, PrivateMount)>,
    /// Links that lead to what is allowed: `current`, and those of the owner's on the way to a share,
    /// which ComfyUI's own links lead through. Made anew where the launch has rooms, to the paths
    /// that were looked at.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The folder behind [`PrivateMount::Temp`].
    pub temp: PathBuf,
    /// TCP ports that may be bound and reached where there is no network namespace; none: all.
    pub ports: Option<AllowedPorts>,
    /// Whether every address may be reached, if through the gateway alone.
    #[serde(default)]
    pub open_egress: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AllowedPorts {
    pub bind: Vec<u16>,
    /// Whether `bind` holds for every address of this machine, or for loopback alone (Seatbelt;
    /// Landlock knows no addresses).
    #[serde(default)]
    pub everywhere: bool,
    /// Ports on loopback.
    pub connect: Vec<u16>,
    /// Ports of every host.
    #[serde(default)]
    pub outside: Vec<u16>,
    /// Leave UDP alone: names are resolved with it.
    pub udp: bool,
}

/// The ports of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GatewayPorts {
    /// ComfyUI's port as clients see it, which root has bound; without one there are no clients.
    pub listen: Option<u16>,
    /// Where ComfyUI listens.
    pub comfyui: u16,
    /// Where the egress proxy listens.
    pub proxy: u16,
}

/// What resolving a name needs.
const DNS: u16 = 53;

/// Ports in a network that is everybody's: its own one, the proxy, and under isolation "none",
/// where there is none, those of the list, whatever the host.
fn shared_network_ports(spec: &LaunchSpec, inner: InnerPorts) -> Option<AllowedPorts> {
    let mut ports = AllowedPorts {
        bind: vec![inner.comfyui],
        everywhere: !spec.behind_gateway() && spec.allow_remote,
        connect: vec![inner.comfyui],
        ..AllowedPorts::default()
    };
    match (inner.proxy, &spec.network.egress) {
        (Some(proxy), _) => ports.connect.push(proxy),
        (None, EgressPolicy::Deny) => {}
        (None, EgressPolicy::Allow) => return None,
        (None, EgressPolicy::Only(_)) => {
            ports.udp = true;
            ports.outside.push(DNS);
            ports.outside.extend(spec.network.egress.allowed_ports());
        }
    }
    Some(ports)
}

/// Builds the gateway's confinement for Landlock: no files, except those that resolve names if egress
/// is allowed.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "macOS has a profile of its own for the gateway")
)]
pub(crate) fn gateway_confinement(egress: &EgressPolicy, own: &GatewayPorts) -> Confinement {
    let mut c = Confinement::default();
    let mut outside = Vec::new();
    if *egress != EgressPolicy::Deny {
        let rules = places::RESOLVER.iter().map(|(path, may, why)| PathRule {
            path: PathBuf::from(path),
            may: *may,
            whose: PathOwner::System,
            why: (*why).into(),
        });
        c.rules.extend(rules);
        outside.push(DNS);
        outside.extend(egress.allowed_ports());
    }
    c.ports = (*egress != EgressPolicy::Allow).then_some(AllowedPorts {
        bind: vec![own.proxy],
        connect: vec![own.comfyui],
        outside,
        udp: true,
        ..AllowedPorts::default()
    });
    c
}

/// What ComfyUI may do in a file system of its own, and why it is there.
fn mount_rule(room: PrivateMount) -> (PathAccess, &'static str) {
    match room {
        PrivateMount::Temp => (PathAccess::Write, "private: the content of `state/temp`"),
        PrivateMount::Memory => (
            PathAccess::Write,
            "private, in memory: removed with the last process",
        ),
        PrivateMount::Processes => (
            PathAccess::Read,
            "the processes of this launch, and no others",
        ),
        PrivateMount::Hardware => (
            PathAccess::Read,
            "processors, memory and graphics cards, as drivers and libraries look for them",
        ),
    }
}

impl Confinement {
    /// Builds the confinement for a generation; `rooms`: the launch has namespaces of its own.
    pub(crate) fn for_launch(
        spec: &LaunchSpec,
        id: &str,
        generation: &GenerationSpec,
        rooms: bool,
        ports: InnerPorts,
    ) -> Confinement {
        let mut rules = Vec::new();
        let mut add = |path: PathBuf, whose: PathOwner, may: PathAccess, why: &str| {
            rules.push(PathRule {
                path,
                may,
                whose,
                why: why.into(),
            })
        };
        for (path, may, why) in places::system_places(spec.os) {
            add(PathBuf::from(path), PathOwner::System, *may, why);
        }
        let paths = &spec.paths;
        add(
            paths.generation_dir(id),
            PathOwner::Sealed,
            PathAccess::Run,
            "the code that was applied, sealed",
        );
        if let Some(v) = &generation.venv {
            add(
                paths.venv_dir(&v.id()),
                PathOwner::Sealed,
                PathAccess::Run,
                "its Python packages, sealed",
            );
            for path in places::interpreter_paths(&v.interpreter.path) {
                add(
                    path,
                    PathOwner::Interpreter,
                    PathAccess::Run,
                    "the Python interpreter and its library",
                );
            }
        }
        for child in spec.state_children() {
            let why = match child.file_name().and_then(|n| n.to_str()) {
                Some("user") => "settings and database",
                Some("temp") => "temporary files",
                Some("cache") => "caches of code, cleared when code or packages change",
                Some("downloads") => "downloads of libraries, kept",
                Some("input" | "output") => "input and output, if no share has them",
                Some("home") => "the home that programs see",
                _ => "what ComfyUI and its nodes may write: `writable`",
            };
            add(child, PathOwner::Own, PathAccess::Write, why);
        }
        if let Some(home) = &paths.home {
            add(
                home.clone(),
                PathOwner::Own,
                PathAccess::Write,
                "the sandbox user's own home",
            );
        }
        for s in &spec.shares {
            let (may, what) = match s.access {
                ShareAccess::Read => (PathAccess::Read, "reads"),
                ShareAccess::Write => (PathAccess::Write, "reads and writes"),
                // The sticky folders keep it from files that are not its own.
                ShareAccess::Add => (PathAccess::Write, "reads, and adds files"),
            };
            add(
                s.path.clone(),
                PathOwner::Share,
                may,
                &format!("share {}: ComfyUI {what}", s.name),
            );
        }
        let rooms = if rooms {
            places::private_mounts()
        } else {
            Vec::new()
        };
        for (path, room) in &rooms {
            let (may, why) = mount_rule(*room);
            add(path.clone(), PathOwner::Room, may, why);
        }
        if rooms.is_empty() {
            for (path, may, why) in places::without_rooms(spec.os) {
                add(PathBuf::from(path), PathOwner::System, *may, why);
            }
        }
        rules.sort_by(|a, b| a.path.cmp(&b.path).then(b.may.cmp(&a.may)));
        rules.dedup_by(|b, a| a.path == b.path);
        let ports = if rooms.is_empty() {
            shared_network_ports(spec, ports)
        } else {
            None
        };
        // Scripts of packages name their interpreter by it.
        let current = (paths.current_link(), paths.generation_dir(id));
        Confinement {
            rules,
            rooms,
            links: spec.links.iter().cloned().chain([current]).collect(),
            temp: paths.state_of("temp"),
            ports,
            open_egress: spec.network.egress == EgressPolicy::Allow,
        }
    }

    /// Whether the launch itself resolves names and reaches other machines.
    fn resolves_names(&self) -> bool {
        self.ports.as_ref().is_none_or(|p| !p.outside.is_empty())
    }
}
