//! What the sandbox user keeps in `state/`, as far as comfy answers for it: nothing that runs as
//! code outlives the code that left it.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};

use super::accounts;
use super::fs::{as_mode, file_type, lstat_at, open_dir, open_dir_at, permission_bits};
use crate::desired::InstancePaths;
use crate::desired::launch::LaunchSpec;
use crate::host::fs::edit;
use crate::host::fs::remove::{ForeignEntry, remove_of};
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

/// Whose things are: the sandbox user's, and who may pass through.
pub(crate) struct StateOwner {
    pub uid: u32,
    pub gid: u32,
    /// The owner; nobody under isolation "none", where the sandbox user is the owner.
    pub passer: Option<u32>,
    /// uid and gid of the records.
    pub records: Option<(u32, u32)>,
}

impl StateOwner {
    pub(crate) fn of(spec: &LaunchSpec, owner_gid: u32) -> StateOwner {
        StateOwner {
            uid: spec.uid,
            gid: spec.gid,
            passer: spec.account.then_some(spec.owner),
            records: spec.account.then_some((0, owner_gid)),
        }
    }
}

/// Whether `state/cache` was filled by that generation alone.
pub(crate) fn cache_is_of(paths: &InstancePaths, generation: &str) -> bool {
    std::fs::read_to_string(paths.cache_owner()).is_ok_and(|id| id == generation)
}

/// Empties `state/cache` and `state/temp`, which then belong to that generation. What libraries
/// have downloaded as data is moved to `state/downloads` before, where an older comfy had it in the
/// cache.
///
/// # Errors
/// The disk.
pub(crate) fn renew_caches(
    paths: &InstancePaths,
    generation: &str,
    who: &StateOwner,
) -> Result<()> {
    let what = || format!("empty {}", paths.state_of("cache").display());
    sweep_trash(paths, who.uid);
    keep_downloads(paths, who).context("keep what was downloaded")?;
    for emptied in EMPTIED {
        replace_folder(paths, emptied, who)?;
    }
    edit::write_file(
        &paths.cache_owner(),
        generation.as_bytes(),
        0o640,
        who.records,
    )
    .with_context(what)
}

/// What is emptied, and how what takes its place is called until then.
const EMPTIED: [(&str, &str); 2] = [("cache", "new-cache-"), ("temp", "new-temp-")];

/// Removes what killed runs have left in the trash.
pub(crate) fn sweep_trash(paths: &InstancePaths, uid: u32) {
    for entry in std::fs::read_dir(paths.trash_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        if EMPTIED
            .iter()
            .map(|(_, staged)| *staged)
            .chain(["new-downloads-"])
            .any(|staged| name.to_string_lossy().starts_with(staged))
        {
            // Where somebody else's folder is in it, it stays, and harms nobody.
            let _ = remove_of(&entry.path(), uid);
        }
    }
}

/// Puts a new folder in the place of one in `state/`, and removes the old one.
fn replace_folder(
    paths: &InstancePaths,
    (name, staged): (&str, &str),
    who: &StateOwner,
) -> Result<()> {
    let staged = edit::random_suffix()
        .map(|n| paths.trash_dir().join(format!("{staged}{n}")))
        .context("find a name")?;
    exchange_folder(paths, name, &staged, who).inspect_err(|_| drop(edit::remove_path(&staged)))
}

fn exchange_folder(
    paths: &InstancePaths,
    name: &str,
    staged: &Path,
    who: &StateOwner,
) -> Result<()> {
    let at = paths.state_of(name);
    let what = || format!("empty {}", at.display());
    let me = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    // Closed to everybody until it is whole.
    edit::make_dir(staged, me.0, me.1, 0o700).with_context(what)?;
    if name == "cache" {
        for inner in ["torch", "torch/hub"] {
            edit::make_dir(&staged.join(inner), me.0, me.1, 0o700).with_context(what)?;
        }
        // torch.hub keeps code and data in one folder (torch/hub.py, load_state_dict_from_url).
        edit::set_link(
            &staged.join("torch/hub/checkpoints"),
            Path::new("../../../downloads/torch/checkpoints"),
            None,
        )
        .with_context(what)?;
        for inner in ["torch/hub", "torch"] {
            edit::set_owner(&staged.join(inner), who.uid, who.gid, 0o755).with_context(what)?;
        }
    }
    edit::set_owner(
        staged,
        who.uid,
        who.gid,
        if who.passer.is_some() { 0o710 } else { 0o700 },
    )
    .with_context(what)?;
    if let Some(owner) = who.passer {
        let name = nix::unistd::User::from_uid(owner.into())
            .ok()
            .flatten()
            .map_or(owner.to_string(), |u| u.name);
        accounts::of_this_machine().grant_search(staged, &name, owner)?;
    }
    if at
        .symlink_metadata()
        .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    {
        return edit::move_to(staged, &at).with_context(what);
    }
    edit::exchange_entries(&at, staged).with_context(what)?;
    discard_folder(paths, staged, who)
}

/// Removes what was taken out of `state/`. What somebody else's folders are in goes to quarantine,
/// with the rights that it has.
fn discard_folder(paths: &InstancePaths, old: &Path, who: &StateOwner) -> Result<()> {
    match remove_of(old, who.uid) {
        Err(e) if e.get_ref().is_some_and(|e| e.is::<ForeignEntry>()) => {
            let to = paths
                .quarantine_dir()
                .join(old.file_name().unwrap_or_default());
            edit::move_to(old, &to).with_context(|| format!("move {} to quarantine", old.display()))
        }
        other => other.with_context(|| format!("remove {}", old.display())),
    }
}

