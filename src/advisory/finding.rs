//! What an audit finds: one thing that is pinned, and what is known of it.

use serde::Serialize;

use super::osv::{Advisory, AdvisoryKind, Window};
use super::packages::AuditedPackage;
use crate::scan::finding::Severity;
use crate::text::escape_text;

/// What is pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Subject {
    pub kind: SubjectKind,
    /// A package's name, `comfyui`, `node.NAME`, or a model's path.
    pub name: String,
    /// A package's or node's version, a commit, or a SHA-256.
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SubjectKind {
    Comfyui,
    Node,
    Package,
    Model,
}

impl Subject {
    pub(crate) fn package(name: &str, version: &str) -> Subject {
        Subject {
            kind: SubjectKind::Package,
            name: name.into(),
            version: version.into(),
        }
    }

    /// `ultralytics 8.3.41`, `node.x 9e7ae2d`.
    pub(crate) fn text(&self) -> String {
        let version = match self.version.len() {
            40 | 64 => self.version.get(..7).unwrap_or(&self.version),
            _ => &self.version,
        };
        escape_text(&format!("{} {version}", self.name))
    }
}

/// Why it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingKind {
    Malware,
    Banned,
    Vulnerability,
    /// What its index or the registry says of it.
    Status,
    /// Its name is one letter from a popular one.
    Name,
    /// Its files are not those of its repository.
    Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AuditFinding {
    pub subject: Subject,
    pub kind: FindingKind,
    pub severity: Severity,
    /// None: nobody has published an advisory of it.
    pub id: Option<String>,
    pub aliases: Vec<String>,
    pub summary: String,
    /// Why it is only possible that this version is meant; `None`: it is.
    pub uncertain: Option<String>,
    /// Versions in which it is mended.
    pub fixed: Vec<String>,
    /// Who asks for the package.
    pub by: Vec<String>,
    pub link: Option<String>,
    /// Servers that malware talks to.
    pub hosts: Vec<String>,
    /// When it could be had.
    pub window: Option<Window>,
}

impl AuditFinding {
    /// One of an advisory.
    pub(crate) fn of_advisory(
        advisory: &Advisory,
        subject: Subject,
        uncertain: Option<String>,
    ) -> AuditFinding {
        let facts = advisory.facts();
        AuditFinding {
            subject,
            kind: match advisory.kind() {
                AdvisoryKind::Malware => FindingKind::Malware,
                AdvisoryKind::Banned => FindingKind::Banned,
                AdvisoryKind::Vulnerability => FindingKind::Vulnerability,
            },
            // What is only possible blocks nothing.
            severity: match uncertain {
                Some(_) => advisory.severity().min(Severity::High),
                None => advisory.severity(),
            },
            id: Some(advisory.id.clone()),
            aliases: advisory
                .aliases
                .iter()
                .chain(&advisory.related)
                .cloned()
                .collect(),
            summary: advisory.summary.clone(),
            uncertain,
            fixed: advisory.fixed_versions(),
            by: Vec::new(),
            link: advisory.references.first().map(|r| r.url.clone()),
            hosts: facts.indicators.hosts,
            window: facts.window,
        }
    }

    /// A package whose name is one letter from that of a popular one.
    pub(crate) fn similar_package(
        (name, version): (&str, &str),
        package: &AuditedPackage,
        popular: &str,
    ) -> AuditFinding {
        let subject = Subject::package(name, version);
        AuditFinding {
            by: package.by.iter().cloned().collect(),
            ..AuditFinding::without_id(
                subject,
                (FindingKind::Name, Severity::Medium),
                format!("its name is one letter from `{popular}`: is it the one that is meant?"),
            )
        }
    }

    /// One that nobody has published an advisory of.
    pub(crate) fn without_id(
        subject: Subject,
        (kind, severity): (FindingKind, Severity),
        summary: String,
    ) -> AuditFinding {
        AuditFinding {
            subject,
            kind,
            severity,
            id: None,
            aliases: Vec::new(),
            summary,
            uncertain: None,
            fixed: Vec::new(),
            by: Vec::new(),
            link: None,
            hosts: Vec::new(),
            window: None,
        }
    }

    /// Malware, where it is certain: it is not locked.
    pub(crate) fn is_malware(&self) -> bool {
        self.kind == FindingKind::Malware && self.uncertain.is_none()
    }

