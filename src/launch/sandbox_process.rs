//! The side that becomes ComfyUI: it leaves every right behind in the order that the system asks
//! for, then executes it.
//!
//! Where the launch has rooms (Linux, two accounts) it stays twice as a process of root's that does
//! nothing but wait: outside, to be told when to end, and as the first process of the launch's
//! process namespace, whose end is everybody's end (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

use crate::confine::{Confinement, seatbelt};
use crate::desired::launch::LaunchCommand;
use crate::host::roles::credentials::{self, Dropped, GroupsReplaced};
use crate::host::roles::serve::{self, Report, RoleConfig};
use crate::host::{confine, fs, memory_cgroup, terminal};
use crate::problem::{Context, Problem, Result};

/// What the launcher asks of it, as the first line of stdin; a second one lets it go.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct SandboxConfig {
    /// Whom it becomes; nobody else under isolation "none".
    pub account: Option<SandboxAccount>,
    /// Nothing but the account is in its way: what `comfy doctor` tries as well.
    pub bare: bool,
    pub open_files: u64,
    pub command: LaunchCommand,
    pub confinement: Confinement,
    /// What the rules stand for, by the number of the rule: mounts where there are rooms, else what
    /// was opened.
    pub opened: Vec<(usize, RawFd)>,
    /// A mount of the temporary folder for each place that it has.
    pub temps: Vec<RawFd>,
    /// A pipe: an empty line once nothing but the execution is left, else what went wrong. Its end
    /// means that ComfyUI was executed.
    pub report: RawFd,
    /// The network namespace to live in, where there are rooms.
    pub network: Option<RawFd>,
    /// A terminal of its own, in place of null and pipes.
    pub terminal: Option<RawFd>,
    /// Who started it: without that process it ends.
    pub launcher: i32,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct SandboxAccount {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl RoleConfig for SandboxConfig {
    const WHAT: &'static str = "what to start";

    fn report(&self) -> Option<RawFd> {
        Some(self.report)
    }
}

/// Becomes ComfyUI, or says why not; where it waits, the exit code is ComfyUI's. Must be called
/// while there is one thread.
pub fn serve_sandbox() -> ExitCode {
    serve::serve(
        crate::render::print_problem,
        |cell: SandboxConfig, report| enter_sandbox(&cell, report),
    )
}

fn enter_sandbox(cell: &SandboxConfig, report: &mut Report) -> Result<u8> {
    serve::cloexec_from_3()?;
    serve::die_with_parent(cell.launcher)?;
    nix::unistd::setsid().context("begin a session")?;
    nix::sys::stat::umask(fs::as_mode(0o002));
    credentials::set_rlimits(
        cell.open_files,
        cell.account.as_ref().map(|_| memory_cgroup::PROCESSES),
    )?;
    #[cfg(target_os = "linux")]
    if let Some(network) = cell.network {
        return rooms::enter_sandbox(cell, &serve::adopt_fd(network)?, report);
    }
    let groups = replace_groups(cell)?;
    let opened = take_opened(cell)?;
    Err(execute_program(cell, &opened, groups, report))
}

/// Takes on the groups of the account, if there is another one to become.
fn replace_groups(cell: &SandboxConfig) -> Result<Option<GroupsReplaced>> {
    cell.account
        .as_ref()
        .map(|a| credentials::init_groups(&a.name, a.gid))
        .transpose()
}

/// What the launcher has opened, by the number of its rule.
fn take_opened(cell: &SandboxConfig) -> Result<BTreeMap<usize, OwnedFd>> {
    cell.opened
        .iter()
        .map(|(rule, number)| Ok((*rule, serve::adopt_fd(*number)?)))
        .collect()
}

/// Becomes the account, takes the confinement on, executes; returns only if that fails.
fn execute_program(
    cell: &SandboxConfig,
    opened: &BTreeMap<usize, OwnedFd>,
    groups: Option<GroupsReplaced>,
    report: &Report,
) -> Problem {
    let ready = become_sandbox(cell, opened, groups)
        .and_then(|dropped| wait_for_go(report).map(|()| dropped));
    match ready {
        Ok(dropped) => exec_program(cell, &dropped),
        Err(p) => p,
    }
}

/// Gives up root and takes the confinement on.
fn become_sandbox(
    cell: &SandboxConfig,
    opened: &BTreeMap<usize, OwnedFd>,
    groups: Option<GroupsReplaced>,
) -> Result<Dropped> {
    // Without Landlock there is nothing to give it to.
    #[cfg(not(target_os = "linux"))]
    let _ = opened;
    let dropped = match (&cell.account, groups) {
        (Some(a), Some(groups)) => credentials::set_ids_permanently(a.uid, a.gid, groups)?,
        (None, None) => Dropped::as_caller(),
        _ => return Err(Problem::new("the groups are not those of the account")),
    };
    if cell.bare {
        return Ok(dropped);
    }
    credentials::set_no_new_privs()?;
    #[cfg(target_os = "linux")]
    {
        crate::host::confine::landlock_rules::apply_rules(&cell.confinement, opened)?;
        // Without, the launcher has said so, or refused.
        if crate::host::confine::seccomp_filter::is_available() {
            crate::host::confine::seccomp_filter::apply_filters()?;
        }
    }
    Ok(dropped)
}

/// Waits until the launcher has told that everything is ready: what ComfyUI says comes after it.
fn wait_for_go(report: &Report) -> Result<()> {
    report.ready()?;
    match nix::unistd::read(std::io::stdin(), &mut [0; 1]) {
        Ok(1) => Ok(()),
        _ => Err(Problem::new("the launcher has ended")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the fence's gate for ComfyUI")]
fn exec_program(cell: &SandboxConfig, _: &Dropped) -> Problem {
    use std::os::unix::process::CommandExt;
    let c = &cell.command;
    let mut command = std::process::Command::new(if cfg!(target_os = "macos") {
        seatbelt::PROGRAM.as_ref()
    } else {
        c.program.as_path()
    });
    if cfg!(target_os = "macos") {
        // It takes the profile on, then executes the rest.
        // With another account the launcher has found the real paths.
        let real = if cell.account.is_some() {
            cell.confinement.clone()
        } else {
            confine::with_real_paths(&cell.confinement)
        };
        let profile =
            seatbelt::SeatbeltProfile::from_confinement(&real, &confine::darwin_user_dirs());
        command.args(profile.sandbox_exec_args()).arg(&c.program);
    }
    command
        .args(&c.args)
        .env_clear()
        .envs(&c.env)
        .current_dir(&c.folder)
        .stdin(std::process::Stdio::null());
    if let Some(number) = cell.terminal {
        let taken = serve::adopt_fd(number).and_then(|fd| {
            terminal::set_controlling(&fd)?;
            let copy = || fd.try_clone().context("take the terminal");
            command.stdin(copy()?).stdout(copy()?).stderr(fd);
            Ok(())
        });
        if let Err(p) = taken {
            return p;
        }
    }
    Problem::new(format!(
        "could not start {}: {}",
        c.program.display(),
        command.exec()
    ))
}

/// The two processes that wait.
#[cfg(target_os = "linux")]
mod rooms {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;
    use crate::host::confine::mount_namespace::PlacedMount;

    pub(super) fn enter_sandbox(
        cell: &SandboxConfig,
        network: &OwnedFd,
        report: &mut Report,
    ) -> Result<u8> {
        // From here on signals are waited for; what is executed in the end gets none of this.
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).context("wait for signals")?;
        // While accounts can still be looked up as the system does it.
        let groups = replace_groups(cell)?;
        // Killed before others when memory runs out (proc_pid_oom_score_adj(5)).
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
        let mounted: Vec<PlacedMount> = take_opened(cell)?
            .into_iter()
            .map(|(rule, mount)| PlacedMount {
                at: cell.confinement.rules[rule].path.clone(),
                mount,
            })
            .collect();
        let temps = cell
            .temps
            .iter()
            .map(|number| serve::adopt_fd(*number))
            .collect::<Result<Vec<_>>>()?;
        confine::netns::enter_netns(network)?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID)
            .context("make the launch's namespaces")?;
        if let Some(first) = serve::fork_process()? {
            report.leave();
            wait_without_rights(&[])?;
            // Asked gently it passes that on; anything harder ends the namespace, and with it
            // everybody in it.
            return wait_for_child(first, &all, |pid, s| {
                (
                    pid,
                    if s == Signal::SIGINT {
                        s
                    } else {
                        Signal::SIGKILL
                    },
                )
            });
        }
        serve::die_with_parent(0)?;
        confine::mount_namespace::build_root(&cell.confinement, &mounted, temps)?;
        drop(mounted);
        if let Some(comfyui) = serve::fork_process()? {
            report.leave();
            // Signals for another uid need it; it reaches nobody outside of this namespace.
            wait_without_rights(&[CAP_KILL])?;
            // Its whole group, as a terminal does it.
            return wait_for_child(comfyui, &all, |pid, s| (Pid::from_raw(-pid.as_raw()), s));
        }
        nix::unistd::setsid().context("begin a session")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .context("take signals")?;
        // From here on paths are those of the new root.
        Err(execute_program(cell, &BTreeMap::new(), groups, report))
    }

    /// linux/capability.h.
    const CAP_KILL: u32 = 5;

    /// From here on this process of root's waits, and can do nothing else.
    fn wait_without_rights(kept: &[u32]) -> Result<()> {
        credentials::set_no_new_privs()?;
        credentials::keep_capabilities(kept)?;
        if confine::seccomp_filter::is_available() {
            confine::seccomp_filter::apply_filters()
        } else {
            Ok(())
        }
    }

    /// Waits for `child`, reaps whoever else ends, passes signals on; the child's exit code, 128
    /// and the number for a signal.
    fn wait_for_child(
        child: Pid,
        all: &SigSet,
        pass: fn(Pid, Signal) -> (Pid, Signal),
    ) -> Result<u8> {
        loop {
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                        return Ok(u8::try_from(code & 0xff).unwrap_or(1));
                    }
                    Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                        return Ok(u8::try_from(128 + signal as i32).unwrap_or(1));
                    }
                    Ok(WaitStatus::StillAlive) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            if let Ok(s @ (Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)) =
                all.wait()
            {
                let (whom, signal) = pass(child, s);
                let _ = kill(whom, signal);
            }
        }
    }
}
