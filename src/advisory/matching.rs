//! Which parts, packages and models of a lock an advisory is about.
//!
//! A range of commits needs their history. Where that is not at hand, the version in the part's own
//! pyproject.toml decides; where neither is known, the part may be affected, and that is said.

use std::collections::BTreeSet;
use std::str::FromStr;

use pep508_rs::pep440_rs::Version;

use super::finding::{AuditFinding, Subject, SubjectKind};
use super::osv::{Advisory, AdvisoryKind, Affected, ComfyFacts, Event, Range, RangeKind};
use crate::lock::python::{LockedPackage, normalize_name, public_version};
use crate::lock::{Lock, RepositoryPin};
use crate::manifest::names::repo_key;
use crate::manifest::node_source::NodeSource;

/// What is known of a pinned part without a server; `None`: it is not.
pub(crate) trait PartKnowledge {
    /// The version in its pyproject.toml.
    fn project_version(&self, pin: &RepositoryPin) -> Option<Version>;
    /// The paths of its files.
    fn files(&self, pin: &RepositoryPin) -> Option<Vec<String>>;
    /// Whether its commit is `commit` or comes after it.
    fn has_commit(&self, pin: &RepositoryPin, commit: &str) -> Option<bool>;
}

/// Whether a version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Affected,
    Unaffected,
    /// Why it cannot be told.
    Possible(String),
}

/// What of a lock is compared; `None`: all.
#[derive(Default)]
pub(crate) struct MatchScope {
    /// Addresses of parts.
    pub parts: Option<BTreeSet<String>>,
    /// Names and versions.
    pub packages: Option<BTreeSet<(String, String)>>,
}

/// Compares parts, packages and models of a lock with the advisories.
pub(crate) fn match_lock(
    advisories: &[Advisory],
    lock: &Lock,
    scope: &MatchScope,
    knowledge: &dyn PartKnowledge,
) -> Vec<AuditFinding> {
    let mut out = Vec::new();
    let has_part = |address: &String| scope.parts.as_ref().is_none_or(|p| p.contains(address));
    let has_package = |p: &&LockedPackage| {
        let key = (p.name.clone(), p.version.clone());
        scope.packages.as_ref().is_none_or(|all| all.contains(&key))
    };
    for advisory in advisories {
        for (address, pin) in lock.repository_pins().filter(|(a, _)| has_part(a)) {
            out.extend(match_part(advisory, &address, pin, knowledge));
        }
        let packages = lock.python.iter().flat_map(|p| &p.packages);
        for package in packages.filter(has_package) {
            let found = match_package(advisory, &package.name, &package.version);
            out.extend(found.map(|mut finding| {
                finding.by = package.by.clone();
                finding
            }));
        }
        let facts = advisory.facts();
        for (path, pin) in lock.models.iter() {
            let sha256 = pin.sha256.to_string();
            if facts.sha256.iter().any(|s| s.eq_ignore_ascii_case(&sha256)) {
                let subject = Subject {
                    kind: SubjectKind::Model,
                    name: path.to_string(),
                    version: sha256,
                };
                out.push(AuditFinding::of_advisory(advisory, subject, None));
            }
        }
    }
    out
}

/// Compares one version of a package with an advisory.
pub(crate) fn match_package(
    advisory: &Advisory,
    name: &str,
    version: &str,
) -> Option<AuditFinding> {
    let is_named = |a: &&Affected| {
        a.package
            .as_ref()
            .is_some_and(|p| p.ecosystem == "PyPI" && normalize_name(&p.name) == name)
    };
    let public = public_version(version);
    let parsed = Version::from_str(public).ok();
    let hit = advisory.affected.iter().filter(is_named).any(|a| {
        a.versions.iter().any(|v| v == public)
            || parsed
                .as_ref()
                .is_some_and(|p| version_ranges(a).any(|r| version_in(&r.events, p) == Some(true)))
    });
    hit.then(|| AuditFinding::of_advisory(advisory, Subject::package(name, public), None))
}

/// Compares a part with an advisory: by its address, or by a file that gives malware away.
pub(crate) fn match_part(
    advisory: &Advisory,
    address: &str,
    pin: &RepositoryPin,
    knowledge: &dyn PartKnowledge,
) -> Option<AuditFinding> {
    let facts = advisory.facts();
    let verdict = if is_named(advisory, &facts, pin) {
        judge_part(advisory, &facts, pin, knowledge)
    } else {
        let files = &facts.indicators.files;
        if advisory.kind() != AdvisoryKind::Malware || files.is_empty() {
            return None;
        }
        let there = knowledge.files(pin)?;
        let file = there.iter().find(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            files.iter().any(|f| f.eq_ignore_ascii_case(name))
        })?;
        Verdict::Possible(format!("it holds {file}, as that malware does"))
    };
    let uncertain = match verdict {
        Verdict::Unaffected => return None,
        Verdict::Affected => None,
        Verdict::Possible(why) => Some(why),
    };
    let subject = Subject {
        kind: if address == "comfyui" {
            SubjectKind::Comfyui
        } else {
            SubjectKind::Node
        },
        name: address.into(),
        version: match &pin.archive {
            Some(archive) => archive.version.clone(),
            None => pin.commit.to_string(),
        },
    };
    Some(AuditFinding::of_advisory(advisory, subject, uncertain))
}

