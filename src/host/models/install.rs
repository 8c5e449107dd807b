//! Installs verified files in a share, by descriptor: no link on the way is followed, and a file
//! appears only when it is complete.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};

use super::content_hash::{self, ContentHasher};
use super::verified_hashes::Key;
use crate::host::fs::{
    acl, as_mode, c_string, clone, edit, file_type, lstat_at, open_dir, open_dir_at, open_parent,
};
use crate::lock::Sha256Digest;
use crate::manifest::ShareAccess;
use crate::plan::observed::{FileType, ShareSpec};
use crate::progress::Progress;

/// A file whose bytes are those of the lock, or are about to be compared with it.
pub(crate) struct VerifiedFile {
    pub file: File,
    /// Its stat data when it was verified.
    pub key: Key,
}

/// Opens a regular file, not following a link at its end; `allowed` decides by its stat data.
///
/// # Errors
/// If it is not a regular file, or not allowed.
pub(crate) fn open_regular(path: &Path, allowed: &dyn Fn(&FileStat) -> bool) -> io::Result<File> {
    let (dir, name) = open_parent(path)?;
    let fd = openat(
        &dir,
        name.as_c_str(),
        OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC,
        as_mode(0),
    )?;
    let st = fstat(&fd)?;
    if file_type(&st) != FileType::File {
        return Err(io::Error::other("is not a regular file"));
    }
    if !allowed(&st) {
        return Err(io::Error::other(
            "belongs to a user whose files are not read here",
        ));
    }
    Ok(File::from(fd))
}

/// Reads it to its end and compares its SHA-256, which alone decides; the one of another file is
/// returned.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn verify_content(
    file: File,
    size: u64,
    sha256: Sha256Digest,
    progress: &dyn Progress,
) -> io::Result<Result<VerifiedFile, Sha256Digest>> {
    let key = Key::of(&fstat(&file)?);
    let mut done = 0;
    let (read, found) = content_hash::whole(&file, ContentHasher::sha256(), &mut |n| {
        done += n;
        progress.set_position(done, size.max(1));
    })?;
    Ok(if read == size && found.sha256 == sha256 {
        Ok(VerifiedFile { file, key })
    } else {
        Err(found.sha256)
    })
}

