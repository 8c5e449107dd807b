//! What is not allowed in a tree. It is checked when the tree is locked, because only a Mac would
//! notice some of it later, and again whenever the tree is fetched and unpacked.

use std::collections::{BTreeMap, BTreeSet};

use super::{EntryMode, TreeExclusions, TreeListing, links, raw};
use crate::manifest::names;
use crate::problem::Problem;
use crate::text::escape_text;

/// What the rules need besides the listing: the targets of links, and which files are Git LFS
/// pointers.
#[derive(Debug, Clone, Default)]
pub(crate) struct TreeContents {
    pub links: BTreeMap<String, String>,
    pub lfs_pointers: BTreeSet<String>,
}

/// The longest path that works on every file system (PATH_MAX is 1024 on macOS, including the
/// prefix).
const MAX_PATH: usize = 700;
/// NAME_MAX of every file system that comfy supports.
const MAX_NAME: usize = 255;
/// The limit of files and folders, far above any real node, against tree bombs.
pub(crate) const MAX_ENTRIES: usize = 500_000;
/// The limit of nested folders.
pub(crate) const MAX_DEPTH: usize = 100;

/// Returns every reason why `listing` cannot be installed, each with the path.
pub(crate) fn check_tree(
    listing: &TreeListing,
    contents: &TreeContents,
    exclude: &TreeExclusions,
) -> Vec<Problem> {
    let mut problems = name_collisions(listing);
    for path in listing.0.keys() {
        let shown = escape_text(path);
        if path.len() > MAX_PATH {
            problems.push(Problem::new(format!(
                "a path of {} bytes is too long for a Mac: {:.80}…",
                path.len(),
                shown
            )));
        } else if path.split('/').any(|c| c.len() > MAX_NAME) {
            problems.push(Problem::new(format!(
                "a name of more than {MAX_NAME} bytes is too long for a disk: {shown:.80}…"
            )));
        }
        if path
            .split('/')
            .any(|c| raw::is_dot_git(c) || c == ".." || c == "." || c.is_empty())
        {
            problems.push(raw::no_path(path));
        }
        if path.chars().any(char::is_control) {
            problems.push(Problem::new(format!(
                "`{shown}` has a control character in its name"
            )));
        }
    }
    problems.extend(links::check_links(listing, &contents.links));
    problems.extend(refused_pointers(&contents.lfs_pointers, exclude));
    problems
}

/// All pointers in one problem, so that its hint settles them at once.
fn refused_pointers(pointers: &BTreeSet<String>, exclude: &TreeExclusions) -> Option<Problem> {
    let first = escape_text(pointers.first()?);
    let message = match pointers.len() {
        1 => format!("`{first}` is a Git LFS pointer, not the file"),
        n => format!("{n} files are Git LFS pointers, not the files: `{first}` and others"),
    };
    Some(Problem::new(message).with_hint(format!(
        "comfy does not fetch Git LFS files; if the node works without them, write in its section \
         of comfy.toml: {}",
        exclude.line_with(pointers.iter().map(String::as_str))
    )))
}

fn name_collisions(listing: &TreeListing) -> Vec<Problem> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for path in listing.0.keys() {
        let mut end = 0;
        for part in path.split('/') {
            end += part.len() + usize::from(end > 0);
            let prefix = &path[..end];
            let folded = names::folded_name(prefix);
            match seen.get(&folded) {
                Some(other) if other != prefix => {
                    if told.insert(folded) {
                        problems.push(
                            Problem::new(format!(
                                "`{}` and `{}` are the same name on a Mac's disk",
                                spelled_path(other),
                                spelled_path(prefix)
                            ))
                            .with_hint("choose another commit, or ask the author to rename one"),
                        );
                    }
                    break;
                }
                Some(_) => {}
                None => {
                    seen.insert(folded, prefix.to_string());
                }
            }
        }
    }
    problems
}

/// Spells letters outside ASCII by number, because two of these names may look the same.
fn spelled_path(path: &str) -> String {
    escape_text(path)
        .chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                c.escape_unicode().to_string()
            }
        })
        .collect()
}

/// The first line of Git LFS pointers (git-lfs docs/spec.md), which are smaller than 1024 bytes.
pub(crate) const LFS_MARK: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The limit of a pointer's size in bytes (git-lfs docs/spec.md).
pub(crate) const LFS_LIMIT: usize = 1024;

/// Returns the submodules of the listing that are not in `known`.
pub(crate) fn unknown_submodules<'a>(
    listing: &'a TreeListing,
    known: &BTreeSet<&str>,
) -> Vec<&'a str> {
    listing
        .0
        .iter()
        .filter(|(p, e)| e.mode == EntryMode::Commit && !known.contains(p.as_str()))
        .map(|(p, _)| p.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{TreeEntry, blob_id};

    #[test]
    fn a_mac_would_refuse_what_lock_refuses() {
        let mut listing = TreeListing::default();
        for path in [
            "Web/a.js",
            "web/b.js",
            "caf\u{e9}.py",
            "cafe\u{301}.py",
            "ok/up",
            "out",
            "x/.GIT/config",
            "x/git~1",
            "tab\there",
        ] {
            listing.0.insert(
                path.into(),
                TreeEntry {
                    mode: EntryMode::File,
                    oid: blob_id(b"").unwrap(),
                    size: 0,
                },
            );
        }
        let contents = TreeContents {
            links: [
                ("ok/up", "../Web/a.js"),
                ("out", "../../etc/passwd"),
                ("abs", "/etc/passwd"),
            ]
            .map(|(a, b)| (a.into(), b.into()))
            .into(),
            lfs_pointers: ["model.bin".to_string()].into(),
        };
        let all: Vec<String> = check_tree(&listing, &contents, &TreeExclusions::default())
            .into_iter()
            .map(|p| p.message)
            .collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        `cafe\u{301}.py` and `caf\u{e9}.py` are the same name on a Mac's disk
        `Web` and `web` are the same name on a Mac's disk
        `tab\u{9}here` has a control character in its name
        `x/.GIT/config` is not a path that is allowed in a tree
        `x/git~1` is not a path that is allowed in a tree
        link `abs` points out of the tree, to `/etc/passwd`
        link `out` points out of the tree, to `../../etc/passwd`
        `model.bin` is a Git LFS pointer, not the file
        ");
    }
}
