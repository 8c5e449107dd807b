//! Plans that do not come from comparing: `gc`, `destroy`, and going back to a generation.

use super::build::attrs;
use super::change::{Action, Change, Plan};
use super::ids::AccountIds;
use super::look::Look;
use super::observed::FileType;
use super::step::{PlannedStep, Step};
use crate::desired::Desired;
use crate::desired::system_files::FileKind;
use crate::manifest::IsolationMode;
use crate::problem::{Problem, Result};

/// What lies on the disk, by name.
pub struct OnDisk {
    pub generations: Vec<String>,
    pub venvs: Vec<String>,
    pub pythons: Vec<String>,
}

/// Removes generations beyond the live one, the one that is `running` and the `keep` that were live
/// last, and environments and interpreters that none needs.
///
/// # Errors
/// Ids or inventory that cannot be read.
pub fn plan_gc(
    d: &Desired,
    look: &dyn Look,
    keep: usize,
    present: &OnDisk,
    running: Option<&str>,
) -> Result<Plan> {
    let inventory = look.read_inventory(&d.paths).map_err(Problem::from)?;
    let current = look
        .read_entry(&d.paths.current_link())
        .map_err(Problem::from)?;
    let live = current.and_then(|n| n.target).map(|t| {
        t.display()
            .to_string()
            .trim_start_matches("gen/")
            .to_string()
    });
    let mut recent: Vec<&String> = inventory
        .live
        .iter()
        .rev()
        .filter(|id| Some(*id) != live.as_ref() && present.generations.contains(id))
        .collect();
    recent.truncate(keep);
    let stays = |id: &String| {
        Some(id) == live.as_ref() || Some(id.as_str()) == running || recent.contains(&id)
    };
    let mut plan = empty_plan(d, look)?;
    for id in present.generations.iter().filter(|id| !stays(id)) {
        add_removal(
            &mut plan,
            format!("generation.{id}"),
            attrs([("path", d.paths.generation_dir(id).display().to_string())]),
            Step::RemoveGeneration { id: id.clone() },
        );
    }
    let mut needed = Vec::new();
    for id in present.generations.iter().filter(|id| stays(id)) {
        let spec = look.generation_spec(&d.paths, id).map_err(Problem::from)?;
        needed.extend(spec.and_then(|s| s.venv));
    }
    let venvs: Vec<String> = needed.iter().map(|v| v.id()).collect();
    let pythons: Vec<&std::path::Path> = needed
        .iter()
        .map(|v| v.interpreter.path.as_path())
        .collect();
    for id in present.venvs.iter().filter(|id| !venvs.contains(id)) {
        add_removal(
            &mut plan,
            format!("venv.{id}"),
            attrs([("path", d.paths.venv_dir(id).display().to_string())]),
            Step::RemoveVenv { id: id.clone() },
        );
    }
    for version in present.pythons.iter().filter(|v| {
        !pythons
            .iter()
            .any(|p| p.starts_with(d.paths.interpreter_dir(v)))
    }) {
        let at = attrs([(
            "path",
            d.paths.interpreter_dir(version).display().to_string(),
        )]);
        add_removal(
            &mut plan,
            format!("interpreter.{version}"),
            at,
            Step::RemovePython {
                version: version.clone(),
            },
        );
    }
    plan.steps.sort_by_key(|p| p.step.rank());
    Ok(plan)
}

/// Makes generation `to` live again, which is there and was live before.
///
/// # Errors
/// It is not there, or not what its name says.
pub fn plan_rollback(d: &Desired, look: &dyn Look, to: &str) -> Result<Plan> {
    let unread = |u: super::observed::UnknownState| Problem::from(u);
    let target = |id: &str| attrs([("generation", id.to_string())]);
    look.generation_spec(&d.paths, to)
        .map_err(unread)?
        .ok_or_else(|| Problem::new(format!("generation {to} is not on this machine")))?;
    let live = look
        .read_entry(&d.paths.current_link())
        .map_err(unread)?
        .and_then(|n| n.target);
    let inventory = look.read_inventory(&d.paths).map_err(unread)?;
    let mut plan = empty_plan(d, look)?;
    // All of the code, so that what differs from comfy.lock afterwards is no drift.
    for address in inventory
        .applied
        .into_keys()
        .filter(|a| a == "comfyui" || a == "python" || a.starts_with("node."))
    {
        plan.changes.push(Change {
            address,
            action: Action::Update,
            before: live
                .as_ref()
                .map(|t| target(t.display().to_string().trim_start_matches("gen/"))),
            after: Some(target(to)),
            drift: false,
            reason: Some("what is live now could not be loaded".into()),
            root_can: false,
            findings: Vec::new(),
            needs: Vec::new(),
        });
    }
    plan.steps.push(PlannedStep {
        address: "comfyui".into(),
        step: Step::Switch { id: to.into() },
    });
    Ok(plan)
}

