//! Lines of requirements files (pip, "Requirements File Format").

use super::{EntryFacts, at_line, rules};
use crate::scan::finding::Finding;

/// Finds lines that leave the index, by address or by another index.
pub(super) fn examine_requirements(facts: &EntryFacts, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = without_comment(line);
        let lower = code.to_ascii_lowercase();
        if code.is_empty() {
            continue;
        }
        let is_index = [
            "--index-url",
            "--extra-index-url",
            "--find-links",
            "--trusted-host",
        ]
        .iter()
        .any(|o| lower.contains(o))
            || ["-i ", "-i=", "-f "].iter().any(|o| lower.starts_with(o));
        let is_address = lower.contains("://") || lower.starts_with("git+") || lower.contains("@ ");
        if is_index {
            let message = "packages can come from there".to_string();
            found.push(at_line(
                &rules::REQUIREMENT_INDEX,
                facts,
                (number, line),
                message,
            ));
        } else if is_address {
            let message = if lower.contains("git+") {
                "pip builds what the repository holds that day"
            } else {
                "pip installs whatever the address serves"
            };
            found.push(at_line(
                &rules::REQUIREMENT_URL,
                facts,
                (number, line),
                message.into(),
            ));
        }
    }
    found
}

/// A `#` begins a comment at the start of a line or after white space.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(code, _)| code.trim())
}
