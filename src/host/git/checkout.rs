//! A checkout that lies on this machine, made by other programs and reviewed by nobody. Neither git
//! nor libgit2 opens it as a repository: they would obey its configuration, its hooks and its
//! filters. Its few texts are read here, and its objects by their ids.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Odb, Oid, Repository};
use rayon::prelude::*;

use super::objects::set_up;
use crate::adopt::git_folder::{self, Head, RemoteSettings};
use crate::host::fs::read_regular;
use crate::host::fs::trusted::read_plain;
use crate::manifest::names;
use crate::problem::{Context, Problem, Result};
use crate::tree::ObjectId;

/// The largest text in a patch, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// The most entries of a tree or a folder that are compared.
const MAX_ENTRIES: usize = 200_000;
/// The deepest folder that is looked into.
const MAX_DEPTH: usize = 60;
/// The largest patch, in bytes; what does not fit is named alone.
const MAX_PATCH: usize = 64 << 20;

/// What a checkout says of itself.
#[derive(Debug)]
pub(crate) struct GitCheckout {
    pub commit: ObjectId,
    /// The address of its remote, as written.
    pub remote: Option<String>,
    /// The branch of the remote that it follows.
    pub branch: Option<String>,
    /// The tags of this commit.
    pub tags: Vec<String>,
    objects: PathBuf,
}

/// How a folder differs from the commit that is checked out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckoutChanges {
    pub modified: Vec<String>,
    pub deleted: Vec<String>,
    /// Files that the commit does not have, with their sizes.
    pub added: Vec<(String, u64)>,
}

impl CheckoutChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.modified.is_empty() && self.deleted.is_empty() && self.added.is_empty()
    }
}

/// Reads the checkout in `folder`; `None`: it is none.
///
/// # Errors
/// It is one, and comfy cannot tell its commit.
pub(crate) fn read_checkout(folder: &Path) -> Result<Option<GitCheckout>> {
    let dot_git = folder.join(".git");
    let Ok(kind) = dot_git.symlink_metadata() else {
        return Ok(None);
    };
    let git_dir = if kind.is_file() {
        let text = read_regular(&dot_git)?;
        let path = git_folder::read_gitdir(&text)
            .ok_or_else(|| Problem::new(".git is a file, and names no folder"))?;
        folder.join(path)
    } else {
        dot_git
    };
    let text = |path: &Path| path.exists().then(|| read_regular(path)).transpose();
    // A worktree shares the rest with the main one (gitrepository-layout(5)).
    let common = text(&git_dir.join("commondir"))?;
    let common = common.map_or_else(|| git_dir.clone(), |c| git_dir.join(c.trim()));
    let head = text(&git_dir.join("HEAD"))?.unwrap_or_default();
    let head = git_folder::read_head(&head)
        .ok_or_else(|| Problem::new(".git/HEAD names neither a branch nor a commit"))?;
    let packed = text(&common.join("packed-refs"))?.unwrap_or_default();
    let packed = git_folder::read_packed_refs(&packed);
    let (branch, commit) = match head {
        Head::Commit(commit) => (None, Some(commit)),
        Head::Branch(name) => {
            names::git_ref(&name).map_err(|why| Problem::new(format!("its branch {why}")))?;
            let full = format!("refs/heads/{name}");
            let loose = text(&common.join(&full))?.map(|t| t.trim().to_string());
            let commit = loose.or_else(|| packed.get(&full).cloned());
            (Some(name), commit)
        }
    };
    let commit = commit
        .and_then(|c| ObjectId::parse(&c))
        .ok_or_else(|| Problem::new("its branch has no commit"))?;
    let config = text(&common.join("config"))?.unwrap_or_default();
    let settings = RemoteSettings::parse(&config);
    let upstream = settings.upstream(branch.as_deref());
    let remote = upstream.map(|(url, _)| url.to_string());
    let followed = upstream.and_then(|(_, there)| there.map(str::to_string));
    let objects = common.join("objects");
    let tags = tags_of(&common, &objects, &packed, &commit);
    Ok(Some(GitCheckout {
        commit,
        remote,
        branch: followed.filter(|_| branch.is_some()),
        tags,
        objects,
    }))
}

