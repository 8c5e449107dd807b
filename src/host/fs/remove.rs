//! Removing a folder with everything in it, by descriptor: nothing is followed, no other file
//! system is entered, and neither depth nor somebody who goes on making files in it can hold it up
//! for ever.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::{fmt, io};

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{FileStat, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{
    as_mode, bsd_flags, c_string, file_type, lstat_at, open_dir_at, open_parent, permission_bits,
};
use crate::plan::observed::FileType;

/// Folders held open at a time. What lies deeper is moved up, and removed from there: a chain of
/// folders can be longer than any number of descriptors.
const DEPTH: usize = 64;
/// Folders moved up in all: far more than any chain that a disk holds, and an end for one that
/// somebody goes on lengthening.
const MOVES: u64 = 1 << 20;
/// Passes over a folder in which others go on making files.
const ROUNDS: usize = 16;

/// Something in the folder is not for the caller to remove.
#[derive(Debug)]
pub(crate) struct ForeignEntry {
    /// Below the folder.
    pub path: String,
    pub uid: u32,
}

impl fmt::Display for ForeignEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in it belongs to uid {}, which is not the sandbox user's",
            crate::text::escape_text(&self.path),
            self.uid
        )
    }
}

impl std::error::Error for ForeignEntry {}

/// Removes `name` and everything in it; what is gone already is no error.
pub(crate) fn remove_tree(dir: &impl AsFd, name: &CStr) -> io::Result<()> {
    remove_where(dir, name, &|_| true)
}

/// [`remove_tree`] by path; a missing parent is no error either.
pub(crate) fn remove_path(path: &Path) -> io::Result<()> {
    remove_if(path, &|_| true)
}

/// The same for a folder of the sandbox user's, who may have moved others' folders there from a
/// share: those are refused, since what is in them was never the sandbox's to remove. A file that
/// it could move it could as well have removed.
///
/// # Errors
/// [`ForeignEntry`], with what was in front of it gone already.
pub(crate) fn remove_of(path: &Path, sandbox: u32) -> io::Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    // What a killed step has left is closed: the sandbox user could never have moved that here.
    remove_if(path, &|st| {
        st.st_uid == sandbox || (st.st_uid == me && permission_bits(st) & 0o077 == 0)
    })
}

fn remove_if(path: &Path, ours: &dyn Fn(&FileStat) -> bool) -> io::Result<()> {
    match open_parent(path) {
        Ok((dir, name)) => remove_where(&dir, &name, ours),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// unlinkat(2), for an entry that may be locked, as whoever owns one may do to it (chflags(2)).
fn unlink(dir: &impl AsFd, name: &CStr, how: UnlinkatFlags) -> nix::Result<()> {
    match unlinkat(dir, name, how) {
        Err(Errno::EPERM) if bsd_flags::unlock_at(dir, name).is_ok() => unlinkat(dir, name, how),
        other => other,
    }
}

struct TreeRemoval<'a> {
    /// Of folders.
    ours: &'a dyn Fn(&FileStat) -> bool,
    device: nix::libc::dev_t,
    /// The folder that all of it lies in.
    top: OwnedFd,
    /// Entries of `top` that are to go.
    queue: Vec<CString>,
    moved: u64,
}

fn remove_where(dir: &impl AsFd, name: &CStr, ours: &dyn Fn(&FileStat) -> bool) -> io::Result<()> {
    let st = match lstat_at(dir, name) {
        Ok(st) => st,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if file_type(&st) != FileType::Dir {
        return match unlink(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e.into()),
        };
    }
    let top = open_dir_at(dir, name)?;
    let mut r = TreeRemoval {
        ours,
        device: fstat(&top)?.st_dev,
        top,
        queue: Vec::new(),
        moved: 0,
    };
    r.ensure_removable(&fstat(&r.top)?, "")?;
    for _ in 0..ROUNDS {
        r.queue = entry_names(&r.top)?;
        while let Some(next) = r.queue.pop() {
            let top = r.top.try_clone()?;
            r.remove_entry(&top, &next, &next.to_string_lossy(), 1)?;
        }
        match unlink(dir, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::other(format!(
        "{}: a process keeps creating files in it; stop that process",
        name.to_string_lossy()
    )))
}

/// What is in a folder. One that the caller may not read is opened up first.
fn entry_names(fd: &OwnedFd) -> io::Result<Vec<CString>> {
    if !nix::unistd::geteuid().is_root() && permission_bits(&fstat(fd)?) & 0o700 != 0o700 {
        fchmod(fd, as_mode(0o700))?;
    }
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(fd.try_clone()?)?.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens a folder that nothing is mounted on. A mount of the same file system has the same device,
/// so Linux is asked for more (openat2(2)).
fn open_inside(dir: &OwnedFd, name: &CStr) -> nix::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat2(
            dir,
            name,
            OpenHow::new()
                .flags(flags)
                .resolve(ResolveFlag::RESOLVE_NO_XDEV),
        ) {
            // Linux before 5.6, or a container that does not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            other => return other,
        }
    }
    open_dir_at(dir, name).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))
}

