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

use crate::plan::build::Draft;

pub struct Kind {
    pub name: &'static str,
    pub plan: fn(&mut Draft),
}

/// In the order in which people read a plan.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "account",
        plan: account::plan,
    },
    Kind {
        name: "schedule",
        plan: cron::plan,
    },
    Kind {
        name: "dir",
        plan: dir::plan,
    },
    Kind {
        name: "share",
        plan: share::plan,
    },
    Kind {
        name: "traverse",
        plan: traverse::plan,
    },
    Kind {
        name: "link",
        plan: link::plan,
    },
    // Before `run`, whose note of everything is the last word.
    Kind {
        name: "network",
        plan: network::plan,
    },
    Kind {
        name: "launch",
        plan: launch::plan,
    },
    Kind {
        name: "service",
        plan: service::plan,
    },
    Kind {
        name: "code",
        plan: code::plan,
    },
    Kind {
        name: "model",
        plan: model::plan,
    },
];
