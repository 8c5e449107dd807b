//! The processes of a launch: the front, then ComfyUI; and their end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sandbox_process::{SandboxAccount, SandboxConfig};
use super::{KILL, STOP, ShellInput, port};
use crate::confine::Confinement;
use crate::desired::launch::{self, InnerPorts, LaunchSpec};
use crate::gateway::{self, access, tokens};
use crate::host::confine::opened_paths::OpenedPath;
use crate::host::{elevate, launched, lines, memory_cgroup, terminal};
#[cfg(target_os = "linux")]
use crate::manifest::EgressPolicy;
use crate::problem::{Context, Problem, Result};

/// Where proxies usually listen.
const PROXY: u16 = 3128;
/// How long ComfyUI may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where ComfyUI listens, how much memory it gets, and what this system lacks to keep it there.
pub struct LaunchNetwork {
    /// A network namespace of the launch's own.
    pub room: Option<OwnedFd>,
    pub inner: SocketAddr,
    /// Where the proxy for the way out listens, where there is a front.
    pub proxy: Option<SocketAddr>,
    pub lacking: Vec<String>,
    /// What keeps memory for the system.
    pub memory: Option<memory_cgroup::MemoryCgroup>,
}

/// Makes the launch's network and its memory's limit, and looks what the system can do.
///
/// # Errors
/// It cannot do what `policy.confinement = "required"` asks.
pub fn prepare_network(spec: &LaunchSpec) -> Result<LaunchNetwork> {
    let (room, lacking) = create_netns(spec);
    if spec.account && spec.strict && !lacking.is_empty() {
        let problems = lacking.into_iter().map(Problem::new).collect();
        return Err(Problem::from_many(problems).with_hint(
            "`confinement = \"warn\"` in [policy] of comfy.toml starts ComfyUI all the same",
        ));
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // In a network of its own every port is free.
    let (port, proxy) = match (spec.behind_gateway(), room.is_some()) {
        (false, _) => (spec.port, None),
        (true, true) => (
            spec.port,
            Some(if spec.port == PROXY { PROXY + 1 } else { PROXY }),
        ),
        (true, false) => (port::free_port()?, Some(port::free_port()?)),
    };
    let mut lacking = lacking;
    // A limit is no wall: without it ComfyUI starts all the same.
    let memory = match spec.reserve {
        bytes @ 1.. if spec.account && !spec.macos => {
            memory_cgroup::create_cgroup(&spec.user, bytes)
                .map_err(|why| lacking.push(format!("run.memory_reserve is not kept: {why}")))
                .ok()
        }
        _ => None,
    };
    Ok(LaunchNetwork {
        room,
        inner: at(port),
        proxy: proxy.map(at),
        lacking,
        memory,
    })
}

/// A network namespace, where this system and this launch have one, and what the system lacks.
#[cfg(target_os = "linux")]
fn create_netns(spec: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    use crate::host::confine;
    let mut lacking = Vec::new();
    let room = spec
        .account
        .then(confine::netns::create_netns)
        .transpose()
        .unwrap_or_else(|p| {
            lacking.push(format!(
                "no namespaces, so other programs' processes, sockets and ports are \
            within reach: {p}"
            ));
            None
        });
    lacking.extend(confine::missing_features(room.is_some()));
    (room, lacking)
}

#[cfg(not(target_os = "linux"))]
fn create_netns(_: &LaunchSpec) -> (Option<OwnedFd>, Vec<String>) {
    (None, Vec::new())
}

impl LaunchNetwork {
    /// The network that everybody has.
    pub fn shared_network(spec: &LaunchSpec) -> LaunchNetwork {
        LaunchNetwork {
            room: None,
            inner: (Ipv4Addr::LOCALHOST, spec.port).into(),
            proxy: None,
            lacking: Vec::new(),
            memory: None,
        }
    }

    pub fn inner_ports(&self) -> InnerPorts {
        InnerPorts {
            comfyui: self.inner.port(),
            proxy: self.proxy.map(|a| a.port()),
        }
    }
}

/// Where what is started says what it says.
pub enum OutputTarget {
    /// Where this process does.
    Own,
    /// Into a pipe.
    Pipe(OwnedFd),
}

impl OutputTarget {
    fn stdio(&self) -> Result<Stdio> {
        let fd = match self {
            OutputTarget::Own => std::io::stdout().as_fd().try_clone_to_owned(),
            OutputTarget::Pipe(fd) => fd.try_clone(),
        };
        fd.map(Stdio::from).context("pass the output on")
    }
}

/// What was started.
pub struct RunningLaunch {
    comfyui: Child,
    /// Whom signals go to: a process that passes them on, or ComfyUI's group.
    target: Pid,
    front: Option<GatewayProcess>,
    /// What keeps memory for the system; it goes with the last process.
    _memory: Option<memory_cgroup::MemoryCgroup>,
    /// Stdin and report of ComfyUI while it waits to begin.
    gate: Option<(std::process::ChildStdin, std::fs::File)>,
}

struct GatewayProcess {
    child: Child,
    handle: PathBuf,
}

/// What is started, and how.
pub struct SpawnOptions<'a> {
    pub command: &'a launch::LaunchCommand,
    pub voice: &'a OutputTarget,
    /// It is ComfyUI, which has a port.
    pub serves: bool,
    /// What the confinement's rules stand for; nothing under isolation "none" and where nothing is
    /// in the way.
    pub opened: &'a [OpenedPath],
    /// With nothing but this account in its way.
    pub bare: Option<SandboxAccount>,
    /// A terminal of its own.
    pub terminal: Option<OwnedFd>,
}

