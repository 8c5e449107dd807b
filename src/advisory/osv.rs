//! Advisories in OSV's schema, ossf.github.io/osv-schema, as far as comfy reads it.

use serde::Deserialize;

use crate::problem::{Problem, Result};
use crate::scan::finding::Severity;

/// One advisory.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Advisory {
    pub id: String,
    /// When it was taken back.
    withdrawn: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Advisories of which it is made.
    #[serde(default)]
    pub related: Vec<String>,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub affected: Vec<Affected>,
    #[serde(default)]
    pub references: Vec<Reference>,
    #[serde(default)]
    database_specific: DatabaseSpecific,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reference {
    pub url: String,
}

/// Which versions of what.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Affected {
    pub package: Option<Package>,
    #[serde(default)]
    pub versions: Vec<String>,
    #[serde(default)]
    pub ranges: Vec<Range>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub ecosystem: String,
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Range {
    #[serde(rename = "type")]
    pub kind: RangeKind,
    /// Of commits.
    pub repo: Option<String>,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum RangeKind {
    #[serde(rename = "GIT")]
    Git,
    #[serde(rename = "ECOSYSTEM")]
    Ecosystem,
    #[serde(rename = "SEMVER")]
    Semver,
}

/// One end of a range; `0` is before everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Introduced(String),
    Fixed(String),
    LastAffected(String),
    /// Where nobody has looked any further.
    Limit(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
struct DatabaseSpecific {
    comfy: Option<ComfyFacts>,
}

/// What OSV has no words for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ComfyFacts {
    kind: Option<AdvisoryKind>,
    severity: Option<Severity>,
    /// Ids of nodes in the registry.
    pub registry_ids: Vec<String>,
    /// Addresses of repositories.
    pub repos: Vec<String>,
    /// Without this file in its tree a part is not affected.
    pub requires_file: Option<String>,
    pub indicators: Indicators,
    /// Of model files.
    pub sha256: Vec<String>,
    pub window: Option<Window>,
}

/// What gives it away.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Indicators {
    /// Names of files that nothing else has.
    pub files: Vec<String>,
    /// Servers that it talks to.
    pub hosts: Vec<String>,
}

/// When it could be had; days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Window {
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What an advisory is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AdvisoryKind {
    Malware,
    /// Taken out of the registry of nodes, or out of an index.
    Banned,
    Vulnerability,
}

impl Advisory {
    pub(crate) fn facts(&self) -> ComfyFacts {
        self.database_specific.comfy.clone().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> AdvisoryKind {
        let own = self.database_specific.comfy.as_ref().and_then(|c| c.kind);
        own.unwrap_or(if names_malware(&self.id, &self.aliases) {
            AdvisoryKind::Malware
        } else {
            AdvisoryKind::Vulnerability
        })
    }

    /// Malware and what was banned are critical; what says nothing else is high.
    pub(crate) fn severity(&self) -> Severity {
        let own = self.database_specific.comfy.as_ref();
        own.and_then(|c| c.severity).unwrap_or(match self.kind() {
            AdvisoryKind::Malware | AdvisoryKind::Banned => Severity::Critical,
            AdvisoryKind::Vulnerability => Severity::High,
        })
    }

    /// Every version in which it is mended.
    pub(crate) fn fixed_versions(&self) -> Vec<String> {
        let ranges = self.affected.iter().flat_map(|a| &a.ranges);
        let events = ranges
            .filter(|r| r.kind != RangeKind::Git)
            .flat_map(|r| &r.events);
        let mut out: Vec<String> = events
            .filter_map(|e| match e {
                Event::Fixed(version) => Some(version.clone()),
                _ => None,
            })
            .collect();
        out.dedup();
        out
    }
}

/// Ids of ossf/malicious-packages begin with `MAL-`.
pub(crate) fn names_malware(id: &str, aliases: &[String]) -> bool {
    let is_malware = |id: &str| id.starts_with("MAL-");
    is_malware(id) || aliases.iter().any(|a| is_malware(a))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireTable {
    Many(Vec<serde_json::Value>),
    Named { advisories: Vec<serde_json::Value> },
    One(serde_json::Value),
}

/// Reads advisories: one, a list, or `{"advisories": […]}`; those that were taken back are left out.
///
/// # Errors
/// It is not JSON, or not OSV's.
pub(crate) fn read_advisories(text: &str) -> Result<Vec<Advisory>> {
    let wire: WireTable =
        serde_json::from_str(text).map_err(|e| Problem::new(format!("it is not JSON: {e}")))?;
    let values = match wire {
        WireTable::Many(values) | WireTable::Named { advisories: values } => values,
        WireTable::One(value) => vec![value],
    };
    let read = |(at, value): (usize, serde_json::Value)| -> Result<Advisory> {
        let id = value.get("id").and_then(|id| id.as_str());
        let which = id.map_or_else(|| format!("number {}", at + 1), crate::text::escape_text);
        serde_json::from_value(value)
            .map_err(|e| Problem::new(format!("advisory {which} is not in OSV's schema: {e}")))
    };
    let all: Vec<Advisory> = values
        .into_iter()
        .enumerate()
        .map(read)
        .collect::<Result<_>>()?;
    Ok(all.into_iter().filter(|a| a.withdrawn.is_none()).collect())
}
