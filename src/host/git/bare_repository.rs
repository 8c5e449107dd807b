//! Bare repositories of the store: created by comfy itself, and used only if they are unchanged.
//!
//! Programs that read a repository obey what they find in it: settings, hooks, alternate object
//! stores, links. So none of these may exist; gitrepository-layout(5) lists them. Objects and refs
//! are safe, because objects are requested by hash.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::host::fs::{c_string, edit, file_type, lstat_at, open_dir, open_dir_at};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

const CONFIG: &[u8] = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
const HEAD: &[u8] = b"ref: refs/heads/main\n";

/// What git itself may put beside HEAD, config, objects and refs, and does not run or follow;
/// `.lock` at the end aside, and `shallow_XXXXXX` while it fetches (git's shallow.c).
const FILES: &[&str] = &["HEAD", "config", "packed-refs", "shallow", "FETCH_HEAD"];
const FOLDERS: &[&str] = &[
    "objects",
    "refs",
    "objects/info",
    "objects/pack",
    "refs/heads",
];

/// Returns the repository at `folder` if comfy made it, else creates one. Anything else there is
/// removed, because it is a cache.
///
/// # Errors
/// If the disk fails, or the caller may not change the folder.
pub fn init(folder: &Path) -> Result<()> {
    // One thread at a time: with two nodes of the same repository, the second finds it created.
    static ONE: Mutex<()> = Mutex::new(());
    let _held = ONE.lock();
    if is_ours(folder) {
        return Ok(());
    }
    let doing = || format!("make the repository {}", folder.display());
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(Problem::new(format!(
            "{} has no place for a repository",
            folder.display()
        )));
    };
    std::fs::create_dir_all(parent).with_context(doing)?;
    // The folder of all repositories may be behind a link of its owner; the repository may not.
    let parent = parent.canonicalize().with_context(doing)?;
    let fresh = parent.join(format!(
        "{}.{}",
        name.to_string_lossy(),
        edit::random_suffix().with_context(doing)?
    ));
    make_repository(&fresh).with_context(doing)?;
    let at = parent.join(name);
    let done = edit::remove_path(&at).and_then(|()| edit::move_to(&fresh, &at));
    if done.is_err() {
        // It is empty, and nobody looks for it.
        let _ = edit::remove_path(&fresh);
        if is_ours(&at) {
            // Another comfy was faster.
            return Ok(());
        }
    }
    done.with_context(doing)
}

fn make_repository(fresh: &Path) -> std::io::Result<()> {
    for folder in FOLDERS {
        std::fs::create_dir_all(fresh.join(folder))?;
    }
    std::fs::write(fresh.join("config"), CONFIG)?;
    std::fs::write(fresh.join("HEAD"), HEAD)
}

/// Puts the configuration back: a git before 2.31 does not read settings from the environment, and
/// notes there what an outline leaves out.
pub(crate) fn restore_config(folder: &Path) -> Result<()> {
    let path = folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))?
        .join("config");
    if std::fs::read(&path).is_ok_and(|is| is == CONFIG) {
        return Ok(());
    }
    edit::write_file(&path, CONFIG, 0o644, None)
        .with_context(|| format!("write {}", path.display()))
}

/// Returns whether a repository is as [`init`] makes it, except for objects and refs. If it cannot
/// be read, it is not.
pub(crate) fn is_ours(folder: &Path) -> bool {
    check_layout(folder).unwrap_or(false)
}

/// One that comfy may use.
///
/// # Errors
/// If it is not as comfy makes it; the next fetch creates it again.
pub(crate) fn must_be_ours(folder: &Path) -> Result<()> {
    if is_ours(folder) {
        Ok(())
    } else {
        Err(Problem::new(format!(
            "{} is not a repository that comfy made",
            folder.display()
        ))
        .with_hint("run `comfy apply` or `comfy lock`: it is created again"))
    }
}

fn check_layout(folder: &Path) -> std::io::Result<bool> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Ok(false);
    };
    let top = open_dir_at(
        &open_dir(&parent.canonicalize()?)?,
        c_string(name)?.as_c_str(),
    )?;
    for entry in nix::dir::Dir::openat(
        &top,
        c".",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?
    .iter()
    {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(text) = name.to_str() else {
            return Ok(false);
        };
        let st = match lstat_at(&top, name) {
            // The lock of another fetch, which has been removed since.
            Err(Errno::ENOENT) => continue,
            st => st?,
        };
        let fits = match file_type(&st) {
            FileType::Dir => matches!(text, "." | "..") || FOLDERS.contains(&text),
            FileType::File => {
                FILES.contains(&text.strip_suffix(".lock").unwrap_or(text))
                    || text.starts_with("shallow_")
            }
            _ => false,
        };
        if !fits {
            return Ok(false);
        }
    }
    let others = [c"alternates", c"http-alternates"];
    let (objects, refs) = (open_dir_at(&top, c"objects")?, open_dir_at(&top, c"refs")?);
    // git-repack(1) and git-clone(1): alternate object stores, which are read as part of this one.
    let info = open_dir_at(&objects, c"info")?;
    if !others
        .iter()
        .all(|n| lstat_at(&info, n) == Err(Errno::ENOENT))
        || !is_plain(&objects, 2)?
        || !is_plain(&refs, 16)?
    {
        return Ok(false);
    }
    Ok(has_content(&top, c"config", CONFIG)? && has_content(&top, c"HEAD", HEAD)?)
}

