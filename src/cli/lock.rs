use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{GlobalArgs, audit_pins, scan_pins};
use crate::advisory::finding::AuditFinding;
use crate::host::fs;
use crate::host::git::ref_membership::RefMembership;
use crate::host::models::resolver::HostModelResolver;
use crate::host::uv::UvRunner;
use crate::lock::resolve::{self, ResolvedLock, Resolvers, UpdatePolicy};
use crate::lock::{self, coverage};
use crate::manifest::{names, node_advice};
use crate::problem::{Context, EXIT_FINDINGS, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::render::bars::TerminalProgress;
use crate::review::pins::LockScan;
use crate::text::{count_of, escape_text, short_commit};

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
    let mut resolved = resolve_project(&project, &UpdatePolicy::Keep, args.offline)?;
    let scan = scan_pins::scan_resolved(&project, &mut resolved, args.offline)?;
    audit_pins::record_publishers(&project, &mut resolved, args.offline)?;
    let advisories = audit_pins::audit_resolved(&project, &resolved, args.offline)?;
    let written = write_lock(&project, &resolved)?;
    warn_foreign_commits(&project, &resolved, args.offline)?;
    set_json_data(&resolved, &scan, &advisories, written);
    scan_pins::print_moved(&resolved.moved, &scan, false, false);
    let new = resolved
        .moved
        .pins
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
        warn_off_ref(&repositories_of(lock), verbose, &|pin| {
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

/// The pins that are commits of repositories, by address.
pub(crate) fn repositories_of(lock: &lock::Lock) -> Vec<(String, &lock::RepositoryPin)> {
    let all = lock.repository_pins();
    all.filter(|(_, pin)| pin.source().is_repository())
        .collect()
}

/// Tells of commits that were pinned just now because comfy.toml names them, and that are on no
/// branch or tag: what a ref names is on it, and such a commit may be of a fork.
pub(super) fn warn_foreign_commits(
    project: &ComfyProject,
    resolved: &ResolvedLock,
    offline: bool,
) -> Result<()> {
    let moved = |name: &str| {
        let of_name = |m: &&lock::difference::PinChange| m.name == name && m.to.is_some();
        resolved.moved.pins.iter().any(|m| of_name(&m))
    };
    let mut pins = repositories_of(&resolved.lock);
    pins.retain(|(address, pin)| {
        names::is_commit(&pin.git_ref) && moved(address.trim_start_matches("node."))
    });
    if pins.is_empty() {
        return Ok(());
    }
    let git = project::git_store(project, offline)?;
    warn_off_ref(&pins, true, &|pin| {
        git.ref_membership(&pin.repo, &pin.git_ref, &pin.commit)
    });
    Ok(())
}

/// Warns of each pin whose commit is not on its ref; with `verbose`, also of pins for which that is
/// unknown.
pub(crate) fn warn_off_ref(
    pins: &[(String, &lock::RepositoryPin)],
    verbose: bool,
    ask: &(dyn Fn(&lock::RepositoryPin) -> Option<RefMembership> + Sync),
) {
    let answers: Vec<_> = pins.par_iter().map(|(_, pin)| ask(pin)).collect();
    for ((address, pin), answer) in pins.iter().zip(answers) {
        let (commit, git_ref) = (
            pin.commit.to_string(),
            crate::text::escape_text(&pin.git_ref),
        );
        let name = address.trim_start_matches("node.");
        let (is_own, commit) = (git_ref == commit, short_commit(&commit));
        match answer {
            Some(RefMembership::On) => {}
            Some(RefMembership::Off) if is_own => render::print_warning(&format!(
                "{address}: commit {commit} is on no branch or tag of {}: it may come from anybody's \
                 fork; if you do not know it, write a branch or tag as `ref`",
                escape_text(&pin.repo)
            )),
            Some(RefMembership::Off) => render::print_warning(&format!(
                "{address}: comfy.lock pins commit {}, which is not on `{git_ref}`: it may come \
                 from anybody's fork; `comfy update {name}` updates the pin",
                commit
            )),
            None if verbose && is_own => render::print_note(&format!(
                "{address}: it is not known here whether commit {commit} is on a branch or tag of {}, \
                 or of a fork; `comfy lock --check` asks the server",
                escape_text(&pin.repo)
            )),
            None if verbose => render::print_note(&format!(
                "{address}: it is not known here whether commit {} is on `{git_ref}`; `comfy lock \
                 --check` asks the server",
                commit
            )),
            None => {}
        }
    }
}

/// `10 repositories, 158 Python packages, 12 models`
/// What `--json` prints of a lock that was made.
pub(crate) fn set_json_data(
    resolved: &ResolvedLock,
    scan: &LockScan,
    advisories: &[AuditFinding],
    written: bool,
) {
    render::json_output::set_data(&serde_json::json!({
        "written": written,
        "moved": resolved.moved,
        "remarks": resolved.remarks,
        "scan": scan.lines,
        "advisories": advisories,
    }));
}

pub(crate) fn summary_of_pins(lock: &lock::Lock) -> String {
    let repositories = count_of(lock.nodes.len() + 1, "repository");
    // One that several machines have in different builds is one package.
    let packages = lock.python.iter().flat_map(|p| &p.packages);
    let packages = packages.map(|p| &p.name).collect::<BTreeSet<_>>().len();
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
    net: crate::host::net::NetEnv,
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

/// Has `resolve` ask as the caller, and shows progress.
pub(crate) fn with_resolvers<T>(
    project: &ComfyProject,
    offline: bool,
    resolve: impl FnOnce(&Resolvers, &TerminalProgress) -> Result<T>,
) -> Result<T> {
    let git = project::git_store(project, offline)?;
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    let library = model_resolver(project, git.net.clone(), offline)?;
    let uv = UvRunner {
        net: git.net.clone(),
        cache,
        offline,
        own: true,
    };
    let ask = Resolvers {
        repos: &git,
        uv: &uv,
        library: &library,
    };
    resolve(&ask, &TerminalProgress::default())
}

/// Resolves as the caller and shows progress.
pub(crate) fn resolve_project(
    project: &ComfyProject,
    mode: &UpdatePolicy,
    offline: bool,
) -> Result<ResolvedLock> {
    super::announce_isolation(project);
    let old = project.lock.as_ref().map(|(l, _)| l);
    let resolved = with_resolvers(project, offline, |ask, report| {
        resolve::resolve_manifest(&project.manifest, old, mode, ask, report)
    })?;
    for r in &resolved.remarks {
        render::print_warning(r);
    }
    Ok(resolved)
}

/// Writes comfy.lock if it differs, through a link of the owner's if there is one: dotfile managers
/// make such links.
pub(crate) fn write_lock(project: &ComfyProject, resolved: &ResolvedLock) -> Result<bool> {
    write_lock_text(project, &resolved.lock.render())
}

/// The same of a text.
pub(crate) fn write_lock_text(project: &ComfyProject, text: &str) -> Result<bool> {
    if project.lock.as_ref().is_some_and(|(_, old)| **old == *text) {
        return Ok(false);
    }
    let me = nix::unistd::geteuid().as_raw();
    let path = &project.lock_path;
    let real = fs::real_path(path, me).map_err(Problem::from)?;
    fs::edit::replace_file(&real, text.as_bytes())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}
