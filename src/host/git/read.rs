//! Local object work with libgit2: what a commit holds, and writing its files to a folder.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use git2::{ObjectType, Odb, Repository};

use crate::lock::resolve::Snapshot;
use crate::problem::{Doing, Problem, Result};
use crate::tree::rules::{Contents, LFS_LIMIT, LFS_MARK};
use crate::tree::{Entry, Listing, Mode, Oid};

/// libgit2 as comfy uses it: no configuration of anyone's, and no question of whose a repository is.
pub(super) fn set_up() -> Result<()> {
    static ONCE: std::sync::OnceLock<std::result::Result<(), String>> = std::sync::OnceLock::new();
    let set = || -> std::result::Result<(), git2::Error> {
        use git2::ConfigLevel::{Global, ProgramData, System, XDG};
        for level in [ProgramData, System, XDG, Global] {
            // SAFETY: plain settings of libgit2, made once, before any of its objects exists.
            unsafe { git2::opts::set_search_path(level, "/nonexistent") }?;
        }
        // SAFETY: as above; the repositories are comfy's own, but may belong to another uid than the caller.
        unsafe { git2::opts::set_verify_owner_validation(false) }
    };
    ONCE.get_or_init(|| set().map_err(|e| e.to_string())).clone().doing(|| "set up libgit2".into())
}

/// A new bare repository at `folder`, unless there is one.
pub fn init(folder: &Path) -> Result<()> {
    set_up()?;
    if folder.join("HEAD").exists() {
        return Ok(());
    }
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true).initial_head("main");
    Repository::init_opts(folder, &options).map(drop).doing(|| format!("make the repository {}", folder.display()))
}

/// The ref that keeps a wanted commit, and says that it came whole.
pub fn marker(commit: &Oid) -> String {
    format!("refs/comfy/{commit}")
}

fn open(folder: &Path) -> Result<Repository> {
    set_up()?;
    Repository::open_bare(folder).doing(|| format!("open {}", folder.display()))
}

fn id(oid: &Oid) -> Result<git2::Oid> {
    git2::Oid::from_bytes(&oid.0).doing(|| "read an object id".into())
}

pub fn has_ref(folder: &Path, commit: &Oid) -> bool {
    folder.join("HEAD").exists()
        && open(folder).is_ok_and(|r| r.refname_to_id(&marker(commit)).is_ok_and(|o| o.as_bytes() == commit.0) && has_object(&r, commit))
}

pub fn has_commit(folder: &Path, commit: &Oid) -> bool {
    open(folder).is_ok_and(|r| has_object(&r, commit))
}

fn has_object(repo: &Repository, commit: &Oid) -> bool {
    id(commit).is_ok_and(|o| repo.find_commit(o).is_ok())
}

pub fn mark(folder: &Path, commit: &Oid) -> Result<()> {
    let repo = open(folder)?;
    repo.reference(&marker(commit), id(commit)?, true, "").map(drop).doing(|| format!("mark commit {commit}"))
}

/// The tree of a commit, as the commit itself says.
pub fn tree_of(folder: &Path, commit: &Oid) -> Result<Oid> {
    let repo = open(folder)?;
    let tree = repo.find_commit(id(commit)?).doing(|| format!("read commit {commit}"))?.tree_id();
    Oid::parse(&tree.to_string()).ok_or_else(|| Problem::new("an object id of an unknown kind"))
}

/// The content of a blob, if it is here and no longer than `limit` bytes.
///
/// # Errors
/// It is longer.
pub fn text(folder: &Path, oid: &Oid, limit: usize) -> Result<Option<String>> {
    let repo = open(folder)?;
    let Ok(blob) = repo.find_blob(id(oid)?) else { return Ok(None) };
    if blob.size() > limit {
        return Err(Problem::new(format!("is longer than {}", crate::text::bytes(limit as u64))));
    }
    Ok(Some(String::from_utf8_lossy(blob.content()).into_owned()))
}

/// Everything that lock needs to know of a commit, except its requirements.
pub fn snapshot(what: &str, folder: &Path, commit: &Oid) -> Result<Snapshot> {
    let repo = open(folder)?;
    let odb = repo.odb().doing(|| format!("read {}", folder.display()))?;
    let tree = tree_of(folder, commit)?;
    let mut walk = Walk { repo: &repo, odb: &odb, what, listing: Listing::default(), contents: Contents::default(), problems: Vec::new() };
    walk.folder(id(&tree)?, "", 0)?;
    if !walk.problems.is_empty() {
        return Err(Problem::all(walk.problems));
    }
    let gitmodules = match walk.listing.0.get(".gitmodules") {
        Some(e) => {
            let blob = repo.find_blob(id(&e.oid)?).map_err(|_| Problem::new(format!("{what}: .gitmodules is too large to be one")))?;
            Some(String::from_utf8_lossy(blob.content()).into_owned())
        }
        None => None,
    };
    Ok(Snapshot { tree, listing: walk.listing, contents: walk.contents, gitmodules, requirements: None })
}

