use rayon::prelude::*;

use super::Global;
use crate::host::fs;
use crate::host::git::ref_membership::Standing;
use crate::host::models::resolver::Disk;
use crate::host::uv::Uv;
use crate::lock::resolve::{self, Asking, Mode, Moved, Resolved};
use crate::lock::{self, coverage};
use crate::manifest::node_advice;
use crate::problem::{Doing, EXIT_FINDINGS, Problem, Result};
use crate::project::{self, Project};
use crate::render;
use crate::render::bars::Bars;
use crate::text::{count, short};

/// Pin what comfy.toml asks and comfy.lock lacks; a pin that still satisfies never moves
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy lock                  after a change of comfy.toml\n  comfy \
        lock --check          in CI: 2 where comfy.lock does not cover comfy.toml"
)]
pub struct Args {
    /// Change nothing; exit 2 if comfy.lock does not answer comfy.toml. Servers are asked only
    /// whether a commit that was not locked here is on its ref
    #[arg(long)]
    check: bool,
    /// Ask no server: only what the cache has
    #[arg(long)]
    offline: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    if args.check {
        return check(&project, args.offline, global.verbose);
    }
    let resolved = resolve(&project, &Mode::Keep, args.offline)?;
    let written = write(&project, &resolved)?;
    for l in lines(&resolved) {
        render::stdout(&l);
    }
    let new = resolved
        .moved
        .iter()
        .filter(|m| m.from.is_none() && m.to.is_some())
        .map(|m| m.name.as_str());
    for advice in node_advice::advice(&project.manifest, new) {
        render::note(&format!("hint: {advice}"));
    }
    let pins = pinned(&resolved.lock);
    render::note(&if written {
        format!("Locked {pins} in {}.", lock::FILE)
    } else {
        format!("{} is up to date ({pins}).", lock::FILE)
    });
    Ok(0)
}

fn check(project: &Project, offline: bool, verbose: bool) -> Result<u8> {
    let Some((lock, text)) = &project.lock else {
        render::problem(&Problem::new("there is no comfy.lock").hint("run `comfy lock`"));
        return Ok(EXIT_FINDINGS);
    };
    let cover = coverage::compare(&project.manifest, lock);
    for w in &cover.warnings {
        render::warning(w);
    }
    // Root reads no repositories; who checks as root hears what needs none.
    if let Ok(git) = project::git(project, offline) {
        standing(lock, verbose, &|pin| {
            git.standing(&pin.repo, &pin.git_ref, &pin.commit)
        });
    }
    let mut problems = cover.problems;
    if lock.render() != **text {
        problems
            .push(Problem::new("comfy.lock is not as comfy writes it").hint("run `comfy lock`"));
    }
    if problems.is_empty() {
        render::note(&format!(
            "{} answers comfy.toml ({}).",
            lock::FILE,
            pinned(lock)
        ));
        return Ok(0);
    }
    render::problem(&Problem::all(problems));
    Ok(EXIT_FINDINGS)
}

/// Warns of each pin whose commit is not one of its ref's; what is not known is said where more was
/// asked for.
pub fn standing(
    lock: &lock::Lock,
    verbose: bool,
    ask: &(dyn Fn(&lock::Pin) -> Option<Standing> + Sync),
) {
    let pins: Vec<_> = lock.pins().collect();
    let answers: Vec<_> = pins.par_iter().map(|(_, pin)| ask(pin)).collect();
    for ((address, pin), answer) in pins.iter().zip(answers) {
        let (commit, git_ref) = (pin.commit.to_string(), crate::text::escape(&pin.git_ref));
        let name = address.trim_start_matches("node.");
        match answer {
            Some(Standing::On) => {}
            Some(Standing::Off) => render::warning(&format!(
                "{address}: comfy.lock pins commit {}, which is not on `{git_ref}`: it may be a \
                 fork's, whoever made it; `comfy update {name}` moves the pin",
                short(&commit)
            )),
            None if verbose => render::note(&format!(
                "{address}: whether commit {} is on `{git_ref}` is not known here; `comfy lock \
                 --check` asks the server",
                short(&commit)
            )),
            None => {}
        }
    }
}

/// `10 repositories, 158 Python packages, 12 models`
fn pinned(lock: &lock::Lock) -> String {
    let repositories = count(lock.nodes.len() + 1, "repository");
    let packages = lock.python.as_ref().map_or(0, |p| p.packages.len());
    let more = [(packages, "Python package"), (lock.models.len(), "model")];
    more.iter()
        .filter(|(n, _)| *n > 0)
        .fold(repositories, |all, (n, what)| {
            format!("{all}, {}", count(*n, what))
        })
}

