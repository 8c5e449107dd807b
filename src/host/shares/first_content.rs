//! The first content of what a node may write: copied once from the sealed tree into the sandbox
//! user's state.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use crate::host::fs::{as_mode, c_string, file_type, lstat_at, open_dir_at, open_parent};
use crate::manifest::names;
use crate::plan::observed::FileType;

/// Copies `from`, sealed, to `base/inner`; what is there already stays as it is. Missing parents
/// are made. Everything made belongs to `uid`. Nothing that is there already is opened for writing,
/// and no link is followed.
pub(crate) fn copy_first_content(
    from: &Path,
    base: &Path,
    inner: &Path,
    uid: u32,
    gid: u32,
) -> io::Result<()> {
    let own = (Uid::from_raw(uid), Gid::from_raw(gid));
    let to = base.join(inner);
    let missing: Vec<&Path> = to
        .ancestors()
        .skip(1)
        .take_while(|p| *p != base)
        .filter(|p| p.symlink_metadata().is_err())
        .collect();
    for folder in missing.into_iter().rev() {
        crate::host::fs::edit::make_dir(folder, uid, gid, 0o755)?;
    }
    // Nothing of it is tracked: a file the node makes itself, through the link; a folder has to be
    // there.
    let untracked = || {
        if names::stands_for_folder(&inner.to_string_lossy()) && to.symlink_metadata().is_err() {
            crate::host::fs::edit::make_dir(&to, uid, gid, 0o755)
        } else {
            Ok(())
        }
    };
    let (source, source_name) = match open_parent(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return untracked(),
        r => r?,
    };
    if lstat_at(&source, &source_name) == Err(Errno::ENOENT) {
        return untracked();
    }
    let (target, target_name) = open_parent(&to)?;
    if lstat_at(&target, &target_name).is_ok() {
        return Ok(());
    }
    // Under another name until it is whole: a kill leaves nothing that looks finished.
    let temporary = c_string(format!(".{}.comfy-seed", target_name.to_string_lossy()).as_ref())?;
    match lstat_at(&target, &temporary) {
        Err(Errno::ENOENT) => {}
        // Of a killed run: closed to everybody, so that nobody can have put anything into it.
        Ok(st)
            if st.st_uid == nix::unistd::geteuid().as_raw()
                && crate::host::fs::permission_bits(&st) & 0o077 == 0 =>
        {
            crate::host::fs::edit::remove_tree(&target, &temporary)?
        }
        // The sandbox user can have moved others' things here.
        Ok(_) => crate::host::fs::edit::move_aside(&target, &temporary)?,
        Err(e) => return Err(e.into()),
    }
    copy_entry(&source, &source_name, &target, &temporary, own, 0)?;
    nix::fcntl::renameat(
        &target,
        temporary.as_c_str(),
        &target,
        target_name.as_c_str(),
    )?;
    Ok(())
}

fn copy_entry(
    from: &OwnedFd,
    from_name: &CStr,
    to: &OwnedFd,
    to_name: &CStr,
    own: (Uid, Gid),
    depth: usize,
) -> io::Result<()> {
    let st = lstat_at(from, from_name)?;
    match file_type(&st) {
        FileType::Dir if depth < 64 => {
            match mkdirat(to, to_name, as_mode(0o700)) {
                // There already: the node's own, kept.
                Err(Errno::EEXIST) => return Ok(()),
                r => r?,
            }
            let (source, target) = (open_dir_at(from, from_name)?, open_dir_at(to, to_name)?);
            for entry in nix::dir::Dir::from_fd(source.try_clone()?)?.iter() {
                let entry = entry?;
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    copy_entry(&source, name, &target, name, own, depth + 1)?;
                }
            }
            if nix::sys::stat::fstat(&target)?.st_uid == nix::unistd::geteuid().as_raw() {
                fchown(&target, Some(own.0), Some(own.1))?;
                fchmod(&target, as_mode(0o755))?;
            }
        }
        FileType::File => {
            let source = openat(
                from,
                from_name,
                OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            let target = match openat(
                to,
                to_name,
                OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC,
                as_mode(0o600),
            ) {
                Err(Errno::EEXIST) => return Ok(()),
                r => r?,
            };
            let mut target = std::fs::File::from(target);
            io::copy(&mut std::fs::File::from(source), &mut target)?;
            fchown(&target, Some(own.0), Some(own.1))?;
            fchmod(&target, as_mode(0o644))?;
        }
        _ => {}
    }
    Ok(())
}
