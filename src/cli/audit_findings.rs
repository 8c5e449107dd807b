//! What an audit compares: all that a comfy.lock pins.

use std::collections::BTreeMap;
use std::time::Duration;

use rayon::prelude::*;
use serde::Serialize;

use super::audit_pins;
use crate::advisory::finding::{AuditFinding, FindingKind, Subject, SubjectKind};
use crate::advisory::matching::{self, MatchScope};
use crate::advisory::packages::{self, AuditedPackages, PackageAnswer, answer_key};
use crate::advisory::similar;
use crate::advisory::table::{self, AdvisoryTable};
use crate::host::advisories::{self, PackageAuditor, StoredParts};
use crate::host::env;
use crate::host::net::NetEnv;
use crate::host::net::http::host_and_port;
use crate::host::registry::RegistryClient;
use crate::lock::{Lock, RepositoryPin};
use crate::manifest::node_source::NodeSource;
use crate::problem::Result;
use crate::project::{self, ComfyProject};
use crate::scan::finding::Severity;
use crate::text::{count_of, escape_text};

/// An audit waits so long for uv, which also asks the index of each package.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Audit {
    /// The worst first.
    pub findings: Vec<AuditFinding>,
    pub packages: ComparedPackages,
    /// What could not be asked.
    pub notes: Vec<String>,
}

/// With what packages were compared.
#[derive(Serialize)]
pub(crate) struct ComparedPackages {
    /// `None`: COMFY_ADVISORY_SERVICE is off.
    service: Option<String>,
    compared: usize,
    /// Those of which nobody was ever asked.
    unknown: usize,
    /// When the oldest answer came: RFC 3339.
    oldest: Option<String>,
}

impl ComparedPackages {
    /// Whether a service is there to ask, and never answered of some package.
    pub(super) fn has_unknown(&self) -> bool {
        self.service.is_some() && self.unknown > 0
    }

    /// What is said where nothing was found.
    pub(super) fn nothing_text(&self) -> &'static str {
        match self.unknown {
            0 => "Nothing is known against what comfy.lock pins.",
            _ => "Nothing was found; not all packages were compared.",
        }
    }

    pub(super) fn text(&self) -> String {
        let Some(service) = &self.service else {
            return "Packages: not compared, since COMFY_ADVISORY_SERVICE is off.".into();
        };
        let all = count_of(self.compared + self.unknown, "package");
        if self.compared + self.unknown == 0 {
            return "Packages: none are locked.".into();
        }
        let server = escape_text(host_and_port(service));
        let when = self.oldest.as_deref().map_or(String::new(), age_text);
        let compared = match (self.compared, self.unknown) {
            (0, _) => return format!("Packages: none of {all} was ever compared with {server}."),
            (_, 0) => all,
            (n, _) => format!("{n} of {all}"),
        };
        format!("Packages: {compared} compared with {server}{when}.")
    }
}

/// ` 3 days ago`; nothing of today.
fn age_text(rfc3339: &str) -> String {
    let Ok(time) = chrono::DateTime::parse_from_rfc3339(rfc3339) else {
        return String::new();
    };
    let days = (chrono::Utc::now() - time.to_utc()).num_days();
    match usize::try_from(days) {
        Ok(0) | Err(_) => String::new(),
        Ok(days) => format!(", the oldest answer {} ago", count_of(days, "day")),
    }
}

/// The table of `--advisories`, else comfy's own.
///
/// # Errors
/// It cannot be read.
pub(crate) fn load_table(source: Option<&str>) -> Result<AdvisoryTable> {
    match source {
        Some(source) => advisories::load_table(source, &env::net_env()?),
        None => Ok(table::embedded_table()),
    }
}

/// Compares all that a lock pins.
///
/// # Errors
/// Ctrl-C; comfy runs as root.
pub(crate) fn audit_lock(
    project: &ComfyProject,
    lock: &Lock,
    table: &AdvisoryTable,
    offline: bool,
) -> Result<Audit> {
    let git = project::git_store(project, offline)?;
    let net = git.net.clone();
    let mut notes = Vec::new();
    let mut findings = matching::match_lock(
        &table.advisories,
        lock,
        &MatchScope::default(),
        &StoredParts::of_store(git),
    );
    findings.extend(similar_nodes(lock, |_| true));
    let asked = lock.python.as_ref().map_or_else(AuditedPackages::new, |p| {
        packages::audited_packages(p, |_| true)
    });
    findings.extend(audit_pins::similar_packages(&asked));
    let answers = ask_packages(project, &asked, offline, &mut notes)?;
    for (key, package) in &asked {
        if let Some(answer) = answers.get(&answer_key(key)) {
            findings.extend(packages::findings_of(key, package, answer));
        }
    }
    if !offline {
        findings.extend(registry_statuses(lock, &net, &mut notes));
    }
    AuditFinding::merge_duplicates(&mut findings);
    Ok(Audit {
        findings,
        packages: ComparedPackages {
            service: env::advisory_service()?,
            compared: answers.len(),
            unknown: asked.len() - answers.len(),
            oldest: answers.values().map(|a| a.asked.clone()).min(),
        },
        notes,
    })
}

