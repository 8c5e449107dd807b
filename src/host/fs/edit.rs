//! Making folders and links, moving and removing, each by the descriptor of the parent.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

pub(crate) use super::remove::{remove_path, remove_tree};

use super::{
    acl, as_mode, c_string, file_type, lstat_at, open_dir_at, open_parent, permission_bits,
};
use crate::plan::observed::FileType;

/// A folder with exactly this owner, group and mode.
///
/// What is not a folder is moved aside. A third party's folder is never given to the sandbox user:
/// where that user can write it is moved aside too, elsewhere it is refused.
pub(crate) fn make_dir(path: &Path, uid: u32, gid: u32, perm: u32) -> io::Result<()> {
    let (dir, name) = open_parent(path)?;
    let me = nix::unistd::geteuid().as_raw();
    // What a killed step has made is closed to everybody: a folder of root's that is not could have
    // been moved here, too.
    let strange =
        |st: &FileStat| st.st_uid != uid && !(st.st_uid == me && permission_bits(st) & 0o077 == 0);
    match lstat_at(&dir, &name) {
        Ok(st) if file_type(&st) == FileType::Dir => {
            // The sandbox user can move a third party's folder here, from a share: out of the way
            // then, unharmed.
            if strange(&st) && uid != me && fstat(&dir)?.st_uid == uid {
                move_aside(&dir, &name)?;
            }
        }
        Ok(_) => move_aside(&dir, &name)?,
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    match mkdirat(&dir, name.as_c_str(), as_mode(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let fd = open_dir_at(&dir, &name)?;
    let st = fstat(&fd)?;
    // What is to be root's lies where root alone can put it, and is taken back; what is to be the
    // sandbox's is never somebody else's. Where root alone can write, its own folder is taken as it
    // is.
    if uid != me && strange(&st) && !(st.st_uid == me && fstat(&dir)?.st_uid == me) {
        return Err(io::Error::other(format!(
            "belongs to uid {}, not to {uid}; move it away",
            st.st_uid
        )));
    }
    acl::drop_all(&fd);
    if st.st_uid != uid || st.st_gid != gid {
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if permission_bits(&fstat(&fd)?) != perm {
        fchmod(&fd, as_mode(perm))?;
    }
    Ok(())
}

/// The missing folders above `path`, 0755, owned by the owner.
pub(crate) fn make_parents(path: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|p| nix::sys::stat::lstat(*p).is_err_and(|e| e == Errno::ENOENT))
        .collect();
    for folder in missing.into_iter().rev() {
        let (dir, name) = open_parent(folder)?;
        match mkdirat(&dir, name.as_c_str(), as_mode(0o755)) {
            // Another comfy was faster: it is as if it had been there.
            Err(Errno::EEXIST) => continue,
            made => made?,
        }
        let fd = open_dir_at(&dir, &name)?;
        if nix::unistd::geteuid().is_root() {
            fchown(&fd, Some(uid), Some(gid))?;
        }
        fchmod(&fd, as_mode(0o755))?;
    }
    Ok(())
}

/// Out of the way, under a name that nobody has: the sandbox user may have taken those that can be
/// guessed.
pub(crate) fn move_aside(dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    let aside = loop {
        let aside =
            c_string(format!("{}.comfy-{}", name.to_string_lossy(), random_suffix()?).as_ref())?;
        if lstat_at(dir, &aside) == Err(Errno::ENOENT) {
            break aside;
        }
    };
    nix::fcntl::renameat(dir, name, dir, aside.as_c_str())?;
    Ok(())
}

/// A number that nobody can guess.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn random_suffix() -> io::Result<String> {
    Ok(format!(
        "{:016x}",
        getrandom::u64().map_err(io::Error::other)?
    ))
}

/// A link at `path`, put there by rename so that it is never missing; owned by `uid` where nobody
/// else could race for it.
pub(crate) fn set_link(path: &Path, target: &Path, chown_to: Option<(u32, u32)>) -> io::Result<()> {
    let (dir, name) = open_parent(path)?;
    set_link_at(&dir, &name, target, chown_to)
}

pub(crate) fn set_link_at(
    dir: &OwnedFd,
    name: &CStr,
    target: &Path,
    chown_to: Option<(u32, u32)>,
) -> io::Result<()> {
    let mut temporary =
        c_string(format!(".{}.comfy-{}", name.to_string_lossy(), std::process::id()).as_ref())?;
    while let Err(e) = symlinkat(target, dir, temporary.as_c_str()) {
        if e != Errno::EEXIST {
            return Err(e.into());
        }
        // Of a killed run of the same number, or of the sandbox user, who guessed it.
        temporary = c_string(
            format!(
                ".{}.comfy-{}-{}",
                name.to_string_lossy(),
                std::process::id(),
                random_suffix()?
            )
            .as_ref(),
        )?;
    }
    if let Some((uid, gid)) = chown_to {
        fchownat(
            dir,
            temporary.as_c_str(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
    }
    nix::fcntl::renameat(dir, temporary.as_c_str(), dir, name)?;
    Ok(())
}

/// Removes the link at `path` if it leads to `target`; anything else that is there stays.
pub(crate) fn remove_link(path: &Path, target: &Path) -> io::Result<()> {
    let (dir, name) = match open_parent(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        r => r?,
    };
    match nix::fcntl::readlinkat(&dir, name.as_c_str()) {
        Ok(to) if to.as_os_str() == target.as_os_str() => {
            match unlinkat(&dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                // Swapped for a folder in the meantime: not ours to remove.
                Ok(()) | Err(Errno::EISDIR | Errno::EPERM | Errno::ENOENT) => Ok(()),
                Err(e) => Err(e.into()),
            }
        }
        _ => Ok(()),
    }
}

/// Moves `from` to `to`, neither of which may be reached through a link; `to` must not exist.
pub(crate) fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    let ((a, from_name), (b, to_name)) = (open_parent(from)?, open_parent(to)?);
    if lstat_at(&b, &to_name).is_ok() {
        return Err(io::Error::other(format!("{} already exists", to.display())));
    }
    nix::fcntl::renameat(&a, from_name.as_c_str(), &b, to_name.as_c_str())?;
    Ok(())
}

/// Moves `from` to `to`, over what is there.
pub(crate) fn move_over(from: &Path, to: &Path) -> io::Result<()> {
    let ((a, from_name), (b, to_name)) = (open_parent(from)?, open_parent(to)?);
    nix::fcntl::renameat(&a, from_name.as_c_str(), &b, to_name.as_c_str())?;
    Ok(())
}

/// Owner and mode of something in a folder that root alone can write.
pub(crate) fn set_owner(path: &Path, uid: u32, gid: u32, perm: u32) -> io::Result<()> {
    let (dir, name) = open_parent(path)?;
    fchownat(
        &dir,
        name.as_c_str(),
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    // No link: nobody else could put one there.
    nix::sys::stat::fchmodat(
        &dir,
        name.as_c_str(),
        as_mode(perm),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?;
    Ok(())
}

/// Swaps two entries in one step (renameat2(2) RENAME_EXCHANGE, renamex_np(2) RENAME_SWAP).
pub(crate) fn exchange_entries(a: &Path, b: &Path) -> io::Result<()> {
    let ((da, na), (db, nb)) = (open_parent(a)?, open_parent(b)?);
    #[cfg(target_os = "linux")]
    nix::fcntl::renameat2(
        &da,
        na.as_c_str(),
        &db,
        nb.as_c_str(),
        nix::fcntl::RenameFlags::RENAME_EXCHANGE,
    )?;
    #[cfg(target_os = "macos")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: two open folders and two NUL-terminated names that outlive the call.
        let n = unsafe {
            nix::libc::renameatx_np(
                da.as_raw_fd(),
                na.as_ptr(),
                db.as_raw_fd(),
                nb.as_ptr(),
                nix::libc::RENAME_SWAP,
            )
        };
        Errno::result(n)?;
    }
    Ok(())
}

/// A file with these bytes, by rename, durable before it is in place. Only in folders that the
/// caller alone can write.
pub(crate) fn write_file(
    path: &Path,
    bytes: &[u8],
    perm: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    use std::io::Write;
    let (dir, name) = open_parent(path)?;
    let temporary =
        c_string(format!(".{}.comfy-{}", name.to_string_lossy(), std::process::id()).as_ref())?;
    // Left over from a killed run of the same number.
    let _ = unlinkat(&dir, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir);
    let fd = openat(
        &dir,
        temporary.as_c_str(),
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(0o600),
    )?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(bytes).and_then(|()| {
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fchmod(&file, as_mode(perm))?;
        file.sync_data()?;
        Ok(nix::fcntl::renameat(
            &dir,
            temporary.as_c_str(),
            &dir,
            name.as_c_str(),
        )?)
    });
    if written.is_err() {
        let _ = unlinkat(&dir, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir);
    }
    written
}

/// As [`write_file`], for a file that somebody owns: it keeps its permissions, and its owner where
/// root writes.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let before = super::absent_as_none(path.symlink_metadata())?;
    let perm = before.as_ref().map_or(0o644, |m| m.mode() & 0o777);
    let owner = before.filter(|_| nix::unistd::geteuid().is_root());
    write_file(path, bytes, perm, owner.map(|m| (m.uid(), m.gid())))
}

/// Removes what [`write_file`] and [`set_link`] of killed runs have left in a folder that the
/// caller alone can write.
pub(crate) fn sweep_leftovers(folder: &Path) -> io::Result<()> {
    let dir = match super::open_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        r => r?,
    };
    for entry in nix::dir::Dir::from_fd(dir.try_clone()?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if left_over(name) {
            match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT | Errno::EISDIR | Errno::EPERM) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// `.NAME.comfy-PID` of a process that is gone, or of this one, which makes one at a time.
pub(crate) fn left_over(name: &CStr) -> bool {
    let name = name.to_string_lossy();
    let pid = name
        .strip_prefix('.')
        .and_then(|n| n.rsplit_once(".comfy-"))
        .and_then(|(_, pid)| pid.split('-').next()?.parse::<i32>().ok());
    pid.is_some_and(|p| {
        p == nix::unistd::getpid().as_raw()
            || p > 0
                && nix::sys::signal::kill(nix::unistd::Pid::from_raw(p), None) == Err(Errno::ESRCH)
    })
}

/// Everything written below `folder` reaches the disk before this returns.
pub(crate) fn sync_tree(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::unistd::syncfs(&super::open_dir(folder)?)?;
    #[cfg(not(target_os = "linux"))]
    {
        let _ = super::open_path(folder)?;
        nix::unistd::sync();
    }
    Ok(())
}

/// The entries of `folder`, as the last rename has left them, reach the disk before this returns. On
/// macOS fsync(2) stops at the disk's own memory, and sync(2) waits for nothing: the standard library
/// asks for F_FULLFSYNC there.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::from(super::open_dir(folder)?).sync_all()
}

/// Free bytes for the caller on the file system that holds `path` or its nearest parent that is
/// there.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let there = path
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    let st = nix::sys::statvfs::statvfs(there)?;
    #[allow(
        clippy::useless_conversion,
        reason = "the widths differ between the platforms"
    )]
    Ok(u64::from(st.blocks_available()) * st.fragment_size() as u64)
}
