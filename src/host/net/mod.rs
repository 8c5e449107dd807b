//! The network as comfy itself uses it: HTTP, mirrors, and where a server may send it.

pub mod http;
pub(crate) mod interfaces;
pub(crate) mod mirrors;
pub(crate) mod nearness;
pub(crate) mod redirect;
