//! Local object work with libgit2: reading a commit, and writing its files to a folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use git2::{ObjectType, Odb, Repository};

use super::bare_repository;
pub use super::bare_repository::init;
use crate::host::fs::create_beneath::{self, FolderTree};
use crate::lock::resolve::RepositorySnapshot;
use crate::problem::{Context, Problem, Result};
use crate::tree::raw::{self, RawKind};
use crate::tree::rules::{self, LFS_LIMIT, LFS_MARK, TreeContents};
use crate::tree::{
    EntryMode, ExcludedEntry, MAX_TARGET, ObjectId, TreeEntry, TreeExclusions, TreeListing,
};

/// Configures libgit2: it reads nobody's configuration, and does not check the owner of a
/// repository.
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
        .context("set up libgit2")
}

/// The ref that keeps a wanted commit, and marks it as complete.
pub(crate) fn marker_ref(commit: &ObjectId) -> String {
    format!("refs/comfy/{commit}")
}

/// Opens a repository of the store. libgit2 obeys it, so it must be as comfy made it.
pub(super) fn open_repository(folder: &Path) -> Result<Repository> {
    set_up()?;
    bare_repository::must_be_ours(folder)?;
    Repository::open_bare(folder).with_context(|| format!("open {}", folder.display()))
}

pub(super) fn libgit2_id(oid: &ObjectId) -> Result<git2::Oid> {
    git2::Oid::from_bytes(&oid.0).context("read an object id")
}

pub(crate) fn has_ref(folder: &Path, commit: &ObjectId) -> bool {
    open_repository(folder).is_ok_and(|r| {
        r.refname_to_id(&marker_ref(commit))
            .is_ok_and(|o| o.as_bytes() == commit.0)
            && has_object(&r, commit)
    })
}

pub(crate) fn has_commit(folder: &Path, commit: &ObjectId) -> bool {
    open_repository(folder).is_ok_and(|r| has_object(&r, commit))
}

fn has_object(repo: &Repository, commit: &ObjectId) -> bool {
    libgit2_id(commit).is_ok_and(|o| repo.find_commit(o).is_ok())
}

pub(crate) fn mark_complete(folder: &Path, commit: &ObjectId) -> Result<()> {
    let repo = open_repository(folder)?;
    repo.reference(&marker_ref(commit), libgit2_id(commit)?, true, "")
        .map(drop)
        .with_context(|| format!("mark commit {commit}"))
}

/// Returns the tree of a commit.
pub(crate) fn tree_of(folder: &Path, commit: &ObjectId) -> Result<ObjectId> {
    let repo = open_repository(folder)?;
    let tree = repo
        .find_commit(libgit2_id(commit)?)
        .with_context(|| format!("read commit {commit}"))?
        .tree_id();
    ObjectId::parse(&tree.to_string())
        .ok_or_else(|| Problem::new("an object id of an unknown kind"))
}

/// Returns the content of a blob, if it is in the store and not longer than `limit` bytes.
///
/// # Errors
/// It is longer.
pub(crate) fn blob_text(folder: &Path, oid: &ObjectId, limit: usize) -> Result<Option<String>> {
    let repo = open_repository(folder)?;
    let Ok(blob) = repo.find_blob(libgit2_id(oid)?) else {
        return Ok(None);
    };
    if blob.size() > limit {
        return Err(Problem::new(format!(
            "is longer than {}",
            crate::text::format_bytes(limit as u64)
        )));
    }
    Ok(Some(crate::text::decode_text(blob.content())))
}

