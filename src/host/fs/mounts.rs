//! Mount points: which paths are some, and mounts that are held by a descriptor before they have a
//! place.

use std::os::fd::{AsRawFd, OwnedFd};
#[cfg(target_os = "macos")]
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Whether something is mounted on the opened folder: statx(2), STATX_ATTR_MOUNT_ROOT; before Linux
/// 5.8 nobody tells.
#[cfg(target_os = "linux")]
pub(crate) fn is_mount_root(fd: &OwnedFd) -> nix::Result<bool> {
    use nix::libc;
    let attribute = libc::STATX_ATTR_MOUNT_ROOT as u64;
    // SAFETY: an all-zero statx is a valid value to be filled in.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is empty and NUL-terminated, `st` outlives the call.
    let n = unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            0,
            &raw mut st,
        )
    };
    nix::errno::Errno::result(n)?;
    Ok(st.stx_attributes & attribute != 0)
}

/// statfs(2) names the mount point of the file system that holds the folder.
#[cfg(target_os = "macos")]
pub(crate) fn is_mount_root(fd: &OwnedFd) -> nix::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let mut path = std::path::PathBuf::new();
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETPATH(&mut path))?;
    // SAFETY: an all-zero statfs is a valid value to be filled in.
    let mut st: nix::libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `st` outlives the call.
    nix::errno::Errno::result(unsafe { nix::libc::fstatfs(fd.as_raw_fd(), &raw mut st) })?;
    Ok(mounted_on(&st) == path.as_os_str().as_bytes())
}

/// Returns the volume that holds `path` if it ignores who owns files (statfs(2),
/// MNT_IGNORE_OWNERSHIP), as external disks do on a Mac: every change of an owner is lost without an
/// error there (xnu `vfs_attrlist.c`, vnode_attr_handle_uid_and_gid).
pub(crate) fn unowned_volume(path: &Path) -> std::io::Result<Option<std::path::PathBuf>> {
    let there = path.ancestors().find(|p| p.symlink_metadata().is_ok());
    there.map_or(Ok(None), volume_without_owners)
}

#[cfg(target_os = "macos")]
fn volume_without_owners(there: &Path) -> std::io::Result<Option<std::path::PathBuf>> {
    let st = file_system_of(there)?;
    #[allow(clippy::cast_sign_loss, reason = "a word of flags")]
    let ignores = st.f_flags as u32 & nix::libc::MNT_IGNORE_OWNERSHIP as u32 != 0;
    Ok(ignores.then(|| std::path::PathBuf::from(std::ffi::OsString::from_vec(mounted_on(&st)))))
}

/// Elsewhere there is no such volume; a test that plays a Mac lists them in the folder of its tools.
#[cfg(not(target_os = "macos"))]
fn volume_without_owners(there: &Path) -> std::io::Result<Option<std::path::PathBuf>> {
    let Some(list) = crate::host::tools::recorded("volumes-without-owners") else {
        return Ok(None);
    };
    let mut volumes = list.lines().map(std::path::PathBuf::from);
    Ok(volumes.find(|v| there.starts_with(v)))
}

#[cfg(target_os = "macos")]
fn file_system_of(path: &Path) -> std::io::Result<nix::libc::statfs> {
    let c = super::c_string(path.as_os_str())?;
    // SAFETY: an all-zero statfs is a valid value to be filled in.
    let mut st: nix::libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated and `st` outlives the call.
    nix::errno::Errno::result(unsafe { nix::libc::statfs(c.as_ptr(), &raw mut st) })?;
    Ok(st)
}

#[cfg(target_os = "macos")]
fn mounted_on(st: &nix::libc::statfs) -> Vec<u8> {
    let name = st.f_mntonname.iter().take_while(|c| **c != 0);
    name.map(|c| *c as u8).collect()
}

/// A mount of what the descriptor stands for, without a place yet (open_tree(2)); `whole` takes
/// what is mounted below it along.
#[cfg(target_os = "linux")]
pub(crate) fn clone_mount(fd: &OwnedFd, whole: bool) -> nix::Result<OwnedFd> {
    use nix::libc;
    use std::os::fd::FromRawFd;
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
    let flags = OPEN_TREE_CLONE
        | OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint
        | if whole {
            libc::AT_RECURSIVE as libc::c_uint
        } else {
            0
        };
    // SAFETY: the descriptor is open, the path is empty and NUL-terminated.
    let n = unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) };
    let new = nix::errno::Errno::result(n)?;
    // SAFETY: a descriptor that the kernel has just made for this process.
    let new = unsafe { OwnedFd::from_raw_fd(new as i32) };
    set_private(&new)?;
    Ok(new)
}

/// What is mounted elsewhere from now on does not appear below a detached mount (mount_setattr(2),
/// Linux 5.12).
#[cfg(target_os = "linux")]
fn set_private(mount: &OwnedFd) -> nix::Result<()> {
    use nix::libc;
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptor is open, the path is empty and NUL-terminated, the structure has the
    // size that is said.
    let n = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(n).map(drop)
}

/// Gives a detached mount its place (move_mount(2)).
#[cfg(target_os = "linux")]
pub(crate) fn attach_mount(mount: &OwnedFd, at: &Path) -> std::io::Result<()> {
    use nix::libc;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let to = super::c_string(at.as_os_str())?;
    // SAFETY: the descriptor is open, both paths are NUL-terminated.
    let n = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    nix::errno::Errno::result(n)?;
    Ok(())
}

/// Whether something is mounted exactly at `path`. Told by the kernel's own table: st_dev differs
/// inside an overlay too.
#[cfg(target_os = "linux")]
pub(crate) fn is_mounted(path: &Path) -> std::io::Result<bool> {
    // proc_pid_mountinfo(5): the fifth field is the mount point, with octal escapes.
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = path.to_string_lossy();
    Ok(table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .any(|m| unescape_field(m) == wanted))
}

#[cfg(target_os = "linux")]
fn unescape_field(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        match rest
            .get(i + 1..i + 4)
            .and_then(|o| u8::from_str_radix(o, 8).ok())
        {
            Some(b) => {
                out.push(b as char);
                rest = &rest[i + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[i + 1..];
            }
        }
    }
    out + rest
}

/// statfs(2) names the mount point of the file system that holds the path.
#[cfg(target_os = "macos")]
pub(crate) fn is_mounted(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    match file_system_of(path) {
        Ok(st) => Ok(mounted_on(&st) == path.as_os_str().as_bytes()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
