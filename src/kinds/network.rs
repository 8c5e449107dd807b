//! `network.egress`, `network.clients`: whom ComfyUI reaches and who reaches it. Both hold by how
//! it is launched; what is made on the machine is the backstop, for the sandbox's uid outside of a
//! launch.

use super::launch::desired_launch;
use crate::manifest::{ClientPolicy, EgressPolicy, IsolationMode};
use crate::plan::Step;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::observed::EgressFilter;

pub const EGRESS: &str = "network.egress";
const UNUSABLE: &str = "none: nft is not on this machine, or does not work";
pub const CLIENTS: &str = "network.clients";

pub fn plan_network(draft: &mut PlanBuilder) {
    if draft.d.isolation == IsolationMode::None {
        return;
    }
    let seen = draft.look.applied_launch(&draft.d.paths);
    let Some(have) = draft.unwrap_seen(EGRESS, seen) else {
        return;
    };
    let want = desired_launch(draft);
    // What it is launched with now, with the new network alone: the rest is `run`'s.
    let step = have
        .clone()
        .filter(|h| (&h.network, h.remote) != (&want.network, want.remote))
        .map(|mut h| {
            (h.network, h.remote) = (want.network.clone(), want.remote);
            Step::WriteLaunch { spec: Box::new(h) }
        });
    let needs = || ["run".to_string()].into_iter().filter(|_| have.is_none());

    let uid = draft.ids.sandbox;
    let mut r = PlannedResource::new(
        EGRESS,
        Some(attrs([("reaches", egress_text(&want.network.egress))])),
        None,
    );
    r.have = have
        .as_ref()
        .map(|h| attrs([("reaches", egress_text(&h.network.egress))]));
    r = r
        .with_steps(step.clone())
        .with_needs(needs())
        .with_reason(egress_warning(&want.network.egress));
    let fenced = want.network.egress != EgressPolicy::Allow;
    if !draft.d.platform.macos {
        let fence = draft.look.egress_filter(&draft.d.paths, uid);
        let Some(fence) = draft.unwrap_seen(EGRESS, fence) else {
            return;
        };
        let word = |there: bool| {
            if there {
                format!("uid {uid} sends nothing outside of a launch")
            } else {
                "none".into()
            }
        };
        let (wanted, is) = match fence {
            EgressFilter::Unusable => (UNUSABLE.to_string(), UNUSABLE.to_string()),
            there => (word(fenced), word(there == EgressFilter::There)),
        };
        let differs = wanted != is;
        r.want
            .iter_mut()
            .for_each(|a| drop(a.insert("nftables".into(), wanted.clone())));
        r.have
            .iter_mut()
            .for_each(|a| drop(a.insert("nftables".into(), is.clone())));
        if differs {
            let paths = draft.d.paths.clone();
            r = r.with_steps([if fenced {
                Step::SetFence {
                    uid,
                    record: paths.egress_filter_record(),
                }
            } else {
                Step::RemoveFence {
                    uid,
                    record: paths.egress_filter_record(),
                }
            }]);
            r = r.with_needs([
                format!("user.{}", draft.d.sandbox),
                "dir.records".to_string(),
            ]);
        }
        // A sandbox user that came back as somebody else.
        if let Some(old) = draft.inventory.fence.filter(|old| *old != uid) {
            r = r.with_steps([Step::RemoveFence {
                uid: old,
                record: draft.d.paths.egress_filter_record(),
            }]);
            r.have
                .iter_mut()
                .for_each(|a| drop(a.insert("nftables for".into(), format!("uid {old}"))));
        }
    }
    draft.add_resource(r);

    let mut r = PlannedResource::new(
        CLIENTS,
        Some(attrs([("admits", clients_text(&want.network.clients))])),
        None,
    );
    r.have = have
        .as_ref()
        .map(|h| attrs([("admits", clients_text(&h.network.clients))]));
    for (a, remote) in [
        (r.want.as_mut(), want.remote),
        (r.have.as_mut(), have.as_ref().is_some_and(|h| h.remote)),
    ] {
        if let Some(a) = a.filter(|_| remote) {
            a.insert(
                "other machines".into(),
                "may try (comfyui.allow_remote)".into(),
            );
        }
    }
    draft.add_resource(r.with_steps(step).with_needs(needs()));
}

fn egress_text(e: &EgressPolicy) -> String {
    match e {
        EgressPolicy::Deny => "nothing".into(),
        EgressPolicy::Allow => "the whole internet, through a proxy".into(),
        EgressPolicy::Only(list) => list.join(", "),
    }
}

/// What follows from a way out.
fn egress_warning(e: &EgressPolicy) -> Option<String> {
    match e {
        EgressPolicy::Deny => None,
        EgressPolicy::Allow => Some(
            "whatever ComfyUI can read can leave this machine, models and inputs \
            too"
            .into(),
        ),
        EgressPolicy::Only(list) if list.is_empty() => None,
        EgressPolicy::Only(_) => Some(
            "an allowed host is a way out for whatever ComfyUI can read: \
            anybody may have an account there"
                .into(),
        ),
    }
}

fn clients_text(c: &ClientPolicy) -> String {
    match c {
        ClientPolicy::Primary => "the primary user".into(),
        ClientPolicy::Any => "every user of this machine".into(),
        ClientPolicy::Only(list) => format!("the primary user, {}", list.join(", ")),
    }
}
