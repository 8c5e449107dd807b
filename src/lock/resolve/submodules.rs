//! Submodules of a repository, and of those.

use std::collections::{BTreeMap, BTreeSet};

use super::{CommitQuery, RepositoryResolver, RepositorySnapshot, SourceTexts};
use crate::lock::SubmodulePin;
use crate::manifest::{names, repo_address};
use crate::problem::{Problem, Result};
use crate::progress::Progress;
use crate::tree::{ExcludedEntry, TreeExclusions, rules};

pub(super) const MAX_NESTED_SUBMODULES: usize = 5;

/// The submodules of one part, and what of its trees is excluded.
pub(super) struct SubmodulePins<'a> {
    pub(super) name: &'a str,
    pub(super) exclude: &'a TreeExclusions,
    pub(super) repos: &'a dyn RepositoryResolver,
    pub(super) progress: &'a dyn Progress,
    pub(super) submodules: Vec<SubmodulePin>,
    pub(super) excluded: Vec<ExcludedEntry>,
}

impl SubmodulePins<'_> {
    /// Collects the submodules of `repo`, whose own path is `prefix`, and theirs.
    ///
    /// # Errors
    /// A submodule without an address, or that cannot be had; too deep a nesting.
    pub(super) fn collect(
        &mut self,
        repo: &str,
        prefix: &str,
        snapshot: &RepositorySnapshot,
        depth: usize,
    ) -> Result<()> {
        let name = self.name;
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
            let whole = format!("{prefix}{path}");
            let shown = crate::text::escape_text(&whole);
            let without = || {
                format!(
                    "if the node works without it, write in its section of comfy.toml: {}",
                    self.exclude.line_with([whole.as_str()])
                )
            };
            let url = urls.get(path).ok_or_else(|| {
                Problem::new(format!(
                    "{name}: submodule `{shown}` has no address in .gitmodules"
                ))
                .with_hint(without())
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
                .with_hint(without())
            })?;
            let commit = snapshot.listing.0[path].oid;
            let exclude = self.exclude.in_submodule(&whole);
            let wanted = CommitQuery {
                repo: &url,
                git_ref: names::DEFAULT_REF,
                commit: &commit,
                archive: None,
                exclude: &exclude,
                requirements_files: &[],
                sources: SourceTexts::None,
            };
            let inner = self
                .repos
                .snapshot(&wanted, self.progress)
                .map_err(|mut p| {
                    if p.is_interrupted() {
                        return p;
                    }
                    let settled = p.hints.iter().any(|h| h.contains("exclude = ["));
                    // It is the part's own commit that names this one.
                    p.hints.retain(|h| !h.contains("moves the pin"));
                    let p = p.with_prefix(&format!("{name}: submodule `{shown}`: "));
                    if settled { p } else { p.with_hint(without()) }
                })?;
            self.submodules.push(SubmodulePin {
                path: whole.clone(),
                repo: url.clone(),
                commit,
                tree: inner.tree,
            });
            self.excluded
                .extend(inner.excluded.iter().map(|x| ExcludedEntry {
                    path: format!("{whole}/{}", x.path),
                    ..x.clone()
                }));
            self.collect(&url, &format!("{whole}/"), &inner, depth + 1)?;
        }
        Ok(())
    }
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
