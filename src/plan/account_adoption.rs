//! Decides which existing accounts and groups comfy may use for the sandbox: those that comfy made,
//! and those that nobody else uses. Adopting one changes it for its owner, and gives its rights to
//! the sandbox.

use std::collections::BTreeSet;

use super::change::{Change, unknown_change};
use super::ids::{ACCOUNT_RANGE, AccountIds};
use super::inventory::Inventory;
use super::look::Look;
use super::observed::{GPU_GROUPS, GroupAccount, NO_LOGIN, Seen, UserAccount};
use crate::desired::Desired;
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::manifest::platforms::OperatingSystem;
use crate::problem::{Problem, Result};

/// The first number of people's own groups (login.defs(5), GID_MIN; macOS: 501). Groups below are
/// the system's and its services'.
fn first_normal(os: OperatingSystem) -> u32 {
    if os.is_macos() { 501 } else { 1000 }
}

/// Refuses accounts and groups that belong to somebody else. What could not be read is unknown.
///
/// # Errors
/// An account or a group that comfy must not adopt, with its place in comfy.toml and what to do.
pub(crate) fn check_adoption(
    d: &Desired,
    look: &dyn Look,
    ids: &AccountIds,
    inventory: &Inventory,
) -> Result<Vec<Change>> {
    if d.isolation == IsolationMode::None {
        return Ok(Vec::new());
    }
    let asked = [
        (
            Address::Group(d.group.clone()),
            "group",
            check_shared_group(d, look, inventory),
        ),
        (
            Address::Group(d.sandbox.clone()),
            "sandbox_user",
            check_own_group(d, look, inventory),
        ),
        (
            Address::User(d.sandbox.clone()),
            "sandbox_user",
            check_account(d, look, ids, inventory),
        ),
        (
            Address::Group(d.records_group().unwrap_or_default()),
            "primary_user",
            check_records_group(d, look),
        ),
    ];
    let (mut unread, mut problems) = (Vec::new(), Vec::new());
    for (address, key, seen) in asked {
        match seen {
            Err(u) => unread.push(unknown_change(address, &u)),
            Ok(Some((why, hint))) => problems.push(
                Problem::new(format!(
                    "{}: {address} {why}",
                    d.place_of_key(&["host", key])
                ))
                .with_hint(hint),
            ),
            Ok(None) => {}
        }
    }
    if problems.is_empty() {
        Ok(unread)
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Why it is refused, and what to do instead.
type Refusal = Option<(String, String)>;

/// Returns whether comfy made it, or an earlier apply adopted it, with this number.
fn is_known(inventory: &Inventory, kind: &str, name: &str, id: u32) -> bool {
    let (made, key) = if kind == "user" {
        (&inventory.users, "uid")
    } else {
        (&inventory.groups, "gid")
    };
    let applied = inventory
        .applied
        .get(&format!("{kind}.{name}"))
        .and_then(|a| a.get(key));
    made.get(name) == Some(&id) || applied.is_some_and(|a| *a == id.to_string())
}

const OTHER_GROUP: &str = "name a group that does not exist yet, and comfy creates it";

/// Refuses a group that has other members, or is somebody's primary group.
fn other_members(look: &dyn Look, g: &GroupAccount, expected: &[&str]) -> Seen<Refusal> {
    let foreign = |all: &[String]| {
        all.iter()
            .filter(|n| !expected.contains(&n.as_str()))
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (primary, members) = (foreign(&look.primary_users(g.gid)?), foreign(&g.members));
    if !primary.is_empty() {
        return Ok(Some((
            format!("is the primary group of {primary}: the sandbox would get its rights too"),
            OTHER_GROUP.into(),
        )));
    }
    let hint = format!("remove them from it, or {OTHER_GROUP}");
    Ok((!members.is_empty()).then(|| {
        (
            format!("has other members: {members}: they could read and write the shared folders"),
            hint,
        )
    }))
}

fn of_owner(d: &Desired, g: &GroupAccount) -> Refusal {
    let why = || {
        (
            format!(
                "is the primary group of {}: the sandbox could read every file of yours that the \
                 group may read",
                d.owner.name
            ),
            OTHER_GROUP.into(),
        )
    };
    (g.gid == d.owner.gid).then(why)
}

fn of_system(d: &Desired, g: &GroupAccount) -> Refusal {
    let low = g.gid < first_normal(d.platform.os) && !ACCOUNT_RANGE.contains(&g.gid);
    low.then(|| {
        (
            format!(
                "has gid {}, which is in the range of system groups: its rights would be the \
        sandbox's too",
                g.gid
            ),
            OTHER_GROUP.into(),
        )
    })
}

fn check_shared_group(d: &Desired, look: &dyn Look, inventory: &Inventory) -> Seen<Refusal> {
    let Some(g) = look.find_group(&d.group)? else {
        return Ok(None);
    };
    let refusal = of_owner(d, &g);
    if refusal.is_some() || is_known(inventory, "group", &g.name, g.gid) {
        return Ok(refusal);
    }
    let ours = [d.owner.name.as_str(), d.sandbox.as_str()];
    if let Some(r) = other_members(look, &g, &ours)? {
        return Ok(Some(r));
    }
    // Somebody added exactly these two, and not comfy for a graphics card: the group is for
    // sharing, whatever its number.
    let members: BTreeSet<&str> = g.members.iter().map(String::as_str).collect();
    let device = inventory
        .members
        .contains(&format!("{}:{}", d.sandbox, g.name))
        || GPU_GROUPS.contains(&g.name.as_str());
    Ok(if members == ours.into() && !device {
        None
    } else {
        of_system(d, &g)
    })
}

/// The sandbox user's own group.
fn check_own_group(d: &Desired, look: &dyn Look, inventory: &Inventory) -> Seen<Refusal> {
    let Some(g) = look.find_group(&d.sandbox)? else {
        return Ok(None);
    };
    let refusal = of_owner(d, &g);
    if refusal.is_some() || is_known(inventory, "group", &g.name, g.gid) {
        return Ok(refusal);
    }
    if let Some(r) = other_members(look, &g, &[d.owner.name.as_str(), d.sandbox.as_str()])? {
        return Ok(Some(r));
    }
    // If its account exists, the account is judged instead.
    let accounts = look.find_user(&d.sandbox)?.is_some_and(|u| u.gid == g.gid);
    Ok(if accounts { None } else { of_system(d, &g) })
}

/// Refuses the group of the records if somebody else than the owner is in it.
fn check_records_group(d: &Desired, look: &dyn Look) -> Seen<Refusal> {
    let Some(name) = d.records_group() else {
        return Ok(None);
    };
    let Some(g) = look.find_group(&name)? else {
        return Ok(None);
    };
    let mut others = look.primary_users(g.gid)?;
    others.extend(g.members);
    others.retain(|user| *user != d.owner.name);
    Ok(others.first().map(|user| {
        (
            format!(
                "has other members: {}; they could read what comfy records of {}'s launches",
                others.join(", "),
                d.owner.name
            ),
            format!("remove them: sudo dseditgroup -o edit -d {user} -t user {name}"),
        )
    }))
}

fn check_account(
    d: &Desired,
    look: &dyn Look,
    ids: &AccountIds,
    inventory: &Inventory,
) -> Seen<Refusal> {
    let Some(u) = look.find_user(&d.sandbox)?.filter(|u| u.uid == ids.sandbox) else {
        return Ok(None);
    };
    if is_known(inventory, "user", &u.name, u.uid) || d.adopt {
        return Ok(None);
    }
    let hint = "name an account that does not exist yet, and comfy creates it; or, if comfy may \
        permanently change this one's shell, home and group: `adopt = true` in [host]";
    Ok(why_somebodys(d, look, &u)?
        .map(|why| (format!("{why}: it is somebody else's account"), hint.into())))
}

/// Returns why an account seems to be in use: by a person who logs in, or by a service with a home
/// and processes. Only root could check whether it has a password.
pub(crate) fn why_somebodys(d: &Desired, look: &dyn Look, u: &UserAccount) -> Seen<Option<String>> {
    if !NO_LOGIN.contains(&u.shell.as_str()) {
        return Ok(Some(format!(
            "has the shell {}",
            crate::text::escape_text(&u.shell)
        )));
    }
    if d.paths.home.as_ref().is_some_and(|h| *h != u.home) {
        return Ok(Some(format!(
            "has its home at {}",
            crate::text::escape_text(&u.home.to_string_lossy())
        )));
    }
    let running = look.process_count(u.uid)?;
    Ok((running > 0).then(|| format!("runs {}", crate::text::count_of(running, "program"))))
}