    /// `ultralytics 8.3.41 is malware: … (MAL-…), asked for by node.x`
    pub(crate) fn line(&self) -> String {
        let gap = match self.kind {
            FindingKind::Status | FindingKind::Name | FindingKind::Source => ":",
            _ => "",
        };
        let mut out = format!("{}{gap} {}", self.subject.text(), self.verdict());
        let id = self.id_text();
        if !id.is_empty() {
            out += &format!(" ({id})");
        }
        for more in [self.fixed_text(), self.by_text()].into_iter().flatten() {
            out += &format!("; {more}");
        }
        out
    }

    /// `is malware: …`
    pub(crate) fn verdict(&self) -> String {
        let summary = escape_text(self.summary.trim());
        let what = match self.kind {
            FindingKind::Malware => "malware",
            FindingKind::Banned => "banned",
            FindingKind::Vulnerability => "vulnerable",
            FindingKind::Status | FindingKind::Name | FindingKind::Source => {
                return summary.clone();
            }
        };
        let gap = if summary.is_empty() { "" } else { ": " };
        match &self.uncertain {
            Some(why) => format!("may be {what} ({}){gap}{summary}", escape_text(why)),
            None => format!("is {what}{gap}{summary}"),
        }
    }

    /// `it talks to example.com; it could be had from 2024-12-04 to 2024-12-07`
    pub(crate) fn traces_text(&self) -> Option<String> {
        let mut out = Vec::new();
        if !self.hosts.is_empty() {
            out.push(format!("it talks to {}", self.hosts.join(", ")));
        }
        let window = self.window.as_ref();
        match window.map(|w| (w.from.as_deref(), w.to.as_deref())) {
            Some((Some(from), Some(to))) if from == to => {
                out.push(format!("it could be had on {from}"));
            }
            Some((Some(from), Some(to))) => {
                out.push(format!("it could be had from {from} to {to}"))
            }
            Some((Some(from), None)) => out.push(format!("it could be had since {from}")),
            Some((None, Some(to))) => out.push(format!("it could be had until {to}")),
            _ => {}
        }
        (!out.is_empty()).then(|| escape_text(&out.join("; ")))
    }

    /// `asked for by node.x, diffusers`
    pub(crate) fn by_text(&self) -> Option<String> {
        let by = escape_text(&self.by.join(", "));
        (!by.is_empty()).then(|| format!("asked for by {by}"))
    }

    /// `GHSA-… (CVE-…)`: the id, and the CVE where there is one.
    pub(crate) fn id_text(&self) -> String {
        let Some(id) = &self.id else {
            return String::new();
        };
        let cve = self.aliases.iter().find(|a| a.starts_with("CVE-"));
        match cve.filter(|cve| *cve != id) {
            Some(cve) => escape_text(&format!("{id}, {cve}")),
            None => escape_text(id),
        }
    }

    /// `fixed in 2.6.0 or 3.1`, or that it is not.
    pub(crate) fn fixed_text(&self) -> Option<String> {
        let is_mended = matches!(self.kind, FindingKind::Vulnerability | FindingKind::Banned);
        if !is_mended || self.id.is_none() {
            return None;
        }
        Some(match &self.fixed[..] {
            [] => "no version is known in which it is fixed".into(),
            fixed => format!("fixed in {}", escape_text(&fixed.join(" or "))),
        })
    }

    /// Sorts the worst first, and keeps one of those that say the same: the same advisory of two
    /// places, or two of the same malware.
    pub(crate) fn merge_duplicates(findings: &mut Vec<AuditFinding>) {
        findings.sort_by(|a, b| {
            (b.severity, a.kind, &a.subject, &a.id).cmp(&(a.severity, b.kind, &b.subject, &b.id))
        });
        let names =
            |f: &AuditFinding| -> Vec<String> { f.id.iter().chain(&f.aliases).cloned().collect() };
        let mut kept: Vec<AuditFinding> = Vec::new();
        for finding in findings.drain(..) {
            let same = |k: &&mut AuditFinding| {
                k.subject == finding.subject
                    && k.kind == finding.kind
                    && (k.kind == FindingKind::Malware
                        || **k == finding
                        || names(k).iter().any(|id| names(&finding).contains(id)))
            };
            match kept.iter_mut().find(same) {
                Some(k) => {
                    let new = names(&finding);
                    let own = names(k);
                    k.aliases
                        .extend(new.into_iter().filter(|id| !own.contains(id)));
                    if k.fixed.is_empty() {
                        k.fixed = finding.fixed;
                    }
                }
                None => kept.push(finding),
            }
        }
        *findings = kept;
    }
}
