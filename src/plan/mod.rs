//! PURE: desired and observed in, a plan out. Nothing here touches the machine; what looks is
//! behind [`look::Look`].

pub mod adopt;
pub mod build;
pub mod change;
pub mod desired;
pub mod digest;
pub mod facts;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod fake;
pub mod ids;
pub mod inventory;
pub mod launch;
pub mod look;
pub mod models;
pub mod paths;
pub mod removal;
pub mod select;
pub mod service;
pub mod share_rules;
pub mod step;
pub mod venv;

pub use change::{Action, Attrs, Change, Plan};
pub use desired::Desired;
pub use step::Step;