/// What the service says of packages, or what it said.
///
/// # Errors
/// Ctrl-C.
pub(crate) fn ask_packages(
    project: &ComfyProject,
    asked: &AuditedPackages,
    offline: bool,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, PackageAnswer>> {
    let uv = audit_pins::uv_runner(project, offline)?;
    let auditor = PackageAuditor {
        service: env::advisory_service()?,
        cache: uv.cache.clone(),
        limit: LIMIT,
        uv: &uv,
    };
    let answers = auditor.ask(asked)?;
    if let Some(why) = answers.failure {
        let kept = match answers.known.len() {
            0 => "nothing was kept of earlier answers".to_string(),
            n => format!("{} from earlier answers", count_of(n, "package")),
        };
        notes.push(format!(
            "packages were not compared now: {}; {kept}",
            escape_text(&why)
        ));
    }
    Ok(answers.known)
}

/// What the registry says of pinned versions now.
fn registry_statuses(lock: &Lock, net: &NetEnv, notes: &mut Vec<String>) -> Vec<AuditFinding> {
    let client = RegistryClient::new(net);
    let pinned = |(name, pin): (&String, &RepositoryPin)| match (pin.source(), &pin.archive) {
        (NodeSource::Registry(id), Some(archive)) => {
            Some((name.clone(), id.to_string(), archive.version.clone()))
        }
        _ => None,
    };
    let nodes: Vec<_> = lock.nodes.iter().filter_map(pinned).collect();
    let statuses: Vec<_> = nodes
        .par_iter()
        .map(|(_, id, version)| client.version_status(id, version))
        .collect();
    let mut out = Vec::new();
    for ((name, _, version), status) in nodes.into_iter().zip(statuses) {
        let status = match status {
            Ok(Some(status)) => status,
            Ok(None) => "deleted".into(),
            Err(p) => {
                notes.push(format!("node.{name}: {}", p.message));
                continue;
            }
        };
        let (kind, severity, why) = match status.as_str() {
            "active" => continue,
            "pending" => (
                FindingKind::Status,
                Severity::Low,
                "the registry has not scanned this version yet",
            ),
            "flagged" => (
                FindingKind::Status,
                Severity::Medium,
                "the registry has flagged this version: a scan found something in it; such flags \
                 are often false, and it gives no reasons",
            ),
            "banned" => (
                FindingKind::Banned,
                Severity::Critical,
                "the registry has banned this version; it gives no reasons",
            ),
            "deleted" => (
                FindingKind::Status,
                Severity::Medium,
                "the registry no longer has this version",
            ),
            _ => (
                FindingKind::Status,
                Severity::Low,
                "the registry gives this version a status that comfy does not know",
            ),
        };
        let subject = Subject {
            kind: SubjectKind::Node,
            name: format!("node.{name}"),
            version,
        };
        out.push(AuditFinding::without_id(
            subject,
            (kind, severity),
            why.to_string(),
        ));
    }
    out
}

/// Nodes, of those that are wanted, whose id or repository is one letter from that of a popular one.
pub(super) fn similar_nodes(lock: &Lock, is_wanted: impl Fn(&str) -> bool) -> Vec<AuditFinding> {
    let similar = |(node, pin): (&String, &RepositoryPin)| {
        let source = pin.source();
        let name = match source {
            NodeSource::Registry(id) => id,
            NodeSource::Repository(_) => {
                let path = pin.repo.trim_end_matches('/');
                let last = path.rsplit('/').next().unwrap_or(path);
                last.trim_end_matches(".git")
            }
            NodeSource::Folder(_) => return None,
        };
        let popular = similar::popular_node(name)?;
        let subject = Subject {
            kind: SubjectKind::Node,
            name: format!("node.{node}"),
            version: pin.short_name(),
        };
        Some(AuditFinding::without_id(
            subject,
            (FindingKind::Name, Severity::Medium),
            format!(
                "`{}` is one letter from `{popular}`: is it the one that is meant?",
                escape_text(name)
            ),
        ))
    };
    let nodes = lock.nodes.iter().filter(|(node, _)| is_wanted(node));
    nodes.filter_map(similar).collect()
}
