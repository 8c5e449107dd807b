//! The files of a folder that somebody works in, by descriptor: what tools leave beside the sources
//! is not of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::{file_type, lstat_at, open_dir, open_dir_at};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use crate::tree::EntryMode;

/// Folders and files that version control, Python, editors and the Finder make.
const TOOLS: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "__pycache__",
    ".venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".idea",
    ".vscode",
    ".DS_Store",
    // ComfyUI's tools write it beside a node that they unpack.
    ".tracking",
];

/// More entries than any node has.
const MOST_ENTRIES: usize = 50_000;
/// More bytes than a file of a node has: 256 MiB. It is read into memory.
pub(crate) const MOST_OF_FILE: u64 = 256 << 20;
/// More bytes than any node has: 2 GiB.
const MOST_BYTES: u64 = 2 << 30;

/// One file or link.
pub(crate) enum FolderFile {
    /// A regular file, and whether it is executable.
    Regular(File, u64, EntryMode),
    /// The target of a link.
    Link(Vec<u8>),
}

/// Calls `visit` for every file and link below `folder`, in no particular order.
///
/// # Errors
/// What cannot be read; something that is no file, folder or link; too much of it; what `visit`
/// says.
pub(crate) fn visit_files(
    folder: &Path,
    visit: &mut dyn FnMut(&str, FolderFile) -> Result<()>,
) -> Result<()> {
    let fd = open_dir(folder).with_context(|| format!("open {}", folder.display()))?;
    let mut walk = FolderWalk {
        visit,
        entries: 0,
        bytes: 0,
    };
    walk.enter(&fd, "")
        .map_err(|p| p.with_prefix(&format!("{}: ", folder.display())))
}

struct FolderWalk<'a> {
    visit: &'a mut dyn FnMut(&str, FolderFile) -> Result<()>,
    entries: usize,
    bytes: u64,
}

impl FolderWalk<'_> {
    fn enter(&mut self, fd: &OwnedFd, path: &str) -> Result<()> {
        if path.matches('/').count() > 100 {
            return Err(Problem::new("its folders are nested too deeply"));
        }
        let reading = || format!("read {}", if path.is_empty() { "it" } else { path });
        let mut names = Vec::new();
        let mut dir = fd
            .try_clone()
            .and_then(|fd| Dir::from_fd(fd).map_err(io::Error::from))
            .with_context(reading)?;
        for entry in dir.iter() {
            let name = entry.with_context(reading)?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        for name in names {
            let Ok(text) = name.to_str() else {
                return Err(Problem::new(format!(
                    "the name \"{}\" is not UTF-8",
                    escape_text(&name.to_string_lossy())
                )));
            };
            if TOOLS.contains(&text) || text.ends_with(".pyc") {
                continue;
            }
            let whole = if path.is_empty() {
                text.to_string()
            } else {
                format!("{path}/{text}")
            };
            self.one(fd, &name, &whole)?;
        }
        Ok(())
    }

    fn one(&mut self, fd: &OwnedFd, name: &std::ffi::CStr, whole: &str) -> Result<()> {
        let reading = || format!("read {}", escape_text(whole));
        self.entries += 1;
        let st = lstat_at(fd, name).with_context(reading)?;
        match file_type(&st) {
            FileType::Dir => {
                let inner = open_dir_at(fd, name).with_context(reading)?;
                return self.enter(&inner, whole);
            }
            FileType::Link => {
                let target = readlinkat(fd, name).with_context(reading)?.into_vec();
                return (self.visit)(whole, FolderFile::Link(target));
            }
            FileType::File => {}
            _ => {
                return Err(Problem::new(format!(
                    "{} is neither a file, a folder nor a link",
                    escape_text(whole)
                ))
                .with_hint("move it out of the folder"));
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(fd, name, flags, Mode::empty()).with_context(reading)?);
        let seen = file.metadata().with_context(reading)?;
        if !seen.is_file() {
            return Err(
                Problem::new(format!("{} changed meanwhile", escape_text(whole)))
                    .with_hint("run it again"),
            );
        }
        if seen.len() > MOST_OF_FILE {
            return Err(Problem::new(format!(
                "{} is larger than {}",
                escape_text(whole),
                crate::text::format_bytes(MOST_OF_FILE)
            ))
            .with_hint("move it out of the folder: a model belongs in [models]"));
        }
        self.bytes = self.bytes.saturating_add(seen.len());
        if self.entries > MOST_ENTRIES || self.bytes > MOST_BYTES {
            return Err(Problem::new(format!(
                "it holds more than {MOST_ENTRIES} files or {}",
                crate::text::format_bytes(MOST_BYTES)
            ))
            .with_hint("give the node a folder that holds only its own files"));
        }
        let mode = if st.st_mode & 0o100 != 0 {
            EntryMode::Executable
        } else {
            EntryMode::File
        };
        (self.visit)(whole, FolderFile::Regular(file, seen.len(), mode))
    }
}

/// Reads a file that is as long as it was.
///
/// # Errors
/// As read(2); it is longer or shorter now.
pub(crate) fn read_whole(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(io::Error::other("it changed while it was read"))
    }
}
