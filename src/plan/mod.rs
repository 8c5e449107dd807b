//! PURE: desired and observed state in, a plan out. Nothing here touches the machine; reading it is
//! behind [`look::Look`].

pub mod account_adoption;
pub mod change;
pub mod execute;
pub mod ids;
pub mod inventory;
pub mod look;
pub mod model_summary;
pub mod observed;
pub mod phase;
pub mod removal;
pub mod select;
pub mod share_rules;
pub mod step;

pub use super::desired::Desired;
pub use crate::plan::change::{Action, Attrs, Change, Plan};
pub use crate::plan::step::Step;
