//! Filling the lock: refs become commits, commits become tree hashes, what they ask of Python
//! becomes packages, and what cannot be installed is refused here.

pub(crate) mod addresses;
pub(crate) mod given;
mod merge;
pub(crate) mod models;
pub(crate) mod moves;
mod newest;
mod own_wheels;
mod packages;
mod parts;
mod pins;
mod refusals;
mod settle;
mod submodules;
mod torch;
mod variants;

use std::collections::BTreeMap;

use super::python::{self, PackageResolver};
use super::{ArchivePin, Lock, RepositoryPin};
use crate::lock::difference::{CommitRange, LockDifference};
use crate::lock::resolve::models::ModelResolver;
use crate::lock::tree_facts::{self, TreeFacts, project_version};
use crate::manifest::Manifest;
use crate::problem::{Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::{ExcludedEntry, ObjectId, TreeExclusions, TreeListing};
use given::GivenPins;
use packages::{ResolvedPackages, resolve_packages};
use parts::{CollectedParts, ResolvedPart, resolve_repositories};

/// Where repositories are asked: the real one is [`crate::host::git::GitStore`].
pub(crate) trait RepositoryResolver: Sync {
    /// What `git_ref` names now: of a repository a commit, of the registry a version, of a folder
    /// what it holds.
    fn resolve_ref(&self, repo: &str, git_ref: &str) -> Result<ResolvedRef>;
    /// What a commit holds, without its large files; a tree that breaks a rule is an error.
    fn snapshot(&self, wanted: &CommitQuery, progress: &dyn Progress)
    -> Result<RepositorySnapshot>;
    /// The commits that `new` has and `old` has not, where they can be known cheaply.
    fn commits_between(&self, repo: &str, old: &ObjectId, new: &ObjectId) -> Option<CommitRange>;
}

/// What a ref names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedRef {
    pub commit: ObjectId,
    /// Of a node of the registry.
    pub archive: Option<ArchivePin>,
    /// The address to which its own server redirects.
    pub moved_to: Option<String>,
}

impl From<ObjectId> for ResolvedRef {
    fn from(commit: ObjectId) -> ResolvedRef {
        ResolvedRef {
            commit,
            archive: None,
            moved_to: None,
        }
    }
}

/// One commit, and what of it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct CommitQuery<'a> {
    pub repo: &'a str,
    pub git_ref: &'a str,
    pub commit: &'a ObjectId,
    /// Of a node of the registry.
    pub archive: Option<&'a ArchivePin>,
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
    /// When it was committed, as its committer says, in seconds of Unix.
    pub committed: i64,
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
#[derive(Clone, Copy)]
pub(crate) enum UpdatePolicy<'a> {
    /// Only what the lock lacks or has for another question (`comfy lock`).
    Keep,
    /// Those of these names, all if empty (`comfy update`).
    Move(&'a [String]),
    /// None: these pins are taken, where the lock has none (`comfy init --from`).
    At(&'a GivenPins),
}

pub(crate) struct ResolvedLock {
    pub lock: Lock,
    /// What moved, with the commits between.
    pub moved: LockDifference,
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
    let (mut parts, mut problems) = (CollectedParts::default(), Vec::new());
    let (mut commits_of, mut moved_repositories) = (BTreeMap::new(), Vec::new());
    for r in results {
        match r {
            Ok(ResolvedPart {
                name,
                pin,
                commits,
                moved_to,
                seen,
            }) => {
                let repo = |to: &String| moves::moved_remark(&name, &pin.repo, to);
                moved_repositories.extend(moved_to.as_ref().map(repo));
                commits_of.extend(commits.map(|range| (name.clone(), range)));
                parts.take(manifest, old, (name, pin, seen));
            }
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    let comfyui = parts.take_core()?;
    let CollectedParts {
        pins, asks, facts, ..
    } = parts;
    let ResolvedPackages {
        python,
        remarks: package_remarks,
        ..
    } = resolve_packages(manifest, &asks, old, mode, uv, report)?;
    let mut remarks = node_remarks(manifest, &comfyui, &facts, repos, report);
    remarks.extend(moved_repositories);
    remarks.extend(status_remarks(&pins));
    remarks.extend(package_remarks);
    let models = models::resolve_models(manifest, old, mode, ask.library, report)?;
    let lock = Lock {
        comfyui,
        nodes: pins,
        asks,
        python: Some(python),
        models,
        acceptances: old.map_or_else(Default::default, |l| l.acceptances.kept_for(manifest)),
    };
    let mut moved = LockDifference::between(old, &lock);
    for pin in &mut moved.pins {
        if let Some(range) = commits_of.remove(&pin.name) {
            pin.commits = Some(range.count);
            pin.newest = range.newest;
        }
    }
    Ok(ResolvedLock {
        lock,
        moved,
        remarks,
    })
}

/// What the registry says of versions that it did not find fault with yet, or did.
fn status_remarks(pins: &BTreeMap<String, RepositoryPin>) -> Vec<String> {
    let remark = |(name, pin): (&String, &RepositoryPin)| {
        let a = pin.archive.as_ref()?;
        let why = match a.status.as_str() {
            "active" => return None,
            "pending" => "has not been scanned by the registry yet".to_string(),
            "flagged" => "is flagged: a scan of the registry found something in it".to_string(),
            other => format!(
                "has the status \"{}\" in the registry",
                crate::text::escape_text(other)
            ),
        };
        Some(format!("node.{name}: version {} {why}", a.version))
    };
    pins.iter().filter_map(remark).collect()
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
            archive: None,
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
        .flat_map(|(name, facts)| facts.remarks(name, core.as_ref(), &manifest.python.platforms))
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
