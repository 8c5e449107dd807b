//! What a part's differences are, file by file, and nodes that nobody declared.

use super::TreeComparison;
use crate::ids::Part;
use crate::manifest::names::is_within;
use crate::plan::observed::DifferenceKind;
use crate::tree::{EntryMode, TreeListing};

impl TreeComparison<'_> {
    pub(crate) fn explain_part(
        &mut self,
        part: &Part,
        prefix: &str,
        own: &TreeListing,
        locked: &TreeListing,
    ) {
        let at = |path: &str| self.layout.disk_path(part, &format!("{prefix}{path}"));
        let mut notes = Vec::new();
        for (path, want) in &locked.0 {
            match own.0.get(path) {
                None if want.mode == EntryMode::Commit => {}
                None => notes.push((at(path), DifferenceKind::Missing, String::new())),
                Some(is)
                    if is.mode != want.mode
                        && (is.mode == EntryMode::Link || want.mode == EntryMode::Link) =>
                {
                    notes.push((
                        at(path),
                        DifferenceKind::Replaced,
                        "link for file, or file for link".into(),
                    ))
                }
                Some(is) if is.oid != want.oid => {
                    notes.push((at(path), DifferenceKind::Edited, String::new()))
                }
                Some(is) if is.mode != want.mode => {
                    notes.push((at(path), DifferenceKind::Mode, String::new()))
                }
                Some(_) => {}
            }
        }
        for path in own.0.keys().filter(|p| !locked.0.contains_key(*p)) {
            notes.push((at(path), DifferenceKind::Added, String::new()));
        }
        for (path, what, detail) in notes {
            self.note_difference(part, &path, what, detail);
        }
    }

    /// What is in custom_nodes/ and neither the lock's nor ComfyUI's own.
    pub(crate) fn unmanaged_nodes(&mut self, tracked: &TreeListing) {
        let own = |name: &str| {
            let path = format!("custom_nodes/{name}");
            tracked
                .0
                .range(path.clone()..)
                .next()
                .is_some_and(|(p, _)| is_within(p, &path))
        };
        self.check.foreign = self.tops.iter().filter(|n| !own(n)).cloned().collect();
    }
}
