//! Fetching and unpacking, by a process that is neither root nor the owner nor the sandbox user.
//!
//! The root side forks it before it has any thread, tells it which uid to become, and sends one request. It answers with
//! progress and, at the end, the listing of each tree. Nothing that it says is believed: root hashes what it wrote.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setuid};
use rayon::prelude::*;

use crate::host::git::{Depth, Git, NetEnv, read};
use crate::host::progress::{Progress, Reporter, Unit};
use crate::host::{bytecode, models, python, uv, venv};
use crate::lock::Pin;
use crate::problem::{Doing, Problem, Result};
use crate::tree::{Entry, Listing, Oid};

/// One tree to make.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Item {
    pub part: String,
    pub pin: Pin,
    /// Files that the sealer has already, by path, content and mode.
    pub have: BTreeMap<String, Entry>,
    pub target: PathBuf,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Request {
    pub store: PathBuf,
    pub config: PathBuf,
    pub git: Option<PathBuf>,
    pub net: NetEnv,
    pub offline: bool,
    pub items: Vec<Item>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Message {
    Progress { job: String, unit: Unit, at: u64, total: u64 },
    Done(serde_json::Value),
    Failed(Problem),
}

/// What the build process can do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Work {
    Trees(Request),
    Venv(Box<venv::work::Job>),
    Bytecode(bytecode::Job),
    Uv(uv::program::Job),
    Python(python::managed::Job),
    Models(Box<models::work::Job>),
}

impl Work {
    /// Does it, as whoever calls.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn run(&self, report: &dyn Reporter) -> Result<serde_json::Value> {
        let value = match self {
            Work::Trees(r) => serde_json::to_value(run(r, report)?),
            Work::Venv(j) => serde_json::to_value(venv::work::run(j, report)?),
            Work::Bytecode(j) => serde_json::to_value(j.run(report)?),
            Work::Uv(j) => serde_json::to_value(j.run()?),
            Work::Python(j) => serde_json::to_value(j.run(report)?),
            Work::Models(j) => serde_json::to_value(models::work::run(j, report)?),
        };
        value.doing(|| "answer".into())
    }
}