/// Starts ComfyUI, and the front before it where it `serves`. Both are comfy's own program again,
/// so that nothing of this process is in their memory.
///
/// # Errors
/// The port is taken; a process cannot become what it should.
pub fn start_processes(
    spec: &LaunchSpec,
    network: LaunchNetwork,
    confinement: Confinement,
    cast: SpawnOptions,
) -> Result<RunningLaunch> {
    let SpawnOptions {
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
        .with_hint("run `comfy apply`"));
    }
    #[cfg(target_os = "linux")]
    if spec.account && spec.network.egress != EgressPolicy::Allow {
        check_egress_filter(spec)?;
    }
    let front = match serves {
        true if spec.behind_gateway() => Some(start_gateway(spec, &network, voice)?),
        true => {
            port::ensure_free(&spec.listen, spec.port)?;
            None
        }
        false => None,
    };
    let (report, told) = make_pipe()?;
    let mut c = role_command(elevate::CELL_SIDE)?;
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let given = InheritedPaths::from_opened(&confinement, opened, network.room.is_some())?;
    let mut kept = vec![&told];
    kept.extend(&network.room);
    kept.extend(&terminal);
    kept.extend(given.rules.iter().map(|(_, fd)| fd).chain(&given.temps));
    launched::hand_over(&mut c, &kept);
    let cell = SandboxConfig {
        opened: given
            .rules
            .iter()
            .map(|(rule, fd)| (*rule, fd.as_raw_fd()))
            .collect(),
        temps: given.temps.iter().map(AsRawFd::as_raw_fd).collect(),
        bare: bare.is_some(),
        account: bare.or_else(|| {
            spec.account.then(|| SandboxAccount {
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
        launcher: own_pid(),
    };
    let mut comfyui = c.spawn().context("start ComfyUI")?;
    drop((told, given));
    // It waits for what it is asked, so that all it does is in there.
    if let Some(group) = &network.memory
        && let Err(why) = group.add_process(comfyui.id())
    {
        crate::render::print_warning(&format!("run.memory_reserve: {why}"));
    }
    send_config(&mut comfyui, &cell)?;
    let stdin = comfyui.stdin.take();
    let pid = i32::try_from(comfyui.id()).unwrap_or(0);
    let target = Pid::from_raw(if network.room.is_some() { pid } else { -pid });
    let mut running = RunningLaunch {
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
    let p = read_report(report, &first)
        .unwrap_or_else(|| Problem::new("ComfyUI ended before it began"));
    running.end_now();
    Err(p)
}

/// What the process is given of what was opened: mounts of it where it has a root of its own.
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
            let what = || format!("take {} into the launch", r.path.display());
            // Nothing is mounted below what is the sandbox user's own, or it is left out.
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
                    .with_context(|| format!("take {} into the launch", path.display()))
            })
        });
        Ok(InheritedPaths {
            rules,
            temps: mounts.collect::<Result<_>>()?,
        })
    }

    /// There the launcher has told the real paths.
    #[cfg(not(target_os = "linux"))]
    fn of(_: &Confinement, _: &[OpenedPath], _: bool) -> Result<InheritedPaths> {
        Ok(InheritedPaths {
            rules: Vec::new(),
            temps: Vec::new(),
        })
    }
}

