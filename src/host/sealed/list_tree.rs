//! Every entry of a sealed tree, from one walk.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::stat_cache::StatKey;
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{file_type, permission_bits};
use crate::plan::observed::{FileType, Seen, UnknownState};

/// One entry of a sealed tree.
pub(crate) struct FoundEntry {
    /// Below the tree's folder.
    pub path: String,
    pub kind: FileType,
    pub uid: u32,
    pub gid: u32,
    pub bits: u32,
    pub stamp: StatKey,
    pub target: Option<PathBuf>,
}

/// Every entry below `folder`, and which folders are empty.
pub(crate) fn list_tree(fd: &impl AsFd, folder: &Path) -> Seen<(Vec<FoundEntry>, Vec<String>)> {
    let start = crate::host::fs::open_dir_at(fd, c".").map_err(|e| UnknownState::io(folder, &e))?;
    let gather = ListVisitor::default();
    walk_tree(start, &gather);
    if let Some(mut u) = gather.failed.into_inner().unwrap_or(None) {
        u.reason = format!("{}/{}", folder.display(), u.reason);
        return Err(u);
    }
    Ok((
        gather.all.into_inner().unwrap_or_default(),
        gather.empty.into_inner().unwrap_or_default(),
    ))
}

#[derive(Default)]
struct ListVisitor {
    all: Mutex<Vec<FoundEntry>>,
    empty: Mutex<Vec<String>>,
    failed: Mutex<Option<UnknownState>>,
}

impl TreeVisitor for ListVisitor {
    type Local = Vec<FoundEntry>;

    fn visit_entry(
        &self,
        local: &mut Vec<FoundEntry>,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool {
        let kind = file_type(st);
        let target = match kind {
            FileType::Link => nix::fcntl::readlinkat(&folder.fd, name)
                .ok()
                .map(PathBuf::from),
            _ => None,
        };
        local.push(FoundEntry {
            path: folder.join(name),
            kind,
            uid: st.st_uid,
            gid: st.st_gid,
            bits: permission_bits(st),
            stamp: StatKey::from_stat(st),
            target,
        });
        true
    }

    fn folder_done(&self, local: Vec<FoundEntry>, folder: &WalkedFolder, entries: usize) {
        if entries == 0
            && !folder.path.is_empty()
            && let Ok(mut e) = self.empty.lock()
        {
            e.push(String::from_utf8_lossy(&folder.path).into_owned());
        }
        if let Ok(mut all) = self.all.lock() {
            all.extend(local);
        }
    }

    fn read_failed(&self, path: &str, e: Errno) {
        if let Ok(mut f) = self.failed.lock() {
            let reason = format!("{}: {}", crate::text::escape_text(path), e.desc());
            f.get_or_insert(
                UnknownState::new(reason, matches!(e, Errno::EACCES | Errno::EPERM)).caused_by(&e),
            );
        }
    }
}