/// Fetches and unpacks all items, several at once.
///
/// # Errors
/// Every item that failed, in one problem.
fn run(request: &Request, report: &dyn Reporter) -> Result<Vec<(String, Listing)>> {
    let git =
        Git { program: request.git.clone(), net: request.net.clone(), store: request.store.clone(), offline: request.offline, config: request.config.clone() };
    let fetched: Vec<Result<u64>> = request.items.par_iter().map(|i| fetch(&git, i, report)).collect();
    let (mut bytes, mut problems) = (0, Vec::new());
    for f in fetched {
        match f {
            Ok(n) => bytes += n,
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    let free = crate::host::fs::edit::free_bytes(&request.store).doing(|| "ask for free disk space".into())?;
    if free < bytes + bytes / 20 {
        return Err(Problem::new(format!(
            "the disk that holds {} has {} free, and {} are needed",
            request.store.display(),
            crate::text::bytes(free),
            crate::text::bytes(bytes)
        ))
        .hint("free some space, `comfy gc` for example, and run it again"));
    }
    let results: Vec<Result<(String, Listing)>> = request.items.par_iter().map(|i| export(&git, i, report)).collect();
    let mut out = Vec::new();
    for r in results {
        match r {
            Ok(l) => out.push(l),
            Err(p) => problems.push(p),
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(Problem::all(problems)) }
}

fn named(part: &str) -> impl Fn(Problem) -> Problem + '_ {
    move |p| p.prefixed(&format!("{part}: "))
}

/// Has everything of an item in the store; returns how many bytes its files will take.
fn fetch(git: &Git, item: &Item, report: &dyn Reporter) -> Result<u64> {
    let job = report.job(&item.part);
    let pin = &item.pin;
    let mut bytes = 0_u64;
    let mut listings = BTreeMap::new();
    let trees = std::iter::once(("", &pin.repo, pin.git_ref.as_str(), &pin.commit, &pin.tree))
        .chain(pin.submodules.iter().map(|s| (s.path.as_str(), &s.repo, "HEAD", &s.commit, &s.tree)));
    for (path, repo, git_ref, commit, tree) in trees {
        let folder = git.ensure(repo, git_ref, commit, Depth::Whole, job.as_ref()).map_err(named(&item.part))?;
        let is = read::tree_of(&folder, commit).map_err(named(&item.part))?;
        if is != *tree {
            return Err(Problem::new(format!("{}: commit {commit} has tree {is}, and comfy.lock says {tree}", item.part))
                .hint("comfy.lock was edited by hand: restore it from git, or delete it and run `comfy lock`"));
        }
        let listing = read::snapshot(&folder, commit).map_err(named(&item.part))?.listing;
        bytes = listing.0.values().fold(bytes, |sum, e| sum.saturating_add(e.size));
        listings.insert(path, listing);
    }
    submodules(pin, &listings).map_err(named(&item.part))?;
    Ok(bytes)
}

/// What comfy.lock says of submodules is believed only where the trees say the same: a path is a place to write to.
fn submodules(pin: &Pin, listings: &BTreeMap<&str, Listing>) -> Result<()> {
    let commits = |(prefix, l): (&&str, &Listing)| -> Vec<(String, Oid)> {
        l.0.iter().filter(|(_, e)| e.mode == crate::tree::Mode::Commit).map(|(p, e)| (join(prefix, p), e.oid)).collect()
    };
    let trees: BTreeMap<String, Oid> = listings.iter().flat_map(commits).collect();
    let lock: BTreeMap<String, Oid> = pin.submodules.iter().map(|s| (s.path.clone(), s.commit)).collect();
    match trees.iter().find(|(p, c)| lock.get(*p) != Some(*c)).or_else(|| lock.iter().find(|(p, _)| !trees.contains_key(*p))) {
        None => Ok(()),
        Some((path, _)) => Err(Problem::new(format!("submodule `{}` in comfy.lock is not what the tree says", crate::text::escape(path)))
            .hint("comfy.lock was edited by hand, or lacks a submodule: restore it from git, or `comfy update` this node; nothing was installed")),
    }
}

fn export(git: &Git, item: &Item, report: &dyn Reporter) -> Result<(String, Listing)> {
    let job = report.job(&item.part);
    job.at(0, 1);
    let pin = &item.pin;
    std::fs::create_dir(&item.target).doing(|| format!("make {}", item.target.display()))?;
    let target = crate::host::fs::open_dir(&item.target).doing(|| format!("open {}", item.target.display()))?;
    let one = |repo: &str, commit: &Oid, prefix: &str, whole: &mut Listing| -> Result<()> {
        let folder = git.folder(repo, Depth::Whole);
        let skip = |path: &str, e: &Entry| item.have.get(&join(prefix, path)).is_some_and(|h| h.oid == e.oid && h.mode == e.mode);
        let listing = read::export(&folder, commit, &target, prefix, &skip).map_err(named(&item.part))?;
        whole.0.extend(listing.0.into_iter().filter(|(_, e)| e.mode != crate::tree::Mode::Commit).map(|(p, e)| (join(prefix, &p), e)));
        Ok(())
    };
    let mut whole = Listing::default();
    one(&pin.repo, &pin.commit, "", &mut whole)?;
    for s in &pin.submodules {
        one(&s.repo, &s.commit, &s.path, &mut whole)?;
    }
    job.at(1, 1);
    Ok((item.part.clone(), whole))
}

fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() { path.to_string() } else { format!("{prefix}/{path}") }
}

/// uv, an interpreter, trees, wheels, their bytecode, that of trees, models.
const MOST: usize = 7;

/// Build processes that wait, one for each piece of work of an apply.
pub struct Workers(Vec<Worker>);

impl Workers {
    /// Forks them. Must be called while the process has a single thread.
    ///
    /// # Errors
    /// No more processes or descriptors.
    pub fn start() -> Result<Workers> {
        let mut all = Vec::new();
        for _ in 0..MOST {
            let next = Worker::start(&mut all)?;
            all.push(next);
        }
        Ok(Workers(all))
    }

    /// Has the work done under `uid`; afterwards no process of that uid is left.
    ///
    /// # Errors
    /// What the worker says, or that it died.
    pub fn perform(&mut self, uid: u32, work: &Work, report: &dyn Reporter) -> Result<serde_json::Value> {
        self.0.pop().ok_or_else(|| Problem::new("no build process is left"))?.perform(uid, work, report)
    }
}

/// One worker as the root side holds it.
struct Worker {
    pid: Pid,
    socket: Option<UnixStream>,
}

impl Worker {
    /// `earlier` ones' sockets are nothing for the new process: it would keep them open.
    fn start(earlier: &mut [Worker]) -> Result<Worker> {
        let (ours, theirs) = UnixStream::pair().doing(|| "make a socket pair".into())?;
        // SAFETY: no other thread exists yet, so no lock of the allocator or of std can be held in the child.
        match unsafe { fork() }.doing(|| "start the build process".into())? {
            ForkResult::Parent { child } => Ok(Worker { pid: child, socket: Some(ours) }),
            ForkResult::Child => {
                drop(ours);
                earlier.iter_mut().for_each(|w| drop(w.socket.take()));
                let code = i32::from(serve(theirs).is_err());
                std::process::exit(code);
            }
        }
    }

    fn perform(mut self, uid: u32, work: &Work, report: &dyn Reporter) -> Result<serde_json::Value> {
        let socket = self.socket.take().ok_or_else(|| Problem::new("the build process has been used already"))?;
        // What a killed apply may have left; ours is not of that uid yet.
        end_all(uid)?;
        let result = self.converse(socket, uid, work, report);
        end_all(uid)?;
        let _ = nix::sys::wait::waitpid(self.pid, None);
        result
    }

    fn converse(&self, socket: UnixStream, uid: u32, work: &Work, report: &dyn Reporter) -> Result<serde_json::Value> {
        let mut out = socket.try_clone().doing(|| "talk to the build process".into())?;
        let text = serde_json::to_string(work).doing(|| "talk to the build process".into())?;
        writeln!(out, "{uid}\n{text}").doing(|| "talk to the build process".into())?;
        let mut jobs: BTreeMap<String, Box<dyn Progress>> = BTreeMap::new();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).doing(|| "talk to the build process".into())?;
        let mut reader = BufReader::new(socket);
        let mut line = Vec::new();
        loop {
            // Bytes: a timeout may fall into the middle of a character.
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return Err(Problem::new("the build process died").hint("is there enough memory? the kernel's log may tell")),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if crate::host::signals::interrupted() {
                        return Err(Problem::interrupted());
                    }
                    continue;
                }
                Err(e) => return Err(Problem::new(format!("the build process: {e}"))),
            }
            match serde_json::from_slice(&line).doing(|| "understand the build process".into())? {
                Message::Progress { job, unit, at, total } => jobs.entry(job.clone()).or_insert_with(|| report.work(&job, unit)).at(at, total),
                Message::Done(value) => return Ok(value),
                Message::Failed(p) => return Err(p),
            }
            line.clear();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.socket.take().is_some() {
            // Never used: it reads the end of the socket and exits.
            let _ = nix::sys::wait::waitpid(self.pid, None);
        }
    }
}

