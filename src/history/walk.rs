//! Which commits moved comfy.lock, newest first, as `git log -- comfy.lock` walks: where a merge
//! took the file of one parent, only that parent is followed.

use std::collections::{BinaryHeap, HashSet};

use git2::{Oid, Time};

use super::LockRepository;
use crate::problem::{Context, Result};

/// A commit that moved comfy.lock.
#[derive(Debug, Clone)]
pub(crate) struct LockCommit {
    pub id: Oid,
    pub time: Time,
    pub author: String,
    pub subject: String,
    /// The content of comfy.lock before and after it.
    pub before: Option<Oid>,
    pub after: Option<Oid>,
    /// The content of comfy.toml before and after it.
    pub manifest: (Option<Oid>, Option<Oid>),
}

/// The walk, which reads a commit only when it is asked for the next one.
pub(crate) struct LockWalk<'r> {
    of: &'r LockRepository,
    /// By time, since parents are added after their children.
    todo: BinaryHeap<(i64, Oid)>,
    seen: HashSet<Oid>,
    /// Whether the repository ends before the first commit.
    pub shallow: bool,
}

impl LockRepository {
    /// Walks from HEAD.
    ///
    /// # Errors
    /// There is no commit yet.
    pub(crate) fn walk(&self) -> Result<LockWalk<'_>> {
        let head = self.head()?;
        Ok(LockWalk {
            of: self,
            todo: [(head.time().seconds(), head.id())].into(),
            seen: [head.id()].into(),
            shallow: self.repo.is_shallow(),
        })
    }

    /// Returns the text of a version of comfy.lock.
    ///
    /// # Errors
    /// The object cannot be read, or is no text.
    pub(crate) fn text_of(&self, blob: Oid) -> Result<String> {
        let bytes = self.read_blob(blob)?;
        String::from_utf8(bytes).map_err(|_| crate::problem::Problem::new("it is not UTF-8"))
    }

    /// Returns whether comfy.lock of HEAD is `blob`.
    pub(crate) fn lock_of_head(&self) -> Result<Option<Oid>> {
        let tree = self.head()?.tree().context("read HEAD")?;
        Ok(self.blob_in(&tree, &self.lock))
    }
}

impl LockWalk<'_> {
    fn look_at(&mut self, id: Oid) -> Result<Option<LockCommit>, git2::Error> {
        let of = self.of;
        let commit = of.repo.find_commit(id)?;
        let tree = commit.tree()?;
        let after = of.blob_in(&tree, &of.lock);
        let parents = commit.parents().collect::<Vec<_>>();
        let mut before = Vec::new();
        for parent in &parents {
            before.push(of.blob_in(&parent.tree()?, &of.lock));
        }
        let same = before.iter().position(|b| *b == after);
        let followed = match same {
            Some(n) => &parents[n..=n],
            None => &parents[..],
        };
        for parent in followed {
            if self.seen.insert(parent.id()) {
                self.todo.push((parent.time().seconds(), parent.id()));
            }
        }
        let first = before.first().copied().flatten();
        if same.is_some() || (first.is_none() && after.is_none()) {
            return Ok(None);
        }
        let manifest = match parents.first() {
            Some(parent) => of.blob_in(&parent.tree()?, &of.manifest),
            None => None,
        };
        Ok(Some(LockCommit {
            id,
            time: commit.time(),
            author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
            subject: String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default())
                .into_owned(),
            before: first,
            after,
            manifest: (manifest, of.blob_in(&tree, &of.manifest)),
        }))
    }
}

impl Iterator for LockWalk<'_> {
    type Item = Result<LockCommit>;

    fn next(&mut self) -> Option<Result<LockCommit>> {
        while let Some((_, id)) = self.todo.pop() {
            if crate::host::signals::is_interrupted() {
                return Some(Err(crate::problem::Problem::interrupted()));
            }
            let looked = self.look_at(id);
            match looked.with_context(|| format!("read commit {id} of the git repository")) {
                Ok(None) => {}
                Ok(Some(commit)) => return Some(Ok(commit)),
                Err(p) => return Some(Err(p)),
            }
        }
        None
    }
}
