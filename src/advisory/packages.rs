//! What `uv audit` is asked of the packages of a lock, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::finding::{AuditFinding, FindingKind, Subject};
use super::osv::names_malware;
use crate::lock::LockedPython;
use crate::lock::python::{LockedPackage, public_version};
use crate::problem::{Context, Result};
use crate::scan::finding::Severity;

/// Packages by name and public version: an index has no advisories of local versions.
pub(crate) type AuditedPackages = BTreeMap<(String, String), AuditedPackage>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AuditedPackage {
    /// The address of its index; `None`: the default one.
    pub index: Option<String>,
    /// Who asks for it.
    pub by: BTreeSet<String>,
}

/// The packages of a lock for which `wanted` holds.
pub(crate) fn audited_packages(
    python: &LockedPython,
    wanted: impl Fn(&LockedPackage) -> bool,
) -> AuditedPackages {
    let mut out = AuditedPackages::new();
    for package in python.packages.iter().filter(|p| wanted(p)) {
        let key = (
            package.name.clone(),
            public_version(&package.version).to_string(),
        );
        let entry = out.entry(key).or_default();
        entry.by.extend(package.by.iter().cloned());
        let index = python
            .indexes
            .iter()
            .find(|x| Some(&x.name) == package.index.as_ref());
        entry.index = entry.index.take().or_else(|| index.map(|x| x.url.clone()));
    }
    out
}

/// `numpy==1.26.4`, as answers are kept.
pub(crate) fn answer_key((name, version): &(String, String)) -> String {
    format!("{name}=={version}")
}

