//! A share's tree: one rule ([`rules::fault`]) that both the check and the mend follow.

pub mod first_content;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::fs::{as_mode, file_type, open_dir, permission_bits};
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{acl, mounts};
use crate::host::models::verified_hashes::{Hashes, Key};
use crate::manifest::ShareAccess;
use crate::plan::model_summary::ModelFile;
use crate::plan::observed::{FileType, Seen, ShareSpec, ShareState, UnknownState};
use crate::plan::share_rules as rules;
use crate::plan::share_rules::{ShareDrift, ShareEntry, UnmanagedReason};
use crate::problem::{Problem, Result};

/// [`rules::fault`] on a stat.
fn evaluate_stat(s: &ShareSpec, st: &FileStat) -> (Option<ShareDrift>, Option<UnmanagedReason>) {
    #[allow(clippy::useless_conversion, reason = "nlink_t has 16 bits on macOS")]
    let links = u64::from(st.st_nlink);
    rules::evaluate_entry(
        s,
        &ShareEntry {
            kind: file_type(st),
            uid: st.st_uid,
            gid: st.st_gid,
            mode: permission_bits(st),
            links,
        },
    )
}

#[derive(Default)]
struct ShareStats {
    entries: usize,
    groups: BTreeMap<(bool, u32), usize>,
    /// Word, count.
    modes: BTreeMap<&'static str, usize>,
    odd: BTreeMap<UnmanagedReason, (usize, Vec<String>)>,
    examples: Vec<String>,
}

const EXAMPLES: usize = 3;
/// Characters of an example.
const LENGTH: usize = 80;

impl ShareStats {
    fn note_unmanaged(&mut self, odd: UnmanagedReason, path: &str) {
        let (n, examples) = self.odd.entry(odd).or_default();
        *n += 1;
        if examples.len() < EXAMPLES {
            examples.push(example_path(path));
        }
    }
}

/// A path for people; of a long one the beginning.
fn example_path(path: &str) -> String {
    let mut short: String = crate::text::escape_text(path)
        .chars()
        .take(LENGTH + 1)
        .collect();
    if short.chars().count() > LENGTH {
        short.pop();
        short.push('…');
    }
    short
}

struct ShareVisitor<'a> {
    spec: &'a ShareSpec,
    /// What is known of models, where the share holds some.
    hashes: Option<&'a Hashes>,
    total: Mutex<ShareStats>,
    files: Mutex<Vec<Vec<ModelFile>>>,
    failed: Mutex<Option<UnknownState>>,
}

impl TreeVisitor for ShareVisitor<'_> {
    /// The files are those of one folder, for [`Check::files`].
    type Local = (ShareStats, Vec<ModelFile>);

    fn visit_entry(
        &self,
        (t, files): &mut Self::Local,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool {
        let dir = file_type(st) == FileType::Dir;
        if let Some(hashes) = self.hashes.filter(|_| !dir) {
            files.push(model_file(hashes, folder.join(name), st));
        }
        if !self.spec.modes {
            return dir;
        }
        let (fault, odd) = evaluate_stat(self.spec, st);
        if let Some(o) = odd {
            t.note_unmanaged(o, &folder.join(name));
        }
        if let Some(f) = fault {
            if f.group {
                *t.groups.entry((dir, st.st_gid)).or_default() += 1;
            }
            if let Some(want) = f.mode {
                *t.modes
                    .entry(rules::mode_phrase(
                        self.spec,
                        dir,
                        permission_bits(st),
                        want,
                    ))
                    .or_default() += 1;
            }
            if f.owner {
                *t.modes
                    .entry("folders belong to the sandbox user")
                    .or_default() += 1;
            }
            if t.examples.len() < EXAMPLES {
                t.examples.push(example_path(&folder.join(name)));
            }
        }
        dir
    }

    fn folder_done(&self, (local, found): Self::Local, folder: &WalkedFolder, entries: usize) {
        if !found.is_empty()
            && let Ok(mut files) = self.files.lock()
        {
            files.push(found);
        }
        let Ok(mut all) = self.total.lock() else {
            return;
        };
        all.entries += entries;
        for (k, n) in local.groups {
            *all.groups.entry(k).or_default() += n;
        }
        for (k, n) in local.modes {
            *all.modes.entry(k).or_default() += n;
        }
        for (k, (n, examples)) in local.odd {
            let (total, some) = all.odd.entry(k).or_default();
            *total += n;
            some.extend(examples);
            some.sort();
            some.truncate(EXAMPLES);
        }
        if hands_down(self.spec, folder) {
            *all.modes.entry(HANDS_DOWN).or_default() += 1;
            all.examples
                .push(example_path(&String::from_utf8_lossy(&folder.path)));
        }
        all.examples.extend(local.examples);
        if all.examples.len() > EXAMPLES * 8 {
            all.examples.sort();
            all.examples.truncate(EXAMPLES);
        }
    }

    fn read_failed(&self, path: &str, e: Errno) {
        if e == Errno::ENAMETOOLONG {
            if let Ok(mut all) = self.total.lock() {
                all.note_unmanaged(UnmanagedReason::Deep, path);
            }
        } else if let Ok(mut f) = self.failed.lock() {
            let reason = format!(
                "{}/{}: {}",
                self.spec.path.display(),
                crate::text::escape_text(path),
                e.desc()
            );
            f.get_or_insert(
                UnknownState::new(reason, matches!(e, Errno::EACCES | Errno::EPERM)).caused_by(&e),
            );
        }
    }
}

