//! One build job: a process of comfy's own that is neither root nor the owner nor the sandbox user,
//! and that ends with everything it started.
//!
//! Root starts it by exec, so that nothing of root's memory is in it, and tells it what to become
//! and what to do. On Linux it has a process namespace of its own, whose end is everybody's end
//! (pid_namespaces(7)), no network but where it fetches, and a Landlock domain of its folder, its
//! part of the store, and what programs need of the system. On macOS a Seatbelt profile does the
//! same, and its processes are found by their uid, which is the instance's alone. Nothing that it
//! says is believed: root hashes what it wrote.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::work::{BuildWork, WorkNeeds};
use crate::confine::{Confinement, PathAccess, PathOwner, PathRule, places};
use crate::host::machine::operating_system;
#[cfg(not(target_os = "linux"))]
use crate::host::process;
use crate::host::roles::Role;
use crate::host::roles::credentials::{self, Dropped};
use crate::host::roles::serve::{self, RoleConfig};
use crate::host::roles::spawn::{SYSTEM_PATH, role_command};
use crate::host::roles::wire::{
    self, Event, EventMessage, EventRelay, ProgressUpdate, RemoteReporter,
};
use crate::manifest::platforms::OperatingSystem;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;

/// Lines that wait to be heard: a job that says more waits.
const LINES: usize = 4;
/// Bytes of one line: the list of an environment of 400 packages has some 30 MiB.
const LONGEST: u64 = 256 << 20;

/// How the jobs of an apply are held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobLimits {
    /// `policy.confinement`: without Landlock nothing is begun.
    pub strict: bool,
}

