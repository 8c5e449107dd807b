//! The network as comfy itself uses it: HTTP, mirrors, and where a server may send it.

pub mod http;
pub mod interfaces;
pub mod mirrors;
pub mod nearness;
pub mod redirect;
