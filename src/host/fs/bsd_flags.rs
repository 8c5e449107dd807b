//! Flags that lock a file (chflags(2)), against root too: xnu asks for them before it asks who the
//! caller is (`vfs_subr.c`, vnode_authorize_checkimmutable). Everybody may lock his own files.
//!
//! Elsewhere nobody but root can, so nobody looks. A Linux that plays a Mac in a test has the flags of
//! ioctl_iflags(2) in their place, which hold root in the same way.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode};

#[cfg(not(target_os = "macos"))]
use crate::plan::share_rules::{USER_APPEND, USER_IMMUTABLE};

/// Returns the flags of the entry `name`, of which `st` was read.
#[cfg(target_os = "macos")]
pub(crate) fn flags_at(_: &impl AsFd, _: &CStr, st: &FileStat) -> u32 {
    st.st_flags
}

/// Returns the flags of what is open, of which `st` was read.
#[cfg(target_os = "macos")]
pub(crate) fn flags_of(_: &impl AsFd, st: &FileStat) -> u32 {
    st.st_flags
}

/// # Errors
/// The file belongs to somebody else; the flags are the system's.
#[cfg(target_os = "macos")]
pub(crate) fn unlock(file: &impl AsFd) -> io::Result<()> {
    // SAFETY: a plain call on an open descriptor.
    Errno::result(unsafe { nix::libc::fchflags(file.as_fd().as_raw_fd(), 0) })?;
    Ok(())
}

#[cfg(not(target_os = "macos"))]
pub(crate) fn flags_at(dir: &impl AsFd, name: &CStr, st: &FileStat) -> u32 {
    use crate::plan::observed::FileType;
    let plain = matches!(super::file_type(st), FileType::File | FileType::Dir);
    if !plays_mac() || !plain {
        return 0;
    }
    open_entry(dir, name).map_or(0, |fd| flags_of(&fd, st))
}

#[cfg(not(target_os = "macos"))]
pub(crate) fn flags_of(file: &impl AsFd, _: &FileStat) -> u32 {
    if !plays_mac() {
        return 0;
    }
    let inode = inode_flags(file).unwrap_or(0);
    let have = |bit, flag| if inode & bit == 0 { 0 } else { flag };
    have(FS_IMMUTABLE_FL, USER_IMMUTABLE) | have(FS_APPEND_FL, USER_APPEND)
}

#[cfg(not(target_os = "macos"))]
pub(crate) fn unlock(file: &impl AsFd) -> io::Result<()> {
    if !plays_mac() {
        return Ok(());
    }
    let left = inode_flags(file)? & !(FS_IMMUTABLE_FL | FS_APPEND_FL);
    // SAFETY: the argument outlives the call, which reads a number from it.
    Errno::result(unsafe {
        nix::libc::ioctl(
            file.as_fd().as_raw_fd(),
            FS_IOC_SETFLAGS as _,
            &raw const left,
        )
    })?;
    Ok(())
}

#[cfg(not(target_os = "macos"))]
fn plays_mac() -> bool {
    cfg!(feature = "faults") && crate::host::machine::operating_system().is_macos()
}

// linux/fs.h.
#[cfg(not(target_os = "macos"))]
const FS_IOC_GETFLAGS: nix::libc::c_ulong = 0x8008_6601;
#[cfg(not(target_os = "macos"))]
const FS_IOC_SETFLAGS: nix::libc::c_ulong = 0x4008_6602;
#[cfg(not(target_os = "macos"))]
const FS_IMMUTABLE_FL: nix::libc::c_long = 0x10;
#[cfg(not(target_os = "macos"))]
const FS_APPEND_FL: nix::libc::c_long = 0x20;

#[cfg(not(target_os = "macos"))]
fn inode_flags(file: &impl AsFd) -> io::Result<nix::libc::c_long> {
    let mut flags: nix::libc::c_long = 0;
    // SAFETY: the argument outlives the call, which writes a number into it.
    Errno::result(unsafe {
        nix::libc::ioctl(
            file.as_fd().as_raw_fd(),
            FS_IOC_GETFLAGS as _,
            &raw mut flags,
        )
    })?;
    Ok(flags)
}

/// Takes the flags off the entry `name` and off its folder, so that it can be removed.
///
/// # Errors
/// The flags are the system's; it cannot be opened.
pub(crate) fn unlock_at(dir: &impl AsFd, name: &CStr) -> io::Result<()> {
    unlock(dir)?;
    unlock(&open_entry(dir, name)?)
}

/// Opens an entry of any kind, a link itself, without waiting for a pipe.
fn open_entry(dir: &impl AsFd, name: &CStr) -> nix::Result<std::os::fd::OwnedFd> {
    #[cfg(target_os = "macos")]
    let link = OFlag::from_bits_retain(nix::libc::O_SYMLINK);
    #[cfg(not(target_os = "macos"))]
    let link = OFlag::O_NOFOLLOW;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | link;
    openat(dir, name, flags, Mode::empty())
}
