//! The answer: uv.lock as packages, and what a person should know of them. Also uv's refusal, told with who asked.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::VersionOrUrl;
use serde::Deserialize;

use super::question::{OWN, PLATFORMS, Workspace};
use super::{Asked, Asks, Package, Solved, Wheel, asks, normal};
use crate::manifest::{Index, Manifest};
use crate::problem::{Doing, Problem, Result};
use crate::text::escape;

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
pub fn packages(solved: &Solved, workspace: &Workspace, indexes: &[Index]) -> Result<Vec<Package>> {
    let lock: UvLock = toml::from_str(&solved.lock).doing(|| "understand uv.lock".into())?;
    if lock.version != 1 {
        return Err(Problem::new(format!("uv wrote a uv.lock of format {}, and comfy reads 1", lock.version)).hint("set COMFY_UV to an older uv, or unset it"));
    }
    let everywhere = format!("({}) or ({})", PLATFORMS[0], PLATFORMS[1]);
    let markers: BTreeMap<(&str, &str), &str> = solved
        .export
        .lines()
        .filter_map(|l| {
            let (what, marker) = l.split_once(';').map_or((l, ""), |(a, b)| (a, b.trim()));
            let (name, version) = what.trim().split_once("==")?;
            Some(((name.split('[').next().unwrap_or(name), version.trim()), marker))
        })
        .collect();
    let mut by: BTreeMap<(&str, Option<&str>), BTreeSet<String>> = BTreeMap::new();
    for p in &lock.package {
        let who = workspace.parts.get(&p.name).unwrap_or(&p.name);
        for d in p.dependencies.iter().chain(p.optional_dependencies.values().flatten()) {
            by.entry((&d.name, d.version.as_deref())).or_default().insert(who.clone());
        }
    }
    let mut out = Vec::new();
    for p in &lock.package {
        let Some(url) = p.source.get("registry").and_then(|v| v.as_str()) else { continue };
        let version = p.version.clone().unwrap_or_default();
        let mut wheels = Vec::new();
        for w in &p.wheels {
            let place = w.url.as_deref().or(w.path.as_deref()).unwrap_or_default();
            let file = place.rsplit('/').next().unwrap_or_default().split(['#', '?']).next().unwrap_or_default().replace("%2B", "+").replace("%2b", "+");
            let Some(sha256) = w.hash.as_deref().and_then(|h| h.strip_prefix("sha256:")) else {
                return Err(Problem::new(format!("{} {version}: the index gives no sha256 of {}", p.name, escape(&file))).hint("use an index that does"));
            };
            wheels.push(Wheel { file, sha256: sha256.into(), size: w.size });
        }
        wheels.sort();
        let who: BTreeSet<String> = [None, Some(version.as_str())].iter().filter_map(|v| by.get(&(p.name.as_str(), *v))).flatten().cloned().collect();
        let marker = markers.get(&(p.name.as_str(), version.as_str())).filter(|m| !m.is_empty() && **m != everywhere).map(|m| (*m).to_string());
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        let index = indexes.iter().find(|x| same(&x.url, url) && x.packages.iter().any(|n| normal(n) == p.name)).map(|x| x.name.clone());
        out.push(Package { name: p.name.clone(), version, index, marker, by: who.into_iter().collect(), wheels });
    }
    out.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(out)
}

/// Distributions that install the same files: the last one installed wins, silently.
const SAME_FILES: &[(&str, &[&str])] = &[
    ("cv2", &["opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"]),
    ("onnxruntime", &["onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon", "onnxruntime-openvino"]),
    ("PIL", &["pillow", "pillow-simd"]),
    ("faiss", &["faiss-cpu", "faiss-gpu"]),
    ("tensorflow", &["tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-macos"]),
];

