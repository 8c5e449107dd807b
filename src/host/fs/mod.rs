//! Files by descriptor: no path component that is a link is ever followed when something is
//! changed.

pub(crate) mod acl;
pub(crate) mod bsd_flags;
pub(crate) mod clone;
pub(crate) mod create_beneath;
pub(crate) mod edit;
pub(crate) mod folder_files;
pub(crate) mod mounts;
pub(crate) mod remove;
pub(crate) mod trusted;
pub mod walk;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::plan::observed::{FileType, FsEntry, Seen, UnknownState};

pub(crate) use crate::host::fs::trusted::{is_trusted, read_regular, read_trusted};

/// Enough to go through a folder without reading it: O_PATH on Linux, O_SEARCH (O_EXEC) on macOS
/// (open(2) of both).
#[cfg(target_os = "linux")]
pub(crate) const THROUGH: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
pub(crate) const THROUGH: OFlag = OFlag::from_bits_retain(0x4000_0000);

/// chown(2) of what an O_PATH descriptor stands for; it can be no link that somebody put there
/// since.
pub(crate) fn chown_opened(
    fd: &OwnedFd,
    owner: Option<nix::unistd::Uid>,
    group: Option<nix::unistd::Gid>,
) -> nix::Result<()> {
    #[cfg(target_os = "linux")]
    return nix::unistd::fchownat(fd, c"", owner, group, AtFlags::AT_EMPTY_PATH);
    #[cfg(not(target_os = "linux"))]
    nix::unistd::fchown(fd, owner, group)
}

const FOLDER: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Permission bits of a stat, all twelve.
pub(crate) fn permission_bits(st: &FileStat) -> u32 {
    #[allow(clippy::useless_conversion, reason = "mode_t has 16 bits on macOS")]
    let mode = u32::from(st.st_mode);
    mode & 0o7777
}

pub(crate) fn file_type(st: &FileStat) -> FileType {
    match SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => FileType::Dir,
        SFlag::S_IFREG => FileType::File,
        SFlag::S_IFLNK => FileType::Link,
        _ => FileType::Other,
    }
}

/// A mode as this platform's mode_t.
pub(crate) fn as_mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits as nix::libc::mode_t)
}

pub(crate) fn c_string(s: &std::ffi::OsStr) -> io::Result<CString> {
    CString::new(s.as_bytes()).map_err(|_| io::Error::other("a NUL in a file name"))
}

/// Opens a folder to go through it, every component on its own, following nothing.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let mut at = openat(AT_FDCWD, c"/", FOLDER | THROUGH, Mode::empty())?;
    for c in path.components() {
        match c {
            Component::RootDir => {}
            Component::Normal(name) => {
                at = openat(
                    &at,
                    c_string(name)?.as_c_str(),
                    FOLDER | THROUGH,
                    Mode::empty(),
                )?
            }
            _ => return Err(io::Error::other("a path that is not clean")),
        }
    }
    Ok(at)
}

/// Opens a folder for reading and changing, following nothing.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    match split_path(path) {
        Ok((parent, name)) => open_dir_at(&open_path(parent)?, &name),
        Err(_) => Ok(openat(
            AT_FDCWD,
            c"/",
            FOLDER | OFlag::O_RDONLY,
            Mode::empty(),
        )?),
    }
}

pub(crate) fn open_dir_at(parent: &impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    Ok(openat(
        parent,
        name,
        FOLDER | OFlag::O_RDONLY,
        Mode::empty(),
    )?)
}

/// Whether an open folder has no entries.
pub(crate) fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    // A description of its own: reading moves the position of one that is shared.
    let own = openat(folder, c".", FOLDER | OFlag::O_RDONLY, Mode::empty())?;
    for entry in nix::dir::Dir::from_fd(own)?.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folder and the last component of an absolute path.
pub(crate) fn split_path(path: &Path) -> io::Result<(&Path, CString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, c_string(name)?)),
        _ => Err(io::Error::other(format!(
            "{} has no parent",
            path.display()
        ))),
    }
}

/// The open parent folder of `path`, and its name there.
pub(crate) fn open_parent(path: &Path) -> io::Result<(OwnedFd, CString)> {
    let (parent, name) = split_path(path)?;
    Ok((open_path(parent)?, name))
}

