//! What is asked of the directory, and how often.

use std::collections::BTreeMap;
use std::path::Path;

use records::{DirectoryRecord, MacAclEntry, parse_id};

use super::{
    ADMINISTRATION, FULL_DISK_ACCESS, MacAccounts, RETRIES, SECURE_TOKEN, SIGKILLED, cannot_change,
    failure_text, is_denied, is_transient, not_found, plain_argument, records, unknown,
    unreadable_output,
};
use crate::host::accounts::{AccountDatabase, run_or_fail};
use crate::host::process::{ProgramOutput, ProgramRunner};
use crate::host::tools::{CHMOD, DSCL, DSEDITGROUP, ID, LAUNCHCTL, LS, SLEEP};
use crate::plan::observed::Seen;
use crate::problem::{Problem, Result};
use crate::text::escape_text;

impl<R: ProgramRunner> MacAccounts<R> {
    pub(super) fn run_query(&self, what: &str, argv: &[&str]) -> Seen<ProgramOutput> {
        self.0
            .run_program(argv)
            .map_err(|e| unknown(what, &format!("{} could not be started: {e}", argv[0])))
    }

    pub(super) fn read_record(&self, kind: &str, name: &str) -> Seen<Option<DirectoryRecord>> {
        let path = format!("/{kind}/{name}");
        let out = self.run_query(&path, &[DSCL, "-plist", ".", "-read", &path])?;
        if not_found(&out) {
            return Ok(None);
        }
        if out.status != 0 {
            return Err(unreadable_output(&path, DSCL, &out));
        }
        let record = DirectoryRecord::parse_plist(path, &out.stdout)?;
        // A record answers to its other names too: adopting one under such a name would adopt
        // somebody else.
        if let Some(primary) = record
            .all_values("RecordName")?
            .first()
            .filter(|n| !n.eq_ignore_ascii_case(name))
        {
            return Err(unknown(
                &record.path,
                &format!("this is another name of `{}`", escape_text(primary)),
            ));
        }
        Ok(Some(record))
    }

    /// Supplementary groups by name. id(1) prints the primary group first (`id.c`, Libinfo
    /// getgrouplist_2).
    pub(super) fn groups_of(&self, name: &str) -> Seen<Vec<String>> {
        let what = format!("groups of {name}");
        let numbers = |name: &str| -> Seen<Option<Vec<u32>>> {
            let out = self.run_query(&what, &[ID, "-G", name])?;
            // The cache of names lags behind a record that was just made; a new user is in no other
            // group.
            if out.status != 0 && out.stderr.contains("no such user") {
                return Ok(None);
            }
            let parsed = out.stdout.split_whitespace().map(parse_id).collect();
            match parsed {
                Some(gids) if out.status == 0 && !out.stdout.trim().is_empty() => Ok(Some(gids)),
                _ => Err(unreadable_output(&what, ID, &out)),
            }
        };
        let Some(own) = numbers(name)? else {
            return Ok(Vec::new());
        };
        // Groups of every account, `nobody` too, say nothing about this one: `everyone`, and one
        // for each folder that the Mac shares with guests.
        let of_everybody =
            numbers("nobody")?.ok_or_else(|| unknown(&what, "this Mac has no user `nobody`"))?;
        let mut rest = own.iter().skip(1).filter(|g| !of_everybody.contains(g));
        let Some(first) = rest.next() else {
            return Ok(Vec::new());
        };
        let names = self.group_names(&what)?;
        let name_of = |gid: &u32| names.get(gid).cloned().unwrap_or_else(|| gid.to_string());
        Ok(std::iter::once(first).chain(rest).map(name_of).collect())
    }

    /// The local groups by gid: `NAME   GID` a line, and a name may hold blanks.
    fn group_names(&self, what: &str) -> Seen<BTreeMap<u32, String>> {
        let out = self.run_query(what, &[DSCL, ".", "-list", "/Groups", "PrimaryGroupID"])?;
        if out.status != 0 {
            return Err(unreadable_output(what, DSCL, &out));
        }
        let pair = |line: &str| {
            let (name, gid) = line.trim_end().rsplit_once(char::is_whitespace)?;
            Some((parse_id(gid)?, name.trim_end().to_string()))
        };
        Ok(out.stdout.lines().filter_map(pair).collect())
    }

