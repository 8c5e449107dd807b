//! Submodules of a repository, and of those.

use std::collections::{BTreeMap, BTreeSet};

use super::{RepositoryResolver, RepositorySnapshot};
use crate::lock::SubmodulePin;
use crate::manifest::{names, repo_address};
use crate::problem::{Problem, Result};
use crate::progress::Progress;
use crate::tree::rules;

pub(super) const MAX_NESTED_SUBMODULES: usize = 5;

#[expect(
    clippy::too_many_arguments,
    reason = "a recursion over one repository's submodules"
)]
pub(super) fn collect_submodules(
    name: &str,
    repo: &str,
    prefix: &str,
    snapshot: &RepositorySnapshot,
    repos: &dyn RepositoryResolver,
    progress: &dyn Progress,
    out: &mut Vec<SubmodulePin>,
    depth: usize,
) -> Result<()> {
    if depth >= MAX_NESTED_SUBMODULES {
        return Err(Problem::new(format!(
            "{name}: submodules nested more than {MAX_NESTED_SUBMODULES} deep"
        )));
    }
    let urls = snapshot
        .gitmodules
        .as_deref()
        .map(parse_gitmodules)
        .unwrap_or_default();
    for path in rules::unknown_submodules(&snapshot.listing, &BTreeSet::new()) {
        let shown = crate::text::escape_text(path);
        let url = urls.get(path).ok_or_else(|| {
            Problem::new(format!(
                "{name}: submodule `{shown}` has no address in .gitmodules"
            ))
            .with_hint("choose another commit, or ask the author")
        })?;
        // What an author reaches by ssh, everybody has by https.
        let url = absolute_url(repo, url);
        let url = if url.starts_with("https://") {
            url
        } else {
            repo_address::https_address(&url).unwrap_or(url)
        };
        names::repo_url(&url).map_err(|why| {
            Problem::new(format!(
                "{name}: submodule `{shown}`: \"{}\" {why}",
                crate::text::escape_text(&url)
            ))
        })?;
        let commit = snapshot.listing.0[path].oid;
        let inner = repos
            .snapshot(&url, "HEAD", &commit, progress)
            .map_err(|p| p.with_prefix(&format!("{name}: submodule `{shown}`: ")))?;
        let whole = format!("{prefix}{path}");
        out.push(SubmodulePin {
            path: whole.clone(),
            repo: url.clone(),
            commit,
            tree: inner.tree,
        });
        collect_submodules(
            name,
            &url,
            &format!("{whole}/"),
            &inner,
            repos,
            progress,
            out,
            depth + 1,
        )?;
    }
    Ok(())
}

/// `path` to `url` of a .gitmodules file (gitmodules(5)): an ini file, of which two keys matter.
pub(super) fn parse_gitmodules(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().chain(["["]) {
        let line = line.trim();
        if line.starts_with('[') {
            if let (Some(p), Some(u)) = (path.take(), url.take()) {
                out.insert(p, u);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let value = config_value(value);
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => path = Some(value),
                "url" => url = Some(value),
                _ => {}
            }
        }
    }
    out
}

/// A value without its quotes and without a comment behind it (git-config(1), "Syntax").
fn config_value(text: &str) -> String {
    let text = text.trim();
    if let Some((quoted, _)) = text.strip_prefix('"').and_then(|t| t.split_once('"')) {
        return quoted.to_string();
    }
    let plain = text.split([';', '#']).next().unwrap_or(text);
    plain.trim_end().to_string()
}

/// `../other.git` means beside the repository that names it (gitmodules(5)).
pub(super) fn absolute_url(repo: &str, url: &str) -> String {
    let mut base = repo.trim_end_matches('/');
    let mut rest = url;
    if !rest.starts_with("./") && !rest.starts_with("../") {
        return url.to_string();
    }
    loop {
        if let Some(r) = rest.strip_prefix("../") {
            rest = r;
            base = base.rsplit_once('/').map_or(base, |(b, _)| b);
        } else if let Some(r) = rest.strip_prefix("./") {
            rest = r;
        } else {
            return format!("{base}/{rest}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodule_addresses_are_found_and_made_absolute() {
        let text = "[submodule \"x\"]\n\tpath = sub/x\n\turl = ../x.git\n[submodule \"y\"]\n url = \
            \"https://github.com/a/y\" ; mine\n Path=y\n";
        let urls = parse_gitmodules(text);
        assert_eq!(
            absolute_url("https://github.com/me/node", &urls["sub/x"]),
            "https://github.com/me/x.git"
        );
        assert_eq!(urls["y"], "https://github.com/a/y");
    }
}
