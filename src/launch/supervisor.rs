//! The side that launches: as root it reads what was applied, looks once more, has
//! [`processes`] start the processes, and stays until all of them have ended.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::Sender;

use super::control::Desk;
use super::network::{Network, make_network};
use super::preparation::{self, Scratch};
use super::processes::{self, Running, Voice};
use super::sandbox_process::Account;
use super::{Answer, How, Request, applied, stdio};
use crate::confine::{Confinement, explain};
use crate::desired::GenSpec;
use crate::desired::launch::{self, Command, LaunchSpec};
use crate::doctor::By;
use crate::host::confine::opened_paths::{self, Everything};
use crate::host::roles::{serve, wire};
use crate::host::{fs, shares, terminal};
use crate::problem::{Context, Problem, Result};
use crate::records::running::{self, Ended, Held, Live};

/// Serves one launch: the request is the first line of stdin, words follow; the exit code is
/// ComfyUI's.
///
/// `only`: another instance is refused. `boot`: nothing is asked and nobody answers; it is launched
/// as by `comfy start`, and what started this process supervises it.
pub fn serve_launch(only: Option<String>, boot: bool) -> std::process::ExitCode {
    crate::host::signals::watch(false);
    if boot {
        return std::process::ExitCode::from(launch(only, boot).unwrap_or_else(|p| {
            crate::render::problem(&p);
            p.exit()
        }));
    }
    serve::answer(|| launch(only, boot), Answer::Failed)
}

/// One launch, decided before anything of it is made.
pub(super) struct Launch {
    pub spec: LaunchSpec,
    pub id: String,
    pub generation: GenSpec,
    pub owner_gid: u32,
    /// Keeps others from launching the same instance.
    lock: Option<Held>,
    /// Those that this ComfyUI knows.
    pub flags: BTreeSet<String>,
    /// Who is started with nothing but the account in the way.
    unconfined: Option<Account>,
    network: Network,
    pub confinement: Confinement,
    pub command: Command,
}

/// What a launch has on the disk, ready to be used.
struct Ready {
    _scratch: Option<Scratch>,
    opened: Everything,
    /// What this system lacks for the confinement.
    lacking: Vec<String>,
}

fn launch(only: Option<String>, boot: bool) -> Result<u8> {
    let request = read_request(only.as_deref(), boot)?;
    let mode = &request.how;
    let spec = applied::load_spec(&request)?;
    // Before anything here has a second thread.
    if *mode == How::Detached
        && !boot
        && let Some(code) = detach()?
    {
        return Ok(code);
    }
    let mut launch = prepare(spec, &request)?;
    mode.adapt(&mut launch)?;
    if *mode == How::Explained {
        launch.explain();
        return Ok(0);
    }
    let mut ready = launch.make_ready(mode)?;
    let (code, asked) = supervise(launch, &mut ready, mode, boot)?;
    // An end that was asked for is none that the system should make up for.
    Ok(if boot && asked { 0 } else { code })
}

/// Reads what is to be launched, and refuses what this launcher is not for.
fn read_request(only: Option<&str>, boot: bool) -> Result<Request> {
    let request = match only {
        Some(instance) if boot => Request {
            instance: instance.into(),
            records: None,
            args: Vec::new(),
            how: How::Detached,
        },
        _ => serve::read_config()?,
    };
    if let Some(only) = only {
        if only != request.instance {
            return Err(Problem::new("this launcher is for another instance"));
        }
        // Nothing without walls comes without a password.
        if matches!(&request.how, How::Tried(t) if t.by != By::Confined) {
            return Err(
                Problem::new("this launcher starts nothing outside of the walls")
                    .hint("`comfy doctor` asks sudo itself"),
            );
        }
    }
    Ok(request)
}

/// Decides everything about a launch of ComfyUI itself.
fn prepare(spec: LaunchSpec, request: &Request) -> Result<Launch> {
    let mode = &request.how;
    let (id, generation) = match mode {
        How::Loaded(Some(id)) => (id.clone(), applied::load_generation(&spec, id)?),
        _ => applied::load_current(&spec)?,
    };
    let owner_gid = nix::unistd::User::from_uid(spec.owner.into())
        .ok()
        .flatten()
        .map_or(spec.owner, |u| u.gid.as_raw());
    let lock = mode
        .serves()
        .then(|| Held::take(&spec, owner_gid))
        .transpose()?;
    let text =
        fs::trusted::read_plain(&spec.paths.generation(&id).join("ComfyUI/comfy/cli_args.py"))
            .map_err(|p| p.prefixed("the flags of this ComfyUI: "))?;
    let unconfined = mode.unconfined(&spec)?;
    let network = if unconfined.is_some() {
        Network::none(&spec)
    } else {
        make_network(&spec)?
    };
    let rooms = network.room.is_some();
    let confinement = Confinement::of(&spec, &id, &generation, rooms, network.ports());
    let flags = launch::flags(&text);
    let command = spec.command(&id, &generation, &flags, &request.args, network.ports())?;
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
    })
}

impl Launch {
    /// Says what would be started.
    fn explain(self) {
        let allowed = explain::text(
            &self.spec,
            &self.confinement,
            self.network.ports(),
            self.network.memory.is_some(),
        );
        wire::print_line(&Answer::Explained {
            user: self.spec.user,
            command: self.command,
            allowed,
            lacking: self.network.lacking,
        });
    }

