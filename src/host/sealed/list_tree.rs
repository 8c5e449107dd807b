//! Every entry of a sealed tree, from one walk.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::stat_cache::Stamp;
use crate::host::fs::walk::{Folder, Visit, walk};
use crate::host::fs::{bits, kind};
use crate::plan::observed::{Kind, Seen, Unknown};

/// One entry of a sealed tree.
pub struct Found {
    /// Below the tree's folder.
    pub path: String,
    pub kind: Kind,
    pub uid: u32,
    pub gid: u32,
    pub bits: u32,
    pub stamp: Stamp,
    pub target: Option<PathBuf>,
}

/// Every entry below `folder`, and which folders are empty.
pub fn gather(fd: &impl AsFd, folder: &Path) -> Seen<(Vec<Found>, Vec<String>)> {
    let start = crate::host::fs::open_dir_at(fd, c".").map_err(|e| Unknown::io(folder, &e))?;
    let gather = Gather::default();
    walk(start, &gather);
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
struct Gather {
    all: Mutex<Vec<Found>>,
    empty: Mutex<Vec<String>>,
    failed: Mutex<Option<Unknown>>,
}

impl Visit for Gather {
    type Local = Vec<Found>;

    fn entry(&self, local: &mut Vec<Found>, folder: &Folder, name: &CStr, st: &FileStat) -> bool {
        let kind = kind(st);
        let target = match kind {
            Kind::Link => nix::fcntl::readlinkat(&folder.fd, name)
                .ok()
                .map(PathBuf::from),
            _ => None,
        };
        local.push(Found {
            path: folder.join(name),
            kind,
            uid: st.st_uid,
            gid: st.st_gid,
            bits: bits(st),
            stamp: Stamp::of(st),
            target,
        });
        true
    }

    fn done(&self, local: Vec<Found>, folder: &Folder, entries: usize) {
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

    fn failed(&self, path: &str, e: Errno) {
        if let Ok(mut f) = self.failed.lock() {
            let reason = format!("{}: {}", crate::text::escape(path), e.desc());
            f.get_or_insert(
                Unknown::new(reason, matches!(e, Errno::EACCES | Errno::EPERM)).caused_by(&e),
            );
        }
    }
}
