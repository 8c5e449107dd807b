use rayon::prelude::*;

use super::GlobalArgs;
use crate::host::fs;
use crate::host::git::ref_membership::RefMembership;
use crate::host::models::resolver::HostModelResolver;
use crate::host::uv::UvRunner;
use crate::lock::resolve::{self, PinChange, ResolvedLock, Resolvers, UpdatePolicy};
use crate::lock::{self, coverage};
use crate::manifest::node_advice;
use crate::problem::{Context, EXIT_FINDINGS, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::render::bars::TerminalProgress;
use crate::text::{count_of, short_commit};

/// Pin everything new in comfy.toml; existing pins that still match do not change
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy lock                  after you change comfy.toml\n  comfy \
        lock --check          in CI: exits with 2 if comfy.lock does not match comfy.toml"
)]
pub(crate) struct LockArgs {
    /// Change nothing; exit 2 if comfy.lock does not match comfy.toml. Servers are asked only
    /// whether a commit that was not locked here is on its ref
    #[arg(long)]
    check: bool,
    /// Ask no server; use only the cache
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &LockArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    if args.check {
        return check_coverage(&project, args.offline, global.verbose);
    }
    let resolved = resolve_project(&project, &UpdatePolicy::Keep, args.offline)?;
    let written = write_lock(&project, &resolved)?;
    for l in change_lines(&resolved) {
        render::print_stdout(&l);
    }
    let new = resolved
        .moved
        .iter()
        .filter(|m| m.from.is_none() && m.to.is_some())
        .map(|m| m.name.as_str());
    for advice in node_advice::advice_for(&project.manifest, new) {
        render::print_note(&format!("hint: {advice}"));
    }
    let pins = summary_of_pins(&resolved.lock);
    render::print_note(&if written {
        format!("Locked {pins} in {}.", lock::FILE)
    } else {
        format!("{} is up to date ({pins}).", lock::FILE)
    });
    Ok(0)
}

fn check_coverage(project: &ComfyProject, offline: bool, verbose: bool) -> Result<u8> {
    let Some((lock, text)) = &project.lock else {
        render::print_problem(
            &Problem::new("comfy.lock does not exist").with_hint("run `comfy lock`"),
        );
        return Ok(EXIT_FINDINGS);
    };
    let cover = coverage::check(&project.manifest, lock);
    for w in &cover.warnings {
        render::print_warning(w);
    }
    // Root must not read repositories, so a check as root reports only what needs none.
    if let Ok(git) = project::git_store(project, offline) {
        warn_off_ref(lock, verbose, &|pin| {
            git.ref_membership(&pin.repo, &pin.git_ref, &pin.commit)
        });
    }
    let mut problems = cover.problems;
    if lock.render() != **text {
        problems.push(
            Problem::new("comfy.lock is not in the form that comfy writes")
                .with_hint("run `comfy lock`"),
        );
    }
    if problems.is_empty() {
        render::print_note(&format!(
            "{} matches comfy.toml ({}).",
            lock::FILE,
            summary_of_pins(lock)
        ));
        return Ok(0);
    }
    render::print_problem(&Problem::from_many(problems));
    Ok(EXIT_FINDINGS)
}

/// Warns of each pin whose commit is not on its ref; with `verbose`, also of pins for which that is
/// unknown.
pub(crate) fn warn_off_ref(
    lock: &lock::Lock,
    verbose: bool,
    ask: &(dyn Fn(&lock::RepositoryPin) -> Option<RefMembership> + Sync),
) {
    let pins: Vec<_> = lock
        .repository_pins()
        .filter(|(_, pin)| pin.source().is_repository())
        .collect();
    let answers: Vec<_> = pins.par_iter().map(|(_, pin)| ask(pin)).collect();
    for ((address, pin), answer) in pins.iter().zip(answers) {
        let (commit, git_ref) = (
            pin.commit.to_string(),
            crate::text::escape_text(&pin.git_ref),
        );
        let name = address.trim_start_matches("node.");
        match answer {
            Some(RefMembership::On) => {}
            Some(RefMembership::Off) => render::print_warning(&format!(
                "{address}: comfy.lock pins commit {}, which is not on `{git_ref}`: it may come \
                 from anybody's fork; `comfy update {name}` updates the pin",
                short_commit(&commit)
            )),
            None if verbose => render::print_note(&format!(
                "{address}: it is not known here whether commit {} is on `{git_ref}`; `comfy lock \
                 --check` asks the server",
                short_commit(&commit)
            )),
            None => {}
        }
    }
}

