//! Follows the links of a tree through the tree's own links, as the kernel would.

use std::collections::{BTreeMap, HashSet};

use super::{EntryMode, TreeListing};
use crate::problem::Problem;
use crate::text::escape_text;

/// path_resolution(7): Linux follows 40 links in one path, macOS 32.
const MAX_LINKS: usize = 32;
/// The limit of components in all links of a tree together, far above any real tree.
const MAX_STEPS: usize = 2_000_000;
/// The limit of a target in bytes: PATH_MAX is 1024 on macOS, including the NUL.
pub(crate) const MAX_TARGET: u64 = 1023;

enum LinkFault<'a> {
    Leaves,
    /// It goes up from something that is not a folder of this tree, so what is above is unknown.
    Up(String),
    TooMany,
    Linked(&'a str),
}

/// Returns a problem for each link that leaves the tree, or might leave it.
pub(super) fn check_links(listing: &TreeListing, links: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut tree = LinkTree::of(listing, links);
    let mut problems = Vec::new();
    for (path, target) in links {
        let shown = escape_text(path);
        let p = match tree.follow_path(path) {
            Ok(_) => continue,
            Err(LinkFault::Leaves) => Problem::new(format!(
                "link `{shown}` points out of the tree, to `{}`",
                escape_text(target)
            )),
            Err(LinkFault::Linked(through)) => Problem::new(format!(
                "link `{shown}` (to `{}`) points out of the tree through link `{}`",
                escape_text(target),
                escape_text(through)
            )),
            Err(LinkFault::Up(from)) => Problem::new(format!(
                "link `{shown}` (to `{}`) goes up from `{}`, which is not a folder of the tree",
                escape_text(target),
                escape_text(&from)
            )),
            Err(LinkFault::TooMany) => Problem::new(format!(
                "link `{shown}` (to `{}`) goes through more than {MAX_LINKS} links",
                escape_text(target)
            )),
        };
        problems.push(p.with_hint(
            "such a link could show the node other files; choose another commit, or a fork \
             without it",
        ));
        if tree.steps > MAX_STEPS {
            break;
        }
    }
    problems
}

/// Returns the file of the tree that `path` leads to, through the tree's links; `None`: none does.
pub(crate) fn followed(
    listing: &TreeListing,
    links: &BTreeMap<String, String>,
    path: &str,
) -> Option<String> {
    let file = LinkTree::of(listing, links)
        .walk_parts(String::new(), path)
        .ok()?;
    let mode = listing.0.get(&file)?.mode;
    matches!(mode, EntryMode::File | EntryMode::Executable).then_some(file)
}

struct LinkTree<'a> {
    folders: HashSet<&'a str>,
    links: &'a BTreeMap<String, String>,
    steps: usize,
}

impl<'a> LinkTree<'a> {
    fn of(listing: &'a TreeListing, links: &'a BTreeMap<String, String>) -> LinkTree<'a> {
        let all = listing.0.keys().chain(links.keys());
        let folders = all.flat_map(|p| p.match_indices('/').map(|(at, _)| &p[..at]));
        LinkTree {
            folders: folders.collect(),
            links,
            steps: 0,
        }
    }

    fn follow_path(&mut self, path: &str) -> Result<String, LinkFault<'a>> {
        let at = path
            .rsplit_once('/')
            .map_or(String::new(), |(parent, _)| parent.to_string());
        match self.links.get_key_value(path) {
            Some((_, target)) => self.walk_parts(at, target),
            None => Ok(path.to_string()),
        }
    }

    /// Where `target` leads from the folder `at`.
    fn walk_parts(&mut self, mut at: String, target: &'a str) -> Result<String, LinkFault<'a>> {
        let mut through: Option<&'a str> = None;
        let leaves =
            |through: Option<&'a str>| through.map_or(LinkFault::Leaves, LinkFault::Linked);
        if is_absolute_target(target) {
            return Err(LinkFault::Leaves);
        }
        let mut todo: Vec<&'a str> = target.split('/').rev().collect();
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(LinkFault::TooMany);
            }
            match part {
                "" | "." => {}
                ".." if at.is_empty() => return Err(leaves(through)),
                ".." if !self.folders.contains(at.as_str()) => return Err(LinkFault::Up(at)),
                ".." => at.truncate(at.rfind('/').unwrap_or(0)),
                name => {
                    let before = at.len();
                    if before > 0 {
                        at.push('/');
                    }
                    at.push_str(name);
                    if let Some((link, target)) = self.links.get_key_value(at.as_str()) {
                        (followed, through) = (followed + 1, Some(link.as_str()));
                        if followed >= MAX_LINKS {
                            return Err(LinkFault::TooMany);
                        }
                        if is_absolute_target(target) {
                            return Err(leaves(through));
                        }
                        at.truncate(before);
                        todo.extend(target.split('/').rev());
                    }
                }
            }
        }
        Ok(at)
    }
}