/// Installs the content of `good` at `path` in the share; returns its stat data.
///
/// `staged`: the file lies in comfy's own folder under that path and may be moved; it is root's
/// alone since it was verified.
///
/// # Errors
/// If something could not be created or written; the share then has the old file, or none.
pub(crate) fn put_file(
    share: &ShareSpec,
    path: &str,
    good: &VerifiedFile,
    sha256: Sha256Digest,
    staged: Option<&Path>,
) -> io::Result<FileStat> {
    let (folder, name) = folder_within(share, path)?;
    let name = c_string(name.as_ref())?;
    if let Ok(st) = lstat_at(&folder, &name)
        && file_type(&st) != FileType::File
    {
        return Err(io::Error::other(
            "something that is not a file is in its place: move it away",
        ));
    }
    if let Some(staged) = staged
        && Key::of(&fstat(&good.file)?) == good.key
    {
        let (from, from_name) = open_parent(staged)?;
        let same = lstat_at(&from, &from_name).is_ok_and(|st| {
            fstat(&good.file).is_ok_and(|g| g.st_ino == st.st_ino && g.st_dev == st.st_dev)
        });
        if same && fstat(&good.file)?.st_dev == fstat(&folder)?.st_dev {
            let verified = fstat(&good.file)?;
            set_ownership(share, &good.file)?;
            match renameat(&from, from_name.as_c_str(), &folder, name.as_c_str()) {
                Ok(()) => return ensure_unwritten(&verified, fstat(&good.file)?),
                // Two mounts of one file system.
                Err(Errno::EXDEV) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let temporary =
        c_string(format!(".{}.comfy-{}", name.to_string_lossy(), std::process::id()).as_ref())?;
    sweep_leftovers(&folder, &name, share.owner)?;
    let made = copy_verified(&good.file, &folder, &temporary, sha256).and_then(|file| {
        // On the disk before anybody else may write it: what takes long is behind us then.
        file.sync_data()?;
        let verified = fstat(&file)?;
        set_ownership(share, &file)?;
        renameat(&folder, temporary.as_c_str(), &folder, name.as_c_str())?;
        let (st, there) = (
            ensure_unwritten(&verified, fstat(&file)?)?,
            lstat_at(&folder, &name)?,
        );
        // In a share that the sandbox may write, it may have put another file under the temporary
        // name.
        if (st.st_ino, st.st_dev) == (there.st_ino, there.st_dev) {
            Ok(st)
        } else {
            Err(io::Error::other("somebody replaced it in the meantime"))
        }
    });
    if made.is_err() {
        let _ = unlinkat(&folder, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir);
    }
    made
}

/// Opens the folder of `path` in the share, creating it if missing; returns it with the name in it.
fn folder_within<'a>(share: &ShareSpec, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    let top = open_dir(&share.path)?;
    match path.rsplit_once('/') {
        Some((folders, name)) => Ok((open_subfolders(share, top, folders)?, name)),
        None => Ok((top, path)),
    }
}

/// Gives the file at `path` a second name beside it, with that ending, so that a rename over it
/// loses nothing; that name's path. `None`: there is no file.
///
/// # Errors
/// If it cannot be kept.
pub(crate) fn keep_aside(
    share: &ShareSpec,
    path: &str,
    ending: &str,
) -> io::Result<Option<PathBuf>> {
    let (folder, name) = folder_within(share, path)?;
    let (from, to) = (
        c_string(name.as_ref())?,
        c_string(format!("{name}.{ending}").as_ref())?,
    );
    match lstat_at(&folder, &from) {
        Ok(st) if file_type(&st) == FileType::File => {}
        Ok(_) => {
            return Err(io::Error::other(
                "something that is not a file is in its place: move it away",
            ));
        }
        Err(Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    match linkat(
        &folder,
        from.as_c_str(),
        &folder,
        to.as_c_str(),
        AtFlags::empty(),
    ) {
        Ok(()) => {}
        // A file system without second names: for a moment there is none.
        Err(Errno::EPERM | Errno::ENOTSUP | Errno::ENOSYS | Errno::EMLINK) => {
            if lstat_at(&folder, &to).is_ok() {
                return Err(Errno::EEXIST.into());
            }
            renameat(&folder, from.as_c_str(), &folder, to.as_c_str())?;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(Some(share.path.join(format!("{path}.{ending}"))))
}

/// Returns whether nobody wrote to it since it was verified. Only then is its hash recorded.
fn ensure_unwritten(verified: &FileStat, now: FileStat) -> io::Result<FileStat> {
    let content = |st: &FileStat| (st.st_size, st.st_mtime, st.st_mtime_nsec);
    if content(verified) == content(&now) {
        Ok(now)
    } else {
        Err(io::Error::other("somebody wrote to it in the meantime"))
    }
}

/// Removes what killed runs have left of this file: copies of root's, or those that were the
/// owner's already.
fn sweep_leftovers(folder: &OwnedFd, name: &CStr, owner: u32) -> io::Result<()> {
    let start = [b".", name.to_bytes(), b".comfy-"].concat();
    let me = nix::unistd::geteuid().as_raw();
    for entry in nix::dir::Dir::from_fd(open_dir_at(folder, c".")?)?.iter() {
        let entry = entry?;
        let found = entry.file_name();
        let ours = || {
            lstat_at(folder, found).is_ok_and(|st| {
                file_type(&st) == FileType::File && (st.st_uid == me || st.st_uid == owner)
            })
        };
        if found.to_bytes().starts_with(&start) && edit::left_over(found) && ours() {
            let _ = unlinkat(folder, found, UnlinkatFlags::NoRemoveDir);
        }
    }
    Ok(())
}

/// A copy that is the caller's alone, verified.
fn copy_verified(
    from: &File,
    folder: &OwnedFd,
    name: &CStr,
    sha256: Sha256Digest,
) -> io::Result<File> {
    let wrong = || io::Error::other("its content changed while it was copied");
    if let Some(clone) = clone::clone_file(from, folder, name)? {
        // The clone is as good as what it was cloned from, which others may write.
        let (_, found) = content_hash::whole(&clone, ContentHasher::sha256(), &mut |_| {})?;
        return if found.sha256 == sha256 {
            Ok(clone)
        } else {
            Err(wrong())
        };
    }
    let mut to = clone::create_file(folder, name)?;
    let mut hasher = ContentHasher::sha256();
    let mut block = vec![0; content_hash::BLOCK];
    let mut source = from;
    io::Seek::rewind(&mut source)?;
    loop {
        let n = match io::Read::read(&mut source, &mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&block[..n]);
        io::Write::write_all(&mut to, &block[..n])?;
    }
    if hasher.digests().sha256 == sha256 {
        Ok(to)
    } else {
        Err(wrong())
    }
}

/// The share's owner and group, and a mode that lets both read it (0644, not the 0600 of a
/// download).
fn set_ownership(share: &ShareSpec, file: &File) -> io::Result<()> {
    acl::drop_all(file);
    if nix::unistd::geteuid().is_root() {
        fchown(
            file,
            Some(Uid::from_raw(share.owner)),
            Some(Gid::from_raw(if share.modes {
                share.gid
            } else {
                share.owner_gid
            })),
        )?;
    }
    Ok(fchmod(
        file,
        as_mode(if share.modes && share.access == ShareAccess::Write {
            0o664
        } else {
            0o644
        }),
    )?)
}

/// Opens the folders below the share's own one after the other, making those that are missing.
fn open_subfolders(share: &ShareSpec, top: OwnedFd, folders: &str) -> io::Result<OwnedFd> {
    let mut at = top;
    for part in folders.split('/') {
        let name = c_string(part.as_ref())?;
        match mkdirat(&at, name.as_c_str(), as_mode(0o700)) {
            Ok(()) => {
                let fd = open_dir_at(&at, &name)?;
                // Where the sandbox may write it can have put another one there meanwhile.
                if fstat(&fd)?.st_uid != nix::unistd::geteuid().as_raw() {
                    return Err(io::Error::other(format!(
                        "{part}: somebody replaced the new folder"
                    )));
                }
                acl::drop_all(&fd);
                if share.modes {
                    fchown(
                        &fd,
                        Some(Uid::from_raw(share.owner)),
                        Some(Gid::from_raw(share.gid)),
                    )?;
                }
                fchmod(
                    &fd,
                    as_mode(if share.modes {
                        share.root_mode()
                    } else {
                        0o755
                    }),
                )?;
                at = fd;
            }
            Err(Errno::EEXIST) => at = open_dir_at(&at, &name)?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(at)
}

/// Whether a file could be put at `path`, as far as that can be told before: the nearest folder
/// that is there takes new files.
///
/// # Errors
/// It does not.
pub(crate) fn check_writable(
    share: &ShareSpec,
    path: &str,
) -> Result<(), (std::path::PathBuf, Errno)> {
    let whole = share.path.join(path);
    let there = whole
        .ancestors()
        .skip(1)
        .find(|p| p.symlink_metadata().is_ok())
        .unwrap_or(Path::new("/"));
    nix::unistd::access(
        there,
        nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK,
    )
    .map_err(|e| (there.to_path_buf(), e))
}
