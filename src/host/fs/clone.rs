//! Files that share their blocks: a copy that costs no space, where the file system can.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};

use super::mode;

/// A new file `name` in `folder`, 0600 and the caller's own, with the content of `from`: cloned (ioctl_ficlone(2),
/// fclonefileat(2)), or `None` where this file system, or this pair of them, cannot.
///
/// # Errors
/// `name` is there already, or cannot be made.
pub fn clone(from: &File, folder: &OwnedFd, name: &CStr) -> std::io::Result<Option<File>> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let to = create(folder, name)?;
        // SAFETY: FICLONE takes the other file's descriptor as its argument; both are open.
        let done = unsafe { nix::libc::ioctl(to.as_raw_fd(), nix::libc::FICLONE, from.as_fd().as_raw_fd()) };
        if done == 0 {
            return Ok(Some(to));
        }
        nix::unistd::unlinkat(folder, name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
        Ok(None)
    }
    #[cfg(target_os = "macos")]
    {
        use std::os::fd::AsRawFd;
        // CLONE_NOFOLLOW and CLONE_NOOWNERCOPY of sys/clonefile.h.
        const FLAGS: u32 = 0x1 | 0x2;
        // SAFETY: both descriptors are open, and the name is NUL-terminated.
        let done = unsafe { nix::libc::fclonefileat(from.as_fd().as_raw_fd(), folder.as_raw_fd(), name.as_ptr(), FLAGS) };
        if done != 0 {
            let e = std::io::Error::last_os_error();
            return if e.kind() == std::io::ErrorKind::AlreadyExists { Err(e) } else { Ok(None) };
        }
        let fd = openat(folder, name, OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode(0))?;
        super::acl::drop_all(&fd);
        nix::sys::stat::fchmod(&fd, mode(0o600))?;
        Ok(Some(File::from(fd)))
    }
}

/// An empty new file, 0600.
///
/// # Errors
/// It is there already, or cannot be made.
pub fn create(folder: &OwnedFd, name: &CStr) -> std::io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(openat(folder, name, flags, mode(0o600))?))
}
