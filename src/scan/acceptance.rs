//! Which critical findings nobody has accepted, and what an acceptance is bound to.

use std::collections::BTreeSet;

use super::finding::{Finding, Severity};
use super::report::ScanReport;
use crate::lock::reviews::{Acceptances, AcceptedRecord};
use crate::manifest::AcceptEntry;
use crate::problem::Problem;
use crate::text::escape_text;

/// The critical findings of a part that are neither of its last accepted pin nor accepted by an
/// entry of `policy.accept`, with their fingerprints.
pub(crate) fn open_criticals<'r>(
    part: &str,
    report: &'r ScanReport,
    entries: &[AcceptEntry],
    acceptances: &Acceptances,
) -> Vec<(&'r Finding, String)> {
    let reviewed = acceptances.reviews.get(part);
    let of_part: Vec<&AcceptEntry> = entries.iter().filter(|e| e.node == part).collect();
    let is_accepted = |f: &Finding, print: &String| {
        let by_entry = of_part.iter().any(|e| {
            is_named(e, f)
                && acceptances
                    .bound_to(e)
                    .is_some_and(|prints| prints.contains(print))
        });
        by_entry || reviewed.is_some_and(|r| r.critical.contains(print))
    };
    critical_findings(report)
        .into_iter()
        .filter(|(f, print)| !is_accepted(f, print))
        .collect()
}

/// Says what nobody has accepted, and the ways on. `part` is an address.
pub(crate) fn open_problem(part: &dyn std::fmt::Display, f: &Finding) -> Problem {
    let address = part.to_string();
    let name = address.strip_prefix("node.").unwrap_or(&address);
    let place = match f.line {
        0 => escape_text(&f.path),
        line => format!("{}:{line}:{}", escape_text(&f.path), f.column),
    };
    Problem::new(format!(
        "{address}: {place}: {} ({}, critical), and nobody has accepted it",
        escape_text(f.said()),
        f.rule.id
    ))
    .with_hint(format!(
        "read it, then choose another commit, or add to [policy] of comfy.toml \
         `accept = [{{ node = \"{name}\", rule = \"{}\", path = {}, reason = \"why it is safe\" }}]` \
         and run the same command again; `comfy review {name}` accepts what comfy.lock pins",
        f.rule.id,
        toml::Value::String(f.path.clone())
    ))
}

/// The critical findings with their fingerprints.
pub(crate) fn critical_findings(report: &ScanReport) -> Vec<(&Finding, String)> {
    let prints = report.bindings();
    report
        .findings
        .iter()
        .zip(prints)
        .filter(|(f, _)| f.severity == Severity::Critical)
        .collect()
}

/// Whether an entry names a finding.
pub(crate) fn is_named(entry: &AcceptEntry, f: &Finding) -> bool {
    entry.rule == f.rule.id && entry.path == f.path
}

/// Binds an entry to the findings that it names now.
pub(crate) fn bind_entry(entry: &AcceptEntry, report: &ScanReport) -> AcceptedRecord {
    let prints = report.bindings();
    let named = report
        .findings
        .iter()
        .zip(prints)
        .filter(|(f, _)| is_named(entry, f));
    AcceptedRecord {
        entry: entry.clone(),
        fingerprints: named.map(|(_, print)| print).collect::<BTreeSet<_>>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::carrier::rules::START_HOOK;

    #[test]
    fn an_acceptance_ends_with_the_code_that_it_was_written_for() {
        let finding = |snippet: &str| Finding {
            severity: Severity::Critical,
            line: 1,
            snippet: snippet.into(),
            ..Finding::about_file(&START_HOOK, "a.pth", String::new())
        };
        let report = |snippet: &str| ScanReport {
            findings: vec![finding(snippet)],
            ..ScanReport::default()
        };
        let entry = AcceptEntry {
            node: "x".into(),
            rule: START_HOOK.id.into(),
            path: "a.pth".into(),
            reason: "I read it".into(),
        };
        let (old, new) = (report("import a"), report("import b"));
        let mut acceptances = Acceptances::default();
        let open = |report: &ScanReport, a: &Acceptances| {
            open_criticals("x", report, std::slice::from_ref(&entry), a).len()
        };
        assert_eq!(open(&old, &acceptances), 1, "`comfy lock` has not seen it");
        acceptances.accepted.push(bind_entry(&entry, &old));
        assert_eq!((open(&old, &acceptances), open(&new, &acceptances)), (0, 1));
        assert_eq!(
            open_criticals("y", &old, std::slice::from_ref(&entry), &acceptances).len(),
            1
        );
    }
}
