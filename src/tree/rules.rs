//! What a tree may not hold: found when it is locked, since a Mac would find it later.

use std::collections::{BTreeMap, BTreeSet};

use super::{Listing, Mode};
use crate::manifest::names;
use crate::problem::Problem;
use crate::text::escape;

/// What rules need beside the listing: where links lead and which files are Git LFS pointers.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    pub links: BTreeMap<String, String>,
    pub lfs_pointers: BTreeSet<String>,
}

/// A path longer than this fails on some file system (PATH_MAX is 1024 on macOS, and the prefix comes before it).
const MAX_PATH: usize = 700;
/// Far above any real node; a bomb ends here.
const MAX_FILES: usize = 500_000;

/// Every reason why `listing` cannot be installed, each naming `what` (a node or ComfyUI) and the path.
pub fn check(what: &str, listing: &Listing, contents: &Contents) -> Vec<Problem> {
    let mut problems = Vec::new();
    if listing.0.len() > MAX_FILES {
        problems.push(Problem::new(format!("{what}: {} files; comfy takes up to {MAX_FILES} in a repository", listing.0.len())));
    }
    problems.extend(collisions(what, listing));
    for path in listing.0.keys() {
        let shown = escape(path);
        if path.len() > MAX_PATH {
            problems.push(Problem::new(format!("{what}: a path of {} bytes is too long for a Mac: {:.80}…", path.len(), shown)));
        }
        if path.split('/').any(|c| names::folded(c) == ".git" || c == ".." || c == "." || c.is_empty()) {
            problems.push(Problem::new(format!("{what}: `{shown}` is no path that a tree may hold")).hint("do not use this repository"));
        }
        if path.chars().any(char::is_control) {
            problems.push(Problem::new(format!("{what}: `{shown}` has a control character in its name")));
        }
    }
    for (path, target) in &contents.links {
        if leaves(path, target) {
            problems.push(
                Problem::new(format!("{what}: link `{}` leads out of the tree, to `{}`", escape(path), escape(target)))
                    .hint("such a link would show the node whatever lies there; choose another commit, or a fork without it"),
            );
        }
    }
    for path in &contents.lfs_pointers {
        problems.push(
            Problem::new(format!("{what}: `{}` is a Git LFS pointer, not the file", escape(path)))
                .hint("comfy does not fetch Git LFS; ask the author to publish the file as a release or a model"),
        );
    }
    problems
}

fn collisions(what: &str, listing: &Listing) -> Vec<Problem> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for path in listing.0.keys() {
        let mut end = 0;
        for part in path.split('/') {
            end += part.len() + usize::from(end > 0);
            let prefix = &path[..end];
            let folded = names::folded(prefix);
            match seen.get(&folded) {
                Some(other) if other != prefix => {
                    if told.insert(folded) {
                        problems.push(
                            Problem::new(format!("{what}: `{}` and `{}` are one name on a Mac's disk", spelled(other), spelled(prefix)))
                                .hint("choose another commit, or ask the author to rename one"),
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

/// Letters outside of ASCII by number: two of these names may look the same.
fn spelled(path: &str) -> String {
    escape(path).chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// Whether a link at `path` with `target` could lead above the tree's root, followed component by component.
fn leaves(path: &str, target: &str) -> bool {
    if target.starts_with('/') || target.is_empty() || target.contains('\0') {
        return true;
    }
    let mut depth = path.matches('/').count() as i64;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

/// Git LFS pointers start with this line (git-lfs docs/spec.md); they are below 1024 bytes.
pub const LFS_MARK: &[u8] = b"version https://git-lfs.github.com/spec/";
/// A pointer is smaller than this (git-lfs docs/spec.md).
pub const LFS_LIMIT: usize = 1024;

/// Whether the listing has a submodule that is not in `known`.
pub fn unknown_submodules<'a>(listing: &'a Listing, known: &BTreeSet<&str>) -> Vec<&'a str> {
    listing.0.iter().filter(|(p, e)| e.mode == Mode::Commit && !known.contains(p.as_str())).map(|(p, _)| p.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, blob_id};

    #[test]
    fn a_mac_would_refuse_what_lock_refuses() {
        let mut listing = Listing::default();
        for path in ["Web/a.js", "web/b.js", "caf\u{e9}.py", "cafe\u{301}.py", "ok/up", "out", "x/.GIT/config", "tab\there"] {
            listing.0.insert(path.into(), Entry { mode: Mode::File, oid: blob_id(b"").unwrap(), size: 0 });
        }
        let contents = Contents {
            links: [("ok/up", "../Web/a.js"), ("out", "../../etc/passwd"), ("abs", "/etc/passwd")].map(|(a, b)| (a.into(), b.into())).into(),
            lfs_pointers: ["model.bin".to_string()].into(),
        };
        let all: Vec<String> = check("node.x", &listing, &contents).into_iter().map(|p| p.message).collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        node.x: `cafe\u{301}.py` and `caf\u{e9}.py` are one name on a Mac's disk
        node.x: `Web` and `web` are one name on a Mac's disk
        node.x: `tab\u{9}here` has a control character in its name
        node.x: `x/.GIT/config` is no path that a tree may hold
        node.x: link `abs` leads out of the tree, to `/etc/passwd`
        node.x: link `out` leads out of the tree, to `../../etc/passwd`
        node.x: `model.bin` is a Git LFS pointer, not the file
        ");
    }
}