fn mounted_error(path: &str) -> io::Error {
    io::Error::other(format!(
        "{}: something is mounted there",
        crate::text::escape_text(path)
    ))
}

/// Gone, or something else by now: the next round looks again.
fn has_changed(e: Errno) -> bool {
    matches!(
        e,
        Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::ELOOP
            | Errno::ENOTEMPTY
            | Errno::EEXIST
    )
}

impl TreeRemoval<'_> {
    fn ensure_removable(&self, st: &FileStat, path: &str) -> io::Result<()> {
        if st.st_dev != self.device {
            return Err(mounted_error(path));
        }
        if (self.ours)(st) {
            Ok(())
        } else {
            Err(io::Error::other(ForeignEntry {
                path: path.into(),
                uid: st.st_uid,
            }))
        }
    }

    fn remove_entry(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        path: &str,
        depth: usize,
    ) -> io::Result<()> {
        let forgive = |r: nix::Result<()>| match r {
            Err(e) if !has_changed(e) => Err(io::Error::from(e)),
            _ => Ok(()),
        };
        let st = match lstat_at(dir, name) {
            Ok(st) => st,
            Err(e) => return forgive(Err(e)),
        };
        if file_type(&st) != FileType::Dir {
            return forgive(unlink(dir, name, UnlinkatFlags::NoRemoveDir));
        }
        let fd = match open_inside(dir, name) {
            Ok(fd) => fd,
            Err(Errno::EXDEV) => return Err(mounted_error(path)),
            Err(e) => return forgive(Err(e)),
        };
        self.ensure_removable(&fstat(&fd)?, path)?;
        let inner = entry_names(&fd)?;
        if depth == DEPTH && !inner.is_empty() {
            self.moved += 1;
            if self.moved > MOVES {
                return Err(io::Error::other(format!(
                    "{}: a process keeps creating folders in it; stop that process",
                    crate::text::escape_text(path)
                )));
            }
            let up = c_string(format!(".comfy-{}-{}", std::process::id(), self.moved).as_ref())?;
            forgive(renameat(dir, name, &self.top, up.as_c_str()))?;
            self.queue.push(up);
            return Ok(());
        }
        for n in inner {
            self.remove_entry(
                &fd,
                &n,
                &format!("{path}/{}", n.to_string_lossy()),
                depth + 1,
            )?;
        }
        drop(fd);
        forgive(unlink(dir, name, UnlinkatFlags::RemoveDir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_folders_longer_than_any_path_goes_and_what_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("kept")).unwrap();
        std::fs::write(dir.path().join("kept/f"), "x").unwrap();
        std::fs::create_dir(dir.path().join("t")).unwrap();
        let mut at = super::super::open_dir(&dir.path().join("t")).unwrap();
        for _ in 0..3000 {
            nix::unistd::symlinkat("../kept", &at, c"l").unwrap_or(());
            nix::sys::stat::mkdirat(&at, c"dddddddddd", as_mode(0o700)).unwrap();
            at = open_dir_at(&at, c"dddddddddd").unwrap();
        }
        remove_path(&dir.path().join("t")).unwrap();
        assert!(!dir.path().join("t").exists());
        assert_eq!(
            std::fs::read_to_string(dir.path().join("kept/f")).unwrap(),
            "x"
        );
    }
}
