//! Filling the lock: refs become commits, commits become tree hashes, what they ask of Python
//! becomes packages, and what cannot be installed is refused here.

mod merge;
pub(crate) mod models;
mod newest;
mod packages;
mod pins;
mod settle;
mod submodules;
mod torch;
mod variants;

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::python::{self, PackageResolver, RequirementLine};
use super::{Lock, PartRequirements, RepositoryPin, requirements};
use crate::lock::resolve::models::{ModelMoved, ModelResolver};
use crate::lock::tree_facts::{self, TreeFacts, project_version};
use crate::manifest::Manifest;
use crate::problem::{Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::{ExcludedEntry, ObjectId, TreeExclusions, TreeListing};
use packages::{package_changes, resolve_packages};
use submodules::SubmodulePins;

/// Where repositories are asked: the real one is [`crate::host::git::GitStore`].
pub(crate) trait RepositoryResolver: Sync {
    /// The commit that `git_ref` names now.
    fn resolve_ref(&self, repo: &str, git_ref: &str) -> Result<ObjectId>;
    /// What a commit holds, without its large files; a tree that breaks a rule is an error.
    fn snapshot(&self, wanted: &CommitQuery, progress: &dyn Progress)
    -> Result<RepositorySnapshot>;
    /// How many commits `new` has that `old` has not, where that can be known cheaply.
    fn commit_distance(&self, repo: &str, old: &ObjectId, new: &ObjectId) -> Option<usize>;
}

/// One commit, and what of it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct CommitQuery<'a> {
    pub repo: &'a str,
    pub git_ref: &'a str,
    pub commit: &'a ObjectId,
    /// Paths that are left out.
    pub exclude: &'a TreeExclusions,
    /// Files whose requirements are read, where the tree has them.
    pub requirements_files: &'a [String],
    pub sources: SourceTexts,
}

/// Which texts beside requirements are read, as far as a server gives them alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceTexts {
    None,
    /// pyproject.toml.
    Project,
    /// That, and Python's sources.
    All,
}

pub struct RepositorySnapshot {
    pub tree: ObjectId,
    pub listing: TreeListing,
    /// The targets of its links.
    pub links: BTreeMap<String, String>,
    /// Those of the excluded paths that it has.
    pub excluded: Vec<ExcludedEntry>,
    pub gitmodules: Option<String>,
    /// The texts of its requirements files and of those that they include, by path.
    pub requirements: BTreeMap<String, String>,
    /// The texts that [`SourceTexts`] asked for, by path.
    pub sources: BTreeMap<String, String>,
}

/// Who is asked.
pub(crate) struct Resolvers<'a> {
    pub repos: &'a dyn RepositoryResolver,
    pub uv: &'a dyn PackageResolver,
    pub library: &'a dyn ModelResolver,
}

/// Which pins may move.
pub(crate) enum UpdatePolicy<'a> {
    /// Only what the lock lacks or has for another question (`comfy lock`).
    Keep,
    /// Those of these names, all if empty (`comfy update`).
    Move(&'a [String]),
}

/// One pin that is new or differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinChange {
    pub name: String,
    pub from: Option<ObjectId>,
    pub to: Option<ObjectId>,
    /// Commits between, where known.
    pub commits: Option<usize>,
}

/// One Python package that is new, gone or at another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageMoved {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

pub(crate) struct ResolvedLock {
    pub lock: Lock,
    pub moved: Vec<PinChange>,
    pub packages: Vec<PackageMoved>,
    pub models: Vec<ModelMoved>,
    /// What a person should know of the packages; only where they were resolved anew.
    pub remarks: Vec<String>,
}

