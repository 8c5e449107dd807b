//! `traverse.FOLDER`: the right to pass through a folder above a share, as one search-only ACL
//! entry, never o+x.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::manifest::IsolationMode;
use crate::plan::Step;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};

pub fn plan_traverse(draft: &mut PlanBuilder) {
    if draft.d.isolation == IsolationMode::None {
        return;
    }
    let mut needed: BTreeSet<PathBuf> = BTreeSet::new();
    for share in &draft.d.shares {
        // What cannot be resolved is the share's own unknown.
        let Ok(real) = draft.look.real_path(&share.path, draft.ids.owner) else {
            continue;
        };
        needed.extend(
            real.ancestors()
                .skip(1)
                .filter(|a| a.parent().is_some())
                .map(PathBuf::from),
        );
    }
    let (uid, user) = (draft.ids.sandbox, draft.d.sandbox.clone());
    let want = attrs([("search", user.clone())]);
    for folder in &needed {
        let address = format!("traverse.{}", folder.display());
        let seen = draft.look.search_permission(
            folder,
            &user,
            uid,
            &[draft.ids.shared, draft.ids.sandbox_gid],
        );
        let Some(seen) = draft.unwrap_seen(&address, seen) else {
            continue;
        };
        // A folder that is not there yet is made with 0755.
        let Some(search) = seen else { continue };
        if search.passes && !draft.inventory.has_traverse(folder) {
            continue;
        }
        let mut r = PlannedResource::new(
            &address,
            Some(want.clone()),
            search.passes.then(|| want.clone()),
        )
        .with_steps([Step::GrantSearch {
            folder: folder.clone(),
            user: user.clone(),
            uid,
        }])
        .with_needs([format!("user.{user}")]);
        let owner = draft.look.read_entry(folder).ok().flatten().map(|n| n.uid);
        if !search.passes && owner != Some(draft.ids.owner) {
            r = r.with_block(format!(
                "{} belongs to {}, so comfy does not open it: move the share, or let {user} pass \
                 with your own hands",
                folder.display(),
                owner.map_or("nobody".into(), |u| draft.look.user_name(u))
            ));
        }
        draft.add_resource(r);
    }
    let gone: Vec<PathBuf> = draft
        .inventory
        .traverse
        .iter()
        .filter(|f| !needed.contains(*f))
        .cloned()
        .collect();
    for folder in gone {
        let seen = draft.look.search_permission(&folder, &user, uid, &[]);
        let address = format!("traverse.{}", folder.display());
        let Some(search) = draft.unwrap_seen(&address, seen) else {
            continue;
        };
        if search.is_some_and(|s| s.entry) {
            let r = PlannedResource::new(
                format!("traverse.{}", folder.display()),
                None,
                Some(want.clone()),
            )
            .with_steps([Step::RevokeSearch {
                folder,
                user: user.clone(),
                uid,
            }]);
            draft.add_resource(r);
        }
    }
}