/// Removes what comfy made. Adopted accounts stay, shares keep their content.
///
/// # Errors
/// Ids or inventory that cannot be read.
pub fn plan_destroy(d: &Desired, look: &dyn Look, purge: bool, now: &str) -> Result<Plan> {
    let inventory = look.read_inventory(&d.paths).map_err(Problem::from)?;
    let mut plan = empty_plan(d, look)?;
    let account = d.isolation == IsolationMode::Account;
    let ids = plan.ids;
    for (path, target) in &inventory.links {
        // What cannot be read may be there; the step itself looks again.
        let still = look.read_entry(path).map_or(true, |n| {
            n.is_some_and(|n| n.target.as_ref() == Some(target))
        });
        if still {
            add_removal(
                &mut plan,
                format!("link.{}", path.display()),
                attrs([("target", target.display().to_string())]),
                Step::RemoveLink {
                    path: path.clone(),
                    target: target.clone(),
                },
            );
        }
    }
    for (path, s) in inventory.shares.iter().filter(|_| account) {
        add_removal(
            &mut plan,
            format!("share.{}", s.name),
            attrs([
                ("path", path.display().to_string()),
                ("content", "stays".into()),
            ]),
            crate::kinds::share::plan_release(ids, path, s),
        );
    }
    for folder in &inventory.traverse {
        if look
            .search_permission(folder, &d.sandbox, plan.ids.sandbox, &[])
            .map_or(true, |s| s.is_some_and(|s| s.entry))
        {
            let step = Step::RevokeSearch {
                folder: folder.clone(),
                user: d.sandbox.clone(),
                uid: plan.ids.sandbox,
            };
            add_removal(
                &mut plan,
                format!("traverse.{}", folder.display()),
                attrs([("search", d.sandbox.clone())]),
                step,
            );
        }
    }
    if let Some(uid) = inventory.fence {
        let step = Step::RemoveFence {
            uid,
            record: d.paths.egress_filter_record(),
        };
        add_removal(
            &mut plan,
            crate::kinds::network::EGRESS.into(),
            attrs([("nftables", format!("uid {uid}"))]),
            step,
        );
    }
    for file in &inventory.denied {
        let step = Step::Permit {
            file: file.clone(),
            user: d.sandbox.clone(),
        };
        add_removal(
            &mut plan,
            format!("cron.{}", d.sandbox),
            attrs([("denied by", file.display().to_string())]),
            step,
        );
    }
    for path in inventory.system.keys() {
        let kind = [FileKind::Sudoers, FileKind::Unit, FileKind::Daemon]
            .into_iter()
            .find(|k| k.path_for(&d.sandbox, d.platform.macos) == *path);
        if let Some(kind) = kind {
            add_removal(
                &mut plan,
                format!("service.{}", path.display()),
                attrs([("file", path.display().to_string())]),
                Step::RemoveSystemFile {
                    kind,
                    path: path.clone(),
                },
            );
        }
    }
    if look
        .read_entry(&d.paths.base)
        .ok()
        .flatten()
        .is_some_and(|n| n.kind == FileType::Dir)
        || look.read_entry(&d.paths.records).ok().flatten().is_some()
    {
        let backup = (!purge).then(|| d.paths.prefix.join(format!("{}.backup-{now}", d.sandbox)));
        let mut a = attrs([("path", d.paths.base.display().to_string())]);
        if let Some(b) = &backup {
            a.insert(
                "state/user, state/nodes and quarantine go to".into(),
                b.display().to_string(),
            );
        }
        // The home of an adopted account is not comfy's.
        let home = d
            .paths
            .home
            .clone()
            .filter(|_| inventory.users.contains_key(&d.sandbox));
        if let Some(h) = &home {
            a.insert("home".into(), h.display().to_string());
        }
        add_removal(
            &mut plan,
            "dir.instance".into(),
            a,
            Step::RemoveInstance { backup, home },
        );
    }
    for (name, uid) in &inventory.users {
        if matches!(look.find_user(name), Ok(Some(u)) if u.uid == *uid) {
            add_removal(
                &mut plan,
                format!("user.{name}"),
                attrs([("uid", uid.to_string())]),
                Step::DeleteUser {
                    name: name.clone(),
                    uid: *uid,
                },
            );
        }
    }
    for key in &inventory.members {
        if let Some((user, group)) = key.split_once(':') {
            let stays =
                !inventory.groups.contains_key(group) && !inventory.users.contains_key(user);
            if stays && look.is_member(user, group).unwrap_or(false) {
                let step = Step::RemoveMember {
                    user: user.into(),
                    group: group.into(),
                };
                add_removal(
                    &mut plan,
                    format!("member.{user}"),
                    attrs([("group", group.to_string())]),
                    step,
                );
            }
        }
    }
    for (name, gid) in &inventory.groups {
        if matches!(look.find_group(name), Ok(Some(g)) if g.gid == *gid) {
            add_removal(
                &mut plan,
                format!("group.{name}"),
                attrs([("gid", gid.to_string())]),
                Step::DeleteGroup {
                    name: name.clone(),
                    gid: *gid,
                },
            );
        }
    }
    plan.steps.sort_by_key(|p| p.step.rank());
    Ok(plan)
}

fn empty_plan(d: &Desired, look: &dyn Look) -> Result<Plan> {
    Ok(Plan {
        format_version: 1,
        host: d.host.clone(),
        instance: d.sandbox.clone(),
        manifest: d.manifest_digest.clone(),
        lock: d.lock_digest.clone(),
        ids: AccountIds::choose_ids(d, look)?,
        ..Plan::default()
    })
}

fn add_removal(plan: &mut Plan, address: String, before: super::Attrs, step: Step) {
    plan.steps.push(PlannedStep {
        address: address.clone(),
        step,
    });
    plan.changes.push(Change {
        address,
        action: Action::Delete,
        before: Some(before),
        after: None,
        drift: false,
        reason: None,
        root_can: false,
        findings: Vec::new(),
        needs: Vec::new(),
    });
}
