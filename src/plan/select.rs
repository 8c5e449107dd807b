//! `--only`: a family of resources or one address. Dependencies of a selected resource are
//! included.

use std::collections::BTreeSet;

use super::change::Change;
use crate::desired::GenerationSpec;
use crate::ids::{Address, Family};
use crate::problem::{Problem, Result};
use crate::text::{did_you_mean, escape_text};

const ONE_EACH: &str = "one each: --only A --only B";
/// How many addresses a message lists at most.
const SHOWN: usize = 20;

/// One argument of `--only`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Family(Family),
    Address(Address),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourceSelection {
    /// The arguments as they were written.
    written: Vec<String>,
    words: Vec<Word>,
}

fn families() -> String {
    Family::ALL.map(|(_, word)| word).join(", ")
}

fn absent_problem(word: &str, known: BTreeSet<String>) -> Problem {
    let p = Problem::new(format!("--only {}: no such resource", escape_text(word)));
    if known.contains(word) {
        return Problem::new(format!(
            "--only {}: it cannot be planned now",
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
    let prefix = |text: &str| text.parse::<Address>().ok().map(|a| a.prefix());
    let same: Vec<&String> = known.iter().filter(|a| prefix(a) == prefix(word)).collect();
    let (named, more) = same.split_at(same.len().min(SHOWN));
    let named = named
        .iter()
        .map(|a| escape_text(a))
        .collect::<Vec<_>>()
        .join(", ");
    match (named.is_empty(), more.len()) {
        (true, _) => p.with_hint(format!("families: {}", families())),
        (_, 0) => p.with_hint(format!("there is: {named}")),
        (_, n) => p.with_hint(format!("there is: {named} and {n} more")),
    }
}

impl ResourceSelection {
    /// # Errors
    /// If an argument is neither a family nor an address.
    pub(crate) fn parse(words: &[String]) -> Result<ResourceSelection> {
        let parsed = words.iter().map(|w| word(w)).collect::<Result<_>>()?;
        Ok(ResourceSelection {
            written: words.to_vec(),
            words: parsed,
        })
    }

    pub(crate) fn is_all(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.written
    }

    /// Returns whether one of the arguments is exactly this address.
    pub(crate) fn has_address(&self, address: &Address) -> bool {
        self.words
            .iter()
            .any(|w| matches!(w, Word::Address(a) if a == address))
    }

    /// Returns whether the arguments themselves select `address`.
    pub(crate) fn selects(&self, address: &Address) -> bool {
        self.is_all()
            || self.words.iter().any(|w| match w {
                Word::Family(family) => address.family() == Some(*family),
                Word::Address(a) => a == address,
            })
    }

    /// Returns the selected changes with their dependencies. `declared` are the addresses of
    /// comfy.toml, with or without a change.
    ///
    /// # Errors
    /// If a selected address does not exist, or cannot be planned.
    pub(crate) fn with_dependencies<I: Iterator<Item = Address>>(
        &self,
        changes: &[Change],
        declared: impl Fn() -> I,
    ) -> Result<BTreeSet<Address>> {
        let mut out: BTreeSet<Address> = changes
            .iter()
            .filter(|c| self.selects(&c.address))
            .map(|c| c.address.clone())
            .collect();
        let missing = self.words.iter().find_map(|w| match w {
            Word::Address(a) if !out.contains(a) => Some(a),
            _ => None,
        });
        if let Some(address) = missing {
            let known = changes.iter().map(|c| c.address.to_string());
            let declared = declared().map(|a| a.to_string());
            return Err(absent_problem(
                &address.to_string(),
                known.chain(declared).collect(),
            ));
        }
        loop {
            let more: Vec<Address> = changes
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

    /// Returns whether some of the code or its packages is selected, and not only its links.
    pub(crate) fn touches_code(
        &self,
        live: Option<&GenerationSpec>,
        wish: &GenerationSpec,
    ) -> bool {
        let node =
            |spec: &GenerationSpec| spec.nodes.keys().any(|n| self.selects(&Address::node(n)));
        self.selects(&Address::COMFYUI)
            || self.selects(&Address::Python)
            || node(wish)
            || live.is_some_and(node)
    }

    /// Returns whether a share, or all of them, is selected by an argument.
    fn has_shares(&self) -> bool {
        self.words.iter().any(|w| {
            matches!(
                w,
                Word::Family(Family::Shares) | Word::Address(Address::Share(_))
            )
        })
    }

    /// Returns the target generation: the selected parts as desired, the rest as live. `None`: do
    /// not change the code.
    pub(crate) fn target_generation(
        &self,
        live: Option<&GenerationSpec>,
        wish: &GenerationSpec,
    ) -> Option<GenerationSpec> {
        if self.is_all() {
            return Some(wish.clone());
        }
        let code = self.touches_code(live, wish);
        let Some(live) = live else {
            return code.then(|| wish.clone());
        };
        let mut target = live.clone();
        let core = self.selects(&Address::COMFYUI);
        if core {
            target.comfyui = wish.comfyui.clone();
            target.writable = wish.writable.clone();
        }
        let all: BTreeSet<&String> = live.nodes.keys().chain(wish.nodes.keys()).collect();
        for name in all {
            if self.selects(&Address::node(name)) {
                match wish.nodes.get(name) {
                    Some(n) => target.nodes.insert(name.clone(), n.clone()),
                    None => target.nodes.remove(name),
                };
            }
        }
        if core || self.has_shares() {
            target.mounts = wish.mounts.clone();
            target.external_model_dirs = wish.external_model_dirs.clone();
        }
        // Code that changes may need packages that changed with it.
        if code {
            target.venv = wish.venv.clone();
        }
        target.layout = wish.layout;
        target.state = wish.state.clone();
        Some(target)
    }
}

/// Parses a family or the address of a resource.
fn word(text: &str) -> Result<Word> {
    if let Some(family) = Family::from_word(text) {
        return Ok(Word::Family(family));
    }
    if let Ok(address) = text.parse::<Address>()
        && text.contains('.')
        && address.is_resource()
    {
        return Ok(Word::Address(address));
    }
    let p = Problem::new(format!(
        "--only {}: neither a family nor an address",
        escape_text(text)
    ));
    if text.contains(',') {
        return Err(p.with_hint(ONE_EACH));
    }
    let words = Family::ALL.iter().map(|(_, word)| *word);
    Err(match did_you_mean(text, words) {
        Some(k) => p.with_hint(format!("did you mean `{k}`?")),
        None => p.with_hint(format!(
            "families: {}; addresses: such as node.impact-pack or share.models",
            families()
        )),
    })
}
