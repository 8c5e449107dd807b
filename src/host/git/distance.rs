//! Commits between two pins, as far as the store knows them without a server.

use std::collections::HashSet;

use git2::{Oid, Repository};

use super::{FetchDepth, GitStore, objects};
use crate::tree::ObjectId;

/// Commits that are looked at, at most.
const FARTHEST: usize = 20_000;

impl GitStore {
    /// Returns how many commits `new` has that `old` has not; `None` where the store lacks one.
    pub(crate) fn known_distance(
        &self,
        repo: &str,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Option<usize> {
        let outline = self.store_folder(repo, FetchDepth::Outline);
        let history = objects::open_repository(&outline.with_extension("history.git")).ok()?;
        let ids = |id: &ObjectId| Oid::from_bytes(&id.0).ok();
        let known = ancestors(&history, ids(old)?, &HashSet::new())?;
        Some(ancestors(&history, ids(new)?, &known)?.len())
    }
}

/// The commit and those before it, without those of `known`; libgit2's own walk does not heed where
/// a shallow repository ends.
fn ancestors(repo: &Repository, of: Oid, known: &HashSet<Oid>) -> Option<HashSet<Oid>> {
    let (mut seen, mut todo) = (HashSet::new(), vec![of]);
    while let Some(id) = todo.pop() {
        if known.contains(&id) || !seen.insert(id) {
            continue;
        }
        if seen.len() > FARTHEST {
            return None;
        }
        todo.extend(repo.find_commit(id).ok()?.parent_ids());
    }
    Some(seen)
}
