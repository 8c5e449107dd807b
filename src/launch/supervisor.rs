//! The side that launches: as root it reads what was applied, looks once more, has [`start`] start
//! the processes, and stays until all of them have ended.

use std::io::{BufRead, Read, Write};

use super::control::ControlSocket;
use super::processes::{self, OutputTarget};
use super::sandbox_process::SandboxAccount;
use super::{LaunchAnswer, LaunchMode, LaunchRequest, add_only_probe};
use crate::confine::{Confinement, explain};
use crate::desired::launch::{self, LaunchSpec};
use crate::desired::{GenSpec, InstancePaths};
use crate::doctor::probes::ProbeContext;
use crate::doctor::{self, ProbeAs};
use crate::host::build::{self, interpreter, venv};
use crate::host::confine::opened_paths::{self, OpenedPaths};
use crate::host::machine::HostMachine;
use crate::host::{fs, launched, sandbox_state, shares, terminal};
use crate::ids::GenerationId;
use crate::manifest::{ShareAccess, names};
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{Seen, ShareSpec, TreeDifference};
use crate::problem::{Context, Problem, Result};
use crate::records::running::{self, ExitRecord, InstanceLock, RunningRecord};

/// Serves one launch: the request is the first line of stdin, words follow; the exit code is
/// ComfyUI's.
///
/// `only`: another instance is refused. `boot`: nothing is asked and nobody answers; it is launched
/// as by `comfy start`, and what started this process supervises it.
pub fn serve_launch(only: Option<String>, boot: bool) -> std::process::ExitCode {
    crate::host::signals::install_handlers(false);
    match run_launch(only, boot) {
        Err(p) if boot => {
            crate::render::print_problem(&p);
            std::process::ExitCode::from(p.exit)
        }
        Ok(code) => std::process::ExitCode::from(code),
        Err(p) => {
            let exit = p.exit;
            send_answer(&LaunchAnswer::Failed(p));
            std::process::ExitCode::from(exit)
        }
    }
}

fn send_answer(answer: &LaunchAnswer) {
    let text = serde_json::to_string(answer).unwrap_or_default();
    // Nobody listens any more: the launch ends by its stdin.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn read_request() -> Result<LaunchRequest> {
    let mut line = String::new();
    // Whoever may start this for the owner may not fill root's memory.
    std::io::stdin()
        .lock()
        .take(1 << 20)
        .read_line(&mut line)
        .context("read the request")?;
    serde_json::from_str(&line).context("read the request")
}

