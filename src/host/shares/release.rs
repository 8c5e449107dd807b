//! Takes comfy's group off a share.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, fchown};

use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{as_mode, file_type, open_dir, permission_bits};
use crate::plan::observed::FileType;
use crate::problem::{Problem, Result};

/// Set-id files and files that are linked from elsewhere keep what they have: another group could
/// give them rights.
pub(super) fn is_releasable(st: &FileStat) -> bool {
    match file_type(st) {
        FileType::Dir => true,
        FileType::File => st.st_nlink == 1 && permission_bits(st) & 0o6000 == 0,
        _ => false,
    }
}

pub(super) struct ShareRelease {
    pub(super) from: u32,
    pub(super) to: Gid,
}

impl TreeVisitor for ShareRelease {
    type Local = ();
    fn visit_entry(&self, (): &mut (), folder: &WalkedFolder, name: &CStr, st: &FileStat) -> bool {
        if st.st_gid == self.from && is_releasable(st) {
            let flags = OFlag::O_RDONLY
                | OFlag::O_NOFOLLOW
                | OFlag::O_NONBLOCK
                | OFlag::O_NOCTTY
                | OFlag::O_CLOEXEC;
            if let Ok(fd) = openat(&folder.fd, name, flags, Mode::empty())
                && let Ok(now) = fstat(&fd)
                && now.st_gid == self.from
                && is_releasable(&now)
            {
                // A file that resists keeps a group that no longer means anything.
                let _ = fchown(&fd, None, Some(self.to));
                if file_type(&now) == FileType::Dir {
                    let _ = fchmod(&fd, as_mode(permission_bits(&now) & !0o3000));
                }
            }
        }
        true
    }
    fn folder_done(&self, (): (), _: &WalkedFolder, _: usize) {}
    fn read_failed(&self, _: &str, _: Errno) {}
}

/// Takes comfy's group off everything below `path`, and gives the folder its old group and mode
/// back.
pub(crate) fn release_share(
    path: &std::path::Path,
    from: u32,
    to: u32,
    root_mode: u32,
) -> Result<()> {
    let fd = match open_dir(path) {
        Ok(fd) => fd,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Problem::new(format!("{}: {e}", path.display())).caused_by(&e)),
    };
    let fail = |e: Errno| Problem::new(format!("{}: {e}", path.display())).caused_by(&e);
    let again = open_dir(path)
        .map_err(|e| Problem::new(format!("{}: {e}", path.display())).caused_by(&e))?;
    walk_tree(
        fd,
        &ShareRelease {
            from,
            to: Gid::from_raw(to),
        },
    );
    fchown(&again, None, Some(Gid::from_raw(to))).map_err(fail)?;
    fchmod(&again, as_mode(root_mode)).map_err(fail)
}