/// Ends every process of the build uid, from within it, as kill(2) with -1 does; then none has a file open.
fn end_all(uid: u32) -> Result<()> {
    // SAFETY: the child calls only setgid, setuid, kill and _exit, which are safe after fork (signal-safety(7)).
    match unsafe { fork() }.doing(|| "end the build processes".into())? {
        // SAFETY: plain calls on plain numbers; the child ends here.
        ForkResult::Child => unsafe {
            if nix::libc::setgid(uid) == 0 && nix::libc::setuid(uid) == 0 {
                nix::libc::kill(-1, nix::libc::SIGKILL);
            }
            nix::libc::_exit(0)
        },
        ForkResult::Parent { child } => {
            // It may have killed itself with the others.
            let _ = nix::sys::wait::waitpid(child, None);
        }
    }
    still_running(uid)
}

/// Refuses to seal while a process of the build uid lives: it could have a file open.
fn still_running(uid: u32) -> Result<()> {
    // proc_pid_status(5): the owner of /proc/PID does not tell, it is root for a process that changed its uid.
    let wanted = uid.to_string();
    let lives = |status: &str| {
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("");
        field("Uid:").split_whitespace().any(|u| u == wanted) && !field("State:").trim_start().starts_with('Z')
    };
    let ps = || {
        // Where there is no /proc: ps(1) of macOS. What it cannot say counts as alive.
        use crate::host::process::{Run, System};
        System
            .run(&["/bin/ps", "-axo", "uid=,state="])
            .map_or(true, |o| o.status != 0 || o.stdout.lines().any(|l| l.split_whitespace().next() == Some(&wanted) && !l.contains('Z')))
    };
    let alive =
        || std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|e| std::fs::read_to_string(e.path().join("status")).is_ok_and(|s| lives(&s)));
    let proc = std::path::Path::new("/proc/self/status").exists();
    for _ in 0..100 {
        if !(if proc { alive() } else { ps() }) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Problem::new(format!("a process of the build uid {uid} does not end, so nothing that it wrote can be trusted"))
        .hint(format!("end it: sudo pkill -9 -U {uid}")))
}

