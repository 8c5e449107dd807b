//! A plan as people read it: Terraform's grammar.

use std::fmt::Write as _;

use super::{Paint, paint};
use crate::plan::model_summary::Library;
use crate::plan::observed::{Finding, What};
use crate::plan::{Action, Attrs, Change, Plan, Step};
use crate::text::{count, escape};

/// How much is shown.
pub struct Detail<'a> {
    pub verbose: bool,
    /// The unified diff of a file that drifted, where it can be made: address and path give the
    /// text.
    pub diff: &'a dyn Fn(&str, &str) -> Option<String>,
}

const FILES_SHOWN: usize = 8;

/// The whole plan.
pub fn plan(plan: &Plan, detail: &Detail) -> String {
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
                let _ = writeln!(out, "  {} {word}", colored(action, sign));
            }
        }
    }
    for c in wished {
        change(&mut out, c, detail);
    }
    if !drift.is_empty() {
        out.push_str("\nDrift: this machine moved away from what was applied.\n");
        for c in drift {
            change(&mut out, c, detail);
        }
    }
    for c in plan.blocked() {
        let _ = writeln!(
            out,
            "\n  {} {} is blocked\n    {}",
            paint("!", Paint::Red),
            paint(&format!("# {}", escape(&c.address)), Paint::Bold),
            escape(c.reason.as_deref().unwrap_or(""))
        );
    }
    let unknown: Vec<&Change> = plan.unknown().collect();
    if !unknown.is_empty() {
        let _ = writeln!(out, "\n{} could not be read:", unknown.len());
        for c in &unknown {
            let _ = writeln!(
                out,
                "  ? {}: {}",
                escape(&c.address),
                escape(c.reason.as_deref().unwrap_or(""))
            );
        }
    }
    for w in &plan.warnings {
        let _ = writeln!(out, "\n{} {}", paint("Warning:", Paint::Yellow), escape(w));
    }
    let mut fetch = Vec::new();
    if !plan.fetches.is_empty() {
        fetch.push(crate::text::count(plan.fetches.len(), "repository"));
    }
    if let Some(version) = &plan.interpreter {
        fetch.push(format!("CPython {version} (about 35 MB)"));
    }
    if plan.wheels.count > 0 {
        let (size, n) = (
            crate::text::bytes(plan.wheels.bytes),
            crate::text::count(plan.wheels.count, "Python package"),
        );
        let disk = crate::text::bytes(plan.wheels.disk());
        fetch.push(format!("{n} ({size}, about {disk} on the disk)"));
    }
    if plan.models.count > 0 {
        fetch.push(format!(
            "{} ({})",
            count(plan.models.count, "model"),
            crate::text::bytes(plan.models.bytes)
        ));
    }
    if !fetch.is_empty() {
        let _ = writeln!(
            out,
            "\nTo fetch, where the store lacks it: {} (checked against the free disk before the \
             first file is written).",
            fetch.join(", ")
        );
    }
    library(&mut out, &plan.library, detail.verbose);
    if !plan.not_enforced.is_empty() {
        out.push('\n');
    }
    for line in &plan.not_enforced {
        let _ = writeln!(
            out,
            "{}",
            paint(&format!("Note: {}", escape(line)), Paint::Dim)
        );
    }
    if !plan.not_enforced.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary(plan));
    out.push('\n');
    out
}

/// What is known of models beside differences, in a line each.
fn library(out: &mut String, l: &Library, verbose: bool) {
    if l.unmanaged > 0 {
        let size = crate::text::bytes(l.unmanaged_bytes);
        let _ = writeln!(
            out,
            "\n{} ({size}) that comfy.toml does not name: left alone; `comfy add model` takes them \
             in.",
            count(l.unmanaged, "model")
        );
        for name in l.names.iter().filter(|_| verbose) {
            let _ = writeln!(out, "  {}", escape(name));
        }
    }
    if l.unverified > 0 {
        let _ = writeln!(
            out,
            "\n{} of the right size, whose bytes nobody has compared since they changed: `comfy \
             verify` reads them.",
            count(l.unverified, "model")
        );
    }
}

/// `Plan: 3 to add, 1 to change, 0 to destroy.`, or that nothing is to do; with unknowns never the
/// latter.
pub fn summary(plan: &Plan) -> String {
    let (add, chg, destroy) = plan.counts();
    if add + chg + destroy == 0 && plan.steps.is_empty() && plan.blocked().next().is_none() {
        let unknown = plan.unknown().count();
        return match unknown {
            0 if plan.only.is_empty() => "No changes. This machine matches comfy.lock.".into(),
            0 => "No changes in what was selected.".into(),
            n => format!("No changes in what could be read; {n} could not be read."),
        };
    }
    let blocked = plan.blocked().count();
    let tail = if blocked > 0 {
        format!(" {blocked} blocked.")
    } else {
        String::new()
    };
    format!("Plan: {add} to add, {chg} to change, {destroy} to destroy.{tail}")
}

fn colored(action: Action, text: &str) -> String {
    let p = match action {
        Action::Create => Paint::Green,
        Action::Delete => Paint::Red,
        Action::Replace | Action::Blocked => Paint::Red,
        _ => Paint::Yellow,
    };
    paint(text, p)
}

fn change(out: &mut String, c: &Change, detail: &Detail) {
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
        paint(&format!("# {} {verb}", escape(&c.address)), Paint::Bold)
    );
    attributes(out, c, sign);
    if let Some(r) = &c.reason {
        let _ = writeln!(out, "    # {}", escape(r));
    }
    files(out, &c.address, &c.findings, detail, 6);
}

/// What is off in a part, file by file: a few of them, or all with their diffs.
pub fn files(
    out: &mut String,
    address: &str,
    findings: &[Finding],
    detail: &Detail,
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
            format!(" ({})", escape(&f.detail))
        };
        let _ = writeln!(out, "{:indent$}{}: {}{tail}", "", f.what.word(), f.path);
        if detail.verbose
            && f.what == What::Edited
            && let Some(d) = (detail.diff)(address, &f.path)
        {
            for line in d.lines() {
                let p = match line.as_bytes().first() {
                    Some(b'+') => Paint::Green,
                    Some(b'-') => Paint::Red,
                    _ => Paint::Dim,
                };
                let _ = writeln!(out, "{:indent$}  {}", "", paint(&escape(line), p));
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

fn attributes(out: &mut String, c: &Change, sign: &str) {
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
                format!("\"{}\"", escape(&brief(k, v)))
            })
        };
        let mark = colored(c.action, sign);
        let value = match c.action {
            Action::Create => show(a),
            Action::Delete => show(b),
            _ => format!("{} -> {}", show(b), show(a)),
        };
        let _ = writeln!(out, "    {mark} {:width$} = {value}", escape(k));
    }
}

/// Ids as git abbreviates them; the JSON has them whole.
fn brief(key: &str, value: &str) -> String {
    if (key == "commit" || key == "tree") && crate::manifest::names::is_commit(value) {
        crate::text::short(value).to_string()
    } else {
        value.to_string()
    }
}

/// What an apply did, in one line.
pub fn outcome(o: &crate::apply::session::Outcome, what: &str) -> String {
    format!(
        "{what} complete! {} added, {} changed, {} destroyed.",
        o.added, o.changed, o.destroyed
    )
}

/// The steps behind a plan, for `-v`.
pub fn steps(plan: &Plan) -> String {
    let mut out = format!("{}:\n", count(plan.steps.len(), "step"));
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
        let _ = writeln!(out, "  {} {name}{}", escape(&p.address), escape(&what));
    }
    out
}
