//! Python packages for what all parts ask.

use std::collections::{BTreeMap, BTreeSet};

use super::{PackageMoved, UpdatePolicy};
use crate::lock::python::{self, PackageResolver};
use crate::lock::uv::request::{self, PackageUpdates};
use crate::lock::uv::response;
use crate::lock::{Lock, LockedPython, PartRequirements};
use crate::manifest::Manifest;
use crate::problem::Result;
use crate::progress::Reporter;

/// The packages that are asked for: the locked ones where nothing was asked anew, else uv's answer.
pub(super) fn resolve_packages(
    manifest: &Manifest,
    asks: &BTreeMap<String, PartRequirements>,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    uv: &dyn PackageResolver,
    report: &dyn Reporter,
) -> Result<(LockedPython, Vec<String>)> {
    let m = &manifest.python;
    let fresh = LockedPython::from_manifest(m);
    let before = old.and_then(|l| l.python.as_ref());
    let names: BTreeSet<String> = match mode {
        UpdatePolicy::Keep => BTreeSet::new(),
        UpdatePolicy::Move(names) => names
            .iter()
            .map(|n| python::normalize_name(n))
            .filter(|n| before.is_some_and(|p| p.packages.iter().any(|k| k.name == *n)))
            .collect(),
    };
    let moving = match mode {
        UpdatePolicy::Move(all) if all.is_empty() || all.iter().any(|n| n == "python") => {
            PackageUpdates::All
        }
        _ if names.is_empty() => PackageUpdates::None,
        _ => PackageUpdates::Only(&names),
    };
    let effective = |asks: &BTreeMap<String, PartRequirements>| -> BTreeMap<String, Vec<String>> {
        let texts = |a: &PartRequirements| {
            a.effective_lines()
                .map(|l| l.text.clone())
                .collect::<Vec<_>>()
        };
        asks.iter()
            .map(|(part, a)| (part.clone(), texts(a)))
            .filter(|(_, t)| !t.is_empty())
            .collect()
    };
    let wanted = effective(asks);
    if wanted.is_empty() && m.requirements.is_empty() {
        return Ok((fresh, Vec::new()));
    }
    // It stays like any pin. A lock of an older comfy gets one; where there is no uv, it stays
    // without.
    let kept = before
        .filter(|p| p.version == m.version && !matches!(moving, PackageUpdates::All))
        .and_then(|p| p.managed.clone());
    if let (Some(locked), Some(lock), PackageUpdates::None) = (before, old, moving)
        && (LockedPython {
            packages: Vec::new(),
            managed: None,
            ..locked.clone()
        }) == fresh
        && effective(&lock.asks) == wanted
    {
        let managed = kept.or_else(|| uv.newest_release(&m.version).unwrap_or(None));
        return Ok((
            LockedPython {
                managed,
                ..locked.clone()
            },
            Vec::new(),
        ));
    }
    // Without an age nothing is compared, so that an index that tells no times serves too.
    let newest = (!m.minimum_age.is_zero()).then(|| chrono::Utc::now() - m.minimum_age);
    let mut workspace = request::build_workspace(manifest, asks, before, moving, newest)?;
    let job = report.start_job("python");
    let mut solved = uv.solve_workspace(&workspace, job.as_ref());
    if let Err(p) = &solved {
        workspace.untimed = response::without_upload_time(p, &m.indexes);
        if !workspace.untimed.is_empty() {
            solved = uv.solve_workspace(&workspace, job.as_ref());
        }
    }
    let solved =
        solved.map_err(|p| response::explain_no_solution(p, &workspace, asks, manifest))?;
    let packages = response::read_packages(&solved, &workspace, &m.indexes)?;
    let mut remarks = response::resolution_warnings(&packages, asks, &m.overrides);
    remarks.extend(workspace.untimed.iter().map(|p| {
        format!(
            "{p}: its index in `indexes` tells no times, so that minimum_age does not hold for it"
        )
    }));
    for (part, a) in asks {
        remarks.extend(a.unmatched_ignores().map(|i| {
            format!(
                "{part}: ignore_requirements names `{}`, which its requirements do not have",
                crate::text::escape_text(i)
            )
        }));
    }
    let managed = match kept {
        Some(m) => Some(m),
        None => uv.newest_release(&m.version)?,
    };
    Ok((
        LockedPython {
            packages,
            managed,
            ..fresh
        },
        remarks,
    ))
}

pub(super) fn package_changes(
    before: Option<&LockedPython>,
    after: &LockedPython,
) -> Vec<PackageMoved> {
    let versions = |p: &LockedPython| -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> = BTreeMap::new();
        for k in &p.packages {
            let all = out.entry(k.name.clone()).or_default();
            *all = if all.is_empty() {
                k.version.clone()
            } else {
                format!("{all} and {}", k.version)
            };
        }
        out
    };
    let (before, after) = (before.map(versions).unwrap_or_default(), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let moved = |n: &&&String| before.get(**n) != after.get(**n);
    names
        .iter()
        .filter(moved)
        .map(|n| PackageMoved {
            name: (*n).clone(),
            from: before.get(*n).cloned(),
            to: after.get(*n).cloned(),
        })
        .collect()
}