/// `10 repositories, 158 Python packages, 12 models`
fn summary_of_pins(lock: &lock::Lock) -> String {
    let repositories = count_of(lock.nodes.len() + 1, "repository");
    let packages = lock.python.as_ref().map_or(0, |p| p.packages.len());
    let more = [(packages, "Python package"), (lock.models.len(), "model")];
    more.iter()
        .filter(|(n, _)| *n > 0)
        .fold(repositories, |all, (n, what)| {
            format!("{all}, {}", count_of(*n, what))
        })
}

/// Returns the resolver that looks models up on this machine and on servers.
pub(crate) fn model_resolver(
    project: &ComfyProject,
    net: crate::host::git::NetEnv,
    offline: bool,
) -> Result<HostModelResolver> {
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    Ok(HostModelResolver {
        net,
        hubs: crate::host::env::model_hubs()?,
        cache,
        home: project.owner().ok().map(|o| o.home),
        offline,
    })
}

/// Resolves as the caller and shows progress.
pub(crate) fn resolve_project(
    project: &ComfyProject,
    mode: &UpdatePolicy,
    offline: bool,
) -> Result<ResolvedLock> {
    super::announce_isolation(project);
    let git = project::git_store(project, offline)?;
    let old = project.lock.as_ref().map(|(l, _)| l);
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    let library = model_resolver(project, git.net.clone(), offline)?;
    let uv = UvRunner {
        net: git.net.clone(),
        cache,
        offline,
        own: true,
    };
    let report = TerminalProgress::default();
    let resolved = resolve::resolve_manifest(
        &project.manifest,
        old,
        mode,
        &Resolvers {
            repos: &git,
            uv: &uv,
            library: &library,
        },
        &report,
    )?;
    for r in &resolved.remarks {
        render::print_warning(r);
    }
    Ok(resolved)
}

/// Returns one line for each pin that changed; the packages of a first lock are one number.
pub(crate) fn change_lines(resolved: &ResolvedLock) -> Vec<String> {
    let mut out: Vec<String> = resolved.moved.iter().map(pin_line).collect();
    out.extend(model_lines(&resolved.models, &resolved.lock));
    let all = resolved
        .lock
        .python
        .as_ref()
        .map_or(0, |p| p.packages.len());
    if resolved.packages.iter().all(|p| p.from.is_none()) && resolved.packages.len() > 5 {
        out.push(format!("Added {}", count_of(all, "Python package")));
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

/// Returns one line for each model that changed; many new models are one number.
fn model_lines(
    moved: &[crate::lock::resolve::models::ModelMoved],
    lock: &lock::Lock,
) -> Vec<String> {
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
            count_of(added.len(), "model"),
            crate::text::format_bytes(size)
        ));
    } else {
        out.extend(added.iter().filter_map(|m| {
            Some(format!(
                "Added {} {}",
                crate::text::escape_text(&m.path),
                short_hash(m.to?)
            ))
        }));
    }
    out.extend(others.iter().map(|m| {
        let path = crate::text::escape_text(&m.path);
        match (m.from, m.to) {
            (Some(a), Some(b)) if a == b => format!("Relocked {path} {}", short_hash(b)),
            (Some(a), Some(b)) => format!("Updated {path} {} -> {}", short_hash(a), short_hash(b)),
            _ => format!("Removed {path}"),
        }
    }));
    out
}

fn short_hash(sha256: lock::Sha256Digest) -> String {
    sha256.to_string()[..12].to_string()
}

/// Writes comfy.lock if it differs, through a link of the owner's if there is one: dotfile managers
/// make such links.
pub(crate) fn write_lock(project: &ComfyProject, resolved: &ResolvedLock) -> Result<bool> {
    let text = resolved.lock.render();
    if project.lock.as_ref().is_some_and(|(_, old)| **old == text) {
        return Ok(false);
    }
    let me = nix::unistd::geteuid().as_raw();
    let path = project.dir.join(lock::FILE);
    let real = fs::real_path(&path, me).map_err(Problem::from)?;
    fs::edit::write_file(&real, text.as_bytes(), 0o644, None)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// `Updated impact-pack 1f4c9a3 -> 9e7ae2d (14 commits)`
fn pin_line(m: &PinChange) -> String {
    let id = |o: &crate::tree::ObjectId| short_commit(&o.to_string()).to_string();
    match (&m.from, &m.to) {
        (Some(a), Some(b)) if a == b => format!("Relocked {} {}", m.name, id(b)),
        (Some(a), Some(b)) => {
            let tail = m
                .commits
                .map_or(String::new(), |n| format!(" ({})", count_of(n, "commit")));
            format!("Updated {} {} -> {}{tail}", m.name, id(a), id(b))
        }
        (None, Some(b)) => format!("Added {} {}", m.name, id(b)),
        (Some(a), None) => format!("Removed {} {}", m.name, id(a)),
        (None, None) => String::new(),
    }
}
