//! The question: a uv workspace with one member for each part, so that uv's own words say who wants
//! what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::lock::markers::platform_marker;
use crate::lock::python::{LockedPackage, PartRequirements};
use crate::lock::requirements;
use crate::lock::uv::variant::LockVariant;
use crate::manifest::{LockPlatform, Manifest, PackageIndex, PythonSettings};
use crate::problem::{Problem, Result};

/// The part that is comfy.toml's own `[python] requirements`.
pub(crate) const OWN: &str = "comfy.toml";
/// The index of a package that names none; another default index holds it as well.
pub(crate) const PYPI: &str = "https://pypi.org/simple";
/// Every interpreter that uv may ask about itself.
pub(crate) const ANY_PYTHON: &str = ">=3.8";
/// The index of `[python] wheels`: a folder of the workspace.
pub(crate) const WHEELS_URL: &str = "./wheels";
/// uv's settings, in the workspace.
pub(crate) const SETTINGS: &str = "uv.toml";

/// Files for uv, and what it is told on its command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct UvWorkspace {
    /// Tells it apart from others that are solved at the same time.
    pub name: String,
    /// Path to text, below an empty folder.
    pub files: BTreeMap<String, String>,
    /// The files of the folder [`WHEELS_URL`], by name.
    pub wheels: BTreeMap<String, PathBuf>,
    /// The parts, by the name that their member has.
    pub parts: BTreeMap<String, String>,
    /// `3.12`.
    pub version: String,
    /// Whether the newest release of each package is asked for, too.
    pub tells_newest: bool,
}

/// Which locked packages may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageUpdates<'a> {
    None,
    All,
    Only(&'a BTreeSet<String>),
}

impl PackageUpdates<'_> {
    /// Whether the package of this name stays where it still fits.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        match self {
            PackageUpdates::None => true,
            PackageUpdates::All => false,
            PackageUpdates::Only(names) => !names.contains(name),
        }
    }
}

/// Since when a file must have been published, and for what that does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgeLimit {
    /// Nothing that was published later is looked at (RFC 3339); `None`: everything is.
    pub newest: Option<String>,
    /// Names of indexes that tell no times.
    pub undated: BTreeSet<String>,
    /// Names of those that do. The others are asked without a limit, and their answer shows which
    /// they are.
    pub dated: BTreeSet<String>,
    /// Packages that ComfyUI pins to one version.
    pub exempt: BTreeSet<String>,
}

/// A version that uv takes where it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreferredVersion {
    pub name: String,
    pub version: String,
    /// The index's address.
    pub url: String,
}

impl PreferredVersion {
    pub(crate) fn of_locked(p: &LockedPackage, indexes: &[PackageIndex]) -> PreferredVersion {
        let index = p.index.as_ref();
        let url = index.and_then(|name| indexes.iter().find(|x| x.name == *name));
        PreferredVersion {
            name: p.name.clone(),
            version: p.version.clone(),
            url: url.map_or(PYPI, |x| x.url.as_str()).into(),
        }
    }
}

/// One resolution to ask for.
pub(crate) struct ResolutionQuestion<'a> {
    pub python: &'a PythonSettings,
    /// The parts with their lines.
    pub members: &'a [(String, Vec<String>)],
    pub variant: &'a LockVariant,
    /// Whether it is asked before others, for another purpose than to be locked.
    pub purpose: &'a str,
    pub constraints: Vec<String>,
    pub preferred: Vec<PreferredVersion>,
}

