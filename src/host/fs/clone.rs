//! Files that share their blocks: a copy that costs no space, where the file system can.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};

use super::as_mode;

/// A new file `name` in `folder`, 0600 and the caller's own, with the content of `from`: cloned
/// (ioctl_ficlone(2), fclonefileat(2)), or `None` where this file system, or this pair of them,
/// cannot.
///
/// # Errors
/// `name` is there already, or cannot be made.
pub(crate) fn clone_file(
    from: &File,
    folder: &OwnedFd,
    name: &CStr,
) -> std::io::Result<Option<File>> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let to = create_file(folder, name)?;
        // SAFETY: FICLONE takes the other file's descriptor as its argument; both are open.
        let done = unsafe {
            nix::libc::ioctl(to.as_raw_fd(), nix::libc::FICLONE, from.as_fd().as_raw_fd())
        };
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
        let done = unsafe {
            nix::libc::fclonefileat(
                from.as_fd().as_raw_fd(),
                folder.as_raw_fd(),
                name.as_ptr(),
                FLAGS,
            )
        };
        if done != 0 {
            let e = std::io::Error::last_os_error();
            return if e.kind() == std::io::ErrorKind::AlreadyExists {
                Err(e)
            } else {
                Ok(None)
            };
        }
        open_clone(folder, name).map(Some).inspect_err(|_| {
            let _ = nix::unistd::unlinkat(folder, name, nix::unistd::UnlinkatFlags::NoRemoveDir);
        })
    }
}

/// A clone has the flags of what it was cloned from, its access list, and the mark that it was
/// downloaded (xnu `vfs_syscalls.c`): one of a locked model could be neither written nor removed.
#[cfg(target_os = "macos")]
fn open_clone(folder: &OwnedFd, name: &CStr) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    let open = |how| {
        openat(
            folder,
            name,
            how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
            as_mode(0),
        )
    };
    let fd = open(OFlag::O_RDONLY)?;
    // Where others may write the folder, another file may have been put under the name since.
    let st = nix::sys::stat::fstat(&fd)?;
    if super::file_type(&st) != crate::plan::observed::FileType::File
        || st.st_uid != nix::unistd::geteuid().as_raw()
        || st.st_nlink != 1
    {
        return Err(std::io::Error::other(
            "somebody else put another file there",
        ));
    }
    super::bsd_flags::unlock(&fd)?;
    super::acl::drop_all(&fd);
    nix::sys::stat::fchmod(&fd, as_mode(0o600))?;
    // SAFETY: an open descriptor and a NUL-terminated name; none to remove is the usual answer.
    unsafe { nix::libc::fremovexattr(fd.as_raw_fd(), c"com.apple.quarantine".as_ptr(), 0) };
    let again = open(OFlag::O_RDWR)?;
    let now = nix::sys::stat::fstat(&again)?;
    if (now.st_dev, now.st_ino) != (st.st_dev, st.st_ino) {
        return Err(std::io::Error::other(
            "somebody else put another file there",
        ));
    }
    Ok(File::from(again))
}

/// An empty new file, 0600.
///
/// # Errors
/// It is there already, or cannot be made.
pub(crate) fn create_file(folder: &OwnedFd, name: &CStr) -> std::io::Result<File> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(openat(folder, name, flags, as_mode(0o600))?))
}

/// Opens what was read before; where others may write it can be a link or a pipe by now.
fn open_regular(path: &Path, how: OFlag) -> std::io::Result<File> {
    let (dir, name) = super::open_parent(path)?;
    let fd = openat(
        &dir,
        name.as_c_str(),
        how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        as_mode(0),
    )?;
    let file = File::from(fd);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("is no longer a regular file"))
    }
}

/// What became of two files of the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockSharing {
    /// They share blocks from now on, or could.
    Now,
    Already,
    /// Not on this file system.
    Cannot,
}

