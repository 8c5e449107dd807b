//! Linux: reads through NSS, changes through shadow's programs (useradd(8), groupadd(8),
//! gpasswd(1)).

use std::path::Path;

use nix::errno::Errno;

use super::{Accounts, must};
use crate::host::fs::acl;
use crate::host::process::{Run, first_existing};
use crate::plan::observed::{Group, Search, Seen, Unknown, User};
use crate::problem::{Problem, Result};

pub struct Linux<R: Run>(pub R);

fn unknown(what: String, e: Errno) -> Unknown {
    Unknown::new(format!("{what}: {e}"), false).caused_by(&e)
}

/// getpwnam(3) and friends answer "none" with several codes.
fn absent(e: Errno) -> bool {
    matches!(
        e,
        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM
    ) || e as i32 == 0
}

fn program(candidates: &[&'static str]) -> Result<&'static str> {
    first_existing(candidates).ok_or_else(|| {
        Problem::new(format!(
            "none of {} is on this machine",
            candidates.join(", ")
        ))
        .hint("install the package `passwd` (Debian) or `shadow-utils` (Fedora)")
    })
}

const GROUPADD: &[&str] = &["/usr/sbin/groupadd", "/sbin/groupadd", "/usr/bin/groupadd"];
const GROUPDEL: &[&str] = &["/usr/sbin/groupdel", "/sbin/groupdel", "/usr/bin/groupdel"];
const USERADD: &[&str] = &["/usr/sbin/useradd", "/sbin/useradd", "/usr/bin/useradd"];
const USERMOD: &[&str] = &["/usr/sbin/usermod", "/sbin/usermod", "/usr/bin/usermod"];
const USERDEL: &[&str] = &["/usr/sbin/userdel", "/sbin/userdel", "/usr/bin/userdel"];
const GPASSWD: &[&str] = &["/usr/bin/gpasswd", "/usr/sbin/gpasswd"];
const NOLOGIN: &[&str] = crate::kinds::account::NO_LOGIN;

impl<R: Run> Accounts for Linux<R> {
    fn group(&self, name: &str) -> Seen<Option<Group>> {
        match nix::unistd::Group::from_name(name) {
            Ok(g) => Ok(g.map(|g| Group {
                name: g.name,
                gid: g.gid.as_raw(),
                members: g.mem,
            })),
            Err(e) if absent(e) => Ok(None),
            Err(e) => Err(unknown(format!("group {name}"), e)),
        }
    }

    fn user(&self, name: &str) -> Seen<Option<User>> {
        let user = match nix::unistd::User::from_name(name) {
            Ok(Some(u)) => u,
            Ok(None) => return Ok(None),
            Err(e) if absent(e) => return Ok(None),
            Err(e) => return Err(unknown(format!("user {name}"), e)),
        };
        Ok(Some(User {
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
            .group(group)?
            .is_some_and(|g| g.members.iter().any(|m| m == user)))
    }

    fn search(&self, folder: &Path, _: &str, uid: u32, gids: &[u32]) -> Seen<Option<Search>> {
        acl::search(folder, uid, gids)
    }

    fn create_group(&self, name: &str, gid: u32) -> Result<()> {
        if matches!(self.group(name), Ok(Some(g)) if g.gid == gid) {
            return Ok(());
        }
        must(
            &self.0,
            &format!("group.{name}"),
            &[program(GROUPADD)?, "-g", &gid.to_string(), name],
        )
        .map(drop)
    }

    fn delete_group(&self, name: &str) -> Result<()> {
        if matches!(self.group(name), Ok(None)) {
            return Ok(());
        }
        must(
            &self.0,
            &format!("group.{name}"),
            &[program(GROUPDEL)?, name],
        )
        .map(drop)
    }

    fn create_user(&self, name: &str, uid: u32, gid: u32, home: &Path) -> Result<()> {
        if matches!(self.user(name), Ok(Some(u)) if u.uid == uid) {
            return Ok(());
        }
        let (uid, gid, home) = (uid.to_string(), gid.to_string(), home.display().to_string());
        // No password (useradd leaves `!`), no home: comfy makes the home itself, with the mode it
        // wants.
        let argv = [
            program(USERADD)?,
            "-M",
            "-N",
            "-u",
            &uid,
            "-g",
            &gid,
            "-d",
            &home,
            "-s",
            program(NOLOGIN)?,
            "-c",
            "ComfyUI sandbox (comfy)",
            name,
        ];
        must(&self.0, &format!("user.{name}"), &argv).map(drop)
    }

    fn change_user(&self, name: &str, gid: u32, home: &Path) -> Result<()> {
        let (gid, home) = (gid.to_string(), home.display().to_string());
        must(
            &self.0,
            &format!("user.{name}"),
            &[
                program(USERMOD)?,
                "-g",
                &gid,
                "-d",
                &home,
                "-s",
                program(NOLOGIN)?,
                name,
            ],
        )
        .map(drop)
    }

    fn delete_user(&self, name: &str) -> Result<()> {
        if matches!(self.user(name), Ok(None)) {
            return Ok(());
        }
        must(&self.0, &format!("user.{name}"), &[program(USERDEL)?, name])
            .map(drop)
            .map_err(|p| {
                p.hint(format!(
                    "if it is in use, end its processes: pkill -u {name}"
                ))
            })
    }

    fn add_member(&self, user: &str, group: &str) -> Result<()> {
        if matches!(self.is_member(user, group), Ok(true)) {
            return Ok(());
        }
        must(
            &self.0,
            &format!("member.{user}"),
            &[program(GPASSWD)?, "-a", user, group],
        )
        .map(drop)
    }

    fn remove_member(&self, user: &str, group: &str) -> Result<()> {
        if matches!(self.is_member(user, group), Ok(false)) {
            return Ok(());
        }
        must(
            &self.0,
            &format!("member.{user}"),
            &[program(GPASSWD)?, "-d", user, group],
        )
        .map(drop)
    }

    fn grant_search(&self, folder: &Path, _: &str, uid: u32) -> Result<()> {
        acl::change(folder, uid, true)
    }

    fn revoke_search(&self, folder: &Path, _: &str, uid: u32) -> Result<()> {
        acl::change(folder, uid, false)
    }
}

/// Supplementary groups by name, from every source that NSS knows.
#[cfg(target_os = "linux")]
fn groups_of(name: &str, gid: nix::unistd::Gid) -> Seen<Vec<String>> {
    let c = std::ffi::CString::new(name).map_err(|_| Unknown::new("a NUL in a name", false))?;
    let gids =
        nix::unistd::getgrouplist(&c, gid).map_err(|e| unknown(format!("groups of {name}"), e))?;
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
