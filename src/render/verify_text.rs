//! The output of `verify`: a line for each part that comfy.lock pins, and how it differs.

use std::fmt::Write as _;

use super::plan_text::{PlanDetail, write_files};
use super::{PaintStyle, paint};
use crate::ids::Address;
use crate::plan::observed::TreeDifference;
use crate::plan::{Action, Attrs, Change, Plan};
use crate::text::{escape_text, short_commit};

/// One pinned part, and whether it matches its pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinVerdict {
    pub address: Address,
    pub good: bool,
    /// What the part is, or how it differs.
    pub what: String,
    pub findings: Vec<TreeDifference>,
}

/// Returns the verdicts of everything in `plan` that comfy.lock pins by content.
pub(crate) fn verdicts_of(plan: &Plan) -> Vec<PinVerdict> {
    let pinned = |a: &Address| a.is_code() || a.is_model();
    let mut out: Vec<PinVerdict> = plan
        .changes
        .iter()
        .filter(|c| pinned(&c.address))
        .map(verdict_of)
        .collect();
    // All models together are one line; each model that differs has its own.
    let l = &plan.library;
    let off = out
        .iter()
        .filter(|v| v.address.is_model() && !v.good)
        .count();
    if l.declared > 0 {
        let (good, all) = (
            l.declared - off - l.skipped - l.unverified,
            crate::text::count_of(l.declared, "file"),
        );
        let mut what = if good == l.declared {
            format!("{all} as locked")
        } else {
            format!("{good} of {all} as locked")
        };
        if l.unverified > 0 {
            let _ = write!(what, ", and {} could not be read", l.unverified);
        }
        out.push(PinVerdict {
            address: Address::Models,
            good: good == l.declared,
            what,
            findings: Vec::new(),
        });
    }
    out
}

fn verdict_of(c: &Change) -> PinVerdict {
    let good = c.action == Action::None;
    let what = match (c.action, &c.before, &c.after) {
        (Action::None, _, Some(a)) => describe_attributes(a),
        (Action::Unknown | Action::Blocked, ..) => c.reason.clone().unwrap_or_default(),
        (_, None, Some(_)) => "is not on this machine; `comfy apply` installs it".into(),
        (_, Some(_), None) => "is on this machine, but comfy.lock does not pin it".into(),
        (_, Some(b), Some(a)) => attribute_differences(b, a),
        _ => c.reason.clone().unwrap_or_default(),
    };
    // The time of the change is most of what can be known about a changed model.
    let what = match &c.reason {
        Some(r) if c.action == Action::Update && c.address.is_model() => {
            format!("{what}; {r}")
        }
        _ => what,
    };
    let what = if what.is_empty() {
        c.reason.clone().unwrap_or_else(|| "differs".into())
    } else {
        what
    };
    PinVerdict {
        address: c.address.clone(),
        good,
        what,
        findings: c.findings.clone(),
    }
}

fn describe_attributes(a: &Attrs) -> String {
    let field = |k: &str| a.get(k).map(String::as_str);
    match (field("commit"), field("packages"), field("interpreter")) {
        (Some(commit), ..) => format!("commit {}", short_commit(commit)),
        (_, Some(n), Some(i)) => format!(
            "{}, {i}",
            n.parse()
                .map_or_else(|_| n.to_string(), |n| crate::text::count_of(n, "package"))
        ),
        _ => "as locked".into(),
    }
}

fn attribute_differences(before: &Attrs, after: &Attrs) -> String {
    let brief = |v: &str| {
        if crate::manifest::names::is_commit(v) {
            short_commit(v).to_string()
        } else {
            v.to_string()
        }
    };
    let mut out: Vec<String> = Vec::new();
    for (k, want) in after.iter().filter(|(k, v)| before.get(*k) != Some(v)) {
        let is = before.get(k).map_or("none".into(), |v| brief(v));
        out.push(if k == "content" || k == "custom_nodes" {
            is
        } else {
            format!("{k} is {is}, locked is {}", brief(want))
        });
    }
    out.join("; ")
}

/// Returns the text of all verdicts, with at most a few files each unless more is asked for.
pub(crate) fn verdicts_text(verdicts: &[PinVerdict], detail: &PlanDetail) -> String {
    let width = verdicts
        .iter()
        .map(|v| v.address.to_string().chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for v in verdicts {
        let word = if v.good {
            paint("ok     ", PaintStyle::Green)
        } else {
            paint("differs", PaintStyle::Red)
        };
        let _ = writeln!(
            out,
            "{word} {:width$}  {}",
            escape_text(&v.address.to_string()),
            escape_text(&v.what)
        );
        write_files(&mut out, &v.address.to_string(), &v.findings, detail, 10);
    }
    out
}