/// Whether two files share their blocks, or could.
///
/// # Errors
/// One of them cannot be read.
pub(crate) fn block_sharing(a: &Path, b: &Path) -> std::io::Result<BlockSharing> {
    let (fa, fb) = (
        open_regular(a, OFlag::O_RDONLY)?,
        open_regular(b, OFlag::O_RDONLY)?,
    );
    if first_block(&fa).is_some_and(|x| Some(x) == first_block(&fb)) {
        return Ok(BlockSharing::Already);
    }
    // A trial on an empty range says whether the file system knows how.
    let (dir, _) = super::open_parent(b)?;
    let probe = super::c_string(format!(".comfy-probe-{}", std::process::id()).as_ref())?;
    let folder = super::open_dir_at(&dir, c".")?;
    let could = clone_file(&fa, &folder, &probe)?.is_some();
    if could {
        nix::unistd::unlinkat(
            &folder,
            probe.as_c_str(),
            nix::unistd::UnlinkatFlags::NoRemoveDir,
        )?;
    }
    Ok(if could {
        BlockSharing::Now
    } else {
        BlockSharing::Cannot
    })
}

/// Where the first block of a file lies (FS_IOC_FIEMAP of linux/fiemap.h); `None` where nobody
/// tells.
#[cfg(target_os = "linux")]
fn first_block(file: &File) -> Option<u64> {
    use std::os::fd::AsRawFd;
    #[repr(C)]
    #[derive(Default)]
    struct FiemapRequest {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        count: u32,
        reserved: u32,
        logical: u64,
        physical: u64,
        extent: u64,
        reserved64: [u64; 2],
        extent_flags: u32,
        reserved32: [u32; 3],
    }
    const FS_IOC_FIEMAP: nix::libc::c_ulong = 0xC020_660B;
    // Where the place is not known yet, or lies in the file's own record.
    const NO_PLACE: u32 = 0x2 | 0x4 | 0x200;
    let mut map = FiemapRequest {
        length: 1,
        flags: 1,
        count: 1,
        ..FiemapRequest::default()
    };
    // SAFETY: the structure has room for the one extent that it asks for.
    let done = unsafe { nix::libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut map) };
    (done == 0 && map.mapped == 1 && map.extent_flags & NO_PLACE == 0).then_some(map.physical)
}

