//! The question: a uv workspace with one member for each part, so that uv's own words say who wants
//! what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::lock::python::{LockedPackage, LockedPython, PartRequirements, normalize_name};
use crate::lock::requirements;
use crate::manifest::{Manifest, PythonSettings};
use crate::problem::{Problem, Result};

/// The two platforms, as markers (PEP 508).
pub(crate) const PLATFORMS: [&str; 2] = [
    "platform_machine == 'arm64' and sys_platform == 'darwin'",
    "platform_machine == 'x86_64' and sys_platform == 'linux'",
];
/// The part that is comfy.toml's own `[python] requirements`.
pub(crate) const OWN: &str = "comfy.toml";

/// Files for uv, and what it is told on its command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct UvWorkspace {
    /// Path to text, below an empty folder.
    pub files: BTreeMap<String, String>,
    /// Nothing that was published later is looked at (RFC 3339).
    pub exclude_newer: Option<String>,
    /// Packages for which that does not hold: their own index, which the manifest names, tells no
    /// times.
    pub untimed: Vec<String>,
    /// The parts, by the name that their member has.
    pub parts: BTreeMap<String, String>,
    /// `3.12`.
    pub version: String,
}

/// Which locked packages may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageUpdates<'a> {
    None,
    All,
    Only(&'a BTreeSet<String>),
}

/// Makes the workspace for what is asked; `old` packages are preferred where they still fit, except
/// those that move.
///
/// # Errors
/// Every line that cannot be locked.
pub(crate) fn build_workspace(
    manifest: &Manifest,
    asked: &BTreeMap<String, PartRequirements>,
    old: Option<&LockedPython>,
    moving: PackageUpdates,
    newest: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<UvWorkspace> {
    let m = &manifest.python;
    let members = workspace_members(manifest, asked)?;
    let exclude_newer = newest.map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    let mut w = UvWorkspace {
        exclude_newer,
        version: m.version.clone(),
        ..UvWorkspace::default()
    };
    let requires = format!("=={}.*", m.version);
    for (i, (part, lines)) in members.iter().enumerate() {
        let name = format!("comfy-part-{i}");
        let text = format!(
            "[project]\nname = \"{name}\"\nversion = \"0\"\nrequires-python = \
             \"{requires}\"\ndependencies = [{}]\n\n[tool.uv]\npackage = false\n",
            quoted_list(lines)
        );
        w.files.insert(format!("{name}/pyproject.toml"), text);
        w.parts.insert(name, part.clone());
    }
    let names: Vec<String> = w.parts.keys().cloned().collect();
    let root = workspace_root(m, &names, &requires);
    w.files.insert("pyproject.toml".into(), root);
    if let Some(old) = old.filter(|o| {
        moving != PackageUpdates::All && o.version == m.version && !o.packages.is_empty()
    }) {
        w.files.insert(
            "uv.lock".into(),
            preferences_lock(old, &requires, w.exclude_newer.as_deref(), moving),
        );
    }
    Ok(w)
}

/// The parts with their requirement lines, the manifest's own last.
///
/// # Errors
/// Lines that comfy cannot lock, all of them.
fn workspace_members(
    manifest: &Manifest,
    asked: &BTreeMap<String, PartRequirements>,
) -> Result<Vec<(String, Vec<String>)>> {
    let m = &manifest.python;
    let (mut problems, mut members) = (Vec::new(), Vec::new());
    for (part, asks) in asked {
        let mut lines = Vec::new();
        for a in asks.effective_lines() {
            match requirements::parse_requirement(part, a) {
                Ok(_) => lines.push(a.text.clone()),
                Err(p) => problems.push(p),
            }
        }
        members.push((part.clone(), lines));
    }
    for (key, list) in [
        ("requirements", &m.requirements),
        ("overrides", &m.overrides),
    ] {
        for (i, line) in list.iter().enumerate() {
            if let Err(e) = line.parse::<pep508_rs::Requirement>() {
                let place = manifest
                    .source
                    .place_of_key(&["python", key, &i.to_string()]);
                let why =
                    crate::text::escape_text(e.to_string().lines().next().unwrap_or_default());
                problems.push(
                    Problem::new(format!(
                        "{place}: \"{}\" is no requirement: {why}",
                        crate::text::escape_text(line)
                    ))
                    .with_hint("write `name==1.2`"),
                );
            }
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    members.push((OWN.into(), m.requirements.clone()));
    Ok(members)
}

/// The root project: it names the members, and routes packages to their indexes.
fn workspace_root(m: &PythonSettings, names: &[String], requires: &str) -> String {
    let routed: Vec<String> = m
        .indexes
        .iter()
        .flat_map(|x| x.packages.iter().map(|p| normalize_name(p)))
        .collect();
    let platforms = quoted_list(&PLATFORMS.map(String::from));
    let mut root = format!(
        "[project]\nname = \"comfy-lock\"\nversion = \"0\"\nrequires-python = \
         \"{requires}\"\ndependencies = [{0}]\n\n[tool.uv]\npackage = false\n\
         environments = [{platforms}]\nrequired-environments = \
         [{platforms}]\noverride-dependencies = [{1}]\nconstraint-dependencies = [{2}]\n",
        quoted_list(names),
        quoted_list(&m.overrides),
        quoted_list(&routed),
    );
    for x in &m.indexes {
        // Writing to a String cannot fail.
        let _ = write!(
            root,
            "\n[[tool.uv.index]]\nname = {}\nurl = {}\nexplicit = true\n",
            quoted_string(&x.name),
            quoted_string(&x.url)
        );
    }
    let _ = write!(
        root,
        "\n[tool.uv.workspace]\nmembers = [{}]\n\n[tool.uv.sources]\n",
        quoted_list(names)
    );
    for name in names {
        let _ = writeln!(root, "{name} = {{ workspace = true }}");
    }
    for x in &m.indexes {
        for p in &x.packages {
            let _ = writeln!(
                root,
                "{} = {{ index = {} }}",
                quoted_string(&normalize_name(p)),
                quoted_string(&x.name)
            );
        }
    }
    root
}

fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|i| quoted_string(i)).collect();
    quoted.join(", ")
}

/// The locked packages as a uv.lock that uv takes as preferences.
fn preferences_lock(
    old: &LockedPython,
    requires: &str,
    newest: Option<&str>,
    moving: PackageUpdates,
) -> String {
    let mut out = format!("version = 1\nrequires-python = \"{requires}\"\n");
    if let Some(newest) = newest {
        let _ = write!(out, "\n[options]\nexclude-newer = \"{newest}\"\n");
    }
    let stays = |p: &&LockedPackage| !matches!(moving, PackageUpdates::Only(names) if names.contains(&p.name));
    for p in old.packages.iter().filter(stays) {
        let url = p
            .index
            .as_ref()
            .and_then(|name| old.indexes.iter().find(|x| x.name == *name))
            .map_or("https://pypi.org/simple", |x| x.url.as_str());
        let _ = write!(
            out,
            "\n[[package]]\nname = {}\nversion = {}\nsource = {{ registry = {} }}\n",
            quoted_string(&p.name),
            quoted_string(&p.version),
            quoted_string(url)
        );
    }
    out
}

fn quoted_string(s: &str) -> String {
    toml::Value::String(s.to_string()).to_string()
}
