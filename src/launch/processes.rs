//! The processes of a launch: the gateway, then ComfyUI, and how they stop.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::gateway_process::{GatewayProcess, start_gateway};
#[cfg(target_os = "linux")]
use super::network;
use super::network::LaunchNetwork;
use super::sandbox_process::{SandboxAccount, SandboxConfig};
use super::{KILL, inner_port, port};
use crate::confine::Confinement;
use crate::desired::launch::{self, LaunchSpec};
use crate::host::confine::opened_paths::OpenedPath;
use crate::host::memory_cgroup;
use crate::host::roles::spawn::FirstReport;
use crate::host::roles::{Role, spawn};
#[cfg(target_os = "linux")]
use crate::manifest::EgressPolicy;
use crate::manifest::LaunchSession;
use crate::problem::{Context, Problem, Result};

/// How long ComfyUI may take to exit by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the output of started processes goes.
pub(crate) enum OutputTarget {
    /// To this process's own output.
    Own,
    /// Into a pipe.
    Pipe(OwnedFd),
}

impl OutputTarget {
    pub(super) fn stdio(&self) -> Result<Stdio> {
        let fd = match self {
            OutputTarget::Own => std::io::stdout().as_fd().try_clone_to_owned(),
            OutputTarget::Pipe(fd) => fd.try_clone(),
        };
        fd.map(Stdio::from).context("pass the output on")
    }
}

/// A launch whose processes have been started.
pub(crate) struct RunningLaunch {
    comfyui: Child,
    /// The target of signals: a process that passes them on, or ComfyUI's group.
    target: Pid,
    gateway: Option<GatewayProcess>,
    /// The control group that reserves memory for the system; it is removed with the last process.
    _memory: Option<memory_cgroup::MemoryCgroup>,
    /// What the process found missing on this system.
    pub notes: Vec<String>,
    /// ComfyUI's stdin: a line lets it begin; on macOS its end is ComfyUI's.
    stdin: Option<std::process::ChildStdin>,
    /// Its report pipe while it waits to begin.
    report: Option<std::fs::File>,
}

/// What to start, and how.
pub(crate) struct SpawnOptions<'a> {
    pub command: &'a launch::LaunchCommand,
    pub voice: &'a OutputTarget,
    /// Whether it is ComfyUI, which has a port.
    pub serves: bool,
    /// Whether it loads everything once, with the egress of a launch and without its port.
    pub loads: bool,
    /// The opened paths of the confinement's rules; empty under isolation "none" and if unconfined.
    pub opened: &'a [OpenedPath],
    /// The account of an unconfined process.
    pub bare: Option<SandboxAccount>,
    pub session: LaunchSession,
    /// The process's own terminal.
    pub terminal: Option<OwnedFd>,
}

/// Starts ComfyUI, and before it the gateway if it `serves`. Both execute comfy's own program
/// again, so that their memory contains nothing of this process.
///
/// # Errors
/// The port is in use, or a process cannot be set up.
pub(crate) fn start_processes(
    spec: &LaunchSpec,
    network: LaunchNetwork,
    confinement: Confinement,
    cast: SpawnOptions,
) -> Result<RunningLaunch> {
    refuse_bad_ids(spec)?;
    #[cfg(target_os = "linux")]
    if spec.account && spec.network.egress != EgressPolicy::Allow {
        network::check_egress_filter(spec)?;
    }
    let gateway = match cast.serves {
        true if spec.behind_gateway() => Some(start_gateway(spec, &network, cast.voice, true)?),
        true => {
            port::ensure_free(&spec.listen, spec.port)?;
            None
        }
        false if cast.loads && spec.behind_gateway() => {
            Some(start_gateway(spec, &network, cast.voice, false)?)
        }
        false => None,
    };
    let mut command = cast.command.clone();
    // Elsewhere nobody else can reach it.
    if let Some(gateway) = gateway
        .as_ref()
        .filter(|_| cast.serves && network.room.is_none())
    {
        inner_port::guard_port(&mut command, network.inner.port(), &gateway.inner_token)?;
    }
    let cast = SpawnOptions {
        command: &command,
        ..cast
    };
    let started = start_sandbox(spec, &network, &confinement, &cast);
    // Only the started process has the other end of its terminal.
    drop(cast);
    let (child, first, mut notes) = match started {
        Ok(started) => started,
        Err(p) => {
            gateway.into_iter().for_each(GatewayProcess::end);
            return Err(p);
        }
    };
    let mut running = RunningLaunch::new(child, gateway, network);
    match first {
        FirstReport::Ready(ready, report) => {
            running.notes.append(&mut notes);
            running.notes.extend(ready.lacking);
            if running.target.as_raw() < 0 && ready.pid > 1 {
                running.target = Pid::from_raw(-ready.pid);
            }
            running.report = Some(report);
            Ok(running)
        }
        FirstReport::Failed(p) => {
            running.end_now();
            Err(p.unwrap_or_else(|| Problem::new("ComfyUI exited before it began")))
        }
    }
}

