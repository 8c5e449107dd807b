//! Sealing: what the worker wrote becomes root's, and every byte is hashed while it does.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode as FileMode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::generation_check::hash_file;
use super::stat_cache::StatKey;
use super::verification::VerificationCache;
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{acl, as_mode, file_type, open_dir};
use crate::ids::Part;
use crate::plan::ids::AccountIds;
use crate::plan::observed::FileType;
use crate::problem::{Cause, Context, Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::{EntryMode, ObjectId, TreeListing, blob_id};

struct TreeSealer<'a> {
    part: &'a Part,
    listing: &'a TreeListing,
    uid: Uid,
    gid: Gid,
    readings: &'a VerificationCache,
    problems: Mutex<Vec<Problem>>,
    seen: Mutex<BTreeSet<String>>,
    progress: Box<dyn Progress>,
}

/// Seals the folder at `from`, which nobody else can reach any more, as the content of `part`.
///
/// # Errors
/// A file that the listing does not have or that has another content, a hard link, a device:
/// nothing is installed then.
pub(crate) fn seal_tree(
    part: &Part,
    from: &Path,
    listing: &TreeListing,
    ids: AccountIds,
    readings: &VerificationCache,
    report: &dyn Reporter,
) -> Result<()> {
    let fd = open_dir(from).with_context(|| format!("open {}", from.display()))?;
    let root = fd.try_clone().context("clone a descriptor")?;
    let sealer = TreeSealer {
        part,
        listing,
        uid: Uid::from_raw(ids.seal),
        gid: Gid::from_raw(ids.seal_gid),
        readings,
        problems: Mutex::default(),
        seen: Mutex::default(),
        progress: report.start_job(&part.to_string()),
    };
    sealer
        .seal_folder(&root)
        .with_context(|| format!("seal {}", from.display()))?;
    walk_tree(fd, &sealer);
    let problems = sealer.problems.into_inner().unwrap_or_default();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Seals one plain file that nobody else can reach any more; its content.
///
/// # Errors
/// It is no plain file of the build process.
pub(crate) fn seal_file(path: &Path, ids: AccountIds) -> std::io::Result<ObjectId> {
    hash_file(open_plain(path, ids)?.0)
}

/// The same, open at its beginning, with its size in bytes.
///
/// # Errors
/// As [`file`].
pub(crate) fn open_plain(path: &Path, ids: AccountIds) -> std::io::Result<(std::fs::File, u64)> {
    let (dir, name) = crate::host::fs::open_parent(path)?;
    open_plain_at(&dir, &name, ids)
}

/// The same, for a name in a folder that is open.
///
/// # Errors
/// As [`file`].
pub(crate) fn open_plain_at(
    dir: &std::os::fd::OwnedFd,
    name: &CStr,
    ids: AccountIds,
) -> std::io::Result<(std::fs::File, u64)> {
    let fd = openat(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        FileMode::empty(),
    )?;
    let st = fstat(&fd)?;
    if file_type(&st) != FileType::File || st.st_nlink != 1 || st.st_uid != ids.build {
        return Err(std::io::Error::other(
            "is no plain file of the build process",
        ));
    }
    acl::drop_all(&fd);
    fchown(
        &fd,
        Some(Uid::from_raw(ids.seal)),
        Some(Gid::from_raw(ids.seal_gid)),
    )?;
    fchmod(&fd, as_mode(0o644))?;
    Ok((
        std::fs::File::from(fd),
        u64::try_from(st.st_size).unwrap_or(0),
    ))
}

impl TreeSealer<'_> {
    fn seal_folder(&self, fd: &std::os::fd::OwnedFd) -> std::io::Result<()> {
        acl::drop_all(fd);
        fchown(fd, Some(self.uid), Some(self.gid))?;
        Ok(fchmod(fd, as_mode(0o755))?)
    }

    fn seal_leaf(
        &self,
        folder: &WalkedFolder,
        name: &CStr,
        path: &str,
        st: &FileStat,
    ) -> std::io::Result<()> {
        let entry = self
            .listing
            .0
            .get(path)
            .ok_or_else(|| std::io::Error::other("is not in the tree"))?;
        let wrong = || std::io::Error::other("does not have the content that the tree says");
        match (file_type(st), entry.mode) {
            (FileType::Link, EntryMode::Link) => {
                let target = nix::fcntl::readlinkat(&folder.fd, name)?;
                if blob_id(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str())).ok()
                    != Some(entry.oid)
                {
                    return Err(wrong());
                }
                fchownat(
                    &folder.fd,
                    name,
                    Some(self.uid),
                    Some(self.gid),
                    AtFlags::AT_SYMLINK_NOFOLLOW,
                )?;
            }
            (FileType::File, EntryMode::File | EntryMode::Executable) => {
                let fd = openat(
                    &folder.fd,
                    name,
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
                    FileMode::empty(),
                )?;
                if st.st_nlink != 1 {
                    return Err(std::io::Error::other("has another hard link"));
                }
                acl::drop_all(&fd);
                fchown(&fd, Some(self.uid), Some(self.gid))?;
                fchmod(
                    &fd,
                    as_mode(if entry.mode == EntryMode::Executable {
                        0o755
                    } else {
                        0o644
                    }),
                )?;
                let stamp = StatKey::from_stat(&fstat(&fd)?);
                if hash_file(std::fs::File::from(fd))? != entry.oid {
                    return Err(wrong());
                }
                // Nobody but us can write here, so the reading holds however fresh the time stamps
                // are.
                self.readings.add_content(stamp, entry.oid, i64::MAX);
            }
            _ => {
                return Err(std::io::Error::other(
                    "is of another kind than the tree says",
                ));
            }
        }
        Ok(())
    }

    fn add_problem(&self, path: &str, e: &dyn Cause) {
        if let Ok(mut p) = self.problems.lock()
            && p.len() < 10
        {
            p.push(
                Problem::new(format!(
                    "{}: {}: {e}",
                    self.part,
                    crate::text::escape_text(path)
                ))
                .caused_by(e)
                .with_hint("nothing was installed"),
            );
        }
    }
}

impl TreeVisitor for TreeSealer<'_> {
    type Local = usize;

    fn visit_entry(
        &self,
        local: &mut usize,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool {
        *local += 1;
        let path = folder.join(name);
        let done = if file_type(st) == FileType::Dir {
            crate::host::fs::open_dir_at(&folder.fd, name).and_then(|fd| self.seal_folder(&fd))
        } else {
            self.seal_leaf(folder, name, &path, st)
        };
        if let Err(e) = done {
            self.add_problem(&path, &e);
        }
        true
    }

    fn folder_done(&self, local: usize, folder: &WalkedFolder, _: usize) {
        if let Ok(mut s) = self.seen.lock() {
            s.insert(String::from_utf8_lossy(&folder.path).into_owned());
            self.progress
                .set_position((s.len() + local) as u64, self.listing.0.len() as u64);
        }
    }

    fn read_failed(&self, path: &str, e: Errno) {
        self.add_problem(path, &e);
    }
}
