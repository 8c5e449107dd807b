//! Which commit a ref of comfy.toml names: a branch, a tag, a ref in full, or a commit.

use std::collections::BTreeMap;

use super::{FetchDepth, GitStore, RemoteAnswer, program, ref_membership};
use crate::lock::resolve::ResolvedRef;
use crate::manifest::names;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use crate::tree::ObjectId;

/// The id of a commit in full, in digits: SHA-256 repositories have these.
const WIDE: usize = 64;

/// Refs of a server: name and object id.
type RemoteRefs = [(String, String)];

impl GitStore {
    /// Returns the tags whose name ends with `version`, with their commits.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) fn release_tags(
        &self,
        repo: &str,
        version: &str,
    ) -> Result<BTreeMap<String, ObjectId>> {
        let url = self.net.mirrors.rewrite_url(repo);
        let ends = [
            format!("refs/tags/*{version}"),
            format!("refs/tags/*{version}^{{}}"),
        ];
        let wanted: Vec<&str> = ends.iter().map(String::as_str).collect();
        let mut out = BTreeMap::new();
        for (name, oid) in self.remote_refs(&url, &wanted)?.refs {
            let Some(tag) = name.strip_prefix("refs/tags/") else {
                continue;
            };
            // An annotated tag's own object comes before its commit (git-ls-remote(1)).
            let tag = tag.strip_suffix("^{}").unwrap_or(tag);
            if tag.ends_with(version) && names::is_hex(&oid) {
                out.extend(ObjectId::parse(&oid).map(|oid| (tag.to_string(), oid)));
            }
        }
        Ok(out)
    }

    /// Returns the commit that `git_ref` names now.
    ///
    /// # Errors
    /// If the server does not answer or has no such ref, or if a branch and a tag have this name.
    pub(super) fn look_up_ref(&self, repo: &str, git_ref: &str) -> Result<ResolvedRef> {
        if let Some(commit) = ObjectId::parse(git_ref) {
            return Ok(commit.into());
        }
        if names::is_hex(git_ref) && git_ref.len() == WIDE {
            return Err(wide_ids(repo));
        }
        if self.offline {
            return Err(Problem::new(format!(
                "{repo}: cannot look up the commit of `{git_ref}` offline"
            ))
            .with_hint("run it once without --offline"));
        }
        std::fs::create_dir_all(&self.store)
            .with_context(|| format!("make {}", self.store.display()))?;
        let url = self.net.mirrors.rewrite_url(repo);
        // An annotated tag's own object is none; `^{}` is its commit (git-ls-remote(1)).
        let tag = [
            format!("refs/tags/{git_ref}^{{}}"),
            format!("refs/tags/{git_ref}"),
        ];
        let branch = [format!("refs/heads/{git_ref}")];
        let full = [
            format!("{git_ref}^{{}}"),
            git_ref.to_string(),
            format!("refs/{git_ref}^{{}}"),
            format!("refs/{git_ref}"),
        ];
        let wanted: Vec<&str> = tag
            .iter()
            .chain(&branch)
            .chain(&full)
            .map(String::as_str)
            .collect();
        let RemoteAnswer { refs, moved_to } = self.remote_refs(&url, &wanted)?;
        let tag = first_of(&refs, &tag);
        let branch = first_of(&refs, &branch);
        if let (Some(tag), Some(branch)) = (tag, branch)
            && tag != branch
        {
            return Err(Problem::new(format!(
                "{repo} has both a branch and a tag `{git_ref}`, at different commits"
            ))
            .with_hint(format!("for the branch: ref = \"refs/heads/{git_ref}\""))
            .with_hint(format!("for the tag: ref = \"refs/tags/{git_ref}\"")));
        }
        let Some(oid) = tag.or(branch).or_else(|| first_of(&refs, &full)) else {
            return Err(self.no_such_ref(repo, &url, git_ref));
        };
        let commit = ObjectId::parse(oid).ok_or_else(|| {
            if oid.len() == WIDE {
                return wide_ids(repo);
            }
            Problem::new(format!(
                "{repo}: {url} gave an invalid answer for `{git_ref}`"
            ))
        })?;
        self.note_membership(repo, git_ref, &commit, ref_membership::RefMembership::On);
        Ok(ResolvedRef {
            moved_to,
            ..commit.into()
        })
    }

    fn no_such_ref(&self, repo: &str, url: &str, git_ref: &str) -> Problem {
        let all = self
            .remote_refs(url, &["refs/heads/*", "refs/tags/*"])
            .map(|answer| answer.refs)
            .unwrap_or_default();
        if names::is_short_commit(git_ref) {
            return self.short_commit(repo, url, git_ref, &all);
        }
        let problem = Problem::new(format!("{repo} has no branch or tag `{git_ref}`"));
        let heads: Vec<&str> = all
            .iter()
            .filter_map(|(n, _)| n.strip_prefix("refs/heads/"))
            .collect();
        let tags = all
            .iter()
            .filter_map(|(n, _)| Some(n.strip_prefix("refs/tags/")?.trim_end_matches("^{}")));
        // `origin` is the name of the remote in a clone.
        let own = git_ref
            .trim_start_matches("refs/remotes/")
            .trim_start_matches("origin/");
        let near = if heads.contains(&own) {
            Some(own)
        } else {
            crate::text::did_you_mean(git_ref, heads.iter().copied().chain(tags))
        };
        match near {
            Some(k) => problem.with_hint(format!("did you mean `{}`?", escape_text(k))),
            None => {
                let some: Vec<String> = heads.iter().take(5).map(|h| escape_text(h)).collect();
                problem.with_hint(format!("its branches: {}", some.join(", ")))
            }
        }
    }

    /// The answer to a shortened commit: anybody can make another commit that begins with the same
    /// digits, so comfy tells the whole one rather than taking it.
    fn short_commit(&self, repo: &str, url: &str, git_ref: &str, all: &RemoteRefs) -> Problem {
        let short = git_ref.to_ascii_lowercase();
        let mut found: Vec<String> = all
            .iter()
            .map(|(_, oid)| oid.clone())
            .filter(|oid| oid.starts_with(&short))
            .collect();
        if found.is_empty() {
            found.extend(self.commit_in_history(repo, url, &short));
        }
        found.sort();
        found.dedup();
        let problem = Problem::new(format!(
            "`{git_ref}` is neither a branch nor a tag of {repo}, and a commit needs all its 40 \
             digits"
        ));
        match &found[..] {
            [] => problem.with_hint("write all 40 digits, as the commit's own page shows them"),
            all => all.iter().fold(problem, |p, oid| {
                p.with_hint(format!("write ref = \"{}\"", escape_text(oid)))
            }),
        }
    }

    /// The whole of a shortened commit, if the default branch has it.
    fn commit_in_history(&self, repo: &str, url: &str, short: &str) -> Option<String> {
        let git = self.program.as_ref()?;
        let outline = self.store_folder(repo, FetchDepth::Outline);
        let spec = "+HEAD:refs/remote/asked";
        let history =
            program::fetch_history(self, git, &outline, url, &[spec], ref_membership::DEPTHS[0])?;
        program::whole_commit(self, git, &history, short)
    }
}

fn first_of<'a>(refs: &'a RemoteRefs, names: &[String]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| refs.iter().find(|(n, _)| n == name))
        .map(|(_, oid)| oid.as_str())
}

fn wide_ids(repo: &str) -> Problem {
    Problem::new(format!(
        "{repo} has SHA-256 object ids, which comfy does not support"
    ))
    .with_hint("use a copy of it with SHA-1 ids, as the large hosts have")
}
