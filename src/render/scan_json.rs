//! What a scan found, as JSON.

use serde_json::{Value, json};

use crate::scan::finding::{Finding, Severity, Verdict};
use crate::scan::report::ScanReport;

/// Raised if a field changes its meaning; new fields do not raise it.
const FORMAT_VERSION: u32 = 1;

/// The whole object.
pub(crate) fn report_value(report: &ScanReport) -> Value {
    let prints = report.fingerprints();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .zip(&prints)
        .map(|(f, print)| finding_value(f, print))
        .collect();
    json!({
        "format_version": FORMAT_VERSION,
        "findings": findings,
        "files": report.verdicts,
        "summary": summary_value(report),
    })
}

fn finding_value(f: &Finding, fingerprint: &str) -> Value {
    json!({
        "rule": f.rule.id,
        "category": f.category(),
        "severity": f.severity,
        "intent": f.intent,
        "path": f.path,
        "line": f.line,
        "column": f.column,
        "message": f.message,
        "snippet": f.snippet,
        "steps": f.steps,
        "fingerprint": fingerprint,
    })
}

fn summary_value(report: &ScanReport) -> Value {
    let severities: serde_json::Map<String, Value> = report
        .counts()
        .into_iter()
        .map(|(severity, n)| (severity.as_word().to_string(), json!(n)))
        .collect();
    let verdicts: serde_json::Map<String, Value> = Verdict::ALL
        .iter()
        .map(|v| (v.as_word().to_string(), json!(report.verdict_count(*v))))
        .collect();
    json!({
        "files": report.files,
        "findings": report.findings.len(),
        "severities": severities,
        "verdicts": verdicts,
        "worst": report.worst().map(Severity::as_word),
    })
}