/// Reads everything that lock needs to know about a commit, except the texts of its files. It is the only
/// reader of trees, so `lock`, fetching and unpacking refuse the same trees with the same messages.
/// What is at the paths `exclude` is neither looked into nor in the listing.
///
/// # Errors
/// If the tree contains something that it must not, or an object is missing or damaged.
pub fn read_snapshot(
    folder: &Path,
    commit: &ObjectId,
    exclude: &TreeExclusions,
) -> Result<RepositorySnapshot> {
    let repo = open_repository(folder)?;
    let odb = repo
        .odb()
        .with_context(|| format!("read {}", folder.display()))?;
    let tree = tree_of(folder, commit)?;
    let mut walk = TreeWalk {
        odb: &odb,
        listing: TreeListing::default(),
        contents: TreeContents::default(),
        problems: Vec::new(),
        entries: 0,
        exclude,
        excluded: Vec::new(),
    };
    walk.walk_folder(tree, "", 0)?;
    let mut problems = walk.problems;
    problems.extend(rules::check_tree(&walk.listing, &walk.contents, exclude));
    let mut whole = walk.listing.clone();
    whole.0.extend(walk.excluded.iter().map(|x| {
        let (mode, oid) = (x.mode, x.oid);
        (x.path.clone(), TreeEntry { mode, oid, size: 0 })
    }));
    if problems.is_empty() && whole.tree_hash()? != tree {
        problems.push(
            Problem::new(format!("tree {tree} does not match its files"))
                .with_hint("do not use this repository"),
        );
    }
    if !problems.is_empty() {
        return Err(first_problem(problems));
    }
    let committed = repo
        .find_commit(libgit2_id(commit)?)
        .map_or(0, |c| c.committer().when().seconds());
    Ok(RepositorySnapshot {
        tree,
        committed,
        listing: walk.listing,
        links: walk.contents.links,
        excluded: walk.excluded,
        gitmodules: None,
        requirements: BTreeMap::new(),
        sources: BTreeMap::new(),
    })
}

/// How many faults of one tree a message lists at most.
const SHOWN: usize = 20;
/// And no more are looked for.
const MAX_PROBLEMS: usize = 1000;

fn first_problem(mut problems: Vec<Problem>) -> Problem {
    let off = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if off > 0 {
        problems.push(Problem::new(format!("{off} more like these")));
    }
    Problem::from_many(problems)
}

struct TreeWalk<'a> {
    odb: &'a Odb<'a>,
    listing: TreeListing,
    contents: TreeContents,
    problems: Vec<Problem>,
    /// Files and folders so far; the same folder counts as often as it occurs.
    entries: usize,
    /// Paths that are not installed, and so not looked into.
    exclude: &'a TreeExclusions,
    /// Those of them that are there.
    excluded: Vec<ExcludedEntry>,
}