pub(crate) fn lstat_at(dir: &impl AsFd, name: &std::ffi::CStr) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// One entry, not followed.
pub(crate) fn read_entry(path: &Path) -> Seen<Option<FsEntry>> {
    let st = match nix::sys::stat::lstat(path) {
        Ok(st) => st,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(e) => return Err(unreadable(path, e)),
    };
    let kind = file_type(&st);
    let target = match kind {
        FileType::Link => Some(PathBuf::from(
            nix::fcntl::readlink(path).map_err(|e| unreadable(path, e))?,
        )),
        _ => None,
    };
    Ok(Some(FsEntry {
        kind,
        uid: st.st_uid,
        gid: st.st_gid,
        mode: permission_bits(&st),
        target,
    }))
}

pub(crate) fn unreadable(path: &Path, e: Errno) -> UnknownState {
    UnknownState::new(
        format!("{}: {}", path.display(), e.desc()),
        matches!(e, Errno::EACCES | Errno::EPERM),
    )
    .caused_by(&e)
}

/// As [`unreadable`], for an error of the standard library.
pub(crate) fn unread(path: &Path, e: &io::Error) -> UnknownState {
    UnknownState::new(
        format!("{}: {e}", path.display()),
        e.kind() == io::ErrorKind::PermissionDenied,
    )
    .caused_by(e)
}

/// Returns the path without `.` and `..`, as it is written: no link is looked at.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out
}

/// Returns `None` if the entry, or a folder above it, does not exist; every other error stays one.
pub(crate) fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The path behind links, each of which must belong to root or to `owner`; what is missing at the
/// end stays as it is.
pub(crate) fn real_path(path: &Path, owner: u32) -> Seen<PathBuf> {
    walk_links(path, owner, &mut |_| ())
}

/// The links that lead from `path` to its real path, each by the real path of its folder.
pub(crate) fn links_on_way(path: &Path, owner: u32) -> Seen<Vec<PathBuf>> {
    let mut links = Vec::new();
    walk_links(path, owner, &mut |link| links.push(link.to_path_buf()))?;
    Ok(links)
}

fn walk_links(path: &Path, owner: u32, met: &mut dyn FnMut(&Path)) -> Seen<PathBuf> {
    let mut done = PathBuf::from("/");
    let mut todo: Vec<std::ffi::OsString> = path
        .components()
        .rev()
        .filter_map(normal_component)
        .collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        match nix::sys::stat::lstat(&next) {
            Ok(st) if file_type(&st) == FileType::Link => {
                links += 1;
                if links > 40 {
                    return Err(UnknownState::new(
                        format!("{}: links form a loop", path.display()),
                        false,
                    ));
                }
                if st.st_uid != 0 && st.st_uid != owner {
                    return Err(UnknownState::new(
                        format!(
                            "{} is a link that belongs to uid {}, neither root nor the owner",
                            next.display(),
                            st.st_uid
                        ),
                        false,
                    ));
                }
                met(&next);
                let target =
                    PathBuf::from(nix::fcntl::readlink(&next).map_err(|e| unreadable(&next, e))?);
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                todo.extend(target.components().rev().filter_map(normal_component));
            }
            Ok(_) => done = next,
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                done = next;
                while let Some(rest) = todo.pop() {
                    done.push(rest);
                }
            }
            Err(e) => return Err(unreadable(&next, e)),
        }
    }
    Ok(spelled_on_disk(done))
}

/// The same path in the letters that the disk has, as far as it is there: a Mac's usual disk opens
/// `/users/Alice` as `/Users/alice` (fcntl(2), F_GETPATH).
#[cfg(target_os = "macos")]
fn spelled_on_disk(path: PathBuf) -> PathBuf {
    for there in path.ancestors() {
        let Ok(fd) = openat(AT_FDCWD, there, FOLDER | THROUGH, Mode::empty()) else {
            continue;
        };
        let mut own = PathBuf::new();
        if nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETPATH(&mut own)).is_err() {
            continue;
        }
        return match path.strip_prefix(there) {
            Ok(rest) if rest.as_os_str().is_empty() => own,
            Ok(rest) => own.join(rest),
            Err(_) => path,
        };
    }
    path
}

#[cfg(not(target_os = "macos"))]
fn spelled_on_disk(path: PathBuf) -> PathBuf {
    path
}

fn normal_component(c: Component) -> Option<std::ffi::OsString> {
    match c {
        Component::Normal(n) => Some(n.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    }
}