/// What a job is asked, as the first line of stdin. The end of stdin is the end of the job.
#[derive(serde::Serialize, serde::Deserialize)]
struct JobRequest {
    uid: u32,
    /// Process that started it.
    parent: i32,
    fetches: bool,
    strict: bool,
    confinement: Confinement,
    work: BuildWork,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum JobMessage {
    Progress(ProgressUpdate),
    Done(serde_json::Value),
    Failed(Problem),
}

impl RoleConfig for JobRequest {
    const WHAT: &'static str = "the job";
}

impl EventMessage for JobMessage {
    /// A job tells its progress alone.
    fn from_event(event: Event) -> Option<JobMessage> {
        match event {
            Event::Progress(p) => Some(JobMessage::Progress(p)),
            Event::Say(_) | Event::Step(_) => None,
        }
    }
}

/// What a job may touch: what it asks for, and what every program needs.
fn job_confinement(needs: WorkNeeds, os: OperatingSystem) -> Confinement {
    let mut rules: Vec<PathRule> = Vec::new();
    let mut add = |path: PathBuf, may: PathAccess| {
        rules.push(PathRule {
            path,
            may,
            whose: PathOwner::System,
            why: String::new(),
        })
    };
    for (path, may, _) in places::for_builds(os) {
        add(path.into(), may);
    }
    if needs.fetches {
        for (path, may, _) in places::for_fetching(os) {
            add(path.into(), may);
        }
    }
    needs.run.into_iter().for_each(|p| add(p, PathAccess::Run));
    needs
        .read
        .into_iter()
        .for_each(|p| add(p, PathAccess::Read));
    needs
        .write
        .into_iter()
        .for_each(|p| add(p, PathAccess::Write));
    needs
        .work
        .into_iter()
        .for_each(|p| add(p, PathAccess::Make));
    Confinement {
        rules,
        ..Confinement::default()
    }
}

impl JobLimits {
    /// Has the work done under `uid`; afterwards nothing of the job is left running.
    ///
    /// # Errors
    /// What the job says, or how it died.
    pub(crate) fn run_job(
        self,
        uid: u32,
        work: &BuildWork,
        report: &dyn Reporter,
    ) -> Result<serde_json::Value> {
        let mut child = spawn_job()?;
        let parent = nix::unistd::getpid().as_raw();
        let needs = work.needs_of();
        let asked = JobRequest {
            uid,
            parent,
            fetches: needs.fetches,
            strict: self.strict,
            confinement: job_confinement(needs, operating_system()),
            work: work.clone(),
        };
        let text = serde_json::to_string(&asked).context("ask the build process")?;
        let heard = child
            .stdin
            .as_mut()
            .map_or(Ok(()), |stdin| writeln!(stdin, "{text}"))
            .context("ask the build process");
        let result = heard.and_then(|()| read_until_end(&mut child, report));
        // It hears the end of its stdin, and ends everything that it started first.
        drop(child.stdin.take());
        let status = child.wait().context("wait for the build process")?;
        end_all_of(uid)?;
        match result? {
            Some(value) => Ok(value),
            None => Err(died_problem(status)),
        }
    }
}

fn died_problem(status: std::process::ExitStatus) -> Problem {
    let signal = status
        .signal()
        .or_else(|| status.code().filter(|c| *c > 128).map(|c| c - 128));
    match signal.map(|s| (s, nix::sys::signal::Signal::try_from(s))) {
        Some((9, _)) => Problem::new("the build process was ended by signal 9 (SIGKILL)")
            .with_hint("the kernel does that where memory runs out: its log may tell"),
        Some((s, name)) => Problem::new(format!(
            "the build process was ended by signal {s}{}",
            name.map_or(String::new(), |n| format!(" ({n})"))
        )),
        None => Problem::new(format!(
            "the build process ended without an answer ({status})"
        )),
    }
}

fn spawn_job() -> Result<Child> {
    let mut c = role_command(Role::Build)?;
    // Nothing of the owner's terminal: what it has to say it says in its answer.
    c.env("PATH", SYSTEM_PATH)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    c.spawn().context("start the build process")
}

/// What it says until its end; `None` where it ended without an answer.
fn read_until_end(child: &mut Child, report: &dyn Reporter) -> Result<Option<serde_json::Value>> {
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Problem::new("no pipe from the build process"))?;
    let (tell, lines) = sync_channel::<Vec<u8>>(LINES);
    let reader = std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if tell.send(line).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    let result = read_answer(&lines, report);
    drop(lines);
    if result.is_ok() {
        // To the end of the pipe: then nobody of the job holds it any more.
        let _ = reader.join();
    }
    result
}

fn read_answer(
    lines: &Receiver<Vec<u8>>,
    report: &dyn Reporter,
) -> Result<Option<serde_json::Value>> {
    let mut events = EventRelay::new(report);
    loop {
        let line = match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if crate::host::signals::is_interrupted() => {
                return Err(Problem::interrupted());
            }
            Err(RecvTimeoutError::Timeout) => continue,
        };
        match serde_json::from_slice(&line).context("understand the build process")? {
            JobMessage::Progress(p) => events.pass_on(Event::Progress(p)),
            JobMessage::Done(value) => return Ok(Some(value)),
            JobMessage::Failed(p) => return Err(p),
        }
    }
}

/// On Linux the namespace has ended with its first process, and everybody in it before that was
/// told.
#[cfg(target_os = "linux")]
fn end_all_of(_: u32) -> Result<()> {
    Ok(())
}

/// Ends every process of the uid, which is the instance's alone.
#[cfg(not(target_os = "linux"))]
fn end_all_of(uid: u32) -> Result<()> {
    process::end_all_of(uid)
        .map_err(|p| p.with_prefix("nothing that a build process wrote can be trusted: "))
}

/// The job's side: becomes what it is told, does the one piece of work, answers. Must be called
/// while there is one thread.
pub(crate) fn serve_job() -> ExitCode {
    serve::answer(|| enter_job(&serve::read_config()?), JobMessage::Failed)
}