/// Where the first byte of a file lies on the device (fcntl(2), F_LOG2PHYS_EXT of sys/fcntl.h).
#[cfg(target_os = "macos")]
fn first_block(file: &File) -> Option<u64> {
    use std::os::fd::AsRawFd;
    #[repr(C, packed(4))]
    struct Place {
        flags: u32,
        bytes: i64,
        offset: i64,
    }
    const F_LOG2PHYS_EXT: nix::libc::c_int = 65;
    let mut place = Place {
        flags: 0,
        bytes: 1,
        offset: 0,
    };
    // SAFETY: the structure is the one that this command takes, and outlives the call.
    let done = unsafe { nix::libc::fcntl(file.as_raw_fd(), F_LOG2PHYS_EXT, &raw mut place) };
    // What is not written yet, or is compressed, has no place.
    u64::try_from(place.offset)
        .ok()
        .filter(|offset| done == 0 && *offset > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn first_block(_: &File) -> Option<u64> {
    None
}

/// Lets `b` share the blocks of `a`, which the kernel compares byte for byte
/// (ioctl_fideduperange(2)).
///
/// # Errors
/// They differ, or cannot be opened.
#[cfg(target_os = "linux")]
pub(crate) fn share_blocks(a: &Path, b: &Path) -> std::io::Result<BlockSharing> {
    use std::os::fd::AsRawFd;
    #[repr(C)]
    struct DedupeRange {
        offset: u64,
        length: u64,
        count: u16,
        reserved: [u16; 3],
        fd: i64,
        to: u64,
        deduped: u64,
        status: i32,
        reserved2: u32,
    }
    const FIDEDUPERANGE: nix::libc::c_ulong = 0xC018_9436;
    // Kernels take up to 16 MiB at a time, btrfs's own limit.
    const PIECE: u64 = 16 << 20;
    let (fa, fb) = (
        open_regular(a, OFlag::O_RDONLY)?,
        open_regular(b, OFlag::O_RDWR)?,
    );
    let size = fa.metadata()?.len();
    if first_block(&fa).is_some_and(|x| Some(x) == first_block(&fb)) {
        return Ok(BlockSharing::Already);
    }
    let mut at = 0;
    while at < size {
        let mut r = DedupeRange {
            offset: at,
            length: PIECE.min(size - at),
            count: 1,
            reserved: [0; 3],
            fd: fb.as_raw_fd().into(),
            to: at,
            deduped: 0,
            status: 0,
            reserved2: 0,
        };
        // SAFETY: one destination follows the head, as `count` says; both descriptors are open.
        if unsafe { nix::libc::ioctl(fa.as_raw_fd(), FIDEDUPERANGE as _, &raw mut r) } != 0 {
            let e = std::io::Error::last_os_error();
            return match e.raw_os_error() {
                Some(
                    nix::libc::EOPNOTSUPP
                    | nix::libc::EXDEV
                    | nix::libc::EINVAL
                    | nix::libc::ENOTTY,
                ) if at == 0 => Ok(BlockSharing::Cannot),
                _ => Err(e),
            };
        }
        match r.status {
            0 if r.deduped > 0 => at += r.deduped,
            1 => {
                return Err(std::io::Error::other(
                    "differs from the other file, although their hashes were equal",
                ));
            }
            s if s == -nix::libc::EOPNOTSUPP
                || s == -nix::libc::EXDEV
                || s == -nix::libc::EINVAL =>
            {
                return Ok(BlockSharing::Cannot);
            }
            s => return Err(std::io::Error::from_raw_os_error(-s)),
        }
    }
    Ok(BlockSharing::Now)
}

/// Lets `b` share the blocks of `a`: a clone beside it, compared byte for byte, takes its place
/// (clonefile(2)).
///
/// # Errors
/// They differ, or cannot be opened or replaced.
#[cfg(target_os = "macos")]
pub(crate) fn share_blocks(a: &Path, b: &Path) -> std::io::Result<BlockSharing> {
    use std::io::Read;
    let (fa, mut fb) = (
        open_regular(a, OFlag::O_RDONLY)?,
        open_regular(b, OFlag::O_RDONLY)?,
    );
    if first_block(&fa).is_some_and(|x| Some(x) == first_block(&fb)) {
        return Ok(BlockSharing::Already);
    }
    let (dir, name) = super::open_parent(b)?;
    let folder = super::open_dir_at(&dir, c".")?;
    let temporary = super::c_string(
        format!(".{}.comfy-{}", name.to_string_lossy(), std::process::id()).as_ref(),
    )?;
    let Some(mut made) = clone_file(&fa, &folder, &temporary)? else {
        return Ok(BlockSharing::Cannot);
    };
    let placed = (|| {
        let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let n = made.read(&mut x)?;
            if n == 0 {
                break;
            }
            fb.read_exact(&mut y[..n])?;
            if x[..n] != y[..n] {
                return Err(std::io::Error::other(
                    "differs from the other file, although their hashes were equal",
                ));
            }
        }
        let st = nix::sys::stat::fstat(&fb)?;
        let root = nix::unistd::geteuid().is_root();
        if root {
            nix::unistd::fchown(&made, Some(st.st_uid.into()), Some(st.st_gid.into()))?;
        } else {
            // The group is the folder's own on macOS; where it was another it is kept if that is
            // allowed.
            let _ = nix::unistd::fchown(&made, None, Some(st.st_gid.into()));
        }
        nix::sys::stat::fchmod(&made, as_mode(super::permission_bits(&st)))?;
        nix::fcntl::renameat(&folder, temporary.as_c_str(), &folder, name.as_c_str())?;
        Ok(BlockSharing::Now)
    })();
    if placed.is_err() {
        let _ = nix::unistd::unlinkat(
            &folder,
            temporary.as_c_str(),
            nix::unistd::UnlinkatFlags::NoRemoveDir,
        );
    }
    placed
}
