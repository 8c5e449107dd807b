//! A part's files on the disk as the git trees that they are of.

use crate::lock::RepositoryPin;
use crate::manifest::names::is_within;
use crate::tree::{EntryMode, ExcludedEntry, ObjectId, TreeEntry, TreeListing};

/// A part's listing as the trees that it is made of: its own and each submodule's, with prefix and
/// locked hash. Submodules, and what is left out, are in them by the ids of comfy.lock.
pub(crate) fn split_listing(
    listing: TreeListing,
    pin: &RepositoryPin,
) -> Vec<(String, ObjectId, TreeListing)> {
    if pin.submodules.is_empty() && pin.excluded.is_empty() {
        return vec![(String::new(), pin.tree, listing)];
    }
    // What is there although it is left out stays: then the hash is another one, except for the very
    // bytes of the tree, which the comparison of entries tells.
    let absent: Vec<&ExcludedEntry> = pin
        .excluded
        .iter()
        .filter(|x| !listing.0.keys().any(|p| is_within(p, &x.path)))
        .collect();
    let mut trees: Vec<(String, ObjectId, TreeListing)> =
        vec![(String::new(), pin.tree, TreeListing::default())];
    trees.extend(
        pin.submodules
            .iter()
            .map(|s| (format!("{}/", s.path), s.tree, TreeListing::default())),
    );
    let owner = |path: &str, trees: &[(String, ObjectId, TreeListing)]| {
        trees
            .iter()
            .enumerate()
            .filter(|(_, (p, ..))| path.starts_with(p.as_str()))
            .max_by_key(|(_, (p, ..))| p.len())
            .map_or(0, |(i, _)| i)
    };
    for (path, entry) in listing.0 {
        let i = owner(&path, &trees);
        let inner = path[trees[i].0.len()..].to_string();
        trees[i].2.0.insert(inner, entry);
    }
    for s in &pin.submodules {
        let i = owner(&s.path, &trees);
        let inner = s.path[trees[i].0.len()..].to_string();
        trees[i].2.0.insert(
            inner,
            TreeEntry {
                mode: EntryMode::Commit,
                oid: s.commit,
                size: 0,
            },
        );
    }
    for x in absent {
        let i = owner(&x.path, &trees);
        let inner = x.path[trees[i].0.len()..].to_string();
        trees[i].2.0.insert(
            inner,
            TreeEntry {
                mode: x.mode,
                oid: x.oid,
                size: 0,
            },
        );
    }
    trees
}