/// Returns whether it contains only folders and files, `depth` folders down: git would write
/// through a link.
fn is_plain(dir: &OwnedFd, depth: usize) -> std::io::Result<bool> {
    for entry in
        nix::dir::Dir::openat(dir, c".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.iter()
    {
        let entry = entry?;
        let name = entry.file_name();
        let is = match entry.file_type() {
            Some(nix::dir::Type::Directory) => FileType::Dir,
            Some(nix::dir::Type::File) => FileType::File,
            Some(_) => return Ok(false),
            None => lstat_at(dir, name).map_or(FileType::Other, |st| file_type(&st)),
        };
        let below = || match open_dir_at(dir, name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
            fd => is_plain(&fd?, depth - 1),
        };
        if !matches!(is, FileType::Dir | FileType::File)
            || (is == FileType::Dir && name != c"." && name != c".." && (depth == 0 || !below()?))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_content(dir: &OwnedFd, name: &std::ffi::CStr, should: &[u8]) -> std::io::Result<bool> {
    let fd = openat(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut is = Vec::new();
    std::fs::File::from(fd)
        .take(should.len() as u64 + 1)
        .read_to_end(&mut is)?;
    Ok(is == should)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test plants things by path")]
    fn what_somebody_planted_is_made_anew() {
        let top = tempfile::tempdir().unwrap();
        let at = top.path().join("x.git");
        init(&at).unwrap();
        let repo = git2::Repository::open_bare(&at).unwrap();
        let blob = repo.blob(b"kept").unwrap();
        repo.reference("refs/comfy/whatever", blob, true, "")
            .unwrap();
        fs::write(at.join("shallow"), "").unwrap();
        fs::write(at.join("shallow.lock"), "").unwrap();
        assert!(is_ours(&at));
        init(&at).unwrap();
        assert!(repo.find_blob(blob).is_ok(), "one of comfy's own stays");
        let away = top.path().join("away");
        fs::create_dir(&away).unwrap();
        fs::write(away.join("file"), "x").unwrap();
        let swapped = |name: &str| {
            let from = at.join(name);
            let to = top.path().join(format!("was-{}", name.replace('/', "-")));
            fs::rename(&from, &to).unwrap();
            symlink(to, from).unwrap();
        };
        type Plant<'a> = (&'a str, Box<dyn Fn() + 'a>);
        let plants: Vec<Plant> = vec![
            (
                "a setting",
                Box::new(|| {
                    fs::write(
                        at.join("config"),
                        "[core]\n\tbare = true\n\thooksPath = hooks\n",
                    )
                    .unwrap()
                }),
            ),
            (
                "one more setting",
                Box::new(|| {
                    fs::write(
                        at.join("config"),
                        [CONFIG, b"[core]\n\tfsmonitor = x\n"].concat(),
                    )
                    .unwrap()
                }),
            ),
            (
                "settings of a work tree",
                Box::new(|| fs::write(at.join("config.worktree"), "").unwrap()),
            ),
            (
                "hooks",
                Box::new(|| fs::create_dir(at.join("hooks")).unwrap()),
            ),
            (
                "another store",
                Box::new(|| fs::write(at.join("objects/info/alternates"), "/srv").unwrap()),
            ),
            (
                "a store of the web",
                Box::new(|| {
                    fs::write(at.join("objects/info/http-alternates"), "http://x").unwrap()
                }),
            ),
            (
                "a repository elsewhere",
                Box::new(|| fs::write(at.join("commondir"), "/srv").unwrap()),
            ),
            (
                "another HEAD",
                Box::new(|| fs::write(at.join("HEAD"), "ref: refs/heads/evil\n").unwrap()),
            ),
            ("HEAD as a link", Box::new(|| swapped("HEAD"))),
            (
                "the configuration as a link",
                Box::new(|| swapped("config")),
            ),
            ("objects as a link", Box::new(|| swapped("objects"))),
            ("refs as a link", Box::new(|| swapped("refs"))),
            ("packs as a link", Box::new(|| swapped("objects/pack"))),
            (
                "loose objects as a link",
                Box::new(|| symlink(&away, at.join("objects/aa")).unwrap()),
            ),
            (
                "a folder of refs as a link",
                Box::new(|| symlink(&away, at.join("refs/comfy")).unwrap()),
            ),
            (
                "nothing but a HEAD",
                Box::new(|| fs::remove_dir_all(at.join("objects")).unwrap()),
            ),
            (
                "a link to another",
                Box::new(|| {
                    fs::rename(&at, top.path().join("moved")).unwrap();
                    symlink(top.path().join("moved"), &at).unwrap();
                }),
            ),
        ];
        for (what, plant) in plants {
            plant();
            assert!(!is_ours(&at), "{what}");
            assert!(must_be_ours(&at).is_err(), "{what}");
            init(&at).unwrap();
            assert!(is_ours(&at), "{what}");
            assert!(away.join("file").exists(), "{what}: followed");
        }
        assert_eq!(
            fs::read_dir(top.path())
                .unwrap()
                .filter(|e| e
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("x.git."))
                .count(),
            0
        );
    }
}
