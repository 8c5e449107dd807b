//! Reads tree objects byte by byte, as git stores them, because a library hides what an attacker
//! may write.
//!
//! Format and order: gitformat-tree in git's Documentation and `base_name_compare` of git's
//! read-cache.c: a folder is sorted as if its name ended in `/`. What git itself never writes is
//! refused, because the hash of the files on disk would differ.

use std::collections::HashSet;

use super::{EntryMode, ObjectId};
use crate::problem::Problem;
use crate::text::escape_text;

/// One entry of one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawEntry<'a> {
    pub kind: RawKind,
    pub name: &'a str,
    pub oid: ObjectId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawKind {
    Folder,
    Leaf(EntryMode),
}

const HINT: &str = "do not use this repository";

/// Returns the entries of the folder at `prefix` (empty, or with a trailing `/`). Anything not
/// allowed in a tree is added to `problems`; the returned entries then serve only to find more
/// problems.
pub(crate) fn raw_entries<'a>(
    prefix: &str,
    body: &'a [u8],
    problems: &mut Vec<Problem>,
) -> Vec<RawEntry<'a>> {
    let (mut out, mut names, mut last, mut sorted) = (Vec::new(), HashSet::new(), Vec::new(), true);
    let mut rest = body;
    while !rest.is_empty() {
        let Some(SplitEntry {
            mode,
            name,
            oid,
            after,
        }) = split_entry(rest)
        else {
            problems.push(
                Problem::new(format!(
                    "the tree object of folder `{}` is damaged",
                    shown_folder(prefix)
                ))
                .with_hint(HINT),
            );
            break;
        };
        rest = after;
        let Ok(name) = std::str::from_utf8(name) else {
            let name = String::from_utf8_lossy(name);
            problems.push(Problem::new(format!(
                "`{}` is not UTF-8, which a Mac's disk cannot store",
                escape_text(&format!("{prefix}{name}"))
            )));
            continue;
        };
        let path = || escape_text(&format!("{prefix}{name}"));
        if matches!(name, "" | "." | "..") || name.contains('/') {
            problems.push(no_path(&format!("{prefix}{name}")));
            continue;
        }
        if !names.insert(name) {
            problems.push(Problem::new(format!("`{}` occurs twice", path())).with_hint(HINT));
            continue;
        }
        let kind = match kind_of_mode(mode) {
            Some(kind) => kind,
            None => {
                problems.push(
                    Problem::new(format!(
                        "`{}` has mode {}, which current versions of git do not write",
                        path(),
                        escape_text(&String::from_utf8_lossy(mode))
                    ))
                    .with_hint(
                        "comfy compares installed files with the tree hash, which would differ: \
                         choose another commit, or a fork that was committed again",
                    ),
                );
                continue;
            }
        };
        let mut key = name.as_bytes().to_vec();
        if kind == RawKind::Folder {
            key.push(b'/');
        }
        if sorted && key <= last {
            sorted = false;
            problems.push(
                Problem::new(format!("`{}` is not in git's sort order", path())).with_hint(HINT),
            );
        }
        last = key;
        out.push(RawEntry { kind, name, oid });
    }
    out
}

/// An unchecked entry, and the rest of the object.
struct SplitEntry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    oid: ObjectId,
    after: &'a [u8],
}

/// Splits off `MODE SP NAME NUL 20-bytes` and returns it with the rest.
fn split_entry(body: &[u8]) -> Option<SplitEntry<'_>> {
    let space = memchr::memchr(b' ', body)?;
    let (mode, rest) = (&body[..space], &body[space + 1..]);
    let nul = memchr::memchr(0, rest)?;
    let (oid, after) = rest[nul + 1..].split_first_chunk::<20>()?;
    Some(SplitEntry {
        mode,
        name: &rest[..nul],
        oid: ObjectId(*oid),
        after,
    })
}

/// Returns the kind for exactly the spellings that [`super::TreeListing::tree_hash`] writes.
fn kind_of_mode(mode: &[u8]) -> Option<RawKind> {
    match mode {
        b"40000" => Some(RawKind::Folder),
        _ => [
            EntryMode::File,
            EntryMode::Executable,
            EntryMode::Link,
            EntryMode::Commit,
        ]
        .into_iter()
        .find(|m| m.octal().as_bytes() == mode)
        .map(RawKind::Leaf),
    }
}