/// Starts the process that becomes ComfyUI, and hears what it says first; with what this system did
/// not do for it.
fn start_sandbox(
    spec: &LaunchSpec,
    network: &LaunchNetwork,
    confinement: &Confinement,
    cast: &SpawnOptions,
) -> Result<(Child, FirstReport, Vec<String>)> {
    let own_session = spec.os.is_macos() && spec.account && cast.session == LaunchSession::Own;
    if own_session {
        let (mut child, report) = spawn_sandbox(spec, network, confinement, cast, true)?;
        let first = spawn::read_first_report(report.into());
        if !matches!(first, FirstReport::Failed(None)) {
            return Ok((child, first, Vec::new()));
        }
        // It did not come as far as comfy's own program.
        drop(child.stdin.take());
        let _ = child.kill();
        let _ = child.wait();
        if spec.require_confinement && cast.bare.is_none() {
            return Err(Problem::new(format!(
                "macOS gave {} no session of its own (`launchctl asuser` failed), and in yours it could \
                 reach your clipboard and applications",
                spec.user
            ))
            .with_hint(
                "run `comfy doctor --report`; to start it in your session, where only its profile \
                 keeps it from them: [run] session = \"caller\", then `comfy apply`",
            ));
        }
    }
    let (child, report) = spawn_sandbox(spec, network, confinement, cast, false)?;
    let first = spawn::read_first_report(report.into());
    let note = own_session.then(|| {
        format!(
            "no session of its own for {} (`launchctl asuser` failed), so without its profile it \
             could reach your clipboard and applications",
            spec.user
        )
    });
    Ok((child, first, note.into_iter().collect()))
}

/// Refuses uids that cannot be a sandbox's.
pub(super) fn refuse_bad_ids(spec: &LaunchSpec) -> Result<()> {
    if spec.account
        && (spec.uid == 0
            || spec.uid == spec.owner
            || [0, spec.owner, spec.uid].contains(&spec.gateway_uid))
    {
        return Err(Problem::new(format!(
            "{} has uid {} and the gateway {}, which are not valid for a sandbox",
            spec.user, spec.uid, spec.gateway_uid
        ))
        .with_hint("run `comfy apply`"));
    }
    Ok(())
}

/// Starts the process that becomes ComfyUI, and returns it with the pipe of its report.
fn spawn_sandbox(
    spec: &LaunchSpec,
    network: &LaunchNetwork,
    confinement: &Confinement,
    cast: &SpawnOptions,
    own_session: bool,
) -> Result<(Child, OwnedFd)> {
    let SpawnOptions {
        command,
        voice,
        opened,
        bare,
        terminal,
        ..
    } = cast;
    let account = bare.clone().or_else(|| {
        spec.account.then(|| SandboxAccount {
            name: spec.user.clone(),
            uid: spec.uid,
            gid: spec.gid,
        })
    });
    let (report, told) = spawn::report_pipe()?;
    let mut c = match &account {
        Some(a) if own_session => spawn::role_command_in_session(Role::Sandbox, a.uid)?,
        _ => spawn::role_command(Role::Sandbox)?,
    };
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let given = InheritedPaths::from_opened(confinement, opened, network.room.is_some())?;
    let mut kept = vec![&told];
    kept.extend(&network.room);
    kept.extend(terminal);
    kept.extend(given.rules.iter().map(|(_, fd)| fd).chain(&given.temps));
    spawn::inherit_fds(&mut c, &kept);
    let cell = SandboxConfig {
        opened: given
            .rules
            .iter()
            .map(|(rule, fd)| (*rule, fd.as_raw_fd()))
            .collect(),
        temps: given.temps.iter().map(AsRawFd::as_raw_fd).collect(),
        bare: bare.is_some(),
        seatbelt: spec.os.is_macos() && bare.is_none(),
        account,
        open_files: spec.open_files,
        command: (*command).clone(),
        confinement: confinement.clone(),
        report: told.as_raw_fd(),
        network: network.room.as_ref().map(AsRawFd::as_raw_fd),
        terminal: terminal.as_ref().map(AsRawFd::as_raw_fd),
        ends_with_stdin: spec.os.is_macos() && spec.account,
        launcher: if own_session { 0 } else { spawn::own_pid() },
    };
    let mut comfyui = c.spawn().context("start ComfyUI")?;
    drop((told, given));
    // It waits for its configuration, so that everything it does is inside the control group.
    if let Some(group) = &network.memory
        && let Err(why) = group.add_process(comfyui.id())
    {
        crate::render::print_warning(&format!("run.memory_reserve: {why}"));
    }
    spawn::send_config(&mut comfyui, &cell)?;
    Ok((comfyui, report))
}

/// The opened paths that the process inherits, as mounts if it has its own root.
struct InheritedPaths {
    rules: Vec<(usize, OwnedFd)>,
    temps: Vec<OwnedFd>,
}

