//! The beginning of every role: what it is asked, its descriptors, its end with its parent, and
//! where its failure is told.

use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};
use serde::de::DeserializeOwned;

use super::spawn::ReadyReport;
use super::wire;
use crate::host::lines;
use crate::problem::{Context, Problem, Result};

/// What a role is asked, as the first line of its stdin.
pub(crate) trait RoleConfig: DeserializeOwned {
    /// What that line holds, as in "could not read ...".
    const WHAT: &'static str;
    /// The longest line, in bytes. Whoever may start a role for the owner may not fill root's
    /// memory.
    const LONGEST: u64 = u64::MAX;

    /// The pipe that takes the role's failure; without one stderr does.
    fn report(&self) -> Option<RawFd> {
        None
    }
}

/// Where a role tells its failure.
pub(crate) enum Report {
    /// A pipe of the process that started it, which reads a [`Problem`].
    Pipe(OwnedFd),
    Stderr,
    /// Somebody else tells it.
    Closed,
}

impl Report {
    /// Says through the pipe that nothing but the last step is left, and what this system lacks for
    /// it.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub(crate) fn ready(&self, lacking: &[String]) -> Result<()> {
        let what = || "say that it is ready".to_string();
        if let Report::Pipe(fd) = self {
            let ready = ReadyReport {
                pid: nix::unistd::getpid().as_raw(),
                lacking: lacking.into(),
            };
            let line = serde_json::to_string(&ready).with_context(what)? + "\n";
            nix::unistd::write(fd, line.as_bytes()).with_context(what)?;
        }
        Ok(())
    }

    /// Closes the pipe, which tells the other side that all is well. What fails later goes to
    /// stderr.
    pub(crate) fn succeed(&mut self) {
        *self = Report::Stderr;
    }

    /// Closes the pipe in a process that leaves the telling to another one.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux splits a role in two")
    )]
    pub(crate) fn leave(&mut self) {
        *self = Report::Closed;
    }

    fn fail(self, p: &Problem, tell: fn(&Problem)) {
        match self {
            Report::Pipe(fd) => {
                let text = serde_json::to_string(p).unwrap_or_default();
                // Nobody reads it any more: then nobody wants to know.
                let _ = std::fs::File::from(fd).write_all(text.as_bytes());
            }
            Report::Stderr => tell(p),
            Report::Closed => {}
        }
    }
}

/// Reads what this process is asked from stdin.
///
/// # Errors
/// There is no such line.
pub(crate) fn read_config<C: RoleConfig>() -> Result<C> {
    let line = lines::next_line(&mut std::io::stdin().lock(), C::LONGEST)
        .with_context(|| format!("read {}", C::WHAT))?;
    serde_json::from_str(&line.unwrap_or_default())
        .with_context(|| format!("understand {}", C::WHAT))
}

/// Plays a role: reads what it is asked, does it, and tells where it failed. Must be called while
/// there is one thread.
///
/// `tell` prints a failure that no pipe takes.
pub(crate) fn serve<C: RoleConfig>(
    tell: fn(&Problem),
    role: impl FnOnce(C, &mut Report) -> Result<u8>,
) -> ExitCode {
    let mut report = Report::Stderr;
    let asked = read_config::<C>().and_then(|config| {
        if let Some(number) = config.report() {
            report = Report::Pipe(adopt_fd(number)?);
        }
        Ok(config)
    });
    match asked.and_then(|config| role(config, &mut report)) {
        Ok(code) => ExitCode::from(code),
        Err(p) => {
            let exit = p.exit();
            report.fail(&p, tell);
            ExitCode::from(exit)
        }
    }
}

/// Plays a role whose answers are lines of JSON on stdout: a failure is one more of them, made by
/// `failed`, and gives the exit code.
pub(crate) fn answer<M: serde::Serialize>(
    role: impl FnOnce() -> Result<u8>,
    failed: impl FnOnce(Problem) -> M,
) -> ExitCode {
    ExitCode::from(role().unwrap_or_else(|p| {
        let exit = p.exit();
        wire::print_line(&failed(p));
        exit
    }))
}

/// Takes over a descriptor that the process above handed down. From here on no program that is
/// executed keeps it.
///
/// # Errors
/// No descriptor has that number.
pub(crate) fn adopt_fd(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl(2) says whether it is open; the number came from the process above, and nobody
    // else here uses it.
    unsafe {
        Errno::result(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))
            .with_context(|| format!("take descriptor {number} over"))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Keeps every descriptor beyond the first three from the program that is executed, wherever it
/// came from.
///
/// # Errors
/// /dev/fd cannot be listed.
pub(crate) fn cloexec_from_3() -> Result<()> {
    for n in descriptors_from_3()? {
        // SAFETY: a number; one that is closed by now is an error that does not matter.
        unsafe { libc::fcntl(n, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn descriptors_from_3() -> Result<Vec<RawFd>> {
    let all = std::fs::read_dir("/dev/fd").context("list the open descriptors")?;
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<RawFd>().ok();
    let numbers = all.flatten().filter_map(|e| number(e.file_name()));
    Ok(numbers.filter(|n| *n > 2).collect())
}

/// Goes on in a second process until stdin ends, as it does with the launcher, and then kills this
/// one with its whole group: macOS ends no process with its parent. The second process has a session
/// of its own, no output and no other descriptor, and whoever is confined later cannot signal it.
///
/// # Errors
/// The system's own.
pub(crate) fn end_with_stdin() -> Result<()> {
    let what = || "watch the launcher".to_string();
    let group = nix::unistd::getpgrp();
    if fork_process()?.is_some() {
        return Ok(());
    }
    let watch = || -> Result<()> {
        nix::unistd::setsid().with_context(what)?;
        for n in descriptors_from_3()? {
            // SAFETY: nothing in this process uses it again: it ends below without destructors.
            unsafe { libc::close(n) };
        }
        let null = std::fs::File::options()
            .write(true)
            .open("/dev/null")
            .with_context(what)?;
        nix::unistd::dup2_stdout(&null).with_context(what)?;
        nix::unistd::dup2_stderr(&null).with_context(what)?;
        while nix::unistd::read(std::io::stdin(), &mut [0; 64]).is_ok_and(|n| n > 0) {}
        Ok(())
    };
    // If it cannot watch, nothing may run unwatched.
    let _ = watch();
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    // SAFETY: ends this process, without anything of the other one's.
    unsafe { libc::_exit(0) }
}

/// Ends this process when the one above ends (prctl(2)); `parent` is that one, which may have ended
/// before, and 0 asks for no such look. Elsewhere than on Linux a process notices by its stdin. A
/// change of identity undoes it.
///
/// # Errors
/// The parent has ended.
pub(crate) fn die_with_parent(parent: i32) -> Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain call.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })
        .context("end with the launcher")?;
    if parent != 0 && nix::unistd::getppid().as_raw() != parent {
        return Err(Problem::new("the launcher has exited"));
    }
    Ok(())
}

/// Splits this process in two; `None` in the new one.
///
/// # Errors
/// The system's own.
pub(crate) fn fork_process() -> Result<Option<Pid>> {
    // SAFETY: the callers have one thread.
    match unsafe { nix::unistd::fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
