//! Local object work with libgit2: what a commit holds, and writing its files to a folder.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use git2::{ObjectType, Odb, Repository};

use super::bare_repository;
pub use super::bare_repository::init;
use crate::host::fs::create_beneath::{self, Folders};
use crate::lock::resolve::Snapshot;
use crate::problem::{Doing, Problem, Result};
use crate::tree::raw::{self, Kind};
use crate::tree::rules::{self, Contents, LFS_LIMIT, LFS_MARK};
use crate::tree::{Entry, Listing, MAX_TARGET, Mode, Oid};

/// libgit2 as comfy uses it: no configuration of anyone's, and no question of whose a repository
/// is.
pub(super) fn set_up() -> Result<()> {
    static ONCE: std::sync::OnceLock<std::result::Result<(), String>> = std::sync::OnceLock::new();
    let set = || -> std::result::Result<(), git2::Error> {
        use git2::ConfigLevel::{Global, ProgramData, System, XDG};
        for level in [ProgramData, System, XDG, Global] {
            // SAFETY: plain settings of libgit2, made once, before any of its objects exists.
            unsafe { git2::opts::set_search_path(level, "/nonexistent") }?;
        }
        // SAFETY: as above; the repositories are comfy's own, but may belong to another uid than
        // the caller.
        unsafe { git2::opts::set_verify_owner_validation(false) }
    };
    ONCE.get_or_init(|| set().map_err(|e| e.to_string()))
        .clone()
        .doing(|| "set up libgit2".into())
}

/// The ref that keeps a wanted commit, and says that it came whole.
pub fn marker(commit: &Oid) -> String {
    format!("refs/comfy/{commit}")
}

/// A repository of the store, which libgit2 obeys: so it must be as comfy made it.
fn open(folder: &Path) -> Result<Repository> {
    set_up()?;
    bare_repository::must_be_ours(folder)?;
    Repository::open_bare(folder).doing(|| format!("open {}", folder.display()))
}

fn id(oid: &Oid) -> Result<git2::Oid> {
    git2::Oid::from_bytes(&oid.0).doing(|| "read an object id".into())
}

pub fn has_ref(folder: &Path, commit: &Oid) -> bool {
    open(folder).is_ok_and(|r| {
        r.refname_to_id(&marker(commit))
            .is_ok_and(|o| o.as_bytes() == commit.0)
            && has_object(&r, commit)
    })
}

pub fn has_commit(folder: &Path, commit: &Oid) -> bool {
    open(folder).is_ok_and(|r| has_object(&r, commit))
}

fn has_object(repo: &Repository, commit: &Oid) -> bool {
    id(commit).is_ok_and(|o| repo.find_commit(o).is_ok())
}

pub fn mark(folder: &Path, commit: &Oid) -> Result<()> {
    let repo = open(folder)?;
    repo.reference(&marker(commit), id(commit)?, true, "")
        .map(drop)
        .doing(|| format!("mark commit {commit}"))
}

/// The tree of a commit, as the commit itself says.
pub fn tree_of(folder: &Path, commit: &Oid) -> Result<Oid> {
    let repo = open(folder)?;
    let tree = repo
        .find_commit(id(commit)?)
        .doing(|| format!("read commit {commit}"))?
        .tree_id();
    Oid::parse(&tree.to_string()).ok_or_else(|| Problem::new("an object id of an unknown kind"))
}

/// The content of a blob, if it is here and no longer than `limit` bytes.
///
/// # Errors
/// It is longer.
pub fn text(folder: &Path, oid: &Oid, limit: usize) -> Result<Option<String>> {
    let repo = open(folder)?;
    let Ok(blob) = repo.find_blob(id(oid)?) else {
        return Ok(None);
    };
    if blob.size() > limit {
        return Err(Problem::new(format!(
            "is longer than {}",
            crate::text::bytes(limit as u64)
        )));
    }
    Ok(Some(String::from_utf8_lossy(blob.content()).into_owned()))
}

