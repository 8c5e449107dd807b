//! Checks that a pinned commit belongs to its ref, or, where the ref is the commit itself, to any
//! branch or tag. A hub serves the commits of all forks at the parent's address, so a commit that can
//! be fetched there may belong to a fork.
//!
//! The server's answers are stored next to the outlines, a small file for each, so `plan` needs no
//! server. A commit that was on its ref once stays known as such, even if the branch is rewritten
//! later.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{FetchDepth, GitStore, objects, program};
use crate::manifest::names;
use crate::tree::ObjectId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefMembership {
    On,
    Off,
}

/// Commits of a ref that are asked for at first, and where the pinned one is older.
pub(super) const DEPTHS: [&str; 2] = ["--depth=1000", "--depth=20000"];

/// Where the ref that is asked about is kept, and where all of a server's are.
const ASKED: &str = "refs/remote/asked";
const ALL: &str = "refs/remote/all";
const ALL_REFS: [&str; 2] = [
    "+refs/heads/*:refs/remote/all/heads/*",
    "+refs/tags/*:refs/remote/all/tags/*",
];

impl GitStore {
    fn note_of(&self, repo: &str, git_ref: &str, commit: &ObjectId) -> PathBuf {
        let text = format!("{}\n{git_ref}\n{commit}", names::repo_key(repo));
        self.store
            .join("standing")
            .join(base16ct::lower::encode_string(
                &Sha256::digest(text.as_bytes())[..16],
            ))
    }

    /// Stores a server's answer. If it cannot be stored, the server is asked again.
    pub(super) fn note_membership(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &ObjectId,
        standing: RefMembership,
    ) {
        let file = self.note_of(repo, git_ref, commit);
        let word = if standing == RefMembership::On {
            "on"
        } else {
            "off"
        };
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(file, word);
    }

    /// Returns what is known without a server; `None`: nothing.
    pub(crate) fn known_standing(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &ObjectId,
    ) -> Option<RefMembership> {
        if ObjectId::parse(git_ref).is_some_and(|asked| asked != *commit) {
            return Some(RefMembership::Off);
        }
        match std::fs::read(self.note_of(repo, git_ref, commit))
            .ok()?
            .as_slice()
        {
            b"on" => Some(RefMembership::On),
            b"off" => Some(RefMembership::Off),
            _ => None,
        }
    }

    /// The same, and the server is asked where the commit is not known to be on its ref; `None`
    /// where it does not answer, cannot give commits without their files, or has more of them than
    /// anybody asks for.
    pub(crate) fn ref_membership(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &ObjectId,
    ) -> Option<RefMembership> {
        let known = self.known_standing(repo, git_ref, commit);
        let other = ObjectId::parse(git_ref).is_some_and(|asked| asked != *commit);
        if known == Some(RefMembership::On) || self.offline || other {
            return known;
        }
        let asked = self.ask_server(repo, git_ref, commit);
        if let Some(standing) = asked {
            self.note_membership(repo, git_ref, commit, standing);
        }
        asked.or(known)
    }

    fn ask_server(&self, repo: &str, git_ref: &str, commit: &ObjectId) -> Option<RefMembership> {
        let git = self.program.as_ref()?;
        let (outline, url) = (
            self.store_folder(repo, FetchDepth::Outline),
            self.net.mirrors.rewrite_url(repo),
        );
        let own = format!("+{git_ref}:{ASKED}");
        // Written as a commit, it may be on any of them.
        let specs = match ObjectId::parse(git_ref) {
            Some(_) => &ALL_REFS[..],
            None => &[own.as_str()],
        };
        for depth in DEPTHS {
            let history = program::fetch_history(self, git, &outline, &url, specs, depth)?;
            let of = commit.to_string();
            let unreached = match ObjectId::parse(git_ref) {
                Some(_) => program::count_unreached(self, git, &history, &of, ALL),
                None => program::count_commits(self, git, &history, &of, ASKED),
            };
            match unreached {
                Some(0) => return Some(RefMembership::On),
                Some(_) => {}
                // It is not in the store, and git itself works: it has just fetched.
                None if !objects::has_commit(&history, commit) => {}
                None => return None,
            }
            // The whole of the ref is here, and the commit is not in it.
            if std::fs::metadata(history.join("shallow")).map_or(0, |m| m.len()) == 0 {
                return Some(RefMembership::Off);
            }
        }
        None
    }
}
