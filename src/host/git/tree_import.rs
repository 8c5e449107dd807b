//! Trees that are written into a repository of the store, file by file.

use std::collections::BTreeSet;
use std::path::Path;

use git2::Repository;

use super::objects::{marker_ref, open_repository};
use crate::problem::{Context, Problem, Result};
use crate::tree::{EntryMode, ObjectId};

/// A tree that is written into a repository of the store, file by file.
pub(super) struct TreeImport {
    repo: Repository,
    changes: git2::build::TreeUpdateBuilder,
    seen: BTreeSet<String>,
}

impl TreeImport {
    pub(super) fn begin(folder: &Path) -> Result<TreeImport> {
        Ok(TreeImport {
            repo: open_repository(folder)?,
            changes: git2::build::TreeUpdateBuilder::new(),
            seen: BTreeSet::new(),
        })
    }

    /// # Errors
    /// There is one of that path already; a full disk.
    pub(super) fn add(&mut self, path: &str, mode: EntryMode, bytes: &[u8]) -> Result<()> {
        let shown = || crate::text::escape_text(path);
        if !self.seen.insert(path.to_string()) {
            return Err(Problem::new(format!("\"{}\" is there twice", shown())));
        }
        let oid = self
            .repo
            .blob(bytes)
            .with_context(|| format!("store {}", shown()))?;
        let mode = match mode {
            EntryMode::Executable => git2::FileMode::BlobExecutable,
            EntryMode::Link => git2::FileMode::Link,
            _ => git2::FileMode::Blob,
        };
        self.changes.upsert(path, oid, mode);
        Ok(())
    }

    /// Makes the commit, which depends on the tree alone, and marks it as complete.
    ///
    /// # Errors
    /// Nothing was added; a name that no tree may hold.
    pub(super) fn finish(mut self) -> Result<ObjectId> {
        if self.seen.is_empty() {
            return Err(Problem::new("it is empty"));
        }
        let doing = "store a tree";
        let empty = self
            .repo
            .treebuilder(None)
            .and_then(|b| b.write())
            .context(doing)?;
        let empty = self.repo.find_tree(empty).context(doing)?;
        let tree = self
            .changes
            .create_updated(&self.repo, &empty)
            .context(doing)?;
        let tree = self.repo.find_tree(tree).context(doing)?;
        let when = git2::Time::new(0, 0);
        let who = git2::Signature::new("comfy", "comfy@localhost", &when).context(doing)?;
        let commit = self
            .repo
            .commit(None, &who, &who, "comfy\n", &tree, &[])
            .context(doing)?;
        let marker = ObjectId::parse(&commit.to_string())
            .ok_or_else(|| Problem::new("an object id of an unknown kind"))?;
        self.repo
            .reference(&marker_ref(&marker), commit, true, "")
            .context(doing)?;
        Ok(marker)
    }
}
