//! Numeric ids, fixed in the plan, so that prepare never needs an account that commit creates.

use super::look::Look;
use super::observed::Seen;
use crate::desired::Desired;
use crate::manifest::IsolationMode;
use crate::problem::{Problem, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct AccountIds {
    pub owner: u32,
    pub owner_gid: u32,
    pub sandbox: u32,
    pub sandbox_gid: u32,
    pub shared: u32,
    /// Fetches and unpacks; no account has it.
    pub build: u32,
    /// Serves ComfyUI's port and the way out; no account has it either.
    #[serde(default)]
    pub front: u32,
    /// Owns what is sealed: root.
    pub seal: u32,
    pub seal_gid: u32,
}

/// Below the range of people on both platforms: hidden from login windows (facts of `dscl`,
/// login.defs(5)).
pub const ACCOUNT_RANGE: std::ops::RangeInclusive<u32> = 401..=499;
/// Of a sandbox user in [`ACCOUNT_RANGE`]: its build uid, and one more for its gateway. Away from
/// people, from systemd's dynamic users and from container ranges (systemd's UIDS-GIDS document).
const BUILD_FIRST: u32 = 58_200;
/// Of others, in pairs: a table says which ([`crate::desired::Paths::id_pairs`]).
const TABLE_RANGE: std::ops::RangeInclusive<u32> = 58_400..=58_599;

/// The build uid of a sandbox user whose own number says it: no other instance has it.
fn by_number(sandbox: u32) -> Option<u32> {
    ACCOUNT_RANGE
        .contains(&sandbox)
        .then(|| BUILD_FIRST + 2 * (sandbox - ACCOUNT_RANGE.start()))
}

fn build_for(d: &Desired, look: &dyn Look, sandbox: u32) -> Seen<u32> {
    if let Some(build) = by_number(sandbox) {
        return Ok(build);
    }
    let table = look.id_pairs(&d.paths)?;
    let unused = |id: &u32| !table.values().any(|b| b == id);
    if let Some(build) = table.get(&sandbox) {
        return Ok(*build);
    }
    for pair in TABLE_RANGE.step_by(2).filter(unused) {
        // Another instance's first apply may be about to write it down.
        if !look.id_taken(pair)? {
            return Ok(pair);
        }
    }
    Err(super::observed::UnknownState::new(
        "no pair of ids is left for another sandbox user",
        false,
    ))
}

impl AccountIds {
    /// The group of comfy's records: the owner may read them, the sandbox may not.
    pub fn records_gid(&self) -> u32 {
        // Under isolation "none" both are the owner's own.
        if self.seal == 0 {
            self.owner_gid
        } else {
            self.seal_gid
        }
    }

    /// Where the sandbox user's number does not say which uids build for it, that is written down:
    /// the pair.
    pub fn noted_pair(&self) -> Option<(u32, u32)> {
        by_number(self.sandbox)
            .is_none()
            .then_some((self.sandbox, self.build))
    }

    /// Takes what exists, then what the manifest asks, then what is free.
    ///
    /// # Errors
    /// An explicit id that differs or is taken; an account that must not be the sandbox; no free
    /// id; an unreadable database.
    pub fn choose_ids(d: &Desired, look: &dyn Look) -> Result<AccountIds> {
        let (owner, owner_gid) = (d.owner.uid, d.owner.gid);
        if d.isolation == IsolationMode::None {
            return Ok(AccountIds {
                owner,
                owner_gid,
                sandbox: owner,
                sandbox_gid: owner_gid,
                shared: owner_gid,
                build: owner,
                front: owner,
                seal: owner,
                seal_gid: owner_gid,
            });
        }
        let read = |what: &str, e: super::observed::UnknownState| {
            Problem::new(format!("{what} could not be read: {}", e.reason)).of_kind(e.kind)
        };
        let group = look
            .find_group(&d.group)
            .map_err(|e| read(&format!("group.{}", d.group), e))?;
        let own = look
            .find_group(&d.sandbox)
            .map_err(|e| read(&format!("group.{}", d.sandbox), e))?;
        let user = look
            .find_user(&d.sandbox)
            .map_err(|e| read(&format!("user.{}", d.sandbox), e))?;
        let mut taken = Vec::new();
        let shared = match (&group, d.gid) {
            (Some(g), Some(asked)) if g.gid != asked => {
                return Err(Problem::new(format!(
                    "{}: group.{} has gid {}, and host.gid asks for {asked}",
                    d.place_of_key(&["host", "gid"]),
                    d.group,
                    g.gid
                ))
                .with_hint("leave host.gid out to keep the group's own, or name another group"));
            }
            (Some(g), _) => g.gid,
            (None, Some(asked)) => {
                if look.id_taken(asked).map_err(|e| read("gid", e))? {
                    return Err(Problem::new(format!(
                        "{}: gid {asked} belongs to another group or user",
                        d.place_of_key(&["host", "gid"])
                    ))
                    .with_hint("leave host.gid out and comfy takes a free one"));
                }
                asked
            }
            (None, None) => free_ids(look, ACCOUNT_RANGE, &taken)
                .map_err(|e| read("ids", e))?
                .ok_or_else(none_free)?,
        };
        taken.push(shared);
        if let Some(u) = &user
            && (u.uid == 0 || u.uid == owner)
        {
            return Err(Problem::new(format!(
                "{}: user {} has uid {} and cannot be the sandbox",
                d.place_of_key(&["host", "sandbox_user"]),
                d.sandbox,
                u.uid
            ))
            .with_hint("name an account of its own, or one that does not exist yet"));
        }
        if let Some(u) = &user
            && let Some(bad) = u
                .groups
                .iter()
                .find(|g| crate::manifest::names::PRIVILEGED_GROUPS.contains(&g.as_str()))
        {
            return Err(Problem::new(format!(
                "{}: user {} is in group {bad}, which gives it rights of its own",
                d.place_of_key(&["host", "sandbox_user"]),
                d.sandbox
            ))
            .with_hint(format!(
                "take it out of {bad}, or name an account that does not exist yet"
            )));
        }
        let sandbox_gid = match (&own, &user) {
            (Some(g), _) => g.gid,
            (None, _) => free_ids(look, ACCOUNT_RANGE, &taken)
                .map_err(|e| read("ids", e))?
                .ok_or_else(none_free)?,
        };
        let sandbox = match &user {
            Some(u) => u.uid,
            None => {
                let state = look
                    .read_entry(&d.paths.state_of("user"))
                    .ok()
                    .flatten()
                    .map(|n| n.uid)
                    .filter(|u| *u != 0 && *u != owner);
                match state {
                    Some(uid) if !look.uid_taken(uid).map_err(|e| read("uid", e))? => uid,
                    // The same number as its own group where that is free: easier to read in `ls
                    // -n`.
                    _ if !look.uid_taken(sandbox_gid).map_err(|e| read("uid", e))? => sandbox_gid,
                    _ => free_ids(look, ACCOUNT_RANGE, &taken)
                        .map_err(|e| read("ids", e))?
                        .ok_or_else(none_free)?,
                }
            }
        };
        let build = build_for(d, look, sandbox).map_err(|e| read("ids", e))?;
        let front = build + 1;
        for id in [build, front] {
            if look.id_taken(id).map_err(|e| read("ids", e))? {
                return Err(Problem::new(format!(
                    "id {id} belongs to an account or a group, and is what comfy builds with, or \
                     serves the port, for {}",
                    d.sandbox
                ))
                .with_hint(
                    "give that account another number, or choose another host.sandbox_user",
                ));
            }
        }
        Ok(AccountIds {
            owner,
            owner_gid,
            sandbox,
            sandbox_gid,
            shared,
            build,
            front,
            seal: 0,
            seal_gid: 0,
        })
    }
}

fn none_free() -> Problem {
    Problem::new(format!(
        "no free id between {} and {}",
        ACCOUNT_RANGE.start(),
        ACCOUNT_RANGE.end()
    ))
    .with_hint("set host.gid, or remove an account that nobody uses")
}

fn free_ids(
    look: &dyn Look,
    range: std::ops::RangeInclusive<u32>,
    taken: &[u32],
) -> Seen<Option<u32>> {
    for id in range {
        if !taken.contains(&id) && !look.id_taken(id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
