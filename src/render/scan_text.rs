//! What a scan found, for people: each node with its findings, the worst first.

use super::{PaintStyle, paint};
use crate::scan::finding::{Finding, Severity, Verdict};
use crate::scan::report::ScanReport;
use crate::text::{count_of, escape_text};

/// One node, or one folder, with what was found in it.
pub(crate) struct ScanGroup<'a> {
    pub name: &'a str,
    pub report: &'a ScanReport,
}

/// The findings of all groups, then one line of sums. Those of low severity are counted, and shown
/// with `verbose`.
pub(crate) fn groups_text(groups: &[ScanGroup<'_>], verbose: bool) -> String {
    let mut out = String::new();
    let mut order: Vec<&ScanGroup<'_>> = groups.iter().collect();
    order.sort_by_key(|g| (std::cmp::Reverse(g.report.worst()), g.name));
    for group in order {
        let shown: Vec<&Finding> = group
            .report
            .findings
            .iter()
            .filter(|f| verbose || f.severity > Severity::Low)
            .collect();
        if shown.is_empty() {
            continue;
        }
        let name = escape_text(group.name);
        out += &format!(
            "{}: {}\n",
            paint(&name, PaintStyle::Bold),
            group.report.counts_text()
        );
        for f in shown {
            out += &finding_text(f);
        }
        out.push('\n');
    }
    out + &summary_text(groups, verbose)
}

fn finding_text(f: &Finding) -> String {
    let place = if f.line > 0 {
        format!("{}:{}:{}", escape_text(&f.path), f.line, f.column)
    } else if f.path.is_empty() {
        "all of it".into()
    } else {
        escape_text(&f.path)
    };
    let intent = f.intent.map_or(String::new(), |i| format!(", {i}"));
    let mut text = format!(
        "  {} {place}: {} ({}{intent})\n",
        severity_word(f.severity),
        escape_text(f.said().trim_end_matches('.')),
        f.rule.id
    );
    if !f.snippet.is_empty() {
        let line: String = escape_text(f.snippet.trim()).chars().take(100).collect();
        text += &format!(
            "           {}\n",
            paint(&format!("| {line}"), PaintStyle::Dim)
        );
    }
    for step in &f.steps {
        text += &format!(
            "           {}:{}: {}\n",
            escape_text(&step.path),
            step.line,
            escape_text(&step.message)
        );
    }
    text
}

fn severity_word(severity: Severity) -> String {
    let word = format!("{severity:<8}");
    match severity {
        Severity::Critical | Severity::High => paint(&word, PaintStyle::Red),
        Severity::Medium => paint(&word, PaintStyle::Yellow),
        Severity::Low => word,
    }
}

fn summary_text(groups: &[ScanGroup<'_>], verbose: bool) -> String {
    let mut all = ScanReport::default();
    groups.iter().for_each(|g| all.extend(g.report.clone()));
    let mut text = format!(
        "Scanned {}{}: {}.",
        count_of(all.files, "file"),
        match groups.len() {
            0 | 1 => String::new(),
            n => format!(" in {}", count_of(n, "part")),
        },
        all.counts_text()
    );
    let low = all.counts().last().map_or(0, |(_, n)| *n);
    if low > 0 && !verbose {
        text += " Those of low severity are shown with -v.";
    }
    if !all.verdicts.is_empty() {
        let of = |v: Verdict| format!("{} {v}", all.verdict_count(v));
        text += &format!(
            "\n{}: {}, {}, {}.",
            count_of(all.verdicts.len(), "model file"),
            of(Verdict::Safe),
            of(Verdict::Review),
            of(Verdict::Hostile)
        );
    }
    text
}
