//! The record of an acceptance in comfy.lock.

use crate::lock::reviews::{AcceptanceKind, ReviewRecord};
use crate::lock::{Lock, RepositoryPin};
use crate::scan::acceptance;
use crate::scan::capabilities::Capabilities;
use crate::scan::report::ScanReport;

/// Records that `by` accepts what is pinned of a part.
pub(crate) fn accept_pin(
    lock: &mut Lock,
    name: &str,
    pin: &RepositoryPin,
    report: &ScanReport,
    (kind, by): (AcceptanceKind, &str),
) {
    let critical = acceptance::critical_findings(report);
    let record = ReviewRecord {
        kind,
        commit: pin.commit,
        tree: pin.tree,
        content: pin.content_id(),
        by: by.to_string(),
        at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        capabilities: Capabilities::of_report(report).to_words(),
        critical: critical.into_iter().map(|(_, print)| print).collect(),
    };
    lock.acceptances.reviews.insert(name.to_string(), record);
}
