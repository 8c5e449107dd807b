//! The processes of a launch: the front, then ComfyUI; and their end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sandbox_process::{Account, Cell};
use super::{KILL, STOP, Word, port};
use crate::confine::Confinement;
use crate::desired::launch::{self, Inner, LaunchSpec};
use crate::gateway::{self, access, tokens};
use crate::host::confine::opened_paths::Opened;
use crate::host::roles::{Role, spawn};
use crate::host::{lines, memory_cgroup, terminal};
#[cfg(target_os = "linux")]
use crate::manifest::Egress;
use crate::problem::{Doing, Problem, Result};

/// Where proxies usually listen.
const PROXY: u16 = 3128;
/// How long ComfyUI may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where ComfyUI listens, how much memory it gets, and what this system lacks to keep it there.
pub struct Network {
    /// A network namespace of the launch's own.
    pub room: Option<OwnedFd>,
    pub inner: SocketAddr,
    /// Where the proxy for the way out listens, where there is a front.
    pub proxy: Option<SocketAddr>,
    pub lacking: Vec<String>,
    /// What keeps memory for the system.
    pub memory: Option<memory_cgroup::Group>,
}

/// Makes the launch's network and its memory's limit, and looks what the system can do.
///
/// # Errors
/// It cannot do what `policy.confinement = "required"` asks.
pub fn network(spec: &LaunchSpec) -> Result<Network> {
    let (room, lacking) = room(spec);
    if spec.account && spec.strict && !lacking.is_empty() {
        let problems = lacking.into_iter().map(Problem::new).collect();
        return Err(Problem::all(problems).hint(
            "`confinement = \"warn\"` in [policy] of comfy.toml starts ComfyUI all the same",
        ));
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // In a network of its own every port is free.
    let (port, proxy) = match (spec.fronted(), room.is_some()) {
        (false, _) => (spec.port, None),
        (true, true) => (
            spec.port,
            Some(if spec.port == PROXY { PROXY + 1 } else { PROXY }),
        ),
        (true, false) => (port::any()?, Some(port::any()?)),
    };
    let mut lacking = lacking;
    // A limit is no wall: without it ComfyUI starts all the same.
    let memory = match spec.reserve {
        bytes @ 1.. if spec.account && !spec.macos => memory_cgroup::group(&spec.user, bytes)
            .map_err(|why| lacking.push(format!("run.memory_reserve is not kept: {why}")))
            .ok(),
        _ => None,
    };
    Ok(Network {
        room,
        inner: at(port),
        proxy: proxy.map(at),
        lacking,
        memory,
    })
}

/// A network namespace, where this system and this launch have one, and what the system lacks.
#[cfg(target_os = "linux")]
fn room(spec: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    use crate::host::confine;
    let mut lacking = Vec::new();
    let room = spec
        .account
        .then(confine::netns::room)
        .transpose()
        .unwrap_or_else(|p| {
            lacking.push(format!(
                "no namespaces, so other programs' processes, sockets and ports are \
            within reach: {p}"
            ));
            None
        });
    lacking.extend(confine::lacking(room.is_some()));
    (room, lacking)
}

#[cfg(not(target_os = "linux"))]
fn room(_: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    (None, Vec::new())
}

impl Network {
    /// The network that everybody has.
    pub fn none(spec: &LaunchSpec) -> Network {
        Network {
            room: None,
            inner: (Ipv4Addr::LOCALHOST, spec.port).into(),
            proxy: None,
            lacking: Vec::new(),
            memory: None,
        }
    }

    pub fn ports(&self) -> Inner {
        Inner {
            comfyui: self.inner.port(),
            proxy: self.proxy.map(|a| a.port()),
        }
    }
}

/// Where what is started says what it says.
pub enum Voice {
    /// Where this process does.
    Own,
    /// Into a pipe.
    Pipe(OwnedFd),
}

impl Voice {
    fn stdio(&self) -> Result<Stdio> {
        let fd = match self {
            Voice::Own => std::io::stdout().as_fd().try_clone_to_owned(),
            Voice::Pipe(fd) => fd.try_clone(),
        };
        fd.map(Stdio::from).doing(|| "pass the output on".into())
    }
}

/// What was started.
pub struct Running {
    comfyui: Child,
    /// Whom signals go to: a process that passes them on, or ComfyUI's group.
    target: Pid,
    front: Option<Front>,
    /// What keeps memory for the system; it goes with the last process.
    _memory: Option<memory_cgroup::Group>,
    /// Stdin and report of ComfyUI while it waits to begin.
    gate: Option<(std::process::ChildStdin, std::fs::File)>,
}

struct Front {
    child: Child,
    handle: PathBuf,
}

/// What is started, and how.
pub struct Cast<'a> {
    pub command: &'a launch::Command,
    pub voice: &'a Voice,
    /// It is ComfyUI, which has a port.
    pub serves: bool,
    /// What the confinement's rules stand for; nothing under isolation "none" and where nothing is
    /// in the way.
    pub opened: &'a [Opened],
    /// With nothing but this account in its way.
    pub bare: Option<Account>,
    /// A terminal of its own.
    pub terminal: Option<OwnedFd>,
}