/// The backstop is there again after a restart of the machine, and looked at every time.
#[cfg(target_os = "linux")]
fn check_egress_filter(spec: &LaunchSpec) -> Result<()> {
    use crate::host::egress_filter;
    use crate::host::process::SystemRunner;
    use crate::plan::observed::EgressFilter;
    let record = spec.paths.egress_filter_record();
    match egress_filter::read_state(spec.uid, &record, &SystemRunner) {
        EgressFilter::Absent => egress_filter::install_rules(spec.uid, &record, &SystemRunner),
        EgressFilter::There | EgressFilter::Unusable => Ok(()),
    }
}

/// Starts the front, which listens when this returns.
fn start_gateway(
    spec: &LaunchSpec,
    network: &LaunchNetwork,
    voice: &OutputTarget,
) -> Result<GatewayProcess> {
    let listener: OwnedFd = port::claim_port(&spec.listen, spec.port)?.into();
    let secret = tokens::LaunchSecret::new()?;
    let (report, told) = make_pipe()?;
    let mut c = role_command(elevate::FRONT_SIDE)?;
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let mut kept = vec![&told, &listener];
    kept.extend(&network.room);
    launched::hand_over(&mut c, &kept);
    let config = gateway::GatewayConfig {
        uid: spec.front,
        listener: listener.as_raw_fd(),
        network: network.room.as_ref().map(AsRawFd::as_raw_fd),
        inner: network.inner,
        rules: access::AccessRules {
            owner: spec.owner,
            clients: spec.network.clients.clone(),
            listen: spec.listen.clone(),
            port: spec.port,
            remote: spec.remote,
            hostname: crate::host::machine::short_hostname(),
        },
        proxy: network
            .proxy
            .ok_or_else(|| Problem::new("no port for the way out"))?,
        egress: spec.network.egress.clone(),
        secret: secret.clone(),
        report: told.as_raw_fd(),
        launcher: own_pid(),
    };
    let mut child = c.spawn().context("start the front")?;
    drop(told);
    let handle = spec.paths.gateway_credentials();
    // Its stdin stays open: by its end it knows that this process has ended.
    let started =
        send_config(&mut child, &config).and_then(|()| match read_report(report.into(), b"") {
            Some(p) => Err(p),
            None => tokens::GatewayCredentials::new(spec.listen_address(), secret)
                .write_for_owner(&handle, (spec.owner, 0)),
        });
    let front = GatewayProcess { child, handle };
    match started {
        Ok(()) => Ok(front),
        Err(p) => {
            front.end_gateway();
            Err(p)
        }
    }
}

impl GatewayProcess {
    fn end_gateway(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = crate::host::fs::edit::remove_path(&self.handle);
    }
}

/// Comfy's own program in another role, with a pipe to it and nothing of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "comfy itself, with a cleared environment"
)]
pub(super) fn role_command(role: &str) -> Result<Command> {
    let own = std::env::current_exe().context("find comfy's own program")?;
    let mut c = Command::new(own);
    c.arg(role)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped());
    Ok(c)
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// A pipe, to read and to write.
fn make_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    Ok((reader.into(), writer.into()))
}

/// Makes the owner's folder among the records.
///
/// # Errors
/// The disk.
pub fn make_logs_dir(spec: &LaunchSpec, owner_gid: u32) -> Result<()> {
    let logs = spec.paths.logs_dir();
    crate::host::fs::edit::make_dir(&logs, spec.owner, owner_gid, 0o700)
        .with_context(|| format!("make {}", logs.display()))
}