/// The objects of a checkout, without its configuration.
fn open_objects(objects: &Path) -> Result<Repository> {
    set_up()?;
    let path = objects
        .to_str()
        .ok_or_else(|| Problem::new("the path of its objects is no UTF-8"))?;
    let odb = Odb::new().context("read its objects")?;
    odb.add_disk_alternate(path).context("read its objects")?;
    Repository::from_odb(odb).context("read its objects")
}

/// The tags that name this commit.
fn tags_of(
    common: &Path,
    objects: &Path,
    packed: &BTreeMap<String, String>,
    commit: &ObjectId,
) -> Vec<String> {
    let id = commit.to_string();
    let mut out: Vec<String> = packed
        .iter()
        .filter(|(_, c)| **c == id)
        .filter_map(|(name, _)| name.strip_prefix("refs/tags/"))
        .map(str::to_string)
        .collect();
    let entries = std::fs::read_dir(common.join("refs/tags"));
    let repo = open_objects(objects).ok();
    for entry in entries.into_iter().flatten().flatten().take(MAX_ENTRIES) {
        let Some(name) = entry.file_name().to_str().map(str::to_string) else {
            continue;
        };
        let Ok(text) = read_regular(&entry.path()) else {
            continue;
        };
        // An annotated tag is an object of its own.
        let peeled = || {
            let oid = Oid::from_str(text.trim()).ok()?;
            let tag = repo.as_ref()?.find_tag(oid).ok()?;
            Some(tag.target_id().to_string())
        };
        if text.trim() == id || peeled().is_some_and(|c| c == id) {
            out.push(name);
        }
    }
    out.retain(|name| names::git_ref(name).is_ok());
    // `v0.3.64` before `latest`.
    out.sort_by_key(|name| (!name.starts_with('v'), name.clone()));
    out.dedup();
    out
}

/// One leaf of a commit's tree.
struct Leaf {
    path: String,
    id: Oid,
    mode: i32,
    /// Its size in the commit.
    size: Option<u64>,
}

/// git's modes (gitformat-tree in git's Documentation).
const LINK: i32 = 0o120_000;
const SUBMODULE: i32 = 0o160_000;