/// Makes the workspace for a question.
pub(crate) fn build_workspace(q: &ResolutionQuestion, limit: &AgeLimit) -> UvWorkspace {
    let mut w = UvWorkspace {
        name: format!("{}{}", q.purpose, q.variant.word()),
        version: q.python.version.clone(),
        tells_newest: q.purpose.is_empty() && q.variant.accelerator.is_none(),
        ..UvWorkspace::default()
    };
    let requires = format!("=={}.*", q.python.version);
    for (i, (part, lines)) in q.members.iter().enumerate() {
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
    let root = workspace_root(q, &names, &requires);
    w.files.insert("pyproject.toml".into(), root);
    w.files.insert(SETTINGS.into(), uv_settings(q, limit));
    if !q.preferred.is_empty() {
        let text = preferences_lock(&q.preferred, &requires, limit);
        w.files.insert("uv.lock".into(), text);
    }
    w
}

impl UvWorkspace {
    /// The same question for whom another minor version of Python runs uv's inspection: the version is
    /// in the platforms' markers.
    pub(crate) fn for_other_interpreter(&self) -> UvWorkspace {
        let version = &self.version;
        let mut out = self.clone();
        for (path, text) in &mut out.files {
            *text = text.replace(
                &format!("requires-python = \"=={version}.*\""),
                &format!("requires-python = \"{ANY_PYTHON}\""),
            );
            if path != "pyproject.toml" {
                continue;
            }
            let of_platforms =
                |line: &&str| line.starts_with("environments") || line.starts_with("required-env");
            for line in self.files[path].lines().filter(of_platforms) {
                let mut narrow = line.to_string();
                for p in LockPlatform::ALL {
                    let marker = platform_marker(p);
                    let with = format!("{marker} and python_version == '{version}'");
                    narrow = narrow.replace(&marker, &with);
                }
                *text = text.replace(&format!("\n{line}\n"), &format!("\n{narrow}\n"));
            }
        }
        out
    }
}

/// The parts with their requirement lines, the manifest's own last.
///
/// # Errors
/// Lines that comfy cannot lock, all of them.
pub(crate) fn workspace_members(
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
fn workspace_root(q: &ResolutionQuestion, names: &[String], requires: &str) -> String {
    let routes = q.variant.routes(&q.python.indexes);
    // A bare name is no constraint, and uv would take the default index for what only other
    // packages ask for.
    let constraints: Vec<String> = routes
        .keys()
        .map(|p| format!("{p}>=0"))
        .chain(q.constraints.iter().cloned())
        .collect();
    let platforms: Vec<String> = q
        .variant
        .platforms
        .iter()
        .map(|p| platform_marker(*p))
        .collect();
    let platforms = quoted_list(&platforms);
    let mut root = format!(
        "[project]\nname = \"comfy-lock\"\nversion = \"0\"\nrequires-python = \
         \"{requires}\"\ndependencies = [{0}]\n\n[tool.uv]\npackage = false\n\
         environments = [{platforms}]\nrequired-environments = \
         [{platforms}]\noverride-dependencies = [{1}]\nconstraint-dependencies = [{2}]\n",
        quoted_list(names),
        quoted_list(&q.python.overrides),
        quoted_list(&constraints),
    );
    for x in q.variant.indexes(&q.python.indexes) {
        // Writing to a String cannot fail.
        let _ = write!(root, "\n[[tool.uv.index]]\n{}", index_lines(x));
    }
    let _ = write!(
        root,
        "\n[tool.uv.workspace]\nmembers = [{}]\n\n[tool.uv.sources]\n",
        quoted_list(names)
    );
    for name in names {
        let _ = writeln!(root, "{name} = {{ workspace = true }}");
    }
    for (package, from) in &routes {
        let sources: Vec<String> = from
            .iter()
            .map(|(index, platforms)| {
                let marker = if platforms.len() == q.variant.platforms.len() {
                    String::new()
                } else {
                    let each: Vec<String> = platforms
                        .iter()
                        .map(|p| format!("({})", platform_marker(*p)))
                        .collect();
                    format!(", marker = {}", quoted_string(&each.join(" or ")))
                };
                format!("{{ index = {}{marker} }}", quoted_string(index))
            })
            .collect();
        let _ = writeln!(
            root,
            "{} = [{}]",
            quoted_string(package),
            sources.join(", ")
        );
    }
    root
}

/// uv's settings: the age of files. The caller's own are not read.
fn uv_settings(q: &ResolutionQuestion, limit: &AgeLimit) -> String {
    let Some(newest) = &limit.newest else {
        return String::new();
    };
    let mut out = format!("exclude-newer = {}\n", quoted_string(newest));
    if !limit.exempt.is_empty() {
        let each: Vec<String> = limit
            .exempt
            .iter()
            .map(|p| format!("{p} = false"))
            .collect();
        let _ = writeln!(out, "exclude-newer-package = {{ {} }}", each.join(", "));
    }
    for x in q.variant.indexes(&q.python.indexes) {
        if limit.undated.contains(&x.name) || !limit.dated.contains(&x.name) {
            let _ = write!(
                out,
                "\n[[index]]\n{}exclude-newer = false\n",
                index_lines(x)
            );
        }
    }
    out
}

fn index_lines(x: &PackageIndex) -> String {
    let flat = if x.url == WHEELS_URL {
        "format = \"flat\"\n"
    } else {
        ""
    };
    format!(
        "name = {}\nurl = {}\n{flat}explicit = true\n",
        quoted_string(&x.name),
        quoted_string(&x.url)
    )
}

fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|i| quoted_string(i)).collect();
    quoted.join(", ")
}

/// Versions as a uv.lock that uv takes as preferences; it does so where the limit is the same.
fn preferences_lock(preferred: &[PreferredVersion], requires: &str, limit: &AgeLimit) -> String {
    let mut out = format!("version = 1\nrequires-python = \"{requires}\"\n");
    if let Some(newest) = &limit.newest {
        let _ = write!(out, "\n[options]\nexclude-newer = \"{newest}\"\n");
        if !limit.exempt.is_empty() {
            out.push_str("\n[options.exclude-newer-package]\n");
            for p in &limit.exempt {
                let _ = writeln!(out, "{p} = false");
            }
        }
    }
    let mut seen = BTreeSet::new();
    for p in preferred {
        if seen.insert((&p.name, &p.version, &p.url)) {
            let _ = write!(
                out,
                "\n[[package]]\nname = {}\nversion = {}\nsource = {{ registry = {} }}\n",
                quoted_string(&p.name),
                quoted_string(&p.version),
                quoted_string(&p.url)
            );
        }
    }
    out
}

fn quoted_string(s: &str) -> String {
    toml::Value::String(s.to_string()).to_string()
}