#[allow(
    clippy::useless_conversion,
    reason = "the widths differ between the platforms"
)]
fn model_file(hashes: &Hashes, path: String, st: &FileStat) -> ModelFile {
    let changed = i64::from(st.st_mtime).max(i64::from(st.st_ctime));
    ModelFile {
        path,
        kind: file_type(st),
        size: u64::try_from(st.st_size).unwrap_or(0),
        changed,
        known: hashes.get(&Key::of(st)),
    }
}

/// What the share at `spec.path` is; that path holds no links. With `hashes` every file is told.
pub fn check_share(
    spec: &ShareSpec,
    hashes: Option<&Hashes>,
    group_name: &dyn Fn(u32) -> String,
) -> Seen<Option<ShareState>> {
    mount_ready(spec)?;
    let Some(node) = super::fs::read_entry(&spec.path)? else {
        return Ok(None);
    };
    if node.kind != FileType::Dir {
        return Err(UnknownState::new(
            format!("{} is not a folder", spec.path.display()),
            false,
        ));
    }
    let mut share = ShareState {
        real: spec.path.clone(),
        uid: node.uid,
        gid: node.gid,
        mode: node.mode,
        ..ShareState::default()
    };
    if !spec.modes && hashes.is_none() {
        return Ok(Some(share));
    }
    let fd = open_dir(&spec.path).map_err(|e| {
        UnknownState::new(
            format!("{}: {e}", spec.path.display()),
            e.kind() == std::io::ErrorKind::PermissionDenied,
        )
        .caused_by(&e)
    })?;
    let check = ShareVisitor {
        spec,
        hashes,
        total: Mutex::default(),
        files: Mutex::default(),
        failed: Mutex::new(None),
    };
    walk_tree(fd, &check);
    if let Some(u) = check.failed.into_inner().unwrap_or(None) {
        return Err(u);
    }
    let t = check.total.into_inner().unwrap_or_default();
    share.entries = t.entries;
    for ((dir, gid), n) in t.groups {
        let what = format!(
            "{} have group {}",
            if dir { "folders" } else { "files" },
            group_name(gid)
        );
        *share.off.entry(what).or_default() += n;
    }
    for (what, n) in t.modes {
        *share.off.entry(what.to_string()).or_default() += n;
    }
    share.warnings = t
        .odd
        .iter()
        .map(|(o, (n, examples))| {
            format!(
                "{n} {}: left alone, for example {}",
                o.word(),
                examples.join(", ")
            )
        })
        .collect();
    share.files = check.files.into_inner().unwrap_or_default();
    share.examples = t.examples;
    share.examples.sort();
    share.examples.truncate(EXAMPLES);
    Ok(Some(share))
}

/// A volume that is absent makes its share unknown; nothing is made on the mount point.
pub fn mount_ready(spec: &ShareSpec) -> Seen<()> {
    ensure_mounted(spec.requires_mount.as_deref())
}

/// Whether the volume that something needs is there.
pub fn ensure_mounted(volume: Option<&std::path::Path>) -> Seen<()> {
    let Some(volume) = volume else { return Ok(()) };
    let say = |why: String| UnknownState::new(format!("volume {} {why}", volume.display()), false);
    match mounts::is_mounted(volume) {
        Ok(true) => Ok(()),
        Ok(false) => Err(say("is not mounted".into())),
        Err(e) => Err(say(format!("could not be asked for: {e}"))),
    }
}

/// Whether a folder has a list of others' rights, which whatever is made in it inherits. Where the
/// sandbox may add folders it may have made such a one, and what the owner puts there would be for
/// others to change.
fn hands_down(spec: &ShareSpec, folder: &WalkedFolder) -> bool {
    spec.modes && spec.access == ShareAccess::Add && acl::has_list(&folder.fd)
}

const HANDS_DOWN: &str = "folders have an access list";

struct ShareRepair<'a> {
    spec: &'a ShareSpec,
    mended: AtomicUsize,
    problems: Mutex<Vec<Problem>>,
}

