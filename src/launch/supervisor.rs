//! The launcher: as root it reads what was applied, verifies it, starts the [`processes`], and
//! stays until all of them have exited.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::Sender;

use super::control::ControlSocket;
use super::import_log::LogContext;
use super::leftovers::LeftoversGuard;
use super::network::{LaunchNetwork, prepare_network};
use super::preparation::{self, ScratchDir};
use super::processes::{self, OutputTarget, RunningLaunch};
use super::sandbox_process::SandboxAccount;
use super::{LaunchAnswer, LaunchMode, LaunchRequest, applied, background, stdio};
use crate::confine::{Confinement, explain};
use crate::desired::GenerationSpec;
use crate::desired::launch::{self, LaunchCommand, LaunchSpec};
use crate::doctor::ProbeAs;
use crate::host::confine::opened_paths::{self, OpenedPaths};
use crate::host::roles::{serve, wire};
use crate::host::{fs, shares, terminal};
use crate::problem::{Context, Problem, Result};
use crate::records::running::{self, ExitRecord, InstanceLock, RunningRecord};

/// Serves one launch and returns ComfyUI's exit code. The first line of stdin is the request;
/// commands follow.
///
/// `only`: any other instance is refused. `boot`: there is no request and no answer; ComfyUI starts
/// as with `comfy start`, and the program that started this process supervises it.
pub(crate) fn serve_launch(only: Option<String>, boot: bool) -> std::process::ExitCode {
    crate::host::signals::install_handlers(false);
    // Under sudo it is the union of root's and the caller's, and the owner reads what root writes.
    if nix::unistd::geteuid().is_root() {
        nix::sys::stat::umask(fs::as_mode(0o022));
    }
    if boot {
        return std::process::ExitCode::from(run_launch(only, boot).unwrap_or_else(|p| {
            crate::render::print_problem(&p);
            p.exit()
        }));
    }
    serve::answer(|| run_launch(only, boot), LaunchAnswer::Failed)
}

/// A launch, fully determined before anything is created for it.
pub(super) struct Launch {
    pub spec: LaunchSpec,
    pub id: String,
    pub generation: GenerationSpec,
    pub owner_gid: u32,
    /// Keeps others from launching the same instance.
    lock: Option<InstanceLock>,
    /// The flags that this ComfyUI version knows.
    pub flags: BTreeSet<String>,
    /// The account of an unconfined process.
    unconfined: Option<SandboxAccount>,
    network: LaunchNetwork,
    pub confinement: Confinement,
    pub command: LaunchCommand,
    log_context: LogContext,
}

/// What a launch needs on the disk, prepared.
struct Ready {
    _scratch: Option<ScratchDir>,
    opened: OpenedPaths,
    /// What this system lacks for the confinement.
    lacking: Vec<String>,
}

fn run_launch(only: Option<String>, boot: bool) -> Result<u8> {
    let request = read_request(only.as_deref(), boot)?;
    let mode = &request.how;
    let spec = applied::load_spec(&request.instance, request.records.as_deref())?;
    if request.in_background {
        nix::unistd::setsid().context("begin a session")?;
    } else if *mode == LaunchMode::Detached && !boot {
        return background::start_in_background(only.as_deref(), request);
    }
    let mut launch = prepare(spec, &request)?;
    mode.adapt(&mut launch)?;
    if *mode == LaunchMode::Explained {
        launch.explain();
        return Ok(0);
    }
    // To the end of this launch.
    let _leftovers = LeftoversGuard::begin(&launch.spec)?;
    let mut ready = launch.make_ready(mode)?;
    let (code, asked) = supervise(launch, &mut ready, mode, boot)?;
    // The system must not restart it after a stop that was asked for.
    Ok(if boot && asked { 0 } else { code })
}

/// Reads the request, and refuses what this launcher may not start.
fn read_request(only: Option<&str>, boot: bool) -> Result<LaunchRequest> {
    let request = match only {
        Some(instance) if boot => LaunchRequest {
            instance: instance.into(),
            records: None,
            args: Vec::new(),
            how: LaunchMode::Detached,
            log_context: Default::default(),
            in_background: false,
        },
        _ => serve::read_config()?,
    };
    if let Some(only) = only {
        if only != request.instance {
            return Err(Problem::new("this launcher is for another instance"));
        }
        // Nothing runs unconfined without a password.
        if matches!(&request.how, LaunchMode::Tried(t) if t.by != ProbeAs::Confined) {
            return Err(
                Problem::new("this launcher does not start anything unconfined")
                    .with_hint("run `comfy doctor`, which asks sudo itself"),
            );
        }
    }
    Ok(request)
}

