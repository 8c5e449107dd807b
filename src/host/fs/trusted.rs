//! Whose files and folders decide what happens on this machine: root's and the owner's, where
//! nobody else can put another one in their place.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::{FOLDER, THROUGH, acl, c_string, file_type, open_parent, permission_bits, real_path};
use crate::host::accounts;
use crate::plan::observed::{FileType, Seen};
use crate::problem::{Context, Problem, Result};

/// Bytes of a file that is read whole.
const LARGEST: u64 = 64 << 20;

/// Whatever a file holds that may be anybody's: nothing is believed of it yet. A pipe is not waited
/// for, nor a device read.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub(crate) fn read_regular(path: &Path) -> Result<String> {
    let fail = |e: io::Error| {
        Problem::new(format!("could not read {}: {e}", path.display())).caused_by(&e)
    };
    let fd = openat(
        AT_FDCWD,
        path,
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| fail(e.into()))?;
    let st = fstat(&fd).map_err(|e| fail(e.into()))?;
    if file_type(&st) != FileType::File {
        return Err(
            Problem::new(format!("{} is not a regular file", path.display()))
                .with_hint("put the real file there"),
        );
    }
    read_file(fd.into()).map_err(fail)
}

/// Reads a file that decides what happens on this machine, as [`open_trusted`] opens it.
///
/// # Errors
/// It is not to be trusted, or cannot be read.
pub(crate) fn read_trusted(path: &Path, owners: &[u32]) -> Result<String> {
    read_file(open_trusted(path, owners)?).with_context(|| format!("read {}", path.display()))
}

/// A file of a tree, which a third party wrote: a regular one, reached through no link, read up to
/// 64 MiB.
///
/// # Errors
/// It is something else, or cannot be read.
pub(crate) fn read_plain(path: &Path) -> Result<String> {
    let fail = |e: io::Error| {
        Problem::new(format!("could not read {}: {e}", path.display())).caused_by(&e)
    };
    let (dir, name) = open_parent(path).map_err(fail)?;
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let fd = openat(&dir, name.as_c_str(), flags, Mode::empty()).map_err(|e| fail(e.into()))?;
    if file_type(&fstat(&fd).map_err(|e| fail(e.into()))?) != FileType::File {
        return Err(Problem::new(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    read_file(fd.into()).map_err(fail)
}

fn read_file(file: std::fs::File) -> io::Result<String> {
    let size = file.metadata()?.len();
    let mut text = String::with_capacity(usize::try_from(size.min(LARGEST)).unwrap_or(0) + 1);
    if file.take(LARGEST + 1).read_to_string(&mut text)? as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 64 MiB",
        ));
    }
    Ok(text)
}

/// Whether `text` is what a file holds that decides what happens on this machine.
///
/// # Errors
/// As [`read_trusted`].
pub(crate) fn is_trusted(path: &Path, owners: &[u32], text: &str) -> Result<bool> {
    let mut file = open_trusted(path, owners)?;
    let (mut rest, mut part) = (text.as_bytes(), vec![0; 1 << 16]);
    loop {
        let n = file
            .read(&mut part)
            .with_context(|| format!("read {}", path.display()))?;
        match rest.strip_prefix(&part[..n]) {
            Some([]) if n == 0 => return Ok(true),
            Some(more) if n > 0 => rest = more,
            _ => return Ok(false),
        }
    }
}