/// Where libraries had data in the cache, and where it is kept: folders of `state/`, and the name
/// in both.
const MOVED: [([&str; 2], [&str; 2], &CStr); 2] = [
    (
        ["cache", "huggingface"],
        ["downloads", "huggingface"],
        c"hub",
    ),
    (
        ["cache/torch", "hub"],
        ["downloads", "torch"],
        c"checkpoints",
    ),
];

fn keep_downloads(paths: &InstancePaths, who: &StateOwner) -> io::Result<()> {
    let inner = |parts: [&str; 2]| -> io::Result<OwnedFd> {
        open_dir_at(
            &open_dir(&paths.state_of(parts[0]))?,
            &super::fs::c_string(parts[1].as_ref())?,
        )
    };
    for (from, to, name) in MOVED {
        let Ok(source) = inner(from) else { continue };
        if !lstat_at(&source, name).is_ok_and(|st| file_type(&st) == FileType::Dir) {
            continue;
        }
        let target = match inner(to) {
            Ok(fd) => fd,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Made where nobody else can exchange it, and moved when it is the sandbox user's.
                let staged = paths
                    .trash_dir()
                    .join(format!("new-downloads-{}", edit::random_suffix()?));
                edit::make_dir(
                    &staged,
                    nix::unistd::geteuid().as_raw(),
                    nix::unistd::getegid().as_raw(),
                    0o700,
                )?;
                edit::set_owner(&staged, who.uid, who.gid, 0o755)?;
                let at = paths.state_of(to[0]).join(to[1]);
                if edit::move_to(&staged, &at).is_err() {
                    // Somebody made one meanwhile.
                    edit::remove_path(&staged)?;
                }
                inner(to)?
            }
            Err(e) => return Err(e),
        };
        match renameat(&source, name, &target, name) {
            // Something is kept there already.
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// What libraries have downloaded and comfy keeps, as the last launch or apply found it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeptDownloads {
    pub files: u64,
    pub bytes: u64,
}

impl KeptDownloads {
    /// Nothing where nobody has looked yet.
    pub(crate) fn read(paths: &InstancePaths) -> KeptDownloads {
        std::fs::read(paths.kept_record())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }
}

struct SetIds {
    uid: u32,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl SetIds {
    fn counts(&self, st: &FileStat) -> bool {
        file_type(st) == FileType::File
            && st.st_uid == self.uid
            && permission_bits(st) & 0o6000 != 0
    }
}

impl TreeVisitor for SetIds {
    type Local = ();
    fn visit_entry(&self, (): &mut (), folder: &WalkedFolder, name: &CStr, st: &FileStat) -> bool {
        if file_type(st) == FileType::File {
            self.files.fetch_add(1, Ordering::Relaxed);
            self.bytes
                .fetch_add(u64::try_from(st.st_size).unwrap_or(0), Ordering::Relaxed);
        }
        if self.counts(st) {
            let flags = OFlag::O_RDONLY
                | OFlag::O_NOFOLLOW
                | OFlag::O_NONBLOCK
                | OFlag::O_NOCTTY
                | OFlag::O_CLOEXEC;
            if let Ok(fd) = openat(&folder.fd, name, flags, Mode::empty())
                && let Ok(now) = fstat(&fd)
                && self.counts(&now)
            {
                // Where the disk refuses it, nobody else reaches the folder all the same.
                let _ = fchmod(&fd, as_mode(permission_bits(&now) & !0o6000));
            }
        }
        true
    }
    fn folder_done(&self, (): (), _: &WalkedFolder, _: usize) {}
    fn read_failed(&self, _: &str, _: Errno) {}
}

/// Takes set-uid and set-gid off every program of the sandbox user's in these folders: whoever
/// started one would be the sandbox user, outside of every wall. Notes on the way what is kept in
/// `state/downloads`.
pub(crate) fn strip_set_ids<'a>(
    folders: impl IntoIterator<Item = &'a PathBuf>,
    paths: &InstancePaths,
    who: &StateOwner,
) {
    for folder in folders {
        // One that is not there holds none.
        let Ok(fd) = open_dir(folder) else { continue };
        let visit = SetIds {
            uid: who.uid,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        walk_tree(fd, &visit);
        let kept = KeptDownloads {
            files: visit.files.into_inner(),
            bytes: visit.bytes.into_inner(),
        };
        if *folder == paths.state_of("downloads")
            && kept != KeptDownloads::read(paths)
            && let Ok(text) = serde_json::to_vec(&kept)
        {
            // For people to read: a disk that is full is no reason not to launch.
            let _ = edit::write_file(&paths.kept_record(), &text, 0o640, who.records);
        }
    }
}

/// Refuses a `state/` that somebody else than root could rename things in.
///
/// # Errors
/// An older comfy made it.
pub(crate) fn ensure_sealed(paths: &InstancePaths) -> Result<()> {
    let state = paths.state_dir();
    match super::fs::read_entry(&state) {
        Ok(Some(n)) if n.kind == FileType::Dir && n.uid == 0 && n.mode & 0o022 == 0 => Ok(()),
        Ok(None) => Err(Problem::new(format!("{} does not exist", state.display()))
            .with_hint("run `comfy apply`")),
        Err(u) => Err(u.into()),
        Ok(Some(_)) => {
            let why = format!(
                "{} is not owned by root, as in older versions of comfy: its content could be \
                    replaced, so nothing is started",
                state.display()
            );
            Err(Problem::new(why).with_hint("run `comfy apply`, which migrates it"))
        }
    }
}
