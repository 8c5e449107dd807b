//! PURE: desired and observed state in, a plan out. Nothing here touches the machine; reading it is
//! behind [`look::Look`].

pub(crate) mod account_adoption;
pub(crate) mod change;
pub(crate) mod execute;
pub(crate) mod ids;
pub(crate) mod inventory;
pub(crate) mod look;
pub(crate) mod model_summary;
pub(crate) mod observed;
pub(crate) mod phase;
pub(crate) mod removal;
pub(crate) mod select;
pub(crate) mod share_rules;
pub(crate) mod step;

pub(crate) use super::desired::Desired;
pub(crate) use crate::plan::change::{Action, Attrs, Change, Plan};
pub(crate) use crate::plan::step::Step;
