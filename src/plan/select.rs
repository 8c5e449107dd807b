//! `--only`: a family of resources or one address. What a selected resource needs comes along.

use std::collections::BTreeSet;

use super::change::Change;
use crate::desired::GenSpec;
use crate::problem::{Problem, Result};
use crate::text::{did_you_mean, escape_text};

/// Families that `--only` knows.
pub const FAMILIES: &[&str] = &[
    "user", "comfyui", "nodes", "python", "models", "shares", "network",
];
/// Prefixes of addresses.
const KINDS: &[&str] = &[
    "group", "user", "member", "traverse", "share", "dir", "link", "run", "comfyui", "node",
    "python", "model", "network", "service", "cron",
];

const ONE_EACH: &str = "one each: --only A --only B";
/// Of many addresses, these are named.
const SHOWN: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSelection(Vec<String>);

fn absent_problem(word: &str, known: BTreeSet<String>) -> Problem {
    let p = Problem::new(format!("--only {}: no such resource", escape_text(word)));
    if known.contains(word) {
        return Problem::new(format!(
            "--only {}: it cannot be planned as things are",
            escape_text(word)
        ))
        .with_hint("`comfy plan` without --only says why");
    }
    if word.contains(',') {
        return p.with_hint(ONE_EACH);
    }
    if let Some(near) = did_you_mean(word, known.iter().map(String::as_str)) {
        return p.with_hint(format!("did you mean `{}`?", escape_text(near)));
    }
    let kind = word.split('.').next();
    let same: Vec<&String> = known
        .iter()
        .filter(|a| a.split('.').next() == kind)
        .collect();
    let (named, more) = same.split_at(same.len().min(SHOWN));
    let named = named
        .iter()
        .map(|a| escape_text(a))
        .collect::<Vec<_>>()
        .join(", ");
    match (named.is_empty(), more.len()) {
        (true, _) => p.with_hint(format!("families: {}", FAMILIES.join(", "))),
        (_, 0) => p.with_hint(format!("there is: {named}")),
        (_, n) => p.with_hint(format!("there is: {named} and {n} more")),
    }
}

impl ResourceSelection {
    /// # Errors
    /// A word that is neither a family nor an address.
    pub fn parse(words: &[String]) -> Result<ResourceSelection> {
        for w in words {
            let kind = w.split('.').next().unwrap_or(w);
            let known =
                FAMILIES.contains(&w.as_str()) || (w.contains('.') && KINDS.contains(&kind));
            if !known {
                let p = Problem::new(format!(
                    "--only {}: neither a family nor an address",
                    escape_text(w)
                ));
                if w.contains(',') {
                    return Err(p.with_hint(ONE_EACH));
                }
                return Err(match did_you_mean(w, FAMILIES.iter().copied()) {
                    Some(k) => p.with_hint(format!("did you mean `{k}`?")),
                    None => p.with_hint(format!(
                        "families: {}; addresses: such as node.impact-pack or share.models",
                        FAMILIES.join(", ")
                    )),
                });
            }
        }
        Ok(ResourceSelection(words.to_vec()))
    }

    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Whether the words themselves name `address`.
    pub fn selects(&self, address: &str) -> bool {
        let kind = address.split('.').next().unwrap_or(address);
        self.is_all()
            || self.0.iter().any(|w| match w.as_str() {
                "user" => matches!(kind, "user" | "group" | "member" | "cron"),
                "nodes" => kind == "node",
                "comfyui" => kind == "comfyui",
                "python" => kind == "python",
                "network" => kind == "network",
                "models" => kind == "model",
                "shares" => {
                    matches!(kind, "share" | "traverse")
                        || (kind == "link" && address != "link.view" && address != "link.home")
                }
                w => w == address,
            })
    }

    /// The selected changes with everything that they need. `declared` are addresses that
    /// comfy.toml has, with or without a change.
    ///
    /// # Errors
    /// What is named is not there, or cannot be planned.
    pub fn with_dependencies<I: Iterator<Item = String>>(
        &self,
        changes: &[Change],
        declared: impl Fn() -> I,
    ) -> Result<BTreeSet<String>> {
        let mut out: BTreeSet<String> = changes
            .iter()
            .filter(|c| self.selects(&c.address))
            .map(|c| c.address.clone())
            .collect();
        if let Some(w) = self.0.iter().find(|w| w.contains('.') && !out.contains(*w)) {
            return Err(absent_problem(
                w,
                changes
                    .iter()
                    .map(|c| c.address.clone())
                    .chain(declared())
                    .collect(),
            ));
        }
        loop {
            let more: Vec<String> = changes
                .iter()
                .filter(|c| out.contains(&c.address))
                .flat_map(|c| c.needs.clone())
                .filter(|n| !out.contains(n))
                .collect();
            if more.is_empty() {
                return Ok(out);
            }
            out.extend(more);
        }
    }

    /// Whether some of the code or its packages is selected, rather than its links alone.
    pub fn touches_code(&self, live: Option<&GenSpec>, wish: &GenSpec) -> bool {
        let node = |spec: &GenSpec| {
            spec.nodes
                .keys()
                .any(|n| self.selects(&format!("node.{n}")))
        };
        self.selects("comfyui") || self.selects("python") || node(wish) || live.is_some_and(node)
    }

    /// The generation to aim at: what is selected from the wish, the rest as it is live. `None`:
    /// leave the code alone.
    pub fn target_generation(&self, live: Option<&GenSpec>, wish: &GenSpec) -> Option<GenSpec> {
        if self.is_all() {
            return Some(wish.clone());
        }
        let code = self.touches_code(live, wish);
        let Some(live) = live else {
            return code.then(|| wish.clone());
        };
        let mut target = live.clone();
        if self.selects("comfyui") {
            target.comfyui = wish.comfyui.clone();
            target.writable = wish.writable.clone();
        }
        let all: BTreeSet<&String> = live.nodes.keys().chain(wish.nodes.keys()).collect();
        for name in all {
            if self.selects(&format!("node.{name}")) {
                match wish.nodes.get(name) {
                    Some(n) => target.nodes.insert(name.clone(), n.clone()),
                    None => target.nodes.remove(name),
                };
            }
        }
        if self
            .0
            .iter()
            .any(|w| w == "shares" || w.starts_with("share."))
            || self.selects("comfyui")
        {
            target.mounts = wish.mounts.clone();
            target.elsewhere = wish.elsewhere.clone();
        }
        // Code that moves may need packages that moved with it.
        if code {
            target.venv = wish.venv.clone();
        }
        target.layout = wish.layout;
        target.state = wish.state.clone();
        Some(target)
    }
}