/// pyproject.toml and uv.lock of a workspace that asks for exactly these, with their names. uv reads
/// nothing but names, versions and indexes of it.
pub(crate) fn workspace_files<'a>(
    packages: impl Iterator<Item = (&'a (String, String), &'a AuditedPackage)>,
    default_index: &str,
) -> [(&'static str, String); 2] {
    const NAME: &str = "comfy-audit";
    const PYTHON: &str = ">=3.9";
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let (mut asked, mut locked) = (String::new(), String::new());
    for ((name, version), package) in packages {
        let index = package.index.as_deref().unwrap_or(default_index);
        let (name, version, index) = (quoted(name), quoted(version), quoted(index));
        let source = format!("source = {{ registry = {index} }}");
        asked += &format!("    {{ name = {name}, version = {version}, {source} }},\n");
        locked += &format!("\n[[package]]\nname = {name}\nversion = {version}\n{source}\n");
    }
    let project = format!(
        "[project]\nname = \"{NAME}\"\nversion = \"0\"\nrequires-python = \"{PYTHON}\"\ndependencies = []\n"
    );
    let lock = format!(
        "version = 1\nrevision = 3\nrequires-python = \"{PYTHON}\"\n\n[[package]]\nname = \"{NAME}\"\n\
         version = \"0\"\nsource = {{ virtual = \".\" }}\ndependencies = [\n{asked}]\n{locked}"
    );
    [("pyproject.toml", project), ("uv.lock", lock)]
}

/// What is known of one version of a package, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageAnswer {
    /// When it was asked: RFC 3339.
    pub asked: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<PackageAdvisory>,
    /// What its index says of the project (PEP 792), if that is not that it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ProjectStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageAdvisory {
    pub id: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub summary: Option<String>,
    pub link: Option<String>,
    #[serde(default, rename = "fix_versions")]
    pub fixed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProjectStatus {
    pub status: String,
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct UvReply {
    #[serde(default)]
    vulnerabilities: Vec<UvVulnerability>,
    #[serde(default)]
    adverse_statuses: Vec<UvStatus>,
}

#[derive(Deserialize)]
struct UvVulnerability {
    dependency: UvDependency,
    #[serde(flatten)]
    advisory: PackageAdvisory,
}

#[derive(Deserialize)]
struct UvDependency {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct UvStatus {
    name: String,
    #[serde(flatten)]
    status: ProjectStatus,
}

/// The answer for each package that was asked, by [`answer_key`].
///
/// # Errors
/// An answer that comfy does not understand.
pub(crate) fn read_reply(
    text: &str,
    packages: &AuditedPackages,
    asked: &str,
) -> Result<BTreeMap<String, PackageAnswer>> {
    let reply: UvReply =
        serde_json::from_str(text).context("understand what uv says of advisories")?;
    let answer = |key: &(String, String)| {
        let of = |v: &&UvVulnerability| v.dependency.name == key.0 && v.dependency.version == key.1;
        let found = reply.vulnerabilities.iter().filter(of);
        let status = reply.adverse_statuses.iter().find(|s| s.name == key.0);
        PackageAnswer {
            asked: asked.to_string(),
            advisories: found.map(|v| v.advisory.clone()).collect(),
            status: status.map(|s| s.status.clone()),
        }
    };
    Ok(packages
        .keys()
        .map(|key| (answer_key(key), answer(key)))
        .collect())
}

/// What an answer says of a package that is pinned.
pub(crate) fn findings_of(
    (name, version): &(String, String),
    package: &AuditedPackage,
    answer: &PackageAnswer,
) -> Vec<AuditFinding> {
    let subject = Subject::package(name, version);
    let by: Vec<String> = package.by.iter().cloned().collect();
    let of_advisory = |a: &PackageAdvisory| {
        let malware = names_malware(&a.id, &a.aliases);
        AuditFinding {
            subject: subject.clone(),
            kind: match malware {
                true => FindingKind::Malware,
                false => FindingKind::Vulnerability,
            },
            // uv does not say how bad it is.
            severity: match malware {
                true => Severity::Critical,
                false => Severity::High,
            },
            id: Some(a.id.clone()),
            aliases: a.aliases.clone(),
            summary: a.summary.clone().unwrap_or_default(),
            uncertain: None,
            fixed: a.fixed.clone(),
            by: by.clone(),
            link: a.link.clone(),
            hosts: Vec::new(),
            window: None,
        }
    };
    let of_status = |s: &ProjectStatus| {
        let reason = s
            .reason
            .as_ref()
            .map_or(String::new(), |r| format!(": {r}"));
        let what = match s.status.as_str() {
            "quarantined" => (FindingKind::Banned, Severity::Critical),
            _ => (FindingKind::Status, Severity::Low),
        };
        let told = format!("its index says that the project is {}{reason}", s.status);
        AuditFinding {
            by: by.clone(),
            ..AuditFinding::without_id(subject.clone(), what, told)
        }
    };
    let advisories = answer.advisories.iter().map(of_advisory);
    advisories
        .chain(answer.status.as_ref().map(of_status))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_answers_is_told_of_each_version_that_was_asked() {
        let package = AuditedPackage {
            index: None,
            by: BTreeSet::from(["node.x".to_string()]),
        };
        let key = |name: &str, version: &str| (name.to_string(), version.to_string());
        let packages = AuditedPackages::from([
            (key("jinja2", "2.4.1"), package.clone()),
            (key("numpy", "1.0"), package.clone()),
            (key("left", "1.0"), package.clone()),
        ]);
        // What uv 0.13.9 answers.
        let reply = r#"{
            "schema": {"version": "preview"},
            "summary": {"audited_packages": 3, "vulnerabilities": 2, "adverse_statuses": 1},
            "vulnerabilities": [
                {"dependency": {"name": "jinja2", "version": "2.4.1"}, "id": "MAL-2024-1", "display_id": "CVE-2024-1",
                 "aliases": ["CVE-2024-1"], "summary": "Malicious code in jinja2", "description": "d", "link": "https://x.test/",
                 "fix_versions": [], "published": "2024-01-01T00:00:00Z", "modified": "2024-01-01T00:00:00Z"},
                {"dependency": {"name": "numpy", "version": "1.0"}, "id": "PYSEC-1", "aliases": [], "summary": null, "link": null,
                 "fix_versions": ["1.1"]}],
            "adverse_statuses": [{"name": "left", "status": "archived", "reason": null}]}"#;
        let answers = read_reply(reply, &packages, "2026-01-01T00:00:00Z").unwrap();
        let told: Vec<String> = packages
            .iter()
            .flat_map(|(key, p)| findings_of(key, p, &answers[&answer_key(key)]))
            .map(|f| {
                format!(
                    "{} {} [{}] {} {:?}",
                    f.severity,
                    f.subject.text(),
                    f.id_text(),
                    f.summary,
                    f.fixed
                )
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        critical jinja2 2.4.1 [MAL-2024-1, CVE-2024-1] Malicious code in jinja2 []
        low left 1.0 [] its index says that the project is archived []
        high numpy 1.0 [PYSEC-1]  ["1.1"]
        "#);
    }
}
