//! `network.egress`, `network.clients`: which hosts ComfyUI reaches and who reaches ComfyUI. The
//! launch enforces both; the filter on the machine is the backstop, for the sandbox's uid outside a
//! launch.

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::desired::launch::LaunchSpec;
use crate::ids::Address;
use crate::manifest::{ClientPolicy, EgressPolicy, IsolationMode};
use crate::plan::Step;
use crate::plan::observed::EgressFilter;

fn egress_address() -> Address {
    Address::Network("egress".into())
}

const UNUSABLE: &str = "none: nft is not installed on this machine, or does not work";

pub(crate) fn plan_network(o: &Observed, b: &mut PlanBuilder) {
    if o.d.isolation == IsolationMode::None {
        return;
    }
    let Some(have) = b.observed(&egress_address(), &o.launch.have) else {
        return;
    };
    let have = have.as_ref();
    let want = &o.launch.want;
    // The current launch with only the network replaced: the rest belongs to `run`.
    let step = have
        .filter(|h| (&h.network, h.allow_remote) != (&want.network, want.allow_remote))
        .map(|h| Step::WriteLaunch {
            spec: Box::new(LaunchSpec {
                network: want.network.clone(),
                allow_remote: want.allow_remote,
                ..h.clone()
            }),
        });
    let needs = have.is_none().then_some(Address::Run);
    let mut r = egress(have, want).steps(step.clone()).needs(needs.clone());
    // The backstop.
    if !o.d.platform.os.is_macos() {
        let seen = o.look.egress_filter(&o.d.paths, o.ids.sandbox);
        let Some(is) = b.seen(&egress_address(), seen) else {
            return;
        };
        r = filtered(o, r, is, want.network.egress != EgressPolicy::Allow);
    }
    b.add(r);
    b.add(clients(have, want).steps(step).needs(needs));
}

/// Adds `network.egress`: which hosts ComfyUI reaches.
fn egress(have: Option<&LaunchSpec>, want: &LaunchSpec) -> Resource {
    let describe = |l: &LaunchSpec| attrs([("reaches", egress_text(&l.network.egress))]);
    Resource::new(egress_address(), Some(describe(want)), have.map(describe))
        .reason(egress_warning(&want.network.egress))
}

/// Adds the egress filter to `r`: what it is, what it should be, and the steps between.
fn filtered(o: &Observed, mut r: Resource, is: EgressFilter, filter: bool) -> Resource {
    let (uid, record) = (o.ids.sandbox, o.d.paths.egress_filter_record());
    let word = |there: bool| {
        if there {
            format!("uid {uid} sends nothing outside a launch")
        } else {
            "none".into()
        }
    };
    let (wanted, is) = match is {
        EgressFilter::Unusable => (UNUSABLE.to_string(), UNUSABLE.to_string()),
        there => (word(filter), word(there == EgressFilter::There)),
    };
    let differs = wanted != is;
    for (attributes, what) in [(&mut r.want, wanted), (&mut r.have, is)] {
        if let Some(a) = attributes {
            a.insert("nftables".into(), what);
        }
    }
    if differs {
        let record = record.clone();
        r = r.steps([if filter {
            Step::InstallEgressFilter { uid, record }
        } else {
            Step::RemoveEgressFilter { uid, record }
        }]);
        r = r.needs([
            Address::User(o.d.sandbox.clone()),
            Address::Dir("records".into()),
        ]);
    }
    // The sandbox user was recreated with another uid.
    if let Some(old) = o.inventory.egress_filter.filter(|old| *old != uid) {
        r = r.steps([Step::RemoveEgressFilter { uid: old, record }]);
        if let Some(a) = r.have.as_mut() {
            a.insert("nftables for".into(), format!("uid {old}"));
        }
    }
    r
}

/// Adds `network.clients`: who reaches ComfyUI.
fn clients(have: Option<&LaunchSpec>, want: &LaunchSpec) -> Resource {
    let describe = |l: &LaunchSpec| {
        let mut a = attrs([("admits", clients_text(&l.network.clients))]);
        if l.allow_remote {
            a.insert(
                "other machines".into(),
                "may try (comfyui.allow_remote)".into(),
            );
        }
        a
    };
    let address = Address::Network("clients".into());
    Resource::new(address, Some(describe(want)), have.map(describe))
}

/// Removes the egress filter, also one that the inventory does not mention: an older comfy loaded
/// it at a launch.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    let uid = i.ids.sandbox;
    let seen = || i.look.egress_filter(&i.d.paths, uid);
    let loaded = i.inventory.egress_filter;
    if let Some(uid) = loaded.or_else(|| (seen() == Ok(EgressFilter::There)).then_some(uid)) {
        let record = i.d.paths.egress_filter_record();
        let have = attrs([("nftables", format!("uid {uid}"))]);
        let step = Step::RemoveEgressFilter { uid, record };
        b.add(Resource::removed(egress_address(), have, step));
    }
}

fn egress_text(e: &EgressPolicy) -> String {
    match e {
        EgressPolicy::Deny => "nothing".into(),
        EgressPolicy::Allow => "the whole internet, through a proxy".into(),
        EgressPolicy::Only(list) => list.join(", "),
    }
}

/// Returns the warning that an egress policy deserves.
fn egress_warning(e: &EgressPolicy) -> Option<String> {
    match e {
        EgressPolicy::Deny => None,
        EgressPolicy::Allow => Some(
            "ComfyUI can send anything it can read to the internet, models and inputs too".into(),
        ),
        EgressPolicy::Only(list) if list.is_empty() => None,
        EgressPolicy::Only(_) => Some(
            "ComfyUI can send anything it can read to an allowed host: \
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn the_backstop_follows_the_manifest() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        assert_eq!(
            host.differences(&d, "network"),
            [
                "create network.egress: set_fence",
                "create network.clients: "
            ]
        );
        host.apply(&d);
        assert_eq!(host.differences(&d, "network"), [""; 0]);
        let open = desired("[network]\negress = \"allow\"\n", &Locked::default());
        assert_eq!(
            host.differences(&open, "network"),
            ["update network.egress: remove_fence, write_launch"]
        );
        assert_eq!(
            host.removals(&d, "network"),
            ["delete network.egress: remove_fence"]
        );
    }
}
