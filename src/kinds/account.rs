//! `group.NAME`, `user.NAME`, `member.NAME`: the two accounts, the group they share, and who is in
//! it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::manifest::IsolationMode;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::{Step, account_adoption};

/// What the sandbox user's shell must be one of; created ones get the first.
pub const NO_LOGIN: &[&str] = &[
    "/usr/sbin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/bin/false",
];

pub fn plan_accounts(draft: &mut PlanBuilder) {
    if draft.d.isolation == IsolationMode::None {
        return;
    }
    let (sandbox, group, ids) = (draft.d.sandbox.clone(), draft.d.group.clone(), draft.ids);
    group_resource(draft, &group, ids.shared);
    group_resource(draft, &sandbox, ids.sandbox_gid);
    plan_user(draft, &sandbox, &group);
    let owner = draft.d.owner.name.clone();
    for member in [owner, sandbox.clone()] {
        plan_membership(draft, &member, &group);
    }
    for name in gpu_groups(draft) {
        plan_gpu_membership(draft, &sandbox, &name);
    }
    warn_unexpected_members(draft, &group);
    prune_accounts(draft);
}

fn group_resource(draft: &mut PlanBuilder, name: &str, gid: u32) {
    let address = format!("group.{name}");
    let seen = draft.look.find_group(name);
    let Some(seen) = draft.unwrap_seen(&address, seen) else {
        return;
    };
    let have = seen.map(|g| attrs([("gid", g.gid.to_string())]));
    let adopted = have.is_some() && !draft.inventory.groups.contains_key(name);
    let r = PlannedResource::new(address, Some(attrs([("gid", gid.to_string())])), have)
        .with_steps([Step::CreateGroup {
            name: name.into(),
            gid,
        }])
        .with_reason(
            adopted.then(|| "adopted: it was there before comfy and stays after it".into()),
        );
    draft.add_resource(r);
}

fn plan_user(draft: &mut PlanBuilder, name: &str, group: &str) {
    let address = format!("user.{name}");
    let seen = draft.look.find_user(name);
    let Some(seen) = draft.unwrap_seen(&address, seen) else {
        return;
    };
    let home = draft.d.paths.home.clone().unwrap_or_default();
    let ids = draft.ids;
    let wanted_shell = "no login";
    let shell = |s: &str| {
        if NO_LOGIN.contains(&s) {
            wanted_shell.to_string()
        } else {
            s.to_string()
        }
    };
    let want = attrs([
        ("uid", ids.sandbox.to_string()),
        ("gid", ids.sandbox_gid.to_string()),
        ("home", home.display().to_string()),
        ("shell", wanted_shell.into()),
    ]);
    let have = seen.as_ref().map(|u| {
        attrs([
            ("uid", u.uid.to_string()),
            ("gid", u.gid.to_string()),
            ("home", u.home.display().to_string()),
            ("shell", shell(&u.shell)),
        ])
    });
    let adopted = have.is_some() && !draft.inventory.users.contains_key(name);
    let word = seen.as_ref().is_some_and(|u| {
        draft.d.adopt
            && !matches!(
                account_adoption::why_somebodys(draft.d, draft.look, u),
                Ok(None)
            )
    });
    let step = match seen {
        None => Step::CreateUser {
            name: name.into(),
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            home,
        },
        Some(_) => Step::ChangeUser {
            name: name.into(),
            gid: ids.sandbox_gid,
            home,
        },
    };
    let mut others: Vec<String> = seen.map(|u| u.groups).unwrap_or_default();
    let cards = gpu_groups(draft);
    others.retain(|g| g != group && g != name && !cards.contains(g));
    if !others.is_empty() {
        draft.warnings.push(format!(
            "user {name} is also in {}: what those groups may do, the sandbox may do",
            others.join(", ")
        ));
    }
    let mut steps = vec![step];
    let (mut want, mut have) = (want, have);
    if let Some((sandbox, build)) = ids.noted_pair() {
        let noted = draft.look.id_pairs(&draft.d.paths);
        let Some(noted) = draft.unwrap_seen(&address, noted) else {
            return;
        };
        let text = format!("{build}, {}", ids.front);
        if let Some(have) = have
            .as_mut()
            .filter(|_| noted.get(&sandbox) == Some(&build))
        {
            have.insert("build_uids".into(), text.clone());
        }
        want.insert("build_uids".into(), text);
        steps.insert(0, Step::ClaimIds { sandbox, build });
    }
    let r = PlannedResource::new(address, Some(want), have)
        .with_steps(steps)
        .with_needs([format!("group.{name}")])
        .with_reason(adopted.then(|| {
            format!(
                "adopted{}: it was there before comfy and stays after it",
                if word {
                    " because host.adopt = true"
                } else {
                    ""
                }
            )
        }));
    draft.add_resource(r);
}