impl TreeWalk<'_> {
    fn walk_folder(&mut self, tree: ObjectId, prefix: &str, depth: usize) -> Result<()> {
        if depth > rules::MAX_DEPTH {
            return Err(Problem::new(format!(
                "folders nested more than {} deep",
                rules::MAX_DEPTH
            ))
            .with_hint("do not use this repository"));
        }
        let shown = || {
            if prefix.is_empty() {
                ".".into()
            } else {
                crate::text::escape_text(prefix)
            }
        };
        if self.problems.len() > MAX_PROBLEMS {
            return Ok(());
        }
        let object = self
            .odb
            .read(libgit2_id(&tree)?)
            .with_context(|| format!("read the folder {}", shown()))?;
        if object.kind() != ObjectType::Tree {
            return Err(
                Problem::new(format!("the folder {} is not a folder", shown()))
                    .with_hint("do not use this repository"),
            );
        }
        let rows = raw::raw_entries(prefix, object.data(), &mut self.problems);
        if object.data().is_empty() && !prefix.is_empty() {
            self.problems.push(
                Problem::new(format!(
                    "`{}` is an empty folder, which git does not write",
                    shown()
                ))
                .with_hint("do not use this repository"),
            );
        }
        self.entries += rows.len();
        if self.entries > rules::MAX_ENTRIES {
            return Err(Problem::new(format!(
                "more than {} files and folders; comfy does not accept more in a repository",
                rules::MAX_ENTRIES
            )));
        }
        for row in rows {
            let path = format!("{prefix}{}", row.name);
            if self.exclude.has(&path) {
                let mode = match row.kind {
                    RawKind::Folder => EntryMode::Folder,
                    RawKind::Leaf(mode) => mode,
                };
                let oid = row.oid;
                self.excluded.push(ExcludedEntry { path, mode, oid });
                continue;
            }
            match row.kind {
                RawKind::Folder => self.walk_folder(row.oid, &format!("{path}/"), depth + 1)?,
                RawKind::Leaf(mode) => {
                    let size = self.look_inside(&path, mode, row.oid)?;
                    self.listing.0.insert(
                        path,
                        TreeEntry {
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
    fn look_inside(&mut self, path: &str, mode: EntryMode, oid: ObjectId) -> Result<u64> {
        if mode == EntryMode::Commit {
            return Ok(0);
        }
        let header = self.odb.read_header(libgit2_id(&oid)?).ok();
        let size = header.map_or(0, |(n, _)| n as u64);
        let shown = || crate::text::escape_text(path);
        if header.is_some_and(|(_, kind)| kind != ObjectType::Blob) {
            self.problems.push(
                Problem::new(format!(
                    "`{}` is not a file, although the tree says so",
                    shown()
                ))
                .with_hint("do not use this repository"),
            );
            return Ok(0);
        }
        let odb = self.odb;
        let content = || {
            odb.read(libgit2_id(&oid)?)
                .with_context(|| format!("read {}", shown()))
        };
        if mode == EntryMode::Link {
            if header.is_none() || size > MAX_TARGET {
                self.problems.push(Problem::new(format!(
                    "the target of link `{}` is too long",
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
                    "the target of link `{}` is not UTF-8, which a Mac's disk cannot store",
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
/// filter; what is at the paths `exclude` is left out, and so is what `skip` knows by path and content:
/// whoever seals the tree has it already. Nothing on the way is followed, and links come last. Returns the listing.
///
/// # Errors
/// As [`read_snapshot`]; a full disk, something that is there already.
pub fn export_files(
    folder: &Path,
    commit: &ObjectId,
    target: &OwnedFd,
    prefix: &str,
    exclude: &TreeExclusions,
    skip: &dyn Fn(&str, &TreeEntry) -> bool,
) -> Result<TreeListing> {
    let repo = open_repository(folder)?;
    let snapshot = read_snapshot(folder, commit, exclude)?;
    let odb = repo
        .odb()
        .with_context(|| format!("read {}", folder.display()))?;
    let mut folders = FolderTree::below(target).context("open a folder")?;
    let making = |path: &str| format!("make {}", crate::text::escape_text(path));
    folders.at(prefix).with_context(|| making(prefix))?;
    for links in [false, true] {
        for (path, entry) in snapshot
            .listing
            .0
            .iter()
            .filter(|(_, e)| (e.mode == EntryMode::Link) == links)
        {
            let whole = if prefix.is_empty() {
                path.clone()
            } else {
                format!("{prefix}/{path}")
            };
            if entry.mode == EntryMode::Commit {
                folders.at(&whole).with_context(|| making(&whole))?;
                continue;
            }
            let (parent, name) = create_beneath::split_path(&whole);
            let parent = folders.at(parent).with_context(|| making(parent))?;
            if skip(path, entry) {
                continue;
            }
            let blob = odb.read(libgit2_id(&entry.oid)?).with_context(|| {
                format!("read {} from the store", crate::text::escape_text(path))
            })?;
            if blob.kind() != ObjectType::Blob {
                return Err(Problem::new(format!(
                    "`{}` is not a file, although the tree says so",
                    crate::text::escape_text(path)
                ))
                .with_hint("do not use this repository"));
            }
            if links {
                create_beneath::create_link(parent, name, blob.data()).with_context(|| {
                    format!("make the link {}", crate::text::escape_text(&whole))
                })?;
                continue;
            }
            let mode = if entry.mode == EntryMode::Executable {
                0o755
            } else {
                0o644
            };
            let mut file =
                create_beneath::create_file(parent, name, mode).with_context(|| making(&whole))?;
            file.write_all(blob.data())
                .with_context(|| format!("write {}", crate::text::escape_text(&whole)))?;
        }
    }
    Ok(snapshot.listing)
}

/// Returns the bytes of a file of a commit, if the store has it and the caller may read the store.
pub(crate) fn file_at(folder: &Path, commit: &ObjectId, path: &str) -> Option<Vec<u8>> {
    let repo = open_repository(folder).ok()?;
    let tree = repo
        .find_commit(libgit2_id(commit).ok()?)
        .ok()?
        .tree()
        .ok()?;
    let blob = tree
        .get_path(Path::new(path))
        .ok()?
        .to_object(&repo)
        .ok()?
        .into_blob()
        .ok()?;
    Some(blob.content().to_vec())
}
