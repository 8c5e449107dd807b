//! The process that becomes ComfyUI: it drops every privilege in the order that the system
//! requires, then executes ComfyUI.
//!
//! If the launch has namespaces (Linux, two accounts), two processes of root's remain that only
//! wait: one outside, to be told when to stop, and the first process of the launch's process
//! namespace, whose exit kills all the others (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

use crate::confine::seatbelt::{LaunchPlaces, SeatbeltProfile};
use crate::confine::{Confinement, PathOwner, PathRule};
use crate::desired::launch::LaunchCommand;
use crate::host::roles::credentials::{self, Dropped, GroupsReplaced};
use crate::host::roles::serve::{self, Report, RoleConfig};
use crate::host::{confine, fs, memory_cgroup, terminal, tools};
use crate::problem::{Context, Problem, ProblemKind, Result};

/// The configuration, which the launcher sends as the first line of stdin; a second line lets it
/// begin.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct SandboxConfig {
    /// The account that it becomes; `None` under isolation "none".
    pub account: Option<SandboxAccount>,
    /// Whether it is restricted only by its account, as for some probes of `comfy doctor`.
    pub bare: bool,
    /// Whether sandbox-exec(1) starts the program, with a profile (macOS).
    pub seatbelt: bool,
    pub open_files: u64,
    pub command: LaunchCommand,
    pub confinement: Confinement,
    /// The paths of the rules, by the number of the rule: mounts if there are namespaces, else
    /// opened paths.
    pub opened: Vec<(usize, RawFd)>,
    /// A mount of the temporary folder for each of its places.
    pub temps: Vec<RawFd>,
    /// A pipe: an empty line once only the execution is left, else the error. Its end means that
    /// ComfyUI was executed.
    pub report: RawFd,
    /// The network namespace, if there are namespaces.
    pub network: Option<RawFd>,
    /// Its own terminal, in place of null and pipes.
    pub terminal: Option<RawFd>,
    /// Whether its group is killed when its stdin ends, where nothing else ends it with the
    /// launcher.
    pub ends_with_stdin: bool,
    /// The process that started it; it exits with that process. 0: a program of the system's is in
    /// between.
    pub launcher: i32,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct SandboxAccount {
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

/// Becomes ComfyUI, or reports why not; if it waits, it returns ComfyUI's exit code. Must be called
/// while the process has one thread.
pub(crate) fn serve_sandbox() -> ExitCode {
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

/// Takes on the groups of the account, if it becomes another one.
fn replace_groups(cell: &SandboxConfig) -> Result<Option<GroupsReplaced>> {
    cell.account
        .as_ref()
        .map(|a| credentials::init_groups(&a.name, a.gid))
        .transpose()
}

/// Returns what the launcher has opened, by the number of the rule.
fn take_opened(cell: &SandboxConfig) -> Result<BTreeMap<usize, OwnedFd>> {
    cell.opened
        .iter()
        .map(|(rule, number)| Ok((*rule, serve::adopt_fd(*number)?)))
        .collect()
}

/// Becomes the account, applies the confinement, and executes the program; returns only if that
/// fails.
fn execute_program(
    cell: &SandboxConfig,
    opened: &BTreeMap<usize, OwnedFd>,
    groups: Option<GroupsReplaced>,
    report: &Report,
) -> Problem {
    let ready = become_sandbox(cell, opened, groups).and_then(|dropped| {
        let terminal = cell.terminal.map(serve::adopt_fd).transpose()?;
        let (profile, lacking) = make_profile(cell, terminal.as_ref())?;
        wait_for_go(report, &lacking)?;
        if cell.ends_with_stdin {
            serve::end_with_stdin()?;
        }
        Ok((dropped, terminal, profile))
    });
    match ready {
        Ok((dropped, terminal, profile)) => {
            exec_program(cell, terminal.as_ref(), profile.as_ref(), &dropped)
        }
        Err(p) => p,
    }
}

/// The profile for sandbox-exec(1), and what it lacks on this machine.
fn make_profile(
    cell: &SandboxConfig,
    terminal: Option<&OwnedFd>,
) -> Result<(Option<SeatbeltProfile>, Vec<String>)> {
    if !cell.seatbelt {
        return Ok((None, Vec::new()));
    }
    let terminal = terminal
        .map(nix::unistd::ttyname)
        .transpose()
        .context("find the name of the shell's terminal")?;
    // Those of the account that this process is by now.
    let caches = confine::darwin_user_dirs();
    let profile = SeatbeltProfile::for_launch(
        &cell.confinement,
        LaunchPlaces {
            caches: &caches,
            terminal: terminal.as_deref(),
        },
    );
    let mut lacking = unreachable_folders(&cell.confinement);
    if caches.is_empty() {
        lacking.push("macOS names no folder for Metal's caches, so the GPU may not work".into());
    }
    Ok((Some(profile), lacking))
}

/// What this process, by now the account, cannot reach although the profile allows it: a folder
/// above may be closed to it.
fn unreachable_folders(c: &Confinement) -> Vec<String> {
    let own = [PathOwner::Own, PathOwner::Share];
    let told = |r: &PathRule| {
        let e = r.path.metadata().err()?;
        let path = r.path.display();
        Some(format!("ComfyUI does not reach {path} ({}): {e}", r.why))
    };
    let rules = c.rules.iter().filter(|r| own.contains(&r.whose));
    rules.filter_map(told).collect()
}

/// Gives up root and applies the confinement.
fn become_sandbox(
    cell: &SandboxConfig,
    opened: &BTreeMap<usize, OwnedFd>,
    groups: Option<GroupsReplaced>,
) -> Result<Dropped> {
    // Without Landlock nothing uses it.
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
    if !cell.seatbelt {
        crate::host::confine::landlock_rules::apply_rules(&cell.confinement, opened)?;
        // If there is none, the launcher has already warned, or refused.
        if crate::host::confine::seccomp_filter::is_available() {
            crate::host::confine::seccomp_filter::apply_filters()?;
        }
    }
    Ok(dropped)
}

/// Waits for the launcher's line that everything is ready, so that ComfyUI's output comes after it.
fn wait_for_go(report: &Report, lacking: &[String]) -> Result<()> {
    report.ready(lacking)?;
    match nix::unistd::read(std::io::stdin(), &mut [0; 1]) {
        Ok(1) => Ok(()),
        _ => Err(Problem::new("the launcher has exited")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the fence's gate for ComfyUI")]
fn exec_program(
    cell: &SandboxConfig,
    terminal: Option<&OwnedFd>,
    profile: Option<&SeatbeltProfile>,
    _: &Dropped,
) -> Problem {
    use std::os::unix::process::CommandExt;
    let c = &cell.command;
    let mut command = match profile {
        // It applies the profile, then executes the rest.
        Some(profile) => {
            let mut command = std::process::Command::new(tools::located(tools::SANDBOX_EXEC));
            command.args(profile.sandbox_exec_args()).arg(&c.program);
            command
        }
        None => std::process::Command::new(&c.program),
    };
    command
        .args(&c.args)
        .env_clear()
        .envs(&c.env)
        .current_dir(&c.folder)
        .stdin(std::process::Stdio::null());
    if let Some(fd) = terminal {
        let taken = terminal::set_controlling(fd).and_then(|()| {
            let copy = || fd.try_clone().context("take the terminal");
            command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
            Ok(())
        });
        if let Err(p) = taken {
            return p;
        }
    }
    let failed = command.exec();
    let p = Problem::new(format!("could not start {}: {failed}", c.program.display()));
    if failed.kind() == std::io::ErrorKind::NotFound {
        p.of_kind(ProblemKind::NoProgram)
    } else {
        p.caused_by(&failed)
    }
}

/// The two waiting processes.
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
        // From here on signals are blocked and waited for; the executed program does not inherit
        // this.
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).context("wait for signals")?;
        // Done while accounts can still be looked up in the system's way.
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
            .context("create the launch's namespaces")?;
        if let Some(first) = serve::fork_process()? {
            report.leave();
            wait_without_rights(&[])?;
            // It passes a gentle signal on; any other signal ends the namespace, and with it every
            // process in it.
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
            // Signals to another uid need it; it reaches no process outside this namespace.
            wait_without_rights(&[CAP_KILL])?;
            // To its whole group, as a terminal does.
            return wait_for_child(comfyui, &all, |pid, s| (Pid::from_raw(-pid.as_raw()), s));
        }
        nix::unistd::setsid().context("begin a session")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .context("handle signals")?;
        // From here on, paths are those of the new root.
        Err(execute_program(cell, &BTreeMap::new(), groups, report))
    }

    /// linux/capability.h.
    const CAP_KILL: u32 = 5;

    /// Drops all rights of this root process except those for waiting and signalling.
    fn wait_without_rights(kept: &[u32]) -> Result<()> {
        credentials::set_no_new_privs()?;
        credentials::keep_capabilities(kept)?;
        if confine::seccomp_filter::is_available() {
            confine::seccomp_filter::apply_filters()
        } else {
            Ok(())
        }
    }

    /// Waits for `child`, reaps other processes, and passes signals on. Returns the child's exit
    /// code, or 128 plus the number of its signal.
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
