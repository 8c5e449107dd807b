//! The side that becomes ComfyUI: it leaves every right behind in the order that the system asks
//! for, then executes it.
//!
//! Where the launch has rooms (Linux, two accounts) it stays twice as a process of root's that does
//! nothing but wait: outside, to be told when to end, and as the first process of the launch's
//! process namespace, whose end is everybody's end (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

use crate::confine::{Confinement, seatbelt};
use crate::desired::launch::LaunchCommand;
use crate::host::{confine, fs, launched, memory_cgroup, terminal};
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

/// Becomes ComfyUI, or says why not; where it waits, the exit code is ComfyUI's. Must be called
/// while there is one thread.
pub fn serve_sandbox() -> ExitCode {
    let mut text = String::new();
    let asked = std::io::stdin()
        .lock()
        .read_line(&mut text)
        .context("read what to start");
    let taken = asked.and_then(|_| {
        serde_json::from_str::<SandboxConfig>(&text).context("understand what to start")
    });
    let (cell, fd) =
        match taken.and_then(|cell| launched::take_over(cell.report).map(|fd| (cell, fd))) {
            Ok(both) => both,
            Err(p) => {
                crate::render::print_problem(&p);
                return ExitCode::FAILURE;
            }
        };
    let mut report = Some(fd);
    match enter_sandbox(&cell, &mut report) {
        Ok(code) => ExitCode::from(code),
        Err(p) => {
            if let Some(fd) = report {
                let _ = std::fs::File::from(fd)
                    .write_all(serde_json::to_string(&p).unwrap_or_default().as_bytes());
            }
            ExitCode::FAILURE
        }
    }
}

fn enter_sandbox(cell: &SandboxConfig, report: &mut Option<OwnedFd>) -> Result<u8> {
    launched::keep_three()?;
    launched::die_with(cell.launcher)?;
    nix::unistd::setsid().context("begin a session")?;
    nix::sys::stat::umask(fs::as_mode(0o002));
    launched::set_rlimits(
        cell.open_files,
        cell.account.as_ref().map(|_| memory_cgroup::PROCESSES),
    )?;
    #[cfg(target_os = "linux")]
    if let Some(network) = cell.network {
        return rooms::enter_sandbox(cell, &launched::take_over(network)?, report);
    }
    if let Some(a) = &cell.account {
        launched::take_groups(&a.name, a.gid)?;
    }
    let opened = take_opened(cell)?;
    Err(execute_program(cell, &opened, report))
}

/// What the launcher has opened, by the number of its rule.
fn take_opened(cell: &SandboxConfig) -> Result<BTreeMap<usize, OwnedFd>> {
    cell.opened
        .iter()
        .map(|(rule, number)| Ok((*rule, launched::take_over(*number)?)))
        .collect()
}

/// Becomes the account, takes the confinement on, executes; returns only if that fails.
fn execute_program(
    cell: &SandboxConfig,
    opened: &BTreeMap<usize, OwnedFd>,
    report: &Option<OwnedFd>,
) -> Problem {
    // Without Landlock there is nothing to give it to.
    #[cfg(not(target_os = "linux"))]
    let _ = opened;
    let become_it = || -> Result<()> {
        if let Some(a) = &cell.account {
            launched::become_id(a.uid, a.gid)?;
        }
        if cell.bare {
            return Ok(());
        }
        launched::no_new_rights()?;
        #[cfg(target_os = "linux")]
        {
            crate::host::confine::landlock_rules::apply_rules(&cell.confinement, opened)?;
            // Without, the launcher has said so, or refused.
            if crate::host::confine::seccomp_filter::is_available() {
                crate::host::confine::seccomp_filter::apply_filters()?;
            }
        }
        Ok(())
    };
    match become_it().and_then(|()| wait_for_go(report)) {
        Ok(()) => missing_program(cell),
        Err(p) => p,
    }
}

/// Waits until the launcher has told that everything is ready: what ComfyUI says comes after it.
fn wait_for_go(report: &Option<OwnedFd>) -> Result<()> {
    if let Some(fd) = report {
        nix::unistd::write(fd, b"\n").context("say that it is ready")?;
    }
    match nix::unistd::read(std::io::stdin(), &mut [0; 1]) {
        Ok(1) => Ok(()),
        _ => Err(Problem::new("the launcher has ended")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the fence's gate for ComfyUI")]
fn missing_program(cell: &SandboxConfig) -> Problem {
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
            seatbelt::SeatbeltProfile::from_confinement(&real, &launched::darwin_user_dirs());
        command.args(profile.sandbox_exec_args()).arg(&c.program);
    }
    command
        .args(&c.args)
        .env_clear()
        .envs(&c.env)
        .current_dir(&c.folder)
        .stdin(std::process::Stdio::null());
    if let Some(number) = cell.terminal {
        let taken = launched::take_over(number).and_then(|fd| {
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
        report: &mut Option<OwnedFd>,
    ) -> Result<u8> {
        // From here on signals are waited for; what is executed in the end gets none of this.
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).context("wait for signals")?;
        // While accounts can still be looked up as the system does it.
        if let Some(a) = &cell.account {
            launched::take_groups(&a.name, a.gid)?;
        }
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
            .map(|number| launched::take_over(*number))
            .collect::<Result<Vec<_>>>()?;
        confine::netns::enter_netns(network)?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID)
            .context("make the launch's namespaces")?;
        if let Some(first) = launched::fork()? {
            *report = None;
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
        launched::die_with(0)?;
        confine::mount_namespace::build_root(&cell.confinement, &mounted, temps)?;
        drop(mounted);
        if let Some(comfyui) = launched::fork()? {
            *report = None;
            // Signals for another uid need it; it reaches nobody outside of this namespace.
            wait_without_rights(&[CAP_KILL])?;
            // Its whole group, as a terminal does it.
            return wait_for_child(comfyui, &all, |pid, s| (Pid::from_raw(-pid.as_raw()), s));
        }
        nix::unistd::setsid().context("begin a session")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .context("take signals")?;
        // From here on paths are those of the new root.
        Err(execute_program(cell, &BTreeMap::new(), report))
    }

    /// linux/capability.h.
    const CAP_KILL: u32 = 5;

    /// From here on this process of root's waits, and can do nothing else.
    fn wait_without_rights(kept: &[u32]) -> Result<()> {
        launched::no_new_rights()?;
        launched::keep_capabilities(kept)?;
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