fn run_launch(only: Option<String>, boot: bool) -> Result<u8> {
    let request = match &only {
        Some(instance) if boot => LaunchRequest {
            instance: instance.clone(),
            records: None,
            args: Vec::new(),
            how: LaunchMode::Detached,
        },
        _ => read_request()?,
    };
    if let Some(only) = &only {
        if *only != request.instance {
            return Err(Problem::new("this launcher is for another instance"));
        }
        // Nothing without walls comes without a password.
        if matches!(&request.how, LaunchMode::Tried(t) if t.by != ProbeAs::Confined) {
            return Err(
                Problem::new("this launcher starts nothing outside of the walls")
                    .with_hint("`comfy doctor` asks sudo itself"),
            );
        }
    }
    let spec = applied_launch(&request)?;
    // Before anything here has a second thread.
    if request.how == LaunchMode::Detached
        && !boot
        && let Some(code) = detach_session()?
    {
        return Ok(code);
    }
    let (id, generation) = match &request.how {
        LaunchMode::Loaded(Some(id)) => (id.clone(), load_generation(&spec, id)?),
        _ => current_generation(&spec)?,
    };
    let owner_gid = nix::unistd::User::from_uid(spec.owner.into())
        .ok()
        .flatten()
        .map_or(spec.owner, |u| u.gid.as_raw());
    let serves = matches!(request.how, LaunchMode::Attended | LaunchMode::Detached);
    let held = serves
        .then(|| InstanceLock::acquire_lock(&spec, owner_gid))
        .transpose()?;
    let text = fs::trusted::read_plain(
        &spec
            .paths
            .generation_dir(&id)
            .join("ComfyUI/comfy/cli_args.py"),
    )
    .map_err(|p| p.with_prefix("the flags of this ComfyUI: "))?;
    let bare = match &request.how {
        LaunchMode::Tried(t) => unconfined_account(t.by, &spec)?,
        _ => None,
    };
    let network = if bare.is_some() {
        processes::LaunchNetwork::shared_network(&spec)
    } else {
        processes::prepare_network(&spec)?
    };
    let rooms = network.room.is_some();
    let mut confinement =
        Confinement::for_launch(&spec, &id, &generation, rooms, network.inner_ports());
    let known = launch::parse_flags(&text);
    let mut command = spec.launch_command(
        &id,
        &generation,
        &known,
        &request.args,
        network.inner_ports(),
    )?;
    match &request.how {
        LaunchMode::Once(argv) => {
            let (program, args) = argv.split_first().ok_or_else(|| {
                Problem::new("no program to run").with_hint("comfy exec -- PROGRAM")
            })?;
            (command.program, command.args, command.lacking) =
                (program.into(), args.to_vec(), Vec::new());
        }
        LaunchMode::Shell { term, .. } => {
            let shell = ["/bin/bash", "/bin/sh"]
                .into_iter()
                .find(|p| std::path::Path::new(p).exists())
                .unwrap_or("/bin/sh");
            // Nothing of the sandbox user's own is read first.
            let plain: &[&str] = if shell.ends_with("bash") {
                &["--noprofile", "--norc", "-i"]
            } else {
                &["-i"]
            };
            (command.program, command.args, command.lacking) = (
                shell.into(),
                plain.iter().map(|a| a.to_string()).collect(),
                Vec::new(),
            );
            let known = term
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
            command.env.extend(
                [
                    ("TERM", if known { term } else { "dumb" }),
                    ("PS1", "comfy \\w\\$ "),
                    ("HISTFILE", ""),
                ]
                .map(|(k, v)| (k.to_string(), v.to_string())),
            );
        }
        LaunchMode::Tried(t) => {
            let question = ProbeContext {
                by: Some(t.by),
                ..(*t.question).clone()
            };
            let text = serde_json::to_string(&question).context("say what to try")?;
            // Without site and environment: nothing of a package is loaded.
            (command.args, command.lacking) = (
                ["-I", "-S", "-c", doctor::SCRIPT, &text]
                    .map(String::from)
                    .into(),
                Vec::new(),
            );
        }
        LaunchMode::Loaded(_) => {
            spec.only_load(
                &mut command,
                &known,
                crate::host::confine::has_card(&confinement),
            );
            processes::make_logs_dir(&spec, owner_gid)?;
        }
        _ => {}
    }
    if request.how == LaunchMode::Explained {
        let allowed = explain::explain_text(
            &spec,
            &confinement,
            network.inner_ports(),
            network.memory.is_some(),
        );
        send_answer(&LaunchAnswer::Explained {
            user: spec.user.clone(),
            command,
            allowed,
            lacking: network.lacking,
        });
        return Ok(0);
    }
    let mut lacking = network.lacking.clone();
    for s in &spec.shares {
        shares::ensure_mounted(s.requires_mount.as_deref()).map_err(|u| {
            Problem::new(format!("share {}: {}", s.name, u.reason))
                .with_hint("mount it, then run this again; nothing is made on an empty mount point")
        })?;
    }
    let scratch = prepare_state(
        &spec,
        &id,
        serves,
        matches!(request.how, LaunchMode::Loaded(_)),
        owner_gid,
    )?;
    if let Some(s) = &scratch {
        spec.keep_aside(&mut command, &s.path);
    }
    let everything = if spec.account && bare.is_none() {
        opened_paths::open_all(
            &confinement,
            &spec,
            matches!(request.how, LaunchMode::Tried(_)),
        )?
    } else {
        OpenedPaths::default()
    };
    lacking.extend(everything.left_out.iter().cloned());
    for s in spec.shares.iter().filter(|s| s.modes) {
        repair_shares(&spec, s, &confinement, &everything, &mut lacking)?;
    }
    if spec.account && bare.is_none() && spec.macos {
        confinement = opened_paths::by_real_path(&confinement, &everything)?;
    }
    let nodes: Vec<String> = generation.nodes.keys().cloned().collect();
    let detached = request.how == LaunchMode::Detached;
    let (scribe, voice) = if detached {
        processes::start_log_writer(&spec, owner_gid, nodes.clone()).map(|(s, v)| (Some(s), v))?
    } else {
        (None, OutputTarget::Own)
    };
    let (master, terminal) = match request.how {
        LaunchMode::Shell { size, .. } => {
            terminal::open_pty(size).map(|(m, s)| (Some(m), Some(s)))?
        }
        _ => (None, None),
    };
    // The look at code and packages takes as long as the walls: both at once. What was started
    // waits to be let go, and this thread is the one that started it, whose end would be its end.
    let cast = processes::SpawnOptions {
        command: &command,
        voice: &voice,
        serves,
        opened: &everything.opened,
        bare,
        terminal,
    };
    let (looked, started) = std::thread::scope(|s| {
        let look = s.spawn(|| verify_integrity(&spec, &generation, owner_gid));
        let started = processes::start_processes(&spec, network, confinement, cast);
        (look.join(), started)
    });
    let mut running = match (
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        started,
    ) {
        (Ok(()), started) => started?,
        (Err(p), started) => {
            if let Ok(running) = started {
                running.end_now();
            }
            return Err(p);
        }
    };
    // Only what was started holds the other end of the log now.
    drop(voice);
    let (tell, words) = std::sync::mpsc::channel();
    let desk = held
        .as_ref()
        .map(|_| ControlSocket::open_socket(&spec.paths, spec.owner, owner_gid, tell.clone()))
        .transpose()?;
    if let Some(h) = &held {
        let (pid, since, launch) = (
            std::process::id(),
            running::rfc3339_now(),
            running::launch_digest(&spec),
        );
        h.write_running(&RunningRecord {
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
        send_answer(&LaunchAnswer::Started {
            address: spec.listen_address(),
            generation: id,
            nodes,
            unknown: command.lacking,
            lacking,
        });
    }
    running.let_begin();
    let relay = match master {
        Some(m) => Some(processes::relay_terminal(m, tell)?),
        None if detached => detach_stdio().map(|()| None)?,
        None => {
            processes::hear_stdin(tell);
            None
        }
    };
    let (code, asked) = running.wait_for_end(&words)?;
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
    drop(desk);
    if let Some(h) = held {
        h.write_exit(&ExitRecord {
            code,
            when: running::rfc3339_now(),
            asked,
        })?;
    }
    if let Some(mut s) = scribe {
        // It has read everything once the last of the launch is gone.
        let _ = s.wait();
    }
    // An end that was asked for is none that the system should make up for.
    Ok(if boot && asked { 0 } else { code })
}

/// What a share needs before ComfyUI may use it, done with what was opened of it.
fn repair_shares(
    spec: &LaunchSpec,
    s: &ShareSpec,
    c: &Confinement,
    everything: &OpenedPaths,
    lacking: &mut Vec<String>,
) -> Result<()> {
    // Without walls nothing is opened: what is tried there is the account alone, with the modes as
    // they are.
    let Some(fd) = everything.at(c, &s.path) else {
        return Ok(());
    };
    // The owner's umask may have taken the group's right to write off a new folder; one of the
    // sandbox's own would let it remove what the owner puts there.
    if s.manage && s.access != ShareAccess::Read {
        shares::mend_opened(
            s,
            fs::open_dir_at(fd, c".").with_context(|| format!("open share {}", s.name))?,
        )?;
    }
    // No other wall is there: the confinement lets it write where it may add.
    if s.access == ShareAccess::Add {
        match add_only_probe::added_to(spec, s, fd) {
            Err(p) if !spec.strict => lacking.push(p.message),
            other => other?,
        }
    }
    Ok(())
}

/// Brings the sandbox user's own folders to what this launch may find there, and says where its
/// caches go if not into `state/cache`.
fn prepare_state(
    spec: &LaunchSpec,
    id: &str,
    serves: bool,
    loads: bool,
    owner_gid: u32,
) -> Result<Option<ScratchDir>> {
    if spec.account {
        sandbox_state::ensure_sealed(&spec.paths)?;
    }
    let same = sandbox_state::cache_is_of(&spec.paths, id);
    let who = sandbox_state::StateOwner::of(spec, owner_gid);
    if serves && !same {
        sandbox_state::renew_caches(&spec.paths, id, &who)?;
    }
    sandbox_state::strip_set_ids(
        spec.state_children().iter().chain(&spec.paths.home),
        &spec.paths,
        &who,
    );
    // A trial run, and whatever runs beside other code, has caches of its own.
    (!serves && (loads || !same))
        .then(|| ScratchDir::new(spec))
        .transpose()
}

/// A folder in `state/temp` for one launch's caches; its programs make it, and it goes with this.
struct ScratchDir {
    path: std::path::PathBuf,
    uid: u32,
}

impl ScratchDir {
    fn new(spec: &LaunchSpec) -> Result<ScratchDir> {
        let name = fs::edit::random_suffix().context("find a name")?;
        Ok(ScratchDir {
            path: spec.paths.state_of("temp").join(format!("cache-{name}")),
            uid: spec.uid,
        })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // What cannot be removed goes with the next change of code.
        let _ = fs::remove::remove_of(&self.path, self.uid);
    }
}

/// Who tries without any confinement: the sandbox user, or somebody else on this machine.
fn unconfined_account(by: ProbeAs, spec: &LaunchSpec) -> Result<Option<SandboxAccount>> {
    Ok(match by {
        ProbeAs::Confined => None,
        ProbeAs::Bare => Some(SandboxAccount {
            name: spec.user.clone(),
            uid: spec.uid,
            gid: spec.gid,
        }),
        ProbeAs::Stranger => {
            let nobody = nix::unistd::User::from_name("nobody")
                .ok()
                .flatten()
                .filter(|u| ![0, spec.owner, spec.uid].contains(&u.uid.as_raw()));
            let u = nobody.ok_or_else(|| Problem::new("there is no account `nobody` to try as"))?;
            Some(SandboxAccount {
                name: u.name,
                uid: u.uid.as_raw(),
                gid: u.gid.as_raw(),
            })
        }
    })
}

/// Goes on in a process of its own session, while this one passes the answer on and ends: `Some`
/// here, `None` there. One fork alone: a process that was daemonised by two is reported to have
/// lost the Metal compiler service on macOS.
fn detach_session() -> Result<Option<u8>> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    if launched::fork()?.is_none() {
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
    let answer = serde_json::from_str(&line).unwrap_or_else(|_| {
        LaunchAnswer::Failed(Problem::new("the supervisor ended without an answer"))
    });
    send_answer(&answer);
    Ok(Some(u8::from(matches!(answer, LaunchAnswer::Failed(_)))))
}

/// From here on nothing of the terminal is held.
fn detach_stdio() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    let to = || "let go of the terminal".to_string();
    nix::unistd::dup2_stdin(&null).with_context(to)?;
    nix::unistd::dup2_stdout(&null).with_context(to)?;
    nix::unistd::dup2_stderr(&null).with_context(to)
}

/// What the last apply noted; a file of root's, or of the owner's under isolation "none".
fn applied_launch(request: &LaunchRequest) -> Result<LaunchSpec> {
    let me = nix::unistd::geteuid();
    names::check_account(&request.instance).map_err(|why| {
        Problem::new(format!(
            "instance \"{}\" {why}",
            crate::text::escape_text(&request.instance)
        ))
    })?;
    let sudo = crate::host::env::var("SUDO_UID").and_then(|u| u.parse::<u32>().ok());
    // Under isolation "none" nobody elevates: whoever does gets the records that root made.
    let own = request.records.clone().filter(|_| sudo.is_none());
    let account = own.is_none();
    let records = own
        .unwrap_or_else(|| InstancePaths::records_of(&request.instance, cfg!(target_os = "macos")));
    let path = records.join("launch.json");
    if path
        .symlink_metadata()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(
            Problem::new("nothing was applied on this machine yet").with_hint("run `comfy apply`")
        );
    }
    let text = fs::read_trusted(&path, &[me.as_raw()])?;
    let spec: LaunchSpec =
        serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    if spec.format != launch::FORMAT {
        return Err(
            Problem::new("this instance was applied by another version of comfy")
                .with_hint("run `comfy apply`"),
        );
    }
    if spec.account != account {
        return Err(
            Problem::new("comfy.toml asks for another isolation than was applied")
                .with_hint("run `comfy apply`"),
        );
    }
    if account && !me.is_root() {
        return Err(Problem::new(
            "this is the side of comfy that launches, which `comfy run` starts by itself",
        )
        .with_hint("run `comfy run`"));
    }
    if account && sudo.is_some_and(|uid| uid != 0 && uid != spec.owner) {
        return Err(Problem::new("this instance belongs to another user")
            .with_hint(format!("its owner has uid {}", spec.owner)));
    }
    Ok(spec)
}

