//! An audit backwards: what commits of comfy.lock pinned once, when, and when it was live here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytestring::ByteString;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::audit_findings;
use crate::advisory::finding::AuditFinding;
use crate::advisory::matching::{self, MatchScope};
use crate::advisory::packages::{self, AuditedPackages, answer_key};
use crate::advisory::table::AdvisoryTable;
use crate::advisory::windows::{LockVersion, TimeSpan, joined_spans};
use crate::history::LockRepository;
use crate::host::advisories::StoredParts;
use crate::lock::{self, Lock};
use crate::problem::Result;
use crate::project::{self, ComfyProject};
use crate::records::applied_locks::{self, LivePeriod};
use crate::render;

/// Something that was pinned once, and is known to be trouble.
#[derive(Serialize)]
pub(crate) struct PastFinding {
    #[serde(flatten)]
    pub finding: AuditFinding,
    /// Seconds since 1970.
    pinned: Vec<TimeSpan>,
    live: Vec<TimeSpan>,
}

impl PastFinding {
    /// `you ran it from 3 to 9 December 2024 (live on this machine); comfy.lock pinned it from …`
    pub(crate) fn text(&self) -> String {
        let local = |seconds: i64| {
            let utc = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            utc.with_timezone(&chrono::Local).date_naive()
        };
        let all = |spans: &[TimeSpan]| {
            let texts: Vec<String> = spans.iter().map(|s| s.text(&local)).collect();
            texts.join(", ")
        };
        let pinned = format!("comfy.lock pinned it {}", all(&self.pinned));
        match &self.live[..] {
            [] => format!("{pinned}; it was never live on this machine"),
            live => format!("you ran it {} (live on this machine); {pinned}", all(live)),
        }
    }
}

/// A version of comfy.lock, and what it pins.
struct ReadVersion {
    version: LockVersion,
    lock: Lock,
}

/// Compares every comfy.lock that was committed.
///
/// # Errors
/// There is no repository; Ctrl-C.
pub(crate) fn past_findings(
    project: &ComfyProject,
    table: &AdvisoryTable,
    offline: bool,
) -> Result<Vec<PastFinding>> {
    let manifest = project.dir.join(project::MANIFEST);
    let repository = LockRepository::open(&manifest, &project.lock_path)?;
    let versions = read_versions(&repository)?;
    let live = live_periods(project);
    let found = findings_by_version(project, &versions, table, offline)?;
    let spans: Vec<LockVersion> = versions.into_iter().map(|v| v.version).collect();
    let past = |(finding, at): (AuditFinding, Vec<usize>)| PastFinding {
        pinned: joined_spans(&spans, &at),
        live: live_spans(&spans, &at, &live),
        finding,
    };
    Ok(found.into_iter().map(past).collect())
}

/// Every version that can be read, oldest first.
fn read_versions(repository: &LockRepository) -> Result<Vec<ReadVersion>> {
    let mut commits = Vec::new();
    let mut walk = repository.walk()?;
    for commit in &mut walk {
        commits.push(commit?);
    }
    if walk.shallow {
        render::print_note("The repository is shallow: `git fetch --unshallow` brings older ones.");
    }
    commits.reverse();
    let mut out: Vec<ReadVersion> = Vec::new();
    for commit in commits {
        let at = commit.time.seconds();
        // What a commit replaces was pinned until then, whether it can be read or not.
        if let Some(last) = out.last_mut() {
            last.version.span.to.get_or_insert(at);
        }
        let Some(blob) = commit.after else { continue };
        let text = repository.text_of(blob)?;
        let parsed = Lock::parse(Path::new(lock::FILE), &ByteString::from(text.as_str()));
        match parsed {
            Ok(lock) => out.push(ReadVersion {
                version: LockVersion {
                    digest: base16ct::lower::encode_string(&Sha256::digest(text.as_bytes())),
                    span: TimeSpan { from: at, to: None },
                },
                lock,
            }),
            Err(p) => render::print_warning(&format!(
                "comfy.lock of commit {} was not compared: {}",
                crate::text::short_commit(&commit.id.to_string()),
                p.message
            )),
        }
    }
    Ok(out)
}

/// What is known against any version, with the places of those that pin it.
fn findings_by_version(
    project: &ComfyProject,
    versions: &[ReadVersion],
    table: &AdvisoryTable,
    offline: bool,
) -> Result<Vec<(AuditFinding, Vec<usize>)>> {
    let mut asked = AuditedPackages::new();
    let packages_of = |lock: &Lock| {
        lock.python.as_ref().map_or_else(AuditedPackages::new, |p| {
            packages::audited_packages(p, |_| true)
        })
    };
    for v in versions {
        for (key, package) in packages_of(&v.lock) {
            let entry = asked.entry(key).or_default();
            entry.index = entry.index.take().or(package.index);
            entry.by.extend(package.by);
        }
    }
    let mut notes = Vec::new();
    let answers = audit_findings::ask_packages(project, &asked, offline, &mut notes)?;
    for note in notes {
        render::print_note(&note);
    }
    // What is not in the store any more is unknown; nothing old is fetched.
    let store = StoredParts::of_store(project::git_store(project, true)?);
    let mut places: BTreeMap<String, (AuditFinding, BTreeSet<usize>)> = BTreeMap::new();
    for (at, v) in versions.iter().enumerate() {
        let scope = MatchScope::default();
        let mut found = matching::match_lock(&table.advisories, &v.lock, &scope, &store);
        for (key, package) in &packages_of(&v.lock) {
            if let Some(answer) = answers.get(&answer_key(key)) {
                found.extend(packages::findings_of(key, package, answer));
            }
        }
        AuditFinding::merge_duplicates(&mut found);
        for finding in found {
            let key = format!("{:?} {:?}", finding.subject, finding.id);
            let entry = places.entry(key);
            entry
                .or_insert_with(|| (finding, BTreeSet::new()))
                .1
                .insert(at);
        }
    }
    let mut out: Vec<_> = places
        .into_values()
        .map(|(finding, at)| (finding, at.into_iter().collect::<Vec<_>>()))
        .collect();
    out.sort_by_key(|(f, _)| (std::cmp::Reverse(f.severity), f.subject.clone()));
    Ok(out)
}

fn live_periods(project: &ComfyProject) -> Vec<LivePeriod> {
    let read = |p: &ComfyProject| applied_locks::live_periods(&p.instance_paths().ok()?).ok();
    read(project).unwrap_or_default()
}

/// When one of these versions was live here.
fn live_spans(versions: &[LockVersion], at: &[usize], live: &[LivePeriod]) -> Vec<TimeSpan> {
    let digests: BTreeSet<&str> = at.iter().map(|n| versions[*n].digest.as_str()).collect();
    let seconds = |text: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        Some(time.timestamp())
    };
    let mut out: Vec<TimeSpan> = Vec::new();
    for period in live.iter().filter(|p| digests.contains(p.lock.as_str())) {
        let Some(from) = seconds(&period.since) else {
            continue;
        };
        let to = period.until.as_deref().and_then(seconds);
        match out.last_mut() {
            Some(last) if last.to == Some(from) => last.to = to,
            _ => out.push(TimeSpan { from, to }),
        }
    }
    out
}
