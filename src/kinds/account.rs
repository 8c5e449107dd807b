//! `group.NAME`, `user.NAME`, `member.NAME`: the two accounts, the group they share, and who is in
//! it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::manifest::Isolation;
use crate::plan::build::{Draft, Resource, attrs};
use crate::plan::{Step, account_adoption};

/// What the sandbox user's shell must be one of; created ones get the first.
pub const NO_LOGIN: &[&str] = &[
    "/usr/sbin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/bin/false",
];

pub fn plan(draft: &mut Draft) {
    if draft.d.isolation == Isolation::None {
        return;
    }
    let (sandbox, group, ids) = (draft.d.sandbox.clone(), draft.d.group.clone(), draft.ids);
    group_resource(draft, &group, ids.shared);
    group_resource(draft, &sandbox, ids.sandbox_gid);
    user(draft, &sandbox, &group);
    let owner = draft.d.owner.name.clone();
    for member in [owner, sandbox.clone()] {
        membership(draft, &member, &group);
    }
    for name in cards(draft) {
        card(draft, &sandbox, &name);
    }
    strangers(draft, &group);
    prune(draft);
}

fn group_resource(draft: &mut Draft, name: &str, gid: u32) {
    let address = format!("group.{name}");
    let seen = draft.look.group(name);
    let Some(seen) = draft.seen(&address, seen) else {
        return;
    };
    let have = seen.map(|g| attrs([("gid", g.gid.to_string())]));
    let adopted = have.is_some() && !draft.inventory.groups.contains_key(name);
    let r = Resource::new(address, Some(attrs([("gid", gid.to_string())])), have)
        .steps([Step::CreateGroup {
            name: name.into(),
            gid,
        }])
        .reason(adopted.then(|| "adopted: it was there before comfy and stays after it".into()));
    draft.add(r);
}

fn user(draft: &mut Draft, name: &str, group: &str) {
    let address = format!("user.{name}");
    let seen = draft.look.user(name);
    let Some(seen) = draft.seen(&address, seen) else {
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
                account_adoption::somebodys(draft.d, draft.look, u),
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
    let cards = cards(draft);
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
        let Some(noted) = draft.seen(&address, noted) else {
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
    let r = Resource::new(address, Some(want), have)
        .steps(steps)
        .needs([format!("group.{name}")])
        .reason(adopted.then(|| {
            format!(
                "adopted{}: it was there before comfy and stays after it",
                if word {
                    " because host.adopt = true"
                } else {
                    ""
                }
            )
        }));
    draft.add(r);
}

fn membership(draft: &mut Draft, user: &str, group: &str) {
    let address = format!("member.{user}");
    let seen = draft.look.is_member(user, group);
    let Some(is) = draft.seen(&address, seen) else {
        return;
    };
    let want = attrs([("group", group.to_string())]);
    let r = Resource::new(address, Some(want.clone()), is.then_some(want))
        .steps([Step::AddMember {
            user: user.into(),
            group: group.into(),
        }])
        .needs(
            [
                format!("group.{group}"),
                format!("user.{}", draft.d.sandbox),
            ]
            .into_iter()
            .filter(|n| n != &format!("user.{user}") || user == draft.d.sandbox),
        );
    draft.add(r);
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
fn cards(draft: &Draft) -> BTreeSet<String> {
    let closed = |path: &str| {
        let node = draft.look.node(Path::new(path)).ok().flatten()?;
        (node.mode & 0o006 != 0o006 && node.mode & 0o060 == 0o060)
            .then(|| draft.look.group_name(node.gid))
    };
    DEVICES
        .iter()
        .filter_map(|p| closed(p))
        .filter(|g| CARDS.contains(&g.as_str()))
        .collect()
}

fn card(draft: &mut Draft, user: &str, group: &str) {
    let address = format!("member.{user}.{group}");
    let seen = draft.look.is_member(user, group);
    let Some(is) = draft.seen(&address, seen) else {
        return;
    };
    let want = attrs([("group", group.to_string())]);
    let r = Resource::new(address, Some(want.clone()), is.then_some(want))
        .steps([Step::AddMember {
            user: user.into(),
            group: group.into(),
        }])
        .needs([format!("user.{user}")])
        .reason(Some(
            "the graphics cards of this machine are that group's".into(),
        ));
    draft.add(r);
}

/// Members that nobody declared are reported: they may be the owner's intention.
fn strangers(draft: &mut Draft, group: &str) {
    let expected: BTreeSet<&str> = [draft.d.owner.name.as_str(), draft.d.sandbox.as_str()].into();
    if let Ok(Some(g)) = draft.look.group(group) {
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
fn prune(draft: &mut Draft) {
    let (group, sandbox, owner) = (&draft.d.group, &draft.d.sandbox, &draft.d.owner.name);
    let mut gone = Vec::new();
    let cards = cards(draft);
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
            Resource::new(
                format!("member.{user}.{g}"),
                None,
                Some(attrs([("group", g.to_string())])),
            )
            .steps([step]),
        );
    }
    for (name, gid) in &draft.inventory.groups {
        let ours = matches!(draft.look.group(name), Ok(Some(g)) if g.gid == *gid);
        if name != group && name != sandbox && ours {
            let step = Step::DeleteGroup {
                name: name.clone(),
                gid: *gid,
            };
            gone.push(
                Resource::new(
                    format!("group.{name}"),
                    None,
                    Some(attrs([("gid", gid.to_string())])),
                )
                .steps([step]),
            );
        }
    }
    for r in gone {
        draft.add(r);
    }
}
