//! Filling the lock: refs become commits, commits become tree hashes, what they ask of Python
//! becomes packages, and what cannot be installed is refused here.

pub mod models;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::python::{self, Asked, Resolver};
use super::{Asks, Lock, Pin, Python, Submodule, requirements};
use crate::lock::resolve::models::{Library, ModelMoved};
use crate::lock::uv::request::{self, Moving};
use crate::lock::uv::response;
use crate::manifest::{Manifest, names};
use crate::problem::{Problem, Result};
use crate::progress::{Progress, Reporter};
use crate::tree::{Listing, Oid, rules};

/// Where repositories are asked: the real one is [`crate::host::git::Git`].
pub trait Repositories: Sync {
    /// The commit that `git_ref` names now.
    fn resolve(&self, repo: &str, git_ref: &str) -> Result<Oid>;
    /// What `commit` holds, without its large files; a tree that breaks a rule is an error.
    fn snapshot(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &Oid,
        progress: &dyn Progress,
    ) -> Result<Snapshot>;
    /// How many commits `new` has that `old` has not, where that can be known cheaply.
    fn distance(&self, repo: &str, old: &Oid, new: &Oid) -> Option<usize>;
}

pub struct Snapshot {
    pub tree: Oid,
    pub listing: Listing,
    pub gitmodules: Option<String>,
    /// The text of requirements.txt.
    pub requirements: Option<String>,
}

/// Who is asked.
pub struct Asking<'a> {
    pub repos: &'a dyn Repositories,
    pub uv: &'a dyn Resolver,
    pub library: &'a dyn Library,
}

/// Which pins may move.
pub enum Mode<'a> {
    /// Only what the lock lacks or has for another question (`comfy lock`).
    Keep,
    /// Those of these names, all if empty (`comfy update`).
    Move(&'a [String]),
}

/// One pin that is new or differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub name: String,
    pub from: Option<Oid>,
    pub to: Option<Oid>,
    /// Commits between, where known.
    pub commits: Option<usize>,
}

/// One Python package that is new, gone or at another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageMoved {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

pub struct Resolved {
    pub lock: Lock,
    pub moved: Vec<Moved>,
    pub packages: Vec<PackageMoved>,
    pub models: Vec<ModelMoved>,
    /// What a person should know of the packages; only where they were resolved anew.
    pub remarks: Vec<String>,
}

const MAX_NESTED_SUBMODULES: usize = 5;