impl GitCheckout {
    /// Compares the files of `folder` with the commit; paths that `skip` names are not looked at.
    ///
    /// # Errors
    /// The commit's trees are not here, or the folder cannot be read.
    pub(crate) fn compare(
        &self,
        folder: &Path,
        skip: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<CheckoutChanges> {
        let mut out = CheckoutChanges::default();
        let leaves = self.leaves()?;
        let states: Vec<(&Leaf, LeafState)> = leaves
            .par_iter()
            .filter(|l| !skip(&l.path))
            .map(|l| (l, leaf_state(folder, l)))
            .collect();
        for (leaf, state) in states {
            match state {
                LeafState::Same => {}
                LeafState::Modified => out.modified.push(leaf.path.clone()),
                LeafState::Deleted => out.deleted.push(leaf.path.clone()),
            }
        }
        let known: std::collections::BTreeSet<&str> =
            leaves.iter().map(|l| l.path.as_str()).collect();
        let submodules: Vec<&str> = leaves
            .iter()
            .filter(|l| l.mode == SUBMODULE)
            .map(|l| l.path.as_str())
            .collect();
        let is_foreign = |path: &str| {
            skip(path)
                || known.contains(path)
                || submodules.iter().any(|s| names::is_within(path, s))
        };
        out.added = files_beside(folder, &is_foreign)?;
        Ok(out)
    }

    fn leaves(&self) -> Result<Vec<Leaf>> {
        let repo = open_objects(&self.objects)?;
        let odb = repo.odb().context("read its objects")?;
        let id = Oid::from_bytes(&self.commit.0).context("read its commit")?;
        let tree = repo
            .find_commit(id)
            .and_then(|c| c.tree())
            .context("read its commit")?;
        // Folders count too: one that holds another twice, and so on, has no end.
        let (mut out, mut entries, mut too_many) = (Vec::new(), 0, false);
        tree.walk(git2::TreeWalkMode::PreOrder, |root, entry| {
            entries += 1;
            too_many = entries > MAX_ENTRIES || root.matches('/').count() > MAX_DEPTH;
            if too_many {
                return git2::TreeWalkResult::Abort;
            }
            if entry.kind() != Some(ObjectType::Tree) {
                let name = String::from_utf8_lossy(entry.name_bytes());
                let (path, id, mode) = (format!("{root}{name}"), entry.id(), entry.filemode());
                let header = odb.read_header(id).ok();
                let size = header.map(|(size, _)| size as u64);
                // Nothing of a tree leads out of the folder.
                if names::check_relative(&path).is_ok() {
                    out.push(Leaf {
                        path,
                        id,
                        mode,
                        size,
                    });
                }
            }
            git2::TreeWalkResult::Ok
        })
        .or_else(|e| if too_many { Ok(()) } else { Err(e) })
        .context("read its files")?;
        if too_many {
            return Err(Problem::new("it has too many files and folders"));
        }
        Ok(out)
    }

    /// The changes as a patch that `git apply` takes; what is no text, or too large, is named alone.
    pub(crate) fn patch(&self, folder: &Path, changes: &CheckoutChanges) -> Result<String> {
        let repo = open_objects(&self.objects)?;
        let leaves = self.leaves()?;
        let folder = &folder
            .canonicalize()
            .with_context(|| format!("open {}", folder.display()))?;
        let before = |path: &str| -> Option<String> {
            let leaf = leaves.iter().find(|l| l.path == path)?;
            let blob = repo.find_blob(leaf.id).ok()?;
            String::from_utf8(blob.content().to_vec()).ok()
        };
        let mut out = format!("# Changes to commit {}\n", self.commit);
        for path in &changes.modified {
            add_diff(&mut out, path, before(path), text_file(folder, path));
        }
        for path in &changes.deleted {
            add_diff(&mut out, path, before(path), Some(String::new()));
        }
        // What .gitignore names is nothing to publish: a key, a cache.
        repo.set_workdir(folder, false)
            .with_context(|| format!("open {}", folder.display()))?;
        for (path, _) in &changes.added {
            let is_ignored = repo.is_path_ignored(folder.join(path));
            if is_ignored.unwrap_or(true) {
                let shown = crate::text::escape_text(path);
                // Writing to a String cannot fail.
                let _ = writeln!(out, "# {shown}: left out, .gitignore names it");
                continue;
            }
            add_diff(&mut out, path, Some(String::new()), text_file(folder, path));
        }
        Ok(out)
    }
}

enum LeafState {
    Same,
    Modified,
    Deleted,
}

fn leaf_state(folder: &Path, leaf: &Leaf) -> LeafState {
    let path = folder.join(&leaf.path);
    let Ok(st) = path.symlink_metadata() else {
        return LeafState::Deleted;
    };
    let same = |is: bool| {
        if is {
            LeafState::Same
        } else {
            LeafState::Modified
        }
    };
    if leaf.mode == SUBMODULE {
        let at = read_checkout(&path).ok().flatten();
        return match at {
            Some(c) => same(c.commit.0 == leaf.id.as_bytes()),
            // Nobody asked for it.
            None => LeafState::Same,
        };
    }
    if leaf.mode == LINK {
        let target = std::fs::read_link(&path).ok();
        let id =
            target.and_then(|t| Oid::hash_object(ObjectType::Blob, t.as_os_str().as_bytes()).ok());
        return same(id == Some(leaf.id));
    }
    if !st.is_file() {
        return LeafState::Modified;
    }
    // A file of another size is another file, and may be one of terabytes that holds nothing.
    if st.len() > MAX_TEXT && Some(st.len()) != leaf.size {
        return LeafState::Modified;
    }
    if Oid::hash_file(ObjectType::Blob, &path).ok() == Some(leaf.id) {
        return LeafState::Same;
    }
    // core.autocrlf changes the ends of lines, and nothing else.
    let plain = std::fs::read(&path).ok().filter(|_| st.len() <= MAX_TEXT);
    let plain = plain.and_then(|b| String::from_utf8(b).ok());
    let plain = plain.map(|t| t.replace("\r\n", "\n"));
    same(plain.and_then(|t| Oid::hash_object(ObjectType::Blob, t.as_bytes()).ok()) == Some(leaf.id))
}

/// Files of a folder beside those that are known, with their sizes, sorted.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn files_beside(
    folder: &Path,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, u64)>> {
    let mut out = Vec::new();
    added_files(folder, "", is_known, &mut out)?;
    out.sort();
    Ok(out)
}

