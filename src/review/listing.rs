//! The files of a pin, with those of its submodules.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::host::git::{FetchDepth, GitStore, objects};
use crate::lock::RepositoryPin;
use crate::problem::Result;
use crate::tree::{EntryMode, ObjectId, TreeEntry};

/// Where each file of a pin is in the store.
pub(crate) struct PinFiles {
    files: BTreeMap<String, PinFile>,
}

struct PinFile {
    entry: TreeEntry,
    repository: PathBuf,
    commit: ObjectId,
    /// Its path in that repository.
    path: String,
}

impl PinFiles {
    /// No files: what a part had before it was there.
    pub(crate) fn none() -> PinFiles {
        PinFiles {
            files: BTreeMap::new(),
        }
    }

    /// Lists what the store holds of a pin.
    ///
    /// # Errors
    /// The store does not hold it.
    pub(crate) fn of_pin(git: &GitStore, pin: &RepositoryPin) -> Result<PinFiles> {
        let mut files = BTreeMap::new();
        let own = std::iter::once((String::new(), &pin.repo, pin.commit));
        let submodules = pin.submodules.iter();
        let submodules = submodules.map(|s| (format!("{}/", s.path), &s.repo, s.commit));
        for (prefix, repo, commit) in own.chain(submodules) {
            let whole = git.store_folder(repo, FetchDepth::Whole);
            let repository = match objects::has_commit(&whole, &commit) {
                true => whole,
                false => git.store_folder(repo, FetchDepth::Sources),
            };
            let exclude = pin.exclusions().in_submodule(prefix.trim_end_matches('/'));
            let snapshot = objects::read_snapshot(&repository, &commit, &exclude)?;
            for (path, entry) in snapshot.listing.0 {
                if !matches!(entry.mode, EntryMode::Commit | EntryMode::Folder) {
                    let file = PinFile {
                        entry,
                        repository: repository.clone(),
                        commit,
                        path: path.clone(),
                    };
                    files.insert(format!("{prefix}{path}"), file);
                }
            }
        }
        Ok(PinFiles { files })
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// What identifies the bytes and the mode of a file.
    pub(crate) fn identity_of(&self, path: &str) -> Option<(EntryMode, ObjectId)> {
        let file = self.files.get(path)?;
        Some((file.entry.mode, file.entry.oid))
    }

    /// The bytes of a file, if it is no longer than `limit`.
    pub(crate) fn bytes_of(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let file = self.files.get(path)?;
        if file.entry.size > limit {
            return None;
        }
        objects::file_at(&file.repository, &file.commit, &file.path)
    }
}