struct Walk<'a> {
    repo: &'a Repository,
    odb: &'a Odb<'a>,
    what: &'a str,
    listing: Listing,
    contents: Contents,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn folder(&mut self, tree: git2::Oid, prefix: &str, depth: usize) -> Result<()> {
        if depth > 100 {
            return Err(Problem::new(format!("{}: folders nested more than 100 deep", self.what)).hint("do not use this repository"));
        }
        let tree = self.repo.find_tree(tree).doing(|| format!("read a tree of {}", self.what))?;
        for entry in tree.iter() {
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else {
                let name = String::from_utf8_lossy(entry.name_bytes());
                self.problems.push(Problem::new(format!(
                    "{}: `{prefix}{}` is not UTF-8, which a Mac's disk cannot hold",
                    self.what,
                    crate::text::escape(&name)
                )));
                continue;
            };
            let path = format!("{prefix}{name}");
            let oid = Oid::parse(&entry.id().to_string()).ok_or_else(|| Problem::new("an object id of an unknown kind"))?;
            let mode = match (entry.kind(), entry.filemode_raw()) {
                (Some(ObjectType::Tree), _) => {
                    self.folder(entry.id(), &format!("{path}/"), depth + 1)?;
                    continue;
                }
                (_, 0o120_000) => Mode::Link,
                (_, 0o160_000) => Mode::Commit,
                (_, m) if m & 0o111 != 0 => Mode::Executable,
                _ => Mode::File,
            };
            // The header is absent where an outline left a large file out: then it is neither link nor pointer.
            let size = if mode == Mode::Commit { 0 } else { self.odb.read_header(entry.id()).map_or(0, |(n, _)| n as u64) };
            self.look_inside(&path, mode, entry.id(), size);
            self.listing.0.insert(path, Entry { mode, oid, size });
        }
        Ok(())
    }

    fn look_inside(&mut self, path: &str, mode: Mode, oid: git2::Oid, size: u64) {
        let pointer_size = (LFS_MARK.len() as u64..=LFS_LIMIT as u64).contains(&size);
        match mode {
            Mode::Link => match self.repo.find_blob(oid) {
                Ok(blob) => {
                    self.contents.links.insert(path.to_string(), String::from_utf8_lossy(blob.content()).into_owned());
                }
                Err(_) => self.problems.push(Problem::new(format!("{}: the target of link `{}` is too long to be one", self.what, crate::text::escape(path)))),
            },
            Mode::File | Mode::Executable if pointer_size && self.repo.find_blob(oid).is_ok_and(|b| b.content().starts_with(LFS_MARK)) => {
                self.contents.lfs_pointers.insert(path.to_string());
            }
            _ => {}
        }
    }
}

/// Writes the files of `commit` below `target`, which exists and is empty, from objects and never through a filter.
/// What `skip` knows by path and content is left out: whoever seals the tree has it already. Returns the listing.
///
/// # Errors
/// A missing or corrupt object, a full disk, a path that no tree may hold.
pub fn export(what: &str, folder: &Path, commit: &Oid, target: &Path, skip: &dyn Fn(&str, &Entry) -> bool) -> Result<Listing> {
    let repo = open(folder)?;
    let snapshot = snapshot(what, folder, commit)?;
    let odb = repo.odb().doing(|| format!("read {}", folder.display()))?;
    let mut made = BTreeSet::new();
    for (path, entry) in &snapshot.listing.0 {
        let at = target.join(path);
        let parent = if entry.mode == Mode::Commit { Some(at.as_path()) } else { at.parent() };
        if let Some(parent) = parent
            && made.insert(parent.to_path_buf())
        {
            std::fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
        }
        if entry.mode == Mode::Commit || skip(path, entry) {
            continue;
        }
        let blob = odb.read(id(&entry.oid)?).doing(|| format!("read {path} of {what} from the store"))?;
        if entry.mode == Mode::Link {
            let to = std::ffi::OsStr::from_bytes(blob.data());
            std::os::unix::fs::symlink(to, &at).doing(|| format!("make the link {}", at.display()))?;
            continue;
        }
        let mode = if entry.mode == Mode::Executable { 0o755 } else { 0o644 };
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&at).doing(|| format!("make {}", at.display()))?;
        file.write_all(blob.data()).doing(|| format!("write {}", at.display()))?;
    }
    Ok(snapshot.listing)
}

/// The bytes of one file of a commit, if the store has it and the caller may read the store.
pub fn file_at(folder: &Path, commit: &Oid, path: &str) -> Option<Vec<u8>> {
    let repo = open(folder).ok()?;
    let tree = repo.find_commit(id(commit).ok()?).ok()?.tree().ok()?;
    let blob = tree.get_path(Path::new(path)).ok()?.to_object(&repo).ok()?.into_blob().ok()?;
    Some(blob.content().to_vec())
}
