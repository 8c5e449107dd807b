//! `comfy audit --sources`: whether the Python of packages is in the repositories that they name.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::audit_pins::with_threads;
use crate::advisory::finding::{AuditFinding, FindingKind, Subject};
use crate::host::build::venv::provenance::{PublisherClient, PublisherQuery};
use crate::host::env;
use crate::host::git::GitStore;
use crate::host::wheel_sources::{ComparedWheel, compare_wheel};
use crate::lock::python::{LockedPackage, LockedWheel, normalize_name};
use crate::lock::{Lock, LockedPython};
use crate::problem::{Problem, Result};
use crate::project::{self, ComfyProject};
use crate::scan::finding::Severity;
use crate::text::{count_of, did_you_mean, escape_text};

/// All packages together may take so long.
const LIMIT: Duration = Duration::from_secs(600);
/// So many packages are named in a note of those that could not be compared.
const NAMED: usize = 8;

/// What came of it.
pub(super) struct ComparedSources {
    pub findings: Vec<AuditFinding>,
    /// The number of packages whose wheels were compared.
    pub compared: usize,
    pub notes: Vec<String>,
}

/// Compares the packages with these names, or all.
///
/// # Errors
/// comfy.lock has no package of a name; Ctrl-C.
pub(super) fn compare_sources(
    project: &ComfyProject,
    lock: &Lock,
    names: &[String],
) -> Result<ComparedSources> {
    let mut out = ComparedSources {
        findings: Vec::new(),
        compared: 0,
        notes: Vec::new(),
    };
    let Some(python) = &lock.python else {
        return Ok(out);
    };
    let packages = chosen_packages(python, names)?;
    let net = env::net_env()?;
    let git = project::git_store(project, false)?;
    let client = PublisherClient::new(&net, Instant::now() + LIMIT);
    let found: Vec<_> = with_threads(|| {
        let packages = packages.par_iter();
        let compare = |package| compare_package(&client, &git, python, package);
        packages.copied().map(compare).collect()
    });
    if crate::host::signals::is_interrupted() {
        return Err(Problem::interrupted());
    }
    let mut refused: Vec<(String, &str)> = Vec::new();
    for (package, found) in packages.into_iter().zip(found) {
        match found {
            Ok((wheel, compared)) => {
                out.compared += 1;
                out.findings.extend(finding_of(package, wheel, &compared));
            }
            Err(why) => refused.push((why, &package.name)),
        }
    }
    out.notes = notes_of(refused);
    Ok(out)
}

fn chosen_packages<'a>(
    python: &'a LockedPython,
    names: &[String],
) -> Result<Vec<&'a LockedPackage>> {
    let wanted: Vec<String> = names.iter().map(|n| normalize_name(n)).collect();
    for (name, given) in wanted.iter().zip(names) {
        if !python.packages.iter().any(|p| p.name == *name) {
            let p = Problem::new(format!(
                "comfy.lock has no package `{}`",
                escape_text(given)
            ));
            let known = python.packages.iter().map(|p| p.name.as_str());
            return Err(match did_you_mean(name, known) {
                Some(known) => p.with_hint(format!("did you mean `{known}`?")),
                None => p.with_hint("`comfy list packages` shows those that it has"),
            });
        }
    }
    let packages = python.packages.iter();
    let is_wanted = |p: &&LockedPackage| wanted.is_empty() || wanted.contains(&p.name);
    Ok(packages.filter(is_wanted).collect())
}

/// Compares one wheel of a package, the one for all machines if there is one; returns its file name.
fn compare_package<'a>(
    client: &PublisherClient,
    git: &GitStore,
    python: &LockedPython,
    package: &'a LockedPackage,
) -> Result<(&'a str, ComparedWheel), String> {
    let for_all = |w: &&LockedWheel| w.file.ends_with("-none-any.whl");
    let wheels = &package.wheels;
    let wheel = wheels.iter().find(for_all).or(wheels.first());
    let wheel = wheel.ok_or("comfy.lock has no wheel of it")?;
    let query = PublisherQuery::of_locked(package, python);
    let compared = compare_wheel(client, git, &query, package, wheel)?;
    Ok((&wheel.file, compared))
}

fn finding_of(
    package: &LockedPackage,
    wheel: &str,
    compared: &ComparedWheel,
) -> Option<AuditFinding> {
    let difference = &compared.difference;
    if difference.is_empty() {
        return None;
    }
    let severity = match difference.is_generated() {
        true => Severity::Low,
        false => Severity::Medium,
    };
    Some(AuditFinding::without_id(
        Subject::package(&package.name, &package.version),
        (FindingKind::Source, severity),
        difference.text(wheel, &compared.repo, &compared.tag),
    ))
}

/// One note for each reason.
fn notes_of(refused: Vec<(String, &str)>) -> Vec<String> {
    let mut by_reason: Vec<(String, Vec<&str>)> = Vec::new();
    for (why, name) in refused {
        match by_reason.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((why, vec![name])),
        }
    }
    let note = |(why, names): (String, Vec<&str>)| {
        let mut shown = names[..names.len().min(NAMED)].join(", ");
        if names.len() > NAMED {
            shown += &format!(" and {}", count_of(names.len() - NAMED, "other"));
        }
        format!(
            "not compared with a repository: {shown}: {}",
            escape_text(&why)
        )
    };
    by_reason.into_iter().map(note).collect()
}
