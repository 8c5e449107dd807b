//! The input and output of a launch besides its answers: commands, a terminal, the log.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;

use super::processes::OutputTarget;
use super::{KILL, STOP, ShellInput};
use crate::desired::launch::LaunchSpec;
use crate::host::roles::{Role, spawn};
use crate::host::{lines, terminal};
use crate::problem::{Context, Result};

/// Creates the owner's folder among the records.
///
/// # Errors
/// The disk.
pub(super) fn make_logs_dir(spec: &LaunchSpec, owner_gid: u32) -> Result<()> {
    let logs = spec.paths.logs_dir();
    crate::host::fs::edit::make_dir(&logs, spec.owner, owner_gid, 0o700)
        .with_context(|| format!("make {}", logs.display()))
}

/// Starts the log writer, and returns the pipe that it reads.
///
/// # Errors
/// It cannot be started.
pub(super) fn start_log_writer(
    spec: &LaunchSpec,
    owner_gid: u32,
    nodes: Vec<String>,
    context: super::import_log::LogContext,
) -> Result<(Child, OutputTarget)> {
    let (reader, writer) = spawn::report_pipe()?;
    make_logs_dir(spec, owner_gid)?;
    let mut c = spawn::role_command(Role::LogWriter)?;
    c.stdout(Stdio::null()).stderr(Stdio::null());
    spawn::inherit_fds(&mut c, &[&reader]);
    let account = spec.account.then_some((spec.owner, owner_gid));
    let config = super::log_writer::LogConfig {
        account,
        paths: spec.paths.clone(),
        input: reader.as_raw_fd(),
        address: spec.listen_address(),
        nodes,
        context,
    };
    let mut child = c.spawn().context("start the log writer")?;
    spawn::send_config(&mut child, &config)?;
    drop(child.stdin.take());
    Ok((child, OutputTarget::Pipe(writer)))
}

/// Relays typed input to the terminal `master`, and output from it to stdout, until the last
/// program in it has exited. If stdin is closed or has a line that is too long, the shell ends.
///
/// # Errors
/// The system's own.
pub(super) fn relay_terminal(
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
        // EIO: no process has the other side open any more.
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

/// Passes on commands from stdin; its end counts as one more, and so does a line that is too long.
pub(super) fn pass_on_stdin(tell: Sender<String>) {
    std::thread::spawn(move || {
        while let Ok(Some(line)) = lines::next_line(&mut std::io::stdin().lock(), lines::WORD) {
            if (line == STOP || line == KILL) && tell.send(line).is_err() {
                return;
            }
        }
        let _ = tell.send(STOP.into());
    });
}
