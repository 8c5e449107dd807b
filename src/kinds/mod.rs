//! One file a resource kind, one line in [`KINDS`]. A kind looks, compares, and names steps; it
//! never acts.

pub mod account;
pub mod code;
pub mod cron;
pub mod dir;
pub mod launch;
pub mod link;
pub mod model;
pub mod network;
pub mod service;
pub mod share;
pub mod traverse;

use crate::plan::build::PlanBuilder;

pub struct ResourceKind {
    pub name: &'static str,
    pub plan: fn(&mut PlanBuilder),
}

/// In the order in which people read a plan.
pub const KINDS: &[ResourceKind] = &[
    ResourceKind {
        name: "account",
        plan: account::plan_accounts,
    },
    ResourceKind {
        name: "schedule",
        plan: cron::plan_cron,
    },
    ResourceKind {
        name: "dir",
        plan: dir::plan_dirs,
    },
    ResourceKind {
        name: "share",
        plan: share::plan_shares,
    },
    ResourceKind {
        name: "traverse",
        plan: traverse::plan_traverse,
    },
    ResourceKind {
        name: "link",
        plan: link::plan_links,
    },
    // Before `run`, whose note of everything is the last word.
    ResourceKind {
        name: "network",
        plan: network::plan_network,
    },
    ResourceKind {
        name: "launch",
        plan: launch::plan_launch,
    },
    ResourceKind {
        name: "service",
        plan: service::plan_service,
    },
    ResourceKind {
        name: "code",
        plan: code::plan_code,
    },
    ResourceKind {
        name: "model",
        plan: model::plan_models,
    },
];
