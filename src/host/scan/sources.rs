//! Which files a scan looks at, by descriptor: nothing is followed out of its folder.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::git_tree;
use crate::host::fs::{file_type, lstat_at, open_dir_at};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::EntryFacts;
use crate::tree::{ObjectId, TreeExclusions};

/// What is scanned together.
#[derive(Debug, Clone)]
pub(crate) struct ScanUnit {
    /// Stands before the paths of its files; empty, or it ends in `/`.
    pub prefix: String,
    pub source: ScanSource,
}

#[derive(Debug, Clone)]
pub(crate) enum ScanSource {
    /// A file.
    File(PathBuf),
    Folder(FolderSource),
    /// Commits of repositories of comfy's store, each at a path of the first.
    Commits(Vec<CommitSource>),
}

#[derive(Debug, Clone)]
pub(crate) struct FolderSource {
    pub path: PathBuf,
    /// Folders of its `custom_nodes` that are units of their own.
    pub left_out: Vec<String>,
    /// Whether comfy built it: then its links and its bytecode are comfy's own.
    pub built: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct CommitSource {
    /// Empty, or the path of a submodule with `/` at its end.
    pub prefix: String,
    pub repository: PathBuf,
    pub commit: ObjectId,
    /// What is not installed.
    pub exclude: TreeExclusions,
}

/// One entry, as it is handed to `visit`.
pub(super) enum ScanEntry {
    /// Bytes `start..start+size` of a file.
    File {
        facts: EntryFacts,
        file: Arc<File>,
        start: u64,
        size: u64,
    },
    Link {
        path: String,
        target: String,
    },
    /// A pipe, socket or device.
    Special {
        path: String,
    },
    Unreadable {
        path: String,
        why: String,
    },
    /// The store does not have its bytes: they are more than code has.
    LeftOut {
        path: String,
    },
}

/// The folder of a repository itself; in what comfy builds there is none.
const REPOSITORY: &[u8] = b".git";
/// Bytecode, which comfy compiles itself where it has built something.
const BYTECODE: &[u8] = b"__pycache__";
/// Folders within each other.
const DEEPEST: usize = 200;

/// The folder of a ComfyUI in which each folder is a node.
pub(crate) const NODES: &str = "custom_nodes";

/// Splits what is at `path` into units: each node of a ComfyUI is one. `built`: by comfy.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn units_of_path(path: &Path, built: bool) -> Result<Vec<ScanUnit>> {
    let what = || format!("open {}", path.display());
    let path = path.canonicalize().with_context(what)?;
    if !path.is_dir() {
        return Ok(vec![ScanUnit {
            prefix: String::new(),
            source: ScanSource::File(path),
        }]);
    }
    // Reading it fails here, and not as a finding.
    let fd = crate::host::fs::open_dir(&path).with_context(what)?;
    drop(fd);
    let folder = |path: PathBuf, left_out: Vec<String>| {
        ScanSource::Folder(FolderSource {
            path,
            left_out,
            built,
        })
    };
    let nodes = path.join(NODES);
    if !nodes.is_dir() || nodes.is_symlink() {
        return Ok(vec![ScanUnit {
            prefix: String::new(),
            source: folder(path, Vec::new()),
        }]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&nodes).with_context(|| format!("read {}", nodes.display()))? {
        let entry = entry.with_context(|| format!("read {}", nodes.display()))?;
        let is_own = built && entry.file_name().as_bytes() == BYTECODE;
        // A name that is not UTF-8 is looked at with the rest.
        if let (true, Ok(name)) = (
            !is_own && entry.file_type().is_ok_and(|t| t.is_dir()),
            entry.file_name().into_string(),
        ) {
            names.push(name);
        }
    }
    names.sort();
    let mut units = vec![ScanUnit {
        prefix: String::new(),
        source: folder(path, names.clone()),
    }];
    units.extend(names.into_iter().map(|name| ScanUnit {
        prefix: format!("{NODES}/{name}/"),
        source: folder(nodes.join(name), Vec::new()),
    }));
    Ok(units)
}

impl ScanSource {
    /// Calls `visit` for every entry, sorted by name within each folder. It ends where `visit`
    /// returns false.
    ///
    /// # Errors
    /// The start cannot be opened, or an object of the store is missing.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(ScanEntry) -> bool) -> Result<()> {
        match self {
            ScanSource::File(path) => visit_one_file(path, visit),
            ScanSource::Folder(folder) => visit_folder(folder, visit),
            ScanSource::Commits(commits) => git_tree::visit_commits(commits, visit),
        }
    }
}

