//! The network and the memory limit of a launch.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::port;
use crate::desired::launch::{InnerPorts, LaunchSpec};
use crate::host::memory_cgroup;
use crate::problem::{Problem, Result};

/// The port where proxies usually listen.
const PROXY: u16 = 3128;

/// Where ComfyUI listens, its memory limit, and what this system lacks to enforce both.
pub(crate) struct LaunchNetwork {
    /// The launch's own network namespace.
    pub room: Option<OwnedFd>,
    pub inner: SocketAddr,
    /// Where the egress proxy listens, if there is a gateway.
    pub proxy: Option<SocketAddr>,
    pub lacking: Vec<String>,
    /// The control group that reserves memory for the system.
    pub memory: Option<memory_cgroup::MemoryCgroup>,
}

/// Creates the launch's network and memory limit, and finds out what the system supports.
///
/// # Errors
/// The system does not support what `policy.confinement = "required"` demands.
pub(crate) fn prepare_network(spec: &LaunchSpec) -> Result<LaunchNetwork> {
    let (room, lacking) = create_netns(spec);
    if spec.account && spec.require_confinement && !lacking.is_empty() {
        let problems = lacking.into_iter().map(Problem::new).collect();
        return Err(Problem::from_many(problems).with_hint(
            "with `confinement = \"warn\"` in [policy] of comfy.toml, ComfyUI starts all the same",
        ));
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // In its own network every port is free.
    let (port, proxy) = match (spec.behind_gateway(), room.is_some()) {
        (false, _) => (spec.port, None),
        (true, true) => (
            spec.port,
            Some(if spec.port == PROXY { PROXY + 1 } else { PROXY }),
        ),
        (true, false) => (port::free_port()?, Some(port::free_port()?)),
    };
    let mut lacking = lacking;
    // A limit is not isolation: without it ComfyUI starts all the same.
    let memory = match spec.memory_reserve {
        bytes @ 1.. if spec.account && !spec.os.is_macos() => {
            memory_cgroup::create_cgroup(&spec.user, bytes)
                .map_err(|why| lacking.push(format!("run.memory_reserve is not enforced: {why}")))
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

/// Creates a network namespace if this system and this launch have one, and returns what the system
/// lacks.
#[cfg(target_os = "linux")]
fn create_netns(spec: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    use crate::host::confine;
    let mut lacking = Vec::new();
    if spec.os.is_macos() {
        return (None, lacking);
    }
    let room = spec
        .account
        .then(confine::netns::create_netns)
        .transpose()
        .unwrap_or_else(|p| {
            lacking.push(format!(
                "no namespaces, so ComfyUI can reach other programs' processes, sockets and \
                 ports: {p}"
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
    /// Returns the network that all programs share.
    pub(crate) fn shared_network(spec: &LaunchSpec) -> LaunchNetwork {
        LaunchNetwork {
            room: None,
            inner: (Ipv4Addr::LOCALHOST, spec.port).into(),
            proxy: None,
            lacking: Vec::new(),
            memory: None,
        }
    }

    pub(crate) fn inner_ports(&self) -> InnerPorts {
        InnerPorts {
            comfyui: self.inner.port(),
            proxy: self.proxy.map(|a| a.port()),
        }
    }
}

/// Ensures that the egress filter that an apply loaded is in place: a reboot removes it. Loading one
/// that no apply has loaded is not a launch's task, since the inventory would not know of it.
#[cfg(target_os = "linux")]
pub(super) fn check_egress_filter(spec: &LaunchSpec) -> Result<()> {
    use crate::host::egress_filter;
    use crate::host::process::SystemRunner;
    use crate::plan::observed::EgressFilter;
    let record = spec.paths.egress_filter_record();
    match egress_filter::read_state(spec.uid, &record, &SystemRunner) {
        EgressFilter::Absent if egress_filter::was_loaded(spec.uid, &record) => {
            egress_filter::install_rules(spec.uid, &record, &SystemRunner)
        }
        EgressFilter::Absent | EgressFilter::There | EgressFilter::Unusable => Ok(()),
    }
}