/// A regular file with one link, owned by one of `owners`, writable by nobody else, reached through
/// no link of a stranger's and through no folder in which somebody else could put another one in
/// its place.
///
/// # Errors
/// Which of that does not hold.
pub(crate) fn open_trusted(path: &Path, owners: &[u32]) -> Result<std::fs::File> {
    let shown = path.display();
    let owner = owners.first().copied().unwrap_or(0);
    let real = real_path(path, owner)
        .map_err(|u| Problem::new(format!("{shown}: {}", u.reason)).of_kind(u.kind))?;
    let fail = |e: io::Error| Problem::new(format!("could not read {shown}: {e}")).caused_by(&e);
    for folder in real.ancestors().skip(1) {
        let st = nix::sys::stat::stat(folder).map_err(|e| fail(e.into()))?;
        if let Some((why, hint)) = opened_to_others(&st, owners, folder, acl::has_acl(folder)) {
            return Err(Problem::new(format!(
                "{shown}: the folder {} {why}, who could replace the file",
                folder.display()
            ))
            .with_hint(hint));
        }
    }
    let (dir, name) = open_parent(&real).map_err(fail)?;
    let fd = openat(
        &dir,
        name.as_c_str(),
        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| fail(e.into()))?;
    let st = fstat(&fd).map_err(|e| fail(e.into()))?;
    let wrong =
        |what: String, hint: String| Err(Problem::new(format!("{shown} {what}")).with_hint(hint));
    if file_type(&st) != FileType::File {
        return wrong(
            "is not a regular file".into(),
            "put the real file there".into(),
        );
    }
    if !owners.contains(&st.st_uid) {
        return wrong(
            format!("belongs to uid {}, who is neither you nor root", st.st_uid),
            format!("check it, then run: sudo chown {owner} {shown}"),
        );
    }
    if written_by_others(&st, owners, acl::has_acl(&real)) {
        return wrong(
            format!(
                "can be written by others (mode {:04o})",
                permission_bits(&st)
            ),
            format!("chmod go-w {shown}"),
        );
    }
    if st.st_nlink > 1 {
        return wrong(
            format!("has {} hard links", st.st_nlink),
            format!("copy it: cp {shown} {shown}.new && mv {shown}.new {shown}"),
        );
    }
    Ok(fd.into())
}

/// Who else could rename in a folder, and the command that changes it. In a sticky folder everybody
/// renames only what is his.
fn opened_to_others(
    st: &FileStat,
    owners: &[u32],
    folder: &Path,
    listed: bool,
) -> Option<Exposure> {
    let shown = folder.display();
    if st.st_uid != 0 && !owners.contains(&st.st_uid) {
        let home = nix::unistd::User::from_uid(st.st_uid.into())
            .ok()
            .flatten()
            .is_some_and(|u| folder.starts_with(&u.dir));
        let hint = match owners.first() {
            Some(owner) if !home => format!("check it, then run: sudo chown {owner} {shown}"),
            _ => "choose a folder that does not belong to somebody else".into(),
        };
        return Some((format!("belongs to uid {}", st.st_uid), hint));
    }
    let open = permission_bits(st) & 0o1000 == 0 && written_by_others(st, owners, listed);
    open.then(|| {
        (
            format!(
                "can be written by others (mode {:04o})",
                permission_bits(st)
            ),
            format!("chmod go-w {shown}"),
        )
    })
}

/// Whether somebody else than the owners may write it. The owner's own group is the owner alone
/// (useradd(8), USERGROUPS_ENAB) as long as nobody else is in it; where a list of rights stands
/// beside the mode (`listed`), the group's bits are those of others too (acl(5)).
fn written_by_others(st: &FileStat, owners: &[u32], listed: bool) -> bool {
    let own = || !listed && owners.iter().any(|o| accounts::alone_in(*o, st.st_gid));
    permission_bits(st) & 0o002 != 0 || (permission_bits(st) & 0o020 != 0 && !own())
}

/// Opens `path` without following a link, component by component, where nobody but root and
/// `owners` can rename a folder above it. The descriptor stands for what was looked at, whatever
/// happens to the path afterwards.
///
/// # Errors
/// Which folder others can change, with the command that changes that; a link; the system's own.
pub(crate) fn open_guarded(path: &Path, owners: &[u32]) -> Result<OwnedFd> {
    open_each(path, &|st, folder| {
        opened_to_others(st, owners, folder, acl::has_acl(folder))
    })
}