/// Returns whether the target is absolute, or not valid for symlink(2).
fn is_absolute_target(target: &str) -> bool {
    target.starts_with('/') || target.is_empty() || target.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{TreeEntry, blob_id};

    #[test]
    fn links_are_followed_through_links() {
        let mut listing = TreeListing::default();
        for path in ["a/x", "b/c/d", "main.py"] {
            listing.0.insert(
                path.into(),
                TreeEntry {
                    mode: EntryMode::File,
                    oid: blob_id(b"").unwrap(),
                    size: 0,
                },
            );
        }
        let fine = [
            ("a/l", "../b/c/./d"),
            ("a/up", ".."),
            ("b/all", "../a/up/b"),
            ("b/c/root", "../.."),
            ("gone", "no/where"),
            ("over", "b/c/root/a"),
        ];
        let links = |more: &[(&str, &str)]| {
            fine.iter()
                .chain(more)
                .map(|(p, t)| ((*p).to_string(), (*t).to_string()))
                .collect()
        };
        assert!(check_links(&listing, &links(&[])).is_empty());
        let (to, from) = (
            |path: &str| followed(&listing, &links(&[]), path),
            |path: &str| Some(path.to_string()),
        );
        assert_eq!(to("main.py"), from("main.py"));
        assert_eq!(to("a/l"), from("b/c/d"));
        assert_eq!(to("over/../b/c/d"), from("b/c/d"));
        assert_eq!(to("b/c"), None, "a folder");
        assert_eq!(to("gone"), None);
        assert_eq!(to("../main.py"), None);
        let bad = [
            ("abs", "/etc"),
            ("chain", "a/up/../.."),
            ("deep", "b/all/../../.."),
            ("loop1", "loop2"),
            ("loop2", "loop1"),
            ("plain", "a/../.."),
            ("through", "abs/passwd"),
            ("up-from-file", "main.py/../.."),
            ("up-from-nothing", "sub/module/../../a"),
            ("z", ""),
        ];
        let all: Vec<String> = check_links(&listing, &links(&bad))
            .into_iter()
            .map(|p| p.message)
            .collect();
        insta::assert_snapshot!(all.join("\n"), @"
        link `abs` points out of the tree, to `/etc`
        link `chain` (to `a/up/../..`) points out of the tree through link `a/up`
        link `deep` (to `b/all/../../..`) points out of the tree through link `a/up`
        link `loop1` (to `loop2`) goes through more than 32 links
        link `loop2` (to `loop1`) goes through more than 32 links
        link `plain` points out of the tree, to `a/../..`
        link `through` (to `abs/passwd`) points out of the tree through link `abs`
        link `up-from-file` (to `main.py/../..`) goes up from `main.py`, which is not a folder of \
            the tree
        link `up-from-nothing` (to `sub/module/../../a`) goes up from `sub/module`, which is not a \
            folder of the tree
        link `z` points out of the tree, to ``
        ");
    }

    /// 400 links of 500 components each, which all lead through one another.
    #[test]
    fn a_bomb_of_links_ends() {
        let target = |i: usize| format!("{}l{}", format!("l{}/", i + 1).repeat(250), i + 1);
        let links = (0..400).map(|i| (format!("l{i}"), target(i))).collect();
        assert!(!check_links(&TreeListing::default(), &links).is_empty());
    }
}
