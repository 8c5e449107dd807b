//! macOS: Directory Services through dscl(1) and dseditgroup(8), search-only ACL entries through
//! ls(1) and chmod(1).
//!
//! There is no `cfg` here: requests become argv and captured output becomes facts, so all of it is
//! tested on Linux. Where the man pages are silent, the source is Apple's own: DSTools (`dscl.m`,
//! `dseditgroup.c`), file_cmds (`ls/print.c`), shell_cmds (`id.c`), xnu (`kauth_acl_evaluate`); and
//! nix-installer (`create_user.rs`), nix-darwin (`modules/users`) for what only a real Mac tells.

mod queries;
mod records;

use std::path::Path;

use records::DirectoryRecord;

use super::{AccountDatabase, run_or_fail};
use crate::host::process::{ProgramOutput, ProgramRunner};
use crate::host::tools::{DSCL, DSEDITGROUP, STAT};
use crate::plan::observed::{
    GroupAccount, NO_LOGIN, SearchPermission, Seen, UnknownState, UserAccount,
};
use crate::problem::{Problem, Result};
use crate::text::escape_text;

pub(crate) struct MacAccounts<R: ProgramRunner>(pub R);

/// The group of everybody's files on a Mac: an account in it reads what is group-readable in the
/// owner's home.
const STAFF: u32 = 20;
const SHELL: &str = "/usr/bin/false";
/// Tells a record of comfy's that has no uid yet from those of others.
const REAL_NAME: &str = "ComfyUI sandbox (comfy)";
const RETRIES: usize = 10;
const SIGKILLED: i32 = 128 + 9;

pub(crate) const FULL_DISK_ACCESS: &str = "over SSH, macOS changes accounts only with Full Disk Access: \
    System Settings > General > Sharing > Remote Login > (i) > Allow full disk access for remote \
    users; or run comfy in a terminal of a graphical session, and allow what macOS asks for";
/// kTCCServiceSystemPolicySysAdminFiles: after one refusal macOS asks no more (nix-darwin,
/// `ensurePerms`).
const ADMINISTRATION: &str = "macOS asks once whether this terminal may administer the computer, \
    and it was not allowed: run `tccutil reset SystemPolicySysAdminFiles`, repeat the command, and \
    choose Allow";
const SECURE_TOKEN: &str = "macOS deletes a user only for somebody with a secure token who is \
    logged in graphically: log in at the screen, then repeat";

/// dscl exits with the status of Directory Services, negated, modulo 256 (`dscl.m`); the text tells
/// which one it was.
fn not_found(out: &ProgramOutput) -> bool {
    out.status == 56 && out.stderr.contains("eDSRecordNotFound")
}

fn is_denied(out: &ProgramOutput) -> bool {
    [
        "-14120",
        "eDSPermissionError",
        "Permission denied",
        "Operation not permitted",
    ]
    .iter()
    .any(|s| out.stderr.contains(s))
}

/// What passes when the same call is made again (nix-installer `create_user.rs`, its issue 1300).
fn is_transient(out: &ProgramOutput) -> bool {
    out.status == SIGKILLED || (out.status == 140 && out.stderr.contains("-14988"))
}

fn failure_text(what: &str, program: &str, out: &ProgramOutput) -> String {
    let words: Vec<String> = out.stderr.lines().map(escape_text).collect();
    format!(
        "{what}: {program} exited with {}: {}",
        out.status,
        if words.is_empty() {
            "it printed nothing".into()
        } else {
            words.join("; ")
        }
    )
}

fn unknown(what: &str, why: &str) -> UnknownState {
    UnknownState::new(format!("{what}: {why}"), false)
}

fn unreadable_output(what: &str, program: &str, out: &ProgramOutput) -> UnknownState {
    UnknownState::new(failure_text(what, program, out), is_denied(out))
}

/// A changer must know what it changes.
fn cannot_change(what: &str) -> impl Fn(UnknownState) -> Problem {
    move |u| Problem::new(format!("{what}: {}", u.reason)).of_kind(u.kind)
}

fn never_staff(what: &str, gid: u32) -> Result<()> {
    let p = || {
        Problem::new(format!(
            "{what}: gid {STAFF} is `staff`, whose members read the files of every owner on this \
             Mac"
        ))
    };
    if gid == STAFF {
        Err(p().with_hint("give it a group of its own"))
    } else {
        Ok(())
    }
}

/// A path as an argument: never an option, and its echo in a listing never a line of its own.
fn plain_argument(path: &Path) -> Seen<&str> {
    let text = path
        .to_str()
        .filter(|s| s.starts_with('/') && !s.chars().any(char::is_control));
    text.ok_or_else(|| {
        unknown(
            &escape_text(&path.to_string_lossy()),
            "macOS's tools are only asked about plain absolute paths",
        )
    })
}