    /// A changer that macOS refused: where the caller is decides what helps.
    pub(super) fn failed_problem(&self, what: &str, program: &str, out: &ProgramOutput) -> Problem {
        let p = Problem::new(failure_text(what, program, out));
        if !is_denied(out) {
            return p;
        }
        let session = self.0.run_program(&[LAUNCHCTL, "managername"]);
        let graphical = session.is_ok_and(|s| s.status == 0 && s.stdout.trim() == "Aqua");
        p.with_hint(if graphical {
            ADMINISTRATION
        } else {
            FULL_DISK_ACCESS
        })
    }

    /// Runs a changer until it ends otherwise than by what passes: 10 more tries, 500 ms apart.
    pub(super) fn run_with_retries(&self, what: &str, argv: &[&str]) -> Result<ProgramOutput> {
        let call = || {
            self.0.run_program(argv).map_err(|e| {
                Problem::new(format!("{what}: {} could not be started: {e}", argv[0])).caused_by(&e)
            })
        };
        for _ in 0..RETRIES {
            let out = call()?;
            if !is_transient(&out) {
                return Ok(out);
            }
            // The pause is a program as well: in a transcript it takes no time. Without it the next
            // try is only sooner.
            let _ = self.0.run_program(&[SLEEP, "0.5"]);
        }
        call()
    }

    /// Creates a record, or an attribute of it in place of what it was: `create [key value]`
    /// (dscl(1)).
    pub(super) fn create_record(&self, what: &str, path: &str, attribute: &[&str]) -> Result<()> {
        let out =
            self.run_with_retries(what, &[&[DSCL, ".", "-create", path], attribute].concat())?;
        // Some Macs always kill this one (nix-installer): a user in the login window's list is
        // ugly, not unsafe.
        let ugly = out.status == SIGKILLED && attribute.first() == Some(&"IsHidden");
        if out.status == 0 || ugly {
            Ok(())
        } else {
            Err(self.failed_problem(
                &[what, attribute.first().unwrap_or(&"record")].join(", "),
                DSCL,
                &out,
            ))
        }
    }

    pub(super) fn delete_record(&self, what: &str, path: &str) -> Result<()> {
        let out = self.run_with_retries(what, &[DSCL, ".", "-delete", path])?;
        let gone = not_found(&out) || (out.status == 185 && out.stderr.contains("-14009"));
        if out.status == 0 || gone {
            return Ok(());
        }
        let p = self.failed_problem(what, DSCL, &out);
        let token =
            out.status == 40 && out.stderr.contains("-14120") && path.starts_with("/Users/");
        Err(if token { p.with_hint(SECURE_TOKEN) } else { p })
    }

    /// Whether macOS lets this process write home folders, found out before anything is made: over
    /// SSH without Full Disk Access a user can be half made and not unmade. Writes what is there
    /// back (nix-darwin, `ensurePerms`).
    pub(super) fn probe_access(&self, what: &str) -> Result<()> {
        let nobody = self
            .read_record("Users", "nobody")
            .map_err(cannot_change(what))?;
        let nobody = nobody.ok_or_else(|| {
            Problem::new(format!(
                "{what}: this Mac has no user `nobody` to test with"
            ))
        })?;
        let home = nobody
            .first_value("NFSHomeDirectory")
            .map_err(cannot_change(what))?;
        let out = self.run_with_retries(
            what,
            &[
                DSCL,
                ".",
                "-change",
                &nobody.path,
                "NFSHomeDirectory",
                home,
                home,
            ],
        )?;
        if out.status == 0 {
            Ok(())
        } else {
            Err(self.failed_problem(what, DSCL, &out))
        }
    }

