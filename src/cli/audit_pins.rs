//! What `lock` and `update` tell of advisories: of what moves, before comfy.lock is written.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::audit_findings;
use crate::advisory::finding::{AuditFinding, FindingKind};
use crate::advisory::matching::{self, MatchScope};
use crate::advisory::packages::{self, answer_key};
use crate::advisory::similar;
use crate::advisory::table::embedded_table;
use crate::host::advisories::{PackageAuditor, StoredParts};
use crate::host::build::venv::provenance::{PublisherClient, PublisherQuery};
use crate::host::env;
use crate::host::uv::UvRunner;
use crate::lock::difference::LockDifference;
use crate::lock::publishers;
use crate::lock::python::public_version;
use crate::lock::resolve::ResolvedLock;
use crate::lock::{Lock, LockedPython, part_address};
use crate::manifest::ScanPolicy;
use crate::problem::{Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::text::{count_of, escape_text};

/// `lock` waits so long for the service.
const LIMIT: Duration = Duration::from_secs(5);
/// Publishers are asked for so long; those of the rest stay unknown.
const PUBLISHER_LIMIT: Duration = Duration::from_secs(15);
/// So many are told of one lock.
const TOLD: usize = 10;

/// Records who published the packages that moved, and tells where that is somebody else than before.
///
/// # Errors
/// Ctrl-C.
pub(crate) fn record_publishers(
    project: &ComfyProject,
    resolved: &mut ResolvedLock,
    offline: bool,
) -> Result<()> {
    let old = project.lock.as_ref().and_then(|(l, _)| l.python.as_ref());
    let Some(python) = &mut resolved.lock.python else {
        return Ok(());
    };
    let asked = publishers::unasked_packages(python, old);
    if asked.is_empty() || offline || project.manifest.policy.scan == ScanPolicy::Off {
        return Ok(());
    }
    let net = env::net_env()?;
    let client = PublisherClient::new(&net, Instant::now() + PUBLISHER_LIMIT);
    let ask = |at: &usize| {
        let package = &python.packages[*at];
        client.find_publisher(&PublisherQuery::of_locked(package, python))
    };
    let answers: Vec<_> = with_threads(|| asked.par_iter().map(ask).collect());
    if crate::host::signals::is_interrupted() {
        return Err(Problem::interrupted());
    }
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    for (at, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(publisher) => {
                python.packages[at].publisher = publisher;
                told.push(at);
            }
            Err(why) => failures.push(why),
        }
    }
    if let Some(first) = failures.first() {
        render::print_note(&format!(
            "the publishers of {} are not known: {}",
            count_of(failures.len(), "package"),
            escape_text(first)
        ));
    }
    for remark in publishers::publisher_remarks(python, old, &told) {
        render::print_warning(&remark);
    }
    Ok(())
}

/// Waiting for servers needs more threads than there are processors.
pub(super) fn with_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match rayon::ThreadPoolBuilder::new().num_threads(16).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// Compares what moved with advisories, and tells what is known.
///
/// # Errors
/// Something that moved is malware; Ctrl-C.
pub(crate) fn audit_resolved(
    project: &ComfyProject,
    resolved: &ResolvedLock,
    offline: bool,
) -> Result<Vec<AuditFinding>> {
    if project.manifest.policy.scan == ScanPolicy::Off {
        return Ok(Vec::new());
    }
    let old = project.lock.as_ref().map(|(l, _)| l);
    let scope = moved_scope(old, &resolved.lock, &resolved.moved);
    let store = StoredParts::of_store(project::git_store(project, true)?);
    let table = embedded_table();
    let mut found = matching::match_lock(&table.advisories, &resolved.lock, &scope, &store);
    let moved_parts = scope.parts.clone().unwrap_or_default();
    let has_moved = |node: &str| moved_parts.contains(&part_address(node));
    found.extend(audit_findings::similar_nodes(&resolved.lock, has_moved));
    if let Some(python) = &resolved.lock.python {
        found.extend(moved_packages(project, python, &scope, offline)?);
    }
    AuditFinding::merge_duplicates(&mut found);
    let problems: Vec<Problem> = found
        .iter()
        .filter(|f| f.is_malware())
        .map(refusal_of)
        .collect();
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    for finding in found.iter().take(TOLD) {
        render::print_warning(&finding.line());
    }
    if found.len() > TOLD {
        render::print_warning(&format!(
            "{} of what moved: `comfy audit` shows them",
            count_of(found.len() - TOLD, "more advisory")
        ));
    }
    Ok(found)
}

