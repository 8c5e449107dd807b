//! Looks at a share: which entries are off, and how many.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::{HANDS_DOWN, evaluate_stat, hands_down, is_passed_over, mount_ready};
use crate::host::fs::bsd_flags;
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{file_type, open_dir, permission_bits};
use crate::host::models::verified_hashes::{Hashes, Key};
use crate::plan::model_summary::ModelFile;
use crate::plan::observed::{FileType, Seen, ShareSpec, ShareState, UnknownState};
use crate::plan::share_rules as rules;
use crate::plan::share_rules::UnmanagedReason;

#[derive(Default)]
pub(super) struct ShareStats {
    pub(super) entries: usize,
    pub(super) groups: BTreeMap<(bool, u32), usize>,
    /// Word, count.
    pub(super) modes: BTreeMap<&'static str, usize>,
    pub(super) odd: BTreeMap<UnmanagedReason, (usize, Vec<String>)>,
    pub(super) examples: Vec<String>,
}

pub(super) const EXAMPLES: usize = 3;

/// Characters of an example.
pub(super) const LENGTH: usize = 80;

impl ShareStats {
    pub(super) fn note_unmanaged(&mut self, odd: UnmanagedReason, path: &str) {
        let (n, examples) = self.odd.entry(odd).or_default();
        *n += 1;
        if examples.len() < EXAMPLES {
            examples.push(example_path(path));
        }
    }
}

/// A path for people; of a long one the beginning.
pub(super) fn example_path(path: &str) -> String {
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

pub(super) struct ShareVisitor<'a> {
    pub(super) spec: &'a ShareSpec,
    /// What is known of models, where the share holds some.
    pub(super) hashes: Option<&'a Hashes>,
    pub(super) total: Mutex<ShareStats>,
    pub(super) files: Mutex<Vec<Vec<ModelFile>>>,
    pub(super) failed: Mutex<Option<UnknownState>>,
}

impl TreeVisitor for ShareVisitor<'_> {
    /// The files are those of one folder, for [`ShareVisitor::files`].
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
        if !self.spec.modes || is_passed_over(name) {
            return dir;
        }
        if file_type(st) == FileType::Link
            && let Ok(target) = nix::fcntl::readlinkat(&folder.fd, name)
        {
            let at = String::from_utf8_lossy(&folder.path);
            if rules::leads_out(&self.spec.path, &at, Path::new(&target)) {
                t.note_unmanaged(UnmanagedReason::LeadsOut, &folder.join(name));
            }
        }
        let (fault, odd) = evaluate_stat(self.spec, st, bsd_flags::flags_at(&folder.fd, name, st));
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
pub(super) fn model_file(hashes: &Hashes, path: String, st: &FileStat) -> ModelFile {
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
pub(crate) fn check_share(
    spec: &ShareSpec,
    hashes: Option<&Hashes>,
    group_name: &dyn Fn(u32) -> String,
) -> Seen<Option<ShareState>> {
    mount_ready(spec)?;
    let Some(node) = crate::host::fs::read_entry(&spec.path)? else {
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
