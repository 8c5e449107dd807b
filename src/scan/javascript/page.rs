//! Scripts inside HTML and SVG.

use super::{from_host, is_remote, rules, scan_script};
use crate::scan::carrier::cut_snippet;
use crate::scan::finding::Finding;

/// Scans what a page loads and runs. Browsers read more than this finds, so nothing here says that
/// a page is harmless.
pub(crate) fn scan_page(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = lower[from..].find("<script").map(|i| from + i) {
        let Some(end) = lower[at..].find('>').map(|i| at + i) else {
            break;
        };
        let line = count_lines(&text[..at]);
        let source = attribute(&text[at..end], &lower[at..end], "src");
        if let Some(address) = source.filter(|a| is_remote(a)) {
            found.push(Finding {
                line: line + 1,
                column: 1,
                snippet: cut_snippet(&text[at..end]),
                ..Finding::about_file(&rules::REMOTE_CODE, path, from_host(address))
            });
        }
        let body_end = lower[end..]
            .find("</script")
            .map_or(text.len(), |i| end + i);
        let body = &text[(end + 1).min(body_end)..body_end];
        let is_data = ["application/json", "text/template", "importmap", "x-shader"]
            .iter()
            .any(|t| lower[at..end].contains(t));
        if !is_data && !body.trim().is_empty() {
            found.extend(scan_script(path, body, count_lines(&text[..end])));
        }
        from = body_end.max(end + 1);
        if from >= text.len() {
            break;
        }
    }
    found
}

fn count_lines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|b| *b == b'\n').count()).unwrap_or(u32::MAX)
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a str, lower: &str, name: &str) -> Option<&'a str> {
    let at = lower.find(&format!(" {name}"))? + name.len() + 1;
    let rest = tag[at..].trim_start().strip_prefix('=')?.trim_start();
    match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next(),
        _ => rest.split_whitespace().next(),
    }
}