fn enter_job(asked: &JobRequest) -> Result<u8> {
    // Its own session: the terminal's Ctrl-C reaches the side that started it, which then ends it.
    nix::unistd::setsid().context("begin a session")?;
    serve::cloexec_from_3()?;
    serve::die_with_parent(asked.parent)?;
    nix::sys::stat::umask(crate::host::fs::as_mode(0o022));
    #[cfg(target_os = "linux")]
    if let Some(code) = enter_namespaces(asked)? {
        return Ok(code);
    }
    let dropped = drop_privileges(asked)?;
    let report = RemoteReporter::<JobMessage>::default();
    wire::print_line(&match asked.work.run_work(&report, &dropped) {
        Ok(value) => JobMessage::Done(value),
        Err(p) => JobMessage::Failed(p),
    });
    Ok(0)
}

/// Goes on in namespaces of its own: `None` there, the exit code here.
#[cfg(target_os = "linux")]
fn enter_namespaces(asked: &JobRequest) -> Result<Option<u8>> {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC)
        .context("give the build process a process namespace of its own")
        .map_err(|p| {
            p.with_hint("a container without that right cannot hold it: run comfy outside of it")
        })?;
    if !asked.fetches {
        unshare(CloneFlags::CLONE_NEWNET).context("keep the build process from the network")?;
    }
    let Some(first) = serve::fork_process()? else {
        return Ok(None);
    };
    // It ends when it is done, or when nobody asks for it any more.
    loop {
        match waitpid(first, Some(WaitPidFlag::WNOHANG)).context("wait for the build process")? {
            WaitStatus::Exited(_, code) => return Ok(Some(u8::try_from(code & 0xff).unwrap_or(1))),
            WaitStatus::Signaled(_, signal, _) => {
                return Ok(Some(u8::try_from(128 + signal as i32).unwrap_or(1)));
            }
            _ => {}
        }
        if asker_is_gone() {
            let _ = nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(first, None);
            return Ok(Some(1));
        }
    }
}

/// Whether stdin has ended, looked at for 20 milliseconds.
#[cfg(target_os = "linux")]
fn asker_is_gone() -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    // Nothing follows the request: whatever is there to be read is the end.
    poll(&mut fds, 20_u16).is_ok_and(|n| n > 0)
}

/// Leaves every right behind that the work does not need.
fn drop_privileges(asked: &JobRequest) -> Result<Dropped> {
    if asked.uid == 0 {
        return Err(Problem::new("the build process must not be root"));
    }
    let groups = credentials::clear_groups()?;
    let dropped = credentials::set_ids_permanently(asked.uid, asked.uid, groups)?;
    // Becoming somebody else has cleared it (prctl(2)).
    #[cfg(target_os = "linux")]
    serve::die_with_parent(0)?;
    credentials::set_no_new_privs()?;
    #[cfg(target_os = "linux")]
    if !operating_system().is_macos() {
        use crate::host::confine::{landlock_rules, seccomp_filter};
        if landlock_rules::landlock_abi() < 1 && asked.strict {
            return Err(Problem::new(
                "this kernel has no Landlock (kernel 5.13 and newer, with `landlock` in its \
                 `lsm=`), which holds build processes to their folders",
            )
            .with_hint("`confinement = \"warn\"` in [policy] of comfy.toml builds all the same"));
        }
        landlock_rules::apply_rules(&asked.confinement, &std::collections::BTreeMap::new())?;
        if seccomp_filter::is_available() {
            seccomp_filter::apply_without_services()?;
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        use crate::confine::seatbelt::SeatbeltProfile;
        use crate::host::confine::{darwin_user_dirs, opened_paths, sandbox_init};
        // As the build uid, whose folders these are.
        let real = opened_paths::by_canonical_path(&asked.confinement, asked.uid).0;
        let profile = SeatbeltProfile::for_build(&real, asked.fetches, &darwin_user_dirs());
        sandbox_init::apply_if_possible(&profile, asked.strict)?;
    }
    Ok(dropped)
}