fn visit_one_file(path: &Path, visit: &mut dyn FnMut(ScanEntry) -> bool) -> Result<()> {
    let what = || format!("open {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path
        .file_name()
        .ok_or_else(|| Problem::new(format!("{} is not a file", path.display())))?;
    let name = std::ffi::CString::new(name.as_bytes()).with_context(what)?;
    let fd = crate::host::fs::open_dir(folder).with_context(what)?;
    let mut walk = SourceWalk {
        visit,
        left_out: &[],
        built: false,
    };
    walk.visit_entry(&fd, &name, shown_name(&name), 0);
    Ok(())
}

fn visit_folder(folder: &FolderSource, visit: &mut dyn FnMut(ScanEntry) -> bool) -> Result<()> {
    let fd = crate::host::fs::open_dir(&folder.path)
        .with_context(|| format!("open {}", folder.path.display()))?;
    let mut walk = SourceWalk {
        visit,
        left_out: &folder.left_out,
        built: folder.built,
    };
    walk.enter(&fd, "", 0);
    Ok(())
}

struct SourceWalk<'a> {
    visit: &'a mut dyn FnMut(ScanEntry) -> bool,
    /// Folders of `custom_nodes` that are not entered.
    left_out: &'a [String],
    built: bool,
}

impl SourceWalk<'_> {
    /// False: it is over.
    fn enter(&mut self, fd: &OwnedFd, path: &str, depth: usize) -> bool {
        let names = match entry_names(fd) {
            Ok(names) => names,
            Err(e) => return self.unreadable(path, &e),
        };
        for name in names {
            let text = shown_name(&name);
            let whole = if path.is_empty() {
                text.to_string()
            } else {
                format!("{path}/{text}")
            };
            if !self.visit_entry(fd, &name, whole, depth) {
                return false;
            }
        }
        true
    }

    fn unreadable(&mut self, path: &str, why: &dyn std::fmt::Display) -> bool {
        (self.visit)(ScanEntry::Unreadable {
            path: path.to_string(),
            why: why.to_string(),
        })
    }

    fn visit_entry(&mut self, fd: &OwnedFd, name: &CStr, path: String, depth: usize) -> bool {
        let st = match lstat_at(fd, name) {
            Ok(st) => st,
            Err(e) => return self.unreadable(&path, &e.desc()),
        };
        match file_type(&st) {
            FileType::Dir if !self.built && name.to_bytes() == REPOSITORY => true,
            FileType::Dir if self.built && name.to_bytes() == BYTECODE => true,
            FileType::Link if self.built => true,
            FileType::Dir if depth == 1 && self.is_left_out(&path) => true,
            FileType::Dir if depth >= DEEPEST => {
                self.unreadable(&path, &"its folders are nested too deeply")
            }
            FileType::Dir => match open_dir_at(fd, name) {
                Ok(inner) => self.enter(&inner, &path, depth + 1),
                Err(e) => self.unreadable(&path, &e),
            },
            FileType::Link => match readlinkat(fd, name) {
                Ok(target) => (self.visit)(ScanEntry::Link {
                    path,
                    target: target.to_string_lossy().into_owned(),
                }),
                Err(e) => self.unreadable(&path, &e.desc()),
            },
            FileType::File => self.visit_file(fd, name, path, st.st_mode & 0o111 != 0),
            _ => (self.visit)(ScanEntry::Special { path }),
        }
    }

    fn is_left_out(&self, path: &str) -> bool {
        let node = path.strip_prefix(NODES).and_then(|p| p.strip_prefix('/'));
        node.is_some_and(|node| self.left_out.iter().any(|n| n == node))
    }

    fn visit_file(&mut self, fd: &OwnedFd, name: &CStr, path: String, executable: bool) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) => return self.unreadable(&path, &e.desc()),
        };
        match file.metadata() {
            Ok(seen) if seen.is_file() => (self.visit)(ScanEntry::File {
                facts: EntryFacts { path, executable },
                start: 0,
                size: seen.len(),
                file: Arc::new(file),
            }),
            Ok(_) => (self.visit)(ScanEntry::Special { path }),
            Err(e) => self.unreadable(&path, &e),
        }
    }
}

/// A name as text; bytes that are not UTF-8 become `\xNN`, so that no two names become one.
fn shown_name(name: &CStr) -> String {
    let mut out = String::new();
    for chunk in name.to_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The names in a folder, sorted, without `.` and `..`.
fn entry_names(fd: &OwnedFd) -> std::io::Result<Vec<std::ffi::CString>> {
    let mut dir = Dir::from_fd(fd.try_clone()?)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
