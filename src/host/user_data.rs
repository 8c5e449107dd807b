//! ComfyUI's database and settings, kept for the version that wrote them. A version whose database
//! migrations are others changes both for good (`init_db` of ComfyUI's app/database/db.py upgrades
//! and never downgrades): what the earlier one wrote is copied before, and comes back with it.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use sha2::{Digest, Sha256};

use super::fs::{as_mode, edit, file_type, open_dir, open_dir_at};
use super::sandbox_state::StateOwner;
use crate::desired::InstancePaths;
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

/// The files, by their folder in `state/user`: the database with its write-ahead log, which holds
/// what is not in the database yet (sqlite.org/wal.html), and the settings.
const FILES: [(Option<&CStr>, &CStr); 3] = [
    (None, c"comfyui.db"),
    (None, c"comfyui.db-wal"),
    (Some(c"default"), c"comfy.settings.json"),
];
/// What belongs to a database that is replaced.
const DERIVED: [&CStr; 2] = [c"comfyui.db-wal", c"comfyui.db-shm"];
/// The largest file that is copied, in bytes.
const LARGEST: u64 = 16 << 30;

/// What happened to the files before a launch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DataChange {
    /// Copied, because the migrations of this version are others.
    Kept(PathBuf),
    /// This version's own came back, and the newer ones are kept.
    Restored(PathBuf),
}

impl DataChange {
    /// Returns what to tell the user.
    pub(crate) fn message(&self) -> String {
        match self {
            DataChange::Kept(folder) => format!(
                "this version of ComfyUI may change the database and the settings: a copy is in {}, \
                 and comes back with a rollback",
                folder.display()
            ),
            DataChange::Restored(folder) => format!(
                "the database and the settings are those of this version of ComfyUI again; the newer \
                 ones are in {}",
                folder.display()
            ),
        }
    }
}

/// Keeps or restores the files before a launch of `generation`, whose processes have not been
/// started.
///
/// # Errors
/// The disk: then nothing is launched, since nothing could be taken back.
pub(crate) fn prepare_user_data(
    paths: &InstancePaths,
    generation: &str,
    who: &StateOwner,
) -> Result<Option<DataChange>> {
    let record = paths.records.join("migrations.json");
    // The migrations of the launches so far, the latest last; a version that an older one followed
    // is not in it.
    let mut history = read_history(&record)?;
    let now = migrations_of(&paths.generation_dir(generation).join("ComfyUI"))?;
    let last = history.last().cloned();
    if last.as_ref() == Some(&now) {
        return Ok(None);
    }
    let folder = |of: &str| paths.base.join("kept-user-data").join(of);
    let earlier = history.iter().position(|m| *m == now);
    let mut change = None;
    if let Some(last) = last {
        let kept = folder(&last);
        let any = keep_files(paths, &kept, who)?;
        if earlier.is_some() && folder(&now).is_dir() {
            restore_files(paths, &folder(&now), who)?;
            change = Some(DataChange::Restored(kept));
        } else if any {
            change = Some(DataChange::Kept(kept));
        }
    }
    history.truncate(earlier.unwrap_or(history.len()));
    history.push(now);
    let text = serde_json::to_vec(&history).context("record the migrations")?;
    edit::write_file(&record, &text, 0o640, who.records)
        .with_context(|| format!("write {}", record.display()))?;
    Ok(change)
}

fn read_history(record: &Path) -> Result<Vec<String>> {
    let text = super::fs::absent_as_none(std::fs::read(record))
        .with_context(|| format!("read {}", record.display()))?;
    // One that cannot be understood is of a newer comfy: as if there had been no launch.
    Ok(text
        .and_then(|t| serde_json::from_slice(&t).ok())
        .unwrap_or_default())
}

