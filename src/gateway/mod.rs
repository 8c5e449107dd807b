//! The front: one process between ComfyUI and everybody else, under a uid that is neither the
//! sandbox's nor the owner's.
//!
//! It holds the port outside and speaks to ComfyUI inside the launch's network; what ComfyUI may
//! ask of the world goes through it as well: [`egress`]. [`access`] says who gets in (pure),
//! [`tokens`] proves it where the system does not tell, [`connection_limits`] how many connections
//! each may have. [`relay`] passes requests on and [`headers`] says what of an answer; [`process`]
//! is the process.

pub mod access;
pub mod connection_limits;
pub mod egress;
pub mod header_limit;
pub mod headers;
pub mod process;
pub mod relay;
pub mod tokens;

use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::manifest::EgressPolicy;

/// What the launcher asks of it, on stdin.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct GatewayConfig {
    /// Whom it becomes, uid and gid alike.
    pub uid: u32,
    /// Bound by root, outside.
    pub listener: RawFd,
    /// The launch's network, where it has one of its own.
    pub network: Option<RawFd>,
    /// Where ComfyUI listens in there.
    pub inner: SocketAddr,
    pub rules: access::AccessRules,
    /// Where the proxy for the way out listens, in there too.
    pub proxy: SocketAddr,
    pub egress: EgressPolicy,
    pub secret: tokens::LaunchSecret,
    /// A pipe for what goes wrong; its end without a word means that it listens.
    pub report: RawFd,
    /// Who started it: without that process it ends.
    pub launcher: i32,
}
