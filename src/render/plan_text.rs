//! The text of a plan, in Terraform's form.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{PaintStyle, paint};
use crate::lock::difference::CommitRange;
use crate::plan::model_summary::ModelSummary;
use crate::plan::observed::{DifferenceKind, TreeDifference};
use crate::plan::{Action, Attrs, Change, Plan, Step};
use crate::text::{count_of, escape_text};

/// How much of a plan is shown.
pub(crate) struct PlanDetail<'a> {
    pub verbose: bool,
    /// Returns the unified diff of a file that drifted, by address and path, if there can be one.
    pub diff: &'a dyn Fn(&str, &str) -> Option<String>,
    /// The commits that a part moves by, by address, as far as they are known.
    pub commits: &'a BTreeMap<String, CommitRange>,
    /// Returns what a part newly can do, by address, as far as its code was scanned.
    pub capabilities: &'a dyn Fn(&str) -> Vec<String>,
}

const FILES_SHOWN: usize = 8;

/// Returns the text of the whole plan.
pub(crate) fn plan_text(plan: &Plan, detail: &PlanDetail) -> String {
    let mut out = String::new();
    let all: Vec<&Change> = plan.changes.iter().filter(|c| c.is_difference()).collect();
    let acting: Vec<&&Change> = all
        .iter()
        .filter(|c| !matches!(c.action, Action::Unknown | Action::Blocked))
        .collect();
    let (drift, wished): (Vec<&&Change>, Vec<&&Change>) = acting.iter().partition(|c| c.drift);
    if !acting.is_empty() {
        out.push_str("comfy will perform the following actions:\n");
        for (action, sign, word) in [
            (Action::Create, "+", "create"),
            (Action::Update, "~", "update in place"),
            (Action::Replace, "-/+", "replace"),
            (Action::Delete, "-", "destroy"),
        ] {
            if acting.iter().any(|c| c.action == action) {
                let _ = writeln!(out, "  {} {word}", color_for_action(action, sign));
            }
        }
    }
    for c in wished {
        write_change(&mut out, c, detail);
    }
    if !drift.is_empty() {
        out.push_str("\nDrift: this machine has changed since the last apply.\n");
        for c in drift {
            write_change(&mut out, c, detail);
        }
    }
    for c in plan.blocked_changes() {
        let _ = writeln!(
            out,
            "\n  {} {} is blocked\n    {}",
            paint("!", PaintStyle::Red),
            paint(
                &format!("# {}", escape_text(&c.address.to_string())),
                PaintStyle::Bold
            ),
            escape_text(c.reason.as_deref().unwrap_or(""))
        );
    }
    let unknown: Vec<&Change> = plan.unknown_changes().collect();
    if !unknown.is_empty() {
        let _ = writeln!(out, "\n{} could not be read:", unknown.len());
        for c in &unknown {
            let _ = writeln!(
                out,
                "  ? {}: {}",
                escape_text(&c.address.to_string()),
                escape_text(c.reason.as_deref().unwrap_or(""))
            );
        }
    }
    for w in &plan.warnings {
        let _ = writeln!(
            out,
            "\n{} {}",
            paint("Warning:", PaintStyle::Yellow),
            escape_text(w)
        );
    }
    write_downloads(&mut out, plan);
    model_summary_line(&mut out, &plan.library, detail.verbose);
    if !plan.not_enforced.is_empty() {
        out.push('\n');
    }
    for line in &plan.not_enforced {
        let _ = writeln!(
            out,
            "{}",
            paint(&format!("Note: {}", escape_text(line)), PaintStyle::Dim)
        );
    }
    if !plan.not_enforced.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary_line(plan));
    out.push('\n');
    out
}

