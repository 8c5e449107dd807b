//! `COMFY_MIRRORS="https://github.com/=file:///srv/git/;…"`: where a repository is fetched from
//! instead.
//!
//! The lock keeps the canonical address and the commit is verified, so a mirror is trusted with
//! nothing.

use std::path::Path;

use crate::problem::{Problem, Result};

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MirrorRules(Vec<(String, String)>);

impl MirrorRules {
    /// # Errors
    /// A rule without `=`, or with a target that is neither file://, https:// nor http:// on
    /// loopback.
    pub(crate) fn parse(text: &str) -> Result<MirrorRules> {
        let mut rules = Vec::new();
        for rule in text.split(';').map(str::trim).filter(|r| !r.is_empty()) {
            let bad = |why: &str| {
                Problem::new(format!(
                    "COMFY_MIRRORS: `{}` {why}",
                    crate::text::escape_text(rule)
                ))
                .with_hint("write https://github.com/=file:///srv/git/")
            };
            let (from, to) = rule.split_once('=').ok_or_else(|| bad("has no `=`"))?;
            let loopback = [
                "http://127.0.0.1:",
                "http://127.0.0.1/",
                "http://localhost:",
                "http://[::1]:",
            ]
            .iter()
            .any(|p| to.starts_with(p));
            if !(to.starts_with("file:///") || to.starts_with("https://") || loopback) {
                return Err(bad(
                    "must lead to file:///…, https://… or a loopback address",
                ));
            }
            if !from.starts_with("https://") {
                return Err(bad("must replace an https:// address"));
            }
            if to.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(bad("has white space in its target"));
            }
            rules.push((from.to_string(), to.to_string()));
        }
        // The longest prefix wins, as in git's url.<base>.insteadOf.
        rules.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Ok(MirrorRules(rules))
    }

    /// The folders that stand for servers.
    pub(crate) fn local_folders(&self) -> impl Iterator<Item = std::path::PathBuf> {
        self.0
            .iter()
            .filter_map(|(_, to)| to.strip_prefix("file://").map(Into::into))
    }

    /// Where `repo` is fetched from.
    pub(crate) fn rewrite_url(&self, repo: &str) -> String {
        let Some((from, to)) = self
            .0
            .iter()
            .find(|(from, _)| repo.starts_with(from.as_str()))
        else {
            return repo.to_string();
        };
        let url = format!("{to}{}", &repo[from.len()..]);
        // As git does for local paths: the folder itself, or the one with `.git` behind its name.
        match url.strip_prefix("file://") {
            Some(path)
                if !Path::new(path).is_dir() && Path::new(&format!("{path}.git")).is_dir() =>
            {
                format!("{url}.git")
            }
            _ => url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_wins_and_odd_targets_are_refused() {
        let m = MirrorRules::parse(
            "https://github.com/=file:///srv/git/; https://github.com/me/=https://git.example/",
        )
        .unwrap();
        assert_eq!(
            m.rewrite_url("https://github.com/me/x"),
            "https://git.example/x"
        );
        assert_eq!(
            m.rewrite_url("https://github.com/you/x"),
            "file:///srv/git/you/x"
        );
        assert_eq!(
            m.rewrite_url("https://codeberg.org/a/b"),
            "https://codeberg.org/a/b"
        );
        for bad in [
            "https://a/=ext::sh -c id",
            "https://a/=http://evil.test/",
            "file:///=https://x/",
            "nonsense",
        ] {
            assert!(MirrorRules::parse(bad).is_err(), "{bad}");
        }
    }
}
