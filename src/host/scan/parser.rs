//! The process that parses: it gives up every right, then takes files by their descriptors and
//! answers with what it found, until its socket ends.

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::descriptors;
use crate::confine::{AllowedPorts, Confinement};
use crate::host::roles::serve::{self, RoleConfig};
use crate::host::roles::{credentials, wire};
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::EntryFacts;
use crate::scan::content::ReadAt;
use crate::scan::finding::Finding;
use crate::scan::unit::{FileFindings, UnitScan};

/// Bytes of the stack: syntax trees are walked by recursion.
const STACK: usize = 512 << 20;
/// Bytes of memory, the stack among them.
const MEMORY: u64 = 6 << 30;

/// What the process is asked, as the first line of stdin.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct ParserConfig {
    /// The socket over which files come.
    pub socket: RawFd,
    /// The process that started it.
    pub parent: i32,
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
    /// It is done with all of them together.
    Unit(Vec<Finding>),
    Failed(Problem),
}

/// Bytes of a file, from `start` on.
struct FileRange {
    file: File,
    start: u64,
    size: u64,
}

impl ReadAt for FileRange {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        self.file
            .read_at(&mut buffer[..wanted], self.start + offset)
    }
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
    drop_rights()?;
    let parsing = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || parse_all(socket))
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

fn parse_all(mut socket: UnixStream) -> Result<()> {
    let mut unit = UnitScan::default();
    let mut begin = |path: &str| wire::print_line(&ParserMessage::Begin(path.to_string()));
    while let Some((message, fd)) = descriptors::receive(&mut socket).context("receive a file")? {
        let request = serde_json::from_slice(&message).context("understand what to parse")?;
        match request {
            ParserRequest::End => break,
            ParserRequest::File { facts, start, size } => {
                begin(&facts.path);
                let fd: OwnedFd =
                    fd.ok_or_else(|| Problem::new("a file came without its bytes"))?;
                let range = FileRange {
                    file: File::from(fd),
                    start,
                    size,
                };
                #[cfg(feature = "faults")]
                if let Some(told) = probed(&range)? {
                    let rule = &crate::scan::carrier::rules::CRASH;
                    let finding = Finding::about_file(rule, &facts.path, told);
                    let found = FileFindings {
                        findings: vec![finding],
                        ..FileFindings::default()
                    };
                    wire::print_line(&ParserMessage::File(facts.path, found));
                    continue;
                }
                let found = unit
                    .add_file(&facts, &range)
                    .with_context(|| format!("read {}", crate::text::escape_text(&facts.path)))?;
                wire::print_line(&ParserMessage::File(facts.path, found));
            }
        }
    }
    let found = unit.finish(&mut begin);
    wire::print_line(&ParserMessage::Unit(found));
    Ok(())
}

/// What the tests have a parser do.
#[cfg(feature = "faults")]
fn probed(range: &FileRange) -> Result<Option<String>> {
    let head = crate::scan::content::read_start(range, 64).context("read a file")?;
    Ok(crate::host::faults::parser_fault(&head))
}
