//! `traverse.FOLDER`: the right to pass through a folder above a share, as one search-only ACL
//! entry, never o+x.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::plan::Step;

pub(crate) fn plan_traverse(o: &Observed, b: &mut PlanBuilder) {
    if o.d.isolation == IsolationMode::None {
        return;
    }
    let mut needed: BTreeSet<PathBuf> = BTreeSet::new();
    // If it cannot be resolved, the share reports that.
    for real in o.real.shares.iter().flatten() {
        needed.extend(
            real.ancestors()
                .skip(1)
                .filter(|a| a.parent().is_some())
                .map(PathBuf::from),
        );
    }
    let (uid, user) = (o.ids.sandbox, o.d.sandbox.clone());
    let want = attrs([("search", user.clone())]);
    for folder in &needed {
        let address = Address::Traverse(folder.display().to_string());
        let seen = o
            .look
            .search_permission(folder, &user, uid, &[o.ids.shared, o.ids.sandbox_gid]);
        let Some(seen) = b.seen(&address, seen) else {
            continue;
        };
        // A folder that does not exist yet is made with 0755.
        let Some(search) = seen else { continue };
        if search.passes && !o.inventory.has_traverse(folder) {
            continue;
        }
        let mut r = Resource::new(
            address.clone(),
            Some(want.clone()),
            search.passes.then(|| want.clone()),
        )
        .steps([Step::GrantSearch {
            folder: folder.clone(),
            user: user.clone(),
            uid,
        }])
        .needs([Address::User(user.clone())]);
        let owner = o.look.read_entry(folder).ok().flatten().map(|n| n.uid);
        if !search.passes && owner != Some(o.ids.owner) {
            r = r.block(format!(
                "{} belongs to {}, so comfy does not open it: move the share, or let {user} pass \
                    by hand",
                folder.display(),
                owner.map_or("nobody".into(), |u| o.look.user_name(u))
            ));
        }
        b.add(r);
    }
    let gone: Vec<PathBuf> = o
        .inventory
        .traverse
        .iter()
        .filter(|f| !needed.contains(*f))
        .cloned()
        .collect();
    for folder in gone {
        let seen = o.look.search_permission(&folder, &user, uid, &[]);
        let address = Address::Traverse(folder.display().to_string());
        let Some(search) = b.seen(&address, seen) else {
            continue;
        };
        if search.is_some_and(|s| s.entry) {
            b.add(revoked(o, &folder));
        }
    }
}

/// Removes the entries that comfy made.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    for folder in &i.inventory.traverse {
        // What cannot be read may exist; the step itself looks again.
        let seen = i
            .look
            .search_permission(folder, &i.d.sandbox, i.ids.sandbox, &[]);
        if seen.map_or(true, |s| s.is_some_and(|s| s.entry)) {
            b.add(revoked(i, folder));
        }
    }
}

fn revoked(i: &Instance, folder: &Path) -> Resource {
    let step = Step::RevokeSearch {
        folder: folder.into(),
        user: i.d.sandbox.clone(),
        uid: i.ids.sandbox,
    };
    let have = attrs([("search", i.d.sandbox.clone())]);
    Resource::removed(Address::Traverse(folder.display().to_string()), have, step)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn a_folder_that_the_sandbox_cannot_pass_gets_one_entry_and_loses_it() {
        let share = "[shares.out]\npath = \"~/ai/out\"\nmount = \"output\"\naccess = \"write\"\n";
        let (host, d) = (MemoryHost::fresh(), desired(share, &Locked::default()));
        let grant = ["create traverse./home/alice: grant_search"];
        assert_eq!(host.differences(&d, "traverse"), grant);
        host.apply(&d);
        assert_eq!(host.differences(&d, "traverse"), [""; 0]);
        let revoke = ["delete traverse./home/alice: revoke_search"];
        let without = desired("", &Locked::default());
        assert_eq!(host.differences(&without, "traverse"), revoke);
        assert_eq!(host.removals(&d, "traverse"), revoke);
    }
}
