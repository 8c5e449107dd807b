//! The scan of pins as `lock` and `update` move them.

use std::collections::{BTreeMap, BTreeSet};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::host::scan::pins::PinScanner;
use crate::lock::difference::LockDifference;
use crate::lock::reviews::AcceptedRecord;
use crate::lock::{Lock, RepositoryPin, part_address};
use crate::manifest::{MODELS, PolicySettings, ScanPolicy};
use crate::problem::{Problem, Result};
use crate::scan::acceptance;
use crate::scan::capabilities::Capabilities;
use crate::scan::finding::Severity;
use crate::scan::report::ScanReport;

/// What the scan of a new lock says.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct LockScan {
    /// By part: what it newly can do, and what was found.
    pub lines: BTreeMap<String, Vec<String>>,
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// What an entry of `policy.accept` is bound to from now on.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// The name of a part as reviews have it, and its pin.
pub(crate) fn named_pins(lock: &Lock) -> BTreeMap<String, &RepositoryPin> {
    let nodes = lock.nodes.iter().map(|(name, pin)| (name.clone(), pin));
    std::iter::once(("comfyui".to_string(), &lock.comfyui))
        .chain(nodes)
        .collect()
}

/// Scans what moved in `new`, and binds the entries of `policy.accept` that are new to what they
/// name. Under `scan = "block"` every part is looked at.
///
/// # Errors
/// Ctrl-C. Under "block": a critical finding that nobody has accepted, or a part that cannot be
/// scanned.
pub(crate) fn scan_lock(
    policy: &PolicySettings,
    (old, new): (Option<&Lock>, &mut Lock),
    moved: &LockDifference,
    scanner: &PinScanner<'_>,
) -> Result<LockScan> {
    let mut out = LockScan::default();
    if policy.scan == ScanPolicy::Off {
        return Ok(out);
    }
    let blocks = policy.scan == ScanPolicy::Block;
    let unbound = policy
        .accept
        .iter()
        .filter(|e| new.acceptances.bound_to(e).is_none());
    let mut wanted: BTreeSet<String> = unbound.map(|e| e.node.clone()).collect();
    let is_there = |p: &&crate::lock::difference::PinChange| p.to.is_some();
    let moved_names = moved.pins.iter().filter(is_there).map(|p| p.name.clone());
    wanted.extend(moved_names);
    if blocks {
        wanted.extend(named_pins(new).into_keys());
    }
    let pins: Vec<(String, &RepositoryPin)> = named_pins(new)
        .into_iter()
        .filter(|(name, _)| wanted.contains(name))
        .collect();
    let reports: Vec<(String, Result<ScanReport>)> = pins
        .par_iter()
        .map(|(name, pin)| (name.clone(), scanner.report_of(pin)))
        .collect();
    let mut known: BTreeMap<String, ScanReport> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, result) in reports {
        let prefix = format!("{}: ", part_address(&name));
        match result {
            Ok(report) => drop(known.insert(name, report)),
            Err(p) if p.is_interrupted() => return Err(p),
            Err(p) if blocks => problems.push(p.with_prefix(&prefix)),
            Err(p) => out
                .warnings
                .push(format!("{prefix}it was not scanned: {}", p.message)),
        }
    }
    bind_entries(policy, new, &known, &mut out);
    for (name, report) in &known {
        let open = acceptance::open_criticals(name, report, &policy.accept, &new.acceptances);
        if blocks {
            let address = part_address(name);
            let moved = moved.pins.iter().find(|p| p.name == *name);
            let moved = moved
                .filter(|p| p.from.is_some())
                .and(named_pins(new).get(name).copied());
            problems.extend(open.iter().map(|(f, _)| {
                let p = acceptance::open_problem(&address, f);
                match moved {
                    Some(pin) if pin.source().is_repository() => p.with_hint(format!(
                        "`comfy review {name} --commit {}` shows what it would change",
                        pin.commit
                    )),
                    _ => p,
                }
            }));
        }
        if let Some(change) = moved.pins.iter().find(|p| p.name == *name) {
            let before = change
                .from
                .and_then(|_| named_pins(old?).get(name).copied())
                .and_then(|pin| scanner.report_at_hand(pin));
            out.lines
                .insert(name.clone(), lines_of(report, before.as_ref()));
        }
    }
    if problems.is_empty() {
        Ok(out)
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Entries that comfy.lock does not know yet are bound to the findings that they name.
fn bind_entries(
    policy: &PolicySettings,
    new: &mut Lock,
    known: &BTreeMap<String, ScanReport>,
    LockScan {
        warnings, notes, ..
    }: &mut LockScan,
) {
    for entry in &policy.accept {
        if new.acceptances.bound_to(entry).is_some() {
            continue;
        }
        let bound = match known.get(&entry.node) {
            _ if entry.node == MODELS => AcceptedRecord {
                entry: entry.clone(),
                fingerprints: new
                    .models
                    .get(&*entry.path)
                    .map(|pin| pin.sha256.fingerprint())
                    .into_iter()
                    .collect(),
            },
            Some(report) => acceptance::bind_entry(entry, report),
            None => continue,
        };
        if bound.fingerprints.is_empty() {
            let what = match &*entry.node {
                MODELS => format!("comfy.lock has no model {}", entry.path),
                node => format!(
                    "{} has no finding {} in {} here",
                    part_address(node),
                    entry.rule,
                    entry.path
                ),
            };
            // It is bound once it names something.
            warnings.push(format!("policy.accept: {what}"));
            continue;
        }
        let named = known.get(&entry.node).map(|report| &report.findings);
        for f in named
            .into_iter()
            .flatten()
            .filter(|f| acceptance::is_named(entry, f))
        {
            notes.push(format!(
                "policy.accept: accepted {}: {}:{}: {}",
                part_address(&entry.node),
                f.path,
                f.line,
                f.message
            ));
        }
        new.acceptances.accepted.push(bound);
    }
    let key = |e: &crate::manifest::AcceptEntry| {
        (
            e.node.clone(),
            e.rule.clone(),
            e.path.clone(),
            e.reason.clone(),
        )
    };
    new.acceptances
        .accepted
        .sort_by_cached_key(|a| key(&a.entry));
}

/// Capabilities first, then the sums. Of a part that is new, the sums alone, and nothing where all
/// is of low severity.
fn lines_of(report: &ScanReport, before: Option<&ScanReport>) -> Vec<String> {
    let matters = |r: &ScanReport| r.worst() > Some(Severity::Low);
    let Some(before) = before else {
        let sums = matters(report).then(|| format!("scan: {}", report.counts_text()));
        return sums.into_iter().collect();
    };
    let (then, now) = (
        Capabilities::of_report(before),
        Capabilities::of_report(report),
    );
    let mut lines = now.lines_since(&then);
    let new = findings_since(report, before);
    if matters(&new) {
        lines.push(format!("new findings: {}", new.counts_text()));
    }
    lines
}

/// The findings whose code an older report did not have.
pub(crate) fn findings_since(report: &ScanReport, before: &ScanReport) -> ScanReport {
    let known: BTreeSet<String> = before.fingerprints().into_iter().collect();
    let prints = report.fingerprints();
    let new = report.findings.iter().zip(prints);
    ScanReport {
        findings: new
            .filter(|(_, print)| !known.contains(print))
            .map(|(f, _)| f.clone())
            .collect(),
        verdicts: Vec::new(),
        files: report.files,
    }
}
