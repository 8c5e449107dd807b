//! The process that parses: it gives up every right, then takes files by their descriptors and
//! answers with what it found, until its socket ends.

use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::workers;
use crate::confine::{AllowedPorts, Confinement};
use crate::host::roles::credentials;
use crate::host::roles::serve::{self, RoleConfig};
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::EntryFacts;
use crate::scan::finding::Finding;
use crate::scan::unit::FileFindings;

/// Bytes of the stack: syntax trees are walked by recursion.
const STACK: usize = 512 << 20;
/// Bytes of memory, the stacks of all threads among them: what does not fit there is parsed again
/// by one thread.
const MEMORY: u64 = 6 << 30;

/// What the process is asked, as the first line of stdin.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct ParserConfig {
    /// The socket over which files come.
    pub socket: RawFd,
    /// The process that started it.
    pub parent: i32,
    /// How many threads parse.
    pub threads: usize,
}

impl RoleConfig for ParserConfig {
    const WHAT: &'static str = "what to parse";
}

/// What is sent with a file's descriptor.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) enum ParserRequest {
    File {
        facts: EntryFacts,
        start: u64,
        size: u64,
    },
    /// No more files come.
    End,
}

/// What it answers.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) enum ParserMessage {
    /// It begins with a file.
    Begin(String),
    /// It is done with a file by itself.
    File(String, FileFindings),
    /// It follows data through all of them together, and reads the code of this one next.
    Follow(String),
    /// It has followed all data.
    Followed,
    /// It is done with all of them together.
    Unit(Vec<Finding>),
    Failed(Problem),
}

/// Parses until the socket ends. Must be called while there is one thread.
pub(crate) fn serve_parser() -> ExitCode {
    serve::answer(
        || enter_parser(&serve::read_config()?),
        ParserMessage::Failed,
    )
}

fn enter_parser(config: &ParserConfig) -> Result<u8> {
    // The terminal's Ctrl-C is the other side's.
    nix::unistd::setsid().context("begin a session")?;
    serve::cloexec_from_3()?;
    serve::die_with_parent(config.parent)?;
    let socket = UnixStream::from(serve::adopt_fd(config.socket)?);
    set_limits()?;
    keep_freed_memory();
    drop_rights()?;
    // The other threads do not go on after one that panics.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let threads = config.threads;
    let parsing = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || workers::parse_all(socket, STACK, threads))
        .context("start a thread")?;
    match parsing.join() {
        Ok(result) => result.map(|()| 0),
        // The other side sees how it ended.
        Err(_) => std::process::abort(),
    }
}

fn set_limits() -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    let what = || "set limits".to_string();
    setrlimit(Resource::RLIMIT_CORE, 0, 0).with_context(what)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0).with_context(what)?;
    // macOS takes the value and does not enforce it.
    #[cfg(target_os = "linux")]
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).with_context(what)?;
    #[cfg(not(target_os = "linux"))]
    let _ = MEMORY;
    Ok(())
}

/// Has the allocator keep what is freed (mallopt(3)): the process ends soon, and pages that go back
/// to the system come again one by one, empty.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (nix::libc::M_TRIM_THRESHOLD, i32::MAX),
        (nix::libc::M_TOP_PAD, 1 << 20),
        (nix::libc::M_MMAP_THRESHOLD, 32 << 20),
    ] {
        // SAFETY: numbers alone; one that is refused changes nothing.
        unsafe { nix::libc::mallopt(parameter, value) };
    }
}

/// Gives up the account where it is root's, files, network and programs.
fn drop_rights() -> Result<()> {
    credentials::become_nobody()?;
    credentials::set_no_new_privs()?;
    credentials::set_not_dumpable();
    // No path and no port is named: none may be opened.
    let nothing = Confinement {
        ports: Some(AllowedPorts::default()),
        ..Confinement::default()
    };
    #[cfg(target_os = "linux")]
    {
        use crate::host::confine::{landlock_rules, seccomp_filter};
        if landlock_rules::landlock_abi() < 1 && !seccomp_filter::is_available() {
            return Err(Problem::new(
                "this kernel has neither Landlock nor seccomp, so the parser cannot be confined",
            ));
        }
        if landlock_rules::landlock_abi() >= 1 {
            landlock_rules::apply_rules(&nothing, &std::collections::BTreeMap::new())?;
        }
        if seccomp_filter::is_available() {
            seccomp_filter::apply_for_parser()?;
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        use crate::confine::seatbelt::SeatbeltProfile;
        use crate::host::confine::sandbox_init;
        let profile = SeatbeltProfile::for_parser(&nothing);
        sandbox_init::apply_if_possible(&profile, false)?;
    }
    Ok(())
}
