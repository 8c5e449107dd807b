//! One number for a whole sealed tree: what stat says of every entry, folded together.
//!
//! A tree whose footprint is that of the last complete check has not changed since: every change of
//! a file, of its owner, mode or name shows another ctime, which nobody can set back. Another
//! footprint only costs the complete check.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use sha2::{Digest, Sha256};

use super::stat_cache::StatKey;
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};

/// The sum of one SHA-256 an entry, so that the order of a parallel walk does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct TreeFingerprint {
    sum: [u64; 4],
    entries: u64,
}

impl TreeFingerprint {
    fn add_entry(&mut self, folder: &[u8], name: &CStr, st: &FileStat) {
        let mut h = Sha256::new();
        h.update(StatKey::from_stat(st).key_bytes());
        for n in [
            st.st_uid,
            st.st_gid,
            crate::host::fs::permission_bits(st),
            crate::host::fs::file_type(st) as u32,
        ] {
            h.update(n.to_be_bytes());
        }
        h.update(folder);
        h.update(b"/");
        h.update(name.to_bytes());
        let digest = h.finalize();
        for (s, word) in self.sum.iter_mut().zip(digest.as_chunks::<8>().0) {
            *s = s.wrapping_add(u64::from_be_bytes(*word));
        }
        self.entries += 1;
    }

    fn combine_with(&mut self, other: &TreeFingerprint) {
        for (s, o) in self.sum.iter_mut().zip(other.sum) {
            *s = s.wrapping_add(o);
        }
        self.entries += other.entries;
    }
}

struct FingerprintVisitor {
    total: Mutex<TreeFingerprint>,
    /// Every entry could be read, and is older than the clock's grain.
    sound: AtomicBool,
    settled_at: i64,
}

impl TreeVisitor for FingerprintVisitor {
    type Local = TreeFingerprint;

    fn visit_entry(
        &self,
        local: &mut TreeFingerprint,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool {
        if !StatKey::from_stat(st).older_than_granularity(self.settled_at) {
            self.sound.store(false, Ordering::Relaxed);
        }
        local.add_entry(&folder.path, name, st);
        true
    }

    fn folder_done(&self, local: TreeFingerprint, _: &WalkedFolder, _: usize) {
        if let Ok(mut t) = self.total.lock() {
            t.combine_with(&local);
        }
    }

    fn read_failed(&self, _: &str, _: Errno) {
        self.sound.store(false, Ordering::Relaxed);
    }
}

/// The footprint of everything below `start`; `None` where something could not be read, or changed
/// so shortly before `settled_at` (nanoseconds since 1970) that a later change could look the same.
pub fn take_fingerprint(start: OwnedFd, settled_at: i64) -> Option<TreeFingerprint> {
    let fold = FingerprintVisitor {
        total: Mutex::default(),
        sound: AtomicBool::new(true),
        settled_at,
    };
    walk_tree(start, &fold);
    fold.sound
        .into_inner()
        .then(|| fold.total.into_inner().unwrap_or_default())
}

/// The footprints of trees that were completely checked, by the name of the tree.
pub(crate) type Footprints = BTreeMap<String, TreeFingerprint>;

/// Those at `path`; an absent or damaged file holds none.
pub fn load_fingerprints(path: &Path) -> Footprints {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fs::open_dir;
    use crate::host::sealed::stat_cache::now_ns;

    #[test]
    fn any_change_shows_and_a_fresh_tree_has_no_footprint() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let now = || take_fingerprint(open_dir(dir.path()).unwrap(), now_ns() + 10_000_000_000);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        write("a", "1");
        write("d/b", "2");
        assert_eq!(
            take_fingerprint(open_dir(dir.path()).unwrap(), now_ns()),
            None,
            "what changed just now could change again unseen"
        );
        let first = now();
        assert_eq!((first, first.map(|f| f.entries)), (now(), Some(3)));
        write("a", "3");
        assert_ne!(now(), first);
        let second = now();
        crate::host::fs::edit::move_to(&dir.path().join("d/b"), &dir.path().join("d/c")).unwrap();
        assert_ne!(now(), second);
    }
}
