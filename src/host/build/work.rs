//! What a build job can do, and what of the machine each piece of work needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::confine::places;
use crate::ids::Part;

use super::{bytecode, interpreter, venv};
use crate::host::git::{FetchDepth, GitStore, objects};
use crate::host::net::NetEnv;
use crate::host::roles::credentials::Dropped;
use crate::host::{models, uv};
use crate::lock::RepositoryPin;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;
use crate::tree::{ObjectId, TreeEntry, TreeListing};

/// One tree to make.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct TreeRequest {
    pub part: Part,
    pub pin: RepositoryPin,
    /// Files that the sealer has already, by path, content and mode.
    pub have: BTreeMap<String, TreeEntry>,
    pub target: PathBuf,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct TreesRequest {
    pub store: PathBuf,
    pub config: PathBuf,
    pub git: Option<PathBuf>,
    pub net: NetEnv,
    pub offline: bool,
    pub items: Vec<TreeRequest>,
}

/// What the build process can do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) enum BuildWork {
    Trees(TreesRequest),
    Venv(Box<venv::build_job::VenvJob>),
    Bytecode(bytecode::CompileJob),
    Uv(uv::program::UvJob),
    Python(interpreter::InterpreterJob),
    Models(Box<models::build_job::ModelsJob>),
}

/// What a piece of work touches, beside what every program needs of the system.
#[derive(Default)]
pub(crate) struct WorkNeeds {
    pub fetches: bool,
    pub read: Vec<PathBuf>,
    /// Programs, and the folders that they load from.
    pub run: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    /// Written, and run from there.
    pub work: Vec<PathBuf>,
}

impl WorkNeeds {
    /// Of whoever fetches: certificates that the caller named, and files and folders that stand for
    /// servers.
    fn for_fetching(net: &NetEnv) -> WorkNeeds {
        let files = net
            .vars
            .values()
            .map(|v| v.strip_prefix("file://").unwrap_or(v))
            .filter(|v| v.starts_with('/'))
            .map(PathBuf::from);
        // What a list of interpreters names lies beside it.
        let archives = net
            .vars
            .get("UV_PYTHON_DOWNLOADS_JSON_URL")
            .and_then(|at| Path::new(at.strip_prefix("file://").unwrap_or(at)).parent());
        let archives = archives
            .filter(|folder| folder.is_absolute())
            .map(Path::to_path_buf);
        let files = files.chain(archives);
        WorkNeeds {
            fetches: true,
            read: files.chain(net.mirrors.local_folders()).collect(),
            ..WorkNeeds::default()
        }
    }

    fn for_uv(net: &NetEnv) -> WorkNeeds {
        let mut needs = WorkNeeds::for_fetching(net);
        needs
            .run
            .extend(net.vars.get("COMFY_UV").map(PathBuf::from));
        needs
    }
}

impl BuildWork {
    pub(crate) fn needs_of(&self) -> WorkNeeds {
        let above = |p: &Path| p.parent().unwrap_or(p).to_path_buf();
        match self {
            BuildWork::Trees(r) => {
                let mut needs = WorkNeeds::for_fetching(&r.net);
                needs.fetches = !r.offline;
                needs.read.push(r.config.clone());
                needs
                    .run
                    .extend(r.git.iter().flat_map(|git| places::program_paths(git)));
                needs.write.push(r.store.clone());
                needs.write.extend(r.items.iter().map(|i| above(&i.target)));
                needs
            }
            BuildWork::Venv(j) => {
                let mut needs = WorkNeeds::for_fetching(&j.net);
                needs.fetches = !j.offline;
                needs
                    .run
                    .extend(places::program_paths(&j.spec.interpreter.path));
                needs.write.extend([j.wheels.clone(), above(&j.target)]);
                needs.read.extend(j.local.clone());
                needs
            }
            BuildWork::Bytecode(j) => {
                let run = places::program_paths(&j.interpreter.path);
                WorkNeeds {
                    run,
                    read: vec![j.top.clone()],
                    write: vec![j.target.clone()],
                    ..WorkNeeds::default()
                }
            }
            BuildWork::Uv(j) => {
                let mut needs = WorkNeeds::for_uv(&j.net);
                needs.fetches = !j.offline;
                needs.write.push(above(&j.target));
                needs
            }
            BuildWork::Python(j) => {
                let mut needs = WorkNeeds::for_uv(&j.net);
                needs.fetches = !j.offline;
                needs.run.push(j.uv.clone());
                needs.work.extend([j.cache.clone(), above(&j.target)]);
                needs
            }
            BuildWork::Models(j) => WorkNeeds {
                write: vec![j.folder.clone()],
                ..WorkNeeds::for_fetching(&j.net)
            },
        }
    }