/// What has to be downloaded, in one line.
fn write_downloads(out: &mut String, plan: &Plan) {
    let mut fetch = Vec::new();
    if !plan.fetches.is_empty() {
        fetch.push(crate::text::count_of(plan.fetches.len(), "repository"));
    }
    if let Some(version) = &plan.interpreter {
        fetch.push(format!("CPython {version} (about 35 MB)"));
    }
    if plan.wheels.count > 0 {
        let (size, n) = (
            crate::text::format_bytes(plan.wheels.bytes),
            crate::text::count_of(plan.wheels.count, "Python package"),
        );
        let disk = crate::text::format_bytes(plan.wheels.disk_space());
        fetch.push(format!("{n} ({size}, about {disk} on the disk)"));
    }
    if plan.models.count > 0 {
        fetch.push(format!(
            "{} ({})",
            count_of(plan.models.count, "model"),
            crate::text::format_bytes(plan.models.bytes)
        ));
    }
    if !fetch.is_empty() {
        let _ = writeln!(
            out,
            "\nWill download {} unless cached. Free disk space is checked first.",
            fetch.join(", ")
        );
    }
}

/// Writes a line each about models that comfy.toml does not declare and models that are not
/// verified.
fn model_summary_line(out: &mut String, l: &ModelSummary, verbose: bool) {
    if l.unmanaged > 0 {
        let size = crate::text::format_bytes(l.unmanaged_bytes);
        let _ = writeln!(
            out,
            "\n{} ({size}) not declared in comfy.toml: left alone; `comfy add model` adopts them.",
            count_of(l.unmanaged, "model")
        );
        for name in l.names.iter().filter(|_| verbose) {
            let _ = writeln!(out, "  {}", escape_text(name));
        }
    }
    if l.unverified > 0 {
        let _ = writeln!(
            out,
            "\n{} of the right size not verified since the last change; `comfy apply` and `comfy \
             verify` read them.",
            count_of(l.unverified, "model")
        );
    }
}

/// Returns `Plan: 3 to add, 1 to change, 0 to destroy.`, or that there are no changes; never the
/// latter if something is unknown.
pub(crate) fn summary_line(plan: &Plan) -> String {
    let (add, chg, destroy) = plan.action_counts();
    if add + chg + destroy == 0 && plan.steps.is_empty() && plan.blocked_changes().next().is_none()
    {
        let unknown = plan.unknown_changes().count();
        return match unknown {
            0 if plan.library.unverified > 0 => "No changes in what was compared.".into(),
            0 if plan.only.is_empty() => "No changes. This machine matches comfy.lock.".into(),
            0 => "No changes in what was selected.".into(),
            n => format!("No changes in what could be read; {n} could not be read."),
        };
    }
    let blocked = plan.blocked_changes().count();
    let tail = if blocked > 0 {
        format!(" {blocked} blocked.")
    } else {
        String::new()
    };
    format!("Plan: {add} to add, {chg} to change, {destroy} to destroy.{tail}")
}

fn color_for_action(action: Action, text: &str) -> String {
    let p = match action {
        Action::Create => PaintStyle::Green,
        Action::Delete => PaintStyle::Red,
        Action::Replace | Action::Blocked => PaintStyle::Red,
        _ => PaintStyle::Yellow,
    };
    paint(text, p)
}

fn write_change(out: &mut String, c: &Change, detail: &PlanDetail) {
    let (sign, verb) = match c.action {
        Action::Create => ("+", "will be created"),
        Action::Update => ("~", "will be updated"),
        Action::Replace => ("-/+", "will be replaced"),
        Action::Delete => ("-", "will be destroyed"),
        _ => return,
    };
    let _ = writeln!(
        out,
        "\n  {}",
        paint(
            &format!("# {} {verb}", escape_text(&c.address.to_string())),
            PaintStyle::Bold
        )
    );
    write_attributes(out, c, sign);
    if detail.verbose
        && let Some(range) = detail.commits.get(&c.address.to_string())
    {
        let _ = writeln!(out, "    # {}:", count_of(range.count, "commit"));
        for line in range.lines() {
            let _ = writeln!(out, "    #   {line}");
        }
    }
    for line in (detail.capabilities)(&c.address.to_string()) {
        let _ = writeln!(out, "    # {}", escape_text(&line));
    }
    if let Some(r) = &c.reason {
        let _ = writeln!(out, "    # {}", escape_text(r));
    }
    write_files(out, &c.address.to_string(), &c.findings, detail, 6);
}