/// Starts the log keeper, and the pipe that it reads.
///
/// # Errors
/// It cannot be started.
pub fn start_log_writer(
    spec: &LaunchSpec,
    owner_gid: u32,
    nodes: Vec<String>,
) -> Result<(Child, OutputTarget)> {
    let (reader, writer) = make_pipe()?;
    make_logs_dir(spec, owner_gid)?;
    let mut c = role_command(elevate::SCRIBE_SIDE)?;
    c.stdout(Stdio::null()).stderr(Stdio::null());
    launched::hand_over(&mut c, &[&reader]);
    let account = spec.account.then_some((spec.owner, owner_gid));
    let config = super::log_writer::LogConfig {
        account,
        paths: spec.paths.clone(),
        input: reader.as_raw_fd(),
        address: spec.listen_address(),
        nodes,
    };
    let mut child = c.spawn().context("start the log keeper")?;
    send_config(&mut child, &config)?;
    drop(child.stdin.take());
    Ok((child, OutputTarget::Pipe(writer)))
}

/// Writes what it is asked, as one line.
pub(super) fn send_config(child: &mut Child, what: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(what).context("say what to start")?;
    let stdin = child
        .stdin
        .as_mut()
        .ok_or_else(|| Problem::new("no pipe to what was started"))?;
    // One that ended already says why by itself.
    let _ = writeln!(stdin, "{text}");
    Ok(())
}

/// What goes wrong before it is what it should be; nothing where all is well.
fn read_report(report: std::fs::File, first: &[u8]) -> Option<Problem> {
    let mut text = first.to_vec();
    // It comes from processes that are not root's any more.
    let _ = report.take(lines::WORD).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_matches('\0');
    (!text.is_empty()).then(|| {
        serde_json::from_str(text).unwrap_or_else(|_| Problem::new(crate::text::escape_text(text)))
    })
}

impl RunningLaunch {
    /// Lets ComfyUI begin. Where it cannot be executed that is said, and [`Running::attend`] sees
    /// its end.
    pub fn let_begin(&mut self) {
        if let Some((mut stdin, report)) = self.gate.take() {
            let _ = stdin.write_all(b"\n");
            drop(stdin);
            if let Some(p) = read_report(report, b"") {
                crate::render::print_problem(&p);
            }
        }
    }

    fn send_signal(&self, s: Signal) {
        let _ = kill(self.target, s);
    }

    /// Ends it at once, and everything with it.
    pub fn end_now(mut self) {
        // Whoever waits outside passes it on as the end of the whole namespace.
        self.send_signal(if self.target.as_raw() > 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
        let _ = self.comfyui.wait();
        if let Some(front) = self.front {
            front.end_gateway();
        }
    }

    /// Waits for ComfyUI's end; its exit code, and whether somebody asked for it. `stop` or a
    /// signal ends it gently, a second word after it at once.
    ///
    /// # Errors
    /// The front ended, and ComfyUI with it.
    pub fn wait_for_end(mut self, words: &Receiver<String>) -> Result<(u8, bool)> {
        let mut asked: Option<Instant> = None;
        let status = loop {
            if let Some(status) = self.comfyui.try_wait().context("wait for ComfyUI")? {
                break status;
            }
            if let Some(front) = &mut self.front
                && let Ok(Some(status)) = front.child.try_wait()
            {
                self.end_now();
                return Err(Problem::new(format!(
                    "the front ended ({status}), so ComfyUI was ended too"
                ))
                .with_hint("the lines above say why"));
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
            // What it started and left behind; a namespace ends with its first process.
            self.send_signal(Signal::SIGKILL);
        }
        if let Some(front) = self.front {
            front.end_gateway();
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
pub fn relay_terminal(
    master: OwnedFd,
    tell: Sender<String>,
) -> Result<std::thread::JoinHandle<()>> {
    let mut typed = std::fs::File::from(master.try_clone().context("hold the terminal")?);
    let mut said = std::fs::File::from(master);
    std::thread::spawn(move || {
        while let Ok(Some(line)) = lines::next_line(&mut std::io::stdin().lock(), lines::WORD) {
            match serde_json::from_str(&line) {
                Ok(ShellInput::Typed(bytes)) => drop(typed.write_all(&bytes)),
                Ok(ShellInput::Sized(size)) => terminal::set_size(&typed, size),
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
        while let Ok(Some(line)) = lines::next_line(&mut std::io::stdin().lock(), lines::WORD) {
            if (line == STOP || line == KILL) && tell.send(line).is_err() {
                return;
            }
        }
        let _ = tell.send(STOP.into());
    });
}
