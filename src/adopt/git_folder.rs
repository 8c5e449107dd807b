//! The texts of a `.git` folder (gitrepository-layout(5)), read by comfy itself: git and libgit2 obey
//! a repository's configuration, which whoever wrote it chose.

use std::collections::BTreeMap;

/// What `HEAD` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    Branch(String),
    Commit(String),
}

/// Reads `HEAD`.
pub(crate) fn read_head(text: &str) -> Option<Head> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix("ref:") {
        let name = name.trim().strip_prefix("refs/heads/")?;
        return Some(Head::Branch(name.to_string()));
    }
    is_id(text).then(|| Head::Commit(text.to_string()))
}

fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The file that a `.git` file names (gitrepository-layout(5)): `gitdir: PATH`.
pub(crate) fn read_gitdir(text: &str) -> Option<&str> {
    let path = text.lines().next()?.strip_prefix("gitdir:")?.trim();
    (!path.is_empty()).then_some(path)
}

/// The refs of `packed-refs` with their commits: an annotated tag's is the one after `^`.
pub(crate) fn read_packed_refs(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut last: Option<&str> = None;
    for line in text.lines() {
        if let Some(peeled) = line.strip_prefix('^') {
            if let (Some(name), true) = (last, is_id(peeled.trim())) {
                out.insert(name.to_string(), peeled.trim().to_string());
            }
        } else if let Some((id, name)) = line.split_once(' ').filter(|(id, _)| is_id(id)) {
            out.insert(name.to_string(), id.to_string());
            last = Some(name);
        }
    }
    out
}

/// What comfy needs of a repository's `config`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteSettings {
    /// The address of each remote.
    urls: BTreeMap<String, String>,
    /// For each local branch its remote, and the branch there.
    branches: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl RemoteSettings {
    /// Reads `config` (git-config(1), "Syntax"), as far as it names remotes; what it includes is not
    /// read.
    pub(crate) fn parse(text: &str) -> RemoteSettings {
        let mut out = RemoteSettings::default();
        let mut section: Option<(String, String)> = None;
        for line in text.lines() {
            let line = line.trim();
            if let Some(head) = line.strip_prefix('[') {
                let head = head.split(']').next().unwrap_or(head);
                section = head.split_once(' ').map(|(kind, name)| {
                    let name = name.trim().trim_matches('"');
                    (kind.to_ascii_lowercase(), name.replace("\\\"", "\""))
                });
                continue;
            }
            let Some(((kind, name), (key, value))) = section.as_ref().zip(line.split_once('='))
            else {
                continue;
            };
            let value = plain_value(value);
            match (kind.as_str(), key.trim().to_ascii_lowercase().as_str()) {
                ("remote", "url") => {
                    out.urls.entry(name.clone()).or_insert(value);
                }
                ("branch", "remote") => {
                    out.branches.entry(name.clone()).or_default().0 = Some(value);
                }
                ("branch", "merge") => {
                    let branch = value.strip_prefix("refs/heads/").map(str::to_string);
                    out.branches.entry(name.clone()).or_default().1 = branch;
                }
                _ => {}
            }
        }
        out
    }

    /// The address that a branch comes from, and its name there: that of its remote, else of
    /// `origin`, else of the only remote.
    pub(crate) fn upstream<'a>(
        &'a self,
        branch: Option<&'a str>,
    ) -> Option<(&'a str, Option<&'a str>)> {
        let tracked = branch.and_then(|b| self.branches.get(b));
        let named = tracked.and_then(|(remote, _)| remote.as_deref());
        let there = tracked.and_then(|(_, merge)| merge.as_deref()).or(branch);
        let url = named
            .and_then(|r| self.urls.get(r))
            .or_else(|| self.urls.get("origin"))
            .or_else(|| {
                let only = self.urls.values().next();
                only.filter(|_| self.urls.len() == 1)
            })?;
        Some((url, there))
    }
}

/// A value without quotes and the comment behind it.
fn plain_value(text: &str) -> String {
    let (mut out, mut quoted, mut chars) = (String::new(), false, text.trim().chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => out.extend(chars.next()),
            '#' | ';' if !quoted => break,
            c => out.push(c),
        }
    }
    out.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_comes_from_the_remote_that_it_tracks() {
        let config = "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = git@github.com:me/fork.git\n\
            \tfetch = +refs/heads/*:refs/remotes/origin/*\n[remote \"up\"]\n  url = \
            \"https://github.com/o/r\" # theirs\n[branch \"work\"]\n\tremote = up\n\tmerge = \
            refs/heads/main\n[include]\n\tpath = /etc/passwd\n";
        let r = RemoteSettings::parse(config);
        assert_eq!(
            r.upstream(Some("work")),
            Some(("https://github.com/o/r", Some("main")))
        );
        assert_eq!(
            r.upstream(Some("other")),
            Some(("git@github.com:me/fork.git", Some("other")))
        );
        assert_eq!(r.upstream(None), Some(("git@github.com:me/fork.git", None)));
        assert_eq!(RemoteSettings::parse("[x").upstream(None), None);
        let two =
            "[remote \"a\"]\nurl = https://x.test/a\n[remote \"b\"]\nurl = https://x.test/b\n";
        assert_eq!(RemoteSettings::parse(two).upstream(None), None);
    }

    #[test]
    fn head_and_packed_refs_give_branches_tags_and_commits() {
        let id = "a".repeat(40);
        let commit = "b".repeat(40);
        assert_eq!(
            read_head("ref: refs/heads/feature/x\n"),
            Some(Head::Branch("feature/x".into()))
        );
        assert_eq!(read_head(&id), Some(Head::Commit(id.clone())));
        assert_eq!(read_head("ref: refs/../x"), None);
        assert_eq!(
            read_gitdir("gitdir: ../.git/modules/x\n"),
            Some("../.git/modules/x")
        );
        let refs = read_packed_refs(&format!(
            "# pack-refs with: peeled\n{id} refs/tags/v1\n^{commit}\n{id} refs/heads/main\nbroken\n"
        ));
        assert_eq!(refs["refs/tags/v1"], commit);
        assert_eq!(refs["refs/heads/main"], id);
    }
}