/// Writes which files of a part differ: a few of them, or all with their diffs.
pub(crate) fn write_files(
    out: &mut String,
    address: &str,
    findings: &[TreeDifference],
    detail: &PlanDetail,
    indent: usize,
) {
    let shown = if detail.verbose {
        findings.len()
    } else {
        FILES_SHOWN
    };
    for f in findings.iter().take(shown) {
        let tail = if f.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", escape_text(&f.detail))
        };
        let _ = writeln!(out, "{:indent$}{}: {}{tail}", "", f.what.word(), f.path);
        if detail.verbose
            && f.what == DifferenceKind::Edited
            && let Some(d) = (detail.diff)(address, &f.path)
        {
            for line in d.lines() {
                let p = match line.as_bytes().first() {
                    Some(b'+') => PaintStyle::Green,
                    Some(b'-') => PaintStyle::Red,
                    _ => PaintStyle::Dim,
                };
                let _ = writeln!(out, "{:indent$}  {}", "", paint(&escape_text(line), p));
            }
        }
    }
    if findings.len() > shown {
        let _ = writeln!(
            out,
            "{:indent$}and {} more (-v shows them)",
            "",
            findings.len() - shown
        );
    }
}

fn write_attributes(out: &mut String, c: &Change, sign: &str) {
    let empty = Attrs::new();
    let (before, after) = (
        c.before.as_ref().unwrap_or(&empty),
        c.after.as_ref().unwrap_or(&empty),
    );
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let width = keys
        .iter()
        .filter(|k| before.get(**k) != after.get(**k))
        .map(|k| k.chars().count())
        .max()
        .unwrap_or(0);
    for k in keys {
        let (b, a) = (before.get(k), after.get(k));
        if b == a {
            continue;
        }
        let show = |v: Option<&String>| {
            v.map_or("(none)".to_string(), |v| {
                format!("\"{}\"", escape_text(&short_value(k, v)))
            })
        };
        let mark = color_for_action(c.action, sign);
        let value = match c.action {
            Action::Create => show(a),
            Action::Delete => show(b),
            _ => format!("{} -> {}", show(b), show(a)),
        };
        let _ = writeln!(out, "    {mark} {:width$} = {value}", escape_text(k));
    }
}

/// Abbreviates ids as git does; the JSON has them in full.
fn short_value(key: &str, value: &str) -> String {
    if (key == "commit" || key == "tree") && crate::manifest::names::is_commit(value) {
        crate::text::short_commit(value).to_string()
    } else {
        value.to_string()
    }
}

/// Returns what an apply did, in one line.
pub(crate) fn outcome_line(o: &crate::plan::change::ApplyOutcome, what: &str) -> String {
    format!(
        "{what} complete! {} added, {} changed, {} destroyed.",
        o.added, o.changed, o.destroyed
    )
}

/// Returns the steps of a plan, for `-v`.
pub(crate) fn steps_text(plan: &Plan) -> String {
    let mut out = format!("{}:\n", count_of(plan.steps.len(), "step"));
    for p in &plan.steps {
        let name = serde_json::to_value(&p.step)
            .ok()
            .and_then(|v| v.as_object().and_then(|o| o.keys().next().cloned()))
            .unwrap_or_default();
        let what = match &p.step {
            Step::MakeDir { path, .. } | Step::SetLink { path, .. } => {
                format!(" {}", path.display())
            }
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "  {} {name}{}",
            escape_text(&p.address.to_string()),
            escape_text(&what)
        );
    }
    out
}
