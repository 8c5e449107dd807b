//! The only place that elevates: it starts the root side of comfy, through sudo or, as root,
//! directly.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::roles::Role;
use super::tools;
use crate::desired::InstancePaths;
use crate::desired::system_files::ComfyProgram;
use crate::host::roles::spawn::{RoleProcess, SYSTEM_PATH, own_program};
use crate::problem::{Context, Problem, Result};

/// Returns the stat(2) data of a copy of comfy at `path`, or of the running program.
///
/// # Errors
/// If it cannot be read; a missing file is not an error.
pub(crate) fn program_of(path: Option<&Path>) -> std::io::Result<Option<ComfyProgram>> {
    use std::os::unix::fs::MetadataExt;
    let seen = match path {
        Some(p) => p.symlink_metadata(),
        None => own_program().and_then(std::fs::metadata),
    };
    Ok(super::fs::absent_as_none(seen)?.map(|m| ComfyProgram {
        uid: m.uid(),
        mode: m.mode(),
        size: m.size(),
        modified: m.mtime(),
    }))
}

/// Returns the launcher of an instance, for which sudo may have a rule: only if root owns it, and
/// it is this comfy.
fn passwordless_launcher(paths: &InstancePaths, tell: fn(&str)) -> Option<PathBuf> {
    let path = paths.launcher_program();
    let there = program_of(Some(&path)).ok().flatten()?;
    if program_of(None)
        .ok()
        .flatten()
        .is_some_and(|own| there.is_copy_of(&own))
    {
        return Some(path);
    }
    tell(
        "The launcher differs from this comfy, so sudo may ask for your password: `comfy \
            apply` installs this one.",
    );
    None
}

/// Starts the side that launches, for this instance alone if it has a launcher of its own. `tell`
/// prints why sudo may ask for a password all the same.
///
/// # Errors
/// As [`start_role`].
pub(crate) fn launch_side(
    instance: &str,
    paths: &InstancePaths,
    isolated: bool,
    tell: fn(&str),
) -> Result<RoleProcess> {
    let rule = isolated && !nix::unistd::geteuid().is_root();
    match rule.then(|| passwordless_launcher(paths, tell)).flatten() {
        Some(program) => start_program(&program, &[Role::Launcher.subcommand(), instance], true),
        None => start_role(Role::Launcher, isolated),
    }
}

/// Starts comfy's own program with a hidden subcommand and pipes for the protocol, as root unless
/// nobody is isolated; sudo asks for the password on the terminal itself.
///
/// # Errors
/// If sudo is not installed, or comfy's own program cannot be found.
pub(crate) fn start_role(role: Role, isolated: bool) -> Result<RoleProcess> {
    let own: PathBuf = std::env::current_exe().context("find comfy's own program")?;
    start_program(&own, &[role.subcommand()], isolated)
}

/// Ensures that [`start_role`] can become root, before anybody is asked to approve anything.
///
/// # Errors
/// The caller is not root, and sudo is not installed.
pub(crate) fn ensure_possible() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    find_sudo().map(drop)
}

fn find_sudo() -> Result<&'static str> {
    tools::first_existing(tools::SUDO).ok_or_else(|| {
        Problem::new("this needs root, but sudo is not installed")
            .with_hint("run the same command as root")
    })
}

#[expect(clippy::disallowed_methods, reason = "the only place that elevates")]
fn start_program(own: &Path, arguments: &[&str], isolated: bool) -> Result<RoleProcess> {
    let mut command = if !isolated || nix::unistd::geteuid().is_root() {
        let mut c = Command::new(own);
        c.env_clear().env("PATH", SYSTEM_PATH);
        for name in ["SUDO_USER", "SUDO_UID"] {
            if let Some(v) = super::env::var(name) {
                c.env(name, v);
            }
        }
        c.envs(super::env::test_switches());
        c
    } else {
        let mut c = Command::new(tools::located(find_sudo()?));
        c.arg("--").arg(own);
        c
    };
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    RoleProcess::from_child(command.spawn().context("start the root side")?)
}

/// Makes this process, which is root by now, the side that launches: what the owner agreed to once
/// is not asked twice.
#[expect(
    clippy::disallowed_methods,
    reason = "comfy itself, which continues in another role"
)]
pub(crate) fn become_launcher() -> Problem {
    use std::os::unix::process::CommandExt;
    match std::env::current_exe() {
        Ok(own) => Problem::new(format!(
            "could not start the launcher: {}",
            Command::new(own).arg(Role::Launcher.subcommand()).exec()
        )),
        Err(e) => Problem::new(format!("could not find comfy's own program: {e}")).caused_by(&e),
    }
}
