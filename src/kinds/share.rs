//! `share.NAME`: a folder that both accounts use. A whole tree is one resource, which says how many
//! entries are off.

use crate::desired::{Desired, ShareWish};
use crate::manifest::{IsolationMode, ShareRole};
use crate::plan::Step;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{FileType, Seen, ShareSpec, ShareState};
use rayon::prelude::*;

/// What was seen of each share.
pub type Looked = Vec<(ShareWish, Seen<(ShareSpec, Option<ShareState>)>)>;

/// Walks all shares at once: it is what takes time.
pub fn observe_shares(d: &Desired, look: &dyn Look, ids: AccountIds) -> Looked {
    d.shares
        .par_iter()
        .map(|wish| {
            let mut spec = share_spec(d, ids, wish);
            let seen = look.real_path(&wish.path, spec.owner).and_then(|real| {
                spec.path = real;
                look.check_share(&spec, d.has_models(&wish.name))
                    .map(|s| (spec, s))
            });
            (wish.clone(), seen)
        })
        .collect()
}

pub fn plan_shares(draft: &mut PlanBuilder) {
    for (wish, seen) in std::mem::take(&mut draft.shares) {
        plan_share(draft, &wish, seen);
    }
    prune_shares(draft);
}

/// The share as data that can be checked and mended.
pub fn share_spec(d: &Desired, ids: AccountIds, wish: &ShareWish) -> ShareSpec {
    ShareSpec {
        name: wish.name.clone(),
        path: wish.path.clone(),
        access: wish.access,
        requires_mount: wish.requires_mount.clone(),
        owner: ids.owner,
        owner_gid: ids.owner_gid,
        sandbox: ids.sandbox,
        gid: ids.shared,
        setgid: !d.platform.macos,
        modes: d.isolation == IsolationMode::Account,
        manage: wish.manage,
    }
}

fn plan_share(
    draft: &mut PlanBuilder,
    wish: &ShareWish,
    seen: Seen<(ShareSpec, Option<ShareState>)>,
) {
    let address = format!("share.{}", wish.name);
    let Some((spec, seen)) = draft.unwrap_seen(&address, seen) else {
        return;
    };
    let home = draft.look.real_path(&draft.d.owner.home, spec.owner);
    let Some(home) = draft.unwrap_seen(&address, home) else {
        return;
    };
    if spec.path != wish.path
        && let Some(met) = draft.d.runs_into(&wish.name, &home, &spec.path)
    {
        let why = format!(
            "{} leads to {}, which overlaps {met}: lead it elsewhere",
            wish.path.display(),
            spec.path.display()
        );
        draft.add_resource(
            PlannedResource::new(
                address,
                Some(attrs([("path", wish.path.display().to_string())])),
                None,
            )
            .with_block(why),
        );
        return;
    }
    if spec.modes {
        let exposed = draft.look.why_exposed(&spec.path, spec.owner);
        let Some(exposed) = draft.unwrap_seen(&address, exposed) else {
            return;
        };
        if let Some(why) = exposed {
            draft.add_resource(
                PlannedResource::new(
                    address,
                    Some(attrs([("path", spec.path.display().to_string())])),
                    None,
                )
                .with_block(why),
            );
            return;
        }
    }
    if let Some(s) = &seen
        && let Some(why) = foreign_owner(draft, &spec, s).filter(|_| wish.manage)
    {
        draft.add_resource(
            PlannedResource::new(
                address,
                Some(attrs([("path", spec.path.display().to_string())])),
                None,
            )
            .with_block(why),
        );
        return;
    }
    let (mut seen, owner, group) = (seen, draft.d.owner.name.clone(), draft.d.group.clone());
    if draft.d.has_models(&wish.name) {
        let files = seen
            .as_mut()
            .map(|s| std::mem::take(&mut s.files))
            .unwrap_or_default();
        draft
            .models
            .insert(wish.name.clone(), (spec.clone(), files));
    }
    if let ShareRole::Models(kinds) = &wish.role {
        // ComfyUI passes over a folder that is not there, without a word.
        for folder in kinds.values().flatten().filter(|f| *f != ".") {
            let node = draft.look.read_entry(&spec.path.join(folder));
            if seen.is_some()
                && !matches!(&node, Ok(Some(n)) if n.kind == FileType::Dir)
                && node.is_ok()
            {
                draft.warnings.push(format!(
                    "share {}: {folder} is no folder there, so ComfyUI finds no models in it",
                    wish.name
                ));
            }
        }
    }
    let mut want = attrs([("path", spec.path.display().to_string())]);
    if spec.modes {
        want.extend(attrs([
            ("access", format!("{:?}", wish.access).to_lowercase()),
            ("owner", owner),
            ("group", group),
            ("mode", format!("{:04o}", spec.root_mode())),
            ("entries", "as they should be".into()),
        ]));
    }
    let mut steps = Vec::new();
    let mut have = None;
    match &seen {
        None => {
            steps.push(Step::MakeShare {
                spec: Box::new(spec.clone()),
                created: true,
                was_gid: spec.owner_gid,
                was_mode: 0o755,
            });
        }
        Some(s) => {
            draft.warnings.extend(
                s.warnings
                    .iter()
                    .map(|w| format!("share {}: {w}", wish.name)),
            );
            let mut is = want.clone();
            if spec.modes {
                let group = if s.gid == spec.gid {
                    draft.d.group.clone()
                } else {
                    draft.look.group_name(s.gid)
                };
                let owner = if s.uid == spec.owner {
                    draft.d.owner.name.clone()
                } else {
                    draft.look.user_name(s.uid)
                };
                is.extend(attrs([
                    ("owner", owner),
                    ("group", group),
                    ("mode", format!("{:04o}", s.mode)),
                ]));
                if s.uid != spec.owner || s.gid != spec.gid || s.mode != spec.root_mode() {
                    steps.push(Step::MakeShare {
                        spec: Box::new(spec.clone()),
                        created: false,
                        was_gid: s.gid,
                        was_mode: s.mode,
                    });
                    // Without a rename of accounts the names may be equal where the ids are not.
                    if is == want {
                        is.insert("group".into(), s.gid.to_string());
                    }
                }
                if !s.off.is_empty() {
                    let off: Vec<String> = s
                        .off
                        .iter()
                        .map(|(what, n)| count_phrase(*n, what))
                        .collect();
                    is.insert("entries".into(), off.join("; "));
                    steps.push(Step::MendShare {
                        spec: Box::new(spec.clone()),
                    });
                }
            }
            have = Some(is);
        }
    }
    let examples = seen.map(|s| s.examples).unwrap_or_default();
    if !wish.manage {
        if have.as_ref() != Some(&want) {
            let what = have.map_or("is not there".to_string(), |h| describe_drift(&want, &h));
            draft.warnings.push(format!(
                "share {}: {what}; `manage = false`, so comfy leaves it alone",
                wish.name
            ));
        }
        draft.add_resource(PlannedResource::new(
            address,
            Some(want.clone()),
            Some(want),
        ));
        return;
    }
    let needs = if spec.modes {
        vec![
            format!("group.{}", draft.d.group),
            format!("user.{}", draft.d.sandbox),
            format!("member.{}", draft.d.sandbox),
            format!("member.{}", draft.d.owner.name),
        ]
    } else {
        Vec::new()
    };
    let reason = (!examples.is_empty()).then(|| format!("for example {}", examples.join(", ")));
    draft.add_resource(
        PlannedResource::new(address, Some(want), have)
            .with_steps(steps)
            .with_needs(needs)
            .with_reason(reason),
    );
}