/// The parts and packages that are new or at another version.
fn moved_scope(old: Option<&Lock>, new: &Lock, moved: &LockDifference) -> MatchScope {
    let pairs = |lock: &Lock| -> BTreeSet<(String, String)> {
        let packages = lock.python.iter().flat_map(|p| &p.packages);
        packages
            .map(|p| (p.name.clone(), p.version.clone()))
            .collect()
    };
    let before = old.map(pairs).unwrap_or_default();
    let parts = moved.pins.iter().filter(|p| p.to.is_some());
    MatchScope {
        parts: Some(parts.map(|p| part_address(&p.name)).collect()),
        packages: Some(pairs(new).difference(&before).cloned().collect()),
    }
}

/// What the service says of packages that moved, and of names that look like others.
fn moved_packages(
    project: &ComfyProject,
    python: &LockedPython,
    scope: &MatchScope,
    offline: bool,
) -> Result<Vec<AuditFinding>> {
    let moved = scope.packages.as_ref();
    let asked = packages::audited_packages(python, |p| {
        moved.is_some_and(|m| m.contains(&(p.name.clone(), p.version.clone())))
    });
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = similar_packages(&asked);
    let service = env::advisory_service()?;
    if offline || service.is_none() {
        return Ok(out);
    }
    let uv = uv_runner(project, offline)?;
    let auditor = PackageAuditor {
        uv: &uv,
        service,
        cache: uv.cache.clone(),
        limit: LIMIT,
    };
    let answers = auditor.ask(&asked)?;
    if let Some(why) = &answers.failure {
        render::print_note(&format!(
            "packages were not compared with advisories: {}",
            escape_text(why)
        ));
    }
    for (key, package) in &asked {
        if let Some(answer) = answers.known.get(&answer_key(key)) {
            out.extend(packages::findings_of(key, package, answer));
        }
    }
    Ok(out)
}

/// Packages whose names are one letter from a popular one.
pub(super) fn similar_packages(packages: &packages::AuditedPackages) -> Vec<AuditFinding> {
    let found = packages.iter().filter_map(|((name, version), package)| {
        // What a popular package itself asks for is what was meant.
        let popular = similar::popular_package(name)
            .filter(|_| !package.by.iter().any(|by| similar::is_popular(by)))?;
        Some(AuditFinding::similar_package(
            (name, version),
            package,
            popular,
        ))
    });
    found.collect()
}

/// uv as whoever runs comfy.
pub(super) fn uv_runner(project: &ComfyProject, offline: bool) -> Result<UvRunner> {
    let git = project::git_store(project, offline)?;
    let cache = env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    Ok(UvRunner {
        net: git.net,
        cache,
        offline,
        own: true,
    })
}

/// Why a lock that would pin malware is not written.
fn refusal_of(finding: &AuditFinding) -> Problem {
    debug_assert_eq!(finding.kind, FindingKind::Malware);
    let name = &finding.subject.name;
    let p = Problem::new(finding.line());
    match name.strip_prefix("node.") {
        Some(node) => p.with_hint(format!(
            "remove it: comfy remove node {node}; if it was ever applied here, treat what it could \
             read as stolen"
        )),
        None => p.with_hint(format!(
            "have another version locked, with `overrides = [\"{name} != {}\"]` in [python], or \
             remove what asks for it; `minimum_age` keeps releases of the last days away",
            public_version(&finding.subject.version)
        )),
    }
}
