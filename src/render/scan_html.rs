//! What a scan found, as one page that needs nothing else.

use super::scan_json;
use super::scan_text::ScanGroup;
use crate::scan::report::ScanReport;
use crate::scan::rules;

const PAGE: &str = include_str!("scan_page.html");

/// A diff that belongs to a group, as unified text.
pub(crate) struct GroupDiff<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// The page. It holds the report as JSON, and the script that shows it.
pub(crate) fn scan_page(groups: &[ScanGroup<'_>], diffs: &[GroupDiff<'_>], title: &str) -> String {
    let mut all = ScanReport::default();
    groups.iter().for_each(|g| all.extend(g.report.clone()));
    let parts: Vec<serde_json::Value> = groups
        .iter()
        .map(|g| {
            let mut value = scan_json::report_value(g.report);
            value["name"] = g.name.into();
            value
        })
        .collect();
    let rules: serde_json::Map<String, serde_json::Value> = rules::all_rules()
        .filter(|r| all.findings.iter().any(|f| f.rule == *r))
        .map(|r| {
            let example = r.examples.iter().find(|e| e.found).map(|e| e.code);
            let value = serde_json::json!({
                "reason": r.reason, "why": r.why, "fix": r.fix, "example": example,
            });
            (r.id.to_string(), value)
        })
        .collect();
    let diffs: Vec<serde_json::Value> = diffs
        .iter()
        .map(|d| serde_json::json!({ "name": d.name, "text": d.text }))
        .collect();
    let data = serde_json::json!({
        "title": title,
        "parts": parts,
        "rules": rules,
        "diffs": diffs,
        "summary": scan_json::report_value(&all)["summary"],
    });
    // Inside a script element only `</` and `<!--` could end or change it (HTML, section 4.12.1.3);
    // the other escapes keep odd text from ending a line of the page.
    let json: String = data
        .to_string()
        .chars()
        .map(|c| match c {
            '<' | '>' | '&' => format!("\\u{:04x}", c as u32),
            c if crate::text::is_unsafe_char(c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units)
                    .iter()
                    .map(|u| format!("\\u{u:04x}"))
                    .collect()
            }
            c => c.to_string(),
        })
        .collect();
    PAGE.replace("@DATA@", &json)
}