/// The live generation.
fn current_generation(spec: &LaunchSpec) -> Result<(String, GenSpec)> {
    let stale = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.current_link().display()))
            .with_hint("run `comfy apply`")
    };
    let link = std::fs::read_link(spec.paths.current_link())
        .map_err(|_| stale("leads nowhere: no generation is live"))?;
    let id = GenerationId::from_link(&link)
        .map(|id| id.to_string())
        .ok_or_else(|| stale("leads elsewhere than to a generation"))?;
    let generation = load_generation(spec, &id)?;
    Ok((id, generation))
}

/// A generation that is there.
fn load_generation(spec: &LaunchSpec, id: &str) -> Result<GenSpec> {
    names::check_relative(id).map_err(|why| {
        Problem::new(format!(
            "generation \"{}\" {why}",
            crate::text::escape_text(id)
        ))
    })?;
    let bad = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.generation_dir(id).display()))
            .with_hint("run `comfy apply`")
    };
    let generation = build::read_spec(&spec.paths.generation_dir(id), id)
        .ok()
        .flatten()
        .ok_or_else(|| bad("is no generation, or not what its name says"))?;
    if generation.venv.is_none() {
        return Err(bad("has no virtual environment: an older comfy made it"));
    }
    Ok(generation)
}

/// Code and packages are as they were applied; otherwise nothing is started.
fn verify_integrity(spec: &LaunchSpec, g: &GenSpec, owner_gid: u32) -> Result<()> {
    let machine = HostMachine::new(&spec.paths, &spec.user);
    let seal = if spec.account {
        (0, 0)
    } else {
        (spec.owner, nix::unistd::getegid().as_raw())
    };
    let ids = AccountIds {
        seal: seal.0,
        seal_gid: seal.1,
        sandbox: spec.uid,
        sandbox_gid: spec.gid,
        owner: spec.owner,
        ..AccountIds::default()
    };
    let damaged = |what: &str| {
        Problem::new(format!(
            "{what} is not as it was applied, so nothing is started"
        ))
        .with_hint("`comfy plan -v` shows it, `comfy apply` mends it")
    };
    let unread = |u: crate::plan::observed::UnknownState| Problem::new(u.reason);
    if !machine
        .check_generation(&spec.paths, g, &ids)
        .map_err(unread)?
        .is_some_and(|c| c.is_intact())
    {
        return Err(damaged("the code"));
    }
    let Some(v) = &g.venv else {
        return Err(damaged("the virtual environment"));
    };
    let whole = |seen: Seen<Option<Vec<TreeDifference>>>| {
        seen.map(|f| f.is_some_and(|f| f.is_empty()))
            .map_err(unread)
    };
    if !whole(venv::check_venv(&spec.paths, v, &ids, &machine.readings))? {
        return Err(damaged("the virtual environment"));
    }
    let own = v
        .interpreter
        .path
        .starts_with(spec.paths.interpreters_dir());
    if own
        && !whole(interpreter::check_interpreter(
            &spec.paths,
            &v.interpreter.version,
            &ids,
            &machine.readings,
        ))?
    {
        return Err(damaged("the interpreter"));
    }
    // The next launch and the next plan need not read it again.
    machine.write_caches(&spec.paths, spec.account.then_some((0, owner_gid)))
}
