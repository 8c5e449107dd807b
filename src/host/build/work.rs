//! What a build job can do, and what of the machine each piece of work needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::confine::places;

use super::{bytecode, venv};
use crate::host::build::interpreter;
use crate::host::git::{Depth, Git, NetEnv, objects};
use crate::host::roles::credentials::Dropped;
use crate::host::{models, uv};
use crate::lock::Pin;
use crate::problem::{Doing, Problem, Result};
use crate::progress::Reporter;
use crate::tree::{Entry, Listing, Oid};

/// One tree to make.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Item {
    pub part: String,
    pub pin: Pin,
    /// Files that the sealer has already, by path, content and mode.
    pub have: BTreeMap<String, Entry>,
    pub target: PathBuf,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Request {
    pub store: PathBuf,
    pub config: PathBuf,
    pub git: Option<PathBuf>,
    pub net: NetEnv,
    pub offline: bool,
    pub items: Vec<Item>,
}

/// What the build process can do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Work {
    Trees(Request),
    Venv(Box<venv::build_job::Job>),
    Bytecode(bytecode::Job),
    Uv(uv::program::Job),
    Python(interpreter::Job),
    Models(Box<models::build_job::Job>),
}

/// What a piece of work touches, beside what every program needs of the system.
#[derive(Default)]
pub struct Needs {
    pub fetches: bool,
    pub read: Vec<PathBuf>,
    /// Programs, and the folders that they load from.
    pub run: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    /// Written, and run from there.
    pub work: Vec<PathBuf>,
}

impl Needs {
    /// Of whoever fetches: certificates that the caller named, and files and folders that stand for
    /// servers.
    fn fetching(net: &NetEnv) -> Needs {
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
        Needs {
            fetches: true,
            read: files.chain(net.mirrors.folders()).collect(),
            ..Needs::default()
        }
    }

    fn uv(net: &NetEnv) -> Needs {
        let mut needs = Needs::fetching(net);
        needs
            .run
            .extend(net.vars.get("COMFY_UV").map(PathBuf::from));
        needs
    }
}

impl Work {
    pub fn needs(&self) -> Needs {
        let above = |p: &Path| p.parent().unwrap_or(p).to_path_buf();
        match self {
            Work::Trees(r) => {
                let mut needs = Needs::fetching(&r.net);
                needs.fetches = !r.offline;
                needs.read.push(r.config.clone());
                needs
                    .run
                    .extend(r.git.iter().flat_map(|git| places::program(git)));
                needs.write.push(r.store.clone());
                needs.write.extend(r.items.iter().map(|i| above(&i.target)));
                needs
            }
            Work::Venv(j) => {
                let mut needs = Needs::fetching(&j.net);
                needs.fetches = !j.offline;
                needs.run.extend(places::program(&j.spec.interpreter.path));
                needs.write.extend([j.wheels.clone(), above(&j.target)]);
                needs
            }
            Work::Bytecode(j) => {
                let run = places::program(&j.interpreter.path);
                Needs {
                    run,
                    read: vec![j.top.clone()],
                    write: vec![j.target.clone()],
                    ..Needs::default()
                }
            }
            Work::Uv(j) => {
                let mut needs = Needs::uv(&j.net);
                needs.fetches = !j.offline;
                needs.write.push(above(&j.target));
                needs
            }
            Work::Python(j) => {
                let mut needs = Needs::uv(&j.net);
                needs.fetches = !j.offline;
                needs.run.push(j.uv.clone());
                needs.work.extend([j.cache.clone(), above(&j.target)]);
                needs
            }
            Work::Models(j) => Needs {
                write: vec![j.folder.clone()],
                ..Needs::fetching(&j.net)
            },
        }
    }

    /// Does the work, as whoever calls, who is not root any more.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn run(&self, report: &dyn Reporter, _: &Dropped) -> Result<serde_json::Value> {
        let value = match self {
            Work::Trees(r) => serde_json::to_value(run(r, report)?),
            Work::Venv(j) => serde_json::to_value(venv::build_job::run(j, report)?),
            Work::Bytecode(j) => serde_json::to_value(j.run(report)?),
            Work::Uv(j) => serde_json::to_value(j.run()?),
            Work::Python(j) => serde_json::to_value(j.run(report)?),
            Work::Models(j) => serde_json::to_value(models::build_job::run(j, report)?),
        };
        value.doing(|| "answer".into())
    }
}

