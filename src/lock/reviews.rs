//! What people have accepted of the code that is pinned, bound to the code that they saw.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{AcceptEntry, Manifest};
use crate::tree::ObjectId;

/// How somebody accepted a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptanceKind {
    /// By reading what is new: `comfy review`.
    Review,
    /// As it is: `comfy accept`.
    Accept,
}

impl AcceptanceKind {
    pub(crate) const fn as_word(self) -> &'static str {
        match self {
            AcceptanceKind::Review => "review",
            AcceptanceKind::Accept => "accept",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<AcceptanceKind> {
        [AcceptanceKind::Review, AcceptanceKind::Accept]
            .into_iter()
            .find(|k| k.as_word() == word)
    }
}

/// The last pin of a part that somebody accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReviewRecord {
    pub kind: AcceptanceKind,
    pub commit: ObjectId,
    pub tree: ObjectId,
    /// What was seen, [`crate::lock::RepositoryPin::content_id`]: a review holds for nothing else.
    pub content: String,
    /// Who says so; nothing proves it but the commit of comfy.lock.
    pub by: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// What it could do, by category, with the number of places.
    pub capabilities: BTreeMap<String, u64>,
    /// Fingerprints of its critical findings.
    pub critical: BTreeSet<String>,
}

/// An entry of `policy.accept`, bound to the findings that were there when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptedRecord {
    pub entry: AcceptEntry,
    pub fingerprints: BTreeSet<String>,
}

/// What comfy.lock keeps of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Acceptances {
    /// By part: `comfyui`, or a node's name.
    pub reviews: BTreeMap<String, ReviewRecord>,
    /// Sorted by node, rule and path.
    pub accepted: Vec<AcceptedRecord>,
}

impl Acceptances {
    pub(crate) fn is_empty(&self) -> bool {
        self.reviews.is_empty() && self.accepted.is_empty()
    }

    /// Those of what is still in the manifest.
    pub(crate) fn kept_for(&self, manifest: &Manifest) -> Acceptances {
        let is_declared = |name: &String| name == "comfyui" || manifest.nodes.contains_key(name);
        let reviews = self.reviews.iter().filter(|(name, _)| is_declared(name));
        let accepted = self
            .accepted
            .iter()
            .filter(|a| manifest.policy.accept.contains(&a.entry));
        Acceptances {
            reviews: reviews.map(|(n, r)| (n.clone(), r.clone())).collect(),
            accepted: accepted.cloned().collect(),
        }
    }

    /// The fingerprints that an entry is bound to; `None`: `comfy lock` has not seen it yet.
    pub(crate) fn bound_to(&self, entry: &AcceptEntry) -> Option<&BTreeSet<String>> {
        let same = self.accepted.iter().find(|a| a.entry == *entry);
        same.map(|a| &a.fingerprints)
    }
}
