//! Accounts, groups, memberships and search-only ACL entries, on both platforms.
//!
//! [`linux`] and [`macos`] compile everywhere: both turn requests into program calls and captured
//! output into facts, behind [`ProgramRunner`](crate::host::process::ProgramRunner), so that either
//! is tested on either. The right one is chosen at run time.

pub(crate) mod linux;
pub(crate) mod macos;

use std::path::Path;

use super::process::{ProgramOutput, ProgramRunner, SystemRunner};
use crate::plan::observed::{GroupAccount, SearchPermission, Seen, UserAccount};
use crate::problem::{IoKind, Problem, ProblemKind, Result};

/// What comfy needs of an account database. Readers never change anything; changers may be
/// repeated.
pub(crate) trait AccountDatabase: Sync {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>>;
    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>>;
    fn is_member(&self, user: &str, group: &str) -> Seen<bool>;
    /// Returns the groups that name `user` as a member, whether or not there is such an account:
    /// names stay in groups when an account is deleted, and the next one of that name has their
    /// rights.
    fn groups_naming(&self, user: &str) -> Seen<Vec<String>>;
    /// Returns whether the folder lets `uid` (in groups `gids`) pass, and whether it has an ACL
    /// entry for that user. `None`: the folder does not exist.
    fn search_permission(
        &self,
        folder: &Path,
        user: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>>;

    fn create_group(&self, name: &str, gid: u32) -> Result<()>;
    fn delete_group(&self, name: &str) -> Result<()>;
    /// Hidden, without password, without a login shell, with its own primary group; makes no home.
    fn create_user(&self, name: &str, uid: u32, gid: u32, home: &Path) -> Result<()>;
    /// Brings an existing account's primary group, home and shell to these.
    fn change_user(&self, name: &str, gid: u32, home: &Path) -> Result<()>;
    fn delete_user(&self, name: &str) -> Result<()>;
    fn add_member(&self, user: &str, group: &str) -> Result<()>;
    fn remove_member(&self, user: &str, group: &str) -> Result<()>;
    /// One search-only ACL entry.
    fn grant_search(&self, folder: &Path, user: &str, uid: u32) -> Result<()>;
    fn revoke_search(&self, folder: &Path, user: &str, uid: u32) -> Result<()>;
}

/// Returns the account database of this machine.
pub(crate) fn of_this_machine() -> Box<dyn AccountDatabase> {
    if crate::host::machine::operating_system().is_macos() {
        Box::new(macos::MacAccounts(SystemRunner))
    } else {
        Box::new(linux::LinuxAccounts(SystemRunner))
    }
}

/// Whether group `gid` is the private group of `uid`: its primary one, of the same name, and nobody
/// else is in it or has it as the primary one (useradd(8), USERGROUPS_ENAB). macOS has no such
/// groups: `staff` is everybody's.
pub(crate) fn alone_in(uid: u32, gid: u32) -> bool {
    if crate::host::machine::operating_system().is_macos() {
        return false;
    }
    let Ok(Some(user)) = nix::unistd::User::from_uid(uid.into()) else {
        return false;
    };
    let Ok(Some(group)) = nix::unistd::Group::from_gid(gid.into()) else {
        return false;
    };
    user.gid.as_raw() == gid
        && group.name == user.name
        && group.mem.iter().all(|m| *m == user.name)
        && primary_of(gid) == [uid].into()
}

/// The users of this machine that have `gid` as their primary group, as far as the database lists
/// users (getpwent(3)).
pub(crate) fn primary_of(gid: u32) -> std::collections::BTreeSet<u32> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _held = ONE.lock();
    let mut found = std::collections::BTreeSet::new();
    // SAFETY: one thread at a time goes through the database; an entry is read before the next call
    // may overwrite it.
    unsafe {
        nix::libc::setpwent();
        while let Some(entry) = nix::libc::getpwent().as_ref() {
            if entry.pw_gid == gid {
                found.insert(entry.pw_uid);
            }
        }
        nix::libc::endpwent();
    }
    found
}

/// Runs a changer, and turns a failure into a problem with program, resource and output.
pub(crate) fn run_or_fail(
    run: &dyn ProgramRunner,
    what: &str,
    argv: &[&str],
) -> Result<ProgramOutput> {
    let out = run.run_program(argv).map_err(|e| {
        Problem::new(format!("{what}: {} could not be started: {e}", argv[0])).caused_by(&e)
    })?;
    if out.status == 0 {
        return Ok(out);
    }
    let kind = IoKind::of_words(&out.stderr).map(ProblemKind::Io);
    Err(Problem::new(format!(
        "{what}: {} exited with {}: {}",
        argv[0],
        out.status,
        crate::text::escape_text(out.stderr.trim())
    ))
    .of_kind(kind.unwrap_or_default()))
}