/// Returns the id of a sealed tree's migrations: what their files are called, which alembic never
/// reuses.
fn migrations_of(tree: &Path) -> Result<String> {
    let folder = tree.join("alembic_db/versions");
    let entries = super::fs::absent_as_none(std::fs::read_dir(&folder))
        .with_context(|| format!("read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries.into_iter().flatten() {
        let name = entry.with_context(|| format!("read {}", folder.display()))?;
        let name = name.file_name().to_string_lossy().into_owned();
        if name.ends_with(".py") {
            names.push(name);
        }
    }
    names.sort();
    let digest = Sha256::digest(names.join("\n").as_bytes());
    Ok(base16ct::lower::encode_string(&digest)[..16].to_string())
}

/// Copies the files into `kept`, in place of older copies. Returns whether there were any.
fn keep_files(paths: &InstancePaths, kept: &Path, who: &StateOwner) -> Result<bool> {
    let what = || format!("copy ComfyUI's database and settings to {}", kept.display());
    let (uid, gid) = who.records.unwrap_or((who.uid, who.gid));
    for folder in [kept.parent().unwrap_or(kept), kept] {
        edit::make_dir(folder, uid, gid, 0o750).with_context(what)?;
    }
    let mut any = false;
    for (folder, name) in FILES {
        let to = kept.join(name.to_string_lossy().as_ref());
        let Some(mut from) = open_own(paths, folder, name, who)? else {
            edit::remove_path(&to).with_context(what)?;
            continue;
        };
        any = true;
        let part = to.with_extension("part");
        edit::remove_path(&part).with_context(what)?;
        let copied = (|| -> io::Result<()> {
            let mut new = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&part)?;
            io::copy(&mut (&mut from).take(LARGEST), &mut new)?;
            fchown(&new, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            fchmod(&new, as_mode(0o640))?;
            new.sync_all()?;
            edit::remove_path(&to)?;
            edit::move_to(&part, &to)
        })();
        copied.with_context(what)?;
    }
    Ok(any)
}

/// Opens a file of the sandbox user's in `state/user`, without following a link; `None` if there
/// is none, or a share is in its place.
fn open_own(
    paths: &InstancePaths,
    folder: Option<&CStr>,
    name: &CStr,
    who: &StateOwner,
) -> Result<Option<std::fs::File>> {
    let doing = || format!("open {}", paths.state_of("user").display());
    let Some(dir) = user_folder(paths, folder).with_context(doing)? else {
        return Ok(None);
    };
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let fd = match openat(&dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ELOOP) => return Ok(None),
        Err(e) => return Err(e).with_context(doing),
    };
    let st = fstat(&fd).with_context(doing)?;
    let own = file_type(&st) == FileType::File && st.st_uid == who.uid && st.st_nlink == 1;
    if own && u64::try_from(st.st_size).is_ok_and(|size| size > LARGEST) {
        return Err(Problem::new(format!(
            "{}: {} is too large to be copied before this version of ComfyUI changes it",
            paths.state_of("user").display(),
            name.to_string_lossy()
        ))
        .with_hint("move it away, or back it up and remove it"));
    }
    Ok(own.then(|| std::fs::File::from(fd)))
}

/// Opens `state/user` or a folder in it; `None` if there is none, or a link to a share.
fn user_folder(paths: &InstancePaths, folder: Option<&CStr>) -> io::Result<Option<OwnedFd>> {
    let absent = |e: &io::Error| {
        matches!(
            e.raw_os_error().map(nix::errno::Errno::from_raw),
            Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR)
        )
    };
    let opened = open_dir(&paths.state_of("user")).and_then(|user| match folder {
        Some(name) => open_dir_at(&user, name),
        None => Ok(user),
    });
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts the copies in `kept` in the place of what is there.
fn restore_files(paths: &InstancePaths, kept: &Path, who: &StateOwner) -> Result<()> {
    let what = || format!("restore {}", kept.display());
    if let Some(user) = user_folder(paths, None).with_context(what)? {
        for name in DERIVED {
            unlink(&user, name).with_context(what)?;
        }
    }
    for (folder, name) in FILES {
        let from = kept.join(name.to_string_lossy().as_ref());
        let opened = super::fs::absent_as_none(std::fs::File::open(&from));
        let Some(mut from) = opened.with_context(what)? else {
            continue;
        };
        let Some(dir) = user_folder(paths, folder).with_context(what)? else {
            continue;
        };
        unlink(&dir, name).with_context(what)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&dir, name, flags, as_mode(0o600)).with_context(what)?;
        let mut new = std::fs::File::from(fd);
        io::copy(&mut from, &mut new).with_context(what)?;
        fchown(
            &new,
            Some(Uid::from_raw(who.uid)),
            Some(Gid::from_raw(who.gid)),
        )
        .with_context(what)?;
        fchmod(&new, as_mode(0o644)).with_context(what)?;
        new.sync_all().with_context(what)?;
    }
    Ok(())
}

fn unlink(dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(nix::errno::Errno::ENOENT) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}
