//! macOS: Directory Services through dscl(1) and dseditgroup(8), search-only ACL entries through
//! ls(1) and chmod(1).
//!
//! There is no `cfg` here: requests become argv and captured output becomes facts, so all of it is
//! tested on Linux. Where the man pages are silent, the source is Apple's own: DSTools (`dscl.m`,
//! `dseditgroup.c`), file_cmds (`ls/print.c`), shell_cmds (`id.c`), xnu (`kauth_acl_evaluate`); and
//! nix-installer (`create_user.rs`), nix-darwin (`modules/users`) for what only a real Mac tells.

use std::path::Path;

use super::{AccountDatabase, run_or_fail};
use crate::host::process::{ProgramOutput, ProgramRunner};
use crate::kinds::account::NO_LOGIN;
use crate::plan::observed::{GroupAccount, SearchPermission, Seen, UnknownState, UserAccount};
use crate::problem::{Problem, Result};
use crate::text::escape_text;

pub struct MacAccounts<R: ProgramRunner>(pub R);

const DSCL: &str = "/usr/bin/dscl";
const DSEDITGROUP: &str = "/usr/sbin/dseditgroup";
const CHMOD: &str = "/bin/chmod";

/// The group of everybody's files on a Mac: an account in it reads what is group-readable in the
/// owner's home.
const STAFF: u32 = 20;
/// Computed groups that every local account is in: they say nothing about one of them.
const OF_EVERYBODY: &[&str] = &["everyone", "localaccounts"];
const SHELL: &str = "/usr/bin/false";
const RETRIES: usize = 10;
const SIGKILLED: i32 = 128 + 9;

