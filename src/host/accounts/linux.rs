//! Linux: reads through NSS, changes through shadow's programs (useradd(8), groupadd(8),
//! gpasswd(1)).

use std::path::Path;

use nix::errno::Errno;

use super::{AccountDatabase, run_or_fail};
use crate::host::fs::acl;
use crate::host::process::ProgramRunner;
use crate::host::tools::{GPASSWD, GROUPADD, GROUPDEL, USERADD, USERDEL, USERMOD, first_existing};
use crate::plan::observed::{GroupAccount, SearchPermission, Seen, UnknownState, UserAccount};
use crate::problem::{Problem, Result};

pub(crate) struct LinuxAccounts<R: ProgramRunner>(pub R);

fn unknown_errno(what: String, e: Errno) -> UnknownState {
    UnknownState::new(format!("{what}: {e}"), false).caused_by(&e)
}

/// getpwnam(3) and friends answer "none" with several codes.
fn is_absent(e: Errno) -> bool {
    matches!(
        e,
        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM
    ) || e as i32 == 0
}

fn find_program(candidates: &[&'static str]) -> Result<&'static str> {
    first_existing(candidates).ok_or_else(|| {
        Problem::new(format!(
            "none of {} is installed on this machine",
            candidates.join(", ")
        ))
        .with_hint("install the package `passwd` (Debian) or `shadow-utils` (Fedora)")
    })
}

const NOLOGIN: &[&str] = crate::plan::observed::NO_LOGIN;

impl<R: ProgramRunner> AccountDatabase for LinuxAccounts<R> {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>> {
        match nix::unistd::Group::from_name(name) {
            Ok(g) => Ok(g.map(|g| GroupAccount {
                name: g.name,
                gid: g.gid.as_raw(),
                members: g.mem,
            })),
            Err(e) if is_absent(e) => Ok(None),
            Err(e) => Err(unknown_errno(format!("group {name}"), e)),
        }
    }

    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>> {
        let user = match nix::unistd::User::from_name(name) {
            Ok(Some(u)) => u,
            Ok(None) => return Ok(None),
            Err(e) if is_absent(e) => return Ok(None),
            Err(e) => return Err(unknown_errno(format!("user {name}"), e)),
        };
        Ok(Some(UserAccount {
            name: user.name.clone(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell.to_string_lossy().into_owned(),
            groups: groups_of(name, user.gid)?,
        }))
    }

    fn is_member(&self, user: &str, group: &str) -> Seen<bool> {
        Ok(self
            .find_group(group)?
            .is_some_and(|g| g.members.iter().any(|m| m == user)))
    }

    fn groups_naming(&self, user: &str) -> Seen<Vec<String>> {
        // No group has this number, as chown(2) uses it for "none".
        groups_of(user, nix::unistd::Gid::from_raw(u32::MAX))
    }

    fn search_permission(
        &self,
        folder: &Path,
        _: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>> {
        acl::search_permission(folder, uid, gids)
    }

    fn create_group(&self, name: &str, gid: u32) -> Result<()> {
        if matches!(self.find_group(name), Ok(Some(g)) if g.gid == gid) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &format!("group.{name}"),
            &[find_program(GROUPADD)?, "-g", &gid.to_string(), name],
        )
        .map(drop)
    }

    fn delete_group(&self, name: &str) -> Result<()> {
        if matches!(self.find_group(name), Ok(None)) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &format!("group.{name}"),
            &[find_program(GROUPDEL)?, name],
        )
        .map(drop)
    }

    fn create_user(&self, name: &str, uid: u32, gid: u32, home: &Path) -> Result<()> {
        if matches!(self.find_user(name), Ok(Some(u)) if u.uid == uid) {
            return Ok(());
        }
        let (uid, gid, home) = (uid.to_string(), gid.to_string(), home.display().to_string());
        // No password (useradd leaves `!`), no home: comfy makes the home itself, with the mode it
        // wants.
        let argv = [
            find_program(USERADD)?,
            "-M",
            "-N",
            "-u",
            &uid,
            "-g",
            &gid,
            "-d",
            &home,
            "-s",
            find_program(NOLOGIN)?,
            "-c",
            "ComfyUI sandbox (comfy)",
            name,
        ];
        run_or_fail(&self.0, &format!("user.{name}"), &argv).map(drop)
    }

    fn change_user(&self, name: &str, gid: u32, home: &Path) -> Result<()> {
        let (gid, home) = (gid.to_string(), home.display().to_string());
        run_or_fail(
            &self.0,
            &format!("user.{name}"),
            &[
                find_program(USERMOD)?,
                "-g",
                &gid,
                "-d",
                &home,
                "-s",
                find_program(NOLOGIN)?,
                name,
            ],
        )
        .map(drop)
    }

    fn delete_user(&self, name: &str) -> Result<()> {
        if matches!(self.find_user(name), Ok(None)) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &format!("user.{name}"),
            &[find_program(USERDEL)?, name],
        )
        .map(drop)
        .map_err(|p| {
            p.with_hint(format!(
                "if it is in use, stop its processes: pkill -u {name}"
            ))
        })
    }

    fn add_member(&self, user: &str, group: &str) -> Result<()> {
        if matches!(self.is_member(user, group), Ok(true)) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &format!("member.{user}"),
            &[find_program(GPASSWD)?, "-a", user, group],
        )
        .map(drop)
    }

    fn remove_member(&self, user: &str, group: &str) -> Result<()> {
        if matches!(self.is_member(user, group), Ok(false)) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &format!("member.{user}"),
            &[find_program(GPASSWD)?, "-d", user, group],
        )
        .map(drop)
    }

    fn grant_search(&self, folder: &Path, _: &str, uid: u32) -> Result<()> {
        acl::change_entry(folder, uid, true)
    }

    fn revoke_search(&self, folder: &Path, _: &str, uid: u32) -> Result<()> {
        acl::change_entry(folder, uid, false)
    }
}

/// Supplementary groups by name, from every source that NSS knows.
#[cfg(target_os = "linux")]
fn groups_of(name: &str, gid: nix::unistd::Gid) -> Seen<Vec<String>> {
    let c =
        std::ffi::CString::new(name).map_err(|_| UnknownState::new("a NUL in a name", false))?;
    let gids = nix::unistd::getgrouplist(&c, gid)
        .map_err(|e| unknown_errno(format!("groups of {name}"), e))?;
    Ok(gids
        .into_iter()
        .filter(|g| *g != gid)
        .map(|g| {
            nix::unistd::Group::from_gid(g)
                .ok()
                .flatten()
                .map_or_else(|| g.to_string(), |g| g.name)
        })
        .collect())
}

/// nix leaves getgrouplist(3) out on Apple; this module is then only compiled, never chosen.
#[cfg(not(target_os = "linux"))]
fn groups_of(_: &str, _: nix::unistd::Gid) -> Seen<Vec<String>> {
    Ok(Vec::new())
}
