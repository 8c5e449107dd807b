//! Commits between two pins, as far as the store knows them without a server.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use git2::{Oid, Repository};

use super::{FetchDepth, GitStore, objects};
use crate::lock::difference::{CommitLine, CommitRange};
use crate::tree::ObjectId;

/// Commits that are looked at, at most.
const FARTHEST: usize = 20_000;

/// What a store knows of commits; each repository is opened once.
pub(crate) struct KnownCommits {
    store: GitStore,
    histories: RefCell<HashMap<String, Option<KnownHistory>>>,
}

struct KnownHistory {
    repo: Repository,
    parents: HashMap<Oid, Vec<Oid>>,
}

impl KnownCommits {
    pub(crate) fn of_store(store: GitStore) -> KnownCommits {
        KnownCommits {
            store,
            histories: RefCell::default(),
        }
    }

    /// Returns the commits that `new` has and `old` has not, without their lines; `None` where the
    /// store lacks one.
    pub(crate) fn count_between(
        &self,
        repo: &str,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Option<CommitRange> {
        self.look(repo, |history| history.between(old, new, 0))
    }

    /// Returns the same with the newest of them.
    pub(crate) fn list_between(
        &self,
        repo: &str,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Option<CommitRange> {
        self.look(repo, |history| {
            history.between(old, new, CommitRange::LISTED)
        })
    }

    /// Returns whether a commit is `ancestor` or comes after it; `None` where the store lacks some of
    /// the history.
    pub(crate) fn has_commit(&self, repo: &str, commit: &ObjectId, ancestor: &str) -> Option<bool> {
        let ancestor = Oid::from_str(ancestor).ok()?;
        self.look(repo, |history| {
            let commit = Oid::from_bytes(&commit.0).ok()?;
            let all = history.ancestors(commit, &HashSet::new())?;
            Some(all.contains(&ancestor))
        })
    }

    fn look<T>(&self, repo: &str, look: impl FnOnce(&mut KnownHistory) -> Option<T>) -> Option<T> {
        let mut all = self.histories.borrow_mut();
        let open = || {
            let outline = self.store.store_folder(repo, FetchDepth::Outline);
            let repo = objects::open_repository(&outline.with_extension("history.git")).ok()?;
            let parents = HashMap::new();
            Some(KnownHistory { repo, parents })
        };
        let history = all.entry(repo.to_string()).or_insert_with(open);
        look(history.as_mut()?)
    }
}

impl KnownHistory {
    fn between(&mut self, old: &ObjectId, new: &ObjectId, listed: usize) -> Option<CommitRange> {
        let id = |id: &ObjectId| Oid::from_bytes(&id.0).ok();
        let known = self.ancestors(id(old)?, &HashSet::new())?;
        let between = self.ancestors(id(new)?, &known)?;
        let count = between.len();
        let mut newest = Vec::new();
        if listed > 0 {
            let time = |id: &Oid| Some(self.repo.find_commit(*id).ok()?.time().seconds());
            let mut by_time: Vec<(Option<i64>, Oid)> =
                between.iter().map(|id| (time(id), *id)).collect();
            by_time.sort();
            let last = by_time.into_iter().rev().take(listed);
            newest = last.filter_map(|(_, id)| self.line_of(id)).collect();
        }
        Some(CommitRange { count, newest })
    }

    fn line_of(&self, id: Oid) -> Option<CommitLine> {
        let commit = self.repo.find_commit(id).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(CommitLine {
            commit: id.to_string(),
            author: text(commit.author().name_bytes()),
            subject: text(commit.summary_bytes().unwrap_or_default()),
        })
    }

    /// The commit and those before it, without those of `known`; libgit2's own walk does not heed
    /// where a shallow repository ends.
    fn ancestors(&mut self, of: Oid, known: &HashSet<Oid>) -> Option<HashSet<Oid>> {
        let (mut seen, mut todo) = (HashSet::new(), vec![of]);
        while let Some(id) = todo.pop() {
            if known.contains(&id) || !seen.insert(id) {
                continue;
            }
            if seen.len() > FARTHEST {
                return None;
            }
            if !self.parents.contains_key(&id) {
                let parents = self.repo.find_commit(id).ok()?.parent_ids().collect();
                self.parents.insert(id, parents);
            }
            todo.extend(&self.parents[&id]);
        }
        Some(seen)
    }
}
