//! The network of a launch, and how much memory it gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::port;
use crate::desired::launch::{Inner, LaunchSpec};
use crate::host::memory_cgroup;
use crate::problem::{Problem, Result};

/// Where proxies usually listen.
const PROXY: u16 = 3128;

/// Where ComfyUI listens, how much memory it gets, and what this system lacks to keep it there.
pub struct Network {
    /// A network namespace of the launch's own.
    pub room: Option<OwnedFd>,
    pub inner: SocketAddr,
    /// Where the proxy for the way out listens, where there is a front.
    pub proxy: Option<SocketAddr>,
    pub lacking: Vec<String>,
    /// What keeps memory for the system.
    pub memory: Option<memory_cgroup::Group>,
}

/// Makes the launch's network and its memory's limit, and looks what the system can do.
///
/// # Errors
/// It cannot do what `policy.confinement = "required"` asks.
pub fn make_network(spec: &LaunchSpec) -> Result<Network> {
    let (room, lacking) = room(spec);
    if spec.account && spec.strict && !lacking.is_empty() {
        let problems = lacking.into_iter().map(Problem::new).collect();
        return Err(Problem::all(problems).hint(
            "`confinement = \"warn\"` in [policy] of comfy.toml starts ComfyUI all the same",
        ));
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // In a network of its own every port is free.
    let (port, proxy) = match (spec.fronted(), room.is_some()) {
        (false, _) => (spec.port, None),
        (true, true) => (
            spec.port,
            Some(if spec.port == PROXY { PROXY + 1 } else { PROXY }),
        ),
        (true, false) => (port::any()?, Some(port::any()?)),
    };
    let mut lacking = lacking;
    // A limit is no wall: without it ComfyUI starts all the same.
    let memory = match spec.reserve {
        bytes @ 1.. if spec.account && !spec.macos => memory_cgroup::group(&spec.user, bytes)
            .map_err(|why| lacking.push(format!("run.memory_reserve is not kept: {why}")))
            .ok(),
        _ => None,
    };
    Ok(Network {
        room,
        inner: at(port),
        proxy: proxy.map(at),
        lacking,
        memory,
    })
}

/// A network namespace, where this system and this launch have one, and what the system lacks.
#[cfg(target_os = "linux")]
fn room(spec: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    use crate::host::confine;
    let mut lacking = Vec::new();
    let room = spec
        .account
        .then(confine::netns::room)
        .transpose()
        .unwrap_or_else(|p| {
            lacking.push(format!(
                "no namespaces, so other programs' processes, sockets and ports are \
            within reach: {p}"
            ));
            None
        });
    lacking.extend(confine::lacking(room.is_some()));
    (room, lacking)
}

#[cfg(not(target_os = "linux"))]
fn room(_: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    (None, Vec::new())
}

impl Network {
    /// The network that everybody has.
    pub fn none(spec: &LaunchSpec) -> Network {
        Network {
            room: None,
            inner: (Ipv4Addr::LOCALHOST, spec.port).into(),
            proxy: None,
            lacking: Vec::new(),
            memory: None,
        }
    }

    pub fn ports(&self) -> Inner {
        Inner {
            comfyui: self.inner.port(),
            proxy: self.proxy.map(|a| a.port()),
        }
    }
}

/// Makes sure of the backstop, which a restart of the machine takes away.
#[cfg(target_os = "linux")]
pub(super) fn ensure_egress_filter(spec: &LaunchSpec) -> Result<()> {
    use crate::host::egress_filter;
    use crate::host::process::System;
    use crate::plan::observed::Fence;
    let record = spec.paths.fence();
    match egress_filter::look(spec.uid, &record, &System) {
        Fence::Absent => egress_filter::set(spec.uid, &record, &System),
        Fence::There | Fence::Unusable => Ok(()),
    }
}
