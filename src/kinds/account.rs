//! `group.NAME`, `user.NAME`, `member.NAME`: the two accounts, the group they share, and who is in
//! it.

use std::collections::BTreeSet;
use std::path::Path;

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::plan::observed::{GPU_GROUPS, NO_LOGIN};
use crate::plan::{Step, account_adoption};

pub(crate) fn plan_accounts(o: &Observed, b: &mut PlanBuilder) {
    if o.d.isolation == IsolationMode::None {
        return;
    }
    let (sandbox, group, ids) = (o.d.sandbox.clone(), o.d.group.clone(), o.ids);
    group_resource(o, b, &group, ids.shared);
    group_resource(o, b, &sandbox, ids.sandbox_gid);
    plan_user(o, b, &sandbox, &group);
    let owner = o.d.owner.name.clone();
    for member in [owner, sandbox.clone()] {
        plan_membership(o, b, &member, &group);
    }
    if let Some(records) = o.d.records_group() {
        group_resource(o, b, &records, ids.records_gid);
        let why = "so that nobody else on this Mac reads what comfy records of a launch";
        extra_membership(o, b, &o.d.owner.name, &records, why);
    }
    for name in gpu_groups(o) {
        let why = "this machine's graphics cards belong to that group";
        extra_membership(o, b, &sandbox, &name, why);
    }
    warn_unexpected_members(o, b, &group);
    prune_accounts(o, b);
}

fn group_resource(o: &Observed, b: &mut PlanBuilder, name: &str, gid: u32) {
    let address = Address::Group(name.into());
    let seen = o.look.find_group(name);
    let Some(seen) = b.seen(&address, seen) else {
        return;
    };
    let have = seen.map(|g| attrs([("gid", g.gid.to_string())]));
    let adopted = have.is_some() && !o.inventory.groups.contains_key(name);
    let r = Resource::new(address, Some(attrs([("gid", gid.to_string())])), have)
        .steps([Step::CreateGroup {
            name: name.into(),
            gid,
        }])
        .reason(adopted.then(|| "adopted: it existed before comfy and stays after it".into()));
    b.add(r);
}

