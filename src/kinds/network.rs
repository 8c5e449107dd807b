//! `network.egress`, `network.clients`: whom ComfyUI reaches and who reaches it. Both hold by how
//! it is launched; what is made on the machine is the backstop, for the sandbox's uid outside of a
//! launch.

use super::launch::wish;
use crate::manifest::{Clients, Egress, Isolation};
use crate::plan::Step;
use crate::plan::build::{Draft, Resource, attrs};
use crate::plan::observed::Fence;

pub const EGRESS: &str = "network.egress";
const UNUSABLE: &str = "none: nft is not on this machine, or does not work";
pub const CLIENTS: &str = "network.clients";

pub fn plan(draft: &mut Draft) {
    if draft.d.isolation == Isolation::None {
        return;
    }
    let seen = draft.look.launch(&draft.d.paths);
    let Some(have) = draft.seen(EGRESS, seen) else {
        return;
    };
    let want = wish(draft);
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
    let mut r = Resource::new(
        EGRESS,
        Some(attrs([("reaches", reaches(&want.network.egress))])),
        None,
    );
    r.have = have
        .as_ref()
        .map(|h| attrs([("reaches", reaches(&h.network.egress))]));
    r = r
        .steps(step.clone())
        .needs(needs())
        .reason(channel(&want.network.egress));
    let fenced = want.network.egress != Egress::Allow;
    if !draft.d.platform.macos {
        let fence = draft.look.fence(&draft.d.paths, uid);
        let Some(fence) = draft.seen(EGRESS, fence) else {
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
            Fence::Unusable => (UNUSABLE.to_string(), UNUSABLE.to_string()),
            there => (word(fenced), word(there == Fence::There)),
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
            r = r.steps([if fenced {
                Step::SetFence {
                    uid,
                    record: paths.fence(),
                }
            } else {
                Step::RemoveFence {
                    uid,
                    record: paths.fence(),
                }
            }]);
            r = r.needs([
                format!("user.{}", draft.d.sandbox),
                "dir.records".to_string(),
            ]);
        }
        // A sandbox user that came back as somebody else.
        if let Some(old) = draft.inventory.fence.filter(|old| *old != uid) {
            r = r.steps([Step::RemoveFence {
                uid: old,
                record: draft.d.paths.fence(),
            }]);
            r.have
                .iter_mut()
                .for_each(|a| drop(a.insert("nftables for".into(), format!("uid {old}"))));
        }
    }
    draft.add(r);

    let mut r = Resource::new(
        CLIENTS,
        Some(attrs([("admits", admits(&want.network.clients))])),
        None,
    );
    r.have = have
        .as_ref()
        .map(|h| attrs([("admits", admits(&h.network.clients))]));
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
    draft.add(r.steps(step).needs(needs()));
}

fn reaches(e: &Egress) -> String {
    match e {
        Egress::Deny => "nothing".into(),
        Egress::Allow => "the whole internet, through a proxy".into(),
        Egress::Only(list) => list.join(", "),
    }
}

/// What follows from a way out.
fn channel(e: &Egress) -> Option<String> {
    match e {
        Egress::Deny => None,
        Egress::Allow => Some(
            "whatever ComfyUI can read can leave this machine, models and inputs \
            too"
            .into(),
        ),
        Egress::Only(list) if list.is_empty() => None,
        Egress::Only(_) => Some(
            "an allowed host is a way out for whatever ComfyUI can read: \
            anybody may have an account there"
                .into(),
        ),
    }
}

fn admits(c: &Clients) -> String {
    match c {
        Clients::Primary => "the primary user".into(),
        Clients::Any => "every user of this machine".into(),
        Clients::Only(list) => format!("the primary user, {}", list.join(", ")),
    }
}