    /// Makes ready what lies on the disk: shares, the sandbox user's folders, and what the
    /// confinement's rules stand for, opened.
    fn make_ready(&mut self, mode: &How) -> Result<Ready> {
        let mut lacking = self.network.lacking.clone();
        for s in &self.spec.shares {
            shares::mounted(s.requires_mount.as_deref()).map_err(|u| {
                Problem::from(u)
                    .prefixed(&format!("share {}: ", s.name))
                    .hint("mount it, then run this again; nothing is made on an empty mount point")
            })?;
        }
        let scratch = preparation::prepare_state(
            &self.spec,
            &self.id,
            mode.serves(),
            mode.loads(),
            self.owner_gid,
        )?;
        if let Some(s) = &scratch {
            self.spec.keep_aside(&mut self.command, &s.path);
        }
        let walls = self.spec.account && self.unconfined.is_none();
        let opened = if walls {
            opened_paths::open(&self.confinement, &self.spec, mode.tries())?
        } else {
            Everything::default()
        };
        lacking.extend(opened.left_out.iter().cloned());
        for s in self.spec.shares.iter().filter(|s| s.modes) {
            preparation::repair_share(&self.spec, s, &self.confinement, &opened, &mut lacking)?;
        }
        if walls && self.spec.macos {
            self.confinement = opened_paths::by_real_path(&self.confinement, &opened)?;
        }
        Ok(Ready {
            _scratch: scratch,
            opened,
            lacking,
        })
    }
}

/// Starts the processes of a launch and stays until they have ended: ComfyUI's exit code, and
/// whether somebody asked for the end.
fn supervise(launch: Launch, ready: &mut Ready, mode: &How, boot: bool) -> Result<(u8, bool)> {
    let detached = *mode == How::Detached;
    let nodes: Vec<String> = launch.generation.nodes.keys().cloned().collect();
    let (log_writer, voice) = if detached {
        stdio::start_log_writer(&launch.spec, launch.owner_gid, nodes.clone())
            .map(|(s, v)| (Some(s), v))?
    } else {
        (None, Voice::Own)
    };
    let (master, terminal) = match mode {
        How::Shell { size, .. } => terminal::open(*size).map(|(m, s)| (Some(m), Some(s)))?,
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
    let cast = processes::Cast {
        command: &command,
        voice: &voice,
        serves: mode.serves(),
        opened: &ready.opened.opened,
        bare: unconfined,
        terminal,
    };
    let mut running = start_verified(
        || applied::verify_integrity(&spec, &generation, owner_gid),
        || processes::start(&spec, network, confinement, cast),
    )?;
    // Only what was started holds the other end of the log now.
    drop(voice);
    let (tell, words) = std::sync::mpsc::channel();
    let desk = lock
        .as_ref()
        .map(|_| Desk::open(&spec.paths, spec.owner, owner_gid, tell.clone()))
        .transpose()?;
    if let Some(lock) = &lock {
        let (pid, since, launch) = (std::process::id(), running::now(), running::digest(&spec));
        lock.announce(&Live {
            pid,
            since,
            address: spec.address(),
            generation: id.clone(),
            nodes: nodes.clone(),
            launch,
            detached,
        })?;
    }
    if !boot {
        wire::print_line(&Answer::Started {
            address: spec.address(),
            generation: id,
            nodes,
            unknown: command.lacking,
            lacking: std::mem::take(&mut ready.lacking),
        });
    }
    running.go();
    let (code, asked) = attend(running, master, detached, tell, &words)?;
    drop(desk);
    if let Some(lock) = lock {
        lock.ended(&Ended {
            code,
            when: running::now(),
            asked,
        })?;
    }
    wait_for_log(log_writer);
    Ok((code, asked))
}

/// Starts what waits to be let go while code and packages are looked at: that takes as long as the
/// walls. This thread is the one that starts, since its end would be the end of what it started.
fn start_verified(
    verify: impl FnOnce() -> Result<()> + Send,
    start: impl FnOnce() -> Result<Running>,
) -> Result<Running> {
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
                running.end();
            }
            Err(p)
        }
    }
}

/// Passes on what is said to a launch and by it, until it has ended.
fn attend(
    running: Running,
    master: Option<OwnedFd>,
    detached: bool,
    tell: Sender<String>,
    words: &std::sync::mpsc::Receiver<String>,
) -> Result<(u8, bool)> {
    let relay = match master {
        Some(m) => Some(stdio::relay_terminal(m, tell)?),
        None if detached => detach_stdio().map(|()| None)?,
        None => {
            stdio::pass_on_stdin(tell);
            None
        }
    };
    let end = running.attend(words)?;
    if let Some(r) = relay {
        // What was left in the background may hold the terminal: the last words come at once, or
        // not at all.
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
        // It has read everything once the last of the launch is gone.
        let _ = child.wait();
    }
}

/// Goes on in a process of its own session, while this one passes the answer on and ends: `Some`
/// here, `None` there. One fork alone: a process that was daemonised by two is reported to have
/// lost the Metal compiler service on macOS.
fn detach() -> Result<Option<u8>> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    if serve::fork_process()?.is_none() {
        drop(reader);
        nix::unistd::setsid().context("begin a session")?;
        nix::unistd::dup2_stdout(&writer).context("answer through the pipe")?;
        return Ok(None);
    }
    drop(writer);
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(reader);
    reader
        .read_line(&mut line)
        .context("hear whether it was started")?;
    let answer = serde_json::from_str(&line)
        .unwrap_or_else(|_| Answer::Failed(Problem::new("the supervisor ended without an answer")));
    wire::print_line(&answer);
    Ok(Some(u8::from(matches!(answer, Answer::Failed(_)))))
}

/// Lets go of the terminal.
fn detach_stdio() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    let to = "let go of the terminal";
    nix::unistd::dup2_stdin(&null).context(to)?;
    nix::unistd::dup2_stdout(&null).context(to)?;
    nix::unistd::dup2_stderr(&null).context(to)
}