/// Makes the lock that the manifest asks for, starting from `old`.
///
/// # Errors
/// Every repository that could not be resolved, and every tree that breaks a rule, in one problem.
pub fn run(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &Mode,
    ask: &Asking,
    report: &dyn Reporter,
) -> Result<Resolved> {
    let (repos, uv) = (ask.repos, ask.uv);
    let mut asked: Vec<(String, &str, &str)> = vec![(
        "comfyui".into(),
        &manifest.comfyui.repo,
        &manifest.comfyui.git_ref,
    )];
    asked.extend(
        manifest
            .nodes
            .iter()
            .map(|(n, x)| (n.clone(), x.repo.as_str(), x.git_ref.as_str())),
    );
    if let Mode::Move(names) = mode {
        let packages = old
            .and_then(|l| l.python.as_ref())
            .map_or(&[][..], |p| &p.packages);
        let known: Vec<&str> = asked
            .iter()
            .map(|(n, _, _)| n.as_str())
            .chain(["python"])
            .chain(packages.iter().map(|p| p.name.as_str()))
            .collect();
        for name in names
            .iter()
            .filter(|n| !manifest.models.contains_key(n.as_str()))
        {
            if !known.contains(&name.as_str())
                && !packages.iter().any(|p| p.name == python::normal(name))
            {
                let p = Problem::new(format!(
                    "comfy.toml has no node `{0}`, and comfy.lock no package of that name",
                    crate::text::escape(name)
                ));
                return Err(
                    match crate::text::did_you_mean(name, known.iter().copied()) {
                        Some(k) => p.hint(format!("did you mean `{k}`?")),
                        None => p.hint(
                            "names are those of the [nodes.…] sections, `comfyui`, `python` \
                        for all packages, or one package",
                        ),
                    },
                );
            }
        }
    }
    // The whole list at once: which refs and trees are asked does not depend on each other.
    let asks_known = old.is_some_and(|l| l.python.is_some());
    let results: Vec<Result<One>> = asked
        .par_iter()
        .map(|(name, repo, git_ref)| {
            let core = name == "comfyui";
            let before = old.and_then(|l| {
                if core {
                    Some(&l.comfyui)
                } else {
                    l.nodes.get(name)
                }
            });
            one(
                name,
                repo,
                git_ref,
                before.map(|p| (p, asks_known)),
                mode,
                repos,
                report,
            )
            .map_err(|p| {
                let place = if core {
                    manifest.source.at(&["comfyui", "ref"])
                } else {
                    manifest.source.at(&["nodes", name, "ref"])
                };
                p.prefixed(&format!("{place}: "))
            })
        })
        .collect();
    let (mut pins, mut moved, mut problems, mut asks) =
        (BTreeMap::new(), Vec::new(), Vec::new(), BTreeMap::new());
    for r in results {
        match r {
            Ok(One {
                name,
                pin,
                moved: m,
                lines,
            }) => {
                let address = if name == "comfyui" {
                    name.clone()
                } else {
                    format!("node.{name}")
                };
                let lines = lines.unwrap_or_else(|| {
                    old.and_then(|l| l.asks.get(&address))
                        .map(|a| a.lines.clone())
                        .unwrap_or_default()
                });
                let ignored = manifest
                    .nodes
                    .get(&name)
                    .filter(|_| name != "comfyui")
                    .map(|n| n.ignore_requirements.clone())
                    .unwrap_or_default();
                if !lines.is_empty() || !ignored.is_empty() {
                    asks.insert(address, Asks { lines, ignored });
                }
                moved.extend(m);
                pins.insert(name, pin);
            }
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    for (name, pin) in old.iter().flat_map(|l| &l.nodes) {
        if !pins.contains_key(name) {
            moved.push(Moved {
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
    let (python, remarks) = packages(manifest, &asks, old, mode, uv, report)?;
    let packages = differences(before, &python);
    let (models, models_moved) = models::run(manifest, old, mode, ask.library, report)?;
    Ok(Resolved {
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

/// The packages that are asked for: the locked ones where nothing was asked anew, else uv's answer.
fn packages(
    manifest: &Manifest,
    asks: &BTreeMap<String, Asks>,
    old: Option<&Lock>,
    mode: &Mode,
    uv: &dyn Resolver,
    report: &dyn Reporter,
) -> Result<(Python, Vec<String>)> {
    let m = &manifest.python;
    let fresh = Python::asked(m);
    let before = old.and_then(|l| l.python.as_ref());
    let names: BTreeSet<String> = match mode {
        Mode::Keep => BTreeSet::new(),
        Mode::Move(names) => names
            .iter()
            .map(|n| python::normal(n))
            .filter(|n| before.is_some_and(|p| p.packages.iter().any(|k| k.name == *n)))
            .collect(),
    };
    let moving = match mode {
        Mode::Move(all) if all.is_empty() || all.iter().any(|n| n == "python") => Moving::All,
        _ if names.is_empty() => Moving::None,
        _ => Moving::Only(&names),
    };
    let effective = |asks: &BTreeMap<String, Asks>| -> BTreeMap<String, Vec<String>> {
        let texts = |a: &Asks| a.effective().map(|l| l.text.clone()).collect::<Vec<_>>();
        asks.iter()
            .map(|(part, a)| (part.clone(), texts(a)))
            .filter(|(_, t)| !t.is_empty())
            .collect()
    };
    let wanted = effective(asks);
    if wanted.is_empty() && m.requirements.is_empty() {
        return Ok((fresh, Vec::new()));
    }
    // It stays like any pin. A lock of an older comfy gets one; where there is no uv, it stays
    // without.
    let kept = before
        .filter(|p| p.version == m.version && !matches!(moving, Moving::All))
        .and_then(|p| p.managed.clone());
    if let (Some(locked), Some(lock), Moving::None) = (before, old, moving)
        && (Python {
            packages: Vec::new(),
            managed: None,
            ..locked.clone()
        }) == fresh
        && effective(&lock.asks) == wanted
    {
        let managed = kept.or_else(|| uv.newest(&m.version).unwrap_or(None));
        return Ok((
            Python {
                managed,
                ..locked.clone()
            },
            Vec::new(),
        ));
    }
    // Without an age nothing is compared, so that an index that tells no times serves too.
    let newest = (!m.minimum_age.is_zero()).then(|| chrono::Utc::now() - m.minimum_age);
    let mut workspace = request::workspace(manifest, asks, before, moving, newest)?;
    let job = report.job("python");
    let mut solved = uv.solve(&workspace, job.as_ref());
    if let Err(p) = &solved {
        workspace.untimed = response::untimed(p, &m.indexes);
        if !workspace.untimed.is_empty() {
            solved = uv.solve(&workspace, job.as_ref());
        }
    }
    let solved = solved.map_err(|p| response::refusal(p, &workspace, asks, manifest))?;
    let packages = response::packages(&solved, &workspace, &m.indexes)?;
    let mut remarks = response::remarks(&packages, asks, &m.overrides);
    remarks.extend(workspace.untimed.iter().map(|p| {
        format!(
            "{p}: its index in `indexes` tells no times, so that minimum_age does not hold for it"
        )
    }));
    for (part, a) in asks {
        remarks.extend(a.idle().map(|i| {
            format!(
                "{part}: ignore_requirements names `{}`, which its requirements do not have",
                crate::text::escape(i)
            )
        }));
    }
    let managed = match kept {
        Some(m) => Some(m),
        None => uv.newest(&m.version)?,
    };
    Ok((
        Python {
            packages,
            managed,
            ..fresh
        },
        remarks,
    ))
}

fn differences(before: Option<&Python>, after: &Python) -> Vec<PackageMoved> {
    let versions = |p: &Python| -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> = BTreeMap::new();
        for k in &p.packages {
            let all = out.entry(k.name.clone()).or_default();
            *all = if all.is_empty() {
                k.version.clone()
            } else {
                format!("{all} and {}", k.version)
            };
        }
        out
    };
    let (before, after) = (before.map(versions).unwrap_or_default(), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let moved = |n: &&&String| before.get(**n) != after.get(**n);
    names
        .iter()
        .filter(moved)
        .map(|n| PackageMoved {
            name: (*n).clone(),
            from: before.get(*n).cloned(),
            to: after.get(*n).cloned(),
        })
        .collect()
}

/// One part, resolved.
struct One {
    name: String,
    pin: Pin,
    moved: Option<Moved>,
    /// What it asks of Python, where that was looked up.
    lines: Option<Vec<Asked>>,
}

fn requirements(snapshot: &Snapshot) -> Vec<Asked> {
    snapshot
        .requirements
        .as_deref()
        .map(|text| requirements::lines(requirements::FILE, text))
        .unwrap_or_default()
}

fn one(
    name: &str,
    repo: &str,
    git_ref: &str,
    // And whether the lock says what that pin asks of Python.
    before: Option<(&Pin, bool)>,
    mode: &Mode,
    repos: &dyn Repositories,
    report: &dyn Reporter,
) -> Result<One> {
    let asks_known = before.is_some_and(|(_, known)| known);
    let before = before.map(|(p, _)| p);
    let named = |p: Problem| p.prefixed(&format!("{name}: "));
    let satisfied = before.filter(|p| p.repo == repo && p.git_ref == git_ref);
    let may_move = match mode {
        Mode::Keep => false,
        Mode::Move(names) => names.is_empty() || names.iter().any(|n| n == name),
    };
    let keep = |pin: &Pin| -> Result<One> {
        let lines = if asks_known {
            None
        } else {
            let job = report.job(name);
            Some(requirements(
                &repos
                    .snapshot(repo, git_ref, &pin.commit, job.as_ref())
                    .map_err(named)?,
            ))
        };
        Ok(One {
            name: name.to_string(),
            pin: pin.clone(),
            moved: None,
            lines,
        })
    };
    if let Some(pin) = satisfied
        && !may_move
    {
        return keep(pin);
    }
    let commit = repos.resolve(repo, git_ref).map_err(named)?;
    if let Some(pin) = satisfied
        && pin.commit == commit
    {
        return keep(pin);
    }
    let job = report.job(name);
    let snapshot = repos
        .snapshot(repo, git_ref, &commit, job.as_ref())
        .map_err(named)?;
    let mut submodules = Vec::new();
    collect_submodules(
        name,
        repo,
        "",
        &snapshot,
        repos,
        job.as_ref(),
        &mut submodules,
        0,
    )?;
    submodules.sort_by(|a, b| a.path.cmp(&b.path));
    let same_repo = before.filter(|p| p.repo == repo);
    let commits = same_repo.and_then(|p| repos.distance(repo, &p.commit, &commit));
    let moved = Moved {
        name: name.to_string(),
        from: before.map(|p| p.commit),
        to: Some(commit),
        commits,
    };
    let lines = Some(requirements(&snapshot));
    let pin = Pin {
        repo: repo.into(),
        git_ref: git_ref.into(),
        commit,
        tree: snapshot.tree,
        submodules,
    };
    Ok(One {
        name: name.to_string(),
        pin,
        moved: Some(moved),
        lines,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "a recursion over one repository's submodules"
)]
fn collect_submodules(
    name: &str,
    repo: &str,
    prefix: &str,
    snapshot: &Snapshot,
    repos: &dyn Repositories,
    progress: &dyn Progress,
    out: &mut Vec<Submodule>,
    depth: usize,
) -> Result<()> {
    if depth >= MAX_NESTED_SUBMODULES {
        return Err(Problem::new(format!(
            "{name}: submodules nested more than {MAX_NESTED_SUBMODULES} deep"
        )));
    }
    let urls = snapshot
        .gitmodules
        .as_deref()
        .map(parse_gitmodules)
        .unwrap_or_default();
    for path in rules::unknown_submodules(&snapshot.listing, &BTreeSet::new()) {
        let shown = crate::text::escape(path);
        let url = urls.get(path).ok_or_else(|| {
            Problem::new(format!(
                "{name}: submodule `{shown}` has no address in .gitmodules"
            ))
            .hint("choose another commit, or ask the author")
        })?;
        let url = absolute(repo, url);
        names::repo_url(&url).map_err(|why| {
            Problem::new(format!(
                "{name}: submodule `{shown}`: \"{}\" {why}",
                crate::text::escape(&url)
            ))
        })?;
        let commit = snapshot.listing.0[path].oid;
        let inner = repos
            .snapshot(&url, "HEAD", &commit, progress)
            .map_err(|p| p.prefixed(&format!("{name}: submodule `{shown}`: ")))?;
        let whole = format!("{prefix}{path}");
        out.push(Submodule {
            path: whole.clone(),
            repo: url.clone(),
            commit,
            tree: inner.tree,
        });
        collect_submodules(
            name,
            &url,
            &format!("{whole}/"),
            &inner,
            repos,
            progress,
            out,
            depth + 1,
        )?;
    }
    Ok(())
}

/// `path` to `url` of a .gitmodules file (gitmodules(5)): an ini file, of which two keys matter.
fn parse_gitmodules(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().chain(["["]) {
        let line = line.trim();
        if line.starts_with('[') {
            if let (Some(p), Some(u)) = (path.take(), url.take()) {
                out.insert(p, u);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"').to_string();
            match key.trim() {
                "path" => path = Some(value),
                "url" => url = Some(value),
                _ => {}
            }
        }
    }
    out
}

/// `../other.git` means beside the repository that names it (gitmodules(5)).
fn absolute(repo: &str, url: &str) -> String {
    let mut base = repo.trim_end_matches('/');
    let mut rest = url;
    if !rest.starts_with("./") && !rest.starts_with("../") {
        return url.to_string();
    }
    loop {
        if let Some(r) = rest.strip_prefix("../") {
            rest = r;
            base = base.rsplit_once('/').map_or(base, |(b, _)| b);
        } else if let Some(r) = rest.strip_prefix("./") {
            rest = r;
        } else {
            return format!("{base}/{rest}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodule_addresses_are_found_and_made_absolute() {
        let text = "[submodule \"x\"]\n\tpath = sub/x\n\turl = ../x.git\n[submodule \"y\"]\n url = \
            \"https://github.com/a/y\"\n path=y\n";
        let urls = parse_gitmodules(text);
        assert_eq!(
            absolute("https://github.com/me/node", &urls["sub/x"]),
            "https://github.com/me/x.git"
        );
        assert_eq!(urls["y"], "https://github.com/a/y");
    }
}