impl InheritedPaths {
    #[cfg(target_os = "linux")]
    fn from_opened(c: &Confinement, opened: &[OpenedPath], rooms: bool) -> Result<InheritedPaths> {
        use crate::confine::{PathOwner, PrivateMount};
        use crate::host::fs::mounts::clone_mount;
        let one = |o: &OpenedPath| -> Result<(usize, OwnedFd)> {
            let r = &c.rules[o.rule];
            let what = || format!("make {} available to the launch", r.path.display());
            // Nothing is mounted below the sandbox user's own folders.
            let fd = if rooms {
                clone_mount(&o.fd, r.whose != PathOwner::Own).with_context(what)?
            } else {
                o.fd.try_clone().with_context(what)?
            };
            Ok((o.rule, fd))
        };
        let rules = opened.iter().map(one).collect::<Result<_>>()?;
        let temp = opened.iter().find(|o| c.rules[o.rule].path == c.temp);
        let places = c
            .rooms
            .iter()
            .filter(|(_, room)| *room == PrivateMount::Temp);
        let mounts = places.filter_map(|(path, _)| {
            temp.map(|t| {
                clone_mount(&t.fd, false)
                    .with_context(|| format!("make {} available to the launch", path.display()))
            })
        });
        Ok(InheritedPaths {
            rules,
            temps: mounts.collect::<Result<_>>()?,
        })
    }

    /// Not needed here: the launcher has sent the real paths.
    #[cfg(not(target_os = "linux"))]
    fn from_opened(_: &Confinement, _: &[OpenedPath], _: bool) -> Result<InheritedPaths> {
        Ok(InheritedPaths {
            rules: Vec::new(),
            temps: Vec::new(),
        })
    }
}

impl RunningLaunch {
    fn new(
        mut comfyui: Child,
        gateway: Option<GatewayProcess>,
        network: LaunchNetwork,
    ) -> RunningLaunch {
        let pid = i32::try_from(comfyui.id()).unwrap_or(0);
        RunningLaunch {
            stdin: comfyui.stdin.take(),
            comfyui,
            target: Pid::from_raw(if network.room.is_some() { pid } else { -pid }),
            gateway,
            _memory: network.memory,
            notes: Vec::new(),
            report: None,
        }
    }

    /// Lets ComfyUI begin. If it cannot be executed, the reason is printed, and
    /// [`RunningLaunch::wait_for_end`] sees it exit.
    pub(crate) fn let_begin(&mut self) {
        if let Some(report) = self.report.take() {
            if let Some(stdin) = &mut self.stdin {
                let _ = stdin.write_all(b"\n");
            }
            if let Some(p) = spawn::read_report(report, b"") {
                crate::render::print_problem(&p);
            }
        }
    }

    fn send_signal(&self, s: Signal) {
        let _ = kill(self.target, s);
    }

    /// Kills it and everything with it.
    pub(crate) fn end_now(mut self) {
        // The waiting process outside passes it on by ending the whole namespace.
        self.send_signal(if self.target.as_raw() > 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
        let _ = self.comfyui.wait();
        if let Some(gateway) = self.gateway {
            gateway.end();
        }
    }

    /// Waits until ComfyUI exits, and returns its exit code and whether somebody asked for the
    /// stop. `stop` or a signal stops it gently, a second command kills it.
    ///
    /// # Errors
    /// The gateway exited, and ComfyUI was stopped.
    pub(crate) fn wait_for_end(mut self, words: &Receiver<String>) -> Result<(u8, bool)> {
        let mut asked: Option<Instant> = None;
        let status = loop {
            if let Some(status) = self.comfyui.try_wait().context("wait for ComfyUI")? {
                break status;
            }
            if let Some(status) = self.gateway.as_mut().and_then(GatewayProcess::ended) {
                self.end_now();
                return Err(Problem::new(format!(
                    "the gateway exited ({status}), so ComfyUI was stopped too"
                ))
                .with_hint("the lines above may say why"));
            }
            let word = match words.recv_timeout(Duration::from_millis(if asked.is_some() {
                20
            } else {
                100
            })) {
                Ok(w) => Some(w),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(Duration::from_millis(20));
                    None
                }
            };
            let stop =
                word.is_some() || (asked.is_none() && crate::host::signals::is_interrupted());
            let now = word.as_deref() == Some(KILL)
                || (word.is_some() && asked.is_some())
                || asked.is_some_and(|t| t.elapsed() > PATIENCE);
            if now {
                self.send_signal(if self.target.as_raw() > 0 {
                    Signal::SIGTERM
                } else {
                    Signal::SIGKILL
                });
            } else if stop && asked.is_none() {
                asked = Some(Instant::now());
                self.send_signal(Signal::SIGINT);
            }
        };
        if self.target.as_raw() < 0 {
            // Processes that it left behind; a namespace ends with its first process.
            self.send_signal(Signal::SIGKILL);
        }
        if let Some(gateway) = self.gateway {
            gateway.end();
        }
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok((u8::try_from(code).unwrap_or(1), asked.is_some()))
    }
}
