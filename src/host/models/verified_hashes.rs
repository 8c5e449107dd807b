//! Hashes verified before: the SHA-256 of a file with given stat data, and its BLAKE3 where that was
//! computed too.
//!
//! As with [`crate::host::sealed::stat_cache`], a vouching rests on ctime, and only once that is
//! older than the clock's grain. Two files hold it: one among the records, written by an apply, and
//! the caller's own, written by `lock` and `verify`. The sandbox user can write neither.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::sys::stat::FileStat;

use crate::desired::paths::InstancePaths;
use crate::host::fs::edit;
use crate::host::sealed::stat_cache::StatKey;
use crate::lock::{Blake3Digest, FileDigests, Sha256Digest};
use crate::problem::{Context, Result};

const MAGIC: &[u8; 8] = b"comfymh2";
/// As it was before it had BLAKE3. It is read, so that nothing is hashed again.
const OLD_MAGIC: &[u8; 8] = b"comfymh1";
const KEY: usize = 8 + 32;
const OLD_RECORD: usize = KEY + 32;
/// Key, SHA-256, BLAKE3 or zeros.
const RECORD: usize = OLD_RECORD + 32;
/// Beyond this, what was not asked for in this run is forgotten.
const MOST: usize = 400_000;

/// A file's identity: device and [`StatKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key([u8; KEY]);

impl Key {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the widths differ between the platforms"
    )]
    pub(crate) fn of(st: &FileStat) -> Key {
        let mut k = [0; KEY];
        k[..8].copy_from_slice(&(st.st_dev as u64).to_be_bytes());
        k[8..].copy_from_slice(&StatKey::from_stat(st).key_bytes());
        Key(k)
    }
}

#[derive(Default)]
pub(crate) struct Hashes {
    /// Files of sorted records, searched in place; each is read when those before it do not know a
    /// file.
    old: Vec<(PathBuf, OnceLock<Vec<u8>>)>,
    new: Mutex<HashMap<Key, FileDigests>>,
    /// Whether there is something in `new`: most runs have nothing, and ask twenty thousand times.
    news: AtomicBool,
}