/// Everything that lock needs to know of a commit, except its requirements. The one reader of
/// trees: `lock`, fetching and unpacking refuse the same, in the same words.
///
/// # Errors
/// Everything in its tree that no tree may hold; an object that is missing or damaged.
pub fn snapshot(folder: &Path, commit: &Oid) -> Result<Snapshot> {
    let repo = open(folder)?;
    let odb = repo.odb().doing(|| format!("read {}", folder.display()))?;
    let tree = tree_of(folder, commit)?;
    let mut walk = Walk {
        odb: &odb,
        listing: Listing::default(),
        contents: Contents::default(),
        problems: Vec::new(),
        entries: 0,
    };
    walk.folder(tree, "", 0)?;
    let mut problems = walk.problems;
    problems.extend(rules::check(&walk.listing, &walk.contents));
    if problems.is_empty() && walk.listing.tree_hash()? != tree {
        problems.push(
            Problem::new(format!("tree {tree} is not what its files amount to"))
                .hint("do not use this repository"),
        );
    }
    if !problems.is_empty() {
        return Err(first(problems));
    }
    let gitmodules = match walk
        .listing
        .0
        .get(".gitmodules")
        .filter(|e| matches!(e.mode, Mode::File | Mode::Executable))
    {
        Some(e) => {
            let blob = repo
                .find_blob(id(&e.oid)?)
                .map_err(|_| Problem::new(".gitmodules is too large to be one"))?;
            Some(String::from_utf8_lossy(blob.content()).into_owned())
        }
        None => None,
    };
    Ok(Snapshot {
        tree,
        listing: walk.listing,
        gitmodules,
        requirements: None,
    })
}

/// Of thousands of faults in one tree, this many are named.
const SHOWN: usize = 20;
/// And no more are looked for.
const MAX_PROBLEMS: usize = 1000;

fn first(mut problems: Vec<Problem>) -> Problem {
    let off = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if off > 0 {
        problems.push(Problem::new(format!("{off} more like these")));
    }
    Problem::all(problems)
}

struct Walk<'a> {
    odb: &'a Odb<'a>,
    listing: Listing,
    contents: Contents,
    problems: Vec<Problem>,
    /// Files and folders so far; the same folder counts as often as it is there.
    entries: usize,
}

