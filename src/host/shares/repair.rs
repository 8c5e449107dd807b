//! Brings what is off in a share to what it should be, and touches nothing else.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::{evaluate_stat, hands_down, is_passed_over, mount_ready};
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{acl, bsd_flags};
use crate::host::fs::{as_mode, file_type, open_dir};
use crate::host::machine::operating_system;
use crate::plan::observed::{FileType, ShareSpec};
use crate::plan::share_rules::{ShareDrift, is_locked};
use crate::problem::{Problem, Result};

pub(super) struct ShareRepair<'a> {
    pub(super) spec: &'a ShareSpec,
    pub(super) mended: AtomicUsize,
    pub(super) problems: Mutex<Vec<Problem>>,
}

impl TreeVisitor for ShareRepair<'_> {
    type Local = ();

    fn visit_entry(&self, (): &mut (), folder: &WalkedFolder, name: &CStr, st: &FileStat) -> bool {
        let dir = file_type(st) == FileType::Dir;
        if is_passed_over(name) {
            return dir;
        }
        let flags = bsd_flags::flags_at(&folder.fd, name, st);
        if let Some(f) = evaluate_stat(self.spec, st, flags).0 {
            match mend_one(self.spec, &folder.fd, name, dir, &f) {
                Ok(()) => drop(self.mended.fetch_add(1, Ordering::Relaxed)),
                Err(e) => self.add_problem(format!(
                    "share {}: {} was refused: {e}",
                    self.spec.name,
                    crate::text::escape_text(&folder.join(name))
                )),
            }
        }
        dir
    }

    fn folder_done(&self, (): (), folder: &WalkedFolder, _: usize) {
        // The walk has it open: it is this folder, wherever it is by now. One that is not of this
        // share was never entered.
        if hands_down(self.spec, folder) {
            acl::drop_all(&folder.fd);
            self.mended.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read_failed(&self, path: &str, e: Errno) {
        // A folder that vanished or became a link while we walked is seen again by the next look.
        // One that is nested too deep was told by the look, and is left alone.
        if !matches!(
            e,
            Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::ENAMETOOLONG
        ) {
            self.add_problem(format!(
                "share {}: {}: {}",
                self.spec.name,
                crate::text::escape_text(path),
                e.desc()
            ));
        }
    }
}

impl ShareRepair<'_> {
    pub(super) fn add_problem(&self, message: String) {
        if let Ok(mut p) = self.problems.lock()
            && p.len() < 20
        {
            p.push(Problem::new(message));
        }
    }
}

/// Opens the entry and decides again on the descriptor: between listing and opening it may have
/// been swapped.
pub(super) fn mend_one(
    spec: &ShareSpec,
    dir: &OwnedFd,
    name: &CStr,
    is_dir: bool,
    seen: &ShareDrift,
) -> std::io::Result<()> {
    // A group alone needs no open file, which on Linux is the cheaper way (open(2), O_PATH).
    let light = !operating_system().is_macos() && seen.mode.is_none() && !seen.owner;
    // Non-blocking: a pipe put here in the meantime must not hold us.
    let flags = if light {
        crate::host::fs::THROUGH
    } else {
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY
    } | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | if is_dir {
            OFlag::O_DIRECTORY
        } else {
            OFlag::empty()
        };
    let fd = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let st = fstat(&fd)?;
    let flags = bsd_flags::flags_of(&fd, &st);
    let Some(f) = evaluate_stat(spec, &st, flags).0 else {
        return Ok(());
    };
    if is_locked(flags) {
        bsd_flags::unlock(&fd)?;
    }
    if light && (f.mode.is_some() || f.owner) {
        return mend_one(spec, dir, name, is_dir, &f);
    }
    let owner = f.owner.then(|| Uid::from_raw(spec.owner));
    let group = f.group.then(|| Gid::from_raw(spec.gid));
    if owner.is_some() || group.is_some() {
        if light {
            crate::host::fs::chown_opened(&fd, owner, group)?
        } else {
            fchown(&fd, owner, group)?
        }
    }
    if f.owner {
        // The sandbox user may have put itself on the list of what will be made in it.
        acl::drop_all(&fd);
    }
    let Some(want) = f.mode else { return Ok(()) };
    // A mode would bring a masked entry of an ACL back to life. And chown clears set-ids, so the
    // mode comes after it.
    acl::drop_all(&fd);
    Ok(fchmod(&fd, as_mode(want))?)
}

/// Brings every entry that is off to what it should be, and touches no other; returns how many.
///
/// # Errors
/// Entries that could not be mended, with the reason of each.
pub(crate) fn repair_share(spec: &ShareSpec) -> Result<usize> {
    mount_ready(spec)
        .map_err(|u| Problem::new(format!("share {}: {}", spec.name, u.reason)).of_kind(u.kind))?;
    mend_opened(
        spec,
        open_dir(&spec.path).map_err(|e| {
            Problem::new(format!("share {}: {}: {e}", spec.name, spec.path.display())).caused_by(&e)
        })?,
    )
}

/// The same for a share that was opened, wherever its path leads by now.
///
/// # Errors
/// As [`repair_share`].
pub(crate) fn mend_opened(spec: &ShareSpec, fd: OwnedFd) -> Result<usize> {
    let mend = ShareRepair {
        spec,
        mended: AtomicUsize::new(0),
        problems: Mutex::default(),
    };
    walk_tree(fd, &mend);
    let problems = mend.problems.into_inner().unwrap_or_default();
    if problems.is_empty() {
        Ok(mend.mended.into_inner())
    } else {
        Err(Problem::from_many(problems))
    }
}
