//! What a manifest may let ComfyUI write in a tree.

use std::collections::BTreeMap;

use crate::desired::GenerationSpec;
use crate::ids::Part;
use crate::manifest::names;
use crate::problem::{Problem, Result};
use crate::tree::TreeListing;

/// Code stays sealed: a `writable` path that holds some is refused before anything is laid out.
pub(crate) fn no_writable_code(
    spec: &GenerationSpec,
    listings: &BTreeMap<Part, TreeListing>,
) -> Result<()> {
    let mut problems = Vec::new();
    for (part, w) in spec.writable() {
        let Some(listing) = listings.get(&part) else {
            continue;
        };
        if listing
            .0
            .get(w)
            .is_some_and(|e| e.mode == crate::tree::EntryMode::Link)
        {
            problems.push(
                Problem::new(format!("{part}: writable \"{w}\" is a link in the tree"))
                    .with_hint("name the file or folder that it leads to"),
            );
        }
        let code = listing
            .0
            .keys()
            .find(|p| names::is_within(p, w) && names::is_code(p));
        if let Some(path) = code {
            let why = format!(
                "{part}: writable \"{w}\" holds code: {}",
                crate::text::escape_text(path)
            );
            problems.push(
                Problem::new(why).with_hint(
                    "name the data file or folder that the node writes; code stays sealed",
                ),
            );
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(problems))
    }
}