/// A link of the owner's, made by root: in a folder that is the owner's, or root's below the
/// owner's home, and that nobody else can rename.
///
/// # Errors
/// The folder is another, or open to others.
pub(crate) fn set_link(path: &Path, target: &Path, uid: u32, gid: u32) -> Result<()> {
    let (above, name) = super::split_path(path).context("take its name")?;
    let folder = open_guarded(above, &[uid])?;
    let st = fstat(&folder).with_context(|| format!("look at {}", above.display()))?;
    let home = || {
        nix::unistd::User::from_uid(uid.into())
            .ok()
            .flatten()
            .and_then(|u| real_path(&u.dir, uid).ok())
    };
    if st.st_uid != uid && !(st.st_uid == 0 && home().is_some_and(|h| above.starts_with(h))) {
        return Err(Problem::new(format!(
            "the folder {} belongs to uid {}, not to you",
            above.display(),
            st.st_uid
        ))
        .with_hint(crate::desired::VIEW_HINT));
    }
    // The mode of a link means nothing, and its folder is nobody else's: what is chowned is the
    // link that was just made.
    super::edit::set_link_at(&folder, &name, target, Some((uid, gid)))
        .with_context(|| format!("make a link in {}", above.display()))
}

/// [`open_guarded`] wherever it lies.
///
/// # Errors
/// A link; the system's own.
pub(crate) fn open_plain(path: &Path) -> Result<OwnedFd> {
    open_each(path, &|_, _| None)
}

/// Why a folder does not do, and the command that changes that.
type Exposure = (String, String);

fn open_each(path: &Path, wrong: &dyn Fn(&FileStat, &Path) -> Option<Exposure>) -> Result<OwnedFd> {
    let fail = |e: nix::Error| {
        Problem::new(format!(
            "{}: {}",
            path.display(),
            if e == nix::Error::ELOOP {
                "a link is in the way"
            } else {
                e.desc()
            }
        ))
    };
    let mut parts = path.components().peekable();
    let mut at = openat(AT_FDCWD, c"/", FOLDER | THROUGH, Mode::empty()).map_err(fail)?;
    let mut folder = std::path::PathBuf::from("/");
    while let Some(part) = parts.next() {
        match part {
            Component::RootDir => continue,
            Component::Normal(name) => {
                if let Some((why, hint)) = wrong(&fstat(&at).map_err(fail)?, &folder) {
                    return Err(Problem::new(format!(
                        "{}: the folder {} {why}, who could replace it",
                        path.display(),
                        folder.display()
                    ))
                    .with_hint(hint));
                }
                let name = c_string(name)
                    .map_err(|e| Problem::new(format!("{}: {e}", path.display())).caused_by(&e))?;
                let flags = if parts.peek().is_some() {
                    FOLDER | THROUGH
                } else {
                    LAST
                };
                at = openat(&at, name.as_c_str(), flags, Mode::empty()).map_err(fail)?;
                folder.push(part);
            }
            _ => {
                return Err(Problem::new(format!(
                    "{}: the path is not clean",
                    path.display()
                )));
            }
        }
    }
    // With O_PATH a link in the last place is opened itself (open(2)).
    if file_type(&fstat(&at).map_err(fail)?) == FileType::Link {
        return Err(fail(nix::Error::ELOOP));
    }
    Ok(at)
}

/// The last component: a folder, a file or a device, for which no right to read is needed.
#[cfg(target_os = "linux")]
const LAST: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
#[cfg(not(target_os = "linux"))]
const LAST: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Why somebody else than root and `owners` could put another folder in the place of `path`, as far
/// as it is there, and the command that changes that.
///
/// # Errors
/// A folder above it cannot be looked at.
pub(crate) fn why_exposed(path: &Path, owners: &[u32]) -> Seen<Option<String>> {
    for folder in path.ancestors().skip(1) {
        let st = match nix::sys::stat::lstat(folder) {
            Ok(st) => st,
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => continue,
            Err(e) => return Err(super::unreadable(folder, e)),
        };
        if let Some((why, hint)) = opened_to_others(&st, owners, folder, acl::has_acl(folder)) {
            return Ok(Some(format!(
                "the folder {} {why}, who could put another one in the place of {}: {hint}",
                folder.display(),
                path.display()
            )));
        }
    }
    Ok(None)
}
