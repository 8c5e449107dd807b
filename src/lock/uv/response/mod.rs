//! The answer: uv.lock as packages, and what a person should know of them. Also uv's refusal, told
//! with who asked.

mod explain;
mod hints;

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::VersionOrUrl;
use serde::Deserialize;

use super::request::{PLATFORMS, UvWorkspace};
use crate::lock::python::{
    LockedPackage, LockedWheel, PartRequirements, UvSolution, normalize_name,
};
use crate::lock::requirements;
use crate::manifest::PackageIndex;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use explain::{direct_requirements, parse_plain};
pub(crate) use explain::{explain_no_solution, without_upload_time};

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

#[derive(Deserialize)]
struct UvDependency {
    name: String,
    version: Option<String>,
}

#[derive(Deserialize)]
struct UvWheel {
    url: Option<String>,
    path: Option<String>,
    hash: Option<String>,
    size: Option<u64>,
}

/// The packages of uv's answer.
///
/// # Errors
/// An answer that comfy does not understand, or a package without a hash.
pub(crate) fn read_packages(
    solved: &UvSolution,
    workspace: &UvWorkspace,
    indexes: &[PackageIndex],
) -> Result<Vec<LockedPackage>> {
    let lock: UvLock = toml::from_str(&solved.lock).context("understand uv.lock")?;
    if lock.version != 1 {
        return Err(Problem::new(format!(
            "uv wrote a uv.lock of format {}, and comfy reads 1",
            lock.version
        ))
        .with_hint("set COMFY_UV to an older uv, or unset it"));
    }
    let everywhere = format!("({}) or ({})", PLATFORMS[0], PLATFORMS[1]);
    let markers: BTreeMap<(&str, &str), &str> = solved
        .export
        .lines()
        .filter_map(|l| {
            let (what, marker) = l.split_once(';').map_or((l, ""), |(a, b)| (a, b.trim()));
            let (name, version) = what.trim().split_once("==")?;
            Some((
                (name.split('[').next().unwrap_or(name), version.trim()),
                marker,
            ))
        })
        .collect();
    let mut by: BTreeMap<(&str, Option<&str>), BTreeSet<String>> = BTreeMap::new();
    for p in &lock.package {
        let who = workspace.parts.get(&p.name).unwrap_or(&p.name);
        for d in p
            .dependencies
            .iter()
            .chain(p.optional_dependencies.values().flatten())
        {
            by.entry((&d.name, d.version.as_deref()))
                .or_default()
                .insert(who.clone());
        }
    }
    let mut out = Vec::new();
    for p in &lock.package {
        let Some(url) = p.source.get("registry").and_then(|v| v.as_str()) else {
            continue;
        };
        let version = p.version.clone().unwrap_or_default();
        let mut wheels = Vec::new();
        for w in &p.wheels {
            let place = w.url.as_deref().or(w.path.as_deref()).unwrap_or_default();
            let file = place
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .split(['#', '?'])
                .next()
                .unwrap_or_default()
                .replace("%2B", "+")
                .replace("%2b", "+");
            let Some(sha256) = w.hash.as_deref().and_then(|h| h.strip_prefix("sha256:")) else {
                return Err(Problem::new(format!(
                    "{} {version}: the index gives no sha256 of {}",
                    p.name,
                    escape_text(&file)
                ))
                .with_hint("use an index that does"));
            };
            wheels.push(LockedWheel {
                file,
                sha256: sha256.into(),
                size: w.size,
            });
        }
        wheels.sort();
        let who: BTreeSet<String> = [None, Some(version.as_str())]
            .iter()
            .filter_map(|v| by.get(&(p.name.as_str(), *v)))
            .flatten()
            .cloned()
            .collect();
        let marker = markers
            .get(&(p.name.as_str(), version.as_str()))
            .filter(|m| !m.is_empty() && **m != everywhere)
            .map(|m| (*m).to_string());
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        let index = indexes
            .iter()
            .find(|x| same(&x.url, url) && x.packages.iter().any(|n| normalize_name(n) == p.name))
            .map(|x| x.name.clone());
        out.push(LockedPackage {
            name: p.name.clone(),
            version,
            index,
            marker,
            by: who.into_iter().collect(),
            wheels,
        });
    }
    out.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(out)
}

/// Distributions that install the same files: the last one installed wins, silently.
const SAME_FILES: &[(&str, &[&str])] = &[
    (
        "cv2",
        &[
            "opencv-python",
            "opencv-python-headless",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        ],
    ),
    (
        "onnxruntime",
        &[
            "onnxruntime",
            "onnxruntime-gpu",
            "onnxruntime-directml",
            "onnxruntime-silicon",
            "onnxruntime-openvino",
        ],
    ),
    ("PIL", &["pillow", "pillow-simd"]),
    ("faiss", &["faiss-cpu", "faiss-gpu"]),
    (
        "tensorflow",
        &[
            "tensorflow",
            "tensorflow-cpu",
            "tensorflow-gpu",
            "tensorflow-macos",
        ],
    ),
];

/// What a person should know: who holds a package back for everybody, and which packages overwrite
/// each other.
pub(crate) fn resolution_warnings(
    packages: &[LockedPackage],
    asked: &BTreeMap<String, PartRequirements>,
    overrides: &[String],
) -> Vec<String> {
    let mut out = Vec::new();
    // Who is overruled holds nothing back.
    let overruled: BTreeSet<String> = overrides
        .iter()
        .filter_map(|o| Some(normalize_name(parse_plain(o)?.name.as_ref())))
        .collect();
    // ComfyUI's own bounds are everybody's; a node's are news.
    for (package, part, line) in direct_requirements(asked)
        .into_iter()
        .filter(|(package, part, _)| part != "comfyui" && !overruled.contains(package))
    {
        let Ok(r) = requirements::parse_requirement(&part, line) else {
            continue;
        };
        let bounded = match &r.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(s)) => s.iter().any(|s| {
                matches!(
                    s.operator().to_string().as_str(),
                    "<" | "<=" | "==" | "===" | "~="
                )
            }),
            _ => false,
        };
        for p in packages
            .iter()
            .filter(|p| bounded && p.name == package && p.by.iter().any(|b| *b != part))
        {
            let others = p.by.iter().filter(|b| **b != part).count();
            out.push(format!(
                "{} {}: {part} asks for `{}` ({}:{}), which holds it for {}",
                p.name,
                p.version,
                escape_text(&line.text),
                line.file,
                line.line,
                crate::text::count_of(others, "other")
            ));
        }
    }
    for (module, family) in SAME_FILES {
        let both: Vec<&LockedPackage> = packages
            .iter()
            .filter(|p| family.contains(&p.name.as_str()))
            .collect();
        let names: BTreeSet<&str> = both.iter().map(|p| p.name.as_str()).collect();
        if names.len() > 1 {
            let who: Vec<String> = both
                .iter()
                .map(|p| format!("{} (asked by {})", p.name, p.by.join(", ")))
                .collect();
            out.push(format!(
                "{} install the same files, `{module}`: keep one, and leave each other out with \
                 [python] overrides = [\"NAME ; python_version < '0'\"]",
                who.join(" and ")
            ));
        }
    }
    out
}
