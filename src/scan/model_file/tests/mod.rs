//! Files that are made here, byte by byte: none of them is ever loaded, and what they would do is
//! nothing.

mod corpus;

use super::super::finding::Verdict;
use super::examine_model;

/// The verdict on some bytes, and what was found, a line each.
pub(super) fn verdict(name: &str, bytes: &[u8]) -> (Option<Verdict>, String) {
    let examined = examine_model(name, &bytes.to_vec()).unwrap();
    let found = examined.findings.iter().map(|f| {
        assert_eq!(f.category(), f.rule.category);
        format!("{}: {}: {}", f.path, f.rule.id, f.message)
    });
    (examined.verdict, found.collect::<Vec<_>>().join("\n"))
}