const FULL_DISK_ACCESS: &str = "over SSH, macOS changes accounts only with Full Disk Access: \
    System Settings > General > Sharing > Remote Login > (i) > Allow full disk access for remote \
    users; or run comfy in a terminal of a graphical session, and allow it what macOS asks";
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
        "{what}: {program} ended with {}: {}",
        out.status,
        if words.is_empty() {
            "it said nothing".into()
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

fn failed_problem(what: &str, program: &str, out: &ProgramOutput) -> Problem {
    let p = Problem::new(failure_text(what, program, out));
    if is_denied(out) {
        p.with_hint(FULL_DISK_ACCESS)
    } else {
        p
    }
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

/// One record of the local node: `/Users/NAME` or `/Groups/NAME`.
#[derive(Debug)]
struct DirectoryRecord {
    path: String,
    keys: plist::Dictionary,
}

impl DirectoryRecord {
    fn parse_plist(path: String, xml: &str) -> Seen<DirectoryRecord> {
        match plist::Value::from_reader_xml(xml.as_bytes()).map(plist::Value::into_dictionary) {
            Ok(Some(keys)) => Ok(DirectoryRecord { path, keys }),
            Ok(None) => Err(unknown(
                &path,
                "dscl printed a property list that is no record",
            )),
            Err(e) => Err(unknown(
                &path,
                &format!(
                    "dscl printed no property list: {}",
                    escape_text(&e.to_string())
                ),
            )),
        }
    }

    /// The values of a standard attribute; none where the record lacks it.
    fn all_values(&self, key: &str) -> Seen<Vec<&str>> {
        let Some(value) = self
            .keys
            .get(&format!("dsAttrTypeStandard:{key}"))
            .or_else(|| self.keys.get(key))
        else {
            return Ok(Vec::new());
        };
        let strings = value
            .as_array()
            .and_then(|values| values.iter().map(plist::Value::as_string).collect());
        strings.ok_or_else(|| unknown(&self.path, &format!("{key} is not a list of strings")))
    }

    fn first_value(&self, key: &str) -> Seen<&str> {
        let why = format!(
            "the record has no {key}; an apply that was cut short leaves such a record: if comfy \
             made it, `sudo {DSCL} . -delete {}`",
            self.path
        );
        self.all_values(key)?
            .first()
            .copied()
            .ok_or_else(|| unknown(&self.path, &why))
    }

    /// An id; Directory Services writes some as negative (`nobody` is -2), the kernel has them
    /// unsigned.
    fn id_value(&self, key: &str) -> Seen<u32> {
        let text = self.first_value(key)?;
        let id = text
            .parse::<u32>()
            .or_else(|_| text.parse::<i32>().map(i32::cast_unsigned));
        id.map_err(|_| {
            unknown(
                &self.path,
                &format!("{key} is `{}`, which is no id", escape_text(text)),
            )
        })
    }
}

/// One line of `ls -le` below the first: ` 0: user:alice inherited allow list,search,file_inherit`
/// (`ls/print.c`, printacl).
#[derive(Debug, PartialEq, Eq)]
struct MacAclEntry {
    who: String,
    allow: bool,
    /// It decides about search on the folder itself; an `only_inherit` entry is for what is made in
    /// it.
    search: bool,
}

impl MacAclEntry {
    fn parse_line(line: &str) -> Option<MacAclEntry> {
        let (index, rest) = line.trim_start().split_once(": ")?;
        index.parse::<u32>().ok()?;
        // Names may hold spaces, words of rights do not: read from the end.
        let (rest, rights) = rest.rsplit_once(' ')?;
        let (who, verb) = rest.rsplit_once(' ')?;
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let has = |word| rights.split(',').any(|r| r == word);
        Some(MacAclEntry {
            who: who.strip_suffix(" inherited").unwrap_or(who).into(),
            allow,
            search: has("search") && !has("only_inherit"),
        })
    }

    fn grants_search(&self, user: &str) -> bool {
        self.allow && self.search && self.who.strip_prefix("user:") == Some(user)
    }
}

impl<R: ProgramRunner> MacAccounts<R> {
    fn run_query(&self, what: &str, argv: &[&str]) -> Seen<ProgramOutput> {
        self.0
            .run_program(argv)
            .map_err(|e| unknown(what, &format!("{} could not be started: {e}", argv[0])))
    }

    fn read_record(&self, kind: &str, name: &str) -> Seen<Option<DirectoryRecord>> {
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
    fn groups_of(&self, name: &str) -> Seen<Vec<String>> {
        let what = format!("groups of {name}");
        let out = self.run_query(&what, &["/usr/bin/id", "-Gn", name])?;
        // The cache of names lags behind a record that was just made; a new user is in no other
        // group.
        if out.status != 0 && out.stderr.contains("no such user") {
            return Ok(Vec::new());
        }
        if out.status != 0 || out.stdout.trim().is_empty() {
            return Err(unreadable_output(&what, "/usr/bin/id", &out));
        }
        Ok(out
            .stdout
            .split_whitespace()
            .skip(1)
            .filter(|g| !OF_EVERYBODY.contains(g))
            .map(String::from)
            .collect())
    }

    /// Runs a changer until it ends otherwise than by what passes: 10 more tries, 500 ms apart.
    fn run_with_retries(&self, what: &str, argv: &[&str]) -> Result<ProgramOutput> {
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
            let _ = self.0.run_program(&["/bin/sleep", "0.5"]);
        }
        call()
    }

    /// Creates a record, or an attribute of it in place of what it was: `create [key value]`
    /// (dscl(1)).
    fn create_record(&self, what: &str, path: &str, attribute: &[&str]) -> Result<()> {
        let out =
            self.run_with_retries(what, &[&[DSCL, ".", "-create", path], attribute].concat())?;
        // Some Macs always kill this one (nix-installer): a user in the login window's list is
        // ugly, not unsafe.
        let ugly = out.status == SIGKILLED && attribute.first() == Some(&"IsHidden");
        if out.status == 0 || ugly {
            Ok(())
        } else {
            Err(failed_problem(
                &[what, attribute.first().unwrap_or(&"record")].join(", "),
                DSCL,
                &out,
            ))
        }
    }

    fn delete_record(&self, what: &str, path: &str) -> Result<()> {
        let out = self.run_with_retries(what, &[DSCL, ".", "-delete", path])?;
        let gone = not_found(&out) || (out.status == 185 && out.stderr.contains("-14009"));
        if out.status == 0 || gone {
            return Ok(());
        }
        let p = failed_problem(what, DSCL, &out);
        let token =
            out.status == 40 && out.stderr.contains("-14120") && path.starts_with("/Users/");
        Err(if token { p.with_hint(SECURE_TOKEN) } else { p })
    }

    /// Whether macOS lets this process write home folders, found out before anything is made: over
    /// SSH without Full Disk Access a user can be half made and not unmade. Writes what is there
    /// back (nix-darwin, `ensurePerms`).
    fn probe_access(&self, what: &str) -> Result<()> {
        let nobody = self
            .read_record("Users", "nobody")
            .map_err(cannot_change(what))?;
        let nobody = nobody.ok_or_else(|| {
            Problem::new(format!("{what}: this Mac has no user `nobody` to try on"))
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
            Err(failed_problem(what, DSCL, &out))
        }
    }

    /// dseditgroup ends with 0 after some failures: `checkmember` has the last word.
    fn edit_member(&self, user: &str, group: &str, option: &str, wanted: bool) -> Result<()> {
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
                "{what}: {DSEDITGROUP} took {user} out of {group}, \
                and it is still a member"
            ))
            .with_hint(format!(
                "it may be in a group that is in {group}, or have it as its primary \
                    group: `dscl . -read /Groups/{group}`"
            ))),
            false => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} added {user} to {group}, and \
                it is no member"
            ))
            .with_hint(format!(
                "both must exist: `dscl . -read /Users/{user}` and `dscl . -read \
                    /Groups/{group}`"
            ))),
        }
    }

    /// The ACL of a folder. `None`: it does not exist.
    fn read_acl(&self, folder: &str) -> Seen<Option<Vec<MacAclEntry>>> {
        let Some(out) = self.query_folder(folder, &["/bin/ls", "-led", folder])? else {
            return Ok(None);
        };
        let mut lines = out.lines();
        let head = lines.next().unwrap_or_default();
        if !head.starts_with('d') {
            return Err(unknown(folder, "ls shows no folder there"));
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

    fn query_folder(&self, folder: &str, argv: &[&str]) -> Seen<Option<String>> {
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
    fn applies_to(&self, entry: &MacAclEntry, user: &str, gids: &[u32]) -> Seen<bool> {
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

    fn edit_acl(&self, folder: &Path, user: &str, mode: &str, wanted: bool) -> Result<()> {
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
                    "the file system must support ACLs; or put the share outside of this folder",
                )
            }),
            _ => Ok(()),
        }
    }
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
            0 => Ok(true),
            67 => Ok(false),
            64 if missing() => Ok(false),
            _ => Err(unreadable_output(&what, DSEDITGROUP, &out)),
        }
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
        let Some(stat) = self.query_folder(path, &["/usr/bin/stat", "-f", "%u %g %Lp", path])?
        else {
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
                "{what}: {DSEDITGROUP} was asked for gid {gid} and made gid {}",
                g.gid
            ))),
            None => Err(Problem::new(format!(
                "{what}: {DSEDITGROUP} said that it made the group, and there is none"
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
        // A record without an id is one that comfy did not finish.
        if let Some(r) = before
            .as_ref()
            .filter(|r| r.all_values("UniqueID") != Ok(Vec::new()))
        {
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
            &["UniqueID", &uid],
            &["PrimaryGroupID", &gid],
            &["NFSHomeDirectory", home],
            &["UserShell", SHELL],
            &["RealName", "ComfyUI sandbox (comfy)"],
            &["IsHidden", "1"],
            &["Password", "*"],
        ];
        let made = attributes
            .iter()
            .try_for_each(|a| self.create_record(&what, &path, a));
        if made.is_err() && before.is_none() {
            // Half a record reads as unknown from then on: better none, so that the next plan
            // starts clean.
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
            .ok_or_else(|| Problem::new(format!("{what}: there is no such user to change")))?;
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
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// Answers calls in order. A call that is not the next one, or one that never came, fails the
    /// test.
    struct Transcript {
        next: Mutex<VecDeque<(String, ProgramOutput)>>,
        log: Mutex<Vec<String>>,
    }

    impl ProgramRunner for Transcript {
        fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput> {
            let line = argv
                .iter()
                .map(|a| {
                    if a.contains([' ', '*']) {
                        format!("'{a}'")
                    } else {
                        (*a).to_string()
                    }
                })
                .collect::<Vec<_>>()
                .join(" ");
            let (expected, out) = self
                .next
                .lock()
                .unwrap()
                .pop_front()
                .unwrap_or_else(|| panic!("nothing more was expected, but: {line}"));
            assert!(
                line == expected
                    || expected
                        .strip_suffix('…')
                        .is_some_and(|start| line.starts_with(start)),
                "expected {expected}\nbut got  {line}"
            );
            self.log.lock().unwrap().push(if out.status == 0 {
                line
            } else {
                format!("{line} -> {}", out.status)
            });
            Ok(out)
        }
    }

    impl Drop for Transcript {
        fn drop(&mut self) {
            let left = self.next.get_mut().unwrap();
            assert!(
                std::thread::panicking() || left.is_empty(),
                "never called: {left:?}"
            );
        }
    }

    /// Each call whole, or its start and `…`.
    fn mac<'a>(
        calls: impl IntoIterator<Item = (&'a str, ProgramOutput)>,
    ) -> MacAccounts<Transcript> {
        MacAccounts(Transcript {
            next: Mutex::new(
                calls
                    .into_iter()
                    .map(|(line, out)| (line.to_string(), out))
                    .collect(),
            ),
            log: Mutex::default(),
        })
    }

    fn log(mac: &MacAccounts<Transcript>) -> String {
        mac.0.log.lock().unwrap().join("\n")
    }

    fn ok(stdout: &str) -> ProgramOutput {
        ProgramOutput {
            stdout: stdout.into(),
            ..ProgramOutput::default()
        }
    }

    fn err(status: i32, stderr: &str) -> ProgramOutput {
        ProgramOutput {
            status,
            stderr: stderr.into(),
            ..ProgramOutput::default()
        }
    }

    fn absent() -> ProgramOutput {
        err(56, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)\n")
    }

    fn record(attributes: &[(&str, &[&str])]) -> ProgramOutput {
        let mut body = String::new();
        for (key, values) in attributes {
            let values: String = values
                .iter()
                .map(|v| format!("\t\t<string>{v}</string>\n"))
                .collect();
            body += &format!("\t<key>{key}</key>\n\t<array>\n{values}\t</array>\n");
        }
        ok(&format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD \
             PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\">\n<dict>\n{body}</dict>\n</plist>\n"
        ))
    }

    fn sandbox() -> ProgramOutput {
        record(&[
            ("dsAttrTypeNative:_writers_passwd", &["comfyui_sandbox"]),
            (
                "dsAttrTypeStandard:AppleMetaNodeLocation",
                &["/Local/Default"],
            ),
            (
                "dsAttrTypeStandard:GeneratedUID",
                &["D6515614-B56A-4943-AA41-18D17DE9F899"],
            ),
            (
                "dsAttrTypeStandard:NFSHomeDirectory",
                &["/Users/comfyui_sandbox"],
            ),
            ("dsAttrTypeStandard:Password", &["********"]),
            ("dsAttrTypeStandard:PrimaryGroupID", &["441"]),
            ("dsAttrTypeStandard:RecordName", &["comfyui_sandbox"]),
            ("dsAttrTypeStandard:UniqueID", &["441"]),
            ("dsAttrTypeStandard:UserShell", &["/usr/bin/false"]),
        ])
    }

    fn nobody() -> ProgramOutput {
        record(&[
            ("dsAttrTypeStandard:NFSHomeDirectory", &["/var/empty"]),
            ("dsAttrTypeStandard:PrimaryGroupID", &["-2"]),
            ("dsAttrTypeStandard:RecordName", &["nobody"]),
            ("dsAttrTypeStandard:UniqueID", &["-2"]),
            ("dsAttrTypeStandard:UserShell", &["/usr/bin/false"]),
        ])
    }

    fn shared(gid: &str) -> ProgramOutput {
        record(&[
            (
                "dsAttrTypeStandard:GroupMembership",
                &["alice", "comfyui_sandbox"],
            ),
            ("dsAttrTypeStandard:PrimaryGroupID", &[gid]),
            ("dsAttrTypeStandard:RealName", &["ComfyUI (comfy)"]),
            ("dsAttrTypeStandard:RecordName", &["comfyshared"]),
        ])
    }

    const READ_USER: &str = "/usr/bin/dscl -plist . -read /Users/comfyui_sandbox";
    const READ_GROUP: &str = "/usr/bin/dscl -plist . -read /Groups/comfyshared";
    const READ_NOBODY: &str = "/usr/bin/dscl -plist . -read /Users/nobody";
    const PROBE: &str =
        "/usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty";
    const ID: &str = "/usr/bin/id -Gn comfyui_sandbox";
    const CREATE: &str = "/usr/bin/dscl . -create /Users/comfyui_sandbox…";
    const HIDE: &str = "/usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1";
    const DELETE: &str = "/usr/bin/dscl . -delete /Users/comfyui_sandbox";
    const CHECK: &str = "/usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared";
    const STAT: &str = "/usr/bin/stat -f '%u %g %Lp' /Users/alice";
    const LS: &str = "/bin/ls -led /Users/alice";
    const SLEEP: &str = "/bin/sleep 0.5";
    const DENIED: &str = "<main> attribute status: eDSPermissionError\n<dscl_cmd> DS Error: -14120 \
        (eDSPermissionError)\n";
    const LATER: &str = "<main> attribute status: eNotYetImplemented\n<dscl_cmd> DS Error: -14988 \
        (eNotYetImplemented)\n";
    const HOME: &str = "/Users/comfyui_sandbox";

    fn create(mac: &MacAccounts<Transcript>) -> Result<()> {
        mac.create_user("comfyui_sandbox", 441, 441, Path::new(HOME))
    }

    // Reading.

    #[test]
    fn a_user_is_read_from_its_record_and_its_groups_from_id() {
        let m = mac([
            (READ_USER, sandbox()),
            (
                ID,
                ok("comfyui_sandbox everyone localaccounts comfyshared _lpoperator\n"),
            ),
        ]);
        insta::assert_debug_snapshot!(m.find_user("comfyui_sandbox").unwrap().unwrap(), @r#"
        UserAccount {
            name: "comfyui_sandbox",
            uid: 441,
            gid: 441,
            home: "/Users/comfyui_sandbox",
            shell: "/usr/bin/false",
            groups: [
                "comfyshared",
                "_lpoperator",
            ],
        }
        "#);
    }

    #[test]
    fn a_user_that_id_does_not_know_yet_has_no_groups_and_a_silent_id_is_unknown() {
        let m = mac([
            (READ_USER, sandbox()),
            (ID, err(1, "id: comfyui_sandbox: no such user\n")),
        ]);
        assert_eq!(
            m.find_user("comfyui_sandbox").unwrap().unwrap().groups,
            Vec::<String>::new()
        );
        let m = mac([(READ_USER, sandbox()), (ID, ok("\n"))]);
        assert!(m.find_user("comfyui_sandbox").is_err());
    }

    #[test]
    fn negative_ids_are_those_of_the_kernel() {
        let m = mac([
            (READ_NOBODY, nobody()),
            ("/usr/bin/id -Gn nobody", ok("nobody\n")),
        ]);
        assert_eq!(
            m.find_user("nobody").unwrap().map(|u| (u.uid, u.gid)),
            Some((4_294_967_294, 4_294_967_294))
        );
    }

    #[test]
    fn a_group_is_read_with_or_without_prefixes_and_members() {
        let m = mac([(READ_GROUP, shared("504"))]);
        assert_eq!(
            m.find_group("comfyshared"),
            Ok(Some(GroupAccount {
                name: "comfyshared".into(),
                gid: 504,
                members: vec!["alice".into(), "comfyui_sandbox".into()]
            }))
        );
        let m = mac([(
            READ_GROUP,
            record(&[
                ("PrimaryGroupID", &["504"]),
                ("RecordName", &["comfyshared"]),
            ]),
        )]);
        assert_eq!(
            m.find_group("comfyshared"),
            Ok(Some(GroupAccount {
                name: "comfyshared".into(),
                gid: 504,
                members: vec![]
            }))
        );
    }

    #[test]
    fn only_the_directory_s_own_word_makes_a_record_absent() {
        assert_eq!(
            mac([(READ_USER, absent())]).find_user("comfyui_sandbox"),
            Ok(None)
        );
        assert_eq!(
            mac([(READ_GROUP, absent())]).find_group("comfyshared"),
            Ok(None)
        );
        for out in [
            err(56, ""),
            err(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n"),
            err(139, ""),
            err(1, "eDSRecordNotFound"),
        ] {
            let seen = mac([(READ_USER, out.clone())]).find_user("comfyui_sandbox");
            assert!(seen.is_err(), "{out:?} gave {seen:?}");
        }
    }

    #[test]
    fn what_is_garbled_is_unknown_and_says_why() {
        let good = sandbox().stdout;
        let cases = [
            String::new(),
            good[..good.len() / 2].into(),
            "<plist version=\"1.0\"><array/></plist>".into(),
            good.replace("<string>441</string>", "<string>4\u{9b}1</string>"),
            good.replace("UniqueID", "Unique"),
            good.replace("PrimaryGroupID", "Primary"),
            good.replace("NFSHomeDirectory", "Home"),
            good.replace("UserShell", "Shell"),
            good.replace("<string>/usr/bin/false</string>", "<integer>3</integer>"),
            good.replace(
                "<key>dsAttrTypeStandard:RecordName</key>\n\t<array>\n",
                "<key>dsAttrTypeStandard:RecordName</key>\n\t<array>\n\t\t<string>alice</string>\n",
            ),
        ];
        let said: Vec<String> = cases
            .iter()
            .map(|c| {
                mac([(READ_USER, ok(c))])
                    .find_user("comfyui_sandbox")
                    .unwrap_err()
                    .reason
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        /Users/comfyui_sandbox: dscl printed no property list: UnexpectedEndOfEventStream
        /Users/comfyui_sandbox: dscl printed no property list: UnclosedXmlElement (offset 534)
        /Users/comfyui_sandbox: dscl printed a property list that is no record
        /Users/comfyui_sandbox: UniqueID is `4\u{9b}1`, which is no id
        /Users/comfyui_sandbox: the record has no UniqueID; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
        /Users/comfyui_sandbox: the record has no PrimaryGroupID; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
        /Users/comfyui_sandbox: the record has no NFSHomeDirectory; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
        /Users/comfyui_sandbox: the record has no UserShell; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
        /Users/comfyui_sandbox: UserShell is not a list of strings
        /Users/comfyui_sandbox: this is another name of `alice`
        ");
    }

    #[test]
    fn a_refused_read_is_one_that_root_can_make() {
        let seen = mac([(READ_USER, err(40, DENIED))])
            .find_user("comfyui_sandbox")
            .unwrap_err();
        assert!(seen.root_can, "{seen:?}");
        assert!(
            !mac([(READ_USER, err(1, "?"))])
                .find_user("comfyui_sandbox")
                .unwrap_err()
                .root_can
        );
    }

    #[test]
    fn membership_is_what_checkmember_says() {
        let no = |status, stdout: &str, stderr: &str| ProgramOutput {
            status,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let cases = [
            (
                no(0, "yes comfyui_sandbox is a member of comfyshared\n", ""),
                Some(true),
            ),
            (
                no(
                    67,
                    "no comfyui_sandbox is NOT a member of comfyshared\n",
                    "",
                ),
                Some(false),
            ),
            (no(64, "", "Group not found.\n"), Some(false)),
            (no(64, "", "Unable to find the user record\n"), Some(false)),
            (
                no(64, "", "getNodeRef failed to obtain a node reference\n"),
                None,
            ),
            (no(77, "", ""), None),
            (no(137, "", ""), None),
        ];
        for (out, expected) in cases {
            assert_eq!(
                mac([(CHECK, out.clone())])
                    .is_member("comfyui_sandbox", "comfyshared")
                    .ok(),
                expected,
                "{out:?}"
            );
        }
    }

    // Search permission.

    fn search(stat: &str, listing: &str) -> Seen<Option<SearchPermission>> {
        mac([(STAT, ok(stat)), (LS, ok(listing))]).search_permission(
            Path::new("/Users/alice"),
            "comfyui_sandbox",
            441,
            &[504, 441],
        )
    }

    fn passes(stat: &str) -> bool {
        search(
            stat,
            "drwxr-x---  30 alice  staff  960 Aug  4 10:00 /Users/alice\n",
        )
        .unwrap()
        .unwrap()
        .passes
    }

    #[test]
    fn the_mode_s_one_class_decides_where_no_entry_does() {
        let cases = [
            "501 20 750",
            "501 20 751",
            "501 504 750",
            "501 504 701",
            "441 20 700",
            "441 504 077",
            "501 20 1777",
        ];
        let said: Vec<String> = cases
            .iter()
            .map(|c| format!("{c}: {}", passes(&format!("{c}\n"))))
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        501 20 750: false
        501 20 751: true
        501 504 750: true
        501 504 701: false
        441 20 700: true
        441 504 077: false
        501 20 1777: true
        ");
    }

    #[test]
    fn acl_entries_are_judged_in_their_order() {
        let head = "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n";
        let cases = [
            " 0: group:everyone deny delete\n 1: user:comfyui_sandbox allow search\n",
            " 0: group:everyone deny delete\n",
            " 0: user:comfyui_sandbox deny list,search\n 1: user:comfyui_sandbox allow search\n",
            " 0: user:comfyui_sandbox allow search\n 1: user:comfyui_sandbox inherited deny \
             search\n",
            " 0: user:comfyui_sandbox inherited allow list,search,file_inherit,directory_inherit\n",
            " 0: user:comfyui_sandbox allow search,directory_inherit,only_inherit\n",
            " 0: user:comfyui_sandbox allow list\n",
            " 0: user:comfyui_sandbox2 allow search\n",
            " 0: group:everyone allow search\n",
            " 0: D6515614-B56A-4943-AA41-18D17DE9F899 allow search\n",
        ];
        let said: Vec<String> = cases
            .iter()
            .map(|c| {
                format!(
                    "{c}    {:?}",
                    search("501 20 750\n", &format!("{head}{c}"))
                        .unwrap()
                        .unwrap()
                )
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        0: group:everyone deny delete
        1: user:comfyui_sandbox allow search
           SearchPermission { passes: true, entry: true }
        0: group:everyone deny delete
           SearchPermission { passes: false, entry: false }
        0: user:comfyui_sandbox deny list,search
        1: user:comfyui_sandbox allow search
           SearchPermission { passes: false, entry: true }
        0: user:comfyui_sandbox allow search
        1: user:comfyui_sandbox inherited deny search
           SearchPermission { passes: true, entry: true }
        0: user:comfyui_sandbox inherited allow list,search,file_inherit,directory_inherit
           SearchPermission { passes: true, entry: true }
        0: user:comfyui_sandbox allow search,directory_inherit,only_inherit
           SearchPermission { passes: false, entry: false }
        0: user:comfyui_sandbox allow list
           SearchPermission { passes: false, entry: false }
        0: user:comfyui_sandbox2 allow search
           SearchPermission { passes: false, entry: false }
        0: group:everyone allow search
           SearchPermission { passes: true, entry: false }
        0: D6515614-B56A-4943-AA41-18D17DE9F899 allow search
           SearchPermission { passes: false, entry: false }
        ");
    }

    #[test]
    fn an_entry_for_a_group_counts_by_its_gid_or_by_membership() {
        let listing = "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n 0: \
            group:comfyshared deny search\n 1: user:comfyui_sandbox allow search\n";
        let ask = |m: MacAccounts<Transcript>| {
            m.search_permission(Path::new("/Users/alice"), "comfyui_sandbox", 441, &[504])
                .map(|s| s.map(|s| s.passes))
        };
        assert_eq!(
            ask(mac([
                (STAT, ok("501 20 750\n")),
                (LS, ok(listing)),
                (READ_GROUP, shared("504"))
            ])),
            Ok(Some(false))
        );
        assert_eq!(
            ask(mac([
                (STAT, ok("501 20 750\n")),
                (LS, ok(listing)),
                (READ_GROUP, shared("505")),
                (CHECK, ok(""))
            ])),
            Ok(Some(false))
        );
        assert_eq!(
            ask(mac([
                (STAT, ok("501 20 750\n")),
                (LS, ok(listing)),
                (READ_GROUP, shared("505")),
                (CHECK, err(67, ""))
            ])),
            Ok(Some(true))
        );
        assert!(
            ask(mac([
                (STAT, ok("501 20 750\n")),
                (LS, ok(listing)),
                (READ_GROUP, absent()),
                (CHECK, err(77, ""))
            ]))
            .is_err()
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_absent_and_one_that_cannot_be_read_is_unknown() {
        let ask = |m: MacAccounts<Transcript>| {
            m.search_permission(Path::new("/Users/alice"), "comfyui_sandbox", 441, &[])
        };
        assert_eq!(
            ask(mac([(
                STAT,
                err(1, "stat: /Users/alice: stat: No such file or directory\n")
            )])),
            Ok(None)
        );
        assert_eq!(
            ask(mac([
                (STAT, ok("501 20 750\n")),
                (LS, err(1, "ls: /Users/alice: No such file or directory\n"))
            ])),
            Ok(None)
        );
        for why in ["Permission denied", "Operation not permitted"] {
            let seen = ask(mac([(
                STAT,
                err(1, &format!("stat: /Users/alice: stat: {why}\n")),
            )]))
            .unwrap_err();
            assert!(seen.root_can, "{seen:?}");
        }
        assert!(
            !ask(mac([(
                STAT,
                err(1, "stat: /Users/alice: stat: Input/output error\n")
            )]))
            .unwrap_err()
            .root_can
        );
    }

    #[test]
    fn a_listing_that_comfy_cannot_read_is_unknown() {
        for listing in [
            "",
            "lrwxr-xr-x 1 root wheel 11 Aug 4 10:00 /Users/alice -> x\n",
            "drwxr-x---+ 30 alice staff 960 Aug 4 10:00 /Users/alice\n",
            "drwxr-x---+ 30 a s 9 x\n 0: user:a maybe search\n",
            "drwxr-x---+ 30 a s 9 x\nwhat\n",
        ] {
            assert!(search("501 20 750\n", listing).is_err(), "{listing}");
        }
        for stat in ["", "501 20\n", "alice staff 750\n", "501 20 999\n"] {
            assert!(
                mac([(STAT, ok(stat))])
                    .search_permission(Path::new("/Users/alice"), "x", 441, &[])
                    .is_err(),
                "{stat}"
            );
        }
        // A folder whose name would print a line of its own is never listed.
        assert!(
            mac([])
                .search_permission(
                    Path::new("/Users/a\n 0: user:x allow search"),
                    "x",
                    441,
                    &[]
                )
                .is_err()
        );
    }

    // Users.

    #[test]
    fn a_user_is_made_attribute_by_attribute_after_a_probe() {
        let c = || (CREATE, ok(""));
        let m = mac([
            (READ_USER, absent()),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
        ]);
        create(&m).unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /usr/bin/dscl -plist . -read /Users/comfyui_sandbox -> 56
        /usr/bin/dscl -plist . -read /Users/nobody
        /usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty
        /usr/bin/dscl . -create /Users/comfyui_sandbox
        /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441
        /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
        /usr/bin/dscl . -create /Users/comfyui_sandbox NFSHomeDirectory /Users/comfyui_sandbox
        /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
        /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)'
        /usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1
        /usr/bin/dscl . -create /Users/comfyui_sandbox Password '*'
        ");
    }

    #[test]
    fn making_a_user_goes_on_where_it_was_cut_short_and_stops_at_somebody_else() {
        let half = record(&[("dsAttrTypeStandard:RecordName", &["comfyui_sandbox"])]);
        for before in [half, sandbox()] {
            let c = || (CREATE, ok(""));
            create(&mac([
                (READ_USER, before),
                (READ_NOBODY, nobody()),
                (PROBE, ok("")),
                c(),
                c(),
                c(),
                c(),
                c(),
                c(),
                c(),
                c(),
            ]))
            .unwrap();
        }
        let other = record(&[("dsAttrTypeStandard:UniqueID", &["502"])]);
        insta::assert_snapshot!(create(&mac([(READ_USER, other)])).unwrap_err(), @r"user.comfyui_sandbox: it exists with uid 502, not 441 (hint: name another user, or ask for that uid)");
        assert!(create(&mac([(READ_USER, err(1, ""))])).is_err());
    }

    #[test]
    fn staff_is_never_a_sandbox_s_group() {
        insta::assert_snapshot!(mac([]).create_user("comfyui_sandbox", 441, 20, Path::new(HOME)).unwrap_err(), @r"user.comfyui_sandbox: gid 20 is `staff`, whose members read the files of every owner on this Mac (hint: give it a group of its own)");
        assert!(
            mac([])
                .change_user("comfyui_sandbox", 20, Path::new(HOME))
                .is_err()
        );
    }

    #[test]
    fn without_full_disk_access_nothing_is_made() {
        let m = mac([
            (READ_USER, absent()),
            (READ_NOBODY, nobody()),
            (PROBE, err(40, DENIED)),
        ]);
        insta::assert_snapshot!(create(&m).unwrap_err(), @r"user.comfyui_sandbox: /usr/bin/dscl ended with 40: <main> attribute status: eDSPermissionError; <dscl_cmd> DS Error: -14120 (eDSPermissionError) (hint: over SSH, macOS changes accounts only with Full Disk Access: System Settings > General > Sharing > Remote Login > (i) > Allow full disk access for remote users; or run comfy in a terminal of a graphical session, and allow it what macOS asks)");
    }

    #[test]
    fn what_passes_is_tried_again_after_a_pause() {
        let c = || (CREATE, ok(""));
        let again = [
            (CREATE, err(140, LATER)),
            (SLEEP, ok("")),
            (CREATE, err(137, "")),
            (SLEEP, ok("")),
            c(),
        ];
        let [a, b, d, e, f] = again;
        let m = mac([
            (READ_USER, absent()),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
            c(),
            a,
            b,
            d,
            e,
            f,
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
        ]);
        create(&m).unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /usr/bin/dscl -plist . -read /Users/comfyui_sandbox -> 56
        /usr/bin/dscl -plist . -read /Users/nobody
        /usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty
        /usr/bin/dscl . -create /Users/comfyui_sandbox
        /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441 -> 140
        /bin/sleep 0.5
        /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441 -> 137
        /bin/sleep 0.5
        /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441
        /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
        /usr/bin/dscl . -create /Users/comfyui_sandbox NFSHomeDirectory /Users/comfyui_sandbox
        /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
        /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)'
        /usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1
        /usr/bin/dscl . -create /Users/comfyui_sandbox Password '*'
        ");
    }

    /// Eleven times killed, with the ten pauses between.
    fn killed(line: &'static str) -> Vec<(&'static str, ProgramOutput)> {
        let mut calls: Vec<_> = (0..10)
            .flat_map(|_| [(line, err(137, "")), (SLEEP, ok(""))])
            .collect();
        calls.push((line, err(137, "")));
        calls
    }

    #[test]
    fn a_kill_that_stays_is_borne_for_is_hidden_only() {
        let start = || {
            vec![
                (READ_USER, absent()),
                (READ_NOBODY, nobody()),
                (PROBE, ok("")),
            ]
        };
        let mut calls = start();
        calls.extend((0..6).map(|_| (CREATE, ok(""))));
        calls.extend(killed(HIDE));
        calls.push((CREATE, ok("")));
        create(&mac(calls)).unwrap();

        let mut calls = start();
        calls.extend(killed(CREATE));
        calls.push((DELETE, absent()));
        insta::assert_snapshot!(create(&mac(calls)).unwrap_err(), @r"user.comfyui_sandbox, record: /usr/bin/dscl ended with 137: it said nothing");
    }

    #[test]
    fn a_user_that_could_not_be_finished_is_taken_away_if_it_was_not_there_before() {
        let m = mac([
            (READ_USER, absent()),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
            (CREATE, ok("")),
            (CREATE, err(1, "?\n")),
            (DELETE, ok("")),
        ]);
        assert!(create(&m).is_err());
        let m = mac([
            (READ_USER, sandbox()),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
            (CREATE, ok("")),
            (CREATE, err(1, "?\n")),
        ]);
        assert!(create(&m).is_err());
    }

    #[test]
    fn only_what_differs_of_a_user_is_changed() {
        let m = mac([(READ_USER, sandbox())]);
        m.change_user("comfyui_sandbox", 441, Path::new(HOME))
            .unwrap();
        let adopted = record(&[
            ("dsAttrTypeStandard:NFSHomeDirectory", &[HOME]),
            ("dsAttrTypeStandard:PrimaryGroupID", &["20"]),
            ("dsAttrTypeStandard:UserShell", &["/bin/zsh"]),
        ]);
        let m = mac([(READ_USER, adopted), (CREATE, ok("")), (CREATE, ok(""))]);
        m.change_user("comfyui_sandbox", 441, Path::new(HOME))
            .unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /usr/bin/dscl -plist . -read /Users/comfyui_sandbox
        /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
        /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
        ");
        assert!(
            mac([(READ_USER, absent())])
                .change_user("comfyui_sandbox", 441, Path::new(HOME))
                .is_err()
        );
    }

    #[test]
    fn deleting_takes_every_word_for_gone_and_explains_a_refusal() {
        for out in [
            ok(""),
            absent(),
            err(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n"),
        ] {
            mac([(DELETE, out)]).delete_user("comfyui_sandbox").unwrap();
        }
        let refused = mac([(
            DELETE,
            err(
                40,
                "<main> delete status: eDSPermissionError\n<dscl_cmd> \
            DS Error: -14120 (eDSPermissionError)\n",
            ),
        )])
        .delete_user("comfyui_sandbox")
        .unwrap_err();
        insta::assert_snapshot!(refused, @r"user.comfyui_sandbox: /usr/bin/dscl ended with 40: <main> delete status: eDSPermissionError; <dscl_cmd> DS Error: -14120 (eDSPermissionError) (hint: over SSH, macOS changes accounts only with Full Disk Access: System Settings > General > Sharing > Remote Login > (i) > Allow full disk access for remote users; or run comfy in a terminal of a graphical session, and allow it what macOS asks) (hint: macOS deletes a user only for somebody with a secure token who is logged in graphically: log in at the screen, then repeat)");
        for out in [err(185, ""), err(1, ""), err(56, "")] {
            assert!(mac([(DELETE, out)]).delete_user("comfyui_sandbox").is_err());
        }
        mac([("/usr/bin/dscl . -delete /Groups/comfyshared", ok(""))])
            .delete_group("comfyshared")
            .unwrap();
    }

    // Groups and members.

    #[test]
    fn a_group_is_made_only_where_there_is_none_and_read_afterwards() {
        const MAKE: &str = "/usr/sbin/dseditgroup -o create…";
        let make = |m: &MacAccounts<Transcript>| m.create_group("comfyshared", 504);
        let m = mac([
            (READ_GROUP, absent()),
            (MAKE, ok("")),
            (READ_GROUP, shared("504")),
        ]);
        make(&m).unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /usr/bin/dscl -plist . -read /Groups/comfyshared -> 56
        /usr/sbin/dseditgroup -o create -r 'ComfyUI (comfy)' -i 504 comfyshared
        /usr/bin/dscl -plist . -read /Groups/comfyshared
        ");
        make(&mac([(READ_GROUP, shared("504"))])).unwrap();
        let problems = [
            mac([(READ_GROUP, shared("505"))]),
            mac([(READ_GROUP, err(1, "?"))]),
            mac([
                (READ_GROUP, absent()),
                (MAKE, ok("")),
                (READ_GROUP, absent()),
            ]),
            mac([
                (READ_GROUP, absent()),
                (MAKE, ok("")),
                (READ_GROUP, shared("505")),
            ]),
            mac([
                (READ_GROUP, absent()),
                (MAKE, err(64, "GID already exists\n")),
                ("/usr/bin/dscl . -delete /Groups/comfyshared", ok("")),
            ]),
        ];
        let said: Vec<String> = problems
            .iter()
            .map(|m| make(m).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        group.comfyshared: it exists with gid 505, not 504 (hint: name another group, or ask for that gid)
        group.comfyshared: /Groups/comfyshared: /usr/bin/dscl ended with 1: ?
        group.comfyshared: /usr/sbin/dseditgroup said that it made the group, and there is none
        group.comfyshared: /usr/sbin/dseditgroup was asked for gid 504 and made gid 505
        group.comfyshared: /usr/sbin/dseditgroup ended with 64: GID already exists
        ");
    }

    #[test]
    fn members_are_added_and_removed_once_and_checked() {
        const EDIT: &str = "/usr/sbin/dseditgroup -o edit…";
        let (yes, no) = (|| (CHECK, ok("")), || (CHECK, err(67, "")));
        let m = mac([no(), (EDIT, ok("")), yes(), yes(), (EDIT, ok("")), no()]);
        m.add_member("comfyui_sandbox", "comfyshared").unwrap();
        m.remove_member("comfyui_sandbox", "comfyshared").unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared -> 67
        /usr/sbin/dseditgroup -o edit -a comfyui_sandbox -t user comfyshared
        /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared
        /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared
        /usr/sbin/dseditgroup -o edit -d comfyui_sandbox -t user comfyshared
        /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared -> 67
        ");
        mac([yes()])
            .add_member("comfyui_sandbox", "comfyshared")
            .unwrap();
        mac([no()])
            .remove_member("comfyui_sandbox", "comfyshared")
            .unwrap();
        let said = [
            mac([no(), (EDIT, ok("")), no()])
                .add_member("comfyui_sandbox", "comfyshared")
                .unwrap_err(),
            mac([yes(), (EDIT, ok("")), yes()])
                .remove_member("comfyui_sandbox", "comfyshared")
                .unwrap_err(),
            mac([
                no(),
                (EDIT, err(64, "Username and password must be provided.\n")),
            ])
            .add_member("comfyui_sandbox", "comfyshared")
            .unwrap_err(),
            mac([no(), (EDIT, ok("")), (CHECK, err(77, "?\n"))])
                .add_member("comfyui_sandbox", "comfyshared")
                .unwrap_err(),
        ];
        insta::assert_snapshot!(said.map(|p| p.to_string()).join("\n"), @r"
        member.comfyui_sandbox: /usr/sbin/dseditgroup added comfyui_sandbox to comfyshared, and it is no member (hint: both must exist: `dscl . -read /Users/comfyui_sandbox` and `dscl . -read /Groups/comfyshared`)
        member.comfyui_sandbox: /usr/sbin/dseditgroup took comfyui_sandbox out of comfyshared, and it is still a member (hint: it may be in a group that is in comfyshared, or have it as its primary group: `dscl . -read /Groups/comfyshared`)
        member.comfyui_sandbox: /usr/sbin/dseditgroup ended with 64: Username and password must be provided.
        member.comfyui_sandbox: comfyui_sandbox in comfyshared: /usr/sbin/dseditgroup ended with 77: ?
        ");
    }

    // ACL entries.

    #[test]
    fn an_entry_is_set_and_taken_away_once() {
        const EDIT: &str = "/bin/chmod…";
        let without = || {
            (
                LS,
                ok("drwxr-x---  30 alice  staff  960 Aug  4 10:00 /Users/alice\n"),
            )
        };
        let with = || {
            (
                LS,
                ok(
                    "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n 0: \
                     user:comfyui_sandbox allow search\n",
                ),
            )
        };
        let gone = || (LS, err(1, "ls: /Users/alice: No such file or directory\n"));
        let alice = Path::new("/Users/alice");
        let m = mac([
            without(),
            (EDIT, ok("")),
            with(),
            with(),
            (EDIT, ok("")),
            without(),
            gone(),
        ]);
        m.grant_search(alice, "comfyui_sandbox", 441).unwrap();
        m.grant_search(alice, "comfyui_sandbox", 441).unwrap();
        m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
        m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
        m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
        insta::assert_snapshot!(log(&m), @r"
        /bin/ls -led /Users/alice
        /bin/chmod +a 'user:comfyui_sandbox allow search' /Users/alice
        /bin/ls -led /Users/alice
        /bin/ls -led /Users/alice
        /bin/chmod -a 'user:comfyui_sandbox allow search' /Users/alice
        /bin/ls -led /Users/alice
        /bin/ls -led /Users/alice -> 1
        ");
        let said = [
            mac([gone()])
                .grant_search(alice, "comfyui_sandbox", 441)
                .unwrap_err(),
            mac([(LS, err(1, "ls: /Users/alice: Operation not permitted\n"))])
                .grant_search(alice, "comfyui_sandbox", 441)
                .unwrap_err(),
            mac([
                without(),
                (
                    EDIT,
                    err(
                        1,
                        "chmod: Failed to set ACL on file '/Users/alice': \
                Operation not supported\n",
                    ),
                ),
            ])
            .grant_search(alice, "comfyui_sandbox", 441)
            .unwrap_err(),
        ];
        insta::assert_snapshot!(said.map(|p| p.to_string()).join("\n"), @r"
        traverse./Users/alice: the folder does not exist
        traverse./Users/alice: /Users/alice: /bin/ls ended with 1: ls: /Users/alice: Operation not permitted
        traverse./Users/alice: /bin/chmod ended with 1: chmod: Failed to set ACL on file '/Users/alice': Operation not supported (hint: the file system must support ACLs; or put the share outside of this folder)
        ");
    }
}
