//! The gateway: a process between ComfyUI and everybody else, under a uid that is neither the
//! sandbox user's nor the owner's.
//!
//! It owns the port outside and talks to ComfyUI inside the launch's network; ComfyUI's outgoing
//! connections pass through it as well ([`egress`]). [`access`] decides who is admitted (pure),
//! [`tokens`] proves the owner if the system does not report a client's uid, and
//! [`connection_limits`] limits connections. [`relay`] passes requests on, [`headers`] filters the
//! headers of answers, [`inside`] asks whose ComfyUI's sockets are, and [`process`] is the process.

pub mod access;
pub(crate) mod connection_limits;
pub(crate) mod egress;
pub(crate) mod header_limit;
pub(crate) mod headers;
pub mod inside;
pub mod process;
pub mod relay;
pub mod tokens;

use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::manifest::EgressPolicy;

/// The configuration that the launcher sends on stdin.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct GatewayConfig {
    /// The uid and gid that it takes on.
    pub uid: u32,
    /// The port's listener, bound by root, outside; `None` if there is only the egress proxy.
    pub listener: Option<RawFd>,
    /// The launch's network, if it has its own.
    pub network: Option<RawFd>,
    /// Where ComfyUI listens inside that network.
    pub inner: SocketAddr,
    /// The uid that ComfyUI has.
    pub sandbox: u32,
    pub rules: access::AccessRules,
    /// Where the egress proxy listens, also inside.
    pub proxy: SocketAddr,
    pub egress: EgressPolicy,
    pub secret: tokens::LaunchSecret,
    /// Whether it does not serve where the system does not confine it.
    pub require_confinement: bool,
    /// A pipe for errors; closed without a message, it means that the gateway listens.
    pub report: RawFd,
    /// The process that started it; the gateway exits with that process.
    pub launcher: i32,
}
