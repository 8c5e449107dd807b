//! The advisories that comfy brings along: of nodes and of ComfyUI, which no public database has, and
//! of packages that were malware and that ComfyUI's users met.

use super::osv::{self, Advisory};

/// The day on which the table was last compared with its sources.
pub(crate) const DATE: &str = "2026-11-26";

macro_rules! rows {
    ($($id:literal),+ $(,)?) => {
        &[$(include_str!(concat!("table/", $id, ".json"))),+]
    };
}

const ROWS: &[&str] = rows!(
    "COMFY-2024-0001",
    "COMFY-2024-0002",
    "COMFY-2024-0003",
    "COMFY-2024-0004",
    "COMFY-2024-0005",
    "COMFY-2025-0001",
    "COMFY-2025-0002",
    "COMFY-2025-0003",
    "COMFY-2026-0001",
    "COMFY-2026-0002",
    "COMFY-2026-0003",
    "COMFY-2026-0004",
    "COMFY-2026-0005",
    "COMFY-2026-0006",
    "COMFY-2026-0007",
    "COMFY-2026-0008",
    "COMFY-2026-0009",
    "COMFY-2026-0010",
);

/// Advisories, and where they come from.
pub(crate) struct AdvisoryTable {
    pub advisories: Vec<Advisory>,
    /// For people: `comfy's own, of 2026-11-26`.
    pub origin: String,
}

/// Returns the table that this comfy was built with.
pub(crate) fn embedded_table() -> AdvisoryTable {
    // A test reads each row.
    let read = |row: &&str| osv::read_advisories(row).unwrap_or_default();
    AdvisoryTable {
        advisories: ROWS.iter().flat_map(read).collect(),
        origin: format!("comfy's own table of {DATE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisory::osv::{Event, RangeKind};

    #[test]
    fn every_row_can_be_read_and_says_what_it_is_about() {
        for row in ROWS {
            let [advisory] = &osv::read_advisories(row).unwrap()[..] else {
                panic!("{row}")
            };
            let facts = advisory.facts();
            let is_package = advisory.affected.iter().any(|a| a.package.is_some());
            assert!(is_package || !facts.repos.is_empty(), "{}", advisory.id);
            assert!(!advisory.references.is_empty(), "{}", advisory.id);
            assert!(!advisory.summary.is_empty(), "{}", advisory.id);
            for range in advisory.affected.iter().flat_map(|a| &a.ranges) {
                let begins = |e: &Event| matches!(e, Event::Introduced(_));
                assert!(range.events.iter().any(begins), "{}", advisory.id);
                assert_eq!(range.kind == RangeKind::Git, range.repo.is_some());
            }
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/advisory/table"));
        assert_eq!(files.unwrap().count(), ROWS.len(), "a row is not included");
    }
}