/// What a person should know: who holds a package back for everybody, and which packages overwrite each other.
pub fn remarks(packages: &[Package], asked: &BTreeMap<String, Asks>) -> Vec<String> {
    let mut out = Vec::new();
    // ComfyUI's own bounds are everybody's; a node's are news.
    for (package, part, line) in direct(asked).into_iter().filter(|(_, part, _)| part != "comfyui") {
        let Ok(r) = asks::requirement(&part, line) else { continue };
        let bounded = match &r.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(s)) => s.iter().any(|s| matches!(s.operator().to_string().as_str(), "<" | "<=" | "==" | "===" | "~=")),
            _ => false,
        };
        for p in packages.iter().filter(|p| bounded && p.name == package && p.by.iter().any(|b| *b != part)) {
            let others = p.by.iter().filter(|b| **b != part).count();
            out.push(format!(
                "{} {}: {part} asks for `{}` ({}:{}), which holds it for {} more",
                p.name,
                p.version,
                escape(&line.text),
                line.file,
                line.line,
                crate::text::count(others, "package or part").replace("package or parts", "packages or parts")
            ));
        }
    }
    for (module, family) in SAME_FILES {
        let both: Vec<&Package> = packages.iter().filter(|p| family.contains(&p.name.as_str())).collect();
        let names: BTreeSet<&str> = both.iter().map(|p| p.name.as_str()).collect();
        if names.len() > 1 {
            let who: Vec<String> = both.iter().map(|p| format!("{} (asked by {})", p.name, p.by.join(", "))).collect();
            out.push(format!(
                "{} install the same files, `{module}`: keep one, and leave each other out with [python] overrides = [\"NAME ; python_version < '0'\"]",
                who.join(" and ")
            ));
        }
    }
    out
}

/// Whether `said`, without white space, has this requirement rather than a bare name or the beginning of a longer one.
fn quoted(said: &str, text: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    let bounded = text.contains(['<', '>', '=', '~']);
    bounded && said.match_indices(&text).any(|(at, _)| !said[at + text.len()..].starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Every plain requirement: normalised package, part, line.
fn direct(asked: &BTreeMap<String, Asks>) -> Vec<(String, String, &Asked)> {
    let lines = asked.iter().flat_map(|(part, a)| a.effective().map(move |l| (part.clone(), l)));
    lines.filter_map(|(part, l)| Some((normal(asks::requirement(&part, l).ok()?.name.as_ref()), part, l))).collect()
}

/// uv's refusal with the parts' own names, who asked for each package that it names, and what settles it.
pub fn refusal(problem: Problem, workspace: &Workspace, asked: &BTreeMap<String, Asks>, manifest: &Manifest) -> Problem {
    if !problem.message.contains("No solution") {
        return problem;
    }
    let mut message = problem.message.clone();
    // The longest first: `comfy-part-1` begins `comfy-part-10`.
    for (name, part) in workspace.parts.iter().rev().collect::<BTreeSet<_>>().into_iter().rev() {
        message = message.replace(&format!("{name}'s requirements"), &format!("what {part} asks for")).replace(name.as_str(), part);
    }
    let own: Vec<Asked> = manifest.python.requirements.iter().map(|text| Asked { file: OWN.into(), line: 0, text: text.clone() }).collect();
    let said: String = message.split_whitespace().collect();
    let words: BTreeSet<String> =
        message.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).map(|w| normal(w.trim_matches('.'))).collect();
    let named = |package: &str| words.contains(package);
    let mut lines = Vec::new();
    let mut nodes = Vec::new();
    let mut wishes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (package, part, line) in direct(asked).into_iter().filter(|(p, ..)| named(p)) {
        lines.push(format!("  {part}  {}:{}  {}", line.file, line.line, line.text));
        wishes.entry(package).or_default().insert(line.text.clone());
        if let Some(node) = part.strip_prefix("node.") {
            nodes.push((node.to_string(), line.text.clone()));
        }
    }
    for line in &own {
        if let Ok(r) = line.text.parse::<pep508_rs::Requirement>()
            && named(&normal(r.name.as_ref()))
        {
            lines.push(format!("  {OWN}  [python] requirements  {}", line.text));
            wishes.entry(normal(r.name.as_ref())).or_default().insert(line.text.clone());
        }
    }
    // Those that uv's sentence quotes, where it quotes any.
    for w in wishes.values_mut() {
        if w.iter().any(|t| t.len() > 1 && quoted(&said, t)) {
            w.retain(|t| quoted(&said, t));
        }
    }
    if !lines.is_empty() {
        message = format!("{message}\nWho asked:\n{}", lines.join("\n"));
    }
    let mut out = Problem { message, ..problem };
    let incompatible = wishes.iter().find(|(_, w)| w.len() > 1);
    if out.message.contains("no usable wheels") || out.message.contains("has no wheels") {
        out = out.hint("comfy builds nothing from source: leave the line out, or choose a version that has a wheel with [python] overrides");
        for (part, line) in nodes {
            out = out.hint(format!("to leave it out: [nodes.{part}] ignore_requirements = [{}]", toml::Value::String(line)));
        }
    } else if let Some((_, wishes)) = incompatible {
        let either: Vec<String> = wishes.iter().map(|w| format!("overrides = [{}]", toml::Value::String(w.clone()))).collect();
        out = out.hint(format!("one of them has to give way: [python] {}", either.join("  or  ")));
    }
    out
}