impl TreeVisitor for ShareRepair<'_> {
    type Local = ();

    fn visit_entry(&self, (): &mut (), folder: &WalkedFolder, name: &CStr, st: &FileStat) -> bool {
        let dir = file_type(st) == FileType::Dir;
        if let Some(f) = evaluate_stat(self.spec, st).0 {
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
    fn add_problem(&self, message: String) {
        if let Ok(mut p) = self.problems.lock()
            && p.len() < 20
        {
            p.push(Problem::new(message));
        }
    }
}

/// Opens the entry and decides again on the descriptor: between listing and opening it may have
/// been swapped.
fn mend_one(
    spec: &ShareSpec,
    dir: &OwnedFd,
    name: &CStr,
    is_dir: bool,
    seen: &ShareDrift,
) -> std::io::Result<()> {
    // A group alone needs no open file, which on Linux is the cheaper way (open(2), O_PATH).
    let light = cfg!(target_os = "linux") && seen.mode.is_none() && !seen.owner;
    // Non-blocking: a pipe put here in the meantime must not hold us.
    let flags = if light {
        super::fs::THROUGH
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
    let Some(f) = evaluate_stat(spec, &st).0 else {
        return Ok(());
    };
    if light && (f.mode.is_some() || f.owner) {
        return mend_one(spec, dir, name, is_dir, &f);
    }
    let owner = f.owner.then(|| Uid::from_raw(spec.owner));
    let group = f.group.then(|| Gid::from_raw(spec.gid));
    if owner.is_some() || group.is_some() {
        if light {
            super::fs::chown_opened(&fd, owner, group)?
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
pub fn repair_share(spec: &ShareSpec) -> Result<usize> {
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
/// As [`mend`].
pub fn mend_opened(spec: &ShareSpec, fd: OwnedFd) -> Result<usize> {
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

/// The share's own folder, with what is missing above it: owned by the owner, the folder itself
/// with its exact mode.
pub fn make_root(spec: &ShareSpec) -> Result<()> {
    let fail = |e: std::io::Error| {
        Problem::new(format!("share {}: {}: {e}", spec.name, spec.path.display())).caused_by(&e)
    };
    mount_ready(spec)
        .map_err(|u| Problem::new(format!("share {}: {}", spec.name, u.reason)).of_kind(u.kind))?;
    let (owner, group) = (Uid::from_raw(spec.owner), Gid::from_raw(spec.owner_gid));
    crate::host::fs::edit::make_parents(&spec.path, owner, group).map_err(fail)?;
    let (parent, name) = super::fs::open_parent(&spec.path).map_err(fail)?;
    match nix::sys::stat::mkdirat(&parent, name.as_c_str(), as_mode(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(fail(e.into())),
    }
    let fd = super::fs::open_dir_at(&parent, &name).map_err(fail)?;
    if !spec.modes {
        let st = fstat(&fd).map_err(|e| fail(e.into()))?;
        return if permission_bits(&st) == 0o700 {
            fchmod(&fd, as_mode(0o755)).map_err(|e| fail(e.into()))
        } else {
            Ok(())
        };
    }
    let st = fstat(&fd).map_err(|e| fail(e.into()))?;
    if st.st_uid != spec.owner && st.st_uid != 0 {
        return Err(Problem::new(format!(
            "share {}: {} belongs to uid {}",
            spec.name,
            spec.path.display(),
            st.st_uid
        ))
        .with_hint(format!(
            "if it is yours: sudo chown {} {}",
            spec.owner,
            spec.path.display()
        )));
    }
    // Again on what was opened: the plan has looked at the path.
    if st.st_uid != spec.owner && !super::fs::is_empty(&fd).map_err(fail)? {
        return Err(Problem::new(format!(
            "share {}: {} belongs to root and is not empty: comfy does not take it over",
            spec.name,
            spec.path.display()
        ))
        .with_hint(format!(
            "look at it, and if it is yours: sudo chown {} '{}'",
            spec.owner,
            spec.path.display()
        )));
    }
    acl::drop_all(&fd);
    fchown(&fd, Some(owner), Some(Gid::from_raw(spec.gid))).map_err(|e| fail(e.into()))?;
    fchmod(&fd, as_mode(spec.root_mode())).map_err(|e| fail(e.into()))
}

/// Set-id files and files that are linked from elsewhere keep what they have: another group could
/// give them rights.
fn is_releasable(st: &FileStat) -> bool {
    match file_type(st) {
        FileType::Dir => true,
        FileType::File => st.st_nlink == 1 && permission_bits(st) & 0o6000 == 0,
        _ => false,
    }
}

struct ShareRelease {
    from: u32,
    to: Gid,
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
pub fn release_share(path: &std::path::Path, from: u32, to: u32, root_mode: u32) -> Result<()> {
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