impl<R: ProgramRunner> AccountDatabase for MacAccounts<R> {
    fn find_group(&self, name: &str) -> Seen<Option<GroupAccount>> {
        let Some(r) = self.read_record("Groups", name)? else {
            return Ok(None);
        };
        let members = r
            .all_values("GroupMembership")?
            .into_iter()
            .map(String::from)
            .collect();
        Ok(Some(GroupAccount {
            name: name.into(),
            gid: r.id_value("PrimaryGroupID")?,
            members,
        }))
    }

    fn find_user(&self, name: &str) -> Seen<Option<UserAccount>> {
        let Some(r) = self.read_record("Users", name)? else {
            return Ok(None);
        };
        if r.is_unfinished()? {
            return Ok(None);
        }
        let (uid, gid) = (r.id_value("UniqueID")?, r.id_value("PrimaryGroupID")?);
        let (home, shell) = (
            r.first_value("NFSHomeDirectory")?.into(),
            r.first_value("UserShell")?.into(),
        );
        Ok(Some(UserAccount {
            name: name.into(),
            uid,
            gid,
            home,
            shell,
            groups: self.groups_of(name)?,
        }))
    }

    /// Asks opendirectoryd, as the kernel does; nested and primary groups count. 67 is EX_NOUSER;
    /// 64 (EX_USAGE) stands for a missing user or group and for a directory that does not answer,
    /// so the text decides (`dseditgroup.c`).
    fn is_member(&self, user: &str, group: &str) -> Seen<bool> {
        let what = format!("{user} in {group}");
        let out = self.run_query(
            &what,
            &[DSEDITGROUP, "-o", "checkmember", "-m", user, group],
        )?;
        let says = |s: &&str| out.stderr.contains(*s) || out.stdout.contains(*s);
        let missing = || {
            [
                "Group not found",
                "Unable to find the user record",
                "Invalid group name",
            ]
            .iter()
            .any(says)
        };
        match out.status {
            // Its usage ends with 0 too, where the caller has no account.
            0 if out.stdout.starts_with("yes ") => Ok(true),
            67 => Ok(false),
            64 if missing() => Ok(false),
            _ => Err(unreadable_output(&what, DSEDITGROUP, &out)),
        }
    }

    fn groups_naming(&self, user: &str) -> Seen<Vec<String>> {
        let what = format!("groups that name {user}");
        let argv = [DSCL, ".", "-list", "/Groups", "GroupMembership"];
        let out = self.run_query(&what, &argv)?;
        if out.status != 0 {
            return Err(unreadable_output(&what, DSCL, &out));
        }
        // `admin   root alice` a line.
        let named = |line: &str| {
            let mut words = line.split_whitespace();
            let group = words.next()?;
            words.any(|w| w == user).then(|| group.to_string())
        };
        Ok(out.stdout.lines().filter_map(named).collect())
    }

    /// As the kernel decides (xnu `kauth_acl_evaluate`): the first entry about this user and
    /// search, else the mode's class.
    fn search_permission(
        &self,
        folder: &Path,
        user: &str,
        uid: u32,
        gids: &[u32],
    ) -> Seen<Option<SearchPermission>> {
        let path = plain_argument(folder)?;
        let Some(stat) = self.query_folder(path, &[STAT, "-f", "%u %g %Lp", path])? else {
            return Ok(None);
        };
        let numbers: Option<Vec<u32>> = stat
            .split_whitespace()
            .zip([10, 10, 8])
            .map(|(n, radix)| u32::from_str_radix(n, radix).ok())
            .collect();
        let Some(&[owner, group, mode]) = numbers.as_deref() else {
            return Err(unknown(path, "stat printed no owner, group and mode"));
        };
        let Some(entries) = self.read_acl(path)? else {
            return Ok(None);
        };
        let entry = entries.iter().any(|e| e.grants_search(user));
        for e in entries.iter().filter(|e| e.search) {
            if self.applies_to(e, user, gids)? {
                return Ok(Some(SearchPermission {
                    passes: e.allow,
                    entry,
                }));
            }
        }
        let class = match (uid == owner, gids.contains(&group)) {
            (true, _) => 0o100,
            (_, true) => 0o010,
            _ => 0o001,
        };
        Ok(Some(SearchPermission {
            passes: mode & class != 0,
            entry,
        }))
    }

