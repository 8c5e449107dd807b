//! What `lock`, `update`, `accept`, `review` and `scan --new` share: the pins as they are scanned.

use crate::host::git::{FetchDepth, GitStore};
use crate::host::scan::pins::PinScanner;
use crate::lock::difference::LockDifference;
use crate::lock::resolve::ResolvedLock;
use crate::lock::{self, Lock, RepositoryPin};
use crate::manifest::ScanPolicy;
use crate::problem::{Context, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::review::pins::{self, LockScan};
use crate::text::{did_you_mean, escape_text};

/// Scans what moved, and binds new entries of `policy.accept`.
///
/// # Errors
/// As [`pins::scan_lock`].
pub(crate) fn scan_resolved(
    project: &ComfyProject,
    resolved: &mut ResolvedLock,
    offline: bool,
) -> Result<LockScan> {
    let git = project::git_store(project, offline)?;
    let scanner = scanner_of(&git, project)?;
    let old = project.lock.as_ref().map(|(l, _)| l);
    let scan = pins::scan_lock(
        &project.manifest.policy,
        (old, &mut resolved.lock),
        &resolved.moved,
        &scanner,
    )?;
    scan.warnings.iter().for_each(|w| render::print_warning(w));
    scan.notes
        .iter()
        .for_each(|n| render::print_note(&escape_text(n)));
    Ok(scan)
}

/// The scanner over a store, with its reports in the owner's cache.
///
/// # Errors
/// There is no home.
pub(crate) fn scanner_of<'a>(git: &'a GitStore, project: &ComfyProject) -> Result<PinScanner<'a>> {
    let cache = crate::host::env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    let depth = match project.manifest.policy.scan {
        ScanPolicy::Block => FetchDepth::Whole,
        ScanPolicy::Warn | ScanPolicy::Off => FetchDepth::Sources,
    };
    Ok(PinScanner { git, cache, depth })
}

/// Prints what moved, and below each pin its commits, if asked for, and what the scan says.
pub(crate) fn print_moved(moved: &LockDifference, scan: &LockScan, commits: bool, dry_run: bool) {
    for (number, text) in moved.lines().into_iter().enumerate() {
        render::print_stdout(&if dry_run {
            text.replacen("Updated", "Would update", 1)
                .replacen("Added", "Would add", 1)
                .replacen("Removed", "Would remove", 1)
        } else {
            text
        });
        if commits {
            for commit in moved.commits_of_line(number) {
                render::print_stdout(&format!("    {commit}"));
            }
        }
        let lines = moved.pins.get(number).and_then(|p| scan.lines.get(&p.name));
        for line in lines.into_iter().flatten() {
            render::print_stdout(&format!("    {line}"));
        }
    }
}

/// comfy.lock of a project, of which `names` or all parts are meant.
pub(crate) struct LockedParts<'a> {
    pub lock: &'a Lock,
    /// Name and pin, sorted.
    pub parts: Vec<(String, &'a RepositoryPin)>,
}

/// Returns the parts of these names, or all.
///
/// # Errors
/// There is no comfy.lock; it has no part of that name.
pub(crate) fn locked_parts<'a>(
    project: &'a ComfyProject,
    names: &[String],
) -> Result<LockedParts<'a>> {
    let Some((lock, _)) = &project.lock else {
        return Err(Problem::new(format!("{} does not exist", lock::FILE))
            .with_hint("run `comfy lock` first"));
    };
    let all = pins::named_pins(lock);
    let mut parts = Vec::new();
    for name in names {
        let plain = name.strip_prefix("node.").unwrap_or(name);
        match all.get_key_value(plain) {
            Some((name, pin)) => parts.push((name.clone(), *pin)),
            None => {
                let p = Problem::new(format!(
                    "{} has no node \"{}\"",
                    lock::FILE,
                    escape_text(name)
                ));
                let near = did_you_mean(plain, all.keys().map(String::as_str));
                return Err(match near {
                    Some(near) => p.with_hint(format!("did you mean `{near}`?")),
                    None => p.with_hint("`comfy list` shows them"),
                });
            }
        }
    }
    if names.is_empty() {
        parts = all.into_iter().collect();
    }
    Ok(LockedParts { lock, parts })
}

/// Writes comfy.lock with new acceptances.
///
/// # Errors
/// The disk's.
pub(crate) fn write_acceptances(project: &ComfyProject, lock: &Lock) -> Result<()> {
    super::lock::write_lock_text(project, &lock.render())
        .map(drop)
        .context("record what was accepted")
}

/// Who accepts: the account that runs comfy.
pub(crate) fn reviewer_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |u| u.name)
}