/// Starts ComfyUI, and the front before it where it `serves`. Both are comfy's own program again,
/// so that nothing of this process is in their memory.
///
/// # Errors
/// The port is taken; a process cannot become what it should.
pub fn start(
    spec: &LaunchSpec,
    network: Network,
    confinement: Confinement,
    cast: Cast,
) -> Result<Running> {
    let Cast {
        command,
        voice,
        serves,
        opened,
        bare,
        terminal,
    } = cast;
    if spec.account
        && (spec.uid == 0
            || spec.uid == spec.owner
            || [0, spec.owner, spec.uid].contains(&spec.front))
    {
        return Err(Problem::new(format!(
            "{} has uid {} and the front {}: neither is a sandbox",
            spec.user, spec.uid, spec.front
        ))
        .hint("run `comfy apply`"));
    }
    #[cfg(target_os = "linux")]
    if spec.account && spec.network.egress != Egress::Allow {
        fence(spec)?;
    }
    let front = match serves {
        true if spec.fronted() => Some(serve(spec, &network, voice)?),
        true => {
            port::free(&spec.listen, spec.port)?;
            None
        }
        false => None,
    };
    let (report, told) = spawn::report_pipe()?;
    let mut c = spawn::role_command(Role::Sandbox)?;
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let given = Given::of(&confinement, opened, network.room.is_some())?;
    let mut kept = vec![&told];
    kept.extend(&network.room);
    kept.extend(&terminal);
    kept.extend(given.rules.iter().map(|(_, fd)| fd).chain(&given.temps));
    spawn::inherit_fds(&mut c, &kept);
    let cell = Cell {
        opened: given
            .rules
            .iter()
            .map(|(rule, fd)| (*rule, fd.as_raw_fd()))
            .collect(),
        temps: given.temps.iter().map(AsRawFd::as_raw_fd).collect(),
        bare: bare.is_some(),
        account: bare.or_else(|| {
            spec.account.then(|| Account {
                name: spec.user.clone(),
                uid: spec.uid,
                gid: spec.gid,
            })
        }),
        open_files: spec.open_files,
        command: command.clone(),
        confinement,
        report: told.as_raw_fd(),
        network: network.room.as_ref().map(AsRawFd::as_raw_fd),
        terminal: terminal.as_ref().map(AsRawFd::as_raw_fd),
        launcher: spawn::own_pid(),
    };
    let mut comfyui = c.spawn().doing(|| "start ComfyUI".into())?;
    drop((told, given));
    // It waits for what it is asked, so that all it does is in there.
    if let Some(group) = &network.memory
        && let Err(why) = group.take(comfyui.id())
    {
        crate::render::warning(&format!("run.memory_reserve: {why}"));
    }
    spawn::send_config(&mut comfyui, &cell)?;
    let stdin = comfyui.stdin.take();
    let pid = i32::try_from(comfyui.id()).unwrap_or(0);
    let target = Pid::from_raw(if network.room.is_some() { pid } else { -pid });
    let mut running = Running {
        comfyui,
        target,
        front,
        _memory: network.memory,
        gate: None,
    };
    let mut report = std::fs::File::from(report);
    let mut first = [0; 1];
    if report.read(&mut first).is_ok_and(|n| n == 1) && first == *b"\n" {
        running.gate = stdin.map(|s| (s, report));
        return Ok(running);
    }
    let p = spawn::read_report(report, &first)
        .unwrap_or_else(|| Problem::new("ComfyUI ended before it began"));
    running.end();
    Err(p)
}

/// What the process is given of what was opened: mounts of it where it has a root of its own.
struct Given {
    rules: Vec<(usize, OwnedFd)>,
    temps: Vec<OwnedFd>,
}