/// Fetches and unpacks all items, several at once.
///
/// # Errors
/// Every item that failed, in one problem.
fn run(request: &Request, report: &dyn Reporter) -> Result<Vec<(String, Listing)>> {
    let git = Git {
        program: request.git.clone(),
        net: request.net.clone(),
        store: request.store.clone(),
        offline: request.offline,
        config: request.config.clone(),
    };
    let fetched: Vec<Result<u64>> = request
        .items
        .par_iter()
        .map(|i| fetch(&git, i, report))
        .collect();
    let (mut bytes, mut problems) = (0, Vec::new());
    for f in fetched {
        match f {
            Ok(n) => bytes += n,
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    let free = crate::host::fs::edit::free_bytes(&request.store)
        .doing(|| "ask for free disk space".into())?;
    if free < bytes + bytes / 20 {
        return Err(Problem::new(format!(
            "the disk that holds {} has {} free, and {} are needed",
            request.store.display(),
            crate::text::bytes(free),
            crate::text::bytes(bytes)
        ))
        .hint("free some space, `comfy gc` for example, and run it again"));
    }
    let results: Vec<Result<(String, Listing)>> = request
        .items
        .par_iter()
        .map(|i| export(&git, i, report))
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
        Err(Problem::all(problems))
    }
}

fn named(part: &str) -> impl Fn(Problem) -> Problem + '_ {
    move |p| p.prefixed(&format!("{part}: "))
}

/// Has everything of an item in the store; returns how many bytes its files will take.
fn fetch(git: &Git, item: &Item, report: &dyn Reporter) -> Result<u64> {
    let job = report.job(&item.part);
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
        let folder = git
            .ensure(repo, git_ref, commit, Depth::Whole, job.as_ref())
            .map_err(named(&item.part))?;
        let is = objects::tree_of(&folder, commit).map_err(named(&item.part))?;
        if is != *tree {
            return Err(Problem::new(format!(
                "{}: commit {commit} has tree {is}, and comfy.lock \
                says {tree}",
                item.part
            ))
            .hint(
                "comfy.lock was edited by hand: restore it from git, or delete it and run \
                    `comfy lock`",
            ));
        }
        let listing = objects::snapshot(&folder, commit)
            .map_err(named(&item.part))?
            .listing;
        bytes = listing
            .0
            .values()
            .fold(bytes, |sum, e| sum.saturating_add(e.size));
        listings.insert(path, listing);
    }
    submodules(pin, &listings).map_err(named(&item.part))?;
    Ok(bytes)
}

/// What comfy.lock says of submodules is believed only where the trees say the same: a path is a
/// place to write to.
fn submodules(pin: &Pin, listings: &BTreeMap<&str, Listing>) -> Result<()> {
    let commits = |(prefix, l): (&&str, &Listing)| -> Vec<(String, Oid)> {
        l.0.iter()
            .filter(|(_, e)| e.mode == crate::tree::Mode::Commit)
            .map(|(p, e)| (join(prefix, p), e.oid))
            .collect()
    };
    let trees: BTreeMap<String, Oid> = listings.iter().flat_map(commits).collect();
    let lock: BTreeMap<String, Oid> = pin
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
            "submodule `{}` in comfy.lock is not what the \
            tree says",
            crate::text::escape(path)
        ))
        .hint(
            "comfy.lock was edited by hand, or lacks a submodule: restore it from git, or \
                `comfy update` this node; nothing was installed",
        )),
    }
}

fn export(git: &Git, item: &Item, report: &dyn Reporter) -> Result<(String, Listing)> {
    let job = report.job(&item.part);
    job.at(0, 1);
    let pin = &item.pin;
    std::fs::create_dir(&item.target).doing(|| format!("make {}", item.target.display()))?;
    let target = crate::host::fs::open_dir(&item.target)
        .doing(|| format!("open {}", item.target.display()))?;
    let one = |repo: &str, commit: &Oid, prefix: &str, whole: &mut Listing| -> Result<()> {
        let folder = git.folder(repo, Depth::Whole);
        let skip = |path: &str, e: &Entry| {
            item.have
                .get(&join(prefix, path))
                .is_some_and(|h| h.oid == e.oid && h.mode == e.mode)
        };
        let listing =
            objects::export(&folder, commit, &target, prefix, &skip).map_err(named(&item.part))?;
        whole.0.extend(
            listing
                .0
                .into_iter()
                .filter(|(_, e)| e.mode != crate::tree::Mode::Commit)
                .map(|(p, e)| (join(prefix, &p), e)),
        );
        Ok(())
    };
    let mut whole = Listing::default();
    one(&pin.repo, &pin.commit, "", &mut whole)?;
    for s in &pin.submodules {
        one(&s.repo, &s.commit, &s.path, &mut whole)?;
    }
    job.at(1, 1);
    Ok((item.part.clone(), whole))
}

fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() {
        path.to_string()
    } else {
        format!("{prefix}/{path}")
    }
}