fn plan_user(o: &Observed, b: &mut PlanBuilder, name: &str, group: &str) {
    let address = Address::User(name.into());
    let seen = o.look.find_user(name);
    let Some(seen) = b.seen(&address, seen) else {
        return;
    };
    let home = o.d.paths.home.clone().unwrap_or_default();
    let ids = o.ids;
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
    let adopted = have.is_some() && !o.inventory.users.contains_key(name);
    let word = seen.as_ref().is_some_and(|u| {
        o.d.adopt && !matches!(account_adoption::why_somebodys(o.d, o.look, u), Ok(None))
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
    let others = match seen {
        Some(u) => Ok(u.groups),
        None => o.look.groups_naming(name),
    };
    let Some(mut others) = b.seen(&address, others) else {
        return;
    };
    let gpu_groups = gpu_groups(o);
    others.retain(|g| g != group && g != name && !gpu_groups.contains(g));
    if !others.is_empty() {
        b.warnings.push(format!(
            "user {name} is also in {}: the sandbox can do whatever those groups can do",
            others.join(", ")
        ));
    }
    let mut steps = vec![step];
    let (mut want, mut have) = (want, have);
    if let Some((sandbox, build)) = ids.noted_pair() {
        let noted = o.look.id_pairs(&o.d.paths);
        let Some(noted) = b.seen(&address, noted) else {
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
        .needs([Address::Group(name.into())])
        .reason(adopted.then(|| {
            format!(
                "adopted{}: it existed before comfy and stays after it",
                if word {
                    " because host.adopt = true"
                } else {
                    ""
                }
            )
        }));
    b.add(r);
}

fn plan_membership(o: &Observed, b: &mut PlanBuilder, user: &str, group: &str) {
    let address = Address::Member(user.into());
    let seen = o.look.is_member(user, group);
    let Some(is) = b.seen(&address, seen) else {
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
                Address::Group(group.into()),
                Address::User(o.d.sandbox.clone()),
            ]
            .into_iter()
            .filter(|n| n != &Address::User(user.into()) || user == o.d.sandbox),
        );
    b.add(r);
}

/// Where graphics drivers have their devices.
const DEVICES: &[&str] = &[
    "/dev/dri/renderD128",
    "/dev/dri/renderD129",
    "/dev/dri/renderD130",
    "/dev/dri/renderD131",
    "/dev/kfd",
];

/// The groups without which the sandbox user cannot use this machine's graphics cards.
fn gpu_groups(i: &Instance) -> BTreeSet<String> {
    let closed = |path: &str| {
        let node = i.look.read_entry(Path::new(path)).ok().flatten()?;
        (node.mode & 0o006 != 0o006 && node.mode & 0o060 == 0o060)
            .then(|| i.look.group_name(node.gid))
    };
    DEVICES
        .iter()
        .filter_map(|p| closed(p))
        .filter(|g| GPU_GROUPS.contains(&g.as_str()))
        .collect()
}

/// A membership in another group than the shared one.
fn extra_membership(o: &Observed, b: &mut PlanBuilder, user: &str, group: &str, why: &str) {
    let address = Address::Member(format!("{user}.{group}"));
    let seen = o.look.is_member(user, group);
    let Some(is) = b.seen(&address, seen) else {
        return;
    };
    let want = attrs([("group", group.to_string())]);
    let r = Resource::new(address, Some(want.clone()), is.then_some(want))
        .steps([Step::AddMember {
            user: user.into(),
            group: group.into(),
        }])
        .needs(if user == o.d.sandbox {
            [Address::User(user.into())]
        } else {
            [Address::Group(group.into())]
        })
        .reason(Some(why.into()));
    b.add(r);
}

/// Reports members that nobody declared; they may be the owner's intention, so they stay.
fn warn_unexpected_members(o: &Observed, b: &mut PlanBuilder, group: &str) {
    let expected: BTreeSet<&str> = [o.d.owner.name.as_str(), o.d.sandbox.as_str()].into();
    if let Ok(Some(g)) = o.look.find_group(group) {
        let others: Vec<&str> = g
            .members
            .iter()
            .map(String::as_str)
            .filter(|m| !expected.contains(m))
            .collect();
        if !others.is_empty() {
            b.warnings.push(format!(
                "group {group} has other members: {}; they can read and write the shared folders",
                others.join(", ")
            ));
        }
    }
}

/// Removes groups and memberships that comfy made and comfy.toml no longer declares.
fn prune_accounts(o: &Observed, b: &mut PlanBuilder) {
    let (group, sandbox, owner) = (&o.d.group, &o.d.sandbox, &o.d.owner.name);
    let (gpu_groups, records) = (gpu_groups(o), o.d.records_group());
    for (user, g) in o.inventory.members.iter().filter_map(|m| m.split_once(':')) {
        let wanted = (g == group && (user == owner || user == sandbox))
            || (Some(g) == records.as_deref() && user == owner)
            || (user == sandbox && gpu_groups.contains(g));
        if !wanted && o.look.is_member(user, g).unwrap_or(false) {
            let address = Address::Member(format!("{user}.{g}"));
            b.add(removed_member(address, user, g));
        }
    }
    for (name, gid) in &o.inventory.groups {
        if name != group && name != sandbox && Some(name) != records.as_ref() {
            remove_group(o, b, name, *gid);
        }
    }
}

/// Removes the accounts and groups that comfy made, and memberships in those that stay.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    for (name, uid) in &i.inventory.users {
        if matches!(i.look.find_user(name), Ok(Some(u)) if u.uid == *uid) {
            let step = Step::DeleteUser {
                name: name.clone(),
                uid: *uid,
            };
            let have = attrs([("uid", uid.to_string())]);
            b.add(Resource::removed(Address::User(name.clone()), have, step));
        }
    }
    for (user, group) in i.inventory.members.iter().filter_map(|m| m.split_once(':')) {
        // userdel(8) takes its user out of every group; Directory Services keeps the name in it.
        let forgotten = !i.d.platform.os.is_macos() && i.inventory.users.contains_key(user);
        let stays = !i.inventory.groups.contains_key(group) && !forgotten;
        if stays && i.look.is_member(user, group).unwrap_or(false) {
            b.add(removed_member(Address::Member(user.into()), user, group));
        }
    }
    // The owner's other instances have it too.
    let others = i.look.has_neighbours(&i.d.paths);
    let records = i.d.records_group().filter(|_| others != Ok(false));
    for (name, gid) in &i.inventory.groups {
        if Some(name) != records.as_ref() {
            remove_group(i, b, name, *gid);
        }
    }
}

fn removed_member(address: Address, user: &str, group: &str) -> Resource {
    let step = Step::RemoveMember {
        user: user.into(),
        group: group.into(),
    };
    Resource::removed(address, attrs([("group", group.to_string())]), step)
}

/// Only if it still has the number that comfy gave it.
fn remove_group(i: &Instance, b: &mut PlanBuilder, name: &str, gid: u32) {
    if matches!(i.look.find_group(name), Ok(Some(g)) if g.gid == gid) {
        let step = Step::DeleteGroup {
            name: name.into(),
            gid,
        };
        let have = attrs([("gid", gid.to_string())]);
        b.add(Resource::removed(Address::Group(name.into()), have, step));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::manifest::platforms::OperatingSystem;
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn a_group_that_names_an_account_which_is_gone_is_asked_too() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        let everything = crate::plan::select::ResourceSelection::default();
        let name = |s: &mut crate::testing::MachineState, group: &str| {
            s.groups
                .insert(group.into(), (7, ["comfyui_sandbox".to_string()].into()));
        };
        host.with(|s| name(s, "family"));
        let plan = crate::kinds::plan(&d, &host, &everything).unwrap();
        let told = plan
            .warnings
            .iter()
            .any(|w| w.contains("is also in family"));
        assert!(told, "{:?}", plan.warnings);
        host.with(|s| name(s, "admin"));
        let refused = crate::kinds::plan(&d, &host, &everything).unwrap_err();
        insta::assert_snapshot!(refused, @"comfy.toml:1:1: user comfyui_sandbox is named by group admin, which gives it rights of its own (hint: remove it from admin, or name an account that does not exist yet)");
    }

    #[test]
    fn on_a_mac_the_records_get_a_group_of_the_owner_s_alone() {
        let mac = Locked {
            os: OperatingSystem::MacOs,
            ..Locked::default()
        };
        let (host, d) = (MemoryHost::fresh(), desired("", &mac));
        let made = |host: &MemoryHost| host.with(|s| s.groups.get("comfy-alice").cloned());
        assert!(made(&host).is_none());
        host.apply(&d);
        let (gid, members) = made(&host).unwrap();
        assert_eq!(members.into_iter().collect::<Vec<_>>(), ["alice"]);
        let records = host.with(|s| s.node(&d.paths.records).unwrap());
        assert_eq!((records.gid, records.mode), (gid, 0o750));
        assert_eq!(host.differences(&d, "group"), [""; 0]);
        let ends = "delete group.comfy-alice: delete_group".to_string();
        assert!(host.removals(&d, "group").contains(&ends));
        host.with(|s| s.neighbours = true);
        assert!(!host.removals(&d, "group").contains(&ends));
        // Who else is in it reads keys in `[run] env`.
        let join = |s: &mut crate::testing::MachineState| {
            let (_, members) = s.groups.get_mut("comfy-alice").unwrap();
            members.insert("mallory".into());
        };
        host.with(join);
        let everything = crate::plan::select::ResourceSelection::default();
        let refused = crate::kinds::plan(&d, &host, &everything)
            .unwrap_err()
            .to_string();
        insta::assert_snapshot!(refused, @"comfy.toml:1:1: group.comfy-alice has other members: mallory; they could read what comfy records of alice's launches (hint: remove them: sudo dseditgroup -o edit -d mallory -t user comfy-alice)");
    }

    #[test]
    fn accounts_are_made_once_and_end_with_what_comfy_made() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        assert_eq!(
            host.differences(&d, "group"),
            [
                "create group.comfyshared: create_group",
                "create group.comfyui_sandbox: create_group"
            ]
        );
        assert_eq!(
            host.differences(&d, "user"),
            ["create user.comfyui_sandbox: create_user"]
        );
        host.apply(&d);
        assert_eq!(host.differences(&d, "user"), [""; 0]);
        host.with(|s| s.users.get_mut("comfyui_sandbox").unwrap().shell = "/bin/sh".into());
        assert_eq!(
            host.differences(&d, "user"),
            ["update user.comfyui_sandbox: change_user"]
        );
        assert_eq!(
            host.removals(&d, "user"),
            ["delete user.comfyui_sandbox: delete_user"]
        );
    }
}