fn plan_membership(draft: &mut PlanBuilder, user: &str, group: &str) {
    let address = format!("member.{user}");
    let seen = draft.look.is_member(user, group);
    let Some(is) = draft.unwrap_seen(&address, seen) else {
        return;
    };
    let want = attrs([("group", group.to_string())]);
    let r = PlannedResource::new(address, Some(want.clone()), is.then_some(want))
        .with_steps([Step::AddMember {
            user: user.into(),
            group: group.into(),
        }])
        .with_needs(
            [
                format!("group.{group}"),
                format!("user.{}", draft.d.sandbox),
            ]
            .into_iter()
            .filter(|n| n != &format!("user.{user}") || user == draft.d.sandbox),
        );
    draft.add_resource(r);
}

/// Where graphics drivers have their devices.
const DEVICES: &[&str] = &[
    "/dev/dri/renderD128",
    "/dev/dri/renderD129",
    "/dev/dri/renderD130",
    "/dev/dri/renderD131",
    "/dev/kfd",
];
/// Groups that distributions give them to (systemd's udev rules); no other group is joined for a
/// device.
pub const CARDS: &[&str] = &["render", "video"];

/// The groups without which the sandbox user cannot use this machine's graphics cards.
fn gpu_groups(draft: &PlanBuilder) -> BTreeSet<String> {
    let closed = |path: &str| {
        let node = draft.look.read_entry(Path::new(path)).ok().flatten()?;
        (node.mode & 0o006 != 0o006 && node.mode & 0o060 == 0o060)
            .then(|| draft.look.group_name(node.gid))
    };
    DEVICES
        .iter()
        .filter_map(|p| closed(p))
        .filter(|g| CARDS.contains(&g.as_str()))
        .collect()
}

fn plan_gpu_membership(draft: &mut PlanBuilder, user: &str, group: &str) {
    let address = format!("member.{user}.{group}");
    let seen = draft.look.is_member(user, group);
    let Some(is) = draft.unwrap_seen(&address, seen) else {
        return;
    };
    let want = attrs([("group", group.to_string())]);
    let r = PlannedResource::new(address, Some(want.clone()), is.then_some(want))
        .with_steps([Step::AddMember {
            user: user.into(),
            group: group.into(),
        }])
        .with_needs([format!("user.{user}")])
        .with_reason(Some(
            "the graphics cards of this machine are that group's".into(),
        ));
    draft.add_resource(r);
}

/// Members that nobody declared are reported: they may be the owner's intention.
fn warn_unexpected_members(draft: &mut PlanBuilder, group: &str) {
    let expected: BTreeSet<&str> = [draft.d.owner.name.as_str(), draft.d.sandbox.as_str()].into();
    if let Ok(Some(g)) = draft.look.find_group(group) {
        let others: Vec<&str> = g
            .members
            .iter()
            .map(String::as_str)
            .filter(|m| !expected.contains(m))
            .collect();
        if !others.is_empty() {
            draft.warnings.push(format!(
                "group {group} has other members: {}; they can read and write what is shared",
                others.join(", ")
            ));
        }
    }
}

/// Groups and memberships that comfy made and that the manifest no longer names.
fn prune_accounts(draft: &mut PlanBuilder) {
    let (group, sandbox, owner) = (&draft.d.group, &draft.d.sandbox, &draft.d.owner.name);
    let mut gone = Vec::new();
    let cards = gpu_groups(draft);
    for key in &draft.inventory.members {
        let Some((user, g)) = key.split_once(':') else {
            continue;
        };
        if (g == group && (user == owner || user == sandbox))
            || (user == sandbox && cards.contains(g))
            || !draft.look.is_member(user, g).unwrap_or(false)
        {
            continue;
        }
        let step = Step::RemoveMember {
            user: user.into(),
            group: g.into(),
        };
        gone.push(
            PlannedResource::new(
                format!("member.{user}.{g}"),
                None,
                Some(attrs([("group", g.to_string())])),
            )
            .with_steps([step]),
        );
    }
    for (name, gid) in &draft.inventory.groups {
        let ours = matches!(draft.look.find_group(name), Ok(Some(g)) if g.gid == *gid);
        if name != group && name != sandbox && ours {
            let step = Step::DeleteGroup {
                name: name.clone(),
                gid: *gid,
            };
            gone.push(
                PlannedResource::new(
                    format!("group.{name}"),
                    None,
                    Some(attrs([("gid", gid.to_string())])),
                )
                .with_steps([step]),
            );
        }
    }
    for r in gone {
        draft.add_resource(r);
    }
}