    /// Does the work, as whoever calls, who is not root any more.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub(crate) fn run_work(&self, report: &dyn Reporter, _: &Dropped) -> Result<serde_json::Value> {
        let value = match self {
            BuildWork::Trees(r) => serde_json::to_value(fetch_trees(r, report)?),
            BuildWork::Venv(j) => serde_json::to_value(venv::build_job::run_job(j, report)?),
            BuildWork::Bytecode(j) => serde_json::to_value(j.run(report)?),
            BuildWork::Uv(j) => serde_json::to_value(j.run()?),
            BuildWork::Python(j) => serde_json::to_value(j.run(report)?),
            BuildWork::Models(j) => serde_json::to_value(models::build_job::run_job(j, report)?),
        };
        value.context("answer")
    }
}

/// Fetches and unpacks all items, several at once.
///
/// # Errors
/// Every item that failed, in one problem.
fn fetch_trees(request: &TreesRequest, report: &dyn Reporter) -> Result<Vec<(Part, TreeListing)>> {
    let git = GitStore {
        home: None,
        program: request.git.clone(),
        net: request.net.clone(),
        store: request.store.clone(),
        offline: request.offline,
        config: request.config.clone(),
    };
    let fetched: Vec<Result<u64>> = request
        .items
        .par_iter()
        .map(|i| fetch_repositories(&git, i, report))
        .collect();
    let (mut bytes, mut problems) = (0, Vec::new());
    for f in fetched {
        match f {
            Ok(n) => bytes += n,
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    let free =
        crate::host::fs::edit::free_bytes(&request.store).context("ask for free disk space")?;
    if free < bytes + bytes / 20 {
        return Err(Problem::new(format!(
            "the disk that holds {} has {} free, and {} are needed",
            request.store.display(),
            crate::text::format_bytes(free),
            crate::text::format_bytes(bytes)
        ))
        .with_hint("free some space, `comfy gc` for example, and run it again"));
    }
    let results: Vec<Result<(Part, TreeListing)>> = request
        .items
        .par_iter()
        .map(|i| export_tree(&git, i, report))
        .collect();
    let mut out = Vec::new();
    for r in results {
        match r {
            Ok(l) => out.push(l),
            Err(p) => problems.push(p),
        }
    }
    if problems.is_empty() {
        Ok(out)
    } else {
        Err(Problem::from_many(problems))
    }
}

fn prefixed_with(part: &Part) -> impl Fn(Problem) -> Problem + '_ {
    move |p| p.with_prefix(&format!("{part}: "))
}

/// Has everything of an item in the store; returns how many bytes its files will take.
fn fetch_repositories(git: &GitStore, item: &TreeRequest, report: &dyn Reporter) -> Result<u64> {
    let job = report.start_job(&item.part.to_string());
    let pin = &item.pin;
    let mut bytes = 0_u64;
    let mut listings = BTreeMap::new();
    let trees = std::iter::once(("", &pin.repo, pin.git_ref.as_str(), &pin.commit, &pin.tree))
        .chain(
            pin.submodules
                .iter()
                .map(|s| (s.path.as_str(), &s.repo, "HEAD", &s.commit, &s.tree)),
        );
    for (path, repo, git_ref, commit, tree) in trees {
        let folder = match pin.archive.as_ref().filter(|_| path.is_empty()) {
            Some(archive) => git.ensure_archive(repo, commit, archive),
            None => git.ensure_commit(repo, git_ref, commit, FetchDepth::Whole, job.as_ref()),
        }
        .map_err(prefixed_with(&item.part))?;
        let is = objects::tree_of(&folder, commit).map_err(prefixed_with(&item.part))?;
        if is != *tree {
            return Err(Problem::new(format!(
                "{}: commit {commit} has tree {is}, and comfy.lock says {tree}",
                item.part
            ))
            .with_hint(
                "comfy.lock was edited by hand: restore it from git, or delete it and run \
                    `comfy lock`",
            ));
        }
        let listing = objects::read_snapshot(&folder, commit, &pin.exclusions().in_submodule(path))
            .map_err(prefixed_with(&item.part))?
            .listing;
        bytes = listing
            .0
            .values()
            .fold(bytes, |sum, e| sum.saturating_add(e.size));
        listings.insert(path, listing);
    }
    check_submodules(pin, &listings).map_err(prefixed_with(&item.part))?;
    Ok(bytes)
}

/// What comfy.lock says of submodules is believed only where the trees say the same: a path is a
/// place to write to.
fn check_submodules(pin: &RepositoryPin, listings: &BTreeMap<&str, TreeListing>) -> Result<()> {
    let commits = |(prefix, l): (&&str, &TreeListing)| -> Vec<(String, ObjectId)> {
        l.0.iter()
            .filter(|(_, e)| e.mode == crate::tree::EntryMode::Commit)
            .map(|(p, e)| (join_path(prefix, p), e.oid))
            .collect()
    };
    let trees: BTreeMap<String, ObjectId> = listings.iter().flat_map(commits).collect();
    let lock: BTreeMap<String, ObjectId> = pin
        .submodules
        .iter()
        .map(|s| (s.path.clone(), s.commit))
        .collect();
    match trees
        .iter()
        .find(|(p, c)| lock.get(*p) != Some(*c))
        .or_else(|| lock.iter().find(|(p, _)| !trees.contains_key(*p)))
    {
        None => Ok(()),
        Some((path, _)) => Err(Problem::new(format!(
            "submodule `{}` in comfy.lock is not what the tree says",
            crate::text::escape_text(path)
        ))
        .with_hint(
            "comfy.lock was edited by hand, or lacks a submodule: restore it from git, or \
                `comfy update` this node; nothing was installed",
        )),
    }
}

fn export_tree(
    git: &GitStore,
    item: &TreeRequest,
    report: &dyn Reporter,
) -> Result<(Part, TreeListing)> {
    let job = report.start_job(&item.part.to_string());
    job.set_position(0, 1);
    let pin = &item.pin;
    std::fs::create_dir(&item.target).with_context(|| format!("make {}", item.target.display()))?;
    let target = crate::host::fs::open_dir(&item.target)
        .with_context(|| format!("open {}", item.target.display()))?;
    let one =
        |repo: &str, commit: &ObjectId, prefix: &str, whole: &mut TreeListing| -> Result<()> {
            let folder = git.store_folder(repo, FetchDepth::Whole);
            let skip = |path: &str, e: &TreeEntry| {
                item.have
                    .get(&join_path(prefix, path))
                    .is_some_and(|h| h.oid == e.oid && h.mode == e.mode)
            };
            let excluded = pin.exclusions().in_submodule(prefix);
            let listing = objects::export_files(&folder, commit, &target, prefix, &excluded, &skip)
                .map_err(prefixed_with(&item.part))?;
            whole.0.extend(
                listing
                    .0
                    .into_iter()
                    .filter(|(_, e)| e.mode != crate::tree::EntryMode::Commit)
                    .map(|(p, e)| (join_path(prefix, &p), e)),
            );
            Ok(())
        };
    let mut whole = TreeListing::default();
    one(&pin.repo, &pin.commit, "", &mut whole)?;
    for s in &pin.submodules {
        one(&s.repo, &s.commit, &s.path, &mut whole)?;
    }
    job.set_position(1, 1);
    Ok((item.part.clone(), whole))
}

fn join_path(prefix: &str, path: &str) -> String {
    if prefix.is_empty() {
        path.to_string()
    } else {
        format!("{prefix}/{path}")
    }
}