fn is_named(advisory: &Advisory, facts: &ComfyFacts, pin: &RepositoryPin) -> bool {
    if let NodeSource::Registry(id) = pin.source() {
        return facts
            .registry_ids
            .iter()
            .any(|r| r.eq_ignore_ascii_case(id));
    }
    let key = repo_key(&pin.repo);
    let ranges = advisory.affected.iter().flat_map(|a| &a.ranges);
    let repos = facts
        .repos
        .iter()
        .chain(ranges.filter_map(|r| r.repo.as_ref()));
    repos.into_iter().any(|r| repo_key(r) == key)
}

fn judge_part(
    advisory: &Advisory,
    facts: &ComfyFacts,
    pin: &RepositoryPin,
    knowledge: &dyn PartKnowledge,
) -> Verdict {
    if let Some(file) = &facts.requires_file
        && let Some(files) = knowledge.files(pin)
        && !files.contains(file)
    {
        return Verdict::Unaffected;
    }
    let mut possible = None;
    for affected in advisory.affected.iter().filter(|a| a.package.is_none()) {
        match judge_affected(affected, pin, knowledge) {
            Verdict::Affected => return Verdict::Affected,
            Verdict::Unaffected => {}
            Verdict::Possible(why) => possible = Some(why),
        }
    }
    possible.map_or(Verdict::Unaffected, Verdict::Possible)
}

fn judge_affected(
    affected: &Affected,
    pin: &RepositoryPin,
    knowledge: &dyn PartKnowledge,
) -> Verdict {
    let is_every = |r: &Range| r.events == [Event::Introduced("0".into())];
    let ranges = &affected.ranges;
    if (ranges.is_empty() && affected.versions.is_empty()) || ranges.iter().any(is_every) {
        return Verdict::Affected;
    }
    let told = |hit: bool| match hit {
        true => Verdict::Affected,
        false => Verdict::Unaffected,
    };
    if let Some(archive) = &pin.archive {
        if affected.versions.contains(&archive.version) {
            return Verdict::Affected;
        }
    } else {
        let by_commits = ranges.iter().filter(|r| r.kind == RangeKind::Git);
        let verdicts: Vec<Option<bool>> = by_commits
            .map(|r| commit_in(&r.events, pin, knowledge))
            .collect();
        if verdicts.contains(&Some(true)) {
            return Verdict::Affected;
        }
        if !verdicts.is_empty() && !verdicts.contains(&None) {
            return Verdict::Unaffected;
        }
    }
    let version = match &pin.archive {
        Some(archive) => Version::from_str(&archive.version).ok(),
        None => knowledge.project_version(pin),
    };
    let Some(version) = version else {
        return Verdict::Possible("the version of this commit is not known here".into());
    };
    let verdicts: Vec<Option<bool>> = version_ranges(affected)
        .map(|r| version_in(&r.events, &version))
        .collect();
    if verdicts.contains(&Some(true)) {
        return Verdict::Affected;
    }
    if verdicts.is_empty() || verdicts.contains(&None) {
        // The registry's versions were all compared with the list.
        return if pin.archive.is_some() && !affected.versions.is_empty() {
            told(false)
        } else {
            Verdict::Possible("the history of its commits is not known here".into())
        };
    }
    told(false)
}

fn version_ranges(affected: &Affected) -> impl Iterator<Item = &Range> {
    affected.ranges.iter().filter(|r| r.kind != RangeKind::Git)
}

/// OSV's own evaluation: of the events up to the version, the last one decides. `None` for a version
/// that cannot be read.
fn version_in(events: &[Event], version: &Version) -> Option<bool> {
    let parse = |text: &str| match text {
        "0" => Version::from_str("0.dev0").ok(),
        text => Version::from_str(text).ok(),
    };
    // Where two are of one version, what begins comes last.
    let mut ordered: Vec<(Version, u8, bool)> = Vec::new();
    for event in events {
        let (at, rank, begins) = match event {
            Event::Introduced(v) => (parse(v)?, 2, true),
            Event::Fixed(v) => (parse(v)?, 1, false),
            Event::LastAffected(v) => (parse(v)?, 3, false),
            Event::Limit(_) => continue,
        };
        ordered.push((at, rank, begins));
    }
    ordered.sort();
    let mut inside = false;
    for (at, rank, begins) in ordered {
        let reached = if rank == 3 {
            *version > at
        } else {
            *version >= at
        };
        if reached {
            inside = begins;
        }
    }
    Some(inside)
}

/// Affected is what has a commit that introduced it and none that fixed it.
fn commit_in(events: &[Event], pin: &RepositoryPin, knowledge: &dyn PartKnowledge) -> Option<bool> {
    let own = pin.commit.to_string();
    let exactly = |id: &String| *id == own;
    let has = |id: &String| match id.as_str() {
        "0" => Some(true),
        _ if exactly(id) => Some(true),
        id => knowledge.has_commit(pin, id),
    };
    for event in events {
        match event {
            Event::Introduced(id) | Event::LastAffected(id) if exactly(id) => return Some(true),
            Event::Fixed(id) if exactly(id) => return Some(false),
            _ => {}
        }
    }
    let (mut introduced, mut unknown) = (false, false);
    for event in events {
        match event {
            Event::Introduced(id) => match has(id) {
                Some(true) => introduced = true,
                Some(false) => {}
                None => unknown = true,
            },
            Event::Fixed(id) | Event::LastAffected(id) => match has(id) {
                Some(true) => return Some(false),
                Some(false) => {}
                None => unknown = true,
            },
            Event::Limit(_) => {}
        }
    }
    match (introduced, unknown) {
        (_, true) => None,
        (introduced, false) => Some(introduced),
    }
}

#[cfg(test)]
mod tests;
