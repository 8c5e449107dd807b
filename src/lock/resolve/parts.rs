//! ComfyUI and the nodes: refs become commits, commits become tree hashes and requirement lines.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::submodules::SubmodulePins;
use super::{
    CommitQuery, RepositoryResolver, RepositorySnapshot, ResolvedRef, SourceTexts, UpdatePolicy,
};
use crate::lock::difference::CommitRange;
use crate::lock::python::RequirementLine;
use crate::lock::tree_facts::TreeFacts;
use crate::lock::{Lock, PartRequirements, RepositoryPin, part_address, requirements};
use crate::manifest::Manifest;
use crate::manifest::node_source::NodeSource;
use crate::problem::{Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::TreeExclusions;

/// Every repository of the manifest, pinned: the whole list at once, since none depends on another.
pub(super) fn resolve_repositories(
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
                    let (_, key) = NodeSource::of(part.repo).keys();
                    manifest.source.place_of_key(&["nodes", name, key])
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
    match part.exclude.iter().find(|p| !is_there(p)) {
        Some(path) => Err(not_in_tree(
            manifest,
            part.name,
            ("exclude", "exclude"),
            path,
            pin,
        )),
        None => Ok(()),
    }
}

/// Refuses a requirements file that the tree does not have.
fn ensure_requirements_files(
    manifest: &Manifest,
    part: &AskedPart,
    found: &ResolvedPart,
) -> Result<()> {
    let key = ("requirements_files", "requirements file");
    match found.seen.absent_files.first() {
        Some(file) => Err(not_in_tree(manifest, part.name, key, file, &found.pin)),
        None => Ok(()),
    }
}

/// A path of a node's section that its tree does not have; `key` is the key and what its paths are
/// called.
fn not_in_tree(
    manifest: &Manifest,
    node: &str,
    (key, called): (&str, &str),
    path: &str,
    pin: &RepositoryPin,
) -> Problem {
    let place = manifest.source.place_of_key(&["nodes", node, key]);
    Problem::new(format!(
        "{place}: {node}: {called} \"{}\" is not in its tree at commit {}",
        crate::text::escape_text(path),
        crate::text::short_commit(&pin.commit.to_string())
    ))
    .with_hint(format!(
        "correct the path, or remove it from `{key}`; capitals count"
    ))
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
    lines: Option<Vec<RequirementLine>>,
) -> PartRequirements {
    let lines = lines.unwrap_or_else(|| {
        old.and_then(|l| l.asks.get(&part_address(name)))
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

/// The parts that could be resolved, as the rest of a lock is made from them.
#[derive(Default)]
pub(super) struct CollectedParts {
    /// By name, ComfyUI's among them.
    pub pins: BTreeMap<String, RepositoryPin>,
    /// By address.
    pub asks: BTreeMap<String, PartRequirements>,
    /// Of nodes whose trees were looked at.
    pub facts: Vec<(String, TreeFacts)>,
    /// When the newest commit was made, in seconds of Unix; 0 where no tree was looked at.
    pub newest_commit: i64,
}

impl CollectedParts {
    /// Takes a part; what it asks of Python, if that was not looked up, is as in `old`.
    pub(super) fn take(
        &mut self,
        manifest: &Manifest,
        old: Option<&Lock>,
        (name, pin, seen): (String, RepositoryPin, SeenTree),
    ) {
        let asked = part_requirements(manifest, old, &name, seen.lines);
        if asked != PartRequirements::default() {
            self.asks.insert(part_address(&name), asked);
        }
        self.newest_commit = self.newest_commit.max(seen.committed);
        self.facts.extend(seen.facts.map(|f| (name.clone(), f)));
        self.pins.insert(name, pin);
    }

    /// Takes out ComfyUI's pin.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take_core(&mut self) -> Result<RepositoryPin> {
        let core = self.pins.remove("comfyui");
        core.ok_or_else(|| Problem::new("no pin for comfyui"))
    }
}

/// What a pin says that its ref named.
fn found_by(pin: &RepositoryPin) -> ResolvedRef {
    ResolvedRef {
        commit: pin.commit,
        archive: pin.archive.clone(),
        moved_to: None,
    }
}

/// One part, resolved.
pub(super) struct ResolvedPart {
    pub name: String,
    pub pin: RepositoryPin,
    /// Commits between its old pin and its new one, where known.
    pub commits: Option<CommitRange>,
    /// Where its repository is by now.
    pub moved_to: Option<String>,
    pub seen: SeenTree,
}

/// What was looked up in its tree; nothing where the lock says it.
#[derive(Default)]
pub(super) struct SeenTree {
    /// What it asks of Python.
    pub lines: Option<Vec<RequirementLine>>,
    /// Of nodes only.
    pub facts: Option<TreeFacts>,
    /// When its commit was made, in seconds of Unix; 0 where it is none of a repository.
    committed: i64,
    /// Files of `requirements_files` that it does not have.
    absent_files: Vec<String>,
}

impl<'a> AskedPart<'a> {
    fn is_core(&self) -> bool {
        self.name == "comfyui"
    }

    fn query(
        &self,
        found: &'a ResolvedRef,
        exclude: &'a TreeExclusions,
        requirements_files: &'a [String],
    ) -> CommitQuery<'a> {
        CommitQuery {
            repo: self.repo,
            git_ref: self.git_ref,
            commit: &found.commit,
            archive: found.archive.as_ref(),
            exclude,
            requirements_files,
            sources: if self.is_core() {
                SourceTexts::None
            } else {
                SourceTexts::All
            },
        }
    }

    fn seen_tree(&self, seen: &RepositorySnapshot, files: &[String]) -> SeenTree {
        let named = self.requirements_files.unwrap_or_default().iter();
        let absent = named.filter(|f| !seen.requirements.contains_key(*f));
        let facts = (!self.is_core())
            .then(|| TreeFacts::of_tree(&seen.listing, &seen.requirements, &seen.sources));
        SeenTree {
            lines: Some(requirements::parse_files(files, &seen.requirements)),
            facts,
            committed: seen.committed,
            absent_files: absent.cloned().collect(),
        }
    }
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
        UpdatePolicy::Keep | UpdatePolicy::At(_) => false,
        UpdatePolicy::Move(names) => names.is_empty() || names.iter().any(|n| n == name),
    };
    let given = match mode {
        UpdatePolicy::At(given) => given.commits.get(name),
        UpdatePolicy::Keep | UpdatePolicy::Move(_) => None,
    };
    let look_at = |found: &ResolvedRef, progress: &dyn Progress| -> Result<(_, SeenTree)> {
        let seen = repos.snapshot(&part.query(found, &without, files), progress);
        let seen = seen.map_err(named)?;
        let tree = part.seen_tree(&seen, files);
        Ok((seen, tree))
    };
    let keep = |pin: &RepositoryPin| -> Result<ResolvedPart> {
        let kept = ResolvedPart {
            name: name.to_string(),
            pin: pin.clone(),
            commits: None,
            moved_to: None,
            seen: SeenTree::default(),
        };
        if asks_known {
            return Ok(kept);
        }
        let job = report.start_job(name);
        let (_, seen) = look_at(&found_by(pin), job.as_ref())?;
        Ok(ResolvedPart { seen, ..kept })
    };
    // What is excluded is looked up in the commit that is pinned.
    let target = match satisfied.filter(|_| !may_move) {
        Some(pin) => found_by(pin),
        None => match given {
            Some(commit) => (*commit).into(),
            None => repos.resolve_ref(repo, git_ref).map_err(named)?,
        },
    };
    let commit = target.commit;
    if let Some(pin) = complete
        && pin.commit == commit
        && pin.archive == target.archive
    {
        let moved_to = target.moved_to;
        return Ok(ResolvedPart {
            moved_to,
            ..keep(pin)?
        });
    }
    let job = report.start_job(name);
    let (snapshot, seen) = look_at(&target, job.as_ref())?;
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
    let commits = same_repo.and_then(|p| repos.commits_between(repo, &p.commit, &commit));
    let pin = RepositoryPin {
        repo: repo.into(),
        git_ref: git_ref.into(),
        commit,
        tree: snapshot.tree,
        submodules,
        excluded,
        archive: target.archive,
    };
    Ok(ResolvedPart {
        name: name.to_string(),
        pin,
        commits,
        moved_to: target.moved_to,
        seen,
    })
}
