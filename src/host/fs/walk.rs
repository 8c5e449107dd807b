//! A parallel walk by descriptor: each folder is opened below its parent, nothing is followed, one
//! lstat an entry.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::{file_type, lstat_at, open_dir_at};
use crate::plan::observed::FileType;

/// A folder that is being read: its descriptor, and its path below the start (empty for the start
/// itself).
pub struct WalkedFolder {
    pub fd: OwnedFd,
    pub path: Vec<u8>,
}

impl WalkedFolder {
    /// The path of an entry below the start; lossy where it is not UTF-8.
    pub(crate) fn join(&self, name: &CStr) -> String {
        String::from_utf8(child_path(&self.path, name))
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// What is done with what is found; called from several threads.
pub trait TreeVisitor: Sync {
    /// What is gathered in one folder, handed over by [`TreeVisitor::folder_done`].
    type Local: Default + Send;
    /// Whether to go into a folder is asked here too; for other entries the answer means nothing.
    fn visit_entry(
        &self,
        local: &mut Self::Local,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool;
    /// After a folder's last entry.
    fn folder_done(&self, local: Self::Local, folder: &WalkedFolder, entries: usize);
    /// A folder or entry that could not be read.
    fn read_failed(&self, path: &str, e: Errno);
}

/// Bytes of a path below the start. Nobody reaches what lies deeper by a path (PATH_MAX), and
/// somebody who nests folders without end gains nothing: it is told as ENAMETOOLONG, and not
/// entered.
const LONGEST: usize = 4096;

/// Walks everything below `start`.
pub fn walk_tree<V: TreeVisitor>(start: OwnedFd, visit: &V) {
    rayon::scope(|s| {
        walk_folder(
            s,
            WalkedFolder {
                fd: start,
                path: Vec::new(),
            },
            visit,
        )
    });
}

fn walk_folder<'s, V: TreeVisitor>(scope: &rayon::Scope<'s>, here: WalkedFolder, visit: &'s V) {
    let here = Arc::new(here);
    let mut local = V::Local::default();
    let mut entries = 0;
    // The second descriptor is readdir's own.
    let mut dir = match here
        .fd
        .try_clone()
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))
        .and_then(Dir::from_fd)
    {
        Ok(d) => d,
        Err(e) => return visit.read_failed(&String::from_utf8_lossy(&here.path), e),
    };
    for entry in dir.iter() {
        let entry = match entry {
            Ok(e) => e,
            Err(e) => {
                visit.read_failed(&String::from_utf8_lossy(&here.path), e);
                break;
            }
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries += 1;
        let st = match lstat_at(&here.fd, name) {
            Ok(st) => st,
            // Gone between the listing and the look.
            Err(Errno::ENOENT) => continue,
            Err(e) => {
                visit.read_failed(&here.join(name), e);
                continue;
            }
        };
        let into = visit.visit_entry(&mut local, &here, name, &st);
        if into && file_type(&st) == FileType::Dir {
            let (parent, name) = (Arc::clone(&here), name.to_owned());
            scope.spawn(move |scope| {
                let path = child_path(&parent.path, &name);
                if path.len() > LONGEST {
                    return visit.read_failed(&String::from_utf8_lossy(&path), Errno::ENAMETOOLONG);
                }
                match open_dir_at(&parent.fd, &name) {
                    Ok(fd) => walk_folder(scope, WalkedFolder { fd, path }, visit),
                    Err(e) => visit.read_failed(
                        &String::from_utf8_lossy(&path),
                        Errno::from_raw(e.raw_os_error().unwrap_or(0)),
                    ),
                }
            });
        }
    }
    visit.folder_done(local, &here, entries);
}

fn child_path(parent: &[u8], name: &CStr) -> Vec<u8> {
    let mut p = Vec::with_capacity(parent.len() + name.count_bytes() + 1);
    p.extend_from_slice(parent);
    if !p.is_empty() {
        p.push(b'/');
    }
    p.extend_from_slice(std::ffi::OsStr::from_bytes(name.to_bytes()).as_bytes());
    p
}