/// What models are asked of.
pub fn disk(project: &Project, net: crate::host::git::NetEnv, offline: bool) -> Result<Disk> {
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").hint("set HOME, or XDG_CACHE_HOME"))?;
    Ok(Disk {
        net,
        hubs: crate::host::env::hubs()?,
        cache,
        home: project.owner().ok().map(|o| o.home),
        offline,
    })
}

/// Resolves as the caller, with progress.
pub fn resolve(project: &Project, mode: &Mode, offline: bool) -> Result<Resolved> {
    project.announce();
    let git = project::git(project, offline)?;
    let old = project.lock.as_ref().map(|(l, _)| l);
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").hint("set HOME, or XDG_CACHE_HOME"))?;
    let library = disk(project, git.net.clone(), offline)?;
    let uv = Uv {
        net: git.net.clone(),
        cache,
        offline,
        own: true,
    };
    let report = Bars::default();
    let resolved = resolve::run(
        &project.manifest,
        old,
        mode,
        &Asking {
            repos: &git,
            uv: &uv,
            library: &library,
        },
        &report,
    )?;
    for r in &resolved.remarks {
        render::warning(r);
    }
    Ok(resolved)
}

/// What moved, a line each; the packages of a first lock as one number.
pub fn lines(resolved: &Resolved) -> Vec<String> {
    let mut out: Vec<String> = resolved.moved.iter().map(line).collect();
    out.extend(models(&resolved.models, &resolved.lock));
    let all = resolved
        .lock
        .python
        .as_ref()
        .map_or(0, |p| p.packages.len());
    if resolved.packages.iter().all(|p| p.from.is_none()) && resolved.packages.len() > 5 {
        out.push(format!("Added {}", count(all, "Python package")));
        return out;
    }
    out.extend(resolved.packages.iter().map(|p| match (&p.from, &p.to) {
        (Some(a), Some(b)) => format!("Updated {} {a} -> {b}", p.name),
        (None, Some(b)) => format!("Added {} {b}", p.name),
        (Some(a), None) => format!("Removed {} {a}", p.name),
        (None, None) => String::new(),
    }));
    out
}

/// Models that moved, a line each; many new ones as one number.
fn models(moved: &[crate::lock::resolve::models::ModelMoved], lock: &lock::Lock) -> Vec<String> {
    let (added, others): (Vec<_>, Vec<_>) = moved.iter().partition(|m| m.from.is_none());
    let mut out = Vec::new();
    if added.len() > 5 {
        let size: u64 = added
            .iter()
            .filter_map(|m| lock.models.get(m.path.as_str()))
            .map(|p| p.size)
            .sum();
        out.push(format!(
            "Added {} ({})",
            count(added.len(), "model"),
            crate::text::bytes(size)
        ));
    } else {
        out.extend(added.iter().filter_map(|m| {
            Some(format!(
                "Added {} {}",
                crate::text::escape(&m.path),
                brief(m.to?)
            ))
        }));
    }
    out.extend(others.iter().map(|m| {
        let path = crate::text::escape(&m.path);
        match (m.from, m.to) {
            (Some(a), Some(b)) if a == b => format!("Relocked {path} {}", brief(b)),
            (Some(a), Some(b)) => format!("Updated {path} {} -> {}", brief(a), brief(b)),
            _ => format!("Removed {path}"),
        }
    }));
    out
}

fn brief(sha256: lock::Sha) -> String {
    sha256.to_string()[..12].to_string()
}

/// Writes comfy.lock where it differs; through a link of the owner's, as dotfile managers make
/// them.
pub fn write(project: &Project, resolved: &Resolved) -> Result<bool> {
    let text = resolved.lock.render();
    if project.lock.as_ref().is_some_and(|(_, old)| **old == text) {
        return Ok(false);
    }
    let me = nix::unistd::geteuid().as_raw();
    let path = project.dir.join(lock::FILE);
    let real = fs::real(&path, me).map_err(Problem::from)?;
    fs::edit::write_file(&real, text.as_bytes(), 0o644, None)
        .doing(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// `Updated impact-pack 1f4c9a3 -> 9e7ae2d (14 commits)`
fn line(m: &Moved) -> String {
    let id = |o: &crate::tree::Oid| short(&o.to_string()).to_string();
    match (&m.from, &m.to) {
        (Some(a), Some(b)) if a == b => format!("Relocked {} {}", m.name, id(b)),
        (Some(a), Some(b)) => {
            let tail = m
                .commits
                .map_or(String::new(), |n| format!(" ({})", count(n, "commit")));
            format!("Updated {} {} -> {}{tail}", m.name, id(a), id(b))
        }
        (None, Some(b)) => format!("Added {} {}", m.name, id(b)),
        (Some(a), None) => format!("Removed {} {}", m.name, id(a)),
        (None, None) => String::new(),
    }
}