/// Files below `folder` that the commit does not have; bytecode and git's own are none.
fn added_files(
    folder: &Path,
    below: &str,
    is_foreign: &dyn Fn(&str) -> bool,
    out: &mut Vec<(String, u64)>,
) -> Result<()> {
    let here = folder.join(below);
    if below.matches('/').count() > MAX_DEPTH {
        return Ok(());
    }
    let entries = std::fs::read_dir(&here).with_context(|| format!("read {}", here.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", here.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(&*name, ".git" | "__pycache__" | ".DS_Store") || name.ends_with(".pyc") {
            continue;
        }
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if is_foreign(&path) || out.len() >= MAX_ENTRIES {
            continue;
        }
        let st = entry
            .path()
            .symlink_metadata()
            .with_context(|| format!("read {}", entry.path().display()))?;
        if st.is_dir() {
            added_files(folder, &path, is_foreign, out)?;
        } else {
            out.push((path, st.len()));
        }
    }
    Ok(())
}

fn text_file(folder: &Path, path: &str) -> Option<String> {
    let path = folder.join(path);
    let st = path.symlink_metadata().ok()?;
    (st.is_file() && st.len() <= MAX_TEXT)
        // A folder that became a link leads to what is nobody's business.
        .then(|| read_plain(&path).ok())
        .flatten()
}

fn add_diff(out: &mut String, path: &str, old: Option<String>, new: Option<String>) {
    let shown = crate::text::escape_text(path);
    let fits = out.len() < MAX_PATCH;
    let (Some(old), Some(new), true) = (old, new, fits) else {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# {shown}: no text, or too large for a patch");
        return;
    };
    let names = match (old.is_empty(), new.is_empty()) {
        (true, _) => ("/dev/null".to_string(), format!("b/{shown}")),
        (_, true) => (format!("a/{shown}"), "/dev/null".to_string()),
        _ => (format!("a/{shown}"), format!("b/{shown}")),
    };
    let diff = similar::TextDiff::from_lines(&old, &new);
    let diff = diff.unified_diff().header(&names.0, &names.1).to_string();
    let _ = writeln!(out, "diff --git a/{shown} b/{shown}");
    if old.is_empty() {
        out.push_str("new file mode 100644\n");
    } else if new.is_empty() {
        out.push_str("deleted file mode 100644\n");
    }
    out.push_str(&diff);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]
mod tests {
    use super::*;