/// Determines everything about a launch of ComfyUI itself.
fn prepare(spec: LaunchSpec, request: &LaunchRequest) -> Result<Launch> {
    let mode = &request.how;
    let (id, generation) = match mode {
        LaunchMode::Loaded(Some(id)) => (id.clone(), applied::load_generation(&spec, id)?),
        _ => applied::load_current(&spec)?,
    };
    let primary_gid = || {
        let owner = nix::unistd::User::from_uid(spec.owner.into());
        owner.ok().flatten().map_or(spec.owner, |u| u.gid.as_raw())
    };
    let owner_gid = spec.records_gid.unwrap_or_else(primary_gid);
    let lock = mode
        .serves()
        .then(|| InstanceLock::acquire_lock(&spec, owner_gid))
        .transpose()?;
    let text = fs::trusted::read_plain(
        &spec
            .paths
            .generation_dir(&id)
            .join("ComfyUI/comfy/cli_args.py"),
    )
    .map_err(|p| p.with_prefix("the flags of this ComfyUI: "))?;
    let unconfined = mode.unconfined(&spec)?;
    let network = if unconfined.is_some() {
        LaunchNetwork::shared_network(&spec)
    } else {
        prepare_network(&spec)?
    };
    let rooms = network.room.is_some();
    let confinement =
        Confinement::for_launch(&spec, &id, &generation, rooms, network.inner_ports());
    let flags = launch::parse_flags(&text);
    let command = spec.launch_command(
        &id,
        &generation,
        &flags,
        &request.args,
        network.inner_ports(),
    )?;
    Ok(Launch {
        spec,
        id,
        generation,
        owner_gid,
        lock,
        flags,
        unconfined,
        network,
        confinement,
        command,
        log_context: request.log_context.clone(),
    })
}

impl Launch {
    /// Reports what would be started.
    fn explain(self) {
        let allowed = explain::explain_text(
            &self.spec,
            &self.confinement,
            self.network.inner_ports(),
            self.network.memory.is_some(),
            &|path| path.symlink_metadata().is_ok(),
        );
        wire::print_line(&LaunchAnswer::Explained {
            user: self.spec.user,
            command: self.command,
            allowed,
            lacking: self.network.lacking,
        });
    }

    /// Prepares what is on the disk: shares, the sandbox user's folders, and the opened paths of
    /// the confinement's rules.
    fn make_ready(&mut self, mode: &LaunchMode) -> Result<Ready> {
        let mut lacking = self.network.lacking.clone();
        for s in &self.spec.shares {
            shares::ensure_mounted(s.requires_mount.as_deref()).map_err(|u| {
                Problem::from(u)
                    .with_prefix(&format!("share {}: ", s.name))
                    .with_hint(
                        "mount it, then try again; comfy does not create anything on an empty \
                         mount point",
                    )
            })?;
        }
        let scratch = preparation::prepare_state(
            &self.spec,
            &self.id,
            mode.serves(),
            mode.loads(),
            self.owner_gid,
            &mut lacking,
        )?;
        if let Some(s) = &scratch {
            self.spec.keep_aside(&mut self.command, &s.path);
        }
        let walls = self.spec.account && self.unconfined.is_none();
        let mut opened = if walls {
            opened_paths::open_all(&self.confinement, &self.spec, mode.tries())?
        } else {
            OpenedPaths::default()
        };
        lacking.extend(opened.left_out.iter().cloned());
        for s in self.spec.shares.iter().filter(|s| s.modes) {
            preparation::repair_share(&self.spec, s, &self.confinement, &opened, &mut lacking)?;
        }
        if self.spec.os.is_macos() && self.unconfined.is_none() {
            let c = &self.confinement;
            self.confinement = if walls {
                opened_paths::by_real_path(c, &opened, self.spec.owner)?
            } else {
                let (real, missing) = opened_paths::by_canonical_path(c, self.spec.owner);
                lacking.extend(missing);
                real
            };
            // Seatbelt takes paths.
            opened.opened.clear();
        }
        Ok(Ready {
            _scratch: scratch,
            opened,
            lacking,
        })
    }
}