struct Wire(Mutex<UnixStream>);

impl Wire {
    fn send(&self, m: &Message) {
        if let (Ok(text), Ok(mut s)) = (serde_json::to_string(m), self.0.lock()) {
            // Without a listener there is nobody to tell.
            let _ = writeln!(s, "{text}");
        }
    }
}

struct WireJob {
    wire: std::sync::Arc<Wire>,
    job: String,
    unit: Unit,
    last: Mutex<(u64, std::time::Instant)>,
}

impl Progress for WireJob {
    fn at(&self, at: u64, total: u64) {
        let Ok(mut last) = self.last.lock() else { return };
        if at != total && last.1.elapsed().as_millis() < 50 {
            return;
        }
        *last = (at, std::time::Instant::now());
        self.wire.send(&Message::Progress { job: self.job.clone(), unit: self.unit, at, total });
    }
}

struct WireReporter(std::sync::Arc<Wire>);

impl Reporter for WireReporter {
    fn work(&self, name: &str, unit: Unit) -> Box<dyn Progress> {
        let started = std::time::Instant::now();
        Box::new(WireJob { wire: self.0.clone(), job: name.into(), unit, last: Mutex::new((0, started)) })
    }
    fn say(&self, _: &str) {}
}

/// The worker's side: becomes the uid it is told, does the one request, answers.
fn serve(socket: UnixStream) -> Result<()> {
    let mut reader = BufReader::new(socket.try_clone().doing(|| "clone the socket".into())?);
    let mut line = String::new();
    if reader.read_line(&mut line).doing(|| "read".into())? == 0 {
        return Ok(());
    }
    let uid: u32 = line.trim().parse().doing(|| "read the uid".into())?;
    // Its own group, so that the terminal's Ctrl-C reaches the root side alone, which then ends it.
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    drop_to(uid)?;
    let wire = std::sync::Arc::new(Wire(Mutex::new(socket)));
    line.clear();
    reader.read_line(&mut line).doing(|| "read".into())?;
    let work: Work = serde_json::from_str(&line).doing(|| "read the request".into())?;
    let message = match work.run(&WireReporter(wire.clone())) {
        Ok(value) => Message::Done(value),
        Err(p) => Message::Failed(p),
    };
    wire.send(&message);
    Ok(())
}

fn drop_to(uid: u32) -> Result<()> {
    let (u, g) = (Uid::from_raw(uid), Gid::from_raw(uid));
    if uid == 0 {
        return Err(Problem::new("the build process must not be root"));
    }
    // SAFETY: an empty list; nix leaves setgroups(2) out on Apple.
    nix::errno::Errno::result(unsafe { nix::libc::setgroups(0, std::ptr::null()) }).doing(|| "drop groups".into())?;
    setgid(g).doing(|| "drop the group".into())?;
    setuid(u).doing(|| "drop root".into())?;
    if setuid(Uid::from_raw(0)).is_ok() || nix::unistd::getegid() != g {
        return Err(Problem::new("the build process could become root again"));
    }
    std::env::set_current_dir(Path::new("/")).doing(|| "go to /".into())
}