    /// A checkout with two files and a link, on branch `work`.
    fn checkout(folder: &Path) -> Repository {
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("work").external_template(false);
        let repo = Repository::init_opts(folder, &options).unwrap();
        std::fs::create_dir(folder.join("lib")).unwrap();
        std::fs::write(folder.join("lib/a.py"), "x = 1\ny = 2\n").unwrap();
        std::fs::write(folder.join("b.py"), "b\n").unwrap();
        std::os::unix::fs::symlink("b.py", folder.join("c.py")).unwrap();
        let mut index = repo.index().unwrap();
        index
            .add_all(["*"], git2::IndexAddOption::DEFAULT, None)
            .unwrap();
        let tree = repo.find_tree(index.write_tree().unwrap()).unwrap();
        let who = git2::Signature::now("a", "a@localhost").unwrap();
        let id = repo
            .commit(Some("HEAD"), &who, &who, "a", &tree, &[])
            .unwrap();
        let commit = repo.find_object(id, None).unwrap();
        repo.tag("v1", &commit, &who, "annotated", false).unwrap();
        repo.tag_lightweight("latest", &commit, false).unwrap();
        drop((tree, commit));
        repo.remote("up", "https://github.com/o/r").unwrap();
        repo
    }

    #[test]
    fn a_checkout_tells_its_commit_its_tags_and_every_change() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let repo = checkout(&folder);
        let head = repo.head().unwrap().target().unwrap().to_string();
        let read = |at: &Path| read_checkout(at).unwrap().unwrap();
        let c = read(&folder);
        assert_eq!(c.commit.to_string(), head);
        assert_eq!(c.remote.as_deref(), Some("https://github.com/o/r"));
        assert_eq!(c.branch.as_deref(), Some("work"));
        assert_eq!(c.tags, ["v1", "latest"]);
        assert!(c.compare(&folder, &|_| false).unwrap().is_empty());
        // Ends of lines, bytecode and times are no changes.
        std::fs::write(folder.join("lib/a.py"), "x = 1\r\ny = 2\r\n").unwrap();
        std::fs::create_dir(folder.join("__pycache__")).unwrap();
        std::fs::write(folder.join("__pycache__/a.pyc"), "x").unwrap();
        assert!(c.compare(&folder, &|_| false).unwrap().is_empty());
        std::fs::write(folder.join("lib/a.py"), "x = 1\ny = 3\n").unwrap();
        std::fs::remove_file(folder.join("b.py")).unwrap();
        std::fs::remove_file(folder.join("c.py")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("c.py")).unwrap();
        std::fs::write(folder.join("new\u{1b}.txt"), "n").unwrap();
        let changes = c.compare(&folder, &|_| false).unwrap();
        assert_eq!(changes.modified, ["c.py", "lib/a.py"]);
        assert_eq!(changes.deleted, ["b.py"]);
        assert_eq!(changes.added, [("new\u{1b}.txt".to_string(), 1)]);
        // Nobody publishes what .gitignore names: a key, a cache.
        std::fs::write(folder.join(".gitignore"), "*.env\n/cache/\n").unwrap();
        std::fs::create_dir_all(folder.join("cache/deep")).unwrap();
        std::fs::write(folder.join("keys.env"), "hunter2\n").unwrap();
        std::fs::write(folder.join("cache/deep/x.txt"), "hunter2\n").unwrap();
        let all = c.compare(&folder, &|_| false).unwrap();
        let patch = c.patch(&folder, &all).unwrap();
        for left_out in ["keys.env", "cache/deep/x.txt"] {
            let line = format!("# {left_out}: left out, .gitignore names it\n");
            assert!(patch.contains(&line), "{patch}");
        }
        assert!(
            !patch.contains("hunter2") && patch.contains("+++ b/.gitignore"),
            "{patch}"
        );
        std::fs::remove_dir_all(folder.join("cache")).unwrap();
        std::fs::remove_file(folder.join("keys.env")).unwrap();
        std::fs::remove_file(folder.join(".gitignore")).unwrap();
        let patch = c.patch(&folder, &changes).unwrap();
        assert!(patch.contains("-y = 2\n+y = 3\n"), "{patch}");
        // A link is not followed, and no name writes to the terminal.
        assert!(patch.contains("# c.py: no text"), "{patch}");
        assert!(
            !patch.contains("root:") && !patch.contains('\u{1b}'),
            "{patch}"
        );
        std::fs::rename(folder.join("lib"), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), folder.join("lib")).unwrap();
        let patch = c.patch(&folder, &changes).unwrap();
        assert!(!patch.contains("y = 3"), "{patch}");
        // Packed, and with no branch checked out.
        repo.set_head_detached(Oid::from_str(&head).unwrap())
            .unwrap();
        let packed = format!("# pack-refs\n{head} refs/tags/v0.9\n");
        std::fs::write(folder.join(".git/packed-refs"), packed).unwrap();
        let c = read(&folder);
        assert_eq!(
            (c.branch, c.tags),
            (None, vec!["v0.9".into(), "v1".into(), "latest".into()])
        );
        // As a submodule or a worktree has it.
        let moved = dir.path().join("moved");
        std::fs::rename(folder.join(".git"), &moved).unwrap();
        std::fs::write(folder.join(".git"), "gitdir: ../moved\n").unwrap();
        assert_eq!(read(&folder).commit.to_string(), head);
    }

    #[test]
    fn a_tree_without_an_end_and_a_file_of_terabytes_are_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let repo = checkout(&folder);
        let file = std::fs::File::create(folder.join("b.py")).unwrap();
        file.set_len(1 << 42).unwrap();
        let c = read_checkout(&folder).unwrap().unwrap();
        assert_eq!(c.compare(&folder, &|_| false).unwrap().modified, ["b.py"]);
        // Each folder holds the one below it twice.
        let mut tree = repo.treebuilder(None).unwrap().write().unwrap();
        for _ in 0..40 {
            let mut both = repo.treebuilder(None).unwrap();
            for name in ["a", "b"] {
                both.insert(name, tree, 0o040_000).unwrap();
            }
            tree = both.write().unwrap();
        }
        let who = git2::Signature::now("t", "t@localhost").unwrap();
        let tree = repo.find_tree(tree).unwrap();
        repo.commit(Some("refs/heads/bomb"), &who, &who, "b", &tree, &[])
            .unwrap();
        std::fs::write(folder.join(".git/HEAD"), "ref: refs/heads/bomb\n").unwrap();
        let c = read_checkout(&folder).unwrap().unwrap();
        let p = c.compare(&folder, &|_| false).unwrap_err();
        assert_eq!(p.message, "it has too many files and folders");
    }

    #[test]
    fn a_checkout_that_is_none_is_told_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(read_checkout(dir.path()).unwrap().is_none());
        let git = at(".git");
        for (head, why) in [
            ("", "neither a branch"),
            (
                "ref: refs/heads/../../../etc/passwd",
                "not a name that git accepts",
            ),
            ("ref: refs/heads/none", "no commit"),
        ] {
            std::fs::create_dir_all(&git).unwrap();
            std::fs::write(git.join("HEAD"), head).unwrap();
            let p = read_checkout(dir.path()).unwrap_err();
            assert!(p.message.contains(why), "{head}: {}", p.message);
        }
        // Nobody waits for a pipe.
        std::fs::remove_file(git.join("HEAD")).unwrap();
        nix::unistd::mkfifo(
            &git.join("HEAD"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        assert!(
            read_checkout(dir.path())
                .unwrap_err()
                .message
                .contains("not a regular file")
        );
        std::fs::remove_dir_all(&git).unwrap();
        std::fs::write(&git, "gitdir: /nonexistent\n").unwrap();
        assert!(read_checkout(dir.path()).is_err());
        // The commit's objects are not here: that is not known, and not no change.
        std::fs::remove_file(&git).unwrap();
        std::fs::create_dir_all(git.join("objects")).unwrap();
        std::fs::write(git.join("HEAD"), "a".repeat(40)).unwrap();
        let c = read_checkout(dir.path()).unwrap().unwrap();
        assert!(c.compare(dir.path(), &|_| false).is_err());
    }
}