impl Hashes {
    /// What these files hold; absent or damaged ones hold nothing.
    pub(crate) fn load(paths: &[PathBuf]) -> Hashes {
        Hashes {
            old: paths.iter().map(|p| (p.clone(), OnceLock::new())).collect(),
            ..Hashes::default()
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Sha256Digest> {
        self.digests(key).map(|d| d.sha256)
    }

    /// All that is known of a file's content.
    pub(crate) fn digests(&self, key: &Key) -> Option<FileDigests> {
        if self.has_news()
            && let Some(digests) = self.new.lock().ok().and_then(|n| n.get(key).copied())
        {
            return Some(digests);
        }
        self.old.iter().find_map(|old| {
            let records = vouched(old);
            // Device and inode as one number first: a library asks this twenty thousand times.
            let wanted = head(&key.0);
            let at = records.partition_point(|r| head(r) < wanted);
            let found = records[at..]
                .iter()
                .take_while(|r| head(*r) == wanted)
                .find(|r| r[..KEY] == key.0)?;
            let [sha256, blake3] = found[KEY..].as_chunks::<32>().0 else {
                return None;
            };
            Some(FileDigests {
                sha256: Sha256Digest(*sha256),
                blake3: (*blake3 != [0; 32]).then_some(Blake3Digest(*blake3)),
            })
        })
    }

    /// Notes a reading that began at `read_ns` (nanoseconds since 1970), where its stamp can vouch
    /// for it.
    pub(crate) fn add(&self, st: &FileStat, digests: FileDigests, read_ns: i64) {
        if StatKey::from_stat(st).older_than_granularity(read_ns)
            && let Ok(mut new) = self.new.lock()
        {
            new.insert(Key::of(st), digests);
            self.news.store(true, Ordering::Release);
        }
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Writes what is new into the file at `path`, beside what that holds.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
        let Ok(new) = self.new.lock().map(|n| n.clone()) else {
            return Ok(());
        };
        // Read again: another comfy may have written meanwhile.
        let before = Hashes::load(&[path.to_path_buf()]);
        let mut records: Vec<[u8; RECORD]> = new.iter().map(|(k, d)| record(k, d)).collect();
        let kept = before.old.iter().flat_map(vouched);
        records.extend(
            kept.filter(|r| !r[..KEY].try_into().is_ok_and(|k| new.contains_key(&Key(k))))
                .take(MOST.saturating_sub(new.len())),
        );
        records.sort_unstable();
        let mut bytes = MAGIC.to_vec();
        records.iter().for_each(|r| bytes.extend_from_slice(r));
        let me = (nix::unistd::geteuid(), nix::unistd::getegid());
        let doing = || format!("write {}", path.display());
        edit::make_parents(path, me.0, me.1).with_context(doing)?;
        edit::write_file(path, &bytes, 0o640, owner).with_context(doing)
    }
}

/// The records of a file; none if it is damaged.
fn vouched((path, bytes): &(PathBuf, OnceLock<Vec<u8>>)) -> &[[u8; RECORD]] {
    let bytes = bytes.get_or_init(|| with_blake3(std::fs::read(path).unwrap_or_default()));
    let records = bytes.strip_prefix(MAGIC).map(|b| b.as_chunks::<RECORD>());
    records
        .filter(|(_, rest)| rest.is_empty())
        .map_or(&[], |(all, _)| all)
}

/// The bytes of such a file as it is written now.
fn with_blake3(bytes: Vec<u8>) -> Vec<u8> {
    let Some(old) = bytes.strip_prefix(OLD_MAGIC) else {
        return bytes;
    };
    let (records, rest) = old.as_chunks::<OLD_RECORD>();
    let mut out = MAGIC.to_vec();
    for record in records {
        out.extend_from_slice(record);
        out.extend_from_slice(&[0; RECORD - OLD_RECORD]);
    }
    // What is damaged stays so.
    out.extend_from_slice(rest);
    out
}

fn head(record: &[u8]) -> u128 {
    record.first_chunk().map_or(0, |h| u128::from_be_bytes(*h))
}

fn record(key: &Key, digests: &FileDigests) -> [u8; RECORD] {
    let mut r = [0; RECORD];
    r[..KEY].copy_from_slice(&key.0);
    r[KEY..OLD_RECORD].copy_from_slice(&digests.sha256.0);
    if let Some(blake3) = digests.blake3 {
        r[OLD_RECORD..].copy_from_slice(&blake3.0);
    }
    r
}

/// The caller's own file.
pub(crate) fn own_path() -> Option<PathBuf> {
    Some(crate::host::env::cache_home()?.join("model-hashes"))
}

/// The records, and the caller's own file, except for root, who trusts only the records if there
/// are two accounts.
pub(crate) fn believed(paths: &InstancePaths) -> Vec<PathBuf> {
    let own = (paths.home.is_none() || !nix::unistd::geteuid().is_root())
        .then(own_path)
        .flatten();
    std::iter::once(paths.model_hashes()).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that was hashed by an older comfy is not read again.
    #[test]
    fn hashes_of_an_older_comfy_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model-hashes");
        let mut bytes = OLD_MAGIC.to_vec();
        for n in 1..=3 {
            bytes.extend_from_slice(&[n; KEY]);
            bytes.extend_from_slice(&[n + 10; 32]);
        }
        std::fs::write(&path, &bytes).unwrap();
        let known = Hashes::load(std::slice::from_ref(&path));
        let old = FileDigests::from(Sha256Digest([12; 32]));
        assert_eq!(known.digests(&Key([2; KEY])), Some(old));
        let both = FileDigests {
            blake3: Some(Blake3Digest([7; 32])),
            ..old
        };
        known.new.lock().unwrap().insert(Key([4; KEY]), both);
        known.save(&path, None).unwrap();
        let known = Hashes::load(std::slice::from_ref(&path));
        assert_eq!(known.digests(&Key([2; KEY])), Some(old));
        assert_eq!(known.digests(&Key([4; KEY])), Some(both));
        assert_eq!(known.digests(&Key([5; KEY])), None);
    }
}
