//! What was read in this process and can be believed in the next: contents by stamp, whole trees by
//! footprint.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::sys::stat::FileStat;

use super::fingerprint::{self, Footprints, TreeFingerprint};
use super::stat_cache::{StatCache, StatKey, now_ns};
use crate::host::fs::{self, open_dir, permission_bits};
use crate::plan::observed::{Seen, UnknownState};
use crate::tree::ObjectId;

/// Content ids that were read or vouched for in this process, and whole trees that were: what the
/// next stat cache and the next footprints are made of.
#[derive(Default)]
pub(crate) struct VerificationCache {
    contents: Mutex<std::collections::HashMap<StatKey, (ObjectId, i64)>>,
    /// Footprints of an earlier complete check.
    known: Footprints,
    whole: Mutex<Footprints>,
    /// Trees whose content this process has sealed, by name.
    vouched: Mutex<BTreeSet<String>>,
    /// Whole trees that got another link to some of their files, and where they lie.
    linked: Mutex<BTreeMap<String, PathBuf>>,
}

impl VerificationCache {
    pub(crate) fn new(known: Footprints) -> VerificationCache {
        VerificationCache {
            known,
            ..VerificationCache::default()
        }
    }

    pub(crate) fn add_content(&self, stamp: StatKey, oid: ObjectId, read_ns: i64) {
        if let Ok(mut m) = self.contents.lock() {
            m.insert(stamp, (oid, read_ns));
        }
    }

    pub(crate) fn extend_contents(&self, more: Vec<(StatKey, ObjectId, i64)>) {
        if let Ok(mut m) = self.contents.lock() {
            m.extend(more.into_iter().map(|(s, o, t)| (s, (o, t))));
        }
    }

    pub(crate) fn content_id(&self, stamp: &StatKey) -> Option<ObjectId> {
        self.contents.lock().ok()?.get(stamp).map(|(o, _)| *o)
    }

    /// Notes that the content of a tree is as it should be, whatever its stamps say.
    pub(crate) fn mark_verified(&self, name: &str) {
        if let Ok(mut v) = self.vouched.lock() {
            v.insert(name.into());
        }
    }

    pub(crate) fn is_vouched(&self, name: &str) -> bool {
        self.vouched.lock().is_ok_and(|v| v.contains(name))
    }

    /// Notes that a whole tree shares files with a new one: its stamps changed by that, and nothing
    /// else.
    pub(crate) fn mark_linked(&self, name: String, folder: PathBuf) {
        if let Ok(mut l) = self.linked.lock() {
            l.insert(name, folder);
        }
    }

    /// Takes the footprints of such trees anew, once the last link is older than the clock's grain.
    pub(crate) fn refresh_linked(&self) {
        for (name, folder) in self.linked.lock().map(|l| l.clone()).unwrap_or_default() {
            if let Some(is) = open_dir(&folder)
                .ok()
                .and_then(|fd| fingerprint::take_fingerprint(fd, now_ns()))
            {
                self.found_whole(&name, is);
            }
        }
    }

    fn found_whole(&self, name: &str, footprint: TreeFingerprint) {
        if let Ok(mut w) = self.whole.lock() {
            w.insert(name.into(), footprint);
        }
    }

    /// The bytes of the stat cache; `None` where nothing was looked up, so that the old one stays.
    pub(crate) fn stat_cache(&self) -> Option<Vec<u8>> {
        let m = self.contents.lock().ok().filter(|m| !m.is_empty())?;
        Some(StatCache::render(m.iter().map(|(s, (o, t))| (*s, *o, *t))))
    }

    /// The footprints known and found, where they differ from those that were known.
    pub(crate) fn changed_fingerprints(&self) -> Option<Footprints> {
        let w = self.whole.lock().ok()?;
        let mut all = self.known.clone();
        all.extend(w.iter().map(|(n, f)| (n.clone(), *f)));
        (!w.is_empty() && all != self.known).then_some(all)
    }
}

/// A sealed folder that is being checked.
pub(crate) struct SealedTree<'a> {
    folder: &'a Path,
    name: String,
    pub fd: OwnedFd,
    root: FileStat,
    /// The folder itself has the owner and the mode that it should have.
    framed: bool,
    /// Nanoseconds since 1970.
    began: i64,
}

impl<'a> SealedTree<'a> {
    /// `None` if there is no such folder; `name` is that of its footprint.
    pub(crate) fn open(
        folder: &'a Path,
        name: String,
        uid: u32,
        gid: u32,
    ) -> Seen<Option<SealedTree<'a>>> {
        let opened = fs::absent_as_none(open_dir(folder)).map_err(|e| fs::unread(folder, &e))?;
        let Some(fd) = opened else {
            return Ok(None);
        };
        let root = nix::sys::stat::fstat(&fd).map_err(|e| fs::unreadable(folder, e))?;
        let framed = root.st_uid == uid && root.st_gid == gid && permission_bits(&root) == 0o755;
        Ok(Some(SealedTree {
            folder,
            name,
            fd,
            root,
            framed,
            began: now_ns(),
        }))
    }

    fn current_fingerprint(&self) -> Seen<Option<TreeFingerprint>> {
        // Opened anew for each walk: a duplicate would share the place in the listing.
        let again =
            fs::open_dir_at(&self.fd, c".").map_err(|e| UnknownState::io(self.folder, &e))?;
        Ok(fingerprint::take_fingerprint(again, self.began))
    }

    /// Whether nothing in it changed since the last complete check.
    pub(crate) fn is_unchanged(&self, readings: &VerificationCache) -> Seen<bool> {
        let Some(known) = readings.known.get(&self.name).filter(|_| self.framed) else {
            return Ok(false);
        };
        let same = self.current_fingerprint()?.is_some_and(|is| is == *known);
        if same {
            readings.found_whole(&self.name, *known);
        }
        Ok(same)
    }

    /// What the folder itself has, if that is not as it should be.
    pub(crate) fn own_metadata(&self) -> Option<String> {
        let r = &self.root;
        (!self.framed).then(|| {
            format!(
                "uid {}, gid {}, mode {:04o}",
                r.st_uid,
                r.st_gid,
                permission_bits(r)
            )
        })
    }

    /// Notes that a complete check found nothing off.
    pub(crate) fn record_verified(&self, readings: &VerificationCache) -> Seen<()> {
        // Taken after the check, and settled before it: what changed in between shows a later
        // ctime, and is not kept.
        if let Some(is) = self.current_fingerprint()? {
            readings.found_whole(&self.name, is);
        }
        Ok(())
    }
}