fn shown_folder(prefix: &str) -> String {
    if prefix.is_empty() {
        ".".into()
    } else {
        escape_text(prefix.trim_end_matches('/'))
    }
}

/// Returns the refusal of a path with a component such as `..`.
pub(super) fn no_path(path: &str) -> Problem {
    Problem::new(format!(
        "`{}` is not a path that is allowed in a tree",
        escape_text(path)
    ))
    .with_hint(HINT)
}

/// Returns whether a file system could take this name for `.git`, as git's `is_hfs_dotgit` (utf8.c)
/// and `is_ntfs_dotgit` (path.c).
pub(crate) fn is_dot_git(name: &str) -> bool {
    // HFS+ ignores these.
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    // NTFS: a backslash ends a component, a colon begins a stream, trailing dots and spaces are
    // ignored; `git~1` is the short name.
    name.split('\\').any(|piece| {
        let seen: String = piece.chars().filter(|c| !ignored(*c)).collect();
        let seen = crate::manifest::names::folded_name(
            seen.split(':')
                .next()
                .unwrap_or_default()
                .trim_end_matches(['.', ' ']),
        );
        seen == ".git" || seen == "git~1"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree object from its entries.
    fn object(entries: &[(&str, &[u8])]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat())
            .collect()
    }

    fn refusals(entries: &[(&str, &[u8])]) -> String {
        let mut problems = Vec::new();
        raw_entries("a/", &object(entries), &mut problems);
        problems
            .iter()
            .map(|p| p.message.clone())
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn what_git_does_not_write_is_refused() {
        assert_eq!(
            refusals(&[
                ("100644", b"a-b"),
                ("100755", b"a.txt"),
                ("40000", b"a"),
                ("120000", b"a0"),
                ("160000", b"b")
            ]),
            ""
        );
        let all = [
            refusals(&[("120000", b"l"), ("40000", b"l")]),
            refusals(&[("100644", b"l"), ("100644", b"l-"), ("40000", b"l")]),
            refusals(&[("40000", b"a"), ("100644", b"a-b")]),
            refusals(&[("100644", b"b"), ("100644", b"a")]),
            refusals(&[("40000", b"..")]),
            refusals(&[("100644", b"")]),
            refusals(&[("100644", b"../../etc/x")]),
            refusals(&[("100644", b"/etc/x")]),
            refusals(&[
                ("040000", b"x"),
                ("100664", b"y"),
                ("100600", b"z"),
                ("644", b"zz"),
                ("", b"zzz"),
            ]),
            refusals(&[("100644", b"caf\xe9")]),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        `a/l` occurs twice
        `a/l` occurs twice
        `a/a-b` is not in git's sort order
        `a/a` is not in git's sort order
        `a/..` is not a path that is allowed in a tree
        `a/` is not a path that is allowed in a tree
        `a/../../etc/x` is not a path that is allowed in a tree
        `a//etc/x` is not a path that is allowed in a tree
        `a/x` has mode 040000, which current versions of git do not write; `a/y` has mode 100664, \
            which current versions of git do not write; `a/z` has mode 100600, which current \
            versions of git do not write; `a/zz` has mode 644, which current versions of git do \
            not write; `a/zzz` has mode , which current versions of git do not write
        `a/caf�` is not UTF-8, which a Mac's disk cannot store
        ");
        let mut problems = Vec::new();
        raw_entries("", b"100644 cut\0short", &mut problems);
        insta::assert_snapshot!(problems[0].message, @"the tree object of folder `.` is damaged");
    }

    #[test]
    fn every_spelling_of_dot_git_is_known() {
        for name in [
            ".git",
            ".GIT",
            ".g\u{200c}it",
            "\u{feff}.Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            "x\\.git\\config",
            ".git:x",
        ] {
            assert!(is_dot_git(name), "{name:?}");
        }
        for name in [
            ".gitignore",
            ".github",
            "git",
            "a.git",
            "git~10",
            "trail.",
            "back\\slash.txt",
            "colon:name",
        ] {
            assert!(!is_dot_git(name), "{name:?}");
        }
    }
}
