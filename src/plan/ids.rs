//! Numeric ids. The plan fixes them, so prepare never needs an account that commit creates.

use super::look::Look;
use super::observed::{GroupAccount, Seen, UnknownState, UserAccount};
use crate::desired::Desired;
use crate::manifest::IsolationMode;
use crate::problem::{Problem, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct AccountIds {
    pub owner: u32,
    pub owner_gid: u32,
    pub sandbox: u32,
    pub sandbox_gid: u32,
    pub shared: u32,
    /// The group of comfy's records: the owner may read them, the sandbox may not.
    pub records_gid: u32,
    /// Fetches and unpacks; no account has it.
    pub build: u32,
    /// Serves ComfyUI's port and the egress proxy; no account has it either.
    #[serde(default)]
    pub front: u32,
    /// Owns what is sealed: root.
    pub seal: u32,
    pub seal_gid: u32,
}

/// Below the range of people on both platforms: hidden from login windows (facts of `dscl`,
/// login.defs(5)).
pub(crate) const ACCOUNT_RANGE: std::ops::RangeInclusive<u32> = 401..=499;
/// Of a sandbox user in [`ACCOUNT_RANGE`]: its build uid, and one more for its gateway. Away from
/// people, from systemd's dynamic users and from container ranges (systemd's UIDS-GIDS document).
const BUILD_FIRST: u32 = 58_200;
/// Of others, in pairs: a table says which ([`crate::desired::InstancePaths::id_pairs`]).
const TABLE_RANGE: std::ops::RangeInclusive<u32> = 58_400..=58_599;

/// Returns the build uid that follows from the sandbox user's number: no other instance has it.
fn by_number(sandbox: u32) -> Option<u32> {
    ACCOUNT_RANGE
        .contains(&sandbox)
        .then(|| BUILD_FIRST + 2 * (sandbox - ACCOUNT_RANGE.start()))
}

/// Returns the build uid of a sandbox user; `None` if no pair is free.
fn build_for(d: &Desired, look: &dyn Look, sandbox: u32) -> Seen<Option<u32>> {
    if let Some(build) = by_number(sandbox) {
        return Ok(Some(build));
    }
    let table = look.id_pairs(&d.paths)?;
    let unused = |id: &u32| !table.values().any(|b| b == id);
    if let Some(build) = table.get(&sandbox) {
        return Ok(Some(*build));
    }
    for pair in TABLE_RANGE.step_by(2).filter(unused) {
        // Another instance's first apply may be about to record it.
        if !look.id_taken(pair)? {
            return Ok(Some(pair));
        }
    }
    Ok(None)
}

impl AccountIds {
    /// Returns the pair to record if the build uids do not follow from the sandbox user's number.
    pub(crate) fn noted_pair(&self) -> Option<(u32, u32)> {
        by_number(self.sandbox)
            .is_none()
            .then_some((self.sandbox, self.build))
    }

    /// Chooses the ids: existing ones first, then those that comfy.toml sets, then free ones.
    ///
    /// # Errors
    /// If an explicit id differs or is taken, an account must not be the sandbox, no id is free, or
    /// the database is unreadable.
    pub(crate) fn choose_ids(d: &Desired, look: &dyn Look) -> Result<AccountIds> {
        let (owner, owner_gid) = (d.owner.uid, d.owner.gid);
        if d.isolation == IsolationMode::None {
            return Ok(AccountIds {
                owner,
                owner_gid,
                sandbox: owner,
                sandbox_gid: owner_gid,
                shared: owner_gid,
                records_gid: owner_gid,
                build: owner,
                front: owner,
                seal: owner,
                seal_gid: owner_gid,
            });
        }
        let group = look
            .find_group(&d.group)
            .map_err(|e| unreadable(&format!("group.{}", d.group), e))?;
        let own = look
            .find_group(&d.sandbox)
            .map_err(|e| unreadable(&format!("group.{}", d.sandbox), e))?;
        let user = look
            .find_user(&d.sandbox)
            .map_err(|e| unreadable(&format!("user.{}", d.sandbox), e))?;
        let shared = shared_gid(d, look, group.as_ref())?;
        match &user {
            Some(u) => ensure_ordinary(d, u)?,
            None => {
                let named = look.groups_naming(&d.sandbox);
                let named = named.map_err(|e| unreadable(&format!("user.{}", d.sandbox), e))?;
                ensure_unprivileged(d, &named, "is named by group")?;
            }
        }
        let sandbox_gid = match &own {
            Some(g) => g.gid,
            None => free_id(look, &[shared])?,
        };
        let records_gid = records_gid(d, look, &[shared, sandbox_gid])?;
        let sandbox = match &user {
            Some(u) => u.uid,
            None => new_uid(d, look, sandbox_gid, &[shared, records_gid])?,
        };
        let build = build_for(d, look, sandbox)
            .map_err(|e| unreadable("ids", e))?
            .ok_or_else(no_free_pair)?;
        let front = build + 1;
        for id in [build, front] {
            if look.id_taken(id).map_err(|e| unreadable("ids", e))? {
                return Err(Problem::new(format!(
                    "id {id} belongs to an account or a group, and comfy needs it to build, or \
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
            records_gid,
            build,
            front,
            seal: 0,
            seal_gid: 0,
        })
    }
}

fn unreadable(what: &str, e: UnknownState) -> Problem {
    Problem::new(format!("{what} could not be read: {}", e.reason)).of_kind(e.kind)
}

/// Returns the shared group's number: its current one, the one that comfy.toml asks for, or a free
/// one.
fn shared_gid(d: &Desired, look: &dyn Look, group: Option<&GroupAccount>) -> Result<u32> {
    match (group, d.gid) {
        (Some(g), Some(asked)) if g.gid != asked => Err(Problem::new(format!(
            "{}: group.{} has gid {}, but host.gid asks for {asked}",
            d.place_of_key(&["host", "gid"]),
            d.group,
            g.gid
        ))
        .with_hint("remove host.gid to keep the group's own, or name another group")),
        (Some(g), _) => Ok(g.gid),
        (None, Some(asked)) => {
            if look.id_taken(asked).map_err(|e| unreadable("gid", e))? {
                return Err(Problem::new(format!(
                    "{}: gid {asked} belongs to another group or user",
                    d.place_of_key(&["host", "gid"])
                ))
                .with_hint("remove host.gid, and comfy chooses a free one"));
            }
            Ok(asked)
        }
        (None, None) => free_id(look, &[]),
    }
}

/// Returns the group of the records: the owner's own, or one that is made for them.
fn records_gid(d: &Desired, look: &dyn Look, taken: &[u32]) -> Result<u32> {
    let Some(name) = d.records_group() else {
        return Ok(d.owner.gid);
    };
    let there = look
        .find_group(&name)
        .map_err(|e| unreadable(&format!("group.{name}"), e))?;
    there.map_or_else(|| free_id(look, taken), |g| Ok(g.gid))
}

/// Refuses an account that has rights of its own, such as root.
fn ensure_ordinary(d: &Desired, u: &UserAccount) -> Result<()> {
    let at = d.place_of_key(&["host", "sandbox_user"]);
    if u.uid == 0 || u.uid == d.owner.uid {
        return Err(Problem::new(format!(
            "{at}: user {} has uid {} and cannot be the sandbox",
            d.sandbox, u.uid
        ))
        .with_hint("name an account of its own, or one that does not exist yet"));
    }
    ensure_unprivileged(d, &u.groups, "is in group")
}

fn ensure_unprivileged(d: &Desired, groups: &[String], how: &str) -> Result<()> {
    let privileged = crate::manifest::names::PRIVILEGED_GROUPS;
    let Some(bad) = groups.iter().find(|g| privileged.contains(&g.as_str())) else {
        return Ok(());
    };
    let at = d.place_of_key(&["host", "sandbox_user"]);
    Err(Problem::new(format!(
        "{at}: user {} {how} {bad}, which gives it rights of its own",
        d.sandbox
    ))
    .with_hint(format!(
        "remove it from {bad}, or name an account that does not exist yet"
    )))
}

/// Returns the uid for a sandbox user that has to be created: the one that its files already have,
/// the number of its own group, or a free one.
fn new_uid(d: &Desired, look: &dyn Look, sandbox_gid: u32, taken: &[u32]) -> Result<u32> {
    let state = look
        .read_entry(&d.paths.state_of("user"))
        .ok()
        .flatten()
        .map(|n| n.uid)
        .filter(|u| *u != 0 && *u != d.owner.uid);
    // The same number as its own group is easier to read in `ls -n`.
    for uid in state.into_iter().chain([sandbox_gid]) {
        if !look.uid_taken(uid).map_err(|e| unreadable("uid", e))? {
            return Ok(uid);
        }
    }
    free_id(look, taken)
}

/// Returns the first number of [`ACCOUNT_RANGE`] that is not in use and not in `taken`.
fn free_id(look: &dyn Look, taken: &[u32]) -> Result<u32> {
    for id in ACCOUNT_RANGE.filter(|id| !taken.contains(id)) {
        if !look.id_taken(id).map_err(|e| unreadable("ids", e))? {
            return Ok(id);
        }
    }
    Err(none_free())
}

fn none_free() -> Problem {
    Problem::new(format!(
        "no free id between {} and {}",
        ACCOUNT_RANGE.start(),
        ACCOUNT_RANGE.end()
    ))
    .with_hint("set host.gid, or remove an account that nobody uses")
}

fn no_free_pair() -> Problem {
    Problem::new(format!(
        "there is no free pair of ids between {} and {} for another sandbox user",
        TABLE_RANGE.start(),
        TABLE_RANGE.end()
    ))
    .with_hint(format!(
        "give the sandbox user a uid between {} and {}, which has a pair of its own",
        ACCOUNT_RANGE.start(),
        ACCOUNT_RANGE.end()
    ))
}