impl Walk<'_> {
    fn folder(&mut self, tree: Oid, prefix: &str, depth: usize) -> Result<()> {
        if depth > rules::MAX_DEPTH {
            return Err(Problem::new(format!(
                "folders nested more than {} deep",
                rules::MAX_DEPTH
            ))
            .hint("do not use this repository"));
        }
        let shown = || {
            if prefix.is_empty() {
                ".".into()
            } else {
                crate::text::escape(prefix)
            }
        };
        if self.problems.len() > MAX_PROBLEMS {
            return Ok(());
        }
        let object = self
            .odb
            .read(id(&tree)?)
            .doing(|| format!("read the folder {}", shown()))?;
        if object.kind() != ObjectType::Tree {
            return Err(Problem::new(format!("the folder {} is no folder", shown()))
                .hint("do not use this repository"));
        }
        let rows = raw::rows(prefix, object.data(), &mut self.problems);
        if object.data().is_empty() && !prefix.is_empty() {
            self.problems.push(
                Problem::new(format!(
                    "`{}` is an empty folder, which git does not write",
                    shown()
                ))
                .hint("do not use this repository"),
            );
        }
        self.entries += rows.len();
        if self.entries > rules::MAX_ENTRIES {
            return Err(Problem::new(format!(
                "more than {} files and folders; comfy takes no more in a repository",
                rules::MAX_ENTRIES
            )));
        }
        for row in rows {
            let path = format!("{prefix}{}", row.name);
            match row.kind {
                Kind::Folder => self.folder(row.oid, &format!("{path}/"), depth + 1)?,
                Kind::Leaf(mode) => {
                    let size = self.look_inside(&path, mode, row.oid)?;
                    self.listing.0.insert(
                        path,
                        Entry {
                            mode,
                            oid: row.oid,
                            size,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// Bytes of a file or link. The object is absent where an outline left a large file out: then
    /// it is neither link nor pointer.
    fn look_inside(&mut self, path: &str, mode: Mode, oid: Oid) -> Result<u64> {
        if mode == Mode::Commit {
            return Ok(0);
        }
        let header = self.odb.read_header(id(&oid)?).ok();
        let size = header.map_or(0, |(n, _)| n as u64);
        let shown = || crate::text::escape(path);
        if header.is_some_and(|(_, kind)| kind != ObjectType::Blob) {
            self.problems.push(
                Problem::new(format!("`{}` is no file, though the tree says so", shown()))
                    .hint("do not use this repository"),
            );
            return Ok(0);
        }
        let odb = self.odb;
        let content = || odb.read(id(&oid)?).doing(|| format!("read {}", shown()));
        if mode == Mode::Link {
            if header.is_none() || size > MAX_TARGET {
                self.problems.push(Problem::new(format!(
                    "the target of link `{}` is too long to be one",
                    shown()
                )));
                return Ok(0);
            }
            match std::str::from_utf8(content()?.data()) {
                Ok(target) => drop(
                    self.contents
                        .links
                        .insert(path.to_string(), target.to_string()),
                ),
                Err(_) => self.problems.push(Problem::new(format!(
                    "the target of link `{}` is not UTF-8, which a Mac's disk cannot hold",
                    shown()
                ))),
            }
        } else if (LFS_MARK.len() as u64..=LFS_LIMIT as u64).contains(&size)
            && content()?.data().starts_with(LFS_MARK)
        {
            self.contents.lfs_pointers.insert(path.to_string());
        }
        Ok(size)
    }
}

/// Writes the files of `commit` below `prefix` in `target`, from objects and never through a
/// filter; what `skip` knows by path and content is left out: whoever seals the tree has it
/// already. Nothing on the way is followed, and links come last. Returns the listing.
///
/// # Errors
/// As [`snapshot`]; a full disk, something that is there already.
pub fn export(
    folder: &Path,
    commit: &Oid,
    target: &OwnedFd,
    prefix: &str,
    skip: &dyn Fn(&str, &Entry) -> bool,
) -> Result<Listing> {
    let repo = open(folder)?;
    let snapshot = snapshot(folder, commit)?;
    let odb = repo.odb().doing(|| format!("read {}", folder.display()))?;
    let mut folders = Folders::below(target).doing(|| "open a folder".into())?;
    let making = |path: &str| format!("make {}", crate::text::escape(path));
    folders.at(prefix).doing(|| making(prefix))?;
    for links in [false, true] {
        for (path, entry) in snapshot
            .listing
            .0
            .iter()
            .filter(|(_, e)| (e.mode == Mode::Link) == links)
        {
            let whole = if prefix.is_empty() {
                path.clone()
            } else {
                format!("{prefix}/{path}")
            };
            if entry.mode == Mode::Commit {
                folders.at(&whole).doing(|| making(&whole))?;
                continue;
            }
            let (parent, name) = create_beneath::split(&whole);
            let parent = folders.at(parent).doing(|| making(parent))?;
            if skip(path, entry) {
                continue;
            }
            let blob = odb
                .read(id(&entry.oid)?)
                .doing(|| format!("read {} from the store", crate::text::escape(path)))?;
            if blob.kind() != ObjectType::Blob {
                return Err(Problem::new(format!(
                    "`{}` is no file, though the tree says so",
                    crate::text::escape(path)
                ))
                .hint("do not use this repository"));
            }
            if links {
                create_beneath::link(parent, name, blob.data())
                    .doing(|| format!("make the link {}", crate::text::escape(&whole)))?;
                continue;
            }
            let mode = if entry.mode == Mode::Executable {
                0o755
            } else {
                0o644
            };
            let mut file = create_beneath::create(parent, name, mode).doing(|| making(&whole))?;
            file.write_all(blob.data())
                .doing(|| format!("write {}", crate::text::escape(&whole)))?;
        }
    }
    Ok(snapshot.listing)
}

/// The bytes of one file of a commit, if the store has it and the caller may read the store.
pub fn file_at(folder: &Path, commit: &Oid, path: &str) -> Option<Vec<u8>> {
    let repo = open(folder).ok()?;
    let tree = repo.find_commit(id(commit).ok()?).ok()?.tree().ok()?;
    let blob = tree
        .get_path(Path::new(path))
        .ok()?
        .to_object(&repo)
        .ok()?
        .into_blob()
        .ok()?;
    Some(blob.content().to_vec())
}