/// Starts the processes of a launch and stays until they have exited. Returns ComfyUI's exit code,
/// and whether somebody asked for the stop.
fn supervise(
    mut launch: Launch,
    ready: &mut Ready,
    mode: &LaunchMode,
    boot: bool,
) -> Result<(u8, bool)> {
    let detached = *mode == LaunchMode::Detached;
    let nodes: Vec<String> = launch.generation.nodes.keys().cloned().collect();
    let (log_writer, voice) = if detached {
        stdio::start_log_writer(
            &launch.spec,
            launch.owner_gid,
            nodes.clone(),
            std::mem::take(&mut launch.log_context),
        )
        .map(|(s, v)| (Some(s), v))?
    } else {
        (None, OutputTarget::Own)
    };
    let (master, terminal) = match mode {
        LaunchMode::Shell { size, .. } => {
            terminal::open_pty(*size).map(|(m, s)| (Some(m), Some(s)))?
        }
        _ => (None, None),
    };
    let Launch {
        spec,
        id,
        generation,
        owner_gid,
        lock,
        unconfined,
        network,
        confinement,
        command,
        ..
    } = launch;
    let cast = processes::SpawnOptions {
        command: &command,
        voice: &voice,
        serves: mode.serves(),
        loads: mode.loads(),
        opened: &ready.opened.opened,
        bare: unconfined,
        session: mode.session(&spec),
        terminal,
    };
    let mut running = start_verified(
        || applied::verify_integrity(&spec, &generation, owner_gid),
        || processes::start_processes(&spec, network, confinement, cast),
    )?;
    ready.lacking.append(&mut running.notes);
    // Now only the started processes hold the other end of the log.
    drop(voice);
    let (tell, words) = std::sync::mpsc::channel();
    let desk = lock
        .as_ref()
        .map(|_| ControlSocket::open_socket(&spec.paths, spec.owner, owner_gid, tell.clone()))
        .transpose()?;
    if let Some(lock) = &lock {
        let (pid, since, launch) = (
            std::process::id(),
            running::rfc3339_now(),
            running::launch_digest(&spec),
        );
        lock.write_running(&RunningRecord {
            pid,
            since,
            address: spec.listen_address(),
            generation: id.clone(),
            nodes: nodes.clone(),
            launch,
            detached,
        })?;
    }
    if !boot {
        wire::print_line(&LaunchAnswer::Started {
            address: spec.listen_address(),
            generation: id,
            nodes,
            unknown: command.lacking,
            lacking: std::mem::take(&mut ready.lacking),
        });
    }
    running.let_begin();
    // Its caller reads ComfyUI's output now, and no answer.
    let (code, asked) = attend(running, master, detached, tell, &words).unwrap_or_else(|p| {
        crate::render::print_problem(&p);
        (p.exit(), false)
    });
    drop(desk);
    if let Some(lock) = lock {
        lock.write_exit(&ExitRecord {
            code,
            when: running::rfc3339_now(),
            asked,
        })?;
    }
    wait_for_log(log_writer);
    Ok((code, asked))
}

/// Starts the processes while code and packages are verified, which takes as long as setting up the
/// confinement; they wait until they may begin. This thread starts them, because they die with the
/// thread that started them.
fn start_verified(
    verify: impl FnOnce() -> Result<()> + Send,
    start: impl FnOnce() -> Result<RunningLaunch>,
) -> Result<RunningLaunch> {
    let (looked, started) = std::thread::scope(|s| {
        let look = s.spawn(verify);
        let started = start();
        (look.join(), started)
    });
    match (
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        started,
    ) {
        (Ok(()), started) => started,
        (Err(p), started) => {
            if let Ok(running) = started {
                running.end_now();
            }
            Err(p)
        }
    }
}

/// Relays input and output of a launch until it has ended.
fn attend(
    running: RunningLaunch,
    master: Option<OwnedFd>,
    detached: bool,
    tell: Sender<String>,
    words: &std::sync::mpsc::Receiver<String>,
) -> Result<(u8, bool)> {
    let relay = match master {
        Some(m) => Some(stdio::relay_terminal(m, tell)?),
        None if detached => background::detach_stdio().map(|()| None)?,
        None => {
            stdio::pass_on_stdin(tell);
            None
        }
    };
    let end = running.wait_for_end(words)?;
    if let Some(r) = relay {
        // Background processes may hold the terminal, so the last output comes at once or not at
        // all.
        for _ in 0..20 {
            if r.is_finished() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    Ok(end)
}

fn wait_for_log(log_writer: Option<Child>) {
    if let Some(mut child) = log_writer {
        // It has read everything once the last process of the launch has exited.
        let _ = child.wait();
    }
}