impl Given {
    #[cfg(target_os = "linux")]
    fn of(c: &Confinement, opened: &[Opened], rooms: bool) -> Result<Given> {
        use crate::confine::{Room, Whose};
        use crate::host::fs::mounts::detached;
        let one = |o: &Opened| -> Result<(usize, OwnedFd)> {
            let r = &c.rules[o.rule];
            let what = || format!("take {} into the launch", r.path.display());
            // Nothing is mounted below what is the sandbox user's own, or it is left out.
            let fd = if rooms {
                detached(&o.fd, r.whose != Whose::Own).doing(what)?
            } else {
                o.fd.try_clone().doing(what)?
            };
            Ok((o.rule, fd))
        };
        let rules = opened.iter().map(one).collect::<Result<_>>()?;
        let temp = opened.iter().find(|o| c.rules[o.rule].path == c.temp);
        let places = c.rooms.iter().filter(|(_, room)| *room == Room::Temp);
        let mounts = places.filter_map(|(path, _)| {
            temp.map(|t| {
                detached(&t.fd, false).doing(|| format!("take {} into the launch", path.display()))
            })
        });
        Ok(Given {
            rules,
            temps: mounts.collect::<Result<_>>()?,
        })
    }

    /// There the launcher has told the real paths.
    #[cfg(not(target_os = "linux"))]
    fn of(_: &Confinement, _: &[Opened], _: bool) -> Result<Given> {
        Ok(Given {
            rules: Vec::new(),
            temps: Vec::new(),
        })
    }
}

/// The backstop is there again after a restart of the machine, and looked at every time.
#[cfg(target_os = "linux")]
fn fence(spec: &LaunchSpec) -> Result<()> {
    use crate::host::egress_filter;
    use crate::host::process::System;
    use crate::plan::observed::Fence;
    let record = spec.paths.fence();
    match egress_filter::look(spec.uid, &record, &System) {
        Fence::Absent => egress_filter::set(spec.uid, &record, &System),
        Fence::There | Fence::Unusable => Ok(()),
    }
}

/// Starts the front, which listens when this returns.
fn serve(spec: &LaunchSpec, network: &Network, voice: &Voice) -> Result<Front> {
    let listener: OwnedFd = port::claim(&spec.listen, spec.port)?.into();
    let secret = tokens::Secret::new()?;
    let (report, told) = spawn::report_pipe()?;
    let mut c = spawn::role_command(Role::Gateway)?;
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let mut kept = vec![&told, &listener];
    kept.extend(&network.room);
    spawn::inherit_fds(&mut c, &kept);
    let config = gateway::Config {
        uid: spec.front,
        listener: listener.as_raw_fd(),
        network: network.room.as_ref().map(AsRawFd::as_raw_fd),
        inner: network.inner,
        rules: access::Rules {
            owner: spec.owner,
            clients: spec.network.clients.clone(),
            listen: spec.listen.clone(),
            port: spec.port,
            remote: spec.remote,
            hostname: crate::host::machine::hostname(),
        },
        proxy: network
            .proxy
            .ok_or_else(|| Problem::new("no port for the way out"))?,
        egress: spec.network.egress.clone(),
        secret: secret.clone(),
        report: told.as_raw_fd(),
        launcher: spawn::own_pid(),
    };
    let mut child = c.spawn().doing(|| "start the front".into())?;
    drop(told);
    let handle = spec.paths.front();
    // Its stdin stays open: by its end it knows that this process has ended.
    let started = spawn::send_config(&mut child, &config).and_then(|()| {
        match spawn::read_report(report.into(), b"") {
            Some(p) => Err(p),
            None => tokens::Handle::new(spec.address(), secret).write(&handle, (spec.owner, 0)),
        }
    });
    let front = Front { child, handle };
    match started {
        Ok(()) => Ok(front),
        Err(p) => {
            front.end();
            Err(p)
        }
    }
}

impl Front {
    fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = crate::host::fs::edit::remove_path(&self.handle);
    }
}

/// Makes the owner's folder among the records.
///
/// # Errors
/// The disk.
pub fn logs(spec: &LaunchSpec, owner_gid: u32) -> Result<()> {
    let logs = spec.paths.logs();
    crate::host::fs::edit::make_dir(&logs, spec.owner, owner_gid, 0o700)
        .doing(|| format!("make {}", logs.display()))
}

/// Starts the log keeper, and the pipe that it reads.
///
/// # Errors
/// It cannot be started.
pub fn scribe(spec: &LaunchSpec, owner_gid: u32, nodes: Vec<String>) -> Result<(Child, Voice)> {
    let (reader, writer) = spawn::report_pipe()?;
    logs(spec, owner_gid)?;
    let mut c = spawn::role_command(Role::LogWriter)?;
    c.stdout(Stdio::null()).stderr(Stdio::null());
    spawn::inherit_fds(&mut c, &[&reader]);
    let account = spec.account.then_some((spec.owner, owner_gid));
    let config = super::log_writer::Config {
        account,
        paths: spec.paths.clone(),
        input: reader.as_raw_fd(),
        address: spec.address(),
        nodes,
    };
    let mut child = c.spawn().doing(|| "start the log keeper".into())?;
    spawn::send_config(&mut child, &config)?;
    drop(child.stdin.take());
    Ok((child, Voice::Pipe(writer)))
}

