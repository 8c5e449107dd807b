//! The answer: uv.lock as packages, and what a person should know of them. Also uv's refusal, told
//! with who asked.

mod cutoff;
mod explain;
mod hints;
pub(crate) mod lacks;
pub(crate) mod remarks;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::request::UvWorkspace;
use super::variant::LockVariant;
use crate::lock::markers::{MarkerTruth, marker_truth};
use crate::lock::python::{UvSolution, normalize_name};
use crate::lock::wheel_tags;
use crate::manifest::PackageIndex;
use crate::problem::{Context, Problem, Result};
pub(crate) use cutoff::{too_young, without_upload_time};
pub(crate) use explain::{explain_no_solution, is_no_solution, names_conflict, package_words};

#[derive(Deserialize)]
struct UvLock {
    version: i64,
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvPackage {
    name: String,
    version: Option<String>,
    #[serde(default)]
    source: BTreeMap<String, toml::Value>,
    #[serde(default)]
    dependencies: Vec<UvDependency>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<UvDependency>>,
    #[serde(default)]
    wheels: Vec<UvWheel>,
}

impl UvPackage {
    fn all_dependencies(&self) -> impl Iterator<Item = &UvDependency> {
        let optional = self.optional_dependencies.values().flatten();
        self.dependencies.iter().chain(optional)
    }
}

#[derive(Deserialize)]
struct UvDependency {
    name: String,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvWheel {
    url: Option<String>,
    path: Option<String>,
    hash: Option<String>,
    size: Option<u64>,
    upload_time: Option<String>,
}

/// uv's answer for one variant.
#[derive(Debug, Clone, Default)]
pub(crate) struct SolvedVariant {
    /// Sorted by name and version; those that no platform installs are left out.
    pub packages: Vec<SolvedPackage>,
    /// The names of what each package and each part depends on; parts by their address.
    pub dependencies: BTreeMap<String, BTreeSet<String>>,
    /// The parts, by address.
    pub parts: BTreeSet<String>,
    /// The newest release of packages that are locked at an older one, as far as it is known.
    pub newest: BTreeMap<String, String>,
}

/// One package of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SolvedPackage {
    pub name: String,
    pub version: String,
    /// The `indexes` entry that it comes from.
    pub index: Option<String>,
    /// The address of its index.
    pub url: String,
    /// As uv has it; empty: none.
    pub marker: String,
    pub truth: MarkerTruth,
    pub by: BTreeSet<String>,
    pub wheels: Vec<SolvedWheel>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SolvedWheel {
    pub file: String,
    pub address: String,
    /// `None`: the index gives none.
    pub sha256: Option<String>,
    pub size: Option<u64>,
    /// RFC 3339.
    pub published: Option<String>,
}

/// The packages of uv's answer.
///
/// # Errors
/// An answer that comfy does not understand.
pub(crate) fn read_solution(
    solved: &UvSolution,
    workspace: &UvWorkspace,
    variant: &LockVariant,
    indexes: &[PackageIndex],
) -> Result<SolvedVariant> {
    let lock: UvLock = toml::from_str(&solved.lock).context("understand uv.lock")?;
    if lock.version != 1 {
        return Err(Problem::new(format!(
            "uv wrote a uv.lock of format {}, and comfy reads 1",
            lock.version
        ))
        .with_hint("set COMFY_UV to an older uv, or unset it"));
    }
    let markers = exported_markers(&solved.export);
    let mut out = SolvedVariant {
        parts: workspace.parts.values().cloned().collect(),
        newest: solved.newest.lines().filter_map(newest_release).collect(),
        ..SolvedVariant::default()
    };
    let mut by: BTreeMap<(&str, Option<&str>), BTreeSet<String>> = BTreeMap::new();
    for p in &lock.package {
        let who = workspace.parts.get(&p.name).unwrap_or(&p.name);
        for d in p.all_dependencies() {
            by.entry((&d.name, d.version.as_deref()))
                .or_default()
                .insert(who.clone());
            out.dependencies
                .entry(who.clone())
                .or_default()
                .insert(d.name.clone());
        }
    }
    let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
    let asked: Vec<&PackageIndex> = variant.indexes(indexes).collect();
    for p in &lock.package {
        let Some(url) = p.source.get("registry").and_then(|v| v.as_str()) else {
            continue;
        };
        let version = p.version.clone().unwrap_or_default();
        let key = (p.name.as_str(), version.as_str());
        // What no part asks for on any platform is not exported.
        let Some(marker) = markers.get(&key) else {
            continue;
        };
        let truth = marker_truth(marker, &workspace.version, &variant.platforms)?;
        // A resolution that forks also has packages for platforms that were not asked for.
        if truth.platforms.is_empty() {
            continue;
        }
        // uv leaves them out itself if it runs an interpreter of the version that is locked for.
        let serves = |w: &SolvedWheel| wheel_tags::serves_version(&w.file, &workspace.version);
        let mut wheels: Vec<SolvedWheel> = p.wheels.iter().map(read_wheel).filter(serves).collect();
        wheels.sort_by(|a, b| a.file.cmp(&b.file));
        let who: BTreeSet<String> = [None, Some(version.as_str())]
            .iter()
            .filter_map(|v| by.get(&(p.name.as_str(), *v)))
            .flatten()
            .cloned()
            .collect();
        let index = asked
            .iter()
            .find(|x| same(&x.url, url) && x.has_package(&p.name))
            .map(|x| x.name.clone());
        out.packages.push(SolvedPackage {
            name: p.name.clone(),
            index,
            url: url.into(),
            marker: (*marker).into(),
            truth,
            by: who,
            wheels,
            version,
        });
    }
    out.packages
        .sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(out)
}

/// A line of uv's tree: `├── basicsr v1.3.3.3 (latest: v1.4.2)`.
fn newest_release(line: &str) -> Option<(String, String)> {
    let (what, newest) = line.split_once(" (latest: v")?;
    let mut words = what.split_whitespace();
    let name = words.find(|w| w.starts_with(|c: char| c.is_ascii_alphanumeric()))?;
    let name = normalize_name(name.split('[').next()?);
    Some((name, newest.split(')').next()?.to_string()))
}

/// The marker of each exported release; empty: none.
fn exported_markers(export: &str) -> BTreeMap<(&str, &str), &str> {
    let mut out = BTreeMap::new();
    for line in export.lines() {
        let (what, marker) = line.split_once(';').unwrap_or((line, ""));
        if let Some((name, version)) = what.trim().split_once("==") {
            let name = name.split('[').next().unwrap_or(name);
            out.insert((name, version.trim()), marker.trim());
        }
    }
    out
}

fn read_wheel(w: &UvWheel) -> SolvedWheel {
    let address = w.url.as_deref().or(w.path.as_deref()).unwrap_or_default();
    let file = address
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .split(['#', '?'])
        .next()
        .unwrap_or_default()
        .replace("%2B", "+")
        .replace("%2b", "+");
    let sha256 = w.hash.as_deref().and_then(|h| h.strip_prefix("sha256:"));
    SolvedWheel {
        file,
        address: address.into(),
        sha256: sha256.map(str::to_string),
        size: w.size,
        published: w.upload_time.clone(),
    }
}
