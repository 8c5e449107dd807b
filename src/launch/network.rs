//! The network of a launch, and how much memory it gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::port;
use crate::desired::launch::{InnerPorts, LaunchSpec};
use crate::host::memory_cgroup;
use crate::problem::{Problem, Result};

/// Where proxies usually listen.
const PROXY: u16 = 3128;

/// Where ComfyUI listens, how much memory it gets, and what this system lacks to keep it there.
pub struct LaunchNetwork {
    /// A network namespace of the launch's own.
    pub room: Option<OwnedFd>,
    pub inner: SocketAddr,
    /// Where the proxy for the way out listens, where there is a front.
    pub proxy: Option<SocketAddr>,
    pub lacking: Vec<String>,
    /// What keeps memory for the system.
    pub memory: Option<memory_cgroup::MemoryCgroup>,
}

/// Makes the launch's network and its memory's limit, and looks what the system can do.
///
/// # Errors
/// It cannot do what `policy.confinement = "required"` asks.
pub fn prepare_network(spec: &LaunchSpec) -> Result<LaunchNetwork> {
    let (room, lacking) = create_netns(spec);
    if spec.account && spec.require_confinement && !lacking.is_empty() {
        let problems = lacking.into_iter().map(Problem::new).collect();
        return Err(Problem::from_many(problems).with_hint(
            "`confinement = \"warn\"` in [policy] of comfy.toml starts ComfyUI all the same",
        ));
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // In a network of its own every port is free.
    let (port, proxy) = match (spec.behind_gateway(), room.is_some()) {
        (false, _) => (spec.port, None),
        (true, true) => (
            spec.port,
            Some(if spec.port == PROXY { PROXY + 1 } else { PROXY }),
        ),
        (true, false) => (port::free_port()?, Some(port::free_port()?)),
    };
    let mut lacking = lacking;
    // A limit is no wall: without it ComfyUI starts all the same.
    let memory = match spec.memory_reserve {
        bytes @ 1.. if spec.account && !spec.macos => {
            memory_cgroup::create_cgroup(&spec.user, bytes)
                .map_err(|why| lacking.push(format!("run.memory_reserve is not kept: {why}")))
                .ok()
        }
        _ => None,
    };
    Ok(LaunchNetwork {
        room,
        inner: at(port),
        proxy: proxy.map(at),
        lacking,
        memory,
    })
}

/// A network namespace, where this system and this launch have one, and what the system lacks.
#[cfg(target_os = "linux")]
fn create_netns(spec: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    use crate::host::confine;
    let mut lacking = Vec::new();
    let room = spec
        .account
        .then(confine::netns::create_netns)
        .transpose()
        .unwrap_or_else(|p| {
            lacking.push(format!(
                "no namespaces, so other programs' processes, sockets and ports are \
            within reach: {p}"
            ));
            None
        });
    lacking.extend(confine::missing_features(room.is_some()));
    (room, lacking)
}

#[cfg(not(target_os = "linux"))]
fn create_netns(_: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    (None, Vec::new())
}

impl LaunchNetwork {
    /// The network that everybody has.
    pub fn shared_network(spec: &LaunchSpec) -> LaunchNetwork {
        LaunchNetwork {
            room: None,
            inner: (Ipv4Addr::LOCALHOST, spec.port).into(),
            proxy: None,
            lacking: Vec::new(),
            memory: None,
        }
    }

    pub fn inner_ports(&self) -> InnerPorts {
        InnerPorts {
            comfyui: self.inner.port(),
            proxy: self.proxy.map(|a| a.port()),
        }
    }
}

/// Makes sure of the backstop, which a restart of the machine takes away.
#[cfg(target_os = "linux")]
pub(super) fn check_egress_filter(spec: &LaunchSpec) -> Result<()> {
    use crate::host::egress_filter;
    use crate::host::process::SystemRunner;
    use crate::plan::observed::EgressFilter;
    let record = spec.paths.egress_filter_record();
    match egress_filter::read_state(spec.uid, &record, &SystemRunner) {
        EgressFilter::Absent => egress_filter::install_rules(spec.uid, &record, &SystemRunner),
        EgressFilter::There | EgressFilter::Unusable => Ok(()),
    }
}
