//! Making things below an open folder, one name at a time: nothing that lies there, and nothing
//! that a name says, leads out of it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use super::{as_mode, c_string};

/// Opens `name` in `dir`. Links are refused, and so is a name of more than one component; on Linux
/// by the kernel too (openat2(2)), where it has that call.
///
/// # Errors
/// As open(2); ELOOP, ENOTDIR or EXDEV for what leads elsewhere.
fn open_at(dir: &OwnedFd, name: &str, flags: OFlag, perm: Mode) -> io::Result<OwnedFd> {
    let name = single_component(name)?;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{OpenHow, ResolveFlag, openat2};
        let how = OpenHow::new().flags(flags).mode(perm);
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        match openat2(dir, name.as_c_str(), how.resolve(resolve)) {
            // A kernel before 5.6, or a filter around comfy: one name without a link is the same by
            // openat(2).
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            other => return Ok(other?),
        }
    }
    Ok(nix::fcntl::openat(dir, name.as_c_str(), flags, perm)?)
}

/// A name that is one component, and not one that leads up or nowhere.
fn single_component(name: &str) -> io::Result<std::ffi::CString> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(io::Error::other("is not a single name"));
    }
    c_string(name.as_ref())
}

/// A new file for writing; what is there already, of whatever kind, is an error.
pub(crate) fn create_file(dir: &OwnedFd, name: &str, perm: u32) -> io::Result<File> {
    open_at(
        dir,
        name,
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL,
        as_mode(perm),
    )
    .map(File::from)
}

/// The folder `name`, made if need be; a link to one is none.
pub(crate) fn open_folder(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(dir, single_component(name)?.as_c_str(), as_mode(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => open_at(
            dir,
            name,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
            Mode::empty(),
        ),
        Err(e) => Err(e.into()),
    }
}

/// A new link.
pub(crate) fn create_link(dir: &OwnedFd, name: &str, target: &[u8]) -> io::Result<()> {
    let target = c_string(std::os::unix::ffi::OsStrExt::from_bytes(target))?;
    Ok(nix::unistd::symlinkat(
        target.as_c_str(),
        dir,
        single_component(name)?.as_c_str(),
    )?)
}

/// Folders below one open folder, made and opened on the way; the last path's stay open, so that
/// sorted paths cost one call each.
pub(crate) struct FolderTree {
    root: OwnedFd,
    open: Vec<(String, OwnedFd)>,
}

impl FolderTree {
    pub(crate) fn below(root: &OwnedFd) -> io::Result<FolderTree> {
        Ok(FolderTree {
            root: root.try_clone()?,
            open: Vec::new(),
        })
    }

    /// The folder at `path`, relative and clean; empty: the root.
    pub(crate) fn at(&mut self, path: &str) -> io::Result<&OwnedFd> {
        let parts: Vec<&str> = if path.is_empty() {
            Vec::new()
        } else {
            path.split('/').collect()
        };
        let same = self
            .open
            .iter()
            .zip(&parts)
            .take_while(|((name, _), part)| name == *part)
            .count();
        self.open.truncate(same);
        for part in &parts[same..] {
            let next = open_folder(self.open.last().map_or(&self.root, |(_, fd)| fd), part)?;
            self.open.push(((*part).to_string(), next));
        }
        Ok(self.open.last().map_or(&self.root, |(_, fd)| fd))
    }
}

/// The folder and the name of a relative path.
pub(crate) fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let top = tempfile::tempdir().unwrap();
        let (inside, outside) = (top.path().join("in"), top.path().join("out"));
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink("../out", inside.join("link")).unwrap();
        std::os::unix::fs::symlink("../out/new", inside.join("dangling")).unwrap();
        let root = crate::host::fs::open_dir(&inside.canonicalize().unwrap()).unwrap();
        let mut folders = FolderTree::below(&root).unwrap();
        for path in [
            "link",
            "link/x",
            "real/../../out",
            "..",
            "/tmp",
            "real//x",
            ".",
        ] {
            assert!(folders.at(path).is_err(), "{path}");
        }
        for name in ["dangling", "link", "../out/x", "real/x", "/tmp/x", "", ".."] {
            assert!(create_file(&root, name, 0o644).is_err(), "{name}");
            assert!(create_link(&root, name, b"x").is_err(), "{name}");
        }
        create_file(folders.at("real/a/b").unwrap(), "f", 0o755).unwrap();
        assert!(
            create_file(folders.at("real/a/b").unwrap(), "f", 0o755).is_err(),
            "a second time"
        );
        assert!(inside.join("real/a/b/f").is_file());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}
