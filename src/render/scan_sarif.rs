//! What a scan found, as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format").

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::scan::finding::{Finding, FlowStep, Severity};
use crate::scan::report::ScanReport;
use crate::scan::rules::{self, Rule};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// What stays as it is in a relative reference (RFC 3986, section 3.3).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!');

/// The whole log, with one run.
pub(crate) fn sarif_log(report: &ScanReport) -> Value {
    let used: Vec<&'static Rule> = rules::all_rules()
        .filter(|r| report.findings.iter().any(|f| f.rule == *r))
        .collect();
    let prints = report.fingerprints();
    let results: Vec<Value> = report
        .findings
        .iter()
        .zip(&prints)
        .map(|(f, print)| result_value(f, &used, print))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "comfy",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": used.iter().map(|r| rule_value(r)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "SCANNED": { "description": {
                "text": "The folder that was scanned."
            }}},
            "results": results,
        }],
    })
}

fn rule_value(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": sentence(rule.reason) },
        "fullDescription": { "text": rule.why },
        "help": { "text": rule.fix },
        "defaultConfiguration": { "level": level_of(rule.severity) },
        "properties": {
            "category": rule.category,
            "severity": rule.severity,
            "tags": ["security", rule.category],
        },
    })
}

fn result_value(f: &Finding, used: &[&'static Rule], fingerprint: &str) -> Value {
    let mut result = json!({
        "ruleId": f.rule.id,
        "level": level_of(f.severity),
        "message": { "text": sentence(f.said()) },
        "locations": [location(&f.path, f.line, f.column, Some(&f.snippet), None)],
        "partialFingerprints": { "comfyFinding/v1": fingerprint },
        "properties": { "category": f.category(), "severity": f.severity, "intent": f.intent },
    });
    if let Some(index) = used.iter().position(|r| *r == f.rule) {
        result["ruleIndex"] = json!(index);
    }
    if !f.steps.is_empty() {
        let steps: Vec<Value> = f.steps.iter().map(step_value).collect();
        result["codeFlows"] = json!([{ "threadFlows": [{ "locations": steps }] }]);
    }
    result
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    let rest = chars.as_str().trim_end_matches('.');
    format!("{}{rest}.", first.unwrap_or_default())
}

fn level_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

fn step_value(step: &FlowStep) -> Value {
    json!({ "location": location(&step.path, step.line, step.column, None, Some(&step.message)) })
}

/// A place; a finding about a whole file has no region.
fn location(
    path: &str,
    line: u32,
    column: u32,
    snippet: Option<&str>,
    message: Option<&str>,
) -> Value {
    // A member of an archive is a part of its file.
    let file = path.split('!').next().unwrap_or(path);
    let uri = utf8_percent_encode(file, KEPT).to_string();
    let mut value = json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri, "uriBaseId": "SCANNED" },
    }});
    if line > 0 {
        let mut region = json!({ "startLine": line, "startColumn": column.max(1) });
        if let Some(text) = snippet.filter(|s| !s.is_empty()) {
            region["snippet"] = json!({ "text": text });
        }
        value["physicalLocation"]["region"] = region;
    }
    if let Some(text) = message {
        value["message"] = json!({ "text": text });
    }
    value
}
