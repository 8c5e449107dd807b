//! The user's repository, with comfy.toml and comfy.lock: what `git commit -am` and `git revert
//! HEAD` do, done by libgit2.

use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexTime, Repository};

use super::upstream::demo_signature;
use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};

/// The files that the repository tracks.
const KEPT: [&str; 2] = ["comfy.lock", "comfy.toml"];

/// An open repository with a work tree.
pub(crate) struct DotfilesRepository {
    repo: Repository,
    dir: PathBuf,
}

impl DotfilesRepository {
    /// Creates a repository at `dir`, without the user's template.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn create(dir: &Path) -> Result<DotfilesRepository> {
        let mut options = git2::RepositoryInitOptions::new();
        options
            .external_template(false)
            .mkpath(true)
            .initial_head("main");
        let repo = Repository::init_opts(dir, &options)
            .with_context(|| format!("make the repository {}", dir.display()))?;
        Ok(DotfilesRepository {
            repo,
            dir: dir.to_path_buf(),
        })
    }

    /// Commits both files as they are; returns the line that git would print.
    ///
    /// # Errors
    /// If a file does not exist, or the disk fails.
    pub(crate) fn commit(&self, message: &str) -> Result<String> {
        let mut index = self.repo.index().with_context(|| self.git_init_line())?;
        for name in KEPT {
            let path = self.dir.join(name);
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            // From the bytes, never through a filter that a configuration names.
            index
                .add_frombuffer(&index_entry(name), &bytes)
                .with_context(|| format!("add {name}"))?;
        }
        self.record_commit(&mut index, message)
    }

    /// Makes a commit that undoes the last one, and puts its files in place.
    ///
    /// # Errors
    /// If there is nothing to undo, or the disk fails.
    pub(crate) fn revert_last(&self) -> Result<String> {
        let last = self
            .repo
            .head()
            .and_then(|h| h.peel_to_commit())
            .with_context(|| self.git_init_line())?;
        let what = last
            .summary()
            .ok()
            .flatten()
            .unwrap_or("the last commit")
            .to_string();
        let undone = self
            .repo
            .revert_commit(&last, &last, 0, None)
            .with_context(|| format!("revert {what}"))?;
        if undone.has_conflicts() {
            return Err(Problem::new(format!(
                "{}: {what} cannot be reverted cleanly",
                self.dir.display()
            )));
        }
        let mut index = self.repo.index().with_context(|| self.git_init_line())?;
        index.clear().with_context(|| self.git_init_line())?;
        for e in undone.iter() {
            let name = String::from_utf8_lossy(&e.path).into_owned();
            let blob = self
                .repo
                .find_blob(e.id)
                .with_context(|| format!("read {name} of the last commit"))?;
            // Exactly 0644, whatever the umask: comfy trusts no file that others could write.
            edit::write_file(&self.dir.join(&name), blob.content(), 0o644, None)
                .with_context(|| format!("write {name}"))?;
            index.add(&e).with_context(|| format!("add {name}"))?;
        }
        self.record_commit(&mut index, &format!("Revert \"{what}\""))
    }

    fn record_commit(&self, index: &mut Index, message: &str) -> Result<String> {
        let write = |index: &mut Index| -> std::result::Result<String, git2::Error> {
            index.write()?;
            let tree = self.repo.find_tree(index.write_tree()?)?;
            let who = demo_signature().map_err(|p| git2::Error::from_str(&p.message))?;
            let parent = self.repo.head().ok().and_then(|h| h.peel_to_commit().ok());
            let parents: Vec<_> = parent.iter().collect();
            let id = self
                .repo
                .commit(Some("HEAD"), &who, &who, message, &tree, &parents)?
                .to_string();
            let root = if parents.is_empty() {
                " (root-commit)"
            } else {
                ""
            };
            Ok(format!(
                "[main{root} {}] {message}",
                crate::text::short_commit(&id)
            ))
        };
        write(index).with_context(|| format!("commit in {}", self.dir.display()))
    }

    fn git_init_line(&self) -> String {
        format!("read the repository {}", self.dir.display())
    }
}

/// An index entry of a plain file; git fills in the stamps at its next `status`.
fn index_entry(name: &str) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: git2::Oid::ZERO_SHA1,
        flags: 0,
        flags_extended: 0,
        path: name.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_revert_brings_the_old_bytes_back_in_files_that_comfy_trusts() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().canonicalize().unwrap().join("dotfiles");
        let dotfiles = DotfilesRepository::create(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("comfy.toml", "version = 1\n");
        write("comfy.lock", "old\r\n");
        assert!(
            dotfiles
                .commit("Pin")
                .unwrap()
                .starts_with("[main (root-commit) ")
        );
        write("comfy.lock", "new\n");
        dotfiles.commit("Update").unwrap();
        let said = dotfiles.revert_last().unwrap();
        assert!(said.ends_with("] Revert \"Update\""), "{said}");
        let lock = dir.join("comfy.lock");
        assert_eq!(std::fs::read(&lock).unwrap(), b"old\r\n");
        assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(dotfiles.repo.statuses(None).unwrap().iter().count(), 0);
        assert_eq!(
            dotfiles
                .repo
                .head()
                .unwrap()
                .peel_to_commit()
                .unwrap()
                .parent_count(),
            1
        );
    }
}