/// Why a folder is not the owner's to share. One of root's is taken where it is empty: what root
/// keeps in it, programs say, is for root alone to give away.
fn foreign_owner(draft: &PlanBuilder, spec: &ShareSpec, s: &ShareState) -> Option<String> {
    if !spec.modes || s.uid == spec.owner || (s.uid == 0 && s.entries == 0) {
        return None;
    }
    let (path, owner) = (spec.path.display(), &draft.d.owner.name);
    let holds = format!(
        "belongs to {} and holds {}",
        draft.look.user_name(s.uid),
        crate::text::count_of(s.entries, "entry")
    );
    Some(format!(
        "{path} {holds}: comfy does not take it over; look at it, and if it is yours: sudo chown \
         {owner} '{path}'"
    ))
}

/// `37 files have group staff` from `files have group staff`; one takes the singular.
fn count_phrase(n: usize, what: &str) -> String {
    if n != 1 {
        return format!("{n} {what}");
    }
    let one = what
        .replacen("files have", "file has", 1)
        .replacen("folders have", "folder has", 1)
        .replacen("files lack", "file lacks", 1)
        .replacen("folders lack", "folder lacks", 1);
    let one = one.replacen(
        "files of the sandbox user are",
        "file of the sandbox user is",
        1,
    );
    format!(
        "1 {}",
        one.replacen("files let", "file lets", 1)
            .replacen("folders let", "folder lets", 1)
    )
}

fn describe_drift(want: &crate::plan::Attrs, have: &crate::plan::Attrs) -> String {
    want.iter()
        .filter_map(|(k, w)| {
            have.get(k)
                .filter(|h| *h != w)
                .map(|h| format!("{k} is {h}, not {w}"))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A share that left the manifest, or moved, keeps its content and loses only what comfy put on it.
fn prune_shares(draft: &mut PlanBuilder) {
    let real = |w: &ShareWish| draft.look.real_path(&w.path, draft.ids.owner).ok();
    let now: Vec<_> = draft.d.shares.iter().map(real).collect();
    // While one path cannot be told, none is known to be abandoned.
    if now.iter().any(Option::is_none) {
        return;
    }
    let names: Vec<&str> = draft.d.shares.iter().map(|s| s.name.as_str()).collect();
    let gone: Vec<_> = draft
        .inventory
        .shares
        .iter()
        .filter(|(p, _)| !now.contains(&Some((*p).clone())))
        .map(|(p, s)| (p.clone(), s.clone()))
        .collect();
    for (path, s) in gone {
        let address = if names.contains(&s.name.as_str()) {
            format!("share.{}.{}", s.name, path.display())
        } else {
            format!("share.{}", s.name)
        };
        let r = PlannedResource::new(
            address,
            None,
            Some(attrs([("path", path.display().to_string())])),
        )
        .with_steps([plan_release(draft.ids, &path, &s)]);
        draft.add_resource(r.with_reason(Some(
            "its files stay; only the group that comfy set is taken off".into(),
        )));
    }
}

pub fn plan_release(
    ids: crate::plan::ids::AccountIds,
    path: &std::path::Path,
    s: &crate::plan::inventory::SharedFolder,
) -> Step {
    Step::ReleaseShare {
        name: s.name.clone(),
        path: path.into(),
        requires_mount: s.requires_mount.clone(),
        owner: ids.owner,
        from_gid: s.group,
        to_gid: s.gid,
        mode: s.mode,
    }
}
