//! The stat cache: which content a file had when its inode, size, mtime and ctime were these.
//!
//! A vouching rests on ctime, which nobody can set back, and only once it is older than the clock's
//! grain: what changes after the reading then always shows another ctime. Wrong or missing bytes
//! only cost a reading.

use std::path::Path;

use nix::sys::stat::FileStat;

use crate::tree::ObjectId;

const RECORD: usize = 8 + 8 + 8 + 8 + 20;
const MAGIC: &[u8; 8] = b"comfyst2";
/// Kernel time stamps lag the clock by up to a tick of 10 ms (Linux at HZ=100); file systems with
/// whole seconds by one.
pub(crate) const GRAIN_NS: i64 = 50_000_000;

/// Until what was written before this moment is older than the clock's grain, and can be vouched
/// for.
pub(crate) fn wait_for_grain() {
    std::thread::sleep(std::time::Duration::from_nanos(
        GRAIN_NS.unsigned_abs() + 10_000_000,
    ));
}
const COARSE_NS: i64 = 2_000_000_000;

/// The identity of a file's content as far as stat tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StatKey {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl StatKey {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the widths differ between the platforms"
    )]
    pub(crate) fn from_stat(st: &FileStat) -> StatKey {
        let ns = |s: i64, n: i64| s.wrapping_mul(1_000_000_000).wrapping_add(n);
        StatKey {
            ino: st.st_ino as u64,
            size: st.st_size as u64,
            mtime: ns(st.st_mtime as i64, st.st_mtime_nsec as i64),
            ctime: ns(st.st_ctime as i64, st.st_ctime_nsec as i64),
        }
    }

    /// In bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether content read at `read_ns` (nanoseconds since 1970) can be vouched for by this stamp.
    pub(crate) fn older_than_granularity(&self, read_ns: i64) -> bool {
        let grain = if self.ctime % 1_000_000_000 == 0 {
            COARSE_NS
        } else {
            GRAIN_NS
        };
        self.ctime < read_ns.saturating_sub(grain)
    }

    /// Big endian, so that bytes sort as numbers.
    pub(crate) fn key_bytes(&self) -> [u8; 32] {
        let mut k = [0; 32];
        k[..8].copy_from_slice(&self.ino.to_be_bytes());
        k[8..16].copy_from_slice(&self.size.to_be_bytes());
        k[16..24].copy_from_slice(&self.mtime.to_be_bytes());
        k[24..].copy_from_slice(&self.ctime.to_be_bytes());
        k
    }
}

/// Sorted fixed-width records, searched in place.
#[derive(Default)]
pub(crate) struct StatCache {
    bytes: Vec<u8>,
}

impl StatCache {
    /// The cache at `path`; an absent or damaged one is empty.
    pub(crate) fn load(path: &Path) -> StatCache {
        let bytes = std::fs::read(path).unwrap_or_default();
        let good =
            bytes.len() >= 8 && &bytes[..8] == MAGIC && (bytes.len() - 8).is_multiple_of(RECORD);
        StatCache {
            bytes: if good { bytes } else { Vec::new() },
        }
    }

    fn records(&self) -> &[u8] {
        self.bytes.get(8..).unwrap_or_default()
    }

    pub(crate) fn content_id(&self, stamp: &StatKey) -> Option<ObjectId> {
        let records = self.records();
        let (mut low, mut high) = (0, records.len() / RECORD);
        let wanted = stamp.key_bytes();
        while low < high {
            let middle = usize::midpoint(low, high);
            let record = &records[middle * RECORD..][..RECORD];
            match record[..32].cmp(&wanted[..]) {
                std::cmp::Ordering::Equal => return record[32..].try_into().ok().map(ObjectId),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The bytes of a cache of these readings, each with when it began (`i64::MAX`: nobody but us
    /// could write).
    pub(crate) fn render(readings: impl IntoIterator<Item = (StatKey, ObjectId, i64)>) -> Vec<u8> {
        let mut records: Vec<([u8; 32], ObjectId)> = readings
            .into_iter()
            .filter(|(s, _, t)| s.older_than_granularity(*t))
            .map(|(s, o, _)| (s.key_bytes(), o))
            .collect();
        records.sort_unstable();
        records.dedup();
        let mut out = MAGIC.to_vec();
        for (k, o) in records {
            out.extend_from_slice(&k);
            out.extend_from_slice(&o.0);
        }
        out
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_change_is_never_vouched_for() {
        let stamp = |ino, ctime| StatKey {
            ino,
            size: 5,
            mtime: 7,
            ctime,
        };
        let now = 1_000_000_000_000_123;
        let settled = stamp(1, now - GRAIN_NS - 1);
        let racy = stamp(2, now - GRAIN_NS + 1);
        let coarse = stamp(3, now / 1_000_000_000 * 1_000_000_000 - 1_000_000_000);
        let cache = StatCache {
            bytes: StatCache::render(
                [settled, racy, coarse].map(|s| (s, ObjectId([s.ino as u8; 20]), now)),
            ),
        };
        assert_eq!(cache.content_id(&settled), Some(ObjectId([1; 20])));
        assert_eq!(cache.content_id(&racy), None);
        assert_eq!(cache.content_id(&coarse), None);
        assert_eq!(cache.content_id(&stamp(1, 4)), None);
    }
}
