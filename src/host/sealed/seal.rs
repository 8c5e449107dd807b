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
use super::stat_cache::Stamp;
use super::verification::Readings;
use crate::host::fs::walk::{Folder, Visit, walk};
use crate::host::fs::{acl, kind, mode, open_dir};
use crate::plan::ids::Ids;
use crate::plan::observed::Kind;
use crate::problem::{Cause, Doing, Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::{Listing, Mode, Oid, blob_id};

struct Sealer<'a> {
    part: &'a str,
    listing: &'a Listing,
    uid: Uid,
    gid: Gid,
    readings: &'a Readings,
    problems: Mutex<Vec<Problem>>,
    seen: Mutex<BTreeSet<String>>,
    progress: Box<dyn Progress>,
}

/// Seals the folder at `from`, which nobody else can reach any more, as the content of `part`.
///
/// # Errors
/// A file that the listing does not have or that has another content, a hard link, a device:
/// nothing is installed then.
pub fn seal(
    part: &str,
    from: &Path,
    listing: &Listing,
    ids: Ids,
    readings: &Readings,
    report: &dyn Reporter,
) -> Result<()> {
    let fd = open_dir(from).doing(|| format!("open {}", from.display()))?;
    let root = fd.try_clone().doing(|| "clone a descriptor".into())?;
    let sealer = Sealer {
        part,
        listing,
        uid: Uid::from_raw(ids.seal),
        gid: Gid::from_raw(ids.seal_gid),
        readings,
        problems: Mutex::default(),
        seen: Mutex::default(),
        progress: report.job(part),
    };
    sealer
        .folder(&root)
        .doing(|| format!("seal {}", from.display()))?;
    walk(fd, &sealer);
    let problems = sealer.problems.into_inner().unwrap_or_default();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::all(problems))
    }
}

/// Seals one plain file that nobody else can reach any more; its content.
///
/// # Errors
/// It is no plain file of the build process.
pub fn file(path: &Path, ids: Ids) -> std::io::Result<Oid> {
    hash_file(open_plain(path, ids)?.0)
}

/// The same, open at its beginning, with its size in bytes.
///
/// # Errors
/// As [`file`].
pub fn open_plain(path: &Path, ids: Ids) -> std::io::Result<(std::fs::File, u64)> {
    let (dir, name) = crate::host::fs::parent(path)?;
    open_plain_at(&dir, &name, ids)
}

/// The same, for a name in a folder that is open.
///
/// # Errors
/// As [`file`].
pub fn open_plain_at(
    dir: &std::os::fd::OwnedFd,
    name: &CStr,
    ids: Ids,
) -> std::io::Result<(std::fs::File, u64)> {
    let fd = openat(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        FileMode::empty(),
    )?;
    let st = fstat(&fd)?;
    if kind(&st) != Kind::File || st.st_nlink != 1 || st.st_uid != ids.build {
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
    fchmod(&fd, mode(0o644))?;
    Ok((
        std::fs::File::from(fd),
        u64::try_from(st.st_size).unwrap_or(0),
    ))
}

impl Sealer<'_> {
    fn folder(&self, fd: &std::os::fd::OwnedFd) -> std::io::Result<()> {
        acl::drop_all(fd);
        fchown(fd, Some(self.uid), Some(self.gid))?;
        Ok(fchmod(fd, mode(0o755))?)
    }

    fn leaf(&self, folder: &Folder, name: &CStr, path: &str, st: &FileStat) -> std::io::Result<()> {
        let entry = self
            .listing
            .0
            .get(path)
            .ok_or_else(|| std::io::Error::other("is not in the tree"))?;
        let wrong = || std::io::Error::other("does not have the content that the tree says");
        match (kind(st), entry.mode) {
            (Kind::Link, Mode::Link) => {
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
            (Kind::File, Mode::File | Mode::Executable) => {
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
                    mode(if entry.mode == Mode::Executable {
                        0o755
                    } else {
                        0o644
                    }),
                )?;
                let stamp = Stamp::of(&fstat(&fd)?);
                if hash_file(std::fs::File::from(fd))? != entry.oid {
                    return Err(wrong());
                }
                // Nobody but us can write here, so the reading holds however fresh the time stamps
                // are.
                self.readings.add(stamp, entry.oid, i64::MAX);
            }
            _ => {
                return Err(std::io::Error::other(
                    "is of another kind than the tree says",
                ));
            }
        }
        Ok(())
    }

    fn problem(&self, path: &str, e: &dyn Cause) {
        if let Ok(mut p) = self.problems.lock()
            && p.len() < 10
        {
            p.push(
                Problem::new(format!("{}: {}: {e}", self.part, crate::text::escape(path)))
                    .caused_by(e)
                    .hint("nothing was installed"),
            );
        }
    }
}

impl Visit for Sealer<'_> {
    type Local = usize;

    fn entry(&self, local: &mut usize, folder: &Folder, name: &CStr, st: &FileStat) -> bool {
        *local += 1;
        let path = folder.join(name);
        let done = if kind(st) == Kind::Dir {
            crate::host::fs::open_dir_at(&folder.fd, name).and_then(|fd| self.folder(&fd))
        } else {
            self.leaf(folder, name, &path, st)
        };
        if let Err(e) = done {
            self.problem(&path, &e);
        }
        true
    }

    fn done(&self, local: usize, folder: &Folder, _: usize) {
        if let Ok(mut s) = self.seen.lock() {
            s.insert(String::from_utf8_lossy(&folder.path).into_owned());
            self.progress
                .at((s.len() + local) as u64, self.listing.0.len() as u64);
        }
    }

    fn failed(&self, path: &str, e: Errno) {
        self.problem(path, &e);
    }
}