    /// `-o create` replaces a group that exists (`dseditgroup.c`), so it is only called where
    /// reading shows none.
    fn create_group(&self, name: &str, gid: u32) -> Result<()> {
        let what = format!("group.{name}");
        match self.find_group(name).map_err(cannot_change(&what))? {
            Some(g) if g.gid == gid => return Ok(()),
            Some(g) => {
                return Err(Problem::new(format!(
                    "{what}: it exists with gid {}, not {gid}",
                    g.gid
                ))
                .with_hint("name another group, or ask for that gid"));
            }
            None => {}
        }
        let made = run_or_fail(
            &self.0,
            &what,
            &[
                DSEDITGROUP,
                "-o",
                "create",
                "-r",
                "ComfyUI (comfy)",
                "-i",
                &gid.to_string(),
                name,
            ],
        );
        if let Err(p) = made {
            // The record comes before its gid: where that one is taken, a group without gid stays
            // behind.
            let _ = self.delete_record(&what, &format!("/Groups/{name}"));
            return Err(p);
        }
        match self.find_group(name).map_err(cannot_change(&what))? {
            Some(g) if g.gid == gid => Ok(()),
            Some(g) => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} was asked for gid {gid} but created gid {}",
                g.gid
            ))),
            None => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} reported that it created the group, but the group does not \
                    exist"
            ))),
        }
    }

    fn delete_group(&self, name: &str) -> Result<()> {
        self.delete_record(&format!("group.{name}"), &format!("/Groups/{name}"))
    }

    fn create_user(&self, name: &str, uid: u32, gid: u32, home: &Path) -> Result<()> {
        let what = format!("user.{name}");
        never_staff(&what, gid)?;
        let home = plain_argument(home).map_err(cannot_change(&what))?;
        let before = self
            .read_record("Users", name)
            .map_err(cannot_change(&what))?;
        let unfinished = |r: &&DirectoryRecord| r.is_unfinished() != Ok(true);
        if let Some(r) = before.as_ref().filter(unfinished) {
            let other = r.id_value("UniqueID").map_err(cannot_change(&what))?;
            if other != uid {
                return Err(
                    Problem::new(format!("{what}: it exists with uid {other}, not {uid}"))
                        .with_hint("name another user, or ask for that uid"),
                );
            }
        }
        self.probe_access(&what)?;
        let (path, uid, gid) = (format!("/Users/{name}"), uid.to_string(), gid.to_string());
        let attributes: [&[&str]; 8] = [
            &[],
            &["RealName", REAL_NAME],
            &["Password", "*"],
            &["IsHidden", "1"],
            &["UserShell", SHELL],
            &["NFSHomeDirectory", home],
            &["PrimaryGroupID", &gid],
            // Only now is it an account: one that was cut short before is none, and is made again.
            &["UniqueID", &uid],
        ];
        let made = attributes
            .iter()
            .try_for_each(|a| self.create_record(&what, &path, a));
        if made.is_err() && before.is_none() {
            // Without a uid it is nobody's account; it is removed all the same.
            let _ = self.delete_record(&what, &path);
        }
        made
    }

    /// Writes only what differs: every write of a home needs Full Disk Access.
    fn change_user(&self, name: &str, gid: u32, home: &Path) -> Result<()> {
        let what = format!("user.{name}");
        never_staff(&what, gid)?;
        let home = plain_argument(home).map_err(cannot_change(&what))?;
        // `-create` would make a record where there is none.
        let r = self
            .read_record("Users", name)
            .map_err(cannot_change(&what))?
            .ok_or_else(|| Problem::new(format!("{what}: the user to change does not exist")))?;
        let gid = gid.to_string();
        for (key, wanted, enough) in [
            ("PrimaryGroupID", gid.as_str(), &[][..]),
            ("NFSHomeDirectory", home, &[]),
            ("UserShell", SHELL, NO_LOGIN),
        ] {
            let have = r
                .all_values(key)
                .map_err(cannot_change(&what))?
                .first()
                .copied();
            if !have.is_some_and(|h| h == wanted || enough.contains(&h)) {
                self.create_record(&what, &r.path, &[key, wanted])?;
            }
        }
        Ok(())
    }

    fn delete_user(&self, name: &str) -> Result<()> {
        self.delete_record(&format!("user.{name}"), &format!("/Users/{name}"))
    }

    fn add_member(&self, user: &str, group: &str) -> Result<()> {
        self.edit_member(user, group, "-a", true)
    }

    fn remove_member(&self, user: &str, group: &str) -> Result<()> {
        self.edit_member(user, group, "-d", false)
    }

    fn grant_search(&self, folder: &Path, user: &str, _: u32) -> Result<()> {
        self.edit_acl(folder, user, "+a", true)
    }

    /// `-a` takes these rights away, inherited or not, and leaves what else the entry grants
    /// (chmod(1)).
    fn revoke_search(&self, folder: &Path, user: &str, _: u32) -> Result<()> {
        self.edit_acl(folder, user, "-a", false)
    }
}

#[cfg(test)]
mod tests;