    /// dseditgroup ends with 0 after some failures: `checkmember` decides.
    pub(super) fn edit_member(
        &self,
        user: &str,
        group: &str,
        option: &str,
        wanted: bool,
    ) -> Result<()> {
        let what = format!("member.{user}");
        if self.is_member(user, group) == Ok(wanted) {
            return Ok(());
        }
        run_or_fail(
            &self.0,
            &what,
            &[DSEDITGROUP, "-o", "edit", option, user, "-t", "user", group],
        )?;
        match self.is_member(user, group).map_err(cannot_change(&what))? {
            is if is == wanted => Ok(()),
            true => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} removed {user} from {group}, but it is still a member"
            ))
            .with_hint(format!(
                "it may be in a group that is in {group}, or have it as its primary \
                    group: `dscl . -read /Groups/{group}`"
            ))),
            false => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} added {user} to {group}, but it is not a member"
            ))
            .with_hint(format!(
                "both must exist: `dscl . -read /Users/{user}` and `dscl . -read /Groups/{group}`"
            ))),
        }
    }

    /// The ACL of a folder. `None`: it does not exist.
    pub(super) fn read_acl(&self, folder: &str) -> Seen<Option<Vec<MacAclEntry>>> {
        let Some(out) = self.query_folder(folder, &[LS, "-led", folder])? else {
            return Ok(None);
        };
        let mut lines = out.lines();
        let head = lines.next().unwrap_or_default();
        if !head.starts_with('d') {
            return Err(unknown(folder, "ls does not show a folder there"));
        }
        let entries: Option<Vec<MacAclEntry>> = lines.map(MacAclEntry::parse_line).collect();
        // `+` after the mode announces entries (ls(1)).
        let announced = head
            .split(' ')
            .next()
            .is_some_and(|mode| mode.ends_with('+'));
        match entries {
            Some(e) if !(announced && e.is_empty()) => Ok(Some(e)),
            _ => Err(unknown(
                folder,
                "ls shows an access list that comfy cannot read",
            )),
        }
    }

    pub(super) fn query_folder(&self, folder: &str, argv: &[&str]) -> Seen<Option<String>> {
        let out = self.run_query(folder, argv)?;
        if out.status == 0 {
            return Ok(Some(out.stdout));
        }
        let absent = ["No such file or directory", "Not a directory"]
            .iter()
            .any(|s| out.stderr.contains(s));
        if absent {
            Ok(None)
        } else {
            Err(unreadable_output(folder, argv[0], &out))
        }
    }

    /// Whether an entry is about this user. An identifier without a name belongs to an account that
    /// is gone.
    pub(super) fn applies_to(&self, entry: &MacAclEntry, user: &str, gids: &[u32]) -> Seen<bool> {
        match entry.who.split_once(':') {
            Some(("user", name)) => Ok(name == user),
            Some(("group", "everyone")) => Ok(true),
            Some(("group", name)) => Ok(
                matches!(self.find_group(name), Ok(Some(g)) if gids.contains(&g.gid))
                    || self.is_member(user, name)?,
            ),
            _ => Ok(false),
        }
    }

    pub(super) fn edit_acl(
        &self,
        folder: &Path,
        user: &str,
        mode: &str,
        wanted: bool,
    ) -> Result<()> {
        let what = format!("traverse.{}", folder.display());
        let path = plain_argument(folder).map_err(cannot_change(&what))?;
        let have = self
            .read_acl(path)
            .map_err(cannot_change(&what))?
            .map(|entries| entries.iter().any(|e| e.grants_search(user)));
        match have {
            None if wanted => Err(Problem::new(format!("{what}: the folder does not exist"))),
            Some(have) if have != wanted => run_or_fail(
                &self.0,
                &what,
                &[CHMOD, mode, &format!("user:{user} allow search"), path],
            )
            .map(drop)
            .map_err(|p| {
                p.with_hint(
                    "the file system must support ACLs; or move the share out of this folder",
                )
            }),
            _ => Ok(()),
        }
    }
}