impl Running {
    /// Lets ComfyUI begin. Where it cannot be executed that is said, and [`Running::attend`] sees
    /// its end.
    pub fn go(&mut self) {
        if let Some((mut stdin, report)) = self.gate.take() {
            let _ = stdin.write_all(b"\n");
            drop(stdin);
            if let Some(p) = spawn::read_report(report, b"") {
                crate::render::problem(&p);
            }
        }
    }

    fn signal(&self, s: Signal) {
        let _ = kill(self.target, s);
    }

    /// Ends it at once, and everything with it.
    pub fn end(mut self) {
        // Whoever waits outside passes it on as the end of the whole namespace.
        self.signal(if self.target.as_raw() > 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
        let _ = self.comfyui.wait();
        if let Some(front) = self.front {
            front.end();
        }
    }

    /// Waits for ComfyUI's end; its exit code, and whether somebody asked for it. `stop` or a
    /// signal ends it gently, a second word after it at once.
    ///
    /// # Errors
    /// The front ended, and ComfyUI with it.
    pub fn attend(mut self, words: &Receiver<String>) -> Result<(u8, bool)> {
        let mut asked: Option<Instant> = None;
        let status = loop {
            if let Some(status) = self
                .comfyui
                .try_wait()
                .doing(|| "wait for ComfyUI".into())?
            {
                break status;
            }
            if let Some(front) = &mut self.front
                && let Ok(Some(status)) = front.child.try_wait()
            {
                self.end();
                return Err(Problem::new(format!(
                    "the front ended ({status}), so ComfyUI was ended too"
                ))
                .hint("the lines above say why"));
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
            let stop = word.is_some() || (asked.is_none() && crate::host::signals::interrupted());
            let now = word.as_deref() == Some(KILL)
                || (word.is_some() && asked.is_some())
                || asked.is_some_and(|t| t.elapsed() > PATIENCE);
            if now {
                self.signal(if self.target.as_raw() > 0 {
                    Signal::SIGTERM
                } else {
                    Signal::SIGKILL
                });
            } else if stop && asked.is_none() {
                asked = Some(Instant::now());
                self.signal(Signal::SIGINT);
            }
        };
        if self.target.as_raw() < 0 {
            // What it started and left behind; a namespace ends with its first process.
            self.signal(Signal::SIGKILL);
        }
        if let Some(front) = self.front {
            front.end();
        }
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok((u8::try_from(code).unwrap_or(1), asked.is_some()))
    }
}

/// Has what is typed reach the terminal `master`, and what a program says there reach stdout, until
/// the last of them has ended. The end of stdin is the shell's end, and so is a line of it that is
/// too long.
///
/// # Errors
/// The system's own.
pub fn relay(master: OwnedFd, tell: Sender<String>) -> Result<std::thread::JoinHandle<()>> {
    let mut typed = std::fs::File::from(master.try_clone().doing(|| "hold the terminal".into())?);
    let mut said = std::fs::File::from(master);
    std::thread::spawn(move || {
        while let Ok(Some(line)) = lines::next(&mut std::io::stdin().lock(), lines::WORD) {
            match serde_json::from_str(&line) {
                Ok(Word::Typed(bytes)) => drop(typed.write_all(&bytes)),
                Ok(Word::Sized(size)) => terminal::resize(&typed, size),
                Err(_) => {}
            }
        }
        let _ = tell.send(KILL.into());
    });
    Ok(std::thread::spawn(move || {
        let (mut buffer, mut out) = ([0; 1 << 14], std::io::stdout());
        // EIO: nobody has the other side open any more.
        while let Ok(n @ 1..) = said.read(&mut buffer) {
            if out
                .write_all(&buffer[..n])
                .and_then(|()| out.flush())
                .is_err()
            {
                return;
            }
        }
    }))
}

/// Words from stdin; its end counts as one more, and so does a line that is too long.
pub fn hear_stdin(tell: Sender<String>) {
    std::thread::spawn(move || {
        while let Ok(Some(line)) = lines::next(&mut std::io::stdin().lock(), lines::WORD) {
            if (line == STOP || line == KILL) && tell.send(line).is_err() {
                return;
            }
        }
        let _ = tell.send(STOP.into());
    });
}
