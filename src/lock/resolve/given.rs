//! Filling a lock with pins that come from outside: those of an installation or of a snapshot. What
//! cannot be had is told and left out, since the rest is worth having.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::models::resolve_each;
use super::packages::resolve_packages;
use super::parts::{CollectedParts, ResolvedPart, resolve_repositories};
use super::{Resolvers, UpdatePolicy};
use crate::lock::reviews::Acceptances;
use crate::lock::{Lock, PartRequirements};
use crate::manifest::Manifest;
use crate::problem::{Problem, ProblemKind, Result};
use crate::progress::Reporter;
use crate::tree::ObjectId;

/// Pins from outside.
#[derive(Debug, Default)]
pub(crate) struct GivenPins {
    /// The commits of nodes by name, and that of `comfyui`; a repository without one is asked for
    /// its ref.
    pub commits: BTreeMap<String, ObjectId>,
    /// The versions of Python packages by normalised name, which are preferred where they fit.
    pub packages: BTreeMap<String, String>,
    /// Newer releases of packages are not taken.
    pub released_before: Option<DateTime<Utc>>,
}

/// What has to be in comfy.toml, so that the packages of the given pins can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackageSettings {
    pub requirements: Vec<String>,
    pub overrides: Vec<String>,
    /// `ignore_requirements` of nodes.
    pub ignored: BTreeMap<String, Vec<String>>,
    /// Why.
    pub told: Vec<String>,
}

/// A lock with what could be had of the given pins.
pub(crate) struct GivenLock {
    pub lock: Lock,
    /// Nodes that could not be had; they are not in the lock.
    pub refused_nodes: Vec<(String, Problem)>,
    /// Models that could not be had, by their path.
    pub refused_models: Vec<(String, Problem)>,
    /// Why no Python package is locked.
    pub refused_packages: Option<Problem>,
    /// Where no versions were given: when the newest commit was made, whose packages these are.
    pub packages_as_of: Option<DateTime<Utc>>,
    pub settings: Option<PackageSettings>,
    pub remarks: Vec<String>,
}

/// Makes the lock of a manifest at given pins.
///
/// # Errors
/// ComfyUI itself cannot be had, the package index does not answer, or the user interrupts it.
pub(crate) fn resolve_given(
    manifest: &Manifest,
    given: &GivenPins,
    ask: &Resolvers,
    report: &dyn Reporter,
) -> Result<GivenLock> {
    let mode = UpdatePolicy::At(given);
    let found = resolve_repositories(manifest, None, &mode, ask.repos, report);
    let names = ["comfyui"]
        .into_iter()
        .chain(manifest.nodes.keys().map(String::as_str));
    let (mut parts, mut refused_nodes) = (CollectedParts::default(), Vec::new());
    for (name, part) in names.zip(found) {
        match part {
            Ok(ResolvedPart {
                name, pin, seen, ..
            }) => parts.take(manifest, None, (name, pin, seen)),
            Err(p) if p.is_interrupted() || name == "comfyui" => return Err(p),
            Err(p) => refused_nodes.push((name.to_string(), p)),
        }
    }
    let comfyui = parts.take_core()?;
    let CollectedParts {
        pins,
        mut asks,
        facts,
        newest_commit,
    } = parts;
    let mut remarks = super::node_remarks(manifest, &comfyui, &facts, ask.repos, report);
    let (mut python, mut settings, mut refused_packages) = (None, None, None);
    let lock_packages =
        |mode: &UpdatePolicy| resolve_packages(manifest, &asks, None, mode, ask.uv, report);
    let mut packages_as_of = day_of_packages(given, newest_commit, Utc::now());
    let dated = packages_as_of.map(|day| GivenPins {
        released_before: Some(day + chrono::Days::new(1)),
        ..GivenPins::default()
    });
    let found = match dated.as_ref().map(|d| lock_packages(&UpdatePolicy::At(d))) {
        Some(Err(p)) if !p.is_interrupted() && !no_answer(&p) => {
            packages_as_of = None;
            lock_packages(&mode)
        }
        Some(found) => found,
        None => lock_packages(&mode),
    };
    match found {
        Ok(found) => {
            remarks.extend(found.remarks);
            apply_settings(&mut asks, found.settled.as_ref());
            (python, settings) = (Some(found.python), found.settled);
        }
        Err(p) if p.is_interrupted() || no_answer(&p) => return Err(p),
        Err(p) => refused_packages = Some(p),
    }
    let each = resolve_each(manifest, None, &mode, ask.library, report)?;
    Ok(GivenLock {
        lock: Lock {
            comfyui,
            nodes: pins,
            asks,
            python,
            models: each.pins,
            acceptances: Acceptances::default(),
        },
        refused_nodes,
        refused_models: each.refused,
        refused_packages,
        packages_as_of,
        settings,
        remarks,
    })
}

/// Nodes of some years ago do not run with the packages of today. Where nobody says with which
/// versions they ran, those of the newest commit's day are the nearest that can be had.
fn day_of_packages(
    given: &GivenPins,
    newest_commit: i64,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    // A committer may write any time, also one that has not come.
    let made = DateTime::from_timestamp(newest_commit, 0)?.min(now);
    (given.packages.is_empty() && newest_commit > 0).then_some(made)
}

/// What another try may cure.
fn no_answer(p: &Problem) -> bool {
    let kinds = p.each_problem().into_iter().map(|p| p.kind);
    kinds
        .into_iter()
        .any(|k| matches!(k, ProblemKind::Unreachable | ProblemKind::Io(_)))
}

/// What is left out of the nodes' requirements is so in the lock, too.
fn apply_settings(
    asks: &mut BTreeMap<String, PartRequirements>,
    settings: Option<&PackageSettings>,
) {
    for (node, ignored) in settings.iter().flat_map(|s| &s.ignored) {
        if let Some(asked) = asks.get_mut(&format!("node.{node}")) {
            asked.ignored.clone_from(ignored);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_of_the_newest_commits_day_where_no_versions_are_given() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let day = |given: &GivenPins, commit| {
            let day = day_of_packages(given, commit, now);
            day.map_or("any".into(), |d| d.format("%Y-%m-%d").to_string())
        };
        let none = GivenPins::default();
        let some = GivenPins {
            packages: [("torch".to_string(), "2.4.1".to_string())].into(),
            ..GivenPins::default()
        };
        let said = [
            day(&none, 1_711_756_800),
            // A commit that says that it comes from the future.
            day(&none, 4_000_000_000),
            day(&none, i64::MAX),
            // What comfy itself made, of a folder.
            day(&none, 0),
            day(&some, 1_711_756_800),
        ];
        assert_eq!(said, ["2024-03-30", "2027-01-15", "any", "any", "any"]);
    }
}