/// Makes the lock that the manifest asks for, starting from `old`.
///
/// # Errors
/// Every repository that could not be resolved, and every tree that breaks a rule, in one problem.
pub(crate) fn resolve_manifest(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    ask: &Resolvers,
    report: &dyn Reporter,
) -> Result<ResolvedLock> {
    let (repos, uv) = (ask.repos, ask.uv);
    if let UpdatePolicy::Move(names) = mode {
        ensure_known_names(manifest, old, names)?;
    }
    let results = resolve_repositories(manifest, old, mode, repos, report);
    let (mut pins, mut moved, mut problems, mut asks) =
        (BTreeMap::new(), Vec::new(), Vec::new(), BTreeMap::new());
    let mut all_facts = Vec::new();
    for r in results {
        match r {
            Ok(ResolvedPart {
                name,
                pin,
                moved: m,
                lines,
                facts,
                absent_files: _,
            }) => {
                all_facts.extend(facts.map(|f| (name.clone(), f)));
                let address = if name == "comfyui" {
                    name.clone()
                } else {
                    format!("node.{name}")
                };
                let asked = part_requirements(manifest, old, &name, &address, lines);
                if asked != PartRequirements::default() {
                    asks.insert(address, asked);
                }
                moved.extend(m);
                pins.insert(name, pin);
            }
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    for (name, pin) in old.iter().flat_map(|l| &l.nodes) {
        if !pins.contains_key(name) {
            moved.push(PinChange {
                name: name.clone(),
                from: Some(pin.commit),
                to: None,
                commits: None,
            });
        }
    }
    let comfyui = pins
        .remove("comfyui")
        .ok_or_else(|| Problem::new("no pin for comfyui"))?;
    let before = old.and_then(|l| l.python.as_ref());
    let (python, package_remarks) = resolve_packages(manifest, &asks, old, mode, uv, report)?;
    let mut remarks = node_remarks(manifest, &comfyui, &all_facts, repos, report);
    remarks.extend(package_remarks);
    let packages = package_changes(before, &python);
    let (models, models_moved) = models::resolve_models(manifest, old, mode, ask.library, report)?;
    Ok(ResolvedLock {
        lock: Lock {
            comfyui,
            nodes: pins,
            asks,
            python: Some(python),
            models,
        },
        moved,
        packages,
        models: models_moved,
        remarks,
    })
}

/// What the trees of nodes show that were looked at.
fn node_remarks(
    manifest: &Manifest,
    comfyui: &RepositoryPin,
    all: &[(String, TreeFacts)],
    repos: &dyn RepositoryResolver,
    report: &dyn Reporter,
) -> Vec<String> {
    let version = || {
        let job = report.start_job("comfyui");
        let wanted = CommitQuery {
            repo: &comfyui.repo,
            git_ref: &comfyui.git_ref,
            commit: &comfyui.commit,
            exclude: &TreeExclusions::new([]),
            requirements_files: &[],
            sources: SourceTexts::Project,
        };
        let seen = repos.snapshot(&wanted, job.as_ref()).ok()?;
        project_version(seen.sources.get(tree_facts::PYPROJECT)?)
    };
    let asked = all.iter().any(|(_, f)| f.needs_comfyui_version());
    let core = asked.then(version).flatten();
    let is_enabled = |name: &str| manifest.nodes.get(name).is_some_and(|n| n.enabled);
    let enabled = all.iter().filter(|(name, _)| is_enabled(name));
    enabled
        .flat_map(|(name, facts)| facts.remarks(name, core.as_ref()))
        .collect()
}

/// Refuses a name to update that is neither a node, a package, nor a model.
fn ensure_known_names(manifest: &Manifest, old: Option<&Lock>, names: &[String]) -> Result<()> {
    let packages = old
        .and_then(|l| l.python.as_ref())
        .map_or(&[][..], |p| &p.packages);
    let known: Vec<&str> = ["comfyui"]
        .into_iter()
        .chain(manifest.nodes.keys().map(String::as_str))
        .chain(["python"])
        .chain(packages.iter().map(|p| p.name.as_str()))
        .collect();
    for name in names {
        let is_package = |p: &python::LockedPackage| p.name == python::normalize_name(name);
        if manifest.models.contains_key(name.as_str())
            || known.contains(&name.as_str())
            || packages.iter().any(is_package)
        {
            continue;
        }
        let p = Problem::new(format!(
            "comfy.toml has no node `{0}`, and comfy.lock no package of that name",
            crate::text::escape_text(name)
        ));
        return Err(
            match crate::text::did_you_mean(name, known.iter().copied()) {
                Some(k) => p.with_hint(format!("did you mean `{k}`?")),
                None => p.with_hint(
                    "names are those of the [nodes.…] sections, `comfyui`, `python` for all \
                     packages, or one package",
                ),
            },
        );
    }
    Ok(())
}

/// Every repository of the manifest, pinned: the whole list at once, since none depends on another.
fn resolve_repositories(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    repos: &dyn RepositoryResolver,
    report: &dyn Reporter,
) -> Vec<Result<ResolvedPart>> {
    let core = &manifest.comfyui;
    let mut asked = vec![AskedPart {
        name: "comfyui",
        repo: &core.repo,
        git_ref: &core.git_ref,
        exclude: &[],
        requirements_files: None,
    }];
    asked.extend(manifest.nodes.iter().map(|(name, n)| AskedPart {
        name,
        repo: &n.repo,
        git_ref: &n.git_ref,
        exclude: &n.exclude,
        requirements_files: n.requirements_files.as_deref(),
    }));
    asked
        .par_iter()
        .map(|part| {
            let name = part.name;
            let is_core = name == "comfyui";
            let before = old.and_then(|l| {
                if is_core {
                    Some(&l.comfyui)
                } else {
                    l.nodes.get(name)
                }
            });
            let files = old
                .and_then(|l| l.asks.get(&format!("node.{name}")))
                .and_then(|a| a.files.as_deref());
            let asks_known =
                old.is_some_and(|l| l.python.is_some()) && part.requirements_files == files;
            let before = before.map(|p| (p, asks_known));
            let found = resolve_part(part, before, mode, repos, report).map_err(|p| {
                let place = if is_core {
                    manifest.source.place_of_key(&["comfyui", "ref"])
                } else {
                    manifest.source.place_of_key(&["nodes", name, "ref"])
                };
                p.with_prefix(&format!("{place}: "))
            })?;
            ensure_excluded(manifest, part, &found.pin)?;
            ensure_requirements_files(manifest, part, &found)?;
            Ok(found)
        })
        .collect()
}

/// Refuses an excluded path that the tree does not have.
fn ensure_excluded(manifest: &Manifest, part: &AskedPart, pin: &RepositoryPin) -> Result<()> {
    let is_there = |path: &String| pin.excluded.iter().any(|x| x.path == *path);
    let Some(path) = part.exclude.iter().find(|p| !is_there(p)) else {
        return Ok(());
    };
    let place = manifest
        .source
        .place_of_key(&["nodes", part.name, "exclude"]);
    Err(Problem::new(format!(
        "{place}: {}: exclude \"{}\" is not in its tree at commit {}",
        part.name,
        crate::text::escape_text(path),
        crate::text::short_commit(&pin.commit.to_string())
    ))
    .with_hint("correct the path, or remove it from `exclude`; capitals count"))
}

/// Refuses a requirements file that the tree does not have.
fn ensure_requirements_files(
    manifest: &Manifest,
    part: &AskedPart,
    found: &ResolvedPart,
) -> Result<()> {
    let Some(file) = found.absent_files.first() else {
        return Ok(());
    };
    let place = manifest
        .source
        .place_of_key(&["nodes", part.name, "requirements_files"]);
    Err(Problem::new(format!(
        "{place}: {}: requirements file \"{}\" is not in its tree at commit {}",
        part.name,
        crate::text::escape_text(file),
        crate::text::short_commit(&found.pin.commit.to_string())
    ))
    .with_hint("correct the path, or remove it from `requirements_files`; capitals count"))
}

/// What the manifest asks for of one part.
struct AskedPart<'a> {
    name: &'a str,
    repo: &'a str,
    git_ref: &'a str,
    exclude: &'a [String],
    requirements_files: Option<&'a [String]>,
}

/// What a part asks of Python: the lines that were just read, or those of the old lock.
fn part_requirements(
    manifest: &Manifest,
    old: Option<&Lock>,
    name: &str,
    address: &str,
    lines: Option<Vec<RequirementLine>>,
) -> PartRequirements {
    let lines = lines.unwrap_or_else(|| {
        old.and_then(|l| l.asks.get(address))
            .map(|a| a.lines.clone())
            .unwrap_or_default()
    });
    let node = manifest.nodes.get(name).filter(|_| name != "comfyui");
    PartRequirements {
        lines,
        ignored: node.map_or_else(Vec::new, |n| n.ignore_requirements.clone()),
        files: node.and_then(|n| n.requirements_files.clone()),
    }
}

/// One part, resolved.
struct ResolvedPart {
    name: String,
    pin: RepositoryPin,
    moved: Option<PinChange>,
    /// What it asks of Python, where that was looked up.
    lines: Option<Vec<RequirementLine>>,
    /// What its tree shows, where that was looked up; of nodes only.
    facts: Option<TreeFacts>,
    /// Files of `requirements_files` that its tree does not have.
    absent_files: Vec<String>,
}

fn resolve_part(
    part: &AskedPart,
    // And whether the lock says what that pin asks of Python.
    before: Option<(&RepositoryPin, bool)>,
    mode: &UpdatePolicy,
    repos: &dyn RepositoryResolver,
    report: &dyn Reporter,
) -> Result<ResolvedPart> {
    let AskedPart {
        name,
        repo,
        git_ref,
        exclude,
        requirements_files,
    } = *part;
    let default = [requirements::FILE.to_string()];
    let files = requirements_files.unwrap_or(&default);
    let asks_known = before.is_some_and(|(_, known)| known);
    let before = before.map(|(p, _)| p);
    let without = TreeExclusions::new(exclude.iter().cloned());
    let named = |p: Problem| p.with_prefix(&format!("{name}: "));
    let satisfied = before.filter(|p| p.repo == repo && p.git_ref == git_ref);
    let complete = satisfied.filter(|p| p.excluded.iter().map(|x| &x.path).eq(exclude));
    let may_move = match mode {
        UpdatePolicy::Keep => false,
        UpdatePolicy::Move(names) => names.is_empty() || names.iter().any(|n| n == name),
    };
    let look_at = |commit: &ObjectId, progress: &dyn Progress| {
        let wanted = CommitQuery {
            repo,
            git_ref,
            commit,
            exclude: &without,
            requirements_files: files,
            sources: if name == "comfyui" {
                SourceTexts::None
            } else {
                SourceTexts::All
            },
        };
        repos.snapshot(&wanted, progress).map_err(named)
    };
    let absent_files = |seen: &RepositorySnapshot| -> Vec<String> {
        let named = requirements_files.unwrap_or_default().iter();
        let absent = named.filter(|f| !seen.requirements.contains_key(*f));
        absent.cloned().collect()
    };
    let facts = |seen: &RepositorySnapshot| {
        (name != "comfyui")
            .then(|| TreeFacts::of_tree(&seen.listing, &seen.requirements, &seen.sources))
    };
    let keep = |pin: &RepositoryPin| -> Result<ResolvedPart> {
        let kept = ResolvedPart {
            name: name.to_string(),
            pin: pin.clone(),
            moved: None,
            lines: None,
            facts: None,
            absent_files: Vec::new(),
        };
        if asks_known {
            return Ok(kept);
        }
        let job = report.start_job(name);
        let seen = look_at(&pin.commit, job.as_ref())?;
        Ok(ResolvedPart {
            lines: Some(requirements::parse_files(files, &seen.requirements)),
            absent_files: absent_files(&seen),
            facts: facts(&seen),
            ..kept
        })
    };
    // What is excluded is looked up in the commit that is pinned.
    let commit = match satisfied.filter(|_| !may_move) {
        Some(pin) => pin.commit,
        None => repos.resolve_ref(repo, git_ref).map_err(named)?,
    };
    if let Some(pin) = complete
        && pin.commit == commit
    {
        return keep(pin);
    }
    let job = report.start_job(name);
    let snapshot = look_at(&commit, job.as_ref())?;
    let mut found = SubmodulePins {
        name,
        exclude: &without,
        repos,
        progress: job.as_ref(),
        submodules: Vec::new(),
        excluded: snapshot.excluded.clone(),
    };
    found.collect(repo, "", &snapshot, 0)?;
    let SubmodulePins {
        mut submodules,
        mut excluded,
        ..
    } = found;
    submodules.sort_by(|a, b| a.path.cmp(&b.path));
    excluded.sort_by(|a, b| a.path.cmp(&b.path));
    let same_repo = before.filter(|p| p.repo == repo);
    let commits = same_repo.and_then(|p| repos.commit_distance(repo, &p.commit, &commit));
    let moved = PinChange {
        name: name.to_string(),
        from: before.map(|p| p.commit),
        to: Some(commit),
        commits,
    };
    let lines = Some(requirements::parse_files(files, &snapshot.requirements));
    let pin = RepositoryPin {
        repo: repo.into(),
        git_ref: git_ref.into(),
        commit,
        tree: snapshot.tree,
        submodules,
        excluded,
    };
    Ok(ResolvedPart {
        name: name.to_string(),
        pin,
        moved: Some(moved),
        lines,
        facts: facts(&snapshot),
        absent_files: absent_files(&snapshot),
    })
}
