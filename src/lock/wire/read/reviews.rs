//! Reads what people have accepted.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{AGAIN, WireAccepted, WireReview};
use crate::lock::reviews::{AcceptanceKind, Acceptances, AcceptedRecord, ReviewRecord};
use crate::manifest::{AcceptEntry, TomlSource};
use crate::problem::Problem;
use crate::tree::ObjectId;

/// Digits of a fingerprint.
const FINGERPRINT: usize = 32;

pub(super) fn read_acceptances(
    source: &TomlSource,
    reviews: BTreeMap<String, WireReview>,
    accepted: Vec<WireAccepted>,
    problems: &mut Vec<Problem>,
) -> Acceptances {
    let mut out = Acceptances::default();
    for (name, w) in reviews {
        let mut fault = |key: &str, what: &str| {
            let place = source.place_of_key(&["reviews", &name, key]);
            let shown = crate::text::escape_text(&name);
            problems.push(
                Problem::new(format!("{place}: {key} of the review of {shown} {what}"))
                    .with_hint(AGAIN),
            );
        };
        let mut id = |key: &str, text: &str| {
            ObjectId::parse(text).or_else(|| {
                fault(key, "is not 40 hexadecimal digits");
                None
            })
        };
        let (commit, tree) = (id("commit", &w.commit), id("tree", &w.tree));
        let kind = AcceptanceKind::from_word(&w.kind);
        if kind.is_none() {
            fault("kind", "is neither \"review\" nor \"accept\"");
        }
        if !is_fingerprint(&w.content) {
            fault("content", "is not 32 hexadecimal digits");
        }
        if !w.critical.iter().all(|f| is_fingerprint(f)) {
            fault("critical", "has what is not a fingerprint");
        }
        if let (Some(kind), Some(commit), Some(tree)) = (kind, commit, tree) {
            let record = ReviewRecord {
                kind,
                commit,
                tree,
                content: w.content,
                by: w.by,
                at: w.at,
                capabilities: w.capabilities,
                critical: w.critical,
            };
            out.reviews.insert(name, record);
        }
    }
    for (number, w) in accepted.into_iter().enumerate() {
        if !w.findings.iter().all(|f| is_fingerprint(f)) {
            let place = source.place_of_key(&["accepted", &number.to_string()]);
            problems.push(
                Problem::new(format!("{place}: findings has what is not a fingerprint"))
                    .with_hint(AGAIN),
            );
        }
        out.accepted.push(accepted_record(w));
    }
    out
}

fn accepted_record(w: WireAccepted) -> AcceptedRecord {
    let fingerprints: BTreeSet<String> = w.findings;
    AcceptedRecord {
        entry: AcceptEntry {
            node: w.node,
            rule: w.rule,
            path: w.path,
            reason: w.reason,
        },
        fingerprints,
    }
}

fn is_fingerprint(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == FINGERPRINT && text.chars().all(is_digit)
}
