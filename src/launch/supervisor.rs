//! The side that launches: as root it reads what was applied, looks once more, has [`start`] start
//! the processes, and stays until all of them have ended.

use std::io::BufRead;

use super::control::Desk;
use super::processes::{self, Voice};
use super::sandbox_process::Account;
use super::{Answer, How, Request, add_only_probe};
use crate::confine::{Confinement, explain};
use crate::desired::launch::{self, LaunchSpec};
use crate::desired::{GenSpec, Paths};
use crate::doctor::probes::Question;
use crate::doctor::{self, By};
use crate::host::build::{self, interpreter, venv};
use crate::host::confine::opened_paths::{self, Everything};
use crate::host::machine::Machine;
use crate::host::roles::{serve, wire};
use crate::host::{fs, sandbox_state, shares, terminal};
use crate::manifest::{Access, names};
use crate::plan::ids::Ids;
use crate::plan::look::Look;
use crate::plan::observed::{Finding, Seen, ShareSpec};
use crate::problem::{Doing, Problem, Result};
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

fn launch(only: Option<String>, boot: bool) -> Result<u8> {
    let request = match &only {
        Some(instance) if boot => Request {
            instance: instance.clone(),
            records: None,
            args: Vec::new(),
            how: How::Detached,
        },
        _ => serve::read_config()?,
    };
    if let Some(only) = &only {
        if *only != request.instance {
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
    let spec = applied(&request)?;
    // Before anything here has a second thread.
    if request.how == How::Detached
        && !boot
        && let Some(code) = detach()?
    {
        return Ok(code);
    }
    let (id, generation) = match &request.how {
        How::Loaded(Some(id)) => (id.clone(), of(&spec, id)?),
        _ => current(&spec)?,
    };
    let owner_gid = nix::unistd::User::from_uid(spec.owner.into())
        .ok()
        .flatten()
        .map_or(spec.owner, |u| u.gid.as_raw());
    let serves = matches!(request.how, How::Attended | How::Detached);
    let held = serves.then(|| Held::take(&spec, owner_gid)).transpose()?;
    let text =
        fs::trusted::read_plain(&spec.paths.generation(&id).join("ComfyUI/comfy/cli_args.py"))
            .map_err(|p| p.prefixed("the flags of this ComfyUI: "))?;
    let bare = match &request.how {
        How::Tried(t) => bare(t.by, &spec)?,
        _ => None,
    };
    let network = if bare.is_some() {
        processes::Network::none(&spec)
    } else {
        processes::network(&spec)?
    };
    let rooms = network.room.is_some();
    let mut confinement = Confinement::of(&spec, &id, &generation, rooms, network.ports());
    let known = launch::flags(&text);
    let mut command = spec.command(&id, &generation, &known, &request.args, network.ports())?;
    match &request.how {
        How::Once(argv) => {
            let (program, args) = argv
                .split_first()
                .ok_or_else(|| Problem::new("no program to run").hint("comfy exec -- PROGRAM"))?;
            (command.program, command.args, command.lacking) =
                (program.into(), args.to_vec(), Vec::new());
        }
        How::Shell { term, .. } => {
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
        How::Tried(t) => {
            let question = Question {
                by: Some(t.by),
                ..(*t.question).clone()
            };
            let text = serde_json::to_string(&question).doing(|| "say what to try".into())?;
            // Without site and environment: nothing of a package is loaded.
            (command.args, command.lacking) = (
                ["-I", "-S", "-c", doctor::SCRIPT, &text]
                    .map(String::from)
                    .into(),
                Vec::new(),
            );
        }
        How::Loaded(_) => {
            spec.only_load(
                &mut command,
                &known,
                crate::host::confine::has_card(&confinement),
            );
            processes::logs(&spec, owner_gid)?;
        }
        _ => {}
    }
    if request.how == How::Explained {
        let allowed = explain::text(
            &spec,
            &confinement,
            network.ports(),
            network.memory.is_some(),
        );
        wire::print_line(&Answer::Explained {
            user: spec.user.clone(),
            command,
            allowed,
            lacking: network.lacking,
        });
        return Ok(0);
    }
    let mut lacking = network.lacking.clone();
    for s in &spec.shares {
        shares::mounted(s.requires_mount.as_deref()).map_err(|u| {
            Problem::new(format!("share {}: {}", s.name, u.reason))
                .of_kind(u.kind)
                .hint("mount it, then run this again; nothing is made on an empty mount point")
        })?;
    }
    let scratch = prepare_state(
        &spec,
        &id,
        serves,
        matches!(request.how, How::Loaded(_)),
        owner_gid,
    )?;
    if let Some(s) = &scratch {
        spec.keep_aside(&mut command, &s.path);
    }
    let everything = if spec.account && bare.is_none() {
        opened_paths::open(&confinement, &spec, matches!(request.how, How::Tried(_)))?
    } else {
        Everything::default()
    };
    lacking.extend(everything.left_out.iter().cloned());
    for s in spec.shares.iter().filter(|s| s.modes) {
        repair(&spec, s, &confinement, &everything, &mut lacking)?;
    }
    if spec.account && bare.is_none() && spec.macos {
        confinement = opened_paths::by_real_path(&confinement, &everything)?;
    }
    let nodes: Vec<String> = generation.nodes.keys().cloned().collect();
    let detached = request.how == How::Detached;
    let (scribe, voice) = if detached {
        processes::scribe(&spec, owner_gid, nodes.clone()).map(|(s, v)| (Some(s), v))?
    } else {
        (None, Voice::Own)
    };
    let (master, terminal) = match request.how {
        How::Shell { size, .. } => terminal::open(size).map(|(m, s)| (Some(m), Some(s)))?,
        _ => (None, None),
    };
    // The look at code and packages takes as long as the walls: both at once. What was started
    // waits to be let go, and this thread is the one that started it, whose end would be its end.
    let cast = processes::Cast {
        command: &command,
        voice: &voice,
        serves,
        opened: &everything.opened,
        bare,
        terminal,
    };
    let (looked, started) = std::thread::scope(|s| {
        let look = s.spawn(|| sound(&spec, &generation, owner_gid));
        let started = processes::start(&spec, network, confinement, cast);
        (look.join(), started)
    });
    let mut running = match (
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        started,
    ) {
        (Ok(()), started) => started?,
        (Err(p), started) => {
            if let Ok(running) = started {
                running.end();
            }
            return Err(p);
        }
    };
    // Only what was started holds the other end of the log now.
    drop(voice);
    let (tell, words) = std::sync::mpsc::channel();
    let desk = held
        .as_ref()
        .map(|_| Desk::open(&spec.paths, spec.owner, owner_gid, tell.clone()))
        .transpose()?;
    if let Some(h) = &held {
        let (pid, since, launch) = (std::process::id(), running::now(), running::digest(&spec));
        h.announce(&Live {
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
            lacking,
        });
    }
    running.go();
    let relay = match master {
        Some(m) => Some(processes::relay(m, tell)?),
        None if detached => quiet().map(|()| None)?,
        None => {
            processes::hear_stdin(tell);
            None
        }
    };
    let (code, asked) = running.attend(&words)?;
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
        h.ended(&Ended {
            code,
            when: running::now(),
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
fn repair(
    spec: &LaunchSpec,
    s: &ShareSpec,
    c: &Confinement,
    everything: &Everything,
    lacking: &mut Vec<String>,
) -> Result<()> {
    // Without walls nothing is opened: what is tried there is the account alone, with the modes as
    // they are.
    let Some(fd) = everything.at(c, &s.path) else {
        return Ok(());
    };
    // The owner's umask may have taken the group's right to write off a new folder; one of the
    // sandbox's own would let it remove what the owner puts there.
    if s.manage && s.access != Access::Read {
        shares::mend_opened(
            s,
            fs::open_dir_at(fd, c".").doing(|| format!("open share {}", s.name))?,
        )?;
    }
    // No other wall is there: the confinement lets it write where it may add.
    if s.access == Access::Add {
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
) -> Result<Option<Scratch>> {
    if spec.account {
        sandbox_state::sealed(&spec.paths)?;
    }
    let same = sandbox_state::cache_is_of(&spec.paths, id);
    let who = sandbox_state::Who::of(spec, owner_gid);
    if serves && !same {
        sandbox_state::renew(&spec.paths, id, &who)?;
    }
    sandbox_state::strip_set_ids(
        spec.state_children().iter().chain(&spec.paths.home),
        &spec.paths,
        &who,
    );
    // A trial run, and whatever runs beside other code, has caches of its own.
    (!serves && (loads || !same))
        .then(|| Scratch::new(spec))
        .transpose()
}

/// A folder in `state/temp` for one launch's caches; its programs make it, and it goes with this.
struct Scratch {
    path: std::path::PathBuf,
    uid: u32,
}

impl Scratch {
    fn new(spec: &LaunchSpec) -> Result<Scratch> {
        let name = fs::edit::chance().doing(|| "find a name".into())?;
        Ok(Scratch {
            path: spec.paths.state_of("temp").join(format!("cache-{name}")),
            uid: spec.uid,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed goes with the next change of code.
        let _ = fs::remove::remove_of(&self.path, self.uid);
    }
}

/// Who tries without any confinement: the sandbox user, or somebody else on this machine.
fn bare(by: By, spec: &LaunchSpec) -> Result<Option<Account>> {
    Ok(match by {
        By::Confined => None,
        By::Bare => Some(Account {
            name: spec.user.clone(),
            uid: spec.uid,
            gid: spec.gid,
        }),
        By::Stranger => {
            let nobody = nix::unistd::User::from_name("nobody")
                .ok()
                .flatten()
                .filter(|u| ![0, spec.owner, spec.uid].contains(&u.uid.as_raw()));
            let u = nobody.ok_or_else(|| Problem::new("there is no account `nobody` to try as"))?;
            Some(Account {
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
fn detach() -> Result<Option<u8>> {
    let (reader, writer) = std::io::pipe().doing(|| "make a pipe".into())?;
    if serve::fork_process()?.is_none() {
        drop(reader);
        nix::unistd::setsid().doing(|| "begin a session".into())?;
        nix::unistd::dup2_stdout(&writer).doing(|| "answer through the pipe".into())?;
        return Ok(None);
    }
    drop(writer);
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(reader);
    reader
        .read_line(&mut line)
        .doing(|| "hear whether it was started".into())?;
    let answer = serde_json::from_str(&line)
        .unwrap_or_else(|_| Answer::Failed(Problem::new("the supervisor ended without an answer")));
    wire::print_line(&answer);
    Ok(Some(u8::from(matches!(answer, Answer::Failed(_)))))
}

/// From here on nothing of the terminal is held.
fn quiet() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .doing(|| "open /dev/null".into())?;
    let to = || "let go of the terminal".to_string();
    nix::unistd::dup2_stdin(&null).doing(to)?;
    nix::unistd::dup2_stdout(&null).doing(to)?;
    nix::unistd::dup2_stderr(&null).doing(to)
}

/// What the last apply noted; a file of root's, or of the owner's under isolation "none".
fn applied(request: &Request) -> Result<LaunchSpec> {
    let me = nix::unistd::geteuid();
    names::account(&request.instance).map_err(|why| {
        Problem::new(format!(
            "instance \"{}\" {why}",
            crate::text::escape(&request.instance)
        ))
    })?;
    let sudo = crate::host::env::var("SUDO_UID").and_then(|u| u.parse::<u32>().ok());
    // Under isolation "none" nobody elevates: whoever does gets the records that root made.
    let own = request.records.clone().filter(|_| sudo.is_none());
    let account = own.is_none();
    let records =
        own.unwrap_or_else(|| Paths::records_of(&request.instance, cfg!(target_os = "macos")));
    let path = records.join("launch.json");
    if path
        .symlink_metadata()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(
            Problem::new("nothing was applied on this machine yet").hint("run `comfy apply`")
        );
    }
    let text = fs::read_trusted(&path, &[me.as_raw()])?;
    let spec: LaunchSpec =
        serde_json::from_str(&text).doing(|| format!("understand {}", path.display()))?;
    if spec.format != launch::FORMAT {
        return Err(
            Problem::new("this instance was applied by another version of comfy")
                .hint("run `comfy apply`"),
        );
    }
    if spec.account != account {
        return Err(
            Problem::new("comfy.toml asks for another isolation than was applied")
                .hint("run `comfy apply`"),
        );
    }
    if account && !me.is_root() {
        return Err(Problem::new(
            "this is the side of comfy that launches, which `comfy run` starts by itself",
        )
        .hint("run `comfy run`"));
    }
    if account && sudo.is_some_and(|uid| uid != 0 && uid != spec.owner) {
        return Err(Problem::new("this instance belongs to another user")
            .hint(format!("its owner has uid {}", spec.owner)));
    }
    Ok(spec)
}

/// The live generation.
fn current(spec: &LaunchSpec) -> Result<(String, GenSpec)> {
    let stale = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.current().display())).hint("run `comfy apply`")
    };
    let link = std::fs::read_link(spec.paths.current())
        .map_err(|_| stale("leads nowhere: no generation is live"))?;
    let id = link
        .to_str()
        .and_then(|t| t.strip_prefix("gen/"))
        .map(str::to_string)
        .ok_or_else(|| stale("leads elsewhere than to a generation"))?;
    let generation = of(spec, &id)?;
    Ok((id, generation))
}

/// A generation that is there.
fn of(spec: &LaunchSpec, id: &str) -> Result<GenSpec> {
    names::relative(id)
        .map_err(|why| Problem::new(format!("generation \"{}\" {why}", crate::text::escape(id))))?;
    let bad = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.generation(id).display()))
            .hint("run `comfy apply`")
    };
    let generation = build::read_spec(&spec.paths.generation(id), id)
        .ok_or_else(|| bad("is no generation, or not what its name says"))?;
    if generation.venv.is_none() {
        return Err(bad("has no virtual environment: an older comfy made it"));
    }
    Ok(generation)
}

/// Code and packages are as they were applied; otherwise nothing is started.
fn sound(spec: &LaunchSpec, g: &GenSpec, owner_gid: u32) -> Result<()> {
    let machine = Machine::new(&spec.paths, &spec.user);
    let seal = if spec.account {
        (0, 0)
    } else {
        (spec.owner, nix::unistd::getegid().as_raw())
    };
    let ids = Ids {
        seal: seal.0,
        seal_gid: seal.1,
        sandbox: spec.uid,
        sandbox_gid: spec.gid,
        owner: spec.owner,
        ..Ids::default()
    };
    let damaged = |what: &str| {
        Problem::new(format!(
            "{what} is not as it was applied, so nothing is started"
        ))
        .hint("`comfy plan -v` shows it, `comfy apply` mends it")
    };
    let unread = |u: crate::plan::observed::Unknown| Problem::from(u);
    if !machine
        .generation(&spec.paths, g, &ids)
        .map_err(unread)?
        .is_some_and(|c| c.intact())
    {
        return Err(damaged("the code"));
    }
    let Some(v) = &g.venv else {
        return Err(damaged("the virtual environment"));
    };
    let whole = |seen: Seen<Option<Vec<Finding>>>| {
        seen.map(|f| f.is_some_and(|f| f.is_empty()))
            .map_err(unread)
    };
    if !whole(venv::check(&spec.paths, v, &ids, &machine.readings))? {
        return Err(damaged("the virtual environment"));
    }
    let own = v.interpreter.path.starts_with(spec.paths.pythons());
    if own
        && !whole(interpreter::check(
            &spec.paths,
            &v.interpreter.version,
            &ids,
            &machine.readings,
        ))?
    {
        return Err(damaged("the interpreter"));
    }
    // The next launch and the next plan need not read it again.
    machine.remember(&spec.paths, spec.account.then_some((0, owner_gid)))
}
