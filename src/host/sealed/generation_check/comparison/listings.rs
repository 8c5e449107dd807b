//! A part's listing as the trees that it is made of.

use crate::lock::RepositoryPin;
use crate::tree::{EntryMode, ObjectId, TreeEntry, TreeListing};

/// An entry is in `tracked/` exactly if something stands in for it.
pub(crate) fn lies_right(path: &str, aside: bool) -> bool {
    path.starts_with(if aside { "tracked/" } else { "ComfyUI/" })
}

/// A part's listing as the trees that it is made of: its own and each submodule's, with prefix and
/// locked hash.
pub(crate) fn split_listing(
    listing: TreeListing,
    pin: &RepositoryPin,
) -> Vec<(String, ObjectId, TreeListing)> {
    if pin.submodules.is_empty() {
        return vec![(String::new(), pin.tree, listing)];
    }
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
    trees
}
